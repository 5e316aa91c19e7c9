"""The package is made of wings, one for a subject, and imports go down the layers below only: read here from the
source."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fsl_mrs_dl"
PLUGIN = ROOT / "fsleyes_plugin_dl"

# A wing imports from itself and from the layers above its own; those on one line do not see each other.
LAYERS = """
    _lazy _version
    core
    io
    physics registration
    simulation
    networks
    fitting
    preproc concentrations
    dynamic
    results training
    mrsi
    fslmrs
    workflow
    api
    cli
    __main__
"""
# _version is written by the build.
# _hook stands beside them: the standard library is all that it imports at once, and it is there before anything else.
LAYER = {wing: level for level, line in enumerate(LAYERS.split("\n")) for wing in line.split()}


def sources(package):
    """Every source file of a package as (dotted name of its module, path)."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def wing(module):
    """The wing that a dotted module is in, or the module itself where it lies at the top of the package."""
    return module.split(".")[1] if "." in module else module


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


MODULES = dict(sources(PACKAGE))


def modules_of_package(names):
    """The modules of fsl_mrs_dl that dotted names point to, the deepest each; names that its ``__init__`` defines point
    to none."""
    for name in names:
        parts = name.split(".")
        for end in (len(parts), len(parts) - 1):
            module = ".".join(parts[:end])
            if module in MODULES and module != "fsl_mrs_dl":
                yield module
                break


def wings_importing(library):
    """Wings in which ``library`` is imported."""
    return {
        wing(name)
        for name, path in MODULES.items()
        if any(found.split(".")[0] == library for found, _, _ in imports(path))
    }


@pytest.mark.parametrize("name", sorted({wing(name) for name in MODULES} - {"fsl_mrs_dl", "_hook"}))
def test_wing_has_its_place_in_the_layers(name):
    assert name in LAYER, (
        f"fsl_mrs_dl/{name} has no layer: a module belongs into a wing, a new wing into LAYERS of this file"
    )


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"fsl_mrs_dl", "fsl_mrs_dl._hook"}))
def test_imports_go_down_the_layers_only(name):
    here = wing(name)
    wrong = [
        f"{MODULES[name].relative_to(ROOT)}:{line} imports {module}, whose layer is not below that of {here}"
        for found, line, _ in imports(MODULES[name])
        for module in modules_of_package([found])
        if wing(module) not in (here, "_hook") and LAYER[wing(module)] >= LAYER[here]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["fsl_mrs_dl", "benchmarks"])
def test_no_circle_among_modules(package):
    """Also none through an import inside a function: it would only hide that two modules are one."""
    own = dict(sources(ROOT / package))
    graph = {name: set() for name in own}
    for name, path in own.items():
        for found, _, _ in imports(path):
            known = [
                module
                for module in (found, found.rpartition(".")[0])
                if module in own and module not in (name, package)
            ]
            graph[name].update(known[:1])
    while free := [name for name, needed in graph.items() if not needed & set(graph)]:
        for name in free:
            del graph[name]
    assert not graph, f"these import each other: {sorted(graph)}"


def test_fsl_mrs_is_imported_in_its_wing_only():
    assert wings_importing("fsl_mrs") <= {"fslmrs"}


def test_lightning_is_imported_in_training_only():
    assert wings_importing("lightning") | wings_importing("pytorch_lightning") <= {"training"}


def test_hook_needs_the_standard_library_only():
    at_once = {found.split(".")[0] for found, _, in_function in imports(PACKAGE / "_hook.py") if not in_function}
    assert at_once <= set(sys.stdlib_module_names)


def loads_torch():
    """Modules of fsl_mrs_dl that load torch as they are imported, themselves or through others."""
    at_once = {
        name: {found for found, _, in_function in imports(path) if not in_function} for name, path in MODULES.items()
    }
    loading = {name for name, found in at_once.items() if any(f.split(".")[0] == "torch" for f in found)}
    while True:
        more = {name for name, found in at_once.items() if loading & set(modules_of_package(found))} - loading
        if not more:
            return loading
        loading |= more


def test_fsleyes_plugin_does_not_load_torch():
    heavy = loads_torch()
    assert "fsl_mrs_dl.physics.signal_model" in heavy, "the check itself sees nothing"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {found}"
        for _, path in sources(PLUGIN)
        for found, line, _ in imports(path)
        if found.split(".")[0] in ("torch", "lightning") or heavy & set(modules_of_package([found]))
    ]
    assert not wrong, "\n".join(wrong)


def test_packages_load_nothing_heavy_at_once():
    """Neither the package nor a wing does: Python's start, the hook and FSLeyes import them."""
    for name, path in MODULES.items():
        if path.name == "__init__.py" and "encoders" not in name:
            at_once = [found for found, _, in_function in imports(path) if not in_function]
            assert not [
                found for found in at_once if found.split(".")[0] not in ("fsl_mrs_dl", *sys.stdlib_module_names)
            ], name
            assert not loads_torch() & set(modules_of_package(at_once)), name
