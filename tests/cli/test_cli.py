"""The installed command: the jobs end to end, and bad input that gets one line and loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl import __version__, quantify
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.io import Basis, EditedBasis, nifti

EXAMPLE = Path(__file__).parents[2] / "fsl_mrs_dl" / "data" / "example"


@pytest.fixture(scope="module")
def example_run(tmp_path_factory):
    """The bundled example, aligned and fitted."""
    out = tmp_path_factory.mktemp("example") / "results"
    assert main(["example", "--output", str(out)]) == 0
    return out


@pytest.fixture
def fit_words(tmp_path):
    """Words of a fit of the bundled transients into a new folder."""
    return [
        "fit",
        "--data",
        str(EXAMPLE / "svs.nii.gz"),
        "--basis",
        str(EXAMPLE / "basis"),
        "--output",
        str(tmp_path / "out"),
    ]


def fails(words: list[str], capsys, *expected: str) -> str:
    """The command ends with status 2 and one line that holds the expected words and no traceback."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    for word in expected:
        assert word in error, error
    return error


def test_example_finds_the_truth(example_run):
    truth = json.loads((EXAMPLE / "truth.json").read_text())
    table = pd.read_csv(example_run / "aligned" / "dl_align.csv")
    for name in ("shift_hz", "phase_deg"):
        error = table[name] - truth[name]
        # Without an external reference the common offset is arbitrary.
        error = (error - error.mean()) / table[name.replace("_hz", "_sd_hz").replace("_deg", "_sd_deg")]
        # 64 errors tell an SD to 9 %.  With a reference built from the transients the stated SDs err on the wide side.
        assert 0.65 < error.std() < 1.2
    fit = pd.read_csv(example_run / "fit" / "uncertainty.csv").set_index("Metab")
    total = truth["concentrations"]["Cr"] + truth["concentrations"]["PCr"]
    z = [(fit.loc[m, "ratio"] - c / total) / fit.loc[m, "ratio_sd"] for m, c in truth["concentrations"].items()]
    assert np.abs(z).max() < 3.5 and 0.5 < np.sqrt(np.mean(np.square(z))) < 1.5
    assert fit["converged"].all() and 0.8 < fit["misfit"].iloc[0] < 1.25


def test_example_writes_what_fsl_mrs_writes(example_run):
    names = {path.name for path in (example_run / "fit").iterdir()}
    wanted = (
        "summary.csv concentrations.csv qc.csv all_parameters.csv fit.nii.gz fit_summary.png options.txt"
        " mrsinmrs.csv methods.md references.bib"
        " uncertainty.csv"
    )
    assert set(wanted.split()) | {"report.html", "basis", "data.nii.gz", "fit_baseline.nii.gz", "misc"} == names
    summary = pd.read_csv(example_run / "fit" / "summary.csv")
    assert list(summary.columns) == [
        *["Metab", "/Cr+PCr", "/Cr+PCr CRLB", "%CRLB", "SNR", "FWHM"],
        *["CRLB is", "misfit", "usable", "verdict", "reasons"],
    ]
    concentrations = pd.read_csv(example_run / "fit" / "concentrations.csv", header=[0, 1])
    assert [c for c in concentrations.columns][1:] == [
        ("mean", "raw"),
        ("mean", "internal"),
        ("std", "raw"),
        ("std", "internal"),
    ]
    first = (example_run / "fit" / "options.txt").read_text().split("\n--------\n")[0]
    assert json.loads(first)["average"] == ["DIM_DYN"]
    assert (example_run / "fit" / "fit_summary.png").read_bytes()[:4] == b"\x89PNG"
    methods = (example_run / "fit" / "methods.md").read_text(encoding="utf-8")
    assert "average of 64 transients" in methods and "frequency and phase correction (FSL-MRS-DL" in methods
    assert "For a publication" in (example_run / "fit" / "report.html").read_text(encoding="utf-8")


def test_fit_file_lies_over_the_data(example_run):
    data = nifti.load(example_run / "aligned" / "svs.nii.gz").fids[0, 0, 0].mean(-1)
    fit = nifti.load(example_run / "fit" / "fit.nii.gz").fids[0, 0, 0, :, 0]
    assert np.abs(np.vdot(fit, data)) / np.linalg.norm(fit) / np.linalg.norm(data) > 0.9
    assert np.vdot(fit, data).real / np.vdot(fit, fit).real == pytest.approx(1, abs=0.05)


def test_align_keeps_header_and_adds_provenance(example_run):
    before, after = nifti.load(EXAMPLE / "svs.nii.gz"), nifti.load(example_run / "aligned" / "svs.nii.gz")
    assert after.header["RepetitionTime"] == before.header["RepetitionTime"]
    (step,) = after.header["ProcessingApplied"]
    assert step["Program"] == "FSL-MRS-DL" and "DIM_DYN" in step["Details"]
    assert after.fids.shape == before.fids.shape and np.allclose(after.affine, before.affine)


def test_bundled_example_is_what_simulate_makes(tmp_path):
    assert main(["simulate", "basis", "--refocusing", "ideal", "--output", str(tmp_path / "basis")]) == 0
    assert (
        main(["simulate", "svs", "--basis", str(tmp_path / "basis"), "--TE", "30", "--output", str(tmp_path / "svs")])
        == 0
    )
    ours, bundled = nifti.load(tmp_path / "svs" / "svs.nii.gz"), nifti.load(EXAMPLE / "svs.nii.gz")
    assert np.allclose(ours.fids, bundled.fids, rtol=1e-4, atol=1e-4 * np.abs(bundled.fids).max())
    assert json.loads((tmp_path / "svs" / "truth.json").read_text()) == json.loads((EXAMPLE / "truth.json").read_text())


def test_every_transient_gets_a_row(fit_words, tmp_path):
    assert main([*fit_words, "--keep", "NAA", "Cr", "PCr", "GPC", "Glu", "Ins"]) == 0
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    # Six metabolites, their reference, three lipids, and macromolecules.
    assert table.groupby("DIM_DYN").size().eq(11).all() and table["DIM_DYN"].nunique() == 64
    assert nifti.load(tmp_path / "out" / "fit.nii.gz").fids.shape == (1, 1, 1, 2048, 64)


def test_options_reach_the_fit(fit_words, tmp_path):
    words = [
        *fit_words,
        "--average",
        "DIM_DYN",
        "--ignore",
        "Gly",
        "--combine",
        "GPC",
        "PCh",
        "--combine",
        "Glu",
        "Gln",
    ]
    words += [
        "--metab_groups",
        "NAA",
        "Cr+PCr",
        "--lorentzian",
        "--ppmlim",
        "0.5",
        "4.0",
        "--baseline",
        "spline, stiff",
    ]
    words += [
        "--internal_ref",
        "NAA",
        "--export_baseline",
        "--export_no_baseline",
        "--export_separate",
        "--TE",
        "30",
        "--TR",
        "2",
    ]
    assert main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("Metab")
    assert {"GPC+PCh", "Glu+Gln", "Cr+PCr"} <= set(table.index) and "Gly" not in table.index
    assert table.loc["NAA", "/NAA"] == pytest.approx(1)
    parameters = pd.read_csv(tmp_path / "out" / "all_parameters.csv")["parameter"].tolist()
    assert "gamma_2" in parameters and not any(name.startswith("sigma") for name in parameters)
    for ending in ("", "_baseline", "_no_baseline", "_NAA"):
        assert (tmp_path / "out" / f"fit{ending}.nii.gz").is_file()
    whole, parts = (nifti.load(tmp_path / "out" / f"fit{e}.nii.gz").fids for e in ("", "_no_baseline"))
    baseline = nifti.load(tmp_path / "out" / "fit_baseline.nii.gz").fids
    assert np.allclose(whole, parts + baseline, atol=1e-4 * np.abs(whole).max())


def test_config_file_gives_options(fit_words, tmp_path):
    (tmp_path / "options.ini").write_text("baseline = off\nignore = [Gly, Ala]\ncombine = [GPC+PCh, Glu+Gln]\n")
    assert main([*fit_words, "--average", "DIM_DYN", "--config", str(tmp_path / "options.ini")]) == 0
    names = pd.read_csv(tmp_path / "out" / "summary.csv")["Metab"].tolist()
    assert "Ala" not in names and "Gly" not in names and {"NAA", "GPC+PCh", "Glu+Gln"} <= set(names)


def test_what_is_wrong_in_a_config_file_names_it(fit_words, tmp_path, capsys):
    (tmp_path / "options.ini").write_text("baselin = off\n")
    with pytest.raises(SystemExit):
        main([*fit_words, "--config", str(tmp_path / "options.ini")])
    said = capsys.readouterr().err
    assert "--baselin" in said and str(tmp_path / "options.ini") in said and said.count("\n") == 1
    with pytest.raises(SystemExit):
        main([*fit_words, "--baselin", "off"])
    assert "options.ini" not in capsys.readouterr().err


def test_conjugated_data_are_turned_round(fit_words, tmp_path, capsys):
    data = nifti.load(EXAMPLE / "svs.nii.gz")
    from dataclasses import replace

    turned = nifti.save(tmp_path / "turned.nii.gz", replace(data, fids=data.fids.conj()))
    words = [*fit_words, "--average", "DIM_DYN"]
    assert main(words) == 0
    right = pd.read_csv(tmp_path / "out" / "concentrations.csv", header=[0, 1])[("mean", "raw")].to_numpy()
    words[words.index("--data") + 1] = str(turned)
    assert main([*words, "--overwrite"]) == 0
    assert "reversed" in capsys.readouterr().out
    again = pd.read_csv(tmp_path / "out" / "concentrations.csv", header=[0, 1])[("mean", "raw")].to_numpy()
    assert np.allclose(right, again, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--keep", "NAA", "Unobtainium"], ["Unobtainium", "NAAG"]),
        (["--ignore", "Nope"], ["Nope"]),
        (["--baseline", "wavy"], ["wavy", "very-stiff"]),
        (["--baseline", "spline, 1"], ["spline, 1"]),
        (["--ppmlim", "30", "31"], ["--ppmlim 30 31: reaches beyond", "12.5 ppm"]),
        (["--ppmlim", "0.2", "42"], ["--ppmlim 0.2 42: reaches beyond", "12.5 ppm"]),
        (["--internal_ref", "H2O"], ["H2O"]),
        (["--combine", "NAA", "Foo"], ["Foo"]),
        (["--combine", "NAA"], ["NAA", "two metabolites"]),
        (["--metab_groups", "Bar"], ["Bar"]),
        (["--ind_scale", "Baz"], ["Baz"]),
        (["--average", "DIM_EDIT"], ["DIM_EDIT", "DIM_DYN"]),
        (["--h2o", "water.nii.gz"], ["water", "fsl_mrs"]),
        (["--negative", "--lorentzian"], ["--negative"]),
        (["--t1", "nowhere.nii.gz"], ["nowhere.nii.gz"]),
        (["--device", "cuda"], ["cuda"]),
        (["--device", "gpu"], ["gpu", "auto, cpu or cuda"]),
    ],
)
def test_bad_options_of_fit(fit_words, tmp_path, capsys, words, expected):
    import torch

    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here, so asking for one is no mistake")
    fails([*fit_words, *words], capsys, *expected)
    assert not list(tmp_path.iterdir())


def test_bad_files_of_fit(fit_words, tmp_path, capsys):
    def with_data(path):
        return [str(path) if word == str(EXAMPLE / "svs.nii.gz") else word for word in fit_words]

    fails(with_data(tmp_path / "missing.nii.gz"), capsys, "missing.nii.gz", "no such file")
    (tmp_path / "text.nii.gz").write_text("hello")
    fails(with_data(tmp_path / "text.nii.gz"), capsys, "text.nii.gz", "spec2nii")
    nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)).to_filename(tmp_path / "plain.nii.gz")
    fails(with_data(tmp_path / "plain.nii.gz"), capsys, "plain.nii.gz", "NIfTI-MRS")
    from dataclasses import replace

    data = nifti.load(EXAMPLE / "svs.nii.gz")
    nifti.save(tmp_path / "nan.nii.gz", replace(data, fids=np.full_like(data.fids, np.nan)))
    fails(with_data(tmp_path / "nan.nii.gz"), capsys, "nan.nii.gz", "NaN")
    assert not (tmp_path / "out").exists()


def test_bad_basis_sets(fit_words, tmp_path, capsys):
    def with_basis(path):
        return [str(path) if word == str(EXAMPLE / "basis") else word for word in fit_words]

    fails(with_basis(tmp_path / "none"), capsys, "none", "no such basis set")
    for name, words, expected in (
        ("7t", ["--field", "7"], ["7.0 T", "3.0 T"]),
        ("short", ["--points", "512"], ["ms", "points"]),
    ):
        assert (
            main(["simulate", "basis", "--output", str(tmp_path / name), "--metabs", "NAA", "Cr", "PCr", *words]) == 0
        )
        capsys.readouterr()
        fails(with_basis(tmp_path / name), capsys, name, *expected)
    assert not (tmp_path / "out").exists()


def test_basis_sets_of_edited_data(tmp_path, capsys):
    words = ["simulate", "basis", "--sequence", "mega-press", "--metabs", "NAA", "Cr", "GABA", "--points", "512"]
    words += ["--output"]
    for _ in range(2):
        assert main([*words, str(tmp_path / "all"), "--overwrite"]) == 0
        assert "Condition on: sinc-gaussian at 1.9 ppm (15 ms, 82 Hz)." in capsys.readouterr().out
    assert main([*words, str(tmp_path / "one"), "--edit", "ON"]) == 0
    both, one = EditedBasis.load(tmp_path / "all"), Basis.load(tmp_path / "one")
    assert both.condition("on").fids == pytest.approx(one.fids)
    assert both.echo_time_s == one.echo_time_s == 0.068
    assert main([*words, str(tmp_path / "gsh"), "--edit-ppm", "4.56", "--edit-pulse", "ideal", "--TE", "120"]) == 0
    assert [pulse.centre_ppm for (pulse,) in EditedBasis.load(tmp_path / "gsh").pulses] == [4.56, 7.5]
    assert main([*words, str(tmp_path / "ideal"), "--refocusing", "ideal"]) == 0
    ideal = EditedBasis.load(tmp_path / "ideal")
    infos = [json.loads((tmp_path / name / "on" / "GABA.json").read_text())["meta"] for name in ("all", "ideal")]
    infos += [json.loads((tmp_path / "one" / "GABA.json").read_text())["meta"]]
    kinds = ("slice-selective", "ideal", "slice-selective")
    assert all(f"{kind} refocusing pulses" in info["SimVersion"] for kind, info in zip(kinds, infos))
    gaba, cr = ([one.names.index(name) for one in (both, ideal)] for name in ("GABA", "Cr"))
    edited = [one.condition("on").fids - one.condition("off").fids for one in (both, ideal)]
    assert 0.7 < np.divide(*[np.linalg.norm(fids[k]) for fids, k in zip(edited, gaba)]) < 0.95
    sizes = [np.linalg.norm(one.condition("off").fids[k]) for one, k in zip((both, ideal), cr)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    capsys.readouterr()
    out = [*words, str(tmp_path / "out")]
    fails([*out, "--edit", "A"], capsys, "--edit A", "choose from on, off")
    fails([*out, "--edit-duration", "60"], capsys, "--edit-duration 60", "give a shorter one")
    fails([*out, "--mm", "summed"], capsys, "--mm", "--edit")
    fails([*out, "--TM", "10"], capsys, "--TM 10", "steam")
    fails([*out, "--sequence", "press", "--edit-bandwidth", "80"], capsys, "--edit-bandwidth", "press", "--sequence")
    assert not (tmp_path / "out").exists()


def test_refocusing_pulses_of_press_are_slice_selective_unless_others_are_asked_for(tmp_path, capsys):
    words = ["simulate", "basis", "--metabs", "Asp", "Cr", "--points", "512", "--output"]
    infos = {}
    for name, more in (("usual", []), ("ideal", ["--refocusing", "ideal"]), ("steam", ["--sequence", "steam"])):
        more = more + (["--TM", "10"] if name == "steam" else [])
        assert main([*words, str(tmp_path / name), *more]) == 0
        infos[name] = json.loads((tmp_path / name / "Asp.json").read_text())["meta"]["SimVersion"]
    assert "slice-selective refocusing pulses" in infos["usual"] and "ideal pulses" in infos["ideal"]
    assert "ideal pulses" in infos["steam"]
    fids = [Basis.load(tmp_path / name).select(["Asp"]).fids for name in ("usual", "ideal")]
    assert np.abs(fids[0] - fids[1]).max() > 0.1 * np.abs(fids[1]).max()
    capsys.readouterr()
    fails(
        [*words, str(tmp_path / "out"), "--sequence", "slaser", "--refocusing", "ideal"],
        capsys,
        "--refocusing",
        "slaser",
    )
    mega = ["--sequence", "mega-slaser", "--refocusing", "ideal"]
    fails([*words, str(tmp_path / "out"), *mega], capsys, "--refocusing", "mega-slaser")


def test_a_pulse_acquire_basis_set_has_no_echo_time(tmp_path, capsys):
    """Its files said that the echo time was 30 ms, and --TE was taken and not used."""
    words = ["simulate", "basis", "--sequence", "fid", "--metabs", "NAA", "Cr", "--points", "64", "--output"]
    assert main([*words, str(tmp_path / "basis")]) == 0
    meta = json.loads((tmp_path / "basis" / "NAA.json").read_text())["meta"]
    assert "TE" not in meta["SimVersion"] and "EchoTime" not in meta
    capsys.readouterr()
    fails([*words, str(tmp_path / "out"), "--TE", "5"], capsys, "means nothing for fid")


def test_bad_input_of_align(tmp_path, capsys):
    words = ["align", "--file", str(EXAMPLE / "svs.nii.gz"), "--output", str(tmp_path / "out")]
    fails([*words, "--dim", "DIM_EDIT"], capsys, "DIM_EDIT", "DIM_DYN")
    fails([*words, "--ppm", "50", "60"], capsys, "50")
    fails([*words, "--reference", str(EXAMPLE / "svs.nii.gz")], capsys, "64", "average")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(fit_words, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    fails([*fit_words, "--average", "DIM_DYN"], capsys, "--overwrite")
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"
    align = ["align", "--file", str(EXAMPLE / "svs.nii.gz"), "--output", str(tmp_path / "a")]
    assert main(align) == 0
    capsys.readouterr()
    stamp = (tmp_path / "a" / "svs.nii.gz").stat().st_mtime_ns
    fails(align, capsys, "--overwrite")
    assert (tmp_path / "a" / "svs.nii.gz").stat().st_mtime_ns == stamp


def test_align_never_replaces_its_own_input(tmp_path, capsys):
    copy = tmp_path / "svs.nii.gz"
    copy.write_bytes((EXAMPLE / "svs.nii.gz").read_bytes())
    fails(["align", "--file", str(copy), "--output", str(tmp_path), "--overwrite"], capsys, "input")
    assert copy.read_bytes() == (EXAMPLE / "svs.nii.gz").read_bytes()


def test_failing_transients_are_flagged_and_the_others_go_on(fit_words, tmp_path):
    from dataclasses import replace

    data = nifti.load(EXAMPLE / "svs.nii.gz")
    fids = data.fids[..., :6].copy()
    fids[..., 2], fids[..., 4] = 0, np.nan
    nifti.save(tmp_path / "bad.nii.gz", replace(data, fids=fids))
    words = [str(tmp_path / "bad.nii.gz") if word == str(EXAMPLE / "svs.nii.gz") else word for word in fit_words]
    assert main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "uncertainty.csv")
    naa = table[table["Metab"] == "NAA"].set_index("DIM_DYN")
    assert naa["usable"].tolist() == [True, True, False, True, False, True]
    assert naa["conc"].isna().tolist() == [False, False, True, False, True, False]
    assert (
        main(["align", "--file", str(tmp_path / "bad.nii.gz"), "--output", str(tmp_path / "a"), "--filename", "ok"])
        == 0
    )
    rows = pd.read_csv(tmp_path / "a" / "dl_align.csv")
    assert rows["flag"].tolist()[2::2][:2] == ["failed", "failed"] and (rows["flag"] == "ok").sum() == 4


def test_edited_sub_spectra_and_coils_have_targets_of_their_own(tmp_path):
    """Two conditions with their own offsets, two coils with their own phases: drift goes, and so do offsets unless they
    are to stay."""
    from dataclasses import replace

    data = nifti.load(EXAMPLE / "svs.nii.gz")
    base = data.fids[..., :16]
    time = np.arange(2048)[:, None] * data.dwelltime
    off = base * np.exp(2j * np.pi * 15 * time)
    coils = np.stack([np.stack([part, part * 1j], axis=4) for part in (base, off)], axis=-1)
    header = dict(data.header) | {"dim_5": "DIM_COIL", "dim_6": "DIM_DYN", "dim_7": "DIM_EDIT"}
    nifti.save(
        tmp_path / "edit.nii.gz", replace(data, fids=coils, dim_tags=("DIM_COIL", "DIM_DYN", "DIM_EDIT"), header=header)
    )
    for name, words, between in (("a", [], 15.0), ("b", ["--edit-dim", "none"], 0.0)):
        assert main(["align", "--file", str(tmp_path / "edit.nii.gz"), "--output", str(tmp_path / name), *words]) == 0
        rows = pd.read_csv(tmp_path / name / "dl_align.csv")
        assert len(rows) == 32 and set(rows["DIM_EDIT"]) == {0, 1}
        halves = [part["shift_hz"].to_numpy() for _, part in rows.groupby("DIM_EDIT")]
        sd = rows["shift_sd_hz"].mean()
        # The same transients shifted as a whole: the same drift is found in both.
        assert np.abs(halves[1] - halves[0] - between).max() < 3 * sd and np.abs(np.mean(halves)) < sd


def test_align_to_a_reference(tmp_path):
    from dataclasses import replace

    data = nifti.load(EXAMPLE / "svs.nii.gz")
    time = np.arange(2048) * data.dwelltime
    header = {k: v for k, v in data.header.items() if k != "dim_5"}
    aligned = main(["align", "--file", str(EXAMPLE / "svs.nii.gz"), "--output", str(tmp_path / "first")])
    mean = nifti.load(tmp_path / "first" / "svs.nii.gz").fids.mean(-1) * np.exp(2j * np.pi * 4 * time)
    nifti.save(tmp_path / "ref.nii.gz", replace(data, fids=mean, dim_tags=(), header=header))
    words = ["align", "--file", str(EXAMPLE / "svs.nii.gz"), "--reference", str(tmp_path / "ref.nii.gz")]
    assert aligned == 0 and main([*words, "--output", str(tmp_path / "second")]) == 0
    first, second = (pd.read_csv(tmp_path / name / "dl_align.csv")["shift_hz"] for name in ("first", "second"))
    assert (second - first).mean() == pytest.approx(-4, abs=0.15)


@pytest.mark.parametrize(
    "words", [["--help"], ["align", "--help"], ["fit", "--help"], ["simulate", "basis", "--help"], ["--version"]]
)
def test_help_of_the_installed_command_needs_nothing_heavy(words):
    program = "import sys; from fsl_mrs_dl.cli.main import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
    program += (
        "    print([m for m in ('torch', 'scipy', 'nibabel', 'pandas', 'matplotlib') if m in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip()
    assert done.stderr.strip() == "[]"


def test_a_fault_of_ours_is_told_apart(fit_words, monkeypatch, capsys):
    from fsl_mrs_dl.fitting import data

    def broken(*args, **kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(data, "quantify", broken)
    fit_words = [*fit_words, "--spectral-model", "fsl-mrs"]
    assert main(fit_words) == 1
    assert "--debug" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main([*fit_words, "--debug"])


def test_an_interrupted_fit_leaves_nothing(fit_words, tmp_path, monkeypatch, capsys):
    from fsl_mrs_dl.results import figures

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "fit_summary", interrupt)
    assert main([*fit_words, "--average", "DIM_DYN"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_overwrite_never_takes_inputs_or_what_is_not_ours(tmp_path, capsys, monkeypatch):
    """A folder is replaced only if it holds results of this program and none of the files that are read."""
    study = tmp_path / "study"
    study.mkdir()
    (study / "svs.nii.gz").write_bytes((EXAMPLE / "svs.nii.gz").read_bytes())
    fit = [
        "fit",
        "--data",
        str(study / "svs.nii.gz"),
        "--basis",
        str(EXAMPLE / "basis"),
        "--overwrite",
        "--average",
        "DIM_DYN",
    ]
    fails([*fit, "--output", str(study)], capsys, "holds the input")
    assert (study / "svs.nii.gz").is_file()
    assert main(["simulate", "basis", "--output", str(tmp_path / "basis"), "--metabs", "NAA", "Cr", "PCr"]) == 0
    capsys.readouterr()
    fails(
        ["simulate", "svs", "--basis", str(tmp_path / "basis"), "--output", str(tmp_path / "basis"), "--overwrite"],
        capsys,
        "input",
    )
    assert (tmp_path / "basis" / "NAA.json").is_file()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.docx").write_text("years of work")
    fails([*fit, "--output", str(other)], capsys, "thesis.docx")
    fails(["simulate", "basis", "--output", str(other), "--overwrite"], capsys, "thesis.docx")
    assert (other / "thesis.docx").read_text() == "years of work"
    monkeypatch.chdir(other)
    fails([*fit, "--output", "."], capsys, "work in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["basis", "other", "study"]


def test_the_package_is_started_by_its_name():
    """For environments whose scripts are not on the path."""
    words = [sys.executable, "-m", "fsl_mrs_dl", "--version"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == __version__


def test_models_are_listed_without_a_word(capsys):
    assert main(["models"]) == 0
    assert "quant-universal" in capsys.readouterr().out


def test_misspelt_words_and_wrong_files_have_the_remedy(sim_basis, tmp_path, capsys):
    """The nearest name stands in the message, the right order is given, and files are looked for first."""
    from fsl_mrs_dl.core.errors import BasisError, DataError, OptionError
    from fsl_mrs_dl.fitting.options import FitOptions
    from fsl_mrs_dl.io.basis_files import named_or_refused
    from fsl_mrs_dl.preproc.options import AlignOptions

    with pytest.raises(SystemExit):
        main(["fit", "--data", "x", "--basis", "b", "--output", str(tmp_path / "out"), "--baisline", "off"])
    assert "did you mean --baseline?" in capsys.readouterr().err
    with pytest.raises(BasisError, match="did you mean GABA"):
        named_or_refused("ignore", ["GABBA"], ["GABA", "Glu"], "the set")
    with pytest.raises(OptionError, match=r"0\.2 4\.2"):
        FitOptions(ppmlim=(4.2, 0.2)).check()
    for limits in ((2.0, 2.0), (np.nan, 4.2), (0.2, np.inf)):
        with pytest.raises(OptionError, match="is no window in ppm; give its lower and upper end"):
            FitOptions(ppmlim=limits).check()
        with pytest.raises(OptionError, match="is no window in ppm"):
            AlignOptions(ppmlim=limits).check(reference=False)
    AlignOptions(ppmlim=(4.2, 0.2)).check(reference=False)  # FSL-MRS takes either order for an alignment
    water = tmp_path / "water.SDAT"
    data = tmp_path / "svs.nii.gz"
    data.write_bytes(b"")
    assert main(["fit", "--data", str(data), "--h2o", str(water), "--basis", "b", "--output", str(tmp_path / "o")]) == 2
    assert "water.SDAT: no such file" in capsys.readouterr().err
    with pytest.raises(DataError, match="combine coils first"):
        quantify(np.ones((512, 4), complex), sim_basis, dwelltime=5e-4, spec_freq_mhz=123.2)
