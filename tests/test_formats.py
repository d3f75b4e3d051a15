"""Data sets of others as sources of a study: nablaDFT, SPICE, extended XYZ; what is wrong with one is one line."""

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from golf.chemistry import mapped_smiles
from golf.cli import main
from golf.conformations import Status
from golf.datasets import prepare
from golf.elements import MMFF_NUMBERS
from golf.errors import UserError
from golf.extxyz import read_extxyz
from golf.formats import LEVELS, NABLADFT, SPICE, count_conformations, format_of
from golf.hdf5 import read, write
from golf.inspection import describe
from golf.merging import merge
from golf.oracles.base import LevelOfTheory
from golf.planning import Source, size
from golf.plausibility import check_labels
from golf.sources import read_conformations
from golf.spice import ATOM_ENERGIES, read_spice
from golf.structures import read_structures

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULTS = {
    "test": None, "format": "auto", "subsets": [], "relabel": [], "download": [], "smiles_column": "smiles",
    "name_column": "name", "conformers": 3, "test_molecules": [], "test_conformers": 1, "prune_rmsd": 0.0,
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


@pytest.fixture(scope="module")
def labelled():
    """Real conformations of three molecules, four each, with DFT labels at nablaDFT's level."""
    pool = read(REPOSITORY / "data/initial.h5")
    good = [i for i in range(len(pool)) if pool.values["status"][i] == Status.OK]
    rows = [[i for i in good if pool.molecule[i] == name][:4] for name in sorted(set(pool.molecule))[:3]]
    return pool.subset(np.concatenate(rows))


# ------------------------------------------------------------------------------------------------------------ nablaDFT


def test_nabladft_labels_are_used_at_their_level(reference_data, tmp_path):
    path = reference_data / "data/nabladft_sample.db"
    chosen = {"test_molecules": ["79947", "87045"]}
    dataset = prepared(path, LEVELS[NABLADFT], **chosen)
    assert size(source(path, **chosen), LEVELS[NABLADFT]).initial_labels == 0
    assert len(dataset.train) == 58 and sorted(dataset.test.molecule) == ["79947", "87045"]
    with ase.db.connect(path) as database:
        row = next(row for row in database.select() if f"{row.moses_id}/{row.conformation_id}" == dataset.train.id[0])
        atoms = np.array(database.metadata["atomrefs"]["energy"])
    assert dataset.train.values["energy"][0] == pytest.approx(
        row.data["energy"][0] + atoms[row.numbers].sum(), abs=1e-9
    )
    np.testing.assert_array_equal(dataset.train.atoms["force"][dataset.train.rows(0)], row.data["forces"])
    write(tmp_path / "train.h5", dataset.train)
    merge(tmp_path / "train.h5", [], tmp_path / "labels.h5", max_force_norm=1.0)
    labels = read(tmp_path / "labels.h5")
    assert (labels.values["status"] == Status.OK).any() and LEVELS[NABLADFT].matches(labels.attrs)
    assert labels.attrs["program_version"] == "1.5"


def test_nabladft_of_another_level_is_refused_or_labelled_anew(reference_data):
    path = reference_data / "data/nabladft_sample.db"
    with pytest.raises(
        UserError, match=r"labels are wb97x-d/def2-svp .*configured oracle is hf/sto-3g .*dataset\.relabel"
    ):
        prepared(path, OTHER, test_molecules=["79947"])
    dataset = prepared(path, OTHER, test_molecules=["79947"], relabel=["wB97X-D/def2-SVP"])
    assert (dataset.train.values["status"] == Status.NOT_COMPUTED).all()
    assert np.isnan(dataset.train.values["energy"]).all() and "method" not in dataset.train.attrs


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"energy": Hartree}, r"energies are 1\.\d+ times those of the atoms, .*not in the unit that is stated"),
        ({"forces": -1.0}, r"forces point against those of MMFF \(mean cosine -0\.9\d over 10 .*they are gradients"),
    ],
)
def test_nabladft_in_electronvolt_or_with_gradients_is_refused(reference_data, tmp_path, scale, message):
    with (
        ase.db.connect(reference_data / "data/nabladft_sample.db") as given,
        ase.db.connect(tmp_path / "wrong.db") as database,
    ):
        database.metadata = given.metadata
        for row in given.select(limit=10):
            data = {name: np.array(values) * scale.get(name, 1.0) for name, values in row.data.items()}
            database.write(row.toatoms(), data=data, **row.key_value_pairs)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "wrong.db", LEVELS[NABLADFT])


def test_nabladft_may_have_total_energies(reference_data, tmp_path):
    sample = reference_data / "data/nabladft_sample.db"
    with ase.db.connect(sample) as given, ase.db.connect(tmp_path / "total.db") as database:
        database.metadata = given.metadata
        atoms = np.array(given.metadata["atomrefs"]["energy"])
        for row in given.select(limit=5):
            data = dict(row.data) | {"energy": np.ravel(row.data["energy"]) + atoms[row.numbers].sum()}
            database.write(row.toatoms(), data=data, **row.key_value_pairs)
    total, formation = read_conformations(tmp_path / "total.db", NABLADFT)[0], read_conformations(sample, NABLADFT)[0]
    np.testing.assert_allclose(total.values["energy"], formation.values["energy"][:5], rtol=1e-12)


# --------------------------------------------------------------------------------------------------------------- SPICE


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


@pytest.fixture
def spice_file(labelled, tmp_path):
    """A function that writes the labelled conformations as SPICE, and a charged molecule."""

    def write_file(version=2, name="SPICE.hdf5"):
        with h5py.File(tmp_path / name, "w") as file:
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
        return tmp_path / name

    return write_file


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


@pytest.mark.parametrize("version", [1, 2])
def test_spice_in_our_units(spice_file, labelled, version, caplog):
    path = spice_file(version)
    assert format_of(path) == SPICE
    with caplog.at_level(logging.WARNING):
        conformations, left_out = read_spice(path)
    assert not left_out and ("single precision" in caplog.text) == (version == 1)
    ours = {
        (name, i): row for row, (name, i) in enumerate(map(str.split, conformations.id, ["/"] * len(conformations)))
    }
    assert LEVELS[SPICE].matches(conformations.attrs) and (conformations.values["status"] == Status.OK).all()
    for i, molecule in enumerate(labelled.molecule):
        k = labelled.molecule[:i].count(molecule)
        row = ours[molecule, f"{k:04d}"]
        mine, theirs = conformations.rows(row), labelled.rows(i)
        np.testing.assert_allclose(conformations.position[mine], labelled.position[theirs], atol=1e-6)
        np.testing.assert_allclose(conformations.atoms["force"][mine], labelled.atoms["force"][theirs], atol=1e-6)
        energy = labelled.values["energy"][i]
        assert conformations.values["energy"][row] == pytest.approx(energy, abs=1e-9 if version == 2 else 1e-4)
    anion = ours["acetate", "0000"]
    assert conformations.charge[anion] == -1 and conformations.number[conformations.rows(anion)].tolist()[1] == 6


def test_spice_as_a_study(spice_file, tmp_path):
    path = spice_file()
    everything = prepared(path, LEVELS[SPICE])
    assert "acetate" in everything.train.molecule and size(source(path), LEVELS[SPICE]).initial_labels == 0
    subset = ["SPICE PubChem Set 1 Single Points Dataset v1.2"]
    part = prepared(path, LevelOfTheory("psi4", "wB97M-D3(BJ)", "def2-TZVPPD"), subsets=subset)
    assert "acetate" not in part.train.molecule and len(part.train) == 9 and len(part.test) == 3
    assert sum(count_conformations(path, SPICE, subset).values()) == 12
    with pytest.raises(UserError, match=r"dataset\.subsets: 'PubChem' is not in the file; it has SPICE Ions"):
        prepared(path, LEVELS[SPICE], subsets=["PubChem"])
    with pytest.raises(UserError, match=r"labels are wb97m-d3bj/def2-tzvppd .*configured oracle is hf/sto-3g"):
        prepared(path, OTHER)
    anew = prepared(path, OTHER, relabel=["wb97m-d3bj/def2-tzvppd"])
    assert (anew.train.values["status"] == Status.NOT_COMPUTED).all()


def test_what_cannot_be_studied_is_left_out_with_its_reason(spice_file):
    path = spice_file()
    with h5py.File(path, "r+") as file:
        pair = [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
        far, near = ([[0.0, 0.0, 0.0], [0.0, 0.0, z], [0.0, 0.96, 0.0]] for z in (3.0, 0.96))
        zeros, water = [np.zeros((2, 3))], "[O:1]([H:2])[H:3]"
        spice_group(file, "ions", "[F-:1].[F-:2]", [9, 9], [pair], [-199.6], zeros)
        spice_group(file, "radical", "[O:1][H:2]", [8, 1], [[[0, 0, 0], [0, 0, 0.97]]], [-75.7], zeros)
        spice_group(file, "stretched", water, [8, 1, 1], [far, near], [-76.4] * 2, np.zeros((2, 3, 3)))
        spice_group(file, "empty", water, [8, 1, 1], np.zeros((0, 3, 3)), [], np.zeros((0, 3, 3)))
    dataset = prepared(path, LEVELS[SPICE], max_left_out=0.5)
    reasons = {out.name: out.reason for out in dataset.left_out}
    assert set(reasons) == {"ions", "radical", "stretched/0000", "empty"}
    assert "disconnected" in reasons["ions"] and "radical" in reasons["radical"]
    assert "are 3.00 angstrom apart" in reasons["stretched/0000"] and "no conformations" in reasons["empty"]
    with pytest.raises(UserError, match=r"3 of 17 conformations cannot be used, more than dataset\.max_left_out 0\.1"):
        prepared(path, LEVELS[SPICE], max_left_out=0.1)


def change(path, key, edit):
    with h5py.File(path, "r+") as file:
        for group in file.values():
            data, attrs = group[key][()], dict(group[key].attrs)
            del group[key]
            group.create_dataset(key, data=edit(data)).attrs.update(attrs)


def other_units(path, key, units):
    with h5py.File(path, "r+") as file:
        for group in file.values():
            group[key].attrs["units"] = units


def without(path, key, rename=None):
    with h5py.File(path, "r+") as file:
        for group in file.values():
            if rename:
                group.move(key, rename)
            else:
                del group[key]


def stated(path, **level):
    with h5py.File(path, "r+") as file:
        file.attrs.update(level)


def swapped(data):
    data[[0, -1]] = data[[-1, 0]]
    return data


WRONG_SPICE = {
    r"smiles does not fit atomic_numbers": lambda path: change(path, "atomic_numbers", swapped),
    r"max_left_out .*bonded in its SMILES, are .* angstrom apart": lambda path: change(
        path, "conformations", lambda x: x * Bohr
    ),
    r"they are gradients": lambda path: change(path, "dft_total_gradient", np.negative),
    r"they are in eV": lambda path: [
        change(path, "dft_total_energy", lambda e: e * Hartree), without(path, "formation_energy")
    ],
    r"of another level of theory, or not in hartree": lambda path: change(
        path, "dft_total_energy", lambda e: e * Hartree
    ),
    r"they are formation energies": lambda path: [
        without(path, "dft_total_energy"), without(path, "formation_energy", "dft_total_energy")
    ],
    r"has no dataset dft_total_energy \(it has formation_energy, which": lambda path: without(path, "dft_total_energy"),
    r"has no dataset dft_total_gradient \(it has forces, which": lambda path: without(
        path, "dft_total_gradient", "forces"
    ),
    r"has no dataset smiles of text": lambda path: without(path, "smiles"),
    r"conformations is in angstrom, in SPICE it is in bohr": lambda path: other_units(
        path, "conformations", "angstrom"
    ),
    r"dft_total_energy is in eV, in SPICE it is in hartree": lambda path: other_units(path, "dft_total_energy", "eV"),
    r"shapes do not fit together": lambda path: change(path, "dft_total_gradient", lambda g: g[:, :-1]),
    r"labels are b3lyp-d3bj/dzvp, those of SPICE wb97m-d3bj/def2-tzvppd": lambda path: stated(
        path, method="B3LYP-D3BJ", basis="DZVP"
    ),
    r"not a readable (HDF5|SPICE) file": lambda path: path.write_bytes(path.read_bytes()[:-3000]),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG_SPICE)
def test_wrong_spice_files_are_refused(spice_file, message):
    path = spice_file()
    WRONG_SPICE[message](path)
    with pytest.raises(UserError, match=message) as caught:
        prepared(path, LEVELS[SPICE], format="spice")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_level_shows_in_the_atoms_of_spice(spice_file):
    """Energies of B3LYP atoms: carbon is 0.03 hartree higher."""
    path = spice_file()
    change(path, "dft_total_energy", lambda e: e + 0.03)
    with pytest.raises(UserError, match="is 0.03 hartree off the atoms of wb97m-d3bj/def2-tzvppd"):
        prepared(path, LEVELS[SPICE])


# --------------------------------------------------------------------------------------------------------- extended XYZ


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


def test_extended_xyz_with_labels(labelled, tmp_path):
    path = written(tmp_path, frames(labelled, **LEVEL_KEYS))
    assert size(source(path), LEVELS[NABLADFT]).initial_labels == 0
    dataset = prepared(path, LEVELS[NABLADFT])
    assert len(dataset.train) == 9 and len(dataset.test) == 3 and set(dataset.train.molecule) == set(labelled.molecule)
    first = dataset.train.subset([0])
    i = next(i for i in range(len(labelled)) if np.allclose(labelled.position[labelled.rows(i)], first.position))
    assert first.values["energy"][0] == pytest.approx(labelled.values["energy"][i], rel=2e-8)  # ASE's eV is of 2014
    np.testing.assert_allclose(first.atoms["force"], labelled.atoms["force"][labelled.rows(i)], atol=1e-7)


def test_extended_xyz_in_atomic_units_and_without_names(labelled, tmp_path):
    def atomic(atoms):
        results = {"energy": atoms.calc.results["energy"] / Hartree, "forces": atoms.calc.results["forces"]}
        atoms.calc = SinglePointCalculator(atoms, energy=results["energy"], forces=results["forces"] / Hartree * Bohr)
        del atoms.info["name"], atoms.info["mapped_smiles"]
        return atoms

    units = {"energy_unit": "hartree", "forces_unit": "hartree/bohr"}
    path = written(tmp_path, map(atomic, frames(labelled, **LEVEL_KEYS, **units)))
    dataset = prepared(path, LEVELS[NABLADFT])
    smiles = {Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(Chem.MolFromSmiles(s)))) for s in labelled.mapped_smiles}
    assert len({*dataset.train.molecule}) == len(smiles) == 3 and len(dataset.test) == 3
    total = np.sort(np.concatenate([dataset.train.values["energy"], dataset.test.values["energy"]]))
    np.testing.assert_allclose(total, np.sort(labelled.values["energy"]), atol=1e-7)
    norms = [np.sort(np.linalg.norm(part.atoms["force"], axis=1)) for part in (dataset.train, dataset.test)]
    np.testing.assert_allclose(
        np.sort(np.concatenate(norms)), np.sort(np.linalg.norm(labelled.atoms["force"], axis=1)), atol=1e-7
    )


def test_frames_without_labels_are_computed(labelled, tmp_path):
    mixed = list(frames(labelled, **LEVEL_KEYS))
    for atoms in mixed[::2]:
        atoms.calc = None
    dataset = prepared(written(tmp_path, mixed), LEVELS[NABLADFT])
    assert 0 < (dataset.train.values["status"] == Status.NOT_COMPUTED).sum() < len(dataset.train)


def test_labels_of_an_unknown_level_are_refused_or_labelled_anew(labelled, tmp_path):
    path = written(tmp_path, frames(labelled))
    with pytest.raises(
        UserError, match=r"labels are unknown \(the file does not say\), .*name 'unknown' in dataset\.relabel"
    ):
        prepared(path, LEVELS[NABLADFT])
    dataset = prepared(path, LEVELS[NABLADFT], relabel=["unknown"])
    assert (dataset.train.values["status"] == Status.NOT_COMPUTED).all()


def gradients(atoms):
    atoms.arrays["gradient"] = -atoms.calc.results["forces"]
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.calc.results["energy"])


def renamed(atoms):
    atoms.arrays["REF_forces"] = atoms.calc.results["forces"]
    atoms.info["REF_energy"] = atoms.calc.results["energy"]
    atoms.calc = None


def scaled(energy, forces=1.0):
    def edit(atoms):
        results = atoms.calc.results
        atoms.calc = SinglePointCalculator(atoms, energy=results["energy"] * energy, forces=results["forces"] * forces)

    return edit


def info(**keys):
    return lambda atoms: atoms.info.update(keys)


def unmapped(smiles):
    def edit(atoms):
        del atoms.info["mapped_smiles"]
        atoms.info["smiles"] = smiles

    return edit


WRONG_XYZ = {
    r"frame 1: has gradient, not forces": gradients,
    r"they are gradients": scaled(1.0, -1.0),
    r"frame 1: has REF_forces; give the label as energy and forces": renamed,
    r"energies are in hartree where eV are expected": scaled(1 / Hartree, 1 / Hartree),
    r"they are in eV": lambda atoms: [atoms.info.update(energy_unit="hartree")],
    r"they are formation energies": scaled(0.005),
    r"energy_unit 'erg' is unknown; give one of ev, hartree": info(energy_unit="erg"),
    r"frame 1: its atoms are not in the order of its SMILES": unmapped("FC(F)(F)F"),
    r"frame 1: RDKit cannot parse its SMILES": unmapped("C1CC"),
    r"frame 1: charge is 1, that of its SMILES 0": info(charge=1),
    r"frame 5: 'training' stands already for another molecule": info(name="training"),
    r"frame 1: mapped SMILES .* cannot be parsed": info(mapped_smiles="[C:1"),
}


@pytest.mark.parametrize("message", WRONG_XYZ)
def test_wrong_extended_xyz_is_refused(labelled, tmp_path, message):
    atoms = list(frames(labelled, **LEVEL_KEYS))
    for one in atoms:
        WRONG_XYZ[message](one)
    with pytest.raises(UserError, match=message) as caught:
        prepared(written(tmp_path, atoms), LEVELS[NABLADFT])
    assert "data.extxyz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_or_mixed_extended_xyz_is_refused(labelled, tmp_path):
    atoms = list(frames(labelled, **LEVEL_KEYS))
    atoms[2].info["method"] = "b3lyp"
    with pytest.raises(UserError, match=r"frame 3: its label is of level .*b3lyp.*split the file"):
        prepared(written(tmp_path, atoms), LEVELS[NABLADFT])
    path = written(tmp_path, frames(labelled, **LEVEL_KEYS))
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    with pytest.raises(UserError, match=r"frame 12: has fewer than \d+ atoms; the file is truncated"):
        size(source(path), LEVELS[NABLADFT])
    with pytest.raises(UserError, match=r"cannot be read as extended XYZ \(truncated"):
        read_structures(path)


# ------------------------------------------------------------------------------------------------------------ all of it


def test_each_set_has_its_own_format(reference_data, labelled, tmp_path):
    """Training data in a database, test data as SMILES or with DFT minima."""
    database = reference_data / "data/nabladft_sample.db"
    (tmp_path / "test.smi").write_text("CCO ethanol\nCCN ethylamine\n")
    dataset = prepared(database, LEVELS[NABLADFT], test=str(tmp_path / "test.smi"), test_conformers=2)
    assert len(dataset.train) == 60 and dataset.test.molecule == ["ethanol"] * 2 + ["ethylamine"] * 2
    dataset = prepared(database, LEVELS[NABLADFT], test=str(written(tmp_path, frames(labelled))), relabel=["unknown"])
    assert len(dataset.test) == 12 and len(dataset.reference) == 0
    dataset = prepared(database, LEVELS[NABLADFT], test=str(REPOSITORY / "data/test.h5"))
    assert len(dataset.reference) == len(dataset.test)


def test_minima_of_another_level_are_dropped_and_their_starts_kept():
    level = LevelOfTheory("psi4", "hf", "sto-3g")
    path = REPOSITORY / "data/test.h5"
    chosen = {"test": str(path), "relabel": ["wb97x-d/def2-svp"]}
    dataset = prepared(REPOSITORY / "data/initial.h5", level, **chosen)
    assert len(dataset.reference) == 0 and len(dataset.test) == len(read(path))
    np.testing.assert_array_equal(dataset.test.position, read(path).atoms["initial_position"])


def test_unknown_formats_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"dataset\.train: .*a\.npz: unknown suffix '\.npz'; give one of \.smi"):
        size(source(tmp_path / "a.npz"), OTHER)
    (tmp_path / "text.db").write_text("not a database\n" * 100)
    with pytest.raises(UserError, match=r"text\.db: not an ASE database"):
        size(source(tmp_path / "text.db"), OTHER)
    with pytest.raises(UserError, match=r"dataset\.subsets is for SPICE files"):
        prepare(source(REPOSITORY / "data/initial.h5", subsets=["x"]), OTHER, elements=MMFF_NUMBERS, seed=1)


def test_the_command_line_reads_and_describes_them(spice_file, reference_data, labelled, tmp_path, capsys):
    path = spice_file()
    assert len(read_structures(path)) == 13
    text = describe(path)
    assert "13 of 4 molecules" in text and "wb97m-d3bj/def2-tzvppd (psi4)" in text and "Dataset v1.2: 12 of 3" in text
    assert main(["inspect", str(reference_data / "data/nabladft_sample.db")]) == 0
    shown = capsys.readouterr().out
    assert "60 of 60 molecules" in shown and "wb97x-d/def2-svp (psi4 1.5)" in shown
    assert "12 of 3 molecules" in describe(written(tmp_path, frames(labelled, **LEVEL_KEYS)))
    with ase.db.connect(tmp_path / "plain.db") as database:
        for atoms in frames(labelled.subset([0, 1])):
            database.write(Atoms(atoms.numbers, atoms.positions))
    assert len(read_structures(tmp_path / "plain.db")) == 2


def test_the_plan_needs_neither_rdkit_nor_ase(spice_file, reference_data, tmp_path):
    shutil.copy(reference_data / "data/nabladft_sample.db", tmp_path / "a.db")
    code = (
        "import sys; from golf.formats import *; from golf.planning import size\n"
        f"print(sum(count_conformations({str(spice_file())!r}, SPICE).values()),"
        f" sum(count_conformations({str(tmp_path / 'a.db')!r}, NABLADFT).values()),"
        " {'torch', 'rdkit', 'ase'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.strip() == "13 60 set()"


def test_a_frame_with_nan_for_an_energy_is_to_be_computed(labelled, tmp_path):
    path = written(tmp_path, frames(labelled, **LEVEL_KEYS))
    lines = path.read_text().splitlines()
    k = next(i for i, line in enumerate(lines) if "energy=" in line)
    lines[k] = re.sub(r"(?<!\w)energy=\S+", "energy=nan", lines[k])
    path.write_text("\n".join(lines) + "\n")
    assert size(source(path), LEVELS[NABLADFT]).initial_labels == 1


def test_isomers_under_one_name_are_refused(tmp_path):
    both = []
    for smiles in ("CCO", "COC"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        rdDistGeom.EmbedMolecule(mol, randomSeed=1)
        atoms = Atoms([atom.GetAtomicNum() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions())
        atoms.info = {"smiles": smiles, "molecule": "isomer"}
        both.append(atoms)
    with pytest.raises(UserError, match="frame 2: 'isomer' stands already for another molecule"):
        read_extxyz(written(tmp_path, both))


def test_energies_of_valence_electrons_alone_are_no_mistake_of_units(labelled):
    """GFN2-xTB has some 5 hartree for methanol, where DFT has 115."""
    scaled = labelled.with_columns(values={"energy": labelled.values["energy"] / 27.2}, program="ase")
    check_labels(scaled, "xtb.h5")
    with pytest.raises(UserError, match="energies are"):
        check_labels(scaled.with_columns(program="psi4"), "dft.h5")
