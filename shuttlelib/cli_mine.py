"""The command `shuttle mine`; thin, over `recipes.mine_round`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Cache, Folder, Seed


def mine(
    model: Annotated[Path, typer.Option(**Folder, help="Model folder to mine for, like runs/stage2/best.")],
    data: Annotated[list[Path], typer.Option(**Folder, help="Data folder; give it again for more.")],
    out: Annotated[Path, typer.Option(help="Folder of the round; an interrupted one goes on.")],
    partner: Annotated[
        Path | None, typer.Option(**Folder, help="Model folder of the other stage; finds disagreements.")
    ] = None,
    cache: Cache = None,
    passes: Annotated[int, typer.Option(min=1, help="Looks at each frame.")] = 2,
    every: Annotated[int, typer.Option(min=1, help="Score only every Nth frame.")] = 1,
    at_most: Annotated[int, typer.Option(min=1, help="Hard examples to keep.")] = 2000,
    hard_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of the fine-tuning draws that are hard.")
    ] = 0.3,
    steps: Annotated[int, typer.Option(min=1, help="Fine-tuning steps.")] = 1000,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step; else the version's.")] = None,
    seed: Annotated[int, typer.Option(**Seed, help="Of looks, weights and draws.")] = 0,
) -> None:
    """Find what a model gets wrong on its training data, fine-tune on it, list labels in doubt."""
    import pandas as pd

    from shuttlelib import clips, mining, networks, recipes
    from shuttlelib.files import write_json

    spec = networks.load(model).net.spec
    finder = partner if spec.stage == 2 else None
    dataset = recipes.load_data(data)
    clips.require_splits(dataset, "train", "val")
    samples = recipes.open_samples(spec, dataset, cache or out / "cache", seed, finder)
    params = mining.MiningParams(batch or spec.batch, passes, every, at_most, hard_share)
    result = recipes.mine_round(model, samples, out, steps, params, seed, partner)
    table = pd.DataFrame(result.pop("compared", {})).T
    if len(table):
        print(table.round(3).to_string())
    write_json(out / "metrics.json", {**result, "compared": json.loads(table.to_json(orient="index"))})
    print(json.dumps(result, indent=1))
    print(f"{result['suspects']} labels in doubt: {out / 'suspects' / 'tasks.json'} (Label Studio)")
