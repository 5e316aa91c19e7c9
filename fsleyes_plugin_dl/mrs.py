"""The parts of fsleyes-plugin-mrs in the layout ``mrs-dl``, under entry points of this package.

FSLeyes shows the plugins of a package only once a layout *of the same package* is loaded; a layout that names parts of
another package would fail.  The same class under the same name appears in the menus once.
"""

from fsleyes_plugin_mrs.controls import MRSControlPanel, MRSControlPanelMini, MRSDimControl, MRSToolBar
from fsleyes_plugin_mrs.tools import MRSFitTool, MRSResultsControl
from fsleyes_plugin_mrs.views import MRSView

__all__ = [
    "MRSControlPanel",
    "MRSControlPanelMini",
    "MRSDimControl",
    "MRSFitTool",
    "MRSResultsControl",
    "MRSToolBar",
    "MRSView",
]
