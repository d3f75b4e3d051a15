"""Read and write conformations in any format, and convert files of any size from one format to another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from golf.chem.usable import LeftOut
from golf.core.conformations import ConformationSet, concatenate
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.files import suffix_of, written_whole
from golf.core.hdf5 import concatenate_files, read_columns
from golf.core.hdf5 import read as read_hdf5
from golf.core.hdf5 import write as write_hdf5
from golf.core.labels import labelled_indices, unlabelled
from golf.core.level import LEVEL_ATTRS, LevelOfTheory, level_difference, parsed
from golf.io.formats import EXTXYZ, GOLF, MOLECULES, NABLADFT, SDF, SMILES, format_of
from golf.io.labelled import PIECE, REFERENCE, LabelKeys, LabelledReader
from golf.io.nabladft import is_nabladft
from golf.io.pieces import Embedding, pieces_of
from golf.io.read import read_conformations, read_structures
from golf.io.records import place_of
from golf.io.write import STAMP, new_database, not_kept, write_rows, write_structures

CONVERTED = (".h5", ".extxyz", ".xyz", ".db", ".sdf")
"""Suffixes of the files to which conformations can be written."""


@dataclass
class Conversion:
    """What a conversion has read and written.

    Attributes:
        n: number of conformations written.
        n_labels: how many of them have a label.
        attrs: level of theory and program version of the labels.
        left_out: records that could not be used.
        lost: what the output does not keep, in words.
    """

    n: int = 0
    n_labels: int = 0
    attrs: dict[str, Any] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    lost: dict[str, None] = field(default_factory=dict)


def convert(
    source: str | Path, output: str | Path, *, keys: LabelKeys | None = None, level: LevelOfTheory | None = None
) -> Conversion:
    """Write the conformations of a file, with their labels, to a file of another format.

    Files of .h5, .sdf and extended XYZ and ASE databases are read in pieces; those of nablaDFT and SPICE are in memory.

    Args:
        source: file of conformations.
        output: its suffix, one of `CONVERTED`, tells the format.
        keys: names of the labels in an extended XYZ file, that of the source if it is one.
        level: level of theory of labels that do not state theirs.

    Raises:
        UserError: a file has an unknown format, no record can be used, or labels are of several levels.
    """
    source, output, done = Path(source), Path(output), Conversion()
    of_source = keys if format_of(source) in (EXTXYZ, NABLADFT) else None
    pieces = _pieces(source, of_source, level, done)
    if suffix_of(output) == ".h5":
        _to_hdf5(pieces, source, output, done)
    else:
        with ExitStack() as stack:
            if suffix_of(output) == ".db":
                database = stack.enter_context(new_database(output))
            else:
                stream = stack.enter_context(open(stack.enter_context(written_whole(output)), "w", encoding="utf-8"))
            for piece in pieces:
                if suffix_of(output) == ".db":
                    write_rows(database, piece)
                else:
                    write_structures(stream, suffix_of(output), piece, (keys if not of_source else None) or REFERENCE)
                done.lost |= dict.fromkeys(not_kept(piece, suffix_of(output)))
            _check_any(source, done)
    return done


def _to_hdf5(pieces: Iterator[ConformationSet], source: Path, output: Path, done: Conversion) -> None:
    """Write pieces to parts beside the output, one in memory at a time, and join them."""
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        parts = []
        for i, piece in enumerate(pieces):
            parts.append(Path(folder) / f"{i}.h5")
            write_hdf5(parts[-1], piece)
            if piece.frames is not None:
                done.lost["frames"] = None
        _check_any(source, done)
        concatenate_files(parts, output, values={}, **done.attrs)


def _check_any(path: Path, done: Conversion) -> None:
    if not done.n:
        first = f" (first: {done.left_out[0].name}: {done.left_out[0].reason})" if done.left_out else ""
        raise UserError(f"{path}: no conformations to write{first}; give another file")


def _pieces(
    path: Path, keys: LabelKeys | None, level: LevelOfTheory | None, done: Conversion
) -> Iterator[ConformationSet]:
    """Yield the conformations of a file in pieces with the same columns, and record in `done` what was read."""
    reader = _reader(path, keys, level)
    for piece, left_out in _read_pieces(path, reader, level):
        done.left_out += left_out
        if not len(piece):
            continue
        done.n += len(piece)
        done.n_labels += len(labelled_indices(piece))
        stated = reader.stated if reader is not None else piece.attrs
        done.attrs = {name: value for name, value in stated.items() if name not in STAMP}
        yield piece
    if reader is not None:
        done.lost |= dict.fromkeys(f"{key} (not read)" for key in reader.unread)


def _reader(path: Path, keys: LabelKeys | None, level: LevelOfTheory | None) -> LabelledReader | None:
    """Return the reader of a file of extended XYZ or a general ASE database; None for other formats."""
    kind = format_of(path)
    if kind == EXTXYZ or (kind == NABLADFT and not is_nabladft(path)):
        return LabelledReader(path, kind, keys, None if level is None else level.attrs())
    if keys is not None and kind not in (GOLF,):
        raise UserError(f"{path}: only labels of extended XYZ files and ASE databases have keys; leave them out")
    return None


def _read_pieces(
    path: Path, reader: LabelledReader | None, level: LevelOfTheory | None
) -> Iterator[tuple[ConformationSet, list[LeftOut]]]:
    kind = format_of(path)
    if reader is not None:
        yield from ((unlabelled(piece), left_out) for piece, left_out in reader.pieces())
    elif kind == GOLF:
        columns, attrs = read_columns(path, "conformation/charge")
        n = len(columns["conformation/charge"])
        own = _with_level(path, attrs, level)
        for start in range(0, n, PIECE):
            yield read_hdf5(path, np.arange(start, min(n, start + PIECE))).with_columns(**own), []
    elif kind == SMILES:
        raise UserError(f"{path}: SMILES have no geometries to convert; make some with golf relax")
    elif kind == SDF:
        everything = range(1, len(SYMBOLS))
        for piece in pieces_of(path, elements=everything, size=PIECE, embedding=Embedding()):
            yield piece.conformations, piece.left_out
    else:
        conformations, left_out = read_conformations(path, kind)
        yield conformations.with_columns(**_with_level(path, conformations.attrs, level)), left_out


def _with_level(path: Path, attrs: Mapping[str, Any], level: LevelOfTheory | None) -> dict[str, Any]:
    """Return the attributes of the given level for a file that states none.

    Raises:
        UserError: the file states another level.
    """
    if level is None:
        return {}
    if any(name in attrs for name in LEVEL_ATTRS) and (difference := level_difference(level.attrs(), attrs)):
        raise UserError(f"{path}: the given level and that of the file differ in {difference}; correct one")
    return level.attrs()


def read(
    path: str | Path,
    *,
    conformers: int | None = None,
    seed: int = 1,
    level: str | LevelOfTheory | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    left_out: list[LeftOut] | None = None,
) -> ConformationSet:
    """Read the conformations of a file in any format that golf reads, with their labels.

    Args:
        path: .h5, SPICE .hdf5, .xyz, .extxyz, ASE .db (also of nablaDFT), .sdf, .smi or .csv; text files may be
            compressed (.gz).
        conformers: conformers to embed of each molecule of a .smi, .csv or .sdf; None for one of a SMILES, and the
            geometries of an .sdf.
        seed: seed of the embedding.
        level: level of theory of labels that do not state theirs, such as "psi4:wb97x-d/def2-svp".
        energy_key: key of the energy of a frame; None for REF_energy, else energy.
        forces_key: column of the forces of a frame; None for REF_forces, else forces.
        left_out: list to which the records that cannot be used are added; None to raise an error at the first of them.

    Returns:
        The conformations. Labels are columns `energy` (hartree), `force` (hartree/angstrom) and `status`; the level of
        theory is in `attrs`.

    Raises:
        UserError: the file is missing, empty or of an unknown format, labels are of several levels of theory, or a
            record cannot be used.
    """
    path = Path(path)
    if format_of(path) in MOLECULES and left_out is None:
        return read_structures(path, conformers=conformers, seed=seed)
    keys, of_level = label_keys(energy_key, forces_key), parsed(level) if isinstance(level, str) else level
    found: list[LeftOut] = []
    parts: list[ConformationSet] = []
    if format_of(path) in MOLECULES:
        every = range(1, len(SYMBOLS))
        for piece in pieces_of(path, elements=every, size=PIECE, embedding=Embedding(conformers, seed=seed)):
            parts.append(piece.conformations)
            found += piece.left_out
    elif format_of(path) == GOLF:
        whole = read_hdf5(path)
        parts = [whole.with_columns(**_with_level(path, whole.attrs, of_level))]
    else:
        done = Conversion()
        parts = list(_pieces(path, keys, of_level, done))
        found = done.left_out
        parts = [part.with_columns(**done.attrs) for part in parts]
    if left_out is not None:
        left_out += found
    elif found:
        raise UserError(f"{path}: {place_of(found[0], path, with_text=True)}: {found[0].reason}")
    conformations = parts[0] if len(parts) == 1 else concatenate(parts)
    if not len(conformations) and not found:
        raise UserError(f"{path}: holds no conformations; give another file")
    return conformations


def label_keys(energy: str | None, forces: str | None) -> LabelKeys | None:
    """Return the keys of labels; None if both are those of `golf.io.labelled.LabelledReader`."""
    if energy is None and forces is None:
        return None
    return LabelKeys(energy or REFERENCE.energy, forces or REFERENCE.forces)


def write(path: str | Path, conformations: ConformationSet) -> None:
    """Write conformations to a .h5, .extxyz, .xyz, .db or .sdf file, with their labels; an older file is replaced.

    An .h5 file keeps everything; `golf.io.write.not_kept` tells what the others do not.

    Raises:
        UserError: the suffix is unknown.
    """
    suffix = suffix_of(path)
    if suffix not in CONVERTED:
        raise UserError(f"{path}: unknown suffix {suffix!r}; give one of {' '.join(CONVERTED)}")
    if suffix == ".h5":
        write_hdf5(path, conformations)
    elif suffix == ".db":
        with new_database(path) as database:
            write_rows(database, conformations)
    else:
        with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
            write_structures(stream, suffix, conformations)
