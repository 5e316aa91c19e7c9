"""Eddy currents of a series, corrected by a water reference where that makes the fit better."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.made_series import B_VALUES, EXPONENTIAL, OPTIONS, RATES, made_series

from fsl_mrs_dl.dynamic import data as data_module
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.data import fit_dynamic_data
from fsl_mrs_dl.io import nifti


@pytest.fixture(scope="module")
def files(tmp_path_factory, sim_basis):
    """Series with eddy currents that grow with b, water with the same and with others, configuration and times."""
    folder = tmp_path_factory.mktemp("water")
    (folder / "config.py").write_text(EXPONENTIAL, encoding="utf-8")
    np.savetxt(folder / "bvals", B_VALUES)
    series = made_series(sim_basis, snr=200)
    time = series.axes.time()
    phase = 0.25 * B_VALUES[:, None] * (1 - np.exp(-time / 0.04))
    water = 100 * np.abs(series.fids).max() * np.exp(-20 * time) * np.ones((len(B_VALUES), 1))

    def data(fids, name):
        fids = np.moveaxis(fids, -1, 0)[None, None, None]
        path = folder / f"{name}.nii.gz"
        nifti.save(path, nifti.MrsData(fids, series.axes.dwelltime, series.axes.spec_freq_mhz, "1H", ("DIM_USER_0",)))
        return nifti.load(path)

    made = data(series.fids * np.exp(1j * phase), "series")
    good = data(water * np.exp(1j * phase), "water")
    bad = data(water * np.exp(-1j * phase), "other_water")
    return folder, series, made, good, bad


def rates_of(results):
    fit = results.fit
    return np.array([fit.x[fit.names.index(f"conc_{name}_c_adc")] for name in ("Cr", "GPC", "NAA")])


def test_eddy_currents_are_corrected_where_that_makes_the_fit_better(files):
    folder, series, data, water, other = files
    how = (series.basis, read_configuration(folder / "config.py"), [folder / "bvals"], OPTIONS)
    without, corrected = fit_dynamic_data(data, *how), fit_dynamic_data(data, *how, water=water)
    assert corrected.water_note.startswith("eddy currents are corrected")
    assert np.all(np.abs(rates_of(corrected) - RATES) < 0.5 * np.abs(rates_of(without) - RATES))
    clean = np.moveaxis(corrected.data.fids[0, 0, 0], -1, 0)
    assert np.abs(clean - series.fids).max() < 0.1 * np.abs(series.fids).max()
    unhelped = fit_dynamic_data(data, *how, water=other)
    assert unhelped.water_note.startswith("eddy currents are not corrected")
    np.testing.assert_array_equal(unhelped.fit.x, without.fit.x)
    np.testing.assert_array_equal(unhelped.data.fids, data.fids)


@pytest.mark.parametrize("gain", [3.0, -3.0])
def test_correction_can_be_asked_for(files, monkeypatch, gain):
    """Configurations that are compared need the same data."""
    folder, series, data, water, _ = files
    for correct, expected in ((None, gain > 0), (True, True), (False, False)):
        evidence = [0.0, gain]

        def fitted(rows, *_, evidence=evidence, **__):
            value = evidence.pop(0)
            return SimpleNamespace(information_criteria=lambda: {"log evidence": value})

        monkeypatch.setattr(data_module, "fit_series", fitted)
        how = (series.basis, read_configuration(folder / "config.py"), [folder / "bvals"], OPTIONS)
        results = fit_dynamic_data(data, *how, water=water, correct=correct)
        assert results.eddy_currents_corrected == expected == (not np.array_equal(results.data.fids, data.fids))
        assert f"{'rises' if gain > 0 else 'falls'} by 3.0" in results.water_note
