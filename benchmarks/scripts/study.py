"""A made BIDS data set of many sessions, three vendors and some broken, through ``fsl_mrs_dl study``:

python -m benchmarks.scripts.study --sessions 100 > benchmarks/study.md

It is run on two processes, killed on the way and resumed; some sessions are run once more without a kill, and their
files are compared.  Broken sessions must be named with a reason, and the difference of two groups is held against the
truth.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from fsl_mrs_dl.concentrations.relaxation import Relaxation, field_strength
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

__all__ = ["BROKEN", "EFFECT", "Vendor", "VENDORS", "differing_files", "make_dataset"]

EXAMPLE_BASIS = Path(__file__).parents[2] / "fsl_mrs_dl" / "data" / "example" / "basis"

EFFECT = {"Glu": 1.15, "NAA": 0.92}
"""True ratio of patients over controls; all other metabolites are alike."""

_TE_S, _TR_S = 0.03, 2.0
_SUMS = (("Cr", "PCr"), ("NAA", "NAAG"), ("GPC", "PCh"), ("Glu", "Gln"))
_FRACTIONS = {"WM": 0.55, "GM": 0.38, "CSF": 0.07}
_PROTONS_OF_CREATINE = 5.0
_WATER_MM, _DENSITIES = 55510.0, {"GM": 0.78, "WM": 0.65, "CSF": 0.97}


@dataclass(frozen=True)
class Vendor:
    """What files of a vendor are like.

    Attributes
    ----------
    name : str
    header : dict
        Keys of the NIfTI-MRS header.
    bandwidth_hz : float
    n_points, coils, transients : int
    """

    name: str
    header: dict
    bandwidth_hz: float
    n_points: int
    coils: int
    transients: int


VENDORS = (
    Vendor("Siemens", {"SequenceName": "*svs_se", "ManufacturersModelName": "Prisma"}, 2000.0, 1024, 1, 1),
    Vendor("Philips", {"SequenceName": "PRESS", "ManufacturersModelName": "Achieva"}, 2000.0, 2048, 1, 16),
    Vendor("GE", {"SequenceName": "PROBE-P", "ManufacturersModelName": "MR750"}, 5000.0, 4096, 4, 8),
)
"""An average (DICOM), transients of combined coils (SDAT), and transients of single coils (P-file)."""


def _truncated(folder: Path, stem: str) -> None:
    path = folder / f"{stem}_svs.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_water(folder: Path, stem: str) -> None:
    (folder / f"{stem}_mrsref.nii.gz").unlink()


def _phosphorus(folder: Path, stem: str) -> None:
    data = nifti.load(folder / f"{stem}_svs.nii.gz")
    header = {**data.header, "ResonantNucleus": ["31P"]}
    _save(folder / f"{stem}_svs.nii.gz", data.fids, data, header, nucleus="31P")


def _water_is_none(folder: Path, stem: str) -> None:
    shutil.copyfile(folder / f"{stem}_svs.nii.gz", folder / f"{stem}_mrsref.nii.gz")


def _without_echo_time(folder: Path, stem: str) -> None:
    data = nifti.load(folder / f"{stem}_svs.nii.gz")
    header = {key: value for key, value in data.header.items() if key != "EchoTime"}
    _save(folder / f"{stem}_svs.nii.gz", data.fids, data, header)
    path = folder / f"{stem}_svs.json"
    sidecar = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({k: v for k, v in sidecar.items() if k != "EchoTime"}), encoding="utf-8")


def _empty(folder: Path, stem: str) -> None:
    data = nifti.load(folder / f"{stem}_svs.nii.gz")
    _save(folder / f"{stem}_svs.nii.gz", 0 * data.fids, data, data.header)


def _broad(folder: Path, stem: str) -> None:
    data = nifti.load(folder / f"{stem}_svs.nii.gz")
    decay = np.exp(-60.0 * data.axes.time()).reshape(1, 1, 1, -1, *[1] * (data.fids.ndim - 4))
    _save(folder / f"{stem}_svs.nii.gz", data.fids * decay, data, data.header)


def _noise(folder: Path, stem: str) -> None:
    data = nifti.load(folder / f"{stem}_svs.nii.gz")
    random = np.random.default_rng(0)
    noise = random.standard_normal((*data.fids.shape, 2)).view(complex)[..., 0]
    fids = 1e-6 * data.fids + noise * np.abs(data.fids).max()
    _save(folder / f"{stem}_svs.nii.gz", fids, data, data.header)


@dataclass(frozen=True)
class Broken:
    """Something wrong with a session.

    Attributes
    ----------
    break_ : callable
        Of the folder and the beginning of the session's file names.
    expected : str
        Pattern that a reason or a remark must have.
    """

    break_: Callable[[Path, str], None]
    expected: str


BROKEN = {
    "file cut off": Broken(_truncated, r"cannot be read|truncated|ended before|damaged"),
    "water missing": Broken(_without_water, r"ReferenceSignal.*no such file"),
    "other nucleus": Broken(_phosphorus, r"31P|nucleus"),
    "water is no water": Broken(_water_is_none, r"water"),
    "no echo time": Broken(_without_echo_time, r"EchoTime|echo time"),
    "no signal": Broken(_empty, r"zero|no signal|empty"),
    "broad lines": Broken(_broad, r"FWHM|not usable|out-of-distribution"),
    "noise only": Broken(_noise, r"SNR|not usable|no signal"),
}
"""What is wrong with sessions, and what the study must say of them."""


def make_dataset(root: Path, n: int, *, seed: int = 0, broken: tuple[str, ...] = tuple(BROKEN)) -> dict:
    """Write a BIDS data set and its basis set and return its truth.

    Parameters
    ----------
    root : path
        Folder to make.
    n : int
        Sessions, of one participant each.
    seed : int
    broken : tuple of str
        Names of :data:`BROKEN`; one session each, at the end.

    Returns
    -------
    dict
        ``names`` of metabolites, ``sessions``, ``groups``, ``concentrations`` ``(n, n_metabs)``, and ``broken``:
        what is wrong, by session.
    """
    basis = Basis.load(EXAMPLE_BASIS)
    root.mkdir(parents=True)
    _write(root / "dataset_description.json", {"Name": "Made study", "BIDSVersion": "1.10.0"})
    (root / "README").write_text("A simulated data set of single voxels of three vendors.\n" * 4, encoding="utf-8")
    random = np.random.default_rng(seed)
    groups = ["patient" if number % 2 else "control" for number in range(n)]
    truth: dict = {"names": list(basis.names), "sessions": [], "groups": groups, "broken": {}}
    concentrations = np.zeros((n, basis.n_metabs))
    people = "".join(f"sub-{number + 1:03}\t{group}\n" for number, group in enumerate(groups))
    (root / "participants.tsv").write_text("participant_id\tgroup\n" + people, encoding="utf-8")
    _write(root / "participants.json", {"group": {"Description": "Group of the participant."}})
    for k, vendor in enumerate(VENDORS):
        for group in ("control", "patient"):
            rows = [i for i in range(n) if groups[i] == group and (i // 2) % len(VENDORS) == k]
            if rows:
                spectra = _spectra(basis, vendor, len(rows), group, int(random.integers(1 << 31)))
                concentrations[rows] = spectra.concentrations
                for row, fid, water in zip(rows, spectra.fids, spectra.water):
                    _write_session(root, row, vendor, basis, fid, water, random)
    truth["concentrations"] = concentrations.tolist()
    truth["sessions"] = [f"sub-{i + 1:03}_acq-press_svs" for i in range(n)]
    for what, i in zip(broken, range(n - 1, -1, -1)):
        BROKEN[what].break_(root / f"sub-{i + 1:03}" / "mrs", f"sub-{i + 1:03}_acq-press")
        truth["broken"][truth["sessions"][i]] = what
    return truth


def _spectra(basis: Basis, vendor: Vendor, n: int, group: str, seed: int):
    """Simulate spectra of a group without noise; a patient's basis spectra are larger by the effect."""
    from dataclasses import replace

    factor = np.array([EFFECT.get(name, 1.0) if group == "patient" else 1.0 for name in basis.names])
    axes = Axes(vendor.n_points, 1 / vendor.bandwidth_hz, basis.spec_freq_mhz)
    spectra = simulate_in_vivo(
        replace(basis, fids=basis.fids * factor[:, None]), axes, n, snr=(1e5, 1e6), seed=seed, te_s=_TE_S
    )
    creatine = basis.resampled(axes.dwelltime, axes.n_points)[basis.names.index("Cr")]
    proton = np.abs(creatine[0]) / _PROTONS_OF_CREATINE
    water = spectra.water / np.abs(spectra.water[:, :1]) * proton * _water_protons(basis.spec_freq_mhz)
    return replace(spectra, concentrations=spectra.concentrations * factor, water=water)


def _water_protons(spec_freq_mhz: float) -> float:
    """Return the signal of water over that of a metabolite's proton at 1 mM of tissue without CSF; Near et al.,
    doi 10.1002/nbm.4257, equation 4."""
    times = Relaxation.at_field(field_strength(spec_freq_mhz))
    assert times is not None

    def visible(compartment: str) -> float:
        saturation = 1 - np.exp(-_TR_S / times.t1[compartment])
        return float(saturation * np.exp(-_TE_S / times.t2[compartment]))

    water = sum(_WATER_MM * _DENSITIES[part] * share * visible(f"H2O_{part}") for part, share in _FRACTIONS.items())
    return 2 * water / ((1 - _FRACTIONS["CSF"]) * visible("METAB"))


def _write_session(root: Path, row: int, vendor: Vendor, basis: Basis, fid, water, random) -> None:
    """Write spectrum, water, sidecars, structural image and segmentations of one participant."""
    label = f"sub-{row + 1:03}"
    stem, folder = f"{label}_acq-press", root / label / "mrs"
    folder.mkdir(parents=True)
    snr = random.uniform(40, 100)
    noise = np.abs(np.fft.fft(fid, norm="ortho")).max() / snr
    coils = random.standard_normal((vendor.coils, 2)).view(complex)[:, 0] if vendor.coils > 1 else np.ones(1)
    coils = coils / np.linalg.norm(coils)
    axes = Axes(vendor.n_points, 1 / vendor.bandwidth_hz, basis.spec_freq_mhz)
    header = {
        "SpectrometerFrequency": [axes.spec_freq_mhz],
        "ResonantNucleus": ["1H"],
        "EchoTime": _TE_S,
        "RepetitionTime": _TR_S,
        "Manufacturer": vendor.name,
        **vendor.header,
    }

    def save(suffix: str, signal: np.ndarray, transients: int, noise_sd: float, drift: float, **fields) -> None:
        """Write transients of all coils with drifting frequency and phase."""
        shift = drift * np.linspace(-0.5, 0.5, transients) + 0.1 * drift * random.standard_normal(transients)
        turn = np.exp(1j * (2 * np.pi * shift[:, None] * axes.time() + 0.1 * random.standard_normal((transients, 1))))
        fids = coils[:, None, None] * signal * (turn if transients > 1 else 1)
        noise = random.standard_normal((*fids.shape, 2)).view(complex)[..., 0]
        # Noise of the mean over transients is that of the session.
        fids = (fids + noise_sd * np.sqrt(transients) * noise).transpose(2, 0, 1)[None, None, None]
        tags = tuple(tag for tag, size in zip(("DIM_COIL", "DIM_DYN"), fids.shape[4:]) if size > 1)
        fids = fids.reshape(*fids.shape[:4], *[size for size in fids.shape[4:] if size > 1])
        about = {**header, **{f"dim_{i + 5}": tag for i, tag in enumerate(tags)}}
        data = nifti.MrsData(
            fids.astype(np.complex64), axes.dwelltime, axes.spec_freq_mhz, "1H", tags, about, np.diag([20.0, 20, 20, 1])
        )
        nifti.save(folder / f"{stem}_{suffix}.nii.gz", data)
        sidecar = {"ResonantNucleus": "1H", "SpectrometerFrequency": axes.spec_freq_mhz, "EchoTime": _TE_S}
        sidecar |= {"SpectralWidth": vendor.bandwidth_hz, "RepetitionTime": _TR_S, "Manufacturer": vendor.name}
        _write(folder / f"{stem}_{suffix}.json", sidecar | fields)

    references = {
        "ReferenceSignal": f"bids::{label}/mrs/{stem}_mrsref.nii.gz",
        "AnatomicalImage": f"bids::{label}/anat/{label}_T1w.nii.gz",
    }
    save("svs", fid, vendor.transients, noise, 4.0, **references)
    save("mrsref", water, min(vendor.transients, 2), noise, 0.5)
    _write_anatomy(root, label)


def _write_anatomy(root: Path, label: str) -> None:
    """Write a structural image and maps of tissue, the same shares everywhere."""
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -32
    shape = (24, 24, 24)
    anat, maps = root / label / "anat", root / "derivatives" / "segmented" / label / "anat"
    for folder in (anat, maps):
        folder.mkdir(parents=True)
    image = np.random.default_rng(1).uniform(50, 100, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, affine), anat / f"{label}_T1w.nii.gz")
    _write(anat / f"{label}_T1w.json", {"Modality": "MR"})
    for tissue, share in _FRACTIONS.items():
        image = np.full(shape, share, np.float32)
        nibabel.save(nibabel.Nifti1Image(image, affine), maps / f"{label}_label-{tissue}_probseg.nii.gz")


def _save(path: Path, fids, data: nifti.MrsData, header: dict, nucleus: str | None = None) -> None:
    nifti.save(
        path,
        nifti.MrsData(
            fids.astype(np.complex64),
            data.dwelltime,
            data.spec_freq_mhz,
            nucleus or data.nucleus,
            data.dim_tags,
            header,
            data.affine,
        ),
    )


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


# -- runs ------------------------------------------------------------------------------------------------------------


def start(*words: str, log: Path) -> subprocess.Popen:
    """Start the command in a process group of its own."""
    command = [sys.executable, "-c", "import sys; from fsl_mrs_dl.cli.main import main; sys.exit(main())", *words]
    with log.open("a", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


@dataclass(frozen=True)
class Ended:
    """A command that ended: exit status, and seconds of the clock and of all its processes together."""

    status: int
    seconds: float
    cpu_seconds: float


def finish(process: subprocess.Popen) -> Ended:
    """Wait for a command's end."""
    begun = time.perf_counter()
    _, status, usage = os.wait4(process.pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), time.perf_counter() - begun, usage.ru_utime + usage.ru_stime)


_TIMES = re.compile(
    r"\d{8}_\d{6}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?|\"seconds\": [\d.]+|seconds[^0-9]{1,20}[\d.]+ s"
)


def differing_files(first: Path, second: Path) -> list[str]:
    """Return the names of result files that differ between two folders, but for times and figures' random names."""
    names = {path.relative_to(folder) for folder in (first, second) for path in folder.rglob("*") if path.is_file()}
    return sorted(str(name) for name in names if _content(first / name) != _content(second / name))


def _content(path: Path):
    """Return the content of a file without times; arrays of images by value, because gzip writes a time."""
    if not path.is_file():
        return None
    if path.name.endswith((".nii.gz", ".nii")):
        return np.asanyarray(nibabel.load(path).dataobj).tobytes()
    if path.suffix == ".html":
        text = _TIMES.sub("", path.read_text(encoding="utf-8"))
        return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", text)
    if path.suffix in (".csv", ".tsv", ".json", ".txt", ".md", ".bib"):
        return _TIMES.sub("", path.read_text(encoding="utf-8"))
    return path.read_bytes()


def run_killed(words: list[str], log: Path, share: float, n: int, folder: Path) -> tuple[int, float]:
    """Run a study, and kill it and its processes once a share of the sessions is there.

    Returns
    -------
    int
        Sessions that were done.
    float
        Seconds.
    """
    process, begun = start(*words, log=log), time.perf_counter()
    while process.poll() is None and len(list(folder.glob("sessions/*/study.json"))) < share * n:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(list(folder.glob("sessions/*/study.json"))), time.perf_counter() - begun


def main(argv=None) -> None:
    """Run the benchmark and print its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--compared", type=int, default=20, help="sessions that are run once more without a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="folder to keep (default: a temporary one)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        print(report(args.folder or Path(temporary), args.sessions, args.processes, args.compared, args.seed))


def report(folder: Path, n: int, processes: int, compared: int, seed: int) -> str:
    """Make the data set, run it, and return the page."""
    data, log = folder / "set", folder / "log.txt"
    begun = time.perf_counter()
    truth = make_dataset(data, n, seed=seed)
    made_s = time.perf_counter() - begun
    outs = {name: folder / name / "fsl_mrs_dl" for name in ("whole", "killed")}
    options = ["--basis", str(EXAMPLE_BASIS), "--n-procs", str(processes)]
    words = {name: ["study", str(data), str(out), "participant", *options] for name, out in outs.items()}
    n_killed, seconds = run_killed(words["killed"], log, 0.4, n, outs["killed"])
    resumed = finish(start(*words["killed"], log=log))
    # Spread over the study, so that they were run before and after the kill.
    chosen = sorted({round(i) for i in np.linspace(0, n - 1, min(compared, n))})
    whole = finish(start(*words["whole"], "--participant-label", *(f"{i + 1:03}" for i in chosen), log=log))
    status = finish(start("study", str(data), str(outs["killed"]), "group", log=log)).status
    names = [f"sessions/{truth['sessions'][i]}" for i in chosen]
    differing = [f"{name}/{file}" for name in names for file in differing_files(*(out / name for out in outs.values()))]
    lines = [
        "# A study",
        "",
        f"`python -m benchmarks.scripts.study --sessions {n}`: {n} simulated sessions of three vendors (an average;"
        " 16 transients; 4 coils with 8 transients), water, structural image and maps of tissue for each, two groups,"
        f" {len(truth['broken'])} sessions broken; one basis set, {processes} processes.",
        "",
        "| what | result |",
        "|---|---|",
        f"| making the data set | {made_s:.0f} s |",
        f"| killed when {n_killed} were done | after {seconds / 60:.1f} min by the clock |",
        f"| resumed, the other {n - n_killed} | {_took(resumed, n - n_killed)}; exit {resumed.status} |",
        f"| {len(chosen)} of them once more, without a kill | {_took(whole, len(chosen))}; exit {whole.status} |",
        f"| their files that differ, times aside | {', '.join(differing) or 'none'} |",
        f"| tables and page | exit {status} |",
        "",
        *_named(outs["killed"] / "group" / "sessions.tsv", truth),
        "",
        *_scale(outs["killed"] / "group", truth),
        "",
        *_effects(outs["killed"] / "group", truth),
    ]
    return "\n".join(lines)


def _took(ended: Ended, n: int) -> str:
    of_cores = f"{ended.cpu_seconds / 60:.1f} min of a core, {ended.cpu_seconds / n:.1f} s per session"
    return f"{ended.seconds / 60:.1f} min by the clock, {of_cores}"


def _named(path: Path, truth: dict) -> list[str]:
    """Return what the study says of each broken session."""
    table = pd.read_csv(path, sep="\t", keep_default_na=False).set_index("session")
    lines = [
        "## Broken sessions",
        "",
        "| broken | state | included | reason or remark | as expected |",
        "|---|---|---|---|---|",
    ]
    for name, what in truth["broken"].items():
        line = table.loc[name]
        text = "; ".join(part for part in (line["reason"], line["remarks"]) if part not in ("", "n/a"))
        text = text.replace(f"{path.parents[3]}/set/", "").replace(f"{EXAMPLE_BASIS.parents[3]}/", "")
        expected = bool(re.search(BROKEN[what].expected, text))
        lines.append(f"| {what} | {line['state']} | {line['included']} | {text} | {'yes' if expected else 'NO'} |")
    others = table[~table.index.isin(truth["broken"])]
    out = others[others["included"].astype(str) != "True"]
    lines += ["", f"Of the {len(others)} others {len(out)} are left out: {'; '.join(out['reason']) or 'none'}."]
    return lines


def _scale(folder: Path, truth: dict) -> list[str]:
    """Return errors of concentrations in mM, by metabolite, over included sessions."""
    tidy = pd.read_csv(folder / "concentrations_tidy.tsv", sep="\t")
    tidy = tidy[(tidy["quantity"] == "molarity") & tidy["included"] & ~tidy["session"].isin(truth["broken"])]
    true = pd.DataFrame(truth["concentrations"], index=truth["sessions"], columns=truth["names"])
    for parts in _SUMS:
        for name in ("+".join(parts), "+".join(parts[::-1])):
            true[name] = true[list(parts)].sum(axis=1)
    lines = [
        "## Concentrations in mM",
        "",
        "Included sessions against their truth: mean of found over true, RMSE in percent of the mean true value, and"
        " how many of the 95 % intervals hold the truth.",
        "",
        "| metabolite | mean true | found over true | RMSE, % | intervals that hold the truth, % |",
        "|---|---|---|---|---|",
    ]
    for name in true.columns:
        rows = tidy[tidy["metabolite"] == name].set_index("session")
        if not len(rows):
            continue
        expected = true.loc[rows.index, name]
        error = rows["value"] - expected
        inside = ((rows["ci95_low"] <= expected) & (expected <= rows["ci95_high"])).mean()
        lines.append(
            f"| {name} | {expected.mean():.2f} | {(rows['value'] / expected).mean():.3f} |"
            f" {100 * np.sqrt((error**2).mean()) / expected.mean():.1f} | {100 * inside:.0f} |"
        )
    return lines


def _effects(folder: Path, truth: dict) -> list[str]:
    """Return differences of groups against the truth of the same sessions, and against the populations'."""
    effects = pd.read_csv(folder / "effects.tsv", sep="\t")
    tidy = pd.read_csv(folder / "concentrations_tidy.tsv", sep="\t")
    quantity = "molarity" if (effects["quantity"] == "molarity").any() else "ratio"
    tidy = tidy[(tidy["quantity"] == quantity) & tidy["included"]]
    true = pd.DataFrame(truth["concentrations"], index=truth["sessions"], columns=truth["names"])
    true["tNAA"] = true["NAA"] + true["NAAG"]
    if quantity == "ratio":
        true = true.div(true["Cr"] + true["PCr"], axis=0)
    group = pd.Series(truth["groups"], index=truth["sessions"])
    lines = [
        "## Difference of the groups",
        "",
        f"Patients minus controls, {quantity}. 'true' is the difference of the true concentrations of the same"
        " sessions, in percent of the controls' as all numbers; 'SD' is the study's, which contains the spread between"
        " people; z is the study's error over the stated SDs of the values alone.",
        "",
        "| metabolite | simulated | true | study | SD | 95 % interval contains the simulated one | z |",
        "|---|---|---|---|---|---|---|",
    ]
    some = effects[effects["quantity"] == quantity].set_index("metabolite")
    inside = []
    for name in truth["names"]:
        if name not in some.index:
            continue
        line, values = some.loc[name], tidy[tidy["metabolite"] == name].set_index("session")
        control = values["value"][values["group"] == "control"].mean()
        sessions = values.index
        means = true.loc[sessions, name].groupby(group[sessions]).mean()
        true_percent = 100 * (means["patient"] / means["control"] - 1)
        simulated = 100 * (EFFECT.get(name, 1.0) - 1)
        low, high = (100 * line[f"ci95_{side}"] / control for side in ("low", "high"))
        inside.append(low <= simulated <= high)
        counts = group[sessions].value_counts()
        stated = np.sqrt(sum((values["sd"][values["group"] == one] ** 2).mean() / counts[one] for one in counts.index))
        z = (line["percent"] - true_percent) / (100 * stated / control)
        lines.append(
            f"| {name} | {simulated:+.0f} | {true_percent:+.1f} | {line['percent']:+.1f} |"
            f" {100 * line['sd'] / control:.1f} | {'yes' if inside[-1] else 'no'} ({low:+.1f} to {high:+.1f}) |"
            f" {z:+.1f} |"
        )
    lines += ["", f"The simulated difference is inside {sum(inside)} of {len(inside)} intervals."]
    return lines


if __name__ == "__main__":
    main()
