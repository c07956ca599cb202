import math
import signal

import numpy as np
import pytest
import torch

from shuttlelib import cache, checkpoints, clips, mining, networks, recipes, samples, synth, train, versions
from shuttlelib.errors import ShuttleError
from shuttlelib.train import TrainConfig, TrainError

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
    return train.fit(SPEC, data.train, data.val, run_dir, config, data.weights, progress=False, **kwargs)


def test_training_repeats_and_leaves_a_model_and_curves(data, tmp_path):
    first, second = fit(data, tmp_path / "a"), fit(data, tmp_path / "b")
    assert {k: first[k] for k in SCORES} == {k: second[k] for k in SCORES}
    assert first["steps"] == 6
    assert networks.load(tmp_path / "a" / "best").net.spec == SPEC
    assert (tmp_path / "a" / "history.csv").read_text().count("\n") == 3
    assert list((tmp_path / "a").rglob("events.out.tfevents.*"))
    assert len(list((tmp_path / "a" / "checkpoints").iterdir())) == checkpoints.KEPT_CHECKPOINTS


def test_a_killed_training_resumes_to_the_same_result(data, tmp_path, monkeypatch):
    whole = fit(data, tmp_path / "whole")
    update = train._Run.update

    def killed(run, batch):
        if run.progress.step == 5:  # one step after the last checkpoint
            raise SystemExit
        return update(run, batch)

    monkeypatch.setattr(train._Run, "update", killed)
    with pytest.raises(SystemExit):
        fit(data, tmp_path / "cut")
    monkeypatch.setattr(train._Run, "update", update)
    resumed = fit(data, tmp_path / "cut")
    assert {k: resumed[k] for k in SCORES} == pytest.approx({k: whole[k] for k in SCORES}, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_step(data, tmp_path):
    with pytest.raises(TrainError, match=r"loss is nan at step \d"):
        fit(data, tmp_path, TrainConfig(**{**vars(QUICK), "lr": math.inf}))


def test_nothing_to_train_on_is_said(data, tmp_path):
    empty = samples.Samples([], SPEC)
    with pytest.raises(TrainError, match="0 training"):
        train.fit(SPEC, empty, data.val, tmp_path, QUICK, progress=False)


@pytest.mark.slow
def test_a_network_learns_what_it_is_shown(data, tmp_path):
    config = TrainConfig(steps=150, batch=16, lr=3e-3, val_every=150, val_samples=40)
    shown = samples.Samples(data.train.caches, SPEC)
    result = train.fit(SPEC, shown, shown, tmp_path, config, progress=False)
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


def perfect_but(data, wrong):
    """A stand-in model: the truth of each sample by its pixels, except for `wrong` {index: (dx, p)}."""

    def model(frames, history):
        xy, visible = torch.zeros(len(frames), 1, 2), torch.zeros(len(frames))
        for i, image in enumerate(frames):
            number = next(
                n for n, item in enumerate(items) if torch.equal(item["frames"].permute(0, 2, 3, 1), image)
            )
            truth = items[number]["xy"]
            seen = bool(torch.isfinite(truth).all())
            shift, p = wrong.get(number, (0.0, 0.99 if seen else 0.01))
            xy[i, 0], visible[i] = torch.nan_to_num(truth) + shift, p
        return xy, None, visible

    items = [data[n] for n in range(len(data))]
    return model


def test_mining_finds_what_is_wrong_and_spares_suspect_labels(data):
    shown = samples.Samples(data.val.caches, SPEC)
    seen = [n for n in range(len(shown)) if torch.isfinite(shown[n]["xy"]).all()]
    gone = [n for n in range(len(shown)) if n not in seen]
    wrong = {seen[0]: (0.0, 0.1), seen[1]: (8.0, 0.9), gone[0]: (0.0, 0.8), seen[2]: (30.0, 0.97)}
    scores = mining.score(perfect_but(shown, wrong), shown, passes=1, batch=8).set_index("index")
    kinds = {n: scores.loc[n, "kind"] for n in wrong}
    assert kinds == {seen[0]: "miss", seen[1]: "misplaced", gone[0]: "false_alarm", seen[2]: "misplaced"}
    assert set(scores.index[scores["kind"] != ""]) == set(wrong)
    assert list(mining.suspects(scores.reset_index())["index"]) == [seen[2]]
    hard = mining.hard_examples(scores.reset_index(), 10)
    assert set(hard["index"]) == set(wrong) - {seen[2]}
    weights = mining.mixed_weights(np.ones(len(shown)), hard, 0.3)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[hard["index"]].sum() == pytest.approx(0.3 + 0.7 * 3 / len(shown))


def test_a_mining_round_writes_its_index_and_compares(data, tmp_path):
    fit(data, tmp_path / "base")
    result = recipes.mine_round(
        tmp_path / "base" / "best", data, tmp_path / "mined", passes=2, at_most=5, steps=2, batch=4
    )
    assert set(result) == {"before", "after", "hard", "suspects"}
    assert 0 < result["hard"] <= 5
    for name in ("scores.parquet", "hard.parquet", "suspects.parquet", "best/model.safetensors"):
        assert (tmp_path / "mined" / name).is_file()


def test_distractors_are_false_places_and_never_the_shuttle(data, tmp_path):
    spec = versions.resolve("stage1_v5", input_hw=(96, 160))
    dataset = [cache.clip for cache in data.val.caches]
    wholes = cache.open_caches(dataset, tmp_path, spec.input_hw)
    model = networks.Deployed(networks.build(spec)).eval()
    found = mining.distractors(model, wholes, apart_px=60.0)
    clip = wholes[0].clip
    places = found[clip.name]
    assert places.shape == (len(wholes[0]), networks.CANDIDATES, 2)
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
        fit(data, tmp_path, TrainConfig(**{**vars(QUICK), "seed": 9}))


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
    fit(data, tmp_path / "base")
    tuned = fit(data, tmp_path / "tuned", init=tmp_path / "base" / "best")
    assert tuned["loss"] != pytest.approx(fit(data, tmp_path / "fresh")["loss"])
    other = versions.resolve("stage2_v8", input_hw=(64, 64))
    networks.save(networks.build(other), tmp_path / "other")
    with pytest.raises(ShuttleError, match="do not fit"):
        fit(data, tmp_path / "wrong", init=tmp_path / "other")


def test_folders_that_disagree_about_a_venue_are_not_joined(tmp_path):
    for seed, name in ((1, "a"), (2, "b")):
        synth.make_dataset(tmp_path / name, 2, seed=seed, size_hw=(48, 64), frame_count=2, val_share=0.5)
    assert len(recipes.load_data([tmp_path / "a", tmp_path / "b"])) == 4
    with pytest.raises(ShuttleError, match="in more than one"):
        recipes.load_data([tmp_path / "a", tmp_path / "a"])
    rows = (tmp_path / "b" / "splits.csv").read_text().splitlines()
    venue = (tmp_path / "a" / "splits.csv").read_text().splitlines()[1].split(",")[1:]
    swapped = {"train": "val", "val": "train"}[venue[1]]
    (tmp_path / "b" / "splits.csv").write_text(f"{rows[0]}\n{rows[1].split(',')[0]},{venue[0]},{swapped}\n")
    with pytest.raises(ShuttleError, match=venue[0]):
        recipes.load_data([tmp_path / "a", tmp_path / "b"])


def test_rendering_never_goes_into_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "match.mp4").write_bytes(b"mine")
    with pytest.raises(ShuttleError, match="holds files but no clips"):
        recipes.ensure_data(tmp_path, "quick", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["match.mp4"]
