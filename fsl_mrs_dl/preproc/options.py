"""Arguments of alignment and denoising, shared by this package's commands and ``fsl_mrs_proc``."""

from __future__ import annotations

__all__ = ["add_align_arguments", "align_options", "add_denoise_arguments"]


def add_align_arguments(group) -> None:
    """Add the options of an alignment that ``fsl_mrs_dl align`` and ``fsl_mrs_proc dl-align`` share."""
    group.add_argument(
        "--dim",
        type=str,
        default="DIM_DYN",
        help=(
            'dimension tag of the transients, "all" for all spectra of a voxel, or "voxels" for the voxels of an MRSI'
            " (default DIM_DYN)"
        ),
    )
    group.add_argument(
        "--ppm",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=None,
        help="window that is aligned (default: the nucleus' usual one, 0.2 to 4.2 for 1H)",
    )
    group.add_argument(
        "--reference", type=str, metavar="FILE", help="align to this NIfTI-MRS file: one FID, or one per coil"
    )
    group.add_argument(
        "--method",
        type=str,
        metavar="NAME",
        help=(
            "what proposes shifts and phases: classical, universal, dsr, dsrf, dcrr or dcrrf (default: as the data"
            " allow)"
        ),
    )
    group.add_argument(
        "--model", type=str, metavar="NAME", help="trained network that proposes them, by name or folder"
    )
    group.add_argument("--no-refine", dest="no_refine", action="store_true", help="keep the network's own answer")
    group.add_argument(
        "--absolute",
        action="store_true",
        help=(
            "put creatine, choline and NAA (31P: PCr) where they belong, upright if coils are combined (default: the"
            " mean stays where it was)"
        ),
    )
    group.add_argument(
        "--moving",
        type=int,
        metavar="N",
        help="compare each transient with about N neighbours in time, for line shapes that drift",
    )
    group.add_argument(
        "--edit-dim",
        dest="edit_dim",
        type=str,
        default="DIM_EDIT",
        metavar="TAG",
        help="dimension of edit conditions, which are matched to each other; none switches that off (default DIM_EDIT)",
    )
    group.add_argument(
        "--exclude-unlike",
        dest="exclude_unlike",
        action="store_true",
        help="leave out transients that are unlike the others (default: they are only flagged)",
    )


def align_options(args: dict) -> dict:
    """What :func:`fsl_mrs_dl.fitting.quantify.align_data` takes, out of parsed arguments."""
    return {
        "dim": args["dim"],
        "ppmlim": tuple(args["ppm"]) if args["ppm"] else None,
        "method": args["method"],
        "model": args["model"],
        "refine": not args["no_refine"],
        "absolute": args["absolute"],
        "moving": args["moving"],
        "edit_dim": None if args["edit_dim"].lower() == "none" else args["edit_dim"],
        "exclude_unlike": args["exclude_unlike"],
    }


def add_denoise_arguments(group) -> None:
    """Add the options of a denoising that ``fsl_mrs_dl denoise`` and ``fsl_mrs_proc dl-denoise`` share."""
    group.add_argument(
        "--model",
        type=str,
        required=True,
        metavar="NAME",
        help="network trained for data like these with 'fsl_mrs_dl train denoise', by name or folder",
    )
