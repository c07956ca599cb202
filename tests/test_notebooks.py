import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import nbformat
import pytest

from shuttlelib import runtime
from shuttlelib.paths import NOTEBOOKS

NAMES = [
    "00_get_data",
    "01_clean_labels",
    "02_check_augmentation",
    "03_train_stage1",
    "04_train_stage2",
    "05_mine_hard_examples",
    "06_visualize_heatmaps",
    "07_deploy_tensorrt",
    "08_track_and_evaluate",
    "09_compare_versions",
]
EVERY_NOTEBOOK_TAKES = {"seed", "data_dir", "run_dir", "profile"}
TITLE_SAYS = ("question", "inputs", "outputs", "minute")
MAX_CELL, MAX_HELPER = 15, 5  # lines


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def problems(notebook: Any, name: str) -> list[str]:
    """Every rule that a notebook breaks; a rule that needs parsed code is not asked of code that is none."""
    found = [*title_problems(notebook), *output_problems(notebook), *ending_problems(notebook, name)]
    try:
        trees = [ast.parse(cell.source) for cell in code_cells(notebook)]
    except SyntaxError as error:
        return [*found, f"not plain Python: {error.text.strip() if error.text else ''}"]
    return [*found, *order_problems(trees), *parameter_problems(notebook), *code_problems(notebook, trees)]


def title_problems(notebook: Any) -> Iterator[str]:
    title = notebook.cells[0]
    if title.cell_type != "markdown" or not title.source.startswith("# "):
        yield "the first cell is not a title"
    for word in TITLE_SAYS:
        if word not in title.source.lower():
            yield f"the title cell does not say {word!r}"


def order_problems(trees: list[ast.Module]) -> Iterator[str]:
    imports = (ast.Import, ast.ImportFrom)
    if not trees or not all(isinstance(node, imports) for node in trees[0].body):
        yield "the first code cell is not the imports"
    for tree in trees[1:]:
        if any(isinstance(node, imports) for node in ast.walk(tree)):
            yield "imports after the first code cell"
    if not any(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree)):
        yield "no check: not one assertion"


def parameter_problems(notebook: Any) -> Iterator[str]:
    cells = code_cells(notebook)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [1]:
        yield "the second code cell, and no other, must be tagged parameters"
        return
    source = cells[1].source
    names = set()
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name):
            yield f"parameters: not an assignment in line {node.lineno}"
            continue
        names.add(target.id)
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError):
            yield f"parameters: {target.id} is not a literal"
    yield from (f"parameters: {name} is missing" for name in sorted(EVERY_NOTEBOOK_TAKES - names))
    for line in source.splitlines():
        if line.strip() and not re.search(r"#\s*\w+", line):
            yield f"parameters: no comment with unit and meaning: {line}"


def code_problems(notebook: Any, trees: list[ast.Module]) -> Iterator[str]:
    helpers = []
    for cell, tree in zip(code_cells(notebook), trees, strict=True):
        first, lines = cell.source.partition("\n")[0], cell.source.count("\n") + 1
        if lines > MAX_CELL:
            yield f"a cell of {lines} lines: {first}"
        if "sys.path" in cell.source:
            yield f"sys.path: {first}"
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield f"a class: {node.name}"
            elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                yield f"a star import: {node.module}"
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                helpers.append(node)
    if len(helpers) > 1:
        yield "more than one helper: " + ", ".join(helper.name for helper in helpers)
    for helper in helpers:
        if (helper.end_lineno or 0) - helper.lineno + 1 > MAX_HELPER:
            yield f"a helper longer than {MAX_HELPER} lines: {helper.name}"


def output_problems(notebook: Any) -> Iterator[str]:
    for cell in code_cells(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield f"committed with outputs (nbstripout --keep-id): {cell.source[:40]}"


def ending_problems(notebook: Any, name: str) -> Iterator[str]:
    code = "\n".join(cell.source for cell in code_cells(notebook))
    if "write_metrics" not in code and "metrics.json" not in code:
        yield "writes no metrics.json"
    last = notebook.cells[-1]
    if last.cell_type != "markdown" or "learned" not in last.source.lower():
        yield "does not end with what was learned"
    following = NAMES[NAMES.index(name) + 1 :][:1] if name in NAMES else []
    if any(new not in last.source for new in following):
        yield f"does not say that {following[0]} is next"


def test_the_ten_notebooks_are_there():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rules(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook, path.stem) == []


def parameters(number: str) -> dict[str, Any]:
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    source = code_cells(nbformat.read(path, as_version=4))[1].source
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}


def test_the_versions_that_ship_are_shown_and_trained():
    stage1, stage2 = (folder.name for folder in runtime.default_pair())
    assert (parameters("02")["stage1"], parameters("02")["stage2"]) == (stage1, stage2)
    assert (parameters("03")["version"], parameters("04")["version"]) == (stage1, stage2)


def test_all_that_train_take_loader_processes():
    assert [name for name in NAMES if "workers" in parameters(name[:2])] == [
        "03_train_stage1",
        "04_train_stage2",
        "05_mine_hard_examples",
        "09_compare_versions",
    ]


def test_commands_in_notebooks_are_ones_that_there_are():
    found = []
    for path in NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            printed = re.findall(r'print\(f"shuttle (.*)"\)', cell.source)
            found += [re.sub(r"\{.*?\}", "x", words).split() for words in printed]
            found += [span.split() for span in re.findall(r"`shuttle ([^`]+)`", cell.source)]
    assert ["label", "pull", "--work", "x", "--data", "x"] in found
    problems = {" ".join(words): command_line.problem(words) for words in found}
    named = "requires an argument"  # an option that is only named
    assert {words: problem for words, problem in problems.items() if problem and named not in problem} == {}


TITLE = "# Title\nThe question is x. Inputs: y. Outputs: z. One minute on two cores."
PARAMETERS = """\
seed = 0  # of every generator
data_dir = "data"  # folder of clips
run_dir: str = "runs/x"  # folder to write to
profile = "quick"  # how much work
lr = -1e-3  # a step"""
LAST = "## What was learned\nNext: 01_clean_labels."


def example(**changes: Any) -> Any:
    """A notebook that keeps every rule, but for the parts given."""
    parts = {"title": TITLE, "imports": "import json", "parameters": PARAMETERS, "last": LAST}
    parts |= {"action": 'path = "metrics.json"\nassert lr < 0', **changes}
    new = nbformat.v4
    tags = {"tags": ["parameters"]}
    cells = [new.new_markdown_cell(parts["title"]), new.new_code_cell(parts["imports"])]
    cells += [new.new_code_cell(parts["parameters"], metadata=tags), new.new_code_cell(parts["action"])]
    return new.new_notebook(cells=[*cells, new.new_markdown_cell(parts["last"])])


GOOD_ACTION = 'path = "metrics.json"\nassert lr < 0\n'


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"title": "Title"}, "the first cell is not a title"),
        ({"imports": "import json\nx = 1"}, "the first code cell is not the imports"),
        ({"imports": "from json import *"}, "a star import: json"),
        ({"parameters": PARAMETERS + "\nx = 1 + seed  # sum"}, "parameters: x is not a literal"),
        ({"parameters": PARAMETERS + "\nx = 1"}, "parameters: no comment with unit and meaning: x = 1"),
        ({"parameters": PARAMETERS.partition("\n")[2]}, "parameters: seed is missing"),
        ({"parameters": PARAMETERS + "\nprint(1)  # no"}, "parameters: not an assignment in line 6"),
        ({"action": GOOD_ACTION + "import os"}, "imports after the first code cell"),
        ({"action": GOOD_ACTION + "class A: pass"}, "a class: A"),
        ({"action": GOOD_ACTION + "sys.path"}, 'sys.path: path = "metrics.json"'),
        ({"action": GOOD_ACTION + "!ls"}, "not plain Python: !ls"),
        ({"action": GOOD_ACTION + "\n" * 13}, 'a cell of 16 lines: path = "metrics.json"'),
        ({"action": GOOD_ACTION + "def f(): pass\ndef g(): pass"}, "more than one helper: f, g"),
        ({"action": GOOD_ACTION + "def f():\n" + " x\n" * 5}, "a helper longer than 5 lines: f"),
        ({"action": "metrics.json"}, "no check: not one assertion"),
        ({"action": "assert lr"}, "writes no metrics.json"),
        ({"last": "## What was learned"}, "does not say that 01_clean_labels is next"),
        ({"last": "Next: 01_clean_labels"}, "does not end with what was learned"),
    ],
)
def test_a_broken_rule_is_named(changes, problem):
    assert problem in problems(example(**changes), "00_get_data")


def test_a_good_notebook_has_no_problems():
    assert problems(example(), "00_get_data") == []


def test_outputs_and_a_second_parameters_cell_are_named():
    notebook = example()
    notebook.cells[1].execution_count = 1
    notebook.cells[3].metadata.tags = ["parameters"]
    assert problems(notebook, "00_get_data") == [
        "committed with outputs (nbstripout --keep-id): import json",
        "the second code cell, and no other, must be tagged parameters",
    ]


def measures(folder: Path) -> dict[str, Any]:
    """What the notebook measured, without the machine's facts and what is timed (keys in s, ms, fps)."""
    values = json.loads((folder / "04_train_stage2" / "metrics.json").read_text())
    facts = ("run", "environment", "skipped")
    return untimed({key: value for key, value in values.items() if key not in facts})


def untimed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    timed = re.compile(r"(^|_)(s|ms|seconds|minutes|fps)$")
    return {key: untimed(item) for key, item in value.items() if not timed.search(key)}


@pytest.mark.slow
def test_training_alone_from_elsewhere_repeats_its_metrics(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment["OMP_WAIT_POLICY"] = "passive"  # threads that spin starve each other beside other tests
    fixed = ["-k", "python3", "-p", "profile", "quick", "-p", "steps", "12", "-p", "run_dir"]
    for run in ("first", "second"):
        notebook = [str(NOTEBOOKS / "04_train_stage2.ipynb"), f"{run}.ipynb"]
        command = [sys.executable, "-m", "papermill", *notebook, *fixed, str(tmp_path / run)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert measures(tmp_path / "first")
    assert measures(tmp_path / "first") == measures(tmp_path / "second")
