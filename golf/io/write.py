"""Write conformations to SDF, extended XYZ and ASE databases, with their labels and the results of relaxations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, TextIO

import ase.db
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.core import Database
from ase.io.extxyz import key_val_dict_to_str
from numpy.typing import NDArray

from golf.chem.molecules import molecule
from golf.chem.usable import PROPERTIES
from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.elements import SYMBOLS
from golf.core.files import written_whole
from golf.core.labels import LABEL_COLUMNS, NO_LABEL, labelled_indices
from golf.core.level import LEVEL_ATTRS, ORIGIN_ATTRS
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.databases import EXACT
from golf.io.extxyz import INPUT, PREDICTED
from golf.io.labelled import REFERENCE, LabelKeys
from golf.io.records import OWN_NAMES
from golf.io.sdf import record_text

OUTPUTS = (".h5", ".sdf", ".xyz", ".extxyz")
"""Suffixes of the files to which relaxed conformations can be written."""

VIBRATIONS = ("n_imaginary", "lowest_frequency", "n_kicks", "free_energy", "boltzmann_weight")
"""Columns of the vibrations at the end of a relaxation."""

RESULTS = ("nnp_energy_last", "relative_energy", "largest_force", "stop_reason", "n_steps", "left_saddle_point",
           "changed_molecule", "unlike_training", "strain_energy", "n_conformers", *VIBRATIONS)  # fmt: skip
"""Columns of a relaxation that every format has, under the names `golf.io.records.OWN_NAMES`."""

STAMP = ("format", "format_version", "created_by", "created_utc")
"""Root attributes that describe a file rather than what is in it."""

_EV = Decimal(repr(HARTREE_IN_EV))
_DIGITS = Context(prec=18)
"""Digits of a product with which its quotient is the factor again: a float64 has 17, and both are rounded once."""


def write_structures(stream: TextIO, suffix: str, conformations: ConformationSet, keys: LabelKeys = REFERENCE) -> None:
    """Append conformations, relaxed ones and minima of an oracle among them, to a .sdf, .xyz or .extxyz file.

    In .xyz and .extxyz, labels are in eV and eV/angstrom under `keys`, with their level of theory, and with all digits:
    `golf.io.labelled` reads them to the last bit. `charge` and `spin` (the multiplicity) are the keys that calculators
    read. What a network predicts is `energy` and `forces`, as in ASE, and marked by `PREDICTED`. Results of a
    relaxation have their units in their names. Properties of the input are written as well, with the prefix `INPUT`: in
    .sdf where golf has a property of that name, in .xyz and .extxyz always, so that they are not confused with keys
    that have a meaning there.

    Args:
        suffix: one of `OUTPUTS` except .h5.
        keys: names of the labels in .xyz and .extxyz.
    """
    labelled = _labelled(conformations)
    for i in range(len(conformations)):
        stream.write(
            _sdf_record(conformations, i, i in labelled)
            if suffix == ".sdf"
            else _frame(conformations, i, keys if i in labelled else None)
        )


def _sdf_record(conformations: ConformationSet, i: int, labelled: bool) -> str:
    given, own = _given(conformations, i), results_of(conformations, i)
    others = {f"{INPUT}{key}" if key in OWN_NAMES else key: value for key, value in given.items()}
    name = conformations.id[i]
    if "energy_hartree" not in own:  # golf takes the number off the name of a relaxed conformation
        name, own = conformations.molecule[i], {"id": name, **own}
    if labelled and not _is_minima(conformations):
        own["REF_energy_hartree"] = repr(float(conformations.values["energy"][i]))
        own |= {key: str(conformations.attrs[key]) for key in LEVEL_ATTRS if key in conformations.attrs}
    positions = conformations.position[conformations.rows(i)]
    return record_text(molecule(conformations.mapped_smiles[i], positions), name, others | own)


def _frame(conformations: ConformationSet, i: int, keys: LabelKeys | None) -> str:
    """Return a frame of extended XYZ, with its label if there are keys for it."""
    rows = conformations.rows(i)
    symbols = [SYMBOLS[number] for number in conformations.number[rows]]
    columns = {"species:S:1": [[symbol] for symbol in symbols]}
    columns["pos:R:3"] = [list(map(repr, row)) for row in conformations.position[rows].tolist()]
    info: dict[str, Any] = {}
    if keys is not None:
        info[keys.energy] = _in_ev(float(conformations.values["energy"][i]))
        columns[f"{keys.forces}:R:3"] = [list(map(_in_ev, row)) for row in conformations.atoms["force"][rows].tolist()]
    prediction = _prediction(conformations, i)
    if prediction is not None:
        energy, forces = prediction
        info["energy_eV"] = repr(energy)
        if np.isfinite(energy) and np.isfinite(forces).all():
            info["energy"] = repr(energy)
            columns["forces:R:3"] = [list(map(repr, row)) for row in forces.tolist()]
        info[PREDICTED] = "golf"
    elif keys is not None and _is_minima(conformations):
        info["energy_eV"] = info[keys.energy]
    info |= {"charge": str(conformations.charge[i]), "spin": str(conformations.multiplicity[i])}
    given = {INPUT + re.sub(r'["=\s\\]', "_", key): value for key, value in _given(conformations, i).items()}
    texts = {**_names(conformations, i), **results_of(conformations, i), **given}
    texts |= _origin(conformations) if keys is not None else {}
    info |= {key: _one_line(value) for key, value in texts.items() if value.strip()}  # ASE does not quote ""
    lines = [" ".join(cell for cells in row for cell in cells) for row in zip(*columns.values(), strict=True)]
    comment = key_val_dict_to_str({"Properties": ":".join(columns), **info, "pbc": np.zeros(3, bool)})
    return "\n".join([str(len(symbols)), comment, *lines, ""])


def _labelled(conformations: ConformationSet) -> set[int]:
    """Return the indices of the conformations with a label; all ends of an oracle's optimizations have one."""
    if not _is_minima(conformations):
        return set(labelled_indices(conformations).tolist())
    finite = np.isfinite(conformations.atoms["force"]).all(axis=1)
    energies = np.isfinite(conformations.values["energy"])
    return {i for i in range(len(conformations)) if energies[i] and finite[conformations.rows(i)].all()}


def _is_minima(conformations: ConformationSet) -> bool:
    """Tell whether these are the ends of optimizations by an oracle."""
    names = conformations.values.keys()
    return {"stop_reason", "energy"} <= names and "nnp_energy_last" not in names and "force" in conformations.atoms


def _in_ev(value: float) -> str:
    """Convert hartree to eV with the digits from which the value can be restored to the last bit."""
    return str(_DIGITS.multiply(Decimal(value), _EV)) if value else repr(value)


@contextmanager
def new_database(path: str | Path) -> Iterator[Database]:
    """Yield an empty ASE database, which replaces `path` when the block ends without an error."""
    with (
        written_whole(path) as temporary,
        ase.db.connect(temporary, type="db", append=False, use_lock_file=False) as database,
    ):
        yield database


def write_rows(database: Database, conformations: ConformationSet) -> None:
    """Append conformations to an ASE database: labels in eV and eV/angstrom, as of an ASE calculator.

    Names, level of theory, charge and results of a relaxation are keys, or are in the data of a row where ASE does not
    take them as keys. The data have the label in hartree as well (`golf.io.databases.EXACT`).
    """
    labelled = _labelled(conformations)
    for i in range(len(conformations)):
        rows = conformations.rows(i)
        atoms = Atoms(numbers=conformations.number[rows], positions=conformations.position[rows])
        charge, multiplicity = int(conformations.charge[i]), int(conformations.multiplicity[i])
        data: dict[str, Any] = {}
        if i in labelled:
            energy, forces = float(conformations.values["energy"][i]), conformations.atoms["force"][rows]
            atoms.calc = SinglePointCalculator(atoms, energy=energy * HARTREE_IN_EV, forces=forces * HARTREE_IN_EV)
            data[EXACT] = {"energy": energy, "forces": forces}
        texts = {**_names(conformations, i), **(_origin(conformations) if i in labelled else {})}
        texts |= {key: value for key, value in results_of(conformations, i).items() if value.strip()}
        texts |= {INPUT + key: value for key, value in _given(conformations, i).items()}
        keys: dict[str, Any] = {"total_charge": charge, "multiplicity": multiplicity}
        for key, text in texts.items():
            where, value = (keys, _value(text)) if _is_key(key, text) else (data, text)
            where[key] = value
        database.write(atoms, keys, data)


_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")


def _is_key(key: str, text: str) -> bool:
    """Tell whether ASE takes a text as the value of a key: not if it looks like a number or a truth value."""
    if key in OWN_NAMES and _NUMBER.fullmatch(text):
        return True
    looks_like = text.strip().lower() in ("true", "false", "nan", "inf", "-inf", "infinity") or _is_float(text)
    return re.fullmatch(r"[_a-zA-Z]\w*", key) is not None and not key.startswith(INPUT) and not looks_like


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value(text: str) -> str | float:
    return float(text) if _NUMBER.fullmatch(text) else text


def not_kept(conformations: ConformationSet, suffix: str) -> list[str]:
    """Return what a file with this suffix does not keep of conformations: names of columns, and descriptions."""
    if suffix == ".h5":
        return []
    kept = {"energy", "status", "message", PROPERTIES, *RESULTS}
    empty: dict[str, Any] = {name: getattr(NO_LABEL, name) for name in LABEL_COLUMNS if name not in kept}
    lost = [
        name
        for name, column in conformations.values.items()
        if name not in kept
        and not (name == "n_force_evaluations" and _is_minima(conformations))
        and not (name in empty and all(value == empty[name] for value in column))
    ]
    kept_atoms = () if suffix == ".sdf" else ("force",) if suffix == ".db" else ("force", "nnp_force")
    lost += [
        name for name, column in conformations.atoms.items() if name not in kept_atoms and np.isfinite(column).any()
    ]
    if suffix == ".sdf":
        lost.append("positions beyond 4 decimals")
    status, message = (conformations.values.get(name) for name in ("status", "message"))
    if message is not None and any(message[labelled_indices(conformations)]):
        lost.append("message")
    if status is not None and ((status != Status.OK) & (status != Status.NOT_COMPUTED)).any():
        lost.append("why conformations have no label")
    if conformations.frames is not None:
        lost.append("frames")
    return lost + [f"attribute {name}" for name in conformations.attrs if name not in (*ORIGIN_ATTRS, *STAMP)]


class _Quoted(str):
    """A text that ASE's writer puts in quotes; by itself it quotes only text with blanks or brackets."""

    def __contains__(self, part: object) -> bool:
        return True


def _one_line(value: str) -> str:
    """Prepare text for a comment line: ASE reads a backslash as an escape, and any space as the end of a value."""
    text = re.sub(r"\s*[\r\n]\s*", " ", value).replace("\\", "\\\\")
    return _Quoted(text) if re.search(r"[^\S ]", text) else text


def _names(conformations: ConformationSet, i: int) -> dict[str, str]:
    names = {"name": conformations.id[i], "molecule": conformations.molecule[i]}
    return names | {"mapped_smiles": conformations.mapped_smiles[i]}


def _origin(conformations: ConformationSet) -> dict[str, str]:
    """Return the level of theory and the version of the program as text; keywords only if there are any."""
    stated = {name: str(conformations.attrs[name]) for name in ORIGIN_ATTRS if name in conformations.attrs}
    return {name: text for name, text in stated.items() if (name, text) != ("keywords", "{}")}


def _prediction(conformations: ConformationSet, i: int) -> tuple[float, NDArray[np.float64]] | None:
    """Return the energy (eV) and the forces (eV/angstrom) that a network predicts for the end of a relaxation."""
    if "nnp_energy_last" not in conformations.values or "nnp_force" not in conformations.atoms:
        return None
    energy = float(conformations.values["nnp_energy_last"][i]) * HARTREE_IN_EV
    return energy, conformations.atoms["nnp_force"][conformations.rows(i)] * HARTREE_IN_EV


def _given(conformations: ConformationSet, i: int) -> dict[str, str]:
    """Return the properties of the record that a conformation comes from."""
    return json.loads(conformations.values[PROPERTIES][i] or "{}") if PROPERTIES in conformations.values else {}


def results_of(conformations: ConformationSet, i: int) -> dict[str, str]:
    """Return the results of a relaxation, as far as there are any, under the names `golf.io.records.OWN_NAMES`."""
    values = {name: column[i] for name, column in conformations.values.items() if name in RESULTS}
    own = {}
    minima = _is_minima(conformations)
    if minima or "nnp_energy_last" in values:
        energy = conformations.values["energy" if minima else "nnp_energy_last"][i]
        own["energy_hartree"] = f"{energy:.8f}"
    if "relative_energy" in values:
        own["relative_energy_kcal_mol"] = f"{values['relative_energy'] * HARTREE_IN_KCAL_PER_MOL:.4f}"
    if "largest_force" in values:
        own["largest_force_kcal_mol_angstrom"] = f"{values['largest_force'] * HARTREE_IN_KCAL_PER_MOL:.4f}"
    if "stop_reason" in values:
        own["stop_reason"] = StopReason(values["stop_reason"]).name.lower()
    if "n_steps" in values:
        own["n_steps"] = str(values["n_steps"])
    if minima and "n_force_evaluations" in conformations.values:
        own["n_gradients"] = str(conformations.values["n_force_evaluations"][i])
    if values.get("left_saddle_point", False):
        own["left_saddle_point"] = "yes"
    remarks = {name: str(values[name]) for name in ("changed_molecule", "unlike_training") if name in values}
    found = own | _of_search(conformations, i) | _vibrations(conformations.values, i)
    return found | {name: remark for name, remark in remarks.items() if remark}


def _vibrations(values: Mapping[str, NDArray], i: int) -> dict[str, str]:
    """Return what is known of the vibrations at the end of a relaxation."""
    if "n_imaginary" not in values or values["n_imaginary"][i] < 0:
        return {}
    numbers = {
        "lowest_frequency_per_cm": ("lowest_frequency", "{:.2f}"),
        "free_energy_hartree": ("free_energy", "{:.8f}"),
        "boltzmann_weight": ("boltzmann_weight", "{:.6f}"),
    }
    counts = {name: str(values[name][i]) for name in ("n_imaginary", "n_kicks")}
    known = {key: (values[name][i], form) for key, (name, form) in numbers.items() if name in values}
    return counts | {key: form.format(value) for key, (value, form) in known.items() if np.isfinite(value)}


def _of_search(relaxed: ConformationSet, i: int) -> dict[str, str]:
    """Return the results of a search for conformers, if there was one."""
    values, found = relaxed.values, {}
    if "strain_energy" in values and np.isfinite(values["strain_energy"][i]):
        found["strain_energy_kcal_mol"] = f"{values['strain_energy'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}"
    if "n_conformers" in values:
        found["n_conformers"] = str(values["n_conformers"][i])
    return found
