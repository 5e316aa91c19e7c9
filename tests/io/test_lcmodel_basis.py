"""LCModel's basis files in the dialects that programs write: one set of numbers, whatever the dialect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.errors import BasisError
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.lcmodel_basis import fortran_numbers, namelists

N_POINTS, NAMES, SHIFTS = 32, ("Cr", "NAA", "GPC+PCh"), (0, 3, -2)
SPECTRA = np.round(np.random.default_rng(0).uniform(-9.9, 99.9, (3, 2 * N_POINTS)), 5)
# Numbers with exponents of every kind, and a few that fill their columns.
SPECTRA[0, :6] = -1.23456, 12.34567, 99.99999, -9.99999, 0.0, 1e-05


def exact(value, letter):
    """A number of at most seven digits, as text with an exponent."""
    return f"{value:.6E}".replace("E", letter)


LAYOUTS = {
    # name: (FMTBAS, numbers in a line, number -> text, text between two)
    "columns of E": ("(6E15.6)", 6, lambda v: f"{exact(v, 'E'):>15}", ""),
    "columns of D": ("(6D15.6)", 6, lambda v: f"{exact(v, 'D'):>15}", ""),
    "small letters": ("(2E15.6)", 2, lambda v: exact(v, "e"), "  "),
    "small d": ("(2E15.6)", 2, lambda v: exact(v, "d"), " "),
    "commas": ("(2E15.6)", 4, lambda v: exact(v, "E"), ", "),
    "touching by sign": ("(6E13.6)", 6, lambda v: f"{exact(v, 'E'):>13}", ""),
    "touching": ("(8F8.5)", 8, lambda v: f"{v:8.5f}", ""),
    "touching, in brackets": ("(1P, 4(1X, F8.5, F8.5))", 8, None, ""),
    "exponent without a letter": ("(4E17.6)", 4, lambda v: f"{f'{v:.6E}'[:-3] + v_exponent(v):>17}", ""),
}


def v_exponent(value):
    exponent = int(f"{value:.6E}".split("E")[1])
    return f"{exponent:+04d}"


def rows(layout, values):
    form, count, write, between = LAYOUTS[layout]
    for start in range(0, len(values), count):
        part = values[start : start + count]
        if write is None:
            yield "".join(" " + "".join(f"{v:8.5f}" for v in part[i : i + 2]) for i in range(0, len(part), 2))
        else:
            yield between.join(write(v) for v in part)


def namelist(style, name, values):
    """One namelist in a style: (opening, end, where the end stands, line layout, case, comma, quote)."""
    mark, end, place, layout, capitals, comma, quote = style
    words = []
    for key, value in values.items():
        key = key if capitals else key.lower()
        text = quote + value + quote if isinstance(value, str) else str(value)
        words.append(
            {"spaced": f"{key} = {text}", "tight": f"{key}={text}", "two lines": f"{key} =\n {text}"}[layout[0]]
        )
    separator = {"lines": f"{comma}\n ", "one line": ", "}[layout[1]]
    body = separator.join(words)
    start = f" {mark}{name if capitals else name.lower()}" + {"lines": "\n ", "one line": " "}[layout[1]]
    stop = {"own line": "\n ", "behind": " ", "touching": "" if end[0] in "$&" else " "}[place] + end
    return start + body + stop


def text_of(style, layout, newline="\n"):
    out = [
        "A line that some programs write first",
        namelist(style, "SEQPAR", {"FWHMBA": 0.02, "HZPPPM": 123.2, "SEQ": "PRESS"}),
        namelist(
            style,
            "BASIS1",
            {"IDBASI": "it is 3 T / 30 ms, $END, x=1", "FMTBAS": LAYOUTS[layout][0], "BADELT": 5e-4,
             "NDATAB": N_POINTS},
        ),
    ]  # fmt: skip
    for name, shift, values in zip(NAMES, SHIFTS, SPECTRA):
        out.append(namelist(style, "NMUSED", {"FILERAW": f"/home/{name}/RAW", "PPMAPP": "0.5 -0.5", "XTRASH": 0.0}))
        out.append(namelist(style, "BASIS", {"ID": name, "METABO": name, "CONC": 1.0, "ISHIFT": shift}))
        out.extend(rows(layout, values))
    return newline.join("\n".join(out).split("\n")) + newline


USUAL = ("$", "$END", "own line", ("spaced", "lines"), True, ",", "'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dialects")


@pytest.fixture(scope="module")
def expected(folder):
    path = folder / "usual.basis"
    path.write_text(text_of(USUAL, "columns of E"), encoding="utf-8")
    basis = Basis.load(path)
    assert basis.names == tuple(sorted(NAMES))
    spec = SPECTRA[:, 0::2] + 1j * SPECTRA[:, 1::2]
    fids = np.stack([np.fft.ifft(np.roll(row, -shift)).conj() for row, shift in zip(spec, SHIFTS)])
    fids = fids[np.argsort(NAMES)]
    np.testing.assert_allclose(basis.fids, fids.conj() if basis.notes else fids, atol=1e-12)
    return basis


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    style=st.tuples(
        st.sampled_from("$&"),
        st.sampled_from(["$END", "&END", "/", "$", "&", "$end"]),
        st.sampled_from(["own line", "behind", "touching"]),
        st.tuples(st.sampled_from(["spaced", "tight", "two lines"]), st.sampled_from(["lines", "one line"])),
        st.booleans(),
        st.sampled_from([",", "", " ,", ", ! a comment"]),
        st.sampled_from("'\""),
    ),
    layout=st.sampled_from(sorted(LAYOUTS)),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_one_basis_in_all_dialects(style, layout, newline, mark, folder, expected):
    path = folder / "dialect.BASIS"
    path.write_bytes(mark + text_of(style, layout, newline).encode())
    basis = Basis.load(path)
    assert basis.names == expected.names
    assert (basis.dwelltime, basis.spec_freq_mhz) == (expected.dwelltime, expected.spec_freq_mhz)
    np.testing.assert_array_equal(basis.fids, expected.fids)


@pytest.mark.parametrize(
    "change",
    [
        ("'GPC+PCh'", "GPC+PCh"),
        ("ID = 'GPC+PCh',\n METABO = 'GPC+PCh'", "ID = 'GPC+PCh',\n METABO = 'GPC+PCh"),
        ("ID = 'NAA',\n METABO = 'NAA'", "ID = 'NAA'"),
        ("BADELT = 0.0005", "BADELT = 5.D-4"),
        ("BADELT = 0.0005", "badelt(1) = .5e-3"),
        ("FWHMBA = 0.02", "FWHMBA ="),
        ("'PRESS'", "'Rolf's PRESS'"),
        ("'PRESS'", "'Rolf''s PRESS, METABO = ''Ala'''"),
        ("'PRESS'", "'PRESS\n of two lines'"),
        ("ISHIFT = 3\n $END", "ISHIFT = 3"),
        ("ISHIFT = 3\n $END", "ISHIFT = 3 /\n $END"),
        ("HZPPPM = 123.2", "HZPPPM = 123200000.0"),
        ("XTRASH = 0.0\n $END\n $BASIS", "XTRASH = 0.0 $END $BASIS"),
        (f"NDATAB = {N_POINTS}", "NDATAB = 2048"),
    ],
)
def test_small_departures(change, folder, expected):
    usual = text_of(USUAL, "columns of E")
    assert change[0] in usual
    path = folder / "departure.basis"
    path.write_text(usual.replace(*change), encoding="utf-8")
    if change[1] == "ISHIFT = 3":
        # Without its end a namelist swallows the numbers.
        with pytest.raises(BasisError, match="NAA"):
            Basis.load(path)
        return
    basis = Basis.load(path)
    assert basis.names == expected.names
    np.testing.assert_array_equal(basis.fids, expected.fids)


def test_real_files(testdata):
    for file, shape, dwelltime, frequency in (
        ("lcmodel_test/3t.basis", (17, 1024), 5e-4, 127.7861),
        ("basis_more/slaser_123_mhz.basis", (29, 2047), 0.0001666667, 123),
        ("basis_more/basis_siemens_special9.basis", (22, 4096), 0.000166600003, 298),
        ("siemens_press30/press_30ms_3T.basis", (17, 4944), 0.000207357807, 123.199997),
    ):
        if not (testdata / file).is_file():
            continue
        basis = Basis.load(testdata / file)
        assert basis.fids.shape == shape, file
        assert (basis.dwelltime, basis.spec_freq_mhz) == (dwelltime, frequency)


def test_what_is_missing_is_said(folder):
    usual = text_of(USUAL, "columns of E")
    for change, message in (
        (("HZPPPM", "HZ"), "no HZPPPM"),
        (("BADELT = 0.0005", "BADELT = five"), "BADELT is 'five'"),
        (("BADELT = 0.0005", "BADELT = nan"), "BADELT is 'nan'"),
        (("HZPPPM = 123.2", "HZPPPM = 0"), "HZPPPM is 0"),
        (("9.999999E+01", "************"), "the spectrum of Cr holds something other than numbers"),
        (("9.999999E+01", ""), r"the spectrum of Cr differs in length \(63 numbers, 64 are needed\)"),
        (("METABO", "MET"), None),
        (("ISHIFT = 3", "ISHIFT = x"), "ISHIFT is 'x'"),
    ):
        path = folder / "broken.basis"
        path.write_text(usual.replace(*change), encoding="utf-8")
        if message is None:
            assert Basis.load(path).names == tuple(sorted(NAMES))
            continue
        with pytest.raises(BasisError, match=message):
            Basis.load(path)


def test_a_file_that_is_cut_short(folder):
    usual = text_of(USUAL, "columns of E")
    path = folder / "cut.basis"
    path.write_text(usual[:-100], encoding="utf-8")
    with pytest.raises(BasisError, match=r"GPC\+PCh is incomplete .* copy the file again"):
        Basis.load(path)
    # A set of one: NDATAB alone says that numbers are missing.
    one = usual[: usual.index(" $NMUSED", usual.index("METABO = 'Cr'"))]
    path.write_text(one, encoding="utf-8")
    assert Basis.load(path).names == ("Cr",)
    path.write_text(one[:-100], encoding="utf-8")
    with pytest.raises(BasisError, match="Cr is incomplete"):
        Basis.load(path)


def test_namelists_of_a_text():
    got = list(namelists(" &A x=1, 2*3. y='a/b' / junk\n1 2\n$B(1)\n Z(2,1) = (2E1.0,3X) $END\n"))
    assert got == [("A", {"X": "1 2*3.", "Y": "a/b"}, "1 2\n"), ("B", {"Z": "(2E1.0,3X)"}, "")]


def test_numbers_as_fortran_writes_them():
    got = fortran_numbers(["1D2", "-1.5d-3", "1.5-103", "2.+100", ".5", "3E0"])
    np.testing.assert_array_equal(got, [1e2, -1.5e-3, 1.5e-103, 2e100, 0.5, 3])
    with pytest.raises(ValueError):
        fortran_numbers(["1.2.3"])
