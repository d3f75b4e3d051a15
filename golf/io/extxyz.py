"""Read XYZ and extended XYZ files: conformations, with or without labels.

Labels are `energy` and `forces` as in ASE, in eV and eV/angstrom unless `energy_unit` and `forces_unit` state others;
`program`, `method` and `basis` state their level of theory. Energies and forces in files written by `golf relax` are
predictions of a network, not labels (`predicted_by`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.molecules import canonical_smiles
from golf.chem.usable import LeftOut
from golf.core.conformations import ConformationRecord, ConformationSet, Status
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.labels import with_known_labels
from golf.core.level import LevelOfTheory
from golf.core.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.identity import CHARGES, MULTIPLICITIES, TIMEOUT, identify, states, whole
from golf.io.xyz import RawFrame, keys_of, molecule_name, raw_frames

ENERGY_UNITS = {"ev": HARTREE_IN_EV, "hartree": 1.0, "kcal/mol": HARTREE_IN_KCAL_PER_MOL}
"""One hartree in these units."""

FORCE_UNITS = {
    "ev/angstrom": HARTREE_IN_EV,
    "hartree/angstrom": 1.0,
    "hartree/bohr": BOHR_IN_ANGSTROM,
    "kcal/mol/angstrom": HARTREE_IN_KCAL_PER_MOL,
}
"""One hartree/angstrom in these units."""

INPUT = "input_"
"""Prefix of the properties that come from the input of a relaxation."""

PREDICTED = "predicted_by"
"""Key of frames whose energy and forces are predicted by a network; they are read without a label."""

GRADIENTS = ("gradient", "gradients", "grad", "dft_total_gradient")

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
    plain = _EXPONENT.sub("e", text)
    if not _NUMBER.fullmatch(plain):
        raise UserError(f"{text!r} is not a number")
    return float(plain)


def read_extxyz(path: str | Path) -> tuple[ConformationSet, list[LeftOut]]:
    """Read all frames with their labels, and list those that cannot be used.

    Ids are `{molecule}/{index}`. The name of a molecule is that of `golf.io.xyz.molecule_name`, else its SMILES. (A
    comment line without keys is not used as a name: programs write energies or their own name there.) There are label
    columns if any frame has a label.

    Raises:
        UserError: the file is missing or has another format, two molecules have the same name, or labels are of several
            levels of theory.
    """
    path = Path(path)
    records, labels, levels = [], [], []
    left_out: list[LeftOut] = []
    seen: Counter[str] = Counter()
    molecules: dict[str, str] = {}
    for one in geometries(path):
        try:
            smiles, charge, spin = one.identity()
            label = _label(one)
        except UserError as error:
            left_out.append(one.left_out(str(error)))
            continue
        own = canonical_smiles(smiles)
        name = molecule_name(one.keys) or own
        if molecules.setdefault(name, own) != own:
            raise UserError(f"{path}: {one.where}: {name!r} is already the name of another molecule; rename one")
        id = f"{name}/{seen[name]:04d}"
        records.append(ConformationRecord(id, name, smiles, charge, spin, one.numbers, one.positions))
        seen[name] += 1
        labels.append(label)
        if np.isfinite(label[0]):
            levels.append((_level(one.keys), f"{path}: {one.where}"))
    conformations = ConformationSet.build(records)
    if not levels:
        return conformations, left_out
    for level, where in levels:
        if level != levels[0][0]:
            raise UserError(f"{where}: its label is of level {level}, but others are of {levels[0][0]}; split the file")
    energies, forces = np.array([label[0] for label in labels]), np.concatenate([label[1] for label in labels])
    labelled = with_known_labels(conformations, energies, forces, levels[0][0])
    status = np.where(np.isfinite(energies), labelled.values["status"], Status.NOT_COMPUTED)
    message = np.where(np.isfinite(energies), labelled.values["message"], "")
    return labelled.with_columns(values={"status": status, "message": message}), left_out


def inputs_of(keys: Mapping[str, str]) -> dict[str, str]:
    """Return the properties of the input that golf has written to a comment line."""
    return {key.removeprefix(INPUT): value for key, value in keys.items() if key.startswith(INPUT)}


def _label(one: GeometryRecord) -> tuple[float, NDArray[np.float64]]:
    """Return the total energy (hartree) and the forces [n, 3] (hartree/angstrom) of a frame; NaN without a label."""
    if PREDICTED in one.keys:
        return np.nan, np.full((len(one.numbers), 3), np.nan)
    energy, forces = one.keys.get("energy"), one.column("forces")
    gradients = [key for key in GRADIENTS if key in one.columns]
    if forces is None and gradients:
        raise UserError(f"has {gradients[0]} instead of forces; give forces, which are minus the gradients")
    renamed = [key for key in one.columns if "force" in key.lower()]
    if forces is None and renamed:
        raise UserError(f"has {renamed[0]}; give the label as energy and forces, or remove it")
    if energy is None and forces is None:
        return np.nan, np.full((len(one.numbers), 3), np.nan)
    if energy is None or forces is None:
        has, lacks = ("forces", "energy") if energy is None else ("an energy", "forces")
        raise UserError(f"has {has} but no {lacks}; give both or neither")
    if forces.shape != one.positions.shape:
        raise UserError(f"has {forces.shape[1]} columns of forces instead of 3; correct Properties")
    energy_unit = unit_of(one.keys, "energy_unit", "ev", ENERGY_UNITS)
    return number(energy) / energy_unit, forces / unit_of(one.keys, "forces_unit", "ev/angstrom", FORCE_UNITS)


def unit_of(keys: Mapping[str, str], key: str, default: str, known: Mapping[str, float]) -> float:
    """Return one atomic unit in the unit that a key states, or in the default.

    Raises:
        UserError: the unit is unknown.
    """
    stated = keys.get(key, default).lower().replace("/ang", "/angstrom").replace("angstromstrom", "angstrom")
    if stated not in known:
        raise UserError(f"{key} {keys[key]!r} is unknown; give one of {', '.join(known)}")
    return known[stated]


def _level(keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes of the level of theory that a frame states; empty if it states none."""
    program, method, basis = (keys.get(name, "") for name in ("program", "method", "basis"))
    return LevelOfTheory(program.lower(), method, basis).attrs() if program and method and basis else {}
