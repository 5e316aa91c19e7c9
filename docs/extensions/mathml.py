"""Equations as MathML, which browsers draw themselves: pages need no script from elsewhere."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert

__all__ = ["setup"]


def inline(writer, node) -> None:
    """Write an equation within a line."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(writer, node) -> None:
    """Write an equation on a line of its own."""
    writer.body.append(convert(node.astext(), display="block"))
    raise nodes.SkipNode


def setup(app):
    """Add the renderer and choose it."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
