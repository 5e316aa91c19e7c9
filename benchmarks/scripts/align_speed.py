"""Alignment of 1000 transients beside FSL-MRS: from file to file, and the computation itself.

    python -m benchmarks.scripts.align_speed > benchmarks/align_speed.md

Needs FSL-MRS for the comparison.  Three minutes on two cores; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.simulation import acquisition

GRIDS = {"2048 points at 2 kHz": (2048, 2000.0), "4096 points at 4 kHz": (4096, 4000.0)}


def transients(n, n_points, bandwidth, unstable):
    """Simulate drifting 3 T PRESS transients at SNR 10, with their truth."""
    basis = acquisition.simulate_basis(te_ms=30.0, n_points=n_points, bandwidth_hz=bandwidth)
    acquired = acquisition.simulate_svs(basis, transients=n, snr=10.0, drift_hz=20.0, drift_deg=60.0, te_ms=30.0)
    if unstable:
        from dataclasses import replace

        random = np.random.default_rng(1)
        t = np.arange(n_points) / bandwidth
        fids = acquired.data.fids[0, 0, 0].copy()
        for ppm, width, size in ((4.65, 8.0, 3.0), (1.3, 25.0, 1.0)):
            height = size * np.abs(fids[0]).mean() * random.exponential(1, n) * np.exp(2j * np.pi * random.random(n))
            fids += height * np.exp((2j * np.pi * (ppm - 4.65) * basis.spec_freq_mhz - np.pi * width) * t)[:, None]
        acquired = replace(acquired, data=replace(acquired.data, fids=fids[None, None, None].astype(np.complex64)))
    return acquired


def best(job, times):
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        job()
        spent.append(time.perf_counter() - begun)
    return min(spent)


def errors(shift_hz, phase_deg, truth) -> str:
    turn = np.exp(1j * np.deg2rad(np.asarray(phase_deg) - truth["phase_deg"]))
    return (
        f"{np.std(np.asarray(shift_hz) - truth['shift_hz']):.3f} / {np.rad2deg(np.angle(turn / turn.mean())).std():.2f}"
    )


def measure(acquired, times_theirs: int) -> list[tuple[str, float, float, str]]:
    """Rows of (program, seconds file to file, seconds of computation, errors)."""
    scripts = Path(sys.executable).parent
    fids = np.ascontiguousarray(acquired.data.fids[0, 0, 0].T)
    axes = acquired.data.axes
    with tempfile.TemporaryDirectory() as folder:
        file = str(nifti.save(Path(folder) / "raw.nii.gz", acquired.data))

        def run(program):
            words = [str(scripts / program), "align", "--file", file, "--output", f"{folder}/{program}", "--overwrite"]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)

        align_transients(fids[:50], axes)  # the first call computes the subspace of nuisance lines
        alignment = align_transients(fids, axes)
        text = errors(alignment.shift_hz, alignment.phase_deg, acquired.truth)
        rows = [
            (
                "fsl_mrs_dl align",
                best(lambda: run("fsl_mrs_dl"), 3),
                best(lambda: align_transients(fids, axes), 3),
                text,
            )
        ]
        if (scripts / "fsl_mrs_proc").exists():
            from benchmarks.fsl_mrs_reference import fsl_mrs_align

            whole = best(lambda: run("fsl_mrs_proc"), times_theirs)
            answers = []
            computed = best(
                lambda: answers.append(fsl_mrs_align(fids, axes)),
                times_theirs,
            )
            rows.append(("fsl_mrs_proc align", whole, computed, errors(*answers[-1], acquired.truth)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transients", type=int, default=1000)
    parser.add_argument("--theirs", type=int, default=1, help="times FSL-MRS is run (default 1; the shortest counts)")
    args = parser.parse_args()
    print("# Alignment beside FSL-MRS: speed\n")
    print(
        f"Made by `python -m benchmarks.scripts.align_speed`, {torch.get_num_threads()} threads of a"
        f" {platform.machine()} CPU, torch {torch.__version__}. {args.transients} transients, one coil, simulated"
        " 3 T PRESS at SNR 10, 20 Hz and 60 degrees of drift; seconds. 'Error' is the SD of shift (Hz) / phase"
        " (degrees) about the truth. FSL-MRS with its default options (2 iterations, target chosen from the data).\n"
    )
    print("| data | | file to file | computation | ms per transient | error |\n|---|---|---|---|---|---|")
    for label, (n_points, bandwidth) in GRIDS.items():
        for unstable in (False, True):
            rows = measure(transients(args.transients, n_points, bandwidth, unstable), args.theirs)
            what = f"{label}{', unstable water and lipids' if unstable else ''}"
            for name, whole, computed, text in rows:
                print(
                    f"| {what} | {name} | {whole:.2f} | {computed:.3f} | {1e3 * computed / args.transients:.3f} |"
                    f" {text} |",
                    flush=True,
                )
            if len(rows) == 2:
                print(f"| | ratio | {rows[1][1] / rows[0][1]:.1f} | {rows[1][2] / rows[0][2]:.1f} | | |", flush=True)


if __name__ == "__main__":
    main()
