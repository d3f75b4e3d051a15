"""GOLF: Gradual Optimization Learning for Conformational Energy Minimization."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golf.cli.api import load, relax
    from golf.io.convert import read, write
    from golf.potentials.calculator import Calculator

__version__ = "0.2.0"
__all__ = ["Calculator", "__version__", "load", "read", "relax", "write"]

_WHERE = {
    "Calculator": "golf.potentials.calculator",
    "load": "golf.cli.api",
    "relax": "golf.cli.api",
    "read": "golf.io.convert",
    "write": "golf.io.convert",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use, because label jobs import golf without torch, RDKit and ASE."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
