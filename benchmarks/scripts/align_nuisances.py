"""A hundred simulated scans with one nuisance each: is the aligned mean ever farther from the truth than the plain one?

    python -m benchmarks.scripts.align_nuisances > benchmarks/align_nuisances.md

With FSL-MRS installed its align is measured as well.  Thirteen minutes on one core, four with ``--others 0.2``, with
which other methods are measured on a fifth of the same scans.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.papers import classical_alignment
from benchmarks.scripts.edited import GRID, sub_spectra
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.metabolites import typical_concentrations
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.simulation.acquisition import simulate_basis

WINDOW = (0.2, 4.2)
N = 48  # transients
_OURS = ("plain", "fsl_mrs_dl align")


class Scan:
    """Transients with a nuisance, and their parts.

    Parameters
    ----------
    clean, nuisance : complex array, shape (n, n_points)
        Without drift.
    axes : Axes
    rng : numpy.random.Generator
    snr : float
        Of the highest line in one transient.
    shift, phase : ndarray, shape (n,), or 0
        Beyond the drift, in Hz and degrees.

    Attributes
    ----------
    fids : complex array, shape (n, n_points)
        With drift, nuisance and noise.
    signal : complex array, shape (n, n_points)
        What should be lined up, with drift.
    truth : complex array, shape (n_points,)
        Mean of that without drift.
    """

    def __init__(self, clean, nuisance, axes: Axes, rng: np.random.Generator, snr: float, shift=0.0, phase=0.0):
        n = len(clean)
        course = np.linspace(-1, 1, n)
        shift = shift + rng.uniform(-6, 6) * course + np.cumsum(rng.normal(0, 0.3, n))
        phase = phase + rng.uniform(-40, 40) * course + np.cumsum(rng.normal(0, 2.0, n))
        self.signal = apply_shift_phase(clean, -shift, -phase, axes.dwelltime)
        self.truth = clean.mean(0)
        sd = np.abs(spectrum(self.truth, axes)).max() / np.sqrt(axes.n_points) / snr
        noise = sd * (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape))
        self.fids = self.signal + apply_shift_phase(nuisance, -shift, 0 * phase, axes.dwelltime) + noise


def spectrum(fid, axes: Axes) -> np.ndarray:
    """Return the window of the spectra of FIDs."""
    first, last = axes.window(WINDOW)
    return np.fft.fftshift(np.fft.fft(fid), axes=-1)[..., first:last]


def lines(axes: Axes, places, hz: float) -> np.ndarray:
    """Lorentzian lines of (ppm, height), ``(n_points,)``."""
    time = np.arange(axes.n_points) * axes.dwelltime
    return sum(a * np.exp((2j * np.pi * axes.ppm_to_hz(ppm) - np.pi * hz) * time) for ppm, a in places)


def random_phases(rng, n: int) -> np.ndarray:
    return np.exp(2j * np.pi * rng.random(n))[:, None]


def with_echo(brain, axes, rng):
    """An echo anywhere, of random phase: up to three times the height of the signal."""
    time = np.arange(axes.n_points) * axes.dwelltime
    at, width, ppm = rng.uniform(0.05, 0.35), rng.uniform(0.01, 0.04), rng.uniform(0.5, 4.6)
    shape = np.exp(-0.5 * ((time - at) / width) ** 2 + 2j * np.pi * axes.ppm_to_hz(ppm) * time)
    height = rng.uniform(0.1, 3) * np.abs(brain[0]) * rng.uniform(0.5, 1.5, N)
    return np.tile(brain, (N, 1)), height[:, None] * random_phases(rng, N) * shape


def with_water(brain, axes, rng):
    """Residual water that changes from one transient to the next, up to 20 times the signal."""
    strength = rng.exponential(1, N) * np.abs(brain[0]) * rng.uniform(1, 20)
    width, place = rng.uniform(6, 20), 4.65 + rng.uniform(-0.1, 0.1)
    shape = lines(axes, ((place, 1.0),), width) + 0.3 * lines(axes, ((place + 0.07, 1.0),), 2 * width)
    return np.tile(brain, (N, 1)), strength[:, None] * random_phases(rng, N) * shape


def with_lipids(brain, axes, rng):
    """Lipids of random strength and phase, up to four times the signal."""
    strength = rng.exponential(1, N) * np.abs(brain[0]) * rng.uniform(0.3, 4)
    shape = lines(axes, ((1.3, 1.0), (0.9, 0.4)), rng.uniform(15, 35))
    return np.tile(brain, (N, 1)), strength[:, None] * random_phases(rng, N) * shape


def with_motion(brain, axes, rng):
    """A step in phase, frequency, amplitude and width, with lipids and water that come or go."""
    time = np.arange(axes.n_points) * axes.dwelltime
    after = np.arange(N) >= rng.integers(6, N - 6)
    moved = brain * rng.uniform(0.5, 1.0) * np.exp(-np.pi * rng.uniform(0, 5) * time)
    more = rng.uniform(0, 1) * lines(axes, ((1.3, 1.0),), 25) + rng.uniform(0, 5) * lines(axes, ((4.68, 1.0),), 10)
    clean = np.where(after[:, None], moved, brain)
    return clean, np.abs(brain[0]) * after[:, None] * more, rng.uniform(-12, 12) * after, rng.uniform(-140, 140) * after


def with_spikes(brain, axes, rng):
    """Single points of up to a hundred times the signal in a quarter of the transients."""
    nuisance = np.zeros((N, axes.n_points), complex)
    for row in rng.choice(N, N // 4, replace=False):
        points = rng.integers(0, axes.n_points, rng.integers(1, 6))
        nuisance[row, points] = np.abs(brain[0]) * rng.uniform(1, 100) * np.exp(2j * np.pi * rng.random(len(points)))
    return np.tile(brain, (N, 1)), nuisance


def with_conditions(brain, axes, rng):
    """ON and OFF of MEGA-PRESS in one dimension, by halves, in turn or in steps of four."""
    pair = np.stack(sub_spectra()[:2])
    number = np.arange(N)
    order = rng.choice(("halves", "in turn", "steps"))
    labels = {"halves": number * 2 // N, "in turn": number % 2, "steps": (number // 2) % 2}[str(order)]
    return pair[labels], np.zeros((N, axes.n_points), complex)


def with_phantom(brain, axes, rng):
    """A phantom's few narrow lines, with or without water that is not suppressed."""
    places = [(ppm, rng.uniform(0.3, 1)) for ppm in rng.choice((1.31, 1.91, 2.01, 3.03, 3.21, 3.55), 3, replace=False)]
    clean = np.tile(10 * lines(axes, places, rng.uniform(0.7, 3)), (N, 1))
    water = rng.choice((0.0, 30.0)) * lines(axes, ((4.7, 1.0),), rng.uniform(1, 4))
    return clean, np.tile(water, (N, 1))


NUISANCES: dict[str, tuple[Callable, int]] = {
    "echo": (with_echo, 20),
    "water": (with_water, 15),
    "lipids": (with_lipids, 15),
    "motion": (with_motion, 15),
    "spikes": (with_spikes, 15),
    "two conditions": (with_conditions, 10),
    "phantom": (with_phantom, 10),
}


def ours(fids, axes):
    data = MrsData(fids.T[None, None, None], axes.dwelltime, axes.spec_freq_mhz, "1H", ("DIM_DYN",))
    out = align.align_data(data, AlignOptions(device="cpu"))
    return out.alignment.shift_hz[0], out.alignment.phase_deg[0]


def judge(scan: Scan, shift, phase, axes: Axes) -> tuple[float, float]:
    """Return the distance of the mean from the truth, of the signal alone and of everything, over the size of the
    truth.

    One shift and phase common to all transients, which alignments leave open, are chosen for the signal.
    """
    time = np.arange(axes.n_points) * axes.dwelltime
    truth = spectrum(scan.truth, axes)
    signal, everything = (apply_shift_phase(x, shift, phase, axes.dwelltime).mean(0) for x in (scan.signal, scan.fids))

    def products(shifts):
        return spectrum(signal * np.exp(-2j * np.pi * shifts[:, None] * time), axes) @ truth.conj()

    grid = np.linspace(-20, 20, 201)
    fine = grid[np.abs(products(grid)).argmax()] + np.linspace(-0.2, 0.2, 81)
    value = products(fine)
    at = np.abs(value).argmax()
    common = np.exp(-2j * np.pi * fine[at] * time - 1j * np.angle(value[at]))
    size = np.linalg.norm(truth)
    return tuple(float(np.linalg.norm(spectrum(x * common, axes) - truth) / size) for x in (signal, everything))


def median(fids) -> np.ndarray:
    """Return the median of FIDs, of real and imaginary part."""
    return np.median(fids.real, 0) + 1j * np.median(fids.imag, 0)


def ways() -> dict[str, Callable]:
    """Return functions of FIDs and axes that give shifts and phases, by name."""
    nothing = np.zeros(N)
    out = {
        "plain": lambda fids, axes: (nothing, nothing),
        "fsl_mrs_dl align": ours,
        "spectral registration": lambda fids, axes: classical_alignment.spectral_registration(
            fids, fids.mean(0), axes, ppmlim=WINDOW
        ),
        "RATS": lambda fids, axes: classical_alignment.rats(fids, median(fids), axes),
    }
    try:
        from benchmarks.fsl_mrs_reference import fsl_mrs_align

        out["FSL-MRS align"] = fsl_mrs_align
    except ImportError:
        pass
    return out


def brain_signal() -> tuple[np.ndarray, Axes]:
    """Return a noise-free FID at typical concentrations, and its axes."""
    basis = simulate_basis(te_ms=30.0, **GRID)
    time = np.arange(basis.axes.n_points) * basis.dwelltime
    brain = typical_concentrations(list(basis.names)) @ basis.fids
    return brain * np.exp(-np.pi * 4 * time - (np.pi * 4 * time) ** 2 / (4 * np.log(2))), basis.axes


def simulate(kind: str, number: int, brain: np.ndarray, axes: Axes) -> Scan:
    """Return one of the scans with a kind of nuisance."""
    make, n_scans = NUISANCES[kind]
    rng = np.random.default_rng([number, n_scans, len(kind)])
    snr = rng.uniform(5, 40)
    clean, nuisance, *steps = make(brain, axes, rng)
    return Scan(clean, nuisance, axes, rng, snr, *steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the hundred scans (default 1)")
    parser.add_argument("--others", type=float, default=1.0, help="share for the methods of others (default 1)")
    parser.add_argument("--verbose", action="store_true", help="print every scan that is farther")
    args = parser.parse_args()
    torch.set_num_threads(1)
    brain, axes = brain_signal()
    print("# A hundred scans with one nuisance each\n")
    print(
        f"Made by `python -m benchmarks.scripts.align_nuisances`, one thread of a {platform.machine()} CPU, torch"
        f" {torch.__version__}.\n"
    )
    print(
        f"Simulated 3 T PRESS and MEGA-PRESS, {N} transients that drift by up to 12 Hz and 80 degrees, SNR 5 to 40 of"
        " the highest line in one transient. Distance of the mean from the noise-free mean without drift, 0.2 to 4.2"
        " ppm, over the size of the latter, after one shift and phase common to all: of the signal alone (shifts and"
        " phases applied to transients without nuisance and noise), median and highest; of everything, median."
        " 'Farther': scans in which the aligned mean's signal is farther from the truth than the plain mean's by more"
        " than 0.1 % of the size of the truth. What a nuisance of random phase adds to a mean is a matter of chance in"
        " any alignment.\n"
    )
    methods = ways()
    print("| nuisance | scans | aligned by | signal, median | highest | everything | farther | largest excess |")
    print("|---|---|---|---|---|---|---|---|")
    total = {name: [0, 0] for name in methods}
    for kind, (_, n_scans) in NUISANCES.items():
        rows: dict[str, list] = {name: [] for name in methods}
        for k in range(max(1, round(n_scans * args.share))):
            scan = simulate(kind, k, brain, axes)
            for name, way in methods.items():
                if name not in _OURS and k >= np.ceil(n_scans * args.share * args.others):
                    continue
                rows[name].append(judge(scan, *way(scan.fids, axes), axes))
                if args.verbose and rows[name][-1][0] > rows["plain"][-1][0] + 1e-3:
                    print(kind, k, name, rows[name][-1], rows["plain"][-1], flush=True)
        plain = np.array(rows["plain"])
        for name, cells in rows.items():
            cells = np.array(cells)
            excess = cells[:, 0] - plain[: len(cells), 0]
            total[name][0] += int((excess > 1e-3).sum())
            total[name][1] += len(cells)
            median_, everything = np.median(cells, 0)
            last = "" if name == "plain" else f"{(excess > 1e-3).sum()} | {max(excess.max(), 0):.3f}"
            print(
                f"| {kind} | {len(cells)} | {name} | {median_:.3f} | {cells[:, 0].max():.3f} | {everything:.3f} |"
                f" {last or ' | '} |",
                flush=True,
            )
    sums = [f"{name} {n} of {of}" for name, (n, of) in total.items() if name != "plain"]
    print("\nFarther in all: " + ", ".join(sums) + ".")


if __name__ == "__main__":
    main()
