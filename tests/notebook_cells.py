"""Runs code cells of a notebook in this process, with parameters; for tests that need no kernel."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd

from shuttlelib.paths import NOTEBOOKS


def run_cells(name: str, cells: Sequence[int] | None = None, **parameters: Any) -> dict[str, Any]:
    """Run a notebook's code cells, those of some numbers (counted as in the file) or all; what they named."""
    (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
    names: dict[str, Any] = {}
    with pd.option_context("display.max_colwidth", 50):  # which a cell may set
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code" and (cells is None or number in cells):
                exec(compile(cell.source, f"{path.name} [{number}]", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                assert set(parameters) <= set(names), "a parameter that the notebook does not have"
                names.update(parameters)
    plt.close("all")
    return names
