"""Commands that are killed leave whole results or none, and can be run again."""

from __future__ import annotations

import subprocess
import sys


def test_what_a_killed_command_leaves_is_whole_or_absent():
    # A process of its own: only one without threads may be forked.
    words = ["--kills", "3", "--commands", "align", "--seed", "1"]
    done = subprocess.run([sys.executable, "-m", "benchmarks.scripts.kills", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| align |" in done.stdout and "| 3 |" in done.stdout
