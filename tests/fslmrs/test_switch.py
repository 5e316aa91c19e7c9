"""Switching what is added to FSL-MRS on and off, lastingly, in folders of the test's own."""

from __future__ import annotations

import pytest

from fsl_mrs_dl import _hook
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import OutputError
from fsl_mrs_dl.fslmrs import switch


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment with a starter file: (its file that switches off, the user's, the folder of packages)."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / switch.PTH).touch()
    off, users = tmp_path / "etc/hook_off", tmp_path / "config/hook_off"
    monkeypatch.delenv(_hook.VARIABLE, raising=False)
    monkeypatch.setattr(_hook, "off_files", lambda: [str(off), str(users)])
    monkeypatch.setattr(switch.sysconfig, "get_path", lambda name: str(packages))
    monkeypatch.setattr(switch.site, "getsitepackages", lambda: [])
    monkeypatch.setattr(switch.site, "ENABLE_USER_SITE", False)
    return off, users, packages


def test_off_and_on_again(environment, capsys):
    off, _, packages = environment
    assert switch.status() == (True, f"on ({packages / switch.PTH})")
    assert main(["hook", "off"]) == 0
    assert off.is_file()
    on, why = switch.status()
    assert not on and str(off) in why and "hook on" in why
    assert main(["hook", "on"]) == 0
    assert not off.exists() and switch.status()[0]
    assert main(["hook", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"Written: {off}" in lines and f"Removed: {off}" in lines
    assert lines[-1] == f"The hook is on ({packages / switch.PTH})."


def test_off_for_the_user_where_the_environment_cannot_be_written(environment):
    off, users, _ = environment
    off.parent.write_text("a file where a folder should be: nothing can be written below it")
    assert switch.turn_off() == users
    assert switch.status()[0] is False


def test_where_nothing_can_be_written_the_variable_is_named(environment):
    off, users, _ = environment
    for path in (off, users):
        path.parent.write_text("")
    with pytest.raises(OutputError, match="FSL_MRS_DL_HOOK=off"):
        switch.turn_off()


def test_the_variable_comes_first_and_is_named(environment, monkeypatch):
    monkeypatch.setenv(_hook.VARIABLE, "off")
    on, why = switch.status()
    assert not on and "FSL_MRS_DL_HOOK=off" in why and "unset" in why


def test_on_puts_a_missing_starter_file_back(environment):
    _, _, packages = environment
    (packages / switch.PTH).unlink()
    on, why = switch.status()
    assert not on and "not installed" in why
    assert switch.turn_on() == [packages / switch.PTH]
    assert "fsl_mrs_dl._hook" in (packages / switch.PTH).read_text()
    assert switch.status()[0]
    assert switch.turn_on() == []
