#!/usr/bin/env bash
# Set up the environment once, then do a job in it.
#
#   ./run.sh demo [options]      the demo, into demo-run/
#   ./run.sh test [options]      the tests (options go to pytest)
#   ./run.sh lint                style, types, the one-way rooms
#   ./run.sh cli  [arguments]    unpaired itself
#
# PYTHON= chooses the interpreter (3.11 or newer), VENV= the folder of the environment (.venv).
# An interrupted set-up carries on where it stopped; a finished one costs nothing.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${VENV:-$ROOT/.venv}
[[ $VENV = /* ]] || VENV=$PWD/$VENV
PY=$VENV/bin/python

say() { echo "run.sh: $*" >&2; }
die() { say "$*"; exit 1; }
pip_install() { "$PY" -m pip --disable-pip-version-check install --quiet --quiet --no-compile "$@"; }  # errors only
locked() { pip_install --no-deps --require-hashes --only-binary :all: -r "$1"; }
hash_of() { (cd "$ROOT" && cat "$@" | cksum | tr -s ' ' '-'); }

# ------------------------------------------------------------------ the environment

make_venv() {
    if [ -f "$VENV/pyvenv.cfg" ] && "$PY" -m pip --version >/dev/null 2>&1; then return; fi
    local python=${PYTHON:-}
    if [ -z "$python" ]; then
        python=python3
        if command -v python3.11 >/dev/null; then python=python3.11; fi  # what the locks are made for
    fi
    command -v "$python" >/dev/null || die "There is no '$python' here; install Python 3.11 or name yours: PYTHON=/path/to/python3."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, and '$python' is $("$python" -V 2>&1); name another one: PYTHON=/path/to/python3.11."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        die "'$python' cannot make environments; install its venv module (on Debian and Ubuntu: apt install python3-venv)."
    say "making an environment in $VENV"
    "$python" -m venv "$VENV"
}

# An interrupted pip leaves packages without a RECORD, and would take them for installed.
drop_half_installed() {
    local info
    for info in "$VENV"/lib/python3*/site-packages/*.dist-info; do
        if [ -d "$info" ] && [ ! -f "$info/RECORD" ]; then rm -rf "$info"; fi
    done
}

# The locks are for Python 3.11; newer ones take the newest releases that pyproject.toml allows.
has_locks() { [ -d "$VENV/lib/python3.11" ]; }

install_base() {
    # The lock first: torch then finds all it needs there, and adds at most its own CUDA libraries.
    if has_locks; then locked "$ROOT/requirements.lock"; else pip_install --upgrade pip; fi
    pip_install -r "$ROOT/torch.txt"
}
install_package() {
    if has_locks; then pip_install --no-deps --no-build-isolation -e "$ROOT"; else pip_install -e "$ROOT"; fi
}
install_group() {  # install_group test|lint
    if has_locks; then locked "$ROOT/requirements-$1.lock"; else pip_install --group "$ROOT/pyproject.toml:$1"; fi
}

# One stamp per finished step, named by the hash of the files that decide it.
stamp() {
    case $1 in
        base) echo "$VENV/stamps/base-$(hash_of torch.txt requirements.lock)" ;;
        package) echo "$VENV/stamps/package-$(hash_of torch.txt requirements.lock pyproject.toml)" ;;
        *) echo "$VENV/stamps/$1-$(hash_of torch.txt requirements.lock "requirements-$1.lock")" ;;
    esac
}
finished() {
    local step
    for step; do [ -f "$(stamp "$step")" ] || return 1; done
    [ -x "$PY" ]
}
run_step() {
    local done_stamp
    done_stamp=$(stamp "$1")
    if [ -f "$done_stamp" ]; then return; fi
    case $1 in
        base) say "installing the libraries, about 1.5 GB on disk; this happens once" ;;
        package) say "installing unpaired itself" ;;
        *) say "installing what '$1' needs" ;;
    esac
    drop_half_installed
    case $1 in
        base | package) "install_$1" ;;
        *) install_group "$1" ;;
    esac
    mkdir -p "$VENV/stamps"
    rm -f "$VENV/stamps/$1-"*
    touch "$done_stamp"
}

set_up() {  # set_up STEP...: only what is not finished yet, and one process at a time
    if finished "$@"; then return; fi
    mkdir -p "$VENV"
    exec 9>"$VENV/set-up.lock"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "another set-up is at work; waiting for it"
        flock 9
    fi
    make_venv
    local step
    for step; do run_step "$step"; done
    exec 9>&-
}

# ------------------------------------------------------------------ the jobs

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

job=${1:-help}
[ $# -eq 0 ] || shift
case $job in
    demo)
        set_up base package
        exec "$VENV/bin/unpaired" demo --out demo-run --force "$@"
        ;;
    cli)
        set_up base package
        exec "$VENV/bin/unpaired" "$@"
        ;;
    test)
        set_up base package test
        cd "$ROOT"
        MPLBACKEND=${MPLBACKEND:-Agg} exec "$PY" -m pytest "$@"
        ;;
    lint)
        set_up base package lint
        cd "$ROOT"
        failed=0
        "$PY" -m ruff check || failed=1
        "$PY" -m ruff format --check || failed=1
        "$PY" -m mypy || failed=1
        "$VENV/bin/lint-imports" --no-cache --no-logo || failed=1
        exit $failed
        ;;
    help | -h | --help) usage ;;
    *)
        usage >&2
        die "there is no job '$job'."
        ;;
esac
