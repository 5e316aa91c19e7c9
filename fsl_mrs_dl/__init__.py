"""FSL-MRS-DL: alignment and quantification of MR spectra, for FSL-MRS, FSLeyes and on its own."""

__version__ = "0.1.0"
