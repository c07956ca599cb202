"""Planted truth: on clips of a bright dot a model that finds the brightest pixel is right by construction."""

import json
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch

from shuttlelib import cache, clips, clusters, importers, labels, mining, networks, recipes, samples, versions
from shuttlelib.cli import run
from shuttlelib.errors import UsageError
from shuttlelib.mining import MiningError

HW = (360, 640)  # half of 1280x720, so that distances in native px and in canonical px differ
SPEC1 = versions.resolve("stage1_v5", input_hw=(96, 160))
SPEC2 = versions.resolve(
    "stage2_v8", input_hw=(160, 160), backbone="mobilenetv4_conv_small_050", neck_channels=16
)
FRAMES = 24


def path(frame):
    """Native px: the dot moves right and down, 4 px a frame."""
    return np.array([80.0 + 4 * frame, 60.0 + 2 * frame])


class Brightest:
    """A model that is right: the brightest pixel is the shuttle."""

    candidates = 2

    def __init__(self, spec):
        self.net = SimpleNamespace(spec=spec)

    def parameters(self):
        return iter([torch.zeros(1)])

    def __call__(self, frames, history):
        light = frames[:, -1].float().mean(-1)
        flat = light.flatten(1)
        top, best = flat.max(1)
        xy = torch.stack([best % light.shape[2], best // light.shape[2]], -1).float() + 0.5
        corner = torch.full_like(xy, 3.0)
        p = torch.sigmoid((top - flat.median(1).values - 25) / 2)
        return torch.stack([xy, corner], 1), None, p


def draw(frame, dot=True):
    y, x = np.mgrid[: HW[0], : HW[1]] + 0.5
    peak = np.exp(-((x - path(frame)[0]) ** 2 + (y - path(frame)[1]) ** 2) / 18)
    return np.repeat((60 + 180 * dot * peak).astype(np.uint8)[..., None], 3, -1)


@pytest.fixture
def make(tmp_path, tiny_video):
    """`make(name, wrong={frame: (dx, dy) or None}, dark=(frames without a dot))`: planes and whole frames."""

    def one(name="a", wrong=(), dark=(), split="train"):
        video = tiny_video(f"{name}.mp4", FRAMES, HW, draw=lambda n: draw(n, n not in dark))
        info = clips.probe(video)
        xy = np.array([path(n) for n in range(FRAMES)])
        visible = np.ones(FRAMES, bool)
        for frame, shift in dict(wrong).items():
            visible[frame] = shift is not None
            xy[frame] += shift or 0
        table = labels.make_table(name, range(FRAMES), visible, *xy.T, "tracknet_csv")
        return clips.Clip(name, video, table, info, f"venue {name}", split)

    return one


def opened(dataset, folder):
    planes = cache.open_caches(dataset, folder, None)
    wholes = cache.open_caches(dataset, folder, SPEC1.input_hw)
    return planes, mining.Pair(Brightest(SPEC1), Brightest(SPEC2), wholes, planes)


def at(table, column):
    return table.loc[table[column] != "" if column == "kind" else table[column], "frame"].tolist()


def looks(passes, **changes):
    return mining.MiningParams(passes=passes, **changes)


WRONG = {5: (28, 0), 9: (-20, 15), 14: (200, 100)}  # native px; the last is beyond any crop around the label


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("passes", [1, 3])
def test_wrong_labels_are_suspects_and_nothing_else_is(make, tmp_path, stage, passes):
    planes, pair = opened([make("a", WRONG), make("b")], tmp_path)
    model, seen = (pair.stage1, pair.wholes) if stage == 1 else (pair.stage2, planes)
    scores = mining.score(model, samples.Samples(seen, model.net.spec), looks(passes), pair=pair)
    found = mining.suspects(scores)
    assert list(zip(found["clip"], found["frame"])) == [("a", 14), ("a", 5), ("a", 9)]
    assert (mining.hard_examples(scores, 99)["clip"] == "a").sum() == 0
    answer = found[["x_px", "y_px"]].to_numpy()
    assert np.abs(answer - [path(n) for n in found["frame"]]).max() < 5


def test_a_suspect_of_mirrored_looks_is_still_consistent(make, tmp_path):
    planes, _ = opened([make("a", {5: (25, 0)})], tmp_path)
    scores = mining.score(Brightest(SPEC2), samples.Samples(planes, SPEC2), looks(4))
    row = scores.set_index("frame").loc[5]
    assert row["spread_px"] < 2
    assert row["error_px"] == pytest.approx(50, abs=3)  # 25 native px are 50 at 1280x720


def test_a_label_that_blinks_is_suspect_only_where_the_shuttle_is_seen(make, tmp_path):
    blinks = {4: None, 10: None, 11: None, 15: None, 23: None}
    planes, _ = opened([make("a", blinks, dark=(15,))], tmp_path)
    scores = mining.score(Brightest(SPEC2), samples.Samples(planes, SPEC2), looks(2))
    assert at(scores, "suspect") == [4, 10, 11]  # 15 is truly hidden, 23 ends the track
    assert at(scores, "kind") == [4, 10, 11, 23]


def test_known_failures_are_the_hard_ones_by_kind(make, tmp_path):
    # no dot where one is labelled: a miss; a dot where none is labelled: a false alarm
    clip = make("a", {23: None, 8: (7, 0)}, dark=(15, 16))
    planes, _ = opened([clip], tmp_path)
    scores = mining.score(Brightest(SPEC2), samples.Samples(planes, SPEC2), looks(2))
    kinds = scores.set_index("frame")["kind"]
    assert kinds[kinds != ""].to_dict() == {8: "misplaced", 15: "miss", 16: "miss", 23: "false_alarm"}
    assert not scores["suspect"].any()
    assert set(mining.hard_examples(scores, 99)["frame"]) == {8, 15, 16, 23}
    assert mining.hard_examples(scores, 2)["wrong"].tolist() == [1.0, 1.0]


def test_stages_that_disagree_are_hard(make, tmp_path):
    planes, pair = opened([make()], tmp_path)
    shifted = dict.fromkeys((6, 7), (0.0, 90.0))

    class Elsewhere(Brightest):
        seen = 0

        def __call__(self, frames, history):
            xy, score, p = super().__call__(frames, history)
            for i in range(len(frames)):
                xy[i, 0] += torch.tensor(shifted.get(self.seen, (0.0, 0.0))) / 4
                self.seen += 1
            return xy, score, p

    pair = pair._replace(stage1=Elsewhere(SPEC1))
    scores = mining.score(pair.stage2, samples.Samples(planes, SPEC2), looks(1), pair=pair)
    assert at(scores, "kind") == [6, 7]
    assert set(scores["kind"]) == {"", "disagreement"}


def test_places_survive_every_look(make, tmp_path):
    planes, pair = opened([make()], tmp_path)
    for model, caches in ((pair.stage1, pair.wholes), (pair.stage2, planes)):
        scores = mining.score(model, samples.Samples(caches, model.net.spec), looks(5))
        assert scores["error_px"].max() < 9  # stage 1's pixels are 8 of 1280x720
        assert (scores["kind"] == "").all()


def test_every_nth_frame_and_senseless_numbers(make, tmp_path):
    planes, _ = opened([make()], tmp_path)
    few = mining.score(Brightest(SPEC2), samples.Samples(planes, SPEC2), looks(1, every=10))
    assert few["frame"].tolist() == [0, 10, 20]
    for wrong in (
        {"passes": 0},
        {"every": 0},
        {"hard_share": 1.0},
        {"hard_share": -0.1},
        {"hard_share": np.nan},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            mining.MiningParams(**wrong)


def test_mixed_weights_give_the_hard_their_share():
    hard = pd.DataFrame({"index": [2, 3]})
    weights = mining.mixed_weights(np.ones(10), hard, 0.3)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[[2, 3]].sum() == pytest.approx(0.3 + 0.7 * 0.2)
    assert (mining.mixed_weights(np.ones(10), hard[:0], 0.3) == 1).all()
    doubted = mining.mixed_weights(np.array([1.0, 1.0, 0.0, 1.0]), hard, 0.3)  # a label that blinks
    assert doubted[2] == 0
    assert doubted[3] == pytest.approx(0.3 + 0.7 / 3)


def test_an_index_finds_its_rows_again_and_names_those_it_cannot(make, tmp_path):
    data = samples.Samples(opened([make("a"), make("b")], tmp_path)[0], SPEC2)
    index, facts = tmp_path / "hard.parquet", {"seed": 1, "weights": ["x"]}
    mining.write_index(index, pd.DataFrame({"clip": ["b", "a"], "frame": [3, 0]}), facts)
    assert mining.read_index(index, data)["index"].tolist() == [FRAMES + 3, 0]
    assert mining.stored(index, facts) is not None
    assert mining.stored(index, {**facts, "seed": 2}) is None
    assert mining.stored(tmp_path / "none.parquet", facts) is None
    mining.write_index(index, pd.DataFrame({"clip": ["b", "a"], "frame": [3, FRAMES]}))
    with pytest.raises(MiningError, match=rf"row 2: clip a, frame {FRAMES} is not in the data"):
        mining.read_index(index, data)
    index.write_text("no Parquet")
    with pytest.raises(MiningError, match="mine again"):
        mining.read_index(index, data)


def test_compare_counts_what_was_fixed_and_what_broke():
    def rows(kinds, errors):
        visible = [kind != "false_alarm" for kind in kinds]
        p = [0.1 if kind == "miss" else 0.9 for kind in kinds]
        table = pd.DataFrame({"kind": kinds, "visible": visible, "p_visible": p, "error_px": errors})
        off = np.arange(len(kinds)) == 4  # stage 1 sees something there; stage 2 is fooled where it fails
        return table.assign(off=off, p_pair=[0.7 if kind == "false_alarm" else 0.2 for kind in kinds])

    nan = np.nan
    before = rows(["", "", "miss", "misplaced", "false_alarm"], [1, 1, nan, 30, nan])
    after = rows(["", "miss", "", "misplaced", ""], [1, nan, 3, 20, 2])
    table = mining.compare(before, after, 10.0)
    assert table.loc["all", ["frames", "fixed", "broken"]].tolist() == [5, 2, 1]
    assert table.loc["false_alarm", "fp2_share_before"] == 1.0
    assert table.loc["false_alarm", "fp2_share_after"] == 0.0
    assert table.loc["ordinary", "accuracy_before"] == 1.0
    assert table.loc["ordinary", "accuracy_after"] == 0.5
    assert table.loc["miss", "accuracy_after"] == 1.0
    assert table.loc["hard", "error_px_after"] == 2.5


def test_clusters_separate_two_planted_groups_and_name_them():
    rng = np.random.default_rng(0)
    usual = pd.DataFrame(rng.normal(0, 1, (200, len(clusters.MEASURES))), columns=list(clusters.MEASURES))
    failed = usual[:40].copy()
    failed["kind"] = "miss"
    failed.loc[failed.index[:25], "speed_px"] += 8
    failed.loc[failed.index[25:], "brightness"] += 8
    table = clusters.cluster(failed, usual, groups=2)
    assert table.sort_index()["cluster"].tolist() == [0] * 25 + [1] * 15
    first, second = table["cause"].unique()
    assert first.startswith("miss: faster")
    assert second.startswith("miss: brighter")
    assert len(clusters.cluster(failed[:0], usual)) == 0
    assert clusters.cluster(failed[:1], usual)["cluster"].tolist() == [0]
    assert clusters.cluster(failed[:3], usual, groups=9)["cluster"].nunique() <= 3


def test_measures_say_what_was_drawn(make, tmp_path):
    planes, _ = opened([make("a", {0: None, 1: None, 2: None})], tmp_path)
    scores = mining.score(Brightest(SPEC2), samples.Samples(planes, SPEC2), looks(1))
    rows = clusters.describe(scores, planes).set_index("frame")
    assert rows.loc[10, "speed_px"] == pytest.approx(np.hypot(8, 4), abs=0.1)  # twice the native step
    assert rows.loc[10, "edge_px"] == pytest.approx(160, abs=1)
    assert rows.loc[10, "from_top"] == pytest.approx(path(10)[1] / HW[0], abs=0.01)
    assert rows.loc[10, "stands_out"] > 100
    assert rows.loc[10, "hidden_frames"] == 0
    assert rows.loc[3, "hidden_frames"] >= 3
    images, answers, truths = clusters.close_ups(scores[scores["frame"] == 10], planes, 64)
    assert images[0].shape == (64, 64, 3)
    assert np.abs(answers[0] - truths[0]).max() < 4
    assert images[0][int(truths[0][1]), int(truths[0][0])].min() > 200


def test_suspects_go_to_label_studio_and_come_back(make, tmp_path):
    planes, pair = opened([make("Lin & Lee #1", WRONG)], tmp_path)
    scores = mining.score(pair.stage2, samples.Samples(planes, SPEC2), looks(1), pair=pair)
    found = mining.suspects(scores)
    tasks = clusters.export_suspects(found, planes, tmp_path / "suspects", "stage2_v8")
    back = importers.read_labels(tasks)
    wanted = planes[0].clip.table.set_index("frame").loc[found["frame"], ["x_px", "y_px"]]
    assert back["clip"].tolist() == ["Lin & Lee #1"] * 3
    assert back["visible"].all()
    assert back[["x_px", "y_px"]].to_numpy() == pytest.approx(wanted.to_numpy())
    task = json.loads(tasks.read_text())[0]
    (picture,) = parse_qs(urlsplit(task["data"]["image"]).query)["d"]
    assert (tmp_path / "suspects" / picture).stat().st_size > 1000
    assert task["predictions"][0]["model_version"] == "stage2_v8"
    point = task["predictions"][0]["result"][0]["value"]
    assert (point["x"] * 6.4, point["y"] * 3.6) == pytest.approx(path(task["data"]["frame"]), abs=5)


@pytest.fixture
def round_of(make, tmp_path, monkeypatch):
    """`round_of(**changes)`: a round on planted clips with real, untrained networks."""
    spec = versions.resolve("stage2_v8", input_hw=(64, 64), backbone=SPEC2.backbone, neck_channels=16)
    dataset = [make("a"), make("b", split="val")]
    data = recipes.open_samples(spec, dataset, tmp_path / "cache")
    networks.save(networks.build(spec), tmp_path / "model")
    networks.save(networks.build(SPEC1), tmp_path / "finder")

    def mine(hard_share=0.3, **changes):
        params = looks(1, batch=4, at_most=5, every=3, hard_share=hard_share)
        return recipes.mine_round(str(tmp_path / "model"), data, tmp_path / "mined", 2, params, **changes)

    return mine


def test_a_round_resumes_without_scoring_again(round_of, tmp_path, monkeypatch):
    score, fit, scored = mining.score, recipes.train.fit, []
    monkeypatch.setattr(mining, "score", lambda *args: scored.append(1) or score(*args))

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes.train, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        round_of(partner=tmp_path / "finder")
    assert len(scored) == 1
    monkeypatch.setattr(recipes.train, "fit", fit)
    result = round_of(partner=tmp_path / "finder")
    assert len(scored) == 3  # the val frames before and after, the training ones not again
    assert 0 < result["hard"] <= 5
    assert set(result["compared"]) == {"all", "ordinary", "hard", *mining.KINDS}
    for name in ("hard.parquet", "suspects.parquet", "suspects/tasks.json", "best/model.safetensors"):
        assert (tmp_path / "mined" / name).is_file()
    with pytest.raises(MiningError, match="holds another round"):
        round_of(partner=tmp_path / "finder", hard_share=0.5)


def test_a_round_without_failures_says_so_and_trains_nothing(round_of, tmp_path, monkeypatch, capsys):
    judged = mining.score
    monkeypatch.setattr(mining, "score", lambda *args: judged(*args).assign(kind="", suspect=False))
    result = round_of()
    assert "nothing is hard" in capsys.readouterr().out
    assert "after" not in result
    assert not (tmp_path / "mined" / "best").exists()


def test_a_round_without_a_val_split_is_said_before_anything_is_scored(make, tmp_path, monkeypatch):
    monkeypatch.setattr(mining, "score", lambda *args: pytest.fail("scored"))
    networks.save(networks.build(SPEC1), tmp_path / "model")
    data = recipes.open_samples(SPEC1, [make("a"), make("b")], tmp_path / "cache")
    with pytest.raises(recipes.ShuttleError, match=r"mined: \d+ training and 0 validation samples"):
        recipes.mine_round(tmp_path / "model", data, tmp_path / "mined", 2, looks(1))


@pytest.mark.parametrize(("parts", "empty"), [("train", "val"), ("val", "train")])
def test_a_folder_without_one_of_the_splits_is_said_before_anything_is_decoded(
    make, tmp_path, monkeypatch, capsys, parts, empty
):
    monkeypatch.setattr(recipes, "open_samples", lambda *_: pytest.fail("decoded"))
    networks.save(networks.build(SPEC1), tmp_path / "model")
    clips.store(replace(make("a"), split=parts), tmp_path / "data")
    where = ("--model", tmp_path / "model", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert run(["mine", *map(str, where)]) == 1
    told = f"data: no clip is in split '{empty}'; `shuttle data split` divides a folder by venue"
    assert told in capsys.readouterr().err


def test_a_bad_partner_or_share_is_said_before_anything_is_scored(round_of, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mining, "score", lambda *args: pytest.fail("scored"))
    with pytest.raises(recipes.ShuttleError, match="same stage"):
        round_of(partner=tmp_path / "model")
    where = [str(tmp_path)] * 3
    assert run(["mine", "--model", where[0], "--data", where[1], "--out", where[2], "--hard-share", "2"]) == 2
    assert "hard-share" in capsys.readouterr().err


def test_false_places_of_a_stage_2_are_refused(make, round_of, tmp_path):
    with pytest.raises(recipes.ShuttleError, match="model: holds stage2_v8; give a model folder of"):
        recipes.open_samples(SPEC2, [make("c")], tmp_path / "cache", stage1=tmp_path / "model")


@pytest.mark.parametrize(("reach", "known"), [(2, [2, 6]), (4, [2, 5, 6, 7])])
def test_between_labels_a_place_is_known_near_both_of_them(reach, known):
    track = np.full((9, 3), -1.0)
    track[:, 2] = 0
    track[[0, 1, 8]] = [(0, 0, 1), (1, 2, 1), (8, 16, 1)]
    track[3:5] = [(3, 6, 1), (4, 8, 1)]  # one frame between 1 and 3, three between 4 and 8
    found = mining._between(track, reach)
    assert np.flatnonzero(np.isfinite(found[:, 0])).tolist() == known
    assert found[2].tolist() == [2, 4]
