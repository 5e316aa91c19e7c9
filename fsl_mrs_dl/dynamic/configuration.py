"""FSL-MRS's configuration files of dynamic fits: ``Parameters``, ``Bounds`` and functions, read without being executed.

The form is that of FSL-MRS's documentation of dynamic fitting (Clarke et al., doi 10.1002/mrm.28630, and the manual of
fsl_dynmrs).  A file may name a ready-made model of :mod:`fsl_mrs_dl.dynamic.models` and leave its definition out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import OptionError
from .expressions import NotReadError, read_module
from .models import READY_MADE, ExecutedModel, Initial, InterpretedModel, Model, ReadyModel

__all__ = ["Configuration", "configuration_error", "read_configuration"]


@dataclass(frozen=True)
class Configuration:
    """What a configuration file says.

    Attributes
    ----------
    path : path
    parameters : dict
        Behaviour of each kind of parameter: 'fixed', 'variable', ``{'dynamic': name, 'params': [...]}``, or a dict of
        these by metabolite or group.
    bounds : dict
        Lower and upper bound by name, each a number or None.
    functions : dict
        Functions of the file by name.
    executed : bool
        The file was executed, not read.
    """

    path: Path
    parameters: dict
    bounds: dict = field(default_factory=dict)
    functions: dict[str, Callable] = field(default_factory=dict)
    executed: bool = False

    def model(self, name: str, n_params: int) -> Model:
        """Return the model of a name with this number of parameters.

        Raises
        ------
        OptionError
            If neither the file nor this package has it, or the number does not fit.
        """
        if name in self.functions:
            if not self.executed:
                return InterpretedModel(self.functions[name])
            gradient = self.functions.get(f"{name}_grad")
            if gradient is None:
                raise self.error(f"has no function {name}_grad, the gradient of {name}", "define it")
            return ExecutedModel(self.functions[name], gradient)
        ready = READY_MADE.get(name)
        if ready is None:
            raise self.error(
                f"has no function {name}", f"define it, or name a ready-made model: {', '.join(READY_MADE)}"
            )
        if isinstance(ready, ReadyModel) and ready.n_params not in (None, n_params):
            raise self.error(f"gives {n_params} params to {name}, which has {ready.n_params}", "give as many names")
        return ready

    def initial(self, name: str) -> Initial | None:
        """Return the function ``NAME_init`` that proposes initial values of a model for a time course; None where the
        file has none."""
        function = self.functions.get(f"{name}_init")
        return None if function is None else Initial(function, self.executed)

    def error(self, problem: str, remedy: str | None = None) -> OptionError:
        """Return the error of a fault in the file."""
        return OptionError(problem, option="dyn_config", value=self.path, remedy=remedy)


def configuration_error(path: Path, exc: NotReadError) -> OptionError:
    """Return the error of something in a file that is not read."""
    return OptionError(
        f"line {exc.line}: {exc.what} is not among the operations that are read without executing the file",
        option="dyn_config",
        value=path,
        remedy="write it with numpy's elementary functions, or execute the file with `execute_config` if you trust it",
    )


def read_configuration(path: str | Path, *, execute: bool = False) -> Configuration:
    """Read a configuration file of FSL-MRS.

    Parameters
    ----------
    path : path
    execute : bool
        Execute the file as Python, which can do anything; by default it is only read.

    Raises
    ------
    OptionError
        If the file cannot be read, or has something that is not read without executing it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise OptionError(
            "no such file",
            option="dyn_config",
            value=path,
            remedy="give the path of a configuration in FSL-MRS's form, with Parameters, Bounds and functions",
        ) from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is no text"
        raise OptionError(f"cannot be read ({reason})", option="dyn_config", value=path) from exc
    try:
        names = _executed(path) if execute else read_module(text)
    except SyntaxError as exc:
        raise OptionError(f"line {exc.lineno}: no Python ({exc.msg})", option="dyn_config", value=path) from exc
    except NotReadError as exc:
        raise configuration_error(path, exc) from exc
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise OptionError(f"has a fault ({exc})", option="dyn_config", value=path) from exc
    return _checked(path, names, execute)


def _executed(path: Path) -> dict:
    """Execute a file and return its names."""
    from runpy import run_path

    try:
        return run_path(str(path))
    except SyntaxError:
        raise
    except Exception as exc:
        raise OptionError(
            f"fails when it is executed ({type(exc).__name__}: {exc})", option="dyn_config", value=path
        ) from exc


def _checked(path: Path, names: dict, executed: bool) -> Configuration:
    """Return the configuration that the names of a file make."""
    if not isinstance(names.get("Parameters"), dict):
        raise OptionError(
            "has no dict Parameters",
            option="dyn_config",
            value=path,
            remedy="write for example Parameters = {'conc': {'dynamic': 'exponential', 'params': ['amp', 'adc']}}",
        )
    bounds = names.get("Bounds") or {}
    functions = {key: value for key, value in names.items() if callable(value)}
    configuration = Configuration(path, names["Parameters"], bounds, functions, executed)
    for key in functions:
        name = key.removesuffix("_init")
        if name != key and name not in functions and name not in READY_MADE:
            raise configuration.error(f"has {key}, but no function {name}", "define it, or remove the former")
    if not isinstance(bounds, dict):
        raise configuration.error("Bounds is no dict", "write for example Bounds = {'gamma': (0, None)}")
    for key, pair in bounds.items():
        ok = isinstance(pair, (tuple, list)) and len(pair) == 2
        ok = ok and all(one is None or isinstance(one, (int, float)) for one in pair)
        if not ok or (None not in pair and pair[0] > pair[1]):
            raise configuration.error(
                f"the bounds of {key} are {pair!r}", "write (lower, upper), each a number or None, lower first"
            )
    return configuration
