"""Fits, network and memory on a GPU, in one go of under ten minutes: python -m benchmarks.scripts.gpu --output
benchmarks/gpu.md

Batches of 10 240 and 102 400 spectra of a brain, as a volume has them: both spectral models and the network's initial
values, on the GPU and, for a smaller number, on all cores of the CPU.  Each part is written when it has ended, and
none begins after the time limit, so that an interrupted run keeps what it has measured.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.automatic_initialisation import AutomaticChoice
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import model_for, quantify
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

DISTINCT = 1024  # simulated spectra; larger batches repeat them with noise of their own
N_POINTS, BANDWIDTH_HZ = 1024, 2000.0


@dataclass(frozen=True)
class Part:
    """One measurement: what, on which device, of how many spectra."""

    what: str
    device: str
    n: int


def spectra(n: int) -> tuple[np.ndarray, Basis, Axes]:
    """Return FIDs ``(n, n_points)`` with their basis set and axes."""
    basis = simulate_basis(
        sequence="press", te_ms=35.0, field_t=3.0, bandwidth_hz=BANDWIDTH_HZ, n_points=2 * N_POINTS, macromolecules=None
    )
    axes = Axes(N_POINTS, 1 / BANDWIDTH_HZ, basis.spec_freq_mhz)
    first = simulate_in_vivo(basis, axes, min(n, DISTINCT), seed=3).fids
    fids = np.resize(first, (n, N_POINTS))
    rng = np.random.default_rng(3)
    noise = 1e-3 * np.abs(first).max()
    for start in range(len(first), n, 8192):
        part = fids[start : start + 8192]
        part += noise * (rng.normal(size=part.shape) + 1j * rng.normal(size=part.shape))
    return fids, basis, axes


def measure(part: Part) -> str:
    """Return the row of a part."""
    fids, basis, axes = spectra(part.n)
    gpu = part.device == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    if part.what == "network's initial values":
        model, _ = model_for(basis, axes, FitOptions(device=part.device))
        model = model.to(part.device)
        first, last = model.window
        initial_values = AutomaticChoice("network").for_model(model)
        for start in range(0, part.n, 8192):
            spec = units.fid_to_spec(torch.as_tensor(fids[start : start + 8192]).to(model.basis))[:, first:last]
            initial_values(spec, model, list(basis.names))
        converged = float("nan")
    elif part.what == "in-vivo model":
        fit = quantify_in_vivo(fids, basis, axes, FitOptions(spectral_model="in-vivo", device=part.device))
        converged = 100 * float(fit.converged.mean())
    else:
        fit = quantify(fids, basis, axes, FitOptions(device=part.device, baseline="spline, moderate"))
        converged = 100 * float(fit.converged.mean())
    if gpu:
        torch.cuda.synchronize()
    took = time.perf_counter() - began
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if gpu else ""
    name = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    ended = "" if np.isnan(converged) else f"{converged:.1f}"
    return f"| {part.what} | {name} | {part.n} | {took:.1f} | {1e3 * took / part.n:.3f} | {memory} | {ended} |"


def parts(sizes: list[int], on_cpu: int) -> list[Part]:
    """Return all measurements, the quick ones first."""
    kinds = ("network's initial values", "FSL-MRS's model", "in-vivo model")
    out = [Part(what, "cpu", on_cpu) for what in kinds]
    if torch.cuda.is_available():
        # The first kernels of a process are loaded and compiled.
        out = (
            [Part(what, "cuda", 64) for what in kinds] + [Part(what, "cuda", n) for n in sizes for what in kinds] + out
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="file to write (default: the terminal only)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10240, 102400], help="spectra on the GPU")
    parser.add_argument("--on-cpu", type=int, default=128, help="spectra on the CPU, for comparison (default 128)")
    parser.add_argument("--minutes", type=float, default=9.0, help="no part begins later (default 9)")
    args = parser.parse_args()
    began = time.perf_counter()
    versions = f"FSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__}, {platform.machine()}"
    lines = ["# Fits on a GPU", "", f"`python -m benchmarks.scripts.gpu`. {versions}.", ""]
    lines += [
        "| what | device | spectra | s | ms each | GiB of the GPU | converged, % |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for part in parts(args.sizes, args.on_cpu):
        if time.perf_counter() - began > 60 * args.minutes:
            print(f"Left out, the time is up: {part}", file=sys.stderr)
            continue
        lines.append(measure(part))
        print(lines[-1], flush=True)
        if args.output:
            args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
