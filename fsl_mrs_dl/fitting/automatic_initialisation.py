"""Choice among initial values, and combinations of several of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..core.errors import OptionError
from ..physics.signal_model import SignalModel
from .initialisation import ClassicalSearch, InitialValues
from .network_initialisation import DecoderProposal, NetworkProposal, SupervisedAnswers

__all__ = ["Combined", "WithKnownParameters", "AutomaticChoice", "INITIALISATIONS"]

INITIALISATIONS = ("classical", "network", "both")
"""Kinds of initial values."""


class Combined:
    """Proposals of several sources: where they differ, the best of each is refined and the lowest cost decides."""

    def __init__(self, parts):
        self.parts = list(parts)
        self.name = " and ".join(part.name for part in self.parts)

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return torch.cat([part(spec, model, names) for part in self.parts], 1)


class WithKnownParameters:
    """Proposals of another source and one more: known parameters, such as those of the average of a volume.

    Parameters
    ----------
    initial_values : InitialValues
        The other source, whose name is kept.
    params : array ``(n_params,)``
        FSL-MRS's parameter vector of ``model``.
    model : SignalModel

    Raises
    ------
    OptionError
        If the vector has another length than the model's, or is not finite.
    """

    def __init__(self, initial_values: InitialValues, params, model: SignalModel):
        vector = torch.as_tensor(np.asarray(params, float).copy())
        if vector.shape != (model.n_params,) or not torch.isfinite(vector).all():
            raise OptionError(
                f"{tuple(vector.shape)} numbers, all finite, were expected to be {model.n_params}: one for each"
                f" parameter of the {model.name} model with {model.n_metabs} metabolites and this baseline",
                option="x0",
                remedy="leave x0 out, or give such a vector",
            )
        self.initial_values, self.name = initial_values, initial_values.name
        if hasattr(initial_values, "parts"):
            first, *others = initial_values.parts
            self.parts = [WithKnownParameters(first, params, model), *others]
        theta, _, _ = model.unpack(vector)
        self.blocks, self.groups = model.split_theta(theta), torch.as_tensor(model.groups)

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        proposals = self.initial_values(spec, model, names)
        blocks = dict(self.blocks)
        if len(blocks["eps"]) != model.theta_sizes["eps"]:
            # Free shifts are released from a fit with shared ones, whose initial value is the median of each group.
            eps = blocks["eps"]
            blocks["eps"] = torch.stack([eps[self.groups == group].median() for group in range(model.n_groups)])
        known = model.join_theta(**blocks).to(proposals)
        return torch.cat([proposals, known.expand(len(proposals), 1, -1)], dim=1)


class Labelled:
    """Initial values whose name gives the reason for their use."""

    def __init__(self, initial_values: InitialValues, name: str):
        self.initial_values, self.name = initial_values, name

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        return self.initial_values(spec, model, names)


class AutomaticChoice:
    """Choice of the initial values for a model: network and classical search where the card of the network covers the
    data, the search alone elsewhere.

    Parameters
    ----------
    init : str, optional
        One of :data:`INITIALISATIONS`; by default as the data allow.
    network : str or path, optional
        Model to use, by name or folder; 'quant-universal' by default.

    Raises
    ------
    OptionError
        If there is no such kind or model, or the model does not propose initial values.
    """

    def __init__(self, init: str | None = None, network: str | Path | None = None):
        from ..networks.model_cards import KIND_WORDS, model_names, read_card

        if init is not None and init not in INITIALISATIONS:
            raise OptionError(
                "there are no such initial values",
                option="init",
                value=init,
                remedy=f"choose one of {', '.join(INITIALISATIONS)}",
            )
        if init == "classical" and network is not None:
            raise OptionError(
                "is not used with `init` classical", option="network", value=network, remedy="leave one of the two out"
            )
        self.init, self.given = init, network is not None
        self.network = network or "quant-universal"
        self.available = network is not None or init in ("network", "both") or self.network in model_names()
        if network is not None or init in ("network", "both"):
            card = read_card(self.network)
            if card.kind not in _KINDS:
                raise OptionError(
                    KIND_WORDS.get(card.kind, "proposes no initial values"),
                    option="network",
                    value=self.network,
                    remedy="give one that proposes initial values",
                )
            if init == "network" and not getattr(_KINDS[card.kind], "proposes", True):
                raise OptionError(
                    f"{self.network} gives concentrations only and proposes no initial values",
                    option="init",
                    value="network",
                    remedy="leave `init` out, the fits then begin with the classical search and the network's answers"
                    " stay as they are",
                )

    def for_model(self, model: SignalModel) -> InitialValues:
        """Return the initial values for a model; their name gives the reason if a network is there and not used."""
        if self.init == "classical" or not self.available:
            return ClassicalSearch()
        from ..networks.model_cards import load

        network, card = load(self.network)
        network = _KINDS[card.kind](network, card)
        reason = network.refuses(model)
        if reason and self.given:
            raise OptionError(
                f"is not for data like these: {reason}",
                option="network",
                value=self.network,
                remedy="leave it out, or train one for them",
            )
        if self.init == "network":
            return Labelled(network, f"{network.name}, outside its range: {reason}") if reason else network
        if reason:
            return Labelled(ClassicalSearch(), f"classical, not {network.name}: {reason}")
        if not getattr(network, "proposes", True):
            return network
        return Combined([network, ClassicalSearch()])


# By the kind on the card of a model.
_KINDS = {
    "quant-universal": NetworkProposal,
    "dq-nmm": DecoderProposal,
    "dq-pmm": DecoderProposal,
    "dq-rpmm": DecoderProposal,
    "ensemble": DecoderProposal,
    "supervised": SupervisedAnswers,
    "supervised-ensemble": SupervisedAnswers,
    "supervised-stack": SupervisedAnswers,
}
