"""The mechanism that docs/fsl_mrs_plugins.md proposes: our side of it is there, and the hook makes way where FSL-MRS
has its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

DRAFT = Path(__file__).resolve().parents[2] / "docs/fsl_mrs_plugins.md"


def test_step_and_method_are_declared():
    (step,) = entry_points(group="fsl_mrs.proc", name="dl-align")
    (method,) = entry_points(group="fsl_mrs.fitting", name="dlquant")
    for found, names in (
        (step, ("help", "add_arguments", "run")),
        (method, ("help", "heading", "add_arguments", "options_from", "fit", "fit_batched", "describe")),
    ):
        plugin = found.load()
        assert plugin.name == found.name
        for name in names:
            assert hasattr(plugin, name), f"{found.name} has no {name}"


def test_every_step_has_the_form_and_is_declared():
    from fsl_mrs_dl.fslmrs import plugin

    declared = (DRAFT.parents[1] / "pyproject.toml").read_text()
    assert [step.name for step in plugin.STEPS] == ["dl-align", "dl-denoise"]
    for step in plugin.STEPS:
        assert step.help and callable(step.add_arguments) and callable(step.run)
        assert f'{step.name} = "fsl_mrs_dl.fslmrs.plugin:{step.__name__}"' in declared


def test_the_draft_describes_what_is_there():
    text = DRAFT.read_text()
    lines = [
        f'{name} = "fsl_mrs_dl.fslmrs.plugin:{cls}"'
        for name, cls in (("dl-align", "DlAlign"), ("dl-denoise", "DlDenoise"))
    ]
    for line in (*lines, 'dlquant = "fsl_mrs_dl.fslmrs.plugin:DlQuant"'):
        assert line in text
        assert line in (DRAFT.parents[1] / "pyproject.toml").read_text()


@pytest.fixture
def with_mechanism(tmp_path):
    """A stand-in for an FSL-MRS that finds plugins by itself, its code taken from the draft."""
    code = [part.split("```")[0] for part in DRAFT.read_text().split("```python\n")[1:]]
    method, dispatch, steps = code[0], code[1], code[2]
    package = tmp_path / "fsl_mrs"
    (package / "utils").mkdir(parents=True)
    (package / "scripts").mkdir()
    for folder in (package, package / "utils", package / "scripts"):
        (folder / "__init__.py").touch()
    (package / "__init__.py").write_text("__version__ = '9.0'\n")
    (package / "utils/fitting.py").write_text(
        f"{method}\n\ndef fit_FSLModel(mrs, method='Newton', ppmlim=None, x0=None):\n"
        "    arguments = {'method': method, 'ppmlim': ppmlim, 'x0': x0}\n"
        f"{textwrap.indent(dispatch, '    ')}    return 'own'\n"
    )
    (package / "scripts/fsl_mrs_proc.py").write_text(
        "from importlib.metadata import entry_points\nimport argparse\n\ndef add_common_args(parser):\n   "
        " parser.add_argument('--output')\n\ndef main(words):\n    whole = argparse.ArgumentParser()\n    sp ="
        f" whole.add_subparsers()\n{textwrap.indent(steps.partition(chr(10))[2], '    ')}    return"
        f" whole.parse_args(words)\n\n{steps.partition(chr(10))[0]}\n"
    )
    return tmp_path


def test_the_hook_leaves_an_fsl_mrs_with_the_mechanism_alone(with_mechanism):
    code = """
        import warnings
        warnings.simplefilter("error")
        from fsl_mrs_dl import _hook
        from fsl_mrs_dl.fslmrs import plugin
        _hook.install()
        assert _hook.finder() is not None
        from fsl_mrs.utils import fitting
        from fsl_mrs.scripts import fsl_mrs_proc
        assert not hasattr(fitting, _hook.MARK) and not hasattr(fsl_mrs_proc, _hook.MARK)
        assert fitting.fit_FSLModel("mrs") == fitting.fit_FSLModel("mrs", "Newton") == "own"
        plugin.DlQuant.fit = classmethod(lambda cls, mrs, arguments, options=None: (mrs, arguments))
        mrs, arguments = fitting.fit_FSLModel("mrs", method="dlquant", ppmlim=(1, 4))
        assert mrs == "mrs" and arguments["ppmlim"] == (1, 4), arguments
        args = fsl_mrs_proc.main(["dl-align", "--file", "a", "--dim", "all", "--output", "b"])
        assert args.func == plugin.DlAlign.run and (args.file, args.dim, args.output) == ("a", "all", "b")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ
        | {"PYTHONPATH": f"{with_mechanism}{os.pathsep}{Path(__file__).parents[2]}", "FSL_MRS_DL_HOOK": "on"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
