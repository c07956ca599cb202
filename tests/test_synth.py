"""Rendered rallies: physics, geometry, truth against pixels, determinism, files."""

from dataclasses import replace

import numpy as np
import pytest

from shuttlelib import labels, splits, synth, video
from shuttlelib.errors import UsageError
from shuttlelib.files import sha256
from shuttlelib.labels import LabelError
from shuttlelib.synth import camera, flight, pose, rally, render, scene, shuttle
from shuttlelib.synth import stage as stage_module

SMALL = (180, 320)


def _stage(seed: int = 3, size_hw: tuple[int, int] = SMALL, **changes: object) -> stage_module.Stage:
    options = {"fps": 30.0, "frame_count": 8, "view": "broadcast", "venue": None, **changes}
    return stage_module.Stage(seed, size_hw, **options)  # type: ignore[arg-type]


def _put(stage: stage_module.Stage, head: np.ndarray) -> None:
    """Hold the shuttle still at a court point, pointing down."""
    steps = 2000
    axis = np.repeat([[0.0, 0.0, -1.0]], steps, axis=0)
    air = np.full(steps, rally.AIR, np.uint8)
    stage.timeline = rally.Timeline(np.repeat(head[None], steps, axis=0), axis, air)


def _through(eye: np.ndarray, point: np.ndarray, metres: float) -> np.ndarray:
    """The point on the ray from the eye through `point`, that many metres beyond it."""
    ray = point - eye
    return point + ray / np.linalg.norm(ray) * metres


def test_same_seed_same_pixels_other_seed_other_pixels() -> None:
    first, again, other = (list(synth.render_rally(s, SMALL, frame_count=4)) for s in (1, 1, 2))
    for (a, truth_a), (b, truth_b) in zip(first, again):
        assert np.array_equal(a, b)
        np.testing.assert_equal(vars(truth_a), vars(truth_b))
    assert np.abs(first[0][0].astype(int) - other[0][0]).mean() > 5


SIZES = [(16, 16), (101, 177), (240, 180), (90, 160), (64, 40)]


@pytest.mark.parametrize(("size_hw", "view"), list(zip(SIZES, [*synth.VIEWS, "mixed"])))
def test_any_size_and_view(size_hw: tuple[int, int], view: str) -> None:
    frames = list(synth.render_rally(5, size_hw, fps=29.97, frame_count=2, view=view))
    assert len(frames) == 2
    for frame, truth in frames:
        assert frame.shape == (*size_hw, 3)
        assert frame.dtype == np.uint8
        assert truth.visible != np.isnan(truth.x_px)
        assert not truth.visible or (0 <= truth.x_px < size_hw[1] and 0 <= truth.y_px < size_hw[0])


def test_a_faster_camera_sees_the_same_rally_at_more_times() -> None:
    """Every other truth at 60 frames a second is one at 30: times are the rally's, not frame numbers."""
    slow, fast = (_stage(8, fps=fps, frame_count=round(0.8 * fps)) for fps in (30.0, 60.0))
    fast.timeline, fast.camera, fast.start_s = slow.timeline, slow.camera, slow.start_s
    for stage in (slow, fast):
        stage.look, stage.overlay = replace(stage.look, shake_px=0.0), None
    truths = [[truth for _, truth in render.render_stage(stage)] for stage in (slow, fast)]
    pairs = [(a, b) for a, b in zip(truths[0], truths[1][::2]) if a.visible]
    assert len(pairs) > 10
    assert all(np.hypot(a.x_px - b.x_px, a.y_px - b.y_px) < 1e-6 for a, b in pairs)
    between = zip(truths[0], truths[1][1::2])
    odd = [np.hypot(a.x_px - b.x_px, a.y_px - b.y_px) for a, b in between if a.visible and b.visible]
    assert max(odd) > 1


def test_truth_is_where_the_pixels_change() -> None:
    """The difference between a render with and without the shuttle begins at the told place."""
    whole, bare = (_stage(8, size_hw=(360, 640), frame_count=24) for _ in range(2))
    bare.timeline.state[:] = rally.ABSENT
    checked = 0
    for (frame, truth), (empty, _) in zip(render.render_stage(whole), render.render_stage(bare)):
        change = np.abs(frame.astype(float) - empty).sum(axis=2)
        if not truth.visible or change.max() < 100:
            continue
        y, x = np.nonzero(change > 40)
        assert np.hypot(x + 0.5 - truth.x_px, y + 0.5 - truth.y_px).min() < 1.0
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize("metres", [0.0, 0.8], ids=["still", "a streak"])
def test_label_is_the_middle_of_the_cork_at_mid_exposure(metres: float) -> None:
    """Of a shuttle with a red cork and a green skirt, seen from the side, red lies around the label."""
    stage = _stage(size_hw=(720, 1280))
    look = shuttle.ShuttleLook(0.01, 1.0, 0.5, (255, 0, 0), (0, 255, 0), 0.9)
    head = np.array([0.4, -1.0, 2.0])
    ray = head - stage.camera.position
    axis = np.cross(ray, [0.0, 0.0, 1.0]) / np.linalg.norm(np.cross(ray, [0.0, 0.0, 1.0]))
    heads = head + np.linspace(-0.5, 0.5, 41)[:, None] * metres * axis
    patch = shuttle.draw_shuttle(stage.camera, look, heads, np.repeat(axis[None], len(heads), axis=0))
    assert patch is not None
    y, x = np.mgrid[0 : patch.rgb.shape[0], 0 : patch.rgb.shape[1]] + 0.5
    want = stage.camera.project(head)[0] - (patch.x0, patch.y0)
    cork, skirt = (
        np.array([np.average(x, weights=patch.rgb[..., c]), np.average(y, weights=patch.rgb[..., c])])
        for c in (0, 1)
    )
    assert np.hypot(*(cork - want)) < 0.25
    ahead = stage.camera.project(head + 0.01 * axis)[0] - stage.camera.project(head)[0]
    assert (cork - skirt) @ ahead > 0, "the cork flies first"


@pytest.mark.parametrize("fps", [24.0, 480.0, 1000.0])
def test_any_frame_rate_has_an_exposure_that_fits_into_a_frame(fps: float) -> None:
    for seed in range(20):
        look = stage_module.random_look(np.random.default_rng(seed), fps, 1.0)
        assert 0 < look.shuttle.exposure_s < 1 / fps


def test_shuttle_falls_as_drag_says() -> None:
    """Vertical fall from rest: z = -(vt^2 / g) ln cosh(g t / vt), speed vt tanh(g t / vt)."""
    dt, vt, g = 1 / 240, flight.TERMINAL_SPEED, flight.GRAVITY
    path, speed = flight.fly(np.zeros((1, 3)), 3.0, dt)
    t = np.arange(len(path)) * dt
    assert np.allclose(path[:, 0, 2], -(vt**2) / g * np.log(np.cosh(g * t / vt)), atol=1e-6)
    assert abs(-speed[-1, 0, 2] - vt) < 0.01
    fast, _ = flight.fly(np.array([[80.0, 0.0]]), 1.0, dt)
    coarse, _ = flight.fly(np.array([[80.0, 0.0]]), 1.0, flight.SEARCH_DT)
    assert np.allclose(fast[-1], coarse[-1], atol=0.02)


@pytest.mark.parametrize("kind", list(flight.STROKES))
def test_strokes_pass_through_their_target_and_clear_the_net(kind: str) -> None:
    stroke, rng = flight.STROKES[kind], np.random.default_rng(4)
    starts = {
        "smash": (4.0, 2.7),
        "clear": (5.5, 2.5),
        "drop": (5.0, 2.5),
        "drive": (3.0, 1.4),
        "net": (0.8, 1.0),
    }
    depth, height = starts.get(kind, (2.3, 0.9))
    start, solved = np.array([0.4, -depth, height]), 0
    for free in np.linspace(0, 1, 8):
        target = np.array([-1.0, rng.uniform(*stroke.depth), rng.uniform(*stroke.height)])
        velocity = flight.solve(start, target, stroke, float(free))
        if velocity is None:
            continue
        solved += 1
        path = flight.fly(velocity[None], 3.0, 1 / 480)[0][:, 0] + start
        assert np.linalg.norm(path - target, axis=1).min() < 0.15
        assert path[np.argmin(np.abs(path[:, 1])), 2] > flight.NET_TOP_M
    assert solved >= 2


def test_shuttle_flips_after_a_hit_and_then_leads_with_the_cork() -> None:
    timeline = rally.play(np.random.default_rng(1), 8.0)
    step = np.diff(timeline.xyz, axis=0)
    length = np.linalg.norm(step, axis=1)
    flying = (timeline.state[:-1] == rally.AIR) & (length > 10 * rally.DT) & (length < 0.5)
    along = (timeline.axis[:-1] * step).sum(axis=1)[flying] / length[flying]
    assert np.median(along) > 0.95
    assert along.min() < -0.7


def test_camera_projects_like_a_pinhole_and_the_lens_only_bends() -> None:
    straight = camera.Camera((720, 1280), np.array([0, -20.0, 5.0]), camera.look(0, 0, 0), 1000.0)
    xy, depth = straight.project(np.array([[1.0, 0.0, 6.0], [0.0, 0.0, 5.0]]))
    assert np.allclose(xy, [[640 + 50, 360 - 50], [640, 360]])
    assert np.allclose(depth, 20)
    assert straight.px_per_m(np.array([0.0, 0.0, 5.0])) == pytest.approx(50)
    bent = camera.Camera((720, 1280), straight.position, straight.rotation, 1000.0, 1.0)
    far = bent.project(np.array([8.0, 0.0, 5.0]))[0]
    assert 640 < far[0] < straight.project(np.array([8.0, 0.0, 5.0]))[0][0]
    assert far[1] == pytest.approx(360)


def test_court_lines_have_true_size_and_are_drawn_where_they_project() -> None:
    lines = np.array(scene.court_lines())
    assert lines[:, [0, 2]].min() == -3.05
    assert lines[:, [1, 3]].max() == 6.7
    stage = _stage(size_hw=(720, 1280))
    gray = stage.bare.mean(axis=2)
    for y in (-6.68, -4.4, 4.4):
        ends = (
            np.array([[-3.03, y, 0], [-2.8, y, 0]])
            if abs(y) < 6
            else np.array([[1.5, y, 0], [1.5, y + 0.3, 0]])
        )
        (x0, y0), (x1, y1) = np.floor(stage.camera.project(ends)[0]).astype(int)
        assert gray[y0, x0] > gray[y1, x1] + 15


@pytest.mark.parametrize("view", list(synth.VIEWS))
def test_the_court_is_in_the_picture(view: str) -> None:
    for seed in range(4):
        shot = camera.random_camera(np.random.default_rng(seed), view, (720, 1280))
        xy, depth = shot.project(np.array([[0, -5.5, 0], [0, 0, 0], [0, 5.5, 0], [-2.0, 4, 0], [2.0, 4, 0]]))
        assert depth.min() > 1
        assert (np.abs(xy - [640, 360]) < [700, 420]).all()


def test_hidden_and_outside_shuttles_are_invisible() -> None:
    stage = _stage(size_hw=(360, 640))
    body = pose.pose(stage.players[0], stage.start_s)[pose.J["chest"]]
    eye = stage.camera.position
    for metres, visible in ((1.5, False), (-1.5, True)):
        _put(stage, _through(eye, body, metres))
        truth = next(iter(render.render_stage(stage)))[1]
        assert truth.visible is visible
    for outside in ([0, 0, 25.0], [60.0, 0, 1.0], [0, -80.0, 30.0]):
        _put(stage, np.array(outside))
        truth = next(iter(render.render_stage(stage)))[1]
        assert not truth.visible
        assert np.isnan([truth.x_px, truth.y_px]).all()


def test_dataset_has_clips_labels_and_splits_by_venue(tmp_path) -> None:
    out = synth.make_dataset(tmp_path / "data", 3, 0, (90, 160), 25.0, 5, ("broadcast", "mixed"), 0.3)
    rows = [line.split(",") for line in (out / "splits.csv").read_text().splitlines()]
    assert rows[0] == ["clip", "venue", "split"]
    assert len({(venue, split) for _, venue, split in rows[1:]}) == len({venue for _, venue, _ in rows[1:]})
    assert {split for _, _, split in rows[1:]} == {"train", "val"}
    for clip, *_ in rows[1:]:
        table, info = labels.read_table(out / f"{clip}.parquet")
        assert (info.width, info.height, info.fps, info.frame_count) == (160, 90, 25.0, 5)
        assert info.video_sha256 == sha256(out / f"{clip}.mp4")
        assert set(table["origin"]) == {"synthetic"}
        assert len(list(video.read_frames(out / f"{clip}.mp4"))) == len(table) == 5


def test_only_a_rendering_of_the_same_kind_is_replaced(tmp_path) -> None:
    def rendered(size_hw=(96, 160), **more):
        return synth.make_dataset(tmp_path, 2, 0, size_hw, 25.0, 2, **more)

    rendered()
    before = (tmp_path / "rendered_000_000.mp4").read_bytes()
    rendered()
    with pytest.raises(UsageError, match=r"rendered_000_000\.parquet: is there already, and is another clip"):
        rendered((64, 160))
    assert (tmp_path / "rendered_000_000.mp4").read_bytes() == before
    table, info = labels.read_table(tmp_path / "rendered_000_001.parquet")
    table.loc[1, "origin"] = "label_studio"
    labels.write_table(tmp_path / "rendered_000_001.parquet", table, info)
    with pytest.raises(UsageError, match=r"rendered_000_001\.parquet: is there already"):
        rendered()
    (tmp_path / "rendered_000_001.parquet").unlink()
    with pytest.raises(UsageError, match=r"rendered_000_001\.mp4: is there already"):
        rendered()


def test_a_second_set_in_the_folder_keeps_the_first(tmp_path) -> None:
    made = [synth.make_dataset(tmp_path, 2, seed, (96, 160), 25.0, 2) for seed in (0, 1)]
    places = splits.read(made[0])
    assert [name for name in places if name.startswith("rendered_000")] == [
        "rendered_000_000",
        "rendered_000_001",
    ]
    assert len(places) == len({venue for venue, _ in places.values()}) == 4
    venue, part = places["rendered_000_000"]
    splits.write(tmp_path, {"mine": (venue, "test")})
    before = (tmp_path / "splits.csv").read_text()
    with pytest.raises(LabelError, match=f"venue '{venue}' is in the splits 'test' and '{part}'"):
        synth.make_dataset(tmp_path, 2, 0, (96, 160), 25.0, 2, progress=lambda *_: pytest.fail("rendered"))
    assert (tmp_path / "splits.csv").read_text() == before


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(synth.SynthError, match=r"view 'upside'.*broadcast"):
        synth.render_rally(0, view="upside")
    with pytest.raises(synth.SynthError, match=r"size_hw \(8, 90\)"):
        synth.render_rally(0, (8, 90))
    with pytest.raises(synth.SynthError, match="frame_count 0"):
        synth.render_rally(0, frame_count=0)
    with pytest.raises(synth.SynthError, match=r"size_hw \(91, 160\) is odd"):
        synth.make_dataset("unused", 2, 0, (91, 160))
    assert issubclass(synth.SynthError, UsageError)
    with pytest.raises(synth.SynthError, match="val_share"):
        synth.make_dataset("unused", 2, 0, val_share=1.5)


def test_from_where_it_lay_to_the_next_servers_hand_no_streak_is_drawn() -> None:
    steps = 2000
    lay, hand = np.array([0.5, -5.0, 0.02]), np.array([-1.0, 3.0, 1.0])
    first = np.arange(steps) < steps // 2
    xyz, axis = np.where(first[:, None], lay, hand), np.repeat([[0.0, 0.0, -1.0]], steps, axis=0)
    timeline = rally.Timeline(xyz, axis, np.where(first, rally.ABSENT, rally.HELD).astype(np.uint8))
    stage = _stage(size_hw=(720, 1280))
    look = replace(stage.look.shuttle, exposure_s=0.02)
    still = render.shuttle_patch(timeline, stage.camera, look, rally.DT * steps * 0.7, lambda _: 1.0)
    comes = render.shuttle_patch(timeline, stage.camera, look, rally.DT * steps / 2 + 0.004, lambda _: 1.0)
    assert still is not None
    assert comes is not None
    assert comes.rgb.shape == still.rgb.shape
