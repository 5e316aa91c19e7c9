"""Starters: where a fit begins.

A starter looks at spectra and proposes nonlinear parameters; :mod:`fsl_mrs_dl.fitting.varpro` finishes them.  Several proposals per
spectrum are welcome, the one with the lowest cost is taken.  The classical search here needs no training and no prior but
what a brain spectrum roughly looks like; it is also the fallback where no network applies.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..core import units
from ..core.errors import OptionError
from ..core.metabolites import is_macromolecule, typical_concentrations
from ..physics.signal_model import SignalModel
from .coarse_model import ReducedModel, reduced

__all__ = [
    "Starter",
    "ClassicalStarter",
    "NetworkStarter",
    "PhysicsStarter",
    "RegressorStarter",
    "Together",
    "AlsoFrom",
    "Automatic",
    "answering",
    "STARTERS",
]


class Starter(Protocol):
    """What a starter is: a name and a call."""

    name: str

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        """Spectra in the window, complex ``(batch, n_window)`` -> proposals ``(batch, n_candidates, n_theta)``, the first of each finite; NaN
        for none."""


_LIKELY = 2  # line widths that are proposed of those that are tried


class ClassicalStarter:
    """Matched filter of the windowed spectrum with the basis at typical concentrations, for a few line widths.

    The position of the filter's maximum gives the shift, its argument the phase; both are exact for white noise and a true
    template, whatever the phase.  The template's norm inside the window is taken into account, so that a strong signal near
    the edge of the window does not attract it.

    Parameters
    ----------
    max_shift_ppm : float
        Shifts to either side that are searched.
    widths_hz : tuple of float
        Lorentzian line widths tried, full width at half maximum.
    """

    name = "classical"

    def __init__(self, max_shift_ppm: float = 0.35, widths_hz: tuple[float, ...] = (2.0, 6.0, 14.0, 30.0)):
        self.max_shift_ppm = max_shift_ppm
        self.widths_hz = widths_hz

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        n, pad = model.n_points, 2 * model.n_points
        weights = typical_concentrations(names) if model.nucleus == "1H" else None
        if weights is None:
            norm = model.basis.abs().square().sum(-1).sqrt().cpu().numpy()
            weights = np.array([0.0 if is_macromolecule(name) else 1 / max(size, 1e-300) for name, size in zip(names, norm)])
            weights = weights if weights.any() else np.ones(len(names))
        weights = torch.as_tensor(weights, device=spec.device).to(model.complex_dtype)
        widths = torch.tensor(self.widths_hz, dtype=model.dtype, device=spec.device) * torch.pi
        hz = torch.fft.fftfreq(pad, model.dwelltime, dtype=model.dtype, device=spec.device)
        near = (hz.abs() <= self.max_shift_ppm * model.spec_freq_mhz).nonzero()[:, 0]
        templates = (weights @ model.basis) * torch.exp(-widths[:, None] * model.time)
        templates[:, 0] *= 0.5
        norm = self._norm_in_window(templates, model)[:, near].sqrt()
        # The data stay fixed in their window; it is the template that moves.
        data, small = model.eliminate_baseline(spec), reduced(model, len(spec))
        if isinstance(small, ReducedModel) and self.max_shift_ppm * model.spec_freq_mhz <= small.most_shift / (2 * torch.pi):
            filtered = small.correlate(weights, widths, data, hz[near])
        else:
            windowed = spec.new_zeros(len(spec), n)
            windowed[:, model.bins] = data
            data = torch.fft.ifft(windowed, dim=-1, norm="ortho")
            filtered = torch.fft.fft(templates.conj() * data[:, None], n=pad, dim=-1)[..., near]
        score = filtered.abs() / norm
        best = score.argmax(-1, keepdim=True)
        shift = hz[near][best]
        angle = filtered.gather(-1, best).angle()
        zero = torch.zeros_like(angle)
        # Basis and data both have lines of their own; the proposals differ in what is added to the basis'.  Only those that are most like
        # the data are worth a closer look.
        gamma = widths[None, :, None].expand_as(angle)
        likely = score.amax(-1, keepdim=True).topk(min(_LIKELY, len(widths)), dim=1).indices
        gamma, shift, angle, zero = (values.gather(1, likely) for values in (gamma, shift, angle, zero))
        eps = -2 * torch.pi * shift
        blocks = {"gamma": gamma, "variance": zero, "eps": eps, "phi0": -angle, "phi1": zero}
        return model.join_theta(**{name: blocks[name] for name in model.theta_sizes})

    @staticmethod
    def _norm_in_window(templates: torch.Tensor, model: SignalModel) -> torch.Tensor:
        """Energy of each template inside the window when shifted by each bin of the padded grid, ``(n_widths, 2n)``."""
        pad = 2 * model.n_points
        power = torch.fft.fft(templates, n=pad, dim=-1, norm="ortho").abs() ** 2
        window = torch.zeros(pad, dtype=power.dtype, device=power.device)
        window[torch.cat([2 * model.bins, (2 * model.bins + 1) % pad])] = 1.0
        moved = torch.fft.ifft(torch.fft.fft(window) * torch.fft.fft(power, dim=-1).conj(), dim=-1).real
        return moved.clamp(min=moved.amax(-1, keepdim=True) * 1e-6)


_IMPOSSIBLE = 1e-3  # of the likeliest shift's probability


class NetworkStarter:
    """A trained network's proposals: its likeliest shifts, each with the phases and widths it sees.

    Parameters
    ----------
    network : QuantUniversal
    card : Card
        Of the model, see :func:`fsl_mrs_dl.networks.model_cards.load`.
    n_candidates : int
        Shifts that are proposed.
    """

    def __init__(self, network, card, n_candidates: int = 3):
        self.network, self.card, self.n_candidates = network, card, n_candidates
        self.name = card.name
        self._grids: dict = {}

    def refuses(self, model: SignalModel) -> str:
        """Why the network was not made for data like these, in words; empty if it was."""
        low, high = model.ppmlim or (-100.0, 100.0)
        acquired = model.n_points * model.dwelltime * model.spec_freq_mhz
        return self.card.refuses(nucleus=model.nucleus, spec_freq_mhz=model.spec_freq_mhz, ppm_low=low, ppm_high=high, acquired_s_mhz=acquired
        )  # fmt: skip

    def _grid(self, model: SignalModel):
        from ..networks.universal import PpmGrid

        key = (model.n_points, model.dwelltime, model.spec_freq_mhz, model.window)
        if key not in self._grids:
            self._grids = {key: PpmGrid(model.bins.cpu().numpy(), model.n_points, model.dwelltime, model.spec_freq_mhz)}
        return self._grids[key]

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        self.network.to(spec.device)
        found = self.network.propose(self._grid(model)(spec), model.spec_freq_mhz, self.n_candidates)
        proposals = nuisance_theta(
            model,
            found["shift_ppm"].to(model.dtype),
            *(found[name].to(model.dtype)[:, None] for name in ("phi0", "phi1", "lorentz_hz", "gauss_hz")),
        )
        # What is next to impossible need not be looked at.
        unlikely = found["probability"] < _IMPOSSIBLE * found["probability"][:, :1]
        return proposals.masked_fill(unlikely[..., None], torch.nan)


class PhysicsStarter:
    """Proposal of a network that was trained on FIDs of one protocol, such as DQ-nMM.

    Parameters
    ----------
    network : DQnMM
    card : Card
    """

    proposes = True

    def __init__(self, network, card):
        self.network, self.card, self.name = network, card, card.name

    def refuses(self, model: SignalModel) -> str:
        """Why the network was not made for data like these, in words; empty if it was."""
        return self.card.refuses(nucleus=model.nucleus, spec_freq_mhz=model.spec_freq_mhz, dwelltime=model.dwelltime)

    def _fid(self, spec: torch.Tensor, model: SignalModel) -> torch.Tensor:
        """FIDs of spectra in the window, complex64 ``(batch, n_points)``."""
        whole = torch.zeros(len(spec), model.n_points, dtype=torch.complex64, device=spec.device)
        whole[:, model.bins] = spec.to(torch.complex64)
        fid = torch.fft.ifft(whole, dim=-1, norm="ortho")
        fid[:, 0] *= 2
        return fid

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        with torch.no_grad():
            found = self.network.to(spec.device)(self._fid(spec, model))
        found = {name: found[name].to(model.dtype)[:, None] for name in ("damping", "shift_hz", "phi0")}
        zero = torch.zeros_like(found["phi0"])
        return nuisance_theta(
            model, found["shift_hz"] / model.spec_freq_mhz, found["phi0"], zero, found["damping"] / torch.pi, zero
        )  # fmt: skip

    def concentrations(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        """The networks' own answers in the model's units, ``(n_networks, batch, n_metabs)``; NaN for what they were not trained on."""
        fid = self._fid(spec, model)
        with torch.no_grad():
            network = self.network.to(spec.device)
            each = network.each(fid) if hasattr(network, "each") else network.concentrations(fid)[None]
        return each.to(model.dtype) @ self._columns(model, names)

    def knows(self, model: SignalModel, names: list[str]) -> bool:
        """Whether any of the metabolites is one that the network was trained on, and looks as there."""
        return bool(torch.isfinite(self._columns(model, names)).any())

    def unknown(self, model: SignalModel, names: list[str]) -> list[str]:
        """The metabolites that it has no answer for: it was trained without them, or they looked otherwise there."""
        known = torch.isfinite(self._columns(model, names)).all(0)
        return [name for name, there in zip(names, known.tolist()) if not there]

    def _columns(self, model: SignalModel, names: list[str]) -> torch.Tensor:
        """From the network's concentrations to the model's, ``(n_of_network, n_metabs)``.

        The same metabolite may have another scale in the model's basis set; one that looks different is another, and has no answer.
        """
        one = getattr(self.network, "members", [self.network])[0]
        theirs = torch.complex(*one.basis_ri).to(model.basis)
        n = min(theirs.shape[-1], model.n_points)
        out = torch.zeros(len(one.names), len(names), dtype=model.dtype, device=model.basis.device)
        for column, name in enumerate(names):
            if name in one.names:
                a, b = theirs[one.names.index(name), :n], model.basis[column, :n]
                inner, size = (b.conj() @ a).real, (b.conj() @ b).real
                if inner > 0.9 * torch.sqrt(size * (a.conj() @ a).real):
                    out[one.names.index(name), column] = inner / size
                    continue
            out[:, column] = torch.nan
        return out

    def novelty(self, spec: torch.Tensor, model: SignalModel):
        """How far spectra are from those the network was trained on, ``(batch,)``; None where its card does not say."""
        from . import out_of_distribution

        clean = self.card.content.get("clean")
        if not clean:
            return None
        return out_of_distribution.of_network(self.network.to(spec.device), clean, self._fid(spec, model))


class RegressorStarter(PhysicsStarter):
    """A network that only knows concentrations (:mod:`fsl_mrs_dl.networks.supervised_quantification`): it answers, and the classical search starts the fit.

    Parameters
    ----------
    network : Supervised
    card : Card
    """

    proposes = False

    def __init__(self, network, card):
        super().__init__(network, card)
        self.name = f"classical, {card.name} answers beside it"
        self.search = ClassicalStarter()

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return self.search(spec, model, names)


def nuisance_theta(model: SignalModel, shift_ppm, phi0, phi1, lorentz_hz, gauss_hz) -> torch.Tensor:
    """A model's nonlinear parameters ``(batch, n_candidates, n_theta)`` from what is seen in a spectrum.

    ``shift_ppm`` ``(batch, n_candidates)``; ``phi0`` rad at 2.2 ppm, ``phi1`` rad per ppm, and full widths at half maximum in Hz,
    ``(batch, 1)`` or as the shifts.
    """
    eps = -2 * torch.pi * shift_ppm * model.spec_freq_mhz
    slope = (phi1 / model.spec_freq_mhz).expand_as(eps)
    # The model's phases turn about the carrier, and its time starts at one dwell time.
    zero = phi0 - slope * units.ppm_to_hz(2.2, model.spec_freq_mhz, model.nucleus) - eps * model.dwelltime
    variance = (torch.pi * gauss_hz) ** 2 / (4 * math.log(2))
    blocks = {
        "gamma": (torch.pi * lorentz_hz).expand_as(eps),
        "variance": variance.expand_as(eps),
        "eps": eps,
        "phi0": zero,
        "phi1": slope,
    }
    return model.join_theta(
        **{name: blocks[name][..., None].expand(*eps.shape, size) for name, size in model.theta_sizes.items()}
    )


class Together:
    """Several starters: where they disagree, each one's best proposal is refined and the lowest cost decides."""

    def __init__(self, parts):
        self.parts = list(parts)
        self.name = " and ".join(part.name for part in self.parts)

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return torch.cat([part(spec, model, names) for part in self.parts], 1)


class AlsoFrom:
    """Another starter's proposals and one more: parameters known beforehand, such as those of a volume's average.

    Parameters
    ----------
    starter : Starter
        Whose proposals are kept; its name too.
    params : array ``(n_params,)``
        FSL-MRS's parameter vector of ``model``.
    model : SignalModel

    Raises
    ------
    OptionError
        If the vector has another length than the model's, or is not finite.
    """

    def __init__(self, starter: Starter, params, model: SignalModel):
        vector = torch.as_tensor(np.asarray(params, float).copy())
        if vector.shape != (model.n_params,) or not torch.isfinite(vector).all():
            raise OptionError(
                f"x0: {tuple(vector.shape)} numbers, all finite, were expected to be {model.n_params}: one for each parameter of "
                f"the {model.name} model with {model.n_metabs} metabolites and this baseline; leave x0 out, or give such a vector."
            )
        self.starter, self.name = starter, starter.name
        if hasattr(starter, "parts"):
            first, *others = starter.parts
            self.parts = [AlsoFrom(first, params, model), *others]
        theta, _, _ = model.unpack(vector)
        self.blocks, self.groups = model.split_theta(theta), torch.as_tensor(model.groups)

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        proposals = self.starter(spec, model, names)
        blocks = dict(self.blocks)
        if len(blocks["eps"]) != model.theta_sizes["eps"]:
            # Free shifts are released from a fit with shared ones, which starts from each group's median.
            eps = blocks["eps"]
            blocks["eps"] = torch.stack([eps[self.groups == group].median() for group in range(model.n_groups)])
        known = model.join_theta(**blocks).to(proposals)
        return torch.cat([proposals, known.expand(len(proposals), 1, -1)], dim=1)


def answering(starter) -> PhysicsStarter | None:
    """The network in a starter that has an answer of its own, or None."""
    for part in getattr(starter, "parts", [starter]):
        part = getattr(part, "starter", part)
        if hasattr(part, "concentrations"):
            return part
    return None


class Named:
    """A starter whose name says why it is used."""

    def __init__(self, starter: Starter, name: str):
        self.starter, self.name = starter, name

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return self.starter(spec, model, names)


class Automatic:
    """Chooses the starter once the model is known: the network with the classical search where its card covers the data.

    Parameters
    ----------
    starter : str, optional
        One of :data:`STARTERS` to insist on.
    network : str or path, optional
        Model to use, by name or folder; 'quant-universal' by default.

    Raises
    ------
    OptionError
        If there is no such starter or model, or the model is not one that starts fits.
    """

    def __init__(self, starter: str | None = None, network: str | Path | None = None):
        from ..networks.model_cards import KIND_WORDS, model_names, read_card

        if starter is not None and starter not in STARTERS:
            raise OptionError(f"starter {starter}: there is no such starter; choose one of {', '.join(STARTERS)}.")
        if starter == "classical" and network is not None:
            raise OptionError(f"model {network}: is not asked by the classical starter; leave one of the two out.")
        self.asked, self.given = starter, network is not None
        self.network = network or "quant-universal"
        if network is not None or starter in ("network", "together"):
            card = read_card(self.network)
            if card.kind not in _KINDS:
                raise OptionError(
                    f"model {self.network}: {KIND_WORDS.get(card.kind, 'does other things')}; give one that starts fits."
                )
            if starter == "network" and not getattr(_KINDS[card.kind], "proposes", True):
                raise OptionError(
                    f"starter network: {self.network} knows concentrations only and proposes no starts; leave the starter out, the classical "
                    "search then starts the fits and the network's answers stay as they are."
                )
        self.there = network is not None or starter in ("network", "together") or self.network in model_names()

    def for_model(self, model: SignalModel) -> Starter:
        """The starter for a model; the name says why, if it is not the network although there is one."""
        if self.asked == "classical" or not self.there:
            return ClassicalStarter()
        from ..networks.model_cards import load

        network, card = load(self.network)
        network = _KINDS[card.kind](network, card)
        why = network.refuses(model)
        if why and self.given:
            raise OptionError(f"model {self.network}: is not for data like these: {why}; leave it out, or train one for them.")
        if self.asked == "network":
            return Named(network, f"{network.name}, outside its range: {why}") if why else network
        if why:
            return Named(ClassicalStarter(), f"classical, not {network.name}: {why}")
        if not getattr(network, "proposes", True):
            return network
        return Together([network, ClassicalStarter()])


_KINDS = {
    "quant-universal": NetworkStarter,
    "dq-nmm": PhysicsStarter,
    "dq-pmm": PhysicsStarter,
    "dq-rpmm": PhysicsStarter,
    "ensemble": PhysicsStarter,
    "supervised": RegressorStarter,
    "supervised-ensemble": RegressorStarter,
    "supervised-stack": RegressorStarter,
}
"""Starters by what a model's card says it is."""

STARTERS = {
    "classical": "matched filter with the basis set at typical concentrations",
    "network": "trained network alone",
    "together": "both; where they disagree, both are refined and the lower cost decides",
}
"""The starters by name, and what they are."""
