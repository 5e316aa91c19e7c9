"""The methods paragraph of a fit, with citations in pandoc's form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from ...concentrations.relaxation import Relaxation
from ...concentrations.scaling import IN_VIVO_LOG_SD
from ...core.metabolites import is_macromolecule
from ...fitting.artefacts import echo_time_mismatch
from ...fitting.header_facts import contradicted_times, time_notes
from ...fitting.in_vivo.edited_result import EditedFit
from ...fitting.in_vivo.result import InVivoFit
from ...fitting.in_vivo.settle import COMPARED_SPECTRA
from ...fitting.verdict import VERDICTS
from ...physics.in_vivo_components import priors_table
from ..doubts import rows_by_reason
from ..fit_results import FitResults
from .analysis import Analysis, figure_in_words, program_versions
from .references import PACKAGE_KEY, cite, key_of_doi

__all__ = ["methods_text", "not_needed", "relaxation_dois"]


def methods_text(analysis: Analysis) -> str:
    """Return the methods paragraphs of an analysis, with citations as ``[@key]``.

    Every number is of this fit: versions, spectral model, priors, baseline, macromolecules, line shape, basis set,
    processing, scaling, and exclusions.
    """
    parts = [_software(analysis), _processing(analysis), _model(analysis), _basis(analysis), _output(analysis)]
    parts.append(_quality(analysis))
    return "\n\n".join(part for part in parts if part) + "\n"


def relaxation_dois(analysis: Analysis) -> list[str]:
    """Return the DOIs of the relaxation times that absolute concentrations rest on, each once."""
    if analysis.absolute is None:
        return []
    relaxation = analysis.absolute.relaxation
    return [doi for doi in relaxation.dois if analysis.has_csf or doi not in relaxation.dois_of_csf]


def _software(analysis: Analysis) -> str:
    versions = program_versions() | dict(analysis.versions)
    ours = versions.pop("FSL-MRS-DL")
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    text = f"Spectra were analysed with FSL-MRS-DL {ours} {cite(PACKAGE_KEY)} ({others})."
    how = analysis.header.get("ConversionMethod")
    into = f" The spectra were stored as NIfTI-MRS {cite('clarke2022niftimrs')}"
    return text + into + (f", converted by {how}." if how else ".")


# -- processing --------------------------------------------------------------------------------------------------------

_HLSVD = ("pijnappel1992hlsvd", "laudadio2002lanczos")
_CITED_STEPS = {"eddy": ("klose1990ecc",), "residual water": _HLSVD, "nuisance peak": _HLSVD}
_STEP_WORDS = {
    "water reference": "combination and averaging of the water reference",
    "water for quantification": "combination and averaging of the water for quantification",
    "residual water": "removal of residual water",
    "frequency and phase": "referencing of frequency and phase",
    "eddy currents": "correction of eddy currents",
}
"""Names of steps, where those of run.json are no noun for it."""
_NOT_NEEDED = "already|below the noise|none reaches|corrected before|has none|does not make the fit better"
"""Reasons of steps that data did not need, others were not done."""


def not_needed(step: Mapping) -> bool:
    """Tell whether data did not need a step that was not done, from its reason."""
    return re.search(_NOT_NEEDED, str(step.get("reason") or "already")) is not None


def _processing(analysis: Analysis) -> str:
    """Return the sentences on the steps before the fit."""
    sentences = []
    if analysis.history:
        entries = [_entry(entry) for entry in analysis.history]
        sentences.append(f"The processing history of the data names {_listed(entries)}.")
    # What the in-vivo model took from water has a sentence among those on the model.
    steps = [step for step in analysis.steps if not str(step.get("reason")).startswith("within the fit")]
    done = [step for step in steps if step.get("done")]
    left_out = [step for step in steps if not step.get("done")]
    needless = [step for step in left_out if not_needed(step)]
    if done:
        sentences.append(f"Steps before the fit were {_listed(_step(step) for step in done)}.")
        sentences += [text for step in done for text in _algorithm(step)]
    for words, some in (
        ("Not needed", needless),
        ("Not done", [step for step in left_out if step not in needless]),
    ):
        if some:
            verb = "was" if len(some) == 1 else "were"
            sentences.append(f"{words} {verb} {_listed(_not_done(step) for step in some)}.")
    if analysis.transients:
        sentences.append(f"Each spectrum is the average of {analysis.transients} transients.")
    if analysis.results.conjugated:
        sentences.append("The frequency axis of the data was reversed by complex conjugation.")
    if not (analysis.history or analysis.steps):
        sentences.insert(0, "The data have no record of processing before the fit.")
    return " ".join(sentences)


def _entry(entry: dict) -> str:
    """Return a step of a header's history, with its program."""
    program = " ".join(str(entry[key]) for key in ("Program", "Version") if entry.get(key))
    name = str(entry.get("Method") or "a step without a name")
    return f"{_with_citation(name[:1].lower() + name[1:] if name[1:2].islower() else name)}" + (
        f" ({program})" if program else ""
    )


def _step(step) -> str:
    """Return a step with its reason and figures."""
    reason = str(step.get("reason") or "").replace(", 0 of them left out", ", none of them left out")
    values = dict(step.get("figures") or {})
    if re.match(r"\d+ transients", reason):
        values.pop("transients", None)
    if {"coherence_before", "coherence_after"} <= set(values):
        before, after = (f"{values.pop(f'coherence_{when}'):.4f}" for when in ("before", "after"))
        reason += f"; coherence {before} before and {after} after"
    figures = [figure_in_words(name, value) for name, value in values.items()]
    inside = "; ".join(filter(None, [reason, ", ".join(figures)]))
    name = str(step["name"])
    return _with_citation(_STEP_WORDS.get(name, name)) + (f" ({inside})" if inside else "")


def _algorithm(step: Mapping) -> list[str]:
    """Return a sentence on how coils were combined, or transients aligned; none for other steps."""
    name, reason = str(step["name"]), str(step.get("reason") or "")
    if name == "coil combination" and "sensitivities from" in reason:
        noise = "covariance" if "noise whitened" in reason else "variances"
        return [
            f"Coils were combined with the weights of highest signal-to-noise ratio, from the {noise} of the noise and"
            " the sensitivities of the coils, the first singular vector of the whitened signal"
            f" {cite('roemer1990array', 'rodgers2010wsvd')}."
        ]
    if name == "alignment and averaging" and "left out" in reason and "as they were" not in reason:
        return [
            "Frequency and phase of each transient are those of highest likelihood relative to the weighted mean of the"
            " aligned transients, in the manner of spectral registration"
            f" {cite('near2015registration')} but in the frequency domain, with changing residual water and lipids as"
            " nuisances whose variance is estimated from the transients."
        ]
    return []


def _not_done(step: Mapping) -> str:
    """Return a step that was not done, with the reason."""
    name, reason = str(step["name"]), str(step.get("reason") or "")
    return _STEP_WORDS.get(name, name) + (f" ({reason})" if reason else "")


def _with_citation(name: str) -> str:
    keys = [key for word, works in _CITED_STEPS.items() if word in name.lower() for key in works]
    return " ".join(filter(None, [name, cite(*keys)]))


def _listed(words: Iterable[str]) -> str:
    """Return words as a list in a sentence."""
    words = list(words)
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


# -- model -------------------------------------------------------------------------------------------------------------


def _window(results: FitResults) -> str:
    limits = results.fit.model.ppmlim
    return f"between {limits[0]:g} and {limits[1]:g} ppm" if limits else "over the whole bandwidth"


def _model(analysis: Analysis) -> str:
    return _in_vivo_model(analysis) if analysis.in_vivo else _fsl_mrs_model(analysis)


def _fsl_mrs_model(analysis: Analysis) -> str:
    """Return the sentences on a fit of FSL-MRS's model."""
    results, options = analysis.results, analysis.full_options
    model = results.fit.model
    shape = "Lorentzian" if "lorentzian" in options.model else "Voigt"
    free = " with a frequency shift of each basis spectrum" if "free_shift" in options.model else ""
    groups = "one group" if model.n_groups == 1 else f"{model.n_groups} groups"
    sign = "may be negative" if options.model.startswith("negative") else "are not negative"
    sentences = [
        f"Spectra were fitted {_window(results)} with the linear combination model of FSL-MRS"
        f" {cite('clarke2021fslmrs')}: {shape} lines{free}, frequency shift and broadening common to {groups} of basis"
        f" spectra, a zero- and a first-order phase, and concentrations that {sign}.",
        _fsl_mrs_baseline(str(model.baseline)),
    ]
    mm = [name for name in results.fit.names if is_macromolecule(name)]
    sentences.append(
        f"Macromolecules were part of the basis set ({', '.join(mm)})." if mm else "No macromolecules were modelled."
    )
    sentences.append(
        "The likelihood was maximised over all parameters from initial values of"
        f" {'a classical search' if results.fit.init == 'classical' else f'the network {results.fit.init}'};"
        " standard deviations are Cramér-Rao bounds with the noise of the residual."
    )
    if results.fit.posterior is not None:
        what = "reported concentrations are" if results.estimate == "posterior_mean" else "further tables hold"
        sentences.append(f"In addition, {what} posterior means under the prior {results.fit.posterior.prior.source}.")
    if results.estimate == "network":
        sentences.append("Reported concentrations are those of the network.")
    return " ".join(sentences)


def _fsl_mrs_baseline(baseline: str) -> str:
    if "spline" in baseline:
        return f"The baseline was a penalised spline ({baseline}) {cite('eilers1996psplines')}."
    if "off" in baseline.lower():
        return "No baseline was fitted."
    return f"The baseline was a complex polynomial ({baseline})."


def _in_vivo_model(analysis: Analysis) -> str:
    """Return the sentences on a fit of the in-vivo model, with the numbers of its priors."""
    table, results, fit = priors_table(), analysis.results, analysis.in_vivo_fit
    sentences = [
        f"Spectra were fitted {_window(results)} with the in-vivo model of FSL-MRS-DL, a linear combination model after"
        f" LCModel {cite('provencher1993lcmodel', 'provencher2001lcmodel')}. Besides concentrations, its parameters"
        f" were, with Gaussian priors, a shift (SD {table['shift_ppm']['metabolite']:g} ppm) and a damping (SD"
        f" {table['width_per_s']['metabolite']:g} per s) of each metabolite, a common shift, Lorentzian and Gaussian"
        f" width, a zero-order phase, a first-order phase (SD {table['phase']['phi1_sd_deg_per_ppm']:g} degrees per"
        f" ppm){_line_shape(fit)}.",
        _in_vivo_macromolecules(analysis),
        _in_vivo_baseline(analysis),
    ]
    if fit.places_note:
        sentences.append(fit.places_note)
    if fit.water_note:
        sentences.append(_water(analysis))
    if fit.priors_note:
        sentences.append(
            "Priors of line widths, macromolecules, shifts, dampings and baseline were learnt from the volume"
            f" (empirical Bayes). {fit.priors_note}"
        )
    if results.edited is not None:
        sentences.append(_edited(results.edited))
    prior = table["concentrations"]
    if fit.concentrations.prior == "none":
        sentences.append("Concentrations had no prior.")
    else:
        sentences.append(
            f"The prior of concentrations was log-normal about typical proportions in the brain with an SD of"
            f" {prior['log_sd']:g} (a factor of {np.exp(prior['log_sd']):.2g}) and a free common scale."
        )
    if fit.constraints:
        sentences.append(
            f"Soft constraints as in LCModel {cite('provencher1993lcmodel')} held ratios: {'; '.join(fit.constraints)}."
        )
    if results.estimate == "posterior_mean":
        sentences.append(
            "Reported concentrations (column posterior_mean of uncertainty.csv) are posterior means under a prior as"
            f" narrow as a healthy population (SD of the logarithm {prior['population_log_sd']:g}); the column conc"
            " holds those under the wide priors."
        )
    else:
        sentences.append(
            "Reported concentrations (column conc of uncertainty.csv) are posterior means under these priors; standard"
            " deviations and 95 % intervals include the priors and the disagreement of the averaged models. The column"
            " posterior_mean holds another estimate, under a narrower prior"
            f" (SD of the logarithm {prior['population_log_sd']:g}), which is not reported."
        )
    return " ".join(sentences)


def _line_shape(fit: InVivoFit) -> str:
    """Return the line shape that all lines share, with the SD of its prior; empty without one."""
    shape_hz = fit.fitted_model.shape_hz
    if not len(shape_hz):
        return ""
    about, least = priors_table()["line_shape"], float(np.abs(shape_hz.cpu().numpy()).min())
    scale = least / about["step_hz_3t"]  # frequencies grow with the field
    sd = about["sd"] * (1.0 if fit.water_shape is None else about["water_factor"])
    of_water = "" if fit.water_shape is None else " on top of that of water"
    return (
        f", and a line shape common to all lines{of_water} (amplitudes at {len(shape_hz)} frequencies up to"
        f" {float(np.abs(shape_hz.cpu().numpy()).max()):.3g} Hz; their prior SD is {sd:.3g} near 0 Hz and falls as a"
        f" Gaussian with an SD of {about['decay_hz_3t'] * scale:.3g} Hz)"
    )


def _edited(edited: EditedFit) -> str:
    """Return the sentences on a joint fit of sub-spectra."""
    about = priors_table()["edited"]
    each = zip(edited.conditions, edited.basis.pulses)
    pulses = "; ".join(f"{name} {', '.join(map(str, of_one)) or 'unknown'}" for name, of_one in each)
    text = (
        f"The sub-spectra ({', '.join(edited.conditions)}; editing pulses of the basis set: {pulses}) were fitted"
        " jointly with common concentrations, widths, line shape and macromolecules; each had a shift (prior SD"
        f" {about['shift_ppm']:g} ppm), a phase ({about['phase_deg']:g} degrees), a damping"
        f" ({100 * about['gamma_log_sd']:g} %) and a size ({100 * about['size_log_sd']:g} %) of its own."
    )
    for number, place in enumerate(edited.places):
        value, sd = (np.median(one[:, number]) for one in edited.efficiency)
        text += (
            f" The effect of the pulse at {place:g} ppm was estimated with a prior of 1 +- {about['efficiency_sd']:g},"
            f" and {about['own_efficiency_sd']:g} of each metabolite's own: {value:.2f} +- {sd:.2f}."
        )
    if edited.co_edited:
        line = about["co_edited"]
        text += (
            f" A macromolecule edited with GABA ({edited.co_edited}, {line['ppm']:g} ppm, {line['fwhm_ppm']:g} ppm"
            f" wide) had an amplitude of its own with a prior of {100 * line['share']:g} % of the edited signal, within"
            f" a factor of {np.exp(line['log_sd']):.2g}; GABA+ is its sum with GABA."
        )
    return text


def _in_vivo_macromolecules(analysis: Analysis) -> str:
    table, components = priors_table(), analysis.in_vivo_fit.fitted_model.components
    lipids = [name for name, kind in zip(components.names, components.kinds) if kind == "lipid"]
    kind = " as in tumours" if analysis.options.mm == "tumour" else ""
    more = f"; {len(lipids)} lipid signals{kind} ({', '.join(lipids)}) were fitted as well." if lipids else "."
    if analysis.macromolecules == "own":
        return f"Macromolecules were the measured pattern in the basis set, in pieces whose proportions may vary{more}"
    if analysis.macromolecules == "none":
        return "No macromolecules and no lipids were modelled."
    te, tr = analysis.weighting_times
    lines = int((components.kinds == "mm").sum())
    return (
        f"Macromolecules were {lines} lines at literature positions {cite('cudalbu2021mm')}"
        f" with measured proportions (SD of the logarithm about {table['macromolecules']['log_sd']:g}) and one free"
        f" amount, weighted for TE {1e3 * te:g} ms and TR {tr:g} s {cite('muralimanohar2020mm')}{more}"
    )


def _in_vivo_baseline(analysis: Analysis) -> str:
    from ...fitting.in_vivo.variants import variants_of

    about, fit = priors_table()["baseline"], analysis.in_vivo_fit
    lengths = " and ".join(f"{length:g}" for length, _ in about["lengths_ppm"])
    others = [variant.name for variant in variants_of(fit.fitted_model)][1:]
    dimension = analysis.spread(fit.baseline_dimension)
    text = (
        f"The baseline was a Gaussian process with lengths of {lengths} ppm and an effective dimension of {dimension}."
        f" The strength of the baseline was not chosen: estimates are averages over {len(about['strengths'])} strengths"
    )
    variants = f" and over variants of the model ({_listed(others)})" if others else ""
    return f"{text}{variants}, weighted by their evidence {cite('hoeting1999bma')}."


def _water(analysis: Analysis) -> str:
    """Return the use of a water reference for line shape and eddy currents."""
    fit, n = analysis.in_vivo_fit, len(analysis.rows)
    uses = ["the line shape"] * (fit.water_shape is not None)
    uses += [f"the correction of eddy currents {cite('klose1990ecc')}"] * (fit.eddy_phase is not None)
    if not uses:
        return (
            "The water reference had no part in the model: fits without its line shape and without correction of eddy"
            " currents by its phase had more evidence."
        )
    n_used = n if fit.water is None else int(fit.water.usable[analysis.rows].sum())
    verb, which = "were" if len(uses) > 1 else "was", "in the fit" if n == 1 else f"in all {n} fits"
    if n_used < n:
        which = f"in {n_used} of {n} fits, the others having no usable water"
    text = f"{_listed(uses)} {verb} taken from the water reference {which}, because the evidence was higher so"
    decided = f" in the spectra that it was compared in (at most {COMPARED_SPECTRA})" if n > 1 else ""
    return f"{text[:1].upper()}{text[1:]}{decided}."


# -- basis set, output, quality ----------------------------------------------------------------------------------------


def _basis(analysis: Analysis) -> str:
    basis = analysis.basis
    of = f" {analysis.basis_name}" if analysis.basis_name else ""
    echo = "" if basis.echo_time_s is None else f", TE {1e3 * basis.echo_time_s:g} ms"
    turned = ", frequency axis reversed when it was read" if basis.conjugated else ""
    text = (
        f"The basis set{of} had {basis.n_metabs} spectra ({', '.join(basis.names)}), simulated or measured at"
        f" {basis.spec_freq_mhz:.4g} MHz with {basis.n_points} points and a bandwidth of {basis.bandwidth:.5g} Hz{echo}"
        f"{turned}; SHA-256 of its content {basis.sha256}."
    )
    return " ".join([text, *_times(analysis)])


_TIME_WORDS = {"EchoTime": "An echo time", "RepetitionTime": "A repetition time"}


def _times(analysis: Analysis) -> list[str]:
    """Return sentences on echo and repetition times that had to be assumed, and on an echo time that is wrong."""
    data, basis = analysis.data, analysis.basis
    sentences = [
        f"{_TIME_WORDS[key]} of {given} was used in place of {of_header} in the header of the data."
        for _, key, given, of_header in contradicted_times(analysis.options, data)
    ]
    for note in time_notes(analysis.options, data, basis)[len(sentences) :]:
        for name, words in (
            (f"{data.name}: has", "The data have"),
            (f"{data.name}: its EchoTime", "The EchoTime of the data"),
            (f"{basis.source}: has", "The basis set has"),
        ):
            note = note.replace(name, words)
        sentences.append(_without_options(note))
    mismatch = echo_time_mismatch(basis.echo_time_s, analysis.full_options.echo_time_s)
    if mismatch is not None:
        sentences.append(f"The echo time of the basis set is not that of the data: {mismatch.seen}.")
    return sentences


def _without_options(text: str) -> str:
    """Return a text without the options that stand in backticks, in brackets of their own."""
    return re.sub(r" \(`\w+`\)", "", text)


def _output(analysis: Analysis) -> str:
    """Return the sentences on the output measure and its reference."""
    results = analysis.results
    sums = [name for name in results.sums if name != results.reference_name]
    more = f" Sums {_listed(sums)} were formed with the covariance of their parts." if sums else ""
    if analysis.absolute is not None:
        return _absolute(analysis) + more
    if results.reference is not None:
        under = f"ratios to {results.reference_name}"
        cov = "" if not analysis.in_vivo else ", whose standard deviations include the correlation of the two"
        return f"Concentrations are given as {under}{cov}, without correction for relaxation.{more}"
    return f"Concentrations are given in arbitrary units of the data, without correction for relaxation.{more}"


def _absolute(analysis: Analysis) -> str:
    """Return the sentences on water scaling, with its constants."""
    absolute = analysis.absolute
    scaling, relaxation = absolute.scaling, absolute.relaxation
    dois = [key_of_doi(doi) for doi in relaxation_dois(analysis)]
    known = scaling.echo_time_s is not None and scaling.repetition_time_s is not None
    times = scaling.times_in_words() if known else "the echo and repetition time"
    sentences = [
        f"Absolute concentrations were scaled by unsuppressed water {cite('near2021consensus')} with the conventions of"
        f" FSL-MRS {cite('clarke2021fslmrs')}, corrected for relaxation at {times}.",
    ]
    sentences.append(
        f"Relaxation times were {_constants(relaxation, analysis.has_csf)}{' ' + cite(*dois) if dois else ''}."
    )
    assumed = [_without_options(text).rstrip(".") + "." for text in absolute.assumptions]
    if assumed:
        sentences += [_as_method(text) for text in assumed]
    sources = ["the fit", "the water fit", "relaxation times"]
    sources += ["tissue fractions"] * (absolute.scaling.tissue is not None)
    sources += [f"{IN_VIVO_LOG_SD:.0%} for the amplitudes of the in-vivo model"] * analysis.in_vivo
    sentences.append(f"Standard deviations contain those of {', '.join(sources[:-1])} and {sources[-1]}.")
    return " ".join(sentences)


_AS_METHODS = (
    (r"^(\S+) is compared with water; relaxation of .*$", r"The signal of \1 was compared with that of water."),
    (r"^Tissue fractions ([^:]*): (.*), each with", r"Tissue fractions (\1) were \2, each with"),
    (
        "must have the same receiver gain, and both be averaged, not summed",
        "were taken to have the same receiver gain, and both to be averaged, not summed",
    ),
)
"""Sentences on what a scaling rests on, as the terminal has them, and as methods do."""


def _as_method(text: str) -> str:
    """Return a sentence on what a scaling rests on as methods have it."""
    for pattern, words in _AS_METHODS:
        text = re.sub(pattern, words, text)
    return text


_COMPARTMENTS = {
    "H2O_GM": "water in grey matter",
    "H2O_WM": "water in white matter",
    "H2O_CSF": "water in CSF",
    "METAB": "metabolites",
}


def _constants(relaxation: Relaxation, has_csf: bool) -> str:
    """Return T1 and T2 of water and metabolites in words, those of CSF where there is some."""
    words = []
    for label, times in (("T1", relaxation.t1), ("T2", relaxation.t2)):
        words += [
            f"{label} of {_COMPARTMENTS[part]} {1e3 * time:.4g} ms"
            for part, time in times.items()
            if has_csf or part != "H2O_CSF"
        ]
    return ", ".join(words)


def _quality(analysis: Analysis) -> str:
    """Return the sentences on data quality, and on exclusions."""
    results = analysis.results
    sentences = []
    column = analysis.quality_line
    if column is not None:
        snr, width = (analysis.spread(values[:, column]) for values in results.quality)
        name = results.fit.names[column]
        if snr and width:
            sentences.append(f"The signal-to-noise ratio of {name} was {snr}, its line width (FWHM, Hz) {width}.")
    sentences.append(f"The residual over noise in the window was {analysis.spread(results.fit.misfit)}.")
    if analysis.n_spectra:
        sentences.append(
            f"These figures are of {len(analysis.rows)} voxels spread over the volume, of {analysis.n_spectra} that"
            " were fitted; maps hold those of every voxel."
        )
    n, good = len(analysis.rows), int(np.sum(results.fit.usable[analysis.rows]))
    if n > 1:
        sentences += _verdicts(analysis)
    else:
        row = int(analysis.rows[0])
        reasons = _listed(reason.text for reason in results.reasons[row])
        words = f"{VERDICTS[results.verdict[row]]}{f': {reasons}' if reasons else ''}"
        sentences.append(f"The {'verdict on the fit is' if good else 'fit is marked as'} {words}.")
    sentences += [text if text.endswith(".") else f"{text}." for text in analysis.exclusions]
    if not analysis.exclusions:
        kept = "" if good == n else ": it was kept" if n == 1 else "; the tables hold those that are not usable, too"
        sentences.append(f"No spectrum was excluded{kept}.")
    sentences.append(f"The minimum reporting table {cite('lin2021mrsinmrs')} is given with the results.")
    return " ".join(sentences)


def _verdicts(analysis: Analysis) -> list[str]:
    """Return sentences on the verdicts on several spectra, and on the reasons for those that are not good."""
    results, n = analysis.results, len(analysis.rows)
    counts = np.bincount(results.verdict[analysis.rows], minlength=len(VERDICTS))
    each = [f"{count} {'was' if count == 1 else 'were'} {word}" for count, word in zip(counts, VERDICTS) if count]
    sentences = [
        f"Of {n} spectra {_listed(each)} (not usable: not converged, without signal, or with a larger residual than"
        " realistic spectra)."
    ]
    named = [f"{kind} ({len(rows)})" for kind, rows in rows_by_reason(results).items()]
    if named:
        sentences.append(f"Reasons, of which a spectrum may have several: {_listed(named)}.")
    return sentences
