"""LCModel's table and spreadsheet: read back by a parser written from the description of the format."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fsl_mrs_dl.core.errors import OutputError
from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import output
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.results.lcmodel_table import lcmodel_csv, lcmodel_table, write_lcmodel_files
from fsl_mrs_dl.simulation.acquisition import simulate_basis, simulate_svs


@pytest.fixture(scope="module")
def basis():
    return simulate_basis(["NAA", "Cr", "PCr", "GPC", "PCh", "Glu", "Gln", "Ins"], te_ms=35.0, n_points=1024)


def fitted(basis, data) -> FitResults:
    options = FitOptions()
    result = fit_data(data, basis, options, conjugate=False)
    return FitResults.with_options(result.fit, result.data, options)


@pytest.fixture(scope="module")
def results(basis):
    return fitted(basis, simulate_svs(basis, transients=3, snr=60, seed=3).data)


def sections(text):
    """The lines of each section of a .table file, by its count."""
    lines, out = text.split("\n"), {}
    for index, line in enumerate(lines):
        match = re.match(r"\$\$(\w{4})\s*(\d+) lines in following ", line)
        if match:
            out[match[1]] = lines[index + 1 : index + 1 + int(match[2])]
            assert not any(line.startswith("$$") for line in out[match[1]])
    return out


def concentrations(rows):
    """By columns, as readers of LCModel's files cut them: 9, 5, 8, a sign, the name."""
    assert re.fullmatch(r"    Conc\.  %SD (/| +/)\S+ +Metabolite", rows[0])
    out = {}
    for row in rows[1:]:
        assert row[13] == "%" and row[22] in " +-"
        out[row[23:].strip()] = float(row[:9]), int(row[9:13]), float(row[14:22])
    return out


def test_table_holds_the_results(results, tmp_path):
    paths = write_lcmodel_files(tmp_path, results, "fit", title="svs.nii.gz")
    assert [path.name for path in paths] == ["fit_1.table", "fit_2.table", "fit_3.table", "fit.csv"]
    content = sections(paths[1].read_text(encoding="utf-8"))
    assert set(content) == {"CONC", "MISC", "DIAG", "INPU"}
    table = concentrations(content["CONC"])
    expected = {*results.fit.names, "Cr+PCr", "GPC+PCh", "Glu+Gln"}
    assert set(table) == expected and table["Cr+PCr"][2] == 1
    conc, sd = results.concentrations[0][1], results.percent[1]
    for index, name in enumerate(results.names):
        assert (
            table[name][0] == pytest.approx(conc[index], rel=0.01, abs=6e-4) and abs(table[name][1] - sd[index]) <= 0.5
        )
    assert table["GPC+PCh"][0] == pytest.approx(table["GPC"][0] + table["PCh"][0], rel=0.02)
    assert table["NAA"][2] == pytest.approx(table["NAA"][0] / table["Cr+PCr"][0], rel=0.02)
    width, snr, shift, phase = content["MISC"][0], content["MISC"][0], content["MISC"][1], content["MISC"][2]
    assert 0.005 < float(re.search(r"FWHM =\s*([\d.]+) ppm", width)[1]) < 0.2
    assert 5 < int(re.search(r"S/N =\s*(\d+)", snr)[1]) < 300
    assert re.fullmatch(r"  Data shift =\s*-?\d\.\d{3} ppm", shift)
    assert re.fullmatch(r"  Ph:\s*-?\d+ deg\s+-?\d+\.\d deg/ppm", phase)
    settings = dict(line.strip().split("=") for line in content["INPU"])
    assert float(settings["deltat"]) == pytest.approx(results.data.dwelltime) and settings["nunfil"] == "1024"


def test_spreadsheet_has_a_row_for_each_spectrum(results, tmp_path):
    text = write_lcmodel_files(tmp_path, results, "fit")[-1].read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    assert [(int(row["Row"]), int(row["Col"])) for row in rows] == [(1, 1), (2, 1), (3, 1)]
    assert text.startswith("Row, Col, ") and "NAA, NAA %SD, NAA/Cr+PCr" in text
    for row, conc in zip(rows, results.concentrations[0][:, results.names.index("NAA")]):
        assert float(row["NAA"]) == pytest.approx(conc, rel=0.01) and float(row["Cr+PCr/Cr+PCr"]) == 1
        assert 0 < int(row["NAA %SD"]) < 50


def test_places_of_a_grid_count_from_one(results):
    fids = np.moveaxis(results.data.fids, -1, 0).reshape(3, 1, 1, -1)
    grid = replace(results, data=replace(results.data, fids=fids, dim_tags=()))
    rows = [line.split(",")[:2] for line in lcmodel_csv(grid).splitlines()[1:]]
    assert [[int(cell) for cell in row] for row in rows] == [[1, 1], [1, 2], [1, 3]]


@pytest.mark.parametrize(
    "value, digits, text",
    [(0.0, 2, "   0.000"), (0.0692, 2, "6.92E-02"), (0.0951, 1, " 9.5E-02"), (0.107, 2, "   0.107")]
    + [(999.5, 2, " 999.500"), (1.28e9, 2, "1.28E+09"), (1.043, 1, "   1.043")],
)
def test_numbers_are_written_as_lcmodel_does(value, digits, text):
    from fsl_mrs_dl.results.lcmodel_table import _number

    assert _number(value, digits) == text


def test_shift_and_phases_correct_the_data_as_lcmodel_does(basis):
    """LCModel's FILCOR: FIDs, conjugate to ours, times the phase and moved by the shift; a fit then finds neither."""
    data = simulate_svs(basis, transients=1, snr=300, seed=5).data
    fids, time = data.fids[0, 0, 0].reshape(-1), np.arange(data.n_points) * data.dwelltime
    turned = fids * np.exp(2j * np.pi * 12.0 * time) * np.exp(-0.7j)
    results = fitted(basis, replace(data, fids=turned.reshape(1, 1, 1, -1).astype(np.complex64), dim_tags=()))
    text = "\n".join(sections(lcmodel_table(results))["MISC"])
    shift = float(re.search(r"shift =\s*(\S+) ppm", text)[1])
    phi0, phi1 = (float(value) for value in re.search(r"Ph:\s*(\S+) deg\s+(\S+) deg/ppm", text).groups())
    raw = turned.conj() * np.exp(1j * np.radians(phi0)) * np.exp(-2j * np.pi * data.spec_freq_mhz * shift * time)
    ppm = np.fft.fftfreq(data.n_points, data.dwelltime) / data.spec_freq_mhz
    corrected = np.fft.ifft(np.fft.fft(raw.conj()) * np.exp(-1j * np.radians(phi1) * ppm))
    again = fitted(basis, replace(data, fids=corrected.reshape(1, 1, 1, -1).astype(np.complex64), dim_tags=()))
    assert abs(shift) > 0.02 and abs(again.fit.block("eps")[0, 0]) / (2 * np.pi) < 0.3
    assert abs(phi0) > 20 and abs(again.fit.block("phi0")[0, 0]) < 0.05
    assert abs(again.fit.block("phi1")[0, 0]) < 0.2 * abs(results.fit.block("phi1")[0, 0]) + 1e-5


def test_concentrations_in_mm_where_there_are_any(results):
    absolute = SimpleNamespace(molarity=8.0 * results.concentrations[0], names=results.names)
    scaled = replace(results, absolute=absolute)
    plain, mm = (concentrations(sections(lcmodel_table(each))["CONC"]) for each in (results, scaled))
    assert mm["NAA"][0] == pytest.approx(8 * plain["NAA"][0], rel=0.01) and mm["NAA"][1:] == plain["NAA"][1:]


def test_what_has_no_mm_is_on_the_scale_of_the_others(results):
    """Macromolecules and lipids stood as zero beside a ratio."""
    molarity = 8.0 * results.concentrations[0]
    molarity[:, results.names.index("Ins")] = np.nan
    scaled = replace(results, absolute=SimpleNamespace(molarity=molarity, names=results.names))
    table = concentrations(sections(lcmodel_table(scaled))["CONC"])
    assert table["Ins"][0] > 0 and table["Ins"][0] == pytest.approx(table["Ins"][2] * table["Cr+PCr"][0], rel=0.01)


def test_ratios_to_a_reference_of_zero_have_no_value(results):
    """Numbers of hundreds of digits would be an overflow to those who read the table."""
    fit = replace(results.fit, params=results.fit.params.copy())
    fit.params[1, [fit.names.index(name) for name in ("Cr", "PCr")]] = 0
    other = replace(results, fit=fit)
    with np.errstate(divide="raise", invalid="raise"):
        values = concentrations(sections(lcmodel_table(other, 1))["CONC"])
        assert "E+308" not in lcmodel_csv(other)
    assert values["NAA"][0] > 0 and all(ratio == 0 for _, _, ratio in values.values())
    assert concentrations(sections(lcmodel_table(other, 0))["CONC"])["NAA"][2] > 0


def test_a_fit_that_is_not_usable_is_named(results):
    assert sections(lcmodel_table(results))["DIAG"] == []
    failed = replace(results, fit=replace(results.fit, converged=np.zeros(3, bool)))
    assert "ERROR" in sections(lcmodel_table(failed))["DIAG"][0]


def test_folders_with_these_files_may_be_replaced(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("summary.csv", "fit_1.table", "fit.csv"):
        (folder / name).touch()
    assert output.new_output_folder(folder, overwrite=True) == folder
    (folder / "mine.csv").touch()
    with pytest.raises(OutputError, match="mine.csv"):
        output.new_output_folder(folder, overwrite=True)
