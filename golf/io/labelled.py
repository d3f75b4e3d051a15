"""Read the labels of extended XYZ files and ASE databases, a piece of a file at a time.

Labels are `REF_energy` and `REF_forces`, the keys that MACE and other programs train on, or `energy` and `forces` as in
ASE. They are in eV and eV/angstrom unless `energy_unit` and `forces_unit` state others. `program`, `method`, `basis`
and `keywords` state their level of theory. The plain keys of a record with `predicted_by` are predictions of a network,
not labels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.molecules import canonical_smiles
from golf.chem.usable import LeftOut
from golf.core.conformations import ConformationRecord, ConformationSet, Status
from golf.core.errors import UserError
from golf.core.labels import with_known_labels
from golf.core.level import ORIGIN_ATTRS, LevelOfTheory, described, level_difference
from golf.core.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.databases import NAMES, rows
from golf.io.extxyz import PREDICTED, GeometryRecord, decimal, geometries
from golf.io.formats import EXTXYZ
from golf.io.identity import CHARGES, MULTIPLICITIES
from golf.io.xyz import molecule_name

ENERGY_UNITS = {"ev": HARTREE_IN_EV, "hartree": 1.0, "kcal/mol": HARTREE_IN_KCAL_PER_MOL}
"""One hartree in these units."""

FORCE_UNITS = {
    "ev/angstrom": HARTREE_IN_EV,
    "hartree/angstrom": 1.0,
    "hartree/bohr": BOHR_IN_ANGSTROM,
    "kcal/mol/angstrom": HARTREE_IN_KCAL_PER_MOL,
}
"""One hartree/angstrom in these units."""

GRADIENTS = ("gradient", "gradients", "grad", "dft_total_gradient")


@dataclass(frozen=True)
class LabelKeys:
    """The key of the energy and the name of the column of the forces."""

    energy: str
    forces: str


REFERENCE = LabelKeys("REF_energy", "REF_forces")
"""Keys that MACE and other programs train on."""

CALCULATED = LabelKeys("energy", "forces")
"""Keys of what an ASE calculator computed."""

PIECE = 5000
"""Number of records that are in memory at a time."""

EQUAL = 1e-6
"""Relative difference up to which labels under two keys are the same label, written with different digits."""


READ = frozenset({*ORIGIN_ATTRS, "Properties", "pbc", PREDICTED, "energy_unit", "forces_unit", "energy_eV"})
"""Keys of a record that state what its label is."""

IDENTITY = frozenset({*NAMES, "moses_id", *CHARGES, *MULTIPLICITIES, "initial_charges", "initial_magmoms"})
"""Keys and columns of a record that state what molecule it is, in any case."""


@dataclass
class LabelledReader:
    """Reads a file in pieces, and knows what its earlier pieces were.

    Attributes:
        path: file of extended XYZ or ASE database.
        kind: its format, `golf.io.formats.EXTXYZ` or `NABLADFT`.
        keys: keys of the labels; None: `REFERENCE`, else `CALCULATED`.
        level: level of theory of labels that do not state theirs, as attributes; None: unknown.
        attrs: level of theory of the labels read so far, as attributes; None before the first label.
        versions: program versions stated so far.
        unread: keys and columns of the records that are not read, in the order in which they appear.
    """

    path: Path
    kind: str
    keys: LabelKeys | None = None
    level: Mapping[str, Any] | None = None
    attrs: dict[str, Any] | None = None
    versions: set[str] = field(default_factory=set)
    unread: dict[str, None] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)
    _seen: Counter[str] = field(default_factory=Counter)
    _molecules: dict[str, str] = field(default_factory=dict)

    def pieces(self, size: int = PIECE) -> Iterator[tuple[ConformationSet, list[LeftOut]]]:
        """Yield the conformations of `size` records at a time, with their labels, and the records left out.

        Only pieces with a label have label columns. Ids are the `name` of records that state `molecule` as well, else
        `{molecule}/{index}`. The name of a molecule is that of `golf.io.xyz.molecule_name`, else its SMILES. (A comment
        line without keys is not used as a name: programs write energies or their own name there.)

        Raises:
            UserError: the file is missing or has another format, two molecules have the same name, or labels are of
                several levels of theory.
        """
        read: list[tuple[ConformationRecord, _Label]] = []
        left_out: list[LeftOut] = []
        for one in geometries(self.path) if self.kind == EXTXYZ else rows(self.path):
            if len(read) + len(left_out) >= size:
                yield self._collected(read), left_out
                read, left_out = [], []
            try:
                smiles, charge, spin = one.identity()
                label = _label(one, self.keys)
                level = _level(one.keys) if label.is_given else {}
            except UserError as error:
                left_out.append(one.left_out(str(error)))
                continue
            read.append((self._record(one, smiles, charge, spin), label))
            self.unread |= dict.fromkeys(key for key in (*one.keys, *one.columns) if not self._is_read(key, one))
            if label.is_given:
                self._check_level(level, one)
        yield self._collected(read), left_out

    @property
    def stated(self) -> dict[str, Any]:
        """Level of theory and program version of the labels read so far, as attributes."""
        version = {"program_version": min(self.versions) if len(self.versions) == 1 else "mixed"}
        return dict(self.attrs or {}) | (version if self.versions else {})

    def _is_read(self, key: str, one: GeometryRecord) -> bool:
        """Tell whether a key or column of a record is read as something."""
        pairs = [self.keys] if self.keys else [REFERENCE] if PREDICTED in one.keys else [REFERENCE, CALCULATED]
        of_labels = {name for pair in pairs for name in (pair.energy, pair.forces)}
        return key in READ or key in of_labels or key.lower() in IDENTITY

    def _record(self, one: GeometryRecord, smiles: str, charge: int, spin: int) -> ConformationRecord:
        own = canonical_smiles(smiles)
        name = molecule_name(one.keys) or own
        if self._molecules.setdefault(name, own) != own:
            raise UserError(f"{self.path}: {one.where}: {name!r} is already the name of another molecule; rename one")
        id = one.keys.get("name", "") if one.keys.get("molecule") else ""
        while not id or id in self._ids:
            id = f"{name}/{self._seen[name]:04d}"
            self._seen[name] += 1
        self._ids.add(id)
        return ConformationRecord(id, name, smiles, charge, spin, one.numbers, one.positions)

    def _check_level(self, stated: Mapping[str, Any], one: GeometryRecord) -> None:
        where = f"{self.path}: {one.where}"
        given = self.level or {}
        if given and stated and (difference := level_difference(given, stated)):
            raise UserError(f"{where}: the given level and that of its label differ in {difference}; correct one")
        level = dict(stated or given)
        if self.attrs is not None and level != self.attrs:
            own, first = (described(attrs) if attrs else "unknown" for attrs in (level, self.attrs))
            raise UserError(f"{where}: its label is of level {own}, but others are of {first}; split the file")
        self.attrs = level
        if "program_version" in one.keys:
            self.versions.add(one.keys["program_version"])

    def _collected(self, read: Sequence[tuple[ConformationRecord, _Label]]) -> ConformationSet:
        conformations = ConformationSet.build(record for record, _ in read)
        if not any(label.is_given for _, label in read):
            return conformations
        energies = np.array([label.energy for _, label in read])
        forces = np.concatenate([label.forces for _, label in read])
        labelled = with_known_labels(conformations, energies, forces, self.stated)
        given = np.array([label.is_given for _, label in read])
        status = np.where(given, labelled.values["status"], Status.NOT_COMPUTED)
        message = np.where(given, labelled.values["message"], "")
        return labelled.with_columns(values={"status": status, "message": message})


def read_extxyz(path: str | Path) -> tuple[ConformationSet, list[LeftOut]]:
    """Read all frames of an extended XYZ file with their labels, and list those that cannot be used.

    See `LabelledReader.pieces`; there are label columns if any frame has a label.

    Raises:
        UserError: as there.
    """
    return read_all(LabelledReader(Path(path), EXTXYZ))


def read_all(reader: LabelledReader) -> tuple[ConformationSet, list[LeftOut]]:
    """Read the whole file as one piece; raises what `LabelledReader.pieces` raises."""
    return next(reader.pieces(size=2**62))


@dataclass(frozen=True)
class _Label:
    """A label: energy in hartree, forces [n, 3] in hartree/angstrom; NaN without one."""

    energy: float
    forces: NDArray[np.float64]

    @property
    def is_given(self) -> bool:
        return bool(np.isfinite(self.energy))


def _label(one: GeometryRecord, keys: LabelKeys | None) -> _Label:
    """Return the label of a record.

    Raises:
        UserError: it has energy or forces alone, gradients, forces under an unknown name, or two different labels.
    """
    predicted = PREDICTED in one.keys
    pairs = [keys] if keys else [REFERENCE] if predicted else [REFERENCE, CALCULATED]
    found = [(pair, label) for pair in pairs if (label := _label_of(one, pair)) is not None]
    if len(found) > 1 and not _agree(*(label for _, label in found)):
        one_pair, other = (pair for pair, _ in found)
        raise UserError(f"{one_pair.energy} and {other.energy}, or the forces, are different labels; remove one")
    if found:
        return found[0][1]
    for pair in pairs:
        has_energy, has_forces = pair.energy in one.keys, pair.forces in one.columns
        if has_energy != has_forces:
            gradients = [key for key in GRADIENTS if key in one.columns]
            if gradients:
                raise UserError(f"has {gradients[0]} instead of forces; give forces, which are minus the gradients")
            unknown = _renamed(one, pairs)
            if has_energy and unknown:
                raise UserError(unknown)
            has, lacks = (pair.energy, pair.forces) if has_energy else (pair.forces, pair.energy)
            raise UserError(f"has {has} but no {lacks}; give both or neither")
    if keys is None and not predicted and (unknown := _renamed(one, pairs)):
        raise UserError(unknown)
    return _Label(np.nan, np.full((len(one.numbers), 3), np.nan))


def _renamed(one: GeometryRecord, pairs: Iterable[LabelKeys]) -> str:
    """Return what to do about forces under a name that is not one of `pairs`; "" if there are none."""
    known = {pair.forces for pair in pairs}
    renamed = [key for key in one.columns if "force" in key.lower() and key not in known]
    return f"has {renamed[0]}; give the label as energy and forces, or remove it" if renamed else ""


def _label_of(one: GeometryRecord, keys: LabelKeys) -> _Label | None:
    """Return the label under these keys; None unless both are there."""
    if keys.energy not in one.keys or keys.forces not in one.columns:
        return None
    column = np.asarray(one.columns[keys.forces])
    if column.shape != one.positions.shape:
        width = column.shape[1] if column.ndim > 1 else 1
        raise UserError(f"has {width} columns of {keys.forces} instead of 3; correct Properties")
    energy_unit = unit_of(one.keys, "energy_unit", "ev", ENERGY_UNITS)
    forces_unit = unit_of(one.keys, "forces_unit", "ev/angstrom", FORCE_UNITS)
    energy = _quotient(one.keys[keys.energy], energy_unit)
    try:
        forces = [_quotient(str(text), forces_unit) for text in column.ravel().tolist()]
    except UserError as error:
        raise UserError(f"{keys.forces}: {error}") from None
    return _Label(energy, np.array(forces, np.float64).reshape(column.shape))


def _quotient(text: str, unit: float) -> float:
    """Divide a number by a unit with one rounding, so that what golf has written is read to the last bit."""
    return float(decimal(text) / Decimal(repr(unit)))


def _agree(one: _Label, other: _Label) -> bool:
    close = np.isclose(one.energy, other.energy, rtol=EQUAL, atol=0.0, equal_nan=True)
    return bool(close) and np.allclose(one.forces, other.forces, rtol=EQUAL, atol=EQUAL, equal_nan=True)


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
    """Return the attributes of the level of theory that a record states; empty if it states none."""
    program, method, basis = (keys.get(name, "") for name in ("program", "method", "basis"))
    if not (program and method and basis):
        return {}
    text = keys.get("keywords") or "{}"
    try:
        keywords = json.loads(text)
    except ValueError:
        keywords = None
    if not isinstance(keywords, dict):
        raise UserError(f"keywords {text!r} is not a JSON object; correct or remove it")
    return LevelOfTheory(program.lower(), method, basis, keywords).attrs()
