"""The `shuttle` command: thin commands over the library, and errors turned into an exit status.

Every command imports what it needs when it runs: how fast `shuttle track` starts depends on it.
"""

import errno
import os
import re
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from shuttlelib import (
    cli_app,
    cli_bench,
    cli_export,
    cli_hub,
    cli_mine,
    cli_report,
    cli_reproduce,
    cli_track,
    cli_train,
)
from shuttlelib.cli_data import Folder, data_app, parse_size
from shuttlelib.cli_label import label_app
from shuttlelib.cli_track import complain
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import writing

_INTERRUPTED = 130  # what typer makes of Ctrl-C
_FIXES = {
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENAMETOOLONG: "give a shorter name",
}

app = typer.Typer(
    help="Find the badminton shuttle in video: data, training, tracking, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(label_app, name="label")
app.add_typer(cli_train.versions_app, name="versions")
app.add_typer(cli_hub.models_app, name="models")
app.command(epilog="Example: shuttle run --profile quick --out runs/first")(cli_train.run)
app.command(
    epilog="Example: shuttle train --version stage2_v11 --data data/rallies --data data/rendered --out s2"
)(cli_train.train)
app.command(
    epilog="Example: shuttle mine --model runs/s2/best --partner runs/s1/best --data data/rallies "
    "--out runs/hard"
)(cli_mine.mine)
app.command(epilog="Example: shuttle export models/stage2_v11 --precision fp32,fp16 --engine 8.6,8.9,12.0")(
    cli_export.export
)
app.command(
    epilog="Example: shuttle publish --stage1 runs/s1/best --stage2 runs/s2/best --data data/rallies "
    "--out runs/ship --trained-on 'rallies, 1 h on an A4000'"
)(cli_train.publish)
app.command(epilog="Example: shuttle report --runs runs/mine --out local/report")(cli_report.report)
app.command(epilog="Example: shuttle track match.mp4 --out tracks --overlay")(cli_track.track)
app.command(epilog="Example: shuttle bench match.mp4 --backend onnx,openvino --out runs/bench")(
    cli_bench.bench
)
app.command(epilog="Example: shuttle app --max-upload-mb 500")(cli_app.app)
app.command(
    epilog="Example: shuttle reproduce --data data/rallies --data data/rendered --out runs/all --minutes 28"
)(cli_reproduce.reproduce)


@app.command(epilog="Example: shuttle evaluate --pred tracks --labels data/rallies --json metrics.json")
def evaluate(
    pred: Annotated[Path, typer.Option(**Folder, help="Folder of the tracker's CSV files.")],
    labels: Annotated[
        Path, typer.Option(**Folder, help="Folder of labels, any supported format, matched by stem.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all metrics to this file.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Frame size as WIDTHxHEIGHT; found if left out.")] = None,
) -> None:
    """Compare tracks with labels: accuracy, precision, recall, F1, pixel error."""
    size_hw = None if size is None else parse_size(size)
    from shuttlelib import evaluation, summary
    from shuttlelib.files import write_json

    result = evaluation.evaluate_folders(pred, labels, size_hw)
    if json_file is not None:
        write_json(json_file, result)
    print(summary.format_summary(result))


def main() -> None:
    """Run the command line; the process ends with 0 (worked), 2 (wrong usage) or 1 (anything else)."""
    if sys.stderr is None:  # closed by the shell's 2>&-
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (it stays open to the end)
    for name in ("write", "flush") if sys.stdout else ():  # their errors are to name the output
        setattr(sys.stdout, name, writing("standard output")(getattr(sys.stdout, name)))
    status = run(sys.argv[1:])
    try:
        print(end="", flush=True)
    except (OSError, ShuttleError):  # told by now; Python's own flush at the exit would tell it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command line; its exit status."""
    try:
        status = app(args=_at_home(arguments), prog_name="shuttle", standalone_mode=False) or 0
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if not status:  # else something was told already
            print(end="", flush=True)
        return status
    except ShuttleError as error:
        complain(f"error: {error}")
        return 2 if isinstance(error, UsageError) else 1
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # the parser takes the end of any file for a Ctrl-D
            return _unexpected(error.__cause__)
        complain("interrupted")
        return 1
    except BrokenPipeError:  # the reader of our output has left, as in `shuttle evaluate … | head`
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own usage errors
            return _usage(error)
        if isinstance(error, OSError) and error.errno in _FIXES and error.filename:
            complain(f"error: {error.filename}: {error.strerror}; {_FIXES[error.errno]}")
            return 1
        return _unexpected(error)


def _unexpected(error: BaseException) -> int:
    if os.environ.get("SHUTTLE_DEBUG"):
        traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    complain(f"error: internal, {what} (SHUTTLE_DEBUG=1 shows where; please report it)")
    return 1


def _at_home(arguments: list[str]) -> list[str]:
    """Spell out the ~ of paths, which shells leave as it is in quotes and in --out=~/tracks."""
    return [
        re.sub(r"^([\w-]+=)?~(?=[/\\]|$)", lambda found: (found[1] or "") + str(Path.home()), text)
        if "--password" not in (before, text.partition("=")[0])
        else text
        for before, text in pairwise(["", *arguments])
    ]


def _usage(error: Any) -> int:
    """Print the parser's complaint as one line (or the help it asks for)."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "shuttle"
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
    else:
        complain(f"error: {error.format_message()} (see {command} --help)")
    return 2
