"""Docstrings as pages: bars are bars, and formulas on lines of their own keep their form."""

from __future__ import annotations

import re

__all__ = ["prepared", "setup"]


def prepared(lines: list[str], of_module: bool) -> list[str]:
    """Return the lines of a docstring with bars escaped outside of literals, and, for a module, indented paragraphs as
    literal blocks.

    >>> prepared(["|C|^2 and ``|E|``"], False)
    ['\\\\|C\\\\|^2 and ``|E|``']
    >>> prepared(["Model", "", "    S = |a|", "", "End"], True)
    ['Model', '', '::', '', '    S = |a|', '', 'End']
    """
    result: list[str] = []
    block = None  # indentation of the literal block that lines are in
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() and (block is None or indent < block):
            before = next((one for one in reversed(result) if one.strip()), "")
            begins = before.rstrip().endswith("::") and indent > len(before) - len(before.lstrip())
            if of_module and indent >= 4 and not begins and not (result and result[-1].strip()):
                result += ["::", ""]
                begins = True
            block = indent if begins else None
        if block is None and not line.lstrip().startswith(">>>"):
            parts = re.split(r"(``.*?``|:math:`.*?`)", line)
            line = "".join(part if number % 2 else part.replace("|", "\\|") for number, part in enumerate(parts))
        result.append(line)
    return result


def setup(app):
    """Prepare docstrings before they are read as text."""

    def process(app, what, name, obj, options, lines):
        lines[:] = prepared(lines, what == "module")

    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
