"""Formats of data sets: which one a file is in, and how many conformations of which molecules it has.

Snakemake calls this while it reads the Snakefile, in every job: nothing here needs RDKit, ASE or torch, and of a large
file no more is read than names and shapes.
"""

from __future__ import annotations

import csv
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import h5py
import numpy as np
from h5py import h5d, h5s

from golf.conformations import Status
from golf.errors import UserError
from golf.files import suffix_of
from golf.hdf5 import FORMAT, read_columns
from golf.oracles.base import LevelOfTheory
from golf.text import open_text

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
MOLECULES = (SMILES, SDF)
"""Formats of molecules, which get conformers; the other ones are of conformations."""

LEVELS = {
    NABLADFT: LevelOfTheory("psi4", "wb97x-d", "def2-svp"),
    SPICE: LevelOfTheory("psi4", "wb97m-d3bj", "def2-tzvppd"),
}
"""Levels of theory of the published data sets."""


def format_of(path: str | Path, given: str = AUTO) -> str:
    """The format of a file: the given one, else by suffix, and for HDF5 by what is in it.

    Raises:
        UserError: the file is missing, its suffix is unknown, or it is a database that is none.
    """
    path = Path(path)
    if suffix_of(path) not in SUFFIXES and given == AUTO:
        known = " ".join(SUFFIXES)
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r}; give one of {known} (in a study: or set dataset.format)"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    kind = SUFFIXES[suffix_of(path)] if given == AUTO else given
    if kind == NABLADFT:
        _check_sqlite(path)
    return SPICE if given == AUTO and kind == GOLF and _is_spice(path) else kind


def _check_sqlite(path: Path) -> None:
    """ASE makes a database of an empty file, even to read from it."""
    with open(path, "rb") as stream:
        if stream.read(len(_SQLITE)) != _SQLITE:
            raise UserError(f"{path}: not an ASE database (not a file of SQLite)")


def _is_spice(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            first = next(iter(file.values()), None)
            return file.attrs.get("format") != FORMAT and isinstance(first, h5py.Group) and "conformations" in first
    except (OSError, RuntimeError):  # the reader says what is wrong with it
        return False


def count_records(path: str | Path) -> int:
    """Records of a file of molecules (.smi, .csv, .sdf), as `golf.records.read_records` will read them.

    A .csv has no comments, and a field of it may have several lines.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path)
    try:
        with open_text(path, newline="") as stream:
            if suffix_of(path) == ".sdf":
                return _count_sdf(stream)
            if suffix_of(path) == ".csv":
                delimiter, _ = table_start(stream)
                rows = csv.reader(stream, delimiter=delimiter)
                next(rows, None)  # names of the columns
                return sum(bool(row) for row in rows)
            return sum(is_smiles_record(line, i) for i, line in enumerate(stream, start=1))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as {path.suffix}: {error}") from None


def is_smiles_record(line: str, number: int) -> bool:
    """Whether a line of a .smi, counted from 1, is a molecule: no blank line, comment (#) or header ("SMILES name")."""
    words = line.split(maxsplit=1)
    return bool(words) and not line.startswith("#") and not (number == 1 and words[0].lower() == "smiles")


def table_start(table: TextIO) -> tuple[str, int]:
    """Find the delimiter of a .csv, and skip a first line that is not the header.

    The delimiter is what such a line says ("sep=;", as Excel reads it), else comma, semicolon or tab, whichever the
    header has most of.

    Args:
        table: at its beginning; it is left before the header.

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
    """The column of this name, else the first one that differs in case alone; None where there is none."""
    alike = [column for column in columns if column.casefold() == name.casefold()]
    return name if name in columns else next(iter(alike), None)


def _count_sdf(lines: Iterable[str]) -> int:
    """Records, also a last one that is cut off."""
    n, begun = 0, False
    for line in lines:
        ends = line.startswith("$$$$")
        n += ends
        begun = not ends and (begun or bool(line.strip()))
    return n + begun


def count_conformations(path: str | Path, kind: str, subsets: Collection[str] = ()) -> dict[str, int]:
    """Conformations of each molecule of a file of conformations; of an extended XYZ "" stands for those without a name.

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
        return dict(Counter(key_of(comment, "molecule") or _stem(comment) for comment in comments(path)))
    columns, _ = read_columns(path, "conformation/molecule")
    return dict(Counter(columns.get("conformation/molecule", ())))


def count_unlabelled(path: str | Path, kind: str, subsets: Collection[str], level: LevelOfTheory) -> int:
    """At most so many conformations of a file of conformations come without a label of the level.

    Raises:
        UserError: the file cannot be read.
    """
    if kind == GOLF:
        columns, attrs = read_columns(path, "atoms/offset", "conformation/status")
        n = len(columns["atoms/offset"]) - 1
        status = columns.get("conformation/status")
        return n if status is None or not level.matches(attrs) else int((status == Status.NOT_COMPUTED).sum())
    if kind == EXTXYZ:
        return sum(not _has_label(comment, level) for comment in comments(path))
    return 0 if level.matches(LEVELS[kind].attrs()) else sum(count_conformations(path, kind, subsets).values())


def _count_spice(path: Path, subsets: frozenset[str]) -> dict[str, int]:
    """Through HDF5's own interface: one group takes 0.02 ms, with its subset 0.08 ms."""
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
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a readable SPICE file (truncated or of another kind): {error}") from None
    return counts


def _count_nabladft(path: Path) -> dict[str, int]:
    query = "SELECT CAST(value AS INTEGER), COUNT(*) FROM number_key_values WHERE key = 'moses_id' GROUP BY value"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return {str(name): n for name, n in database.execute(query)}
    except sqlite3.Error as error:
        raise UserError(f"{path}: not an ASE database ({error})") from None


def comments(path: str | Path) -> Iterator[str]:
    """The second line of every frame of an extended XYZ file.

    Raises:
        UserError: the file is truncated, or no extended XYZ.
    """
    with open(path, encoding="utf-8", errors="replace") as stream:
        for i, line in enumerate(iter(stream.readline, ""), start=1):
            if not line.strip():
                return
            if not line.strip().isdigit():
                raise UserError(f"{path}: frame {i}: {line.strip()[:40]!r} is not a number of atoms; not extended XYZ")
            yield stream.readline()
            if not all(stream.readline().strip() for _ in range(int(line))):
                raise UserError(f"{path}: frame {i}: has fewer than {int(line)} atoms; the file is truncated")


def key_of(comment: str, key: str) -> str:
    """Value of a key in a comment line of extended XYZ; empty where it is not there."""
    found = re.search(rf"""(?:^|\s){key}=(?:"([^"]*)"|'([^']*)'|(\S+))""", comment)
    return "" if found is None else next(filter(None, found.groups()), "")


def _stem(comment: str) -> str:
    """The molecule of a frame by its name, such as "ethanol/0007"."""
    return key_of(comment, "name").rpartition("/")[0] or key_of(comment, "name")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _has_label(comment: str, level: LevelOfTheory) -> bool:
    stated = {name: key_of(comment, name).lower() for name in ("program", "method", "basis")}
    return _is_number(key_of(comment, "energy")) and level.matches({**stated, "keywords": "{}"})
