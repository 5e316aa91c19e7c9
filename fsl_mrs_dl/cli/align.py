"""The command ``fsl_mrs_dl align``."""

from __future__ import annotations

from pathlib import Path

from ..preproc.options import AlignOptions, add_align_arguments
from .common import (
    add_common_arguments,
    add_format_arguments,
    axis_options,
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
        "--file",
        required=True,
        metavar="FILE",
        help="NIfTI-MRS file (or another format, see the documentation) with transients, coils combined or not",
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("alignment options")
    add_align_arguments(group)
    add_format_arguments(group)
    group.add_argument("--filename", metavar="NAME", help="name of the aligned file (default: as --file)")
    group.add_argument("-r", "--generateReports", action="store_true", help="write an HTML report")
    group.add_argument("--allreports", action="store_true", help="write a report for every voxel and sub-spectrum")
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: dim = DIM_DYN"
    )
    add_common_arguments(parser, output="an existing aligned file")
    parser.set_defaults(func=run)


def run(args) -> None:
    """Align a file and write it, its table and its reports."""
    check_formats(axis_options(args), args.file, args.reference)
    from ..io import nifti
    from ..io.output import new_file, write_text
    from ..preproc import align
    from ..results.reports import alignment, alignment_table

    data = read_data(args.file, axis_options(args))
    reference = read_data(args.reference, axis_options(args)) if args.reference else None
    target = processed_file(args, data, reference)
    table = alignment.table_path(args.output, target.name, written=target.exists())
    table = new_file(table, args.overwrite)
    check_not_given([table], given_files(args))
    say(args, f"Aligning {args.file}, shape {data.fids.shape}, dimensions {', '.join(data.dim_tags) or 'none'}")
    options = AlignOptions.from_arguments(vars(args), device=args.device)
    out = align.align_data(data, options, reference=reference)
    reports = (
        alignment.report_paths(args.output, out, args.allreports, table)
        if args.generateReports or args.allreports
        else []
    )
    for path in reports:
        new_file(path, args.overwrite)
    check_not_given(reports, given_files(args))
    details = out.details("fsl_mrs_dl align", args.reference)
    nifti.save(target, out.data, method="Frequency and phase correction", details=details)
    write_text(table, alignment_table.alignment_table(out))
    if reports:
        alignment.write_reports(args.output, out, args.allreports, Path(args.file).name, table)
    print(alignment_table.summary_line(out))
    print("Written: " + ", ".join(map(str, [target, table, *reports])))
