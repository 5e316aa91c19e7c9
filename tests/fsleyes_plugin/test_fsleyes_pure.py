"""What the viewer computes without FSLeyes: grids, sums and ratios, regions, differences, choices of quantities."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest
from helpers import made_results

from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.results import layout
from fsleyes_plugin_dl import (
    canvas_layout,
    colours,
    derived,
    grids,
    look,
    map_display,
    quantities,
    regions,
    starts,
    titles,
)
from fsleyes_plugin_dl.render import render
from fsleyes_plugin_dl.results_folder import Results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results on an upright and on an oblique grid, and a T1."""
    folder = tmp_path_factory.mktemp("made")
    made_results.t1(folder / "T1.nii.gz")
    made_results.mrsi(folder / "mrsi")
    made_results.slice_numbers(folder / "slices")
    return folder


# -- grids -------------------------------------------------------------------------------------------------------------


def test_drawn_grids_keep_every_voxel_in_its_place():
    rng = np.random.default_rng(1)
    for affine in (made_results.AFFINE, made_results.OBLIQUE, made_results.OBLIQUE[:, [2, 0, 1, 3]]):
        grid = grids.DrawnGrid(made_results.SHAPE, affine)
        values = rng.standard_normal(made_results.SHAPE)
        drawn = grid.drawn(values)
        assert drawn.shape == grid.drawn_shape and (np.diag(grid.axes) > 0.7).all()
        for voxel in ((0, 0, 0), (5, 4, 2), (1, 3, 2)):
            index = grid.drawn_index(voxel)
            assert drawn[index] == values[voxel] and grid.voxel(index) == voxel
            np.testing.assert_allclose(grids.to_mm(grid.drawn_affine, index), grids.to_mm(affine, voxel), atol=1e-9)
    assert grid.is_oblique and not grids.DrawnGrid(made_results.SHAPE, made_results.AFFINE).is_oblique


def test_the_outline_of_an_oblique_voxel_encloses_its_volume():
    mask, affine = grids.box_mask((1, 1, 1), made_results.OBLIQUE)
    assert mask.sum() == pytest.approx(1200, rel=0.03)
    centre = grids.to_mm(affine, np.argwhere(mask).mean(0))
    np.testing.assert_allclose(centre, made_results.OBLIQUE[:3, 3], atol=0.3)
    assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any() and not mask[:, :, [0, -1]].any()


def shares(path, box, values):
    """Shares of the pixels with the colour of each value within a box of shares of the picture."""
    from matplotlib.image import imread

    pixels = imread(path)[..., :3]
    height, width = pixels.shape[:2]
    left, right, top, bottom = box
    part = pixels[int(top * height) : int(bottom * height), int(left * width) : int(right * width)].reshape(-1, 3)
    table = colours.colour_table("mrsdl_values")
    counts = np.array([(np.abs(part - table[round(255 * value / 3)]).max(-1) < 0.03).sum() for value in values])
    return counts / max(counts.sum(), 1), counts.sum()


def check_slice_numbers(path):
    """An axial plane shows one slice only, and the others the three slices one above the other, a third each."""
    axial, n = shares(path, (0.67, 1, 0, 0.7), (1, 2, 3))
    assert n > 3000 and axial[1] > 0.999, "the axial plane mixes slices"
    for left in (0.0, 0.34):
        side, n = shares(path, (left, left + 0.33, 0, 0.7), (1, 2, 3))
        assert n > 3000 and np.allclose(side, 1 / 3, atol=0.03), side


def test_matplotlib_draws_oblique_volumes_in_their_place(made, tmp_path):
    out = tmp_path / "a.png"
    words = {"t1": made / "T1.nii.gz", "voxel": (2, 2, 1), "opacity": 100.0}
    render(made / "slices", out, **words, renderer="matplotlib")
    check_slice_numbers(out)


def test_a_mosaic_shows_every_slice(made, tmp_path):
    out = tmp_path / "a.png"
    assert render(made / "slices", out, t1=made / "T1.nii.gz", mosaic=True, opacity=100.0).startswith("drawn by matpl")
    found, n = shares(out, (0, 1, 0, 0.75), (1, 2, 3))
    assert n > 10000 and np.allclose(found, 1 / 3, atol=0.02)
    with pytest.raises(OptionError, match="FSLeyes draws no mosaic"):
        render(made / "slices", out, mosaic=True, renderer="fsleyes")
    plain, edged = tmp_path / "b.png", tmp_path / "c.png"
    render(made / "slices", plain, renderer="matplotlib")
    render(made / "slices", edged, renderer="matplotlib", voxel_grid=True)
    from matplotlib.image import imread

    grey = [(np.abs(imread(path)[:430, :, :3] - 0.75).max(-1) < 0.01).sum() for path in (plain, edged)]
    assert grey[1] > grey[0] + 1000


def test_opacities_are_shares(made, tmp_path):
    with pytest.raises(OptionError, match="at most 100"):
        render(made / "slices", tmp_path / "a.png", opacity=120.0)


# -- sums and ratios ---------------------------------------------------------------------------------------------------


def test_sums_and_ratios_have_the_sd_of_the_covariance(made):
    results = Results.open(made / "mrsi")
    conc, sd, fitted = made_results.concentrations()
    names = list(made_results.METABS)
    naa, cr, pcr = (names.index(name) for name in ("NAA", "Cr", "PCr"))
    conc = np.where(fitted[..., None], conc, 1.0)
    total = conc[..., cr] + conc[..., pcr]
    np.testing.assert_allclose(results.map("conc-ml", "Cr+PCr")[fitted], total[fitted], rtol=1e-5)
    np.testing.assert_allclose(results.map("conc-ml", "NAA/tCr")[fitted], (conc[..., naa] / total)[fitted], rtol=1e-5)
    expected = np.sqrt(sd[..., cr] ** 2 + sd[..., pcr] ** 2)
    np.testing.assert_allclose(results.sd("conc-ml", "tCr")[fitted], expected[fitted], rtol=1e-4)
    relative = np.hypot(sd[..., naa] / conc[..., naa], expected / total)[fitted]
    np.testing.assert_allclose(results.percent("conc-ml", "NAA/tCr")[fitted], 100 * relative, rtol=1e-3)
    # A metabolite over itself is 1, and known.
    assert np.allclose(results.map("conc-ml", "NAA/NAA")[fitted], 1)
    assert np.allclose(results.percent("conc-ml", "NAA/NAA")[fitted], 0, atol=1e-2)
    assert results.check_metab("NAA/tCr") == "NAA/Cr+PCr" and results.usual_sums == ["tCr"]
    assert results.map("misfit", "NAA/tCr") is not None and results.map("ci95-low", "NAA/tCr") is None
    # The map of an SD of a ratio is that of the ratio, not a ratio of SDs.
    spread = (conc[..., naa] / total * np.hypot(sd[..., naa] / conc[..., naa], expected / total))[fitted]
    np.testing.assert_allclose(results.map("crlb-sd", "NAA/tCr")[fitted], spread, rtol=1e-3)
    assert "SD of the ratio of maps" in results.title("crlb-sd", "NAA/tCr")
    assert "relative SD of the ratio (%)" in results.title("sd", "NAA/tCr")
    assert results.short_title("sd", "NAA/tCr") == "SD of NAA/tCr (%)"
    assert results.title("ratio-sd", "NAA") == "NAA: SD of the ratio to Cr+PCr, maximum likelihood"
    assert results.short_title("ratio-sd", "NAA") == "SD of NAA/Cr+PCr" and results.short_title("misfit", "NAA")
    assert (
        results.short_title("conc-ml", "NAA") == "NAA (a.u.)" and results.short_title("conc-ml", "NAA/Cr") == "NAA/Cr"
    )
    assert "NAA/tCr = " in results.at(made_results.SURE, "NAA/tCr").state


def test_correlated_members_are_not_counted_as_independent(made, tmp_path):
    shutil.copytree(made / "mrsi", tmp_path / "r", symlinks=True)
    path = tmp_path / "r" / layout.MODEL / "cov.npy"
    packed = np.load(path)
    k = len(made_results.METABS) + 4
    rows, columns = np.tril_indices(k)
    diagonal = packed[:, rows == columns]
    place = np.flatnonzero((rows == 2) & (columns == 1))[0]
    packed[:, place] = -0.9 * np.sqrt(diagonal[:, 1] * diagonal[:, 2])
    np.save(path, packed)
    results = Results.open(tmp_path / "r")
    _, sd, fitted = made_results.concentrations()
    a, b = sd[..., 1][fitted], sd[..., 2][fitted]
    np.testing.assert_allclose(results.sd("conc-ml", "Cr+PCr")[fitted], np.sqrt(a**2 + b**2 - 1.8 * a * b), rtol=1e-3)
    assert not results.sd_is_of_independent("Cr+PCr")


def test_what_is_no_sum():
    names = ["NAA", "Cr", "PCr", "GPC", "PCh", "Cr+PCr"]
    assert derived.parse("tCr", names) == derived.Expression(("Cr+PCr",))
    assert str(derived.parse("tCho / NAA", names)) == "GPC+PCh/NAA"
    for text in ("", "NAA/", "/NAA", "NAA+Foo", "NAA+NAA", "NAA/Cr/PCr"):
        assert derived.parse(text, names) is None, text


def test_the_reference_over_itself_is_shown(made, tmp_path):
    """Its SD is zero, which is no lack of knowledge."""
    shutil.copytree(made / "mrsi", tmp_path / "r", symlinks=True)
    _, _, fitted = made_results.concentrations()
    for key, value in (("conc-ml", 8.0), ("ratio-ml", 1.0), ("ratio-sd", 0.0), ("crlb-sd", 0.1)):
        path = tmp_path / "r" / layout.by_key(key).path("Cr+PCr")
        nibabel.save(nibabel.Nifti1Image((value * fitted).astype(np.float32), made_results.AFFINE), path)
    picture = map_display.picture(Results.open(tmp_path / "r"), "ratio-ml", "Cr+PCr")
    assert (map_display.visible(picture, True, 10, 50) == fitted).all() and picture.range == (0.0, 2.0)


def test_ratios_over_zero_are_not_shown(made, tmp_path):
    """They are stored as zero, which would lower means over regions."""
    shutil.copytree(made / "mrsi", tmp_path / "r", symlinks=True)
    voxel = made_results.SURE
    for metab in ("Cr", "PCr"):
        path = tmp_path / "r" / layout.by_key("conc-ml").path(metab)
        image = nibabel.load(path)
        values = np.array(image.dataobj)
        values[voxel] = 0
        nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    results = Results.open(tmp_path / "r")
    for key, name in (("conc-ml", "NAA/tCr"), ("ratio-ml", "NAA"), ("ratio-sd", "NAA"), ("sd", "NAA/tCr")):
        shown = map_display.picture(results, key, name).shown
        assert not shown[voxel] and shown.sum() == results.fitted.sum() - 1, (key, name)
    assert map_display.picture(results, "conc-ml", "NAA").shown[voxel]


def test_ratios_to_the_reference_have_the_sd_in_the_folder(tmp_path):
    """The in-vivo model writes it; without covariances all others count members as independent, which is said."""
    results = Results.open(made_results.in_vivo(tmp_path / "in_vivo"))
    assert results.has("ratio-in-vivo") and results.reference == "Cr+PCr"
    ratio, sd = "NAA/Cr+PCr", results.map("in-vivo-ratio-sd", "NAA")
    image = nibabel.load(results.path("in-vivo-ratio-sd", "NAA"))
    nibabel.save(nibabel.Nifti1Image(3 * sd, image.affine), results.path("in-vivo-ratio-sd", "NAA"))
    results = Results.open(results.folder)
    found = results.sd("conc-in-vivo", ratio)[results.fitted]
    np.testing.assert_allclose(found, 3 * sd[results.fitted], rtol=1e-5)
    assert not results.sd_is_of_independent(ratio) and not results.sd_is_of_independent(ratio, "sd")
    assert results.sd_is_of_independent("NAA/Ins") and results.sd_is_of_independent("Cr+PCr", "in-vivo-sd")
    assert not results.sd_is_of_independent("NAA") and not results.sd_is_of_independent("NAA/Ins", "misfit")


# -- regions -----------------------------------------------------------------------------------------------------------


def test_regions_count_parts_of_voxels():
    affine = np.diag([10.0, 10, 10, 1])
    fine = np.diag([1.0, 1, 1, 1])
    fine[:3, 3] = -4.5
    mask = np.zeros((40, 10, 10))
    mask[:15] = 1  # the first voxel and half of the second
    weights = regions.fractions(regions.mask_region(mask, fine), (4, 1, 1), affine, step=1.0)
    np.testing.assert_allclose(weights.ravel(), [1, 0.5, 0, 0], atol=0.07)
    weights = np.array([1, 0.5, 0, 0]).reshape(4, 1, 1)
    values, sd = np.array([2.0, 5, 9, 9]).reshape(4, 1, 1), np.full((4, 1, 1), 0.3)
    found = regions.mean_over(values, weights, sd, np.ones((4, 1, 1), bool), affine)
    assert found.mean == pytest.approx(3) and found.voxels == 1.5 and found.volume == pytest.approx(1.5)
    assert found.se == pytest.approx(0.3 * np.sqrt(1.25) / 1.5) and found.sd == pytest.approx(
        np.sqrt(3 / (1.5 - 1.25 / 1.5))
    )
    assert found.left_out == 0 and found.without_sd == 0
    empty = regions.mean_over(values, weights, sd, np.zeros((4, 1, 1), bool), affine)
    assert np.isnan(empty.mean) and empty.voxels == 0 and empty.left_out == 1.5
    sd[0] = np.nan
    assert regions.mean_over(values, weights, sd, np.ones((4, 1, 1), bool), affine).without_sd == 1


def test_reports_of_regions_say_what_is_what():
    """The map, the mask, and what stands behind "±"."""
    here = regions.RegionMean(2.0, 0.3, 0.1, 5.5, 8.0, 0.5)
    there = regions.RegionMean(1.0, 0.2, 0.1, 4.0, 6.0)
    title, name, inside, other, difference, *notes = regions.report(
        "NAA: ratio", "lesion.nii.gz", here, there, ["More."]
    )
    assert title == "NAA: ratio" and name == "Region: lesion.nii.gz"
    assert inside == "Inside: 2.00 ± 0.10; SD between voxels 0.3; 5.5 voxels, 8.0 ml; 0.5 voxels left out"
    assert other.startswith("Other side: 1.00 ± 0.10") and difference == "Difference: 1.00 ± 0.14"
    assert notes[0].startswith("± SE of the mean") and notes[1:] == ["More."]
    unknown = regions.RegionMean(2.0, 0.3, float("nan"), 5.5, 8.0, 0.0, 2)
    lines = regions.report("NAA", "ball", unknown, None)
    assert "SE unknown: 2 voxels without SD" in lines[2] and len(lines) == 3


def test_small_regions_are_outlined():
    """A lesion smaller than a voxel, and its mirror image across the edge between two voxels."""
    parts = np.zeros((4, 3, 2))
    assert not regions.outlined(parts).any()
    parts[1, 1, 0], parts[2, 1, 0], parts[3, 1, 0] = 0.1, 0.08, 0.01
    assert regions.outlined(parts).sum() == 2
    parts[0] = 1.0
    assert regions.outlined(parts).sum() == 6, "parts of a voxel below a half at the edge of a large region"


def test_the_other_side_is_the_mirror_image():
    region = regions.ball((20.0, 5.0, 0.0), 4.0)
    other = regions.mirrored(region, middle=2.0)
    places = np.array([[20.0, 5, 0], [-16.0, 5, 0], [-16.0, 12, 0]])
    assert region(places).tolist() == [1, 0, 0] and other(places).tolist() == [0, 1, 0]
    head = np.zeros((60, 10, 10))
    head[10:41] = 100
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 3] = -7
    assert regions.midline(head, affine) == pytest.approx(2 * 25 - 7)


# -- choices -----------------------------------------------------------------------------------------------------------


def test_every_quantity_has_a_group_and_a_range(made):
    groups = quantities.grouped([one.key for one in quantities.QUANTITIES])
    assert sum(map(len, groups.values())) == len(quantities.QUANTITIES) and max(map(len, groups.values())) <= 14
    assert "conc-in-vivo" in groups["Concentration"] and "ratio-ml" in groups["Ratio"]
    assert quantities.fixed_range("sd")[1] == quantities.CRLB_LIMIT and quantities.fixed_range("conc-ml") is None
    results = Results.open(made / "mrsi")
    low, high = map_display.picture(results, "sd", "NAA").range
    # The range does not depend on the worst voxel, and ends where the title says.
    picture = map_display.picture(results, "sd", "NAA")
    assert (low, high) == (0, 50) and picture.title.endswith("white above 50")
    above = colours.colour_table("mrsdl_capped")
    assert (above[-1] == colours.ABOVE).all() and (above[-2] != colours.ABOVE).any()


def test_labels_name_their_unit_once(made):
    results = Results.open(made / "mrsi")
    for one in quantities.QUANTITIES:
        label = results.label(one.key).lower()
        assert not ("percent" in label and "%" in label) and ") (" not in label, label
        assert " ml" not in label, f"{label}: reads like millilitres"


def test_a_kind_begins_with_the_quantity_that_was_left():
    groups = quantities.grouped(["raw-concentrations", "conc-ml", "ratio-ml"])
    assert quantities.key_of_kind("Concentration", groups, {}) == "raw-concentrations"
    assert quantities.key_of_kind("Concentration", groups, {"Concentration": "conc-ml"}) == "conc-ml"
    # One that these results do not have.
    assert quantities.key_of_kind("Ratio", groups, {"Ratio": "ratio-in-vivo"}) == "ratio-ml"


def test_chosen_colours_come_back_with_their_map(made):
    results = Results.open(made / "mrsi")
    chosen = map_display.ChosenColours()
    naa, ins = (map_display.picture(results, "conc-ml", metab) for metab in ("NAA", "Ins"))
    chosen.keep(naa, "mrsdl_values", (2.0, 9.0))
    chosen.keep(ins, ins.cmap, ins.range)
    assert chosen.of(naa) == ("mrsdl_values", [2.0, 9.0]) and chosen.of(ins) == (ins.cmap, list(ins.range))
    chosen.keep(naa, naa.cmap, naa.range)
    assert chosen.of(naa) == (naa.cmap, list(naa.range))


def test_titles_fit_their_place():
    long, short = "NAA / Cr+PCr: ratio of maps (concentration): sub-01 minus sub-02", "NAA/Cr+PCr: sub-01 − sub-02"
    assert titles.fitting([long, short], 900) == (long, titles.SIZES[0])
    text, size = titles.fitting([long, short], 0.9 * titles.width(long, titles.SIZES[0]))
    assert text == long and size < titles.SIZES[0]
    assert titles.fitting([long, short], 1.05 * titles.width(short, titles.SIZES[0])) == (short, titles.SIZES[0])
    text, size = titles.fitting([long, short], 90)
    assert "…" in text and titles.width(text, size) <= 90 and text.startswith("NA")
    assert titles.shortened("a_rather_long_name_of_a_folder", 12) == "a_rath…older"
    assert titles.shortened("short", 12) == "short" and titles.width("", 9) == 0


def test_captions_are_whole_at_any_width(tmp_path):
    """Narrow pictures have more lines below them, none of which is cut."""
    from matplotlib.image import imread, imsave

    texts = [("opaque up to 10 % relative SD, invisible from 50 %", (1.0, 1.0, 1.0)), ("outlined: x", (0.0, 1.0, 1.0))]
    place = "results; slices through voxel 10 8 2; patient's right on the left; planes of the spectra's grid"
    for width, lines in ((1500, 2), (500, 3)):
        imsave(tmp_path / "raw.png", np.zeros((80, width, 3)))
        look.write_with_caption(tmp_path / "raw.png", tmp_path / "out.png", texts, place)
        pixels = imread(tmp_path / "out.png")[..., :3].max(-1)
        assert look.caption_height(texts, place, width) == look.CAPTION_HEIGHT + 22 * (lines - 2)
        assert pixels.shape == (80 + look.caption_height(texts, place, width), width)
        assert pixels[80:].any() and not pixels[:, -6:].any(), "text runs over the edge"


def test_long_words_are_broken():
    """Paths, which no space divides: after slashes, and within names that are longer than a line."""
    text = titles.wrapped("/home/user/results/x.nii.gz: cannot be read.\nNext line", 14, len)
    assert text.split("\n") == ["/home/user/", "results/", "x.nii.gz:", "cannot be", "read.", "Next line"]
    assert titles.wrapped("abcdefghij", 4, len) == "abcd\nefgh\nij" and titles.wrapped("", 4, len) == ""
    assert titles.wrapped("ab", 0, len) == "a\nb", "a place without any width"


def test_dialogs_begin_where_the_results_are(made, tmp_path, monkeypatch):
    monkeypatch.setattr(starts, "_latest", {})
    monkeypatch.chdir(tmp_path)
    results = Results.open(made / "mrsi")
    assert starts.folder_for("mask", [results.folder.parent]) == str(made)
    assert starts.folder_for("mask", [tmp_path / "absent", made]) == str(made)
    assert starts.folder_for("mask", [tmp_path / "absent"]) == str(tmp_path)
    # The latest choice comes first, for its own purpose.
    assert starts.chosen("mask", str(tmp_path / "mask.nii.gz")) == str(tmp_path / "mask.nii.gz")
    assert starts.folder_for("mask", [made]) == str(tmp_path) and starts.folder_for("save", [made]) == str(made)
    assert starts.picture_name(results, "NAA/Cr+PCr") == "mrsi_NAA_over_Cr+PCr.png"
    assert starts.table_name(results, (1, 2, 3)) == "mrsi_voxel_1_2_3.tsv"


def test_folders_within_results_open_the_results(made):
    for inside in ("concs", "concs/raw", "uncertainties", "fit", "quality"):
        assert Results.open(made / "mrsi" / inside).folder.resolve() == (made / "mrsi").resolve()


@pytest.mark.parametrize("content", [b"nothing", "half", "corrupt"])
def test_an_unreadable_map_is_named_and_the_rest_is_shown(made, tmp_path, content):
    folder = tmp_path / "mrsi"
    shutil.copytree(made / "mrsi", folder, symlinks=True)
    path = folder / layout.by_key("conc-ml").path("Cr")  # the first of the alphabet
    whole = path.read_bytes()
    middle = len(whole) // 2
    broken = {"half": whole[:middle], "corrupt": whole[:middle] + b"xxxxxxxx" + whole[middle + 8 :]}
    path.write_bytes(broken.get(content, content))
    results = Results.open(folder)
    steps = []
    results.read_all(lambda done, total: steps.append((done, total)))
    assert len(results.problems) == 1 and str(path) in results.problems[0], results.problems
    assert results.map("conc-ml", "Cr") is None and results.map("conc-ml", "NAA") is not None
    assert steps[-1][0] == steps[-1][1] > 10 and results.at(made_results.SURE).rows
    shutil.rmtree(folder)
    assert results.map("ratio-ml", "NAA") is not None, "what was read needs no folder"


def test_one_plane_is_large():
    for width, height in ((600, 600), (900, 400), (300, 800)):
        found = canvas_layout.places(width, height, "axial")
        areas = {plane: w * h for plane, (_, _, w, h) in found.items()}
        assert areas["axial"] > 2 * max(areas["coronal"], areas["sagittal"])
        assert sum(areas.values()) == pytest.approx(width * height, rel=0.01)
    assert canvas_layout.places(600, 600, "all") is None


def test_the_large_plane_of_a_closed_view_is_forgotten(monkeypatch):
    """A view that its arrangement kept in memory would keep everything that was ever shown in it."""
    import gc
    import sys
    import types
    import weakref

    monkeypatch.setitem(sys.modules, "wx", types.SimpleNamespace(CallAfter=lambda action: None, EVT_SIZE=0))

    class View:
        """What the arrangement uses of a view."""

        def __init__(self):
            self.destroyed, self.listeners = False, []
            self.displayCtx = self.sceneOpts = self.contentPanel = types.SimpleNamespace(
                addListener=lambda *words: None, Bind=lambda kind, handler: self.listeners.append(handler), layout=""
            )

    view = View()
    plane = canvas_layout.large_plane_of(view)
    assert canvas_layout.large_plane_of(view) is plane and view.listeners
    plane.choose("axial")
    assert view.sceneOpts.layout == "horizontal"
    view.destroyed = True
    plane.choose("all")
    assert view.sceneOpts.layout == "horizontal", "a closed view was changed"
    gone = weakref.ref(view)
    del view, plane
    gc.collect()
    assert gone() is None


def test_a_folder_without_any_readable_concentration_is_refused(made, tmp_path):
    folder = tmp_path / "mrsi"
    shutil.copytree(made / "mrsi", folder, symlinks=True)
    for path in folder.glob("concs/*/*.nii.gz"):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        Results.open(folder).read_all()
