import copy
import errno
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from label_server import PEOPLE, FakeClient, said, shown, work_of

from shuttlelib import clips, labels, splits
from shuttlelib.apps.labeling import answers, history, pull
from shuttlelib.files import WriteError
from shuttlelib.labels import LabelError

SIZE_HW = (64, 96)


@pytest.fixture
def work(tmp_path, tiny_video):
    return work_of(tmp_path / "work", tiny_video("00030.mp4"))


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def bring(work, data, *tasks, **options):
    """Pull some tasks into a data folder."""
    return pull.pull(work, pull.read_answers(FakeClient(tasks), work), data, **options)


def rows(data, clip="00030"):
    return labels.read_table(data / f"{clip}.parquet")[0]


def past(data, clip="00030"):
    return history.read(history.path_of(data, clip))


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_answers_become_canonical_rows_beside_their_video(work, data):
    done = bring(
        work,
        data,
        shown(work, "00030", 4, said(work, "00030", "visible", (24.0, 16.0)), number=1),
        shown(work, "00030", 1, said(work, "00030", "occluded", number=12), number=2),
        shown(work, "00030", 2, number=3),
        shown(work, "00030", 3, said(work, "00030", "not in play", (3.0, 3.0), number=13), number=4),
    )
    assert done.problems == []
    (clip,) = clips.load_dataset(data)
    assert clip.table["frame"].tolist() == [1, 3, 4]
    assert clip.table["visible"].tolist() == [False, False, True]
    np.testing.assert_allclose(clip.table.loc[2, ["x_px", "y_px"]].astype(float), [24.0, 16.0])
    assert set(clip.table["origin"]) == {"label_studio"}
    grown = past(data)
    assert grown["who"].tolist() == [PEOPLE[1]] * 3
    assert grown["action"].tolist() == ["added"] * 3
    assert grown["choice"].tolist() == ["occluded", "not in play", "visible"]
    assert json.loads(grown["replaced"][0]) == []


def test_a_correction_remembers_what_it_replaced(work, data, tmp_path):
    video = tmp_path / "00030.mp4"
    old = labels.make_table("00030", [0, 1], [True, True], [5.0, 6.0], [7.0, 8.0], "tracknet_csv")
    clips.store(clips.Clip("00030", video, old, clips.probe(video), "hall", "val"), data)
    first = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    bring(work, data, first)
    assert rows(data)["origin"].tolist() == ["tracknet_csv", "label_studio"]
    assert clips.load_dataset(data)[0].venue == "hall"
    entry = past(data).iloc[0]
    assert (entry["action"], entry["who"], entry["at"]) == ("replaced", PEOPLE[1], "2026-01-01T00:00:00Z")
    was = {"visible": True, "x_px": 6.0, "y_px": 8.0, "origin": "tracknet_csv", "flags": ""}
    assert json.loads(entry["replaced"]) == [was]
    again = said(work, "00030", "visible", (25.0, 16.0), at="2026-01-02T00:00:00Z")
    bring(work, data, shown(work, "00030", 1, again))
    assert past(data)["action"].tolist() == ["replaced", "replaced"]
    assert json.loads(past(data)["replaced"][1])[0]["x_px"] == pytest.approx(24.0)


def test_a_second_pull_changes_nothing_and_leaves_cleaned_labels_alone(work, data):
    task = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    bring(work, data, task)
    table, info = labels.read_table(data / "00030.parquet")
    labels.write_table(data / "00030.parquet", table.assign(flags="spike"), info)
    before = files(data)
    assert bring(work, data, task).changes.empty
    assert files(data) == before


def test_two_annotators_are_kept_and_named(work, data):
    pair = (
        said(work, "00030", "visible", (24.0, 16.0)),
        said(work, "00030", "visible", (25.0, 16.0), who=2, number=12),
    )
    bring(work, data, shown(work, "00030", 1, *pair))
    assert rows(data)["flags"].tolist() == [f"annotator={who}" for who in PEOPLE.values()]


def test_a_renamed_video_is_found_by_its_hash(work, data, tmp_path):
    task = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    (tmp_path / "00030.mp4").rename(tmp_path / "final.mp4")
    done = bring(work, data, task)
    assert done.renamed == {"00030": "final"}
    assert rows(data, "final")["clip"].tolist() == ["final"]
    assert [clip.name for clip in clips.load_dataset(data)] == ["final"]


def test_labels_go_on_when_a_video_is_renamed_between_two_pulls(work, data, tmp_path):
    first = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)), number=1)
    bring(work, data, first)
    (data / "00030.mp4").unlink()
    (tmp_path / "00030.mp4").rename(data / "final.mp4")
    done = bring(
        work, data, first, shown(work, "00030", 2, said(work, "00030", "occluded", number=12), number=2)
    )
    assert rows(data, "final")["frame"].tolist() == [1, 2]
    assert past(data, "final")["frame"].tolist() == [1, 2]
    assert "its video is final.mp4 now" in done.problems[0]


def test_a_renamed_video_takes_no_history_of_the_one_that_has_its_name_now(work, data, tmp_path, tiny_video):
    first = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    (tmp_path / "00030.mp4").rename(tmp_path / "final.mp4")
    (tmp_path / "new").mkdir()
    tiny_video("00030.mp4", frames=4).rename(tmp_path / "new" / "00030.mp4")
    other = replace(work_of(tmp_path / "other", tmp_path / "new" / "00030.mp4"), id="other")
    bring(other, data, shown(other, "00030", 3, said(other, "00030", "occluded")))
    bring(work, data, first)
    assert past(data, "final")["frame"].tolist() == [1]
    assert past(data)["frame"].tolist() == [3]


def test_a_video_that_was_labelled_under_two_names_keeps_all_answers(work, data, tmp_path):
    first = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)), number=1)
    (tmp_path / "00030.mp4").rename(tmp_path / "final.mp4")
    later = work_of(tmp_path / "later", tmp_path / "final.mp4").clips["final"]
    work = work.with_clip(later)
    second = shown(work, "final", 5, said(work, "final", "occluded", number=12), number=2)
    for _ in range(2):
        bring(work, data, first, second)
        assert rows(data, "final")["frame"].tolist() == [1, 5]
        assert past(data, "final")["frame"].tolist() == [1, 5]


@pytest.mark.parametrize("other", [None, "data", "origin"])
def test_a_video_that_is_gone_or_another_one_is_an_error(work, data, tmp_path, tiny_video, other):
    task = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    (tmp_path / "00030.mp4").unlink()
    if other:
        data.mkdir()
        tiny_video("00030.mp4", frames=4).rename((data if other == "data" else tmp_path) / "00030.mp4")
    with pytest.raises(LabelError, match=r"'00030' was labelled on 00030.mp4 .hash .*put that very video"):
        bring(work, data, task)
    assert not list(data.glob("*.parquet"))


def test_frames_cut_out_again_at_another_size_keep_their_place(work, data):
    note = said(work, "00030", "visible", (24.0, 16.0))
    for result in note["result"]:
        result |= {"original_width": 192, "original_height": 128}
    done = bring(work, data, shown(work, "00030", 1, note))
    np.testing.assert_allclose(rows(data)[["x_px", "y_px"]].to_numpy(), [[24.0, 16.0]])
    assert "labelled on a picture of 192x128, not 96x64" in done.problems[0]


def test_a_picture_of_another_shape_is_refused(work, data):
    note = said(work, "00030", "visible", (24.0, 16.0))
    note["result"][0] |= {"original_width": 100, "original_height": 100}
    with pytest.raises(LabelError, match=r"task 1 .00030 frame 1.*100x100, not 96x64: another shape"):
        bring(work, data, shown(work, "00030", 1, note))


def test_percent_beyond_100_is_kept_out_of_training_and_told(work, data):
    note = said(work, "00030", "visible", (120.0, 16.0))
    done = bring(work, data, shown(work, "00030", 1, note))
    assert "task 1 (00030 frame 1): its point is outside the picture (125.0%)" in done.problems[0]
    assert rows(data)["flags"].tolist() == ["out_of_frame"]
    assert clips.load_dataset(data)[0].table.empty


def test_what_a_person_left_out_is_told(work, data):
    done = bring(
        work,
        data,
        shown(work, "00030", 1, said(work, "00030", "visible"), number=1),
        shown(work, "00030", 2, said(work, "00030", "", number=12), number=2),
        shown(work, "00030", 3, said(work, "00030", "", (4.0, 4.0), number=13), number=3),
    )
    assert "task 1 (00030 frame 1): visible, but no point" in done.problems[0]
    assert "task 2 (00030 frame 2): neither point nor visibility" in done.problems[1]
    assert rows(data)["frame"].tolist() == [1, 3]
    assert rows(data)["flags"].tolist() == ["no_coordinates", ""]


def test_annotations_deleted_on_the_server_stay_until_told_otherwise(work, data):
    kept = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)), number=1)
    gone = shown(work, "00030", 2, said(work, "00030", "occluded", number=12), number=2)
    bring(work, data, kept, gone)
    gone = {**gone, "annotations": []}
    done = bring(work, data, kept, gone)
    assert done.gone == [("00030", 2)]
    assert rows(data)["frame"].tolist() == [1, 2]
    bring(work, data, kept, gone, drop_deleted=True)
    assert rows(data)["frame"].tolist() == [1]
    assert past(data)["action"].tolist() == ["added", "added", "removed"]
    assert bring(work, data, kept, gone).gone == []


def test_labels_of_another_own_server_are_not_taken_for_deleted(work, data, tmp_path):
    first, second = replace(work, id="1a"), replace(work, id="2b")  # both have project 7
    bring(first, data, shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0), number=103)))
    answer = said(work, "00030", "visible", (30.0, 16.0), number=1)
    done = bring(second, data, shown(work, "00030", 2, answer, number=2), drop_deleted=True)
    assert done.gone == []
    assert rows(data)["frame"].tolist() == [1, 2]


def test_a_new_clip_is_stored_where_the_unknown_venue_is(work, data):
    splits.write(data, {"other": ("unknown", "val")})
    bring(work, data, shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0))))
    (clip,) = clips.load_dataset(data)
    assert (clip.venue, clip.split) == ("unknown", "val")


def test_a_frame_that_a_person_annotated_twice_is_not_taken_for_deleted(work, data):
    first = said(work, "00030", "visible", (24.0, 16.0))
    second = said(work, "00030", "occluded", number=12, at="2026-01-02T00:00:00Z")
    bring(work, data, shown(work, "00030", 1, first))
    both = shown(work, "00030", 1, first, second)
    assert bring(work, data, both, drop_deleted=True).gone == []
    assert past(data)["action"].tolist() == ["added", "replaced"]
    assert rows(data)["visible"].tolist() == [False]
    assert bring(work, data, shown(work, "00030", 1, first), drop_deleted=True).gone == [("00030", 1)]
    assert past(data)["action"].tolist() == ["added", "replaced", "removed"]
    assert rows(data)["visible"].tolist() == [True]


def strange_name(task):
    task["annotations"][0]["result"][0]["from_name"] = "point"


def strange_choice(task):
    task["annotations"][0]["result"][1]["value"]["choices"] = ["hidden"]


def strange_clip(task):
    task["data"]["clip"] = "00099"


def strange_frame(task):
    task["data"]["frame"] = 600


def strange_video(task):
    task["data"]["video_sha256"] = "0" * 64


def strange_task(task):
    del task["data"]["clip"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (strange_name, "an answer by 'point', known are 'kp' and 'visibility'"),
        (strange_choice, "visibility 'hidden', known are visible, occluded"),
        (strange_clip, "clip '00099' is not in this labelling"),
        (strange_frame, "frame 600 is not one of the 6"),
        (strange_video, "made from another video of the name '00030'"),
        (strange_task, "its data has no clip and frame"),
    ],
)
def test_a_task_of_another_version_is_named_and_nothing_is_written(work, data, change, words):
    good = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)), number=4)
    bad = copy.deepcopy(good) | {"id": 5}
    change(bad)
    with pytest.raises(LabelError, match=f"project 7 at .*, task 5: {words}"):
        bring(work, data, good, bad)
    assert not data.exists()


def test_a_page_of_another_version_is_refused(work):
    config = FakeClient().label_config.replace('"occluded"', '"hidden"')
    with pytest.raises(LabelError, match=r"project 7 at .*: its labelling page offers .* 'hidden'"):
        pull.read_answers(FakeClient(label_config=config), work)
    config = FakeClient().label_config.replace('name="kp"', 'name="dot"')
    with pytest.raises(LabelError, match="has no KeyPointLabels named 'kp'"):
        pull.read_answers(FakeClient(label_config=config), work)


def test_two_pulls_at_once(work, data):
    task = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    data.mkdir()
    with FileLock(data / pull.LOCK), pytest.raises(LabelError, match="another pull is writing there"):
        bring(work, data, task)
    assert bring(work, data, task).changes["frame"].tolist() == [1]


@pytest.mark.parametrize("failing", ["table", "history"])
def test_a_full_disk_leaves_all_as_it_was(work, data, monkeypatch, failing):
    bring(work, data, shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)), number=1))
    before = files(data)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    more = shown(work, "00030", 2, said(work, "00030", "occluded", number=12), number=2)
    with monkeypatch.context() as patch:
        where = (pd.DataFrame, "to_parquet") if failing == "history" else (labels.pq, "write_table")
        patch.setattr(*where, full)
        with pytest.raises(WriteError, match="the disk is full"):
            bring(work, data, more)
    assert files(data) == before
    bring(work, data, more)
    assert rows(data)["frame"].tolist() == [1, 2]


def test_a_pull_cut_off_between_its_two_files_is_made_good(work, data):
    task = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    bring(work, data, task)
    whole = files(data)
    table, info = labels.read_table(data / "00030.parquet")
    labels.write_table(data / "00030.parquet", table.iloc[:0], info)
    bring(work, data, task)
    assert files(data) == whole


def test_labels_that_were_imported_over_come_back(work, data, tmp_path):
    video = tmp_path / "00030.mp4"
    old = labels.make_table("00030", [1, 3], True, [6.0, 7.0], 8.0, "tracknet_csv")
    imported = clips.Clip("00030", video, old, clips.probe(video), "hall", "val")
    clips.store(replace(imported, table=old.assign(flags="spike")), data)  # cleaned before the pull
    bring(work, data, shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0))))
    again = said(work, "00030", "visible", (25.0, 16.0), at="2026-01-02T00:00:00Z")
    tasks = [
        shown(work, "00030", 1, again),
        shown(work, "00030", 2, said(work, "00030", "occluded", number=12)),
    ]
    bring(work, data, *tasks)
    whole = files(data)
    clips.store(imported, data)
    done = bring(work, data, *tasks)
    assert done.changes[["frame", "action"]].to_numpy().tolist() == [[1, "restored"], [2, "restored"]]
    assert rows(data)["x_px"].round(6).tolist()[::2] == [25.0, 7.0]
    assert rows(data)["origin"].tolist() == ["label_studio", "label_studio", "tracknet_csv"]
    assert past(data)["action"].tolist() == ["replaced", "replaced", "added"]
    assert (
        files(data)[history.path_of(data, "00030").relative_to(data)]
        == whole[history.path_of(data, "00030").relative_to(data)]
    )
    assert bring(work, data, *tasks).changes.empty


def test_what_another_labelling_answered_later_is_not_undone(work, data, tmp_path):
    task = shown(work, "00030", 1, said(work, "00030", "visible", (24.0, 16.0)))
    bring(work, data, task)
    other = replace(work, project=8)
    bring(other, data, shown(work, "00030", 1, said(work, "00030", "visible", (30.0, 16.0))))
    table, info = labels.read_table(data / "00030.parquet")
    labels.write_table(data / "00030.parquet", table.assign(origin="tracknet_csv"), info)
    assert bring(work, data, task).changes.empty


def test_the_latest_of_one_persons_answers_counts(work):
    notes = [
        said(work, "00030", "visible", (24.0, 16.0), number=11, at="2026-01-03T00:00:00Z"),
        said(work, "00030", "occluded", number=12, at="2026-01-02T00:00:00Z"),
        said(work, "00030", "occluded", number=13, was_cancelled=True),
    ]
    found = answers.read([shown(work, "00030", 1, *notes)], work.clips, PEOPLE, "p").found
    assert [answer.annotation for answer in found] == [11]
