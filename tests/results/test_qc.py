"""Line widths and signal-to-noise ratios: FSL-MRS's figures, and cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.results import qc

N, DWELL, MHZ = 4096, 1 / 2000, 123.2
T = np.arange(N) * DWELL


def singlet(ppm, fwhm_hz, height=1.0):
    return height * np.exp((2j * np.pi * units.ppm_to_hz(ppm, MHZ) - np.pi * fwhm_hz) * T)


def run(fid, fids, nucleus="1H", widest_hz=30.0, ppmlim=(0.2, 4.2)):
    first, last = units.window_indices(units.ppm_axis(N, DWELL, MHZ, nucleus), ppmlim)
    fids, time = np.asarray(fids), units.time_axis(N, DWELL)
    snr, widths = qc.metabolite_qc(
        fid[None],
        lambda damping: units.fid_to_spec(fids * np.exp(-damping[0] * time))[None, :, first:last],
        axes=Axes(N, DWELL, MHZ, nucleus),
        widest_hz=np.array([widest_hz]),
    )
    return snr[0], widths[0]


@pytest.fixture
def noise(rng):
    return rng.normal(size=N) + 1j * rng.normal(size=N)


@pytest.mark.parametrize("fwhm", [3.0, 6.0, 12.0])
def test_line_width_of_a_lorentzian(noise, fwhm):
    fids = [singlet(2.0, fwhm), singlet(3.0, 2 * fwhm)]
    _, widths = run(sum(fids) + 0.01 * noise, fids)
    np.testing.assert_allclose(widths, [fwhm, 2 * fwhm], rtol=0.04)


def test_the_strongest_line_counts_and_too_wide_ones_do_not(noise):
    pair = singlet(2.0, 4.0, 3.0) + singlet(3.0, 10.0, 1.0)
    _, widths = run(pair + 0.01 * noise, [pair])
    assert widths[0] == pytest.approx(4, rel=0.05)
    _, widths = run(pair + 0.01 * noise, [singlet(2.0, 20.0)], widest_hz=5.0)
    assert widths[0] == 0
    _, widths = run(pair + 0.01 * noise, [np.zeros(N)])
    assert widths[0] == 0


@pytest.mark.parametrize("height", [1.0, 10.0])
def test_signal_to_noise_of_a_known_case(noise, height):
    sd, fwhm = 0.2, 5.0
    fids = [singlet(2.0, fwhm, height), singlet(3.0, fwhm, 2 * height)]
    snr, widths = run(sum(fids) + sd * noise, fids)
    # The filter decays at the narrowest width, in Hz; noise in one channel, times the root of two.
    decay = widths.min()
    peak = height * np.sum(np.exp(-(np.pi * fwhm + decay) * T)) / np.sqrt(N)
    filtered = sd * np.sqrt(np.mean(np.exp(-2 * decay * T)))
    assert snr[0] == pytest.approx(peak / (np.sqrt(2) * filtered), rel=0.08)
    assert snr[1] / snr[0] == pytest.approx(2, rel=0.01)


def test_signal_to_noise_falls_as_the_noise_rises(noise):
    fid = singlet(2.0, 5.0)
    quiet, loud = run(fid + 0.1 * noise, [fid])[0], run(fid + 0.4 * noise, [fid])[0]
    assert quiet[0] / loud[0] == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("filling", [2, 3, 8])
def test_zero_filling_changes_neither_signal_to_noise_nor_width(noise, filling):
    """The SNR halved at twice the points: the widest line that counts was a number of points."""
    n = N // 2
    t, fids = T[:n], np.stack([singlet(2.0, 7.0)[:n], singlet(3.0, 10.0, 2.0)[:n]])
    data = (fids.sum(0) + 0.05 * noise[:n])[None]

    def figures(n_points):
        time, axes = np.arange(n_points) * DWELL, Axes(n_points, DWELL, MHZ, "1H")
        whole = np.stack(
            [
                height * np.exp((2j * np.pi * units.ppm_to_hz(ppm, MHZ) - np.pi * fwhm) * time)
                for ppm, fwhm, height in ((2.0, 7.0, 1.0), (3.0, 10.0, 2.0))
            ]
        )
        first, last = axes.window((0.2, 4.2))

        def spectra(damping):
            return units.fid_to_spec(whole * np.exp(-damping[:, None, None] * time))[..., first:last]

        filled = np.pad(data, ((0, 0), (0, n_points - n)))
        return qc.metabolite_qc(filled, spectra, axes=axes, widest_hz=np.array([6.0]))

    (snr, width), (filled_snr, filled_width) = figures(n), figures(filling * n)
    assert (width > 0).all() and t[-1] > 0.5
    np.testing.assert_allclose(filled_snr, snr, rtol=0.05)
    np.testing.assert_allclose(filled_width, width, rtol=0.05)


def test_a_nucleus_without_known_quiet_regions(noise):
    snr, widths = run(noise, [singlet(0.1, 5.0)], nucleus="13C", ppmlim=(-1, 1))
    assert np.isnan(snr).all() and np.isnan(widths).all()


def test_a_tail_of_water_is_no_noise(noise):
    """One polynomial was taken out of the regions of both sides together, which have tails of opposite sign."""
    fids = [singlet(2.0, 6.0), singlet(3.0, 8.0, 2.0)]
    snr, _ = run(sum(fids) + 0.05 * noise, fids)
    for phase in (1, 1j):
        water = phase * singlet(4.65, 8.0, 1000.0)
        for shift_hz in (0, 20):
            turned = (sum(fids) + water + 0.05 * noise) * np.exp(2j * np.pi * shift_hz * T)
            np.testing.assert_allclose(run(turned, fids)[0], snr, rtol=0.05)


def test_signal_to_noise_of_fewer_points_filled_with_zeros(noise):
    n = 512
    axes = Axes(n, DWELL, MHZ, "1H")
    fids = np.stack([singlet(2.0, 7.0), singlet(3.0, 10.0, 2.0)])
    data = fids.sum(0) + singlet(4.65, 8.0, 300.0) + 0.02 * noise

    def of(n_points):
        axes = Axes(n_points, DWELL, MHZ, "1H")
        first, last = axes.window((0.2, 4.2))
        filled = np.pad(data[:n], (0, n_points - n))[None]
        whole = fids[:, :n_points]

        def spectra(damping):
            return units.fid_to_spec(whole * np.exp(-damping[:, None, None] * axes.time()))[..., first:last]

        return qc.metabolite_qc(filled, spectra, axes=axes, widest_hz=np.array([20.0]))[0][0]

    whole, cut = run(data, list(fids))[0], of(n)
    # Of lines this wide 0.26 s have all but a few percent of the signal, and noise that the filter takes out later.
    np.testing.assert_allclose(cut, whole, rtol=0.2)
    np.testing.assert_allclose(of(N), cut, rtol=0.1)
    assert axes.n_points == n


@pytest.mark.with_fsl_mrs
@pytest.mark.parametrize("name", ["voigt", "lorentzian"])
def test_figures_are_fsl_mrs_s(invivo_3t, invivo_basis_path, name, monkeypatch, rng):
    import torch
    from fsl_mrs.utils import mrs_io
    from fsl_mrs.utils import qc as their_qc
    from fsl_mrs.utils.fitting import fit_FSLModel
    from fsl_mrs.utils.qc import calcQC

    from fsl_mrs_dl.core.noise import noise_outside
    from fsl_mrs_dl.physics.signal_model import SignalModel

    # FSL-MRS writes the limits of the first spectrum of a process into its table of regions, and keeps them for all
    # others.
    monkeypatch.setattr(their_qc, "NOISE_REGION", {"1H": [[None, -2], [10, None]]})
    mrs = mrs_io.read_FID(str(invivo_3t)).mrs(basis=mrs_io.read_basis(str(invivo_basis_path)))
    # Water has a tail at the ends of this spectrum, which FSL-MRS takes for noise: with more noise it does not matter.
    sd = 6 * noise_outside(mrs.get_spec(), Axes(mrs.numPoints, 1 / mrs.bandwidth, mrs.centralFrequency / 1e6))
    mrs.FID = mrs.FID + sd * (rng.normal(size=mrs.numPoints) + 1j * rng.normal(size=mrs.numPoints))
    mrs.processForFitting()
    fit = fit_FSLModel(mrs, method="Newton", model=name, baseline="poly, 2", ppmlim=(0.2, 4.2))
    their_widths, their_snr = calcQC(mrs, fit, ppmlim=(0.2, 4.2))
    axes = Axes(mrs.numPoints, 1 / mrs.bandwidth, mrs.centralFrequency / 1e6)
    model = SignalModel(mrs.basis.T, axes, model=name)
    theta, conc, _ = model.unpack(torch.as_tensor(fit.params)[None])

    def spectra(damping):
        blocks = model.split_theta(theta)
        blocks["gamma"] = blocks["gamma"] + torch.as_tensor(damping)[:, None]
        return (model.plain_columns(model.join_theta(**blocks)) * conc[..., None]).numpy()

    snr, widths = qc.metabolite_qc(
        mrs.FID[None],
        spectra,
        axes=axes,
        widest_hz=np.array([np.max(fit.getLineShapeParams()[0])]),
    )
    snr, widths = snr[0], widths[0]
    np.testing.assert_allclose(widths, their_widths[[f"fwhm_{metab}" for metab in mrs.names]].to_numpy()[0], rtol=0.01)
    np.testing.assert_allclose(snr, their_snr.peaks[[f"SNR_{metab}" for metab in mrs.names]].to_numpy()[0], rtol=0.1)
    assert snr.max() > 10


def test_widths_of_many_spectra_are_scipy_s(rng):
    index = np.arange(120)
    centre, width = rng.uniform(0, 120, (40, 6, 3, 1)), rng.uniform(1, 30, (40, 6, 3, 1))
    height = (rng.exponential(size=(40, 6, 3, 1)) / (1 + ((index - centre) / width) ** 2)).sum(2)
    height[3, 2] = 0
    widest = rng.uniform(5, 60, 40)
    height[4, 1] = np.round(height[4, 1] / height[4, 1].max(), 1)  # flat tops

    def scipy_width(one, most):
        peaks, about = signal.find_peaks(one / one.max(), prominence=(0.4, None), width=(None, most))
        return about["widths"][np.argmax(about["prominences"])] if len(peaks) else 0

    expected = [[scipy_width(one, most) if one.any() else 0 for one in row] for row, most in zip(height, widest)]
    np.testing.assert_allclose(qc.line_widths(height, widest), expected, rtol=1e-9)
    assert 20 < np.count_nonzero(expected) < 239
