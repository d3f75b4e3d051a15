"""Which programs compute labels, and how a child process of each is started. The one place that decides.

Standard library alone: the configuration is checked against it wherever it is read.
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
from golf.oracles.programs.interpreter import find_psi4

COMPOSITE = re.compile(r"3c$")
"""Methods with a basis set, a dispersion and a counterpoise correction of their own.

PySCF's b97_3c is the bare functional; of Psi4's hf-3c and pbeh-3c only the dispersion is added (1.3.2).
"""

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Launch:
    """How a child is started.

    Attributes:
        command: program and arguments.
        environment: the whole environment of the child.
        remedy: what to do when it does not start.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    remedy: str


@dataclass(frozen=True)
class Program:
    """A program that computes labels.

    Attributes:
        name: as people write it.
        default_basis: `NO_BASIS`: it has no basis sets.
        launch: from the method and the Python that is configured (None: not configured).
    """

    name: str
    default_basis: str
    launch: Callable[[str, str | None], Launch]


def _psi4(method: str, python: str | None) -> Launch:
    """Psi4's own Python; see golf/oracles/programs/interpreter.py."""
    interpreter = find_psi4(python)
    worker = Path(__file__).with_name("psi4_worker.py")
    return Launch((interpreter.python, str(worker)), interpreter.environment, "check oracle.python")


def own_python(module: str, remedy: str) -> Launch:
    """A module of golf, or one on the path or in the present folder, run under the Python that runs golf."""
    path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")]), os.getcwd()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    return Launch((sys.executable, "-m", module), environment, remedy)


def _pip(package: str) -> str:
    return f"type: {sys.executable} -m pip install {package}"


def _pyscf(method: str, python: str | None) -> Launch:
    return own_python("golf.oracles.programs.pyscf_worker", _pip("pyscf"))


def _ase(method: str, python: str | None) -> Launch:
    package = method.partition(":")[0].partition(".")[0]
    return own_python(
        "golf.oracles.programs.ase_worker", f"check oracle.method; if a package is missing, {_pip(package)}"
    )


PROGRAMS: dict[str, Program] = {
    "psi4": Program("Psi4", "def2-svp", _psi4),
    "pyscf": Program("PySCF", "def2-svp", _pyscf),
    "ase": Program("ASE", NO_BASIS, _ase),
}
"""By the value of oracle.program."""


def program(name: str) -> Program:
    """The program of that name.

    Raises:
        UserError: there is none.
    """
    if name not in PROGRAMS:
        raise UserError(f"oracle.program {name!r}: unknown; give one of {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def wrong_setting(name: str, method: str, basis: str, python: str | None) -> str | None:
    """What of a program's settings cannot be, as a message without the file; None: all is well."""
    if program(name).default_basis != NO_BASIS and COMPOSITE.search(method.strip().lower()):
        return (
            f"key oracle.method: {method}: {program(name).name} does not add all corrections of composite (3c) methods "
            "to energy and gradient; choose a method without 3c, such as wb97x-d"
        )
    if program(name).default_basis == NO_BASIS and basis.lower() != NO_BASIS:
        return f"key oracle.basis: program {name} has no basis sets; leave basis out, or set it to {NO_BASIS}"
    if program(name).default_basis != NO_BASIS and basis.lower() == NO_BASIS:
        return f"key oracle.basis: program {name} needs a basis set, such as {program(name).default_basis}"
    if python is not None and name != "psi4":
        return f"key oracle.python: program {name} runs in golf's own Python; leave python out"
    return None
