"""Rarer situations of the hook, the launchers and the doctor, beside what test_hook, test_launchers and test_doctor
hold."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import resources
from pathlib import Path

import pytest
from helpers import launcher_folder, stand_in_fsl_mrs

from fsl_mrs_dl import _hook
from fsl_mrs_dl.cli import doctor
from fsl_mrs_dl.cli import without_fsl_mrs as without_fsl_mrs_module
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import OptionError, OutputError
from fsl_mrs_dl.fslmrs import launchers, switch

START = resources.files("fsl_mrs_dl").joinpath("data/hook_starter.txt").read_text()
needs_starter = pytest.mark.skipif(not switch.status()[0], reason="the hook is not on in this environment")

# This environment's own starter is taken away, so that a test says itself when one is there.
PREAMBLE = f"""
import importlib, sys, warnings
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != 'FslMrsDlStarter']
START = {START!r}
"""


def python(folder, code, *flags, check=True, **variables):
    """Run code in a fresh Python that finds the stand-in."""
    environment = {name: value for name, value in os.environ.items() if name != _hook.VARIABLE}
    done = subprocess.run(
        [sys.executable, *flags, "-c", PREAMBLE + textwrap.dedent(code)],
        env=environment
        | {"PYTHONPATH": stand_in_fsl_mrs.path_with(folder), "XDG_CONFIG_HOME": str(folder / "config")}
        | variables,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def package(tmp_path):
    return stand_in_fsl_mrs.write(tmp_path)


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    return launcher_folder.prepare(tmp_path / "bin", monkeypatch)


# -- the starter file ----------------------------------------------------------------------------------------------


def test_starter_file_is_one_line_that_site_runs(package):
    assert START.startswith("import ") and "\n" not in START.rstrip("\n")
    (package / "packages").mkdir()
    (package / "packages" / switch.PTH).write_text(START)
    done = python(
        package,
        """
        import site
        site.addsitedir('packages')
        print(type(sys.meta_path[0]).__name__)
        import fsl_mrs
        print(type(sys.meta_path[0]).__name__)
        """,
    )
    assert done.stdout.split() == ["FslMrsDlStarter", "Finder"] and not done.stderr


@pytest.mark.parametrize("left", ["nothing", "a broken package"])
def test_a_starter_file_that_outlives_the_package_does_no_harm(package, left):
    """Without it not a word is said, with a broken one a line; FSL-MRS is imported either way."""
    hidden = (
        "raise ModuleNotFoundError('no', name='fsl_mrs_dl')"
        if left == "nothing"
        else "raise ValueError('half of it is gone')"
    )
    (package / "fsl_mrs_dl").mkdir()
    (package / "fsl_mrs_dl/__init__.py").write_text(hidden)
    done = python(package, "exec(START)\nfrom fsl_mrs.utils import fitting\nprint(fitting.fit_FSLModel('m')[0])")
    assert done.stdout.strip() == "own"
    assert done.stderr == ("" if left == "nothing" else "FSL-MRS-DL adds nothing to FSL-MRS: half of it is gone\n")


# -- changed modules -----------------------------------------------------------------------------------------------


def test_changed_functions_can_be_looked_at_and_sent_to_other_processes(package):
    python(
        package,
        """
        exec(START)
        import inspect, pickle
        from fsl_mrs.core import mrsi
        from fsl_mrs.scripts import fsl_mrsi
        from fsl_mrs.utils import fitting
        assert inspect.getsource(fitting.fit_FSLModel).startswith('def fit_FSLModel')
        assert 'yield' in inspect.getsource(mrsi.MRSI.__iter__)
        for function in (fitting.fit_FSLModel, fsl_mrsi.runvoxel):
            assert pickle.loads(pickle.dumps(function)) is function
        for module in (fitting, mrsi, fsl_mrsi):
            assert module.__loader__ is module.__spec__.loader and module.__loader__.get_source(module.__name__)
        name = 'fsl_mrs.scripts.fsl_mrs'
        assert 'def main' in importlib.util.find_spec(name).loader.get_source(name)
        """,
    )


def test_a_fault_in_a_command_is_shown_whole_and_everything_is_put_back(package):
    """An error that is none of ours keeps its traceback; parser library, options and the volume's iterator are as
    before."""
    python(
        package,
        """
        exec(START)
        from fsl_mrs_dl.fslmrs import patching, plugin
        from fsl_mrs.core.mrsi import MRSI
        from fsl_mrs.scripts import fsl_mrsi
        def broken(voxels, arguments, options=None, running=None):
            raise ZeroDivisionError('in the middle')
        plugin.DlQuant.fit = staticmethod(lambda mrs, arguments, options=None: 'ours')
        plugin.DlQuant.fit_batched = staticmethod(broken)
        library = fsl_mrsi.configargparse
        sys.argv = ['fsl_mrsi', '--algo', 'dlquant']
        try:
            fsl_mrsi.main()
        except ZeroDivisionError as exc:
            assert 'in the middle' in str(exc)
        else:
            raise AssertionError
        assert fsl_mrsi.configargparse is library and patching.running == {}
        volume = MRSI([1, 2], None)
        assert [mrs for mrs, _, _ in volume] == ['mrs0', 'mrs1'] and volume.mrs_from_average() == 'average'
        sys.argv = ['fsl_mrsi']
        fsl_mrsi.main()
        """,
    )


@pytest.mark.parametrize(
    "changes, use",
    [
        (
            {"utils_fitting": "def fit_FSLModel(mrs, method, ppmlim): return 1\n"},
            "module.fit_FSLModel('m', 'dlquant', None)",
        ),
        ({"utils_report": "def svs_methods_summary(res, more): return 1\n"}, "module.svs_methods_summary(1, 2)"),
        ({"core_mrsi": "class MRSI:\n    def __iter__(self): return iter('ab')\n"}, "list(module.MRSI())"),
        ({"core_mrsi": "def MRSI(): return 'x'\n"}, "module.MRSI()"),
        ({"scripts_fsl_mrs": "import configargparse\ndef main(words): return words\n"}, "module.main(['--help'])"),
        ({"scripts_fsl_mrs": "import argparse as configargparse\ndef main(): return 1\n"}, "module.main()"),
        (
            {"scripts_fsl_mrsi": "import configargparse\ndef main(): return 1\ndef runvoxel(*given): return 1\n"},
            "module.main()",
        ),
        (
            {"scripts_fsl_mrs_proc": "import configargparse\nadd_common_args = 1\ndef main(): return 1\n"},
            "module.main()",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_module_of_almost_the_known_shape_is_left_as_it_is(tmp_path, changes, use):
    stand_in_fsl_mrs.write(tmp_path, **changes)
    (name,) = changes
    python(
        tmp_path,
        f"""
        exec(START)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            module = importlib.import_module('fsl_mrs.{name.replace("_", ".", 1)}')
        assert [w.category for w in caught if 'FSL-MRS-DL' in str(w.message)] == [RuntimeWarning]
        assert not hasattr(module, '_fsl_mrs_dl')
        things = [*vars(module).values(), *vars(getattr(module, 'MRSI', object)).values()]
        assert not any(hasattr(thing, '__wrapped__') for thing in things)
        assert {use}
        """,
    )


def test_unknown_modules_give_one_warning_altogether(tmp_path):
    stand_in_fsl_mrs.write(
        tmp_path, **{name.split(".", 1)[1].replace(".", "_", 1): "shape = 'unknown'\n" for name in _hook.TARGETS}
    )
    done = python(
        tmp_path,
        f"""
        exec(START)
        for name in {sorted(_hook.TARGETS)!r}:
            assert importlib.import_module(name).shape == 'unknown'
        """,
        "-W",
        "always",
    )
    assert done.stderr.count("does not know this FSL-MRS") == 1 and "RuntimeWarning" in done.stderr


# -- switch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment without a starter file: (its file that switches off, the folder of packages)."""
    packages, off = tmp_path / "site-packages", tmp_path / "etc/hook_off"
    packages.mkdir()
    monkeypatch.delenv(_hook.VARIABLE, raising=False)
    monkeypatch.setattr(_hook, "off_files", lambda: [str(off), str(tmp_path / "config/hook_off")])
    monkeypatch.setattr(switch.sysconfig, "get_path", lambda name: str(packages))
    monkeypatch.setattr(switch.site, "getsitepackages", lambda: [])
    monkeypatch.setattr(switch.site, "ENABLE_USER_SITE", False)
    return off, packages


def test_what_switches_off_and_cannot_be_removed_is_named(environment, capsys):
    off, _ = environment
    # A folder cannot be unlinked, whoever asks.
    off.mkdir(parents=True)
    assert main(["hook", "on"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fsl_mrs_dl hook: error: {off}: cannot be removed") and error.count("\n") == 1


def test_where_no_starter_file_can_be_written_it_is_named(environment):
    _, packages = environment
    packages.rmdir()
    with pytest.raises(OutputError, match="hook.pth: cannot be written"):
        switch.turn_on()


def test_a_starter_file_among_the_users_packages_counts(environment, tmp_path, monkeypatch):
    monkeypatch.setattr(switch.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(switch.site, "getusersitepackages", lambda: str(tmp_path / "users"))
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / switch.PTH).write_text(START)
    assert switch.status() == (True, f"on ({tmp_path / 'users' / switch.PTH})")
    assert switch.turn_on() == []


# -- launchers -----------------------------------------------------------------------------------------------------


def test_a_launcher_makes_way_for_fsl_mrs_that_came_later(scripts, package):
    launchers.add()
    environment = os.environ | {"PYTHONPATH": stand_in_fsl_mrs.path_with(package)}
    done = subprocess.run([str(scripts / "fsl_mrs"), "--data", "d"], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("('own', 'd', 'Newton'") and done.returncode == 0, done.stderr


def test_metropolis_hastings_needs_fsl_mrs(tmp_path, monkeypatch, capsys):
    launcher_folder.without_fsl_mrs(monkeypatch)
    assert (
        without_fsl_mrs_module.fsl_mrs(
            [*launcher_folder.FIT, "--algo", "dlquant", "--mh_samples", "9", "--output", str(tmp_path / "a")]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "--mh_samples: needs FSL-MRS" in said and "https://" in said and said.count("\n") == 1


# -- doctor --------------------------------------------------------------------------------------------------------


@pytest.fixture
def examined(tmp_path, monkeypatch):
    """Factory: write the stand-in with changes and return what the doctor says of it."""

    def make(**changes):
        monkeypatch.delenv(_hook.VARIABLE, raising=False)
        monkeypatch.setenv("PYTHONPATH", stand_in_fsl_mrs.path_with(stand_in_fsl_mrs.write(tmp_path, **changes)))
        return [str(finding) for finding in doctor.examine_fsl_mrs()]

    return make


@pytest.mark.parametrize(
    "text, expected",
    [
        ("import sys; sys.exit(3)\n", "is installed but broken (SystemExit: 3)"),
        ("import os; os._exit(3)\n", "the import ended Python"),
        ("raise ValueError('one\\ntwo')\n", "is installed but broken (ValueError: one)"),
        ("x = (\n", "is installed but broken (SyntaxError: "),
    ],
)
def test_whatever_fsl_mrs_does_the_doctor_goes_on(examined, text, expected):
    first, *others = examined(__init__=text)
    assert first.startswith(f"!!  FSL-MRS: {expected}") and "\n" not in first
    assert all(line[:4] in ("ok  ", "--  ", "!!  ") for line in others)


@needs_starter
def test_a_starter_file_that_is_not_run_is_told(examined, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(PREAMBLE)
    said = examined()
    assert any(line.startswith("!!  hook: Python does not start it") for line in said)


def test_the_command_ends_with_one_where_fsl_mrs_is_broken(examined, capsys):
    examined(__init__="import not_there\n")
    assert main(["doctor"]) == 1
    *lines, empty, verdict = capsys.readouterr().out.splitlines()
    assert all(line[:4] in ("ok  ", "--  ", "!!  ") for line in lines) and not empty
    assert any("No module named 'not_there'" in line for line in lines) and "(marked !!)" in verdict


# -- mended, and kept so -------------------------------------------------------------------------------------------


def test_a_foreign_launcher_behind_one_of_ours_is_not_replaced(scripts, tmp_path, monkeypatch):
    launchers.add()
    other = tmp_path / "other/bin"
    theirs = launcher_folder.foreign(other / "fsl_mrs")
    monkeypatch.setattr(launchers, "_folder", lambda: other)
    monkeypatch.setenv("PATH", f"{scripts}:{other}")
    with pytest.raises(OptionError):
        launchers.add()
    assert "theirs" in theirs.read_text()


def test_a_file_of_that_name_that_cannot_be_executed_is_not_replaced(scripts):
    theirs = launcher_folder.foreign(scripts / "fsl_mrs", mode=0o644)
    with pytest.raises((OptionError, OutputError)):
        launchers.add()
    assert "theirs" in theirs.read_text()


def test_a_link_into_nothing_is_not_written_through(scripts, tmp_path):
    (scripts / "fsl_mrs").symlink_to(tmp_path / "unmounted")
    with pytest.raises((OptionError, OutputError)):
        launchers.add()
    assert not (tmp_path / "unmounted").exists()


def test_a_failed_renewal_keeps_what_was_there(scripts):
    launchers.add()
    (scripts / "fsl_mrs_proc").unlink()
    (scripts / "fsl_mrs_proc").mkdir()
    with pytest.raises(OptionError):
        launchers.add()
    assert launchers.is_ours(scripts / "fsl_mrs")


def test_launchers_run_from_a_folder_with_a_space(scripts, tmp_path, monkeypatch):
    interpreter = tmp_path / "my env/python"
    interpreter.parent.mkdir()
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    launchers.add()
    done = subprocess.run([str(scripts / "fsl_mrs_proc"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0


def test_launchers_that_cannot_be_removed_give_one_line(scripts, monkeypatch, capsys):
    launchers.add()

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["launchers", "remove"]) == 2
    assert str(scripts / "fsl_mrs") in capsys.readouterr().err


def test_switched_off_no_other_finder_is_passed_over(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fsl_mrs.py").write_text(f"where = {name!r}\n")
    code = """
        import importlib.util
        class Editable:
            def find_spec(self, name, path=None, target=None):
                if name == 'fsl_mrs':
                    return importlib.util.spec_from_file_location(name, '../first/fsl_mrs.py')
        sys.meta_path.insert(0, Editable())
        exec(START)
        import fsl_mrs
        print(fsl_mrs.where)
    """
    assert python(tmp_path / "second", code).stdout.strip() == "first"  # passes
    assert python(tmp_path / "second", code, FSL_MRS_DL_HOOK="off").stdout.strip() == "first"


def test_a_reloaded_module_is_changed_again(package):
    python(
        package,
        """
        exec(START)
        from fsl_mrs.utils import fitting
        importlib.reload(fitting)
        assert hasattr(fitting.fit_FSLModel, '__wrapped__')
        """,
    )


def test_a_warning_made_an_error_does_not_keep_fsl_mrs_from_being_imported(tmp_path):
    stand_in_fsl_mrs.write(tmp_path, utils_fitting="def fit(): return 1\n")
    python(tmp_path, "exec(START)\nfrom fsl_mrs.utils import fitting\nassert fitting.fit()", "-W", "error")


def test_a_loader_can_be_copied(package):
    python(
        package,
        "exec(START)\nimport copy, importlib.util\ncopy.copy(importlib.util.find_spec('fsl_mrs.utils.fitting').loader)",
    )


def test_config_before_the_step_may_have_an_equals_sign(tmp_path, monkeypatch, capsys):
    launcher_folder.without_fsl_mrs(monkeypatch)
    (tmp_path / "config").write_text("file = nowhere.nii.gz\n")
    words = [f"--config={tmp_path / 'config'}", "dl-align", "--output", str(tmp_path / "out")]
    assert without_fsl_mrs_module.fsl_mrs_proc(words) == 2
    assert "nowhere.nii.gz: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("line, words", [("algo = dlquant", []), ("baseline_order = 1", ["--algo", "dlquant"])])
def test_a_configuration_file_may_hold_the_words_of_fsl_mrs(tmp_path, monkeypatch, capsys, line, words):
    launcher_folder.without_fsl_mrs(monkeypatch)
    (tmp_path / "config").write_text(f"{line}\n")
    # A file that is not there ends the fit before anything slow.
    given = [
        "--data",
        "nowhere.nii.gz",
        "--basis",
        "b",
        "--output",
        str(tmp_path / "out"),
        "--config",
        str(tmp_path / "config"),
    ]
    try:
        without_fsl_mrs_module.fsl_mrs([*given, *words])
    except SystemExit as end:
        assert end.code == 2
    assert "nowhere.nii.gz: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--dl-init", "--dl-model"])
def test_options_are_called_as_they_were_given(tmp_path, monkeypatch, capsys, option):
    launcher_folder.without_fsl_mrs(monkeypatch)
    try:
        without_fsl_mrs_module.fsl_mrs(
            [*launcher_folder.FIT, "--algo", "dlquant", option, "nobody", "--output", str(tmp_path / "a")]
        )
    except SystemExit as end:
        assert end.code == 2
    said = capsys.readouterr().err
    assert said.startswith("fsl_mrs: error: ") and f"{option} nobody" in said
