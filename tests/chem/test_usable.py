"""Molecules that are not what they seem: unknown bonds, query atoms, open shells, axes, flat geometries."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms

from golf.chem.axes import axes
from golf.chem.conformers import conformations_of
from golf.chem.geometry import geometry_problem
from golf.chem.integrity import CHANGED, with_changes
from golf.chem.molecules import mapped_smiles
from golf.chem.usable import shell_problem
from golf.cli.main import main
from golf.core.level import LevelOfTheory
from golf.io.pieces import Embedding, pieces_of
from golf.io.records import read_molecules
from golf.io.sdf import record_text
from golf.study.dataset import prepare
from support.data_sets import source

ELEMENTS = (1, 6, 7, 8, 9, 16, 17)
ATTACHED, UNKNOWN = "is an attachment point or query atom", "a bond of unknown order"


def smiles_file(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def conformers(tmp_path, *lines, n=6):
    path = smiles_file(tmp_path / "in.smi", *lines)
    molecules, left_out = read_molecules(path, problem=shell_problem)
    assert not left_out
    found, left_out = conformations_of(molecules, n_conformers=n, seed=1, prune_rmsd=0.0)
    assert not left_out
    return found


def angles(found, name, *atoms):
    rows = [found.rows(i) for i, molecule in enumerate(found.molecule) if molecule == name]
    return np.array([_dihedral(found.position[own], atoms) for own in rows])


def _dihedral(positions, atoms):
    conformer = Chem.Conformer(len(positions))
    conformer.SetPositions(positions)
    return rdMolTransforms.GetDihedralDeg(conformer, *atoms)


# --------------------------------------------------------------------------------------------- unknown bonds and atoms


@pytest.mark.parametrize(
    ("smiles", "problem"),
    [
        ("*CCO", ATTACHED),
        ("[*:1]CCO", ATTACHED),
        ("CC~O", UNKNOWN),
        ("C$C", UNKNOWN),
        ("C:C", "an aromatic bond outside a ring (atoms 1 and 2)"),
        ("CCO", ""),
    ],
)
def test_what_a_smiles_leaves_open_is_refused(smiles, problem, tmp_path):
    smiles_file(tmp_path / "in.smi", f"{smiles} x", "CO methanol", "CCN amine")
    (piece,) = pieces_of(tmp_path / "in.smi", elements=ELEMENTS, size=9, embedding=Embedding())
    reasons = [out.reason for out in piece.left_out]
    assert problem in "".join(reasons) and len(reasons) == bool(problem)
    left_out = prepare(
        source(tmp_path / "in.smi", max_left_out=0.5), LevelOfTheory("psi4", "hf", "sto-3g"), elements=ELEMENTS, seed=1
    ).left_out
    assert problem in "".join(out.reason for out in left_out) and len(left_out) == bool(problem)


@pytest.mark.parametrize(
    ("symbol", "order", "extra", "problem"),
    [
        ("R#", 1, "M  RGP  1   4   1\n", ATTACHED),
        ("A", 1, "", ATTACHED),
        ("X", 1, "", ATTACHED),
        ("L", 1, "M  ALS   4  2 F F   Cl  \n", ATTACHED),
        ("*", 1, "", ATTACHED),
        ("H", 8, "", UNKNOWN),
        ("H", 5, "", UNKNOWN),
        ("H", 1, "", ""),
    ],
)
def test_what_an_sdf_leaves_open_is_refused(symbol, order, extra, problem, tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("CO"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    lines = Chem.MolToMolBlock(mol).splitlines(keepends=True)
    lines[7] = lines[7][:31] + f"{symbol:3}" + lines[7][34:]
    lines[10] = lines[10][:6] + f"{order:3}" + lines[10][9:]
    text = "".join(lines).replace("M  END\n", f"{extra}M  END\n")
    (tmp_path / "in.sdf").write_text(f"{text}$$$$\n")
    (piece,) = pieces_of(tmp_path / "in.sdf", elements=ELEMENTS, size=9, embedding=Embedding())
    assert problem in "".join(out.reason for out in piece.left_out) and len(piece.left_out) == bool(problem)


def test_golf_label_refuses_them(tmp_path, capsys):
    smiles_file(tmp_path / "in.smi", "CO methanol", "C*")
    assert main(["label", str(tmp_path / "in.smi"), "-o", str(tmp_path / "out.h5")]) == 2
    assert f"atom 2 {ATTACHED}" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------- shells


@pytest.mark.parametrize(
    "smiles", ["O=O", "[18O]=O", "[O][O]", "[O]", "S=S", "O=S", "[CH3]", "[CH2]", "Cl[C]Cl", "[N]=O", "[Cu+2]", "[Fe]"]
)
def test_open_shells_are_refused(smiles):
    assert "only closed shells are covered" in shell_problem(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize("smiles", ["[C-]#[O+]", "O=S=O", "[O-][O+]=O", "OO", "[CH3+]", "[OH-]", "[H][H]", "C[Zn]C"])
def test_closed_shells_are_not(smiles):
    assert shell_problem(Chem.MolFromSmiles(smiles)) == ""


def test_a_metal_of_unknown_spin_is_a_warning(tmp_path, caplog):
    conformers(tmp_path, "[Cl][Pt]([Cl])([NH3])[NH3] cisplatin", n=1)
    assert "cisplatin: it has a metal whose spin state is not known" in caplog.text


# ---------------------------------------------------------------------------------------------------------------- axes


def test_an_allene_is_of_the_hand_that_its_smiles_says(tmp_path, caplog):
    """Both ways to write a hand, by OpenSMILES 3.8.4: an inversion of the order of neighbors inverts the hand."""
    lines = ["CC=[C@]=CC one", "CC=[C@@]=CC other", "C(C)=[C@]=CC turned", "CC=[C@AL1]=CC named"]
    found = conformers(tmp_path, *lines)
    assert (angles(found, "one", 0, 1, 3, 4) < 0).all() and len(angles(found, "one", 0, 1, 3, 4)) == 6
    assert (angles(found, "other", 0, 1, 3, 4) > 0).all()
    assert (angles(found, "turned", 1, 0, 3, 4) > 0).all()
    assert (angles(found, "named", 0, 1, 3, 4) < 0).all()
    assert not caplog.records


def test_a_cumulene_is_cis_or_trans_as_its_smiles_says(tmp_path, caplog):
    found = conformers(tmp_path, r"C/C=C=C=C/C trans", r"C/C=C=C=C\C cis", r"C(\C)=C=C=C/C also_trans")
    assert (abs(angles(found, "trans", 0, 1, 4, 5)) > 90).all()
    assert (abs(angles(found, "cis", 0, 1, 4, 5)) < 90).all()
    assert (abs(angles(found, "also_trans", 1, 0, 4, 5)) > 90).all()
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".smi", ".csv"])
def test_the_hand_of_a_biaryl_is_that_of_its_extension(tmp_path, suffix):
    biaryl = "Cc1cccc(F)c1-c1c(C)cccc1O"
    lines = [f"{biaryl} |wU:7.7|", f"{biaryl} |wD:7.7|"]
    if suffix == ".smi":
        smiles_file(tmp_path / "in.smi", f"{lines[0]} up", f"{lines[1]} down")
    else:
        smiles_file(tmp_path / "in.csv", "smiles,name", f"{lines[0]},up", f"{lines[1]},down")
    molecules, _ = read_molecules(tmp_path / f"in{suffix}")
    found, _ = conformations_of(molecules, n_conformers=4, seed=1, prune_rmsd=0.0)
    assert (angles(found, "up", 1, 7, 8, 9) < 0).all() and (angles(found, "down", 1, 7, 8, 9) > 0).all()


@pytest.mark.parametrize("smiles", ["CC=C=CC", "CC=C=C=CC", "Cc1cccc(F)c1-c1c(C)cccc1O", "CC=C=C[C@H](C)O"])
def test_all_conformers_are_on_one_side_of_an_axis_and_it_is_said(tmp_path, smiles, caplog):
    found = conformers(tmp_path, f"{smiles} x", n=8)
    (axis,) = axes(Chem.AddHs(Chem.MolFromSmiles(smiles)))
    assert len(found) == 8 and len({axis.side_of(found.position[found.rows(i)]) for i in range(8)}) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("x: the side of an axis (allene, cumulene or biaryl) is not specified")


@pytest.mark.parametrize("smiles", ["C=C=C", "CC=C=C", "c1ccccc1-c1ccccc1C", "O=C=O", "CN=C=NC", "C1CCC=C=CC1"])
def test_what_has_no_sides_has_no_axis(smiles):
    assert axes(Chem.AddHs(Chem.MolFromSmiles(smiles))) == []


def test_a_mixture_is_said(tmp_path, caplog):
    conformers(tmp_path, "C[C@H](O)CF |&1:1| racemate", "C[C@H](O)CF |o1:1| unknown", "CCO |lp:2:2| ethanol", n=1)
    (record,) = caplog.records
    assert record.getMessage().startswith("racemate and 1 more: its stereo groups (& or o)")


def test_an_axis_that_turns_over_is_another_molecule(tmp_path):
    found = conformers(tmp_path, "CC=[C@]=CC allene", n=1)
    mirrored = found.with_columns(position=found.position * [1, 1, -1], atoms={"initial_position": found.position})
    assert with_changes(mirrored).values[CHANGED][0] == "the axis of atoms 2 and 4 has turned over"
    same = found.with_columns(atoms={"initial_position": found.position})
    assert with_changes(same).values[CHANGED][0] == ""


def test_geometries_of_two_hands_under_one_name_are_said(tmp_path, caplog):
    mol = Chem.AddHs(Chem.MolFromSmiles("CC=C=CC"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    mol.SetProp("_Name", "allene")
    other = Chem.Mol(mol)
    other.GetConformer().SetPositions(mol.GetConformer().GetPositions() * [1, 1, -1])
    with Chem.SDWriter(str(tmp_path / "in.sdf")) as writer:
        writer.write(mol)
        writer.write(other)
    (piece,) = pieces_of(tmp_path / "in.sdf", elements=ELEMENTS, size=9, embedding=Embedding())
    assert len(piece.conformations) == 2 and "on different sides" in caplog.text


# ---------------------------------------------------------------------------------------------------------- geometries


def test_flat_geometries_of_molecules_that_are_not_flat():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    positions, smiles = mol.GetConformer().GetPositions(), mapped_smiles(mol)
    assert geometry_problem(smiles, positions) == ""
    axes_of_inertia = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=False)[2]
    flat = (positions @ axes_of_inertia[:2].T) @ axes_of_inertia[:2]  # in any plane of space
    flat[1] += 1e-3
    assert "flat" in geometry_problem(smiles, flat) or "same position" in geometry_problem(smiles, flat)
    benzene = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    rdDistGeom.EmbedMolecule(benzene, randomSeed=1)
    planar = benzene.GetConformer().GetPositions() * [1, 1, 0]
    assert geometry_problem(mapped_smiles(benzene), planar) == ""


def test_a_drawing_that_is_called_3d_is_left_out(tmp_path):
    from rdkit.Chem import rdDepictor

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDepictor.Compute2DCoords(mol)
    text = Chem.MolToMolBlock(mol).replace("2D\n", "3D\n", 1)
    (tmp_path / "in.sdf").write_text(f"{text}$$$$\n")
    (piece,) = pieces_of(tmp_path / "in.sdf", elements=ELEMENTS, size=9, embedding=Embedding())
    assert not len(piece.conformations) and ("flat" in piece.left_out[0].reason or "3D" in piece.left_out[0].reason)


@pytest.mark.parametrize(
    ("smiles", "problem"),
    [
        ("[#6]CC", "it is a radical; only closed shells are covered (an atom in brackets has only the hydrogens"),
        ("CCO>>CC=O", "RDKit cannot read it as a molecule: it is a reaction; write one molecule"),
        ("C[C;H3]", "RDKit cannot read it as a molecule: it is a SMARTS pattern; write a molecule as SMILES"),
        ("c1cccc1", "RDKit cannot read it as a molecule: Can't kekulize mol"),
        ("C[C@@]12C[C@@H]1C2", ""),
        ("[C@H]12CC[C@@H](C1)CC2", "ETKDG cannot embed it with its stereocenters (without them it can be; check them)"),
        ("C[Pt@SP1](F)(Cl)Br", "ETKDG does not keep the order of the ligands of atom 2 (@SP); give a geometry (SDF)"),
    ],
)
def test_reasons_say_what_to_do(smiles, problem, tmp_path):
    smiles_file(tmp_path / "in.smi", f"{smiles} x")
    elements = [*ELEMENTS, 17, 35, 78]
    (piece,) = pieces_of(tmp_path / "in.smi", elements=elements, size=9, embedding=Embedding())
    reasons = [out.reason for out in piece.left_out]
    assert len(reasons) == bool(problem) and "".join(reasons).startswith(problem)


def test_hydrogens_that_are_not_written_are_elements_too(tmp_path):
    smiles_file(tmp_path / "in.smi", "C methane", "FC(F)(F)F freon")
    (piece,) = pieces_of(tmp_path / "in.smi", elements=[6, 9], size=9, embedding=Embedding())
    (out,) = piece.left_out
    assert (out.name, out.reason) == ("methane", "has H, which the potential does not cover (it covers C F)")


def test_a_hundred_known_elements_are_not_listed(tmp_path):
    smiles_file(tmp_path / "in.smi", "C methane")
    (piece,) = pieces_of(tmp_path / "in.smi", elements=range(2, 100), size=9, embedding=Embedding())
    (out,) = piece.left_out
    assert (
        out.reason == "has H, which the potential does not cover (it covers He Li Be B C N O F Ne Na Mg Al and 86 more)"
    )


@pytest.mark.parametrize(
    "smiles", ["[NH3]->[Zn]", "C[N+](=O)[O-]", "[2H]OC", "C[S@](=O)CC", "[O-][n+]1ccccc1", "C#[O+]"]
)
def test_an_sdf_has_the_molecule_that_came_in(smiles, tmp_path):
    """Where V2000 has no such bond V3000 is written."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    (tmp_path / "out.sdf").write_text(record_text(mol, "x", {}))
    (again,) = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert Chem.MolToSmiles(again) == Chem.MolToSmiles(mol)
