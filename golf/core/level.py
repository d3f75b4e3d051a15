"""Levels of theory; two labels are comparable if their levels are equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from golf.core.errors import UserError

NO_BASIS = "none"
"""Value of `basis` for a program without basis sets."""

LEVEL_ATTRS = ("program", "method", "basis", "keywords")
"""Root attributes of a file of labels that state their level of theory."""

ORIGIN_ATTRS = (*LEVEL_ATTRS, "program_version")
"""Root attributes of a file of labels that state where they come from."""


@dataclass(frozen=True)
class LevelOfTheory:
    """Program, method, basis and keywords of a calculation."""

    program: str
    method: str
    basis: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def attrs(self) -> dict[str, Any]:
        """Return the HDF5 attributes that state the level."""
        return {
            "program": self.program,
            "method": _plain(self.method.lower()),
            "basis": self.basis.lower(),
            "keywords": json.dumps(dict(self.keywords), sort_keys=True),
        }

    def matches(self, attrs: Mapping[str, Any]) -> bool:
        """Tell whether a file with these root attributes holds labels of this level."""
        return not level_difference(self.attrs(), attrs)

    def __str__(self) -> str:
        return described(self.attrs())


def parsed(text: str) -> LevelOfTheory:
    """Return the level that a text such as psi4:wb97x-d/def2-svp states; without a basis it is `NO_BASIS`.

    Raises:
        UserError: the program or the method is missing.
    """
    program, _, rest = text.partition(":")
    method, _, basis = rest.partition("/")
    if not (program.strip() and method.strip()):
        raise UserError(f"level {text!r}: write it as PROGRAM:METHOD/BASIS, such as psi4:wb97x-d/def2-svp")
    return LevelOfTheory(program.strip().lower(), method.strip(), basis.strip() or NO_BASIS)


def described(attrs: Mapping[str, Any]) -> str:
    """Describe the level of theory that root attributes state."""
    keywords = json.loads(attrs.get("keywords") or "{}")
    words = "".join(f", {name}={value}" for name, value in sorted(keywords.items()))
    version = f" {attrs['program_version']}" if "program_version" in attrs else ""
    basis = "" if attrs.get("basis") == NO_BASIS else f"/{attrs.get('basis')}"
    return f"{attrs.get('method')}{basis} ({attrs.get('program')}{version}{words})"


def level_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Describe the first difference between the levels of theory that two files state; "" if there is none.

    d3(bj) and d3bj are equal. An attribute that only one of them states counts as a difference.
    """
    for name in LEVEL_ATTRS:
        found, wanted = one.get(name) or "", other.get(name) or ""
        if _plain(found) != _plain(wanted):
            return f"{name}: {found or 'not stated'} and {wanted or 'not stated'}"
    return ""


def _plain(value: Any) -> str:
    return str(value).replace("(bj)", "bj")


def level_name(attrs: Mapping[str, Any]) -> str:
    """Return the method and basis that root attributes state, as `dataset.relabel` writes them; else "unknown"."""
    return f"{attrs['method']}/{attrs['basis']}".lower() if {"method", "basis"} <= attrs.keys() else "unknown"


NABLADFT_LEVEL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")
"""Level of theory of nablaDFT and of the published GOLF models."""

SPICE_LEVEL = LevelOfTheory("psi4", "wb97m-d3bj", "def2-tzvppd")
"""Level of theory of the SPICE data set."""
