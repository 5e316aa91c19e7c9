"""Wrong inputs of commands are answered in one line, with the remedy, before anything is computed; and the help."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsl_mrs_dl.cli import doctor
from fsl_mrs_dl.cli.main import build_parser, main
from fsl_mrs_dl.concentrations.segmentation import tissue_fractions
from fsl_mrs_dl.core.errors import DataError, OptionError, OutputError
from fsl_mrs_dl.core.extras import EXTRAS
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.convert import check_format, load_any
from fsl_mrs_dl.io.output import check_writable, new_output_folder

EXAMPLE = Path(__file__).parents[2] / "fsl_mrs_dl" / "data" / "example"
DATA, BASIS = EXAMPLE / "svs.nii.gz", EXAMPLE / "basis"


def refused(words, capsys) -> str:
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    "values, message",
    [
        (["-0.1", "0.6", "0.5"], "tissue_frac -0.1 0.6 0.5: -0.1 is negative; give the white, grey and CSF fraction"),
        (["0.5", "0.4"], "tissue_frac 0.5 0.4: 2 fractions are given, and three are needed; give white"),
        (["1"], "tissue_frac 1: 1 fraction is given"),
        (["a", "b", "c"], "a: no such file; give the white, grey and CSF fraction as numbers, or segmentations"),
    ],
)
def test_tissue_fractions(values, message):
    data = nifti.MrsData(np.ones((1, 1, 1, 16), complex), 5e-4, 123.2, "1H", affine=np.eye(4))
    with pytest.raises((DataError, OptionError)) as caught:
        tissue_fractions(values, data)
    assert str(caught.value).startswith(message)


LCMODEL = """ $SEQPAR
 HZPPPM = 127.7
 $END
 $BASIS1
 BADELT = 0.0005
 $END
 $BASIS
 ID = 'NAA'
 $END
 1.0 1.0
"""


def test_a_basis_set_in_place_of_data(tmp_path, capsys):
    (tmp_path / "a.BASIS").write_text(LCMODEL, encoding="utf-8")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "on").symlink_to(BASIS)
    for path in (tmp_path / "a.BASIS", BASIS, next(BASIS.glob("*.json")), tmp_path / "b"):
        for read in (check_format, load_any):
            with pytest.raises(DataError, match="is a basis set, and spectra are needed; .* are the two swapped"):
                read(path)
    words = ["fit", "--data", BASIS, "--basis", DATA, "--output", tmp_path / "out"]
    assert f"{BASIS}: is a basis set, and spectra are needed; give spectra as --data" in refused(words, capsys)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.SDAT"])
def test_empty_files(tmp_path, name):
    (tmp_path / name).touch()
    for read in (check_format, load_any, nifti.load):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        if read is not nifti.load or name != "a.SDAT":
            assert str(caught.value) == f"{tmp_path / name}: the file is empty; copy or convert it again."


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("packed", [False, True])
def test_files_that_are_cut_off(tmp_path, part, packed):
    content = DATA.read_bytes() if packed else gzip.decompress(DATA.read_bytes())
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(content[: max(20, int(part * len(content)))])
    with pytest.raises(DataError) as caught:
        load_any(path)
    assert re.fullmatch(f"{path}: the file is cut short, .+; copy or convert it again.", str(caught.value))


def test_folders_that_cannot_be_written(tmp_path, capsys):
    for folder in (Path("/proc/out"), Path("/proc/a/b")):
        for check in (check_writable, lambda path: new_output_folder(path, False)):
            with pytest.raises(
                OutputError, match=f"^{folder}: cannot be made, /proc is not writable .*; choose another"
            ):
                check(folder)
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    table = tmp_path / "table.csv"
    table.write_text(f"data,name\n{DATA},one\n", encoding="utf-8")
    for words in (
        ["fit", "--data", DATA, "--basis", BASIS, "--output"],
        ["align", "--file", DATA, "--output"],
        ["run", "--data", DATA, "--output"],
        ["mrsi", "--data", DATA, "--basis", BASIS, "--output"],
        ["dynamic", "--data", DATA, "--basis", BASIS, "--dyn_config", table, "--output"],
        ["simulate", "svs", "--basis", BASIS, "--output"],
        ["simulate", "spectra", "--basis", BASIS, "--output"],
        ["simulate", "basis", "--output"],
        ["train", "quant", "--basis", BASIS, "--output"],
    ):
        assert "/proc/out: cannot be made, /proc is not writable" in refused([*words, "/proc/out"], capsys)
    assert "/proc/out: cannot be made" in refused(["study", table, "/proc/out", "participant"], capsys)


def test_a_missing_extra_is_named(tmp_path, capsys):
    code = (
        "import sys\nsys.modules['lightning'] = None\nfrom fsl_mrs_dl.cli.main import main\n"
        f"sys.exit(main(['train', 'quant', '--basis', {str(BASIS)!r}, '--output', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pip install '.[train]' in a copy of the repository" in done.stderr, done.stderr


def test_the_doctor_lists_extras(monkeypatch):
    monkeypatch.setattr(doctor, "missing_of", lambda name: ["optuna"] if name == "search" else [])
    good, absent = map(str, doctor._extras())
    assert good.startswith("ok  extras: train (training networks), timefreq")
    assert absent.startswith("--  extra search, for") and "without optuna (pip install '.[search]'" in absent


def test_extras_are_those_of_the_package():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    names = {"sklearn": "scikit-learn", "dask_jobqueue": "dask-jobqueue", "fsleyes_plugin_mrs": "fsleyes-plugin-mrs"}
    for extra, (_, modules) in EXTRAS.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{extra} = ["))
        assert all(names.get(module, module) in line for module in modules)


def groups_of(command: str) -> dict[str, list[str]]:
    parser = build_parser()[1][command]
    return {group.title: [one.dest for one in group._group_actions] for group in parser._action_groups}


def test_options_stand_in_groups_of_their_own():
    groups = groups_of("fit")
    assert "h2o" in groups["absolute concentrations (with --h2o)"] and "h2o" not in groups["fitting options"]
    for command in ("run", "study", "fit", "align", "dynamic"):
        groups = groups_of(command)
        for title, options in groups.items():
            loose = title in ("options", "optional arguments", "positional arguments")
            assert not (loose and {"bandwidth", "frequency", "nucleus"} & set(options)), command


def test_times_have_one_unit_in_every_help():
    units = {"TE": "MS", "TE1": "MS", "TM": "MS", "TR": "S"}
    parsers = list(build_parser()[1].values())
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
            assert action.metavar == units.get(action.dest, action.metavar), f"{parser.prog} {action.option_strings}"


def test_the_help_says_which_options_choose_a_model():
    parser = build_parser()[1]["fit"]
    helps = {action.dest: action.help for action in parser._actions if action.help and "SUPPRESS" not in action.help}
    for name in ("init", "network", "prior"):
        assert "(fsl-mrs model, which is fitted where" in helps[name]
