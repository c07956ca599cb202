import os
from dataclasses import replace

import pandas as pd
import pytest

from shuttlelib import clips, intake, labels, splits
from shuttlelib.files import sha256
from shuttlelib.labels import LabelError

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
    (folder / "splits.csv").write_text(
        "clip,venue,split\n00001,Odense,train\n00002,Tokyo,val\n00003,Tokyo,val\n"
    )
    return folder


def test_a_folder_is_imported_and_loaded(source, tmp_path):
    imported = intake.import_folder(source, tmp_path / "data")
    dataset = clips.load_dataset(tmp_path / "data")
    assert [clip.name for clip in dataset] == [clip.name for clip in imported] == ["00001", "00002"]
    first, second = dataset
    assert (first.venue, first.split, second.venue, second.split) == ("Odense", "train", "Tokyo", "val")
    assert first.info == clips.probe(source / "00001.mp4")
    assert (first.info.size_hw, first.info.frame_count) == ((64, 96), 4)
    assert first.info.fps == pytest.approx(29.97, abs=0.001)
    assert first.info.video_sha256 == sha256(source / "00001.mp4")
    assert first.video_path == tmp_path / "data" / "00001.mp4"
    assert first.video_path.is_symlink()
    assert second.table["frame"].tolist() == [1]
    assert clips.split(dataset, "val") == [second]


def test_what_follows_a_clips_name_may_be_of_any_case(source, tmp_path):
    (source / "00001.csv").rename(source / "00001.CSV")
    (source / "00002_ball.csv").rename(source / "00002_Ball.CSV")
    (source / "export.JSON").write_text(
        '[{"data": {"clip": "00003", "frame": 2}, "annotations": [{"result": []}]}]'
    )
    imported = intake.import_folder(source, tmp_path / "data")
    assert {clip.name: len(clip.table) for clip in imported} == {"00001": 4, "00002": 1, "00003": 1}


def test_copies_stand_alone_and_importing_again_changes_nothing(source, tmp_path):
    out = tmp_path / "data"
    intake.import_folder(source, out, link=False)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert not (out / "00001.mp4").is_symlink()
    intake.import_folder(source, out, link=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_importing_labels_anew_keeps_the_place_that_a_clip_has(source, tmp_path):
    out = tmp_path / "data"
    intake.import_folder(source, out)
    (source / "splits.csv").unlink()
    intake.import_folder(source, out)
    assert splits.read(out) == {"00001": ("Odense", "train"), "00002": ("Tokyo", "val")}
    intake.import_folder(source, tmp_path / "other")
    assert set(splits.read(tmp_path / "other").values()) == {("unknown", "train")}


def test_a_venue_moves_to_another_split_as_a_whole(source, tmp_path):
    out = tmp_path / "data"
    header = "clip,venue,split\n"
    (source / "splits.csv").write_text(header + "00001,Odense,train\n00002,Odense,train\n")
    intake.import_folder(source, out)
    (source / "splits.csv").write_text(header + "00001,Odense,val\n00002,Odense,val\n")
    intake.import_folder(source, out)
    assert [clip.split for clip in clips.load_dataset(out)] == ["val", "val"]


def test_nothing_is_written_where_a_part_of_a_venue_would_move(source, tmp_path):
    out = tmp_path / "data"
    intake.import_folder(source, out)
    splits.write(out, {**splits.read(out), "00009": ("Tokyo", "val")})
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (source / "splits.csv").write_text("clip,venue,split\n00001,Oslo,train\n00002,Tokyo,train\n")
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    with pytest.raises(LabelError, match="venue 'Tokyo' is in the splits"):
        intake.import_folder(source, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_can_be_imported_into_itself(source):
    intake.import_folder(source, source)
    assert len(clips.load_dataset(source)) == 2
    assert not (source / "00001.mp4").is_symlink()


def newer(path, than):
    """Write a file's time as a second after another's."""
    stamp = than.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(stamp, stamp))


def test_labels_edited_after_an_import_in_place_are_not_lost(source):
    intake.import_folder(source, source)
    intake.import_folder(source, source)
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    newer(source / "00001.csv", than=source / "00001.parquet")
    with pytest.raises(LabelError, match=r"00001\.csv: newer than 00001\.parquet.* give the --format"):
        intake.import_folder(source, source)
    (old, _) = intake.import_folder(source, source, "parquet")
    assert old.table["x_px"][0] == 10


def test_a_format_that_is_asked_for_is_read_past_a_parquet_file(source):
    (source / "00002_ball.csv").unlink()
    intake.import_folder(source, source)
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    (edited,) = intake.import_folder(source, source, "tracknet")
    assert edited.table["x_px"][0] == 11
    (again,) = intake.import_folder(source, source)
    assert again.table["x_px"][0] == 11


def test_an_export_made_again_after_an_import_in_place_is_not_lost(source):
    export = source / "export.csv"
    export.write_text(EXPORT + "1,1,00003,2,1,a.jpg,,invisible\n")
    intake.import_folder(source, source)
    export.write_text(EXPORT + "1,1,00003,3,1,a.jpg,,invisible\n")
    newer(export, than=source / "00003.parquet")
    with pytest.raises(LabelError, match=r"export\.csv: newer than 00003\.parquet"):
        intake.import_folder(source, source)


def test_a_label_studio_export_gives_every_video_its_rows(source, tmp_path):
    (source / "00001.csv").unlink()
    text = EXPORT + "1,1,00003,2,1,a.jpg,,invisible\n2,1,00001,0,2,b.jpg,,invisible\n"
    (source / "export.csv").write_text(text)
    intake.import_folder(source, tmp_path / "data")
    found = {clip.name: clip.table["frame"].tolist() for clip in clips.load_dataset(tmp_path / "data")}
    assert found == {"00001": [0], "00002": [1], "00003": [2]}


def test_nothing_is_written_when_one_label_file_is_wrong(source, tmp_path):
    (source / "00002_ball.csv").write_text("Frame,X,Y,Visibility\n1,5,6,visible\n")
    with pytest.raises(LabelError, match=r"00002_ball.csv: row 2, column 'Visibility' is 'visible'"):
        intake.import_folder(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_imported_is_named(tmp_path, tiny_video):
    with pytest.raises(LabelError, match="no such folder"):
        intake.import_folder(tmp_path / "nothing", tmp_path / "data")
    with pytest.raises(LabelError, match="no video there has labels of the same name"):
        intake.import_folder(tmp_path, tmp_path / "data")
    tiny_video("a.mp4")
    (tmp_path / "a.mov").write_bytes((tmp_path / "a.mp4").read_bytes())
    with pytest.raises(LabelError, match=r"a.mp4: a.mov has the same name"):
        intake.import_folder(tmp_path, tmp_path / "data")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_labels_that_were_pulled_stay_when_their_clip_is_imported_again(source, tmp_path):
    out = tmp_path / "data"
    intake.import_folder(source, out)
    table, info = labels.read_table(out / "00001.parquet")
    pulled = labels.make_table("00001", [1, 2], True, [50.0, 60.0], 9.0, "label_studio", ["spike", ""])
    imported = labels.make_table("00001", [3], True, 70.0, 9.0, "label_studio")  # of an older export
    labels.write_table(out / "00001.parquet", pd.concat([table[:1], pulled, imported]), info)
    (out / "history").mkdir()
    pd.DataFrame({"frame": [1, 2, 0]}).to_parquet(out / "history" / "00001.parquet")
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20") + "1,1,0,0\n")
    (first, second) = intake.import_folder(source, out)
    assert first.table["x_px"].tolist() == [11, 50, 60, 20]
    assert first.table["flags"].tolist() == ["", "spike", "", ""]
    assert second.table["origin"].tolist() == ["racketvision_csv"]
    pd.testing.assert_frame_equal(labels.read_table(out / "00001.parquet")[0], first.table)


@pytest.mark.parametrize("content", [b"PAR1", b"", "no frames"])
def test_a_damaged_history_of_pulled_labels_is_named(source, tmp_path, content):
    out = tmp_path / "data"
    intake.import_folder(source, out)
    history = out / "history" / "00001.parquet"
    history.parent.mkdir()
    if isinstance(content, bytes):
        history.write_bytes(content)
    else:
        pd.DataFrame({"x_px": [1.0]}).to_parquet(history)
    before = files(out)
    with pytest.raises(LabelError, match=r"history/00001\.parquet: not a history of pulled labels .*restore"):
        intake.import_folder(source, out)
    assert files(out) == before


@pytest.mark.parametrize("link", [True, False])
def test_another_video_of_the_name_takes_no_clips_place(source, tmp_path, tiny_video, link):
    out = tmp_path / "data"
    intake.import_folder(source, out, link=link)
    tiny_video("source/00002.mp4", frames=7)
    (source / "00001.csv").write_text(CSV.replace("10,20", "11,20"))
    before = files(out)
    with pytest.raises(
        LabelError, match=r"data/00002\.parquet: labels of another video .*source/00002\.mp4"
    ) as e:
        intake.import_folder(source, out, link=link)
    assert f"delete {out / '00002.parquet'} to replace it" in str(e.value)
    assert files(out) == before
    (out / "00002.parquet").unlink()
    assert [clip.info.frame_count for clip in intake.import_folder(source, out)] == [4, 7]


def test_a_clip_has_one_video_and_a_damaged_table_is_imported_again(source, tmp_path):
    out = tmp_path / "data"
    intake.import_folder(source, out)
    (out / "00001.parquet").write_bytes(b"PAR1")
    intake.import_folder(source, out)
    assert len(clips.load_dataset(out)) == 2
    (out / "00001.mp4").rename(out / "00001.mkv")
    with pytest.raises(
        LabelError, match=r"00001\.mp4: .*data/00001\.mkv has the same name: .* delete 00001\.mkv"
    ):
        intake.import_folder(source, out)


def test_labels_in_parquet_belong_to_the_video_that_they_name(source, tmp_path, tiny_video):
    intake.import_folder(source, source)
    tiny_video("source/00001.mp4", frames=4, size_hw=(32, 48))
    found = r"00001\.parquet: labels of another video .96x64, hash \w{12}. than .*00001\.mp4 .48x32"
    with pytest.raises(LabelError, match=found):
        intake.import_folder(source, tmp_path / "data")
    table, info = labels.read_table(source / "00001.parquet")
    labels.write_table(source / "00001.parquet", table, replace(info, video_sha256=""))
    with pytest.raises(LabelError, match=r"another video .96x64, hash \?. than"):
        intake.import_folder(source, tmp_path / "data")
    labels.write_table(source / "00001.parquet", table, replace(info, video_sha256="", width=48, height=32))
    intake.import_folder(source, tmp_path / "data")


def test_a_clip_that_the_sources_splits_do_not_name_is_not_guessed(source, tmp_path):
    (source / "splits.csv").write_text("clip,venue,split\n1,Odense,train\n00002,Tokyo,val\n")
    with pytest.raises(LabelError, match=r"source/splits\.csv: clip '00001' is missing; add a line"):
        intake.import_folder(source, tmp_path / "data")
    splits.write(tmp_path / "data", {"00001": ("Odense", "test")})
    assert intake.import_folder(source, tmp_path / "data")[0].split == "test"


def test_a_copy_takes_the_place_of_a_link(source, tmp_path):
    intake.import_folder(source, tmp_path / "data")
    intake.import_folder(source, tmp_path / "data", link=False)
    assert not any(path.is_symlink() for path in (tmp_path / "data").iterdir())


def test_videos_named_by_a_camera_are_imported(source, tmp_path):
    (source / "00001.mp4").rename(source / "00001.MP4")
    intake.import_folder(source, tmp_path / "data")
    intake.import_folder(source, tmp_path / "data")
    assert [clip.video_path.name for clip in clips.load_dataset(tmp_path / "data")] == [
        "00001.MP4",
        "00002.mp4",
    ]


@pytest.mark.parametrize("stray", ["00001.partial-4711", "._00001"])
def test_what_a_killed_run_or_macos_left_is_no_clip(source, tmp_path, stray):
    intake.import_folder(source, tmp_path / "data")
    for suffix in (".parquet", ".mp4"):
        (tmp_path / "data" / f"{stray}{suffix}").write_bytes(b"")
    assert len(clips.load_dataset(tmp_path / "data")) == 2
    assert list(clips.videos_in(tmp_path / "data")) == ["00001", "00002"]


def test_corrections_go_before_the_track_they_correct(source, tmp_path):
    (source / "00001_ball.csv").write_text(CSV.replace("10,20", "33,44"))
    assert intake.import_folder(source, tmp_path / "data")[0].table["x_px"].tolist()[0] == 33


def test_a_name_that_ends_with_a_blank_is_refused(source, tmp_path):
    (source / "00003.mp4").rename(source / "00003 .mp4")
    with pytest.raises(LabelError, match=r"00003 \.mp4: its name begins or ends with a blank; rename it"):
        intake.import_folder(source, tmp_path / "data")


def test_a_label_file_without_a_row_labels_nothing(source, tmp_path):
    (source / "00001.csv").write_text("Frame,Visibility,X,Y\n")
    assert [clip.name for clip in intake.import_folder(source, tmp_path / "data")] == ["00002"]
    (source / "00002_ball.csv").write_text("Frame,X,Y,Visibility\n")
    with pytest.raises(LabelError, match=r"00001\.csv, .*00002_ball\.csv: no rows; write one row a frame"):
        intake.import_folder(source, tmp_path / "data")


def test_an_export_with_a_byte_order_mark_is_found(source, tmp_path):
    (source / "export.json").write_text(
        '[{"annotation_id": 1, "clip": "00003", "frame": 2, "visibility": "occluded"}]', "utf-8-sig"
    )
    assert [clip.name for clip in intake.import_folder(source, tmp_path / "data")][-1] == "00003"


def test_the_real_rallies_have_a_row_a_frame(rallies_dir, tmp_path):
    intake.import_folder(rallies_dir, tmp_path)
    dataset = clips.load_dataset(tmp_path)
    assert all(clip.table["frame"].tolist() == list(range(clip.info.frame_count)) for clip in dataset)
    venues = {name: {clip.venue for clip in clips.split(dataset, name)} for name in ("train", "val")}
    assert not venues["train"] & venues["val"]
