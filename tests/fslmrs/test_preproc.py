"""``fsl_mrs_preproc --dl-align`` in the real FSL-MRS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsl_mrs_dl import _hook
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.with_fsl_mrs, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def files(sim_basis, tmp_path):
    """Drifting transients and water, coils combined."""
    made = simulate_in_vivo(sim_basis, sim_basis.axes, 1, snr=(100, 100), seed=4)
    axes, n = made.axes, 24
    shift, phase = np.linspace(-6, 6, n), np.linspace(-40, 40, n)
    rng = np.random.default_rng(0)
    sd = 0.05 * np.abs(made.fids[0, 0])
    header = {"SpectrometerFrequency": [axes.spec_freq_mhz], "ResonantNucleus": ["1H"], "dim_5": "DIM_DYN"}
    for name, fid in (("metab", made.fids[0]), ("water", made.water[0])):
        fids = apply_shift_phase(np.broadcast_to(fid, (n, len(fid))), -shift, -phase, axes.dwelltime)
        fids = fids + sd * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
        fids = np.moveaxis(fids, -1, 0)[None, None, None].astype(np.complex64)
        data = nifti.MrsData(fids, axes.dwelltime, axes.spec_freq_mhz, "1H", ("DIM_DYN",), header, np.eye(4))
        nifti.save(tmp_path / f"{name}.nii.gz", data)
    return tmp_path


def preprocess(files, output, *words):
    """Run the command in a process of its own, as users do; returns its data and what it printed."""
    paths = ["--data", files / "metab.nii.gz", "--reference", files / "water.nii.gz", "--output", files / output]
    command = ["fsl_mrs_preproc", *map(str, paths), *words]
    code = (
        "import sys; from fsl_mrs_dl import _hook; _hook.install(); sys.argv = sys.argv[1:];"
        " from fsl_mrs.scripts.fsl_mrs_preproc import main; main()"
    )
    environment = {key: value for key, value in os.environ.items() if key != _hook.VARIABLE}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return nifti.load(files / output / "metab.nii.gz"), done.stdout


def test_transients_are_aligned_by_this_package_when_asked(files):
    data, out = preprocess(files, "ours", "--dl-align")
    assert "Aligned 24 of 24 transients" in out
    methods = [(one["Program"], one["Method"]) for one in data.header["ProcessingApplied"]]
    assert ("FSL-MRS-DL", "Frequency and phase correction") in methods
    plain, _ = preprocess(files, "theirs")
    assert not any(one["Program"] == "FSL-MRS-DL" for one in plain.header["ProcessingApplied"])
    heights = [np.abs(np.fft.fft(one.fids[0, 0, 0])).max() for one in (data, plain)]
    assert heights[0] > 0.98 * heights[1]
