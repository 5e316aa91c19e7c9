"""Training of the self-supervised quantifiers DQ-nMM, DQ-pMM and DQ-rpMM."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning
import torch

from ..core import units
from ..core.errors import DataError, OptionError
from ..networks import encoders, model_cards, novelty, self_supervised_quantification
from ..physics.macromolecules import add_macromolecules, in_lines
from ..simulation import random_spectra, recipes
from . import augmentation
from .batches import _batches_of, _kept, _protocol_for, _used_and_held
from .loop import _check_folder, _fingerprint, _run
from .settings import Settings
from .teacher import _TAUGHT, _taught, _teacher

__all__ = ["train_quantifier"]


def train_quantifier(
    method: str,
    basis,
    output: str | Path,
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
    name: str | None = None,
    resume: bool = False,
    command: str = "",
    source: str = "spectra of yours",
) -> model_cards.Card:
    """Train DQ-nMM, DQ-pMM or DQ-rpMM for a basis set, on simulated or on measured spectra, without a truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.self_supervised_quantification.METHODS`.
    basis : Basis
    output, settings, name, resume, command
        As for :func:`train`.
    fids : complex array ``(n, n_points)``, optional
        Measured spectra's FIDs; one in ten, at least one, is held back.  Simulated ones by default.
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    recipe : str or path, optional
        Of simulated spectra ('shamaei-table2' by default), or of how measured ones are varied ('augment-spectra').
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    mm : str or path, optional
        Macromolecules to add to the basis set, see :func:`fsl_mrs_dl.physics.macromolecules.add_macromolecules`.
    teacher : str, optional
        'ml' or 'posterior_mean': learn from fits of the training spectra, too, whose truth is not looked at.
    prior : str or path, optional
        Of the teacher's posterior mean, see :func:`fsl_mrs_dl.fitting.priors.load`; the recipe's own concentrations by
        default.
    lam : float, optional
        Weight of DQ-rpMM's rule, the paper's lambda.
    n_members : int
        Networks of an ensemble, trained one after the other.
    n_signals : int, optional
        Train on so many simulated spectra, over and over, one in ten held back; by default on new ones all the time,
        and on 20000 with a teacher.
    source : str
        What the card calls the data.

    Raises
    ------
    BasisError, DataError, OptionError, OutputError
    """
    settings = settings or Settings()
    if method not in self_supervised_quantification.METHODS:
        raise OptionError(
            f"--method {method}: there is no such method; choose one of"
            f" {', '.join(self_supervised_quantification.METHODS)}."
        )
    if lam is not None and method != "dq-rpmm":
        raise OptionError(f"--lambda: is of dq-rpmm, not of {method}; leave it out.")
    drawn_from = recipes.Recipe.load(recipe or ("shamaei-table2" if fids is None else "augment-spectra"))
    _check_folder(Path(output), resume)
    if mm is not None:
        basis = add_macromolecules(basis, mm)
    dwelltime, frequency = dwelltime or basis.dwelltime, basis.spec_freq_mhz
    lines = basis if method == "dq-nmm" else in_lines(basis)[0]
    makes = {"names": list(lines.names), "dwelltime": dwelltime, "spec_freq_mhz": frequency, "encoder": encoder}
    makes |= {} if lam is None else {"lam": lam}
    if prior is not None and teacher != "posterior_mean":
        raise OptionError("--prior: is the teacher's; give --teacher posterior_mean, or leave it out.")

    def new(seed: int):
        lightning.seed_everything(seed, verbose=False)
        network = self_supervised_quantification.METHODS[method](**makes)
        network.set_basis(lines.resampled(dwelltime, network.n_points))
        return network

    network = new(settings.seed)
    n = settings.batch_size
    teach = (
        None
        if teacher is None
        else _teacher(teacher, prior or (drawn_from if fids is None else "auto"), basis, lines, dwelltime)
    )
    if fids is None:
        protocol = _protocol_for(basis, dwelltime, network.n_points)

        def made(generator):
            drawn = random_spectra.draw(drawn_from, n, protocol.names, generator)
            return {"fid": random_spectra.render(drawn, protocol).fid, "conc": drawn["conc"]}

        makers, trained_on = (made, made), f"simulated spectra on {basis.source}"
        many = n_signals or (_TAUGHT if teacher else None)
        if many is not None:
            makers, trained_on = (
                _repeated(made, many, n, settings.seed, network.n_points, teach),
                f"{many} {trained_on}",
            )
    else:
        parts = _used_and_held(_without_lipids(fids, drawn_from, dwelltime, frequency, source), settings.seed, source)
        makers = tuple(
            lambda generator, which=which: augmentation.augment(which, drawn_from, dwelltime, frequency, n, generator)
            for which in parts
        )
        trained_on = f"{len(parts[0])} measured spectra ({source}), basis set {basis.source}"
        if teacher:
            makers = tuple(_taught(make, teach, n, settings.seed + k) for k, make in enumerate(makers))
    makers[0](torch.Generator())  # a recipe that cannot be drawn from is found out before anything is written

    def held():
        # Other batches than those that chose the best checkpoint.
        return [makers[1](torch.Generator().manual_seed(settings.seed * 1_000_003 + 3_000_000 + k)) for k in range(8)]

    def card(network):
        return {
            "name": name or Path(output).name,
            "what": (
                f"Quantifies spectra of one protocol with one basis set ({method}, self-supervised); proposes where"
                " their fits start."
            ),
            "architecture": {
                "flops": encoders.count_flops(network, torch.zeros(1, network.n_points, dtype=torch.complex64))
            },
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": trained_on,
                "teacher": teacher,
                "prior": None if prior is None else str(prior),
            },
            "ranges": {
                "nucleus": ["1H"],
                "spec_freq_mhz": [frequency * 0.995, frequency * 1.005],
                "dwelltime": [dwelltime * 0.999, dwelltime * 1.001],
            },
            "accuracy": _quantifier_accuracy(network, held(), basis.names),
            "clean": novelty.of_clean(network, [batch["fid"] for batch in held()]),
        }

    begun = {
        "recipe": drawn_from.content,
        "basis": _fingerprint(lines.fids),
        "spectra": None if fids is None else _fingerprint(fids),
        "teacher": teacher,
        "prior": None if prior is None else str(prior),
        "signals": n_signals,
    }

    def run(network, folder, settings, resume):
        return _run(
            network,
            folder,
            settings,
            begun=begun,
            train_make=makers[0],
            held_make=makers[1],
            loss=lambda network, batch: {"total": network.loss(batch["fid"], batch.get("target"), batch.get("spread"))},
            resume=resume,
            card=card,
        )

    if n_members == 1:
        return run(network, output, settings, resume)
    return _ensemble(method, makes, n_members, Path(output), settings, new, run, held, basis.names)


def _ensemble(
    method, makes, n_members: int, output: Path, settings: Settings, new, run, held, names
) -> model_cards.Card:
    """Train the members of an ensemble, each in a folder of its own, and put them together; members that are there
    stay."""
    ensemble = self_supervised_quantification.Ensemble(method, n_members, makes)
    cards = []
    for index in range(n_members):
        folder = output / "members" / str(index)
        if not (folder / "card.json").is_file():
            going = (folder / "checkpoints" / "last.ckpt").is_file()
            if settings.progress:
                print(f"Member {index + 1} of {n_members}:", file=sys.stderr, flush=True)
            run(new(settings.seed + index), folder, replace(settings, seed=settings.seed + index), going)
        network, card = model_cards.load(folder)
        ensemble.members[index].load_state_dict(network.state_dict())
        cards.append(card)
    content = {key: cards[0][key] for key in ("training", "ranges")}
    content["training"] = content["training"] | {
        "minutes": round(sum(card["training"]["minutes"] for card in cards), 1)
    }
    ensemble.eval().requires_grad_(False)
    return model_cards.save(
        output,
        ensemble,
        {
            "name": output.name,
            "what": (
                cards[0]["what"].replace("spectra of one protocol", f"spectra of one protocol by {n_members} networks")
            ),
            "architecture": {"flops": n_members * cards[0]["architecture"]["flops"]},
            "accuracy": _quantifier_accuracy(ensemble, held(), names),
            "clean": novelty.of_clean(ensemble, [batch["fid"] for batch in held()]),
            **content,
        },
    )


def _quantifier_accuracy(network, batches, names) -> dict:
    """What a network leaves unexplained of held-back spectra and, where the truth is known, how near its concentrations
    are."""
    first = network.members[0] if isinstance(network, self_supervised_quantification.Ensemble) else network
    with torch.no_grad():
        left = [
            float(
                (first.prepared(batch["fid"]) - first.limited(first.decode(network(batch["fid"]))))
                .abs()
                .square()
                .mean()
            )
            / float(first.prepared(batch["fid"]).abs().square().mean())
            for batch in batches
        ]
        found = {
            "held-back spectra": {
                "part of the signal's energy left unexplained (%)": float(f"{100 * sum(left) / len(left):.4g}")
            }
        }
        if "conc" not in batches[0]:
            return found
        conc = torch.cat([network.concentrations(batch["fid"]) for batch in batches])
    truth = torch.cat([batch["conc"] for batch in batches])
    variance = truth.var(0)
    found["R2 of concentrations"] = {
        one: float(
            f"{1 - float((conc[:, first.names.index(one)] - truth[:, column]).square().mean() / variance[column]):.3f}"
        )
        for column, one in enumerate(names)
        if one in first.names and float(variance[column]) > 0
    }
    return found


def _repeated(
    made: Callable, n_signals: int, n: int, seed: int, n_points: int, teach: Callable | None = None
) -> tuple[Callable, Callable]:
    """Batches out of a set of simulated spectra: to train on, and held back."""
    return tuple(_batches_of(part, n) for part in _kept(made, n_signals, n, seed, n_points, teach))


_LIPID_PPM, _BRAIN_PPM = (0.0, 1.85), (1.85, 4.2)


def _without_lipids(fids, recipe, dwelltime: float, spec_freq_mhz: float, source: str) -> torch.Tensor:
    """Measured FIDs without those in which lipids are strong (section 4.1.2 of the paper), where the recipe says how
    strong."""
    fids = torch.as_tensor(fids).to(torch.complex64)
    most = (recipe.get("augment") or {}).get("most_lipid")
    if most is None:
        return fids
    ppm = units.ppm_axis(fids.shape[-1], dwelltime, spec_freq_mhz)
    size = units.fid_to_spec(fids).abs()
    low, high = (size[:, (ppm > a) & (ppm < b)].mean(-1) for a, b in (_LIPID_PPM, _BRAIN_PPM))
    keep = (low <= most * high) | ~torch.isfinite(low)
    if int(keep.sum()) < 4:
        raise DataError(
            f"{source}: lipids are stronger than {most:g} times the metabolites in all but {int(keep.sum())} of"
            f" {len(fids)} spectra; give other files, or a recipe with a higher 'most_lipid'."
        )
    if not keep.all():
        print(f"Left out for their lipids: {int((~keep).sum())} of {len(fids)} spectra.", file=sys.stderr, flush=True)
    return fids[keep]
