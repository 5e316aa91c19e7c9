"""Files that belong to one file, as its format lays them out."""

from __future__ import annotations

import pytest

from fsl_mrs_dl.io.companions import companions

CONTROL = "$LCMODL\n deltat=5e-4\n hzpppm=123.2\n$END\n"


@pytest.mark.parametrize(
    "name, beside",
    [
        ("a.SDAT", ["a.SPAR"]),
        ("a.spar", ["a.sdat"]),
        ("a.data", ["a.LIST", "a.spar"]),
        ("t1.img", ["t1.hdr"]),
        ("t1.hdr", ["t1.img.gz"]),
        ("t1+orig.HEAD", ["t1+orig.BRIK.gz"]),
        ("t1.PAR", ["t1.REC"]),
        ("fid", ["acqp", "method"]),
        ("fid", ["procpar"]),
        ("card.json", ["model.safetensors"]),
        ("a.nii.gz", []),
        ("a.dat", []),
    ],
)
def test_what_belongs_to_a_file_is_found_in_either_case(tmp_path, name, beside):
    for other in (name, *beside, "a.json", "b.SPAR", "b.sdat", "b.list", "b.hdr", "b.img", "notes", "settings.json"):
        (tmp_path / other).write_text(other, encoding="utf-8")
    assert [path.name for path in companions(tmp_path / name)] == sorted(beside)


def test_a_bruker_image_has_parameters_two_folders_above(tmp_path):
    place = tmp_path / "pdata" / "1"
    place.mkdir(parents=True)
    for path in (place / "2dseq", place / "visu_pars", tmp_path / "acqp", tmp_path / "method"):
        path.touch()
    found = companions(place / "2dseq")
    assert [path.name for path in found] == ["acqp", "method", "visu_pars"]


def test_the_control_file_of_lcmodel_belongs_to_its_spectra(tmp_path):
    raw = tmp_path / "one.RAW"
    raw.write_text(" $NMID id='x' $END\n 1 1\n", encoding="utf-8")
    assert companions(raw) == []
    for name in ("one.control", "two.control"):
        (tmp_path / name).write_text(CONTROL, encoding="utf-8")
    assert [path.name for path in companions(raw)] == ["one.control"], "that of its own name"
    (tmp_path / "one.control").unlink()
    assert [path.name for path in companions(raw)] == ["two.control"]


def test_a_file_that_is_not_there_and_a_folder_have_none(tmp_path):
    assert companions(tmp_path / "nothing" / "a.sdat") == [] and companions(tmp_path) == []
