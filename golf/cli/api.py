"""The functions of the package: `golf.load` and `golf.relax`, which do what the command `golf relax` does.

They are a front end like the command and share its code and its defaults, some of which are those of a study. So they
are in this room, the only one that may import both the engine and the study.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rdkit import Chem

from golf.chem.molecules import canonical_smiles, molecule
from golf.chem.usable import LeftOut
from golf.cli.options import check_input
from golf.cli.relax import add_relax, checked_optimizer, relaxed_library
from golf.cli.relax_options import checked_search
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.core.processors import usable_processors
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.formats import EXTXYZ, GOLF, SDF, SMILES, format_of
from golf.io.objects import PLACE, Molecules, pieces_of_objects
from golf.io.write import results_of
from golf.potentials.load import LoadedPotential, load_potential

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Relaxed:
    """Relaxed conformations, in the order of the input.

    Attributes:
        conformations: the ends, with the columns of an .h5 file of `golf relax`.
        left_out: records that could not be used, with the reason.
    """

    conformations: ConformationSet
    left_out: list[LeftOut]

    def __len__(self) -> int:
        return len(self.conformations)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each conformation: names, SMILES, energies, and how its relaxation ended."""
        import pandas as pd

        part = self.conformations
        values = part.values
        columns: dict[str, Any] = {
            "id": part.id,
            "molecule": part.molecule,
            "smiles": list(map(canonical_smiles, part.mapped_smiles)),
            "charge": part.charge.astype(int),
            "n_atoms": part.n_atoms,
            "energy_hartree": values["nnp_energy_last"],
            "relative_energy_kcal_mol": values["relative_energy"] * HARTREE_IN_KCAL_PER_MOL,
            "largest_force_kcal_mol_angstrom": values["largest_force"] * HARTREE_IN_KCAL_PER_MOL,
            "stop_reason": [StopReason(reason).name.lower() for reason in values["stop_reason"]],
            "n_steps": values["n_steps"].astype(int),
        }
        further = {
            "strain_energy": ("strain_energy_kcal_mol", HARTREE_IN_KCAL_PER_MOL),
            "n_imaginary": ("n_imaginary", 1),
            "lowest_frequency": ("lowest_frequency_per_cm", 1.0),
            "free_energy": ("free_energy_hartree", 1.0),
            "boltzmann_weight": ("boltzmann_weight", 1.0),
        }
        columns |= {title: values[name] * unit for name, (title, unit) in further.items() if name in values}
        remarks = [name for name in ("left_saddle_point", "changed_molecule", "unlike_training") if name in values]
        return pd.DataFrame(columns | {name: values[name] for name in remarks})

    def to_rdkit(self) -> list[Chem.Mol]:
        """Return a molecule with one conformer for each conformation, with the results as properties."""
        molecules = []
        for i, smiles in enumerate(self.conformations.mapped_smiles):
            mol = molecule(smiles, self.conformations.position[self.conformations.rows(i)])
            mol.SetProp("_Name", self.conformations.id[i])
            for name, text in results_of(self.conformations, i).items():
                mol.SetProp(name, text)
            molecules.append(mol)
        return molecules

    def to_ase(self) -> list[Atoms]:
        """Return atoms for each conformation, with energy (eV) and forces (eV/angstrom) as ASE's calculators give."""
        part, found = self.conformations, []
        for i, name in enumerate(part.id):
            rows = part.rows(i)
            atoms = Atoms(numbers=part.number[rows], positions=part.position[rows])
            charge, spin = int(part.charge[i]), int(part.multiplicity[i])
            atoms.info = {"name": name, "mapped_smiles": part.mapped_smiles[i], "charge": charge, "spin": spin}
            energy, forces = part.values["nnp_energy_last"][i], part.atoms["nnp_force"][rows]
            if np.isfinite(energy) and np.isfinite(forces).all():
                in_ev = {"energy": float(energy) * HARTREE_IN_EV, "forces": forces * HARTREE_IN_EV}
                atoms.calc = SinglePointCalculator(atoms, **in_ev)
            found.append(atoms)
        return found


def load(
    name: str | Path, *, device: str = "auto", cores: int | None = None, dtype: str = "float32"
) -> LoadedPotential:
    """Load a potential once, for several calls of `relax`; close it, or use it in a `with` statement.

    Args:
        name: as `golf relax -m` takes it: a model file, or a name that `golf models` lists.
        device: "auto" (cuda if available), "cpu" or "cuda".
        cores: cores to use; None: all available.
        dtype: precision of golf's own networks, "float32" or "float64".

    Raises:
        UserError: the name is unknown, a file is missing or wrong, or a package is missing.
    """
    return load_potential(name, device=device, cores=cores, dtype=dtype)


def relax(
    molecules: Molecules,
    potential: str | Path | LoadedPotential,
    *,
    device: str = "auto",
    cores: int | None = None,
    **options: Any,
) -> Relaxed:
    """Relax molecules with a potential: the command `golf relax`, with its engine, options and defaults.

    Args:
        molecules: SMILES, RDKit molecules or ASE atoms (one, a list, or a dictionary by name), a `ConformationSet`, or
            the `pathlib.Path` of a file. SMILES and molecules without a geometry are embedded.
        potential: from `load`, or its name or file.
        device: of the potential, if it is given by name.
        cores: of the embedding, and of the potential if it is given by name; None: all available.
        options: the other options of `golf relax` with underscores, for example `conformers=50, prune=0.5, window=6`,
            `stereo="all"`, `strain=True`, `max_steps=1000` or `optimizer="lbfgs"`.

    Raises:
        UserError: an argument is wrong, or no molecule can be relaxed; one that cannot be used is in `left_out`.
    """
    given = _options(options, cores)
    given.kind, given.input = _kind(molecules), molecules if isinstance(molecules, Path) else PLACE
    checked_search(given)
    check_input(given)
    checked_optimizer(given)
    ready = potential if isinstance(potential, LoadedPotential) else None
    with (
        nullcontext(ready) if ready is not None else load(potential, device=device, cores=cores) as provider,  # type: ignore[arg-type]
        tempfile.TemporaryDirectory(prefix="golf-") as folder,
    ):
        given.model, given.output, given.shown = provider.card.name, Path(folder) / "relaxed.h5", str(given.input)
        result = relaxed_library(given, provider, partial(pieces_of_objects, molecules), contents="", n_expected=None)
        return Relaxed(read(given.output), result.left_out)


def _options(given: dict[str, Any], cores: int | None) -> argparse.Namespace:
    """Return the options of the command with their defaults, and those that are given.

    Raises:
        UserError: an option is unknown, or not one of its choices.
    """
    parser = argparse.ArgumentParser()
    add_relax(parser.add_subparsers())
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    known = {action.dest: action for action in commands.choices["relax"]._actions if action.dest not in _NOT_OPTIONS}
    options = parser.parse_args(["relax", "IN", "-m", "MODEL", "-o", "OUT"])
    options.cores = usable_processors() if cores is None else cores
    for name, value in given.items():
        if name not in known:
            raise UserError(f"{name} is not an option of relax; give one of {', '.join(sorted(known))}")
        choices: Sequence[Any] | None = known[name].choices
        if choices is not None and value not in choices:
            raise UserError(f"{name} {value!r}: give one of {', '.join(map(str, choices))}")
        if value is not None:
            setattr(options, name, value)
    return options


_NOT_OPTIONS = ("help", "input", "format", "model", "output", "force", "device", "cores")
"""Arguments of the command that are arguments of `relax` itself, or have no meaning there."""


def _kind(given: Molecules) -> str:
    """Return the format of a file that would hold these molecules."""
    if isinstance(given, Path):
        return format_of(given)
    if isinstance(given, ConformationSet):
        return GOLF
    several: Any = given.values() if isinstance(given, dict) else [given] if isinstance(given, _ONE) else given
    if not isinstance(several, Sequence) and not hasattr(several, "__iter__"):
        raise UserError(f"{type(given).__name__} is not a molecule; give SMILES, RDKit molecules or ASE atoms")
    several = list(several)
    if several and all(isinstance(one, Atoms) for one in several):
        return EXTXYZ
    with_geometry = [isinstance(one, Chem.Mol) and any(c.Is3D() for c in one.GetConformers()) for one in several]
    return SDF if several and all(with_geometry) else SMILES


_ONE = (str, Chem.Mol, Atoms)
