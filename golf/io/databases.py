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
from golf.core.level import ORIGIN_ATTRS
from golf.core.units import HARTREE_IN_EV
from golf.io.extxyz import PREDICTED, GeometryRecord
from golf.io.formats import reading_sqlite
from golf.io.identity import CHARGES, MULTIPLICITIES

NAMES = ("name", "molecule", "smiles", "mapped_smiles")
IN_DATA = (*NAMES, *ORIGIN_ATTRS, PREDICTED, *CHARGES, *MULTIPLICITIES)
"""Keys that are also looked up in the data of a row, where other programs store them."""

EXACT = "golf_label"
"""Key of the data of a row that golf has written: its label in hartree and hartree/angstrom, to the last bit."""


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
    """Convert a row to a record, with its label, if it has one, as `energy` and `forces`; `number` counts from 1."""
    where = f"row {row.id}"
    numbers = np.asarray(row["numbers"], np.int64)
    named = ("initial_charges", "initial_magmoms", "forces")
    columns = {name: row.get(name) for name in named if row.get(name) is not None}
    keys = keys_of(row)
    if row.get("energy") is not None:
        keys["energy"] = repr(float(row.get("energy")))
    exact = row.data.get(EXACT) if isinstance(row.data, Mapping) else None
    if isinstance(exact, Mapping) and "forces" in columns and _is_of(row, exact):
        keys |= {"energy": repr(float(exact["energy"])), "energy_unit": "hartree", "forces_unit": "hartree/angstrom"}
        columns["forces"] = np.asarray(exact["forces"], np.float64)
    strange = next((int(z) for z in numbers if not 0 < z < len(SYMBOLS)), None)
    if strange is not None:
        problem = f"atomic number {strange} is that of a ghost or dummy atom; remove it"
        return GeometryRecord(number, where, keys, problem=problem)
    problem = "" if len(numbers) else "has no atoms"
    return GeometryRecord(number, where, keys, numbers, np.asarray(row.positions, np.float64), columns, problem)


def _is_of(row: AtomsRow, exact: Mapping[str, Any]) -> bool:
    """Tell whether the label in hartree is still that of the row, which other programs may have changed."""
    pairs = ((row["energy"], exact["energy"]), (row["forces"], exact["forces"]))
    return all(np.allclose(ev, np.asarray(own) * HARTREE_IN_EV, rtol=1e-12, atol=1e-12) for ev, own in pairs)


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
