"""Trainings at the length that the papers give: which there are, what is published of each, and what differs here.

Shamaei, Starcukova, Pavlova, Starcuk, Magn Reson Med 2023;89:1221-1236, doi 10.1002/mrm.29498, section 2.5 (frequency
and phase correction); Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837,
doi 10.1016/j.compbiomed.2023.106837, sections 4.3 and 4.8 (quantification without a truth).  Run one after the other by
:mod:`benchmarks.scripts.long_trainings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.papers import alignment, quantification_data, quantification_trainings
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.training.settings import Settings

__all__ = ["ALIGN", "QUANT", "LongTraining", "long_trainings"]


@dataclass(frozen=True)
class LongTraining:
    """A training at its published length.

    Attributes
    ----------
    name : str
        Of its folder.
    benchmark : str
        Subcommand of ``python -m benchmarks`` that measures it: 'align', 'quant' or 'supervised'.
    method : str
        Network, as the benchmark names it.
    settings : Settings
        Length and course of the training.
    run : callable
        ``run(folder, settings)`` trains, resuming what is in the folder, and returns the model card.
    published, deviations : str
        What the paper gives, and what is different here.
    core_hours : float
        Of all batches on one core of the machine that the recorded figures are from.
    """

    name: str
    benchmark: str
    method: str
    settings: Settings
    run: Callable[[Path, Settings], model_cards.Card]
    published: str
    deviations: str
    core_hours: float


def _epochs(n_signals: int, batch_size: int, n: int, **others) -> Settings:
    """Return settings of ``n`` epochs on nine tenths of the signals, each followed by a validation on the others."""
    n_held = max(1, n_signals // 10)
    each = -(-(n_signals - n_held) // batch_size)
    settings = Settings(weight_decay=0.0, batch_size=batch_size, device="auto", progress=True)
    return replace(settings, steps=n * each, validate_every=each, validation_batches=-(-n_held // batch_size), **others)


_COMMAND = "python -m benchmarks.scripts.long_trainings"
_DRAWN = "batches are drawn with replacement, an epoch is as many batches as one pass; gradients are clipped at norm 1"

_ALIGN_SIGNALS = 24000
_ALIGN_PUBLISHED = (
    "24 000 signals; mean squared error, Adam, batches of 16, rate 4e-5, 150 epochs, ended after 10 epochs without a"
    " gain on the validation subset"
)
_ALIGN_DEVIATIONS = (
    "nuisance peaks are ours (the paper's are in a supplement that is not at hand); 10 % of the signals validate (9 %"
    f" there, 1 % to test); 2400 other signals are measured; {_DRAWN}"
)
_ALIGN_REFERENCES = {
    "k-means": "the reference is the most typical transient of the cluster, in the paper that of the highest SNR",
    "mean": "the reference is the mean of aligned transients, in the paper a single one chosen by k-means",
}


def _align(method: str, reference: str = "", core_hours: float = 1.0, seed: int = 0) -> LongTraining:
    def run(folder: Path, settings: Settings) -> model_cards.Card:
        return alignment.train_network(
            method,
            alignment.load_signal(),
            folder,
            n_signals=_ALIGN_SIGNALS,
            seed=seed,
            settings=settings,
            reference=reference or "mean",
            command=_COMMAND,
        )

    settings = _epochs(_ALIGN_SIGNALS, 16, 150, learning_rate=4e-5, rate_schedule="constant", patience=10, seed=seed)
    deviations = _ALIGN_DEVIATIONS + (f"; {_ALIGN_REFERENCES[reference]}" if reference else "")
    name = f"{method}-{reference}" if reference else method
    return LongTraining(name, "align", method, settings, run, _ALIGN_PUBLISHED, deviations, core_hours)


ALIGN = (
    _align("dsr", "k-means"),
    _align("dcrr"),
    _align("dsrf", "k-means"),
    _align("dcrrf"),
    _align("dsr", "mean"),
    _align("dsrf", "mean"),
)
"""dSR, dSRF, dCrR and dCrRF; those with a reference twice."""

_QUANT_SIGNALS = 96000
_QUANT_PUBLISHED = (
    "96 000 signals; mean squared error of the FIDs, Adam, batches of 128, rate 1e-3, divided by ten twice where learning"
    " stalls, 200 epochs, ended after 50 epochs without a gain on the validation subset"
)
_QUANT_DEVIATIONS = f"learning stalls after 16 epochs without a gain (the paper gives no number); {_DRAWN}"
_RULE = "the unit of lambda is ours, 0.05 here"
_LINES = "lines of the macromolecules are ours, the paper's are in a supplement that is not at hand"


def _quant(method: str, deviations: str = "", core_hours: float = 3.0, seed: int = 0, **options) -> LongTraining:
    """A quantifier without a truth; ``options`` may hold an encoder, and settings of the training."""
    encoder = options.pop("encoder", None)
    name = f"{method}-{encoder}" if encoder else method
    name += f"-{options['steps']}" if "steps" in options else ""
    own = {"n_signals": _QUANT_SIGNALS} | ({"encoder": encoder} if encoder else {})

    def run(folder: Path, settings: Settings) -> model_cards.Card:
        network = quantification_trainings.Network(name, method, "accuracy", options=own)
        basis = quantification_data.load_basis()
        return quantification_trainings.train_network(network, basis, folder, settings=settings)

    settings = _epochs(_QUANT_SIGNALS, 128, 200, learning_rate=1e-3, rate_schedule="plateau", patience=50, seed=seed)
    settings = replace(settings, **options)
    text = "; ".join(part for part in (deviations, _QUANT_DEVIATIONS) if part)
    return LongTraining(name, "quant", method, settings, run, _QUANT_PUBLISHED, text, core_hours)


QUANT = (
    _quant("dq-nmm"),
    _quant("dq-pmm", _LINES),
    _quant("dq-rpmm", f"{_LINES}; {_RULE}"),
)
"""DQ-nMM, DQ-pMM and DQ-rpMM."""


def long_trainings() -> list[LongTraining]:
    """Return all trainings, the short ones first."""
    return [*ALIGN, *QUANT]
