"""Inside FSL-MRS itself: the same minimum as its Newton, its own result objects, its own commands."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from fsl_mrs_dl import nifti, quantify, switch
from fsl_mrs_dl.errors import DataError, OptionError

pytestmark = [pytest.mark.with_fsl_mrs, pytest.mark.filterwarnings("ignore")]

EXAMPLE = Path(str(resources.files("fsl_mrs_dl").joinpath("data/example")))
SHARED = ("voigt", "lorentzian", "negativevoigt")
BASELINES = ("off", "poly, 0", "poly, 2", "spline, moderate")


def command(name, *words, check=True, **variables):
    """Run a command of FSL-MRS's, or ours, in this environment; the hook is started as for any user."""
    code = {"fsl_mrs_dl": "from fsl_mrs_dl.cli import main"}.get(name, f"from fsl_mrs.scripts.{name} import main")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = {name!r}\n{code}\nsys.exit(main())", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MPLBACKEND": "agg"} | variables,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


needs_hook = pytest.mark.skipif(not switch.starter_files(), reason="no starter file of the hook in this environment")


@pytest.fixture(scope="module")
def water(testdata, tmp_path_factory):
    """The water reference of the in vivo data, NIfTI-MRS."""
    import shutil

    program = shutil.which("spec2nii", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if program is None:
        pytest.skip("spec2nii is not installed; it converts the scanner's files")
    source, out = testdata / "invivo_3t_press_philips" / "PRESS_raw-ref", tmp_path_factory.mktemp("water")
    words = [program, "philips", f"{source}.SDAT", f"{source}.SPAR", "-f", "water", "-o", str(out)]
    subprocess.run(words, check=True, capture_output=True)
    return out / "water.nii.gz"


@pytest.fixture(scope="module")
def make_mrs(invivo_3t, invivo_basis_path, water):
    """Factory of MRS objects of the in vivo data, scaled as ``fsl_mrs`` does."""
    from fsl_mrs.utils import mrs_io

    data, basis, reference = (
        mrs_io.read_FID(str(invivo_3t)),
        mrs_io.read_basis(str(invivo_basis_path)),
        mrs_io.read_FID(str(water)),
    )

    def make(**scaling):
        mrs = data.mrs(basis=basis, ref_data=reference)
        mrs.check_FID(repair=True)
        mrs.check_Basis(repair=True)
        mrs.rescaleForFitting(**scaling)
        return mrs

    return make


@pytest.fixture(scope="module")
def mrs(make_mrs):
    return make_mrs()


@pytest.fixture(scope="module")
def both(mrs):
    """The default fit by Newton and by dlquant, water-scaled."""
    from fsl_mrs.utils import fitting, quantify

    out = []
    for method in ("Newton", "dlquant"):
        res = fitting.fit_FSLModel(mrs, method=method)
        info = quantify.QuantificationInfo(0.035, 2.0, mrs.names, mrs.centralFrequency / 1e6)
        info.set_fractions({"WM": 0.5, "GM": 0.4, "CSF": 0.1})
        res.calculateConcScaling(mrs, quant_info=info, internal_reference=["Cr", "PCr"])
        res.combine([["NAA", "NAAG"]])
        out.append(res)
    return out


# -- the minimum ---------------------------------------------------------------------------------------------------


@needs_hook
@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("model", SHARED)
def test_minimum_is_that_of_newton(mrs, model, baseline):
    from fsl_mrs.utils.fitting import fit_FSLModel
    from fsl_mrs.utils.results import FitRes

    newton = fit_FSLModel(mrs, method="Newton", model=model, baseline=baseline)
    ours = fit_FSLModel(mrs, method="dlquant", model=model, baseline=baseline)
    assert isinstance(ours, FitRes) and ours.method == "dlquant" and ours.dl["converged"]
    n = mrs.numBasis
    difference = np.abs(ours.params - newton.params)[:n] / np.sqrt(newton.crlb[:n])
    assert difference.max() < 0.25
    if "spline" not in baseline:  # whose cost has a penalty beside the residual
        assert ours.mse <= newton.mse * (1 + 1e-5)


@pytest.mark.parametrize("model, shared", [("free_shift", "voigt"), ("free_shift_lorentzian", "lorentzian")])
def test_free_shifts_fit_no_worse_than_shared_ones(mrs, model, shared):
    free, tied = quantify(mrs, model=model), quantify(mrs, model=shared)
    assert free.mse <= tied.mse * (1 + 1e-6)
    assert len(free.getShiftParams()) == mrs.numBasis


def test_options_mean_what_they_mean_to_fsl_mrs(make_mrs):
    from fsl_mrs.utils.fitting import fit_FSLModel

    def compare(mrs, **options):
        newton, ours = fit_FSLModel(mrs, method="Newton", **options), quantify(mrs, **options)
        assert list(ours.params_names) == list(newton.params_names)
        assert ours.mse <= newton.mse * (1 + 1e-4)
        n = mrs.numBasis
        assert (np.abs(ours.params - newton.params)[:n] / np.sqrt(newton.crlb[:n])).max() < 0.25
        return ours

    mrs = make_mrs()
    groups = [1 if name == "NAA" else 0 for name in mrs.names]
    assert compare(mrs, metab_groups=groups).g == 2
    assert compare(mrs, ppmlim=(1.8, 3.4)).ppmlim == (1.8, 3.4)
    assert compare(mrs, baseline_order=1).baseline_mode == "polynomial"
    assert compare(mrs, baseline_order=-1).baseline_mode == "off"
    mrs = make_mrs(ind_scaling=["Ins"])
    mrs.ignore = ["Asc", "PE"]
    assert "Asc" not in compare(mrs).metabs
    mrs = make_mrs()
    mrs.keep = ["NAA", "Cr", "PCr", "GPC", "Ins", "Glu"]
    assert compare(mrs).numMetabs == 7, "and Cr+PCr"


def test_a_start_of_the_users_is_one_more_candidate(mrs):
    from fsl_mrs.utils.fitting import fit_FSLModel

    start = fit_FSLModel(mrs, method="Newton").params
    assert quantify(mrs, x0=start).mse <= quantify(mrs).mse * (1 + 1e-7)
    free = quantify(mrs, model="free_shift").params
    assert quantify(mrs, model="free_shift", x0=free).mse < quantify(mrs).mse
    with pytest.raises(OptionError, match="x0"):
        quantify(mrs, x0=start[:-1])
    with pytest.raises(OptionError, match="x0"):
        quantify(mrs, x0=start * np.nan)


@needs_hook
def test_method_of_the_object_and_conjugated_input(mrs):
    turned = copy.deepcopy(mrs)
    turned.FID = mrs._FID.conj()
    turned.fid_scaling, turned.conj_FID = mrs.fid_scaling, not mrs.conj_FID
    np.testing.assert_array_equal(turned.fit(method="dlquant").params, mrs.fit(method="dlquant").params)


# -- the result ----------------------------------------------------------------------------------------------------


@needs_hook
def test_every_accessor_gives_what_newtons_result_gives(both, mrs):
    newton, ours = both
    calls = {
        "raw": lambda r: r.getConc(),
        "one": lambda r: r.getConc(metab="NAA", scaling="internal"),
        "molality": lambda r: r.getConc(scaling="molality"),
        "molarity": lambda r: r.getConc(scaling="molarity"),
        "percentage": lambda r: np.minimum(r.getUncertainties(), 200),
        **{f"sd {k}": lambda r, k=k: r.getUncertainties(type=k) for k in ("raw", "internal", "molarity", "molality")},
        "sd one": lambda r: r.getUncertainties(metab="NAA"),
        "crlb": lambda r: r.crlb[: mrs.numBasis],
        "correlation": lambda r: r.corr[: mrs.numBasis, : mrs.numBasis],
        "qc": lambda r: np.concatenate([np.asarray(x, float) for x in r.getQCParams()]),
        "qc one": lambda r: r.getQCParams("NAA"),
        "phase": lambda r: [float(x) for x in r.getPhaseParams()],
        "shift": lambda r: r.getShiftParams(),
        "widths": lambda r: np.concatenate(r.getLineShapeParams()),
        "fid": lambda r: r.predictedFID(mrs),
        "one fid": lambda r: r.predictedFID(mrs, mode="NAA", noBaseline=True),
        "spectrum": lambda r: r.predictedSpec(mrs),
        "residual": lambda r: r.residuals,
        "mse": lambda r: r.mse,
    }
    for name, call in calls.items():
        theirs, found = np.asarray(call(newton)), np.asarray(call(ours))
        assert found.shape == theirs.shape, name
        np.testing.assert_allclose(found, theirs, rtol=0.02, atol=0.02 * np.abs(theirs).max(), err_msg=name)
    assert ours.metabs == newton.metabs and ours.metabs[-1] == "NAA+NAAG"
    assert ours.getBaselineParams().shape == newton.getBaselineParams().shape
    assert ours.perc_SD.shape == newton.perc_SD.shape
    assert ours.metabs_in_groups() == newton.metabs_in_groups()
    assert str(ours).startswith("----- Fitting Results")
    assert set(ours.dl) == {"starter", "estimate", "converged", "n_iter", "misfit"}


@needs_hook
def test_files_report_and_figure(both, mrs, tmp_path):
    import pandas as pd
    from fsl_mrs.utils import report

    for name, res in zip(("newton", "ours"), both):
        for what in ("summary", "concentrations", "qc", "parameters"):
            res.to_file(tmp_path / f"{name}_{what}.csv", what=what)
    for what in ("summary", "concentrations", "qc", "parameters"):
        a, b = (pd.read_csv(tmp_path / f"{name}_{what}.csv") for name in ("newton", "ours"))
        assert list(a.columns) == list(b.columns) and a.shape == b.shape
    ours = both[1]
    assert json.loads(ours.metab_in_group_json())["0"] == ours.original_metabs
    ours.fit_parameters_json(tmp_path / "names.json")
    report.fitting_summary_fig(mrs, ours, filename=tmp_path / "fit.png")
    names = {key: "a" for key in ("fidfile", "basisfile", "h2ofile", "date")}
    report.create_svs_report(mrs, ours, filename=tmp_path / "report.html", location_fig=None, **names)
    assert "Optimisation: dlquant (FSL-MRS-DL" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    ours.plot(mrs)


def test_results_can_be_copied_and_sent_elsewhere(both):
    ours = both[1]
    for copied in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        np.testing.assert_array_equal(copied.getUncertainties(), ours.getUncertainties())
        assert copied.dl == ours.dl and copied.method == "dlquant"


# -- volumes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A 3 x 2 volume of the example's averaged transients with noise, one voxel zero and one NaN; and a clean one."""
    data = nifti.load(EXAMPLE / "svs.nii.gz")
    rng = np.random.default_rng(3)
    fid = data.fids[0, 0, 0].mean(-1)
    fids = np.tile(fid, (3, 2, 1, 1)) * np.exp(1j * rng.uniform(-0.5, 0.5, (3, 2, 1, 1)))
    noise = 0.02 * np.abs(fid[0])
    fids = (fids + noise * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))).astype(np.complex64)
    header = {k: v for k, v in data.header.items() if not k.startswith("dim_")}
    folder = tmp_path_factory.mktemp("volume")
    make = dict(dwelltime=data.dwelltime, spec_freq_mhz=data.spec_freq_mhz, nucleus="1H", header=header, affine=data.affine)
    clean = nifti.save(folder / "clean.nii.gz", nifti.MrsData(fids, **make))
    holed = fids.copy()
    holed[0, 0], holed[2, 1, 0, 5] = 0, np.nan
    return clean, nifti.save(folder / "holed.nii.gz", nifti.MrsData(holed, **make))


def test_a_volume_object_gives_a_result_for_every_voxel(volume):
    from fsl_mrs.utils import mrs_io

    basis = mrs_io.read_basis(str(EXAMPLE / "basis"))
    results = {}
    for path in volume:
        mrsi = mrs_io.read_FID(str(path)).mrs(basis=basis)
        mrsi.rescale = True
        results[path] = quantify(mrsi, baseline="off")
    clean, holed = (results[path] for path in volume)
    assert list(clean) == list(np.ndindex(3, 2, 1))
    mrsi = mrs_io.read_FID(str(volume[0])).mrs(basis=basis)
    mrsi.rescale = True
    alone = quantify(mrsi.mrs_by_index((1, 1, 0)), baseline="off")
    np.testing.assert_allclose(alone.params, clean[1, 1, 0].params, rtol=1e-6, atol=1e-9)
    for index, res in holed.items():
        if index in ((0, 0, 0), (2, 1, 0)):
            assert np.isnan(res.getConc()).all() and not res.dl["converged"]
        else:
            np.testing.assert_allclose(res.params, clean[index].params, rtol=1e-6, atol=1e-9)


def test_lists_of_spectra_and_one_without_signal(mrs):
    first, second = quantify([mrs, mrs], baseline="off")
    np.testing.assert_array_equal(first.params, second.params)
    empty = copy.deepcopy(mrs)
    empty.FID = np.zeros_like(mrs._FID)
    with pytest.raises(DataError, match="zero or holds NaN"):
        quantify(empty)
    other = copy.deepcopy(mrs)
    other.ignore = ["Asc"]
    with pytest.raises(DataError, match="differ"):
        quantify([mrs, other])
    with pytest.raises(OptionError, match="baselin"):
        quantify(mrs, baselin="off")
    with pytest.raises(OptionError, match="basis"):
        quantify(mrs, "basis")


@needs_hook
def test_fsl_mrsi_writes_the_same_files_and_agrees_with_our_own_command(volume, tmp_path):
    import nibabel as nib
    import pandas as pd

    clean, holed = volume
    common = ["--basis", EXAMPLE / "basis", "--TE", 30, "--TR", 2, "--parallel", "off", "--output_correlations", "--report"]
    for algo in ("Newton", "dlquant"):
        command("fsl_mrsi", "--data", clean, *common, "--algo", algo, "--output", tmp_path / algo)
    command("fsl_mrsi", "--data", holed, *common, "--algo", "dlquant", "--output", tmp_path / "holed")
    command("fsl_mrs_dl", "fit", "--data", clean, "--basis", EXAMPLE / "basis", "--output", tmp_path / "own")

    def files(name):
        return {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}

    def image(name, file):
        return np.asarray(nib.load(tmp_path / name / file).dataobj)

    assert files("dlquant") == files("Newton") == files("holed")
    table = pd.read_csv(tmp_path / "own/uncertainty.csv").set_index("Metab")
    for metab in ("NAA", "Glu", "Cr+PCr"):
        file = f"concs/internal/{metab}.nii.gz"
        np.testing.assert_allclose(image("dlquant", file).ravel(), table.loc[metab, "ratio"], rtol=1e-6)
        sd = table.loc[metab, "ratio_sd"].to_numpy()
        assert (np.abs(image("dlquant", file) - image("Newton", file)).ravel() < 0.25 * sd).all()
        good = np.ones((3, 2, 1), bool)
        good[0, 0], good[2, 1] = False, False
        assert (image("holed", file)[~good] == 0).all()
        np.testing.assert_allclose(image("holed", file)[good], image("dlquant", file)[good], rtol=1e-6)
    assert image("dlquant", "misc/fit_correlations.nii.gz").shape == image("Newton", "misc/fit_correlations.nii.gz").shape


@pytest.mark.slow
@needs_hook
def test_fsl_mrsi_in_worker_processes_is_the_same_to_the_last_digit(volume, tmp_path):
    import nibabel as nib

    common = ["--data", volume[0], "--basis", EXAMPLE / "basis", "--algo", "dlquant"]
    for how in ("off", "local"):
        command("fsl_mrsi", *common, "--parallel", how, "--output", tmp_path / how)
    for path in (tmp_path / "off").rglob("*.nii.gz"):
        other = tmp_path / "local" / path.relative_to(tmp_path / "off")
        np.testing.assert_array_equal(*(np.asarray(nib.load(p).dataobj) for p in (path, other)), err_msg=str(path))


# -- the other commands --------------------------------------------------------------------------------------------


@needs_hook
def test_fsl_mrs_writes_the_same_files(invivo_3t, invivo_basis_path, water, testdata, tmp_path):
    import pandas as pd

    common = ["--data", invivo_3t, "--basis", invivo_basis_path, "--h2o", water, "--TE", 35, "--TR", 2]
    common += ["--tissue_frac", 0.5, 0.4, 0.1, "--combine", "NAA", "NAAG", "--report", "--export_baseline", "--export_separate"]
    common += ["--t1", testdata / "invivo_3t_press_philips" / "T1w.nii.gz"]
    config = tmp_path / "config"
    config.write_text("algo = dlquant\ndl-device = cpu\n")
    command("fsl_mrs", *common, "--algo", "Newton", "--output", tmp_path / "newton")
    command("fsl_mrs", *common, "--config", config, "--output", tmp_path / "ours")
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("newton", "ours")]
    assert names[0] == names[1] and {"report.html", "quantification_info.csv", "voxel_location.png"} <= names[0]
    a, b = (pd.read_csv(tmp_path / name / "summary.csv", index_col=0) for name in ("newton", "ours"))
    assert list(a.columns) == list(b.columns) and list(a.index) == list(b.index)
    assert (np.abs(a["mM"] - b["mM"]) < 0.25 * a["mM CRLB"]).all()
    options = json.loads((tmp_path / "ours/options.txt").read_text().splitlines()[0])
    assert options["algo"] == "dlquant" and options["dl_device"] == "cpu"


@needs_hook
def test_wrong_options_end_with_one_line_and_no_folder(invivo_3t, invivo_basis_path, tmp_path):
    common = ["--data", invivo_3t, "--basis", invivo_basis_path, "--output", tmp_path / "out", "--algo", "dlquant"]
    done = command("fsl_mrs", *common, "--dl-device", "gpu", check=False)
    assert done.returncode == 2 and done.stderr == "fsl_mrs: error: --dl-device gpu: write auto, cpu or cuda.\n"
    assert not (tmp_path / "out").exists()


@needs_hook
def test_dl_align_is_that_of_our_own_command_digit_for_digit(tmp_path):
    import nibabel as nib
    from fsl_mrs.core import NIFTI_MRS

    from fsl_mrs_dl import align

    config = tmp_path / "config"
    config.write_text(f"file = {EXAMPLE / 'svs.nii.gz'}\nppm = [0.5, 4]\n")
    before = command("fsl_mrs_proc", "conj", "--file", EXAMPLE / "svs.nii.gz", "--output", tmp_path / "a")
    assert not before.stderr.strip().startswith("Traceback")
    words = ["--file", tmp_path / "a/svs.nii.gz"]
    command("fsl_mrs_proc", "conj", *words, "--output", tmp_path / "b")
    words = ["--file", tmp_path / "b/svs.nii.gz"]
    command("fsl_mrs_proc", "dl-align", *words, "--ppm", 0.5, 4, "--output", tmp_path / "theirs", "-r")
    command("fsl_mrs_dl", "align", *words, "--ppm", 0.5, 4, "--output", tmp_path / "ours", "-r")
    command("fsl_mrs_proc", "--config", config, "dl-align", "--output", tmp_path / "config_out")
    images = [nib.load(tmp_path / name / "svs.nii.gz") for name in ("theirs", "ours", "config_out")]
    arrays = [np.asarray(image.dataobj) for image in images]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    np.testing.assert_array_equal(arrays[0], arrays[2])
    assert (tmp_path / "theirs/dl_align.csv").read_bytes() == (tmp_path / "ours/dl_align.csv").read_bytes()
    assert (tmp_path / "theirs/report_dl_align.html").is_file()
    data = NIFTI_MRS(str(tmp_path / "theirs/svs.nii.gz"))
    done = data.hdr_ext["ProcessingApplied"]
    assert [step["Program"] for step in done[-3:]] == ["FSL-MRS", "FSL-MRS", "FSL-MRS-DL"]
    assert "dl-align" in done[-1]["Details"]
    source = NIFTI_MRS(str(tmp_path / "b/svs.nii.gz"))
    aligned, found = align(source, ppmlim=(0.5, 4))
    assert isinstance(aligned, NIFTI_MRS) and found.shift_hz.size == source.shape[4]
    np.testing.assert_array_equal(aligned[:], data[:])
    assert not np.array_equal(source[:], aligned[:])


@needs_hook
def test_wrong_dimension_ends_with_one_line(tmp_path):
    words = ["--file", EXAMPLE / "svs.nii.gz", "--dim", "DIM_EDIT", "--output", tmp_path / "out"]
    done = command("fsl_mrs_proc", "dl-align", *words, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("fsl_mrs_proc dl-align: error: svs.nii.gz: no dimension DIM_EDIT")


@needs_hook
def test_switched_off_leaves_fsl_mrs_as_it_is():
    done = command("fsl_mrs_proc", "--help", FSL_MRS_DL_HOOK="off")
    assert "dl-align" not in done.stdout
    assert "dl-align" in command("fsl_mrs_proc", "--help").stdout


def test_fsl_mrs_of_this_environment_is_known():
    from fsl_mrs_dl._hook import TARGETS
    from fsl_mrs_dl._patches import PATCHES

    assert set(PATCHES) == TARGETS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fsl_mrs.utils import fitting
    assert hasattr(fitting, "_fsl_mrs_dl") or not switch.status()[0]
