"""TODO."""

from __future__ import annotations

_N_CANDIDATES, _N_JUDGES = 6, 24
