"""What the patches of FSL-MRS's modules share: the state of the running command, and a parser that calls back.

Standard library only, as in :mod:`.patches`.
"""

import functools

from .plugin import one_line_errors

__all__ = ["UnknownShape", "need", "note_output", "parameters", "running", "with_parser"]

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


def parameters(function) -> list[str]:
    """Return the names of a plain function's parameters without ``inspect``, which would slow every command's help."""
    code = getattr(function, "__code__", None)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code else ["?"]


def with_parser(module, before_parsing, after_parsing=None, afterwards=None) -> None:
    """Let the module's ``main`` build its parser from a class that calls back around ``parse_args``.

    ``before_parsing(parser, words)`` adds arguments and returns the words to parse, None for the command line's;
    ``after_parsing(parser, parsed)`` gets the parsed arguments; ``afterwards()`` is called after a run without error.
    """
    original, library = getattr(module, "main", None), getattr(module, "configargparse", None)
    need(callable(original) and not parameters(original), "no function main()")
    base = getattr(library, "ArgParser", None)
    need(
        isinstance(base, type) and hasattr(base, "parse_args") and hasattr(base, "add_subparsers"),
        "no configargparse.ArgParser",
    )

    class ArgParser(base):
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

        def __getattr__(self, name):
            return getattr(library, name)

    Library.ArgParser = ArgParser

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
