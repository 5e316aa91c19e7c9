"""Everything about the package is in pyproject.toml; here only the ``.pth`` file is added, for which it has no word."""

import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

STARTER, PTH = "fsl_mrs_dl/data/hook_starter.txt", "fsl_mrs_dl_hook.pth"


class BuildPy(build_py):
    """Puts the file beside the packages, where Python looks for it at its start."""

    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file(STARTER, str(Path(self.build_lib) / PTH))

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / PTH)]


class EditableWheel(editable_wheel):
    """An editable wheel holds no files of the package; this one belongs into it all the same."""

    def run(self):
        super().run()
        (wheel,) = Path(self.dist_dir).glob("*.whl")
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.write(STARTER, PTH)


setup(cmdclass={"build_py": BuildPy, "editable_wheel": EditableWheel})
