"""The command ``fsl_mrs_dl``.  Nothing heavy is imported before the arguments are understood, so that help is quick."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import configargparse

from .. import __version__
from ..core.errors import DataError, FslMrsDlError, OptionError, OutputError
from ..fslmrs.plugin import add_align_arguments, add_denoise_arguments, align_options
from . import train

__all__ = ["main"]

# Options of fsl_mrs for what only FSL-MRS does.
_SCALING = ("h2o", "tissue_frac", "t1-values", "t2-values", "wref_metabolite", "ref_protons", "ref_int_limits", "h2o_scale")
_SAMPLING = ("mh_samples", "disable_MH_priors")


def main(argv: list[str] | None = None, prog: str | None = None, **defaults) -> int:
    """Run the command; the exit status is 0, 2 for what the user can mend, 1 for a fault of ours, 130 when interrupted.

    ``prog`` is what messages call the job, where it was started under another name, and ``defaults`` what its options are unless
    they are given.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    _Parser.read = ()
    parser, jobs = build_parser(prog)
    for job in jobs.values():
        job.set_defaults(**defaults)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        (parser if prog else _deepest(parser, argv)).error(f"unrecognized arguments: {' '.join(unknown)}")
    args.format_values = jobs[args.job].format_values
    args.words = argv
    if args.job in ("fit", "mrsi"):
        # Matrices are small and spectra are fitted side by side: threads within a product would be in each other's way.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    called = prog or f"fsl_mrs_dl {args.job}"
    try:
        return args.func(args) or 0
    except FslMrsDlError as exc:
        if args.debug:
            raise
        print(f"{called}: error: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as exc:
        print(f"\n{called}: {str(exc) or 'interrupted; nothing was written.'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as exc:
        if args.debug:
            raise
        print(f"{called}: failed: {type(exc).__name__}: {exc}. Run again with --debug to see where.", file=sys.stderr)
        return 1


class _Parser(configargparse.ArgParser):
    """A parser whose complaint is one line, and names the configuration file where there was one."""

    read: tuple[str, ...] = ()  # configuration files, by all parsers of a command together

    def __init__(self, *args, **kwargs):
        super().__init__(*args, config_file_open_func=self._opened, **kwargs)

    @staticmethod
    def _opened(name):
        file = open(name, encoding="utf-8")
        _Parser.read = (*_Parser.read, str(name))
        return file

    def error(self, message):
        if self.read:
            message = f"{message}, on the command line or in {', '.join(dict.fromkeys(self.read))}"
        self.exit(2, f"{self.prog}: error: {message} ('{self.prog} --help' lists the options)\n")


def _deepest(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.ArgumentParser:
    """The parser of the job that was called, whose help lists the options in question."""
    for word in argv:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                parser = action.choices[word]
                break
    return parser


# -- arguments -----------------------------------------------------------------------------------------------------


def build_parser(prog: str | None = None) -> tuple[configargparse.ArgParser, dict[str, configargparse.ArgParser]]:
    """The parser and its jobs' parsers by name; ``prog`` is what the jobs' help calls the command."""
    parser = _Parser(
        prog="fsl_mrs_dl",
        add_config_file_help=False,
        description="Align and quantify MR spectra: a start is proposed, the physical model decides.",
    )
    parser.add_argument("-v", "--version", action="version", version=__version__)
    jobs = parser.add_subparsers(title="jobs", required=True, dest="job", metavar="JOB")
    made = {}
    for name, help_text, fill in (
        ("align", "align transients in frequency and phase", _align_arguments),
        ("denoise", "take noise out of spectra with a trained network, to look at them", _denoise_arguments),
        ("fit", "quantify metabolites by linear-combination fitting", _fit_arguments),
        ("mrsi", "quantify every voxel of an MRSI volume and make maps", _mrsi_arguments),
        ("simulate", "simulate a basis set, a single-voxel acquisition, or MRSI of a head", _simulate_arguments),
        ("train", "train a network on simulated data or on yours", train.train_arguments),
        ("models", "list trained networks and show what they are for", train.models_arguments),
        ("benchmark", "measure accuracy and speed beside limits and other methods", train.benchmark_arguments),
        ("example", "run the main job on bundled example data", _example_arguments),
        ("view", "show results in FSLeyes: maps, spectra, uncertainties", _view_arguments),
        ("render", "draw results into a picture, without a screen", _render_arguments),
        ("doctor", "say what is installed and whether it works together with FSL-MRS", _doctor_arguments),
        ("hook", "switch what is added to FSL-MRS on or off", _hook_arguments),
        ("launchers", "make fsl_mrs and fsl_mrs_proc work where FSL-MRS is absent", _launchers_arguments),
    ):
        made[name] = jobs.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            add_config_file_help=False,
            **({"prog": prog} if prog else {}),
        )
        fill(made[name])
    return parser, made


def _common_arguments(parser, *, output: str = "output folder", device: bool = True) -> None:
    group = parser.add_argument_group("additional options")
    if device:
        group.add_argument("--device", default="auto", metavar="DEVICE", help="auto (default), cpu or cuda")
    group.add_argument("--overwrite", action="store_true", help=f"replace an existing {output}")
    group.add_argument("--verbose", action="store_true", help="say what is being done")
    group.add_argument("--debug", action="store_true", help="show where an error arose")


def _align_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument("--file", required=True, metavar="FILE", help="NIfTI-MRS file with transients, coils combined or not")
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("alignment options")
    add_align_arguments(group)
    group.add_argument("--filename", metavar="NAME", help="name of the aligned file (default: as --file)")
    group.add_argument("-r", "--generateReports", action="store_true", help="write an HTML report")
    group.add_argument("--allreports", action="store_true", help="write a report for every voxel and sub-spectrum")
    group.add_argument("--config", is_config_file=True, metavar="FILE", help="file with options, one a line: dim = DIM_DYN")
    _common_arguments(parser, output="aligned file")
    parser.set_defaults(func=_align)


def _denoise_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "--file", required=True, metavar="FILE", help="NIfTI-MRS file; every spectrum in it is denoised by itself"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    add_denoise_arguments(required)
    group = parser.add_argument_group("output options")
    group.add_argument("--filename", metavar="NAME", help="name of the denoised file (default: as --file)")
    group.add_argument("-r", "--generateReports", action="store_true", help="write an HTML report")
    # fsl_mrs_proc's word; there is one report.
    group.add_argument("--allreports", dest="generateReports", action="store_true", help=configargparse.SUPPRESS)
    group.add_argument("--config", is_config_file=True, metavar="FILE", help="file with options, one a line: model = my_denoiser")
    _common_arguments(parser, output="denoised file")
    parser.set_defaults(func=_denoise)


def _view_arguments(parser) -> None:
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of fsl_mrs_dl mrsi or fit, of fsl_mrsi or fsl_mrs")
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
    group.add_argument("--quantity", metavar="KEY", help="kind of map (default: conc-ml); a wrong one lists those there are")
    group.add_argument(
        "--slice", nargs=3, type=int, metavar=("X", "Y", "Z"), help="voxel of the results that the slices go through"
    )
    group.add_argument("--max_crlb", type=float, metavar="PERCENT", help="hide voxels whose Cramer-Rao bound is above it")
    group.add_argument("--no_fade", action="store_true", help="do not fade what is uncertain")
    group.add_argument(
        "--renderer",
        choices=("auto", "fsleyes", "matplotlib"),
        default="auto",
        help="auto (default) takes FSLeyes where it is installed",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_render)


def _doctor_arguments(parser) -> None:
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_doctor)


def _hook_arguments(parser) -> None:
    parser.add_argument(
        "action", choices=("on", "off", "status"), help="off keeps FSL-MRS as it is in this environment until on; status tells"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_hook)


def _launchers_arguments(parser) -> None:
    parser.add_argument(
        "action", choices=("add", "remove", "status"), help="add makes them unless there are some, remove takes ours away"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=_launchers)


def _str_or_int(text: str) -> str | int:
    try:
        return int(text)
    except ValueError:
        return text


def _fit_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument("--data", required=True, metavar="FILE", help="NIfTI-MRS file; every spectrum in it is fitted")
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("fitting options")
    _fitting_options(group)
    group.add_argument("--average", nargs="+", metavar="DIM", help="average over these dimensions first, e.g. DIM_DYN")
    group = parser.add_argument_group("output options")
    group.add_argument("--t1", metavar="IMAGE", help="structural image, for a picture of the voxel")
    _output_options(group)
    group.add_argument("--report", action="store_true", help="write an HTML report")
    group.add_argument("--export_baseline", action="store_true", help="write the baseline too")
    group.add_argument("--export_no_baseline", action="store_true", help="write the fit without baseline too")
    group.add_argument("--export_separate", action="store_true", help="write each metabolite too")
    group.add_argument("-f", "--filename", default="fit", metavar="NAME", help="name of the fitted spectra's file (default fit)")
    group.add_argument("--config", is_config_file=True, metavar="FILE", help="file with options, one a line: baseline = off")
    _common_arguments(parser)
    parser.set_defaults(func=_fit, advice="", prefix="--")
    _hidden_arguments(parser)


def _mrsi_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument("--data", required=True, metavar="FILE", help="NIfTI-MRS file with one spectrum per voxel")
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("fitting options")
    group.add_argument("--mask", metavar="IMAGE", help="voxels to fit, those that are not zero (default: all that hold a signal)")
    _fitting_options(group)
    group.add_argument(
        "--share_starts", action="store_true", help="fit voxels again from where their neighbours ended, where that is elsewhere"
    )
    group = parser.add_argument_group("output options")
    _output_options(group)
    group.add_argument("--report", action="store_true", help="write an HTML report on the average of some voxels")
    group.add_argument("--no_spectra", action="store_true", help="write maps only, not the spectra of fit, baseline and residual")
    group.add_argument("--config", is_config_file=True, metavar="FILE", help="file with options, one a line: baseline = off")
    group = parser.add_argument_group("running")
    group.add_argument(
        "--parallel",
        default="off",
        metavar="WHERE",
        help="off (default): in this process, on all its cores; local: in several processes; cluster: on the nodes of a SLURM cluster, "
        "configured as for fsl_mrsi",
    )
    group.add_argument("--parallel-workers", type=int, metavar="N", help="how many cores, processes or nodes")
    group.add_argument("--max-memory", type=float, metavar="GIB", help="memory to stay under (default: 4)", default=4.0)
    group.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    _common_arguments(parser)
    parser.set_defaults(func=_mrsi, advice="", prefix="--")
    _hidden_arguments(parser)


def _fitting_options(group) -> None:
    """What is fitted, and how: the same for one spectrum and for a volume."""
    group.add_argument("--ignore", nargs="+", metavar="METAB", help="leave these metabolites out")
    group.add_argument("--keep", nargs="+", metavar="METAB", help="fit only these metabolites")
    group.add_argument("--combine", nargs="+", action="append", metavar="METAB", help="report the sum of these [repeatable]")
    group.add_argument(
        "--ppmlim", type=float, nargs=2, metavar=("LOW", "HIGH"), help="fitted window (default: the nucleus' usual one)"
    )
    group.add_argument(
        "--baseline",
        default="poly, 2",
        help="'off', 'poly, N', or 'spline, S' with S one of very-stiff, stiff, moderate, flexible, very-flexible, or an "
        "effective dimension of at least 2 (default 'poly, 2')",
    )
    group.add_argument("--metab_groups", nargs="+", type=_str_or_int, help="metabolites with shift and width of their own")
    group.add_argument("--lorentzian", action="store_true", help="Lorentzian broadening only (default Voigt)")
    group.add_argument("--free_shift", action="store_true", help="let every metabolite shift on its own")
    group.add_argument("--negative", action="store_true", help="let concentrations be negative")
    group.add_argument("--ind_scale", nargs="+", metavar="METAB", help="basis spectra to scale independently of the others")
    group.add_argument(
        "--starter", metavar="NAME", help="what proposes the starts: classical, network or together (default: as the data allow)"
    )
    group.add_argument("--model", dest="dl_model", metavar="NAME", help="trained network that proposes them, by name or folder")
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
        help="what concentrations are expected, for posterior_mean: a recipe or a file, 'volume' to learn it from the spectra that are "
        "fitted, or none (default: normal-brain, if the basis set is a brain's)",
    )
    group.add_argument(
        "--mm",
        metavar="WHAT",
        help="macromolecules to add to the basis set: parametric, fsl-default, summed, or a file with measured ones",
    )


def _output_options(group) -> None:
    """What is reported, and how the data lie: the same for one spectrum and for a volume."""
    group.add_argument("--TE", type=float, help="echo time in ms, kept with the results (default: from the header)")
    group.add_argument("--TR", type=float, help="repetition time in s, kept with the results (default: from the header)")
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
            f"--algo {args.algo}: needs FSL-MRS, --algo {DlQuant.name} does not; give that, or run 'fsl_mrs --algo {args.algo}' "
            f"where FSL-MRS is installed.{args.advice}"
        )
    for names, what in ((_SCALING, "water-scaled quantification"), (_SAMPLING, "Metropolis Hastings fits")):
        for name in names:
            if getattr(args, name.replace("-", "_")) is not None:
                raise OptionError(
                    f"--{name}: needs FSL-MRS, which does {what}; leave --{name} out, or run 'fsl_mrs --algo {DlQuant.name} "
                    f"--data ... --basis ... --output ... --{name} ...' where FSL-MRS is installed.{args.advice}"
                )
    if args.baseline_order is not None:
        args.baseline = f"poly, {args.baseline_order}"


def _simulate_arguments(parser) -> None:
    kinds = parser.add_subparsers(title="what", required=True, dest="what", metavar="WHAT")
    basis = kinds.add_parser("basis", help="a basis set", description="Simulate a basis set.", add_config_file_help=False)
    basis.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the .json files")
    basis.add_argument(
        "--sequence", default="press", help="press (default), steam, slaser, special, mega-press, spin-echo or fid; ideal pulses"
    )
    basis.add_argument("--TE", type=float, default=30.0, help="echo time in ms (default 30)")
    basis.add_argument("--TE1", type=float, help="first echo time of press and mega-press in ms")
    basis.add_argument("--TM", type=float, help="mixing time of steam in ms")
    basis.add_argument("--edit", choices=("on", "off"), help="editing condition of mega-press")
    basis.add_argument("--field", type=float, default=3.0, help="field strength in tesla (default 3)")
    basis.add_argument("--frequency", type=float, help="spectrometer frequency in MHz, instead of --field")
    basis.add_argument("--bandwidth", type=float, default=2000.0, help="spectral width in Hz (default 2000)")
    basis.add_argument("--points", type=int, default=2048, help="number of points (default 2048)")
    basis.add_argument("--fwhm", type=float, default=2.0, help="line width in Hz (default 2)")
    basis.add_argument("--metabs", nargs="+", metavar="METAB", help="metabolites (default: twenty of the brain)")
    basis.add_argument(
        "--mm", choices=("parametric", "fsl-default", "summed"), help="add macromolecules: one basis spectrum a line, or one sum"
    )
    _common_arguments(basis, device=False)
    basis.set_defaults(func=_simulate_basis)
    svs = kinds.add_parser("svs", help="a single-voxel acquisition", description="Simulate an SVS.", add_config_file_help=False)
    svs.add_argument("--basis", required=True, metavar="PATH", help="basis set it is made from")
    svs.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for svs.nii.gz and truth.json")
    svs.add_argument("--transients", type=int, default=64, help="number of transients (default 64)")
    svs.add_argument("--snr", type=float, default=8.0, help="peak height over noise SD in one transient (default 8)")
    svs.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default 0)")
    svs.add_argument("--drift", type=float, nargs=2, default=(10.0, 40.0), metavar=("HZ", "DEG"), help="drift (default 10 40)")
    svs.add_argument("--TE", type=float, help="echo time in ms for the header")
    _common_arguments(svs, device=False)
    svs.set_defaults(func=_simulate_svs)
    mrsi = kinds.add_parser(
        "mrsi",
        help="MRSI of a head",
        description="Simulate MRSI of a head: spectra, structural image, tissue maps and everything they were made from.",
        add_config_file_help=False,
    )
    mrsi.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for mrsi.nii.gz, T1w.nii.gz and the rest")
    mrsi.add_argument(
        "--basis",
        metavar="PATH",
        help="basis set it is made from (default: 20 metabolites and macromolecules, 3 T, semi-LASER, TE 35 ms, 2000 Hz)",
    )
    mrsi.add_argument(
        "--mm",
        metavar="WHAT",
        help="macromolecules to add to --basis, or instead of the default set's: as those of fsl_mrs_dl fit",
    )
    mrsi.add_argument(
        "--size", type=int, nargs=3, default=(32, 32, 10), metavar=("X", "Y", "Z"), help="voxels (default 32 32 10)"
    )
    mrsi.add_argument(
        "--fov", type=float, nargs=3, metavar=("X", "Y", "Z"), help="size of the grid in mm (default 220 220 100, or less)"
    )
    mrsi.add_argument("--points", type=int, default=1024, help="number of points of an FID (default 1024)")
    mrsi.add_argument(
        "--snr",
        type=float,
        default=20.0,
        help="median in the brain of the height of a spectrum's largest metabolite peak over noise SD (default 20)",
    )
    mrsi.add_argument("--seed", type=int, default=0, help="seed of the random numbers, the anatomy's too (default 0)")
    mrsi.add_argument("--b0", type=float, default=30.0, metavar="HZ", help="largest B0 shift in the brain (default 30)")
    mrsi.add_argument(
        "--water", type=float, default=1.0, metavar="FACTOR", help="residual water over the largest metabolite peak (default 1)"
    )
    mrsi.add_argument("--no-lipids", dest="lipids", action="store_false", help="a scalp without lipids")
    mrsi.add_argument("--no-lesion", dest="lesion", action="store_false", help="a healthy brain")
    mrsi.add_argument("--t1_mm", type=float, default=1.5, metavar="MM", help="voxel side of the structural image (default 1.5)")
    mrsi.add_argument("--TE", type=float, metavar="MS", help="echo time for the header, where --basis is given")
    _common_arguments(mrsi, device=False)
    mrsi.set_defaults(func=_simulate_mrsi)


def _example_arguments(parser) -> None:
    parser.add_argument("--output", type=Path, default=Path("example-results"), metavar="DIR", help="default example-results")
    _common_arguments(parser)
    parser.set_defaults(func=_example)


# -- jobs ----------------------------------------------------------------------------------------------------------


def _say(args, text: str) -> None:
    if args.verbose:
        print(text)


def _new_file(path: Path, overwrite: bool) -> Path:
    """A file that may be written: refuse one that is there, before any work is done."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another --output or --filename, or give --overwrite to replace it.")
    return path


def _processed_file(args, data) -> Path:
    """Where a step's result goes: into a folder that may hold other things, which stay; the input is never replaced."""
    from ..io import nifti

    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output}: is a file, not a folder; choose another --output.")
    stem = args.filename or Path(args.file).name
    stem = stem.removesuffix(".gz").removesuffix(".nii")
    target = _new_file(args.output / f"{stem}.nii.gz", args.overwrite)
    if data.path is not None and target.resolve() == data.path.resolve():
        raise OutputError(f"{target}: is the input file itself; choose another --output or --filename.")
    if not args.output.exists():
        nifti.new_output_folder(args.output, overwrite=False)
    return target


def _align(args) -> None:
    from ..fitting import quantify
    from ..io import nifti
    from ..results.reports import alignment

    data = nifti.load(args.file)
    target = _processed_file(args, data)
    table = _new_file(args.output / "dl_align.csv", args.overwrite)
    reference = nifti.load(args.reference) if args.reference else None
    _say(args, f"Aligning {args.file}, shape {data.fids.shape}, dimensions {', '.join(data.dim_tags) or 'none'}")
    out = quantify.align_data(data, reference=reference, device=args.device, **align_options(vars(args)))
    reports = alignment.report_paths(args.output, out, args.allreports) if args.generateReports or args.allreports else []
    for path in reports:
        _new_file(path, args.overwrite)
    details = out.details("fsl_mrs_dl align", args.dim, args.reference)
    nifti.save(target, out.data, method="Frequency and phase correction", details=details)
    _write_whole(table, alignment.alignment_table(out))
    if reports:
        alignment.write_reports(args.output, out, args.allreports, Path(args.file).name)
    print(alignment.summary_line(out))
    print("Written: " + ", ".join(map(str, [target, table, *reports])))


def _denoise(args) -> None:
    from ..io import nifti
    from ..preproc import denoise
    from ..results.reports import denoising

    data = nifti.load(args.file)
    target = _processed_file(args, data)
    report = _new_file(args.output / denoising.REPORT, args.overwrite) if args.generateReports else None
    _say(args, f"Denoising {args.file}, shape {data.fids.shape}, dimensions {', '.join(data.dim_tags) or 'none'}")
    if denoise.warning_of(data.header):
        print(
            f"Warning: {args.file}: was denoised before; the network was trained on spectra with all of their noise.",
            file=sys.stderr,
        )
    out = denoise.denoise_data(data, args.model, args.device)
    details = out.details("fsl_mrs_dl denoise")
    nifti.save(target, out.data, method=denoise.METHOD, details=details, extra=out.header_field())
    if report:
        denoising.write_denoise_report(args.output, out, Path(args.file).name)
    print(denoise.summary_line(out))
    print("Written: " + ", ".join(map(str, [target, *([report] if report else [])])))


def _write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({exc.strerror}); choose another --output.") from exc


def _fit(args) -> None:
    from ..io import nifti
    from ..preproc import denoise
    from ..results import tables

    _check_fsl_mrs_words(args)
    inputs = tuple(name for name in (args.data, args.basis, args.t1, args.config) if name)
    nifti.new_output_folder(args.output, args.overwrite, inputs)
    data = nifti.load(args.data)
    denoise.warn(args, data.header)
    fitted = _fit_data(args, data)
    options = _options_text(args, fitted.fit.network_note)
    export = [name for name in ("baseline", "no_baseline", "separate") if getattr(args, f"export_{name}")]
    with tables.folder_for(args.output, args.overwrite, inputs) as folder:
        tables.write_fit(folder, fitted, options=options, filename=args.filename, export=tuple(export))
        if args.average:
            # What was fitted is in no other file; FSL-MRS's summary reads the data again from here.
            what = f"fsl_mrs_dl fit, --average {' '.join(args.average)}, {args.data}."
            nifti.save(folder / "data.nii.gz", fitted.data, method="Signal averaging", details=what)
        else:
            _link(folder, args.output, "data", Path(args.data))
        _link(folder, args.output, "basis", Path(args.basis))
        location = None
        if args.t1:
            from ..results.figures import voxel_location

            location = folder / "voxel_location.png"
            voxel_location(args.t1, fitted.data, location)
        if args.report:
            from ..results.reports.fit import write_fit_report

            write_fit_report(folder / "report.html", fitted, data=args.data, basis=args.basis, location=location)
    print(_text_table(fitted))
    print(f"Written: {args.output}/ with uncertainty.csv, summary.csv{', report.html' if args.report else ''} and more")


def _mrsi(args) -> None:
    import time

    from ..io import nifti
    from ..mrsi import job as job_module
    from ..preproc import denoise

    _check_fsl_mrs_words(args)
    begun = time.perf_counter()
    inputs = tuple(name for name in (args.data, args.basis, args.mask, args.config) if name)
    nifti.new_output_folder(args.output, args.overwrite, inputs)
    about = nifti.load_header(args.data)
    denoise.warn(args, about.header)
    basis, groups = _chosen_basis(args, about)
    model, sums, chosen = _checked_options(args, basis)
    settings = job_module.Settings(
        model=model,
        ppmlim=tuple(args.ppmlim) if args.ppmlim else None,
        baseline=args.baseline,
        groups=tuple(groups),
        ind_scale=tuple(args.ind_scale) if args.ind_scale else None,
        rescale=not args.no_rescale,
        internal_ref=tuple(args.internal_ref),
        combine=tuple(sums),
        dl=chosen,
        conjugate=args.conjfid,
        spectra=not args.no_spectra,
        share_starts=args.share_starts,
    )
    workers = job_module.workers_for(args.parallel, args.parallel_workers, args.max_memory)
    job, pilot = job_module.prepare(
        args.data, basis, args.output, settings, mask=args.mask, resume=args.resume, overwrite=args.overwrite
    )
    n = len(job.index)
    _say(
        args,
        f"Fitting {n} voxels with {basis.n_metabs} metabolites, {model} model, baseline {args.baseline}, in {job.n_chunks} chunks",
    )
    left = n - sum(len(job.index[job.rows(k)]) for k in job.done())
    try:
        with _progress(n, "voxels") as advance:
            job_module.fit_all(job, parallel=args.parallel, workers=workers, progress=advance)
        seen = _write_mrsi(args, job, pilot, inputs)
    except KeyboardInterrupt:
        done = sum(len(job.index[job.rows(k)]) for k in job.done())
        raise KeyboardInterrupt(f"interrupted; {done} of {n} voxels are done: the same command with --resume goes on.") from None
    job_module.finish(job)
    print(job_module.summary(job, seen))
    print(f"{job_module.rate(begun, left)}\nWritten: {args.output}/ ('fsl_mrs_dl view {args.output}' shows it)")


def _write_mrsi(args, job, pilot, inputs) -> dict:
    """Put a volume's results together; some values of the maps."""
    from ..mrsi import job as job_module
    from ..results import tables

    _say(args, "Writing maps and spectra")
    with tables.folder_for(args.output, args.overwrite, inputs) as folder:
        seen = job_module.write_results(folder, job, options=_options_text(args, pilot.fit.network_note if pilot else ""), pilot=pilot)
        _link(folder, args.output, "data", Path(args.data))
        _link(folder, args.output, "basis", Path(args.basis))
        if args.report and pilot is not None:
            from ..results.reports.fit import write_fit_report

            write_fit_report(folder / "report.html", pilot, data=args.data, basis=args.basis, location=None)
    return seen


def _options_text(args, warning: str = "") -> str:
    """Content of options.txt, with what is to be said of the network."""
    known = {k: v for k, v in vars(args).items() if k not in ("func", "format_values", "advice", "prefix", "words")}
    denoised = getattr(args, "denoised", "")
    note = "".join(f"--------\nWarning: {text}\n" for text in (f"{denoised}." if denoised else "", warning) if text)
    return f"{json.dumps(known, default=str)}\n--------\n{args.format_values()}{note}"


def _fit_data(args, data):
    """Load, check and fit: everything before anything is written."""
    import numpy as np

    from ..fitting import quantify
    from ..io import basis as basis_module
    from ..io import nifti
    from ..results import tables

    nifti.check_fids(data)
    basis, groups = _chosen_basis(args, data)
    for tag in args.average or ():
        axis = data.axis(tag)
        data = _averaged(data, axis)
    fids = np.moveaxis(data.fids, 3, -1)
    fids = fids.reshape(-1, fids.shape[-1])
    conjugated = args.conjfid
    if conjugated is None:
        good = fids[np.isfinite(fids).all(-1)]
        conjugated = basis_module.detect_conjugation(good.mean(0), data.dwelltime, data.spec_freq_mhz, data.nucleus)
        if conjugated:
            print(
                f"{args.data}: the frequency axis runs backwards and was turned round (complex conjugate); --no_conj_fid forbids it."
            )
    model, sums, chosen = _checked_options(args, basis)
    _say(args, f"Fitting {len(fids)} spectra with {basis.n_metabs} metabolites, {model} model, baseline {args.baseline}")
    with _progress(len(fids)) as advance:
        fit = quantify.quantify(
            fids.conj() if conjugated else fids,
            basis,
            dwelltime=data.dwelltime,
            spec_freq_mhz=data.spec_freq_mhz,
            nucleus=data.nucleus,
            model=model,
            ppmlim=tuple(args.ppmlim) if args.ppmlim else None,
            baseline=args.baseline,
            groups=groups,
            ind_scale=args.ind_scale,
            rescale=not args.no_rescale,
            starter=chosen.make_starter(),
            prior=args.prior,
            estimate=args.estimate,
            device=args.device,
            progress=advance,
        )
    fit.estimate(args.estimate)  # says so if it was not made
    return tables.FitResults(fit, data, args.internal_ref, sums, bool(conjugated), args.estimate)


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
            f"The basis holds {', '.join(default_mm)}; it is recommended to give each a group: --metab_groups {' '.join(default_mm)}"
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
    chosen = DlOptions(starter=args.starter, model=args.dl_model, estimate=args.estimate, prior=args.prior, device=args.device)
    chosen.check(prefix=args.prefix)
    return model, ["+".join(names) for names in sums], chosen


def _averaged(data, axis: int):
    """Mean over one higher dimension, unusable transients left out; the dimension stays, with one element."""
    import warnings
    from dataclasses import replace

    import numpy as np

    from ..io.nifti import check_fids

    usable = np.expand_dims(check_fids(data), 3)
    with warnings.catch_warnings():
        # An element without a single usable transient becomes NaN and is flagged later.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(np.where(usable, data.fids, np.nan), axis=axis, keepdims=True)
    return replace(data, fids=mean.astype(data.fids.dtype))


class _progress:
    """A progress bar for many spectra on a terminal, nothing otherwise."""

    def __init__(self, total: int, unit: str = "spectra"):
        self.total, self.unit, self.bar = total, unit, None

    def __enter__(self):
        if self.total >= 200 and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit=f" {self.unit}", desc="fit")
        return self.bar.update if self.bar is not None else (lambda n: None)

    def __exit__(self, *exc):
        if self.bar is not None:
            self.bar.close()


def _link(folder: Path, final: Path, name: str, target: Path) -> None:
    """A relative link from the results to what they were made from, as FSL-MRS leaves one."""

    ending = "".join(target.suffixes[-2:]) if target.name.endswith(".nii.gz") else (target.suffix if name == "data" else "")
    link = folder / f"{name}{ending}"
    link.symlink_to(os.path.relpath(target.resolve(), final.resolve()))


def _or_dash(value):
    """A number's format as a function; a dash for what is not known."""
    import math

    return lambda form: format(value, form) if math.isfinite(value) else f"{'-':>{int(form.split('.')[0])}}"


def _text_table(fitted) -> str:
    """Concentrations for the terminal: of the spectrum, or the median over several."""
    import warnings

    import numpy as np

    from ..core.metabolites import is_macromolecule
    from ..results import tables

    fit = fitted.fit
    rows = np.flatnonzero(fit.usable)
    conc, sd = fitted.table
    ratio = fitted.reference is not None
    name = "/" + "+".join(fitted.internal_ref)
    lines = []
    if len(fit.params) > 1:
        lines.append(f"{len(rows)} of {len(fit.params)} spectra fitted; medians:")
    head = f"{'Metab':<10}{'conc':>10}{'SD':>9}{'%SD':>6}" + (f"{name:>12}{'SD':>8}" if ratio else "")
    more, unit = [], 1.0
    for title, estimate, there in (
        ("posterior", "posterior_mean", fit.posterior is not None), ("network", "network", fit.networks is not None)
    ):  # fmt: skip
        if there and estimate != fitted.estimate:
            values = fit.table(fitted.sums, estimate)[1]
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                unit = values[:, [fitted.names.index(name[1:])]] if ratio else 1.0
                more.append(np.nanmedian((values / unit)[rows], 0))
            head += f"{title:>11}"
    head += f"{'% prior':>9}" if fit.posterior is not None else ""
    lines += [head, "-" * len(head)]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is known nowhere
        middle = lambda values, column: _or_dash(np.nanmedian(values[rows, column]))  # noqa: E731
        percent = fitted.percent()
        for column, metab in enumerate(fitted.names):
            line = f"{metab:<10}{middle(conc, column)('10.4g')}{middle(sd, column)('9.2g')} {middle(percent, column)('5.0f')}"
            if ratio:
                line += f"{middle(fitted.ratios[0], column)('12.3f')} {middle(fitted.ratios[1], column)('7.3g')}"
            line += "".join(f" {_or_dash(values[column])('10.3f')}" for values in more)
            if fit.posterior is not None:
                pull = np.nanmedian(fitted.pull[rows, column])
                line += _or_dash(100 * pull)("8.0f") + ("*" if pull > tables.MOSTLY_PRIOR else "")
                line += "!" if fitted.conflict[rows, column].mean() > 0.5 else ""
            lines.append(line)
    spread = "the networks' spread" if fit.networks is not None and len(fit.networks) > 1 else "not known of a single network"
    bound = {"ml": "the Cramer-Rao bound", "posterior_mean": "the posterior's", "network": spread}[fitted.estimate]
    lines.append(f"residual / noise {np.nanmedian(fit.misfit):.2f}; SD is {bound}; started by {fit.starter}")
    if fit.posterior is not None:
        lines.append(
            f"Posterior: {fit.posterior.prior.source} and the data{', as ratio' if ratio else ''}; % prior is what the data left standing of it, "
            "* mostly prior, ! the data say something else than what was expected."
        )
    if fit.network_note:
        lines.append(fit.network_note)
    strange = int((fit.ood[rows] > tables.OOD_LIMIT).sum())
    if strange:
        what = "The spectrum is" if len(fit.params) == 1 else f"{strange} of {len(rows)} spectra are"
        lines.append(
            f"{what} unlike clean data (score {np.nanmax(fit.ood[rows]):.1f}, above 1; column ood_score in uncertainty.csv)."
        )
    if np.nanmedian(fit.misfit[rows]) > 1.5:
        tried = fit.model.baseline.mode == "spline"
        remedies = [] if tried else ["--baseline 'spline, moderate'"]
        remedies += [] if any(is_macromolecule(name) for name in fit.names) else ["macromolecules (--mm)"]
        advice = f": try {' or '.join(remedies)}." if remedies else "."
        lines.append(f"The model misses more than noise, so the SDs are too small{advice}")
    for tag, size in zip(fitted.data.dim_tags, fitted.data.fids.shape[4:]):
        if size > 1:
            remedy = "combine coils first (fsl_mrs_proc coilcombine)" if tag == "DIM_COIL" else f"--average {tag} fits their mean"
            lines.append(f"{tag} has {size} elements, fitted one by one: {remedy}.")
    if not ratio:
        lines.append(f"No ratios: {'+'.join(fitted.internal_ref)} was not fitted; choose a reference with --internal_ref.")
    if not fit.converged[rows].all():
        lines.append(
            f"{int((~fit.converged[rows]).sum())} of {len(rows)} fits did NOT converge and should not be used as they are "
            "(column converged in uncertainty.csv): give fewer --metab_groups, or leave out what the data do not hold."
        )
    return "\n".join(lines)


def _simulate_basis(args) -> None:
    from ..results import tables
    from ..simulation import acquisition

    basis = acquisition.simulate_basis(
        args.metabs,
        sequence=args.sequence,
        te_ms=args.TE if args.sequence != "fid" else None,
        te1_ms=args.TE1,
        tm_ms=args.TM,
        edit=args.edit,
        field_t=args.field,
        spec_freq_mhz=args.frequency,
        bandwidth_hz=args.bandwidth,
        n_points=args.points,
        fwhm_hz=args.fwhm,
        macromolecules=args.mm,
    )
    with tables.folder_for(args.output, args.overwrite) as folder:
        basis.save(folder, info=f"{args.sequence}, TE {args.TE:g} ms, ideal pulses.")
    print(f"Simulated {basis.n_metabs} basis spectra at {basis.spec_freq_mhz:.2f} MHz.\nWritten: {args.output}")


def _simulate_svs(args) -> None:
    from ..io import nifti
    from ..io.basis import Basis
    from ..results import tables
    from ..simulation import acquisition

    made = acquisition.simulate_svs(
        Basis.load(args.basis),
        transients=args.transients,
        snr=args.snr,
        seed=args.seed,
        drift_hz=args.drift[0],
        drift_deg=args.drift[1],
        te_ms=args.TE,
    )
    with tables.folder_for(args.output, args.overwrite, (args.basis,)) as folder:
        nifti.save(folder / "svs.nii.gz", made.data)
        (folder / "truth.json").write_text(json.dumps(made.truth, indent=1))
    print(
        f"Simulated {args.transients} transients, seed {args.seed}.\nWritten: {args.output}/svs.nii.gz, {args.output}/truth.json"
    )


def _simulate_mrsi(args) -> None:
    from ..io import nifti
    from ..io.basis import Basis
    from ..physics.macromolecules import add_macromolecules
    from ..results import tables
    from ..simulation import phantom

    inputs = tuple(path for path in (args.basis, args.mm) if path and Path(path).exists())
    # Found out before the work is done, not after it.
    nifti.new_output_folder(args.output, args.overwrite, inputs)
    basis = Basis.load(args.basis) if args.basis else None
    if args.mm:
        basis = add_macromolecules(basis or phantom.default_basis(max(64, args.points), None), args.mm)
    made = phantom.make(
        basis,
        size=args.size,
        n_points=args.points,
        snr=args.snr,
        seed=args.seed,
        lipids=args.lipids,
        lesion=args.lesion,
        b0_hz=args.b0,
        water=args.water,
        fov_mm=args.fov,
        t1_mm=args.t1_mm,
        te_ms=args.TE or (None if args.basis else phantom.DEFAULT_TE_MS),
    )
    with tables.folder_for(args.output, args.overwrite, inputs) as folder:
        phantom.write(folder, made)
    x, y, z = made.mask.shape
    print(
        f"Simulated {x} x {y} x {z} voxels, {int(made.mask.sum())} of them brain, seed {args.seed}.\n"
        f"Written: {args.output}/mrsi.nii.gz, T1w.nii.gz, mask.nii.gz, basis, truth and more, see {args.output}/truth.json"
    )


def _example(args) -> None:
    from importlib import resources

    bundled = resources.files("fsl_mrs_dl").joinpath("data", "example")
    flags = [flag for flag, given in (("--overwrite", args.overwrite), ("--verbose", args.verbose)) if given]
    flags += ["--device", args.device]
    with resources.as_file(bundled) as folder:
        if not (folder / "svs.nii.gz").is_file():
            raise DataError(f"{folder}: the bundled example is missing; install the package again.")
        aligned = args.output / "aligned"
        jobs = (
            ["align", "--file", str(folder / "svs.nii.gz"), "--output", str(aligned), "-r", *flags],
            ["fit", "--data", str(aligned / "svs.nii.gz"), "--basis", str(folder / "basis"), "--average", "DIM_DYN"]
            + ["--baseline", "off", "--output", str(args.output / "fit"), "--report", *flags],
        )
        for job in jobs:
            print("\n$ fsl_mrs_dl " + " ".join(f"'{word}'" if " " in word else word for word in job))
            status = main(job + (["--debug"] if args.debug else []))
            if status:
                sys.exit(status)
        truth = json.loads((folder / "truth.json").read_text())
    _compare_with_truth(args.output / "fit" / "uncertainty.csv", truth)


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
        hide_above=args.max_crlb,
        fade=not args.no_fade,
        renderer=args.renderer,
    )
    print(f"Written: {args.out} ({by})")


def _doctor(args) -> int:
    from .doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    bad = sum(finding.mark == "!!" for finding in findings)
    print("\nAll is well." if not bad else f"\n{bad} {'thing needs' if bad == 1 else 'things need'} mending (marked !!).")
    return 1 if bad else 0


def _hook(args) -> None:
    from ..fslmrs import switch

    if args.action == "off":
        print(f"Written: {switch.turn_off()}")
    elif args.action == "on":
        for path in switch.turn_on():
            print(f"{'Written' if path.exists() else 'Removed'}: {path}")
    print(f"The hook is {switch.status()[1]}.")


def _launchers(args) -> None:
    from ..fslmrs import launchers

    if args.action == "add":
        print("Written: " + ", ".join(map(str, launchers.add())))
    elif args.action == "remove":
        removed = launchers.remove()
        print("Removed: " + ", ".join(map(str, removed)) if removed else "There are no launchers of FSL-MRS-DL here.")
    else:
        found = launchers.found()
        for name in launchers.NAMES:
            path, ours = found.get(name, (None, False))
            print(f"{name}: " + (f"{path} ({'of FSL-MRS-DL' if ours else 'not of FSL-MRS-DL'})" if path else "none"))


def _compare_with_truth(table: Path, truth: dict) -> None:
    """How the example's figures compare with what it was simulated from."""
    import pandas as pd

    frame = pd.read_csv(table).set_index("Metab")
    true = truth["concentrations"]
    total = true["Cr"] + true["PCr"]
    error = [(frame.loc[name, "ratio"] - value / total) / frame.loc[name, "ratio_sd"] for name, value in true.items()]
    within = sum(abs(e) < 2 for e in error)
    print(f"\nThe example is simulated: {within} of {len(error)} ratios lie within two SDs of the truth it was made from.")


if __name__ == "__main__":
    sys.exit(main())
