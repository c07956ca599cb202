"""Headless runs of the real notebook and the real command, cut off in every way and resumed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from cloud import Machine, kill, until

from shuttlelib import recipes, synth

STEPS, BATCH = 8, 2


@pytest.fixture(scope="module")
def rallies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rallies") / "data"
    return synth.make_dataset(folder, 3, 0, (144, 256), frame_count=12, val_share=0.34)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose environment is the one of these tests."""
    machine = Machine(tmp_path, SHUTTLE_ENV=sys.prefix, MPLBACKEND="Agg")
    yield machine
    machine.end()


def untimed(values: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if not re.search(r"seconds|_s$", key)}


@pytest.mark.slow
def test_a_run_that_loses_its_machine_and_then_its_kernel_measures_what_an_undisturbed_one_does(
    machine, rallies
):
    parameters = {"data_dir": rallies, "steps": STEPS, "batch": BATCH}
    words = [str(word) for name, value in parameters.items() for word in ("-p", name, value)]
    machine.headless("--port", "0", "--name", "run", "notebooks/03_train_stage1.ipynb", *words)
    folder = machine.store / "runs/run/03_train_stage1"
    until(lambda: (folder / "checkpoints/step_0000002").exists())
    machine.end()
    assert machine.state("run") == "interrupted"
    machine.headless("resume")
    until(lambda: (folder / "checkpoints/step_0000004").exists())
    assert kill(f"SHUTTLE_JOB={machine.job('run')}", "ipykernel")
    assert not (folder / "metrics.json").exists(), "killed too late to prove anything"
    done = machine.run("run_headless.sh", "wait", "run")
    assert done.returncode == 0, machine.log("run")[-3000:]
    assert "resuming from the last checkpoint" in machine.log("run")

    every = {"val_every": STEPS // 4, "checkpoint_every": STEPS // 4, "val_samples": 64}
    expected = recipes.train_version(
        "stage1_v5", [rallies], machine.root / "straight", machine.root / "cache", steps=STEPS, batch=BATCH,
        **every, spec_overrides={"pretrained": False},
    )  # fmt: skip
    measured = json.loads((folder / "metrics.json").read_text())["training"]
    assert untimed(measured) == untimed(expected)
    history, straight = (pd.read_csv(path / "history.csv") for path in (folder, machine.root / "straight"))
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds"), straight.drop(columns="seconds"), check_exact=True
    )


@pytest.mark.slow
def test_a_stopped_training_has_saved_the_step_it_was_at(machine, rallies):
    out = machine.store / "runs/mine"
    words = ("--version", "stage1_v5", "--data", rallies, "--out", out, "--steps", "5000", "--batch", "2")
    machine.headless("--port", "0", "--name", "run", "shuttle", "train", *words)
    until(lambda: re.search(r" [1-9]\d*/5000", machine.log("run")))
    assert "run is stopped" in machine.headless("stop", "run")
    assert len(list((out / "checkpoints").glob("step_*"))) == 1, "none was due before step 500"
    assert "give the same command again to resume" in machine.log("run")
    assert "step_0" in machine.headless("status")


@pytest.mark.slow
def test_curves_are_served_on_the_port_until_stopped(machine):
    port = "16006"
    machine.headless("--port", port, "--name", "run", "shuttle", "versions")
    fetch = ["curl", "-s", "--retry", "60", "--retry-connrefused", "--retry-delay", "1"]
    page = subprocess.run([*fetch, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True)
    assert "TensorBoard" in page.stdout
    machine.run("run_headless.sh", "wait", "run")
    assert "stage1_v5" in machine.log("run")
    assert "tensorboard is stopped" in machine.headless("stop", "tensorboard")
