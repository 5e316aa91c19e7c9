"""Changes to FSL-MRS's modules, each applied once to the module as it was just imported.

A patch first checks that the module has the expected shape, and raises :class:`UnknownShape` before any change if not.
FSL-MRS's own code always runs; these wrap it.  Standard library only: everything else is loaded when it is used.
"""

import functools

from .dynamic_patches import patch_dynmrs, patch_fsl_dynmrs
from .patching import UnknownShape, need, note_output, parameters, required, running, with_parser
from .plugin import STEPS, DlQuant, one_line_errors

__all__ = ["PATCHES", "UnknownShape"]

# A module of FSL-MRS that finds plugins by itself has this name (docs/fsl_mrs_plugins.md) and is not patched.
PLUGIN_GROUP = "PLUGIN_GROUP"

# Options of fit_FSLModel are these after "dl_"; "model" is the network, as in the commands.
_OPTIONS = (
    "init",
    "model",
    "device",
    "estimate",
    "prior",
    "spectral_model",
    "mm",
    "soft_constraints",
    "echo_time_s",
    "repetition_time_s",
    "eddy_currents_corrected",
)


# -- fitting and its report ----------------------------------------------------------------------------------------


def patch_fitting(module) -> None:
    """Add ``method='dlquant'`` to ``fit_FSLModel``, with its own options as ``dl_device='cpu'`` and so on."""
    original = required(module, "fit_FSLModel", callable, "no function fit_FSLModel")
    import inspect

    signature = inspect.signature(original)
    parameters = list(signature.parameters)
    needed = ("mrs", "method", "ppmlim", "metab_groups", "model", "x0", "baseline_order")
    need(parameters[:2] == ["mrs", "method"] and set(needed) <= set(parameters), f"fit_FSLModel{signature}")

    @functools.wraps(original)
    def fit_FSLModel(*args, **kwargs):
        if (kwargs.get("method") or (args[1] if len(args) > 1 else None)) != DlQuant.name:
            return original(*args, **kwargs)
        dl_values = {name[3:]: kwargs.pop(name) for name in list(kwargs) if name.startswith("dl_")}
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        options = running.get("options")
        if dl_values:
            from ..fitting.options import FitOptions

            for name in dl_values:
                if name not in _OPTIONS:
                    raise TypeError(f"fit_FSLModel() got an unexpected keyword argument 'dl_{name}'")
            # The network; the signal model is fit_FSLModel's own argument.
            values = {"network" if name == "model" else name: value for name, value in dl_values.items()}
            options = FitOptions(**{"spectral_model": "fsl-mrs", **values})
        result = DlQuant.fit(arguments.pop("mrs"), arguments, options)
        if running.get("options") is not None and "arguments" not in running and hasattr(result, "dl"):
            # A command's one fit, or a volume's average: FSL-MRS prints nothing about its quality.
            import sys

            print(DlQuant.describe(result), file=sys.stderr)
        return result

    if original.__doc__:
        fit_FSLModel.__doc__ = (
            f"{original.__doc__.rstrip()}\n\n    With FSL-MRS-DL also method='dlquant', which takes dl_init,"
            " dl_model, dl_device, dl_estimate, dl_prior and dl_spectral_model; with dl_spectral_model='in-vivo' also"
            " dl_mm, dl_soft_constraints, dl_echo_time_s, dl_repetition_time_s and dl_eddy_currents_corrected (that a"
            " water reference is not to correct again).\n    "
        )
    module.fit_FSLModel = fit_FSLModel


def patch_report(module) -> None:
    """Describe ``dlquant`` in the methods section of a report, and plot every component of its fits."""
    missing = "no function svs_methods_summary(res)"
    original = required(module, "svs_methods_summary", lambda one: parameters(one) == ["res"], missing)

    @functools.wraps(original)
    def svs_methods_summary(res):
        text = original(res)
        if getattr(res, "method", None) != DlQuant.name:
            return text
        return f"{text}<p>Optimisation: {DlQuant.describe(res)}</p>"

    module.svs_methods_summary = svs_methods_summary
    for name in ("svs_basis_plot", "svs_indiv_plot"):
        _plot_components(module, name)


def _plot_components(module, name: str) -> None:
    """Give a plot of single metabolites the components that a fit added to the basis set; a module without the plot
    stays as it is."""
    original = getattr(module, name, None)
    if original is None or parameters(original)[:2] != ["mrs", "res"]:
        return

    @functools.wraps(original)
    def plot(mrs, res, *more, **named):
        with_components = getattr(res, "with_components", None)
        return original(mrs if with_components is None else with_components(mrs), res, *more, **named)

    setattr(module, name, plot)


# -- commands ------------------------------------------------------------------------------------------------------


def _add_dlquant(parser, words):
    """Add the options of ``dlquant`` to a parser; returns the words unchanged."""
    DlQuant.add_arguments(parser.add_argument_group(DlQuant.heading))
    for action in parser._actions:
        if action.dest == "algo" and isinstance(action.help, str):
            text = action.help.rstrip()
            action.help = f"{text[:-1]}, or {DlQuant.help}]" if text.endswith("]") else f"{text}, or {DlQuant.help}"
    return words


def _take_options(parser, args) -> None:
    """Store the options of ``dlquant`` for the fits of the command."""
    if DlQuant.is_named(args.algo):
        args.algo = DlQuant.name
    options = DlQuant.options_from(args, args.algo)
    if options is not None and getattr(args, "data", None):
        options = DlQuant.with_header(options, args)
    running["options"], running["args"] = options, args
    if args.algo == DlQuant.name and getattr(args, "data", None):
        note_output(args)
        DlQuant.warn(args)


def _write_volume() -> None:
    """Write the maps that FSL-MRS does not write, beside its own."""
    output = getattr(running.get("args"), "output", None)
    if running.get("volume") is not None and output:
        running["volume"].write(output)


def patch_fsl_mrs(module) -> None:
    """Add ``--algo dlquant`` and its options to ``fsl_mrs``."""
    with_parser(module, _add_dlquant, _take_options)


def patch_fsl_mrsi(module) -> None:
    """Add ``--algo dlquant`` to ``fsl_mrsi``; see also :func:`patch_mrsi`."""
    missing = "no function runvoxel(mrs_in, args, Fitargs, ...)"
    first = ["mrs_in", "args", "Fitargs"]
    original = required(module, "runvoxel", lambda one: parameters(one)[:3] == first, missing)
    with_parser(module, _add_dlquant, _take_options, _write_volume)

    @functools.wraps(original)
    def runvoxel(mrs_in, args, Fitargs, *more, **named):
        if running.get("options") is None or "arguments" in running:
            return original(mrs_in, args, Fitargs, *more, **named)
        # The first call is for the volume's average, which FSL-MRS fits with Newton and starts every voxel from.  Here
        # each voxel has initial values of its own, so that a fit does not depend on the other voxels.
        Fitargs = {**Fitargs, "method": DlQuant.name}
        result = original(mrs_in, args, Fitargs, *more, **named)
        running["arguments"] = Fitargs
        return result

    module.runvoxel = runvoxel


def patch_mrsi(module) -> None:
    """Fit a volume's voxels in batches while ``fsl_mrsi --algo dlquant`` iterates over them.

    The average that it fits first is taken over the usable voxels; one voxel of NaN would make it NaN.
    """
    missing = "no class MRSI with __iter__ and mrs_from_average"
    cls = required(module, "MRSI", _is_volume, missing)
    plain_iter, plain_average = cls.__iter__, cls.mrs_from_average

    @functools.wraps(plain_iter)
    def __iter__(self):
        if "arguments" not in running:
            return plain_iter(self)
        return DlQuant.fit_batched(plain_iter(self), running["arguments"], running["options"], running)

    @functools.wraps(plain_average)
    def mrs_from_average(self):
        if running.get("options") is None:
            return plain_average(self)
        mask = self.mask
        try:
            self.mask = DlQuant.usable(self.data, mask)
            return plain_average(self)
        finally:
            self.mask = mask

    cls.__iter__, cls.mrs_from_average = __iter__, mrs_from_average


def _is_volume(cls) -> bool:
    return isinstance(cls, type) and {"__iter__", "mrs_from_average"} <= set(vars(cls))


def _with_config(words, library):
    """Return the words with the options of a ``--config`` file appended after one of our steps; the command line
    wins.

    FSL-MRS takes ``--config`` before the step, where its parser does not fill the step's own required options.
    """
    import sys

    expanded = list(sys.argv[1:] if words is None else words)
    expanded = [part for word in expanded for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if not {step.name for step in STEPS} & set(expanded) or "--config" not in expanded[:-1]:
        return words
    at = expanded.index("--config")
    path, expanded = expanded[at + 1], expanded[:at] + expanded[at + 2 :]
    try:
        with open(path, encoding="utf-8-sig") as file:
            settings = library.DefaultConfigFileParser().parse(file)
    except Exception as exc:
        from ..core.errors import OptionError

        raise OptionError(
            f"cannot be read ({exc})",
            option="config",
            value=path,
            remedy="give a file with one option a line, dim = DIM_DYN",
        ) from exc
    for key, value in settings.items():
        option = f"--{key.lstrip('-')}"
        if option in expanded or (isinstance(value, str) and value.lower() in ("false", "no")):
            continue
        flag = isinstance(value, str) and value.lower() in ("true", "yes")
        expanded += [option] if flag else [option, *([value] if isinstance(value, str) else value)]
    return expanded


def patch_fsl_mrs_proc(module) -> None:
    """Add the steps ``dl-align`` and ``dl-denoise`` to ``fsl_mrs_proc``."""
    need(callable(getattr(module, "add_common_args", None)), "no function add_common_args")
    library = getattr(module, "configargparse", None)

    def add_steps(parser, words):
        steps = getattr(parser, "dl_subparsers", None)
        if steps is None:
            return words
        new = [one for one in STEPS if one.name not in getattr(steps, "choices", {})]
        for one in new:
            step = steps.add_parser(one.name, help=one.help, add_help=False)
            one.add_arguments(step.add_argument_group(f"{one.name} arguments"))
            step.set_defaults(func=one.run)
            module.add_common_args(step)
        return _with_config(words, library) if new else words

    def note(parser, args):
        if getattr(args, "func", None) in [step.run for step in STEPS]:
            note_output(args)

    with_parser(module, add_steps, note)


def patch_fsl_mrs_preproc(module) -> None:
    """Add ``--dl-align`` to ``fsl_mrs_preproc``, which aligns by this package then."""

    def add_option(parser, words):
        parser.add_argument_group("FSL-MRS-DL").add_argument(
            "--dl-align",
            dest="dl_align",
            action="store_true",
            help="align as fsl_mrs_proc dl-align does; data that alignment would make worse stay as they are",
        )
        return words

    def exchange(parser, args):
        if not args.dl_align:
            return
        from fsl_mrs.utils.preproc import nifti_mrs_proc

        from .preprocessing import aligner

        # main() restores it.
        running["restore"] = functools.partial(setattr, nifti_mrs_proc, "align", nifti_mrs_proc.align)
        nifti_mrs_proc.align = aligner(tuple(args.align_limits), args.output if args.report else None)

    with_parser(module, add_option, exchange)


def patch_fsl_mrs_summarise(module) -> None:
    """Let ``fsl_mrs_summarise`` read the spectra of fits with the in-vivo model, which it cannot compute again."""
    original = required(module, "main", _has_results, "no function main() with a folder fp and results res_store")

    @functools.wraps(original)
    def main():
        import sys

        from fsl_mrs.utils import results

        plain = results.FitRes

        def fit_result(mrs, params, *more, **named):
            try:
                return plain(mrs, params, *more, **named)
            except ValueError:
                # Another number of parameters than the folder's options say: they are not of FSL-MRS's model.
                folder = sys._getframe(1).f_locals.get("fp")
                ppmlim = named.get("ppmlim", more[4] if len(more) > 4 else None)
                if folder is None or ppmlim is None:
                    raise
                from .stored import StoredFit

                return StoredFit(mrs, folder, ppmlim)

        results.FitRes = fit_result
        try:
            with one_line_errors("fsl_mrs_summarise"):
                return original()
        finally:
            results.FitRes = plain

    module.main = main


def _has_results(function) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and {"fp", "res_store"} <= {*code.co_varnames, *code.co_cellvars}


PATCHES = {
    "fsl_mrs.utils.fitting": patch_fitting,
    "fsl_mrs.utils.report": patch_report,
    "fsl_mrs.core.mrsi": patch_mrsi,
    "fsl_mrs.dynamic.dynmrs": patch_dynmrs,
    "fsl_mrs.scripts.fsl_dynmrs": patch_fsl_dynmrs,
    "fsl_mrs.scripts.fsl_mrs": patch_fsl_mrs,
    "fsl_mrs.scripts.fsl_mrsi": patch_fsl_mrsi,
    "fsl_mrs.scripts.fsl_mrs_preproc": patch_fsl_mrs_preproc,
    "fsl_mrs.scripts.fsl_mrs_proc": patch_fsl_mrs_proc,
    "fsl_mrs.scripts.fsl_mrs_summarise": patch_fsl_mrs_summarise,
}
