"""The plugin inside of the real FSLeyes.  Each test that is marked ``inside`` runs in a process of its own, see
``fsleyes_desk``."""

from __future__ import annotations

import os

import numpy as np
import pytest
from helpers import fsleyes_desk, made_results

pytestmark = pytest.mark.with_fsleyes


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


@pytest.fixture(scope="module")
def display():
    """A screen for FSLeyes."""
    lack = fsleyes_desk.lacking()
    if lack:
        pytest.skip(lack)
    screen = fsleyes_desk.Screen()
    yield screen.display
    screen.close()


def inside(function):
    """A test that runs a function inside of FSLeyes, with a :class:`fsleyes_desk.Desk`."""

    def test(display, made, tmp_path):
        problem = fsleyes_desk.run(__name__, function.__name__, made, tmp_path, display)
        assert not problem, problem

    test.__doc__, test.inside = function.__doc__, function
    return test


def near(colour, pixels, tolerance=40):
    """How many pixels have nearly a colour (red, green, blue, 0 to 1)."""
    return int((np.abs(pixels - 255 * np.array(colour)).max(-1) < tolerance).sum())


def close(drawn, expected):
    """Is a curve drawn, and as it should be?"""
    return drawn is not None and np.allclose(drawn, expected, rtol=1e-3, atol=1e-2 * expected.max())


@inside
def test_the_tool_loads_a_folder(desk):
    """Maps over the T1, panels, a spectrum at a good voxel; nothing that would be asked about when FSLeyes closes."""
    from fsleyes_plugin_dl import map_display
    from fsleyes_plugin_dl.panels import ResultsPanel, TablePanel

    scene = desk.load("mrsi", t1=desk.t1)
    assert scene.ortho is desk.frame.viewPanels[0]
    panel, table = desk.panel(scene.ortho, ResultsPanel), desk.panel(scene.mrs, TablePanel)
    assert scene.voxel == map_display.good_voxel(scene.results)
    desk.wait(
        lambda: all(desk.drawn(scene, what) is not None for what in ("data", "fit", "baseline", "residual")),
        "all curves are drawn",
    )
    shown = [overlay.name for overlay in scene.overlays if scene.ortho.displayCtx.getDisplay(overlay).enabled]
    assert shown == ["T1", "map", "marked voxels"], "spectra and auxiliary images must not lie over the T1"
    assert "74 of 74" in panel.texts["shown"].GetLabel()
    assert [row[0] for row in table.cells()] == sorted(made_results.METABS)
    assert any("Conc." in title and "(a.u.)" in title for title in table.titles)
    assert all(overlay.saveState for overlay in desk.frame.overlayList)
    assert scene.ortho.displayCtx.getSelectedOverlay() is scene.map and scene.ortho.sceneOpts.showColourBar
    assert scene.ortho.displayCtx.displaySpace == "world"
    desk.picture(scene, lambda seen: near((1, 1, 0), seen[:-120], 70) > 1000, "the map is seen")


@inside
def test_metabolite_and_quantity(desk):
    """Other choices show other maps, in ranges that suit them, and fade only what has an uncertainty."""
    from fsleyes_plugin_dl.panels import TablePanel

    scene = desk.load("mrsi", t1=desk.t1)
    settings, display = scene.settings, scene.ortho.displayCtx.getDisplay(scene.map)
    settings.metab = "Ins"
    there = scene.results.fitted
    assert (
        np.allclose(scene.map[:][there], scene.results.map("conc-ml", "Ins")[there])
        and np.isnan(scene.map[:][~there]).all()
    )
    assert display.name == "Ins: maximum-likelihood concentration (a.u.)"
    high = scene.map_opts.displayRange.xhi
    assert 6 < high < 8.5 and scene.map_opts.displayRange.xlo == 0
    assert scene.map_opts.modulateAlpha and scene.map_opts.modulateImage is scene.certainty
    settings.quantity = "misfit"
    assert display.name == "residual over noise" and np.allclose(
        scene.map[:][there], scene.results.map("misfit")[there]
    )
    assert not scene.map_opts.modulateAlpha
    settings.quantity = "ratio-ml"
    assert display.name == "Ins: ratio to Cr+PCr, ml" and scene.map_opts.modulateAlpha
    settings.fade = False
    assert not scene.map_opts.modulateAlpha
    table = desk.panel(scene.mrs, TablePanel)
    font = [table.list.GetItemFont(row).GetWeight() for row in range(table.list.GetItemCount())]
    assert font[1] > font[0] == font[2], "the chosen metabolite's line is not bold"


@inside
def test_the_cursor_chooses_the_spectrum(desk):
    """Spectrum and table are those of the cursor's voxel, and say so where there is none."""
    from fsleyes_plugin_dl import spectra
    from fsleyes_plugin_dl.panels import TablePanel

    scene = desk.load("mrsi", t1=desk.t1)
    table = desk.panel(scene.mrs, TablePanel)
    fit = made_results.spectra(made_results.concentrations()[0])["fit"].conj()
    for voxel in ((1, 0, 0), (5, 4, 2), made_results.STRANGE):
        scene.go_to(voxel)
        expected = spectra.displayed(fit[voxel]).real
        desk.wait(
            lambda expected=expected: close(desk.drawn(scene, "fit"), expected),
            f"the spectrum of voxel {voxel} is drawn",
        )
        assert scene.voxel == voxel and f"Voxel {voxel[0]} {voxel[1]} {voxel[2]}" in table.state.GetLabel()
        found = scene.results.map("conc-ml", "NAA")[voxel]
        cell = next(row for row in table.cells() if row[0] == "NAA")[1]
        assert abs(float(cell.split(" ± ")[0]) - found) < 0.1
    assert "OUT OF DISTRIBUTION" in table.state.GetLabel()
    scene.go_to((5, 4, 2))
    assert "mostly prior" in table.cells()[0]
    scene.go_to(made_results.FAILED)
    assert "could not be fitted" in table.state.GetLabel() and not table.cells()
    scene.ortho.displayCtx.location.xyz = (-57, -57, -45)
    assert scene.voxel is None and "outside" in table.state.GetLabel()


@inside
def test_contribution_and_band_lie_where_the_fit_is(desk):
    """In the view's convention: NAA at 2.01 ppm, the band around the fit, wider where less is known."""
    scene = desk.load("mrsi", t1=desk.t1)
    band, contribution, legend = scene.artists
    widths = {}
    for voxel in (made_results.SURE, (5, 4, 1)):
        scene.go_to(voxel)
        desk.wait(lambda: desk.drawn(scene, "fit") is not None and band.vertices() is not None, "a band is drawn")
        desk.pump(1.0)
        line = scene.mrs.canvas.getArtist(scene.series("fit"))
        x, y = line.get_xdata(), line.get_ydata()
        outline = band.vertices()
        low, high = outline[: len(outline) // 2], outline[len(outline) // 2 :][::-1]
        fit_there = np.interp(low[:, 0], x[np.argsort(x)], y[np.argsort(x)])
        assert np.allclose((low[:, 1] + high[:, 1]) / 2, fit_there, atol=1e-6 * y.max()), (
            "the band is not around the fit"
        )
        widths[voxel] = (high[:, 1] - low[:, 1]).max()
        peak = low[np.argmax(high[:, 1] - low[:, 1]), 0]
        assert min(abs(peak - ppm) for lines in made_results.LINES.values() for ppm, _ in lines) < 0.05
        shift, part = contribution.points()
        inside = (shift > 1.5) & (shift < 2.3)
        assert abs(shift[inside][np.argmax(part[inside])] - 2.01) < 0.05, "NAA is not where it belongs"
        assert np.allclose(part[inside].max(), y[inside].max(), rtol=0.1)
    assert widths[5, 4, 1] > 5 * widths[made_results.SURE]
    assert [text for _, text in legend.entries()][-2:] == ["NAA in the fit", "95 % band of the fit"]
    scene.settings.band = scene.settings.contribution = scene.settings.residual = False
    assert band.vertices() is None and contribution.points() is None
    desk.wait(lambda: desk.drawn(scene, "residual") is None, "the residual is gone")


@inside
def test_thresholds_hide_voxels(desk):
    """By percent and by SD, counted in the panel and gone from the picture."""
    from fsleyes_plugin_dl.panels import ResultsPanel

    scene = desk.load("mrsi", t1=desk.t1)
    scene.go_to((5, 4, 1))
    scene.settings.fade = False
    panel = desk.panel(scene.ortho, ResultsPanel)
    seen = []

    def yellow(test):
        def holds(pixels):
            seen.append(near((1, 0.95, 0.05), pixels[:-120], 60))
            # Twice the same: not in the midst of drawing.
            return seen[-1] > 100 and seen[-2:-1] == seen[-1:] and test(seen[-1])

        desk.picture(scene, holds, "as much is yellow as should be")
        return seen[-1]

    before = yellow(lambda n: n > 1000)
    scene.settings.criterion = "percent"
    assert scene.settings.threshold == 20 and "62 of 74" in panel.texts["shown"].GetLabel()
    after = yellow(lambda n: n < 0.95 * before)
    scene.settings.criterion = "sd"
    scene.settings.threshold = 0.25
    shown = scene.results.sd("conc-ml", "NAA") <= 0.25
    assert 0 < shown.sum() < 5 and f"{shown.sum()} of 74" in panel.texts["shown"].GetLabel()
    yellow(lambda n: n < 0.5 * after)
    scene.settings.criterion = "off"
    yellow(lambda n: abs(n - before) < 0.02 * before)


@inside
def test_failed_and_strange_voxels_are_marked(desk):
    """Outlines of their own colours, which can be switched off."""
    from fsleyes_plugin_dl import map_display

    scene = desk.load("mrsi", t1=desk.t1)
    scene.go_to((2, 2, 1))
    assert {tuple(place): int(scene.marks[tuple(place)]) for place in np.argwhere(scene.marks[:] > 0)} == {
        made_results.FAILED: 2,
        made_results.BAD_FIT: 1,
        made_results.STRANGE: 3,
    }
    colours = [colour for _, colour in map_display.MARKS.values()]
    desk.picture(
        scene, lambda seen: all(near(colour, seen[:-120], 25) > 20 for colour in colours), "all marks are seen"
    )
    scene.settings.markFailed = scene.settings.markOutOfDistribution = False
    desk.picture(
        scene,
        lambda seen: near(colours[1], seen[:-120], 25) + near(colours[2], seen[:-120], 25) < 5,
        "no marks are seen",
    )


@inside
def test_single_voxels(desk):
    """Of fsl_mrs_dl fit and of FSL-MRS: the voxel's outline on the T1, spectrum and table."""
    from fsleyes_plugin_dl.panels import TablePanel

    for name, model in (("fit", True), ("fsl_mrs", False)):
        scene = desk.load(name, t1=desk.t1)
        table = desk.panel(scene.mrs, TablePanel)
        desk.picture(scene, lambda seen: near((1, 0.85, 0), seen, 40) > 200, "the outline is seen")
        desk.wait(
            lambda scene=scene: all(desk.drawn(scene, what) is not None for what in ("data", "fit", "residual")),
            "curves are drawn",
        )
        assert (scene.artists[0].vertices() is not None) == model
        rows = {row[0]: row for row in table.cells()}
        assert set(rows) == set(made_results.METABS) and "±" in rows["NAA"][1]
        assert ("OUT OF DISTRIBUTION" in table.state.GetLabel()) == model
        assert ("mostly prior" in rows["Ins"]) == model
    assert len(desk.frame.overlayList) == len(scene.overlays), "the first results are still there"


@inside
def test_plain_fsl_mrsi(desk):
    """A folder of FSL-MRS: maps, thresholds, data from fit and residual; no model, so no band."""
    from fsleyes_plugin_dl.panels import ResultsPanel, TablePanel
    from fsleyes_plugin_dl.scene import scene_of

    scene = desk.load("fsl_mrsi")
    desk.wait(lambda: desk.drawn(scene, "data") is not None, "the data are drawn")
    total = scene.series("data")
    assert total is not None and np.allclose(
        desk.drawn(scene, "data"), desk.drawn(scene, "fit") + desk.drawn(scene, "residual"), rtol=1e-3, atol=1
    )
    assert scene.artists[0].vertices() is None and scene.artists[1].points() is None
    scene.settings.criterion = "percent"
    assert "62 of" in desk.panel(scene.ortho, ResultsPanel).texts["shown"].GetLabel()
    assert desk.panel(scene.mrs, TablePanel).titles[:3] == ["Metabolite", "Conc. ± SD (a.u.)", "CRLB (%)"]
    # What a user removes is not missed.
    desk.frame.overlayList.remove(scene.map)
    desk.pump(0.5)
    assert scene_of(desk.frame) is None and len(desk.frame.overlayList) == 0


@inside
def test_the_command_view(desk):
    """What 'fsl_mrs_dl view' has FSLeyes do, and how it says that a folder is not what it should be."""
    import json

    import wx

    from fsleyes_plugin_dl import view
    from fsleyes_plugin_dl.scene import scene_of

    words, more = view.command(desk.folder / "mrsi", desk.t1)
    assert words[-1].endswith("_start.py") and json.loads(more[view.VARIABLE])["t1"] == str(desk.t1)
    os.environ.update(more)
    view.start(desk.frame)
    desk.wait(lambda: scene_of(desk.frame) is not None and scene_of(desk.frame).voxel is not None, "results are shown")
    said = []
    wx.MessageBox = lambda text, *_, **__: said.append(text)
    os.environ[view.VARIABLE] = json.dumps({"folder": str(desk.folder), "t1": None, "data": None})
    view.start(desk.frame)
    desk.wait(lambda: said, "the error is said")
    assert "is no folder of results" in said[0] and "\n" not in said[0]
    assert scene_of(desk.frame) is not None, "what was shown must stay"


def test_fsl_mrs_own_tool_reads_our_tree(made):
    """*Load MRSI fit* of fsleyes-plugin-mrs finds every map by the tree in the folder."""
    lack = fsleyes_desk.lacking()
    if lack:
        pytest.skip(lack)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fsleyes_plugin_mrs.tools import MRSFitTool
    tool = MRSFitTool(None, None, None)
    tool.identifyResults(made / "mrsi")
    assert set(tool.metab_list) == set(made_results.METABS)
    assert {"raw-concentrations", "conc-ml", "misfit", "failed"} <= set(tool.display_options)
    assert set(tool.nifti_files) == {"fit-fit", "fit-baseline", "fit-residual"}


def test_render_by_fsleyes(made, tmp_path):
    """A picture without a screen: the map, its colour bar, marks."""
    lack = fsleyes_desk.lacking()
    if lack:
        pytest.skip(lack)
    from matplotlib.image import imread

    from fsleyes_plugin_dl.render import render

    said = render(made / "mrsi", tmp_path / "a.png", t1=made / "T1.nii.gz", voxel=(2, 2, 1), renderer="fsleyes")
    assert said == "drawn by FSLeyes"
    pixels = np.rint(imread(tmp_path / "a.png")[..., :3] * 255).astype(int)
    assert near((0.2, 1, 0.2), pixels, 25) > 30 and near((1, 0.9, 0), pixels, 60) > 5000
    # From red to yellow, over the width of the picture.
    bar = pixels[:, [20, -20]]
    assert near((1, 0, 0), bar[:, :1], 40) > 10 and near((1, 1, 0), bar[:, 1:], 40) > 10
