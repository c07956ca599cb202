"""The page in a real browser, end to end; networks that find the brightest pixel keep it quick.

Needs Gradio, playwright and a Chromium, whose path CHROMIUM_BIN may give.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest
from fakes import write_models

from shuttlelib import intake
from shuttlelib.paths import REPO
from shuttlelib.video import probe

pytest.importorskip("gradio", reason="needs the page's packages: pip install -e '.[app]'")
pytestmark = pytest.mark.slow
SIZE_HW = (90, 160)
SOON_MS = 60_000
LISTEN = """() => {
  window.said = [];
  const progress = document.querySelector('#progress');
  const all = {subtree: true, childList: true};
  new MutationObserver(() => said.push(progress.innerText)).observe(progress, all);
}"""
SHUTTLE = ("-c", "import sys; from shuttlelib.cli import main; main()")


def court(index):
    """A dark picture with a bright dot: gone in frames 12 to 23 of each 60, faint from 40 to 49."""
    rgb = np.full((*SIZE_HW, 3), 30, np.uint8)
    if not 12 <= index % 60 < 24:
        rgb[40:44, 20 + 2 * (index % 60) : 24 + 2 * (index % 60)] = 132 if 40 <= index % 60 < 50 else 250
    return rgb


def doubtful(index):
    """As `court`, but from frame 40 on the dot is faint and now here, now there."""
    if index < 40:
        return court(index)
    rgb, y = np.full((*SIZE_HW, 3), 30, np.uint8), 10 + 50 * (index % 2)
    rgb[y : y + 4, 2 * index : 2 * index + 4] = 132
    return rgb


@pytest.fixture(scope="module")
def chromium():
    path = os.environ.get("CHROMIUM_BIN") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("needs a browser: apt-get install chromium, or set CHROMIUM_BIN")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive the browser")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextmanager
def server(command, private, **env):
    """A page served by a process of its own; gives its address, and leaves nothing behind."""
    private.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=env.pop("cwd", REPO),
        env={**os.environ, "TMPDIR": str(private), **env},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield "http://127.0.0.1:" + re.search(r"open http://[\w.]+:(\d+)/", line).group(1) + "/"
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()
    assert not list(private.glob("shuttle-app-*"))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and private folder of a running page."""
    private, models = (tmp_path_factory.mktemp(name) for name in ("private", "models"))
    write_models(models, SIZE_HW, (64, 64))
    options = ("--backend", "onnx", "--threads", "1", "--max-upload-mb", "5", "--at-once", "2")
    command = (*SHUTTLE, "app", "--models", str(models), *options)
    with server(command, private) as address:
        yield address, next(private.glob("shuttle-app-*"))


@pytest.fixture
def visit(chromium, served):
    """Opens the page as a new visitor; afterwards nothing foreign was asked for and nothing went wrong."""
    address, _ = served
    contexts, foreign, complaints = [], [], []

    def seen(request):
        if urlsplit(request.url).hostname not in (None, "", urlsplit(address).hostname):
            foreign.append(request.url)

    def said(message):
        if message.type == "error":
            complaints.append(message.text)

    def open_():
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 1000}))
        page = contexts[-1].new_page()
        page.on("request", seen)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#start")
        return page

    open_.excused = []
    yield open_
    for context in contexts:
        context.close()
    assert foreign == []
    assert [text for text in complaints if not any(word in text for word in open_.excused)] == []


def give(page, video):
    page.set_input_files("#file input[type=file]", video)
    page.wait_for_selector(f"#about >> text={video.name}", timeout=SOON_MS)


def track(page, mode="smart"):
    page.check(f"#mode input[value={mode}]")
    page.evaluate(LISTEN)
    page.click("#start")


def result(page):
    page.wait_for_selector("#curves .curves", timeout=SOON_MS)
    page.wait_for_selector("#viewer .stage", timeout=SOON_MS)


def overlay(page):
    page.get_by_role("tab", name="Video").click()
    page.wait_for_selector("#overlay video", timeout=SOON_MS)
    return page.locator("#overlay video")


def download(page, button, folder):
    with page.expect_download(timeout=SOON_MS) as waiting:
        page.click(button)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def videos_left(root):
    return sorted(path.name for path in root.glob("v-*/*/*") if path.is_file())


def eventually(true, within_s=5.0):
    """Whether something becomes true in time."""
    until = time.monotonic() + within_s
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def test_upload_progress_result_correction_download(visit, tiny_video, tmp_path):
    video = tiny_video("rally.mp4", 900, SIZE_HW, draw=court)
    page = visit()
    give(page, video)
    track(page)
    result(page)
    assert re.search(r"\d+ of 900 frames · \d+ fps · \d:[\d.]+ left", "\n".join(page.evaluate("said")))
    assert page.locator("#overview b").first.inner_text() == "900"
    assert page.locator("#lost tr[data-frame]").count() == 15

    page.locator("#lost tr[data-frame]").nth(1).click()
    page.wait_for_selector("#viewer .stage[data-frame='72']", timeout=SOON_MS)
    page.click("#viewer [data-by='1']")
    page.wait_for_selector("#viewer .stage[data-frame='73']", timeout=SOON_MS)
    stage = page.locator("#viewer .stage")
    box = stage.bounding_box()
    stage.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.5})
    page.wait_for_selector("#viewer .cross", state="attached", timeout=SOON_MS)
    page.locator("#curves .curves").click(position={"x": 1, "y": 40})
    page.wait_for_selector("#viewer .stage[data-frame='0']", timeout=SOON_MS)
    page.click("#hide")
    page.wait_for_selector("#corrections tr[data-frame='0'] >> text=not visible", timeout=SOON_MS)

    overlay(page)
    page.wait_for_function("document.querySelector('#overlay video').readyState > 0", timeout=SOON_MS)
    rows = pd.read_csv(download(page, "#csv", tmp_path / "d"))
    summary = json.loads(download(page, "#json", tmp_path / "d").read_text())
    assert rows["source"].iloc[[0, 73]].tolist() == ["corrected", "corrected"]
    assert summary["corrected_frames"] == [0, 73]
    drawn = probe(download(page, "#mp4", tmp_path / "d"))
    assert (len(rows), summary["frames"], drawn.frame_count) == (900, 900, 900)

    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(video, mine)
    download(page, "#labels", mine)
    (clip,) = intake.import_folder(mine, tmp_path / "data")
    assert clip.table["frame"].tolist() == [0, 73]
    assert clip.table["visible"].tolist() == [False, True]
    x, y = clip.table[["x_px", "y_px"]].to_numpy()[1]
    assert (x, y) == pytest.approx((40, 45), abs=0.5)  # a quarter and a half of the frame


def test_the_least_confidence_filters_what_is_shown_and_downloaded(visit, tiny_video, tmp_path):
    page = visit()
    give(page, tiny_video("rally ä.mp4", 60, SIZE_HW, draw=doubtful))
    track(page)
    result(page)
    page.fill("#least input[type=number]", "0.95")
    page.locator("#least input[type=number]").blur()
    page.wait_for_selector("#curves .least", state="attached", timeout=SOON_MS)
    path = download(page, "#csv", tmp_path)
    assert path.name == "rally ä_confidence_95.csv"
    rows = pd.read_csv(path)
    assert 0 < len(rows) < 60
    assert rows["confidence"].min() >= 0.95
    overlay(page)
    page.wait_for_function("document.querySelector('#overlay video').readyState > 0", timeout=SOON_MS)


def test_cancel_in_the_middle(visit, served, tiny_video):
    page = visit()
    give(page, tiny_video("long.mp4", 4000, SIZE_HW, draw=court))
    track(page, "calibration")
    page.wait_for_selector("#progress >> text=/[0-9,]+ of 4,000 frames/", timeout=SOON_MS)
    asked = time.monotonic()
    page.click("#cancel")
    page.wait_for_selector("#progress >> text=Nothing was kept", timeout=SOON_MS)
    assert time.monotonic() - asked < 5
    assert page.locator("#result").is_hidden()
    assert videos_left(served[1]) == ["long.mp4"]
    assert not list(served[1].glob("v-*/*/track-*"))
    track(page, "fast")  # and the page is ready for another go
    page.wait_for_selector("#progress >> text=/[0-9,]+ of 4,000 frames/", timeout=SOON_MS)


def test_closing_the_tab_cancels_and_deletes(visit, served, tiny_video):
    page = visit()
    give(page, tiny_video("left.mp4", 4000, SIZE_HW, draw=court))
    track(page, "calibration")
    page.wait_for_selector("#progress >> text=/[0-9,]+ of 4,000 frames/", timeout=SOON_MS)
    page.close()
    assert eventually(lambda: not list(served[1].glob("v-*")))


def test_two_users_at_once(visit, served, tiny_video):
    address, _ = served
    pages = [visit(), visit()]
    for page, frames in zip(pages, (600, 660)):
        give(page, tiny_video(f"of_{frames}.mp4", frames, SIZE_HW, draw=court))
    for page in pages:
        track(page)
    found = []
    for page, frames in zip(pages, (600, 660)):
        result(page)
        assert page.locator("#overview b").first.inner_text() == str(frames)
        found.append(overlay(page).get_attribute("src"))
    for page, mine, other in zip(pages, found, found[::-1]):
        assert page.request.get(f"{address}{mine}").status == 200
        assert page.request.get(f"{address}{other}").status == 403
    assert httpx.get(f"{address}{found[0]}").status_code == 403


def test_a_text_file_named_mp4(visit, served, tmp_path):
    notes = tmp_path / "notes.mp4"
    notes.write_text("this is no video at all\n" * 20)
    page = visit()
    page.set_input_files("#file input[type=file]", notes)
    page.wait_for_selector("#about .error >> text=/notes.mp4: not a video/", timeout=SOON_MS)
    assert page.locator("#start").is_disabled()
    assert videos_left(served[1]) == []


def test_an_upload_of_2_gb_is_refused(visit, served, tmp_path):
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(2 << 30)  # sparse: takes no room
    address, root = served
    page = visit()
    visit.excused.extend(["404", "Response"])  # Gradio asks how far the upload that it refused has come
    page.set_input_files("#file input[type=file]", huge)
    page.wait_for_selector("text=/exceed the maximum allowed size/", timeout=SOON_MS)
    assert page.locator("#start").is_disabled()

    plain = HTTPConnection(urlsplit(address).netloc, timeout=20)  # one that does not ask the page's script
    with closing(plain):
        plain.putrequest("POST", "/gradio_api/upload")
        plain.putheader("Content-Type", "multipart/form-data; boundary=x")
        plain.putheader("Content-Length", str(2 << 30))
        plain.endheaders()
        assert plain.getresponse().status == 413  # and not a byte was sent
    assert videos_left(root) == []


def test_no_other_file_is_served(visit, served):
    address, root = served
    page = visit()
    for path in ("/etc/passwd", str(REPO / "README.md"), "README.md", str(root / "server.lock"), "~/.bashrc"):
        for name in (path, quote(path, safe=""), f"{root}/../..{path}", f"..%2f..%2f{path}"):
            reply = page.request.get(f"{address}gradio_api/file={name}")
            assert reply.status == 403, name
    for name in ("http://127.0.0.1:1/x", "file:///etc/passwd"):
        assert page.request.get(f"{address}gradio_api/file={name}").status == 403


def test_a_password_keeps_strangers_out(tmp_path):
    command = (*SHUTTLE, "app", "--host", "0.0.0.0")
    with server(command, tmp_path, SHUTTLE_APP_PASSWORD="let me in please") as address:
        assert "auth_required" in httpx.get(address).text
        assert httpx.get(f"{address}config").status_code == 401
        assert httpx.post(f"{address}gradio_api/upload", files={"files": b"x"}).status_code == 401
        with httpx.Client(base_url=address) as client:
            for password, status in (("a wrong password", 400), ("let me in please", 200)):
                said = client.post("/login", data={"username": "anyone", "password": password})
                assert said.status_code == status
            assert client.get("/config").status_code == 200


def test_the_same_page_runs_as_a_space_with_what_it_names(tmp_path):
    """In a bare folder, with every other dependency of the project out of reach."""
    for name in ("shuttlelib", "models", "samples"):
        shutil.copytree(REPO / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPO / "space", tmp_path, dirs_exist_ok=True)
    front = (tmp_path / "README.md").read_text().split("---")[1]
    assert {"sdk: gradio", "app_file: app.py"} <= set(front.strip().splitlines())
    hidden = ("accelerate", "matplotlib", "onnx", "pyarrow", "tensorboard", "timm", "torch", "torchvision")
    start = f"import sys, runpy; sys.modules.update(dict.fromkeys({hidden}))\n"
    start += "runpy.run_path('app.py', run_name='__main__')"
    env = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path), "SPACE_ID": "someone/shuttle"}
    with server(("-c", start), tmp_path / "private", **env) as address:
        page = httpx.get(address, headers={"host": "someone-shuttle.hf.space"})
        assert page.status_code == 200
        assert "Where is the shuttle?" in page.text
