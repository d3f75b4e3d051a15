"""Levels of theory: what makes two labels comparable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_BASIS = "none"
"""The basis of a program that has no basis sets."""

LEVEL_ATTRS = ("program", "method", "basis", "keywords")
"""Root attributes of a file of labels that state their level of theory."""

ORIGIN_ATTRS = (*LEVEL_ATTRS, "program_version")
"""Root attributes of a file of labels that say where these come from."""


@dataclass(frozen=True)
class LevelOfTheory:
    """Program, method, basis and keywords: what makes two labels comparable."""

    program: str
    method: str
    basis: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def attrs(self) -> dict[str, Any]:
        """HDF5 attributes that state the level."""
        return {
            "program": self.program,
            "method": _plain(self.method.lower()),
            "basis": self.basis.lower(),
            "keywords": json.dumps(dict(self.keywords), sort_keys=True),
        }

    def matches(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a file with these root attributes holds labels of this level."""
        return not level_difference(self.attrs(), attrs)

    def __str__(self) -> str:
        return described(self.attrs())


def described(attrs: Mapping[str, Any]) -> str:
    """The level of theory that root attributes state, in words."""
    keywords = json.loads(attrs.get("keywords") or "{}")
    words = "".join(f", {name}={value}" for name, value in sorted(keywords.items()))
    version = f" {attrs['program_version']}" if "program_version" in attrs else ""
    basis = "" if attrs.get("basis") == NO_BASIS else f"/{attrs.get('basis')}"
    return f"{attrs.get('method')}{basis} ({attrs.get('program')}{version}{words})"


def level_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what the levels of theory that two files state differ first, in words; empty where they agree.

    d3(bj) is d3bj. What one of them does not state counts as a difference.
    """
    for name in LEVEL_ATTRS:
        found, wanted = one.get(name) or "", other.get(name) or ""
        if _plain(found) != _plain(wanted):
            return f"{name}: {found or 'not stated'} and {wanted or 'not stated'}"
    return ""


def _plain(value: Any) -> str:
    return str(value).replace("(bj)", "bj")


def level_name(attrs: Mapping[str, Any]) -> str:
    """Method and basis that the root attributes of labels state, as `dataset.relabel` names them."""
    return f"{attrs['method']}/{attrs['basis']}".lower() if {"method", "basis"} <= attrs.keys() else "unknown"


NABLADFT_LEVEL = LevelOfTheory("psi4", "wb97x-d", "def2-svp")
"""Of nablaDFT and of the published GOLF models."""

SPICE_LEVEL = LevelOfTheory("psi4", "wb97m-d3bj", "def2-tzvppd")
"""Of the SPICE data set."""
