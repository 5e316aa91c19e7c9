"""Concentrations of the human brain by FSL-MRS Newton and by us, and how well the models explain the data:

python -m benchmarks.scripts.invivo --figures FOLDER > benchmarks/invivo.md

Needs FSL-MRS in the same environment.  Data: 3 T PRESS with a metabolite-nulled acquisition, and 7 T STEAM, found
through FSL_MRS_DL_TESTDATA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import fsl_mrs_dl
from benchmarks.fsl_mrs_reference import squared_residual
from fsl_mrs_dl.core.metabolites import is_macromolecule
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.macromolecules import add_macromolecules
from fsl_mrs_dl.results.figures import fit_summary
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.tables import uncertainty_table

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def compare(title: str, data_path: Path, basis: Basis, baseline: str, figure: Path | None) -> None:
    """One table, and its picture."""
    from fsl_mrs.utils import mrs_io
    from fsl_mrs.utils.fitting import fit_FSLModel

    groups = basis.groups([name for name in basis.names if is_macromolecule(name)][:1] or None)
    with tempfile.TemporaryDirectory() as folder:
        basis.save(folder)
        mrs = mrs_io.read_FID(str(data_path)).mrs(basis=mrs_io.read_basis(folder))
    mrs.processForFitting()
    theirs = fit_FSLModel(
        mrs, method="Newton", baseline=baseline, metab_groups=[groups[basis.names.index(n)] for n in mrs.names]
    )
    data = nifti.load(data_path)
    fit = fsl_mrs_dl.quantify(
        data.fids.reshape(1, -1),
        basis,
        dwelltime=data.dwelltime,
        spec_freq_mhz=data.spec_freq_mhz,
        baseline=baseline,
        metab_groups=groups,
    )
    choline = "GPC+PCh" if "PCh" in basis.names else "GPC+PCho"
    results = FitResults(fit, data, ["Cr", "PCr"], ["NAA+NAAG", choline, "Glu+Gln"])
    their = dict(zip(mrs.names, theirs.getConc(scaling="raw")))
    total = their["Cr"] + their["PCr"]
    table = uncertainty_table(results).set_index("Metab")
    names = [name for name in results.names if not is_macromolecule(name)]
    print(f"## {title}\n")
    print(
        f"{basis.n_metabs} basis spectra, baseline '{baseline}'. Residual over noise {fit.misfit[0]:.2f},"
        f" out-of-distribution score {fit.ood[0]:.1f}{' (marked)' if fit.ood[0] > 1 else ''}. Newton's squared residual"
        f" is {squared_residual(fit, mrs, theirs) / fit.cost[0]:.6f} of ours.\n"
    )
    print(
        "| metabolite | Newton / tCr | ml / tCr | SD | 95 % interval | posterior mean / tCr | prior left, %"
        " |\n|---|---|---|---|---|---|---|"
    )
    for name in names:
        newton = sum(their[one] for one in name.split("+")) / total
        one = table.loc[name]
        mark = " *" if one["mostly_prior"] else ""
        print(
            f"| {name} | {newton:.3f} | {one['ratio']:.3f} | {one['ratio_sd']:.3f} | {one['ratio_ci95_low']:.2f} to "
            f"{one['ratio_ci95_high']:.2f} | {one['posterior_ratio']:.3f} | {100 * one['prior_pull']:.0f}{mark} |"
        )
    print(flush=True)
    if figure is not None:
        fit_summary(results, figure, title=title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    import fsl_mrs

    print("# Human brain: concentrations beside FSL-MRS Newton\n")
    print(
        f"`python -m benchmarks.scripts.invivo`, FSL-MRS {fsl_mrs.__version__.split('+')[0]}. Voigt model, default"
        " window; macromolecules that are a pattern have a group of their own. Posterior: recipe normal-brain. * mostly"
        " prior.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        tool, source = Path(sys.executable).parent / "spec2nii", DATA / "invivo_3t_press_philips"
        for name, out in (("PRESS_raw-act", "act"), ("PRESS_metabolite-nulled_TI600_raw-act", "nulled")):
            command = [tool, "philips", source / f"{name}.SDAT", source / f"{name}.SPAR", "-f", out, "-o", folder]
            subprocess.run(command, check=True, capture_output=True)
        plain = Basis.load(source / "3T_PRESS_Philips_35ms_noMM.BASIS")
        act = Path(folder) / "act.nii.gz"
        steam = DATA / "invivo_7t_steam_raw"
        jobs = [
            ("3 T PRESS, without macromolecules", act, plain, "spline, moderate"),
            (
                "3 T PRESS, measured macromolecules",
                act,
                add_macromolecules(plain, Path(folder) / "nulled.nii.gz"),
                "spline, moderate",
            ),
            ("3 T PRESS, one simulated pattern", act, add_macromolecules(plain, "summed"), "spline, moderate"),
            (
                "7 T STEAM, measured macromolecules",
                steam / "metab_processed.nii.gz",
                Basis.load(steam / "STEAM_7T_11ms.BASIS"),
                "spline, moderate",
            ),
        ]
        for number, (title, data, basis, baseline) in enumerate(jobs):
            figure = args.figures / f"invivo_{number}.png" if args.figures else None
            compare(title, data, basis, baseline, figure)


if __name__ == "__main__":
    main()
