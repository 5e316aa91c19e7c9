"""Absolute concentrations: water, FSL-MRS's numbers, errors and what is missing."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.cli.tables import text_table
from fsl_mrs_dl.concentrations.relaxation import Relaxation, read_times
from fsl_mrs_dl.concentrations.scaling import SOURCES, UNITS, WaterScaling, absolute_concentrations
from fsl_mrs_dl.concentrations.tissue import TissueFractions
from fsl_mrs_dl.concentrations.water import fit_water, line_area
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting.data import choose_basis, fit_data, water_fids
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.in_vivo.water_reference import water_reference
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import fit_scaled, quantify
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.signal_model import SignalModel
from fsl_mrs_dl.results import tables
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.reports.absolute import absolute_section
from fsl_mrs_dl.results.tables import uncertainty_table

AXES = Axes(1024, 1 / 2000, 123.2)
SCALING = WaterScaling(0.035, 2.0, tissue=TissueFractions.from_values(0.4, 0.5, 0.1))

# FSL-MRS 2.4.11, fsl_mrs --h2o --tissue_frac 0.4 0.5 0.1 on the scan of the test: mmol/kg and mM over the raw
# concentration, without fractions, and creatine, NAA and glutamate in mM.
FSL_MRS = {"molality": 101.988186, "molarity": 76.185175, "without": 97.341983}
FSL_MRS_MM = {"Cr+PCr": 11.231130, "NAA": 13.200941, "Glu": 17.898678}


def line(amplitude, gamma, sigma, hz=3.0, phase=0.4):
    t = AXES.time()
    return amplitude * np.exp(-t * (gamma + t * sigma) + 1j * (2 * np.pi * hz * t + phase))


def test_water_is_found_with_its_area_and_its_error(rng):
    truth = np.array([[5.0, 12.0, 90.0], [0.2, 25.0, 0.0], [3e4, 0.0, 300.0]])
    fids = np.stack([line(*row) for row in truth])
    noise = 2e-3 * truth[:, :1] * (rng.normal(size=(3, 1024)) + 1j * rng.normal(size=(3, 1024)))
    fit = fit_water(np.concatenate([fids + noise, np.zeros((1, 1024))]), AXES)
    np.testing.assert_allclose(fit.amplitude[:3], truth[:, 0], rtol=2e-3)
    upright = np.stack([line(*row, 0, 0) for row in truth])
    np.testing.assert_allclose(fit.area[:3], line_area(upright, AXES, (1.65, 7.65)), rtol=2e-3)
    np.testing.assert_allclose(fit.early_amplitude[:3], np.abs(fids[:, 0]), rtol=5e-3)
    assert np.isnan(fit.area[3]) and (fit.log_area_sd[:3] < 1e-3).all()


@pytest.mark.parametrize("zeros", [2, 4, 5, 70])
def test_water_that_begins_with_zeros_has_no_size(zeros):
    """It was up to a fifth too small, or not a number, and a line shape infinite."""
    axes = Axes(1024, 5e-4, 123.2, "1H")
    fids = 100 * np.exp((0.3j - 20) * axes.time())[None]
    fids[:, :zeros] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        water = fit_water(np.concatenate([fids, 100 * np.exp(-20 * axes.time())[None]]), axes)
        reference = water_reference(fids, axes)
    assert np.isnan(water.amplitude[0]) and water.amplitude[1] == pytest.approx(100, rel=1e-3)
    assert not reference.usable.any() and np.isfinite(reference.log_shape).all()


def test_a_first_point_of_zero_leaves_the_size_of_water():
    """It read 6 % low."""
    fids = np.stack([line(5.0, 12.0, 90.0), line(5.0, 25.0, 0.0)])
    whole = fit_water(fids, AXES)
    fids[:, 0] = 0
    without = fit_water(fids, AXES)
    np.testing.assert_allclose(without.area, whole.area, rtol=1e-4)
    np.testing.assert_allclose(without.amplitude, 5, rtol=1e-4)


def test_the_error_of_the_area_is_the_scatter_of_repeated_fits(rng):
    noise = 0.02 * (rng.normal(size=(200, 1024)) + 1j * rng.normal(size=(200, 1024)))
    fit = fit_water(line(1.0, 15, 60) + noise, AXES)
    assert np.std(np.log(fit.area)) == pytest.approx(np.median(fit.log_area_sd), rel=0.2)


@pytest.fixture(scope="module")
def scan(invivo_3t, invivo_water, invivo_basis_path):
    """The fit of a human brain with FSL-MRS's model, the water FIDs, and their headers' times."""
    data, water = nifti.load(invivo_3t), nifti.load(invivo_water)
    basis = choose_basis(Basis.load(invivo_basis_path), data)
    fitted = fit_data(data, basis, FitOptions(init="classical"))
    return fitted.fit, water_fids(water, fitted.data, fitted.conjugated), WaterScaling().with_headers(data, water)


def test_scaling_is_that_of_fsl_mrs(scan):
    fit, water, scaling = scan
    tissue = TissueFractions.from_values(0.4, 0.5, 0.1)
    absolute, _ = absolute_concentrations(fit, water, replace(scaling, tissue=tissue), sums=["Cr+PCr"])
    some = fit.conc[0] > 0
    for unit in UNITS:
        # The programs resample the basis set differently, by which concentrations and areas differ by 0.2 %.
        ratio = absolute.values[unit][0, : len(fit.names)][some] / fit.conc[0][some]
        np.testing.assert_allclose(ratio, FSL_MRS[unit], rtol=2e-3)
    for name, value in FSL_MRS_MM.items():
        assert absolute.molarity[0, absolute.names.index(name)] == pytest.approx(value, rel=1e-3)
    pure, _ = absolute_concentrations(fit, water, scaling)
    np.testing.assert_allclose(pure.molarity[0][some] / fit.conc[0][some], FSL_MRS["without"], rtol=2e-3)
    np.testing.assert_allclose(pure.molality, pure.molarity)
    assert any(
        "Tissue fractions were not given: mM are as in a voxel of water alone" in text for text in pure.assumptions
    )


def test_concentrations_of_a_voxel_of_water_alone_are_marked(scan):
    """Without tissue fractions mM had no mark in any table."""
    fit, water, scaling = scan
    results = FitResults(fit, None)
    sums = {"sums": results.sums}
    pure, _ = absolute_concentrations(fit, water, scaling, **sums)
    tissue = TissueFractions.from_values(0.4, 0.5, 0.1)
    given, _ = absolute_concentrations(fit, water, replace(scaling, tissue=tissue), **sums)
    for absolute, alone in ((pure, True), (given, False)):
        text = text_table(replace(results, absolute=absolute))
        assert ("mM (w)" in text.splitlines()[0]) == ("(w) as in a voxel of water alone" in text) == alone
        assert ("give them by --tissue_frac" in text) == alone
        table = uncertainty_table(replace(results, absolute=absolute))
        assert set(table["molarity_of"]) == {"water alone" if alone else "tissue"}
        assert ("mM, as in water alone" in absolute_section(absolute, 0)) == alone
    assert "molarity_of" not in uncertainty_table(results)


@pytest.mark.with_fsl_mrs
def test_real_fsl_mrs_gives_the_same(invivo_3t, invivo_water, invivo_basis_path):
    """FSL-MRS scales our fit of its basis set, so that nothing but the scaling differs."""
    from fsl_mrs.utils import fitting, mrs_io
    from fsl_mrs.utils import quantify as fsl_quantify

    mrs = mrs_io.read_FID(str(invivo_3t)).mrs(
        basis=mrs_io.read_basis(str(invivo_basis_path)), ref_data=mrs_io.read_FID(str(invivo_water))
    )
    mrs.check_FID(repair=True)
    mrs.check_Basis(repair=True)
    mrs.rescaleForFitting()
    theirs = fitting.fit_FSLModel(mrs, method="dlquant", dl_init="classical", baseline="poly, 2")
    info = fsl_quantify.QuantificationInfo(0.03, 2.0, mrs.names, mrs.centralFrequency / 1e6)
    axes = Axes(mrs.numPoints, mrs.dwellTime, mrs.centralFrequency / 1e6)
    model = SignalModel(mrs.basis.T, axes, model="voigt", ppmlim=(0.2, 4.2), baseline="poly, 2")
    # Water is on the scale of the fit.
    fit, water = fit_scaled(mrs.FID[None], model, list(mrs.names), FitOptions(init="classical")), mrs.H2O[None]
    for fractions in (None, {"WM": 0.4, "GM": 0.5, "CSF": 0.1}):
        tissue = None
        if fractions:
            info.set_fractions(fractions)
            tissue = TissueFractions.from_values(*fractions.values())
        theirs.calculateConcScaling(mrs, quant_info=info)
        absolute, _ = absolute_concentrations(fit, water, WaterScaling(0.03, 2.0, tissue=tissue))
        for unit in UNITS:
            expected = theirs.getConc(scaling=unit)
            for name, value in zip(absolute.names, absolute.values[unit][0]):
                assert value == pytest.approx(expected[theirs.metabs.index(name)], rel=1e-3, abs=1e-6)
    ours, reference = tables.quantification_info(FitResults(fit, None, absolute=absolute)), info.summary_table
    pd.testing.assert_frame_equal(ours, reference)


def spectra_of(sim_basis, factor, gamma, n=1, noise=0.0, seed=0):
    """Return FIDs of typical concentrations and water, both with the same damping; and the ratio of mM to them."""
    rng, t = np.random.default_rng(seed), AXES.time()
    conc = np.linspace(1, 10, sim_basis.n_metabs)
    fids = np.tile((conc @ sim_basis.fids) * factor * np.exp(-gamma * t), (n, 1))
    area = line_area((sim_basis.fids[sim_basis.names.index("Cr")] * np.exp(-20 * t))[None], AXES, (2, 5), level=True)[0]
    unit = line_area(np.exp(-20 * t)[None] + 0j, AXES, (1.65, 7.65), level=True)[0]
    water = (line(1.0, gamma + 4, 0, 1.0, 0.1))[None] / np.exp(-(gamma + 4) * t[0])
    fids = fids + noise * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    # Concentration x area per concentration / 5 protons against water of amplitude 1 with 2 protons.
    return fids, water, conc * factor * np.exp(-gamma * t[0]) * area / unit * 2 / 5


def test_amplitudes_do_not_depend_on_the_damping(sim_basis):
    read = []
    for gamma in (5.0, 20.0):
        fids, water, expected = spectra_of(sim_basis, 1e-4, gamma)
        fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
        scaling = replace(SCALING, tissue=None, t1=dict.fromkeys(("H2O_GM", "H2O_WM", "H2O_CSF", "METAB"), 1e-3))
        scaling = replace(scaling, t2=dict.fromkeys(("H2O_GM", "H2O_WM", "H2O_CSF", "METAB"), 1e6), area="alike")
        absolute, _ = absolute_concentrations(fit, water, scaling)
        read.append(absolute.molarity[0] / expected / 55.51e3)
    np.testing.assert_allclose(read[0], 1, rtol=0.02)
    np.testing.assert_allclose(read[1], read[0], rtol=0.01)


def test_an_estimate_that_is_not_the_minimum_is_scaled_by_the_area_of_the_amplitude_that_was_fitted(sim_basis):
    """The in-vivo model's estimates are means; their areas were those of the amplitudes of the minimum."""
    fids, water, _ = spectra_of(sim_basis, 1e-4, 8.0, noise=2e-3)
    fit = quantify_in_vivo(fids, sim_basis, AXES, FitOptions(spectral_model="in-vivo", mm="none"))
    scaling = replace(SCALING, area="as-fitted")
    before, _ = absolute_concentrations(fit, water, scaling)
    n = len(fit.names)
    for factor in (0.8, 1.25):
        moved, _ = absolute_concentrations(replace(fit, params=fit.params * factor), water, scaling)
        np.testing.assert_allclose(moved.molarity[:, :n] / before.molarity[:, :n], factor, rtol=1e-9)


def test_a_spectrum_that_cannot_be_fitted_has_no_concentrations_and_prints_nothing(sim_basis):
    """A warning of NumPy stood above the table."""
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0, n=2, noise=1e-5)
    fids = np.concatenate([fids[:1], np.full_like(fids[1:], np.nan)])
    fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        absolute, _ = absolute_concentrations(fit, water, replace(SCALING, area="as-fitted"))
    naa = absolute.names.index("NAA")
    assert np.isfinite(absolute.molarity[0, naa]) and np.isnan(absolute.molarity[1, naa])


def test_budget_and_intervals(sim_basis):
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0, n=2, noise=1e-5)
    fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
    absolute, reasons = absolute_concentrations(fit, water, SCALING, sums=["NAA+Glu"])
    assert not reasons and absolute.names[-1] == "NAA+Glu"
    for unit in UNITS:
        total = sum(absolute.budget[unit][source] ** 2 for source in SOURCES)
        np.testing.assert_allclose(np.sqrt(total), absolute.sd[unit])
        assert (absolute.low[unit] <= absolute.values[unit]).all()
        assert (absolute.high[unit] >= absolute.values[unit]).all()
    naa = absolute.names.index("NAA")
    spread = absolute.sd["molarity"][0, naa] / absolute.molarity[0, naa]
    assert 0.05 < spread < 0.2
    # Errors of relaxation grow with the echo time, those of fractions with their SD.
    longer, _ = absolute_concentrations(fit, water, replace(SCALING, echo_time_s=0.1))
    certain = replace(SCALING, tissue=replace(SCALING.tissue, sd=0.0))
    without, _ = absolute_concentrations(fit, water, certain)
    source = "metabolite relaxation"
    assert longer.share("molarity", source)[0, naa] > absolute.share("molarity", source)[0, naa]
    assert without.budget["molarity"]["tissue fractions"].max() == 0
    assert absolute.budget["molarity"]["tissue fractions"][0, naa] > 0


def test_water_of_other_times_is_corrected_for_its_own(sim_basis):
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0)
    fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
    absolute, _ = absolute_concentrations(fit, water, SCALING)
    other = replace(SCALING, water_echo_time_s=0.1, water_repetition_time_s=10.0)
    changed, _ = absolute_concentrations(fit, water, other)
    relaxation = Relaxation.at_field(2.89)
    expected = []
    for te, tr in ((0.1, 10.0), (0.035, 2.0)):
        parts = (("GM", 0.5 * 0.78), ("WM", 0.4 * 0.65), ("CSF", 0.1 * 0.97))
        t1, t2 = relaxation.t1, relaxation.t2
        signal = ((1 - np.exp(-tr / t1[f"H2O_{p}"])) * np.exp(-te / t2[f"H2O_{p}"]) * w for p, w in parts)
        expected.append(sum(signal))
    np.testing.assert_allclose(changed.molarity / absolute.molarity, expected[0] / expected[1], rtol=1e-9)
    assert any("TE 100 ms and TR 10 s" in text for text in changed.assumptions)


@pytest.mark.parametrize("key, times", [("EchoTime", (0.03, 0.08, 0.15)), ("RepetitionTime", (1.0, 2.0, 5.0))])
def test_spectra_of_different_times_are_corrected_each_for_its_own(sim_basis, key, times):
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0, n=3)
    fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
    header = {"EchoTime": 0.035, "RepetitionTime": 2.0, "dim_5": "DIM_USER_0", "dim_5_header": {key: list(times)}}
    grid = np.moveaxis(fids, 0, -1)[None, None, None]
    data = nifti.MrsData(grid, AXES.dwelltime, AXES.spec_freq_mhz, "1H", ("DIM_USER_0",), header)
    of_water = {"EchoTime": 0.035, "RepetitionTime": 2.0}
    reference = replace(data, fids=water.reshape(1, 1, 1, -1), dim_tags=(), header=of_water)
    scaling = WaterScaling().with_headers(data, reference)
    series, _ = absolute_concentrations(fit, water, scaling)
    option = {"EchoTime": "echo_time_s", "RepetitionTime": "repetition_time_s"}[key]
    water_times = {"water_echo_time_s": 0.035, "water_repetition_time_s": 2.0}
    for row, time in enumerate(times):
        plain = replace(WaterScaling(0.035, 2.0, **water_times), **{option: time})
        alone, _ = absolute_concentrations(fit, water, plain)
        for name in ("values", "sd", "low", "high"):
            np.testing.assert_allclose(getattr(series, name)["molarity"][row], getattr(alone, name)["molarity"][row])
    assert "each spectrum its own" in series.assumptions[0]
    words = {"EchoTime": "TE 30 to 150 ms, TR 2 s", "RepetitionTime": "TE 35 ms, TR 1 to 5 s"}[key]
    assert words in series.assumptions[0] and "TE 35 ms and TR 2 s" in series.assumptions[1]
    # Water that was acquired with each of them is corrected so, too, and a time that is given is that of all.
    both = WaterScaling().with_headers(data, data)
    assert both.each[option] == both.each[f"water_{option}"] == times
    assert not WaterScaling(0.03, 2.0, 0.03, 2.0).with_headers(data, data).each


@pytest.mark.parametrize("spectral_model", ["fsl-mrs", "in-vivo"])
def test_intervals_are_those_of_the_estimate(sim_basis, spectral_model):
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0, n=2, noise=3e-3)
    if spectral_model == "in-vivo":
        fit = quantify_in_vivo(fids, sim_basis, AXES, FitOptions(spectral_model="in-vivo", mm="none"))
    else:
        fit = quantify(fids, sim_basis, AXES, FitOptions(init="classical"))
    own, _ = absolute_concentrations(fit, water, SCALING, sums=["NAA+Glu"])
    population, _ = absolute_concentrations(fit, water, SCALING, sums=["NAA+Glu"], estimate="posterior_mean")
    gaba = own.names.index("GABA")
    for name in ("GABA", "NAA+Glu"):
        column = own.names.index(name)
        value, sd, low, high = (
            getattr(population, part)["molarity"][:, column] for part in ("values", "sd", "low", "high")
        )
        np.testing.assert_allclose((high - low) / (2 * 1.96 * sd), 1, atol=0.25)
        assert (low < value).all() and (high > value).all()
    # What is expected helps where the data say little, and the interval shows it.
    width, before = (one.high["molarity"][:, gaba] - one.low["molarity"][:, gaba] for one in (population, own))
    assert (width < 0.7 * before).all()


def test_what_is_missing_is_said_with_its_remedy(sim_basis):
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0)
    fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
    absolute, reasons = absolute_concentrations(fit, None, WaterScaling())
    assert absolute is None and len(reasons) == 2
    for reason, option in zip(reasons, ("`h2o`", "`TE` in ms and `TR` in s")):
        assert reason.startswith("No absolute concentrations: ") and option in reason
    other = sim_basis.select(["Glu", "Ins", "GPC"], None)
    without = quantify(fids, other, AXES, FitOptions(baseline="off", init="classical"))
    assert "`wref_metabolite`" in absolute_concentrations(without, water, SCALING)[1][0]
    named = replace(SCALING, reference=("GPC",), protons=9, limits=(3.1, 3.3))
    assert absolute_concentrations(without, water, named)[0].reference.names == ("GPC",)
    with pytest.raises(OptionError, match="ref_protons"):
        absolute_concentrations(without, water, replace(named, protons=None))
    assert "`t1_values`" in WaterScaling(0.03, 2.0).missing(["Cr"], Axes(1024, 5e-4, 200.0))[0]
    assert "31P" in WaterScaling(0.03, 2.0).missing(["ATP"], Axes(1024, 5e-4, 51.7, "31P"))[0]


def test_tables_of_times_and_fractions(tmp_path):
    times = {"H2O_GM": 1.4, "H2O_WM": 0.9, "H2O_CSF": 4.0, "METAB": 1.2}
    (tmp_path / "t1.json").write_text(json.dumps(times))
    own = Relaxation.at_field(3.0, t1=read_times(tmp_path / "t1.json", "T1"))
    assert own.t1 == times and own.t2["METAB"] == 0.194
    assert own.t1_sd["METAB"] == pytest.approx(0.15 / 1.29 * 1.2)
    assert Relaxation.at_field(5.0) is None and Relaxation.at_field(5.0, times, times).t2["METAB"] == 1.2
    (tmp_path / "segmentation.json").write_text(json.dumps({"CSF": 0.1, "GM": 0.5, "WM": 0.4}))
    assert TissueFractions.read(tmp_path / "segmentation.json").grey == 0.5
    for content in ("[]", "{", '{"CSF": 0.1}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(OptionError):
            TissueFractions.read(tmp_path / "bad.json")
        with pytest.raises(OptionError):
            Relaxation.at_field(3.0, t1=read_times(tmp_path / "bad.json", "T1"))
    with pytest.raises(OptionError, match="0 0 1.*CSF alone"):
        TissueFractions.from_values(0, 0, 1)  # all columns in mM were empty, and no line said so
    nearly = TissueFractions.from_values(0.4, 0.5, 0.05)
    assert nearly.grey == pytest.approx(0.5 / 0.95) and "normalised" in nearly.notes[0]


def test_written_information_can_be_read_again(sim_basis, tmp_path):
    fids, water, _ = spectra_of(sim_basis, 1e-4, 10.0)
    fit = quantify(fids, sim_basis, AXES, FitOptions(baseline="off", init="classical"))
    absolute, _ = absolute_concentrations(fit, water, SCALING)
    path = tmp_path / "quantification_info.csv"
    tables.quantification_info(FitResults(fit, None, absolute=absolute)).to_csv(path)
    tissue = TissueFractions.read(path)
    assert (tissue.white, tissue.grey, tissue.csf) == (0.4, 0.5, 0.1)
    assert read_times(path, "T2")["H2O_GM"] == pytest.approx(0.088)
    assert read_times(path, "T1")["METAB"] == pytest.approx(1.29)
