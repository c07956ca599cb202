import asyncio
import dataclasses
import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from fakes import cut_short, write_models

from shuttlelib import importers, intake
from shuttlelib.apps.web import folders as folders_
from shuttlelib.apps.web import serve, stills, views
from shuttlelib.apps.web.desks import Desks, Gone
from shuttlelib.apps.web.folders import Folders, opened, remove_leftovers
from shuttlelib.apps.web.gate import COOKIE, Gate, visitor_of
from shuttlelib.apps.web.jobs import Job, in_plain_words
from shuttlelib.apps.web.options import Options
from shuttlelib.apps.web.serve import running
from shuttlelib.apps.web.tracks import Track, write_labels
from shuttlelib.cli import run
from shuttlelib.errors import UsageError
from shuttlelib.paths import REPO
from shuttlelib.video import read_frames

SIZE_HW = (90, 160)
VISITOR, OTHER = "a" * 32, "b" * 32
MINUTE_S = 60.0


def court(index):
    """A dark picture with a bright dot that is gone in frames 10 to 19."""
    rgb = np.full((*SIZE_HW, 3), 30, np.uint8)
    if not 10 <= index < 20:
        rgb[40:44, 20 + 3 * index : 24 + 3 * index] = 250
    return rgb


def noisy(index):
    """The court, every frame as large a part of the file as the first."""
    return court(index) + np.random.default_rng(index).integers(0, 30, (*SIZE_HW, 3), dtype=np.uint8)


@pytest.fixture
def clip(tiny_video):
    return tiny_video("rally.mp4", frames=30, size_hw=SIZE_HW, draw=court)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    models = write_models(tmp_path_factory.mktemp("models"), SIZE_HW, (64, 64))
    return Options(models=models, backend="onnx", threads=1)


def finished(clip, out, options, mode="smart"):
    job = Job(clip, out, mode, options)
    for _ in job.watch(0.01):
        pass
    return job


@pytest.fixture
def track(clip, tmp_path, options):
    return Track.read(clip, finished(clip, tmp_path / "out", options).result)


# Who may reach the page


def test_strangers_need_a_password():
    for fine in (Options(), Options(host="0.0.0.0", password="long enough")):
        fine.check()
    Options(host="0.0.0.0", public=True).check()
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0.*--password"):
        Options(host="0.0.0.0").check()
    with pytest.raises(UsageError, match="IPv4"):
        Options(host="::1").check()
    with pytest.raises(UsageError, match="at least 8"):
        Options(password="short").check()


def test_the_command_refuses_strangers_and_says_what_is_missing(capsys, monkeypatch):
    assert run(["app", "--host", "192.168.0.1"]) == 2
    assert "SHUTTLE_APP_PASSWORD" in capsys.readouterr().err
    monkeypatch.setattr("shuttlelib.cli_app.find_spec", lambda _: None)
    assert run(["app"]) == 1
    assert "pip install -e '.[app]'" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "h..ö"])  # of nobody [RFC 5737]; of no form
def test_a_host_that_is_not_this_machine_is_refused_at_once(tmp_path, host):
    refused = pytest.raises(UsageError, match=rf"--host {host}: no address of this machine .*0\.0\.0\.0")
    with refused, running(Options(host=host, password="long enough"), tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_address_is_refused_before_the_networks_are_loaded(monkeypatch):
    monkeypatch.setattr(serve, "load_networks", lambda *_, **__: pytest.fail("loaded"))
    for options, words in (
        (Options(host="0.0.0.0"), "others can reach the page there"),
        (Options(host="192.0.2.1", password="long enough"), "no address of this machine"),
    ):
        with pytest.raises(UsageError, match=words):
            serve.serve(options)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: cannot listen"):
            serve.serve(Options(port=port))


# The private folder


def test_the_private_folder_is_private_and_gone_afterwards(tmp_path):
    with suppress(KeyboardInterrupt), opened(MINUTE_S, tmp_path) as folders:
        assert stat.S_IMODE(folders.root.stat().st_mode) == 0o700
        folder = folders.new(VISITOR)
        (folder / "video.mp4").write_text("x")
        remove_leftovers(tmp_path)  # another server starts: this one is alive
        assert folders.owns(VISITOR, folder / "video.mp4")
        assert not folders.owns(OTHER, folder / "video.mp4")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_server_left_is_removed(tmp_path):
    code = (
        "import os, pathlib; from shuttlelib.apps.web.folders import opened\n"
        f"with opened(60, pathlib.Path({str(tmp_path)!r})) as folders:\n"
        "    (folders.new('v') / 'video.mp4').write_text('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=REPO)
    (tmp_path / "shuttle-app-link").symlink_to(tmp_path)
    assert len(list(tmp_path.rglob("video.mp4"))) == 1
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["shuttle-app-link"]


def test_idle_files_are_swept(tmp_path):
    folders = Folders(tmp_path, MINUTE_S)
    idle, busy = folders.new(VISITOR), folders.new(VISITOR)
    (tmp_path / "tmp_upload").write_text("half of it")
    (tmp_path / folders_._LOCK).touch()
    for path in (idle, busy, *tmp_path.iterdir()):
        os.utime(path, (1, 1))
    folders.touch(busy)
    folders.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {f"v-{VISITOR}", folders_._LOCK}
    assert list(folders.of(VISITOR).iterdir()) == [busy]


# The gate


def ask(gate, path, visitor=VISITOR, **headers):
    """Status, headers and body of a request through the gate."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = {"host": "127.0.0.1:7860", "cookie": f"{COOKIE}={visitor}", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": raw, "query_string": b""}
    scope |= {"scheme": "http", "server": ("127.0.0.1", 7860)}
    asyncio.run(gate(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


def within(answer=b"inside"):
    """An app that lets everything happen."""

    async def app(scope, receive, send):
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer[:3], "more_body": True})
        await send({"type": "http.response.body", "body": answer[3:]})

    return app


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path.resolve(), MINUTE_S)


def test_only_own_files_are_served(folders, tmp_path):
    gate = Gate(within(), folders, 1 << 20, local_only=True)
    mine, theirs = folders.new(VISITOR) / "a.mp4", folders.new(OTHER) / "b.mp4"
    for path in (mine, theirs):
        path.write_text("x")
    (mine.parent / "link").symlink_to(theirs)
    assert ask(gate, f"/gradio_api/file={mine}")[0] == 200
    elsewhere = (theirs, "/etc/passwd", REPO / "README.md", mine.parent / "link", f"{mine.parent}/../../x")
    for path in (*elsewhere, "http://example.org/", "", "shuttlelib/cli.py"):
        assert ask(gate, f"/gradio_api/file={path}")[0] == 403, path
    assert ask(gate, f"/gradio_api/file={mine}", visitor="")[0] == 403
    assert ask(gate, f"/gradio_api/file={mine}", visitor="../x")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/component_server",
        "/gradio_api/deep_link",
        "/gradio_api/call/run",
        "/gradio_api/info",
        "/docs",
        "/monitoring",
    ],
)
def test_what_the_page_does_not_need_is_not_there(folders, path):
    assert ask(Gate(within(), folders, 1, local_only=True), path)[0] == 404


def test_another_host_name_is_refused_where_only_this_machine_may_ask(folders):
    for host, local_only, status in (
        ("evil.example:7860", True, 403),
        ("localhost", True, 200),
        ("evil.example", False, 200),
    ):
        assert ask(Gate(within(), folders, 1, local_only), "/", host=host)[0] == status


@pytest.mark.parametrize("name", ["/../../elsewhere/deep", "a" * 19, "ä" * 30, "a" * 61, ""])
def test_a_cookie_is_no_path(folders, name):
    assert visitor_of({COOKIE: name}) == ""
    assert visitor_of({COOKIE: VISITOR}) == VISITOR


def test_no_input_makes_the_page_fetch_an_address():
    pytest.importorskip("gradio", reason="needs the page's packages: pip install -e '.[app]'")
    code = """
import asyncio, gradio
from gradio import processing_utils
from shuttlelib.apps.web import serve
named = {"path": "http://example.org/huge.bin", "meta": {"_type": "gradio.FileData"}}
download = processing_utils.async_ssrf_protected_download
with serve._fetching_nothing(), gradio.Blocks():
    for block in (gradio.Slider(), gradio.File()):
        try:
            asyncio.run(processing_utils.async_move_files_to_cache(named, block, check_in_upload_folder=True))
        except ValueError as error:
            print(error)
assert processing_utils.async_ssrf_protected_download is download
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["this page fetches no addresses"] * 2


def test_a_new_visitor_gets_a_cookie(folders):
    gate = Gate(within(), folders, 1, local_only=True)
    _, headers, body = ask(gate, "/", visitor="")
    assert body == b"inside"
    assert "HttpOnly" in headers["set-cookie"]
    assert "Secure" not in headers["set-cookie"]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "Partitioned" in ask(gate, "/", visitor="", x_forwarded_proto="https")[1]["set-cookie"]
    assert "set-cookie" not in ask(gate, "/")[1]


def test_an_upload_becomes_its_visitors(folders, tmp_path):
    arrived = tmp_path / "0123abcd" / "rally.mp4"
    arrived.parent.mkdir()
    arrived.write_text("a video")
    gate = Gate(within(json.dumps([str(arrived)]).encode()), folders, 1 << 20, local_only=True)
    status, headers, body = ask(gate, "/gradio_api/upload", content_length="7")
    (path,) = json.loads(body)
    assert status == 200
    assert int(headers["content-length"]) == len(body)
    assert folders.owns(VISITOR, path)
    assert not arrived.parent.exists()


def test_an_upload_is_refused_before_it_is_read(folders, monkeypatch):
    gate = Gate(within(), folders, 1 << 20, local_only=True)
    assert ask(gate, "/gradio_api/upload", content_length=str(2 << 30))[0] == 413
    assert ask(gate, "/gradio_api/upload")[0] == 411
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    assert ask(gate, "/gradio_api/upload", content_length="10")[0] == 507


# Tracking


def test_a_job_gives_a_track(track):
    assert len(track.rows) == 30
    assert track.size_wh == SIZE_HW[::-1]
    assert not track.visible[10:20].any()
    assert track.visible[:10].all()
    assert track.visible[24:].all()


def test_progress_tells_of_the_first_look_too(clip, tmp_path, options):
    job = Job(clip, tmp_path / "out", "offline", options)
    assert "loading the networks" in views.progress(job)
    for _ in job.watch(10):
        pass
    assert (job.looked, job.frames, job.expected) == (30, 30, 30)
    job.frames, job.looked = 0, 12
    assert "first look at frame 12 of 30" in views.progress(job)


def test_a_cancelled_job_leaves_nothing(tiny_video, tmp_path, options):
    job = Job(tiny_video("long.mp4", 200, SIZE_HW, draw=court), tmp_path / "out", "calibration", options)
    for _ in job.watch(0.001):
        if job.frames:
            job.cancel()
    assert (job.result, job.error) == (None, "")
    assert 0 < job.frames < 200
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mode", ["smart", "offline"])
def test_the_time_limit_keeps_what_was_found(clip, tmp_path, options, mode):
    ticks = itertools.count()
    limited = dataclasses.replace(options, time_limit_s=12)
    job = Job(clip, tmp_path / "out", mode, limited, clock=lambda: next(ticks))  # a second a look
    for _ in job.watch(10):
        pass
    rows = len(Track.read(clip, job.result).rows)
    assert 10 <= rows <= 12
    assert f"The time limit of 12 s was reached after {rows} of 30 frames" in job.result.warning
    assert job.result.overlay.is_file()


def test_errors_are_told_in_plain_words(tmp_path, options):
    fake = tmp_path / "notes.mp4"
    fake.write_text("not a video at all")
    job = finished(fake, tmp_path / "out", options)
    assert job.error.startswith("notes.mp4: not a video")
    assert str(tmp_path) not in job.error
    assert in_plain_words(f"{tmp_path}/x/a.mp4: bad", tmp_path / "x" / "a.mp4") == "a.mp4: bad"


def test_a_truncated_video_is_marked(tiny_video, tmp_path, options):
    job = finished(cut_short(tiny_video("cut.mp4", 60, SIZE_HW, draw=noisy), 0.6), tmp_path / "o", options)
    assert job.error == ""
    assert "stops in the middle" in job.result.warning


def test_a_desk_holds_one_video_and_leaves_nothing(folders, clip, options):
    desks = Desks(folders, options)
    first, second = folders.new(VISITOR), folders.new(VISITOR)
    desks.place("page", clip, first)
    desk = desks.place("page", clip, second)
    assert not first.exists()
    assert [job.frames for job in desks.run(desk, "smart")][-1] <= 30
    assert len(desk.track.rows) == 30
    assert desks.of("page") is desk
    folders.remove(second)  # as the sweep does
    with pytest.raises(Gone, match="give it again"):
        desks.of("page")
    assert desks.of("page").video is None
    desks.close()
    assert list(folders.root.glob("v-*")) == []


def test_a_tracking_that_is_stopped_leaves_the_result_before_and_a_new_one_the_corrections(
    folders, clip, options
):
    desks = Desks(folders, options)
    desk = desks.place("page", clip, folders.new(VISITOR))
    list(desks.run(desk, "smart"))
    before, desk.corrections = desk.track, {3: None, 99: (1.0, 2.0)}
    for job in desks.run(desk, "calibration"):
        job.cancel()
    assert desk.job.result is None
    assert desk.track is before
    assert before.result.csv.is_file()
    list(desks.run(desk, "fast"))
    assert desk.track is not before
    assert desk.track.summary["mode"] == "fast"
    assert desk.corrections == {3: None}, "of frames that this track has"
    assert [path for path in desk.folder.iterdir() if path.is_dir()] == [desk.track.result.csv.parent]
    desks.close()


def test_videos_wait_in_line(folders, clip, options):
    desks = Desks(folders, dataclasses.replace(options, at_once=1, waiting=2))
    names = ("first", "second", "third", "fourth")
    placed = [desks.place(name, clip, folders.new(VISITOR)) for name in names]
    running = [desks.run(desk, "smart") for desk in placed]
    jobs = [next(run) for run in running[:3]]
    assert [job.ahead for job in jobs] == [0, 1, 2]
    assert list(running[3]) == []
    assert "Too many videos are waiting" in placed[3].job.error
    jobs[1].cancel()
    assert list(running[1]) == []
    for going in (running[0], running[2]):
        assert all(job.ahead <= 1 for job in going)
    assert [desk.track is not None for desk in placed] == [True, False, True, False]


# What is shown and downloaded


def test_gaps_and_the_least_confidence(track):
    (gap,) = track.gaps(0)
    assert gap.first == 10
    assert 19 <= gap.last < 24
    assert not gap.doubted
    (everything,) = track.gaps(1.01)
    assert everything == (0, 29, True)


def test_a_filtered_download_says_so(track):
    assert track.write_kept(0, {}) == (track.result.csv, track.result.summary_json)
    least = float(np.median(track.confidence))
    csv, report = track.write_kept(least, {})
    summary = json.loads(report.read_text())
    kept = int((track.confidence >= least).sum())
    assert summary["filter"] == {"min_confidence": least, "rows_kept": kept, "rows_left_out": 30 - kept}
    assert csv.read_text().splitlines()[0].endswith(",source,min_confidence")
    assert len(importers.read_labels(csv)) == kept
    assert f"confidence_{round(least * 100)}" in csv.name


def test_a_download_holds_the_corrections_and_says_which(track):
    seen = int(np.flatnonzero(track.visible)[0])
    csv, report = track.write_kept(1.0, {seen: None, 12: (3.25, 4.5)})
    rows = pd.read_csv(csv).set_index("frame")
    assert csv.stem.endswith("_corrected_confidence_100")
    assert {seen, 12} <= set(rows.index), "a corrected row is sure"
    assert rows.loc[12, ["visible", "x_px", "y_px", "source"]].tolist() == [1, 3.25, 4.5, "corrected"]
    assert rows.loc[seen, "visible"] == 0
    assert rows.loc[seen, ["x_px", "y_px"]].isna().all()
    assert json.loads(report.read_text())["corrected_frames"] == sorted({seen, 12})
    whole, _ = track.write_kept(0, {12: (3.25, 4.5)})
    others = [frame for frame in range(30) if frame != 12]
    pd.testing.assert_frame_equal(pd.read_csv(whole).iloc[others], track.rows.iloc[others])


def test_corrections_go_the_whole_way_to_the_label_loop(track, tmp_path):
    labels = write_labels(track, {7: (12.25, 34.5), 3: None})
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in (track.video, labels):
        (folder / path.name).write_bytes(path.read_bytes())
    (clip,) = intake.import_folder(folder, tmp_path / "data")
    assert clip.name == "rally"
    assert clip.table["frame"].tolist() == [3, 7]
    assert clip.table["visible"].tolist() == [False, True]
    assert clip.table[["x_px", "y_px"]].to_numpy()[1].tolist() == [12.25, 34.5]


def test_any_frame_is_the_one_that_was_tracked(clip, track):
    shown = stills.Stills(clip, track.time_s)
    frames = {frame.index: frame.rgb for frame in read_frames(clip)}
    for index in (29, 0, 1, 2, 17, 16, 28):
        np.testing.assert_array_equal(shown.read(index), frames[index])
    shown.close()
    np.testing.assert_array_equal(shown.read(5), frames[5])


def test_a_frame_whose_time_stamp_lies_is_read_from_the_start(clip):
    shown = stills.Stills(clip, np.arange(30) / 7)  # not the file's times
    frames = {frame.index: frame.rgb for frame in read_frames(clip)}
    for index in (20, 3):
        np.testing.assert_array_equal(shown.read(index), frames[index])


def test_the_zoom_keeps_to_whole_pixels_inside(clip):
    rgb = np.zeros((90, 160, 3), np.uint8)
    for x, y in ((0, 0), (159, 89), (80.4, 44.6)):
        box = stills.around(rgb, x, y)
        assert (box.x, box.y) == (int(box.x), int(box.y))
        assert 0 <= box.x <= 160 - box.w
        assert box.y <= min(y, 90 - box.h)
        assert box.x <= x <= box.x + box.w


def test_the_viewer_shows_trail_point_and_correction(track):
    rgb = np.zeros((*SIZE_HW, 3), np.uint8)
    plain = views.viewer(track, rgb, 5, 0, {}, zoom=False)
    assert 'data-frame="5" data-x="0" data-y="0" data-w="160" data-h="90"' in plain
    assert (plain.count('class="trail"'), plain.count('class="ring"')) == (5, 1)
    assert 'class="ring"' not in views.viewer(track, rgb, 5, 1.01, {}, zoom=False)
    assert 'class="cross"' in views.viewer(track, rgb, 5, 0, {5: (3.0, 4.0)}, zoom=True)
    assert "corrected: not visible" in views.viewer(track, rgb, 5, 0, {5: None}, zoom=False)


def test_curves_are_thinned_and_gaps_shaded(track):
    drawn = views.curves(track, 0)
    assert drawn.count('class="gap"') == 3  # once a panel
    assert drawn.count("<polyline") == 5  # two runs of x, two of y, one of confidence
    assert "<figcaption>x, px</figcaption><b>160</b><b>0</b>" in drawn  # the right edge is at the top
    thin = list(views._polylines(np.arange(10.0), np.arange(10.0), np.ones(10, bool), 5))
    assert thin == ["0,0 5,5"]


def test_what_visitors_write_is_escaped():
    assert "<b>" not in views.notice("<b>x</b>").replace('<div class="notice', "")
    assert "&lt;img" in views.facts([("video", "<img src=x>")])
    assert views.notice("") == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00.0"), (65.24, "1:05.2"), (3599.96, "60:00.0")])
def test_the_clock(seconds, text):
    assert views.clock(seconds) == text


def test_watching_ends_with_the_thread(clip, tmp_path, options):
    before = threading.active_count()
    watching = Job(clip, tmp_path / "out", "smart", options).watch(0.001)
    next(watching)
    watching.close()
    assert threading.active_count() == before
