"""The two jobs on data in memory: :func:`quantify` spectra and :func:`align_data` transients; no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..core import units
from ..core.device import choose_device
from ..core.errors import DataError, OptionError
from ..core.fids import usable_fids
from ..core.metabolites import typical_concentrations
from ..core.parallel import parallel_map
from ..io.basis import Basis
from ..networks import model_cards
from ..physics.signal_model import SignalModel
from . import priors
from .assess import _judge
from .automatic_initialisation import Automatic
from .batches import _fit_rows, _prepare_answers, _rows_per_chunk
from .initialisation import Starter
from .network_initialisation import answering
from .optimise import _TOLERANCE
from .options import ESTIMATES
from .priors import Prior
from .quantification import Quantification

__all__ = ["ESTIMATES", "quantify", "fit_scaled", "model_for"]


def model_for(
    basis: Basis,
    n_points: int,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str,
    *,
    ind_scale: list[str] | None = None,
    rescale: bool = True,
    **options,
) -> tuple[SignalModel, np.ndarray]:
    """The signal model of a basis set on the data's grid, and the factor each basis FID was scaled by.

    Scaling is FSL-MRS's: the mean basis FID gets norm 100, those in ``ind_scale`` each on their own.  ``options`` go to
    :class:`SignalModel`; without ``ppmlim`` the nucleus' usual window is taken.

    Raises
    ------
    BasisError, OptionError
    """
    basis.check_match(spec_freq_mhz, nucleus)
    if options.get("ppmlim") is None:
        options["ppmlim"] = units.nucleus(nucleus).ppmlim
        if options["ppmlim"] is None:
            raise OptionError(f"--ppmlim: there is no usual window for {nucleus}; give its limits in ppm.")
    fids = basis.resampled(dwelltime, n_points)
    scale = np.ones(basis.n_metabs)
    if rescale:
        alone = np.zeros(basis.n_metabs, bool)
        for name in ind_scale or ():
            if name not in basis.names:
                raise OptionError(f"--ind_scale {name}: not in {basis.source}; it has {', '.join(basis.names)}.")
            alone[basis.names.index(name)] = True
        if not alone.all():
            scale[~alone] = 100 / np.linalg.norm(fids[~alone].mean(0))
        scale[alone] = 100 / np.linalg.norm(fids[alone], axis=1)
    model = SignalModel(fids * scale[:, None], dwelltime, spec_freq_mhz, nucleus, **options)
    return model, scale


def quantify(
    fids: np.ndarray,
    basis: Basis,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    model: str = "voigt",
    ppmlim: tuple[float, float] | None = None,
    baseline: str = "poly, 2",
    groups: list[int] | None = None,
    ind_scale: list[str] | None = None,
    rescale: bool = True,
    starter: Starter | None = None,
    prior: str | Path | Prior | None = "auto",
    estimate: str = "ml",
    device: str | torch.device = "auto",
    max_iter: int = 60,
    progress: Callable[[int], None] | None = None,
) -> Quantification:
    """Fit a linear combination of basis spectra to every FID at once, to the maximum of the likelihood.

    Parameters
    ----------
    fids : complex ndarray ``(..., n_points)``
        In the in-memory sign convention; leading dimensions are flattened into rows.
    basis : Basis
        Chosen metabolites only (see :meth:`Basis.select`).
    dwelltime, spec_freq_mhz, nucleus
        Of the data: s, MHz.
    model : str
        One of :data:`fsl_mrs_dl.physics.signal_model.MODELS`.
    ppmlim : (float, float), optional
        Fitted window in ppm; the nucleus' usual one by default.
    baseline : str
        'off', 'poly, N' or 'spline, STIFFNESS'.
    groups : list of int, optional
        Metabolite groups (see :meth:`Basis.groups`).
    ind_scale, rescale
        As FSL-MRS's ``--ind_scale`` and the opposite of its ``--no_rescale``.
    starter : Starter, optional
        Proposes starts; the classical search by default.
    prior : str, path or Prior, optional
        What concentrations are expected, for the posterior: a recipe or file (see
        :func:`fsl_mrs_dl.fitting.priors.load`), 'volume' to learn it from these spectra, 'none', or 'auto':
        'normal-brain' where the basis set is a brain's.  It never changes the 'ml' estimate.
    estimate : str
        'network' makes sure that the network that proposes starts is asked for its own answer.
    device : str
    max_iter : int
        Most trial points per spectrum.
    progress : callable, optional
        Called with the number of spectra that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    fids = np.asarray(fids)
    if not np.iscomplexobj(fids):
        raise DataError(f"FIDs are real numbers ({fids.dtype}); complex FIDs are needed.")
    rows = fids.reshape(-1, fids.shape[-1])
    usable = usable_fids(rows)
    if not usable.any():
        raise DataError("every FID is zero or holds NaN; there is nothing to fit.")
    device = choose_device(device) if isinstance(device, str) else device
    signal_model, basis_scale = model_for(
        basis,
        rows.shape[-1],
        dwelltime,
        spec_freq_mhz,
        nucleus,
        ind_scale=ind_scale,
        rescale=rescale,
        model=model,
        ppmlim=ppmlim,
        baseline=baseline,
        groups=groups,
    )
    # One scale for all rows, so that their raw concentrations can be compared; for a single FID it is FSL-MRS's.
    energy = np.linalg.norm(rows[usable], axis=-1)
    fid_scale = 100 / float(np.sqrt(np.mean(energy.astype(float) ** 2))) if rescale else 1.0
    with np.errstate(invalid="ignore"):  # infinite values in unusable rows
        scaled = rows * fid_scale
    result = fit_scaled(
        scaled,
        signal_model,
        list(basis.names),
        starter=starter,
        prior=prior,
        relative=np.median(basis_scale) / basis_scale,
        estimate=estimate,
        device=device,
        max_iter=max_iter,
        progress=progress,
    )
    result.fid_scale, result.basis_scale = fid_scale, basis_scale
    return result


def fit_scaled(
    fids: np.ndarray,
    model: SignalModel,
    names: list[str],
    *,
    starter: Starter | None = None,
    prior: str | Path | Prior | None = "auto",
    relative: np.ndarray | float = 1.0,
    estimate: str = "ml",
    prior_scaled: bool = False,
    device: str | torch.device = "auto",
    max_iter: int = 60,
    tolerance: float = _TOLERANCE,
    progress: Callable[[int], None] | None = None,
) -> Quantification:
    """Fit FIDs ``(n, n_points)`` with a ready model; whoever calls has scaled data and basis.

    Rows that are not finite or all zero come back as NaN with ``usable`` false; no row raises.  ``relative`` is what a
    prior's numbers are multiplied by where basis spectra were scaled one by one; ``prior_scaled`` tells that ``prior``
    is in the units of these data already, and is not to be brought to them; ``tolerance`` is how near to the minimum a
    fit has to come, in SDs; the other arguments are those of :func:`quantify`.
    """
    model = model.to(choose_device(device) if isinstance(device, str) else device)
    starter = starter or Automatic()
    if isinstance(starter, Automatic):
        starter = starter.for_model(model)
    expected = None if prior == "volume" else _prior_of(prior, model, names)
    answering_network, note = answering(starter), ""
    if answering_network is not None and not answering_network.knows(model, names):
        note = (
            f"{answering_network.card.name} was trained on another basis set: its own answers mean nothing here and are"
            " left out."
        )
        if estimate == "network":
            raise OptionError(
                f"estimate network: {answering_network.card.name} was trained on another basis set; train one for this"
                " one."
            )
        answering_network = None
    if answering_network is None and estimate == "network":
        raise OptionError(
            f"estimate network: what starts fits here ({starter.name}) has no answer of its own; give a network that"
            " has with --model, or train one ('fsl_mrs_dl train quant --method supervised', or dq-nmm)."
        )
    if answering_network is not None:
        unknown = answering_network.unknown(model, names)
        if unknown:
            note = (
                f"{answering_network.card.name} has no answer for {', '.join(unknown)}: it was trained without, or with"
                " a basis set in which they look different. "
            )
        if model_cards.little_learnt(answering_network.card):
            learnt = np.median(list(answering_network.card["accuracy"]["R2 of concentrations"].values()))
            note += (
                f"{answering_network.card.name} has learnt little (median R2 {learnt:.2f} in training): do not trust"
                " its own answers, however small their spread."
            )
    usable = usable_fids(fids)
    n, n_fit = len(fids), model.n_metabs + sum(model.theta_sizes.values())
    result = Quantification(
        model=model,
        names=names,
        params=np.full((n, model.n_params), np.nan),
        cov=np.full((n, n_fit, n_fit), np.nan),
        noise_sd=np.full(n, np.nan),
        noise_outside_sd=np.full(n, np.nan),
        cost=np.full(n, np.nan),
        converged=np.zeros(n, bool),
        usable=usable,
        n_iter=np.zeros(n, int),
        fid_scale=1.0,
        basis_scale=np.ones(model.n_metabs),
        starter=starter.name,
        fids=fids,
        free=np.full((n, n_fit), np.nan),
        empty=np.zeros(n, bool),
        ood_residual=np.full(n, np.nan),
        network_note=note.strip(),
    )
    where = np.flatnonzero(usable)
    if answering_network is not None and len(where):
        _prepare_answers(result, answering_network)
    parts = (
        np.array_split(where, max(1, round(len(where) / _rows_per_chunk(model, model.time.device))))
        if len(where)
        else []
    )
    fit_part = partial(
        _fit_rows, result, starter=starter, max_iter=max_iter, tolerance=tolerance, network=answering_network
    )
    for part, _ in zip(parts, parallel_map(fit_part, parts, device=model.time.device)):
        if progress:
            progress(len(part))
    _judge(result, expected, "scaled" if prior_scaled else prior, relative)
    return result


def _prior_of(prior, model: SignalModel, names: list[str]) -> Prior | None:
    """The prior that is meant, in its own unit; None for none."""
    if isinstance(prior, Prior):
        return prior
    if prior is None or str(prior) == "none":
        return None
    if str(prior) != "auto":
        return priors.load(prior, names)
    if model.nucleus != "1H" or typical_concentrations(names) is None:
        return None
    # Shifts and widths of the recipe are what networks are trained on, not what is expected of a scanner.
    return replace(priors.load("normal-brain", names), fwhm_hz=None, shift_hz=None)
