import json
import shutil
from dataclasses import replace

import pytest

from shuttlelib import labels, reproduce, runtime, splits, synth
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.reproduce import Clock, Plan

TIMING = {"step_s": 1.0, "validation_s": 1.0, "setup_s": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of rendered rallies and one that passes for real."""
    root = tmp_path_factory.mktemp("data")
    for name, seed in (("rendered", 9), ("real", 10)):
        synth.make_dataset(root / name, 2, seed, size_hw=(180, 320), frame_count=12, val_share=0.5)
    for path in (root / "real").glob("*.parquet"):
        table, info = labels.read_table(path)
        labels.write_table(path, table.assign(origin="tracknet_csv"), info)
    return root / "real", root / "rendered"


@pytest.fixture
def plan(data, tmp_path):
    out = tmp_path / "run"
    return Plan(data, out, 30.0, out / "cache", out / "models", rows=("stage1_v4", "unet_3in3"))


@pytest.fixture
def work(monkeypatch):
    """The long calls replaced by notes of what they were asked for."""
    notes = []

    def train_on(spec, dataset, run_dir, cache_dir, **options):
        (run_dir / "best").mkdir(parents=True, exist_ok=True)
        (run_dir / "best" / "version.json").write_text("{}")
        notes.append((run_dir.name, len(dataset), options))
        return {"accuracy_512": 0.5}

    def compare(names, *args, **options):
        notes.append(("compare", tuple(names), args[3]))
        return {"rows": {name: {"accuracy": 0.5} for name in names}}

    def publish(stage1, stage2, dataset, models, out, facts, also):
        notes.append(("publish", [clip.name for clip in dataset], sorted(also)))
        return {"smart": {"accuracy": {"grid512_4px": 0.5}}}

    monkeypatch.setattr(reproduce.recipes, "train_on", train_on)
    monkeypatch.setattr(reproduce.timebox, "trial", lambda *_, **__: TIMING)
    monkeypatch.setattr(reproduce.cache, "open_caches", lambda *_: [])
    monkeypatch.setattr(reproduce.lineage, "compare", compare)
    monkeypatch.setattr(reproduce.shipping, "publish", publish)
    return notes


def test_steps_run_in_order_and_stage_2_builds_on_stage_1(plan, work):
    said = []
    outcome = reproduce.run(plan, said.append)
    assert set(outcome.values()) == {"done"}
    assert [note[0] for note in work] == [
        "stage1_rendered",
        "stage1",
        "stage2_rendered",
        "stage2",
        "publish",
        "compare",
        "compare",
    ]
    options = {note[0]: note[2] for note in work[:4]}
    assert options["stage1"]["init"] == plan.out / "stage1_rendered" / "best"
    assert options["stage2"]["stage1"] == plan.out / "stage1" / "best"
    assert options["stage1_rendered"]["init"] is None
    assert work[0][1] == 3  # rendered to train on, all to validate on
    assert work[4][2] == ["rendered rallies"]
    assert work[5][1] == ("stage1_v4",)
    assert work[6][1] == ("stage1_v4", "unet_3in3")
    assert work[5][2] == work[6][2]  # one budget for the lineage and the baselines
    assert any("stage1_rendered" in line for line in said)


def test_boxes_share_the_time_that_is_left(plan, work):
    reproduce.run(plan, lambda _: None)
    steps = {
        name: json.loads((plan.out / name / "plan.json").read_text())["steps"]
        for name in ("stage1", "stage2")
    }
    assert 0.6 * 0.25 * 0.75 * 1800 < steps["stage1"] < 0.25 * 0.75 * 1800
    assert steps["stage2"] > steps["stage1"]


def test_what_is_done_is_not_repeated_and_a_plan_once_fixed_is_kept(plan, work):
    reproduce.run(plan, lambda _: None)
    (plan.out / "steps" / "stage2.json").unlink()  # as if it was killed there
    fixed = (plan.out / "stage2" / "plan.json").read_text()
    work.clear()
    outcome = reproduce.run(replace(plan, minutes=500.0), lambda _: None)
    assert [note[0] for note in work] == ["stage2"]
    assert (plan.out / "stage2" / "plan.json").read_text() == fixed
    assert (outcome["stage1"], outcome["stage2"]) == ("done before", "done")


def test_a_step_that_fails_is_recorded_and_the_others_go_on(plan, work, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(reproduce.shipping, "publish", refuse)
    outcome = reproduce.run(plan, lambda _: None)
    assert outcome["publish"] == "failed: RuntimeError: out of memory"
    assert outcome["lineage"] == "done"
    assert "out of" in (plan.out / "steps" / "publish.error.txt").read_text()


def test_a_rendered_step_that_failed_is_not_made_up_for_once_the_next_has_begun(plan, work):
    real = reproduce.recipes.train_on

    def train_on(spec, dataset, run_dir, *args, **options):
        if run_dir.name == "stage1_rendered":
            raise RuntimeError("out of memory")
        return real(spec, dataset, run_dir, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce.recipes, "train_on", train_on)
        assert reproduce.run(plan, lambda _: None)["stage1_rendered"].startswith("failed")
    (plan.out / "steps" / "stage1.json").unlink()  # as if it was killed there
    work.clear()
    assert reproduce.run(plan, lambda _: None)["stage1_rendered"] == "done"
    assert [(name, options["init"]) for name, _, options in work] == [("stage1", None)]
    assert "has begun" in json.loads((plan.out / "steps" / "stage1_rendered.json").read_text())["skipped"]


def test_a_row_that_fails_is_named_and_tried_again(plan, work):
    real = reproduce.lineage.compare

    def compare(names, *args, **options):
        made = real(names, *args, **options)
        made["rows"]["stage1_v4"] = {"error": "OutOfMemoryError: --batch 8"}
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce.lineage, "compare", compare)
        outcome = reproduce.run(plan, lambda _: None)
    assert outcome["lineage"] == "failed: ShuttleError: stage1_v4: OutOfMemoryError: --batch 8"
    assert outcome["publish"] == "done"
    outcome = reproduce.run(plan, lambda _: None)
    assert (outcome["publish"], outcome["lineage"], outcome["baselines"]) == ("done before", "done", "done")


def test_rows_for_which_no_time_was_left_are_named(plan, work, monkeypatch):
    def compare(names, *args, **options):
        time_left = args[-1]
        assert time_left()
        clock.append(31 * 60)
        assert not time_left()
        return {"rows": {name: {"error": "not trained: no time left"} for name in names}}

    clock = [60.0]
    monkeypatch.setattr(Clock, "spent_s", property(lambda _: clock[-1]))
    monkeypatch.setattr(reproduce.lineage, "compare", compare)
    outcome = reproduce.run(replace(plan, rows=("stage1_v4", "stage2_v8", "unet_3in3")), lambda _: None)
    told = "failed: ShuttleError: stage1_v4, stage2_v8: not trained: no time left"
    assert (outcome["lineage"], outcome["baselines"]) == (told, "no time left")


def test_the_pair_that_completes_rows_is_fixed_with_the_first(plan, work):
    first = replace(plan, shares={"stage1": 0.0, "stage2": 0.0, "publish": 0.0})
    asked = []
    real = reproduce.lineage.compare

    def compare(names, *args, **options):
        asked.append((args[5], args[7].pair))
        return real(names, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce.lineage, "compare", compare)
        reproduce.run(first, lambda _: None)
        (plan.out / "steps" / "baselines.json").unlink()
        assert reproduce.run(plan, lambda _: None)["stage2"] == "done"
    assert asked == [(None, None)] * 3


def test_without_time_nothing_starts(plan, work):
    plan.out.mkdir()
    (plan.out / "clock.json").write_text('{"spent_s": 1800.0}')
    assert set(reproduce.run(plan, lambda _: None).values()) == {"no time left"}
    assert work == []


def test_a_dry_run_says_what_and_how_long_and_writes_nothing(plan):
    text = reproduce.dry_run(replace(plan, shares={"publish": 0.0}))
    assert "stage1_rendered" in text
    assert "publish" not in text.replace(str(plan.models), "").partition("ships")[0]
    assert "unet_3in3" in text
    assert "2 real and 2 rendered clips, 48 frames" in text
    assert not plan.out.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shares": {"stage3": 1.0}}, "stage3"),
        ({"shares": {"rows": float("nan")}}, "rows"),
        ({"minutes": float("inf")}, "--minutes inf"),
        ({"minutes": 0.0}, "minutes"),
        ({"stage1": "stage2_v8"}, "is of stage 2"),
        ({"rows": ("stage9_v9",)}, "stage9_v9"),
    ],
)
def test_what_cannot_be_meant_is_refused(plan, changes, words):
    with pytest.raises(UsageError, match=words):
        reproduce.run(replace(plan, **changes), lambda _: None)


def moved(folder, out, part):
    """A copy of a data folder with all of its clips in one split."""
    shutil.copytree(folder, out)
    splits.write(out, {name: (venue, part) for name, (venue, _) in splits.read(out).items()})
    return out


def test_without_real_clips_to_judge_on_the_rendered_ones_do(plan, work, tmp_path):
    data = moved(plan.data[0], tmp_path / "real", "train"), plan.data[1]
    reproduce.run(replace(plan, data=data))
    (judged,) = [note[1:] for note in work if note[0] == "publish"]
    assert len(judged[0]) == 1
    assert judged[1] == []


def test_rendered_clips_to_judge_on_alone_are_not_trained_on_first(plan, work, tmp_path):
    data = plan.data[0], moved(plan.data[1], tmp_path / "rendered", "val")
    reproduce.run(replace(plan, data=data))
    assert [note[0] for note in work][:2] == ["stage1", "stage2"]


def test_a_stage_that_is_left_out_is_the_shipped_one(plan, work):
    done = reproduce.run(replace(plan, shares={"stage1": 0.0}))
    assert done["publish"]
    options = {note[0]: note[2] for note in work if note[0] in ("stage1", "stage2")}
    assert list(options) == ["stage2"]
    assert options["stage2"]["stage1"] == runtime.default_pair()[0]


def test_a_dry_run_refuses_what_cannot_run(plan, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="file: is a file; give a folder"):
        reproduce.dry_run(replace(plan, out=tmp_path / "file"))
    synth.make_dataset(tmp_path / "train", 1, 3, size_hw=(96, 160), frame_count=4, val_share=0.0)
    with pytest.raises(ShuttleError, match="train: no val clips; run `shuttle data split`"):
        reproduce.dry_run(replace(plan, data=(tmp_path / "train",)))


def test_the_clock_goes_on_where_it_was(tmp_path):
    with Clock(tmp_path / "clock.json") as clock:
        assert clock.spent_s < 5
    (tmp_path / "clock.json").write_text('{"spent_s": 100.0}')
    with Clock(tmp_path / "clock.json") as clock:
        assert clock.spent_s >= 100
    assert json.loads((tmp_path / "clock.json").read_text())["spent_s"] >= 100
