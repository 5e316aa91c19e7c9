"""What the tests share: the reference data, a simulated basis set, spectra with a known truth, FSL-MRS where it is
there."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.options import FitOptions

FREQ_MHZ, BANDWIDTH_HZ, N_POINTS = 123.2, 2000.0, 1024
METABOLITES = ("Asp", "Cr", "GABA", "GPC", "GSH", "Gln", "Glu", "Ins", "Lac", "NAA")


def pytest_collection_modifyitems(config, items):
    if "minutes" not in config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("minutes"):
                item.add_marker(pytest.mark.skip(reason="needs minutes; run with -m minutes"))
    marked = [item for item in items if item.get_closest_marker("with_fsl_mrs")]
    if not marked:
        return
    reason = None
    with warnings.catch_warnings():
        # What FSL-MRS's own dependencies warn of while they are loaded says nothing about this package.
        warnings.simplefilter("ignore")
        try:
            utils = (f"utils.{name}" for name in ("mrs_io", "fitting", "qc", "baseline", "preproc"))
            for name in ("core", "models", *utils):
                importlib.import_module(f"fsl_mrs.{name}")
        except ImportError as exc:
            reason = f"FSL-MRS cannot be imported: {exc}"
    if reason:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def one_thread():
    """For many small problems: on a busy machine threads that wait for each other make them a hundred times slower."""
    import torch

    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        threadpool_limits = contextlib.nullcontext
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of real signals and reference figures."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FSL_MRS_DL_TESTDATA", default))
    if not folder.is_dir():
        pytest.skip(f"the test data are not at {folder}; set FSL_MRS_DL_TESTDATA")
    return folder


@pytest.fixture(scope="session")
def reference(testdata):
    """FSL-MRS's own predictions, by key; see ``fsl_mrs_reference`` in the test data."""
    with np.load(testdata / "fsl_mrs_reference" / "models_2.4.11.npz") as content:
        return {key: content[key] for key in content.files}


@pytest.fixture(scope="session")
def invivo_3t(testdata, tmp_path_factory) -> Path:
    """NIfTI-MRS file of a human brain spectrum, 3 T PRESS, converted from the scanner's format."""
    program = shutil.which(
        "spec2nii", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if program is None:
        pytest.skip("spec2nii is not installed; it converts the scanner's files")
    source, out = testdata / "invivo_3t_press_philips" / "PRESS_raw-act", tmp_path_factory.mktemp("invivo_3t")
    command = [program, "philips", f"{source}.SDAT", f"{source}.SPAR", "-f", "press", "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out / "press.nii.gz"


@pytest.fixture(scope="session")
def invivo_water(testdata, invivo_3t):
    """NIfTI-MRS file of the water reference that goes with ``invivo_3t``."""
    program = shutil.which(
        "spec2nii", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    source = testdata / "invivo_3t_press_philips" / "PRESS_raw-ref"
    command = [program, "philips", f"{source}.SDAT", f"{source}.SPAR", "-f", "water", "-o", str(invivo_3t.parent)]
    subprocess.run(command, check=True, capture_output=True)
    return invivo_3t.parent / "water.nii.gz"


@pytest.fixture(scope="session")
def invivo_basis_path(testdata) -> Path:
    return testdata / "invivo_3t_press_philips" / "3T_PRESS_Philips_35ms_noMM.BASIS"


@pytest.fixture(scope="session")
def sim_basis():
    """Ten metabolites, 3 T PRESS, TE 35 ms, 1024 points, 2000 Hz."""
    from fsl_mrs_dl.io.basis import Basis
    from fsl_mrs_dl.physics.spinsim import simulate_basis

    fids, names = simulate_basis(
        METABOLITES, "press", spec_freq_mhz=FREQ_MHZ, bandwidth_hz=BANDWIDTH_HZ, n_points=N_POINTS, te_ms=35.0
    )
    return Basis(fids, names, 1 / BANDWIDTH_HZ, FREQ_MHZ, source="the simulated set")


@pytest.fixture
def rng():
    """A generator of its own for every test, always the same."""
    return np.random.default_rng(20200817)


@dataclass
class Simulated:
    """Spectra with their truth: ``conc`` and ``params`` are FSL-MRS's for ``model``, which holds the scaled basis."""

    fids: np.ndarray
    model: object
    params: np.ndarray
    conc: np.ndarray
    noise_sd: float


@pytest.fixture(scope="session")
def simulate(sim_basis):
    """Factory of spectra from ``sim_basis``: ``simulate(n, snr=..., seed=..., ...)``.

    ``snr`` is the highest point of the mean spectrum's magnitude in the window over the noise SD per real channel;
    ``None`` for no noise.
    """
    import torch

    from fsl_mrs_dl.core.metabolites import typical_concentrations
    from fsl_mrs_dl.core.units import spec_to_fid
    from fsl_mrs_dl.fitting.quantify import model_for

    def make(
        n,
        *,
        snr=None,
        seed=0,
        model="voigt",
        baseline="poly, 2",
        groups=None,
        shift_ppm=0.02,
        phase_deg=20.0,
        spread=0.2,
        baseline_size=0.0,
        conc_factor=None,
        alike=False,
        basis=sim_basis,
    ):
        rng = np.random.default_rng(seed)
        signal_model, _ = model_for(
            basis,
            Axes(N_POINTS, 1 / BANDWIDTH_HZ, FREQ_MHZ, "1H"),
            FitOptions(model=model, baseline=baseline, metab_groups=groups),
        )
        sizes = signal_model.sizes
        draws = 1 if alike else n
        conc = typical_concentrations(list(basis.names)) * rng.lognormal(0, spread, (draws, basis.n_metabs))
        if conc_factor is not None:
            conc = conc * conc_factor
        common = rng.uniform(-shift_ppm, shift_ppm, (draws, 1)) * FREQ_MHZ * 2 * np.pi
        blocks = {
            "conc": conc,
            "gamma": rng.uniform(6, 14, (draws, sizes["gamma"])),
            "sigma": rng.uniform(8, 14, (draws, sizes.get("sigma", 0))),
            "eps": common + rng.uniform(-1, 1, (draws, sizes["eps"])) * (sizes["eps"] > 1),
            "phi0": np.deg2rad(rng.uniform(-phase_deg, phase_deg, (draws, 1))),
            "phi1": rng.uniform(-1e-4, 1e-4, (draws, 1)),
            "baseline": baseline_size * rng.normal(size=(draws, sizes["baseline"])),
        }
        params = np.concatenate([blocks[name] for name in sizes], axis=1)
        params = np.repeat(params, n, axis=0) if alike else params
        spec = signal_model(torch.as_tensor(params)).numpy()
        fids, noise_sd = spec_to_fid(spec), 0.0
        if snr is not None:
            first, last = signal_model.window
            noise_sd = float(np.abs(spec[:, first:last]).max(-1).mean() / snr)
            fids = fids + noise_sd * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
        return Simulated(fids, signal_model, params, params[:, : basis.n_metabs], noise_sd)

    return make
