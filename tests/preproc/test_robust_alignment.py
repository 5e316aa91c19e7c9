"""Alignment of transients with nuisances: the truth is simulated, and outliers have reasons."""

import numpy as np
import pytest
from helpers.singlets import DWELL, FREQ, TIME, N, lines

from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.preproc.spikes import without_spikes
from fsl_mrs_dl.results.reports import alignment_table

pytestmark = pytest.mark.usefixtures("one_thread")


BRAIN = lines(((2.008, 1.0), (3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3), (2.35, 0.3)))


class Scan:
    """Drifting transients ``(n, n_points)`` with their shifts and phases; ``nuisance`` has phases of its own."""

    def __init__(self, clean, seed=0, sd=0.15, hz=2.0, deg=15.0, nuisance=0.0, shift=0.0, phase=0.0):
        rng, n = np.random.default_rng(seed), len(clean)
        self.shift = np.linspace(-hz, hz, n) + rng.normal(0, 0.3, n) + shift
        self.phase = np.linspace(-deg, deg, n) + rng.normal(0, 3, n) + phase
        self.fids = apply_shift_phase(clean, -self.shift, -self.phase, DWELL) + nuisance
        self.fids = self.fids + sd * (rng.standard_normal((n, N)) + 1j * rng.standard_normal((n, N)))

    def align(self, **options):
        self.aligned = align.align_data(svs(self.fids), AlignOptions(device="cpu", **options))
        return self.aligned

    def errors(self, index=0):
        """SD of shift (Hz) and phase (degrees) about the truth."""
        found = self.aligned.alignment
        turn = np.exp(1j * np.deg2rad(found.phase_deg[index] - self.phase))
        return np.std(found.shift_hz[index] - self.shift), np.std(np.angle(turn / turn.mean(), deg=True))


def svs(fids, tags=("DIM_DYN",)):
    fids = np.moveaxis(fids, -1, 0)
    return nifti.MrsData(fids[None, None, None], DWELL, FREQ, "1H", tags)


def copies(n, clean=BRAIN):
    return np.broadcast_to(clean, (n, N))


def random_phases(n, seed=1):
    return np.exp(2j * np.pi * np.random.default_rng(seed).random(n))[:, None]


@pytest.mark.parametrize("height", [1.0, 4.0])
def test_a_narrow_line_of_random_phase_does_not_pull(height):
    scan = Scan(copies(48), nuisance=height * random_phases(48) * lines(((2.6, 1.0),)))
    (regions,) = scan.align().left_out.values()
    assert regions[0].low < 2.6 < regions[0].high
    shift, phase = scan.errors()
    assert shift < 0.12 and phase < 2.5  # 0.06 Hz and 1 degree without the line


@pytest.mark.parametrize("ppm", [2.01, 3.1, 3.93])
def test_an_echo_under_a_singlet_does_not_pull(ppm):
    shape = np.exp(-0.5 * ((TIME - 0.2) / 0.02) ** 2 + 2j * np.pi * (ppm - 4.65) * FREQ * TIME)
    scan = Scan(copies(48), nuisance=5 * random_phases(48) * shape)
    assert scan.align().left_out and not scan.aligned.unchanged.any()
    shift, phase = scan.errors()
    assert shift < 0.3 and phase < 5
    assert "spurious echo" in alignment_table.summary_line(scan.aligned)


def test_strong_unstable_water_is_not_the_signal():
    strength = 400 * np.random.default_rng(2).exponential(1, 48)[:, None]
    scan = Scan(copies(48), nuisance=strength * random_phases(48) * lines(((4.7, 1.0),), 8.0))
    assert not scan.align().on_water
    shift, phase = scan.errors()
    assert shift < 0.3 and phase < 5


def test_spikes_do_not_pull_and_their_transients_are_outliers_with_that_reason():
    rng, n = np.random.default_rng(3), 40
    spiked = rng.choice(n, 10, replace=False)
    nuisance = np.zeros((n, N), complex)
    for row in spiked:
        at = rng.integers(20, N - 20, 3)
        nuisance[row, at] = 100 * np.exp(2j * np.pi * rng.random(3))
    scan = Scan(copies(n), nuisance=nuisance)
    found = scan.align().alignment
    assert set(np.flatnonzero(found.flag[0] == "outlier")) == set(spiked)
    assert (found.reason[0, spiked] == "spikes").all() and (found.weight[0, spiked] == 0).all()
    assert max(scan.errors()) < 2
    assert "10 outlier (spikes 10)" in alignment_table.summary_line(scan.aligned)
    np.testing.assert_array_equal(scan.aligned.fids[0, 0], scan.fids)


def test_only_spikes_are_taken_for_spikes(testdata):
    scan = Scan(copies(32, BRAIN + 20 * lines(((4.7, 1.0),), 20.0)), hz=10.0, deg=100.0)
    wild = Scan(copies(32), nuisance=3000 * random_phases(32) * lines(((4.7, 1.0),), 8.0))
    for fids in (scan.fids, wild.fids):
        same, energy = without_spikes(fids[None, None])
        assert same.base is fids and not energy.any()
    for name in ("mega_press_3t/mega68", "invivo_7t_steam_raw/metab_raw", "dwi_steam_7t/invivo1_steam"):
        fids = nifti.load(testdata / f"{name}.nii.gz").fids[0, 0, 0]
        fids = np.moveaxis(fids, 0, -1).reshape(-1, fids.shape[-2], len(fids))[:8]
        assert (without_spikes(fids[None])[1] > 0).mean() < 0.01


def test_outliers_have_reasons():
    clean, noise = np.array(copies(32)), np.zeros((32, N), complex)
    rng = np.random.default_rng(4)
    clean[3] *= 0.2
    clean[9] = lines(((2.6, 2.0), (3.4, 1.0)))
    noise[20] = 6 * (rng.standard_normal(N) + 1j * rng.standard_normal(N))
    found = Scan(clean, nuisance=noise).align().alignment
    reasons = dict(zip(np.flatnonzero(found.reason[0]).tolist(), found.reason[0][found.reason[0] != ""].tolist()))
    assert reasons[20] == "noise" and reasons[3] in ("amplitude", "residual") and 9 in reasons
    assert ((found.flag == "outlier") == (found.reason != "")).all()


def test_a_subject_moves():
    after = np.arange(48) >= 20
    moved = 0.7 * BRAIN * np.exp(-np.pi * 3 * TIME)
    clean = np.where(after[:, None], moved, BRAIN)
    lipids = after[:, None] * 0.8 * lines(((1.3, 1.0),), 25.0)
    scan = Scan(clean, shift=9.0 * after, phase=120.0 * after, nuisance=lipids)
    scan.align()
    shift, phase = scan.errors()
    assert shift < 0.3 and phase < 4 and (scan.aligned.alignment.flag != "outlier").mean() > 0.9


def test_an_interruption_in_a_strong_drift():
    shift = np.where(np.arange(48) < 24, 0.0, -25.0) + np.linspace(0, 12, 48)
    scan = Scan(copies(48), sd=0.3, shift=shift, phase=np.linspace(0, 300, 48))
    scan.align()
    shift_error, phase_error = scan.errors()
    assert shift_error < 0.3 and phase_error < 4 and (scan.aligned.alignment.flag == "ok").all()


def test_eddy_currents_of_all_transients_do_not_matter():
    eddy = np.exp(1j * (2.0 * np.exp(-TIME / 0.05) + 1.5 * (1 - np.exp(-TIME / 0.15))))
    scan = Scan(copies(48, BRAIN * eddy), hz=6.0)
    assert scan.align().conditions is None and not scan.aligned.left_out and not scan.aligned.unchanged.any()
    shift, phase = scan.errors()
    assert shift < 0.12 and phase < 2.5


def test_coils_with_a_nuisance_in_some_of_them():
    rng, scan = np.random.default_rng(5), Scan(copies(32), sd=0.0)
    gains = rng.uniform(0.5, 1.5, 4) * np.exp(2j * np.pi * rng.random(4))
    fids = gains[:, None, None] * scan.fids
    fids = fids + 0.3 * (rng.standard_normal(fids.shape) + 1j * rng.standard_normal(fids.shape))
    shape = np.exp(-0.5 * ((TIME - 0.2) / 0.02) ** 2 + 2j * np.pi * (3.7 - 4.65) * FREQ * TIME)
    fids[1] += 6 * random_phases(32) * shape
    fids[2, ::5, 300] += 200
    data = svs(fids.transpose(1, 0, 2), ("DIM_DYN", "DIM_COIL"))
    scan.aligned = align.align_data(data, AlignOptions(device="cpu"))
    shift, phase = scan.errors()
    assert shift < 0.2 and phase < 3


def test_signal_that_falls_with_b_within_and_between_b_values():
    n = 24
    size, widths = (1.0, 0.6, 0.3, 0.15), (0.0, 0.5, 1.0, 1.5)
    offset_hz, offset_deg = np.array([0.0, 2.0, -3.0, 4.0]), np.array([0.0, 20.0, -40.0, 60.0])
    scans = [
        Scan(s * copies(n, BRAIN * np.exp(-np.pi * w * TIME)), seed=k, sd=0.1, shift=h, phase=p)
        for k, (s, w, h, p) in enumerate(zip(size, widths, offset_hz, offset_deg))
    ]
    fids = np.stack([scan.fids for scan in scans], 1)
    data = svs(fids, ("DIM_DYN", "DIM_USER_0"))
    within = align.align_data(data, AlignOptions(device="cpu"))
    for k, scan in enumerate(scans):
        scan.aligned = within
        shift, phase = scan.errors(k)
        assert shift < 0.12 / size[k] and phase < 3 / size[k]
    assert (within.alignment.flag == "ok").mean() > 0.95
    between = align.align_data(data, AlignOptions(device="cpu", edit_dim="DIM_USER_0"))
    rest = [np.mean(between.alignment.shift_hz[k] - scan.shift) for k, scan in enumerate(scans)]
    turn = [np.mean(np.exp(1j * np.deg2rad(between.alignment.phase_deg[k] - s.phase))) for k, s in enumerate(scans)]
    assert np.ptp(rest) < 0.4 and np.ptp(np.angle(np.array(turn) / turn[0], deg=True)) < 8
    together = align.align_data(data, AlignOptions(device="cpu", dim="all"))
    assert (together.alignment.flag == "outlier").mean() < 0.05


def test_voxels_of_an_mrsi_have_nuisances_of_their_own():
    scans = [Scan(copies(24), seed=k) for k in range(4)]
    shape = np.exp(-0.5 * ((TIME - 0.2) / 0.02) ** 2 + 2j * np.pi * (3.72 - 4.65) * FREQ * TIME)
    scans[1].fids = scans[1].fids + 6 * random_phases(24) * shape
    scans[2].fids[4, 300] += 100
    scans[3].fids = 0 * scans[3].fids
    fids = np.stack([scan.fids for scan in scans]).reshape(2, 2, 1, 24, N).swapaxes(3, 4)
    data = nifti.MrsData(fids, DWELL, FREQ, "1H", ("DIM_DYN",))
    out = align.align_data(data, AlignOptions(method="classical", device="cpu"))
    assert set(out.left_out) == {1} and out.conditions is None
    assert out.alignment.reason[2, 4] == "spikes" and (out.alignment.flag[3] == "failed").all()
    for k, scan in enumerate(scans[:3]):
        scan.aligned = out
        shift, phase = scan.errors(k)
        assert shift < 0.15 and phase < 3
