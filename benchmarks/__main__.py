"""Run the paper benchmarks: ``python -m benchmarks align|quant|denoise|supervised``."""

from __future__ import annotations

import sys
from pathlib import Path

from fsl_mrs_dl.cli.main import Parser, run
from fsl_mrs_dl.core.errors import OptionError, OutputError, spelling_of

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark; exit status and messages are those of ``fsl_mrs_dl``."""
    parser = Parser(
        prog="python -m benchmarks",
        add_config_file_help=False,
        description="Measure accuracy and speed beside limits and other methods.",
    )
    benchmark_arguments(parser)
    args = parser.parse_args(argv)
    return run(args, f"python -m benchmarks {args.benchmark}", spelling_of(parser))


def benchmark_arguments(parser) -> None:
    kinds = parser.add_subparsers(
        title="what", required=True, dest="benchmark", metavar="WHAT", parser_class=type(parser)
    )
    text = "frequency and phase correction on simulated transients, beside its limits and other methods"
    job = _benchmark_job(kinds, "align", text)
    data = job.add_argument_group("data")
    data.add_argument(
        "--signal",
        metavar="FILE",
        help=(
            "NIfTI-MRS file with one FID, or MATLAB file with a variable 'data', that all transients are made from"
            " (default: the rat's signal of the alignment paper, looked for in FSL_MRS_DL_TESTDATA)"
        ),
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
        help=(
            "those to train and compare: dsr, dsrf, dcrr, dcrrf, tapper, ma (default all; none after the option for"
            " none)"
        ),
    )
    group.add_argument(
        "--steps", type=int, metavar="N", help="batches of each training (default 12000, supervised 6000)"
    )
    _long_trainings(group)
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
        help=(
            "what to measure: accuracy, monte-carlo, architecture, lambda, data-size, calibration, novelty (default"
            " all)"
        ),
    )
    group.add_argument(
        "--basis",
        metavar="PATH",
        help="basis set with a macromolecule 'mm' (default: the paper's, looked for in FSL_MRS_DL_TESTDATA)",
    )
    group.add_argument("--steps", type=int, metavar="N", help="batches of a main training (default: the scale's)")
    group.add_argument("--test", type=int, metavar="N", help="spectra to measure on (default: the scale's)")
    _long_trainings(group)
    _benchmark_run(group, _benchmark_quant, job)

    text = "all supervised networks on the data of their papers, beside fits and limits"
    job = _benchmark_job(kinds, "supervised", text)
    group = job.add_argument_group("options")
    group.add_argument(
        "--scale",
        default="small",
        metavar="NAME",
        help="small (default: under an hour on two cores) or paper (days; for a GPU)",
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
    _long_trainings(group)
    _benchmark_run(group, _benchmark_supervised, job)

    text = "what denoising does to spectra and to their fits, on simulated spectra"
    job = _benchmark_job(kinds, "denoise", text)
    group = job.add_argument_group("options")
    group.add_argument(
        "--scale",
        default="small",
        metavar="NAME",
        help="small (default: under ten minutes on a core) or paper (for a GPU)",
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


def _long_trainings(group) -> None:
    """The option of benchmarks that have trainings at their published length."""
    group.add_argument(
        "--long-trainings",
        type=Path,
        metavar="DIR",
        help="models of python -m benchmarks.scripts.long_trainings, which are measured, too",
    )


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
            raise OptionError(f"give {value} or more", option=name, value=getattr(args, name))
    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output}: is a file, not a folder; choose another --output.")
    if args.threads:
        torch.set_num_threads(args.threads)


def _benchmark_quant(args) -> None:
    from benchmarks.papers import long_trainings, quantification, quantification_trainings

    _check_benchmark(args, {"steps": 50, "test": 128, "threads": 1})
    path = quantification.write_quant(
        args.output,
        scale=args.scale,
        parts=tuple(args.parts or quantification_trainings.PARTS),
        basis=args.basis,
        steps=args.steps,
        n_test=args.test,
        seed=args.seed,
        long=long_trainings.finished(args.long_trainings, "quant"),
        say=lambda text: print(text, flush=True),
    )
    print(path.read_text())
    print(f"Written: {path} and its figures")


def _benchmark_supervised(args) -> None:
    from benchmarks.papers import long_trainings, supervised, supervised_trainings

    _check_benchmark(args, {"steps": 10, "test": 64, "threads": 1})
    path = supervised.write_supervised(
        args.output,
        scale=args.scale,
        parts=tuple(args.parts or supervised_trainings.PARTS),
        networks=None if args.networks is None else tuple(args.networks),
        steps=args.steps,
        n_test=args.test,
        seed=args.seed,
        long=long_trainings.finished_jobs(args.long_trainings),
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
    from benchmarks.papers import alignment, long_trainings

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
        long=long_trainings.finished(args.long_trainings, "align"),
        say=lambda text: print(text, flush=True),
    )
    print(path.read_text())
    print(f"Written: {path} and its figures")


if __name__ == "__main__":
    sys.exit(main())
