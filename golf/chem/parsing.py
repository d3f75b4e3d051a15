"""Molecules of SMILES and molfiles as RDKit reads them, or in its words why it reads none."""

from __future__ import annotations

import re
from collections.abc import Callable

from rdkit import Chem, rdBase

from golf.chem.axes import with_stated_axes


def from_molfile(text: str) -> tuple[Chem.Mol | None, str]:
    """Return the molecule of a molfile, hydrogens as they are there, or None and why RDKit reads none."""
    return _read(_molfile, text)


def _molfile(text: str) -> Chem.Mol | None:
    supplier = Chem.SDMolSupplier()  # Chem.MolFromMolBlock gives the reasons as warnings, which nothing captures
    supplier.SetData(text, removeHs=False)
    return next(supplier, None)


def from_smiles(smiles: str) -> tuple[Chem.Mol | None, str]:
    """Return the molecule of a SMILES, or None and why RDKit reads none."""
    if not smiles:
        return None, "the SMILES is empty"
    mol, error = _read(Chem.MolFromSmiles, smiles)
    if mol is None:
        return None, _other_language(smiles) or error
    return with_stated_axes(mol, smiles), ""


def _other_language(smiles: str) -> str:
    """Say what a text is that RDKit cannot read as a SMILES; "" where that is not known."""
    if smiles.replace("->", "").count(">") == 2:
        return "it is a reaction; write one molecule"
    with rdBase.BlockLogs():
        parameters = Chem.SmilesParserParams()
        parameters.sanitize = False
        is_pattern = Chem.MolFromSmiles(smiles, parameters) is None and Chem.MolFromSmarts(smiles) is not None
    return "it is a SMARTS pattern; write a molecule as SMILES" if is_pattern else ""


def _read(parse: Callable[[str], Chem.Mol | None], text: str) -> tuple[Chem.Mol | None, str]:
    """Return the molecule of a text, or why RDKit reads none."""
    with rdBase.CaptureErrorLog() as log:  # the reason is reported with the number of the line instead
        mol = parse(text)
        return mol, "" if mol is not None else _reason(log.messages)


def _reason(messages: str) -> str:
    """Return the line of RDKit's error log that says most: the first, without the time and what all have."""
    lines = (
        re.sub(r"^\[[\d:]+\] *(SMILES Parse Error: |ERROR: (Could not sanitize .*)?)?", "", line).strip()
        for line in messages.splitlines()
    )
    return next(filter(None, lines), "")[:200]
