"""Commands of ``%%bash`` cells run in the kernel itself, which has PyTorch loaded; any other text goes to bash.

A command that fails ends the build, as bash would with ``set -e``.
"""

from __future__ import annotations

import re
import shlex
import subprocess

from IPython import get_ipython


def run_commands(line: str, cell: str) -> None:
    """Run the lines of a cell."""
    lines = [one.split(" #")[0].strip() for one in re.sub(r"\\\n\s*", " ", cell).splitlines()]
    lines = [one for one in lines if one and not one.startswith("#")]
    if all(one.startswith("fsl_mrs_dl ") and not set("|><&;$`") & set(one) for one in lines):
        from fsl_mrs_dl.cli.main import main

        for one in lines:
            try:
                status = main(shlex.split(one)[1:])
            except SystemExit as end:
                status = end.code
            if status:
                raise RuntimeError(f"status {status}: {one}")
    else:
        done = subprocess.run(["bash", "-e", "-c", cell], capture_output=True, text=True, check=False)
        print(done.stdout + done.stderr, end="")
        if done.returncode:
            raise RuntimeError(f"status {done.returncode}: {cell}")


get_ipython().register_magic_function(run_commands, "cell", "bash")
