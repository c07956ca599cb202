import functools
import io
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from bad_days import bar, bar_at, encode

from shuttlelib import clips, streams
from shuttlelib.errors import UsageError
from shuttlelib.sources import in_parts
from shuttlelib.streams import Feed, Link, Settings, find, refuse_idle
from shuttlelib.video import EndedEarlyError, VideoError, VideoInfo

COUNT = 40
RTSP_PYTHON, RTSP_SERVER = Path("/usr/bin/python3"), Path(__file__).with_name("rtsp_server.py")


def never():
    return False


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A video as bytes that can be read from the start, by container."""
    folder = tmp_path_factory.mktemp("movie")
    pictures = [bar(index / 3) for index in range(COUNT)]
    paths = {name: encode(folder / f"v.{name}", pictures, bf="0", g="5") for name in ("ts", "mkv")}
    return {name: path.read_bytes() for name, path in paths.items()}


def drain(frames):
    """Frames, and the error at the end."""
    seen = []
    try:
        for frame in frames:
            seen.append(frame)
    except VideoError as error:
        return seen, error
    return seen, None


class Wire:
    """Bytes that come once."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


class Network:
    """Connections, made one after the other: bytes, or an error; and a clock that only waiting moves."""

    def __init__(self, *connections):
        self.connections, self.now_s, self.pauses = list(connections), 100.0, []

    def connect(self):
        given = self.connections.pop(0) if self.connections else None
        if not isinstance(given, bytes):
            raise av.error.ConnectionRefusedError(111, "Connection refused", "rtsp://u:secret@host/court")
        return av.open(Wire(given))

    def wait(self, seconds):
        self.pauses.append(seconds)
        self.now_s += seconds
        return False

    def feed(self, endless, reconnect_s=30.0):
        link = Link("rtsp://host/court", self.connect, endless, True, "check it", "send another")
        return Feed(link, reconnect_s, lambda: self.now_s, self.wait)


def test_a_lost_camera_is_found_again_and_time_goes_on(movie):
    network = Network(movie["ts"], None, None, movie["ts"])
    feed = network.feed(endless=True, reconnect_s=10)
    (info, *frames), error = drain(feed.items())
    assert (info.width, info.height) == (160, 96)
    assert [frame.index for frame in frames] == list(range(2 * COUNT))
    first, second = frames[:COUNT], frames[COUNT:]
    assert second[0].time_s == pytest.approx(first[-1].time_s + 0.5 + 1 + 2)
    assert second[-1].time_s - second[0].time_s == pytest.approx(39 / 25, abs=1e-3)
    assert network.pauses[:3] == [0.5, 1.0, 2.0]
    assert [len(list(part)) for _, part in in_parts(iter(frames), info.fps)] == [COUNT, COUNT]
    assert isinstance(error, EndedEarlyError)
    assert "was lost after 80 frames and did not come back within 10 s" in str(error)
    assert sum(network.pauses[3:]) >= 10
    assert feed.facts() == {"reconnects": 1, "damaged_packets": 0}


def test_a_recording_goes_on_where_it_was_cut(movie):
    part = movie["mkv"][: len(movie["mkv"]) // 2]
    torn, error = drain(Network(part).feed(endless=False).items())
    assert 0 < len(torn) - 1 < COUNT
    assert isinstance(error, EndedEarlyError)
    (_, *frames), error = drain(Network(part, movie["mkv"]).feed(endless=False).items())
    assert error is None
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(COUNT)], abs=1e-3)


def test_a_recording_that_is_cut_at_the_same_place_again_and_again_is_given_up(movie):
    part = movie["mkv"][: len(movie["mkv"]) // 2]
    network = Network(*[part] * 50)
    (_, *frames), error = drain(network.feed(endless=False).items())
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert "did not come back within 30 s" in str(error)
    assert network.pauses == [0.5, 1, 2, 4, 8, 8, 8]


def test_what_cannot_be_opened_is_told_without_the_password():
    with pytest.raises(VideoError, match=r"rtsp://host/court: .*refused.*check host and port") as caught:
        next(Network().feed(endless=True).items())
    assert "secret" not in repr(caught.getrepr(chain=True))


@pytest.mark.parametrize(
    ("url", "name", "stem"),
    [
        ("rtsp://me:secret@cam.hall:554/court1", "rtsp://cam.hall:554/court1", "court1"),
        ("http://cam/live.ts?token=secret", "http://cam/live.ts", "live"),
        ("https://me:se@cret@cam/", "https://cam/", "cam"),
        ("rtsp://me:se/cret@cam/court", "rtsp://…", "rtsp"),
        ("rtsp://cam/user=me&password=secret&channel=1", "rtsp://cam/user=me&password=…&channel=1", "cam"),
    ],
)
def test_an_address_is_shown_without_secrets(url, name, stem):
    (source,) = find(url, Settings())
    assert (source.name, source.shown) == (name, name)
    assert re.fullmatch(rf"{stem}-\d{{8}}-\d{{6}}", source.stem)
    assert not source.rereadable
    assert source.endless == url.startswith("rtsp")


def test_wrong_names_are_refused(tmp_path, monkeypatch):
    for video, settings, words in (
        ("ftp://u:secret@host/v.mp4", Settings(), "ftp://host/v.mp4: ftp is not supported"),
        ("rtsp://u:secret@[fe80::1/court", Settings(), "^rtsp://…: is no address; check the host"),
        (str(tmp_path), Settings(), "the folder has no video"),
        ("", Settings(), '^"": the name is empty; give a video, a folder'),
        ("0", Settings(camera="720p"), "--camera 720p: give WIDTHxHEIGHT@FPS"),
        ("0", Settings(camera="0x720@30"), "--camera 0x720@30: give WIDTHxHEIGHT@FPS, all above 0"),
        ("0", Settings(camera="1280x720@0.0"), "--camera 1280x720@0.0: give"),
        ("0", Settings(camera="1280x720@30/0"), "--camera 1280x720@30/0: give"),
    ):
        with pytest.raises(UsageError, match=words):
            find(video, settings)
    monkeypatch.setattr("sys.stdin", None)  # as with <&-
    with pytest.raises(UsageError, match="-: standard input is closed; pipe a video in"):
        find("-", Settings())


@pytest.mark.parametrize(
    ("videos", "settings", "words"),
    [
        (["v.mp4"], {"raw": "nonsense"}, "--raw: goes with standard input (-) alone; leave it out"),
        (["v.mp4", "-"], {"camera": "nonsense"}, "--camera: goes with a camera's number alone"),
        (["0"], {"decoder": "nvdec"}, "--decoder nvdec: goes with files alone"),
        (["v.mp4"], {"latency_s": 0.1}, "--latency-ms: goes with --live, cameras and RTSP alone"),
        (["0"], {"latency_s": 0.1, "live": False}, "--latency-ms: goes with --live"),
        (["v.mp4", "-"], {"reconnect_s": 5.0}, "--reconnect-s: goes with streams alone"),
        (["v.mp4", "-"], {"raw": "160x96@25", "decoder": "nvdec"}, ""),
        (["0"], {"camera": "160x96@25", "decoder": "auto", "latency_s": 0.1, "reconnect_s": 5.0}, ""),
        (["http://host/v.mkv"], {"reconnect_s": 5.0, "latency_s": 0.1, "live": True}, ""),
        (["v.mp4"], {"decoder": "nvdec", "latency_s": 0.1, "live": True}, ""),
    ],
)
def test_settings_that_would_do_nothing_are_refused(videos, settings, words):
    with pytest.raises(UsageError, match=re.escape(words)) if words else nullcontext():
        refuse_idle(Settings(**settings), videos, endless=videos == ["0"])


def test_a_folder_is_its_videos_by_name(tmp_path):
    for name in ("b.mp4", "a.MKV", "notes.txt", "c.ts", "._b.mp4"):  # macOS writes the last one
        (tmp_path / name).touch()
    assert [source.stem for source in find(str(tmp_path), Settings())] == ["a", "b", "c"]


def test_a_folder_that_is_called_like_a_video_is_a_folder(tmp_path):
    inner = tmp_path / "match.mp4"
    inner.mkdir()
    with pytest.raises(UsageError, match="the folder has no video"):
        find(str(tmp_path), Settings())
    (inner / "a.mp4").touch()
    (tmp_path / "b.mp4").symlink_to("gone.mp4")  # tracking tells it
    assert [source.stem for source in find(str(tmp_path), Settings())] == ["b"]
    assert [source.stem for source in find(str(inner), Settings())] == ["a"]
    assert list(clips.videos_in(tmp_path)) == ["b"]


@pytest.mark.parametrize(
    ("platform", "device", "kind", "options"),
    [
        ("linux", "/dev/video3", "v4l2", {"input_format": "mjpeg"}),
        ("darwin", "3:none", "avfoundation", {"pixel_format": "mjpeg"}),
    ],
)
def test_a_camera_is_asked_for_as_its_system_wants(monkeypatch, platform, device, kind, options):
    asked = []

    def refuse(*args, **more):
        asked.append((args, more["format"], more["options"]))
        raise av.error.FileNotFoundError(2, "No such file or directory", device)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(av, "open", refuse)
    (source,) = find("3", Settings(camera="1280x720@60:mjpeg"))
    assert source.endless
    with pytest.raises(VideoError, match=r"camera 3: cannot be opened \(No such file .*; plug it in"):
        source.open(never)
    assert asked == [((device,), kind, {"video_size": "1280x720", "framerate": "60", **options})]


def test_a_camera_gives_frames_until_it_is_left(monkeypatch):
    real = av.open
    picture = "testsrc=size=160x90:rate=50"
    monkeypatch.setattr(av, "open", lambda *_, **more: real(picture, format="lavfi", timeout=more["timeout"]))
    (source,) = find("0", Settings())
    footage = source.open(never)
    assert (footage.info.width, footage.info.fps) == (160, 50)
    assert next(footage.frames).size_hw == (90, 160)
    footage.frames.close()


def piped(data, **settings):
    """The source of what another program writes, and the thread that writes it."""
    read, write = os.pipe()

    def send():
        with suppress(BrokenPipeError), open(write, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=send)
    thread.start()
    with open(read, "rb") as file:
        footage = streams._pipe(file, Settings(**settings)).open(never)
        result = footage.info, *drain(footage.frames)
    thread.join()
    return result


@pytest.mark.parametrize("live", [None, True])
@pytest.mark.parametrize("kind", ["ts", "mkv"])
def test_a_container_is_read_from_a_pipe(movie, kind, live):
    info, frames, error = piped(movie[kind], live=live, latency_s=60.0)
    assert error is None
    assert info.fps == 25
    assert [bar_at(frame.rgb) for frame in frames] == pytest.approx(
        [20 + 8 * index // 3 for index in range(COUNT)], abs=1
    )


@pytest.mark.parametrize("live", [None, True])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "rgb24"])
def test_raw_video_is_read_from_a_pipe(pix_fmt, live):
    pictures = [av.VideoFrame.from_ndarray(bar(i), format="rgb24").reformat(format=pix_fmt) for i in range(8)]
    data = b"".join(picture.to_ndarray().tobytes() for picture in pictures)
    raw = f"160x96@30000/1001:{pix_fmt}".removesuffix(":yuv420p")
    given = {"raw": raw, "live": live, "latency_s": 60.0}
    info, frames, error = piped(data, **given)
    assert error is None
    assert info.fps == pytest.approx(29.97, abs=0.001)
    assert [bar_at(frame.rgb) for frame in frames] == [20 + 8 * index for index in range(8)]
    _, frames, error = piped(data[:-100], **given)
    assert len(frames) == 7
    assert "standard input: the video stops in the middle, 7 frames read" in str(error)


def test_what_cannot_be_read_from_its_start_is_told(tmp_path):
    big = [np.random.default_rng(i).integers(0, 255, (96, 160, 3), dtype=np.uint8) for i in range(40)]
    path = encode(tmp_path / "v.mp4", big, qp="1")  # its index is at the end, beyond any buffer
    for data in (path.read_bytes(), b"no video\n" * 99):
        with pytest.raises(VideoError, match=r"standard input: .*faststart"):
            piped(data)


class Handler(BaseHTTPRequestHandler):
    """Serves bytes; the first `cuts` answers stop in the middle."""

    def __init__(self, *args, data, cuts, **kwargs):
        self.data, self.cuts = data, cuts
        super().__init__(*args, **kwargs)

    def do_GET(self):
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data[: len(self.data) // 2] if self.cuts else self.data)
        self.cuts[:1] = []

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts a server of bytes; its address."""
    servers = []

    def start(data, cuts=0):
        handler = functools.partial(Handler, data=data, cuts=[None] * cuts)
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://me:secret@127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_recording_is_read_over_http_though_the_connection_breaks(movie, serve):
    url = serve(movie["mkv"], cuts=1)
    (source,) = find(f"{url}/match.mkv", Settings())
    footage = source.open(never)
    frames, error = drain(footage.frames)
    assert error is None
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert footage.facts()["reconnects"] == 1


def test_a_missing_page_is_told(serve, movie):
    (source,) = find(f"{serve(movie['ts'])}/missing.ts", Settings())
    with pytest.raises(VideoError, match=r"http://127.*/missing.ts: .*404.*check the path"):
        source.open(never)


def test_a_file_played_live_takes_its_time(tmp_path):
    path = encode(tmp_path / "v.mkv", [bar(i / 3) for i in range(8)], bf="0")
    (source,) = find(str(path), Settings(live=True))
    footage = source.open(never)
    start_s = time.monotonic()
    frames, error = drain(footage.frames)
    assert (source.stem, source.rereadable, error) == ("v-live", False, None)
    assert [frame.index for frame in frames] == list(range(8))
    assert time.monotonic() - start_s >= 7 / 25


def serve_rtsp(*arguments):
    """A running server, and its port."""
    if not RTSP_PYTHON.exists():
        pytest.skip(f"needs {RTSP_PYTHON} with GStreamer's RTSP server")
    command = [RTSP_PYTHON, RTSP_SERVER, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line:
        why = process.communicate()[1].strip().splitlines()[-1:]
        pytest.skip(
            f"no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good {why}"
        )
    return process, int(line)


def end(process):
    process.kill()
    process.communicate()


@pytest.fixture
def court():
    process, port = serve_rtsp(0)
    yield process, port
    end(process)


def test_a_camera_over_rtsp_that_is_lost_comes_back(court):
    process, port = court
    (source,) = find(f"rtsp://me:secret@127.0.0.1:{port}/court", Settings(reconnect_s=20))
    footage = source.open(never)
    assert isinstance(footage.info, VideoInfo)
    assert (footage.info.width, footage.info.fps) == (320, 30)
    before = [next(footage.frames) for _ in range(10)]
    end(process)
    lost_s, again = time.monotonic(), None
    try:
        again, _ = serve_rtsp(port)
        last = before[-1]
        for frame in footage.frames:
            if frame.time_s - last.time_s > 0.5:
                break
            last = frame
        assert frame.index > last.index
        assert frame.time_s - last.time_s == pytest.approx(time.monotonic() - lost_s, abs=1)
        assert footage.facts()["reconnects"] == 1
    finally:
        footage.frames.close()
        if again is not None:
            end(again)


def test_a_recording_over_rtsp_ends_where_it_says(tmp_path):
    path = encode(tmp_path / "v.mp4", [bar(index / 3) for index in range(25)], bf="0", g="5")
    process, port = serve_rtsp(0, path)
    try:
        (source,) = find(f"rtsp://127.0.0.1:{port}/court", Settings(live=False, reconnect_s=5))
        frames, error = drain(source.open(never).frames)
    finally:
        end(process)
    assert error is None
    assert len(frames) == 25
