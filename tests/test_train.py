import json
import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shuttlelib import (
    cache,
    checkpoints,
    clips,
    labels,
    mining,
    mixing,
    networks,
    recipes,
    runtime,
    samples,
    synth,
    throughput,
    train,
    troubles,
    validation,
    versions,
)
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.prediction import CANDIDATES
from shuttlelib.train import TrainConfig
from shuttlelib.troubles import TrainError

SPEC = versions.resolve(
    "stage2_v8", input_hw=(64, 64), backbone="mobilenetv4_conv_small_050", neck_channels=16
)
QUICK = TrainConfig(steps=6, batch=4, lr=1e-3, val_every=3, val_samples=8, checkpoint_every=2)
SCORES = ("accuracy", "f1", "error_px", "fp2_share", "loss")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    synth.make_dataset(folder, 4, seed=5, size_hw=(180, 320), frame_count=12, val_share=0.5)
    return recipes.open_samples(SPEC, clips.load_dataset(folder), tmp_path_factory.mktemp("cache"))


def fit(data, run_dir, config=QUICK, **kwargs):
    return train.fit(SPEC, data.train, data.val, run_dir, config, data.weights, **kwargs)


def events(run_dir):
    """What TensorBoard reads of a run."""
    reader = EventAccumulator(
        str(run_dir / "tensorboard"), size_guidance={"images": 0, "scalars": 0}
    ).Reload()
    return reader, {*reader.Tags()["scalars"], *reader.Tags()["images"]}


def test_training_repeats_and_leaves_a_model_and_curves(data, tmp_path):
    first, second = fit(data, tmp_path / "a"), fit(data, tmp_path / "b")
    assert {k: first[k] for k in SCORES} == {k: second[k] for k in SCORES}
    assert first["steps"] == 6
    assert networks.load(tmp_path / "a" / "best").net.spec == SPEC
    assert (tmp_path / "a" / "history.csv").read_text().count("\n") == 3
    written, tags = events(tmp_path / "a")
    assert {"train/loss", "train/grad_norm", "lr/group0", "val/accuracy", "val/fp2_share"} <= tags
    assert {"speed/samples_per_s", "speed/data_wait_share", "val/fixed", "val/hardest"} <= tags
    assert [e.step for e in written.Scalars("val/accuracy")] == [3, 6]
    assert 0 <= written.Scalars("speed/data_wait_share")[0].value <= 1
    strip = cv2.imdecode(np.frombuffer(written.Images("val/fixed")[-1].encoded_image_string, np.uint8), 1)
    assert strip.shape == (64, 4 * 64, 3)
    assert written.Scalars("best/accuracy")[0].value == pytest.approx(first["accuracy"])  # beside hparams
    assert len(list((tmp_path / "a" / "checkpoints").iterdir())) == checkpoints.KEPT_CHECKPOINTS


@pytest.mark.parametrize(("keep", "step"), [("best", 3), ("last", 6)])
def test_weights_that_stay_are_the_best_or_the_last(data, tmp_path, monkeypatch, keep, step):
    judge, falling = train.judge, iter([0.9, 0.1])

    def judged(*args):
        scores, table = judge(*args)
        return {**scores, "accuracy": next(falling)}, table

    monkeypatch.setattr(train, "judge", judged)
    assert fit(data, tmp_path, replace(QUICK, keep=keep))["step"] == step
    assert runtime.read_card(tmp_path / "best")["step"] == step


@pytest.mark.parametrize("steps", [{}, {"steps": 3}])
def test_as_many_steps_are_measured_as_are_asked_for(data, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(throughput, "STEPS", 2)
    monkeypatch.setattr(throughput, "WARM", 1)
    monkeypatch.setattr(versions, "resolve", lambda *_, **__: SPEC)
    monkeypatch.setattr(recipes, "load_data", lambda _: [])
    monkeypatch.setattr(recipes, "open_samples", lambda *_: data)
    updates, update = [], train.Training.update
    monkeypatch.setattr(
        train.Training, "update", lambda run, parts: updates.append(parts) or update(run, parts)
    )
    said = throughput.report("v", [], tmp_path, tmp_path, 0, {"batch": 4, "precision": "no", **steps})
    assert "training step " in said
    assert len(updates) == 2 * (1 + steps.get("steps", 2)), "the step alone, and with its data"


def test_a_killed_training_resumes_to_the_same_result(data, tmp_path, monkeypatch):
    whole = fit(data, tmp_path / "whole")
    update = train.Training.update

    def killed(run, batch):
        if run.progress.step == 5:  # one step after the last checkpoint
            raise SystemExit
        return update(run, batch)

    monkeypatch.setattr(train.Training, "update", killed)
    with pytest.raises(SystemExit):
        fit(data, tmp_path / "cut")
    monkeypatch.setattr(train.Training, "update", update)
    resumed = fit(data, tmp_path / "cut")
    assert {k: resumed[k] for k in SCORES} == pytest.approx({k: whole[k] for k in SCORES}, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"cut off"),
        ("optimizer.bin", None),
        ("optimizer.bin", b"PK\x03\x04 cut off"),
        ("custom_checkpoint_0.pkl", b"junk"),
        ("custom_checkpoint_0.pkl", b""),
        ("random_states_0.pkl", b""),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(data, tmp_path, name, content):
    whole = fit(data, tmp_path)
    newest, before = tmp_path / "checkpoints" / "step_0000006", tmp_path / "checkpoints" / "step_0000004"
    (newest / name).unlink() if content is None else (newest / name).write_bytes(content)
    with pytest.raises(TrainError, match=r"step_0000006: damaged .* the training goes on from step_0000004"):
        fit(data, tmp_path)
    shutil.rmtree(newest)
    assert before.is_dir()
    resumed = fit(data, tmp_path)
    assert {k: resumed[k] for k in SCORES} == pytest.approx({k: whole[k] for k in SCORES}, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_batch(data, tmp_path):
    with pytest.raises(
        TrainError, match=r"loss is nan at step 1; lower lr; .*nan_batch\.npz and \.png"
    ) as stop:
        fit(data, tmp_path, replace(QUICK, lr=math.inf))
    kept = np.load(tmp_path / "nan_batch.npz")
    assert kept["frames"].shape == (4, 4, 3, 64, 64)
    assert int(kept["step"]) == 1
    draws = mixing.WeightedDraws(data.weights, QUICK.seed).items(np.arange(4, 8))  # those of step 1
    assert kept["index"].tolist() == [index for index, _ in draws]
    for clip, frame, index in zip(kept["clip"], kept["frame"], kept["index"]):
        assert data.train.index[index][1] == frame
        assert f"{clip} {frame}" in str(stop.value)
    assert cv2.imread(str(tmp_path / "nan_batch.png")).shape[0] > 100
    assert not list(tmp_path.glob("*partial*"))
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_checkpoint_without_a_scale_of_gradients_is_not_taken_for_a_damaged_one(data, tmp_path):
    fit(data, tmp_path)
    fp16 = SimpleNamespace(scaler=object(), is_main_process=True, wait_for_everyone=lambda: None)
    with pytest.raises(
        TrainError, match="step_0000006: of a training in bf16 or fp32, while this GPU wants fp16"
    ):
        checkpoints.Checkpoints(tmp_path, fp16).resume()


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_bf16_is_for_gpus_that_do_not_emulate_it(monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
    )
    assert train._precision("auto") == precision


def test_steps_that_fp16_leaves_out_are_no_error_unless_it_never_finds_its_scale(monkeypatch):
    run = object.__new__(train.Training)
    run.accelerator = SimpleNamespace(scaler=object(), optimizer_step_was_skipped=True)
    run.progress, run.dir, run.unchecked, run.skipped = checkpoints.Progress(), "run", None, 0
    run.train = SimpleNamespace(samples=None)
    monkeypatch.setattr(train, "save_batch", lambda *_: "saved")
    for _ in range(train.MAX_SKIPPED):
        run._note([{}], torch.tensor(1.0), torch.tensor(math.inf))
    run.settle()
    run._note([{}], torch.tensor(1.0), torch.tensor(math.inf))
    with pytest.raises(TrainError, match="the gradient is inf at step 0"):
        run.settle()


def test_a_result_at_a_step_that_fp16_left_out_can_be_written():
    run = object.__new__(train.Training)
    run.progress, run.config = checkpoints.Progress(), SimpleNamespace(keep="best", batch=2)
    run.progress.history = [{"step": 1, "train_grad_norm": math.inf, "accuracy": 0.5}]
    run.accelerator = SimpleNamespace(end_training=lambda: None)
    run.log, run._facts = SimpleNamespace(result=lambda *_: None), dict
    found = run.finish()
    assert json.loads(json.dumps(found, allow_nan=False))["train_grad_norm"] is None
    assert found["accuracy"] == 0.5


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
    ids=["cuda", "cpu"],
)
def test_too_little_memory_names_the_batch_to_try(data, tmp_path, monkeypatch, error):
    def forward(*_):
        raise error

    monkeypatch.setattr(train, "training_loss", forward)
    with pytest.raises(TrainError, match=r"batch of 4 in 1 part.*--accumulate 2 .* or --batch 2"):
        fit(data, tmp_path)


@pytest.mark.parametrize(
    ("batch", "parts", "told"),
    [
        (12, 2, r"give --accumulate 3 \(the same 12 samples a step, 4 at once\) or --batch 6$"),
        (15, 3, r"give --accumulate 5 .*, 3 at once\) or --batch 7$"),
        (4, 4, r"in 4 part\(s\); give --batch 2$"),
    ],
)
def test_what_is_said_of_a_full_memory_can_be_done(batch, parts, told, tmp_path):
    with pytest.raises(TrainError, match=told), troubles.memory_named(tmp_path, batch, parts):
        raise MemoryError


def test_other_errors_keep_their_name():
    with pytest.raises(RuntimeError, match="shapes"), troubles.memory_named(Path("run"), 4, 1):
        raise RuntimeError("shapes do not match")


def test_a_batch_in_parts_trains_as_one_batch_does(data, tmp_path, monkeypatch):
    config = replace(QUICK, batch=16, steps=4, val_every=2, checkpoint_every=4)
    fit(data, tmp_path / "whole", config)
    fit(data, tmp_path / "parts", replace(config, accumulate=2))
    whole, parts = (pd.read_csv(tmp_path / name / "history.csv") for name in ("whole", "parts"))
    assert np.allclose(whole["train_loss"], parts["train_loss"], rtol=0.1)  # BatchNorm sees other company
    assert np.allclose(whole["loss"], parts["loss"], rtol=0.1)
    with pytest.raises(UsageError, match="--accumulate 3: does not divide a batch of 16"):
        replace(config, accumulate=3)
    monkeypatch.setattr(train.Accelerator, "num_processes", 3)
    with pytest.raises(TrainError, match="16 cannot be cut into 3 equal parts"):
        fit(data, tmp_path / "thirds", config)


def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(data, tmp_path, monkeypatch):
    """With BatchNorm's averages fixed, and a loss that weighs every sample alike."""

    def loss(spec, predicted, xy, history):
        return {"loss": predicted.visible_logit.square().mean() + predicted.offset.square().mean()}

    monkeypatch.setattr(train, "training_loss", loss)

    def gradients(accumulate):
        config = replace(QUICK, batch=8, accumulate=accumulate, clip_norm=1e9)
        args = SPEC, data.train, data.val, tmp_path / str(accumulate), config, None, data.weights
        run = train.Training(*args)
        run.net.eval()
        kept = []

        def keep():
            kept.extend(p.grad.clone() for p in run.net.parameters() if p.grad is not None)

        monkeypatch.setattr(run.optimizer, "step", keep)
        run.update(next(run.steps()))
        run.log.close()
        return torch.cat([grad.flatten() for grad in kept])

    whole, halves, quarters = (gradients(n) for n in (1, 2, 4))
    assert whole.norm() > 0
    for parts in (halves, quarters):
        assert (whole - parts).norm() < 0.05 * whole.norm()  # bfloat16 where the processor has it


def test_crops_of_training_may_be_wider_than_what_the_network_is_asked_in_the_end(data, tmp_path):
    spec = replace(SPEC, crop_scale=1.5)
    dataset = [cache_.clip for split in (data.train, data.val) for cache_ in split.caches]
    wide = recipes.open_samples(spec, dataset, tmp_path / "cache")
    assert wide.train[0]["frames"].shape[-2:] == (96, 96)
    assert wide.val[0]["frames"].shape[-2:] == (64, 64)
    narrow_px, wide_px = (part.plan([0, 1, 2, 3]).window[:, 2] for part in (data.train, wide.train))
    np.testing.assert_allclose(wide_px / narrow_px, 1.5, rtol=1e-6)  # they show more, at the same scale
    train.fit(spec, wide.train, wide.val, tmp_path / "run", QUICK, wide.weights)
    assert networks.load(tmp_path / "run" / "best").net.spec == spec
    assert runtime.read_card(tmp_path / "run" / "best")["input_hw"] == (64, 64)


def test_another_seed_of_the_samples_is_another_training(data, tmp_path):
    fit(data, tmp_path)
    other = samples.Samples(data.train.caches, SPEC, data.train.augmentation, data.train.seed + 1)
    with pytest.raises(TrainError, match=r"holds another training: sample_seed 0 \(now 1\);"):
        train.fit(SPEC, other, data.val, tmp_path, QUICK, data.weights)


@pytest.mark.parametrize(("version", "unit"), [("stage1_v5", 512 / 256), ("stage2_v8", 1.0)])
def test_validation_counts_what_a_network_answers(version, unit):
    """Six samples with planted answers: near, just inside, just outside, a miss, a false alarm, none."""
    spec = versions.resolve(version, input_hw=(144, 256))
    inside = 4 / unit  # input px
    truth = torch.tensor([[50.0, 40.0]] * 4 + [[math.nan] * 2] * 2)
    off = torch.tensor([0.5, 0.97 * inside, 1.03 * inside, 0.0, 0.0, 0.0])
    said = torch.tensor([True, True, True, False, True, False])
    answers = torch.stack([50.0 + off, torch.full((6,), 40.0)], 1)

    class Net:
        def __init__(self):
            self.spec = spec

        def __call__(self, frames, history):
            return SimpleNamespace(at=frames[:, 0].long(), visible_logit=said[frames[:, 0].long()] * 2.0 - 1)

        def decode(self, prediction, count):
            return (answers[prediction.at][:, None],)

    class Planted:
        samples = range(6)

        def batches(self, lists):
            for chosen in lists:
                at = torch.tensor(chosen)
                yield {"frames": at[:, None].float(), "history": None, "xy": truth[at]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            validation, "training_loss", lambda _, __, xy, ___: {"loss": torch.tensor(1.0 / len(xy))}
        )
        scores, table = validation.judge(Net(), Planted(), 4, 6)
    assert scores["loss"] == pytest.approx((4 * 1 / 4 + 2 * 1 / 2) / 6)  # a sample counts once
    assert scores["accuracy"] == pytest.approx(3 / 6)  # two hits, one silence
    assert scores["fp2_share"] == 0.5
    assert scores["error_px"] == pytest.approx((0.5 + 0.97 * inside) * unit / 2, rel=1e-4)
    to_grid = 1.0 if spec.stage == 1 else 512 / 1280
    gaps = sorted((off[:4] * unit * to_grid).tolist())
    assert scores["median_px"] == pytest.approx((gaps[1] + gaps[2]) / 2, rel=1e-4)
    assert scores["accuracy_512"] == pytest.approx((3 if spec.stage == 1 else 4) / 6)
    assert table["wrong"].tolist() == [False, False, True, True, True, False]


def test_the_device_path_trains_and_resumes_alike(data, tmp_path, monkeypatch):
    config = replace(QUICK, steps=4, data_path="device")
    whole = fit(data, tmp_path / "whole", config)
    monkeypatch.setattr(train.Training, "after_step", stop_at(3, train.Training.after_step))
    with pytest.raises(SystemExit):
        fit(data, tmp_path / "cut", config)
    monkeypatch.undo()
    resumed = fit(data, tmp_path / "cut", config)
    assert {k: resumed[k] for k in SCORES} == {k: whole[k] for k in SCORES}


def stop_at(step, after_step):
    def stop(run, losses):
        if run.progress.step == step:
            raise SystemExit
        return after_step(run, losses)

    return stop


def test_nothing_to_train_on_is_said(data, tmp_path):
    empty = samples.Samples([], SPEC)
    with pytest.raises(TrainError, match="0 training"):
        train.fit(SPEC, empty, data.val, tmp_path, QUICK)


@pytest.mark.slow
def test_a_network_learns_what_it_is_shown(data, tmp_path):
    config = TrainConfig(steps=150, batch=16, lr=3e-3, val_every=150, val_samples=40)
    shown = samples.Samples(data.train.caches, SPEC)
    result = train.fit(SPEC, shown, shown, tmp_path, config)
    assert result["accuracy"] > 0.8
    assert result["error_px"] < 2.0


def test_learning_rate_warms_up_then_falls():
    config = TrainConfig(steps=100, batch=1, lr=1.0, warmup_share=0.1)
    rates = [train._learning_rate(config, step) for step in range(100)]
    assert np.all(np.diff(rates[:10]) > 0)
    assert rates[9] == pytest.approx(1.0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 0.02


def test_pretrained_backbones_learn_slower_and_norms_do_not_decay():
    net = networks.build(SPEC)
    optimizer = train._optimizer(net, versions.resolve("stage2_v5"), 1e-3)
    kinds = {(g["lr_scale"], g["weight_decay"] > 0) for g in optimizer.param_groups}
    assert kinds == {(0.1, True), (0.1, False), (1.0, True), (1.0, False)}
    for group in optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


def test_average_follows_the_network():
    net = networks.build(SPEC)
    average = checkpoints.Average(net, 0.9)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    for step in range(200):
        average.update(net, step)
    ours, theirs = average.net.state_dict(), net.state_dict()
    assert all(torch.allclose(ours[k].float(), theirs[k].float(), atol=1e-3) for k in ours)


def test_an_average_that_goes_on_is_what_each_tensor_alone_would_be():
    net = networks.build(SPEC).to(memory_format=torch.channels_last)
    average = checkpoints.Average(net, 0.9)
    expected = {name: value.clone().contiguous() for name, value in average.state_dict().items()}
    draws = torch.Generator().manual_seed(0)
    for step in range(8):
        with torch.no_grad():
            for name, value in net.state_dict().items():
                change = torch.rand(value.shape, generator=draws)
                value.copy_(value + change if value.is_floating_point() else value + 1)
                old, share = expected[f"net.{name}"], 1 - min(0.9, (1 + step) / (10 + step))
                expected[f"net.{name}"] = (
                    old.lerp(value, share) if value.is_floating_point() else value.clone()
                )
        if step == 4:  # a checkpoint, and what resumes from it
            state, average = average.state_dict(), checkpoints.Average(net, 0.9)
            average.load_state_dict(state)
        average.update(net, step)
    assert list(average.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in average.state_dict().items())
    kernels = [value for value in average.state_dict().values() if value.ndim == 4]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels)


def test_distractors_are_false_places_and_never_the_shuttle(data, tmp_path):
    spec = versions.resolve("stage1_v5", input_hw=(96, 160))
    dataset = [cache.clip for cache in data.val.caches]
    wholes = cache.open_caches(dataset, tmp_path, spec.input_hw)
    model = networks.Deployed(networks.build(spec)).eval()
    found = mining.distractors(model, wholes, apart_px=60.0)
    clip = wholes[0].clip
    places = found[clip.name]
    assert places.shape == (len(wholes[0]), CANDIDATES, 2)
    table = clip.table.set_index("frame")
    gap = np.hypot(*np.moveaxis(places - table[["x_px", "y_px"]].to_numpy()[:, None], 2, 0))
    assert np.isfinite(places).any()
    assert not (gap < 15).any()  # 60 canonical px are 15 at 320x180
    crops = samples.Samples(
        data.val.caches, SPEC, distractors=found, policy=samples.CropPolicy(elsewhere_share=1.0)
    )
    at_false = 0
    for draw in range(40):
        window = crops.window(draw % len(wholes[0]), draw)
        center = np.array([window.x0 + window.w / 2, window.y0 + window.h / 2])
        at_false += bool(np.nanmin(np.hypot(*(places[draw % len(wholes[0])] - center).T)) < 12)
    assert at_false > 10


def test_a_folder_that_holds_another_training_is_refused(data, tmp_path):
    fit(data, tmp_path)
    again = fit(data, tmp_path)
    assert again["steps"] == QUICK.steps  # the same one is simply done
    with pytest.raises(TrainError, match=r"another training: config\.seed 0 \(now 9\)"):
        fit(data, tmp_path, replace(QUICK, seed=9))
    with pytest.raises(TrainError, match="another training: weights "):
        fit(replace(data, weights=data.weights * np.arange(1, 1 + len(data.weights))), tmp_path)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stop_finishes_the_step_even_within_a_validation(data, tmp_path, monkeypatch, kind):
    whole = fit(data, tmp_path / "whole")
    judge, presses = train.judge, []

    def pressed(*args):
        if not presses:
            presses.append(signal.raise_signal(kind))
        return judge(*args)

    monkeypatch.setattr(train, "judge", pressed)
    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path / "cut")
    resumed = fit(data, tmp_path / "cut")
    assert {k: resumed[k] for k in SCORES} == pytest.approx({k: whole[k] for k in SCORES}, abs=1e-6)
    assert (tmp_path / "cut" / "history.csv").read_text().count("\n") == 3


def test_fine_tuning_starts_from_the_given_weights_of_the_same_version(data, tmp_path):
    still = replace(QUICK, steps=1, lr=0.0)
    fit(data, tmp_path / "base")
    fit(data, tmp_path / "tuned", still, init=tmp_path / "base" / "best")
    fit(data, tmp_path / "fresh", still)
    base, tuned, fresh = (
        list(networks.load(tmp_path / run / "best").net.parameters()) for run in ("base", "tuned", "fresh")
    )
    assert all(map(torch.equal, tuned, base))
    assert not all(map(torch.equal, fresh, base))
    other = versions.resolve("stage2_v8", input_hw=(64, 64))
    networks.save(networks.build(other), tmp_path / "other")
    with pytest.raises(ShuttleError, match="do not fit"):
        fit(data, tmp_path / "wrong", init=tmp_path / "other")


def test_weights_to_start_from_are_told_by_what_they_are_and_not_by_how_their_path_is_written(
    data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        networks.save(networks.build(SPEC), tmp_path / name)
    run, quick = tmp_path / "run", replace(QUICK, steps=1)
    for path in (Path("a"), tmp_path / "a", Path("b/../a")):
        assert fit(data, run, quick, init=path)["steps"] == 1
    with pytest.raises(TrainError, match=r"another training: init 'b/../a' \(now 'b'\), init_sha256 '"):
        fit(data, run, quick, init=Path("b"))
    with pytest.raises(TrainError, match=r"another training: init 'b/../a' \(now ''\), init_sha256 '"):
        fit(data, run, quick)
    held = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({key: held[key] for key in held if key != "init_sha256"}))
    for path in (Path("a"), None):  # as an old release left it, with nothing but the path to go by
        with pytest.raises(TrainError, match=rf"another training: init 'b/../a' \(now '{path or ''}'\);"):
            fit(data, run, quick, init=path)
    assert fit(data, run, quick, init=Path("b/../a"))["steps"] == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"precision": "x"}, "--precision x: choose one of auto, bf16, fp16, no"),
        pytest.param(
            {"precision": "fp16"},
            "--precision fp16: needs a GPU; choose bf16, no or auto",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ({"data_path": "x"}, "--data-path x: choose one of auto, cpu, device"),
        ({"keep": "x"}, "^keep x: choose one of best, last"),
        ({"batch": 4, "accumulate": 3}, "--accumulate 3: does not divide a batch of 4"),
        ({"init": "none"}, r"none.model\.safetensors is missing"),
        ({"init": "other"}, "do not fit stage2_v8: size mismatch for "),
    ],
)
def test_what_cannot_be_trained_with_is_told_before_anything_is_decoded(tmp_path, monkeypatch, config, words):
    monkeypatch.setattr(recipes, "open_samples", lambda *_: pytest.fail("decoded"))
    networks.save(networks.build(replace(SPEC, neck_channels=8)), tmp_path / "other")
    config = {name: tmp_path / value if name == "init" else value for name, value in config.items()}
    with pytest.raises(ShuttleError, match=words):
        recipes.train_on(SPEC, [], tmp_path / "run", tmp_path / "cache", **config)


@pytest.mark.parametrize("empty", ["train", "val"])
def test_a_split_without_clips_is_told_before_anything_is_decoded(data, tmp_path, monkeypatch, empty):
    monkeypatch.setattr(recipes, "open_samples", lambda *_: pytest.fail("decoded"))
    dataset = [each.clip for part in (data.train, data.val) for each in part.caches]
    others = [clip for clip in dataset if clip.split != empty]
    folder = others[0].video_path.parent
    with pytest.raises(ShuttleError, match=f"^{folder}: no clip is in split '{empty}'; `shuttle data split`"):
        recipes.train_on(SPEC, others, tmp_path / "run", tmp_path / "cache")


def test_folders_that_disagree_about_a_venue_are_not_joined(tmp_path):
    for seed, name in ((1, "a"), (2, "b")):
        synth.make_dataset(tmp_path / name, 2, seed=seed, size_hw=(48, 64), frame_count=2, val_share=0.5)
    assert len(recipes.load_data([tmp_path / "a", tmp_path / "b"])) == 4
    with pytest.raises(ShuttleError, match="in more than one"):
        recipes.load_data([tmp_path / "a", tmp_path / "a"])
    rows = (tmp_path / "b" / "splits.csv").read_text().splitlines()
    venue = (tmp_path / "a" / "splits.csv").read_text().splitlines()[1].split(",")[1:]
    swapped = {"train": "val", "val": "train"}[venue[1]]
    rows[1] = f"{rows[1].split(',')[0]},{venue[0]},{swapped}"
    (tmp_path / "b" / "splits.csv").write_text("\n".join(rows))
    with pytest.raises(ShuttleError, match=venue[0]):
        recipes.load_data([tmp_path / "a", tmp_path / "b"])


def test_one_video_in_two_splits_is_refused(tmp_path):
    synth.make_dataset(tmp_path / "a", 2, seed=1, size_hw=(48, 64), frame_count=2, val_share=0.5)
    (clip,) = clips.split(clips.load_dataset(tmp_path / "a"), "train")
    (tmp_path / "b").mkdir()
    for suffix in (".mp4", ".parquet"):
        shutil.copy(clip.video_path.with_suffix(suffix), tmp_path / "b" / f"other{suffix}")
    path = tmp_path / "b" / "other.parquet"
    table, info = labels.read_table(path)
    labels.write_table(path, table.assign(clip="other"), info)
    (tmp_path / "b" / "splits.csv").write_text("clip,venue,split\nother,elsewhere,val\n")
    with pytest.raises(ShuttleError, match=r"other\.mp4 \(val\) is the same video as .*\(train\): put both"):
        recipes.load_data([tmp_path / "a", tmp_path / "b"])
    for path in tmp_path.rglob("*.parquet"):  # labels that do not know their video's hash
        table, info = labels.read_table(path)
        labels.write_table(path, table, replace(info, video_sha256=""))
    assert len(recipes.load_data([tmp_path / "a", tmp_path / "b"])) == 3


def test_rendering_never_goes_into_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "match.mp4").write_bytes(b"mine")
    with pytest.raises(ShuttleError, match="holds files but no clips"):
        recipes.ensure_data(tmp_path, "quick", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["match.mp4"]
