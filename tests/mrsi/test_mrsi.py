"""A volume of spectra: the same fits as one by one, in FSL-MRS's folder, whatever happens on the way."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

import fsl_mrs_dl
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import DataError, OptionError, OutputError
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti, volume
from fsl_mrs_dl.mrsi import assemble, chunks, plan, scratch
from fsl_mrs_dl.mrsi import job as job_module
from fsl_mrs_dl.mrsi import run as run_module
from fsl_mrs_dl.mrsi.job import VolumeOptions
from fsl_mrs_dl.results import layout, model_file

GRID = (5, 4, 2)
AFFINE = np.array([[-8.0, 0, 0, 20], [0, 9.0, 1, -15], [0, -1, 10.0, 5], [0, 0, 0, 1]])
N = int(np.prod(GRID))
CLASSICAL = FitOptions(init="classical", device="cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory, sim_basis, simulate):
    """A volume of 40 voxels, one of zeros and one with NaN, with its truth; a mask without the last slice's corner; the
    basis set."""
    folder = tmp_path_factory.mktemp("volume")
    made = simulate(N, snr=40, seed=4)
    fids = made.fids.astype(np.complex64)
    fids[7], fids[11, 3] = 0, np.nan
    data = nifti.MrsData(fids.reshape(*GRID, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE)
    nifti.save(folder / "mrsi.nii.gz", data)
    mask = np.ones(GRID, np.uint8)
    mask[4, 3, 1] = 0
    nib.save(nib.Nifti1Image(mask, AFFINE), folder / "mask.nii.gz")
    sim_basis.save(folder / "basis", info="simulated")
    return folder, made, fids, mask.astype(bool).reshape(-1)


def words(folder, output, *more):
    return [
        "mrsi",
        "--data",
        str(folder / "mrsi.nii.gz"),
        "--basis",
        str(folder / "basis"),
        "--output",
        str(output),
        "--device",
        "cpu",
        "--spectral-model",
        "fsl-mrs",
        "--internal_ref",
        "Cr",
        *more,
    ]


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """Results of the whole job, 8 voxels a chunk."""
    folder = small[0]
    out = tmp_path_factory.mktemp("results") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "CHUNK", 8)
        patch.setattr(plan.prepare, "__kwdefaults__", {**plan.prepare.__kwdefaults__, "chunk": 8})
        assert main(words(folder, out, "--mask", str(folder / "mask.nii.gz"), "--combine", "Glu", "Gln")) == 0
    return out


def read(path):
    image = nib.load(path)
    return np.asarray(image.dataobj), image


def is_input(path: Path) -> bool:
    """Whether a file is a link, or what was fitted: the data and the basis set."""
    return path.is_symlink() or path.name == "data.nii.gz" or path.parent.name == "basis"


def everything(folder: Path) -> dict[str, bytes]:
    """Content of all files; of compressed ones what is in them, of options and pictures nothing."""
    import gzip

    out = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not is_input(path) and path.suffix not in (".txt", ".png"):
            content = path.read_bytes()
            out[str(path.relative_to(folder))] = gzip.decompress(content) if path.suffix == ".gz" else content
    return out


# -- what is written -----------------------------------------------------------------------------------------------


def test_what_a_paper_needs_is_that_of_the_volume(run):
    items = pd.read_csv(run / "mrsinmrs.csv")
    text = (run / "methods.md").read_text(encoding="utf-8")
    x, y, z = nib.load(run / "quality" / "misfit.nii.gz").shape[:3]
    assert items["value"].str.contains(f"matrix {x} x {y} x {z}").any()
    assert "voxels spread over the volume" in text and "fslmrsdl" in (run / "references.bib").read_text()


def test_the_folder_is_fsl_mrs_s_with_more(run, sim_basis):
    names = [*sim_basis.names, "Glu+Gln"]
    for kind in ("raw", "internal", "ml", "posterior_mean"):
        assert {path.name for path in (run / "concs" / kind).iterdir()} == {f"{name}.nii.gz" for name in names}
    for name in (
        "fit/fit",
        "fit/baseline",
        "fit/residual",
        "qc/NAA_snr",
        "qc/NAA_fwhm",
        "uncertainties/NAA_sd",
        "nuisance/p0",
        "nuisance/p1",
        "nuisance/shift_group0",
        "nuisance/gamma_group0",
        "nuisance/sigma_group0",
        "nuisance/combined_lw_group0",
        "quality/misfit",
        "quality/failed",
        "quality/ood_score",
        "uncertainties/NAA_crlb_sd",
        "uncertainties/NAA_posterior_sd",
        "uncertainties/NAA_prior_pull",
        "uncertainties/NAA_ratio_sd",
        "flags/NAA_mostly_prior",
    ):
        assert (run / f"{name}.nii.gz").is_file(), name
    about = json.loads((run / "misc" / "mrs_fit_parameters.json").read_text())
    assert about["metabolites"] == list(sim_basis.names) and about["metabolites_inc_comb"] == names
    assert json.loads((run / "misc" / "metabolite_groups.json").read_text()) == {"0": list(sim_basis.names)}
    values, image = read(run / "concs" / "raw" / "NAA.nii.gz")
    assert values.shape == GRID and np.allclose(image.affine, AFFINE)
    assert (run / "fit_avg.png").is_file() and (run / "options.txt").read_text().count("--mask")
    assert not list(run.parent.glob(".*"))


def test_the_tree_names_what_is_there(run):
    tree = (run / layout.TREE).read_text()
    for one in layout.QUANTITIES:
        there = (run / one.path("NAA")).is_file()
        assert (f"({one.key})" in tree) == there, one.key
        if there and not one.per_metab:
            assert (run / layout.OF_VOXEL.format(metab="NAA") / one.path().split("/")[-1]).is_file()
    assert set(json.loads((run / layout.COLOURS).read_text())) >= {one.key for one in layout.QUANTITIES}


def test_the_maps_are_the_fits_of_the_spectra(run, small, sim_basis):
    _, _, fids, inside = small
    index = np.flatnonzero(inside)
    fit = fsl_mrs_dl.quantify(
        fids[index], sim_basis, dwelltime=sim_basis.dwelltime, spec_freq_mhz=sim_basis.spec_freq_mhz, device="cpu"
    )
    for name in ("NAA", "Cr", "Ins"):
        column = sim_basis.names.index(name)
        found = read(run / "concs" / "ml" / f"{name}.nii.gz")[0].reshape(-1)[index]
        np.testing.assert_allclose(
            found, np.nan_to_num(fit.conc[:, column]), rtol=2e-3, atol=1e-3 * np.nanmean(fit.conc)
        )
        sd = read(run / "uncertainties" / f"{name}_crlb_sd.nii.gz")[0].reshape(-1)[index]
        np.testing.assert_allclose(sd, np.nan_to_num(fit.crlb_sd[:, column]), rtol=2e-2)
    assert read(run / "concs" / "raw" / "NAA.nii.gz")[0].reshape(-1)[~inside] == 0


def test_what_cannot_be_fitted_is_marked_and_the_rest_is_fitted(run):
    failed = read(run / "quality" / "failed.nii.gz")[0].reshape(-1)
    fitted = read(run / "quality" / "fitted.nii.gz")[0].reshape(-1)
    assert failed[7] == failed[11] == 2 and (np.delete(failed, [7, 11]) == 0).all()
    assert fitted.sum() == N - 3 and read(run / "uncertainties" / "NAA_sd.nii.gz")[0].reshape(-1)[7] == 999
    for path in run.rglob("*.nii.gz"):
        if "misc" not in path.parts and not is_input(path):
            assert np.isfinite(read(path)[0]).all(), path


def test_fit_and_residual_are_the_data(run, small):
    _, _, fids, inside = small
    parts = [nifti.load(run / "fit" / f"{name}.nii.gz") for name in ("fit", "residual", "baseline")]
    fit, residual, baseline = (part.fids.reshape(N, -1) for part in parts)
    good = inside.copy()
    good[[7, 11]] = False
    np.testing.assert_allclose((fit + residual)[good], fids[good], atol=1e-5 * np.abs(fids[good]).max())
    assert not fit[~good].any() and not baseline[~good].any()
    # The data of a voxel that could not be fitted are still there to be looked at.
    assert not residual[~inside].any() and np.isfinite(residual).all() and residual[11].any()
    assert parts[0].dwelltime == pytest.approx(5e-4) and np.allclose(parts[0].affine, AFFINE)
    # What is left is noise, and less than the data hold.
    spec = units.fid_to_spec(residual[good])
    assert 0.5 < np.std(spec[:, :200].real) / np.std(units.fid_to_spec(fids[good])[:, :200].real) < 1.5


def test_a_viewer_gets_the_parts_of_a_fit_without_torch(run, sim_basis):
    code = "import sys; from fsl_mrs_dl.results import model_file; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    found = model_file.Evaluator.open(run)
    voxel = (2, 1, 1)
    stored = np.asarray(nib.load(run / "fit" / "fit.nii.gz").dataobj)[voxel]
    baseline = np.asarray(nib.load(run / "fit" / "baseline.nii.gz").dataobj)[voxel]
    parts = [found.contribution(voxel, name) for name in sim_basis.names]
    np.testing.assert_allclose(sum(parts) + baseline, stored, atol=1e-4 * np.abs(stored).max())
    np.testing.assert_allclose(
        found.contribution(voxel, "Glu+Gln"), sum(parts[sim_basis.names.index(n)] for n in ("Glu", "Gln")), rtol=1e-6
    )
    assert found.contribution((4, 3, 1), "NAA") is None and found.band((4, 3, 1)) is None
    assert found.contribution((2, 3, 1), "NAA") is not None and found.contribution((9, 0, 0), "NAA") is None
    with pytest.raises(DataError, match="Unobtainium: was not fitted"):
        found.contribution(voxel, "Unobtainium")
    assert model_file.Evaluator.open(run.parent) is None


def test_the_band_is_as_wide_as_fits_scatter(sim_basis, simulate, tmp_path):
    made = simulate(300, snr=50, seed=3, alike=True)
    data = nifti.MrsData(
        made.fids.reshape(300, 1, 1, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE
    )
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    job, _ = plan.prepare(tmp_path / "mrsi.nii.gz", sim_basis, tmp_path / "out", CLASSICAL)
    run_module.fit_all(job)
    (tmp_path / "out").mkdir()
    assemble.write_results(tmp_path / "out", job, options_text="")
    stored = np.asarray(nib.load(tmp_path / "out" / "fit" / "fit.nii.gz").dataobj).reshape(300, -1)
    hz, sd = model_file.Evaluator.open(tmp_path / "out").band((0, 0, 0))
    n = stored.shape[1]
    # Files hold the conjugate of what has its frequencies ascending; first points are halved as everywhere.
    fids = stored.conj().copy()
    fids[:, 0] /= 2
    spec = np.fft.fft(fids, axis=1)
    bins = np.round(hz * n * sim_basis.dwelltime).astype(int) % n
    scatter = spec.real[:, bins].std(0)
    assert len(hz) > 100 and (np.diff(hz) > 0).all()
    assert np.median(scatter / sd) == pytest.approx(1, abs=0.08) and ((scatter / sd > 0.7) & (scatter / sd < 1.4)).all()


# -- on the way ----------------------------------------------------------------------------------------------------


def test_any_way_gives_the_same_to_the_last_digit(run, small, tmp_path, monkeypatch):
    folder = small[0]
    settings = FitOptions(combine=("Glu+Gln",), internal_ref=("Cr",), metab_groups=(0,) * 10, device="cpu")
    from fsl_mrs_dl.io.basis import Basis

    basis = Basis.load(folder / "basis")
    # What a paper needs is written by the command.
    of_command = ("mrsinmrs.csv", "methods.md", "references.bib")
    expected = {name: content for name, content in everything(run).items() if name not in of_command}
    for name, options in (
        ("one", {"workers": 1}),
        ("two", {"workers": 3}),
        ("processes", {"parallel": "local", "workers": 2}),
    ):
        if name == "processes":
            pytest.importorskip("dask.distributed")
        job, _ = plan.prepare(
            folder / "mrsi.nii.gz", basis, tmp_path / name, settings, mask=folder / "mask.nii.gz", chunk=8
        )
        run_module.fit_all(job, **options, say=lambda text: None)
        (tmp_path / name).mkdir()
        assemble.write_results(tmp_path / name, job, options_text="")
        found = everything(tmp_path / name)
        assert found.keys() == expected.keys()
        assert [key for key in found if found[key] != expected[key]] == []


def test_the_number_of_threads_changes_nothing(run, small, tmp_path, sim_basis):
    """Neither of the look ahead, from which the prior comes, nor of what is fitted again from its neighbours."""
    folder = small[0]
    found, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            out = tmp_path / str(threads)
            assert main(words(folder, out, "--mask", str(folder / "mask.nii.gz"), "--combine", "Glu", "Gln")) == 0
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        chunks._MODELS.clear()
        found.append(everything(out))
    assert found[0].keys() == found[1].keys() and [key for key in found[0] if found[0][key] != found[1][key]] == []


def test_a_run_that_is_killed_goes_on(small, run, tmp_path):
    folder = small[0]
    out = tmp_path / "out"
    code = (
        "import sys, time; from fsl_mrs_dl.mrsi import chunks, plan; from fsl_mrs_dl.cli.main import main\n"
        "plan.prepare.__kwdefaults__['chunk'] = 8\n"
        "plain = chunks.fit_voxels\n"
        "def slow(*args):\n    time.sleep(0.3)\n    return plain(*args)\n"
        "chunks.fit_voxels = slow if sys.argv[1] == 'slow' else plain\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    more = ["--mask", str(folder / "mask.nii.gz"), "--combine", "Glu", "Gln", "--parallel-workers", "1"]
    call = [sys.executable, "-c", code]
    for kind in (signal.SIGKILL, signal.SIGINT):
        extra = ["--resume"] if kind == signal.SIGINT else []
        process = subprocess.Popen(
            [*call, "slow", *words(folder, out, *more, *extra)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs, and those of a test that is one of several at once, ignore interruptions.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        scratch = job_module.scratch_of(out)
        wanted = 2 if kind == signal.SIGKILL else 3
        for _ in range(6000):
            if len(list(scratch.glob("chunk-*.npz"))) >= wanted:
                break
            time.sleep(0.05)
        process.send_signal(kind)
        _, error = process.communicate(timeout=300)
        done = len(list(scratch.glob("chunk-*.npz")))
        assert wanted <= done < 5 and not out.exists()
    assert process.returncode == 130 and "--resume goes on" in error and error.count("\n") <= 2
    # Beginning anew is not done unasked.
    again = subprocess.run([*call, "quick", *words(folder, out, *more)], capture_output=True, text=True)
    assert again.returncode == 2 and "--resume goes on with it" in again.stderr
    other = subprocess.run(
        [*call, "quick", *words(folder, out, *more, "--resume", "--baseline", "off")], capture_output=True, text=True
    )
    assert other.returncode == 2 and "another baseline" in other.stderr
    before = {path.name: path.stat().st_mtime_ns for path in scratch.glob("chunk-*.npz")}
    last = subprocess.run([*call, "quick", *words(folder, out, *more, "--resume")], capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert len(before) == done and not scratch.exists()
    assert (out / "fit_avg.png").is_file()
    found, expected = everything(out), everything(run)
    assert found.keys() == expected.keys() and [key for key in found if found[key] != expected[key]] == []


def test_a_voxel_that_makes_the_fit_raise_is_marked(small, tmp_path, monkeypatch, sim_basis):
    folder, _, fids, _ = small
    plain = chunks.fit_scaled

    def brittle(given, *args, **options):
        # Sized as the voxel that is to fail: nothing else tells it apart.
        if len(given) and np.isclose(np.abs(given).sum(1) / abs(given[0, 0]), poison / abs(given[0, 0])).any():
            raise RuntimeError("no")
        return plain(given, *args, **options)

    job, _ = plan.prepare(
        folder / "mrsi.nii.gz", sim_basis, tmp_path / "out", CLASSICAL, VolumeOptions(spectra=False), chunk=16
    )
    poison = np.abs(fids[20].astype(complex) * job.fid_scale).sum()
    monkeypatch.setattr(chunks, "fit_scaled", brittle)
    run_module.fit_all(job, workers=1)
    (failed,) = chunks.gather(job, ["failed"])
    assert set(job.index[failed == 2]) == {11, 20}
    # A fault of ours is none of the voxels'.
    (job.scratch / "chunk-00000.npz").unlink()
    monkeypatch.setattr(chunks, "fit_scaled", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_module.fit_all(job, workers=1)


def test_a_chunk_without_anything_to_fit(sim_basis, simulate, tmp_path):
    fids = simulate(6, snr=40, seed=4).fids.astype(np.complex64)
    fids[:3] = np.nan
    data = nifti.MrsData(fids.reshape(6, 1, 1, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE)
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    job, _ = plan.prepare(tmp_path / "mrsi.nii.gz", sim_basis, tmp_path / "out", CLASSICAL, chunk=3)
    run_module.fit_all(job)
    (tmp_path / "out").mkdir()
    seen = assemble.write_results(tmp_path / "out", job, options_text="")
    assert seen["failed"].tolist() == [2, 2, 2, 0, 0, 0] and "3 voxels: could not be fitted" in assemble.summary(
        job, seen
    )


def test_medians_of_a_volume_are_those_of_usable_fits():
    """Without a clean voxel, fits that leave most of a spectrum unexplained were in the medians."""
    values = {
        "names": ["NAA"],
        "failed": np.array([0, 0, 0, 1]),
        "ood-score": np.array([2.0, 2.0, 2.0, 0.5]),
        "usable": np.array([1, 1, 0, 0]),
        "doubt": np.zeros(4, int),
        "raw-concentrations": np.array([[2.0], [4.0], [90.0], [70.0]]),
        "sd": np.full((4, 1), 5.0),
    }
    job = SimpleNamespace(options=SimpleNamespace(internal_ref=("Cr", "PCr")), scaling=None)
    lines = assemble.summary(job, values).splitlines()
    assert lines[0] == "4 of 4 voxels fitted, none of them clean; medians over 2 usable ones:"
    assert lines[3].split() == ["NAA", "3", "5"]
    none = assemble.summary(job, values | {"usable": np.zeros(4)}).splitlines()
    assert none[0] == "4 of 4 voxels fitted, none of them usable; medians over 3 that converged:"


def test_starts_of_neighbours_mend_a_fit_that_went_astray(sim_basis, simulate, tmp_path, monkeypatch):
    made = simulate(27, snr=60, seed=8, alike=True)
    data = nifti.MrsData(
        made.fids.reshape(3, 3, 3, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE
    )
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    sharing = VolumeOptions(spectra=False, share_initial_values=True)
    job, _ = plan.prepare(tmp_path / "mrsi.nii.gz", sim_basis, tmp_path / "out", CLASSICAL, sharing, chunk=9)
    plain = chunks.initial_values_of

    class Wrong:
        name = "wrong"

        def for_model(self, model):
            return self

        def __call__(self, spec, model, names):
            found = plain(job)(spec, model, names)
            at = sum(list(model.theta_sizes.values())[: list(model.theta_sizes).index("eps")])
            found[4, :, at] += 2 * torch.pi * 60  # half a ppm off
            return found

    wrong = Wrong()
    monkeypatch.setattr(chunks, "initial_values_of", lambda job: wrong)
    run_module.fit_all(replace(job, volume_options=VolumeOptions(spectra=False)), workers=1)
    (bad,) = chunks.gather(job, ["cost"])
    monkeypatch.setattr(chunks, "initial_values_of", plain)
    told: list[str] = []
    run_module.fit_all(job, workers=1, say=told.append)
    (good,) = chunks.gather(job, ["cost"])
    lost = [4, 13, 22]
    assert (bad[lost] > 2 * np.median(bad)).all() and (good < 1.5 * np.median(good)).all() and (good <= bad).all()
    assert told and told[0].startswith("3 of ")


# -- what lies on disk in between ----------------------------------------------------------------------------------


class Malicious:
    """Pickled, it writes a file as soon as it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def unfinished(small, tmp_path, sim_basis):
    """A run of which the first chunk of five is done: its job, and what resumes it."""
    folder = small[0]

    def prepare(**more):
        return plan.prepare(
            folder / "mrsi.nii.gz", sim_basis, tmp_path / "out", CLASSICAL, VolumeOptions(), chunk=8, **more
        )[0]

    job = prepare()
    chunks.fit_chunk(job, 0)
    return job, prepare


def test_a_resumed_job_is_the_one_that_was_interrupted(unfinished):
    job, prepare = unfinished
    again = prepare(resume=True)
    assert {path.suffix for path in job.scratch.iterdir()} == {".json", ".npz", ".npy", ".nii"}
    np.testing.assert_array_equal(again.index, job.index)
    np.testing.assert_array_equal(again.pilot, job.pilot)
    assert again.fid_scale == job.fid_scale and again.conjugated == job.conjugated and again.done() == [0]
    assert again.signature == job.signature and again.volume.file == job.volume.file
    assert job.prior is not None and set(vars(again.prior)) == set(vars(job.prior))
    for name, value in vars(job.prior).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again.prior, name), value)
        else:
            assert getattr(again.prior, name) == value and type(getattr(again.prior, name)) is type(value)


def test_neighbours_may_be_asked_for_when_a_run_is_resumed(unfinished, sim_basis, small):
    job, _ = unfinished
    output = job.scratch.with_name("out")
    sharing = VolumeOptions(share_initial_values=True)
    again, _ = plan.prepare(small[0] / "mrsi.nii.gz", sim_basis, output, CLASSICAL, sharing, chunk=8, resume=True)
    assert again.volume_options.share_initial_values


@pytest.mark.parametrize("name", ["job.json", "job.npz", "job.pickle"])
@pytest.mark.parametrize("how", ["pickle", "array of objects", "nothing of the kind"])
def test_a_stranger_s_job_is_refused_and_never_executed(unfinished, tmp_path, name, how):
    job, prepare = unfinished
    target = tmp_path / "executed"
    if name == "job.pickle":  # what earlier versions kept
        (job.scratch / "job.json").unlink()
    plant(job.scratch / name, target, how)
    with pytest.raises(OutputError) as caught:
        prepare(resume=True)
    text = caught.value.text(lambda option: f"--{option}")
    assert text.endswith("begin anew with --overwrite.") and "\n" not in text and str(tmp_path / "out") in text
    assert not target.exists()
    assert prepare(overwrite=True).done() == []


@pytest.mark.parametrize("name", ["chunk-00000.npz", "chunk-00000.npy", "patch-0.npz"])
@pytest.mark.parametrize("how", ["pickle", "array of objects", "nothing of the kind"])
def test_a_stranger_s_chunk_is_refused_and_never_executed(unfinished, tmp_path, name, how):
    job, prepare = unfinished
    target = tmp_path / "executed"
    run_module.fit_all(job, workers=1)
    plant(job.scratch / name, target, how)
    again = prepare(resume=True)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError) as caught:
        run_module.fit_all(again, workers=1)
        assemble.write_results(tmp_path / "out", again, options_text="")
    text = caught.value.text(lambda option: f"--{option}")
    stem = name.split(".")[0]
    assert f"{name}: cannot be read (" in text and text.endswith(f"delete {stem}.* there and go on with --resume.")
    assert "\n" not in text and not target.exists()


@pytest.mark.parametrize("key", ["residual-sd", "of another kind"])
def test_a_run_of_another_version_is_begun_anew(unfinished, key):
    job, prepare = unfinished
    path = job.scratch / "job.json"
    about = json.loads(path.read_text())
    # What chunks hold is part of the format, so that it cannot change unnoticed.
    about["format"] = [one for one in about["format"] if one != key] if key == "residual-sd" else 5
    path.write_text(json.dumps(about))
    with pytest.raises(OutputError, match=r"out: the unfinished run of it cannot be read \(job.json is of another"):
        prepare(resume=True)
    assert prepare(overwrite=True).done() == []


def test_a_chunk_that_lacks_a_map_is_fitted_again(unfinished, tmp_path):
    job, _ = unfinished
    arrays = scratch.load_arrays(job.file(0))
    del arrays["residual-sd"]
    scratch.save_arrays(job.file(0), arrays)
    with pytest.raises(
        OutputError, match=r"chunk-00000.npz: cannot be read \(has no residual-sd\); delete chunk-00000"
    ):
        chunks.gather(job, ["noise-sd", "residual-sd"])


def plant(path: Path, target: Path, how: str) -> None:
    """Put at ``path`` what would write ``target`` if it were unpickled, or random bytes."""
    if how == "pickle":
        path.write_bytes(pickle.dumps(Malicious(target)))
    elif how == "nothing of the kind":
        path.write_bytes(b"\x00PK\x03 of no format")
    else:
        values = np.array([Malicious(target)], dtype=object)
        with path.open("wb") as file:
            if path.suffix == ".npz":
                np.savez(file, index=values, pilot=values, cost=values)
            else:
                np.save(file, values, allow_pickle=True)


def test_objects_are_not_kept(tmp_path):
    with pytest.raises(TypeError, match="what: objects are not stored"):
        scratch.save_arrays(tmp_path / "a.npz", {"what": np.array([{}], dtype=object)})
    assert not list(tmp_path.iterdir())


# -- a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch):
    """In place of dask and of a SLURM cluster: what is opened and closed, in order."""
    events = []

    class Cluster:
        def __init__(self, config_name):
            events.append(f"cluster {config_name}")

        def scale(self, n):
            events.append(f"{n} nodes")

        def close(self):
            events.append("cluster closed")

    class Client:
        def __init__(self, *clusters, **options):
            events.append("client")

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            events.append("client closed")

        def map(self, function, parts, pure):
            return [partial(function, part) for part in parts]

    class Future:
        def __init__(self, call):
            self.result = call

    distributed, slurm = ModuleType("dask.distributed"), ModuleType("dask_jobqueue.slurm")
    distributed.Client, distributed.as_completed = Client, lambda futures: map(Future, futures)
    slurm.SLURMCluster = Cluster
    for module in (distributed, slurm):
        monkeypatch.setitem(sys.modules, module.__name__.split(".")[0], ModuleType(module.__name__.split(".")[0]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    settings = {"jobqueue.slurm": {"cores": None, "shared-temp-directory": None}}
    settings["jobqueue.fsl_mrsi"] = {"cores": 4, "log_directory": "logs"}
    sys.modules["dask"].config = SimpleNamespace(get=settings.get, set=settings.update)
    return SimpleNamespace(events=events, Cluster=Cluster, Client=Client, settings=settings)


OPENED, CLOSED = ["cluster fsl_mrsi", "3 nodes", "client"], ["client closed", "cluster closed"]


@pytest.fixture
def five_chunks(monkeypatch):
    """A job of five chunks of which nothing is fitted."""
    job = SimpleNamespace(
        n_chunks=5, done=list, options=CLASSICAL, volume_options=VolumeOptions(), n_voxels=lambda chunks: len(chunks)
    )
    monkeypatch.setattr(run_module, "fit_chunk", lambda job, k: k)
    return job


def test_a_cluster_is_closed_when_all_is_done(cluster, five_chunks):
    counts, said = [], []
    run_module.fit_all(five_chunks, parallel="cluster", workers=3, progress=counts.append, say=said.append)
    assert counts == [0, 1, 2, 3, 4] and said == ["Fitting 5 chunks on 3 nodes."]
    assert cluster.events == OPENED + CLOSED
    # What a configuration of an older dask-jobqueue does not have is SLURM's.
    whole = {"cores": 4, "shared-temp-directory": None, "log-directory": "logs"}
    assert cluster.settings["jobqueue.fsl_mrsi"] == whole


@pytest.mark.parametrize("where", ["chunk", "progress", "client", "client's end"])
def test_a_cluster_is_closed_whatever_raises(cluster, five_chunks, monkeypatch, where):
    def broken(*args, **options):
        raise ZeroDivisionError(where)

    fit = {"parallel": "cluster", "workers": 3, "say": lambda text: None}
    if where == "chunk":
        monkeypatch.setattr(run_module, "fit_chunk", broken)
    elif where == "progress":
        fit["progress"] = broken
    elif where == "client":
        monkeypatch.setattr(cluster.Client, "__init__", broken)
    else:
        monkeypatch.setattr(cluster.Client, "__exit__", broken)
    with pytest.raises(ZeroDivisionError, match=where):
        run_module.fit_all(five_chunks, **fit)
    assert cluster.events[-1] == "cluster closed"
    assert where.startswith("client") or cluster.events == OPENED + CLOSED


def test_local_processes_are_closed_when_a_chunk_raises(cluster, five_chunks, monkeypatch):
    monkeypatch.setattr(run_module, "fit_chunk", lambda job, k: 1 // (1 - k))
    with pytest.raises(ZeroDivisionError):
        run_module.fit_all(five_chunks, parallel="local", workers=2, say=lambda text: None)
    assert cluster.events == ["client", "client closed"]


def test_a_cluster_that_cannot_be_configured_is_an_error_of_one_line(cluster, five_chunks, monkeypatch):
    def unknown(self, config_name):
        raise ValueError("no queue")

    monkeypatch.setattr(cluster.Cluster, "__init__", unknown)
    with pytest.raises(OptionError) as caught:
        run_module.fit_all(five_chunks, parallel="cluster")
    assert caught.value.text(lambda option: f"--{option}").startswith("--parallel cluster: dask-jobqueue has no")


# -- shapes and options --------------------------------------------------------------------------------------------


def test_a_slab_of_one_slice_and_a_line_of_voxels(small, sim_basis, tmp_path):
    _, _, fids, _ = small
    for shape in ((6, 1, 1), (3, 2, 1)):
        out = tmp_path / "x".join(map(str, shape))
        data = nifti.MrsData(
            fids[:6].reshape(*shape, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE
        )
        nifti.save(tmp_path / "mrsi.nii", data)
        job, _ = plan.prepare(tmp_path / "mrsi.nii", sim_basis, out, CLASSICAL)
        run_module.fit_all(job)
        out.mkdir()
        assemble.write_results(out, job, options_text="")
        assert read(out / "concs" / "raw" / "NAA.nii.gz")[0].shape == shape[: 3 if shape[2] > 1 else 3]
        assert nifti.load(out / "fit" / "fit.nii.gz").fids.shape == (*shape, fids.shape[1])


def test_a_prior_learnt_from_the_volume(sim_basis, simulate, tmp_path):
    made = simulate(80, snr=15, seed=2)
    data = nifti.MrsData(
        made.fids.reshape(5, 4, 4, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=AFFINE
    )
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    assert (
        main(
            [
                "mrsi",
                "--data",
                str(tmp_path / "mrsi.nii.gz"),
                "--basis",
                str(save_basis(sim_basis, tmp_path)),
                "--output",
                str(tmp_path / "out"),
                "--prior",
                "volume",
                "--estimate",
                "posterior_mean",
                "--no_spectra",
                "--no_rescale",
                "--init",
                "classical",
            ]
        )
        == 0
    )
    column = sim_basis.names.index("Gln")
    scale = made.conc[:, column].mean()
    found = {
        kind: read(tmp_path / "out" / "concs" / kind / "Gln.nii.gz")[0].reshape(-1)
        for kind in ("raw", "ml", "posterior_mean")
    }
    np.testing.assert_array_equal(found["raw"], found["posterior_mean"])
    found = {kind: values / values.mean() * scale for kind, values in found.items()}
    error = {kind: np.sqrt(np.mean((values - made.conc[:, column]) ** 2)) for kind, values in found.items()}
    assert error["posterior_mean"] < 0.8 * error["ml"]
    assert not (tmp_path / "out" / "fit").exists()


def save_basis(basis, folder):
    basis.save(folder / "basis", info="simulated")
    return folder / "basis"


def test_bad_input_gets_one_line(small, tmp_path, capsys):
    folder, _, fids, _ = small

    def fails(*more, expected, given=None):
        given = given or words(folder, tmp_path / "out", *more)
        assert main(given) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and all(part in error for part in expected), error
        assert not (tmp_path / "out").exists() and not job_module.scratch_of(tmp_path / "out").exists()

    nib.save(nib.Nifti1Image(np.full(GRID, -1, np.int16), AFFINE), tmp_path / "empty.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), AFFINE), tmp_path / "other.nii.gz")
    only = np.zeros(GRID, np.uint8)
    only.reshape(-1)[7] = 1
    nib.save(nib.Nifti1Image(only, AFFINE), tmp_path / "zero.nii.gz")
    fails("--mask", str(tmp_path / "empty.nii.gz"), expected=["empty.nii.gz", "no voxel in it"])
    fails("--mask", str(tmp_path / "other.nii.gz"), expected=["other.nii.gz", "3 x 3 x 3", "5 x 4 x 2"])
    fails("--mask", str(tmp_path / "none.nii.gz"), expected=["none.nii.gz"])
    fails("--mask", str(tmp_path / "zero.nii.gz"), expected=["nothing to fit"])
    fails("--parallel", "moon", expected=["--parallel moon", "off, local, cluster"])
    fails("--parallel-workers", "0", expected=["--parallel-workers 0"])
    fails("--max-memory", "0.1", expected=["--max-memory 0.1", "GiB"])
    fails("--resume", expected=["no unfinished run"])
    data = nifti.load(folder / "mrsi.nii.gz")
    more = replace(
        data,
        fids=np.stack([data.fids, data.fids], -1),
        dim_tags=("DIM_DYN",),
        header={**data.header, "dim_5": "DIM_DYN"},
    )
    nifti.save(tmp_path / "dyn.nii.gz", more)
    given = words(folder, tmp_path / "out")
    given[given.index("--data") + 1] = str(tmp_path / "dyn.nii.gz")
    fails(expected=["DIM_DYN has 2 elements"], given=given)
    (tmp_path / "cut.nii.gz").write_bytes((folder / "mrsi.nii.gz").read_bytes()[:20000])
    given[given.index("--data") + 1] = str(tmp_path / "cut.nii.gz")
    fails(expected=["cut.nii.gz"], given=given)


def test_results_are_replaced_only_when_asked(run, small, capsys):
    folder = small[0]
    assert main(words(folder, run)) == 2
    assert "exists already" in capsys.readouterr().err
    keep = run / "concs" / "notes.doc"
    keep.write_text("mine")
    try:
        assert main(words(folder, run, "--overwrite")) == 2
        assert "not a result of this program" in capsys.readouterr().err and keep.is_file()
    finally:
        keep.unlink()


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_voxels_are_read_as_the_whole_file_is(tmp_path, rng, ending, kind):
    fids = (rng.normal(size=(4, 3, 2, 20)) + 1j * rng.normal(size=(4, 3, 2, 20))).astype(kind)
    nifti.save(tmp_path / f"a{ending}", nifti.MrsData(fids, 1e-3, 123.2, "1H", affine=AFFINE))
    (tmp_path / "scratch").mkdir()
    found = volume.open_volume(tmp_path / f"a{ending}", tmp_path / "scratch")
    assert found.grid == (4, 3, 2) and found.n_points == 20 and found.about.spec_freq_mhz == 123.2
    for index in (np.arange(24), np.array([23, 0, 5]), np.array([7])):
        np.testing.assert_array_equal(found.fids(index), fids.reshape(24, 20)[index])


def test_spectra_are_written_plane_by_plane(tmp_path, rng, monkeypatch):
    fids = (rng.normal(size=(24, 20)) + 1j * rng.normal(size=(24, 20))).astype(np.complex64)
    nifti.save(tmp_path / "a.nii", nifti.MrsData(fids.reshape(4, 3, 2, 20), 1e-3, 123.2, "1H", affine=AFFINE))
    found = volume.open_volume(tmp_path / "a.nii", tmp_path)
    index = np.array([1, 2, 20])
    monkeypatch.setattr(volume, "_BLOCK_BYTES", 24 * 8 * 7)
    volume.write_spectra(tmp_path / "b.nii.gz", found, lambda part: (index, fids[index].conj().T[part]))
    again = nifti.load(tmp_path / "b.nii.gz")
    expected = np.zeros_like(fids)
    expected[index] = fids[index]
    np.testing.assert_array_equal(again.fids.reshape(24, 20), expected)
    assert again.dwelltime == pytest.approx(1e-3) and again.nucleus == "1H" and np.allclose(again.affine, AFFINE)


def test_memory_decides_how_many_are_fitted_at_once():
    assert run_module.workers_for("off", 8, 64.0) == 8
    few = run_module.workers_for("off", 8, 2.0)
    assert 1 <= few < 8
    with pytest.raises(OptionError, match="GiB are needed"):
        run_module.workers_for("off", 1, 0.2)


def test_scratch_lies_beside_the_output(tmp_path):
    assert job_module.scratch_of(tmp_path / "a" / "out") == (tmp_path / "a" / ".out-unfinished").resolve()
    with pytest.raises(OutputError, match="no unfinished run"):
        plan.prepare(tmp_path / "x.nii", None, tmp_path / "out", resume=True)


@pytest.mark.with_fsl_mrs
def test_fsl_mrsi_writes_the_same_maps_beside_its_own(small, run, tmp_path):
    folder = small[0]
    out = tmp_path / "out"
    command = Path(sys.executable).with_name("fsl_mrsi")
    call = [
        command,
        "--data",
        folder / "mrsi.nii.gz",
        "--basis",
        folder / "basis",
        "--mask",
        folder / "mask.nii.gz",
        "--output",
        out,
        "--algo",
        "dlquant",
        "--dl-device",
        "cpu",
        "--parallel",
        "off",
        "--internal_ref",
        "Cr",
        "--combine",
        "Glu",
        "Gln",
    ]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = [
        {str(path.relative_to(place)) for path in place.rglob("*.nii.gz") if not is_input(path)} for place in (run, out)
    ]
    assert files[0] == files[1]
    for name in (
        "concs/internal/NAA",
        "concs/ratio/NAA",
        "concs/ratio/Glu+Gln",
        "uncertainties/NAA_ratio_sd",
        "uncertainties/NAA_sd",
    ):
        ours, theirs = (read(place / f"{name}.nii.gz")[0] for place in (run, out))
        np.testing.assert_allclose(theirs, ours, rtol=0.03, atol=1e-6, err_msg=name)  # they do not count parameters
    # Expected concentrations are brought to the data's scale by other voxels.
    ours, theirs = (read(place / "concs" / "posterior_ratio" / "Gln.nii.gz")[0] for place in (run, out))
    np.testing.assert_allclose(theirs, ours, rtol=0.15)
    for name in ("quality/failed", "flags/NAA_mostly_prior"):
        np.testing.assert_array_equal(*(read(place / f"{name}.nii.gz")[0] for place in (run, out)))
    found, voxel = model_file.Evaluator.open(out), (2, 1, 1)
    stored = np.asarray(nib.load(out / "fit" / "fit.nii.gz").dataobj)[voxel]
    baseline = np.asarray(nib.load(out / "fit" / "baseline.nii.gz").dataobj)[voxel]
    parts = sum(found.contribution(voxel, name) for name in found.names)
    np.testing.assert_allclose(parts + baseline, stored, atol=1e-3 * np.abs(stored).max())
    assert (out / layout.TREE).read_text() == (run / layout.TREE).read_text()


def test_files_that_are_not_there_are_named_before_libraries_are_loaded(tmp_path):
    code = "import sys; from fsl_mrs_dl.cli.main import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    words = ["mrsi", "--data", tmp_path / "x.nii.gz", "--basis", tmp_path, "--output", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.stdout == "2 False\n" and "x.nii.gz: no such file; give the path of a NIfTI-MRS file" in done.stderr
