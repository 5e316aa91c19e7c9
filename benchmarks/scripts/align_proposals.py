"""How often an alignment from each kind of proposal ends at the truth.

    python -m benchmarks.scripts.align_proposals > benchmarks/align_proposals.md

Transients are simulated on a basis set of a real protocol that is in no training (3 T PRESS, TE 35 ms; test data:
FSL_MRS_DL_TESTDATA, default ../shared/data): shifts to +-40 Hz, any phase, amplitude 1 +- 0.1, without and with
water and lipids that change from one transient to the next.  SNR: height of the highest metabolite peak of one
transient over the SD of its real part. A cell holds the share of transients whose shift and phase lie within three
Cramer-Rao SDs of the truth, and the share whose shift lies within 2 Hz; the bound is that of 0.2 to 4.2 ppm, amplitude
unknown, and where water or lipids are unstable with their amplitudes unknown, too.

'Matched filter' is the classical search and refinement with the plain window, 'classical' the one that estimates
the nuisance lines, 'network, refined' the same from the network's proposal, 'default' the classical one and, in sets
with weak transients, the network's, and 'network alone' the proposal without refinement.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.units import wrap_degrees
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.preproc.proposals import UniversalProposal, align_with_network_where_weak
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.registration.bounds import cramer_rao
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / "../shared/data"))
BANDWIDTH, N_POINTS = 2000.0, 1024


def recipe(condition: str, snr: float) -> recipes.Recipe:
    """Return the training's recipe for transients with the unstable signals of a condition only."""
    content = dict(recipes.Recipe.load("universal-transients").content)
    transients = dict(content["transients"]) | {"shift_hz": {"uniform": [-40, 40]}}
    for name in ("unstable_water", "unstable_lipids"):
        transients[f"{name}_probability"] = float(name.removeprefix("unstable_") in condition)
    for name in ("water", "lipids", "baseline"):
        content.pop(name)
    content |= {
        "transients": transients,
        "snr": snr,
        "lorentz_fwhm_hz": {"uniform": [2, 8]},
        "gauss_fwhm_hz": {"uniform": [0, 6]},
    }
    return recipes.Recipe.of(condition, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=32, help="sets of transients in a cell (default 32)")
    parser.add_argument("--transients", type=int, default=32, help="transients in a set (default 32)")
    parser.add_argument("--snr", nargs="+", type=float, default=[1.5, 3.0, 6.0, 12.0, 30.0])
    parser.add_argument("--model", default="align-universal")
    parser.add_argument("--fsl-mrs", action="store_true", help="FSL-MRS align, too, on the first two sets of a cell")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    basis = Basis.load(next((DATA / "invivo_3t_press_philips").rglob("*.BASIS")))
    freq, dwelltime = basis.spec_freq_mhz, 1 / BANDWIDTH
    axes = Axes(N_POINTS, dwelltime, freq)
    protocol = protocols.protocol_of(basis.resampled(dwelltime, N_POINTS), basis.names, axes)
    network, card = model_cards.load(args.model)
    methods = ["matched filter", "classical", "network, refined", "default", "network alone"] + [
        "FSL-MRS align"
    ] * args.fsl_mrs
    print(
        f"# Proposals of the alignment\n\n{args.sets} sets of {args.transients} transients in a cell, seed {args.seed},"
        f" {platform.machine()}, torch {torch.__version__}. 'Known': aligned to the noise-free spectrum of the set;"
        " 'own': to the transients' own mean, and the mean error of a set does not count. Share of transients (%) with"
        " shift and phase within three Cramer-Rao SDs / with the shift within 2 Hz (time per transient, one thread"
        " beside other work).\n"
    )
    print("| unstable | SNR | reference | " + " | ".join(methods) + " |\n|---|---|---|" + "---|" * len(methods))
    for condition in ("nothing", "water", "lipids", "water and lipids"):
        for snr in args.snr:
            drawn = random_spectra.draw_transients(
                recipe(condition, snr),
                args.sets,
                args.transients,
                basis.names,
                torch.Generator().manual_seed(args.seed),
            )
            fid, base = random_spectra.render_transients(drawn, protocol)
            fid, clean = fid.numpy().astype(complex), base.fid.numpy().astype(complex)
            shift, phase = drawn["shift_hz"].double().numpy(), -np.rad2deg(drawn["phi0"].double().numpy())
            amplitude = drawn["amplitude"].double().numpy()
            kinds = tuple(kind for kind in ("water", "lipids") if kind in condition)
            bound = [cramer_rao(one, float(sd), axes, unstable=kinds) for one, sd in zip(clean, base.noise_sd)]
            bound = np.array(bound)[:, :, None] / amplitude[:, None]
            for known in (True, False):
                cells = []
                for method in methods:
                    start = time.perf_counter()
                    used = slice(0, 2) if method.startswith("FSL") else slice(None)
                    estimates = [
                        _align(method, one, reference if known else None, network, card, axes)
                        for one, reference in zip(fid[used], clean[used])
                    ]
                    ms = 1e3 * (time.perf_counter() - start) / (len(estimates) * args.transients)
                    ds = np.array([f[0] for f in estimates]) - shift[used]
                    dp = wrap_degrees(np.array([f[1] for f in estimates]) - phase[used])
                    if not known:
                        ds = ds - np.median(ds, 1, keepdims=True)
                        rotation = np.exp(1j * np.deg2rad(dp))
                        middle = np.angle(np.median(rotation.real, 1) + 1j * np.median(rotation.imag, 1))
                        dp = np.rad2deg(np.angle(rotation * np.exp(-1j * middle)[:, None]))
                    inside = (np.abs(ds) < 3 * bound[used, 0]) & (np.abs(dp) < 3 * bound[used, 1])
                    cells.append(f"{100 * inside.mean():.1f} / {100 * (np.abs(ds) < 2).mean():.1f} ({ms:.1f} ms)")
                print(
                    f"| {condition} | {snr:g} | {'known' if known else 'own'} | " + " | ".join(cells) + " |", flush=True
                )


def _align(method, fid, reference, network, card, axes):
    """Return shifts (Hz) and phases (degrees) of one set."""
    if method == "FSL-MRS align":
        from benchmarks.fsl_mrs_reference import fsl_mrs_align

        return fsl_mrs_align(fid, axes, target=reference)
    proposal = UniversalProposal(network, card, axes, reference=reference)
    if method == "network alone":
        shift, phase = proposal(torch.as_tensor(fid)[None, None])
        return shift[0].numpy(), phase[0].numpy()
    if method == "default":
        target = None if reference is None else reference[None]
        alignment, _ = align_with_network_where_weak(fid[None, None], axes, reference=target)
        return alignment.shift_hz[0], alignment.phase_deg[0]
    options = {"proposal": proposal} if method == "network, refined" else {}
    if method == "matched filter":
        options["unstable"] = ()
    alignment = align_transients(fid, axes, reference=reference, **options)
    return alignment.shift_hz, alignment.phase_deg


if __name__ == "__main__":
    main()
