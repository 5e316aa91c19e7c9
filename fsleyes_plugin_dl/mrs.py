"""The parts of fsleyes-plugin-mrs that our layout shows, under our own entry points.

FSLeyes shows the plugins of a package only once a layout *of the same package* is loaded; a layout of ours that names
parts of another package would fail.  The same class under the same name appears in the menus once.
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
