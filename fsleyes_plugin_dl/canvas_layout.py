"""One large plane and two small ones in an ortho view, whose own layouts make all three as small as the smallest.

FSLeyes arranges its canvases at every change of size or contents; they are placed anew after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["LargePlane", "large_plane_of", "places"]

_SHARE = 0.66  # of the width, or the height, for the large plane


def places(width: int, height: int, large: str) -> dict[str, tuple[int, int, int, int]] | None:
    """Return left, top, width and height of each plane in pixels, the large one on the left or on top; None for "all",
    which leaves the arrangement to FSLeyes."""
    if large == "all":
        return None
    small = [plane for plane in ("coronal", "sagittal", "axial") if plane != large]
    if width >= 0.9 * height:
        edge, half = int(_SHARE * width), height // 2
        rest = width - edge
        return {
            large: (0, 0, edge, height),
            small[0]: (edge, 0, rest, half),
            small[1]: (edge, half, rest, height - half),
        }
    edge, half = int(_SHARE * height), width // 2
    rest = height - edge
    return {large: (0, 0, width, edge), small[0]: (0, edge, half, rest), small[1]: (half, edge, width - half, rest)}


class LargePlane:
    """The arrangement of the canvases of an ortho view.

    Attributes
    ----------
    large : str
        The large plane, or "all" for equal ones.
    arranged : callable or None
        Called without arguments after the canvases were arranged.
    """

    def __init__(self, ortho: Any, large: str):
        import wx  # not above: :func:`places` needs none

        self._call_after = wx.CallAfter
        # A reference of its own would keep a closed view, the key of this arrangement, in memory.
        self._ortho, self.large = ref(ortho), large
        self.arranged: Callable[[], None] | None = None
        self._waiting = False
        name = f"mrs_dl_large_plane_{id(self)}"
        for property_name in ("bounds", "displaySpace", "selectedOverlay"):
            ortho.displayCtx.addListener(property_name, name, self.arrange_soon)
        ortho.sceneOpts.addListener("layout", name, self.arrange_soon)
        ortho.contentPanel.Bind(wx.EVT_SIZE, self._resized)

    def choose(self, large: str) -> None:
        """Make another plane the large one."""
        self.large = large
        ortho = self._ortho()
        if ortho is not None and not ortho.destroyed:
            # FSLeyes arranges its canvases when this changes.
            ortho.sceneOpts.layout = "horizontal" if large != "all" else "grid"
            self.arrange_soon()

    def _resized(self, event: Any) -> None:
        event.Skip()
        self.arrange_soon()

    def arrange_soon(self, *_: object) -> None:
        """Arrange the canvases once FSLeyes has done so."""
        if not self._waiting:
            self._waiting = True
            self._call_after(self.arrange)

    def arrange(self) -> None:
        """Arrange the canvases."""
        self._waiting = False
        ortho = self._ortho()
        if not ortho or ortho.destroyed:
            return
        if self.arranged is not None:
            self.arranged()
        width, height = ortho.contentPanel.GetClientSize().Get()
        where = places(width, height, self.large)
        canvases = {
            "sagittal": ortho.getXCanvas(),
            "coronal": ortho.getYCanvas(),
            "axial": ortho.getZCanvas(),
        }
        if where is None or not all(canvas.IsShown() for canvas in canvases.values()):
            return
        for plane, rectangle in where.items():
            canvas = canvases[plane]
            canvas.SetMinSize((1, 1))
            canvas.SetMaxSize((-1, -1))
            canvas.SetSize(*rectangle)


_planes: WeakKeyDictionary[Any, LargePlane] = WeakKeyDictionary()


def large_plane_of(ortho: Any) -> LargePlane:
    """Return the arrangement of a view's planes, one for each view."""
    if ortho not in _planes:
        _planes[ortho] = LargePlane(ortho, "all")
    return _planes[ortho]
