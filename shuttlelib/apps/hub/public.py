"""Public data sets by name: licence first, then download, verify, import; behind `shuttle data fetch`.

Facts of each set with their source stand in `SETS`. Files are pinned by commit where one stands there, and
compared with the hash that the host promises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub.utils import get_session, hf_raise_for_status
from tqdm import tqdm

from shuttlelib import clips, intake, splits
from shuttlelib.apps.hub import client, transfer
from shuttlelib.apps.hub.client import HubError
from shuttlelib.clips import Clip
from shuttlelib.errors import UsageError
from shuttlelib.files import atomic_write, writing

INFO = tuple(f"info/{name}.json" for name in splits.NAMES)  # of RacketVision
GITHUB_API, GITHUB_RAW = "https://api.github.com", "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublicSet:
    """A set that someone else published.

    Attributes:
        title: what it is.
        licence: what its publisher says; shown before anything is fetched.
        page: where it says so.
        credit: whom to cite.
        fetch: downloads its files into a folder and returns the folder to import; None where only a person
            can download it.
        revision: commit that is fetched unless another is asked for.
    """

    title: str
    licence: str
    page: str
    credit: str
    fetch: Callable[[str, Path], Path] | None = None
    revision: str = ""


def notice(name: str) -> str:
    """What a person should know before fetching a set.

    Raises:
        UsageError: no set of that name.
    """
    chosen = _get(name)
    return (
        f"{name}: {chosen.title}\n  licence: {chosen.licence}\n  source:  {chosen.page}"
        f"{' at ' + chosen.revision[:12] if chosen.revision else ''}\n  credit:  {chosen.credit}\n"
        "  Broadcast pictures belong to their owners: train and measure on them, do not publish them."
    )


def fetch(name: str, out: str | Path, source: Path | None = None, revision: str | None = None) -> list[Clip]:
    """Download a set into `out/source`, verified, and import it into the data folder `out`.

    Args:
        source: a copy of the set that is already here; nothing is downloaded then.
        revision: another commit than the one known to fit.

    Raises:
        UsageError: no set of that name, or it cannot be downloaded by a program.
        HubError: the host refuses, or a file arrived damaged.
        LabelError: the files are not laid out as expected.
    """
    chosen, out = _get(name), Path(out)
    if source is None:
        if chosen.fetch is None:
            raise UsageError(
                f"{name}: its host wants a person with a browser: open {chosen.page}, unpack the set, then "
                f"shuttle data fetch {name} --source FOLDER --out {out}"
            )
        source = chosen.fetch(revision or chosen.revision, out / "source")
    before = splits.read(out)
    imported = intake.import_folder(source, out)
    if name == "tracknetv3":
        imported = _name_venues(out, before)
    return imported


def _get(name: str) -> PublicSet:
    if name not in SETS:
        raise UsageError(f"{name!r} is no public set known here; choose one of {', '.join(SETS)}")
    return SETS[name]


def _from_github(repo: str, folder: str) -> Callable[[str, Path], Path]:
    """Fetches a folder of a GitHub repository."""

    def fetch_folder(revision: str, out: Path) -> Path:
        with client.speaking(f"github.com/{repo}"), writing(out):
            answer = _get_url(f"{GITHUB_API}/repos/{repo}/git/trees/{quote(revision)}?recursive=1")
            files = [
                entry
                for entry in answer.json().get("tree", ())
                if entry["type"] == "blob" and entry["path"].rpartition("/")[0] == folder
            ]
            if not files:
                raise HubError(
                    f"github.com/{repo}: no files in {folder}/ at {revision[:12]}; check --revision"
                )
            for entry in tqdm(files, desc=repo, unit="file", leave=False, disable=None):
                path = out / folder / Path(entry["path"]).name
                if client.same(path, entry["size"], None, entry["sha"]):
                    continue
                with atomic_write(path) as temp:
                    temp.write_bytes(
                        _get_url(f"{GITHUB_RAW}/{repo}/{revision}/{quote(entry['path'])}").content
                    )
                    if not client.same(temp, entry["size"], None, entry["sha"]):
                        raise HubError(f"github.com/{repo}: {entry['path']} arrived damaged: {client.AGAIN}")
        return out / folder

    return fetch_folder


def _get_url(url: str) -> Any:
    """The response of the client's HTTP library, whose name changes with its release."""

    def get() -> Any:
        response = get_session().get(url)
        hf_raise_for_status(response)
        return response

    return client.patiently(get)


def _from_hub(repo: str, wanted: Callable[[str], bool]) -> Callable[[str, Path], Path]:
    """Fetches files of a data set on the Hub."""

    def fetch_files(revision: str, out: Path) -> Path:
        with client.speaking(repo):
            commit = client.head(repo, "dataset", revision or None)
            files = {
                path: entry for path, entry in client.tree(repo, "dataset", commit).items() if wanted(path)
            }
        if not files:
            raise HubError(
                f"{repo}@{commit[:12]}: nothing of badminton there any more; give an older --revision"
            )
        with writing(out):
            transfer.fetch(repo, "dataset", commit, files, out)
        return out

    return fetch_files


def _badminton(path: str) -> bool:
    """The videos, ball labels and splits of RacketVision's badminton part."""
    part = path.removeprefix("badminton/")
    ball = part.startswith("all/") and path.endswith("_ball.csv")
    return part != path and (part.startswith("videos/") or ball or part in INFO)


# Where each rally was played, by looking at it: the source does not say. Splits are this project's, by venue.
TRACKNETV3_VENUES = {
    "Kuala Lumpur": "00001 00029",
    "Jakarta (red)": "00011 00023",
    "Paris": "00030 00038",
    "Tokyo": "00002 00017 00033 00034 00049",
    "Osaka": "00004",
    "Odense": "00008 00014 00025 00026 00027 00032 00035 00040 00045 00046 00050",
    "Bangkok": "00009 00010 00022 00028 00039 00041",
    "Jakarta (blue)": "00031 00042 00047 00048",
}
TRACKNETV3_VAL = ("Kuala Lumpur", "Jakarta (red)", "Paris")


def _name_venues(out: Path, before: splits.Places) -> list[Clip]:
    """Write the known venues and splits of the TrackNetV3 rallies; the others stay "unknown".

    Args:
        before: `splits.csv` before the import, which a person may have changed; its clips and venues stay.
    """
    divided = dict(before.values())
    known = {
        clip: (venue, divided.get(venue, "val" if venue in TRACKNETV3_VAL else "train"))
        for venue, names in TRACKNETV3_VENUES.items()
        for clip in names.split()
    }
    places = splits.read(out)
    splits.write(out, {**{clip: known.get(clip, place) for clip, place in places.items()}, **before})
    return clips.load_dataset(out, raw=True)


SETS = {
    "tracknetv3": PublicSet(
        title="36 broadcast rallies, 1280x720 at 30 fps, every frame labelled (folder raw_data)",
        licence="MIT, (c) 2024 alenzenx (the repository's LICENSE)",
        page="https://github.com/alenzenx/TrackNetV3",
        credit="alenzenx/TrackNetV3",
        fetch=_from_github("alenzenx/TrackNetV3", "raw_data"),
        revision="caa97726a2195998ad55a92e08626fa4cedfc638",
    ),
    "shuttlecock_trajectory": PublicSet(
        title="Shuttlecock Trajectory Dataset of TrackNetV2: 26 matches, 78,200 frames, 1280x720 at 30 fps",
        licence="none stated: ask its authors (NYCU, CoachAI) before more than research",
        page="https://hackmd.io/@TUIK/rJkRW54cU",
        credit="Sun et al., TrackNetV2: Efficient Shuttlecock Tracking Network, 2020",
    ),
    "racketvision": PublicSet(
        title="RacketVision, badminton part: 1920x1080 clips, a fifth of the frames labelled",
        licence="mit (the card of the data set)",
        page="https://huggingface.co/datasets/linfeng302/RacketVision",
        credit="Dong et al., RacketVision, AAAI 2026 (arXiv 2511.17045)",
        fetch=_from_hub("linfeng302/RacketVision", _badminton),
    ),
}
