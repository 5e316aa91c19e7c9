"""The command ``fsl_mrs_dl dynamic``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from ..core.errors import OptionError, spelled
from .common import (
    add_common_arguments,
    add_format_arguments,
    axis_options,
    check_formats,
    check_output,
    check_times,
    given_files,
    progress_bar,
    read_data,
    read_water,
    say,
    str_or_int,
)

__all__ = ["add_arguments", "run"]

_OF_FSL_MRS = ("baseline", "metab_groups", "lorentzian", "free_shift", "inversion_model")
"""Options that only FSL-MRS's model has."""


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
        nargs="+",
        metavar="FILE",
        help="configuration in FSL-MRS's form: Parameters, Bounds and functions; it is read, not executed. Several are"
        " fitted to the same data and compared",
    )
    group = parser.add_argument_group("fitting options")
    group.add_argument(
        "--time_variables",
        nargs="+",
        metavar="FILE",
        default=[],
        help="b values, times or a design matrix: a row for each spectrum, .csv or text; several files are columns"
        " (default: the b values or times of the header)",
    )
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
        help=(
            "in-vivo (default for 1H series of the brain): baseline, macromolecules, lipids, line shape and shifts of"
            " single metabolites are estimated with priors, one set for the series; or fsl-mrs (default for all others,"
            " for volumes, and where an option of that model is given)"
        ),
    )
    group.add_argument(
        "--baseline",
        help="of FSL-MRS's model: 'off', 'poly, N' or 'spline, S', as in fit (default 'poly, 2')",
    )
    group.add_argument(
        "--mm", metavar="WHAT", help="macromolecules and lipids of the in-vivo model: brain (default), tumour or none"
    )
    group.add_argument(
        "--h2o",
        metavar="FILE",
        help="unsuppressed water of every spectrum, or one of all: corrects eddy currents where the evidence rises",
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
    _add_output_arguments(parser)
    add_format_arguments(group)
    parser.add_argument("--config", is_config_file=True, metavar="FILE", help="file with options, one a line")
    add_common_arguments(parser, device=False)
    parser.set_defaults(func=run)


def _add_output_arguments(parser) -> None:
    """Add the arguments of what is written beside the fit."""
    group = parser.add_argument_group("results")
    group.add_argument(
        "--derived",
        nargs="+",
        metavar="TEXT",
        default=[],
        help="quantities with SD, z and p in derived.csv, e.g. 'ratio = conc_NAA_c_adc / conc_Cr_c_adc'; conc_NAA[0] is"
        " the concentration in the first spectrum",
    )
    group.add_argument("--report", action="store_true", help="write an HTML report")


def _choose_model(args, stored, data) -> None:
    """Set the spectral model where none was asked for, and print why where it is not the in-vivo one."""
    from ..fitting.model_choice import usual_spectral_model

    if args.spectral_model is not None:
        return
    if prod(data.fids.shape[:3]) > 1:
        args.spectral_model, reason = "fsl-mrs", "the data are a volume"
    else:
        choice = usual_spectral_model(stored, data.dim_tags, {name: getattr(args, name) for name in _OF_FSL_MRS})
        args.spectral_model, reason = choice.name, choice.reason
    if reason:
        print(f"FSL-MRS's spectral model is fitted: {spelled(reason, args.spelling)}.")


def _options(args, basis):
    """Return the FitOptions of parsed arguments, checked."""
    from ..fitting.options import FitOptions

    check_times(args)
    times = {"echo_time_s": args.TE and args.TE / 1e3, "repetition_time_s": args.TR}
    if args.spectral_model == "in-vivo":
        for name in _OF_FSL_MRS:
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
    """Fit a series, with one configuration or several, and write the folder of results."""
    check_formats(axis_options(args), args.data, args.h2o)
    check_output(args, args.data)
    from ..dynamic.agreement import agreement_of
    from ..dynamic.comparison import compare_fits
    from ..dynamic.configuration import read_configuration
    from ..dynamic.data import fit_dynamic_data
    from ..fitting.data import check_reference, choose_basis
    from ..io import output as output_module
    from ..io.basis import Basis

    inputs = (args.data, *given_files(args))
    names = _names_of(args.dyn_config)
    configurations = [read_configuration(path, execute=args.execute_config) for path in args.dyn_config]
    data = read_data(args.data, axis_options(args))
    stored = Basis.load(args.basis, keep=args.keep, ignore=args.ignore)
    basis = choose_basis(stored, data)
    for note in basis.notes:
        print(f"{args.basis}: {note}.")
    _choose_model(args, stored, data)
    options = _options(args, basis)
    own = (
        "in-vivo model"
        if options.spectral_model == "in-vivo"
        else f"{options.model} model, baseline {options.baseline}"
    )
    say(args, f"Fitting with {basis.n_metabs} metabolites, {own}")
    how = {"average_over": args.average or (), "conjugate": args.conjfid}
    if prod(data.fids.shape[:3]) > 1:
        _check_volume(args)
        with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
            (folder / "options.txt").write_text(_options_text(args), encoding="utf-8")
            _map_volume(args, folder, data, basis, configurations[0], options, how)
        return
    if args.mask:
        raise OptionError("goes with volumes, and the data are one voxel", option="mask", remedy="leave it out")
    water, _ = read_water(args.h2o, axis_options(args))
    if water is not None:
        check_reference(water, data)
    wanted = _Definitions(args.derived, names)

    def fitted(name: str, correct: bool | None = None):
        settings: dict = {"water": water, "correct": correct, "when_mapped": wanted.checker(name), **how}
        return fit_dynamic_data(data, basis, by_name[name], args.time_variables, options, **settings)

    by_name = dict(zip(names, configurations))
    all_results = _alike({name: fitted(name) for name in names}, fitted)
    comparison = compare_fits({name: one.fit for name, one in all_results.items()}) if len(names) > 1 else None
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        derived = _write(args, folder, all_results, comparison, wanted)
    print(_notes_of(next(iter(all_results.values())).notes, args), end="")
    for name, results in all_results.items():
        if comparison is not None:
            print(f"\n{name}:")
        print(_table(results.fit))
        if results.water_note:
            print(f"{args.h2o}: {results.water_note}.")
        print(_derived_lines(derived[name]), end="")
        for line in agreement_of(results.fit).lines():
            print(spelled(line, args.spelling))
    if comparison is not None:
        print("".join(wanted.notes()), end="")
        print(f"\n{_compared(comparison)}")
        print(f"{comparison.words} Each one has a folder in {args.output}/configurations.")
    print(f"Written: {args.output}/ with {_written(args, comparison)}")


def _alike(all_results: dict, fitted: Callable) -> dict:
    """Return the fits with all configurations, of the same data: where water makes only some of them better, all are
    corrected, or not, as the one of highest evidence is."""
    best = max(all_results.values(), key=lambda one: one.fit.information_criteria()["log evidence"])
    correct = best.eddy_currents_corrected
    return {
        name: one if one.eddy_currents_corrected == correct else fitted(name, correct)
        for name, one in all_results.items()
    }


class _Definitions:
    """Texts of derived quantities, and the faults that each of several configurations finds in them.

    A text that no configuration can evaluate is refused before the last one is fitted; one that some cannot is left out
    there.
    """

    def __init__(self, texts: Sequence[str], names: Sequence[str]):
        self.texts, self.names = list(texts), list(names)
        self.faults: dict[str, dict[str, OptionError]] = {}

    def checker(self, name: str) -> Callable:
        """Return what a fit with a configuration calls with its mapping."""
        from ..dynamic.derived import check_definitions

        def check(mapping) -> None:
            self.faults[name] = check_definitions(mapping, self.texts)
            for text in self.texts:
                found = [faults[text] for faults in self.faults.values() if text in faults]
                if len(found) == len(self.names):
                    raise found[0]

        return check

    def known_in(self, name: str) -> list[str]:
        """Return the texts that a configuration can evaluate."""
        return [text for text in self.texts if text not in self.faults[name]]

    def notes(self) -> list[str]:
        """Return a line for each text that a configuration leaves out."""
        return [
            f"--derived '{text}' is left out in {name}: {fault.problem}.\n"
            for name, faults in self.faults.items()
            for text, fault in faults.items()
        ]


def _notes_of(notes: Sequence[str], args) -> str:
    """Return remarks on a fit for the terminal, a line each."""
    return "".join(f"{spelled(note, args.spelling)}.\n" for note in notes)


def _compared(comparison) -> str:
    """Return the comparison of configurations for the terminal."""
    table = comparison.table()
    rows = [["", "parameters", "AIC diff.", "BIC diff.", "log evidence diff.", "probability", "converged"]]
    for name, one in table.iterrows():
        figures = [f"{one[key]:.1f}" for key in ("AIC difference", "BIC difference", "log evidence difference")]
        probability = f"{one['probability']:.2g}" if np.isfinite(one["probability"]) else "-"
        last = [probability, "yes" if one["converged"] else "NO"]
        rows.append([str(name), str(one["free parameters"]), *figures, *last])
    width = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        f"{row[0]:{width[0]}}  " + "  ".join(f"{cell:>{wide}}" for cell, wide in zip(row[1:], width[1:]))
        for row in rows
    )


def _check_volume(args) -> None:
    """Raise OptionError for options that go with one voxel only."""
    for name in ("derived", "report", "h2o"):
        if getattr(args, name):
            raise OptionError("goes with one voxel, and the data are a volume", option=name, remedy="leave it out")
    if len(args.dyn_config) > 1:
        raise OptionError("several are compared on one voxel, and the data are a volume", option="dyn_config")


def _options_text(args) -> str:
    """Return the content of options.txt."""
    import json

    hidden = ("func", "format_values", "spelling", "words", "main")
    values = {key: value for key, value in vars(args).items() if key not in hidden}
    return f"{json.dumps(values, default=str)}\n--------\n{args.format_values()}"


def _names_of(paths) -> list[str]:
    """Return a name for each configuration: that of its file, numbered where two files have the same."""
    stems = [Path(path).stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}_{number}" for number, stem in enumerate(stems, start=1)]


def _write(args, folder: Path, all_results: dict, comparison, wanted: _Definitions) -> dict:
    """Write the files of all configurations into a folder; return the derived quantities of each."""
    from ..results.dynamic import write_dynamic

    text = _options_text(args)
    derived = {}
    if comparison is not None:
        comparison.table().to_csv(folder / "comparison.csv")
        (folder / "options.txt").write_text(text, encoding="utf-8")
    for (name, results), path in zip(all_results.items(), args.dyn_config):
        place = folder if comparison is None else folder / "configurations" / name
        place.mkdir(parents=True, exist_ok=True)
        derived[name] = write_dynamic(place, results, text, wanted.known_in(name))
        if args.report:
            from ..results.reports.dynamic import write_dynamic_report

            read = [("Data", args.data), ("Basis", args.basis), ("Configuration", path)]
            read.append(("Time variables", ", ".join(args.time_variables) or results.time_name))
            write_dynamic_report(place / "report.html", results, derived[name], inputs=read, comparison=comparison)
    return derived


def _written(args, comparison) -> str:
    """Return the names of the main files."""
    names = ["free_parameters.csv", "mapped_parameters.csv", "dyn_parameters.png"]
    names = ["comparison.csv"] if comparison is not None else names + ["report.html"] * args.report
    return f"{', '.join(names)} and more"


def _derived_lines(quantities) -> str:
    """Return derived quantities for the terminal, a line each; without z and p where the fit has not converged."""
    from ..results.dynamic import p_text

    width = max((len(one.name) for one in quantities), default=0)
    lines = []
    for one in quantities:
        text = f" +- {one.sd:.2g}" if np.isfinite(one.sd) else ", undetermined"
        if np.isfinite(one.sd) and np.isfinite(one.p):
            text += f"  (z {one.z:.2f}, p {p_text(one.p)})"
        lines.append(f"{one.name:{width}}  {one.value:.4g}{text}\n")
    return "".join(lines)


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
    print(_notes_of(volume.notes, args), end="")
    print(f"{len(maps.places)} voxels have a fit{n_left_out}")
    if maps.unusable_note:
        print(spelled(maps.unusable_note, args.spelling))
    print(f"Written: {args.output}/ with maps of the free parameters (mean, sd, var), qc, and voxels/ with tables")


def _table(fit) -> str:
    """Return the free parameters of the concentrations for the terminal, with SDs, and the quality of the fit."""
    cells: dict[str, dict[str, str]] = {}
    at_bound = (fit.x <= fit.mapping.lower.numpy()) | (fit.x >= fit.mapping.upper.numpy())
    for one, value, sd, held in zip(fit.mapping.free, fit.x, fit.sd, at_bound):
        if one.category == "conc" and one.time is None:
            text = f"{value:.4g} +- {sd:.2g}" if np.isfinite(sd) else f"{value:.4g}, undetermined"
            text += " *" if held else ""
            cells.setdefault(str(one.member), {})[one.role or "conc"] = text
    roles = list(dict.fromkeys(role for row in cells.values() for role in row))
    width = {role: max(len(role), *(len(row.get(role, "-")) for row in cells.values())) for role in roles}
    first = max([10, *(len(name) for name in cells)])
    lines = [f"{'':{first}}  " + "  ".join(f"{role:>{width[role]}}" for role in roles)] if cells else []
    for name, row in cells.items():
        lines.append(f"{name:{first}}  " + "  ".join(f"{row.get(role, '-'):>{width[role]}}" for role in roles))
    if any("*" in text for row in cells.values() for text in row.values()):
        lines.append("* at one of its bounds")
    own = fit.information_criteria()
    lines.append(
        f"{fit.spectra.shape[0]} spectra, {len(fit.names)} free parameters, AIC {own['AIC']:.1f}, BIC {own['BIC']:.1f},"
        f" log evidence {own['log evidence']:.1f}"
    )
    return "\n".join(lines)
