"""`setup.sh` in a clean home without a cache or a network: a small lock file stands in for the real one."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud import SCRIPTS, Machine
from pages import commands

from shuttlelib.paths import REPO

TORCH = """
import os
__version__ = "0.0"
class version: cuda = "13.0"
class cuda: is_available = staticmethod(lambda: "TORCH_SEES_IT" in os.environ)
ones = lambda *shape, device: None
class conv2d:
    __init__ = lambda self, picture, kernel: None
    sum = lambda self: os.environ.get("TORCH_SUMS_UP_TO", "324")
"""


def wheel(folder: Path) -> Path:
    """A package index's worth: a stand-in for torch, and for what a job runs."""
    path = folder / "torch-0.0-py3-none-any.whl"
    info = "torch-0.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("torch.py", TORCH)
        file.writestr("papermill/__main__.py", "print('papermill')")
        file.writestr("tensorboard/main.py", "print('tensorboard')")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 0.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that has been set up once."""
    root = tmp_path_factory.mktemp("machine")
    (root / "lock").write_text(f"torch @ {wheel(root).as_uri()}\n")
    python = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    machine = Machine(root, PYTHON=str(python), SHUTTLE_LOCK=str(root / "lock"), SHUTTLE_ENV_GB="0.1")
    done = machine.run("setup.sh")
    assert done.returncode == 0, done.stderr
    assert "build  " in done.stdout
    assert "gpu       none" in done.stdout
    yield machine
    machine.end()


def python(machine: Machine, code: str) -> str:
    """What the machine's new environment says."""
    command = [str(machine.store / "env/bin/python"), "-Ic", code]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_the_next_start_builds_nothing_and_has_everything(machine):
    done = machine.run("setup.sh", cwd=machine.root)
    assert done.returncode == 0, done.stderr
    assert "build  " not in done.stdout
    assert python(machine, "import torch; print(torch.__version__)") == "0.0"
    assert python(machine, "import shuttlelib.paths as p; print(p.REPO)") == str(REPO)
    assert (machine.store / "env/bin/shuttle").stat().st_mode & 0o100


@pytest.mark.slow
def test_a_container_with_its_python_elsewhere_is_followed(machine):
    link = machine.store / "env/bin/python"
    for path in link.parent.glob("python*"):
        path.unlink()
        path.symlink_to("/gone/python3")
    done = machine.run("setup.sh")
    assert done.returncode == 0, done.stderr
    assert "relink" in done.stdout
    assert "build  " not in done.stdout
    assert python(machine, "import torch; print(torch.__version__)") == "0.0"


@pytest.mark.slow
def test_an_interrupted_or_outdated_environment_is_finished(machine):
    (machine.store / "env/.ready").unlink()
    assert "build  " in machine.run("setup.sh").stdout
    lock = machine.root / "lock"
    lock.write_text(f"{lock.read_text()}# newer\n")
    assert "build  " in machine.run("setup.sh").stdout
    assert "build  " not in machine.run("setup.sh").stdout


@pytest.mark.slow
def test_a_gpu_that_torch_cannot_use_is_an_error_with_the_fix(machine):
    tool = machine.tool("nvidia-smi", 'echo "NVIDIA RTX A4000, 550.54.14, 16376 MiB"')
    try:
        done = machine.run("setup.sh")
        assert done.returncode == 1
        assert "torch does not see the GPU (NVIDIA RTX A4000, 550.54.14, 16376 MiB)" in done.stderr
        assert "TORCH_INDEX=" in done.stderr
        machine.environment |= {"TORCH_SEES_IT": "1", "TORCH_SUMS_UP_TO": "0"}
        assert "or cannot compute on it" in machine.run("setup.sh").stderr
        machine.environment.pop("TORCH_SUMS_UP_TO")
        assert "gpu       NVIDIA RTX A4000" in machine.run("setup.sh").stdout
        machine.environment.pop("TORCH_SEES_IT")
        assert machine.run("setup.sh").returncode == 0, "seen once, it is not asked again"
        assert machine.run("setup.sh", "--rebuild").returncode == 1, "another environment is"
        (machine.store / "env/.ready").unlink()
        assert machine.run("setup.sh").returncode == 1
    finally:
        tool.unlink()
        for name in ("TORCH_SEES_IT", "TORCH_SUMS_UP_TO"):
            machine.environment.pop(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["tool", "driver"])
def test_a_gpu_whose_driver_does_not_answer_is_not_trained_without_unasked(machine, broken):
    card = machine.root / "pci/0000:00:05.0/vendor"
    if broken == "tool":
        found = machine.tool("nvidia-smi", "echo NVIDIA-SMI has failed; exit 9")
    else:
        card.parent.mkdir(parents=True)
        card.write_text("0x10de\n")
        found = card
    try:
        done = machine.run("setup.sh")
        assert done.returncode == 1
        assert "its driver does not answer" in done.stderr
        machine.environment["CPU_ONLY"] = "1"
        assert "gpu       none" in machine.run("setup.sh").stdout
    finally:
        found.unlink()
        machine.environment.pop("CPU_ONLY", None)


@pytest.mark.slow
def test_the_index_of_torch_is_remembered_until_another_is_given(machine):
    lock, before = machine.root / "lock", (machine.root / "lock").read_text()
    lock.write_text("torch==0.0\n")
    machine.environment |= {"PIP_FIND_LINKS": str(machine.root), "TORCH_INDEX": "https://index.example/cu126"}
    try:
        assert "build  " in machine.run("setup.sh").stdout
        machine.environment.pop("TORCH_INDEX")
        assert "build  " not in machine.run("setup.sh").stdout
        lock.write_text("torch==0.0\n# newer\n")
        (machine.store / "env/kept").touch()
        assert "build  " in machine.run("setup.sh").stdout
        assert (machine.store / "env/.index").read_text() == "https://index.example/cu126\n"
        assert (machine.store / "env/kept").exists()
        machine.environment["TORCH_INDEX"] = ""
        assert "build  " in machine.run("setup.sh").stdout
        assert not (machine.store / "env/kept").exists(), "torch of two indexes would share its folders"
        assert python(machine, "import torch; print(torch.__version__)") == "0.0"
    finally:
        lock.write_text(before)
        for name in ("PIP_FIND_LINKS", "TORCH_INDEX"):
            machine.environment.pop(name, None)
        machine.run("setup.sh")


@pytest.mark.slow
def test_the_commands_of_the_readme_work(machine):
    lines = list(commands(SCRIPTS / "README.md"))
    mine = [line.text for line in lines if not line.needs]
    assert len(lines) > len(mine) >= 13
    script = "\n".join(["set -ex", *mine])
    environment = {**machine.environment, "SHUTTLE_SCRATCH_GB": "0.1", "SHUTTLE_RUN_GB": "0.1"}
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stderr
    machine.run("run_headless.sh", "wait", "kept")
    assert "papermill" in machine.log("03_train_stage1-quick")
    machine.end()


@pytest.mark.slow
def test_a_boot_brings_clone_environment_and_job(machine):
    home, log = machine.root / "booted", machine.root / "startup.log"
    home.mkdir()
    clone = "mkdir -p ${@: -1}/.git && cp -r $FROM/. ${@: -1}/ && echo $* >>$STARTUP_HOME/cloned"
    machine.tool("git", clone)
    (machine.root / "from").mkdir()
    for name in ("paperspace", "notebooks", "shuttlelib"):
        (machine.root / "from" / name).symlink_to(REPO / name)
    words = {"STARTUP_HOME": str(home), "STARTUP_LOG": str(log), "FROM": str(machine.root / "from")}
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    machine.environment |= {**words, "STARTUP_USER": user, "REPO_URL": "https://git.example/shuttlelib"}
    script = machine.root / "boot.sh"
    script.write_text(machine.run("launch.sh", "script", "--port", "0", "shuttle", "versions").stdout)
    for boot in (1, 2):
        done = subprocess.run(["bash", str(script)], env=machine.environment, check=False, timeout=300)
        assert done.returncode == 0, (boot, log.read_text())
    assert (home / "cloned").read_text().count("https://git.example/shuttlelib") == 1
    assert log.read_text().count("started   shuttle-versions") == 1, "the first boot starts it, no other"
    machine.run("run_headless.sh", "wait", "shuttle-versions")


@pytest.mark.parametrize(
    ("off", "logged_in", "goes_off"),
    [("poweroff", "", True), ("api", "", True), ("none", "", False), ("poweroff", "ann pts/0", False)],
)
def test_a_boot_whose_setup_fails_shuts_down_if_the_job_would(tmp_path, off, logged_in, goes_off):
    log = tmp_path / "startup.log"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    machine = Machine(tmp_path, STARTUP_HOME=str(tmp_path), STARTUP_LOG=str(log), STARTUP_USER=user)
    setup = "echo setup of $TORCH_INDEX; exit 1"
    machine.tool("git", f"mkdir -p ${{@: -1}}/paperspace; echo '{setup}' >${{@: -1}}/paperspace/setup.sh")
    machine.tool("who", f'echo -n "{logged_in}"')
    machine.environment |= {"REPO_URL": "https://git.example/x", "TORCH_INDEX": "https://index.example/cu126"}
    script = tmp_path / "boot.sh"
    script.write_text(machine.run("launch.sh", "script", "--off", off, "shuttle", "versions").stdout)
    del machine.environment["TORCH_INDEX"]
    done = subprocess.run(["bash", str(script)], env=machine.environment, check=False, timeout=300)
    assert done.returncode == 1
    assert "setup of https://index.example/cu126" in log.read_text()
    assert (tmp_path / "powered-off").exists() == goes_off


def test_a_boot_whose_command_does_not_start_shuts_down_too(tmp_path):
    log = tmp_path / "startup.log"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    machine = Machine(tmp_path, STARTUP_HOME=str(tmp_path), STARTUP_LOG=str(log), STARTUP_USER=user)
    refuses = "echo not enough space >&2; exit 2"
    folder = "${@: -1}/paperspace"
    made = f"mkdir -p {folder}; echo true >{folder}/setup.sh; echo '{refuses}' >{folder}/run_headless.sh"
    machine.tool("git", made)
    machine.tool("who", "true")
    machine.environment |= {"REPO_URL": "https://git.example/x"}
    script = tmp_path / "boot.sh"
    script.write_text(machine.run("launch.sh", "script", "--off", "poweroff", "shuttle", "versions").stdout)
    done = subprocess.run(["bash", str(script)], env=machine.environment, check=False, timeout=300)
    assert done.returncode == 2
    assert "not enough space" in log.read_text()
    assert (tmp_path / "powered-off").exists()
    assert not (tmp_path / ".shuttle-started").exists()


@pytest.mark.slow
def test_packages_that_cannot_be_had_leave_no_environment_that_looks_whole(machine):
    lock, env = machine.root / "lock", machine.store / "env"
    lock.write_text("torch @ file:///nowhere/torch-0.0-py3-none-any.whl\n")
    done = machine.run("setup.sh")
    assert done.returncode == 1
    assert "packages could not be installed" in done.stderr
    assert env.is_dir()
    assert not (env / ".ready").exists()
    answers = machine.root / "answers"
    answers.write_text("90000000\n1000\n")  # KB: enough at the start, next to nothing at the end
    machine.tool("df", f"echo; echo d 1 1 $(head -1 {answers}); sed -i 1d {answers}")
    done = machine.run("setup.sh")
    assert "the disk filled up while packages were installed" in done.stderr
    assert not env.exists()


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"SHUTTLE_ENV_GB": "9999999"}, 1, "a new environment needs 9999999 GB; free some space"),
        ({"PYTHON": "python2"}, 1, "no Python from 3.11 on with venv (tried python2)"),
        ({"SHUTTLE_LOCK": "/nowhere"}, 2, "/nowhere: no such file of requirements"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(tmp_path, changes, status, said):
    machine = Machine(tmp_path, **{"PYTHON": sys.executable, **changes})
    done = machine.run("setup.sh")
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert not machine.store.exists()


def test_the_storage_of_a_notebook_is_found_and_its_scratch_kept_off_it(tmp_path):
    echo = f'. "{SCRIPTS}/paths.env"; python3 -c "import json, os; print(json.dumps(dict(os.environ)))"'
    for store, scratch in (
        ("/storage/shuttle", "/tmp/shuttle-scratch"),
        (f"{tmp_path}/s", f"{tmp_path}/s/scratch"),
    ):
        command = ["bash", "-c", f"set -a; SHUTTLE_STORE={store}; {echo}"]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert (found["SHUTTLE_RUNS"], found["SHUTTLE_SCRATCH"]) == (f"{store}/runs", scratch)
