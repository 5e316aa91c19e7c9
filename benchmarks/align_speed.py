"""Alignment of 1000 transients beside FSL-MRS: from file to file, and the computation itself.

    python benchmarks/align_speed.py > benchmarks/align_speed.md

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

from fsl_mrs_dl import nifti, simulate
from fsl_mrs_dl.alignment import align_transients

GRIDS = {"2048 points at 2 kHz": (2048, 2000.0), "4096 points at 4 kHz": (4096, 4000.0)}


def transients(n, n_points, bandwidth, unstable):
    """Drifting 3 T PRESS transients at SNR 10, and the truth."""
    basis = simulate.simulate_basis(te_ms=30.0, n_points=n_points, bandwidth_hz=bandwidth)
    made = simulate.simulate_svs(basis, transients=n, snr=10.0, drift_hz=20.0, drift_deg=60.0, te_ms=30.0)
    if unstable:
        random = np.random.default_rng(1)
        t = np.arange(n_points) / bandwidth
        fids = made.data.fids[0, 0, 0].copy()
        for ppm, width, size in ((4.65, 8.0, 3.0), (1.3, 25.0, 1.0)):
            height = size * np.abs(fids[0]).mean() * random.exponential(1, n) * np.exp(2j * np.pi * random.random(n))
            fids += height * np.exp((2j * np.pi * (ppm - 4.65) * basis.spec_freq_mhz - np.pi * width) * t)[:, None]
        from dataclasses import replace

        made = replace(made, data=replace(made.data, fids=fids[None, None, None].astype(np.complex64)))
    return made


def best(job, times):
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        job()
        spent.append(time.perf_counter() - begun)
    return min(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transients", type=int, default=1000)
    parser.add_argument("--theirs", type=int, default=1, help="times FSL-MRS is run (default 1; the shortest counts)")
    args = parser.parse_args()
    scripts = Path(sys.executable).parent
    has_fsl_mrs = (scripts / "fsl_mrs_proc").exists()
    print("# Alignment beside FSL-MRS: speed\n")
    print(
        f"Made by `python benchmarks/align_speed.py`, {torch.get_num_threads()} threads of a {platform.machine()} CPU, torch {torch.__version__}. "
        f"{args.transients} transients, one coil, simulated 3 T PRESS at SNR 10, 20 Hz and 60 degrees of drift; seconds. 'Error' is the SD of shift (Hz) / "
        "phase (degrees) about the truth. FSL-MRS with its default options (2 iterations, target found in the data).\n"
    )
    print("| data | | file to file | computation | ms per transient | error |\n|---|---|---|---|---|---|")
    for label, (n_points, bandwidth) in GRIDS.items():
        for unstable in (False, True):
            made = transients(args.transients, n_points, bandwidth, unstable)
            fids = np.ascontiguousarray(made.data.fids[0, 0, 0].T)
            axes = {"dwelltime": made.data.dwelltime, "spec_freq_mhz": made.data.spec_freq_mhz}
            shift, phase = np.array(made.truth["shift_hz"]), np.array(made.truth["phase_deg"])

            def error(found_shift, found_phase, shift=shift, phase=phase):
                turn = np.exp(1j * np.deg2rad(np.asarray(found_phase) - phase))
                left = np.rad2deg(np.angle(turn / turn.mean()))
                return f"{np.std(np.asarray(found_shift) - shift):.3f} / {left.std():.2f}"

            rows = []
            with tempfile.TemporaryDirectory() as folder:
                file = str(nifti.save(Path(folder) / "raw.nii.gz", made.data))

                def run(*words, folder=folder, file=file):
                    done = subprocess.run([*words, "--file", file, "--output", f"{folder}/{Path(words[0]).name}{words[1]}", "--overwrite"],
                                          capture_output=True, text=True)  # fmt: skip
                    if done.returncode:
                        raise SystemExit(done.stderr)

                align_transients(fids[:50], **axes)
                found = align_transients(fids, **axes)
                ours = [best(lambda: run(str(scripts / "fsl_mrs_dl"), "align"), 3), best(lambda: align_transients(fids, **axes), 3)]
                rows.append(("fsl_mrs_dl align", *ours, error(found.shift_hz, found.phase_deg)))
                if has_fsl_mrs:
                    from fsl_mrs.utils.preproc import phase_freq_align

                    scanner = 1 / axes["dwelltime"], axes["spec_freq_mhz"] * 1e6
                    kept = {}

                    def theirs():
                        kept["out"] = phase_freq_align(list(fids), *scanner, nucleus="1H", ppmlim=(0.2, 4.2), niter=2)

                    # Its --overwrite asks nothing and its file is named by the input.
                    whole = best(lambda: run(str(scripts / "fsl_mrs_proc"), "align"), args.theirs)
                    rows.append(("fsl_mrs_proc align", whole, best(theirs, args.theirs), error(kept["out"][2], np.rad2deg(kept["out"][1]))))
            for name, whole, computed, text in rows:
                what = f"{label}{', unstable water and lipids' if unstable else ''}"
                print(f"| {what} | {name} | {whole:.2f} | {computed:.3f} | {1e3 * computed / args.transients:.3f} | {text} |", flush=True)
            if len(rows) == 2:
                print(f"| | ratio | {rows[1][1] / rows[0][1]:.1f} | {rows[1][2] / rows[0][2]:.1f} | | |", flush=True)


if __name__ == "__main__":
    main()
