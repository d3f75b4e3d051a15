"""Read the rows of ASE databases as records of geometries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
from ase.db.core import Database
from ase.db.row import AtomsRow

from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.io.extxyz import GeometryRecord
from golf.io.formats import reading_sqlite
from golf.io.identity import CHARGES, MULTIPLICITIES

IN_DATA = ("name", "molecule", "smiles", "mapped_smiles", *CHARGES, *MULTIPLICITIES)
"""Keys that are also looked up in the data of a row, where other programs store them."""


@contextmanager
def opened(path: str | Path) -> Iterator[Database]:
    """Open an existing ASE database for reading, after a check that it has the tables, which ASE would otherwise add.

    Raises:
        UserError: the file is missing, not an ASE database, or held by another process.
    """
    with reading_sqlite(path):
        try:
            with ase.db.connect(path, type="db") as database:
                yield database
        except (ValueError, KeyError, AssertionError) as error:
            raise UserError(f"{path}: not a readable ASE database ({error}); give another file") from None


def rows(path: str | Path) -> Iterator[GeometryRecord]:
    """Yield the rows of an ASE database, one in memory at a time.

    Raises:
        UserError: the file is not an ASE database, or another process holds it.
    """
    with opened(path) as database:
        for number, row in enumerate(database.select(), start=1):
            yield geometry(row, number)


def geometry(row: AtomsRow, number: int) -> GeometryRecord:
    """Convert a row to a record; `number` counts from 1."""
    where = f"row {row.id}"
    numbers = np.asarray(row["numbers"], np.int64)
    columns = {name: row.get(name) for name in ("initial_charges", "initial_magmoms") if row.get(name) is not None}
    strange = next((int(z) for z in numbers if not 0 < z < len(SYMBOLS)), None)
    if strange is not None:
        problem = f"atomic number {strange} is that of a ghost or dummy atom; remove it"
        return GeometryRecord(number, where, keys_of(row), problem=problem)
    problem = "" if len(numbers) else "has no atoms"
    return GeometryRecord(number, where, keys_of(row), numbers, np.asarray(row.positions, np.float64), columns, problem)


def keys_of(row: AtomsRow) -> dict[str, str]:
    """Return the keys of a row with their values as text, and those of its data that it does not have as keys.

    ASE hides keys that share a name with its own properties: `charge` is the sum of the initial charges.
    """
    data = row.data if isinstance(row.data, Mapping) else {}
    given = {key: vars(row)[key] for key in row._keys if key in vars(row)}  # key_value_pairs would return ASE's own
    return {key: _text(value) for key, value in ({key: data[key] for key in IN_DATA if key in data} | given).items()}


def _text(value: Any) -> str:
    """Format a value as text: 4.0 as "4", and an array of one value as this value."""
    value = np.ravel(value)[0] if isinstance(value, np.ndarray | list) and np.size(value) == 1 else value
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)
