"""Changes to FSL-MRS's dynamic fits: ``dynMRS.fit(method='dlquant')`` and ``fsl_dynmrs --algo dlquant``.

Standard library only, as in :mod:`.patches`.
"""

import functools

from .patching import note_output, parameters, required, running, with_parser
from .plugin import DlQuant

__all__ = ["patch_dynmrs", "patch_fsl_dynmrs"]

_HELP = "dlquant: one likelihood for the series, fitted to its maximum (default: FSL-MRS's own algorithm)"


def patch_dynmrs(module) -> None:
    """Add ``method='dlquant'`` to ``dynMRS.fit``, which ``fsl_dynmrs --algo dlquant`` makes the default for itself."""
    missing = "no class dynMRS with fit(method, init, x0) and initialise()"
    cls = required(module, "dynMRS", _is_dynamic, missing)
    plain_fit, plain_initialise = vars(cls)["fit"], vars(cls)["initialise"]
    import inspect

    signature = inspect.signature(plain_fit)

    @functools.wraps(plain_fit)
    def fit(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        if not DlQuant.is_named(given.get("method", running.get("dynamic"))):
            return plain_fit(*args, **kwargs)
        result = DlQuant.fit_dynamic(given["self"], given.get("init"), given.get("x0"))
        if running.get("dynamic") is not None:
            import sys

            print(DlQuant.describe(result), file=sys.stderr)
        elif given.get("verbose"):
            print(DlQuant.describe(result))
        return (result, result.optimum) if given.get("output_opt_sol") else result

    @functools.wraps(plain_initialise)
    def initialise(self, *args, **kwargs):
        if running.get("dynamic") is None:
            return plain_initialise(self, *args, **kwargs)
        return DlQuant.initialise_dynamic(self)

    if plain_fit.__doc__:
        fit.__doc__ = f"{plain_fit.__doc__.rstrip()}\n\n        With FSL-MRS-DL also method='dlquant'.\n        "
    cls.fit, cls.initialise = fit, initialise


def _is_dynamic(cls) -> bool:
    of_class = vars(cls) if isinstance(cls, type) else {}
    names = parameters(of_class.get("fit"))
    return names[:2] == ["self", "method"] and {"init", "x0"} <= set(names) and callable(of_class.get("initialise"))


def _add_algo(parser, words):
    """Add ``--algo`` to the parser of ``fsl_dynmrs``, or to the help of its own; returns the words unchanged."""
    own = next((action for action in parser._actions if action.dest == "algo"), None)
    if own is None:
        parser.add_argument_group("FSL-MRS-DL").add_argument("--algo", default=None, metavar="dlquant", help=_HELP)
    elif isinstance(own.help, str):
        own.help = f"{own.help.rstrip()}, or {_HELP.partition(' (')[0]}"
    parser.dl_algo = own is None
    return words


def _take_algo(parser, args) -> None:
    """Store the method for the fits of the command.

    Raises
    ------
    OptionError
        If it is unknown here, and FSL-MRS would not look at it.
    """
    if DlQuant.is_named(args.algo):
        args.algo = running["dynamic"] = DlQuant.name
        if getattr(args, "spatial_index", None) is not None or getattr(args, "merge_spatial", False):
            return  # a part of the work on a volume that was checked as a whole
        running["args"] = args
        note_output(args)
        DlQuant.warn(args)
        if getattr(args, "fslsub_queue", None) is None:
            from .volume_jobs import Jobs

            running["jobs"] = Jobs()
            running["restore"] = running["jobs"].exchange()
    elif args.algo is not None and parser.dl_algo:
        from ..core.errors import OptionError

        raise OptionError("is not known", option="algo", value=args.algo, remedy="take dlquant, or leave it out")


def _run_jobs() -> None:
    """Fit the voxels of a volume where FSL-MRS has submitted them.

    Raises
    ------
    DataError
        If none can be fitted.
    """
    jobs = running.get("jobs")
    if jobs is None or not jobs.commands:
        return
    import sys

    failed = jobs.run()
    for line in failed:
        print(f"left out, {line}", file=sys.stderr)
    if len(failed) >= len(jobs.commands) - 1:
        from ..core.errors import DataError

        raise DataError(f"no voxel of {running['args'].data} could be fitted", remedy="check `data` and `spatial_mask`")


def patch_fsl_dynmrs(module) -> None:
    """Add ``--algo dlquant`` to ``fsl_dynmrs``; see also :func:`patch_dynmrs`."""
    with_parser(module, _add_algo, _take_algo, _run_jobs)
