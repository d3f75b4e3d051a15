"""Formats of data sets: detect the format of a file, and count its molecules and conformations.

Snakemake calls this while it parses the Snakefile, in every job. So nothing here needs RDKit, ASE or torch, and only
names and shapes are read from large files.
"""

from __future__ import annotations

import csv
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import h5py
import numpy as np
from h5py import h5d, h5s

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.files import GZIP, LOCKED, content_suffix, suffix_of
from golf.core.hdf5 import FORMAT, read_columns, unreadable
from golf.core.level import NABLADFT_LEVEL, SPICE_LEVEL, LevelOfTheory
from golf.core.text import open_text
from golf.io.xyz import keys_of, molecule_name, raw_frames

AUTO = "auto"
GOLF, NABLADFT, SPICE, EXTXYZ, SDF, SMILES = "golf", "nabladft", "spice", "extxyz", "sdf", "smiles"

SUFFIXES = {
    ".smi": SMILES,
    ".csv": SMILES,
    ".sdf": SDF,
    ".db": NABLADFT,
    ".xyz": EXTXYZ,
    ".extxyz": EXTXYZ,
    ".h5": GOLF,
    ".hdf5": GOLF,  # or SPICE, which both HDF5 suffixes may hold
}
_SQLITE = b"SQLite format 3\x00"

LOCK_SECONDS = 5.0
"""Time limit of waiting for a database that another process is writing to."""

MOLECULES = (SMILES, SDF)
"""Formats of molecules, for which conformers are made; the other formats hold conformations."""

TEXT = (SMILES, SDF, EXTXYZ)
"""Formats of text files, which may be compressed with gzip."""

LEVELS = {
    NABLADFT: NABLADFT_LEVEL,
    SPICE: SPICE_LEVEL,
}
"""Levels of theory of the published data sets."""


def format_of(path: str | Path, given: str = AUTO) -> str:
    """Return the format of a file: the given one, else by its suffix, and for HDF5 by its content.

    Raises:
        UserError: the file is missing, its suffix is unknown, or it is a .db file that is not an SQLite database.
    """
    path = Path(path)
    suffix = content_suffix(path)
    if suffix not in SUFFIXES and given == AUTO:
        known = " ".join(SUFFIXES)
        raise UserError(f"{path}: unknown suffix {suffix!r}; give one of {known} (in a study: or set dataset.format)")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    kind = SUFFIXES[suffix] if given == AUTO else given
    if suffix_of(path) == GZIP and kind not in TEXT:
        raise UserError(f"{path}: only text files are read compressed; decompress it (gunzip)")
    if kind == NABLADFT:
        _check_sqlite(path)
    return SPICE if given == AUTO and kind == GOLF and _is_spice(path) else kind


def _check_sqlite(path: Path) -> None:
    """Raise a UserError if a file is not an SQLite database; ASE turns an empty file into one even to read it."""
    with open(path, "rb") as stream:
        if stream.read(len(_SQLITE)) != _SQLITE:
            raise UserError(f"{path}: not an ASE database (not an SQLite file); give another file")


@contextmanager
def reading_sqlite(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Open an ASE database for reading; problems with it are raised as UserError.

    Raises:
        UserError: the file is missing, not an ASE database, or held by another process.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as connection:
            if not connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'systems'").fetchone()[0]:
                raise UserError(f"{path}: not an ASE database (it has no table systems); give another file")
            yield connection
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise UserError(f"{path}: {LOCKED}") from None
        raise UserError(f"{path}: not an ASE database ({error}); give another file") from None


def _is_spice(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            first = next(iter(file.values()), None)
            return file.attrs.get("format") != FORMAT and isinstance(first, h5py.Group) and "conformations" in first
    except (OSError, RuntimeError):  # the reader reports what is wrong
        return False


def count_records(path: str | Path) -> int:
    """Count the records of a file of molecules (.smi, .csv, .sdf) that `golf.io.records.read_records` will read.

    A .csv has no comments, and its fields may span several lines.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path)
    try:
        with open_text(path, newline="") as stream:
            if content_suffix(path) == ".sdf":
                return _count_sdf(stream)
            if content_suffix(path) == ".csv":
                delimiter, _ = table_start(stream)
                rows = csv.reader(stream, delimiter=delimiter)
                next(rows, None)  # names of the columns
                return sum(bool(row) for row in rows)
            return sum(is_smiles_record(line, i) for i, line in enumerate(stream, start=1))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {content_suffix(path)}: {error}") from None


def is_smiles_record(line: str, number: int) -> bool:
    """Tell whether a line of a .smi is a molecule: not blank, a comment (#) or, as line 1, a header ("SMILES name")."""
    words = line.split(maxsplit=1)
    return bool(words) and not line.startswith("#") and not (number == 1 and words[0].lower() == "smiles")


def table_start(table: TextIO) -> tuple[str, int]:
    """Find the delimiter of a .csv, and skip a line before the header that states it ("sep=;", as for Excel).

    Without such a line it is comma, semicolon or tab, whichever is most frequent in the header.

    Args:
        table: at its beginning; on return it is at the header.

    Returns:
        The delimiter and the number of lines skipped.
    """
    header = table.readline()
    stated = re.fullmatch(r"sep=(.)", header.rstrip("\r\n"), re.IGNORECASE)
    table.seek(0)
    if stated:
        table.readline()
        return stated[1], 1
    return max(",;\t", key=header.count), 0


def column_of(columns: Sequence[str], name: str) -> str | None:
    """Return the column of this name, else the first that differs only in case; None if there is neither."""
    alike = [column for column in columns if column.casefold() == name.casefold()]
    return name if name in columns else next(iter(alike), None)


def _count_sdf(lines: Iterable[str]) -> int:
    """Count the records, including a last one that is cut off."""
    n, begun = 0, False
    for line in lines:
        ends = line.startswith("$$$$")
        n += ends
        begun = not ends and (begun or bool(line.strip()))
    return n + begun


def count_conformations(path: str | Path, kind: str, subsets: Collection[str] = ()) -> dict[str, int]:
    """Count the conformations of each molecule of a file; in extended XYZ those without a name are counted under "".

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path)
    stamp = path.stat().st_mtime_ns
    return _count(path, stamp, kind, tuple(subsets))


@lru_cache(maxsize=8)
def _count(path: Path, stamp: int, kind: str, subsets: tuple[str, ...]) -> dict[str, int]:
    if kind == SPICE:
        return _count_spice(path, frozenset(subsets))
    if kind == NABLADFT:
        return _count_nabladft(path)
    if kind == EXTXYZ:
        return dict(Counter(molecule_name(keys_of(frame.comment)) for frame in raw_frames(path)))
    columns, _ = read_columns(path, "conformation/molecule")
    return dict(Counter(columns.get("conformation/molecule", ())))


def count_unlabelled(path: str | Path, kind: str, subsets: Collection[str], level: LevelOfTheory) -> int:
    """Return an upper bound of the number of conformations of a file that have no label of the given level.

    Raises:
        UserError: the file cannot be read.
    """
    if kind == GOLF:
        columns, attrs = read_columns(path, "atoms/offset", "conformation/status")
        n = len(columns["atoms/offset"]) - 1
        status = columns.get("conformation/status")
        return n if status is None or not level.matches(attrs) else int((status == Status.NOT_COMPUTED).sum())
    if kind == EXTXYZ:
        return sum(not _has_label(keys_of(frame.comment), level) for frame in raw_frames(path))
    return 0 if level.matches(LEVELS[kind].attrs()) else sum(count_conformations(path, kind, subsets).values())


def _count_spice(path: Path, subsets: frozenset[str]) -> dict[str, int]:
    """Count the conformations of each group by h5py's low-level interface: 0.02 ms a group, 0.08 ms with its subset."""
    counts: dict[str, int] = {}
    wanted = {name.encode() for name in subsets}
    try:
        with h5py.File(path, "r") as file:
            for name in file.id:
                if wanted:
                    subset = np.empty(1, dtype=object)
                    h5d.open(file.id, name + b"/subset").read(h5s.ALL, h5s.ALL, subset)
                    if subset[0] not in wanted:
                        continue
                counts[name.decode()] = h5d.open(file.id, name + b"/conformations").shape[0]
    except (OSError, RuntimeError) as error:
        raise unreadable(path, error) from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a readable SPICE file (truncated, or another format): {error}") from None
    return counts


def _count_nabladft(path: Path) -> dict[str, int]:
    names = "SELECT CAST(value AS INTEGER) FROM number_key_values WHERE key = 'moses_id'"
    texts = "SELECT value FROM text_key_values WHERE key = 'moses_id'"
    with reading_sqlite(path) as database:
        return dict(Counter(str(name) for (name,) in database.execute(f"{names} UNION ALL {texts}")))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _has_label(keys: Mapping[str, str], level: LevelOfTheory) -> bool:
    stated = {name: keys.get(name, "").lower() for name in ("program", "method", "basis")}
    has_energy = any(_is_number(keys.get(name, "")) for name in ("REF_energy", "energy"))
    return has_energy and level.matches({**stated, "keywords": keys.get("keywords", "{}")})
