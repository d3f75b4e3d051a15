"""The options --vibrations and --temperature of `golf relax`."""

from __future__ import annotations

import argparse
import math
from typing import Any

from golf.cli.options import positive
from golf.core.errors import UserError


def add_vibrations(command: argparse.ArgumentParser) -> None:
    """Add the options --vibrations and --temperature."""
    command.add_argument(
        "--vibrations",
        action="store_true",
        help="compute the Hessian at each end, and relax again from beside an end with an imaginary mode",
        default=argparse.SUPPRESS,
    )
    command.add_argument(
        "--temperature",
        type=float,
        metavar="K",
        help="add free energies (quasi-RRHO, 1 atm) at this temperature and Boltzmann weights by them; implies "
        "--vibrations",
        default=argparse.SUPPRESS,
    )


def checked_vibrations(options: argparse.Namespace) -> tuple[bool, float | None]:
    """Return whether vibrations are wanted, and the temperature in kelvin, if any.

    Raises:
        UserError: the temperature is not positive and finite, or atoms are held in place, or the strain is wanted.
    """
    temperature: float | None = getattr(options, "temperature", None)
    if temperature is not None:
        positive("--temperature", temperature)
        if not math.isfinite(temperature):
            raise UserError(f"--temperature {temperature}: must be finite, in kelvin")
    wanted = temperature is not None or "vibrations" in options
    if wanted and getattr(options, "strain", False):
        raise UserError(
            "--vibrations: may leave the minimum next to the input, which --strain is about; drop one of them"
        )
    held = "--freeze" if getattr(options, "freeze", "") else "--restrain" if "restrain" in options else ""
    if wanted and held:
        raise UserError(f"--vibrations: with {held} the ends are not minima of the potential; drop one of them")
    return wanted, temperature


def vibrations_run(wanted: bool, temperature: float | None) -> dict[str, Any]:
    """Return the options as parts of what determines a result; empty without them, as in older runs."""
    return {"vibrations": True, "temperature": temperature} if wanted else {}


def at_temperature(temperature: float | None) -> dict[str, float]:
    """Return the root attribute of a file with free energies; empty without them."""
    return {} if temperature is None else {"temperature": temperature}
