"""Frequency and phase correction against its limits: rat signal with known truth, and real transients.

    python -m benchmarks.scripts.align_limits > benchmarks/align_limits.md

Data: folder in FSL_MRS_DL_TESTDATA, default ../shared/data from the project's root.  Two minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import scipy.io
import torch
from nifti_mrs.nifti_mrs import NIFTI_MRS

from fsl_mrs_dl.core import transients
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.core.units import wrap_degrees
from fsl_mrs_dl.preproc.frequency_referencing import reference_offset
from fsl_mrs_dl.preproc.similarity import mean_pairwise_correlation
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.registration.bounds import cramer_rao
from fsl_mrs_dl.registration.likelihood import block_length
from fsl_mrs_dl.registration.window import Window, make_window

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / "../shared/data"))
RAT = Axes(2048, 1 / 4401.41, 400.2)
WINDOWS = ((0.2, 4.2), None)


def rat_signal() -> np.ndarray:
    """Return the 9.4 T signal with the recipe's 2 Hz apodisation, in the in-memory convention (NAA at lower
    frequency)."""
    fid = scipy.io.loadmat(DATA / "seed_fpc_rat9t/obx_23_9_FC.mat")["data"].squeeze()
    return fid * np.exp(-2 * np.pi * np.arange(len(fid)) * RAT.dwelltime)


def simulate(clean, n_sets, n_transients, rng, snr=(9, 27)):
    """Return FIDs (n_sets, 1, n_transients, n_points) by the recipe, and their shift (Hz), phase (deg), noise SD,
    amplitude."""
    shape = (n_sets, n_transients)
    shift, phase = rng.uniform(-20, 20, shape), rng.uniform(-90, 90, shape)
    amplitude, sd = rng.normal(1, 0.1, shape), abs(clean[0]) / rng.uniform(*snr, shape)
    fid = amplitude[..., None] * apply_shift_phase(
        np.broadcast_to(clean, (*shape, len(clean))), -shift, -phase, RAT.dwelltime
    )
    fid = fid + sd[..., None] * (rng.normal(size=fid.shape) + 1j * rng.normal(size=fid.shape))
    return fid[:, None], shift, phase, sd, amplitude


def control_signal(n_points: int) -> np.ndarray:
    """Noise-free singlets (ppm, amplitude) of 8 Hz width: the rat signal carries its scanner's noise, this one none."""
    t = np.arange(n_points) * RAT.dwelltime
    peaks = ((2.01, 1.0), (3.03, 0.8), (3.92, 0.5), (3.20, 0.6), (3.55, 0.5), (3.75, 0.4), (2.3, 0.4), (1.3, 0.2))
    return sum(a * np.exp((2j * np.pi * (ppm - 4.65) * RAT.spec_freq_mhz - 8 * np.pi) * t) for ppm, a in peaks)


def without_common(error, circular=False):
    """Errors less the mean of their set, which a reference built from the transients leaves open."""
    if circular:
        error = wrap_degrees(error - np.rad2deg(np.angle(np.exp(1j * np.deg2rad(error)).mean(1, keepdims=True))))
    return error - error.mean(1, keepdims=True)


def _window_fid(window: Window, fid: torch.Tensor) -> torch.Tensor:
    """FID of the windowed spectrum, so that the likelihood's inner products become sums over time points."""
    return torch.fft.ifft(window.apply(torch.fft.fft(fid, norm="ortho")), norm="ortho")


def _autocorrelation(fid: torch.Tensor) -> torch.Tensor:
    """``sum_t fid[t + lag] conj(fid[t])`` for lags 0 to n_points - 1, shape (..., n_points)."""
    n = fid.shape[-1]
    power = torch.fft.fft(fid, n=2 * n).abs() ** 2
    return torch.fft.ifft(power)[..., :n]


def _energy_series(window: Window, reference: torch.Tensor) -> torch.Tensor:
    """Series ``q`` with window energy of the shifted reference ``E(shift) = Re sum_t q[t] exp(-2j pi shift t)``.

    ``reference``: (n_sets, n_channels, n_points); the energies of the channels add up: (n_sets, n_points).
    """
    series = _autocorrelation(reference).sum(-2) * window.lag
    for vector in window.baseline_fid:
        series = series - _autocorrelation(vector.conj() * reference).sum(-2)
    if window.removes_lines:
        values, vectors = torch.linalg.eigh(window.removed.mT)
        for k in range(values.shape[-1]):
            if bool((values[..., k] > 1e-6).any()):
                vector = torch.einsum("scj,jn->scn", vectors[..., k].conj(), window.unstable_fid.conj())
                series = series - (_autocorrelation(vector * reference) * values[..., k, None]).sum(-2)
    series = series.conj() * 2
    series[..., 0] = series[..., 0] / 2
    return series


def _blocks(series: torch.Tensor) -> torch.Tensor:
    """(..., n_points) -> (..., n_coarse, n_fine), zero-padded: a phasor is then a product of two short ones."""
    n = series.shape[-1]
    fine = block_length(n)
    coarse = -(-n // fine)
    padded = torch.nn.functional.pad(torch.view_as_real(series.resolve_conj()), (0, 0, 0, coarse * fine - n))
    return torch.view_as_complex(padded.contiguous()).reshape(*series.shape[:-1], coarse, fine)


def _phasor(shift: torch.Tensor, n: int, spacing: float, cplx: torch.dtype) -> torch.Tensor:
    """``exp(-2j pi shift t)`` for ``n`` times, shape (..., n)."""
    angle = -transients.TWO_PI * spacing * shift[..., None] * torch.arange(n, device=shift.device, dtype=shift.dtype)
    return torch.polar(torch.ones_like(angle), angle).to(cplx)


def _fourier_sum(blocks: torch.Tensor, shift: torch.Tensor, dwelltime: float) -> tuple[torch.Tensor, ...]:
    """``sum_t x[t] exp(-2j pi shift t)`` and its first two derivatives with respect to ``shift``.

    ``blocks``: (n_sets, n_transients or 1, n_coarse, n_fine); ``shift``: (n_sets, n_transients).
    """
    n_coarse, n_fine = blocks.shape[-2:]
    fine = torch.arange(n_fine, device=shift.device, dtype=shift.dtype)
    powers = torch.stack([torch.ones_like(fine), fine, fine**2], -1)
    inner = _phasor(shift, n_fine, dwelltime, blocks.dtype)[..., None] * powers.to(blocks.dtype)
    if blocks.shape[1] == 1 and shift.shape[1] != 1:  # the same series for every transient of a set: one product
        n_sets, n_transients = shift.shape
        flat = inner.permute(0, 2, 1, 3).reshape(n_sets, n_fine, n_transients * 3)
        moments = (blocks[:, 0] @ flat).reshape(n_sets, n_coarse, n_transients, 3).permute(0, 2, 1, 3)
    else:
        moments = blocks @ inner
    outer = _phasor(shift, n_coarse, dwelltime * n_fine, blocks.dtype)
    start = torch.arange(n_coarse, device=shift.device, dtype=shift.dtype) * n_fine
    m0, m1, m2 = moments.unbind(-1)
    step = -1j * transients.TWO_PI * dwelltime
    value = (outer * m0).sum(-1)
    first = (outer * (start * m0 + m1)).sum(-1) * step
    second = (outer * (start**2 * m0 + 2 * start * m1 + m2)).sum(-1) * step**2
    return value, first, second


def posterior_mean_sd(clean, fid, found, sd, ppmlim) -> tuple[float, np.ndarray]:
    """Shift estimate of least mean square error under a flat prior: likelihood averaged over +-6 Hz instead of
    maximised."""
    window = make_window(RAT.with_points(len(clean)), ppmlim=ppmlim)
    cross = _window_fid(window, torch.as_tensor(fid[0, 0])) * torch.as_tensor(clean).conj()
    energy = _energy_series(window, torch.as_tensor(clean)[None, None])
    grid = torch.as_tensor(found.shift_hz[0])[:, None] + torch.arange(-6, 6.01, 0.05)
    log_likelihood = []
    for part in torch.arange(len(cross)).split(100):
        shift = grid[part].T  # every column of the grid is a row of "transients" of its own
        c = torch.stack([_fourier_sum(_blocks(cross[part])[None], row[None], RAT.dwelltime)[0][0] for row in shift])
        e = torch.stack([_fourier_sum(_blocks(energy)[None], row[None], RAT.dwelltime)[0][0].real for row in shift])
        log_likelihood.append((c.abs() ** 2 / e).T / (2 * torch.as_tensor(sd[0, part, None]) ** 2))
    posterior = torch.softmax(torch.cat(log_likelihood), -1)
    return (posterior * grid).sum(-1).numpy()


def measure(clean, n_sets, n_transients, ppmlim, known, seed=0, snr=(9, 27)) -> dict:
    fid, shift, phase, sd, amplitude = simulate(clean, n_sets, n_transients, np.random.default_rng(seed), snr)
    align_transients(fid[:, :, :4], RAT, ppmlim=ppmlim)  # first call: library start-up
    start = time.perf_counter()
    found = align_transients(fid, RAT, ppmlim=ppmlim, reference=clean if known else None, exact_reference=True)
    seconds = time.perf_counter() - start
    shift_error, phase_error = found.shift_hz - shift, wrap_degrees(found.phase_deg - phase)
    if not known:
        shift_error, phase_error = without_common(shift_error), without_common(phase_error, circular=True)
    bound = np.array(cramer_rao(clean, 1.0, RAT, ppmlim=ppmlim))
    each = sd / amplitude
    shift_bound, phase_bound = bound * np.sqrt((each**2).mean())
    out = dict(
        shift=shift_error.std(),
        shift_bound=shift_bound,
        shift_ratio=shift_error.std() / shift_bound,
        shift_core=1.4826 * np.median(np.abs(shift_error / each)) / bound[0],
        phase=phase_error.std(),
        phase_bound=phase_bound,
        phase_ratio=phase_error.std() / phase_bound,
        stated=(shift_error / found.shift_sd_hz).std(),
        flagged=int((found.flag != "ok").sum()),
        passes=found.n_iterations,
        ms=1e3 * seconds / shift.size,
    )
    if known:
        mean = posterior_mean_sd(clean, fid, found, sd, ppmlim)
        out["best_ratio"] = (mean - shift[0]).std() / shift_bound
    return out


def name(ppmlim) -> str:
    return "all frequencies" if ppmlim is None else f"{ppmlim[0]:g} to {ppmlim[1]:g} ppm"


def rat_table() -> None:
    clean = rat_signal()
    print("## Rat signal, known truth\n")
    print(
        "Shifts U(-20, 20) Hz, phases U(-90, 90) deg, SNR U(9, 27) (|FID(0)| / noise SD per part), amplitude N(1, 0.1),"
        " 2 Hz\napodisation. Error SD over all transients; bound: root mean square of the Cramer-Rao bounds with"
        " *known* reference.\n'Core' is the robust SD of the error over its own bound; 'best' the error SD of the"
        " posterior mean (known reference and\nnoise, flat prior within 6 Hz), the estimate of least mean square error,"
        " over the bound; 'stated' the SD of error /\nreported SD (1 is honest). 'Control' is a noise-free sum of"
        " singlets in place of the rat signal, whose own noise counts\nas signal in its bound but is out of reach of a"
        " reference built at this SNR.\nWith the reference built from the transients the common mean error of each set"
        " is taken out.\n"
    )
    print(
        "| window | reference | transients | shift SD (Hz) | bound | ratio | core | best | phase SD (deg) | bound |"
        " ratio | stated | not ok | passes | ms per transient |"
    )
    print("|---" * 15 + "|")
    control = control_signal(len(clean))
    cases = [(clean, (9, 27), True, 1, 2000), (clean, (25, 27), True, 1, 1000), (clean, (9, 27), False, 4, 256)]
    cases += [(clean, (9, 27), False, 8, 64), (clean, (9, 27), False, 32, 16), (clean, (60, 80), False, 8, 64)]
    cases += [(control, (9, 27), True, 1, 1000), (control, (9, 27), False, 8, 64), (control, (9, 27), False, 32, 16)]
    for ppmlim in WINDOWS:
        for signal, snr, known, n_sets, n in cases:
            m = measure(signal, n_sets, n, ppmlim, known, snr=snr)
            best = f"{m['best_ratio']:.2f}" if known else ""
            label = ("known" if known else "built") + ("" if snr == (9, 27) else f", SNR {snr[0]}-{snr[1]}")
            label += ", control" if signal is control else ""
            print(
                f"| {name(ppmlim)} | {label} | {n_sets} x {n} | {m['shift']:.3f} | {m['shift_bound']:.3f} |"
                f" {m['shift_ratio']:.2f} | {m['shift_core']:.2f} | {best} | {m['phase']:.2f} | {m['phase_bound']:.2f}"
                f" | {m['phase_ratio']:.2f} | {m['stated']:.2f} | {m['flagged']} | {m['passes']} | {m['ms']:.2f} |",
                flush=True,
            )


def water_table() -> None:
    """The rat signal with unstable water, about the recipe's worst nuisance, just outside the window."""
    clean = rat_signal()
    rng = np.random.default_rng(3)
    fid, shift, _, sd, amplitude = simulate(clean, 1, 512, rng)
    t = np.arange(len(clean)) * RAT.dwelltime
    size, place, width = rng.uniform(0, 10, 512), rng.uniform(-20, 20, 512), rng.uniform(15, 40, 512)
    turn = rng.uniform(0, 2 * np.pi, 512)
    water = np.exp(1j * turn[:, None] + (2j * np.pi * place - np.pi * width)[:, None] * t)
    fid = fid + abs(clean[0]) * size[:, None] * water
    print("\n## The same with unstable water\n")
    print(
        "Added to every transient: water of U(0, 10) times |FID(0)|, any phase, U(-20, 20) Hz, width U(15, 40) Hz."
        " Known\nreference, window 0.2 to 4.2 ppm, 512 transients.\n"
    )
    print("'Bound' is that of what is allowed to differ: nothing, water of unknown strength, or a polynomial.\n")
    print("| allowed to differ | shift SD (Hz) | robust shift SD (Hz) | bound (Hz) | off by more than 5 Hz |")
    print("|---" * 5 + "|")
    cases = {
        "nothing": ({"unstable": ()}, {}),
        "learnt from the data (default)": ({}, {"unstable": ("water",)}),
    }
    for order in (2, 4, 6, 8):
        cases[f"polynomial, order {order}"] = ({"baseline_order": order, "unstable": ()}, {"baseline_order": order})
    for label, (options, known) in cases.items():
        found = align_transients(fid, RAT, reference=clean, exact_reference=True, **options)
        error = found.shift_hz - shift
        bound = cramer_rao(clean, 1.0, RAT, **known)[0] * np.sqrt(np.mean((sd / amplitude) ** 2))
        print(
            f"| {label} | {error.std():.2f} | {1.4826 * np.median(abs(error)):.3f} | {bound:.3f} |"
            f" {(abs(error) > 5).mean():.1%} |"
        )


def real_table() -> None:
    image = NIFTI_MRS(str(DATA / "invivo_7t_steam_raw/metab_raw.nii.gz"))
    fid = image[:][0, 0, 0].transpose(1, 2, 0)
    axes = Axes(fid.shape[-1], image.dwelltime, image.spectrometer_frequency[0])
    print("\n## Human brain, 7 T STEAM, 4 coils x 16 transients\n")
    print("Mean pairwise correlation of the complex spectra, 0.2 to 4.2 ppm.\n")
    print("| | coil 1 | coil 2 | coil 3 | coil 4 |\n|---|---|---|---|---|")

    def row(label, values):
        print(f"| {label} | " + " | ".join(f"{float(v):.4f}" for v in values) + " |")

    row("before", mean_pairwise_correlation(fid, axes))
    row("FSL-MRS 2.4.11 align", (0.711, 0.814, 0.709, 0.791))
    for order in (None, 2):
        single = align_transients(fid[:, None], axes, baseline_order=order)
        joint = align_transients(fid, axes, baseline_order=order)
        extra = "" if order is None else f", baseline_order {order}"
        row(f"each coil alone{extra}", mean_pairwise_correlation(single.apply(fid[:, None])[:, 0], axes))
        row(f"coils jointly{extra}", mean_pairwise_correlation(joint.apply(fid), axes))
        if order is None:
            sds = [
                f"{np.median(x.shift_sd_hz):.2f} Hz and {np.median(x.phase_sd_deg):.2f} deg" for x in (joint, single)
            ]
    print(f"\nMedian stated SD: coils jointly {sds[0]}, each alone {sds[1]}.")


def combined_table() -> None:
    """Coils combined first: similarity index and creatine's width, beside FSL-MRS align where it is installed."""
    from benchmarks.papers import classical_alignment
    from fsl_mrs_dl.core.transients import combination
    from fsl_mrs_dl.preproc.similarity import similarity_index

    image = NIFTI_MRS(str(DATA / "invivo_7t_steam_raw/metab_raw.nii.gz"))
    fid = image[:][0, 0, 0].transpose(1, 2, 0)
    axes = Axes(fid.shape[-1], image.dwelltime, image.spectrometer_frequency[0])

    def together(fids):
        """Coils in units of their noise, added up with weights from their mean."""
        fids = fids / fid[..., -fid.shape[-1] // 4 :].std((1, 2))[:, None, None]
        weights = combination(torch.as_tensor(fids.mean(1, keepdims=True)))
        return np.einsum("c,ctn->tn", weights.resolve_conj().numpy(), fids)

    def apply(fids, found):
        return apply_shift_phase(fids, *found, axes.dwelltime)

    def ours(fids):
        found = align_transients(fids, axes)
        return found.shift_hz, found.phase_deg

    ways = {"not aligned": (fid, together(fid))}
    joint = apply(fid, ours(fid))
    alone = np.stack([apply(one, ours(one)) for one in fid])
    ways["ours, coils jointly"] = (joint, together(joint))
    ways["ours, each coil alone"] = (alone, together(alone))
    ways["ours, coils combined first"] = (None, apply(together(fid), ours(together(fid))))
    try:
        from benchmarks.fsl_mrs_reference import fsl_mrs_align

        theirs = np.stack([apply(one, fsl_mrs_align(one, axes)) for one in fid])
        ways["FSL-MRS align, each coil alone"] = (theirs, together(theirs))
        ways["FSL-MRS align, coils combined first"] = (None, apply(together(fid), fsl_mrs_align(together(fid), axes)))
    except ImportError:
        pass
    print(
        "\nSimilarity index of the paper (2.5 to 3.5 ppm) in every coil and with the coils combined, and width of"
        " creatine in the combined mean (Hz).\n"
    )
    print("| | coil 1 | coil 2 | coil 3 | coil 4 | combined | Cr width |\n|---|---|---|---|---|---|---|")
    for name, (separate, whole) in ways.items():
        cells = [f"{x:.4f}" for x in similarity_index(separate, axes)] if separate is not None else [""] * 4
        mean = whole.mean(0)
        at = reference_offset(mean, axes)
        straight = apply_shift_phase(mean, at.shift_hz, at.phase_deg, axes.dwelltime)
        width = classical_alignment.creatine_width(straight, axes)
        print(f"| {name} | " + " | ".join(cells) + f" | {float(similarity_index(whole, axes)):.4f} | {width:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES), help="default all")
    args = parser.parse_args()
    print("# Frequency and phase correction against its limits\n")
    print(
        "Made by `python -m benchmarks.scripts.align_limits > benchmarks/align_limits.md`, "
        f"{torch.get_num_threads()} threads of a {platform.machine()} CPU, torch {torch.__version__}.\n"
    )
    for name in args.tables:
        TABLES[name]()


TABLES = {"rat": rat_table, "water": water_table, "real": real_table, "combined": combined_table}

if __name__ == "__main__":
    main()
