"""Public files as their makers wrote them, through the commands with no option beyond data and basis set:

python -m benchmarks.scripts.public_files > benchmarks/public_files.md

Data are found through FSL_MRS_DL_TESTDATA.  Files of scanners are converted with spec2nii, where that is installed.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))

_PRESS = "invivo_3t_press_philips/3T_PRESS_Philips_35ms_noMM.BASIS"
_STEAM = "invivo_7t_steam_raw/STEAM_7T_11ms.BASIS"
_DIFFUSION = "dwi_steam_7t/basis_STEAM_TE45_TM60.BASIS"
_CHALLENGE = "fitting_challenge_2016/press3T_30ms.BASIS"
_CSI = "lcmodel_mrsi/sim_se_csi_te16.basis"


@dataclass(frozen=True)
class Case:
    """One command on one file.

    Attributes
    ----------
    command : str
        fit, align or mrsi.
    data : str
        File below the data's folder.
    basis : str
        Basis set, for fit and mrsi.
    convert : tuple of str
        Words for spec2nii in place of the file itself; {} is a file of the scanner without its ending.
    """

    command: str
    data: str
    basis: str = ""
    convert: tuple[str, ...] = ()


_PHILIPS = ("philips", "{}.SDAT", "{}.SPAR", "-f", "converted")
_VARIAN = ("varian", "{}.fid")
_ACT, _REF = "invivo_3t_press_philips/PRESS_raw-act", "invivo_3t_press_philips/PRESS_raw-ref"
_NULLED = "invivo_3t_press_philips/PRESS_metabolite-nulled_TI600_raw"
CASES = (
    Case("fit", "fitting_challenge_2016/all28.nii.gz", _CHALLENGE),
    Case("fit", "fitting_challenge_2016/all28_h2o.nii.gz", _CHALLENGE),
    Case("fit", "fitting_challenge_2016/Cr_10mM_test_water_scaling.txt", _CHALLENGE),
    Case("fit", "siemens_press30/suspect_rda.nii.gz", "siemens_press30/press_30ms_3T.basis"),
    Case("fit", "siemens_press30/suspect_rda.nii.gz", "basis_more/slaser_123_mhz.basis"),
    Case("align", "siemens_press30/suspect_rda.nii.gz"),
    Case("fit", "lcmodel_test/spectrum.nii.gz", "lcmodel_test/3t.basis"),
    Case("fit", "lcmodel_mrsi/mrsi.nii.gz", _CSI),
    Case("mrsi", "lcmodel_mrsi/mrsi.nii.gz", _CSI),
    Case("align", "lcmodel_mrsi/mrsi.nii.gz"),
    Case("fit", _ACT, _PRESS, _PHILIPS),
    Case("align", _ACT, convert=_PHILIPS),
    Case("fit", _REF, _PRESS, _PHILIPS),
    Case("fit", f"{_NULLED}-act", _PRESS, _PHILIPS),
    Case("fit", f"{_NULLED}-ref", _PRESS, _PHILIPS),
    Case("fit", f"{_ACT}.SDAT", _PRESS),
    Case("fit", "invivo_3t_press_philips/T1w.nii.gz", _PRESS),
    Case("align", "invivo_7t_steam_raw/metab_raw.nii.gz"),
    Case("fit", "invivo_7t_steam_raw/metab_raw.nii.gz", _STEAM),
    Case("mrsi", "invivo_7t_steam_raw/metab_raw.nii.gz", _STEAM),
    Case("fit", "invivo_7t_steam_raw/metab_processed.nii.gz", _STEAM),
    Case("fit", "invivo_7t_steam_raw/metab_processed.nii.gz", "fsl_basis_7t"),
    Case("fit", "invivo_7t_steam_raw/metab_processed.nii.gz", "basis_more/basis_siemens_special9.basis"),
    Case("mrsi", "invivo_7t_steam_raw/metab_processed.nii.gz", _STEAM),
    Case("align", "invivo_7t_steam_raw/wref_raw.nii.gz"),
    Case("align", "invivo_7t_steam_raw/quant_raw.nii.gz"),
    Case("align", "invivo_7t_steam_raw/ecc.nii.gz"),
    Case("align", "dwi_steam_7t/synthetic_as_published.nii.gz"),
    Case("fit", "dwi_steam_7t/synthetic_as_published.nii.gz", _DIFFUSION),
    Case("align", "dwi_steam_7t/synthetic.nii.gz"),
    Case("align", "dwi_steam_7t/original.nii.gz"),
    Case("fit", "dwi_steam_7t/original.nii.gz", _DIFFUSION),
    Case("align", "dwi_steam_7t/invivo1_steam.nii.gz"),
    Case("fit", "dwi_steam_7t/invivo1_steam.nii.gz", _DIFFUSION),
    Case("align", "dwi_steam_7t/invivo1_steam_water.nii.gz"),
    Case("align", "mega_press_3t/mega68.nii.gz"),
    Case("align", "mega_press_3t/mega68_water.nii.gz"),
    Case("fit", "invivo_like_3t/svs.nii.gz", _PRESS),
    Case("mrsi", "invivo_like_3t/svs.nii.gz", _PRESS),
    Case("fit", "mm_measured/3T_MM_human_STEAM_CMRR", _PRESS, _VARIAN),
    Case("fit", "mm_measured/7T_MM_human_STEAM_CMRR", _STEAM, _VARIAN),
    Case("fit", "seed_quant_ismrm3t/mm.mat", _CHALLENGE),
    Case("fit", "dwi_steam_7t/original.nii.gz", "seed_quant_ismrm3t/basisset.mat"),
    Case("fit", "dwi_steam_7t/original.nii.gz", "seed_denoise_dsteam"),
)


def converted(case: Case, folder: Path) -> Path | str:
    """Return the file of a case in NIfTI-MRS, or why there is none."""
    source = DATA / case.data
    if not case.convert:
        return source
    program = shutil.which("spec2nii", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        return "spec2nii is not installed"
    words = [word.format(source) for word in case.convert]
    done = subprocess.run([program, *words, "-o", str(folder)], capture_output=True, text=True, check=False)
    files = sorted(folder.glob("*.nii.gz"))
    return files[0] if files else f"spec2nii: {(done.stderr.strip().splitlines() or ['no file'])[-1][:100]}"


def outcome(case: Case, folder: Path, done: subprocess.CompletedProcess) -> str:
    """Return the result of a command in words: numbers, or its error."""
    if done.returncode:
        return " ".join(done.stderr.split())
    lines = done.stdout.splitlines()
    if case.command == "align":
        return next((line for line in lines if line.startswith(("Aligned", "Left"))), lines[0])
    if case.command == "mrsi":
        return next(line for line in lines if "voxels fitted" in line).rstrip(":")
    with (folder / "out" / "uncertainty.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "out" / "summary.csv").open(newline="", encoding="utf-8") as file:
        verdicts = [row["verdict"] for row in csv.DictReader(file) if row["Metab"] == rows[0]["Metab"]]
    ratios = sorted(float(row["ratio"]) for row in rows if row["Metab"] == "NAA" and row.get("ratio"))
    ratio = f"NAA/tCr {ratios[len(ratios) // 2]:.2f}; " if ratios else ""
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    return ratio + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def run(case: Case) -> tuple[str, str, float]:
    """Return exit status, outcome and seconds of a case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = converted(case, folder)
        if isinstance(file, str):
            return "-", file, 0.0
        words = ["align", "--file"] if case.command == "align" else [case.command, "--data"]
        words += [str(file), "--output", str(folder / "out")]
        words += ["--basis", str(DATA / case.basis)] if case.basis else []
        code = "import sys; from fsl_mrs_dl.cli.main import main; sys.exit(main())"
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
        text = outcome(case, folder, done).replace(f"{DATA}/", "").replace(f"{folder}/", "")
        leftovers = [path.name for path in folder.iterdir() if path != file and path.suffix not in (".gz", ".json")]
        if done.returncode and "out" in leftovers:
            text += " (a folder was left)"
        return str(done.returncode), text.replace("|", "/"), seconds


def main() -> None:
    """Run all cases, or those whose command or file holds a word, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="run cases that hold one of these words only")
    words = parser.parse_args().words
    cases = [case for case in CASES if not words or any(word in f"{case.command} {case.data}" for word in words)]
    print(
        "# Public files\n\n`python -m benchmarks.scripts.public_files` on the files of the test data, as their makers"
        " wrote them, with no option beyond data and basis set. NAA/tCr is the median over the spectra of a file; files"
        " that cannot be used are refused with exit status 2 and the line that stands here.\n"
    )
    print("| command | data | basis set | exit | s | outcome |\n|---|---|---|---|---|---|", flush=True)
    failed = 0
    for case in cases:
        status, text, seconds = run(case)
        failed += status not in ("0", "2", "-")
        print(f"| {case.command} | {case.data} | {case.basis} | {status} | {seconds:.0f} | {text} |", flush=True)
    print(f"\n{len(cases)} commands, {failed} of them ended with another status than 0 or 2.")


if __name__ == "__main__":
    main()
