"""Tissue fractions from segmentations: boxes in half-spaces, whose volumes are known."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from fsl_mrs_dl.concentrations.segmentation import fractions_from_segmentation, tissue_fractions
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.io.nifti import MrsData

SHAPE, MM = (64, 60, 56), 1.0


def rotation(*degrees):
    """Return a rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        one, two = [i for i in range(3) if i != axis]
        turn[[one, one, two, two], [one, two, one, two]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        out = turn @ out
    return out


def image_affine():
    """Return the affine of the anatomical image, which is oblique itself."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(4, -7, 11) * MM
    affine[:3, 3] = (-35, -28, -30)
    return affine


def world():
    """Return the millimetres of every voxel of the image, ``(x, y, z, 3)``."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    affine = image_affine()
    return index @ affine[:3, :3].T + affine[:3, 3]


CENTRE = world()[32, 30, 28]


def voxel(size, turn=(0, 0, 0), centre=CENTRE, grid=(1, 1, 1)):
    """Return data of voxels of a size in mm whose first is about a centre."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(*turn) * np.array(size, float)
    affine[:3, 3] = centre
    return MrsData(np.zeros((*grid, 4), complex), 5e-4, 123.2, "1H", affine=affine)


def save(path, values):
    nibabel.save(nibabel.Nifti1Image(values, image_affine()), path)
    return path


def half_space(normal, distance):
    """Tell which voxels of the image lie below a plane at a distance from the centre along its normal."""
    return ((world() - CENTRE) @ normal) < distance


@pytest.mark.parametrize(
    "turn, shift", [((0, 0, 0), 0.0), ((20, 35, -50), 0.0), ((20, 35, -50), 4.0), ((-8, 3, 70), -7.5)]
)
def test_an_oblique_voxel_in_a_half_space(tmp_path, turn, shift):
    """Of a box of 20 mm along the plane's normal ``0.5 + shift / 20`` lies below the plane."""
    data = voxel((20, 24, 16), turn)
    normal = data.affine[:3, 0] / 20
    below = half_space(normal, shift)
    labels = save(tmp_path / "T1_fast_pveseg.nii.gz", np.where(below, 2, 3).astype(np.uint8))
    tissue = fractions_from_segmentation([labels], data)
    assert tissue.grey.item() == pytest.approx(0.5 + shift / 20, abs=0.006)
    assert tissue.white.item() == pytest.approx(0.5 - shift / 20, abs=0.006) and tissue.csf.item() == 0
    assert not tissue.notes


def test_voxels_of_a_grid(tmp_path):
    grid, turn = (4, 1, 2), (10, 20, 30)
    data = voxel((6, 8, 10), turn, CENTRE - rotation(*turn) @ (9, 0, 5), grid)
    below = half_space(data.affine[:3, 0] / 6, 1.5)
    names = ("sub-1_label-CSF_probseg.nii.gz", "sub-1_label-GM_probseg.nii.gz", "sub-1_label-WM_probseg.nii.gz")
    for name, share in zip(names, (0.1, np.where(below, 0.9, 0.0), np.where(below, 0.0, 0.9))):
        save(tmp_path / name, np.broadcast_to(np.asarray(share, np.float32), SHAPE).copy())
    tissue = fractions_from_segmentation([tmp_path / name for name in names], data)
    expected = 0.9 * np.clip((1.5 - np.array([-12, -6, 0, 6])) / 6, 0, 1)
    np.testing.assert_allclose(tissue.grey.reshape(grid)[:, 0, 0], expected, atol=0.03)
    np.testing.assert_allclose(tissue.grey + tissue.white + tissue.csf, 1, atol=1e-6)
    np.testing.assert_allclose(tissue.csf, 0.1, atol=1e-6)


@pytest.mark.parametrize(
    "names, order",
    [
        (("T1_fast_pve_0.nii.gz", "T1_fast_pve_1.nii.gz", "T1_fast_pve_2.nii.gz"), "csf grey white"),
        (("c1sub.nii", "c2sub.nii", "c3sub.nii"), "grey white csf"),
        (("mwc3x.nii", "mwc1x.nii", "mwc2x.nii"), "csf grey white"),
        (("a.nii", "b.nii", "c.nii"), "white grey csf"),
    ],
)
def test_names_tell_the_tissues_apart(tmp_path, names, order):
    share = {"white": 0.5, "grey": 0.3, "csf": 0.2}
    files = [
        save(tmp_path / name, np.full(SHAPE, share[tissue], np.float32)) for name, tissue in zip(names, order.split())
    ]
    tissue = tissue_fractions([str(path) for path in files], voxel((20, 20, 20)))
    assert (tissue.white.item(), tissue.grey.item(), tissue.csf.item()) == pytest.approx((0.5, 0.3, 0.2), abs=1e-6)


def test_labels_of_freesurfer_and_of_bids(tmp_path):
    along = np.arange(SHAPE[0])[:, None, None] * np.ones(SHAPE)
    labels = np.select([along < 24, along < 40], [2, 1012], 4)
    aseg = save(tmp_path / "aparc+aseg.nii.gz", labels.astype(np.int16))
    dseg = save(tmp_path / "sub-1_dseg.nii.gz", np.select([along < 24, along < 40], [2, 1], 3).astype(np.int16))
    other = save(tmp_path / "sub-2_dseg.nii.gz", np.select([along < 24, along < 40], [9, 7], 8).astype(np.int16))
    (tmp_path / "sub-2_dseg.tsv").write_text("index\tname\n7\tGray Matter\n8\tCSF\n9\tWhite Matter\n")
    data = voxel((32, 10, 10))
    data.affine[:3, :3] = image_affine()[:3, :3] * np.array([32, 10, 10])
    for path in (aseg, dseg, other):
        tissue = fractions_from_segmentation([path], data)
        assert tissue.grey.item() == pytest.approx(16 / 32, abs=0.02)
        assert tissue.white.item() == pytest.approx(8 / 32, abs=0.03)


def test_a_voxel_partly_outside_is_said(tmp_path):
    labels = save(tmp_path / "seg_pveseg.nii.gz", np.full(SHAPE, 2, np.uint8))
    data = voxel((20, 20, 20), centre=world()[0, 30, 28])
    data.affine[:3, :3] = image_affine()[:3, :3] * 20
    tissue = fractions_from_segmentation([labels], data)
    assert "lies outside of the image" in tissue.notes[0] and "48%" in tissue.notes[0]
    assert tissue.grey.item() == 1.0


def test_what_is_refused(tmp_path):
    labels = save(tmp_path / "labels.nii.gz", np.full(SHAPE, 2, np.uint8))
    with pytest.raises(OptionError, match="labels of unknown meaning"):
        fractions_from_segmentation([labels], voxel((20, 20, 20)))
    with pytest.raises(DataError, match="no such file"):
        tissue_fractions(["a.nii", "b.nii", "c.nii"], voxel((20, 20, 20)))
    with pytest.raises(OptionError, match="which sum to 1"):
        tissue_fractions([0.5, 0.4, 0.5], voxel((20, 20, 20)))
    with pytest.raises(OptionError, match="one segmentation or three"):
        tissue_fractions([labels, labels], voxel((20, 20, 20)))


def test_a_surface_is_no_segmentation(tmp_path):
    """The image library reads surfaces, too, which hold no voxels."""
    path = tmp_path / "lh.white.gii"
    nibabel.save(nibabel.gifti.GiftiImage(), path)
    with pytest.raises(DataError, match="lh.white.gii: cannot be read as an image"):
        tissue_fractions([path], voxel((20, 20, 20)))
