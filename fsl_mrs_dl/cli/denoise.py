"""The command ``fsl_mrs_dl denoise``."""

from __future__ import annotations

import sys
from pathlib import Path

import configargparse

from ..preproc.options import add_denoise_arguments
from .common import (
    add_common_arguments,
    check_formats,
    check_not_given,
    given_files,
    processed_file,
    read_data,
    say,
)

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
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
    add_common_arguments(parser, output="an existing denoised file")
    parser.set_defaults(func=run)


def run(args) -> None:
    """Denoise a file and write it and its report."""
    check_formats(None, args.file)
    from ..io import nifti
    from ..io.output import new_file
    from ..preproc import denoise
    from ..results.reports import denoising

    data = read_data(args.file)
    target = processed_file(args, data)
    report = new_file(args.output / denoising.REPORT, args.overwrite) if args.generateReports else None
    check_not_given([report] if report else [], given_files(args))
    say(args, f"Denoising {args.file}, shape {data.fids.shape}, dimensions {', '.join(data.dim_tags) or 'none'}")
    if denoise.warning_of(data.header):
        print(
            f"Warning: {args.file}: was denoised before; the network was trained on spectra that were not.",
            file=sys.stderr,
        )
    out = denoise.denoise_data(data, args.model, args.device)
    details = out.details("fsl_mrs_dl denoise")
    nifti.save(target, out.data, method=denoise.METHOD, details=details, extra=out.header_field())
    if report:
        denoising.write_denoise_report(args.output, out, Path(args.file).name)
    print(denoise.summary_line(out))
    print("Written: " + ", ".join(map(str, [target, *([report] if report else [])])))
