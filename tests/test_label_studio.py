import csv
import io
import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuttlelib import importers, label_studio, labels
from shuttlelib.labels import LabelError


def point(x=50.0, y=25.0):
    return {
        "x": x,
        "y": y,
        "width": 0.4,
        "keypointlabels": ["shuttle"],
        "original_width": 1280,
        "original_height": 720,
    }


def full(frame, *annotations, **data):
    """A task of a full export; an annotation is (who, visibility or None, points[, cancelled])."""
    entries = []
    for who, choice, points, *cancelled in annotations:
        result = [
            {
                "type": "keypointlabels",
                "from_name": "kp",
                "value": {key: p[key] for key in ("x", "y", "width", "keypointlabels") if key in p},
                **{key: p[key] for key in ("original_width", "original_height") if key in p},
            }
            for p in points
        ]
        if choice:
            result.append({"type": "choices", "from_name": "visibility", "value": {"choices": [choice]}})
        entries.append({"completed_by": who, "was_cancelled": bool(cancelled), "result": result})
    return {
        "id": 1,
        "data": {"clip": "00030", "frame": frame, "image": "a.jpg", **data},
        "annotations": entries,
    }


@pytest.fixture
def read(tmp_path):
    def reader(content, name="export.json", **kwargs):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return importers.read_labels(path, **kwargs)

    return reader


def as_csv(rows):
    columns = ("annotation_id", "annotator", "clip", "created_at", "frame", "id")
    columns += ("image", "kp", "lead_time", "updated_at", "visibility")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(frame, **changes):
    return {"annotation_id": 7, "annotator": 1, "clip": "00030", "frame": frame, "image": "a.jpg", **changes}


def test_the_three_exports_say_the_same(read):
    whole = read([full(0, (1, "visible", [point()])), full(1, (1, "not visible", []))])
    small = read([flat(0, kp=[point()], visibility="visible"), flat(1, visibility="not visible")])
    text = as_csv(
        [flat(0, kp=json.dumps([point()]), visibility="visible"), flat(1, kp="", visibility="not visible")]
    )
    for table in (whole, small, read(text, "export.csv")):
        assert table["clip"].tolist() == ["00030", "00030"]
        assert table["frame"].tolist() == [0, 1]
        assert table["visible"].tolist() == [True, False]
        assert table.loc[0, ["x_px", "y_px"]].tolist() == [640.0, 180.0]
        assert set(table["origin"]) == {"label_studio"}
        assert set(table["flags"]) == {""}


def test_skipped_and_unlabelled_tasks_give_no_row(read):
    assert read([full(0, (1, "visible", [point()], "cancelled")), full(1)]).empty
    assert read([{"id": 3, "image": "a.jpg", "clip": "00030", "frame": 2}]).empty
    assert read(as_csv([flat(0, annotation_id="", annotator="")]), "export.csv").empty


def test_several_annotators_are_all_kept_and_named(read):
    table = read(
        [
            full(4, ({"email": "a@b.c"}, "visible", [point()]), (2, "visible", [point(51)])),
            full(5, (2, None, [])),
        ]
    )
    assert table["frame"].tolist() == [4, 4, 5]
    assert table["flags"].tolist() == ["annotator=a@b.c", "annotator=2", ""]


def test_a_point_outside_the_picture_is_kept_for_cleanup(read):
    assert read([full(0, (1, "visible", [point(x=130)]))])["x_px"].tolist() == [1664.0]


def test_what_annotators_leave_out(read):
    table = read(
        [
            full(0, (1, None, [point()])),  # no choice, but a point
            full(1, (1, "visible", [])),  # a choice, but no point
            full(2, (1, "occluded", [point()])),  # both, and they contradict each other
        ]
    )
    assert table["visible"].tolist() == [True, True, False]
    assert np.isnan(table["x_px"]).tolist() == [False, True, True]
    assert table["flags"].tolist() == ["", "", "invisible_with_point"]


def test_the_images_name_says_the_frame_where_the_task_does_not(read):
    images = ("/data/local-files/?d=shuttle/00030/000291.jpg", "https://x.y/match_2_frame_0017.png")
    tasks = [full(None, (1, None, [point()]), clip=None, image=image) for image in images]
    table = read(tasks)
    assert table[["clip", "frame"]].to_numpy().tolist() == [["00030", 291], ["match_2", 17]]


def test_the_images_name_is_read_as_the_url_that_it_is(read):
    images = ("/data/local-files/?d=00030%2F000291.jpg", "https://x.y/Malm%C3%B6%20final_000291.jpg")
    table = read([full(None, (1, None, []), clip=None, image=image) for image in images])
    assert table[["clip", "frame"]].to_numpy().tolist() == [["00030", 291], ["Malmö final", 291]]


@pytest.mark.parametrize("host", ["", "http://label.example"])
def test_the_random_part_of_an_uploaded_image_is_no_part_of_the_clip(read, host):
    image = host + "/data/upload/3/1a2b3c4d-00030_frame_000002.png"
    table = read([full(None, (1, None, [point()]), clip=None, image=image)])
    assert table[["clip", "frame"]].to_numpy().tolist() == [["00030", 2]]
    with pytest.raises(LabelError, match="give tasks the data fields clip and frame"):
        read([full(None, (1, None, [point()]), clip=None, image="/data/upload/3/1a2b3c4d-291.jpg")])


def test_one_clip_can_be_picked(read):
    tasks = [full(0, (1, None, [])), full(0, (1, None, []), clip="00031")]
    assert read(tasks, clip="00031")["clip"].tolist() == ["00031"]
    with pytest.raises(LabelError, match="no labels of clip '9'; the file holds 00030, 00031"):
        read(tasks, clip="9")


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([full(0), full("x", (1, None, []))], "row 2, column 'frame' is 'x'"),
        ([full(0, (1, "maybe", []))], "row 1, column 'visibility' is 'maybe': choose one of visible"),
        ([full(0, (1, None, [{**point(), "x": "left"}]))], "row 1, column 'x' is 'left'"),
        ([full(0, (1, None, [{**point(), "original_width": 0}]))], "row 1, column 'original_width' is 0"),
        ([full(None, (1, None, []))], "row 1, column 'image' is 'a.jpg': give tasks the data fields"),
        ([{"foo": 1}], "row 1, column 'annotations' is missing"),
        ({"images": []}, "not a Label Studio export"),
        ("[1, 2", "row 1 is not JSON"),
    ],
)
def test_a_wrong_export_is_named(read, tasks, words):
    with pytest.raises(LabelError, match=words):
        read(tasks)


@pytest.mark.parametrize("as_min", [False, True])
def test_another_shape_than_a_point_is_refused(read, as_min):
    box = {"x": 10.0, "y": 10.0, "width": 5.0, "height": 5.0, "rectanglelabels": ["shuttle"]}
    size = {"original_width": 640, "original_height": 360}
    if as_min:
        task = flat(3, boxes=[{**box, **size}])
    else:
        task = full(3)
        task["annotations"] = [{"result": [{"type": "rectanglelabels", "value": box, **size}]}]
    with pytest.raises(LabelError, match=r"row 1, column '(result|boxes)' is .*mark the shuttle by a point"):
        read([task])


def test_another_shape_beside_a_point_is_left_out(read):
    box = {"x": 10.0, "y": 10.0, "width": 5.0, "height": 5.0, "rectanglelabels": ["player"]}
    box |= {"original_width": 1280, "original_height": 720}
    table = read([flat(3, kp=[point()], boxes=[box]), flat(4, boxes=[box], visibility="invisible")])
    assert table["visible"].tolist() == [True, False]
    assert table["x_px"].tolist()[0] == 640.0


def test_a_damaged_point_column_names_the_line_of_the_file(read):
    text = as_csv([flat(0, kp=json.dumps([point()])), flat(1, kp="oops")])
    with pytest.raises(LabelError, match="row 3, column 'kp' is 'oops': write a JSON list"):
        read(text, "export.csv")


def places(node, path=()):
    """The paths to every value inside JSON."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150)
@given(st.data(), JSON, st.booleans())
def test_a_damaged_export_is_read_or_refused_with_a_label_error(data, damage, whole):
    tasks = [full(0, (1, "visible", [point()]))] if whole else [flat(0, kp=[point()], visibility="visible")]
    *way, last = data.draw(st.sampled_from([path for path in places(tasks) if path]))
    node = tasks
    for key in way:
        node = node[key]
    node[last] = damage
    with suppress(LabelError):
        labels.validate(label_studio.from_json(json.dumps(tasks), "export.json"), "export.json")
