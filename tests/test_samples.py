from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from dots import moving_dot

from shuttlelib import augment, cache, clips, frames, labels, samples, synth, train, versions
from shuttlelib.video import VideoError, read_frames

STAGE1 = versions.resolve("stage1_v5", input_hw=(144, 256))
STAGE2 = versions.resolve("stage2_v8", input_hw=(96, 96))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    synth.make_dataset(folder, 2, seed=3, size_hw=(360, 640), fps=60.0, frame_count=16, val_share=0.5)
    return clips.load_dataset(folder)


@pytest.fixture(scope="module")
def crops(dataset, tmp_path_factory):
    return cache.open_caches(dataset, tmp_path_factory.mktemp("planes"), None)


@pytest.fixture(scope="module")
def wholes(dataset, tmp_path_factory):
    return cache.open_caches(dataset, tmp_path_factory.mktemp("wholes"), STAGE1.input_hw)


def test_cached_frames_are_the_decoded_ones(dataset, crops, wholes):
    for number, frame in enumerate(read_frames(dataset[0].video_path)):
        assert np.array_equal(crops[0].frames[number], frame.planes)
        whole = samples.Samples(wholes, STAGE1).window(number, number)
        assert np.array_equal(wholes[0].window(number, whole), frame.window(whole))


def test_a_video_shorter_than_its_table_is_refused(dataset, tmp_path):
    clip = replace(dataset[0], info=replace(dataset[0].info, frame_count=99))
    with pytest.raises(VideoError, match="16 frames decode, its table says 99"):
        cache.FrameCache(clip, tmp_path, None)
    clip = replace(dataset[0], info=replace(dataset[0].info, video_sha256="0" * 64))
    with pytest.raises(VideoError, match="not the video that was labelled"):
        cache.FrameCache(clip, tmp_path, None)
    clip = replace(dataset[0], info=replace(dataset[0].info, frame_count=0))
    with pytest.raises(VideoError, match="does not know how many frames it has; import it again"):
        cache.FrameCache(clip, tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_a_cache_travels_to_a_loader_process_without_its_pixels(crops):
    import pickle

    sent = pickle.dumps(crops[0])
    assert len(sent) < crops[0].frames.nbytes / 10
    assert np.array_equal(pickle.loads(sent).frames, crops[0].frames)


def test_stage1_sample_has_the_label_where_the_frame_shows_it(dataset, wholes):
    data = samples.Samples(wholes, STAGE1)
    table = dataset[0].table.set_index("frame")
    for number in range(16):
        item = data[number]
        assert item["frames"].shape == (4, 3, 144, 256)
        assert item["frames"].dtype == torch.uint8
        row = table.loc[number]
        expected = [row["x_px"] * 256 / 640, row["y_px"] * 144 / 360]
        assert np.allclose(item["xy"], expected, atol=1e-3, equal_nan=True)


def test_frames_ahead_follow_the_labelled_one(dataset, wholes):
    around = versions.resolve("stage1_v5", input_hw=(144, 256), frames=5, ahead=2)
    seen, before = samples.Samples(wholes, around), samples.Samples(wholes, STAGE1)
    for number, shown in ((0, (0, 0, 0, 2, 4)), (8, (4, 6, 8, 10, 12)), (15, (11, 13, 15, 15, 15))):
        item = seen[number]
        assert torch.equal(item["xy"].nan_to_num(-1), before[number]["xy"].nan_to_num(-1))
        assert torch.equal(item["history"], before[number]["history"])
        expected = torch.stack([before[look]["frames"][-1] for look in shown])
        assert torch.equal(item["frames"], expected)


def test_past_frames_lie_a_thirtieth_of_a_second_apart(wholes):
    assert [frames.history_stride(fps) for fps in (24, 25, 29.97, 30, 50, 60, 119)] == [1, 1, 1, 1, 2, 2, 4]
    images = samples.Samples(wholes, STAGE1)[9]["frames"]
    for place, number in enumerate((3, 5, 7, 9)):
        assert np.array_equal(images[place].permute(1, 2, 0), wholes[0].frames[number])


@pytest.mark.parametrize(
    ("fps", "new", "frame", "looks"),
    [
        (30.0, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11], 6, [3, 5, 6, 7, 8]),
        (
            30.0,
            [0, 1, 2, 3, 5, 6, 7, 8, 10, 11],
            9,
            [6, 7, 9, 10, 11],
        ),  # a repeat of 8, which is not shown twice
        (30.0, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11], 1, [0, 0, 1, 2, 3]),
        (30.0, [0, 1, 2, 3, 5, 6, 7, 8, 10], 10, [7, 8, 10, 11, 11]),
        (60.0, [0, 2, 4, 6, 8, 10], 4, [0, 2, 4, 6, 8]),
        (60.0, [0, 3, 5, 8, 10], 5, [0, 3, 5, 8, 10]),
        (60.0, list(range(12)), 5, [1, 3, 5, 7, 9]),
    ],
)
def test_a_sample_shows_each_picture_once(fps, new, frame, looks):
    clip = moving_dot((96, 128), None, frames=12, fps=fps)
    clip.new = np.array(new)
    spec = versions.resolve("stage2_v9", input_hw=(96, 96))
    plan = samples.Samples([moving_dot((96, 128), None), clip], spec).plan([40 + frame])
    assert plan.looks[0].tolist() == looks


def test_a_cache_knows_which_frames_repeat_a_picture(tiny_video, tmp_path):
    def twice(index):
        return np.roll(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8), index // 2 * 7, 1)

    path = tiny_video("twice.mp4", frames=40, fps=60.0, draw=twice)
    info = labels.ClipInfo(96, 64, 60.0, 40, "")
    clip = clips.Clip("twice", path, pd.DataFrame({"frame": range(40)}), info, "hall", "train")
    made = cache.FrameCache(clip, tmp_path / "cache", None)
    assert made.new.tolist() == [*range(17), *range(18, 40, 2)]
    known = made.path.with_name(made.path.name.replace("planes", "new"))
    known.unlink()  # as in a cache of an earlier release
    assert cache.FrameCache(clip, tmp_path / "cache", None).new.tolist() == made.new.tolist()
    whole = made.path.read_bytes()
    for damaged, left in ((known, b""), (made.path, whole[:5000]), (made.path, b"")):
        damaged.write_bytes(left)
        assert cache.FrameCache(clip, tmp_path / "cache", None).new.tolist() == made.new.tolist()
        assert made.path.read_bytes() == whole


def test_history_holds_what_came_before_and_only_that(dataset, crops):
    data = samples.Samples(crops, STAGE2)
    table = dataset[0].table.set_index("frame")
    item, window = data[9], data.window(9, 9)
    assert item["history"].shape == (30, 3)
    assert not item["history"][:-4].any()  # the clip begins four strides earlier
    for back in range(1, 5):
        row = table.loc[9 - 2 * back]
        assert bool(item["history"][-back, 2]) == bool(row["visible"])
        if row["visible"]:
            x = (row["x_px"] - window.x0) / window.w
            assert float(item["history"][-back, 0]) == pytest.approx(x, abs=1e-4)


def test_crops_show_the_shuttle_mostly_and_sometimes_not(crops):
    data = samples.Samples(crops, STAGE2, train.augmentation(STAGE2))
    seen = [bool(torch.isfinite(data[(n % len(data), n)]["xy"]).all()) for n in range(120)]
    labelled = np.mean([point[2] for points in data.points for point in points])
    assert 0.5 * labelled < np.mean(seen) < labelled


def test_draws_repeat_and_differ(crops):
    data = samples.Samples(crops, STAGE2, train.augmentation(STAGE2), seed=5)
    again = samples.Samples(crops, STAGE2, train.augmentation(STAGE2), seed=5)
    assert torch.equal(data[(4, 77)]["frames"], again[(4, 77)]["frames"])
    assert not torch.equal(data[(4, 77)]["frames"], data[(4, 78)]["frames"])


def test_a_network_that_is_asked_for_every_frame_knows_the_head_in_copies_of_the_first(wholes):
    unet = versions.resolve("unet_3in3", input_hw=STAGE1.input_hw)
    opened = [samples.Samples(wholes, spec) for spec in (unet, STAGE1)]
    for data in opened:  # the shuttle is there from the first frame on
        data._flat[:, :3] = [300.0, 100.0, 1.0]
    asked, other = (data[data.index.index((0, 0))] for data in opened)
    assert torch.equal(asked["frames"][0], asked["frames"][-1])
    head = asked["xy"] / torch.tensor([256.0, 144.0])
    assert head.isfinite().all()
    assert torch.allclose(asked["history"][-2:, :2], head.expand(2, 2), atol=1e-5)
    assert not other["history"].any()  # a tracker has no past there


def test_a_network_that_is_asked_for_every_frame_is_told_which_have_no_label(wholes):
    data = samples.Samples(wholes, versions.resolve("unet_3in3", input_hw=STAGE1.input_hw))
    data._flat[5, 3] = 0
    stride = int(data._stride[0])
    seen = [data[data.index.index((0, 5 + n * stride))]["history"][-2:, 2] for n in range(4)]
    assert [x.isnan().tolist() for x in seen] == [[False] * 2, [False, True], [True, False], [False] * 2]


QUIET = augment.Augmentation(0.0, colour_share=0.0, jitter_norm=0.0)
OPTIONS = {
    "roll": {"roll_deg": 8.0, "affine": 1.0},
    "perspective": {"perspective": 0.1, "affine": 1.0},
}


@pytest.fixture
def dots():
    wholes = [moving_dot(STAGE1.input_hw, STAGE1.input_hw, seed=n, name=f"clip{n}") for n in (0, 1)]
    return samples.Samples(wholes, STAGE1)


def under(image, xy):
    """Brightness (0..255) of an image (3, H, W) at a point, the best of its 3x3 surroundings."""
    x, y = int(xy[0]), int(xy[1])
    around = image.float().mean(0)[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    return float(around.max())


@pytest.mark.parametrize("name", OPTIONS)
def test_the_dot_lies_under_its_label_and_is_nowhere_else(dots, name):
    dots.augmentation = replace(QUIET, **OPTIONS[name])
    size, past_frames = np.array(STAGE1.input_hw[::-1]), STAGE1.current
    placed = hidden = 0
    for draw in range(60):
        item = dots[((draw * 11) % len(dots), draw)]
        past = [
            np.where(row[2] > 0, row[:2] * size, np.nan) for row in item["history"][-past_frames:].numpy()
        ]
        for image, xy in zip(item["frames"], [*past, item["xy"].numpy()]):
            if np.isfinite(xy).all() and (xy > 2).all() and (xy < size - 2).all():
                placed += 1
                assert under(image, xy) > 160, f"draw {draw}: {xy}"
        if not torch.isfinite(item["xy"]).all():
            hidden += 1
            assert item["frames"][past_frames, :, 3:-3, 3:-3].float().mean(0).max() < 160, f"draw {draw}"
    assert placed > 30
    assert hidden > 3


@pytest.mark.parametrize("name", OPTIONS)
def test_options_repeat_with_the_draw_and_are_off_by_default(dots, name):
    plain, several = [], []
    for augmentation, found in ((QUIET, plain), (replace(QUIET, **OPTIONS[name]), several)):
        dots.augmentation = augmentation
        for _ in range(2):
            found.append(dots[(17, 5)]["frames"])
    assert torch.equal(several[0], several[1])
    assert torch.equal(plain[0], plain[1])
    assert not torch.equal(several[0], plain[0])
    assert QUIET.roll_deg == QUIET.perspective == 0
