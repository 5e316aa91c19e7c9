"""Edited data: ON and OFF transients of a simulated MEGA-PRESS scan that drifts, aligned and subtracted.

    python -m benchmarks.scripts.edited > benchmarks/edited.md

With FSL-MRS installed its align and align-diff are measured on the same data.  Six minutes on two cores, two without
FSL-MRS; the recorded table was made with ``--scans 2 --transients 64``.
"""

from __future__ import annotations

import argparse
import platform

import numpy as np
import torch

from benchmarks.papers import classical_alignment
from fsl_mrs_dl.core.metabolites import typical_concentrations
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.editing import match_subspectra
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.preproc.similarity import similarity_index
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.simulation.acquisition import simulate_basis

GRID = {"field_t": 3.0, "bandwidth_hz": 2000.0, "n_points": 2048}
CONDITIONS = {
    "no drift": {},
    "frequency walks by 0.3 Hz a transient, phase by 2 degrees": {"walk_hz": 0.3, "walk_deg": 2.0},
    "the same, ON and OFF in two blocks": {"walk_hz": 0.3, "walk_deg": 2.0, "blocks": True},
    "the same, interleaved, unstable water and lipids": {"walk_hz": 0.3, "walk_deg": 2.0, "unstable": True},
    "20 Hz jumps by movement": {"walk_hz": 0.3, "walk_deg": 2.0, "jumps": True},
}


def sub_spectra():
    """Noise-free ON and OFF FIDs at typical concentrations, and their axes."""
    parts = []
    for edit in ("on", "off"):
        basis = simulate_basis(sequence="mega-press", te_ms=68.0, edit=edit, **GRID)
        parts.append(typical_concentrations(list(basis.names)) @ basis.fids)
    time = np.arange(GRID["n_points"]) * basis.dwelltime
    on, off = (x * np.exp(-np.pi * 4 * time - (np.pi * 4 * time) ** 2 / (4 * np.log(2))) for x in parts)
    return on, off, basis.axes


def acquire(on, off, axes, rng, n=160, snr=12.0, walk_hz=0.0, walk_deg=0.0, blocks=False, unstable=False, jumps=False):
    """Transients ``(2, n, n_points)``, ON first; SNR is that of the highest peak of OFF in one transient."""
    time = np.arange(on.shape[-1]) * axes.dwelltime
    shift, phase = np.cumsum(rng.normal(0, walk_hz, 2 * n)), np.cumsum(rng.normal(0, walk_deg, 2 * n))
    shift, phase = shift - shift.mean(), phase - phase.mean()
    if jumps:
        for where in rng.integers(0, 2 * n, 3):
            shift[where:] += rng.choice((-20.0, 20.0))
        shift -= np.median(shift)
    order = np.arange(2 * n).reshape(2, n) if blocks else np.arange(2 * n).reshape(n, 2).T
    noise_sd = np.abs(fid_to_spec(off)).max() / snr
    fids = np.stack([on, off])[:, None] * np.exp(
        1j * (2 * np.pi * shift[order][..., None] * time + np.deg2rad(phase[order])[..., None])
    )
    if unstable:
        height = np.abs(off[0])
        for ppm, width, size in ((4.65, 8.0, 3.0), (1.3, 25.0, 0.5)):
            strength = height * size * rng.exponential(1, (2, n)) * np.exp(2j * np.pi * rng.random((2, n)))
            place = (ppm - 4.65) * axes.spec_freq_mhz + rng.normal(0, 3, (2, n))
            fids = fids + strength[..., None] * np.exp((2j * np.pi * place[..., None] - np.pi * width) * time)
    return fids + noise_sd * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape)), noise_sd


def ours(fids, axes, **options):
    data = MrsData(
        fids.transpose(2, 1, 0)[None, None, None],
        axes.dwelltime,
        axes.spec_freq_mhz,
        "1H",
        ("DIM_DYN", "DIM_EDIT"),
    )
    found = align.align_data(data, AlignOptions(device="cpu", **options))
    return found.data.fids[0, 0, 0].transpose(2, 1, 0)


def theirs(fids, axes, diff=True):
    from fsl_mrs.utils.preproc import phase_freq_align
    from fsl_mrs.utils.preproc.align import phase_freq_align_diff

    scanner = 1 / axes.dwelltime, axes.spec_freq_mhz * 1e6
    parts = [phase_freq_align(list(one), *scanner, nucleus="1H", ppmlim=(0.2, 4.2), niter=2)[0] for one in fids]
    if diff:
        parts = phase_freq_align_diff(*parts, *scanner, nucleus="1H", diffType="sub", ppmlim=(0.2, 4.2))[:2]
    return np.array(parts)


def best_turn(fid, target, axes):
    """The FID with the one shift and phase that bring it closest to the target: which all alignments leave open."""
    return align_transients(fid[None], axes, reference=target, unstable=()).apply(fid[None])[0]


def judge(fids, on, off, axes, noise_sd):
    """Similarity index (mean of both), width of creatine (Hz), error of the difference near choline and creatine, and
    everywhere."""
    index = np.mean([similarity_index(one, axes) for one in fids])
    mean_on, mean_off = fids.mean(1)
    straight = best_turn(np.concatenate([mean_off]), off, axes)
    width = classical_alignment.creatine_width(straight, axes)
    # One shift and phase for both: what they differ by is what is judged.
    both = np.concatenate([mean_on, mean_off]).reshape(2, -1)
    turn = align_transients(mean_off[None], axes, reference=off, unstable=())
    both = np.stack([turn.apply(one[None])[0] for one in both])
    error = fid_to_spec((both[0] - both[1]) - (on - off))
    ppm = axes.ppm()
    floor = noise_sd * np.sqrt(2 / fids.shape[1]) * np.sqrt(2)
    parts = [
        np.sqrt((np.abs(error[(ppm > low) & (ppm < high)]) ** 2).mean()) / floor
        for low, high in ((2.9, 3.35), (0.2, 4.2))
    ]
    return [index, width, *parts]


def offset_cases() -> dict[str, tuple]:
    """Return noise-free ON and OFF FIDs and axes: as simulated, with macromolecules edited with GABA, and of spectra
    that differ by NAA alone."""
    on, off, axes = sub_spectra()
    time = np.arange(axes.n_points) * axes.dwelltime
    broad = np.exp(2j * np.pi * axes.ppm_to_hz(3.0) * time - (np.pi * 25 * time) ** 2 / (4 * np.log(2)))
    more = 0.04 * np.abs(off[0]) * broad
    naa = np.exp((2j * np.pi * axes.ppm_to_hz(2.008) - np.pi * 5) * time) * 0.2 * np.abs(off[0])
    return {
        "MEGA-PRESS": (on, off, axes),
        "MEGA-PRESS, macromolecules at 3 ppm": (on + more, off - more, axes),
        "NAA saturated": (on, on + naa, axes),
    }


def offset_errors(on, off, axes, snr: float, n: int = 16) -> np.ndarray:
    """Return root mean squares of the error of shift (Hz) and phase (degrees) between sub-spectra that were moved
    apart, and of both over their stated SDs, ``(4,)``; SNR of the highest line of OFF."""
    sd, errors = np.abs(fid_to_spec(off)).max() / snr, []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        shift, phase = rng.uniform(-1, 1), rng.uniform(-10, 10)
        pair = np.stack([apply_shift_phase(on, -shift, -phase, axes.dwelltime), off])
        pair = pair + sd * (rng.normal(size=pair.shape) + 1j * rng.normal(size=pair.shape))
        found = match_subspectra(pair[:, None], axes)
        error = np.array([np.diff(found.shift_hz)[0] + shift, np.diff(found.phase_deg)[0] + phase])
        errors.append([*error, *(error / [found.shift_sd_hz[1], found.phase_sd_deg[1]])])
    return np.sqrt(np.mean(np.square(errors), 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=4, help="scans of each condition (default 4)")
    parser.add_argument("--transients", type=int, default=160, help="of each sub-spectrum (default 160)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    on, off, axes = sub_spectra()
    ways = {
        "not aligned": lambda fids: fids,
        "each sub-spectrum by itself": lambda fids: ours(fids, axes, edit_dim=None),
        "default": lambda fids: ours(fids, axes),
    }
    try:
        import fsl_mrs.utils.preproc  # noqa: F401

        ways["FSL-MRS align"] = lambda fids: theirs(fids, axes, diff=False)
        ways["FSL-MRS align, align-diff"] = lambda fids: theirs(fids, axes)
    except ImportError:
        pass
    print("# Edited data\n")
    print(
        f"Made by `python -m benchmarks.scripts.edited`, one thread of a {platform.machine()} CPU, torch"
        f" {torch.__version__}.\n"
    )
    print(
        f"Simulated MEGA-PRESS (3 T, TE 68 ms, {args.transients} ON and OFF transients, SNR 12 each), mean of"
        f" {args.scans} scans. Similarity index, width of creatine in the mean OFF spectrum (Hz), and error of the"
        " difference spectrum against the noise-free one, over what noise alone leaves, between 2.9 and 3.35 ppm"
        " (choline and creatine should cancel) and between 0.2 and 4.2 ppm.\n"
    )
    print(
        "| condition | aligned by | similarity | Cr width | error at Cho and Cr | error everywhere"
        " |\n|---|---|---|---|---|---|"
    )
    for condition, options in CONDITIONS.items():
        scans = [
            acquire(on, off, axes, np.random.default_rng(k), n=args.transients, **options) for k in range(args.scans)
        ]
        for name, way in ways.items():
            cells = np.mean([judge(way(fids), on, off, axes, sd) for fids, sd in scans], 0)
            print(
                f"| {condition} | {name} | {cells[0]:.4f} | {cells[1]:.2f} | {cells[2]:.2f} | {cells[3]:.2f} |",
                flush=True,
            )
    print(
        "\n## Offset between sub-spectra\n\nMeans moved apart by up to 1 Hz and 10 degrees: root mean square of the"
        " error of shift (Hz) / phase (degrees), and of error / stated SD in brackets, by the SNR of the mean.\n"
    )
    ratios = (30.0, 100.0, 300.0, 2000.0)
    print("| | " + " | ".join(f"SNR {snr:g}" for snr in ratios) + " |\n|---|" + "---|" * len(ratios))
    for name, case in offset_cases().items():
        cells = [offset_errors(*case, snr) for snr in ratios]
        text = [f"{shift:.3f} / {phase:.2f} ({z[0]:.1f} / {z[1]:.1f})" for shift, phase, *z in cells]
        print(f"| {name} | {' | '.join(text)} |", flush=True)


if __name__ == "__main__":
    main()
