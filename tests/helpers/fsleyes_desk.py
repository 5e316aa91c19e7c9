"""Tests inside of FSLeyes: in the real program, on a virtual screen where there is none.

FSLeyes runs this file as its script; it calls the tests that the environment names and leaves a note of how each went.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Scripts that FSLeyes runs do not know where they are.
HERE = Path(os.environ.get("FSLEYES_DESK_TESTS") or Path(__file__).resolve().parents[1])
LIMIT, LIMIT_PER_TEST = 120, 240  # seconds until the window stands, and for one test, on a busy machine
_HEADING = "=== test: "


class Desk:
    """A window of FSLeyes, and what a test needs to watch it."""

    def __init__(self, frame, folder: Path):
        self.frame, self.folder, self.t1 = frame, folder, folder / "T1.nii.gz"
        self.home = Path(os.environ["HOME"])

    def pump(self, seconds: float = 0.2) -> None:
        """Let FSLeyes do what it has to."""
        import wx

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            wx.YieldIfNeeded()
            time.sleep(0.01)

    def wait(self, until, what: str, seconds: float = 60) -> None:
        """Wait until something is true, and fail where it never is."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"in {seconds} s it did not happen that {what}"
            self.pump(0.05)

    def load(self, name, **kwargs):
        """Load results as *Tools > Load DL-MRS results* does, once the folder is chosen."""
        # FSLeyes keeps the actions of its menus to itself.
        tools = {item.GetItemLabelText(): action for action, item in self.frame._FSLeyesFrame__toolsMenuActions}
        scene = tools["Load DL-MRS results"](folder=self.folder / name, **kwargs)
        self.wait(lambda: scene.voxel is not None, "the cursor is in a voxel")
        # As users do: FSLeyes may never draw an image that changes while it makes its textures.
        shown = [image for image in (scene.map, scene.marks) if image is not None]
        canvases = scene.ortho.getGLCanvases()
        drawn = lambda: [canvas.getGLObject(image) for canvas in canvases for image in shown]  # noqa: E731
        self.wait(lambda: all(one is not None and one.ready() for one in drawn()), "the maps are ready to be drawn")
        self.pump(1)
        return scene

    def clear(self) -> None:
        """Remove what was loaded."""
        from fsleyes_plugin_dl.scene import scene_of

        scene = scene_of(self.frame)
        if scene is not None:
            scene.close()
        self.frame.overlayList.clear()
        self.pump(0.3)

    def drawn(self, scene, what: str):
        """The y values of a curve as it is drawn; None where it is not."""
        found = {series: y for series, _, y in scene.mrs.canvas.getDrawnDataSeries()}
        return found.get(scene.series(what))

    def panel(self, view, kind):
        """A panel that is open."""
        assert view.isPanelOpen(kind), f"{kind.__name__} is not open"
        return view.getPanel(kind)

    def picture(self, scene, until, what: str) -> None:
        """Wait until the ortho view shows what it should: ``until`` gets its pixels (rows, columns, 3), 0 to 255.

        Drawing without a graphics card takes seconds, so what is seen at once says nothing.
        """
        import numpy as np
        from fsleyes.actions.screenshot import screenshot
        from matplotlib.image import imread

        target = Path(os.environ["HOME"]) / "shot.png"

        def seen() -> bool:
            # What is asked for at once delays the drawing.
            self.pump(0.5)
            try:
                # A screenshot that fails leaves the window frozen.
                for canvas in scene.ortho.getGLCanvases():
                    canvas.getBitmap()
                screenshot(scene.ortho, str(target))
            except (TypeError, ValueError):  # nothing was drawn yet, or not in the new size
                return False
            return bool(until(np.rint(imread(target)[..., :3] * 255).astype(int)))

        scene.ortho.sceneOpts.showCursor = False
        self.wait(seen, what, 180)


def lacking() -> str | None:
    """Why tests cannot run inside of FSLeyes here; None where they can."""
    for module, name in (("fsleyes", "FSLeyes"), ("fsleyes_plugin_mrs", "fsleyes-plugin-mrs"), ("wx", "wxPython")):
        if importlib.util.find_spec(module) is None:
            return f"{name} is not installed here (install.sh test runs these tests in .venv-fsleyes)"
    if not os.environ.get("DISPLAY") and shutil.which("Xvfb") is None:
        return "there is no DISPLAY, and no Xvfb to make one"
    return None


class Screen:
    """The screen that there is, or a virtual one until :meth:`close`."""

    def __init__(self):
        self.process, self.display = None, os.environ.get("DISPLAY")
        if not self.display:
            read, write = os.pipe()
            words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp", "-noreset"]
            self.process = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
            os.close(write)
            with os.fdopen(read) as pipe:
                self.display = ":" + pipe.readline().strip()

    def close(self) -> None:
        """Put the virtual screen away."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)


def run(module: str, tests: list[str], made: Path, home: Path) -> dict[str, str]:
    """Run tests inside of FSLeyes; what went wrong by test, an empty text where it passed.

    On virtual screens one window for each processor shares the work: nearly all of the time goes into drawing.
    """
    if os.environ.get("DISPLAY"):
        n_windows = 1  # windows over each other do not draw what is hidden
    else:
        n_windows = max(1, min(os.cpu_count() or 1, len(tests) // 4))

    def share(index: int) -> dict[str, str]:
        own_home = home / str(index)
        own_home.mkdir()
        screen = Screen()
        try:
            return _run_share(module, tests[index::n_windows], made, own_home, screen.display)
        finally:
            screen.close()

    with ThreadPoolExecutor(n_windows) as pool:
        return {test: text for part in pool.map(share, range(n_windows)) for test, text in part.items()}


def _run_share(module: str, tests: list[str], made: Path, home: Path, display: str) -> dict[str, str]:
    """Run tests one after the other.

    They share one window, which is emptied in between: it takes seconds to open.  Where it hangs or ends early, the
    tests that follow get a window of their own.
    """
    problems: dict[str, str] = {}
    while waiting := [test for test in tests if test not in problems]:
        before = len(problems)
        ending = _run_window(module, waiting, made, home, display, problems)
        if len(problems) < len(tests) and (ending or len(problems) == before):
            at_fault = next(test for test in waiting if test not in problems)
            problems[at_fault] = ending or "FSLeyes was closed before the test ended"
    return problems


def _run_window(module: str, tests: list[str], made: Path, home: Path, display: str, problems: dict[str, str]) -> str:
    """Run tests in one window, add how they went to ``problems``, and return how it ended where it did so early."""
    note = home / f"note{len(problems)}.jsonl"
    more = {
        "FSLEYES_DESK_TESTS_TO_RUN": json.dumps([module, tests]),
        "FSLEYES_DESK_NOTE": str(note),
        "FSLEYES_DESK_MADE": str(made),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "DISPLAY": display,
        "FSLEYES_DESK_TESTS": str(HERE),
        "OMP_NUM_THREADS": "1",
    }
    words = [
        sys.executable,
        "-m",
        "fsleyes",
        "--skipfslcheck",
        "--scene",
        "mrs-dl",
        "--runscript",
        str(HERE / "helpers" / "fsleyes_desk.py"),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | more
    limit = LIMIT + LIMIT_PER_TEST * len(tests)
    ending, errors = "", ""
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=limit)
        errors = done.stderr
        if done.returncode:
            ending = f"FSLeyes ended with {done.returncode}; it said:\n{(done.stdout + done.stderr)[-3000:]}"
    except subprocess.TimeoutExpired as exc:
        errors = (exc.stderr or b"").decode()
        ending = f"FSLeyes hung for {limit} s; it said:\n{errors[-3000:]}"
    said = dict(part.partition("\n")[::2] for part in errors.split(_HEADING)[1:])
    for line in note.read_text().splitlines() if note.is_file() else ():
        test, text = json.loads(line)
        # Errors in listeners are only logged by FSLeyes.
        logged = said.get(test, "")
        if text:
            problems[test] = f"{text}FSLeyes said:\n{logged[-3000:]}"
        else:
            problems[test] = logged[-6000:] if "fsleyes_plugin_dl/" in logged else ""
    return ending


def _inside(frame) -> None:
    """In FSLeyes: run the tests and close the window."""
    sys.path[:0] = [str(HERE), str(HERE / "fsleyes_plugin")]
    module, tests = json.loads(os.environ["FSLEYES_DESK_TESTS_TO_RUN"])
    desk = Desk(frame, Path(os.environ["FSLEYES_DESK_MADE"]))
    for test in tests:
        text = ""
        print(f"{_HEADING}{test}", file=sys.stderr, flush=True)
        try:
            getattr(importlib.import_module(module), test).inside(desk)
            desk.clear()
        except BaseException:
            text = traceback.format_exc()
        with open(os.environ["FSLEYES_DESK_NOTE"], "a") as note:
            note.write(json.dumps([test, text]) + "\n")
        if text:
            os._exit(0)  # what is half done may hang while it is closed, or disturb the next test
    frame.Close(askUnsaved=False, askLayout=False)


if "frame" in globals():
    import wx

    # Not at once: FSLeyes runs scripts in its queue of idle tasks, which would wait for the test.
    wx.CallLater(300, _inside, globals()["frame"])
