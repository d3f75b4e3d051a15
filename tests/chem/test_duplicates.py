"""Test starts that are training conformations: against RDKit's alignment, and what the data set makes of them."""

import logging
import time

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from scipy.spatial.transform import Rotation

from golf.chem.conformers import conformations_of, embed
from golf.chem.duplicates import IDENTICAL, equal_training
from golf.chem.molecules import molecule
from golf.core.conformations import ConformationSet, concatenate
from golf.core.elements import MMFF_NUMBERS
from golf.core.errors import UserError
from golf.core.hdf5 import write
from golf.core.level import LevelOfTheory
from golf.io.records import read_molecules
from golf.study.dataset import prepare, starts_near_training
from support.data_sets import source

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")
DRUG = "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)NCC(C)(C)C"
CASES = ["O", "C", "OO", "CCO", "CC(C)N", "c1ccccc1", "CC(=O)[O-]", "FC(F)(F)C#N", "CC(C)(C)c1ccc(cc1)C(C)(C)C", DRUG]


def conformers(tmp_path, smiles, n=1, name="a", seed=1) -> ConformationSet:
    (tmp_path / "in.smi").write_text(f"{smiles} {name}\n")
    molecules, _ = read_molecules(tmp_path / "in.smi")
    return conformations_of(molecules, n_conformers=n, seed=seed, prune_rmsd=0.0)[0]


def shaken(part: ConformationSet, by: float, seed: int, mirror: bool = False) -> ConformationSet:
    """Atoms moved, then all turned and moved away; equivalent atoms take each other's places."""
    random = np.random.default_rng(seed)
    position = part.position.copy()
    for i in range(len(part)):
        mol = molecule(part.mapped_smiles[i])
        matches = mol.GetSubstructMatches(mol, uniquify=False, maxMatches=5000)
        own = position[part.rows(i)][list(matches[random.integers(len(matches))])]
        own = own + random.normal(scale=by, size=own.shape)
        turn = Rotation.random(rng=random).as_matrix() * (-1.0 if mirror else 1.0)
        position[part.rows(i)] = own @ turn.T + random.normal(size=3)
    return part.with_columns(position=position)


@pytest.mark.parametrize("smiles", CASES)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_turned_permuted_and_shaken_conformation_is_found(tmp_path, smiles, mirror):
    train = conformers(tmp_path, smiles, 4)
    test = shaken(train.subset([2]), 0.02, 7, mirror)
    found = equal_training(test, train, 0.1)
    assert 0.0 < found.rmsd[0] <= 0.1 and found.train[0] >= 0
    exactly = equal_training(shaken(train.subset([2]), 0.0, 7, mirror), train, IDENTICAL)
    assert exactly.train[0] >= 0 and exactly.rmsd[0] < 1e-6


@pytest.mark.parametrize(("smiles", "n", "threshold"), [("CCO", 25, 0.1), ("OCCF", 25, 0.1), ("CC(C)N", 15, 0.2)])
def test_what_is_found_is_what_an_alignment_by_rdkit_finds(tmp_path, smiles, n, threshold):
    train, test = conformers(tmp_path, smiles, n, seed=1), conformers(tmp_path, smiles, n, seed=2)
    found = equal_training(test, train, threshold)

    def nearest(i):
        start = test.position[test.rows(i)]
        return min(
            rdMolAlign.GetBestRMS(
                molecule(test.mapped_smiles[i], sign * start),
                molecule(train.mapped_smiles[k], train.position[train.rows(k)]),
                maxMatches=100_000,
            )
            for k in range(len(train))
            for sign in (1, -1)
        )

    expected = np.array([nearest(i) for i in range(len(test))])
    np.testing.assert_array_equal(found.train >= 0, expected <= threshold)
    assert (expected <= threshold).any() and (expected > threshold).any()
    assert (found.rmsd[found.train >= 0] >= expected[found.train >= 0] - 1e-6).all()


def test_the_default_test_set_is_near_its_training_set():
    """21 of its 26 starts of molecules in training; a later data set has none."""
    from golf.core.hdf5 import read

    test = read("data/test.h5")
    found = equal_training(test.with_columns(position=test.atoms["initial_position"]), read("data/initial.h5"), 0.1)
    assert (found.train >= 0).sum() == 21


def test_other_conformers_other_molecules_and_other_charges_are_not_found(tmp_path):
    train = concatenate([conformers(tmp_path, "OCCF", 1, "a"), conformers(tmp_path, "CCO", 1, "b")])
    assert equal_training(conformers(tmp_path, "CO", 3), train, 0.5).train.tolist() == [-1, -1, -1]
    far = train.with_columns(position=train.position * 1.1)
    assert np.isnan(equal_training(far, train, 0.05).rmsd).all()


def test_names_of_bonds_charges_and_stereocenters_do_not_hide_a_geometry(tmp_path):
    train = conformers(tmp_path, "C[C@H](F)O")
    smiles = train.mapped_smiles[0]
    other = smiles.replace("@@", "@") if "@@" in smiles else smiles.replace("@", "@@")
    mirrored = ConformationSet.build([("b/0", "b", other, 0, 1, train.number, -train.position)])
    assert equal_training(mirrored, train, IDENTICAL).train.tolist() == [0]
    nitro = ["[C:1]([H:2])([H:3])([H:4])[N+:5](=[O:6])[O-:7]", "[C:1]([H:2])([H:3])([H:4])[N+:5]([O-:6])=[O:7]"]
    geometry = embed(Chem.AddHs(molecule(nitro[0])), 1, seed=1)[0]
    first, second = (ConformationSet.build([("c/0", "c", one, 0, 1, [6, 1, 1, 1, 7, 8, 8], geometry)]) for one in nitro)
    assert equal_training(first, second, IDENTICAL).train.tolist() == [0]


def split(tmp_path, train, test, **changes):
    write(tmp_path / "train.h5", train)
    write(tmp_path / "test.h5", test)
    chosen = source(tmp_path / "train.h5", test=str(tmp_path / "test.h5"), max_left_out=0.5, **changes)
    return prepare(chosen, LEVEL, elements=MMFF_NUMBERS, seed=1)


def named(part, name):
    records = [
        (f"{name}/{i}", name, part.mapped_smiles[i], 0, 1, part.number[part.rows(i)], part.position[part.rows(i)])
        for i in range(len(part))
    ]
    return ConformationSet.build(records)


def test_near_starts_are_counted_and_said(tmp_path, caplog):
    train = conformers(tmp_path, "OCCCF", 3)
    test = named(concatenate([shaken(train.subset([1]), 0.02, 3), train.subset([2]).with_columns()]), "t")
    moved = test.position.copy()
    moved[test.rows(1)] *= 1.1
    with caplog.at_level(logging.WARNING):
        dataset = split(tmp_path, train, test.with_columns(position=moved), prune_rmsd=0.1)
    assert dataset.test.values["near_training"].tolist() == [True, False]
    assert "1 of 2 test conformations lie within dataset.prune_rmsd 0.1 angstrom of a training" in caplog.text
    write(tmp_path / "prepared.h5", dataset.test)
    assert starts_near_training(tmp_path / "prepared.h5") == {"t/0"}
    assert starts_near_training(tmp_path / "train.h5") is None


def test_the_same_geometry_is_refused_without_pruning_too(tmp_path):
    train = conformers(tmp_path, "OCCCF", 3)
    with pytest.raises(UserError, match="'t/0' is the training conformation 'a/0001'"):
        split(tmp_path, train, named(shaken(train.subset([1]), 0.0, 3, mirror=True), "t"), prune_rmsd=0.0)
    near = named(shaken(train.subset([1]), 0.01, 3), "t")
    assert not split(tmp_path, train, near, prune_rmsd=0.0).test.values["near_training"].any()


def test_near_starts_of_molecules_called_unseen_are_refused(tmp_path):
    train = concatenate([conformers(tmp_path, "C[C@H](F)O", 2, "r"), conformers(tmp_path, "CCO", 2, "other")])
    mirror = conformers(tmp_path, "C[C@@H](F)O", 1, "s")
    near = mirror.with_columns(position=shaken(train.subset([0]), 0.01, 3, mirror=True).position)
    with pytest.raises(UserError, match=r"RMSD 0\.0.. angstrom to training conformation 'r/0000', but its molecule is"):
        split(tmp_path, train, near, prune_rmsd=0.1)


def test_thousands_of_conformers_take_seconds(tmp_path):
    part, random = conformers(tmp_path, DRUG, 10), np.random.default_rng(1)
    shape = (300, *part.position.shape)
    position = (part.position + random.normal(scale=0.3, size=shape)).reshape(3000, -1, 3)
    smiles, numbers = part.mapped_smiles[0], part.number[part.rows(0)]
    train = ConformationSet.build((f"a/{k}", "a", smiles, 0, 1, numbers, one) for k, one in enumerate(position))
    test = concatenate([named(train.subset(range(50, 60)), "t"), named(shaken(train.subset([2500]), 0.02, 1), "u")])
    began = time.perf_counter()
    found = equal_training(test, train.subset(np.delete(np.arange(3000), range(50, 60))), 0.1)
    assert time.perf_counter() - began < 20.0
    assert (found.train[:-1] < 0).all() and found.train[-1] == 2490
