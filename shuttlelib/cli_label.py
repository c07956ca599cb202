"""The `shuttle label` commands: serve, pull, status and effort; thin, over the add-on `apps.labeling`.

The add-on is imported when a command runs; nothing else of the core knows it.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shuttlelib.cli_data import Folder, Models, Seed
from shuttlelib.cli_track import Bar
from shuttlelib.errors import UsageError

if TYPE_CHECKING:
    from shuttlelib.apps.labeling.serve import Batch, Settings
    from shuttlelib.apps.labeling.work import Work

label_app = typer.Typer(
    help="Label footage with Label Studio: frames and pre-annotations out, labels back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

WorkFolder = Annotated[Path, typer.Option("--work", help="Folder of this labelling; made by `serve`.")]
ServerEnv = Annotated[
    Path | None,
    typer.Option(help="Environment of the server; Label Studio (1 GB) is installed there if missing."),
]


@label_app.command(epilog="Example: shuttle label serve match.mp4 --frames 100")
def serve(
    videos: Annotated[list[Path] | None, typer.Argument(help="Videos to pick frames of.")] = None,
    work: WorkFolder = Path("labeling"),
    frames: Annotated[int, typer.Option(min=1, help="Frames a video.")] = 60,
    unsure: Annotated[float, typer.Option(min=0, max=1, help="Share where the model is least sure.")] = 0.5,
    suspects: Annotated[
        Path | None,
        typer.Option(help="Labels in doubt (Parquet or CSV: clip, frame, x_px, y_px); needs --data."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(**Folder, help="Data folder; frames labelled there are not sent out again.")
    ] = None,
    url: Annotated[
        str,
        typer.Option(help="An existing server; its token in LABEL_STUDIO_API_KEY. Own server if left out."),
    ] = "",
    server_env: ServerEnv = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of the own server.")] = None,
    model: Annotated[bool, typer.Option(help="Pre-annotate with the model.")] = True,
    models: Models = None,
    suggest_from: Annotated[
        float, typer.Option(min=0, max=1, help="Least confidence of a point that is pre-annotated.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(**Seed, help="Of the draw of frames.")] = 0,
    lossless: Annotated[bool, typer.Option("--lossless", help="PNG instead of JPEG.")] = False,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    wait: Annotated[bool, typer.Option(help="Keep the own server up until Ctrl-C.")] = True,
) -> None:
    """Pick frames, put them on a label server with pre-annotations, open the page.

    Without videos and suspects, the server of an earlier call is started again.
    """
    from shuttlelib.apps.labeling import serve as serving
    from shuttlelib.apps.labeling import server
    from shuttlelib.apps.labeling import work as work_

    if suspects is not None and data is None:
        raise UsageError("--suspects needs --data: the data folder that the labels in doubt are in")
    labelling = work_.load(work, must_exist=not (videos or suspects))
    labelling = _at(labelling, url)
    if not labelling.url:
        server.find_program(work, server_env)  # before the minutes of tracking
    settings = serving.Settings(frames, unsure, seed, lossless, suggest_from=suggest_from)
    batches = _batches(labelling, videos or [], settings, models, model, data)
    if suspects is not None and data is not None:
        batches += serving.prepare_suspects(labelling, suspects, data, lossless)
    with server.connected(labelling, server_env, port) as client:
        labelling = serving.publish(client, labelling, batches, f"shuttle {work.resolve().name}")
        sent = sum(len(batch.why) for batch in batches)
        page = serving.address(client, labelling)
        print(f"{sent} frames of {len(batches)} clips are out in project {labelling.project}: {page}")
        _invite(work, labelling, page, browser, wait, client.stops_server)


@label_app.command(epilog="Example: shuttle label pull --data data/mine")
def pull(
    data: Annotated[Path, typer.Option(help="Data folder that the labels go to; made if missing.")],
    work: WorkFolder = Path("labeling"),
    drop_deleted: Annotated[
        bool, typer.Option("--drop-deleted", help="Remove labels that were deleted on the server.")
    ] = False,
    server_env: ServerEnv = None,
) -> None:
    """Bring the labels into a data folder; what they replace is kept in its history."""
    from shuttlelib.apps.labeling import pull as pulling
    from shuttlelib.apps.labeling import server
    from shuttlelib.apps.labeling import work as work_

    labelling = work_.load(work)
    with server.connected(labelling, server_env) as client:
        answers = pulling.read_answers(client, labelling)
    done = pulling.pull(labelling, answers, data, drop_deleted)
    counts = done.changes["action"].value_counts().to_dict()
    what = ", ".join(f"{count} {action}" for action, count in counts.items()) or "nothing new"
    labelled = len({(answer.clip, answer.frame) for answer in answers.found})
    print(f"{labelled} of {len(answers.tasks)} frames are labelled; {what} in {data}")
    for before, now in done.renamed.items():
        print(f"note: {before} is called {now} now (found by its video's hash)", file=sys.stderr)
    if done.gone:
        fate = (
            "are removed (the history has them)" if drop_deleted else "are kept; --drop-deleted removes them"
        )
        where = pulling.frames_by_clip(done.gone)
        print(f"note: labels deleted on the server {fate}: {where}", file=sys.stderr)
    for problem in done.problems:
        print(f"warning: {problem}", file=sys.stderr)
    if done.problems:
        raise typer.Exit(1)


@label_app.command(epilog="Example: shuttle label status")
def status(work: WorkFolder = Path("labeling"), server_env: ServerEnv = None) -> None:
    """Show progress a clip, pace an annotator, and how far annotators agree."""
    from shuttlelib.apps.labeling import agreement, server
    from shuttlelib.apps.labeling import pull as pulling
    from shuttlelib.apps.labeling import work as work_

    labelling = work_.load(work)
    with server.connected(labelling, server_env) as client:
        answers = pulling.read_answers(client, labelling)
    print(agreement.progress(answers).to_string())
    print(f"skipped: {answers.skipped}")
    if answers.found:
        print(agreement.pace(answers).round(1).to_string())
    print(agreement.describe(agreement.agreement(answers, labelling.clips)))


@label_app.command(epilog="Example: shuttle label effort data/rendered")
def effort(
    data: Annotated[
        Path, typer.Argument(**Folder, help="Data folder of known truth, best rendered rallies.")
    ],
    models: Models = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Points farther off are moved; px of a 1280x720 frame.")
    ] = 3.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
) -> None:
    """Count what labelling costs with and without the model's pre-annotations."""
    from shuttlelib import clips, tracking
    from shuttlelib.apps.labeling import effort as counting
    from shuttlelib.files import plain, write_json

    dataset = clips.load_dataset(data)
    for clip in dataset:
        clips.require_labelled(clip)
    result = counting.measure(dataset, tracking.load_networks(models_dir=models), tolerance)
    if json_file is not None:
        write_json(json_file, plain(result))
    print(counting.describe(result))


def _at(labelling: "Work", url: str) -> "Work":
    """The labelling at the wanted server; one that has a project stays where it is."""
    from dataclasses import replace

    wanted = url.rstrip("/")
    if labelling.project and wanted and wanted != labelling.url:
        raise UsageError(
            f"--url {url}: the labelling in {labelling.folder} is on {labelling.url or 'its own server'}; "
            "use another --work folder"
        )
    return replace(labelling, url=wanted or labelling.url)


def _batches(
    labelling: "Work",
    videos: list[Path],
    settings: "Settings",
    models: Path | None,
    model: bool,
    data: Path | None,
) -> "list[Batch]":
    from shuttlelib import outputs, sources, tracking
    from shuttlelib.apps.labeling import serve as serving

    outputs.check_stems([sources.video_file(video) for video in videos])
    networks = tracking.load_networks(models_dir=models) if model and videos else None
    batches = []
    for video in videos:
        with Bar(video.name) as bar:
            batches.append(serving.prepare_video(labelling, video, settings, networks, data, bar.update))
    return batches


def _invite(work: Path, labelling: "Work", page: str, browser: bool, wait: bool, started: bool) -> None:
    """Open the page, say how to log in, and keep an own server up that was `started` for it."""
    import signal
    import webbrowser

    if not labelling.url:
        print(f"log in with the e-mail and password in {work / 'server' / 'login.json'}")
    if browser:
        webbrowser.open(page)
    if labelling.url or not wait:
        return
    if not started:
        print("the server was running already; it stops with the command that started it")
        return
    print("Ctrl-C stops the server; `shuttle label serve` starts it again, labels are kept", flush=True)
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell starts what it puts aside without the first
        signal.signal(stop, signal.default_int_handler)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("stopping the server")
