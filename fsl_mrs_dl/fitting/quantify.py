"""Fit of spectra in memory: :func:`quantify` with a basis set, :func:`fit_scaled` with a ready model; no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from ..core.axes import Axes
from ..core.device import choose_device
from ..core.errors import OptionError
from ..core.fids import usable_fids
from ..core.metabolites import name_among, typical_concentrations
from ..core.parallel import one_thread, parallel_map
from ..io.basis import Basis
from ..networks import model_cards
from ..physics.signal_model import SignalModel
from . import priors
from .assess import assess
from .batches import fit_rows, prepare_network_answers, rows_per_batch
from .initialisation import InitialValues
from .network_initialisation import network_with_answers
from .optimise import TOLERANCE
from .options import FitOptions
from .priors import Prior
from .quantification import Quantification
from .rows import fid_scale_of, rows_to_fit

__all__ = ["quantify", "fit_scaled", "model_for"]


def model_for(basis: Basis, axes: Axes, options: FitOptions = FitOptions()) -> tuple[SignalModel, np.ndarray]:
    """Return the signal model of a basis set on the data's axes, and the factor each basis FID was scaled by.

    Scaling is FSL-MRS's: the mean basis FID gets norm 100, those in ``ind_scale`` each on their own.  Without
    ``ppmlim`` the nucleus' usual window is taken.

    Raises
    ------
    BasisError, OptionError
    """
    basis.check_match(axes.spec_freq_mhz, axes.nucleus)
    axes.check_window(options.ppmlim)
    ppmlim = options.ppmlim or axes.usual_window
    if ppmlim is None:
        raise OptionError(
            f"there is no usual window for {axes.nucleus}", option="ppmlim", remedy="give its limits in ppm"
        )
    fids = basis.resampled(axes.dwelltime, axes.n_points, options.start_time_s or 0.0)
    scale = np.ones(basis.n_metabs)
    if options.rescale:
        alone = np.zeros(basis.n_metabs, bool)
        for name in options.ind_scale:
            member = name_among(name, basis.names)
            if member is None:
                raise OptionError(
                    f"not in {basis.source}", option="ind_scale", value=name, remedy=f"it has {', '.join(basis.names)}"
                )
            alone[basis.names.index(member)] = True
        if not alone.all():
            scale[~alone] = 100 / np.linalg.norm(fids[~alone].mean(0))
        scale[alone] = 100 / np.linalg.norm(fids[alone], axis=1)
    model = SignalModel(
        fids * scale[:, None],
        axes,
        model=options.model,
        groups=options.metab_groups,
        ppmlim=ppmlim,
        baseline=options.baseline,
    )
    return model, scale


def quantify(
    fids: np.ndarray,
    basis: Basis,
    axes: Axes,
    options: FitOptions = FitOptions(),
    *,
    initial_values: InitialValues | None = None,
    progress: Callable[[int], None] | None = None,
) -> Quantification:
    """Fit a linear combination of basis spectra to every FID at once, to the maximum of the likelihood.

    Parameters
    ----------
    fids : complex ndarray ``(..., n_points)``
        In the in-memory sign convention; leading dimensions are flattened into rows.
    basis : Basis
        Chosen metabolites only (see :meth:`Basis.select`).
    axes : Axes
        Of the data.
    options : FitOptions, optional
    initial_values : InitialValues, optional
        In place of those that ``options`` name.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    rows, usable = rows_to_fit(fids)
    model, basis_scale = model_for(basis, axes, options)
    fid_scale = fid_scale_of(rows[usable]) if options.rescale else 1.0
    with np.errstate(invalid="ignore"):  # infinite values in unusable rows
        scaled = rows * fid_scale
    result = fit_scaled(
        scaled,
        model,
        list(basis.names),
        options,
        initial_values=initial_values,
        relative=np.median(basis_scale) / basis_scale,
        progress=progress,
    )
    result.fid_scale, result.basis_scale = fid_scale, basis_scale
    return result


@one_thread()  # threads within an operation wait for each other on a busy machine; batches run side by side
def fit_scaled(
    fids: np.ndarray,
    model: SignalModel,
    names: list[str],
    options: FitOptions = FitOptions(),
    *,
    initial_values: InitialValues | None = None,
    prior: Prior | None = None,
    relative: np.ndarray | float = 1.0,
    tolerance: float = TOLERANCE,
    progress: Callable[[int], None] | None = None,
) -> Quantification:
    """Fit scaled FIDs ``(n, n_points)`` with a ready model on a scaled basis.

    Of the options, the model already contains some; initial values, prior, estimate, device and most iterations remain.
    Rows that are not finite or all zero are NaN in the result, with ``fitted`` false; no row raises.

    Parameters
    ----------
    prior : Prior, optional
        In the units of these data, in place of that of the options.
    relative : float or ndarray ``(n_metabs,)``
        Factor of the prior's numbers where basis spectra were scaled one by one.
    tolerance : float
        Distance from the minimum, in SDs, at which a fit has converged.

    Raises
    ------
    OptionError
    """
    device = options.device
    model = model.to(choose_device(device) if isinstance(device, str) else device)
    initial_values = initial_values or options.initialisation().for_model(model)
    expected = prior
    if prior is None and not _from_volume(options):
        expected = _prior_of(options.prior, model, names)
    network, note = _network_and_note(initial_values, model, names, options.estimate)
    result = _empty_result(fids, model, names, initial_values.name, note)
    usable = np.flatnonzero(result.fitted)
    if network is not None and len(usable):
        prepare_network_answers(result, network)
    n_parts = max(1, round(len(usable) / rows_per_batch(model, model.time.device)))
    parts = np.array_split(usable, n_parts) if len(usable) else []
    fit_part = partial(
        fit_rows,
        result,
        initial_values=initial_values,
        max_iter=options.max_iter,
        tolerance=tolerance,
        network=network,
    )
    for part, _ in zip(parts, parallel_map(fit_part, parts, device=model.time.device)):
        if progress:
            progress(len(part))
    source = "scaled" if prior is not None else "volume" if _from_volume(options) else "population"
    assess(result, expected, source, relative)
    return result


def _from_volume(options: FitOptions) -> bool:
    """Tell whether the prior is learnt from the spectra that are fitted."""
    return isinstance(options.prior, str) and options.prior == "volume"


def _empty_result(fids: np.ndarray, model: SignalModel, names: list[str], init: str, note: str) -> Quantification:
    """Return a result of NaN that batches are written into."""
    n, n_fit = len(fids), model.n_metabs + sum(model.theta_sizes.values())
    return Quantification(
        model=model,
        names=names,
        params=np.full((n, model.n_params), np.nan),
        cov=np.full((n, n_fit, n_fit), np.nan),
        noise_sd=np.full(n, np.nan),
        noise_outside_sd=np.full(n, np.nan),
        cost=np.full(n, np.nan),
        converged=np.zeros(n, bool),
        fitted=usable_fids(fids),
        n_iter=np.zeros(n, int),
        fid_scale=1.0,
        basis_scale=np.ones(model.n_metabs),
        init=init,
        fids=fids,
        free=np.full((n, n_fit), np.nan),
        empty=np.zeros(n, bool),
        ood_residual=np.full(n, np.nan),
        unexplained=np.full(n, np.nan),
        misfit_score=np.full(n, np.nan),
        network_note=note,
    )


def _network_and_note(initial_values, model: SignalModel, names: list[str], estimate: str):
    """Return the network whose concentrations are reported, or None, and a remark on them.

    Raises
    ------
    OptionError
        If ``estimate`` is 'network' and there is none.
    """
    network, note = network_with_answers(initial_values), ""
    if network is not None and not network.covers(model, names):
        if estimate == "network":
            raise OptionError(
                f"{network.card.name} was trained on another basis set",
                option="estimate",
                value="network",
                remedy="train one for this one",
            )
        note = f"{network.card.name} was trained on another basis set: its own answers are left out."
        network = None
    if network is None and estimate == "network":
        raise OptionError(
            f"the initial values here ({initial_values.name}) come with no concentrations",
            option="estimate",
            value="network",
            remedy="give a network that has some with `network`, or train one ('fsl_mrs_dl train quant --method"
            " supervised', or dq-nmm)",
        )
    if network is not None:
        missing = network.not_covered(model, names)
        if missing:
            note = (
                f"{network.card.name} has no answer for {', '.join(missing)}: it was trained without, or with a basis"
                " set in which they look different. "
            )
        if model_cards.little_learnt(network.card):
            median_r2 = np.median(list(network.card["accuracy"]["R2 of concentrations"].values()))
            note += (
                f"{network.card.name} has learnt little (median R2 {median_r2:.2f} in training): do not trust its own"
                " answers, however small their spread."
            )
    return network, note.strip()


def _prior_of(prior, model: SignalModel, names: list[str]) -> Prior | None:
    """Return the prior that an option names, in its own unit; None for none.

    Raises
    ------
    OptionError
        If it is none of these metabolites, or has no negative concentrations where the model has.
    """
    if prior is None or str(prior) == "none":
        return None
    if str(prior) != "auto":
        given = prior if isinstance(prior, Prior) else priors.load(prior, names)
        never = given.never_negative
        if model.shape.negative and never:
            raise OptionError(
                f"that of {', '.join(never)} has no negative values, which `negative` allows",
                option="prior",
                value=given.source if isinstance(prior, Prior) else prior,
                remedy="give normal ones in a file, none, or leave `negative` out",
            )
        return given
    # Concentrations of a normal brain are not negative: under that prior inverted ones would have no room.
    if model.nucleus != "1H" or model.shape.negative or typical_concentrations(names) is None:
        return None
    # Shifts and widths of the recipe are ranges of training data, not expectations of a scanner.
    return replace(priors.load("normal-brain", names), fwhm_hz=None, shift_hz=None)
