"""One session from raw data to a folder: the steps that are needed, and the concentrations that went in."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.concentrations.scaling import WaterScaling
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.fitting.data import check_suppressed
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import convert, nifti
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.physics.macromolecules import line_fids
from fsl_mrs_dl.preproc.foreign_regions import ForeignRegion
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo
from fsl_mrs_dl.workflow import runner
from fsl_mrs_dl.workflow import session as session_module
from fsl_mrs_dl.workflow.basis_of_header import acquisition_of, basis_of_header
from fsl_mrs_dl.workflow.processing import ProcessingOptions, process
from fsl_mrs_dl.workflow.report import _steps as steps_table
from fsl_mrs_dl.workflow.session import RunOptions, Session, UsualFit, run_session, with_usual_sums
from fsl_mrs_dl.workflow.steps import Step

pytestmark = pytest.mark.usefixtures("one_thread")

HEADER = {
    "ResonantNucleus": ["1H"],
    "EchoTime": 0.035,
    "RepetitionTime": 2.0,
    "SequenceName": "*svs_se",
    "Manufacturer": "SIEMENS",
}
COILS, TRANSIENTS = 4, 24


@pytest.fixture(scope="module")
def made(sim_basis):
    """A spectrum of known concentrations, and its water."""
    return simulate_in_vivo(sim_basis, sim_basis.axes, 1, snr=(200, 200), seed=4)


def raw(fid, axes, *, n=TRANSIENTS, drift=6.0, sd=0.0, water=0.0, seed=0):
    """Transients of several coils that drift: ``(1, 1, 1, n_points, coils, n)``."""
    rng = np.random.default_rng(seed)
    shift, phase = np.linspace(-drift, drift, n) / 2, np.linspace(-3 * drift, 3 * drift, n)
    residual = water * np.abs(fid[0]) * np.exp((2j * np.pi * 2.0 - 30) * axes.dwelltime * np.arange(axes.n_points))
    transients = apply_shift_phase(np.broadcast_to(fid + residual, (n, len(fid))), -shift, -phase, axes.dwelltime)
    gains = np.exp(1j * np.arange(COILS)) * np.array([1.0, 0.8, 0.5, 0.2])
    fids = gains[:, None, None] * transients
    fids = fids + sd * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    header = HEADER | {"SpectrometerFrequency": [axes.spec_freq_mhz], "dim_5": "DIM_COIL", "dim_6": "DIM_DYN"}
    return MrsData(
        np.moveaxis(fids, -1, 0)[None, None, None].astype(np.complex64),
        axes.dwelltime,
        axes.spec_freq_mhz,
        "1H",
        ("DIM_COIL", "DIM_DYN"),
        header,
        np.diag([20.0, 20, 20, 1]),
    )


@pytest.fixture(scope="module")
def files(made, sim_basis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    axes, fid, sd = made.axes, made.fids[0], 0.3 * np.abs(made.fids[0, 0]) / 200
    nifti.save(folder / "metab.nii.gz", raw(fid, axes, sd=sd, water=3.0))
    nifti.save(folder / "water.nii.gz", raw(made.water[0], axes, n=4, drift=0.5, sd=sd, seed=1))
    sim_basis.save(folder / "basis")
    return folder


def test_every_step_is_done_and_said_why(files, tmp_path, capsys):
    words = ["--h2o", files / "water.nii.gz", "--basis", files / "basis", "--internal_ref", "Cr"]
    command = ["run", "--data", files / "metab.nii.gz", *words, "--output", tmp_path / "out"]
    assert main([str(word) for word in command]) == 0
    out = capsys.readouterr().out
    assert "coil combination: 4 coils, sensitivities from the water reference" in out
    assert "24 transients, 0 of them left out" in out
    assert "removed by HLSVD" in out
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    steps = {step["name"]: step for step in record["steps"]}
    assert all(steps[name]["done"] for name in ("coil combination", "alignment and averaging", "residual water"))
    assert steps["alignment and averaging"]["figures"]["coherence_after"] > 0.99
    assert record["quality"]["transients"] == 24 and record["quality"]["fwhm_hz"] > 1
    assert record["sequence"] == "press" and record["te_ms"] == 35 and record["vendor"] == "SIEMENS"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sensitivities from the water reference" in page and "report_dl_align.html" in page
    steps = nifti.load(tmp_path / "out" / "processed.nii.gz").header["ProcessingApplied"]
    assert [step["Method"] for step in steps] == [
        "RF coil combination",
        "Frequency and phase correction",
        "Nuisance peak removal",
        "Frequency and phase correction",
    ]
    # A second command needs --overwrite, and replaces the folder then.
    assert main([str(word) for word in command]) == 2
    assert main([str(word) for word in [*command, "--overwrite", "--no-report"]]) == 0
    assert not (tmp_path / "out" / "report.html").exists()


def test_raw_data_give_the_concentrations_of_the_spectrum_itself(files, made, sim_basis, tmp_path):
    fit = UsualFit()
    ratios = []
    single = replace(raw(made.fids[0], made.axes, n=1), dim_tags=("DIM_COIL", "DIM_DYN"))
    nifti.save(tmp_path / "single.nii.gz", replace(single, fids=single.fids[..., :1, :]))
    for name, data in (("raw", files / "metab.nii.gz"), ("single", tmp_path / "single.nii.gz")):
        (tmp_path / name).mkdir()
        session = Session(name, data, basis=files / "basis")
        run_session(session, RunOptions(fit=fit, report=False), tmp_path / name)
        table = pd.read_csv(tmp_path / name / "uncertainty.csv").set_index("Metab")
        ratios.append(table["conc"] / table["conc"]["NAA"])
    sd = table["in_vivo_sd"] / table["conc"]["NAA"]
    names = ["Cr", "GPC", "Glu", "Ins"]
    assert (np.abs(ratios[0] - ratios[1])[names] < 1.5 * sd[names] + 0.02).all()


def test_coils_without_water_and_transients_without_coils(made):
    axes, fid = made.axes, made.fids[0]
    sd = 0.05 * np.abs(fid[0])
    data = raw(fid, axes, sd=sd)
    by_itself = process(data)
    assert [step.done for step in by_itself.steps[:2]] == [True, True] and by_itself.data.dim_tags == ()
    combined = process(replace(data, fids=data.fids[..., 0, :], dim_tags=("DIM_DYN",), header={}))
    first = by_itself.steps[0].figures["snr_over_best_coil"]
    assert first == pytest.approx(np.sqrt(1 + 0.64 + 0.25 + 0.04), rel=0.05)
    assert combined.steps[0].reason == "coils are combined already" and combined.transients == TRANSIENTS


def test_a_plain_mean_is_written_where_alignment_is_switched_off(made):
    data = raw(made.fids[0], made.axes, drift=0)
    data = replace(data, fids=data.fids[..., 0, :], dim_tags=("DIM_DYN",), header={})
    data.fids[..., 3] = np.nan
    out = process(data, options=ProcessingOptions(align=False, remove_water=False, reference=False))
    assert np.allclose(out.data.fids[0, 0, 0], data.fids[0, 0, 0, :, 0], atol=1e-4 * np.abs(data.fids[..., 0]).max())


def test_the_report_tells_steps_that_were_not_done_from_those_not_needed():
    """A step that was switched off was 'not needed' there, and not done in methods.md."""
    steps = [
        Step("alignment", True, "24 transients"),
        Step("coil combination", False, "coils are combined already"),
        Step("residual water", False, "switched off"),
    ]
    rows = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td>", steps_table(steps, []))
    assert rows == [("alignment", "done"), ("coil combination", "not needed"), ("residual water", "not done")]


def test_the_step_of_a_fit_says_that_it_did_not_converge():
    def fitted(*converged):
        return SimpleNamespace(fit=SimpleNamespace(fitted=np.ones(len(converged), bool), converged=np.array(converged)))

    assert session_module._not_converged(fitted(True)) == ""
    assert session_module._not_converged(fitted(False)) == "; it did NOT converge"
    assert session_module._not_converged(fitted(True, False, False)) == "; 2 of 3 fits did NOT converge"


@pytest.mark.parametrize(
    "low, high, window, expected",
    [
        (3.52, 3.9, (0.2, 4.2), "(`ppmlim` 0.2 3.5)"),
        (2.4, 2.8, (0.2, 4.2), "no window (`ppmlim`) leaves it out"),
        (3.52, 3.9, (0.2, 3.5), None),
    ],
)
def test_the_window_that_leaves_out_what_the_alignment_did_is_named(low, high, window, expected):
    """The remedy was `ppmlim` without limits, also where none helps, and where the window was narrow already."""
    aligned = SimpleNamespace(left_out={0: (ForeignRegion(low, high, 0.24),), 1: (ForeignRegion(low, high, 0.24),)})
    echoes, notes = session_module._foreign_signal(SimpleNamespace(aligned=aligned), window)
    if expected is None:
        assert echoes == notes == []
    else:
        assert len(echoes) == len(notes) == 1 and expected in notes[0]
        assert (echoes[0].window is None) == ("no window" in expected)


def test_all_that_absolute_concentrations_lack_is_one_line(monkeypatch):
    """`run` named the remedy for TE in one line, and that for TR in another one."""
    lacking = WaterScaling().missing(["Cr", "PCr"], Axes(512, 5e-4, 123.2))
    remedy = "the echo time and repetition time are in no header, and relaxation cannot be corrected; give"
    assert lacking == [f"No absolute concentrations: {remedy} `TE` in ms and `TR` in s."]
    results = SimpleNamespace(sums=(), estimate="in-vivo")
    monkeypatch.setattr(session_module.FitResults, "of_data", lambda *_: results)
    monkeypatch.setattr(session_module, "absolute_of_file", lambda *_, **__: (None, lacking))
    _, step, notes = session_module._quantified(None, SimpleNamespace(water=1, quant=None), WaterScaling(), None)
    assert str(step) == f"absolute concentrations: none, {remedy} --TE in ms and --TR in s" and notes == []


def test_water_whose_size_cannot_be_compared_is_refused(made):
    data = raw(made.fids[0], made.axes)
    one_coil = replace(data, fids=data.fids[..., 0, :], dim_tags=("DIM_DYN",), header={}, path="water.nii.gz")
    with pytest.raises(DataError, match="coils were not combined"):
        process(data, one_coil)
    with pytest.raises(DataError, match="water.nii.gz: has 4 coils"):
        process(replace(one_coil, path="metab.nii.gz"), replace(data, path="water.nii.gz"))


@pytest.mark.parametrize(
    "header, sequence",
    [
        ({"SequenceName": "*svs_se"}, "press"),
        ({"SequenceName": "svs_st"}, "steam"),
        ({"SequenceName": "svs_ed"}, "mega-press"),
        ({"ProtocolName": "STEAM_metab"}, "steam"),
        ({"PulseSequenceFile": {"Value": "%CustomerSeq%\\svs_slaser_dkd", "Description": ""}}, "slaser"),
        ({"ProtocolName": "MEGA_PRESS_WIP"}, "mega-press"),
        ({"SequenceName": "PROBE-P"}, "press"),
        ({"ProtocolName": "localizer"}, None),
    ],
)
def test_the_sequence_is_read_from_names_of_vendors(header, sequence):
    data = MrsData(np.zeros((1, 1, 1, 1024), complex), 5e-4, 123.2, "1H", header=header)
    assert acquisition_of(data).sequence == sequence


def test_a_basis_set_is_simulated_for_the_header_or_it_is_said_what_is_missing(made):
    data = replace(raw(made.fids[0], made.axes), header=HEADER)
    basis, what = basis_of_header(data)
    assert "slice-selective refocusing pulses" in what
    assert ", with an assumed TE1 of 14 ms (fsl_mrs_dl simulate basis --TE1 makes another)" in what
    short = basis_of_header(replace(data, header={**HEADER, "EchoTime": 0.02}))[1]
    assert "assumed TE1 of 10 ms" in short and "assumed" not in basis_of_header(data, sequence="slaser")[1]
    assert basis.n_metabs == 20 and "press, TE 35 ms" in what and basis.dwelltime == pytest.approx(data.dwelltime)
    for missing, words in (("SequenceName", "does not name the sequence"), ("EchoTime", "no EchoTime")):
        with pytest.raises(OptionError, match=words):
            basis_of_header(replace(data, header={k: v for k, v in HEADER.items() if k != missing}))
    with pytest.raises(OptionError, match="MixingTime"):
        basis_of_header(data, sequence="steam")
    with pytest.raises(OptionError, match="31P"):
        basis_of_header(replace(data, nucleus="31P"))


@pytest.mark.parametrize(
    "given, source",
    [
        ({}, "ideal pulses (from the header's SequenceName svs_st)"),
        ({"tm_ms": 10.2}, "ideal pulses (from the header's SequenceName svs_st)"),
        ({"sequence": "steam", "tm_ms": 30.0}, "(as given; TM as given, where the header's MixingTime is 10 ms)"),
        ({"sequence": "press"}, "pulses (as given, where the header's SequenceName svs_st names steam)"),
    ],
)
def test_what_is_given_beside_another_sequence_of_the_header_is_named(made, monkeypatch, given, source):
    monkeypatch.setattr("fsl_mrs_dl.workflow.basis_of_header.simulate_basis", lambda **_: None)
    header = HEADER | {"SequenceName": "svs_st", "MixingTime": 0.01}
    _, what = basis_of_header(replace(raw(made.fids[0], made.axes), header=header), **given)
    assert source in what and what.endswith(source) is (given.get("sequence") != "press")


@pytest.mark.parametrize("job", ["run", "study"])
@pytest.mark.parametrize("option, value", [("--sequence", "steam"), ("--TM", "10")])
def test_options_of_a_simulated_basis_set_beside_one_that_is_given_are_refused(
    files, tmp_path, capsys, job, option, value
):
    """They were ignored."""
    (tmp_path / "study.csv").write_text(f"data\n{files / 'metab.nii.gz'}\n")
    place = [tmp_path / "study.csv", tmp_path / "out", "participant"]
    place = ["--data", files / "metab.nii.gz", "--output", tmp_path / "out"] if job == "run" else place
    assert main([str(word) for word in [job, *place, "--basis", files / "basis", option, value]]) == 2
    assert f"{option} {value}" in (error := capsys.readouterr().err) and "--basis is given" in error
    assert not (tmp_path / "out").exists()


def test_quality_is_that_of_a_metabolite_and_times_may_come_from_a_sidecar(files, made, sim_basis, tmp_path):
    """Lines of 20 Hz are wide, also where macromolecules are the largest signal; a header may lack the echo time."""
    decay = np.exp(-60 * sim_basis.axes.time())
    header = {key: value for key, value in HEADER.items() if key != "EchoTime"}
    header |= {"SpectrometerFrequency": [sim_basis.spec_freq_mhz]}
    data = MrsData(
        (made.fids[0] * decay)[None, None, None], sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", (), header
    )
    nifti.save(tmp_path / "broad.nii", data)
    (tmp_path / "out").mkdir()
    session = Session("broad", tmp_path / "broad.nii", basis=files / "basis", header={"EchoTime": 0.035, "x": 1})
    record = run_session(session, RunOptions(report=False), tmp_path / "out").record
    assert record["quality"]["fwhm_ppm"] > 0.1 and record["te_ms"] == 35
    assert any("no EchoTime" in warning and "sidecar" in warning for warning in record["warnings"])
    # Times that are used are those that are given.
    own = UsualFit(options=FitOptions(spectral_model="in-vivo", echo_time_s=0.03, repetition_time_s=1.5))
    (tmp_path / "other").mkdir()
    record = run_session(session, RunOptions(fit=own, report=False), tmp_path / "other").record
    assert record["te_ms"] == 30 and record["tr_s"] == 1.5


def test_concentrations_are_absolute_where_the_times_are_known(files, tmp_path, capsys):
    words = ["--h2o", files / "water.nii.gz", "--basis", files / "basis", "--tissue_frac", "0.3", "0.6", "0.1"]
    command = ["run", "--data", files / "metab.nii.gz", *words, "--output", tmp_path / "out", "--no-report"]
    assert main([str(word) for word in command]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["units"] == "molarity" and record["steps"][-1]["done"]
    table = pd.read_csv(tmp_path / "out" / "uncertainty.csv").set_index("Metab")
    # Tables of fit have the same digits for the processed files.
    fitted = ["fit", "--data", tmp_path / "out" / "processed.nii.gz", "--output", tmp_path / "fit", *words]
    fitted[fitted.index("--h2o") + 1] = tmp_path / "out" / "water.nii.gz"
    assert main([str(word) for word in fitted]) == 0
    again = pd.read_csv(tmp_path / "fit" / "uncertainty.csv").set_index("Metab")
    assert np.allclose(again["molarity"], table["molarity"][again.index], rtol=1e-4, equal_nan=True)
    assert "Glu+Gln" in table.index
    capsys.readouterr()
    header = {key: value for key, value in nifti.load(files / "metab.nii.gz").header.items() if key != "RepetitionTime"}
    for name in ("metab", "water"):
        data = nifti.load(files / f"{name}.nii.gz")
        nifti.save(tmp_path / f"{name}.nii.gz", replace(data, header=header))
    command[2], command[4], command[-2] = tmp_path / "metab.nii.gz", tmp_path / "water.nii.gz", tmp_path / "no_tr"
    assert main([str(word) for word in command]) == 0
    assert "repetition time is in no header" in capsys.readouterr().out
    assert json.loads((tmp_path / "no_tr" / "run.json").read_text())["units"] == "ratio"  # to Cr alone, without PCr


def test_a_scanners_files_become_a_table(invivo_3t, invivo_basis_path, testdata, tmp_path):
    """Human brain, Philips SDAT; a fit whose residual is twice the noise takes many steps, and converges."""
    source = testdata / "invivo_3t_press_philips" / "PRESS_raw"
    words = ["--h2o", f"{source}-ref.SDAT", "--basis", invivo_basis_path, "--output", tmp_path / "out", "--no-report"]
    words.append("--lcmodel-table")
    assert main([str(word) for word in ["run", "--data", f"{source}-act.SDAT", *words]]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["quality"]["converged"] and record["versions"]["spec2nii"]
    table = pd.read_csv(tmp_path / "out" / "uncertainty.csv").set_index("Metab")
    # As in a voxel of water alone, which makes them a quarter larger than in one of tissue.
    assert 7 < table["molarity"]["Cr+PCr"] < 12 and 8 < table["molarity"]["NAA"] < 14
    assert "$$CONC" in (tmp_path / "out" / "fit.table").read_text() and invivo_3t.exists()


def test_water_that_is_suppressed_makes_impossible_concentrations_which_are_named(files, tmp_path, capsys):
    water = nifti.load(files / "water.nii.gz")
    nifti.save(tmp_path / "weak.nii.gz", replace(water, fids=water.fids / 1000))
    words = ["--h2o", tmp_path / "weak.nii.gz", "--basis", files / "basis", "--no-report", "--output", tmp_path / "out"]
    assert main([str(word) for word in ["run", "--data", files / "metab.nii.gz", *words]]) == 0
    out = capsys.readouterr().out
    assert "Absolute concentrations are impossible" in out and "(--h2o)" in out
    assert "in no SD (--tissue_frac)" in out and "`" not in out
    lines = [line for line in out.splitlines() if line.endswith(".")]
    assert len(lines) == len(set(lines)), "nothing is said twice"
    assert "24 transients, 0 left out." in out, out[out.index("Verdict") :]


def test_an_image_that_cannot_be_read_is_refused_before_any_work(files, tmp_path, capsys):
    (tmp_path / "t1.nii.gz").write_bytes(b"no image")
    for command in ("run", "fit"):
        for image, message in (
            (tmp_path / "t1.nii.gz", "cannot be read as an image"),
            (files / "water.nii.gz", "holds spectra, not an image"),
        ):
            words = [command, "--data", files / "metab.nii.gz", "--t1", image, "--basis", files / "basis"]
            assert main([str(word) for word in [*words, "--output", tmp_path / "out"]]) == 2
            captured = capsys.readouterr()
            assert message in captured.err and "leave --t1 out" in captured.err and "fit:" not in captured.out
            assert not (tmp_path / "out").exists()


def test_an_image_of_another_place_is_refused_before_any_work(files, tmp_path, capsys):
    """It was told after the fit, when the picture was drawn."""
    away = np.diag([1, 1, 1, 1.0])
    away[:3, 3] = 500
    nibabel.Nifti1Image(np.ones((20, 20, 20), np.float32), away).to_filename(tmp_path / "far.nii.gz")
    for command in ("run", "fit"):
        words = [command, "--data", files / "metab.nii.gz", "--t1", tmp_path / "far.nii.gz", "--basis", files / "basis"]
        assert main([str(word) for word in [*words, "--output", tmp_path / "out"]]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and "far.nii.gz: does not cover the voxel" in captured.err
        assert "leave --t1 out" in captured.err and not captured.out and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "names, sums",
    [
        (("NAA", "NAAG", "PCho", "GPC", "Glu"), ("NAA+NAAG", "GPC+PCho")),
        (("Cr", "Glu", "Gln"), ("Glu+Gln",)),
        (("Cr",), ()),
    ],
)
def test_usual_sums_are_reported_by_the_names_of_the_basis_set(names, sums):
    assert with_usual_sums(FitOptions(), names).combine == sums
    assert with_usual_sums(FitOptions(combine=("Cr+Glu",)), names).combine == ("Cr+Glu",)


@pytest.mark.parametrize("command", ["run", "study"])
def test_macromolecules_that_cannot_be_used_are_refused_before_any_work(files, tmp_path, capsys, monkeypatch, command):
    """They were refused when a basis set had been simulated, which takes minutes."""

    def simulated(*given, **named):
        raise AssertionError("a basis set was simulated")

    monkeypatch.setattr(session_module, "basis_of_header", simulated)
    monkeypatch.setattr(runner, "basis_of_header", simulated)
    table = tmp_path / "table.csv"
    table.write_text(f"data\n{files / 'metab.nii.gz'}\n", encoding="utf-8")
    data = ["--data", files / "metab.nii.gz", "--output"] if command == "run" else [table]
    levels = ["participant"] if command == "study" else []
    # Of many coils and transients: no one spectrum.
    words = [command, *data, tmp_path / "out", *levels, "--mm", files / "metab.nii.gz", "--no-report"]
    assert main([str(word) for word in words]) == 2
    assert "holds 96 spectra, one usable one is needed" in capsys.readouterr().err


def test_macromolecules_of_another_field_are_refused_before_any_work(files, made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(session_module, "basis_of_header", lambda *_, **__: pytest.fail("it was simulated"))
    header = HEADER | {"SpectrometerFrequency": [297.2]}
    line = line_fids([0.9], [30.0], replace(made.axes, spec_freq_mhz=297.2))[None, None].astype(np.complex64)
    nifti.save(tmp_path / "mm.nii.gz", MrsData(line, made.axes.dwelltime, 297.2, "1H", (), header))
    words = ["run", "--data", files / "metab.nii.gz", "--mm", tmp_path / "mm.nii.gz", "--output", tmp_path / "out"]
    assert main([str(word) for word in words]) == 2
    assert "of 1H at 297.2 MHz" in capsys.readouterr().err


def test_edited_data_are_refused_before_any_work(files, made, tmp_path, capsys):
    data = raw(made.fids[0], made.axes, n=4)
    header = {**data.header, "dim_5": "DIM_EDIT"}
    nifti.save(tmp_path / "edited.nii.gz", replace(data, dim_tags=("DIM_EDIT", "DIM_DYN"), header=header))
    words = ["--data", tmp_path / "edited.nii.gz", "--basis", files / "basis", "--output", tmp_path / "out"]
    assert main([str(word) for word in ["run", *words]]) == 2
    captured = capsys.readouterr()
    assert "is edited" in captured.err and "alignment" not in captured.out


@pytest.mark.parametrize("command", ["run", "fit", "mrsi"])
def test_water_in_place_of_metabolites_is_refused_in_one_line(files, tmp_path, capsys, command):
    """A water reference given as data was fitted, and a table of concentrations came of it."""
    water = nifti.load(files / "water.nii.gz")
    if command != "run":
        water = replace(water, fids=water.fids.mean((4, 5)), dim_tags=())
    nifti.save(tmp_path / "x.nii.gz", water)
    words = [command, "--data", tmp_path / "x.nii.gz", "--basis", files / "basis", "--output", tmp_path / "out"]
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "x.nii.gz: its water is not suppressed" in error
    assert "as --data, and water as --h2o" in error and not (tmp_path / "out").exists()


def test_strong_residual_water_is_not_refused(made, sim_basis):
    """Of a few times all metabolites together: tens of times the highest of their lines."""
    time = np.arange(made.axes.n_points) * made.axes.dwelltime
    residual = 3 * np.abs(made.fids[:1, :1]) * np.exp((2j * np.pi * 3 - 15) * time)
    for fids in (made.fids[:1] + residual, (made.fids[:1] + residual).conj()):
        check_suppressed(fids, made.axes, "x")
    with pytest.raises(DataError, match="not suppressed"):
        check_suppressed(made.fids[:1] + 30 * residual, made.axes, "x")


def test_keys_that_the_water_lacks_are_those_of_its_own_sidecar(tmp_path, monkeypatch):
    header = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"]}
    data = MrsData(np.ones((1, 1, 1, 64), np.complex64), 5e-4, 123.2, "1H", (), header, np.diag([20.0, 20, 20, 1]))
    for name in ("metab", "water", "quant"):
        nifti.save(tmp_path / f"{name}.nii.gz", data)
    seen = []

    def processed(data, water, options, *, quant):
        seen.extend((data, water, quant))
        raise DataError("enough")

    monkeypatch.setattr(session_module, "process", processed)
    monkeypatch.setattr(session_module, "check_suppressed", lambda *_: None)
    monkeypatch.setattr(session_module, "check_reference", lambda *_, **__: None)
    files = [tmp_path / f"{name}.nii.gz" for name in ("metab", "water", "quant")]
    times, of_water = {"EchoTime": 0.03, "RepetitionTime": 2.0}, {"RepetitionTime": 10.0}
    session = Session("a", *files, header={**times, "SequenceName": "press"}, water_header=of_water)
    with pytest.raises(DataError, match="enough"):
        run_session(session, RunOptions(), tmp_path / "out")
    assert [(one.header["EchoTime"], one.header["RepetitionTime"]) for one in seen] == [
        (0.03, 2),
        (0.03, 10),
        (0.03, 2),
    ]


def test_each_water_reference_of_a_scanners_file_is_put_to_its_use(tmp_path, monkeypatch):
    """The first by name was taken for everything; a file of spectra and water, given as water, gave its spectra."""
    header = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"]}

    def of(value, name):
        fids = np.full((1, 1, 1, 64), value, np.complex64)
        return MrsData(fids, 5e-4, 123.2, "1H", (), header, np.diag([20.0, 20, 20, 1]), path=tmp_path / name)

    scanners = {
        "both.7": convert.Conversion(of(1, "both.7"), of(2, "both.7"), of(3, "both.7")),
        "other.7": convert.Conversion(of(4, "other.7"), of(5, "other.7"), of(6, "other.7")),
        "plain.7": convert.Conversion(of(7, "plain.7")),
    }
    seen = []

    def processed(data, water, options, *, quant):
        seen.append([None if one is None else int(one.fids.flat[0].real) for one in (data, water, quant)])
        raise DataError("enough")

    for module in (convert, session_module):
        monkeypatch.setattr(module, "load_with_record", lambda path, options=None: scanners[path.name])
    monkeypatch.setattr(session_module, "process", processed)
    monkeypatch.setattr(session_module, "check_suppressed", lambda *_: None)
    monkeypatch.setattr(session_module, "check_reference", lambda *_, **__: None)
    both, other, plain = (tmp_path / name for name in scanners)
    for files in (
        (both,),
        (both, other),
        (both, plain),
        (plain, both, other),
        (plain, None, both),
        (both, None, plain),
    ):
        session = Session("a", *files, header={"EchoTime": 0.03, "RepetitionTime": 2.0, "SequenceName": "press"})
        with pytest.raises(DataError, match="enough"):
            run_session(session, RunOptions(), tmp_path / "out")
    assert seen == [[1, 2, 3], [1, 5, 6], [1, 7, None], [7, 2, 6], [7, None, 3], [1, 2, 7]]
    loaded = session_module._loaded(Session("a", both, other), scanners["both.7"], RunOptions())
    assert f"{both}: its own water is not used, since another file is given." in loaded[3]
