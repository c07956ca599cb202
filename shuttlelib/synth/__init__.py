"""Rendered rallies: as many labelled clips as wanted, any size and frame rate, deterministic by seed.

`render_rally` yields frames with their truth, `make_dataset` writes clips with label tables that the rest of
the flow reads like any other footage.
"""

from shuttlelib.synth.camera import VIEWS
from shuttlelib.synth.dataset import SynthError, make_dataset, render_rally

__all__ = ["VIEWS", "SynthError", "make_dataset", "render_rally"]
