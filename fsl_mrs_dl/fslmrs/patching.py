"""What the patches of FSL-MRS's modules share: the state of the running command, and a parser that calls back.

Standard library only, as in :mod:`.patches`.
"""

import functools
from typing import Any

from .plugin import one_line_errors

__all__ = ["UnknownShape", "need", "note_output", "parameters", "required", "running", "with_parser"]

# State of the running command, for fits deep inside of it: "options" (FitOptions), "args", then "arguments" of the
# first fit and "volume", the collector of maps; "folder" is the one that the command makes for its output; "dynamic" is
# the method of a dynamic fit; "restore" undoes an exchange of a part of FSL-MRS.
running: dict = {}


class UnknownShape(Exception):
    """The module has another shape than in any supported FSL-MRS."""


def need(condition, missing: str) -> None:
    """Raise UnknownShape unless a condition holds; ``missing`` is what the module lacks."""
    if not condition:
        raise UnknownShape(missing)


def required(module, name: str, is_expected, missing: str):
    """Return a part of a module; raise UnknownShape unless ``is_expected(part)``, of None where there is none."""
    part = getattr(module, name, None)
    need(is_expected(part), missing)
    return part


def parameters(function) -> list[str]:
    """Return the names of a plain function's parameters without ``inspect``, which would slow every command's help."""
    code = getattr(function, "__code__", None)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code else ["?"]


def with_parser(module, before_parsing, after_parsing=None, afterwards=None) -> None:
    """Let the module's ``main`` build its parser from a class that calls back around ``parse_args``.

    ``before_parsing(parser, words)`` adds arguments and returns the words to parse, None for the command line's;
    ``after_parsing(parser, parsed)`` gets the parsed arguments; ``afterwards()`` is called after a run without error.
    """
    original = required(module, "main", lambda one: callable(one) and not parameters(one), "no function main()")
    library = getattr(module, "configargparse", None)
    # A class of the module's own library, whatever that is.
    base: Any = required(library, "ArgParser", _is_parser, "no configargparse.ArgParser")

    class Parser(base):
        def add_subparsers(self, *args, **kwargs):
            self.dl_subparsers = super().add_subparsers(*args, **kwargs)
            return self.dl_subparsers

        def parse_args(self, args=None, *more, **kwargs):
            parsed = super().parse_args(before_parsing(self, args), *more, **kwargs)
            if after_parsing is not None:
                after_parsing(self, parsed)
            return parsed

    class Library:
        """The parser library with its parser class exchanged."""

        ArgParser = Parser

        def __getattr__(self, name):
            return getattr(library, name)

    @functools.wraps(original)
    def main():
        module.configargparse = Library()
        try:
            with one_line_errors(module.__name__.rpartition(".")[2]):
                out = original()
                if afterwards is not None:
                    afterwards()
                return out
        except SystemExit:
            remove_unfinished()
            raise
        finally:
            module.configargparse = library
            restore()
            running.clear()

    module.main = main


def _is_parser(cls) -> bool:
    return isinstance(cls, type) and hasattr(cls, "parse_args") and hasattr(cls, "add_subparsers")


def restore() -> None:
    """Undo the exchange of a part of FSL-MRS that a command made."""
    if "restore" in running:
        running["restore"]()


def note_output(args) -> None:
    """Note that FSL-MRS will make the output folder of a command of ours, which it does before it reads the input."""
    import os

    output = getattr(args, "output", None)
    running["folder"] = str(output) if output and not os.path.lexists(output) else None


def remove_unfinished() -> None:
    """Remove the output folder that FSL-MRS made for a command which then ended with an error, if there is no result in
    it."""
    import os
    import shutil

    folder = running.get("folder")
    if folder is None or not os.path.isdir(folder):
        return
    # FSL-MRS puts its options and links to the input there first.
    if all(name == "options.txt" or os.path.islink(os.path.join(folder, name)) for name in os.listdir(folder)):
        shutil.rmtree(folder)
