"""The same fits by FSL-MRS Newton and by us, in one run: python -m benchmarks.scripts.against_fsl_mrs >
benchmarks/against_fsl_mrs.md

Needs FSL-MRS in the same environment.  Data: human brain at 3 T (PRESS) and 7 T (STEAM), found through
FSL_MRS_DL_TESTDATA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import fsl_mrs_dl
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def compare(data_path: Path, basis_path: Path, model: str, baseline: str) -> str:
    """One line of the table."""
    from fsl_mrs.utils import mrs_io
    from fsl_mrs.utils.fitting import fit_FSLModel

    mrs = mrs_io.read_FID(str(data_path)).mrs(basis=mrs_io.read_basis(basis_path))
    mrs.processForFitting()
    start = time.perf_counter()
    theirs = fit_FSLModel(mrs, method="Newton", model=model, baseline=baseline)
    their_time = time.perf_counter() - start
    data = nifti.load(data_path)
    basis = Basis.load(basis_path)
    options = dict(dwelltime=data.dwelltime, spec_freq_mhz=data.spec_freq_mhz, model=model, baseline=baseline)
    fids = data.fids.reshape(1, -1)
    start = time.perf_counter()
    ours = fsl_mrs_dl.quantify(fids, basis, **options)
    our_time = time.perf_counter() - start
    n = 12 if model.startswith("free") else 200
    copies = np.repeat(fids, n, axis=0)
    start = time.perf_counter()
    fsl_mrs_dl.quantify(copies, basis, **options)
    batch_time = (time.perf_counter() - start) / n
    # FSL-MRS makes its polynomials with a rank-deficient inverse whose rounding differs from call to call, so that its
    # own prediction is not always that of its fit: both get the best baseline for their metabolites.
    import torch

    first, last = ours.model.window
    spec = mrs.get_spec()[first:last]
    metabolites = fid_to_spec(theirs.predictedFID(mrs, mode="Full", noBaseline=True))[first:last]
    left = ours.model.eliminate_baseline(torch.as_tensor(spec - metabolites)[None]).abs().square().sum().item()
    costs = np.array([left, ours.cost[0]]) / np.sum(np.abs(spec) ** 2)
    difference = np.abs(theirs.params[: basis.n_metabs] - ours.conc[0]) / ours.crlb_sd[0]
    return (
        f"| {data_path.name} | {model} | {baseline} | {costs[0]:.9f} | {costs[1]:.9f} | {difference.max():.4f} "
        f"| {their_time * 1e3:.0f} | {our_time * 1e3:.0f} | {batch_time * 1e3:.1f} | {their_time / batch_time:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["voigt", "lorentzian", "negativevoigt"])
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    import fsl_mrs
    import torch

    print("# The same fits by FSL-MRS Newton and by FSL-MRS-DL\n")
    print(
        f"`python -m benchmarks.scripts.against_fsl_mrs`, FSL-MRS {fsl_mrs.__version__.split('+')[0]},"
        f" {torch.get_num_threads()} threads, default window."
    )
    print(
        "Cost: squared residual, with the spline's penalty, over the squared data. Difference: the largest of any"
        " concentration, in"
    )
    print("Cramer-Rao SDs. Batch: 200 (free shifts: 12) copies of the spectrum fitted together.\n")
    print(
        "| data | model | baseline | cost Newton | cost ours | difference (SD) | Newton (ms) | ours, one (ms) | ours,"
        " batch (ms) | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = DATA / "invivo_3t_press_philips" / "PRESS_raw-act"
        tool = Path(sys.executable).parent / "spec2nii"
        command = [tool, "philips", f"{source}.SDAT", f"{source}.SPAR", "-f", "press_3t", "-o", folder]
        subprocess.run(command, check=True, capture_output=True)
        jobs = [
            (Path(folder) / "press_3t.nii.gz", DATA / "invivo_3t_press_philips" / "3T_PRESS_Philips_35ms_noMM.BASIS")
        ]
        jobs.append(
            (
                DATA / "invivo_7t_steam_raw" / "metab_processed.nii.gz",
                DATA / "invivo_7t_steam_raw" / "STEAM_7T_11ms.BASIS",
            )
        )
        for data, basis in jobs:
            for model in args.models:
                for baseline in ("poly, 2", "spline, moderate"):
                    print(compare(data, basis, model, baseline), flush=True)


if __name__ == "__main__":
    main()
