"""Quantification of a whole MRSI volume, chunk by chunk, resumable."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "CHUNK": "job",
        "Job": "job",
        "VolumeOptions": "job",
        "scratch_of": "job",
        "prepare": "plan",
        "PARALLEL": "run",
        "fit_all": "run",
        "workers_for": "run",
        "write_results": "assemble",
        "summary": "assemble",
        "finish": "assemble",
    },
)
