"""Readers of the package with good small files for them: what a campaign mutates."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import FslMrsDlError
from fsl_mrs_dl.fitting import priors
from fsl_mrs_dl.fitting.header_facts import time_notes, with_header
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import files, nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.lcmodel_raw import read_lcmodel_raw
from fsl_mrs_dl.io.volume import load_mask, open_volume
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.simulation.recipe_spectra import simulate_spectra

from . import mutations

__all__ = ["Fault", "Target", "targets"]

NAMES = ("Cr", "Glu", "NAA")
AXES = Axes(64, 5e-4, 123.2)
GRID = (2, 2, 1)


class Fault(Exception):
    """Something that no input may lead to: a message of several lines, a status, a folder, readers that disagree."""


@dataclass(frozen=True)
class Target:
    """One reader and its good inputs.

    Attributes
    ----------
    name : str
    write : callable
        ``(random.Random, folder, change) -> path``: writes an input into an empty folder, mutated where ``change``.
    read : callable
        Reads the path; raises FslMrsDlError or nothing.
    weight : float
        Share of a campaign's inputs.
    """

    name: str
    write: Callable[[random.Random, Path, bool], Path]
    read: Callable[[Path], None]
    weight: float


def _fids(*shape: int) -> np.ndarray:
    """Return FIDs of three lines with noise, ``(*shape, n_points)``."""
    rng, time = np.random.default_rng(0), np.arange(AXES.n_points) * AXES.dwelltime
    lines = sum(np.exp((2j * np.pi * hz - 15) * time) for hz in (-200, -320, 60))
    noise = rng.normal(size=(2, *shape, AXES.n_points)) * 0.05
    return (lines + noise[0] + 1j * noise[1]).astype(np.complex64)


def _basis() -> Basis:
    time = np.arange(AXES.n_points) * AXES.dwelltime
    fids = np.stack([np.exp((2j * np.pi * hz - 6) * time) for hz in (-200, -280, -330)])
    return Basis(fids, NAMES, AXES.dwelltime, AXES.spec_freq_mhz)


def _nifti_files(folder: Path) -> list[bytes]:
    """Return NIfTI-MRS files of several shapes and headers, uncompressed."""
    common = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"], "EchoTime": 0.03, "RepetitionTime": 2.0}
    steps = [nifti.processing_record("Eddy current correction", "x")]
    headers = {
        (1, 1, 1): common,
        (*GRID,): {**common, "SpecFreqChemShift": 4.65, "kSpace": [False] * 3, "ProcessingApplied": steps},
        (1, 1, 1, 4): {
            **common,
            "dim_5": "DIM_DYN",
            "dim_5_header": {"EchoTime": [0.03] * 4, "b": {"Value": [1, 2, 3, 4], "Description": "x"}},
            "SpectralWidth": 2000.0,
            "AcquisitionStartTime": -1e-3,
        },
        (1, 1, 1, 2, 3): {**common, "dim_5": "DIM_COIL", "dim_6": "DIM_EDIT", "dim_6_info": "ON", "Other": {"a": [1]}},
    }
    contents = []
    for number, (shape, header) in enumerate(headers.items()):
        fids = np.moveaxis(_fids(*shape), -1, 3)
        tags = tuple(header[f"dim_{axis}"] for axis in range(5, len(shape) + 2) if f"dim_{axis}" in header)
        data = nifti.MrsData(fids, AXES.dwelltime, AXES.spec_freq_mhz, "1H", tags, header)
        contents.append(nifti.save(folder / f"{number}.nii", data).read_bytes())
    return [_as_nifti_1(content) for content in contents] + contents[:1]


def _as_nifti_1(content: bytes) -> bytes:
    """Return an image with a NIfTI-1 header, whose fields :func:`mutations.of_nifti` takes at their places."""
    image = nibabel.Nifti2Image.from_bytes(content)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(image.get_data_dtype())
    header.extensions.extend(image.header.extensions)
    other = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
    other.header.set_zooms(image.header.get_zooms())
    for name in ("intent_name", "xyzt_units"):
        other.header[name] = image.header[name]
    return other.to_bytes()


def _read_data(path: Path) -> None:
    """Read a file in the ways of ``fit`` and ``mrsi``, which must agree."""
    data = volume = None
    for read in (_whole, _by_voxel):
        try:
            if read is _whole:
                data = read(path)
            else:
                volume = read(path)
        except FslMrsDlError as exc:
            if read is _whole and data is None:
                _check_message(exc)
            refused = exc
    if data is None and volume is None:
        raise refused
    if data is not None and volume is not None:
        plain = data.fids.reshape(-1, data.n_points)
        if not np.array_equal(plain, volume, equal_nan=True):
            raise Fault("fit and mrsi read different FIDs")


def _whole(path: Path) -> nifti.MrsData:
    data = nifti.from_echo(nifti.load(path))
    nifti.check_fids(data)
    options = with_header(FitOptions(), data)
    time_notes(FitOptions(spectral_model="in-vivo"), data)
    if not all(np.isfinite(value) for value in (data.dwelltime, data.spec_freq_mhz, options.start_time_s)):
        raise Fault("a dwell time, frequency or start time that is not finite")
    nifti.save(path.parent / "again.nii", data)
    again = nifti.load(path.parent / "again.nii")
    if again.moved_hz or not np.array_equal(data.fids, again.fids, equal_nan=True):
        raise Fault("a file that was read is another one after it was written")
    return data


def _by_voxel(path: Path) -> np.ndarray:
    volume = open_volume(path, path.parent)
    return volume.fids(np.arange(int(np.prod(volume.grid))))


def _read_raw(path: Path) -> None:
    """Read a file of LCModel's RAW format, which is the same after it was written as NIfTI-MRS."""
    data = read_lcmodel_raw(path)
    nifti.check_fids(data)
    if not all(np.isfinite(value) and value > 0 for value in (data.dwelltime, data.spec_freq_mhz)):
        raise Fault("a dwell time or frequency that is none")
    again = nifti.load(nifti.save(path.parent / "again.nii", data))
    if not np.array_equal(data.fids, again.fids, equal_nan=True):
        raise Fault("a file that was read is another one after it was written")


def _check_message(exc: FslMrsDlError) -> None:
    text = str(exc)
    if "\n" in text or not text.strip():
        raise Fault(f"a message of {text.count(chr(10)) + 1} lines: {text[:300]!r}") from exc


def _read_basis(path: Path) -> None:
    basis = Basis.load(path)
    basis.check_match(AXES.spec_freq_mhz, "1H")
    fids = basis.resampled(AXES.dwelltime, AXES.n_points)
    if not np.isfinite(fids).all() or fids.shape != (basis.n_metabs, AXES.n_points):
        raise Fault(f"a basis set of shape {fids.shape} that is not finite")


def _read_prior(path: Path) -> None:
    prior = priors.load(path, NAMES)
    if len(prior.numbers) != len(NAMES) or not np.isfinite(prior.mean).all():
        raise Fault(f"a prior with the means {prior.mean}")


def _command(words: list[str], absent: Path | None = None) -> None:
    """Run a command in this process; its refusal becomes an error of the package."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main(words)
        except SystemExit as exc:
            status = exc.code
    text = error.getvalue()
    if status not in (0, 2):
        raise Fault(f"status {status}: {text[:300]}")
    if status == 2 and absent is not None and (absent.exists() or list(absent.parent.glob(f".{absent.name}*"))):
        raise Fault(f"a refusal that leaves {[entry.name for entry in absent.parent.iterdir()]}")
    if status == 2:
        last = text.rstrip("\n")
        if "\n" in last or not last:
            raise Fault(f"a refusal of {last.count(chr(10)) + 1} lines: {last[:300]}")
        raise FslMrsDlError(last)


_CONFIG = b"""# options of a fit
baseline = spline, moderate
lorentzian = true
combine = [Glu+Cr, Glu+NAA]
ppmlim = [0.2, 4.6]
internal_ref = Cr
TE = 30
export_baseline = true
no_rescale = false
metab_groups = NAA
"""


def targets(folder: Path) -> list[Target]:
    """Return all readers; ``folder`` is for the good files and stays."""
    images, basis = _nifti_files(folder), _basis()
    good = folder / "good.nii"
    good.write_bytes(images[1])
    basis.save(folder / "basis")
    volume = open_volume(good, folder)
    entries = {path.name: json.loads(path.read_bytes()) for path in (folder / "basis").iterdir()}
    mask = nibabel.Nifti1Image(np.ones(GRID, np.uint8), volume.about.affine).to_bytes()
    shipped = Path(files.__file__).parents[1] / "data" / "recipes"
    recipes = [json.loads(path.read_bytes()) for path in sorted(shipped.glob("*.json"))]
    drawn = [recipe for recipe in recipes if "augment" not in recipe]
    ranges = {"NAA": {"normal": [12, 1.5]}, "Glu": {"lognormal": [9, 0.3]}, "Cr": {"uniform": [5, 9]}, "GABA": 1.5}
    network = model_cards.find("align-universal")
    weights, card = (network / "model.safetensors").read_bytes(), json.loads((network / "card.json").read_bytes())

    def image(contents, name):
        def write(rng, where, change):
            content = rng.choice(contents)
            content, packed = mutations.of_nifti(content, rng) if change else content, rng.random() < 0.3
            path = where / (name + (".nii.gz" if packed else ".nii"))
            path.write_bytes(mutations.compressed(content, rng) if packed and change else content)
            return path if change else path.rename(where / f"{name}.nii")

        return write

    def of_json(contents, name):
        def write(rng, where, change):
            content = rng.choice(contents)
            text = mutations.of_json(content, rng) if change else mutations.json_bytes(content)
            (where / name).write_bytes(text)
            return where / name

        return write

    def of_lines(contents, name):
        def write(rng, where, change):
            content = rng.choice(contents)
            (where / name).write_bytes(mutations.of_lines(content, rng) if change else content)
            return where / name

        return write

    def json_basis(rng, where, change):
        bad = rng.sample(sorted(entries), rng.choice((1, 1, 2, 3))) if change else ()
        for name, content in entries.items():
            text = mutations.of_json(content, rng) if name in bad else mutations.json_bytes(content)
            (where / name).write_bytes(text)
        return where

    def model(rng, where, change):
        (where / "card.json").write_bytes(mutations.of_json(card, rng) if change else mutations.json_bytes(card))
        bad = change and rng.random() < 0.1
        (where / "model.safetensors").write_bytes(mutations.of_bytes(weights, rng) if bad else weights)
        return where

    def raw(rng, where, change):
        table, control = rng.choice(raw_files(basis))
        bad = rng.random() < 0.3
        (where / "svs.RAW").write_bytes(mutations.of_lines(table, rng) if change and not bad else table)
        if control:
            (where / "svs.control").write_bytes(mutations.of_lines(control, rng) if change and bad else control)
        return where / "svs.RAW"

    def read_recipe(path):
        simulate_spectra(basis, path, 2)

    def read_mask(path):
        with contextlib.redirect_stdout(io.StringIO()):
            load_mask(path, volume)

    def read_config(path):
        words = ["--data", str(folder / "0.nii"), "--basis", str(folder / "basis"), "--device", "cpu"]
        out = path.parent / "out"
        _command(["fit", *words, "--output", str(out), "--config", str(path)], out)

    def align(path):
        out = path.parent / "out"
        _command(["align", "--file", str(path), "--output", str(out), "--device", "cpu"], out)

    def fitted(command, path):
        out = path.parent / "out"
        words = ["--data", str(path), "--basis", str(folder / "basis"), "--output", str(out), "--device", "cpu"]
        _command([command, *words, "--spectral-model", "fsl-mrs", "--lorentzian", "--baseline", "off"], out)

    def fit(path):
        fitted("fit", path)

    def mrsi(path):
        fitted("mrsi", path)

    return [
        Target("data", image(images, "data"), _read_data, 30),
        Target("lcmodel", of_lines(lcmodel_files(basis), "set.basis"), _read_basis, 20),
        Target("raw", raw, _read_raw, 10),
        Target("json-basis", json_basis, _read_basis, 12),
        Target("mask", image([mask], "mask"), read_mask, 10),
        Target("recipe", of_json(drawn, "recipe.json"), read_recipe, 8),
        Target("prior", of_json([ranges, *recipes], "prior.json"), _read_prior, 8),
        Target("card", model, lambda path: _command(["models", "show", str(path)]), 3),
        Target("config", of_lines([_CONFIG], "options.txt"), read_config, 0.25),
        Target("align", image(images[2:3], "data"), align, 0.1),
        Target("fit", image(images[:1], "data"), fit, 0.1),
        Target("mrsi", image(images[1:2], "data"), mrsi, 0.05),
    ]


def raw_files(basis: Basis) -> list[tuple[bytes, bytes]]:
    """Return spectra in LCModel's RAW format, each with its control file, which is empty where none is needed."""
    numbers = np.stack([basis.fids[:2].real, basis.fids[:2].imag], -1).ravel()
    one, n = numbers[: 2 * basis.n_points], basis.n_points
    rows = ["".join(f"{value:15.6E}" for value in one[k : k + 2]) for k in range(0, len(one), 2)]
    touching = ["".join(f"{value:13.5E}" for value in numbers[k : k + 6]) for k in range(0, len(numbers), 6)]
    axes = f" $LCMODL\n NUNFIL = {n},\n DELTAT = {basis.dwelltime},\n HZPPPM = {basis.spec_freq_mhz},\n"
    axes += " FILRAW = 'svs.RAW',\n ECHOT = 30.,\n NDCOLS = 2, NDROWS = 1, NDSLIC = 1\n $END\n"
    bare = f" NUNFIL = {n}\n DELTAT = {basis.dwelltime}\n HZPPPM = {basis.spec_freq_mhz}\n"
    head = f" $SEQPAR ECHOT=30.0, HZPPPM={basis.spec_freq_mhz}, DELTAT={basis.dwelltime} $END\n"
    plain = " $NMID ID='a', FMTDAT='(2E15.6)', TRAMP=2.0, VOLUME=8.0 $END\n" + "\n".join(rows)
    several = "&NMID\n FMTDAT = '(6E13.5)'\n BRUKER = T\n TRAMP = 1.\n VOLUME = 1.\n/\n" + "\n".join(touching)
    return [(text.encode(), more.encode()) for text, more in ((head + plain, ""), (plain, bare), (several, axes))]


def lcmodel_files(basis: Basis) -> list[bytes]:
    """Return a basis set in LCModel's format as two programs write it."""
    contents = []
    for end, form, first in ((" $END\n", "(6E13.5)", " $"), ("/\n", "(2E15.6)", "&")):
        width, n = (13, 6) if "6E" in form else (15, 2)
        parts = [
            f"{first}SEQPAR\n FWHMBA = 0.01,\n HZPPPM = {basis.spec_freq_mhz},\n ECHOT = 30.0,\n SEQ = 'PRESS'{end}",
            f"{first}BASIS1\n IDBASI = 'small',\n FMTBAS = '{form}',\n BADELT = {basis.dwelltime},\n"
            f" NDATAB = {basis.n_points}{end}",
        ]
        for name, fid in zip(basis.names, basis.fids):
            spec = np.fft.fft(fid.conj())
            numbers = np.stack([spec.real, spec.imag], -1).ravel()
            rows = [numbers[start : start + n] for start in range(0, len(numbers), n)]
            table = "".join("".join(f"{number:{width}.5E}" for number in row) + "\n" for row in rows)
            head = f"{first}NMUSED\n XTRASH = 0.0{end}{first}BASIS\n ID = '{name}',\n METABO = '{name}',\n CONC = 1.,\n"
            parts.append(f"{head} TRAMP = 1.,\n VOLUME = 1.,\n ISHIFT = 0{end}{table}")
        contents.append("".join(parts).encode())
    return contents
