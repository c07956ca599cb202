"""The label loop against a real Label Studio on loopback, and its page in a real browser.

Set LABEL_STUDIO_BIN (or have label-studio on the path). The browser part needs playwright and a Chromium,
whose path CHROMIUM_BIN may give. The server's first start takes about a minute.
"""

import os
import shutil

import httpx
import numpy as np
import pytest
from fakes import BrightBackend

from shuttlelib import clips, importers, studio_tasks, tracking
from shuttlelib.apps.labeling import history, pull, serve, server
from shuttlelib.apps.labeling.client import TOKEN_VARIABLE, Client, LabelServerError
from shuttlelib.apps.labeling.work import Work, load

pytestmark = pytest.mark.slow
SIZE_HW = (180, 320)


def court(index):
    rgb = np.full((*SIZE_HW, 3), (20, 70, 30), np.uint8)
    rgb[88:92, 60 + 8 * index : 64 + 8 * index] = 250
    return rgb


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A client of a fresh server, and the folder it lives in."""
    if not (os.environ.get(server.PROGRAM_VARIABLE) or shutil.which("label-studio")):
        pytest.skip("needs Label Studio: set LABEL_STUDIO_BIN to its program")
    folder = tmp_path_factory.mktemp("labeling")
    with server.connected(Work(folder), port=server._any_free()) as client:
        yield client, folder


@pytest.fixture
def served(own, tiny_video):
    """A project with every third frame of a small clip out, and the model's answers."""
    client, folder = own
    video = tiny_video("00030.mp4", frames=12, size_hw=SIZE_HW, draw=court)
    networks = tracking.Networks(BrightBackend((45, 80)), BrightBackend((160, 160)))
    work = Work(folder)
    batch = serve.prepare_video(
        work, video, serve.Settings(frames=4, unsure_share=0, suggest_from=0), networks
    )
    batch.answers.pop(max(batch.why))  # one frame without a suggestion
    return client, serve.publish(client, work, [batch], "shuttle test"), video


def annotate(client, work, frame_xy):
    """Answer tasks through the API as the page does: a point, or a choice without one."""
    for task in client.export(work.project):
        answer = frame_xy.get(task["data"]["frame"])
        if answer is not None:
            xy = answer if isinstance(answer, tuple) else None
            result = studio_tasks.results("visible" if xy else answer, xy, SIZE_HW)
            client._call("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": result})


def picture_status(client, path):
    return httpx.get(client.url + path, headers=dict(client._http.headers), timeout=60).status_code


def test_labels_go_out_and_come_back(served, tmp_path):
    client, work, _ = served
    shown = client.export(work.project)
    frames = [task["data"]["frame"] for task in shown]
    assert tuple(frames) == work.clips["00030"].frames
    assert picture_status(client, shown[0]["data"]["image"]) == 200
    assert picture_status(client, shown[0]["data"]["past_3"]) == 200
    assert picture_status(client, "/data/local-files/?d=../server/login.json") != 200
    annotate(client, work, {frames[0]: (100.0, 45.0), frames[1]: "occluded", frames[2]: (10.0, 5.0)})
    data = tmp_path / "data"
    done = pull.pull(work, pull.read_answers(client, work), data)
    assert done.problems == []
    (clip,) = clips.load_dataset(data)
    assert clip.table["frame"].tolist() == frames[:3]
    assert clip.table["visible"].tolist() == [True, False, True]
    np.testing.assert_allclose(clip.table.loc[0, ["x_px", "y_px"]].astype(float), [100.0, 45.0])
    assert set(history.read(history.path_of(data, "00030"))["who"]) == {"shuttle@localhost"}
    for kind in ("JSON", "JSON_MIN", "CSV"):  # the exports a person may click in the page
        path = tmp_path / f"export.{kind[:4].lower().rstrip('_')}"
        answer = client._http.get(f"/api/projects/{work.project}/export", params={"exportType": kind})
        path.write_text(answer.raise_for_status().text)
        table = importers.read_labels(path, clip="00030").sort_values("frame", ignore_index=True)
        columns = ["frame", "visible", "x_px", "y_px"]
        assert np.allclose(table[columns].astype(float), clip.table[columns].astype(float), equal_nan=True)
    first = next(task for task in client.export(work.project) if task["annotations"])
    client._call("DELETE", f"/api/annotations/{first['annotations'][0]['id']}/")
    assert pull.pull(work, pull.read_answers(client, work), data).gone == [("00030", frames[0])]
    assert len(clips.load_dataset(data)[0].table) == 3


def test_an_existing_server_is_sent_the_pictures(served, tmp_path, monkeypatch, capsys):
    client, _, video = served
    token = client._http.headers["Authorization"].split()[1]
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    elsewhere = Work(tmp_path / "other", url=client.url)
    batch = serve.prepare_video(elsewhere, video, serve.Settings(frames=2), None)
    with server.connected(elsewhere) as other:
        elsewhere = serve.publish(other, elsewhere, [batch], "shuttle elsewhere")
        pictures = [
            task["data"][name] for task in other.export(elsewhere.project) for name in ("image", "past_1")
        ]
        assert len(set(pictures)) == 4
        assert {picture_status(other, path) for path in pictures} == {200}
        other._call("DELETE", f"/api/projects/{elsewhere.project}/")
        with pytest.raises(LabelServerError, match=r"project \d+ is not there"):
            pull.read_answers(other, load(elsewhere.folder))
    with Client(client.url, "0" * 40) as stranger, pytest.raises(LabelServerError, match="is not accepted"):
        stranger.who()
    assert token not in "".join(capsys.readouterr())
    assert token not in (elsewhere.folder / "work.json").read_text()


def test_a_person_labels_in_the_browser(served, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = os.environ.get("CHROMIUM_BIN") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs a browser: apt-get install chromium, or set CHROMIUM_BIN")
    client, work, _ = served
    access = server._stored(work.folder)
    first, second, third, fourth = work.clips["00030"].frames
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 950})
        page.set_default_timeout(120_000)
        page.goto(f"{client.url}/user/login/")
        page.fill("input[name=email]", access.email)
        page.fill("input[name=password]", access.password)
        page.click("button[type=submit]")
        page.goto(serve.address(client, work))
        labeler = Labeler(page)
        labeler.shows(first)
        page.screenshot(path=tmp_path / "suggested.png")
        labeler.submit()  # accept: one key combination
        labeler.shows(second)
        labeler.drag(labeler.suggested(), (100.0, 40.0))
        labeler.submit()
        labeler.shows(third)
        page.keyboard.press("2")  # the point stays, the choice counts
        labeler.submit()
        labeler.shows(fourth)
        labeler.click((50.0, 60.0))
        page.keyboard.press("1")
        page.screenshot(path=tmp_path / "clicked.png")
        labeler.submit()
        browser.close()
    print(f"screenshots in {tmp_path}")
    found = {answer.frame: answer for answer in pull.read_answers(client, work).found}
    assert found[first].x_px == pytest.approx(62 + 8 * first, abs=4)
    assert (found[second].x_px, found[second].y_px) == pytest.approx((100.0, 40.0), abs=5)
    assert (found[third].choice, found[third].visible) == ("occluded", False)
    assert (found[fourth].x_px, found[fourth].y_px) == pytest.approx((50.0, 60.0), abs=1)


class Labeler:
    """A person at the page."""

    def __init__(self, page):
        self.page = page

    def shows(self, frame):
        """Wait until the frame is there and can be labelled."""
        self.page.wait_for_function(
            "frame => window.Htx?.task && JSON.parse(Htx.task.data).frame === frame"
            " && document.querySelector('canvas') && Htx.annotationStore.selected"
            " && [...document.images].every(image => image.complete)",
            arg=frame,
        )

    def place(self, xy):
        box = self.page.locator("canvas").first.bounding_box()
        return box["x"] + xy[0] / SIZE_HW[1] * box["width"], box["y"] + xy[1] / SIZE_HW[0] * box["height"]

    def suggested(self):
        """Where the pre-annotation is, px."""
        results = self.page.evaluate("() => Htx.annotationStore.selected.serializeAnnotation()")
        value = next(result["value"] for result in results if result["from_name"] == "kp")
        return value["x"] / 100 * SIZE_HW[1], value["y"] / 100 * SIZE_HW[0]

    def click(self, xy):
        self.page.mouse.click(*self.place(xy))

    def drag(self, start, end):
        self.page.mouse.move(*self.place(start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)), steps=4)
        self.page.mouse.move(*self.place(end), steps=4)
        self.page.mouse.up()

    def submit(self):
        with self.page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
        ):
            self.page.keyboard.press("Control+Enter")
