"""Python source read without being executed: its syntax tree is evaluated, by a list of allowed operations only.

Understood are literals, arithmetic, comparisons, conditional expressions, indexing, comprehensions, assignments, loops
over ranges, functions of the file, and the functions of numpy, math and scipy.special in :data:`FUNCTIONS`.  Arrays are
torch tensors, so that derivatives of the functions are exact.  Everything else raises :class:`NotReadError`, and only
when it is reached: a function that is never called may contain anything.
"""

from __future__ import annotations

import ast
import math
import operator
import threading
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["FUNCTIONS", "Namespace", "NotReadError", "evaluate_expression", "read_module"]

_MOST_ITEMS, _MOST_DEPTH = 100_000, 40
_CALLS = threading.local()
"""How deep calls of functions are in each other, in each thread."""


class NotReadError(Exception):
    """Something in the source is not among the allowed operations; ``line`` is its line."""

    def __init__(self, line: int, what: str):
        super().__init__(what)
        self.line, self.what = line, what


def _tensor(value) -> torch.Tensor:
    """Return a number, list or tensor as a tensor of float64."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (list, tuple)):
        return _stack(value)
    return torch.as_tensor(value, dtype=torch.float64)


def _stack(values, *_, **__) -> torch.Tensor:
    """Return a list of numbers or arrays as one array, numbers spread over the shape of the arrays."""
    if isinstance(values, torch.Tensor):
        return values
    if not isinstance(values, (list, tuple)):
        return _tensor(values)
    return torch.stack(torch.broadcast_tensors(*[_tensor(value) for value in values]))


def _elementwise(function: Callable) -> Callable:
    return lambda *args, **_: function(*[_tensor(arg) for arg in args])


def _reduced(function: Callable) -> Callable:
    def reduce(value, axis=None, **_):
        value = _stack(value)
        return function(value) if axis is None else function(value, dim=axis)

    return reduce


def _clip(value, low=None, high=None):
    value = _tensor(value)
    value = value if low is None else torch.maximum(value, _tensor(low))
    return value if high is None else torch.minimum(value, _tensor(high))


def _where(condition, one, other):
    return torch.where(_tensor(condition).bool(), _tensor(one), _tensor(other))


def _dot(one, other):
    one, other = _tensor(one), _tensor(other)
    return one * other if one.ndim == 0 or other.ndim == 0 else one @ other


def _filled(number: float) -> Callable:
    def fill(shape, **_):
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if math.prod(shape) > _MOST_ITEMS:
            raise ValueError("too large an array")
        return torch.full(shape, float(number), dtype=torch.float64)

    return fill


def _spread(power: int) -> Callable:
    """Return numpy's variance (power 2) or SD (1), which divide by the number of values."""

    def spread(value, axis=None, ddof=0, **_):
        variance = torch.var(_stack(value), dim=axis, correction=int(ddof))
        return variance if power == 2 else variance.sqrt()

    return spread


def _median(value, axis=None, **_):
    # torch.median gives the lower one of two.
    return torch.quantile(_stack(value), 0.5, dim=axis)


def _polyfit(x, y, degree, **_):
    x, y = _tensor(x), _tensor(y)
    powers = torch.stack([x**power for power in range(int(degree), -1, -1)], dim=-1)
    return torch.linalg.lstsq(powers, y[:, None]).solution[:, 0]


_NAMES_IN_TORCH = (
    *("exp", "log", "log2", "log10", "log1p", "expm1", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh"),
    *("square", "abs", "sign", "maximum", "minimum", "erf", "erfc", "exp2", "reciprocal", "negative", "isfinite"),
)
FUNCTIONS: dict[str, Any] = {
    **{name: _elementwise(getattr(torch, name)) for name in _NAMES_IN_TORCH},
    "absolute": _elementwise(torch.abs),
    "fabs": _elementwise(torch.abs),
    "arctan": _elementwise(torch.atan),
    "power": _elementwise(torch.pow),
    "pow": _elementwise(torch.pow),
    "multiply": _elementwise(torch.mul),
    "divide": _elementwise(torch.div),
    "add": _elementwise(torch.add),
    "subtract": _elementwise(torch.sub),
    "heaviside": _elementwise(torch.heaviside),
    "ones_like": _elementwise(torch.ones_like),
    "zeros_like": _elementwise(torch.zeros_like),
    "ones": _filled(1),
    "zeros": _filled(0),
    "where": _where,
    "clip": _clip,
    "dot": _dot,
    "matmul": _dot,
    "array": _stack,
    "asarray": _stack,
    "stack": _stack,
    "vstack": _stack,
    "concatenate": lambda values, axis=0: torch.cat([torch.atleast_1d(_tensor(value)) for value in values], dim=axis),
    "hstack": lambda values: torch.cat([torch.atleast_1d(_tensor(value)) for value in values], dim=-1),
    "transpose": lambda value: _tensor(value).mT if _tensor(value).ndim > 1 else _tensor(value),
    "outer": _elementwise(torch.outer),
    "atleast_1d": _elementwise(torch.atleast_1d),
    "squeeze": _elementwise(torch.squeeze),
    "sum": _reduced(torch.sum),
    "mean": _reduced(torch.mean),
    "max": _reduced(torch.amax),
    "min": _reduced(torch.amin),
    "median": _median,
    "std": _spread(1),
    "var": _spread(2),
    "argmax": _reduced(torch.argmax),
    "argmin": _reduced(torch.argmin),
    "diff": lambda value, **_: torch.diff(_stack(value)),
    "polyfit": _polyfit,
    "cumsum": lambda value, axis=0: torch.cumsum(_stack(value), dim=axis),
    "pi": math.pi,
    "e": math.e,
    "inf": math.inf,
    "nan": math.nan,
    "newaxis": None,
    "float64": float,
    "float32": float,
}
"""Functions and constants of numpy, math and scipy.special that a file may use."""

_MODULES = ("numpy", "math", "scipy", "scipy.special")
_METHODS = (
    *("sum", "mean", "max", "min", "dot", "clip", "cumsum", "squeeze", "transpose", "std", "var", "argmax", "argmin"),
)
_UNCHANGED = ("copy", "astype", "ravel", "flatten")
_LONGEST = 100_000  # of lists and texts

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.MatMult: operator.matmul,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class _Module:
    """An allowed module; its attributes are those of :data:`FUNCTIONS`."""


class _Unread:
    """Something imported that is not allowed; using it raises."""

    def __init__(self, name: str):
        self.name = name


class _Return(Exception):
    def __init__(self, value):
        super().__init__()
        self.value = value


def _range(*bounds):
    numbers = range(*[int(bound) for bound in bounds])
    if len(numbers) > _MOST_ITEMS:
        raise ValueError("too long a range")
    return numbers


_BUILTINS: dict[str, Any] = {
    "range": _range,
    "len": lambda value: value.shape[0] if isinstance(value, torch.Tensor) else len(value),
    "float": float,
    "int": int,
    "str": str,
    "object": None,
    "abs": abs,
    "sum": _reduced(torch.sum),
    "list": list,
    "tuple": tuple,
    "zip": lambda *lists: list(zip(*lists)),
    "enumerate": lambda values: list(enumerate(values)),
}


class Namespace(dict):
    """Names of a function's body over those of the file, or of the file over the allowed builtins."""

    def __init__(self, outer: Namespace | None = None, depth: int = 0):
        super().__init__()
        self.outer, self.depth = outer, depth

    def find(self, name: str, line: int):
        """Return the value of a name; raise NotReadError if there is none."""
        scope: Namespace | None = self
        while scope is not None:
            if name in scope:
                return scope[name]
            scope = scope.outer
        if name in _BUILTINS:
            return _BUILTINS[name]
        raise NotReadError(line, f"the name {name}")


def read_module(source: str) -> Namespace:
    """Evaluate the text of a file and return its names; functions of the file are callables.

    Raises
    ------
    NotReadError
        With the line of what is not among the allowed operations.
    SyntaxError
        If the text is not Python.
    """
    names = Namespace()
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            continue
        _statement(node, names)
    return names


def evaluate_expression(text: str, values: dict[str, Any]) -> Any:
    """Return the value of an expression of names, numbers and :data:`FUNCTIONS`.

    Raises
    ------
    NotReadError
        If it has a name or an operation that is not allowed.
    SyntaxError
        If it is no expression of Python.
    """
    outer = Namespace()
    outer.update(FUNCTIONS)
    names = Namespace(outer)
    names.update(values)
    return _value(ast.parse(text.strip(), mode="eval").body, names)


def _statement(node: ast.stmt, names: Namespace) -> None:
    """Carry out one statement."""
    match node:
        case ast.Import() | ast.ImportFrom():
            _imports(node, names)
        case ast.FunctionDef(decorator_list=[]):
            names[node.name] = _function(node.args, node.body, names)
        case ast.Assign():
            value = _value(node.value, names)
            for target in node.targets:
                _assign(target, value, names)
        case ast.AnnAssign(value=ast.expr() as value):
            _assign(node.target, _value(value, names), names)
        case ast.AugAssign():
            old = (
                _value(ast.copy_location(ast.Name(node.target.id, ast.Load()), node), names)
                if isinstance(node.target, ast.Name)
                else _refuse(node)
            )
            _assign(node.target, _operate(node, node.op, old, _value(node.value, names)), names)
        case ast.Return():
            raise _Return(None if node.value is None else _value(node.value, names))
        case ast.If():
            for part in node.body if _truth(node.test, names) else node.orelse:
                _statement(part, names)
        case ast.For(orelse=[]):
            for item in _items(node.iter, names):
                _assign(node.target, item, names)
                for part in node.body:
                    _statement(part, names)
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            pass
        case _:
            _refuse(node)


def _refuse(node: ast.AST):
    text = ast.unparse(node).split("\n")[0]
    raise NotReadError(getattr(node, "lineno", 0), f"'{text[:60]}{'...' if len(text) > 60 else ''}'")


def _imports(node: ast.Import | ast.ImportFrom, names: Namespace) -> None:
    """Bind imported names: allowed ones to their function, others to a mark that raises once it is used."""
    for alias in node.names:
        name = alias.asname or alias.name
        if isinstance(node, ast.Import):
            allowed = alias.name in _MODULES
            names[name if alias.asname else name.split(".")[0]] = _Module() if allowed else _Unread(alias.name)
        elif alias.name == "*" and node.module in _MODULES:
            names.update(FUNCTIONS)
        elif node.module in _MODULES and alias.name in FUNCTIONS:
            names[name] = FUNCTIONS[alias.name]
        else:
            names[name] = _Module() if (node.module, alias.name) == ("scipy", "special") else _Unread(alias.name)


def _assign(target: ast.expr, value, names: Namespace) -> None:
    """Bind a name, names in a tuple, or an element of a dict."""
    if isinstance(target, ast.Name):
        names[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)) and not any(isinstance(one, ast.Starred) for one in target.elts):
        for one, part in zip(target.elts, value, strict=True):
            _assign(one, part, names)
    elif isinstance(target, ast.Subscript) and isinstance(_value(target.value, names), dict):
        _value(target.value, names)[_value(target.slice, names)] = value
    else:
        _refuse(target)


def _function(arguments: ast.arguments, body: list[ast.stmt] | ast.expr, outer: Namespace) -> Callable:
    """Return a function of the file as a callable."""
    named = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise NotReadError(arguments.args[0].lineno if arguments.args else 0, "a function with * arguments")
    defaults = [_value(one, outer) for one in arguments.defaults]

    def call(*args, **keywords):
        names = Namespace(outer, depth=getattr(_CALLS, "depth", 0) + 1)
        if names.depth > _MOST_DEPTH:
            raise ValueError("functions that call themselves")
        names.update(zip(named[len(named) - len(defaults) :], defaults))
        names.update(zip(named, args, strict=False), **keywords)
        _CALLS.depth = names.depth
        try:
            if isinstance(body, ast.expr):
                return _value(body, names)
            for node in body:
                _statement(node, names)
        except _Return as end:
            return end.value
        finally:
            _CALLS.depth = names.depth - 1
        return None

    return call


def _items(node: ast.expr, names: Namespace):
    value = _value(node, names)
    if not isinstance(value, (list, tuple, dict, range, torch.Tensor, str)):
        _refuse(node)
    return value


def _truth(node: ast.expr, names: Namespace) -> bool:
    value = _value(node, names)
    if isinstance(value, torch.Tensor):
        raise NotReadError(node.lineno, f"a choice by the value of '{ast.unparse(node)}' (use numpy's where)")
    return bool(value)


def _value(node: ast.expr, names: Namespace) -> Any:
    """Return the value of an expression."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.Name():
            value = names.find(node.id, node.lineno)
            if isinstance(value, _Unread):
                raise NotReadError(node.lineno, f"'{value.name}', which is imported")
            return value
        case ast.Tuple() | ast.List():
            values = [_value(one, names) for one in node.elts]
            return tuple(values) if isinstance(node, ast.Tuple) else values
        case ast.Dict():
            if any(key is None for key in node.keys):
                _refuse(node)
            return {_value(key, names): _value(one, names) for key, one in zip(node.keys, node.values) if key}
        case ast.JoinedStr():
            text = "".join(str(_value(part, names)) for part in node.values)
            return text if len(text) <= _LONGEST else _refuse(node)
        case ast.FormattedValue(format_spec=None):
            return str(_value(node.value, names))
        case ast.BinOp():
            return _operate(node, node.op, _value(node.left, names), _value(node.right, names))
        case ast.UnaryOp(op=ast.Not()):
            return not _truth(node.operand, names)
        case ast.UnaryOp():
            return _OPERATORS[type(node.op)](_value(node.operand, names))
        case ast.BoolOp():
            parts = (_truth(one, names) for one in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        case ast.Compare(ops=[one]) if type(one) in _OPERATORS:
            return _operate(node, one, _value(node.left, names), _value(node.comparators[0], names))
        case ast.IfExp():
            return _value(node.body if _truth(node.test, names) else node.orelse, names)
        case ast.Subscript():
            return _indexed(node, names)
        case ast.Attribute():
            return _attribute(node, names)
        case ast.Call():
            return _called(node, names)
        case ast.Lambda():
            return _function(node.args, node.body, names)
        case (
            ast.ListComp(generators=[ast.comprehension(ifs=[], is_async=0)])
            | ast.GeneratorExp(generators=[ast.comprehension(ifs=[], is_async=0)])
        ):
            inner, values = Namespace(names, names.depth), []
            for item in _items(node.generators[0].iter, names):
                _assign(node.generators[0].target, item, inner)
                values.append(_value(node.elt, inner))
            return values
        case _:
            return _refuse(node)


def _operate(node: ast.AST, kind: ast.AST, one, other):
    """Return the result of an operator; lists and strings may be joined, but not repeated without limit."""
    both_numbers = all(isinstance(value, (int, float, torch.Tensor)) for value in (one, other))
    if isinstance(kind, ast.Pow) and both_numbers:
        # Whole numbers of a thousand digits would take for ever.
        return torch.pow(_tensor(one), _tensor(other)) if _has_tensor(one, other) else float(one) ** float(other)
    if type(kind) not in _OPERATORS or isinstance(kind, ast.Mult) and not both_numbers:
        return _refuse(node)
    if all(isinstance(value, (list, tuple, str)) for value in (one, other)) and len(one) + len(other) > _LONGEST:
        return _refuse(node)
    return _OPERATORS[type(kind)](one, other)


def _has_tensor(*values) -> bool:
    return any(isinstance(value, torch.Tensor) for value in values)


def _indexed(node: ast.Subscript, names: Namespace):
    value = _value(node.value, names)
    if not isinstance(value, (list, tuple, dict, str, torch.Tensor)):
        _refuse(node)
    return value[_index(node.slice, names)]


def _index(node: ast.expr, names: Namespace):
    if isinstance(node, ast.Slice):
        return slice(*[None if part is None else _value(part, names) for part in (node.lower, node.upper, node.step)])
    if isinstance(node, ast.Tuple):
        return tuple(_index(one, names) for one in node.elts)
    return _value(node, names)


def _attribute(node: ast.Attribute, names: Namespace):
    """Return an allowed attribute of a module or an array."""
    value, name = _value(node.value, names), node.attr
    if isinstance(value, _Module):
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        if name == "special":
            return value
    elif isinstance(value, torch.Tensor):
        if name in ("shape", "ndim"):
            return tuple(value.shape) if name == "shape" else value.ndim
        if name == "size":
            return value.numel()
        if name == "T":
            return value.mT if value.ndim > 1 else value
        if name in _METHODS:
            return lambda *args, **keywords: FUNCTIONS[name](value, *args, **keywords)
        if name in _UNCHANGED and value.ndim <= 1 or name in ("copy", "astype"):
            return lambda *args, **keywords: value
        if name == "reshape":
            return lambda *shape: value.reshape(*shape)
    elif isinstance(value, dict) and name in ("keys", "values", "items"):
        return lambda: list(getattr(value, name)())
    return _refuse(node)


def _called(node: ast.Call, names: Namespace):
    function = _value(node.func, names)
    if not callable(function) or any(isinstance(one, ast.Starred) for one in node.args):
        _refuse(node)
    keywords = {one.arg: None if one.arg == "dtype" else _value(one.value, names) for one in node.keywords if one.arg}
    keywords.pop("dtype", None)
    arguments = [_value(one, names) for one in node.args]
    try:
        return function(*arguments, **keywords)
    except (ValueError, TypeError) as exc:
        raise NotReadError(node.lineno, f"'{ast.unparse(node)[:60]}' ({exc})") from exc
