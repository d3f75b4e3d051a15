"""Read the geometries of XYZ and extended XYZ files; `golf.io.labelled` reads their labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golf.chem.usable import LeftOut
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.io.identity import CHARGES, MULTIPLICITIES, TIMEOUT, identify, states, whole
from golf.io.xyz import RawFrame, keys_of, molecule_name, raw_frames

INPUT = "input_"
"""Prefix of the properties that come from the input of a relaxation."""

PREDICTED = "predicted_by"
"""Key of frames whose energy and forces are predicted by a network; they are read without a label."""

PLAIN = "species:S:1:pos:R:3"
"""Columns of a frame without the key `Properties`; further columns are not read."""

NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}

GHOSTS = re.compile(r"@.*|.*[@:]|(X|XX|Du|Bq|Gh|Q|LP|\*|0)([0-9:(_.-].*)?|.*[-_](Bq|Gh)\b.*|.*ghost.*", re.IGNORECASE)
"""Symbols that programs write for ghost and dummy atoms: X, Bq, Gh(O), @O, O:, O-Bq and the atomic number 0."""

_EXPONENT = re.compile(r"(?<=[0-9.])(?:\*\^|[dD])(?=[-+]?[0-9])")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|[-+]?(?:nan|inf(?:inity)?)", re.IGNORECASE)


@dataclass(frozen=True)
class GeometryRecord:
    """A frame of an extended XYZ file or a row of an ASE database.

    Attributes:
        number: of the record, from 1.
        where: its place in the file, for messages.
        keys: keys of the record with their values as text.
        numbers: [n] atomic numbers.
        positions: [n, 3] angstrom.
        columns: further columns of the atoms by name, [n, ...], as numbers or text.
        problem: why there is no geometry; "" if there is one.
    """

    number: int
    where: str
    keys: Mapping[str, str] = field(default_factory=dict)
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    positions: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    columns: Mapping[str, NDArray] = field(default_factory=dict)
    problem: str = ""

    def identity(self, timeout: float = TIMEOUT) -> tuple[str, int, int]:
        """Find the mapped SMILES, charge and multiplicity; see `golf.io.identity.identify`.

        Raises:
            UserError: the record cannot be used.
        """
        if self.problem:
            raise UserError(self.problem)
        charge = None if states(self.keys, CHARGES) else self._sum("initial_charges")
        unpaired = None if states(self.keys, MULTIPLICITIES) else self._sum("initial_magmoms")
        spin = abs(unpaired or 0) + 1
        return identify(self.keys, self.numbers, self.positions, charge=charge, spin=spin, timeout=timeout)

    def column(self, name: str) -> NDArray[np.float64] | None:
        """Return a column [n, ...] of the atoms as numbers; None if there is no such column.

        Raises:
            UserError: a value is not a number.
        """
        if name not in self.columns:
            return None
        texts = np.asarray(self.columns[name])
        try:
            return np.array([number(str(text)) for text in texts.ravel()], np.float64).reshape(texts.shape)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    def left_out(self, reason: str) -> LeftOut:
        """Return the entry of this record in the list of records that cannot be used."""
        name = molecule_name(self.keys)
        return LeftOut(self.number, f"{self.where}{', ' if name else ''}{name}", self.formula, reason)

    @property
    def formula(self) -> str:
        """Sum formula, carbon and hydrogen first."""
        counts = Counter(SYMBOLS[atomic_number] for atomic_number in self.numbers)
        order = sorted(counts, key=lambda symbol: ("CH".find(symbol) % 3, symbol))
        return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in order)

    def _sum(self, name: str) -> int | None:
        values = self.column(name)
        return None if values is None else whole(f"{np.sum(values):.4f}", f"the sum of {name}")


def geometries(path: str | Path) -> Iterator[GeometryRecord]:
    """Yield the frames of an XYZ or extended XYZ file, one in memory at a time; a bad frame does not affect others.

    Raises:
        UserError: the file is missing or has another format.
    """
    for frame in raw_frames(path, warn=True):
        where, keys = f"frame {frame.number}, line {frame.line}", keys_of(frame.comment)
        try:
            yield GeometryRecord(frame.number, where, keys, *_parsed(frame, keys.get("Properties", PLAIN)))
        except UserError as error:
            yield GeometryRecord(frame.number, where, keys, problem=str(error))


def _parsed(
    frame: RawFrame, properties: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, NDArray[np.str_]]]:
    """Parse the atomic numbers [n], the positions [n, 3] and the other columns, as text, of a frame.

    Raises:
        UserError: it is not a frame, or a line of it cannot be read.
    """
    if frame.problem:
        raise UserError(frame.problem)
    places, width = _places(properties)
    rows = [row.split() for row in frame.rows]
    element = places.pop("species", None) or places.pop("Z", None)
    pos = places.pop("pos", range(0))
    if element is None or len(pos) != 3:
        raise UserError(f"Properties {properties} lacks species, or pos of three columns; correct Properties")
    numbers, positions = [], []
    for line, row in enumerate(rows, start=frame.line + 2):
        try:
            if len(row) < width:
                raise UserError(f"has {len(row)} columns, but {properties} has {width}")
            numbers.append(_atomic_number(row[element[0]]))
            positions.append([number(row[k]) for k in pos])
        except UserError as error:
            raise UserError(f"line {line}: {error}") from None
    columns = {name: np.array([[row[k] for k in place] for row in rows]) for name, place in places.items()}
    return np.array(numbers, np.int64), np.array(positions, np.float64), columns


def _places(properties: str) -> tuple[dict[str, range], int]:
    """Return the fields of a line that belong to each column, and the number of fields in total."""
    parts = properties.split(":")
    if len(parts) % 3 or not all(n.isdecimal() for n in parts[2::3]):
        raise UserError(f"Properties {properties} cannot be read; write them as {PLAIN}")
    places, width = {}, 0
    for name, n in zip(parts[::3], map(int, parts[2::3]), strict=True):
        places[name] = range(width, width + n)
        width += n
    return places, width


def _atomic_number(text: str) -> int:
    """Convert a symbol, or a number in its place, to an atomic number.

    Raises:
        UserError: there is no such element.
    """
    if text.isdecimal() and 0 < int(text) < len(SYMBOLS):
        return int(text)
    if text.capitalize() in NUMBERS:
        return NUMBERS[text.capitalize()]
    if GHOSTS.fullmatch(text):
        raise UserError(f"{text!r} is a ghost or dummy atom; remove it")
    raise UserError(f"{text!r} is not the symbol of an element")


def number(text: str) -> float:
    """Convert text to a number, also with an exponent of Fortran (1.0D-3) or QM9 (1.0*^-3).

    Raises:
        UserError: the text is not a number.
    """
    return float(_plain(text))


def decimal(text: str) -> Decimal:
    """Convert text to the number that its digits state, which a float may only come close to; see `number`."""
    return Decimal(_plain(text))


def _plain(text: str) -> str:
    plain = _EXPONENT.sub("e", text)
    if not _NUMBER.fullmatch(plain):
        raise UserError(f"{text!r} is not a number")
    return plain


def inputs_of(keys: Mapping[str, str]) -> dict[str, str]:
    """Return the properties of the input that golf has written to a comment line."""
    return {key.removeprefix(INPUT): value for key, value in keys.items() if key.startswith(INPUT)}
