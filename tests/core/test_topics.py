"""Topics of error messages: each has an entry, and each entry an error."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core import topics
from fsl_mrs_dl.core.errors import BasisError, DataError, OptionError, OutputError

ROOT = Path(__file__).resolve().parents[2]
KINDS = {kind.__name__: kind for kind in (BasisError, DataError, OptionError, OutputError)}


def raised():
    """Errors of the source as far as it tells their option and problem, X for values."""
    for path in sorted((ROOT / "fsl_mrs_dl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in KINDS and call.args:
                text = call.args[0]
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                problem = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in parts)
                options = [word.value for word in call.keywords if word.arg == "option"]
                option = options[0].value if options and isinstance(options[0], ast.Constant) else None
                yield KINDS[call.func.id](problem, option=option)


def test_every_error_has_an_entry_and_every_entry_an_error():
    used = {topics.topic_of(error) for error in raised()}
    entries = topics.entries()
    assert used == set(entries) and all(len(text) > 60 for text in entries.values())


@pytest.mark.parametrize(
    "error, topic",
    [
        (DataError("water/transient.nii.gz: no such file"), "file-missing"),
        (DataError("svs.nii.gz: its water is not suppressed, 40 times as high as"), "water-mixed-up"),
        (DataError("svs.nii.gz: is cut short (20 bytes, 100 are needed)"), "file-unreadable"),
        (DataError("svs.nii.gz: FIDs have 8 points"), "data-unsuitable"),
        (BasisError("basis: is for 1H, svs.nii.gz is 31P"), "basis-protocol"),
        (OutputError("fit: exists already"), "output-exists"),
        (OptionError("is no estimate", option="estimate", value="best"), "prior-and-estimate"),
        (OptionError("limits in ascending order"), "option-value"),
    ],
)
def test_topics_of_typical_errors(error, topic):
    assert topics.topic_of(error) == topic


def test_message_ends_with_the_topic_that_explain_prints(tmp_path, capsys):
    assert main(["fit", "--data", str(tmp_path / "x.nii.gz"), "--basis", "b", "--output", str(tmp_path / "o")]) == 2
    words = capsys.readouterr().err.strip().rpartition("(fsl_mrs_dl ")[2].rstrip(")").split()
    assert main(words) == 0
    assert "folder you work in" in capsys.readouterr().out
    assert main(["explain"]) == 0 and "file-missing" in capsys.readouterr().out.split()
    assert main(["explain", "weather"]) == 2 and "file-missing" in capsys.readouterr().err
