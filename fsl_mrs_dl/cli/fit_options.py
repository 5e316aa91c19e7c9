"""Options that ``fit`` and ``mrsi`` share: their arguments, and the FitOptions made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import configargparse

from ..core.errors import OptionError, spelled
from ..core.metabolites import name_among
from .common import check_times, str_or_int

if TYPE_CHECKING:
    from ..io.basis import Basis
    from ..io.edited_basis import EditedBasis

__all__ = [
    "add_fitting_options",
    "add_output_options",
    "add_hidden_arguments",
    "check_fsl_mrs_options",
    "check_macromolecule_file",
    "chosen_basis",
    "fit_options",
    "options_text",
]

# Options of fsl_mrs for jobs that this package does not do.
_SAMPLING = ("mh_samples", "disable_MH_priors")


def add_fitting_options(group) -> None:
    """Add the options of the fit, which are the same for one spectrum and for a volume."""
    group.add_argument("--ignore", nargs="+", metavar="METAB", help="leave these metabolites out")
    group.add_argument("--keep", nargs="+", metavar="METAB", help="fit only these metabolites")
    group.add_argument(
        "--combine", nargs="+", action="append", metavar="METAB", help="report the sum of these [repeatable]"
    )
    group.add_argument(
        "--ppmlim", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fitted window (default: the nucleus' usual one)"
    )
    group.add_argument(
        "--spectral-model",
        dest="spectral_model",
        metavar="NAME",
        help=(
            "in-vivo (default for 1H spectra of the brain): baseline, macromolecules, lipids, line shape and shifts of"
            " single metabolites are estimated with priors, and need no options; or fsl-mrs (default for all others,"
            " and where an option of that model is given)"
        ),
    )
    _add_options_of_fsl_mrs_model(group)
    group.add_argument(
        "--mm",
        metavar="WHAT",
        help=(
            "macromolecules to add to the basis set: parametric, fsl-default, summed, or a file with measured ones; of"
            " the in-vivo model also brain (default), tumour or none"
        ),
    )
    _add_initial_values(group)
    group.add_argument(
        "--estimate",
        metavar="NAME",
        help=(
            "estimate in the tables: ml (maximum of the likelihood, default of the fsl-mrs model), in-vivo (default of"
            " the in-vivo model), posterior_mean or network"
        ),
    )
    group.add_argument(
        "--prior",
        default="auto",
        metavar="WHAT",
        help=(
            "expected concentrations, for posterior_mean: a recipe or a file, 'volume' to learn them from the spectra"
            " that are fitted (fsl-mrs model, which is fitted where one is given; default: normal-brain, if the basis"
            " set is a brain's), or none; the in-vivo model has wide priors of its own, which none leaves out"
        ),
    )
    group.add_argument(
        "--edit-mode",
        dest="edit_mode",
        default="joint",
        metavar="NAME",
        help=(
            "edited data and a basis set with their conditions: joint (default) fits all sub-spectra together;"
            " difference, or GABA or GSH of HERMES, fits that combination with FSL-MRS's model"
        ),
    )
    group.add_argument(
        "--edit-conditions",
        dest="edit_conditions",
        nargs="+",
        metavar="NAME",
        help="conditions in the order of the data, e.g. on off (default: recognised)",
    )
    group.add_argument(
        "--soft_constraints",
        action="store_true",
        help="hold GABA, Asp, Glc, GSH, Scyllo and Tau by ratios of the literature, as LCModel does (in-vivo model)",
    )


def _add_initial_values(group) -> None:
    """Add the options of initial values."""
    group.add_argument(
        "--init",
        metavar="NAME",
        help=(
            "initial values: classical, network or both (fsl-mrs model, which is fitted where one is given; default: as"
            " the data allow)"
        ),
    )
    group.add_argument(
        "--model",
        dest="network",
        metavar="NAME",
        help="trained network that proposes them, by name or folder (fsl-mrs model, which is fitted where it is given)",
    )


def _add_options_of_fsl_mrs_model(group) -> None:
    """Add the options that only FSL-MRS's model has."""
    group.add_argument(
        "--baseline",
        help=(
            "'off', 'poly, N', or 'spline, S' with S one of very-stiff, stiff, moderate, flexible, very-flexible, or an"
            " effective dimension of at least 2 (fsl-mrs model only; default 'poly, 2')"
        ),
    )
    group.add_argument(
        "--metab_groups",
        nargs="+",
        type=str_or_int,
        help="metabolites with shift and width of their own (fsl-mrs model)",
    )
    group.add_argument(
        "--lorentzian", action="store_true", help="Lorentzian broadening only (fsl-mrs model; default Voigt)"
    )
    group.add_argument(
        "--free_shift", action="store_true", help="let every metabolite shift on its own (fsl-mrs model)"
    )
    group.add_argument(
        "--negative",
        action="store_true",
        help="let concentrations be negative, about the phase of the data (fsl-mrs model)",
    )
    group.add_argument(
        "--ind_scale",
        nargs="+",
        metavar="METAB",
        help="basis spectra to scale independently of the others (fsl-mrs model)",
    )


def add_output_options(group) -> None:
    """Add the options of reports and of the data's convention, which are the same for one spectrum and for a volume."""
    group.add_argument(
        "--TE",
        type=float,
        metavar="MS",
        help="echo time in ms (default: from the header); the in-vivo model weights macromolecules for it",
    )
    group.add_argument(
        "--TR", type=float, metavar="S", help="repetition time in s (default: from the header), likewise"
    )
    group.add_argument(
        "--internal_ref", nargs="+", default=["Cr", "PCr"], metavar="METAB", help="internal reference (default: Cr PCr)"
    )
    group.add_argument("--conj_fid", dest="conjfid", action="store_true", default=None, help="conjugate the FIDs")
    group.add_argument("--no_conj_fid", dest="conjfid", action="store_false", help="never conjugate the FIDs")
    group.add_argument("--conj_basis", dest="conjbasis", action="store_true", default=None, help="conjugate the basis")
    group.add_argument("--no_conj_basis", dest="conjbasis", action="store_false", help="never conjugate the basis")
    group.add_argument("--no_rescale", action="store_true", help="leave the scale of data and basis as it is")


def add_hidden_arguments(parser) -> None:
    """Add FSL-MRS's options that are accepted or refused with advice, but not listed in the help."""
    hidden = {"help": configargparse.SUPPRESS}
    parser.add_argument("--algo", **hidden)
    parser.add_argument("--baseline_order", type=int, **hidden)
    parser.add_argument("--dl-soft-constraints", dest="soft_constraints", action="store_true", **hidden)
    for name in ("init", "estimate", "prior", "device", "mm"):
        parser.add_argument(f"--dl-{name}", dest=name, default=configargparse.SUPPRESS, **hidden)
    parser.add_argument("--dl-model", dest="network", default=configargparse.SUPPRESS, **hidden)
    parser.add_argument("--dl-spectral-model", dest="spectral_model", default=configargparse.SUPPRESS, **hidden)
    for name in _SAMPLING:
        parser.add_argument(f"--{name}", nargs="*", **hidden)


def check_fsl_mrs_options(args) -> None:
    """Raise OptionError for options of jobs that only FSL-MRS does; translate those that have another form here."""
    from ..fslmrs.plugin import DlQuant

    if args.algo not in (None, DlQuant.name):
        raise OptionError(
            f"needs FSL-MRS, `algo` {DlQuant.name} does not",
            option="algo",
            value=args.algo,
            remedy=f"give that, or run 'fsl_mrs --algo {args.algo}' where FSL-MRS is installed.{args.advice}",
        )
    for name in _SAMPLING:
        if getattr(args, name.replace("-", "_")) is not None:
            _refuse(name, "Metropolis Hastings fits", args)
    if args.baseline_order is not None:
        args.baseline = f"poly, {args.baseline_order}"
    check_macromolecule_file(args)


def check_macromolecule_file(args, data=None) -> None:
    """Raise an error for macromolecules that cannot be added to a basis set, before there is one."""
    from pathlib import Path

    from ..physics.in_vivo_components import MACROMOLECULE_PRESETS
    from ..physics.macromolecules import check_macromolecules
    from ..physics.spinsim import MACROMOLECULE_KINDS

    if args.mm is None or args.mm in MACROMOLECULE_PRESETS:
        return
    if args.mm not in MACROMOLECULE_KINDS and not Path(args.mm).exists():
        there = (*(MACROMOLECULE_PRESETS if args.spectral_model != "fsl-mrs" else ()), *MACROMOLECULE_KINDS)
        raise OptionError("no such file", option="mm", value=args.mm, remedy=f"give one, or one of {', '.join(there)}")
    check_macromolecules(args.mm, data)


def _refuse(name: str, what: str, args, otherwise: str = "") -> None:
    """Raise OptionError for an option of a job that only FSL-MRS does."""
    from ..fslmrs.plugin import DlQuant

    option = name.replace("-", "_")
    raise OptionError(
        f"needs FSL-MRS, which does {what}",
        option=option,
        remedy=(
            f"{otherwise}leave `{option}` out, or run 'fsl_mrs --algo {DlQuant.name} --data ... --basis ... --output"
            f" ... --{name} ...' where FSL-MRS is installed.{args.advice}"
        ),
    )


def options_text(args, basis, options, warning: str = "") -> str:
    """Return the content of options.txt, with a remark on the network.

    The first line is for programs that compute the fit again, from the basis set that is beside it: metabolites have
    its names, and it is chosen and oriented already.  What was asked for stands below.
    """
    hidden = ("func", "format_values", "advice", "spelling", "words", "main")
    values = {key: value for key, value in vars(args).items() if key not in hidden}
    values |= {"keep": None, "ignore": None, "conjbasis": False, "baseline": options.baseline}
    if options.spectral_model == "in-vivo":
        from ..results.layout import IN_VIVO_BASELINE

        # Its baseline is none of FSL-MRS's; programs of FSL-MRS take an order below zero for that.
        values |= {"baseline": IN_VIVO_BASELINE, "baseline_order": -1}
    values["combine"] = [total.split("+") for total in options.combine] or None
    if options.metab_groups is not None:
        values["metab_groups"] = list(options.metab_groups)
    if options.ind_scale:
        values["ind_scale"] = [name_among(name, basis.names) for name in options.ind_scale]
    denoised = getattr(args, "denoised", "")
    note = "".join(f"--------\nWarning: {text}\n" for text in (f"{denoised}." if denoised else "", warning) if text)
    return f"{json.dumps(values, default=str)}\n--------\n{args.format_values()}{note}"


def chosen_basis(args, data, simulated: Basis | EditedBasis | None = None, *, of_conditions: bool = True):
    """Return the basis set to fit, that of the arguments or a ``simulated`` one, and print repairs and advice.

    Those of edit conditions are refused unless ``of_conditions`` is set.
    """
    from ..fitting.data import choose_basis
    from ..fitting.dependent_spectra import dependence_notes
    from ..io.basis import Basis
    from ..io.edited_basis import EditedBasis, load_basis

    read = load_basis if of_conditions else Basis.load
    stored = simulated or read(args.basis, keep=args.keep, ignore=args.ignore)
    if isinstance(stored, EditedBasis):
        return _chosen_edited_basis(args, stored, data)
    for note in stored.notes:
        if "conjugate" not in note or args.conjbasis is None or stored.conjugated == args.conjbasis:
            print(f"{args.basis}: {note}.")
    if args.spectral_model is None:
        _choose_model(args, stored, data)
    mm = None if _own_macromolecules(args) else args.mm
    _check_preset(args)
    basis = choose_basis(stored, data, mm=mm, conjugate=args.conjbasis)
    for note in (note for note in basis.notes if note not in stored.notes):
        print(f"{args.basis}: {spelled(note, args.spelling)}.")
    for note in dependence_notes(basis):
        print(f"{args.basis}: {spelled(note, args.spelling)}")
    if args.spectral_model == "in-vivo":
        return basis
    default_mm = [name for name in basis.names if name[:2] == "MM" and name[2:].isdigit() and len(name) == 4]
    if default_mm and len(set(basis.groups(args.metab_groups))) == 1:
        print(
            f"The basis contains {', '.join(default_mm)}; it is recommended to give each a group: --metab_groups"
            f" {' '.join(default_mm)}"
        )
    return basis


def _chosen_edited_basis(args, stored, data):
    """Return the basis sets of all conditions to fit, and set the spectral model."""
    from ..fitting.data import choose_basis

    if args.spectral_model is None:
        args.spectral_model = "in-vivo" if args.edit_mode == "joint" else "fsl-mrs"
    mm = None if _own_macromolecules(args) else args.mm
    _check_preset(args)
    for note in dict.fromkeys(note for one in stored.sets for note in one.notes):
        print(f"{args.basis}: {note}.")
    return choose_basis(stored, data, mm=mm, conjugate=args.conjbasis)


def _choose_model(args, stored, data) -> None:
    """Set the spectral model where none was asked for, and print why where it is not the in-vivo one.

    Raises
    ------
    OptionError
    """
    from ..fitting.model_choice import usual_spectral_model
    from ..physics.spinsim import MACROMOLECULE_KINDS

    requests = {name: bool(getattr(args, name)) for name in _FSL_MRS_MODEL}
    requests["prior"] = args.prior not in ("auto", "none")
    requests["estimate"] = args.estimate in ("ml", "network")
    requests["mm"] = args.mm in MACROMOLECULE_KINDS
    requests["share_initial_values"] = bool(getattr(args, "share_initial_values", False))
    choice = usual_spectral_model(stored, data.dim_tags, requests)
    args.spectral_model = choice.name
    if choice.reason:
        print(f"FSL-MRS's spectral model is fitted: {spelled(choice.reason, args.spelling)}.")
    if choice.name == "fsl-mrs":
        _check_both_models(args, next((name for name, given in requests.items() if given), None))


def _check_both_models(args, of_fsl_mrs: str | None) -> None:
    """Raise OptionError for an option that only the in-vivo model has beside one that only FSL-MRS's has."""
    from ..physics.in_vivo_components import MACROMOLECULE_PRESETS

    of_in_vivo = {
        "soft_constraints": args.soft_constraints,
        "mm": args.mm in MACROMOLECULE_PRESETS,
        "estimate": args.estimate == "in-vivo",
    }
    for name, given in of_in_vivo.items():
        if given and of_fsl_mrs is not None:
            raise OptionError(
                f"belongs to the in-vivo model, and `{of_fsl_mrs}` to FSL-MRS's",
                option=name,
                remedy="leave one of them out",
            )


def fit_options(args, basis):
    """Return the FitOptions of parsed arguments, checked."""
    from ..fitting.fitted_data import with_names
    from ..fitting.options import FitOptions

    check_times(args)
    if args.spectral_model == "in-vivo":
        return _in_vivo_options(args, basis)
    # Of edited data the metabolites of all conditions are the same.
    plain = getattr(basis, "sets", (basis,))[0]
    model = "lorentzian" if args.lorentzian else "voigt"
    if args.free_shift:
        model = "free_shift_lorentzian" if args.lorentzian else "free_shift"
    if args.negative:
        if model != "voigt":
            raise OptionError(
                "goes with the Voigt model only", option="negative", remedy="leave out `lorentzian` and `free_shift`"
            )
        model = "negativevoigt"
    options = FitOptions(
        spectral_model=args.spectral_model,
        model=model,
        ppmlim=args.ppmlim,
        baseline=args.baseline or FitOptions.baseline,
        metab_groups=plain.groups(args.metab_groups),
        ind_scale=args.ind_scale or (),
        rescale=not args.no_rescale,
        internal_ref=args.internal_ref,
        # 'GPC+PCh' is one sum in one word, the form a configuration file can hold: combine = [GPC+PCh, Glu+Gln]
        combine=tuple("+".join(names) for names in args.combine or ()),
        init=args.init,
        network=args.network,
        prior=args.prior,
        soft_constraints=args.soft_constraints,
        estimate=args.estimate or "",
        device=args.device,
        **_of_editing(args),
    )
    return with_names(options, basis.names).check()


def _of_editing(args) -> dict:
    """Return the fit options of edited data."""
    conditions = getattr(args, "edit_conditions", None)
    return {
        "edit_mode": getattr(args, "edit_mode", "joint"),
        "edit_conditions": None if conditions is None else tuple(conditions),
    }


_FSL_MRS_MODEL = (
    "baseline",
    "metab_groups",
    "lorentzian",
    "free_shift",
    "negative",
    "ind_scale",
    "init",
    "network",
)
"""Options that choose FSL-MRS's model where no model is asked for; of these the in-vivo model takes `init` only."""


def _own_macromolecules(args) -> bool:
    """Tell whether the macromolecules asked for are a preset of the in-vivo model."""
    from ..physics.in_vivo_components import MACROMOLECULE_PRESETS

    return args.spectral_model == "in-vivo" and args.mm in MACROMOLECULE_PRESETS


def _check_preset(args) -> None:
    """Raise OptionError for macromolecules of the in-vivo model where another is fitted."""
    from ..physics.in_vivo_components import MACROMOLECULE_PRESETS
    from ..physics.spinsim import MACROMOLECULE_KINDS

    if args.spectral_model != "in-vivo" and args.mm in MACROMOLECULE_PRESETS:
        raise OptionError(
            "belongs to the in-vivo model",
            option="mm",
            value=args.mm,
            remedy=f"choose `spectral_model` in-vivo, or give one of {', '.join(MACROMOLECULE_KINDS)}",
        )


def _in_vivo_options(args, basis):
    """Return the FitOptions of the in-vivo model, checked."""
    from ..fitting.fitted_data import with_names
    from ..fitting.options import FitOptions

    for name in _FSL_MRS_MODEL:
        if getattr(args, name) and name != "init":
            raise OptionError(
                "belongs to FSL-MRS's model", option=name, remedy="leave it out, or choose `spectral_model` fsl-mrs"
            )
    options = FitOptions(
        spectral_model=args.spectral_model,
        mm=args.mm if _own_macromolecules(args) else None,
        echo_time_s=args.TE and args.TE / 1e3,
        repetition_time_s=args.TR,
        ppmlim=args.ppmlim,
        rescale=not args.no_rescale,
        internal_ref=args.internal_ref,
        combine=tuple("+".join(names) for names in args.combine or ()),
        init=args.init,
        prior=args.prior,
        soft_constraints=args.soft_constraints,
        estimate=args.estimate or "",
        device=args.device,
        **_of_editing(args),
    )
    return with_names(options, basis.names).check()
