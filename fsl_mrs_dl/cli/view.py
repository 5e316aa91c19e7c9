"""The command ``fsl_mrs_dl view``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder of fsl_mrs_dl mrsi or fit, of fsl_mrsi or fsl_mrs"
    )
    parser.add_argument("--t1", type=Path, metavar="FILE", help="structural image beneath the maps")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="NIfTI-MRS data that were fitted (default: fit and residual together)"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=run)


def run(args) -> int:
    """Show results in FSLeyes; returns its exit status."""
    from fsleyes_plugin_dl.view import view

    return view(args.results, args.t1, args.data)
