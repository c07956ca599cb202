import json

import pytest

from shuttlelib import cards, clips, networks, runtime, shipping, synth, versions


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
    results = shipping.publish(*runs, dataset, root / "models", root / "out", {"trained on": "nothing"})
    return root, results


def test_publishing_makes_a_pair_that_loads_with_its_confidence_curve(shipped):
    root, _ = shipped
    stage1, stage2 = runtime.default_pair(root / "models")
    assert (stage1.name, stage2.name) == ("stage1_v5", "stage2_v8")
    for folder in (stage1, stage2):
        names = {path.name for path in folder.iterdir()}
        assert names == {"model.safetensors", "model.onnx", "version.json", "metrics.json", "README.md"}
    assert set(runtime.read_card(stage2)["calibration"]) == {"visible", "invisible"}


def test_results_hold_every_mode_and_the_card_repeats_them(shipped):
    root, results = shipped
    assert set(results) == {"smart", "fast", "calibration"}
    stored = json.loads((root / "models" / "stage2_v8" / "metrics.json").read_text())
    accuracy = results["smart"]["accuracy"]["grid512_4px"]
    assert stored["free_running"]["smart"]["accuracy"]["grid512_4px"] == accuracy
    card = (root / "models" / "stage2_v8" / "README.md").read_text()
    assert f"| smart, in all | 24 | {accuracy:.3f} |" in card
    assert "- trained on: nothing" in card


def test_a_card_shows_the_undefined_as_a_dash(shipped):
    root, results = shipped
    blank = json.loads(json.dumps(results))
    blank["smart"]["hit_error_px"]["1920x1080"] = None
    path = cards.write_card(root / "models" / "stage1_v5", blank, {})
    assert "| - |" in path.read_text()
