"""The table of an alignment, and its summary in words."""

from __future__ import annotations

import numpy as np

from ...preproc.align import AlignedData
from ...preproc.conditions import Conditions
from ...preproc.editing import SubspectraMatch
from ...preproc.frequency_referencing import REFERENCE_LINES
from .page import list_numbers

__all__ = ["alignment_table", "edit_partner", "notes", "summary_line"]


def notes(aligned: AlignedData, index: int | None = None) -> str:
    """Return the steps beyond the alignment of transients to each other, in sentences; of one set, or of all."""
    sentences = []
    if index is not None:
        axes = {name: size for name, size in aligned.set_axes.items() if size > 1}
        if axes:
            place = np.unravel_index(index, tuple(aligned.set_axes.values()))
            numbers = [f"{name} {place[k]}" for k, name in enumerate(aligned.set_axes) if name in axes]
            sentences.append(f"Shown: {', '.join(numbers)} (counted from 0).")
        sentences.append(f"Method: {aligned.method}.")
    if aligned.backwards:
        sentences.append("The frequency axis runs backwards: the complex conjugate was aligned, and written as it was.")
    if aligned.options.edit_order:
        sentences.append(_declared_note(aligned, aligned.options.edit_order))
    sentences.extend(_coherence_notes(aligned, index))
    if not aligned.options.refine:
        sentences.append("Estimates of the network, not refined: errors are not known.")
    if aligned.options.moving_window:
        sentences.append(f"Compared with about {aligned.options.moving_window} neighbours in time.")
    if aligned.subspectra is not None:
        sentences.append(_subspectra_note(aligned.subspectra))
    if aligned.offset is not None:
        offsets = aligned.offset if index is None else [aligned.offset[index]]
        referenced = [offset for offset in offsets if offset.has_lines]
        n_without = len(offsets) - len(referenced)
        single = "," not in REFERENCE_LINES[aligned.data.nucleus]["names"]
        places = "its place" if single else "their places"
        named = REFERENCE_LINES[aligned.data.nucleus]["names"]
        named = f"{named[0].upper()}{named[1:]}"
        if referenced:
            shift = [offset.shift_hz for offset in referenced]
            where = f"{shift[0]:+.2f}" if max(shift) - min(shift) < 0.005 else f"{min(shift):+.2f} to {max(shift):+.2f}"
            sentences.append(f"{named} lay {where} Hz from {places} and {'was' if single else 'were'} put there.")
            if aligned.fids.shape[1] > 1:
                sentences.append("Phases were not changed: coils that are not combined have a phase each.")
        if n_without:
            where = "" if index is not None or not referenced else f" in {n_without} of {len(offsets)} sets"
            sentences.append(
                f"{named} {'was' if single else 'were'} not found{where}; the mean frequency was not changed."
            )
    if aligned.options.average:
        sentences.append("Averaged with weights from noise, without outliers.")
    if aligned.rejected:
        sentences.append(f"Left out: {list_numbers([one + 1 for one in aligned.rejected])} (counted from 1).")
    return " ".join(sentences)


def _declared_note(aligned: AlignedData, order: str) -> str:
    """Return the order of conditions that was declared, and the dimensions that it made."""
    options = aligned.options
    held = Conditions(order, share=float("nan"))
    lengths = aligned.set_axes | aligned.transient_axes
    now = " and ".join(f"{name} ({lengths[name]})" for name in (options.dim, options.edit_dim or "DIM_EDIT"))
    return f"{options.dim} held {held}, as declared (--edit-order {order}): it is divided into {now}."


def _subspectra_note(match: SubspectraMatch) -> str:
    """Return how sub-spectra were moved towards each other, and the uncertainty of their difference."""
    shift, phase = (x[np.newaxis] if x.ndim == 1 else x for x in match[:2])
    shift_sd, phase_sd = match.largest_sd
    if np.isnan(shift_sd):
        return "Sub-spectra could not be matched to each other and were not moved towards each other."
    apart = f"{shift_sd:.2g} Hz and {phase_sd:.2g} degrees"
    if not ((shift != 0).any() or (phase != 0).any()):
        return (
            f"Sub-spectra lie together already (within {apart}, one standard deviation) and were not moved towards each"
            " other."
        )
    most = np.unravel_index(np.abs(shift - shift[:, :1]).argmax(), shift.shape)
    return (
        f"Sub-spectra were moved towards each other by up to {abs(shift[most] - shift[most[0], 0]):.2f} Hz and"
        f" {np.abs(phase - phase[:, :1]).max():.1f} degrees and may still differ by {apart}"
        " (one standard deviation)."
    )


def _coherence_notes(aligned: AlignedData, index: int | None) -> list[str]:
    """Return what the signal is, the regions that were left out, the sets that were not changed, and the coherence."""
    sentences = []
    if aligned.on_water:
        assert aligned.options.ppmlim is not None  # the water's
        low, high = aligned.options.ppmlim
        sentences.append(f"The water is not suppressed and was aligned ({low:.1f} to {high:.1f} ppm).")
    left_out = aligned.all_left_out if index is None else "; ".join(map(str, aligned.left_out.get(index, ())))
    if left_out:
        sentences.append(f"Aligned without {left_out}, which is not of metabolites.")
    if aligned.conditions is not None:
        sentences.append(
            f"{aligned.options.dim} seems to hold {aligned.conditions}: they should not be averaged together."
            f" To align them as sub-spectra give --edit-order {aligned.conditions.order}."
        )
    unchanged = aligned.unchanged
    if index is None and unchanged.any():
        which = "Nothing" if unchanged.all() else f"{int(unchanged.sum())} of {len(unchanged)} sets: nothing"
        falls = [(one.before, one.after) for one in aligned.coherence if one.fallen]
        before, after = max(falls, key=lambda pair: np.nan_to_num(pair[0] - pair[1]))
        sentences.append(
            f"{which} was changed: aligned, the share of the signal's energy that survives averaging would have fallen"
            f" (from {before:.3f} to {after:.3f}). Is the signal in the window (--ppm)?"
        )
    if index is not None and aligned.coherence:
        one = aligned.coherence[index]
        if one.fallen:
            sentences.append("Nothing was changed: coherence would have fallen.")
    return sentences


def edit_partner(aligned: AlignedData, index: int) -> int | None:
    """Return the set of the other edit condition, for the first of two; None for any other set."""
    names, sizes = list(aligned.set_axes), list(aligned.set_axes.values())
    if aligned.subspectra is None or aligned.subspectra[0].shape[-1] != 2:
        return None
    edit = next((k for k, name in enumerate(names) if name == aligned.options.edit_dim), None)
    place = [int(number) for number in np.unravel_index(index, sizes)]
    if edit is None or place[edit] != 0:
        return None
    place[edit] = 1
    return int(np.ravel_multi_index(place, sizes))


def alignment_table(aligned: AlignedData) -> str:
    """Return comma-separated values: a row per transient, and a column for each dimension of more than one element."""
    axes = aligned.set_axes | aligned.transient_axes
    grid = np.indices(tuple(axes.values())).reshape(len(axes), -1)
    columns = {name: row.tolist() for (name, size), row in zip(axes.items(), grid) if size > 1}
    for name in ("shift_hz", "phase_deg", "shift_sd_hz", "phase_sd_deg", "flag", "reason", "similarity", "weight"):
        columns[name] = getattr(aligned.alignment, name).reshape(-1).tolist()
    if aligned.coherence:
        n = aligned.alignment.flag.shape[-1]
        for name in ("before", "after"):
            shares = [round(getattr(one, name), 4) for one in aligned.coherence]
            columns[f"coherence_{name}"] = np.repeat(shares, n).tolist()
        columns["changed"] = np.repeat(["no" if one.fallen else "yes" for one in aligned.coherence], n).tolist()
    if aligned.subspectra_sd is not None:
        for name, values in zip(("shift_sd_hz", "phase_sd_deg"), aligned.subspectra_sd):
            columns[f"subspectra_{name}"] = np.repeat(values, aligned.alignment.flag.shape[-1]).tolist()
    # Unknown is empty, as pandas writes it.  Loading pandas for this would take as long as aligning a thousand
    # transients.
    cell = lambda value: "" if isinstance(value, float) and value != value else str(value)  # noqa: E731
    rows = [",".join(columns), *(",".join(map(cell, row)) for row in zip(*columns.values()))]
    return "\n".join(rows) + "\n"


def summary_line(aligned: AlignedData) -> str:
    """Return the shifts and phases, the method and its notes in one line for the terminal."""
    alignment = aligned.alignment
    flags = alignment.flag.reshape(-1)
    sure = flags != "failed"
    usual = np.isin(flags, ("ok", "weak"))
    usual = usual if usual.any() else sure
    shift, phase = alignment.shift_hz.reshape(-1)[usual], alignment.phase_deg.reshape(-1)[usual]
    what = "voxels" if set(aligned.transient_axes) & {"x", "y", "z"} else "transients"
    odd = [f"{int((flags == flag).sum())} {flag}" for flag in ("weak", "outlier", "failed") if (flags == flag).any()]
    reasons, counts = np.unique(alignment.reason[alignment.flag == "outlier"], return_counts=True)
    why = ", ".join(f"{reason} {count}" for reason, count in zip(reasons, counts))
    odd = [f"{one} ({why})" if "outlier" in one else one for one in odd]
    return (
        f"Aligned {int(sure.sum())} of {flags.size} {what}: shifts {shift.min():+.2f} to {shift.max():+.2f} Hz, "
        f"phases {phase.min():+.1f} to {phase.max():+.1f} deg"
        + (f"; flagged: {', '.join(odd)}" if odd else "")
        + f"; method: {aligned.method}."
        + (
            " Most are too weak to be found by themselves: is there signal in the window (--ppm)?"
            if (flags == "weak").mean() > 0.5 and not aligned.unchanged.any()
            else ""
        )
        + (f" {more}" if (more := notes(aligned)) else "")
    )
