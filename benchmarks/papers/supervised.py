"""Every supervised network on the data of the papers it comes from, beside fits and their limits.

Rizzo et al., Magn Reson Med 2023;89:1707, doi 10.1002/mrm.29561: scores, groups of metabolites, water referencing,
active learning and ensembles.  Shamaei et al., doi 10.5220/0010318502680275: DSS1 to DSS7; and scalograms beside
spectra.  Data: :mod:`benchmarks.papers.datasets`; scores and limits: :mod:`benchmarks.papers.supervised_scores`;
trainings: :mod:`benchmarks.papers.supervised_trainings`; tables and figure: :mod:`benchmarks.papers.supervised_tables`.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from benchmarks.papers import datasets
from benchmarks.papers.datasets import REFERENCE_MM, RIZZO_GROUPS, RIZZO_MOST
from benchmarks.papers.supervised_scores import (
    METABOLITES,
    Scores,
    draw_set,
    dss_limit,
    fits,
    limits_of,
    make_rizzo,
    referenced,
    scores,
)
from benchmarks.papers.supervised_tables import (
    Method,
    bias_table,
    cells_of,
    in_order,
    main_table,
    table_by_metabolite,
    verdict,
    write_figure,
    write_scores,
)
from benchmarks.papers.supervised_trainings import (
    LONG,
    PARTS,
    SCALES,
    SHALLOW,
    Job,
    Scale,
    basis_and_recipe,
    cards_in,
    fingerprint_of,
    folder_of,
    jobs_of,
    minutes_of,
    run_jobs,
    train_stacks,
)
from fsl_mrs_dl import __version__
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.io.files import claim
from fsl_mrs_dl.io.output import put_in_place
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.networks.encoders import ENCODERS
from fsl_mrs_dl.networks.supervised_quantification import pool_size

__all__ = ["answers", "dss_errors", "fit_methods", "measure_network", "write_supervised"]

_DSS_POINTS = 1024  # points that networks see of the FIDs of DSS1 to DSS7


def write_supervised(
    output: str | Path,
    *,
    scale: str = "small",
    parts: tuple[str, ...] = PARTS,
    networks: tuple[str, ...] | None = None,
    steps: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    long: dict | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the missing networks, measure everything, and write ``table.md``, ``scores.csv`` and the figures.

    Parameters
    ----------
    output : path
        Trained networks stay in ``output/models`` and are loaded from there in the next run.
    scale : str
        One of :data:`benchmarks.papers.supervised_trainings.SCALES`.
    parts : tuple of str
        Some of :data:`benchmarks.papers.supervised_trainings.PARTS`.
    networks : tuple of str, optional
        Encoders of the part 'networks'; all by default.
    steps, n_test : int, optional
        Batches of every training, and spectra to test on; those of the scale by default.
    seed : int
    workers : int, optional
        Trainings at a time; the number of torch's threads by default.
    long : dict, optional
        Further networks, pairs of a job and a folder, by the names of their rows: those of
        :mod:`benchmarks.papers.long_trainings`.
    say : callable

    Raises
    ------
    OptionError, OutputError
    """
    start = time.monotonic()
    if scale not in SCALES:
        raise OptionError("there is no such scale", option="scale", value=scale, remedy=f"choose {' or '.join(SCALES)}")
    for part in parts:
        if part not in PARTS:
            raise OptionError(
                "there is no such part", option="parts", value=part, remedy=f"choose from {', '.join(PARTS)}"
            )
    if networks is not None and "networks" not in parts:
        raise OptionError(
            "are of the part networks, which `parts` leaves out",
            option="networks",
            value=" ".join(networks),
            remedy="add it, or leave `networks` out",
        )
    networks = tuple(ENCODERS) if networks is None else tuple(networks)
    for name in networks:
        if name not in ENCODERS:
            raise OptionError(
                "there is no such encoder", option="networks", value=name, remedy=f"choose from {', '.join(ENCODERS)}"
            )
    size, output = SCALES[scale], Path(output)
    n_test = n_test or size.test
    jobs = jobs_of(size, parts, networks, seed)
    if steps:
        jobs = [
            replace(job, steps=steps, options=job.options | ({"polish": steps} if "polish" in job.options else {}))
            for job in jobs
        ]
        size = replace(size, stack_steps=steps, steps=steps)
    claim(output, {"scale": scale, "steps": steps, "seed": seed, "data and budgets": fingerprint_of(scale)})
    workers = 1 if torch.cuda.is_available() else workers or torch.get_num_threads()
    run_jobs(jobs, output, workers, say)
    stacks = []
    if "ensembles" in parts:
        stacks = train_stacks(output, size, seed, workers, say)
    by_name, long = {job.name: job for job in jobs}, long or {}
    about = {"scale": scale, "seed": seed, "steps": steps, "test": n_test, "parts": parts}
    try:
        # Table, scores and figure of one run appear together or not at all.
        with tempfile.TemporaryDirectory(dir=output, prefix=".measuring-") as place:
            staging, text = Path(place), []
            if set(parts) & {"networks", "ensembles", "active-learning", "water"}:
                text += _idealised(output, staging, size, by_name, stacks, parts, n_test, seed, say, long)
            if "dss" in parts:
                say("Measuring: DSS1 to DSS7.")
                text += _dss(output, by_name, max(n_test * 2 // 5, 50), seed, long)
            if "scalogram" in parts:
                say("Measuring: scalograms.")
                text += _scalogram(output, by_name, max(n_test * 4 // 5, 50), seed, long)
            trained = sum(minutes_of(model_cards.read_card(folder_of(output, name))) for name in [*by_name, *stacks])
            head = _head(about, networks, trained, (time.monotonic() - start) / 60)
            (staging / "table.md").write_text("\n".join(head + text) + "\n")
            for path in sorted(staging.iterdir()):
                put_in_place(path, output / path.name)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; no results were written, and the same command measures the networks in {output / 'models'}."
        ) from None
    return output / "table.md"


def _counted(number: float, of: str) -> str:
    """Return a number with its unit in the singular or plural."""
    return f"{number:.0f} {of}{'' if round(number) == 1 else 's'}"


def _head(about: dict, networks, trained: float, minutes: float) -> list[str]:
    """Return the title of the report and how it was made."""
    command = f"python -m benchmarks supervised --scale {about['scale']}"
    if tuple(about["parts"]) != PARTS:
        command += f" --parts {' '.join(about['parts'])}"
    if networks != tuple(ENCODERS):
        command += f" --networks {' '.join(networks)}"
    command += f" --steps {about['steps']}" if about["steps"] else ""
    command += f" --test {about['test']}" if about["test"] != SCALES[about["scale"]].test else ""
    versions = (
        f"fsl_mrs_dl {__version__}, Python {platform.python_version()}, torch {torch.__version__}, numpy"
        f" {np.__version__}"
    )
    for library in ("kymatio", "ptwt", "lightning", "fsl_mrs"):
        try:
            versions += f", {library} {metadata.version(library)}"
        except metadata.PackageNotFoundError:
            continue
    return [
        "# Supervised networks beside fits and their limits\n",
        (
            f"Made by `{command} --seed {about['seed']}` in {_counted(minutes, 'minute')} (trainings that were there"
            f" already not counted) on {_counted(torch.get_num_threads(), 'thread')} of a CPU ({platform.machine()});"
            f" {versions}. Trainings take {_counted(trained, 'minute')} of one thread in all."
            " Networks at their published length: [long_trainings.md](long_trainings.md).\n"
        ),
    ]


def answers(network, fids: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a network's concentrations ``(n, n_metabs)`` and its milliseconds per spectrum."""
    fid = torch.as_tensor(fids).to(torch.complex64)
    with torch.no_grad():
        network.concentrations(fid[:8])
        start = time.perf_counter()
        parts = [network.concentrations(part) for part in fid.split(250)]
        seconds = time.perf_counter() - start
    return torch.cat(parts).numpy().astype(float), 1e3 * seconds / len(fid)


def measure_network(folder: Path, data: dict, basis, job: Job | None) -> Method:
    """Measure a trained network; times include those of all the networks that it is composed of."""
    network, card = model_cards.load(folder)
    estimates, ms = answers(network, data["fid"])
    rounds, members = cards_in(card, "rounds"), cards_in(card, "members")
    batches = sum(one["training"]["steps"] for one in [card, *rounds])
    about = (
        f"{100 * job.arguments.get('share', 1.0):.3g} %" if job else "",
        f"{batches}{' and those of its networks' if members else ''}",
        f"{sum(map(minutes_of, [card, *members])):.1f}",
        f"{card['architecture']['parameters'] / 1e6:.2g}",
        f"{ms:.2f}",
    )
    # A water peak that is estimated too low must not inflate all concentrations; networks limit their own line alike.
    return Method(referenced(estimates, basis.names, 0.1 * REFERENCE_MM), about)


def fit_methods(data: dict, scale: Scale, say) -> tuple[dict[str, Method], str]:
    """Fit the test spectra; return the methods by name and a sentence on FSL-MRS Newton."""
    basis = datasets.rizzo_basis()
    say("Fitting the test spectra.")
    fit, ms = fits(data)
    about = lambda ms: ("", "", "", "", f"{ms:.3g}")  # noqa: E731
    methods = {
        "ml": Method(referenced(fit.conc, basis.names), about(ms), "fit"),
        "ml, no bound at zero": Method(referenced(fit.free[:, : basis.n_metabs], basis.names), ("",) * 5, "fit"),
        "posterior_mean": Method(referenced(fit.estimate("posterior_mean")[0], basis.names), ("",) * 5, "fit"),
    }
    try:
        from benchmarks import fsl_mrs_reference

        fids = data["fid"][: scale.newton]
        say(f"FSL-MRS Newton on {len(fids)} of them.")
        start = time.perf_counter()
        conc = fsl_mrs_reference.fsl_mrs_newton(fids, basis, basis.axes.with_points(fids.shape[-1]), model="voigt")
        newton = 1e3 * (time.perf_counter() - start) / len(fids)
        methods[f"FSL-MRS Newton, first {len(fids)}"] = Method(referenced(conc, basis.names), about(newton), "fit")
        sentence = f"Our fit is {newton / ms:.0f} times faster than FSL-MRS Newton in the same run."
    except ImportError:
        sentence = "FSL-MRS is not installed here; its fit is left out."
    return methods, sentence


_SMALL = (
    "At this scale networks have a part of their published kernels ('kernels') and about as many minutes of one CPU"
    " core each, so that all of them can be had in an hour; none is trained to its end, and the large ones are farthest"
    " from it. The table compares networks for that effort, not for a day on a GPU (`--scale paper`)."
)


def _idealised(
    output, staging: Path, scale: Scale, jobs: dict, stacks, parts, n_test: int, seed: int, say, long: dict
) -> list[str]:
    """Report on the idealised spectra; the figure and the file of all scores are written into the folder ``staging``.

    Long, because most of it is the text of the report.
    """
    data = make_rizzo(n_test, seed + 1_000_003)
    basis = datasets.rizzo_basis()
    truth = data["conc"]
    methods, newton_sentence = fit_methods(data, scale, say)
    for name, job in jobs.items():
        if job.data == "rizzo":
            say(f"Measuring {name}.")
            methods[name] = measure_network(folder_of(output, name), data, basis, job)
    for name, (job, folder) in long.items():
        if job.data == "rizzo":
            methods[name] = measure_network(folder, data, basis, job)
    if stacks:
        votes = [
            methods[name]
            for name in methods
            if name == SHALLOW or name.startswith(f"{SHALLOW}, ") and name[-1].isdigit()
        ]
        spent = [f"{sum(float(one.about[at]) for one in votes):.{digits}f}" for at, digits in ((2, 1), (4, 2))]
        about = ("", "those of its networks", spent[0], "", spent[1])
        methods["5 shallownet-2d2c that vote"] = Method(np.mean([one.estimates for one in votes], 0), about, "ensemble")
        for name in stacks:
            say(f"Measuring {name}.")
            methods[name] = replace(measure_network(folder_of(output, name), data, basis, None), kind="ensemble")
    limits = limits_of(data)
    scored = {name: scores(one.estimates, truth[: len(one.estimates)]) for name, one in methods.items()}
    order = in_order(methods, scored)
    shown = [name for name in order if not (name.startswith((f"{SHALLOW}, ", f"{LONG}, ")) and name[-1].isdigit())]
    write_scores(staging / "scores.csv", limits | {name: scored[name] for name in order})
    write_figure(staging / "supervised.png", methods, scored, limits, data, shown)
    idealised = [job for job in jobs.values() if job.data.startswith("rizzo")]
    sizes, most = sorted({job.signals for job in idealised}), max(job.steps for job in idealised)
    lines = [
        "## Idealised spectra\n",
        (
            "Data of doi 10.1002/mrm.29561, section 2.1.1, on a simulated semi-LASER basis set (3 T, TE 35 ms, 2000"
            " Hz, 1024 points): 16 metabolites, each uniform from nothing to twice its usual concentration, SNR 5 to"
            " 40, Gaussian shim 2 to 5 Hz, macromolecules +- 33 %, a water peak of known size at 0.5 ppm that"
            f" everything is referenced to. {' or '.join(map(str, sizes))} spectra to train on, a tenth of them held"
            f" back; {n_test} others measured. Networks see 0.2 to 4.2 ppm.\n"
        ),
        (
            (
                _SMALL
                if scale.steps is None
                else f"Trainings were cut to {scale.steps} batches, which is for a trial only."
            )
            + "\n"
            if scale.held == 0
            else (
                "Networks have their published numbers of kernels and are trained until held-back spectra gain no"
                f" more, for {most} batches at most.\n"
            )
        ),
        (
            "The concise scores: slope times squared correlation, a R2, and root mean square error, sigma, in percent"
            " of the mean concentration, both averaged over the paper's groups of well (NAA, tCho, tCr, mI, Glu),"
            " medium (Glc, NAAG, Gln, GSH) and weakly represented metabolites (sI, Gly, Asp, PE, Tau, Lac, GABA)."
            " Limits: Cramer-Rao bounds at the truth of concentrations over the water peak, for estimates without bias"
            " (an estimate with a bound at zero is biased, and can have less); the best linear estimate with"
            " the ranges of concentrations and widths as prior, like the posterior mean; and one that also excludes"
            " shifts, phases and widths other than Gaussian, like networks, whose training data have none. Estimates"
            " that are not linear can be a little below the last two, and with few spectra any estimate can,"
            f" by chance. Batches hold {scale.batch_size} spectra (stacks 64); minutes are those of all trainings that"
            " went into a network, ms those of one spectrum in batches of 250 (fits: all at once) on"
            f" {_counted(torch.get_num_threads(), 'thread')}. Rows are in the order of the mean of R2 times the slope"
            " or its inverse. The paper's networks have > .80 / .50 to .75 / < .40 on average (sigma < 15 / 20 to 35 /"
            f" > 35 %), its fit > .95 / .75 to .90 / < .65. Fits: Voigt, shift and phases free, no baseline."
            f" {newton_sentence}\n"
        ),
        *main_table(methods, scored, limits, shown),
        "",
        *verdict(methods, scored, shown),
        "All scores of all methods for every metabolite are in scores.csv.\n",
        "![Concise scores and bias](supervised.png)\n",
        "### By metabolite\n",
        "a R2.\n",
        *table_by_metabolite(limits, scored, shown, lambda one: one.concise, 2),
        "",
        "sigma (mM).\n",
        *table_by_metabolite(limits, scored, shown, lambda one: one.sigma, 3),
        "",
        *bias_table(methods, scored, data, shown),
    ]
    if "active-learning" in parts:
        lines += _active(methods, data, jobs[f"{SHALLOW}, active learning"])
    if "water" in parts:
        lines += _water(output, jobs, scored, n_test, seed)
    return lines


def _active(methods, data, job: Job) -> list[str]:
    """Report on active learning in training, and on test spectra from the middle of the training's ranges."""
    name, other = SHALLOW, f"{SHALLOW}, active learning"
    pool = pool_size(min(job.steps * job.batch_size, job.signals))
    most = np.array(list(RIZZO_MOST.values()))
    truth, snr = data["conc"], data["snr"]
    lines = [
        "### Active learning\n",
        (
            f"In training: {other} is trained anew, a quarter of its spectra near those that the first was worst at,"
            f" the worst quarter of {pool} others (main table; the paper adds 5000 spectra of extreme concentrations of"
            " weakly represented metabolites and of low SNR). In testing: the same network on those concentrations"
            " only that lie in the middle of the range it was trained on, metabolite by metabolite; a R2 is smaller"
            " there for all methods, because the range is, so that errors are to be compared.\n"
        ),
        "| concentrations | | " + " | ".join(f"{group}: a R2 | sigma (%)" for group in RIZZO_GROUPS) + " |",
        "|" + "---|" * (2 + 2 * len(RIZZO_GROUPS)),
    ]
    kept = {
        "all": (0.0, 1.0, 0),
        "20 to 80 %": (0.2, 0.8, 0),
        "20 to 80 %, SNR above 20": (0.2, 0.8, 20),
        "40 to 60 %": (0.4, 0.6, 0),
    }
    for label, (low, high, least) in kept.items():
        for method in (name, "ml"):
            columns = []
            for k in range(len(METABOLITES)):
                rows = (truth[:, k] >= low * most[k]) & (truth[:, k] <= high * most[k]) & (snr > least)
                columns.append(scores(methods[method].estimates[rows][:, [k]], truth[rows][:, [k]]))
            one = Scores(
                *(np.concatenate([getattr(column, key) for column in columns]) for key in ("a", "q", "r2", "sigma"))
            )
            lines.append(f"| {label} | {method} | " + " | ".join(cells_of(one)) + " |")
    return [*lines, ""]


def _water(output, jobs, scored, n_test: int, seed: int) -> list[str]:
    """Report on the same networks with and without a water peak in the data."""
    plain = make_rizzo(n_test, seed + 1_000_003, reference=False)
    lines = [
        "### Water referencing\n",
        (
            "The same trainings on spectra with the water peak, on spectra without one, and (`--water`) with a line of"
            " half the FID's height that the network adds itself. FIDs are scaled by their height in all"
            " cases, and answers are scaled back: without the peak the size of the data is the reference, which"
            " is exactly right in simulated data, and not in vivo. So the peak cannot help with the scale here; in the"
            " paper it does.\n"
        ),
        "| | " + " | ".join(f"{group}: a R2 | sigma (%)" for group in RIZZO_GROUPS) + " |",
        "|" + "---|" * (1 + 2 * len(RIZZO_GROUPS)),
    ]
    basis = datasets.rizzo_basis(False)
    for encoder in (SHALLOW, LONG, "unet-1dr-joint"):
        lines.append(f"| {encoder}, with the peak | " + " | ".join(cells_of(scored[encoder])) + " |")
        for name in (f"{encoder}, no reference", f"{encoder}, line added"):
            if name in jobs:
                method = measure_network(folder_of(output, name), plain, basis, jobs[name])
                lines.append(f"| {name} | " + " | ".join(cells_of(scores(method.estimates, plain["conc"]))) + " |")
    return [*lines, ""]


def _dss(output, jobs: dict, n_test: int, seed: int, long: dict) -> list[str]:
    """Report on wavelet scattering on DSS1 to DSS7."""
    lines = [
        "## Wavelet scattering on DSS1 to DSS7\n",
        (
            "Data of doi 10.5220/0010318502680275, Table 1, on simulated basis sets; 8100 signals to train on, 900"
            f" held back, {n_test} measured on. SMAPE: the sum of absolute errors over the sum of truth and answer (the"
            " paper's Eq. 2), in percent, mean of the metabolites. SNRs are taken as energies in decibels (5 to 15"
            " dB), what MATLAB's function gives; widths of the basis sets are ours (8 Hz at 9.4 T, 5 Hz at 3 T)."
            f" Networks see the first {_DSS_POINTS} of 2048 points. 'Least possible' is a limit that no method can be"
            " much below: every metabolite has a shift and a damping of its own.\n"
        ),
        "| | wscn | trained longer | paper | least possible | lowest | highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in datasets.DSS:
        names, errors = dss_errors(folder_of(output, f"wscn, {name}"), name, n_test, seed)
        others = [dss_errors(folder, name, n_test, seed)[1] for job, folder in long.values() if job.data == name]
        longer = " / ".join(f"{one.mean():.2f}" for one in others)
        paper = f"{datasets.DSS_SMAPE[name]:.2f}" if name in datasets.DSS_SMAPE else ""
        least = dss_limit(name, 40, seed + 1_000_003, _DSS_POINTS)
        ends = [f"{names[k]} {errors[k]:.2f}" for k in (errors.argmin(), errors.argmax())]
        lines.append(f"| {name} | {errors.mean():.2f} | {longer} | {paper} | {least:.2f} | {ends[0]} | {ends[1]} |")
    job = jobs[f"wscn, {datasets.DSS[0]}"]
    training = (
        f"{job.steps} batches of {job.batch_size} each with a weight decay of {job.decay:g}, then up to"
        f" {job.options['polish']} iterations of L-BFGS on all"
    )
    return [
        *lines,
        "",
        f"{training} signals, for as long as those held back gain (the paper trains by scaled conjugate gradients).\n",
    ]


def dss_errors(folder: Path, name: str, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the metabolites of one of DSS1 to DSS7 and the SMAPE (%) of a trained network for each, ``(n_metabs,)``,
    on spectra that are in no training."""
    network, _ = model_cards.load(folder)
    basis, recipe = basis_and_recipe(name)
    drawn, rendered = draw_set(basis, recipe, n_test, seed + 1_000_003)
    estimates, _ = answers(network, rendered.fid.numpy())
    wanted = np.array([not one.lower().startswith("mm") for one in basis.names])
    return np.array(basis.names)[wanted], datasets.smape(estimates, drawn["conc"].numpy())[wanted]


def _scalogram(output, jobs: dict, n_test: int, seed: int, long: dict) -> list[str]:
    """Report on the scalogram network and Hatami's on the data of the paper on scalograms."""
    basis, recipe = basis_and_recipe("DSS1 without noise")
    drawn, rendered = draw_set(basis, recipe, n_test, seed + 1_000_003)
    truth = drawn["conc"].numpy().astype(float)
    rows = {name: (job, folder_of(output, name)) for name, job in jobs.items()} | long
    rows = {name: (job, folder) for name, (job, folder) in rows.items() if job.part == "scalogram"}
    n_points = max(job.n_points for job, _ in rows.values())
    lines = [
        "## Scalogram and spectrum\n",
        (
            "Data of the paper on scalograms: 20 metabolites and macromolecules, each with a size U(0, 1), shift and"
            f" damping of its own, no noise; 7920 signals to train on, 880 held back, {n_test} measured on; the first"
            f" {n_points} of 2048 points are used (1536 in the paper). Means over the 20 metabolites; SMAPE as above; a"
            " constant 0.5 has 25 %. In the paper scalograms lead to a lower error than spectra do; there both are"
            " given to the paper's own network, here spectra to Hatami's.\n"
        ),
        "| | SMAPE (%) | mean absolute error | kernels | batches of 32 | minutes | lowest | highest |",
        "|" + "---|" * 8,
    ]
    for name, (job, folder) in rows.items():
        network, card = model_cards.load(folder)
        estimates, _ = answers(network, rendered.fid.numpy())
        metabs = slice(0, basis.n_metabs - 1)
        errors = datasets.smape(estimates, truth)[metabs]
        absolute = np.abs(estimates - truth).mean(0)[metabs].mean()
        ends = [f"{basis.names[k]} {errors[k]:.1f}" for k in (errors.argmin(), errors.argmax())]
        label = name if name in long else job.encoder
        lines.append(
            f"| {label} | {errors.mean():.2f} | {absolute:.3f} | {100 * job.arguments.get('share', 1.0):.3g} %"
            f" | {card['training']['steps']} | {minutes_of(card):.1f} | {ends[0]} | {ends[1]} |"
        )
    return [*lines, ""]
