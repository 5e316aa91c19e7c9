"""Simulated data of the papers: measured on the spectra, against what the papers say."""

import numpy as np
import pytest
import torch

from benchmarks.papers import datasets
from fsl_mrs_dl.core import units
from fsl_mrs_dl.simulation import protocols, random_spectra

pytestmark = pytest.mark.usefixtures("one_thread")


def made(basis, recipe, n=64, seed=0, **options):
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    drawn = random_spectra.draw(recipe, n, basis.names, torch.Generator().manual_seed(seed))
    return drawn, random_spectra.render(drawn, protocol, **options)


@pytest.fixture(scope="module")
def rizzo():
    return datasets.rizzo_basis()


def area(fid, basis, low, high):
    """Height of the FID's lines between two limits, by the moduli of its spectrum."""
    ppm = units.ppm_axis(basis.n_points, basis.dwelltime, basis.spec_freq_mhz)
    return np.abs(units.fid_to_spec(fid))[(ppm > low) & (ppm < high)].max()


def test_the_groups_hold_every_metabolite_once():
    together = [name for group in datasets.RIZZO_GROUPS.values() for name in group]
    assert sorted(together) == sorted(datasets.RIZZO_MOST) and len(together) == 16


def test_total_creatine_decays_with_two_times(rizzo):
    fid = rizzo.fids[rizzo.names.index("tCr")]
    half = rizzo.n_points // 2
    late = fid.copy()
    late[:half] = 0
    # What is left of a line after so long, against that of another: exp(-t/T2) of 111 and 169 ms.
    left = [area(late, rizzo, *window) / area(fid, rizzo, *window) for window in ((3.8, 4.05), (2.95, 3.1))]
    time = half * rizzo.dwelltime
    assert left[1] / left[0] == pytest.approx(np.exp(-time / 0.169) / np.exp(-time / 0.111), rel=0.15)
    assert fid[0].real == pytest.approx(5, rel=0.02)  # protons, of half creatine and half phosphocreatine


def test_the_reference_is_two_protons_at_half_a_ppm(rizzo):
    line = rizzo.fids[rizzo.names.index(datasets.REFERENCE)]
    ppm = units.ppm_axis(rizzo.n_points, rizzo.dwelltime, rizzo.spec_freq_mhz)
    assert ppm[np.abs(units.fid_to_spec(line)).argmax()] == pytest.approx(0.5, abs=0.02) and line[0] == pytest.approx(2)
    assert datasets.REFERENCE not in datasets.rizzo_basis(False).names


def test_idealised_spectra_are_the_paper_s(rizzo):
    drawn, spectra = made(rizzo, datasets.rizzo_recipe(), 2000)
    conc = drawn["conc"].numpy()
    for k, (name, most) in enumerate(datasets.RIZZO_MOST.items()):
        assert (
            rizzo.names[k] == name
            and conc[:, k].min() < 0.02 * most
            and 0.98 * most < conc[:, k].max() <= most * (1 + 1e-6)
        )
    assert (conc[:, rizzo.names.index(datasets.REFERENCE)] == np.float32(64.5)).all()
    mm = conc[:, rizzo.names.index("mm")]
    assert mm.max() / mm.mean() == pytest.approx(1.33, abs=0.02) and mm.min() / mm.mean() == pytest.approx(
        0.67, abs=0.02
    )
    assert not drawn["shift_hz"].any() and not drawn["phi0"].any() and not drawn["lorentz_hz"].any()
    assert (
        2 <= drawn["gauss_hz"].min()
        and drawn["gauss_hz"].max() <= 5
        and 5 <= drawn["snr"].min()
        and drawn["snr"].max() <= 40
    )
    # The water's size over the noise at 4000 Hz, where a spectrum of the same noise has root two times as much in its
    # FID.
    at_4000 = spectra.noise_sd * np.sqrt(4000 * rizzo.dwelltime)
    torch.testing.assert_close(2 * 64.5 / at_4000, drawn["snr"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", datasets.DSS)
def test_data_sets_are_those_of_table_1(name):
    basis, recipe = datasets.dss_basis(name), datasets.dss_recipe(name)
    drawn, spectra = made(basis, recipe, 64)
    clean = made(basis, recipe, 64, noise=False)[1].fid
    lines = np.array([one.lower().startswith("mm") for one in basis.names])
    conc, shift, damping, phase = drawn["conc"].numpy(), *drawn["each"].numpy().transpose(2, 0, 1)
    assert (~lines).sum() == (20 if name == "DSS1" else 15) and lines.any() == (name in ("DSS1", "DSS6", "DSS7"))
    low = 0 if name == "DSS1" else 0.5
    assert low <= conc[:, ~lines].min() < low + 0.05 and 0.95 < conc[:, ~lines].max() <= 1
    assert 9 < np.abs(shift[:, ~lines]).max() <= 10 and np.ptp(shift[0, ~lines]) > 5
    assert damping[:, ~lines].min() >= (-10 if name == "DSS1" else -5) and damping.max() <= (
        10 if name == "DSS1" else 2.5
    )
    assert bool(phase.any()) == (name == "DSS4") and bool(drawn["phi0"].any()) == (
        name in ("DSS3", "DSS5", "DSS6", "DSS7")
    )
    if name in ("DSS6", "DSS7"):
        size = conc[:, lines]
        assert not shift[:, lines].any() and (np.ptp(size, 0) > 0).all() == (name == "DSS7")
        assert np.abs(size / datasets._LINE_MM - 1).max() <= (0.1001 if name == "DSS7" else 1e-6)
    decibels = 10 * torch.log10(clean.abs().square().sum(-1) / (spectra.fid - clean).abs().square().sum(-1)).numpy()
    if name in ("DSS5", "DSS6", "DSS7"):
        assert 4.5 < decibels.min() < 7 and 13 < decibels.max() < 15.5
    else:
        assert decibels == pytest.approx(10, abs=0.5) if name == "DSS1" else decibels.min() > 60


def test_the_scalogram_paper_s_data_have_no_noise():
    assert datasets.dss_recipe("DSS1", noise=False).content["snr"] >= 1e4


def test_smape_by_hand():
    truth, found = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 2.0], [2.0, 4.0]])
    assert datasets.smape(found, truth) == pytest.approx([25, 0])
