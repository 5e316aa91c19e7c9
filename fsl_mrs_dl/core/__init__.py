"""FIDs and spectra without files and models: axes, units, errors, noise, transients, threads and the device."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Axes": "axes",
        "FslMrsDlError": "errors",
        "DataError": "errors",
        "BasisError": "errors",
        "OptionError": "errors",
        "OutputError": "errors",
        "fid_to_spec": "units",
        "spec_to_fid": "units",
        "usable_fids": "fids",
        "noise_outside": "noise",
        "apply_shift_phase": "transients",
        "choose_device": "device",
        "parallel_map": "parallel",
    },
)
