"""Conformers of one molecule in several pieces of a library: energies are relative all the same."""

import csv

import ase.db
import h5py
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from golf.chem.conformers import conformations_of
from golf.cli.main import main
from golf.core.hdf5 import read, write
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.io.pieces import Embedding, pieces_of
from golf.io.records import read_molecules


def golf(*arguments):
    return main([str(argument) for argument in arguments])


def smiles_file(path, text):
    path.write_text(text)
    return path


def interleaved(path, n_conformers=6):
    """Conformers of three molecules, the first of each, then the second of each and so on; an .h5 or of nablaDFT."""
    molecules, _ = read_molecules(smiles_file(path.with_suffix(".smi"), "CCCO propanol\nOCCO glycol\nCCN amine\n"))
    found, _ = conformations_of(molecules, n_conformers=n_conformers, seed=1, prune_rmsd=0.0)
    order = np.arange(len(found)).reshape(3, n_conformers).T.ravel()
    if path.suffix == ".h5":
        write(path, found.subset(order))
        return path
    with ase.db.connect(path) as database:
        for i in order.tolist():
            own = found.rows(i)
            plain = Chem.MolFromSmiles({"propanol": "CCCO", "glycol": "OCCO", "amine": "CCN"}[found.molecule[i]])
            keys = {
                "moses_id": ("propanol", "glycol", "amine").index(found.molecule[i]) + 1,
                "conformation_id": int(found.id[i].partition("/")[2]),
                "smiles": Chem.MolToSmiles(plain, canonical=False),
            }
            data = {"energy": -0.1, "forces": np.zeros((int(own.stop - own.start), 3))}
            database.write(ase.Atoms(found.number[own], found.position[own]), data=data, **keys)
        database.metadata = {
            "_property_unit_dict": {"energy": "Hartree", "forces": "Hartree/Ang"},
            "_distance_unit": "Ang",
            "atomrefs": {"energy": [0.0, -0.5, 0.0, 0.0, 0.0, 0.0, -37.8, -54.5, -75.0]},
        }
    return path


def check_relative(molecules, energies, relative):
    """Energies in hartree; each above the lowest of its molecule."""
    for name in set(molecules):
        own = np.array(molecules) == name
        assert np.count_nonzero(relative[own] == 0.0) == 1 < own.sum()
        np.testing.assert_allclose(relative[own], energies[own] - energies[own].min(), atol=1e-7)


@pytest.mark.parametrize("given", ["in.h5", "in.db"])
def test_relative_energies_are_above_the_lowest_in_the_file(model, tmp_path, monkeypatch, given):
    monkeypatch.setattr("golf.cli.relax.PIECE", 4)
    path = interleaved(tmp_path / given)
    for output in ("out.h5", "out.sdf"):
        assert golf("relax", path, "-m", model, "-o", tmp_path / output, "--max-steps", 2) == 0
    relaxed = read(tmp_path / "out.h5")
    assert len(relaxed) == 18 and len(set(relaxed.molecule[:3])) == 3, "in the order of the input"
    check_relative(relaxed.molecule, relaxed.values["nnp_energy_last"], relaxed.values["relative_energy"])
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False))
    energies = np.array([float(mol.GetProp("energy_hartree")) for mol in mols])
    relative = np.array([float(mol.GetProp("relative_energy_kcal_mol")) for mol in mols])
    names = [mol.GetProp("_Name").partition("/")[0] for mol in mols]
    check_relative(names, energies, relative / HARTREE_IN_KCAL_PER_MOL)


@pytest.mark.parametrize("given", ["in.h5", "in.db"])
def test_an_ensemble_is_of_all_conformers_of_a_molecule_wherever_they_stand(model, tmp_path, monkeypatch, given):
    path, found = interleaved(tmp_path / given), []
    kept = ("--prune", 0.5, "--prune-energy", "inf", "--window", 400)
    options = ("-m", model, *kept, "--max-steps", 1, "--force-threshold", 1e9)
    for size in (4, 100):
        monkeypatch.setattr("golf.cli.relax.PIECE", size)
        assert golf("relax", path, "-o", tmp_path / f"{size}.h5", *options) == 0
        found.append(read(tmp_path / f"{size}.h5"))
    assert found[0].id == found[1].id and 3 < len(found[0]) < 18
    np.testing.assert_array_equal(found[0].values["relative_energy"], found[1].values["relative_energy"])
    assert [found[0].attrs[f"conformers_{name}"] for name in ("kept", "pruned")] == [
        found[1].attrs[f"conformers_{name}"] for name in ("kept", "pruned")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".extxyz", ".sdf"])
@pytest.mark.parametrize("ensemble", [(), ("--prune", 0.1, "--prune-energy", "inf")])
def test_very_many_conformers_of_a_molecule_are_one_molecule(model, tmp_path, monkeypatch, suffix, ensemble):
    smiles, path = smiles_file(tmp_path / "in.smi", "CCCCO butanol\n"), tmp_path / f"in{suffix}"
    options = ("-m", model, "--max-steps", 1, "--force-threshold", 1e9)
    assert golf("relax", smiles, "-o", path, *options, "--conformers", 20) == 0
    found = []
    for size in (2, 100):  # pieces of at most 16 conformers, where these may be divided
        monkeypatch.setattr("golf.cli.relax.PIECE", size)
        assert golf("relax", path, "-o", tmp_path / f"{size}.h5", *options, *ensemble) == 0
        found.append(read(tmp_path / f"{size}.h5"))
    assert found[0].id == found[1].id and set(found[0].molecule) == {"butanol"}
    check_relative(found[0].molecule, found[0].values["nnp_energy_last"], found[0].values["relative_energy"])
    np.testing.assert_allclose(found[0].values["relative_energy"], found[1].values["relative_energy"], atol=1e-6)


def test_one_name_of_two_molecules_is_refused_wherever_they_stand(model, tmp_path, monkeypatch, capsys):
    """Else the energy of one would be called relative to that of the other."""
    monkeypatch.setattr("golf.cli.relax.PIECE", 4)
    with h5py.File(interleaved(tmp_path / "in.h5"), "r+") as file:
        file["conformation/molecule"][17] = "propanol"  # an amine; the others of propanol are in pieces before
    assert golf("relax", tmp_path / "in.h5", "-m", model, "-o", tmp_path / "out.h5", "--max-steps", 1) == 2
    assert "are both of propanol but are not the same molecule" in capsys.readouterr().err


def test_what_an_ensemble_leaves_out_is_listed_in_the_order_of_the_input(model, tmp_path, monkeypatch):
    monkeypatch.setattr("golf.cli.relax.PIECE", 4)
    with h5py.File(interleaved(tmp_path / "in.h5"), "r+") as file:
        for i in (1, 15):  # the second molecule, and the first one later
            file["atoms/position"][int(file["atoms/offset"][i])] = np.nan
    options = ("-m", model, "--window", 1e9, "--max-steps", 1, "--force-threshold", 1e9)
    assert golf("relax", tmp_path / "in.h5", "-o", tmp_path / "out.h5", *options) == 1
    with open(tmp_path / "out.h5.left_out.csv", newline="") as stream:
        assert [(row["line"], row["name"]) for row in csv.DictReader(stream)] == [
            ("2", "glycol/0000"),
            ("16", "propanol/0005"),
        ]
    assert len(read(tmp_path / "out.h5")) == 16


def test_records_of_one_name_are_divided_between_molecules_only(tmp_path):
    mols = [Chem.AddHs(Chem.MolFromSmiles(smiles)) for smiles in ("C", "CC", "CCC", "CCCC")]
    with Chem.SDWriter(str(tmp_path / "in.sdf")) as writer:
        for mol in mols:
            rdDistGeom.EmbedMolecule(mol, randomSeed=1)
            mol.SetProp("_Name", "ligand")
            for _ in range(6):
                writer.write(mol)
    pieces = list(pieces_of(tmp_path / "in.sdf", elements=(1, 6), size=1, embedding=Embedding()))
    names = [name for piece in pieces for name in piece.conformations.id]
    assert [len(piece.conformations) for piece in pieces] == [12, 12]
    assert names[::6] == [f"{name}/0000" for name in ("ligand", "ligand#7", "ligand#13", "ligand#19")]
