"""Basis sets: read from both formats, reversed, checked and resampled, with messages that say what to do."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from helpers.fsl_mrs_grid import cut_as_lcmodel

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import BasisError, OptionError
from fsl_mrs_dl.io.basis import Basis, detect_conjugation
from fsl_mrs_dl.simulation.acquisition import simulate_basis, simulate_svs
from fsl_mrs_dl.simulation.recipe_spectra import simulate_spectra


def lines(ppms, n=512, dwelltime=1 / 2000, frequency=123.2, width=3.0):
    t = np.arange(n) * dwelltime
    return np.array([np.exp((2j * np.pi * units.ppm_to_hz(p, frequency) - np.pi * width) * t) for p in ppms])


@pytest.fixture
def small():
    return Basis(lines([2.01, 3.03, 3.2, 1.3]), ("NAA", "Cr", "GPC", "Lac"), 1 / 2000, 123.2, widths_hz=(3.0,) * 4)


def write_lcmodel(path, fids, names, shifts=None, dwelltime=5e-4, frequency=123.2):
    """An LCModel basis file; its convention is the conjugate of the one in memory."""
    out = [" $SEQPAR", " FWHMBA = 0.02,", f" HZPPPM = {frequency},", " SEQ = 'PRESS'", " $END"]
    out += [" $BASIS1", f" BADELT = {dwelltime},", f" NDATAB = {fids.shape[1]}", " $END"]
    for index, (name, fid) in enumerate(zip(names, fids)):
        shift = shifts[index] if shifts is not None else 0
        spec = np.roll(np.fft.fft(fid.conj()), shift)
        out += [" $NMUSED", f" FILERAW = '{name}.RAW',", " $END"]
        out += [" $BASIS", f" ID = '{name}',", f" METABO = '{name}',", " CONC = 1.,", f" ISHIFT = {shift},", " $END"]
        numbers = np.stack([spec.real, spec.imag], -1).ravel()
        out += [" ".join(f"{value:.9E}" for value in row) for row in numbers.reshape(-1, 2)]
    path.write_text("\n".join(out) + "\n")
    return path


# ---- reading and writing


def test_json_round_trip(small, tmp_path):
    got = Basis.load(small.save(tmp_path / "set"))
    order = np.argsort(small.names)
    assert got.names == tuple(sorted(small.names))
    np.testing.assert_allclose(got.fids, small.fids[order], atol=1e-9)
    assert (got.dwelltime, got.spec_freq_mhz, got.nucleus) == (small.dwelltime, small.spec_freq_mhz, "1H")
    assert got.widths_hz == small.widths_hz
    assert got.notes == ()
    content = json.loads((tmp_path / "set" / "NAA.json").read_text())
    assert set(content["basis"]) >= {"basis_re", "basis_im", "basis_dwell", "basis_centre", "basis_width", "basis_name"}
    assert "FSL-MRS-DL" in content["meta"]["SimVersion"]


def test_simulated_set_survives_disk(sim_basis, tmp_path):
    got = Basis.load(sim_basis.save(tmp_path))
    for name in sim_basis.names:
        np.testing.assert_allclose(
            got.fids[got.names.index(name)], sim_basis.fids[sim_basis.names.index(name)], atol=1e-9
        )
    assert got.notes == ()


def test_a_conjugated_set_is_turned_round_and_says_so(sim_basis, tmp_path):
    wrong = dataclasses.replace(sim_basis, fids=sim_basis.fids.conj())
    assert detect_conjugation(wrong.fids, wrong.axes)
    assert not detect_conjugation(sim_basis.fids, sim_basis.axes)
    got = Basis.load(wrong.save(tmp_path))
    row = got.names.index("NAA")
    np.testing.assert_allclose(got.fids[row], sim_basis.fids[sim_basis.names.index("NAA")], atol=1e-9)
    assert len(got.notes) == 1
    assert "conjugate" in got.notes[0]


def test_a_nucleus_without_usual_window_is_never_turned(small):
    assert not detect_conjugation(small.fids.conj(), dataclasses.replace(small.axes, nucleus="19F"))


def test_frequency_in_hertz_of_old_files(small, tmp_path):
    for file in small.save(tmp_path).glob("*.json"):
        content = json.loads(file.read_text())
        content["basis"]["basis_centre"] *= 1e6
        file.write_text(json.dumps(content))
    assert Basis.load(tmp_path).spec_freq_mhz == pytest.approx(123.2)


def test_lcmodel_file(small, tmp_path):
    got = Basis.load(write_lcmodel(tmp_path / "set.BASIS", small.fids, small.names, shifts=(0, 3, -5, 0)))
    assert got.names == tuple(sorted(small.names))
    assert (got.dwelltime, got.spec_freq_mhz) == (5e-4, 123.2)
    np.testing.assert_allclose(got.fids, small.fids[np.argsort(small.names)], atol=1e-6)
    assert got.notes == ()


def assert_like(resampled, cut):
    """Check that two FIDs agree, but where the one that was cut rings, at its ends."""
    inside = slice(40, -40)
    np.testing.assert_allclose(resampled[:, inside], cut[:, inside], atol=0.005 * np.abs(cut).max())


def test_lcmodel_file_as_fsl_mrs_reads_it(invivo_basis_path, reference):
    basis = Basis.load(invivo_basis_path)
    assert set(basis.names) == set(reference["names"].tolist())
    grid = float(reference["dwelltime_s"]), len(reference["time"])
    resampled = basis.resampled(*grid)
    cut = cut_as_lcmodel(basis, *grid)
    assert_like(resampled, cut)
    rows = cut[[basis.names.index(name) for name in reference["names"].tolist()]]
    expected = reference["basis"].T
    factor = np.vdot(rows, expected) / np.vdot(rows, rows)
    assert abs(factor.imag) < 1e-6 * abs(factor.real)
    assert factor.real > 0
    np.testing.assert_allclose(rows * factor.real, expected, atol=1e-6 * np.abs(expected).max())
    axis = units.ppm_axis(rows.shape[1], float(reference["dwelltime_s"]), basis.spec_freq_mhz)
    naa = units.fid_to_spec(resampled[basis.names.index("NAA")])
    assert axis[np.abs(naa).argmax()] == pytest.approx(2.01, abs=0.04)


def test_real_json_set(testdata):
    basis = Basis.load(testdata / "fsl_basis_7t")
    assert (basis.n_metabs, basis.n_points) == (19, 8192)
    assert basis.bandwidth == pytest.approx(6000)
    assert 295 < basis.spec_freq_mhz < 300
    axis = units.ppm_axis(8192, basis.dwelltime, basis.spec_freq_mhz)
    for name, ppm in (("NAA", 2.01), ("Cr", 3.03)):
        assert axis[np.abs(units.fid_to_spec(basis.fids[basis.names.index(name)])).argmax()] == pytest.approx(
            ppm, abs=0.03
        )


@pytest.mark.with_fsl_mrs
def test_lcmodel_file_against_fsl_mrs(invivo_basis_path):
    from fsl_mrs.utils import mrs_io

    theirs = mrs_io.read_basis(str(invivo_basis_path))
    ours, converted = Basis.load(invivo_basis_path), Basis.from_fsl_mrs(theirs)
    assert ours.names == converted.names
    assert (ours.dwelltime, ours.nucleus) == (pytest.approx(converted.dwelltime), converted.nucleus)
    assert ours.spec_freq_mhz == pytest.approx(converted.spec_freq_mhz)
    for dwelltime, n_points in ((5e-4, 2048), (1 / 1250, 1024), (1 / 4000, 3000)):
        reference = theirs.get_formatted_basis(1 / dwelltime, n_points).T
        for basis in (ours, converted):
            cut = cut_as_lcmodel(basis, dwelltime, n_points)
            np.testing.assert_allclose(cut, reference, atol=1e-9 * np.abs(reference).max())
            assert_like(basis.resampled(dwelltime, n_points), reference)
    conjugated = Basis.from_fsl_mrs(theirs, conjugate=True)
    np.testing.assert_array_equal(conjugated.fids, converted.fids.conj())


# ---- resampling


def test_resampling_keeps_the_signal(small):
    np.testing.assert_allclose(small.resampled(small.dwelltime, 512), small.fids, atol=1e-12)
    np.testing.assert_allclose(small.resampled(small.dwelltime, 100), small.fids[:, :100], atol=1e-12)
    fine = small.resampled(1 / 4000, 900)
    expected = lines([2.01, 3.03, 3.2, 1.3], n=900, dwelltime=1 / 4000)
    # The interpolation rings at both ends, where a causal decay is not band-limited.
    np.testing.assert_allclose(fine[:, 40:800], expected[:, 40:800], atol=0.02)


def test_a_set_that_is_too_short(small):
    small.resampled(1 / 4000, 1023)
    with pytest.raises(BasisError, match="covers 256 ms, the data need 512 ms; simulate it with more points"):
        small.resampled(1 / 2000, 1024)


# ---- what is wrong is said


def test_doubled_names(small, tmp_path):
    with pytest.raises(BasisError, match="the name NAA stands more than once"):
        dataclasses.replace(small, names=("NAA", "Cr", "NAA", "Lac"))
    small.save(tmp_path)
    (tmp_path / "copy.json").write_text((tmp_path / "Cr.json").read_text())
    with pytest.raises(BasisError, match="the name Cr stands more than once"):
        Basis.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_entry_without_values(small, value):
    fids = small.fids.copy()
    if value == 0:
        fids[1] = 0
    else:
        fids[1, 5] = value
    with pytest.raises(BasisError, match="Cr is all zero or holds NaN; .*ignore"):
        dataclasses.replace(small, fids=fids)


def test_names_and_rows_must_agree(small):
    with pytest.raises(BasisError, match="3 names for basis FIDs of shape"):
        dataclasses.replace(small, names=("NAA", "Cr", "GPC"))


def test_another_field_or_nucleus(small):
    small.check_match(123.2 * 1.02, "1H")
    with pytest.raises(BasisError, match=r"123\.2 MHz \(2\.9 T\), the data was acquired at 297\.2 MHz \(7\.0 T\)"):
        small.check_match(297.2, "1H")
    with pytest.raises(BasisError, match="is for 1H, scan.nii.gz is 31P"):
        small.check_match(123.2, "31P", "scan.nii.gz")


def test_select(small):
    assert small.select().names == small.names
    kept = small.select(keep=["Lac", "NAA"])
    assert kept.names == ("NAA", "Lac")
    np.testing.assert_array_equal(kept.fids, small.fids[[0, 3]])
    assert kept.widths_hz == (3.0, 3.0)
    assert small.select(ignore=["Cr"]).names == ("NAA", "GPC", "Lac")
    assert small.select(keep=["Cr", "Lac"], ignore=["Cr"]).names == ("Lac",)
    with pytest.raises(BasisError, match=r"no metabolite Tau \(given with keep\); it has NAA, Cr, GPC, Lac"):
        small.select(keep=["Tau"])
    with pytest.raises(BasisError, match=r"no metabolite Mac \(given with ignore\)"):
        small.select(ignore=["Mac"])
    with pytest.raises(BasisError, match="no metabolite is left"):
        small.select(keep=["Cr"], ignore=["Cr"])


def test_files_that_are_no_basis_set(small, tmp_path):
    with pytest.raises(BasisError, match="no such basis set"):
        Basis.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BasisError, match="no .json files in this folder"):
        Basis.load(tmp_path / "empty")
    for names in (("press.BASIS",), ("press.BASIS", "steam.basis")):
        for name in names:
            (tmp_path / "empty" / name).touch()
        with pytest.raises(BasisError, match="is a folder without FSL-MRS .json files; give .*press.BASIS") as error:
            Basis.load(tmp_path / "empty")
        assert ("steam.basis" in str(error.value)) is (len(names) == 2)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(BasisError, match="not a basis set"):
        Basis.load(tmp_path / "x.txt")
    folder = small.save(tmp_path / "set")
    (folder / "notes.json").write_text('{"hello": 1}')
    with pytest.raises(BasisError, match=r"notes\.json: not an FSL-MRS basis file"):
        Basis.load(folder)
    (folder / "notes.json").write_text("{")
    with pytest.raises(BasisError, match=r"notes\.json: not an FSL-MRS basis file"):
        Basis.load(folder)


def test_files_that_do_not_belong_together(small, tmp_path):
    small.save(tmp_path)
    dataclasses.replace(small.select(["Cr"]), dwelltime=1 / 4000).save(tmp_path)
    with pytest.raises(BasisError, match="dwell time, frequency or length .* differs"):
        Basis.load(tmp_path)


def test_broken_lcmodel_files(small, tmp_path):
    with pytest.raises(BasisError, match="encrypted"):
        Basis.load(write_lcmodel(tmp_path / "a.basis", small.fids, small.names, dwelltime=-5e-4))
    whole = write_lcmodel(tmp_path / "b.basis", small.fids, small.names)
    whole.write_text("\n".join(whole.read_text().splitlines()[:-7]))
    with pytest.raises(BasisError, match="incomplete"):
        Basis.load(whole)
    (tmp_path / "c.basis").write_text("nothing here\n")
    with pytest.raises(BasisError, match="not a readable LCModel basis set"):
        Basis.load(tmp_path / "c.basis")


# ---- groups


def test_groups(small):
    assert small.groups(None) == small.groups(0) == small.groups("combine_all") == small.groups([0]) == [0, 0, 0, 0]
    assert small.groups("separate_all") == small.groups(["separate_all"]) == [0, 1, 2, 3]
    assert small.groups(["Lac"]) == small.groups("Lac") == [0, 0, 0, 1]
    assert small.groups(["Cr", "Lac"]) == [0, 1, 0, 2]
    assert small.groups(["Cr+GPC", "Lac"]) == [0, 1, 1, 2]
    assert small.groups([0, 1, 0, 2]) == [0, 1, 0, 2]
    # Nobody is left in the group of the rest: the groups still count from zero.
    assert small.groups(["NAA+Cr", "GPC+Lac"]) == [0, 0, 1, 1]
    for wrong in ([0, 1], [0, 2, 2, 0], [1, 1, 2, 2], [0, -1, 0, 0]):
        with pytest.raises(BasisError, match="one number per metabolite is needed"):
            small.groups(wrong)
    with pytest.raises(BasisError, match="metab_groups Mac: no metabolite Mac"):
        small.groups(["Mac"])
    with pytest.raises(BasisError, match="no metabolite Tau"):
        small.groups(["Cr+Tau"])
    with pytest.raises(BasisError, match="no metabolite"):
        small.groups(["Cr", 1])


@pytest.mark.with_fsl_mrs
def test_groups_as_fsl_mrs_reads_them(small, tmp_path):
    from fsl_mrs.core import MRS
    from fsl_mrs.utils import mrs_io

    small.save(tmp_path)
    theirs = mrs_io.read_basis(str(tmp_path))
    ours = Basis.load(tmp_path)
    mrs = MRS(ours.fids.sum(0), cf=ours.spec_freq_mhz, bw=ours.bandwidth, nucleus="1H", basis=theirs)
    for spec in (["Lac"], ["Cr", "Lac"], ["Cr+GPC", "Lac"], ["separate_all"], ["combine_all"], [0, 1, 1, 0]):
        assert ours.groups(list(spec)) == list(mrs.parse_metab_groups(list(spec))), spec


# ---- a choice settles what the checks would refuse


def test_entries_that_are_not_chosen_are_not_checked(small, tmp_path):
    small.save(tmp_path)
    (tmp_path / "copy.json").write_text((tmp_path / "Cr.json").read_text())
    content = json.loads((tmp_path / "Lac.json").read_text())
    content["basis"]["basis_re"][3] = float("nan")
    (tmp_path / "Lac.json").write_text(json.dumps(content))
    dataclasses.replace(small.select(["GPC"]), dwelltime=1 / 4000).save(tmp_path)
    (tmp_path / "Tau.json").write_text("{")
    assert Basis.load(tmp_path, keep=["NAA"]).names == ("NAA",)
    assert Basis.load(tmp_path, ignore=["Cr", "Lac", "GPC", "Tau"]).names == ("NAA",)
    for left, message in (
        ("Cr", "the name Cr stands more than once"),
        ("Lac", "Lac is all zero or holds NaN"),
        ("GPC", "dwell time, frequency or length"),
        ("Tau", r"Tau\.json: not an FSL-MRS basis file"),
    ):
        with pytest.raises(BasisError, match=message):
            Basis.load(tmp_path, keep=["NAA", left])
    with pytest.raises(BasisError, match=r"no metabolite Mac \(given with ignore\); it has "):
        Basis.load(tmp_path, ignore=["Mac"])
    with pytest.raises(BasisError, match="no metabolite is left"):
        Basis.load(tmp_path, keep=["NAA"], ignore=["NAA"])


def test_a_choice_does_not_turn_the_frequency_axis(sim_basis, tmp_path):
    """Its direction is that of most spectra of the file, chosen or not."""
    whole = Basis.load(sim_basis.save(tmp_path))
    for name in whole.names:
        one = Basis.load(tmp_path, keep=[name])
        np.testing.assert_array_equal(one.fids[0], whole.fids[whole.names.index(name)])


def test_spectra_of_zeros_are_left_out_with_a_note(small, tmp_path):
    fids = small.fids.copy()
    small.save(tmp_path / "set")
    for name in ("Cr", "Lac"):
        content = json.loads((tmp_path / "set" / f"{name}.json").read_text())
        content["basis"]["basis_re"] = content["basis"]["basis_im"] = [0.0] * 512
        (tmp_path / "set" / f"{name}.json").write_text(json.dumps(content))
    fids[[1, 3]] = 0
    for path in (tmp_path / "set", write_lcmodel(tmp_path / "set.BASIS", fids, small.names)):
        basis = Basis.load(path)
        assert basis.names == ("GPC", "NAA")
        assert basis.notes == ("left out, as they are zero everywhere: Cr, Lac",)
        assert not basis.conjugated
        with pytest.raises(BasisError, match="zero everywhere"):
            Basis.load(path, keep=["Cr"])


def test_rounding_of_a_difference_is_no_spectrum(small, tmp_path, rng):
    fids = small.fids.copy()
    fids[1] = 1e-12 * (rng.normal(size=512) + 1j * rng.normal(size=512))
    basis = Basis.load(write_lcmodel(tmp_path / "set.BASIS", fids, small.names))
    assert basis.notes == (f"left out, as they are zero everywhere: {small.names[1]}",)


# ---- tolerances


def test_lengths_are_compared_by_the_dwell_time(small):
    # A header in single precision, and a dwell time of six digits: 1024 ms are 1024 ms.
    for dwelltime, other in ((5e-4, float(np.float32(5e-4))), (0.000207357807, 0.000207358), (1 / 1200, 0.000833333)):
        for one, two in ((dwelltime, other), (other, dwelltime)):
            basis = dataclasses.replace(small, fids=lines([2.01] * 4, n=2048, dwelltime=one), dwelltime=one)
            np.testing.assert_allclose(basis.resampled(two, 2048), basis.fids, atol=1e-9)
    with pytest.raises(BasisError, match="covers"):
        small.resampled(small.dwelltime, 513)


def test_files_that_differ_by_rounding_belong_together(small, tmp_path):
    small.save(tmp_path)
    near = dataclasses.replace(small.select(["Lac"]), dwelltime=small.dwelltime * (1 + 1e-4), spec_freq_mhz=123.201)
    near.save(tmp_path)
    assert Basis.load(tmp_path).dwelltime == small.dwelltime
    # One that says no nucleus takes that of the others.
    for name in ("Cr", "NAA"):
        content = json.loads((tmp_path / f"{name}.json").read_text())
        del content["basis"]["basis_nucleus"]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert Basis.load(tmp_path).nucleus == "1H"
    dataclasses.replace(near, dwelltime=small.dwelltime * (1 + 1e-3)).save(tmp_path)
    with pytest.raises(BasisError, match="dwell time, frequency or length"):
        Basis.load(tmp_path)


# ---- files of other programs


def test_files_that_other_systems_leave(small, tmp_path):
    small.save(tmp_path)
    (tmp_path / "._NAA.json").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    (tmp_path / "Cr.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "Cr.json").read_bytes())
    np.testing.assert_allclose(Basis.load(tmp_path).fids, small.fids[np.argsort(small.names)], atol=1e-9)


def test_json_basis_sets_keep_their_echo_time(tmp_path):
    basis = simulate_basis(["NAA", "Cr", "GPC"], te_ms=68.0, n_points=64)
    assert basis.echo_time_s == pytest.approx(0.068)
    assert Basis.load(basis.save(tmp_path / "a")).echo_time_s == pytest.approx(0.068)
    assert simulate_basis(["NAA"], sequence="fid", n_points=64).echo_time_s is None
    for bad, found in (({"EchoTime": "x"}, None), ({"EchoTime": 0.03}, None), ([], None)):
        content = json.loads((tmp_path / "a" / "NAA.json").read_text())
        (tmp_path / "a" / "NAA.json").write_text(json.dumps({**content, "meta": bad}))
        assert Basis.load(tmp_path / "a").echo_time_s is found  # of another kind, or another than the rest's


def test_simulated_data_have_the_echo_time_of_their_basis_set():
    basis = simulate_basis(["NAA", "Cr", "GPC", "Glu", "Ins"], te_ms=68.0, n_points=256)
    for te_ms, expected in ((None, 0.068), (30.0, 0.03)):
        assert simulate_svs(basis, transients=1, te_ms=te_ms).data.header["EchoTime"] == pytest.approx(expected)
        assert simulate_spectra(basis, n=1, te_ms=te_ms).data.header["EchoTime"] == pytest.approx(expected)
    without = dataclasses.replace(basis, echo_time_s=None)
    assert simulate_spectra(without, n=1).data.header["EchoTime"] == pytest.approx(0.03)


def test_spectra_of_recipes_are_those_of_protons():
    basis = dataclasses.replace(simulate_basis(["NAA", "Cr", "GPC", "PCr"], n_points=64, te_ms=30), nucleus="31P")
    with pytest.raises(OptionError, match="is for 31P; recipes are 1H"):
        simulate_spectra(basis, n=1)


def test_noise_is_not_turned_round(sim_basis):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((40, 2048)) + 1j * rng.standard_normal((40, 2048))
    assert not any(detect_conjugation(one, sim_basis.axes.with_points(2048)) for one in noise)
    assert not detect_conjugation(noise, sim_basis.axes.with_points(2048))
