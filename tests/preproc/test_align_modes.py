"""What an alignment can do beyond bringing transients together: frequency referencing, sub-spectra, a moving
reference, rejection of outliers, networks alone."""

import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.networks import model_cards, self_supervised_registration
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.editing import match_subspectra
from fsl_mrs_dl.preproc.frequency_referencing import reference_offset
from fsl_mrs_dl.preproc.moving_reference import register_to_moving_window
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.preproc.similarity import similarity_index
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.results.reports import alignment, alignment_table
from fsl_mrs_dl.simulation import acquisition

pytestmark = pytest.mark.usefixtures("one_thread")

FREQ, DWELL, N = 123.2, 1 / 2000, 1024
AXES = Axes(N, DWELL, FREQ)
TIME = np.arange(N) * DWELL


def lines(places, nucleus_ppm=4.65, freq=FREQ, width=5.0, time=TIME):
    """Lines of (ppm, height), upright."""
    return sum(a * np.exp((2j * np.pi * (ppm - nucleus_ppm) * freq - np.pi * width) * time) for ppm, a in places)


BRAIN = ((2.008, 1.0), (3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3), (2.35, 0.3))
ON = ((3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3), (3.0, 0.07), (3.75, 0.1))


def noisy(fid, sd, seed=0):
    random = np.random.default_rng(seed)
    return fid + sd * (random.standard_normal(np.shape(fid)) + 1j * random.standard_normal(np.shape(fid)))


def drifting(clean, n, seed=0, sd=0.05, hz=6.0, deg=30.0):
    """Transients ``(n, n_points)`` with their shifts and phases."""
    random = np.random.default_rng(seed)
    shift = np.linspace(-hz / 2, hz / 2, n) + random.normal(0, 0.5, n)
    phase = np.linspace(-deg / 2, deg / 2, n) + random.normal(0, 3, n)
    return (
        noisy(apply_shift_phase(np.broadcast_to(clean, (n, clean.shape[-1])), -shift, -phase, DWELL), sd, seed + 1),
        shift,
        phase,
    )


def svs(fids, tags=("DIM_DYN",), freq=FREQ, nucleus="1H", header=None):
    """FIDs ``(n_points, ...)`` as single-voxel data."""
    named = {"SpectrometerFrequency": [freq], "ResonantNucleus": [nucleus]} | {
        f"dim_{k + 5}": tag for k, tag in enumerate(tags)
    }
    return nifti.MrsData(
        fids[None, None, None], DWELL, freq, nucleus, tags, named | (header or {}), np.diag([20.0, 20, 20, 1])
    )


# -- absolute places -----------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.floats(-35, 35), st.floats(-180, 180), st.floats(3, 10), st.integers(0, 99))
def test_absolute_shift_and_phase_are_found_within_their_errors(shift, phase, width, seed):
    clean = lines(BRAIN, width=width)
    found = reference_offset(noisy(apply_shift_phase(clean, -shift, -phase, DWELL), 0.03, seed), AXES)
    assert found.has_lines
    assert abs(found.shift_hz - shift) < 5 * found.shift_sd_hz + 0.1 and found.shift_sd_hz < 0.5
    turn = (found.phase_deg - phase + 180) % 360 - 180
    assert abs(turn) < 5 * found.phase_sd_deg + 3 and found.phase_sd_deg < 10


def test_absolute_places_do_not_need_all_lines():
    for places in (ON, ((3.21, 1.0), (3.027, 0.3))):  # NAA saturated; a tumour
        found = reference_offset(noisy(apply_shift_phase(lines(places), -7.0, -50.0, DWELL), 0.02), AXES)
        assert abs(found.shift_hz - 7) < 0.5 and abs(found.phase_deg - 50) < 8


def test_absolute_places_are_not_moved_by_what_lies_between():
    """NAAG beside NAA, glutamate under it: within what is said of the errors."""
    for te in (30.0, 68.0):
        basis = acquisition.simulate_basis(te_ms=te)
        made = acquisition.simulate_svs(
            basis, transients=1, snr=100, drift_hz=0, jitter_hz=0, drift_deg=0, jitter_deg=0
        )
        found = reference_offset(made.data.fids[0, 0, 0, :, 0], basis.axes)
        assert abs(found.shift_hz) < 0.15 and abs(found.phase_deg) < 3
        assert abs(found.phase_deg) < 2 * found.phase_sd_deg and abs(found.shift_hz) < 2 * found.shift_sd_hz


def test_in_noise_no_place_is_found():
    for seed in range(5):
        assert not reference_offset(noisy(np.zeros(N, complex), 1.0, seed), AXES).has_lines
    assert not reference_offset(np.zeros(N, complex), AXES).has_lines


@pytest.mark.parametrize("bandwidth", [1200, 1500, 2000])
def test_absolute_places_beyond_a_narrow_band_are_not_found(bandwidth):
    """The search ended with an error of NumPy where NAA lies beyond the spectrum."""
    time, axes = np.arange(N) / bandwidth, Axes(N, 1 / bandwidth, 400.2)
    places = [(ppm, height) for ppm, height in BRAIN if abs(axes.ppm_to_hz(ppm)) < bandwidth / 2]
    clean = lines(places, freq=400.2, time=time)
    assert not reference_offset(noisy(clean, 0.02), axes).has_lines


def test_absolute_places_of_other_nuclei():
    clean = lines(((0.0, 1.0), (-2.5, 0.5), (-7.5, 0.5), (5.0, 0.3)), 0.0, 51.7, 12.0)
    found = reference_offset(noisy(apply_shift_phase(clean, -4.0, 30.0, DWELL), 0.02), Axes(N, DWELL, 51.7, "31P"))
    assert abs(found.shift_hz - 4) < 0.5 and abs(found.phase_deg + 30) < 5
    with pytest.raises(OptionError, match="13C"):
        reference_offset(clean, Axes(N, DWELL, 32.1, "13C"))
    with pytest.raises(OptionError, match="absolute.*13C"):
        align.align_data(
            svs(drifting(clean, 4)[0].T, freq=32.1, nucleus="13C"), AlignOptions(absolute=True, device="cpu")
        )


def test_absolute_alignment_puts_the_mean_where_it_belongs():
    fids, shift, phase = drifting(apply_shift_phase(lines(BRAIN), -12.0, -70.0, DWELL), 24)
    out = align.align_data(svs(fids.T), AlignOptions(absolute=True, device="cpu"))
    np.testing.assert_allclose(out.alignment.shift_hz[0], shift + 12, atol=1.0)
    np.testing.assert_allclose(out.alignment.phase_deg[0], phase + 70, atol=12)
    again = reference_offset(out.data.fids[0, 0, 0].mean(-1), AXES)
    assert abs(again.shift_hz) < 0.05 and abs(again.phase_deg) < 0.5
    plain = align.align_data(svs(fids.T), AlignOptions(device="cpu"))
    assert (out.alignment.shift_sd_hz > plain.alignment.shift_sd_hz).all()
    # Coils that are not combined have a phase each: only the shift is absolute.
    gains = np.array([1.0, 0.5j, -0.8])
    coils = align.align_data(
        svs(np.einsum("c,tn->nct", gains, fids), ("DIM_COIL", "DIM_DYN")), AlignOptions(absolute=True, device="cpu")
    )
    np.testing.assert_allclose(coils.alignment.shift_hz[0], shift + 12, atol=1.0)
    np.testing.assert_allclose(coils.alignment.phase_deg[0], phase - phase.mean(), atol=4)


# -- sub-spectra ---------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.floats(-6, 6), st.floats(-90, 90))
@example(0.375, 0.0)
def test_subspectra_are_matched_though_editing_changes_lines(shift, phase):
    on, off = noisy(lines(ON), 0.01, 1), noisy(lines(BRAIN), 0.01, 2)
    moved = apply_shift_phase(on, -shift, -phase, DWELL)
    found = match_subspectra(np.stack([moved, off])[:, None], AXES)
    assert abs(found.shift_hz.sum()) < 1e-9 and abs(found.phase_deg.sum()) < 1e-9
    assert found.shift_sd_hz[0] == 0 and 0 < found.shift_sd_hz[1] < 0.1 and 0 < found.phase_sd_deg[1] < 2
    assert abs(found.shift_hz[0] - found.shift_hz[1] - shift) < min(5 * found.shift_sd_hz[1], 0.15)
    assert abs(found.phase_deg[0] - found.phase_deg[1] - phase) < min(5 * found.phase_sd_deg[1], 3)


@pytest.mark.parametrize("sd", [0.001, 0.01])
def test_small_offsets_of_subspectra_are_corrected_within_their_errors(sd):
    errors = []
    for seed in range(6):
        moved = apply_shift_phase(lines(ON), -0.25, 2.0, DWELL)
        found = match_subspectra(np.stack([noisy(moved, sd, seed), noisy(lines(BRAIN), sd, seed + 50)])[:, None], AXES)
        error = found.shift_hz[0] - found.shift_hz[1] - 0.25, found.phase_deg[0] - found.phase_deg[1] + 2.0
        errors.append([*error, error[0] / found.shift_sd_hz[1], error[1] / found.phase_sd_deg[1]])
    shift, phase, *scaled = np.sqrt(np.mean(np.square(errors), 0))
    assert shift < 0.01 + 4 * sd and phase < 0.3 + 100 * sd
    assert 0.3 < min(scaled) and max(scaled) < 2


def test_edited_data_acquired_in_blocks_subtract():
    fids, n = [], 32
    for k, places in enumerate((ON, BRAIN)):
        one, _, _ = drifting(lines(places), n, seed=k)
        fids.append(apply_shift_phase(one, np.full(n, -4.0 * k), np.full(n, -25.0 * k), DWELL))
    data = svs(np.stack(fids, -1).transpose(1, 0, 2), ("DIM_DYN", "DIM_EDIT"))
    together, apart = (align.align_data(data, AlignOptions(device="cpu", **more)) for more in ({}, {"edit_dim": None}))
    errors = []
    for out in (together, apart):
        mean = out.data.fids[0, 0, 0].mean(1)
        turn = align_transients(mean[None, :, 1], AXES, reference=lines(BRAIN), unstable=())
        mean = turn.apply(mean.T[:, None])[:, 0]
        errors.append(np.abs(mean[0] - mean[1] - (lines(ON) - lines(BRAIN))).std())
    assert errors[0] < 0.35 * errors[1]
    assert together.subspectra is not None and apart.subspectra is None
    assert "matched" in together.details("x", None)
    rows = [row.split(",") for row in alignment_table.alignment_table(together).splitlines()]
    column = rows[0].index("subspectra_shift_sd_hz")
    stated = {row[0]: float(row[column]) for row in rows[1:]}
    assert stated["0"] == 0 and stated["1"] == together.subspectra.shift_sd_hz[0, 1] > 0
    assert f"may still differ by {stated['1']:.2g} Hz" in alignment_table.summary_line(together)
    # Voxels are matched one by one.
    two = nifti.MrsData(
        np.concatenate([data.fids, data.fids[..., ::-1]], 0), DWELL, FREQ, "1H", data.dim_tags, affine=np.eye(4)
    )
    both = align.align_data(two, AlignOptions(device="cpu"))
    assert both.subspectra.shift_hz.shape == (2, 2)
    np.testing.assert_allclose(both.alignment.shift_hz[:2], together.alignment.shift_hz, atol=1e-6)


def test_noise_is_not_matched():
    found = match_subspectra(noisy(np.zeros((2, 1, N), complex), 1.0), AXES)
    assert not found.shift_hz.any() and not found.phase_deg.any() and np.isnan(found.shift_sd_hz[1])
    empty = np.stack([lines(BRAIN), np.zeros(N)])[:, None]
    assert not match_subspectra(empty, AXES).shift_hz.any()


# -- a reference that was measured -----------------------------------------------------------------------------------


def test_noise_in_a_reference_is_not_taken_for_signal():
    fids, shift, _ = drifting(lines(BRAIN), 96, sd=0.3)
    others = apply_shift_phase(fids[64:], shift[64:], np.zeros(32), DWELL)
    best = align_transients(fids[:64], AXES, reference=lines(BRAIN))
    for n in (32, 4):
        found = align_transients(fids[:64], AXES, reference=others[:n].mean(0))
        error = np.std(found.shift_hz - shift[:64])
        assert error < 1.3 * np.std(best.shift_hz - shift[:64])
        assert 0.7 < error / found.shift_sd_hz.mean() < 1.4
    # A reference without noise is taken as it is.
    exact = align_transients(fids[:64], AXES, reference=lines(BRAIN), exact_reference=True)
    np.testing.assert_array_equal(best.shift_hz, exact.shift_hz)


def test_nothing_is_found_in_noise():
    fids, _, _ = drifting(lines(BRAIN), 16, sd=0.3)
    out = align.align_data(svs(fids.T), AlignOptions(ppmlim=(9.0, 11.0), device="cpu"))
    assert (out.alignment.flag == "weak").mean() > 0.5
    assert "is there signal in the window" in alignment_table.summary_line(out)


# -- a moving reference --------------------------------------------------------------------------------------------


def test_mirrored_transients_are_aligned_as_those_that_are_not():
    transients, _, _ = drifting(lines(BRAIN), 24)
    data = svs(transients.T)
    mirrored = nifti.conjugated(data)
    one, other = align.align_data(data), align.align_data(mirrored)
    assert (one.backwards, other.backwards) == (False, True)
    np.testing.assert_allclose(other.alignment.shift_hz, one.alignment.shift_hz, atol=1e-6)
    np.testing.assert_allclose(other.data.fids, one.data.fids.conj(), atol=1e-6 * np.abs(one.data.fids).max())
    # A window that was asked for is taken, noise and water have no side.
    assert not align.align_data(mirrored, AlignOptions(ppmlim=(5.1, 9.1))).backwards
    assert not align.align_data(svs(noisy(0 * transients.T, 0.05))).backwards
    water, _, _ = drifting(lines(((4.65, 1000.0),)), 8)
    assert not align.align_data(svs(water.T)).backwards


def test_a_moving_reference_costs_little_and_follows_what_changes():
    n = 200
    steady, shift, phase = drifting(lines(BRAIN), n, sd=0.2)
    share = np.linspace(0, 1, n)[:, None]
    # From one end of the scan to the other every line has moved, the difference being in its shape half way.
    split = lines([(ppm + 0.05, a) for ppm, a in BRAIN])
    changing = (1 - share) * lines(BRAIN) + share * split
    changing = noisy(apply_shift_phase(changing, -shift, -phase, DWELL), 0.2, 5)

    def error(found):
        # The slow part of the truth is a matter of definition where lines change.
        left = found.shift_hz[0] - shift
        return (left - np.convolve(np.pad(left, 10, mode="edge"), np.ones(21) / 21, "valid")).std()

    ratio = {}
    for name, fids in (("steady", steady), ("changing", changing)):
        whole = align_transients(fids[None, None], AXES)
        moving = register_to_moving_window(fids[None, None], whole, 24, AXES, ppmlim=(0.2, 4.2))
        assert abs(moving.shift_hz.mean()) < 1e-6 and moving.n_iterations > whole.n_iterations
        ratio[name] = error(moving) / error(whole)
    assert ratio["steady"] < 1.15 and ratio["changing"] < 0.7
    # Too few transients for neighbours of their own: nothing changes.
    few = align_transients(steady[None, None, :20], AXES)
    assert register_to_moving_window(steady[None, None, :20], few, 16, AXES, ppmlim=(0.2, 4.2)) is few
    with pytest.raises(OptionError, match="moving_window 2"):
        register_to_moving_window(steady[None, None], few, 2, AXES, ppmlim=(0.2, 4.2))


# -- exclusion -----------------------------------------------------------------------------------------------------


def test_outliers_are_left_out_with_their_headers(tmp_path, capsys):
    fids, _, _ = drifting(lines(BRAIN), 16)
    fids[5] *= 4
    fids[9] = 0
    header = {
        "dim_5_header": {"RepetitionTime": [float(k) for k in range(16)], "EchoTime": {"start": 0.1, "increment": 0.01}}
    }
    data = svs(fids.T, header=header)
    out = align.align_data(data, AlignOptions(reject_outliers=True, device="cpu"))
    assert out.rejected == (5, 9) and out.data.fids.shape[-1] == 14 and out.alignment.shift_hz.shape == (1, 16)
    kept = out.data.header["dim_5_header"]
    assert kept["RepetitionTime"] == [float(k) for k in range(16) if k not in (5, 9)]
    np.testing.assert_allclose(kept["EchoTime"][-1], 0.25)
    whole = align.align_data(data, AlignOptions(device="cpu"))
    np.testing.assert_array_equal(out.data.fids, np.delete(whole.data.fids, (5, 9), -1))

    file = nifti.save(
        tmp_path / "raw.nii.gz", svs(fids.T, header={"dim_5_header": {"RepetitionTime": [float(k) for k in range(16)]}})
    )
    assert main(["align", "--file", str(file), "--output", str(tmp_path / "out"), "--reject-outliers", "-r"]) == 0
    assert "Left out: 6, 10" in capsys.readouterr().out
    read = nifti.load(tmp_path / "out" / "raw.nii.gz")
    assert read.fids.shape[-1] == 14 and len(read.header["dim_5_header"]["RepetitionTime"]) == 14
    assert "left out: 6 10" in read.header["ProcessingApplied"][-1]["Details"]
    # The object that came from a file, as fsl_mrs_proc gives it, gets the same.
    from nifti_mrs.nifti_mrs import NIFTI_MRS

    image, _ = align.align_image(NIFTI_MRS(str(file)), AlignOptions(reject_outliers=True, device="cpu"))
    np.testing.assert_allclose(np.asarray(image[:]), read.fids, atol=1e-4)


def test_exclusion_is_refused_where_it_cannot_be_done():
    fids, _, _ = drifting(lines(BRAIN), 8)
    voxels = nifti.MrsData(np.stack([fids.T] * 2)[:, None, None], DWELL, FREQ, "1H", ("DIM_DYN",), affine=np.eye(4))
    with pytest.raises(OptionError, match="reject_outliers.*weights"):
        align.align_data(voxels, AlignOptions(reject_outliers=True, device="cpu"))
    with pytest.raises(OptionError, match="reject_outliers"):
        align.align_data(voxels, AlignOptions(dim="voxels", reject_outliers=True, device="cpu"))


# -- voxels --------------------------------------------------------------------------------------------------------


def test_voxels_are_aligned_to_each_other_and_empty_ones_left_alone():
    fids, shift, phase = drifting(lines(BRAIN), 12, hz=20.0)
    fids[7] = 0
    grid = fids.reshape(3, 2, 2, N)
    data = nifti.MrsData(grid, DWELL, FREQ, "1H", affine=np.eye(4))
    for dim in ("all", "voxels"):
        out = align.align_data(data, AlignOptions(dim=dim, device="cpu"))
        ok = np.arange(12) != 7
        found = out.alignment.shift_hz[0]
        np.testing.assert_allclose(found[ok] - found[ok].mean(), shift[ok] - shift[ok].mean(), atol=1.0)
        assert out.alignment.flag[0, 7] == "failed" and not out.data.fids.reshape(12, N)[7].any()
        assert out.data.fids.shape == grid.shape and out.transient_axes == {"x": 3, "y": 2, "z": 2}
    with pytest.raises(DataError, match="holds one spectrum"):
        align.align_data(svs(fids[0], ()), AlignOptions(dim="all", device="cpu"))
    with pytest.raises(DataError, match="dim voxels"):
        align.align_data(data, AlignOptions(device="cpu"))
    with pytest.raises(DataError, match="DIM_FOO"):
        align.align_data(svs(fids.T), AlignOptions(edit_dim="DIM_FOO", device="cpu"))
    assert "11 of 12 voxels" in alignment_table.summary_line(out)


# -- networks ------------------------------------------------------------------------------------------------------


def test_a_networks_own_answer_is_kept_as_it_is():
    fids, shift, phase = drifting(lines(BRAIN), 20)
    fids[3] = np.nan
    out = align.align_data(svs(fids.T), AlignOptions(method="universal", refine=False, device="cpu"))
    assert not out.options.refine and np.isnan(out.alignment.shift_sd_hz).all() and out.alignment.flag[0, 3] == "failed"
    ok = np.arange(20) != 3
    from fsl_mrs_dl.preproc.proposals import UniversalProposal

    network, card = model_cards.load("align-universal")
    asked, turned = UniversalProposal(network, card, AXES)(torch.as_tensor(fids)[None, None])
    asked = asked[0].numpy()
    np.testing.assert_allclose(out.alignment.shift_hz[0, ok], asked[ok] - asked[ok].mean(), atol=1e-5)
    np.testing.assert_allclose(out.alignment.shift_hz[0, ok], (shift - shift[ok].mean())[ok], atol=4)
    assert "not refined" in out.details("x", None)
    better = align.align_data(svs(fids.T), AlignOptions(method="universal", device="cpu")).alignment
    error = [np.std(a.shift_hz[0, ok] - shift[ok]) for a in (out.alignment, better)]
    assert error[1] <= error[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "method magic.*dcrrf"),
        ({"method": "dsrf"}, "method dsrf.*train align --method dsrf"),
        ({"method": "dsrf", "model": "align-universal"}, "align-universal.*universal, not dsrf"),
        ({"method": "classical", "model": "align-universal"}, "classical"),
        ({"refine": False}, "refine"),
        ({"refine": False, "method": "classical"}, "refine"),
        ({"moving_window": 4}, "moving_window 4"),
        ({"moving_window": 8, "refine": False, "method": "universal"}, "moving_window"),
        ({"moving_window": 8, "dim": "voxels"}, "moving_window"),
        ({"moving_window": 0}, "moving_window 0"),
        ({"moving_window": 8}, "moving_window 8.*half of all 4"),
        ({"edit_dim": "DIM_DYN"}, "edit_dim DIM_DYN"),
    ],
)
def test_options_that_cannot_be_served_say_so(options, words):
    fids, _, _ = drifting(lines(BRAIN), 4)
    data = nifti.MrsData(np.stack([fids.T] * 2)[:, None, None], DWELL, FREQ, "1H", ("DIM_DYN",), affine=np.eye(4))
    with pytest.raises(OptionError, match=words):
        align.align_data(data, AlignOptions(device="cpu", **options))


def test_a_reference_excludes_what_would_contradict_it():
    fids, _, _ = drifting(lines(BRAIN), 16)
    reference = svs(lines(BRAIN), ())
    for options in ({"absolute": True}, {"moving_window": 8}):
        with pytest.raises(OptionError, match="reference"):
            align.align_data(svs(fids.T), AlignOptions(device="cpu", **options), reference=reference)


def test_published_classes_go_by_their_names():
    for cls, name in (
        (self_supervised_registration.DSR, "dsr"),
        (self_supervised_registration.DSRF, "dsrf"),
        (self_supervised_registration.DCrR, "dcrr"),
        (self_supervised_registration.DCrRF, "dcrrf"),
    ):
        network = cls(DWELL, FREQ)
        assert network.method == name and network.creatine == name.startswith("dcr")


def test_a_trained_published_network_aligns_alone_and_refined(tmp_path):
    network = self_supervised_registration.DCrR(DWELL, FREQ)
    content = {"name": "mine", "what": "", "training": {}, "ranges": {}, "accuracy": {}}
    model_cards.save(tmp_path / "mine", network, content)
    fids, shift, _ = drifting(lines(BRAIN), 12)
    alone = align.align_data(
        svs(fids.T), AlignOptions(method="dcrr", model=tmp_path / "mine", refine=False, device="cpu")
    )
    with torch.no_grad():
        answer = network.eval()(torch.as_tensor(fids))["shift_hz"].numpy()
    np.testing.assert_allclose(alone.alignment.shift_hz[0], answer, atol=1e-4)  # its places are absolute
    refined = align.align_data(svs(fids.T), AlignOptions(model=tmp_path / "mine", device="cpu"))
    np.testing.assert_allclose(refined.alignment.shift_hz[0], shift - shift.mean(), atol=1)
    assert json.loads((tmp_path / "mine" / "card.json").read_text())["architecture"]["settings"]["method"] == "dcrr"


# -- report and index ----------------------------------------------------------------------------------------------


def test_the_similarity_index_is_one_for_copies_and_falls_with_drift():
    clean = np.broadcast_to(lines(BRAIN), (8, N))
    assert similarity_index(clean, AXES) == pytest.approx(1)
    spread = apply_shift_phase(clean, np.linspace(-10, 10, 8), np.linspace(-60, 60, 8), DWELL)
    assert similarity_index(spread, AXES) < 0.6
    failed = np.concatenate([clean, np.full((1, N), np.nan)])
    assert similarity_index(failed, AXES) == pytest.approx(1)


def test_reports_show_the_difference_of_edited_data_and_survive_unknown_errors(tmp_path):
    basis = acquisition.simulate_basis(["NAA", "Cr", "GPC"], te_ms=30.0, n_points=N)
    fids = np.stack([acquisition.simulate_svs(basis, transients=8, seed=k).data.fids[0, 0, 0] for k in (0, 1)], -1)
    data = nifti.MrsData(
        fids[None, None, None], basis.dwelltime, basis.spec_freq_mhz, "1H", ("DIM_DYN", "DIM_EDIT"), affine=np.eye(4)
    )
    (tmp_path / "a").mkdir()
    out = align.align_data(data, AlignOptions(absolute=True, device="cpu"))
    (page,) = alignment.write_reports(tmp_path / "a", out)
    text = page.read_text()
    for words in ("Difference of the sub-spectra", "Similarity index", "Creatine, choline and NAA lay"):
        assert words in text
    out = align.align_data(data, AlignOptions(method="universal", refine=False, device="cpu"))
    (page,) = alignment.write_reports(tmp_path / "a", out)
    assert "not refined" in page.read_text() and "nan Hz" not in page.read_text()


@pytest.mark.parametrize(
    "shape, tags, remedy",
    [
        ((4,), ("DIM_COIL",), "one spectrum per coil has nothing to be aligned to"),
        ((4, 3), ("DIM_COIL", "DIM_EDIT"), "choose DIM_EDIT with dim"),
        ((), (), "one spectrum has nothing to be aligned to"),
    ],
)
def test_a_file_without_transients_is_refused_with_what_can_be_done(rng, shape, tags, remedy):
    fids = rng.normal(size=(1, 1, 1, 64, *shape)) + 1j * rng.normal(size=(1, 1, 1, 64, *shape))
    with pytest.raises(DataError, match="has no transients.*" + remedy):
        align.align_data(nifti.MrsData(fids, 5e-4, 123.2, "1H", tags))
