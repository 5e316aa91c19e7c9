"""Shifts and phases that networks propose to the alignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch

from ..core import units
from ..core.errors import DataError, OptionError
from ..core.transients import apply_shift_phase, combination
from ..core.units import wrap_degrees
from ..networks.self_supervised_registration import Registration
from ..networks.universal import AlignUniversal, PpmGrid
from ..registration.alignment import Alignment, align_transients

__all__ = ["RegistrationStarter", "AlignStarter"]


def unrefined(
    fid, starter: Callable, *, keep: bool, dwelltime, spec_freq_mhz, nucleus, ppmlim, device=None
) -> Alignment:
    """A starter's own answer as an :class:`Alignment`, without SDs; its mean is taken out unless ``keep``."""
    valid = np.isfinite(fid).all((1, 3)) & (fid != 0).any((1, 3))
    clean = np.where(np.isfinite(fid), fid, 0)
    tensor = torch.as_tensor(clean)
    shift, phase = (np.asarray(x.cpu(), dtype=float) for x in starter(tensor if device is None else tensor.to(device)))
    if not keep:
        count = np.maximum(valid.sum(1, keepdims=True), 1)
        shift = shift - (shift * valid).sum(1, keepdims=True) / count
        phase = phase - np.rad2deg(np.angle((np.exp(1j * np.deg2rad(phase)) * valid).sum(1, keepdims=True)))
    shift, phase = np.where(valid, shift, 0), np.where(valid, wrap_degrees(phase), 0)
    corrected = apply_shift_phase(clean, shift[:, None], phase[:, None], dwelltime)
    total = np.maximum(valid.sum(1), 1)[:, None, None]
    mean = (corrected * valid[:, None, :, None]).sum(2) / total
    first, last = units.window_indices(units.ppm_axis(fid.shape[-1], dwelltime, spec_freq_mhz, nucleus), ppmlim)
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
        flag=np.where(valid, "ok", "failed"),
        reference=mean,
        n_iterations=0,
        dwelltime=dwelltime,
    )


_MANY_WEAK = 0.05  # share of transients too weak to be found alone from which the network is asked


def _align_with_help(four: np.ndarray, target, axes: dict, job: dict) -> tuple[Alignment, str]:
    """Classical search; where it finds transients weak, once more from the network's proposal.  Also what to call that.

    With transients that are strong enough both end at the same place and the search is quicker.
    """
    alignment = align_transients(four, starter="classical", reference=target, **job)
    usable = (alignment.flag != "failed").sum(1)
    weak = (alignment.flag == "weak").sum(1) > _MANY_WEAK * np.maximum(usable, 1)
    if not weak.any():
        return alignment, "classical"
    network, name = _align_starter(None, None, four.shape[-1], target, axes)
    if isinstance(network, str):
        return alignment, name
    again = align_transients(four[weak], starter=network, reference=target, **job)
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


_UNIVERSAL = "align-universal"


def _align_starter(method: str | None, model, n_points: int, reference, axes: dict):
    """What :func:`fsl_mrs_dl.registration.solver.align_transients` takes as a starter, and what to call it."""
    from ..networks import model_cards
    from ..networks.self_supervised_registration import METHODS

    known = ("classical", "universal", *METHODS)
    if method not in (None, *known):
        raise OptionError(f"--method {method}: there is no such method of alignment; choose one of {', '.join(known)}.")
    if method == "classical" and model is not None:
        raise OptionError(f"--model {model}: is not asked by the classical method; leave one of the two out.")
    if method in METHODS and model is None:
        raise OptionError(
            f"--method {method}: is a network trained on data like these; give it with --model, or train one with "
            f"'fsl_mrs_dl train align --method {method} --file FILE --output DIR'."
        )
    insisted = method == "universal" or model is not None
    if method == "classical" or (not insisted and _UNIVERSAL not in model_cards.model_names()):
        return "classical", "classical"
    pass
    pass

    name = model or _UNIVERSAL
    kinds = {_UNIVERSAL: AlignStarter, "registration": RegistrationStarter}
    card = model_cards.read_card(name)
    if card.kind not in kinds:
        does = model_cards.KIND_WORDS.get(card.kind, "does other things")
        raise OptionError(f"--model {name}: {does}; give one that starts alignments.")
    is_a = "universal" if card.kind == _UNIVERSAL else card["architecture"]["settings"].get("method")
    if method not in (None, is_a):
        raise OptionError(
            f"--model {name}: is a network of method {is_a}, not {method}; leave --method out, or give another --model."
        )
    network, card = model_cards.load(name)
    found = kinds[card.kind](network, card, reference=reference, **axes)
    why = found.refuses(n_points)
    if why and model is not None:
        raise OptionError(f"--model {name}: is not for data like these: {why}; leave it out, or train one for them.")
    if why and not insisted:
        return "classical", f"classical, not {card.name}: {why}"
    return found, f"{card.name}, outside its range: {why}" if why else card.name


class RegistrationStarter:
    """A trained :class:`Registration` as a starter of :func:`fsl_mrs_dl.registration.solver.align_transients`."""

    def __init__(
        self,
        network: Registration,
        card,
        *,
        dwelltime: float,
        spec_freq_mhz: float,
        nucleus: str = "1H",
        reference=None,
    ):
        self.network, self.card, self.name = network, card, card.name
        self.dwelltime, self.spec_freq_mhz, self.nucleus = dwelltime, spec_freq_mhz, nucleus
        if not np.isclose(dwelltime, network.dwelltime, rtol=1e-3) or not np.isclose(
            spec_freq_mhz, network.spec_freq_mhz, rtol=5e-3
        ):
            raise DataError(
                f"--model {card.name}: was trained for {1 / network.dwelltime:.0f} Hz at {network.spec_freq_mhz:.1f}"
                f" MHz, the data have {1 / dwelltime:.0f} Hz at {spec_freq_mhz:.1f} MHz; train one on data like these."
            )

    @property
    def absolute(self) -> bool:
        """Whether shifts and phases are those of a line of known place."""
        return self.network.creatine

    def refuses(self, n_points: int) -> str:
        """Why the network was not made for data like these, in words; empty if it was."""
        return self.card.refuses(nucleus=self.nucleus)

    def __call__(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Complex ``(n_sets, n_channels, n_transients, n_points)`` -> shifts (Hz) and phases (degrees), ``(n_sets,
        n_transients)``."""
        self.network.to(fid.device)
        fid = torch.nan_to_num(fid).to(torch.complex64)
        combined = torch.stack([torch.einsum("c,ctn->tn", combination(one), one) for one in fid])
        with torch.no_grad():
            found = [self.network(part) for part in combined.flatten(0, 1).split(1024)]
        shift, phase = (
            torch.cat([one[name] for one in found]).reshape(combined.shape[:2]) for name in ("shift_hz", "phase")
        )
        return shift, torch.rad2deg(phase)


class AlignStarter:
    """``align-universal`` as a starter of :func:`fsl_mrs_dl.registration.solver.align_transients`.

    Without a reference one is made: the transient most like the others by magnitude first, then the mean of all, twice.

    Parameters
    ----------
    network : AlignUniversal
    card : Card
    dwelltime, spec_freq_mhz, nucleus
        Of the data; seconds, MHz.
    reference : complex array, optional
        ``(n_points,)``, ``(n_channels, n_points)`` or ``(n_sets, n_channels, n_points)``.
    """

    def __init__(
        self,
        network: AlignUniversal,
        card,
        *,
        dwelltime: float,
        spec_freq_mhz: float,
        nucleus: str = "1H",
        reference=None,
    ):
        self.network, self.card, self.name = network, card, card.name
        self.dwelltime, self.spec_freq_mhz, self.nucleus = dwelltime, spec_freq_mhz, nucleus
        self.reference = None if reference is None else np.asarray(reference)
        self._grids: dict = {}

    def refuses(self, n_points: int) -> str:
        """Why the network was not made for data like these, in words; empty if it was."""
        acquired = n_points * self.dwelltime * self.spec_freq_mhz
        return self.card.refuses(nucleus=self.nucleus, spec_freq_mhz=self.spec_freq_mhz, acquired_s_mhz=acquired)

    def __call__(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Complex ``(n_sets, n_channels, n_transients, n_points)`` -> shifts (Hz) and phases (degrees), ``(n_sets,
        n_transients)``."""
        n_points = fid.shape[-1]
        if n_points not in self._grids:
            self._grids = {n_points: PpmGrid(np.arange(n_points), n_points, self.dwelltime, self.spec_freq_mhz)}
        grid = self._grids[n_points]
        self.network.to(fid.device)
        reference = self.reference
        if reference is not None:
            reference = torch.as_tensor(reference, device=fid.device)[..., :n_points]
            reference = reference.expand(len(fid), fid.shape[1], -1)
        found = [self._one_set(one, None if reference is None else reference[i], grid) for i, one in enumerate(fid)]
        shift, phase = (torch.stack(parts) for parts in zip(*found))
        return shift, phase

    def _one_set(self, fid, reference, grid):
        fid = torch.nan_to_num(fid).to(torch.complex64)
        combine = combination(fid if reference is None else reference[:, None].to(torch.complex64))
        spec = self._spec(torch.einsum("c,ctn->tn", combine, fid), grid)
        if reference is not None:
            return self._against(spec, self._spec(combine @ reference.to(torch.complex64), grid))
        size = spec.abs()
        size = size / size.mean(-1, keepdim=True).clamp(min=1e-30)
        first = (size - size.median(0).values).abs().mean(-1).argmin()
        one, mean = spec[first], None
        time = torch.arange(fid.shape[-1], device=fid.device) * self.dwelltime
        combined = torch.einsum("c,ctn->tn", combine, fid)
        for _ in range(2):
            shift, phase = self._against(spec, one if mean is None else mean)
            # The first may lie far from the others; their mean lies in their middle.
            shift = shift - shift.median()
            angle = -torch.deg2rad(phase)[:, None] - 2 * torch.pi * shift[:, None] * time
            # The mean of medians: one transient that is unlike the others does not spoil it.
            back = self._spec(combined * torch.polar(torch.ones_like(angle), angle), grid)
            mean = torch.complex(back.real.median(0).values, back.imag.median(0).values)
        return self._against(spec, mean)

    @staticmethod
    def _spec(fid, grid):
        halved = fid.clone()
        halved[..., 0] *= 0.5
        return grid(torch.fft.fft(halved, dim=-1, norm="ortho"))

    def _against(self, spec, reference):
        found = []
        with torch.no_grad():
            for part in spec.split(1024):
                one = self.network.propose(part, reference.expand_as(part), self.spec_freq_mhz)
                # The alignment's phases are those that the transients have, the models' those that are taken away.
                found.append((one["shift_ppm"] * self.spec_freq_mhz, -torch.rad2deg(one["phi0"])))
        return tuple(torch.cat(parts) for parts in zip(*found))
