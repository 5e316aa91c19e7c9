"""Configurations of dynamic fits: read without being executed, the same mapping as FSL-MRS's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.made_series import B_VALUES, BY_METABOLITE, EXPONENTIAL, INITIAL, LINEAR, METABOLITES

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.mapping import Mapping
from fsl_mrs_dl.dynamic.models import READY_MADE, MatrixModel

SIZES = {"conc": 3, "gamma": 2, "sigma": 2, "eps": 2, "Phi_0": 1, "Phi_1": 1, "baseline": 4}
DESIGN = np.column_stack([np.repeat([0, 1], 4)[:7], np.ones(7)])
CASES = {"exponential": (EXPONENTIAL, B_VALUES), "by metabolite": (BY_METABOLITE, B_VALUES), "glm": (LINEAR, DESIGN)}


def mapping_of(tmp_path, text, t=B_VALUES, execute=False):
    path = tmp_path / "config.py"
    path.write_text(text, encoding="utf-8")
    return Mapping(read_configuration(path, execute=execute), SIZES, METABOLITES, torch.as_tensor(t), len(t))


def some_parameters(mapping):
    x = torch.as_tensor(np.random.default_rng(0).uniform(0.1, 1, mapping.n_free))
    return x.clamp(mapping.lower, mapping.upper)


@pytest.mark.parametrize("case", CASES)
def test_read_configuration_gives_what_the_executed_one_gives(tmp_path, case):
    text, t = CASES[case]
    read, executed = mapping_of(tmp_path, text, t), mapping_of(tmp_path, text, t, execute=True)
    x = some_parameters(read)
    assert read.names == executed.names
    assert torch.equal(read.lower, executed.lower) and torch.equal(read.upper, executed.upper)
    torch.testing.assert_close(read.mapped(x), executed.mapped(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(read.jacobian(x), executed.jacobian(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        read.curvature(x, torch.ones(7, 15).double()),
        executed.curvature(x, torch.ones(7, 15).double()),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("case", CASES)
def test_derivative_of_the_mapping_is_exact(tmp_path, case):
    mapping = mapping_of(tmp_path, *CASES[case])
    x = some_parameters(mapping)
    slope = mapping.jacobian(x)
    move = torch.as_tensor(np.random.default_rng(1).normal(size=mapping.n_free)) * 1e-6
    change = (mapping.mapped(x + move) - mapping.mapped(x - move)) / 2
    torch.testing.assert_close((slope * move[mapping.active][:, None]).sum(-1), change, rtol=1e-5, atol=1e-12)


def test_a_design_matrix_may_have_one_column(tmp_path):
    """As that of a model without an effect, which others are compared with."""
    text = "Parameters = {'conc': {'dynamic': 'glm', 'params': ['level']}}"
    mapping = mapping_of(tmp_path, text, np.full(7, 2.0))
    x = some_parameters(mapping)
    torch.testing.assert_close(mapping.mapped(x)[:, :3], 2 * x[:3].expand(7, 3))
    assert mapping.jacobian(x).isfinite().all()


@pytest.mark.parametrize("name", [name for name in READY_MADE if name != "glm"])
def test_derivatives_of_ready_made_models_are_exact(name):
    model, t = READY_MADE[name], torch.as_tensor(B_VALUES)
    p = torch.tensor([[1.3, 0.4, 0.7, 0.3], [0.6, 2.0, 1.2, 0.9]], dtype=torch.float64)[:, : model.n_params]
    exact = torch.stack([torch.autograd.functional.jacobian(lambda q: model.values(q[None], t)[0], row) for row in p])
    torch.testing.assert_close(model.jacobian(p, t), exact, rtol=1e-9, atol=1e-12)


def test_functions_of_a_file_are_recognised(tmp_path):
    assert mapping_of(tmp_path, EXPONENTIAL).dynamic[0].model is READY_MADE["exponential"]
    assert all(isinstance(one.model, MatrixModel) for one in mapping_of(tmp_path, LINEAR, DESIGN).dynamic)


def test_ready_made_models_need_no_definition(tmp_path):
    text = "Parameters = {'conc': {'dynamic': 'biexponential', 'params': ['a', 'slow', 'fast', 'share']}}"
    mapping = mapping_of(tmp_path, text)
    assert mapping.names[:4] == ["conc_Cr_a", "conc_Cr_slow", "conc_Cr_fast", "conc_Cr_share"]
    assert mapping.dynamic[0].model is READY_MADE["biexponential"]


def test_start_inverts_the_mapping(tmp_path):
    mapping = mapping_of(tmp_path, EXPONENTIAL)
    x = some_parameters(mapping)
    (start,) = mapping.starts(mapping.mapped(x))
    torch.testing.assert_close(start, x, rtol=1e-4, atol=1e-5)


def test_functions_of_initial_values_come_first(tmp_path):
    text = EXPONENTIAL + INITIAL
    read, executed = mapping_of(tmp_path, text), mapping_of(tmp_path, text, execute=True)
    mapped = read.mapped(some_parameters(read))
    mapped[3, :3] *= 1.1
    first, own = read.starts(mapped)
    torch.testing.assert_close(first, executed.starts(mapped)[0], rtol=1e-9, atol=1e-12)
    slope, log_amp = np.polyfit(B_VALUES, np.log(mapped[:, 0].numpy()), 1)
    roles = [read.names.index(f"conc_{METABOLITES[0]}_c_{role}") for role in ("amp", "adc")]
    np.testing.assert_allclose(first[roles], [np.exp(log_amp), -slope], rtol=1e-9)
    rest = [number for number, name in enumerate(read.names) if "_c_" not in name]
    assert torch.equal(first[rest], own[rest]) and not torch.equal(first, own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Parameters = open('/etc/passwd').read()", "line 1: the name open is not among .* execute_config"),
        ("import os\nParameters = {'conc': os.getcwd()}", "line 2: 'os', which is imported"),
        ("Parameters = ().__class__", r"line 1: '\(\).__class__'"),
        ("x = 'a'.format\nParameters = {}", "line 1"),
        ("Parameters = {'conc': 10**10**10}", "has a fault|is .* write 'fixed'"),
        ("while True:\n    pass\nParameters = {}", "line 1: 'while True:'"),
        ("x = [1]\n" + 60 * "x = x + x\n" + "Parameters = {}", r"line 18: 'x \+ x'"),
        ("x = 'a'\n" + 60 * "x = f'{x}{x}'\n" + "Parameters = {}", "line 18"),
        ("Bounds = {}", "has no dict Parameters; write"),
        ("Parameters = {'conc': 'sometimes'}", "'conc' is 'sometimes'; write 'fixed', 'variable' or"),
        ("Parameters = {'conc': {'NAA': 'fixed'}}", "'conc' says nothing of Cr, GPC; add 'other'"),
        ("Parameters = {'conc': {'Na': 'fixed', 'other': 'fixed'}}", "'Na' of 'conc' is no metabolite .* there are Cr"),
        ("Parameters = {}\ndef model_init(p, t):\n    return p", "has model_init, but no function model; define it"),
        ("Parameters = {'width': 'fixed'}", "Parameters has width.* it has conc, gamma"),
        ("Parameters = {}\nBounds = {'c_amp': (0, None)}", "Bounds of c_amp belong to no parameter"),
        ("Parameters = {}\nBounds = {'gamma': (1, 0)}", r"the bounds of gamma are \(1, 0\)"),
        ("Parameters = {'conc': {'dynamic': 'mine', 'params': ['a']}}", "has no function mine; define it, or name"),
        ("Parameters = {'conc': {'dynamic': 't2', 'params': ['a']}}", "gives 1 params to t2, which has 2"),
        (
            "Parameters = {'conc': {'dynamic': 'f', 'params': ['a']}}\ndef f(p, t):\n    return p[0] / (t * 0)",
            "the model f is not finite, or its gradient is not, at time point 0",
        ),
        (
            "Parameters = {'conc': {'dynamic': 'f', 'params': ['a']}}\ndef f(p, t):\n    return t if p[0] > 1 else p",
            "line 3: a choice by the value of 'p.0. > 1'",
        ),
        ("Parameters = {", "line 1: no Python"),
    ],
)
def test_faults_are_one_line(tmp_path, text, message):
    with pytest.raises(OptionError, match=message) as caught:
        mapping_of(tmp_path, text)
    assert "\n" not in str(caught.value) and "config.py" in str(caught.value)


def test_file_is_not_executed_unless_asked_for(tmp_path):
    mark = tmp_path / "mark"
    text = f"Parameters = {{}}\nif __name__ == '__main__':\n    pass\ndef unused():\n    open({str(mark)!r}, 'w')\n"
    mapping_of(tmp_path, text)
    assert not mark.exists()
    mapping_of(tmp_path, f"open({str(mark)!r}, 'w').close()\nParameters = {{}}", execute=True)
    assert mark.exists()


@pytest.mark.with_fsl_mrs
@pytest.mark.parametrize("case", CASES)
def test_mapping_is_that_of_fsl_mrs(tmp_path, case):
    from fsl_mrs.dynamic import VariableMapping

    text, t = CASES[case]
    ours = mapping_of(tmp_path, text, t)
    theirs = VariableMapping(list(SIZES), list(SIZES.values()), list(METABOLITES), 2, t, str(tmp_path / "config.py"))
    x = some_parameters(ours)
    assert ours.names == theirs.free_names and ours.mapped_names == theirs.mapped_names
    bounds = [[-np.inf if low is None else low, np.inf if high is None else high] for low, high in theirs.Bounds]
    np.testing.assert_array_equal(np.stack([ours.lower, ours.upper], 1), bounds)
    np.testing.assert_allclose(ours.mapped(x), theirs.free_to_mapped(x.numpy()), rtol=1e-12)
