"""The command ``dynamic``: FSL-MRS's files, and faults in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers.made_in_vivo_series import made_in_vivo_series
from helpers.made_series import B_VALUES, EXPONENTIAL, OPTIONS, RATES, made_series

from fsl_mrs_dl.cli import dynamic
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.dynamic import series as series_module
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.data import fit_dynamic_data
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.results.dynamic_figures import parameter_figure, residual_figure, spectra_figure


@pytest.fixture(scope="module")
def files(tmp_path_factory, sim_basis):
    """Folder with a series of single precision, its basis set, configuration and b values; the series beside it."""
    folder = tmp_path_factory.mktemp("series")
    series = made_series(sim_basis)
    axes = series.axes
    fids = np.moveaxis(series.fids, -1, 0)[None, None, None].astype(np.complex64)
    data = nifti.MrsData(fids, axes.dwelltime, axes.spec_freq_mhz, "1H", ("DIM_USER_0",))
    nifti.save(folder / "data.nii.gz", data)
    series.basis.save(folder / "basis")
    (folder / "config.py").write_text(EXPONENTIAL, encoding="utf-8")
    np.savetxt(folder / "bvals", B_VALUES)
    return folder, series


def words(folder, output, **changes):
    options = {
        "data": folder / "data.nii.gz",
        "basis": folder / "basis",
        "dyn_config": folder / "config.py",
        "time_variables": folder / "bvals",
        "baseline": "poly, 0",
        "output": output,
    }
    options |= changes
    return ["dynamic", *[str(word) for name, value in options.items() for word in (f"--{name}", value)]]


def test_series_is_fitted_and_written_under_the_names_of_fsl_mrs(files, tmp_path, capsys):
    folder, series = files
    assert main(words(folder, tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "c_adc" in printed and "log evidence" in printed
    free = pd.read_csv(tmp_path / "out/free_parameters.csv", index_col=0)
    rates = free.loc[[f"conc_{name}_c_adc" for name in series.basis.names]]
    assert np.all(np.abs(rates["mean"] - RATES) < 4 * rates["sd"])
    results = pd.read_csv(tmp_path / "out/dyn_results.csv", index_col="samples")
    assert list(results.columns) == list(free.index)
    np.testing.assert_allclose(results.iloc[0], free["mean"])
    cov = pd.read_csv(tmp_path / "out/dyn_cov.csv", index_col=0)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), free["sd"])
    mapped = pd.read_csv(tmp_path / "out/mapped_parameters.csv", index_col=0, header=[0, 1])
    decay = mapped.loc["conc_NAA"].xs("mean", level=1).to_numpy()
    naa = free["mean"]["conc_NAA_c_amp"] * np.exp(-free["mean"]["conc_NAA_c_adc"] * B_VALUES)
    np.testing.assert_allclose(decay, naa, rtol=1e-6)
    assert pd.read_csv(tmp_path / "out/init_results.csv", index_col=0).shape == (7, len(mapped))
    quality, information = (
        json.loads((tmp_path / f"out/{name}.json").read_text(encoding="utf-8"))
        for name in ("fit_quality", "model_information")
    )
    assert quality["converged"] and f"AIC {quality['AIC']:.1f}" in printed
    # FSL-MRS's own keys, and no second AIC.
    assert [key for key in information if "AIC" in key] == ["AIC"] and len(information) == 5
    tidy = pd.read_csv(tmp_path / "out/parameters_tidy.csv")
    assert list(tidy.columns) == ["parameter", "spectrum", "time", "mean", "sd"]
    of_naa = tidy[tidy.parameter == "conc_NAA"]
    np.testing.assert_allclose(of_naa["time"], B_VALUES)
    np.testing.assert_allclose(of_naa["mean"], decay, rtol=1e-6)
    data, model, residual = (
        nifti.load(path).fids
        for path in (folder / "data.nii.gz", tmp_path / "out/fit.nii.gz", tmp_path / "out/residual.nii.gz")
    )
    np.testing.assert_allclose(model + residual, data, atol=1e-4 * np.abs(data).max())
    assert np.linalg.norm(residual) < 0.5 * np.linalg.norm(data)
    for picture in ("dyn_parameters.png", "dyn_spectra.png", "dyn_residuals.png"):
        assert (tmp_path / "out" / picture).stat().st_size > 10_000
    assert main(words(folder, tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_variables": "missing"}, "--time_variables missing: cannot be read"),
        ({"dyn_config": "missing.py"}, "--dyn_config missing.py: no such file; give the path of a configuration"),
        ({"baseline": "wavy"}, "--baseline 'wavy': not understood"),
    ],
)
def test_faults_are_one_line(files, tmp_path, capsys, changes, message):
    assert main(words(files[0], tmp_path / "out", **changes)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_not_read_names_its_line_and_the_switch(files, tmp_path, capsys):
    (tmp_path / "config.py").write_text("import os\n" + EXPONENTIAL + "\nos.getcwd()\n", encoding="utf-8")
    assert main(words(files[0], tmp_path / "out", dyn_config=tmp_path / "config.py")) == 2
    error = capsys.readouterr().err
    assert "line 17: 'os" in error and "--execute-config" in error
    assert main([*words(files[0], tmp_path / "out", dyn_config=tmp_path / "config.py"), "--execute-config"]) == 0


def test_series_of_two_dimensions_asks_which_one_to_average(files, tmp_path, capsys):
    data = nifti.load(files[0] / "data.nii.gz")
    fids = np.repeat(data.fids[..., None, :], 2, axis=4)
    two = nifti.MrsData(fids, data.dwelltime, data.spec_freq_mhz, "1H", ("DIM_DYN", "DIM_USER_0"))
    nifti.save(tmp_path / "two.nii.gz", two)
    assert main(words(files[0], tmp_path / "out", data=tmp_path / "two.nii.gz")) == 2
    error = capsys.readouterr().err
    assert "DIM_DYN (2), DIM_USER_0 (7); one is fitted" in error and "--average DIM_DYN." in error
    (tmp_path / "out").mkdir()
    for name in ("options.txt", "dyn_results.csv", "dyn_spectra.png"):
        (tmp_path / "out" / name).touch()
    more = ["--average", "DIM_DYN", "--overwrite", "--keep", "NAA", "Cr"]
    assert main([*words(files[0], tmp_path / "out", data=tmp_path / "two.nii.gz"), *more]) == 0


def test_derived_quantities_report_and_comparison(files, tmp_path, capsys):
    folder, _ = files
    (tmp_path / "linear.py").write_text(
        "Parameters = {'conc': {'dynamic': 'linear', 'params': ['c_amp', 'c_slope']}, 'Phi_0': 'variable'}\n"
        "Bounds = {'gamma': (0, None), 'sigma': (0, None)}\n",
        encoding="utf-8",
    )
    wanted = words(folder, tmp_path / "out")
    place = wanted.index("--dyn_config") + 2
    wanted.insert(place, str(tmp_path / "linear.py"))
    texts = ["last = conc_NAA[6] / conc_Cr[6]", "rate = conc_NAA_c_adc"]
    assert main([*wanted, "--derived", *texts, "--report"]) == 0
    printed = capsys.readouterr().out
    assert "--derived 'rate = conc_NAA_c_adc' is left out in linear: the name conc_NAA_c_adc is not known." in printed
    assert "Best by the evidence: config" in printed and "last" in printed
    table = pd.read_csv(tmp_path / "out/comparison.csv", index_col=0)
    assert list(table.index) == ["config", "linear"]
    assert table["AIC weight"].sum() == pytest.approx(1) and table["log evidence difference"].iloc[1] < -3
    one = tmp_path / "out/configurations/config"
    derived = pd.read_csv(one / "derived.csv", index_col=0).loc["last"]
    mapped = pd.read_csv(one / "mapped_parameters.csv", index_col=0, header=[0, 1])
    naa, cr = (mapped.loc[f"conc_{name}"].xs("mean", level=1).to_numpy()[6] for name in ("NAA", "Cr"))
    assert derived["value"] == pytest.approx(naa / cr) and 0 < derived["sd"] < 0.2 * derived["value"]
    page = (one / "report.html").read_text(encoding="utf-8")
    assert all(part in page for part in ("Comparison of configurations", "Derived quantities", "map of the residuals"))
    both = [pd.read_csv(tmp_path / f"out/configurations/{name}/derived.csv").name for name in ("config", "linear")]
    assert [("rate" in list(names)) for names in both] == [True, False]
    assert main([*wanted, "--overwrite", "--derived", "x = conc_Foo"]) == 2
    assert "--derived 'x = conc_Foo': the name conc_Foo is not known; parameters are" in capsys.readouterr().err


@pytest.fixture
def stopped(monkeypatch):
    """Joint fits that end before they are at a minimum."""
    whole = series_module.solve_joint
    monkeypatch.setattr(series_module, "solve_joint", lambda joint, start, *_: whole(joint, start, max_iter=1))


def test_a_fit_that_has_not_converged_has_no_p_and_no_good_verdict(files, tmp_path, capsys, stopped):
    """It had z and p of its parameters, "holds: yes" in the report, and a picture like any other."""
    more = ["--derived", "last = conc_NAA[6] / conc_Cr[6]", "--report"]
    assert main([*words(files[0], tmp_path / "out"), *more]) == 0
    printed = capsys.readouterr().out
    verdict = printed.splitlines()[-2]
    assert verdict.startswith("Verdict: not usable. The joint fit has not converged: it ended")
    assert all(option in verdict for option in ("--time_variables", "--ignore", "--dyn_config"))
    assert "last" in printed and "(z " not in printed and ", p " not in printed
    derived = pd.read_csv(tmp_path / "out/derived.csv", index_col=0)
    assert derived[["z", "p"]].isna().all(axis=None) and derived["value"].notna().all()
    quality = json.loads((tmp_path / "out/fit_quality.json").read_text(encoding="utf-8"))
    assert quality["verdict"] == "not usable"
    assert not quality["converged"] and not quality["model over the series holds"]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Verdict: not usable. The joint fit has not converged" in page
    assert "<td>model over the series holds</td><td>no</td>" in page.replace("\n", "").replace("th>", "td>")


def test_pictures_say_that_a_fit_has_not_converged(files, stopped):
    folder, made = files
    configuration = read_configuration(folder / "config.py")
    of_file = (nifti.load(folder / "data.nii.gz"), made.basis, configuration, [folder / "bvals"], OPTIONS)
    results = fit_dynamic_data(*of_file)
    for draw in (spectra_figure, residual_figure):
        assert draw(results)._suptitle.get_text() == "Not usable: the joint fit has not converged"
    legend = parameter_figure(results).legends[0]
    assert legend.get_title().get_text() == "Not usable: the joint fit has not converged"
    assert [text.get_text() for text in legend.get_texts()] == ["joint fit, not converged", "each spectrum alone, SD"]


def test_the_in_vivo_model_is_that_of_a_brain(sim_basis, tmp_path, capsys):
    few = sim_basis.select(["Cr", "GPC", "Glu", "Ins", "NAA"])
    series = made_in_vivo_series(few, sim_basis.axes, times=B_VALUES[::2])
    fids = np.moveaxis(series.fids, -1, 0)[None, None, None].astype(np.complex64)
    data = nifti.MrsData(fids, series.axes.dwelltime, series.axes.spec_freq_mhz, "1H", ("DIM_USER_0",))
    nifti.save(tmp_path / "data.nii.gz", data)
    few.save(tmp_path / "basis")
    (tmp_path / "config.py").write_text(EXPONENTIAL, encoding="utf-8")
    np.savetxt(tmp_path / "bvals", B_VALUES[::2])
    command = words(tmp_path, tmp_path / "out")
    del command[command.index("--baseline") : command.index("--baseline") + 2]
    assert main([*command, "--TE", "30", "--TR", "2"]) == 0
    assert "\nMM " in capsys.readouterr().out
    free = pd.read_csv(tmp_path / "out/free_parameters.csv", index_col=0)
    assert abs(free.loc["conc_NAA_c_adc", "mean"] - 0.08) < 4 * free.loc["conc_NAA_c_adc", "sd"]
    assert "conc_MM_c_adc" in free.index
    residual = nifti.load(tmp_path / "out/residual.nii.gz").fids
    assert np.abs(residual).std() < 0.2 * np.abs(fids).std()
    assert main([*command, "--spectral-model", "in-vivo", "--baseline", "poly, 1", "--overwrite"]) != 0
    assert "--baseline: belongs to FSL-MRS's model" in capsys.readouterr().err


def with_b_values(folder, target, **more):
    """Write the series with b values and directions in its header; return its path."""
    data = nifti.load(folder / "data.nii.gz")
    about = {"Bval": {"Value": [int(1000 * b) for b in B_VALUES], "Description": "b value"}, **more}
    header = {**data.header, "dim_5_header": about}
    nifti.save(target, nifti.MrsData(data.fids, data.dwelltime, data.spec_freq_mhz, "1H", data.dim_tags, header))
    return target


def test_b_values_of_the_header_are_used_and_eddy_currents_are_named(files, tmp_path, capsys):
    folder, series = files
    data = with_b_values(folder, tmp_path / "dwi.nii.gz")
    command = words(folder, tmp_path / "out", data=data)
    at = command.index("--time_variables")
    assert main(command[:at] + command[at + 2 :]) == 0
    printed = capsys.readouterr().out
    assert "Time variable: Bval of the header, divided by 1000: in ms/um2.\n" in printed
    assert "eddy currents" in printed and "(--h2o)" in printed
    free = pd.read_csv(tmp_path / "out/free_parameters.csv", index_col=0)
    rates = free.loc[[f"conc_{name}_c_adc" for name in series.basis.names]]
    assert np.all(np.abs(rates["mean"] - RATES) < 4 * rates["sd"])
    made = nifti.load(data)
    line = 1e3 * np.exp(-20 * made.axes.time())
    water = replace(made, fids=np.repeat(line[None, None, None, :, None], len(B_VALUES), 4).astype(np.complex64))
    nifti.save(tmp_path / "water.nii.gz", water)
    assert main([*command, "--overwrite", "--h2o", str(tmp_path / "water.nii.gz")]) == 0
    assert "Diffusion gradients make" not in capsys.readouterr().out
    without = words(folder, tmp_path / "none")
    assert main(without[:at] + without[at + 2 :]) == 2
    assert "--time_variables: " in (error := capsys.readouterr().err) and "the header has none" in error


def test_an_echo_time_beside_another_one_of_the_header_is_named(files, tmp_path, capsys):
    """It took its place without a line."""
    folder, _ = files
    data = nifti.load(folder / "data.nii.gz")
    nifti.save(tmp_path / "data.nii.gz", replace(data, header=data.header | {"EchoTime": 0.03, "RepetitionTime": 2.0}))
    command = words(folder, tmp_path / "out", data=tmp_path / "data.nii.gz")
    assert main([*command, "--TE", "68", "--TR", "2"]) == 0
    printed = capsys.readouterr().out
    line = (
        "its header has EchoTime 30 ms, and --TE is 68 ms, which is used: leave --TE out unless the header is wrong.\n"
    )
    assert line in printed and "--TR" not in printed


def test_directions_are_told_apart_in_tables_and_pictures(files, tmp_path):
    folder, _ = files
    names = ["x", "x", "y", "x", "y", "x", "y"]
    data = with_b_values(folder, tmp_path / "dwi.nii.gz", direction={"Value": names, "Description": "gradient"})
    np.savetxt(tmp_path / "bvals", [0, 1, 1, 2, 2, 7, 7])
    assert main(words(folder, tmp_path / "out", data=data, time_variables=tmp_path / "bvals")) == 0
    tidy = pd.read_csv(tmp_path / "out/parameters_tidy.csv")
    assert list(tidy[tidy.parameter == "conc_NAA"]["direction"]) == names
    assert {"Bval", "time"} <= set(tidy.columns)


@pytest.mark.parametrize("best, expected", [("a", True), ("b", False)])
def test_configurations_are_compared_on_the_same_data(best, expected):
    """Where water makes only one of the fits better, the other is made again."""

    def results(name, correct):
        criteria = {"log evidence": 1.0 if name == best else 0.0}
        return SimpleNamespace(
            name=name, eddy_currents_corrected=correct, fit=SimpleNamespace(information_criteria=lambda: criteria)
        )

    alike = dynamic._alike({name: results(name, name == "a") for name in "ab"}, results)
    assert [(name, one.name, one.eddy_currents_corrected) for name, one in alike.items()] == [
        (name, name, expected) for name in "ab"
    ]
