"""Arguments of the command ``fsl_mrs_dl train``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["KINDS", "add_kinds"]

KINDS = {
    "quant": "networks that propose initial values of fits, or quantify",
    "align": "networks that propose shift and phase of transients",
    "denoise": "networks that take noise out of spectra",
}
"""What can be trained, with its description."""

_DEFAULT_RECIPES = {
    "quant": "universal; dq-... and supervised: shamaei-table2, dq-... with --data augment-spectra",
    "align": "universal-transients; with --file augment-transients",
    "denoise": "normal-brain",
}


def add_kinds(parser, run) -> None:
    """Add a sub-command for each of :data:`KINDS`, which ``run(args)`` runs."""
    kinds = parser.add_subparsers(
        title="what to train", required=True, dest="train", metavar="KIND", parser_class=type(parser)
    )
    for kind, help_text in KINDS.items():
        about = "on simulated data" if kind == "denoise" else "on simulated data or on yours"
        job = kinds.add_parser(
            kind, help=help_text, description=f"Train {help_text}, {about}.", add_config_file_help=False
        )
        required = job.add_argument_group("required arguments")
        required.add_argument(
            "--output", required=True, type=Path, metavar="DIR", help="folder of the model; an empty or a new one"
        )
        if kind == "denoise":
            required.add_argument("--basis", required=True, metavar="PATH", help="train for this basis set")
        data = job.add_argument_group("data")
        _add_simulation(data, kind)
        if kind == "align":
            _add_align(data)
        elif kind == "quant":
            _add_quant(data)
            _add_quant_network(job.add_argument_group("network"))
        else:
            _add_denoise(data, job.add_argument_group("network"))
        _add_training(job.add_argument_group("training"))
        job.set_defaults(func=run)


def _recipes(kind: str) -> list[str]:
    """Return the names of the package's recipes for one of :data:`KINDS`, without loading the reader of recipes."""
    names = sorted(path.stem for path in (Path(__file__).parents[1] / "data" / "recipes").glob("*.json"))
    of_transients = [name for name in names if name.endswith("-transients")]
    if kind == "align":
        return of_transients
    spectra = [name for name in names if name not in of_transients]
    return [name for name in spectra if kind != "denoise" or not name.startswith("augment-")]


def _add_simulation(data, kind: str) -> None:
    """Add the options of simulated data."""
    data.add_argument(
        "--recipe",
        metavar="NAME",
        help=(
            f"ranges of the simulated data, or of how yours are varied: {', '.join(_recipes(kind))}, or a JSON file"
            f" of yours (default {_DEFAULT_RECIPES[kind]})"
        ),
    )
    if kind != "denoise":
        data.add_argument(
            "--basis", metavar="PATH", help="train for this basis set (default: simulated ones of any protocol)"
        )
        data.add_argument(
            "--n_protocols", type=int, default=256, metavar="N", help="simulated basis sets (default 256)"
        )
        data.add_argument(
            "--start_from", metavar="MODEL", help="universal: begin with the weights of this model, by name or folder"
        )
    if kind != "align":
        only = "" if kind == "denoise" else "supervised, and dq-... on simulated spectra: "
        data.add_argument("--bandwidth", type=float, metavar="HZ", help=f"{only}your data's (default the basis set's)")


def _add_denoise(data, network) -> None:
    data.add_argument("--points", type=int, default=1024, metavar="N", help="your data's points (default 1024)")
    network.add_argument("--channels", type=int, default=64, metavar="N", help="of the first layer (default 64)")
    network.add_argument("--kernel", type=int, default=32, metavar="N", help="width of the kernels (default 32)")
    network.add_argument("--layers", type=int, default=6, metavar="N", help="an even number (default 6)")


def _add_align(data) -> None:
    data.add_argument(
        "--method", default="universal", metavar="NAME", help="universal (default), or dsr, dsrf, dcrr or dcrrf"
    )
    data.add_argument(
        "--file",
        nargs="+",
        metavar="FILE",
        help="train on these transients (NIfTI-MRS), self-supervised; not for universal",
    )
    data.add_argument(
        "--reference",
        default="mean",
        metavar="NAME",
        help=(
            "reference of dsr and dsrf: mean, of some of the transients once aligned (default), or"
            " k-means, one of them, chosen as published"
        ),
    )
    data.add_argument(
        "--encoder", metavar="NAME", help="for all but universal: align-cnn (default), or one of the others"
    )


def _add_quant(data) -> None:
    data.add_argument(
        "--method",
        default="universal",
        metavar="NAME",
        help="universal (default), dq-nmm, dq-pmm or dq-rpmm, or supervised",
    )
    data.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        help="train on these spectra (NIfTI-MRS), self-supervised; for dq-..., with --basis",
    )
    data.add_argument(
        "--mm",
        metavar="WHAT",
        help=(
            "macromolecules to add to the basis set: parametric, fsl-default, summed, or a file with measured"
            " ones; dq-pmm and dq-rpmm turn a measured pattern into lines"
        ),
    )
    data.add_argument(
        "--mean_of",
        type=int,
        metavar="N",
        help=(
            "train on means of N random transients of each file's, aligned first (default: on every FID); with --data"
        ),
    )
    data.add_argument(
        "--n_means",
        type=int,
        default=64,
        metavar="N",
        help="such means of each file (default 64); with --mean_of",
    )


def _add_quant_network(group) -> None:
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help=(
            "cnn, fc, mlp-mixer, convnext, align-cnn or resnet (default resnet, dq-...: cnn); dq-... and"
            " supervised also hatami (default of supervised), scalogram, wscn, deepnet-1d, resnet-1d,"
            " inceptionnet-1d, unet-1dr[-joint], shallownet-2d2c[-relu|-hp], deepnet-2d2c, deepnet-2d1c[-wide],"
            " resnet-2d1c[-wide] or inceptionnet-2d1c"
        ),
    )
    group.add_argument(
        "--water",
        action="store_true",
        help="supervised: give the network a line of known size at 0.5 ppm to count in",
    )
    group.add_argument(
        "--stack",
        nargs="+",
        metavar="NAME",
        help=(
            "supervised: train networks with these encoders, and one that weighs their answers; "
            "or shallowens-5n, hybridens-2n, hybridens-10n"
        ),
    )
    group.add_argument(
        "--active-learning",
        dest="active",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help=(
            "supervised: N rounds (default 1) "
            "after each of which a network is trained anew with more of the spectra with the largest errors"
        ),
    )
    group.add_argument(
        "--lambda",
        dest="lam",
        type=float,
        metavar="X",
        help="dq-rpmm: cost of a late cut-off time (default 0.05)",
    )
    group.add_argument(
        "--teacher",
        metavar="NAME",
        help=(
            "dq-...: learn from fits of the training spectra, too: ml, or posterior_mean (not in the paper, and"
            " quicker)"
        ),
    )
    group.add_argument(
        "--prior",
        metavar="WHAT",
        help="of the teacher's posterior mean: a recipe or a file (default: the --recipe's own)",
    )
    group.add_argument(
        "--ensemble",
        type=int,
        default=1,
        metavar="N",
        help="dq-..., supervised: train N networks that vote (default 1)",
    )


def _add_training(group) -> None:
    group.add_argument("--steps", type=int, default=12000, metavar="N", help="batches (default 12000)")
    group.add_argument(
        "--max-minutes",
        type=float,
        metavar="N",
        help=(
            "stop training after this time, earlier parts of it included, if it is reached first; measuring the"
            " network takes a while more"
        ),
    )
    group.add_argument(
        "--batch_size", type=int, default=128, metavar="N", help="spectra or transients in a batch (default 128)"
    )
    group.add_argument(
        "--learning_rate", type=float, default=1e-3, metavar="RATE", help="highest learning rate (default 0.001)"
    )
    group.add_argument(
        "--reduce_lr", action="store_true", help="cut the rate when the loss stalls, instead of a cosine to the end"
    )
    group.add_argument(
        "--patience", type=int, default=0, metavar="N", help="stop after N validations without improvement"
    )
    group.add_argument(
        "--validate_every",
        type=int,
        default=500,
        metavar="N",
        help="batches from one validation to the next (default 500)",
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="same seed and threads, same network on a CPU (default 0)"
    )
    group.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default all)")
    group.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    group.add_argument(
        "--search",
        type=int,
        default=0,
        metavar="N",
        help="first look for learning rate, batch size and encoder in N short trainings",
    )
    group.add_argument(
        "--search_steps", type=int, default=500, metavar="N", help="batches of each of these (default 500)"
    )
    group.add_argument("--tensorboard", action="store_true", help="log for TensorBoard, too")
    group.add_argument("--device", default="auto", metavar="DEVICE", help="auto (default), cpu or cuda")
    group.add_argument("--debug", action="store_true", help="show where an error arose")
