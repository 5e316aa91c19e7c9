"""Adds ``dl-align`` and ``dlquant`` to an installed FSL-MRS as it is imported.

A ``.pth`` file that is installed with the package (``data/hook_starter.txt``) runs at every start of Python.  All it
does is wait for an import of ``fsl_mrs``, and only then calls :func:`install`, so that Python without FSL-MRS
costs next to nothing more.  From there on the few modules of FSL-MRS that are changed are watched for; on any surprise
this warns once and steps aside. Nothing but the standard library is imported, and of that only what FSL-MRS's commands
have loaded anyway.

It can be switched off by the environment variable ``FSL_MRS_DL_HOOK=off`` and lastingly by ``fsl_mrs_dl hook off``.
"""

import sys

VARIABLE = "FSL_MRS_DL_HOOK"
TARGETS = frozenset(
    (
        "fsl_mrs.utils.fitting",
        "fsl_mrs.utils.report",
        "fsl_mrs.core.mrsi",
        "fsl_mrs.dynamic.dynmrs",
        "fsl_mrs.scripts.fsl_dynmrs",
        "fsl_mrs.scripts.fsl_mrs",
        "fsl_mrs.scripts.fsl_mrsi",
        "fsl_mrs.scripts.fsl_mrs_preproc",
        "fsl_mrs.scripts.fsl_mrs_proc",
        "fsl_mrs.scripts.fsl_mrs_summarise",
    )
)
# Not in every FSL-MRS, or with dependencies of its own: nothing else is missing without it.
OPTIONAL = frozenset(("fsl_mrs.scripts.fsl_mrs_preproc", "fsl_mrs.scripts.fsl_mrs_summarise"))
MARK = "_fsl_mrs_dl"  # what a changed module carries: the version that changed it

_warned = False


def off_files():
    """Files whose existence switches the hook off: in this environment, and for this user."""
    import os

    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return [os.path.join(sys.prefix, "etc", "fsl_mrs_dl", "hook_off"), os.path.join(config, "fsl_mrs_dl", "hook_off")]


def switched_off():
    """What switches the hook off, in words, or an empty string."""
    import os

    value = os.environ.get(VARIABLE, "")
    if value.lower() in ("off", "0", "no", "false"):
        return f"{VARIABLE}={value}"
    for path in off_files():
        if os.path.exists(path):
            return path
    return ""


def install():
    """Watch for FSL-MRS's modules, unless switched off or watching already; returns whether it watches now."""
    if switched_off():
        return False
    if finder() is None:
        sys.meta_path.insert(0, Finder())
    return True


def finder():
    """The finder that watches in this process, or None."""
    # By name: a second copy of this module, from another folder of packages, has another class.
    return next(
        (one for one in sys.meta_path if type(one).__name__ == "Finder" and type(one).__module__ == __name__), None
    )


class Finder:
    """Finds the modules in TARGETS as the other finders do, and has each changed once it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name not in TARGETS:
            return None
        for other in sys.meta_path:
            if other is self or not hasattr(other, "find_spec"):
                continue
            spec = other.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    # Python takes any object with a loader's methods; the stub names the abstract class.
                    spec.loader = Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class Loader:
    """A module's own loader, with the change following the execution."""

    def __init__(self, plain):
        self.plain = plain

    def __getattr__(self, name):
        if name == "plain":  # not set yet, in a copy that is being made
            raise AttributeError(name)
        return getattr(self.plain, name)

    def create_module(self, spec):
        return self.plain.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.plain
        module.__dict__.pop(MARK, None)  # a module that is loaded again brings its functions anew
        self.plain.exec_module(module)
        change(module)


def change(module):
    """Apply the patch that belongs to a freshly executed module; whatever goes wrong leaves FSL-MRS as it is."""
    try:
        from . import __version__
        from .fslmrs.patches import PATCHES, PLUGIN_GROUP

        # One that finds plugins by itself has found ours by their entry points; one that is marked was changed before.
        if not hasattr(module, PLUGIN_GROUP) and not hasattr(module, MARK):
            PATCHES[module.__name__](module)
            setattr(module, MARK, __version__)
    except Exception as exc:
        _warn_once(module, exc)


def _warn_once(module, exc):
    global _warned
    if _warned:
        return
    _warned = True
    import warnings

    version = getattr(sys.modules.get("fsl_mrs"), "__version__", "of unknown version")
    text = (
        f"FSL-MRS-DL does not know this FSL-MRS ({version}): {module.__name__}: {exc}. It is left as it is, without"
        f" what would have been added there; {VARIABLE}=off silences this."
    )
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:
        # Warnings are errors here, but nothing is wrong with the module that was imported.
        print(text, file=sys.stderr)
