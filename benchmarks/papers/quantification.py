"""Accuracy of quantification on the simulated data of the physics-informed paper, beside its limits and the methods of
others.

Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837, doi 10.1016/j.compbiomed.2023.106837: data of section
4.1.1 (recipe 'shamaei-table2' on the basis set of the ISMRM fitting challenge), experiments of sections 4.4 to 4.8.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.fitting import quantify, uncertainty
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.files import claim, fingerprint
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.networks.out_of_distribution import network_scores
from fsl_mrs_dl.physics import spinsim
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

__all__ = ["PAPER_R2", "PAPER_MAPE", "PARTS", "Network", "load_basis", "networks_of", "train_network", "write_quant"]

PAPER_R2 = {
    "dq-nmm": {
        "Cr": 0.88,
        "Glu": 0.68,
        "GPC": 0.67,
        "Ins": 0.71,
        "NAA": 0.98,
        "NAAG": 0.46,
        "PCho": 0.62,
        "PCr": 0.54,
        "Tau": 0.66,
    },
    "QUEST": {"GPC": 0.10, "Ins": 0.35, "PCho": 0.10, "PCr": 0.19, "Tau": 0.42},
}
"""Coefficients of determination in the paper's text."""

PAPER_MAPE = {
    "dq-nmm": {"Cr": 6.02, "GPC": 16.27, "PCho": 18.2, "PCr": 9.12},
    "QUEST": {"GPC": 26.06, "PCho": 25.75, "PCr": 11.79},
}
"""Mean absolute errors in percent in the paper's text."""

PARTS = ("accuracy", "monte-carlo", "architecture", "lambda", "data-size", "calibration", "novelty")
"""What is measured, in this order."""

_DATA = "seed_quant_ismrm3t"
_NAMES = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCho PCr PE Tau sIns".split()
_DWELLTIME, _FREQUENCY = 0.25e-3, 123.23


def load_basis(path: str | Path | None = None) -> Basis:
    """A basis set with a macromolecule 'mm'; by default that of the paper, looked for in the folder
    FSL_MRS_DL_TESTDATA.

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
            f"{folder}: the paper's basis set is not there; give one with --basis, or the folder that holds {_DATA} in"
            " FSL_MRS_DL_TESTDATA (the files are in the GitHub repository amirshamaei/Deep-MRS-Quantification)."
        )
    fids = scipy.io.loadmat(folder / "basisset.mat")["data"].T
    mm = (
        next(value for key, value in scipy.io.loadmat(folder / "mm.mat").items() if not key.startswith("__"))
        .squeeze()
        .copy()
    )
    mm[0] -= np.fft.fftshift(np.fft.fft(mm))[0]
    # The files' frequency axis runs the other way.
    return Basis(np.concatenate([fids, mm[None]]).conj(), (*_NAMES, "mm"), _DWELLTIME, _FREQUENCY, source=_DATA)


@dataclass(frozen=True)
class Network:
    """One of the networks that are compared: its name, what it is trained with, and which part of all batches it is
    trained for."""

    name: str
    method: str
    part: str
    share: float = 1.0
    options: dict = field(default_factory=dict)


LAMBDAS = (0.01, 0.05, 0.5, 3)
SIZES = (1000, 12000, 24000, 96000)
_SHARE, _SMALL_SHARE, _SIZE_SHARE = 0.15, 0.1, 0.3  # of the batches of a main training


def networks_of(parts) -> list[Network]:
    """The networks that parts of the benchmark need."""
    every = [
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
    return [network for network in every if network.part in wanted]


SCALES = {"small": {"steps": 3000, "test": 1024}, "paper": {"steps": 135000, "test": 4096}}
"""Batches of a main training, and spectra to test on: 'small' takes minutes on two cores, 'paper' 200 epochs of 96000
signals."""


def train_network(
    network: Network, basis: Basis, folder: Path, *, steps: int, seed: int = 0, progress: bool = False
) -> model_cards.Card:
    """Train a network of the benchmark, or read it where it was trained before; one that was interrupted goes on."""
    from fsl_mrs_dl.training.self_supervised_quantification import SelfSupervisedTraining
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.trainer import train

    if (folder / "card.json").is_file():
        return model_cards.read_card(folder)
    n = max(50, int(steps * network.share))
    settings = Settings(
        steps=n,
        batch_size=128,
        learning_rate=2e-3,
        validate_every=max(25, n // 10),
        seed=seed,
        progress=progress,
        device="auto",
    )
    if network.options.get("encoder") in ("mlp-mixer", "convnext"):
        settings = replace(settings, learning_rate=1e-3)
    resume = (folder / "checkpoints" / "last.ckpt").is_file()
    options = dict(network.options)
    if "teacher" in options:
        options["n_signals"] = min(40000, max(1000, 3 * n))
    training = SelfSupervisedTraining(network.method, basis, settings=settings, recipe="shamaei-table2", **options)
    return train(training, folder, name=network.name, resume=resume)


def folder_of(output: Path, network: Network) -> Path:
    """Where a network is kept."""
    return output / "models" / network.name.replace(", ", "_").replace(" ", "-")


# -- data and limits -----------------------------------------------------------------------------------------------


def make_set(basis: Basis, n: int, seed: int, *, recipe=None, widen: float = 1.0, **changes) -> dict:
    """Simulated spectra with their truth.

    Parameters
    ----------
    basis : Basis
    n, seed : int
    recipe : Recipe, optional
        'shamaei-table2' by default; ``changes`` replaces entries of it.
    widen : float
        Above one, metabolites are drawn from zero to so many times the upper end of their range.

    Returns
    -------
    dict
        ``fid`` complex128 ``(n, n_points)``; ``conc`` ``(n, n_metabs)`` as a fit defines it, whose time begins one
        dwell time after the echo; ``lorentz_hz``, ``shift_hz``, ``phi0`` and ``noise_sd`` ``(n,)``.
    """
    recipe = recipe or recipes.Recipe.load("shamaei-table2")
    content = {**recipe.content, **changes}
    if widen > 1:
        ranges = {
            name: one if name == "mm" else {"uniform": [0, widen * one["uniform"][1]]}
            for name, one in content["concentrations"]["ranges"].items()
        }
        content["concentrations"] = {**content["concentrations"], "ranges": ranges}
    recipe = recipes.Recipe.of(recipe.name, content)
    n_points = min(2048, basis.n_points)
    protocol = protocols.protocol_of(basis.fids[:, :n_points], basis.names, basis.axes)
    drawn = random_spectra.draw(recipe, n, basis.names, torch.Generator().manual_seed(seed))
    made = random_spectra.render(drawn, protocol)
    damping = np.pi * drawn["lorentz_hz"].numpy().astype(float)
    return {
        "fid": made.fid.numpy().astype(complex),
        "conc": drawn["conc"].numpy().astype(float) * np.exp(damping[:, None] * basis.dwelltime),
        "noise_sd": made.noise_sd.numpy().astype(float),
        **{name: drawn[name].numpy().astype(float) for name in ("lorentz_hz", "shift_hz", "phi0")},
    }


def axes(basis: Basis) -> dict:
    """Dwell time (s) and frequency (MHz) by the names that functions take."""
    return {"dwelltime": basis.dwelltime, "spec_freq_mhz": basis.spec_freq_mhz}


_FIT = {"model": "lorentzian", "baseline": "off", "rescale": False}


def fitted(basis: Basis, data: dict, *, prior="shamaei-table2", **options):
    """A set of spectra, fitted with the model they were made with."""
    return fsl_mrs_dl.quantify(
        data["fid"], basis, prior=prior, **{"init": "classical", **options}, **_FIT, **axes(basis)
    )


def bounds(basis: Basis, data: dict) -> np.ndarray:
    """Cramer-Rao bounds of the concentrations at the truth, as covariances ``(n, n_metabs, n_metabs)``."""
    model, _ = quantify.model_for(basis, basis.axes.with_points(data["fid"].shape[-1]), FitOptions(**_FIT))
    column = lambda values: torch.as_tensor(values)[:, None]  # noqa: E731
    theta = model.join_theta(
        gamma=column(np.pi * data["lorentz_hz"]),
        eps=column(-2 * np.pi * data["shift_hz"]),
        phi0=column(data["phi0"]),
        phi1=column(np.zeros(len(data["fid"]))),
    )
    parts = []
    for rows in np.array_split(np.arange(len(theta)), -(-len(theta) // 128)):
        information = uncertainty.fisher_information(model, theta[rows], torch.as_tensor(data["conc"][rows]))
        parts.append(uncertainty.covariance(information, torch.as_tensor(data["noise_sd"][rows])).numpy())
    return np.concatenate(parts)[:, : basis.n_metabs, : basis.n_metabs]


def r2(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Coefficients of determination, ``(n_metabs,)``."""
    return 1 - np.mean((estimate - truth) ** 2, 0) / truth.var(0)


def slopes(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Slopes of estimate on truth, ``(n_metabs,)``."""
    centred = truth - truth.mean(0)
    return (centred * estimate).sum(0) / (centred**2).sum(0)


def mape(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute errors in percent, ``(n_metabs,)``."""
    return 100 * np.mean(np.abs(estimate - truth) / truth, 0)


def bayes_limit(bound: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Coefficients of determination of the best linear estimate where ``spread`` ``(n_metabs,)`` are the prior's
    variances."""
    left = np.linalg.inv(np.linalg.inv(bound) + np.diag(1 / spread))
    return 1 - np.diagonal(left, axis1=1, axis2=2).mean(0) / spread


# -- the report ----------------------------------------------------------------------------------------------------

_NINE = "Cr Glu GPC Ins NAA NAAG PCho PCr Tau".split()
_SIX = "Cr GPC Ins NAA PCho Tau".split()


def write_quant(
    output: str | Path,
    *,
    scale: str = "small",
    parts: tuple[str, ...] = PARTS,
    basis: str | Path | None = None,
    steps: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train what is not there yet, measure everything, and write ``table.md`` and its figures.

    Trained networks stay in ``output/models`` and are loaded from there the next time.

    Parameters
    ----------
    output : path
    scale : str
        One of :data:`SCALES`.
    parts : tuple of str
        Of :data:`PARTS`.
    basis : path, optional
        A basis set with 'mm' in place of the paper's.
    steps, n_test : int, optional
        In place of the scale's.
    seed : int
    say : callable

    Raises
    ------
    OptionError, DataError, OutputError
    """
    if scale not in SCALES:
        raise OptionError(f"--scale {scale}: there is no such scale; choose {' or '.join(SCALES)}.")
    for part in parts:
        if part not in PARTS:
            raise OptionError(f"--parts {part}: there is no such part; choose from {', '.join(PARTS)}.")
    output, basis = Path(output), load_basis(basis)
    steps, n_test = steps or SCALES[scale]["steps"], n_test or SCALES[scale]["test"]
    missing = [name for name in (*_NINE, "mm") if name not in basis.names]
    if missing:
        raise DataError(f"{basis.source}: has no {missing[0]}; the benchmark needs {', '.join(_NINE)} and mm.")
    claim(output, {"steps": steps, "seed": seed, "basis set": fingerprint(list(basis.names), np.asarray(basis.fids))})
    models = {}
    for network in networks_of(parts):
        folder = folder_of(output, network)
        if not (folder / "card.json").is_file():
            say(f"Training {network.name}; it is kept in {folder}.")
            train_network(network, basis, folder, steps=steps, seed=seed)
        models[network.name] = model_cards.load(folder)
    data = make_set(basis, n_test, seed + 1_000_003)
    made = {
        "accuracy": lambda: _accuracy(basis, data, models, output, seed, n_test),
        "monte-carlo": lambda: _monte_carlo(basis, models, output, seed),
        "architecture": lambda: _variants(basis, data, models, "architecture"),
        "lambda": lambda: _variants(basis, data, models, "lambda"),
        "data-size": lambda: _variants(basis, data, models, "data-size"),
        "calibration": lambda: _calibration(basis, output, seed, n_test),
        "novelty": lambda: _novelty(basis, models, seed, min(n_test, 512)),
    }
    text = [
        "# Quantification beside its limits and other methods\n",
        f"Made by `python -m benchmarks quant --scale {scale}"
        + (f" --steps {steps}" if steps != SCALES[scale]["steps"] else "")
        + f"`, {torch.get_num_threads()} threads of a {platform.machine()} CPU, torch {torch.__version__}. Main"
        f" networks are trained with {steps} batches of 128 at most, the others with less; each table says how"
        " many.\n",
        (
            "Data: section 4.1.1 of doi 10.1016/j.compbiomed.2023.106837, made anew; SNR 67 +- 15, highest metabolite"
            " peak of the spectrum over the SD of its noise. Fits: Lorentzian model, no baseline, 0.2 to 4.2 ppm.\n"
        ),
    ]
    for part in PARTS:
        if part in parts:
            say(f"Measuring: {part}.")
            text.append(made[part]())
    path = output / "table.md"
    path.write_text("\n".join(text))
    return path


def _row(name: str, values, digits: int = 2) -> str:
    return f"| {name} | " + " | ".join("" if value is None else f"{value:.{digits}f}" for value in values) + " |"


def _head(first: str, columns) -> list[str]:
    return [f"| {first} | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]


def _answers(network, data: dict) -> tuple[np.ndarray, float]:
    """A network's own concentrations, and how many milliseconds a spectrum took in batches of 1024."""
    fid = torch.as_tensor(data["fid"]).to(torch.complex64)
    with torch.no_grad():
        network.concentrations(fid[:64])
        begun = time.perf_counter()
        parts = [network.concentrations(part) for part in fid.split(1024)]
        took = time.perf_counter() - begun
    return torch.cat(parts).numpy(), 1e3 * took / len(fid)


def _in_order(values: np.ndarray, names, wanted) -> list:
    """Columns by name, None where a network has none."""
    names = list(names)
    return [values[..., names.index(name)] if name in names else None for name in wanted]


_STEPS = {
    "dq-nmm": "published loss",
    "dq-nmm taught": "taught by fits",
    "dq-pmm": "published loss",
    "dq-rpmm": "published loss",
}


def _accuracy(basis: Basis, data: dict, models: dict, output: Path, seed: int, n_test: int) -> str:
    """Section 4.4: networks, fits, limits and others on the same spectra; then the fit against its bound."""
    names, truth = list(basis.names), data["conc"]
    begun = time.perf_counter()
    fit = fitted(basis, data, prior="none")
    fit_ms = 1e3 * (time.perf_counter() - begun) / len(truth)
    posterior = fitted(basis, data).posterior.mean
    bound = bounds(basis, data)
    crlb = np.sqrt(np.diagonal(bound, axis1=1, axis2=2))
    rows = {
        "paper, DQ-nMM": (
            [PAPER_R2["dq-nmm"].get(n) for n in _NINE],
            [PAPER_MAPE["dq-nmm"].get(n) for n in _NINE],
            None,
        )
    }
    rows["paper, QUEST"] = (
        [PAPER_R2["QUEST"].get(n) for n in _NINE],
        [PAPER_MAPE["QUEST"].get(n) for n in _NINE],
        None,
    )
    estimates = {}
    for name, about in _STEPS.items():
        network, card = models[name]
        conc, ms = _answers(network, data)
        own = [names.index(one) for one in network.names if one in names]
        conc = conc[:, [network.names.index(names[i]) for i in own]]
        label = f"{name}, {about}, {card['training']['steps']} batches"
        rows[label] = tuple(
            _in_order(measure(conc, truth[:, own]), [names[i] for i in own], _NINE) for measure in (r2, mape)
        ) + (ms,)
        estimates[name] = dict(zip([names[i] for i in own], conc.T))
    for label, conc, ms in (
        ("fit, `ml`", fit.conc, fit_ms),
        ("fit, `posterior_mean` (prior: the recipe)", posterior, None),
    ):
        rows[label] = (_in_order(r2(conc, truth), names, _NINE), _in_order(mape(conc, truth), names, _NINE), ms)
        estimates[label] = dict(zip(names, conc.T))
    ratio = ""
    newton = _newton(basis, data)
    if newton is not None:
        few, ms = newton
        some = slice(0, len(few))
        label = f"FSL-MRS Newton, {len(few)} of the spectra"
        rows[label] = (
            _in_order(r2(few, truth[some]), names, _NINE),
            _in_order(mape(few, truth[some]), names, _NINE),
            ms,
        )
        ratio = f" The fit is {ms / fit_ms:.0f} times faster than FSL-MRS Newton in the same run."
    spread = truth.var(0)
    rows["limit without bias (Cramer-Rao)"] = (
        _in_order(1 - (crlb**2).mean(0) / spread, names, _NINE),
        [None] * 9,
        None,
    )
    rows["limit with the recipe as prior (Bayes, linear)"] = (
        _in_order(bayes_limit(bound, spread), names, _NINE),
        [None] * 9,
        None,
    )
    text = [
        f"## Accuracy: {len(truth)} spectra\n",
        "Coefficient of determination.\n",
        *_head("", [*_NINE, "ms per spectrum"]),
    ]
    text += [_row(name, [*values, ms]) for name, (values, _, ms) in rows.items()]
    text += ["\nMean absolute error, percent.\n", *_head("", _NINE)]
    text += [
        _row(name, values, 1) for name, (_, values, _) in rows.items() if any(value is not None for value in values)
    ]
    text += [f"\n{ratio.strip()}\n" if ratio else ""]
    _scatter(output / "accuracy.png", estimates, dict(zip(names, truth.T)))
    text += ["![Estimates against truth](accuracy.png)\n"]
    text += [_against_bound("### The fit against its bound", basis, fit, truth, bound)]
    for label, changes in (("the same with 1.8 times the noise", {"snr": {"normal": [37, 8]}}),):
        other = make_set(basis, n_test, seed + 1_000_004, **changes)
        text += [
            _against_bound(
                f"### {label[0].upper()}{label[1:]}",
                basis,
                fitted(basis, other, prior="none"),
                other["conc"],
                bounds(basis, other),
            )
        ]
    wide = make_set(basis, n_test, seed + 1_000_005, widen=3.0)
    text += [
        _against_bound(
            "### Concentrations from zero to three times the highest of the range",
            basis,
            fitted(basis, wide, prior="none"),
            wide["conc"],
            bounds(basis, wide),
        )
    ]
    return "\n".join(text)


def _against_bound(title: str, basis: Basis, fit, truth: np.ndarray, bound: np.ndarray) -> str:
    """RMSE and bias over the bound, and slope of estimate on truth where the bound is below 20 %."""
    crlb = np.sqrt(np.diagonal(bound, axis1=1, axis2=2))
    error, size = fit.conc - truth, np.sqrt((crlb**2).mean(0))
    percent = 100 * np.median(crlb / np.maximum(truth, 1e-9), 0)
    text = [f"{title}\n", *_head("metabolite", ["RMSE / CRLB", "bias / CRLB", "CRLB, %", "slope", "its SD"])]
    for i, name in enumerate(basis.names):
        slope = slope_sd = None
        if percent[i] < 20:
            centred = truth[:, i] - truth[:, i].mean()
            slope = float(centred @ fit.conc[:, i] / (centred @ centred))
            slope_sd = float(np.sqrt(centred**2 @ (error[:, i] - error[:, i].mean()) ** 2) / (centred @ centred))
        values = (
            np.sqrt((error[:, i] ** 2).mean()) / size[i],
            error[:, i].mean() / size[i],
            percent[i],
            slope,
            slope_sd,
        )
        text.append(
            f"| {name} | {values[0]:.3f} | {values[1]:+.3f} | {values[2]:.1f} | "
            + " | ".join("" if v is None else f"{v:.3f}" for v in values[3:])
            + " |"
        )
    text.append(
        f"\n{len(truth)} spectra, {100 * fit.converged.mean():.1f} % converged; standard error of a bias"
        f" {1 / np.sqrt(len(truth)):.3f}.\n"
    )
    return "\n".join(text)


def _newton(basis: Basis, data: dict, n: int = 48):
    """FSL-MRS Newton on the first spectra and its milliseconds for each; None where FSL-MRS is not installed."""
    try:
        from benchmarks import fsl_mrs_reference
    except ImportError:
        return None
    few = data["fid"][:n]
    begun = time.perf_counter()
    conc = fsl_mrs_reference.its_fit(few, basis, **axes(basis))
    return conc, 1e3 * (time.perf_counter() - begun) / len(few)


def _scatter(path: Path, estimates: dict, truth: dict) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    shown = {"dq-nmm": "#999999", "dq-nmm taught": "#0072b2", "fit, `ml`": "#d55e00"}
    figure, panels = plt.subplots(3, 3, figsize=(9, 9), layout="constrained")
    for axes_, name in zip(panels.flat, _NINE):
        some = slice(0, 256)
        for label, colour in shown.items():
            if name in estimates.get(label, {}):
                axes_.plot(
                    truth[name][some],
                    estimates[label][name][some],
                    ".",
                    ms=3,
                    color=colour,
                    label=label.replace("`", ""),
                )
        ends = [truth[name].min(), truth[name].max()]
        axes_.plot(ends, ends, "k-", lw=0.8)
        axes_.set_title(name, fontsize=10)
        axes_.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(fontsize=8, frameon=False, markerscale=2)
    figure.supxlabel("true concentration (a.u.)")
    figure.supylabel("estimate (a.u.)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _monte_carlo(basis: Basis, models: dict, output: Path, seed: int) -> str:
    """Section 4.5: 256 noise realisations of one signal."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    recipe = recipes.Recipe.load("shamaei-table2")
    middle = {name: sum(one["uniform"]) / 2 for name, one in recipe.get("concentrations")["ranges"].items()}
    text = ["## Monte Carlo: 256 realisations of the noise on one signal, SNR 50\n"]
    text += [
        "All concentrations in the middle of their ranges, shift 2 Hz, damping 5 per second. Bias and SD over the"
        " Cramer-Rao bound.\n"
    ]
    columns = [f"{name} {what}" for name in _NINE for what in ("bias", "SD")]
    text += _head("", columns)
    histograms = {}
    for phase, label in (
        (15.0, "phase 15 degrees"),
        (45.0, "phase 45 degrees, as in the paper; networks are trained to 18"),
    ):
        data = make_set(
            basis,
            256,
            seed + 1_000_006,
            concentrations={"prior": "table", "ranges": middle},
            lorentz_fwhm_hz=5 / np.pi,
            shift_hz=2.0,
            phase_deg=-phase,
            snr=50.0,
        )
        crlb = np.sqrt(np.diagonal(bounds(basis, data), axis1=1, axis2=2)).mean(0)
        answers = {
            name: (_answers(models[name][0], data)[0], models[name][0].names) for name in ("dq-nmm", "dq-nmm taught")
        }
        answers["fit, `ml`"] = (fitted(basis, data, prior="none").conc, basis.names)
        for name, (conc, names) in answers.items():
            cells = []
            for metab in _NINE:
                i, j = list(names).index(metab), basis.names.index(metab)
                error = conc[:, i] - data["conc"][:, j]
                cells += [error.mean() / crlb[j], error.std() / crlb[j]]
                if phase == 15.0:
                    histograms.setdefault(metab, {"truth": data["conc"][0, j]})[name] = conc[:, i]
            text.append(_row(f"{name}, {label}", cells))
    figure, panels = plt.subplots(3, 3, figsize=(9, 8), layout="constrained")
    for axes_, (metab, parts) in zip(panels.flat, histograms.items()):
        whole = np.concatenate([values for key, values in parts.items() if key != "truth"])
        bins = np.linspace(*np.quantile(whole, [0.002, 0.998]), 40)
        for (name, values), colour in zip(
            ((k, v) for k, v in parts.items() if k != "truth"), ("#999999", "#0072b2", "#d55e00")
        ):
            axes_.hist(values, bins, histtype="step", color=colour, label=name.replace("`", ""))
        axes_.axvline(parts["truth"], color="k", lw=1)
        axes_.set_title(metab, fontsize=10)
        axes_.set_yticks([])
        axes_.spines[["top", "right", "left"]].set_visible(False)
    panels[0, 0].legend(fontsize=7, frameon=False)
    figure.supxlabel("estimate (a.u.); line: truth")
    figure.savefig(output / "monte_carlo.png", dpi=120)
    plt.close(figure)
    return "\n".join([*text, "\n![Histograms](monte_carlo.png)\n"])


_ABOUT = {
    "architecture": (
        "Encoders of DQ-rpMM",
        "The paper finds convolutions best, ConvNeXt as good, fully connected layers and MLP-Mixer worse.",
    ),
    "lambda": (
        "Weight of the rule of DQ-rpMM",
        "The paper finds that each metabolite has a best weight of its own; its unit is not ours.",
    ),
    "data-size": (
        "Number of training signals, DQ-nMM",
        "The paper finds that 1000 are too few and 12000 the least that will do.",
    ),
}


def _variants(basis: Basis, data: dict, models: dict, part: str) -> str:
    """Sections 4.6 to 4.8: one table of networks."""
    title, paper = _ABOUT[part]
    text = [f"## {title}\n", f"{paper} Coefficient of determination; mean over {', '.join(_SIX)}.\n"]
    text += _head("", ["mean", *_SIX, "million operations", "ms per spectrum", "batches", "minutes"])
    names = list(basis.names)
    for network in networks_of([part]):
        model, card = models[network.name]
        conc, ms = _answers(model, data)
        values = [float(r2(conc[:, [model.names.index(n)]], data["conc"][:, [names.index(n)]])[0]) for n in _SIX]
        cells = [
            float(np.mean(values)),
            *values,
            card["architecture"]["flops"] / 1e6,
            ms,
            card["training"]["steps"],
            card["training"]["minutes"],
        ]
        text.append(
            _row(network.name, cells[:7])
            + " "
            + " | ".join(f"{c:.{d}f}" for c, d in zip(cells[7:], (1, 3, 0, 1)))
            + " |"
        )
    return "\n".join([*text, ""])


def _calibration(basis: Basis, output: Path, seed: int, n: int) -> str:
    """How often intervals hold the truth, by SNR, metabolite and concentration; CRPS of the posterior."""
    from scipy.special import ndtr

    names = list(basis.names)
    text = [
        "## Calibration\n",
        (
            f"Part of {n} spectra whose interval holds the truth, in percent; standard error at 95 %"
            f" {100 * np.sqrt(0.95 * 0.05 / n):.1f}.\n"
        ),
    ]
    deciles = []
    for snr in (10, 30, 67):
        data = make_set(basis, n, seed + 1_000_010 + snr, snr=float(snr))
        truth, fit = data["conc"], fitted(basis, data)
        found = fit.posterior
        i, j = names.index("NAA"), names.index("Cr")
        ratio = truth[:, i] / truth[:, j]
        own = [fit.interval([k]) for k in range(len(names))]
        inside = {
            "ml, 95 %": np.stack(
                [(truth[:, k] >= low) & (truth[:, k] <= high) for k, (low, high) in enumerate(own)], 1
            ),
            "posterior, 95 %": (truth >= found.low) & (truth <= found.high),
            "posterior, 68 %": (truth >= found.low68) & (truth <= found.high68),
        }
        middle = fit.free[:, : len(names)]
        half = fit.crlb_sd * 0.994458
        inside["ml, 68 %"] = (truth >= np.maximum(middle - half, 0)) & (truth <= np.maximum(middle + half, 0))
        ratios = {
            "ml, 95 %": fit.ratio_interval([i], [j]),
            "posterior, 95 %": uncertainty.ratio_interval(found.mean, found.cov, [i], [j]),
        }
        text += [f"### SNR {snr}\n", *_head("", [*names, "NAA/Cr"])]
        for label in ("ml, 95 %", "ml, 68 %", "posterior, 95 %", "posterior, 68 %"):
            low, high = ratios.get(label, (None, None))
            last = None if low is None else 100 * np.mean((ratio >= low) & (ratio <= high))
            text.append(_row(label, [*(100 * inside[label].mean(0)), last], 1))
        z = (truth - found.mean) / found.sd
        crps = found.sd * (z * (2 * ndtr(z) - 1) + 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
        own_z = (truth - fit.conc) / fit.crlb_sd
        own_crps = fit.crlb_sd * (
            own_z * (2 * ndtr(own_z) - 1) + 2 * np.exp(-(own_z**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)
        )
        text += [_row("CRPS / SD of the truth, ml", [*(own_crps.mean(0) / truth.std(0)), None])]
        text += [_row("CRPS / SD of the truth, posterior", [*(crps.mean(0) / truth.std(0)), None])]
        text += [
            _row("slope on the truth, ml", [*slopes(fit.conc, truth), None]),
            _row("slope on the truth, posterior", [*slopes(found.mean, truth), None]),
        ]
        text += [_row("share of the prior that is left", [*found.pull.mean(0), None]), ""]
        order = np.argsort(np.argsort(truth, 0), 0) * 10 // n
        deciles.append(
            (
                snr,
                {
                    label: [inside[label][order == k].mean() for k in range(10)]
                    for label in ("ml, 95 %", "posterior, 95 %")
                },
            )
        )
    text += ["### By decile of the concentration, all metabolites\n", *_head("", [str(k + 1) for k in range(10)])]
    text += [
        _row(f"{label}, SNR {snr}", [100 * value for value in values], 1)
        for snr, parts in deciles
        for label, values in parts.items()
    ]
    return "\n".join([*text, ""])


def auroc(clean: np.ndarray, strange: np.ndarray) -> float:
    """Probability that a strange spectrum has a higher score than a clean one."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([clean, strange]))
    return float((ranks[len(clean) :].sum() - len(strange) * (len(strange) + 1) / 2) / len(clean) / len(strange))


def strange_sets(basis: Basis, n: int, seed: int) -> dict[str, dict]:
    """Spectra that are not like those a fit or a network was made for, by what is strange."""
    sets = {}
    base = recipes.Recipe.load("shamaei-table2").get("concentrations")
    glycine = {**base["ranges"], "Gly": {"uniform": [10 * x for x in base["ranges"]["Gly"]["uniform"]]}}
    sets["glycine ten times as high"] = make_set(basis, n, seed, concentrations={**base, "ranges": glycine})
    plain = make_set(basis, n, seed + 1)
    time_axis = np.arange(plain["fid"].shape[-1]) * basis.dwelltime
    height = np.abs(np.fft.fft(plain["fid"], axis=-1, norm="ortho")).max(1, keepdims=True)
    sets["propylene glycol"] = {
        **plain,
        "fid": plain["fid"] + _propylene_glycol(plain, time_axis, basis) * 0.25 * height,
    }
    sets["lines twice as wide as the widest"] = make_set(basis, n, seed + 2, lorentz_fwhm_hz={"uniform": [9.55, 11.0]})
    sets["lipids"] = make_set(
        basis,
        n,
        seed + 3,
        lipids=[
            {
                "height": {"loguniform": [0.3, 3.0]},
                "n": 2,
                "ppm": {"uniform": [0.9, 1.4]},
                "gauss_fwhm_hz": {"uniform": [12, 35]},
                "phase_deg": {"uniform": [-30, 30]},
            }
        ],
    )
    sets["water, not suppressed"] = make_set(
        basis,
        n,
        seed + 4,
        water={
            "height": {"loguniform": [20, 500]},
            "ppm": {"uniform": [4.6, 4.75]},
            "lorentz_fwhm_hz": {"uniform": [2, 8]},
            "phase_deg": {"uniform": [-180, 180]},
        },
    )
    wrong, names = spinsim.simulate_basis(
        [_PLAIN.get(name, name) for name in basis.names if name != "mm"],
        "press",
        te_ms=80.0,
        spec_freq_mhz=basis.spec_freq_mhz,
        bandwidth_hz=basis.bandwidth,
        n_points=basis.n_points,
        fwhm_hz=2.0,
    )
    # The same number of protons as the basis set's, so that nothing but the echo time differs.
    right, _ = spinsim.simulate_basis(
        names,
        "press",
        te_ms=30.0,
        spec_freq_mhz=basis.spec_freq_mhz,
        bandwidth_hz=basis.bandwidth,
        n_points=basis.n_points,
        fwhm_hz=2.0,
    )
    size = np.abs(basis.fids[:-1]).max(1) / np.abs(right).max(1)
    other = Basis(
        np.concatenate([wrong * size[:, None], basis.fids[-1:]]), basis.names, basis.dwelltime, basis.spec_freq_mhz
    )
    sets["echo time 80 ms instead of 30"] = make_set(other, n, seed + 5)
    return sets


_PLAIN = {"PCho": "PCh", "sIns": "Scyllo"}


def _propylene_glycol(data: dict, time_axis: np.ndarray, basis: Basis) -> np.ndarray:
    """The methyl doublet at 1.14 ppm, 6.5 Hz apart, as high as one in the spectrum, with each spectrum's shift, width
    and phase."""
    hz = -(4.65 - 1.14) * basis.spec_freq_mhz
    lines = sum(np.exp(2j * np.pi * (hz + apart) * time_axis) for apart in (-3.25, 3.25)) * np.exp(
        -2 * np.pi * time_axis
    )
    turn = (
        2j * np.pi * data["shift_hz"][:, None] * time_axis
        - np.pi * data["lorentz_hz"][:, None] * time_axis
        - 1j * data["phi0"][:, None]
    )
    fids = lines * np.exp(turn)
    return fids / np.abs(np.fft.fft(fids, axis=-1, norm="ortho")).max(1, keepdims=True)


def _novelty(basis: Basis, models: dict, seed: int, n: int) -> str:
    """Can spectra that are strange be told from clean ones?"""
    network, card = models["dq-nmm taught"]
    ask = lambda data: network_scores(network, card["clean"], torch.as_tensor(data["fid"]).to(torch.complex64))  # noqa: E731
    plain = make_set(basis, n, seed + 2_000_000)
    clean_fit, clean_network = fitted(basis, plain).ood, ask(plain)
    text = [
        "## Spectra unlike clean ones\n",
        f"{n} spectra each. Area under the curve, and the percentage with a score above 1.\n",
    ]
    text += _head("", ["AUROC, fit", "above 1, fit", "AUROC, network", "above 1, network"])
    text += [f"| clean |  | {100 * np.mean(clean_fit > 1):.1f} |  | {100 * np.mean(clean_network > 1):.1f} |"]
    sets = strange_sets(basis, n, seed + 2_000_010)
    without = basis.select(ignore=["Gly"])
    for name, data in sets.items():
        fit, own = fitted(basis, data).ood, ask(data)
        text.append(
            f"| {name} | {auroc(clean_fit, fit):.3f} | {100 * np.mean(fit > 1):.1f} | {auroc(clean_network, own):.3f} |"
            f" {100 * np.mean(own > 1):.1f} |"
        )
    missing = "glycine ten times as high"
    fit, plain_fit = fitted(without, sets[missing]).ood, fitted(without, plain).ood
    text.append(
        f"| {missing}, not in the basis set | {auroc(plain_fit, fit):.3f} | {100 * np.mean(fit > 1):.1f} |  |  |"
    )
    return "\n".join([*text, ""])
