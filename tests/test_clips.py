from dataclasses import replace
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuttlelib import clips, intake, labels, splits, video
from shuttlelib.clips import Clip
from shuttlelib.files import sha256
from shuttlelib.labels import ClipInfo, LabelError


def make(name="a", venue="v", split="train", frames=100, table=None):
    table = labels.make_table(name, [0], [False], 0, 0, "synthetic") if table is None else table
    return Clip(name, Path("folder") / f"{name}.mp4", table, ClipInfo(64, 48, 30.0, frames), venue, split)


@pytest.fixture
def data(tmp_path, tiny_video):
    """A data folder of two clips, each of its own venue."""
    for name, place in (("00001", ("Odense", "train")), ("00002", ("Tokyo", "val"))):
        path = tiny_video(f"{name}.mp4", frames=4)
        table = labels.make_table(name, range(4), True, [10.0, 13, 16, 20], 20.0, "tracknet_csv")
        clips.store(Clip(name, path, table, clips.probe(path), *place), tmp_path / "data")
    return tmp_path / "data"


def test_a_clip_that_the_splits_do_not_name_is_no_training_data_by_accident(data):
    splits.write(data, {"00001": ("Odense", "train")})
    with pytest.raises(LabelError, match=r"splits\.csv: clip '00002' is missing; add a line"):
        clips.load_dataset(data)


def test_a_clip_whose_venue_is_in_another_split_is_not_stored(data):
    first = clips.load_dataset(data)[0]
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    with pytest.raises(LabelError, match="venue 'Tokyo' is in the splits"):
        clips.store(replace(first, name="00009", venue="Tokyo", split="train"), data)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_a_clip_is_linked_or_a_copy_as_it_was_stored_last(data):
    linked = clips.load_dataset(data)[0]
    assert linked.video_path.is_symlink()
    copied = clips.store(replace(linked, video_path=linked.video_path.resolve()), data, link=False)
    assert not copied.video_path.is_symlink()
    assert sha256(copied.video_path) == linked.info.video_sha256


def test_rows_have_the_name_that_the_files_have_now(data):
    for suffix in (".mp4", ".parquet"):
        (data / f"00001{suffix}").rename(data / f"renamed{suffix}")
    splits.write(data, {"renamed": ("Odense", "train"), "00002": ("Tokyo", "val")})
    for raw in (True, False):
        assert set(clips.load_dataset(data, raw)[1].table["clip"]) == {"renamed"}


@pytest.mark.parametrize("suffix", [".MP4", ".Mov"])
def test_a_videos_suffix_may_be_of_any_case(data, suffix):
    (data / "00001.mp4").rename(data / f"00001{suffix}")
    assert clips.load_dataset(data)[0].video_path == data / f"00001{suffix}"
    assert clips.video_beside(data / "0000.parquet", "0000") is None


def test_frames_are_counted_not_believed(tmp_path, tiny_video):
    whole = tiny_video("whole.mp4", frames=7)
    assert clips.probe(whole).frame_count == sum(1 for _ in video.read_frames(whole)) == 7
    with av.open(str(whole)) as source, av.open(str(tmp_path / "raw.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert video.probe(tmp_path / "raw.mkv").frame_count == 0  # Matroska does not say
    assert clips.probe(tmp_path / "raw.mkv").frame_count == 7


def test_frames_of_the_moving_pictures_are_counted_where_a_cover_comes_first(tmp_path, tiny_video):
    whole, path = tiny_video("whole.mp4", frames=7), tmp_path / "covered.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=30)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = target.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")
        target.mux(cover.encode(picture.reformat(format="yuvj420p")))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert clips.probe(path).frame_count == sum(1 for _ in video.read_frames(path)) == 7


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_video_that_stops_early_is_no_shorter_clip(tmp_path, share):
    whole, noise = tmp_path / "whole.mp4", np.random.default_rng(0)
    with video.VideoWriter(whole, (64, 96), 30.0) as writer:  # with its index in front
        for _ in range(12):
            writer.write(noise.integers(0, 255, (64, 96, 3), np.uint8))
    assert clips.probe(whole).frame_count == 12
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(video.VideoError, match=r"whole\.mp4: stops early, \d+ of 12 frames; copy"):
        clips.probe(whole)


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_a_recording_that_a_crash_cut_off_is_not_a_shorter_one(tmp_path, suffix):
    path, noise = tmp_path / f"cut.{suffix}", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30, options={"b": "2M"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(60):
            picture = av.VideoFrame.from_ndarray(noise.integers(0, 255, (64, 96, 3), np.uint8))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert clips.probe(path).frame_count == 60
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(video.VideoError, match=rf"cut\.{suffix}: stops early, 3\d( of 60)? frames; copy"):
        clips.probe(path)


def test_pictures_that_are_never_shown_are_not_frames(tmp_path):
    path, picture = (
        tmp_path / "two_pass.webm",
        np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8),
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        shown = [av.VideoFrame.from_ndarray(np.roll(picture, index, axis=1)) for index in range(12)]
        for index, packet in enumerate([*chain(*map(stream.encode, shown)), *stream.encode()]):
            content = bytearray(bytes(packet))
            if index % 4 == 3:
                content[0] &= ~0x10  # its bit show_frame
            hidden = av.Packet(bytes(content))
            hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
            hidden.stream, hidden.is_keyframe = stream, packet.is_keyframe
            container.mux(hidden)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 12
    assert clips.probe(path).frame_count == sum(1 for _ in video.read_frames(path)) == 9


def test_a_data_folder_that_is_not_one_is_named(data, tmp_path):
    with pytest.raises(LabelError, match=r"no clips .* run `shuttle data import`"):
        clips.load_dataset(tmp_path)
    (data / "00001.mp4").unlink()
    with pytest.raises(LabelError, match=r"00001.parquet: no video of that name beside it"):
        clips.load_dataset(data)


def test_rows_that_cannot_be_believed_are_not_loaded(data):
    table, info = labels.read_table(data / "00001.parquet")
    labels.add_flag(table, table.index[:1], "zero_point")
    labels.write_table(data / "00001.parquet", table, info)
    assert clips.load_dataset(data)[0].table["frame"].tolist() == [1, 2, 3]
    assert clips.load_dataset(data, raw=True)[0].table["frame"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,split\n1,train\n", "row 1, column 'venue' is missing"),
        ("clip;venue;split\n1;a;train\n", r"splits\.csv: separated by ';', not by ','; save it with commas"),
        (
            "clip,venue,split\n1,a,training\n",
            "row 2, column 'split' is 'training': write one of train, val, test",
        ),
        ("clip,venue,split\n1,a,train\n1,a,train\n", "row 3, column 'clip' is '1'"),
        ("clip,venue,split\n1,,train\n", r"row 2, column 'clip' is '1' .venue ''"),
        ("clip,venue,split\n1,a,train\n2,a,val\n", "venue 'a' is in the splits 'train' and 'val'"),
        ("clip,venue,split\n1,a,train\n2, a,val\n", "venue 'a' is in the splits 'train' and 'val'"),
        ("clip,venue,split\n1,a,train\n1 ,a,train\n", "row 3, column 'clip' is '1'"),
        ("clip,venue,split\n1,Malmö,train\n", r"splits\.csv: not a text file in UTF-8 .*as CSV UTF-8"),
    ],
)
def test_a_wrong_splits_file_is_named(tmp_path, text, words):
    (tmp_path / "splits.csv").write_text(text, "latin-1")
    with pytest.raises(LabelError, match=words):
        splits.read(tmp_path)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=2, max_size=8),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 100),
)
def test_a_split_never_divides_a_venue_and_keeps_test(tmp_path_factory, sizes, share, seed):
    folder = tmp_path_factory.mktemp("data")
    dataset = [make(f"{i}{k}", f"venue {i}", frames=size) for i, size in enumerate(sizes) for k in "ab"]
    dataset.append(make("t", "elsewhere", "test"))
    dataset = [Clip(c.name, folder / c.video_path.name, c.table, c.info, c.venue, c.split) for c in dataset]
    divided = intake.split_by_venue(dataset, share, seed)
    parts = {(clip.venue, clip.split) for clip in divided}
    assert len(parts) == len(sizes) + 1
    assert {split for _, split in parts} == {"train", "val", "test"}
    assert splits.read(folder) == {clip.name: (clip.venue, clip.split) for clip in divided}
    again = intake.split_by_venue(dataset, share, seed)
    assert [clip.split for clip in again] == [clip.split for clip in divided]


def test_a_line_whose_clip_is_gone_moves_with_its_venue_and_notes_stay(data):
    text = "clip,venue,split,note\n00001,Odense,train,glare\n00002,Tokyo,val,\n00009,Tokyo,val,deleted\n"
    (data / "splits.csv").write_text(text)
    before = clips.load_dataset(data)
    seed = next(s for s in range(20) if intake.split_by_venue(before, 0.5, s)[0].split == "val")
    (data / "splits.csv").write_text(text)
    intake.split_by_venue(before, 0.5, seed)
    swapped = text.replace("val", "?").replace("train", "val").replace("?", "train")
    assert (data / "splits.csv").read_text() == swapped


def test_another_video_than_the_labelled_one_is_refused(tmp_path):
    clip = replace(make("a"), video_path=tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"labelled")
    clips.require_labelled(clip)  # its table does not say
    known = replace(clip, info=replace(clip.info, video_sha256=sha256(tmp_path / "a.mp4")))
    clips.require_labelled(known)
    (tmp_path / "a.mp4").write_bytes(b"another")
    with pytest.raises(video.VideoError, match=r"a\.mp4: is not the video that was labelled"):
        clips.require_labelled(known)


def test_a_split_that_cannot_be_made_is_named():
    with pytest.raises(LabelError, match=r"splits.csv: all clips are of 'v': give each the venue"):
        intake.split_by_venue([make("a"), make("b")], 0.2, 0)
    with pytest.raises(LabelError, match=r"val_share is 1\.5"):
        intake.split_by_venue([make("a")], 1.5, 0)
    with pytest.raises(LabelError, match="split 'training' is unknown"):
        clips.split([make("a")], "training")


def test_stats_measure_steps_between_consecutive_frames_only():
    table = labels.make_table(
        "a", [0, 1, 2, 5], [1, 1, 0, 1], [0, 3, 0, 90], [0, 4, 0, 0], "synthetic", ["", "flicker", "", ""]
    )
    row = clips.stats([make("a", table=table)]).loc["a"]
    assert row[["labelled", "flagged", "visible"]].tolist() == [4, 1, 0.75]
    assert row[["speed_p50", "speed_p95", "speed_max"]].tolist() == [5, 5, 5]
    empty = clips.stats([make("b")]).loc["b"]
    assert pd.isna(empty["speed_max"])


@pytest.mark.parametrize(
    ("seen", "frames", "longest"),
    [
        ([0, 1, 2], 3, 0),
        ([4, 5], 10, 4),
        ([0, 5], 6, 4),
        ([0], 10, 9),
        ([5, 1, 1, 20], 10, 4),
        ([], 7, 7),
        ([2], 0, 2),
    ],
)
def test_the_longest_time_out_of_sight_counts_both_ends(seen, frames, longest):
    table = labels.make_table("a", seen, True, 5.0, 5.0, "synthetic")
    row = clips.stats([make(frames=frames, table=table)]).loc["a"]
    assert row["longest_hidden_frames"] == longest


def test_heads_are_of_every_frame_and_near_ones_stand_in_for_those_not_seen():
    table = labels.make_table("a", [1, 2, 3, 3], [1, 0, 1, 1], [5, 0, 7, 9], [6, 0, 8, 9], "synthetic")
    clip = make("a", frames=5, table=table)
    none = [np.nan, np.nan]
    assert np.array_equal(clip.heads(), [none, [5, 6], none, [7, 8], none], equal_nan=True)
    assert clip.near_heads().tolist() == [[5, 6], [5, 6], [5, 6], [7, 8], [7, 8]]
    assert clip.frames == 5
    assert [make(frames=0, table=rows).frames for rows in (table, table[:0])] == [4, 0]
    h, w = clip.info.even_hw
    assert make("b", frames=2).near_heads().tolist() == [[w / 2, h / 2]] * 2


def test_the_hash_follows_what_training_sees():
    table = labels.make_table("a", [0, 1], True, [1.0, 2.0], 3.0, "synthetic")
    base = clips.data_hash([make("a", table=table), make("b")])
    assert clips.data_hash([make("b"), make("a", table=table.assign(flags="flicker"))]) == base
    others = [
        make("a", table=table.assign(x_px=np.array([1.0, 2.5]))),
        make("a", table=table.assign(flags=["", "zero_point"])),
        make("a", table=table, split="val"),
        make("a", table=table, frames=99),
    ]
    hashes = {clips.data_hash([other, make("b")]) for other in others}
    assert len(hashes | {base}) == 5
