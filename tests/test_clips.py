import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuttlelib import clips, labels, splits, video
from shuttlelib.clips import Clip
from shuttlelib.labels import ClipInfo, LabelError

CSV = "Frame,Visibility,X,Y\n0,1,10,20\n1,1,13,24\n2,0,0,0\n3,1,20,30\n"
EXPORT = "annotation_id,annotator,clip,frame,id,image,kp,visibility\n"


@pytest.fixture
def source(tmp_path, tiny_video):
    """A folder of two labelled videos, one without labels, and their venues."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("00001", "00002", "00003"):
        tiny_video(f"source/{name}.mp4", frames=4, fps=29.97)
    (folder / "00001.csv").write_text(CSV)
    (folder / "00002_ball.csv").write_text("Frame,X,Y,Visibility\n1,5,6,1\n")
    (folder / "splits.csv").write_text("clip,venue,split\n00001,Odense,train\n00002,Tokyo,val\n")
    return folder


def make(name="a", venue="v", split="train", frames=100, table=None):
    table = labels.make_table(name, [0], [False], 0, 0, "synthetic") if table is None else table
    return Clip(name, Path("folder") / f"{name}.mp4", table, ClipInfo(64, 48, 30.0, frames), venue, split)


def test_a_folder_is_imported_and_loaded(source, tmp_path):
    imported = clips.import_folder(source, tmp_path / "data")
    dataset = clips.load_dataset(tmp_path / "data")
    assert [clip.name for clip in dataset] == [clip.name for clip in imported] == ["00001", "00002"]
    first, second = dataset
    assert (first.venue, first.split, second.venue, second.split) == ("Odense", "train", "Tokyo", "val")
    assert first.info == clips.probe(source / "00001.mp4")
    assert (first.info.size_hw, first.info.frame_count) == ((64, 96), 4)
    assert first.info.fps == pytest.approx(29.97, abs=0.001)
    assert first.info.video_sha256 == video.sha256(source / "00001.mp4")
    assert first.video_path == tmp_path / "data" / "00001.mp4"
    assert first.video_path.is_symlink()
    assert second.table["frame"].tolist() == [1]
    assert clips.split(dataset, "val") == [second]


def test_copies_stand_alone_and_importing_again_changes_nothing(source, tmp_path):
    out = tmp_path / "data"
    clips.import_folder(source, out, link=False)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert not (out / "00001.mp4").is_symlink()
    clips.import_folder(source, out, link=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_importing_labels_anew_keeps_the_place_that_a_clip_has(source, tmp_path):
    out = tmp_path / "data"
    clips.import_folder(source, out)
    (source / "splits.csv").unlink()
    clips.import_folder(source, out)
    assert splits.read(out) == {"00001": ("Odense", "train"), "00002": ("Tokyo", "val")}
    clips.import_folder(source, tmp_path / "other")
    assert set(splits.read(tmp_path / "other").values()) == {("unknown", "train")}


def test_a_venue_moves_to_another_split_as_a_whole(source, tmp_path):
    out = tmp_path / "data"
    header = "clip,venue,split\n"
    (source / "splits.csv").write_text(header + "00001,Odense,train\n00002,Odense,train\n")
    clips.import_folder(source, out)
    (source / "splits.csv").write_text(header + "00001,Odense,val\n00002,Odense,val\n")
    clips.import_folder(source, out)
    assert [clip.split for clip in clips.load_dataset(out)] == ["val", "val"]


def test_nothing_is_written_where_a_part_of_a_venue_would_move(source, tmp_path):
    out = tmp_path / "data"
    clips.import_folder(source, out)
    splits.write(out, {**splits.read(out), "00009": ("Tokyo", "val")})
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (source / "splits.csv").write_text("clip,venue,split\n00001,Oslo,train\n00002,Tokyo,train\n")
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    with pytest.raises(LabelError, match="venue 'Tokyo' is in the splits"):
        clips.import_folder(source, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_clip_that_the_splits_do_not_name_is_no_training_data_by_accident(source, tmp_path):
    out = tmp_path / "data"
    clips.import_folder(source, out)
    splits.write(out, {"00001": ("Odense", "train")})
    with pytest.raises(LabelError, match=r"splits\.csv: clip '00002' is missing; add a line"):
        clips.load_dataset(out)


def test_a_clip_whose_venue_is_in_another_split_is_not_stored(source, tmp_path):
    out = tmp_path / "data"
    first = clips.import_folder(source, out)[0]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(LabelError, match="venue 'Tokyo' is in the splits"):
        clips.store(replace(first, name="00009", venue="Tokyo", split="train"), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_can_be_imported_into_itself(source):
    clips.import_folder(source, source)
    assert len(clips.load_dataset(source)) == 2
    assert not (source / "00001.mp4").is_symlink()


def newer(path, than):
    """Write a file's time as a second after another's."""
    stamp = than.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(stamp, stamp))


def test_labels_edited_after_an_import_in_place_are_not_lost(source):
    clips.import_folder(source, source)
    clips.import_folder(source, source)
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    newer(source / "00001.csv", than=source / "00001.parquet")
    with pytest.raises(LabelError, match=r"00001\.csv: newer than 00001\.parquet.* give the --format"):
        clips.import_folder(source, source)
    (old, _) = clips.import_folder(source, source, "parquet")
    assert old.table["x_px"][0] == 10


def test_a_format_that_is_asked_for_is_read_past_a_parquet_file(source):
    (source / "00002_ball.csv").unlink()
    clips.import_folder(source, source)
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    (edited,) = clips.import_folder(source, source, "tracknet")
    assert edited.table["x_px"][0] == 11
    (again,) = clips.import_folder(source, source)
    assert again.table["x_px"][0] == 11


def test_an_export_made_again_after_an_import_in_place_is_not_lost(source):
    export = source / "export.csv"
    export.write_text(EXPORT + "1,1,00003,2,1,a.jpg,,invisible\n")
    clips.import_folder(source, source)
    export.write_text(EXPORT + "1,1,00003,3,1,a.jpg,,invisible\n")
    newer(export, than=source / "00003.parquet")
    with pytest.raises(LabelError, match=r"export\.csv: newer than 00003\.parquet"):
        clips.import_folder(source, source)


def test_a_label_studio_export_gives_every_video_its_rows(source, tmp_path):
    (source / "00001.csv").unlink()
    text = EXPORT + "1,1,00003,2,1,a.jpg,,invisible\n2,1,00001,0,2,b.jpg,,invisible\n"
    (source / "export.csv").write_text(text)
    clips.import_folder(source, tmp_path / "data")
    found = {clip.name: clip.table["frame"].tolist() for clip in clips.load_dataset(tmp_path / "data")}
    assert found == {"00001": [0], "00002": [1], "00003": [2]}


def test_nothing_is_written_when_one_label_file_is_wrong(source, tmp_path):
    (source / "00002_ball.csv").write_text("Frame,X,Y,Visibility\n1,5,6,visible\n")
    with pytest.raises(LabelError, match=r"00002_ball.csv: row 2, column 'Visibility' is 'visible'"):
        clips.import_folder(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_imported_is_named(tmp_path, tiny_video):
    with pytest.raises(LabelError, match="no such folder"):
        clips.import_folder(tmp_path / "nothing", tmp_path / "data")
    with pytest.raises(LabelError, match="no video there has labels of the same name"):
        clips.import_folder(tmp_path, tmp_path / "data")
    tiny_video("a.mp4")
    (tmp_path / "a.mov").write_bytes((tmp_path / "a.mp4").read_bytes())
    with pytest.raises(LabelError, match=r"a.mp4: a.mov has the same name"):
        clips.import_folder(tmp_path, tmp_path / "data")


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


def test_a_data_folder_that_is_not_one_is_named(source, tmp_path):
    with pytest.raises(LabelError, match=r"no clips .* run `shuttle data import`"):
        clips.load_dataset(tmp_path)
    clips.import_folder(source, tmp_path / "data")
    (tmp_path / "data" / "00001.mp4").unlink()
    with pytest.raises(LabelError, match=r"00001.parquet: no video of that name beside it"):
        clips.load_dataset(tmp_path / "data")


def test_rows_that_cannot_be_believed_are_not_loaded(source, tmp_path):
    clips.import_folder(source, tmp_path)
    table, info = labels.read_table(tmp_path / "00001.parquet")
    labels.add_flag(table, table.index[:1], "zero_point")
    labels.write_table(tmp_path / "00001.parquet", table, info)
    assert clips.load_dataset(tmp_path)[0].table["frame"].tolist() == [1, 2, 3]
    assert clips.load_dataset(tmp_path, raw=True)[0].table["frame"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,split\n1,train\n", "row 1, column 'venue' is missing"),
        (
            "clip,venue,split\n1,a,training\n",
            "row 2, column 'split' is 'training': write one of train, val, test",
        ),
        ("clip,venue,split\n1,a,train\n1,a,train\n", "row 3, column 'clip' is '1'"),
        ("clip,venue,split\n1,,train\n", r"row 2, column 'clip' is '1' .venue ''"),
        ("clip,venue,split\n1,a,train\n2,a,val\n", "venue 'a' is in the splits 'train' and 'val'"),
    ],
)
def test_a_wrong_splits_file_is_named(tmp_path, text, words):
    (tmp_path / "splits.csv").write_text(text)
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
    divided = clips.split_by_venue(dataset, share, seed)
    parts = {(clip.venue, clip.split) for clip in divided}
    assert len(parts) == len(sizes) + 1
    assert {split for _, split in parts} == {"train", "val", "test"}
    assert splits.read(folder) == {clip.name: (clip.venue, clip.split) for clip in divided}
    again = clips.split_by_venue(dataset, share, seed)
    assert [clip.split for clip in again] == [clip.split for clip in divided]


def test_a_split_that_cannot_be_made_is_named():
    with pytest.raises(LabelError, match=r"splits.csv: all clips are of 'v': give each the venue"):
        clips.split_by_venue([make("a"), make("b")], 0.2, 0)
    with pytest.raises(LabelError, match=r"val_share is 1\.5"):
        clips.split_by_venue([make("a")], 1.5, 0)
    with pytest.raises(LabelError, match="split 'training' is unknown"):
        clips.split([make("a")], "training")


def test_stats_measure_steps_between_consecutive_frames_only():
    table = labels.make_table(
        "a", [0, 1, 2, 5], [1, 1, 0, 1], [0, 3, 0, 90], [0, 4, 0, 0], "synthetic", ["", "flicker", "", ""]
    )
    row = clips.stats([make("a", table=table)]).loc["a"]
    assert row[["labelled", "flagged", "visible", "longest_gap"]].tolist() == [4, 1, 0.75, 4]
    assert row[["speed_p50", "speed_p95", "speed_max"]].tolist() == [5, 5, 5]
    empty = clips.stats([make("b")]).loc["b"]
    assert pd.isna(empty["speed_max"])


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


def test_the_real_rallies_have_a_row_a_frame(rallies_dir, tmp_path):
    clips.import_folder(rallies_dir, tmp_path)
    dataset = clips.load_dataset(tmp_path)
    assert all(clip.table["frame"].tolist() == list(range(clip.info.frame_count)) for clip in dataset)
    venues = {name: {clip.venue for clip in clips.split(dataset, name)} for name in ("train", "val")}
    assert not venues["train"] & venues["val"]
