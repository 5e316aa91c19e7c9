"""Preprocessing of whole data sets: alignment, frequency referencing, denoising."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AlignOptions": "options",
        "AlignedData": "align",
        "align_data": "align",
        "align_image": "align",
        "Offset": "absolute",
        "reference_offset": "absolute",
        "match_subspectra": "editing",
        "register_to_moving_window": "moving_reference",
        "RegistrationProposal": "proposals",
        "UniversalProposal": "proposals",
        "mean_pairwise_correlation": "similarity",
        "similarity_index": "similarity",
        "similarity_matrix": "similarity",
        "DenoisedData": "denoise",
        "denoise_data": "denoise",
        "denoise_image": "denoise",
    },
)
