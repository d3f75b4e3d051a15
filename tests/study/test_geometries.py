"""Ends of another program become an arm: by name, in any order of records and atoms, or not at all."""

import re

import ase.io
import numpy as np
import pytest
from rdkit import Chem

from golf.chem.molecules import molecule
from golf.core.conformations import StopReason
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.study.geometries import match_geometries
from support.mmff_potential import conformers

STAMP = {"config_sha256": "0", "seed": 1}


@pytest.fixture
def test_set(tmp_path):
    starts = conformers(["C[C@H](N)C(=O)O", "OCC=C"], 2)
    write(tmp_path / "test.h5", starts)
    return starts


def as_sdf(path, starts, indices, names, shift=0.01, shuffled=True):
    """Write geometries moved by `shift`, their atoms in another order."""
    with Chem.SDWriter(str(path)) as writer:
        for i, name in zip(indices, names, strict=True):
            mol = molecule(starts.mapped_smiles[i], starts.position[starts.rows(i)] + shift)
            for atom in mol.GetAtoms():
                atom.SetAtomMapNum(0)
            if shuffled:
                mol = Chem.RenumberAtoms(mol, np.random.default_rng(i).permutation(mol.GetNumAtoms()).tolist())
            mol.SetProp("_Name", name)
            writer.write(mol)


def test_each_geometry_goes_to_the_conformation_of_its_name(tmp_path, test_set):
    order = [3, 0, 2, 1]
    as_sdf(tmp_path / "ends.sdf", test_set, order, [test_set.id[i] for i in order])
    match_geometries(str(tmp_path / "test.h5"), str(tmp_path / "ends.sdf"), str(tmp_path / "out.h5"), **STAMP)
    out = read(tmp_path / "out.h5")
    assert out.id == test_set.id and out.mapped_smiles == test_set.mapped_smiles
    assert set(out.values["stop_reason"]) == {StopReason.CONVERGED}
    np.testing.assert_array_equal(out.atoms["initial_position"], test_set.position)
    for i in range(len(out)):
        moved = out.position[out.rows(i)] - test_set.position[test_set.rows(i)]
        # Hydrogens of one methyl group may have changed places, heavy atoms may not
        np.testing.assert_allclose(moved[test_set.number[test_set.rows(i)] > 1], 0.01, atol=1e-3)


def test_names_of_molecules_do_where_there_is_one_conformation(tmp_path, test_set):
    one = test_set.subset([0, 1])
    write(tmp_path / "test.h5", one)
    frames = [
        ase.Atoms(one.number[one.rows(i)], one.position[one.rows(i)], info={"name": one.molecule[i]}) for i in (1, 0)
    ]
    ase.io.write(tmp_path / "ends.extxyz", frames, format="extxyz")
    match_geometries(str(tmp_path / "test.h5"), str(tmp_path / "ends.extxyz"), str(tmp_path / "out.h5"), **STAMP)
    np.testing.assert_allclose(read(tmp_path / "out.h5").position, one.position, atol=1e-7)


def test_files_that_do_not_fit_are_one_line(tmp_path, test_set):
    ids = list(test_set.id)
    for message, indices, names in (
        (r"'nobody' is not in the test set; name geometries like 'C\[C@H", [0], ["nobody"]),
        (r"has 2 test conformations; name the geometry like the one it was made from", [0], [test_set.molecule[0]]),
        (r"has two geometries; remove one", [0, 0], [ids[0], ids[0]]),
        (r"has no geometry of 'C\[C@H\]\(N\)C\(=O\)O/0001' and 1 more", [0, 1], ids[:2]),
        (r"is another molecule there \(C=CCO\) than in the test set \(C\[C@H\]", [1, 0, 2, 3], ids),
    ):
        as_sdf(tmp_path / "ends.sdf", test_set, indices, names)
        with pytest.raises(UserError) as error:
            match_geometries(str(tmp_path / "test.h5"), str(tmp_path / "ends.sdf"), str(tmp_path / "out.h5"), **STAMP)
        assert re.search(message, str(error.value)) and "\n" not in str(error.value), error.value
        assert str(error.value).startswith(f"{tmp_path / 'ends.sdf'}: ")
    assert not (tmp_path / "out.h5").exists()
