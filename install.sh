#!/usr/bin/env bash
# Sets up FSL-MRS-DL in .venv beside this file; see usage below.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: ./install.sh                  set up in .venv
       ./install.sh example [...]    set up, then align and fit the bundled example into example-results
       ./install.sh test [...]       set up with what the tests need, then run them all; the rest goes to pytest
       ./install.sh check            set up as for the documentation, then only check format, spelling and types
                                     (those inside of FSLeyes follow in .venv-fsleyes; FSLEYES_TESTS=off leaves them out)
       ./install.sh docs             set up as for the tests, then run the tutorials and build the documentation
Python 3.11 or later is needed; PYTHON=/path/to/python says which one to use.
TEXT
}

die() {
    echo "install.sh: $*" >&2
    exit 1
}

recent_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Debian packs ensurepip apart from Python itself, and venv is of no use without it.
makes_venvs() { recent_enough "$1" && "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

pick_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        set -- "$PYTHON"
    else
        # /usr/bin/python3 once more at the end: another python3 may hide it.
        set -- python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3
    fi
    for candidate; do
        if makes_venvs "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

install_python3_venv() {
    local as_root=(env DEBIAN_FRONTEND=noninteractive)
    local advice="install Python 3.11 or later with its venv module (on Debian and Ubuntu: apt-get install python3-venv), or say PYTHON=/path/to/python"
    command -v apt-get >/dev/null || die "no Python >= 3.11 that can make virtual environments, and no apt-get to install one: $advice."
    if [[ "$(id -u)" != 0 ]]; then
        command -v sudo >/dev/null || die "python3-venv is missing, and installing it needs root or sudo: $advice."
        as_root=(sudo "${as_root[@]}")
    fi
    echo "install.sh: installing python3-venv with apt-get"
    # One unreachable source among several need not matter; whether the package arrives does.
    "${as_root[@]}" apt-get update || echo "install.sh: apt-get update had errors; going on." >&2
    "${as_root[@]}" apt-get install -y python3-venv || die "apt-get could not install python3-venv: $advice."
}

# What the environment was made from.  The folder is part of it because a moved environment's scripts point to the old place.
describe() {
    echo "$here"
    cat pyproject.toml setup.py constraints.txt fsl_mrs_dl/data/hook_starter.txt | cksum
}

set_up() {
    local extra="$1" stamp=.venv/fsl_mrs_dl.stamp wanted python old=""
    wanted="$(describe)"
    if [[ -n "${PYTHON:-}" ]] && ! recent_enough "$PYTHON"; then
        die "PYTHON=$PYTHON is not Python 3.11 or later."
    fi
    if [[ -f "$stamp" ]] && recent_enough .venv/bin/python; then
        old="$(<"$stamp")"
        # What the tests need includes what running needs, not the other way round.
        if [[ "$old" == "$wanted"$'\n'test* || "$old" == "$wanted"$'\n'"${extra:-run}" ]] && [[ "$extra" != *docs || "$old" == *docs ]]; then
            return
        fi
        # What one job needed stays for the others.
        if [[ "$old" == *docs ]]; then
            extra=test,docs
        elif [[ "$old" == *$'\n'test && -z "$extra" ]]; then
            extra=test
        fi
    fi
    if [[ "${old%%$'\n'*}" != "$here" ]]; then
        if ! python="$(pick_python)"; then
            install_python3_venv
            python="$(pick_python)" || die "${PYTHON:-python3} is too old or still cannot make virtual environments; say PYTHON=/path/to/python for one >= 3.11 that can."
        fi
        echo "install.sh: making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    rm -f "$stamp"
    .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}"
    printf '%s\n%s\n' "$wanted" "${extra:-run}" >"$stamp"
}

# FSLeyes needs wxPython, which takes an hour to build: Debian's is used, and with it Debian's Python, in an environment of its own.
# Nothing here stops the other tests; it says why and returns 1.
set_up_fsleyes() {
    local stamp=.venv-fsleyes/fsl_mrs_dl.stamp wanted system=/usr/bin/python3
    local packages=(python3-venv python3-wxgtk4.0 xvfb xauth libosmesa6 libgl1-mesa-dri)
    local without="the tests inside of FSLeyes are left out:"
    wanted="$(describe)"
    if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]] && .venv-fsleyes/bin/python -c 'import fsleyes, wx' 2>/dev/null && command -v Xvfb >/dev/null; then
        return
    fi
    if ! makes_venvs "$system" || ! "$system" -c 'import wx' >/dev/null 2>&1 || ! command -v Xvfb >/dev/null ||
        ! { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q libOSMesa; then
        local as_root=(env DEBIAN_FRONTEND=noninteractive)
        if ! command -v apt-get >/dev/null; then
            echo "install.sh: $without they need $system with wxPython, Xvfb and OSMesa, and there is no apt-get to install them." >&2
            return 1
        fi
        if [[ "$(id -u)" != 0 ]]; then
            if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
                echo "install.sh: $without installing what they need takes root: apt-get install ${packages[*]}" >&2
                return 1
            fi
            as_root=(sudo -n "${as_root[@]}")
        fi
        echo "install.sh: installing ${packages[*]} with apt-get"
        "${as_root[@]}" apt-get update -q || echo "install.sh: apt-get update had errors; going on." >&2
        if ! "${as_root[@]}" apt-get install -y -q --no-install-recommends "${packages[@]}"; then
            echo "install.sh: $without apt-get could not install ${packages[*]}." >&2
            return 1
        fi
    fi
    if ! makes_venvs "$system"; then
        echo "install.sh: $without $system is older than 3.11 or makes no virtual environments." >&2
        return 1
    fi
    echo "install.sh: making .venv-fsleyes with $("$system" --version)"
    rm -f "$stamp"
    if ! "$system" -m venv --clear --system-site-packages .venv-fsleyes ||
        ! .venv-fsleyes/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt \
            fsleyes fsleyes-plugin-mrs pyparsing nifti-mrs nibabel pandas matplotlib scipy ConfigArgParse pytest ||
        ! .venv-fsleyes/bin/python -m pip install --disable-pip-version-check -q --no-deps -e .; then
        echo "install.sh: $without FSLeyes could not be installed with pip." >&2
        return 1
    fi
    printf '%s\n' "$wanted" >"$stamp"
}

# What .pre-commit-config.yaml checks, and types; every check runs, and the status tells whether one failed.
check() {
    local status=0
    .venv/bin/python -m ruff check --quiet . || status=1
    .venv/bin/python -m ruff format --quiet --check . || status=1
    .venv/bin/codespell || status=1
    .venv/bin/python -m mypy || status=1
    return "$status"
}

# Warnings are errors; notebooks that were run before are taken from docs/_build unless the package changed.
docs() {
    .venv/bin/python -m sphinx -q -W --keep-going -j 2 -b html docs docs/_build/html
    .venv/bin/python docs/extensions/links.py docs/_build/html
    echo "Written: docs/_build/html/index.html"
}

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
cd -- "$here"
job="${1:-}"
if (($#)); then shift; fi
# A PYTHONPATH or PYTHONHOME of the caller's would mix foreign packages into the environment.
unset PYTHONPATH PYTHONHOME

case "$job" in
    "")
        set_up ""
        cat <<TEXT
FSL-MRS-DL is set up in $here/.venv. To go on:
    source "$here/.venv/bin/activate"
    fsl_mrs_dl --help
    fsl_mrs_dl example
FSL-MRS is not part of it. To have the words 'fsl_mrs_proc dl-align' and 'fsl_mrs --algo dlquant' all the same:
    fsl_mrs_dl launchers add
TEXT
        ;;
    example)
        set_up ""
        exec .venv/bin/fsl_mrs_dl example --overwrite "$@"
        ;;
    test)
        set_up test
        status=0
        # Installing FSLeyes is mostly waiting; it goes on beside the tests.
        fsleyes=""
        if [[ "${FSLEYES_TESTS:-on}" != off ]]; then
            log="$(mktemp)"
            trap 'rm -f "$log"' EXIT
            trap 'kill "$fsleyes" 2>/dev/null; exit 130' INT TERM
            { set_up_fsleyes || exit 1; } >"$log" 2>&1 &
            fsleyes=$!
        fi
        # A process for each core, with one thread; the tests of a file stay together, because they share what they
        # simulate.
        OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --dist loadfile "$@" || status=$?
        if [[ -n "$fsleyes" ]]; then
            there=0
            wait "$fsleyes" || there=$?
            cat "$log"
            if ((there == 0)); then
                echo "install.sh: tests inside of FSLeyes"
                .venv-fsleyes/bin/python -m pytest -m with_fsleyes tests/fsleyes_plugin/test_fsleyes_gui.py || status=$?
            fi
        fi
        exit "$status"
        ;;
    check)
        # What the documentation needs, too: its build may then run beside the tests without a change of what they use.
        set_up test,docs
        check
        ;;
    docs)
        set_up test,docs
        docs
        ;;
    -h | --help)
        usage
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
