"""A table of program versions that are known to compute a method wrongly, with the evidence for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory

_RANGE_SEPARATED = re.compile(r"^(w|lc|lrc|hjs|hse|rsx|qtp|m11(?!-?l)|m?n12-?sx|m06-?sx)|cam")
"""Psi4's names of functionals with range-separated exchange; tests/oracles/test_proof.py checks each with Psi4."""

_PSI4_D2_BY_ELECTRONS = re.compile(r"^wb97x-d$|-d2?$")
"""Psi4's names of methods whose dispersion it computes itself with D2's coefficients."""


@dataclass(frozen=True)
class Fault:
    """A method that some versions of a program compute wrongly.

    Attributes:
        program: value of oracle.program.
        versions: pattern that matches the start of the version strings.
        methods: pattern to search in the method, in lower case.
        keyword: option of the program that makes the results of any method wrong; "" if there is none.
        elements: affected atomic numbers; empty for all.
        what: what is wrong, with the evidence.
        remedy: what to do.
    """

    program: str
    versions: re.Pattern[str]
    methods: re.Pattern[str]
    keyword: str
    elements: frozenset[int]
    what: str
    remedy: str

    def concerns(self, level: LevelOfTheory, version: str) -> bool:
        """Tell whether labels of this level by this version are wrong, for the elements of the row."""
        if level.program != self.program or not self.versions.match(version.strip().lower()):
            return False
        named = self.methods.search(level.method.strip().lower())
        return bool(named) or (self.keyword != "" and self.keyword in _lower(level.keywords))


def _lower(keywords: Mapping[str, Any]) -> set[str]:
    return {name.lower() for name in keywords}


FAULTS: tuple[Fault, ...] = (
    # MEM_DF combines K and wK by default from 1.4 on, wrongly; switched off in 1.5 (psi4 issues 2279 and 2351). Builds
    # before the releases 1.4 and 1.5 may have it as well.
    Fault(
        "psi4",
        re.compile(r"v?1\.(4(?!\d)|5(\.0)?\.?(a|b|rc|dev))"),
        _RANGE_SEPARATED,
        "dft_omega",
        frozenset(),
        "wrong energies of range-separated functionals (psi4 issues 2279 and 2351)",
        "install Psi4 1.5 or newer, or 1.3.2",
    ),
    # Measured on HI with 1.3.2 (tests/oracles/test_pyscf.py): the error is the difference between the coefficients of
    # iodine and manganese.
    Fault(
        "psi4",
        re.compile(r"v?1\.3(?!\d)"),
        _PSI4_D2_BY_ELECTRONS,
        "",
        frozenset({53}),
        "iodine with a core potential gets the dispersion coefficients of manganese, 4e-4 hartree in iodomethane",
        "set oracle.program to pyscf, or leave these molecules out",
    ),
)


def refuse_wrong_version(level: LevelOfTheory, version: str) -> None:
    """Refuse a version of a program that is known to compute the method wrongly for every element.

    Raises:
        UserError: the version is in the table.
    """
    for fault in FAULTS:
        if not fault.elements and fault.concerns(level, version):
            raise UserError(
                f"oracle.method {level.method!r}: {level.program} {version} computes {fault.what}; {fault.remedy}"
            )


def doubtful_elements(level: LevelOfTheory, version: str) -> dict[int, str]:
    """Return the elements that this version is known to compute wrongly, with a message of what is wrong."""
    return {
        number: f"{level.program} {version}: {SYMBOLS[number]}: {fault.what}; {fault.remedy}"
        for fault in FAULTS
        if fault.concerns(level, version)
        for number in fault.elements
    }
