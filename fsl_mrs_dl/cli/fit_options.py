"""Options that ``fit`` and ``mrsi`` share: their arguments, their checks, and what they are turned into."""

from __future__ import annotations

import json

import configargparse

from ..core.errors import OptionError

# Options of fsl_mrs for what only FSL-MRS does.
_SCALING = (
    "h2o",
    "tissue_frac",
    "t1-values",
    "t2-values",
    "wref_metabolite",
    "ref_protons",
    "ref_int_limits",
    "h2o_scale",
)


_SAMPLING = ("mh_samples", "disable_MH_priors")


def _str_or_int(text: str) -> str | int:
    try:
        return int(text)
    except ValueError:
        return text


def _fitting_options(group) -> None:
    """What is fitted, and how: the same for one spectrum and for a volume."""
    group.add_argument("--ignore", nargs="+", metavar="METAB", help="leave these metabolites out")
    group.add_argument("--keep", nargs="+", metavar="METAB", help="fit only these metabolites")
    group.add_argument(
        "--combine", nargs="+", action="append", metavar="METAB", help="report the sum of these [repeatable]"
    )
    group.add_argument(
        "--ppmlim", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fitted window (default: the nucleus' usual one)"
    )
    group.add_argument(
        "--baseline",
        default="poly, 2",
        help=(
            "'off', 'poly, N', or 'spline, S' with S one of very-stiff, stiff, moderate, flexible, very-flexible, or an"
            " effective dimension of at least 2 (default 'poly, 2')"
        ),
    )
    group.add_argument(
        "--metab_groups", nargs="+", type=_str_or_int, help="metabolites with shift and width of their own"
    )
    group.add_argument("--lorentzian", action="store_true", help="Lorentzian broadening only (default Voigt)")
    group.add_argument("--free_shift", action="store_true", help="let every metabolite shift on its own")
    group.add_argument("--negative", action="store_true", help="let concentrations be negative")
    group.add_argument(
        "--ind_scale", nargs="+", metavar="METAB", help="basis spectra to scale independently of the others"
    )
    group.add_argument(
        "--starter",
        metavar="NAME",
        help="what proposes the starts: classical, network or together (default: as the data allow)",
    )
    group.add_argument(
        "--model", dest="dl_model", metavar="NAME", help="trained network that proposes them, by name or folder"
    )
    group.add_argument(
        "--estimate",
        default="ml",
        metavar="NAME",
        help="estimate that the tables hold: ml (default: maximum of the likelihood), posterior_mean or network",
    )
    group.add_argument(
        "--prior",
        default="auto",
        metavar="WHAT",
        help=(
            "what concentrations are expected, for posterior_mean: a recipe or a file, 'volume' to learn it from the"
            " spectra that are fitted, or none (default: normal-brain, if the basis set is a brain's)"
        ),
    )
    group.add_argument(
        "--mm",
        metavar="WHAT",
        help="macromolecules to add to the basis set: parametric, fsl-default, summed, or a file with measured ones",
    )


def _output_options(group) -> None:
    """What is reported, and how the data lie: the same for one spectrum and for a volume."""
    group.add_argument("--TE", type=float, help="echo time in ms, kept with the results (default: from the header)")
    group.add_argument(
        "--TR", type=float, help="repetition time in s, kept with the results (default: from the header)"
    )
    group.add_argument(
        "--internal_ref", nargs="+", default=["Cr", "PCr"], metavar="METAB", help="internal reference (default: Cr PCr)"
    )
    group.add_argument("--conj_fid", dest="conjfid", action="store_true", default=None, help="conjugate the FIDs")
    group.add_argument("--no_conj_fid", dest="conjfid", action="store_false", help="never conjugate the FIDs")
    group.add_argument("--conj_basis", dest="conjbasis", action="store_true", default=None, help="conjugate the basis")
    group.add_argument("--no_conj_basis", dest="conjbasis", action="store_false", help="never conjugate the basis")
    group.add_argument("--no_rescale", action="store_true", help="leave the scale of data and basis as it is")


def _hidden_arguments(parser) -> None:
    # FSL-MRS's words, understood or answered but not advertised; in configuration files too.
    hidden = {"help": configargparse.SUPPRESS}
    parser.add_argument("--algo", **hidden)
    parser.add_argument("--baseline_order", type=int, **hidden)
    for name in ("starter", "estimate", "prior", "device"):
        parser.add_argument(f"--dl-{name}", dest=name, default=configargparse.SUPPRESS, **hidden)
    parser.add_argument("--dl-model", **hidden)
    for name in (*_SCALING, *_SAMPLING):
        parser.add_argument(f"--{name}", nargs="*", **hidden)


def _check_fsl_mrs_words(args) -> None:
    """Raise OptionError for what only FSL-MRS does; translate what it says otherwise."""
    from ..fslmrs.plugin import DlQuant

    if args.algo not in (None, DlQuant.name):
        raise OptionError(
            f"--algo {args.algo}: needs FSL-MRS, --algo {DlQuant.name} does not; give that, or run 'fsl_mrs --algo"
            f" {args.algo}' where FSL-MRS is installed.{args.advice}"
        )
    for names, what in ((_SCALING, "water-scaled quantification"), (_SAMPLING, "Metropolis Hastings fits")):
        for name in names:
            if getattr(args, name.replace("-", "_")) is not None:
                raise OptionError(
                    f"--{name}: needs FSL-MRS, which does {what}; leave --{name} out, or run 'fsl_mrs --algo"
                    f" {DlQuant.name} --data ... --basis ... --output ... --{name} ...' where FSL-MRS is"
                    f" installed.{args.advice}"
                )
    if args.baseline_order is not None:
        args.baseline = f"poly, {args.baseline_order}"


def _options_text(args, warning: str = "") -> str:
    """Content of options.txt, with what is to be said of the network."""
    known = {k: v for k, v in vars(args).items() if k not in ("func", "format_values", "advice", "prefix", "words")}
    denoised = getattr(args, "denoised", "")
    note = "".join(f"--------\nWarning: {text}\n" for text in (f"{denoised}." if denoised else "", warning) if text)
    return f"{json.dumps(known, default=str)}\n--------\n{args.format_values()}{note}"


def _chosen_basis(args, data):
    """The basis set with what the options say of it, and the group of each metabolite."""
    from dataclasses import replace

    from ..io import basis as basis_module

    basis = basis_module.Basis.load(args.basis)
    if args.conjbasis is not None:
        turned = bool(basis.notes)
        if turned != args.conjbasis:
            basis = replace(basis, fids=basis.fids.conj(), notes=())
    for note in basis.notes:
        print(f"{args.basis}: {note}.")
    basis.check_match(data.spec_freq_mhz, data.nucleus, str(args.data))
    basis = basis.select(args.keep, args.ignore)
    if args.mm:
        from ..physics.macromolecules import add_macromolecules

        basis = add_macromolecules(basis, args.mm)
    groups = basis.groups(args.metab_groups)
    default_mm = [n for n in basis.names if n[:2] == "MM" and n[2:].isdigit() and len(n) == 4]
    if default_mm and len(set(groups)) == 1:
        print(
            f"The basis holds {', '.join(default_mm)}; it is recommended to give each a group: --metab_groups"
            f" {' '.join(default_mm)}"
        )
    return basis, groups


def _checked_options(args, basis):
    """Name of the model, sums of metabolites, and our own options."""
    from ..fitting.options import DlOptions

    model = "lorentzian" if args.lorentzian else "voigt"
    if args.free_shift:
        model = "free_shift_lorentzian" if args.lorentzian else "free_shift"
    if args.negative:
        if model != "voigt":
            raise OptionError("--negative: goes with the Voigt model only; leave out --lorentzian and --free_shift.")
        model = "negativevoigt"
    missing = [name for name in args.internal_ref if name not in basis.names]
    if missing and args.internal_ref != ["Cr", "PCr"]:
        raise OptionError(f"--internal_ref {missing[0]}: is not fitted; there are {', '.join(basis.names)}.")
    # 'GPC+PCh' is one sum in one word, the form a configuration file can hold: combine = [GPC+PCh, Glu+Gln]
    sums = ["+".join(names).split("+") for names in args.combine or ()]
    for names in sums:
        if len(names) < 2:
            raise OptionError(
                f"--combine {names[0]}: a sum needs two metabolites; write --combine GPC PCh, or GPC+PCh in a file."
            )
        for name in names:
            if name not in basis.names:
                raise OptionError(f"--combine {name}: is not fitted; there are {', '.join(basis.names)}.")
    chosen = DlOptions(
        starter=args.starter, model=args.dl_model, estimate=args.estimate, prior=args.prior, device=args.device
    )
    chosen.check(prefix=args.prefix)
    return model, ["+".join(names) for names in sums], chosen
