"""From a scanner's file to a table: one session, and a study of many."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ProcessingOptions": "processing",
        "RunOptions": "session",
        "Session": "session",
        "SessionSummary": "session",
        "UsualFit": "session",
        "process": "processing",
        "run_session": "session",
        "Study": "study",
        "run_study": "study",
    },
)
