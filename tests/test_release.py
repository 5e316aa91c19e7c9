"""What a release is made of: versions that agree, valid metadata, recipes with the package's requirements, a whole
sdist."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

import fsl_mrs_dl
from benchmarks.scripts import environments, size_and_start

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / ".ci/conda").glob("*/meta.yaml"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def parsed(name):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(text(name))


def newest():
    """The version that the changelog begins with."""
    return re.search(r"^## (\d+\.\d+\.\d+)", text("CHANGELOG.md"), re.MULTILINE).group(1)


def git(*words, **options):
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True, **options).stdout


# -- versions ------------------------------------------------------------------------------------------------------


def test_all_files_name_the_version_that_the_changelog_begins_with():
    assert parsed("CITATION.cff")["version"] == newest()
    assert Version(PYPROJECT["tool"]["setuptools_scm"]["fallback_version"]).base_version == newest()
    for recipe in RECIPES:
        (version,) = re.findall(r"""{% set version = ['"](.+?)['"] %}""", recipe.read_text(encoding="utf-8"))
        assert version == newest(), recipe


def test_the_installed_version_is_the_newest_or_one_on_the_way_to_it():
    installed = Version(fsl_mrs_dl.__version__)
    if installed == Version("0+unknown"):
        pytest.skip("the package is not installed")
    assert Version(installed.public) <= Version(newest())


def test_a_checkout_that_was_never_built_has_the_version_of_the_installation(monkeypatch):
    from importlib import metadata

    monkeypatch.setitem(sys.modules, "fsl_mrs_dl._version", None)
    assert fsl_mrs_dl._find_version() == metadata.version("fsl-mrs-dl")

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert fsl_mrs_dl._find_version() == "0+unknown"


@pytest.mark.parametrize(
    ("tag", "commits", "expected"),
    [
        ("v1.2.3", 0, r"1\.2\.3"),
        ("v1.2.3", 1, r"1\.2\.4\.dev1\+g\w+"),
        ("", 0, r"0\.1\.0\.dev1\+g\w+"),
        (None, 0, r"0\.1\.0\.dev0"),
    ],
)
def test_the_version_is_that_of_the_tag(tag, commits, expected, tmp_path):
    scm = pytest.importorskip("setuptools_scm")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    me = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    if tag is not None:
        git("init", "-q", cwd=tmp_path)
        git(*me, "add", ".", cwd=tmp_path)
        git(*me, "commit", "-q", "-m", "a", cwd=tmp_path)
    if tag:
        git(*me, "tag", tag, cwd=tmp_path)
    for _ in range(commits):
        git(*me, "commit", "-q", "-m", "b", "--allow-empty", cwd=tmp_path)
    settings = {key: value for key, value in PYPROJECT["tool"]["setuptools_scm"].items() if key != "version_file"}
    assert re.fullmatch(expected, scm.get_version(root=str(tmp_path), **settings))


# -- metadata ------------------------------------------------------------------------------------------------------


def test_citation_is_valid_and_names_no_person_as_its_author():
    citation = parsed("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "FSL-MRS-DL contributors"}]
    assert citation["license"] == PYPROJECT["project"]["license"]
    known = json.loads(text("fsl_mrs_dl/data/references.json"))["works"]["clarke2021fslmrs"]
    assert citation["references"][0]["doi"] == known["doi"]


def test_zenodo_has_what_the_citation_has():
    zenodo, citation = json.loads(text(".zenodo.json")), parsed("CITATION.cff")
    for key, same in (("title", "title"), ("license", "license"), ("keywords", "keywords")):
        assert zenodo[key] == citation[same]
    assert zenodo["description"] == citation["abstract"].strip()
    assert zenodo["creators"] == citation["authors"]
    assert zenodo["upload_type"] == "software"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_conda_recipes_require_what_the_package_requires(recipe):
    yaml = pytest.importorskip("yaml")
    written = re.sub(r"{%.*?%}", "", recipe.read_text(encoding="utf-8"))
    content = yaml.safe_load(re.sub(r"{{.*?}}", "X", written))
    run = {line.split()[0]: line.partition(" ")[2] for line in content["requirements"]["run"]}
    assert run.pop("python") in (PYPROJECT["project"]["requires-python"], ">=X")
    wanted = {}
    for line in PYPROJECT["project"]["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(>=.+)", line).groups()
        wanted[CONDA_NAMES.get(name, name)] = bound
    assert run == wanted
    host = {line.split()[0] for line in content["requirements"]["host"]}
    assert {re.match(r"[\w-]+", line).group() for line in PYPROJECT["build-system"]["requires"]} <= host
    command = PYPROJECT["project"]["scripts"]["fsl_mrs_dl"]
    assert content["build"]["entry_points"] == [f"fsl_mrs_dl = {command}"]


def test_hosts_run_what_a_contributor_runs():
    for name in (".gitlab-ci.yml", ".github/workflows/ci.yml", ".github/workflows/release.yml"):
        assert parsed(name) and "bash .ci/run" in text(name), name
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert parsed(path.relative_to(ROOT)), path


def test_the_container_has_the_packages_that_fsleyes_needs():
    (packages,) = re.findall(r"local packages=\((.*)\)", text("install.sh"))
    missing = set(packages.split()) - set(text("Dockerfile").split())
    assert not missing


# -- sdist ---------------------------------------------------------------------------------------------------------


def test_the_sdist_holds_every_file_of_the_repository(tmp_path):
    """Its list is made where there is no git, so that MANIFEST.in has to name everything."""
    for name in ("setuptools", "setuptools_scm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    if not (ROOT / ".git").exists():
        pytest.skip("these tests do not lie in a git checkout")
    tracked = [name for name in git("ls-files", "-z", cwd=ROOT).split("\0") if name and (ROOT / name).is_file()]
    for name in tracked:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        content = b"" if name.endswith((".png", ".gz", ".safetensors")) else (ROOT / name).read_bytes()
        (tmp_path / name).write_bytes(content)
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info"], cwd=tmp_path, check=True, capture_output=True)
    held = set((tmp_path / "fsl_mrs_dl.egg-info/SOURCES.txt").read_text(encoding="utf-8").splitlines())
    assert not sorted(set(tracked) - held)
    assert "fsl_mrs_dl/_version.py" in held
    assert not [name for name in held if "__pycache__" in name]


# -- trials in empty environments ----------------------------------------------------------------------------------


def test_lower_bounds_are_those_of_the_package():
    bounds = environments.lower_bounds()
    assert len(bounds) == len(PYPROJECT["project"]["dependencies"])
    assert all("==" in bound for bound in bounds) and any(bound.startswith("torch==") for bound in bounds)


def test_the_table_tells_what_failed():
    steps = [{"step": "import", "good": True, "text": "1", "seconds": 1.0}]
    good = environments.Outcome("newest", "3.13.0", {"torch": "2.9.0+cpu"}, steps, megabytes=1000)
    bad = environments.Outcome("old", "3.11.7", {}, [{**steps[0], "good": False, "text": "no | such module"}])
    none = environments.Outcome("odd", "3.11.7", problem="no matching distribution")
    lines = environments.table([good, bad, none]).splitlines()
    assert lines[2].startswith("| 3.13.0 | newest | 2.9.0 |") and lines[2].endswith("| 1000 | works: import |")
    assert lines[3].endswith("import: no / such module |") and lines[4].endswith("no matching distribution |")
    assert len({line.count("|") for line in lines}) == 1


def test_sizes_are_added_up_by_part():
    files = {
        "fsl_mrs_dl/models/a/model.safetensors": 2e6,
        "fsl_mrs_dl/api.py": 1e6,
        "fsl_mrs_dl-1.dist-info/RECORD": 5e5,
    }
    parts = size_and_start.sizes(files)
    assert parts["trained networks"] == 2 and parts["Python code"] == 1 and parts["metadata"] == 0.5
    table = size_and_start.table_of_sizes({"fsl-mrs-dl": files, "torch": {"a": 3e6}, "numpy": {"b": 1e6}}, most=1)
    assert "| **all of it** | **3.50** |" in table and "| torch | 3 |" in table and "| 1 others | 1 |" in table


def test_the_cost_of_a_process_is_measured(tmp_path):
    code = "import time; x = bytearray(60_000_000); time.sleep(0.1)"
    cost = size_and_start.cost_of([sys.executable, "-c", code], tmp_path)
    assert cost.clock_s > 0.1 and cost.memory_mb > 60
    with pytest.raises(RuntimeError, match="ended with 3"):
        size_and_start.cost_of([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    costs = [size_and_start.Cost(clock, 1.0, 2.0) for clock in (3.0, 1.0, 2.0)]
    assert size_and_start.median_cost(costs) == size_and_start.Cost(2.0, 1.0, 2.0)
    assert "| one | 3.00 | 1.00 | 2 |" in size_and_start.table_of_costs({"one": costs[0]})
