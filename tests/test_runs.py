import json
import random
import subprocess
import sys

import numpy as np
import pytest

from shuttlelib import runs
from shuttlelib.files import ReadError, WriteError, sha256, write_json
from shuttlelib.runs import RunError, start_run


def read(run):
    return json.loads((run.dir / "metrics.json").read_text())


def test_start_makes_the_folder_and_prints_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = start_run("runs/a", 3, "quick", data_hash="beef01")
    assert run.dir == tmp_path / "runs" / "a"
    assert run.dir.is_dir()
    printed = capsys.readouterr().out
    for part in (
        str(run.dir),
        "seed      3",
        "profile   quick",
        "beef01",
        "numpy " + np.__version__,
        "threads",
    ):
        assert part in printed


def test_same_seed_same_draws(tmp_path):
    draws = []
    for seed in (5, 5, 6):
        start_run(tmp_path, seed, "quick")
        draws.append((random.random(), np.random.rand()))  # noqa: NPY002  the global generator is what is seeded
    assert draws[0] == draws[1] != draws[2]


def test_torch_stays_out_until_asked_for(tmp_path):
    code = (
        "import sys; from shuttlelib import runs; r = runs.start_run(sys.argv[1], 1, 'quick');"
        "r.write_metrics({}); assert 'torch' not in sys.modules; assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.slow
def test_torch_is_seeded_when_asked_for(tmp_path):
    torch = pytest.importorskip("torch")
    draws = []
    for _ in range(2):
        run = start_run(tmp_path, 4, "quick", use_torch=True)
        draws.append(float(torch.rand(1)))
    assert draws[0] == draws[1]
    assert run.facts["threads"] == torch.get_num_threads()


def test_metrics_merge_across_calls_and_runs(tmp_path):
    run = start_run(tmp_path, 0, "quick", data_hash="abc")
    run.write_metrics({"accuracy": 0.5, "speed": {"fps": 40}})
    run.write_metrics({"accuracy": 0.75})
    start_run(tmp_path, 0, "full").write_metrics({"f1": 1})
    found = read(run)
    assert (found["accuracy"], found["speed"], found["f1"]) == (0.75, {"fps": 40}, 1)
    assert found["run"]["profile"] == "full"
    assert found["environment"]["versions"]["numpy"] == np.__version__
    assert {"platform", "cpu", "cores", "commit", "time"} <= set(found["environment"])
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_data_from_the_hub_is_edited_only_where_labels_or_splits_changed(tmp_path):
    names = ("a.parquet", "splits.csv", "a.mp4")
    for name in names:
        (tmp_path / name).write_text(name)
    files = {name: sha256(tmp_path / name) for name in names}
    write_json(tmp_path / runs.REVISION, {"repo": "me/data", "revision": "1f2e", "files": files})
    assert runs.data_revision(tmp_path) == "me/data@1f2e"
    for name in ("a.mp4", "._a.parquet", "notes.csv"):
        (tmp_path / name).write_text("other")
    assert runs.data_revision([str(tmp_path), tmp_path]) == "me/data@1f2e, me/data@1f2e"
    (tmp_path / "splits.csv").write_text("other")
    assert runs.data_revision(tmp_path) == "me/data@1f2e-edited"
    (tmp_path / "splits.csv").unlink()
    assert runs.data_revision(tmp_path) == "me/data@1f2e-edited"


def test_numpy_values_and_nan_become_plain_json(tmp_path):
    run = start_run(tmp_path, 0, "quick", where=tmp_path)
    run.write_metrics(
        {"a": np.float32(0.5), "b": np.array([1.0, np.nan]), "c": float("inf"), 4: (np.int64(2),)}
    )
    found = read(run)
    assert [found[key] for key in "abc4"] == [0.5, [1.0, None], None, [2]]
    assert found["run"]["where"] == str(tmp_path)


def test_a_skip_is_printed_recorded_and_forgotten_by_the_next_run(tmp_path, capsys):
    run = start_run(tmp_path, 0, "quick")
    run.skip("TensorRT engine", "no NVIDIA GPU")
    assert "skipped: TensorRT engine: no NVIDIA GPU" in capsys.readouterr().out
    assert read(run)["skipped"] == [{"cell": "TensorRT engine", "reason": "no NVIDIA GPU"}]
    again = start_run(tmp_path, 0, "quick")
    again.write_metrics({"built": True})
    assert read(again)["skipped"] == []


def test_errors_name_the_cause_and_the_fix(tmp_path):
    with pytest.raises(RunError, match="seed -1 is out of range: choose"):
        start_run(tmp_path, -1, "quick")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file"):
        start_run(tmp_path / "file" / "run", 0, "quick")
    run = start_run(tmp_path / "run", 0, "quick")
    with pytest.raises(RunError, match="'environment' is written by the run itself"):
        run.write_metrics({"environment": {}})
    (run.dir / "metrics.json").write_text("[1")
    with pytest.raises(ReadError, match=r"metrics\.json: not a JSON object"):
        run.write_metrics({})


def test_commit_is_none_outside_a_clone(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "REPO", tmp_path)
    assert runs.environment()["commit"] is None
