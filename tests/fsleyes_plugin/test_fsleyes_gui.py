"""The plugin inside of the real FSLeyes.  The tests that are marked ``inside`` share a window of it, see
``fsleyes_desk``."""

from __future__ import annotations

import contextlib
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
    made_results.slice_numbers(folder / "slices")
    return folder


@pytest.fixture(scope="module")
def problems(request, made, tmp_path_factory):
    """What went wrong by test, of the chosen tests that run inside of FSLeyes."""
    lack = fsleyes_desk.lacking()
    if lack:
        pytest.skip(lack)
    tests = [
        item.originalname
        for item in request.session.items
        if item.module is request.module and hasattr(item.function, "inside")
    ]
    return fsleyes_desk.run(__name__, tests, made, tmp_path_factory.mktemp("home"))


def inside(function):
    """A test that runs a function inside of FSLeyes, with a :class:`fsleyes_desk.Desk`."""

    def test(problems):
        assert not problems[function.__name__], problems[function.__name__]

    test.__doc__, test.inside = function.__doc__, function
    return test


@contextlib.contextmanager
def answered(path, box=lambda text: None):
    """Answer dialogs at once: those for paths with ``path(title)``, message boxes with ``box(text)``.

    Gives the arguments of every dialog for a path.
    """
    import wx

    opened = []

    class Dialog:
        """A dialog for a path."""

        def __init__(self, *args, **_):
            opened.append(args)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def ShowModal(self):
            """Accept."""
            return wx.ID_OK

        def GetPath(self):
            """Return the answer to this dialog's title."""
            return str(path(opened[-1][1]))

    old = wx.DirDialog, wx.FileDialog, wx.MessageBox
    wx.DirDialog = wx.FileDialog = Dialog
    wx.MessageBox = lambda text, *_, **__: box(text)
    try:
        yield opened
    finally:
        wx.DirDialog, wx.FileDialog, wx.MessageBox = old


def near(colour, pixels, tolerance=40):
    """How many pixels have nearly a colour (red, green, blue, 0 to 1)."""
    return int((np.abs(pixels - 255 * np.array(colour)).max(-1) < tolerance).sum())


def of_map(pixels, name="mrsdl_values", tolerance=8):
    """How many pixels have a colour of a map's scale."""
    from fsleyes_plugin_dl import colours

    codes, counts = np.unique(pixels.reshape(-1, 3) @ [65536, 256, 1], return_counts=True)
    pixels = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    table = 255 * colours.colour_table(name)[::4]
    near_table = np.abs(pixels[:, None] - table).max(-1).min(1) < tolerance
    return int(counts[near_table & (np.ptp(pixels, axis=-1) > 20)].sum())


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
    assert not panel.texts["problem"].IsShownOnScreen(), "there is an empty row for problems"
    inside_of_its_row(panel, panel.texts["shown"])
    assert [row[0] for row in table.cells()] == sorted(made_results.METABS)
    assert any("Conc." in title and "(a.u.)" in title for title in table.titles)
    assert all(overlay.saveState for overlay in desk.frame.overlayList)
    assert scene.ortho.displayCtx.getSelectedOverlay() is scene.map and scene.ortho.sceneOpts.showColourBar
    assert scene.ortho.displayCtx.displaySpace is scene.map, "maps that are oblique to the display are drawn elsewhere"
    scene.settings.opacity = 100
    desk.picture(scene, lambda seen: of_map(seen[:-120]) > 1000, "the map is seen")


def opacities(scene):
    """Opacities of the fitted voxels, in the image that fades the map."""
    return scene.certainty[:][1:-1, 1:-1, 1:-1][scene.grid.drawn(scene.results.fitted)]


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
    assert np.ptp(opacities(scene)) == 0, "a map without an uncertainty fades"
    settings.quantity = "ratio-ml"
    assert display.name == "Ins: ratio to Cr+PCr, maximum likelihood" and np.ptp(opacities(scene)) > 0
    settings.fade = False
    assert np.ptp(opacities(scene)) == 0
    # The colour bar has the opacity of the overlay: it is the same for all maps.
    assert display.alpha == 100 and scene.map_opts.modulateAlpha
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
    bounds = scene.ortho.displayCtx.bounds
    scene.ortho.displayCtx.location.xyz = (bounds.xlo + 1, bounds.ylo + 1, bounds.zlo + 1)
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
    scene.settings.fade, scene.settings.opacity = False, 100
    panel = desk.panel(scene.ortho, ResultsPanel)
    seen = []

    def coloured(test):
        def holds(pixels):
            seen.append(of_map(pixels[:-120]))
            # Twice the same: not in the midst of drawing.
            return seen[-1] > 100 and seen[-2:-1] == seen[-1:] and test(seen[-1])

        desk.picture(scene, holds, "as much is coloured as should be")
        return seen[-1]

    before = coloured(lambda n: n > 1000)
    scene.settings.criterion = "percent"
    assert scene.settings.threshold == 20 and "62 of 74" in panel.texts["shown"].GetLabel()
    after = coloured(lambda n: n < 0.95 * before)
    scene.settings.criterion = "sd"
    scene.settings.threshold = 0.25
    shown = scene.results.sd("conc-ml", "NAA") <= 0.25
    assert 0 < shown.sum() < 5 and f"{shown.sum()} of 74" in panel.texts["shown"].GetLabel()
    coloured(lambda n: n < 0.5 * after)
    scene.settings.criterion = "off"
    coloured(lambda n: abs(n - before) < 0.02 * before)


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

    from fsleyes_plugin_dl import view
    from fsleyes_plugin_dl.scene import scene_of

    words, more = view.command(desk.folder / "mrsi", desk.t1)
    assert words[-1].endswith("_start.py") and json.loads(more[view.VARIABLE])["t1"] == str(desk.t1)
    os.environ.update(more)
    view.start(desk.frame)
    desk.wait(lambda: scene_of(desk.frame) is not None and scene_of(desk.frame).voxel is not None, "results are shown")
    said = []
    os.environ[view.VARIABLE] = json.dumps({"folder": str(desk.folder), "t1": None, "data": None})
    with answered(None, said.append):
        view.start(desk.frame)
        desk.wait(lambda: said, "the error is said")
    assert "is no folder of results" in said[0] and "\n" not in said[0]
    assert scene_of(desk.frame) is not None, "what was shown must stay"


@inside
def test_colours_lie_where_the_table_says(desk):
    """Oblique to the T1: under every place of the three planes is the colour of the voxel in the table there."""
    from fsleyes_plugin_dl import colours

    scene = desk.load("slices", t1=desk.t1)
    scene.settings.fade, scene.settings.opacity = False, 100
    scene.go_to((2, 2, 1))
    table = 255 * colours.colour_table("mrsdl_values")
    scene.ortho.sceneOpts.showCursor = scene.ortho.sceneOpts.showLabels = False

    def wrong(canvas):
        """Places whose colour is not that of their voxel, and how many were looked at in the map."""
        try:
            pixels = np.asarray(canvas.getBitmap(), int)[..., :3]
        except TypeError:  # nothing was drawn yet
            return 0, 0
        height, width = pixels.shape[:2]
        bad, inside = 0, 0

        def voxel(x, y):
            return scene.voxel_at(canvas.canvasToWorld(x, height - 1 - y))

        for x in range(3, width - 3, 13):
            for y in range(3, height - 3, 13):
                around = {voxel(x + dx, y + dy) for dx in (-2, 2) for dy in (-2, 2)}
                around = {one and one[2] for one in around}
                if len(around) > 1:  # at an edge
                    continue
                (slice_index,) = around
                nearest = np.abs(pixels[y, x] - table).max(-1).min()
                if slice_index is None:
                    bad += nearest < 6
                else:
                    inside += 1
                    bad += np.abs(pixels[y, x] - table[round(255 * (slice_index + 1) / 3)]).max() > 6
        return bad, inside

    found = []

    def right():
        desk.pump(0.5)
        found[:] = [wrong(canvas) for canvas in scene.ortho.getGLCanvases()]
        return all(bad == 0 and inside > 8 for bad, inside in found)

    try:
        desk.wait(right, f"colours are in their place: {found}", 120)
    except AssertionError:
        raise AssertionError(f"wrong places, and places in the map, by plane: {found}") from None
    scene.ortho.sceneOpts.showCursor = scene.ortho.sceneOpts.showLabels = True


@inside
def test_loading_is_a_transaction(desk):
    """What cannot be read leaves the earlier results whole; one unreadable map is a line in red."""
    import shutil

    from fsl_mrs_dl.core.errors import DataError
    from fsleyes_plugin_dl.panels import ResultsPanel, TablePanel
    from fsleyes_plugin_dl.scene import scene_of

    scene = desk.load("mrsi", t1=desk.t1)
    overlays, before = list(desk.frame.overlayList), desk.panel(scene.mrs, TablePanel).cells()
    broken = desk.home / "broken"
    shutil.copytree(desk.folder / "mrsi", broken, symlinks=True)
    files = sorted(broken.glob("concs/*/*.nii.gz"))
    whole = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(whole[path][: len(whole[path]) // 2])
    try:
        desk.load(broken)
    except DataError as exc:
        assert ".nii.gz: cannot be read" in str(exc)
    else:
        raise AssertionError("results without a readable map were loaded")
    assert scene_of(desk.frame) is scene and list(desk.frame.overlayList) == overlays
    scene.settings.metab = "Ins"
    assert desk.panel(scene.mrs, TablePanel).cells() == before
    for path in files[1:]:
        path.write_bytes(whole[path])
    fit = broken / "fit" / "fit.nii.gz"
    fit.write_bytes(fit.read_bytes()[:2000])
    scene = desk.load(broken)
    line = desk.panel(scene.ortho, ResultsPanel).texts["problem"]
    assert files[0].name in line.GetToolTipText() and "fit.nii.gz" in line.GetToolTipText()
    inside_of_its_row(desk.panel(scene.ortho, ResultsPanel), line)
    red = line.GetForegroundColour()
    assert red.Red() > 150 and red.Green() < 60 and "cannot be read" in line.GetLabelText().replace("\n", " ")
    scene.go_to((3, 3, 1))
    table = desk.panel(scene.mrs, TablePanel)
    assert "Voxel 3 3 1" in table.state.GetLabel() and len(table.cells()) == len(made_results.METABS)
    scene.settings.metab, scene.settings.quantity = files[0].name.split(".")[0], quantity_of(files[0].parent.name)
    assert "There is no map of" in line.GetLabelText().replace("\n", " ")


def quantity_of(folder):
    """Key of the quantity with a folder of maps."""
    from fsleyes_plugin_dl import quantities

    return next(one.key for one in quantities.QUANTITIES if one.template.startswith(f"concs/{folder}/"))


@inside
def test_the_table_follows_through_everything(desk):
    """Through views that are closed and opened, a folder that vanishes, and a panel that fails."""
    import shutil

    from fsleyes.views.orthopanel import OrthoPanel
    from fsleyes_plugin_mrs.views import MRSView

    from fsleyes_plugin_dl import overlays
    from fsleyes_plugin_dl.panels import ResultsPanel, TablePanel
    from fsleyes_plugin_dl.subscribers import subscribe, unsubscribe

    folder = desk.home / "vanishing"
    shutil.copytree(desk.folder / "mrsi", folder, symlinks=True)
    scene = desk.load(folder, t1=desk.t1)

    def follows(voxel):
        scene.go_to(voxel)
        text = desk.panel(scene.mrs, TablePanel).state.GetLabel()
        assert "Voxel {} {} {}".format(*voxel) in text, (voxel, text)

    class Failing:
        """A panel that fails at every voxel."""

        def sceneChanged(self):
            """Do nothing."""

        mapChanged = sceneChanged

        def voxelChanged(self):
            """Fail."""
            raise RuntimeError("as it should")

    failing = Failing()
    subscribe(desk.frame, failing)
    import logging

    logging.getLogger("fsleyes_plugin_dl.subscribers").disabled = True
    follows((1, 0, 0))
    logging.getLogger("fsleyes_plugin_dl.subscribers").disabled = False
    unsubscribe(desk.frame, failing)
    shutil.rmtree(folder)
    follows((3, 1, 1))
    scene.settings.quantity = "misfit"
    assert scene.shown.title == "residual over noise" and np.nanmax(scene.map[:]) > 1
    old = scene.mrs
    desk.frame.removeViewPanel(old)
    desk.frame.addViewPanel(MRSView)
    desk.wait(lambda: scene.mrs is not old and scene.mrs.isPanelOpen(TablePanel), "the new plot is followed")
    follows((3, 2, 1))
    desk.wait(lambda: desk.drawn(scene, "fit") is not None, "the fit is drawn again")
    old = scene.ortho
    desk.frame.removeViewPanel(old)
    desk.pump(0.3)
    new = desk.frame.addViewPanel(OrthoPanel)
    desk.wait(lambda: scene.ortho is new and new.isPanelOpen(ResultsPanel), "the new view is followed")
    follows((2, 3, 2))
    new.displayCtx.location.xyz = new.displayCtx.getOpts(scene.map).transformCoords((4, 1, 1), "voxel", "display")
    assert scene.voxel == (4, 1, 1) and "Voxel 4 1 1" in desk.panel(scene.mrs, TablePanel).state.GetLabel()
    # A view that was opened by hand has no room for the colour bar when the bar is made.
    desk.clear()
    scene = desk.load("mrsi", t1=desk.t1)
    assert scene.ortho is new
    desk.wait(lambda: overlays.is_drawn(new.colourBarCanvas), "the colour bar is drawn")


@inside
def test_maps_are_readable_by_default(desk):
    """Relative SDs from 0 to 50 with another colour above; yes and no in two colours; nothing vanishes on black."""
    from fsleyes_plugin_dl import colours

    scene = desk.load("mrsi", t1=desk.t1)
    scene.settings.opacity = 100
    scene.settings.quantity = "sd"
    low, high = scene.map_opts.displayRange
    assert (low, high) == (0, 50) and "white above 50" in scene.shown.title
    for key in ("at-zero", "mostly-prior", "FWHM", "SNR"):
        scene.settings.quantity = key
        table = scene.map_opts.cmap(np.linspace(0, 1, 64))[:, :3]
        assert table.max(1).min() > 0.4, f"{key} vanishes on black"
        for _, mark in map_display_marks().values():
            assert np.linalg.norm(table - mark, axis=1).min() > 0.6, f"outlines are lost on {key}"
    scene.settings.quantity = "mostly-prior"
    flags = colours.colour_table("mrsdl_flags")
    scene.go_to((4, 3, 1))
    desk.picture(
        scene,
        lambda seen: all(near(colour, seen[:-120], 10) > 300 for colour in flags),
        "voxels with and without the mark differ",
    )


def map_display_marks():
    """The outlines' meanings and colours."""
    from fsleyes_plugin_dl import map_display

    return map_display.MARKS


@inside
def test_the_images_are_large_and_the_anatomy_shows_through(desk):
    """A large axial plane; lists of overlays and the location; an opacity that lets the T1 be seen."""
    from fsleyes.controls.locationpanel import LocationPanel
    from fsleyes.controls.overlaylistpanel import OverlayListPanel

    scene = desk.load("mrsi", t1=desk.t1)
    sagittal, coronal, axial = scene.ortho.getGLCanvases()
    desk.wait(lambda: axial.GetSize()[0] > 1.5 * coronal.GetSize()[0], "the axial plane is large")
    assert min(axial.GetSize()) > 300, axial.GetSize()
    scene.settings.planes = "sagittal"
    desk.wait(lambda: sagittal.GetSize()[0] > 1.5 * axial.GetSize()[0], "the sagittal plane is large")
    scene.settings.planes = "axial"
    for panel in (OverlayListPanel, LocationPanel):
        assert scene.ortho.isPanelOpen(panel), panel
    scene.settings.fade = False
    scene.settings.opacity = 100
    desk.picture(scene, lambda seen: of_map(seen[:-120]) > 2000, "the map hides the T1")
    scene.settings.opacity = 40
    desk.picture(scene, lambda seen: of_map(seen[:-120]) < 1000, "the T1 shows through")
    scene.settings.fade = True
    desk.picture(scene, lambda seen: of_map(seen[:-120]) < 1000, "the T1 shows through a map that fades")


@inside
def test_work_is_kept(desk):
    """Another folder keeps the T1, the metabolite, thresholds, colours and cursor; removing the T1 keeps the map."""
    from fsleyes_plugin_dl.scene import scene_of

    scene = desk.load("mrsi", t1=desk.t1)
    t1 = scene.t1
    settings = scene.settings
    settings.metab, settings.criterion, settings.threshold = "Ins", "percent", 33
    settings.sure, settings.opacity, settings.residual = 7, 55, False
    scene.map_opts.displayRange = [1, 5]
    scene.go_to((3, 3, 2))
    scene = desk.load("mrsi")
    settings = scene.settings
    assert scene.t1 is t1 and t1 in desk.frame.overlayList and scene.voxel == (3, 3, 2)
    found = (settings.metab, settings.criterion, settings.threshold, settings.sure, settings.opacity, settings.residual)
    assert found == ("Ins", "percent", 33, 7, 55, False)
    assert tuple(scene.map_opts.displayRange) == (1, 5)
    # A part of the folder opens the whole.
    scene = desk.load("mrsi/concs/raw")
    assert scene.results.folder.name == "mrsi" and scene.voxel == (3, 3, 2)
    desk.frame.overlayList.remove(t1)
    desk.pump(0.3)
    assert scene_of(desk.frame) is scene and scene.t1 is None and scene.map in desk.frame.overlayList
    scene.go_to((2, 1, 1))
    assert scene.voxel == (2, 1, 1)


@inside
def test_settings_that_contradict_each_other_are_not_accepted(desk):
    """The ends of the fading keep their order, a threshold ends with its unit, ticks that draw nothing are disabled."""
    from fsleyes_plugin_dl.panels import ResultsPanel

    scene = desk.load("mrsi", t1=desk.t1)
    settings = scene.settings
    settings.sure = 60
    assert settings.sure == 60 and settings.unsure == 70
    settings.unsure = 30
    assert settings.unsure == 30 and settings.sure == 20
    settings.sure, settings.unsure = 10, 50
    settings.criterion = "sd"
    before = settings.threshold
    settings.quantity = "ratio-ml"
    assert settings.threshold < before / 2, "a threshold in a.u. was left for a ratio"
    # One in percent comes back as it was left.
    settings.criterion = "percent"
    settings.threshold = 35
    settings.criterion = "sd"
    settings.criterion = "percent"
    assert settings.threshold == 35
    settings.criterion = "off"
    panel = desk.panel(scene.ortho, ResultsPanel)
    assert panel.kinds.GetStringSelection() == "Ratio" and len(panel.kinds.GetItems()) < 9
    assert max(len(keys) for keys in panel._groups.values()) <= 8
    assert "right is on the left" in panel.texts["convention"].GetLabelText().replace("\n", " ")
    assert panel.cmaps.GetStringSelection().startswith("Values")
    settings.quantity = "ood-score"
    assert panel.kinds.GetStringSelection() == "Quality of the fit"
    # The kind that was left begins with the quantity that was left, in the colours that were chosen for it.
    scene.map_opts.displayRange = [0, 7]
    for kind, key in (("Ratio", "ratio-ml"), ("Quality of the fit", "ood-score")):
        panel.kinds.SetStringSelection(kind)
        panel._choose_kind()
        assert settings.quantity == key, f"{kind} came back to {settings.quantity}"
    assert tuple(scene.map_opts.displayRange) == (0, 7)
    scene.reset_range()
    settings.quantity = "conc-ml"
    settings.quantity = "ood-score"
    assert tuple(scene.map_opts.displayRange) == scene.shown.range
    assert panel.ticks["contribution"].IsEnabled()
    settings.metab, settings.plus = "Cr", "PCr"
    assert scene.contribution() is not None and panel.ticks["contribution"].IsEnabled()
    settings.quantity = "conc-ml"
    assert "Cr+PCr" in scene.shown.title
    settings.over = "NAA"
    assert scene.shown.title.startswith("Cr+PCr / NAA")
    there = scene.results.fitted
    total = scene.results.map("conc-ml", "Cr") + scene.results.map("conc-ml", "PCr")
    assert np.allclose(scene.map[:][there], (total / scene.results.map("conc-ml", "NAA"))[there], rtol=1e-4)
    scene = desk.load("slices")
    panel = desk.panel(scene.ortho, ResultsPanel)
    assert "oblique" in panel.texts["convention"].GetLabelText()


@inside
def test_means_over_regions(desk):
    """Of a mask, its mirror image and their difference, each voxel with its part; a ball around the cursor."""
    import nibabel

    from fsleyes_plugin_dl.panels import ResultsPanel

    scene = desk.load("mrsi", t1=desk.t1)
    panel = desk.panel(scene.ortho, ResultsPanel)
    values = scene.results.map("conc-ml", "NAA")
    # Two voxels on the patient's right side of the middle, on a fine grid.
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = made_results.AFFINE[:3, 3] + (made_results.AFFINE[:3, :3] @ [4, 2, 1]) - 4 * np.array([1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(np.ones((10, 5, 5), np.uint8), affine), desk.home / "mask.nii.gz")
    scene.settings.mirror = False
    scene.set_mask(desk.home / "mask.nii.gz")
    title, name, line, note = scene.region_report()
    found = float(line.split(": ")[1].split(" ")[0])
    assert abs(found - values[4:6, 2, 1].mean()) < 0.3, (line, values[4:6, 2, 1])
    assert title == scene.shown.title and name == "Region: mask.nii.gz" and note.startswith("± SE of the mean")
    text = panel.texts["region"].GetLabelText().replace("\n", " ")
    assert all(part in text for part in (title, name, line, note)), text
    assert scene.region_text().startswith(str(scene.results.folder))
    scene.settings.mirror = True
    lines = scene.region_report()
    assert lines[3].startswith("Other side: ") and lines[4].startswith("Difference: ") and "±" in lines[4]
    assert set(np.unique(scene.regions[:])) == {0, 1, 2}
    scene.go_to((3, 2, 1))
    scene.settings.radius = 6
    scene.set_ball()
    assert scene.regions[tuple(scene.grid.drawn_index((3, 2, 1)))] == 1
    scene.settings.over = "Cr"
    lines = scene.region_report()
    assert lines[0].startswith("NAA / Cr: ratio of maps") and lines[1] == "Region: ball of 6 mm around voxel 3 2 1"
    # A lesion of 4 mm in a corner of a voxel: both sides are outlined.
    mask = np.zeros((10, 5, 5), np.uint8)
    mask[:2, :2, :2] = 1
    nibabel.save(nibabel.Nifti1Image(mask, affine), desk.home / "small.nii.gz")
    scene.set_mask(desk.home / "small.nii.gz")
    assert set(np.unique(scene.regions[:])) == {0, 1, 2}
    inside_of_its_row(panel, panel.texts["region"])


def inside_of_its_row(panel, text):
    """Check that all of a text can be seen in the panel, and that the panel has no more than its width."""
    widgets = panel.getWidgetList()
    for group in widgets.GetGroups():
        widgets.Expand(group, True)
    row, best = text.GetParent().GetClientSize(), text.GetBestSize()
    assert row[0] >= best[0] and row[1] >= best[1], (text.GetLabelText(), row, best)
    lines = text.GetLabelText().count("\n") + 1
    assert row[1] <= (lines + 1) * panel.GetCharHeight(), "there are empty lines below a text"
    assert widgets.GetVirtualSize()[0] <= widgets.GetClientSize()[0], "the panel scrolls to the side"


@inside
def test_two_folders_side_by_side(desk):
    """The other map, and the difference with its SD, in a view of its own that shows nothing else."""
    from fsleyes.views.orthopanel import OrthoPanel

    from fsleyes_plugin_dl import titles
    from fsleyes_plugin_dl.panels import ResultsPanel, TablePanel
    from fsleyes_plugin_dl.results_folder import Results

    scene = desk.load("mrsi", t1=desk.t1)
    scene.compare(Results.open(desk.folder / "slices"))
    view, compared = scene.comparison.view, scene.comparison
    assert view is not scene.ortho and len(desk.frame.getView(OrthoPanel)) == 2
    scene.end_comparison()
    scene.compare(Results.open(desk.folder / "fsl_mrsi"))
    assert scene.comparison.shown is None, "fsl_mrsi has no such map"
    scene.settings.quantity = "raw-concentrations"
    compared = scene.comparison
    assert compared.shown is not None and np.abs(compared.shown.values[compared.shown.shown]).max() < 1e-4
    scene.go_to((3, 2, 1))
    line = desk.panel(scene.mrs, TablePanel).state
    assert "difference 0" in line.GetLabelText().replace("\n", " "), line.GetLabelText()
    scene.settings.second = "other"
    assert "difference" not in line.GetLabelText(), "the line is not that of the second view"
    scene.settings.second = "difference"
    assert "difference" in line.GetLabelText()
    scene.settings.second = "other"
    there = scene.results.fitted
    assert np.allclose(compared.shown.values[there], scene.results.map("raw-concentrations", "NAA")[there])
    assert tuple(compared.view.displayCtx.getOpts(compared.image).displayRange) == tuple(scene.map_opts.displayRange)
    enabled = {
        name: [one.name for one in desk.frame.overlayList if context.getDisplay(one).enabled]
        for name, context in (("first", scene.ortho.displayCtx), ("second", compared.view.displayCtx))
    }
    assert "comparison" in str(enabled["second"]) and "map" not in enabled["second"], enabled
    assert "comparison" not in str(enabled["first"]) and "map" in enabled["first"], enabled
    # Titles fit the width of their views, whichever map they are of, and the texts of the panels their places.
    table, panel = desk.panel(scene.mrs, TablePanel), desk.panel(scene.ortho, ResultsPanel)
    for second in ("difference", "other"):
        for over in ("–", "Cr"):
            scene.settings.second, scene.settings.over = second, over
            desk.pump(0.5)
            for one, image in ((scene.ortho, scene.map), (compared.view, compared.image)):
                title, size = one.displayCtx.getDisplay(image).name, one.sceneOpts.labelSize
                assert "NAA" in title and titles.width(title, size) < one.contentPanel.GetClientSize()[0], title
            state, save = table.state.GetScreenRect(), table.buttons[0].GetScreenRect()
            assert state.Right <= save.Left and state.Height >= table.state.GetBestSize()[1] - 2, (state, save)
            assert "fsl_mrsi" in panel.texts["compare"].GetLabelText().replace("\n", "")
            inside_of_its_row(panel, panel.texts["compare"])
    scene.settings.over = "–"
    scene.settings.second = "difference"
    scene.end_comparison()
    assert "difference" not in line.GetLabelText()
    assert len(desk.frame.getView(OrthoPanel)) == 1 and compared.image not in desk.frame.overlayList


@inside
def test_pictures_and_tables_as_files(desk):
    """The picture with folder, slice and convention below it; the table as text."""
    from matplotlib.image import imread

    from fsleyes_plugin_dl.panels import TablePanel

    scene = desk.load("mrsi", t1=desk.t1)
    desk.picture(scene, lambda seen: seen[:-120].max() > 100, "something is drawn")
    scene.save_picture(desk.home / "shown")
    pixels = imread(desk.home / "shown.png")
    assert (pixels[-60:, :, :3].max(-1) > 0.6).sum() > 300, "there is no text below the picture"
    table = desk.panel(scene.mrs, TablePanel)
    table.save(desk.home / "table.tsv")
    lines = (desk.home / "table.tsv").read_text().splitlines()
    assert "mrsi" in lines[0] and "Voxel" in lines[1] and lines[2].startswith("Metabolite\t")
    assert len(lines) == 3 + len(made_results.METABS)
    # The dialogs propose a name beside the results, and an existing file is replaced only if a user wants it.
    import wx

    from fsleyes_plugin_dl import panel_groups, starts
    from fsleyes_plugin_dl.panels import ResultsPanel

    answer = {"path": desk.home / "table", "box": wx.NO}
    with answered(lambda _: answer["path"], lambda _: answer["box"]) as opened:
        starts._latest.clear()
        (desk.home / "table.tsv").write_text("precious")
        table.ask_and_save()
        assert opened[-1][2:4] == (str(desk.folder), "mrsi_voxel_{}_{}_{}.tsv".format(*scene.voxel)), opened
        assert (desk.home / "table.tsv").read_text() == "precious"
        answer["box"] = wx.YES
        table.ask_and_save()
        assert (desk.home / "table.tsv").read_text() == table.text() and opened[-1][2] == str(desk.home)
        panel = desk.panel(scene.ortho, ResultsPanel)
        answer["path"] = desk.home / "picture.png"
        panel_groups._ask_for_picture(panel)
        assert opened[-1][3] == "mrsi_NAA.png" and (desk.home / "picture.png").is_file()
        answer["path"] = desk.folder / "mrsi/concs/ml/NAA.nii.gz"
        panel_groups._ask_for_mask(panel)
        assert opened[-1][2] == str(desk.t1.parent) and scene.region_name == "NAA.nii.gz"


@inside
def test_changes_wait_for_the_first_drawing(desk):
    """Settings that are changed while FSLeyes makes its textures are shown once it has made them."""
    from fsleyes_plugin_dl import overlays

    tools = {item.GetItemLabelText(): action for action, item in desk.frame._FSLeyesFrame__toolsMenuActions}
    scene = tools["Load DL-MRS results"](folder=desk.folder / "mrsi", t1=desk.t1)
    images, before = [scene.map, scene.certainty, scene.marks], scene.map[:].copy()
    scene.settings.opacity, scene.settings.metab = 100, "Ins"
    if not overlays.are_ready(scene.ortho, images):
        assert np.array_equal(scene.map[:], before, equal_nan=True), "the map changed before it was drawn"
    desk.wait(lambda: scene.shown.title.startswith("Ins"), "the other map is shown")
    there = scene.results.fitted
    assert np.allclose(scene.map[:][there], scene.results.map("conc-ml", "Ins")[there])
    assert scene.ortho.displayCtx.getDisplay(scene.map).name.startswith("Ins")
    desk.picture(scene, lambda seen: of_map(seen[:-120]) > 1000, "the other map is seen")


@inside
def test_edges_of_voxels_can_be_drawn(desk):
    """Edges of every voxel."""
    scene = desk.load("mrsi", t1=desk.t1)
    scene.settings.opacity = 100

    def grey(seen):
        part = seen[:-120]
        return int(((np.ptp(part, axis=-1) == 0) & (part[..., 0] > 174) & (part[..., 0] < 204)).sum())

    counts = []
    desk.picture(scene, lambda seen: counts.append(grey(seen)) is None and seen[:-120].max() > 200, "the map is drawn")
    scene.settings.voxelGrid = True
    desk.picture(scene, lambda seen: grey(seen) > counts[-1] + 500, "the edges are drawn")


@inside
def test_the_tool_asks_for_a_t1_once(desk):
    """*Load DL-MRS results* asks for a folder and a T1, and not for the latter where there is one."""
    folder = desk.folder / "mrsi"
    with answered(lambda title: desk.t1 if "Structural" in title else folder) as opened:
        tools = {item.GetItemLabelText(): action for action, item in desk.frame._FSLeyesFrame__toolsMenuActions}
        scene = tools["Load DL-MRS results"]()
        assert len(opened) == 2 and "Structural" in opened[1][1] and scene.t1 is not None
        scene = tools["Load DL-MRS results"]()
        assert len(opened) == 3 and scene.t1 is not None


@inside
def test_results_that_were_replaced_leave_no_trace(desk):
    """Neither other results nor a removed map keep the earlier ones in memory."""
    import gc
    import weakref

    def is_gone(scene):
        gc.collect()
        return scene() is None

    first = weakref.ref(desk.load("mrsi", t1=desk.t1))
    second = desk.load("fsl_mrsi")
    desk.wait(lambda: is_gone(first), "the first results are gone", 20)
    desk.frame.overlayList.remove(second.map)
    second = weakref.ref(second)
    desk.wait(lambda: is_gone(second), "the results of a removed map are gone", 20)


@inside
def test_overlays_that_a_user_removes_are_not_missed(desk):
    """A curve, marks, edges and outlines of a region: everything else goes on."""
    from fsleyes_plugin_dl.panels import ResultsPanel

    scene = desk.load("mrsi", t1=desk.t1)
    overlays = desk.frame.overlayList
    for overlay in (scene.curves["baseline"], scene.voxels, scene.regions, scene.marks):
        overlays.remove(overlay)
        desk.pump(0.2)
    panel = desk.panel(scene.ortho, ResultsPanel)
    assert "baseline" not in panel.ticks and "residual" in panel.ticks
    scene.settings.residual = scene.settings.markFailed = False
    scene.settings.voxelGrid = True
    desk.wait(lambda: desk.drawn(scene, "residual") is None, "the residual is gone")
    scene.set_ball()
    assert "Inside: " in panel.texts["region"].GetLabelText()
    scene.settings.metab = "Ins"
    assert scene.shown.title.startswith("Ins") and scene.map in overlays


@inside
def test_a_layout_may_be_loaded_again(desk):
    """It replaces both views at once; the new ones are set up as the first were."""
    from fsleyes import layouts

    from fsleyes_plugin_dl.panels import ResultsPanel, TablePanel

    scene = desk.load("mrsi", t1=desk.t1)
    old = scene.ortho
    layouts.loadLayout(desk.frame, "mrs-dl")
    desk.wait(lambda: scene.ortho is not old and not scene.mrs.destroyed, "the new views are followed")
    panel = desk.panel(scene.ortho, ResultsPanel)
    desk.wait(lambda: "shown" in panel.texts, "the settings are shown")
    context = scene.ortho.displayCtx
    assert context.displaySpace is scene.map and context.getOpts(scene.marks).outline
    shown = [overlay.name for overlay in scene.overlays if context.getDisplay(overlay).enabled]
    assert shown == ["T1", "map", "marked voxels"], shown
    sagittal, coronal, axial = scene.ortho.getGLCanvases()
    desk.wait(lambda: axial.GetSize()[0] > 1.5 * coronal.GetSize()[0], "the axial plane is large")
    scene.go_to((1, 0, 0))
    assert "Voxel 1 0 0" in desk.panel(scene.mrs, TablePanel).state.GetLabel()


@inside
def test_unusual_structural_images(desk):
    """Of a series the first volume counts; colours are refused, and the earlier results stay."""
    import nibabel

    from fsl_mrs_dl.core.errors import DataError
    from fsleyes_plugin_dl.scene import scene_of

    image = nibabel.load(desk.t1)
    series = np.stack([np.asarray(image.dataobj)] * 2, -1)
    nibabel.save(nibabel.Nifti1Image(series, image.affine), desk.home / "series.nii.gz")
    scene = desk.load("mrsi", t1=desk.home / "series.nii.gz")
    scene.settings.mirror = True
    scene.set_ball()
    assert any(line.startswith("Other side") for line in scene.region_report())
    pixels = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(pixels, image.affine), desk.home / "colours.nii.gz")
    try:
        desk.load("fsl_mrsi", t1=desk.home / "colours.nii.gz")
    except DataError as exc:
        assert "holds colours" in str(exc)
    else:
        raise AssertionError("an image of colours was taken for a structural one")
    assert scene_of(desk.frame) is scene and scene.map in desk.frame.overlayList


@inside
def test_the_second_view_keeps_its_image(desk):
    """While settings change; once a user removes it, the comparison ends and everything else goes on."""
    from fsleyes_plugin_dl.panels import ResultsPanel
    from fsleyes_plugin_dl.results_folder import Results

    scene = desk.load("mrsi", t1=desk.t1)
    scene.compare(Results.open(desk.folder / "slices"))
    scene.settings.second = "other"
    image, view = scene.comparison.image, scene.comparison.view
    scene.settings.opacity = 70
    assert scene.comparison.image is image, "the image was made anew"
    desk.frame.overlayList.remove(image)
    scene.settings.metab = "Ins"
    assert "Ins" in scene.shown.title and "shown" in desk.panel(scene.ortho, ResultsPanel).texts
    desk.wait(lambda: scene.comparison is None and view.destroyed, "the comparison ends with its map")


@inside
def test_the_tick_of_a_part_of_the_fit_depends_on_the_model_alone(desk):
    """Not on the voxel at the cursor when the metabolite was chosen."""
    from fsleyes_plugin_dl.panels import ResultsPanel

    scene = desk.load("mrsi", t1=desk.t1)
    panel = desk.panel(scene.ortho, ResultsPanel)
    scene.go_to(made_results.FAILED)
    scene.settings.metab = "Ins"
    assert scene.contribution() is None and panel.ticks["contribution"].IsEnabled()


@inside
def test_the_second_view_without_the_first(desk):
    """Other metabolites are shown in it, and its panel of settings has a line on the closed view."""
    from fsleyes.views.orthopanel import OrthoPanel

    from fsleyes_plugin_dl.panels import ResultsPanel
    from fsleyes_plugin_dl.results_folder import Results

    scene = desk.load("mrsi", t1=desk.t1)
    scene.compare(Results.open(desk.folder / "slices"))
    scene.settings.second = "other"
    view = scene.comparison.view
    desk.frame.removeViewPanel(scene.ortho)
    desk.pump(0.3)
    scene.settings.metab = "Ins"
    assert "Ins" in scene.shown.title and "Ins" in scene.comparison.shown.title
    view.togglePanel(ResultsPanel, **ResultsPanel.defaultLayout())
    assert "closed" in view.getPanel(ResultsPanel).texts["state"].GetLabelText()
    scene.end_comparison()
    new = desk.frame.addViewPanel(OrthoPanel)
    desk.wait(lambda: scene.ortho is new and new.isPanelOpen(ResultsPanel), "the new view is followed")


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

    from fsleyes_plugin_dl import colours
    from fsleyes_plugin_dl.render import render

    said = render(
        made / "mrsi", tmp_path / "a.png", t1=made / "T1.nii.gz", voxel=(2, 2, 1), opacity=100.0, renderer="fsleyes"
    )
    assert said == "drawn by FSLeyes"
    pixels = np.rint(imread(tmp_path / "a.png")[..., :3] * 255).astype(int)
    assert near((0.2, 1, 0.2), pixels, 25) > 30 and of_map(pixels) > 5000
    # From the first to the last colour, over the width of the picture.
    table = colours.colour_table("mrsdl_values")
    bar = pixels[:, [20, -20]]
    assert near(table[0], bar[:, :1], 40) > 10 and near(table[-1], bar[:, 1:], 40) > 10


def test_render_by_fsleyes_draws_oblique_volumes_in_their_place(made, tmp_path):
    """A map of slice numbers: an axial plane shows one slice only, and the others the three slices, a third each."""
    lack = fsleyes_desk.lacking()
    if lack:
        pytest.skip(lack)
    from test_fsleyes_pure import check_slice_numbers

    from fsleyes_plugin_dl.render import render

    words = {"t1": made / "T1.nii.gz", "voxel": (2, 2, 1), "opacity": 100.0}
    assert render(made / "slices", tmp_path / "a.png", **words, renderer="fsleyes") == "drawn by FSLeyes"
    check_slice_numbers(tmp_path / "a.png")
