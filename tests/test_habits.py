"""Habits of the source: modules and functions of a readable length, public names across modules, options of errors in
their fields."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for package in ("fsl_mrs_dl", "fsleyes_plugin_dl") for path in (ROOT / package).rglob("*.py"))
PACKAGES = ("fsl_mrs_dl", "fsleyes_plugin_dl", "benchmarks")

MOST_LINES = 600  # of a module
MOST_LINES_OF_FUNCTION = 80
REASON = "Long because"  # in the docstring of a longer one

# Files that still need the change; none may be added.
LONG = {
    "fsl_mrs_dl/results/reports/alignment.py",
    "fsl_mrs_dl/simulation/phantom.py",
}
SPELLED_OPTIONS = {
    "fsl_mrs_dl/networks/encoders/__init__.py",
    "fsl_mrs_dl/networks/encoders/views.py",
    "fsl_mrs_dl/networks/frequency_then_phase.py",
    "fsl_mrs_dl/networks/self_supervised_quantification.py",
    "fsl_mrs_dl/networks/self_supervised_registration.py",
    "fsl_mrs_dl/networks/supervised_quantification.py",
}


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path):
    return path.relative_to(ROOT).as_posix()


def of_functions(path):
    return [node for node in ast.walk(parsed(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def files(but):
    return [pytest.param(path, id=name(path)) for path in FILES if name(path) not in but]


@pytest.mark.parametrize("path", files(LONG))
def test_modules_and_functions_are_short_or_give_a_reason(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES or REASON in (ast.get_docstring(parsed(path)) or ""), f"{name(path)}: {lines} lines"
    for function in of_functions(path):
        lines = function.end_lineno - function.lineno + 1
        reason = REASON in (ast.get_docstring(function) or "")
        assert lines <= MOST_LINES_OF_FUNCTION or reason, f"{name(path)}: {function.name} has {lines} lines"


@pytest.mark.parametrize("path", files(()))
def test_no_underscored_name_is_imported_across_modules(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module.split(".")[0] in PACKAGES):
            for alias in node.names:
                private = alias.name.startswith("_") and not alias.name.startswith("__")
                # The modules _hook and _lazy are named so because they are no part of the public face.
                assert not private or alias.name in ("_hook", "_lazy"), f"{name(path)}:{node.lineno} {alias.name}"


def beginning(node):
    """The text that a string expression begins with, as far as the source tells."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize("path", files(SPELLED_OPTIONS))
def test_errors_name_options_in_fields_not_in_text(path):
    """Each program spells them its own way, see ``fsl_mrs_dl.core.errors``."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            assert not beginning(node.exc.args[0]).startswith("--"), f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", files(()))
def test_text_is_read_and_written_with_an_encoding(path):
    """Without one it depends on the locale."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            # The function write_text of io.output takes a path and a text.
            text = node.func.attr == "read_text" or (node.func.attr == "write_text" and len(node.args) == 1)
            assert not text or "encoding" in named, f"{name(path)}:{node.lineno}"


def test_names_of_test_files_differ():
    """Two files of one name in folders without packages cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


# Jobs that no command of this package does alike: of volumes with coils, of data whose water was not suppressed, and
# eddy currents of edited data.
NO_OWN_COMMAND = {
    "fsl_mrs_dl/io/volume.py": "coilcombine",
    "fsl_mrs_dl/fitting/data.py": "remove",
    "fsl_mrs_dl/fitting/artefacts.py": "ecc",
}


@pytest.mark.parametrize("path", [one for one in files(()) if "/fslmrs/" not in one.id])
def test_remedies_name_the_own_command_before_that_of_fsl_mrs(path):
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        for match in re.finditer(r"fsl_mrs_proc (coilcombine|remove|ecc|average|align)\b", node.value):
            own = "fsl_mrs_dl" in node.value[: match.start()]
            assert own or NO_OWN_COMMAND.get(name(path)) == match[1], f"{name(path)}:{node.lineno} {node.value}"


@pytest.mark.parametrize("path", files({"fsl_mrs_dl/core/fids.py"}))
def test_the_words_for_an_unusable_fid_stand_in_one_place(path):
    """``fsl_mrs_dl.core.fids.UNUSABLE``."""
    for node in ast.walk(parsed(path)):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        assert "holds NaN, or begins with" not in text, f"{name(path)}:{node.lineno}"
