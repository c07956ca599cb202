import http.server
import json
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fakes import BrightBackend
from label_server import PEOPLE, FakeClient, said, shown, work_of

from shuttlelib import cli, clips, labels, tracking
from shuttlelib.apps.labeling import agreement, answers, effort, page, pick, pictures, serve, server, work
from shuttlelib.apps.labeling import client as client_
from shuttlelib.apps.labeling.client import LabelServerError
from shuttlelib.errors import UsageError
from shuttlelib.labels import LabelError

SIZE_HW = (90, 160)


def court(index):
    rgb = np.full((*SIZE_HW, 3), 30, np.uint8)
    rgb[40:48, 20 + 4 * index : 28 + 4 * index] = 250
    return rgb


@pytest.fixture
def video(tiny_video):
    return tiny_video("rally.mp4", frames=16, size_hw=SIZE_HW, draw=court)


@pytest.fixture
def networks():
    return tracking.Networks(BrightBackend((45, 80)), BrightBackend((160, 160)))


def test_frames_are_picked_over_time_and_where_the_model_is_unsure():
    confidence = pd.Series(0.9, index=range(300))
    confidence[100:105] = [0.3, 0.2, 0.1, 0.2, 0.3]
    confidence[200] = 0.4
    why = pick.pick_frames(300, 30.0, 12, confidence, taken=[200], seed=1)
    assert len(why) == 12
    assert why[102] == pick.WHY_UNSURE
    assert 200 not in why.index
    spread = why.index[why == pick.WHY_SPREAD]
    assert sorted(spread // 50) == list(range(6))
    assert why.index.is_monotonic_increasing
    unsure = why.index[why == pick.WHY_UNSURE]
    assert min(abs(a - b) for a in unsure for b in {*why.index, 200} - {a}) >= 3
    assert why.equals(pick.pick_frames(300, 30.0, 12, confidence, taken=[200], seed=1))


def test_a_short_clip_gives_what_it_has():
    assert len(pick.pick_frames(5, 30.0, 60)) == 5
    assert pick.pick_frames(5, 30.0, 60, taken=range(5)).empty


def test_pictures_are_native_and_the_past_shows_the_place(video, tmp_path):
    import cv2

    found = pictures.extract(video, 60.0, [9, 40], {9: (60.0, 44.0), 7: (52.0, 44.0)}, tmp_path / "m", True)
    assert found == [9]
    assert cv2.imread(str(tmp_path / "m" / "000009.png")).shape == (*SIZE_HW, 3)
    past = cv2.imread(str(tmp_path / "m" / "000009_past1.jpg"))
    assert past.shape == (360, 640, 3)
    # two frames earlier at 60 fps: the shuttle was 8 px further left, four times as large here
    row = cv2.cvtColor(past, cv2.COLOR_BGR2GRAY)[44 * 4]
    assert np.flatnonzero(row > 200).mean() == pytest.approx(4 * (20 + 4 * 7 + 4), abs=6)


def test_a_batch_goes_out_once(video, networks, tmp_path):
    client, labelling = FakeClient(), work.Work(tmp_path / "work")
    settings = serve.Settings(frames=4, suggest_from=0.0)
    batch = serve.prepare_video(labelling, video, settings, networks)
    labelling = serve.publish(client, labelling, [batch], "test")
    assert labelling == work.load(tmp_path / "work")
    assert len(client.tasks) == 4
    assert client.settings == {"model_version": "bright+bright"}
    task = client.tasks[0]
    frame = task["data"]["frame"]
    point, choice = task["predictions"][0]["result"]
    assert choice["value"] == {"choices": ["visible"]}
    assert point["value"]["x"] * 1.6 == pytest.approx(24 + 4 * frame, abs=4.5)  # the block is 8 px wide
    assert task["data"]["image"] == f"/data/local-files/?d=rally/{frame:06d}.jpg"
    serve.publish(client, labelling, [batch], "test")
    assert len(client.tasks) == 4
    more = serve.prepare_video(labelling, video, settings, networks)
    assert not set(more.why) & set(batch.why)


def test_two_batches_of_a_clip_send_no_frame_twice_and_remember_both(video, tmp_path):
    client, labelling = FakeClient(), work.Work(tmp_path / "work")
    (one,) = [serve.prepare_video(labelling, video, serve.Settings(frames=4), None)]
    shared = min(one.why)
    frames = {shared, next(frame for frame in range(16) if frame not in one.why)}
    other = replace(one, why=dict.fromkeys(frames, "label in doubt"))
    labelling = serve.publish(client, labelling, [one, other], "test")
    sent = [task["data"]["frame"] for task in client.tasks]
    assert sorted(sent) == sorted({*one.why, *frames})
    assert labelling.clips["rally"].frames == tuple(sorted({*one.why, *frames}))


def test_another_video_of_a_name_is_refused(video, tiny_video, tmp_path):
    labelling = work_of(tmp_path / "work", video)
    other = tiny_video("rally.mp4", frames=5)
    with pytest.raises(LabelError, match=r"rally.mp4: another video of that name is in .*work"):
        serve.prepare_video(labelling, other, serve.Settings(), None)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_suspects_go_out_with_the_answer_and_the_label(video, tmp_path, suffix):
    data = tmp_path / "data"
    table = labels.make_table("rally", range(16), True, 10.0, 20.0, "tracknet_csv")
    clips.store(clips.Clip("rally", video, table, clips.probe(video), "hall", "train"), data)
    path = tmp_path / f"suspects.{suffix}"
    wanted = pd.DataFrame(
        {"clip": "rally", "frame": [3, 5], "x_px": [36.0, 44.0], "y_px": 44.0, "p_visible": 0.97}
    )
    wanted.to_csv(path, index=False) if suffix == "csv" else wanted.to_parquet(path)
    client = FakeClient()
    batches = serve.prepare_suspects(work.Work(tmp_path / "work"), path, data)
    serve.publish(client, work.Work(tmp_path / "work"), batches, "test")
    assert [task["data"]["frame"] for task in client.tasks] == [3, 5]
    mined, current = client.tasks[0]["predictions"]
    assert (mined["model_version"], current["model_version"]) == ("mined", "current label")
    assert mined["result"][0]["value"]["x"] == pytest.approx(36.0 / 1.6)
    assert current["result"][0]["value"]["x"] == pytest.approx(10.0 / 1.6)
    assert client.settings == {"model_version": "mined"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,x_px\nrally,3\n", "column 'frame' is missing"),
        ("clip,frame\nrally,a\n", "row 1, column 'frame' is 'a'"),
        ("clip,frame,x_px\nrally,1,\nrally,2,left\n", "row 2, column 'x_px' is 'left'"),
        ("clip,frame,score\nrally,1,high\n", "row 1, column 'score' is 'high'"),
        ("clip,frame\nother,1\n", "clip 'other' is not in"),
    ],
)
def test_a_wrong_list_of_suspects_is_named(video, tmp_path, text, words):
    (tmp_path / "suspects.csv").write_text(text)
    with pytest.raises(LabelError, match=f"suspects.csv: {words}"):
        serve.prepare_suspects(work.Work(tmp_path / "w"), tmp_path / "suspects.csv", video.parent)


def test_annotators_are_compared(video, tmp_path):
    labelling = work_of(tmp_path / "work", video)

    def pair(frame, a, b):
        first = said(labelling, "rally", *a, number=frame)
        return shown(
            labelling, "rally", frame, first, said(labelling, "rally", *b, who=2, number=100 + frame)
        )

    export = [
        pair(0, ("visible", (10.0, 10.0)), ("visible", (13.0, 14.0))),
        pair(1, ("visible", (10.0, 10.0)), ("occluded", None)),
        pair(2, ("out of frame", None), ("occluded", None)),
        pair(3, ("visible", (10.0, 10.0)), ("visible", (10.0, 10.0))),
        shown(labelling, "rally", 4),
    ]
    found = answers.read(export, labelling.clips, PEOPLE, "p")
    result = agreement.agreement(found, labelling.clips)
    assert (result["frames"], result["pairs"]) == (4, 4)
    assert result["visibility_agreement"] == 0.75
    assert result["choice_agreement"] == 0.5
    assert result["kappa"] == pytest.approx(0.5)  # agreed 3/4, by chance 3/4 * 2/4 + 1/4 * 2/4 = 1/2
    assert result["distance_px_median"] == pytest.approx(20.0)  # 0 and 5 px, eight times as many at 1280x720
    assert result["worst"][0] == ("rally", 1, np.inf)
    assert agreement.progress(found).loc["rally"].tolist() == [5, 4, 3, 1]
    assert "kappa 0.50" in agreement.describe(result)


def test_kappa_of_a_single_answer_is_unknown():
    assert agreement.kappa([(True, True)] * 3) is None
    assert agreement.kappa([(True, True), (False, False)]) == 1.0
    assert agreement.kappa([(True, False), (False, True)]) == -1.0


def test_effort_counts_what_a_correction_takes():
    truth = labels.make_table("c", range(5), [1, 1, 1, 0, 0], [10.0] * 5, [10.0] * 5, "synthetic")
    track = pd.DataFrame(
        {
            "visible": [1, 1, 0, 1, 0],
            "x_px": [11.0, 20.0, np.nan, 5.0, np.nan],
            "y_px": 10.0,
            "confidence": 0.5,
        }
    )
    judged = effort.judge(track, truth, (720, 1280))
    assert judged["outcome"].tolist() == ["right", "misplaced", "missed", "false alarm", "rightly unseen"]
    assert effort.seconds("accept") == pytest.approx(1.35 + 0.4)
    assert effort.inputs("set a point") == 5
    result = effort.summarize(judged)
    both = [effort.seconds(name) for name in ("accept", "move the point", "set a point")]
    unseen = 2 * effort.seconds("say why it is not visible")
    assert result["with_model"]["0.0"]["seconds_a_frame"] == pytest.approx((sum(both) + unseen) / 5)
    assert result["without"]["seconds_a_frame"] == pytest.approx((3 * both[2] + unseen) / 5)
    assert result["with_model"]["0.8"] == result["without"]  # no answer is as sure as that
    assert "no suggestions" in effort.describe({"all": result})


def test_the_page_asks_what_pull_understands():
    page.check_config(page.LABEL_CONFIG, "p")
    with pytest.raises(LabelError, match="is not XML"):
        page.check_config("<View>", "p")


def test_a_server_that_is_not_there_and_a_missing_token(tmp_path, monkeypatch):
    monkeypatch.delenv(client_.TOKEN_VARIABLE, raising=False)
    with (
        pytest.raises(UsageError, match="LABEL_STUDIO_API_KEY is not set"),
        server.connected(work.Work(tmp_path, url="http://127.0.0.1:9")),
    ):
        pass
    with (
        client_.Client("http://127.0.0.1:9", "s" * 40) as client,
        pytest.raises(LabelServerError, match=r"http://127.0.0.1:9: no label server answers") as caught,
    ):
        client.who()
    assert "s" * 40 not in str(caught.value)


def test_a_short_lived_token_is_renewed_when_it_has_expired():
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = 1 + sum(path == self.path for path, _ in asked)
            self._answer(200, {"access": f"access {number}"}, content)

        def do_GET(self):
            known = self.headers["Authorization"] == "Bearer access 2"
            self._answer(200 if known else 401, {"email": "ada@example.org"}, None)

        def _answer(self, status, content, sent):
            asked.append((self.path, sent))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            with client_.Client(f"http://127.0.0.1:{running.server_port}", "a.b.c") as client:
                assert client.who() == "ada@example.org"
        finally:
            running.shutdown()
            thread.join()
    assert [path for path, _ in asked].count(client_._EXCHANGE) == 2
    assert asked[0][1] == {"refresh": "a.b.c"}


@pytest.mark.parametrize(
    ("status", "words"), [(401, "LABEL_STUDIO_API_KEY"), (404, "project 7 is not there")]
)
def test_a_refusal_says_what_to_do(status, words):
    assert words in client_._refusal("http://x", "GET", "/api/projects/7/export", status, "no")


def test_without_label_studio_the_fix_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(server.PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="label-studio is not installed: give --server-env DIR"):
        server.find_program(tmp_path)
    (tmp_path / "studio").write_text("#!/bin/sh\n")
    (tmp_path / "studio").chmod(0o755)
    monkeypatch.setenv(server.PROGRAM_VARIABLE, "studio")  # the server starts in a folder of its own
    assert server.find_program(tmp_path) == str(tmp_path / "studio")
    monkeypatch.setenv(server.PROGRAM_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"LABEL_STUDIO_BIN=.*gone: no such program"):
        server.find_program(tmp_path)


def test_a_login_is_kept_and_private(tmp_path, monkeypatch):
    program = tmp_path / "label-studio"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv(server.PROGRAM_VARIABLE, str(program))
    first = server.login(tmp_path)
    assert (tmp_path / "server" / "login.json").stat().st_mode & 0o077 == 0
    again = server.login(tmp_path)
    assert (again.password, again.token) == (first.password, first.token)


@pytest.mark.parametrize("runs", [False, True])
def test_only_who_started_the_server_waits_for_ctrl_c_and_stops_it(tmp_path, monkeypatch, capsys, runs):
    stopped, url = [], "http://127.0.0.1:9"

    @contextmanager
    def started(*_):
        yield url
        stopped.append(url)

    def pressed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "find_program", lambda *_: "label-studio")
    monkeypatch.setattr(server, "_running", lambda _: client_.Client(url, "token") if runs else None)
    monkeypatch.setattr(server, "_started", started)
    monkeypatch.setattr(serve, "publish", lambda _, labelling, *__: labelling)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(time, "sleep", pressed)
    work_of(tmp_path).save()
    assert cli.run(["label", "serve", "--work", str(tmp_path), "--no-open"]) == 0
    said_here = capsys.readouterr().out
    assert ("Ctrl-C stops the server" in said_here) == (stopped == [url]) == (not runs)
    assert ("it stops with the command that started it" in said_here) == runs


def test_the_commands_refuse_what_cannot_be(capsys, tmp_path):
    for arguments, words in (
        (["serve", "--work", tmp_path / "none"], "no labelling there"),
        (["pull", "--work", tmp_path / "none", "--data", tmp_path], "no labelling there"),
        (["serve", "--suspects", tmp_path / "s.csv", "--work", tmp_path], "--suspects needs --data"),
    ):
        assert cli.run(["label", *map(str, arguments)]) in (1, 2)
        assert words in capsys.readouterr().err
    (tmp_path / "work.json").write_text("{}")
    assert cli.run(["label", "status", "--work", str(tmp_path)]) == 1
    assert "damaged, or of another version" in capsys.readouterr().err
