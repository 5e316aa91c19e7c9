"""The command ``fsl_mrs_dl render``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder of fsl_mrs_dl mrsi or fit, of fsl_mrsi or fsl_mrs"
    )
    required.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="picture to write, .png; an older one is replaced"
    )
    group = parser.add_argument_group("drawing options")
    group.add_argument("--t1", type=Path, metavar="FILE", help="structural image beneath the map")
    group.add_argument("--metab", metavar="NAME", help="metabolite, sum or ratio, as GPC+PCh/Cr+PCr (default: NAA)")
    group.add_argument(
        "--quantity", metavar="KEY", help="kind of map (default: conc-ml, or conc-in-vivo); an unknown one lists all"
    )
    group.add_argument(
        "--slice", nargs=3, type=int, metavar=("X", "Y", "Z"), help="voxel of the results that the slices go through"
    )
    group.add_argument(
        "--max_crlb",
        type=float,
        metavar="PERCENT",
        help="hide voxels whose relative SD (Cramer-Rao bound, or posterior SD of the in-vivo model) is above it",
    )
    group.add_argument("--no_fade", action="store_true", help="do not fade uncertain voxels")
    group.add_argument(
        "--opacity", type=float, metavar="PERCENT", help="of the whole map (default: 80 above a structural image)"
    )
    group.add_argument("--voxel_grid", action="store_true", help="draw the edges of all voxels")
    group.add_argument(
        "--mosaic", action="store_true", help="draw every axial slice in place of three planes (by matplotlib)"
    )
    group.add_argument(
        "--renderer",
        choices=("auto", "fsleyes", "matplotlib"),
        default="auto",
        help="auto (default) takes FSLeyes where it is installed",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=run)


def run(args) -> None:
    """Draw results into a picture."""
    from fsleyes_plugin_dl.render import render

    renderer = render(
        args.results,
        args.out,
        t1=args.t1,
        metab=args.metab,
        quantity=args.quantity,
        voxel=args.slice and tuple(args.slice),
        max_crlb=args.max_crlb,
        fade=not args.no_fade,
        opacity=args.opacity,
        voxel_grid=args.voxel_grid,
        mosaic=args.mosaic,
        renderer=args.renderer,
    )
    print(f"Written: {args.out} ({renderer})")
