"""Units: angstrom, hartree and hartree/angstrom internally; kcal/mol in reports only."""

HARTREE_IN_KCAL_PER_MOL = 627.5094740631
"""CODATA 2018, as in Psi4 and QCElemental."""

BOHR_IN_ANGSTROM = 0.529177210903
"""CODATA 2018."""

HARTREE_IN_EV = 27.211386245988
"""CODATA 2018."""


def hartree(kcal_per_mol: float) -> float:
    """Convert an energy from kcal/mol to hartree, or a force from kcal/mol/angstrom to hartree/angstrom."""
    return kcal_per_mol / HARTREE_IN_KCAL_PER_MOL
