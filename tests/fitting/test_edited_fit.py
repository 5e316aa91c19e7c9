"""Joint fits of edited data against simulated truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, FslMrsDlError, OptionError
from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.fitting.edited_data import with_edited_sums
from fsl_mrs_dl.fitting.in_vivo.edited_result import quantify_edited
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.simulation.edited_basis import simulate_edited_basis
from fsl_mrs_dl.simulation.edited_spectra import EditedEffects, simulate_edited

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["Cr", "GABA", "GPC", "GSH", "Gln", "Glu", "Ins", "NAA", "NAAG", "PCr"]
AXES = Axes(1024, 1 / 2000, 123.25)
OPTIONS = FitOptions(spectral_model="in-vivo", echo_time_s=0.068, repetition_time_s=2.0)


@pytest.fixture(scope="module")
def mega():
    return simulate_edited_basis(NAMES, "mega-press", spec_freq_mhz=123.25, n_points=1024, edit_pulse="ideal")


@pytest.fixture(scope="module")
def hermes():
    return simulate_edited_basis(NAMES, "hermes", spec_freq_mhz=123.25, n_points=1024, edit_pulse="ideal")


def errors(edited, truth, name):
    """Errors of one metabolite over the SDs, ``(n,)``, and in percent of the true mean."""
    fit = edited.main
    column, scale = fit.names.index(name), fit.basis_scale[0] / fit.fid_scale
    error = fit.conc[:, column] * scale - truth
    sd = np.sqrt(fit.cov[:, column, column]) * scale
    return error / sd, 100 * error / truth.mean()


def test_weak_pulses_are_told_from_little_gaba(mega):
    effects = EditedEffects(efficiency=0.85, own_efficiency_sd=0.0)
    spectra = simulate_edited(mega, AXES, 8, seed=5, effects=effects)
    edited = quantify_edited(spectra.fids, mega, AXES, OPTIONS)
    assert edited.main.converged.all() and edited.order == (0, 1)
    assert np.abs(edited.efficiency[0] - 0.85).max() < 0.05
    truth = dict(zip(spectra.names, spectra.concentrations.T))
    for name in ("GABA", "Glu", "GSH"):
        z, percent = errors(edited, truth[name], name)
        assert np.sqrt((z**2).mean()) < 1.5
        assert abs(percent.mean()) < 10
    both = edited.main.cov[0, edited.main.names.index("GABA"), edited.main.names.index("MM3co")]
    assert both < 0  # one is told from the other by its shape only


def test_hermes_separates_gaba_and_gsh(hermes):
    spectra = simulate_edited(hermes, AXES, 3, seed=2)
    options = replace(OPTIONS, echo_time_s=0.08)
    shuffled = [2, 0, 3, 1]
    edited = quantify_edited(spectra.fids[:, shuffled], hermes, AXES, options)
    assert edited.order == tuple(shuffled.index(k) for k in range(4))
    assert edited.places == (1.9, 4.56) and edited.efficiency[0].shape == (3, 2)
    truth = dict(zip(spectra.names, spectra.concentrations.T))
    for name in ("GABA", "GSH"):
        z, _ = errors(edited, truth[name], name)
        assert np.abs(z).max() < 3
    assert set(edited.combinations) == {"GABA", "GSH"}


def test_offsets_of_conditions_are_taken_up(mega):
    spectra = simulate_edited(mega, AXES, 2, seed=3, snr=(150, 150), effects=EditedEffects(shift_hz=0, phase_deg=0))
    time = AXES.time()
    moved = spectra.fids.copy()
    moved[:, 0] *= np.exp(1j * (2 * np.pi * 1.0 * time + np.deg2rad(8)))
    plain, shifted = (quantify_edited(fids, mega, AXES, OPTIONS) for fids in (spectra.fids, moved))
    change = shifted.shift_hz[0] - plain.shift_hz[0]
    assert change[:, 0] - change[:, 1] == pytest.approx(1.0, abs=0.15)
    gaba = plain.main.names.index("GABA")
    values = [one.main.conc[:, gaba] / one.main.fid_scale for one in (plain, shifted)]
    assert values[1] == pytest.approx(values[0], rel=0.08)


def as_file(fids, order=(0, 1)):
    """Sub-spectra of the first set as NIfTI-MRS data."""
    stored = fids[0][list(order)].T[None, None, None]
    header = {"EchoTime": 0.068, "RepetitionTime": 2.0, "dim_5": "DIM_EDIT"}
    return nifti.MrsData(stored.astype(np.complex64), AXES.dwelltime, AXES.spec_freq_mhz, "1H", ("DIM_EDIT",), header)


def test_the_same_digits_from_a_file_and_from_arrays(mega):
    spectra = simulate_edited(mega, AXES, 1, seed=7)
    data = as_file(spectra.fids)
    fids = np.moveaxis(data.fids, 3, -1).reshape(1, 2, -1)
    arrays = quantify_edited(fids, mega, AXES, OPTIONS)
    fitted = fit_data(data, mega)
    assert fitted.data.dim_tags == () and "dim_5" not in fitted.data.header
    assert fitted.edited is not None and fitted.fit is fitted.edited.main
    assert np.array_equal(fitted.fit.conc, arrays.main.conc)
    sums = with_edited_sums(FitOptions(spectral_model="in-vivo"), fitted.edited).combine
    assert "GABA+MM3co" in sums and "Glu+Gln" in sums
    # Axes that run backwards, and conditions the other way round, make no difference.
    turned = as_file(spectra.fids.conj(), (1, 0))
    again = fit_data(turned, mega)
    assert again.conjugated and again.edited.order == (1, 0)
    assert again.fit.conc == pytest.approx(fitted.fit.conc, rel=1e-5)


def test_spectra_of_conditions_and_combinations_add_up(mega):
    spectra = simulate_edited(mega, AXES, 1, seed=8, snr=(300, 300))
    edited = quantify_edited(spectra.fids, mega, AXES, OPTIONS)
    parts = edited.spectra(0)
    difference = parts.combined(edited.combinations["difference"])
    assert np.allclose(difference.model, parts.model[0] - parts.model[1])
    residual = np.abs(difference.data - difference.model).std()
    assert residual < 0.1 * np.abs(difference.data).max()
    assert difference.components["NAA"].real.min() < -5 * difference.components["GABA"].real.max() / 2
    assert np.abs(difference.components["Cr"]).max() < 0.05 * np.abs(parts.components["Cr"]).max()


def test_difference_is_fitted_on_the_scale_of_the_sub_spectra(mega):
    """GABA of a noiseless difference without macromolecules, against the truth of the sub-spectra."""
    concentrations = np.array([5.0, 1.5, 1.0, 1.2, 2.0, 9.0, 6.0, 10.0, 1.0, 4.0])
    fids = np.einsum("m,kmt->kt", concentrations, np.stack([one.fids for one in mega.sets]))
    fids = fids * np.exp(-15 * AXES.time())
    noise = np.random.default_rng(0).standard_normal((2, 1024, 2)).view(complex)[..., 0]
    data = as_file((fids + 0.02 * noise)[None])
    options = FitOptions(edit_mode="difference", edit_conditions=("on", "off"), baseline="off")
    fitted = fit_data(data, mega, options)
    assert fitted.edited is None and fitted.data.dim_tags == ()
    assert "Cr" not in fitted.basis.names and "GABA" in fitted.basis.names
    found = fitted.fit.conc[0] * fitted.fit.basis_scale[0] / fitted.fit.fid_scale
    names = list(fitted.fit.names)
    for name in ("GABA", "Glu", "NAA"):
        assert found[names.index(name)] == pytest.approx(concentrations[NAMES.index(name)], rel=0.05)


def test_wrong_input_has_one_line(mega, hermes):
    spectra = simulate_edited(mega, AXES, 1, seed=9)
    data = as_file(spectra.fids)
    with pytest.raises(DataError, match="2 edit conditions in the data and 4 in the basis set"):
        fit_data(data, hermes)
    with pytest.raises(DataError, match="no dimension DIM_EDIT"):
        fit_data(nifti.element(data, "DIM_EDIT", 0), mega)
    with pytest.raises(OptionError, match="conditions on, off"):
        fit_data(data, mega, replace(OPTIONS, edit_conditions=("A", "B")))
    with pytest.raises(OptionError, match="combination"):
        fit_data(data, mega, FitOptions(edit_mode="GSH"))
    with pytest.raises(OptionError, match="FSL-MRS's model"):
        fit_data(data, mega, replace(OPTIONS, edit_mode="difference"))
    same = replace(data, fids=np.repeat(data.fids[..., :1], 2, axis=-1))
    with pytest.raises(FslMrsDlError, match="cannot be seen"):
        fit_data(same, mega, OPTIONS)
