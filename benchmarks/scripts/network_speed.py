"""How long the networks take for one spectrum or transient: python -m benchmarks.scripts.network_speed >
benchmarks/network_speed.md

Each figure is the median of repeated calls, per spectrum, on all cores of the CPU and, where there is one, on the GPU.
Initial values are timed from spectra to values, beside the classical search on the same spectra; encoders alone.
"""

from __future__ import annotations

import argparse
import platform
import time
from statistics import median

import torch

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting import quantify
from fsl_mrs_dl.fitting.automatic_initialisation import AutomaticChoice
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.networks import encoders, model_cards
from fsl_mrs_dl.preproc.proposals import UniversalProposal
from fsl_mrs_dl.simulation.acquisition import simulate_basis

DWELLTIME, N_POINTS = 5e-4, 1024
METABOLITES = "Asp Cr GABA Gln Glu GPC GSH Ins Lac NAA NAAG PCh PCr PE Scyllo Tau".split()


def timed(call, device: str, least_s: float) -> float:
    """Median duration in seconds of calls over ``least_s`` seconds; five at least."""
    call()
    durations, begun = [], time.perf_counter()
    while time.perf_counter() - begun < least_s or len(durations) < 5:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        durations.append(time.perf_counter() - start)
    return median(durations)


def calls(n: int, device: str):
    """``(what, parameters, operations, call)`` for batches of ``n``."""
    generator = torch.Generator().manual_seed(0)
    basis = simulate_basis(
        METABOLITES, sequence="press", te_ms=30.0, field_t=2.894, bandwidth_hz=1 / DWELLTIME, n_points=N_POINTS
    )
    model, _ = quantify.model_for(basis, Axes(N_POINTS, DWELLTIME, basis.spec_freq_mhz), FitOptions())
    model = model.to(device)
    noise = torch.view_as_complex(torch.randn(n, N_POINTS, 2, generator=generator, dtype=torch.float64))
    data = (model.basis.sum(0).cpu() + 0.1 * noise).to(device)
    first, last = model.window
    spec = units.fid_to_spec(data)[:, first:last]
    for name in ("classical", "network"):
        initial_values = AutomaticChoice(name).for_model(model)
        card = model_cards.read_card("quant-universal")["architecture"] if name == "network" else {}
        label = "initial values of a fit by quant-universal" if card else "initial values of a fit, classical"
        yield (
            label,
            card.get("parameters"),
            card.get("flops"),
            lambda initial_values=initial_values: initial_values(spec, model, METABOLITES),
        )
    network, card = model_cards.load("align-universal")
    reference = data.mean(0).cpu().numpy()
    align = UniversalProposal(network, card, Axes(N_POINTS, DWELLTIME, basis.spec_freq_mhz), reference=reference)
    architecture = card["architecture"]
    yield (
        "proposals of an alignment by align-universal",
        architecture["parameters"],
        architecture["flops"],
        lambda: align(data[None, None]),
    )
    for name in encoders.ENCODERS:
        encoder = encoders.make(name, n_points=N_POINTS, n_out=24).to(device).eval()
        x = torch.randn(n, 2, N_POINTS, generator=generator).to(device)
        size = encoders.count_parameters(encoder), encoders.count_flops(encoder, x[:1])
        yield f"encoder {name}", *size, lambda encoder=encoder, x=x: encoder(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 1024])
    parser.add_argument("--seconds", type=float, default=3.0, help="that each figure is measured for (default 3)")
    args = parser.parse_args()
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    print(
        f"# Speed of the networks\n\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if len(devices) > 1 else "; no GPU at hand")
        + f", torch {torch.__version__}; {N_POINTS} points. Microseconds for one spectrum or transient.\n"
    )
    columns = [(device, n) for device in devices for n in args.batches]
    rows: dict = {}
    with torch.no_grad():
        for device, n in columns:
            for label, parameters, flops, call in calls(n, device):
                rows.setdefault((label, parameters, flops), []).append(1e6 * timed(call, device, args.seconds) / n)
    print("| | parameters | MFLOP | " + " | ".join(f"{device}, batch {n}" for device, n in columns) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    for (label, parameters, flops), values in rows.items():
        sizes = f"{parameters} | {flops / 1e6:.1f}" if parameters else " | "
        print(f"| {label} | {sizes} | " + " | ".join(f"{value:.0f}" for value in values) + " |")


if __name__ == "__main__":
    main()
