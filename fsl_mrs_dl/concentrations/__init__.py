"""Absolute concentrations from a water reference, with an error budget."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AbsoluteConcentrations": "scaling",
        "Relaxation": "relaxation",
        "TissueFractions": "tissue",
        "WaterFit": "water",
        "WaterScaling": "scaling",
        "absolute_concentrations": "scaling",
        "absolute_of_file": "files",
        "fit_water": "water",
        "fractions_from_segmentation": "segmentation",
        "tissue_fractions": "segmentation",
    },
)
