"""Alignment in place of FSL-MRS's own within ``fsl_mrs_preproc``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..preproc.align import align_image
from ..preproc.options import AlignOptions
from ..results.reports.alignment import write_reports
from ..results.reports.alignment_table import summary_line

__all__ = ["aligner"]

_USUAL_LIMITS = (0.2, 4.2)


def aligner(limits: tuple[float, float], output: str | Path | None = None) -> Callable:
    """Return a function with the parameters of ``fsl_mrs.utils.preproc.nifti_mrs_proc.align``.

    Parameters
    ----------
    limits : (float, float)
        Window of ``--align_limits``; FSL-MRS's usual one leaves the choice to the data, so that water references are
        aligned on their water.
    output : path, optional
        Folder that reports are written to.
    """
    count = 0

    def align(data, dim, window=None, target=None, ppmlim=None, report=None, **_):
        nonlocal count
        # Only the data are aligned in the command's window, water references in the one of water.
        window_given = ppmlim is not None and tuple(ppmlim) == limits != _USUAL_LIMITS
        options = AlignOptions(dim=dim, ppmlim=limits if window_given else None, moving_window=window)
        out, aligned = align_image(data, options, reference=target, command="fsl_mrs_preproc --dl-align")
        print(summary_line(aligned))
        if output is not None and report is not None:
            count += 1
            write_reports(output, aligned, table=Path(output) / f"dl_align_{count}.csv")
        return out

    return align
