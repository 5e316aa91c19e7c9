"""FSL-MRS-DL: alignment and quantification of MR spectra, for FSL-MRS, FSLeyes and on its own."""

from ._lazy import attach

__version__ = "0.1.0"

# Loaded when asked for: FSL-MRS-DL's hook imports this package at every start of Python.
__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "align": "api",
        "quantify": "api",
        "denoise": "api",
        "load": "io.nifti",
        "save": "io.nifti",
        "Basis": "io.basis",
        "load_model": "api",
    },
)
__all__ += ["__version__"]
