"""The command ``fsl_mrs_dl train``; torch is loaded only when it runs."""

from __future__ import annotations

from ..core.errors import OptionError
from .common import read_basis
from .tables import members_text, print_accuracy, print_if_little_learnt
from .train_arguments import add_kinds

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the sub-commands ``quant``, ``align`` and ``denoise``."""
    add_kinds(parser, run)


def run(args) -> None:
    """Train a network and print its accuracy.

    Raises
    ------
    BasisError, DataError, OptionError, OutputError
    """
    import torch

    from ..io.output import check_writable
    from ..training.search import search_and_train
    from ..training.trainer import train

    check_writable(args.output)
    args.method = getattr(args, "method", "autoencoder")
    _check_numbers(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = _settings(args)
    _check_combinations(args)
    if args.method == "universal":
        make = _universal(args)
    else:
        make = {"align": _registration, "quant": _quantifier, "denoise": _denoiser}[args.train](args)
    command = " ".join(["fsl_mrs_dl", *args.words])
    if args.search:
        if args.resume:
            raise OptionError("begins anew", option="search", remedy="leave `resume` out")
        card, best = search_and_train(
            make,
            settings,
            args.output,
            n_trials=args.search,
            steps=args.search_steps,
            encoders_tried=_encoders_tried(args),
            command=command,
        )
        for trial in best["trials"]:
            print(
                ", ".join(
                    f"{key} {format(value, '.4g' if isinstance(value, float) else '')}" for key, value in trial.items()
                )
            )
    else:
        training = make(settings, getattr(args, "encoder", None))
        card = train(training, args.output, resume=args.resume, command=command)
    _print_card(card, args)


# -- options -------------------------------------------------------------------------------------------------------

_POSITIVE = (
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
)


def _check_numbers(args) -> None:
    for name in _POSITIVE:
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise OptionError("must be at least 1", option=name, value=f"{value:g}")
    for name in ("max_minutes", "learning_rate"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise OptionError("must be above 0", option=name, value=f"{value:g}")


def _settings(args):
    """Return the :class:`fsl_mrs_dl.training.settings.Settings` of the options."""
    from ..core.device import choose_device
    from ..training.settings import Settings

    return Settings(
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        max_minutes=args.max_minutes,
        patience=args.patience,
        rate_schedule="plateau" if args.reduce_lr else "cosine",
        validate_every=min(args.validate_every, args.steps),
        n_protocols=getattr(args, "n_protocols", 1),
        seed=args.seed,
        device=choose_device(args.device).type,
        tensorboard=args.tensorboard,
    )


_OF_SELF_SUPERVISED = "dq-nmm, dq-pmm or dq-rpmm"
_OF_ONE_BASIS = "dq-nmm, dq-pmm, dq-rpmm or supervised"


def _check_combinations(args) -> None:
    """Raise an error for options that do not go with the method."""
    if args.train == "align" and args.method == "universal":
        for option in ("file", "encoder"):
            if getattr(args, option):
                raise OptionError(
                    "does not go with `method` universal",
                    option=option,
                    remedy="choose dsr, dsrf, dcrr or dcrrf, or leave it out",
                )
    start_from = getattr(args, "start_from", None)
    if start_from and args.method != "universal":
        raise OptionError("goes with `method` universal", option="start_from", remedy="leave it out")
    if start_from and getattr(args, "encoder", None):
        raise OptionError("brings its own encoder", option="start_from", remedy="leave `encoder` out")
    if args.train != "quant":
        return
    if args.method == "universal":
        _check_universal_quant(args)
    _check_supervised(args)
    if args.bandwidth and (args.method == "universal" or args.data):
        raise OptionError(
            "goes with `method` supervised, and dq-... on simulated spectra", option="bandwidth", remedy="leave it out"
        )


def _check_universal_quant(args) -> None:
    from ..networks.encoders import ENCODERS, OF_POINTS

    for option, given, others in (
        ("data", args.data, "dq-nmm"),
        ("mm", args.mm, _OF_ONE_BASIS),
        ("lam", args.lam, _OF_SELF_SUPERVISED),
        ("teacher", args.teacher, _OF_SELF_SUPERVISED),
        ("prior", args.prior, _OF_SELF_SUPERVISED),
        ("ensemble", args.ensemble > 1, _OF_ONE_BASIS),
    ):
        if given:
            raise OptionError(
                "does not go with `method` universal",
                option=option,
                remedy=f"choose another `method` ({others}), or leave it out",
            )
    if args.encoder in ENCODERS and args.encoder not in OF_POINTS:
        raise OptionError(
            "takes FIDs of one protocol",
            option="encoder",
            value=args.encoder,
            remedy=f"give it with `method` supervised or dq-..., or choose one of {', '.join(OF_POINTS)}",
        )


def _check_supervised(args) -> None:
    """Raise an error for options of supervised networks with other methods, and the other way round."""
    if args.method == "supervised":
        for option in ("data", "mean_of", "teacher", "prior", "lam"):
            if getattr(args, option):
                raise OptionError(
                    "does not go with `method` supervised, which learns from simulated spectra",
                    option=option,
                    remedy="leave it out",
                )
    else:
        for option in ("water", "stack", "active"):
            if getattr(args, option):
                raise OptionError(
                    f"goes with `method` supervised, not with {args.method}", option=option, remedy="leave it out"
                )
    if args.stack and (args.encoder or args.search):
        raise OptionError(
            "does not go with `stack`, which names its encoders",
            option="encoder" if args.encoder else "search",
            remedy="leave it out",
        )


def _check_method(args, methods) -> None:
    if args.method not in methods:
        raise OptionError(
            "there is no such method",
            option="method",
            value=args.method,
            remedy=f"choose universal, {', '.join(methods)}",
        )


def _encoders_tried(args) -> tuple[str, ...]:
    """Return the encoders that a search chooses from."""
    from ..networks import supervised_quantification
    from ..networks.encoders import OF_POINTS

    if args.train == "denoise" or (args.train == "align" and args.method == "universal"):
        return ()
    return supervised_quantification.SEARCHED if args.method == "supervised" else OF_POINTS


# -- from options to trainings: functions ``make(settings, encoder)`` that return one ----------------------------------


def _universal(args):
    """Return the maker of trainings for any protocol, or for those of one basis set."""
    from ..training.universal import UniversalTraining

    basis = read_basis(args.basis) if args.basis else None

    def make(settings, encoder):
        network = {"encoder": encoder or "resnet"} if args.train == "quant" else None
        return UniversalTraining(
            f"{args.train}-universal",
            settings=settings,
            recipe=args.recipe,
            basis=basis,
            network_settings=network,
            start_from=args.start_from,
        )

    return make


def _registration(args):
    """Return the maker of self-supervised trainings on the user's own transients."""
    from ..networks.self_supervised_registration import METHODS
    from ..training.measured import measured_fids
    from ..training.registration import RegistrationTraining

    _check_method(args, METHODS)
    if not args.file:
        raise OptionError(
            "is trained on transients of yours", option="method", value=args.method, remedy="give them with `file`"
        )
    if args.basis:
        raise OptionError(
            f"goes with `method` universal only, not with {args.method}", option="basis", remedy="leave it out"
        )
    fids, axes = measured_fids(args.file)

    def make(settings, encoder):
        return RegistrationTraining(
            args.method,
            fids,
            axes,
            settings=settings,
            recipe=args.recipe,
            encoder=encoder or "align-cnn",
            reference=args.reference,
            source=", ".join(args.file),
        )

    return make


def _quantifier(args):
    """Return the maker of trainings for one basis set, self-supervised or supervised."""
    from ..networks.self_supervised_quantification import METHODS

    _check_method(args, [*METHODS, "supervised"])
    if not args.basis:
        raise OptionError(
            "is trained for one basis set", option="method", value=args.method, remedy="give it with `basis`"
        )
    basis = read_basis(args.basis)
    return (_supervised if args.method == "supervised" else _self_supervised)(args, basis)


def _supervised(args, basis):
    from ..training.supervised_quantification import SupervisedTraining

    def make(settings, encoder):
        return SupervisedTraining(
            basis,
            dwelltime=1 / args.bandwidth if args.bandwidth else None,
            settings=settings,
            recipe=args.recipe,
            encoder=encoder or "hatami",
            mm=args.mm,
            water=args.water,
            n_members=args.ensemble,
            stack=tuple(args.stack or ()),
            active=args.active,
        )

    return make


def _self_supervised(args, basis):
    from ..training.measured import measured_fids
    from ..training.self_supervised_quantification import SelfSupervisedTraining

    if args.mean_of and not args.data:
        raise OptionError(
            "is of measured transients", option="mean_of", remedy="give them with `data`, or leave it out"
        )
    data: dict = {"dwelltime": 1 / args.bandwidth if args.bandwidth else None}
    if args.data:
        fids, axes = measured_fids(args.data, basis, args.mean_of, args.n_means, args.seed)
        data = {"fids": fids, "dwelltime": axes.dwelltime, "source": ", ".join(args.data)}

    def make(settings, encoder):
        return SelfSupervisedTraining(
            args.method,
            basis,
            settings=settings,
            recipe=args.recipe,
            encoder=encoder or "cnn",
            mm=args.mm,
            teacher=args.teacher,
            prior=args.prior,
            lam=args.lam,
            n_members=args.ensemble,
            **data,
        )

    return make


def _denoiser(args):
    """Return the maker of trainings of a denoiser for one basis set."""
    from ..training.denoiser import DenoiserTraining

    basis = read_basis(args.basis)

    def make(settings, encoder):
        return DenoiserTraining(
            basis,
            dwelltime=1 / args.bandwidth if args.bandwidth else None,
            n_points=args.points,
            network_settings={"channels": args.channels, "kernel": args.kernel, "layers": args.layers},
            settings=settings,
            recipe=args.recipe,
        )

    return make


# -- printing ------------------------------------------------------------------------------------------------------


def _print_card(card, args) -> None:
    """Print how long the training took, the accuracy, and how the network is used."""
    done = card["training"]
    print(
        f"Trained in {done['minutes']:.1f} minutes, {done['steps']} steps, on {done['device']}{members_text(done)}. On"
        " held-back data:"
    )
    print_accuracy(card)
    _print_comparison(card)
    user = {"quant": "fit", "align": "align", "denoise": "denoise"}[args.train]
    print(f"Written: {args.output}/model.safetensors, card.json; 'fsl_mrs_dl {user} --model {args.output}' uses it.")


def _print_comparison(card) -> None:
    """Print the accuracy without the network, or that of the model of the package, for comparison."""
    from ..networks import model_cards

    if card.kind == "autoencoder":
        errors = [value for terms in card["accuracy"].values() for value in terms.values()]
        if max(errors) > 100:
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
