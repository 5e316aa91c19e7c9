"""The launchers ``fsl_mrs`` and ``fsl_mrs_proc`` where FSL-MRS is absent: the jobs of this package under FSL-MRS's
names."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from .. import __version__
from ..fslmrs.plugin import STEPS, DlQuant

__all__ = ["fsl_mrs", "fsl_mrs_proc"]

HOW_TO_GET = (
    "FSL-MRS comes with FSL 6.0.6 and later, or alone through conda: see https://open.win.ox.ac.uk/pages/fsl/fsl_mrs/."
    " Once it is there, 'fsl_mrs_dl launchers remove' makes way for its own launchers."
)


def _theirs(name: str):
    """Return FSL-MRS's own command of that name, if FSL-MRS has been installed since; None otherwise."""
    # Before anything here loads configargparse: FSL-MRS has a copy of its own, and each of the two replaces a method of
    # argparse under the same name, so that together they call themselves without end.
    if importlib.util.find_spec("fsl_mrs") is None:
        return None
    return importlib.import_module(f"fsl_mrs.scripts.{name}").main


def _refuse(command: str, job: str) -> int:
    """Print that a job needs FSL-MRS, and return status 2."""
    print(f"{command}: error: {job} needs FSL-MRS, which is not installed here. {HOW_TO_GET}", file=sys.stderr)
    return 2


def fsl_mrs_proc(argv: list[str] | None = None) -> int:
    """Run ``fsl_mrs_proc dl-align`` as ``fsl_mrs_dl align``, and ``dl-denoise`` alike; refuse all other steps."""
    theirs = _theirs("fsl_mrs_proc")
    if theirs:
        return theirs()
    from .main import main

    words = sys.argv[1:] if argv is None else list(argv)
    # FSL-MRS takes --config before the step.
    before: list[str] = []
    while words and words[0].partition("=")[0] == "--config" and len(words) > 1:
        n = 1 if "=" in words[0] else 2
        before, words = [*before, *words[:n]], words[n:]
    if words and words[0] in (step.name for step in STEPS):
        return main([words[0].removeprefix("dl-"), *words[1:], *before], prog=f"fsl_mrs_proc {words[0]}")
    if words and words[0] in ("-v", "--version"):
        print(f"FSL-MRS-DL {__version__}, standing in for FSL-MRS")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: fsl_mrs_proc dl-align --file FILE --output DIR [options]; 'fsl_mrs_proc dl-align --help' lists"
            " them.\n       fsl_mrs_proc dl-denoise --file FILE --model NAME --output DIR [options]\nThis launcher of"
            f" FSL-MRS-DL stands in for FSL-MRS's, whose other steps it does not have. {HOW_TO_GET}"
        )
        return 0
    return _refuse("fsl_mrs_proc", f"the step '{words[0]}'")


def fsl_mrs(argv: list[str] | None = None) -> int:
    """Run ``fsl_mrs --algo dlquant`` as ``fsl_mrs_dl fit``; refuse all other algorithms."""
    theirs = _theirs("fsl_mrs")
    if theirs:
        return theirs()
    from .main import main

    words = sys.argv[1:] if argv is None else list(argv)
    if set(words) & {"-v", "--version"}:
        print(f"FSL-MRS-DL {__version__}, standing in for FSL-MRS")
        return 0
    if not words or set(words) & {"-h", "--help"}:
        print(
            "usage: fsl_mrs --algo dlquant --data FILE --basis PATH --output DIR [options]; 'fsl_mrs_dl fit --help'"
            " lists them.\nThis launcher of FSL-MRS-DL stands in for FSL-MRS's, whose other algorithms it does not"
            f" have. {HOW_TO_GET}"
        )
        return 0
    # The same words have the same meaning as where FSL-MRS is: its own spectral model, unless they choose another.
    defaults = {"algo": "Newton", "spectral_model": "fsl-mrs", "advice": f" {HOW_TO_GET}"}
    return main(["fit", *words], prog="fsl_mrs", spelling=DlQuant.spelling, **defaults)
