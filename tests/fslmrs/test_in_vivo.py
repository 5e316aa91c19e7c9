"""``dlquant`` with the in-vivo model inside FSL-MRS: objects, commands, reports; FSL-MRS's own model is the default."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.fslmrs import switch
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

pytestmark = [pytest.mark.with_fsl_mrs, pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def hook_is_on():
    on, why = switch.status()
    if not on:
        pytest.skip(f"FSL-MRS is left as it is here: the hook is {why}")


@pytest.fixture(scope="module")
def basis():
    """Seven metabolites at 3 T, PRESS, TE 35 ms."""
    from fsl_mrs_dl.simulation.acquisition import simulate_basis

    return simulate_basis(
        ["Cr", "GPC", "Gln", "Glu", "Ins", "NAA", "PCr"],
        te_ms=35.0,
        spec_freq_mhz=123.2,
        bandwidth_hz=2000.0,
        n_points=1024,
        fwhm_hz=1.0,
    )


@pytest.fixture(scope="module")
def made(basis):
    return simulate_in_vivo(basis, basis.axes, 8, snr=(60, 60), seed=3)


def mrs_of(basis, fid, *, pattern=None, ready=True):
    """An MRS object with water; ``pattern`` is an entry of macromolecules for its basis set."""
    from fsl_mrs.core import MRS
    from fsl_mrs.core.basis import Basis as FslBasis

    fids, names = basis.fids, list(basis.names)
    if pattern is not None:
        fids, names = np.concatenate([fids, pattern[None]]), [*names, "Mac"]
    header = {"centralFrequency": 123.2e6, "bandwidth": 2000.0, "dwelltime": 1 / 2000.0, "fwhm": 1.0}
    time = basis.axes.time()
    water = 4e4 * np.exp(-12 * time + 0.2j) * np.abs(basis.fids[:, 0]).max()
    own = FslBasis(fids.T.copy(), names, [dict(header) for _ in names])
    mrs = MRS(FID=fid, cf=123.2e6, bw=2000.0, nucleus="1H", basis=own, H2O=water)
    if ready:
        mrs.processForFitting()
    return mrs


@pytest.fixture(scope="module")
def mrs(basis, made):
    return mrs_of(basis, made.fids[0])


def fit(mrs, **options):
    from fsl_mrs.utils.fitting import fit_FSLModel

    return fit_FSLModel(mrs, method="dlquant", **{"dl_spectral_model": "in-vivo", **options})


@pytest.fixture(scope="module")
def result(mrs):
    """A result with water scaling and a sum."""
    from fsl_mrs.utils.quantify import QuantificationInfo

    res = fit(mrs, dl_echo_time_s=0.035, dl_repetition_time_s=2.0)
    info = QuantificationInfo(0.035, 2.0, mrs.names, 123.2)
    info.set_fractions({"WM": 0.5, "GM": 0.4, "CSF": 0.1})
    res.calculateConcScaling(mrs, quant_info=info, internal_reference=["Cr", "PCr"])
    res.combine([["Glu", "Gln"]])
    return res


@pytest.fixture(scope="module")
def own(mrs):
    """The same fit by the library itself, on FSL-MRS's scaled data and basis set."""
    from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
    from fsl_mrs_dl.fitting.options import FitOptions
    from fsl_mrs_dl.io.basis import Basis

    scaled = Basis(mrs.basis.T, tuple(mrs.names), mrs.dwellTime, 123.2)
    options = FitOptions(spectral_model="in-vivo", rescale=False, echo_time_s=0.035, repetition_time_s=2.0)
    return quantify_in_vivo(mrs.FID[None], scaled, scaled.axes, options, water=mrs.H2O[None])


def test_the_result_is_the_librarys(mrs, result, own):
    from fsl_mrs.utils.results import FitRes

    assert isinstance(result, FitRes) and result.method == "dlquant" and result.dl["spectral_model"] == "in-vivo"
    assert result.original_metabs == own.names and own.names[-1] == "MM" and "Lip13" in own.names
    np.testing.assert_allclose(result.getConc(metab=own.names), own.conc[0], rtol=1e-6)
    np.testing.assert_allclose(result.getUncertainties("raw", own.names), own.crlb_sd[0], rtol=1e-6)
    full, baseline = (own.spectra(what)[0] for what in ("full", "baseline"))
    np.testing.assert_allclose(units.fid_to_spec(result.pred), full, atol=1e-6 * np.abs(full).max())
    np.testing.assert_allclose(units.fid_to_spec(result.baseline), baseline, atol=1e-6 * np.abs(full).max())
    for name in ("NAA", "Lip13", "MM"):
        part = result.predictedFID(mrs, mode=name, noBaseline=True)
        np.testing.assert_allclose(units.fid_to_spec(part), own.spectra(name)[0], atol=1e-6 * np.abs(full).max())


def test_the_parts_of_the_model_add_up(mrs, result):
    total = sum(result.predictedFID(mrs, mode=name, noBaseline=True) for name in result.original_metabs)
    np.testing.assert_allclose(total + result.baseline, result.pred, atol=1e-9 * np.abs(result.pred).max())
    np.testing.assert_allclose(mrs.FID - result.residuals, result.pred, atol=1e-9 * np.abs(result.pred).max())
    np.testing.assert_allclose(
        result.predictedFID(mrs, mode="full", noBaseline=True),
        result.pred - result.baseline,
        atol=1e-9 * np.abs(result.pred).max(),
    )
    both = result.predictedFID(mrs, mode=["NAA", "MM"], noBaseline=True)
    np.testing.assert_allclose(both, sum(result.predictedFID(mrs, m, noBaseline=True) for m in ("NAA", "MM")))
    lines = [name for name in result._in_vivo.signals.names if name.startswith("MM")]
    assert len(lines) > 5
    total = sum(result.predictedFID(mrs, mode=name, noBaseline=True) for name in lines)
    np.testing.assert_allclose(total, result.predictedFID(mrs, mode="MM", noBaseline=True))
    first, last = mrs.ppmlim_to_range((1.8, 2.2))
    window = result.predictedSpec(mrs, mode="NAA", noBaseline=True, ppmlim=(1.8, 2.2))
    np.testing.assert_allclose(window, units.fid_to_spec(result.predictedFID(mrs, "NAA", noBaseline=True))[first:last])
    # The baseline's regressor and its coefficient of one.
    np.testing.assert_allclose(result.base_poly @ [1.0, 0.0], units.fid_to_spec(result.baseline))
    with pytest.raises(ValueError, match="Unknown mode"):
        result.predictedFID(mrs, mode="Fantasy")


def test_residual_is_noise(mrs, result, made):
    first, last = mrs.ppmlim_to_range(result.ppmlim)
    residual = units.fid_to_spec(result.residuals)[first:last].real
    # Differences of neighbours, as the ends of the spectrum hold the tail of water.
    noise = np.diff(units.fid_to_spec(mrs.FID)[:200].real) / np.sqrt(2)
    assert 0.8 < residual.std() / noise.std() < 1.2 and result.dl["misfit"] < 1.4


def test_water_corrects_eddy_currents_and_the_result_shows_the_data_as_they_are(basis, made):
    time = basis.axes.time()
    turn = np.exp(1.2j * np.exp(-time / 0.02))
    turned = mrs_of(basis, made.fids[0] * turn)
    turned.H2O = made.water[0] * turn
    result = fit(turned)
    assert "eddy currents were taken from it" in result.dl["water_reference"]
    first, last = turned.ppmlim_to_range(result.ppmlim)
    residual = units.fid_to_spec(turned.FID - result.predictedFID(turned))[first:last].real
    noise = np.diff(units.fid_to_spec(turned.FID)[:200].real) / np.sqrt(2)
    assert residual.std() < 1.5 * noise.std()
    total = sum(result.predictedFID(turned, mode=name, noBaseline=True) for name in result.original_metabs)
    np.testing.assert_allclose(total + result.baseline, result.pred, atol=1e-9 * np.abs(result.pred).max())
    # Corrected before, they are left alone.
    again = fit(turned, dl_eddy_currents_corrected=True)
    assert "and not again" in again.dl["water_reference"] and again._in_vivo.eddy_phase is None
    copied = copy.deepcopy(result)
    np.testing.assert_array_equal(copied.predictedFID(turned), result.predictedFID(turned))


def test_nearest_parameters_of_fsl_mrs(mrs, result, own):
    n = len(own.names)
    shift = result.getShiftParams(units="hz")
    assert shift.shape == (n,) and result.model == "free_shift" and result.g == 1
    x, s = own.x[0], own.fitted_model.slices
    np.testing.assert_allclose(-shift[0], x[s["shift"]][0] + x[s["own_shift"]][0], rtol=1e-6, atol=1e-6)
    combined, gamma, sigma = result.getLineShapeParams(units="raw")
    assert combined is None
    np.testing.assert_allclose([gamma[0], sigma[0]], [own.block("gamma")[0, 0], own.block("sigma")[0, 0]], rtol=1e-6)
    phases = result.getPhaseParams(phi0="radians", phi1="raw")
    np.testing.assert_allclose(phases, [own.block("phi0")[0, 0], own.block("phi1")[0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(result.getBaselineParams(), [1.0])
    # Widths and shifts have the SDs of the fit.
    sd = dict(zip(result.params_names, np.sqrt(np.diagonal(result.cov))))
    np.testing.assert_allclose(
        sd["gamma_0"] / (gamma[0] + own.fitted_model.least_gamma), own.x_sd[0, s["gamma"]][0], rtol=0.1
    )
    assert 0 < sd["eps_0"] < 50 and sd["B_real_0"] == 0
    assert np.linalg.eigvalsh(result.cov[:n, :n]).min() > 0


ACCESSORS = {
    **{f"concentrations, {s}": lambda r, m, s=s: r.getConc(scaling=s) for s in ("raw", "internal", "molality")},
    "concentrations as a table": lambda r, m: r.getConc(function=None),
    **{
        f"uncertainties, {t}": lambda r, m, t=t: r.getUncertainties(type=t)
        for t in ("raw", "percentage", "internal", "molality", "molarity")
    },
    "uncertainties of some": lambda r, m: r.getUncertainties(metab=["MM", "Cr+PCr", "Glu+Gln"]),
    "params": lambda r, m: r.params,
    "params_inc_combine": lambda r, m: r.params_inc_combine,
    "pred_spec": lambda r, m: r.pred_spec,
    "mse": lambda r, m: r.mse,
    "cov": lambda r, m: r.cov,
    "crlb": lambda r, m: r.crlb,
    "percent": lambda r, m: r.perc_SD,
    "corr": lambda r, m: r.corr[: r.numMetabs - 2, : r.numMetabs - 2],
    "qc": lambda r, m: pd.concat(r.getQCParams()),
    "qc of one": lambda r, m: r.getQCParams(metab="MM"),
    "SNR": lambda r, m: [r.SNR.spectrum, r.SNR.residual],
    "phases": lambda r, m: r.getPhaseParams(phi1="deg_per_ppm"),
    "shifts": lambda r, m: r.getShiftParams(function=None),
    "widths": lambda r, m: np.array(r.getLineShapeParams()),
    "baseline's parameters": lambda r, m: r.getBaselineParams(complex=False, normalise=False),
    "no phase": lambda r, m: r.predictedFID(m, mode="NAA", noBaseline=True, no_phase=True),
    "a sum": lambda r, m: r.predictedFID(m, mode="Cr+PCr"),
    "plain spectrum": lambda r, m: r.predictedSpec(m, mode="baseline"),
    "groups": lambda r, m: len(json.loads(r.metab_in_group_json())["0"]),
}


@pytest.mark.parametrize("name", ACCESSORS)
def test_every_accessor_answers(mrs, result, name):
    values = np.asarray(ACCESSORS[name](result, mrs))
    assert values.size and np.isfinite(values).all()


def test_words(result):
    text = str(result)
    assert "MM" in text and "b_norm" in text
    from fsl_mrs_dl.fslmrs.result import describe_fit

    said = describe_fit(result)
    assert (
        "in-vivo model" in said and "TE 35 ms" in said and "brain" in said and "maximum of the likelihood" not in said
    )
    json.dumps(result.dl)


def test_sds_of_ratios_include_the_covariance(mrs, result, own):
    from fsl_mrs_dl.fitting.uncertainty import ratio_sd

    under = own.members("Cr+PCr")
    for name in ("NAA", "MM", "Glu+Gln"):
        expected = ratio_sd(own.conc[0], own.cov[0], own.members(name), under)
        np.testing.assert_allclose(result.getUncertainties("internal", name), [expected], rtol=1e-6)
    np.testing.assert_allclose(result.getUncertainties("internal", ["Cr+PCr"]), [0.0], atol=1e-7)


def test_water_scaling_is_the_ratio_of_areas(mrs, result):
    """The scaled reference has the area that FSL-MRS integrates, whichever estimate its concentration is."""
    from fsl_mrs.utils import quantify

    molal, _, info = quantify.quantifyWater(mrs, result, result.concScalings["quant_info"])
    x, signals = result._in_vivo.x, result._in_vivo.signals
    amplitude = np.exp(signals.block(x, "log_amp"))[signals.components_of("Cr+PCr")].sum()
    np.testing.assert_allclose(result.concScalings["molality"] * amplitude, molal * result.getConc(metab="Cr+PCr"))
    assert info["metab_ref"].integral > 0


@pytest.mark.parametrize(
    "what", ["summary", "concentrations", "qc", "parameters", "concentrations-mh", "parameters-mh"]
)
def test_tables(result, what, tmp_path):
    result.to_file(tmp_path / "table.csv", what=what)
    table = pd.read_csv(tmp_path / "table.csv", header=[0, 1] if what == "concentrations" else 0)
    assert {"NAA", "MM", "Lip13"} <= set(table.iloc[:, 0])
    if what == "summary":
        more = pd.read_csv(tmp_path / "uncertainty.csv").set_index("Metab")
        assert {"prior_share", "between_models_share"} <= set(more.columns) and "Glu+Gln" in more.index
        np.testing.assert_allclose(more.loc["NAA", "conc"], result.getConc(metab="NAA"))


def test_report_shows_every_component(mrs, result, tmp_path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from fsl_mrs.utils import plotting, report

    report.fitting_summary_fig(mrs, result, filename=tmp_path / "fit.png")
    report.create_svs_report(mrs, result, tmp_path / "report.html", "data", "basis", "water", "today")
    plt.close("all")
    page = (tmp_path / "report.html").read_text()
    figures = page[page.index('name="basis"') :]
    assert figures.count('"name":"MM"') == 2 and figures.count('"name":"Lip13"') == 2
    assert "smooth baseline of estimated flexibility" in page and "in-vivo model" in page
    # FSL-MRS's plots take the object as it is, too, and the copy with all components.
    for one in (mrs, result.with_components(mrs)):
        plotting.plot_indiv(one, result)
        plotting.plotly_spectrum(one, result, metabs=["NAA"])
    assert list(mrs.names) == ["Cr", "GPC", "Gln", "Glu", "Ins", "NAA", "PCr"]


def test_pickles_and_copies(mrs, result, tmp_path):
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        np.testing.assert_array_equal(twin.params, result.params)
        np.testing.assert_array_equal(twin.predictedFID(mrs, "MM"), result.predictedFID(mrs, "MM"))
        assert twin.uncertainties().equals(result.uncertainties())
    plain = fit(mrs_of_no_water(mrs))
    assert len(pickle.dumps(plain)) < 200_000
    (tmp_path / "result").write_bytes(pickle.dumps(plain))
    code = (
        "import pickle, sys, warnings\nwarnings.simplefilter('ignore')\n"
        f"res = pickle.load(open({str(tmp_path / 'result')!r}, 'rb'))\n"
        "assert res.getUncertainties().all()\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"FSL_MRS_DL_HOOK": "off"}
    )
    assert done.returncode == 0, done.stderr


def mrs_of_no_water(mrs):
    other = copy.deepcopy(mrs)
    other.H2O = None
    return other


def test_macromolecules_of_ones_own(basis, made, mrs, tmp_path):
    """In the basis set, or in a file: the pattern takes the place of the table's lines."""
    from fsl_mrs_dl.physics.macromolecules import add_macromolecules

    whole = add_macromolecules(basis, "summed")
    pattern = whole.fids[-1]
    in_basis = mrs_of(basis, made.fids[0], pattern=pattern)
    res = fit(in_basis)
    assert "MM" in res.metabs and "Mac" not in res.metabs
    # The name that the basis set has is understood.
    np.testing.assert_array_equal(res.predictedFID(in_basis, "Mac"), res.predictedFID(in_basis, "MM"))
    by_file = fit(mrs, dl_mm="summed")
    np.testing.assert_allclose(by_file.getConc(metab="NAA"), res.getConc(metab="NAA"), rtol=0.02)
    assert by_file.dl["mm"] == "summed"
    none = fit(mrs, dl_mm="none")
    assert none.original_metabs == mrs.names
    assert none.mse > by_file.mse
    twice = fit(mrs, dl_mm="tumour")
    assert twice.dl["mm"] == "tumour" and "Lip13" in twice.metabs


def test_settings_of_the_object_are_kept(basis, made, mrs):
    full = fit(mrs)
    conjugated = mrs_of(basis, made.fids[0].conj(), ready=False)
    conjugated.conj_FID = True
    conjugated.rescaleForFitting()
    np.testing.assert_allclose(fit(conjugated).getConc(), full.getConc(), rtol=1e-6)
    fewer = mrs_of(basis, made.fids[0])
    fewer.ignore = ["GPC"]
    assert fit(fewer).original_metabs[:6] == ["Cr", "Gln", "Glu", "Ins", "NAA", "PCr"]
    unscaled = mrs_of(basis, made.fids[0], ready=False)
    ratio = fit(unscaled).getConc("internal", "NAA")
    np.testing.assert_allclose(ratio, full.getConc("internal", "NAA"), rtol=1e-2)


def test_posterior_mean(mrs, own):
    res = fit(mrs, dl_estimate="posterior_mean", dl_echo_time_s=0.035, dl_repetition_time_s=2.0)
    mean, cov = own.estimate("posterior_mean")
    np.testing.assert_allclose(res.getConc(metab=own.names), mean[0], rtol=1e-6)
    np.testing.assert_allclose(res.getUncertainties("raw", own.names), np.sqrt(np.diagonal(cov[0])), rtol=1e-6)


def test_initial_values_by_a_network(mrs, result):
    res = fit(mrs_of_no_water(mrs), dl_init="both", dl_echo_time_s=0.035, dl_repetition_time_s=2.0)
    assert res.dl["init"] == "both" and result.dl["init"] == "classical"
    np.testing.assert_allclose(res.getConc(metab="NAA"), result.getConc(metab="NAA"), rtol=0.05)


def test_the_default_is_fsl_mrss_model(mrs):
    from fsl_mrs.utils.fitting import fit_FSLModel

    plain, named = fit_FSLModel(mrs, method="dlquant"), fit(mrs, dl_spectral_model="fsl-mrs")
    assert plain.params_names == named.params_names and "MM" not in plain.metabs and plain.model == "voigt"
    np.testing.assert_array_equal(plain.params, named.params)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"baseline": "spline, stiff"}, "baseline: belongs to FSL-MRS's model"),
        ({"model": "lorentzian"}, "model: belongs to FSL-MRS's model"),
        ({"metab_groups": [0, 1, 0, 0, 0, 0, 0]}, "metab_groups: belongs"),
        ({"dl_model": "quant-universal"}, "network: belongs"),
        ({"dl_init": "nowhere"}, "init nowhere: there are no such initial values"),
        ({"dl_prior": "normal-brain"}, "prior normal-brain: the in-vivo model has priors of its own"),
        ({"dl_estimate": "ml"}, "estimate ml: the in-vivo model has no such estimate"),
        ({"dl_mm": "nowhere.nii.gz"}, "mm nowhere.nii.gz: no such file"),
        ({"dl_spectral_model": "fsl-mrs", "dl_mm": "brain"}, "mm brain: belongs to the in-vivo model"),
        ({"dl_spectral_model": "lcmodel"}, "spectral_model lcmodel: there is no such model"),
    ],
)
def test_options_that_do_not_go_together(mrs, options, expected):
    with pytest.raises(OptionError) as error:
        fit(mrs, **options)
    assert expected in str(error.value)


def test_spectra_that_cannot_be_fitted(basis, made):
    from fsl_mrs_dl import quantify

    with pytest.raises(DataError, match="nothing to fit"):
        fit(mrs_of(basis, np.zeros(1024, complex), ready=False))
    several = [mrs_of(basis, fid) for fid in (*made.fids[:3], made.fids[0] * np.nan)]
    results = quantify(several, spectral_model="in-vivo")
    assert np.isnan(results[3].getConc()).all() and np.isnan(results[3].pred).all()
    assert all(np.isfinite(res.getConc()).all() for res in results[:3])
    for ask in (results[3].uncertainties, results[3].restored_row):
        with pytest.raises(DataError, match="no estimates"):
            ask()


# -- commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(basis, made, tmp_path_factory):
    """A spectrum, a volume of them with one voxel of zeros, and the basis set, as files."""
    folder = tmp_path_factory.mktemp("in_vivo")
    header = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"], "EchoTime": 0.035, "RepetitionTime": 2.0}
    volume = made.fids[:8].reshape(2, 4, 1, -1).copy()
    volume[1, 3] = 0
    for name, fids in (("svs", made.fids[:1].reshape(1, 1, 1, -1)), ("mrsi", volume)):
        data = MrsData(fids.astype(np.complex64), 1 / 2000.0, 123.2, "1H", header=header, affine=np.eye(4))
        nifti.save(folder / f"{name}.nii.gz", data)
    basis.save(folder / "basis")
    return folder


def run(program, files, data, output, *words):
    """Run a command of this environment; returns the finished process."""
    path = Path(sys.executable).parent / program
    if not path.is_file():
        pytest.skip(f"the command {program} is not installed")
    env = {name: value for name, value in os.environ.items() if name != "FSL_MRS_DL_HOOK"} | {"OMP_NUM_THREADS": "1"}
    command = [
        path,
        "--algo",
        "dlquant",
        "--data",
        files / data,
        "--basis",
        files / "basis",
        "--output",
        output,
        *words,
    ]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)


def test_fsl_mrs_writes_the_fit_of_the_model(files, tmp_path):
    done = run(
        "fsl_mrs",
        files,
        "svs.nii.gz",
        tmp_path / "out",
        "--dl-spectral-model",
        "in-vivo",
        "--report",
        "--export_separate",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "in-vivo model" in done.stderr and "TE 35 ms" in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"fit_MM.nii.gz", "fit_Lip13.nii.gz", "uncertainty.csv", "report.html", "fit_summary.png"} <= names
    ours = tmp_path / "ours"
    from fsl_mrs_dl.cli.main import main

    words = [
        "--data",
        files / "svs.nii.gz",
        "--basis",
        files / "basis",
        "--output",
        ours,
        "--spectral-model",
        "in-vivo",
    ]
    assert main(["fit", *map(str, words)]) == 0
    theirs, mine = (pd.read_csv(folder / "summary.csv").set_index("Metab") for folder in (tmp_path / "out", ours))
    shared = theirs.index.intersection(mine.index)
    # `fit` adds the usual sums by itself.
    assert set(mine.index) - set(shared) <= {"Glu+Gln"}
    np.testing.assert_allclose(theirs.loc[shared, "/Cr+PCr"], mine.loc[shared, "/Cr+PCr"], rtol=1e-3)
    np.testing.assert_allclose(
        nifti.load(tmp_path / "out/fit.nii.gz").fids,
        nifti.load(ours / "fit.nii.gz").fids,
        atol=2e-3 * np.abs(nifti.load(ours / "fit.nii.gz").fids).max(),
    )


@pytest.mark.parametrize(
    "words, expected",
    [
        (("--dl-spectral-model", "in-vivo", "--free_shift"), "--free_shift: belongs to FSL-MRS's model"),
        (("--dl-spectral-model", "in-vivo", "--baseline", "off"), "--baseline: belongs to FSL-MRS's model"),
        (("--dl-spectral-model", "in-vivo", "--dl-model", "x"), "--dl-model: belongs to FSL-MRS's model"),
        (("--dl-spectral-model", "lcmodel"), "--dl-spectral-model lcmodel: there is no such model"),
        (("--dl-mm", "brain"), "--dl-mm brain: belongs to the in-vivo model; choose --dl-spectral-model in-vivo"),
    ],
)
def test_options_of_the_command(files, tmp_path, words, expected):
    done = run("fsl_mrs", files, "svs.nii.gz", tmp_path / "out", *words)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


_SUMMARISE = """
from pathlib import Path
import pandas as pd

def main():
    # As the script of FSL-MRS does for each folder.
    from fsl_mrs.utils import mrs_io, results
    from fsl_mrs.utils.baseline import Baseline
    res_store = {}
    for fp in map(Path, FOLDERS):
        param_df = pd.read_csv(fp / 'all_parameters.csv')
        mrs = mrs_io.read_FID((fp / 'data').resolve()).mrs(basis=mrs_io.read_basis((fp / 'basis').resolve()))
        mrs.check_Basis(repair=True)
        mrs.rescaleForFitting(ind_scaling=None)
        baseline, window = Baseline(mrs, (.2, 4.2), 'poly, 2', None), (.2, 4.2)
        res_store[fp.name] = mrs, results.FitRes(
            mrs, param_df['mean'].to_numpy(), 'voigt', 'Newton', [0] * mrs.numBasis, baseline, window, runqc=False)
        res_store[fp.name][1].combine([['Glu', 'Gln']])
    return res_store
"""


def test_summarise_shows_stored_fits(files, tmp_path):
    """It computes spectra again from parameters of FSL-MRS's model, and reads those of the in-vivo one."""
    import types

    from fsl_mrs.utils import results
    from fsl_mrs.utils.results import FitRes

    from fsl_mrs_dl.cli.main import main
    from fsl_mrs_dl.fslmrs import patches

    words = ["fit", "--data", files / "svs.nii.gz", "--basis", files / "basis", "--baseline", "poly, 2"]
    for name, more in (("plain", ("--spectral-model", "fsl-mrs")), ("in_vivo", ("--spectral-model", "in-vivo"))):
        some = words[:-2] if name == "in_vivo" else words
        assert main([str(word) for word in (*some, *more, "--output", tmp_path / name)]) == 0
    module = types.ModuleType("fsl_mrs_summarise")
    module.FOLDERS = [str(tmp_path / "plain"), str(tmp_path / "in_vivo")]
    exec(_SUMMARISE, vars(module))
    patches.patch_fsl_mrs_summarise(module)
    stored = module.main()
    assert results.FitRes is FitRes and isinstance(stored["plain"][1], FitRes)
    misfit = {}
    for name, (mrs, res) in stored.items():
        first, last = mrs.ppmlim_to_range(res.ppmlim)
        misfit[name] = np.linalg.norm(units.fid_to_spec(res.residuals)[first:last])
        np.testing.assert_allclose(res.residuals, mrs.FID - res.pred)
    # Macromolecules are in one of the models only.
    assert misfit["in_vivo"] < 0.7 * misfit["plain"]
    assert np.abs(stored["in_vivo"][1].baseline).max() > 0
    module.FOLDERS = [str(tmp_path / "in_vivo")]
    (tmp_path / "in_vivo" / "fit.nii.gz").unlink()
    with pytest.raises(SystemExit):
        module.main()
    with pytest.raises(patches.UnknownShape):
        patches.patch_fsl_mrs_summarise(types.ModuleType("other"))


def test_fsl_mrsi_writes_the_maps_of_the_model(files, tmp_path):
    import nibabel as nib

    from fsl_mrs_dl.results.model_file import Evaluator

    out = tmp_path / "out"
    done = run("fsl_mrsi", files, "mrsi.nii.gz", out, "--dl-spectral-model", "in-vivo", "--parallel", "off")
    assert done.returncode == 0, done.stderr[-2000:]

    def image(name):
        return np.asarray(nib.load(out / f"{name}.nii.gz").dataobj).reshape(2, 4)

    good = np.ones((2, 4), bool)
    good[1, 3] = False
    for name in ("concs/internal/NAA", "concs/raw/MM", "concs/in_vivo/NAA", "uncertainties/NAA_sd", "qc/NAA_snr"):
        assert (image(name)[good] > 0).all(), name
    for name in ("nuisance/sigma_group0", "nuisance/shift_group0", "uncertainties/NAA_prior_share"):
        assert image(name)[good].any(), name
    evaluator = Evaluator.open(out)
    fit, baseline = (nifti.load(out / "fit" / f"{name}.nii.gz").fids[:, :, 0].conj() for name in ("fit", "baseline"))
    for voxel in ((0, 0, 0), (1, 2, 0)):
        total = sum(evaluator.contribution(voxel, name) for name in evaluator.names)
        here = fit[voxel[:2]]
        np.testing.assert_allclose(total + baseline[voxel[:2]], here, atol=1e-4 * np.abs(here).max())
        assert (evaluator.band(voxel)[1] > 0).all()
    assert evaluator.contribution((1, 3, 0), "NAA") is None
    # The stored variances are those of the maps, but for the scale of FSL-MRS in each voxel.
    k, rows = len(evaluator.names), np.asarray(evaluator.arrays["rows"])
    variance = np.asarray(evaluator.arrays["cov"], float)[:, np.cumsum(np.arange(1, k + 1)) - 1]
    scale = {
        name: np.sqrt(variance[:, evaluator.names.index(name)])[good.ravel()[rows]]
        / image(f"uncertainties/{name}_in_vivo_sd")[good]
        for name in ("NAA", "Ins")
    }
    assert (scale["NAA"] > 0).all()
    np.testing.assert_allclose(scale["NAA"], scale["Ins"], rtol=1e-3)
