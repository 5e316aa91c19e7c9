"""Every command and every piece of Python in README and documentation: understood by the program, and run.

Commands that need no more than seconds run always; those of pages that need minutes with ``-m minutes``, those inside
FSL-MRS with ``-m with_fsl_mrs``.  Tutorials are run by the build of the documentation.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.made_series import EXPONENTIAL

from fsl_mrs_dl import load, save
from fsl_mrs_dl.cli.main import build_parser, main
from fsl_mrs_dl.simulation.acquisition import simulate_basis

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLE = ROOT / "fsl_mrs_dl" / "data" / "example"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "generated"} & set(page.relative_to(ROOT).parts)]
BLOCK = re.compile(r"^```+(?P<language>\S+)[^\n]*\n(?P<text>.*?)^```+\s*$", re.MULTILINE | re.DOTALL)

# Programs whose commands set a machine up, or open windows: the tests of the installation and of the viewer run them.
SET_UP = ("./install.sh", "source", "pip", "sudo", "/usr/bin/python3", "viewer/bin/pip", "fsleyes", "docker")
SWITCHES = ("hook", "launchers", "view", "doctor", "example")
FSL_MRS = ("fsl_mrs", "fsl_mrsi", "fsl_mrs_proc", "fsl_mrs_preproc", "fsl_dynmrs")


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, *languages):
    """Texts of the blocks of a page in these languages; cells of commands count as bash."""
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        language, text = match["language"], match["text"]
        if language == "{code-cell}" and text.startswith("%%bash\n"):
            language, text = "bash", text.removeprefix("%%bash\n")
        if language in languages:
            yield text


def commands(page):
    """Commands of a page as lists of words."""
    for text in blocks(page, "bash"):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


WITH_COMMANDS = [page for page in PAGES if any(True for _ in commands(page))]
TUTORIALS = [page for page in PAGES if page.read_text(encoding="utf-8").startswith("---\nfile_format: mystnb")]


# -- understood ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_commands_are_understood(page):
    """Also where they are not run: options that were renamed show here."""
    parser, _ = build_parser()
    for words in commands(page):
        if words[0] != "fsl_mrs_dl":
            assert words[0] in (*SET_UP, *FSL_MRS, "ls"), f"{name(page)}: {words[0]} is neither run nor left out"
            continue
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            try:
                _, unknown = parser.parse_known_args(words[1:])
            except SystemExit:
                pytest.fail(f"{name(page)}: {shlex.join(words)}: {errors.getvalue()}")
        assert not unknown, f"{name(page)}: {shlex.join(words)}: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_pages_lead_somewhere(page):
    """Those in README are followed here; the build of the site checks the rest."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path = target.partition("#")[0]
        if path and "://" not in path:
            assert (page.parent / path).exists(), f"{name(page)}: {target}"


def test_every_page_with_commands_is_run_somewhere():
    with_code = {name(page) for page in PAGES if any(True for _ in blocks(page, "bash", "python"))}
    assert with_code - {name(page) for page in TUTORIALS} == {*QUICK, *MINUTES, *INSIDE_FSL_MRS, *NOT_RUN}


def test_readme_stays_short():
    assert (ROOT / "README.md").stat().st_size <= 6000


# -- run -----------------------------------------------------------------------------------------------------------

QUICK = (
    "README.md",
    "docs/howto/align.md",
    "docs/howto/quantify.md",
    "docs/howto/python.md",
    "docs/howto/initial_values.md",
)
MINUTES = (
    "docs/howto/example_data.md",
    "docs/howto/basis.md",
    "docs/howto/get_data_in.md",
    "docs/howto/run.md",
    "docs/howto/water.md",
    "docs/howto/edited.md",
    "docs/howto/dynamic.md",
    "docs/howto/volume.md",
    "docs/howto/study.md",
    "docs/howto/networks.md",
    "docs/howto/denoise.md",
    "docs/howto/fsleyes.md",
)
INSIDE_FSL_MRS = ("README.md", "docs/tutorials/inside_fsl_mrs.md", "docs/howto/fsl_mrs.md")
# They hold commands of SET_UP and SWITCHES alone, or are run by tests/fslmrs/test_plugins.py.
NOT_RUN = ("docs/install.md", "docs/contributing/documentation.md", "docs/fsl_mrs_plugins.md")

SHORTER = {"--max-minutes": "0.05", "--transients": "8", "--spectra": "4"}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder with the files that commands of the pages refer to, small."""
    folder = tmp_path_factory.mktemp("material")
    shutil.copytree(EXAMPLE / "basis", folder / "basis")
    data = load(EXAMPLE / "svs.nii.gz")
    few = replace(data, fids=data.fids[..., :8])
    (folder / "svs").mkdir()
    (folder / "aligned").mkdir()
    for path in ("svs/svs.nii.gz", "scan.nii.gz", "transients.nii.gz", "raw.nii.gz", "aligned/svs.nii.gz"):
        save(folder / path, few)
    mean = replace(
        data, fids=data.fids.mean(-1), dim_tags=(), header={k: v for k, v in data.header.items() if k != "dim_5"}
    )
    for path in ("svs.nii.gz", "metab.nii.gz"):
        save(folder / path, mean)
    time = np.arange(data.fids.shape[3]) * data.dwelltime
    line = 4e3 * np.exp(-12 * time - (8 * time) ** 2)
    for path in ("water.nii.gz", "wref.nii.gz"):
        save(folder / path, replace(mean, fids=line[None, None, None].astype(complex)))
    labels = np.full((8, 8, 8), 2, np.int32)
    labels[4:], labels[:, :1] = 3, 24
    affine = np.diag([10.0, 10, 10, 1])
    affine[:3, 3] = -40
    nibabel.save(nibabel.freesurfer.MGHImage(labels, affine), folder / "aparc+aseg.mgz")
    return folder


@pytest.fixture
def bench(material, tmp_path, monkeypatch):
    """A folder of the test's own with that material, as the working directory."""
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shortened(words):
    """A command with less work of the same kind."""
    words = list(words)
    for option, value in SHORTER.items():
        if option in words:
            words[words.index(option) + 1] = value
    if words[:3] == ["fsl_mrs_dl", "simulate", "mrsi"]:
        words += ["--size", "6", "6", "1"]
    if words[:2] == ["fsl_mrs_dl", "train"]:
        words += ["--steps", "2", "--batch_size", "8", "--threads", "1"]
    return words


def remove_output(words):
    """Remove what a command writes: the material has some of it, under the names that pages use."""
    if "--output" in words:
        shutil.rmtree(words[words.index("--output") + 1], ignore_errors=True)


def run_page(page):
    """Run the commands of a page in the working directory, and then its Python."""
    for words in commands(page):
        if words[0] == "fsl_mrs_dl" and words[1] not in SWITCHES:
            remove_output(words)
            status = main(shortened(words)[1:])
            assert not status, f"{name(page)}: {shlex.join(words)}: status {status}"
    names = {"__name__": "page"}
    for text in blocks(page, "python"):
        exec(compile(text, name(page), "exec"), names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", QUICK)
def test_quick_pages_run(page, bench):
    run_page(ROOT / page)
    if page == "README.md":
        check_outputs(bench / "results")


def check_outputs(folder):
    """The page of outputs has every file and column of a run with water."""
    text = (DOCS / "reference" / "outputs.md").read_text(encoding="utf-8")
    columns = (folder / "uncertainty.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    names = [*(path.name for path in folder.iterdir()), *columns]
    missing = [entry for entry in names if f"`{entry}`" not in text]
    assert not missing, f"docs/reference/outputs.md lacks {missing}"


@pytest.mark.minutes
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", MINUTES)
def test_pages_that_need_minutes_run(page, bench):
    prepare(page, bench)
    run_page(ROOT / page)


def make_series(folder, configuration):
    """Write the files of a dynamic fit: eight spectra, their b values and a configuration."""
    (folder / "config.py").write_text(configuration, encoding="utf-8")
    np.savetxt(folder / "bvals", np.linspace(0, 5, 8))
    shutil.copy(folder / "svs" / "svs.nii.gz", folder / "series.nii.gz")


def make_diffusion(folder):
    """Write two transients of each spectrum of that series, and water alike."""
    series, water = load(folder / "series.nii.gz"), load(folder / "water.nii.gz")
    random = np.random.default_rng(0)
    for path, fids in (("dwi", series.fids[..., None, :]), ("dwi_water", water.fids[..., None, None])):
        shape = (*series.fids.shape[:4], 2, series.fids.shape[-1])
        noise = 1e-3 * np.abs(fids).max() * (random.standard_normal(shape) + 1j * random.standard_normal(shape))
        save(
            folder / f"{path}.nii.gz", replace(series, fids=fids + noise, dim_tags=("DIM_DYN", "DIM_USER_0"), header={})
        )


def make_volumes(folder):
    """Write two voxels of that series, and a mask."""
    series = load(folder / "series.nii.gz")
    save(folder / "mrsi_series.nii.gz", replace(series, fids=np.concatenate([series.fids] * 2)))
    mask = nibabel.Nifti1Image(np.ones((2, 1, 1), np.uint8), series.affine)
    nibabel.save(mask, folder / "mask.nii.gz")


def prepare(page, folder):
    """Make what a page takes from another page or from its reader."""
    if page.endswith("dynamic.md"):
        (python,) = blocks(ROOT / page, "python")
        make_series(folder, python)
        make_diffusion(folder)
        make_volumes(folder)
        basis = simulate_basis(te_ms=30, macromolecules="summed")
        shutil.rmtree(folder / "basis")
        replace(basis, names=tuple("Mac" if one == "mm" else one for one in basis.names)).save(folder / "basis")
    if page.endswith("study.md"):
        for label in ("01", "02"):
            session = folder / "BIDS" / f"sub-{label}" / "mrs"
            session.mkdir(parents=True)
            shutil.copy(folder / "svs.nii.gz", session / f"sub-{label}_acq-press_svs.nii.gz")
        description = '{"Name": "example", "BIDSVersion": "1.10.0"}'
        (folder / "BIDS" / "dataset_description.json").write_text(description, encoding="utf-8")
    if page.endswith(("fsleyes.md", "denoise.md")):
        before = ROOT / "docs/howto" / ("volume.md" if page.endswith("fsleyes.md") else "networks.md")
        for words in commands(before):
            if before.stem == "volume" or words[1:3] == ["train", "denoise"]:
                assert not main(shortened(words)[1:])


@pytest.mark.with_fsl_mrs
@pytest.mark.parametrize("page", INSIDE_FSL_MRS)
def test_pages_inside_fsl_mrs_run(page, bench):
    """With the programs of the environment, as a reader would run them."""
    assert not main("simulate mrsi --basis basis --size 4 4 1 --output head".split())
    shutil.copy(bench / "head" / "mrsi.nii.gz", bench / "mrsi.nii.gz")
    shutil.copy(bench / "head" / "mask.nii.gz", bench / "mask.nii.gz")
    make_series(bench, EXPONENTIAL)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    for words in commands(ROOT / page):
        if words[:2] == ["fsl_mrs_dl", "hook"] or words[0] in SET_UP:
            continue
        remove_output(words)
        words = [sys.executable, "-m", "fsl_mrs_dl.cli.main", *words[1:]] if words[0] == "fsl_mrs_dl" else words
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    if page.endswith("inside_fsl_mrs.md"):
        (python,) = blocks(ROOT / page, "python")
        done = subprocess.run(
            [sys.executable, "-c", python], env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
