"""The command ``fsl_mrs_dl dynamic``."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ..core.errors import OptionError
from .common import (
    add_common_arguments,
    add_format_arguments,
    axis_options,
    progress_bar,
    read_data,
    say,
    str_or_int,
)

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    required = parser.add_argument_group("required arguments")
    required.add_argument("--data", required=True, metavar="FILE", help="NIfTI-MRS file with a series of spectra")
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    required.add_argument(
        "--dyn_config",
        required=True,
        metavar="FILE",
        help="configuration in FSL-MRS's form: Parameters, Bounds and functions; it is read, not executed",
    )
    required.add_argument(
        "--time_variables",
        required=True,
        nargs="+",
        metavar="FILE",
        help="b values, times or a design matrix: a row for each spectrum, .csv or text; several files are columns",
    )
    group = parser.add_argument_group("fitting options")
    group.add_argument(
        "--execute-config",
        dest="execute_config",
        action="store_true",
        help="execute the configuration as Python, which can do anything; for files that cannot be read otherwise",
    )
    group.add_argument(
        "--mask", metavar="FILE", help="of a volume, the voxels to fit (a NIfTI image); by default all of them"
    )
    group.add_argument("--average", nargs="+", metavar="DIM", help="average over these dimensions first, e.g. DIM_DYN")
    group.add_argument("--ignore", nargs="+", metavar="METAB", help="leave these metabolites out")
    group.add_argument("--keep", nargs="+", metavar="METAB", help="fit only these metabolites")
    group.add_argument(
        "--ppmlim", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fitted window (default: the nucleus' usual one)"
    )
    group.add_argument(
        "--spectral-model",
        dest="spectral_model",
        metavar="NAME",
        default="fsl-mrs",
        help=(
            "fsl-mrs (default), or in-vivo: baseline, macromolecules, lipids, line shape and shifts of single"
            " metabolites are estimated with priors, one set for the series; the configuration says what changes"
        ),
    )
    group.add_argument(
        "--baseline",
        help="of FSL-MRS's model: 'off', 'poly, N' or 'spline, S', as in fit (default 'poly, 2')",
    )
    group.add_argument(
        "--mm", metavar="WHAT", help="macromolecules and lipids of the in-vivo model: brain (default), tumour or none"
    )
    group.add_argument("--TE", type=float, metavar="MS", help="echo time, where the header has none")
    group.add_argument("--TR", type=float, metavar="S", help="repetition time, where the header has none")
    group.add_argument(
        "--metab_groups", nargs="+", type=str_or_int, help="metabolites with shift and width of their own"
    )
    group.add_argument("--lorentzian", action="store_true", help="Lorentzian broadening only (default Voigt)")
    group.add_argument("--free_shift", action="store_true", help="let every metabolite shift on its own")
    group.add_argument(
        "--inversion_model", action="store_true", help="let concentrations of single fits be negative (Voigt only)"
    )
    group.add_argument("--no_rescale", action="store_true", help="leave the scale of data and basis as it is")
    group.add_argument("--conj_fid", dest="conjfid", action="store_true", default=None, help="conjugate the FIDs")
    group.add_argument("--no_conj_fid", dest="conjfid", action="store_false", help="never conjugate the FIDs")
    add_format_arguments(group)
    parser.add_argument("--config", is_config_file=True, metavar="FILE", help="file with options, one a line")
    add_common_arguments(parser, device=False)
    parser.set_defaults(func=run)


def _options(args, basis):
    """Return the FitOptions of parsed arguments, checked."""
    from ..fitting.options import FitOptions

    times = {"echo_time_s": args.TE and args.TE / 1e3, "repetition_time_s": args.TR}
    if args.spectral_model == "in-vivo":
        for name in ("baseline", "metab_groups", "lorentzian", "free_shift", "inversion_model"):
            if getattr(args, name):
                raise OptionError(
                    "belongs to FSL-MRS's model", option=name, remedy="leave it out, or choose `spectral_model` fsl-mrs"
                )
        return FitOptions(
            spectral_model="in-vivo",
            mm=args.mm,
            ppmlim=args.ppmlim,
            rescale=not args.no_rescale,
            prior="auto",
            device="cpu",
            internal_ref=(),
            **times,
        ).check()
    if args.mm:
        raise OptionError("belongs to the in-vivo model", option="mm", remedy="choose `spectral_model` in-vivo")
    if args.inversion_model and (args.lorentzian or args.free_shift):
        raise OptionError("goes with the Voigt model only", option="inversion_model", remedy="leave out the others")
    shape = "lorentzian" if args.lorentzian else "voigt"
    if args.free_shift:
        shape = "free_shift_lorentzian" if args.lorentzian else "free_shift"
    return FitOptions(
        model="negativevoigt" if args.inversion_model else shape,
        ppmlim=args.ppmlim,
        baseline=args.baseline or FitOptions.baseline,
        metab_groups=basis.groups(args.metab_groups),
        rescale=not args.no_rescale,
        prior="none",
        device="cpu",
        internal_ref=(),
        **times,
    ).check()


def run(args) -> None:
    """Fit a series and write the folder of results."""
    import json

    from ..dynamic.configuration import read_configuration
    from ..dynamic.data import fit_dynamic_data
    from ..fitting.data import choose_basis
    from ..io import output as output_module
    from ..io.basis import Basis
    from ..results.dynamic import write_dynamic

    inputs = tuple(name for name in (args.data, args.basis, args.dyn_config, *args.time_variables, args.mask) if name)
    output_module.new_output_folder(args.output, args.overwrite, inputs)
    configuration = read_configuration(args.dyn_config, execute=args.execute_config)
    data = read_data(args.data, axis_options(args))
    stored = Basis.load(args.basis, keep=args.keep, ignore=args.ignore)
    basis = choose_basis(stored, data)
    for note in basis.notes:
        print(f"{args.basis}: {note}.")
    options = _options(args, basis)
    own = (
        "in-vivo model"
        if options.spectral_model == "in-vivo"
        else f"{options.model} model, baseline {options.baseline}"
    )
    say(args, f"Fitting with {basis.n_metabs} metabolites, {own}")
    how = {"average_over": args.average or (), "conjugate": args.conjfid}
    hidden = ("func", "format_values", "spelling", "words", "main")
    values = {key: value for key, value in vars(args).items() if key not in hidden}
    text = f"{json.dumps(values, default=str)}\n--------\n{args.format_values()}"
    if prod(data.fids.shape[:3]) > 1:
        with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
            (folder / "options.txt").write_text(text, encoding="utf-8")
            _map_volume(args, folder, data, basis, configuration, options, how)
        return
    if args.mask:
        raise OptionError("goes with volumes, and the data are one voxel", option="mask", remedy="leave it out")
    results = fit_dynamic_data(data, basis, configuration, args.time_variables, options, **how)
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        write_dynamic(folder, results, text)
    print(_table(results.fit))
    print(f"Written: {args.output}/ with free_parameters.csv, mapped_parameters.csv, dyn_parameters.png and more")


def _map_volume(args, folder: Path, data, basis, configuration, options, how: dict) -> None:
    """Fit the voxels of a volume, and write their tables and maps into a folder."""
    from ..dynamic.volume import fit_dynamic_volume
    from ..io.volume import read_mask
    from ..results.dynamic_maps import DynamicMaps

    grid = data.fids.shape[:3]
    mask = read_mask(args.mask, grid, data) if args.mask else None
    maps = DynamicMaps(folder)
    with progress_bar(prod(grid) if mask is None else int(mask.sum()), "voxels") as advance:
        volume = fit_dynamic_volume(
            data,
            basis,
            configuration,
            args.time_variables,
            options,
            keep=maps.keep,
            mask=mask,
            progress=advance,
            **how,
        )
    maps.write(volume)
    n_left_out = f"; {len(volume.left_out)} have none (left_out.txt)" if volume.left_out else ""
    print(f"{len(maps.places)} voxels have a fit{n_left_out}")
    print(f"Written: {args.output}/ with maps of the free parameters (mean, sd, var), qc, and voxels/ with tables")


def _table(fit) -> str:
    """Return the free parameters of the concentrations for the terminal, with SDs, and the quality of the fit."""
    cells: dict[str, dict[str, str]] = {}
    for one, value, sd in zip(fit.mapping.free, fit.x, fit.sd):
        if one.category == "conc" and one.time is None:
            cells.setdefault(str(one.member), {})[one.role or "conc"] = f"{value:.4g} +- {sd:.2g}"
    roles = list(dict.fromkeys(role for row in cells.values() for role in row))
    width = {role: max(len(role), *(len(row.get(role, "-")) for row in cells.values())) for role in roles}
    first = max([10, *(len(name) for name in cells)])
    lines = [f"{'':{first}}  " + "  ".join(f"{role:>{width[role]}}" for role in roles)] if cells else []
    for name, row in cells.items():
        lines.append(f"{name:{first}}  " + "  ".join(f"{row.get(role, '-'):>{width[role]}}" for role in roles))
    own = fit.information_criteria()
    lines.append(
        f"{fit.spectra.shape[0]} spectra, {len(fit.names)} free parameters, AIC {own['AIC']:.1f}, BIC {own['BIC']:.1f},"
        f" log evidence {own['log evidence']:.1f}"
    )
    if not fit.solution.converged:
        lines.append(f"The fit has not converged: it is {fit.solution.distance:.2g} SD away from a minimum.")
    return "\n".join(lines)
