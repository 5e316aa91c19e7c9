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

from benchmarks.papers import alignment, quantification_data, quantification_trainings, supervised_trainings
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.training.settings import Settings

__all__ = ["ALIGN", "ENCODERS", "QUANT", "SUPERVISED", "LongTraining", "finished", "finished_jobs", "long_trainings"]


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
    job : Job, optional
        Of the benchmark of supervised networks.
    """

    name: str
    benchmark: str
    method: str
    settings: Settings
    run: Callable[[Path, Settings], model_cards.Card]
    published: str
    deviations: str
    core_hours: float
    job: supervised_trainings.Job | None = None


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
    "96 000 signals; mean squared error of the FIDs, Adam, batches of 128, rate 1e-3, divided by ten twice where"
    " learning stalls, 200 epochs, ended after 50 epochs without a gain on the validation subset"
)
_OF_WINDOW = "the loss counts 0.2 to 4.2 ppm of FIDs scaled to height one, in the paper all points"
_STALLS = "learning stalls after 16 epochs without a gain (the paper gives no number)"
_ENCODERS_PUBLISHED = "as DQ-rpMM, with a rate of 1e-4 and 100 epochs"
_RULE = "the unit of lambda is ours, 0.05 here"
_LINES = "lines of the macromolecules are ours, the paper's are in a supplement that is not at hand"


def _quant(
    method: str, deviations: str, core_hours: float, encoder: str = "", epochs: int = 90, seed: int = 0
) -> LongTraining:
    """Return the training of a quantifier without a truth; the variants of DQ-rpMM with an encoder have a tenth of the
    rate.

    The others are ten times as long as those of the record of quantification.  Their length is fixed, so that the rate
    falls along a cosine: a plateau may not be found before the end, and the rate would stay high.
    """
    own = {"n_signals": _QUANT_SIGNALS} | ({"encoder": encoder} if encoder else {})
    name = f"{method}-{encoder}-{epochs}" if encoder else method

    def run(folder: Path, settings: Settings) -> model_cards.Card:
        network = quantification_trainings.Network(name, method, "accuracy", options=own)
        basis = quantification_data.load_basis()
        return quantification_trainings.train_network(network, basis, folder, settings=settings)

    settings = _epochs(
        _QUANT_SIGNALS,
        128,
        epochs,
        learning_rate=1e-4 if encoder else 1e-3,
        rate_schedule="plateau" if encoder else "cosine",
        patience=50 if encoder else 0,
        seed=seed,
    )
    length = "" if encoder else f"{epochs} epochs, ten times the short trainings; the rate falls along a cosine"
    text = "; ".join(part for part in (length, deviations, _OF_WINDOW, _STALLS if encoder else "", _DRAWN) if part)
    published = _ENCODERS_PUBLISHED if encoder else _QUANT_PUBLISHED
    return LongTraining(name, "quant", method, settings, run, published, text, core_hours)


QUANT = (
    _quant("dq-nmm", "", 1.7, epochs=150),
    _quant("dq-pmm", _LINES, 1.1),
    _quant("dq-rpmm", f"{_LINES}; {_RULE}", 1.1),
)
"""DQ-nMM, DQ-pMM and DQ-rpMM."""


ENCODERS = (
    _quant("dq-rpmm", f"15 epochs; {_RULE}", 0.2, "cnn", 15),
    _quant("dq-rpmm", f"15 epochs; {_RULE}", 0.1, "fc", 15),
    _quant("dq-rpmm", f"15 epochs; {_RULE}", 1.1, "mlp-mixer", 15),
    _quant("dq-rpmm", f"15 epochs; {_RULE}", 1.2, "convnext", 15),
    _quant("dq-rpmm", f"68 epochs, as long as ConvNeXt takes for 15; {_RULE}", 1.2, "cnn", 68),
    _quant("dq-rpmm", f"100 epochs, as long as ConvNeXt takes for 15; {_RULE}", 1.2, "fc", 100),
)
"""The encoders of DQ-rpMM for as many batches, and, by choosing these, for about as long."""

_SCALE = supervised_trainings.SCALES["paper"]
_CORE_MINUTES = 360.0
_SUPERVISED_PUBLISHED = {
    "dss": (
        "10 000 signals, 80 % to train and 10 % to validate; mean squared error, scaled conjugate gradients; the number"
        " of iterations is not given"
    ),
    "scalogram": (
        "10 000 signals, 80 % to train; mean squared error, batches of 30, rate 1e-5; the number of epochs is not given"
    ),
    "networks": (
        "20 000 spectra; mean squared error, Adam, batches of 50, a rate of its own for each network (in a supplement"
        " that is not at hand), 200 epochs, ended after 10 epochs without a gain on the validation subset"
    ),
}
_SUPERVISED_DEVIATIONS = {
    "dss": (
        "5000 batches of 512 by AdamW, then up to 10 000 iterations of L-BFGS on all signals; 8100 signals to train,"
        " 900 to validate, others measured"
    ),
    "scalogram": (
        "7920 signals to train, 880 to validate, others measured; batches of 32, rate 1e-3 along a cosine,"
        f" {_CORE_MINUTES / 60:g} core-hours at most"
    ),
    "networks": f"AdamW, rate 1e-3 along a cosine, {_CORE_MINUTES / 60:g} core-hours at most; {_DRAWN}",
}

_UNET_DEVIATIONS = (
    "kernels as published for all metabolites, transposed convolutions 4 wide in place of 3; rates, and the networks"
    " optimised for single metabolites, are in a supplement that is not at hand"
)


_FEW_HOURS = 1.5


def _paced(settings: Settings, seconds: float) -> Settings:
    """Return settings with a validation, after which an interrupted training goes on, at least every ten minutes.

    Trainings that do not get through ten epochs in their time end with it, and not earlier.
    """
    every = max(1, min(settings.validate_every, int(600 / seconds)))
    patience = settings.patience if seconds < 5 else 0
    return replace(settings, validate_every=every, validation_batches=max(4, min(32, every // 4)), patience=patience)


def _supervised(
    job: supervised_trainings.Job, core_hours: float, core_minutes: float | None = None, seconds: float | None = None
) -> LongTraining:
    def run(folder: Path, settings: Settings) -> model_cards.Card:
        return supervised_trainings.train_job(job, folder, settings=settings)

    settings = replace(supervised_trainings.settings_of(job), progress=True, max_core_minutes=core_minutes)
    if seconds is not None:
        settings = _paced(settings, seconds)
    if not job.held:
        settings = replace(settings, validate_every=200)
    name = supervised_trainings.folder_of(Path(), job.name).name
    published, deviations = _SUPERVISED_PUBLISHED[job.part], _SUPERVISED_DEVIATIONS[job.part]
    if job.arguments.get("share", 1.0) < 1:
        deviations = (
            f"{100 * job.arguments['share']:.3g} % of the kernels, as in supervised.md; AdamW, rate {job.rate:g} along"
            f" a cosine, batches of {job.batch_size}, {_FEW_HOURS:g} core-hours at most; {_DRAWN}"
        )
    if job.encoder.startswith("unet"):
        deviations += f"; {_UNET_DEVIATIONS}"
    return LongTraining(name, "supervised", job.encoder, settings, run, published, deviations, core_hours, job)


def _supervised_of(
    parts: tuple[str, ...], networks: tuple[str, ...] = (), scale: supervised_trainings.Scale = _SCALE
) -> dict[str, supervised_trainings.Job]:
    return {job.name: job for job in supervised_trainings.jobs_of(scale, parts, networks)}


def _few_kernels() -> list[LongTraining]:
    """Return trainings of networks that are too large for six core-hours, with the kernels of the short trainings:
    these tell whether the length or the size is what is missing."""
    jobs = _supervised_of(("networks",), tuple(_LARGE), supervised_trainings.SCALES["small"]).values()
    return [
        _supervised(
            replace(job, name=f"{job.name}, few kernels", steps=20000, held=10),
            _FEW_HOURS,
            60 * _FEW_HOURS,
            _LARGE[job.encoder],
        )
        for job in jobs
    ]


# Networks that learn nearly nothing in a few minutes: seconds for a batch on one core of the machine of the record.
_SLOW = {
    "resnet-2d1c": 8.0,
    "deepnet-2d1c-wide": 0.55,
    "resnet-2d1c-wide": 16.0,
    "inceptionnet-2d1c": 67.0,
    "unet-1dr": 20.0,
}
_SCALOGRAM = {"hatami": 0.5, "scalogram": 10.0}
_LARGE = {"resnet-2d1c": 0.35, "resnet-2d1c-wide": 0.7, "inceptionnet-2d1c": 0.8, "unet-1dr": 2.1}
_DSS = ("DSS4", "DSS5", "DSS6", "DSS7")
SUPERVISED = (
    # Held-back spectra end the second-order part, which is the paper's; the batches before only begin it.
    *(
        _supervised(replace(job, held=0, steps=5000, options=job.options | {"polish": 10000}), 0.6)
        for job in _supervised_of(("dss",)).values()
        if job.data in _DSS
    ),
    *_few_kernels(),
    *(
        _supervised(job, 6.0, _CORE_MINUTES, (_SLOW | _SCALOGRAM)[job.encoder])
        for job in (*_supervised_of(("scalogram",)).values(), *_supervised_of(("networks",), tuple(_SLOW)).values())
    ),
)
"""Wavelet scattering on DSS4 to DSS7; the networks that learn nearly nothing in a few minutes, the largest of them with
few kernels, too; scalogram and Hatami's network at full width."""


def long_trainings() -> list[LongTraining]:
    """Return all trainings, the short ones first."""
    scattering, others = SUPERVISED[: len(_DSS)], SUPERVISED[len(_DSS) :]
    return [scattering[0], ALIGN[0], *scattering[1:], *ALIGN[1:], *QUANT, *ENCODERS, *others]


def finished(folder: Path | None, benchmark: str) -> dict[str, tuple]:
    """Return the networks of a benchmark that a folder of long trainings holds, with their cards, by the names of their
    rows."""
    return {
        f"{one.name}, long": model_cards.load(folder / one.name)
        for one in _complete(folder)
        if one.benchmark == benchmark
    }


def finished_jobs(folder: Path | None) -> dict[str, tuple[supervised_trainings.Job, Path]]:
    """Return the jobs of supervised networks that a folder of long trainings holds, and their folders, by the names of
    their rows."""
    return {f"{one.name}, long": (one.job, folder / one.name) for one in _complete(folder) if one.job is not None}


def _complete(folder: Path | None) -> list[LongTraining]:
    """Return the trainings that have ended in a folder, which may be none."""
    return [one for one in long_trainings() if folder is not None and (folder / one.name / "card.json").is_file()]
