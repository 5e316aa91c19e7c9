"""The jobs ``train``, ``models`` and ``benchmark`` of the command; torch is loaded only when one of them runs."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.errors import DataError, OptionError, OutputError

__all__ = ["train_arguments", "models_arguments", "benchmark_arguments"]


def train_arguments(parser) -> None:
    kinds = parser.add_subparsers(title="what to train", required=True, dest="train", metavar="KIND", parser_class=type(parser))
    for kind, help_text in (
        ("quant", "what starts fits"),
        ("align", "what starts alignments"),
        ("denoise", "what takes noise out of spectra"),
    ):
        about = "on simulated data" if kind == "denoise" else "on simulated data or on yours"
        job = kinds.add_parser(kind, help=help_text, description=f"Train {help_text}, {about}.", add_config_file_help=False)
        required = job.add_argument_group("required arguments")
        required.add_argument(
            "--output", required=True, type=Path, metavar="DIR", help="folder of the model; an empty or a new one"
        )
        data = job.add_argument_group("data")
        data.add_argument(
            "--recipe",
            metavar="NAME",
            help=f"ranges of the simulated data, or of how yours are varied: {', '.join(_recipes(kind))}, or a JSON file of yours "
            f"(default {_DEFAULT_RECIPES[kind]})",
        )
        if kind == "denoise":
            required.add_argument("--basis", required=True, metavar="PATH", help="train for this basis set")
        else:
            data.add_argument(
                "--basis", metavar="PATH", help="train for this basis set (default: simulated ones of any protocol)"
            )
            data.add_argument("--n_protocols", type=int, default=256, metavar="N", help="simulated basis sets (default 256)")
        if kind != "align":
            only = "" if kind == "denoise" else "supervised, and dq-... on simulated spectra: "
            data.add_argument("--bandwidth", type=float, metavar="HZ", help=f"{only}your data's (default the basis set's)")
        if kind == "denoise":
            data.add_argument("--points", type=int, default=1024, metavar="N", help="your data's points (default 1024)")
            network = job.add_argument_group("network")
            network.add_argument("--channels", type=int, default=64, metavar="N", help="of the first layer (default 64)")
            network.add_argument("--kernel", type=int, default=32, metavar="N", help="width of the kernels (default 32)")
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
                "--reference", default="mean", metavar="NAME",
                help="what dsr and dsrf compare with: mean, of some of the transients once aligned (default), or k-means, one of them, chosen as "
                "published",
            )  # fmt: skip
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
                help="macromolecules to add to the basis set: parametric, fsl-default, summed, or a file with measured ones; dq-pmm and "
                "dq-rpmm turn a measured pattern into lines",
            )
            data.add_argument(
                "--mean_of", type=int, metavar="N", help="train on means of N random transients of each file's, aligned first (default: "
                "on every FID); with --data"
            )  # fmt: skip
            data.add_argument(
                "--n_means", type=int, default=64, metavar="N", help="such means of each file (default 64); with --mean_of"
            )
            group = job.add_argument_group("network")
            group.add_argument(
                "--encoder",
                metavar="NAME",
                help="cnn, fc, mlp-mixer, convnext, align-cnn or resnet (default resnet, dq-...: cnn); dq-... and supervised also "
                "hatami (default of supervised), scalogram, wscn, deepnet-1d, resnet-1d, inceptionnet-1d, unet-1dr[-joint], "
                "shallownet-2d2c[-relu|-hp], deepnet-2d2c, deepnet-2d1c[-wide], resnet-2d1c[-wide] or inceptionnet-2d1c",
            )
            group.add_argument(
                "--water", action="store_true", help="supervised: give the network a line of known size at 0.5 ppm to count in"
            )
            group.add_argument(
                "--stack", nargs="+", metavar="NAME", help="supervised: train networks with these encoders, and one that weighs what they say; "
                "or shallowens-5n, hybridens-2n, hybridens-10n"
            )  # fmt: skip
            group.add_argument(
                "--active-learning", dest="active", type=int, nargs="?", const=1, default=0, metavar="N", help="supervised: N rounds (default 1) "
                "after each of which a network is trained anew with more of what the last was worst at"
            )  # fmt: skip
            group.add_argument(
                "--lambda", dest="lam", type=float, metavar="X", help="dq-rpmm: what a late cut-off time costs (default 0.05)"
            )
            group.add_argument(
                "--teacher",
                metavar="NAME",
                help="dq-...: learn from fits of the training spectra, too: ml, or posterior_mean (not in the paper, and quicker)",
            )
            group.add_argument(
                "--prior",
                metavar="WHAT",
                help="of the teacher's posterior mean: a recipe or a file (default: the --recipe's own)",
            )
            group.add_argument(
                "--ensemble", type=int, default=1, metavar="N", help="dq-..., supervised: train N networks that vote (default 1)"
            )
        group = job.add_argument_group("training")
        group.add_argument("--steps", type=int, default=12000, metavar="N", help="batches (default 12000)")
        group.add_argument(
            "--max-minutes",
            type=float,
            metavar="N",
            help="stop training after this time, earlier parts of it included, if it is reached first; measuring the network takes a while more",
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
        group.add_argument("--patience", type=int, default=0, metavar="N", help="stop after N validations without improvement")
        group.add_argument(
            "--validate_every", type=int, default=500, metavar="N", help="batches from one validation to the next (default 500)"
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
        group.add_argument("--search_steps", type=int, default=500, metavar="N", help="batches of each of these (default 500)")
        group.add_argument("--tensorboard", action="store_true", help="log for TensorBoard, too")
        group.add_argument("--device", default="auto", metavar="DEVICE", help="auto (default), cpu or cuda")
        group.add_argument("--debug", action="store_true", help="show where an error arose")
        job.set_defaults(func=_train)


def models_arguments(parser) -> None:
    words = parser.add_subparsers(title="what to do", required=True, dest="models", metavar="WORD", parser_class=type(parser))
    for word, help_text in (
        ("list", "the networks that come with the package"),
        ("show", "what a network is, what it is for and how good it is"),
        ("path", "the folder of a network"),
    ):
        job = words.add_parser(
            word, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", add_config_file_help=False
        )
        if word != "list":
            job.add_argument("model", metavar="MODEL", help="name, or folder of a network of yours")
        job.add_argument("--debug", action="store_true", help="show where an error arose")
        job.set_defaults(func=_models)


def benchmark_arguments(parser) -> None:
    kinds = parser.add_subparsers(title="what", required=True, dest="benchmark", metavar="WHAT", parser_class=type(parser))
    text = "frequency and phase correction on simulated transients, beside its limits and other methods"
    job = _benchmark_job(kinds, "align", text)
    data = job.add_argument_group("data")
    data.add_argument(
        "--signal",
        metavar="FILE",
        help="NIfTI-MRS file with one FID, or MATLAB file with a variable 'data', that all transients are made from (default: the rat's "
        "signal of the alignment paper, looked for in FSL_MRS_DL_TESTDATA)",
    )
    data.add_argument("--bandwidth", type=float, metavar="HZ", help="of a MATLAB file")
    data.add_argument("--frequency", type=float, metavar="MHZ", help="spectrometer frequency of a MATLAB file")
    data.add_argument("--signals", type=int, default=24000, metavar="N", help="transients to train on (default 24000)")
    data.add_argument("--test", type=int, default=2400, metavar="N", help="transients to measure on (default 2400)")
    group = job.add_argument_group("networks")
    group.add_argument(
        "--networks",
        nargs="*",
        metavar="NAME",
        help="those to train and compare: dsr, dsrf, dcrr, dcrrf, tapper, ma (default all; none after the option for none)",
    )
    group.add_argument("--steps", type=int, metavar="N", help="batches of each training (default 12000, supervised 6000)")
    _benchmark_run(group, _benchmark, job)
    text = "quantification on simulated spectra, beside its limits and other methods"
    job = _benchmark_job(kinds, "quant", text)
    group = job.add_argument_group("options")
    group.add_argument(
        "--scale", default="small", metavar="NAME", help="small (default: under an hour on two cores) or paper (days)"
    )
    group.add_argument(
        "--parts",
        nargs="+",
        metavar="NAME",
        help="what to measure: accuracy, monte-carlo, architecture, lambda, data-size, calibration, novelty (default all)",
    )
    group.add_argument(
        "--basis",
        metavar="PATH",
        help="basis set with a macromolecule 'mm' (default: the paper's, looked for in FSL_MRS_DL_TESTDATA)",
    )
    group.add_argument("--steps", type=int, metavar="N", help="batches of a main training (default: the scale's)")
    group.add_argument("--test", type=int, metavar="N", help="spectra to measure on (default: the scale's)")
    _benchmark_run(group, _benchmark_quant, job)

    text = "all supervised networks on the data of their papers, beside fits and limits"
    job = _benchmark_job(kinds, "supervised", text)
    group = job.add_argument_group("options")
    group.add_argument(
        "--scale", default="small", metavar="NAME", help="small (default: under an hour on two cores) or paper (days; for a GPU)"
    )
    group.add_argument(
        "--parts",
        nargs="+",
        metavar="NAME",
        help="what to train and measure: networks, ensembles, active-learning, water, dss, scalogram (default all)",
    )
    group.add_argument("--networks", nargs="+", metavar="NAME", help="encoders of the part networks (default all)")
    group.add_argument("--steps", type=int, metavar="N", help="batches of every training (default: the scale's)")
    group.add_argument("--test", type=int, metavar="N", help="spectra to measure on (default: the scale's)")
    _benchmark_run(group, _benchmark_supervised, job)

    text = "what denoising does to spectra and to their fits, on simulated spectra"
    job = _benchmark_job(kinds, "denoise", text)
    group = job.add_argument_group("options")
    group.add_argument(
        "--scale", default="small", metavar="NAME", help="small (default: under ten minutes on a core) or paper (for a GPU)"
    )
    group.add_argument("--steps", type=int, metavar="N", help="batches of the training (default: the scale's)")
    group.add_argument("--test", type=int, metavar="N", help="spectra to fit at each SNR (default: the scale's)")
    _benchmark_run(group, _benchmark_denoise, job)


def _benchmark_job(kinds, name: str, text: str):
    """The parser of a benchmark, with what all of them need."""
    job = kinds.add_parser(name, help=text, description=f"Measure {text}.", add_config_file_help=False)
    job.add_argument_group("required arguments").add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for table.md, figures and models; models there are used again",
    )
    return job


def _benchmark_run(group, function, job) -> None:
    """How a benchmark runs."""
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of data and trainings (default 0)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default all)")
    group.add_argument("--debug", action="store_true", help="show where an error arose")
    job.set_defaults(func=function)


def _check_benchmark(args, least: dict) -> None:
    """Numbers that are large enough, a folder that can be one, and as many threads as were asked for."""
    import torch

    for name, value in least.items():
        if getattr(args, name) is not None and getattr(args, name) < value:
            raise OptionError(f"--{name} {getattr(args, name)}: give {value} or more.")
    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output}: is a file, not a folder; choose another --output.")
    if args.threads:
        torch.set_num_threads(args.threads)


def _benchmark_quant(args) -> None:
    from benchmarks.papers import quantification

    _check_benchmark(args, {"steps": 50, "test": 128, "threads": 1})
    path = quantification.write_quant(
        args.output,
        scale=args.scale,
        parts=tuple(args.parts or quantification.PARTS),
        basis=args.basis,
        steps=args.steps,
        n_test=args.test,
        seed=args.seed,
        say=lambda text: print(text, flush=True),
    )
    print(path.read_text())
    print(f"Written: {path} and its figures")


def _benchmark_supervised(args) -> None:
    from benchmarks.papers import supervised, supervised_trainings

    _check_benchmark(args, {"steps": 10, "test": 64, "threads": 1})
    path = supervised.write_supervised(
        args.output,
        scale=args.scale,
        parts=tuple(args.parts or supervised_trainings.PARTS),
        networks=None if args.networks is None else tuple(args.networks),
        steps=args.steps,
        n_test=args.test,
        seed=args.seed,
        say=lambda text: print(text, flush=True),
    )
    print(path.read_text())
    print(f"Written: {path}, scores.csv and its figure")


def _benchmark_denoise(args) -> None:
    from benchmarks.papers import denoising

    _check_benchmark(args, {"steps": 10, "test": 16, "threads": 1})
    path = denoising.write_denoise(
        args.output,
        scale=args.scale,
        steps=args.steps,
        n_test=args.test,
        seed=args.seed,
        say=lambda text: print(text, flush=True),
    )
    print(path.read_text())
    print(f"Written: {path} and its figure")


def _benchmark(args) -> None:
    from benchmarks.papers import alignment

    _check_benchmark(args, {"signals": 40, "test": 40, "threads": 1})
    networks = alignment.NETWORKS if args.networks is None else tuple(args.networks)
    path = alignment.write_align(
        args.output,
        signal=alignment.load_signal(args.signal, args.bandwidth, args.frequency),
        networks=networks,
        n_signals=args.signals,
        n_test=args.test,
        seed=args.seed,
        steps=args.steps,
        say=lambda text: print(text, flush=True),
    )
    print(path.read_text())
    print(f"Written: {path} and its figures")


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


def _train(args):
    from dataclasses import replace

    import torch

    from ..fitting.quantify import choose_device
    from ..networks.encoders import ENCODERS, OF_POINTS
    from ..networks.supervised_quantification import SEARCHED
    from ..training import loop

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
    settings = loop.Settings(
        steps=args.steps, batch_size=args.batch_size, learning_rate=args.learning_rate, max_minutes=args.max_minutes,
        patience=args.patience, reduce_on_plateau=args.reduce_lr, validate_every=min(args.validate_every, args.steps),
        n_protocols=getattr(args, "n_protocols", 1), seed=args.seed, device=device, tensorboard=args.tensorboard, progress=True,
    )  # fmt: skip
    if args.train == "align" and args.method == "universal" and (args.encoder or args.file):
        what = "--file" if args.file else "--encoder"
        raise OptionError(f"{what}: does not go with --method universal; choose dsr, dsrf, dcrr or dcrrf, or leave it out.")
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
                    f"--{option}: does not go with --method universal; choose another --method ({_ANOTHER.get(option, 'dq-nmm, dq-pmm or dq-rpmm')}), "
                    "or leave it out."
                )
    if args.train == "quant":
        _check_supervised(args)
        if args.method == "universal" and args.encoder in ENCODERS and args.encoder not in OF_POINTS:
            raise OptionError(
                f"--encoder {args.encoder}: looks at FIDs of one protocol; give it with --method supervised or dq-..., or choose one of "
                f"{', '.join(OF_POINTS)}."
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
        found = loop.search(start, settings, args.search, args.search_steps, tried)
        for one in found["trials"]:
            print(", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.items()))
        args.encoder = found.get("encoder")
        settings = replace(settings, learning_rate=found["learning_rate"], batch_size=found["batch_size"])
    card = start(settings, getattr(args, "encoder", None), args.output)
    if found:
        (args.output / "search.json").write_text(json.dumps(found, indent=2) + "\n")
    done = card["training"]
    print(
        f"Trained in {done['minutes']:.1f} minutes, {done['steps']} steps, on {done['device']}{_of_members(done)}. On held-back data:"
    )
    _print_accuracy(card)
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
        _say_little(card)
    elif card.kind in model_cards.model_names():
        print(f"{card.kind}, which comes with the package, has:")
        _print_accuracy(model_cards.read_card(card.kind), only=("inside",))


def _say_little(card) -> None:
    from ..networks import model_cards

    if card.kind.startswith("supervised") and model_cards.little_learnt(card):
        print("It has learnt little yet: its answers say hardly more than the middle of what it was trained on. Train longer.")


def _of_members(done: dict) -> str:
    """What the networks took that this one is made of."""
    each = [f"{one['encoder']} {one['steps']} steps, {one['minutes']:.1f} minutes" for one in done.get("members", ())]
    return f" (members: {'; '.join(each)})" if each else ""


def _starter_of(args, job, default_encoder: str | None = None):
    """``start(settings, encoder, folder)`` that runs ``job(folder, **options)`` of :mod:`fsl_mrs_dl.training.loop` with what all trainings are told."""

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
    from ..training import loop

    basis = Basis.load(args.basis) if args.basis else None

    def job(folder, encoder=None, **options):
        network = {"encoder": encoder} if encoder else None
        return loop.train(f"{args.train}-universal", folder, basis=basis, network_settings=network, **options)

    return _starter_of(args, job, "resnet" if args.train == "quant" else None)


def _registration(args):
    """Self-supervised training on the user's own transients."""
    from ..networks.self_supervised_registration import METHODS
    from ..training import loop

    _check_method(args, METHODS)
    if not args.file:
        raise OptionError(f"--method {args.method}: is trained on transients of yours; give them with --file.")
    if args.basis:
        raise OptionError(f"--basis: goes with --method universal only, not with {args.method}; leave it out.")
    fids, first = _measured(args.file)
    axes = {"dwelltime": first.dwelltime, "spec_freq_mhz": first.spec_freq_mhz, "nucleus": first.nucleus}

    def job(folder, **options):
        names = ", ".join(args.file)
        return loop.train_registration(args.method, fids, folder, source=names, reference=args.reference, **axes, **options)

    return _starter_of(args, job, "align-cnn")


def _quantifier(args):
    """Training for one basis set, self-supervised or supervised."""
    from ..io.basis import Basis
    from ..networks.self_supervised_quantification import METHODS
    from ..training import loop

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
        return _starter_of(args, lambda folder, **options: loop.train_regressor(basis, folder, **data, **options), "hatami")
    if args.mean_of and not args.data:
        raise OptionError("--mean_of: is of measured transients; give them with --data, or leave it out.")
    if args.data:
        fids, first = _measured(args.data, basis, args.mean_of, args.n_means, args.seed)
        data = {"fids": fids, "dwelltime": first.dwelltime, "source": ", ".join(args.data)}

    def job(folder, **options):
        return loop.train_quantifier(
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
    others = {"data": args.data, "mean_of": args.mean_of, "teacher": args.teacher, "prior": args.prior, "lambda": args.lam}
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
            f"--{'encoder' if args.encoder else 'search'}: does not go with --stack, which names its encoders; leave it out."
        )


def _denoiser(args):
    """Training of a denoiser for one basis set."""
    from ..io.basis import Basis
    from ..training import loop

    basis = Basis.load(args.basis)
    grid = {"dwelltime": 1 / args.bandwidth if args.bandwidth else None, "n_points": args.points}
    network = {"channels": args.channels, "kernel": args.kernel, "layers": args.layers}

    def job(folder, **options):
        return loop.train_denoiser(basis, folder, network_settings=network, **grid, **options)

    return _starter_of(args, job)


def _check_method(args, methods) -> None:
    if args.method not in methods:
        raise OptionError(f"--method {args.method}: there is no such method; choose universal, {', '.join(methods)}.")


def _measured(paths, basis=None, mean_of=None, n_means=64, seed=0):
    """The FIDs of files of one protocol, cut to the shortest, ``(n, n_points)``, and the first file's data.

    With ``mean_of``, ``n_means`` means of so many random transients of each file instead, the transients aligned first (section 4.1.2 of
    doi 10.1016/j.compbiomed.2023.106837).
    """
    import numpy as np

    from ..io import nifti

    fids, first = [], None
    for path in paths:
        data = nifti.load(path)
        if basis is not None:
            basis.check_match(data.spec_freq_mhz, data.nucleus, path)
        first = first or data
        same = np.isclose(data.dwelltime, first.dwelltime, rtol=1e-3)
        if not same or not np.isclose(data.spec_freq_mhz, first.spec_freq_mhz, rtol=5e-3):
            raise DataError(f"{path}: has another bandwidth or frequency than {paths[0]}; train one network for each.")
        one = _transients(data)
        fids.append(one if mean_of is None else _random_means(one, data, mean_of, n_means, seed, path))
    n_points = min(one.shape[-1] for one in fids)
    return np.concatenate([one[:, :n_points] for one in fids]), first


def _random_means(fids, data, mean_of: int, n_means: int, seed: int, path):
    """Means of random transients of one file, aligned, ``(n_means, n_points)``."""
    import numpy as np

    from ..core.units import nucleus
    from ..registration.solver import align_transients

    if len(fids) < 2 * mean_of:
        raise DataError(
            f"{path}: has {len(fids)} transients, means of {mean_of} need {2 * mean_of} at least; give a lower --mean_of."
        )
    ppmlim = nucleus(data.nucleus).ppmlim
    axes = {"dwelltime": data.dwelltime, "spec_freq_mhz": data.spec_freq_mhz, "nucleus": data.nucleus}
    found = align_transients(fids[None, None], ppmlim=ppmlim, **axes)
    aligned = found.apply(fids[None, None])[0, 0]
    good = np.flatnonzero(np.isin(found.flag[0], ("ok", "weak")))
    random = np.random.default_rng(seed)
    return np.stack([aligned[random.choice(good, mean_of, replace=False)].mean(0) for _ in range(n_means)])


def _transients(data):
    """All FIDs of a file, coils combined with weights of their own, ``(n, n_points)``."""
    import numpy as np
    import torch

    from ..networks.self_supervised_registration import combination

    fids = np.moveaxis(data.fids, 3, -1)
    if "DIM_COIL" in data.dim_tags:
        axis = data.axis("DIM_COIL") - 1
        fids = np.moveaxis(fids, axis, 0).reshape(fids.shape[axis], -1, fids.shape[-1])
        weights = combination(torch.as_tensor(np.nan_to_num(fids)))
        return np.einsum("c,ctn->tn", weights.numpy(), fids)
    return fids.reshape(-1, fids.shape[-1])


def _models(args):
    from ..networks import model_cards

    if args.models == "list":
        for name in model_cards.model_names():
            print(f"{name:18}{model_cards.read_card(name)['what']}")
        return
    try:
        card = model_cards.read_card(args.model)
    except OptionError as exc:
        # Here the model is no option's value.
        raise OptionError(str(exc).removeprefix("--model ")) from exc
    if args.models == "path":
        print(card.folder.resolve())
        return
    model_cards.load(args.model)  # says so if the weights are not the card's
    architecture, done = card["architecture"], card["training"]
    settings = ", ".join(f"{key} {_short(value)}" for key, value in architecture["settings"].items() if value)
    print(f"{card.name}: {card['what']}")
    print(
        f"Network: {card.kind}"
        + (f" ({settings})" if settings else "")
        + f", {architecture['parameters']} parameters"
        + (f", {architecture['flops'] / 1e6:.1f} million operations for each" if "flops" in architecture else "")
    )
    print(
        f"Trained on: {done['basis']}, recipe {done['recipe']['name']}, {done['steps']} batches of {done['batch_size']}, "
        f"{done['minutes']:g} min on {done['device']}, seed {done['seed']}{_of_members(done)}"
    )
    timed = " (about: the learning rate of this one followed the clock)" if done.get("timed") else ""
    print(f"Again{timed}: {done['command']}")
    print("Made for: " + "; ".join(_range_text(key, allowed) for key, allowed in card["ranges"].items()))
    print("Measured on held-back data:")
    _print_accuracy(card)
    _say_little(card)
    print(
        f"Weights: {card.folder / 'model.safetensors'}, SHA-256 {card['sha256'][:16]}..., versions "
        + ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    )


def _scores_table(accuracy: dict) -> str:
    """What a supervised network is worth, a line for each metabolite."""
    import numpy as np

    from ..networks.supervised_quantification import SCORES

    heads = ("R2", "slope", "intercept", "RMSE")
    lines = [f"  {'':<12}" + "".join(f"{head:>10}" for head in heads)]
    columns = [accuracy[label] for label in SCORES]
    lines += [f"  {name:<12}" + "".join(f"{column[name]:10.3g}" for column in columns) for name in columns[0]]
    if columns[0]:
        lines.append(f"  {'median':<12}" + "".join(f"{np.median(list(column.values())):10.3g}" for column in columns[:2]))
    return "\n".join([*lines, "  Slope of found against true; intercept and RMSE in the units of the recipe's concentrations."])


def _short(value) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_short(one)}' for key, one in value.items() if one)})"
    if isinstance(value, list) and value and all(isinstance(one, dict) and "encoder" in one for one in value):
        return ", ".join(one["encoder"] for one in value)
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 4 else str(value)


def _range_text(key: str, allowed) -> str:
    from ..networks.model_cards import RANGE_WORDS

    name = RANGE_WORDS.get(key, key)
    if all(isinstance(one, str) for one in allowed):
        return f"{name} {', '.join(allowed)}"
    low, high = allowed
    if high >= 1e8 or high > 0 and 1 < high / max(low, 1e-30) < 1.02:
        return f"{name} from {low:g}" if high >= 1e8 else f"{name} {(low * high) ** 0.5:.4g}"
    return f"{name} {low:g} to {high:g}"


def _print_accuracy(card, only=()) -> None:
    from ..networks import supervised_quantification

    if set(supervised_quantification.SCORES) <= set(card["accuracy"]):
        print(_scores_table(card["accuracy"]))
        return
    for label, terms in card["accuracy"].items():
        if only and label not in only:
            continue
        if isinstance(terms, dict):
            print(f"  {label}:")
            for name, value in terms.items():
                print(f"    {value:<10.4g} {name}")
        else:
            print(f"  {label}: {terms}")
