"""GOLF: Gradual Optimization Learning for Conformational Energy Minimization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golf.potentials.calculator import Calculator

__version__ = "0.2.0"
__all__ = ["Calculator", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `golf.Calculator` at its first use, because label jobs import golf without torch and ASE."""
    if name == "Calculator":
        from golf.potentials.calculator import Calculator

        return Calculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
