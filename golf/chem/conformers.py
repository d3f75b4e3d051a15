"""Make 3D conformations of molecules: ETKDG conformers, or the geometries of their records."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolDescriptors

from golf.chem import limited
from golf.chem.axes import Axis, axes
from golf.chem.molecules import has_open_stereo, mapped_smiles, molecule
from golf.chem.usable import PROPERTIES, LeftOut, Molecule, has_open_d_shell, unkept_stereo
from golf.core.conformations import ConformationRecord, ConformationSet
from golf.core.wording import and_more

logger = logging.getLogger(__name__)

STEREO_DRAWN = "stereo_drawn"
"""Property: SMILES of the stereoisomer that was chosen if the input leaves stereocenters unspecified."""

TIMEOUT = 30.0
"""Limit of the processor time, in seconds, for up to `PER_TIMEOUT` conformers of a molecule, in proportion for more.

Drug-like molecules take about 0.1 s per conformer.
"""

PER_TIMEOUT = 10
"""Number of conformers that `TIMEOUT` covers."""

FLAT_TIMEOUT = 2.0
"""Limit of the processor time, in seconds, to test whether a molecule can be embedded without its stereocenters."""

AUTO: Literal["auto"] = "auto"
"""As a number of conformers: see `conformers_for`."""

Number = int | Literal["auto"]
"""Number of ETKDG conformers of a molecule."""

CONFORMERS_BY_ROTATABLE_BONDS = ((7, 50), (12, 200))
"""Most rotatable bonds and the number of ETKDG conformers for them.

Ebejer, Morris, Deane, J. Chem. Inf. Model. 52, 1146 (2012): with these numbers one is close to the bound conformation.
"""

MOST_CONFORMERS = 300
"""Number of conformers for more rotatable bonds (same source)."""

ATTEMPTS = 6
"""Embeddings tried to get enough conformers with an axis on one side, each of twice as many conformers."""

STEREO_OPEN = "the stereoisomer is not specified; one was drawn (stereo_drawn in outputs); write the one you mean"
AXIS_OPEN = "the side of an axis (allene, cumulene or biaryl) is not specified; one was drawn for all conformers"
AXIS_MIXED = "its geometries have an axis (allene, cumulene or biaryl) on different sides: they are not one compound"
STEREO_GROUP = "its stereo groups (& or o) mean a mixture or an unknown isomer; the isomer as written is used"
METAL = "it has a metal whose spin state is not known; it is treated as a closed shell"

EMBED = "ask for conformers (--conformers, in a study dataset.conformers)"


def conformers_for(mol: Chem.Mol, number: Number) -> int:
    """Return the number of ETKDG conformers for a molecule, by its rotatable bonds if the number is `AUTO`."""
    if number != AUTO:
        return number
    n_rotatable = rdMolDescriptors.CalcNumRotatableBonds(Chem.RemoveHs(mol))  # with hydrogens, methyls would count
    return next((n for most, n in CONFORMERS_BY_ROTATABLE_BONDS if n_rotatable <= most), MOST_CONFORMERS)


def embed(mol: Chem.Mol, n_conformers: int, *, seed: int, prune_rmsd: float = 0.0) -> np.ndarray:
    """Generate ETKDGv3 conformers of a molecule with explicit hydrogens.

    If this gives no conformer, or without pruning fewer than requested, as for large molecules, it is repeated from
    random coordinates.

    Args:
        prune_rmsd: angstrom; of conformers closer than this in RMSD of all atoms, one is kept. Symmetry is ignored: a
            rotated hydroxyl is a different conformer, and so is a rotated methyl.

    Returns:
        Positions [n, n_atoms, 3] in angstrom; n may be smaller than requested, and is 0 if embedding fails.
    """
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.numThreads = 1  # the same conformers on every machine
    parameters.pruneRmsThresh = prune_rmsd if prune_rmsd > 0 else -1.0
    parameters.onlyHeavyAtomsForRMS = parameters.useSymmetryForPruning = False
    found = _embedded(mol, n_conformers, parameters)
    if not len(found) or (prune_rmsd <= 0 and len(found) < n_conformers):
        parameters.useRandomCoords = True
        found = max(found, _embedded(mol, n_conformers, parameters), key=len)
    return found


def _embedded(mol: Chem.Mol, n_conformers: int, parameters: rdDistGeom.EmbedParameters) -> NDArray[np.float64]:
    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    rdDistGeom.EmbedMultipleConfs(copy, n_conformers, parameters)
    positions = [conformer.GetPositions() for conformer in copy.GetConformers()]
    return np.array(positions).reshape(len(positions), mol.GetNumAtoms(), 3)


def conformations_of(
    molecules: Sequence[Molecule],
    *,
    n_conformers: Number,
    seed: int,
    prune_rmsd: float,
    threads: int = 1,
    timeout: float = TIMEOUT,
    keep_properties: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> tuple[ConformationSet, list[LeftOut]]:
    """Return conformers of every molecule (of SDF input with `n_conformers` 0: the geometries of the file).

    If a molecule has unspecified stereocenters, one stereoisomer is chosen, so that all its conformers are of one
    compound, and a warning is logged.

    Args:
        n_conformers: of each molecule; `AUTO`: see `conformers_for`.
        prune_rmsd: angstrom; see `embed`.
        threads: molecules embedded concurrently; the result does not depend on it.
        timeout: see `TIMEOUT`; a molecule that takes longer is left out.
        keep_properties: store the properties of the records in the column `PROPERTIES`.
        advance: called once for each molecule.

    Returns:
        The conformations, and the molecules that were left out with the reason.
    """
    records, properties = [], []
    left_out: list[LeftOut] = []
    drawn, on_axes, mixed, groups, metals = [], [], [], [], []
    each = _each(molecules, n_conformers, seed, prune_rmsd, threads, timeout)
    for one, found in zip(molecules, each, strict=True):
        advance()
        if isinstance(found, str):
            left_out.append(LeftOut(one.line, one.name, Chem.MolToSmiles(one.mol), found))
            continue
        mol, isomer = one.mol, {}
        if found.isomer is not None:
            mol = found.isomer
            drawn.append(one.name)
            isomer[STEREO_DRAWN] = Chem.MolToSmiles(Chem.RemoveHs(mol))
        if found.axis_drawn:
            on_axes.append(one.name)
        if found.mixed_axes:
            mixed.append(one.name)
        if mol.GetStereoGroups():
            groups.append(one.name)
        if has_open_d_shell(mol):
            metals.append(one.name)
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
        smiles, charge = mapped_smiles(mol), Chem.GetFormalCharge(mol)
        width = max(4, len(str(len(found.positions))))
        for i, (source, xyz) in enumerate(zip(found.sources, found.positions, strict=True)):
            name = f"{one.name}/{i:0{width}d}"
            records.append(ConformationRecord(name, one.name, smiles, charge, 1, numbers, xyz))
            own = isomer | dict(one.properties[source] if one.properties else {})
            properties.append(json.dumps(own) if own else "")
    for names, what in (
        (drawn, STEREO_OPEN),
        (on_axes, AXIS_OPEN),
        (mixed, AXIS_MIXED),
        (groups, STEREO_GROUP),
        (metals, METAL),
    ):
        if names:
            logger.warning("%s%s: %s", names[0], and_more(len(names)), what)
    conformations = ConformationSet.build(records)
    if keep_properties:
        conformations = conformations.with_columns(values={PROPERTIES: properties})
    return conformations, left_out


@dataclass(frozen=True)
class _Geometries:
    """Geometries of a molecule.

    Attributes:
        positions: one array [n_atoms, 3] (angstrom) per geometry.
        sources: index of the record that each geometry comes from.
        isomer: the stereoisomer that was chosen; None for the molecule itself.
        axis_drawn: whether the side of an axis was chosen (`golf.chem.axes`).
        mixed_axes: whether geometries of the input have an axis on different sides.
    """

    positions: Sequence[NDArray[np.float64]]
    sources: Sequence[int]
    isomer: Chem.Mol | None = None
    axis_drawn: bool = False
    mixed_axes: bool = False

    @classmethod
    def of(cls, found: Embedded) -> _Geometries:
        """Convert the conformers of a molecule that has one record."""
        return cls([*found.positions], [0] * len(found.positions), found.isomer, found.axis_drawn)


@dataclass(frozen=True)
class Embedded:
    """Conformers of a molecule, the result of `embedded`.

    Attributes:
        positions: [n, n_atoms, 3] angstrom.
        isomer: see `_Geometries`.
        axis_drawn: see `_Geometries`.
    """

    positions: NDArray[np.float64]
    isomer: Chem.Mol | None
    axis_drawn: bool


def _each(
    molecules: Sequence[Molecule], n_conformers: Number, seed: int, prune_rmsd: float, threads: int, timeout: float
) -> Iterator[_Geometries | str]:
    """Yield the geometries of each molecule, or the reason why there are none."""
    if n_conformers == 0:
        for one in molecules:
            own = {i: xyz.GetPositions() for i, xyz in enumerate(one.mol.GetConformers()) if xyz.Is3D()}
            if own:
                yield _Geometries([*own.values()], [*own], mixed_axes=_differ(axes(one.mol), [*own.values()]))
            else:
                yield f"it has no 3D geometry; {EMBED}"
        return
    problems = [unkept_stereo(one.mol) for one in molecules]
    sound = [one.mol for one, problem in zip(molecules, problems, strict=True) if not problem]
    numbers = [conformers_for(mol, n_conformers) for mol in sound]
    arguments = [(mol, n, seed, prune_rmsd) for mol, n in zip(sound, numbers, strict=True)]
    embeddings = limited.call_each(embedded, arguments, seconds=_seconds(numbers, timeout), threads=threads)
    for one, problem in zip(molecules, problems, strict=True):
        found = None if problem else next(embeddings)
        if found is None:
            yield problem
        elif isinstance(found, limited.TimedOut):
            yield (
                f"it could not be embedded within {found.seconds:g} s{_cause(one.mol, seed)}; raise the limit "
                "(--embed-timeout, in a study dataset.embed_timeout)"
            )
        elif isinstance(found, limited.NotFinished):
            yield f"it could not be embedded: {found}"
        elif not len(found.positions):
            yield f"ETKDG cannot embed it{_cause(one.mol, seed)}"
        else:
            yield _Geometries.of(found)


def _seconds(numbers: Sequence[int], timeout: float) -> list[float]:
    """Return the limits of processor time for these numbers of conformers."""
    return [timeout * max(1.0, n / PER_TIMEOUT) for n in numbers]


def further_conformers(
    first: ConformationSet,
    *,
    batch: int,
    n_conformers: Number,
    counts: Sequence[int],
    seed: int,
    prune_rmsd: float,
    threads: int = 1,
    timeout: float = TIMEOUT,
) -> tuple[ConformationSet, dict[str, str]]:
    """Return a batch of further conformers of molecules, of the same stereoisomers on the same sides of their axes.

    Args:
        first: one conformation of each molecule, whose mapped SMILES specifies the stereoisomer.
        batch: number of the batch; each has other conformers. Batch 0 is what `conformations_of` embeds.
        counts: number of conformers of each molecule so far, from which on ids are numbered.

    The other arguments are those of `conformations_of`.

    Returns:
        The conformations without other columns, and by molecule why there are none.
    """
    mols = [molecule(smiles) for smiles in first.mapped_smiles]
    numbers = [conformers_for(mol, n_conformers) for mol in mols]
    arguments = [
        (mol, n, seed, prune_rmsd, batch, positions)
        for mol, n, positions in zip(mols, numbers, first.positions_by_conformation(), strict=True)
    ]
    records: list[ConformationRecord] = []
    failed: dict[str, str] = {}
    embeddings = limited.call_each(embedded, arguments, seconds=_seconds(numbers, timeout), threads=threads)
    for i, found in enumerate(embeddings):
        name = first.molecule[i]
        if isinstance(found, limited.NotFinished):
            failed[name] = f"it could not be embedded: {found}"
        elif not len(found.positions):
            failed[name] = "ETKDG cannot embed it"
        else:
            own = first.mapped_smiles[i], int(first.charge[i]), int(first.multiplicity[i]), first.number[first.rows(i)]
            records += [
                ConformationRecord(f"{name}/{counts[i] + k:04d}", name, *own, xyz)
                for k, xyz in enumerate(found.positions)
            ]
    return ConformationSet.build(records), failed


def _cause(mol: Chem.Mol, seed: int) -> str:
    """Return a hint if a molecule that cannot be embedded can be without its stereocenters; else ""."""
    flat = Chem.Mol(mol)
    Chem.RemoveStereochemistry(flat)
    if Chem.MolToSmiles(flat) == Chem.MolToSmiles(mol):
        return ""
    try:
        found = limited.call(embedded, flat, 1, seed, 0.0, seconds=FLAT_TIMEOUT)
    except limited.NotFinished:
        return ""
    return " with its stereocenters (without them it can be; check them)" if len(found.positions) else ""


def _differ(of_axes: Sequence[Axis], geometries: Sequence[NDArray[np.float64]]) -> bool:
    """Tell whether an axis is on different sides in the geometries [n_atoms, 3] of a molecule."""
    return len({tuple(axis.side_of(one) for axis in of_axes) for one in geometries}) > 1


def embedded(
    mol: Chem.Mol,
    n_conformers: int,
    seed: int,
    prune_rmsd: float,
    batch: int = 0,
    like: NDArray[np.float64] | None = None,
) -> Embedded:
    """Embed a molecule, or one of its stereoisomers if stereocenters are unspecified.

    Args:
        batch: number of the batch of conformers; each has other conformers.
        like: a geometry [n_atoms, 3] of the isomer that is wanted, if one is known: the side of each axis is taken from
            it, and no stereoisomer is chosen.
    """
    # The seed depends on the molecule and the batch alone, not on the records before it.
    words = [seed, *Chem.MolToSmiles(mol).encode(), *([256 + batch] if batch else [])]
    own = int(np.random.SeedSequence(words).generate_state(1)[0] & 0x7FFFFFFF)
    isomer, found = mol, np.zeros((0, mol.GetNumAtoms(), 3))
    if like is None and has_open_stereo(mol):
        isomer, found = _one_stereoisomer(mol, own)
    of_axes = axes(mol)
    if len(found) < n_conformers or of_axes:
        found = _of_one_side(isomer, of_axes, n_conformers, own, prune_rmsd, like)
    if isomer is not mol and not len(found):  # ETKDG cannot satisfy the tags of bridgeheads
        isomer, found = mol, _of_one_side(mol, of_axes, n_conformers, own, prune_rmsd, like)
    drawn = any(not axis.stated and axis.side is None for axis in of_axes)
    return Embedded(found, None if isomer is mol else isomer, drawn)


def _of_one_side(
    mol: Chem.Mol,
    of_axes: Sequence[Axis],
    n_conformers: int,
    seed: int,
    prune_rmsd: float,
    like: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Embed a molecule with axes on the sides that the SMILES states, else those of `like` or the first conformer."""
    found = embed(mol, n_conformers, seed=seed, prune_rmsd=prune_rmsd)
    for k in range(ATTEMPTS if of_axes else 0):
        sides = [[axis.side_of(one) for axis in of_axes] for one in found]
        model = found[:1] if like is None else [like]
        wanted = [axis.side_of(one) if axis.side is None else axis.side for one in model for axis in of_axes]
        kept = found[[own == wanted for own in sides]] if sides else found
        if len(kept) >= n_conformers or k == ATTEMPTS - 1:
            return kept[:n_conformers]
        found = embed(mol, n_conformers << (k + 1), seed=seed, prune_rmsd=prune_rmsd)
    return found


def _one_stereoisomer(mol: Chem.Mol, seed: int) -> tuple[Chem.Mol, NDArray[np.float64]]:
    """Return the stereoisomer of one ETKDG geometry, and that geometry [1, n_atoms, 3]; [0, ...] if embedding fails.

    The isomer is `mol` itself if the geometry specifies no more than the molecule does.
    """
    positions = embed(mol, 1, seed=seed)
    if not len(positions):
        return mol, positions
    isomer = Chem.Mol(mol)
    isomer.RemoveAllConformers()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(positions[0])
    isomer.AddConformer(conformer)
    Chem.AssignStereochemistryFrom3D(isomer, replaceExistingTags=False)
    isomer.RemoveAllConformers()
    drawn, given = (Chem.MolToSmiles(Chem.RemoveHs(one)) for one in (isomer, mol))
    return (mol if drawn == given else isomer), positions
