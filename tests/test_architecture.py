"""The way data takes through the package is the order below, and imports go up it only: read here from the source."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fsl_mrs_dl"
PLUGIN = ROOT / "fsleyes_plugin_dl"

# A module imports only from those above it.  The README shows the same order.
ORDER = """
    errors layout units paths evaluate nifti volume baseline basis spinsim refine signal_model reduced concentrations macromolecules synthetic encoders registration supervised peers quantifiers regressors denoisers
    universal zoo priors novelty posterior alignment absolute editing drift starters uncertainty simulate paper_sets phantom pipeline denoise train qc figures results options maps mrsi report align_report denoise_report fslmrs api plugin _patches _hook
    switch launchers doctor benchmark benchmark_quant benchmark_denoise supervised_trials benchmark_supervised network_jobs cli stand_in
""".split()


def sources(package):
    """Every source file of a package, with the name of the module or sub-package at its top level: (name, path)."""
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        yield relative.parts[0].removesuffix(".py"), path


class Imports(ast.NodeVisitor):
    """Absolute dotted names that a file imports, each with its line and whether it does so only inside a function."""

    def __init__(self, path):
        self.path, self.depth, self.found = path, 0, []
        # Relative imports start from the package that the file is in.
        self.package = path.relative_to(ROOT).with_suffix("").parts[:-1]
        self.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))

    def add(self, name, node):
        self.found.append((name, node.lineno, self.depth > 0))

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node):
        start = self.package[: len(self.package) - node.level + 1] if node.level else ()
        base = ".".join([*start, *([node.module] if node.module else [])])
        for alias in node.names:
            self.add(f"{base}.{alias.name}", node)

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_If(self, node):
        # Names for annotations alone are never imported when the program runs, so they cannot make a circle.
        if ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING":
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)


@cache
def imports(path):
    return Imports(path).found


def modules_of_package(names):
    """Those modules of fsl_mrs_dl that dotted names point to; what its __init__ defines itself is nobody's module."""
    for name in names:
        parts = name.split(".")
        if parts[0] == "fsl_mrs_dl" and len(parts) > 1:
            if (PACKAGE / f"{parts[1]}.py").is_file() or (PACKAGE / parts[1] / "__init__.py").is_file():
                yield parts[1]


def importers(library, package):
    return {name for name, path in sources(package) if any(found.split(".")[0] == library for found, _, _ in imports(path))}


MODULES = [(name, path) for name, path in sources(PACKAGE) if name != "__init__"]


@pytest.mark.parametrize("name", sorted({name for name, _ in MODULES}))
def test_module_has_its_place_in_the_order(name):
    assert name in ORDER, f"fsl_mrs_dl/{name} has no place in ORDER: add it to tests/test_architecture.py and to the README"


@pytest.mark.parametrize("name, path", MODULES, ids=[str(path.relative_to(PACKAGE)) for _, path in MODULES])
def test_imports_go_up_the_order_only(name, path):
    if name not in ORDER:
        pytest.skip("reported by the test of the module's place")
    above = ORDER[: ORDER.index(name)]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}, which is not above {name}"
        for found, line, _ in imports(path)
        for module in modules_of_package([found])
        if module != name and module not in above
    ]
    assert not wrong, "\n".join(wrong)


def test_fsl_mrs_is_imported_by_one_module_only():
    assert importers("fsl_mrs", PACKAGE) <= {"fslmrs"}


def test_lightning_is_imported_by_train_only():
    assert importers("lightning", PACKAGE) | importers("pytorch_lightning", PACKAGE) <= {"train"}


def test_hook_needs_the_standard_library_only():
    path = PACKAGE / "_hook.py"
    if not path.exists():
        pytest.skip("there is no _hook.py")
    at_once = {found.split(".")[0] for found, _, in_function in imports(path) if not in_function}
    assert at_once <= set(sys.stdlib_module_names)


def loads_torch():
    """Modules of fsl_mrs_dl that load torch as they are imported, themselves or through others."""
    at_once = {}
    for name, path in sources(PACKAGE):
        at_once.setdefault(name, set()).update(found for found, _, in_function in imports(path) if not in_function)
    loading = {name for name, found in at_once.items() if any(f.split(".")[0] == "torch" for f in found)}
    while True:
        more = {name for name, found in at_once.items() if loading & set(modules_of_package(found))} - loading
        if not more:
            return loading
        loading |= more


def test_fsleyes_plugin_does_not_load_torch():
    heavy = loads_torch()
    assert "signal_model" in heavy, "the check itself sees nothing"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {found}"
        for _, path in sources(PLUGIN)
        for found, line, _ in imports(path)
        if found.split(".")[0] in ("torch", "lightning") or heavy & set(modules_of_package([found]))
    ]
    assert not wrong, "\n".join(wrong)


def test_package_itself_loads_nothing_heavy_at_once():
    at_once = [found for found, _, in_function in imports(PACKAGE / "__init__.py") if not in_function]
    assert not [found for found in at_once if found.split(".")[0] not in ("fsl_mrs_dl", *sys.stdlib_module_names)]
    assert not loads_torch() & set(modules_of_package(at_once))
