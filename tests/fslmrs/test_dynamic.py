"""Dynamic fits inside of FSL-MRS: its objects, its command and its files, against its own algorithm.

All of it was run with FSL-MRS 2.4.11, fits of objects also with 2.1.0, 2.1.20, 2.2.0, 2.3.2 and 2.4.1.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.made_series import B_VALUES, BY_METABOLITE, EXPONENTIAL, FITTED, INITIAL, made_series, write_volume
from helpers.running_fsl_mrs import fails, run, succeeds

from fsl_mrs_dl.fslmrs import switch
from fsl_mrs_dl.io import nifti

pytestmark = [pytest.mark.with_fsl_mrs, pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def hook_is_on():
    on, why = switch.status()
    if not on:
        pytest.skip(f"FSL-MRS is left as it is here: the hook is {why}")


@pytest.fixture(scope="module")
def series(sim_basis):
    return made_series(sim_basis)


def dynamic(series, tmp_path, text=EXPONENTIAL, **options):
    """FSL-MRS's object of a series."""
    from fsl_mrs.core import MRS
    from fsl_mrs.core.basis import Basis
    from fsl_mrs.dynamic import dynMRS

    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    header = {"centralFrequency": series.axes.spec_freq_mhz * 1e6, "bandwidth": series.axes.bandwidth}
    header |= {"dwelltime": series.axes.dwelltime, "fwhm": 1.0, "nucleus": "1H"}
    names = list(series.basis.names)
    basis = Basis(series.basis.fids.T, names, [header] * len(names))
    of_mrs = {"cf": series.axes.spec_freq_mhz, "bw": series.axes.bandwidth, "nucleus": "1H", "basis": basis}
    spectra = [MRS(FID=fid, **of_mrs) for fid in series.fids]
    return dynMRS(
        spectra, B_VALUES, str(tmp_path / "config.py"), **{"ppmlim": (0.2, 4.2), "baseline": "poly, 0"} | options
    )


def distance_in_sd(dyn, result):
    """Distance of a result from the minimum, by the gradient of FSL-MRS."""
    bounds = np.array(dyn.vm.Bounds.tolist(), dtype=float)
    lower, upper = np.nan_to_num(bounds[:, 0], nan=-np.inf), np.nan_to_num(bounds[:, 1], nan=np.inf)
    free = (result.x > lower) & (result.x < upper)
    pull = dyn.dyn_loss_grad(result.x)[free] * len(dyn.data[0]) * dyn.vm.ntimes / result.dl["residual_sd"] ** 2
    return float(np.sqrt(pull @ result.cov_free.to_numpy()[np.ix_(free, free)] @ pull))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (EXPONENTIAL, {}),
        (EXPONENTIAL + INITIAL, {"model": "free_shift", "baseline": "off"}),
        (BY_METABOLITE, {}),
        (EXPONENTIAL, {"baseline": "spline, stiff", "metab_groups": [0, 0, 1]}),
    ],
    ids=["exponential", "free shift", "by metabolite", "spline"],
)
def test_fit_ends_at_the_minimum_of_the_cost_of_fsl_mrs(series, tmp_path, text, options):
    dyn = dynamic(series, tmp_path, text, **options)
    result, end = dyn.fit(method="dlquant", output_opt_sol=True)
    assert end.success and end.fun == pytest.approx(dyn.dyn_loss(result.x))
    assert distance_in_sd(dyn, result) < 1e-3


@pytest.fixture(scope="module")
def fitted(series, tmp_path_factory):
    """An object of FSL-MRS, its own fit, ours, and the folder of the configuration."""
    folder = tmp_path_factory.mktemp("objects")
    dyn = dynamic(series, folder)
    return dyn, dyn.fit(), dyn.fit(method="DLQuant"), folder


def test_result_is_one_of_fsl_mrs(fitted, tmp_path):
    from fsl_mrs.dynamic import dyn_results, load_dyn_result

    dyn, theirs, ours, _ = fitted
    assert isinstance(ours, dyn_results.dynRes_newton) and not hasattr(theirs, "dl")
    assert dyn.dyn_loss(ours.x) <= dyn.dyn_loss(theirs.x) * (1 + 1e-9)
    for name in (
        "mean_free",
        "std_free",
        "cov_free",
        "corr_free",
        "dataframe_mapped",
        "std_mapped",
        "init_mapped_params",
    ):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert type(one) is type(other) and one.shape == other.shape, name
        assert one.index.equals(other.index) and np.isfinite(one.to_numpy(dtype=float)).all(), name
    assert ours.collected_results().keys() == theirs.collected_results().keys()
    assert len(ours.reslist) == len(B_VALUES) and ours.reslist[0].metabs == theirs.reslist[0].metabs
    ours.save(tmp_path / "saved", save_dyn_obj=True)
    loaded = load_dyn_result(tmp_path / "saved")
    np.testing.assert_allclose(loaded.x, ours.x)
    np.testing.assert_allclose(loaded.dataframe_mapped, ours.dataframe_mapped)


def test_errors_are_the_bound_and_those_of_fsl_mrs_are_not(fitted, series):
    from helpers.made_series import OPTIONS

    from fsl_mrs_dl.dynamic.configuration import read_configuration
    from fsl_mrs_dl.dynamic.series import fit_series

    _, theirs, ours, folder = fitted
    configuration = read_configuration(folder / "config.py")
    alone = fit_series(series.fids, series.basis, series.axes, configuration, B_VALUES, OPTIONS)
    np.testing.assert_allclose(ours.x, alone.x, atol=2e-3 * alone.sd.min(), rtol=1e-3)
    np.testing.assert_allclose(ours.std_free, alone.sd, rtol=1e-3)
    np.testing.assert_allclose(ours.std_mapped, alone.mapped_sd, rtol=1e-3)
    # Theirs have twice the variance where single precision suffices for its differences.
    rates = [name for name in ours.free_names if name.endswith("_adc")]
    np.testing.assert_allclose(theirs.std_free[rates] / ours.std_free[rates], np.sqrt(2), rtol=0.05)


def test_initial_values_of_fsl_mrs_serve_too(fitted):
    dyn, theirs, ours, _ = fitted
    for values in ({"x0": theirs.x}, {"init": {"x": theirs.init_mapped_parameters_array}}):
        again = dyn.fit(method="dlquant", **values)
        assert dyn.dyn_loss(again.x) == pytest.approx(dyn.dyn_loss(ours.x), rel=1e-8)
        assert again.init_mapped_params.shape == ours.init_mapped_params.shape


def test_spectra_that_cannot_be_fitted_are_named(series, tmp_path):
    from fsl_mrs_dl.core.errors import DataError

    dyn = dynamic(series, tmp_path)
    dyn.mrs_list[2].FID = 0 * dyn.mrs_list[2].FID
    with pytest.raises(DataError, match="spectrum 2 of the series is zero"):
        dyn.fit(method="dlquant")


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, sim_basis):
    """Folder with two series, their basis set, configuration and b values."""
    folder = tmp_path_factory.mktemp("files")
    for seed in (0, 1):
        series = made_series(sim_basis, seed=seed)
        fids = np.moveaxis(series.fids, -1, 0)[None, None, None].astype(np.complex64)
        data = nifti.MrsData(fids, series.axes.dwelltime, series.axes.spec_freq_mhz, "1H", ("DIM_USER_0",))
        nifti.save(folder / f"data{seed}.nii.gz", data)
    series.basis.save(folder / "basis")
    (folder / "config.py").write_text(EXPONENTIAL, encoding="utf-8")
    np.savetxt(folder / "bvals", B_VALUES)
    return folder


def words(folder, output, number=0):
    data, basis, config = folder / f"data{number}.nii.gz", folder / "basis", folder / "config.py"
    out = ["--data", data, "--basis", basis, "--dyn_config", config, "--time_variables", folder / "bvals"]
    return [*out, "--output", output, "--baseline", "poly, 0", "--overwrite"]


@pytest.fixture(scope="module")
def results(files):
    """Folders of results: theirs of the first series, ours of both."""
    succeeds("fsl_dynmrs", *words(files, files / "theirs0"), "--report", "--save-fit")
    succeeds("fsl_dynmrs", *words(files, files / "ours0"), "--report", "--save-fit", "--algo", "DLQuant")
    done = succeeds("fsl_dynmrs", *words(files, files / "ours1"), "--algo", "dlquant", "--full-save")
    assert "dlquant (FSL-MRS-DL" in done.stderr and "converged" in done.stderr
    return files / "theirs0", files / "ours0", files / "ours1"


def test_command_writes_the_files_of_fsl_mrs(results):
    theirs, ours, more = results
    assert {path.name for path in theirs.iterdir()} == {path.name for path in ours.iterdir()}
    for name in ("dyn_results", "dyn_cov", "free_parameters", "init_results", "mapped_parameters"):
        one, other = (pd.read_csv(folder / f"{name}.csv", index_col=0) for folder in (ours, theirs))
        assert one.shape == other.shape and list(one.columns) == list(other.columns), name
    one, other = (pd.read_csv(folder / "free_parameters.csv", index_col=0) for folder in (ours, theirs))
    assert np.all(np.abs(one["mean"] - other["mean"]) < one["sd"])
    information = [json.loads((folder / "model_information.json").read_text()) for folder in (ours, theirs)]
    assert information[0].keys() == information[1].keys()
    assert information[0]["dynamic log-likelihood"] <= information[1]["dynamic log-likelihood"] + 1e-6
    assert json.loads((ours / "options.txt").read_text().partition("\n")[0])["algo"] == "dlquant"
    fits = [nifti.load(folder / "fit.nii.gz").fids for folder in (ours, theirs)]
    assert np.linalg.norm(fits[0] - fits[1]) < 0.01 * np.linalg.norm(fits[1])
    assert (more / "dynmrs_obj").is_dir()


_STATISTICS = """
import sys
import numpy as np
from fsl_mrs.utils import fmrs_tools

def flameo_wrapper(copes, varcopes, **more):
    weight = 1 / varcopes
    mean, variance = (copes * weight).sum(0) / weight.sum(0), 1 / weight.sum(0)
    return 0 * mean, mean / np.sqrt(variance), mean, variance, None

# FSL's flameo is a program of its own.
fmrs_tools.flameo_wrapper = flameo_wrapper
from fsl_mrs.scripts import fmrs_stats
fmrs_stats.main()
"""


def test_group_statistics_take_the_results(results, tmp_path):
    import subprocess

    for name, folders in {"ours": results[1:], "mixed": (results[0], results[2])}.items():
        words = ["--data", *folders, "--output", tmp_path / name, "--combine", "Cr", "NAA", "--mean-contrasts", "c_adc"]
        command = [sys.executable, "-c", _STATISTICS, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    ours, mixed = (pd.read_csv(tmp_path / name / "group_stats.csv", index_col=0) for name in ("ours", "mixed"))
    assert list(ours.index) == list(mixed.index) and any("Cr+NAA" in name for name in ours.index)
    assert np.isfinite(ours.to_numpy()).all()
    assert np.all(np.abs(ours["COPE"] - mixed["COPE"]) < 2 * np.sqrt(mixed["VARCOPE"]))


def test_volume_is_fitted_by_all_processors_as_by_our_own_command(tmp_path, sim_basis):
    import nibabel

    from fsl_mrs_dl.cli.main import main

    folder = tmp_path / "with blank"
    folder.mkdir()
    write_volume(folder, sim_basis)
    words = {"data": "data.nii.gz", "basis": "basis", "dyn_config": "config.py", "time_variables": "bvals"}
    shared = [str(word) for name, file in words.items() for word in (f"--{name}", folder / file)]
    shared += ["--baseline", "poly, 0", "--output"]
    mask = str(folder / "usable.nii.gz")
    succeeds("fsl_dynmrs", *shared, tmp_path / "theirs", "--spatial-mask", mask, "--save-fit", "--algo", "dlquant")
    assert main(["dynamic", *shared, str(tmp_path / "ours"), "--mask", mask]) == 0
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    names = {f"{kind}/{path.name}" for kind in ("mean", "var") for path in (theirs / kind).iterdir()}
    assert names == {f"{kind}/{path.name}" for kind in ("mean", "var") for path in (ours / kind).iterdir()}
    assert {path.name for path in (theirs / "voxels").iterdir()} == {"0_0_0", "1_1_0"}
    places = tuple(np.array(FITTED).T)
    for name in names:
        one, other, variance = (
            np.asarray(nibabel.load(path).dataobj)[places]
            for path in (theirs / name, ours / name, ours / "var" / name.partition("/")[2])
        )
        tolerance = 0.02 * np.sqrt(variance) if name.startswith("mean") else 0.02 * variance
        assert np.all(np.abs(one - other) <= tolerance), name
    fits = [nifti.load(path / "fit.nii.gz").fids[places] for path in (theirs, ours)]
    assert np.linalg.norm(fits[0] - fits[1]) < 0.01 * np.linalg.norm(fits[1])


def test_unknown_method_makes_nothing(files, tmp_path):
    fails(run("fsl_dynmrs", *words(files, tmp_path / "out"), "--algo", "Nelder"), "--algo Nelder: is not known")
    assert not (tmp_path / "out").exists()


def test_help_names_the_method():
    done = succeeds("fsl_dynmrs", "--help")
    assert "--algo dlquant" in done.stdout and "FSL-MRS-DL" in done.stdout
