"""The command ``fsl_mrs_dl mrsi``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .common import add_common_arguments, check_output, check_there, given_files, progress_bar, read_data, say
from .fit_options import (
    add_fitting_options,
    add_hidden_arguments,
    add_output_options,
    check_fsl_mrs_options,
    chosen_basis,
    fit_options,
    options_text,
)
from .scaling_options import add_scaling_options, scaling_of


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    required = parser.add_argument_group("required arguments")
    required.add_argument("--data", required=True, metavar="FILE", help="NIfTI-MRS file with one spectrum per voxel")
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("fitting options")
    group.add_argument(
        "--mask", metavar="IMAGE", help="image whose voxels above zero are fitted (default: all voxels with a signal)"
    )
    add_fitting_options(group)
    group.add_argument(
        "--h2o",
        metavar="FILE",
        help=(
            "unsuppressed water on the same grid, NIfTI-MRS, for absolute concentrations; the in-vivo model also takes"
            " the line shape of each voxel from it and corrects eddy currents, where that makes the fit better"
        ),
    )
    _add_volume_options(group)
    add_scaling_options(parser.add_argument_group("absolute concentrations (with --h2o)"))
    group = parser.add_argument_group("output options")
    add_output_options(group)
    group.add_argument("--report", action="store_true", help="write an HTML report on the average of some voxels")
    group.add_argument(
        "--no_spectra", action="store_true", help="write maps only, not the spectra of fit, baseline and residual"
    )
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: baseline = off"
    )
    group = parser.add_argument_group("running")
    group.add_argument(
        "--parallel",
        default="off",
        metavar="WHERE",
        help=(
            "off (default): in this process, on all its cores; local: in several processes; cluster: on the nodes of a"
            " SLURM cluster, configured as for fsl_mrsi; or the address of a dask scheduler"
        ),
    )
    group.add_argument("--parallel-workers", type=int, metavar="N", help="number of cores, processes or nodes")
    group.add_argument("--max-memory", type=float, metavar="GIB", help="memory to stay under (default: 4)", default=4.0)
    group.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    add_common_arguments(parser)
    parser.set_defaults(func=run, advice="")
    add_hidden_arguments(parser)


def _add_volume_options(group) -> None:
    """Add the options of what voxels of a volume share."""
    group.add_argument(
        "--nuisance",
        default="auto",
        metavar="WHAT",
        help=(
            "lipids of the scalp and residual water: subspace (learnt from the volume, part of the likelihood of every"
            " voxel; the default of the in-vivo model), off (the default of FSL-MRS's), or removed before the fit by"
            " l2 (Bilgic's) or hlsvd"
        ),
    )
    group.add_argument(
        "--lipid-mask",
        dest="lipid_mask",
        metavar="IMAGE",
        help="voxels of the scalp, for --nuisance (default: those with strong lipids outside of the mask)",
    )
    group.add_argument(
        "--spatial",
        action="store_true",
        help=(
            "also maps of an estimate that neighbours share (concs/spatial), with edges kept; by tissue where"
            " --tissue_frac gives fractions"
        ),
    )
    group.add_argument(
        "--no_volume_priors",
        action="store_true",
        help=(
            "in-vivo model: do not learn from the volume how much line widths, macromolecules, shifts and baseline"
            " differ between its voxels"
        ),
    )
    group.add_argument(
        "--share_initial_values",
        action="store_true",
        help="fit voxels again from the parameters of their neighbours where these differ",
    )


def run(args) -> None:
    """Fit a volume and write its maps."""
    check_there(args.data, args.h2o)
    check_output(args, args.data)
    check_fsl_mrs_options(args)
    import time

    from ..core.errors import spelled
    from ..fitting.fitted_data import usual_sums
    from ..fitting.header_facts import contradictions, time_notes
    from ..io.nifti import on_grid
    from ..mrsi import assemble, plan
    from ..mrsi import run as run_module
    from ..preproc import denoise
    from .tables import artefact_notes

    begun = time.perf_counter()
    inputs = (args.data, *given_files(args))
    about = read_data(args.data, header_only=True)
    denoise.warn(args, about.header)
    basis = chosen_basis(args, about, of_conditions=False)
    options = fit_options(args, basis)
    # As `fit` and `run` do: single ones of them are rarely determined at 3 T.
    options = replace(options, combine=options.combine or usual_sums(basis.names))
    for note in time_notes(options, about, basis):
        print(spelled(note, args.spelling))
    workers = run_module.workers_for(args.parallel, args.parallel_workers, args.max_memory)
    job, pilot = plan.prepare(
        args.data,
        basis,
        args.output,
        options,
        _volume_options(args),
        mask=args.mask,
        lipid_mask=args.lipid_mask,
        water=args.h2o,
        scaling=scaling_of(args, on_grid(about)),
        say=lambda line: print(spelled(line, args.spelling)),
        resume=args.resume,
        overwrite=args.overwrite,
    )
    if pilot is not None:
        pilot = replace(pilot, remarks=contradictions(options, about))
    for note in job.volume.about.notes[len(about.notes) :]:
        print(f"{args.data}: {note}.")
    if job.conjugated and args.conjfid is None and not args.resume:
        print(
            f"{args.data}: the frequency axis runs backwards and was reversed (complex conjugate); --no_conj_fid"
            " forbids it."
        )
    print("".join(f"{line}\n" for line in _notes_on_model(job)), end="")
    n = len(job.index)
    in_vivo = options.spectral_model == "in-vivo"
    how = "in-vivo model" if in_vivo else f"{options.model} model, baseline {options.baseline}"
    say(args, f"Fitting {n} voxels with {basis.n_metabs} metabolites, {how}, in {job.n_chunks} chunks")
    n_remaining = n - job.n_voxels(job.done())
    try:
        with progress_bar(n, "voxels") as advance:
            run_module.fit_all(job, parallel=args.parallel, workers=workers, progress=advance)
        values = _write_mrsi(args, options, job, pilot, inputs)
    except KeyboardInterrupt:
        n_done = job.n_voxels(job.done())
        raise KeyboardInterrupt(
            f"interrupted; {n_done} of {n} voxels are done: the same command with --resume goes on."
        ) from None
    assemble.finish(job)
    baseline = "" if in_vivo else ", baseline (--baseline 'spline, moderate')"
    advice = f"Most are: check basis set (sequence, echo time), macromolecules (--mm){baseline} and --mask."
    print("\n".join([assemble.summary(job, values, advice), *_water_notes(job)]))
    if pilot is not None:
        print("".join(f"{line}\n" for line in artefact_notes(pilot, n)), end="")
    print(
        f"{assemble.duration(begun, n_remaining)}\nWritten: {args.output}/ ('fsl_mrs_dl view {args.output}' shows it)"
    )


def _volume_options(args):
    """Return the options that only volumes have."""
    from ..mrsi.job import VolumeOptions

    return VolumeOptions(
        conjugate=args.conjfid,
        spectra=not args.no_spectra,
        share_initial_values=args.share_initial_values,
        nuisance=args.nuisance,
        spatial=args.spatial,
        volume_priors=not args.no_volume_priors,
    )


def _water_notes(job) -> list[str]:
    """Return what the mark of mM means where tissue fractions were not given; nothing where they were."""
    from .tables import water_note

    return [water_note()] * (job.scaling is not None and job.scaling.tissue is None)


def _notes_on_model(job) -> list[str]:
    """Return lines on what was settled for the in-vivo model of a volume."""
    if job.in_vivo is None:
        return []
    learnt = job.in_vivo.population
    return [line for line in (job.in_vivo.places_note, job.in_vivo.water_note, learnt.note if learnt else "") if line]


def _write_mrsi(args, options, job, pilot, inputs) -> dict:
    """Write a volume's folder of results; returns some values of the maps.

    ``options`` are those of the fit as they were given, without the facts of the header.
    """
    from ..io import output as output_module
    from ..mrsi import assemble
    from ..results import publication
    from ..results.write import write_inputs

    say(args, "Writing maps and spectra")
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        note = pilot.fit.network_note if pilot else ""
        text = options_text(args, job.basis, job.options, note)
        values = assemble.write_results(folder, job, options_text=text, pilot=pilot)
        write_inputs(folder, args.output, job.volume.about.path or Path(args.data), None, job.basis)
        if pilot is None:
            return values
        analysis = publication.Analysis(
            pilot, options, job.basis, Path(args.basis).name, volume=job.volume.grid, n_spectra=len(job.index)
        )
        publication.write_publication(folder, analysis)
        if args.report:
            from ..results.reports.fit import write_fit_report

            end = publication.publication_html(analysis)
            names = {"data": args.data, "basis": args.basis}
            write_fit_report(folder / "report.html", pilot, analysis=analysis, end=end, **names)
    return values
