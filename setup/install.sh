#!/usr/bin/env bash
# Set up everything the workflow needs: .venv with the pinned packages, and Psi4. `make setup` calls it.
# A second run downloads nothing. Variables: PYTHON, the Python to build .venv with (3.11 or newer);
# GOLF_PSI4_PYTHON, a Python that imports psi4; WITHOUT_PSI4, if set, leaves it out (docs/oracles.md).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME # of another Python: pip would count its packages as installed

readonly venv=.venv
readonly stamp=$venv/golf-setup

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
root_with_apt() { [[ $(id -u) -eq 0 ]] && has apt-get; }
apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get install $* failed (see above); fix it and run make setup again"
}

# ---- .venv -----------------------------------------------------------------------------------------------------------

find_python() { # $1: statement that it must be able to run as well
    local name
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
        if "$name" -c "import sys; assert sys.version_info >= (3, 11); $1" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

base_python() { # a Python that can make virtual environments; Debian and Ubuntu ship that part as a package of its own
    local python package
    find_python 'import ensurepip, venv' && return
    python=$(find_python pass) ||
        fail "no Python 3.11 or newer found (tried ${PYTHON:-python3.11, python3, ...}); install one, or name one:" \
            "make setup PYTHON=/path/to/python3.11"
    package=$("$python" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
    root_with_apt || fail "$python cannot make virtual environments; type: sudo apt-get install $package"
    apt-get update -qq >&2 || true # offline, with cached package lists, the next line may still work
    apt_install "$package"
    printf '%s\n' "$python"
}

key() { # changes when what is to be installed changes, or the folder was moved
    { pwd; cat requirements.txt pyproject.toml setup/install.sh; } |
        if has sha256sum; then sha256sum; else shasum -a 256; fi
}

pip_install() {
    "$venv/bin/python" -m pip -qq --disable-pip-version-check --no-input install --no-warn-script-location "$@" ||
        fail "pip install $* failed (see above); is the network up? Run make setup again to resume"
}

make_venv() {
    local python
    if ! "$venv/bin/python" -c 'import pip, sys; assert sys.version_info >= (3, 11)' 2>/dev/null; then
        python=$(base_python)
        say "creating $venv with $python"
        "$python" -m venv --clear "$venv"
    fi
    say "installing the packages of requirements.txt into $venv; the first time this takes a few minutes"
    # torch first: asked for together with packages that need it, pip may take another build of it.
    pip_install --constraint requirements.txt "$(grep '^torch==' requirements.txt)"
    # No resolving: the list is complete, and what schnetpack declares contradicts torch (see requirements.txt).
    pip_install --use-pep517 --no-deps --requirement requirements.txt
    pip_install --no-deps --editable .
}

# ---- Psi4 ------------------------------------------------------------------------------------------------------------

find_psi4() { "$venv/bin/python" -m golf.oracles.programs.interpreter; }

find_conda() {
    local program
    for program in mamba micromamba conda "${MAMBA_EXE:-}" "${CONDA_EXE:-}"; do # often a shell function, not on PATH
        if [[ -n $program ]] && has "$program"; then
            printf '%s\n' "$program"
            return
        fi
    done
    return 1
}

get_psi4() {
    local conda create=(env create)
    if root_with_apt; then
        apt-get update -qq >&2 || true
        if apt-cache show psi4 >/dev/null 2>&1; then
            say "installing Psi4 and OpenBLAS with apt-get"
            apt_install psi4 libopenblas0-pthread
            return
        fi
    fi
    if conda=$(find_conda); then
        say "creating the conda environment .psi4 from envs/psi4.yaml with $conda; this takes a few minutes"
        [[ $(basename "$conda") == micromamba ]] && create=(create)
        rm -rf .psi4 # what is left of an attempt that was stopped
        CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true \
            "$conda" "${create[@]}" --quiet --prefix "$PWD/.psi4" --file envs/psi4.yaml ||
            fail "$conda could not create .psi4 from envs/psi4.yaml (see above); fix it and run make setup again"
        return
    fi
    fail "no Psi4, and no root or conda to install it; type: sudo apt-get install psi4 libopenblas0-pthread (Debian, Ubuntu)," \
        "or install conda, then run make setup again; if a Python has it: make setup GOLF_PSI4_PYTHON=/path/to/it;" \
        "or continue without it (docs/oracles.md): make setup WITHOUT_PSI4=1"
}

# Psi4 of Debian and Ubuntu with the reference BLAS is 3 times slower. Prints the alternative that chooses it, if so.
reference_blas() {
    local library
    has dpkg-query && dpkg-query --show psi4 >/dev/null 2>&1 || return 1
    for library in /usr/lib/*/libblas.so.3; do
        if [[ $(readlink -f "$library") == */blas/libblas.so.3* ]]; then
            printf 'libblas.so.3-%s\n' "$(basename "$(dirname "$library")")"
            return
        fi
    done
    return 1
}

fix_blas() {
    local alternative
    reference_blas >/dev/null || return 0
    if root_with_apt; then
        say "installing OpenBLAS for Psi4 with apt-get"
        apt-get update -qq >&2 || true
        apt_install libopenblas0-pthread
        alternative=$(reference_blas) || return 0
        say "warning: Psi4 still uses the slow reference BLAS; type: update-alternatives --auto $alternative" >&2
    else
        say "warning: with the reference BLAS Psi4 is 3 times slower; type:" \
            "sudo apt-get install libopenblas0-pthread" >&2
    fi
}

# The loops of golf/nnp/kernels.c are compiled at their first use.
get_compiler() {
    has "${CC:-cc}" || has gcc || has clang && return
    if root_with_apt; then
        say "installing gcc with apt-get"
        apt-get update -qq >&2 || true
        apt_install gcc libc6-dev
    else
        say "warning: without a C compiler the network is 3 times slower on a CPU; type: sudo apt-get install gcc" >&2
    fi
}

# ----------------------------------------------------------------------------------------------------------------------

if [[ ! -x $venv/bin/python || $(key) != "$(cat "$stamp" 2>/dev/null)" ]]; then
    rm -f "$stamp"
    make_venv
    key >"$stamp"
fi
if ! found=$(find_psi4 2>/dev/null); then
    if [[ -n ${WITHOUT_PSI4:-} ]]; then
        found="no Psi4; oracle.program has to be pyscf or ase"
    else
        [[ -z ${GOLF_PSI4_PYTHON:-} ]] || fail "$(find_psi4 2>&1)"
        get_psi4
        found=$(find_psi4) || fail "Psi4 was installed, but the line above says why it cannot be used"
    fi
fi
fix_blas
get_compiler
say "ready: $found"
