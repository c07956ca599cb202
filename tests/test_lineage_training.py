import json

import pandas as pd
import pytest
import torch

from shuttlelib import recipes, synth
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.lineage import training
from shuttlelib.lineage.training import Budget

SMALL = {"backbone": "mobilenetv4_conv_small_050", "input_hw": (64, 64), "neck_channels": 16, "hidden": (16,)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    synth.make_dataset(folder, 2, seed=9, size_hw=(180, 320), frame_count=12, val_share=0.5)
    return recipes.load_data([folder])


def rows(names, data, out, budget, **options):
    said = []
    each = training.train_rows(
        names, data, out, out.parent / "cache", budget, overrides=SMALL, say=said.append, **options
    )
    return dict(each), said


@pytest.mark.slow
def test_a_row_that_fails_is_recorded_and_the_rest_go_on_and_what_is_done_is_not_repeated(data, tmp_path):
    budget = Budget(batch=2, steps=2, validations=1, val_samples=4)
    names = ["unet_3in3", "stage2_v8"]  # a U-Net with a backbone cannot be built
    found, _ = rows(names, data, tmp_path / "runs", budget)
    assert "unet_3in3" in found["unet_3in3"]["error"]
    assert (tmp_path / "runs" / "unet_3in3" / "error.txt").read_text().startswith("Traceback")
    done = found["stage2_v8"]
    assert (done["steps"], done["batch"], done["start"]) == (2, 2, "scratch")
    assert done["hardware"]
    assert not (tmp_path / "runs" / "stage2_v8" / "checkpoints").exists()
    again, said = rows(names, data, tmp_path / "runs", budget)
    assert again["stage2_v8"] == done
    assert any("stage2_v8: done before" in line for line in said)
    with pytest.raises(ShuttleError, match=r"another budget"):
        rows(names, data, tmp_path / "runs", Budget(batch=2, steps=3))
    with pytest.raises(ShuttleError, match=r"another config"):
        rows(names, data, tmp_path / "runs", budget, precision="no")
    rows(names, data, tmp_path / "runs", budget, workers=1)  # decides no result


def test_rows_that_learned_from_other_false_places_are_not_gone_on_with(data, tmp_path):
    stage1, budget = tmp_path / "best", Budget(steps=1)
    stage1.mkdir()
    (tmp_path / "x").mkdir()
    (stage1 / "model.safetensors").write_bytes(b"first")
    options = {"stage1": stage1, "time_left": lambda: False}
    for _ in range(2):
        rows(["stage2_v8"], data, tmp_path / "runs", budget, **options)
    rows(
        ["stage2_v8"], data, tmp_path / "runs", budget, **{**options, "stage1": tmp_path / "." / "x/../best"}
    )
    with pytest.raises(ShuttleError, match=r"another stage1 "):
        rows(["stage2_v8"], data, tmp_path / "runs", budget, **{**options, "stage1": None})
    (stage1 / "model.safetensors").write_bytes(b"trained on")
    with pytest.raises(ShuttleError, match=r"another stage1_sha256"):
        rows(["stage2_v8"], data, tmp_path / "runs", budget, **options)


def test_the_same_data_mix_for_every_row_and_pretraining_only_where_it_was_had():
    spec = training._lean(training.resolve("stage1_v4"), "scratch (no Hub)", Budget(steps=1))
    assert (spec.rendered_share, spec.pretrained, spec.backbone_lr_scale) == (0.3, False, 1.0)
    spec = training._lean(training.resolve("stage1_v4"), "ImageNet", Budget(steps=1))
    assert (spec.pretrained, spec.backbone_lr_scale) == (True, 0.1)


def test_one_backbone_goes_to_every_row_but_the_u_nets(monkeypatch, data, tmp_path):
    seen = {}

    def attempt(spec, *rest):
        seen[spec.name] = spec
        return {"error": "not asked for here"}

    monkeypatch.setattr(training, "_attempt", attempt)
    names, common = ["stage1_v1", "unet_3in3", "stage2_v8"], "mobilenetv4_conv_small_050"
    budget = Budget(steps=1, backbone=common, unet_channels=8)
    dict(training.train_rows(names, data, tmp_path, tmp_path, budget, say=str))
    assert [spec.backbone for spec in seen.values()] == [common, "unet", common]
    assert list(seen) == names
    assert training.networks.build(seen["unet_3in3"]).out.in_channels == 8
    assert seen["stage1_v1"].input_hw == (300, 300)
    frames = torch.zeros(1, 4, 3, 64, 64)
    assert training.networks.build(seen["stage1_v1"])(frames).points.shape == (1, 1, 2)
    with pytest.raises(UsageError, match=r"backbone resnet_9999: .*list_models"):
        dict(training.train_rows(names, data, tmp_path, tmp_path, Budget(steps=1, backbone="resnet_9999")))


def test_a_scale_shrinks_every_rows_input(monkeypatch, data, tmp_path):
    seen = {}
    monkeypatch.setattr(
        training, "_attempt", lambda spec, *rest: seen.update({spec.name: spec}) or {"error": ""}
    )
    names = ["stage1_v1", "stage1_v5", "stage2_v4", "stage2_v8", "unet_8in8"]
    dict(training.train_rows(names, data, tmp_path, tmp_path, Budget(steps=1, scale=0.5), say=str))
    sizes = [(144, 144), (144, 256), (112, 112), (80, 80), (144, 256)]
    assert [spec.input_hw for spec in seen.values()] == sizes
    with pytest.raises(ShuttleError, match="holds a lineage of another budget"):
        dict(training.train_rows(names, data, tmp_path, tmp_path, Budget(steps=1), say=str))


def test_rows_that_cannot_reach_the_hub_say_so_and_start_from_scratch(monkeypatch):
    def refuse(spec, pretrained):
        raise ShuttleError("could not be fetched")

    monkeypatch.setattr(training.networks, "build", refuse)
    assert training.starting_weights(training.resolve("stage1_v4"), True) == "scratch (could not be fetched)"
    assert training.starting_weights(training.resolve("stage1_v4"), False) == "scratch"
    assert training.starting_weights(training.resolve("stage1_v5"), True) == "scratch"


@pytest.mark.parametrize("values", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 3, "batch": 0}])
def test_a_budget_is_steps_or_minutes(values):
    with pytest.raises(UsageError):
        Budget(**values)


def test_seconds_to_each_accuracy_are_those_of_the_first_validation_that_had_it():
    history = pd.DataFrame({"seconds": [10.0, 20.0, 30.0, 40.0], "accuracy_512": [0.4, 0.62, 0.58, 0.81]})
    assert training.time_to_accuracy(history, (0.5, 0.6, 0.8, 0.9)) == {
        "0.5": 20.0,
        "0.6": 20.0,
        "0.8": 40.0,
        "0.9": None,
    }
    plain = history.rename(columns={"accuracy_512": "accuracy"})
    assert training.time_to_accuracy(plain, (0.8,)) == {"0.8": 40.0}


def test_a_budget_reads_as_a_sentence():
    assert str(Budget(16, steps=6000)) == "6,000 steps of 16 samples for every row"
    assert str(Budget(8, minutes=2.5)) == "2.5 minutes of training for every row, 8 samples a step"
    assert str(Budget(16, steps=9, backbone="lcnet_050")).endswith("row, all with the backbone lcnet_050")
    assert str(Budget(16, steps=9, unet_channels=32)).endswith("row, U-Nets with 32 channels")
    assert str(Budget(16, steps=9, scale=0.5)).endswith("row, inputs 0.5 times as wide and high")
    assert json.dumps(training.asdict(Budget(steps=1)))
