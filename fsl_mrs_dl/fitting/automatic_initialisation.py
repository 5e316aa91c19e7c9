"""Choice among initial values, and several of them side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..core.errors import OptionError
from ..physics.signal_model import SignalModel
from .initialisation import ClassicalStarter, Starter
from .network_initialisation import NetworkStarter, PhysicsStarter, RegressorStarter

__all__ = ["Together", "AlsoFrom", "Automatic", "STARTERS"]


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
                f"x0: {tuple(vector.shape)} numbers, all finite, were expected to be {model.n_params}: one for each"
                f" parameter of the {model.name} model with {model.n_metabs} metabolites and this baseline; leave x0"
                " out, or give such a vector."
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


class Named:
    """A starter whose name says why it is used."""

    def __init__(self, starter: Starter, name: str):
        self.starter, self.name = starter, name

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return self.starter(spec, model, names)


class Automatic:
    """Chooses the starter once the model is known: the network with the classical search where its card covers the
    data.

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
                    f"model {self.network}: {KIND_WORDS.get(card.kind, 'does other things')}; give one that starts"
                    " fits."
                )
            if starter == "network" and not getattr(_KINDS[card.kind], "proposes", True):
                raise OptionError(
                    f"starter network: {self.network} knows concentrations only and proposes no starts; leave the"
                    " starter out, the classical search then starts the fits and the network's answers stay as they"
                    " are."
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
            raise OptionError(
                f"model {self.network}: is not for data like these: {why}; leave it out, or train one for them."
            )
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
