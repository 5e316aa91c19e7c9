"""Cells of commands in notebooks: shown as commands of a shell, without the line that says so to Jupyter."""

from __future__ import annotations

from docutils import nodes
from sphinx.transforms import SphinxTransform

__all__ = ["setup"]

MAGIC = "%%bash\n"


class ShellCells(SphinxTransform):
    """Takes ``%%bash`` off the cells that begin with it, and colours them as commands."""

    default_priority = 400

    def apply(self, **kwargs) -> None:
        """Change the code cells of the page."""
        for block in self.document.findall(nodes.literal_block):
            if block.rawsource.startswith(MAGIC) or block.astext().startswith(MAGIC):
                text = block.astext().removeprefix(MAGIC)
                block.rawsource = text
                block.children = [nodes.Text(text)]
                block["language"] = "bash"


def setup(app):
    """Add the transform."""
    app.add_transform(ShellCells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
