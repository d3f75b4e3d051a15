"""A start of an optimization whose minimum takes more than a few gradients."""

import numpy as np

from golf.core.conformations import ConformationSet
from golf.core.level import LevelOfTheory

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")
METHANOL = (
    np.array([6, 8, 1, 1, 1, 1]),
    np.array(
        [
            [-0.05, 0.66, 0.0],
            [-0.05, -0.78, 0.1],
            [-1.10, 0.97, 0.0],
            [0.88, -1.05, -0.1],
            [0.44, 1.07, 0.95],
            [0.44, 1.07, -0.87],
        ]
    ),
)


def starts(**molecules) -> ConformationSet:
    return ConformationSet.build(
        (f"{name}/0000", name, "", 0, 1, numbers, positions) for name, (numbers, positions) in molecules.items()
    )
