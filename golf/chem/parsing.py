"""Parse SMILES and molfiles with RDKit, and keep its reason if it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable

from rdkit import Chem, rdBase

from golf.chem.axes import with_stated_axes


def from_molfile(text: str) -> tuple[Chem.Mol | None, str]:
    """Parse a molfile, with hydrogens as written; return None and RDKit's reason if it cannot be parsed."""
    return _read(_molfile, text)


def _molfile(text: str) -> Chem.Mol | None:
    supplier = Chem.SDMolSupplier()  # Chem.MolFromMolBlock gives the reasons as warnings, which nothing captures
    supplier.SetData(text, removeHs=False)
    return next(supplier, None)


def from_smiles(smiles: str) -> tuple[Chem.Mol | None, str]:
    """Parse a SMILES; return None and the reason if it cannot be parsed."""
    if not smiles:
        return None, "the SMILES is empty"
    mol, error = _read(Chem.MolFromSmiles, smiles)
    if mol is None:
        return None, _other_language(smiles) or error
    return with_stated_axes(mol, smiles), ""


def _other_language(smiles: str) -> str:
    """Tell what a text is that RDKit cannot parse as a SMILES; "" if unknown."""
    if smiles.replace("->", "").count(">") == 2:
        return "it is a reaction; write one molecule"
    with rdBase.BlockLogs():
        parameters = Chem.SmilesParserParams()
        parameters.sanitize = False
        is_pattern = Chem.MolFromSmiles(smiles, parameters) is None and Chem.MolFromSmarts(smiles) is not None
    return "it is a SMARTS pattern; write a molecule as SMILES" if is_pattern else ""


def _read(parse: Callable[[str], Chem.Mol | None], text: str) -> tuple[Chem.Mol | None, str]:
    """Parse a text; return None and RDKit's reason if it cannot be parsed."""
    with rdBase.CaptureErrorLog() as log:  # the caller reports the reason with the line number
        mol = parse(text)
        return mol, "" if mol is not None else _reason(log.messages)


def _reason(messages: str) -> str:
    """Return the first line of RDKit's error log, without the time and the common prefix."""
    lines = (
        re.sub(r"^\[[\d:]+\] *(SMILES Parse Error: |ERROR: (Could not sanitize .*)?)?", "", line).strip()
        for line in messages.splitlines()
    )
    return next(filter(None, lines), "")[:200]
