"""Packages that pip cannot install together with golf, and the line that installs them afterwards."""

from __future__ import annotations

import sys

from golf.core.errors import UserError

SCHNETPACK = "schnetpack==2.1.1"
"""It requires sympy<=1.12, a current PyTorch a newer one; it works with that, so its requirements are ignored."""


def missing_schnetpack(purpose: str, error: ModuleNotFoundError | None = None) -> UserError:
    """Say what cannot be done without SchNetPack, and what to type."""
    which = f" ({error})" if error is not None and error.name != "schnetpack" else ""
    return UserError(
        f"{purpose} needs SchNetPack, which is not installed{which}; "
        f"type: {sys.executable} -m pip install --no-deps {SCHNETPACK}"
    )
