"""The command ``fsl_mrs_dl train``; torch is loaded only when it runs."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.errors import OptionError, OutputError
from ..training.measured import _measured
from .tables import members_text, print_accuracy, print_if_little_learnt

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    kinds = parser.add_subparsers(
        title="what to train", required=True, dest="train", metavar="KIND", parser_class=type(parser)
    )
    for kind, help_text in (
        ("quant", "what starts fits"),
        ("align", "what starts alignments"),
        ("denoise", "what takes noise out of spectra"),
    ):
        about = "on simulated data" if kind == "denoise" else "on simulated data or on yours"
        job = kinds.add_parser(
            kind, help=help_text, description=f"Train {help_text}, {about}.", add_config_file_help=False
        )
        required = job.add_argument_group("required arguments")
        required.add_argument(
            "--output", required=True, type=Path, metavar="DIR", help="folder of the model; an empty or a new one"
        )
        data = job.add_argument_group("data")
        data.add_argument(
            "--recipe",
            metavar="NAME",
            help=(
                f"ranges of the simulated data, or of how yours are varied: {', '.join(_recipes(kind))}, or a JSON file"
                f" of yours (default {_DEFAULT_RECIPES[kind]})"
            ),
        )
        if kind == "denoise":
            required.add_argument("--basis", required=True, metavar="PATH", help="train for this basis set")
        else:
            data.add_argument(
                "--basis", metavar="PATH", help="train for this basis set (default: simulated ones of any protocol)"
            )
            data.add_argument(
                "--n_protocols", type=int, default=256, metavar="N", help="simulated basis sets (default 256)"
            )
        if kind != "align":
            only = "" if kind == "denoise" else "supervised, and dq-... on simulated spectra: "
            data.add_argument(
                "--bandwidth", type=float, metavar="HZ", help=f"{only}your data's (default the basis set's)"
            )
        if kind == "denoise":
            data.add_argument("--points", type=int, default=1024, metavar="N", help="your data's points (default 1024)")
            network = job.add_argument_group("network")
            network.add_argument(
                "--channels", type=int, default=64, metavar="N", help="of the first layer (default 64)"
            )
            network.add_argument(
                "--kernel", type=int, default=32, metavar="N", help="width of the kernels (default 32)"
            )
            network.add_argument("--layers", type=int, default=6, metavar="N", help="an even number (default 6)")
        if kind == "align":
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
                    "what dsr and dsrf compare with: mean, of some of the transients once aligned (default), or"
                    " k-means, one of them, chosen as published"
                ),
            )
            data.add_argument(
                "--encoder", metavar="NAME", help="for all but universal: align-cnn (default), or one of the others"
            )
        if kind == "quant":
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
                    "train on means of N random transients of each file's, aligned first (default: "
                    "on every FID); with --data"
                ),
            )
            data.add_argument(
                "--n_means",
                type=int,
                default=64,
                metavar="N",
                help="such means of each file (default 64); with --mean_of",
            )
            group = job.add_argument_group("network")
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
                    "supervised: train networks with these encoders, and one that weighs what they say; "
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
                    "after each of which a network is trained anew with more of what the last was worst at"
                ),
            )
            group.add_argument(
                "--lambda",
                dest="lam",
                type=float,
                metavar="X",
                help="dq-rpmm: what a late cut-off time costs (default 0.05)",
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
        group = job.add_argument_group("training")
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
        job.set_defaults(func=run)


_DEFAULT_RECIPES = {
    "quant": "universal; dq-... and supervised: shamaei-table2, dq-... with --data augment-spectra",
    "align": "universal-transients; with --file augment-transients",
    "denoise": "normal-brain",
}


def _recipes(kind: str) -> list[str]:
    """Names of the recipes that come with the package and go with what is trained; without loading what reads them."""
    names = sorted(path.stem for path in (Path(__file__).parents[1] / "data" / "recipes").glob("*.json"))
    of_transients = [name for name in names if name.endswith("-transients")]
    if kind == "align":
        return of_transients
    measured = "augment-" if kind == "denoise" else "no such beginning"
    return [name for name in names if name not in of_transients and not name.startswith(measured)]


def run(args):
    from dataclasses import replace

    import torch

    from ..core.device import choose_device
    from ..networks.encoders import ENCODERS, OF_POINTS
    from ..networks.supervised_quantification import SEARCHED
    from ..training import search
    from ..training import settings as settings_module

    args.method = getattr(args, "method", "autoencoder")
    for name in (
        "steps",
        "batch_size",
        "validate_every",
        "n_protocols",
        "bandwidth",
        "points",
        "channels",
        "kernel",
        "ensemble",
        "mean_of",
        "n_means",
    ):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise OptionError(f"--{name} {value:g}: must be at least 1.")
    if args.max_minutes is not None and args.max_minutes <= 0:
        raise OptionError(f"--max-minutes {args.max_minutes:g}: must be above 0.")
    if args.learning_rate <= 0:
        raise OptionError(f"--learning_rate {args.learning_rate:g}: must be above 0.")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device).type
    settings = settings_module.Settings(
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        max_minutes=args.max_minutes,
        patience=args.patience,
        reduce_on_plateau=args.reduce_lr,
        validate_every=min(args.validate_every, args.steps),
        n_protocols=getattr(args, "n_protocols", 1),
        seed=args.seed,
        device=device,
        tensorboard=args.tensorboard,
        progress=True,
    )
    if args.train == "align" and args.method == "universal" and (args.encoder or args.file):
        what = "--file" if args.file else "--encoder"
        raise OptionError(
            f"{what}: does not go with --method universal; choose dsr, dsrf, dcrr or dcrrf, or leave it out."
        )
    if args.train == "quant" and args.method == "universal" and args.data:
        raise OptionError("--data: does not go with --method universal; choose --method dq-nmm, or leave it out.")
    if args.train == "quant" and args.method == "universal":
        for option, given in (
            ("mm", args.mm),
            ("lambda", args.lam),
            ("teacher", args.teacher),
            ("prior", args.prior),
            ("ensemble", args.ensemble > 1),
        ):
            if given:
                raise OptionError(
                    f"--{option}: does not go with --method universal; choose another --method"
                    f" ({_ANOTHER.get(option, 'dq-nmm, dq-pmm or dq-rpmm')}), or leave it out."
                )
    if args.train == "quant":
        _check_supervised(args)
        if args.method == "universal" and args.encoder in ENCODERS and args.encoder not in OF_POINTS:
            raise OptionError(
                f"--encoder {args.encoder}: looks at FIDs of one protocol; give it with --method supervised or dq-...,"
                f" or choose one of {', '.join(OF_POINTS)}."
            )
    if args.train == "quant" and args.bandwidth and (args.method == "universal" or args.data):
        raise OptionError("--bandwidth: goes with --method supervised, and dq-... on simulated spectra; leave it out.")
    if args.method == "universal":
        start = _universal(args)
    else:
        start = {"align": _registration, "quant": _quantifier, "denoise": _denoiser}[args.train](args)
    found = None
    if args.search:
        if args.resume:
            raise OptionError("--search: begins anew; leave --resume out.")
        if args.output.is_dir() and any(args.output.iterdir()):
            raise OutputError(f"{args.output}: is not empty; choose another --output.")
        without = args.train == "denoise" or (args.train == "align" and args.method == "universal")
        tried = () if without else SEARCHED if args.method == "supervised" else OF_POINTS
        found = search.search(start, settings, args.search, args.search_steps, tried)
        for one in found["trials"]:
            print(
                ", ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.items()
                )
            )
        args.encoder = found.get("encoder")
        settings = replace(settings, learning_rate=found["learning_rate"], batch_size=found["batch_size"])
    card = start(settings, getattr(args, "encoder", None), args.output)
    if found:
        (args.output / "search.json").write_text(json.dumps(found, indent=2) + "\n")
    done = card["training"]
    print(
        f"Trained in {done['minutes']:.1f} minutes, {done['steps']} steps, on {done['device']}{members_text(done)}. On"
        " held-back data:"
    )
    print_accuracy(card)
    _compare(card)
    use = {
        "quant": f"'fsl_mrs_dl fit --model {args.output}' uses it.",
        "align": f"'fsl_mrs_dl align --model {args.output}' uses it.",
        "denoise": f"'fsl_mrs_dl denoise --model {args.output}' uses it.",
    }
    print(f"Written: {args.output}/model.safetensors, card.json; {use[args.train]}")


def _compare(card) -> None:
    """How that is, beside what one would have without the network."""
    from ..networks import model_cards

    if card.kind == "autoencoder":
        left = [value for terms in card["accuracy"].values() for value in terms.values()]
        if max(left) > 100:
            print("Where more than 100 % are left, the spectrum is better as it was: train longer.")
    elif card.kind == "registration":
        rows = next(iter(card["accuracy"].values()))
        if rows["shift (Hz), SD of error"] > 0.5 * rows["shift (Hz), SD of what it had to find"]:
            print("It has learnt little yet: errors are about as large as what it had to find. Train longer.")
    elif card.kind.startswith("supervised"):
        print_if_little_learnt(card)
    elif card.kind in model_cards.model_names():
        print(f"{card.kind}, which comes with the package, has:")
        print_accuracy(model_cards.read_card(card.kind), only=("inside",))


def _starter_of(args, job, default_encoder: str | None = None):
    """``start(settings, encoder, folder)`` that runs ``job(folder, **options)`` of :mod:`fsl_mrs_dl.training.loop` with
    what all trainings are told."""

    def start(settings, encoder, folder):
        options = {"encoder": encoder or default_encoder} if default_encoder else {}
        return job(
            folder,
            settings=settings,
            recipe=args.recipe,
            resume=args.resume,
            command=" ".join(["fsl_mrs_dl", *args.words]),
            **options,
        )

    return start


def _universal(args):
    """Training of a starter for any protocol, or for those of one basis set."""
    from ..io.basis import Basis
    from ..training import universal

    basis = Basis.load(args.basis) if args.basis else None

    def job(folder, encoder=None, **options):
        network = {"encoder": encoder} if encoder else None
        return universal.train(f"{args.train}-universal", folder, basis=basis, network_settings=network, **options)

    return _starter_of(args, job, "resnet" if args.train == "quant" else None)


def _registration(args):
    """Self-supervised training on the user's own transients."""
    from ..networks.self_supervised_registration import METHODS
    from ..training import registration

    _check_method(args, METHODS)
    if not args.file:
        raise OptionError(f"--method {args.method}: is trained on transients of yours; give them with --file.")
    if args.basis:
        raise OptionError(f"--basis: goes with --method universal only, not with {args.method}; leave it out.")
    fids, first = _measured(args.file)
    axes = {"dwelltime": first.dwelltime, "spec_freq_mhz": first.spec_freq_mhz, "nucleus": first.nucleus}

    def job(folder, **options):
        names = ", ".join(args.file)
        return registration.train_registration(
            args.method, fids, folder, source=names, reference=args.reference, **axes, **options
        )

    return _starter_of(args, job, "align-cnn")


def _quantifier(args):
    """Training for one basis set, self-supervised or supervised."""
    from ..io.basis import Basis
    from ..networks.self_supervised_quantification import METHODS
    from ..training import self_supervised, supervised

    _check_method(args, [*METHODS, "supervised"])
    if not args.basis:
        raise OptionError(f"--method {args.method}: is trained for one basis set; give it with --basis.")
    basis = Basis.load(args.basis)
    data = {"dwelltime": 1 / args.bandwidth} if args.bandwidth else {}
    if args.method == "supervised":
        data |= {
            "mm": args.mm,
            "water": args.water,
            "n_members": args.ensemble,
            "stack": tuple(args.stack or ()),
            "active": args.active,
        }
        return _starter_of(
            args, lambda folder, **options: supervised.train_regressor(basis, folder, **data, **options), "hatami"
        )
    if args.mean_of and not args.data:
        raise OptionError("--mean_of: is of measured transients; give them with --data, or leave it out.")
    if args.data:
        fids, first = _measured(args.data, basis, args.mean_of, args.n_means, args.seed)
        data = {"fids": fids, "dwelltime": first.dwelltime, "source": ", ".join(args.data)}

    def job(folder, **options):
        return self_supervised.train_quantifier(
            args.method,
            basis,
            folder,
            mm=args.mm,
            teacher=args.teacher,
            prior=args.prior,
            lam=args.lam,
            n_members=args.ensemble,
            **data,
            **options,
        )

    return _starter_of(args, job, "cnn")


_ANOTHER = dict.fromkeys(("mm", "ensemble"), "dq-nmm, dq-pmm, dq-rpmm or supervised")


def _check_supervised(args) -> None:
    """Refuse what is the supervised networks' with others, and what is the others' with them."""
    own = {"water": args.water, "stack": args.stack, "active-learning": args.active}
    others = {
        "data": args.data,
        "mean_of": args.mean_of,
        "teacher": args.teacher,
        "prior": args.prior,
        "lambda": args.lam,
    }
    wrong = others if args.method == "supervised" else own
    for option, given in wrong.items():
        if given and args.method == "supervised":
            raise OptionError(
                f"--{option}: does not go with --method supervised, which learns from simulated spectra; leave it out."
            )
        if given:
            raise OptionError(f"--{option}: goes with --method supervised, not with {args.method}; leave it out.")
    if args.stack and (args.encoder or args.search):
        raise OptionError(
            f"--{'encoder' if args.encoder else 'search'}: does not go with --stack, which names its encoders; leave it"
            " out."
        )


def _denoiser(args):
    """Training of a denoiser for one basis set."""
    from ..io.basis import Basis
    from ..training import denoiser

    basis = Basis.load(args.basis)
    grid = {"dwelltime": 1 / args.bandwidth if args.bandwidth else None, "n_points": args.points}
    network = {"channels": args.channels, "kernel": args.kernel, "layers": args.layers}

    def job(folder, **options):
        return denoiser.train_denoiser(basis, folder, network_settings=network, **grid, **options)

    return _starter_of(args, job)


def _check_method(args, methods) -> None:
    if args.method not in methods:
        raise OptionError(f"--method {args.method}: there is no such method; choose universal, {', '.join(methods)}.")
