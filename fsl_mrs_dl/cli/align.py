"""The commands ``fsl_mrs_dl align`` and ``fsl_mrs_dl denoise``."""

from __future__ import annotations

import sys
from pathlib import Path

import configargparse

from ..core.errors import OutputError
from ..preproc.options import AlignOptions, add_align_arguments, add_denoise_arguments
from .common import _common_arguments, _new_file, _say, _write_whole


def _align_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "--file", required=True, metavar="FILE", help="NIfTI-MRS file with transients, coils combined or not"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("alignment options")
    add_align_arguments(group)
    group.add_argument("--filename", metavar="NAME", help="name of the aligned file (default: as --file)")
    group.add_argument("-r", "--generateReports", action="store_true", help="write an HTML report")
    group.add_argument("--allreports", action="store_true", help="write a report for every voxel and sub-spectrum")
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: dim = DIM_DYN"
    )
    _common_arguments(parser, output="aligned file")
    parser.set_defaults(func=_align)


def _denoise_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "--file", required=True, metavar="FILE", help="NIfTI-MRS file; every spectrum in it is denoised by itself"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    add_denoise_arguments(required)
    group = parser.add_argument_group("output options")
    group.add_argument("--filename", metavar="NAME", help="name of the denoised file (default: as --file)")
    group.add_argument("-r", "--generateReports", action="store_true", help="write an HTML report")
    # fsl_mrs_proc's word; there is one report.
    group.add_argument("--allreports", dest="generateReports", action="store_true", help=configargparse.SUPPRESS)
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: model = my_denoiser"
    )
    _common_arguments(parser, output="denoised file")
    parser.set_defaults(func=_denoise)


def _processed_file(args, data) -> Path:
    """Where a step's result goes: into a folder that may hold other things, which stay; the input is never replaced."""
    from ..io import output as output_module

    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output}: is a file, not a folder; choose another --output.")
    stem = args.filename or Path(args.file).name
    stem = stem.removesuffix(".gz").removesuffix(".nii")
    target = _new_file(args.output / f"{stem}.nii.gz", args.overwrite)
    if data.path is not None and target.resolve() == data.path.resolve():
        raise OutputError(f"{target}: is the input file itself; choose another --output or --filename.")
    if not args.output.exists():
        output_module.new_output_folder(args.output, overwrite=False)
    return target


def _align(args) -> None:
    from ..io import nifti
    from ..preproc import align
    from ..results.reports import alignment, alignment_table

    data = nifti.load(args.file)
    target = _processed_file(args, data)
    table = _new_file(args.output / "dl_align.csv", args.overwrite)
    reference = nifti.load(args.reference) if args.reference else None
    _say(args, f"Aligning {args.file}, shape {data.fids.shape}, dimensions {', '.join(data.dim_tags) or 'none'}")
    options = AlignOptions.from_arguments(vars(args), device=args.device)
    out = align.align_data(data, options, reference=reference)
    reports = (
        alignment.report_paths(args.output, out, args.allreports) if args.generateReports or args.allreports else []
    )
    for path in reports:
        _new_file(path, args.overwrite)
    details = out.details("fsl_mrs_dl align", args.reference)
    nifti.save(target, out.data, method="Frequency and phase correction", details=details)
    _write_whole(table, alignment_table.alignment_table(out))
    if reports:
        alignment.write_reports(args.output, out, args.allreports, Path(args.file).name)
    print(alignment_table.summary_line(out))
    print("Written: " + ", ".join(map(str, [target, table, *reports])))


def _denoise(args) -> None:
    from ..io import nifti
    from ..preproc import denoise
    from ..results.reports import denoising

    data = nifti.load(args.file)
    target = _processed_file(args, data)
    report = _new_file(args.output / denoising.REPORT, args.overwrite) if args.generateReports else None
    _say(args, f"Denoising {args.file}, shape {data.fids.shape}, dimensions {', '.join(data.dim_tags) or 'none'}")
    if denoise.warning_of(data.header):
        print(
            f"Warning: {args.file}: was denoised before; the network was trained on spectra with all of their noise.",
            file=sys.stderr,
        )
    out = denoise.denoise_data(data, args.model, args.device)
    details = out.details("fsl_mrs_dl denoise")
    nifti.save(target, out.data, method=denoise.METHOD, details=details, extra=out.header_field())
    if report:
        denoising.write_denoise_report(args.output, out, Path(args.file).name)
    print(denoise.summary_line(out))
    print("Written: " + ", ".join(map(str, [target, *([report] if report else [])])))
