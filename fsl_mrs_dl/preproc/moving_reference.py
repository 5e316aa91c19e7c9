"""A moving-window reference: every transient is compared with its neighbours in time.

Over a long scan more drifts than frequency and phase: line widths with the shim, water suppression, the temperature of
a phantom.  A single reference then no longer matches any transient.  Once all transients have been aligned to it, each
is registered again, to the mean of those around it.  Those means are aligned already, so that nothing drifts away from
step to step; and a transient takes no part in its own reference: even ones are compared with odd ones, and the other
way round, or their own noise would hold them where they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.units import wrap_degrees
from ..registration.alignment import Alignment, align_transients
from .options import LEAST_WINDOW

__all__ = ["register_to_moving_window"]

_PROPOSAL_ERROR_HZ = 2.0  # that a second registration may move a transient by


def register_to_moving_window(
    fid: np.ndarray,
    alignment: Alignment,
    width: int,
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None,
    exclude: tuple[tuple[float, float], ...] = (),
    device=None,
) -> Alignment:
    """Register aligned transients again, each to the mean of its neighbours.

    Parameters
    ----------
    fid : complex array, shape (n_sets, n_channels, n_transients, n_points)
        The transients, in the order in which they were acquired.
    alignment : Alignment
        Of the same; shifts, phases, their SDs and similarities are renewed, amplitudes, weights and flags kept.
    width : int
        How many transients a reference is made of, about; at least 8.
    axes : Axes
    ppmlim, exclude, device
        As for :func:`fsl_mrs_dl.registration.alignment.align_transients`.

    Raises
    ------
    OptionError
        If ``width`` is less than 8.
    """
    if width < LEAST_WINDOW:
        raise OptionError(
            "a reference of so few transients is little but noise",
            option="moving_window",
            value=width,
            remedy=f"give {LEAST_WINDOW} or more",
        )
    fid = np.asarray(fid)
    n_sets, _, n, _ = fid.shape
    if n < 2 * width:
        return alignment  # the neighbours of one would be all of them
    blocks = _blocks(n, width)
    most = max(len(members) for members, _ in blocks)
    shape = (n_sets, len(blocks), most)
    part, shift, phase = _gather(fid, alignment, blocks, most)
    again = align_transients(
        part.reshape(-1, *part.shape[2:]),
        axes,
        reference=_references(fid, alignment, blocks).reshape(-1, *fid.shape[1::2]),
        proposal=(shift.reshape(-1, most), phase.reshape(-1, most)),
        proposal_error_hz=_PROPOSAL_ERROR_HZ,
        ppmlim=ppmlim,
        exclude=exclude,
        device=device,
    )
    failed = alignment.flag == "failed"
    new = {}
    for name in ("shift_hz", "phase_deg", "shift_sd_hz", "phase_sd_deg", "similarity"):
        old = getattr(alignment, name)
        new[name], values = old.copy(), getattr(again, name).reshape(shape)
        for j, (members, _) in enumerate(blocks):
            new[name][:, members] = values[:, j, : len(members)]
        new[name][failed] = old[failed]
    ok = alignment.flag == "ok"
    count = np.maximum(ok.sum(1, keepdims=True), 1)
    new["shift_hz"] -= np.where(failed, 0, (new["shift_hz"] * ok).sum(1, keepdims=True) / count)
    turn = np.rad2deg(np.angle((np.exp(1j * np.deg2rad(new["phase_deg"])) * ok).sum(1, keepdims=True)))
    new["phase_deg"] = np.where(failed, 0, wrap_degrees(new["phase_deg"] - turn))
    return replace(alignment, n_iterations=alignment.n_iterations + again.n_iterations, **new)


def _blocks(n: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return groups of transients that share a reference: their numbers, and the weights ``(n,)`` of all in it."""
    number, length = np.arange(n), width // 2
    blocks = []
    for first in range(0, n, length):
        centre = first + (min(length, n - first) - 1) / 2
        # Neighbours count less the farther away; the weights add up to those of about ``width`` transients.
        near = np.clip(1 - np.abs(number - centre) / width, 0, None)
        for parity in (0, 1):
            members = number[first : first + length]
            blocks.append((members[members % 2 == parity], near * (number % 2 != parity)))
    return blocks


def _gather(fid, alignment: Alignment, blocks, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return FIDs ``(n_sets, n_blocks, n_channels, most, n_points)``, shifts and phases ``(n_sets, n_blocks, most)``,
    zero where a block has fewer transients."""
    n_sets, n_channels, _, n_points = fid.shape
    part = np.zeros((n_sets, len(blocks), n_channels, most, n_points), dtype=fid.dtype)
    shift, phase = np.zeros((2, n_sets, len(blocks), most))
    for j, (members, _) in enumerate(blocks):
        part[:, j, :, : len(members)] = fid[:, :, members]
        shift[:, j, : len(members)] = alignment.shift_hz[:, members]
        phase[:, j, : len(members)] = alignment.phase_deg[:, members]
    return part, shift, phase


def _references(fid, alignment: Alignment, blocks) -> np.ndarray:
    """Return the reference of every block, ``(n_sets, n_blocks, n_channels, n_points)``."""
    n_sets, n_channels, _, n_points = fid.shape
    corrected = alignment.apply(np.where(np.isfinite(fid), fid, 0))
    usable = np.where(np.isin(alignment.flag, ("ok", "weak")), alignment.weight, 0.0)
    reference = np.zeros((n_sets, len(blocks), n_channels, n_points), dtype=np.complex128)
    for j, (_, near) in enumerate(blocks):
        share = usable * near
        total = share.sum(1, keepdims=True)
        share = np.where(total > 0, share / np.where(total > 0, total, 1), 0)
        reference[:, j] = np.einsum("sctn,st->scn", corrected, share)
        empty = total[:, 0] == 0
        reference[empty, j] = alignment.reference[empty]
    return reference
