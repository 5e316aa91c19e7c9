"""A fit beyond the band that a filter left is doubtful, and its advice keeps to the band."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.cli.tables import text_table
from fsl_mrs_dl.core.units import fid_to_spec, spec_to_fid
from fsl_mrs_dl.fitting.filtered_band import WHOLE, Band, band_of, outside_of
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import quantify
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.convert import load_any
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.layout import FILTERED
from fsl_mrs_dl.results.maps import map_values
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def spectra(sim_basis):
    """FIDs of four brains ``(4, n_points)``, as they were measured."""
    return simulate_in_vivo(sim_basis, sim_basis.axes, 4, seed=3).fids


def filtered(fids, axes, low=-9.0, high=3.9):
    """FIDs of which a filter left a band."""
    ppm = axes.ppm()
    keep = 1 / (1 + np.exp((low - ppm) / 0.02)) / (1 + np.exp((ppm - high) / 0.02))
    return spec_to_fid(fid_to_spec(fids) * keep)


def test_the_band_is_that_of_the_filter(spectra, sim_basis):
    axes = sim_basis.axes
    assert band_of(spectra, axes) == WHOLE and band_of(0 * spectra, axes) == WHOLE
    above = band_of(filtered(spectra, axes), axes)
    # There are macromolecules: nothing is missing below.
    assert np.isinf(above.low) and above.high == pytest.approx(3.85, abs=0.06)
    both = band_of(filtered(spectra, axes, low=1.75), axes)
    assert both.low == pytest.approx(1.8, abs=0.06) and both.high == above.high
    gone = spectra.copy()
    gone[1], gone[2, 5] = 0, np.nan
    assert band_of(filtered(gone[[0, 3]], axes), axes) == band_of(
        np.concatenate([filtered(gone[[0, 3]], axes), gone[[1, 2]]]), axes
    )


@pytest.mark.parametrize("snr", [60, 200])
def test_signals_that_were_suppressed_below_naa_are_not_part_of_the_band(sim_basis, snr):
    axes = sim_basis.axes
    names = ("NAA", "Cr", "PCh", "Glu", "Ins")
    lines = sum(sim_basis.fids[list(sim_basis.names).index(name)] for name in names if name in sim_basis.names)
    lines = lines * np.exp(-12 * axes.time())
    random = np.random.default_rng(0)
    noise = random.standard_normal((8, axes.n_points)) + 1j * random.standard_normal((8, axes.n_points))
    spec = fid_to_spec(lines)
    spec = spec * (axes.ppm() > 1.8) / np.abs(spec).max() + noise / snr
    band = band_of(filtered(spec_to_fid(spec), axes), axes)
    assert 1.5 <= band.low <= 1.9 and band.high == pytest.approx(3.85, abs=0.06)
    # Without a filter of the noise such spectra are those of a phantom, or of a long echo time.
    assert band_of(spec_to_fid(spec), axes) == WHOLE
    for sure in (1e3, 2e3, 1e4):
        assert band_of(spec_to_fid(spec - noise / snr + noise / sure), axes) == WHOLE


def test_windows_within_the_band_are_not_doubtful():
    band = Band(1.8, 3.85)
    assert band.lacks((0.2, 4.2)) and band.lacks((1.8, 4.2)) and band.lacks((0.2, 3.8)) and band.lacks(None)
    assert not band.lacks((1.8, 3.85)) and not band.lacks((3.9, 1.75)) and not WHOLE.lacks(None)
    assert band.within((0.2, 4.2)) == (1.8, 3.85) and band.within((2.0, 3.5)) == (2.0, 3.5)


def test_metabolites_whose_lines_lie_outside_are_named(sim_basis):
    axes = sim_basis.axes
    assert outside_of(Band(1.8, 3.85), sim_basis.names, sim_basis.fids, axes) == ["Lac"]
    assert outside_of(WHOLE, sim_basis.names, sim_basis.fids, axes) == []


@pytest.mark.parametrize("model", ["in-vivo", "fsl-mrs"])
def test_a_fit_beyond_the_band_is_doubtful_and_says_what_helps(spectra, sim_basis, model):
    fids, axes = filtered(spectra, sim_basis.axes, low=1.75), sim_basis.axes
    fit = quantify_in_vivo if model == "in-vivo" else quantify

    def results(fids, **more):
        options = FitOptions(spectral_model=model, device="cpu", internal_ref=("Cr",), **more)
        return FitResults.with_options(fit(fids, sim_basis, axes, options), None, options)

    beyond = results(fids)
    assert (beyond.verdict >= 1).all() and (map_values(beyond)["doubt"] == FILTERED).all()
    text = text_table(beyond)
    assert "--ppmlim 1.8 3.85" in text and ("--mm none" in text) == (model == "in-vivo")
    assert "filtered band (the fit takes" in beyond.verdict_words(0)
    for good in (results(fids, ppmlim=(1.8, 3.85), mm="none"), results(spectra)):
        assert good.filter_artefact is None and "--ppmlim" not in text_table(good)
        assert not (map_values(good)["doubt"] == FILTERED).any()


def test_every_voxel_of_a_filtered_volume_is_doubtful(spectra, sim_basis, tmp_path, capsys):
    fids = filtered(spectra, sim_basis.axes, low=1.75).astype(np.complex64)
    data = nifti.MrsData(
        fids.reshape(2, 2, 1, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=np.diag([9.0, 9, 9, 1])
    )
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    sim_basis.save(tmp_path / "basis", info="simulated")
    words = ["mrsi", "--data", str(tmp_path / "mrsi.nii.gz"), "--basis", str(tmp_path / "basis")]
    words += ["--spectral-model", "fsl-mrs", "--output"]
    assert not main([*words, str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert "--ppmlim 1.8 3.85" in text and "a window beyond the band that a filter left" in text
    assert (nib.load(tmp_path / "out/quality/doubt.nii.gz").get_fdata() == FILTERED).all()
    assert "good" not in set(pd.read_csv(tmp_path / "out/summary.csv")["verdict"])
    assert not main([*words, str(tmp_path / "narrow"), "--ppmlim", "1.8", "3.85"])
    assert not (nib.load(tmp_path / "narrow/quality/doubt.nii.gz").get_fdata() == FILTERED).any()


def test_the_csi_of_the_test_data_was_filtered_and_no_other_file(testdata):
    plain = (
        *("fitting_challenge_2016/all28.nii.gz", "siemens_press30/suspect_rda.nii.gz", "mega_press_3t/mega68.nii.gz"),
        *("lcmodel_test/spectrum.nii.gz", "invivo_like_3t/svs.nii.gz", "invivo_7t_steam_raw/metab_processed.nii.gz"),
        *("invivo_3t_press_philips/PRESS_raw-act.SDAT", "dwi_steam_7t/synthetic.nii.gz"),
        *("dwi_steam_7t/original.nii.gz", "dwi_steam_7t/invivo1_steam.nii.gz"),
    )
    for name in (*plain, "lcmodel_mrsi/mrsi.nii.gz"):
        data = load_any(testdata / name, None)
        fids = np.moveaxis(data.fids, 3, -1).reshape(-1, data.fids.shape[3])
        # As it is, and turned round where the file's frequency axis runs backwards.
        bands = [band_of(one, data.axes) for one in (fids, fids.conj())]
        if name in plain:
            assert bands[0] == WHOLE, name
        else:
            assert bands[1].low == pytest.approx(1.8, abs=0.06) and bands[1].high == pytest.approx(3.85, abs=0.06)
