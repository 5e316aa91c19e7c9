"""What a paper needs of a fit: the minimum reporting table, a methods paragraph, and its references."""

from ..._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Analysis": "analysis",
        "StudyPublication": "study",
        "bibtex": "references",
        "cited": "references",
        "program_versions": "analysis",
        "mrsinmrs_items": "mrsinmrs",
        "mrsinmrs_table": "mrsinmrs",
        "methods_text": "methods",
        "not_needed": "methods",
        "publication_html": "files",
        "write_publication": "files",
    },
)
