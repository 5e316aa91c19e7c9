"""Errors that name their option within the text, given the fields of :class:`fsl_mrs_dl.core.errors.FslMrsDlError`."""

from __future__ import annotations

import re

from ..core.errors import OptionError

__all__ = ["NamedErrors"]

# 'starter oracle: ...' and '--device: ...', but not "model 'x': ...", which is the signal model.
_HEAD = re.compile(
    r"(?:--)?(starter|model|estimate|prior|device|ind_scale|ppmlim)(?: ([^\s'\"]\S*))?: (.*?)\.?", re.DOTALL
)


class NamedErrors:
    """Context in which an error that names its option within the text gets the field for it.

    Parameters
    ----------
    **names : str
        Options that are called otherwise outside, old name to new one.
    """

    def __init__(self, **names: str):
        self.names = names

    def __enter__(self):
        return self

    def __exit__(self, kind, exc, traceback):
        if not isinstance(exc, OptionError):
            return
        match = _HEAD.fullmatch(exc.problem) if exc.option is None else None
        if match:
            option, value, problem = match.groups()
            problem = re.sub(r"--(\w+)", lambda found: f"`{self.names.get(found[1], found[1])}`", problem)
            raise OptionError(problem, option=self.names.get(option, option), value=value) from None
        if exc.option in self.names:
            option = self.names[exc.option]
            raise OptionError(exc.problem, option=option, value=exc.value, remedy=exc.remedy) from None
