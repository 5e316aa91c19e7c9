"""Three measured cases in which an alignment can do harm, beside FSL-MRS: a water reference, a spurious echo, two
conditions in one dimension.

    python -m benchmarks.scripts.align_harm > benchmarks/align_harm.md

Data: mega_press_3t in FSL_MRS_DL_TESTDATA, default ../shared/data from the project's root.  With FSL-MRS installed its
align is measured as well.  Two minutes on one core.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.results.reports.alignment_table import summary_line

FOLDER = Path(os.environ.get("FSL_MRS_DL_TESTDATA", "../shared/data")) / "mega_press_3t"
ECHO, CREATINE = (3.6, 3.9), (2.95, 3.1)  # ppm


def ours(data: nifti.MrsData, ppmlim=None) -> np.ndarray:
    return align.align_data(data, AlignOptions(device="cpu", ppmlim=ppmlim)).data.fids[0, 0, 0]


def theirs(data: nifti.MrsData, ppmlim=None) -> np.ndarray:
    """Return FIDs aligned by FSL-MRS, each condition by itself, as its command does."""
    from benchmarks.fsl_mrs_reference import fsl_mrs_align

    fids = data.fids[0, 0, 0]
    sets = fids.reshape(*fids.shape[:2], -1).transpose(2, 1, 0)
    out = []
    for one in sets:
        shift, phase = fsl_mrs_align(one, data.axes, ppmlim=ppmlim or (0.2, 4.2))
        out.append(apply_shift_phase(one, shift, phase, data.dwelltime))
    return np.array(out).transpose(2, 1, 0).reshape(fids.shape)


def unchanged(data: nifti.MrsData, ppmlim=None) -> np.ndarray:
    return data.fids[0, 0, 0]


def surviving(fids: np.ndarray) -> float:
    """Return the share of the signal of ``(n_points, n_transients)`` that survives averaging."""
    return float(np.sqrt((np.abs(fids.mean(1)) ** 2).sum() / (np.abs(fids) ** 2).mean(1).sum()))


def root_mean_square(fid: np.ndarray, axes, limits: tuple[float, float]) -> float:
    """Return that of the spectrum of a FID in a range of ppm."""
    ppm, spectrum = axes.ppm(), np.fft.fftshift(np.fft.fft(fid))
    return float(np.sqrt((np.abs(spectrum[(ppm > limits[0]) & (ppm < limits[1])]) ** 2).mean()))


def main() -> None:
    torch.set_num_threads(1)
    ways: dict[str, Callable] = {"not aligned": unchanged, "fsl_mrs_dl align": ours}
    try:
        import fsl_mrs.utils.preproc  # noqa: F401

        ways["FSL-MRS align"] = theirs
    except ImportError:
        pass
    print("# Cases in which an alignment can do harm\n")
    print(
        f"Made by `python -m benchmarks.scripts.align_harm`, one thread of a {platform.machine()} CPU, torch"
        f" {torch.__version__}.\n\nIn vivo MEGA-PRESS, 3 T, TE 68 ms, 128 transients ON and OFF, and its water"
        " reference of 16 transients.\n"
    )
    water = nifti.load(FOLDER / "mega68_water.nii.gz")
    water = replace(water, fids=water.fids.reshape(*water.fids.shape[:4], -1), dim_tags=("DIM_DYN",))
    print("## Water reference: share of the signal that survives averaging\n")
    windows = (None, (4.0, 5.3), (3.5, 6.0), (0.2, 4.2))
    print("| window | " + " | ".join(ways) + " |\n|" + "---|" * (len(ways) + 1))
    for ppmlim in windows:
        cells = [f"{surviving(way(water, ppmlim)):.4f}" for way in ways.values()]
        print(f"| {'default' if ppmlim is None else '{:g} to {:g} ppm'.format(*ppmlim)} | {' | '.join(cells)} |")
    edited = nifti.load(FOLDER / "mega68.nii.gz")
    axes = edited.axes
    print(
        "\n## Spurious echo at 3.6 to 3.9 ppm in the OFF transients\n\nRoot mean square of mean spectra: the less of"
        " the echo and the more of creatine, the better. The window of 1.8 to 3.5 ppm, chosen by hand,"
        " leaves the echo out.\n"
    )
    print("| | echo, OFF | creatine, OFF | echo, ON - OFF |\n|---|---|---|---|")
    chosen = {f"{name}, 1.8 to 3.5 ppm": lambda data, way=way: way(data, (1.8, 3.5)) for name, way in ways.items()}
    for name, way in (ways | dict(list(chosen.items())[1:])).items():
        on, off = way(edited).mean(1).T
        cells = root_mean_square(off, axes, ECHO), root_mean_square(off, axes, CREATINE)
        print(f"| {name} | {cells[0]:.0f} | {cells[1]:.0f} | {root_mean_square(on - off, axes, ECHO):.0f} |")
    print("\n## ON transients, then OFF, in one dimension\n")
    fids = edited.fids.swapaxes(-1, -2).reshape(*edited.fids.shape[:4], -1)
    one = replace(edited, fids=fids, dim_tags=("DIM_DYN",))
    print(f"`fsl_mrs_dl align` prints: {summary_line(align.align_data(one, AlignOptions(device='cpu')))}")


if __name__ == "__main__":
    main()
