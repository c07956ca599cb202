"""`shuttle data push` and `shuttle data pull`: a data folder to a repository of the Hub and back."""

from pathlib import Path
from tempfile import TemporaryDirectory

from shuttlelib import clips
from shuttlelib.apps.hub import card, client, layout, transfer
from shuttlelib.apps.hub.client import HubError
from shuttlelib.apps.hub.transfer import Moved
from shuttlelib.files import sha256


def push(
    repo: str, data_dir: str | Path, licence: str | None, private: bool = False, replace: bool = False
) -> Moved:
    """Make a repository hold a data folder, with a card; the commit is noted in the folder.

    Pushing again sends what changed, and nothing where nothing did; a cut push goes on where it stopped.

    Args:
        licence: identifier that the Hub knows.
        private: make it a private repository.
        replace: overwrite what others changed there since the last pull.

    Raises:
        UsageError: no licence.
        LabelError: the folder cannot be read.
        HubError: not logged in, refused, or others changed the same files there.
    """
    licence, data_dir = card.check_licence(licence), Path(data_dir)
    dataset = clips.load_dataset(data_dir, raw=True)
    record = transfer.read_record(data_dir)
    base = record["revision"] if record.get("repo") == repo else ""
    client.require_token(repo)
    with TemporaryDirectory(prefix="shuttle-push-") as folder:
        stage = Path(folder)
        used = layout.stage(dataset, data_dir, stage)
        (stage / "README.md").write_text(
            card.dataset_card(repo, dataset, data_dir, licence), encoding="utf-8"
        )
        moved = transfer.upload(repo, "dataset", stage, layout.OWN, private, replace, base)
        files = {path.relative_to(data_dir).as_posix(): sha256(path) for path in used}
    if (data_dir / "splits.csv").is_file():
        files["splits.csv"] = sha256(data_dir / "splits.csv")
    transfer.write_record(data_dir, repo, moved.revision, files)
    return moved


def pull(repo: str, out: str | Path, revision: str | None = None) -> Moved:
    """Bring a data set into a folder, every file verified, and note the commit there.

    Args:
        revision: branch, tag or commit hash; the newest if left out.

    Raises:
        HubError: not found, not ours, damaged on the way, the folder holds another repository, or labels were
            edited here since the last pull.
        WriteError: the disk is full or the folder may not be written.
    """
    out = Path(out)
    with client.speaking(repo):
        commit = client.head(repo, "dataset", revision)
        tree = client.tree(repo, "dataset", commit)
    wanted = layout.local_names(list(tree))
    tables = [name for name in wanted if name.endswith(".parquet")]
    if not tables:
        raise HubError(
            f"{repo}@{commit[:12]}: no labels/<split>/*.parquet there, so `shuttle data push` did not make "
            "it: download it and run `shuttle data import`"
        )
    stems = {Path(name).stem for name in wanted if not name.endswith((".parquet", ".csv"))}
    bare = [name for name in tables if Path(name).stem not in stems]
    if bare:
        raise HubError(f"{repo}@{commit[:12]}: {bare[0]} has no video: push the data set again")
    moved = transfer.download(repo, "dataset", commit, wanted, tree, out)
    clips.load_dataset(out, raw=True)
    return moved
