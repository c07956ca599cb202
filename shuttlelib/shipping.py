"""Make two trained versions the default pair: export, calibrate, judge in every mode, write cards.

The last act of training, behind `shuttle publish`; what it writes under models/ is what `shuttle track` uses.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shuttlelib import cards, recipes, tracking
from shuttlelib.clips import Clip
from shuttlelib.files import atomic_write


def publish(
    stage1: Path,
    stage2: Path,
    dataset: list[Clip],
    models_dir: Path,
    out_dir: Path,
    training: Mapping[str, str],
) -> dict[str, Any]:
    """Ship a pair.

    Args:
        stage1, stage2: model folders (a run's `best/`).
        dataset: clips of venues that were not trained on, to calibrate and judge on.
        models_dir: the folder of shipped models.
        out_dir: where the tracks go.
        training: what the cards say of data and schedule, as label: text.

    Returns:
        Metrics of the pair by tracking mode, as `recipes.evaluate_pair` gives them.
    """
    recipes.make_pair(stage1, stage2, models_dir)
    pair = replace(tracking.load_networks(models_dir=models_dir), calibration=None)
    folders = [models_dir / name for name in (pair.stage1.version, pair.stage2.version)]
    raw = recipes.evaluate_pair(pair, dataset, out_dir / "uncalibrated")
    card = json.loads((folders[1] / "version.json").read_text())
    with atomic_write(folders[1] / "version.json") as temp:
        temp.write_text(json.dumps({**card, "calibration": raw["confidence_curves"]}, indent=2) + "\n")
    pair = tracking.load_networks(models_dir=models_dir)
    results = {mode: recipes.evaluate_pair(pair, dataset, out_dir / mode, mode) for mode in tracking.MODES}
    for folder in folders:
        cards.write_card(folder, results, training)
    return results
