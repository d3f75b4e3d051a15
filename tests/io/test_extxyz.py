"""Extended XYZ files as sources of a study; what is wrong with one is one line."""

import gzip
import re

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.io.formats import LEVELS, NABLADFT
from golf.io.labelled import read_extxyz
from golf.io.read import read_structures
from golf.study.plan import size
from support.data_sets import (
    LEVEL_KEYS,
    frames,
    prepared,
    source,
    written,
)


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


def test_compressed_data_of_a_study(labelled, tmp_path):
    path = written(tmp_path, frames(labelled, **LEVEL_KEYS))
    compressed = path.with_name(f"{path.name}.gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    assert size(source(compressed), LEVELS[NABLADFT]) == size(source(path), LEVELS[NABLADFT])
    plain, packed = (prepared(one, LEVELS[NABLADFT]).train for one in (path, compressed))
    assert plain.id == packed.id and plain.values["energy"].tolist() == packed.values["energy"].tolist()


def test_frames_without_labels_are_computed(labelled, tmp_path):
    mixed = list(frames(labelled, **LEVEL_KEYS))
    for atoms in mixed[::2]:
        atoms.calc = None
    dataset = prepared(written(tmp_path, mixed), LEVELS[NABLADFT])
    assert 0 < (dataset.train.values["status"] == Status.NOT_COMPUTED).sum() < len(dataset.train)


def test_labels_of_an_unknown_level_are_refused_or_labelled_anew(labelled, tmp_path):
    path = written(tmp_path, frames(labelled))
    with pytest.raises(
        UserError, match=r"labels are unknown \(program not stated\), .*add 'unknown' to dataset\.relabel"
    ):
        prepared(path, LEVELS[NABLADFT])
    dataset = prepared(path, LEVELS[NABLADFT], relabel=["unknown"])
    assert (dataset.train.values["status"] == Status.NOT_COMPUTED).all()


def gradients(atoms):
    atoms.arrays["gradient"] = -atoms.calc.results["forces"]
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.calc.results["energy"])


def renamed(atoms):
    atoms.arrays["mace_forces"] = atoms.calc.results["forces"]
    atoms.info["mace_energy"] = atoms.calc.results["energy"]
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
    r"frame 1, line 1, .*: has gradient instead of forces": gradients,
    r"they are gradients": scaled(1.0, -1.0),
    r"frame 1, .*: has mace_forces; give the label as energy and forces": renamed,
    r"energies are in hartree instead of eV": scaled(1 / Hartree, 1 / Hartree),
    r"they are in eV": lambda atoms: [atoms.info.update(energy_unit="hartree")],
    r"they are formation energies": scaled(0.005),
    r"energy_unit 'erg' is unknown; give one of ev, hartree": info(energy_unit="erg"),
    r"frame 1, .*: its atoms are not in the order of its SMILES": unmapped("FC(F)(F)F"),
    r"frame 1, .*: RDKit cannot parse its SMILES": unmapped("C1CC"),
    r"frame 1, .*: charge is 1, but that of its SMILES is 0": info(charge=1),
    r"frame 5, .*: 'training' is already the name of another molecule": info(name="training"),
    r"frame 1, .*: mapped SMILES .* cannot be parsed": info(mapped_smiles="[C:1"),
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
    with pytest.raises(UserError, match=r"frame 3, .*: its label is of level .*b3lyp.*split the file"):
        prepared(written(tmp_path, atoms), LEVELS[NABLADFT])
    path = written(tmp_path, frames(labelled, **LEVEL_KEYS))
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    assert size(source(path), LEVELS[NABLADFT]).conformations == 12
    with pytest.raises(UserError, match=r"first: frame 12, .*: has fewer than \d+ atoms .* truncated"):
        prepared(path, LEVELS[NABLADFT])
    assert len(prepared(path, LEVELS[NABLADFT], max_left_out=0.1, relabel=["b3lyp/def2-svp"]).left_out) == 1
    with pytest.raises(UserError, match=r"frame 12, .*: has fewer than \d+ atoms"):
        read_structures(path)


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
    with pytest.raises(UserError, match="frame 2, .*: 'isomer' is already the name of another molecule"):
        read_extxyz(written(tmp_path, both))
