"""Conformations of data sets in any format, and which of them can be studied."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from golf.chemistry import molecule
from golf.conformations import ConformationSet
from golf.errors import UserError
from golf.extxyz import read_extxyz
from golf.formats import EXTXYZ, GOLF, NABLADFT, SPICE
from golf.geometry import geometry_problem
from golf.hdf5 import read
from golf.nabladft import read_nabladft
from golf.records import LeftOut, unusable
from golf.spice import read_spice


def read_conformations(
    path: str | Path, kind: str, subsets: Collection[str] = ()
) -> tuple[ConformationSet, list[LeftOut]]:
    """The conformations of a file with the labels that it has, and what of it cannot be read.

    Args:
        kind: one of the formats of conformations in `golf.formats`.
        subsets: of SPICE; none: all.

    Raises:
        UserError: the file cannot be read, or is not what the format says; names the record.
    """
    if subsets and kind != SPICE:
        raise UserError(f"{path}: dataset.subsets is for SPICE files, this one is of format {kind}; leave it out")
    if kind == SPICE:
        return read_spice(path, subsets)
    readers = {GOLF: read, NABLADFT: read_nabladft, EXTXYZ: read_extxyz}
    return readers[kind](path), []


def usable(conformations: ConformationSet, elements: Collection[int]) -> tuple[ConformationSet, list[LeftOut]]:
    """The conformations of molecules that MMFF94 and the oracle can do, and those that are left out, by molecule."""
    reasons: dict[str, str] = {}
    left_out: dict[str, LeftOut] = {}
    good = np.ones(len(conformations), dtype=bool)
    for i, smiles in enumerate(conformations.mapped_smiles):
        if smiles not in reasons:
            reasons[smiles] = unusable(molecule(smiles), elements)
        spin = int(conformations.multiplicity[i])
        reason = reasons[smiles] or (f"its multiplicity is {spin}, MMFF94 describes closed shells" if spin != 1 else "")
        reason = reason or geometry_problem(smiles, conformations.position[conformations.rows(i)])
        if reason:
            good[i] = False
            left_out.setdefault(smiles, LeftOut(i + 1, conformations.molecule[i], smiles, reason))
    return conformations if good.all() else conformations.subset(good), list(left_out.values())
