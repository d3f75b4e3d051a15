"""Find the test molecules that an arm relaxed worst, with numbers, drawings and superimposed geometries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdMolAlign
from rdkit.Chem.Draw import rdMolDraw2D

from golf.chem.molecules import molecule
from golf.chem.rmsd import FEWEST_HEAVY_ATOMS, MAX_MATCHES, compared
from golf.core.conformations import ConformationSet, StopReason
from golf.core.units import HARTREE_IN_KCAL_PER_MOL

N_WORST = 10


@dataclass(frozen=True)
class Relaxed:
    """One relaxation of the test set and its DFT minimum; relative energies are above that minimum, in kcal/mol."""

    id: str
    molecule: str
    residual_energy: float  # NaN if there is no DFT energy at the end
    start_energy: float
    minimum_energy: float  # hartree
    rmsd: float  # angstrom
    rmsd_atoms: str  # atoms that the RMSD compares, in words
    n_steps: int | None
    stop_reason: str
    diverged: bool
    unseen: bool | None
    drawing: str  # SVG
    geometries: dict[str, Any]  # see `_geometries`


def worst(arm: ConformationSet, reference: ConformationSet, n: int = N_WORST) -> list[Relaxed]:
    """Return the `n` relaxations of an arm that ended worst, at most one per molecule.

    Relaxations without a DFT energy at their end come first, then those with the largest residual energy. Conformations
    without a DFT minimum are skipped.

    Args:
        arm: what `golf.evaluation.arm.evaluate_arm` returned.
        reference: DFT minima from the same starts.
        n: number of molecules.
    """
    place = {name: i for i, name in enumerate(reference.id)}
    starts = arm.values.get("start_id", arm.id)
    return [_relaxed(arm, i, reference, place[str(starts[i])]) for i in _order(arm)[:n]]


def _order(arm: ConformationSet) -> list[int]:
    residual = arm.values["residual_energy"]
    key = np.where(np.isfinite(residual), residual, np.inf)
    order, seen = [], set()
    for i in np.argsort(-key, kind="stable").tolist():
        if arm.values["has_reference"][i] and arm.molecule[i] not in seen:
            seen.add(arm.molecule[i])
            order.append(i)
    return order


def _relaxed(arm: ConformationSet, i: int, reference: ConformationSet, k: int) -> Relaxed:
    values = arm.values
    minimum = float(reference.values["energy"][k])
    stop = StopReason(values["stop_reason"][i]) if "stop_reason" in values else None
    return Relaxed(
        id=arm.id[i],
        molecule=arm.molecule[i],
        residual_energy=float(values["residual_energy"][i]) * HARTREE_IN_KCAL_PER_MOL,
        start_energy=(float(reference.values["energy_first"][k]) - minimum) * HARTREE_IN_KCAL_PER_MOL,
        minimum_energy=minimum,
        rmsd=float(values["rmsd"][i]),
        rmsd_atoms="Heavy-atom" if _has_shape(arm.mapped_smiles[i]) else "All-atom",
        n_steps=int(values["n_steps"][i]) if "n_steps" in values else None,
        stop_reason=stop.name.lower().replace("_", " ") if stop is not None else "",
        diverged=bool(values["diverged"][i]),
        unseen=bool(values["unseen"][i]) if "unseen" in values else None,
        drawing=drawing(arm.mapped_smiles[i]),
        geometries=_geometries(arm, i, reference, k),
    )


def _has_shape(smiles: str) -> bool:
    """Tell whether the RMSD of a molecule compares its heavy atoms only (golf.chem.rmsd)."""
    return molecule(smiles).GetNumHeavyAtoms() >= FEWEST_HEAVY_ATOMS


def drawing(smiles: str) -> str:
    """Draw the molecule of a mapped SMILES in two dimensions, without hydrogens, as an `svg` element."""
    mol = Chem.RemoveHs(molecule(smiles))
    rdDepictor.Compute2DCoords(mol)
    draw = rdMolDraw2D.MolDraw2DSVG(-1, -1)  # size fits the molecule: bonds have the same length in all drawings
    draw.drawOptions().clearBackground = False
    draw.drawOptions().scalingFactor = 28.0  # pixels per angstrom
    rdMolDraw2D.PrepareAndDrawMolecule(draw, mol)
    draw.FinishDrawing()
    svg = draw.GetDrawingText()
    return svg[svg.index("<svg") :]


def _geometries(arm: ConformationSet, i: int, reference: ConformationSet, k: int) -> dict[str, Any]:
    """Return elements, bonds [atom, atom, order] and aligned positions (angstrom, flat) of start, end and minimum."""
    smiles, minimum = arm.mapped_smiles[i], reference.position[reference.rows(k)]
    mol = molecule(smiles)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    center = minimum.mean(axis=0)
    return {
        "elements": [atom.GetSymbol() for atom in mol.GetAtoms()],
        "bonds": [[b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondTypeAsDouble())] for b in mol.GetBonds()],
        "start": _flat(superimposed(smiles, reference.atoms["initial_position"][reference.rows(k)], minimum) - center),
        "end": _flat(superimposed(smiles, arm.position[arm.rows(i)], minimum) - center),
        "minimum": _flat(minimum - center),
    }


def superimposed(smiles: str, positions: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Rotate and translate positions [n, 3] so that the atoms that the RMSD compares best match those of `target`."""
    _, transform, _ = rdMolAlign.GetBestAlignmentTransform(
        compared(smiles, positions), compared(smiles, target), maxMatches=MAX_MATCHES
    )
    transform = np.asarray(transform)  # [4, 4]
    return positions @ transform[:3, :3].T + transform[:3, 3]


def _flat(positions: NDArray) -> list[float]:
    return np.round(positions, 3).ravel().tolist()
