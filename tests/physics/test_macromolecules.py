"""Macromolecules added to a basis set, and a measured pattern turned into lines."""

from dataclasses import replace

import numpy as np
import pytest

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import BasisError, DataError, OptionError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.convert import spec2nii_version
from fsl_mrs_dl.physics import macromolecules


def window(fids, basis):
    ppm = units.ppm_axis(fids.shape[-1], basis.dwelltime, basis.spec_freq_mhz)
    return units.fid_to_spec(fids)[..., (ppm > 0.2) & (ppm < 4.2)]


@pytest.mark.parametrize("kind,n,first", [("parametric", 12, "MM092"), ("fsl-default", 5, "MM09"), ("summed", 1, "mm")])
def test_kinds_from_the_table_are_appended(sim_basis, kind, n, first):
    more = macromolecules.add_macromolecules(sim_basis, kind)
    assert more.names[: sim_basis.n_metabs] == sim_basis.names and more.names[sim_basis.n_metabs] == first
    assert more.n_metabs == sim_basis.n_metabs + n
    np.testing.assert_array_equal(more.fids[: sim_basis.n_metabs], sim_basis.fids)


def test_the_unit_of_the_basis_set_is_kept(sim_basis):
    from dataclasses import replace

    small = replace(sim_basis, fids=sim_basis.fids * 1e-3)
    one, other = (macromolecules.add_macromolecules(b, "summed").fids[-1] for b in (sim_basis, small))
    np.testing.assert_allclose(other, 1e-3 * one, rtol=1e-9)


def test_lines_are_found_again(sim_basis):
    ppm, fwhm, area = (
        np.array([0.9, 1.4, 2.05, 3.0]),
        np.array([15.0, 25.0, 18.0, 20.0]),
        np.array([3.0, 2.0, 4.0, 1.0]),
    )
    fid = area @ macromolecules.line_fids(ppm, fwhm, sim_basis.axes)
    found = macromolecules.fit_lines(fid, sim_basis.axes, 8)
    again = found[2] @ macromolecules.line_fids(*found[:2], sim_basis.axes)
    spec, rest = window(fid, sim_basis), window(fid - again, sim_basis)
    assert np.linalg.norm(rest) < 0.01 * np.linalg.norm(spec) and (np.diff(found[0]) > 0).all() and (found[2] > 0).all()


def test_a_measured_pattern_becomes_lines_that_sum_up_to_it(sim_basis):
    summed = macromolecules.add_macromolecules(sim_basis, "summed")
    lines, mm = macromolecules.in_lines(summed)
    assert lines.names[: sim_basis.n_metabs] == sim_basis.names and mm.sum() == lines.n_metabs - sim_basis.n_metabs > 8
    rest, spec = window(summed.fids[-1] - lines.fids[mm].sum(0), sim_basis), window(summed.fids[-1], sim_basis)
    flat = rest - rest.mean()
    assert np.linalg.norm(flat) < 0.1 * np.linalg.norm(spec)
    again, same = macromolecules.in_lines(lines)
    assert again.names == lines.names and (same == mm).all()


def test_without_macromolecules_there_are_no_lines(sim_basis):
    with pytest.raises(BasisError, match="mm"):
        macromolecules.in_lines(sim_basis)


def test_measured_ones_from_a_file(sim_basis, tmp_path):
    pattern = macromolecules.add_macromolecules(sim_basis, "summed").fids[-1] * 40
    data = nifti.MrsData(
        pattern[None, None, None], sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", (), affine=np.eye(4)
    )
    nifti.save(tmp_path / "mm.nii.gz", data)
    more = macromolecules.add_macromolecules(sim_basis, tmp_path / "mm.nii.gz")
    assert more.names[-1] == "mm"
    inner = np.vdot(more.fids[-1], pattern) / np.linalg.norm(more.fids[-1]) / np.linalg.norm(pattern)
    assert abs(inner) > 0.999 and 0.1 < np.abs(more.fids[-1]).max() / np.abs(sim_basis.fids).max(1).mean() < 10


@pytest.mark.parametrize("residual,refused", [(0.0, False), (10.0, False), (1e4, True)])
def test_a_water_reference_given_by_mistake_is_refused(sim_basis, tmp_path, residual, refused):
    pattern = macromolecules.add_macromolecules(sim_basis, "summed").fids[-1]
    time = np.arange(sim_basis.n_points) * sim_basis.dwelltime
    line = np.exp(2j * np.pi * 3 * time - np.pi * 8 * time)
    highest = np.abs(window(pattern, sim_basis)).max() / np.abs(units.fid_to_spec(line)).max()
    fid = pattern + residual * highest * line
    nifti.save(
        tmp_path / "mm.nii.gz",
        nifti.MrsData(fid[None, None, None], sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", (), affine=np.eye(4)),
    )
    if not refused:
        assert macromolecules.add_macromolecules(sim_basis, tmp_path / "mm.nii.gz").names[-1] == "mm"
        return
    with pytest.raises(DataError, match="looks like a water reference") as caught:
        macromolecules.add_macromolecules(sim_basis, tmp_path / "mm.nii.gz")
    assert str(tmp_path / "mm.nii.gz") in str(caught.value) and "\n" not in str(caught.value)


def test_measured_ones_from_a_scanners_file(testdata):
    """SDAT was refused, after the basis set had been simulated."""
    if spec2nii_version() is None:
        pytest.skip("spec2nii is not installed; it converts the scanner's files")
    folder = testdata / "invivo_3t_press_philips"
    basis = Basis.load(folder / "3T_PRESS_Philips_35ms_noMM.BASIS")
    nulled = folder / "PRESS_metabolite-nulled_TI600_raw-act.SDAT"
    macromolecules.check_macromolecules(nulled)
    more = macromolecules.add_macromolecules(basis, nulled)
    assert more.names[-1] == "mm" and any("spec2nii" in note for note in more.notes)
    spec, ppm = np.abs(units.fid_to_spec(more.fids[-1])), basis.axes.ppm()
    assert spec[np.abs(ppm - 0.9) < 0.1].max() > 3 * np.median(spec[(ppm > 6) & (ppm < 9)])


def test_measured_ones_from_another_basis_set(sim_basis, tmp_path):
    summed = macromolecules.add_macromolecules(sim_basis, "summed")
    summed.save(tmp_path / "other")
    assert macromolecules.add_macromolecules(sim_basis, tmp_path / "other").names[-1] == "mm"
    sim_basis.save(tmp_path / "without")
    with pytest.raises(BasisError, match="holds no macromolecules"):
        macromolecules.add_macromolecules(sim_basis, tmp_path / "without")


def test_what_cannot_be_added_is_said(sim_basis, tmp_path):
    with pytest.raises(OptionError, match="no such file.*parametric"):
        macromolecules.add_macromolecules(sim_basis, tmp_path / "nowhere")
    with pytest.raises(OptionError, match="has mm already"):
        macromolecules.add_macromolecules(macromolecules.add_macromolecules(sim_basis, "summed"), "summed")
    two = np.ones((1, 1, 1, 64, 2), complex)
    data = nifti.MrsData(two, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", ("DIM_DYN",), affine=np.eye(4))
    nifti.save(tmp_path / "two.nii.gz", data)
    with pytest.raises(DataError, match="2 spectra"):
        macromolecules.add_macromolecules(sim_basis, tmp_path / "two.nii.gz")
    # Without the basis set, whose simulation takes minutes.
    with pytest.raises(DataError, match="2 spectra"):
        macromolecules.check_macromolecules(tmp_path / "two.nii.gz")
    with pytest.raises(OptionError, match="no such file"):
        macromolecules.check_macromolecules(tmp_path / "nowhere")
    line = macromolecules.line_fids([0.9], [30.0], sim_basis.axes)
    one = replace(data, fids=line[None, None], dim_tags=())
    nifti.save(tmp_path / "one.nii.gz", one)
    seven = replace(one, spec_freq_mhz=297.2, path=tmp_path / "seven.nii.gz")
    macromolecules.check_macromolecules(tmp_path / "one.nii.gz", one)
    with pytest.raises(OptionError, match=r"one.nii.gz: is of 1H at 123.2 MHz, .*seven.nii.gz of 1H at 297.2 MHz"):
        macromolecules.check_macromolecules(tmp_path / "one.nii.gz", seven)
    with pytest.raises(OptionError, match="is for 1H"):
        macromolecules.check_macromolecules("summed", replace(one, nucleus="31P"))


def test_a_line_is_named_after_its_place(sim_basis):
    made = Basis(sim_basis.fids[:1], ("mm",), sim_basis.dwelltime, sim_basis.spec_freq_mhz)
    lines, mm = macromolecules.in_lines(made, 6)
    assert mm.all() and all(name.startswith("MM") for name in lines.names)


def test_a_basis_that_holds_macromolecules_already_is_named(sim_basis):
    assert macromolecules.add_macromolecules(sim_basis, "summed").notes == ()
    measured = replace(sim_basis, names=("Mac", *sim_basis.names[1:]))
    (note,) = macromolecules.add_macromolecules(measured, "summed").notes
    assert "holds macromolecules already (Mac)" in note and "`ignore`, Mac" in note
    lipid = replace(sim_basis, names=("Lip13", *sim_basis.names[1:]))
    assert macromolecules.add_macromolecules(lipid, "summed").notes == ()


def test_measured_ones_from_an_lcmodel_raw(sim_basis, tmp_path):
    """The line named --bandwidth, which is of the data, and which most jobs do not have."""
    line = macromolecules.line_fids([0.9], [30.0], sim_basis.axes)[0].conj()
    rows = "\n".join(f"{value.real:15.6E}{value.imag:15.6E}" for value in line)
    path = tmp_path / "nulled.RAW"
    path.write_text(f" $NMID ID='x', FMTDAT='(2E15.6)' $END\n{rows}\n")
    with pytest.raises(DataError) as caught:
        macromolecules.check_macromolecules(path)
    assert "no bandwidth and no frequency" in str(caught.value) and "nulled.control beside" in str(caught.value)
    assert "`bandwidth`" not in caught.value.text(lambda name: f"`{name}`")
    (tmp_path / "nulled.control").write_text(
        f"deltat={sim_basis.dwelltime:.9g}\nhzpppm={sim_basis.spec_freq_mhz:.9g}\n"
    )
    more = macromolecules.add_macromolecules(sim_basis, path)
    spec, ppm = np.abs(units.fid_to_spec(more.fids[-1])), sim_basis.axes.ppm()
    assert more.names[-1] == "mm" and abs(ppm[spec.argmax()] - 0.9) < 0.05
