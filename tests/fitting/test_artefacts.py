"""Every artefact is seen, and its remedy named; realistic spectra have none."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting import artefacts
from fsl_mrs_dl.fitting.data import choose_basis, fit_data
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.simulation.acquisition import simulate_basis

IN_VIVO = FitOptions(spectral_model="in-vivo", device="cpu")
AXES = Axes(2048, 1 / 2000, 123.2)
LINES = ((2.01, 1.0), (3.03, 0.8), (3.2, 0.6))


def line(ppm, fwhm_hz, height):
    time = AXES.time()
    return fid_to_spec(height * np.exp((2j * np.pi * AXES.ppm_to_hz(ppm) - np.pi * fwhm_hz) * time))


def made(extra=0, **changes):
    """A spectrum of three singlets that is fitted exactly, but for ``extra``."""
    metabolites = line(2.01, 5, 1.0) + line(3.03, 5, 0.8) + line(3.2, 5, 0.6)
    window = AXES.window((0.2, 4.2))
    random = np.random.default_rng(0)
    sd = 0.02 * np.abs(metabolites).max()
    noise = sd * (random.standard_normal(2048) + 1j * random.standard_normal(2048))
    part = metabolites[slice(*window)]
    values = {"others": 0 * part, "baseline": 0 * part, "in_vivo": True, "has_macromolecules": True} | changes
    return artefacts.FittedSpectrum(AXES, window, metabolites + extra + noise, part, noise_sd=sd, **values)


def kinds(one):
    return [artefact.kind for artefact in artefacts.artefacts_of(one)]


def late(ppm, at_s, width_s, height):
    time = AXES.time()
    return fid_to_spec(height * np.exp(2j * np.pi * AXES.ppm_to_hz(ppm) * time - ((time - at_s) / width_s) ** 2 + 0.3j))


def test_a_spectrum_without_artefacts_has_none():
    assert kinds(made()) == []


def test_artefacts_of_many_spectra_are_a_line_each_kind():
    """`run` printed the lipids of every spectrum, and not of which."""

    def lipid(height):
        return artefacts.Artefact("lipid", f"{height} times as high as creatine", "`mm` tumour has strong lipids")

    water = artefacts.Artefact("residual water", "a line at 4.7 ppm", "remove it")
    found = {0: [], 3: [lipid(2)], 4: [lipid(5), water], 7: [lipid(3)]}
    assert artefacts.artefact_lines(found, artefacts.option_spelling) == [
        "Lipid: 2 times as high as creatine. --mm tumour has strong lipids. (3 of 4 spectra; figures of the first)",
        "Residual water: a line at 4.7 ppm. Remove it. (1 of 4 spectra)",
    ]
    lines = artefacts.artefact_lines(found, artefacts.option_spelling, lambda rows: f"x {', '.join(map(str, rows))}")
    assert [line.partition(" (")[2] for line in lines] == ["x 3, 4, 7; figures of the first)", "x 4)"]
    alone = artefacts.artefact_lines({0: [lipid(2)]}, artefacts.option_spelling)
    assert alone == ["Lipid: 2 times as high as creatine. --mm tumour has strong lipids."]


def test_every_spectrum_of_a_file_is_looked_at(monkeypatch):
    """A third of 48 was called good without a look."""
    from types import SimpleNamespace

    from fsl_mrs_dl.results import fit_results

    monkeypatch.setattr(fit_results, "fitted_spectrum", lambda fit, row: made())
    monkeypatch.setattr(fit_results, "artefacts_of", lambda one: [])
    fit = SimpleNamespace(fitted=np.ones(48, bool), empty=np.zeros(48, bool), fids=0, model=SimpleNamespace(axes=AXES))
    results = SimpleNamespace(fit=fit, artefacts_before=[], is_edited=False)
    assert len(FitResults.artefacts.func(results)) == 48


ARTEFACTS = [
    (made(line(4.66, 10, 11.0)), "residual water", "ppmlim"),
    (made(line(1.3, 20, 8.0), in_vivo=False), "lipid", "spectral_model"),
    (made(late(3.6, 0.15, 0.03, 0.6)), "spurious echo", "ppmlim"),
    (made(line_phase=0.2), "eddy currents", "h2o"),
    (made(own_shift_ppm={"Tau": -0.7, "NAA": 0.01}), "line out of its place", "free_shift"),
    (made(own_width_ppm={"MM14": 1.2}, groups_free=True), "line out of its place", "metab_groups"),
    (made(line(0.92, 25, 1.0), has_macromolecules=False, in_vivo=False), "missing macromolecules", "`mm`"),
    (made(own_shift_sd={"Glu": 0.5, "Ins": -6.0}), "basis set unlike the data", "basis"),
    (made(own_shift_sd={"Glu": 0.5, "Lip13": -6.0}), "macromolecules or lipids unlike the model's", "mm"),
    (made(phi1_deg_per_ppm=-40.0), "first-order phase", "truncate"),
]


@pytest.mark.parametrize("one, kind, remedy", ARTEFACTS)
def test_an_artefact_is_named_with_its_remedy(one, kind, remedy):
    (artefact,) = artefacts.artefacts_of(one)
    assert artefact.kind == kind and remedy in artefact.remedy and artefact.text().count("`") == 0


@pytest.mark.parametrize("one, kind, remedy", ARTEFACTS)
def test_remedies_of_edited_data_are_options_that_their_fits_have(one, kind, remedy):
    """They named `mm` tumour, eddy currents by `h2o`, and a model that combinations are not fitted with."""
    (artefact,) = artefacts.artefacts_of(replace(one, edited=True))
    assert artefact.kind == kind
    assert not any(word in artefact.remedy for word in ("tumour", "`h2o`", "`spectral_model`", "give `mm`", "(`mm`)"))


@pytest.mark.parametrize(
    "one, window",
    [
        (made(late(3.6, 0.15, 0.03, 0.6)), (0.2, 3.45)),
        (made(late(0.8, 0.15, 0.03, 0.6)), (0.95, 4.2)),
        (made(late(2.5, 0.15, 0.03, 0.6)), None),
        (made(line(4.66, 10, 11.0)), (0.2, 3.85)),
        (made(line(4.66, 10, 30.0)), None),
        (made(line(1.3, 20, 8.0), edited=True), None),
    ],
)
def test_a_remedy_names_the_window_that_leaves_the_artefact_out(one, window):
    """It was `ppmlim` without limits."""
    (artefact,) = artefacts.artefacts_of(one)
    assert artefact.window == window
    words = "" if window is None else f"`ppmlim` {window[0]:g} {window[1]:g}"
    assert words in artefact.remedy and ("`ppmlim`" in artefact.remedy) == bool(words)


def test_split_lines_and_a_bad_beginning_are_no_echo():
    """Two copies 8 Hz apart, lost first points and misfits that are large from the beginning were called echoes."""
    one, time = made(), AXES.time()
    fid = sum(size * np.exp((2j * np.pi * AXES.ppm_to_hz(ppm) - 5 * np.pi) * time) for ppm, size in LINES)
    # To fourth order alike at the beginning, as the best fit of one broad line is.
    beat, broad = fid_to_spec(fid * np.cos(8 * np.pi * time)), fid_to_spec(fid * np.exp(-0.5 * (8 * np.pi * time) ** 2))
    noise = one.spectrum - fid_to_spec(fid)
    double = replace(one, spectrum=beat + noise, metabolites=broad[slice(*one.window)])
    assert "split lines" in kinds(double) and "spurious echo" not in kinds(double)
    late = np.where(time > 0.05, 1.0, 0.0) - np.where(time < 0.04, 1.3, 0.0)
    missed = replace(one, spectrum=one.spectrum + 0.5 * fid_to_spec(fid * late))
    assert "spurious echo" not in kinds(missed)


def test_the_edge_of_a_filter_is_no_echo():
    assert kinds(made(late(3.6, 0.15, 0.03, 0.6), filtered=True)) == []


def test_a_singlet_with_a_phase_of_its_own_is_seen():
    one = made()
    window = slice(*one.window)
    naa = line(2.01, 5, 1.0)
    turned = replace(one, spectrum=one.spectrum + naa * (np.exp(0.7j) - 1))
    assert kinds(turned) == ["phase that no spectrum of the basis set has"]
    assert abs(artefacts.singlet_phases(turned)["NAA"] - 40) < 5 and naa[window].size


def test_a_water_reference_silences_eddy_currents():
    assert kinds(made(line_phase=0.2, has_water_reference=True)) == []


def test_macromolecules_that_a_fit_has_not_are_no_eddy_currents():
    without = made(line(0.92, 25, 1.0), has_macromolecules=False, line_phase=0.2)
    assert kinds(without) == ["missing macromolecules"]


@pytest.fixture(scope="module")
def basis():
    return simulate_basis(
        sequence="press", te_ms=35.0, field_t=3.0, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
    )


@pytest.mark.parametrize("field_t, mhz", [(1.5, 64), (7.0, 297)])
def test_a_basis_set_of_another_field_betrays_itself(basis, field_t, mhz):
    other = simulate_basis(
        sequence="press", te_ms=35.0, field_t=field_t, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
    )
    axes = replace(other.axes, spec_freq_mhz=basis.spec_freq_mhz)
    # The same spectrum in ppm, as a file with a wrong frequency has it.
    axes = replace(axes, dwelltime=other.dwelltime * other.spec_freq_mhz / basis.spec_freq_mhz)
    assert artefacts.field_mismatch(basis.names, basis.fids, basis.axes) is None
    found = artefacts.field_mismatch(other.names, other.fids, axes)
    assert found.kind == "wrong field of the basis set" and f"about {mhz}" in found.seen or f" {mhz - 1} " in found.seen


def test_echo_times_are_compared_where_both_are_known():
    assert artefacts.echo_time_mismatch(None, 0.03) is None and artefacts.echo_time_mismatch(0.03, 0.031) is None
    assert "35 ms" in artefacts.echo_time_mismatch(0.035, 0.03).seen


def test_python_warns_of_mirrored_data(basis):
    time = np.arange(1, 1025) / 2000
    axes = Axes(1024, 1 / 2000, basis.spec_freq_mhz)
    fids = sum(np.exp((2j * np.pi * axes.ppm_to_hz(ppm) - 15) * time) for ppm in (2.01, 3.03, 3.2))[None]
    options = {"dwelltime": 1 / 2000, "spec_freq_mhz": basis.spec_freq_mhz, "device": "cpu", "init": "classical"}
    with pytest.warns(UserWarning, match="Mirrored data.*conj"):
        fsl_mrs_dl.quantify(fids.conj(), basis, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fsl_mrs_dl.quantify(fids, basis, **options)


def test_python_reverses_mirrored_data_as_the_command_does(simulate, sim_basis, tmp_path):
    fids = simulate(3, snr=50, seed=2).fids
    options = {"dwelltime": 5e-4, "spec_freq_mhz": 123.2, "device": "cpu", "init": "classical"}
    expected = fsl_mrs_dl.quantify(fids, sim_basis, **options)
    with pytest.warns(UserWarning, match="was reversed.*conjugate=False"):
        reversed_fit = fsl_mrs_dl.quantify(fids.conj(), sim_basis, **options)
    np.testing.assert_array_equal(reversed_fit.params, expected.params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = fsl_mrs_dl.quantify(fids.conj(), sim_basis, conjugate=True, **options)
    np.testing.assert_array_equal(chosen.params, expected.params)
    with pytest.warns(UserWarning, match="Mirrored data"):
        as_it_is = fsl_mrs_dl.quantify(fids.conj(), sim_basis, conjugate=False, **options)
    assert (as_it_is.conc != expected.conc).any()
    data = nifti.MrsData(fids.conj()[:, None, None], 5e-4, 123.2, "1H")
    of_file = fit_data(data, sim_basis, FitOptions(device="cpu", init="classical"))
    assert of_file.conjugated
    np.testing.assert_array_equal(of_file.fit.params, expected.params)


def test_artefact_sets_of_the_challenge(testdata):
    """Sets 22 to 28: eddy currents, two with water, four with lipids; the others have none."""
    folder = testdata / "fitting_challenge_2016"
    data = nifti.load(folder / "all28.nii.gz")
    data = replace(data, fids=data.fids[..., [0, 10, 20, *range(21, 28)]])
    basis = choose_basis(Basis.load(folder / "press3T_30ms.BASIS"), data)
    results = FitResults.with_options(fit_data(data, basis, IN_VIVO).fit, data, IN_VIVO)
    found = [[artefact.kind for artefact in results.artefacts[row]] for row in range(10)]
    assert found[:3] == [[], [], []]
    assert found[3:] == [["eddy currents"], ["residual water"], ["residual water"], *[["lipid"]] * 4]
    assert (results.verdict[:3] == 0).all() and (results.verdict[3:] > 0).all()


@pytest.mark.parametrize("n_points", [16, 32, 64])
def test_short_fids_are_looked_at(n_points):
    axes, random = Axes(n_points, 1 / 2000, 123.2), np.random.default_rng(1)
    window = axes.window((0.2, 4.2))
    spectrum = random.standard_normal(n_points) + 1j * random.standard_normal(n_points)
    part = spectrum[slice(*window)]
    for in_vivo in (True, False):
        artefacts.artefacts_of(
            artefacts.FittedSpectrum(axes, window, spectrum, part, 0 * part, 0 * part, 0.1, in_vivo, not in_vivo)
        )
