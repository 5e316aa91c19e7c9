"""Simulated basis sets of edited acquisitions: MEGA-PRESS, MEGA-sLASER, HERMES and HERCULES."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core import units
from ..core.editing import editing_pulses, usual_echo_time_ms
from ..io.basis import Basis
from ..io.edited_basis import EditedBasis, removed_kept
from ..physics import spinsim
from .acquisition import EXAMPLE_METABOLITES

__all__ = ["simulate_edited_basis"]


def simulate_edited_basis(
    names: list[str] | None = None,
    scheme: str = "mega-press",
    *,
    te_ms: float | None = None,
    te1_ms: float | None = None,
    field_t: float = 3.0,
    spec_freq_mhz: float | None = None,
    bandwidth_hz: float = 2000.0,
    n_points: int = 2048,
    fwhm_hz: float = 2.0,
    edit_pulse: str = "sinc-gaussian",
    edit_duration_ms: float | None = None,
    edit_bandwidth_hz: float | None = None,
    edit_ppm: Sequence[float] | None = None,
    edit_delay_ms: float | None = None,
    refocusing: str | None = None,
) -> EditedBasis:
    """Simulate the basis sets of all edit conditions with density matrices.

    Parameters
    ----------
    names : list of str, optional
        Metabolites; twenty of the brain by default.
    scheme : {'mega-press', 'mega-slaser', 'hermes', 'hercules'}
    te_ms : float, optional
        Echo time in ms; by default 68 for MEGA, 80 for HERMES and HERCULES.
    te1_ms, bandwidth_hz, n_points, fwhm_hz, edit_delay_ms, refocusing
        As of :func:`fsl_mrs_dl.physics.spinsim.simulate_basis`.
    field_t, spec_freq_mhz : float
        Field in tesla, or the spectrometer frequency in MHz instead of it.
    edit_pulse : {'sinc-gaussian', 'ideal'}
        Editing pulses with a waveform, during which spins evolve, or instantaneous ones.
    edit_duration_ms, edit_bandwidth_hz : float, optional
        Those of the pulses, see :class:`fsl_mrs_dl.core.editing.EditingPulse`; by default 15 ms (82 Hz), of HERMES and
        HERCULES 20 ms (62 Hz), and 80 Hz for ideal pulses.
    edit_ppm : sequence of float, optional
        Centre of the pulses of ON, and of OFF, for MEGA; 1.9 and 7.5 ppm by default.

    Raises
    ------
    OptionError
        Impossible option.
    BasisError
        Unknown metabolite.
    """
    pulses = editing_pulses(
        scheme,
        shape=edit_pulse,
        duration_ms=edit_duration_ms,
        bandwidth_hz=edit_bandwidth_hz,
        centres_ppm=edit_ppm,
    )
    te_ms = usual_echo_time_ms(scheme) if te_ms is None else te_ms
    frequency = spec_freq_mhz or field_t * units.nucleus("1H").gamma_mhz_per_t
    names = names or EXAMPLE_METABOLITES
    timing: dict[str, Any] = {
        "te_ms": te_ms,
        "te1_ms": te1_ms,
        "edit_delay_ms": edit_delay_ms,
        "refocusing": refocusing,
    }
    grid: dict[str, Any] = {"bandwidth_hz": bandwidth_hz, "n_points": n_points, "fwhm_hz": fwhm_hz}
    on_grid = partial(spinsim.simulate_basis, names, scheme, spec_freq_mhz=frequency, **timing, **grid)
    simulated = [on_grid(edit=condition, edit_pulse=pulse) for condition, pulse in pulses.items()]
    sets = tuple(
        Basis(
            fids,
            simulated[0][1],
            1 / bandwidth_hz,
            frequency,
            widths_hz=(fwhm_hz,) * len(fids),
            source=f"the simulated basis set of {condition}",
            echo_time_s=1e-3 * te_ms,
        )
        for condition, fids in zip(pulses, removed_kept(np.array([fids for fids, _ in simulated])))
    )
    return EditedBasis(scheme, tuple(pulses), sets, tuple((pulse,) for pulse in pulses.values()))
