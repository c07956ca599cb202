"""A Label Studio server of one's own: found, started, waited for and stopped; SQLite and local files.

Label Studio lives in an environment of its own: it is about 1 GB and wants other versions of numpy and OpenCV
than this project does.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shuttlelib.apps.labeling.client import Client, LabelServerError, token_from_environment
from shuttlelib.apps.labeling.work import Work
from shuttlelib.errors import UsageError
from shuttlelib.files import atomic_write

PROGRAM_VARIABLE = "LABEL_STUDIO_BIN"
DEFAULT_PORT = 8080
START_S = 600.0  # the first start makes the database: 50 s on an idle machine, minutes on a busy one
_USER = "shuttle@localhost"
_ARGUMENTS = ("--no-browser", "--internal-host", "127.0.0.1")


@dataclass(frozen=True)
class Login:
    """How to get into one's own server; in `server/login.json`, readable by its owner only."""

    email: str
    password: str
    token: str
    program: str
    port: int


def find_program(folder: Path, env_dir: Path | None = None) -> str:
    """The `label-studio` program of a labelling: the named one, that of the last start, or one on the path.

    Args:
        folder: of the labelling.
        env_dir: an environment to find it in, or to make with it: a virtual environment of about 1 GB.

    Raises:
        UsageError: it is nowhere.
        LabelServerError: it cannot be installed.
    """
    if env_dir is not None:
        return _program_in(env_dir) or _install(env_dir)
    named, stored = os.environ.get(PROGRAM_VARIABLE, ""), _stored(folder)
    last = shutil.which(stored.program) if stored else None
    found = shutil.which(named) if named else last or shutil.which("label-studio")
    if named and not found:
        raise UsageError(f"{PROGRAM_VARIABLE}={named}: no such program; give the path of label-studio")
    if not found:
        raise UsageError(
            "label-studio is not installed: give --server-env DIR to have it installed there once (1 GB), "
            f"set {PROGRAM_VARIABLE} to the program, or give --url of an existing server"
        )
    return found


def _stored(folder: Path) -> Login | None:
    path = folder / "server" / "login.json"
    if not path.is_file():
        return None
    try:
        return Login(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise LabelServerError(
            f"{path}: damaged ({error}); restore it, the server's log-in is in it"
        ) from error


def _program_in(env_dir: Path) -> str:
    places = os.pathsep.join(str(env_dir / name) for name in ("bin", "Scripts"))
    return shutil.which("label-studio", path=places) or ""


def _install(env_dir: Path) -> str:
    print(f"installing Label Studio into {env_dir} (about 1 GB, once)", file=sys.stderr, flush=True)
    python = env_dir / ("Scripts" if os.name == "nt" else "bin") / "python"
    venv = [sys.executable, "-m", "venv", str(env_dir)]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in (venv, [*pip, "label-studio>=1.23,<2"]):
        if subprocess.run(step, check=False).returncode:
            raise LabelServerError(f"{env_dir}: `{' '.join(step)}` failed; its own message is above")
    return _program_in(env_dir)


def login(folder: Path, env_dir: Path | None = None, port: int | None = None) -> Login:
    """The log-in of a labelling's own server: what was stored, or a new one.

    The port is the wanted one, the last one, 8080, or where that is taken any free one.

    Raises:
        UsageError: a wanted port is taken; otherwise as `find_program`.
    """
    path = folder / "server" / "login.json"
    old, program = _stored(folder), find_program(folder, env_dir)
    if port is not None and not _is_free(port):
        raise UsageError(f"--port {port}: another program uses it; choose another")
    chosen = port or (old.port if old else DEFAULT_PORT)
    chosen = chosen if _is_free(chosen) else _any_free()
    password, token = (old.password, old.token) if old else (secrets.token_urlsafe(12), secrets.token_hex(20))
    new = Login(_USER, password, token, str(Path(program).resolve().parent / Path(program).name), chosen)
    with atomic_write(path) as temp:
        temp.chmod(0o600)
        temp.write_text(json.dumps(asdict(new), indent=1) + "\n")
    return new


@contextmanager
def connected(work: Work, env_dir: Path | None = None, port: int | None = None) -> Iterator[Client]:
    """A client of a labelling's server; its own one is used if it runs, otherwise started for the block.

    Raises:
        UsageError: no token in the environment for an existing server, or no program to start.
        LabelServerError: the server cannot be reached or started.
    """
    if work.url:
        with Client(work.url, token_from_environment()) as client:
            client.who()
            yield client
        return
    running = _running(work.folder)
    if running is not None:
        with running:
            yield running
        return
    access = login(work.folder, env_dir, port)
    with _started(work.folder, access) as url, Client(url, access.token) as client:
        client.stops_server = True
        yield client


def _running(folder: Path) -> Client | None:
    """A client of the own server if it is up and knows our token."""
    access = _stored(folder)
    if access is None:
        return None
    probing = Client(f"http://127.0.0.1:{access.port}", access.token, timeout_s=10)
    with probing as client, suppress(LabelServerError):
        if client.who() == access.email:
            return Client(client.url, access.token)
    return None


@contextmanager
def _started(folder: Path, access: Login) -> Iterator[str]:
    """Run the server for the block; its address."""
    data = (folder / "server").resolve()
    log = data / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [access.program, "start", *_ARGUMENTS, "--port", str(access.port)],
            env={**os.environ, **_settings(data, folder.resolve() / "media", access)},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; the server is stopped below, after the last request
        )
    try:
        url = f"http://127.0.0.1:{access.port}"
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _settings(data: Path, media: Path, access: Login) -> dict[str, str]:
    """Environment of the server; by it, not by arguments, so that no process list shows the password."""
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(media),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_USERNAME": access.email,
        "LABEL_STUDIO_PASSWORD": access.password,
        "LABEL_STUDIO_USER_TOKEN": access.token,
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
    }


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        if process.poll() is not None:
            raise LabelServerError(
                f"{log}: Label Studio stopped with status {process.returncode}; see its last lines"
            )
        time.sleep(0.5)
    raise LabelServerError(f"{log}: Label Studio did not answer within {START_S:.0f} s; see its last lines")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
