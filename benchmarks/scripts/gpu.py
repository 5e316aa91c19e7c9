"""Fits, networks, memory and long trainings on a GPU, in pieces of under ten minutes:

python -m benchmarks.scripts.gpu --output gpu/gpu.md --trainings gpu/trainings --minutes 9

Batches of 10 240 and 102 400 spectra of a brain, as a volume has them: both spectral models and the network's initial
values, on the GPU and, for a smaller number, on all cores of the CPU; then the networks and encoders alone; then the
trainings of :mod:`benchmarks.scripts.long_trainings`, from their checkpoints.  Each part is written when it has ended,
and none begins after the time limit.  The same command goes on with what is missing; on another machine, copy the
folder there first.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from benchmarks.scripts import long_trainings, network_speed
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.automatic_initialisation import AutomaticChoice
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import model_for, quantify
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.files import json_content
from fsl_mrs_dl.io.output import write_text
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


def measure_networks(part: Part, seconds: float = 1.0) -> str:
    """Return the rows of the networks and encoders alone, each measured for so long."""
    name = torch.cuda.get_device_name() if part.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    rows = []
    with torch.no_grad():
        for label, _, _, call in network_speed.calls(part.n, part.device):
            took = network_speed.timed(call, part.device, seconds)
            rows.append(f"| {label} | {name} | {part.n} | {took:.3g} | {1e3 * took / part.n:.4f} | | |")
    return "\n".join(rows)


_NETWORKS = "networks"


def parts(sizes: list[int], on_cpu: int) -> list[Part]:
    """Return all measurements, the quick ones first."""
    kinds = ("network's initial values", "FSL-MRS's model", "in-vivo model")
    out = [Part(what, "cpu", on_cpu) for what in kinds]
    if torch.cuda.is_available():
        # The first kernels of a process are loaded and compiled.
        out = (
            [Part(what, "cuda", 64) for what in kinds]
            + [Part(what, "cuda", n) for n in sizes for what in kinds]
            + out
            + [Part(_NETWORKS, "cuda", 1024)]
        )
    return [*out, Part(_NETWORKS, "cpu", on_cpu)]


def measure_missing(wanted: list[Part], output: Path | None, ends: float) -> None:
    """Measure the parts that are not in the file yet; none begins after the time ``ends`` of ``time.perf_counter``."""
    state = output.with_suffix(".json") if output else None
    rows = json_content(state.read_bytes()) if state is not None and state.is_file() else {}
    versions = f"FSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__}, {platform.machine()}"
    head = ["# Fits and networks on a GPU", "", f"`python -m benchmarks.scripts.gpu`. {versions}.", ""]
    head += [
        "| what | device | spectra | s | ms each | GiB of the GPU | converged, % |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join([*head, *rows.values()]), flush=True)
    for part in wanted:
        key = f"{part.what}, {part.device}, {part.n}"
        if key in rows:
            continue
        if time.perf_counter() > ends:
            print(f"Left out, the time is up: {part}", file=sys.stderr)
            continue
        rows[key] = measure_networks(part) if part.what == _NETWORKS else measure(part)
        print(rows[key], flush=True)
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_text(state, json.dumps(rows, indent=2) + "\n")
            write_text(output, "\n".join([*head, *rows.values()]) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="file to write (default: the terminal only)")
    parser.add_argument(
        "--trainings", type=Path, help="folder of long trainings to go on with in the time that is left"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10240, 102400], help="spectra on the GPU")
    parser.add_argument("--on-cpu", type=int, default=128, help="spectra on the CPU, for comparison (default 128)")
    parser.add_argument("--minutes", type=float, default=9.0, help="no part begins later (default 9)")
    args = parser.parse_args(argv)
    ends = time.perf_counter() + 60 * args.minutes
    measure_missing(parts(args.sizes, args.on_cpu), args.output, ends)
    minutes = (ends - time.perf_counter()) / 60
    if args.trainings is None or minutes <= 0:
        return 0
    return long_trainings.main(["--output", str(args.trainings), "--minutes", f"{minutes:.3f}"])


if __name__ == "__main__":
    sys.exit(main())
