import errno
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError

from shuttlelib import files


def test_a_file_appears_only_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with files.atomic_write(path) as temp:
        temp.write_text("whole")
        assert temp.suffix == ".csv"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as temp:
        temp.write_text("half" * (1 // 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_do_not_take_each_others(tmp_path):
    def write(text):
        for _ in range(100):
            with files.atomic_write(tmp_path / "a.csv") as temp:
                temp.write_text(text * 50)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(write, text) for text in "abc"]:
            done.result()
    assert len(set((tmp_path / "a.csv").read_text())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_json_is_written_whole_and_without_what_is_no_number(tmp_path):
    files.write_json(tmp_path / "new" / "a.json", {"Ångström": [1, None]})
    assert json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8")) == {"Ångström": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "new" / "a.json", {"accuracy": float("nan")})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8")) == {"Ångström": [1, None]}


def test_a_folder_that_is_a_file_is_named_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    entered = []
    wrong = pytest.raises(files.WriteError, match=r"file.x.csv: cannot be written: .*another folder")
    with wrong, files.atomic_write(tmp_path / "file" / "x.csv") as temp:
        entered.append(temp)
    assert entered == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")],
)
def test_the_systems_errors_become_one_line(tmp_path, number, words):
    with pytest.raises(files.WriteError, match=words) as caught, files.atomic_write(tmp_path / "x.mp4"):
        raise OSError(number, "the system's words")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_a_full_disk_is_told_whichever_library_finds_it(tmp_path, monkeypatch, error):
    with pytest.raises(type(error)), files.atomic_write(tmp_path / "x"):
        raise type(error)("another reason")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    full = pytest.raises(files.WriteError, match="x: cannot be written: the disk is full")
    with full, files.atomic_write(tmp_path / "folder" / "x"):
        raise error
    assert list(tmp_path.rglob("x*")) == []


def test_an_error_that_is_not_about_writing_passes_through(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_write(tmp_path / "x.csv"):
        raise FileNotFoundError(errno.ENOENT, "an input that is missing")


def test_an_error_about_a_file_that_is_read_passes_through(tmp_path):
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input.csv"))
    with pytest.raises(PermissionError), files.atomic_write(tmp_path / "x.csv"):
        raise refused
    with (
        pytest.raises(files.WriteError, match=r"x\.csv: cannot"),
        files.atomic_write(tmp_path / "x.csv") as temp,
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(temp))


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path, monkeypatch):
    def refuse(path, *_, **__):  # as /proc does
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    for wrong in (files.atomic_write(tmp_path / "proc" / "x.csv"), files.writing(tmp_path / "proc")):
        with pytest.raises(files.WriteError, match=r"proc.*: no folder can be made there: choose"), wrong:
            (tmp_path / "proc").mkdir()
    with pytest.raises(FileNotFoundError), files.writing(tmp_path):
        (tmp_path / "missing input").read_text()


def test_a_folder_is_no_name_of_a_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(files.WriteError, match="it is a folder: give the name of a file"):
        files.write_json(".", {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_empty_and_what_is_damaged_is_named(tmp_path):
    path = tmp_path / "a.json"
    assert files.read_json(path) == {}
    files.write_json(path, {"Ångström": [1, None]})
    assert files.read_json(path) == {"Ångström": [1, None]}
    for text in ("{", "[1]", "3", '"text"'):
        path.write_text(text)
        with pytest.raises(files.ReadError, match=r"a\.json: not a JSON object \(.*\); delete it"):
            files.read_json(path)


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"shuttle" * 1000)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"shuttle" * 1000).hexdigest()


def test_plain_values_are_what_json_knows(tmp_path):
    values = {1: np.float32(0.5), "table": np.array([[1.23456, np.nan]]), "path": Path("a/b")}
    values["n"] = (np.inf, None)
    files.write_json(tmp_path / "a.json", files.plain(values, 3))
    assert files.read_json(tmp_path / "a.json") == {
        "1": 0.5,
        "table": [[1.235, None]],
        "path": str(Path("a/b")),
        "n": [None, None],
    }
    assert files.plain([0.123456789, True, 7]) == [0.123456789, True, 7]
