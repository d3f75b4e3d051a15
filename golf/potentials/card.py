"""The card of a potential: what it covers, where it comes from, and which files or packages it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from golf.core.elements import SYMBOLS

if TYPE_CHECKING:
    from rdkit import Chem


@dataclass(frozen=True)
class File:
    """A file that a potential needs.

    Attributes:
        name: its name in the cache.
        sha256: of its content, in hexadecimal.
        size: bytes.
        place: its path below the origin of the potential.
    """

    name: str
    sha256: str
    size: int
    place: str


@dataclass(frozen=True)
class Card:
    """What is known of a potential.

    Attributes:
        name: name by which it is asked for, or the path of its file.
        kind: how it is computed: "network" (golf's own), "aimnet2", "program" (in child processes) or "mmff".
        elements: atomic numbers that it covers.
        level: attributes of the level of theory of its training data, or of the method itself; empty if unknown.
        takes_charge: whether molecules may have a total charge.
        title: what it is, in a few words.
        licence: licence of the weights or of the program.
        source: where it was published.
        files: files that it needs beside golf.
        origin: address below which these files are; "" if they come in a package.
        package: package of the Python package index that it needs, or that ships its files; "" if none.
        method: method of the oracle program `ase`, for the kind "program".
        keywords: keywords of that method.
        domain_note: what is known of its training molecules, in one sentence.
    """

    name: str
    kind: str
    elements: tuple[int, ...]
    level: Mapping[str, str]
    takes_charge: bool
    title: str
    licence: str = ""
    source: str = ""
    files: tuple[File, ...] = ()
    origin: str = ""
    package: str = ""
    method: str = ""
    keywords: Mapping[str, object] = field(default_factory=dict)
    domain_note: str = ""

    @property
    def size(self) -> int:
        """Size of its files, in bytes."""
        return sum(file.size for file in self.files)

    def refusal(self, mapped_smiles: str, charge: int) -> str:
        """Return why the potential cannot compute a molecule, worded to follow its place in a file; "" if it can.

        Elements are not checked: readers of files leave out molecules with other elements themselves.
        """
        refused = self._refused(charge)
        if refused or self.kind != "mmff":
            return refused
        from golf.chem.molecules import molecule  # here, because Snakemake reads cards without RDKit
        from golf.chem.usable import mmff_problem

        return mmff_problem(molecule(mapped_smiles))

    def refusal_of(self, mol: Chem.Mol) -> str:
        """Return the same for a molecule with all its hydrogens."""
        from rdkit import Chem

        from golf.chem.usable import mmff_problem

        return self._refused(Chem.GetFormalCharge(mol)) or (mmff_problem(mol) if self.kind == "mmff" else "")

    def _refused(self, charge: int) -> str:
        refused = charge and not self.takes_charge
        return f"its charge is {charge:+d}, and {self.name} describes neutral molecules only" if refused else ""

    def words(self) -> str:
        """Return the symbols of the elements, with ranges for long lists."""
        if len(self.elements) > 20 and self.elements == tuple(range(self.elements[0], self.elements[-1] + 1)):
            return f"{SYMBOLS[self.elements[0]]}-{SYMBOLS[self.elements[-1]]}"
        return " ".join(SYMBOLS[z] for z in self.elements)
