"""Where the repository keeps things; a leaf."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPO / "notebooks"
SAMPLES = REPO / "samples"
REPORTS = REPO / "reports"
# Where rallies are rendered for notebooks that are given no data
DATA = Path(os.environ.get("SHUTTLE_DATA", REPO / "data"))
MODELS = Path(os.environ.get("SHUTTLE_MODELS", REPO / "models"))
# What can be made again, such as engines compiled for this machine
CACHE = Path(
    os.environ.get("SHUTTLE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shuttlelib"
)


def from_repo(text: str | Path) -> Path:
    """A path that a notebook is given, absolute: a relative one is meant from the repository's root,
    wherever its kernel runs (JupyterLab's runs in `notebooks/`)."""
    return (REPO / Path(text).expanduser()).resolve()
