"""Initial values that networks propose."""

from __future__ import annotations

import math

import torch

from ..core import units
from ..physics.signal_model import SignalModel
from .initialisation import ClassicalSearch

__all__ = ["NetworkProposal", "DecoderProposal", "SupervisedAnswers", "network_with_answers", "theta_from_quantities"]


_MIN_PROBABILITY = 1e-3  # relative to the likeliest shift


class NetworkProposal:
    """Proposals of a trained network: its likeliest shifts, each with its phases and widths.

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
        """Return the reason why the network is not for data like these; empty if it is."""
        low, high = model.ppmlim or (-100.0, 100.0)
        acquired = model.n_points * model.dwelltime * model.spec_freq_mhz
        return self.card.refuses(
            nucleus=model.nucleus,
            spec_freq_mhz=model.spec_freq_mhz,
            ppm_low=low,
            ppm_high=high,
            acquired_s_mhz=acquired,
        )

    def _grid(self, model: SignalModel):
        from ..networks.universal import PpmGrid

        key = (model.n_points, model.dwelltime, model.spec_freq_mhz, model.window)
        if key not in self._grids:
            self._grids = {key: PpmGrid(model.bins.cpu().numpy(), model.n_points, model.dwelltime, model.spec_freq_mhz)}
        return self._grids[key]

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        self.network.to(spec.device)
        proposal = self.network.propose(self._grid(model)(spec), model.spec_freq_mhz, self.n_candidates)
        proposals = theta_from_quantities(
            model,
            proposal["shift_ppm"].to(model.dtype),
            *(proposal[name].to(model.dtype)[:, None] for name in ("phi0", "phi1", "lorentz_hz", "gauss_hz")),
        )
        # Shifts of negligible probability are not evaluated.
        unlikely = proposal["probability"] < _MIN_PROBABILITY * proposal["probability"][:, :1]
        return proposals.masked_fill(unlikely[..., None], torch.nan)


class DecoderProposal:
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
        """Return the reason why the network is not for data like these; empty if it is."""
        return self.card.refuses(nucleus=model.nucleus, spec_freq_mhz=model.spec_freq_mhz, dwelltime=model.dwelltime)

    def _fid(self, spec: torch.Tensor, model: SignalModel) -> torch.Tensor:
        """Return the FIDs of spectra in the window, complex64 ``(batch, n_points)``."""
        whole = torch.zeros(len(spec), model.n_points, dtype=torch.complex64, device=spec.device)
        whole[:, model.bins] = spec.to(torch.complex64)
        fid = torch.fft.ifft(whole, dim=-1, norm="ortho")
        fid[:, 0] *= 2
        return fid

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        with torch.no_grad():
            answer = self.network.to(spec.device)(self._fid(spec, model))
        answer = {name: answer[name].to(model.dtype)[:, None] for name in ("damping", "shift_hz", "phi0")}
        zero = torch.zeros_like(answer["phi0"])
        return theta_from_quantities(
            model, answer["shift_hz"] / model.spec_freq_mhz, answer["phi0"], zero, answer["damping"] / torch.pi, zero
        )

    def concentrations(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        """Return the concentrations of each network in the units of the model, ``(n_networks, batch, n_metabs)``.

        They are NaN for metabolites that were absent from the training.
        """
        fid = self._fid(spec, model)
        with torch.no_grad():
            network = self.network.to(spec.device)
            each = network.each(fid) if hasattr(network, "each") else network.concentrations(fid)[None]
        return each.to(model.dtype) @ self._columns(model, names)

    def covers(self, model: SignalModel, names: list[str]) -> bool:
        """Tell whether any of the metabolites was in the training, with the same spectrum."""
        return bool(torch.isfinite(self._columns(model, names)).any())

    def not_covered(self, model: SignalModel, names: list[str]) -> list[str]:
        """Return the metabolites without an answer: absent from the training, or of another spectrum there."""
        known = torch.isfinite(self._columns(model, names)).all(0)
        return [name for name, covered in zip(names, known.tolist()) if not covered]

    def _columns(self, model: SignalModel, names: list[str]) -> torch.Tensor:
        """Return the matrix from concentrations of the network to those of the model, ``(n_of_network, n_metabs)``.

        The same metabolite may have another scale in the model's basis set; a metabolite with another spectrum counts
        as another metabolite and has no answer.
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

    def out_of_distribution(self, spec: torch.Tensor, model: SignalModel):
        """Return the distance of spectra from the training data, ``(batch,)``; None where the card has no reference."""
        from ..networks.out_of_distribution import network_scores

        clean = self.card.content.get("clean")
        if not clean:
            return None
        return network_scores(self.network.to(spec.device), clean, self._fid(spec, model))


class SupervisedAnswers(DecoderProposal):
    """Concentrations of a network that proposes no initial values, such as those of
    :mod:`fsl_mrs_dl.networks.supervised_quantification`; the fit begins with the classical search.

    Parameters
    ----------
    network : Supervised
    card : Card
    """

    proposes = False

    def __init__(self, network, card):
        super().__init__(network, card)
        self.name = f"classical, {card.name} answers beside it"
        self.search = ClassicalSearch()

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return self.search(spec, model, names)


def theta_from_quantities(model: SignalModel, shift_ppm, phi0, phi1, lorentz_hz, gauss_hz) -> torch.Tensor:
    """Return a model's nonlinear parameters ``(batch, n_candidates, n_theta)`` from shift, phases and widths.

    ``shift_ppm`` ``(batch, n_candidates)``; ``phi0`` rad at 2.2 ppm, ``phi1`` rad per ppm, and full widths at half
    maximum in Hz, ``(batch, 1)`` or as the shifts.
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


def network_with_answers(initial_values) -> DecoderProposal | None:
    """Return the network among initial values that has concentrations of its own, or None."""
    for part in getattr(initial_values, "parts", [initial_values]):
        part = getattr(part, "initial_values", part)
        if hasattr(part, "concentrations"):
            return part
    return None
