"""Initial shifts and phases that networks propose to the alignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import DataError, OptionError
from ..core.transients import apply_shift_phase, combination
from ..core.units import wrap_degrees
from ..networks.self_supervised_registration import Registration
from ..networks.universal import AlignUniversal, PpmGrid
from ..registration.alignment import Alignment, align_transients

__all__ = [
    "RegistrationProposal",
    "UniversalProposal",
    "align_with_network_where_weak",
    "choose_proposal",
    "unrefined_alignment",
]

_MANY_WEAK = 0.05  # share of transients too weak to be found alone from which the network is used
_UNIVERSAL = "align-universal"
_ROWS = 1024  # spectra that a network takes at once


def unrefined_alignment(
    fid: np.ndarray,
    proposal: Callable,
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None,
    keep_mean: bool,
    device=None,
) -> Alignment:
    """Return a network's own estimates as an :class:`Alignment`, without SDs.

    Parameters
    ----------
    fid : complex array, shape (n_sets, n_channels, n_transients, n_points)
    proposal : callable
        FIDs to shifts (Hz) and phases (degrees).
    axes : Axes
    ppmlim : (float, float) or None
        Window of amplitudes and similarities.
    keep_mean : bool
        Whether the mean shift and phase of a set stay; otherwise they become 0.
    device : torch.device, optional
    """
    valid = np.isfinite(fid).all((1, 3)) & (fid != 0).any((1, 3))
    clean = np.where(np.isfinite(fid), fid, 0)
    tensor = torch.as_tensor(clean)
    shift, phase = (np.asarray(x.cpu(), dtype=float) for x in proposal(tensor if device is None else tensor.to(device)))
    if not keep_mean:
        count = np.maximum(valid.sum(1, keepdims=True), 1)
        shift = shift - (shift * valid).sum(1, keepdims=True) / count
        phase = phase - np.rad2deg(np.angle((np.exp(1j * np.deg2rad(phase)) * valid).sum(1, keepdims=True)))
    shift, phase = np.where(valid, shift, 0), np.where(valid, wrap_degrees(phase), 0)
    corrected = apply_shift_phase(clean, shift[:, None], phase[:, None], axes.dwelltime)
    total = np.maximum(valid.sum(1), 1)[:, None, None]
    mean = (corrected * valid[:, None, :, None]).sum(2) / total
    first, last = axes.window(ppmlim)
    spec, usual = (np.fft.fftshift(np.fft.fft(x, axis=-1), axes=-1)[..., first:last] for x in (corrected, mean))
    others = (usual[:, :, None] - spec / total[..., None]) * (total / np.maximum(total - 1, 1))[..., None]
    inner = (spec * others.conj()).sum((1, 3)).real
    sizes = [np.maximum((np.abs(x) ** 2).sum((1, 3)), 1e-300) for x in (spec, others)]
    nan = np.full(shift.shape, np.nan)
    return Alignment(
        shift_hz=shift,
        phase_deg=phase,
        shift_sd_hz=nan,
        phase_sd_deg=nan.copy(),
        amplitude=np.where(valid, inner / sizes[1], np.nan),
        similarity=np.where(valid, inner / np.sqrt(sizes[0]) / np.sqrt(sizes[1]), 0),
        weight=valid.astype(float),
        flag=np.where(valid, "ok", "failed").astype("<U7"),
        reason=np.full(valid.shape, "", "<U9"),
        reference=mean,
        n_iterations=0,
        dwelltime=axes.dwelltime,
    )


def align_with_network_where_weak(fid: np.ndarray, axes: Axes, *, reference=None, **options) -> tuple[Alignment, str]:
    """Align by the classical search, and sets with weak transients once more from the network's proposal.

    With transients that are strong enough both end at the same place and the search is quicker.

    Parameters
    ----------
    fid : complex array, shape (n_sets, n_channels, n_transients, n_points)
    axes : Axes
    reference, **options
        As for :func:`fsl_mrs_dl.registration.alignment.align_transients`.

    Returns
    -------
    (Alignment, str)
        And the method in words.
    """
    alignment = align_transients(fid, axes, reference=reference, **options)
    usable = (alignment.flag != "failed").sum(1)
    weak = (alignment.flag == "weak").sum(1) > _MANY_WEAK * np.maximum(usable, 1)
    if not weak.any():
        return alignment, "classical"
    network, name = choose_proposal(None, None, axes, reference)
    if isinstance(network, str):
        return alignment, name
    again = align_transients(fid[weak], axes, proposal=network, reference=reference, **options)
    for part in fields(Alignment):
        value = getattr(alignment, part.name)
        if isinstance(value, np.ndarray):
            value[weak] = getattr(again, part.name)
    where = (
        ""
        if weak.all()
        else f" in {int(weak.sum())} of {len(weak)} sets, where transients are weak, classical elsewhere"
    )
    return replace(alignment, n_iterations=max(alignment.n_iterations, again.n_iterations)), f"{name}{where}"


def choose_proposal(method: str | None, model, axes: Axes, reference=None) -> tuple[str | Callable, str]:
    """Choose the source of initial shifts and phases.

    Parameters
    ----------
    method, model
        As in :class:`fsl_mrs_dl.preproc.options.AlignOptions`.
    axes : Axes
        Of the data.
    reference : complex array, optional
        External reference.

    Returns
    -------
    (str or callable, str)
        The ``proposal`` of :func:`fsl_mrs_dl.registration.alignment.align_transients`, and its name in words.

    Raises
    ------
    OptionError
        No such method or model, or one that does not fit the data.
    """
    from ..networks import model_cards

    _check_method(method, model)
    required = method == "universal" or model is not None
    if method == "classical" or (not required and _UNIVERSAL not in model_cards.model_names()):
        return "classical", "classical"
    name = model or _UNIVERSAL
    kinds = {_UNIVERSAL: UniversalProposal, "registration": RegistrationProposal}
    card = model_cards.read_card(name)
    if card.kind not in kinds:
        purpose = model_cards.KIND_WORDS.get(card.kind, "does other things")
        raise OptionError(purpose, option="model", value=name, remedy="give one that proposes shifts and phases")
    card_method = "universal" if card.kind == _UNIVERSAL else card["architecture"]["settings"].get("method")
    if method not in (None, card_method):
        raise OptionError(
            f"is a network of method {card_method}, not {method}",
            option="model",
            value=name,
            remedy="leave `method` out, or give another `model`",
        )
    network, card = model_cards.load(name)
    proposal = kinds[card.kind](network, card, axes, reference=reference)
    why = proposal.outside_range()
    if why and model is not None:
        raise OptionError(
            f"is not for data like these: {why}",
            option="model",
            value=name,
            remedy="leave it out, or train one for them",
        )
    if why and not required:
        return "classical", f"classical, not {card.name}: {why}"
    return proposal, f"{card.name}, outside its range: {why}" if why else card.name


def _check_method(method: str | None, model) -> None:
    from ..networks.self_supervised_registration import METHODS

    methods = ("classical", "universal", *METHODS)
    if method not in (None, *methods):
        raise OptionError(
            "there is no such method of alignment",
            option="method",
            value=method,
            remedy=f"choose one of {', '.join(methods)}",
        )
    if method == "classical" and model is not None:
        raise OptionError(
            "the classical method uses no network", option="model", value=model, remedy="leave one of the two out"
        )
    if method in METHODS and model is None:
        raise OptionError(
            "is a network trained on data like these",
            option="method",
            value=method,
            remedy=(
                f"give it with `model`, or train one with 'fsl_mrs_dl train align --method {method} --file FILE"
                " --output DIR'"
            ),
        )


class RegistrationProposal:
    """Proposals of a trained :class:`Registration` for the alignment.

    Parameters
    ----------
    network : Registration
    card : Card
    axes : Axes
        Of the data.
    reference : complex array, optional
        Not used: the network has a reference of its own.

    Raises
    ------
    DataError
        If the network was trained for another bandwidth or frequency.
    """

    def __init__(self, network: Registration, card, axes: Axes, *, reference=None):
        self.network, self.card, self.name, self.axes = network, card, card.name, axes
        if not np.isclose(axes.dwelltime, network.dwelltime, rtol=1e-3) or not np.isclose(
            axes.spec_freq_mhz, network.spec_freq_mhz, rtol=5e-3
        ):
            raise DataError(
                f"was trained for {1 / network.dwelltime:.0f} Hz at {network.spec_freq_mhz:.1f} MHz, the data have"
                f" {axes.bandwidth:.0f} Hz at {axes.spec_freq_mhz:.1f} MHz",
                option="model",
                value=card.name,
                remedy="train one on data like these",
            )

    @property
    def absolute(self) -> bool:
        """Whether shifts and phases are those of a reference line."""
        return self.network.creatine

    def outside_range(self) -> str:
        """Return why the network was not made for data like these, in words; empty if it was."""
        return self.card.refuses(nucleus=self.axes.nucleus)

    def __call__(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shifts (Hz) and phases (degrees), each ``(n_sets, n_transients)``, of complex FIDs ``(n_sets,
        n_channels, n_transients, n_points)``."""
        self.network.to(fid.device)
        fid = torch.nan_to_num(fid).to(torch.complex64)
        combined = torch.stack([torch.einsum("c,ctn->tn", combination(one), one) for one in fid])
        with torch.no_grad():
            estimates = [self.network(part) for part in combined.flatten(0, 1).split(_ROWS)]
        shift, phase = (
            torch.cat([one[name] for one in estimates]).reshape(combined.shape[:2]) for name in ("shift_hz", "phase")
        )
        return shift, torch.rad2deg(phase)


class UniversalProposal:
    """Proposals of ``align-universal`` for the alignment.

    Without a reference one is made: the transient whose magnitude is closest to the median first, then the mean of all,
    twice.

    Parameters
    ----------
    network : AlignUniversal
    card : Card
    axes : Axes
        Of the data.
    reference : complex array, optional
        ``(n_points,)``, ``(n_channels, n_points)`` or ``(n_sets, n_channels, n_points)``.
    """

    absolute = False

    def __init__(self, network: AlignUniversal, card, axes: Axes, *, reference=None):
        self.network, self.card, self.name, self.axes = network, card, card.name, axes
        self.reference = None if reference is None else np.asarray(reference)
        self._grids: dict = {}

    def outside_range(self) -> str:
        """Return why the network was not made for data like these, in words; empty if it was."""
        axes = self.axes
        acquired = axes.n_points * axes.dwelltime * axes.spec_freq_mhz
        return self.card.refuses(nucleus=axes.nucleus, spec_freq_mhz=axes.spec_freq_mhz, acquired_s_mhz=acquired)

    def __call__(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shifts (Hz) and phases (degrees), each ``(n_sets, n_transients)``, of complex FIDs ``(n_sets,
        n_channels, n_transients, n_points)``."""
        n_points = fid.shape[-1]
        if n_points not in self._grids:
            grid = PpmGrid(np.arange(n_points), n_points, self.axes.dwelltime, self.axes.spec_freq_mhz)
            self._grids = {n_points: grid}
        grid = self._grids[n_points]
        self.network.to(fid.device)
        if self.reference is None:
            sets = [self._one_set(one, None, grid) for one in fid]
        else:
            reference = torch.as_tensor(self.reference, device=fid.device)[..., :n_points]
            sets = [self._one_set(*pair, grid) for pair in zip(fid, reference.expand(len(fid), fid.shape[1], -1))]
        shift, phase = (torch.stack(parts) for parts in zip(*sets))
        return shift, phase

    def _one_set(self, fid, reference, grid: PpmGrid) -> tuple[torch.Tensor, torch.Tensor]:
        fid = torch.nan_to_num(fid).to(torch.complex64)
        combine = combination(fid if reference is None else reference[:, None].to(torch.complex64))
        spec = self._spectra(torch.einsum("c,ctn->tn", combine, fid), grid)
        if reference is not None:
            return self._against(spec, self._spectra(combine @ reference.to(torch.complex64), grid))
        size = spec.abs()
        size = size / size.mean(-1, keepdim=True).clamp(min=1e-30)
        target = spec[(size - size.median(0).values).abs().mean(-1).argmin()]
        time = torch.arange(fid.shape[-1], device=fid.device) * self.axes.dwelltime
        combined = torch.einsum("c,ctn->tn", combine, fid)
        for _ in range(2):
            shift, phase = self._against(spec, target)
            # The first may lie far from the others; their mean lies in their middle.
            shift = shift - shift.median()
            angle = -torch.deg2rad(phase)[:, None] - 2 * torch.pi * shift[:, None] * time
            # The mean of medians: one outlier does not spoil it.
            back = self._spectra(combined * torch.polar(torch.ones_like(angle), angle), grid)
            target = torch.complex(back.real.median(0).values, back.imag.median(0).values)
        return self._against(spec, target)

    @staticmethod
    def _spectra(fid, grid: PpmGrid) -> torch.Tensor:
        halved = fid.clone()
        halved[..., 0] *= 0.5
        return grid(torch.fft.fft(halved, dim=-1, norm="ortho"))

    def _against(self, spec, reference) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shifts (Hz) and phases (degrees) of spectra against a reference."""
        proposals, freq = [], self.axes.spec_freq_mhz
        with torch.no_grad():
            for part in spec.split(_ROWS):
                one = self.network.propose(part, reference.expand_as(part), freq)
                # The alignment's phases are those of the transients, the model's those that correct them.
                proposals.append((one["shift_ppm"] * freq, -torch.rad2deg(one["phi0"])))
        shift, phase = (torch.cat(parts) for parts in zip(*proposals))
        return shift, phase
