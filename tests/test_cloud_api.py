"""`launch.sh` against a loopback server that speaks the part of Paperspace's REST API it uses."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cloud import Machine

KEY = "ps_secret"
CREATE = ("launch.sh", "create", "train", "t123", "notebooks/03_train_stage1.ipynb", "-p", "profile", "full")


class Api(ThreadingHTTPServer):
    """Remembers what it was asked; answers with `answers[method, path]` or something plausible."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = {}


class Handler(BaseHTTPRequestHandler):
    server: Api

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path, json.loads(body) if body else None))
        queue = self.server.answers.get((self.command, path), [])
        code, value = queue.pop(0) if queue else (200, self.plausible(path))
        if self.headers["Authorization"] != f"Bearer {KEY}":
            code, value = 401, {"code": "UNAUTHORIZED", "message": "no"}
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def plausible(self, path: str) -> Any:
        machine = {
            "id": "ps1",
            "name": "train",
            "machineType": "A4000",
            "state": "ready",
            "publicIp": "192.0.2.1",
        }
        template = {"id": "t123", "name": "ml", "operatingSystemLabel": "Ubuntu 22.04"}
        if path == "/startup-scripts":
            return {"id": "s1"}
        if self.command == "GET":
            lists = {"/machines": [machine], "/os-templates": [template]}
            return {"hasMore": False, "items": lists[path]} if path in lists else machine
        return {"event": {"id": "e1"}, "data": machine}

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def machine(tmp_path: Path, api: Api) -> Machine:
    address = f"http://127.0.0.1:{api.server_address[1]}"
    return Machine(
        tmp_path, PAPERSPACE_API=address, PAPERSPACE_API_KEY=KEY, REPO_URL="https://git.example/shuttlelib"
    )


def test_create_rents_a_machine_with_a_startup_script(machine, api):
    done = machine.run(*CREATE)
    assert done.returncode == 0, done.stderr
    assert "machine   ps1 (A4000, ny2, 100 GB)" in done.stdout
    (_, first, script), (_, second, rented) = api.asked
    assert (first, second) == ("/startup-scripts", "/machines")
    assert script["isRunOnce"] is False
    assert len(script["script"].encode()) <= 16384
    assert "COMMAND=(notebooks/03_train_stage1.ipynb -p profile full )" in script["script"]
    assert rented["startupScriptId"] == "s1"
    assert (rented["machineType"], rented["diskSize"], rented["region"]) == ("A4000", 100, "ny2")
    assert (rented["autoShutdownEnabled"], rented["autoShutdownTimeout"]) == (True, 12)
    assert KEY not in done.stdout + done.stderr + json.dumps(api.asked)


def test_what_setup_needs_to_know_goes_along(machine):
    machine.environment |= {"TORCH_INDEX": "https://index.example/cu126", "CPU_ONLY": "1"}
    script = machine.run("launch.sh", "script", "shuttle", "versions").stdout
    assert "SETTINGS=(TORCH_INDEX=https://index.example/cu126 CPU_ONLY=1 )" in script


def test_a_machine_that_is_not_to_be_had_leaves_no_script_behind(machine, api):
    api.answers["POST", "/machines"] = [(400, {"code": "NO_CAPACITY", "message": "out of A4000"})]
    done = machine.run(*CREATE)
    assert (done.returncode, "400, out of A4000" in done.stderr) == (1, True), done.stderr
    assert api.asked[-1][:2] == ("DELETE", "/startup-scripts/s1")


@pytest.mark.parametrize(
    ("words", "asked", "said"),
    [
        (["list"], ("GET", "/machines"), "ps1\ttrain\tA4000\tready\t192.0.2.1"),
        (["templates"], ("GET", "/os-templates"), "t123\tml\tUbuntu 22.04"),
        (["show", "ps1"], ("GET", "/machines/ps1"), "state        ready"),
        (["start", "ps1"], ("PATCH", "/machines/ps1/start"), "asked     ps1 to start"),
        (["stop", "ps1"], ("PATCH", "/machines/ps1/stop"), "asked     ps1 to stop"),
        (["delete", "ps1"], ("DELETE", "/machines/ps1"), "deleted   ps1"),
    ],
)
def test_every_verb_asks_for_the_right_thing(machine, api, words, asked, said):
    done = machine.run("launch.sh", *words)
    assert done.returncode == 0, done.stderr
    assert api.asked == [(*asked, None)]
    assert said in done.stdout


def test_a_job_stops_its_machine_over_the_api(machine, api):
    machine.environment["PAPERSPACE_MACHINE_ID"] = "ps9"
    assert machine.run("launch.sh", "off", "api").returncode == 0
    assert api.asked == [("PATCH", "/machines/ps9/stop", None)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "401, the key is refused"),
        (404, "404, there is no such thing"),
        (500, "500, broken"),
        (429, "429, too many requests"),
    ],
)
def test_a_refusal_is_one_line(machine, api, code, said):
    api.answers["POST", "/startup-scripts"] = [(code, {"code": "X", "message": "broken"})]
    done = machine.run(*CREATE)
    assert done.returncode == 1
    assert said in done.stderr
    assert KEY not in done.stderr
    assert len(api.asked) == 1, "a POST is never repeated: it could rent two machines"


def test_what_only_reads_is_asked_again(machine, api):
    api.answers["GET", "/machines"] = [(503, {"message": "busy"})]
    assert "ps1" in machine.run("launch.sh", "list").stdout
    assert len(api.asked) == 2


@pytest.mark.parametrize(
    ("changes", "words", "status", "said"),
    [
        ({"PAPERSPACE_API_KEY": ""}, ["list"], 1, "PAPERSPACE_API_KEY is not set"),
        (
            {"PAPERSPACE_API": "http://127.0.0.1:9"},
            ["stop", "ps1"],
            1,
            "no answer to PATCH /machines/ps1/stop",
        ),
        ({"REPO_URL": ""}, ["create", "a", "b"], 2, "REPO_URL is not set"),
        (
            {"REPO_URL": "https://me:pw@git.example/x"},
            ["script"],
            2,
            "REPO_URL or TORCH_INDEX holds a password",
        ),
        ({"TORCH_INDEX": "https://me:pw@index.example/x"}, ["script"], 2, "TORCH_INDEX holds a password"),
        ({"DISK_GB": "much"}, ["create", "a", "b"], 2, "DISK_GB=much"),
        ({}, ["script", "x" * 17_000], 1, "longer than 16384 bytes"),
        ({}, ["stop"], 2, "stop which machine?"),
        ({}, ["create"], 2, "create needs NAME and TEMPLATE_ID"),
        ({}, ["off"], 2, "choose poweroff or api"),
        ({}, ["burn"], 2, "launch.sh knows no burn"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(machine, api, changes, words, status, said):
    machine.environment |= changes
    done = machine.run("launch.sh", *words)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert api.asked == []
