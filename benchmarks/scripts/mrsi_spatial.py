"""The spatial estimate of a volume against that of single voxels: error, intervals, contrast of a lesion.

    python -m benchmarks.scripts.mrsi_spatial --output benchmarks/mrsi_spatial.md

Likelihoods of voxels are drawn about known maps, without spectra: eight metabolites with noise of 6 to 60 %, errors of
neighbouring columns anti-correlated, grey and white matter mixed at the size of a voxel, smooth differences of some
percent, and a lesion in which half of the metabolites are higher by a half and the others lower.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from fsl_mrs_dl.mrsi.spatial import spatial_estimate

GRID, N_METABS, NOISE = (20, 20, 3), 8, 0.4


def volume(seed: int, contrast: float = 0.5):
    """Maps ``(n, m)``, estimates of single voxels with covariances, fractions of tissue, distance from the lesion."""
    rng, m = np.random.default_rng(seed), N_METABS
    place = np.stack(np.meshgrid(*(np.arange(n) for n in GRID), indexing="ij"), -1).reshape(-1, 3)
    grey = 1 / (1 + np.exp(-gaussian_filter(rng.standard_normal(GRID), 1.2).reshape(-1) * 12))
    fractions = np.stack([grey, 1 - grey], 1)
    maps = fractions @ rng.uniform(0.6, 1.6, (2, m))
    maps *= 1 + np.stack([gaussian_filter(rng.standard_normal(GRID), 5).reshape(-1) for _ in range(m)], 1)
    distance = np.linalg.norm(place - np.array([6, 6, 1]), axis=1)
    maps[distance < 3.2] *= 1 + contrast * np.where(np.arange(m) % 2, 1, -1)
    sd = NOISE * np.linspace(0.15, 1.5, m)
    alike = np.where(np.add.outer(np.arange(m), np.arange(m)) % 2, -0.9, 1) * 0.27 + 0.8 * np.eye(m)
    cov = (sd[:, None] * sd) * (alike @ alike.T)
    size = rng.uniform(0.7, 1.4, len(maps))
    estimates = maps + size[:, None] * (rng.standard_normal(maps.shape) @ np.linalg.cholesky(cov).T)
    return maps, estimates, cov * size[:, None, None] ** 2, fractions, distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    metabolites = [f"metabolite {k + 1}" for k in range(N_METABS)]
    text = [
        "# The spatial estimate of a volume\n",
        (
            f"`python -m benchmarks.scripts.mrsi_spatial`: {args.seeds} volumes of {' x '.join(map(str, GRID))} voxels;"
            " metabolites from well to hardly determined (noise 6 to 60 %). RMSE relative to that of single voxels,"
            " bias of the lesion's contrast (that of the noise alone in brackets), share of 95 % intervals that hold"
            " the truth.\n"
        ),
        "| tissue fractions | quantity | " + " | ".join(metabolites) + " |",
        "|---|---|" + "---|" * N_METABS,
    ]
    for given in (True, False):
        rows = []
        for seed in range(args.seeds):
            maps, estimates, cov, fractions, distance = volume(seed)
            begun = time.process_time()
            sides = np.array([8.0, 8.0, 10.0])
            result = spatial_estimate(estimates, cov, np.arange(len(maps)), GRID, sides, fractions if given else None)
            seconds = time.process_time() - begun
            rmse, before = (np.sqrt(((each - maps) ** 2).mean(0)) for each in (result.mean, estimates))
            core, healthy = distance < 2.3, (distance > 5) & (distance < 8)
            contrast, noise, true = (
                each[core].mean(0) - each[healthy].mean(0) for each in (result.mean, estimates, maps)
            )
            limits = [result.interval([k]) for k in range(N_METABS)]
            held = [np.mean((low <= maps[:, k]) & (maps[:, k] <= high)) for k, (low, high) in enumerate(limits)]
            rows.append((rmse / before, contrast / true - 1, noise / true - 1, held, [seconds] * N_METABS))
        ratio, bias, of_noise, held, seconds = np.mean(rows, 0)
        cells = {
            "RMSE": [f"{value:.2f}" for value in ratio],
            "bias of contrast, %": [f"{100 * a:.0f} ({100 * b:.0f})" for a, b in zip(bias, of_noise)],
            "intervals, %": [f"{100 * value:.1f}" for value in held],
        }
        text += [f"| {'yes' if given else 'no'} | {name} | {' | '.join(each)} |" for name, each in cells.items()]
        print("\n".join(text[-3:]), f"{seconds[0]:.1f} CPU s", flush=True)
    if args.output:
        args.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
