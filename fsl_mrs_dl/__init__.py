"""FSL-MRS-DL: alignment and quantification of MR spectra, for FSL-MRS, FSLeyes and on its own."""

__all__ = ["__version__", "align", "quantify", "denoise", "load", "save", "Basis", "load_model"]

# Loaded when asked for: FSL-MRS-DL's hook imports this package, and of it nothing else, at every start of Python.
_MODULES = {
    "align": "api",
    "quantify": "api",
    "denoise": "api",
    "load_model": "api",
    "load": "io.nifti",
    "save": "io.nifti",
    "Basis": "io.basis",
}


def _find_version():
    """Return the version that the build wrote down, else that of the installation."""
    try:
        from ._version import version
    except ImportError:  # a checkout that was never built, on the path
        from importlib import metadata

        try:
            return metadata.version("fsl-mrs-dl")
        except metadata.PackageNotFoundError:
            return "0+unknown"
    return version


def __getattr__(name):
    if name == "__version__":
        return globals().setdefault(name, _find_version())
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted({*globals(), *_MODULES})
