"""``align`` and ``quantify`` from Python on everything but FSL-MRS's own objects, and starts that are known
beforehand."""

from __future__ import annotations

import doctest
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import fsl_mrs_dl
from fsl_mrs_dl import align, api, quantify
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import BasisError, DataError, OptionError
from fsl_mrs_dl.core.fids import check_decay
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting import quantification
from fsl_mrs_dl.fitting import quantify as quantify_module
from fsl_mrs_dl.fitting.automatic_initialisation import WithKnownParameters
from fsl_mrs_dl.fitting.initialisation import ClassicalSearch
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.preproc import align as align_module
from fsl_mrs_dl.preproc import similarity
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.registration import alignment

EXAMPLE = Path(__file__).parents[1] / "fsl_mrs_dl" / "data" / "example"
GRID = {"dwelltime": 1 / 2000, "spec_freq_mhz": 123.2}
AXES = Axes(1024, **GRID)
ON_CPU = GRID | {"device": "cpu"}
pytestmark = pytest.mark.usefixtures("one_thread")


# -- the names -----------------------------------------------------------------------------------------------------


def test_the_functions_stay_functions_once_every_module_was_imported():
    """A module of the same name would take a function's place as soon as anything imports it."""
    code = (
        "import importlib, pkgutil, fsl_mrs_dl\n"
        "for module in pkgutil.iter_modules(fsl_mrs_dl.__path__):\n"
        "    if module.name != 'fslmrs':\n"
        "        importlib.import_module(f'fsl_mrs_dl.{module.name}')\n"
        "from fsl_mrs_dl import align, quantify, api\n"
        "assert callable(align) and callable(quantify)\n"
        "assert fsl_mrs_dl.align is align is api.align and fsl_mrs_dl.quantify is quantify is api.quantify\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {module.name for module in pkgutil.iter_modules(fsl_mrs_dl.__path__)}
    assert not names & {"align", "quantify"}


def test_the_package_lists_its_functions_and_knows_no_others():
    assert {"align", "quantify", "__version__"} <= set(dir(fsl_mrs_dl)) and set(fsl_mrs_dl.__all__) <= set(
        dir(fsl_mrs_dl)
    )
    assert dir(fsl_mrs_dl) == sorted(dir(fsl_mrs_dl))
    with pytest.raises(AttributeError, match="fsl_mrs_dl.*quantise"):
        fsl_mrs_dl.quantise  # noqa: B018
    with pytest.raises(ImportError, match="quantise"):
        exec("from fsl_mrs_dl import quantise")


def test_the_examples_in_the_docstrings_run():
    found = doctest.testmod(api)
    assert found.attempted >= 5 and not found.failed


def test_nothing_of_fsl_mrs_is_loaded():
    """Also where it is installed: objects are told by their class's name."""
    code = (
        "import sys, numpy as np\nfrom fsl_mrs_dl import align, quantify\nfrom fsl_mrs_dl.simulation.acquisition import"
        " simulate_basis\nbasis = simulate_basis(['NAA', 'Cr', 'PCr'], n_points=256, te_ms=30)\ngrid = {'dwelltime':"
        " basis.dwelltime, 'spec_freq_mhz': basis.spec_freq_mhz}\nfids = basis.fids.sum(0) * np.exp(-20 *"
        " np.arange(256) / 2000) * np.ones((3, 1))\nalign(fids, **grid)\nquantify(fids, basis, **grid)\nloaded = [name"
        " for name in sys.modules if name.split('.')[0] == 'fsl_mrs']\nassert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- align ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def transients(simulate):
    """Twelve transients of one spectrum that drift: ``(12, 1024)``, and their shifts."""
    truth = simulate(12, snr=40, seed=3, alike=True)
    shift, time = np.linspace(-4, 4, 12), np.arange(1024) / 2000
    return truth.fids * np.exp(1j * (2 * np.pi * shift[:, None] * time + 0.1 * shift[:, None])), shift


def test_transients_of_an_array_are_aligned(transients):
    fids, shift = transients
    before = fids.copy()
    aligned, found = align(fids, **GRID)
    assert isinstance(found, alignment.Alignment) and found.shift_hz.shape == found.phase_deg.shape == (12,)
    error = (found.shift_hz - shift) / found.shift_sd_hz
    assert np.abs(error - error.mean()).max() < 4.5 and (found.flag == "ok").all()
    assert aligned.shape == fids.shape and np.iscomplexobj(aligned)
    np.testing.assert_array_equal(aligned, found.apply(fids))
    np.testing.assert_array_equal(fids, before)
    correlation = similarity.mean_pairwise_correlation
    assert correlation(aligned, AXES) > correlation(fids, AXES)


def test_arrays_of_sets_and_coils_keep_their_shape(transients):
    fids, _ = transients
    coils = np.stack([fids, 0.5j * fids])
    one = align(coils, **GRID)
    assert one[0].shape == (2, 12, 1024) and one[1].shift_hz.shape == (12,)
    sets = np.stack([coils, coils[:, ::-1]])
    aligned, found = align(sets, **GRID)
    assert aligned.shape == (2, 2, 12, 1024) and found.shift_hz.shape == (2, 12)
    # Where the iteration ends depends a little on who comes first.
    sd = one[1].shift_sd_hz.mean()
    np.testing.assert_allclose(found.shift_hz[0], one[1].shift_hz, atol=0.05 * sd)
    np.testing.assert_allclose(found.shift_hz[1], found.shift_hz[0, ::-1], atol=0.05 * sd)


def test_options_of_an_alignment_of_arrays_are_passed_on(transients):
    fids, _ = transients
    options = {"ppmlim": (1.8, 3.4), "reference": fids[3], "exact_reference": True, "n_iter": 3}
    plain = alignment.align_transients(fids, AXES, **options)
    _, found = align(fids, **GRID, **options)
    np.testing.assert_array_equal(found.shift_hz, plain.shift_hz)
    assert found.shift_hz[3] == pytest.approx(0, abs=1e-6)


def test_arrays_of_torch_and_of_single_precision_are_arrays(transients):
    fids, _ = transients
    aligned, found = align(torch.as_tensor(fids), **GRID)
    assert isinstance(aligned, np.ndarray)
    np.testing.assert_allclose(found.shift_hz, align(fids, **GRID)[1].shift_hz, atol=1e-9)
    single, _ = align(fids.astype(np.complex64), **GRID)
    assert np.iscomplexobj(single)
    np.testing.assert_allclose(single, aligned, atol=1e-3 * np.abs(aligned).max())


def test_data_with_a_header_are_aligned_as_the_command_does():
    data = nifti.load(EXAMPLE / "svs.nii.gz")
    before = data.fids.copy()
    aligned, found = align(data, ppmlim=(0.5, 4.0), device="cpu")
    expected = align_module.align_data(data, AlignOptions(ppmlim=(0.5, 4.0), device="cpu"))
    assert isinstance(aligned, nifti.MrsData) and aligned.header == data.header and aligned.dim_tags == data.dim_tags
    np.testing.assert_array_equal(aligned.fids, expected.data.fids)
    np.testing.assert_array_equal(found.shift_hz, expected.alignment.shift_hz)
    np.testing.assert_array_equal(data.fids, before)


@pytest.fixture
def nifti_mrs_object(tmp_path):
    """An object of the nifti-mrs package, with a step in its header already."""
    from nifti_mrs.nifti_mrs import NIFTI_MRS

    path = nifti.save(tmp_path / "svs.nii.gz", nifti.load(EXAMPLE / "svs.nii.gz"), method="Eddy current correction")
    return NIFTI_MRS(path)


def test_nifti_mrs_objects_come_back_corrected_and_remember_it(nifti_mrs_object, tmp_path):
    image = nifti_mrs_object
    before, steps = image[:].copy(), list(image.hdr_ext["ProcessingApplied"])
    aligned, found = align(image, ppmlim=(0.5, 4.0))
    expected = align_module.align_data(nifti.load(EXAMPLE / "svs.nii.gz"), AlignOptions(ppmlim=(0.5, 4.0)))
    assert type(aligned) is type(image) and aligned.shape == image.shape and aligned.dim_tags == image.dim_tags
    np.testing.assert_array_equal(nifti.from_image(aligned).fids, expected.data.fids)
    np.testing.assert_array_equal(found.shift_hz, expected.alignment.shift_hz)
    done = aligned.hdr_ext["ProcessingApplied"]
    assert done[:-1] == steps and done[-1]["Program"] == "FSL-MRS-DL" and "ppmlim=(0.5, 4.0)" in done[-1]["Details"]
    np.testing.assert_array_equal(image[:], before)
    assert image.hdr_ext["ProcessingApplied"] == steps
    aligned.save(tmp_path / "aligned.nii.gz")
    np.testing.assert_array_equal(nifti.load(tmp_path / "aligned.nii.gz").fids, expected.data.fids)


def test_nifti_mrs_objects_without_a_history_get_one(nifti_mrs_object):
    from nifti_mrs.nifti_mrs import NIFTI_MRS

    aligned, _ = align(NIFTI_MRS(EXAMPLE / "svs.nii.gz"))
    assert len(aligned.hdr_ext["ProcessingApplied"]) == 1


def test_nifti_mrs_objects_are_aligned_to_another(nifti_mrs_object):
    from nifti_mrs.tools import split

    one, _ = split(nifti_mrs_object, "DIM_DYN", 0)
    _, found = align(nifti_mrs_object, reference=one)
    # Its late noise is turned down in the reference, so that it does not find itself exactly.
    assert abs(found.shift_hz.ravel()[0]) < 0.1 * found.shift_sd_hz.ravel()[0]
    shorter = nifti_mrs_object.copy()
    with pytest.raises(DataError, match="average it first"):
        align(nifti_mrs_object, reference=shorter)
    with pytest.raises(DataError, match="DIM_EDIT"):
        align(nifti_mrs_object, dim="DIM_EDIT")


# -- quantify ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spectra(simulate):
    return simulate(6, snr=60, seed=5).fids


def test_an_array_is_quantified_as_by_the_pipeline(spectra, sim_basis):
    fit = quantify(spectra, sim_basis, **ON_CPU, model="lorentzian", baseline="poly, 1")
    expected = quantify_module.quantify(
        spectra,
        sim_basis,
        Axes(spectra.shape[-1], **GRID),
        FitOptions(device="cpu", model="lorentzian", baseline="poly, 1"),
    )
    assert isinstance(fit, quantification.Quantification) and fit.conc.shape == (6, sim_basis.n_metabs)
    np.testing.assert_array_equal(fit.params, expected.params)


def test_leading_dimensions_become_rows(spectra, sim_basis):
    flat = quantify(spectra, sim_basis, **ON_CPU)
    np.testing.assert_array_equal(quantify(spectra.reshape(3, 1, 2, -1), sim_basis, **ON_CPU).conc, flat.conc)
    assert quantify(spectra[0], sim_basis, **ON_CPU).conc.shape == (1, sim_basis.n_metabs)
    np.testing.assert_array_equal(quantify(torch.as_tensor(spectra), sim_basis, **ON_CPU).conc, flat.conc)
    np.testing.assert_array_equal(quantify(list(spectra), sim_basis, **ON_CPU).conc, flat.conc)


class LikeFslMrs:
    """What ``Basis.from_fsl_mrs`` asks of FSL-MRS's basis object."""

    def __init__(self, basis):
        self.original_basis_array, self.names = basis.fids.T, list(basis.names)
        self.original_dwell, self.cf, self.nucleus = basis.dwelltime, basis.spec_freq_mhz, basis.nucleus
        self.basis_fwhm = [2.0] * basis.n_metabs


def test_a_basis_may_be_a_path_or_an_object(spectra, sim_basis, tmp_path):
    folder = sim_basis.save(tmp_path / "basis")
    expected = quantify(spectra, Basis.load(folder), **ON_CPU)
    for given in (folder, str(folder)):
        np.testing.assert_array_equal(quantify(spectra, given, **ON_CPU).params, expected.params)
    # Files are rounded; the object is not.
    found = quantify(spectra, LikeFslMrs(sim_basis), **ON_CPU)
    np.testing.assert_array_equal(found.params, quantify(spectra, sim_basis, **ON_CPU).params)
    np.testing.assert_allclose(found.conc, expected.conc, rtol=1e-4, atol=1e-4 * expected.conc.max())
    with pytest.raises(BasisError, match="nowhere"):
        quantify(spectra, tmp_path / "nowhere", **ON_CPU)


def test_starters_go_by_name_or_are_given(spectra, sim_basis):
    by_name = quantify(spectra, sim_basis, **ON_CPU, init="classical")
    assert by_name.init == "classical"
    by_itself = quantify(spectra, sim_basis, **ON_CPU)
    assert by_itself.init == "quant-universal and classical"
    np.testing.assert_array_equal(by_itself.params, quantify(spectra, sim_basis, **ON_CPU, init="both").params)
    assert quantify(spectra, sim_basis, **ON_CPU, init="network").init == "quant-universal"
    assert (by_itself.cost <= by_name.cost * (1 + 1e-6)).all()
    wide = quantify(spectra, sim_basis, **ON_CPU, initial_values=ClassicalSearch(max_shift_ppm=0.5))
    np.testing.assert_allclose(wide.cost, by_name.cost, rtol=1e-6)
    with pytest.raises(OptionError, match="oracle.*classical"):
        quantify(spectra, sim_basis, **ON_CPU, init="oracle")


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["dwelltime", "spec_freq_mhz"])
def test_missing_numbers_are_named(transients, spectra, sim_basis, missing):
    rest = {name: value for name, value in GRID.items() if name != missing}
    for call in (lambda: align(transients[0], **rest), lambda: quantify(spectra, sim_basis, **rest)):
        with pytest.raises(OptionError, match=f"^{missing}: is needed.*{missing}=") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_missing_basis_is_named(spectra):
    with pytest.raises(OptionError, match="^basis: is needed"):
        quantify(spectra, **GRID)


@pytest.mark.parametrize("data", [None, "svs.nii.gz", {"fid": 1}, object(), 1.0, np.array(None)])
def test_what_is_no_data_is_refused(data, sim_basis):
    for call in (lambda: align(data, **GRID), lambda: quantify(data, sim_basis, **GRID)):
        with pytest.raises(DataError) as caught:
            call()
        assert "\n" not in str(caught.value) and type(data).__name__ in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        np.ones((4, 1024)),
        np.ones((4, 1024), int),
        np.zeros((4, 1024), complex),
        np.full((4, 1024), np.nan, complex),
        np.zeros((0, 1024), complex),
        np.array([["a", "b"]]),
        [np.ones(1024, complex), np.ones(1000, complex)],
    ],
    ids=["real", "integer", "zero", "NaN", "empty", "words", "ragged"],
)
@pytest.mark.parametrize("job", ["align", "quantify"])
def test_arrays_that_hold_no_fids_are_refused(job, data, sim_basis):
    with pytest.raises(DataError) as caught:
        align(data, **GRID) if job == "align" else quantify(data, sim_basis, **GRID)
    assert "\n" not in str(caught.value)


def test_files_as_objects_are_no_spectra_yet(sim_basis, nifti_mrs_object):
    """Such an object may hold anything: coils, transients; quantify asks for spectra."""
    with pytest.raises(DataError, match=type(nifti_mrs_object).__name__):
        quantify(nifti_mrs_object, sim_basis, **GRID)


UNITS = [
    ("spec_freq_mhz", 127731000.0, "spec_freq_mhz 127731000: is in MHz, 1 to 2000; give 127.731 for 127731000 Hz."),
    ("spec_freq_mhz", 0.1277, "spec_freq_mhz 0.1277: is in MHz, 1 to 2000."),
    ("spec_freq_mhz", np.nan, "spec_freq_mhz nan: is in MHz, 1 to 2000."),
    ("spec_freq_mhz", "3T", "spec_freq_mhz 3T: is in MHz, 1 to 2000."),
    ("dwelltime", 2000, "dwelltime 2000: is in s, 1e-06 to 0.1; give 1/2000 for a bandwidth of 2000 Hz."),
    ("dwelltime", 0.5, "dwelltime 0.5: is in s, 1e-06 to 0.1."),
]


@pytest.mark.parametrize("name, value, message", UNITS)
def test_numbers_in_another_unit_are_named(sim_basis, name, value, message):
    wrong = GRID | {name: value}
    fids = np.ones((3, 1024), complex)
    for call in (
        lambda: align(fids, **wrong),
        lambda: quantify(fids, sim_basis, **wrong),
        lambda: Axes(1024, **wrong),
        lambda: nifti.MrsData(fids.reshape(1, 1, 1, 1024, 3), nucleus="1H", **wrong).axes,
    ):
        with pytest.raises(OptionError) as caught:
            call()
        assert str(caught.value) == message


@pytest.mark.parametrize("ppmlim", [(0.2, 42), (-30, 4.2), (20, 30)])
def test_windows_beyond_the_spectra_are_refused(transients, sim_basis, ppmlim):
    fids = transients[0]
    data = nifti.MrsData(np.moveaxis(fids, 0, -1)[None, None, None], nucleus="1H", dim_tags=("DIM_DYN",), **GRID)
    in_words = " ".join(f"{limit:g}" for limit in ppmlim)
    message = (
        f"ppmlim {in_words}: reaches beyond the spectra of 1H, -3.5 to 12.8 ppm; give limits in ppm between these."
    )
    for call in (
        lambda: align(fids, **GRID, ppmlim=ppmlim),
        lambda: align(data, ppmlim=ppmlim),
        lambda: quantify(fids, sim_basis, **GRID, ppmlim=ppmlim),
        lambda: quantify(fids, sim_basis, **GRID, ppmlim=ppmlim, spectral_model="in-vivo"),
    ):
        with pytest.raises(OptionError) as caught:
            call()
        assert str(caught.value) == message
    # The usual window may be wider than a narrow band, and that of a wide band holds more than signal of the nucleus.
    Axes(1024, 1 / 800, 123.2).check_window((0.2, 4.2))
    with pytest.raises(OptionError, match="-12.0 to 20.0 ppm"):
        Axes(1024, 1 / 20000, 123.2).check_window((0.2, 42))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"internal_ref": ["Foo"]}, "internal_ref Foo: is not fitted"),
        ({"combine": ["NAA+Foo"]}, "combine Foo: is not fitted"),
        ({"echo_time_s": 30}, "echo_time_s 30: is in s, 0 to 1; give 0.03 for 30 ms."),
        ({"mm": "none"}, "mm: does not go with the fsl-mrs model; leave it out, or choose spectral_model in-vivo."),
        ({"spectral_model": "in-vivo", "baseline": "off"}, "baseline: does not go with the in-vivo model"),
        ({"spectral_model": "in-vivo", "network": "quant-universal"}, "network: does not go with the in-vivo model"),
        ({"edit_mode": "difference"}, "edit_mode: is no option here"),
    ],
)
def test_options_that_would_do_nothing_are_refused(spectra, sim_basis, options, message):
    with pytest.raises(OptionError) as caught:
        quantify(spectra, sim_basis, **ON_CPU, **options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_arrays_of_another_order_and_spectra_are_no_fids(simulate, sim_basis):
    fids = np.tile(simulate(8, snr=15, seed=2).fids, (8, 1))
    for call in (lambda: align(fids.T, **GRID), lambda: quantify(fids.T, sim_basis, **GRID)):
        with pytest.raises(DataError, match="1024 rows of 64 points.*time is the last axis; transpose the array"):
            call()
    with pytest.warns(UserWarning, match="^No decay: .*spec_to_fid"):
        check_decay(fid_to_spec(fids))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 64)) + 1j * rng.normal(size=(300, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for good in (fids, fids[0], fids[:, :60], noise, noise[:1], noise[:, :8], np.zeros((2, 64))):
            check_decay(good)


def test_sums_that_were_asked_for_are_in_the_table(spectra, sim_basis):
    total = "+".join(sim_basis.names[:2])
    fit = quantify(spectra[:2], sim_basis, **ON_CPU, combine=[total], init="classical")
    names, conc, sd = fit.table()
    assert names == [*sim_basis.names, total] and conc.shape == sd.shape == (2, len(names))
    np.testing.assert_allclose(conc[:, -1], conc[:, :2].sum(1))
    assert fit.table(())[0] == list(sim_basis.names)


def test_data_of_a_file_are_quantified_with_its_header(spectra, sim_basis):
    header = {"EchoTime": 0.035, "RepetitionTime": 2.0}
    fids = np.moveaxis(spectra[:2], 0, -1)[None, None, None]
    data = nifti.MrsData(fids, nucleus="1H", dim_tags=("DIM_DYN",), header=header, **GRID)
    options = {"init": "classical", "device": "cpu"}
    fit = quantify(data, sim_basis, **options, combine=["+".join(sim_basis.names[:2])])
    np.testing.assert_allclose(fit.conc, quantify(spectra[:2], sim_basis, **GRID, **options).conc, rtol=1e-6)
    assert len(fit.table()[0]) == len(sim_basis.names) + 1
    with pytest.raises(OptionError, match="^dwelltime: is that of the data's header"):
        quantify(data, sim_basis, dwelltime=1 / 2000)
    with pytest.raises(OptionError, match="^water: is no data of a file"):
        quantify(data, sim_basis, water=spectra[:1], spectral_model="in-vivo")
    with pytest.raises(OptionError, match="^basis: is needed"):
        quantify(data)
    coils = nifti.MrsData(fids, nucleus="1H", dim_tags=("DIM_COIL",), **GRID)
    with pytest.raises(DataError, match="several coils; combine them first"):
        quantify(coils, sim_basis)


def test_classes_of_the_same_name_from_elsewhere_are_not_taken_for_fsl_mrss(sim_basis):
    class MRS:
        basis = None

    with pytest.raises(DataError, match="MRS: is neither"):
        quantify(MRS(), sim_basis, **GRID)
    with pytest.raises(DataError):
        quantify([MRS()], sim_basis, **GRID)


# -- starts known beforehand ---------------------------------------------------------------------------------------


class Nowhere:
    """Proposes a start with lines far too wide and shifted out of sight."""

    name = "nowhere"

    def __call__(self, spec, model, names):
        theta = torch.zeros(len(spec), 1, sum(model.theta_sizes.values()), dtype=model.dtype)
        theta[..., 0] = 300.0
        theta[..., -3] = 2 * np.pi * 120
        return theta


@pytest.fixture(scope="module")
def few(simulate, sim_basis):
    """Two spectra of five metabolites, and their basis: fits with free shifts take long."""
    basis = sim_basis.select(keep=["Cr", "GPC", "Glu", "Ins", "NAA"])
    return simulate(2, snr=60, seed=8, basis=basis).fids, basis


def fit_from(few, starter=None, rows=slice(None), **options):
    return quantify(few[0][rows], few[1], **ON_CPU, initial_values=starter, **options)


@pytest.mark.parametrize("words", ["off", "poly, 2", "spline, stiff"])
def test_known_parameters_are_one_more_proposal(few, words):
    options = {"rows": [0], "baseline": words, "ppmlim": (1.8, 4.0)}
    plain, lost = fit_from(few, **options), fit_from(few, Nowhere(), max_iter=3, **options)
    starter = WithKnownParameters(Nowhere(), plain.params[0], plain.model)
    helped = fit_from(few, starter, max_iter=3, **options)
    assert starter.name == helped.init == "nowhere"
    assert helped.cost[0] <= plain.cost[0] * (1 + 1e-9) and lost.cost[0] > 1.5 * plain.cost[0]
    model = plain.model
    proposals = starter(torch.zeros(3, model.window[1] - model.window[0]) + 0j, model, list(few[1].names))
    assert proposals.shape == (3, 2, sum(model.theta_sizes.values()))
    theta, _, _ = model.unpack(torch.as_tensor(plain.params[0]))
    np.testing.assert_allclose(proposals[:, 1], theta.expand(3, -1))


@pytest.mark.parametrize("model", ["voigt", "lorentzian", "negativevoigt", "free_shift", "free_shift_lorentzian"])
def test_known_parameters_never_make_a_fit_worse(few, model):
    """Neither good ones nor nonsense: of all proposals the best is taken."""
    plain = fit_from(few, model=model)
    nonsense = np.random.default_rng(0).normal(size=plain.params.shape[1])
    for params in (plain.params[1], 1e3 * nonsense):
        started = fit_from(few, WithKnownParameters(ClassicalSearch(), params, plain.model), model=model)
        assert np.isfinite(started.params).all()
        assert (started.cost <= plain.cost * (1 + 1e-6)).all()


def test_free_shifts_start_from_each_groups_median(few):
    """They are released from a fit with shared shifts, and that is what is started."""
    options = {"model": "free_shift", "metab_groups": few[1].groups(["NAA"])}
    free = fit_from(few, rows=[0], **options)
    shared = free.model.with_shared_shifts()
    starter = WithKnownParameters(Nowhere(), free.params[0], free.model)
    proposal = starter(torch.zeros(1, shared.window[1] - shared.window[0]) + 0j, shared, list(few[1].names))[0, 1]
    eps, found = free.block("eps")[0], shared.split_theta(proposal)["eps"].numpy()
    naa = np.array([name == "NAA" for name in few[1].names])
    # Of an even number torch's median is the lower of the two in the middle.
    assert found == pytest.approx([np.sort(eps[~naa])[1], eps[naa][0]])
    helped = fit_from(few, starter, rows=[0], **options)
    assert helped.cost[0] <= free.cost[0] * (1 + 1e-3)


@pytest.mark.parametrize("change", ["short", "long", "nan", "infinite", "two rows"])
def test_other_vectors_are_refused_in_one_line(few, change):
    fit = fit_from(few, rows=[0])
    params = fit.params[0].copy()
    if change == "nan":
        params[3] = np.nan
    elif change == "infinite":
        params[-1] = np.inf
    wrong = {"short": params[:-1], "long": np.r_[params, 0.0], "two rows": np.stack([params, params])}.get(
        change, params
    )
    with pytest.raises(OptionError, match=f"^x0: .*{len(params)}.*voigt") as caught:
        WithKnownParameters(ClassicalSearch(), wrong, fit.model)
    assert "\n" not in str(caught.value)


def test_the_vector_stays_the_callers(few):
    fit = fit_from(few, rows=[0])
    params = fit.params[0].copy()
    starter = WithKnownParameters(ClassicalSearch(), params, fit.model)
    before = {name: value.clone() for name, value in starter.blocks.items()}
    params[:] = 0
    for name, value in before.items():
        assert torch.equal(starter.blocks[name], value)


def test_what_is_asked_wrongly_is_answered_in_one_line(transients, spectra, sim_basis):
    with pytest.raises(DataError, match="empty"):
        quantify([])
    for data, call in ((transients[0], align), (spectra, lambda *a, **k: quantify(*a, sim_basis, **k))):
        with pytest.raises(OptionError, match="^ppm: is no option here; there are .*ppmlim"):
            call(data, **GRID, ppm=(1, 2))


def test_results_describe_themselves_in_a_line(transients, spectra, sim_basis):
    assert repr(align(transients[0], **ON_CPU)[1]).startswith(f"<Alignment of {len(transients[0])} transients")
    assert repr(quantify(spectra, sim_basis, **ON_CPU)).count("\n") == 0
