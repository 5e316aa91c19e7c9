"""An estimate that voxels share: concentrations with an edge-keeping spatial prior (estimate ``spatial``).

Every voxel's fit gives a Gaussian likelihood of its concentrations.  Concentrations are those of the voxel's tissue,
where tissue fractions are known, and a field that differs little between neighbours.  A pair whose differences, of all
metabolites together, are far larger than those of other pairs counts as an edge and is hardly held together (a
redescending potential in half-quadratic form, Geman and Reynolds, doi 10.1109/34.120331): an edge that any metabolite
shows, as that of a lesion, is one for all.  The variance of differences of each metabolite is learnt from the volume by
the EM algorithm.  Given these the posterior is Gaussian, and its spread is that of exact samples (Papandreou, Yuille,
Gaussian sampling by local perturbations, NIPS 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..fitting.uncertainty import Z95

__all__ = ["SpatialEstimate", "spatial_estimate"]

_EDGE = 1.5  # mean square of differences of a pair beyond their variance, over it, at which an edge begins
_LEAST_WEIGHT = 1e-6
_PASSES, _FEW, _MANY = 15, 4, 32  # of the EM algorithm; samples in a pass, and in the end
_FASTER = 1.8
_TOLERANCE, _MOST_STEPS = 1e-4, 200  # of conjugate gradients
_LEAST_SCALE = 1e-3  # of differences, relative to the SD of a voxel


@dataclass(frozen=True)
class SpatialEstimate:
    """Concentrations of voxels with a spatial prior.

    Attributes
    ----------
    mean, sd : ndarray ``(n, m)``
        NaN where there is no fit.
    samples : ndarray ``(n_samples, n, m)``
        Means given samples of all other voxels.
    within : ndarray ``(n, m, m)``
        Covariance given these.
    weights : ndarray ``(n_pairs,)``
        Of pairs of neighbours: about one inside of a tissue, near zero across an edge.
    """

    mean: np.ndarray
    sd: np.ndarray
    samples: np.ndarray
    within: np.ndarray
    weights: np.ndarray

    def of_sum(self, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and SD of a sum of columns, ``(n,)`` each."""
        spread = self.samples[:, :, members].sum(-1).std(0, ddof=1)
        inside = self.within[:, members][:, :, members].sum((1, 2))
        return self.mean[:, members].sum(-1), np.sqrt(inside + spread**2)

    def interval(self, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a sum of columns, ``(n,)`` each, not below zero."""
        mean, sd = self.of_sum(members)
        return np.clip(mean - Z95 * sd, 0, None), np.clip(mean + Z95 * sd, 0, None)


def spatial_estimate(
    estimates: np.ndarray,
    cov: np.ndarray,
    index: np.ndarray,
    grid: tuple[int, int, int],
    voxel_mm: np.ndarray,
    fractions: np.ndarray | None = None,
) -> SpatialEstimate:
    """Estimate the concentrations of all voxels together.

    Parameters
    ----------
    estimates : ndarray ``(n, m)``
        Of each voxel by itself, without bounds; rows of NaN take no part.
    cov : ndarray ``(n, m, m)``
        Their covariance.
    index : int ndarray ``(n,)``
        Voxels, counted with z fastest.
    grid : (int, int, int)
    voxel_mm : ndarray ``(3,)``
        Size of a voxel, by which neighbours count.
    fractions : ndarray ``(n, n_tissues)``, optional
        Tissue of every voxel.
    """
    good = np.isfinite(estimates).all(1) & np.isfinite(cov).all((1, 2))
    good &= np.where(good[:, None], np.diagonal(cov, axis1=1, axis2=2) > 0, False).all(1)
    field = _Field.of(estimates[good], cov[good], _pairs(index[good], grid), voxel_mm, fractions, good)
    field.learn()
    mean, samples, within = field.posterior(_MANY)

    def everywhere(values: np.ndarray, axis: int) -> np.ndarray:
        shape = list(values.shape)
        shape[axis] = len(good)
        out = np.full(shape, np.nan)
        out[(slice(None),) * axis + (good,)] = values
        return out

    spread = samples.std(0, ddof=1)
    sd = np.sqrt(np.diagonal(within, axis1=1, axis2=2) + spread**2)
    return SpatialEstimate(
        mean=everywhere(np.clip(mean, 0, None), 0),
        sd=everywhere(sd, 0),
        samples=everywhere(samples, 1),
        within=everywhere(within, 0),
        weights=field.weights.numpy(),
    )


def _pairs(index: np.ndarray, grid: tuple[int, int, int]) -> list[np.ndarray]:
    """Return pairs of neighbours along x, y and z, int ``(n_pairs, 2)`` each, as rows of ``index``."""
    place = np.full(grid, -1)
    place.reshape(-1)[index] = np.arange(len(index))
    out = []
    for axis in range(3):
        lines = np.moveaxis(place, axis, 0)
        pairs = np.stack([lines[:-1].reshape(-1), lines[1:].reshape(-1)], 1)
        out.append(pairs[(pairs >= 0).all(1)])
    return out


@dataclass
class _Field:
    """Likelihoods of voxels and the state of the prior, scaled so that metabolites have an SD of about one.

    ``estimates`` ``(n, m)`` and ``precision`` ``(n, m, m)`` are the likelihoods, ``root`` ``(n, m, m)`` a root of the
    precision, ``pairs`` ``(n_pairs, 2)`` neighbours with ``near`` ``(n_pairs,)`` by their distance, ``tissue`` ``(n,
    n_tissues)`` fractions or none, ``weights`` ``(n_pairs,)`` and ``scale`` ``(m,)`` the prior's variance of
    differences, ``typical`` ``(n, m)`` the concentrations of the tissues.
    """

    unit: np.ndarray
    estimates: torch.Tensor
    precision: torch.Tensor
    root: torch.Tensor
    pairs: torch.Tensor
    near: torch.Tensor
    tissue: torch.Tensor
    weights: torch.Tensor
    scale: torch.Tensor
    typical: torch.Tensor

    @classmethod
    def of(cls, estimates, cov, pairs, voxel_mm, fractions, good) -> _Field:
        unit = np.sqrt(np.median(np.diagonal(cov, axis1=1, axis2=2), 0)) if len(cov) else np.ones(cov.shape[-1])
        estimates, cov = torch.as_tensor(estimates / unit), torch.as_tensor(cov / (unit[:, None] * unit))
        size = cov.diagonal(dim1=-2, dim2=-1).sqrt()
        scaled = cov / (size[:, :, None] * size[:, None]) + 1e-9 * torch.eye(cov.shape[-1], dtype=cov.dtype)
        precision = torch.linalg.inv(scaled) / (size[:, :, None] * size[:, None])
        precision = 0.5 * (precision + precision.mT)
        root = torch.linalg.cholesky(precision + 1e-12 * precision.diagonal(dim1=-2, dim2=-1).diag_embed())
        near = np.concatenate([np.full(len(each), (voxel_mm.min() / mm) ** 2) for each, mm in zip(pairs, voxel_mm)])
        tissue = np.zeros((len(estimates), 0)) if fractions is None else fractions[good]
        every = torch.as_tensor(np.concatenate(pairs))
        return cls(
            unit=unit,
            estimates=estimates,
            precision=precision,
            root=root,
            pairs=every,
            near=torch.as_tensor(near),
            tissue=torch.as_tensor(np.asarray(tissue, float)),
            weights=torch.ones(len(every), dtype=torch.float64),
            scale=torch.ones(cov.shape[-1], dtype=torch.float64),
            typical=torch.zeros_like(estimates),
        )

    # -- the linear system -----------------------------------------------------------------------------------------

    def _differences(self, x: torch.Tensor) -> torch.Tensor:
        """Return differences of pairs ``(..., n_pairs, m)``."""
        return x[..., self.pairs[:, 0], :] - x[..., self.pairs[:, 1], :]

    def _spread_back(self, values: torch.Tensor) -> torch.Tensor:
        """Return the adjoint of :meth:`_differences`, ``(..., n, m)``."""
        out = torch.zeros(*values.shape[:-2], len(self.estimates), values.shape[-1], dtype=values.dtype)
        out.index_add_(-2, self.pairs[:, 0], values)
        return out.index_add_(-2, self.pairs[:, 1], -values)

    @property
    def _stiffness(self) -> torch.Tensor:
        """Precision of the difference of each pair, ``(n_pairs, m)``."""
        return (self.weights * self.near)[:, None] / self.scale

    def _blocks(self) -> torch.Tensor:
        """Return the diagonal blocks of the posterior precision, ``(n, m, m)``."""
        total = torch.zeros_like(self.estimates)
        stiffness = self._stiffness
        total.index_add_(0, self.pairs[:, 0], stiffness)
        total.index_add_(0, self.pairs[:, 1], stiffness)
        return self.precision + total.diag_embed()

    def _times(self, x: torch.Tensor) -> torch.Tensor:
        """Return the posterior precision times ``x`` ``(k, n, m)``."""
        likelihood = (self.precision @ x.permute(1, 2, 0)).permute(2, 0, 1)
        return likelihood + self._spread_back(self._stiffness * self._differences(x))

    def _solve(self, right: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Solve for ``(k, n, m)`` from ``x`` by conjugate gradients with the inverse of the diagonal blocks."""
        inverse = torch.linalg.inv(self._blocks())

        def conditioned(values: torch.Tensor) -> torch.Tensor:
            return (inverse @ values.permute(1, 2, 0)).permute(2, 0, 1)

        residual = right - self._times(x)
        direction = conditioned(residual)
        size = (residual * direction).sum((1, 2))
        goal = _TOLERANCE**2 * (right * conditioned(right)).sum((1, 2))
        for _ in range(_MOST_STEPS):
            if (size <= goal).all():
                break
            along = self._times(direction)
            step = size / (direction * along).sum((1, 2)).clamp(min=1e-300)
            x = x + step[:, None, None] * direction
            residual = residual - step[:, None, None] * along
            new = conditioned(residual)
            changed = (residual * new).sum((1, 2))
            direction = new + (changed / size.clamp(min=1e-300))[:, None, None] * direction
            size = changed
        return x

    def _solutions(self, n_samples: int, generator: torch.Generator, start: torch.Tensor | None) -> torch.Tensor:
        """Return the posterior mean of the field and samples of it, ``(1 + n_samples, n, m)``."""
        shape = (n_samples, *self.estimates.shape)
        by_data = torch.randn(shape, generator=generator, dtype=torch.float64)
        by_pairs = torch.randn(
            n_samples, len(self.pairs), self.estimates.shape[1], generator=generator, dtype=torch.float64
        )
        pull = (self.precision @ (self.estimates - self.typical)[..., None])[..., 0]
        noise = (self.root @ by_data.permute(1, 2, 0)).permute(2, 0, 1)
        right = pull + noise + self._spread_back(self._stiffness.sqrt() * by_pairs)
        right = torch.cat([pull[None], right])
        return self._solve(right, torch.zeros_like(right) if start is None else start)

    # -- the prior -------------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Estimate weights, scales and concentrations of tissues."""
        if not len(self.pairs):
            return
        generator = torch.Generator().manual_seed(0)
        n_free, start = max(len(self.estimates) - 1, 1), None
        for _ in range(_PASSES):
            self._update_tissues(start)
            start = self._solutions(_FEW, generator, start)
            near, weights = self.near[:, None], self.weights[:, None]
            moved = near * self._differences(start[0]).square()
            variance = near * self._differences(start[1:] - start[:1]).square().mean(0)
            ratio = (weights * (moved + variance)).sum(0) / n_free / self.scale
            # Where voxels say little the algorithm creeps; a power of its step has the same end.
            self.scale = (self.scale * ratio**_FASTER).clamp(min=_LEAST_SCALE**2)
            # The variance of a single pair is too noisy with few samples; that within tissues is about the same.
            typical = (weights * variance).sum(0) / weights.sum()
            per_pair = self.scale * (n_free / float(weights.sum()))
            excess = ((moved + typical) / per_pair).mean(1) - 1
            self.weights = torch.exp(-excess.clamp(min=0) / _EDGE).clamp(min=_LEAST_WEIGHT)

    def _update_tissues(self, solutions: torch.Tensor | None) -> None:
        """Estimate the concentrations of tissues from what the field leaves of the estimates."""
        if not self.tissue.shape[1]:
            return
        field = torch.zeros_like(self.estimates) if solutions is None else solutions[0]
        m, k = self.estimates.shape[1], self.tissue.shape[1]
        weighted = torch.einsum("nt,nij,nu->tiuj", self.tissue, self.precision, self.tissue).reshape(k * m, k * m)
        pull = torch.einsum("nt,nij,nj->ti", self.tissue, self.precision, self.estimates - field).reshape(-1)
        ridge = 1e-6 * weighted.diagonal().mean() * torch.eye(k * m, dtype=weighted.dtype)
        self.typical = self.tissue @ torch.linalg.solve(weighted + ridge, pull).reshape(k, m)

    def posterior(self, n_samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean ``(n, m)``, samples of the mean given all other voxels ``(n_samples, n, m)``, and the covariance
        within a voxel given these ``(n, m, m)``."""
        solutions = self._solutions(n_samples, torch.Generator().manual_seed(1), None)
        inverse = torch.linalg.inv(self._blocks())
        pull = (self.precision @ (self.estimates - self.typical)[..., None])[..., 0]
        others = pull - self._times(solutions[1:]) + (self._blocks() @ solutions[1:].permute(1, 2, 0)).permute(2, 0, 1)
        given = (inverse @ others.permute(1, 2, 0)).permute(2, 0, 1)
        mean = (solutions[0] + self.typical).numpy() * self.unit
        return mean, given.numpy() * self.unit, inverse.numpy() * (self.unit[:, None] * self.unit)
