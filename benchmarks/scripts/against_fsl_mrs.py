"""The same fits by FSL-MRS Newton and by us, in one run: python -m benchmarks.scripts.against_fsl_mrs >
benchmarks/against_fsl_mrs.md

Needs FSL-MRS in the same environment.  Data: human brain at 3 T (PRESS) and 7 T (STEAM), and for free shifts and groups
two more scans and the ISMRM fitting challenge, found through FSL_MRS_DL_TESTDATA.  ``--parts free`` compares the cost
of fits with free shifts and with macromolecules in groups of their own, whose minima are many.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import fsl_mrs_dl
from benchmarks.fsl_mrs_reference import mrs_of, squared_residual
from fsl_mrs_dl.core.metabolites import is_macromolecule
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis, detect_conjugation
from fsl_mrs_dl.physics.macromolecules import add_macromolecules

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
    energy = np.sum(np.abs(mrs.get_spec()[slice(*ours.model.window)]) ** 2)
    costs = np.array([squared_residual(ours, mrs, theirs), ours.cost[0]]) / energy
    difference = np.abs(theirs.params[: basis.n_metabs] - ours.conc[0]) / ours.crlb_sd[0]
    return (
        f"| {data_path.name} | {model} | {baseline} | {costs[0]:.9f} | {costs[1]:.9f} | {difference.max():.4f} "
        f"| {their_time * 1e3:.0f} | {our_time * 1e3:.0f} | {batch_time * 1e3:.1f} | {their_time / batch_time:.0f} |"
    )


FREE = ("one group", "free shifts", "MM in groups")


def compare_free(name: str, fid: np.ndarray, data, basis: Basis, kind: str, baseline: str) -> str:
    """One line of the table of free shifts and groups.

    Parameters
    ----------
    fid : complex ndarray ``(n_points,)``
        With its frequency axis as the basis set's: FSL-MRS's own check of it is left out.
    kind : str
        One of :data:`FREE`.
    """
    from fsl_mrs.utils.fitting import fit_FSLModel

    own = [metab for metab in basis.names if is_macromolecule(metab)]
    if kind == "MM in groups" and not own:
        basis = add_macromolecules(basis, "fsl-default")
        own = [metab for metab in basis.names if is_macromolecule(metab)]
    groups = basis.groups(own if kind == "MM in groups" else None)
    model = "free_shift" if kind == "free shifts" else "voigt"
    mrs = mrs_of(fid, basis, data.axes)
    mrs.rescaleForFitting()
    start = time.process_time()
    order = [basis.names.index(metab) for metab in mrs.names]
    theirs = fit_FSLModel(mrs, model=model, baseline=baseline, metab_groups=[groups[i] for i in order])
    their_time = time.process_time() - start
    start = time.process_time()
    ours = fsl_mrs_dl.quantify(
        fid,
        basis,
        dwelltime=data.dwelltime,
        spec_freq_mhz=data.spec_freq_mhz,
        model=model,
        baseline=baseline,
        metab_groups=groups,
        prior="none",
    )
    our_time = time.process_time() - start
    cost = squared_residual(ours, mrs, theirs)
    energy = np.sum(np.abs(mrs.get_spec()[slice(*ours.model.window)]) ** 2)
    return (
        f"| {name} | {kind} | {baseline} | {cost / energy:.7f} | {ours.cost[0] / energy:.7f} |"
        f" {100 * (ours.cost[0] / cost - 1):+.4f} | {'yes' if ours.converged[0] else 'no'} | {their_time:.1f} |"
        f" {our_time:.1f} |"
    )


def scans(folder: str) -> dict[str, tuple[Path, Path, int]]:
    """Return data, basis set and number of the spectrum by a name."""
    challenge = DATA / "fitting_challenge_2016"
    sets = {f"challenge {n}": (challenge / "all28.nii.gz", challenge / "press3T_30ms.BASIS", n - 1) for n in SETS}
    return {
        "3 T PRESS": (press_3t(folder), DATA / "invivo_3t_press_philips" / "3T_PRESS_Philips_35ms_noMM.BASIS", 0),
        "lcmodel_test": (DATA / "lcmodel_test" / "spectrum.nii.gz", DATA / "lcmodel_test" / "3t.basis", 0),
        "siemens_press30": (
            DATA / "siemens_press30" / "suspect_rda.nii.gz",
            DATA / "siemens_press30" / "press_30ms_3T.basis",
            0,
        ),
        "7 T STEAM": (
            DATA / "invivo_7t_steam_raw" / "metab_processed.nii.gz",
            DATA / "invivo_7t_steam_raw" / "STEAM_7T_11ms.BASIS",
            0,
        ),
    } | sets


SETS = (1, 5, 8, 11, 14, 20)  # of the challenge


def press_3t(folder: str) -> Path:
    """Convert the scanner's file of the 3 T scan into ``folder``."""
    source = DATA / "invivo_3t_press_philips" / "PRESS_raw-act"
    tool = shutil.which("spec2nii", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    command = [tool, "philips", f"{source}.SDAT", f"{source}.SPAR", "-f", "press_3t", "-o", folder]
    subprocess.run(command, check=True, capture_output=True)
    return Path(folder) / "press_3t.nii.gz"


def print_free(folder: str, names, baselines) -> None:
    """Print the table of free shifts and groups."""
    print(
        "| data | free | baseline | cost Newton | cost ours | ours above Newton, % | converged | Newton (CPU s) |"
        " ours (CPU s) |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, (path, basis_path, number) in scans(folder).items():
        if names and name not in names:
            continue
        data, basis = nifti.load(path), Basis.load(basis_path)
        fid = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)[number]
        fid = fid.conj() if detect_conjugation(fid, data.axes) else fid
        for kind in FREE:
            for baseline in baselines:
                print(compare_free(name, fid, data, basis, kind, baseline), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["voigt", "lorentzian", "negativevoigt"])
    parser.add_argument("--parts", nargs="+", default=["shared", "free"], choices=["shared", "free"])
    parser.add_argument("--data", nargs="+", help="names of the scans of --parts free (default all)")
    parser.add_argument("--baselines", nargs="+", default=["poly, 2", "spline, moderate"], help="of --parts free")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    import fsl_mrs
    import torch

    print("# The same fits by FSL-MRS Newton and by FSL-MRS-DL\n")
    print(
        f"`python -m benchmarks.scripts.against_fsl_mrs`, FSL-MRS {fsl_mrs.__version__.split('+')[0]},"
        f" {torch.get_num_threads()} threads, default window."
    )
    print("Cost: squared residual, with the spline's penalty, over the squared data.\n")
    with tempfile.TemporaryDirectory() as folder:
        if "shared" in args.parts:
            print_shared(folder, args.models)
        if "free" in args.parts:
            print("\n## Free shifts and groups\n")
            print_free(folder, args.data, args.baselines)


def print_shared(folder: str, models) -> None:
    """Print the table of models with shared shifts, and of times."""
    print(
        "Difference: the largest of any concentration, in Cramer-Rao SDs. Batch: 200 (free shifts: 12) copies of the"
        " spectrum fitted together.\n"
    )
    print(
        "| data | model | baseline | cost Newton | cost ours | difference (SD) | Newton (ms) | ours, one (ms) | ours,"
        " batch (ms) | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    everything = scans(folder)
    for name in ("3 T PRESS", "7 T STEAM"):
        data, basis, _ = everything[name]
        for model in models:
            for baseline in ("poly, 2", "spline, moderate"):
                print(compare(data, basis, model, baseline), flush=True)


if __name__ == "__main__":
    main()
