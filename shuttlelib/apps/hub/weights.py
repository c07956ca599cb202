"""`shuttle models push` and `shuttle models pull`: weights to the Hub and back, as safetensors."""

import re
from collections.abc import Container, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub.errors import RepositoryNotFoundError

from shuttlelib import paths, runtime
from shuttlelib.apps.hub import card, client, transfer
from shuttlelib.apps.hub.client import HubError
from shuttlelib.apps.hub.transfer import Moved
from shuttlelib.errors import UsageError
from shuttlelib.files import read_json

NEEDED = ("model.safetensors", "version.json")  # never a pickle: nothing that is pulled is executed
FILES = (*NEEDED, "model.onnx", "model.fp16.onnx", "metrics.json", "README.md")
PAIR = "default.json"
_TOLD = (NEEDED[1], "metrics.json", "README.md")  # what a card is made of
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def push(repo: str, folders: Sequence[Path], licence: str | None, private: bool = False) -> Moved:
    """Put model folders into a repository, with a card made from the metrics of all that it then holds.

    A version of the same name is replaced (the repository's history keeps it): what the folder lacks goes,
    such as graphs and measures of the weights before. Other versions stay.

    Args:
        folders: model folders (a run's `best/`); the shipped pair if none.

    Raises:
        UsageError: no licence, or a folder without weights.
        HubError: not logged in, or refused.
    """
    licence = card.check_licence(licence)
    chosen = [Path(folder) for folder in folders] or list(runtime.default_pair())
    named = {_name(folder): folder for folder in chosen}
    if len(named) < len(chosen):
        raise UsageError("--model: two folders hold the same version; push one of them")
    client.require_token(repo)
    with TemporaryDirectory(prefix="shuttle-push-") as temp:
        stage = Path(temp, "stage")
        for name, folder in named.items():
            for file in FILES:
                if (folder / file).is_file():
                    transfer.link(folder / file, stage / name / file)
        if not folders:
            transfer.link(paths.MODELS / PAIR, stage / PAIR)
        told = [stage / name for name in named] + _others(repo, named, Path(temp, "others"))
        told.sort(key=lambda folder: folder.name)
        (stage / "README.md").write_text(card.model_card(repo, told, licence), encoding="utf-8")
        own = [f"{name}/{file}" for name in named for file in FILES]
        return transfer.upload(repo, "model", stage, own, private, replace=True)


def _others(repo: str, pushed: Container[str], out: Path) -> list[Path]:
    """Folders in `out` with what a card is made of, of the versions that stay in a repository."""
    with client.speaking(repo):
        try:
            commit = client.head(repo, "model")
        except RepositoryNotFoundError:  # it is made when something is sent
            return []
        tree = client.tree(repo, "model", commit)
    stay = {path: entry for path, entry in tree.items() if _ours(path) and path.split("/")[0] not in pushed}
    told = {path: entry for path, entry in stay.items() if path.endswith(_TOLD)}
    transfer.fetch(repo, "model", commit, told, out)
    return [(out / path).parent for path in told if path.endswith(NEEDED[1])]


def pull(repo: str, out: str | Path, revision: str | None = None) -> Moved:
    """Bring the model folders of a repository into a folder, verified by SHA-256, and load each once.

    Where weights change, graphs that were made here of the old ones go.

    Raises:
        HubError: not found, not ours, damaged on the way, or the folder holds another repository.
        ShuttleError: a version that this release cannot build.
    """
    from shuttlelib import networks

    out = Path(out)
    with client.speaking(repo):
        commit = client.head(repo, "model", revision)
        tree = client.tree(repo, "model", commit)
    wanted = {path: path for path in tree if _ours(path)}
    found = sorted({path.split("/")[0] for path in wanted if path != PAIR})
    if not found:
        raise HubError(
            f"{repo}@{commit[:12]}: holds no <version>/{NEEDED[0]}, so `shuttle models push` did not make it"
        )
    for name in found:
        for file in NEEDED:
            if f"{name}/{file}" not in tree:
                raise HubError(f"{repo}@{commit[:12]}: {name}/{file} is missing: push the weights again")
    stale = [
        graph
        for name in found
        if not client.same_file(out / name / NEEDED[0], tree[f"{name}/{NEEDED[0]}"])
        for graph in networks.graphs(out / name)
        if f"{name}/{graph.name}" not in wanted
    ]
    moved = transfer.download(repo, "model", commit, wanted, tree, out, stale)
    for name in found:
        networks.load(out / name)
    return moved


def _ours(path: str) -> bool:
    folder, _, file = path.rpartition("/")
    return path == PAIR or bool(_FOLDER.fullmatch(folder) and file in FILES)


def _name(folder: Path) -> str:
    """The version in a model folder, which names it in the repository."""
    for file in NEEDED:
        if not (folder / file).is_file():
            raise UsageError(f"--model {folder}: no {file} there; give a model folder, like runs/stage2/best")
    name = str(read_json(folder / "version.json").get("name", ""))
    if not _FOLDER.fullmatch(name):
        raise UsageError(f"{folder / 'version.json'}: name is {name!r}; give a plain name")
    return name
