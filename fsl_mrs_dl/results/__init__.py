"""Results of fits and alignments: tables, files, figures, maps and reports."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "FitResults": "fit_results",
        "summary_table": "tables",
        "concentration_table": "tables",
        "qc_table": "tables",
        "parameter_table": "tables",
        "uncertainty_table": "tables",
        "budget_table": "tables",
        "quantification_info": "tables",
        "write_fit": "write",
        "model_data": "write",
        "fit_summary": "figures",
        "voxel_location": "figures",
        "map_values": "maps",
        "Evaluator": "model_file",
        "MOSTLY_PRIOR": "layout",
        "OOD_LIMIT": "layout",
        "write_fit_report": "reports.fit",
        "write_align_report": "reports.alignment",
        "write_denoise_report": "reports.denoising",
    },
)
