"""Names of a package that are loaded when they are asked for, so that importing the package costs nothing."""

from __future__ import annotations

import sys

__all__ = ["attach"]


def attach(package: str, names: dict[str, str]):
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    names : dict
        The sub-module that each public name is in; '.sub.module' relative to the package, without the first dot.

    Raises
    ------
    ValueError
        If a name is also that of a sub-module: the sub-module would take its place once it is imported.
    """
    clash = set(names) & {module.split(".")[0] for module in names.values()}
    if clash:
        raise ValueError(f"{package}: {', '.join(sorted(clash))} would be hidden by the module of that name.")

    def __getattr__(name: str):
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Not at the top: Python's start, which imports this package with the hook, need not load it.
        import importlib

        value = getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__():
        return sorted({*vars(sys.modules[package]), *names})

    return __getattr__, __dir__, list(names)
