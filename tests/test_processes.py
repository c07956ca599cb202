"""Trainings that are killed, and trainings of several processes: each in real processes."""

import multiprocessing
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from shuttlelib import mixing, synth
from shuttlelib.recipes import clips, open_samples

sys.path.insert(0, str(Path(__file__).parent))
import training_child

CONFIG = training_child.CONFIG
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start():
    """Starts `training_child.run` in a new process, forked from one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shuttlelib.recipes", "shuttlelib.train"])

    def start(*args):
        process = context.Process(target=training_child.run, args=args)
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    synth.make_dataset(folder / "data", 2, seed=5, size_hw=(90, 160), frame_count=12, val_share=0.5)
    open_samples(training_child.SPEC, clips.load_dataset(folder / "data"), folder / "cache")
    return folder


@pytest.fixture(scope="module")
def whole(start, folder):
    process = start(folder, folder / "whole")
    process.join()
    assert process.exitcode == 0
    return folder / "whole"


def weights(run_dir):
    """The final network and the averaged best one."""
    last = run_dir / "checkpoints" / "step_0000006" / "model.safetensors"
    return {**load_file(last), **load_file(run_dir / "best" / "model.safetensors")}


def curve(run_dir):
    return pd.read_csv(run_dir / "history.csv").drop(columns="seconds")


def test_a_training_killed_in_a_step_and_in_a_checkpoint_ends_where_an_undisturbed_one_does(
    start, folder, whole
):
    run_dir = folder / "killed"
    for kill in ("step", "checkpoint"):
        process = start(folder, run_dir, kill)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert [path.name for path in (run_dir / "checkpoints").glob("step_*")] == ["step_0000002"]
    assert any((run_dir / "checkpoints" / ".partial").iterdir())
    process = start(folder, run_dir)
    process.join()
    assert process.exitcode == 0
    ours, theirs = weights(run_dir), weights(whole)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert curve(run_dir).equals(curve(whole))
    assert not (run_dir / "checkpoints" / ".partial").exists()


def test_two_processes_share_the_draws_and_learn_alike(start, folder, whole):
    run_dir = folder / "two"
    run_dir.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{**common, "RANK": str(n), "LOCAL_RANK": str(n), "GLOO_SOCKET_IFNAME": "lo"} for n in (0, 1)]
    processes = [start(folder, run_dir, "", environment) for environment in ranks]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    seen = [np.array((run_dir / f"rank{n}.txt").read_text().split(), int).reshape(6, 4) for n in (0, 1)]
    data = open_samples(training_child.SPEC, clips.load_dataset(folder / "data"), folder / "cache")
    draws = mixing.WeightedDraws(data.weights, 0).items(np.arange(6 * CONFIG.batch))
    drawn = [index for index, _ in draws]
    assert np.array_equal(np.concatenate(seen, 1), np.array(drawn).reshape(6, -1))
    learned = [(run_dir / f"rank{n}.weights").read_text() for n in (0, 1)]
    assert learned[0] == learned[1], "both have the parameters that the gradients of both made"
    one, two = curve(whole), curve(run_dir)
    assert np.allclose(one["loss"], two["loss"], rtol=0.1)  # BatchNorm sees half the batch
    assert len(list((run_dir / "tensorboard").glob("events*"))) == len(
        list((whole / "tensorboard").glob("events*"))
    )
