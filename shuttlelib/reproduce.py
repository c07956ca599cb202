"""Everything that is shipped or claimed, from data, in one prepared run; behind `shuttle reproduce`.

In order: decode, stage 1 (rendered rallies, then all), stage 2 (the same, with stage 1's false places),
publish, the lineage, the baselines. Each step gets its share of the time that is left, turned into a number
of steps that is stored, so that the run can be killed at any point and goes on when it is started again.
"""

import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shuttlelib import cache, clips, recipes, runtime, shipping, timebox, versions
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import read_json, write_json
from shuttlelib.lineage.comparison import Looks
from shuttlelib.lineage.training import Budget, starting_weights
from shuttlelib.report import lineage
from shuttlelib.spec import Spec
from shuttlelib.versions import resolve

SHARES = {"stage1": 0.25, "stage2": 0.3, "publish": 0.1, "rows": 0.35}
FIRST_RENDERED = 0.25  # of a stage's time: rendered rallies alone, where there are others too
MEASURING = 0.4  # of the rows' time: judging, tracking and drawing them once they are trained
BEAT_S = 5.0
PLANE_BYTES = 1.5  # a pixel of decoded native video


@dataclass(frozen=True)
class Plan:
    """What to run, and for how long.

    Attributes:
        data: folders; rendered and real ones are told apart by their labels' origin.
        out: the run's folder; cache: decoded frames; models: where the pair is published.
        minutes: in all, over as many sittings as it takes.
        shares: of the time, as `SHARES`; 0 leaves a step out.
        stage1, stage2: versions to ship; "" is the shipped pair's.
        rows: of the lineage, then of the baselines; None takes all.
        also: further clips to judge the pair on, by name.
        batch: of the shipped rows, 0 their own; rows_batch: of the lineage.
        overrides: fields of every spec (tests make them small).
        config: further fields of `TrainConfig`.
    """

    data: tuple[Path, ...]
    out: Path
    minutes: float
    cache: Path
    models: Path
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    stage1: str = ""
    stage2: str = ""
    rows: tuple[str, ...] | None = None
    also: Mapping[str, list[Clip]] = field(default_factory=dict)
    seed: int = 0
    batch: int = 0
    rows_batch: int = 16
    val_samples: int = 600
    clips: int = 3
    pretrained: bool = True
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


class Clock:
    """Time spent in a run over all its sittings; written every few seconds, so a kill loses little.

    Attributes:
        spent_s: so far.
    """

    def __init__(self, path: Path):
        self.path = path
        self._before = float(read_json(path).get("spent_s", 0.0))
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @property
    def spent_s(self) -> float:
        return self._before + time.monotonic() - self._start

    def __enter__(self) -> "Clock":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._write()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._write()

    def _write(self) -> None:
        write_json(self.path, {"spent_s": round(self.spent_s, 1)})


class _Run:
    """One sitting: the data, the clock and what is done."""

    def __init__(self, plan: Plan, clock: Clock, say: Callable[[str], None]):
        self.plan, self.clock, self.say = plan, clock, say
        self.dataset = recipes.load_data(plan.data)
        for part in ("train", "val"):
            if not clips.split(self.dataset, part):
                folders = ", ".join(map(str, plan.data))
                raise ShuttleError(f"{folders}: no {part} clips; run `shuttle data split` on one of them")
        self.rendered = [clip for clip in self.dataset if clip.rendered]
        self.real = [clip for clip in self.dataset if not clip.rendered]
        first, second = (folder.name for folder in runtime.default_pair())
        names = {1: plan.stage1 or first, 2: plan.stage2 or second}
        self.specs = {stage: resolve(name, **plan.overrides) for stage, name in names.items()}
        for stage, spec in self.specs.items():
            if spec.stage != stage:
                raise UsageError(f"--stage{stage} {spec.name}: is of stage {spec.stage}")
        asked = plan.rows if plan.rows is not None else tuple(versions.names())
        unknown = sorted(set(asked) - set(versions.names()))
        if unknown:
            raise UsageError(f"--rows: {', '.join(unknown)}: no such version; `shuttle versions` lists them")
        self.rows = {
            "lineage": [name for name in versions.lineage() if name in asked],
            "baselines": [name for name in versions.baselines() if name in asked],
        }

    def steps(self) -> dict[str, tuple[float, Callable[[float], dict[str, Any]]]]:
        """Every step with its share of the time and what it does in a box of seconds; {} if left out."""
        shares = {**SHARES, **self.plan.shares}
        mixed = all(clips.split(part, "train") for part in (self.rendered, self.real))
        early = FIRST_RENDERED if mixed else 0.0
        count = max(1, sum(map(len, self.rows.values())))
        rows = {key: shares["rows"] * len(names) / count for key, names in self.rows.items()}
        found: dict[str, tuple[float, Callable[[float], dict[str, Any]]]] = {
            "decode": (1e-6, self.decode),
            "stage1_rendered": (shares["stage1"] * early, lambda box: self.train(1, box, True)),
            "stage1": (shares["stage1"] * (1 - early), lambda box: self.train(1, box, False)),
            "stage2_rendered": (shares["stage2"] * early, lambda box: self.train(2, box, True)),
            "stage2": (shares["stage2"] * (1 - early), lambda box: self.train(2, box, False)),
            "publish": (shares["publish"], self.publish),
            "lineage": (rows["lineage"], lambda box: self.compare(box, ("lineage",))),
            "baselines": (rows["baselines"], lambda box: self.compare(box, ("lineage", "baselines"))),
        }
        return {name: step for name, step in found.items() if step[0] > 0}

    def decode(self, box: float) -> dict[str, Any]:
        """Decode every clip once in each way that a row wants it."""
        for layout in (None, *sorted(self.whole_sizes())):
            cache.open_caches(self.dataset, self.plan.cache, layout)
        return {"clips": len(self.dataset)}

    def whole_sizes(self) -> set[tuple[int, int]]:
        """Inputs of the stage-1 rows that the plan trains."""
        names = [*self.rows["lineage"], *self.rows["baselines"]]
        rows = [resolve(name, **self.plan.overrides) for name in names]
        return {spec.input_hw for spec in (self.specs[1], *rows) if spec.stage == 1}

    def train(self, stage: int, box: float, rendered: bool) -> dict[str, Any]:
        """Train a shipped row in its box; weights, history and metrics lie in its folder as it goes."""
        plan, spec, name = self.plan, self.specs[stage], f"stage{stage}"
        early = plan.out / f"{name}_rendered"
        folder = early if rendered else plan.out / name
        folder.mkdir(parents=True, exist_ok=True)
        if rendered and (plan.out / name / "plan.json").is_file():
            return {"skipped": f"{name} has begun without it"}
        data = [*clips.split(self.rendered, "train"), *clips.split(self.dataset, "val")]
        dataset = data if rendered else self.dataset
        before = early / "best"
        options: dict[str, Any] = {"batch": plan.batch or spec.batch, "seed": plan.seed, **plan.config}
        options["stage1"] = self.weights(1) if stage == 2 else None
        options["init"] = before if not rendered and before.is_dir() else None
        options["val_samples"] = plan.val_samples

        def lean(start: str) -> Spec:
            return replace(spec, pretrained=start == "ImageNet")

        def found() -> str:
            return "init" if options["init"] else starting_weights(spec, plan.pretrained)

        start, sizes = timebox.planned(folder, lean, found, dataset, plan.cache, box, charged=True, **options)
        options["init"] = before if start == "init" else None
        self.say(f"    {sizes['steps']:,} steps of {options['batch']} samples, from {start}")
        result = recipes.train_on(lean(start), dataset, folder, plan.cache, **(options | sizes))
        write_json(folder / "metrics.json", {**result, "start": start})
        return result

    def weights(self, stage: int) -> Path:
        """Those that the plan trains; the shipped ones of a stage that it leaves out."""
        name = f"stage{stage}"
        left_out = self.plan.shares.get(name) == 0
        return runtime.default_pair()[stage - 1] if left_out else self.plan.out / name / "best"

    def publish(self, box: float) -> dict[str, Any]:
        """Judge the pair free-running and write it, with its cards, into the plan's models folder."""
        plan = self.plan
        real, rendered = (clips.split(part, "val") for part in (self.real, self.rendered))
        val, also = real or rendered, dict(plan.also)
        if real and rendered:
            also["rendered rallies"] = rendered
        trained = f"{_count(self.real, 'real')} and {_count(self.rendered, 'rendered')}; seed {plan.seed}"
        facts = {"trained on": trained, "judged on": f"{len(val)} clips, hash {clips.data_hash(val)}"}
        for n in (1, 2):
            early = read_json(plan.out / f"stage{n}_rendered" / "metrics.json")
            if seconds := early.get("seconds"):
                facts[f"trained before, stage {n}"] = f"{seconds / 60:.1f} min on rendered rallies alone"
        results = shipping.publish(
            self.weights(1), self.weights(2), val, plan.models, plan.out / "ship", facts, also
        )
        return {mode: part["accuracy"]["grid512_4px"] for mode, part in results.items()}

    def compare(self, box: float, kinds: tuple[str, ...]) -> dict[str, Any]:
        """Train and compare rows of the lineage, each for the minutes that were fixed with the first.

        Raises:
            ShuttleError: rows that failed, or for which no time was left; the comparison of the others is
                written, and they are tried again.
        """
        plan = self.plan
        mine = max(1, len(self.rows[kinds[-1]]))
        pair = plan.out / "stage1" / "best", plan.out / "stage2" / "best"
        trained = all((model / "version.json").is_file() for model in pair)
        fixed = timebox.once(
            plan.out / "lineage" / "fixed.json",
            lambda: {"minutes": (1 - MEASURING) * box / 60 / mine, "own_pair": trained},
        )
        budget = Budget(plan.rows_batch, minutes=fixed["minutes"], val_samples=plan.val_samples)
        own = pair if fixed["own_pair"] else None
        report = lineage.compare(
            [name for kind in kinds for name in self.rows[kind]],
            self.dataset,
            plan.out / "lineage",
            plan.cache,
            budget,
            plan.seed,
            own[0] if own else None,
            plan.pretrained,
            Looks(plan.val_samples, plan.clips, own),
            plan.overrides,
            self.say,
            lambda: self.clock.spent_s < 60 * plan.minutes,
            **plan.config,
        )
        failed: dict[str, list[str]] = {}
        for name, row in report["rows"].items():
            if "error" in row:
                failed.setdefault(row["error"], []).append(name)
        if failed:
            raise ShuttleError("; ".join(f"{', '.join(names)}: {error}" for error, names in failed.items()))
        return {name: row["accuracy"] for name, row in report["rows"].items()}


def run(plan: Plan, say: Callable[[str], None] = print) -> dict[str, str]:
    """Run what is not done yet.

    Returns:
        What became of each step: "done", "done before", "no time left" or "failed: …". A step that fails does
        not keep the others from being tried.

    Raises:
        ShuttleError: data that cannot be used; UsageError: a version or share that cannot be meant.
        KeyboardInterrupt: the step at work is saved and resumes.
    """
    _check(plan)
    outcome = {}
    with Clock(plan.out / "clock.json") as clock:
        sitting = _Run(plan, clock, say)
        steps = sitting.steps()
        done = {name: read_json(_result(plan.out, name)) for name in steps}
        for name, (share, act) in steps.items():
            left = plan.minutes * 60 - clock.spent_s
            to_come = sum(steps[other][0] for other in steps if not done[other])
            at = f"[{clock.spent_s / 60:.1f} of {plan.minutes:g} min]"
            if done[name]:
                outcome[name] = "done before"
            elif left <= 0:
                outcome[name] = "no time left"
            else:
                say(f"{at} {name}: {left * share / to_come / 60:.1f} min")
                outcome[name] = _act(act, left * share / to_come, plan.out, name)
                done[name] = {"tried": True}
                continue
            say(f"{at} {name}: {outcome[name]}")
        say(f"[{clock.spent_s / 60:.1f} of {plan.minutes:g} min] the run is in {plan.out}")
    return outcome


def dry_run(plan: Plan) -> str:
    """What would run, with the time each step gets and what decoding takes on the disk."""
    _check(plan)
    sitting = _Run(plan, Clock(plan.out / "clock.json"), print)
    steps = sitting.steps()
    left = max(0.0, plan.minutes - sitting.clock.spent_s / 60)
    todo = {name: share for name, (share, _) in steps.items() if not read_json(_result(plan.out, name))}
    lines = [f"{plan.minutes:g} min in all, {left:.1f} left, on {recipes.hardware()}"]
    for name in steps:
        what = f"{left * todo[name] / sum(todo.values()):6.1f} min" if name in todo else "  done    "
        rows = sitting.rows.get(name)
        lines.append(f"  {name:<16} {what}  {', '.join(rows) if rows else ''}".rstrip())
    frames = sum(clip.info.frame_count for clip in sitting.dataset)
    planes = sum(c.info.frame_count * PLANE_BYTES * c.info.width * c.info.height for c in sitting.dataset)
    whole = frames * 3 * sum(h * w for h, w in sitting.whole_sizes())
    lines += [
        f"ships {' and '.join(spec.name for spec in sitting.specs.values())} to {plan.models}",
        f"{len(sitting.real)} real and {len(sitting.rendered)} rendered clips, {frames} frames",
        f"decoded once into {plan.cache}: {(planes + whole) / 1e9:.1f} GB",
    ]
    return "\n".join(lines)


def _act(act: Callable[[float], dict[str, Any]], box: float, out: Path, name: str) -> str:
    failed = _result(out, name).with_suffix(".error.txt")
    failed.unlink(missing_ok=True)  # of an earlier sitting
    try:
        result = act(box)
    except Exception as error:  # the steps after it may not need it, and time on a rented machine is dear
        failed.parent.mkdir(exist_ok=True)
        failed.write_text(traceback.format_exc(), encoding="utf-8")
        return f"failed: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
    write_json(_result(out, name), result)
    return "done"


def _result(out: Path, name: str) -> Path:
    """Where a step says that it is done, and what came of it."""
    return out / "steps" / f"{name}.json"


def _check(plan: Plan) -> None:
    unknown = sorted(set(plan.shares) - set(SHARES))
    if unknown or not all(0 <= share < math.inf for share in plan.shares.values()):
        raise UsageError(f"--shares {dict(plan.shares)}: give shares of at least 0 of {', '.join(SHARES)}")
    if not 0 < plan.minutes < math.inf:
        raise UsageError(f"--minutes {plan.minutes:g}: give some time")
    if not plan.data:
        raise ShuttleError("no data folder given")
    if plan.out.exists() and not plan.out.is_dir():
        raise UsageError(f"--out {plan.out}: is a file; give a folder")


def _count(dataset: list[Clip], kind: str) -> str:
    train = clips.split(dataset, "train")
    return f"{len(train)} {kind} clips ({sum(c.info.frame_count for c in train):,} frames)"
