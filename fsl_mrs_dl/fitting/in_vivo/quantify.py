"""Quantification with the in-vivo model, on arrays and a basis set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.axes import Axes
from ...core.device import choose_device
from ...core.errors import DataError, OptionError
from ...core.fids import UNUSABLE, usable_fids
from ...core.metabolites import typical_concentrations
from ...core.parallel import one_thread
from ...io.basis import Basis
from ...physics.in_vivo_components import priors_table
from ...physics.nuisance import NuisanceSpace
from ..options import FitOptions
from ..rows import fid_scale_of, rows_to_fit
from .fit import Acquisition, fit_prepared
from .prepared import PreparedModel
from .ratios import ConcentrationPrior
from .result import InVivoFit
from .settle import settled
from .water_reference import WaterReference, water_reference

__all__ = [
    "acquisition_of",
    "concentration_prior_of",
    "fit_with_prepared",
    "is_in_vivo",
    "prepare_in_vivo",
    "quantify_in_vivo",
    "scaled_basis",
]


def is_in_vivo(basis: Basis) -> bool:
    """Tell whether a basis set is one of 1H spectra of the brain, which the priors are for."""
    return basis.nucleus == "1H" and typical_concentrations(list(basis.names)) is not None


@one_thread()
def quantify_in_vivo(
    fids: np.ndarray,
    basis: Basis,
    axes: Axes,
    options: FitOptions = FitOptions(spectral_model="in-vivo"),
    *,
    water: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> InVivoFit:
    """Fit every FID with the in-vivo model.

    Parameters
    ----------
    fids : complex ndarray ``(..., n_points)``
        In the in-memory sign convention; leading dimensions are flattened into rows.
    basis : Basis
        Chosen metabolites only.
    axes : Axes
        Of the data.
    options : FitOptions, optional
        Those of the in-vivo model count: ``ppmlim``, ``mm``, ``echo_time_s``, ``repetition_time_s``, ``rescale``,
        ``device``, ``init``, ``prior`` ('none' for one of concentrations that is flat), ``soft_constraints``.
    water : complex ndarray ``(..., n_points)``, optional
        Water reference of every FID, or one of all.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    rows, usable = rows_to_fit(fids)
    rows = rows.astype(complex)
    on_grid, basis_scale, acquisition = scaled_basis(basis, axes, options)
    fid_scale = fid_scale_of(rows[usable]) if options.rescale else 1.0
    scaled, reference = rows[usable] * fid_scale, None
    water = _water_rows(water, len(rows), axes, usable)
    if water is not None:
        reference = water_reference(water, axes)
    prepared, first_pass = settled(
        scaled,
        on_grid,
        basis.names,
        axes,
        acquisition,
        reference=reference,
        corrected_before=options.eddy_currents_corrected,
        device=choose_device(options.device),
        max_iter=options.most_steps_in_vivo,
    )
    prepared = replace(prepared, basis_scale=basis_scale)
    reference = _used(reference, prepared)
    fits = fit_prepared(
        scaled if reference is None else reference.corrected(scaled),
        prepared,
        reference=reference,
        max_iter=options.most_steps_in_vivo,
        starts=first_pass,
        progress=progress,
    )
    return InVivoFit.of(fits, prepared, usable, fid_scale)


@one_thread()
def prepare_in_vivo(
    fids: np.ndarray,
    basis: Basis,
    axes: Axes,
    options: FitOptions,
    *,
    water: np.ndarray | None = None,
    nuisance: NuisanceSpace | None = None,
    of_volume: bool = False,
) -> PreparedModel:
    """Settle what the fits of a study share: use of a water reference, window, and priors learnt from some of its
    spectra.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        Usable spectra of the study, scaled; at most 64 take part, or all of a volume.
    basis : Basis
        Chosen metabolites only.
    axes : Axes
        Of the data.
    options : FitOptions
        As for :func:`quantify_in_vivo`.
    water : complex ndarray ``(n, n_points)``, optional
        Water reference of every FID.
    nuisance : NuisanceSpace, optional
        Signals that leak into the spectra.
    of_volume : bool
        They are voxels of one volume, and the spread of the priors is learnt, too.

    Raises
    ------
    BasisError, OptionError
    """
    on_grid, basis_scale, acquisition = scaled_basis(basis, axes, options)
    prepared, _ = settled(
        fids,
        on_grid,
        basis.names,
        axes,
        replace(acquisition, population=of_volume),
        reference=None if water is None else water_reference(water, axes),
        corrected_before=options.eddy_currents_corrected,
        nuisance=nuisance,
        device=choose_device(options.device),
        max_iter=options.most_steps_in_vivo,
    )
    return replace(prepared, basis_scale=basis_scale).to("cpu").with_whole_baseline()


@one_thread()
def fit_with_prepared(
    fids: np.ndarray,
    prepared: PreparedModel,
    *,
    water: np.ndarray | None = None,
    fid_scale: float = 1.0,
    max_iter: int = 40,
    batch: int | None = None,
) -> InVivoFit:
    """Fit scaled FIDs with a prepared model; those of zeros or NaN become rows of NaN.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        Multiplied by ``fid_scale`` already.
    prepared : PreparedModel
    water : complex ndarray ``(n, n_points)``, optional
        Water reference of every FID, used as the model has settled.
    batch : int, optional
        Spectra that are fitted at once.
    """
    usable, reference = usable_fids(fids), None
    usable_rows = fids[usable]
    if water is not None:
        reference = _used(water_reference(water[usable], prepared.axes), prepared)
    if reference is not None:
        usable_rows = reference.corrected(usable_rows)
    fits = fit_prepared(usable_rows, prepared, reference=reference, max_iter=max_iter, batch=batch)
    return InVivoFit.of(fits, prepared, usable, fid_scale)


def _used(reference: WaterReference | None, prepared: PreparedModel) -> WaterReference | None:
    """Return a water reference with the properties that a model takes from it; None for none of them."""
    use = prepared.water_use
    if reference is None or use is None or not (use.line_shape or use.eddy_currents):
        return None
    return reference.using(use)


def scaled_basis(basis: Basis, axes: Axes, options: FitOptions) -> tuple[np.ndarray, np.ndarray, Acquisition]:
    """Return basis spectra on the data's time grid ``(n_metabs, n_points)``, their factors ``(n_metabs,)``, and the
    measurement.

    Raises
    ------
    BasisError, OptionError
    """
    basis.check_match(axes.spec_freq_mhz, axes.nucleus)
    if not is_in_vivo(basis):
        raise OptionError(
            f"has priors of 1H spectra of the brain; {basis.source} is of {basis.nucleus} with"
            f" {', '.join(basis.names[:5])}",
            option="spectral_model",
            value="in-vivo",
            remedy="choose fsl-mrs",
        )
    axes.check_window(options.ppmlim)
    ppmlim = options.ppmlim or axes.usual_window or priors_table()["usual"]["ppmlim"]
    on_grid = basis.resampled(axes.dwelltime, axes.n_points, options.start_time_s or 0.0)
    scale = 100 / np.linalg.norm(on_grid.mean(0)) if options.rescale else 1.0
    return on_grid * scale, np.full(basis.n_metabs, scale), acquisition_of(options, ppmlim)


def acquisition_of(options: FitOptions, ppmlim: tuple[float, float]) -> Acquisition:
    """Return the measurement's properties, with the table's typical times where they are unknown."""
    usual = priors_table()["usual"]
    return Acquisition(
        te_s=usual["te_s"] if options.echo_time_s is None else options.echo_time_s,
        tr_s=usual["tr_s"] if options.repetition_time_s is None else options.repetition_time_s,
        mm=options.mm or "brain",
        ppmlim=(ppmlim[0], ppmlim[1]),
        init=options.init or "classical",
        concentrations=concentration_prior_of(options),
        start_s=options.start_time_s or 0.0,
    )


def concentration_prior_of(options: FitOptions) -> ConcentrationPrior:
    """Return the prior of concentrations that options ask for: as wide as a factor of e by default."""
    return ConcentrationPrior("none" if str(options.prior) == "none" else "wide", options.soft_constraints)


def _water_rows(water: np.ndarray | None, n: int, axes: Axes, usable: np.ndarray) -> np.ndarray | None:
    """Return the water reference of every usable spectrum.

    Raises
    ------
    DataError
    """
    if water is None:
        return None
    water = np.asarray(water)
    if water.shape[-1] != axes.n_points:
        raise DataError(
            f"the water reference has {water.shape[-1]} points and the spectra {axes.n_points}; give one that was"
            " acquired alike."
        )
    water = water.reshape(-1, axes.n_points).astype(complex)
    if len(water) not in (1, n):
        raise DataError(f"there are {len(water)} water references for {n} spectra; give one, or one for each.")
    if not usable_fids(water).all():
        raise DataError(f"a water reference {UNUSABLE}; give another one.")
    return np.broadcast_to(water, (n, axes.n_points))[usable]
