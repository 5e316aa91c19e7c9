"""What the viewer reads, computes and draws without FSLeyes: folders of results, maps, spectra, pictures, messages."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers import made_results

from fsl_mrs_dl.cli import main
from fsl_mrs_dl.core.errors import DataError, OptionError, OutputError
from fsl_mrs_dl.results import layout
from fsleyes_plugin_dl import colours, comparison, map_display, quantities, spectra, view
from fsleyes_plugin_dl.render import render
from fsleyes_plugin_dl.results_folder import Results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results in all forms, and a T1."""
    folder = tmp_path_factory.mktemp("made")
    made_results.t1(folder / "T1.nii.gz")
    made_results.mrsi(folder / "mrsi")
    made_results.fsl_mrsi(folder / "fsl_mrsi")
    made_results.svs(folder / "fsl_mrs")
    made_results.svs(folder / "fit", plain=False)
    return folder


# -- reading -----------------------------------------------------------------------------------------------------------


def test_mrsi(made):
    results = Results.open(made / "mrsi")
    assert (results.kind, results.shape, results.reference) == ("MRSI", made_results.SHAPE, "Cr+PCr")
    assert results.metabs == sorted(made_results.METABS) and results.default_metab == "NAA"
    assert results.default_quantity == "conc-ml"
    assert (
        results.fitted.sum() == 74
        and results.failed[made_results.FAILED] == 2
        and results.out_of_distribution.sum() == 1
    )
    assert (
        results.label("conc-internal") == "ratio to Cr+PCr" and results.title("misfit", "NAA") == "residual over noise"
    )
    conc, sd, fitted = made_results.concentrations()
    percent = results.percent("conc-ml", "NAA")
    assert np.isnan(percent[~fitted]).all() and np.allclose(
        percent[fitted], 100 * (sd[fitted] / conc[fitted])[:, 0], rtol=1e-5
    )
    assert np.allclose(results.sd("conc-posterior", "Ins")[fitted], 0.8 * sd[fitted][:, 3], rtol=1e-5)
    assert results.evaluator is not None and results.spectrum("fit").is_file()


def test_the_spatial_estimate_has_its_own_sd(made, tmp_path):
    """It fades by its own SD, not by the Cramer-Rao bound, and ratios are made of it."""
    folder = tmp_path / "spatial"
    shutil.copytree(made / "mrsi", folder)
    (folder / "concs/spatial").mkdir()
    for metab in made_results.METABS:
        image = nibabel.load(folder / f"concs/ml/{metab}.nii.gz")
        for path, factor in ((f"concs/spatial/{metab}", 2.0), (f"uncertainties/{metab}_spatial_sd", 0.25)):
            values = np.asarray(image.dataobj) * factor
            nibabel.save(nibabel.Nifti1Image(values, image.affine), folder / f"{path}.nii.gz")
    results = Results.open(folder)
    assert results.has("conc-spatial") and results.is_estimate("conc-spatial")
    at = results.fitted & (results.map("conc-ml", "NAA") > 0)
    assert np.allclose(results.percent("conc-spatial", "NAA")[at], 12.5)
    ratio = "NAA/Ins"
    np.testing.assert_allclose(results.map("conc-spatial", ratio)[at], results.map("conc-ml", ratio)[at], rtol=1e-5)
    assert np.isfinite(results.sd("conc-spatial", ratio)[at]).any()


@pytest.mark.parametrize("name", ["molarity", "molality"])
def test_absolute_concentrations_have_their_own_sd(made, tmp_path, name):
    """That of all sources, not the Cramer-Rao bound alone."""
    folder = tmp_path / name
    shutil.copytree(made / "mrsi", folder)
    (folder / f"concs/{name}").mkdir()
    image = nibabel.load(folder / "concs/ml/NAA.nii.gz")
    for path, factor in ((f"concs/{name}/NAA", 2.0), (f"uncertainties/NAA_{name}_sd", 0.25)):
        values = np.asarray(image.dataobj) * factor
        nibabel.save(nibabel.Nifti1Image(values, image.affine), folder / f"{path}.nii.gz")
    results = Results.open(folder)
    at = results.fitted & (results.map("conc-ml", "NAA") > 0)
    assert np.allclose(results.percent(f"conc-{name}", "NAA")[at], 12.5)


def test_plain_fsl_mrsi(made):
    results = Results.open(made / "fsl_mrsi")
    assert [one.key for one in results.quantities] == ["raw-concentrations", "sd", "SNR", "FWHM"]
    assert results.fitted.sum() == 74 and not results.failed.any() and results.evaluator is None
    _, sd, fitted = made_results.concentrations()
    assert np.allclose(results.sd("raw-concentrations", "NAA")[fitted], sd[fitted][:, 0], rtol=1e-4)
    found = results.at(made_results.SURE)
    assert found.titles == ["Metabolite", "Conc. ± SD (a.u.)", "CRLB (%)", "Remarks", "SNR", "FWHM (Hz)"]


def test_in_vivo_model(made, tmp_path):
    """Its estimates have names of their own, and its SDs are not called Cramer-Rao bounds."""
    folder = made_results.in_vivo(tmp_path / "in_vivo")
    results = Results.open(folder)
    assert results.evaluator is None and results.default_quantity == "conc-in-vivo" and results.in_vivo
    assert results.metabs == sorted(made_results.METABS) and results.fitted.sum() == 74
    before = Results.open(made / "mrsi")
    np.testing.assert_array_equal(results.percent("conc-in-vivo", "NAA"), before.percent("conc-ml", "NAA"))
    np.testing.assert_array_equal(results.crlb_percent("NAA"), before.crlb_percent("NAA"))
    np.testing.assert_array_equal(results.percent("ratio-in-vivo", "NAA"), before.percent("ratio-ml", "NAA"))
    found, plain = results.at(made_results.SURE), before.at(made_results.SURE)
    assert found.rows == plain.rows and found.doubtful == plain.doubtful
    assert plain.titles[2] == "CRLB (%)" and found.titles == [*plain.titles[:2], "SD (%)", *plain.titles[3:]]
    labels = [results.label(one.key) for one in results.quantities]
    assert not any("Cramer" in label or "ml" in label.split() for label in labels), labels
    assert render(folder, tmp_path / "a.png", renderer="matplotlib") == "drawn by matplotlib"


def test_single_voxels(made):
    for name, model in (("fit", True), ("fsl_mrs", False)):
        results = Results.open(made / name)
        assert results.kind == "SVS" and results.metabs == list(made_results.METABS) and results.reference == "Cr+PCr"
        found = results.at(None)
        assert found.titles[:4] == ["Metabolite", "Conc. ± SD (a.u.)", "CRLB (%)", "/ Cr+PCr"]
        assert found.rows[0][0] == "NAA" and "±" in found.rows[0][1] and found.good != model
        assert (results.evaluator is not None) == model
        assert results.linked_data == made / name / "data.nii.gz"
    conc, sd, _ = made_results.concentrations()
    value, spread = (float(part) for part in found.rows[0][1].split(" ± "))
    assert abs(value - conc[made_results.SURE][0]) < 0.01 and abs(spread - sd[made_results.SURE][0]) < 0.01


def test_maps_of_fit_of_many_voxels(made, tmp_path):
    """What fsl_mrs_dl fit writes for a file with several voxels: NaN where nothing could be fitted."""
    for column in ("conc", "crlb_sd"):
        for metab in made_results.METABS:
            image = nibabel.load(
                made / "mrsi" / layout.by_key("conc-ml" if column == "conc" else "crlb-sd").path(metab)
            )
            values = np.where(image.get_fdata() == 0, np.nan, image.get_fdata())
            (tmp_path / "maps" / column).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, image.affine), tmp_path / "maps" / column / f"{metab}.nii.gz")
    results = Results.open(tmp_path)
    assert results.kind == "MRSI" and results.fitted.sum() == 74
    assert results.percent("conc-ml", "NAA")[made_results.SURE] < 5


def test_tables_say_what_is_doubtful(made):
    results = Results.open(made / "mrsi")
    unsure = results.at((5, 4, 1))
    assert all(unsure.doubtful) and "mostly prior" in unsure.rows[0]
    assert "did not converge".upper() in results.at(made_results.BAD_FIT).state
    assert "OUT OF DISTRIBUTION" in results.at(made_results.STRANGE).state
    assert "could not be fitted" in results.at(made_results.FAILED).state and not results.at(made_results.FAILED).rows
    assert "outside of the mask" in results.at((0, 0, 0)).state
    assert "outside" in results.at(None).state and "outside" in results.at((9, 0, 0)).state
    sure = results.at(made_results.SURE)
    assert sure.good and not any(sure.doubtful)
    assert all(len(row) == len(sure.titles) for row in sure.rows)


# -- what is incomplete, damaged or of another version -----------------------------------------------------------------


def copy_of(folder, to):
    """A copy of results that may be changed."""
    shutil.copytree(folder, to, symlinks=True)
    return to


def change(path, function):
    """Write the values of an image anew."""
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(function(np.array(image.get_fdata(), np.float32)), image.affine), path)


@pytest.mark.parametrize("fault", ["absent", "older", "other grid"])
def test_a_model_that_cannot_be_evaluated_is_named(made, tmp_path, fault):
    """Its folder is shown without parts of the fit and bands, with the reason."""
    folder = copy_of(made / "mrsi", tmp_path / "r")
    path = folder / layout.MODEL / "model.json"
    about = json.loads(path.read_text())
    if fault == "absent":
        path.unlink()
    elif fault == "older":
        del about["gaussian"]
        path.write_text(json.dumps(about))
    else:
        path.write_text(json.dumps(about | {"grid": list(reversed(about["grid"]))}))
    results = Results.open(folder)
    results.read_all()
    assert results.evaluator is None and len(results.problems) == 1 and "dl_model" in results.problems[0]
    assert results.contribution(made_results.SURE, "NAA") is None and results.at(made_results.SURE).rows
    assert results.sd("conc-ml", "tCr") is not None and results.sd_is_of_independent("tCr")


def test_a_metabolite_without_its_concentration_stands_in_the_table(made, tmp_path):
    """Its map cannot be read, that of its SD can."""
    for column, key in (("conc", "conc-ml"), ("crlb_sd", "crlb-sd")):
        (tmp_path / "maps" / column).mkdir(parents=True)
        for metab in made_results.METABS:
            shutil.copy(made / "mrsi" / layout.by_key(key).path(metab), tmp_path / "maps" / column / f"{metab}.nii.gz")
    (tmp_path / "maps/conc/Cr.nii.gz").write_bytes(b"nothing")
    results = Results.open(tmp_path)
    results.read_all()
    rows = {row[0]: row for row in results.at(made_results.SURE).rows}
    assert rows["Cr"][1:3] == ["–", "–"] and "±" in rows["NAA"][1]


def test_unknown_bounds_are_not_those_of_certain_voxels(made, tmp_path):
    """FSL-MRS writes NaN where it has no bound."""
    folder = copy_of(made / "fsl_mrsi", tmp_path / "r")

    def unknown(values):
        values[made_results.SURE] = np.nan
        return values

    change(folder / layout.by_key("sd").path("NAA"), unknown)
    results = Results.open(folder)
    assert np.isinf(results.percent("raw-concentrations", "NAA")[made_results.SURE])
    picture = map_display.picture(results, "raw-concentrations", "NAA")
    assert not map_display.visible(picture, True, 10, 50)[made_results.SURE]
    row = next(row for row in results.at(made_results.SURE).rows if row[0] == "NAA")
    assert "±" not in row[1] and row[2] == "–"


def test_maps_of_fewer_dimensions_have_one_slice(tmp_path):
    """Other programs leave out the last dimension of a single slice."""
    for key in ("raw-concentrations", "sd"):
        for metab in made_results.METABS:
            path = tmp_path / "r" / layout.by_key(key).path(metab)
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(np.full((4, 5), 3, np.float32), np.diag([10.0, 10, 10, 1])), path)
    results = Results.open(tmp_path / "r")
    results.read_all()
    assert results.shape == (4, 5, 1) and results.fitted.all() and results.at((1, 1, 0)).rows
    assert map_display.picture(results, "raw-concentrations", "NAA").shown.all()


def test_maps_without_a_place_are_refused(made, tmp_path):
    """A header whose axes do not span a volume."""
    folder = copy_of(made / "fsl_mrsi", tmp_path / "r")
    flat = np.diag([10.0, 10, 12, 1])
    flat[:, 1] = flat[:, 0]
    for path in (folder / "concs/raw").glob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), flat), path)
    with pytest.raises(DataError, match="affine in its header is singular"):
        Results.open(folder)


def test_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    """As lost+found on a disk, beside the results."""
    (tmp_path / "lost+found").mkdir()
    exists = Path.exists

    def refused(path):
        if "lost+found" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(DataError, match="cannot be read .*Permission denied"):
        Results.open(tmp_path)


def test_tables_of_spreadsheets_are_read(made, tmp_path):
    """These begin a file with a mark of its encoding."""
    folder = copy_of(made / "fit", tmp_path / "r")
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    found, plain = Results.open(folder), Results.open(made / "fit")
    assert found.at(None) == plain.at(None) and found.reference == plain.reference == "Cr+PCr"


def test_relative_sds_without_a_concentration_count_nothing_as_independent(made):
    results = Results.open(made / "mrsi")
    results.quantities = [one for one in results.quantities if one.key in ("conc-internal", "sd")]
    assert not results.sd_is_of_independent("NAA/Ins", "sd") and results.has_value("sd", "NAA/Ins").any()


def test_differences_are_of_voxels_with_a_value(made, tmp_path):
    """A ratio over zero has none; and colours suit differences whose SD is unknown."""
    first, second = (copy_of(made / "fsl_mrsi", tmp_path / name) for name in ("a", "b"))
    voxel = made_results.SURE

    def none(values):
        values[voxel] = 0
        return values

    change(second / layout.by_key("raw-concentrations").path("Cr"), none)
    change(second / layout.by_key("raw-concentrations").path("PCr"), none)
    a, b = Results.open(first), Results.open(second)
    found = comparison.difference(a, b, "raw-concentrations", "NAA/tCr")
    assert not found.shown[voxel] and found.shown.sum() == a.fitted.sum() - 1
    for folder in (first, second):
        change(folder / layout.by_key("sd").path("NAA"), lambda values: 0 * values)
    change(second / layout.by_key("raw-concentrations").path("NAA"), lambda values: 3 * values)
    found = comparison.difference(Results.open(first), Results.open(second), "raw-concentrations", "NAA")
    assert found.range[1] > 0.9 * np.abs(found.values).max() > 10


@pytest.mark.parametrize(("fault", "text"), [("cut", "cannot be read"), ("colours", "holds colours")])
def test_structural_images_that_cannot_be_drawn_are_named(made, tmp_path, capsys, fault, text):
    path = tmp_path / "T1.nii.gz"
    if fault == "cut":
        whole = (made / "T1.nii.gz").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        pixels = np.zeros((5, 5, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), path)
    words = ["--out", tmp_path / "a.png", "--t1", path, "--renderer", "matplotlib"]
    status, said = run("render", made / "mrsi", *words, capsys=capsys)
    assert status == 2 and "T1.nii.gz" in said and text in said and said.count("\n") == 1


# -- maps --------------------------------------------------------------------------------------------------------------


def test_threshold_hides_what_is_above_it(made):
    results = Results.open(made / "mrsi")
    for criterion, limit in (("percent", results.crlb_percent("NAA")), ("sd", results.sd("conc-ml", "NAA"))):
        for threshold in (0.0, 0.25, 3.0, 20.0):
            shown = map_display.picture(results, "conc-ml", "NAA", criterion, threshold).shown
            assert (shown == (results.fitted & (np.nan_to_num(limit, nan=np.inf) <= threshold))).all()
    everything = map_display.picture(results, "conc-ml", "NAA")
    assert (everything.shown == results.fitted).all()
    assert (np.isfinite(everything.drawn) == results.fitted).all()
    low, high = everything.whole_range
    assert low < everything.values[results.fitted].min() and high > everything.values.max()
    nothing = map_display.picture(results, "conc-ml", "NAA", "sd", 0.0)
    assert not nothing.shown.any() and nothing.whole_range[0] < nothing.whole_range[1]


def test_only_estimates_fade(made):
    results = Results.open(made / "mrsi")
    assert (
        map_display.picture(results, "ratio-ml", "NAA").fades
        and not map_display.picture(results, "crlb-sd", "NAA").fades
    )
    picture = map_display.picture(results, "conc-ml", "NAA")
    assert picture.percent[~results.fitted].min() == map_display.PERCENT_CAP
    assert np.allclose(map_display.opacity([0, 10, 30, 50, 200], 10, 50), [1, 1, 0.5, 0, 0])
    # What has faded away is not counted as shown.
    sure = float(np.median(picture.percent[results.fitted]))
    assert (map_display.visible(picture, False, 1, sure) == picture.shown).all()
    assert (map_display.visible(picture, True, 1, sure) == picture.shown & (picture.percent < sure)).all()


def test_ranges_are_robust():
    values = np.r_[np.linspace(1, 10, 1000), 1e6]
    assert map_display.robust_range(values)[0] == 0 and 9 < map_display.robust_range(values)[1] < 11
    assert map_display.robust_range(np.zeros(5)) == (0.0, 1.0) and map_display.robust_range(np.zeros(0)) == (0.0, 1.0)
    low, high = map_display.robust_range(np.full(4, np.nan))
    assert low < high


def test_out_of_distribution_voxels_do_not_stretch_the_colours(made, tmp_path):
    """A scalp that was fitted, too: a third of the voxels, thirty times as bright."""
    plain = map_display.picture(Results.open(made / "mrsi"), "conc-ml", "NAA").range
    shutil.copytree(made / "mrsi", tmp_path / "air")
    files = [tmp_path / "air" / layout.by_key(key).path("NAA") for key in ("conc-ml", "ood-score", "crlb-sd")]
    for file, change in zip(files, (lambda old: 30 * old, lambda old: 0 * old + 8, lambda old: 30 * old)):
        image = nibabel.load(file)
        values = image.get_fdata()
        values[:, 3:] = change(values[:, 3:])
        nibabel.save(nibabel.Nifti1Image(values, image.affine), file)
    found = map_display.picture(Results.open(tmp_path / "air"), "conc-ml", "NAA").range
    assert found == pytest.approx(plain, rel=0.1)
    score = map_display.picture(Results.open(tmp_path / "air"), "ood-score", "NAA").range
    assert score[1] == 8
    # Where everything is marked, everything counts.
    image = nibabel.load(files[1])
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 8.0), image.affine), files[1])
    assert map_display.picture(Results.open(tmp_path / "air"), "conc-ml", "NAA").range[1] > 20 * plain[1]


def test_marks_and_cursor(made):
    results = Results.open(made / "mrsi")
    found = map_display.marks(results)
    assert (found[made_results.FAILED], found[made_results.BAD_FIT], found[made_results.STRANGE]) == (2, 1, 3)
    assert not map_display.marks(results, False, False).any()
    voxel = map_display.good_voxel(results)
    assert results.fitted[voxel] and found[voxel] == 0 and results.crlb_percent("NAA")[voxel] < 4


def test_a_metabolite_without_that_map_shows_nothing(made, tmp_path):
    shutil.copytree(made / "fsl_mrsi", tmp_path / "part")
    (tmp_path / "part" / "uncertainties" / "NAA_sd.nii.gz").unlink()
    results = Results.open(tmp_path / "part")
    assert not map_display.picture(results, "sd", "NAA").shown.any()
    assert map_display.picture(results, "raw-concentrations", "NAA").shown.any()


# -- spectra -----------------------------------------------------------------------------------------------------------


def test_parts_of_the_fit_are_those_of_the_model(made):
    """Whether one can be drawn does not depend on the voxel."""
    results = Results.open(made / "mrsi")
    assert results.contribution(made_results.FAILED, "NAA") is None and results.has_contribution("NAA")
    assert results.has_contribution("tCr") and results.has_contribution("NAA/Cr")
    assert not results.has_contribution("Foo") and not Results.open(made / "fsl_mrsi").has_contribution("NAA")


def test_spectra_lie_where_they_belong(made):
    results = Results.open(made / "mrsi")
    axis = spectra.DisplayAxes.of(results.spectrum("fit"))
    assert (axis.n_points, axis.nucleus, axis.metabolite_window) == (made_results.N_POINTS, "1H", (0.2, 4.2))
    ppm = axis.ppm()
    part = spectra.displayed(results.evaluator.contribution(made_results.SURE, "NAA"))
    assert abs(ppm[np.argmax(part.real)] - 2.01) < 0.04
    hz, sd = results.evaluator.band(made_results.SURE)
    assert (
        min(abs(axis.hz_to_ppm(hz)[np.argmax(sd)] - line) for lines in made_results.LINES.values() for line, _ in lines)
        < 0.04
    )
    fid = spectra.read_fid(nibabel.load(results.spectrum("fit")).dataobj, made_results.SURE)
    low, high = spectra.vertical_limits(axis, [spectra.displayed(fid)])
    assert low < part.real.min() and high > part.real.max()
    assert spectra.vertical_limits(axis, [np.zeros(axis.n_points)]) is None
    with pytest.raises(DataError, match="is no NIfTI-MRS file"):
        spectra.DisplayAxes.of(made / "T1.nii.gz")


# -- messages ----------------------------------------------------------------------------------------------------------


def test_what_is_no_folder_of_results(made, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, text in (
        (tmp_path / "empty", "is no folder of results"),
        (tmp_path / "absent", "there is no such folder; name the output folder of"),
        (made / "T1.nii.gz", "is a file"),
        (made, "Did you mean"),
    ):
        with pytest.raises(DataError, match=text) as caught:
            Results.open(folder)
        assert "\n" not in str(caught.value)


def test_broken_maps_are_told(made, tmp_path):
    shutil.copytree(made / "fsl_mrsi", tmp_path / "broken")
    (tmp_path / "broken" / "concs" / "raw" / "NAA.nii.gz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="NAA.nii.gz: cannot be read"):
        Results.open(tmp_path / "broken").map("raw-concentrations", "NAA")


def run(*words, capsys):
    status = main.main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_a_single_voxel_is_not_drawn_on_nothing(made, tmp_path, capsys):
    status, said = run("render", made / "fit", "--out", tmp_path / "a.png", capsys=capsys)
    assert status == 2 and "--t1: a single voxel is drawn on a structural image; give one" in said
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--metab", "Foo"], "there are Cr, Ins, NAA, PCr"),
        (["--quantity", "foo"], "there are raw-concentrations, conc-internal"),
        (["--t1", "absent.nii.gz"], "--t1 absent.nii.gz: there is no such file"),
        (["--slice", "6", "0", "0"], "is outside of the grid of 6 x 5 x 3 voxels"),
        (["--max_crlb", "-3"], "give a percentage above 0"),
        (["--out", "a.jpg"], "pictures are PNG files"),
        (["--out", "absent/a.png"], "does not exist"),
    ],
)
def test_render_says_what_is_wrong(made, tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    status, said = run("render", made / "mrsi", "--out", "a.png", *words, capsys=capsys)
    assert status == 2 and text in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("renderer", ["auto", "matplotlib"])
def test_a_series_of_volumes_is_no_structural_image(made, tmp_path, capsys, renderer):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 4), np.float32), np.eye(4)), tmp_path / "bold.nii.gz")
    words = ["--out", tmp_path / "a.png", "--t1", tmp_path / "bold.nii.gz", "--renderer", renderer]
    status, said = run("render", made / "mrsi", *words, capsys=capsys)
    assert status == 2 and "bold.nii.gz: has 3 x 3 x 3 x 4 voxels" in said and not (tmp_path / "a.png").exists()


def test_view_says_what_is_missing(made, monkeypatch, capsys):
    monkeypatch.setattr(view, "missing_software", lambda: "FSLeyes is not installed")
    status, said = run("view", made / "mrsi", capsys=capsys)
    assert status == 2 and "pip install '.[fsleyes]'" in said and "fsl_mrs_dl render" in said
    status, said = run("view", made, capsys=capsys)
    assert status == 2 and "is no folder of results" in said, "the folder comes first"
    monkeypatch.setattr(view, "missing_software", lambda: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        status, said = run("view", made / "mrsi", capsys=capsys)
        assert status == 2 and "no screen" in said
    monkeypatch.setenv("DISPLAY", ":7")
    status, said = run("view", made / "mrsi", "--data", "absent.nii.gz", capsys=capsys)
    assert status == 2 and "--data absent.nii.gz" in said


# -- pictures ----------------------------------------------------------------------------------------------------------


def near(colour, path, tolerance=40):
    from matplotlib.image import imread

    return int((np.abs(255 * imread(path)[..., :3] - 255 * np.array(colour)).max(-1) < tolerance).sum())


def of_map(path, tolerance=6):
    """How many pixels have a colour of the map's scale."""
    from matplotlib.image import imread

    pixels = 255 * imread(path)[..., :3].reshape(-1, 3)
    pixels = pixels[pixels.max(-1) - pixels.min(-1) > 20]
    table = 255 * colours.colour_table("mrsdl_values")[::4]
    return int((np.abs(pixels[:, None] - table).max(-1).min(1) < tolerance).sum())


def test_matplotlib_draws_where_fsleyes_is_absent(made, tmp_path, capsys):
    out = tmp_path / "a.png"
    words = ["--t1", made / "T1.nii.gz", "--slice", 2, 2, 1, "--renderer", "matplotlib", "--opacity", 100]
    status, said = run("render", made / "mrsi", "--out", out, *words, capsys=capsys)
    assert status == 0 and "drawn by matplotlib" in said
    failed, strange = map_display.MARKS[2][1], map_display.MARKS[3][1]
    assert of_map(out) > 5000 and near(failed, out, 25) > 50 and near(strange, out, 25) > 50
    fewer = tmp_path / "b.png"
    run("render", made / "mrsi", "--out", fewer, *words, "--max_crlb", 20, "--no_fade", capsys=capsys)
    assert of_map(fewer) < of_map(out) + 200
    bare = tmp_path / "c.png"
    assert render(made / "fsl_mrsi", bare, renderer="matplotlib") == "drawn by matplotlib"
    voxel = tmp_path / "d.png"
    render(made / "fit", voxel, t1=made / "T1.nii.gz", renderer="matplotlib")
    assert near((1, 0.85, 0), voxel, 40) > 200


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_voxels_in_a_row_are_plotted(made, tmp_path, axis):
    """Their planes were lines a pixel high in black."""
    from matplotlib.image import imread

    folder = tmp_path / "row"
    shutil.copytree(made / "fsl_mrsi", folder)
    for path in folder.rglob("*.nii.gz"):
        image = nibabel.load(path)
        values = np.asarray(image.dataobj)
        if values.ndim == 3:
            shape = np.roll([values.size, 1, 1], axis)
            nibabel.save(nibabel.Nifti1Image(values.reshape(shape), image.affine), path)
    said = render(folder, tmp_path / "a.png")
    assert said.startswith("drawn by matplotlib") and "voxels in a row are plotted against their number" in said
    pixels = imread(tmp_path / "a.png")[..., :3]
    lit = (pixels.max(-1) > 0.3)[: int(0.7 * len(pixels))]
    assert lit.any(0).mean() > 0.4 and lit.any(1).mean() > 0.4
    # Where the row lies is seen on a structural image.
    assert "in a row" not in render(folder, tmp_path / "b.png", t1=made / "T1.nii.gz", renderer="matplotlib")


def test_a_picture_that_hides_everything_says_so(made, tmp_path):
    said = render(made / "mrsi", tmp_path / "a.png", max_crlb=0.01, renderer="matplotlib")
    assert said.startswith("drawn by matplotlib; no voxel can be seen: the lowest relative SD of NAA is")


def test_outlines_are_far_from_the_colours_of_every_map():
    for name in {quantities.colour_map(quantity.key) for quantity in quantities.QUANTITIES}:
        table = colours.colour_table(name)
        for text, mark in map_display.MARKS.values():
            assert np.linalg.norm(table - mark, axis=1).min() > 0.6, (name, text)
        assert table.max(1).min() > 0.4, f"{name} vanishes on black"


def test_what_drew_the_picture_is_said(made, tmp_path, monkeypatch):
    from fsleyes_plugin_dl import render as module

    monkeypatch.setattr(module, "missing_software", lambda: "FSLeyes is not installed")
    assert render(made / "mrsi", tmp_path / "a.png") == "drawn by matplotlib; FSLeyes is not installed"
    with pytest.raises(OptionError, match="FSLeyes is not installed"):
        render(made / "mrsi", tmp_path / "a.png", renderer="fsleyes")
    monkeypatch.setattr(module, "missing_software", lambda: None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "FSLeyes cannot draw" in render(made / "mrsi", tmp_path / "b.png")
    with pytest.raises(OutputError):
        render(made / "mrsi", tmp_path / "absent" / "b.png")


def test_viewing_needs_neither_torch_nor_fsleyes(made):
    """Reading results, and the command that draws them, load none of what is heavy."""
    code = (
        "import sys; from fsl_mrs_dl.cli import main as cli;"
        f"cli.main(['render', {str(made / 'mrsi')!r}, '--out', {str(made / 'x.png')!r}, '--renderer', 'matplotlib']);"
        "heavy = {'torch', 'wx', 'fsleyes', 'lightning'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_entry_point_of_fsleyes_is_there():
    """They are named in pyproject.toml; FSLeyes says nothing of one that it cannot load."""
    import tomllib

    points = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    targets = [target for group, named in points.items() if group.startswith("fsleyes_") for target in named.values()]
    assert len(targets) >= 10
    for target in targets:
        module, name = target.split(":")
        source = importlib.util.find_spec(module).origin
        assert name in Path(source).read_text()
    from fsleyes_plugin_dl.window_layout import MRS_DL

    assert len(MRS_DL.split("\n")) == 6


def test_voxels_of_noise_are_not_shown(tmp_path):
    folder = made_results.mrsi(tmp_path / "mrsi")
    before = Results.open(folder)
    path, at = folder / "quality" / "failed.nii.gz", tuple(np.argwhere(before.fitted)[10])
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).copy()
    values[at] = 3
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    after = Results.open(folder)
    assert before.fitted[at] and not after.fitted[at] and not map_display.marks(after)[at]
    assert not map_display.picture(after, "conc-ml", "NAA").shown[at] and "only noise" in after.at(at).state
