"""Options of absolute concentrations, which ``fit`` and ``mrsi`` share; names and meanings are FSL-MRS's."""

from __future__ import annotations

from ..core.errors import spelled
from .common import check_times

__all__ = ["add_scaling_options", "print_reasons", "scaling_of"]


def add_scaling_options(group) -> None:
    """Add the options of the scaling by a water reference."""
    group.add_argument(
        "--tissue_frac",
        nargs="+",
        metavar="WM GM CSF|FILES",
        help=(
            "volume fractions of white matter, grey matter and CSF; or a .json of svs_segment or a"
            " quantification_info.csv with them; or segmentations, which are laid over the voxel: three images of"
            " tissue volumes (FSL fast, SPM, BIDS), or one of labels (FreeSurfer, SynthSeg, dseg, pveseg), or a folder"
            " of fsl_anat"
        ),
    )
    group.add_argument(
        "--tissue_frac_sd", type=float, metavar="SD", help="SD of each volume fraction, for the errors (default 0.03)"
    )
    for kind in ("t1", "t2"):
        group.add_argument(
            f"--{kind}-values",
            metavar="FILE",
            help=(
                f"{kind.upper()} of water and metabolites: .json with H2O_WM, H2O_GM, H2O_CSF and METAB in s, or a"
                " quantification_info.csv (default: the literature's at the field)"
            ),
        )
    group.add_argument(
        "--wref_metabolite",
        nargs="+",
        metavar="METAB",
        help="metabolite that is compared with water (default: creatine and phosphocreatine, or NAA)",
    )
    group.add_argument("--ref_protons", type=int, metavar="N", help="its number of protons between --ref_int_limits")
    group.add_argument(
        "--ref_int_limits", type=float, nargs=2, metavar=("LOW", "HIGH"), help="limits of its integral in ppm"
    )
    group.add_argument(
        "--h2o_scale", type=float, default=1.0, metavar="FACTOR", help="multiply absolute concentrations by this"
    )


def scaling_of(args, data=None):
    """Return the WaterScaling of parsed arguments, with tissue fractions if there are data, whose position
    segmentations are laid over."""
    from ..concentrations.relaxation import read_times
    from ..concentrations.scaling import WaterScaling
    from ..concentrations.segmentation import tissue_fractions
    from ..concentrations.tissue import DEFAULT_SD

    check_times(args)
    sd = DEFAULT_SD if args.tissue_frac_sd is None else args.tissue_frac_sd
    return WaterScaling(
        echo_time_s=args.TE and args.TE / 1e3,
        repetition_time_s=args.TR,
        tissue=tissue_fractions(args.tissue_frac, data, sd) if args.tissue_frac and data is not None else None,
        t1=read_times(args.t1_values, "T1") if args.t1_values else None,
        t2=read_times(args.t2_values, "T2") if args.t2_values else None,
        reference=tuple(args.wref_metabolite) if args.wref_metabolite else None,
        protons=args.ref_protons,
        limits=None if args.ref_int_limits is None else tuple(args.ref_int_limits),
        factor=args.h2o_scale,
    )


def print_reasons(args, reasons) -> None:
    """Print why there are no absolute concentrations."""
    for reason in reasons:
        print(spelled(reason, args.spelling))
