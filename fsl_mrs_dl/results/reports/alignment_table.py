"""The table of an alignment, and what it says in words."""

from __future__ import annotations

import numpy as np

from ...preproc.absolute import REFERENCE_LINES
from ...preproc.align import AlignedData
from .page import list_numbers

__all__ = ["alignment_table", "summary_line"]


def notes(aligned: AlignedData, index: int | None = None) -> str:
    """What was done beyond the alignment of transients to each other, in sentences; of one set, or of all."""
    said = []
    if index is not None:
        axes = {name: size for name, size in aligned.set_axes.items() if size > 1}
        if axes:
            place = np.unravel_index(index, tuple(aligned.set_axes.values()))
            where = [f"{name} {place[k]}" for k, name in enumerate(aligned.set_axes) if name in axes]
            said.append(f"Shown: {', '.join(where)} (counted from 0).")
        said.append(f"Method: {aligned.method}.")
    if not aligned.options.refine:
        said.append("The network's own answer, not refined: errors are not known.")
    if aligned.options.moving_window:
        said.append(f"Compared with about {aligned.options.moving_window} neighbours in time.")
    if aligned.subspectra is not None:
        shift, phase = (x[np.newaxis] if x.ndim == 1 else x for x in aligned.subspectra)
        if (shift != 0).any():
            most = np.unravel_index(np.abs(shift - shift[:, :1]).argmax(), shift.shape)
            said.append(
                f"Sub-spectra were moved towards each other by up to {abs(shift[most] - shift[most[0], 0]):.2f} Hz and "
                f"{np.abs(phase - phase[:, :1]).max():.1f} degrees."
            )
        else:
            said.append("Sub-spectra lie together already and were not moved towards each other.")
    if aligned.offset is not None:
        found = [one for one in (aligned.offset if index is None else [aligned.offset[index]]) if one.found]
        lost = len(aligned.offset if index is None else [0]) - len(found)
        single = "," not in REFERENCE_LINES[aligned.data.nucleus]["names"]
        places = "its place" if single else "their places"
        named = REFERENCE_LINES[aligned.data.nucleus]["names"]
        named = f"{named[0].upper()}{named[1:]}"
        if found:
            shift = [one.shift_hz for one in found]
            where = f"{shift[0]:+.2f}" if max(shift) - min(shift) < 0.005 else f"{min(shift):+.2f} to {max(shift):+.2f}"
            said.append(f"{named} lay {where} Hz from {places} and {'was' if single else 'were'} put there.")
            if aligned.fids.shape[1] > 1:
                said.append("Phases were left alone: coils that are not combined have a phase each.")
        if lost:
            where = "" if index is not None or not found else f" in {lost} of {len(aligned.offset)} sets"
            said.append(f"{named} {'was' if single else 'were'} not found{where}, left where the mean was.")
    if aligned.rejected:
        said.append(f"Left out: {list_numbers([one + 1 for one in aligned.rejected])} (counted from 1).")
    return " ".join(said)


def edit_partner(aligned: AlignedData, index: int) -> int | None:
    """The set of the other edit condition where there are two, for the first of them."""
    names, sizes = list(aligned.set_axes), list(aligned.set_axes.values())
    if aligned.subspectra is None or aligned.subspectra[0].shape[-1] != 2:
        return None
    edit = next((k for k, name in enumerate(names) if name == aligned.options.edit_dim), None)
    place = list(np.unravel_index(index, sizes))
    if edit is None or place[edit] != 0:
        return None
    place[edit] = 1
    return int(np.ravel_multi_index(place, sizes))


def alignment_table(aligned: AlignedData) -> str:
    """Comma-separated values with one row per transient, and a column for each dimension that has more than one
    element."""
    axes = aligned.set_axes | aligned.transient_axes
    grid = np.indices(tuple(axes.values())).reshape(len(axes), -1)
    columns = {name: row.tolist() for (name, size), row in zip(axes.items(), grid) if size > 1}
    for name in ("shift_hz", "phase_deg", "shift_sd_hz", "phase_sd_deg", "flag", "similarity", "weight"):
        columns[name] = getattr(aligned.alignment, name).reshape(-1).tolist()
    # Unknown is empty, as pandas writes it.  Loading pandas for this would take as long as aligning a thousand
    # transients.
    cell = lambda value: "" if isinstance(value, float) and value != value else str(value)  # noqa: E731
    rows = [",".join(columns), *(",".join(map(cell, row)) for row in zip(*columns.values()))]
    return "\n".join(rows) + "\n"


def summary_line(aligned: AlignedData) -> str:
    """What was found, and from what start, in one line for the terminal."""
    alignment = aligned.alignment
    flags = alignment.flag.reshape(-1)
    sure = flags != "failed"
    usual = np.isin(flags, ("ok", "weak"))
    usual = usual if usual.any() else sure
    shift, phase = alignment.shift_hz.reshape(-1)[usual], alignment.phase_deg.reshape(-1)[usual]
    what = "voxels" if set(aligned.transient_axes) & {"x", "y", "z"} else "transients"
    odd = [f"{int((flags == flag).sum())} {flag}" for flag in ("weak", "outlier", "failed") if (flags == flag).any()]
    return (
        f"Aligned {int(sure.sum())} of {flags.size} {what}: shifts {shift.min():+.2f} to {shift.max():+.2f} Hz, "
        f"phases {phase.min():+.1f} to {phase.max():+.1f} deg"
        + (f"; flagged: {', '.join(odd)}" if odd else "")
        + f"; method: {aligned.method}."
        + (
            " Most are too weak to be found by themselves: is there signal in the window (--ppm)?"
            if (flags == "weak").mean() > 0.5
            else ""
        )
        + (f" {more}" if (more := notes(aligned)) else "")
    )
