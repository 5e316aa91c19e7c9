"""Registration of transients: the likelihood of shift and phase; arrays only."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Alignment": "alignment",
        "align_transients": "alignment",
        "cramer_rao": "bounds",
        "Window": "window",
        "make_window": "window",
    },
)
