"""Requests and labels for journals: the same for the same seed, in any process."""

import numpy as np

from golf.core.conformations import Status
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.oracles.programs.protocol import Request

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")


def request(seed: int) -> Request:
    positions = np.random.default_rng(seed).normal(size=(3, 3))
    return Request(f"water/{seed:04d}", np.array([8, 1, 1], np.uint8), positions, 0, 1)


def label(seed: int) -> Label:
    random = np.random.default_rng(1000 + seed)
    return Label(-75.0 + random.normal() / 3, random.normal(size=(3, 3)) / 7, Status.OK, "", 0.25, 9, "soscf")
