"""Conformers in batches until nothing new comes, and strain energies, against exhaustive searches with MMFF."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from golf.chem.axes import axes_of
from golf.chem.conformers import conformations_of, further_conformers
from golf.chem.integrity import with_changes
from golf.chem.molecules import mapped_smiles
from golf.chem.usable import Molecule
from golf.core.conformations import ConformationSet
from golf.core.units import HARTREE_IN_KCAL_PER_MOL, hartree
from golf.io.pieces import Embedding
from golf.relaxation import search
from golf.relaxation.constraints import HEAVY, Constraints
from golf.relaxation.engine import Optimizer
from golf.relaxation.ensembles import Ensemble, ensembles
from golf.relaxation.relax import relax
from golf.relaxation.search import searched, strained
from support.mmff_potential import MMFFPotential

WHICH = Ensemble(0.3, 4.0)
AUTO = Embedding("auto", 0.1)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Batches of 6 conformers."""
    monkeypatch.setattr("golf.chem.conformers.CONFORMERS_BY_ROTATABLE_BONDS", ((7, 6),))


def relaxing(conformations, constraints=None):
    return relax(
        conformations,
        MMFFPotential(),
        force_threshold=hartree(0.02),
        max_steps=500,
        slots=32,
        optimizer=Optimizer("preconditioned"),
        constraints=constraints,
        advance=lambda: None,
    )


def first_batch(**smiles):
    mols = {name: Chem.AddHs(Chem.MolFromSmiles(one)) for name, one in smiles.items()}
    molecules = [Molecule(name, mol, line) for line, (name, mol) in enumerate(mols.items(), 1)]
    starts, left_out = conformations_of(molecules, n_conformers="auto", seed=1, prune_rmsd=0.1, keep_properties=True)
    assert not left_out
    ends = with_changes(relaxing(starts)).with_columns(values={"properties": starts.values["properties"]})
    return ends, [list(smiles).index(name) + 1 for name in starts.molecule]


def exhaustive(smiles, n=150):
    """Lowest MMFF energy in kcal/mol of many conformers, by RDKit alone."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMultipleConfs(mol, n, randomSeed=11)
    return min(energy for _, energy in rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=2000))


def test_batches_come_until_one_brings_nothing_new():
    ends, lines = first_batch(glycol="OCCO", propane="CCC")
    everything, of_lines = searched(ends, lines, relax=relaxing, which=WHICH, embedding=AUTO)
    asked = dict(zip(everything.molecule, everything.values["n_conformers"].tolist(), strict=True))
    complete = dict(zip(everything.molecule, everything.values["search_complete"].tolist(), strict=True))
    assert asked["propane"] == 12 and asked["glycol"] in (12, 18, 24, 30)
    assert complete["propane"] and complete["glycol"] == (asked["glycol"] < 30)
    assert len(set(everything.id)) == len(everything) and everything.id[: len(ends)] == ends.id
    assert of_lines == [{"glycol": 1, "propane": 2}[name] for name in everything.molecule]
    kept, _ = ensembles(everything, WHICH)
    lowest = kept.subset([kept.molecule.index("glycol")]).values["nnp_energy_last"][0] * HARTREE_IN_KCAL_PER_MOL
    assert lowest == pytest.approx(exhaustive("OCCO"), abs=0.01)
    again, _ = searched(ends, lines, relax=relaxing, which=WHICH, embedding=AUTO)
    np.testing.assert_array_equal(again.position, everything.position)


def test_a_search_that_still_finds_is_said(monkeypatch, caplog):
    monkeypatch.setattr(search, "MOST_BATCHES", 2)
    ends, lines = first_batch(chain="OCCCCCCO")
    everything, _ = searched(ends, lines, relax=relaxing, which=WHICH, embedding=AUTO)
    assert set(everything.values["n_conformers"]) == {12} and not everything.values["search_complete"].any()
    assert "chain: the last of 2 batches of conformers still brought new minima" in caplog.text


def test_without_prune_there_is_one_batch():
    ends, lines = first_batch(propane="CCC")
    for which in (None, Ensemble(0.0, 4.0)):
        same, of_lines = searched(ends, lines, relax=relaxing, which=which, embedding=AUTO)
        assert same.id == ends.id and of_lines == lines and set(same.values["n_conformers"]) == {6}


def test_further_batches_are_of_the_same_isomer_and_side():
    molecules = [
        Molecule("open", Chem.AddHs(Chem.MolFromSmiles("CC(F)C(O)C=CC")), 1),
        Molecule("allene", Chem.AddHs(Chem.MolFromSmiles("CC=C=CC")), 2),
    ]
    starts, _ = conformations_of(molecules, n_conformers=3, seed=1, prune_rmsd=0.0)
    firsts = starts.subset([0, 3])
    kwargs = {"n_conformers": 3, "counts": [3, 3], "seed": 1, "prune_rmsd": 0.0}
    one, _ = further_conformers(firsts, batch=1, **kwargs)
    other, failed = further_conformers(firsts, batch=2, **kwargs)
    assert not failed and one.id == other.id == [f"{name}/{k:04d}" for name in ("open", "allene") for k in (3, 4, 5)]
    assert not np.allclose(one.position, other.position)
    assert not any(with_changes(part).values["changed_molecule"].any() for part in (one, other))
    (axis,) = axes_of(firsts.mapped_smiles[1])
    sides = {axis.side_of(part.position[part.rows(i)]) for part in (one, other) for i in (3, 4, 5)}
    assert sides == {axis.side_of(firsts.position[firsts.rows(1)])}


def geometry(smiles, name, seed=3):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=seed)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    flat = Chem.Mol(mol)
    Chem.RemoveStereochemistry(flat)  # as a file of geometries without stereochemistry may state it
    return (f"{name}/0000", name, mapped_smiles(flat), 0, 1, numbers, mol.GetConformer().GetPositions())


def test_strain_is_the_energy_above_the_lowest_conformer(monkeypatch):
    monkeypatch.setattr("golf.chem.conformers.CONFORMERS_BY_ROTATABLE_BONDS", ((7, 15),))
    monkeypatch.setattr(search, "AT_ONCE", 15)  # one molecule after the other
    poses = ConformationSet.build([geometry("FCCO", "a"), geometry("C[C@H](O)CF", "b"), geometry("C", "c")])
    for constraints in (None, Constraints(HEAVY)):
        ends = with_changes(relaxing(poses, constraints))
        done = strained(ends, relax=relaxing, embedding=Embedding("auto", 0.1))
        energies = ends.values["nnp_energy_last"] * HARTREE_IN_KCAL_PER_MOL
        expected = energies - [exhaustive("FCCO"), exhaustive("C[C@H](O)CF"), exhaustive("C", 1)]
        found = done.values["strain_energy"] * HARTREE_IN_KCAL_PER_MOL
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert (found >= 0.0).all() and done.id == poses.id
        if constraints is not None:
            assert found[:2].min() > 0.5, "held by the heavy atoms of the input, the conformers are not"
    fixed = strained(ends, relax=relaxing, embedding=Embedding(2, 0.1))
    assert set(fixed.values["n_conformers"]) == {2}


def test_a_strain_that_no_search_gives_is_no_number(caplog):
    water = [8, 1, 1], np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    dimer = np.concatenate([water[1], water[1] + [0.0, 0.0, 3.0]])
    smiles = "[O:1]([H:2])[H:3].[O:4]([H:5])[H:6]"
    pair = ConformationSet.build([("pair/0000", "pair", smiles, 0, 1, np.array(water[0] * 2), dimer)])
    done = strained(with_changes(relaxing(pair)), relax=relaxing, embedding=Embedding("auto", 0.1))
    assert np.isnan(done.values["strain_energy"]).all() and done.values["n_conformers"].tolist() == [0]
    assert "pair: no strain energy: it has several parts" in caplog.text
