"""Trainings of the benchmark of supervised networks: which there are, how large they are, and running them side by
side."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.papers import datasets
from fsl_mrs_dl.io.files import fingerprint
from fsl_mrs_dl.networks import model_cards

__all__ = [
    "PARTS",
    "SCALES",
    "SHALLOW",
    "LONG",
    "Scale",
    "Job",
    "jobs_of",
    "folder_of",
    "minutes_of",
    "cards_in",
    "fingerprint_of",
    "basis_and_recipe",
    "run_jobs",
    "settings_of",
    "train_job",
    "train_stacks",
]

PARTS = ("networks", "ensembles", "active-learning", "water", "dss", "scalogram")
"""What is trained and measured, in this order; fits are measured with the first of them that is there."""

SHALLOW, LONG = "shallownet-2d2c", "resnet-1d"
_STACKED = {"shallowens-5n": (5, 0), "hybridens-2n": (1, 1), "hybridens-10n": (5, 5)}


@dataclass(frozen=True)
class Scale:
    """How large a benchmark is.

    ``budgets`` gives for an encoder its share of the published numbers of kernels, batches, and learning rate; ``many``
    are batches of those that are not in it; ``held`` is how many validations without a gain end a training, 0 for none.
    ``dss`` gives of wavelet scattering on the DSS batches, their size, rate, weight decay, and the most iterations of
    second order after them; ``scalogram`` of the networks of that comparison their arguments, batches and points;
    ``steps`` is what all trainings were cut to, if they were.
    """

    budgets: dict
    many: tuple[float, int, float]
    batch_size: int
    signals: int
    test: int
    held: int
    dss: dict
    scalogram: tuple[dict, int, int]
    stack_steps: int
    newton: int
    steps: int | None = None


SCALES = {
    "small": Scale(
        budgets={
            "cnn": (1.0, 3000, 0.002),
            "fc": (1.0, 3200, 0.001),
            "mlp-mixer": (1.0, 1000, 0.001),
            "convnext": (1.0, 750, 0.002),
            "align-cnn": (1.0, 3200, 0.002),
            "resnet": (1.0, 1000, 0.002),
            "hatami": (0.25, 1400, 0.001),
            "scalogram": (1.0, 700, 0.003),
            "wscn": (1.0, 12000, 0.001),
            "deepnet-1d": (1.0, 1000, 0.003),
            "resnet-1d": (0.25, 1100, 0.004),
            "inceptionnet-1d": (0.25, 600, 0.002),
            "unet-1dr": (0.0625, 80, 0.01),
            "unet-1dr-joint": (0.25, 750, 0.003),
            "shallownet-2d2c": (0.25, 750, 0.004),
            "shallownet-2d2c-relu": (0.125, 750, 0.004),
            "shallownet-2d2c-hp": (0.0625, 650, 0.004),
            "deepnet-2d2c": (0.125, 500, 0.003),
            "deepnet-2d1c": (1.0, 550, 0.003),
            "deepnet-2d1c-wide": (0.125, 450, 0.003),
            "resnet-2d1c": (0.0625, 350, 0.004),
            "resnet-2d1c-wide": (0.0625, 140, 0.004),
            "inceptionnet-2d1c": (0.0625, 50, 0.002),
        },
        many=(1.0, 500, 1e-3),
        batch_size=32,
        signals=20000,
        test=2500,
        held=0,
        dss={"steps": 2500, "batch_size": 512, "rate": 0.003, "decay": 1.0, "polish": 2500},
        scalogram=({"hatami": {"share": 0.25}, "scalogram": {}}, 1700, 1024),
        stack_steps=4000,
        newton=32,
    ),
    "paper": Scale(
        budgets={"wscn": (1.0, 72000, 1e-3)},
        many=(1.0, 72000, 1e-3),
        batch_size=50,
        signals=20000,
        test=2500,
        held=10,
        dss={"steps": 20000, "batch_size": 512, "rate": 0.003, "decay": 1.0, "polish": 20000},
        scalogram=({"hatami": {}, "scalogram": {"n_rows": 340, "n_columns": 1536}}, 80000, 1536),
        stack_steps=72000,
        newton=2500,
    ),
}
"""'small' gives every network about as many minutes, an hour in all on two cores, most with a part of their kernels;
'paper' has their published numbers of kernels and trains for 200 epochs at most (scalograms, wavelet scattering and
stacks longer), and wants a GPU."""


@dataclass(frozen=True)
class Job:
    """One training: its folder's name, the data ('rizzo', 'rizzo without reference', or a DSS), and what it is trained
    with."""

    name: str
    data: str
    encoder: str
    part: str
    steps: int
    rate: float
    batch_size: int
    signals: int
    seed: int = 0
    arguments: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    held: int = 0
    decay: float = 1e-4
    n_points: int = 1024


def _arguments(encoder: str, share: float) -> dict:
    """The encoder's own, where it has numbers of kernels to take a share of."""
    return {} if share == 1 else {"share": share}


def _rizzo_job(scale: Scale, encoder: str, name: str, part: str, seed: int, data: str = "rizzo", **options) -> Job:
    share, steps, rate = scale.budgets.get(encoder, scale.many)
    return Job(
        name,
        data,
        encoder,
        part,
        steps,
        rate,
        scale.batch_size,
        scale.signals,
        seed,
        _arguments(encoder, share),
        options,
        scale.held,
    )


def jobs_of(scale: Scale, parts, networks, seed: int = 0) -> list[Job]:
    """The trainings that parts of the benchmark need, stacks left out: these are trained on the others."""
    made: dict[str, Job] = {}

    def add(job: Job) -> None:
        made.setdefault(job.name, job)

    for encoder in networks if "networks" in parts else ():
        add(_rizzo_job(scale, encoder, encoder, "networks", seed))
    if "ensembles" in parts:
        for k in range(5):
            for encoder in (SHALLOW, LONG):
                add(_rizzo_job(scale, encoder, encoder if k == 0 else f"{encoder}, {k + 1}", "ensembles", seed + k))
    if "active-learning" in parts:
        add(_rizzo_job(scale, SHALLOW, SHALLOW, "active-learning", seed))
        add(_rizzo_job(scale, SHALLOW, f"{SHALLOW}, active learning", "active-learning", seed, active=1))
    if "water" in parts:
        for encoder in (SHALLOW, LONG, "unet-1dr-joint"):
            add(_rizzo_job(scale, encoder, encoder, "water", seed))
            add(_rizzo_job(scale, encoder, f"{encoder}, no reference", "water", seed, "rizzo without reference"))
        add(_rizzo_job(scale, SHALLOW, f"{SHALLOW}, line added", "water", seed, "rizzo without reference", water=True))
    how = dict(scale.dss)
    polish = {"polish": how.pop("polish")}
    for name in datasets.DSS if "dss" in parts else ():
        add(Job(f"wscn, {name}", name, "wscn", "dss", signals=9000, seed=seed, options=polish, held=scale.held, **how))
    arguments, steps, n_points = scale.scalogram
    for encoder, own in arguments.items() if "scalogram" in parts else ():
        rate = scale.budgets.get(encoder, scale.many)[2]
        add(
            Job(
                f"{encoder}, scalogram paper",
                "DSS1 without noise",
                encoder,
                "scalogram",
                steps,
                rate,
                32,
                8800,
                seed,
                own,
                held=scale.held,
                n_points=n_points,
            )
        )
    return list(made.values())


def folder_of(output: Path, name: str) -> Path:
    """Where a network is kept."""
    return output / "models" / name.replace(", ", "_").replace(" ", "-")


def basis_and_recipe(data: str):
    """The basis set and the recipe of a data set by the name that jobs have for it."""
    if data.startswith("rizzo"):
        return datasets.rizzo_basis(data == "rizzo"), datasets.rizzo_recipe()
    name, _, without = data.partition(" ")
    return datasets.dss_basis(name), datasets.dss_recipe(name, noise=not without)


def settings_of(job: Job, device: str = "auto"):
    """Return the :class:`fsl_mrs_dl.training.settings.Settings` of a job."""
    from fsl_mrs_dl.training import settings

    return settings.Settings(
        steps=job.steps,
        batch_size=job.batch_size,
        learning_rate=job.rate,
        weight_decay=job.decay,
        seed=job.seed,
        progress=False,
        device=device,
        patience=job.held,
        validate_every=max(5, min(job.steps // 10, job.signals // job.batch_size)),
        validation_batches=32,
    )


def train_job(
    job: Job, folder: str | Path, device: str = "auto", members: tuple[str, ...] = (), settings=None
) -> model_cards.Card:
    """Train one network, unless it is there, and return its card; one that was interrupted goes on.

    ``settings`` (:class:`fsl_mrs_dl.training.settings.Settings`) replace those of :func:`settings_of`.
    """
    from fsl_mrs_dl.training.supervised_quantification import SupervisedTraining
    from fsl_mrs_dl.training.trainer import train

    place = Path(folder)
    if not (place / "card.json").is_file():
        basis, recipe = basis_and_recipe(job.data)
        more = {"stack": members} if members else {"encoder": job.encoder}
        going = any(place.glob("**/last.ckpt")) or bool(members)
        if not going and place.exists():
            shutil.rmtree(place)  # begun and interrupted before there was anything to go on from
        with tempfile.TemporaryDirectory() as folder_of_recipe:
            path = Path(folder_of_recipe) / f"{job.data.replace(' ', '-')}.json"
            path.write_text(json.dumps(recipe.content, indent=2) + "\n")
            training = SupervisedTraining(
                basis,
                settings=settings or settings_of(job, device),
                recipe=path,
                arguments=job.arguments,
                n_signals=job.signals,
                n_points=job.n_points,
                **more,
                **job.options,
            )
            train(training, place, name=job.name, resume=going, command="python -m benchmarks supervised")
    return model_cards.read_card(place)


def minutes_of(card: model_cards.Card) -> float:
    """What a training took, with what was computed once before it and its rounds of active learning; not its
    members'."""
    done = [one["training"] for one in (card, *cards_in(card, "rounds"))]
    return sum(one["minutes"] + one.get("preparation_minutes", 0.0) for one in done)


def cards_in(card: model_cards.Card, what: str) -> list[model_cards.Card]:
    """Cards of the 'rounds' or 'members' that a network was made of, as far as they are kept beside it."""
    return [model_cards.read_card(path.parent) for path in sorted(Path(card.folder).glob(f"{what}/*/card.json"))]


def fingerprint_of(scale: str) -> str:
    """Eight characters that change when data or trainings of a scale do."""
    recipes = [basis_and_recipe(data)[1].content for data in ("rizzo", "DSS1 without noise", *datasets.DSS)]
    return fingerprint(repr(SCALES[scale]), datasets.WIDTH_HZ, recipes)


def _begin_worker(parent: int) -> None:
    torch.set_num_threads(1)

    def watch():
        # A parent that was killed cannot end its children, who would train on and then wait for ever.
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_jobs(jobs, output: Path, workers: int, say: Callable[[str], None], device: str = "auto") -> None:
    """Train what is not there yet, so many at a time with one thread each, the long ones first."""
    todo = [job for job in jobs if not (folder_of(output, job.name) / "card.json").is_file()]
    if todo:
        say(f"Training {len(todo)} networks, {workers} at a time; they are kept in {output / 'models'}.")
        order = sorted(todo, key=lambda job: -(1 + job.options.get("active", 0)) * _weight(job))
        _train_in_parallel([(job, str(folder_of(output, job.name)), device) for job in order], output, workers, say)


def _train_in_parallel(calls: list[tuple], output: Path, workers: int, say: Callable[[str], None]) -> None:
    """Train in separate processes, each with one thread."""
    begun = time.monotonic()
    # Fresh processes: torch's threads do not survive a fork.
    with ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(os.getpid(),)
    ) as pool:
        try:
            waiting = {pool.submit(train_job, *words): words[0].name for words in calls}
            for n, done in enumerate(as_completed(waiting), 1):
                since = (time.monotonic() - begun) / 60
                minutes = f"{minutes_of(done.result()):.1f} minutes; {since:.0f} minutes since the first"
                say(f"{n} of {len(calls)}: {waiting[done]}, {minutes}.")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()  # what they have is in their checkpoints
            kept = f"the same command goes on from what is in {output / 'models'}"
            raise KeyboardInterrupt(f"interrupted; {kept}.") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _weight(job: Job) -> float:
    return {"scalogram": 3.0, "dss": 0.8}.get(job.part, 1.0)


def train_stacks(
    output: Path, scale: Scale, seed: int, workers: int, say: Callable[[str], None], device: str = "auto"
) -> list[str]:
    """The stacking models, on copies of networks that are there; gives their names."""
    calls = []
    share = scale.budgets.get(SHALLOW, scale.many)[0]
    for name, (shallow, long) in _STACKED.items():
        folder = folder_of(output, name)
        if (folder / "card.json").is_file():
            continue
        members = []
        for k in range(max(shallow, long)):
            members += [(SHALLOW, k)] * (k < shallow) + [(LONG, k)] * (k < long)
        for index, (encoder, k) in enumerate(members):
            place = folder / "members" / str(index)
            if not (place / "card.json").is_file():
                source = folder_of(output, encoder if k == 0 else f"{encoder}, {k + 1}")
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("checkpoints", "logs"), dirs_exist_ok=True)
        job = Job(
            name,
            "rizzo",
            SHALLOW,
            "ensembles",
            scale.stack_steps,
            1e-3,
            64,
            scale.signals,
            seed,
            _arguments(SHALLOW, share),
            held=scale.held,
        )
        calls.append((job, str(folder), device, tuple(encoder for encoder, _ in members)))
    if calls:
        say(f"Training {len(calls)} stacking models.")
        # Those of most networks take longest.
        _train_in_parallel(sorted(calls, key=lambda call: -len(call[3])), output, workers, say)
    return list(_STACKED)
