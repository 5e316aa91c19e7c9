"""TODO."""

from __future__ import annotations

_BYTES_PER_POINT = 16 * 10  # double complex, times the working copies of one pass


_CACHED_BYTES = 2e6  # working arrays of this size stay in the processor's cache
