import pytest

from shuttlelib import clips, intake, layouts, splits
from shuttlelib.labels import LabelError

TEXT = "Frame,Visibility,X,Y\n0,1,10,20\n1,0,0,0\n"


def make(root, *files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT)


def test_the_shuttlecock_trajectory_dataset_has_a_venue_a_match(tmp_path):
    for part, rally in (("Professional", "1_01_00"), ("Amateur", "1_01_00"), ("Test", "1_05_02")):
        make(tmp_path, f"{part}/match1/csv/{rally}_ball.csv", f"{part}/match1/video/{rally}.mp4")
    found = layouts.find(tmp_path)
    assert {rally.name: (rally.venue, rally.split) for rally in found} == {
        "professional_match1_1_01_00": ("professional_match1", "train"),
        "amateur_match1_1_01_00": ("amateur_match1", "train"),
        "test_match1_1_05_02": ("test_match1", "test"),
    }
    assert layouts.find(tmp_path / "Professional")[0].name == "match1_1_01_00"


def test_racketvision_takes_one_sport_and_never_divides_a_match(tmp_path):
    for sport in ("badminton", "tennis"):
        for match, rally in (("match1", "000"), ("match1", "001"), ("match2", "000"), ("match3", "000")):
            make(tmp_path, f"{sport}/all/{match}/csv/{rally}_ball.csv", f"{sport}/videos/{match}_{rally}.mp4")
    info = tmp_path / "badminton" / "info"
    info.mkdir()
    (info / "train.json").write_text('[["match1", "000"], ["match2", "000"]]')
    (info / "val.json").write_text('[["match1", "001"]]')
    found = {rally.name: rally.split for rally in layouts.find(tmp_path)}
    assert found == {"match1_000": "val", "match1_001": "val", "match2_000": "train", "match3_000": "train"}
    assert len(layouts.find(tmp_path / "tennis", "tennis")) == 4
    (info / "test.json").write_text('{"match1": 3')
    with pytest.raises(LabelError, match=r"test\.json: not a list of \[match, rally\]"):
        layouts.find(tmp_path)


def test_a_rally_without_its_video_is_named_and_other_folders_hold_nothing(tmp_path):
    make(tmp_path, "train/match1/csv/1_01_00_ball.csv")
    with pytest.raises(LabelError, match=r"1_01_00_ball\.csv: no video of this rally"):
        layouts.find(tmp_path)
    assert layouts.find(tmp_path / "train" / "match1" / "csv") == []


def test_what_macos_puts_beside_files_is_no_rally(tmp_path):
    make(tmp_path, "train/match1/csv/1_01_00_ball.csv", "train/match1/video/1_01_00.mp4")
    make(tmp_path, "train/match1/csv/._1_01_00_ball.csv", "__MACOSX/train/match1/csv/._1_01_00_ball.csv")
    assert [rally.name for rally in layouts.find(tmp_path)] == ["train_match1_1_01_00"]


def test_a_videos_suffix_may_be_of_any_case(tmp_path):
    make(tmp_path, "train/match1/csv/1_01_00_ball.csv", "train/match1/video/1_01_00.MP4")
    assert layouts.find(tmp_path)[0].video.name == "1_01_00.MP4"


def test_a_set_in_a_public_layout_imports_as_it_is(tmp_path, tiny_video):
    for part in ("train", "test"):
        make(tmp_path, f"set/{part}/match1/csv/1_01_00_ball.csv")
        (tmp_path / "set" / part / "match1" / "video").mkdir()
        tiny_video(f"set/{part}/match1/video/1_01_00.mp4", frames=2)
    intake.import_folder(tmp_path / "set", tmp_path / "data")
    dataset = clips.load_dataset(tmp_path / "data")
    assert [(clip.name, clip.venue, clip.split) for clip in dataset] == [
        ("test_match1_1_01_00", "test_match1", "test"),
        ("train_match1_1_01_00", "train_match1", "train"),
    ]
    assert dataset[0].table["x_px"].tolist()[0] == 10
    moved = {clip.name: (clip.venue, "val") for clip in dataset}
    splits.write(tmp_path / "data", moved)
    intake.import_folder(tmp_path / "set", tmp_path / "data")
    (tmp_path / "set" / "test" / "match1" / "csv" / "1_01_00_ball.csv").write_text("Frame,Visibility,X,Y\n")
    assert [clip.venue for clip in intake.import_folder(tmp_path / "set", tmp_path / "data")] == [
        "train_match1"
    ]
    assert splits.read(tmp_path / "data") == moved, "a clip that is imported again keeps its place"
