"""kymatio's scattering of signals by torch; a module of its own because kymatio is optional, and because classes
of a module can be sent to other processes."""

from __future__ import annotations

import warnings

# kymatio.torch loads its three-dimensional part too, which SciPy 1.17 has nothing for any more; this part is whole.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kymatio.scattering1d.backend.torch_backend import TorchBackend1D
    from kymatio.scattering1d.frontend.torch_frontend import ScatteringTorch1D

__all__ = ["QuickBackend", "ScatteringTorch1D"]


class QuickBackend(TorchBackend1D):
    """kymatio's backend with a multiplication by real filters that need not be spread over real and imaginary parts
    number by number: the same values in half of the time."""

    @classmethod
    def cdgmm(cls, A, B):
        """``A`` ``(..., n, 2)`` times ``B`` ``(n, 1)``, or ``(n, 2)`` as kymatio does it."""
        if B.shape[-1] == 1 and A.shape[-2] == B.shape[-2]:
            return A * B.expand(*B.shape[:-1], 2).contiguous()
        return super().cdgmm(A, B)
