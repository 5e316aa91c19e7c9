"""The command ``fsl_mrs_dl run``."""

from __future__ import annotations

import copy
from pathlib import Path

import configargparse

from ..core.errors import OptionError
from .common import add_common_arguments, add_format_arguments, axis_options, check_formats, check_output, given_files
from .fit_options import (
    add_fitting_options,
    add_hidden_arguments,
    add_output_options,
    check_fsl_mrs_options,
    check_macromolecule_file,
    chosen_basis,
    fit_options,
    options_text,
)
from .scaling_options import add_scaling_options, scaling_of

__all__ = ["ArgumentFit", "add_arguments", "add_processing_options", "check_basis_options", "run", "run_options"]

_FUNCTIONS = ("func", "format_values", "spelling", "main")


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="raw or averaged spectra: NIfTI-MRS, or a scanner's file that spec2nii reads",
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("inputs")
    group.add_argument(
        "--h2o",
        metavar="FILE",
        help=(
            "unsuppressed water of the same voxel: for the sensitivities of coils, line shape, eddy currents and"
            " absolute concentrations"
        ),
    )
    group.add_argument(
        "--quant", metavar="FILE", help="other unsuppressed water that absolute concentrations are scaled by, not --h2o"
    )
    group.add_argument(
        "--t1",
        metavar="IMAGE",
        help="structural image, for a picture of the voxel; tissue fractions need a segmentation of it (--tissue_frac)",
    )
    add_format_arguments(group)
    add_processing_options(parser.add_argument_group("basis set and processing"))
    add_fitting_options(parser.add_argument_group("fitting options"))
    add_scaling_options(parser.add_argument_group("absolute concentrations"))
    group = parser.add_argument_group("output options")
    add_output_options(group)
    group.add_argument("--no-report", dest="report", action="store_false", help="write no HTML reports")
    group.add_argument(
        "--lcmodel-table", action="store_true", help="write fit.table and fit.csv too, in LCModel's layout"
    )
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: sequence = press"
    )
    add_common_arguments(parser)
    parser.set_defaults(func=run, advice="")
    add_hidden_arguments(parser)


def add_processing_options(group) -> None:
    """Add the options of basis set and processing, which a session and a study share."""
    group.add_argument(
        "--basis",
        metavar="PATH",
        help=(
            "folder of FSL-MRS .json basis files, or LCModel .BASIS file (default: one is simulated for the"
            " sequence, echo time and field of the header)"
        ),
    )
    group.add_argument("--sequence", metavar="NAME", help="sequence of the simulated basis set, not the header's")
    group.add_argument("--TM", type=float, metavar="MS", help="its mixing time in ms, for steam")
    group.add_argument(
        "--edit-order",
        dest="edit_order",
        metavar="ORDER",
        help="order of edit conditions among the transients, as of fsl_mrs_dl align",
    )
    group.add_argument("--no-align", dest="align", action="store_false", help="average transients as they are")
    group.add_argument("--no-water-removal", dest="remove_water", action="store_false", help="keep residual water")
    group.add_argument(
        "--no-reference", dest="reference_lines", action="store_false", help="leave frequency and phase as they are"
    )


def check_basis_options(args) -> None:
    """Raise OptionError for options of a simulated basis set beside one that is given."""
    for name in ("sequence", "TM"):
        if args.basis and getattr(args, name) is not None:
            raise OptionError(
                "is of a basis set that is simulated, and `basis` is given",
                option=name,
                value=getattr(args, name),
                remedy="leave one of the two out",
            )


class ArgumentFit:
    """The choice of metabolites and fit options by parsed arguments, for :mod:`fsl_mrs_dl.workflow.session`.

    It can be sent to other processes: the parser's functions stay behind.
    """

    def __init__(self, args):
        self.args, self.formatted = _without_functions(args), args.format_values()

    def __repr__(self) -> str:
        # Two of the same options are alike, wherever their results are written.
        of_files = ("data", "h2o", "output", "t1", "basis", "overwrite", "verbose", "debug", "spelling", "words")
        values = {name: value for name, value in vars(self.args).items() if name not in of_files}
        return f"ArgumentFit({sorted(values.items())})"

    def check(self, data) -> None:
        """Raise an error for files that cannot be used with the data, before there is a basis set."""
        check_macromolecule_file(self.args, data)

    def choose(self, source, data):
        """Return the basis set to fit and the options of the fit."""
        from ..io.basis import Basis
        from ..io.edited_basis import EditedBasis

        args = copy.copy(self.args)
        simulated = source if isinstance(source, (Basis, EditedBasis)) else None
        args.basis = simulated.source if simulated else str(source)
        basis = chosen_basis(args, data, simulated)
        return basis, fit_options(args, basis)

    def text(self, basis, options, note: str) -> str:
        """Return the content of options.txt."""
        args = copy.copy(self.args)
        args.format_values = lambda: self.formatted
        args.basis, args.spectral_model = str(basis.source), options.spectral_model
        return options_text(args, basis, options, note)


def _without_functions(args):
    """Return parsed arguments without the parser's functions, as a namespace that can be pickled."""
    from ..fitting.artefacts import option_spelling

    out = configargparse.Namespace(**{name: value for name, value in vars(args).items() if name not in _FUNCTIONS})
    out.spelling = option_spelling
    return out


def run_options(args):
    """Return the RunOptions of parsed arguments."""
    from ..concentrations.tissue import DEFAULT_SD
    from ..workflow.processing import ProcessingOptions
    from ..workflow.session import RunOptions

    processing = ProcessingOptions(
        align=args.align,
        remove_water=args.remove_water,
        reference=args.reference_lines,
        edit_order=args.edit_order,
        ppmlim=None if args.ppmlim is None else tuple(args.ppmlim),
        device=args.device,
    )
    return RunOptions(
        processing=processing,
        fit=ArgumentFit(args),
        sequence=args.sequence,
        te_ms=args.TE,
        tm_ms=args.TM,
        report=args.report,
        lcmodel_table=getattr(args, "lcmodel_table", False),
        axes=axis_options(args),
        scaling=scaling_of(args),
        tissue_sd=DEFAULT_SD if args.tissue_frac_sd is None else args.tissue_frac_sd,
    )


def run(args) -> None:
    """Take one session from its files to a folder of results."""
    check_formats(axis_options(args), args.data, args.h2o, args.quant)
    check_output(args, args.data)
    check_fsl_mrs_options(args)
    check_basis_options(args)
    from ..io import output as output_module
    from ..workflow.session import Session, run_session
    from .tables import text_table, verdict_line

    session = Session(
        name=Path(args.data).name.partition(".")[0],
        data=Path(args.data),
        water=args.h2o and Path(args.h2o),
        quant=args.quant and Path(args.quant),
        tissue=args.tissue_frac,
        t1=args.t1 and Path(args.t1),
        basis=args.basis and Path(args.basis),
    )
    inputs = (*session.inputs, *given_files(args))
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        summary = run_session(session, run_options(args), folder, say=print)
    table = text_table(summary.results)
    for warning in summary.record["warnings"]:
        # Artefacts stand below the table.
        if warning not in table:
            print(warning)
    print(table)
    print(verdict_line(summary.results, summary.record["quality"]))
    print(
        f"Written: {args.output}/ with summary.csv, uncertainty.csv, run.json{', report.html' * args.report} and more"
    )
