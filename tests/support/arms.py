"""Five starts of two molecules, their minima, and ends of relaxations at chosen heights above these."""

import numpy as np

from golf.core.conformations import ConformationSet, Status
from golf.core.level import LevelOfTheory
from golf.core.units import hartree

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")
E_OPT = -75.0
E_FIRST = E_OPT + hartree(10.0)
STARTS = [("water/0", "water"), ("water/1", "water"), ("water/2", "water"), ("amine/0", "amine"), ("amine/1", "amine")]


def starts() -> ConformationSet:
    random = np.random.default_rng(0)
    numbers = np.array([8, 1, 1])
    smiles = {"water": "[O:1]([H:2])[H:3]", "amine": "[N:1]([H:2])[H:3]"}
    return ConformationSet.build(
        (id, name, smiles[name], 0, 1, numbers, random.normal(size=(3, 3))) for id, name in STARTS
    )


def reference(status=(Status.OK,) * 5) -> ConformationSet:
    start = starts()
    ok = np.array(status) == Status.OK
    return start.with_columns(
        position=start.position + 0.1,
        atoms={"initial_position": start.position},
        values={"energy": np.where(ok, E_OPT, np.nan), "energy_first": np.full(5, E_FIRST), "status": status},
        **LEVEL.attrs(),
    )


def relaxed(above_optimum, status=(Status.OK,) * 5, **attrs) -> ConformationSet:
    """Ends of relaxations, so many kcal/mol above the DFT minimum."""
    start = starts()
    return start.with_columns(
        position=start.position + 0.2,
        atoms={"initial_position": start.position},
        values={"energy": E_OPT + hartree(np.array(above_optimum)), "status": status},
        **(LEVEL.attrs() | attrs),
    )
