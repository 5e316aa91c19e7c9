"""The layout ``mrs-dl``: settings and images on the left, the spectrum and its table on the right.

A layout is a text in FSLeyes's own form: views and where they are, then for each view its controls, its settings and where they are.
"""

__all__ = ["MRS_DL"]

_TOP, _RIGHT, _BOTTOM, _LEFT, _CENTRE = 1, 2, 3, 4, 5
# What wxPython's AUI calls the state of a panel: which frame and buttons it has.
_VIEW, _SIDE, _CONTROL, _BAR, _INSIDE = 69474240, 2103292, 2099196, 142332, 768


def _pane(name: str, caption: str, state: int, where: int, layer: int = 0, best: tuple[int, int] = (-1, -1)) -> str:
    sizes = f"bestw={best[0]};besth={best[1]};minw=-1;minh=-1;maxw=-1;maxh=-1;floatx=-1;floaty=-1;floatw=-1;floath=-1"
    return f"name={name};caption={caption};state={state};dir={where};layer={layer};row=0;pos=0;prop=100000;{sizes}"


def _panes(panes: list[str], docks: dict[tuple[int, int], int]) -> str:
    sizes = [f"dock_size({where},{layer},0)={size}" for (where, layer), size in docks.items()]
    return "|".join(["layout2", *panes, *sizes]) + "|"


_ORTHO = (
    "syncLocation=True,syncOverlayOrder=True,syncOverlayDisplay=True,syncOverlayVolume=True,movieRate=400,movieAxis=3;"
    "showCursor=True,bgColour=#000000ff,fgColour=#ffffffff,cursorColour=#00ff00ff,cursorGap=False,showColourBar=True,"
    "colourBarLocation=bottom,colourBarLabelSide=top-left,showXCanvas=True,showYCanvas=True,showZCanvas=True,"
    "showLabels=True,labelSize=11,layout=grid,xzoom=100.0,yzoom=100.0,zzoom=100.0"
)

MRS_DL = "\n".join(
    [
        "fsleyes.views.orthopanel.OrthoPanel,fsleyes_plugin_mrs.views.MRSView",
        _panes(
            [_pane("OrthoPanel 1", "Ortho View 1", _VIEW, _CENTRE), _pane("MRSView 2", "MRS 2", _SIDE, _RIGHT, best=(820, 900))],
            {(_CENTRE, 0): 22, (_RIGHT, 0): 820},
        ),
        f"fsleyes_plugin_dl.panel.ResultsPanel;{_ORTHO}",
        _panes(
            [
                _pane("Panel", "", _INSIDE, _CENTRE),
                _pane("ResultsPanel", "DL-MRS results", _CONTROL, _LEFT, best=(350, 800)),
            ],
            {(_CENTRE, 0): 22, (_LEFT, 0): 350},
        ),
        "fsleyes_plugin_mrs.controls.MRSToolBar,fsleyes_plugin_dl.panel.TablePanel;;",
        _panes(
            [
                _pane("FigureCanvasWxAgg", "", _INSIDE, _CENTRE),
                _pane("MRSToolBar", "MRS toolbar", _BAR, _TOP, layer=10, best=(440, 34)),
                _pane("TablePanel", "DL-MRS table", _CONTROL, _BOTTOM, best=(400, 380)),
            ],
            {(_CENTRE, 0): 10, (_TOP, 10): 36, (_BOTTOM, 0): 380},
        ),
    ]
)
"""What ``fsleyes -s mrs-dl`` loads."""
