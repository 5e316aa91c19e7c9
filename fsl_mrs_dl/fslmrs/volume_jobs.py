"""Voxels of a volume that ``fsl_dynmrs --algo dlquant`` fits, run by this computer's processors.

FSL-MRS hands each voxel to ``fsl_sub`` as a command of its own, and a last one that merges their results.  Without a
queue these commands would run one after the other, each in a new Python; here a few processes take them one by one.
Standard library only, as in :mod:`.patches`.
"""

import sys
from types import SimpleNamespace

__all__ = ["Jobs", "work"]


_WORKER = """
from fsl_mrs_dl import _hook
_hook.install()
from fsl_mrs_dl.fslmrs.volume_jobs import work
work()
"""


class Jobs:
    """Stands in for the module ``fsl_sub`` and collects what is submitted."""

    def __init__(self):
        self.commands: list[list[str]] = []

    def exchange(self):
        """Put a module of that name in place; returns a function that takes it away."""
        before = sys.modules.get("fsl_sub")
        sys.modules["fsl_sub"] = SimpleNamespace(submit=self.submit)  # type: ignore[assignment]

        def restore():
            if before is None:
                del sys.modules["fsl_sub"]
            else:
                sys.modules["fsl_sub"] = before

        return restore

    def submit(self, command: str, *_, **__) -> int:
        """Take a command line, which begins with this program's; return its number."""
        # FSL-MRS joins the words by blanks, which may be in them, too.
        own = " ".join(sys.argv)
        more = command.removeprefix(own).split() if command.startswith(own) else command.split()[len(sys.argv) :]
        self.commands.append([*sys.argv, *more])
        return len(self.commands)

    def run(self) -> list[str]:
        """Run what was collected, the last one after all others; return a line for each voxel that failed."""
        *voxels, merge = self.commands
        failed = _run(voxels)
        if len(failed) == len(voxels):
            return failed
        return failed + _run([merge])


def _run(commands: list[list[str]]) -> list[str]:
    """Run commands of ``fsl_dynmrs`` in as many processes as there are processors; return a line for each failure."""
    import json
    import os
    import queue
    import subprocess
    import threading

    tasks: queue.SimpleQueue = queue.SimpleQueue()
    for command in commands:
        tasks.put(command)
    failed: list[str] = []

    def serve() -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        worker, pipe = [sys.executable, "-c", _WORKER], subprocess.PIPE
        with subprocess.Popen(worker, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
            assert process.stdin is not None and process.stdout is not None  # pipes
            while True:
                try:
                    command = tasks.get_nowait()
                except queue.Empty:
                    break
                process.stdin.write(json.dumps(command) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                reason = json.loads(answer) if answer else "the process ended"
                if reason:
                    place = " ".join(command[-3:]) if "--spatial-index" in command else "maps"
                    failed.append(f"{place}: {reason}")
                if not answer:
                    break
            process.stdin.close()

    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = [threading.Thread(target=serve) for _ in range(min(n_processors, len(commands)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(failed)


def work() -> None:
    """Run commands of ``fsl_dynmrs`` that come as lines of JSON; answer each with a line, the reason of its failure."""
    import contextlib
    import importlib
    import io
    import json

    command = importlib.import_module("fsl_mrs.scripts.fsl_dynmrs")
    answers, sys.stdout = sys.stdout, io.StringIO()
    for line in sys.stdin:
        sys.argv = json.loads(line)
        errors, reason = io.StringIO(), ""
        with contextlib.redirect_stderr(errors):
            try:
                command.main()
            except SystemExit as end:
                reason = (errors.getvalue().strip().splitlines() or [f"status {end.code}"])[-1] if end.code else ""
            except Exception as exc:
                reason = f"{type(exc).__name__}: {' '.join(str(exc).split())}"
        answers.write(json.dumps(reason) + "\n")
        answers.flush()
