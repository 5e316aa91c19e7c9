"""Changes to FSL-MRS's modules, each applied once to the module as it was just imported.

A patch looks first whether the module has the shape it knows, and raises :class:`UnknownShape` without having touched
anything if not.  FSL-MRS's own code always runs; these wrap it.  Standard library only: everything else is loaded when
it is used.
"""

import functools

from .plugin import STEPS, DlQuant, one_line_errors

__all__ = ["PATCHES", "UnknownShape"]

# An FSL-MRS module that finds plugins by itself says so with this name (docs/fsl_mrs_plugins.md); it is left alone.
PLUGIN_GROUP = "PLUGIN_GROUP"

# What the running command was told, for fits deep inside of it ({"options": FitOptions, "args": ...}), and what it has
# found so far.
_running: dict = {}


class UnknownShape(Exception):
    """The module is not as any FSL-MRS this package knows."""


def _need(condition, what: str) -> None:
    if not condition:
        raise UnknownShape(what)


def _parameters(function) -> list[str]:
    """Names of a plain function's parameters, without loading ``inspect``, which would slow every command's help."""
    code = getattr(function, "__code__", None)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code else ["?"]


# -- fitting and its report ----------------------------------------------------------------------------------------


def patch_fitting(module) -> None:
    """``fit_FSLModel`` knows ``method='dlquant'``; options of ours may be given as ``dl_device='cpu'`` and so on."""
    original = getattr(module, "fit_FSLModel", None)
    _need(callable(original), "no function fit_FSLModel")
    import inspect

    signature = inspect.signature(original)
    parameters = list(signature.parameters)
    wanted = ("mrs", "method", "ppmlim", "metab_groups", "model", "x0", "baseline_order")
    _need(parameters[:2] == ["mrs", "method"] and set(wanted) <= set(parameters), f"fit_FSLModel{signature}")

    @functools.wraps(original)
    def fit_FSLModel(*args, **kwargs):
        if (kwargs.get("method") or (args[1] if len(args) > 1 else None)) != DlQuant.name:
            return original(*args, **kwargs)
        own = {name[3:]: kwargs.pop(name) for name in list(kwargs) if name.startswith("dl_")}
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        options = _running.get("options")
        if own:
            from ..fitting.options import FitOptions

            for name in own:
                if name not in ("init", "model", "device", "estimate", "prior"):
                    raise TypeError(f"fit_FSLModel() got an unexpected keyword argument 'dl_{name}'")
            # The network; the signal model is fit_FSLModel's own argument.
            options = FitOptions(**{"network" if name == "model" else name: value for name, value in own.items()})
        result = DlQuant.fit(arguments.pop("mrs"), arguments, options)
        if _running.get("options") is not None and "arguments" not in _running and hasattr(result, "dl"):
            # A command's one fit, or a volume's average: FSL-MRS says nothing of how well it went.
            import sys

            print(DlQuant.describe(result), file=sys.stderr)
        return result

    if original.__doc__:
        fit_FSLModel.__doc__ = (
            f"{original.__doc__.rstrip()}\n\n    With FSL-MRS-DL also method='dlquant', which takes dl_init,"
            " dl_model, dl_device, dl_estimate and dl_prior.\n    "
        )
    module.fit_FSLModel = fit_FSLModel


def patch_report(module) -> None:
    """The methods section of a report says how ``dlquant`` fitted."""
    original = getattr(module, "svs_methods_summary", None)
    _need(callable(original) and _parameters(original) == ["res"], "no function svs_methods_summary(res)")

    @functools.wraps(original)
    def svs_methods_summary(res):
        text = original(res)
        if getattr(res, "method", None) != DlQuant.name:
            return text
        return f"{text}<p>Optimisation: {DlQuant.describe(res)}</p>"

    module.svs_methods_summary = svs_methods_summary


# -- commands ------------------------------------------------------------------------------------------------------


def _with_parser(module, before_parsing, after_parsing=None, afterwards=None) -> None:
    """Let the module's ``main`` build its parser from a class that calls back around ``parse_args``.

    ``before_parsing(parser, words)`` adds what is to be added and returns the words to parse, ``None`` for the command
    line's; ``afterwards()`` is called when all went well.
    """
    original, library = getattr(module, "main", None), getattr(module, "configargparse", None)
    _need(callable(original) and not _parameters(original), "no function main()")
    base = getattr(library, "ArgParser", None)
    _need(
        isinstance(base, type) and hasattr(base, "parse_args") and hasattr(base, "add_subparsers"),
        "no configargparse.ArgParser",
    )

    class ArgParser(base):
        def add_subparsers(self, *args, **kwargs):
            self.dl_subparsers = super().add_subparsers(*args, **kwargs)
            return self.dl_subparsers

        def parse_args(self, args=None, *more, **kwargs):
            parsed = super().parse_args(before_parsing(self, args), *more, **kwargs)
            if after_parsing is not None:
                after_parsing(self, parsed)
            return parsed

    class Library:
        """The parser library with its parser class exchanged."""

        def __getattr__(self, name):
            return getattr(library, name)

    Library.ArgParser = ArgParser

    @functools.wraps(original)
    def main():
        module.configargparse = Library()
        try:
            with one_line_errors(module.__name__.rpartition(".")[2]):
                out = original()
                if afterwards is not None:
                    afterwards()
                return out
        finally:
            module.configargparse = library
            _running.clear()

    module.main = main


def _add_dlquant(parser, words):
    DlQuant.add_arguments(parser.add_argument_group(DlQuant.heading))
    for action in parser._actions:
        if action.dest == "algo" and isinstance(action.help, str):
            text = action.help.rstrip()
            action.help = f"{text[:-1]}, or {DlQuant.help}]" if text.endswith("]") else f"{text}, or {DlQuant.help}"
    return words


def _take_options(parser, args) -> None:
    if str(args.algo).lower().replace("-", "").replace("_", "") == DlQuant.name:
        args.algo = DlQuant.name  # DLQuant, dl-quant
    _running["options"] = DlQuant.options_from(args, args.algo)
    _running["args"] = args
    if args.algo == DlQuant.name and getattr(args, "data", None):
        DlQuant.warn(args)


def _write_volume() -> None:
    """The maps that FSL-MRS has not, beside its own."""
    output = getattr(_running.get("args"), "output", None)
    if _running.get("volume") is not None and output:
        _running["volume"].write(output)


def patch_fsl_mrs(module) -> None:
    """``fsl_mrs`` takes ``--algo dlquant`` and its options."""
    _with_parser(module, _add_dlquant, _take_options)


def patch_fsl_mrsi(module) -> None:
    """``fsl_mrsi`` takes ``--algo dlquant``; see also :func:`patch_mrsi`."""
    original = getattr(module, "runvoxel", None)
    _need(
        _parameters(original)[:3] == ["mrs_in", "args", "Fitargs"], "no function runvoxel(mrs_in, args, Fitargs, ...)"
    )
    _with_parser(module, _add_dlquant, _take_options, _write_volume)

    @functools.wraps(original)
    def runvoxel(mrs_in, args, Fitargs, *more, **named):
        if _running.get("options") is None or "arguments" in _running:
            return original(mrs_in, args, Fitargs, *more, **named)
        # The first call is for the volume's average, which FSL-MRS fits with Newton and starts every voxel from.  Here
        # each voxel has starts of its own, which leaves the answer independent of what else is in the volume.
        Fitargs = {**Fitargs, "method": DlQuant.name}
        result = original(mrs_in, args, Fitargs, *more, **named)
        _running["arguments"] = Fitargs
        return result

    module.runvoxel = runvoxel


def patch_mrsi(module) -> None:
    """While ``fsl_mrsi --algo dlquant`` runs, a volume's voxels are fitted in batches as FSL-MRS iterates over them.

    The average it begins with is taken over the voxels that can be fitted; one voxel of NaN would make it NaN.
    """
    cls = getattr(module, "MRSI", None)
    known = isinstance(cls, type) and {"__iter__", "mrs_from_average"} <= set(vars(cls))
    _need(known, "no class MRSI with __iter__ and mrs_from_average")
    plain_iter, plain_average = cls.__iter__, cls.mrs_from_average

    @functools.wraps(plain_iter)
    def __iter__(self):
        if "arguments" not in _running:
            return plain_iter(self)
        return DlQuant.fit_batched(plain_iter(self), _running["arguments"], _running["options"], _running)

    @functools.wraps(plain_average)
    def mrs_from_average(self):
        if _running.get("options") is None:
            return plain_average(self)
        mask = self.mask
        try:
            self.mask = DlQuant.usable(self.data, mask)
            return plain_average(self)
        finally:
            self.mask = mask

    cls.__iter__, cls.mrs_from_average = __iter__, mrs_from_average


def _with_config(words, library):
    """The words with the options of a ``--config`` file written out behind a step of ours; those on the command line
    win.

    FSL-MRS takes ``--config`` before the step, where its parser gives nothing to the step's own required options.
    """
    import sys

    given = list(sys.argv[1:] if words is None else words)
    given = [part for word in given for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if not {step.name for step in STEPS} & set(given) or "--config" not in given[:-1]:
        return words
    at = given.index("--config")
    path, given = given[at + 1], given[:at] + given[at + 2 :]
    try:
        with open(path) as file:
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
        if option in given or (isinstance(value, str) and value.lower() in ("false", "no")):
            continue
        flag = isinstance(value, str) and value.lower() in ("true", "yes")
        given += [option] if flag else [option, *([value] if isinstance(value, str) else value)]
    return given


def patch_fsl_mrs_proc(module) -> None:
    """``fsl_mrs_proc`` has the steps ``dl-align`` and ``dl-denoise``."""
    _need(callable(getattr(module, "add_common_args", None)), "no function add_common_args")
    library = getattr(module, "configargparse", None)

    def add_steps(parser, words):
        steps = getattr(parser, "dl_subparsers", None)
        new = [] if steps is None else [one for one in STEPS if one.name not in getattr(steps, "choices", {})]
        for one in new:
            step = steps.add_parser(one.name, help=one.help, add_help=False)
            one.add_arguments(step.add_argument_group(f"{one.name} arguments"))
            step.set_defaults(func=one.run)
            module.add_common_args(step)
        return _with_config(words, library) if new else words

    _with_parser(module, add_steps)


PATCHES = {
    "fsl_mrs.utils.fitting": patch_fitting,
    "fsl_mrs.utils.report": patch_report,
    "fsl_mrs.core.mrsi": patch_mrsi,
    "fsl_mrs.scripts.fsl_mrs": patch_fsl_mrs,
    "fsl_mrs.scripts.fsl_mrsi": patch_fsl_mrsi,
    "fsl_mrs.scripts.fsl_mrs_proc": patch_fsl_mrs_proc,
}
