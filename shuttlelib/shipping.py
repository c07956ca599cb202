"""Make two trained versions the default pair: export, calibrate, judge in every mode, write cards.

The last act of training, behind `shuttle publish`; what it writes under models/ is what `shuttle track` uses.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

from shuttlelib import cards, recipes, tracking
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError
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
        models_dir: the folder of shipped models; changed only once all is judged.
        out_dir: where the tracks go, and the pair until then.
        training: what the cards say of data and schedule, as label: text.

    Raises:
        ShuttleError: nothing to judge on, or a model folder is not of its stage.

    Returns:
        Metrics of the pair by tracking mode, as `recipes.evaluate_pair` gives them.
    """
    if not dataset:
        raise ShuttleError(f"{models_dir}: no clip to judge on; give a data folder with a val split")
    made = recipes.make_pair(stage1, stage2, out_dir / "models")
    pair = replace(tracking.load_networks(models_dir=made), calibration=None)
    names = pair.stage1.version, pair.last.version
    raw = recipes.evaluate_pair(pair, dataset, out_dir / "uncalibrated")
    card = made / names[1] / "version.json"
    with atomic_write(card) as temp:
        facts = {**json.loads(card.read_text()), "calibration": raw["confidence_curves"]}
        temp.write_text(json.dumps(facts, indent=2) + "\n")
    pair = tracking.load_networks(models_dir=made)
    results = {mode: recipes.evaluate_pair(pair, dataset, out_dir / mode, mode) for mode in tracking.MODES}
    for name in names:
        cards.write_card(made / name, results, training)
        copytree(made / name, models_dir / name, dirs_exist_ok=True)
    with atomic_write(models_dir / "default.json") as temp:
        temp.write_text((made / "default.json").read_text())
    return results
