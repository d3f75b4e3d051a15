"""Options of the commands that compute with an oracle: relaxed geometries, the level of theory and the processes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golf.cli.options import STDIN, add_cores, from_stdin, positive
from golf.core.errors import UserError

if TYPE_CHECKING:
    from golf.core.level import LevelOfTheory
    from golf.oracles.programs.pool import PoolSettings


GEOMETRY_FORMATS = ("sdf", "xyz")
"""Formats of relaxed geometries on standard input."""


def add_ends(command: argparse.ArgumentParser) -> None:
    """Add the input of relaxed geometries, which the command reads with `from_ends`."""
    command.add_argument(
        "input", type=Path, metavar="IN", help="geometries: .sdf, .xyz, .extxyz or .h5, of golf relax or others"
    )
    command.add_argument(
        "--format",
        choices=GEOMETRY_FORMATS,
        help="format of standard input, if IN is - (default: sdf)",
        default=argparse.SUPPRESS,
    )


def from_ends(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return a command that reads standard input if its input is -; see `golf.cli.options.from_stdin`."""

    def run(options: argparse.Namespace) -> int:
        if str(options.input) == STDIN and "format" not in options:
            options.format = GEOMETRY_FORMATS[0]
        return from_stdin(command)(options)

    return run


def add_oracle(command: argparse.ArgumentParser) -> None:
    """Add --program, --method, --basis, --keywords, and those of the processes: --cores and others."""
    command.add_argument("--program", default="psi4", help="psi4, pyscf or ase")
    command.add_argument("--method", default="wb97x-d", help="method, as the program names it; with ase, a calculator")
    command.add_argument("--basis", help="basis set; None: def2-svp, or none with ase")
    command.add_argument("--keywords", default="{}", metavar="JSON", help="further options of the program")
    add_cores(command)
    command.add_argument("--memory", type=int, default=1000, metavar="MB", help="memory per process")
    command.add_argument("--time-limit", type=float, default=3600.0, metavar="SECONDS", help="limit per gradient")
    command.add_argument("--python", help="Python interpreter that can import psi4")


def level_from(options: argparse.Namespace) -> LevelOfTheory:
    """Return the level of theory, after a check of all options of `add_oracle`.

    Raises:
        UserError: an option is wrong.
    """
    from golf.core.level import LevelOfTheory
    from golf.oracles.programs.registry import program

    default_basis = program(options.program).default_basis
    positive("--cores", options.cores)
    positive("--memory", options.memory)
    positive("--time-limit", options.time_limit)
    return LevelOfTheory(options.program, options.method, options.basis or default_basis, _keywords(options.keywords))


def pool_from(options: argparse.Namespace) -> PoolSettings:
    """Return the settings of a pool of processes, other than their number."""
    return {"memory_mb": options.memory, "time_limit": options.time_limit, "python": options.python}


def _keywords(text: str) -> dict[str, Any]:
    try:
        keywords = json.loads(text)
    except ValueError:
        keywords = None
    if not isinstance(keywords, dict):
        raise UserError(f'--keywords {text}: not a JSON object; write it like \'{{"scf_type": "pk"}}\'')
    return keywords
