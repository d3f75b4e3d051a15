"""The table of programs that compute labels, and of how their child processes are started.

It needs only the standard library, because the configuration is checked against it in every environment.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from golf.core.errors import UserError
from golf.core.level import NO_BASIS
from golf.oracles.programs.interpreter import REPOSITORY, find_psi4

COMPOSITE = re.compile(r"3c$")
"""Methods with a basis set, a dispersion and a counterpoise correction of their own.

PySCF's b97_3c is the bare functional; for hf-3c and pbeh-3c Psi4 1.3.2 adds only the dispersion.
"""


@dataclass(frozen=True)
class Launch:
    """The command that starts a child.

    Attributes:
        command: program and arguments.
        environment: complete environment of the child.
        remedy: what to do if it does not start.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    remedy: str


@dataclass(frozen=True)
class Program:
    """A program that computes labels.

    Attributes:
        name: its usual spelling.
        default_basis: default of oracle.basis; `NO_BASIS` for a program without basis sets.
        launch: function of the method and the configured Python (None if not configured).
    """

    name: str
    default_basis: str
    launch: Callable[[str, str | None], Launch]


def _psi4(method: str, python: str | None) -> Launch:
    """Start a child under Psi4's own Python; see golf/oracles/programs/interpreter.py."""
    interpreter = find_psi4(python)
    worker = Path(__file__).with_name("psi4_worker.py")
    return Launch((interpreter.python, str(worker)), interpreter.environment, "check oracle.python")


def own_python(module: str, remedy: str) -> Launch:
    """Run a module under golf's own Python; it is found in golf, on the path, or in the current folder."""
    path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")]), os.getcwd()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    return Launch((sys.executable, "-m", module), environment, remedy)


def _pip(package: str) -> str:
    return f"run: {sys.executable} -m pip install {package}"


def _pyscf(method: str, python: str | None) -> Launch:
    return own_python("golf.oracles.programs.pyscf_worker", _pip("pyscf"))


def _ase(method: str, python: str | None) -> Launch:
    package = method.partition(":")[0].partition(".")[0]
    missing = f"; if a package is missing, {_pip(package)}" if method != package else ""  # wb97x-d is not a package
    return own_python("golf.oracles.programs.ase_worker", f"check oracle.method{missing}")


PROGRAMS: dict[str, Program] = {
    "psi4": Program("Psi4", "def2-svp", _psi4),
    "pyscf": Program("PySCF", "def2-svp", _pyscf),
    "ase": Program("ASE", NO_BASIS, _ase),
}
"""Programs by the value of oracle.program."""


def program(name: str) -> Program:
    """Return the program of a value of oracle.program.

    Raises:
        UserError: the value is unknown.
    """
    if name not in PROGRAMS:
        raise UserError(f"oracle.program {name!r}: unknown; give one of {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def wrong_setting(name: str, method: str, basis: str, python: str | None) -> str | None:
    """Return why a program's settings are invalid, as a message without the file; None if they are valid."""
    if program(name).default_basis != NO_BASIS and COMPOSITE.search(method.strip().lower()):
        return (
            f"key oracle.method: {method}: {program(name).name} does not add all corrections of composite (3c) methods "
            "to energy and gradient; choose a method without 3c, such as wb97x-d"
        )
    if program(name).default_basis == NO_BASIS and basis.lower() != NO_BASIS:
        return f"key oracle.basis: program {name} does not use basis sets; leave basis out, or set it to {NO_BASIS}"
    if program(name).default_basis != NO_BASIS and basis.lower() == NO_BASIS:
        return f"key oracle.basis: program {name} needs a basis set, such as {program(name).default_basis}"
    if python is not None and name != "psi4":
        return f"key oracle.python: program {name} runs in golf's own Python; leave python out"
    return None
