"""Titles and texts that fit the place that they are drawn in.  Needs matplotlib, neither wx nor FSLeyes."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SIZES", "fitting", "shortened", "width", "wrapped"]

SIZES = (11, 9, 8)
"""Sizes of the letters in points, the preferred one first."""

_DPI = 96  # pixels per inch of FSLeyes's colour bars


def shortened(text: str, most: int = 16) -> str:
    """Return a text of at most that many characters, with "…" in place of the middle of a longer one."""
    if len(text) <= most:
        return text
    kept = max(most - 1, 2)
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def width(text: str, size: float, dpi: float = _DPI) -> float:
    """Return the width in pixels of a text whose letters have a size in points, on a colour bar of FSLeyes, or in a
    picture of another resolution."""
    from matplotlib.textpath import TextPath

    # Not as mathematics: names of folders may hold "$".
    text = text.replace("$", "s")
    return float(TextPath((0, 0), text, size=size).get_extents().width) * dpi / 72 if text.strip() else 0.0


def fitting(titles: list[str], pixels: float) -> tuple[str, int]:
    """Return the first of some titles that fits within a width in one of :data:`SIZES`, and that size; the last one
    shortened where none fits."""
    for title in titles:
        for size in SIZES:
            if width(title, size) <= pixels:
                return title, size
    title = titles[-1]
    most = int(len(title) * pixels / max(width(title, SIZES[-1]), 1))
    while most > 3 and width(shortened(title, most), SIZES[-1]) > pixels:
        most -= 1
    return shortened(title, max(most, 3)), SIZES[-1]


def wrapped(text: str, pixels: float, width_of: Callable[[str], float]) -> str:
    """Return a text with line breaks, so that every line is at most that wide: at spaces, and within words that are
    wider, such as paths, after a slash where there is one.

    ``width_of`` returns the width of a text in pixels.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if width_of(longer) <= pixels:
                line = longer
                continue
            lines += [line] if line else []
            *pieces, line = _pieces(word, pixels, width_of)
            lines += pieces
        lines.append(line)
    return "\n".join(lines)


def _pieces(word: str, pixels: float, width_of: Callable[[str], float]) -> list[str]:
    """Return the parts of a word that are at most that wide, of at least one letter each."""
    pieces = []
    while width_of(word) > pixels and len(word) > 1:
        most = max((n for n in range(1, len(word)) if width_of(word[:n]) <= pixels), default=1)
        slash = word.rfind("/", 0, most) + 1
        most = slash or most
        pieces.append(word[:most])
        word = word[most:]
    return [*pieces, word]
