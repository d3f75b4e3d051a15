"""Write relaxed conformations to SDF and extended XYZ files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TextIO

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from golf.chem.molecules import molecule
from golf.chem.usable import PROPERTIES
from golf.core.conformations import ConformationSet, StopReason
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.extxyz import INPUT, PREDICTED
from golf.io.records import OWN_NAMES
from golf.io.sdf import record_text

OUTPUTS = (".h5", ".sdf", ".xyz", ".extxyz")
"""Suffixes of the files to which relaxed conformations can be written."""


def write_structures(stream: TextIO, suffix: str, relaxed: ConformationSet) -> None:
    """Append relaxed conformations, or minima of an oracle, to a .sdf, .xyz or .extxyz file.

    In .xyz and .extxyz, as in ASE, `energy` and `forces` are in eV and eV/angstrom; `charge` and `spin` (the
    multiplicity) are the keys that calculators read. `PREDICTED` marks energy and forces of a model as predictions;
    those of an oracle have its level of theory instead, and are read as labels. Results of the relaxation have their
    units in their names. Properties of the input are written as well, with the prefix `INPUT`: in .sdf where golf has a
    property of that name, in .xyz and .extxyz always, so that they are not confused with keys that have a meaning
    there.

    Args:
        suffix: one of `OUTPUTS` except .h5.
    """
    if not len(relaxed):  # without columns
        return
    predicted = "nnp_energy_last" in relaxed.values
    energies = relaxed.values["nnp_energy_last" if predicted else "energy"]
    source = {PREDICTED: "golf"} if predicted else _level(relaxed.attrs)
    for i, name in enumerate(relaxed.id):
        given, own = _given(relaxed, i), _own(relaxed, i)
        positions = relaxed.position[relaxed.rows(i)]
        if suffix == ".sdf":
            others = {f"{INPUT}{key}" if key in OWN_NAMES else key: value for key, value in given.items()}
            stream.write(record_text(molecule(relaxed.mapped_smiles[i], positions), name, others | own))
        else:
            atoms = Atoms(numbers=relaxed.number[relaxed.rows(i)], positions=positions)
            energy = float(energies[i]) * HARTREE_IN_EV
            texts = {"name": name, "mapped_smiles": relaxed.mapped_smiles[i], **own}
            texts |= {INPUT + re.sub(r'["=\s\\]', "_", key): value for key, value in given.items()}
            forces = relaxed.atoms["nnp_force" if predicted else "force"][relaxed.rows(i)] * HARTREE_IN_EV
            if np.isfinite(energy) and np.isfinite(forces).all():
                atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            charge, spin = int(relaxed.charge[i]), int(relaxed.multiplicity[i])
            atoms.info = {"energy_eV": energy, "charge": charge, "spin": spin, **source}
            atoms.info |= {
                key: _one_line(value) for key, value in texts.items() if value.strip()
            }  # ASE does not quote ""
            ase.io.write(stream, atoms, format="extxyz")


class _Quoted(str):
    """A text that ASE's writer puts in quotes; by itself it quotes only text with blanks or brackets."""

    def __contains__(self, part: object) -> bool:
        return True


def _one_line(value: str) -> str:
    """Prepare text for a comment line: ASE reads a backslash as an escape, and any space as the end of a value."""
    text = re.sub(r"\s*[\r\n]\s*", " ", value).replace("\\", "\\\\")
    return _Quoted(text) if re.search(r"[^\S ]", text) else text


def _given(relaxed: ConformationSet, i: int) -> dict[str, str]:
    """Return the properties of the record that a conformation comes from."""
    return json.loads(relaxed.values[PROPERTIES][i] or "{}") if PROPERTIES in relaxed.values else {}


def _level(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a frame that state a level of theory; none if it has keywords, which frames cannot state."""
    stated = {name: str(attrs[name]) for name in ("program", "method", "basis") if name in attrs}
    return stated if attrs.get("keywords", "{}") == "{}" else {}


def _own(relaxed: ConformationSet, i: int) -> dict[str, str]:
    """Return the results of the relaxation under the names `golf.io.records.OWN_NAMES`."""
    values = relaxed.values
    remarks = {name: str(values[name][i]) for name in ("changed_molecule", "unlike_training") if name in values}
    return {
        "energy_hartree": f"{values['nnp_energy_last' if 'nnp_energy_last' in values else 'energy'][i]:.8f}",
        "relative_energy_kcal_mol": f"{values['relative_energy'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "largest_force_kcal_mol_angstrom": f"{values['largest_force'][i] * HARTREE_IN_KCAL_PER_MOL:.4f}",
        "stop_reason": StopReason(values["stop_reason"][i]).name.lower(),
        "n_steps": str(values["n_steps"][i]),
        **({} if "nnp_energy_last" in values else {"n_gradients": str(values["n_force_evaluations"][i])}),
        **_of_search(relaxed, i),
        **({"left_saddle_point": "yes"} if "left_saddle_point" in values and values["left_saddle_point"][i] else {}),
        **_vibrations(values, i),
        **{name: remark for name, remark in remarks.items() if remark},
    }


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
