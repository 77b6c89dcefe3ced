from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import django_workflows

pytestmark = pytest.mark.core

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "django_workflows"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

LONGEST_MODULE = 500
LONGEST_FUNCTION = 40


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts]


def functions(module):
    """Each function's name and how many lines it has below its docstring."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            yield node.name, lines


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name for line in requirements if isinstance(line, str)}


def test_the_installed_version_is_the_one_in_the_code():
    try:
        installed = version("django-durable-workflows")
    except PackageNotFoundError:
        pytest.skip("runs from the sources")

    assert installed == django_workflows.__version__


def test_the_changelog_opens_with_what_is_not_released_yet():
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]

    assert headings[0] == "## [Unreleased]"


def test_types_are_announced():
    assert (PACKAGE / "py.typed").is_file()


def test_the_tests_bring_along_what_every_extra_needs():
    extras = PYPROJECT["project"]["optional-dependencies"].values()

    missing = set().union(*map(names, extras)) - names(PYPROJECT["dependency-groups"]["tests"])

    assert not missing


@pytest.mark.parametrize("line", PYPROJECT["project"]["dependencies"])
def test_a_dependency_has_a_floor_and_no_ceiling(line):
    operators = {specifier.operator for specifier in Requirement(line).specifier}

    assert operators == {">="}


def test_the_authoring_door_opens_without_settings_or_models():
    code = (
        "import sys, django_workflows as door\n"
        "missing = [name for name in door.__all__ if not hasattr(door, name)]\n"
        "loaded = [name for name in sys.modules if name.startswith('django_workflows.models')]\n"
        "sys.exit(str(missing or loaded) if missing or loaded else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_no_module_is_too_long_to_read_at_once():
    sizes = {str(module.relative_to(ROOT)): len(module.read_text().splitlines()) for module in modules()}

    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_MODULE} == {}


def test_no_function_is_too_long_to_read_at_once():
    sizes = {f"{module.relative_to(ROOT)}:{name}": lines for module in modules() for name, lines in functions(module)}

    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_FUNCTION} == {}
