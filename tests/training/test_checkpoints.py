"""A checkpoint in a training's folder may come from somebody else: reading it executes nothing."""

import io
import json
import os
import pickle
import shutil

import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")

from fsl_mrs_dl.cli.main import main  # noqa: E402
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError, OutputError
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.training import checkpoints
from fsl_mrs_dl.training.lightning_module import WholeCheckpoints
from fsl_mrs_dl.training.registration import RegistrationTraining
from fsl_mrs_dl.training.settings import Settings
from fsl_mrs_dl.training.trainer import train

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Malicious:
    """Object that creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (os.mkdir, (self.target,))


def in_a_pickle(good, target):
    return pickle.dumps(Malicious(target))


def in_a_torch_file(good, target):
    file = io.BytesIO()
    torch.save(Malicious(target), file)
    return file.getvalue()


def in_a_checkpoint(good, target):
    """A proper checkpoint with one entry more."""
    file = io.BytesIO()
    torch.save(torch.load(io.BytesIO(good), weights_only=True) | {"hyper_parameters": Malicious(target)}, file)
    return file.getvalue()


def in_an_old_torch_file(good, target):
    file = io.BytesIO()
    torch.save({"state_dict": Malicious(target)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


WAYS = [in_a_pickle, in_a_torch_file, in_a_checkpoint, in_an_old_torch_file]


def run(folder, steps, seed=0, **options):
    generator = torch.Generator().manual_seed(1)
    fids = torch.view_as_complex(torch.randn(12, 512, 2, generator=generator))
    settings = Settings(
        steps=steps, batch_size=4, validate_every=2, validation_batches=1, device="cpu", progress=False, seed=seed
    )
    training = RegistrationTraining("dsr", fids, Axes(512, 5e-4, 123.2), settings=settings, encoder="cnn")
    return train(training, folder, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_thread):
    folder = tmp_path_factory.mktemp("trained") / "net"
    run(folder, 2)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    import shutil

    return shutil.copytree(trained, tmp_path / "net")


def test_a_checkpoint_of_this_package_is_read_as_weights_only(trained):
    content = checkpoints.read_checkpoint(checkpoints.last_checkpoint(trained), model_cards.load(trained)[0])
    assert content["global_step"] == 2 and content["fsl_mrs_dl_minutes"] >= 0


@pytest.mark.parametrize("make", WAYS)
def test_nothing_in_the_last_checkpoint_is_executed(folder, tmp_path, make):
    last = checkpoints.last_checkpoint(folder)
    last.write_bytes(make(last.read_bytes(), tmp_path / "harm"))
    with pytest.raises(DataError, match=r"last\.ckpt: cannot be read safely as a checkpoint") as error:
        run(folder, 4, resume=True)
    assert not (tmp_path / "harm").exists() and "\n" not in str(error.value)


@pytest.mark.parametrize("make", WAYS)
def test_nothing_in_the_best_checkpoint_is_executed(folder, tmp_path, make):
    """The best checkpoint is read at the end, where no later one is better."""
    last, best = checkpoints.last_checkpoint(folder), checkpoints.best_checkpoint(folder)
    content = torch.load(last, weights_only=True)
    for state in content["callbacks"].values():
        if "best_model_score" in state:
            state["best_model_score"] = state["kth_value"] = torch.tensor(-1e9)
            state["best_k_models"] = {str(best): torch.tensor(-1e9)}
            state["dirpath"] = str(last.parent)
            state["best_model_path"] = state["kth_best_model_path"] = str(best)
    torch.save(content, last)
    best.write_bytes(make(best.read_bytes(), tmp_path / "harm"))
    with pytest.raises(DataError, match=r"best\.ckpt: cannot be read safely as a checkpoint"):
        run(folder, 4, resume=True)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("make", WAYS)
def test_lightning_itself_executes_nothing(folder, tmp_path, make, monkeypatch):
    """Without the check beforehand."""
    last = checkpoints.last_checkpoint(folder)
    content = torch.load(last, weights_only=True)
    last.write_bytes(make(last.read_bytes(), tmp_path / "harm"))
    monkeypatch.setattr(checkpoints, "read_checkpoint", lambda path, network=None: content)
    with pytest.raises(Exception, match="(?i)weights_only|weights only"):
        run(folder, 4, resume=True)
    assert not (tmp_path / "harm").exists()


def test_the_command_says_so_in_one_line(tmp_path, capsys):
    words = ["train", "align", "--output", str(tmp_path / "net"), "--n_protocols", "1", "--batch_size", "8"]
    words += ["--device", "cpu", "--threads", "1", "--steps"]
    assert main([*words, "2"]) == 0
    last = checkpoints.last_checkpoint(tmp_path / "net")
    last.write_bytes(in_a_checkpoint(last.read_bytes(), tmp_path / "harm"))
    capsys.readouterr()
    assert main([*words, "4", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "last.ckpt" in error and "cannot be read safely" in error and error.count("\n") == 1
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "cannot be read safely"),
        (b"not a checkpoint", "cannot be read safely"),
        ([1, 2], "is no checkpoint"),
        ({"global_step": 2}, "is no checkpoint"),
        ({"state_dict": {"network.weight": torch.zeros(3)}}, "another network"),
    ],
)
def test_damaged_checkpoints_are_refused(folder, content, message):
    last = checkpoints.last_checkpoint(folder)
    if isinstance(content, bytes):
        last.write_bytes(content)
    else:
        whole = torch.load(last, weights_only=True)
        torch.save(whole | content if "state_dict" in content else content, last)
    with pytest.raises(DataError, match=message):
        run(folder, 4, resume=True)


def test_a_damaged_record_is_refused(folder):
    (folder / "training.json").write_text("{")
    with pytest.raises(DataError, match="training.json: cannot be read"):
        run(folder, 4, resume=True)
    (folder / "training.json").write_text(json.dumps({"network": "Other"}))
    with pytest.raises(OptionError, match="resume: .*begun with network Other, not Registration"):
        run(folder, 4, resume=True)


def test_no_file_is_unpickled_anywhere():
    """Every call that could unpickle a file says that it does not."""
    import ast
    from pathlib import Path

    import fsl_mrs_dl

    root = Path(fsl_mrs_dl.__file__).parents[1]
    wrong, n_calls = [], 0
    for package in ("fsl_mrs_dl", "fsleyes_plugin_dl", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
                    if {"pickle", "joblib", "dill", "cloudpickle", "shelve"} & set(names):
                        wrong.append(f"{path}:{node.lineno} imports {names}")
                if getattr(getattr(node, "func", None), "attr", None) not in ("load", "read_pickle"):
                    continue
                called = ast.unparse(node.func)
                keyword = {"torch.load": "weights_only", "np.load": "allow_pickle"}.get(called)
                if called in ("pd.read_pickle", "pandas.read_pickle"):
                    wrong.append(f"{path}:{node.lineno} {called}")
                if keyword is not None:
                    n_calls += 1
                    value = {one.arg: ast.unparse(one.value) for one in node.keywords}.get(keyword)
                    if value != {"weights_only": "True", "allow_pickle": "False"}[keyword]:
                        wrong.append(f"{path}:{node.lineno} {called} with {keyword} {value}")
    assert n_calls > 2 and not wrong, wrong


def test_a_training_that_was_killed_before_its_first_checkpoint_goes_on(tmp_path):
    folder = tmp_path / "m"
    run(folder, 2)
    for kept in ([], [".training.json-part-x"], ["training.json", "logs"]):
        for entry in [*folder.iterdir()]:
            if entry.name not in kept:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if kept == [".training.json-part-x"]:
            (folder / kept[0]).write_text("{")
        if "training.json" in kept:
            with pytest.raises(OutputError, match="go on with resume"):
                run(folder, 2)
            with pytest.raises(OptionError, match="seed 0, not 1"):
                run(folder, 2, resume=True, seed=1)
        assert run(folder, 2, resume="training.json" in kept)["training"]["steps"] == 2
        assert not list(folder.rglob(".*"))


def test_checkpoints_are_written_whole(tmp_path):
    path = tmp_path / "x.ckpt"
    WholeCheckpoints().save_checkpoint({"a": 1}, path)
    with pytest.raises(AttributeError):
        WholeCheckpoints().save_checkpoint({"a": lambda: 0}, path)  # cannot be written
    assert torch.load(path, weights_only=True) == {"a": 1} and [entry.name for entry in tmp_path.iterdir()] == [
        "x.ckpt"
    ]
