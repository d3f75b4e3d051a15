"""Merge files of labels of one level of theory into one file, each geometry once.

Two conformations are the same geometry if elements, charge, multiplicity and every coordinate are equal, as for the
journals of labels. Geometries are in memory a piece at a time, their hashes all the time (some 100 bytes each).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.molecules import canonical_smiles
from golf.core.conformations import ConformationSet, Status, as_column, concatenate
from golf.core.errors import UserError
from golf.core.hdf5 import concatenate_files, read, read_columns, write
from golf.core.labels import LABEL_COLUMNS, NO_LABEL
from golf.core.level import LEVEL_ATTRS, ORIGIN_ATTRS, level_difference
from golf.io.labelled import PIECE

SAME_ENERGY = 1e-6
"""hartree; two labels of one geometry that differ by more are worth a word. SCF energies are converged to 1e-8."""


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        n: number of conformations written.
        n_labels: how many of them have a usable label.
        n_twice: conformations left out because their geometry is in the output already.
        renamed: old and new id of each conformation whose id, or whose molecule's name, was taken.
        lost: columns that only some of the files have, and that are not label columns.
        largest_difference: between two usable labels of one geometry, hartree.
        attrs: root attributes of the output.
    """

    n: int = 0
    n_labels: int = 0
    n_twice: int = 0
    renamed: list[tuple[str, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    largest_difference: float = 0.0
    attrs: dict[str, Any] = field(default_factory=dict)


def merge(paths: Sequence[str | Path], output: str | Path) -> Merged:
    """Write the conformations of several files of labels to one.

    The first of several equal geometries is kept, or the first with a usable label. A conformation whose id is taken by
    another geometry, or whose molecule's name is taken by another molecule, is renamed. How each label came about
    (status, message, times, recovery) is kept; the attribute `merged_from` has the attributes of each file.

    Raises:
        UserError: a file cannot be read, has no labels or no level of theory, or the files differ in their level.
    """
    files = [_File(Path(path)) for path in paths]
    merged = Merged(attrs=_attrs(files))
    kept = _kept(files, merged)
    atoms, values = _columns(files, merged)
    names = _Names()
    folder_of = Path(output).parent
    with tempfile.TemporaryDirectory(prefix=f".{Path(output).name}.", dir=folder_of) as folder:
        parts: list[Path] = []
        for file, rows in zip(files, kept, strict=True):
            for piece in file.pieces(rows):
                part = _with(names.made_unique(piece, file.path, merged), atoms, values)
                parts.append(Path(folder) / f"{len(parts)}.h5")
                write(parts[-1], part)
                merged.n += len(part)
                merged.n_labels += int((part.values["status"] == Status.OK).sum())
        concatenate_files(parts, output, values={}, **merged.attrs)
    return merged


class _File:
    """A file of labels: its attributes, its columns, and its labels' status."""

    def __init__(self, path: Path) -> None:
        columns, attrs = read_columns(path, "conformation/status", "conformation/energy", "conformation/charge")
        self.path = path
        self.attrs = {name: _plain(value) for name, value in attrs.items()}
        self.n = len(columns["conformation/charge"])
        missing = [name for name in LEVEL_ATTRS if name not in self.attrs]
        if "conformation/status" not in columns or "conformation/energy" not in columns:
            raise UserError(f"{path}: has no labels; label it first (golf label)")
        if missing:
            raise UserError(f"{path}: has no attribute {missing[0]}, so its level is unknown; label it again")
        self.status: NDArray = columns["conformation/status"]
        self.energy: NDArray = columns["conformation/energy"]
        first = read(path, [0]) if self.n else None
        self.atoms = set() if first is None else set(first.atoms)
        self.values = set() if first is None else set(first.values)

    def pieces(self, rows: NDArray[np.int64]) -> Iterator[ConformationSet]:
        """Yield the conformations of these rows, `PIECE` at a time."""
        for start in range(0, len(rows), PIECE):
            yield replace(read(self.path, rows[start : start + PIECE]), frames=None, attrs={})


def _plain(value: Any) -> Any:
    """Convert a number of NumPy to one of Python, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _attrs(files: Sequence[_File]) -> dict[str, Any]:
    """Return the level of theory that all files state, and where they come from.

    Raises:
        UserError: two files differ in their level.
    """
    first = files[0]
    for other in files[1:]:
        if difference := level_difference(first.attrs, other.attrs):
            raise UserError(
                f"{other.path}: its labels and those of {first.path} differ in {difference}; labels of different "
                "levels of theory must not be mixed"
            )
    versions = {file.attrs["program_version"] for file in files if "program_version" in file.attrs}
    stated = {name: first.attrs[name] for name in ORIGIN_ATTRS if name in first.attrs}
    if versions:
        stated["program_version"] = "mixed" if len(versions) > 1 else versions.pop()
    sources = [{"file": str(file.path), "conformations": file.n, **file.attrs} for file in files]
    return stated | {"merged_from": json.dumps(sources)}


def _kept(files: Sequence[_File], merged: Merged) -> list[NDArray[np.int64]]:
    """Return the rows of each file to write: each geometry once, with a usable label if a file has one."""
    best: dict[bytes, tuple[int, int]] = {}
    for k, file in enumerate(files):
        start = 0
        for piece in file.pieces(np.arange(file.n)):
            for i in range(len(piece)):
                row, key = start + i, _key(piece, i)
                usable = file.status[row] == Status.OK
                other, other_row = best.setdefault(key, (k, row))
                if (other, other_row) == (k, row):
                    continue
                merged.n_twice += 1
                if not usable:
                    continue
                if files[other].status[other_row] != Status.OK:
                    best[key] = (k, row)
                else:
                    difference = abs(float(files[other].energy[other_row] - file.energy[row]))
                    merged.largest_difference = max(merged.largest_difference, difference)
            start += len(piece)
    rows: list[list[int]] = [[] for _ in files]
    for k, row in best.values():
        rows[k].append(row)
    return [np.array(sorted(some), np.int64) for some in rows]


def _key(piece: ConformationSet, i: int) -> bytes:
    """Return a hash of elements, charge, multiplicity and positions of a conformation."""
    digest = hashlib.blake2b(f"{piece.charge[i]} {piece.multiplicity[i]}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(piece.number[piece.rows(i)], np.uint8).tobytes())
    digest.update(np.ascontiguousarray(piece.position[piece.rows(i)], "<f8").tobytes())
    return digest.digest()


def _columns(files: Sequence[_File], merged: Merged) -> tuple[list[str], list[str]]:
    """Return the columns of atoms and of conformations to write: the labels, and what all files have."""
    full = [file for file in files if file.n]
    atoms = set.intersection(*(file.atoms for file in full)) | {"force"} if full else {"force"}
    values = set.intersection(*(file.values for file in full)) | set(LABEL_COLUMNS) if full else set(LABEL_COLUMNS)
    merged.lost = sorted(set().union(*(file.atoms for file in full)) - atoms) + sorted(
        set().union(*(file.values for file in full)) - values
    )
    return sorted(atoms), sorted(values)


def _with(part: ConformationSet, atoms: Sequence[str], values: Sequence[str]) -> ConformationSet:
    """Return conformations with exactly these columns; missing label columns are those of no label."""
    n = len(part)
    empty = {name: as_column(name, [getattr(NO_LABEL, name)] * n) for name in LABEL_COLUMNS if name in values}
    all_atoms = {"force": np.full(part.position.shape, np.nan), **part.atoms}
    return replace(
        part,
        atoms={name: all_atoms[name] for name in atoms},
        values={name: ({**empty, **part.values})[name] for name in values},
    )


class _Names:
    """Ids and names of molecules that are taken."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._molecules: dict[str, str] = {}  # canonical SMILES by name

    def made_unique(self, piece: ConformationSet, path: Path, merged: Merged) -> ConformationSet:
        """Rename what has a name that is taken: a molecule with the name of its file, an id with a number."""
        ids, molecules = [], []
        for old, name, smiles in zip(piece.id, piece.molecule, piece.mapped_smiles, strict=True):
            own = canonical_smiles(smiles) if smiles else ""
            molecule, k = name, 1
            while self._molecules.setdefault(molecule, own) != own:
                molecule = f"{name}#{path.stem}" if k == 1 else f"{name}#{path.stem}-{k}"
                k += 1
            id = f"{molecule}{old.removeprefix(name)}" if molecule != name and old.startswith(name) else old
            base, k = id, 2
            while id in self._ids:
                id, k = f"{base}#{k}", k + 1
            if id != old:
                merged.renamed.append((old, id))
            self._ids.add(id)
            ids.append(id)
            molecules.append(molecule)
        return replace(piece, id=ids, molecule=molecules)


def merged_sets(parts: Sequence[ConformationSet], stems: Sequence[str]) -> ConformationSet:
    """Concatenate sets of labelled conformations of one level, each geometry once; names are those of `merge`.

    Args:
        stems: name of the file of each set.
    """
    names, seen, chosen = _Names(), set[bytes](), []
    for part, stem in zip(parts, stems, strict=True):
        keys = [_key(part, i) for i in range(len(part))]
        rows = [i for i, key in enumerate(keys) if key not in seen and not seen.add(key)]  # type: ignore[func-returns-value]
        own = part.subset(rows)
        chosen.append(names.made_unique(own, Path(stem), Merged()))
    return concatenate(chosen).with_columns(**{name: parts[0].attrs[name] for name in LEVEL_ATTRS})
