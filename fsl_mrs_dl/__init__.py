"""FSL-MRS-DL: alignment and quantification of MR spectra, for FSL-MRS, FSLeyes and on its own."""

__version__ = "0.1.0"
__all__ = ["__version__", "align", "quantify"]


def __getattr__(name):
    # Loaded when asked for: FSL-MRS-DL's hook imports this package at every start of Python.
    if name in ("align", "quantify"):
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), "align", "quantify"])
