"""dl-align and dlquant inside the FSL-MRS of this environment: function, agreement with Newton, and run time.

    python -m benchmarks.scripts.drop_in --data IN_VIVO --reference WATER --basis BASIS
    python -m benchmarks.scripts.drop_in ... --volume 10
    python -m benchmarks.scripts.drop_in --start-up 200

The first prints one row of the table of versions, the second runs fsl_mrsi on 10 x 10 voxels, too, the third measures
the time that the hook adds to every start of Python.

Prints Markdown; see benchmarks/drop_in.md for recorded results.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.options import FitOptions

COMMAND = "import sys; from fsl_mrs.scripts.{0} import main; sys.argv[0] = '{0}'; sys.exit(main())"
OWN = "import sys; from fsl_mrs_dl.cli.main import main; sys.exit(main())"
EXAMPLE = Path(__file__).resolve().parents[2] / "fsl_mrs_dl/data/example"


def run(code: str, *words, check: bool = True) -> tuple[subprocess.CompletedProcess, float]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(
            f"{words[:1]}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
        )
    return done, time.perf_counter() - start


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fits(args) -> str:
    """Compare cost and concentrations with Newton's, for every model with shared shifts and every baseline this FSL-MRS
    has."""
    import inspect

    from fsl_mrs.utils import fitting, mrs_io

    warnings.simplefilter("ignore")
    mrs = mrs_io.read_FID(str(args.data)).mrs(basis=mrs_io.read_basis(str(args.basis)))
    mrs.processForFitting()
    has_baseline = "baseline" in inspect.signature(fitting.fit_FSLModel).parameters
    baselines = [{"baseline": text} for text in ("off", "poly, 2", "spline, moderate")]
    if not has_baseline:
        baselines = [{"baseline_order": order} for order in (-1, 2)]
    worst_cost, worst_conc, n = -np.inf, 0.0, 0
    for model in ("voigt", "lorentzian", "negativevoigt"):
        for baseline in baselines:
            options = {"model": model, "ppmlim": (0.2, 4.2), **baseline}
            try:
                newton = fitting.fit_FSLModel(mrs, method="Newton", **options)
            except Exception:
                continue  # an older FSL-MRS without this model
            ours = fitting.fit_FSLModel(mrs, method="dlquant", **options)
            sd = np.sqrt(newton.crlb[: mrs.numBasis])
            worst_cost = max(worst_cost, ours.mse / newton.mse - 1) if "spline" not in str(baseline) else worst_cost
            worst_conc = max(worst_conc, float(np.max(np.abs(ours.params - newton.params)[: mrs.numBasis] / sd)))
            n += 1
    return f"{n} fits: cost/Newton's - 1 at most {worst_cost:.1e}, concentrations within {worst_conc:.4f} SD"


def svs(args, folder: Path) -> str:
    """Compare the files of fsl_mrs with a water reference and tissue fractions, by both algorithms."""
    common = ["--data", args.data, "--basis", args.basis, "--h2o", args.reference, "--TE", 35, "--TR", 2, "--report"]
    common += ["--tissue_frac", 0.5, 0.4, 0.1, "--combine", "NAA", "NAAG"]
    for algo in ("Newton", "dlquant"):
        run(COMMAND.format("fsl_mrs"), *common, "--algo", algo, "--output", folder / algo)
    import pandas as pd

    same = files(folder / "Newton") == files(folder / "dlquant")
    a, b = (pd.read_csv(folder / algo / "summary.csv", index_col=0) for algo in ("Newton", "dlquant"))
    return f"{'same' if same else 'NOT the same'} files, columns {'equal' if list(a) == list(b) else 'DIFFER'}"


def align(folder: Path) -> str:
    words = ["--file", EXAMPLE / "svs.nii.gz"]
    run(COMMAND.format("fsl_mrs_proc"), "dl-align", *words, "--output", folder / "theirs", "-r")
    run(OWN, "align", *words, "--output", folder / "ours", "-r")
    import nibabel as nib

    data = [np.asarray(nib.load(folder / name / "svs.nii.gz").dataobj) for name in ("theirs", "ours")]
    table = [(folder / name / "dl_align.csv").read_bytes() for name in ("theirs", "ours")]
    return "identical" if np.array_equal(*data) and table[0] == table[1] else "DIFFERENT"


def volume(path: Path, rows: int, columns: int) -> None:
    """Write a volume with known truth: the example's basis set, random concentrations and line shapes, SNR 25."""
    import torch

    from fsl_mrs_dl.core.metabolites import typical_concentrations
    from fsl_mrs_dl.core.units import spec_to_fid
    from fsl_mrs_dl.fitting.quantify import model_for
    from fsl_mrs_dl.io import nifti
    from fsl_mrs_dl.io.basis import Basis

    rng, n, n_points = np.random.default_rng(1), rows * columns, 1024
    basis = Basis.load(EXAMPLE / "basis")
    model, _ = model_for(basis, Axes(n_points, basis.dwelltime, basis.spec_freq_mhz, "1H"), FitOptions(baseline="off"))
    conc = typical_concentrations(list(basis.names)) * rng.lognormal(0, 0.2, (n, basis.n_metabs))
    shift = rng.uniform(-0.03, 0.03, n) * basis.spec_freq_mhz * 2 * np.pi
    theta = [rng.uniform(6, 14, n), rng.uniform(60, 200, n), shift, np.deg2rad(rng.uniform(-30, 30, n)), np.zeros(n)]
    params = model.pack(
        torch.as_tensor(np.column_stack(theta)), torch.as_tensor(conc), torch.zeros(n, 1, dtype=torch.complex128)
    )
    spec = model(params).numpy()
    first, last = model.window
    sd = np.abs(spec[:, first:last]).max(-1).mean() / 25
    fids = spec_to_fid(spec) + sd * (rng.normal(size=spec.shape) + 1j * rng.normal(size=spec.shape))
    data = nifti.MrsData(
        fids.reshape(rows, columns, 1, n_points).astype(np.complex64),
        basis.dwelltime,
        basis.spec_freq_mhz,
        "1H",
        affine=np.diag([10.0, 10, 10, 1]),
    )
    nifti.save(path, data)


def mrsi(folder: Path, side: int) -> str:
    import nibabel as nib
    import pandas as pd

    volume(folder / "volume.nii.gz", side, side)
    # Two voxels measure the start-up, which is no part of the time per voxel.
    volume(folder / "two.nii.gz", 1, 2)
    seconds = {}
    for name in ("two", "volume"):
        common = ["--data", folder / f"{name}.nii.gz", "--basis", EXAMPLE / "basis"]
        for algo in ("Newton", "dlquant"):
            words = [*common, "--algo", algo, "--output", folder / f"{name}_{algo}", "--overwrite"]
            serial = (
                "--parallel"
                if "--parallel " in run(COMMAND.format("fsl_mrsi"), "--help")[0].stdout
                else "--single_proc"
            )
            words += ["--parallel", "off"] if serial == "--parallel" else [serial]
            seconds[name, algo] = run(COMMAND.format("fsl_mrsi"), *words)[1]
    _, seconds["own"] = run(
        OWN,
        "fit",
        "--data",
        folder / "volume.nii.gz",
        "--basis",
        EXAMPLE / "basis",
        "--output",
        folder / "own",
        "--overwrite",
    )
    table = pd.read_csv(folder / "own/uncertainty.csv")
    off_own, off_newton = 0.0, 0.0
    for metab in table.Metab.unique():
        rows = table[table.Metab == metab]
        if not (rows.ratio_sd > 0).all():  # the reference over itself
            continue
        maps = {}
        for algo in ("Newton", "dlquant"):
            maps[algo] = np.asarray(nib.load(folder / f"volume_{algo}/concs/internal/{metab}.nii.gz").dataobj).ravel()
        off_own = max(
            off_own, float(np.max(np.abs(maps["dlquant"] - rows.ratio.to_numpy()) / rows.ratio_sd.to_numpy()))
        )
        off_newton = max(off_newton, float(np.max(np.abs(maps["dlquant"] - maps["Newton"]) / rows.ratio_sd.to_numpy())))
    same = files(folder / "volume_Newton") == files(folder / "volume_dlquant")
    n = side * side
    each = {algo: (seconds["volume", algo] - seconds["two", algo]) / (n - 2) for algo in ("Newton", "dlquant")}
    return (
        f"{side} x {side} voxels, {'same' if same else 'NOT the same'} files; whole command"
        f" {seconds['volume', 'Newton']:.1f} s (Newton), {seconds['volume', 'dlquant']:.1f} s (dlquant); per voxel"
        f" {each['Newton'] * 1e3:.0f} and {each['dlquant'] * 1e3:.0f} ms, {each['Newton'] / each['dlquant']:.1f} times;"
        f" ratios to Cr+PCr within {off_own:.1e} SD of fsl_mrs_dl fit's, within {off_newton:.1e} SD of Newton's"
    )


def start_up(n: int) -> str:
    """Time Python and ``fsl_mrs --help`` with and without the hook's .pth file, in pairs; return medians as text."""
    import fsl_mrs_dl
    from fsl_mrs_dl.fslmrs import switch

    package = Path(fsl_mrs_dl.__file__).parent

    def seconds(command, **variables):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | variables)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        pythons = []
        for name in ("without", "with"):
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", f"{folder}/{name}"], check=True)
            python = f"{folder}/{name}/bin/python"
            code = "import sysconfig; print(sysconfig.get_path('purelib'))"
            site = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
            # Python reads no .pth files in paths that a .pth file adds, so that only this one starts the hook.
            packages = [path for path in sys.path if path.endswith("-packages")]
            (site / "path.pth").write_text("".join(f"{path}\n" for path in (package.parent, *packages)))
            if name == "with":
                (site / switch.PTH).write_text(switch.starter_text())
            pythons.append(python)
        pairs = np.array([[seconds([python, "-c", "pass"]) for python in pythons] for _ in range(n)])
        added = np.median(pairs[:, 1] - pairs[:, 0]) * 1e3
        report = f"python -c pass: {np.median(pairs[:, 0]) * 1e3:.2f} ms without the hook, {added:+.2f} ms with it"
        if not importlib.util.find_spec("fsl_mrs"):
            return f"{report} (median of {n} pairs); FSL-MRS is not installed here"
        words = ["-c", COMMAND.format("fsl_mrs"), "--help"]
        helps = np.array([[seconds([python, *words]) for python in pythons] for _ in range(n)])
    slower = np.median(helps[:, 1] / helps[:, 0] - 1) * 100
    without, on = np.median(helps, axis=0)
    return (
        f"{report} (median of {n} pairs); fsl_mrs --help: {without * 1e3:.1f} ms without, {on * 1e3:.1f} ms with it,"
        f" {slower:+.1f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "reference", "basis"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--start-up", type=int, metavar="N", help="only time the start of Python, N pairs of runs")
    parser.add_argument("--volume", type=int, default=2, help="side of the volume for fsl_mrsi (default 2)")
    args = parser.parse_args()
    os.environ["MPLBACKEND"] = "agg"
    if args.start_up:
        print(start_up(args.start_up))
        return
    if not (args.data and args.reference and args.basis):
        parser.error("--data, --reference and --basis are needed")
    import fsl_mrs

    from fsl_mrs_dl.cli.doctor import examine_fsl_mrs

    report = {"FSL-MRS": fsl_mrs.__version__, "doctor": "; ".join(f"{f.mark} {f.text}" for f in examine_fsl_mrs()[2:])}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, job in (
            ("fit_FSLModel", lambda: fits(args)),
            ("fsl_mrs", lambda: svs(args, folder)),
            ("dl-align", lambda: align(folder)),
            ("fsl_mrsi", lambda: mrsi(folder, args.volume)),
        ):
            try:
                report[name] = job()
            except Exception as exc:
                report[name] = f"failed: {type(exc).__name__}: {exc}".splitlines()[0]
    print(json.dumps(report))
    print("| " + " | ".join(report.values()) + " |")


if __name__ == "__main__":
    main()
