"""Reading and writing of data: NIfTI-MRS files, basis sets, volumes and folders of results."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Basis": "basis",
        "detect_conjugation": "basis",
        "EditedBasis": "edited_basis",
        "is_edited_basis": "edited_basis",
        "MrsData": "nifti",
        "load": "nifti",
        "load_header": "nifti",
        "save": "nifti",
        "from_image": "nifti",
        "image_of": "nifti",
        "check_fids": "nifti",
        "load_any": "convert",
        "load_references": "convert",
        "load_water": "convert",
        "load_with_record": "convert",
        "AxisOptions": "convert",
        "Volume": "volume",
        "open_volume": "volume",
        "load_mask": "volume",
        "write_spectra": "volume",
        "folder_for": "output",
        "new_output_folder": "output",
        "models_folder": "files",
    },
)
