"""The layout ``mrs-dl``: settings, images, overlays and location on the left, the spectrum and its table on the right.

A layout is a text in FSLeyes's own form: views and their places, then for each view its controls, its settings and
their places.
"""

__all__ = ["MRS_DL"]

_TOP, _RIGHT, _BOTTOM, _LEFT, _CENTRE = 1, 2, 3, 4, 5
# States of panels in wxPython's AUI: their frame and buttons.
_VIEW, _SIDE, _CONTROL, _BAR, _INSIDE = 69474240, 2103292, 2099196, 142332, 768


def _pane(
    name: str, caption: str, state: int, where: int, layer: int = 0, position: int = 0, best: tuple[int, int] = (-1, -1)
) -> str:
    sizes = f"bestw={best[0]};besth={best[1]};minw=-1;minh=-1;maxw=-1;maxh=-1;floatx=-1;floaty=-1;floatw=-1;floath=-1"
    place = f"dir={where};layer={layer};row=0;pos={position};prop=100000"
    return f"name={name};caption={caption};state={state};{place};{sizes}"


def _panes(panes: list[str], docks: dict[tuple[int, int], int]) -> str:
    sizes = [f"dock_size({where},{layer},0)={size}" for (where, layer), size in docks.items()]
    return "|".join(["layout2", *panes, *sizes]) + "|"


def _screen() -> tuple[int, int]:
    """Return width and height of the screen in pixels; usual ones where there is none."""
    try:
        import wx
    except ImportError:
        return 1920, 1200
    return tuple(wx.GetDisplaySize()) if wx.GetApp() is not None else (1920, 1200)


# A layout holds sizes in pixels, which must suit the screen: FSLeyes opens over nine tenths of it.
_WIDTH, _HEIGHT = _screen()
# The settings are as narrow as their labels allow: the images need the place.
_SPECTRUM, _TABLE, _SETTINGS = min(int(0.31 * _WIDTH), 900), min(int(0.32 * _HEIGHT), 500), 330
_LISTS = 120  # height of overlay list and location

_ORTHO = (
    "syncLocation=True,syncOverlayOrder=True,syncOverlayDisplay=True,syncOverlayVolume=True,movieRate=400,movieAxis=3;"
    "showCursor=True,bgColour=#000000ff,fgColour=#ffffffff,cursorColour=#00ff00ff,cursorGap=False,showColourBar=True,"
    "colourBarLocation=bottom,colourBarLabelSide=top-left,showXCanvas=True,showYCanvas=True,showZCanvas=True,"
    "showLabels=True,labelSize=11,layout=horizontal,xzoom=100.0,yzoom=100.0,zzoom=100.0"
)

MRS_DL = "\n".join(
    [
        "fsleyes.views.orthopanel.OrthoPanel,fsleyes_plugin_mrs.views.MRSView",
        _panes(
            [
                _pane("OrthoPanel 1", "Ortho View 1", _VIEW, _CENTRE),
                _pane("MRSView 2", "MRS 2", _SIDE, _RIGHT, best=(_SPECTRUM, 900)),
            ],
            {(_CENTRE, 0): 22, (_RIGHT, 0): _SPECTRUM},
        ),
        "fsleyes_plugin_dl.panels.ResultsPanel,fsleyes.controls.overlaylistpanel.OverlayListPanel,"
        f"fsleyes.controls.locationpanel.LocationPanel;{_ORTHO}",
        _panes(
            [
                _pane("Panel", "", _INSIDE, _CENTRE),
                _pane("ResultsPanel", "DL-MRS results", _CONTROL, _LEFT, best=(_SETTINGS, 800)),
                _pane("OverlayListPanel", "Overlay list", _CONTROL, _BOTTOM, best=(240, _LISTS)),
                _pane("LocationPanel", "Location", _CONTROL, _BOTTOM, position=1, best=(380, _LISTS)),
            ],
            {(_CENTRE, 0): 22, (_LEFT, 0): _SETTINGS, (_BOTTOM, 0): _LISTS},
        ),
        "fsleyes_plugin_mrs.controls.MRSToolBar,fsleyes_plugin_dl.panels.TablePanel;;",
        _panes(
            [
                _pane("FigureCanvasWxAgg", "", _INSIDE, _CENTRE),
                _pane("MRSToolBar", "MRS toolbar", _BAR, _TOP, layer=10, best=(440, 34)),
                _pane("TablePanel", "DL-MRS table", _CONTROL, _BOTTOM, best=(400, _TABLE)),
            ],
            {(_CENTRE, 0): 10, (_TOP, 10): 36, (_BOTTOM, 0): _TABLE},
        ),
    ]
)
"""The layout of ``fsleyes -s mrs-dl``."""
