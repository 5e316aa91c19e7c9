"""BIDS data sets and tables: which sessions are found, with which files."""

from __future__ import annotations

import pytest

from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.workflow.bids import BidsDataset, parse_name
from fsl_mrs_dl.workflow.bids_sessions import find_sessions, read_groups
from fsl_mrs_dl.workflow.table import sessions_of_table
from tests.helpers.made_bids import SIDECAR, make


def found(root, **options):
    return find_sessions(BidsDataset(root), **options)


def one(root, **options):
    (session,) = found(root, **options)
    return session


def relative(root, path):
    return None if path is None else path.relative_to(root).as_posix()


@pytest.mark.parametrize(
    "name, entities, suffix",
    [
        ("sub-01_svs.nii.gz", {"sub": "01"}, "svs"),
        ("sub-01_ses-a_acq-press_nuc-1H_voi-acc_run-2_mrsi.nii", {"sub": "01", "ses": "a"}, "mrsi"),
        ("svs.json", {}, "svs"),
    ],
)
def test_names_have_entities_suffix_and_extension(name, entities, suffix):
    parsed = parse_name(name)
    assert entities.items() <= parsed.entities.items() and parsed.suffix == suffix and parsed.problems() == []


def test_names_of_other_forms_are_none_and_wrong_ones_say_why():
    assert parse_name("report.html") is None and parse_name("sub-01_sub-02_svs.nii") is None
    assert "order" in parse_name("sub-01_run-1_acq-press_svs.nii.gz").problems()[0]
    assert "'foo'" in parse_name("sub-01_foo-1_svs.nii.gz").problems()[0]
    assert "no number" in parse_name("sub-01_run-a_svs.nii.gz").problems()[0]


def test_sidecars_are_inherited_and_the_nearest_goes_first(tmp_path):
    """The example of the specification, with spectroscopy."""
    root = make(
        tmp_path,
        {
            "svs.json": {**SIDECAR, "EchoTime": 0.02, "RepetitionTime": 2},
            "acq-press_svs.json": {"EchoTime": 0.03},
            "sub-01/mrs/sub-01_acq-press_svs.nii.gz": None,
            "sub-01/mrs/sub-01_acq-press_run-2_svs.json": {"EchoTime": 9},
            "sub-01/mrs/sub-01_acq-press_mrsref.json": {"EchoTime": 8},
            "sub-01/sub-01_svs.json": {"RepetitionTime": 3},
        },
    )
    session = one(root)
    assert (session.echo_time_s, session.repetition_time_s) == (0.03, 3.0) and session.notes == ()
    assert session.series == "acq-press_svs" and session.name == "sub-01_acq-press_svs"


def test_references_are_uris_or_relative_paths(tmp_path):
    other = make(tmp_path / "other", {"sub-01/anat/sub-01_T1w.nii.gz": None})
    water = "mrs/sub-01_acq-conc_mrsref.nii.gz"
    for reference in ("bids::sub-01/" + water, water, "sub-01/" + water, ["bids::sub-01/" + water]):
        fields = {
            **SIDECAR,
            "ReferenceSignal": reference,
            "AnatomicalImage": "bids:other:sub-01/anat/sub-01_T1w.nii.gz",
        }
        root = make(
            tmp_path / "set",
            {
                "sub-01/mrs/sub-01_acq-press_svs.nii.gz": None,
                "sub-01/mrs/sub-01_acq-press_svs.json": fields,
                "sub-01/" + water: None,
                "sub-01/mrs/sub-01_acq-press_mrsref.nii.gz": None,
            },
            {"Name": "made", "BIDSVersion": "1.10.0", "DatasetLinks": {"other": f"file://{other}"}},
        )
        session = one(root)
        assert relative(root, session.water) == "sub-01/" + water
        assert session.t1 == other / "sub-01/anat/sub-01_T1w.nii.gz" and session.notes == ()


def test_a_reference_that_is_not_there_is_noted_and_no_other_taken(tmp_path):
    fields = {**SIDECAR, "ReferenceSignal": "bids::sub-01/mrs/sub-01_acq-x_mrsref.nii.gz"}
    files = {"sub-01/mrs/sub-01_svs.nii.gz": None, "sub-01/mrs/sub-01_mrsref.nii.gz": None, "svs.json": fields}
    session = one(make(tmp_path, files))
    assert session.water is None and "there is no such file" in session.notes[0]


def test_without_reference_signal_the_nearest_name_of_the_same_place_is_taken(tmp_path):
    files = {"svs.json": SIDECAR, "sub-01/ses-1/mrs/sub-01_ses-1_acq-press_voi-acc_svs.nii.gz": None}
    others = ("ses-1_acq-press_voi-pcc", "ses-1_acq-press_voi-acc", "ses-1_voi-acc", "ses-2_acq-press_voi-acc")
    files |= {f"sub-01/{name[:5]}/mrs/sub-01_{name}_mrsref.nii.gz": None for name in others}
    session = one(make(tmp_path, files))
    assert session.water.name == "sub-01_ses-1_acq-press_voi-acc_mrsref.nii.gz" and "by its name" in session.notes[0]
    assert session.visit == "1" and session.participant == "01"


def test_several_references_need_a_name_that_tells(tmp_path):
    place = "sub-01/mrs/sub-01_acq-"
    files = {"svs.json": SIDECAR, "sub-01/mrs/sub-01_svs.nii.gz": None}
    root = make(tmp_path, files | {f"{place}{label}_mrsref.nii.gz": None for label in ("ecc", "other")})
    assert one(root).water is None and "none was taken" in one(root).notes[0]
    make(tmp_path, {f"{place}conc_mrsref.nii.gz": None})
    assert one(root).water.name == "sub-01_acq-conc_mrsref.nii.gz"


def test_segmentations_are_found_in_derivatives(tmp_path):
    root = make(tmp_path / "set", {"svs.json": SIDECAR, "sub-01/mrs/sub-01_svs.nii.gz": None})
    assert one(root).segmentations == ()
    freesurfer = "derivatives/freesurfer/sub-01/mri/aseg.mgz"
    make(root, {freesurfer: None})
    assert [relative(root, path) for path in one(root).segmentations] == [freesurfer]
    anat = "derivatives/fmriprep/sub-01/anat/sub-01_"
    make(root, {f"{anat}space-MNI152NLin2009cAsym_label-{one}_probseg.nii.gz": None for one in ("GM", "WM", "CSF")})
    assert relative(root, one(root).segmentations[0]) == freesurfer, "of a template, not of the participant"
    make(root, {f"{anat}dseg.nii.gz": None})
    assert [relative(root, path) for path in one(root).segmentations] == [f"{anat}dseg.nii.gz"]
    maps = [f"{anat}label-{tissue}_probseg.nii.gz" for tissue in ("GM", "WM", "CSF")]
    make(root, dict.fromkeys(maps))
    assert [relative(root, path) for path in one(root).segmentations] == maps
    elsewhere = make(tmp_path / "pipeline", {"sub-01/anat/sub-01_space-T1w_dseg.nii.gz": None})
    assert one(root, derivatives=[elsewhere]).segmentations[0].is_relative_to(elsewhere)


def test_participants_visits_and_groups_are_chosen(tmp_path):
    names = [f"sub-{who}/ses-{when}/mrs/sub-{who}_ses-{when}_svs.nii.gz" for who in ("01", "02") for when in "ab"]
    files = {"participants.tsv": "participant_id\tgroup\nsub-01\tpatient\nsub-02\tn/a\n", "svs.json": SIDECAR}
    root = make(tmp_path, files | dict.fromkeys(names))
    groups = read_groups(root, "group")
    assert groups == {"01": "patient"}
    assert len(found(root)) == 4
    session = one(root, participants=["sub-01"], visits=["b"], groups=groups)
    assert (session.participant, session.visit, session.group) == ("01", "b", "patient")
    for wrong in ({"participants": ["3"]}, {"visits": ["c"]}):
        with pytest.raises(OptionError):
            found(root, **wrong)


def test_what_bids_requires_is_noted_and_a_missing_description_refused(tmp_path):
    root = make(tmp_path, {"sub-01/mrs/sub-01_run-1_acq-x_svs.nii.gz": None, "sub-01/mrs/sub-02_svs.nii.gz": None})
    wrong, misplaced = (session.notes for session in found(root))
    assert "order" in wrong[0] and "EchoTime" in wrong[1]
    assert any("folder sub-01" in note for note in misplaced)
    assert all(not session.notes for session in found(root, validate=False))
    (root / "dataset_description.json").write_text('{"Name": "x"}', encoding="utf-8")
    with pytest.raises(DataError, match="BIDSVersion"):
        BidsDataset(root)
    assert BidsDataset(root, validate=False).participants() == ["01"]


def test_a_broken_sidecar_is_the_sessions_own_trouble(tmp_path):
    files = {"sub-01/mrs/sub-01_svs.nii.gz": None, "sub-01/mrs/sub-01_svs.json": "{"}
    assert "sidecar was not used" in one(make(tmp_path, files)).notes[0]


def test_sessions_of_a_table(tmp_path):
    for name in ("a.nii.gz", "w.nii.gz", "gm.nii", "wm.nii", "PRESS_act.SDAT"):
        (tmp_path / name).touch()
    table = tmp_path / "study.csv"
    table.write_text(
        "data,water,segmentation,white,grey,csf,diagnosis,name\n"
        "a.nii.gz,w.nii.gz,gm.nii; wm.nii,,,,x,\n"
        f"{tmp_path / 'a.nii.gz'},,,0.5,0.3,0.2,,second one\n"
        "b.nii.gz,,,0.5,,,,third\n"
        "PRESS_act.SDAT,,,,,,,\n",
        encoding="utf-8",
    )
    first, second, third, scanner = sessions_of_table(table, "diagnosis")
    assert scanner.name == scanner.participant == "PRESS_act"
    assert (first.name, first.group, first.water) == ("a", "x", tmp_path / "w.nii.gz")
    assert [path.name for path in first.segmentations] == ["gm.nii", "wm.nii"] and first.error == ""
    assert second.name == "second-one" and second.fractions == (0.5, 0.3, 0.2) and second.participant == "second one"
    assert "line 4" in third.error and "b.nii.gz" in third.error and "only some" in third.error


@pytest.mark.parametrize(
    "text, message", [("x\n1\n", "no column"), ("data\na\na\n", "two sessions"), ("data\n", "no l")]
)
def test_tables_that_are_none(tmp_path, text, message):
    table = tmp_path / "study.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        sessions_of_table(table)


def test_groups_are_read_from_ragged_lines_and_cells_with_spaces(tmp_path):
    """As spreadsheets write them: a tab too many, spaces at the ends, N/A."""
    people = "participant_id\tgroup\nsub-01\tpatient\t\nsub-02 \tpatient \nsub-03\tN/A\nsub-04\n\n"
    root = make(tmp_path, {"participants.tsv": people})
    assert read_groups(root, "group") == {"01": "patient", "02": "patient"}
    for column in ("Group", "diagnosis"):
        with pytest.raises(OptionError, match="is no column of .*participants.tsv; there are participant_id, group"):
            read_groups(root, column)
    (root / "participants.tsv").unlink()
    assert read_groups(root, "group") == {}
    with pytest.raises(OptionError, match="make the file"):
        read_groups(root, "diagnosis")
    make(tmp_path, {"participants.tsv": "participant_id\tgroup\nsub-01\tpatient\tmore\n"})
    with pytest.raises(DataError, match="line 2: has 3 cells, and the first line 2"):
        read_groups(root, "group")


def test_a_participant_in_two_groups_is_refused(tmp_path):
    """The last line had counted, so that all were 'post' and nothing was compared."""
    people = "participant_id\tgroup\nsub-01\tpre\nsub-01\tn/a\n01\tpre\n"
    root = make(tmp_path, {"participants.tsv": people})
    assert read_groups(root, "group") == {"01": "pre"}
    make(tmp_path, {"participants.tsv": people + "sub-01\tpost\n"})
    with pytest.raises(DataError, match=r"participants.tsv: sub-01 is in two groups \(pre, post\); .*a session a line"):
        read_groups(root, "group")


@pytest.mark.parametrize(
    "text",
    [
        "name,data,white,grey,csf\nä,a.nii,0.5,0.3,0.2,\n,,,,\n",
        "name;data;white;grey;csf\n;;;;\nä;a.nii;0,5;0,3;0,2\n",
        "name\tdata\twhite\tgrey\tcsf\r\nä\ta.nii\t0,5\t0.3\t0.2\r\n",
        'name,data,white,grey,csf\n"ä","a.nii","0,5",0.3,0.2\n',
    ],
)
def test_tables_as_spreadsheets_of_several_countries_write_them(tmp_path, text):
    (tmp_path / "a.nii").touch()
    (tmp_path / "study.csv").write_text(text, encoding="utf-8")
    (session,) = sessions_of_table(tmp_path / "study.csv")
    assert (session.name, session.fractions, session.error) == ("ä", (0.5, 0.3, 0.2), "")


def test_a_table_in_another_code_and_a_line_too_long_are_named(tmp_path):
    table = tmp_path / "study.csv"
    table.write_bytes("name,data\nMüller,a.nii\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        sessions_of_table(table)
    table.write_text("name,data\n\nS1,my, file.nii\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3: has 3 cells, and the first line 2; quote"):
        sessions_of_table(table)
    table.write_text("name,data\nS1,a.nii\n", encoding="utf-8")
    with pytest.raises(OptionError, match="is no column of"):
        sessions_of_table(table, "diagnosis")


def test_two_files_of_one_name_are_refused(tmp_path):
    """Each of them would replace the results of the other."""
    place = "sub-01/ses-{}/mrs/sub-01_svs.nii.gz"
    root = make(tmp_path, {"svs.json": SIDECAR, place.format(1): None, place.format(2): None})
    with pytest.raises(DataError, match="ses-2.*has the name of .*ses-1.*give each its own entities"):
        found(root)


def test_the_reference_of_other_data_is_not_taken(tmp_path):
    place = "sub-01/mrs/sub-01_acq-"
    files = dict.fromkeys(f"{place}{name}.nii.gz" for name in ("press_svs", "steam_svs", "steam_mrsref"))
    press, steam = found(make(tmp_path, {"svs.json": SIDECAR, **files}))
    assert press.water is None and steam.water.name == "sub-01_acq-steam_mrsref.nii.gz"
    make(tmp_path, {"sub-01/mrs/sub-01_acq-conc_mrsref.nii.gz": None})
    press, steam = found(tmp_path)
    assert [one.water.name[7:] for one in (press, steam)] == ["acq-conc_mrsref.nii.gz", "acq-steam_mrsref.nii.gz"]


def test_a_water_reference_has_the_times_of_its_own_sidecar(tmp_path):
    files = {
        "svs.json": {**SIDECAR, "RepetitionTime": 2},
        "mrsref.json": {**SIDECAR, "RepetitionTime": 10},
        "sub-01/mrs/sub-01_svs.nii.gz": None,
        "sub-01/mrs/sub-01_mrsref.nii.gz": None,
    }
    session = one(make(tmp_path, files))
    assert (session.repetition_time_s, session.water_repetition_time_s, session.water_echo_time_s) == (2, 10, 0.03)


@pytest.mark.parametrize(
    "heads, wrong, near",
    [
        ("data,group,watr", "watr", "water"),
        ("data,gray,white,csf", "gray", "grey"),
        ("data,Group", "Group", "group"),
        ("Data,group", "Data", "data"),
        ("data,segmentations", "segmentations", "segmentation"),
    ],
)
def test_a_misspelt_column_of_a_table_is_refused(tmp_path, heads, wrong, near):
    """It was ignored in silence, and sessions had no water reference."""
    table = tmp_path / "study.csv"
    table.write_text(f"{heads}\n{','.join('x' * len(heads.split(',')))}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"has a column '{wrong}' and none '{near}'"):
        sessions_of_table(table)


def test_columns_that_are_no_inputs_are_named(tmp_path):
    table, said = tmp_path / "study.csv", []
    table.write_text("data,group,age,sex,date,waters,water,\na.nii,ill,30,f,1,2,,\n", encoding="utf-8")
    (session,) = sessions_of_table(table, say=said.append)
    assert said == [f"{table}: not read as inputs are the columns age, sex, date, waters."]
    assert session.group == "ill" and session.water is None
    table.write_text("data,diagnosis,groups\na.nii,ill,1\n", encoding="utf-8")
    assert sessions_of_table(table, "diagnosis", said.append)[0].group == "ill" and "groups." in said[1]
    table.write_text("data,group\na.nii,ill\n", encoding="utf-8")
    assert sessions_of_table(table, say=said.append) and len(said) == 2
