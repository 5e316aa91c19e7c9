"""Accuracy of quantification on the simulated data of the physics-informed paper, beside its limits and other methods.

Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837, doi 10.1016/j.compbiomed.2023.106837: experiments of
sections 4.4 to 4.8.  Data: :mod:`benchmarks.papers.quantification_data`; fits and limits:
:mod:`benchmarks.papers.quantification_measures`; trainings: :mod:`benchmarks.papers.quantification_trainings`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.papers import quantification_data as sets
from benchmarks.papers import quantification_measures as measures
from benchmarks.papers.quantification_trainings import BATCH_SIZE, PARTS, SCALES, folder_of, networks_of, train_network
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.fitting import uncertainty
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.files import claim, fingerprint
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.networks.out_of_distribution import network_scores
from fsl_mrs_dl.simulation import recipes

__all__ = ["COMPARED", "PAPER_MAPE", "PAPER_R2", "measure_network", "write_quant"]

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


_NINE = "Cr Glu GPC Ins NAA NAAG PCho PCr Tau".split()


COMPARED = "Cr GPC Ins NAA PCho Tau".split()
"""Metabolites that variants of a network are compared on."""


def write_quant(
    output: str | Path,
    *,
    scale: str = "small",
    parts: tuple[str, ...] = PARTS,
    basis: str | Path | None = None,
    steps: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    long: dict | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the missing networks, measure everything, and write ``table.md`` and its figures; return its path.

    Trained networks stay in ``output/models`` and are loaded from there in the next run.

    Parameters
    ----------
    output : path
    scale : str
        One of :data:`benchmarks.papers.quantification_trainings.SCALES`.
    parts : tuple of str
        Some of :data:`benchmarks.papers.quantification_trainings.PARTS`.
    basis : path, optional
        Basis set with 'mm' in place of the paper's.
    steps, n_test : int, optional
        Of a main training, and spectra to test on; those of the scale by default.
    seed : int
    long : dict, optional
        Further networks of the part 'accuracy' with their cards, by the names of their rows: those of
        :mod:`benchmarks.papers.long_trainings`.
    say : callable

    Raises
    ------
    OptionError, DataError, OutputError
    """
    if scale not in SCALES:
        raise OptionError("there is no such scale", option="scale", value=scale, remedy=f"choose {' or '.join(SCALES)}")
    for part in parts:
        if part not in PARTS:
            raise OptionError(
                "there is no such part", option="parts", value=part, remedy=f"choose from {', '.join(PARTS)}"
            )
    output, basis = Path(output), sets.load_basis(basis)
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
    data = sets.make_set(basis, n_test, seed + 1_000_003)
    sections = {
        "accuracy": lambda: _accuracy(basis, data, models | (long or {}), tuple(long or ()), output, seed, n_test),
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
        f" networks are trained with {steps} batches of {BATCH_SIZE} at most, the others with less; each table says how"
        " many. Networks at their published length: [long_trainings.md](long_trainings.md).\n",
        (
            "Data: section 4.1.1 of doi 10.1016/j.compbiomed.2023.106837, simulated again; SNR 67 +- 15, highest"
            " metabolite peak of the spectrum over the SD of its noise. Fits: Lorentzian model, no baseline, 0.2 to 4.2"
            " ppm.\n"
        ),
    ]
    for part in PARTS:
        if part in parts:
            say(f"Measuring: {part}.")
            text.append(sections[part]())
    path = output / "table.md"
    path.write_text("\n".join(text))
    return path


def _row(name: str, values, digits: int = 2) -> str:
    return f"| {name} | " + " | ".join("" if value is None else f"{value:.{digits}f}" for value in values) + " |"


def _table_head(first: str, columns) -> list[str]:
    return [f"| {first} | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]


def measure_network(network, data: dict) -> tuple[np.ndarray, float]:
    """Return a network's concentrations ``(n, n_metabs)`` and its milliseconds per spectrum in batches of 1024."""
    fid = torch.as_tensor(data["fid"]).to(torch.complex64)
    with torch.no_grad():
        network.concentrations(fid[:64])
        start = time.perf_counter()
        parts = [network.concentrations(part) for part in fid.split(1024)]
        seconds = time.perf_counter() - start
    return torch.cat(parts).numpy(), 1e3 * seconds / len(fid)


def _columns(values: np.ndarray, names, wanted) -> list:
    """Return columns by name, None where a network has none."""
    names = list(names)
    return [values[..., names.index(name)] if name in names else None for name in wanted]


_TRAINED_BY = {
    "dq-nmm": "published loss",
    "dq-nmm taught": "taught by fits",
    "dq-pmm": "published loss",
    "dq-rpmm": "published loss",
}


def _accuracy(
    basis: Basis, data: dict, models: dict, long: tuple[str, ...], output: Path, seed: int, n_test: int
) -> str:
    """Report section 4.4: networks, fits, limits and other methods on the same spectra; then the fit over its bound.

    Long, because every row of the table is one statement or two.
    """
    names, truth = list(basis.names), data["conc"]
    start = time.perf_counter()
    fit = measures.fit_set(basis, data, prior="none")
    fit_ms = 1e3 * (time.perf_counter() - start) / len(truth)
    posterior = measures.fit_set(basis, data).posterior.mean
    bound = measures.bounds(basis, data)
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
    for name, about in (_TRAINED_BY | dict.fromkeys(long, "published loss")).items():
        network, card = models[name]
        conc, ms = measure_network(network, data)
        own = [names.index(one) for one in network.names if one in names]
        conc = conc[:, [network.names.index(names[i]) for i in own]]
        label = f"{name}, {about}, {card['training']['steps']} batches"
        rows[label] = tuple(
            _columns(measure(conc, truth[:, own]), [names[i] for i in own], _NINE)
            for measure in (measures.r2, measures.mape)
        ) + (ms,)
        estimates[name] = dict(zip([names[i] for i in own], conc.T))
    for label, conc, ms in (
        ("fit, `ml`", fit.conc, fit_ms),
        ("fit, `posterior_mean` (prior: the recipe)", posterior, None),
    ):
        rows[label] = (
            _columns(measures.r2(conc, truth), names, _NINE),
            _columns(measures.mape(conc, truth), names, _NINE),
            ms,
        )
        estimates[label] = dict(zip(names, conc.T))
    ratio = ""
    newton = _fit_by_newton(basis, data)
    if newton is not None:
        newton_conc, ms = newton
        some = slice(0, len(newton_conc))
        label = f"FSL-MRS Newton, {len(newton_conc)} of the spectra"
        rows[label] = (
            _columns(measures.r2(newton_conc, truth[some]), names, _NINE),
            _columns(measures.mape(newton_conc, truth[some]), names, _NINE),
            ms,
        )
        ratio = f" The fit is {ms / fit_ms:.0f} times faster than FSL-MRS Newton in the same run."
    spread = truth.var(0)
    rows["limit without bias (Cramer-Rao)"] = (
        _columns(1 - (crlb**2).mean(0) / spread, names, _NINE),
        [None] * 9,
        None,
    )
    rows["limit with the recipe as prior (Bayes, linear)"] = (
        _columns(measures.bayes_limit(bound, spread), names, _NINE),
        [None] * 9,
        None,
    )
    text = [
        f"## Accuracy: {len(truth)} spectra\n",
        "Coefficient of determination.\n",
        *_table_head("", [*_NINE, "ms per spectrum"]),
    ]
    text += [_row(name, [*values, ms]) for name, (values, _, ms) in rows.items()]
    text += ["\nMean absolute error, percent.\n", *_table_head("", _NINE)]
    text += [
        _row(name, values, 1) for name, (_, values, _) in rows.items() if any(value is not None for value in values)
    ]
    text += [f"\n{ratio.strip()}\n" if ratio else ""]
    _plot_estimates(output / "accuracy.png", estimates, dict(zip(names, truth.T)))
    text += ["![Estimates against truth](accuracy.png)\n"]
    text += [_against_bound("### The fit against its bound", basis, fit, truth, bound)]
    for label, changes in (("the same with 1.8 times the noise", {"snr": {"normal": [37, 8]}}),):
        other = sets.make_set(basis, n_test, seed + 1_000_004, **changes)
        text += [
            _against_bound(
                f"### {label[0].upper()}{label[1:]}",
                basis,
                measures.fit_set(basis, other, prior="none"),
                other["conc"],
                measures.bounds(basis, other),
            )
        ]
    wide = sets.make_set(basis, n_test, seed + 1_000_005, widen=3.0)
    text += [
        _against_bound(
            "### Concentrations from zero to three times the highest of the range",
            basis,
            measures.fit_set(basis, wide, prior="none"),
            wide["conc"],
            measures.bounds(basis, wide),
        )
    ]
    return "\n".join(text)


def _against_bound(title: str, basis: Basis, fit, truth: np.ndarray, bound: np.ndarray) -> str:
    """Report RMSE and bias over the bound, and slope of estimate on truth where the bound is below 20 %."""
    crlb = np.sqrt(np.diagonal(bound, axis1=1, axis2=2))
    error, size = fit.conc - truth, np.sqrt((crlb**2).mean(0))
    percent = 100 * np.median(crlb / np.maximum(truth, 1e-9), 0)
    text = [f"{title}\n", *_table_head("metabolite", ["RMSE / CRLB", "bias / CRLB", "CRLB, %", "slope", "its SD"])]
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


def _fit_by_newton(basis: Basis, data: dict, n: int = 48):
    """Return concentrations by FSL-MRS Newton of the first spectra and its milliseconds per spectrum; None without
    FSL-MRS."""
    try:
        from benchmarks import fsl_mrs_reference
    except ImportError:
        return None
    fids = data["fid"][:n]
    start = time.perf_counter()
    conc = fsl_mrs_reference.fsl_mrs_newton(fids, basis, basis.axes.with_points(fids.shape[-1]))
    return conc, 1e3 * (time.perf_counter() - start) / len(fids)


def _plot_estimates(path: Path, estimates: dict, truth: dict) -> None:
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
    """Report section 4.5: 256 noise realisations of one signal."""
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
    text += _table_head("", columns)
    histograms = {}
    for phase, label in (
        (15.0, "phase 15 degrees"),
        (45.0, "phase 45 degrees, as in the paper; networks are trained to 18"),
    ):
        data = sets.make_set(
            basis,
            256,
            seed + 1_000_006,
            concentrations={"prior": "table", "ranges": middle},
            lorentz_fwhm_hz=5 / np.pi,
            shift_hz=2.0,
            phase_deg=-phase,
            snr=50.0,
        )
        crlb = np.sqrt(np.diagonal(measures.bounds(basis, data), axis1=1, axis2=2)).mean(0)
        answers = {
            name: (measure_network(models[name][0], data)[0], models[name][0].names)
            for name in ("dq-nmm", "dq-nmm taught")
        }
        answers["fit, `ml`"] = (measures.fit_set(basis, data, prior="none").conc, basis.names)
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


_TITLES = {
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
    """Report sections 4.6 to 4.8: one table of networks."""
    title, paper = _TITLES[part]
    text = [f"## {title}\n", f"{paper} Coefficient of determination; mean over {', '.join(COMPARED)}.\n"]
    text += _table_head("", ["mean", *COMPARED, "million operations", "ms per spectrum", "batches", "minutes"])
    names = list(basis.names)
    for network in networks_of([part]):
        model, card = models[network.name]
        conc, ms = measure_network(model, data)
        values = [
            float(measures.r2(conc[:, [model.names.index(n)]], data["conc"][:, [names.index(n)]])[0]) for n in COMPARED
        ]
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
    """Report how often intervals hold the truth, by SNR, metabolite and concentration, and the CRPS."""
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
        data = sets.make_set(basis, n, seed + 1_000_010 + snr, snr=float(snr))
        truth, fit = data["conc"], measures.fit_set(basis, data)
        posterior = fit.posterior
        i, j = names.index("NAA"), names.index("Cr")
        ratio = truth[:, i] / truth[:, j]
        own = [fit.interval([k]) for k in range(len(names))]
        inside = {
            "ml, 95 %": np.stack(
                [(truth[:, k] >= low) & (truth[:, k] <= high) for k, (low, high) in enumerate(own)], 1
            ),
            "posterior, 95 %": (truth >= posterior.low) & (truth <= posterior.high),
            "posterior, 68 %": (truth >= posterior.low68) & (truth <= posterior.high68),
        }
        middle = fit.free[:, : len(names)]
        half = fit.crlb_sd * 0.994458
        inside["ml, 68 %"] = (truth >= np.maximum(middle - half, 0)) & (truth <= np.maximum(middle + half, 0))
        ratios = {
            "ml, 95 %": fit.ratio_interval([i], [j]),
            "posterior, 95 %": uncertainty.ratio_interval(posterior.mean, posterior.cov, [i], [j]),
        }
        text += [f"### SNR {snr}\n", *_table_head("", [*names, "NAA/Cr"])]
        for label in ("ml, 95 %", "ml, 68 %", "posterior, 95 %", "posterior, 68 %"):
            low, high = ratios.get(label, (None, None))
            last = None if low is None else 100 * np.mean((ratio >= low) & (ratio <= high))
            text.append(_row(label, [*(100 * inside[label].mean(0)), last], 1))
        for label, score in (
            ("ml", measures.crps(fit.conc, fit.crlb_sd, truth)),
            ("posterior", measures.crps(posterior.mean, posterior.sd, truth)),
        ):
            text.append(_row(f"CRPS / SD of the truth, {label}", [*(score.mean(0) / truth.std(0)), None]))
        text += [
            _row("slope on the truth, ml", [*measures.slopes(fit.conc, truth), None]),
            _row("slope on the truth, posterior", [*measures.slopes(posterior.mean, truth), None]),
        ]
        text += [_row("share of the prior that is left", [*posterior.pull.mean(0), None]), ""]
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
    text += ["### By decile of the concentration, all metabolites\n", *_table_head("", [str(k + 1) for k in range(10)])]
    text += [
        _row(f"{label}, SNR {snr}", [100 * value for value in values], 1)
        for snr, parts in deciles
        for label, values in parts.items()
    ]
    return "\n".join([*text, ""])


def _novelty(basis: Basis, models: dict, seed: int, n: int) -> str:
    """Report how well out-of-distribution scores separate strange spectra from clean ones."""
    network, card = models["dq-nmm taught"]
    score = lambda data: network_scores(network, card["clean"], torch.as_tensor(data["fid"]).to(torch.complex64))  # noqa: E731
    plain = sets.make_set(basis, n, seed + 2_000_000)
    clean_fit, clean_network = measures.fit_set(basis, plain).ood, score(plain)
    text = [
        "## Spectra unlike clean ones\n",
        f"{n} spectra each. Area under the curve, and the percentage with a score above 1.\n",
    ]
    text += _table_head("", ["AUROC, fit", "above 1, fit", "AUROC, network", "above 1, network"])
    text += [f"| clean |  | {100 * np.mean(clean_fit > 1):.1f} |  | {100 * np.mean(clean_network > 1):.1f} |"]
    strange = sets.strange_sets(basis, n, seed + 2_000_010)
    without = basis.select(ignore=["Gly"])
    for name, data in strange.items():
        fit, own = measures.fit_set(basis, data).ood, score(data)
        text.append(
            f"| {name} | {measures.auroc(clean_fit, fit):.3f} | {100 * np.mean(fit > 1):.1f} |"
            f" {measures.auroc(clean_network, own):.3f} | {100 * np.mean(own > 1):.1f} |"
        )
    missing = "glycine ten times as high"
    fit, plain_fit = measures.fit_set(without, strange[missing]).ood, measures.fit_set(without, plain).ood
    text.append(
        f"| {missing}, not in the basis set | {measures.auroc(plain_fit, fit):.3f} | {100 * np.mean(fit > 1):.1f} |"
        "  |  |"
    )
    return "\n".join([*text, ""])
