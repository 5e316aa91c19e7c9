"""Accuracy of quantification on the simulated data of the physics-informed paper, beside its limits and the methods of others.

Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837, doi 10.1016/j.compbiomed.2023.106837: data of section 4.1.1 (recipe
'shamaei-table2' on the basis set of the ISMRM fitting challenge), experiments of sections 4.4 to 4.8.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from . import zoo
from .basis import Basis
from .errors import DataError, OptionError

__all__ = ["PAPER_R2", "PAPER_MAPE", "PARTS", "Network", "load_basis", "networks_of", "train_network", "write_quant"]

PAPER_R2 = {
    "dq-nmm": {
        "Cr": 0.88, "Glu": 0.68, "GPC": 0.67, "Ins": 0.71, "NAA": 0.98, "NAAG": 0.46, "PCho": 0.62, "PCr": 0.54, "Tau": 0.66,
    },
    "QUEST": {"GPC": 0.10, "Ins": 0.35, "PCho": 0.10, "PCr": 0.19, "Tau": 0.42},
}  # fmt: skip
"""Coefficients of determination in the paper's text."""

PAPER_MAPE = {"dq-nmm": {"Cr": 6.02, "GPC": 16.27, "PCho": 18.2, "PCr": 9.12}, "QUEST": {"GPC": 26.06, "PCho": 25.75, "PCr": 11.79}}
"""Mean absolute errors in percent in the paper's text."""

PARTS = ("accuracy", "monte-carlo", "architecture", "lambda", "data-size", "calibration", "novelty")
"""What is measured, in this order."""

_DATA = "seed_quant_ismrm3t"
_NAMES = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCho PCr PE Tau sIns".split()
_DWELLTIME, _FREQUENCY = 0.25e-3, 123.23


def load_basis(path: str | Path | None = None) -> Basis:
    """A basis set with a macromolecule 'mm'; by default that of the paper, looked for in the folder FSL_MRS_DL_TESTDATA.

    As in the paper the pattern's first point is set so that its spectrum ends at zero.

    Raises
    ------
    DataError, BasisError
    """
    if path is not None:
        return Basis.load(path)
    import scipy.io

    folder = Path(os.environ.get("FSL_MRS_DL_TESTDATA") or ".") / _DATA
    if not (folder / "basisset.mat").is_file():
        raise DataError(
            f"{folder}: the paper's basis set is not there; give one with --basis, or the folder that holds {_DATA} in FSL_MRS_DL_TESTDATA "
            "(the files are in the GitHub repository amirshamaei/Deep-MRS-Quantification)."
        )
    fids = scipy.io.loadmat(folder / "basisset.mat")["data"].T
    mm = next(value for key, value in scipy.io.loadmat(folder / "mm.mat").items() if not key.startswith("__")).squeeze().copy()
    mm[0] -= np.fft.fftshift(np.fft.fft(mm))[0]
    # The files' frequency axis runs the other way.
    return Basis(np.concatenate([fids, mm[None]]).conj(), (*_NAMES, "mm"), _DWELLTIME, _FREQUENCY, source=_DATA)


@dataclass(frozen=True)
class Network:
    """One of the networks that are compared: its name, what it is trained with, and which part of all batches it is trained for."""

    name: str
    method: str
    part: str
    share: float = 1.0
    options: dict = field(default_factory=dict)


LAMBDAS = (0, 1, 2, 3, 4, 6, 8)
SIZES = (1000, 12000, 24000, 96000)
_SHARE = 0.15  # of the batches of a main training


def networks_of(parts) -> list[Network]:
    """The networks that parts of the benchmark need."""
    every = [
        Network("dq-nmm", "dq-nmm", "accuracy"),
        Network("dq-nmm taught", "dq-nmm", "accuracy", 0.6, {"teacher": "posterior_mean"}),
        Network("dq-pmm", "dq-pmm", "accuracy", 0.6),
        Network("dq-rpmm", "dq-rpmm", "accuracy", 0.6),
        *(
            Network(f"dq-rpmm, {encoder}", "dq-rpmm", "architecture", _SHARE, {"encoder": encoder})
            for encoder in ("cnn", "fc", "mlp-mixer", "convnext")
        ),
        *(Network(f"dq-rpmm, lambda {lam}", "dq-rpmm", "lambda", _SHARE, {"lam": float(lam)}) for lam in LAMBDAS),
        *(Network(f"dq-nmm, {size} signals", "dq-nmm", "data-size", _SHARE, {"n_signals": size}) for size in SIZES),
    ]
    needs = {"monte-carlo": "accuracy", "calibration": "accuracy", "novelty": "accuracy"}
    wanted = {needs.get(part, part) for part in parts}
    return [network for network in every if network.part in wanted]


SCALES = {"small": {"steps": 3000, "test": 1024}, "paper": {"steps": 135000, "test": 4096}}
"""Batches of a main training, and spectra to test on: 'small' takes minutes on two cores, 'paper' 200 epochs of 96000 signals."""


def train_network(network: Network, basis: Basis, folder: Path, *, steps: int, seed: int = 0, progress: bool = False) -> zoo.Card:
    """Train a network of the benchmark, or read it where it was trained before; one that was interrupted goes on."""
    from . import train

    if (folder / "card.json").is_file():
        return zoo.read_card(folder)
    n = max(50, int(steps * network.share))
    settings = train.Settings(steps=n, batch_size=128, learning_rate=2e-3, validate_every=max(25, n // 10), seed=seed, progress=progress, device="auto")  # fmt: skip
    if network.options.get("encoder") in ("mlp-mixer", "convnext"):
        settings = train.replace(settings, learning_rate=1e-3)
    resume = (folder / "checkpoints" / "last.ckpt").is_file()
    options = dict(network.options)
    if "n_signals" in options:
        options["n_signals"] = int(options["n_signals"])
    return train.train_quantifier(
        network.method, basis, folder, settings=settings, recipe="shamaei-table2", name=network.name, resume=resume, **options
    )


def folder_of(output: Path, network: Network) -> Path:
    """Where a network is kept."""
    return output / "models" / network.name.replace(", ", "_").replace(" ", "-")
