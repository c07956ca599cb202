from dataclasses import replace

import numpy as np
import pytest

from shuttlelib import clips, labels, onto, splits, video
from shuttlelib.errors import UsageError
from shuttlelib.files import sha256

SIZE_HW = (180, 320)  # a quarter of the canonical size
BACKGROUND = np.stack(np.meshgrid(np.linspace(20, 90, 320), np.linspace(30, 120, 180)), 2)
BACKGROUND = np.concatenate([BACKGROUND, BACKGROUND[..., :1]], 2).astype(np.uint8)


@pytest.fixture
def clip(tmp_path, tiny_video):
    """Makes a clip with a white dot at `places` (frames, 2) px; `hidden` frames have no label."""

    def make(places, hidden=(), name="a", frames=None):
        def draw(index):
            picture = BACKGROUND.copy()
            x, y = places[index].astype(int)
            picture[y - 1 : y + 2, x - 1 : x + 2] = 255
            return picture

        path = tiny_video(f"{name}.mp4", len(places), SIZE_HW, draw=draw)
        seen = ~np.isin(np.arange(len(places)), hidden)
        table = labels.make_table(
            name, np.arange(len(places)), seen, *np.array(places, float).T + 0.5, "synthetic"
        )
        info = labels.ClipInfo(320, 180, 30.0, len(places) if frames is None else frames, sha256(path))
        labels.write_table(path.with_suffix(".parquet"), table, info)
        return clips.load_dataset(tmp_path)[0]

    return make


def moving(count=30):
    return np.stack([np.linspace(30, 290, count), np.linspace(40, 140, count)], 1)


def brightest(picture):
    return int(picture.astype(int).min(2).max())


def test_a_moving_shuttle_is_taken_away_everywhere(clip):
    given = clip(moving(), hidden=[12, 13])
    with_dot = [brightest(frame.rgb) for frame in video.read_frames(given.video_path)]
    assert min(with_dot) > 180
    bare = list(onto.without_shuttle(given))
    assert len(bare) == 30
    assert all(done for _, done in bare)
    assert max(brightest(picture) for picture, _ in bare) < 125


def test_across_a_long_gap_nothing_is_guessed(clip):
    given = clip(moving(), hidden=range(8, 22))
    bright = [brightest(picture) for picture, _ in onto.without_shuttle(given)]
    assert min(bright[8:22]) > 180
    assert max(bright[:8] + bright[22:]) < 125


def test_a_frame_without_a_label_is_neither_bare_nor_a_background(clip):
    given = clip(moving())
    given = replace(given, table=given.table[~given.table["frame"].between(8, 21)])
    done = [done for _, done in onto.without_shuttle(given)]
    assert not any(done[8:22])
    assert all(done[:3] + done[-3:])
    assert all(truth is None for _, truth in list(onto.put_onto(given, 1))[8:22])


def test_what_rests_cannot_be_taken_away_and_gets_no_label(clip, tmp_path):
    given = clip(np.concatenate([np.tile([[50.0, 60.0]], (25, 1)), moving(30)]))
    bare = np.array([done for _, done in onto.without_shuttle(given)])
    assert not bare[:10].any()
    assert bare[30:].all()
    path = onto.write_onto(given, tmp_path / "out", "b", seed=1)
    table, info = labels.read_table(path.with_suffix(".parquet"))
    assert table["frame"].tolist() == np.flatnonzero(bare).tolist()
    assert (info.frame_count, info.video_sha256) == (55, sha256(path))


def test_what_moves_behind_the_shuttle_is_not_put_in_its_place(clip, tiny_video):
    places = moving()

    def draw(index):
        picture = BACKGROUND.copy()
        if index < 12:  # a dark body, which has left when the shuttle comes by
            picture[60:140, 80:200] = 0
        x, y = places[index].astype(int)
        picture[y - 1 : y + 2, x - 1 : x + 2] = 255
        return picture

    given = clip(places)
    tiny_video("a.mp4", len(places), SIZE_HW, draw=draw)
    frames = list(onto.without_shuttle(given))
    assert sum(done for _, done in frames[12:]) > 3
    for i, (picture, done) in enumerate(frames):
        x, y = places[i].astype(int)
        covered = i < 12 and 60 <= y < 140 and 80 <= x < 200
        clean = np.zeros(3) if covered else BACKGROUND[y, x]
        assert not done or np.abs(picture[y, x].astype(int) - clean).max() < 30, i


def test_where_no_near_frame_looks_alike_the_shuttle_stays_and_has_no_label(clip, tiny_video):
    places = moving()

    def draw(index):  # the light goes up
        picture = (BACKGROUND + 4 * index).astype(np.uint8)
        x, y = places[index].astype(int)
        picture[y - 1 : y + 2, x - 1 : x + 2] = 255
        return picture

    given = clip(places)
    tiny_video("a.mp4", len(places), SIZE_HW, draw=draw)
    assert not any(done for _, done in onto.without_shuttle(given))
    assert all(truth is None for _, truth in onto.put_onto(given, 1))


def test_the_rendered_shuttle_is_where_the_truth_says(clip):
    given = clip(moving(60))
    bare = [picture for picture, _ in onto.without_shuttle(given)]
    seen = 0
    for seed in range(3):
        for before, (picture, truth) in zip(bare, onto.put_onto(given, seed)):
            changed = np.argwhere(np.abs(picture.astype(int) - before).max(2) > 40)
            if truth is not None and truth.visible and len(changed):
                gap = np.hypot(*(changed[:, ::-1] + 0.5 - (truth.x_px, truth.y_px)).T).min()
                assert gap < 2
                seen += 1
    assert seen > 40


def test_one_seed_one_picture(clip):
    given = clip(moving())
    first, again, other = ([f for f, _ in onto.put_onto(given, seed)] for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_data_folder_of_train_clips(clip, tmp_path):
    clip(moving(), name="a")
    clip(moving(), name="b")
    splits.write(tmp_path, {"a": ("Odense", "train"), "b": ("Paris", "val")})
    done = []
    out = onto.make_dataset(tmp_path, tmp_path / "out", 2, seed=3, progress=lambda: done.append(1))
    dataset = clips.load_dataset(out)
    assert [each.name for each in dataset] == ["a_onto_003_000", "a_onto_003_001"]
    assert {(each.venue, each.split) for each in dataset} == {("Odense", "train")}
    assert {origin for each in dataset for origin in each.table["origin"]} == {"onto"}
    assert done == [1, 1]
    onto.make_dataset(tmp_path, out, 1, seed=4)
    assert len(clips.load_dataset(out)) == 3


def test_a_folder_is_not_written_into_itself(clip, tmp_path, monkeypatch):
    clip(moving())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(".")
    before = sorted(tmp_path.iterdir())
    for out in (tmp_path, ".", "link", tmp_path / "." / ".." / tmp_path.name):
        with pytest.raises(UsageError, match=r"^--out .*: the folder that clips are taken from; "):
            onto.make_dataset(tmp_path, out, 1)
    assert sorted(tmp_path.iterdir()) == before


def test_clips_made_from_another_folder_are_not_replaced(clip, tmp_path):
    clip(moving())
    out = onto.make_dataset(tmp_path, tmp_path / "out", 1)
    path = out / "a_onto_000_000.parquet"
    made = path.read_bytes()
    assert onto.make_dataset(tmp_path, out, 1) == out  # the same again
    clip(moving(24))
    with pytest.raises(UsageError, match=r"a_onto_000_000\.parquet: made from another clip .*a\.mp4; give"):
        onto.make_dataset(tmp_path, out, 1)
    assert path.read_bytes() == made
    path.write_bytes(b"PAR1")
    onto.make_dataset(tmp_path, out, 1)
    assert clips.load_dataset(out)[0].frames == 24


def test_without_train_clips_there_is_nothing_to_put_them_on(clip, tmp_path):
    clip(moving())
    splits.write(tmp_path, {"a": ("Paris", "val")})
    with pytest.raises(UsageError, match="0 train clips, 2 wanted"):
        onto.make_dataset(tmp_path, tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


def test_a_video_that_ends_early_is_named(clip, tmp_path):
    given = clip(moving(), frames=40)
    with pytest.raises(video.VideoError, match=r"a\.mp4: ends before frame 39; import it again"):
        onto.write_onto(given, tmp_path / "out", "b", seed=1)
    assert not list((tmp_path / "out").iterdir())


def test_where_the_length_is_not_known_the_last_label_ends_it(clip, tmp_path):
    given = clip(moving(), frames=0)
    assert len(list(onto.put_onto(given, 1))) == 30
    path = onto.write_onto(given, tmp_path / "out", "b", seed=1)
    assert labels.read_table(path.with_suffix(".parquet"))[1].frame_count == 30
