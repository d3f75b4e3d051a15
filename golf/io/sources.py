"""Conformations of data sets in any format, and which of them can be studied."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from golf.chem.geometry import geometry_problem
from golf.chem.molecules import molecule
from golf.chem.usable import LeftOut, unusable
from golf.core.conformations import ConformationSet
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.io.extxyz import read_extxyz
from golf.io.formats import EXTXYZ, NABLADFT, SPICE
from golf.io.identity import contradiction
from golf.io.nabladft import read_nabladft
from golf.io.spice import read_spice


def read_conformations(
    path: str | Path, kind: str, subsets: Collection[str] = ()
) -> tuple[ConformationSet, list[LeftOut]]:
    """The conformations of a file with the labels that it has, and what of it cannot be read.

    Args:
        kind: one of the formats of conformations in `golf.io.formats`.
        subsets: of SPICE; none: all.

    Raises:
        UserError: the file cannot be read, or is not what the format says; names the record.
    """
    if subsets and kind != SPICE:
        raise UserError(f"{path}: dataset.subsets is for SPICE files, this one is of format {kind}; leave it out")
    if kind == SPICE:
        return read_spice(path, subsets)
    if kind == EXTXYZ:
        return read_extxyz(path)
    if kind == NABLADFT:
        return read_nabladft(path), []
    return consistent(read(path))


def consistent(conformations: ConformationSet) -> tuple[ConformationSet, list[LeftOut]]:
    """The conformations whose columns do not contradict their SMILES, and those that are left out."""
    left_out = []
    for i, smiles in enumerate(conformations.mapped_smiles):
        charge, spin = int(conformations.charge[i]), int(conformations.multiplicity[i])
        reason = contradiction(smiles, charge, spin, conformations.number[conformations.rows(i)])
        if reason:
            left_out.append(LeftOut(i + 1, conformations.id[i], smiles, reason))
    if not left_out:
        return conformations, []
    bad = {out.line - 1 for out in left_out}
    return conformations.subset([i for i in range(len(conformations)) if i not in bad]), left_out


def usable(conformations: ConformationSet, elements: Collection[int]) -> tuple[ConformationSet, list[LeftOut]]:
    """The conformations of molecules that MMFF94 and the oracle can do, and those that are left out, by molecule."""
    reasons: dict[str, str] = {}
    left_out: dict[str, LeftOut] = {}
    good = np.ones(len(conformations), dtype=bool)
    for i, positions in enumerate(conformations.positions_by_conformation()):
        smiles, spin = conformations.mapped_smiles[i], int(conformations.multiplicity[i])
        if smiles not in reasons:
            reasons[smiles] = unusable(molecule(smiles), elements)
        reason = reasons[smiles] or (f"its multiplicity is {spin}, MMFF94 describes closed shells" if spin != 1 else "")
        broken = "" if reason else geometry_problem(smiles, positions)
        if reason or broken:
            good[i] = False
            known_by, name = (smiles, conformations.molecule[i]) if reason else (conformations.id[i],) * 2
            left_out.setdefault(known_by, LeftOut(i + 1, name, smiles, reason or broken))
    return conformations if good.all() else conformations.subset(good), list(left_out.values())
