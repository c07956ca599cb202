"""Rendered rallies: as many labelled clips as wanted, any size and frame rate, deterministic by seed.

`render_rally` yields frames with their truth, `write_rally` and `make_dataset` write clips with label
tables that the rest of the flow reads like any other footage.
"""

from shuttlelib.synth.camera import VIEWS
from shuttlelib.synth.dataset import SynthError, make_dataset, render_rally, write_rally
from shuttlelib.synth.render import Truth

__all__ = ["VIEWS", "SynthError", "Truth", "make_dataset", "render_rally", "write_rally"]
