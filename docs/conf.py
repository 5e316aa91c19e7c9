"""Configuration of the documentation: ``./install.sh docs`` builds it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "extensions")]

from fsl_mrs_dl import __version__  # noqa: E402

project = "FSL-MRS-DL"
author = "the developers of FSL-MRS-DL"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "docstrings",
    "generated_pages",
    "shell_cells",
    "mathml",
]
exclude_patterns = ["_build", "extensions", "Thumbs.db", ".DS_Store"]
nitpicky = False
html_theme = "furo"
html_title = f"FSL-MRS-DL {__version__.partition('+')[0]}"  # without the hash of a commit, which is longer than a line
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 4
suppress_warnings = ["ref.python"]  # names of attributes that several classes have

autosummary_generate = True
# Each page of the theme copies the whole tree of contents; with every function in it that is a third of a build.
toc_object_entries = False
autodoc_typehints = "none"  # the docstrings give types and shapes
autodoc_inherit_docstrings = False
autodoc_default_options = {"exclude-members": "ScatteringTorch1D"}  # is of another package
autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_use_ivar = True


def digest_of_sources() -> str:
    """Return a hash of what the notebooks run, so that none is taken from the cache after a change of the package."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "fsl_mrs_dl").rglob("*")):
        if path.suffix in (".py", ".json", ".safetensors", ".gz"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks" / digest_of_sources())
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_remove_code_outputs = False

# The kernels of the notebooks take their commands from the environment that builds the pages.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
startup = HERE / "_build" / "ipython" / "profile_default" / "startup"
startup.mkdir(parents=True, exist_ok=True)
shutil.copy(HERE / "extensions" / "kernel_startup.py", startup / "00_commands.py")
os.environ["IPYTHONDIR"] = str(startup.parents[1])
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONWARNINGS"] = "ignore"


def spread_notebooks(app, env, docnames):
    """Spread the notebooks among other pages: a process reads neighbours, and one process would run all notebooks."""
    notebooks = [name for name in docnames if name.startswith("tutorials/")]
    others = [name for name in docnames if name not in notebooks]
    step = len(others) // max(len(notebooks), 1) + 1
    for number, name in enumerate(notebooks):
        others.insert(number * (step + 1), name)
    docnames[:] = others


def setup(app):
    """Connect what is done before pages are read."""
    app.connect("env-before-read-docs", spread_notebooks)
