"""Run a model version behind one small interface, whatever executes it; between export and tracking.

One backend a file. Importing this imports neither torch nor pandas: how fast `shuttle track` starts
depends on it.
"""

from shuttlelib.runtime.base import PRECISIONS, Backend, Candidates, default_pair, read_card, warm_up
from shuttlelib.runtime.choice import BACKENDS, choose, load

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "Candidates",
    "choose",
    "default_pair",
    "load",
    "read_card",
    "warm_up",
]
