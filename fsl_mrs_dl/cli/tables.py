"""Tables for the terminal."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..results import layout

if TYPE_CHECKING:
    from ..io.nifti import MrsData
    from ..results.fit_results import FitResults

__all__ = [
    "artefact_notes",
    "dimension_notes",
    "members_text",
    "print_accuracy",
    "print_if_little_learnt",
    "range_text",
    "short_text",
    "text_table",
    "verdict_line",
    "water_note",
]


_BELOW_CREATINE_PPM = 3.85


def _format_or_dash(value: float, form: str) -> str:
    """Return a number as text, or a dash of the same width where it is not finite."""
    return format(value, form) if math.isfinite(value) else f"{'-':>{int(form.split('.')[0])}}"


def text_table(results: FitResults) -> str:
    """Return concentrations for the terminal: those of the spectrum, or medians over the usable ones of several, with
    notes."""
    import numpy as np

    from ..results.series import range_of_values

    n, n_fitted = len(results.fit.params), int(np.count_nonzero(results.fit.fitted))
    values = range_of_values(results)
    about = f"{n_fitted} of {n} spectra fitted{f' ({values})' if values else ''}; {results.median_words}:"
    lines = [about] if n > 1 else []
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of medians without a finite value
        lines += _concentration_lines(results)
    return "\n".join(lines + _estimate_notes(results) + _quality_notes(results))


def verdict_line(results: FitResults, quality: dict | None = None) -> str:
    """Return the verdict with its reasons, SNR and line width in a line; of several spectra how many have each verdict,
    and medians over the usable ones.

    ``quality`` is that of ``run.json``; by default SNR and line width of the metabolite that stands for the spectrum.
    """
    import numpy as np

    from ..results.doubts import quality_column

    if quality is None:
        column, good = quality_column(results), results.median_rows
        values = [each[good][:, column] for each in results.quality]
        snr, fwhm = (float(np.median(each[np.isfinite(each)])) if np.isfinite(each).any() else None for each in values)
        quality = {"snr": snr, "fwhm_hz": fwhm, "transients": 0}
    single = len(results.fit.params) == 1
    verdict = results.verdict_words(0) if single else results.verdict_text
    parts = []
    if quality["snr"] is not None:
        parts.append(f"SNR {quality['snr']:.0f}")
    if quality["fwhm_hz"] is not None:
        parts.append(f"line width {quality['fwhm_hz']:.1f} Hz")
    if quality["transients"] > 1:
        parts.append(f"{quality['transients']} transients, {quality['rejected']} left out")
    # Reasons stand behind a colon, and end with a full stop.
    mark = ". " if ":" in verdict else ", "
    return f"Verdict: {mark.join([verdict, ', '.join(parts)] if parts else [verdict])}."


def _concentration_lines(results: FitResults) -> list[str]:
    """Return the heading and a line for each metabolite and sum."""
    import numpy as np

    from ..results.fit_results import hardly_determined

    fit, rows = results.fit, results.median_rows
    median = lambda values: np.nanmedian(values[rows], 0)  # noqa: E731
    columns = [("conc", 10, "9.4g", median(results.concentrations[0]))]
    columns.append(("SD", 9, "8.2g", median(results.concentrations[1])))
    columns.append(("%SD", 6, "5.0f", median(results.percent)))
    if results.ratios is not None:
        columns.append((f"/{results.reference_name}", 12, "11.3f", median(results.ratios[0])))
        columns.append(("SD", 8, "7.3g", median(results.ratios[1])))
    if results.absolute is not None:
        columns.append(
            (f"mM{layout.WATER_MARK * results.absolute.as_water_alone}", 9, "8.3f", median(results.absolute.molarity))
        )
        columns.append(("SD", 8, "7.2g", median(results.absolute.sd["molarity"])))
    for title, estimate, computed in (
        ("posterior", "posterior_mean", fit.posterior is not None),
        ("network", "network", fit.networks is not None),
    ):
        if computed and estimate != results.estimate:
            values = fit.table(results.sums, estimate)[1]
            if results.reference is not None:
                values = values / values[:, [results.names.index(results.reference_name)]]
            columns.append((title, 11, "10.3f", median(values)))
    marks = [""] * len(results.names)
    if results.prior_pull is not None:
        pull = median(results.prior_pull)
        conflict = np.zeros(len(pull)) if results.prior_conflict is None else results.prior_conflict[rows].mean(0)
        columns.append(("% prior", 9, "7.0f", 100 * pull))
        beside = (pull > layout.MOSTLY_PRIOR) & (results.share_of_prior is None)
        marks = [("p" if beside[i] else "") + ("!" if conflict[i] > 0.5 else "") for i in range(len(marks))]
    share = None if results.share_of_prior is None else median(results.share_of_prior)
    weak = hardly_determined(median(results.percent), share)
    head = f"{'Metab':<10}" + "".join(f"{title:>{width}}" for title, width, _, _ in columns)
    lines = [head, "-" * len(head)]
    for i, name in enumerate(results.names):
        cells = "".join(" " + _format_or_dash(values[i], form) for _, _, form, values in columns)
        lines.append(f"{name:<10}{cells}{' *' if weak[i] else ''}{marks[i]}")
    return lines


def _estimate_notes(results: FitResults) -> list[str]:
    """Return notes on the meaning of the columns."""
    import numpy as np

    from ..core.errors import spelled
    from ..fitting.artefacts import option_spelling
    from ..fitting.in_vivo.result import InVivoFit
    from ..physics.in_vivo_signals import MACROMOLECULES
    from ..results.edited import edited_text
    from ..results.figures import sd_labels

    fit = results.fit
    several = fit.networks is not None and len(fit.networks) > 1
    sd = {
        "ml": "the Cramer-Rao bound",
        "in-vivo": "the in-vivo model's, with its priors and the disagreement of models",
        "posterior_mean": "the posterior's",
        "network": "the networks' spread" if several else "not known of a single network",
    }[results.estimate]
    notes = []
    if results.edited is not None:
        notes += edited_text(results, results.edited)
        notes.append("Edited spectra take neither line shape nor eddy currents from a water reference (--h2o).")
    notes += [
        f"residual / noise {np.nanmedian(fit.misfit[results.median_rows]):.2f}; SD is {sd}; initial values {fit.init}"
    ]
    if isinstance(fit, InVivoFit):
        notes += ["Concentrations have no prior."] * (fit.concentrations.prior == "none")
        notes += [f"Soft constraints: {'; '.join(fit.constraints)}."] * bool(fit.constraints)
    if fit.posterior is not None:
        unit = ", as ratio" if results.reference is not None else ""
        notes.append(
            f"Posterior: {fit.posterior.prior.source} and the data{unit}; % prior is the posterior over the prior"
            f" variance,{' p mostly prior,' * (results.share_of_prior is None)} ! data and prior disagree."
        )
    elif fit.model.name == "negativevoigt":
        notes.append("Concentrations have no prior: that of a normal brain has no negative ones.")
    elif results.prior_pull is not None:
        notes.append("% prior is the share of the likelihood's variance that priors take away.")
    if sd_labels(results)[1]:
        notes.append(f"* {sd_labels(results)[1]}.")
    if isinstance(fit, InVivoFit) and MACROMOLECULES in fit.names:
        unit = (
            "own macromolecules, 1 is ten times the signal of an average metabolite of the basis set"
            if fit.has_own_macromolecules
            else "the sum of all macromolecules, about 0.2 to 1 per total creatine in healthy brains at echo times of"
            " 30 to 35 ms, by sequence and region; 0 in data without them"
        )
        notes.append(f"{MACROMOLECULES}: {unit}.")
    if results.absolute is not None:
        if results.absolute.as_water_alone:
            notes.append(water_note())
        notes += [f"Absolute concentrations: {spelled(' '.join(results.absolute.assumptions), option_spelling)}"]
    of_model = [getattr(fit, name, "") for name in ("places_note", "water_note")]
    return notes + [note for note in (*of_model, fit.network_note) if note]


def water_note() -> str:
    """Return what the mark of concentrations in mM without tissue fractions means, and the remedy."""
    return (
        f"{layout.WATER_MARK.strip()} as in a voxel of water alone, for want of tissue fractions: give them by"
        " --tissue_frac, three numbers (white, grey, CSF) or a segmentation."
    )


def _quality_notes(results: FitResults) -> list[str]:
    """Return notes on ratios, convergence, spectra that are fitted badly, and why."""
    import numpy as np

    from ..fitting.fitted_data import reference_note

    fit, rows, notes = results.fit, np.flatnonzero(results.fit.fitted), []
    note = reference_note(results.internal_ref, fit.names)
    notes += [note] * bool(note)
    single = len(fit.params) == 1
    if results.reference is None:
        notes.append(f"No ratios: {results.reference_name} was not fitted; choose a reference with --internal_ref.")
    failed = rows[~fit.converged[rows] & ~fit.empty[rows]]
    if len(failed):
        groups = "give fewer --metab_groups, or " if fit.model.n_groups > 1 else ""
        remedy = f"{groups}leave out metabolites that are not detectable"
        if fit.model.name == "in-vivo":
            remedy = _leave_out(results) or "check the basis set, and the spectra for artefacts"
        subject = "The fit" if single else _some_of(results, failed, "fits")
        notes.append(
            f"{subject} did NOT converge and should not be used as {'it is' if single else 'they are'} (column"
            f" converged in uncertainty.csv): {remedy}."
        )
    outside = rows[(fit.ood[rows] > layout.OOD_LIMIT) & ~fit.empty[rows]]
    if len(outside):
        subject = "The spectrum is" if single else f"{_some_of(results, outside, 'spectra')} are"
        notes.append(
            f"{subject} out of distribution (score {np.nanmax(fit.ood[outside]):.1f}, above {layout.OOD_LIMIT:g};"
            " column ood_score in uncertainty.csv)."
        )
    empty = rows[fit.empty[rows]]
    if len(empty):
        subject = "The fit is" if single else f"{_some_of(results, empty, 'fits')} are"
        notes.append(f"{subject} NOT usable (column usable): there is no signal above the noise.")
    unexplained = rows[~fit.usable[rows] & fit.converged[rows] & ~fit.empty[rows]]
    if len(unexplained):
        remedy = _leave_out(results)
        subject = "The fit is" if single else f"{_some_of(results, unexplained, 'fits')} are"
        notes.append(
            f"{subject} NOT usable (column usable): more is unexplained than in realistic spectra"
            f" ({np.nanmedian(fit.unexplained[unexplained]):.0%} of the signal,"
            f" {np.nanmedian(fit.misfit[unexplained]):.1f} times the noise){f': {remedy}' if remedy else ''}."
        )
    notes += _doubts(results)
    notes += artefact_notes(results)
    named = results.artefacts_of_file or any(results.artefacts.values())
    named = named or (results.left_out_by is not None and not fit.usable[rows].all())
    if not named and len(empty) < len(rows) and np.nanmedian(fit.misfit[rows]) > 1.5:
        notes.append(_misfit_note(results))
    return notes


def _some_of(results: FitResults, rows: Sequence[int], noun: str) -> str:
    """Return how many of several spectra some rows are, and which, for the beginning of a sentence."""
    from ..results.doubts import places

    words = places(results, rows)
    return f"{len(rows)} of {int(results.fit.fitted.sum())} {noun}{f' ({words})' if words else ''}"


def _leave_out(results: FitResults) -> str:
    """Return which window leaves an artefact out; empty where none does."""
    from ..core.errors import spelled
    from ..fitting.artefacts import option_spelling
    from ..fitting.window_advice import window_in_words

    found = results.left_out_by
    if found is None:
        return ""
    artefact, window = found
    return spelled(f"leave the {artefact.kind} out of the window ({window_in_words(window)})", option_spelling)


def _doubts(results: FitResults) -> list[str]:
    """Return a line for each reason for doubt that has no line of its own: SNR, line width, concentrations, and signal
    that is not explained."""
    from ..fitting.verdict import DOUBTFUL
    from ..results.doubts import OUT_OF_DISTRIBUTION, first_of, rows_by_reason, where
    from ..results.layout import FILTERED

    if len(results.fit.params) == 1:
        found = results.doubts.get(0, ()) if results.verdict[0] == DOUBTFUL else ()
        found = [doubt for doubt in found if doubt.code != FILTERED]  # named with what helps below
        return [f"The verdict is doubtful: {doubt.kind} ({doubt.figures})." for doubt in found]
    of_artefacts = {one.kind for found in (results.artefacts_of_file, *results.artefacts.values()) for one in found}
    lines = []
    for kind, rows in rows_by_reason(results).items():
        doubtful = [row for row in rows if results.verdict[row] == DOUBTFUL]
        if not doubtful or kind in of_artefacts or kind == OUT_OF_DISTRIBUTION:
            continue
        first = first_of(results, kind, doubtful)
        figures = f" ({first.figures}{' in the first' if len(doubtful) > 1 else ''})"
        lines.append(f"Doubtful: {kind}{figures}, {where(results, doubtful)}.")
    return lines


def dimension_notes(data: MrsData, averaged: Sequence[str] = (), joint: Sequence[str] = ()) -> list[str]:
    """Return a line for each dimension whose elements are fitted one by one; options stand in backticks.

    ``averaged`` and ``joint`` are dimensions that are averaged, or fitted together.
    """
    notes = []
    for tag, size in zip(data.dim_tags, data.fids.shape[4:]):
        if size > 1 and tag not in (*averaged, *joint):
            remedy = f"`average` {tag} fits their mean"
            if tag == "DIM_COIL":
                remedy = "combine coils first (fsl_mrs_dl run does; in FSL-MRS fsl_mrs_proc coilcombine)"
            notes.append(f"{data.name}: {tag} has {size} elements, which are fitted one by one; {remedy}.")
    return notes


def artefact_notes(results: FitResults, n_fitted: int | None = None) -> list[str]:
    """Return a line for each kind of artefact: of the first spectrum that has it, and which of several have it.

    ``n_fitted`` is the number of spectra that were fitted, where ``results`` are of some of them.
    """
    from ..fitting.artefacts import artefact_lines, option_spelling

    before = [artefact.text(option_spelling) for artefact in results.artefacts_of_file] + _filter_notes(results)
    n = len(results.artefacts)
    if n_fitted is None or n in (0, n_fitted) or results.fit.model.axes.nucleus != "1H":
        return [*before, *results.artefact_lines()]
    looked = f"Artefacts were looked for in {n} of {n_fitted} spectra, evenly spread."
    return [*before, looked, *artefact_lines(results.artefacts, option_spelling)]


def _filter_notes(results: FitResults) -> list[str]:
    """Return a line on spectra of whose band a filter took the noise."""
    from ..core.noise import filtered_noise
    from ..core.units import fid_to_spec

    fit = results.fit
    if fit.fids is None:
        return []
    rows = fit.fitted.nonzero()[0]
    filtered = int(filtered_noise(fid_to_spec(fit.fids[rows]), fit.model.axes).sum())
    if not filtered:
        return []
    subject = "The spectrum has" if len(rows) == 1 else f"{filtered} of {len(rows)} spectra have"
    return [
        f"{subject} next to no noise where there are no signals, as if part of the band had been filtered: the noise"
        f" was measured between the signals.{'' if results.filter_artefact else _below_creatine(fit)}"
    ]


def _below_creatine(fit) -> str:
    """Return advice on a window that ends below the CH2 of creatine, for filtered spectra; empty where it does."""
    window = fit.model.ppmlim
    if not window or max(window) <= _BELOW_CREATINE_PPM or min(window) >= _BELOW_CREATINE_PPM:
        return ""
    return (
        " Where the filter or water suppression took the CH2 of creatine at 3.9 ppm, too, ratios to creatine are far"
        f" too high: end the window below it (--ppmlim {min(window):g} {_BELOW_CREATINE_PPM:g}) and compare."
    )


def _misfit_note(results: FitResults) -> str:
    """Return what a residual larger than noise means, and what might help."""
    from ..core.metabolites import is_macromolecule, typical_concentrations

    fit = results.fit
    if fit.model.name == "in-vivo":
        first = _leave_out(results)
        with_water = getattr(fit, "water_note", "") or results.edited
        remedies = [] if with_water else ["--h2o with unsuppressed water (line shape, eddy currents)"]
        remedies += (
            ["a basis set of the same sequence, echo time and editing pulses"]
            if results.is_edited
            else ["a basis set of the same sequence and echo time", "--mm tumour (strong lipids)"]
        )
        if first:
            return f"The residual is larger than noise, and counts as noise in the SDs: {first} and compare."
        return f"The residual is larger than noise, and counts as noise in the SDs: try {' or '.join(remedies)}."
    brain = fit.model.nucleus == "1H" and typical_concentrations(list(fit.names)) is not None
    if results.is_edited:
        return "The residual is larger than noise, so the SDs are too small: try the joint fit (--edit-mode joint)."
    remedies = ["--spectral-model in-vivo"] if brain else []
    remedies += [] if fit.model.baseline.mode == "spline" else ["--baseline 'spline, moderate'"]
    remedies += [] if any(is_macromolecule(name) for name in fit.names) else ["macromolecules (--mm)"]
    advice = f": try {' or '.join(remedies)}." if remedies else "."
    return f"The residual is larger than noise, so the SDs are too small{advice}"


def print_if_little_learnt(card) -> None:
    """Print a warning about a network whose accuracy is hardly better than a constant."""
    from ..networks import model_cards

    if card.kind.startswith("supervised") and model_cards.little_learnt(card):
        print(
            "It has learnt little yet: its answers are hardly better than the mean of its training data. Train longer."
        )


def members_text(training: dict) -> str:
    """Return steps and minutes of the training of every member of a network."""
    each = [
        f"{one['encoder']} {one['steps']} steps, {one['minutes']:.1f} minutes" for one in training.get("members", ())
    ]
    return f" (members: {'; '.join(each)})" if each else ""


def _scores_table(accuracy: dict) -> str:
    """Return the accuracy of a supervised network, a line for each metabolite."""
    import numpy as np

    from ..networks.supervised_quantification import SCORES

    heads = ("R2", "slope", "intercept", "RMSE")
    lines = [f"  {'':<12}" + "".join(f"{head:>10}" for head in heads)]
    columns = [accuracy[label] for label in SCORES]
    lines += [f"  {name:<12}" + "".join(f"{column[name]:10.3g}" for column in columns) for name in columns[0]]
    if columns[0]:
        lines.append(
            f"  {'median':<12}" + "".join(f"{np.median(list(column.values())):10.3g}" for column in columns[:2])
        )
    return "\n".join(
        [*lines, "  Slope of estimated against true; intercept and RMSE in the units of the recipe's concentrations."]
    )


def short_text(value) -> str:
    """Return a value of a model card in few words."""
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {short_text(one)}' for key, one in value.items() if one)})"
    if isinstance(value, list) and value and all(isinstance(one, dict) and "encoder" in one for one in value):
        return ", ".join(one["encoder"] for one in value)
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 4 else str(value)


def range_text(key: str, allowed) -> str:
    """Return a range of a model card, or its list of values, with its name."""
    from ..networks.model_cards import RANGE_WORDS

    name = RANGE_WORDS.get(key, key)
    if all(isinstance(one, str) for one in allowed):
        return f"{name} {', '.join(allowed)}"
    low, high = allowed
    if high >= 1e8 or high > 0 and 1 < high / max(low, 1e-30) < 1.02:
        return f"{name} from {low:g}" if high >= 1e8 else f"{name} {(low * high) ** 0.5:.4g}"
    return f"{name} {low:g} to {high:g}"


def print_accuracy(card, only=()) -> None:
    """Print the accuracy in a model card; ``only`` are the labels of the parts to print, by default all."""
    from ..networks import supervised_quantification

    if set(supervised_quantification.SCORES) <= set(card["accuracy"]):
        print(_scores_table(card["accuracy"]))
        return
    for label, terms in card["accuracy"].items():
        if only and label not in only:
            continue
        if isinstance(terms, dict):
            print(f"  {label}:")
            for name, value in terms.items():
                print(f"    {value:<10.4g} {name}")
        else:
            print(f"  {label}: {terms}")
