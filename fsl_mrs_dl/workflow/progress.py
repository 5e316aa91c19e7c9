"""What a session's run came to, in a few words for the terminal."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from ..io.files import json_content
from .steps import ABSOLUTE, why_not_absolute

__all__ = ["came_to", "warnings_in_words"]

_MOST = 10
_NO_WATER = "there is no water reference"  # which many studies have not, and nobody need be warned of


def came_to(folder: Path) -> tuple[str, list[str]]:
    """Return the verdict on a session's fit in a few words, and the warnings of its run.

    Parameters
    ----------
    folder : path
        Its results; without a readable ``run.json`` both are empty.
    """
    try:
        content = json_content((folder / "run.json").read_bytes())
        quality, found = content.get("quality") or {}, content.get("warnings") or []
        why = why_not_absolute(content)
        if why and not why.startswith(_NO_WATER):
            found = [*found, f"No {ABSOLUTE} (mM), though there is water: {why}."]
        warnings = [_without_names(str(one), content) for one in found]
        words = [str(quality["verdict"])] if quality.get("verdict") else []
        if quality.get("converged") is False:
            words.append("the fit did not converge")
    except (OSError, ValueError, AttributeError, TypeError):
        return "", []
    if warnings:
        words.append("1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings")
    return ", ".join(words), warnings


def _without_names(warning: str, content: dict) -> str:
    """Return a warning without the names of one session and its files, so that those of several can be counted."""
    inputs = content.get("inputs") or {}
    files = [str(inputs[key]) for key in ("data", "water", "quant", "t1") if inputs.get(key)]
    names = sorted({*files, *(Path(file).name for file in files)}, key=len, reverse=True)
    # A name such as 1, or raw, is a number or a word elsewhere.
    own = str(content.get("name") or "")
    for name in [*(one for one in names if re.search(r"[/.]", one)), *([own] if re.search(r"[A-Za-z]", own) else [])]:
        warning = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "...", warning)
    return warning


def warnings_in_words(warnings: Counter[str]) -> list[str]:
    """Return warnings with the number of sessions that have each, a line each, the most frequent first."""
    lines = [f"  {n} session{'s' * (n > 1)}: {text}" for text, n in warnings.most_common(_MOST)]
    if len(warnings) > _MOST:
        lines.append(f"  and {len(warnings) - _MOST} more, in the sessions' reports")
    return ["Warnings:", *lines] if lines else []
