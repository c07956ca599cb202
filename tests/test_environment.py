import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from shuttlelib.paths import NOTEBOOKS, REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED_EXTRAS = ("dev", "rtx")  # make lock names the same; tensorrt needs a data-centre card's machine
GPU_MACHINE_EXTRAS = ("app", "dev", "openvino", "rtx", "tensorrt")


def bounds(lines: list[str]) -> dict[str, str]:
    """Name to version bounds; markers left out, because environment.yml is for one platform."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(item.name): str(item.specifier) for item in requirements}


def declared(extras: tuple[str, ...]) -> dict[str, str]:
    return bounds(PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]])


def locked() -> list[Requirement]:
    lines = (REPO / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_environment_and_pyproject_name_the_same():
    dependencies = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    conda = [item for item in dependencies if isinstance(item, str)]
    pip = next(item["pip"] for item in dependencies if isinstance(item, dict))
    assert f"python{PROJECT['requires-python']}" in conda
    assert pip[-1] == "-e ."
    assert bounds(pip[:-1]) == declared(GPU_MACHINE_EXTRAS)


def test_every_requirement_has_a_lower_bound():
    assert [name for name, bound in declared(tuple(EXTRAS)).items() if ">=" not in bound] == []


def test_the_lock_pins_each_package_once_for_a_platform():
    pins = locked()
    assert [str(pin) for pin in pins if not re.fullmatch(r"==[^=*]+", str(pin.specifier))] == []
    for version in ("3.11.2", "3.11.9", "3.12.4"):
        python = {"python_version": version.rpartition(".")[0], "python_full_version": version}
        here = [pin for pin in pins if not pin.marker or pin.marker.evaluate(python)]
        chosen = [canonicalize_name(pin.name) for pin in here]
        assert len(chosen) == len(set(chosen))


def test_the_lock_satisfies_pyproject():
    pins = {canonicalize_name(pin.name): pin for pin in locked()}
    for name, bound in declared(LOCKED_EXTRAS).items():
        assert name in pins, f"{name} is not in requirements.lock: make lock"
        version = str(pins[name].specifier).removeprefix("==")
        assert Requirement(f"{name}{bound}").specifier.contains(Version(version)), f"{name}: make lock"


def imported_packages(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def sources() -> Iterator[tuple[str, str]]:
    for path in [*(REPO / "shuttlelib").rglob("*.py"), *(REPO / "tests").glob("*.py")]:
        yield str(path.relative_to(REPO)), path.read_text()
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        yield path.name, "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def test_every_import_is_a_declared_dependency():
    owners = metadata.packages_distributions()
    names = declared(tuple(EXTRAS))
    local = {"shuttlelib", *(Path(path).stem for path in (REPO / "tests").glob("*.py"))}
    missing = []
    for where, code in sources():
        for package in set(imported_packages(code)) - sys.stdlib_module_names - local:
            distributions = {canonicalize_name(name) for name in owners.get(package, [package])}
            if not distributions & set(names):
                missing.append(f"{where} imports {package}, which pyproject.toml does not name")
    assert missing == []


@pytest.mark.parametrize("target", ["run", "test", "lock", "clean"])
def test_the_makefile_has_what_the_readme_promises(target):
    assert re.search(rf"^{target}:", (REPO / "Makefile").read_text(), re.MULTILINE)
