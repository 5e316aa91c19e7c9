"""The one family of errors a user is meant to read.

A message is a single line that names what is wrong, its value and the remedy.  Library code raises it with the plain
names of options (``estimate``), and each program spells them in its own way when it prints the error: the
command line prints ``--estimate``, FSL-MRS ``--dl-estimate``, Python the keyword.  The command line ends with status 2;
anything that is *not* one of these is a fault of this package and shows its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = [
    "FslMrsDlError",
    "DataError",
    "BasisError",
    "OptionError",
    "OutputError",
    "nearest",
    "spelled",
    "spelling_of",
]


class FslMrsDlError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, without a full stop at its end where a remedy follows.  Options that it mentions stand in
        backticks: "goes with `model` voigt only".
    option : str, optional
        Option that is at fault, by its keyword in Python.
    value : optional
        Its value, where that helps.
    remedy : str, optional
        What to do about it; options in backticks here, too.
    """

    def __init__(self, problem: str, *, option: str | None = None, value=None, remedy: str | None = None):
        super().__init__(problem)
        self.problem, self.option, self.value, self.remedy = problem, option, value, remedy

    def __reduce__(self):
        # Errors travel from worker processes; Exception keeps positional arguments only.
        return _restored, (type(self), self.problem, self.option, self.value, self.remedy)

    def text(self, spelling: Callable[[str], str] | None = None) -> str:
        """Return the line for a person; ``spelling`` turns the plain name of an option into that of a program.

        >>> OptionError("is no estimate", option="estimate", value="best", remedy="choose `estimate` ml").text()
        'estimate best: is no estimate; choose estimate ml.'
        >>> OptionError("is no estimate", option="estimate", value="best").text(lambda name: "--" + name)
        '--estimate best: is no estimate.'
        """
        spelling = spelling or str
        head = ""
        if self.option is not None:
            head = spelling(self.option) + ("" if self.value is None else f" {self.value}") + ": "
        body = self.problem if self.remedy is None else f"{self.problem}; {self.remedy}"
        # Texts of libraries, and values of a file, may have several lines.
        head, body = (re.sub(r"\s*[\r\n]+\s*", " ", part) for part in (head, spelled(body, spelling)))
        return head + body + ("." if (self.option or self.remedy) and body[-1:] not in ".!?" else "")

    def __str__(self) -> str:
        return self.text()


def spelled(text: str, spelling: Callable[[str], str]) -> str:
    """Return a text with the options that stand in backticks as a program spells them.

    >>> spelled("`baseline` belongs to it", lambda name: "--" + name)
    '--baseline belongs to it'
    """
    return re.sub(r"`(\w+)`", lambda match: spelling(match[1]), text)


def _restored(kind, problem, option, value, remedy) -> FslMrsDlError:
    return kind(problem, option=option, value=value, remedy=remedy)


def spelling_of(parser) -> Callable[[str], str]:
    """Return how a program with this argparse parser spells the options of errors, for :meth:`FslMrsDlError.text`.

    Options of its sub-commands count, too.

    >>> import argparse
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--no-refine", dest="refine", action="store_false")
    >>> spelling_of(parser)("refine")
    '--no-refine'
    """
    strings: dict[str, str] = {}
    parsers = [parser]
    for one in parsers:
        for action in one._actions:
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
            for string in action.option_strings:
                if string.startswith("--"):
                    strings.setdefault(action.dest, string)
    # Every command that takes a trained network takes it as --model.
    strings.setdefault("network", "--model")
    return lambda name: strings.get(name, f"--{name}")


_SIMILAR = 0.7  # two names of three letters that differ in one are not alike


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a question for the one of ``words`` that a misspelt one is nearest to; empty where none is near.

    >>> nearest("GABBA", ["GABA", "Glu"]), nearest("naa", ["NAA", "NAAG"]), nearest("Mac", ["Lac"])
    ('did you mean GABA? ', 'did you mean NAA? ', '')
    """
    import difflib

    by_letters = {one.lower(): one for one in words}
    near = difflib.get_close_matches(word.lower(), by_letters, 1, cutoff=_SIMILAR)
    return f"did you mean {by_letters[near[0]]}? " if near else ""


class DataError(FslMrsDlError):
    """A spectroscopy file or array cannot be used as it is."""


class BasisError(FslMrsDlError):
    """A basis set cannot be read, or does not fit the data."""


class OptionError(FslMrsDlError):
    """An option or argument has a value that makes no sense."""


class OutputError(FslMrsDlError):
    """Results cannot be written to the requested place."""
