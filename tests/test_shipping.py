import json
import shutil
from pathlib import Path

import pytest

from shuttlelib import cards, clips, export, networks, recipes, runtime, shipping, synth, versions
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import WriteError


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Two untrained networks published on two short rendered clips."""
    root = tmp_path_factory.mktemp("ship")
    synth.make_dataset(root / "data", 2, seed=9, size_hw=(180, 320), frame_count=12, val_share=0.5)
    runs = []
    for name, hw in (("stage1_v5", (96, 160)), ("stage2_v8", (64, 64))):
        spec = versions.resolve(name, input_hw=hw, backbone="mobilenetv4_conv_small_050", neck_channels=16)
        networks.save(networks.build(spec), root / name)
        runs.append(root / name)
    dataset = clips.load_dataset(root / "data")
    (root / "history.csv").write_text("step,seconds,accuracy_512\n1,30,0.4\n2,90,0.7\n")
    results = shipping.publish(
        *runs, dataset, root / "models", root / "out", {"trained on": "nothing"}, {"side": dataset[:1]}
    )
    return root, results


def test_publishing_makes_a_pair_that_loads_with_its_confidence_curve(shipped):
    root, _ = shipped
    stage1, stage2 = runtime.default_pair(root / "models")
    assert (stage1.name, stage2.name) == ("stage1_v5", "stage2_v8")
    for folder in (stage1, stage2):
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "model.safetensors",
            "model.onnx",
            "model.fp16.onnx",
            "version.json",
            "metrics.json",
            "README.md",
        }
    curves = runtime.read_card(stage2)["calibration"]
    assert set(curves) == {"smart", "fast", "calibration", "offline"}
    assert all(set(of_mode) == {"visible", "rectified", "invisible"} for of_mode in curves.values())


def test_results_hold_every_mode_and_the_card_repeats_them(shipped):
    root, results = shipped
    assert set(results) == {"smart", "fast", "calibration", "offline"}
    stored = json.loads((root / "models" / "stage2_v8" / "metrics.json").read_text())
    accuracy = results["smart"]["accuracy"]["grid512_4px"]
    assert stored["free_running"]["smart"]["accuracy"]["grid512_4px"] == accuracy
    card = (root / "models" / "stage2_v8" / "README.md").read_text()
    assert f"| smart, in all | 24 | {accuracy:.3f} |" in card
    assert "- trained on: nothing" in card


def test_a_card_says_which_frames_its_version_sees():
    seen = {name: cards._frames(versions.resolve(name)) for name in ("stage2_v8", "stage2_v9")}
    assert seen == {"stage2_v8": "4 frames", "stage2_v9": "5 frames, 2 of them after the current one"}


def test_a_card_says_nothing_of_how_another_pair_was_trained(shipped):
    card = (shipped[0] / "models" / "stage2_v8" / "README.md").read_text()
    assert f"The lineage says of this row: {versions.resolve('stage2_v8').notes}." in card
    assert "- Weakest on footage unlike what it was trained on: " in card
    assert "Weights and the confidence curves were chosen on this split" in card
    assert not any(word in card.lower() for word in ("broadcast", "amateur"))


def test_a_card_shows_the_undefined_as_a_dash(shipped, tmp_path):
    root, results = shipped
    blank = json.loads(json.dumps(results))
    blank["smart"]["hit_error_px"]["1920x1080"] = None
    (tmp_path / "version.json").write_text((root / "models" / "stage1_v5" / "version.json").read_text())
    path = cards.write_card(tmp_path, blank, {})
    assert "| - |" in path.read_text()


def test_a_card_has_other_clips_and_the_time_of_training(shipped):
    root, _ = shipped
    card = (root / "models" / "stage1_v5" / "README.md").read_text()
    assert "| smart, side | 12 |" in card
    assert "Other clips, never trained on, beside them: side." in card
    grid = "accuracy within 4 px of the 512x288 grid, on val samples"
    assert f"training time: 1.5 min; {grid}: 0.5 after 1.5 min, 0.6 after" in card
    stored = json.loads((root / "out" / "metrics.json").read_text())
    assert set(stored["also"]) == {"side"}


def test_a_better_pair_is_kept_unless_forced(shipped, tmp_path):
    root, results = shipped
    dataset = clips.load_dataset(root / "data")
    results = json.loads(json.dumps(results))
    measured = results["smart"]["accuracy"]["grid512_4px"]
    shipping._check_better(results, dataset, root / "models", tmp_path)  # no worse than itself
    results["smart"]["accuracy"]["grid512_4px"] = measured - 0.01
    with pytest.raises(ShuttleError, match=r"keeps stage1_v5 and stage2_v8: smart accuracy .*--force"):
        shipping._check_better(results, dataset, root / "models", tmp_path)


def test_nothing_of_older_weights_stays_beside_new_ones(shipped, tmp_path, monkeypatch):
    root, results = shipped
    models = tmp_path / "models"
    shutil.copytree(root / "models", models)
    old = models / "stage2_v8"
    for name in ("model.int8.onnx", "export.csv", "report.json"):
        (old / name).write_text("{}")
    (old / "gallery").mkdir()
    monkeypatch.setattr(shipping, "_judge", lambda *_: results)
    graphs = root / "models"  # the fixture has exported the same networks, which takes seconds
    monkeypatch.setattr(export, "export_onnx", lambda to: shutil.copy(graphs / to.name / "model.onnx", to))
    pair = root / "stage1_v5", root / "stage2_v8"
    shipping.publish(*pair, clips.load_dataset(root / "data"), models, tmp_path / "out", {}, force=True)
    names = {path.name for path in old.iterdir()}
    assert {"model.onnx", "model.fp16.onnx", "report.json", "gallery"} < names
    assert not names & {"model.int8.onnx", "export.csv"}
    again = root / "stage1_v5", old  # the shipped stage 2 stays, gallery and all
    shipping.publish(*again, clips.load_dataset(root / "data"), models, tmp_path / "out", {}, force=True)
    assert (old / "gallery").is_dir()
    with pytest.raises(UsageError, match="is where --out keeps the new pair"):
        shipping.publish(
            *again, clips.load_dataset(root / "data"), tmp_path / "out/models", tmp_path / "out", {}
        )


def test_a_kill_while_a_pair_is_put_in_place_leaves_whole_models(shipped, tmp_path, monkeypatch):
    root, _ = shipped
    models = tmp_path / "models"
    shutil.copytree(root / "models", models)
    before = (models / "stage2_v8" / "model.safetensors").read_bytes()
    made = tmp_path / "made"
    shutil.copytree(root / "models", made)

    def killed(source, target, **options):
        if "stage2" in str(source):
            raise KeyboardInterrupt
        return shutil.copytree(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shipping, "copytree", killed)
        with pytest.raises(KeyboardInterrupt):
            shipping._exchange(made, ("stage1_v5", "stage2_v8"), models)
    assert (models / "stage2_v8" / "model.safetensors").read_bytes() == before
    assert [folder.name for folder in runtime.default_pair(models)] == ["stage1_v5", "stage2_v8"]

    def killed_within(source, target):
        (target / source.name).touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shipping, "copy2", killed_within)
        with pytest.raises(KeyboardInterrupt):
            shipping._exchange(made, ("stage1_v5", "stage2_v8"), models)
    shipping._roll_back(models)
    assert [folder.name for folder in runtime.default_pair(models)] == ["stage1_v5", "stage2_v8"]
    for name in ("stage1_v5", "stage2_v8"):
        (made / name / "model.safetensors").write_bytes(b"new")
    rename = Path.rename

    def killed_between(source, target):
        if source.parent.name == "new" and source.name == "stage2_v8":
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_between)
        with pytest.raises(KeyboardInterrupt):
            shipping._exchange(made, ("stage1_v5", "stage2_v8"), models)
    assert not (models / "stage2_v8").exists()
    with pytest.raises(ShuttleError, match="`shuttle publish` was cut short; run it again"):
        runtime.default_pair(models)  # not half of each pair
    shipping._roll_back(models)
    assert [folder.name for folder in runtime.default_pair(models)] == ["stage1_v5", "stage2_v8"]
    assert (models / "stage2_v8" / "model.safetensors").read_bytes() == before
    assert (models / "stage1_v5" / "model.safetensors").read_bytes() != b"new", "both are those before"
    shipping._exchange(made, ("stage1_v5", "stage2_v8"), models)
    assert (models / "stage2_v8" / "model.safetensors").read_bytes() == b"new"
    assert {path.name for path in models.iterdir()} == {"stage1_v5", "stage2_v8", "default.json"}


def test_files_too_large_to_ship_are_named(shipped, monkeypatch, tmp_path):
    root, _ = shipped
    names = ("stage1_v5", "stage2_v8")
    monkeypatch.setattr(shipping, "MAX_FILE_MIB", 0)
    with pytest.raises(ShuttleError, match="a shipped file has at most 0"):
        shipping._check_size(root / "models", names, tmp_path)
    monkeypatch.setattr(shipping, "MAX_FILE_MIB", 15)
    monkeypatch.setattr(shipping, "MAX_WEIGHTS_MB", 0)
    with pytest.raises(ShuttleError, match="at most 0 are shipped"):
        shipping._check_size(root / "models", names, tmp_path)


def test_nothing_to_judge_on_is_named(tmp_path):
    with pytest.raises(ShuttleError, match="side: no clip to judge on"):
        shipping.publish(tmp_path, tmp_path, [None], tmp_path, tmp_path, {}, {"side": []})


def test_a_folder_for_the_results_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ShuttleError, match=r"file.out: cannot be written"):
        shipping.publish(tmp_path, tmp_path, [None], tmp_path, tmp_path / "file" / "out", {})


def test_a_file_in_place_of_the_models_is_named_before_any_work(shipped, tmp_path, monkeypatch):
    root, _ = shipped
    monkeypatch.setattr(recipes, "make_pair", lambda *_: pytest.fail("it worked all the same"))
    (tmp_path / "models").write_text("in the way")
    dataset = clips.load_dataset(root / "data")
    with pytest.raises(WriteError, match="models: cannot be written"):
        shipping.publish(root, root, dataset, tmp_path / "models", tmp_path / "out", {})


def test_a_card_says_only_how_its_own_stage_was_trained():
    facts = {"trained on, stage 1": "frames", "trained on, stage 2": "crops", "judged on": "6 clips"}
    assert shipping._of_stage(facts, 1) == {"trained on": "frames", "judged on": "6 clips"}
    assert shipping._of_stage(facts, 2) == {"trained on": "crops", "judged on": "6 clips"}
