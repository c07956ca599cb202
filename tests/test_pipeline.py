import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from shuttlelib import paths, pipeline, profiles, tracking
from shuttlelib.errors import UsageError

PARAMETERS = 'seed = 0\ndata_dir = ""\nrun_dir = ""\nprofile = "full"'
WRITE = """
import json, sys
from pathlib import Path
folder = Path(run_dir, NAME)
folder.mkdir()
values = {"seed": seed, "profile": profile, "data_dir": data_dir}
values |= {"python": sys.executable, "cwd": str(Path.cwd())}
_ = (folder / "metrics.json").write_text(json.dumps({"main": {"f1": 0.5}, "values": values}))
"""


def make_notebook(folder: Path, name: str, *cells: str) -> Path:
    new = nbformat.v4
    parameters = new.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    body = [new.new_code_cell(cell) for cell in cells]
    notebook = new.new_notebook(cells=[new.new_markdown_cell(f"# {name}"), parameters, *body])
    notebook.metadata.kernelspec = {"name": "elsewhere", "display_name": "elsewhere", "language": "python"}
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def test_a_run_executes_in_order_and_stops_at_the_first_failure(tmp_path, capsys, monkeypatch):
    # A kernel that the user registered under the usual name must not be taken for this interpreter's.
    wrong = tmp_path / "wrong" / "kernels" / "python3" / "kernel.json"
    wrong.parent.mkdir(parents=True)
    wrong.write_text(json.dumps({"argv": ["false"], "display_name": "wrong", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "wrong"))
    source, out = tmp_path / "notebooks", tmp_path / "run"
    make_notebook(source, "00_good", 'NAME = "00_good"' + WRITE)
    make_notebook(source, "01_bad", "x = 1", 'raise ValueError("first line\\nlast <line>")', "y = 2")
    make_notebook(source, "02_never", "pass")

    with pytest.raises(pipeline.PipelineError) as caught:
        pipeline.run_notebooks(pipeline.select_notebooks(folder=source), out, "quick", {"seed": 7})

    message = str(caught.value)
    assert message.startswith("01_bad.ipynb failed in cell [4]: ValueError: last <line>")
    assert message.endswith(str(out / "01_bad.ipynb"))
    values = json.loads((out / "00_good" / "metrics.json").read_text())["values"]
    assert values == {
        "seed": 7,
        "profile": "quick",
        "data_dir": str(out / "data"),
        "python": sys.executable,
        "cwd": str(out),
    }
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "wrong")
    index = (out / "report" / "index.html").read_text()
    assert [index.index(text) for text in ("00_good.html", "01_bad.html", "02_never")] == sorted(
        index.index(text) for text in ("00_good.html", "01_bad.html", "02_never")
    )
    assert "f1 0.5" in index
    assert ">failed<" in index
    assert "not run" in index
    page = (out / "report" / "01_bad.html").read_text()
    assert "last &lt;line&gt;" in page
    assert 'src="http' not in page
    assert not (out / "02_never.ipynb").exists()
    progress = capsys.readouterr().err
    assert "00_good" in progress
    assert "cell" in progress


def test_notebooks_of_an_earlier_run_keep_their_rows(tmp_path):
    source, out = tmp_path / "notebooks", tmp_path / "run"
    make_notebook(source, "00_good", 'NAME = "00_good"' + WRITE)
    make_notebook(source, "01_next", "pass")
    for only in ("00", "01"):
        pipeline.run_notebooks(pipeline.select_notebooks(only, source), out, "quick")
    index = (out / "report" / "index.html").read_text()
    assert index.index("00_good.html") < index.index("f1 0.5") < index.index("01_next.html")
    assert index.count(">ok<") == 2


def test_a_notebook_cut_off_by_a_kill_costs_a_later_run_neither_its_error_nor_its_report(tmp_path, capsys):
    source, out = tmp_path / "notebooks", tmp_path / "run"
    make_notebook(source, "00_bad", "raise ValueError('mine')")
    cut = make_notebook(out, "01_next", "pass")
    cut.write_text(cut.read_text()[:40])
    with pytest.raises(pipeline.PipelineError, match=r"00_bad\.ipynb failed in cell .*mine"):
        pipeline.run_notebooks(pipeline.select_notebooks("00", source), out, "quick")
    assert "00_bad.html" in (out / "report" / "index.html").read_text()
    assert f"left out of the report: {cut}: no notebook" in capsys.readouterr().err


def test_ctrl_c_ends_the_run_cleanly(tmp_path):
    interrupt = "import os, signal, threading\nopen('pid', 'w').write(str(os.getpid()))\n"
    interrupt += "os.kill(os.getppid(), signal.SIGINT)"
    make_notebook(tmp_path / "notebooks", "00_long", interrupt + "\nthreading.Event().wait()")
    code = (  # a shell's background jobs start with Ctrl-C ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from shuttlelib import pipeline\n"
        "pipeline.run_notebooks(pipeline.select_notebooks(folder=Path('notebooks')), Path('run'), 'quick')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    # not always the last line: asyncio may still complain about the kernel that was stopped
    assert "00_long.ipynb was interrupted at cell 3 of 3; the partial" in done.stderr
    assert (tmp_path / "run" / "report" / "index.html").exists()
    nbformat.read(tmp_path / "run" / "00_long.ipynb", as_version=4)
    kernel = int((tmp_path / "run" / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_a_kernel_that_dies_is_a_clear_line(tmp_path):
    make_notebook(tmp_path, "00_dies", "import os\nos._exit(1)")
    with pytest.raises(pipeline.PipelineError, match=r"00_dies\.ipynb lost its kernel at cell 3 of 3"):
        pipeline.run_notebooks(pipeline.select_notebooks(folder=tmp_path), tmp_path / "run", "quick")


def test_the_command_ends_by_saying_where_everything_is(tmp_path, tiny_video, monkeypatch, capsys):
    make_notebook(tmp_path / "notebooks", "00_good", "pass")
    tiny_video("rally.mp4")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "SAMPLES", tmp_path)
    files = {"csv": tmp_path / "a.csv", "overlay": tmp_path / "a.mp4", "summary_json": tmp_path / "a.json"}
    calls = []

    def track_video(video: Path, out_dir: Path, overlay: bool) -> tracking.TrackResult:
        calls.append((video.name, out_dir, overlay))
        return tracking.TrackResult(**files, summary={}, warning="stops" * (len(calls) > 1))

    monkeypatch.setattr(tracking, "track_video", track_video)
    pipeline.run_command(out=tmp_path / "run")
    assert calls == [("rally.mp4", tmp_path / "run" / "track", True)]
    printed = capsys.readouterr().out.splitlines()[-3:]
    wanted = [tmp_path / "run" / "report" / "index.html", files["csv"], files["overlay"]]
    assert [line.split()[-1] for line in printed] == [str(path) for path in wanted]

    pipeline.run_command(out=tmp_path / "run", only="00")
    assert len(calls) == 1
    with pytest.raises(pipeline.PipelineError, match="the sample video is damaged: stops"):
        pipeline.run_command(out=tmp_path / "run")


def test_only_picks_by_number_or_name_in_order(tmp_path):
    for name in ("00_a", "01_b", "02_c"):
        make_notebook(tmp_path, name)
    names = [path.stem for path in pipeline.select_notebooks("02_c, 00", tmp_path)]
    assert names == ["00_a", "02_c"]
    with pytest.raises(UsageError, match="there is no notebook '07', there are 00, 01, 02"):
        pipeline.select_notebooks("00,07", tmp_path)
    with pytest.raises(UsageError, match="names no notebook"):
        pipeline.select_notebooks(" ,", tmp_path)
    with pytest.raises(UsageError, match="no notebooks in"):
        pipeline.select_notebooks(None, tmp_path / "nowhere")


def test_an_unknown_profile_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="use one of quick, full"):
        pipeline.run_notebooks([], tmp_path / "run", "tiny")
    assert not (tmp_path / "run").exists()


def test_profiles_hold_work_to_do():
    for name, profile in profiles.PROFILES.items():
        assert profile.name == name
        sizes = [value for value in vars(profile).values() if isinstance(value, int | float)]
        assert all(size > 0 for size in sizes)
        assert profile.eval_clips <= profile.clips
