"""The command ``fsl_mrs_dl``.  Nothing heavy is imported before the arguments are parsed, so that help is quick."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import configargparse

from .. import __version__
from ..core.errors import FslMrsDlError, nearest, spelling_of
from ..core.extras import extra_of, how_to_install
from ..core.topics import hint
from . import (
    align,
    denoise,
    doctor,
    dynamic,
    example,
    explain,
    fit,
    hook,
    launchers,
    models,
    mrsi,
    render,
    run_session,
    simulate,
    study,
    train,
    view,
)

__all__ = ["main"]


def main(
    argv: list[str] | None = None,
    prog: str | None = None,
    spelling: Callable[[str], str] | None = None,
    **defaults,
) -> int:
    """Run the command and return its exit status.

    It is 0, 2 for an error that the user can mend, 1 for a fault of the program, 130 after an interruption.

    Parameters
    ----------
    argv : list of str, optional
        Words of the command line.
    prog : str, optional
        Name of the job in messages, where it was started under another one.
    spelling : callable, optional
        How messages write the plain name of an option; by default as the job's parser does.
    **defaults
        Defaults of the job's options.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    Parser.read = ()
    parser, jobs = build_parser(prog)
    for job in jobs.values():
        job.set_defaults(**defaults)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        called = jobs[args.job] if prog else _deepest(parser, argv)
        strings = [one for action in called._actions for one in action.option_strings if one.startswith("--")]
        options = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        asked = " ".join(filter(None, (nearest(option, strings).strip() for option in options)))
        (parser if prog else called).error(
            f"unrecognized arguments: {' '.join(unknown)}{f'; {asked}' if asked else ''}"
        )
    args.format_values = jobs[args.job].format_values
    args.words, args.main = argv, main
    args.spelling = spelling or spelling_of(jobs[args.job])
    if args.job in ("fit", "dynamic", "mrsi", "run", "study"):
        # Matrices are small and spectra are fitted side by side: threads within a product would slow each other down.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return run(args, prog or f"fsl_mrs_dl {args.job}", args.spelling)


def run(args, called: str, spelling) -> int:
    """Run the job of parsed arguments and return its exit status.

    ``called`` is the command that messages begin with, ``spelling`` turns the name of an option into its word.
    """
    try:
        return args.func(args) or 0
    except FslMrsDlError as exc:
        if args.debug:
            raise
        print(f"{called}: error: {exc.text(spelling)} {hint(exc)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if args.debug or missing in ("", "fsl_mrs_dl", "fsleyes_plugin_dl"):
            return _failed(args, called, exc)
        extra = extra_of(missing)
        remedy = f"install it with: {how_to_install(extra)}" if extra else "install it with pip"
        print(f"{called}: error: needs {missing}, which is not installed here; {remedy}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt as exc:
        print(f"\n{called}: {str(exc) or 'interrupted; nothing was written.'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as exc:
        return _failed(args, called, exc)


def _failed(args, called: str, exc: Exception) -> int:
    """Print a fault of the program, or raise it with --debug; returns 1."""
    if args.debug:
        raise exc
    print(f"{called}: failed: {type(exc).__name__}: {exc}. Run again with --debug to see where.", file=sys.stderr)
    return 1


class Parser(configargparse.ArgParser):
    """A parser whose error is one line, with the configuration file where there was one."""

    read: tuple[str, ...] = ()  # configuration files, by all parsers of a command together

    def __init__(self, *args, **kwargs):
        super().__init__(*args, config_file_open_func=self._opened, **kwargs)

    def _opened(self, name):
        """Read a configuration file and note its name."""
        Parser.read = (*Parser.read, str(name))
        try:
            file = io.StringIO(Path(name).read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            self.error(f"{name}: is no text")
        file.name = str(name)  # the library's messages give it
        return file

    def error(self, message):
        """Print an error and exit with status 2."""
        if self.read:
            message = f"{message}, on the command line or in {', '.join(dict.fromkeys(self.read))}"
        self.exit(2, f"{self.prog}: error: {message} ('{self.prog} --help' lists the options)\n")


def _deepest(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the job that was called, whose help lists its options."""
    for word in argv:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                parser = action.choices[word]
                break
    return parser


# -- arguments -----------------------------------------------------------------------------------------------------


def build_parser(prog: str | None = None) -> tuple[configargparse.ArgParser, dict[str, configargparse.ArgParser]]:
    """Return the parser and its jobs' parsers by name; ``prog`` is the command in the jobs' help."""
    parser = Parser(
        prog="fsl_mrs_dl",
        add_config_file_help=False,
        description="Align and quantify MR spectra by maximum likelihood; networks propose the initial values.",
    )
    parser.add_argument("-v", "--version", action="version", version=__version__)
    jobs = parser.add_subparsers(title="jobs", required=True, dest="job", metavar="JOB")
    parsers = {}
    for name, help_text, command in (
        ("run", "take one session from raw data to a table of concentrations", run_session),
        ("study", "run every session of a BIDS data set or a table, and compare groups", study),
        ("align", "align transients in frequency and phase", align),
        ("denoise", "take noise out of spectra with a trained network, for display", denoise),
        ("fit", "quantify metabolites by linear-combination fitting", fit),
        ("dynamic", "fit a series of spectra in one likelihood: diffusion, functional, several echo times", dynamic),
        ("mrsi", "quantify every voxel of an MRSI volume and make maps", mrsi),
        ("simulate", "simulate a basis set, a single-voxel acquisition, or MRSI of a head", simulate),
        ("train", "train a network on simulated data or on yours", train),
        ("models", "list trained networks and show their purpose", models),
        ("example", "run the main job on bundled example data", example),
        ("view", "show results in FSLeyes: maps, spectra, uncertainties", view),
        ("render", "draw results into a picture, without a screen", render),
        ("explain", "explain an error message", explain),
        ("doctor", "check what is installed and whether it works together with FSL-MRS", doctor),
        ("hook", "switch the additions to FSL-MRS on or off", hook),
        ("launchers", "make fsl_mrs and fsl_mrs_proc work where FSL-MRS is absent", launchers),
    ):
        parsers[name] = jobs.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            add_config_file_help=False,
            **({"prog": prog} if prog else {}),
        )
        command.add_arguments(parsers[name])
    return parser, parsers


if __name__ == "__main__":
    sys.exit(main())
