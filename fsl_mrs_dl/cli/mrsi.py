"""The command ``fsl_mrs_dl mrsi``."""

from __future__ import annotations

from pathlib import Path

from .common import _common_arguments, _link, _progress, _say
from .fit_options import (
    _check_fsl_mrs_words,
    _checked_options,
    _chosen_basis,
    _fitting_options,
    _hidden_arguments,
    _options_text,
    _output_options,
)


def _mrsi_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument("--data", required=True, metavar="FILE", help="NIfTI-MRS file with one spectrum per voxel")
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("fitting options")
    group.add_argument(
        "--mask", metavar="IMAGE", help="voxels to fit, those that are not zero (default: all that hold a signal)"
    )
    _fitting_options(group)
    group.add_argument(
        "--share_starts",
        action="store_true",
        help="fit voxels again from where their neighbours ended, where that is elsewhere",
    )
    group = parser.add_argument_group("output options")
    _output_options(group)
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
            " SLURM cluster, configured as for fsl_mrsi"
        ),
    )
    group.add_argument("--parallel-workers", type=int, metavar="N", help="how many cores, processes or nodes")
    group.add_argument("--max-memory", type=float, metavar="GIB", help="memory to stay under (default: 4)", default=4.0)
    group.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    _common_arguments(parser)
    parser.set_defaults(func=_mrsi, advice="", prefix="--")
    _hidden_arguments(parser)


def _mrsi(args) -> None:
    import time

    from ..fitting.options import FitOptions
    from ..io import nifti
    from ..io import output as output_module
    from ..mrsi import assemble, plan, run
    from ..mrsi.job import VolumeOptions
    from ..preproc import denoise

    _check_fsl_mrs_words(args)
    begun = time.perf_counter()
    inputs = tuple(name for name in (args.data, args.basis, args.mask, args.config) if name)
    output_module.new_output_folder(args.output, args.overwrite, inputs)
    about = nifti.load_header(args.data)
    denoise.warn(args, about.header)
    basis, groups = _chosen_basis(args, about)
    model, sums, chosen = _checked_options(args, basis)
    options = FitOptions(
        model=model,
        ppmlim=args.ppmlim,
        baseline=args.baseline,
        metab_groups=groups,
        ind_scale=args.ind_scale or (),
        rescale=not args.no_rescale,
        internal_ref=args.internal_ref,
        combine=sums,
        init="both" if chosen.starter == "together" else chosen.starter,
        network=chosen.model,
        prior=chosen.prior,
        estimate=chosen.estimate,
        device=chosen.device,
    )
    volume_options = VolumeOptions(
        conjugate=args.conjfid, spectra=not args.no_spectra, share_initial_values=args.share_starts
    )
    workers = run.workers_for(args.parallel, args.parallel_workers, args.max_memory)
    job, pilot = plan.prepare(
        args.data,
        basis,
        args.output,
        options,
        volume_options,
        mask=args.mask,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    if job.conjugated and args.conjfid is None and not args.resume:
        print(
            f"{args.data}: the frequency axis runs backwards and was turned round (complex conjugate); --no_conj_fid"
            " forbids it."
        )
    n = len(job.index)
    _say(
        args,
        f"Fitting {n} voxels with {basis.n_metabs} metabolites, {model} model, baseline {args.baseline}, in"
        f" {job.n_chunks} chunks",
    )
    left = n - job.n_voxels(job.done())
    try:
        with _progress(n, "voxels") as advance:
            run.fit_all(job, parallel=args.parallel, workers=workers, progress=advance)
        values = _write_mrsi(args, job, pilot, inputs)
    except KeyboardInterrupt:
        done = job.n_voxels(job.done())
        raise KeyboardInterrupt(
            f"interrupted; {done} of {n} voxels are done: the same command with --resume goes on."
        ) from None
    assemble.finish(job)
    advice = (
        "Most are: check basis set (sequence, echo time), macromolecules (--mm), baseline (--baseline 'spline,"
        " moderate') and --mask."
    )
    print(assemble.summary(job, values, advice))
    print(f"{assemble.duration(begun, left)}\nWritten: {args.output}/ ('fsl_mrs_dl view {args.output}' shows it)")


def _write_mrsi(args, job, pilot, inputs) -> dict:
    """Put a volume's results together; some values of the maps."""
    from ..io import output as output_module
    from ..mrsi import assemble

    _say(args, "Writing maps and spectra")
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        values = assemble.write_results(
            folder, job, options_text=_options_text(args, pilot.fit.network_note if pilot else ""), pilot=pilot
        )
        _link(folder, args.output, "data", Path(args.data))
        _link(folder, args.output, "basis", Path(args.basis))
        if args.report and pilot is not None:
            from ..results.reports.fit import write_fit_report

            write_fit_report(folder / "report.html", pilot, data=args.data, basis=args.basis, location=None)
    return values
