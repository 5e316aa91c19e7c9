"""A reference that moves with the data: every transient is compared with its neighbours in time.

Over a long scan more drifts than frequency and phase: line widths with the shim, water suppression, the temperature of
a phantom.  One reference for the whole scan is then nobody's likeness.  Once all transients have been aligned to it,
each is registered again, to the mean of those around it.  Those means are aligned already, so that nothing drifts away
from step to step; and a transient takes no part in what it is compared with: even ones are compared with odd ones, and
the other way round, or their own noise would hold them where they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.errors import OptionError
from ..core.units import wrap_degrees
from ..registration.alignment import Alignment, align_transients

__all__ = ["follow"]

_LEAST_WIDTH = 8


def follow(fid, alignment: Alignment, width: int, **axes) -> Alignment:
    """Register aligned transients again, each to the mean of its neighbours.

    Parameters
    ----------
    fid : complex array ``(n_sets, n_channels, n_transients, n_points)``
        What was aligned, in the order in which it was acquired.
    alignment : Alignment
        Of the same; shifts, phases, their SDs and similarities are renewed, amplitudes, weights and flags kept.
    width : int
        How many transients a reference is made of, about; at least 8.
    axes
        ``dwelltime``, ``spec_freq_mhz``, ``nucleus``, ``ppmlim``, ``device`` as
        :func:`fsl_mrs_dl.registration.solver.align_transients` takes them.

    Raises
    ------
    OptionError
        If ``width`` is less than 8.
    """
    if width < _LEAST_WIDTH:
        raise OptionError(
            f"--moving {width}: a reference of so few transients is little but noise; give {_LEAST_WIDTH} or more."
        )
    fid = np.asarray(fid)
    n_sets, n_channels, n, n_points = fid.shape
    if n < 2 * width:
        return alignment  # the neighbours of one would be all of them
    block = width // 2
    corrected = alignment.apply(np.where(np.isfinite(fid), fid, 0))
    usable = np.where(np.isin(alignment.flag, ("ok", "weak")), alignment.weight, 0.0)
    number = np.arange(n)
    jobs = []
    for first in range(0, n, block):
        centre = first + (min(block, n - first) - 1) / 2
        # Neighbours count less the farther away; the weights add up to those of about ``width`` transients.
        near = np.clip(1 - np.abs(number - centre) / width, 0, None)
        for parity in (0, 1):
            members = number[first : first + block]
            jobs.append((members[members % 2 == parity], near * (number % 2 != parity)))
    most = max(len(members) for members, _ in jobs)
    part = np.zeros((n_sets, len(jobs), n_channels, most, n_points), dtype=fid.dtype)
    shift, phase = np.zeros((2, n_sets, len(jobs), most))
    reference = np.zeros((n_sets, len(jobs), n_channels, n_points), dtype=np.complex128)
    for j, (members, near) in enumerate(jobs):
        part[:, j, :, : len(members)] = fid[:, :, members]
        shift[:, j, : len(members)], phase[:, j, : len(members)] = (
            alignment.shift_hz[:, members],
            alignment.phase_deg[:, members],
        )
        share = usable * near
        total = share.sum(1, keepdims=True)
        share = np.where(total > 0, share / np.where(total > 0, total, 1), 0)
        reference[:, j] = np.einsum("sctn,st->scn", corrected, share)
        empty = total[:, 0] == 0
        reference[empty, j] = alignment.reference[empty]
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    again = align_transients(
        flat(part),
        reference=flat(reference),
        starter=(flat(shift), flat(phase)),
        starter_error_hz=2.0,
        **axes,
    )
    new = {
        name: getattr(alignment, name).copy()
        for name in ("shift_hz", "phase_deg", "shift_sd_hz", "phase_sd_deg", "similarity")
    }
    for name, value in new.items():
        found = getattr(again, name).reshape(n_sets, len(jobs), most)
        for j, (members, _) in enumerate(jobs):
            value[:, members] = found[:, j, : len(members)]
    kept = alignment.flag == "failed"
    for name, value in new.items():
        value[kept] = getattr(alignment, name)[kept]
    ok = alignment.flag == "ok"
    count = np.maximum(ok.sum(1, keepdims=True), 1)
    new["shift_hz"] -= np.where(kept, 0, (new["shift_hz"] * ok).sum(1, keepdims=True) / count)
    turn = np.rad2deg(np.angle((np.exp(1j * np.deg2rad(new["phase_deg"])) * ok).sum(1, keepdims=True)))
    new["phase_deg"] = np.where(kept, 0, wrap_degrees(new["phase_deg"] - turn))
    return replace(alignment, n_iterations=alignment.n_iterations + again.n_iterations, **new)
