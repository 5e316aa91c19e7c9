"""Everything that touches FSL-MRS: its plugins, patches of its modules, result objects, launchers and the switch."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "DlAlign": "plugin",
        "DlDenoise": "plugin",
        "DlQuant": "plugin",
        "STEPS": "plugin",
        "DlFitRes": "result",
        "fit_together": "fit",
        "fit_batched": "fit",
        "turn_off": "switch",
        "turn_on": "switch",
    },
)
