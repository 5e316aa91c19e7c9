"""Training of the self-supervised quantifiers DQ-nMM, DQ-pMM and DQ-rpMM, and of ensembles of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..networks import encoders, model_cards
from ..networks.out_of_distribution import clean_statistics
from ..networks.self_supervised_quantification import METHODS, DQnMM, Ensemble
from ..physics.macromolecules import add_macromolecules, in_lines
from ..simulation import random_spectra, recipes
from . import teacher as teachers
from .augmentation import augment
from .batches import batches_from, fixed_set, protocol_for, seeded, split_usable
from .cards import protocol_ranges, recipe_entry, rounded
from .checkpoints import fingerprint, last_checkpoint
from .measured import without_lipids
from .settings import Settings
from .trainer import Job, Training, fit, report, seed_weights

__all__ = ["SelfSupervisedTraining"]


class SelfSupervisedTraining(Training):
    """Training of DQ-nMM, DQ-pMM or DQ-rpMM for a basis set, on simulated or on measured spectra, without a truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.self_supervised_quantification.METHODS`.
    basis : Basis
    fids : complex array ``(n, n_points)``, optional
        Measured spectra's FIDs; one in ten, at least one, is for validation.  Simulated ones by default.
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    settings : Settings, optional
    recipe : str or path, optional
        Of simulated spectra ('shamaei-table2' by default), or of the variation of measured ones ('augment-spectra').
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    mm : str or path, optional
        Macromolecules to add to the basis set, see :func:`fsl_mrs_dl.physics.macromolecules.add_macromolecules`.
    teacher : str, optional
        'ml' or 'posterior_mean': learn from fits of the training spectra, too; their truth is not used.
    prior : str or path, optional
        Of the teacher's posterior mean, see :func:`fsl_mrs_dl.fitting.priors.load`; the recipe's own concentrations by
        default.
    lam : float, optional
        Weight of DQ-rpMM's regularisation, the paper's lambda.
    n_members : int
        Networks of an ensemble, trained one after the other.
    n_signals : int, optional
        Train on so many simulated spectra again and again, one in ten for validation; by default always on new ones,
        and on :data:`fsl_mrs_dl.training.teacher.N_TAUGHT` with a teacher.
    source : str
        Name of the data on the model card.

    Raises
    ------
    BasisError, DataError, OptionError
    """

    def __init__(
        self,
        method: str,
        basis,
        *,
        fids=None,
        dwelltime: float | None = None,
        settings: Settings | None = None,
        recipe: str | Path | None = None,
        encoder: str = "cnn",
        mm: str | Path | None = None,
        teacher: str | None = None,
        prior: str | Path | None = None,
        lam: float | None = None,
        n_members: int = 1,
        n_signals: int | None = None,
        source: str = "spectra of yours",
    ):
        if method not in METHODS:
            raise OptionError(
                "there is no such method", option="method", value=method, remedy=f"choose one of {', '.join(METHODS)}"
            )
        if lam is not None and method != "dq-rpmm":
            raise OptionError(f"is of dq-rpmm, not of {method}", option="lam", remedy="leave it out")
        if prior is not None and teacher != "posterior_mean":
            raise OptionError(
                "is the teacher's", option="prior", remedy="give `teacher` posterior_mean, or leave it out"
            )
        teachers.check_teacher(teacher)
        self.settings, self.method, self.fids, self.source = settings or Settings(), method, fids, source
        self.teacher, self.prior, self.n_members, self.n_signals = teacher, prior, n_members, n_signals
        self.recipe = recipes.Recipe.load(recipe or ("shamaei-table2" if fids is None else "augment-spectra"))
        self.basis = basis if mm is None else add_macromolecules(basis, mm)
        dwelltime, frequency = dwelltime or basis.dwelltime, basis.spec_freq_mhz
        # The basis set of the network: DQ-pMM and DQ-rpMM have lines in place of a measured pattern.
        self.lines = self.basis if method == "dq-nmm" else in_lines(self.basis)[0]
        self.arguments = {
            "names": list(self.lines.names),
            "dwelltime": dwelltime,
            "spec_freq_mhz": frequency,
            "encoder": encoder,
        } | ({} if lam is None else {"lam": lam})

    def network(self, seed: int | None = None):
        seed_weights(self.settings.seed if seed is None else seed)
        network = METHODS[self.method](**self.arguments)
        network.set_basis(self.lines.resampled(network.dwelltime, network.n_points))
        return network

    def prepare(self, network) -> None:
        self._axes = Axes(network.n_points, network.dwelltime, network.spec_freq_mhz)
        teach = None
        if self.teacher is not None:
            prior = self.prior or (self.recipe if self.fids is None else "auto")
            teach = teachers.fitted_targets(self.teacher, prior, self.basis, self.lines, network.dwelltime)
        if self.fids is None:
            self._prepare_simulated(teach)
        else:
            self._prepare_measured(teach)

    def _prepare_simulated(self, teach: Callable | None) -> None:
        settings, n_points = self.settings, self._axes.n_points
        protocol = protocol_for(self.basis, self._axes.dwelltime, n_points)

        def simulate(generator):
            drawn = random_spectra.draw(self.recipe, settings.batch_size, protocol.names, generator)
            return {"fid": random_spectra.render(drawn, protocol).fid, "conc": drawn["conc"]}

        self._batch = self._held_back = simulate
        self._data_name = f"simulated spectra on {self.basis.source}"
        n_signals = self.n_signals or (teachers.N_TAUGHT if self.teacher else None)
        if n_signals is not None:
            parts = fixed_set(simulate, n_signals, settings.batch_size, settings.seed, n_points, teach)
            self._batch, self._held_back = (batches_from(part, settings.batch_size) for part in parts)
            self._data_name = f"{n_signals} {self._data_name}"

    def _prepare_measured(self, teach: Callable | None) -> None:
        settings = self.settings
        usable = without_lipids(self.fids, self.recipe, self._axes, self.source)
        parts = split_usable(usable, settings.seed, self.source)
        makers = [
            lambda generator, part=part: augment(part, self.recipe, self._axes, settings.batch_size, generator)
            for part in parts
        ]
        if teach is not None:
            makers = [
                teachers.with_fitted_targets(make, teach, settings.batch_size, settings.seed + index)
                for index, make in enumerate(makers)
            ]
        self._batch, self._held_back = makers
        self._data_name = f"{len(parts[0])} measured spectra ({self.source}), basis set {self.basis.source}"

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return self._batch(generator)

    def held_back(self, generator) -> dict[str, torch.Tensor]:
        return self._held_back(generator)

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        return {"total": network.loss(batch["fid"], batch.get("target"), batch.get("spread"))}

    def start(self) -> dict:
        return {
            "recipe": self.recipe.content,
            "basis": fingerprint(self.lines.fids),
            "spectra": None if self.fids is None else fingerprint(self.fids),
            "teacher": self.teacher,
            "prior": None if self.prior is None else str(self.prior),
            "signals": self.n_signals,
        }

    def card(self, network) -> dict:
        one = torch.zeros(1, self._axes.n_points, dtype=torch.complex64)
        return {
            "what": (
                f"Quantifies spectra of one protocol with one basis set ({self.method}, self-supervised); proposes"
                " where their fits start."
            ),
            "architecture": {"flops": encoders.count_flops(network, one)},
            "training": {
                "recipe": recipe_entry(self.recipe),
                "basis": self._data_name,
                "teacher": self.teacher,
                "prior": None if self.prior is None else str(self.prior),
            },
            "ranges": protocol_ranges(self._axes),
            **self._measured_anew(network),
        }

    def _measured_anew(self, network) -> dict:
        """Return the card's accuracy and statistics of clean data, on batches that chose no checkpoint."""
        batches = [self.held_back(seeded(self.settings.seed, 3_000_000 + index)) for index in range(8)]
        return {
            "accuracy": _accuracy(network, batches, self.basis.names),
            "clean": clean_statistics(network, [batch["fid"] for batch in batches]),
        }

    def run(self, job: Job) -> model_cards.Card:
        if self.n_members == 1:
            return super().run(job)
        self.prepare(self.network())
        self.batch(torch.Generator())
        return self._run_ensemble(job)

    def _run_ensemble(self, job: Job) -> model_cards.Card:
        """Train the members of an ensemble, each in a folder of its own, and join them; finished members stay."""
        n, settings = self.n_members, self.settings
        ensemble = Ensemble(self.method, n, self.arguments)
        cards = []
        for index, member in enumerate(ensemble.members):
            folder = job.folder / "members" / str(index)
            if not (folder / "card.json").is_file():
                report(settings, f"Member {index + 1} of {n}:")
                part = replace(job, folder=folder, resume=last_checkpoint(folder).is_file())
                seed = settings.seed + index
                fit(self, self.network(seed), part, replace(settings, seed=seed))
            network, card = model_cards.load(folder)
            member.load_state_dict(network.state_dict())
            cards.append(card)
        ensemble.eval().requires_grad_(False)
        first = cards[0]
        minutes = round(sum(card["training"]["minutes"] for card in cards), 1)
        content = {
            "name": job.name,
            "what": first["what"].replace("spectra of one protocol", f"spectra of one protocol by {n} networks"),
            "architecture": {"flops": n * first["architecture"]["flops"]},
            **self._measured_anew(ensemble),
            "training": first["training"] | {"minutes": minutes},
            "ranges": first["ranges"],
        }
        return model_cards.save(job.folder, ensemble, content)


def _accuracy(network, batches: list[dict], names) -> dict:
    """Return the unexplained part of held-back spectra and, where the truth is known, R2 of the concentrations."""
    first = network.networks()[0] if isinstance(network, Ensemble) else network
    assert isinstance(first, DQnMM)

    def unexplained(fid) -> float:
        prepared = first.prepared(fid)
        residual = prepared - first.limited(first.decode(network(fid)))
        return float(residual.abs().square().mean()) / float(prepared.abs().square().mean())

    with torch.no_grad():
        parts = [unexplained(batch["fid"]) for batch in batches]
        label = "part of the signal's energy left unexplained (%)"
        accuracy = {"held-back spectra": {label: rounded(100 * sum(parts) / len(parts))}}
        if "conc" not in batches[0]:
            return accuracy
        conc = torch.cat([network.concentrations(batch["fid"]) for batch in batches])
    truth = torch.cat([batch["conc"] for batch in batches])
    variance = truth.var(0)
    accuracy["R2 of concentrations"] = {
        name: rounded(
            1 - float((conc[:, first.names.index(name)] - truth[:, column]).square().mean() / variance[column]), ".3f"
        )
        for column, name in enumerate(names)
        if name in first.names and float(variance[column]) > 0
    }
    return accuracy
