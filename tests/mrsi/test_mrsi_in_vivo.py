"""A volume of spectra fitted with the in-vivo model: its maps, and that no chunk settles anything again."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import DataError, OptionError, OutputError
from fsl_mrs_dl.fitting.in_vivo import fit as fit_module
from fsl_mrs_dl.fitting.in_vivo.prepared import plain_prepared
from fsl_mrs_dl.fitting.in_vivo.quantify import fit_with_prepared, prepare_in_vivo, quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.mrsi import assemble, chunks, plan, scratch
from fsl_mrs_dl.mrsi import job as job_module
from fsl_mrs_dl.mrsi import run as run_module
from fsl_mrs_dl.mrsi.job import VolumeOptions
from fsl_mrs_dl.results import layout, model_file
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo
from fsleyes_plugin_dl import derived
from fsleyes_plugin_dl.results_folder import Results

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = (4, 4, 2)
N = int(np.prod(GRID))
ZERO, NAN = 7, 11
AFFINE = np.diag([8.0, 9.0, 10.0, 1.0])
OPTIONS = FitOptions(spectral_model="in-vivo", internal_ref=("Cr",), combine=("Glu+Gln",), device="cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory, sim_basis):
    """A folder with a volume of 32 voxels, one of zeros and one with NaN, a mask of all, and the basis set; the truth;
    the FIDs."""
    folder = tmp_path_factory.mktemp("volume")
    truth = simulate_in_vivo(sim_basis, sim_basis.axes, N, seed=9)
    fids = truth.fids.astype(np.complex64)
    fids[ZERO], fids[NAN, 3] = 0, np.nan
    data = nifti.MrsData(fids.reshape(*GRID, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE)
    nifti.save(folder / "mrsi.nii.gz", data)
    nib.save(nib.Nifti1Image(np.ones(GRID, np.uint8), AFFINE), folder / "mask.nii.gz")
    sim_basis.save(folder / "basis", info="simulated")
    return folder, truth, fids


def words(folder: Path, output: Path, *more: str) -> list[str]:
    fixed = {"--data": "mrsi.nii.gz", "--basis": "basis", "--mask": "mask.nii.gz"}
    given = [word for option, name in fixed.items() for word in (option, str(folder / name))]
    given += ["--output", str(output), "--device", "cpu", "--internal_ref", "Cr", "--combine", "Glu", "Gln"]
    return ["mrsi", *given, "--spectral-model", "in-vivo", *more]


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """Results of the whole job, 8 voxels a chunk."""
    out = tmp_path_factory.mktemp("results") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan.prepare, "__kwdefaults__", {**plan.prepare.__kwdefaults__, "chunk": 8})
        assert main(words(small[0], out, "--parallel-workers", "2")) == 0
    return out


def prepare(folder: Path, output: Path, **more):
    """Return a job of chunks of 8."""
    basis = Basis.load(folder / "basis")
    mask = folder / "mask.nii.gz"
    return plan.prepare(folder / "mrsi.nii.gz", basis, output, OPTIONS, mask=mask, chunk=8, **more)[0]


@pytest.fixture(scope="module")
def plain_job(small, tmp_path_factory):
    """The same job with nothing done."""
    return prepare(small[0], tmp_path_factory.mktemp("job") / "out")


@pytest.fixture
def job(plain_job, tmp_path):
    """The same with a scratch folder of its own beside ``tmp_path / "out"``."""
    folder = job_module.scratch_of(tmp_path / "out")
    shutil.copytree(plain_job.scratch, folder)
    return replace(plain_job, scratch=folder)


PUBLICATION = ("mrsinmrs.csv", "methods.md", "references.bib")


def read(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj).reshape(-1)


def is_input(path: Path) -> bool:
    """Whether a file is a link, what was fitted (the data and the basis set), or written by the command alone."""
    return path.is_symlink() or path.name in PUBLICATION or path.name == "data.nii.gz" or path.parent.name == "basis"


def everything(folder: Path) -> dict[str, bytes]:
    """Content of all files but pictures and options, unpacked."""
    out = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not is_input(path) and path.suffix not in (".txt", ".png"):
            content = path.read_bytes()
            out[str(path.relative_to(folder))] = gzip.decompress(content) if path.suffix == ".gz" else content
    return out


def assert_same(folder: Path, other: Path) -> None:
    ours, theirs = everything(folder), everything(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def usable() -> np.ndarray:
    return np.delete(np.arange(N), [ZERO, NAN])


# -- what is written -----------------------------------------------------------------------------------------------


def test_the_folder_has_the_maps_of_the_model(run, sim_basis):
    for name in (
        "concs/raw/NAA",
        "concs/raw/Glu+Gln",
        "concs/raw/MM",
        "concs/internal/NAA",
        "concs/in_vivo/NAA",
        "concs/posterior_mean/Glu+Gln",
        "uncertainties/NAA_sd",
        "concs/in_vivo_ratio/NAA",
        "uncertainties/NAA_in_vivo_sd",
        "uncertainties/NAA_in_vivo_ratio_sd",
        "uncertainties/NAA_in_vivo_ci95_high",
        "uncertainties/NAA_prior_share",
        "uncertainties/NAA_between_models_share",
        "quality/misfit",
        "quality/failed",
        "qc/NAA_snr",
        "nuisance/shift_group0",
        "fit/fit",
        "fit/baseline",
        "fit/residual",
    ):
        assert (run / f"{name}.nii.gz").is_file(), name
    assert not (run / "concs" / "ml").exists() and (run / "fit_avg.png").is_file()
    about = json.loads((run / "misc" / "mrs_fit_parameters.json").read_text())
    assert about["metabolites"][: len(sim_basis.names)] == list(sim_basis.names) and about["metabolites"][-1] == "MM"
    assert "baseline_dimension" in about["parameters"]
    learnt = json.loads((run / "volume_priors.json").read_text())
    assert learnt["n_spectra"] == N - 2 and sum(learnt["strengths"]) == pytest.approx(1)
    assert "learnt from 30 voxels" in (run / "methods.md").read_text()
    assert "(prior-share)" in (run / layout.TREE).read_text() and not list(run.parent.glob(".*"))


def test_the_maps_are_near_the_truth_and_the_fits_of_single_spectra(run, small, sim_basis):
    _, truth, fids = small
    rows = usable()
    scale = 100 / np.sqrt(np.square(np.abs(fids[rows])).sum(1).mean())
    scaled = fids[rows].astype(complex) * scale
    prepared = prepare_in_vivo(scaled, sim_basis, sim_basis.axes, OPTIONS, of_volume=True)
    alone = fit_with_prepared(scaled, prepared, fid_scale=scale)
    study = quantify_in_vivo(fids[rows], sim_basis, sim_basis.axes, OPTIONS)
    names = [name for name in truth.names if name != "Cr"]
    under = truth.concentrations[rows][:, [truth.names.index("Cr")]]
    true = truth.concentrations[rows][:, [truth.names.index(name) for name in names]] / under
    ratios = np.stack([read(run, f"concs/internal/{name}")[rows] for name in names], 1)
    conc = study.conc[:, [study.names.index(name) for name in [*names, "Cr"]]]
    usual = np.median(np.abs(conc[:, :-1] / conc[:, -1:] - true) / true)
    assert np.median(np.abs(ratios - true) / true) < min(1.1 * usual, 0.16)
    for name in ("NAA", "Cr", "Ins"):
        column = alone.names.index(name)
        distance = (read(run, f"concs/in_vivo/{name}")[rows] - alone.conc[:, column]) / alone.crlb_sd[:, column]
        # The priors of the study come from other spectra of it, in another order.
        assert np.median(np.abs(distance)) < 0.3
        low, high = (read(run, f"uncertainties/{name}_in_vivo_ci95_{end}")[rows] for end in ("low", "high"))
        assert (low <= high).all()


def test_what_cannot_be_fitted_is_marked_and_the_rest_is_fitted(run):
    failed = read(run, "quality/failed")
    assert failed[ZERO] == failed[NAN] == 2 and (failed[usable()] < 2).all() and (failed == 1).sum() <= 4
    assert read(run, "quality/fitted").sum() == N - 2
    for path in run.rglob("*.nii.gz"):
        if not is_input(path):
            assert np.isfinite(np.asarray(nib.load(path).dataobj)).all(), path


def test_fit_and_residual_are_the_data(run, small):
    fids = small[2]
    fit, residual, baseline = (
        nifti.load(run / "fit" / f"{name}.nii.gz").fids.reshape(N, -1) for name in ("fit", "residual", "baseline")
    )
    rows = usable()
    np.testing.assert_allclose((fit + residual)[rows], fids[rows], atol=1e-5 * np.abs(fids[rows]).max())
    assert not fit[[ZERO, NAN]].any() and baseline[rows].any(1).all()


def test_a_viewer_shows_the_folder_with_its_model(run):
    evaluator, results = model_file.Evaluator.open(run), Results.open(run)
    assert evaluator.names[-1] == "MM" and evaluator.names == results.evaluator.names
    assert results.kind == "MRSI" and results.default_quantity == "conc-in-vivo"
    assert results.fitted.sum() == N - 2 and results.spectrum("fit").is_file()
    assert np.nanmedian(results.percent("conc-in-vivo", "NAA")) < 20
    assert results.has("prior-share") and results.at((0, 0, 0)).rows


def test_a_viewer_has_the_covariance_of_sums(run):
    """The SD of a sum that it computes is the one of the maps, which members as independent would not give."""
    results = Results.open(run)
    members = derived.Expression(("Glu", "Gln"))
    read, read_sd = (lambda name: results.map("conc-in-vivo", name)), (lambda name: results.sd("conc-in-vivo", name))
    known = results.sd("conc-in-vivo", "Glu+Gln")
    where = results.fitted & np.isfinite(known)
    assert where.sum() == N - 2
    correlation = derived.correlations(results.evaluator, results.shape)
    np.testing.assert_allclose(members.sd(read, read_sd, correlation)[where], known[where], rtol=2e-3)
    assert not np.allclose(members.sd(read, read_sd, lambda *_: None)[where], known[where], rtol=0.02)
    # A folder that has none.
    arrays = {name: values for name, values in results.evaluator.arrays.items() if name != "cov"}
    old = replace(results.evaluator, arrays=arrays)
    assert derived.correlations(old, results.shape)("Glu", "Gln") is None


def test_the_models_parts_sum_up_to_the_fit(run):
    evaluator = model_file.Evaluator.open(run)
    fit, baseline = (nifti.load(run / "fit" / f"{name}.nii.gz").fids for name in ("fit", "baseline"))
    # As files store FIDs.
    fit, baseline = fit.reshape(N, -1).conj(), baseline.reshape(N, -1).conj()
    grid = nib.load(next((run / "concs/raw").glob("*.nii.gz"))).shape
    row = usable()[3]
    voxel = np.unravel_index(row, (*grid, 1)[:3])
    total = sum(evaluator.contribution(voxel, name) for name in evaluator.names)
    np.testing.assert_allclose(total + baseline[row], fit[row], atol=1e-4 * np.abs(fit[row]).max())
    lines = [name for name in evaluator.signals.names if name.startswith("MM")]
    np.testing.assert_allclose(evaluator.contribution(voxel, "+".join(lines)), evaluator.contribution(voxel, "MM"))
    hz, sd = evaluator.band(voxel)
    assert (np.diff(hz) > 0).all() and (sd > 0).all()
    # Less than the noise of a point, of which a few parameters take a part.
    noise = np.asarray(nib.load(run / "quality/noise_sd.nii.gz").dataobj)[voxel]
    assert 0.1 < np.median(sd) / (noise * np.sqrt(fit.shape[1]) / evaluator.about["fid_scale"]) < 1.0
    assert evaluator.contribution(np.unravel_index(ZERO, (*grid, 1)[:3]), "MM") is None
    with pytest.raises(DataError, match="was not fitted"):
        evaluator.contribution(voxel, "Unobtainium")


@pytest.fixture(scope="module")
def with_water(sim_basis, tmp_path_factory):
    """A folder with a volume of six voxels with eddy currents, its water, of which one voxel is zero, and the basis
    set; the output of the command."""
    folder = tmp_path_factory.mktemp("water")
    truth = simulate_in_vivo(sim_basis, sim_basis.axes, 6, seed=3, departure="eddy currents")
    water = truth.water.copy()
    water[4] = 0
    for name, fids in (("mrsi", truth.fids), ("water", water), ("other", np.concatenate([water, water]))):
        about = (sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H")
        fids = fids.astype(np.complex64).reshape(len(fids) // 2, 2, 1, -1)
        nifti.save(folder / f"{name}.nii.gz", nifti.MrsData(fids, *about, affine=AFFINE))
    nib.save(nib.Nifti1Image(np.ones((3, 2, 1), np.uint8), AFFINE), folder / "mask.nii.gz")
    sim_basis.save(folder / "basis", info="simulated")
    with open(folder / "printed.txt", "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        images = [str(tissue_image(folder, name, values)) for name, values in TISSUE.items()]
        scaling = ["--TE", "35", "--TR", "2", "--tissue_frac", *images]
        assert main(words(folder, folder / "out", "--h2o", str(folder / "water.nii.gz"), *scaling)) == 0
    return folder


TISSUE = {
    "wm": [0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
    "gm": [0.3, 0.4, 0.4, 0.5, 0.6, 0.1],
    "csf": [0.1, 0.1, 0.2, 0.2, 0.2, 0.8],
}


def tissue_image(folder, name, values):
    """Write the volume fractions of six voxels in FSL-MRS's form; return the file."""
    nib.save(nib.Nifti1Image(np.array(values, np.float32).reshape(3, 2, 1), AFFINE), folder / f"{name}.nii.gz")
    return folder / f"{name}.nii.gz"


def test_maps_of_absolute_concentrations(with_water):
    out = with_water / "out"
    molarity, molality, raw = (read(out, f"concs/{kind}/Cr").ravel() for kind in ("molarity", "molality", "raw"))
    assert molarity[4] == 0, "there is no water"
    some = np.array([0, 1, 2, 3, 5])
    white, grey, csf = (np.array(values)[some] for values in TISSUE.values())
    water = white * 0.65 + grey * 0.78 + csf * 0.97
    np.testing.assert_allclose(molality[some] / molarity[some], 1 / water, rtol=1e-5)
    assert (raw[some] > 0).all()
    sd, low, high = (
        read(out, f"uncertainties/Cr_molarity_{what}").ravel()[some] for what in ("sd", "ci95_low", "ci95_high")
    )
    assert (low < molarity[some]).all() and (molarity[some] < high).all()
    assert (sd / molarity[some] > 0.08).all(), "relaxation times alone are as uncertain as that"
    printed = (with_water / "printed.txt").read_text()
    assert "Tissue fractions of every voxel from wm.nii.gz, gm.nii.gz, csf.nii.gz, each with an SD of 0.03." in printed
    assert "       mM" in printed


def test_water_of_every_voxel_corrects_it(with_water):
    assert (
        "Water reference: line shape and eddy currents were taken from it." in (with_water / "printed.txt").read_text()
    )
    # A voxel without water is fitted, too.
    assert (read(with_water / "out", "quality/failed") < 2).all()
    assert read(with_water / "out", "quality/misfit").max() < 1.5


def test_fits_with_water_are_the_data_as_they_are(with_water):
    data = nifti.load(with_water / "mrsi.nii.gz").fids.reshape(6, -1)
    fit, residual, baseline = (
        nifti.load(with_water / "out/fit" / f"{name}.nii.gz").fids.reshape(6, -1)
        for name in ("fit", "residual", "baseline")
    )
    np.testing.assert_allclose(fit + residual, data, atol=1e-5 * np.abs(data).max())
    header = nifti.load_header(with_water / "mrsi.nii.gz")
    first, last = header.axes.with_points(data.shape[1]).window((0.5, 3.8))
    misfit = units.fid_to_spec(residual)[0, first:last].std() / units.fid_to_spec(data)[0, first:last].std()
    # Eddy currents turn lines by up to 70 degrees.
    assert misfit < 0.3
    evaluator = model_file.Evaluator.open(with_water / "out")
    total = sum(evaluator.contribution((0, 0, 0), name) for name in evaluator.names)
    # As files store FIDs.
    np.testing.assert_allclose(total.conj() + baseline[0], fit[0], atol=1e-4 * np.abs(fit[0]).max())


def test_a_resumed_job_uses_its_water_alike(with_water, tmp_path):
    basis, water = Basis.load(with_water / "basis"), with_water / "water.nii.gz"
    given = (with_water / "mrsi.nii.gz", basis, tmp_path / "out", OPTIONS)
    settled = plan.prepare(*given, water=water, chunk=4)[0]
    again = plan.prepare(*given, water=water, chunk=4, resume=True)[0]
    assert settled.in_vivo.water_use == again.in_vivo.water_use and settled.in_vivo.water_use.eddy_currents
    one, other = (chunks.fit_voxels(job, job.index, None) for job in (settled, again))
    np.testing.assert_array_equal(one["params"], other["params"])
    with pytest.raises(OutputError, match="another water reference"):
        plan.prepare(*given, chunk=4, resume=True)


def test_water_of_another_grid_is_refused(with_water, tmp_path, capsys):
    assert main(words(with_water, tmp_path / "out", "--h2o", str(with_water / "other.nii.gz"))) == 2
    assert "has 6 x 2 x 1 voxels and the data 3 x 2 x 1; give water on the grid" in capsys.readouterr().err
    assert main(words(with_water, tmp_path / "out", "--h2o", str(with_water / "mrsi.nii.gz"))) == 2
    assert (
        "is the same file as --data: this is not unsuppressed water; give the water of the" in capsys.readouterr().err
    )


# -- on the way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel, workers", [("off", 1), ("local", 2)])
def test_any_way_gives_the_same_to_the_last_digit(run, job, tmp_path, parallel, workers):
    if parallel == "local":
        pytest.importorskip("dask.distributed")
    run_module.fit_all(job, parallel=parallel, workers=workers, say=lambda text: None)
    (tmp_path / "out").mkdir()
    assemble.write_results(tmp_path / "out", job, options_text="")
    assert_same(tmp_path / "out", run)


def test_no_chunk_settles_window_or_priors(job, monkeypatch):
    monkeypatch.setattr(fit_module, "points_with_signal", lambda *args: 1 / 0)
    monkeypatch.setattr(fit_module, "study_model", lambda *args: 1 / 0)
    assert chunks.fit_chunk(job, 0) == 8 and job.done() == [0]


def test_a_resumed_job_has_the_same_model(small, job, tmp_path):
    chunks.fit_chunk(job, 0)
    again = prepare(small[0], tmp_path / "out", resume=True)
    assert {path.suffix for path in job.scratch.iterdir()} == {".json", ".npz", ".npy", ".nii"}
    before, after = plain_prepared(job.in_vivo), plain_prepared(again.in_vivo)
    assert before.text == after.text and before.arrays.keys() == after.arrays.keys()
    for name, values in before.arrays.items():
        assert values.dtype == after.arrays[name].dtype and values.tobytes() == after.arrays[name].tobytes(), name
    assert again.fid_scale == job.fid_scale and again.prior is None and again.done() == [0]


def test_a_run_that_is_killed_goes_on(small, run, tmp_path):
    out = tmp_path / "out"
    code = (
        "import sys, time; from fsl_mrs_dl.mrsi import chunks, plan; from fsl_mrs_dl.cli.main import main\n"
        "plan.prepare.__kwdefaults__['chunk'] = 8\n"
        "plain = chunks.fit_voxels\n"
        "def slow(*args):\n    time.sleep(1)\n    return plain(*args)\n"
        "chunks.fit_voxels = slow if sys.argv[1] == 'slow' else plain\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    call = [sys.executable, "-c", code]
    given = words(small[0], out, "--parallel-workers", "1")
    process = subprocess.Popen([*call, "slow", *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    unfinished = job_module.scratch_of(out)
    for _ in range(4000):
        if list(unfinished.glob("chunk-*.npz")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert 1 <= len(list(unfinished.glob("chunk-*.npz"))) < 4 and not out.exists()
    last = subprocess.run([*call, "quick", *given, "--resume"], capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert not unfinished.exists() and (out / "fit_avg.png").is_file()
    assert_same(out, run)


def test_a_voxel_that_makes_the_fit_raise_is_marked(small, job, monkeypatch):
    job = replace(job, volume_options=VolumeOptions(spectra=False))
    poison = small[2][20].astype(complex) * job.fid_scale

    def brittle(fids, **options):
        if np.isclose(np.abs(fids).sum(1), np.abs(poison).sum()).any():
            raise RuntimeError("no")
        return fit_with_prepared(fids, **options)

    monkeypatch.setattr(chunks.in_vivo_quantify, "fit_with_prepared", brittle)
    chunks.fit_chunk(job, 2)
    arrays = scratch.load_arrays(job.file(2), ["index", "failed"])
    assert arrays["index"][arrays["failed"] == 2].tolist() == [20]


def test_a_chunk_without_anything_to_fit(small, tmp_path, sim_basis):
    fids = small[2][[0, 1, 2, 3]].copy()
    fids[:2] = np.nan
    data = nifti.MrsData(fids.reshape(4, 1, 1, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE)
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    job, _ = plan.prepare(tmp_path / "mrsi.nii.gz", sim_basis, tmp_path / "out", OPTIONS, chunk=2)
    run_module.fit_all(job, workers=1)
    (tmp_path / "out").mkdir()
    values = assemble.write_results(tmp_path / "out", job, options_text="")
    assert values["failed"][:2].tolist() == [2, 2] and (values["failed"][2:] < 2).all()
    assert "2 voxels: could not be fitted" in assemble.summary(job, values)


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, option",
    [
        (("--baseline", "off"), "--baseline"),
        (("--share_initial_values",), "--share_initial_values"),
        (("--h2o", "water.nii.gz"), "water.nii.gz: no such file"),
        (("--prior", "volume"), "--prior volume"),
    ],
)
def test_options_of_the_other_model_are_refused(small, tmp_path, capsys, more, option):
    assert main(words(small[0], tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert option in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not job_module.scratch_of(tmp_path / "out").exists()


def test_other_basis_sets_are_refused(small, tmp_path, sim_basis):
    few = sim_basis.select(["Cr", "NAA"])
    with pytest.raises(OptionError, match="priors of 1H spectra of the brain"):
        plan.prepare(small[0] / "mrsi.nii.gz", few, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize("how", ["shape", "missing", "none"])
def test_a_damaged_model_is_refused(small, job, tmp_path, how):
    arrays = scratch.load_arrays(job.scratch / "job.npz")
    if how == "shape":
        arrays["in_vivo.model.prior_mean"] = arrays["in_vivo.model.prior_mean"][:-1]
    elif how == "missing":
        del arrays["in_vivo.window.taper"]
    else:
        about = json.loads((job.scratch / "job.json").read_text())
        (job.scratch / "job.json").write_text(json.dumps(about | {"in_vivo": None}))
    scratch.save_arrays(job.scratch / "job.npz", arrays)
    with pytest.raises(OutputError, match="cannot be read"):
        prepare(small[0], tmp_path / "out", resume=True)


def test_little_is_lost_where_a_voxel_takes_long():
    assert plan.usual_chunk(OPTIONS) == 32 and plan.usual_chunk(FitOptions(device="cpu")) == 256
    # A chunk is a file: as many as can be opened again and again.
    assert plan.usual_chunk(OPTIONS, 10_240) == 32 and plan.usual_chunk(OPTIONS, 102_400) == 256
