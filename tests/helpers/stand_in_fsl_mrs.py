"""A stand-in for FSL-MRS: the shapes that the patches look for and nothing else, written as text files by
:func:`write`."""

from __future__ import annotations

import os
from pathlib import Path

FILES = {
    "__init__.py": "__version__ = '2.4.0'\n",
    "utils/__init__.py": "",
    "core/__init__.py": "",
    "scripts/__init__.py": "",
    "utils/fitting.py": """
def fit_FSLModel(mrs, method='Newton', ppmlim=None, baseline='polynomial, 2', baseline_order=None, metab_groups=None,
                 model='voigt', x0=None, MHSamples=500):
    "Fit."
    if method not in ('Newton', 'MH', 'init'):
        raise Exception('Unknown optimisation method.')
    return ('own', mrs, method, ppmlim, baseline, model)
""",
    "utils/report.py": "def svs_methods_summary(res):\n    return '<p>Methods.</p>'\n",
    "core/mrsi.py": """
class MRSI:
    def __init__(self, data, mask):
        self.data, self.mask = data, mask

    def __iter__(self):
        for index in range(len(self.data)):
            yield f'mrs{index}', index, None

    def mrs_from_average(self):
        return 'average'
""",
    "dynamic/__init__.py": "",
    "dynamic/dynmrs.py": """
class dynMRS:
    def fit(self, method='quasi-newton', mh_jumps=600, init=None, x0=None, verbose=False, output_opt_sol=False):
        "Fit."
        return ('own', method, init, x0)

    def initialise(self, indiv_init='mean', verbose=False):
        return ('own', indiv_init)
""",
    "scripts/fsl_dynmrs.py": """
import configargparse


def main():
    parser = configargparse.ArgParser()
    parser.add_argument('--output')
    args = parser.parse_args()
    from fsl_mrs.dynamic.dynmrs import dynMRS
    dyn = dynMRS()
    print(dyn.fit(init=dyn.initialise(verbose=True)))
""",
    "scripts/fsl_mrs.py": """
import configargparse


def main():
    parser = configargparse.ArgParser()
    parser.add_argument('--algo', default='Newton', help='algorithm [Newton or MH]')
    parser.add_argument('--data')
    args = parser.parse_args()
    from fsl_mrs.utils import fitting
    print(fitting.fit_FSLModel(args.data, method=args.algo))
""",
    "scripts/fsl_mrsi.py": """
from functools import partial

import configargparse


def main():
    parser = configargparse.ArgParser()
    parser.add_argument('--algo', default='Newton', help='algorithm [Newton or MH]')
    args = parser.parse_args()
    import numpy as np
    from fsl_mrs.core.mrsi import MRSI
    mrsi = MRSI(np.ones((3, 1, 1, 4), complex), np.ones((3, 1, 1)))
    fitargs = {'method': args.algo, 'ppmlim': (1, 4)}
    print(runvoxel([mrsi.mrs_from_average(), 0, None], args, {**fitargs, 'method': 'Newton'}, None, None))
    func = partial(runvoxel, args=args, Fitargs=fitargs, echotime=None, repetition_time=None)
    print(list(map(func, mrsi)))


def runvoxel(mrs_in, args, Fitargs, echotime, repetition_time):
    from fsl_mrs.utils import fitting

    class Result:
        params = None

        def __repr__(self):
            return repr(self.value)

    result = Result()
    result.value = fitting.fit_FSLModel(mrs_in[0], **Fitargs)
    return result, mrs_in[1]
""",
    "scripts/fsl_mrs_summarise.py": """
def main():
    from pathlib import Path
    res_store = {}
    for fp in map(Path, ('a', 'b')):
        res_store[fp] = 'own'
    print(res_store)
""",
    "scripts/fsl_mrs_preproc.py": """
import configargparse


def main():
    parser = configargparse.ArgParser()
    parser.add_argument('--align_limits', type=float, nargs=2, default=(0.2, 4.2))
    parser.add_argument('--output')
    parser.add_argument('--report', action='store_true')
    args = parser.parse_args()
    from fsl_mrs.utils.preproc import nifti_mrs_proc
    print(nifti_mrs_proc.align.__module__)
""",
    "utils/preproc/__init__.py": "",
    "utils/preproc/nifti_mrs_proc.py": """
def align(data, dim, window=None, target=None, ppmlim=None, niter=2, figure=False, report=None, report_all=False):
    return 'own'
""",
    "scripts/fsl_mrs_proc.py": """
import configargparse


def main():
    parser = configargparse.ArgParser()
    steps = parser.add_subparsers(dest='subcommand', required=True)
    own = steps.add_parser('align', help='Align FIDs.', add_help=False)
    own.add_argument('--file')
    own.set_defaults(func=lambda data, args: 'own')
    add_common_args(own)
    args = parser.parse_args()
    print(args.func('data', vars(args)))


def add_common_args(p):
    p.add_argument('--output')
    p.add_argument('-h', '--help', action='help')
""",
}

DYNMRS_OF_VOLUMES = """
import configargparse


def main():
    parser = configargparse.ArgParser()
    parser.add_argument('--output')
    parser.add_argument('--spatial-index', type=int, nargs=3)
    parser.add_argument('--merge_spatial', action='store_true')
    parser.add_argument('--fslsub-queue')
    args = parser.parse_args()
    import sys
    from pathlib import Path
    if args.merge_spatial:
        Path(args.output, 'merged').write_text(' '.join(path.name for path in Path(args.output).iterdir()))
    elif args.spatial_index is None:
        import fsl_sub
        for place in ('0 0 0', '0 1 0'):
            fsl_sub.submit(' '.join([*sys.argv, '--spatial-index', place]), name='voxel', queue=args.fslsub_queue)
        fsl_sub.submit(' '.join([*sys.argv, '--merge_spatial']), jobhold=[1, 2])
    elif args.spatial_index[1]:
        raise ValueError('no signal')
    else:
        Path(args.output, 'voxel').write_text(args.algo)
"""

ROOT = Path(__file__).resolve().parents[2]

OLD_FITTING = """
def fit_FSLModel(mrs, method='Newton', ppmlim=(.2, 4.2), baseline_order=2, metab_groups=None, model='voigt', x0=None):
    return ('own', mrs, method, baseline_order)
"""


def write(folder: Path, **changes: str | None) -> Path:
    """Write the package below ``folder``; ``changes`` replace files by text, or leave them out, as
    ``utils_fitting='...'``."""
    for name, text in FILES.items():
        text = changes.get(name.removesuffix(".py").replace("/", "_"), text)
        if text is not None:
            path = folder / "fsl_mrs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


def path_with(folder: Path) -> str:
    """PYTHONPATH with the stand-in below ``folder`` before the package that is tested."""
    return f"{folder}{os.pathsep}{ROOT}"
