"""Everything that is settled before the first spectrum of a study is fitted: the places of lines that its basis set
lacks, the use of its water reference, its window and its priors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ...core.axes import Axes
from ...core.basis_reference import reference_offset_ppm
from ...core.noise import noise_outside
from ...core.units import fid_to_spec
from ...physics.nuisance import NuisanceSpace
from ..artefacts import phase_beyond_shift
from .fit import Acquisition, learnt, log_evidence, prepare
from .prepared import PreparedModel
from .solver import Minimum
from .water_reference import WATER_USES, WaterReference, WaterUse

__all__ = ["COMPARED_SPECTRA", "settled"]

COMPARED_SPECTRA = 8
"""Spectra of a file, at most, that models are compared on."""
_DECISIVE = 3.0  # of the log evidence, for lines that stay where they are beside a basis set that is off its places
_MOST_OF_ONE = 20.0  # of the log evidence that one spectrum, perhaps with an artefact, decides by
_EARLY_S = 0.06  # time in which eddy currents turn lines
_NO_PHASE = 0.01  # rad, not worth a correction or a comparison
_SINGLETS_PPM = (1.9, 2.15), (2.9, 3.35)
_LOWER, _BY_CHANCE = 0.005, 1.5  # of their height: what singlets may lose, and of the noise that the phase turns


def settled(
    fids: np.ndarray,
    basis: np.ndarray,
    names: tuple[str, ...],
    axes: Axes,
    acquisition: Acquisition,
    *,
    reference: WaterReference | None = None,
    corrected_before: bool = False,
    nuisance: NuisanceSpace | None = None,
    device: str | torch.device = "cpu",
    max_iter: int = 40,
) -> tuple[PreparedModel, Minimum | None]:
    """Settle the model of a study.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        Spectra of the study, not corrected for eddy currents by the reference.
    basis : complex ndarray ``(n_metabs, n_points)``
    names : tuple of str
    axes : Axes
    acquisition : Acquisition
    reference : WaterReference, optional
        Of every spectrum.
    corrected_before : bool
        Eddy currents were corrected before, and are not corrected again.
    nuisance : NuisanceSpace, optional
        Signals that leak into the spectra.

    Returns
    -------
    PreparedModel
        With ``water_use`` and ``water_note`` where there is a reference.
    Minimum or None
        As :func:`.fit.learnt` returns it.

    Raises
    ------
    OptionError
    """

    some = fids[np.unique(np.linspace(0, len(fids) - 1, min(len(fids), COMPARED_SPECTRA)).round().astype(int))]

    def evidence(moved: bool) -> np.ndarray:
        choice = replace(acquisition, moved=moved)
        model = prepare(some, basis, names, axes, choice, nuisance=nuisance, device=device)
        return log_evidence(some, model, None, max_iter)[0]

    places_note = "" if acquisition.mm == "none" else _places(reference_offset_ppm(basis, names, axes), evidence)
    acquisition = replace(acquisition, moved=not places_note)

    def prepared_for(spectra: np.ndarray, use: WaterUse | None) -> PreparedModel:
        from_water = use is not None and use.line_shape
        made = prepare(
            spectra, basis, names, axes, acquisition, from_water=from_water, nuisance=nuisance, device=device
        )
        return replace(made, places_note=places_note)

    if reference is None:
        return learnt(prepared_for(fids, None), fids, acquisition, max_iter=max_iter)
    # Every use has the same window, that of the data as they are.
    models = {shape: prepared_for(fids, WaterUse(shape, False)) for shape in (True, False)}
    use, note = _best_use(fids, reference, models, corrected_before, max_iter)
    reference = reference.using(use)
    corrected = reference.corrected(fids)
    prepared = replace(prepared_for(corrected, use), water_use=use, water_note=note)
    return learnt(prepared, corrected, acquisition, reference, max_iter)


def _places(offset_ppm: float, evidence: Callable[[bool], np.ndarray]) -> str:
    """Return why macromolecules and lipids are at their places though the singlets of the basis set are not; nothing
    where they are as far off.

    They are as far off where all of a basis set is, so that they stay only where the evidence of some spectra is
    higher so: data exist, simulated ones above all, whose macromolecules stand at their places beside metabolites that
    do not.

    Parameters
    ----------
    offset_ppm : float
        How far off the singlets are.
    evidence : callable
        Whether the others are moved as far -> log evidence of some spectra.
    """
    if not offset_ppm:
        return ""
    gain = np.clip(evidence(False) - evidence(True), -_MOST_OF_ONE, _MOST_OF_ONE).sum()
    if not gain > _DECISIVE:
        return ""
    return (
        f"Macromolecules and lipids stand at their own chemical shifts, though the metabolites of the basis set lie"
        f" {abs(offset_ppm):.3f} ppm {'above' if offset_ppm > 0 else 'below'} theirs, because the log evidence is at"
        f" least {gain:.0f} higher so."
    )


def _best_use(
    fids: np.ndarray,
    reference: WaterReference,
    models: dict[bool, PreparedModel],
    corrected_before: bool,
    max_iter: int,
) -> tuple[WaterUse, str]:
    """Return the use of a water reference with the highest evidence, and a line that says which it is and why.

    It is one for the study: data are corrected or not, all of them.  Some spectra decide, the one whose water has the
    largest phase among them.
    """
    phase = _phase_sizes(reference)
    rows = np.argsort(phase, kind="stable")
    rows = rows[reference.usable[rows]]
    rows = np.sort(rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), COMPARED_SPECTRA)).round().astype(int))])
    some, water = fids[rows], reference.rows(rows)
    value, misfit = {}, {}
    without_phase = corrected_before or phase.max() < _NO_PHASE
    lower = not without_phase and _lowers_lines(some, water, phase[rows])
    for use in WATER_USES:
        if use.eddy_currents and (without_phase or lower):
            continue
        value[use], misfit[use] = log_evidence(some, models[use.line_shape], water.using(use), max_iter)
    nothing = WaterUse(False, False)
    most = _MOST_OF_ONE
    differences = {use: each - value[nothing] for use, each in value.items()}
    gain = {use: float(np.clip(each, -most, most).sum()) for use, each in differences.items()}
    limited = any((np.abs(each) > most).any() for each in differences.values())
    # Equal ones are decided by the order of WATER_USES.
    best = max(gain, key=lambda use: gain[use])
    medians = {use: float(np.median(each)) for use, each in misfit.items()}
    note = _note(best, gain, medians, corrected_before, "at least " if limited else "")
    if lower:
        note += (
            " The phase of water makes the lines of metabolites lower, and eddy currents were not corrected: they may"
            " have been corrected before, though the header does not say so, or the frequency axis of the reference"
            " runs the other way."
        )
    return best, note


def _lowers_lines(fids: np.ndarray, reference: WaterReference, phase: np.ndarray) -> bool:
    """Tell whether taking out the phases of water, of sizes ``phase`` (rad, ``(n,)``), makes singlets lower than noise
    does by chance, as that of a conjugated reference does.

    The evidence alone does not tell: lines that are broadened may be nearer to those of the model.
    """
    axes = reference.axes
    ppm = axes.ppm()
    near = [(ppm > low) & (ppm < high) for low, high in _SINGLETS_PPM]
    if not all(part.any() for part in near):
        return False
    before, after = fid_to_spec(fids), fid_to_spec(reference.corrected(fids))
    height, turned = (sum(np.abs(spectra[:, part]).max(1) for part in near) for spectra in (before, after))
    by_chance = np.maximum(_LOWER, _BY_CHANCE * phase * noise_outside(before, axes) / height)
    return bool(np.median(turned / height + by_chance) < 1)


def _phase_sizes(reference: WaterReference) -> np.ndarray:
    """Return by how much eddy currents turn each water line beyond a shift, rad ``(n,)``."""
    assert reference.phase is not None and reference.log_shape is not None
    time = reference.axes.dwelltime * np.arange(reference.axes.n_points)
    early = time < _EARLY_S
    signal = np.exp(2 * reference.log_shape[:, early] + 1j * reference.phase[:, early])
    return np.array([phase_beyond_shift(row, time[early]) for row in signal])


def _note(
    best: WaterUse, gain: dict[WaterUse, float], misfit: dict[WaterUse, float], corrected_before: bool, least: str
) -> str:
    """Return the use of a water reference in a line: what it is, and why it is no other; ``least`` stands before a
    difference of the log evidence that spectra were limited in."""
    most, nothing = next(iter(gain)), WaterUse(False, False)
    if best == nothing:
        text = (
            f"Water reference: nothing was taken from it. With its {most.words}"
            f" {_worse(misfit[most] / misfit[nothing], f'{least}{-gain[most]:.0f}')}"
        )
    else:
        verb = "were" if best.eddy_currents else "was"
        text = (
            f"Water reference: {best.words} {verb} taken from it. Without it"
            f" {_worse(misfit[nothing] / misfit[best], f'{least}{gain[best]:.0f}')}"
        )
        if best != most:
            text += f"; with {most.words} it would be {gain[best] - gain[most]:.0f} lower"
    if corrected_before:
        return f"{text}. Eddy currents were corrected before, as the header says, and not again."
    if not best.eddy_currents and most.eddy_currents:
        return f"{text}. Eddy currents may have been corrected before, though the header does not say so."
    return f"{text}."


def _worse(times: float, lower: str) -> str:
    """Return how much worse another use of the reference is; a residual that is not larger is left out."""
    if times < 1.005:
        return f"the log evidence would be {lower} lower"
    return f"the residual would be {times:.2f} times as large, and the log evidence {lower} lower"
