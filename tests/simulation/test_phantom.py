"""The MRSI phantom: its truth is what fits find, its images lie where they say, its seed means the same every time."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import fsl_mrs_dl
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.simulation import anatomy as anatomy_module
from fsl_mrs_dl.simulation import artefacts, geometry, phantom
from fsl_mrs_dl.simulation.tissue import tissue_concentrations

SIZE, COARSE = (16, 18, 5), {"n_points": 512, "t1_mm": 3.0}
TINY = ["--size", "6", "5", "2", "--points", "256", "--t1_mm", "5"]


def simulate(basis=None, **options):
    return phantom.simulate_phantom(basis, phantom.PhantomOptions(**options))


@pytest.fixture(scope="module")
def head():
    return simulate(size=SIZE, **COARSE)


@pytest.fixture(scope="module")
def pure():
    """The same head without lipids and water, and hardly any noise."""
    return simulate(size=SIZE, snr=3000, lipids=False, water=0, **COARSE)


@pytest.fixture(scope="module")
def anatomy():
    return anatomy_module.draw_anatomy(0, t1_mm=3.0)


def spectra(made):
    return units.fid_to_spec(made.data.fids)


def near(ppm, made, width=0.15):
    """The points of a spectrum about a chemical shift."""
    axis = units.ppm_axis(made.data.n_points, made.data.dwelltime, made.data.spec_freq_mhz)
    return np.abs(axis - ppm) < width


# -- truth ---------------------------------------------------------------------------------------------------------


def test_fits_find_the_truth(pure, one_thread):
    """Concentrations, widths, shifts and phases are a fit's own, in its own units."""
    import torch

    rows = tuple(np.argwhere(pure.mask)[::15].T)
    fit = fsl_mrs_dl.quantify(
        pure.data.fids[rows],
        pure.basis,
        dwelltime=pure.data.dwelltime,
        spec_freq_mhz=pure.data.spec_freq_mhz,
        baseline="off",
        rescale=False,
        prior="none",
        device="cpu",
    )
    truth = np.stack([pure.concentrations[name][rows] for name in fit.names], 1)
    sd = np.sqrt(np.diagonal(fit.cov, axis1=1, axis2=2))[:, : truth.shape[1]]
    score = (fit.conc - truth) / sd
    assert len(truth) > 15 and 0.7 < score.std() < 1.3 and abs(score.mean()) < 0.15
    assert np.allclose(fit.noise_sd, pure.maps["noise_sd"][rows], rtol=0.2)
    blocks = fit.model.split(torch.as_tensor(fit.params))
    value = {name: blocks[name][:, 0].numpy() for name in ("gamma", "sigma", "eps", "phi0")}
    assert np.allclose(-value["eps"] / (2 * np.pi), pure.maps["shift_hz"][rows], atol=0.02)
    assert np.allclose(np.rad2deg(value["phi0"]), pure.maps["phase_deg"][rows], atol=0.3)
    assert np.allclose(value["gamma"] / np.pi, pure.maps["lorentz_hz"][rows], atol=0.1)
    assert np.allclose(value["sigma"] * 2 * np.sqrt(np.log(2)) / np.pi, pure.maps["gauss_hz"][rows], atol=0.15)


def test_snr_and_noise_are_what_they_say(head, pure):
    height = np.abs(spectra(pure)).max(-1)
    assert np.allclose(height[head.mask] / head.maps["noise_sd"][head.mask], head.maps["snr"][head.mask], rtol=0.01)
    assert np.median(head.maps["snr"][head.mask]) == pytest.approx(20, rel=1e-4)
    # The end of the FIDs in the grid's corners is noise alone.
    corners = head.data.fids[[0, 0, -1, -1], [0, -1, 0, -1]][..., 256:]
    for part in (corners.real, corners.imag):
        assert part.std() == pytest.approx(head.truth["noise_sd"], rel=0.03)
    assert (
        head.maps["snr"][head.tissue["gm"] + head.tissue["wm"] + head.tissue["csf"] + head.tissue["lesion"] == 0] == 0
    ).all()


def test_metabolites_differ_by_tissue(head):
    healthy = head.mask & (head.tissue["lesion"] == 0)
    grey, white = healthy & (head.tissue["gm"] > 0.6), healthy & (head.tissue["wm"] > 0.6)
    assert grey.sum() > 10 and white.sum() > 10
    brain = np.maximum(head.tissue["gm"] + head.tissue["wm"], 0.1)
    higher_in_grey = {}
    for name in ("Cr", "Glu", "Ins", "mm", "NAA", "GPC", "NAAG"):
        share = head.concentrations[name] / brain  # of what is not fluid
        higher_in_grey[name] = share[grey].mean() / share[white].mean()
    for name in ("Cr", "Glu", "mm"):
        assert higher_in_grey[name] > 1.1, name
    for name in ("GPC", "NAAG"):
        assert higher_in_grey[name] < 0.9, name
    assert 0.9 < higher_in_grey["NAA"] < 1.15
    table = dict(zip(head.basis.names, tissue_concentrations(head.basis.names).T))
    in_fluid = {name for name, row in table.items() if row[anatomy_module.TISSUES.index("csf")] > 0}
    assert in_fluid == {"Glc", "Lac", "Gln"}
    everywhere = head.tissue["lesion"] == 0
    assert (
        np.corrcoef(head.concentrations["NAA"][everywhere], (head.tissue["gm"] + head.tissue["wm"])[everywhere])[0, 1]
        > 0.95
    )


def test_heads_whose_concentrations_differ():
    size = {"size": (6, 5, 2), **COARSE}
    typical, one, same = (simulate(**size, concentration_sd=sd) for sd in (0.0, 0.3, 0.3))
    other = simulate(**size, seed=1, concentration_sd=0.3)
    tables = [
        np.array([list(row.values()) for row in made.truth["tissue_concentrations"].values()])
        for made in (typical, one, other)
    ]
    there = tables[0] > 0
    logs = [np.log(table[there] / tables[0][there]) for table in tables[1:]]
    assert np.concatenate(logs).std() == pytest.approx(0.3, abs=0.06)
    assert abs(np.corrcoef(logs)[0, 1]) < 0.4
    # Nothing else of the head changes.
    np.testing.assert_array_equal(one.tissue["gm"], typical.tissue["gm"])
    np.testing.assert_array_equal(one.maps["shift_hz"], typical.maps["shift_hz"])
    np.testing.assert_array_equal(one.data.fids, same.data.fids)


def test_the_lesion_is_one(head):
    without = simulate(size=SIZE, lesion=False, **COARSE)
    ill, well = head.tissue["lesion"] > 0.7, head.tissue["lesion"] == 0
    assert ill.sum() >= 4 and (without.tissue["lesion"] == 0).all()
    for name, low, high in (("NAA", 0, 0.6), ("Cr", 0, 0.9), ("PCh", 2, 5), ("GPC", 1.2, 3), ("Lac", 4, 20)):
        factor = head.concentrations[name][ill].mean() / without.concentrations[name][ill].mean()
        assert low < factor < high, (name, factor)
    assert head.maps["lorentz_hz"][ill].mean() > without.maps["lorentz_hz"][ill].mean() + 1
    for name, values in head.concentrations.items():
        assert np.array_equal(values[well], without.concentrations[name][well]), name
    for name in ("shift_hz", "phase_deg"):
        assert np.allclose(head.maps[name], without.maps[name], atol=0.3, equal_nan=True)


def test_lines_are_broad_where_the_field_is_steep(head):
    shift, mask = head.maps["shift_hz"], head.mask
    assert 10 < np.nanmax(np.abs(shift[mask])) <= 30.5
    slope = np.sqrt(sum(np.gradient(shift, axis=axis) ** 2 for axis in range(3)))
    there = mask & np.isfinite(slope)
    assert np.corrcoef(slope[there], head.maps["gauss_hz"][there])[0, 1] > 0.8
    still = simulate(size=(6, 6, 2), b0_hz=0, n_points=256, t1_mm=5)
    assert np.nanmax(np.abs(still.maps["shift_hz"])) == 0 and np.allclose(still.maps["gauss_hz"][still.mask], 2.5)


def test_lipids_fall_off_inside(head):
    from scipy.ndimage import distance_transform_edt

    rim = simulate(size=SIZE, lipids=False, **COARSE)
    assert (rim.maps["lipid"] == 0).all() and np.array_equal(rim.maps["noise_sd"], head.maps["noise_sd"])
    lipids = head.data.fids - rim.data.fids
    depth = np.stack([distance_transform_edt(head.mask[:, :, k]) for k in range(SIZE[2])], -1)
    at = [
        np.median(head.maps["lipid"][head.mask & (depth >= low) & (depth < high)])
        for low, high in ((1, 2), (2, 3), (4, 9))
    ]
    assert at[0] > 3 * at[1] and at[0] > 3 * at[2] > 0
    assert head.maps["lipid"][depth >= 4].max() < 0.05 * head.maps["lipid"].max()
    scalp = head.maps["lipid"] > 0.5 * head.maps["lipid"].max()
    assert not (scalp & (head.tissue["wm"] > 0.3)).any()
    spec = np.abs(units.fid_to_spec(lipids[scalp])).mean(0)
    assert spec[near(1.3, head)].max() == spec.max() and spec[near(5.3, head)].max() > 2 * spec[near(6.5, head)].max()
    # The map is the height of the highest peak, wherever shifts and phases do not cancel.
    height = np.abs(units.fid_to_spec(lipids[scalp])).max(-1)
    assert np.median(height / head.maps["lipid"][scalp]) == pytest.approx(1, abs=0.15)


def test_water_is_where_it_belongs_and_can_be_left_out(head):
    dry = simulate(size=SIZE, water=0, **COARSE)
    difference = np.abs(units.fid_to_spec((head.data.fids - dry.data.fids)[head.mask])).mean(0)
    assert difference[near(4.65, head, 0.3)].max() == difference.max() > 20 * difference[near(2, head)].max()
    assert (dry.maps["water"] == 0).all()


# -- seeds and grids -----------------------------------------------------------------------------------------------


def test_a_seed_is_one_head():
    made = [simulate(size=(7, 6, 3), seed=seed, n_points=256, t1_mm=5) for seed in (3, 3, 4)]
    for name in made[0].maps:
        assert np.array_equal(made[0].maps[name], made[1].maps[name], equal_nan=True), name
    assert made[0].data.fids.tobytes() == made[1].data.fids.tobytes()
    assert made[0].t1.tobytes() == made[1].t1.tobytes() and made[0].truth == made[1].truth
    assert not np.array_equal(made[0].t1, made[2].t1) and not np.allclose(made[0].data.fids, made[2].data.fids)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 1), (12, 10, 1), (3, 4, 5)])
def test_grids_of_every_size(size):
    made = simulate(size=size, n_points=128, t1_mm=5)
    assert made.data.fids.shape == (*size, 128) and made.data.fids.dtype == np.complex64
    assert np.isfinite(made.data.fids).all() and made.mask.any()
    for image in (*made.tissue.values(), *made.concentrations.values(), *made.maps.values(), made.mask):
        assert image.shape == size
    for values in made.concentrations.values():
        assert np.isfinite(values).all() and (values >= 0).all()


def test_anatomy_is_a_head(anatomy):
    ml = 3.0**3 / 1000
    volume = {name: share.sum() * ml for name, share in anatomy.fractions.items()}
    assert (
        400 < volume["gm"] < 900
        and 350 < volume["wm"] < 700
        and 100 < volume["csf"] < 450
        and 8 < volume["lesion"] < 50
    )
    together = sum(anatomy.fractions.values())
    assert together.min() >= -1e-5 and together.max() < 1 + 1e-4
    bright = {name: np.median(anatomy.t1[share > 0.95]) for name, share in anatomy.fractions.items()}
    assert bright["fat"] > bright["wm"] > 1.2 * bright["gm"] > 1.2 * 1.5 * bright["csf"]
    assert np.median(anatomy.t1[:3, :3, -3:]) < 0.1 * bright["gm"]


def test_images_lie_over_each_other(head, anatomy):
    """Through both affines, what the structural image shows is what the tissue maps say."""
    from scipy.ndimage import map_coordinates

    affine = head.data.affine
    assert nib.aff2axcodes(affine) == nib.aff2axcodes(head.t1_affine) == ("R", "A", "S")
    assert not np.allclose(affine[:3, 3], head.t1_affine[:3, 3]) and np.abs(affine[2, 1]) > 0.1
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in SIZE])).reshape(3, -1)
    ones = np.ones((1, corners.shape[1]))
    inside = (np.linalg.inv(head.t1_affine) @ affine @ np.concatenate([corners, ones]))[:3]
    # The slab's height is within the image; its corners may stick out of the head's sides.
    middle = inside.mean(1)
    assert ((middle > 0) & (middle < np.array(head.t1.shape))).all()
    assert inside[2].min() > -0.2 * head.t1.shape[2] and inside[2].max() < 1.2 * head.t1.shape[2]
    index = np.indices(SIZE).reshape(3, -1)
    points = (np.linalg.inv(head.t1_affine) @ affine @ np.concatenate([index, np.ones((1, index.shape[1]))]))[:3]
    seen = {name: map_coordinates(share, points, order=1).reshape(SIZE) for name, share in anatomy.fractions.items()}
    # At a voxel's centre is mostly what is in the voxel.
    for name in ("gm", "wm", "lesion"):
        assert np.corrcoef(seen[name].ravel(), head.tissue[name].ravel())[0, 1] > 0.6, name
    t1 = map_coordinates(head.t1.astype(float), points, order=1).reshape(SIZE)
    assert t1[head.tissue["wm"] > 0.8].mean() > t1[head.tissue["gm"] > 0.6].mean() > 200
    assert (t1[head.mask] > 100).mean() > 0.99
    assert head.mask.mean() < 0.5 and not head.mask[[0, -1]].any()


def test_the_lateral_sides_are_not_swapped(head, anatomy):
    ill = anatomy.affine @ [*np.mean(np.argwhere(anatomy.fractions["lesion"] > 0.5), 0), 1]
    on_grid = head.data.affine @ [*np.mean(np.argwhere(head.tissue["lesion"] > 0.5), 0), 1]
    assert np.linalg.norm((ill - on_grid)[:3]) < 6


def test_fields_on_grids_are_the_fields(rng):
    field = geometry.RandomField(rng, 30)
    affine = geometry.grid_affine(geometry.rotation_matrix(9, 3, -5), (3, 4, 5), (8, 7, 6), (10, -20, 30))
    assert np.allclose(field.on_grid(affine, (8, 7, 6)), field(geometry.grid_positions(affine, (8, 7, 6))), atol=2e-4)
    far = geometry.RandomField(rng, 30)(rng.uniform(-500, 500, (20000, 3)))
    assert abs(far.mean()) < 0.1 and far.std() == pytest.approx(1, abs=0.1)


def test_point_spread():
    """What is spread is the truncated, filtered transform, added up here term by term."""
    fine = np.zeros((24, 1, 1), complex)
    fine[10] = 3.0  # the middle of voxel 3 of 8
    seen = artefacts.point_spread(fine, (3, 1, 1))[:, 0, 0]
    k = np.arange(-4, 4)
    weight = 0.54 + 0.46 * np.cos(2 * np.pi * k / 8)
    expected = [(weight * np.exp(2j * np.pi * k * (x - 3) / 8)).sum() / 8 for x in range(8)]
    assert np.allclose(seen, expected, atol=1e-6)
    assert np.abs(seen).argmax() == 3 and abs(seen[7]) < 0.05 * abs(seen[3])
    assert np.allclose(artefacts.point_spread(np.full((9, 12, 3), 2 + 1j), (3, 3, 1)), 2 + 1j, atol=1e-5)
    assert artefacts.point_spread(np.ones((3, 6, 1)), (3, 3, 1)).shape == (1, 2, 1)


# -- options -------------------------------------------------------------------------------------------------------


def test_a_basis_set_of_ones_own(sim_basis):
    lcmodel = replace(sim_basis, names=tuple({"GPC": "PCho", "Ins": "mI"}.get(name, name) for name in sim_basis.names))
    made = simulate(lcmodel, size=(4, 4, 1), n_points=256, t1_mm=5, te_ms=35)
    assert tuple(made.concentrations) == lcmodel.names and made.data.dwelltime == lcmodel.dwelltime
    assert made.data.header["EchoTime"] == 0.035
    assert made.concentrations["mI"][made.mask].mean() > 3


@pytest.mark.parametrize(
    "options, words",
    [
        ({"size": (0, 4, 4)}, "size 0 4 4"),
        ({"size": (4, 4)}, "size 4 4:"),
        ({"size": (4000, 4000, 4)}, "size 4000 4000 4"),
        ({"snr": -1}, "snr -1"),
        ({"snr": float("nan")}, "snr nan"),
        ({"n_points": 8}, "n_points 8"),
        ({"b0_hz": -3}, "b0_hz -3"),
        ({"water": float("inf")}, "water inf"),
        ({"fov_mm": (10, 10, 0)}, "fov_mm 10 10 0"),
        ({"fov_mm": (1500, 1500, 1500)}, "no voxel holds brain"),
        ({"t1_mm": 0}, "t1_mm 0"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(OptionError, match=words):
        simulate(**{"size": (4, 4, 2), "n_points": 128, "t1_mm": 5} | options)


def test_basis_sets_that_do_not_do(sim_basis):
    few = replace(sim_basis, names=tuple(f"X{i}" for i in range(sim_basis.n_metabs)))
    with pytest.raises(OptionError, match="fewer than three"):
        simulate(few, size=(2, 2, 1), n_points=128)
    with pytest.raises(OptionError, match="is for 31P"):
        simulate(replace(sim_basis, nucleus="31P"), size=(2, 2, 1), n_points=128)
    with pytest.raises(OptionError, match="n_points 4096"):
        simulate(sim_basis, size=(2, 2, 1), n_points=4096)


# -- files ---------------------------------------------------------------------------------------------------------


def test_files(tmp_path, capsys):
    out = tmp_path / "head"
    assert main(["simulate", "mrsi", "--output", str(out), *TINY]) == 0
    assert "of them brain" in capsys.readouterr().out
    data, basis = nifti.load(out / "mrsi.nii.gz"), Basis.load(out / "basis")
    assert data.fids.shape == (6, 5, 2, 256) and data.nucleus == "1H" and data.bandwidth == pytest.approx(2000)
    assert basis.n_metabs == 21 and "mm" in basis.names and not basis.notes
    made = simulate(size=(6, 5, 2), n_points=256, t1_mm=5)
    assert np.array_equal(data.fids, made.data.fids)
    images = ["mask", "lesion", "tissue_gm", "tissue_wm", "tissue_csf"]
    images += [f"truth/{name}" for name in (*basis.names, *made.maps)]
    for name in images:
        image = nib.load(out / f"{name}.nii.gz")
        assert image.shape == (6, 5, 2) and np.allclose(image.affine, data.affine, atol=1e-3)
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    assert sorted(f"truth/{p.name}" for p in (out / "truth").iterdir()) == sorted(
        f"{n}.nii.gz" for n in images if "/" in n
    )
    assert np.allclose(nib.load(out / "T1w.nii.gz").affine, made.t1_affine, atol=1e-3)
    truth = json.loads((out / "truth.json").read_text())
    assert truth["options"]["seed"] == 0 and truth["options"]["size"] == [6, 5, 2]
    for name in truth["files"]:
        assert (out / name.replace("METABOLITE", "NAA")).exists(), name
    assert truth["tissue_concentrations"]["NAA"]["gm"] == pytest.approx(11)


def test_macromolecules_of_another_kind(tmp_path, capsys):
    out = tmp_path / "head"
    assert main(["simulate", "mrsi", "--output", str(out), *TINY, "--mm", "fsl-default"]) == 0
    assert {"MM09", "MM12"} <= set(Basis.load(out / "basis").names)
    assert nifti.load(out / "mrsi.nii.gz").header["EchoTime"] == 0.035
    first, second = (nib.load(out / "truth" / f"{name}.nii.gz").get_fdata() for name in ("MM09", "NAA"))
    assert (first[second > 5] > 2).all()
    again = ["simulate", "mrsi", "--output", str(tmp_path / "b"), *TINY, "--basis", str(out / "basis")]
    assert main([*again, "--mm", "fsl-default"]) == 2 and "already" in capsys.readouterr().err
    assert main([*again, "--snr", "50"]) == 0
    assert Basis.load(tmp_path / "b" / "basis").names == Basis.load(out / "basis").names


def test_overwriting(tmp_path, capsys):
    out = tmp_path / "head"
    words = ["simulate", "mrsi", "--output", str(out), *TINY]
    assert main(words) == 0
    before = (out / "truth.json").read_text()
    assert main([*words, "--seed", "1"]) == 2 and "exists already" in capsys.readouterr().err
    assert (out / "truth.json").read_text() == before
    assert main([*words, "--seed", "1", "--overwrite", "--basis", str(out / "basis")]) == 2
    assert "holds the input" in capsys.readouterr().err
    (out / "truth" / "thesis.docx").write_text("years of work")
    assert main([*words, "--seed", "1", "--overwrite"]) == 2
    assert "truth" in capsys.readouterr().err and (out / "truth" / "thesis.docx").exists()
    (out / "truth" / "thesis.docx").unlink()
    assert main([*words, "--seed", "1", "--overwrite", "--no-lipids", "--no-lesion"]) == 0
    options = json.loads((out / "truth.json").read_text())["options"]
    assert options["seed"] == 1 and not options["lipids"] and not options["lesion"]
    assert not nib.load(out / "lesion.nii.gz").get_fdata().any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head"]


def test_wrong_words_are_one_line(tmp_path, capsys):
    for words, said in (
        (["--size", "0", "4", "4"], "--size 0 4 4"),
        (["--snr", "-2"], "--snr -2"),
        (["--points", "8"], "--points 8"),
        (["--b0", "-3"], "--b0 -3"),
        (["--fov", "10", "10", "0"], "--fov 10 10 0"),
    ):
        assert main(["simulate", "mrsi", "--output", str(tmp_path / "x"), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
