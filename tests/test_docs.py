"""The documentation does what it says: commands run, links lead on, examples are read, numbers are right."""

import json
import re
import shlex
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from shutil import copy, copytree

import command_line
import pytest
import yaml
from pages import CANNOT, FENCE, Command, blocks, commands, pages

from shuttlelib import (
    __version__,
    cli,
    clips,
    export,
    importers,
    labels,
    outputs,
    paths,
    quantize,
    splits,
    synth,
    throughput,
    tracking,
)
from shuttlelib.paths import NOTEBOOKS, REPO

README, DOCS = REPO / "README.md", REPO / "docs"
GUIDE = [README, REPO / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
COMMANDS = [command for page in GUIDE for command in commands(page)]
KINDS = {"bash", "csv", "json", "python"}  # of fenced blocks, each with its test here

# What a command does stays, how long it takes does not. Two steps of training do worse than what is shipped.
SMALLER = {
    "data synth ": "data synth --size 320x180 --frames 8 ",
    "--clips 200": "--clips 3",
    "--clips 40": "--clips 1",
    "shuttle train ": "shuttle train --steps 2 --batch 2 ",
    "shuttle mine ": "shuttle mine --steps 1 --batch 2 --passes 1 --at-most 2 ",
    "shuttle publish ": "shuttle publish --force ",
    "--repeat 3": "--repeat 1",
    "papermill ": "papermill --prepare-only ",  # test_notebooks.py and .ci/run execute them
}


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """What a reader of the pages has: a video, labels of it, labelled clips, models, notebooks, runs."""
    place = tmp_path_factory.mktemp("reader")
    synth.make_dataset(place / "data" / "rallies", 4, 3, (180, 320), 30.0, 8, val_share=0.4)
    source, rows = place / "my_labelled_clips", ["clip,venue,split"]
    for clip in clips.load_dataset(place / "data" / "rallies"):
        write_labels(source / f"{clip.name}.csv", clip)
        copy(clip.video_path, source)
        rows.append(f"{clip.name},{clip.venue},train")
    (source / "splits.csv").write_text("\n".join(rows) + "\n")
    write_labels(place / "labels" / "match.csv", clip)
    copy(clip.video_path, place / "match.mp4")
    copytree(paths.MODELS, place / "models")
    (place / "runs").mkdir()  # `make run` makes it
    (place / "notebooks").symlink_to(NOTEBOOKS)
    return place


def write_labels(path: Path, clip: clips.Clip) -> None:
    """As TrackNet writes them."""
    path.parent.mkdir(exist_ok=True)
    table = clip.table.fillna(0).assign(visible=clip.table["visible"].astype(int))
    table = table[["frame", "visible", "x_px", "y_px"]]
    table.to_csv(path, index=False, header=["Frame", "Visibility", "X", "Y"])


@pytest.fixture
def reader(footage, monkeypatch) -> Path:
    """The reader's folder as working directory; what is shipped and exported is a copy of the real thing."""
    monkeypatch.chdir(footage)
    monkeypatch.setattr(paths, "MODELS", footage / "models")
    monkeypatch.setattr(export, "export_onnx", copy_graph)  # test_export.py exports, which takes seconds
    monkeypatch.setattr(export, "latency_ms", lambda *_, **__: 1.0)
    for module, name in ((throughput, "STEPS"), (throughput, "WARM"), (quantize, "CALIBRATION")):
        monkeypatch.setattr(module, name, 1)
    return footage


def copy_graph(model_dir: Path) -> Path:
    name = json.loads((model_dir / "version.json").read_text())["name"]
    return Path(copy(REPO / "models" / name / "model.onnx", model_dir))


def shuttle_words(text: str) -> list[str]:
    """What follows `shuttle` in a command, also behind torchrun."""
    return shlex.split(text.partition("shuttle ")[2])


@pytest.mark.slow
def test_every_command_of_the_pages_runs(reader, capsys):
    story = [command for command in COMMANDS if not command.needs and runs_here(command)]
    assert len(story) >= 20
    for command in story:
        text = command.text
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        status = run(text)
        streams = capsys.readouterr()
        assert status == 0, f"{command.page}: {text}\n{streams.out}{streams.err}"
    for page in GUIDE:
        for code in blocks(page, "python"):
            exec(compile(code, page.name, "exec"), {})
    assert all((reader / f"tracks/match.{kind}").is_file() for kind in ("csv", "json", "mp4"))
    assert json.loads((reader / "metrics.json").read_text())["frames"] == 8
    assert (reader / "runs/stage2/best/model.safetensors").is_file()
    assert "my footage" in (reader / "models/stage2_v11/README.md").read_text()


def runs_here(command: Command) -> bool:
    if "openvino" in command.text and not find_spec("openvino"):  # an extra
        return False
    return command.text.split()[0] in ("cat", "papermill", "shuttle")


def run(text: str) -> int:
    if text.startswith("cat "):
        return run_piped(*text.removeprefix("cat ").split(" | "))
    program, *words = shlex.split(text)
    if program == "shuttle":
        return cli.run(words)
    from papermill.cli import papermill

    papermill.main(words, standalone_mode=False)
    return 0


def run_piped(file: str, text: str) -> int:
    before = sys.stdin
    with open(file) as sys.stdin:
        status = run(text)
    sys.stdin = before
    return status


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text}")
def test_every_command_is_one_that_there_is(command):
    program = command.text.split()[0]
    for part in command.text.split(" && "):
        assert "shuttle " not in part or command_line.problem(shuttle_words(part)) == ""
    if program == "make":
        assert_ci_runs(command.text)
    elif program == "bash":
        assert command.text in {line.text for line in commands(REPO / "paperspace" / "README.md")}
    elif program not in ("cat", "papermill", "shuttle"):
        assert command.needs
        assert Path(sys.executable).with_name(program).is_file()


def assert_ci_runs(text: str) -> None:
    """`.ci/run` gives this make command, or what its target does."""
    ci, makefile = ((REPO / name).read_text() for name in (".ci/run", "Makefile"))
    for name, value in re.findall(r"^(\w+) [?:]?= (\S+)", makefile, re.MULTILINE):
        makefile = makefile.replace(f"$({name})", value)
    recipe = re.search(rf"^{text.split()[1]}:.*\n\t@?(.+)", makefile, re.MULTILINE)
    assert recipe
    assert text in ci or recipe[1] in ci


def test_commands_in_the_text_are_ones_that_there_are():
    spans = [
        span for page in GUIDE for span in re.findall(r"`(shuttle [^`]+)`", FENCE.sub("", page.read_text()))
    ]
    assert len(spans) > 10
    problems = {span: command_line.problem(shuttle_words(span)) for span in spans}
    assert {span: problem for span, problem in problems.items() if problem} == {}


def test_every_block_is_of_a_kind_that_is_tested():
    assert {kind for page in GUIDE for kind, _ in FENCE.findall(page.read_text())} <= KINDS
    assert {command.needs for command in COMMANDS} <= {"", *CANNOT}


@pytest.mark.parametrize("words", list(command_line.commands()), ids=" ".join)
def test_every_command_has_its_place(words):
    text = "\n".join(page.read_text() for page in GUIDE)
    assert f"shuttle {' '.join(words)}" in text, "say in README.md or docs/ what it is for"


def test_every_notebook_is_in_the_table():
    rows = re.findall(r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\)", README.read_text(), re.MULTILINE)
    assert rows == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_leads_somewhere(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in set(anchors(path)), target


def anchors(page: Path) -> Iterator[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    for slug, same in groupby(sorted(slugs)):
        yield from (slug if n == 0 else f"{slug}-{n}" for n, _ in enumerate(same))


def test_examples_of_label_files_are_read(tmp_path):
    origins = set()
    for n, text in enumerate(blocks(DOCS / "formats.md", "csv")):
        folder = tmp_path / str(n)
        folder.mkdir()
        if text.startswith("clip,venue,split"):
            (folder / "splits.csv").write_text(text)
            assert len(splits.read(folder)) == len(text.splitlines()) - 1
            continue
        (folder / "00001.csv").write_text(text)
        origins |= example(folder / "00001.csv")
    for text in blocks(DOCS / "formats.md", "json"):
        (tmp_path / "export.json").write_text(text)
        origins |= example(tmp_path / "export.json")
    assert origins == {*(form.origin for form in importers.CSV_FORMATS.values()), "label_studio"}


def example(path: Path) -> set[str]:
    """Its origin; each example has the same shuttle in frame 1."""
    table = importers.read_labels(path, (720, 1280))
    row = table[table["frame"] == 1].iloc[0]
    assert (row["clip"], row["visible"], round(row["x_px"]), round(row["y_px"])) == ("00001", True, 639, 214)
    return set(table["origin"])


def test_the_pages_name_what_the_code_has():
    formats, modes = (DOCS / "formats.md").read_text(), (DOCS / "modes.md").read_text()
    assert all(f"`{name}`" in formats for name in (*labels.COLUMNS, *labels.UNUSABLE, *outputs.COLUMNS))
    assert all(f"| `{name}` |" in formats for name in importers.FORMATS if name != "auto")
    found = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", modes, re.MULTILINE))
    assert {k: float(v) for k, v in found.items()} == asdict(tracking.TrackParams())


def test_the_results_are_those_of_the_shipped_pair():
    pair = json.loads((REPO / "models" / "default.json").read_text())
    held = json.loads((REPO / "models" / pair["stage2"] / "metrics.json").read_text())
    for mode, result in held["free_running"].items():
        low, high = result["interval95"]["accuracy"]["grid512_4px"]
        accuracy, f1 = (result[name]["grid512_4px"] for name in ("accuracy", "f1"))
        noise = result["calibration"]["expected_calibration_error"]
        row = (
            f"| {mode} | {accuracy:.3f} ({low:.3f} to {high:.3f}) | {f1:.3f} | {result['fp2_share']:.3f} "
            f"| {result['hit_error_px']['1920x1080']:.2f} | {noise:.3f} |"
        )
        assert row in README.read_text()
    elsewhere = [f"{result['accuracy']['grid512_4px']:.3f}" for result in held["also"].values()]
    assert [number for number in elsewhere if number not in README.read_text()] == []
    questions = " ".join((DOCS / "faq.md").read_text().split())
    assert [number for number in elsewhere if number not in questions] == []
    assert f"from {elsewhere[-1]} to" in questions
    smart, page = held["free_running"]["smart"], " ".join((DOCS / "metrics.md").read_text().split())
    assert f"{smart['accuracy']['native_4px']:.3f}" in page
    assert f"{smart['fp2_share']:.0%} have such a report in mode smart" in questions
    (fp2, tn), blinks = (smart["counts"]["grid512_4px"][kind] for kind in ("fp2", "tn")), smart["blinks"]
    rest, alarms = fp2 + tn - blinks["frames"], fp2 - blinks["fp2"]
    assert (
        f"pair's {fp2} on the val split {blinks['fp2']} do, so of the {rest} other frames without a shuttle "
        f"{alarms} have a false alarm ({alarms / rest:.3f})" in page
    )


def test_the_picture_moves_for_ever_and_is_small():
    data = (DOCS / "rally.webp").read_bytes()
    header = data.index(b"ANIM")
    (loops,) = struct.unpack_from("<H", data, header + 12)
    assert (data[:4], data[8:12], loops) == (b"RIFF", b"WEBP", 0)
    assert data.count(b"ANMF") >= 100
    assert len(data) <= 1.5e6


def test_citation_and_changelog_name_this_version():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (REPO / "CHANGELOG.md").read_text()
