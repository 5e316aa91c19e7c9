"""Files of a joint fit of edited data: table of what editing is for, sub-spectra and their combinations, picture."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..concentrations.scaling import water_factor
from ..core.metabolites import canonical_name
from ..fitting.in_vivo.edited_result import EditedFit, Spectra
from ..fitting.verdict import VERDICTS
from ..io import nifti
from .figures import AMBER, BLACK, BLUE, GREEN, GREY, RED
from .fit_results import FitResults

__all__ = ["edited_summary", "edited_table", "edited_text", "quality_table", "write_edited"]

_ALPHA = 0.5
"""GABA of white matter over that of grey matter; Harris et al., doi 10.1002/jmri.24903."""

_CHOLINE_PPM = (3.14, 3.28)
_VIOLET, _PINK, _BROWN = "#7B3F9E", "#CC79A7", "#8C564B"
_SHOWN = {"GABA": GREEN, "MM3co": _PINK, "Glu+Gln": BLUE, "GSH": _VIOLET, "NAA+NAAG": _BROWN, "MM": AMBER}
_LABELS = {"Glu+Gln": "Glx", "NAA+NAAG": "tNAA", "MM": "macromolecules"}
_OF_INTEREST = (
    *("GABA+MM3co", "GABA", "MM3co", "GSH", "Glu+Gln", "Glu", "Gln"),
    *("NAA+NAAG", "GPC+PCh", "Ins", "Lac", "Asp"),
)
_OSPREY = {"GABA+MM3co": "GABAplus", "Glu+Gln": "Glx", "NAA+NAAG": "tNAA", "GPC+PCh": "tCho"}
_TITLE_WIDTH = 118  # characters of a line
_UNUSUAL_EFFECT = 0.15  # of editing pulses, from the simulated one


def edited_table(results: FitResults) -> pd.DataFrame:
    """Return edited.csv: a line per set, metabolite and quantity.

    ``name`` is Osprey's name, and so are quantities where it has them: ``tCr`` the ratio to total creatine, over water
    ``rawWaterScaled`` (pure water), ``CSFWaterScaled`` (that over the share of tissue), ``TissCorrWaterScaled`` (water
    and its relaxation in each tissue; molality) and ``AlphaCorrWaterScaled`` (that with half as much GABA in white as
    in grey matter), in mmol/kg, and ``molarity`` in mM.  ``usable`` and ``verdict`` are those of the fit of the set,
    ``molarity_of`` is what the voxel was taken for: 'tissue', or 'water alone' where tissue fractions were not given.
    """
    numbers = {_usual_name(name): number for number, name in enumerate(results.names)}
    quantities, rows = list(_quantities(results)), []
    for row in range(len(results.fit.params)):
        for usual in _OF_INTEREST:
            if usual not in numbers:
                continue
            number = numbers[usual]
            names = (row, results.names[number], _OSPREY.get(usual, usual))
            rows += [(*names, *about, values[row, number], sds[row, number]) for *about, values, sds in quantities]
    frame = pd.DataFrame(rows, columns=["set", "Metab", "name", "quantity", "unit", "value", "sd"])
    of_set = frame["set"].to_numpy(int)
    frame["usable"], frame["verdict"] = results.fit.usable[of_set], np.array(VERDICTS)[results.verdict[of_set]]
    if results.absolute is not None:
        frame["molarity_of"] = np.where(frame["quantity"] == "molarity", results.absolute.voxel, "")
    return frame.drop(columns=["set"] if len(results.fit.params) == 1 else [])


def _usual_name(total: str) -> str:
    """Return a metabolite or sum by the names that most basis sets have, as PCh for PCho."""
    return "+".join(canonical_name(member) for member in total.split("+"))


def _quantities(results: FitResults):
    """Yield the quantities of edited.csv: name, unit, values and SDs ``(n, len(names))``."""
    if results.ratios is not None:
        yield "tCr", f"over {results.reference_name}", *results.ratios
    absolute = results.absolute
    if absolute is None:
        return
    names = [absolute.names.index(name) for name in results.names]
    value, sd = absolute.molality[:, names], absolute.sd["molality"][:, names]
    tissue, scaling = absolute.scaling.tissue, absolute.scaling
    plain = water_factor(replace(scaling, tissue=None), absolute.relaxation, "molality")
    raw = np.broadcast_to(plain / water_factor(scaling, absolute.relaxation, "molality"), len(value))[:, None]
    yield "rawWaterScaled", "mmol/kg", value * raw, sd * raw
    if tissue is not None:
        solid = np.broadcast_to(1 - tissue.csf, len(value))[:, None]
        alpha = np.broadcast_to(tissue.grey + _ALPHA * tissue.white, len(value))[:, None]
        for name, factor in (
            ("CSFWaterScaled", raw / solid),
            ("TissCorrWaterScaled", 1.0),
            ("AlphaCorrWaterScaled", solid / alpha),
        ):
            yield name, "mmol/kg", value * factor, sd * factor
    yield "molarity", "mM", absolute.molarity[:, names], absolute.sd["molarity"][:, names]


def quality_table(results: FitResults, edited: EditedFit) -> pd.DataFrame:
    """Return edited_quality.csv: efficiency of the pulses, offsets of conditions, verdict, width of creatine, and
    the artefact of subtraction, a line per set."""
    rows = []
    for fitted, row in enumerate(np.flatnonzero(edited.main.fitted)):
        line: dict[str, object] = {"set": int(row)}
        for number, place in enumerate(edited.places):
            value, sd = (one[fitted, number] for one in edited.efficiency)
            line |= {f"efficiency_{place:g}ppm": value, f"efficiency_{place:g}ppm_sd": sd}
        for number, name in enumerate(edited.conditions):
            line[f"shift_{name}_hz"] = edited.shift_hz[0][fitted, number]
            line[f"phase_{name}_deg"] = edited.phase_deg[0][fitted, number]
        line["usable"], line["verdict"] = bool(results.fit.usable[row]), VERDICTS[results.verdict[row]]
        line["Cr_FWHM_hz"] = _creatine_width(results, row)
        spectra = edited.spectra(int(row))
        for name, weights in edited.combinations.items():
            line[f"subtraction_artefact_{name}_pct"] = 100 * _subtraction_artefact(spectra, weights, edited.reference)
        line["conditions"] = " ".join(edited.conditions[k] for k in np.argsort(edited.order))
        rows.append(line)
    frame = pd.DataFrame(rows)
    return frame.drop(columns=["set"]) if len(results.fit.params) == 1 else frame


def _creatine_width(results: FitResults, row: int) -> float:
    names = [results.fit.names.index(name) for name in ("Cr", "PCr") if name in results.fit.names]
    widths = results.quality[1][row, names]
    return float(np.nanmean(widths)) if np.isfinite(widths).any() else np.nan


def _subtraction_artefact(spectra: Spectra, weights: np.ndarray, reference: int) -> float:
    """Return the largest signal of choline that a combination leaves, over choline in the reference condition."""
    near = (spectra.ppm >= _CHOLINE_PPM[0]) & (spectra.ppm <= _CHOLINE_PPM[1])
    one = spectra.combined(weights)
    left = (one.data - one.baseline)[0, near].real
    whole = (spectra.data - spectra.baseline)[reference, near].real
    return float(np.abs(left).max() / np.abs(whole).max())


def edited_text(results: FitResults, edited: EditedFit) -> list[str]:
    """Return lines for the terminal: order, efficiency, and what editing is for, over total creatine; of several sets
    medians over usable ones."""
    rows = results.median_rows
    order = ", ".join(edited.conditions[k] for k in np.argsort(edited.order))
    how = "as given" if edited.order_given else "recognised"
    lines = [f"Edited data ({edited.scheme}), conditions {order} ({how}), fitted jointly."]
    if edited.order != edited.recognised:
        likely = " ".join(edited.conditions[k] for k in np.argsort(edited.recognised))
        lines.append(f"The data look like {likely}, not like the order that was given: compare with --edit-conditions.")
    for number, place in enumerate(edited.places):
        # Of the sets that were fitted, in their order.
        value, sd = (
            np.median(one[np.isin(np.flatnonzero(edited.main.fitted), rows), number]) for one in edited.efficiency
        )
        line = f"Editing at {place:g} ppm has {value:.2f} +- {sd:.2f} of the simulated effect"
        if abs(value - 1) > max(_UNUSUAL_EFFECT, 2 * sd):
            line += ": the frequency drifted, or pulses are not those of the basis set (duration, bandwidth, ppm)"
        lines.append(f"{line}.")
    if results.ratios is not None:
        parts = []
        for name in ("GABA+MM3co", "GABA", "MM3co", "GSH", "Glu+Gln"):
            if name in results.names:
                value, sd = (np.nanmedian(one[rows, results.names.index(name)]) for one in results.ratios)
                parts.append(f"{_OSPREY.get(name, name).replace('plus', '+')} {value:.3f} +- {sd:.3f}")
        lines.append(f"Over {results.reference_name}: {', '.join(parts)}.")
    if results.absolute is not None and "GABA+MM3co" in results.absolute.names:
        column = results.absolute.names.index("GABA+MM3co")
        value, sd = (
            np.nanmedian(one[rows, column]) for one in (results.absolute.molarity, results.absolute.sd["molarity"])
        )
        alone = ", as in a voxel of water alone" * results.absolute.as_water_alone
        lines.append(
            f"Over water: GABA+ {value:.3f} +- {sd:.3f} mM{alone} (edited.csv has mmol/kg with other corrections)."
        )
    return lines


def write_edited(folder: Path, results: FitResults, edited: EditedFit) -> None:
    """Write tables, picture and spectra into a folder of results.

    ``edited/`` holds data and model of every condition and combination as NIfTI-MRS, the conditions' own shifts and
    phases taken out of both, and their basis sets.
    """
    edited_table(results).to_csv(folder / "edited.csv", index=False)
    quality_table(results, edited).to_csv(folder / "edited_quality.csv", index=False)
    edited_summary(results, edited, folder / "edited_summary.png")
    spectra = folder / "edited"
    (spectra / "basis").mkdir(parents=True)
    edited.basis.save(spectra / "basis", info="The basis sets of a fit.")
    data, model = _corrected(edited)
    shown = {name: np.eye(len(edited.conditions))[k] for k, name in enumerate(edited.conditions)}
    for name, weights in {**shown, **edited.combinations}.items():
        stem = name.replace(" ", "_")
        for ending, fids in (("", data), ("_fit", model)):
            combined = results.as_data(np.einsum("k,nkt->nt", weights, fids))
            nifti.save(spectra / f"{stem}{ending}.nii.gz", combined)


def _corrected(edited: EditedFit) -> tuple[np.ndarray, np.ndarray]:
    """Return FIDs of data and model without the conditions' own shifts and phases, ``(n, n_conditions, n_points)``."""
    time = edited.main.model.axes.time()
    out = []
    for what in ("data", "model"):
        each = []
        for k, fit in enumerate(edited.fits):
            fids = (fit.fids if what == "data" else fit.model_fids("full")).copy()
            rows = np.flatnonzero(fit.fitted)
            shift, phase = (one[0][:, [k]] for one in (edited.shift_hz, edited.phase_deg))
            fids[rows] *= np.exp(1j * (np.deg2rad(phase) - 2 * np.pi * shift * time))
            each.append(fids)
        out.append(np.stack(each, 1))
    return out[0], out[1]


def edited_summary(
    results: FitResults, edited: EditedFit, path: str | Path | None = None, *, row: int = 0, title: bool = True
):
    """Draw the conditions, and below them each combination with the metabolites in it.

    Parameters
    ----------
    results : FitResults
    edited : EditedFit
    path : path, optional
        File to write, PNG, PDF or SVG.
    row : int
        Set of sub-spectra.
    title : bool
        Whether the verdict and :func:`edited_text` stand above.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spectra, n = edited.spectra(row), len(edited.combinations)
    figure = Figure(figsize=(9, 4 + 4 * n), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1 + n, 1, height_ratios=(0.8, *[1] * n))
    _draw_conditions(panels[0], spectra, edited.conditions)
    for panel, (name, weights) in zip(panels[1:], edited.combinations.items()):
        _draw_combination(panel, spectra.combined(weights), name)
    for panel in panels:
        panel.set_xlim(spectra.ppm.max(), spectra.ppm.min())
        panel.set_yticks([])
        panel.spines[["top", "right", "left"]].set_visible(False)
    panels[-1].set_xlabel("chemical shift (ppm)")
    if title:
        lines = [f"Verdict: {results.verdict_words(row)}.", *edited_text(results, edited)]
        text = "\n".join(textwrap.fill(line, _TITLE_WIDTH) for line in lines)
        figure.suptitle(text, fontsize=9, x=0.02, ha="left")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _draw_conditions(panel, spectra: Spectra, conditions: tuple[str, ...]) -> None:
    """Draw data and model of every condition, one above the other."""
    data, model = spectra.data.real, spectra.model.real
    step = 0.6 * np.ptp(data)
    for k, name in enumerate(conditions):
        above = step * (len(conditions) - 1 - k)
        panel.plot(spectra.ppm, data[k] + above, color=BLACK, lw=0.8, label="data" if k == 0 else None)
        panel.plot(spectra.ppm, model[k] + above, color=RED, lw=1.0, alpha=0.9, label="model" if k == 0 else None)
        panel.text(spectra.ppm.min() + 0.05, above + 0.05 * step, name, ha="right", fontsize=9)
    panel.legend(loc="upper left", frameon=False, ncols=2, fontsize=8)
    panel.set_title("conditions", fontsize=9, loc="left")


def _draw_combination(panel, one: Spectra, name: str) -> None:
    """Draw data, model, baseline and residual of a combination, and the metabolites that matter below."""
    data, model, ppm = one.data[0].real, one.model[0].real, one.ppm
    size = np.percentile(np.abs(data), 97)
    panel.plot(ppm, data, color=BLACK, lw=0.9, label="data")
    panel.plot(ppm, model, color=RED, lw=1.2, alpha=0.9, label="model")
    panel.plot(ppm, one.baseline[0].real, color=BLUE, lw=1.0, ls="--", label="baseline")
    top = min(max(data.max(), model.max()), 4 * size)
    residual = data - model
    above = top + 1.1 * np.abs(residual).max()
    panel.axhline(above, color=GREY, lw=0.5)
    panel.plot(ppm, residual + above, color=GREY, lw=0.8, label="residual")
    parts = {}
    for total, colour in _SHOWN.items():
        members = [member for member in total.split("+") if member in one.components]
        if members:
            parts[total] = (sum(one.components[member][0].real for member in members), colour)
    below = max(min(data.min(), model.min()), -4 * size) - 0.3 * size
    for total, (part, colour) in parts.items():
        below -= max(min(part.max(), 3 * size), 0.4 * size)
        panel.axhline(below, color=GREY, lw=0.4)
        panel.plot(
            ppm, np.clip(part, -3 * size, 3 * size) + below, color=colour, lw=1.0, label=_LABELS.get(total, total)
        )
        below += max(part.min(), -0.8 * size)
    panel.set_ylim(below - 0.3 * size, above + 1.2 * np.abs(residual).max())
    panel.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, frameon=False, fontsize=8, ncols=5)
    panel.set_title("difference" if name == "difference" else f"{name} combination", fontsize=9, loc="left")
