"""What is added to FSL-MRS as it is imported, tried on a stand-in for it in Pythons of their own; FSL-MRS itself is not
needed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import resources

import pytest
from helpers import stand_in_fsl_mrs

START = resources.files("fsl_mrs_dl").joinpath("data/hook_starter.txt").read_text()

# Without a starter file in this environment (a checkout on the path, say) the tests bring it along; with one, it is a
# second.
PREAMBLE = f"""
import sys, warnings
for line in {START.splitlines()!r}:
    exec(line)
from fsl_mrs_dl.fslmrs import plugin
plugin.DlQuant.fit = staticmethod(lambda mrs, arguments, options=None: ('ours', mrs, arguments, options))
def batched(voxels, arguments, options=None, running=None):
    return ((f'batched {{m}}', i, t) for m, i, t in voxels)
plugin.DlQuant.fit_batched = staticmethod(batched)
plugin.DlQuant.describe = staticmethod(lambda res: 'described')
def command(name, *words):
    import importlib
    sys.argv = [name, *words]
    module = importlib.import_module('fsl_mrs.scripts.' + name)
    before = module.configargparse
    try:
        module.main()
    finally:
        assert module.configargparse is before
"""


def python(folder, code, *, check=True, **variables):
    """Run code in a fresh Python that finds the stand-in."""
    environment = {k: v for k, v in os.environ.items() if k != "FSL_MRS_DL_HOOK"}
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)],
        env=environment
        | {"PYTHONPATH": stand_in_fsl_mrs.path_with(folder), "XDG_CONFIG_HOME": str(folder / "config")}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def stand_in(tmp_path):
    return stand_in_fsl_mrs.write(tmp_path)


def test_starting_python_loads_nothing_of_ours_until_fsl_mrs_is_imported(stand_in):
    code = f"""
import sys
for line in {START.splitlines()!r}:
    exec(line)
print(sorted(name for name in sys.modules if name.startswith('fsl_mrs')))
import fsl_mrs
print(sorted(name for name in sys.modules if name.startswith('fsl_mrs')))
import fsl_mrs.utils.fitting
print(sorted(set(sys.modules) & {{'torch', 'numpy'}}))
print([type(f).__name__ for f in sys.meta_path].count('Finder'))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": stand_in_fsl_mrs.path_with(stand_in), "FSL_MRS_DL_HOOK": "on"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, heavy, finders = done.stdout.splitlines()
    assert before == "[]"
    assert after == "['fsl_mrs', 'fsl_mrs_dl', 'fsl_mrs_dl._hook']"
    assert heavy == "[]" and finders == "1"


def test_fits_by_other_methods_are_fsl_mrs_own(stand_in):
    python(
        stand_in,
        """
        import inspect
        from fsl_mrs.utils import fitting
        assert fitting.fit_FSLModel('m') == fitting.fit_FSLModel.__wrapped__('m')
        assert fitting.fit_FSLModel('m', 'MH', model='x')[2] == 'MH'
        assert str(inspect.signature(fitting.fit_FSLModel)).startswith("(mrs, method='Newton', ppmlim=None")
        assert fitting.fit_FSLModel.__name__ == 'fit_FSLModel'
        assert fitting.fit_FSLModel.__module__ == 'fsl_mrs.utils.fitting'
        assert 'def fit_FSLModel' in inspect.getsource(fitting)
        assert type(fitting.__spec__.loader).__name__ == 'SourceFileLoader'
        """,
    )


@pytest.mark.parametrize("call", ["'m', 'dlquant'", "'m', method='dlquant'", "mrs='m', method='dlquant'"])
def test_dlquant_gets_every_argument_with_its_default(stand_in, call):
    python(
        stand_in,
        f"""
        from fsl_mrs.utils import fitting
        kind, mrs, arguments, options = fitting.fit_FSLModel({call}, ppmlim=(1, 4))
        assert (kind, mrs, options) == ('ours', 'm', None), (kind, mrs, options)
        assert arguments['ppmlim'] == (1, 4) and arguments['baseline'] == 'polynomial, 2' and arguments['x0'] is None
        options = fitting.fit_FSLModel('m', 'dlquant', dl_device='cpu')[3]
        assert options.device == 'cpu' and options.estimate == 'ml'
        """,
    )


def test_the_signature_of_older_releases_is_met_too(tmp_path):
    stand_in_fsl_mrs.write(tmp_path, utils_fitting=stand_in_fsl_mrs.OLD_FITTING)
    python(
        tmp_path,
        """
        from fsl_mrs.utils import fitting
        assert fitting.fit_FSLModel('m', baseline_order=1) == ('own', 'm', 'Newton', 1)
        arguments = fitting.fit_FSLModel('m', method='dlquant')[2]
        assert arguments['baseline_order'] == 2 and 'baseline' not in arguments
        """,
    )


def test_help_lists_what_is_added(stand_in):
    shown = python(stand_in, "command('fsl_mrs', '--help')").stdout
    assert "dlquant options (FSL-MRS-DL" in shown
    for option in ("--dl-init", "--dl-model", "--dl-device", "--dl-estimate"):
        assert option in shown
    assert "Newton or MH, or dlquant" in " ".join(shown.split())
    assert "dl-align" in python(stand_in, "command('fsl_mrs_proc', '--help')").stdout
    shown = python(stand_in, "command('fsl_mrs_proc', 'dl-align', '--help')").stdout
    assert "--ppm" in shown and "--output" in shown
    shown = python(stand_in, "command('fsl_mrs_proc', 'dl-denoise', '--help')").stdout
    assert "--model" in shown and "--ppm" not in shown


def test_step_is_run_with_the_arguments_of_fsl_mrs(stand_in):
    code = """
        plugin.DlAlign.run = staticmethod(lambda data, args: ('ours', data, args['file'], args['dim'], args['output']))
        plugin.DlDenoise.run = staticmethod(
            lambda data, args: ('quiet', data, args['file'], args['model'], args['output']))
        command('fsl_mrs_proc', 'dl-align', '--file', 'f', '--output', 'o')
        command('fsl_mrs_proc', 'dl-denoise', '--file', 'f', '--model', 'm', '--output', 'o')
        command('fsl_mrs_proc', 'align', '--file', 'f', '--output', 'o')
    """
    assert python(stand_in, code).stdout.splitlines() == [
        "('ours', 'data', 'f', 'DIM_DYN', 'o')",
        "('quiet', 'data', 'f', 'm', 'o')",
        "own",
    ]


@pytest.mark.parametrize("before", [None, [], ["mine.txt"]])
def test_a_refused_input_leaves_no_folder(stand_in, tmp_path, before):
    """FSL-MRS makes the folder of a command before it reads the input."""
    out = tmp_path / "results"
    if before is not None:
        out.mkdir()
        for name in before:
            (out / name).write_text("")
    code = f"""
        import os
        from fsl_mrs_dl.core.errors import DataError

        def run(data, args):
            os.makedirs(args['output'], exist_ok=True)
            with plugin.one_line_errors('fsl_mrs_proc dl-align'):
                raise DataError('bad')

        plugin.DlAlign.run = staticmethod(run)
        try:
            command('fsl_mrs_proc', 'dl-align', '--file', 'f', '--output', {str(out)!r})
        except SystemExit as end:
            print(end.code)
    """
    assert python(stand_in, code).stdout.splitlines()[-1] == "2"
    assert out.exists() == (before is not None)
    if before is not None:
        assert [path.name for path in out.iterdir()] == before


def test_command_line_options_reach_the_fit_and_end_with_the_command(stand_in):
    code = """
        command('fsl_mrs', '--algo', 'dlquant', '--data', 'd', '--dl-device', 'cpu')
        from fsl_mrs.utils import fitting
        assert fitting.fit_FSLModel('m', 'dlquant')[3] is None
        command('fsl_mrs', '--data', 'd')
    """
    ours, own = python(stand_in, code).stdout.splitlines()
    assert ours.startswith("('ours', 'd'") and "device='cpu'" in ours
    assert own.startswith("('own', 'd', 'Newton'")


@pytest.mark.parametrize("word", ["DLQuant", "dl-quant"])
def test_the_name_is_known_in_other_spellings(stand_in, word):
    said = python(stand_in, f"command('fsl_mrs', '--algo', {word!r}, '--data', 'd')").stdout
    assert said.startswith("('ours', 'd'") and "'method': 'dlquant'" in said


@pytest.mark.parametrize(
    "words, part",
    [
        (["--dl-device", "cpu"], "--dl-device: goes with --algo dlquant only"),
        (["--algo", "dlquant", "--dl-init", "nobody"], "--dl-init nobody: there are no such initial values"),
        (["--algo", "dlquant", "--dl-estimate", "guess"], "--dl-estimate guess"),
        (["--algo", "dlquant", "--dl-model", "m"], "--dl-model m"),
        (["--algo", "dlquant", "--dl-device", "gpu"], "--dl-device gpu"),
    ],
)
def test_wrong_options_end_with_one_line(stand_in, words, part):
    done = python(stand_in, f"command('fsl_mrs', *{words!r})", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("fsl_mrs: error: ") and part in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_volume_is_fitted_in_batches_before_the_loop(stand_in):
    average, voxels = python(stand_in, "command('fsl_mrsi', '--algo', 'dlquant')").stdout.splitlines()
    assert "('ours', 'average'" in average and "'method': 'dlquant'" in average
    assert voxels.count("'ours', 'batched mrs") == 3
    average, voxels = python(stand_in, "command('fsl_mrsi')").stdout.splitlines()
    assert "('own', 'average', 'Newton'" in average
    assert voxels.count("('own', 'mrs") == 3


def test_average_leaves_out_what_cannot_be_fitted_and_gives_the_mask_back(stand_in):
    python(
        stand_in,
        """
        import numpy as np
        from fsl_mrs.core.mrsi import MRSI
        from fsl_mrs_dl.fslmrs import patching
        from fsl_mrs_dl.core.errors import DataError
        seen = []
        data, mask = np.ones((4, 1, 1, 8), complex), np.array([1, 1, 1, 0]).reshape(4, 1, 1)
        data[0], data[1, 0, 0, 3] = 0, np.nan
        mrsi = MRSI(data, mask)
        mrsi.mrs_from_average()
        patching.running['options'] = 'some'
        plain = MRSI.mrs_from_average.__wrapped__
        usable = plugin.DlQuant.usable(data, mask)
        assert usable[:, 0, 0].tolist() == [False, False, True, False]
        assert mrsi.mrs_from_average() == 'average' and mrsi.mask is mask
        mrsi.data = data * 0
        try:
            mrsi.mrs_from_average()
        except DataError as exc:
            assert 'every FID in the mask' in str(exc) and mrsi.mask is mask
        else:
            raise AssertionError
        """,
    )


def test_series_are_fitted_by_the_method_that_is_asked_for(stand_in):
    python(
        stand_in,
        """
        import inspect
        from fsl_mrs.dynamic.dynmrs import dynMRS
        plugin.DlQuant.fit_dynamic = staticmethod(lambda dyn, init=None, x0=None: ('ours', init, x0))
        dyn = dynMRS()
        assert dyn.fit() == ('own', 'quasi-newton', None, None) and dyn.initialise() == ('own', 'mean')
        assert dyn.fit('MH', init=1) == ('own', 'MH', 1, None)
        assert dyn.fit('dlquant', init=1) == dyn.fit(method='DL-Quant', init=1) == ('ours', 1, None)
        assert str(inspect.signature(dynMRS.fit)).startswith("(self, method='quasi-newton'")
        """,
    )


def test_command_for_series_takes_the_method(stand_in):
    code = """
        plugin.DlQuant.fit_dynamic = staticmethod(lambda dyn, init=None, x0=None: ('ours', init, x0))
        plugin.DlQuant.initialise_dynamic = staticmethod(lambda dyn: 'our values')
        plugin.DlQuant.warn = staticmethod(lambda args: None)
        command('fsl_dynmrs', *{words})
        """
    assert python(stand_in, code.format(words=[])).stdout == "('own', 'quasi-newton', ('own', 'mean'), None)\n"
    assert python(stand_in, code.format(words=["--algo", "dlquant"])).stdout == "('ours', 'our values', None)\n"
    done = python(stand_in, code.format(words=["--algo", "Newton"]), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fsl_dynmrs: error: --algo Newton: is not known; take dlquant, or leave it out.")
    assert done.stderr.count("\n") == 1


def test_voxels_of_a_series_are_fitted_here_unless_there_is_a_queue(tmp_path):
    stand_in_fsl_mrs.write(tmp_path, scripts_fsl_dynmrs=stand_in_fsl_mrs.DYNMRS_OF_VOLUMES)
    output = tmp_path / "with blank"
    output.mkdir()
    code = """
        plugin.DlQuant.warn = staticmethod(lambda args: None)
        try:
            command('fsl_dynmrs', '--output', {output!r}, '--algo', 'DLQuant', *{words})
        finally:
            assert 'fsl_sub' not in sys.modules
        """
    done = python(tmp_path, code.format(output=str(output), words=[]))
    assert done.stderr == "left out, 0 1 0: ValueError: no signal\n"
    assert (output / "voxel").read_text() == "dlquant" and (output / "merged").read_text() == "voxel"
    done = python(tmp_path, code.format(output=str(output), words=["--fslsub-queue", "long"]), check=False)
    assert "No module named 'fsl_sub'" in done.stderr


def test_algorithms_that_fsl_mrs_may_offer_for_series_stay(tmp_path):
    text = stand_in_fsl_mrs.FILES["scripts/fsl_dynmrs.py"]
    text = text.replace(
        "    args = ", "    parser.add_argument('--algo', default='MH', help='algorithm [MH]')\n    args = "
    )
    stand_in_fsl_mrs.write(tmp_path, scripts_fsl_dynmrs=text)
    done = python(tmp_path, "command('fsl_dynmrs', '--algo', 'MH')")
    assert done.stdout == "('own', 'quasi-newton', ('own', 'mean'), None)\n"


def test_reports_name_the_method(stand_in):
    python(
        stand_in,
        """
        from types import SimpleNamespace
        from fsl_mrs.utils.report import svs_methods_summary
        assert svs_methods_summary(SimpleNamespace(method='Newton')) == '<p>Methods.</p>'
        assert svs_methods_summary(SimpleNamespace(method='dlquant')) == '<p>Methods.</p><p>Optimisation: described</p>'
        """,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"utils_fitting": "def fit(mrs): return 1\n"},
        {"utils_fitting": "def fit_FSLModel(spectrum, how): return 1\n"},
        {"utils_report": "def summary(res): pass\n"},
        {"core_mrsi": "class MRSI: pass\n"},
        {"scripts_fsl_mrs": "def main(): pass\n"},
        {"scripts_fsl_mrsi": "import configargparse\ndef main(): pass\n"},
        {"scripts_fsl_mrs_proc": "import configargparse\ndef main(): pass\n"},
    ],
)
def test_an_unknown_shape_is_warned_of_once_and_left_alone(tmp_path, changes):
    stand_in_fsl_mrs.write(tmp_path, **changes)
    (name,) = changes
    module = "fsl_mrs." + name.replace("_", ".", 1)
    python(
        tmp_path,
        f"""
        import importlib
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            module = importlib.import_module({module!r})
            del sys.modules[{module!r}]
            importlib.import_module({module!r})
        ours = [str(w.message) for w in caught if 'FSL-MRS-DL' in str(w.message)]
        assert len(ours) == 1 and '2.4.0' in ours[0] and {module!r} in ours[0], ours
        assert not hasattr(module, '_fsl_mrs_dl')
        assert not any(hasattr(v, '__wrapped__') for v in vars(module).values() if callable(v))
        """,
    )


def test_an_error_inside_fsl_mrs_is_its_own(tmp_path):
    stand_in_fsl_mrs.write(tmp_path, utils_fitting="import not_there\n")
    python(
        tmp_path,
        """
        warnings.simplefilter('error')
        try:
            import fsl_mrs.utils.fitting
        except ModuleNotFoundError as exc:
            assert exc.name == 'not_there'
        else:
            raise AssertionError
        import fsl_mrs.utils.report
        """,
    )


@pytest.mark.parametrize("value", ["off", "0", "no", "FALSE"])
def test_the_variable_switches_it_off(stand_in, value):
    code = "from fsl_mrs.utils import fitting\nassert not hasattr(fitting, '_fsl_mrs_dl')"
    python(stand_in, code, FSL_MRS_DL_HOOK=value)


def test_the_file_switches_it_off(stand_in):
    (stand_in / "config/fsl_mrs_dl").mkdir(parents=True)
    (stand_in / "config/fsl_mrs_dl/hook_off").touch()
    python(stand_in, "from fsl_mrs.utils import fitting\nassert not hasattr(fitting, '_fsl_mrs_dl')")


def test_twice_is_once(stand_in):
    python(
        stand_in,
        """
        from fsl_mrs_dl import _hook
        assert _hook.install() and _hook.install()
        assert [type(f).__name__ for f in sys.meta_path].count('Finder') == 1
        from fsl_mrs.utils import fitting
        assert not hasattr(fitting.fit_FSLModel.__wrapped__, '__wrapped__')
        """,
    )


def test_preproc_aligns_by_this_package_when_asked_and_then_by_its_own_again(stand_in):
    done = python(
        stand_in,
        """
        command('fsl_mrs_preproc', '--dl-align')
        command('fsl_mrs_preproc')
        """,
    )
    assert done.stdout.split() == ["fsl_mrs_dl.fslmrs.preprocessing", "fsl_mrs.utils.preproc.nifti_mrs_proc"]
    assert "--dl-align" in python(stand_in, "command('fsl_mrs_preproc', '--help')", check=False).stdout
