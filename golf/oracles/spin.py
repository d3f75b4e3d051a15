"""Warn of molecules that would be computed as closed shells and probably are open shells."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from golf.core.elements import SYMBOLS
from golf.core.wording import and_more
from golf.oracles.programs.protocol import Request

logger = logging.getLogger(__name__)

TRIPLETS = frozenset(
    tuple(sorted(SYMBOLS.index(symbol) for symbol in formula.split()))
    for formula in ("O O", "S S", "Se Se", "O S", "B B", "N H", "P H", "C H H", "C", "Si", "Ge", "O", "S", "Se")
)
"""Atomic numbers of neutral molecules and atoms whose ground state is a triplet (NIST-JANAF tables)."""

OPEN_SHELL_METALS = frozenset([*range(21, 30), *range(39, 47), *range(57, 79), *range(89, 104)])
"""Elements with d or f electrons whose compounds often have high spin."""


def doubtful_spin(request: Request) -> str:
    """Return why a molecule to be computed as a closed shell probably has unpaired electrons; "" otherwise."""
    if request.multiplicity != 1:
        return ""
    numbers = request.numbers.tolist()
    if request.charge == 0 and tuple(sorted(numbers)) in TRIPLETS:
        return "its ground state is a triplet"
    metals = sorted(OPEN_SHELL_METALS & set(numbers))
    if metals:
        return f"{' '.join(SYMBOLS[number] for number in metals)} often has unpaired electrons"
    return ""


def warn_of_spin(requests: Sequence[Request]) -> None:
    """Warn of molecules that will be computed as closed shells and probably are not, in one line per reason."""
    found: dict[str, list[str]] = {}
    for request in requests:
        if reason := doubtful_spin(request):
            found.setdefault(reason, []).append(request.id)
    for reason, names in found.items():
        logger.warning(
            "%s%s: computed without unpaired electrons (multiplicity 1), but %s; give its multiplicity in the input",
            names[0], and_more(len(names)), reason,
        )  # fmt: skip
