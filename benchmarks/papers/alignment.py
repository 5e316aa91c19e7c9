"""Accuracy of frequency and phase correction on simulated transients, beside its limits and other methods.

The data set is that of Shamaei, Starcukova, Pavlova, Starcuk, Magn Reson Med 2023;89:1221-1236, doi 10.1002/mrm.29498,
section 2.3.1: one averaged signal, varied in amplitude, width, shift, phase, noise, and by unstable residual water and
lipids.  The ranges of these are in a supplement of the paper; the recipe 'paper-transients' holds our choice.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.papers import classical_alignment
from benchmarks.papers.loss_minimum import minimise
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io.files import claim, fingerprint
from fsl_mrs_dl.networks import frequency_then_phase, model_cards, self_supervised_registration
from fsl_mrs_dl.preproc.similarity import similarity_index
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.registration.bounds import cramer_rao
from fsl_mrs_dl.simulation import recipes
from fsl_mrs_dl.training.augmentation import augment

__all__ = [
    "Signal",
    "answers_of",
    "load_signal",
    "make_set",
    "NETWORKS",
    "PAPER",
    "train_network",
    "losses",
    "methods",
    "minimised",
    "precision",
    "bounds",
    "write_align",
]

NETWORKS = (*self_supervised_registration.METHODS, *frequency_then_phase.METHODS)
"""The networks that are trained on the data set."""

PAPER = {
    "dsr": (1.02, 1.00, 0.97, 5.87, 4.16, 5.75, 0.44, 10.38),
    "dsrf": (0.73, 0.69, 0.73, 4.89, 3.34, 5.52, 0.44, 10.22),
    "SR": (1.57, 1.01, 1.57, 7.44, 2.61, 8.50, 0.44, 10.77),
    "SRF": (11.46, 11.02, 11.68, 15.92, 16.75, 15.34, 0.32, 15.34),
    "dcrr": (0.94, 0.93, 0.94, 6.62, 6.89, 6.35, 0.42, 10.14),
    "dcrrf": (0.95, 0.90, 0.97, 6.79, 7.00, 6.52, 0.42, 10.17),
    "CrR": (7.92, 9.62, 6.51, 32.34, 38.80, 26.68, 0.36, 10.71),
    "Corr": (10.70, 9.98, 11.07, 16.87, 16.62, 17.02, 0.34, 19.14),
    "CorrF": (11.33, 9.89, 11.96, 17.46, 16.46, 18.07, 0.32, 20.55),
    "tapper": (0.71, 0.56, 0.78, 6.78, 4.64, 5.89, 0.44, 10.45),
    "ma": (0.99, 0.85, 1.06, 4.29, 4.24, 4.32, 0.44, 10.53),
}
"""Table 1 of the paper: SD of the shift's error (Hz) and of the phase's (degrees), each for all, without and with
nuisance peaks; similarity index; width of creatine in the average (Hz)."""

_RAT = {"file": "seed_fpc_rat9t/obx_23_9_FC.mat", "bandwidth": 4401.41, "spec_freq_mhz": 400.2}
_LIMITED = (2.5, 3.5)


@dataclass(frozen=True)
class Signal:
    """One FID ``(n_points,)`` of high SNR that a data set is simulated from."""

    fid: torch.Tensor
    dwelltime: float
    spec_freq_mhz: float

    @property
    def axes(self) -> Axes:
        """Axes of the FID."""
        return Axes(self.fid.shape[-1], self.dwelltime, self.spec_freq_mhz)


def load_signal(
    path: str | Path | None = None, bandwidth: float | None = None, spec_freq_mhz: float | None = None
) -> Signal:
    """Load the signal of a NIfTI-MRS file with one FID, or of a MATLAB file with a variable ``data``; by default the
    paper's.

    The paper's is looked for in the folder FSL_MRS_DL_TESTDATA as seed_fpc_rat9t/obx_23_9_FC.mat.

    Raises
    ------
    DataError
        If the file is not there or holds something else.
    OptionError
        If a MATLAB file is given without bandwidth (Hz) and spectrometer frequency (MHz).
    """
    if path is None:
        folder = os.environ.get("FSL_MRS_DL_TESTDATA")
        path = Path(folder or ".") / _RAT["file"]
        if not path.is_file():
            raise DataError(
                f"{path}: the paper's signal is not there",
                remedy=f"give one with `signal`, or the folder that holds {_RAT['file']} in FSL_MRS_DL_TESTDATA (the"
                " file is in the GitHub repository amirshamaei/DeepFPC)",
            )
        bandwidth, spec_freq_mhz = bandwidth or _RAT["bandwidth"], spec_freq_mhz or _RAT["spec_freq_mhz"]
    if Path(path).suffix == ".mat":
        import scipy.io

        try:
            fid = np.asarray(scipy.io.loadmat(path)["data"]).squeeze()
        except (OSError, KeyError, ValueError, NotImplementedError) as exc:
            raise DataError(f"{path}: cannot be read as a MATLAB file with a variable 'data' ({exc}).") from exc
        if not (bandwidth and spec_freq_mhz):
            raise OptionError(
                f"{path}: has no bandwidth and frequency", remedy="give `bandwidth` in Hz and `frequency` in MHz"
            )
        dwelltime = 1 / bandwidth
    else:
        from fsl_mrs_dl.io import nifti

        data = nifti.load(path)
        fid, dwelltime, spec_freq_mhz = data.fids.squeeze(), data.dwelltime, data.spec_freq_mhz
    if fid.ndim != 1 or not np.iscomplexobj(fid) or not np.isfinite(fid).all() or not fid.any():
        raise DataError(
            f"{path}: has shape {fid.shape}; one complex FID is needed: average and combine the data first."
        )
    return Signal(torch.as_tensor(fid.astype(np.complex64)), dwelltime, spec_freq_mhz)


def make_set(signal: Signal, n: int, seed: int, recipe=None, **ranges) -> dict[str, torch.Tensor]:
    """Simulate transients with their truth.

    ``recipe`` is 'paper-transients' unless given; ``ranges`` replaces entries of it.  Its SNR is that of the paper:
    magnitude of the signal at the time origin over the noise SD of the real and of the imaginary part.

    Returns
    -------
    dict
        ``fid`` complex ``(n, n_points)``; ``shift_hz``, ``phase`` (rad), ``amplitude``, ``noise_sd`` ``(n,)``;
        ``nuisance`` bool ``(n, 2)``: unstable water, lipids.
    """
    recipe = recipe or recipes.Recipe.load("paper-transients")
    content = {**recipe.content["augment"], **ranges}
    snr, amplitude = content.pop("snr"), content.pop("amplitude")
    recipe = recipes.Recipe.of(recipe.name, {**recipe.content, "augment": content})
    generator = torch.Generator().manual_seed(seed)
    axes = Axes(signal.fid.shape[-1], signal.dwelltime, signal.spec_freq_mhz)
    parts = []
    for first in range(0, n, 2000):
        many = min(2000, n - first)
        part = augment(signal.fid[None], recipe, axes, many, generator)
        part["amplitude"] = recipes.sample(amplitude, (many,), generator)
        part["noise_sd"] = signal.fid[0].abs() / recipes.sample(snr, (many,), generator)
        noise = torch.view_as_complex(torch.randn(many, signal.fid.shape[-1], 2, generator=generator))
        part["fid"] = part["amplitude"][:, None] * part["fid"] + part["noise_sd"][:, None] * noise
        parts.append(part)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def train_network(
    method: str,
    signal: Signal,
    folder,
    *,
    n_signals: int = 24000,
    seed: int = 0,
    settings=None,
    reference: str = "mean",
    command: str = "python -m benchmarks align",
):
    """Train one of :data:`NETWORKS` on the data set, a tenth of which is held back; return its card.

    The four networks of the paper are trained without the truth; ``reference`` is that of dSR and dSRF, see
    :class:`fsl_mrs_dl.training.registration.RegistrationTraining`.  An interrupted training is resumed.
    """
    from fsl_mrs_dl.training.frequency_then_phase import FrequencyThenPhaseTraining
    from fsl_mrs_dl.training.registration import RegistrationTraining
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.trainer import train

    data = make_set(signal, n_signals, seed)
    settings = settings or Settings(
        steps=12000 if method in self_supervised_registration.METHODS else 6000, batch_size=64, seed=seed
    )
    words = f"{command}, {n_signals} signals of paper-transients, seed {seed}, {settings.steps} steps"
    axes = Axes(signal.fid.shape[-1], signal.dwelltime, signal.spec_freq_mhz)
    options = {"settings": settings, "source": f"{n_signals} simulated signals"}
    if method in frequency_then_phase.METHODS:
        training = FrequencyThenPhaseTraining(method, data, axes, **options)
    else:
        options |= {"recipe": "unvaried-transients", "reference": reference}
        training = RegistrationTraining(method, data["fid"].numpy(), axes, **options)
    return train(training, folder, name=method, resume=(Path(folder) / "training.json").is_file(), command=words)


# -- methods -------------------------------------------------------------------------------------------------------


def methods(signal: Signal, models: dict, fsl_mrs: bool = True) -> dict[str, Callable]:
    """Return all methods by the names of the table: from FIDs ``(n, n_points)`` to shifts (Hz) and phases (degrees).

    ``models`` are trained networks by name.  All classical methods are given the noise-free signal as their reference,
    of the mean width of the set.
    """
    time_axis = torch.arange(signal.fid.shape[-1]) * signal.dwelltime
    reference = (signal.fid * torch.exp(-2 * torch.pi * time_axis)).numpy().astype(np.complex128)
    axes = signal.axes
    functions: dict[str, Callable] = {name: answers_of(network) for name, network in models.items()}
    functions |= {
        "SR": lambda fid: classical_alignment.spectral_registration(fid, reference, axes),
        "SRF": lambda fid: classical_alignment.spectral_registration(fid, reference, axes, ppmlim=_LIMITED),
        "CrR": lambda fid: classical_alignment.creatine_fit(fid, axes),
        "Corr": lambda fid: classical_alignment.correlation(fid, reference, axes),
        "CorrF": lambda fid: classical_alignment.correlation(fid, reference, axes, ppmlim=_LIMITED),
        "default, known reference": lambda fid: _aligned(fid, axes, reference=reference, exact_reference=True),
        "default": lambda fid: _aligned(fid, axes),
        "default, all frequencies, known reference": lambda fid: _aligned(
            fid, axes, reference=reference, exact_reference=True, ppmlim=None
        ),
    }
    if fsl_mrs:
        try:
            from benchmarks.fsl_mrs_reference import fsl_mrs_align
        except ImportError:
            return functions
        functions["FSL-MRS align, known reference"] = lambda fid: fsl_mrs_align(fid, axes, target=reference)
    return functions


_WINDOW = (0.2, 4.2)


def answers_of(network) -> Callable:
    """Return the function from FIDs to a network's shifts (Hz) and phases (degrees)."""

    def estimate(fid):
        with torch.no_grad():
            parts = [network(part) for part in torch.as_tensor(fid).split(512)]
        shift, phase = (torch.cat([part[name] for part in parts]).numpy() for name in ("shift_hz", "phase"))
        return shift, np.rad2deg(phase)

    return estimate


def minimised(network: self_supervised_registration.Registration, steps: int = 500) -> Callable:
    """Return the function from FIDs to the minimum of the network's loss for every transient, started at its answer:
    the values of its ``forward``."""

    def estimate(fid):
        fid = torch.as_tensor(fid)
        with torch.no_grad():
            first = network(fid)
        return minimise(lambda values: network.misfit(fid, values), first, {"shift_hz": 5.0, "phase": 1.0}, steps=steps)

    return estimate


def losses(network: self_supervised_registration.Registration, data: dict) -> dict[str, float]:
    """Return a network's mean loss with its own answers and at the minimum, and the SDs of the errors of shift (Hz) and
    phase (degrees) of both; ``data`` are of :func:`make_set`."""
    fid = data["fid"]
    with torch.no_grad():
        own = network(fid)
    least = minimised(network)(fid)
    values = {}
    for label, one in (("network", own), ("minimum", least)):
        with torch.no_grad():
            values[f"loss, {label}"] = float(network.misfit(fid, one).mean())
        sds = precision((one["shift_hz"].numpy(), np.rad2deg(one["phase"].numpy())), data)
        values |= {f"shift, {label}": sds[0], f"phase, {label}": sds[3]}
    return values


def _aligned(fid, axes, **options):
    fid = np.asarray(fid, dtype=np.complex128)
    alignment = align_transients(fid, axes, **options)
    return alignment.shift_hz, alignment.phase_deg


def errors(estimates, data) -> tuple[np.ndarray, np.ndarray]:
    """Return errors of shifts (Hz) and phases (degrees), those of phases about their arbitrary circular mean."""
    shift = np.asarray(estimates[0]) - data["shift_hz"].numpy()
    phase = np.asarray(estimates[1]) - np.rad2deg(data["phase"].numpy())
    middle = np.rad2deg(np.angle(np.exp(1j * np.deg2rad(phase)).mean()))
    return shift, (phase - middle + 180) % 360 - 180


def precision(estimates, data) -> list[float]:
    """Return SDs of the errors of shift (Hz) and phase (degrees), each for all transients, those without and those
    with nuisance peaks."""
    shift, phase = errors(estimates, data)
    nuisance = data["nuisance"].any(1).numpy()
    groups = (slice(None), ~nuisance, nuisance)
    return [
        float(value[group].std()) if len(value[group]) else float("nan") for value in (shift, phase) for group in groups
    ]


def bounds(signal: Signal, data, ppmlim, unstable=("water", "lipids")) -> list[float]:
    """Return Cramer-Rao bounds in the order of :func:`precision`, root mean square over the transients; nuisance
    amplitudes are free where there are any."""
    time_axis = torch.arange(signal.fid.shape[-1]) * signal.dwelltime
    reference = (signal.fid * torch.exp(-2 * torch.pi * time_axis)).numpy().astype(np.complex128)
    variance = (data["noise_sd"] / data["amplitude"]).square().numpy()
    nuisance = data["nuisance"].any(1).numpy()
    axes = signal.axes
    free = np.array(cramer_rao(reference, 1.0, axes, ppmlim=ppmlim))
    held = np.array(cramer_rao(reference, 1.0, axes, ppmlim=ppmlim, unstable=unstable if ppmlim else ()))
    each = np.where(nuisance[:, None], held, free) ** 2 * variance[:, None]
    groups = (slice(None), ~nuisance, nuisance)
    return [
        float(np.sqrt(each[group, k].mean())) if each[group].size else float("nan") for k in (0, 1) for group in groups
    ]


# -- the report ----------------------------------------------------------------------------------------------------


def write_align(
    output: str | Path,
    *,
    signal: Signal,
    networks: tuple[str, ...] = NETWORKS,
    n_signals: int = 24000,
    n_test: int = 2400,
    seed: int = 0,
    steps: int | None = None,
    long: dict | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the missing networks, measure everything, and write ``table.md`` and its figures; return its path.

    Trained networks stay in ``output/models`` and are loaded from there in the next run.  ``long`` are further networks
    with their cards, by the names of their rows: those of :mod:`benchmarks.papers.long_trainings`.

    Raises
    ------
    OptionError, DataError, OutputError
    """
    output = Path(output)
    for name in networks:
        if name not in NETWORKS:
            raise OptionError(
                "there is no such network", option="networks", value=name, remedy=f"choose from {', '.join(NETWORKS)}"
            )
    axes = {"dwelltime": signal.dwelltime, "spec_freq_mhz": signal.spec_freq_mhz}
    identity = {"signals": n_signals, "steps": steps, "seed": seed, "signal": fingerprint(axes, signal.fid.numpy())}
    claim(output, identity)
    models, cards = {}, {}
    for name in networks:
        folder = output / "models" / name
        if not (folder / "card.json").is_file():
            say(f"Training {name} on {n_signals} signals; it is kept in {folder}.")
            settings = None
            if steps:
                from fsl_mrs_dl.training.settings import Settings

                settings = Settings(steps=steps, batch_size=64, seed=seed)
            train_network(name, signal, folder, n_signals=n_signals, seed=seed, settings=settings)
        models[name], cards[name] = model_cards.load(folder)
    for name, (network, card) in (long or {}).items():
        models[name], cards[name] = network, card
    every = methods(signal, models)
    parts = [
        "# Frequency and phase correction beside its limits and other methods\n",
        (
            f"Made by `python -m benchmarks align`, {torch.get_num_threads()} threads of a {platform.machine()} CPU,"
            f" torch {torch.__version__}. Networks at their published length: [long_trainings.md](long_trainings.md).\n"
        ),
        _table_1(signal, every, models, cards, make_set(signal, n_test, seed + 1_000_003), say),
        _beyond(signal, every, max(16, n_test // 4), seed),
        _noise(signal, every, output / "snr.png", max(16, n_test // 12), seed, say),
        _monte_carlo(signal, every, output / "monte_carlo.png", max(16, n_test // 6), seed),
    ]
    path = output / "table.md"
    path.write_text("\n".join(parts))
    return path


def _row(name: str, cells) -> str:
    return (
        f"| {name} | "
        + " | ".join(one if isinstance(one, str) else f"{one:.3g}" if abs(one) < 10 else f"{one:.1f}" for one in cells)
        + " |"
    )


_MOST_MINIMISED = 800


def _table_1(signal: Signal, every: dict, models: dict, cards: dict, data: dict, say) -> str:
    """Report all methods on the test set, like Table 1 of the paper."""
    n = len(data["fid"])
    free = 100 * float((~data["nuisance"].any(1)).float().mean())
    lines = [
        "## Table 1 of the paper\n",
        (
            f"{n} transients that are in no training, {free:.0f} % without nuisance peaks. SD of the error of the"
            " shift (Hz) and of the phase (degrees), for all, without and with nuisance peaks, then similarity index"
            " of the corrected transients (the first 240) and width of creatine in their average (Hz), milliseconds"
            " per transient and minutes of training. 'paper' are the printed values; its nuisance peaks are not"
            " known, ours are in the recipe `paper-transients`. Bounds take the signal as known and, with nuisance"
            " peaks, the strengths of water and lipids as unknown. 'Its loss minimised': shift and phase at the minimum"
            " of a network's loss, for each transient by itself (the first"
            f" {_MOST_MINIMISED}). Classical methods are given the noise-free signal as reference; 'default' makes its"
            " own.\n"
        ),
        "| | shift all | without | with | phase all | without | with | SI | Cr width | ms | training |",
        "|---" * 11 + "|",
    ]
    fid = data["fid"].numpy()
    axes = signal.axes
    raw = [similarity_index(fid[:240], axes), classical_alignment.creatine_width(fid.mean(0), axes)]
    lines.append(
        _row("not corrected", [*precision((0 * data["shift_hz"].numpy(),) * 2, data), *map(float, raw), "", ""])
    )
    for label, window in (
        ("bound, 0.2 to 4.2 ppm", _WINDOW),
        ("bound, 2.5 to 3.5 ppm", _LIMITED),
        ("bound, all frequencies", None),
    ):
        cells = bounds(signal, data, window)
        if window is None:
            cells = [cells[k] if k in (1, 4) else "" for k in range(6)]
        lines.append(_row(label, [*cells, "", "", "", ""]))
    for name, method in every.items():
        say(f"Measuring {name}.")
        method(data["fid"][:4])
        start = time.perf_counter()
        estimates = method(fid)
        milliseconds = 1e3 * (time.perf_counter() - start) / n
        cells = [*cells_of(estimates, data, signal), milliseconds]
        lines.append(_row(name, [*cells, f"{cards[name]['training']['minutes']:.0f}" if name in cards else ""]))
        if name in PAPER:
            lines.append(_row(f"{name}, paper", [*PAPER[name], "", ""]))
        if isinstance(models.get(name), self_supervised_registration.Registration):
            first = {key: value[:_MOST_MINIMISED] for key, value in data.items()}
            least = minimised(models[name])(first["fid"])
            least = least["shift_hz"].numpy(), np.rad2deg(least["phase"].numpy())
            lines.append(_row(f"{name}, its loss minimised", [*precision(least, first), "", "", "", ""]))
    return "\n".join(lines) + "\n"


def _beyond(signal: Signal, every: dict, n: int, seed: int) -> str:
    """Report on shifts to 40 Hz and all phases, without nuisance peaks."""
    ranges = {"shift_hz": {"uniform": [-40, 40]}, "phase_deg": {"uniform": [-180, 180]}, "nuisance": []}
    data = make_set(signal, n, seed + 2_000_003, **ranges)
    bound = bounds(signal, data, _WINDOW)
    lines = [
        "## Beyond the trained range\n",
        (
            f"{n} transients, shifts U(-40, 40) Hz, phases U(-180, 180) degrees, no nuisance peaks. The paper's dCrR:"
            " 8.69 Hz, 60.04 degrees.\n"
        ),
        "| | shift SD (Hz) | phase SD (degrees) | farther than 5 Hz or 30 degrees |",
        "|---|---|---|---|",
        _row("bound, 0.2 to 4.2 ppm", [bound[1], bound[4], ""]),
    ]
    for name, method in every.items():
        shift, phase = errors(method(data["fid"].numpy()), data)
        lost = (np.abs(shift - np.median(shift)) > 5) | (np.abs(phase) > 30)
        lines.append(_row(name, [float(shift.std()), float(phase.std()), f"{100 * lost.mean():.1f} %"]))
    return "\n".join(lines) + "\n"


_SHOWN = ("dsr", "dsrf", "dcrr", "SR", "default, known reference", "default")
# The width is that of the references, so that methods do not fit the noise of the signal itself.
_TRUE = {"shift_hz": 5.0, "phase_deg": 45.0, "apodise_fwhm_hz": 2.0, "amplitude": 1.0, "nuisance": []}


def cells_of(estimates, data: dict, signal: Signal) -> list[float]:
    """Return a method's figures in Table 1: SDs of shift (Hz) and phase (degrees), each of all transients, of those
    without and with nuisance peaks; similarity index of the first 240 when corrected, width of creatine (Hz) in the
    average."""
    corrected = apply_shift_phase(data["fid"].numpy(), *estimates, signal.dwelltime)
    index = float(similarity_index(corrected[:240], signal.axes))
    return [
        *precision(estimates, data),
        index,
        float(classical_alignment.creatine_width(corrected.mean(0), signal.axes)),
    ]


def _constant_set(signal: Signal, n: int, seed: int, snr: float) -> dict:
    """Simulate transients that differ in their noise only."""
    return make_set(signal, n, seed, snr=snr, **_TRUE)


def _relative_errors(estimates, data):
    """Return errors less the mean over a set, which is arbitrary in relative methods."""
    shift, phase = errors(estimates, data)
    return shift - shift.mean(), phase


def _noise(signal: Signal, every: dict, figure: Path, n: int, seed: int, say) -> str:
    """Report section 2.6.2: SNR from 3 to 110 at 5 Hz and 45 degrees."""
    levels = (3, 5, 8, 12, 18, 27, 40, 60, 85, 110)
    shown = [name for name in _SHOWN if name in every]
    sds, sets = {}, [_constant_set(signal, n, seed + 3_000_003 + k, float(snr)) for k, snr in enumerate(levels)]
    limit = [bounds(signal, one, _WINDOW) for one in sets]
    wide = [bounds(signal, one, None) for one in sets]
    for name in shown:
        say(f"SNR sweep of {name}.")
        per = [_relative_errors(every[name](one["fid"].numpy()), one) for one in sets]
        sds[name] = [(shift.std(), phase.std()) for shift, phase in per]
    lines = [
        "## SNR from 3 to 110\n",
        (
            f"{n} transients each at 5 Hz and 45 degrees (section 2.6.2 of the paper); SD of shift (Hz) / phase"
            " (degrees) about their mean. A network that always answers the same has no spread at all: read this"
            " beside Table 1. Methods that use all frequencies can fall below the bound of the window.\n"
        ),
        f"![SNR]({figure.name})\n",
        "| SNR | bound, 0.2 to 4.2 ppm | " + " | ".join(shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for k, snr in enumerate(levels):
        lines.append(
            _row(
                str(snr),
                [
                    f"{limit[k][1]:.3f} / {limit[k][4]:.2f}",
                    *(f"{sds[name][k][0]:.3f} / {sds[name][k][1]:.2f}" for name in shown),
                ],
            )
        )
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chart, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for panel, row, label in ((panels[0], 0, "SD of the shift (Hz)"), (panels[1], 1, "SD of the phase (degrees)")):
        panel.loglog(
            levels,
            [one[(1, 4)[row]] for one in wide],
            color="black",
            linestyle="--",
            linewidth=1.5,
            label="the same, all frequencies",
        )
        panel.loglog(
            levels,
            [one[(1, 4)[row]] for one in limit],
            color="black",
            linewidth=2.5,
            label="Cramer-Rao bound, 0.2 to 4.2 ppm",
        )
        for name in shown:
            panel.loglog(levels, [one[row] for one in sds[name]], marker="o", markersize=3.5, label=name)
        panel.set(xlabel="SNR at the time origin", ylabel=label)
        panel.set_xticks(levels, [str(one) for one in levels])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    chart.savefig(figure, dpi=110)
    pyplot.close(chart)
    return "\n".join(lines) + "\n"


def _monte_carlo(signal: Signal, every: dict, figure: Path, n: int, seed: int) -> str:
    """Report section 2.6.3: one SNR, many realisations of the noise; bias where the reference is known."""
    data = _constant_set(signal, n, seed + 4_000_003, 15.0)
    limit = bounds(signal, data, _WINDOW)
    lines = [
        "## Monte Carlo\n",
        (
            f"{n} realisations of the noise at SNR 15, 5 Hz and 45 degrees (section 2.6.3). Mean of the error +- SD;"
            " the mean of methods that are relative to a reference of their own, or to creatine, is the offset of that"
            " reference.\n"
        ),
        f"![Monte Carlo]({figure.name})\n",
        "| | shift (Hz) | mean / SD | phase (degrees) | mean / SD |",
        "|---|---|---|---|---|",
        _row("bound, 0.2 to 4.2 ppm", [f"+- {limit[1]:.3f}", "", f"+- {limit[4]:.2f}", ""]),
    ]
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in every if name in (*_SHOWN, "FSL-MRS align, known reference")]
    columns = min(4, len(names))
    chart, panels = pyplot.subplots(
        -(-len(names) // columns),
        columns,
        figsize=(2.7 * columns, 2.6 * -(-len(names) // columns)),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    angle = np.linspace(0, 2 * np.pi, 100)
    truth = data["shift_hz"].numpy(), np.rad2deg(data["phase"].numpy())
    for panel in panels.ravel()[len(names) :]:
        panel.set_axis_off()
    for name, panel in zip(names, panels.ravel()):
        estimates = every[name](data["fid"].numpy())
        shift, phase = np.asarray(estimates[0]) - truth[0], (np.asarray(estimates[1]) - truth[1] + 180) % 360 - 180
        cells = []
        for value in (shift, phase):
            cells += [f"{value.mean():+.3f} +- {value.std():.3f}", f"{value.mean() / value.std():+.2f}"]
        lines.append(_row(name, cells))
        panel.plot(shift - shift.mean(), phase - phase.mean(), ".", markersize=3, alpha=0.6)
        # Twice the bound either way; the errors of shift and phase are correlated, the bounds are not drawn so.
        panel.plot(2 * limit[1] * np.cos(angle), 2 * limit[4] * np.sin(angle), color="black", linewidth=1)
        panel.set(title=name, xlim=(-3, 3), ylim=(-12, 12))
        panel.title.set_fontsize(9)
        panel.grid(alpha=0.3)
    chart.supxlabel("shift less its mean (Hz); ellipse: twice the bound", fontsize=9)
    chart.supylabel("phase less its mean (degrees)", fontsize=9)
    chart.savefig(figure, dpi=110)
    pyplot.close(chart)
    return "\n".join(lines) + "\n"
