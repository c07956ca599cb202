import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuttlelib import cleanup, clips, intake, labels, splits
from shuttlelib.labels import ClipInfo, LabelError

INFO = ClipInfo(1280, 720, 30.0, 100)
FRAMES = np.arange(100)


def flight(**changes):
    """A clean clip: the shuttle flies to and fro, 8 px a frame, never at rest."""
    columns = {
        "frame": FRAMES,
        "visible": np.ones(100, bool),
        "x_px": 200.0 + 8 * np.abs(FRAMES - 50),
        "y_px": 300.0 + FRAMES,
        "flags": "",
    }
    return labels.make_table("00001", origin="synthetic", **{**columns, **changes})


def flagged(table, name):
    return table.loc[labels.has_flag(table, name), "frame"].tolist()


def names(audit):
    return sorted(set(audit["check"]))


def changed(rows, **columns):
    table = flight()
    for column, value in columns.items():
        table.loc[rows, column] = value
    return table


def test_a_clean_clip_stays_as_it_is():
    table, audit = cleanup.clean(flight(), INFO)
    pd.testing.assert_frame_equal(table, flight())
    assert audit.empty
    assert list(audit) == list(cleanup.NO_AUDIT)


@pytest.mark.parametrize(
    ("name", "table", "frames", "value"),
    [
        ("zero_point", changed([7], x_px=0.0, y_px=0.0), [7], 0),
        ("no_coordinates", changed([7], y_px=np.nan), [7], np.nan),
        ("out_of_frame", changed([7], x_px=1290.0), [7], 10),
        ("at_border", changed([7], y_px=0.0), [7], 0),
        ("missing_frames", flight().drop(index=[7, 8]), [9], 2),
        ("missing_frames", flight().drop(index=[0, 1]), [2], 2),
        ("missing_frames", flight().drop(index=[98, 99]), [97], 2),
        ("spike", changed([7], x_px=300.0), [7], None),
        ("too_fast", changed(range(80, 100), x_px=1100.0 + np.arange(20) * 8), [80], None),
        ("hop", changed(range(80, 100), x_px=720.0), [80], None),
        ("static_run", changed(range(80, 96), x_px=600.0, y_px=380.0), list(range(80, 96)), 16),
        ("flicker", changed([7], visible=False, x_px=np.nan, y_px=np.nan), [7], 1),
    ],
)
def test_an_anomaly_is_flagged_and_listed_but_kept(name, table, frames, value):
    cleaned, audit = cleanup.clean(table, INFO)
    assert flagged(cleaned, name) == frames
    found = audit[audit["check"] == name]
    assert found["frame"].tolist() == frames
    assert set(found["action"]) == {"flagged"}
    if value is not None:
        np.testing.assert_array_equal(found["value"], value)
    assert len(cleaned) == len(table)
    pd.testing.assert_frame_equal(
        cleaned.drop(columns="flags"), labels.as_canonical(table).drop(columns="flags")
    )


def test_a_lone_visible_frame_flickers_too():
    table = changed([6, 8], visible=False, x_px=np.nan, y_px=np.nan)
    assert flagged(cleanup.clean(table, INFO)[0], "flicker") == [6, 7, 8]


def test_exact_duplicates_and_rows_beyond_the_end_go_and_order_returns():
    shuffled = pd.concat([flight()[50:], flight()[:60], flight()[:1]])
    late = flight()[98:].assign(frame=[100, 140])
    table, audit = cleanup.clean(pd.concat([shuffled, late]), INFO)
    pd.testing.assert_frame_equal(table.drop(columns="flags"), flight().drop(columns="flags"))
    actions = audit.groupby("check")["action"].agg(["first", "size"]).T.to_dict("list")
    assert actions == {
        "out_of_order": ["sorted", 61],
        "duplicate": ["dropped", 11],
        "beyond_end": ["dropped", 2],
    }


def test_an_unknown_frame_count_drops_nothing():
    assert len(cleanup.clean(flight(), ClipInfo(1280, 720, 30.0, 0))[0]) == 100


def test_contradicting_rows_stay_in_the_file_but_out_of_training():
    other = flight()[7:8].assign(x_px=900.0)
    table, audit = cleanup.clean(pd.concat([flight(), other]), INFO)
    assert flagged(table, "duplicate_conflict") == [7, 7]
    assert audit.loc[audit["check"] == "duplicate_conflict", "value"].tolist() == [356.0, 356.0]
    assert 7 not in labels.usable(table)["frame"].tolist()


def test_annotators_who_agree_are_averaged_and_who_disagree_are_flagged():
    first = flight()[:3].assign(flags="annotator=a")
    second = flight()[:3].assign(flags="annotator=b")
    second["x_px"] += [4.0, 40.0, 0.0]
    second.loc[2, ["visible", "x_px", "y_px"]] = [False, np.nan, np.nan]
    table, audit = cleanup.clean(pd.concat([first, second, flight()[3:]]), INFO)
    agreed = table[table["frame"] == 0]
    assert agreed[["x_px", "flags"]].to_numpy().tolist() == [[602.0, "annotators_agree"]]
    assert flagged(table, "annotators_disagree") == [1, 1, 2, 2]
    values = audit[audit["check"] == "annotators_disagree"].groupby("frame")["value"].first()
    assert values.tolist() == [40.0, np.inf]
    assert labels.usable(table)["frame"].tolist() == [0, *range(3, 100)]


def test_labels_on_some_frames_only_are_no_gaps():
    assert cleanup.clean(flight()[::5], INFO)[1].empty


def test_repeated_video_frames_do_not_look_like_a_hop():
    # 25 fps brought to 30: the label rests where the picture repeats, in the middle of a smash.
    smash = 200 + np.cumsum([2, 2, 2, 0, 120, 100, 0, 85, 70, 60, 0, 50])
    table = flight()[:12].assign(x_px=smash.astype(float))
    _, audit = cleanup.clean(table, ClipInfo(1280, 720, 30.0, 12))
    assert names(audit) == []


@pytest.mark.parametrize("fps", [30.0, 119.0])
def test_the_limit_of_speed_follows_frame_rate_and_size(fps):
    for width in (1280, 1920):
        info = ClipInfo(width, width * 9 // 16, fps, 2)
        reach = 4.576 * np.log1p(140 / 4.576 / fps) * width / 8  # drag: 4.576 m is the braking length
        for factor, expected in ((0.98, []), (1.02, ["too_fast"])):
            table = labels.make_table("a", [0, 1], True, [5.0, 5.0 + reach * factor], 9.0, "synthetic")
            assert names(cleanup.clean(table, info)[1]) == expected


def test_several_clips_at_once_are_refused():
    with pytest.raises(LabelError, match="'00001', '2': clean one clip at a time"):
        cleanup.clean(pd.concat([flight(), flight().assign(clip="2")]), INFO)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.booleans(),
        st.sampled_from([np.nan, 0.0, 5.0, 6.0, 300.0, 1280.0, 2000.0]),
        st.sampled_from([np.nan, 0.0, 5.0, 300.0, -4.0]),
        st.sampled_from(["", "annotator=a", "annotator=b", "flicker"]),
    ),
    max_size=14,
)


@settings(max_examples=40)
@given(ROWS)
def test_cleaning_any_labels_makes_them_fit_for_training_and_only_once(rows):
    columns = zip(*rows) if rows else [[]] * 5
    frame, visible, x, y, flags = map(list, columns)
    raw = labels.make_table("00001", frame, visible, x, y, "synthetic", flags or "")
    info = ClipInfo(1280, 720, 30.0, 10)
    cleaned, audit = cleanup.clean(raw, info)
    labels.require_clean(labels.usable(cleaned), "cleaned", info.frame_count)
    again, _ = cleanup.clean(cleaned, info)
    pd.testing.assert_frame_equal(again, cleaned)
    assert set(cleaned["frame"]) == {f for f in frame if f < 10}  # no labelled frame is lost
    for check, found in audit[audit["action"] == "flagged"].groupby("check"):
        assert set(flagged(cleaned, check)) >= set(found["frame"])
    said = set(raw.loc[~raw["visible"], "frame"])
    assert set(cleaned.loc[~cleaned["visible"], "frame"]) <= said  # nothing becomes invisible


def test_a_folder_is_cleaned_into_another(tmp_path, tiny_video):
    (tmp_path / "raw").mkdir()
    video = tiny_video("raw/a.mp4", frames=6)
    (tmp_path / "raw" / "a.csv").write_text("Frame,Visibility,X,Y\n0,1,9,9\n0,1,9,9\n1,1,0,0\n9,1,5,5\n")
    intake.import_folder(tmp_path / "raw", tmp_path / "data")
    with pytest.raises(LabelError, match="run `shuttle data clean`"):
        clips.load_dataset(tmp_path / "data")
    audit = cleanup.clean_dataset(tmp_path / "data", tmp_path / "clean")
    assert {"duplicate", "zero_point", "beyond_end"} <= set(audit["check"])
    (clip,) = clips.load_dataset(tmp_path / "clean")
    assert clip.table["frame"].tolist() == [0]
    assert clip.video_path.resolve() == video
    written = pd.read_csv(tmp_path / "clean" / "cleanup" / "audit.csv", dtype={"clip": str})
    assert len(written) == len(audit)


def make_clip(tmp_path, tiny_video, name, place):
    """Store a clip with a doubled row in `data`."""
    path = tiny_video(f"{name}.mp4")
    table = labels.make_table(name, [0, 0, 1], True, [9.0, 9, 12], 9.0, "tracknet_csv")
    clips.store(clips.Clip(name, path, table, clips.probe(path), *place), tmp_path / "data")


def test_a_new_clip_of_a_venue_that_moved_goes_with_it(tmp_path, tiny_video):
    data, out = tmp_path / "data", tmp_path / "clean"
    make_clip(tmp_path, tiny_video, "a", ("hall", "train"))
    cleanup.clean_dataset(data, out)
    splits.write(out, {"a": ("hall", "val")})
    make_clip(tmp_path, tiny_video, "b", ("hall", "train"))
    make_clip(tmp_path, tiny_video, "c", ("gym", "train"))
    cleanup.clean_dataset(data, out)
    assert splits.read(out) == {"a": ("hall", "val"), "b": ("hall", "val"), "c": ("gym", "train")}
    assert len(clips.load_dataset(out)) == 3


def test_cleaning_into_a_folder_takes_no_other_clips_place_and_no_pulled_label(tmp_path, tiny_video):
    make_clip(tmp_path, tiny_video, "a", ("hall", "train"))
    data, out = tmp_path / "data", tmp_path / "clean"
    cleanup.clean_dataset(data, out)
    table, info = labels.read_table(out / "a.parquet")
    pulled = labels.make_table("a", [1], True, 50.0, 9.0, "label_studio")
    labels.write_table(out / "a.parquet", pd.concat([table[:1], pulled]), info)
    (out / "history").mkdir()
    pulled.to_parquet(out / "history" / "a.parquet")
    cleanup.clean_dataset(data, out)
    assert clips.load_dataset(out)[0].table["x_px"].tolist() == [9, 50]
    two = labels.make_table(
        "a", [1, 1], True, [50.0, 50.2], 9.0, "label_studio", ["annotator=1", "annotator=2"]
    )
    labels.write_table(out / "a.parquet", pd.concat([table[:1], two]), info)
    assert "annotators_agree" in names(cleanup.clean_dataset(data, out))
    assert clips.load_dataset(out)[0].table["x_px"].tolist() == [9, pytest.approx(50.1)]
    other = clips.Clip("a", path := tiny_video("b.mp4", frames=7), table, clips.probe(path), "hall", "train")
    clips.store(other, data)
    before = (out / "a.parquet").read_bytes()
    with pytest.raises(labels.LabelError, match=r"clean/a\.parquet: labels of another video"):
        cleanup.clean_dataset(data, out)
    assert (out / "a.parquet").read_bytes() == before


def test_cleaning_in_place_again_keeps_the_record_of_what_is_gone(tmp_path, tiny_video):
    make_clip(tmp_path, tiny_video, "00007", ("hall", "train"))
    data = tmp_path / "data"
    path = data / "cleanup" / "audit.csv"
    cleanup.clean_dataset(data, data)
    first = path.read_text()
    assert "00007,0,duplicate" in first
    assert "duplicate" not in names(cleanup.clean_dataset(data, data))
    assert path.read_text() == first
    make_clip(tmp_path, tiny_video, "00007", ("hall", "train"))  # imported again, so found again
    cleanup.clean_dataset(data, data)
    assert path.read_text() == first


def test_on_real_labels_little_is_flagged_and_nothing_lost(rallies_dir, tmp_path):
    intake.import_folder(rallies_dir, tmp_path / "data")
    raw = clips.load_dataset(tmp_path / "data")
    audit = cleanup.clean_dataset(tmp_path / "data", tmp_path / "data")
    assert set(audit["check"]) <= {"at_border", "flicker", "static_run"}
    assert len(audit) < 0.05 * sum(len(clip.table) for clip in raw)
    assert clips.data_hash(clips.load_dataset(tmp_path / "data")) == clips.data_hash(raw)
    assert audit.loc[audit["check"] == "at_border", ["clip", "frame"]].to_numpy().tolist() == [["00030", 291]]
