"""Basis sets of edited acquisitions: folders, checks and differences."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fsl_mrs_dl.core.editing import EditingPulse
from fsl_mrs_dl.core.errors import BasisError
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.edited_basis import EditedBasis, is_edited_basis, removed_kept

DWELL, MHZ, POINTS = 5e-4, 123.2, 256


def basis(scale=1.0, names=("Cr", "GABA", "NAA"), **options):
    time = np.arange(POINTS) * DWELL
    fids = [k * np.exp((2j * np.pi * MHZ * (1.5 + k - 4.65) - 10) * time) for k in range(1, len(names) + 1)]
    fids = np.array(fids) * np.where(np.array(names) == "GABA", scale, 1)[:, None]
    return Basis(fids, names, DWELL, MHZ, widths_hz=(2.0,) * len(names), echo_time_s=0.068, **options)


def edited(**options):
    pulses = ((EditingPulse(1.9, duration_ms=15.0),), (EditingPulse(7.5, "ideal", None, 80.0, (1.0,)),))
    values = {"scheme": "mega-press", "conditions": ("on", "off"), "sets": (basis(0.5), basis()), "pulses": pulses}
    return EditedBasis(**values | options)


def test_a_folder_is_read_as_it_was_written(tmp_path):
    before = edited()
    after = EditedBasis.load(before.save(tmp_path / "mega"))
    assert (after.scheme, after.conditions, after.pulses) == (before.scheme, before.conditions, before.pulses)
    assert (after.names, after.n_metabs, after.echo_time_s) == (before.names, 3, 0.068)
    assert after.axes == before.axes and after.spec_freq_mhz == MHZ
    for one, other in zip(after.sets, before.sets):
        assert one.fids == pytest.approx(other.fids, abs=1e-8)
    assert is_edited_basis(tmp_path / "mega") and not is_edited_basis(tmp_path / "mega" / "on")
    assert Basis.load(tmp_path / "mega" / "on").names == before.names
    with pytest.raises(BasisError, match="edit condition; give one of its sub-folders, such as on"):
        Basis.load(tmp_path / "mega")


@pytest.mark.parametrize(("names", "conditions"), [(("ON", "Off", "diff"), ("on", "off")), ("dabc", "ABCD")])
def test_names_of_folders_tell_the_conditions(tmp_path, names, conditions):
    for name in names:
        basis().save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("how they were made")
    one = EditedBasis.load(tmp_path, keep=["Cr", "NAA"])
    assert one.conditions == tuple(conditions) and one.names == ("Cr", "NAA")
    assert one.pulses == ((),) * len(conditions)
    assert one.scheme == ("mega-press" if "on" in conditions else "unknown")
    assert is_edited_basis(tmp_path)


def test_a_signal_that_a_condition_removes_stays_a_negligible_one(tmp_path):
    edited().save(tmp_path)
    file = tmp_path / "on" / "NAA.json"
    content = json.loads(file.read_text())
    content["basis"]["basis_re"] = content["basis"]["basis_im"] = [0.0] * POINTS
    file.write_text(json.dumps(content))
    one = EditedBasis.load(tmp_path)
    assert one.names == ("Cr", "GABA", "NAA")
    assert 0 < np.abs(one.condition("on").fids[2]).max() < 1e-6
    assert one.difference("on", "off").fids[1] == pytest.approx(-one.condition("off").fids[2], abs=1e-6)
    kept = removed_kept(np.array([[[0, 0j]], [[2, 1j]]]))
    assert (np.abs(kept[0]).max() > 0) and kept[1] == pytest.approx(np.array([[2, 1j]]))


def test_a_difference_has_what_differs_only():
    difference = edited().difference("ON", "off")
    assert difference.names == ("GABA",) and difference.widths_hz == (2.0,)
    assert difference.fids[0] == pytest.approx(-0.5 * basis().fids[1])
    assert "Cr, NAA" in difference.notes[0]
    with pytest.raises(BasisError, match="the two are equal"):
        edited(sets=(basis(), basis())).difference("on", "off")
    with pytest.raises(BasisError, match="no edit condition A; it has on, off"):
        edited().difference("A", "off")


def test_metabolites_are_chosen_in_all_conditions():
    assert [one.names for one in edited().select(ignore=["Cr"]).sets] == [("GABA", "NAA")] * 2
    edited().check_match(MHZ, "1H")
    with pytest.raises(BasisError, match="the edited basis set: simulated at 123.2 MHz"):
        edited().check_match(297.2, "1H")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (basis(names=("Cr", "GABA", "Lac")), "off and on differ in Lac, NAA; simulate the sets again"),
        (replace(basis(), dwelltime=1e-3), "points, dwell time and nucleus"),
        (replace(basis(), spec_freq_mhz=127.7), "in frequency: 127.7 and 123.2 MHz"),
        (replace(basis(), echo_time_s=0.08), "in echo time: 80 and 68 ms"),
    ],
)
def test_sets_that_do_not_belong_together_are_refused(other, words):
    with pytest.raises(BasisError, match=words):
        edited(sets=(basis(), other))


def test_numbers_and_names_of_conditions_are_checked():
    with pytest.raises(BasisError, match="2 conditions, 1 sets"):
        edited(sets=(basis(),))
    with pytest.raises(BasisError, match="a name of its own"):
        edited(conditions=("on", "on"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no JSON", "not a list of edit conditions"),
        ({"scheme": "mega"}, "the scheme mega"),
        ({"te_ms": "68"}, "te_ms 68"),
        ({"te_ms": -1}, "te_ms -1"),
        ({"conditions": []}, "no list of conditions"),
        ({"conditions": [{"name": "on"}]}, "it has no 'folder'"),
        ({"conditions": [{"name": 1, "folder": "on"}]}, "name 1"),
        ({"conditions": [{"name": "on", "folder": "gone"}, {"name": "off", "folder": "off"}]}, "no gone beside it"),
        ({"conditions": [{"name": "on", "folder": "on", "pulses": [{"centre_ppm": 2}]}]}, "it has no 'shape'"),
        (
            {"conditions": [{"name": "on", "folder": "on", "pulses": [{"centre_ppm": 2, "shape": "x"}]}]},
            "edit_pulse x: is no shape",
        ),
    ],
)
def test_a_wrong_edit_file_is_named(tmp_path, change, words):
    edited().save(tmp_path)
    file = tmp_path / "edit.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(file.read_text()) | change)
    file.write_text(text)
    with pytest.raises(BasisError, match=words) as caught:
        EditedBasis.load(tmp_path)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(BasisError, match="give a folder with edit.json"):
        EditedBasis.load(tmp_path)
    basis().save(tmp_path)
    assert not is_edited_basis(tmp_path) and not is_edited_basis(tmp_path / "nowhere")


def test_one_decision_on_the_frequency_axis_for_all_conditions(tmp_path):
    # Alone, a set of one spectrum on the wrong side would be turned.
    right, wrong = basis(), basis()
    wrong = replace(wrong, fids=np.concatenate([wrong.fids[:1], wrong.fids[1:].conj()]))
    edited(sets=(right, wrong)).save(tmp_path)
    one = EditedBasis.load(tmp_path)
    assert [s.conjugated for s in one.sets] == [False, False]
    assert one.sets[1].fids == pytest.approx(wrong.fids, abs=1e-8)
