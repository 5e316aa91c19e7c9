"""Commands of FSL-MRS run as a user runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run(program, *words, **variables):
    """Run a command of this environment as a user does."""
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(program, path=where)
    if found is None:
        pytest.skip(f"the command {program} is not installed")
    env = {name: value for name, value in os.environ.items() if name != "FSL_MRS_DL_HOOK"}
    env |= {"PATH": where, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([found, *map(str, words)], capture_output=True, text=True, check=False, env=env)


def succeeds(program, *words, **variables):
    done = run(program, *words, **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def fails(done, *expected):
    """The command ended with status 2 and one line on standard error that holds the expected words."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    for word in expected:
        assert word in done.stderr, done.stderr
