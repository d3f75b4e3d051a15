"""Read the records of SMILES and SDF files: molecules, their names, and the records that cannot be used."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rdkit import Chem

from golf.chem.molecules import mapped_smiles
from golf.chem.parsing import from_molfile, from_smiles
from golf.chem.usable import LeftOut, Molecule, unusable
from golf.core.errors import UserError
from golf.core.files import content_suffix, written_whole
from golf.core.text import cleaned, one_line, open_text
from golf.core.wording import and_more
from golf.io.formats import MOLECULES, SUFFIXES, column_of, is_smiles_record, table_start
from golf.io.sdf import blocks, unique

logger = logging.getLogger(__name__)

MOLECULE_SUFFIXES = tuple(suffix for suffix, kind in SUFFIXES.items() if kind in MOLECULES)

OWN_NAMES = (
    "energy_hartree",
    "relative_energy_kcal_mol",
    "largest_force_kcal_mol_angstrom",
    "stop_reason",
    "n_steps",
    "n_gradients",
    "strain_energy_kcal_mol",
    "n_conformers",
    "left_saddle_point",
    "n_imaginary",
    "lowest_frequency_per_cm",
    "n_kicks",
    "free_energy_hartree",
    "boltzmann_weight",
    "changed_molecule",
    "unlike_training",
)
"""Properties in which golf writes the results of a relaxation."""


@dataclass(frozen=True)
class Record:
    """A record of an input file: its line, its name, its text, and its molecule, None if RDKit cannot parse it."""

    line: int
    name: str
    text: str
    mol: Chem.Mol | None
    properties: Mapping[str, str] = field(default_factory=dict)
    error: str = ""  # RDKit's reason if there is no molecule
    results: Mapping[str, str] = field(default_factory=dict)  # of the relaxation by golf that wrote it


def place_of(record: LeftOut, path: str | Path, *, with_text: bool = False) -> str:
    """Describe the place of a record in its file and its name, and with `with_text` its text."""
    what = ", ".join([record.name, *([record.text] if with_text and record.text else [])])
    if re.match(r"(frame|row) \d+(,|$)", record.name) and content_suffix(path) not in MOLECULE_SUFFIXES:
        return what
    return f"{record_word(path)} {record.line} ({what})"


def record_word(path: str | Path) -> str:
    """Return the word for the records of a file, "line" or "record"."""
    return "line" if content_suffix(path) in (".smi", ".csv") else "record"


def read_molecules(
    path: str | Path,
    *,
    smiles_column: str = "smiles",
    name_column: str = "name",
    problem: Callable[[Chem.Mol | None], str] = unusable,
) -> tuple[list[Molecule], list[LeftOut]]:
    """Read the molecules of a .smi (SMILES, then a name), .csv or .sdf file, and list the records left out.

    Names default to `mol<line>`. Hydrogens are added; the charge follows from the SMILES. SDF records that share name
    and molecule are conformers of one molecule.

    Args:
        problem: function that returns why a molecule cannot be used, "" if it can.

    Raises:
        UserError: the file is missing, empty, unreadable, has an unknown suffix or lacks the column, or two molecules
            have the same name.
    """
    records = list(read_records(path, smiles_column=smiles_column, name_column=name_column))
    if not records:
        raise UserError(f"{path}: holds no molecules; give another file")
    return collect(records, path, problem=problem)


def read_records(path: str | Path, *, smiles_column: str = "smiles", name_column: str = "name") -> Iterator[Record]:
    """Yield the records of a .smi, .csv or .sdf file.

    Raises:
        UserError: the file is missing, unreadable, has an unknown suffix, or lacks the column.
    """
    path = Path(path)
    if content_suffix(path) not in MOLECULE_SUFFIXES:
        known = ", ".join(MOLECULE_SUFFIXES)
        raise UserError(f"{path}: unknown suffix {content_suffix(path)!r}; give a file of molecules ({known})")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield from _records(path, smiles_column, name_column)
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {content_suffix(path)}: {error}") from None


def collect(
    records: Iterable[Record],
    path: str | Path,
    *,
    problem: Callable[[Chem.Mol | None], str],
    taken: set[str] | None = None,
) -> tuple[list[Molecule], list[LeftOut]]:
    """Collect the molecules of records, and list the records left out; see `read_molecules`.

    Args:
        problem: function that returns why a molecule cannot be used, "" if it can.
        taken: names used so far, to which those of these records are added. A name of another molecule, or one that
            appears again after others, is made unique with the number of its record. If None, two molecules of one
            name are an error, and the records of one molecule need not be consecutive.
    """
    molecules: list[Molecule] = []
    left_out: list[LeftOut] = []
    of_name: dict[str, dict[str, Molecule]] = {}  # the molecules of each name by their SMILES, hydrogens included
    word = record_word(path)
    for record in records:
        name = record.name
        if taken is not None and name not in of_name:
            of_name.clear()
        known = of_name.setdefault(name, {})
        mol = None if record.mol is None else Chem.AddHs(record.mol, addCoords=True)
        smiles = "" if mol is None else Chem.MolToSmiles(mol)
        if smiles in known and mol is not None and _add_conformer(known[smiles], mol, record.properties):
            continue
        reason = problem(record.mol)
        if reason:
            left_out.append(LeftOut(record.line, name, record.text, in_full(reason, record)))
            continue
        if known and taken is None:
            line = f"{word} {record.line}"
            first = next(iter(known.values()))
            raise UserError(f"{path}: {line}: name {name!r} is already used in {word} {first.line}; rename one")
        unique = name if taken is None else unique_name(name, record.line, taken)
        known[smiles] = Molecule(unique, mol, record.line, [record.properties])
        molecules.append(known[smiles])
    return molecules, left_out


def in_full(reason: str, record: Record) -> str:
    """Return why a record is left out, with RDKit's reason if it cannot be parsed."""
    return f"{reason}: {record.error}" if record.mol is None and record.error else reason


def unique_name(name: str, line: int, taken: set[str]) -> str:
    """Return the name, with the number of its record appended if it is taken, and add it to `taken`."""
    while name in taken:
        name = f"{name}#{line}"
    taken.add(name)
    return name


def _add_conformer(first: Molecule, full: Chem.Mol, properties: Mapping[str, str]) -> bool:
    """Add the geometry of a further record to the molecule of the first; return False if there is none.

    Args:
        full: the same molecule with its atoms in any order; if it is the order of the first record, it is kept.
    """
    if not full.GetNumConformers():
        return False
    if mapped_smiles(full) == mapped_smiles(first.mol):
        match = tuple(range(full.GetNumAtoms()))
    else:
        match = full.GetSubstructMatch(first.mol, useChirality=True)  # rows of the first record
    if len(match) != full.GetNumAtoms():
        return False
    conformer = Chem.Conformer(full.GetNumAtoms())
    conformer.SetPositions(full.GetConformer().GetPositions()[list(match)])
    conformer.Set3D(full.GetConformer().Is3D())
    first.mol.AddConformer(conformer, assignId=True)
    first.properties.append(properties)
    return True


def _records(path: Path, smiles_column: str, name_column: str) -> Iterator[Record]:
    if content_suffix(path) == ".sdf":
        return _sdf_records(path)
    return _csv_records(path, smiles_column, name_column) if content_suffix(path) == ".csv" else _smi_records(path)


def _sdf_records(path: Path) -> Iterator[Record]:
    with open_text(path) as stream:
        for i, block in enumerate(blocks(cleaned(stream, path), path), start=1):
            mol, error = from_molfile(block.molfile)
            name, properties, results = block.name, block.properties, {}
            if properties.keys() >= {"energy_hartree", "stop_reason"}:  # written by golf
                name = re.sub(r"/\d{4,}$", "", name)
                results = {key: value for key, value in properties.items() if key in OWN_NAMES}
                properties = {key: value for key, value in properties.items() if key not in OWN_NAMES}
            yield Record(i, name or f"mol{i}", "record of an SDF file", mol, properties, error, results)


def _csv_records(path: Path, smiles_column: str, name_column: str) -> Iterator[Record]:
    with open_text(path, newline="") as stream:
        delimiter, n_skipped = table_start(stream)
        reader = csv.reader(cleaned(stream, path), delimiter=delimiter)
        columns: list[str] = []
        for i, column in enumerate(next(reader, []), start=1):
            columns.append(unique(one_line(column) or f"column_{i}", columns))
        of_smiles, of_name = column_of(columns, smiles_column), column_of(columns, name_column)
        if of_smiles is None:
            raise UserError(
                f"{path}: has no column {smiles_column!r} (found: {', '.join(columns) or 'none'}); rename one "
                "(in a study: set dataset.smiles_column)"
            )
        _warn_of_alike(path, columns, of_smiles, of_name)
        longer = []
        for row in filter(None, reader):
            line = reader.line_num + n_skipped
            values = dict(zip(columns, [*row, *[""] * len(columns)], strict=False))
            smiles = values.pop(of_smiles).strip()
            name = "" if of_name is None else one_line(values.pop(of_name).strip())
            if any(row[len(columns) :]):  # further fields are lost
                longer.append(line)
            mol, error = from_smiles(smiles)
            yield Record(line, name or f"mol{line}", smiles, mol, values, error)
        if longer:
            logger.warning(
                "%s: line %d%s: more fields than columns, the last ones are not read; quote fields that have a %r",
                path,
                longer[0],
                and_more(len(longer)),
                delimiter,
            )


def _warn_of_alike(path: Path, columns: Sequence[str], *taken: str | None) -> None:
    """Warn of other columns whose names differ only in case from those that are read."""
    for column in taken:
        others = [one for one in columns if column and one != column and one.casefold() == column.casefold()]
        if others:
            logger.warning("%s: has columns %r and %r; %r is read, rename one", path, column, others[0], column)


def _smi_records(path: Path) -> Iterator[Record]:
    columns: list[str] = []
    with open_text(path) as stream:
        for i, line in enumerate(cleaned(stream, path), start=1):
            if i == 1 and not is_smiles_record(line, i):
                columns = [one_line(column).strip() for column in line.rstrip("\r\n").split("\t")[2:]]
            if is_smiles_record(line, i):
                smiles, *rest = line.split(maxsplit=1)
                text = "".join(rest)
                if text.startswith("|"):  # vendors write ChemAxon's extensions before the name
                    extension, _, text = text[1:].partition("|")
                    smiles, text = f"{smiles} |{extension}|", text.lstrip()
                name, *others = text.strip(" \r\n").split("\t") if "\t" in line else [text]
                mol, error = from_smiles(smiles)
                yield Record(i, name.strip() or f"mol{i}", smiles, mol, _further(columns, others), error)


def _further(columns: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Name the fields after the name, separated by tabs, by the header of the file or the number of the column."""
    found: dict[str, str] = {}
    for i, value in enumerate(values):
        if value.strip():
            name = columns[i] if i < len(columns) and columns[i] else f"column_{i + 3}"
            found[unique(name, found)] = value.strip()
    return found


def write_left_out(path: str | Path, left_out: Iterable[LeftOut]) -> None:
    """Write a CSV of the records left out: line, name, input, reason."""
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["line", "name", "input", "reason"])
        table.writerows([out.line, out.name, out.text, out.reason] for out in left_out)
