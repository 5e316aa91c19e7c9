"""Tables of a report: model, quality and concentrations of one spectrum."""

from __future__ import annotations

import html

import numpy as np

from ...fitting.in_vivo.result import InVivoFit
from ...fitting.quantification import Quantification
from ..figures import sd_labels
from ..fit_results import FitResults
from ..layout import MOSTLY_PRIOR, OOD_LIMIT

__all__ = ["concentrations_table", "entries_table", "model_entries", "settings_table", "values_of"]


def settings_table(results: FitResults, row: int) -> str:
    """Return the table of the model, how good the fit is, and the nuisance parameters, HTML."""
    fit, model = results.fit, results.fit.model
    blocks = {name: fit.block(name)[row] for name in model.sizes}
    shift = -blocks["eps"] / (2 * np.pi)
    entries = [
        *model_entries(results),
        (
            "Fit",
            (
                f"{'converged' if fit.converged[row] else 'NOT converged'} after {fit.n_iter[row]} trial points;"
                f" initial values {fit.init}"
            ),
        ),
        (
            "Residual over noise",
            (
                f"{fit.misfit[row]:.2f} (1 means that the model explains everything but noise);"
                f" {fit.unexplained[row]:.1%} of the metabolites' signal is unexplained"
            ),
        ),
        *fit.assumptions(row).items(),
        ("Out of distribution", _ood_text(fit, row)),
        (
            "Shift of the data to higher ppm",
            ", ".join(f"{value:.2f}" for value in shift[:6]) + (" ..." if len(shift) > 6 else "") + " Hz",
        ),
        ("Phase that turns the data upright", _phase_text(fit, blocks["phi0"][0], blocks["phi1"][0])),
        ("Lorentzian width added", ", ".join(f"{value:.2f}" for value in blocks["gamma"] / np.pi) + " Hz"),
    ]
    if "sigma" in blocks:
        width = 2.355 * blocks["sigma"] * np.sqrt(2) / (2 * np.pi)
        entries.append(("Gaussian width added", ", ".join(f"{value:.2f}" for value in width) + " Hz"))
    return entries_table([*entries, *_water_entry(fit)])


def _phase_text(fit: Quantification, phi0: float, phi1: float) -> str:
    """Return a phase (rad) at the carrier, and its slope (rad/Hz), in words; of the in-vivo model that in the middle of
    the window, too, which its table of parameters has."""
    axes = fit.model.axes
    carrier = float(axes.hz_to_ppm(0.0))
    slope = np.degrees(phi1 * (axes.ppm_to_hz(carrier + 1) - axes.ppm_to_hz(carrier)))
    text = f"{np.degrees(phi0):.1f} deg at {carrier:.2f} ppm"
    if isinstance(fit, InVivoFit):
        pivot = fit.fitted_model.pivot
        middle = float(axes.hz_to_ppm(pivot))
        text += f", {np.degrees(phi0 + phi1 * pivot):.1f} deg at {middle:.2f} ppm (phi0_rad of all_parameters.csv)"
    return f"{text}; {slope:.1f} deg/ppm, {phi1 / (2 * np.pi) * 1e3:.3f} ms"


def model_entries(results: FitResults) -> list[tuple[str, str]]:
    """Return names and texts of what holds for every spectrum: the model and its window."""
    model = results.fit.model
    if model.name == "in-vivo":
        about = "in-vivo, a shift and a width of every metabolite"
    else:
        about = f"{model.name}, {model.n_groups} metabolite group{'s' if model.n_groups > 1 else ''}"
    window = f"{model.ppmlim[0]:g} to {model.ppmlim[1]:g} ppm" if model.ppmlim else "all frequencies"
    return [("Model", f"{about}, baseline {model.baseline}"), ("Window", window)]


def entries_table(entries: list[tuple[str, str]]) -> str:
    """Return a table of names and texts, HTML."""
    rows = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in entries)
    return f'<table class="settings">{rows}</table>'


def _water_entry(fit: Quantification) -> list[tuple[str, str]]:
    """Return what was taken from a water reference, if anything."""
    if not (isinstance(fit, InVivoFit) and fit.water_note):
        return []
    name, _, note = fit.water_note.partition(": ")
    widths = "" if fit.water_shape is None else " Widths are added to the line shape of water."
    return [(name, f"{note[:1].upper()}{note[1:]}{widths}")]


def _ood_text(fit: Quantification, row: int) -> str:
    """Return the out-of-distribution score and its parts in words."""
    parts = [("residual", fit.ood_residual), ("estimates", fit.ood_latent), ("network", fit.ood_network)]
    each = ", ".join(f"{name} {values[row]:.2f}" for name, values in parts if values is not None)
    word = "YES" if fit.ood[row] > OOD_LIMIT else "no"
    return f"{word}, score {fit.ood[row]:.2f} ({each}; above {OOD_LIMIT:g} the spectrum is out of distribution)"


def values_of(results: FitResults, row: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return values and SDs of metabolites and sums, and their name: ratios to the internal reference, if any."""
    ratios, reference = results.ratios, results.reference
    if ratios is None or reference is None or not reference[row] > 0:
        conc, sd = results.concentrations
        return conc[row], sd[row], "concentration (raw)"
    return ratios[0][row], ratios[1][row], f"ratio to {results.reference_name}"


_ESTIMATES = {
    "ml": "maximum of the likelihood",
    "in-vivo": "in-vivo model: posterior mean with a prior as wide as a factor of e, averaged over baselines",
    "posterior_mean": "posterior mean",
    "network": "estimate of the network",
}


def concentrations_table(results: FitResults, row: int) -> str:
    """Return the table of concentrations with its notes, HTML."""
    conc, sd = (values[row] for values in results.concentrations)
    value, value_sd, label = values_of(results, row)
    snr, width = (values[row] for values in results.quality)
    is_ratio, notes = label.startswith("ratio"), [f"Estimate: {_ESTIMATES[results.estimate]}.", _errors_note(results)]
    limits = _limit_cells(results, row) if is_ratio == (results.reference is not None) else []
    heads = ["Metabolite", html.escape(label), "SD", *["95 % interval"] * bool(limits), "raw", "raw SD", "%SD"]
    more: list[list[str]] = [[] for _ in results.names]
    others = (_share_cells(results, row), _posterior_cells(results, row, is_ratio))
    for names, of_each in (*others, _network_cells(results, row, is_ratio)):
        heads += names
        more = [[*columns, *added] for columns, added in zip(more, of_each)] if of_each else more
    if results.fit.posterior is not None:
        notes.append(
            f"Posterior: {html.escape(results.fit.posterior.prior.source)} and the data together; % prior is the"
            " posterior over the prior variance. p mostly prior, ! data and prior disagree."
        )
    elif results.fit.model.name == "negativevoigt":
        notes.append("Concentrations have no prior: that of a normal brain has no negative ones.")
    elif results.share_of_prior is not None:
        notes.append("% prior is the share of the likelihood's variance that priors take away.")
    notes += [f"* and grey: {sd_labels(results)[1]}."] if sd_labels(results)[1] else []
    lines = []
    for i, name in enumerate(results.names):
        weak = bool(results.undetermined[row, i])
        cells = [
            html.escape(name) + " *" * weak,
            f"{value[i]:.3f}",
            f"{value_sd[i]:.3f}",
            *limits[i : i + 1],
            f"{conc[i]:.4g}",
            f"{sd[i]:.2g}",
        ]
        cells += [f"{results.percent[row, i]:.0f}", *more[i]]
        cells += [f"{snr[i]:.1f}", f"{width[i]:.1f}"] if i < len(snr) else ["", ""]
        line = "".join(f"<td>{'-' if cell == 'nan' else cell}</td>" for cell in cells)
        grey = ' class="weak"' * weak
        lines.append(f"<tr{grey}>{line}</tr>")
    head = "".join(f"<th>{text}</th>" for text in [*heads, "SNR", "FWHM (Hz)"])
    return f'<p class="note">{" ".join(notes)}</p><table><tr>{head}</tr>{"".join(lines)}</table>'


def _errors_note(results: FitResults) -> str:
    """Return what SDs and intervals of the table are."""
    if results.estimate == "network":
        several = (0 if results.fit.networks is None else len(results.fit.networks)) > 1
        return f"SD is {'the spread of the answers of networks' if several else 'not known of one network'}."
    kind = "confidence" if results.estimate == "ml" else "credible"
    interval = "" if results.intervals is None else f" 95 % is the {kind} interval of the value beside it."
    return f"SD is one standard deviation, as are the error bars of the figure; %SD is that of the raw value.{interval}"


def _limit_cells(results: FitResults, row: int) -> list[str]:
    """Return the cells of the 95 % intervals of a spectrum; empty where they are not known."""
    if results.intervals is None:
        return []
    low, high = (limit[row] for limit in results.intervals)
    return [f'<span class="range">{_short(a)} to {_short(b)}</span>' for a, b in zip(low, high)]


def _short(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _share_cells(results: FitResults, row: int) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of the share of priors in the estimate; both empty where a posterior has columns of its
    own, or no prior is in it."""
    if results.fit.posterior is not None or results.share_of_prior is None:
        return [], []
    return ["% prior"], [[f"{100 * share:.0f}"] for share in results.share_of_prior[row]]


def _posterior_cells(results: FitResults, row: int, is_ratio: bool) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the posterior's columns; both empty without a prior."""
    pulls, conflicts = results.prior_pull, results.prior_conflict
    if pulls is None or conflicts is None:
        return [], []
    _, mean, sd = results.fit.table(results.sums, "posterior_mean")
    mean, sd = mean[row], sd[row]
    if is_ratio:
        mean = mean / mean[results.names.index(results.reference_name)]
        sd = results.posterior_ratio_sd[row]
    cells = []
    for i, pull in enumerate(pulls[row]):
        mark = (" p" if pull > MOSTLY_PRIOR else "") + (" !" if conflicts[row, i] else "")
        cells.append([f"{mean[i]:.3f}{mark}", f"{sd[i]:.3f}", f"{100 * pull:.0f}"])
    return ["posterior mean", "SD", "% prior"], cells


def _network_cells(results: FitResults, row: int, is_ratio: bool) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the networks' columns; both empty without a network or if the table is the
    network's."""
    networks = results.fit.networks
    if networks is None or results.estimate == "network":
        return [], []
    _, mean, spread = results.fit.table(results.sums, "network")
    scale = mean[row, results.names.index(results.reference_name)] if is_ratio else 1.0
    cells = [[f"{value / scale:.3f}"] for value in mean[row]]
    if len(networks) == 1:
        return ["network"], cells
    return ["network", "spread"], [[*one, f"{sd / scale:.3f}"] for one, sd in zip(cells, spread[row])]
