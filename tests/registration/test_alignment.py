"""Frequency and phase correction: truth against the Cramer-Rao bound, invariances, robustness, real transients."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.core.units import ppm_axis, window_indices
from fsl_mrs_dl.preproc.similarity import mean_pairwise_correlation, similarity_matrix
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.registration.bounds import cramer_rao
from fsl_mrs_dl.results.reports.alignment import write_align_report

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / "../shared/data"))
N, DWELL, FREQ = 1024, 1 / 2000, 123.2
AXES = Axes(N, DWELL, FREQ)
T = np.arange(N) * DWELL
PEAKS = ((2.01, 1.0), (3.03, 0.6), (3.20, 0.5), (3.55, 0.3), (1.30, 0.2))  # ppm, amplitude


def metabolites(damping=18.0):
    return sum(a * np.exp((2j * np.pi * (ppm - 4.65) * FREQ - damping) * T) for ppm, a in PEAKS)


CLEAN = metabolites()


def simulate(n, sd, seed, shift=8.0, phase=60.0, amplitude=0.05, clean=CLEAN, gain=None):
    """Transients, shifts, phases; with ``gain`` (n_channels) also a channel axis in front."""
    rng = np.random.default_rng(seed)
    shift_hz, phase_deg = rng.uniform(-shift, shift, n), rng.uniform(-phase, phase, n)
    size = rng.normal(1, amplitude, n)
    fid = size[:, None] * apply_shift_phase(np.tile(clean, (n, 1)), -shift_hz, -phase_deg, DWELL)
    if gain is not None:
        fid = np.asarray(gain)[:, None, None] * fid
    return fid + sd * (rng.normal(size=fid.shape) + 1j * rng.normal(size=fid.shape)), shift_hz, phase_deg


def wrapped(deg):
    return (np.asarray(deg) + 180) % 360 - 180


def centred(found, true):
    """Errors of the shifts without the mean that the data leave open."""
    error = found - true
    return error - error.mean(-1, keepdims=True)


@pytest.mark.parametrize("ppmlim", [(0.2, 4.2), None])
def test_known_reference_reaches_cramer_rao(ppmlim):
    fid, shift, phase = simulate(400, 0.15, 1, amplitude=0.0)
    found = align_transients(fid, AXES, reference=CLEAN, ppmlim=ppmlim)
    shift_sd, phase_sd = cramer_rao(CLEAN, 0.15, AXES, ppmlim=ppmlim)
    # 400 samples: the SD itself is uncertain by 3.5 %.
    assert 0.9 < np.std(found.shift_hz - shift) / shift_sd < 1.1
    assert 0.9 < np.std(wrapped(found.phase_deg - phase)) / phase_sd < 1.1
    assert abs(np.mean(found.shift_hz - shift)) < 4 * shift_sd / 20
    assert np.allclose(np.median(found.shift_sd_hz), shift_sd, rtol=0.03)
    assert np.allclose(np.median(found.phase_sd_deg), phase_sd, rtol=0.03)


def test_built_reference_stays_near_cramer_rao_and_states_its_error():
    fids, shifts, _ = zip(*(simulate(64, 0.15, seed) for seed in range(5)))
    found = align_transients(np.stack(fids)[:, None], AXES)
    error = centred(found.shift_hz, np.stack(shifts))
    shift_sd, _ = cramer_rao(CLEAN, 0.15, AXES)
    assert np.std(error) < 1.1 * shift_sd
    assert 0.85 < np.std(error / found.shift_sd_hz) < 1.15
    assert found.n_iterations < 12
    assert (found.flag == "ok").all()


def test_bound_scales_and_window_costs():
    wide, narrow = cramer_rao(CLEAN, 0.1, AXES, ppmlim=(0.2, 4.2)), cramer_rao(CLEAN, 0.1, AXES, ppmlim=(2.8, 3.3))
    assert wide[0] < narrow[0] and wide[1] < narrow[1]
    assert np.allclose(cramer_rao(CLEAN, 0.2, AXES), 2 * np.array(wide))
    baseline = cramer_rao(CLEAN, 0.1, AXES, baseline_order=2)
    assert wide[0] < baseline[0] < 1.2 * wide[0]
    two = cramer_rao(np.stack([CLEAN, CLEAN]), [0.1, 0.1], AXES)
    assert np.allclose(two, np.array(wide) / np.sqrt(2))


def test_sign_convention_and_inverse():
    moved = apply_shift_phase(CLEAN[None], [-5.0], [-30.0], DWELL)  # 5 Hz towards higher ppm, 30 degrees ahead
    found = align_transients(moved, AXES, reference=CLEAN, exact_reference=True)
    assert np.allclose(found.shift_hz, 5, atol=1e-6) and np.allclose(found.phase_deg, 30, atol=1e-5)
    assert np.allclose(found.apply(moved), CLEAN, atol=1e-7)
    spec = np.abs(np.fft.fftshift(np.fft.fft(np.concatenate([moved[0], CLEAN]).reshape(2, N), axis=-1), axes=-1))
    assert spec[0].argmax() > spec[1].argmax()


def test_noise_free_transients():
    fid, shift, phase = simulate(12, 0.0, 3)
    found = align_transients(fid, AXES)
    assert np.abs(centred(found.shift_hz, shift)).max() < 1e-3
    assert mean_pairwise_correlation(found.apply(fid), AXES) > 0.999999


BASE, _, _ = simulate(12, 0.1, 7)
BASE_FOUND = align_transients(BASE, AXES)


@settings(max_examples=15, deadline=None)
@given(st.floats(-5, 5), st.floats(-180, 180), st.floats(1e-6, 1e6))
def test_common_shift_phase_and_scale_change_nothing(shift, phase, scale):
    found = align_transients(scale * apply_shift_phase(BASE, shift, phase, DWELL), AXES)
    # A common shift moves signal and noise across the fixed window, so the noise that counts differs a little.
    assert np.abs(found.shift_hz - BASE_FOUND.shift_hz).max() < 0.6 * BASE_FOUND.shift_sd_hz.max()
    assert np.abs(wrapped(found.phase_deg - BASE_FOUND.phase_deg)).max() < 0.6 * BASE_FOUND.phase_sd_deg.max()


@settings(max_examples=15, deadline=None)
@given(st.floats(-180, 180), st.floats(1e-9, 1e9))
def test_common_phase_and_scale_change_nothing_at_all(phase, scale):
    found = align_transients(scale * np.exp(1j * phase) * BASE, AXES)
    assert np.allclose(found.shift_hz, BASE_FOUND.shift_hz, atol=1e-6)
    assert np.allclose(wrapped(found.phase_deg - BASE_FOUND.phase_deg), 0, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(12)))
def test_order_does_not_matter(order):
    found = align_transients(BASE[order], AXES)
    assert np.abs(found.shift_hz - BASE_FOUND.shift_hz[order]).max() < 0.1 * BASE_FOUND.shift_sd_hz.max()


def test_mean_stays_where_it_was():
    assert abs(np.mean(BASE_FOUND.shift_hz)) < 1e-9
    assert abs(np.angle(np.mean(np.exp(1j * np.deg2rad(BASE_FOUND.phase_deg))))) < 1e-9


def test_reference_is_the_mean_of_the_aligned():
    mean = BASE_FOUND.apply(BASE).mean(0)
    assert np.linalg.norm(BASE_FOUND.reference[0] - mean) < 0.1 * np.linalg.norm(mean)


def test_joint_coils_beat_one_and_ignore_constant_gain():
    gain = np.array([1.0, 0.7j, -0.8, 0.5 * np.exp(0.3j)])
    fid, shift, _ = simulate(48, 0.25, 11, gain=gain)
    joint, single = align_transients(fid, AXES), align_transients(fid[0], AXES)
    ratio = np.std(centred(joint.shift_hz, shift)) / np.std(centred(single.shift_hz, shift))
    assert ratio < 0.85  # sum of squared gains 2.38: 0.65 expected
    scaled = fid * np.array([10, 1e-3j, 5, 2])[:, None, None]
    again = align_transients(scaled, AXES)
    assert np.allclose(again.shift_hz, joint.shift_hz, atol=1e-5)
    assert joint.reference.shape == (4, N)


def test_broken_coil_does_not_cost_the_transient():
    fid, shift, _ = simulate(24, 0.15, 12, gain=[1.0, 0.8])
    fid[1, 5] = np.nan
    fid[1, 6, 500] = 1e4
    found = align_transients(fid, AXES)
    assert found.flag[5] == "ok"
    assert np.abs(centred(found.shift_hz, shift))[[5, 6]].max() < 5 * found.shift_sd_hz[[5, 6]].max()


def test_failed_transients_are_untouched_and_do_not_spoil_the_rest():
    fid, shift, _ = simulate(24, 0.1, 13)
    good = np.setdiff1d(np.arange(24), [2, 3, 4])
    clean = align_transients(fid[good], AXES)
    fid[2], fid[3], fid[4, 700] = np.nan, 0, 1e6
    found = align_transients(fid, AXES)
    assert list(found.flag[[2, 3, 4]]) == ["failed", "failed", "outlier"]
    assert (found.weight[[2, 3, 4]] == 0).all()
    assert (found.shift_hz[[2, 3]] == 0).all() and np.isnan(found.shift_sd_hz[[2, 3]]).all()
    out = found.apply(fid)
    assert np.isnan(out[2]).all() and (out[3] == 0).all()
    assert (found.flag[good] == "ok").all()
    assert np.abs(centred(found.shift_hz[good], clean.shift_hz)).max() < 0.1 * clean.shift_sd_hz.max()


def test_a_transient_that_begins_with_zeros_has_failed():
    fid, _, _ = simulate(16, 0.02, 3)
    alone = align_transients(np.delete(fid, 4, axis=0), AXES)
    fid[4, :5] = 0
    found = align_transients(fid, AXES)
    assert found.flag[4] == "failed" and np.isnan(found.shift_sd_hz[4])
    np.testing.assert_allclose(np.delete(found.shift_hz, 4), alone.shift_hz, atol=1e-3)
    # Points before the echo are the same in all of them.
    fid[:, :5] = 0
    assert not (align_transients(fid, AXES).flag == "failed").any()


def test_outliers_are_flagged():
    fid, shift, _ = simulate(32, 0.1, 14)
    rng = np.random.default_rng(0)
    lipid = 3 * np.exp((2j * np.pi * (1.3 - 4.65) * FREQ - 60) * T)
    fid[7] += lipid
    fid[20] *= 0.2
    fid[25] = 0.1 * (rng.normal(size=N) + 1j * rng.normal(size=N))
    found = align_transients(fid, AXES)
    assert {7, 20} <= set(np.flatnonzero(found.flag == "outlier"))
    assert found.flag[25] in ("weak", "outlier")
    good = np.setdiff1d(np.arange(32), [7, 20, 25])
    assert (found.flag[good] == "ok").all()
    assert np.abs(centred(found.shift_hz[good], shift[good])).max() < 5 * found.shift_sd_hz[good].max()


def test_weak_transients_follow_their_neighbours():
    rng = np.random.default_rng(5)
    n = 64
    shift = np.linspace(-10, 10, n)
    fid = apply_shift_phase(np.tile(CLEAN, (n, 1)), -shift, np.zeros(n), DWELL)
    sd = np.where(np.arange(n) % 3 == 1, 2.5, 0.6)[:, None]
    fid = fid + sd * (rng.normal(size=fid.shape) + 1j * rng.normal(size=fid.shape))
    found = align_transients(fid, AXES)
    error = centred(found.shift_hz, shift)
    assert (found.flag == "weak").any()
    assert np.abs(error).max() < 8  # the search reaches 43 Hz either way


@pytest.mark.parametrize("kind", ["drift", "jump"])
def test_drift_and_jump(kind):
    n = 40
    rng = np.random.default_rng(8)
    shift = np.linspace(-15, 15, n) if kind == "drift" else np.where(np.arange(n) < 25, -12.0, 14.0)
    fid = apply_shift_phase(np.tile(CLEAN, (n, 1)), -shift, np.zeros(n), DWELL)
    fid = fid + 0.1 * (rng.normal(size=fid.shape) + 1j * rng.normal(size=fid.shape))
    found = align_transients(fid, AXES)
    assert np.abs(centred(found.shift_hz, shift)).max() < 5 * found.shift_sd_hz.max()


def test_water_outside_the_window_does_not_pull():
    fid, shift, _ = simulate(40, 0.05, 15)
    rng = np.random.default_rng(3)
    water_hz = rng.uniform(-15, 15, 40)[:, None]
    fid = fid + 5 * np.exp((2j * np.pi * water_hz - 12) * T)
    shift_sd, _ = cramer_rao(CLEAN, 0.05, AXES)
    inside = np.std(centred(align_transients(fid, AXES).shift_hz, shift))
    everything = np.std(centred(align_transients(fid, AXES, ppmlim=None).shift_hz, shift))
    baseline = np.std(centred(align_transients(fid, AXES, baseline_order=4).shift_hz, shift))
    assert everything > 5  # follows the water
    assert inside < 0.1 * everything  # what is left is the flank that reaches into the window
    assert baseline < 1.6 * shift_sd


def test_external_reference_of_any_scale():
    fid, shift, phase = simulate(10, 0.05, 16)
    found = align_transients(fid, AXES, reference=1e-7 * CLEAN)
    assert np.abs(found.shift_hz - shift).max() < 5 * found.shift_sd_hz.max()
    assert np.abs(wrapped(found.phase_deg - phase)).max() < 5 * found.phase_sd_deg.max()
    assert (found.flag == "ok").all()
    assert found.reference.shape == (1, N)


def test_proposals_are_refined():
    fid, shift, phase = simulate(30, 0.1, 17)
    rng = np.random.default_rng(1)
    near = shift + rng.normal(0, 1, 30), phase + rng.normal(0, 10, 30)
    classical = align_transients(fid, AXES)
    arrays = align_transients(fid, AXES, proposal=near)

    def proposal(tensor):
        assert tensor.shape == (1, 1, 30, N) and tensor.is_complex()
        return torch.as_tensor(near[0])[None], torch.as_tensor(near[1])[None]

    called = align_transients(fid, AXES, proposal=proposal)
    assert np.array_equal(arrays.shift_hz, called.shift_hz)
    assert np.abs(arrays.shift_hz - classical.shift_hz).max() < 0.2 * classical.shift_sd_hz.max()


def test_sets_are_independent_and_chunks_change_nothing():
    fid = np.stack([simulate(20, 0.2, seed, gain=[1, 0.5j])[0] for seed in range(3)])
    whole = align_transients(fid, AXES)
    chunked = align_transients(fid, AXES, max_memory=2 * N * 160 * 7)
    alone = align_transients(fid[1], AXES)
    assert whole.shift_hz.shape == (3, 20) and whole.reference.shape == (3, 2, N)
    # Sets in one chunk share the number of passes: differences stay below the convergence limit.
    limit = 0.05 * whole.shift_sd_hz.max()
    assert np.abs(whole.shift_hz - chunked.shift_hz).max() < limit
    assert np.abs(whole.shift_hz[1] - alone.shift_hz).max() < limit
    assert np.array_equal(whole.flag, chunked.flag)
    assert whole.apply(fid).shape == fid.shape
    assert np.allclose(whole.apply(fid[:, 0]), whole.apply(fid)[:, 0])


def test_single_precision_and_tensors():
    fid, shift, _ = simulate(16, 0.1, 18)
    double = align_transients(fid, AXES)
    stored = align_transients(fid.astype(np.complex64), AXES)
    single = align_transients(torch.as_tensor(fid.astype(np.complex64)), AXES, precision="single")
    assert np.abs(stored.shift_hz - double.shift_hz).max() < 1e-3
    assert np.abs(single.shift_hz - double.shift_hz).max() < 0.1 * double.shift_sd_hz.max()
    assert stored.apply(fid.astype(np.complex64)).dtype == np.complex64
    tensor = double.apply(torch.as_tensor(fid))
    assert isinstance(tensor, torch.Tensor) and np.allclose(tensor.numpy(), double.apply(fid))


@pytest.mark.parametrize("n_points", [N, 2000, 4 * N])
def test_the_shift_is_the_maximum_of_the_whole_fids_likelihood(n_points):
    t = np.arange(n_points) * DWELL
    clean = sum(a * np.exp((2j * np.pi * (ppm - 4.65) * FREQ - 18) * t) for ppm, a in PEAKS)
    fid, _, _ = simulate(6, 0.15, 21, clean=clean)
    found = align_transients(fid, AXES, reference=clean, unstable=())
    window = slice(*window_indices(ppm_axis(n_points, DWELL, FREQ), (0.2, 4.2)))

    def likelihood(one, shift):
        moved = np.fft.fftshift(np.fft.fft(clean * np.exp(2j * np.pi * shift * t)))[window]
        return np.abs(np.vdot(moved, np.fft.fftshift(np.fft.fft(one))[window])) ** 2 / np.sum(np.abs(moved) ** 2)

    for one, shift in zip(fid, found.shift_hz):
        assert likelihood(one, shift) > max(likelihood(one, shift - 1e-5), likelihood(one, shift + 1e-5))


def test_zero_filling_adds_no_information():
    fid, _, _ = simulate(16, 0.1, 19)
    plain = align_transients(fid, AXES)
    filled = align_transients(np.concatenate([fid, np.zeros_like(fid)], -1), AXES)
    assert np.allclose(plain.shift_hz, filled.shift_hz) and np.allclose(plain.shift_sd_hz, filled.shift_sd_hz)
    assert filled.reference.shape == (1, 2 * N)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_transients(n):
    fid, shift, _ = simulate(n, 0.05, 20)
    found = align_transients(fid, AXES)
    assert np.abs(centred(found.shift_hz, shift)).max() < max(5 * found.shift_sd_hz.max(), 1e-9)
    if n == 1:
        assert found.shift_hz[0] == 0 and np.array_equal(found.apply(fid), fid)


def test_one_valid_transient_and_a_dead_set():
    fid = np.stack([simulate(4, 0.1, seed)[0][None] for seed in range(3)])
    fid[1, :, 1:] = 0
    fid[2] = np.nan
    found = align_transients(fid, AXES)
    assert (found.flag[2] == "failed").all() and list(found.flag[1, 1:]) == ["failed"] * 3
    assert (found.shift_hz[1:] == 0).all()
    assert np.isfinite(found.shift_sd_hz[0]).all()


def test_similarity():
    matrix = similarity_matrix(BASE, AXES)
    assert matrix.shape == (12, 12) and np.allclose(np.diag(matrix), 1) and np.allclose(matrix, matrix.T)
    before, after = mean_pairwise_correlation(BASE, AXES), mean_pairwise_correlation(BASE_FOUND.apply(BASE), AXES)
    assert after > before + 0.1
    broken = BASE.copy()
    broken[0] = 0
    assert np.isclose(mean_pairwise_correlation(broken, AXES), mean_pairwise_correlation(BASE[1:], AXES))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(ppmlim=(20, 30)), OptionError, "ppm window"),
        (dict(proposal="magic"), OptionError, "proposal"),
        (dict(proposal=(np.zeros(3), np.zeros(3))), OptionError, "proposal"),
        (dict(max_shift_hz=1e6), OptionError, "max_shift_hz"),
        (dict(precision="half"), OptionError, "precision"),
        (dict(baseline_order=-1), OptionError, "baseline_order"),
        (dict(reference=CLEAN[:-1]), DataError, "reference"),
        (dict(reference=CLEAN * np.nan), DataError, "reference"),
        (dict(fid=BASE.real), DataError, "complex"),
        (dict(fid=BASE[0]), DataError, "shape"),
        (dict(fid=BASE[:, :4]), DataError, "points"),
        (dict(fid=BASE * 0), DataError, "zero"),
    ],
)
def test_errors_name_value_and_remedy(change, error, words):
    arguments = {"fid": BASE, "axes": AXES, **change}
    with pytest.raises(error, match=words) as caught:
        align_transients(**arguments)
    assert "\n" not in str(caught.value)


def test_apply_rejects_other_data():
    with pytest.raises(DataError, match="12 transients"):
        BASE_FOUND.apply(BASE[:5])


def test_report_is_self_contained(tmp_path):
    path = tmp_path / "report.html"
    write_align_report(path, BASE, BASE_FOUND, AXES, ppmlim=(0.2, 4.2), title="<b>simulated</b>")
    text = path.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text and 'src="http' not in text and "&lt;b&gt;" in text
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(
    not (DATA / "invivo_7t_steam_raw/metab_raw.nii.gz").exists(), reason=f"no test data in {DATA} (FSL_MRS_DL_TESTDATA)"
)
def test_real_transients_align_at_least_as_well_as_fsl_mrs():
    nifti_mrs = pytest.importorskip("nifti_mrs.nifti_mrs")
    image = nifti_mrs.NIFTI_MRS(str(DATA / "invivo_7t_steam_raw/metab_raw.nii.gz"))
    fid = image[:][0, 0, 0].transpose(1, 2, 0)
    axes = Axes(fid.shape[-1], image.dwelltime, image.spectrometer_frequency[0])
    fsl_before, fsl_after = [0.700, 0.804, 0.701, 0.781], [0.711, 0.814, 0.709, 0.791]
    assert np.allclose(mean_pairwise_correlation(fid, axes), fsl_before, atol=1.5e-3)
    joint = align_transients(fid, axes)
    single = align_transients(fid[:, None], axes)
    assert (mean_pairwise_correlation(joint.apply(fid), axes) >= fsl_after).all()
    assert (mean_pairwise_correlation(single.apply(fid[:, None])[:, 0], axes) >= fsl_after).all()
    assert (joint.flag == "ok").all() and joint.shift_sd_hz.max() < 0.3


def unstable_transients(n, sd, seed, kinds, n_points=N):
    """Transients with lines at the places of water and lipids, new in every one and up to ten and four times the
    highest peak."""
    rng = np.random.default_rng(seed)
    fid, shift, phase = simulate(n, 0.0, seed)
    peak = np.abs(np.fft.fft(CLEAN)).max()
    for row in range(n):
        lines = []
        if "water" in kinds:
            lines.append((rng.normal(4.66, 0.05), rng.uniform(5, 30), 10 ** rng.uniform(-0.5, 1)))
        if "lipids" in kinds:
            lines += [
                (rng.normal(1.25, 0.1), rng.uniform(0.08, 0.3) * FREQ, 10 ** rng.uniform(-1, 0.6)) for _ in range(2)
            ]
        for ppm, fwhm, height in lines:
            line = np.exp((2j * np.pi * (ppm - 4.65) * FREQ - np.pi * fwhm) * T + 2j * np.pi * rng.uniform())
            fid[row] += height * peak * line / np.abs(np.fft.fft(line)).max()
    noise = sd * (rng.normal(size=fid.shape) + 1j * rng.normal(size=fid.shape))
    return fid + noise, shift, phase


@pytest.mark.parametrize("kinds", [("water",), ("lipids",), ("water", "lipids")])
def test_unstable_lines_do_not_pull(kinds):
    fid, shift, phase = unstable_transients(200, 0.1, 3, kinds)
    found = align_transients(fid, AXES, reference=CLEAN)
    shift_sd, phase_sd = cramer_rao(CLEAN, 0.1, AXES, unstable=kinds)
    error, turn = found.shift_hz - shift, wrapped(found.phase_deg - phase)
    # The bound has amplitudes that can be anything; how strong the lines usually are is learnt, and helps.
    assert 0.6 < 1.4826 * np.median(np.abs(error)) / shift_sd < 1.15
    assert 0.6 < 1.4826 * np.median(np.abs(turn)) / phase_sd < 1.15
    assert np.std(error / found.shift_sd_hz) == pytest.approx(1, abs=0.2)
    believing = align_transients(fid, AXES, reference=CLEAN, unstable=())
    assert np.std(believing.shift_hz - shift) > 3 * np.std(error)


def test_with_a_reference_of_their_own_unstable_transients_are_aligned_too():
    fid, shift, _ = unstable_transients(64, 0.1, 5, ("water", "lipids"))
    found = align_transients(fid, AXES)
    assert np.abs(centred(found.shift_hz, shift)).max() < 3


def test_nothing_is_taken_out_where_nothing_is_unstable():
    fid, _, _ = simulate(64, 0.15, 4)
    plain, learnt = align_transients(fid, AXES, unstable=()), align_transients(fid, AXES)
    np.testing.assert_allclose(learnt.shift_hz, plain.shift_hz, atol=0.02 * plain.shift_sd_hz.max())
    np.testing.assert_allclose(learnt.shift_sd_hz, plain.shift_sd_hz, rtol=0.01)


def test_the_bound_grows_with_what_is_unknown():
    bounds = [cramer_rao(CLEAN, 0.1, AXES, unstable=kinds)[0] for kinds in ((), ("water",), ("water", "lipids"))]
    assert bounds[0] < bounds[1] < bounds[2] < 2 * bounds[0]
    with pytest.raises(OptionError, match="unstable.*water, lipids"):
        align_transients(CLEAN[None].repeat(3, 0), AXES, unstable=("wine",))


def test_a_first_reference_at_the_end_of_the_range_loses_nobody():
    fid, shift, _ = simulate(32, 0.1, 6, shift=40.0, phase=180.0)
    found = align_transients(fid, AXES)
    assert np.abs(centred(found.shift_hz, shift)).max() < 2


def test_transients_without_noise_are_exact_however_few():
    """What a line leaves that does not fit the grid of the transform is neither noise to weight by nor unstable
    lines."""
    line = np.exp(2j * np.pi * -210 * T - 15 * T)
    for off in ((0.0, 3.0, -2.0), (0.0, 3.0), (0.0, 1.5, -7.0, 2.2)):
        off = np.array(off)
        found = align_transients(line * np.exp(2j * np.pi * off[:, None] * T), AXES)
        np.testing.assert_allclose(found.shift_hz - found.shift_hz[0], off, atol=0.01)
