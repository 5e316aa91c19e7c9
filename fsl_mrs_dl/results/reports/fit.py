"""HTML report of a fit: one self-contained page that opens without a network."""

from __future__ import annotations

import base64
import datetime
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ... import __version__
from ...core import units
from ...core.metabolites import is_macromolecule
from ...fitting.artefacts import option_spelling
from ...fitting.in_vivo.result import InVivoFit
from ...fitting.in_vivo.spread import fitted_sd
from ...fitting.quantification import Quantification
from ...fitting.uncertainty import Z95
from ...fitting.verdict import VERDICTS
from ...preproc.denoise import warning_of
from ..figures import BLACK, BLUE, GREY, RED, sd_labels, verdict_colour
from ..fit_results import FitResults
from ..layout import MOSTLY_PRIOR, OOD_LIMIT
from .absolute import absolute_section
from .edited import edited_section

__all__ = ["write_fit_report"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1100px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;font-size:.9em}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.settings td,.settings th{text-align:left}
.weak{color:#888}.note{color:#555;font-size:.9em}img{max-width:100%}
"""


def write_fit_report(
    path: str | Path,
    results: FitResults,
    *,
    data: str = "",
    basis: str = "",
    location: str | Path | None = None,
    sections: Sequence[str] = (),
    end: str = "",
) -> Path:
    """Write the report of one spectrum; with several, of the first that was fitted.

    Parameters
    ----------
    path : path
        HTML file to write.
    results : FitResults
    data, basis : str
        Names of the files, for the heading.
    location : path, optional
        Picture of the voxel to put in.
    sections : sequence of str
        Further parts, HTML, that stand before the spectrum.
    end : str
        HTML of a last section.

    Returns
    -------
    Path
        ``path``.
    """
    fit = results.fit
    rows = np.flatnonzero(fit.fitted)
    row = int(rows[0])
    of_many = (
        f" (spectrum {row + 1} of {len(fit.params)}; the other results are in the tables)"
        if len(fit.params) > 1
        else ""
    )
    figures = [_spectrum_figure(results, row), _concentration_figure(results, row), _correlation_figure(results, row)]
    parts = []
    for index, figure in enumerate(figures):
        parts.append(figure.to_html(full_html=False, include_plotlyjs=index == 0, config={"displaylogo": False}))
    picture = ""
    if location is not None:
        encoded = base64.b64encode(Path(location).read_bytes()).decode()
        picture = f'<h2>Voxel</h2><img alt="the voxel on the structural image" src="data:image/png;base64,{encoded}">'
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    page = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<title>Fit of {html.escape(Path(data).name)}</title>
<style>{_STYLE}</style></head><body>
<h1>Fit of {html.escape(Path(data).name)}{of_many}</h1>
<p class="note">Data {html.escape(str(data))}<br>Basis {html.escape(str(basis))}<br>FSL-MRS-DL {__version__}, {when}</p>
{_settings(results, row)}
{"".join(sections)}
{edited_section(results, row)}
<h2>Spectrum and fit{_of_condition(results)}</h2>
<p class="note">Click the legend to show or hide a line; every metabolite has one.</p>{parts[0]}
<h2>Concentrations</h2>{parts[1]}{_table(results, row)}
{absolute_section(results.absolute, row)}
{picture}
<h2>Correlation of the estimates</h2>
<p class="note">Near -1: only the sum of the two metabolites is well determined.</p>{parts[2]}
{end}
</body></html>"""
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _of_condition(results: FitResults) -> str:
    """Return which condition of edited data a figure shows."""
    edited = results.edited
    return "" if edited is None else f" of condition {html.escape(edited.conditions[edited.reference])}"


def _settings(results: FitResults, row: int) -> str:
    """Return the table of the model, the fit's quality and the nuisance parameters, HTML."""
    fit, model = results.fit, results.fit.model
    blocks = {name: fit.block(name)[row] for name in model.sizes}
    shift = -blocks["eps"] / (2 * np.pi)
    entries = [
        (
            "Model",
            (
                f"in-vivo, a shift and a width of every metabolite, baseline {model.baseline}"
                if model.name == "in-vivo"
                else f"{model.name}, {model.n_groups} metabolite group{'s' if model.n_groups > 1 else ''}, baseline"
                f" {model.baseline}"
            ),
        ),
        ("Window", f"{model.ppmlim[0]:g} to {model.ppmlim[1]:g} ppm" if model.ppmlim else "all frequencies"),
        (
            "Fit",
            (
                f"{'converged' if fit.converged[row] else 'NOT converged'} after {fit.n_iter[row]} trial points;"
                f" initial values {fit.init}"
            ),
        ),
        ("Verdict", VERDICTS[results.verdict[row]]),
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
            "Shift to higher ppm",
            ", ".join(f"{value:.2f}" for value in shift[:6]) + (" ..." if len(shift) > 6 else "") + " Hz",
        ),
        (
            "Phase",
            f"{np.degrees(blocks['phi0'][0]):.1f} deg, {blocks['phi1'][0] / (2 * np.pi) * 1e3:.3f} ms first order",
        ),
        ("Lorentzian width added", ", ".join(f"{value:.2f}" for value in blocks["gamma"] / np.pi) + " Hz"),
    ]
    if "sigma" in blocks:
        width = 2.355 * blocks["sigma"] * np.sqrt(2) / (2 * np.pi)
        entries.append(("Gaussian width added", ", ".join(f"{value:.2f}" for value in width) + " Hz"))
    if isinstance(fit, InVivoFit) and fit.water_note:
        name, _, note = fit.water_note.partition(": ")
        widths = "" if fit.water_shape is None else " Widths are added to the line shape of water."
        entries.append((name, f"{note[:1].upper()}{note[1:]}{widths}"))
    denoised = warning_of(results.data.header)
    if denoised:
        entries.insert(0, ("Warning", f"The data file {denoised}."))
    for artefact in [*results.artefacts_before, *results.artefacts.get(row, ())]:
        entries.insert(0, ("Warning", artefact.text(option_spelling)))
    if fit.network_note:
        entries.insert(0, ("Warning", fit.network_note))
    return (
        '<table class="settings">'
        + "".join(f"<tr><td>{a}</td><td>{html.escape(b)}</td></tr>" for a, b in entries)
        + "</table>"
    )


def _ood_text(fit: Quantification, row: int) -> str:
    """Return the out-of-distribution score and its parts in words."""
    parts = [("residual", fit.ood_residual), ("estimates", fit.ood_latent), ("network", fit.ood_network)]
    each = ", ".join(f"{name} {values[row]:.2f}" for name, values in parts if values is not None)
    word = "YES" if fit.ood[row] > OOD_LIMIT else "no"
    return f"{word}, score {fit.ood[row]:.2f} ({each}; above {OOD_LIMIT:g} the spectrum is out of distribution)"


def _spectrum_figure(results: FitResults, row: int):
    """Return a plotly figure of data, model, baseline, residual and every metabolite."""
    import plotly.graph_objects as go

    fit, model = results.fit, results.fit.model
    first, last = model.window
    ppm = model.axes.ppm()[first:last]
    data = units.fid_to_spec(fit.fids[row])[first:last].real
    each = fit.metabolite_spectra(np.array([row]))[0].real
    full, baseline = (fit.spectra(what, slice(row, row + 1))[0, first:last].real for what in ("full", "baseline"))
    residual = data - full
    offset = max(data.max(), full.max()) - residual.min()
    figure = go.Figure()
    lines = [("data", data, BLACK, 1.2), ("model", full, RED, 1.8), ("baseline", baseline, BLUE, 1.5)]
    lines.append(("residual", residual + offset, GREY, 1))
    band = _band(results, row)
    if band is not None:
        outline = np.concatenate([full + band, (full - band)[::-1]])
        around = {"color": "rgba(213,94,0,.25)", "width": 0}
        x = np.concatenate([ppm, ppm[::-1]])
        figure.add_scatter(x=x, y=outline, name="95 % band of the model", line=around, fill="toself", hoverinfo="skip")
    for name, values, colour, width in lines:
        figure.add_scatter(x=ppm, y=values, name=name, line={"color": colour, "width": width})
    for name, values in zip(fit.names, each):
        figure.add_scatter(x=ppm, y=values, name=name, line={"width": 1}, visible="legendonly")
    figure.update_xaxes(autorange="reversed", title="chemical shift (ppm)", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showline=False, showgrid=False, zeroline=False)
    figure.update_layout(template="simple_white", height=520, margin={"t": 20, "b": 50, "l": 20, "r": 20})
    return figure


def _band(results: FitResults, row: int) -> np.ndarray | None:
    """Return 1.96 SDs of the fitted spectrum in the window, ``(n_window,)``; None for FSL-MRS's model, whose band
    viewers compute."""
    fit, model = results.fit, results.fit.model
    if not isinstance(fit, InVivoFit):
        return None
    first, last = model.window
    # Spectra are unitary transforms, and the SD is that of a plain one.
    sd = fitted_sd(fit, np.array([row]))[0] / np.sqrt(model.axes.n_points)
    return Z95 * np.interp(model.axes.hz()[first:last], fit.fitted_model.window.hz, sd)


def _values(results: FitResults, row: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return values and SDs of metabolites and sums, and their name: ratios to the internal reference, if any."""
    if results.reference is None or not results.reference[row] > 0:
        conc, sd = results.concentrations
        return conc[row], sd[row], "concentration (raw)"
    ratio, ratio_sd = results.ratios
    return ratio[row], ratio_sd[row], f"ratio to {results.reference_name}"


def _concentration_figure(results: FitResults, row: int):
    """Return a plotly figure of the concentrations with error bars."""
    import plotly.graph_objects as go

    names = results.names
    value, sd, label = _values(results, row)
    # Macromolecules have a scale of their own, which would hide everything else.
    some = [i for i, name in enumerate(names) if not is_macromolecule(name)] or range(len(names))
    names, value, sd = [names[i] for i in some], value[list(some)], sd[list(some)]
    decided = (sd <= 0.5 * np.abs(value)) | np.isnan(sd).all()
    figure = go.Figure()
    colour_of_all, word = verdict_colour(results.verdict[[row]])
    for mask, colour, text in zip((decided, ~decided), (colour_of_all, GREY), sd_labels(results, word)):
        if mask.any():
            figure.add_scatter(
                x=np.array(names)[mask],
                y=value[mask],
                error_y={"type": "data", "array": sd[mask], "thickness": 1.5},
                mode="markers",
                name=text,
                marker={"color": colour},
            )
    figure.update_xaxes(categoryorder="array", categoryarray=names)
    finite = np.where(decided & np.isfinite(sd), value + sd, value)
    figure.update_yaxes(title=label, range=[-0.08 * np.nanmax(finite), 1.1 * np.nanmax(finite)])
    figure.update_layout(template="simple_white", height=340, margin={"t": 20, "b": 50, "l": 60, "r": 20})
    return figure


def _correlation_figure(results: FitResults, row: int):
    """Return a plotly figure of the correlations between the concentrations' estimates."""
    import plotly.graph_objects as go

    n = len(results.fit.names)
    cov = results.fit.cov[row][:n, :n]
    sd = np.sqrt(np.diag(cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = cov / np.outer(sd, sd)
    figure = go.Figure(
        go.Heatmap(z=correlation, x=results.fit.names, y=results.fit.names, zmin=-1, zmax=1, colorscale="RdBu_r")
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(template="simple_white", height=560, width=640, margin={"t": 20, "b": 60, "l": 60, "r": 20})
    return figure


_ESTIMATES = {
    "ml": "maximum of the likelihood",
    "in-vivo": "in-vivo model: posterior mean with a prior as wide as a factor of e, averaged over baselines",
    "posterior_mean": "posterior mean",
    "network": "estimate of the network",
}


def _table(results: FitResults, row: int) -> str:
    """Return the table of concentrations with its notes, HTML."""
    conc, sd = (values[row] for values in results.concentrations)
    value, value_sd, label = _values(results, row)
    snr, width = (values[row] for values in results.quality)
    is_ratio, notes = label.startswith("ratio"), [f"Estimate: {_ESTIMATES[results.estimate]}."]
    heads = ["Metabolite", html.escape(label), "SD", "raw", "raw SD", "%SD"]
    more: list[list[str]] = [[] for _ in results.names]
    for names, cells in (_posterior_cells(results, row, is_ratio), _network_cells(results, row, is_ratio)):
        heads += names
        more = [[*columns, *added] for columns, added in zip(more, cells)] if cells else more
    if results.fit.posterior is not None:
        notes.append(
            f"Posterior: {html.escape(results.fit.posterior.prior.source)} and the data together; % prior is the"
            " posterior over the prior variance. * mostly prior, ! data and prior disagree."
        )
    lines = []
    for i, name in enumerate(results.names):
        cells = [html.escape(name), f"{value[i]:.3f}", f"{value_sd[i]:.3f}", f"{conc[i]:.4g}", f"{sd[i]:.2g}"]
        cells += [f"{results.percent[row, i]:.0f}", *more[i]]
        cells += [f"{snr[i]:.1f}", f"{width[i]:.1f}"] if i < len(snr) else ["", ""]
        weak = ' class="weak"' if value_sd[i] > 0.5 * abs(value[i]) else ""
        line = "".join(f"<td>{'-' if cell == 'nan' else cell}</td>" for cell in cells)
        lines.append(f"<tr{weak}>{line}</tr>")
    head = "".join(f"<th>{text}</th>" for text in [*heads, "SNR", "FWHM (Hz)"])
    return f'<p class="note">{" ".join(notes)}</p><table><tr>{head}</tr>{"".join(lines)}</table>'


def _posterior_cells(results: FitResults, row: int, is_ratio: bool) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the posterior's columns; both empty without a prior."""
    if results.fit.posterior is None:
        return [], []
    _, mean, sd = results.fit.table(results.sums, "posterior_mean")
    mean, sd = mean[row], sd[row]
    if is_ratio:
        mean = mean / mean[results.names.index(results.reference_name)]
        sd = results.posterior_ratio_sd[row]
    cells = []
    for i, pull in enumerate(results.prior_pull[row]):
        mark = (" *" if pull > MOSTLY_PRIOR else "") + (" !" if results.prior_conflict[row, i] else "")
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
