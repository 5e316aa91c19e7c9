"""An alignment never harms: what the signal is, coherence before and after, regions that metabolites do not own."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.singlets import AXES, DWELL, FREQ, TIME, N, lines

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.preproc import align, coherence
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.registration.signal import is_water_unsuppressed, nuisance_kinds
from fsl_mrs_dl.results.reports import alignment, alignment_table
from fsl_mrs_dl.simulation.acquisition import simulate_basis, simulate_svs

pytestmark = pytest.mark.usefixtures("one_thread")

BRAIN = ((2.008, 1.0), (3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3), (2.35, 0.3))
WINDOWS = [(4.0, 5.3), (3.5, 6.0), None]


def line(ppm, width=5.0):
    return lines(((ppm, 1.0),), width)


CLEAN = sum(height * line(ppm) for ppm, height in BRAIN)


def drifting(clean, n, rng, sd=0.05, hz=3.0, deg=40.0):
    """Transients ``(n, n_points)`` whose frequency and phase drift."""
    shift = np.linspace(-hz, hz, n) + rng.normal(0, 0.3, n)
    phase = np.linspace(-deg, deg, n) + rng.normal(0, 3, n)
    fids = apply_shift_phase(np.broadcast_to(clean, (n, N)), -shift, -phase, DWELL)
    return fids + sd * (rng.standard_normal(fids.shape) + 1j * rng.standard_normal(fids.shape))


def jumping(clean, n, rng):
    """Transients ``(n, n_points)`` with jumps of the frequency by 20 Hz and back."""
    shift = np.where(np.arange(n) // (n // 3) == 1, 20.0, 0.0)
    return apply_shift_phase(drifting(clean, n, rng), -shift, 0, DWELL)


def echoes(n, rng, ppm=3.7, at_s=0.24, height=4.0):
    """A spurious echo of random phase and amplitude in every transient, ``(n, n_points)``."""
    shape = np.exp(-0.5 * ((TIME - at_s) / 0.02) ** 2 + 2j * np.pi * (ppm - 4.65) * FREQ * TIME)
    return (height * rng.uniform(0.7, 1.3, n) * np.exp(2j * np.pi * rng.random(n)))[:, None] * shape


def svs(*sets, header=None):
    """Sets of transients as single-voxel data, edit conditions where there are several."""
    fids = np.stack(sets, -1).transpose(1, 0, 2) if len(sets) > 1 else sets[0].T
    tags = ("DIM_DYN", "DIM_EDIT")[: fids.ndim - 1]
    named = {"SpectrometerFrequency": [FREQ], "ResonantNucleus": ["1H"]}
    named |= {f"dim_{k + 5}": tag for k, tag in enumerate(tags)}
    return nifti.MrsData(fids[None, None, None], DWELL, FREQ, "1H", tags, named, np.diag([20.0, 20, 20, 1]))


def surviving(data):
    """Share of the signal that survives averaging over the last dimension."""
    fids = data.fids
    return float(np.sqrt((np.abs(fids.mean(-1)) ** 2).sum() / (np.abs(fids) ** 2).mean(-1).sum()))


def mean_in(fids, low, high):
    """Root mean square of the mean spectrum in a range."""
    ppm, spectrum = AXES.ppm(), np.fft.fftshift(np.fft.fft(fids.mean(-1), axis=-1))
    return float(np.sqrt((np.abs(spectrum[(ppm > low) & (ppm < high)]) ** 2).mean()))


# -- what the signal is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
def test_simulated_water_is_aligned_with_a_window_on_it_or_none(window):
    rng = np.random.default_rng(0)
    water = 3000 * (line(4.65, 6) + 0.3 * line(4.75, 12)) + CLEAN
    aligned = align.align_data(svs(drifting(water, 16, rng, sd=1.0)), AlignOptions(ppmlim=window, device="cpu"))
    assert surviving(aligned.data) > 0.999 and surviving(svs(aligned.fids[0, 0])) < 0.999
    assert aligned.on_water == (window is None) and not aligned.unchanged.any()
    assert ("water is not suppressed" in alignment_table.summary_line(aligned)) == (window is None)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    "name",
    [
        "mega_press_3t/mega68_water.nii.gz",
        "invivo_7t_steam_raw/wref_raw.nii.gz",
        "invivo_7t_steam_raw/quant_raw.nii.gz",
    ],
)
def test_measured_water_is_aligned_with_a_window_on_it_or_none(testdata, name, window):
    aligned = align.align_data(nifti.load(testdata / name), AlignOptions(ppmlim=window, device="cpu"))
    assert surviving(aligned.data) > 0.999


def test_residual_water_is_not_taken_for_the_signal():
    rng = np.random.default_rng(1)
    residual = drifting(CLEAN + 15 * line(4.7, 20), 24, rng)
    assert not is_water_unsuppressed(residual, AXES)
    assert is_water_unsuppressed(drifting(CLEAN + 3000 * line(4.7, 6), 24, rng), AXES)
    assert not is_water_unsuppressed(np.zeros((3, N), complex), AXES)
    assert not is_water_unsuppressed(3000 * line(4.7)[None], Axes(N, DWELL, FREQ, "31P"))


@pytest.mark.parametrize(
    "window, kinds",
    [
        ((0.2, 4.2), ("water", "lipids")),
        ((0.2, 5.0), ("water", "lipids")),
        ((3.5, 6.0), ()),
        ((4.0, 5.3), ()),
        ((0.7, 1.8), ("water",)),
        (None, ()),
    ],
)
def test_nuisance_lines_are_those_that_are_not_asked_for(window, kinds):
    import torch

    fids = torch.as_tensor(drifting(CLEAN + 15 * line(4.7, 20), 8, np.random.default_rng(2)))
    assert nuisance_kinds(fids, AXES, window) == kinds


def test_unsuppressed_water_is_the_signal_of_a_wide_window():
    import torch

    fids = torch.as_tensor(drifting(CLEAN + 3000 * line(4.7, 6), 8, np.random.default_rng(3)))
    assert nuisance_kinds(fids, AXES, (0.2, 5.0)) == ()


# -- coherence -----------------------------------------------------------------------------------------------------


def measured(fids, shift=0, phase=0):
    fids = fids[None] if fids.ndim == 2 else fids
    regions = coherence.regions_of(fids, AXES, (0.2, 4.2))
    noise = coherence.measure_noise(fids, AXES, (0.2, 4.2))
    return coherence.energies(fids, noise, shift, phase, AXES, regions), regions


def test_coherence_has_no_bias():
    rng = np.random.default_rng(4)
    still, regions = measured(drifting(CLEAN, 64, rng, sd=0.3, hz=0, deg=0) * np.exp(0j))
    assert still.share(regions.owned) > 0.95 and still.present(regions.owned)
    turned = drifting(CLEAN, 64, rng, sd=0.1, hz=0, deg=0) * np.exp(2j * np.pi * rng.random(64))[:, None]
    loose, _ = measured(turned)
    assert loose.share(regions.owned) < 0.06
    noise = [measured(drifting(0 * CLEAN, 16, rng, sd=1.0))[0] for _ in range(30)]
    sums = np.array([one.coherent[regions.window].sum() for one in noise])
    assert abs(sums.mean()) < 4 * sums.std() / np.sqrt(len(sums))
    stated = np.mean([one.sd(regions.window) for one in noise])
    assert 0.5 < sums.std() / stated < 2.5
    assert np.isnan(noise[0].share(regions.owned)) and not noise[0].present(regions.owned)


def test_coherence_of_coils_does_not_depend_on_their_gain():
    rng = np.random.default_rng(5)
    one = drifting(CLEAN, 32, rng)
    two = np.stack([one, 7j * drifting(CLEAN, 32, rng)])
    single, regions = measured(one)
    both, _ = measured(two)
    assert both.share(regions.owned) == pytest.approx(single.share(regions.owned), abs=0.03)


# -- the guard -----------------------------------------------------------------------------------------------------


def spoilt(monkeypatch, *sets):
    """Make the registration wrong in some sets."""
    real = align._registered

    def wrong(fids, *args):
        found, method = real(fids, *args)
        phase = found.phase_deg.copy()
        phase[list(sets)] += np.random.default_rng(6).uniform(-150, 150, phase.shape[1])
        return replace(found, phase_deg=phase), method

    monkeypatch.setattr(align, "_registered", wrong)


def test_data_whose_coherence_would_fall_are_not_changed(monkeypatch):
    spoilt(monkeypatch, 0)
    data = svs(drifting(CLEAN, 32, np.random.default_rng(7), hz=0.5, deg=5))
    aligned = align.align_data(data, AlignOptions(device="cpu"))
    np.testing.assert_array_equal(aligned.data.fids, data.fids)
    assert aligned.unchanged.all() and aligned.coherence[0].after < aligned.coherence[0].before
    assert "Nothing was changed" in alignment_table.summary_line(aligned)
    assert "1 of 1 sets not changed" in aligned.details("align", None)
    assert (aligned.alignment.weight == 1).all()


def test_the_guard_judges_sub_spectra_one_by_one(monkeypatch, tmp_path):
    spoilt(monkeypatch, 1)
    rng = np.random.default_rng(8)
    data = svs(drifting(CLEAN, 32, rng), drifting(CLEAN, 32, rng))
    aligned = align.align_data(data, AlignOptions(device="cpu"))
    assert aligned.unchanged.tolist() == [False, True]
    np.testing.assert_array_equal(aligned.data.fids[..., 1], data.fids[..., 1])
    assert aligned.coherence[0].after > aligned.coherence[0].before
    assert "1 of 2 sets: nothing was changed" in alignment_table.summary_line(aligned)
    header, *rows = [row.split(",") for row in alignment_table.alignment_table(aligned).splitlines()]
    changed, condition = header.index("changed"), header.index("DIM_EDIT")
    assert {(row[condition], row[changed]) for row in rows} == {("0", "yes"), ("1", "no")}
    (path, *_) = alignment.write_reports(tmp_path, aligned, every_set=True)
    assert "Coherence (share of the signal" in path.read_text()


def test_a_window_without_the_signal_costs_a_water_reference_nothing(testdata, tmp_path, capsys):
    source = testdata / "mega_press_3t" / "mega68_water.nii.gz"
    arguments = ["align", "--file", str(source), "--ppm", "0.2", "4.2", "--output", str(tmp_path), "--device", "cpu"]
    assert main(arguments) in (0, None)
    before = nifti.load(source)
    after = nifti.load(tmp_path / source.name)
    assert surviving(after) >= surviving(before) - 1e-3
    assert "othing was changed" in capsys.readouterr().out
    np.testing.assert_array_equal(after.fids, before.fids)


# -- regions that metabolites do not own ---------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [3.7, 2.6])
def test_an_echo_is_not_aligned_but_named(ppm):
    rng = np.random.default_rng(9)
    clean = drifting(CLEAN, 64, rng, sd=0.15, hz=2, deg=15)
    data = svs(clean + echoes(64, rng, ppm))
    aligned = align.align_data(data, AlignOptions(device="cpu"))
    (regions,) = aligned.left_out.values()
    assert len(regions) == 1 and regions[0].low < ppm < regions[0].high and regions[0].high - regions[0].low < 0.7
    assert regions[0].echo_s == pytest.approx(0.24, abs=0.02)
    low, high = ppm - 0.08, ppm + 0.08
    raw, now = data.fids[0, 0, 0], aligned.data.fids[0, 0, 0]
    alone = align.align_data(svs(clean), AlignOptions(device="cpu")).alignment
    assert np.abs(aligned.alignment.shift_hz - alone.shift_hz).mean() < 0.4
    # The mean of the echo's random phases is what it is with the shifts and phases of the same data without echo.
    assert mean_in(now, low, high) < 1.1 * mean_in(alone.apply(raw.T[None])[0].T, low, high)
    assert mean_in(now, low, high) < 0.4 * mean_in(align_transients(raw.T, AXES).apply(raw.T).T, low, high)
    assert mean_in(now, 2.9, 3.13) > mean_in(raw, 2.9, 3.13)
    assert f"{regions[0].low:.1f} to {regions[0].high:.1f} ppm (spurious echo" in alignment_table.summary_line(aligned)


def test_nothing_is_left_out_of_strong_drift_or_noise_and_the_result_is_the_registrations():
    rng = np.random.default_rng(10)
    for fids in (
        drifting(CLEAN, 48, rng, hz=12, deg=170),
        drifting(CLEAN, 48, rng, sd=0.6),
        drifting(CLEAN, 48, rng, hz=0, deg=0),
        drifting(CLEAN + 5 * line(4.7, 20), 48, rng),
        jumping(CLEAN + 0.3 * line(3.75) - 0.3 * line(3.65) + 0.3 * line(2.45) - 0.3 * line(2.4), 48, rng),
    ):
        aligned = align.align_data(svs(fids), AlignOptions(method="classical", device="cpu"))
        assert not aligned.left_out and not aligned.unchanged.any()
        direct = align_transients(fids, AXES, ppmlim=(0.2, 4.2))
        np.testing.assert_array_equal(aligned.alignment.shift_hz[0], direct.shift_hz)
        np.testing.assert_array_equal(aligned.alignment.phase_deg[0], direct.phase_deg)


def test_excluded_ranges_do_not_count():
    rng = np.random.default_rng(11)
    clean = drifting(CLEAN, 32, rng)
    found = align_transients(clean + echoes(32, rng, height=8.0), AXES, exclude=((3.3, 4.1),))
    alone = align_transients(clean, AXES, exclude=((3.3, 4.1),))
    assert np.abs(found.shift_hz - alone.shift_hz).max() < 3 * alone.shift_sd_hz.max()
    with pytest.raises(OptionError, match="remains"):
        align_transients(clean, AXES, exclude=((0.0, 4.3),))


def test_the_echo_of_measured_edited_data_is_left_out(testdata):
    data = nifti.load(testdata / "mega_press_3t" / "mega68.nii.gz")
    aligned = align.align_data(data, AlignOptions(device="cpu"))
    assert 1 in aligned.left_out and not aligned.unchanged.any()
    (region,) = aligned.left_out[1]
    assert 3.4 <= region.low <= 3.6 and 3.8 <= region.high <= 4.0 and region.echo_s == pytest.approx(0.24, abs=0.05)
    ppm = data.axes.ppm()
    before, after = (
        np.abs(np.fft.fftshift(np.fft.fft(one.fids[0, 0, 0].mean(1)[:, 1]))) for one in (data, aligned.data)
    )
    echo, creatine = ((ppm > low) & (ppm < high) for low, high in ((3.6, 3.9), (2.9, 3.15)))
    assert np.sqrt((after[echo] ** 2).mean()) < 1.2 * np.sqrt((before[echo] ** 2).mean())
    assert after[creatine].max() > 1.04 * before[creatine].max()


@pytest.mark.parametrize(
    "jitter_hz, jitter_deg, scattered", [(0, 0, False), (0.5, 3, False), (4, 10, True), (0, 50, True)]
)
def test_what_an_average_of_transients_loses(jitter_hz, jitter_deg, scattered):
    basis = simulate_basis(["NAA", "Cr", "GPC", "Glu", "Ins"], te_ms=30.0, n_points=512)
    moves = {"drift_hz": 0, "drift_deg": 0, "jitter_hz": jitter_hz, "jitter_deg": jitter_deg}
    for seed in range(3):
        data = simulate_svs(basis, transients=32, snr=6, seed=seed, **moves).data
        lost = coherence.lost_in_average(np.moveaxis(data.fids[0, 0], -1, -2), data.axes)
        assert 0.1 < lost < 1 if scattered else lost == 0
