"""One session, from raw data to a folder of results."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from .. import __version__
from ..concentrations.files import absolute_of_file
from ..concentrations.scaling import WaterScaling
from ..concentrations.segmentation import NO_SEGMENTATION, tissue_fractions
from ..concentrations.tissue import DEFAULT_SD, TissueFractions
from ..core import units
from ..core.errors import OptionError, spelled
from ..fitting.artefacts import Artefact, option_spelling
from ..fitting.data import check_reference, check_suppressed, choose_basis, fit_data
from ..fitting.edited_data import edit_conditions
from ..fitting.fitted_data import FittedData, usual_sums
from ..fitting.header_facts import time_notes
from ..fitting.model_choice import usual_spectral_model
from ..fitting.options import FitOptions
from ..fitting.verdict import VERDICTS
from ..fitting.window_advice import Window, common_window, window_in_words, window_without
from ..io import nifti
from ..io.basis import Basis
from ..io.convert import AxisOptions, Conversion, load_references, load_with_record
from ..io.edited_basis import EditedBasis, load_basis
from ..io.nifti import MrsData
from ..results import lcmodel_table, publication, write
from ..results.doubts import quality_column
from ..results.figures import check_voxel_in_image
from ..results.fit_results import FitResults
from ..results.layout import IN_VIVO_BASELINE
from .basis_of_header import acquisition_of, basis_of_header
from .eddy_currents import without_eddy_currents
from .processing import Processed, ProcessingOptions, process
from .report import write_session_report
from .steps import ABSOLUTE, Step

AnyBasis = Basis | EditedBasis
"""Basis set of a fit: one, or those of all conditions of edited data."""

_NOT_BEFORE = ("basis set", "edited spectra", "fit", ABSOLUTE)  # steps that are none of the processing

__all__ = ["FitChoice", "RunOptions", "Session", "SessionSummary", "UsualFit", "run_session", "with_usual_sums"]


@dataclass(frozen=True)
class Session:
    """The files of one session.

    Attributes
    ----------
    name : str
    data : path
        Raw or averaged spectra.
    water : path, optional
        Unsuppressed water: for coil sensitivities, line shape, eddy currents, and absolute concentrations.
    quant : path, optional
        Other unsuppressed water, that absolute concentrations are scaled by in its place.
    t1 : path, optional
        Structural image.
    tissue : TissueFractions or sequence, optional
        Tissue fractions of the voxel, as :func:`fsl_mrs_dl.concentrations.segmentation.tissue_fractions` takes them:
        three numbers, a file of them, or segmentations.
    basis : path, optional
        By default one is simulated for the header's sequence, echo time and field.
    header : dict
        Keys for headers that lack them, such as ``EchoTime`` of a sidecar.
    water_header : dict
        The same of the water reference, before those of ``header``.
    """

    name: str
    data: Path
    water: Path | None = None
    quant: Path | None = None
    t1: Path | None = None
    tissue: TissueFractions | Sequence | None = None
    basis: Path | None = None
    header: dict = field(default_factory=dict)
    water_header: dict = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All its files that are given by one path."""
        named = (self.data, self.water, self.quant, self.t1, self.basis)
        return tuple(Path(one) for one in named if one is not None)


class FitChoice(Protocol):
    """Choice of metabolites and options of a fit, when data and basis set are there."""

    def check(self, data: MrsData) -> None:
        """Raise an error for what cannot be used with the data, before there is a basis set."""

    def choose(self, source: Path | AnyBasis, data: MrsData) -> tuple[AnyBasis, FitOptions]:
        """Return the basis set to fit, from a file or from one that was simulated, and the options of the fit."""

    def text(self, basis: Basis, options: FitOptions, note: str) -> str:
        """Return the content of options.txt."""


@dataclass(frozen=True)
class UsualFit:
    """The usual spectral model, or the options given.

    Attributes
    ----------
    options : FitOptions, optional
    keep, ignore : tuple of str, optional
        Metabolites to fit, and to leave out.
    """

    options: FitOptions | None = None
    keep: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None

    def check(self, data: MrsData) -> None:
        """Do nothing: all of it belongs to the basis set."""

    def choose(self, source: Path | AnyBasis, data: MrsData) -> tuple[AnyBasis, FitOptions]:
        """Return the basis set to fit and the options of the fit."""
        keep, ignore = self.keep, self.ignore
        stored = source if isinstance(source, (Basis, EditedBasis)) else load_basis(source, keep=keep, ignore=ignore)
        if isinstance(stored, EditedBasis):
            edited = choose_basis(stored, data, keep=keep, ignore=ignore)
            return edited, self.options or FitOptions(spectral_model="in-vivo")
        basis = choose_basis(stored, data, keep=keep, ignore=ignore)
        model = usual_spectral_model(stored, data.dim_tags).name
        return basis, self.options or FitOptions(spectral_model=model)

    def text(self, basis: Basis, options: FitOptions, note: str) -> str:
        """Return the content of options.txt."""
        values = {name: value for name, value in vars(options).items() if isinstance(value, (str, int, float, tuple))}
        if options.spectral_model == "in-vivo":
            values["baseline"] = IN_VIVO_BASELINE
        return f"{json.dumps(values)}\n--------\n{note}\n"


@dataclass(frozen=True)
class RunOptions:
    """How a session is processed and fitted.

    Attributes
    ----------
    processing : ProcessingOptions
    fit : FitChoice
    sequence, te_ms, tm_ms : optional
        Of the basis set that is simulated, in place of the header's.
    report, lcmodel_table : bool
        Whether HTML reports, and LCModel's table and spreadsheet, are written.
    axes : AxisOptions, optional
        For formats that hold no bandwidth, frequency or nucleus.
    scaling : WaterScaling
        Of absolute concentrations; times that it lacks are those of headers, and tissue is the session's.
    tissue_sd : float
        SD of each tissue fraction.
    """

    processing: ProcessingOptions = ProcessingOptions()
    fit: FitChoice = UsualFit()
    sequence: str | None = None
    te_ms: float | None = None
    tm_ms: float | None = None
    report: bool = True
    lcmodel_table: bool = False
    axes: AxisOptions | None = None
    scaling: WaterScaling = WaterScaling()
    tissue_sd: float = DEFAULT_SD


@dataclass(frozen=True)
class SessionSummary:
    """What came of a session.

    Attributes
    ----------
    name : str
    results : FitResults
    options : FitOptions
        Of the fit.
    processed : Processed
    steps : list of Step
        Of the processing and after it.
    versions : dict of str to str
        Programs that took part, and their versions.
    fids_sha256 : str
        Of the FIDs as they were read: the same data under another name have the same.
    record : dict
        Content of run.json.
    """

    name: str
    results: FitResults
    options: FitOptions
    processed: Processed
    steps: list[Step]
    versions: dict[str, str]
    fids_sha256: str
    record: dict = field(repr=False, default_factory=dict)


def run_session(
    session: Session,
    options: RunOptions = RunOptions(),
    folder: str | Path = ".",
    *,
    say: Callable[[str], None] = lambda text: None,
) -> SessionSummary:
    """Process, fit and quantify one session, and write everything into a folder.

    Parameters
    ----------
    session : Session
    options : RunOptions
    folder : path
        An empty folder; see :func:`fsl_mrs_dl.io.output.folder_for`.
    say : callable
        Called with a line after every step.

    Raises
    ------
    DataError, BasisError, OptionError, OutputError
    """
    began, folder = time.monotonic(), Path(folder)
    converted = load_with_record(session.data, options.axes)
    data, water, quant, warnings = _loaded(session, converted, options)
    if session.t1 is not None:
        check_voxel_in_image(session.t1, data)
    check_suppressed(np.moveaxis(data.fids, 3, -1), data.axes, data.name)
    tissue = _tissue(session, data, options)
    options.fit.check(data)
    source, step = _basis(session, data, options)
    # Before the work, so that a basis set that does not fit is refused at once.
    basis, fit_options = options.fit.choose(source, data)
    _check_conditions(data, basis, options)
    say(str(step))
    fit_options = with_usual_sums(fit_options, basis.names)
    processed = process(data, water, options.processing, quant=quant)
    steps = [step, *processed.steps]
    for one in processed.steps:
        say(str(one))
    warnings += time_notes(fit_options, processed.data, basis)
    fitted, of_fit = _fit(processed, basis, fit_options)
    foreign, notes = _foreign_signal(processed, fitted.fit.model.ppmlim)
    warnings += notes
    steps += of_fit
    for one in of_fit:
        say(str(one))
    results, step, notes = _quantified(fitted, processed, replace(options.scaling, tissue=tissue), fit_options)
    results = replace(results, foreign=foreign)
    if session.t1 is not None and tissue is None and results.absolute is not None:
        notes.append(NO_SEGMENTATION)
    steps.append(step)
    say(str(step))
    warnings += notes
    versions = publication.program_versions()
    if converted.program:
        versions[converted.program] = converted.version
    content = hashlib.sha256(data.fids.tobytes()).hexdigest()
    summary = SessionSummary(session.name, results, fit_options, processed, steps, versions, content)
    warnings = [spelled(text, option_spelling) for text in warnings]
    record = _record(session, summary, fitted, warnings) | {"seconds": round(time.monotonic() - began, 2)}
    summary = replace(summary, record=record)
    _write(folder, session, summary, fitted, options)
    return summary


def with_usual_sums(options: FitOptions, names: Sequence[str]) -> FitOptions:
    """Return options that report total NAA, total choline and Glx, where others are not asked for: single ones of them
    are rarely determined at 3 T."""
    if options.combine:
        return options
    return replace(options, combine=usual_sums(names))


def _loaded(
    session: Session, converted: Conversion, options: RunOptions
) -> tuple[MrsData, MrsData | None, MrsData | None, list[str]]:
    """Return data, water and water for the size of concentrations with the keys that their headers lack, and notes."""
    data, water, quant = converted.data, converted.water, converted.quant
    if session.water is not None:
        water, quant = load_references(session.water, options.axes)
        quant = None if quant is water else quant
    if session.quant is not None:
        quant = load_references(session.quant, options.axes)[1]
    for one, option in ((water, "h2o"), (quant, "quant")):
        if one is not None:
            check_reference(one, data, option=option)
    read = [one for one in (data, water, quant) if one is not None]
    # Spectra and water of one file have the same notes.
    notes = list(dict.fromkeys(f"{one.name}: {note}." for one in read for note in one.notes))
    if converted.water is not None and session.water is not None:
        notes.append(f"{data.name}: its own water is not used, since another file is given.")
    lacking = [key for key in session.header if key not in data.header]
    if lacking:
        notes.append(f"{data.name}: its header has no {' and no '.join(lacking)}; taken from the sidecar.")
    of_water = ({**session.header, **session.water_header}, session.header)
    with_keys = [
        None if one is None else replace(one, header={**keys, **one.header})
        for one, keys in zip((water, quant), of_water)
    ]
    return replace(data, header={**session.header, **data.header}), with_keys[0], with_keys[1], notes


def _foreign_signal(processed: Processed, window: Window | None) -> tuple[list[Artefact], list[str]]:
    """Return echoes that the alignment left out and the fit has in its window, and a line on all such signal of no
    metabolite."""
    left_out = {} if processed.aligned is None else processed.aligned.left_out
    limits = window or (-np.inf, np.inf)
    regions = dict.fromkeys(region for several in left_out.values() for region in several)
    inside = [one for one in regions if one.low < max(limits) and one.high > min(limits)]
    if not inside:
        return [], []
    windows = [window_without(window, one.low, one.high) if window else None for one in inside]
    common = common_window([one for one in windows if one]) if all(windows) else None
    remedy = "It lies among the lines of metabolites, and no window (`ppmlim`) leaves it out."
    if common is not None:
        remedy = f"Leave it out of the fitted window ({window_in_words(common)}) and compare."
    echoes = [
        Artefact("spurious echo", str(one), remedy, of_one)
        for one, of_one in zip(inside, windows)
        if one.echo_s is not None
    ]
    return echoes, [
        f"Aligned without {'; '.join(map(str, inside))}, which is not of metabolites: it remains in the averaged"
        f" spectrum. {remedy}"
    ]


def _check_conditions(data: MrsData, basis: AnyBasis, options: RunOptions) -> None:
    """Raise OptionError where data are edited and the basis set is not, or the other way round, before any work."""
    order = options.processing.edit_order
    edited = bool(order) or edit_conditions(data) > 1
    if edited and not isinstance(basis, EditedBasis):
        raise OptionError(
            f"{data.name}: is edited; its conditions need a basis set each",
            option="basis",
            value=str(basis.source),
            remedy="give a folder with one for each, as 'fsl_mrs_dl simulate basis' of mega-press or hermes writes it",
        )
    if not edited and isinstance(basis, EditedBasis):
        raise OptionError(
            f"{data.name}: has no edit conditions (DIM_EDIT), and the basis set has {', '.join(basis.conditions)}",
            remedy="give `edit_order` if they lie among the transients, or a basis set of one condition",
        )


def _tissue(session: Session, data: MrsData, options: RunOptions) -> TissueFractions | None:
    """Return the tissue fractions of a session's voxel; None without any."""
    if session.tissue is None or isinstance(session.tissue, TissueFractions):
        return session.tissue
    return tissue_fractions(session.tissue, data, options.tissue_sd)


def _quantified(
    fitted: FittedData, processed: Processed, scaling: WaterScaling, options: FitOptions
) -> tuple[FitResults, Step, list[str]]:
    """Return the results with absolute concentrations where there is all that they need, and the reasons where not."""
    results = FitResults.of_data(fitted, options)
    water = processed.water if processed.quant is None else processed.quant
    option = "h2o" if processed.quant is None else "quant"
    absolute, reasons = absolute_of_file(
        fitted, water, scaling, sums=results.sums, estimate=results.estimate, option=option
    )
    name = ABSOLUTE
    if absolute is None:
        why = [
            spelled(one, option_spelling).removeprefix("No absolute concentrations: ").rstrip(".") for one in reasons
        ]
        return results, Step(name, False, f"none, {'; '.join(why) or 'there is no water reference'}"), []
    fractions = "tissue fractions given"
    if absolute.as_water_alone:
        fractions = "tissue fractions were not given, as in a voxel of water alone"
    return replace(results, absolute=absolute), Step(name, True, f"scaled by water; {fractions}"), absolute.remarks


def _basis(session: Session, data: MrsData, options: RunOptions) -> tuple[Path | AnyBasis, Step]:
    """Return the file of the basis set, or one that is simulated for the header's acquisition."""
    if session.basis is not None:
        return session.basis, Step("basis set", True, f"given, {session.basis}")
    edited = edit_conditions(data) > 1 or bool(options.processing.edit_order)
    basis, what = basis_of_header(
        data, edited=edited, sequence=options.sequence, te_ms=options.te_ms, tm_ms=options.tm_ms
    )
    return basis, Step("basis set", True, f"none given; simulated for {what}", {"metabolites": basis.n_metabs})


def _fit(processed: Processed, basis: AnyBasis, options: FitOptions) -> tuple[FittedData, list[Step]]:
    """Fit the processed spectra, with the line shape of water where the model takes one."""
    in_vivo = options.spectral_model == "in-vivo"
    water = processed.water if in_vivo and isinstance(basis, Basis) else None
    fitted = fit_data(processed.data, basis, options, water=water)
    steps = []
    if isinstance(basis, EditedBasis):
        steps += _edited_steps(fitted, basis)
    elif processed.water is not None and not in_vivo:
        fitted, step = without_eddy_currents(fitted, processed.water, basis, options)
        steps.append(step)
    elif processed.water is not None:
        use = getattr(fitted.fit, "water_note", "").removeprefix("Water reference: ")
        corrected = getattr(fitted.fit, "eddy_phase", None) is not None
        use = use.rstrip(".").replace("taken from it", "taken from the water reference", 1)
        steps.append(Step("eddy currents", corrected, f"within the fit: {use}"))
    name = "in-vivo" if in_vivo else "FSL-MRS's"
    figures = {"misfit": float(np.nanmedian(fitted.fit.misfit))}
    what = f"{name} model, {basis.n_metabs} metabolites{_not_converged(fitted)}"
    steps.append(Step("fit", True, what, figures))
    return fitted, steps


def _not_converged(fitted: FittedData) -> str:
    """Return how many fits did not converge, as the end of a sentence; empty where all did."""
    n, n_not = int(fitted.fit.fitted.sum()), int((fitted.fit.fitted & ~fitted.fit.converged).sum())
    if not n_not:
        return ""
    return "; it did NOT converge" if n == 1 else f"; {n_not} of {n} fits did NOT converge"


def _edited_steps(fitted: FittedData, basis: EditedBasis) -> list[Step]:
    """Return how the conditions of edited data were named and fitted."""
    edited = fitted.edited
    if edited is None:
        what = f"a combination of {', '.join(basis.conditions)} is fitted; its GABA includes the macromolecule under it"
        return [Step("edited spectra", True, what)]
    order = " ".join(edited.conditions[k] for k in np.argsort(edited.order))
    how = "as given" if edited.order_given else "recognised"
    figures = {
        f"efficiency_{place:g}ppm": float(np.median(edited.efficiency[0][:, number]))
        for number, place in enumerate(edited.places)
    }
    return [Step("edited spectra", True, f"conditions {order} ({how}), fitted jointly", figures)]


def analysis_of(session: Session, summary: SessionSummary, basis: Basis) -> publication.Analysis:
    """Return what a paper states about a session."""
    name = summary.steps[0].reason.removeprefix("none given; ") if session.basis is None else Path(session.basis).name
    steps = [step.as_dict() for step in summary.steps if step.name not in _NOT_BEFORE]
    transients = summary.processed.transients
    return publication.Analysis(
        summary.results,
        summary.options,
        basis,
        name,
        steps=steps,
        n_transients=transients if transients > 1 else None,
        versions={name: version for name, version in summary.versions.items() if name == "spec2nii"},
    )


def quality_of(results: FitResults, processed: Processed) -> dict:
    """Return the quality of a session as ``run.json`` holds it; of several spectra medians over the usable ones.

    SNR and width are those of NAA or creatine, as the reporting table has them; otherwise of the highest SNR.
    """
    fit, good = results.fit, results.median_rows
    snr, width = results.quality
    line = quality_column(results)
    frequency = processed.data.spec_freq_mhz

    def middle(values) -> float | None:
        values = np.asarray(values, float)[good]
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) else None

    fwhm = middle(width[:, line])
    return {
        "spectra": len(fit.params),
        "snr": middle(snr[:, line]),
        "fwhm_hz": fwhm,
        "fwhm_ppm": None if fwhm is None else fwhm / frequency,
        "misfit": middle(fit.misfit),
        "ood_score": middle(fit.ood),
        "unexplained": middle(fit.unexplained),
        "transients": processed.transients,
        "rejected": processed.rejected,
        "converged": bool(fit.converged.all()),
        "usable": bool(fit.usable.all()),
        "verdict": VERDICTS[int(results.verdict.max())],
    }


def _record(session: Session, summary: SessionSummary, fitted: FittedData, warnings: list[str]) -> dict:
    """Return the content of run.json."""
    data = fitted.data
    acquired, used = acquisition_of(data), summary.options
    te_s = acquired.te_s if used.echo_time_s is None else used.echo_time_s
    gamma = units.nucleus(data.nucleus).gamma_mhz_per_t
    inputs = {
        "data": session.data,
        "water": session.water,
        "quant": session.quant,
        "basis": session.basis,
        "t1": session.t1,
    }
    return {
        "version": __version__,
        "name": session.name,
        "inputs": {name: None if path is None else str(path) for name, path in inputs.items()}
        | {"tissue": None if session.tissue is None else str(session.tissue)},
        "basis_sha256": fitted.basis.sha256,
        "fids_sha256": summary.fids_sha256,
        "steps": [step.as_dict() for step in summary.steps],
        "quality": quality_of(summary.results, summary.processed),
        "fid_scale": float(summary.results.fit.fid_scale),
        "units": _unit(summary.results),
        "molarity_of": None if summary.results.absolute is None else summary.results.absolute.voxel,
        "warnings": [*warnings, *artefact_warnings(summary.results)],
        "field_t": None if gamma != gamma else round(data.spec_freq_mhz / gamma, 3),
        "te_ms": te_s and 1e3 * te_s,
        "tr_s": acquired.tr_s if used.repetition_time_s is None else used.repetition_time_s,
        "sequence": acquired.sequence,
        "vendor": data.header.get("Manufacturer"),
        "model": data.header.get("ManufacturersModelName"),
        "versions": summary.versions,
    }


def artefact_warnings(results: FitResults) -> list[str]:
    """Return a line for each kind of artefact, as the terminal has them below the table."""
    before = [one.text(option_spelling) for one in results.artefacts_of_file]
    return list(dict.fromkeys([*before, *results.artefact_lines()]))


def _unit(results: FitResults) -> str:
    """Return the kind of concentrations that a session's tables lead with."""
    if results.absolute is not None:
        return "molarity"
    return "ratio" if results.reference is not None else "raw"


def _write(folder: Path, session: Session, summary: SessionSummary, fitted: FittedData, options: RunOptions) -> None:
    """Write every file of a session."""
    results, processed = summary.results, summary.processed
    text = options.fit.text(fitted.basis, summary.options, results.fit.network_note)
    write.write_fit(folder, results, options=text)
    fitted.basis.save(folder / "basis", info="The basis set of a fit.")
    nifti.save(folder / "processed.nii.gz", processed.data)
    for name, water in (("water", processed.water), ("quant", processed.quant)):
        if water is not None:
            nifti.save(folder / f"{name}.nii.gz", water)
    # Programs that read results look for the data under this name.
    if fitted.data.dim_tags == processed.data.dim_tags:
        shutil.copyfile(folder / "processed.nii.gz", folder / "data.nii.gz")
    else:
        nifti.save(folder / "data.nii.gz", fitted.data)
    location = None
    if session.t1 is not None:
        from ..results.figures import voxel_location

        location = folder / "voxel_location.png"
        voxel_location(session.t1, fitted.data, location)
    text = json.dumps(_plain(summary.record), indent=1, allow_nan=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")
    if options.lcmodel_table:
        lcmodel_table.write_lcmodel_files(folder, results, "fit", title=Path(session.data).name)
    analysis = analysis_of(session, summary, fitted.basis)
    publication.write_publication(folder, analysis)
    if options.report:
        write_session_report(folder, analysis, processed, summary.steps, summary.record, location)


def _plain(value):
    """Return a value as JSON can hold it: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
