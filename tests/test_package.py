"""What is installed: light to import, complete in the wheel, clean to ruff."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fsl_mrs_dl
from fsl_mrs_dl.core.errors import FslMrsDlError
from fsl_mrs_dl.fslmrs import switch
from fsl_mrs_dl.io import files as files_module

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments, **options):
    """Run this Python with arguments; what it wrote on both streams is shown when it fails."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def loaded_by(code, heavy):
    """Those of the ``heavy`` libraries that a fresh Python has loaded once it has run ``code``, and what it printed."""
    out = run("-c", f"{code}\nimport sys\nprint('loaded:', *sorted(set({heavy!r}) & set(sys.modules)))")
    printed, _, loaded = out.rpartition("loaded:")
    return loaded.split(), printed


def test_importing_the_package_does_not_load_torch():
    assert loaded_by("import fsl_mrs_dl", ["torch", "numpy"])[0] == []


def test_help_answers_without_loading_what_is_slow_to_load():
    code = (
        "from fsl_mrs_dl.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not"
        " end.code"
    )
    loaded, printed = loaded_by(code, ["torch", "nibabel", "pandas", "scipy", "matplotlib", "plotly"])
    assert "usage: fsl_mrs_dl" in printed
    assert loaded == []


def test_version_is_that_of_the_metadata():
    assert importlib.metadata.version("fsl-mrs-dl") == fsl_mrs_dl.__version__


def test_command_is_installed():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="fsl_mrs_dl")
    assert callable(command.load())


# -- models --------------------------------------------------------------------------------------------------------


def test_models_folder_is_there():
    assert (files_module.models_folder() / "README.md").is_file()


def test_models_folder_inside_an_installed_package_comes_first(tmp_path, monkeypatch):
    package = tmp_path / "site-packages/fsl_mrs_dl"
    for folder in (package / "models", package.parent / "models"):
        folder.mkdir(parents=True)
        (folder / "README.md").touch()
    monkeypatch.setattr(files_module, "__file__", str(package / "io" / "files.py"))
    assert files_module.models_folder() == package / "models"


def test_models_folder_is_not_just_any_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(files_module, "__file__", str(tmp_path / "fsl_mrs_dl/io/files.py"))
    with pytest.raises(FslMrsDlError, match="install FSL-MRS-DL again"):
        files_module.models_folder()


# -- wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout stays clean and nothing stale in it gets in."""
    for name in ("setuptools", "setuptools_scm", "pip"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed, so no wheel can be built")
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools is older than 77, which the build asks for")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("these tests do not lie in a checkout, so there is nothing to build from")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("fsl_mrs_dl", "fsleyes_plugin_dl", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # The copy has no tags that the version could be taken from.
    version = {"SETUPTOOLS_SCM_PRETEND_VERSION": fsl_mrs_dl.__version__}
    run(
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(folder / "out"),
        str(source),
        cwd=folder,
        env={**os.environ, **version},
    )
    (built,) = (folder / "out").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return built, set(archive.namelist())


def test_wheel_is_named_for_the_package_and_any_platform(wheel):
    assert wheel[0].name == f"fsl_mrs_dl-{fsl_mrs_dl.__version__}-py3-none-any.whl"


def test_wheel_holds_every_module_data_file_and_model(wheel):
    def files(folder):
        every = (ROOT / folder).rglob("*")
        return {p.relative_to(ROOT).as_posix() for p in every if p.is_file() and "__pycache__" not in p.parts}

    expected = files("fsl_mrs_dl") | files("fsleyes_plugin_dl") | {f"fsl_mrs_dl/{name}" for name in files("models")}
    missing = sorted(expected - wheel[1])
    assert not missing, f"not in the wheel; add to packages or package-data in pyproject.toml: {missing}"
    assert "fsl_mrs_dl/data/spin_systems.json" in expected


def test_wheel_installs_nothing_else(wheel):
    info = f"fsl_mrs_dl-{fsl_mrs_dl.__version__}.dist-info"
    assert {name.split("/")[0] for name in wheel[1]} == {"fsl_mrs_dl", "fsleyes_plugin_dl", info, switch.PTH}
    assert f"{info}/licenses/LICENSE" in wheel[1]


# -- style ---------------------------------------------------------------------------------------------------------


def test_ruff_finds_nothing():
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed")
    run("-m", "ruff", "check", "--no-cache", ".", cwd=ROOT)
