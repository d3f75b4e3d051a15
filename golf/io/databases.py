"""ASE databases: their rows as records of geometries."""

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
from golf.io.extxyz import Geometry
from golf.io.formats import reading_sqlite
from golf.io.identity import CHARGES, MULTIPLICITIES

IN_DATA = ("name", "molecule", "smiles", "mapped_smiles", *CHARGES, *MULTIPLICITIES)
"""Keys that are also looked for in the data of a row, where other programs keep what is not a plain key."""


@contextmanager
def opened(path: str | Path) -> Iterator[Database]:
    """An ASE database that is there: to one without its tables ASE would add them.

    Raises:
        UserError: the file is missing, not an ASE database, or held by another process.
    """
    with reading_sqlite(path):
        try:
            with ase.db.connect(path, type="db") as database:
                yield database
        except (ValueError, KeyError, AssertionError) as error:
            raise UserError(f"{path}: not an ASE database that can be read ({error})") from None


def rows(path: str | Path) -> Iterator[Geometry]:
    """Yield the rows of an ASE database, one in memory at a time.

    Raises:
        UserError: the file is not an ASE database, or another process holds it.
    """
    with opened(path) as database:
        for number, row in enumerate(database.select(), start=1):
            yield geometry(row, number)


def geometry(row: AtomsRow, number: int) -> Geometry:
    """A row as a record; `number` counts from 1."""
    where = f"row {row.id}"
    numbers = np.asarray(row["numbers"], np.int64)
    columns = {name: row.get(name) for name in ("initial_charges", "initial_magmoms") if row.get(name) is not None}
    strange = next((int(z) for z in numbers if not 0 < z < len(SYMBOLS)), None)
    if strange is not None:
        problem = f"the atomic number {strange} is that of a ghost or dummy atom; take it out"
        return Geometry(number, where, keys_of(row), problem=problem)
    problem = "" if len(numbers) else "has no atoms"
    return Geometry(number, where, keys_of(row), numbers, np.asarray(row.positions, np.float64), columns, problem)


def keys_of(row: AtomsRow) -> dict[str, str]:
    """Keys and values of a row as text, those of its data where it has no such key.

    ASE hides keys that have the name of something of its own: `charge` is the sum of the initial charges.
    """
    data = row.data if isinstance(row.data, Mapping) else {}
    given = {key: vars(row)[key] for key in row._keys if key in vars(row)}  # key_value_pairs would ask ASE's own
    return {key: _text(value) for key, value in ({key: data[key] for key in IN_DATA if key in data} | given).items()}


def _text(value: Any) -> str:
    """A value as text: 4.0 is "4", as people write it; an array of one value is this."""
    value = np.ravel(value)[0] if isinstance(value, np.ndarray | list) and np.size(value) == 1 else value
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)
