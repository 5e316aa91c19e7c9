"""Simulated data: acquisitions, random spectra from recipes, and an MRSI phantom of the head."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Anatomy": "anatomy",
        "Phantom": "phantom",
        "PhantomOptions": "phantom",
        "Protocol": "protocols",
        "Recipe": "recipes",
        "Rendered": "random_spectra",
        "SimulatedSvs": "acquisition",
        "default_basis": "phantom",
        "draw": "random_spectra",
        "draw_anatomy": "anatomy",
        "draw_transients": "random_spectra",
        "protocol_of": "protocols",
        "random_protocols": "protocols",
        "recipe_names": "recipes",
        "render": "random_spectra",
        "render_transients": "random_spectra",
        "InVivoSpectra": "in_vivo_spectra",
        "simulate_basis": "acquisition",
        "simulate_edited_basis": "edited_basis",
        "simulate_in_vivo": "in_vivo_spectra",
        "simulate_phantom": "phantom",
        "simulate_spectra": "recipe_spectra",
        "simulate_svs": "acquisition",
        "tissue_concentrations": "tissue",
        "write_phantom": "phantom",
    },
)
