"""The command ``fsl_mrs_dl doctor``: what is installed, whether it works together, and remedies."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import __version__, _hook
from ..core.errors import FslMrsDlError
from ..core.extras import EXTRAS, how_to_install, missing_of
from ..fslmrs import launchers, switch
from ..io import files

__all__ = ["Finding", "examine", "examine_fsl_mrs", "add_arguments", "run"]

GOOD, ABSENT, BAD = "ok", "--", "!!"


@dataclass(frozen=True)
class Finding:
    """A line of the report: ``mark`` is 'ok', '--' (absent, which is no fault) or '!!' (to be mended)."""

    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.mark}  {self.text}"


def examine() -> list[Finding]:
    """Return all findings in the order of the report."""
    return [
        *_ourselves(),
        *_device(),
        *_converter(),
        *_extras(),
        *examine_fsl_mrs(),
        *_launchers(),
        *_fsleyes(),
        *_models(),
    ]


def _ourselves() -> list[Finding]:
    """Return the versions of this package and of the libraries that it needs."""
    from importlib import metadata  # slow to load, and not needed for any help

    out = [
        Finding(GOOD, f"FSL-MRS-DL {__version__} in {Path(__file__).parents[1]}, Python {platform.python_version()}")
    ]
    libraries, missing = [], []
    for name in (
        "numpy",
        "scipy",
        "torch",
        "nibabel",
        "nifti-mrs",
        "pandas",
        "matplotlib",
        "plotly",
        "configargparse",
        "tqdm",
        "safetensors",
        "hlsvdpropy",
    ):
        try:
            libraries.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    out.append(Finding(GOOD, ", ".join(libraries)))
    if missing:
        out.append(Finding(BAD, f"missing: {', '.join(missing)}; install FSL-MRS-DL again with pip"))
    elif importlib.util.find_spec("pkg_resources") is None:
        text = "setuptools: hlsvdpropy needs its pkg_resources, which is missing (pip install 'setuptools<81')"
        out.append(Finding(BAD, text))
    return out


def _device() -> list[Finding]:
    """Return the device that fits run on."""
    try:
        import torch
    except ModuleNotFoundError:
        return [
            Finding(ABSENT, "PyTorch: not installed here; fits and alignment need it, results can be viewed without")
        ]
    except Exception as exc:
        return [Finding(BAD, f"PyTorch cannot be imported ({_line(exc)}); install it again")]
    if torch.cuda.is_available():
        return [Finding(GOOD, f"GPU: {torch.cuda.get_device_name(0)} (--device auto uses it)")]
    return [Finding(ABSENT, f"GPU: none that PyTorch can use; the CPU is used, with {torch.get_num_threads()} threads")]


# Run in a fresh Python, so that the hook is started as for a user.
_PROBE = """
import importlib, json, sys, warnings
out = {"modules": {}, "warnings": []}
def line(exc):
    return (type(exc).__name__ + ": " + str(exc)).splitlines()[0]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        package = importlib.import_module("fsl_mrs")
        out["version"], out["file"] = getattr(package, "__version__", "?"), getattr(package, "__file__", None) or "?"
    except ModuleNotFoundError as exc:
        out["absent" if exc.name == "fsl_mrs" else "error"] = line(exc)
    except BaseException as exc:
        out["error"] = line(exc)
    if "version" in out:
        for name in json.loads(sys.argv[1]):
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as exc:
                gone = exc.name and (name + ".").startswith(exc.name + ".")
                out["modules"][name] = "missing" if gone else "error: " + line(exc)
            except BaseException as exc:
                out["modules"][name] = "error: " + line(exc)
            else:
                plugins = hasattr(module, "PLUGIN_GROUP")
                out["modules"][name] = "plugins" if plugins else "added" if hasattr(module, "_fsl_mrs_dl") else "plain"
hook = sys.modules.get("fsl_mrs_dl._hook")
out["watching"] = bool(hook and hook.finder())
out["warnings"] = [str(w.message) for w in caught if "FSL-MRS-DL" in str(w.message)]
print("\\nFSL-MRS-DL:" + json.dumps(out))
"""


def examine_fsl_mrs() -> list[Finding]:
    """Examine FSL-MRS, the hook, and whether the two work together."""
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE, json.dumps(sorted(_hook.TARGETS - _hook.OPTIONAL))],
        capture_output=True,
        text=True,
        check=False,
    )
    on, how = switch.status()
    hook = Finding(GOOD if on else ABSENT, f"hook: {how}")
    try:
        # FSL-MRS may print too, at any time.
        state = json.loads(next(line[11:] for line in probe.stdout.splitlines() if line.startswith("FSL-MRS-DL:")))
    except (StopIteration, ValueError):
        return [Finding(BAD, f"FSL-MRS: the import ended Python ({_last(probe.stderr)})"), hook]
    if "absent" in state:
        return [Finding(ABSENT, "FSL-MRS: not installed here; fsl_mrs_dl works without it"), hook]
    if "error" in state:
        return [Finding(BAD, f"FSL-MRS: is installed but broken ({state['error']}); mend it first"), hook]
    out = [Finding(GOOD, f"FSL-MRS {state['version']} in {Path(state['file']).parent}"), hook]
    states = state["modules"]
    broken = {name: text for name, text in states.items() if text.startswith("error")}
    for name, text in broken.items():
        out.append(Finding(BAD, f"FSL-MRS: {name} cannot be imported ({text.removeprefix('error: ')}); mend it first"))
    missing = [name for name, text in states.items() if text == "missing"]
    if missing:
        out.append(
            Finding(
                BAD,
                f"FSL-MRS {state['version']} has no {', '.join(missing)}; this FSL-MRS-DL does not support it",
            )
        )
    for text in state["warnings"]:
        out.append(Finding(BAD, text))
    patched = [name for name, text in states.items() if text in ("added", "plugins")]
    where = f"dl-align and dlquant: in {len(patched)} of {len(states)} modules of FSL-MRS"
    if len(patched) == len(states):
        out.append(Finding(GOOD, where))
    elif on:
        plain = [name for name, text in states.items() if text == "plain"]
        out.append(Finding(BAD, where + (f", not in {', '.join(plain)}" if plain else "")))
        if not state["watching"]:
            out.append(
                Finding(
                    BAD,
                    "hook: Python does not start it, although its file is there; is it run with -S, or is site"
                    " disabled?",
                )
            )
    else:
        out.append(Finding(ABSENT, f"{where}, because the hook is not on"))
    return out


def _converter() -> list[Finding]:
    """Return the version of the program that converts scanners' files."""
    from ..io.convert import spec2nii_version

    version = spec2nii_version()
    if version is None:
        return [
            Finding(ABSENT, "spec2nii: not installed; only NIfTI-MRS and LCModel's RAW are read (pip install spec2nii)")
        ]
    return [Finding(GOOD, f"spec2nii {version}, for files of scanners and jMRUI")]


def _extras() -> list[Finding]:
    """Return which optional dependencies are installed; the converter has a finding of its own."""
    out, there = [], []
    for name, (purpose, _) in EXTRAS.items():
        missing = missing_of(name)
        if name == "convert":
            continue
        if not missing:
            there.append(f"{name} ({purpose})")
            continue
        out.append(
            Finding(ABSENT, f"extra {name}, for {purpose}: without {', '.join(missing)} ({how_to_install(name)})")
        )
    return [Finding(GOOD, f"extras: {', '.join(there)}")] * bool(there) + out


def _launchers() -> list[Finding]:
    """Return the launchers of FSL-MRS's names, and which Python they start."""
    by_name = launchers.find()
    if not by_name:
        return [
            Finding(ABSENT, "launchers: no fsl_mrs or fsl_mrs_proc on the path ('fsl_mrs_dl launchers add' makes them)")
        ]
    there = importlib.util.find_spec("fsl_mrs") is not None
    out = []
    for name, (path, ours) in by_name.items():
        owner = "FSL-MRS-DL's shim" if ours else "FSL-MRS's own" if there else "not of FSL-MRS-DL"
        if ours and there:
            out.append(
                Finding(
                    BAD, f"launcher {name}: {path}, {owner} although FSL-MRS is here; 'fsl_mrs_dl launchers remove'"
                )
            )
        elif not ours and there and not _starts_this_python(path):
            out.append(
                Finding(ABSENT, f"launcher {name}: {path} is of another environment; the hook here does not reach it")
            )
        else:
            out.append(Finding(GOOD, f"launcher {name}: {path}, {owner}"))
    return out


def _starts_this_python(launcher: Path) -> bool:
    """Tell whether a launcher is beside this Python, or a script with this Python's folder in it, as FSL's wrappers."""
    folder = Path(sys.executable).parent
    if launcher.parent.resolve() == folder.resolve():
        return True
    with contextlib.suppress(OSError):
        return str(folder) in launcher.read_text(errors="replace", encoding="utf-8")
    return False


def _fsleyes() -> list[Finding]:
    """Return the versions of FSLeyes and its plugin for MRS."""
    from importlib import metadata  # slow to load, and not needed for any help

    if importlib.util.find_spec("fsleyes") is None and shutil.which("fsleyes") is None:
        return [Finding(ABSENT, "FSLeyes: not installed here")]
    try:
        text = f"FSLeyes {metadata.version('fsleyes')}"
    except metadata.PackageNotFoundError:
        return [Finding(ABSENT, f"FSLeyes: {shutil.which('fsleyes')}, of another environment")]
    try:
        text += f" with fsleyes-plugin-mrs {metadata.version('fsleyes-plugin-mrs')}"
    except metadata.PackageNotFoundError:
        text += ", without fsleyes-plugin-mrs, which shows results of FSL-MRS"
    return [Finding(GOOD, text)]


def _models() -> list[Finding]:
    """Return the trained networks, and whether their files can be read."""
    try:
        folder = files.models_folder()
    except FslMrsDlError as exc:
        return [Finding(BAD, str(exc))]
    try:
        from ..networks import model_cards
    except ImportError as exc:
        return [Finding(BAD, f"models: cannot be read ({_line(exc)}); install FSL-MRS-DL again with pip")]
    names = model_cards.model_names()
    if not names:
        return [Finding(ABSENT, "models: none come with this version; initial values are searched for")]
    for name in names:
        try:
            model_cards.load(name)
        except FslMrsDlError as exc:
            return [Finding(BAD, f"models: {exc}")]
        except ModuleNotFoundError as exc:
            return [Finding(ABSENT, f"models: not tried without {exc.name}")]
    return [Finding(GOOD, f"models: {', '.join(names)} in {folder}")]


def _line(exc: BaseException) -> str:
    """Return an exception in one line."""
    return f"{type(exc).__name__}: {exc}".splitlines()[0]


def _last(text: str) -> str:
    """Return the last line of a program's output."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("--debug", action="store_true", help="show where an error arose")
    parser.set_defaults(func=run)


def run(args) -> int:
    """Print what is installed; returns 1 if something needs mending."""
    findings = examine()
    for finding in findings:
        print(finding)
    bad = sum(finding.mark == "!!" for finding in findings)
    print(
        "\nAll is well." if not bad else f"\n{bad} {'thing needs' if bad == 1 else 'things need'} mending (marked !!)."
    )
    return 1 if bad else 0
