import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shuttlelib.paths import REPO

PACKAGE = REPO / "shuttlelib"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPO / "tests").glob("*.py"))
CORE = [path for path in MODULES if "apps" not in path.relative_to(PACKAGE).parts]
MAX_FUNCTION, MAX_FILE = 60, 400  # lines
# Lines that hold code. The road is what the notebooks import, directly or not; the renderer and what stands
# behind commands only (command line, pipeline, publishing) are programs beside it.
MAX_ROAD, MAX_SYNTH = 7_900, 1_900
DRAWING = {
    "charts",
    "charts_bench",
    "charts_lineage",
    "failure_charts",
    "plots",
}  # arrays in, figure out: looked at, not read
MAX_DRAWING = 700

# The one way for the data to flow. A module imports from its own row or from rows above it, never below.
FLOW = [
    {
        "__init__",
        "ahead",
        "errors",
        "files",
        "geometry",
        "paths",
        "plots",
        "profiles",
        "rows",
        "runs",
        "stopping",
    },
    {"charts", "charts_bench", "charts_lineage", "failure_charts"},
    {"frames", "nvdec", "pictures", "repeats", "video"},
    {"labels", "cells", "label_studio", "studio_tasks", "importers"},
    {"clips", "splits", "layouts", "intake", "synth"},
    {"anomalies", "cleanup", "planting"},
    {"label_noise"},
    {
        "metrics",
        "summary",
        "evaluation",
        "calibration",
    },  # before training, which validates by them
    {"failures"},
    {"spec", "versions", "overrides"},  # rows of data, which say what samples a network wants
    {"draws", "degradation", "augment", "onto", "cache", "samples", "mixing", "batches"},
    {"blocks", "prediction", "pooled", "unet", "networks", "folding", "losses"},
    {"validation", "train_log", "checkpoints", "troubles", "train"},
    {"mining", "clusters"},
    {"track_params", "flight"},
    {
        "cut",
        "runtime",
        "hypotheses",
        "looks",
        "triggers",
        "landing",
        "offline",
        "rectify",
        "refine",
        "tracker",
        "together",
        "device",
        "overlay",
    },
    {"pair", "sources", "live", "streams", "outputs", "tracking"},
    {"export", "export_planes", "half", "quantize", "deployment"},
    {"recipes", "evidence", "beliefs", "throughput"},
    {"bench", "bench_run", "bench_startup"},
    {"timebox", "lineage"},
    {"report"},
    {"pipeline"},
    {"cards", "shipping", "reproduce"},
    {
        "cli",
        "cli_app",
        "cli_bench",
        "cli_data",
        "cli_export",
        "cli_hub",
        "cli_label",
        "cli_mine",
        "cli_report",
        "cli_reproduce",
        "cli_track",
        "cli_train",
    },
]
LAYER = {name: level for level, names in enumerate(FLOW) for name in names}
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]))


def concept(path: Path) -> str:
    """A module's name in the flow: its file, or the sub-folder it lives in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_concepts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "shuttlelib":
            names = [f"shuttlelib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.startswith("shuttlelib.") and not name.endswith("__version__"):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_flow(path):
    own = concept(path)
    assert own in LAYER, f"{own} has no place in FLOW: give it one"
    for other in set(imported_concepts(ast.parse(path.read_text()))):
        assert other != "apps" or own.startswith("cli"), "the core imports no add-on"
        if other == "apps":
            continue
        assert other in LAYER, f"{other} has no place in FLOW: give it one"
        assert LAYER[other] <= LAYER[own], f"{own} imports {other}, which comes later in the flow"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_short_and_says_what_it_is(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= MAX_FILE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_are_absolute(path):
    froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in froms if node.level] == []


@pytest.mark.parametrize("path", MODULES + TESTS, ids=lambda path: str(path.relative_to(REPO)))
def test_no_function_is_long(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION} == {}


def code_lines(path: Path) -> int:
    """Lines that hold code: blank lines, comments and docstrings do not make a module long to read."""
    tree = ast.parse(path.read_text())
    docs: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line.strip() for line in path.read_text().splitlines()]
    return sum(bool(line) and line[0] != "#" and n not in docs for n, line in enumerate(lines, start=1))


def notebook_imports() -> set[str]:
    found: set[str] = set()
    for path in (REPO / "notebooks").glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        found.update(imported_concepts(ast.parse("\n".join("".join(cell["source"]) for cell in cells))))
    return found


def road() -> set[str]:
    """The modules that the notebooks reach by imports."""
    imports: dict[str, set[str]] = {}
    for path in CORE:
        imports.setdefault(concept(path), set()).update(imported_concepts(ast.parse(path.read_text())))
    reached, ahead = set(), notebook_imports()
    while ahead:
        name = ahead.pop()
        reached.add(name)
        ahead |= imports.get(name, set()) - reached
    return reached


def test_what_the_notebooks_need_is_readable_in_an_afternoon():
    needed = road()
    lines = {str(path.relative_to(PACKAGE)): code_lines(path) for path in CORE if concept(path) in needed}
    print("\n".join(f"{count:6d} {name}" for name, count in sorted(lines.items(), key=lambda item: -item[1])))
    assert {"train", "tracking"} <= needed
    synth = sum(count for name, count in lines.items() if name.startswith(("synth", "onto")))
    drawing = sum(count for name, count in lines.items() if name.removesuffix(".py") in DRAWING)
    assert synth <= MAX_SYNTH
    assert drawing <= MAX_DRAWING
    assert sum(lines.values()) - synth - drawing <= MAX_ROAD


def test_nothing_is_left_for_later():
    kinds = (".py", ".md", ".toml", ".yml", ".yaml", ".ipynb", ".sh")
    folders = ("shuttlelib", "tests", "notebooks", "paperspace")
    files = [path for folder in folders for path in (REPO / folder).rglob("*") if path.suffix in kinds]
    files += [path for path in REPO.iterdir() if path.suffix in kinds or path.name == "Makefile"]
    found = [str(path.relative_to(REPO)) for path in files if UNFINISHED.search(path.read_text("utf-8"))]
    assert found == []
