"""Training of the supervised quantifiers: one network, several that vote, or a stack; with active learning."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..networks import encoders, model_cards
from ..networks import supervised_quantification as networks
from ..physics.macromolecules import add_macromolecules
from ..simulation import random_spectra, recipes
from .batches import batches_from, fixed_set, protocol_for, seeded
from .cards import protocol_ranges, recipe_entry
from .checkpoints import fingerprint, last_checkpoint
from .second_order import polish_weights
from .settings import Settings
from .trainer import Job, Training, fit, report, seed_weights

__all__ = ["SupervisedTraining"]

_HARD_SHARE = 0.25  # of the spectra of a round of active learning, as 5000 of 20000 in the paper


class SupervisedTraining(Training):
    """Training of supervised networks for a basis set, on simulated spectra whose concentrations are known.

    Parameters
    ----------
    basis : Basis
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    n_points : int
        Points of the FID that the network takes.
    settings : Settings, optional
    recipe : str or path, optional
        Of the simulated spectra; 'shamaei-table2' by default.
    encoder, arguments, water
        As for :class:`fsl_mrs_dl.networks.supervised_quantification.Supervised`.
    mm : str or path, optional
        Macromolecules to add to the basis set, see :func:`fsl_mrs_dl.physics.macromolecules.add_macromolecules`.
    n_members : int
        Networks that vote, trained one after the other.
    stack : tuple of str
        Encoders of networks that a stacking model is trained on, with ``hidden`` neurons in its layers.
    active : int
        Rounds of active learning: after each, a network is trained anew, a quarter of its spectra similar to those with
        the largest errors of the network before.
    n_signals : int, optional
        Train on so many spectra again and again, one in ten for validation; by default on new ones all the time.
    polish : int
        Iterations of second order, at most, on all of ``n_signals`` at once at the end; of networks with an encoder
        whose view is fixed (wscn, stacks) only.

    Raises
    ------
    BasisError, OptionError
    """

    def __init__(
        self,
        basis,
        *,
        dwelltime: float | None = None,
        n_points: int = 1024,
        settings: Settings | None = None,
        recipe: str | Path | None = None,
        encoder: str = "hatami",
        arguments: dict | None = None,
        mm: str | Path | None = None,
        water: bool = False,
        n_members: int = 1,
        stack: tuple[str, ...] = (),
        hidden: tuple[int, ...] = (1000, 500),
        active: int = 0,
        n_signals: int | None = None,
        polish: int = 0,
    ):
        self.settings = settings or Settings()
        self.encoder, self.hidden, self.active = encoder, tuple(hidden), active
        self.n_signals, self.polish = n_signals, polish
        if stack and n_members > 1:
            raise OptionError(
                "is of networks that are weighed, `ensemble` of networks that vote",
                option="stack",
                remedy="leave one of the two out",
            )
        if active < 0:
            raise OptionError("must not be negative", option="active", value=active)
        if self.settings.batch_size < 2:  # batch normalisation, and the ranges of the outputs
            raise OptionError(
                "supervised networks need at least 2 spectra in a batch",
                option="batch_size",
                value=self.settings.batch_size,
            )
        self.stacked = bool(stack)
        self.members = networks.stack_members(stack) if stack else (encoder,) * n_members
        self.recipe = recipes.Recipe.load(recipe or "shamaei-table2")
        self.basis = basis if mm is None else add_macromolecules(basis, mm)
        self.axes = Axes(n_points, dwelltime or basis.dwelltime, basis.spec_freq_mhz)
        self.arguments: dict = {
            "names": list(self.basis.names),
            "dwelltime": self.axes.dwelltime,
            "spec_freq_mhz": self.axes.spec_freq_mhz,
            "n_points": n_points,
            "water": water,
            "arguments": arguments or {},
        }
        self.protocol = protocol_for(self.basis, self.axes.dwelltime, n_points)
        self._few: list[dict] | None = None

    def network(self, seed: int | None = None) -> networks.Supervised:
        return self.network_of(self.members[0], seed)

    def network_of(self, encoder: str, seed: int | None = None) -> networks.Supervised:
        """Return a new network with this encoder, its range of concentrations taken from simulated spectra."""
        if self._few is None:
            self._few = self.batches(4_000_000, 8)
        seed_weights(self.settings.seed if seed is None else seed)
        network = networks.Supervised(**self.arguments, encoder=encoder)
        network.set_basis(self.basis.resampled(self.axes.dwelltime, self.axes.n_points))
        network.set_range(*(torch.cat([batch[key] for batch in self._few]) for key in ("fid", "conc")))
        return network

    def simulate(self, generator, hard: dict | None = None) -> dict[str, torch.Tensor]:
        """Return a batch of new spectra; with ``hard``, a part of them similar to those, see
        :func:`fsl_mrs_dl.networks.supervised_quantification.near`."""
        drawn = random_spectra.draw(self.recipe, self.settings.batch_size, self.protocol.names, generator)
        if hard is not None:
            drawn = networks.near(drawn, hard, _HARD_SHARE, generator)
        fid = random_spectra.render(drawn, self.protocol).fid
        return {"fid": fid, "conc": drawn["conc"], "snr": drawn["snr"]}

    def batches(self, first: int, n: int) -> list[dict[str, torch.Tensor]]:
        """Return ``n`` batches with the seeds from ``first`` on."""
        return [self.simulate(seeded(self.settings.seed, first + index)) for index in range(n)]

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return self.simulate(generator)

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        if "view" in batch:
            return {"total": network.loss_of_views(batch["view"], batch["target"])}
        return {"total": network.loss(batch["fid"], batch["conc"])}

    def start(self) -> dict:
        return {
            "recipe": self.recipe.content,
            "basis": fingerprint(self.basis.fids),
            "members": list(self.members),
            "active learning": self.active,
            "signals": self.n_signals,
            "polish": self.polish,
        }

    def card(self, network) -> dict:
        return self.card_of(network, self.encoder)

    def card_of(self, network, kind: str, rounds=(), minutes: float = 0.0, members=()) -> dict:
        """Return the card's entries.

        Parameters
        ----------
        network : torch.nn.Module
        kind : str
            Encoder, or kind of ensemble.
        rounds : list of dict
            Rounds of active learning before.
        minutes : float
            Time of the preparation of a fixed set.
        members : list of dict
            Encoder, steps and minutes of an ensemble's members.
        """
        # Other batches than those that chose the best checkpoint.
        held = self.batches(3_000_000, 8)
        with torch.no_grad():
            conc = torch.cat([network.concentrations(batch["fid"]) for batch in held])
        one = torch.zeros(1, self.axes.n_points, dtype=torch.complex64)
        n_signals = f"{self.n_signals} " if self.n_signals else ""
        return {
            "what": (
                f"Quantifies spectra of one protocol with one basis set ({kind}, supervised); fits start without it."
            ),
            "architecture": {"flops": encoders.count_flops(network, one)},
            "training": {
                "recipe": recipe_entry(self.recipe),
                "basis": f"{n_signals}simulated spectra on {self.basis.source}",
                "active_learning": list(rounds),
                "preparation_minutes": minutes,
                **({"members": list(members)} if members else {}),
            },
            "ranges": protocol_ranges(self.axes),
            "accuracy": networks.scores(conc, torch.cat([batch["conc"] for batch in held]), list(self.basis.names)),
        }

    # -- one network or several ----------------------------------------------------------------------------------------

    def run(self, job: Job) -> model_cards.Card:
        for encoder in dict.fromkeys(self.members[1:]):  # impossible encoders fail before anything is written
            self.network_of(encoder)
        first = self.network()
        if len(self.members) == 1:
            return self._train_rounds(self.members[0], job, self.settings)
        return self._run_members(job, first)

    def _train_part(
        self, network, job: Job, settings: Settings, kind: str, *, hard=None, rounds=(), members=()
    ) -> model_cards.Card:
        part = _Part(self, network, kind, hard=hard, rounds=rounds, members=members)
        job = replace(job, resume=last_checkpoint(job.folder).is_file())
        return fit(part, network, job, settings)

    def _train_rounds(self, encoder: str, job: Job, settings: Settings) -> model_cards.Card:
        """Train one network after its rounds of active learning; finished rounds stay."""
        hard = None
        rounds: list[dict] = []
        for index in range(self.active):
            folder = job.folder / "rounds" / str(index)
            if not (folder / "card.json").is_file():
                report(settings, f"Active learning, round {index + 1} of {self.active}:")
                part = replace(job, folder=folder, name=folder.name)
                network = self.network_of(encoder, settings.seed)
                self._train_part(network, part, settings, encoder, hard=hard, rounds=rounds)
            network, card = model_cards.load(folder)
            scores = list(card["accuracy"]["R2 of concentrations"].values())
            rounds.append({"median R2 before": float(np.median(scores)) if scores else None})
            batch_size = self.settings.batch_size
            n_spectra = settings.steps * batch_size
            pool = networks.pool_size(min(n_spectra, self.n_signals or n_spectra))
            hard = networks.hardest(network, self.batches(6_000_000 + 10_000 * index, -(-pool // batch_size)))
        if self.active:
            report(settings, "The network itself:")
        network = self.network_of(encoder, settings.seed)
        return self._train_part(network, job, settings, encoder, hard=hard, rounds=rounds)

    def _run_members(self, job: Job, first: networks.Supervised) -> model_cards.Card:
        """Train the members of an ensemble or a stack, each in a folder of its own, and join them; finished members
        stay."""
        n, settings = len(self.members), self.settings
        folders = [job.folder / "members" / str(index) for index in range(n)]
        for index, (encoder, folder) in enumerate(zip(self.members, folders)):
            if not (folder / "card.json").is_file():
                report(settings, f"Member {index + 1} of {n}, {encoder}:")
                part = replace(job, folder=folder, name=folder.name)
                self._train_rounds(encoder, part, replace(settings, seed=settings.seed + index))
        parts = [model_cards.load(folder) for folder in folders]
        for encoder, (network, card) in zip(self.members, parts):
            if network.settings != first.settings | {"encoder": encoder}:
                raise OptionError(
                    f"{card.folder} was begun with other options",
                    option="resume",
                    remedy="give the options that it was begun with",
                )
        seed_weights(settings.seed + n)  # the same layers, whatever was trained before them
        each = [self.arguments | {"encoder": encoder} for encoder in self.members]
        joined: networks.Stack | networks.Voting
        if self.stacked:
            joined = networks.Stack(each, self.hidden)
        else:
            joined = networks.Voting("supervised", n, each[0])
        for member, (network, _) in zip(joined.members, parts):
            member.load_state_dict(network.state_dict())
        members = [
            {"encoder": encoder, "steps": card["training"]["steps"], "minutes": card["training"]["minutes"]}
            for encoder, (_, card) in zip(self.members, parts)
        ]
        if isinstance(joined, networks.Stack):
            report(settings, "Stacking model:")
            return self._train_part(joined.fix_members(), job, settings, f"{n} stacked networks", members=members)
        joined.eval().requires_grad_(False)
        content = {"name": job.name, **self.card_of(joined, f"{n} networks that vote, {self.encoder}")}
        minutes = round(sum(card["training"]["minutes"] for _, card in parts), 1)
        content["training"] = parts[0][1]["training"] | {"minutes": minutes, "members": members}
        return model_cards.save(job.folder, joined, content)


class _Part(Training):
    """Training of one network: alone, in a round of active learning, as a member, or as stacking model.

    A fixed set of spectra is simulated when it is made.
    """

    def __init__(self, whole: SupervisedTraining, network, kind: str, *, hard=None, rounds=(), members=()):
        self.whole, self.settings, self.kind = whole, whole.settings, kind
        self.rounds, self.members = rounds, members
        self._hard, self._sets, began = hard, None, time.monotonic()
        if whole.n_signals is not None:
            self._sets = self._fixed_sets(network, hard, whole.n_signals)
            self._draw, self._draw_held = (batches_from(part, self.settings.batch_size) for part in self._sets)
        self.minutes = round((time.monotonic() - began) / 60, 1)

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return self._draw(generator) if self._sets else self.whole.simulate(generator, self._hard)

    def held_back(self, generator) -> dict[str, torch.Tensor]:
        return self._draw_held(generator) if self._sets else self.whole.simulate(generator)

    def _fixed_sets(self, network, hard, n_signals: int) -> tuple[dict, dict]:
        """Return the spectra for training and validation, as views and targets, which are the same every time."""

        def views(hard, generator) -> dict:
            batch = self.whole.simulate(generator, hard)
            with torch.no_grad():
                return {"view": network.views(batch["fid"]), "target": network.targets(batch["fid"], batch["conc"])}

        sizes = (n_signals, self.settings.batch_size, self.settings.seed, self.whole.axes.n_points)
        used, held = fixed_set(lambda generator: views(None, generator), *sizes)
        if hard is not None:
            used, _ = fixed_set(lambda generator: views(hard, generator), *sizes)
        return used, held

    def network(self, seed: int | None = None):
        return self.whole.network(seed)

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        return self.whole.loss(network, batch)

    def start(self) -> dict:
        return self.whole.start()

    def card(self, network) -> dict:
        return self.whole.card_of(network, self.kind, self.rounds, self.minutes, self.members)

    def finish(self, network) -> dict:
        if not (self.whole.polish and self._sets and network.keeps_view):
            return {}
        return polish_weights(network, *self._sets, self.whole.polish)
