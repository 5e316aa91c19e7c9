"""The commands ``fsl_mrs_dl view`` and ``fsl_mrs_dl render``."""

from __future__ import annotations

from pathlib import Path


def _view_arguments(parser) -> None:
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder of fsl_mrs_dl mrsi or fit, of fsl_mrsi or fsl_mrs"
    )
    parser.add_argument("--t1", type=Path, metavar="FILE", help="structural image beneath the maps")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="NIfTI-MRS data that were fitted (default: fit and residual together)"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_view)


def _render_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder of fsl_mrs_dl mrsi or fit, of fsl_mrsi or fsl_mrs"
    )
    required.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="picture to write, .png; an older one is replaced"
    )
    group = parser.add_argument_group("what is drawn")
    group.add_argument("--t1", type=Path, metavar="FILE", help="structural image beneath the map")
    group.add_argument("--metab", metavar="NAME", help="metabolite (default: NAA)")
    group.add_argument(
        "--quantity", metavar="KEY", help="kind of map (default: conc-ml); a wrong one lists those there are"
    )
    group.add_argument(
        "--slice", nargs=3, type=int, metavar=("X", "Y", "Z"), help="voxel of the results that the slices go through"
    )
    group.add_argument(
        "--max_crlb", type=float, metavar="PERCENT", help="hide voxels whose Cramer-Rao bound is above it"
    )
    group.add_argument("--no_fade", action="store_true", help="do not fade what is uncertain")
    group.add_argument(
        "--renderer",
        choices=("auto", "fsleyes", "matplotlib"),
        default="auto",
        help="auto (default) takes FSLeyes where it is installed",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_render)


def _view(args) -> int:
    from fsleyes_plugin_dl.view import view

    return view(args.results, args.t1, args.data)


def _render(args) -> None:
    from fsleyes_plugin_dl.render import render

    by = render(
        args.results,
        args.out,
        t1=args.t1,
        metab=args.metab,
        quantity=args.quantity,
        voxel=args.slice and tuple(args.slice),
        max_crlb=args.max_crlb,
        fade=not args.no_fade,
        renderer=args.renderer,
    )
    print(f"Written: {args.out} ({by})")
