"""Trainings of the benchmark of quantification: networks, their sizes, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.networks import model_cards

__all__ = ["LAMBDAS", "PARTS", "SCALES", "SIZES", "Network", "folder_of", "networks_of", "train_network"]

PARTS = ("accuracy", "monte-carlo", "architecture", "lambda", "data-size", "calibration", "novelty")
"""Parts of the benchmark, in the order of the report."""


LAMBDAS = (0.01, 0.05, 0.5, 3)


SIZES = (1000, 12000, 24000, 96000)


_SHARE, _SMALL_SHARE, _SIZE_SHARE = 0.15, 0.1, 0.3  # of the batches of a main training


BATCH_SIZE = 128


SCALES = {"small": {"steps": 3000, "test": 1024}, "paper": {"steps": 135000, "test": 4096}}
"""Batches of a main training and number of test spectra: 'small' takes minutes on two cores, 'paper' trains for 200
epochs of 96000 signals."""


@dataclass(frozen=True)
class Network:
    """A network of the comparison: name, method, the part of the benchmark that needs it, its share of the batches of a
    main training, and further options of the training."""

    name: str
    method: str
    part: str
    share: float = 1.0
    options: dict = field(default_factory=dict)


def networks_of(parts) -> list[Network]:
    """Return the networks that parts of the benchmark need."""
    networks = [
        Network("dq-nmm", "dq-nmm", "accuracy"),
        Network("dq-nmm taught", "dq-nmm", "accuracy", 1.5, {"teacher": "posterior_mean"}),
        Network("dq-pmm", "dq-pmm", "accuracy", 0.6),
        Network("dq-rpmm", "dq-rpmm", "accuracy", 0.6),
        *(
            Network(f"dq-rpmm, {encoder}", "dq-rpmm", "architecture", _SMALL_SHARE, {"encoder": encoder})
            for encoder in ("cnn", "fc", "mlp-mixer", "convnext")
        ),
        Network("dq-pmm, as many batches", "dq-pmm", "lambda", _SHARE),
        *(Network(f"dq-rpmm, lambda {lam}", "dq-rpmm", "lambda", _SHARE, {"lam": float(lam)}) for lam in LAMBDAS),
        *(
            Network(f"dq-nmm, {size} signals", "dq-nmm", "data-size", _SIZE_SHARE, {"n_signals": size})
            for size in SIZES
        ),
    ]
    needs = {"monte-carlo": "accuracy", "calibration": "accuracy", "novelty": "accuracy"}
    wanted = {needs.get(part, part) for part in parts}
    return [network for network in networks if network.part in wanted]


def train_network(
    network: Network, basis: Basis, folder: Path, *, steps: int = 0, seed: int = 0, settings=None
) -> model_cards.Card:
    """Train a network of the benchmark and return its card; a complete one is read, an interrupted one resumed.

    ``settings`` (:class:`fsl_mrs_dl.training.settings.Settings`) replace those that follow from ``steps`` and ``seed``.
    """
    from fsl_mrs_dl.training.self_supervised_quantification import SelfSupervisedTraining
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.trainer import train

    if (folder / "card.json").is_file():
        return model_cards.read_card(folder)
    if settings is None:
        n = max(50, int(steps * network.share))
        small = network.options.get("encoder") in ("mlp-mixer", "convnext")
        settings = Settings(
            steps=n,
            batch_size=BATCH_SIZE,
            learning_rate=1e-3 if small else 2e-3,
            validate_every=max(25, n // 10),
            seed=seed,
            progress=False,
            device="auto",
        )
    resume = (folder / "training.json").is_file()
    options = dict(network.options)
    if "teacher" in options:
        options["n_signals"] = min(40000, max(1000, 3 * settings.steps))
    training = SelfSupervisedTraining(network.method, basis, settings=settings, recipe="shamaei-table2", **options)
    return train(training, folder, name=network.name, resume=resume)


def folder_of(output: Path, network: Network) -> Path:
    """Return the folder of a network below the output folder."""
    return output / "models" / network.name.replace(", ", "_").replace(" ", "-")
