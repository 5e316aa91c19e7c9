"""Training of the supervised quantifiers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import torch

from ..core.errors import OptionError
from ..networks import encoders, model_cards, supervised_quantification
from ..physics.macromolecules import add_macromolecules
from ..simulation import random_spectra, recipes
from .batches import _batches_of, _kept, _protocol_for
from .loop import _check_folder, _fingerprint, _run, _say
from .settings import Settings

__all__ = ["train_regressor"]


def train_regressor(
    basis,
    output,
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
    name: str | None = None,
    resume: bool = False,
    command: str = "",
) -> model_cards.Card:
    """Train a :class:`fsl_mrs_dl.networks.supervised_quantification.Supervised` for a basis set, on simulated spectra
    whose concentrations are known.

    Parameters
    ----------
    basis : Basis
    output, settings, name, resume, command
        As for :func:`train`.
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    n_points : int
        Points of the FID that are seen.
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
        Rounds of active learning: after each, a network is trained anew, a quarter of its spectra like those that the
        one before was worst at.
    n_signals : int, optional
        Train on so many spectra, over and over, one in ten held back; by default on new ones all the time.
    polish : int
        Iterations of second order, at most, on all of ``n_signals`` at once at the end; of networks that keep their
        view (wscn, stacks) only.

    Raises
    ------
    BasisError, OptionError, OutputError
    """
    settings, output = settings or Settings(), Path(output)
    if stack and n_members > 1:
        raise OptionError(
            "--stack: is of networks that are weighed, --ensemble of such that vote; leave one of the two out."
        )
    if active < 0:
        raise OptionError(f"--active-learning {active}: must not be negative.")
    if settings.batch_size < 2:
        # Batch normalisation, and ranges that numbers are scaled by.
        raise OptionError(
            f"--batch_size {settings.batch_size}: supervised networks need at least 2 spectra in a batch."
        )
    members = supervised_quantification.stack_members(stack) if stack else (encoder,) * n_members
    drawn_from = recipes.Recipe.load(recipe or "shamaei-table2")
    _check_folder(output, resume)
    basis = basis if mm is None else add_macromolecules(basis, mm)
    dwelltime, frequency, n = dwelltime or basis.dwelltime, basis.spec_freq_mhz, settings.batch_size
    protocol = _protocol_for(basis, dwelltime, n_points)
    names = list(basis.names)

    def made(generator, hard=None):
        drawn = random_spectra.draw(drawn_from, n, protocol.names, generator)
        drawn = drawn if hard is None else supervised_quantification.near(drawn, hard, _HARD_SHARE, generator)
        return {"fid": random_spectra.render(drawn, protocol).fid, "conc": drawn["conc"], "snr": drawn["snr"]}

    def batches(offset: int, count: int):
        return [made(torch.Generator().manual_seed(settings.seed * 1_000_003 + offset + k)) for k in range(count)]

    few = batches(4_000_000, 8)

    def makes(which: str) -> dict:
        return {
            "names": names,
            "dwelltime": dwelltime,
            "spec_freq_mhz": frequency,
            "encoder": which,
            "n_points": n_points,
            "water": water,
            "arguments": arguments or {},
        }

    def new(which: str, seed: int):
        lightning.seed_everything(seed, verbose=False)
        network = supervised_quantification.Supervised(**makes(which))
        network.set_basis(basis.resampled(dwelltime, n_points))
        network.set_range(torch.cat([one["fid"] for one in few]), torch.cat([one["conc"] for one in few]))
        return network

    for which in dict.fromkeys(members[1:]):  # what cannot be made is found out before anything is written
        new(which, settings.seed)
    first = new(members[0], settings.seed)

    told: list[dict] = []  # of members, on the card of what is made of them

    def content(network, what: str, folder: Path, rounds=(), prepared: float = 0.0) -> dict:
        # Other batches than those that chose the best checkpoint.
        held = batches(3_000_000, 8)
        with torch.no_grad():
            conc = torch.cat([network.concentrations(one["fid"]) for one in held])
        return {
            "name": name if name and folder == output else folder.name,
            "what": (
                f"Quantifies spectra of one protocol with one basis set ({what}, supervised); fits start without it."
            ),
            "architecture": {"flops": encoders.count_flops(network, torch.zeros(1, n_points, dtype=torch.complex64))},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": f"{f'{n_signals} ' if n_signals else ''}simulated spectra on {basis.source}",
                "active_learning": list(rounds),
                "preparation_minutes": prepared,
                **({"members": told} if told else {}),
            },
            "ranges": {
                "nucleus": ["1H"],
                "spec_freq_mhz": [frequency * 0.995, frequency * 1.005],
                "dwelltime": [dwelltime * 0.999, dwelltime * 1.001],
            },
            "accuracy": supervised_quantification.scores(conc, torch.cat([one["conc"] for one in held]), names),
        }

    begun = {
        "recipe": drawn_from.content,
        "basis": _fingerprint(basis.fids),
        "members": list(members),
        "active learning": active,
        "signals": n_signals,
        "polish": polish,
    }

    def makers(network, hard) -> tuple[Callable, Callable, tuple[dict, dict] | None]:
        """What makes batches to train on and to hold back, and what they are out of."""
        if n_signals is None:
            return lambda generator: made(generator, hard), made, None
        seen = _views_of(network)
        used, held = _kept(lambda generator: seen(made(generator)), n_signals, n, settings.seed, n_points)
        if hard is not None:
            used, _ = _kept(lambda generator: seen(made(generator, hard)), n_signals, n, settings.seed, n_points)
        return _batches_of(used, n), _batches_of(held, n), (used, held)

    def run(network, folder: Path, settings: Settings, what: str, hard=None, rounds=()) -> model_cards.Card:
        began = time.monotonic()
        used, held, sets = makers(network, hard)
        prepared = round((time.monotonic() - began) / 60, 1)
        return _run(
            network,
            folder,
            settings,
            begun=begun,
            train_make=used,
            held_make=held,
            loss=_regression_loss,
            resume=(folder / "checkpoints" / "last.ckpt").is_file(),
            card=lambda network: content(network, what, folder, rounds, prepared),
            finish=(
                (lambda network: _polished(network, *sets, polish)) if polish and sets and network.keeps_view else None
            ),
        )

    def train_one(which: str, folder: Path, settings: Settings) -> model_cards.Card:
        """One network, after its rounds of active learning; rounds that are there stay."""
        hard, rounds = None, []
        for index in range(active):
            part = folder / "rounds" / str(index)
            if not (part / "card.json").is_file():
                _say(settings, f"Active learning, round {index + 1} of {active}:")
                run(new(which, settings.seed), part, settings, which, hard, rounds)
            network, card = model_cards.load(part)
            learnt = list(card["accuracy"]["R2 of concentrations"].values())
            rounds.append({"median R2 before": float(np.median(learnt)) if learnt else None})
            pool = supervised_quantification.pool_size(min(settings.steps * n, n_signals or settings.steps * n))
            hard = supervised_quantification.hardest(network, batches(6_000_000 + 10_000 * index, -(-pool // n)))
        if active:
            _say(settings, "The network itself:")
        return run(new(which, settings.seed), folder, settings, which, hard, rounds)

    if len(members) == 1:
        return train_one(members[0], output, settings)
    for index, which in enumerate(members):
        folder = output / "members" / str(index)
        if not (folder / "card.json").is_file():
            _say(settings, f"Member {index + 1} of {len(members)}, {which}:")
            train_one(which, folder, replace(settings, seed=settings.seed + index))
    parts = [model_cards.load(output / "members" / str(index)) for index in range(len(members))]
    for which, (network, card) in zip(members, parts):
        if network.settings != first.settings | {"encoder": which}:
            raise OptionError(
                f"--resume: {card.folder} was begun with other options; give the options that it was begun with."
            )
    told += [
        {"encoder": which, "steps": card["training"]["steps"], "minutes": card["training"]["minutes"]}
        for which, (_, card) in zip(members, parts)
    ]
    lightning.seed_everything(
        settings.seed + len(members), verbose=False
    )  # the same layers, whatever was trained before them
    together = (
        supervised_quantification.Stack([makes(which) for which in members], hidden)
        if stack
        else supervised_quantification.Voting("supervised", n_members, makes(encoder))
    )
    for member, (network, _) in zip(together.members, parts):
        member.load_state_dict(network.state_dict())
    if stack:
        _say(settings, "Stacking model:")
        return run(together.fix_members(), output, settings, f"{len(members)} stacked networks")
    together.eval().requires_grad_(False)
    done = content(together, f"{n_members} networks that vote, {encoder}", output)
    first_card = parts[0][1]
    done["training"] = first_card["training"] | {
        "minutes": round(sum(card["training"]["minutes"] for _, card in parts), 1),
        "members": told,
    }
    return model_cards.save(output, together, done)


def _polished(network, used: dict, held: dict, iterations: int) -> dict:
    """Go on by L-BFGS on all spectra at once for as long as held-back ones gain; what the card says of it.

    A small network that thousands of numbers go into is far from its optimum when batches show no more gain.
    """
    network.eval()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.LBFGS(weights, max_iter=_AT_ONCE, history_size=30, line_search_fn="strong_wolfe")

    of_used, of_held = (network.loss_on(part["view"], part["target"]) for part in (used, held))

    def closure():
        optimiser.zero_grad()
        loss = of_used()
        loss.backward()
        return loss

    def on_held() -> float:
        with torch.no_grad():
            return float(of_held())

    def state() -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in weights]

    least, best, done, waited = on_held(), state(), 0, 0
    while done < iterations and waited < _WITHOUT_GAIN:
        optimiser.step(closure)
        done, value = done + _AT_ONCE, on_held()
        waited += 1
        if value < least:
            least, best, waited = value, state(), 0
    with torch.no_grad():
        for weight, kept in zip(weights, best):
            weight.copy_(kept)
    return {"polished": done, "validation_loss": least}


_AT_ONCE, _WITHOUT_GAIN = 20, 10


def _views_of(network) -> Callable:
    """Turns batches into what the encoder looks at and what it should say, which are the same whenever a spectrum comes
    again."""

    def views(part: dict) -> dict:
        with torch.no_grad():
            return {"view": network.views(part["fid"]), "target": network.targets(part["fid"], part["conc"])}

    return views


def _regression_loss(network, batch: dict) -> dict:
    if "view" in batch:
        return {"total": network.loss_of_views(batch["view"], batch["target"])}
    return {"total": network.loss(batch["fid"], batch["conc"])}


_HARD_SHARE = 0.25  # of the spectra of a round, as 5000 of 20000 in the paper
