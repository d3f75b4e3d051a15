"""Take the ends of an arm from a file of another program, such as CREST, in place of relaxations."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chem.molecules import molecule, skeleton
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.wording import and_more
from golf.io.ends import Ends, read_ends
from golf.io.extxyz import geometries as geometries_of
from golf.io.formats import EXTXYZ, SDF, format_of


def match_geometries(test: str, geometries: str, output: str, *, config_sha256: str, seed: int) -> None:
    """Write the test set with the positions of a file, in the order of the test set.

    A geometry belongs to the test conformation of its name, or else to the only test conformation of the molecule of
    its name. Its atoms may be in any order.

    Args:
        test: test set (.h5).
        geometries: file of ends in any format that has geometries.
        output: the arm's ends (.h5).

    Raises:
        UserError: a test conformation has no or several geometries, a name is not in the test set, or a geometry is of
            another molecule.
    """
    conformations = read(test).bare()
    given = read_ends(geometries)
    if given.left_out:
        first = given.left_out[0]
        raise UserError(f"{geometries}: record {first.line} ({first.name}): {first.reason}; correct or remove it")
    chosen = _by_name(conformations, _names(geometries, given), given.conformations.molecule, geometries)
    position = np.concatenate(
        [
            np.zeros((0, 3)),
            *(_reordered(conformations, i, given.conformations, k, geometries) for i, k in enumerate(chosen)),
        ]
    )
    ends = conformations.with_columns(
        position=position,
        atoms={"initial_position": conformations.position},
        values={"stop_reason": [StopReason.CONVERGED] * len(conformations)},
    )
    write(output, ends, config_sha256=config_sha256, seed=seed)


def _names(path: str, given: Ends) -> list[str]:
    """Return the name of each geometry as it is in the file, because readers renumber conformations of one name."""
    kind = format_of(path)
    if kind == SDF:
        titles = [record.strip().splitlines()[0].strip() for record in _sdf_records(path)]
        return [titles[line - 1] for line in given.lines]
    if kind == EXTXYZ:
        titles = [frame.keys.get("name", "") for frame in geometries_of(path)]
        return [titles[line - 1] for line in given.lines]
    return list(given.conformations.id)


def _sdf_records(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").split("\n$$$$")[:-1]


def _by_name(test: ConformationSet, names: list[str], molecules: list[str], path: str) -> list[int]:
    """Return the index of the geometry of each test conformation.

    Args:
        names: names of the geometries.
        molecules: names of their molecules.
    """
    ids = {name: i for i, name in enumerate(test.id)}
    of_molecule: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(test.molecule):
        of_molecule[name].append(i)
    found: dict[int, int] = {}
    for k, (name, of) in enumerate(zip(names, molecules, strict=True)):
        candidates = [ids[name]] if name in ids else of_molecule.get(name, of_molecule.get(of, []))
        if not candidates:
            raise UserError(f"{path}: {name!r} is not in the test set; name geometries like {test.id[0]!r}")
        if len(candidates) > 1:
            raise UserError(
                f"{path}: {name!r} has {len(candidates)} test conformations; name the geometry like the one it was "
                f"made from, such as {test.id[candidates[0]]!r}"
            )
        if candidates[0] in found:
            raise UserError(f"{path}: {test.id[candidates[0]]!r} has two geometries; remove one")
        found[candidates[0]] = k
    missing = [name for i, name in enumerate(test.id) if i not in found]
    if missing:
        raise UserError(
            f"{path}: has no geometry of {missing[0]!r}{and_more(len(missing))}; every test conformation needs one"
        )
    return [found[i] for i in range(len(test))]


def _reordered(test: ConformationSet, i: int, given: ConformationSet, k: int, path: str) -> NDArray[np.float64]:
    """Return the positions [n, 3] of geometry k in the order of the atoms of test conformation i."""
    wanted, found = molecule(test.mapped_smiles[i]), molecule(given.mapped_smiles[k])
    positions = given.position[given.rows(k)]
    if wanted.GetNumAtoms() == found.GetNumAtoms():
        # Stereo and bond orders first; a file without them gives the atoms and their neighbours only
        for query, target, with_stereo in ((wanted, found, True), (skeleton(wanted), skeleton(found), False)):
            match = target.GetSubstructMatch(query, useChirality=with_stereo)
            if len(match) == len(positions):
                return positions[list(match)]
    there, here = (Chem.MolToSmiles(Chem.RemoveHs(mol)) for mol in (found, wanted))
    raise UserError(
        f"{path}: {test.id[i]!r} is another molecule there ({there}) than in the test set ({here}); correct its name"
    )
