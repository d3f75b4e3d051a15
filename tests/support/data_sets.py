"""Files of conformations as others write them: SPICE and extended XYZ, with real labels; data sets made of them."""

import ase.db
import ase.io
import h5py
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from golf.chem.molecules import mapped_smiles
from golf.core.conformations import Status
from golf.core.elements import MMFF_NUMBERS
from golf.core.hdf5 import read
from golf.core.level import LevelOfTheory
from golf.io.spice import ATOM_ENERGIES
from golf.study.dataset import prepare
from golf.study.plan import Source, size
from support import REPOSITORY

DEFAULTS = {
    "test": None, "format": "auto", "subsets": [], "relabel": [], "download": [], "smiles_column": "smiles",
    "name_column": "name", "conformers": 3, "test_molecules": [], "test_conformers": 1, "prune_rmsd": 0.0,
    "embed_timeout": 30.0,
    "max_left_out": 0.0,
}  # fmt: skip
OTHER = LevelOfTheory("psi4", "hf", "sto-3g")


def source(train, **changes):
    return Source(**(DEFAULTS | {"train": str(train)} | changes))


def prepared(train, level, **changes):
    """The data set, which has to keep within the sizes that the plan was made for."""
    chosen = source(train, **changes)
    dataset, bound = prepare(chosen, level, elements=MMFF_NUMBERS, seed=1), size(chosen, level)
    assert (dataset.train.values["status"] == Status.NOT_COMPUTED).sum() <= bound.initial_labels
    assert len(dataset.test) <= bound.test_conformations
    assert len(dataset.test) - len(dataset.reference) <= bound.references
    return dataset


def labelled_part():
    """Real conformations of three molecules, four each, with DFT labels at nablaDFT's level."""
    pool = read(REPOSITORY / "data/initial.h5")
    good = [i for i in range(len(pool)) if pool.values["status"][i] == Status.OK]
    rows = [[i for i in good if pool.molecule[i] == name][:4] for name in sorted(set(pool.molecule))[:3]]
    return pool.subset(np.concatenate(rows))


def spice_group(file, name, smiles, numbers, positions, energies, gradients, version=2, subset="PubChem Set 1"):
    """A molecule as the repository of SPICE writes it: version 1.0 has no units and single precision."""
    group = file.create_group(name)
    atoms = sum(ATOM_ENERGIES[number] for number in numbers)
    text = {"dtype": h5py.string_dtype()}
    group.create_dataset("subset", data=[f"SPICE {subset} Single Points Dataset v1.{version}"], **text)
    group.create_dataset("smiles", data=[smiles], **text)
    group.create_dataset("atomic_numbers", data=numbers, dtype=np.int16)
    precision = np.float32 if version == 1 else np.float64
    for key, data, dtype, unit in (
        ("conformations", np.array(positions) / Bohr, np.float32, "bohr"),
        ("formation_energy", np.array(energies) - atoms, precision, "hartree"),
        ("dft_total_energy", energies, precision, "hartree"),
        ("dft_total_gradient", np.array(gradients) * Bohr, np.float32, "hartree/bohr"),
    ):
        dataset = group.create_dataset(key, data=data, dtype=dtype)
        if version > 1:
            dataset.attrs["units"] = unit
    return group


def write_spice(path, labelled, version=2):
    """Labelled conformations as SPICE, and a charged molecule."""
    with h5py.File(path, "w") as file:
        for molecule in dict.fromkeys(labelled.molecule):
            rows = [i for i in range(len(labelled)) if labelled.molecule[i] == molecule]
            spice_group(
                file,
                molecule,
                labelled.mapped_smiles[rows[0]],
                labelled.number[labelled.rows(rows[0])].tolist(),
                [labelled.position[labelled.rows(i)] for i in rows],
                labelled.values["energy"][rows],
                [-labelled.atoms["force"][labelled.rows(i)] for i in rows],
                version,
            )
        acetate(file, version)
    return path


def acetate(file, version):
    """An anion whose atoms are in another order than RDKit's, with gradients of MMFF."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)[O-]"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=3)
    mol = Chem.RenumberAtoms(mol, [4, 0, 6, 2, 1, 5, 3])
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol))
    positions = mol.GetConformer().GetPositions()
    field.CalcEnergy(positions.ravel().tolist())
    gradient = np.array(field.CalcGrad(positions.ravel().tolist())).reshape(-1, 3) / 627.5
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    smiles = mapped_smiles(mol)
    spice_group(file, "acetate", smiles, numbers, [positions], [-228.5], [gradient], version, subset="Ions")


def frames(labelled, **info):
    """Conformations as ASE's atoms with their labels in eV and eV/angstrom."""
    for i, name in enumerate(labelled.id):
        rows = labelled.rows(i)
        atoms = Atoms(labelled.number[rows], labelled.position[rows])
        energy, forces = labelled.values["energy"][i] * Hartree, labelled.atoms["force"][rows] * Hartree
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        atoms.info = {"name": name, "mapped_smiles": labelled.mapped_smiles[i], **info}
        yield atoms


LEVEL_KEYS = {"program": "Psi4", "method": "wB97X-D", "basis": "def2-SVP"}


def written(tmp_path, atoms):
    ase.io.write(tmp_path / "data.extxyz", list(atoms), format="extxyz")
    return tmp_path / "data.extxyz"
