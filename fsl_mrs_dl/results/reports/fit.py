"""HTML report of a fit: one self-contained page that opens without a network."""

from __future__ import annotations

import base64
import datetime
import html
from pathlib import Path

import numpy as np

from ... import __version__
from ...core import units
from ...core.metabolites import is_macromolecule
from ...preproc.denoise import warning_of
from ..figures import BLACK, BLUE, GREEN, GREY, RED
from ..layout import OOD_LIMIT
from ..tables import MOSTLY_PRIOR, FitResults

__all__ = ["write_fit_report"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1100px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;font-size:.9em}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.settings td{text-align:left}
.weak{color:#888}.note{color:#555;font-size:.9em}img{max-width:100%}
"""


def write_fit_report(
    path: str | Path, results: FitResults, *, data: str = "", basis: str = "", location: str | Path | None = None
) -> Path:
    """Write the report of one spectrum; with several, of the first that was fitted, and the table of all medians.

    ``location`` is a picture of the voxel to put in.
    """
    fit = results.fit
    rows = np.flatnonzero(fit.usable)
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
<h2>Spectrum and fit</h2>
<p class="note">Click the legend to show or hide a line; every metabolite is there.</p>{parts[0]}
<h2>Concentrations</h2>{parts[1]}{_table(results, row)}
{picture}
<h2>Which metabolites the data cannot tell apart</h2>
<p class="note">Correlation of the fit's estimates. Near -1: only the sum of the two is well determined.</p>{parts[2]}
</body></html>"""
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _settings(results: FitResults, row: int) -> str:
    fit, model = results.fit, results.fit.model
    blocks = {name: fit.block(name)[row] for name in model.sizes}
    shift = -blocks["eps"] / (2 * np.pi)
    entries = [
        (
            "Model",
            (
                f"{model.name}, {model.n_groups} metabolite group{'s' if model.n_groups > 1 else ''}, baseline"
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
        ("Residual over noise", f"{fit.misfit[row]:.2f} (1 means that the model explains everything but noise)"),
        ("Unlike clean data", _novelty(fit, row)),
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
    denoised = warning_of(results.data.header)
    if denoised:
        entries.insert(0, ("Warning", f"The data file {denoised}."))
    if fit.network_note:
        entries.insert(0, ("Warning", fit.network_note))
    return (
        '<table class="settings">'
        + "".join(f"<tr><td>{a}</td><td>{html.escape(b)}</td></tr>" for a, b in entries)
        + "</table>"
    )


def _novelty(fit, row: int) -> str:
    """The out-of-distribution score in words."""
    parts = [
        ("residual", fit.ood_residual),
        ("what was found", fit.ood_latent),
        ("what the network knows", fit.ood_network),
    ]
    each = ", ".join(f"{name} {values[row]:.2f}" for name, values in parts if values is not None)
    word = "YES" if fit.ood[row] > OOD_LIMIT else "no"
    return f"{word}, score {fit.ood[row]:.2f} ({each}; above 1 the spectrum is unlike clean data)"


def _spectrum_figure(results: FitResults, row: int):
    import plotly.graph_objects as go
    import torch

    fit, model = results.fit, results.fit.model
    first, last = model.window
    ppm = units.ppm_axis(model.n_points, model.dwelltime, model.spec_freq_mhz, model.nucleus)[first:last]
    data = units.fid_to_spec(fit.fids[row])[first:last].real
    params = torch.as_tensor(fit.params[row]).to(model.time)
    each = model.metabolites(params).cpu().numpy()[:, first:last].real
    baseline = model.baseline_spec(params).cpu().numpy()[first:last].real
    full = each.sum(0) + baseline
    residual = data - full
    offset = max(data.max(), full.max()) - residual.min()
    figure = go.Figure()
    lines = [("data", data, BLACK, 1.2), ("model", full, RED, 1.8), ("baseline", baseline, BLUE, 1.5)]
    lines.append(("residual", residual + offset, GREY, 1))
    for name, values, colour, width in lines:
        figure.add_scatter(x=ppm, y=values, name=name, line={"color": colour, "width": width})
    for name, values in zip(fit.names, each):
        figure.add_scatter(x=ppm, y=values, name=name, line={"width": 1}, visible="legendonly")
    figure.update_xaxes(autorange="reversed", title="chemical shift (ppm)", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showline=False, showgrid=False, zeroline=False)
    figure.update_layout(template="simple_white", height=520, margin={"t": 20, "b": 50, "l": 20, "r": 20})
    return figure


def _shown(results: FitResults, row: int) -> tuple[list[str], np.ndarray, np.ndarray, str]:
    """Names, values and SDs to show: ratios where there is an internal reference, raw concentrations otherwise."""
    conc, sd = (part[row] for part in results.table)
    if results.reference is None or not results.reference[row] > 0:
        return results.names, conc, sd, "concentration (raw)"
    ratio, ratio_sd = (part[row] for part in results.ratios)
    return results.names, ratio, ratio_sd, f"ratio to {'+'.join(results.internal_ref)}"


def _concentration_figure(results: FitResults, row: int):
    import plotly.graph_objects as go

    names, value, sd, label = _shown(results, row)
    # Macromolecules have a unit of their own, which would set the scale for everything else.
    some = [i for i, name in enumerate(names) if not is_macromolecule(name)] or range(len(names))
    names, value, sd = [names[i] for i in some], value[list(some)], sd[list(some)]
    decided = (sd <= 0.5 * np.abs(value)) | np.isnan(sd).all()
    figure = go.Figure()
    for mask, colour, text in zip((decided, ~decided), (GREEN, GREY), results.decided_words):
        if mask.any():
            shown = np.array(names)[mask]
            error = {"type": "data", "array": sd[mask], "thickness": 1.5}
            figure.add_scatter(
                x=shown, y=value[mask], error_y=error, mode="markers", name=text, marker={"color": colour}
            )
    figure.update_xaxes(categoryorder="array", categoryarray=names)
    finite = np.where(decided & np.isfinite(sd), value + sd, value)
    figure.update_yaxes(title=label, range=[-0.08 * np.nanmax(finite), 1.1 * np.nanmax(finite)])
    figure.update_layout(template="simple_white", height=340, margin={"t": 20, "b": 50, "l": 60, "r": 20})
    return figure


def _correlation_figure(results: FitResults, row: int):
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


_WORDS = {"ml": "maximum of the likelihood", "posterior_mean": "posterior mean", "network": "the network's own answer"}


def _table(results: FitResults, row: int) -> str:
    fit = results.fit
    conc, sd = (part[row] for part in results.table)
    percent = results.percent()[row]
    names, value, value_sd, label = _shown(results, row)
    as_ratio = label.startswith("ratio")
    snr, width = (part[row] for part in results.quality)
    more = [""] * len(names)
    head, notes = "", [f"Estimate: {_WORDS[results.estimate]}."]
    if fit.posterior is not None:
        _, mean, spread = (
            part if i == 0 else part[row] for i, part in enumerate(fit.table(results.sums, "posterior_mean"))
        )
        reference = 1.0 if not as_ratio else mean[results.names.index("+".join(results.internal_ref))]
        spread = spread if not as_ratio else results.posterior_ratio_sd[row]
        pull, conflict = results.pull[row], results.conflict[row]
        for i in range(len(names)):
            mark = (" *" if pull[i] > MOSTLY_PRIOR else "") + (" !" if conflict[i] else "")
            more[i] += f"<td>{mean[i] / reference:.3f}{mark}</td><td>{spread[i]:.3f}</td><td>{100 * pull[i]:.0f}</td>"
        head += "<th>posterior mean</th><th>SD</th><th>% prior</th>"
        notes.append(
            f"Posterior: {html.escape(fit.posterior.prior.source)} and the data together; % prior is the share of the"
            " prior's variance that the data left standing. * mostly prior, ! the data say something else than what"
            " was expected."
        )
    if fit.networks is not None and results.estimate != "network":
        _, own, spread = (part if i == 0 else part[row] for i, part in enumerate(fit.table(results.sums, "network")))
        known = results.names.index("+".join(results.internal_ref)) if as_ratio else None
        reference = 1.0 if known is None else own[known]
        for i in range(len(names)):
            more[i] += f"<td>{own[i] / reference:.3f}</td>" + (
                f"<td>{spread[i] / reference:.3f}</td>" if len(fit.networks) > 1 else ""
            )
        head += "<th>network</th>" + ("<th>spread</th>" if len(fit.networks) > 1 else "")
    lines = []
    for i, name in enumerate(names):
        quality = f"<td>{snr[i]:.1f}</td><td>{width[i]:.1f}</td>" if i < len(snr) else "<td></td><td></td>"
        weak = ' class="weak"' if value_sd[i] > 0.5 * abs(value[i]) else ""
        lines.append(
            f"<tr{weak}><td>{html.escape(name)}</td><td>{value[i]:.3f}</td><td>{value_sd[i]:.3f}</td><td>{conc[i]:.4g}</td>"
            f"<td>{sd[i]:.2g}</td><td>{percent[i]:.0f}</td>{more[i]}{quality}</tr>".replace(
                "<td>nan</td>", "<td>-</td>"
            )
        )
    first = (
        f"<tr><th>Metabolite</th><th>{html.escape(label)}</th><th>SD</th><th>raw</th><th>raw SD</th><th>%SD</th>{head}"
    )
    note = f'<p class="note">{" ".join(notes)}</p>'
    return f"{note}<table>{first}<th>SNR</th><th>FWHM (Hz)</th></tr>{''.join(lines)}</table>"
