"""FSL-MRS with this package's step and method in it: its objects, its commands and its files, against its own
Newton."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.running_fsl_mrs import fails, run, succeeds

from fsl_mrs_dl.cli.main import main as our_main
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.metabolites import typical_concentrations
from fsl_mrs_dl.fslmrs import switch
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.macromolecules import add_macromolecules
from fsl_mrs_dl.preproc import align as align_module
from fsl_mrs_dl.simulation.acquisition import simulate_basis

# What FSL-MRS, and plotting and tables inside of it, warn of is not ours to mend.
pytestmark = [pytest.mark.with_fsl_mrs, pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

EXAMPLE = Path(__file__).parents[2] / "fsl_mrs_dl" / "data" / "example"
NAMES = ["Cr", "GPC", "Glu", "Ins", "NAA", "PCr"]
FREQ_MHZ, BANDWIDTH_HZ, N_POINTS = 123.2, 1250.0, 512

SHARED_SHIFTS = ("voigt", "lorentzian", "negativevoigt")
FREE_SHIFTS = ("free_shift", "free_shift_lorentzian")
BASELINES = ("off", "poly, 0", "poly, 2", "spline, moderate")


# -- objects and commands ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def hook_is_on():
    on, why = switch.status()
    if not on:
        pytest.skip(f"FSL-MRS is left as it is here: the hook is {why}")


_COMMANDS = """
import contextlib, importlib, io, json, sys, traceback, warnings

for line in sys.stdin:
    program, *words = sys.argv = json.loads(line)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("fsl_mrs.scripts." + program).main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
    from fsl_mrs_dl.fslmrs import patching
    module = sys.modules["fsl_mrs.scripts." + program]
    left = dict(patching.running) or module.configargparse is not sys.modules["fsl_mrs.auxiliary.configargparse"]
    print(json.dumps([status, out.getvalue(), err.getvalue(), bool(left)]), flush=True)
"""


@pytest.fixture(scope="module")
def one_after_another():
    """``one_after_another(program, *words)`` runs a command of FSL-MRS in one process that is started once.

    Not in the tests' own: FSL-MRS brings a copy of the parser library, which recurses where the original is loaded too.
    """
    env = {name: value for name, value in os.environ.items() if name != "FSL_MRS_DL_HOOK"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _COMMANDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:

        def call(program, *words):
            process.stdin.write(json.dumps([program, *map(str, words)]) + "\n")
            process.stdin.flush()
            status, out, err, left = json.loads(process.stdout.readline())
            assert not left, f"{program} left something behind for the next command"
            return subprocess.CompletedProcess([program, *words], status, out, err)

        yield call
        process.stdin.close()


def files(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def image(path):
    return np.asarray(nib.load(path).dataobj)


# -- data ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """Six metabolites and few points: Newton takes a fraction of a second."""
    return simulate_basis(
        NAMES, te_ms=35.0, spec_freq_mhz=FREQ_MHZ, bandwidth_hz=BANDWIDTH_HZ, n_points=N_POINTS, fwhm_hz=2.0
    )


def simulated_fids(basis, n=1, snr=60.0, seed=1):
    """FIDs at typical concentrations varied by a fifth, each with a width, shift and phase of its own."""
    rng = np.random.default_rng(seed)
    time = np.arange(basis.n_points) * basis.dwelltime
    conc = typical_concentrations(list(basis.names)) * rng.lognormal(0, 0.2, (n, basis.n_metabs))
    width, shift, phase = rng.uniform(6, 10, n), rng.uniform(-3, 3, n), rng.uniform(-0.5, 0.5, n)
    decay = np.exp(-np.outer(width, time) - 12 * time**2 + 1j * (phase[:, None] + 2 * np.pi * np.outer(shift, time)))
    clean = (conc @ basis.fids) * decay
    noise = np.abs(np.fft.fft(clean)).max(-1, keepdims=True) / snr / np.sqrt(basis.n_points)
    return clean + noise * (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape))


def fsl_basis(basis):
    from fsl_mrs.core.basis import Basis as FslBasis

    header = {
        "centralFrequency": basis.spec_freq_mhz * 1e6,
        "bandwidth": basis.bandwidth,
        "dwelltime": basis.dwelltime,
        "fwhm": 2.0,
    }
    return FslBasis(basis.fids.T.copy(), list(basis.names), [dict(header) for _ in basis.names])


def mrs_of(fid, basis, *, ready=True, **options):
    from fsl_mrs.core import MRS

    mrs = MRS(
        FID=fid, cf=basis.spec_freq_mhz * 1e6, bw=basis.bandwidth, nucleus="1H", basis=fsl_basis(basis), **options
    )
    if ready:
        mrs.processForFitting()
    return mrs


@pytest.fixture(scope="module")
def simulated(small):
    """An MRS object of simulated data, with a water reference."""
    time = np.arange(N_POINTS) / BANDWIDTH_HZ
    water = 4e3 * np.exp(-(12 + 10 * time) * time + 0.2j) * np.abs(small.fids[:, 0]).max()
    return mrs_of(simulated_fids(small)[0], small, H2O=water)


@pytest.fixture(scope="module")
def invivo(invivo_3t, invivo_water, invivo_basis_path):
    """An MRS object of the human brain at 3 T, with its water reference."""
    from fsl_mrs.utils import mrs_io

    basis, water = mrs_io.read_basis(str(invivo_basis_path)), mrs_io.read_FID(str(invivo_water))
    mrs = mrs_io.read_FID(str(invivo_3t)).mrs(basis=basis, ref_data=water)
    mrs.processForFitting()
    return mrs


@pytest.fixture(scope="module", params=["simulated", "invivo"])
def either(request):
    """Simulated data, and real ones where they are."""
    return request.getfixturevalue(request.param)


def fit(mrs, method="dlquant", **options):
    from fsl_mrs.utils.fitting import fit_FSLModel

    return fit_FSLModel(mrs, method=method, **options)


def cost(mrs, res, words):
    """What FSL-MRS's Newton minimises, the baseline's penalty included, at a result's parameters."""
    from fsl_mrs import models
    from fsl_mrs.utils.baseline import Baseline as FslBaseline

    error, gradient, _, split, _ = models.getModelFunctions(res.model)
    baseline = FslBaseline(mrs, res.ppmlim, words, None)
    error, _ = baseline.prepare_penalised_fit_functions(error, gradient, lambda p: split(p, mrs.numBasis, res.g)[-1])
    axes = (mrs.frequencyAxis, mrs.timeAxis, mrs.basis)
    window = mrs.ppmlim_to_range(res.ppmlim)
    return float(error(res.params, *axes, res.base_poly, res.metab_groups, res.g, mrs.get_spec(), *window))


def assert_same_minimum(mrs, ours, newton, words="poly, 2", sds=0.05):
    """Not above Newton's end, which stops a little short, and the same concentrations."""
    from fsl_mrs.utils.results import FitRes

    assert isinstance(ours, FitRes) and ours.method == "dlquant"
    assert ours.params_names == newton.params_names and ours.metabs == newton.metabs
    assert ours.dl["converged"] and ours.ppmlim == tuple(newton.ppmlim)
    assert cost(mrs, ours, words) <= cost(mrs, newton, words) * (1 + 1e-5)
    if not words.startswith("spline"):
        assert ours.mse <= newton.mse * (1 + 1e-5)
    n = mrs.numBasis
    sd = np.sqrt(newton.crlb[:n])
    assert np.abs((ours.params - newton.params)[:n] / sd).max() < sds


# -- the fit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", BASELINES)
@pytest.mark.parametrize("model", SHARED_SHIFTS)
def test_shared_shifts_end_in_newtons_minimum(simulated, model, words):
    options = {"model": model, "baseline": words}
    assert_same_minimum(simulated, fit(simulated, **options), fit(simulated, "Newton", **options), words)


@pytest.mark.parametrize("words", BASELINES)
@pytest.mark.parametrize("model", FREE_SHIFTS)
def test_free_shifts_are_no_worse_than_shared_ones_or_newtons(simulated, model, words):
    """Their cost has many minima, of which Newton finds any."""
    from fsl_mrs.utils.results import FitRes

    shared = fit(simulated, model="lorentzian" if "lorentzian" in model else "voigt", baseline=words)
    free = fit(simulated, model=model, baseline=words)
    assert isinstance(free, FitRes) and free.model == model
    assert cost(simulated, free, words) <= cost(simulated, shared, words) * (1 + 1e-9)
    newton = fit(simulated, "Newton", model=model, baseline=words)
    assert cost(simulated, free, words) <= cost(simulated, newton, words) * (1 + 1e-4)
    assert (free.getConc() >= 0).all() and free.getShiftParams().shape == (simulated.numBasis,)


@pytest.mark.parametrize(
    ("model", "words"),
    [("voigt", "poly, 2"), ("lorentzian", "off"), ("voigt", "spline, moderate"), ("negativevoigt", "poly, 0")],
)
def test_in_vivo_the_minimum_is_newtons(invivo, model, words):
    mrs = copy.deepcopy(invivo)
    if words != "poly, 2":
        # All seventeen with every baseline would take minutes.
        mrs.keep = ["Cr", "GPC", "Glu", "Ins", "NAA", "PCr", "PCh", "Tau"]
    options = {"model": model, "baseline": words}
    assert_same_minimum(mrs, fit(mrs, **options), fit(mrs, "Newton", **options), words, sds=0.25)


@pytest.mark.parametrize("words", ["off", "poly, 2"])
def test_groups_of_macromolecules_end_no_higher_than_newtons(small, words):
    basis = add_macromolecules(small, "fsl-default")
    mrs = mrs_of(simulated_fids(small)[0] * (1 + 0.1j), basis)
    groups = basis.groups([name for name in basis.names if name not in small.names])
    options = {"baseline": words, "metab_groups": [groups[basis.names.index(name)] for name in mrs.names]}
    ours, newton = fit(mrs, **options), fit(mrs, "Newton", **options)
    assert cost(mrs, ours, words) <= cost(mrs, newton, words) * (1 + 1e-4)


@pytest.mark.parametrize("model", FREE_SHIFTS)
def test_in_vivo_free_shifts_are_no_worse_than_shared_ones_or_newtons(invivo, model):
    mrs = copy.deepcopy(invivo)
    mrs.keep = ["Cr", "GPC", "Glu", "Ins", "NAA", "PCr", "PCh", "Tau"]
    shared, free = fit(mrs, model="lorentzian" if "lorentzian" in model else "voigt"), fit(mrs, model=model)
    assert cost(mrs, free, "poly, 2") <= cost(mrs, fit(mrs, "Newton", model=model), "poly, 2") * (1 + 1e-4)
    assert free.mse < shared.mse and len(free.getShiftParams()) == 8


@pytest.mark.parametrize("ppmlim", [(0.5, 4.2), (0.5, 4.0), (1.8, 3.9)])
def test_splines_in_narrower_windows(simulated, ppmlim):
    """In some windows rounding gives FSL-MRS a spline more, which is zero throughout but for its penalty."""
    options = {"baseline": "spline, moderate", "ppmlim": ppmlim}
    assert_same_minimum(simulated, fit(simulated, **options), fit(simulated, "Newton", **options), "spline, moderate")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metab_groups": [0, 0, 0, 0, 1, 0]}, "poly, 2"),
        ({"metab_groups": np.array([0, 2, 0, 0, 1, 0]), "model": "lorentzian"}, "poly, 2"),
        ({"ppmlim": (1.8, 4.0), "baseline": "off"}, "off"),
        ({"ppmlim": [0.5, 4.1]}, "poly, 2"),
        ({"baseline_order": 1}, "poly, 1"),
        ({"baseline_order": -1}, "off"),
        ({"baseline": "polynomial, -1"}, "off"),
        ({"baseline": "spline, 8.5", "model": "lorentzian"}, "spline, 8.5"),
    ],
)
def test_options_of_the_fit_mean_what_they_mean_to_newton(simulated, options, words):
    newton = dict(options)
    if isinstance(options.get("metab_groups"), np.ndarray):
        newton["metab_groups"] = options["metab_groups"].tolist()
    ours, theirs = fit(simulated, **options), fit(simulated, "Newton", **newton)
    assert_same_minimum(simulated, ours, theirs, words)
    assert ours.g == theirs.g and ours.baseline_mode == theirs.baseline_mode
    assert ours.n_baseline_bases == theirs.n_baseline_bases and str(ours._baseline_obj) == str(theirs._baseline_obj)


@pytest.mark.parametrize(
    "how", ["keep", "ignore", "ind_scale", "not rescaled", "conj_FID", "conj_Basis", "truncated", "resampled"]
)
def test_the_objects_own_settings_are_kept(small, how):
    fid = simulated_fids(small, seed=4)[0]
    mrs = mrs_of(fid, small, ready=False)
    if how == "keep":
        mrs.keep = ["NAA", "Cr", "PCr", "Glu"]
    elif how == "ignore":
        mrs.ignore = ["Ins"]
    elif how == "ind_scale":
        mrs.rescaleForFitting(ind_scaling=["NAA", "Glu"])
    elif how == "conj_FID":
        mrs = mrs_of(fid.conj(), small, ready=False)
        mrs.conj_FID = True
    elif how == "conj_Basis":
        mrs = mrs_of(fid, replace(small, fids=small.fids.conj()), ready=False)
        mrs.conj_Basis = True
    elif how == "truncated":
        mrs = mrs_of(fid[:400], small, ready=False)
    elif how == "resampled":
        finer = simulate_basis(NAMES, te_ms=35.0, spec_freq_mhz=FREQ_MHZ, bandwidth_hz=2500.0, n_points=1400)
        mrs = mrs_of(fid, finer, ready=False)
        mrs.bandwidth = BANDWIDTH_HZ
        mrs._calculate_axes()
    if how not in ("not rescaled", "ind_scale"):
        mrs.rescaleForFitting()
    names, scaling = mrs.names, mrs.scaling
    ours, newton = fit(mrs, model="lorentzian"), fit(mrs, "Newton", model="lorentzian")
    if how == "not rescaled":
        # Newton's steps and stops are made for rescaled data; here its end says nothing.
        ready = mrs_of(fid, small)
        newton = fit(ready, "Newton", model="lorentzian")
        factor = ready.scaling["basis"] / ready.scaling["FID"]
        np.testing.assert_allclose(ours.getConc()[:6], newton.getConc()[:6] * factor, rtol=1e-3)
        np.testing.assert_allclose(ours.getUncertainties(), newton.getUncertainties(), rtol=1e-2)
    else:
        assert_same_minimum(mrs, ours, newton)
    assert (mrs.names, mrs.scaling) == (names, scaling) and ours.original_metabs == names


def test_every_way_of_asking_gives_the_same(simulated):
    from fsl_mrs.utils.fitting import fit_FSLModel

    params = fit_FSLModel(simulated, method="dlquant").params
    ways = [
        fit_FSLModel(simulated, "dlquant"),
        fit_FSLModel(simulated, "dlquant", None, "polynomial, 2"),
        fit_FSLModel(
            mrs=simulated, method="dlquant", ppmlim=(0.2, 4.2), baseline="poly, 2", metab_groups=None, x0=None
        ),
        simulated.fit(method="dlquant", MHSamples=3),
        fit_FSLModel(simulated, method="dlquant", dl_device="cpu", dl_init="both", dl_estimate="ml"),
    ]
    for res in ways:
        np.testing.assert_array_equal(res.params, params)


def test_other_methods_are_fsl_mrss_own(simulated):
    from fsl_mrs.utils.results import FitRes

    assert type(fit(simulated, "init")) is FitRes
    with pytest.raises(Exception, match="Unknown optimisation method"):
        fit(simulated, "dlquantum")


@pytest.mark.parametrize("words", ["poly, 2", "off", "spline, stiff"])
def test_a_solution_as_start_gives_the_same_minimum(simulated, words):
    options = {"baseline": words, "metab_groups": [0, 0, 0, 0, 1, 0]}
    newton, plain = fit(simulated, "Newton", **options), fit(simulated, **options)
    before = newton.params.copy()
    for x0 in (newton.params, list(newton.params)):
        started = fit(simulated, x0=x0, **options)
        assert cost(simulated, started, words) <= cost(simulated, plain, words) * (1 + 1e-6)
        assert_same_minimum(simulated, started, newton, words)
    np.testing.assert_array_equal(newton.params, before)


def test_a_start_rescues_a_fit_whose_own_starts_fail(small):
    """Shifted by more than the search looks for: only whoever knows can say so."""
    fid = simulated_fids(small, seed=6)[0]
    away = 0.45 * FREQ_MHZ
    mrs = mrs_of(fid * np.exp(2j * np.pi * away * np.arange(N_POINTS) / BANDWIDTH_HZ), small, ready=False)
    mrs.rescaleForFitting()
    near = fit(mrs_of(fid, small))
    x0 = near.params.copy()
    x0[near.params_names.index("eps_0")] -= 2 * np.pi * away
    helped, alone = fit(mrs, x0=x0), fit(mrs)
    assert helped.mse <= alone.mse * (1 + 1e-9)
    assert abs(abs(helped.getShiftParams()[0] - near.getShiftParams()[0]) - 0.45) < 0.01


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"x0": np.zeros(3)}, ["x0", "(3,)"]),
        ({"x0": np.full(17, np.nan)}, ["x0", "finite"]),
        ({"model": "gaussian"}, ["gaussian", "voigt"]),
        ({"ppmlim": (30, 31)}, ["30", "31"]),
        ({"metab_groups": [0, 1]}, ["groups", "(6)"]),
        ({"dl_device": "gpu"}, ["gpu", "auto, cpu or cuda"]),
        ({"dl_init": "oracle"}, ["oracle", "classical"]),
        ({"dl_estimate": "map"}, ["map", "ml"]),
        ({"dl_model": "net"}, ["net"]),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(simulated, options, expected):
    with pytest.raises(OptionError) as caught:
        fit(simulated, **options)
    assert "\n" not in str(caught.value)
    for word in expected:
        assert word in str(caught.value)


def test_baselines_that_fsl_mrs_refuses_it_refuses_itself(simulated):
    from fsl_mrs.utils.baseline import BaselineError

    with pytest.raises(BaselineError, match="very-flexible"):
        fit(simulated, baseline="spline, wavy")


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_fid_with_nothing_in_it_is_refused_in_one_line(small, value):
    with pytest.raises(DataError) as caught:
        fit(mrs_of(np.full(N_POINTS, value, complex), small))
    assert "zero or holds NaN" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("several", [False, True])
def test_without_a_basis_there_is_nothing_to_fit(small, several):
    from fsl_mrs.core import MRS

    from fsl_mrs_dl import quantify

    mrs = MRS(FID=simulated_fids(small)[0], cf=FREQ_MHZ * 1e6, bw=BANDWIDTH_HZ, nucleus="1H")
    with pytest.raises(DataError, match="basis"):
        quantify([mrs]) if several else fit(mrs)


# -- the result ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(either):
    """The object, Newton's result and ours, scaled to water and with a sum."""
    from fsl_mrs.utils.quantify import QuantificationInfo

    sums = [["NAA", "NAAG"]] if "NAAG" in either.names else [["NAA", "Glu"]]
    results = []
    for method in ("Newton", "dlquant"):
        res = fit(either, method)
        info = QuantificationInfo(0.035, 2.0, either.names, either.centralFrequency / 1e6)
        info.set_fractions({"WM": 0.5, "GM": 0.4, "CSF": 0.1})
        res.calculateConcScaling(either, quant_info=info, internal_reference=["Cr", "PCr"])
        res.combine(sums)
        results.append(res)
    return either, *results


ACCESSORS = {
    **{
        f"concentrations, {s}": lambda r, m, s=s: r.getConc(scaling=s)
        for s in ("raw", "internal", "molality", "molarity")
    },
    "concentration of one": lambda r, m: r.getConc(scaling="molarity", metab="NAA"),
    "concentrations of some": lambda r, m: r.getConc(metab=["NAA", "Cr+PCr"]),
    "concentrations as a table": lambda r, m: r.getConc(function=None),
    "concentration of one as a series": lambda r, m: r.getConc(function=None, metab="NAA"),
    **{
        f"uncertainties, {t}": lambda r, m, t=t: r.getUncertainties(type=t)
        for t in ("raw", "percentage", "internal", "molality", "molarity", "Percentage")
    },
    "uncertainty of one": lambda r, m: r.getUncertainties(type="raw", metab="NAA"),
    "uncertainties of some": lambda r, m: r.getUncertainties(metab=["NAA", "Cr+PCr"]),
    "uncertainty of a sum": lambda r, m: r.getUncertainties("internal", "Cr+PCr"),
    "params": lambda r, m: r.params[: m.numBasis],
    "params_inc_combine": lambda r, m: r.params_inc_combine[: m.numBasis],
    "number of params": lambda r, m: (len(r.params), len(r.params_inc_combine), r.numMetabs, r.g, r.n_baseline_bases),
    "pred": lambda r, m: r.pred,
    "pred_spec": lambda r, m: r.pred_spec,
    "baseline": lambda r, m: r.baseline,
    "mse": lambda r, m: float(r.mse),
    "cov": lambda r, m: r.cov[: m.numBasis, : m.numBasis],
    "shape of cov": lambda r, m: r.cov.shape + r.crlb.shape,
    "crlb": lambda r, m: r.crlb[: m.numBasis],
    "crlb of the sums": lambda r, m: r.crlb[len(r.params) :],
    "corr": lambda r, m: r.corr[: m.numBasis, : m.numBasis],
    "qc": lambda r, m: r.getQCParams()[0],
    "qc, widths": lambda r, m: r.getQCParams()[1],
    "qc of one": lambda r, m: np.array(r.getQCParams(metab="NAA")),
    "SNR": lambda r, m: np.array([r.SNR.spectrum, r.SNR.residual]),
    "phases": lambda r, m: np.array(r.getPhaseParams()),
    "phases per ppm": lambda r, m: np.array(r.getPhaseParams(phi0="radians", phi1="deg_per_ppm")),
    **{f"shifts, {u}": lambda r, m, u=u: r.getShiftParams(units=u) for u in ("ppm", "hz", "raw")},
    "shifts, all": lambda r, m: r.getShiftParams(function=None),
    **{f"widths, {u}": lambda r, m, u=u: np.array(r.getLineShapeParams(units=u)) for u in ("Hz", "ppm")},
    "widths, raw": lambda r, m: np.array(r.getLineShapeParams(units="raw")[1:]),
    "baseline's parameters": lambda r, m: r.getBaselineParams(),
    "baseline's parameters, real": lambda r, m: r.getBaselineParams(complex=False, normalise=False),
    **{
        f"predicted FID, {w}": lambda r, m, w=w: r.predictedFID(m, mode=w)
        for w in ("Full", "baseline", "NAA", ["NAA", "Cr"])
    },
    "predicted FID, no baseline": lambda r, m: r.predictedFID(m, mode="full", noBaseline=True, no_phase=True),
    **{f"predicted spectrum, {w}": lambda r, m, w=w: r.predictedSpec(m, mode=w) for w in ("Full", "Baseline", "NAA")},
    "predicted spectrum, window": lambda r, m: r.predictedSpec(m, mode="full", noBaseline=True, ppmlim=(1.8, 2.2)),
    "groups": lambda r, m: r.metab_in_group_json(),
    "names": lambda r, m: (r.metabs, r.original_metabs, r.params_names, r.params_names_inc_comb, r.metabs_in_groups()),
    "attributes": lambda r, m: (
        sorted(set(vars(r)) - {"dl", "dl_row", "dl_advice"}),
        r.model,
        r.baseline_mode,
        r.hzperppm,
        r.bandwidth,
    ),
    "scalings": lambda r, m: sorted(r.concScalings),
    "table of results": lambda r, m: (list(r.fitResults.columns), r.fitResults.shape),
}


@pytest.mark.parametrize("name", ACCESSORS)
def test_results_answer_as_newtons_do(pair, name):
    mrs, newton, ours = pair
    theirs, mine = (ACCESSORS[name](res, mrs) for res in (newton, ours))
    assert type(mine) is type(theirs)
    if isinstance(theirs, (str, tuple)) or name == "scalings":
        assert mine == theirs
        return
    if isinstance(theirs, (pd.Series, pd.DataFrame)):
        assert mine.index.equals(theirs.index)
    a, b = np.asarray(mine), np.asarray(theirs)
    assert a.shape == b.shape and a.dtype == b.dtype
    # Newton stops some thousandths of a standard deviation short; what lies at zero has no relative error.
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3 * np.abs(b).max() + 1e-12)


def test_percent_and_residual_are_those_of_the_result(pair):
    mrs, newton, ours = pair
    np.testing.assert_allclose(mrs.FID - ours.residuals, ours.pred, atol=1e-9)
    strong = ours.getUncertainties() < 30
    assert strong.sum() >= 5
    np.testing.assert_allclose(ours.getUncertainties()[strong], newton.getUncertainties()[strong], rtol=1e-2)
    with pytest.raises(ValueError, match="absolute"):
        ours.getUncertainties(type="fantasy")
    assert ours.method == "dlquant"


def test_percent_of_every_parameter(pair, small):
    mrs, _, ours = pair
    n, sums = mrs.numBasis, len(ours.crlb) - len(ours.params)
    assert ours.perc_SD.shape == ours.crlb.shape and sums == 2
    np.testing.assert_allclose(np.r_[ours.perc_SD[:n], ours.perc_SD[-sums:]], ours.getUncertainties(), rtol=1e-12)
    # Newton's result knows them only as long as there are no sums.
    alone = mrs_of(simulated_fids(small)[0], small)
    alone.ignore = ["PCr"]
    theirs, mine = fit(alone, "Newton").perc_SD, fit(alone).perc_SD
    assert type(mine) is type(theirs) and mine.shape == theirs.shape
    np.testing.assert_allclose(mine[:5], theirs[:5], rtol=1e-2)


@pytest.mark.parametrize(
    "what", ["summary", "concentrations", "qc", "parameters", "concentrations-mh", "parameters-mh"]
)
def test_tables_are_newtons(pair, what, tmp_path):
    _, newton, ours = pair
    for res, name in ((newton, "newton"), (ours, "ours")):
        res.to_file(tmp_path / name, what=what)
    header = [0, 1] if what == "concentrations" else 0
    theirs, mine = (pd.read_csv(tmp_path / name, header=header) for name in ("newton", "ours"))
    assert list(mine.columns) == list(theirs.columns) and mine.iloc[:, 0].tolist() == theirs.iloc[:, 0].tolist()
    if "parameters" in what:
        # Beyond the order of one FSL-MRS makes its polynomials with rounding noise that differs between calls.
        keep = ~theirs.iloc[:, 0].str.startswith("B_")
        theirs, mine = theirs[keep], mine[keep]
    for column in theirs.columns[1:]:
        if theirs[column].dtype == object:
            assert mine[column].tolist() == theirs[column].tolist()
            continue
        size = np.nanmax(np.abs(theirs[column]))
        np.testing.assert_allclose(mine[column], theirs[column], rtol=1e-2, atol=2e-3 * size, err_msg=str(column))


def test_names_are_written_as_newtons(pair, tmp_path):
    _, newton, ours = pair
    for res, name in ((newton, "newton"), (ours, "ours")):
        res.fit_parameters_json(tmp_path / name)
        res.metab_in_group_json(tmp_path / f"{name}_groups")
    for name in ("", "_groups"):
        assert (tmp_path / f"ours{name}").read_text() == (tmp_path / f"newton{name}").read_text()


def test_words_about_the_result(pair):
    _, newton, ours = pair
    assert [line.split("=")[0] for line in str(ours).splitlines() if "=" in line] == [
        line.split("=")[0] for line in str(newton).splitlines() if "=" in line
    ]
    assert set(ours.dl) == {"init", "estimate", "converged", "n_iter", "misfit", "ood_score"}
    assert (
        ours.dl["init"] == "quant-universal and classical"
        and ours.dl["estimate"] == "ml"
        and ours.dl["converged"] is True
    )
    assert isinstance(ours.dl["n_iter"], int) and 0.5 < ours.dl["misfit"] < 10
    json.dumps(ours.dl)


def test_reports_and_figures_are_written(pair, tmp_path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from fsl_mrs.utils import report

    mrs, newton, ours = pair
    assert type(ours.plot(mrs)) is type(newton.plot(mrs))
    report.fitting_summary_fig(mrs, ours, filename=tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes()[:4] == b"\x89PNG"
    for res, name in ((newton, "newton"), (ours, "ours")):
        report.create_svs_report(mrs, res, tmp_path / name, "data.nii.gz", "basis", "water.nii.gz", "today")
    plt.close("all")
    page, theirs = (tmp_path / "ours").read_text(), (tmp_path / "newton").read_text()
    methods = page[page.index("Analysis methods") :]
    assert "dlquant" in methods and "converged after" in methods and "classical" in methods
    assert "dlquant" not in theirs and page.count("<h1>") == theirs.count("<h1>")


def test_results_survive_pickle_and_copies(pair, tmp_path):
    mrs, _, ours = pair
    shallow = copy.copy(ours)
    for twin in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours), shallow):
        assert type(twin) is type(ours) and twin.dl == ours.dl and twin.metabs == ours.metabs
        np.testing.assert_array_equal(twin.params, ours.params)
        np.testing.assert_array_equal(twin.getUncertainties("molarity"), ours.getUncertainties("molarity"))
        np.testing.assert_array_equal(twin.predictedFID(mrs, mode="NAA"), ours.predictedFID(mrs, mode="NAA"))


@pytest.mark.parametrize("words", ["poly, 2", "spline, moderate"])
def test_a_pickled_result_is_not_much_larger_than_newtons(simulated, words):
    """A volume has thousands of them in memory at once."""
    ours, newton = (len(pickle.dumps(fit(simulated, method, baseline=words))) for method in ("dlquant", "init"))
    assert ours < 2 * newton


def test_a_worker_unpickles_results_without_torch(simulated, tmp_path):
    (tmp_path / "result").write_bytes(pickle.dumps(fit(simulated)))
    code = (
        "import pickle, sys, warnings\nwarnings.simplefilter('ignore')\n"
        f"res = pickle.load(open({str(tmp_path / 'result')!r}, 'rb'))\n"
        "assert res.method == 'dlquant' and res.getUncertainties().all()\nassert 'torch' not in sys.modules"
    )
    # Also where the hook is off: the class is found by its module.
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"FSL_MRS_DL_HOOK": "off"},
    )
    assert done.returncode == 0, done.stderr


# -- volumes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volume(small):
    """Three by two voxels, one of zeros and one of NaN."""
    fids = simulated_fids(small, 6, snr=80, seed=9).reshape(3, 2, 1, -1)
    fids[1, 0], fids[2, 1] = 0, np.nan
    return fids


EMPTY = [(1, 0, 0), (2, 1, 0)]


def mrsi_of(fids, basis):
    from fsl_mrs.core import MRSI

    mrsi = MRSI(fids, cf=basis.spec_freq_mhz * 1e6, bw=basis.bandwidth, nucleus="1H", basis=fsl_basis(basis))
    mrsi.rescale = True
    return mrsi


def test_quantify_takes_objects_lists_and_volumes(small, volume):
    from fsl_mrs_dl import quantify

    mrsi = mrsi_of(volume, small)
    results = quantify(mrsi, model="lorentzian", device="cpu")
    assert list(results) == list(np.ndindex(3, 2, 1))
    good = [index for index in results if index not in EMPTY]
    singles = {index: quantify(mrsi.mrs_by_index(index), model="lorentzian") for index in good}
    for index in good:
        single = fit(mrsi.mrs_by_index(index), model="lorentzian")
        np.testing.assert_array_equal(singles[index].params, single.params)
        sd = np.sqrt(single.crlb[: len(NAMES)])
        assert np.abs((results[index].params - single.params)[: len(NAMES)] / sd).max() < 5e-3
        assert results[index].mse == pytest.approx(single.mse, rel=1e-6)
        assert results[index].dl["converged"]
    listed = quantify([mrsi.mrs_by_index(index) for index in good], model="lorentzian")
    for res, index in zip(listed, good):
        np.testing.assert_allclose(res.params, results[index].params, rtol=1e-6, atol=1e-9)


def test_voxels_that_cannot_be_fitted_give_nan_and_disturb_nobody(small, volume):
    from fsl_mrs_dl import quantify

    results = quantify(mrsi_of(volume, small))
    for index in EMPTY:
        res = results[index]
        assert np.isnan(res.getConc()).all() and np.isnan(res.params).all() and not res.dl["converged"]
        assert res.metabs == results[(0, 0, 0)].metabs and res.params_names == results[(0, 0, 0)].params_names
        assert np.isnan(res.pred).all() and len(res.getUncertainties()) == len(res.metabs)
    mask = np.ones((3, 2, 1))
    for index in EMPTY:
        mask[index] = 0
    masked = mrsi_of(volume, small)
    masked.set_mask(mask)
    alone = quantify(masked)
    assert list(alone) == [index for index in results if index not in EMPTY]
    for index, res in alone.items():
        np.testing.assert_allclose(results[index].params, res.params, rtol=1e-9, atol=1e-12)


def test_spectra_that_share_nothing_are_not_fitted_together(small):
    from fsl_mrs_dl import quantify

    one, other = mrs_of(simulated_fids(small)[0], small), mrs_of(simulated_fids(small)[0], small)
    other.ignore = ["Ins"]
    with pytest.raises(DataError, match="one by one"):
        quantify([one, other])
    with pytest.raises(OptionError, match="basis"):
        quantify(one, small)
    with pytest.raises(OptionError, match="method.*ppmlim"):
        quantify(one, method="Newton")
    with pytest.raises(OptionError, match="oracle"):
        quantify([one], init="oracle")


@pytest.fixture(scope="module")
def volume_files(small, volume, tmp_path_factory):
    """The volume as files: data, mask of the voxels that hold something, basis set."""
    folder = tmp_path_factory.mktemp("volume")
    data = nifti.MrsData(
        volume.astype(np.complex64), 1 / BANDWIDTH_HZ, FREQ_MHZ, "1H", affine=np.diag([10.0, 10, 10, 1])
    )
    nifti.save(folder / "data.nii.gz", data)
    mask = np.ones((3, 2, 1), np.uint8)
    for index in EMPTY:
        mask[index] = 0
    nib.Nifti1Image(mask, np.diag([10.0, 10, 10, 1])).to_filename(folder / "mask.nii.gz")
    small.save(folder / "basis")
    return folder


def volume_words(folder, *more):
    return ["--data", folder / "data.nii.gz", "--basis", folder / "basis", "--combine", "Glu", "Ins", *more]


@pytest.fixture(scope="module")
def volume_run(volume_files):
    """``fsl_mrsi --algo dlquant`` on all of the volume."""
    out = volume_files / "dlquant"
    done = succeeds(
        "fsl_mrsi",
        *volume_words(
            volume_files, "--output_correlations", "--algo", "dlquant", "--dl-device", "cpu", "--parallel", "off"
        ),
        *("--report", "--output", out),
    )
    assert "Traceback" not in done.stderr
    return out


def test_fsl_mrsi_writes_the_files_of_newton(volume_files, volume_run):
    out = volume_files / "newton"
    words = volume_words(
        volume_files, "--output_correlations", "--algo", "Newton", "--mask", volume_files / "mask.nii.gz"
    )
    succeeds("fsl_mrsi", *words, "--parallel", "off", "--report", "--output", out)
    assert files(out) <= files(volume_run)
    mask = image(volume_files / "mask.nii.gz").astype(bool)
    for path in sorted(out.rglob("*.nii.gz")):
        theirs, ours = image(path), image(volume_run / path.relative_to(out))
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, path
        if (
            path.parent.name in ("raw", "internal", "uncertainties", "qc", "nuisance", "fit")
            and path.name != "p1.nii.gz"
        ):
            size = np.abs(theirs[mask]).max()
            np.testing.assert_allclose(ours[mask], theirs[mask], rtol=2e-2, atol=5e-3 * size, err_msg=str(path))
    for name in ("metabolite_groups.json", "mrs_fit_parameters.json"):
        assert (volume_run / "misc" / name).read_text() == (out / "misc" / name).read_text()
    # FSL-MRS clears NaN out of its maps of concentrations.
    assert (image(volume_run / "concs" / "raw" / "NAA.nii.gz")[~mask] == 0).all()


def test_fsl_mrsi_and_our_own_command_agree(volume_files, volume_run, capsys):
    words = ["fit", *volume_words(volume_files), "--output", volume_files / "own"]
    assert our_main([str(word) for word in (*words, "--spectral-model", "fsl-mrs")]) == 0
    table = pd.read_csv(volume_files / "own" / "uncertainty.csv")
    mask = image(volume_files / "mask.nii.gz").astype(bool)
    assert set(table["Metab"]) == {*NAMES, "Cr+PCr", "Glu+Ins"}
    for metab, rows in table.groupby("Metab"):
        theirs = image(volume_run / "concs" / "internal" / f"{metab}.nii.gz")
        ours = np.full(mask.shape, np.nan)
        ours[rows["x"], rows["y"], 0] = rows["ratio"]
        # Values of next to nothing are cleared in FSL-MRS's maps.
        np.testing.assert_allclose(theirs[mask], ours[mask], rtol=1e-6, atol=1e-9, err_msg=metab)
        assert np.isnan(ours[~mask]).all()


@pytest.mark.slow
def test_fsl_mrsi_in_parallel_is_the_same_bit_for_bit(volume_files, volume_run):
    out = volume_files / "local"
    words = volume_words(volume_files, "--output_correlations", "--algo", "dlquant", "--report", "--output", out)
    succeeds("fsl_mrsi", *words, "--parallel", "local", "--parallel-workers", 2)
    assert files(out) == files(volume_run)
    for path in sorted(out.rglob("*.nii.gz")):
        np.testing.assert_array_equal(image(path), image(volume_run / path.relative_to(out)), err_msg=str(path))


def test_a_volume_of_nothing_is_refused_in_one_line(volume_files, one_after_another, tmp_path):
    data = nifti.load(volume_files / "data.nii.gz")
    nifti.save(tmp_path / "zero.nii.gz", replace(data, fids=np.zeros_like(data.fids)))
    words = [
        "--data",
        tmp_path / "zero.nii.gz",
        "--basis",
        volume_files / "basis",
        "--algo",
        "dlquant",
        "--parallel",
        "off",
    ]
    fails(one_after_another("fsl_mrsi", *words, "--output", tmp_path / "out"), "fsl_mrsi", "nothing to fit")


# -- fsl_mrs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def svs_runs(invivo_3t, invivo_water, invivo_basis_path, testdata, tmp_path_factory):
    """``fsl_mrs`` with nearly everything it can be told, by Newton and by dlquant, which comes from a file of
    options."""
    folder = tmp_path_factory.mktemp("svs")
    words = ["--data", invivo_3t, "--basis", invivo_basis_path, "--h2o", invivo_water, "--tissue_frac", 0.5, 0.4, 0.1]
    words += ["--t1", testdata / "invivo_3t_press_philips" / "T1w.nii.gz", "--report", "--ppmlim", 0.5, 4.1]
    words += ["--combine", "NAA", "NAAG", "--combine", "Glu", "Gln", "--metab_groups", "NAA", "--lorentzian"]
    words += ["--export_baseline", "--export_no_baseline", "--export_separate", "--ignore", "Asc", "Scyllo"]
    (folder / "options.ini").write_text(
        "algo = dlquant\nTE = 35\nTR = 2\ndl-device = cpu\ndl-init = classical\nverbose\n"
    )
    succeeds("fsl_mrs", *words, "--algo", "Newton", "--TE", 35, "--TR", 2, "--output", folder / "newton")
    done = succeeds("fsl_mrs", *words, "--config", folder / "options.ini", "--output", folder / "dlquant")
    return folder / "newton", folder / "dlquant", done.stdout


def test_fsl_mrs_writes_the_files_of_newton(svs_runs):
    newton, ours, printed = svs_runs
    assert files(ours) == files(newton) | {"uncertainty.csv"} and "dlquant" in printed
    table = pd.read_csv(ours / "uncertainty.csv").set_index("Metab")
    mean = pd.read_csv(ours / "all_parameters.csv", index_col=0)["mean"]
    np.testing.assert_allclose(table["conc"]["NAA+NAAG"], mean["NAA"] + mean["NAAG"], rtol=1e-4)
    assert (table["posterior_mean"] > 0).all() and table["prior_pull"].between(0, 1).all()
    for name in ("report.html", "voxel_location.png", "fit_NAA.nii.gz", "quantification_info.csv"):
        assert (ours / name).exists()
    for name in ("summary", "concentrations", "qc", "all_parameters", "quantification_info"):
        header = [0, 1] if name == "concentrations" else 0
        theirs, mine = (pd.read_csv(folder / f"{name}.csv", header=header, index_col=0) for folder in (newton, ours))
        assert list(mine.columns) == list(theirs.columns) and list(mine.index) == list(theirs.index)
        if name == "all_parameters":
            keep = ~theirs.index.str.startswith("B_")
            theirs, mine = theirs[keep], mine[keep]
        for column in theirs.columns:
            size = np.nanmax(np.abs(theirs[column]))
            np.testing.assert_allclose(
                mine[column], theirs[column], rtol=1e-2, atol=2e-3 * size, err_msg=f"{name} {column}"
            )
    for path in newton.glob("fit*.nii.gz"):
        theirs, mine = image(path), image(ours / path.name)
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        np.testing.assert_allclose(
            mine, theirs, atol=2e-3 * np.abs(image(newton / "fit.nii.gz")).max(), err_msg=path.name
        )


def test_options_of_ours_are_kept_with_the_results(svs_runs):
    newton, ours, _ = svs_runs
    options = json.loads((ours / "options.txt").read_text().split("\n--------\n")[0])
    assert options["algo"] == "dlquant" and options["TE"] == 35.0
    assert (options["dl_device"], options["dl_init"], options["dl_estimate"]) == ("cpu", "classical", None)
    assert "dl-device" in (ours / "options.txt").read_text()
    assert (
        "dlquant" in (ours / "report.html").read_text() and "dlquant (FSL" not in (newton / "report.html").read_text()
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--algo", "dlquant", "--dl-device", "gpu"], ["--dl-device gpu", "auto, cpu or cuda"]),
        (["--algo", "dlquant", "--dl-init", "oracle"], ["--dl-init oracle", "classical"]),
        (["--algo", "dlquant", "--dl-estimate", "map"], ["--dl-estimate map", "ml"]),
        (["--algo", "dlquant", "--dl-model", "net"], ["--dl-model net"]),
        (["--dl-device", "cpu"], ["--dl-device", "Newton"]),
        (["--algo", "MH", "--dl-init", "classical"], ["--dl-init", "MH"]),
    ],
)
@pytest.mark.parametrize("program", ["fsl_mrs", "fsl_mrsi"])
def test_bad_options_of_ours_make_nothing(one_after_another, tmp_path, program, words, expected):
    given = ["--data", EXAMPLE / "svs.nii.gz", "--basis", EXAMPLE / "basis", "--output", tmp_path / "out"]
    fails(one_after_another(program, *given, *words), f"{program}: error: ", *expected)
    assert not list(tmp_path.iterdir())


def test_bad_options_of_ours_in_a_shell(tmp_path):
    """The same with a status and streams of its own, the option coming from a file."""
    (tmp_path / "options.ini").write_text("algo = dlquant\ndl-init = oracle\n")
    given = ["--data", EXAMPLE / "svs.nii.gz", "--basis", EXAMPLE / "basis", "--output", tmp_path / "out"]
    done = run("fsl_mrs", *given, "--config", tmp_path / "options.ini")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr.count("\n") == 1 and "fsl_mrs: error: --dl-init oracle" in done.stderr, done.stderr


@pytest.mark.parametrize("program", ["fsl_mrs", "fsl_mrsi", "fsl_mrs_proc"])
def test_help_knows_what_was_added(one_after_another, program):
    done = one_after_another(program, "--help")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0 and not done.stderr
    for word in (
        ["dl-align", "Cramer-Rao"] if program == "fsl_mrs_proc" else ["dlquant", "--dl-init", "--dl-device", "MH"]
    ):
        assert word in text


# -- fsl_mrs_proc dl-align -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """The bundled transients with a step in their header already."""
    path = tmp_path_factory.mktemp("processed") / "svs.nii.gz"
    return nifti.save(
        path, nifti.load(EXAMPLE / "svs.nii.gz"), method="Eddy current correction", details="an earlier step"
    )


def test_dl_align_is_our_own_command_to_the_bit(processed, tmp_path, capsys):
    (tmp_path / "options.ini").write_text("ppm = [0.5, 4.0]\ndim = DIM_DYN\ndevice = cpu\n")
    words = ["--file", processed, "--config", tmp_path / "options.ini", "-r"]
    done = succeeds("fsl_mrs_proc", "dl-align", *words, "--output", tmp_path / "theirs")
    assert our_main(["align", *map(str, words), "--output", str(tmp_path / "ours")]) == 0
    assert (
        files(tmp_path / "theirs") == files(tmp_path / "ours") == {"svs.nii.gz", "dl_align.csv", "report_dl_align.html"}
    )
    theirs, ours = (nifti.load(tmp_path / name / "svs.nii.gz") for name in ("theirs", "ours"))
    np.testing.assert_array_equal(theirs.fids, ours.fids)
    assert theirs.fids.dtype == ours.fids.dtype and theirs.dim_tags == ours.dim_tags
    np.testing.assert_array_equal(theirs.affine, ours.affine)
    table = [(tmp_path / name / "dl_align.csv").read_bytes() for name in ("theirs", "ours")]
    assert table[0] == table[1]
    assert done.stdout.strip() in capsys.readouterr().out
    assert (theirs.fids != nifti.load(processed).fids).any()

    earlier, step = theirs.header["ProcessingApplied"]
    assert earlier == nifti.load(processed).header["ProcessingApplied"][0]
    assert step["Program"] == "FSL-MRS-DL" and step["Method"] == "Frequency and phase correction"
    assert step["Details"].startswith("fsl_mrs_proc dl-align, dim=DIM_DYN, ppmlim=(0.5, 4.0)")
    changed = {key for key in theirs.header if theirs.header[key] != ours.header.get(key)}
    assert changed == {"ProcessingApplied"}


def test_dl_align_to_a_reference(processed, one_after_another, tmp_path):
    data = nifti.load(processed)
    mean = replace(
        data, fids=data.fids.mean(4), dim_tags=(), header={k: v for k, v in data.header.items() if k != "dim_5"}
    )
    reference = nifti.save(tmp_path / "mean.nii.gz", mean)
    words = ["--file", processed, "--reference", reference]
    (tmp_path / "options.ini").write_text(f"reference = {reference}\nfilename = aligned\n")
    # FSL-MRS has its file of options before the step.
    where = ["--file", processed, "--output", tmp_path / "theirs"]
    done = one_after_another("fsl_mrs_proc", "--config", tmp_path / "options.ini", "dl-align", *where)
    assert done.returncode == 0, done.stderr
    assert our_main(["align", *map(str, words), "--output", str(tmp_path / "ours")]) == 0
    theirs, ours = nifti.load(tmp_path / "theirs" / "aligned.nii.gz"), nifti.load(tmp_path / "ours" / "svs.nii.gz")
    np.testing.assert_array_equal(theirs.fids, ours.fids)
    alone = align_module.align_data(data).data.fids
    assert not np.allclose(theirs.fids, alone, rtol=0, atol=1e-3 * np.abs(alone).max())
    assert "mean.nii.gz" in theirs.header["ProcessingApplied"][-1]["Details"]


def test_dl_align_keeps_the_tables_and_reports_of_several_files_in_one_folder(processed, one_after_another, tmp_path):
    for name in ("first", "second", "second"):
        source = nifti.save(tmp_path / f"{name}.nii.gz", nifti.load(processed))
        words = ["dl-align", "--file", source, "--output", tmp_path / "out", "--device", "cpu", "-r", "--edit-order"]
        done = one_after_another("fsl_mrs_proc", *words, "halves", "--average")
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == {
        *("first.nii.gz", "second.nii.gz", "dl_align.csv", "dl_align_second.csv"),
        *("report_dl_align.html", "report_dl_align_second.html"),
    }
    assert nifti.load(tmp_path / "out" / "second.nii.gz").dim_tags == ("DIM_EDIT",)


def test_dl_align_goes_with_fsl_mrss_own_steps(processed, one_after_another, tmp_path):
    """What one writes the other reads, and the header remembers both."""
    words = ["dl-align", "--file", processed, "--output", tmp_path, "--dim", "all", "--device", "cpu"]
    assert one_after_another("fsl_mrs_proc", *words).returncode == 0
    words = ["average", "--file", tmp_path / "svs.nii.gz", "--dim", "DIM_DYN", "--output", tmp_path / "mean"]
    assert one_after_another("fsl_mrs_proc", *words).returncode == 0
    mean, aligned = nifti.load(tmp_path / "mean" / "svs.nii.gz"), nifti.load(tmp_path / "svs.nii.gz")
    np.testing.assert_allclose(
        np.squeeze(mean.fids), aligned.fids[0, 0, 0].mean(-1), atol=1e-5 * np.abs(mean.fids).max()
    )
    programs = [step["Program"] for step in mean.header["ProcessingApplied"]]
    assert programs == ["FSL-MRS-DL", "FSL-MRS-DL", "FSL-MRS"]


def test_dl_align_on_objects_is_the_commands(processed, one_after_another, tmp_path):
    from fsl_mrs.core import NIFTI_MRS

    from fsl_mrs_dl import align

    source = NIFTI_MRS(str(processed))
    before = source[:].copy()
    aligned, found = align(source, device="cpu")
    assert type(aligned) is NIFTI_MRS and found.shift_hz.size == source.shape[4]
    done = one_after_another("fsl_mrs_proc", "dl-align", "--file", processed, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(aligned[:], NIFTI_MRS(str(tmp_path / "svs.nii.gz"))[:])
    np.testing.assert_array_equal(source[:], before)
    assert len(aligned.hdr_ext["ProcessingApplied"]) == 2 and len(source.hdr_ext["ProcessingApplied"]) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--dim", "DIM_EDIT"], ["svs.nii.gz", "DIM_EDIT", "DIM_DYN"]),
        (["--device", "gpu"], ["gpu", "auto, cpu or cuda"]),
        (["--ppm", "30", "31"], ["30", "31"]),
    ],
)
def test_bad_options_of_dl_align(processed, one_after_another, tmp_path, words, expected):
    out = tmp_path / "out"
    done = one_after_another("fsl_mrs_proc", "dl-align", "--file", processed, "--output", out, *words)
    fails(done, "fsl_mrs_proc dl-align: error: ", *expected)
    assert not (out / "svs.nii.gz").exists() and not (out / "dl_align.csv").exists()
    assert not out.exists()


# -- switched off --------------------------------------------------------------------------------------------------


def test_switched_off_fsl_mrs_is_as_it_was():
    code = """
import contextlib, io, sys, warnings
warnings.simplefilter("ignore")
from fsl_mrs.scripts import fsl_mrs, fsl_mrs_proc
from fsl_mrs.utils.fitting import fit_FSLModel
import numpy as np
from fsl_mrs.core import MRS

for module in (fsl_mrs_proc, fsl_mrs):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        sys.argv = ["x", "--help"]
        module.main()
    assert "usage" in text.getvalue() and "dl-align" not in text.getvalue() and "dlquant" not in text.getvalue()
fid = np.exp(-np.arange(512) / 100) + 0j
basis = {"centralFrequency": 123.2e6, "bandwidth": 2000.0, "dwelltime": 1 / 2000, "fwhm": 2.0}
mrs = MRS(FID=fid, cf=123.2e6, bw=2000.0, nucleus="1H", basis=fid[:, None], names=["NAA"], basis_hdr=[basis])
try:
    fit_FSLModel(mrs, method="dlquant")
except Exception as exc:
    assert str(exc) == "Unknown optimisation method.", exc
else:
    raise AssertionError("no error")
assert not [name for name in sys.modules if name.startswith("fsl_mrs_dl.") and name != "fsl_mrs_dl._hook"]
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"FSL_MRS_DL_HOOK": "off"},
    )
    assert done.returncode == 0, done.stderr


def test_our_basis_and_theirs_are_the_same_set(small):
    """``Basis.from_fsl_mrs`` on a real object of FSL-MRS, not one that looks like it."""
    again = Basis.from_fsl_mrs(fsl_basis(small))
    np.testing.assert_array_equal(again.fids, small.fids)
    assert again.names == small.names and again.spec_freq_mhz == pytest.approx(FREQ_MHZ)
