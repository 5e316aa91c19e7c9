"""Edit conditions in the dimension of transients are recognised, named, and taken apart when they are declared."""

import numpy as np
import pytest
from helpers.singlets import DWELL, FREQ, TIME, N, lines

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.conditions import ORDERS, labels_of_order
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.results.reports import alignment_table

pytestmark = pytest.mark.usefixtures("one_thread")


KEPT = lines(((3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3)))
EDITED = [KEPT + part for part in (lines(((2.008, 1.0),)), lines(((3.0, 0.1), (3.75, 0.1))))]
STEPS = [KEPT + lines((place,)) for place in ((2.008, 1.0), (2.35, 0.6), (2.6, 0.8), (2.95, 0.5))]


def transients(clean, rng, sd=0.2, hz=3.0, deg=20.0):
    """Transients ``(n, n_points)`` that drift and jitter."""
    n = len(clean)
    shift = np.linspace(-hz, hz, n) + rng.normal(0, 0.5, n)
    phase = np.linspace(-deg, deg, n) + rng.normal(0, 3, n)
    fids = apply_shift_phase(clean, -shift, -phase, DWELL)
    return fids + sd * (rng.standard_normal(fids.shape) + 1j * rng.standard_normal(fids.shape))


def svs(fids, **header):
    named = {"SpectrometerFrequency": [FREQ], "ResonantNucleus": ["1H"], "dim_5": "DIM_DYN"} | header
    return nifti.MrsData(fids.T[None, None, None], DWELL, FREQ, "1H", ("DIM_DYN",), named, np.diag([20.0, 20, 20, 1]))


def aligned(fids, **options):
    return align.align_data(svs(fids), AlignOptions(device="cpu", **options))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n, sd", [(16, 0.1), (64, 0.35)])
def test_conditions_are_found_and_named_with_the_option(order, n, sd):
    clean = np.array(STEPS if order == "four-step" else EDITED)[labels_of_order(order, n)]
    out = aligned(transients(clean, np.random.default_rng(0), sd))
    assert out.conditions is not None and out.conditions.order == order
    line = alignment_table.summary_line(out)
    assert f"--edit-order {order}" in line and str(out.conditions) in line
    assert "not declared" in out.details("align", None)


@pytest.mark.parametrize("order", ["halves", "alternating"])
def test_conditions_of_measured_data_in_one_dimension_are_found(testdata, order):
    edited = nifti.load(testdata / "mega_press_3t" / "mega68.nii.gz").fids[0, 0, 0]
    fids = (
        np.concatenate([edited[..., 0], edited[..., 1]], -1) if order == "halves" else edited.reshape(len(edited), -1)
    )
    data = nifti.MrsData(fids[None, None, None], 0.0005, 123.2, "1H", ("DIM_DYN",))
    out = align.align_data(data, AlignOptions(device="cpu"))
    assert out.conditions is not None and out.conditions.order == order


def test_measured_data_of_one_condition_raise_no_alarm(testdata):
    for name in ("mega_press_3t/mega68", "invivo_7t_steam_raw/metab_raw", "dwi_steam_7t/original"):
        data = nifti.load(testdata / f"{name}.nii.gz")
        out = align.align_data(data, AlignOptions(method="classical", device="cpu"))
        assert out.conditions is None


def courses(n, rng):
    """Transients of one condition that drift and move, ``(n, n_points)``."""
    one = EDITED[0]
    after = (np.arange(n) >= n // 2)[:, None]
    slowly = np.linspace(0, 1, n)[:, None]
    lipid, water = lines(((1.3, 1.0),), 25.0), lines(((4.7, 5.0),), 15.0)
    yield np.broadcast_to(one, (n, N))
    yield one * np.exp(-np.pi * 4 * slowly * TIME)  # the shim drifts
    yield np.where(after, 0.7 * np.exp(1j) * one * np.exp(-np.pi * 3 * TIME), one)  # the subject moves
    yield one + np.where(after, 1.0, 0.2) * lipid + np.where(after, 3.0, 0.5) * water
    yield one + slowly * 0.5 * lines(((2.35, 1.0),))  # a metabolite changes
    yield one + (np.arange(n) >= n // 3)[:, None] * 0.5 * lines(((2.35, 1.0),))
    yield one * (1 + 0.1 * (-1.0) ** np.arange(n)[:, None])  # amplitudes in turn
    yield 0 * one + np.zeros((n, 1))


def test_drift_and_motion_raise_no_alarm():
    rng = np.random.default_rng(1)
    for k, clean in enumerate(courses(32, rng)):
        assert aligned(transients(clean, rng), method="classical").conditions is None, k


@pytest.mark.parametrize("order", ["halves", "alternating", "ABBA", "four-step"])
def test_declared_conditions_become_a_dimension(order):
    n, rng = 32, np.random.default_rng(2)
    clean = np.array(STEPS if order == "four-step" else EDITED)
    labels = labels_of_order(order, n)
    fids = transients(clean[labels], rng)
    out = aligned(fids, edit_order=order)
    assert out.data.dim_tags == ("DIM_DYN", "DIM_EDIT") and out.data.header["dim_6"] == "DIM_EDIT"
    assert out.data.fids.shape == (1, 1, 1, N, n // len(clean), len(clean))
    assert out.conditions is None and out.subspectra is not None
    for k, one in enumerate(clean):
        mean = out.data.fids[0, 0, 0, :, :, k].mean(1)
        turn = np.vdot(one, mean) / abs(np.vdot(one, mean))
        assert np.linalg.norm(mean / turn - one) < 0.35 * np.linalg.norm(one)
    assert f"declared: {order}" in out.details("align", None)


def test_impossible_orders_are_refused():
    fids = transients(np.broadcast_to(EDITED[0], (9, N)), np.random.default_rng(3))
    with pytest.raises(OptionError, match="order"):
        aligned(fids, edit_order="thirds")
    with pytest.raises(DataError, match="9 elements"):
        aligned(fids, edit_order="alternating")


def test_the_command_writes_declared_conditions(tmp_path, capsys):
    fids = transients(np.array(EDITED)[labels_of_order("alternating", 16)], np.random.default_rng(4))
    varying = {"dim_5_header": {"RepetitionTime": [2.0] * 16, "EchoTime": {"start": 0.068, "increment": 0.0}}}
    nifti.save(tmp_path / "one.nii.gz", svs(fids, **varying))
    words = ["align", "--file", str(tmp_path / "one.nii.gz"), "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "plain")]) in (0, None)
    assert "--edit-order alternating" in capsys.readouterr().out
    assert main([*words, "--edit-order", "alternating", "--output", str(tmp_path / "declared")]) in (0, None)
    printed = capsys.readouterr().out
    assert "two conditions, in turn (AB)" in printed and "DIM_DYN (8) and DIM_EDIT (2)" in printed
    written = nifti.load(tmp_path / "declared" / "one.nii.gz")
    assert written.dim_tags == ("DIM_DYN", "DIM_EDIT") and written.fids.shape[-2:] == (8, 2)
    header = (tmp_path / "declared" / "dl_align.csv").read_text().splitlines()[0].split(",")
    assert header[:2] == ["DIM_EDIT", "DIM_DYN"]


def test_image_objects_have_the_declared_dimension():
    fids = transients(np.array(EDITED)[labels_of_order("halves", 16)], np.random.default_rng(5))
    image, out = align.align_image(nifti.image_of(svs(fids)), AlignOptions(edit_order="halves", device="cpu"))
    assert image.shape == (1, 1, 1, N, 8, 2) and image.dim_tags[:2] == ["DIM_DYN", "DIM_EDIT"]
    np.testing.assert_allclose(nifti.from_image(image).fids, out.data.fids, rtol=1e-5)
