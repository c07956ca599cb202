"""The commands `shuttle data push|pull|fetch` and `shuttle models push|pull|mean`; thin, over `apps.hub`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shuttlelib.cli_data import Folder, counted, data_app
from shuttlelib.errors import UsageError

if TYPE_CHECKING:
    from shuttlelib.apps.hub.transfer import Moved

models_app = typer.Typer(
    help="Share weights on the Hugging Face Hub; take the mean of two.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
LICENCE = "Identifier that the Hub knows: cc-by-4.0, cc-by-nc-4.0, mit, other, … Asked for if left out."
Repo = Annotated[str, typer.Argument(help="Repository on the Hub, owner/name.")]
Licence = Annotated[str | None, typer.Option("--licence", "--license", help=LICENCE)]
Private = Annotated[bool, typer.Option("--private", help="Make a private repository.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit hash; the newest if left out.")]


@data_app.command("push")
def push_data(
    repo: Repo,
    data: Annotated[Path, typer.Option(**Folder, help="data folder")],
    licence: Licence = None,
    private: Private = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite what others changed there since the last pull.")
    ] = False,
) -> None:
    """Put a data folder on the Hugging Face Hub, with a card; again to send what changed.

    Log in with `hf auth login` or HF_TOKEN.

    Example: shuttle data push me/rallies --data data/clean --licence cc-by-4.0 --private
    """
    licence = licence or _ask_licence()
    from shuttlelib.apps.hub import data as hub

    _say(hub.push(repo, data, licence, private, replace), "pushed", "datasets/")


@data_app.command("pull")
def pull_data(
    repo: Repo,
    out: Annotated[Path, typer.Option(help="data folder to write")],
    revision: Revision = None,
) -> None:
    """Bring a data set from the Hub into a data folder, verified; runs on it record the commit.

    Example: shuttle data pull me/rallies --out data/rallies --revision 4f2a9c1…
    """
    from shuttlelib.apps.hub import data as hub

    _say(hub.pull(repo, out, revision), "pulled", "datasets/")


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str | None, typer.Argument(help="a public set; lists them if left out")] = None,
    out: Annotated[Path | None, typer.Option(help="data folder to write; data/NAME if left out")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="I have read the licence.")] = False,
    source: Annotated[Path | None, typer.Option(**Folder, help="a copy that is already here")] = None,
    revision: Revision = None,
) -> None:
    """Fetch a public data set by name; its licence is shown first.

    Example: shuttle data fetch tracknetv3 --out data/tracknetv3 --yes
    """
    from shuttlelib.apps.hub import public

    if name is None:
        typer.echo("\n\n".join(public.notice(known) for known in public.SETS))
        return
    typer.echo(public.notice(name))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing fetched: read the licence above, then give --yes")
        typer.confirm("Fetch it under these terms?", abort=True)
    out = out or Path("data", name)
    imported = public.fetch(name, out, source, revision)
    rows = sum(len(clip.table) for clip in imported)
    folder = shlex.quote(str(out))
    following = f"shuttle data clean {folder} --out {folder}"
    what = f"{counted(len(imported), 'clip')} with {counted(rows, 'labelled frame')}"
    typer.echo(f"{what} in {out}; next: {following}")


@models_app.command("push")
def push_models(
    repo: Repo,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            **Folder, help="Model folder, like runs/stage2/best; again for more; the shipped pair if none."
        ),
    ] = None,
    licence: Licence = None,
    private: Private = False,
) -> None:
    """Put weights on the Hugging Face Hub: safetensors, and a card made from their metrics.

    Example: shuttle models push me/shuttle --model runs/stage2/best --licence mit
    """
    licence = licence or _ask_licence()
    from shuttlelib.apps.hub import weights

    _say(weights.push(repo, model or [], licence, private), "pushed", "")


@models_app.command("mean")
def mean_models(
    first: Annotated[Path, typer.Argument(**Folder, help="Model folder, like models/stage2_v11.")],
    second: Annotated[Path, typer.Argument(**Folder, help="What fine-tuning made of it: runs/more/best.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the second in the mean.")] = 0.3,
) -> None:
    """Take the mean of a network's weights and of those that fine-tuning made of it.

    Example: shuttle models mean models/stage2_v11 runs/more/best --share 0.3 --out runs/mean
    """
    from shuttlelib import networks

    if out.resolve() in (first.resolve(), second.resolve()):
        raise UsageError(f"--out {out}: is one of the two; give another folder")
    networks.mean(first, second, share, out)
    print(f"{out}: {1 - share:.2f} of {first}, {share:.2f} of {second}")


@models_app.command("pull")
def pull_models(
    repo: Repo,
    out: Annotated[Path, typer.Option(help="Folder of models to write, for `shuttle track --models`.")],
    revision: Revision = None,
) -> None:
    """Bring weights from the Hub, verified by SHA-256 and loaded once.

    Example: shuttle models pull me/shuttle --out models/mine
    """
    from shuttlelib.apps.hub import weights

    _say(weights.pull(repo, out, revision), "pulled", "")


def _ask_licence() -> str | None:
    """Ask a person; None where nobody is there to answer, which the push refuses."""
    if not sys.stdin.isatty():
        return None
    return str(typer.prompt("Licence (cc-by-4.0, cc-by-nc-4.0, mit, other, …)"))


def _say(moved: "Moved", verb: str, prefix: str) -> None:
    """Print what went where, and the commit."""
    from shuttlelib.apps.hub import client, transfer

    where = f"{client.api().endpoint}/{prefix}{moved.repo}"
    if moved.files:
        size = transfer.megabytes(moved.size)
        typer.echo(f"{verb} {moved.files} files, {size}: {where} at commit {moved.revision}")
    else:
        typer.echo(f"nothing changed: {where} at commit {moved.revision}")
