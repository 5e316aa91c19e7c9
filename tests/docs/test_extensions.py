"""What the build of the documentation does itself: docstrings that are prepared, links that are followed."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).resolve().parents[2] / "docs" / "extensions"


def extension(name):
    spec = importlib.util.spec_from_file_location(f"extension_{name}", EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_in_the_docstrings_run():
    found = doctest.testmod(extension("docstrings"))
    assert found.attempted == 2 and not found.failed


@pytest.mark.parametrize(
    "link, dead",
    [("b.html", 0), ("b.html#there", 0), ("b.html#gone", 1), ("c.html", 1), ("https://example.org/x", 0), ("#gone", 1)],
)
def test_dead_links_within_the_pages_are_found(tmp_path, link, dead):
    (tmp_path / "a.html").write_text(f'<a href="{link}">x</a>', encoding="utf-8")
    (tmp_path / "b.html").write_text('<p id="there"></p>', encoding="utf-8")
    assert len(extension("links").dead_links(tmp_path)[1]) == dead


def test_pages_of_the_program_have_every_command_and_record():
    pages = extension("generated_pages").pages()
    assert {"commands/fit.md", "commands/mrsi.md", "maps.md", "recipes.md", "modules/core.md"} <= set(pages)
    assert "`--basis`" in pages["commands/fit.md"] and "in_vivo_model.md" in {Path(name).name for name in pages}


def test_links_to_files_of_the_repository_become_links_to_pages():
    """In a checkout the pages that the build makes are not there."""
    turned = extension("generated_pages").with_links_to_pages
    assert turned("[a](../../benchmarks/fuzz.md#x)") == "[a](/generated/records/fuzz.md#x)"
    assert turned("[all](../../fsl_mrs_dl/cli/fit.py)") == "[all](/generated/commands/fit.md)"
    assert turned("[c](../../CITATION.cff), [s](../../.github/SECURITY.md)").count("/generated/project/") == 2
    assert turned("[b](../howto/fit.md)") == "[b](../howto/fit.md)"


def test_pages_made_of_files_are_there():
    made = extension("generated_pages")
    pages = made.pages()
    links = [
        link
        for page in (made.DOCS.rglob("*.md"))
        if "_build" not in page.parts
        for link in made.re.findall(
            r"\]\(/generated/([^)#]+\.md)", made.with_links_to_pages(page.read_text(encoding="utf-8"))
        )
    ]
    assert len(links) > 50 and set(links) <= set(pages)
