"""Private words of earlier texts stay away from README, documentation, changelog, docstrings and messages.

The list is the table of ``docs/contributing/style.md``.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STYLE = ROOT / "docs" / "contributing" / "style.md"
TEXTS = [
    page
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
    if not {"_build", "generated"} & set(page.relative_to(ROOT).parts)
]
SOURCES = sorted(path for folder in ("fsl_mrs_dl", "fsleyes_plugin_dl") for path in (ROOT / folder).rglob("*.py"))


def name(path):
    return path.relative_to(ROOT).as_posix()


@cache
def refused():
    """Words of the table's first column, as patterns."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", STYLE.read_text(encoding="utf-8"), re.MULTILINE)[1:]
    words = [word.strip() for row in rows for word in row.split(",")]
    assert len(words) > 20
    return re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b", re.IGNORECASE)


def private_words(text):
    return sorted({match.group() for match in refused().finditer(text)})


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_texts_have_no_private_word(path):
    text = path.read_text(encoding="utf-8")
    if path == STYLE:
        text = text.partition("## Words to avoid")[0]
    assert not private_words(text)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_docstrings_and_messages_have_no_private_word(path):
    """Texts are strings of more than one word."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            assert not private_words(node.value), f"{name(path)}:{node.lineno}: {node.value[:80]}"
