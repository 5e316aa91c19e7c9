"""A dask scheduler that runs already, with workers over TCP of which one is killed: the fits are those of threads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.mrsi import plan, scratch
from fsl_mrs_dl.mrsi import run as run_module
from tests.mrsi.test_mrsi import AFFINE, CLASSICAL

pytestmark = pytest.mark.usefixtures("one_thread")
_PATIENCE_S = 240.0


def started(folder: Path, *words: str) -> subprocess.Popen:
    """Start a program of dask in a process of its own."""
    program = "import sys; from distributed.cli import dask_scheduler, dask_worker as w; m = sys.argv.pop(1)\n"
    program += "sys.exit({'scheduler': dask_scheduler.main, 'worker': w.main}[m]())"
    with (folder / f"{words[0]}-{len(list(folder.glob('*.log')))}.log").open("wb") as log:
        root = Path(__file__).parents[2]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        return subprocess.Popen(
            [sys.executable, "-c", program, *words], cwd=folder, stdout=log, stderr=log, env=environment
        )


@pytest.fixture
def scheduler(tmp_path):
    """The address of a scheduler, and its two workers."""
    pytest.importorskip("dask.distributed")
    file, processes = tmp_path / "scheduler.json", []
    try:
        quiet = ["--no-dashboard", "--host", "127.0.0.1"]
        processes.append(started(tmp_path, "scheduler", "--port", "0", "--scheduler-file", str(file), *quiet))
        until = time.monotonic() + _PATIENCE_S
        while not file.is_file() and time.monotonic() < until:
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        worker = ["worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--death-timeout", "60"]
        processes += [started(tmp_path, *worker) for _ in range(2)]
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def test_a_killed_worker_changes_nothing(scheduler, sim_basis, simulate, tmp_path):
    from dask.distributed import Client

    address, workers = scheduler
    fids = simulate(12, snr=40, seed=4).fids.reshape(12, 1, 1, -1).astype(np.complex64)
    data = nifti.MrsData(fids, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE)
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    jobs = [
        plan.prepare(tmp_path / "mrsi.nii.gz", sim_basis, tmp_path / name, CLASSICAL, chunk=2)[0]
        for name in ("here", "there")
    ]
    run_module.fit_all(jobs[0], workers=1)
    with Client(address) as client:
        client.wait_for_workers(2, timeout=_PATIENCE_S)

    def kill(count: int) -> None:
        if workers[0].poll() is None:
            workers[0].send_signal(signal.SIGKILL)

    said = []
    run_module.fit_all(jobs[1], parallel=address, progress=kill, say=said.append)
    assert said == [f"Fitting 6 chunks with the scheduler {address}."]
    assert workers[0].wait(10) == -signal.SIGKILL and workers[1].poll() is None
    # The scheduler is not ours: it runs on, without anything of the job.
    with Client(address) as client:
        assert len(client.scheduler_info()["workers"]) == 1
    for k in range(jobs[0].n_chunks):
        here, there = (scratch.load_arrays(job.file(k)) for job in jobs)
        assert here.keys() == there.keys()
        for name, values in here.items():
            # Another process has its arrays at other addresses, by which some processors round differently.
            size = np.abs(values[np.isfinite(values)]).max(initial=0)
            np.testing.assert_allclose(values, there[name], rtol=1e-5, atol=1e-6 * size, err_msg=name)
