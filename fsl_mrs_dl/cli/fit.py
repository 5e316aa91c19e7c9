"""The command ``fsl_mrs_dl fit``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .common import (
    add_common_arguments,
    add_format_arguments,
    axis_options,
    check_filename,
    check_formats,
    check_output,
    given_files,
    progress_bar,
    read_data,
    read_water,
    say,
)
from .fit_options import (
    add_fitting_options,
    add_hidden_arguments,
    add_output_options,
    check_fsl_mrs_options,
    chosen_basis,
    fit_options,
    options_text,
)
from .scaling_options import add_scaling_options, print_reasons, scaling_of
from .tables import dimension_notes, text_table, verdict_line

__all__ = ["add_arguments", "run"]

_TABLES = (
    *("summary", "concentrations", "qc", "all_parameters", "uncertainty", "concentration_budget"),
    *("quantification_info", "mrsinmrs", "edited", "edited_quality"),
)
"""Names of tables of the results, whose ending LCModel's table has, too."""


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="NIfTI-MRS file, or one of another format (see the documentation); every spectrum in it is fitted",
    )
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("fitting options")
    add_fitting_options(group)
    group.add_argument("--average", nargs="+", metavar="DIM", help="average over these dimensions first, e.g. DIM_DYN")
    add_format_arguments(group)
    group = parser.add_argument_group("absolute concentrations (with --h2o)")
    group.add_argument(
        "--h2o",
        metavar="FILE",
        help=(
            "unsuppressed water, NIfTI-MRS, for absolute concentrations; the in-vivo model also takes the line shape"
            " from it and corrects eddy currents, where that makes the fit better"
        ),
    )
    add_scaling_options(group)
    group = parser.add_argument_group("output options")
    group.add_argument(
        "--t1",
        metavar="IMAGE",
        help="structural image, for a picture of the voxel; tissue fractions need a segmentation of it (--tissue_frac)",
    )
    add_output_options(group)
    group.add_argument("--report", action="store_true", help="write an HTML report")
    group.add_argument("--export_baseline", action="store_true", help="write the baseline too")
    group.add_argument("--export_no_baseline", action="store_true", help="write the fit without baseline too")
    group.add_argument("--export_separate", action="store_true", help="write each metabolite too")
    group.add_argument(
        "--lcmodel-table",
        action="store_true",
        help="write NAME.table and NAME.csv too, in LCModel's layout, NAME being --filename",
    )
    group.add_argument(
        "-f", "--filename", default="fit", metavar="NAME", help="name of the fitted spectra's file (default fit)"
    )
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: baseline = off"
    )
    add_common_arguments(parser)
    parser.set_defaults(func=run, advice="")
    add_hidden_arguments(parser)


def run(args) -> None:
    """Fit a file and write the folder of results."""
    check_formats(axis_options(args), args.data, args.h2o)
    check_output(args, args.data)
    check_filename(args, ["data", *(_TABLES if args.lcmodel_table else ())])
    check_fsl_mrs_options(args)
    from ..io import nifti
    from ..io import output as output_module
    from ..preproc import denoise
    from ..results import lcmodel_table, publication, write

    inputs = (args.data, *given_files(args))  # names may lack an ending
    data = read_data(args.data, axis_options(args))
    denoise.warn(args, data.header)
    fitted, basis, fit_options = _fit(args, data)
    options = options_text(args, basis, fit_options, fitted.fit.network_note)
    export = [name for name in ("baseline", "no_baseline", "separate") if getattr(args, f"export_{name}")]
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        write.write_fit(folder, fitted, options=options, filename=args.filename, export=tuple(export))
        used = fitted.data
        if args.average:
            details = f"fsl_mrs_dl fit, --average {' '.join(args.average)}, {args.data}."
            used = nifti.with_record(used, "Signal averaging", details)
        repaired = bool(args.average or used.notes or used.dim_tags != data.dim_tags)
        if args.lcmodel_table:
            lcmodel_table.write_lcmodel_files(folder, fitted, args.filename, title=Path(args.data).name)
        analysis = _analysis(args, data, fitted, basis, fit_options)
        publication.write_publication(folder, analysis)
        write.write_inputs(folder, args.output, data.path or Path(args.data), used if repaired else None, basis)
        location = None
        if args.t1:
            from ..results.figures import voxel_location

            location = folder / "voxel_location.png"
            voxel_location(args.t1, fitted.data, location)
        if args.report:
            from ..results.reports.fit import write_fit_report

            end = publication.publication_html(analysis)
            names = {"data": args.data, "basis": args.basis}
            write_fit_report(folder / "report.html", fitted, location=location, analysis=analysis, end=end, **names)
    print(text_table(fitted))
    print(verdict_line(fitted))
    print(f"Written: {args.output}/ with uncertainty.csv, summary.csv{', report.html' if args.report else ''} and more")


def _analysis(args, data, fitted, basis, options):
    """Return what a paper states about a fit."""
    from math import prod

    from ..results.publication import Analysis

    over = [data.fids.shape[data.axis(tag)] for tag in args.average or ()]
    return Analysis(fitted, options, basis, Path(args.basis).name, n_transients=prod(over) if over else None)


def _fit(args, data):
    """Return the results of a fit, the basis set that was fitted, and the options, before anything is written."""
    from ..concentrations.files import absolute_of_file
    from ..concentrations.segmentation import NO_SEGMENTATION
    from ..core.errors import spelled
    from ..fitting.data import check_reference, fit_data
    from ..fitting.fitted_data import usual_sums
    from ..fitting.header_facts import contradictions, time_notes
    from ..io import nifti
    from ..io.edited_basis import EditedBasis
    from ..results.figures import check_voxel_in_image
    from ..results.fit_results import FitResults

    nifti.check_fids(data)
    if args.t1:
        check_voxel_in_image(args.t1, data)
    basis = chosen_basis(args, data)
    options = fit_options(args, basis)
    # As `run` does: single ones of them are rarely determined at 3 T.
    options = replace(options, combine=options.combine or usual_sums(basis.names))
    water, quant = read_water(args.h2o, axis_options(args))
    for reference in (water, quant):
        if reference is not None:
            check_reference(reference, data)
    scaling = scaling_of(args, data)
    n_spectra = data.fids[..., 0, :].size if data.fids.ndim > 4 else data.fids[..., 0].size
    how = f"{options.model} model, baseline {options.baseline}"
    if options.spectral_model == "in-vivo":
        how = "in-vivo model"
    joint = ("DIM_EDIT",) if isinstance(basis, EditedBasis) else ()
    for note in [*time_notes(options, data, basis), *dimension_notes(data, args.average or (), joint)]:
        print(spelled(note, args.spelling))
    say(args, f"Fitting with {basis.n_metabs} metabolites, {how}")
    with progress_bar(n_spectra) as advance:
        fitted = fit_data(
            data,
            basis,
            options,
            average_over=args.average or (),
            conjugate=args.conjfid,
            water=water if options.spectral_model == "in-vivo" else None,
            progress=advance,
        )
    if isinstance(basis, EditedBasis) and fitted.edited is None:
        print(f"{fitted.basis.source} is fitted alone: its GABA includes the macromolecule under it (GABA+).")
    for note in fitted.data.notes[len(data.notes) :]:
        print(f"{args.data}: {note}.")
    if args.conjfid is None and fitted.conjugated:
        print(
            f"{args.data}: the frequency axis runs backwards and was reversed (complex conjugate);"
            " --no_conj_fid forbids it."
        )
    results = FitResults.of_data(fitted, options, _unaligned(args, data))
    absolute, reasons = absolute_of_file(fitted, quant, scaling, sums=results.sums, estimate=results.estimate)
    print_reasons(args, reasons if absolute is None else absolute.remarks)
    if args.t1 and absolute is not None and scaling.tissue is None:
        print_reasons(args, [NO_SEGMENTATION])
    results = replace(results, absolute=absolute, remarks=contradictions(options, data))
    return results, fitted.basis, options


def _unaligned(args, data):
    """Return the artefact of transients that are averaged though their frequencies and phases differ, if they do."""
    import numpy as np

    from ..fitting.artefacts import Artefact
    from ..fitting.header_facts import aligned_before
    from ..preproc.coherence import lost_in_average

    # What an alignment leaves, such as an echo that comes and goes, it would leave again.
    if "DIM_DYN" not in (args.average or ()) or aligned_before(data.header):
        return []
    fids = np.moveaxis(data.fids, (data.axis("DIM_DYN"), 3), (-2, -1))
    lost = lost_in_average(fids.reshape(-1, *fids.shape[-2:]), data.axes)
    if not lost:
        return []
    return [
        Artefact(
            "average of unaligned transients",
            f"it loses {lost:.0%} of the signal's energy, because their frequencies or phases differ",
            "align them first (fsl_mrs_dl align)",
        )
    ]
