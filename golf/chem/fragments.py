"""Keep the largest fragment of a record with several parts: remove counterions, solvents and other small fragments."""

from __future__ import annotations

from functools import cache

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

REMOVED = "removed_fragments"
"""Property: SMILES of the fragments that were removed."""


def largest_fragment(mol: Chem.Mol) -> tuple[Chem.Mol, str]:
    """Return the largest fragment of a molecule, and the SMILES of the others ("" if there are none).

    Largest is what RDKit's `LargestFragmentChooser` takes: a fragment with carbon before one without, then the number
    of atoms including hydrogens, then the weight. Charges stay as they are written: of a carboxylate's salt, the anion
    is kept. Geometries are kept.
    """
    if len(Chem.GetMolFrags(mol)) < 2:
        return mol, ""
    with rdBase.BlockLogs():
        kept = _chooser().choose(mol)
    rest = [Chem.MolToSmiles(part) for part in Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)]
    rest.remove(Chem.MolToSmiles(kept))
    return kept, ".".join(sorted(rest))


@cache
def _chooser() -> rdMolStandardize.LargestFragmentChooser:
    return rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
