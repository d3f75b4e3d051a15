"""What the records of a file become: molecules and their names, conformers, stereoisomers, properties in and out."""

import csv
import json
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from golf.chem.conformers import conformations_of
from golf.chem.molecules import canonical_smiles, has_open_stereo, mapped_smiles, molecule
from golf.chem.usable import structure_problem
from golf.cli.main import main
from golf.core.conformations import ConformationSet, StopReason
from golf.core.hdf5 import read, write
from golf.io.formats import count_records
from golf.io.pieces import Embedding, pieces_of
from golf.io.records import read_molecules
from golf.relaxation.ensembles import Ensemble
from golf.relaxation.library import relax_library
from support import REPOSITORY

ELEMENTS = (1, 6, 7, 8, 9)


def golf(*arguments):
    return main([str(argument) for argument in arguments])


def relaxed(source, output, model, *options):
    return golf("relax", source, "-m", model, "-o", output, "--max-steps", 1, *options)


def embedded(smiles, n=1, name="", properties=()):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMultipleConfs(mol, n, randomSeed=3) or n
    mol.SetProp("_Name", name)
    for key, value in dict(properties).items():
        mol.SetProp(key, value)
    return mol


def sdf(path, *mols):
    path.write_text("".join(Chem.SDWriter.GetText(mol, confId=c.GetId()) for mol in mols for c in mol.GetConformers()))
    return path


def atoms_of(mol, conformer=0, **info):
    atoms = Atoms([atom.GetSymbol() for atom in mol.GetAtoms()], mol.GetConformer(conformer).GetPositions())
    atoms.info = info
    return atoms


def pieces(path, size=100, **embedding):
    return list(pieces_of(path, elements=ELEMENTS, size=size, embedding=Embedding(**embedding)))


def ids(found):
    return [name for piece in found for name in piece.conformations.id]


# ---------------------------------------------------------------------------------------------------------- properties


def test_properties_of_the_input_are_in_every_output(model, tmp_path):
    text = "first line\nsecond line"
    odd = {"isomer": "C/C=C\\C", "name": "of the vendor", "charge": "7", "smiles": "C", "energy": "-1", "n_steps": "x"}
    source = sdf(tmp_path / "in.sdf", embedded("CCO", name="ethanol", properties=odd | {"note": text}))
    for suffix in (".h5", ".sdf", ".extxyz"):
        assert relaxed(source, tmp_path / f"out{suffix}", model) == 0
    assert json.loads(read(tmp_path / "out.h5").values["properties"][0]) == odd | {"note": text}
    (mol,) = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert mol.GetProp("name") == "of the vendor" and mol.GetProp("note") == text
    assert mol.GetProp("n_steps") == "1" and mol.GetProp("input_n_steps") == "x"
    frame = ase.io.read(tmp_path / "out.extxyz")
    assert frame.info["name"] == "ethanol/0000" and frame.info["charge"] == 0
    assert frame.get_potential_energy() == pytest.approx(frame.info["energy_eV"], abs=1e-6), "not the -1 of the input"
    assert frame.info["input_note"] == "first line second line" and frame.info["input_isomer"] == odd["isomer"]


def test_properties_go_on_through_every_format(model, tmp_path):
    given = {
        "catalog": "00123",
        "flag": "T",
        "list": "1 2 3",
        "note": 'say "C/C=C\\C" = x',
        "price": "1.50",
        "IC50": "",
    }
    mol = embedded("[O-]C(=O)C[NH3+]", name="glycine", properties=given)
    source = sdf(tmp_path / "in.sdf", mol)
    for first in (".h5", ".sdf", ".extxyz"):
        assert relaxed(source, tmp_path / f"a{first}", model) == 0
        assert relaxed(tmp_path / f"a{first}", tmp_path / f"b{first}.sdf", model) == 0
        (again,) = Chem.SDMolSupplier(str(tmp_path / f"b{first}.sdf"))
        assert {key: again.GetProp(key) for key in given if key != "IC50"} | {"IC50": ""} == given
        assert again.GetProp("_Name") == "glycine/0000"
        assert not [name for name in again.GetPropNames() if name.startswith("input_")]
        assert Chem.MolToSmiles(again) == Chem.CanonSmiles("[O-]C(=O)C[NH3+]"), "bonds of the input, not derived ones"


def test_properties_of_a_csv_are_kept(model, tmp_path):
    (tmp_path / "in.csv").write_text('name,smiles,batch,empty,note\nethanol,CCO,17,,"first\n\nthird"\n')
    assert relaxed(tmp_path / "in.csv", tmp_path / "out.sdf", model, "--conformers", 2) == 0
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf")))
    assert [(mol.GetProp("batch"), mol.GetProp("note")) for mol in mols] == [("17", "first\nthird")] * 2
    assert [mol.GetProp("stop_reason") for mol in mols] == ["step_limit"] * 2
    assert relaxed(tmp_path / "in.csv", tmp_path / "out.xyz", model) == 0
    info = ase.io.read(tmp_path / "out.xyz", format="extxyz").info
    assert info["input_batch"] == 17 and info["input_note"] == "first third" and "input_empty" not in info


def test_the_stereoisomer_that_was_drawn_is_in_the_output(model, tmp_path):
    (tmp_path / "in.smi").write_text("CC(F)O open\nC[C@H](F)O given\n")
    assert relaxed(tmp_path / "in.smi", tmp_path / "out.sdf", model) == 0
    one, other = Chem.SDMolSupplier(str(tmp_path / "out.sdf"))
    assert one.GetProp("stereo_drawn") in {Chem.CanonSmiles(f"C[{tag}H](F)O") for tag in ("C@", "C@@")}
    assert not other.HasProp("stereo_drawn")


# --------------------------------------------------------------------------------------------------------------- names


def test_only_names_of_own_conformers_lose_their_number(model, tmp_path):
    vendor = ("AK-968/41170204", "AK-968/41170205")
    source = sdf(tmp_path / "in.sdf", *(embedded("CCO", name=name) for name in vendor))
    assert ids(pieces(source)) == [f"{name}/0000" for name in vendor]
    assert len(read_molecules(source)[0]) == 2
    assert relaxed(source, tmp_path / "own.sdf", model, "--conformers", 2) == 0
    assert ids(pieces(tmp_path / "own.sdf")) == [f"{name}/{k:04d}" for name in vendor for k in range(2)]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = sdf(tmp_path / "in.sdf", embedded("CCO", 2, name="ethanol"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ids(pieces(path)) == ["ethanol/0000", "ethanol/0001"]


@pytest.mark.parametrize("size", [1, 100])
def test_an_unreadable_record_does_not_scatter_the_others(tmp_path, size):
    path = sdf(tmp_path / "in.sdf", embedded("CCO", 3, name="ethanol"))
    first = path.read_text().index("M  END")
    path.write_text(path.read_text()[:first].replace("V2000", "V9999") + path.read_text()[first:])
    found = pieces(path, size)
    assert ids(found) == ["ethanol/0000", "ethanol/0001"] and len(found) == 1
    assert [(out.line, out.name) for out in found[0].left_out] == [(1, "ethanol")]


def test_stereoisomers_of_one_name_are_molecules_of_their_own(tmp_path):
    pair = [embedded(smiles, 2, name="x") for smiles in ("C[C@H](F)O", "C[C@@H](F)O")]
    assert ids(pieces(sdf(tmp_path / "in.sdf", *pair))) == ["x/0000", "x/0001", "x#3/0000", "x#3/0001"]


def test_a_molecule_that_cannot_be_used_is_left_out_with_all_its_records(tmp_path):
    path = sdf(tmp_path / "in.sdf", embedded("C[AsH2]", 2, name="arsine"), embedded("CO", 2, name="methanol"))
    molecules, left_out = read_molecules(path)
    assert [one.mol.GetNumConformers() for one in molecules] == [2] and len(left_out) == 2


@pytest.mark.parametrize("size", [1, 2, 100])
def test_frames_of_one_name_stay_together_if_they_are_of_one_molecule(tmp_path, size):
    ethanol, propanol = embedded("CCO", 3), embedded("CCCO", 2)
    order = [(ethanol, 0), (propanol, 0), (ethanol, 1), (propanol, 1), (ethanol, 2)]
    frames = [atoms_of(mol, conformer, molecule="m") for mol, conformer in order]
    ase.io.write(tmp_path / "in.extxyz", [*frames, atoms_of(embedded("CO"), molecule="other"), frames[0]])
    found = pieces(tmp_path / "in.extxyz", size)
    assert ids(found) == ["m/0000", "m#2/0000", "m/0001", "m#2/0001", "m/0002", "other/0000", "m#7/0000"]
    assert len(found[0].conformations) >= 5


def test_ensembles_of_frames_of_one_name(model, tmp_path):
    """Of another molecule's conformers an energy is higher by thousands of kcal/mol."""
    both = [atoms_of(mol, i, molecule="m") for i in (0, 1) for mol in (embedded("CCO", 2), embedded("CCCO", 2))]
    ase.io.write(tmp_path / "in.extxyz", both)
    options = ("--window", 50, "--prune", 0.01, "--force-threshold", 1e9)
    assert relaxed(tmp_path / "in.extxyz", tmp_path / "out.h5", model, *options) == 0
    kept = read(tmp_path / "out.h5")
    assert set(kept.molecule) == {"m", "m#2"} and kept.values["relative_energy"].max() < 50 / 627.5


def test_an_h5_with_two_molecules_of_one_name_is_refused(model, tmp_path, capsys):
    mols = [embedded("CCO"), embedded("COC")]
    rows = [
        (f"m/{i}", "m", mapped_smiles(mol), 0, 1, atoms_of(mol).numbers, mol.GetConformer().GetPositions())
        for i, mol in enumerate(mols)
    ]
    write(tmp_path / "in.h5", ConformationSet.build(rows))
    assert relaxed(tmp_path / "in.h5", tmp_path / "out.h5", model) == 2
    assert "m/0 and m/1 are both of m but are not the same molecule; rename one" in capsys.readouterr().err


def test_geometries_of_open_shells_are_left_out(tmp_path):
    triplet, methyl = atoms_of(embedded("C"), multiplicity=3), embedded("[CH3]")
    ase.io.write(tmp_path / "in.extxyz", [triplet, atoms_of(methyl, mapped_smiles=mapped_smiles(methyl))])
    (piece,) = pieces(tmp_path / "in.extxyz")
    assert not len(piece.conformations)
    assert ["multiplicity is 3" in piece.left_out[0].reason, "radical" in piece.left_out[1].reason] == [True, True]


def test_two_atoms_at_one_point_are_no_geometry(tmp_path):
    mol = embedded("CO", 2, name="methanol")
    mol.GetConformer(0).SetAtomPosition(5, mol.GetConformer(0).GetAtomPosition(4))
    (piece,) = pieces(sdf(tmp_path / "in.sdf", mol))
    assert len(piece.conformations) == 1 and [out.reason for out in piece.left_out] == [
        "two atoms at the same position (atoms 5 and 6)"
    ]


def test_what_is_expected_of_an_sdf(tmp_path):
    path = sdf(tmp_path / "in.sdf", embedded("CCO", 3, name="ethanol"))
    assert [piece.n_expected for piece in (*pieces(path), *pieces(path, conformers=4))] == [3, 4]


# ------------------------------------------------------------------------------------------------------ stereoisomers


def test_an_imine_turns_over(tmp_path):
    mol = embedded("CC(=N)N", 8)
    ase.io.write(tmp_path / "in.extxyz", [atoms_of(mol, i, name="amidine") for i in range(8)])
    found = pieces(tmp_path / "in.extxyz")
    assert ids(found) == [f"amidine/{k:04d}" for k in range(8)]
    assert len(set(found[0].conformations.mapped_smiles)) > 1, "both sides are among the conformers"


@pytest.mark.parametrize("smiles", ["C1C2CC1C2", "OC(=O)C12CC(C1)C2", "O=C(NC12CC(C)(C1)C2)c1ccccc1", "C12CC1C2"])
def test_cages_are_embedded(tmp_path, smiles, caplog):
    """With the tags of their bridgeheads ETKDG embeds few or none of them."""
    (tmp_path / "in.smi").write_text(f"{smiles} cage\n")
    for n in (1, 3):
        part, failed = conformations_of(read_molecules(tmp_path / "in.smi")[0], n_conformers=n, seed=1, prune_rmsd=0.0)
        assert 1 <= len(part) <= n and not failed


@pytest.mark.parametrize("smiles", ["C1C2CC3CC1CC(C2)C3", "C1CN2CCC1CC2", "C12C3C4C1C5C2C3C45", "CP(O)(=O)OC"])
def test_what_is_one_compound_is_not_drawn(tmp_path, smiles, caplog):
    (tmp_path / "in.smi").write_text(f"{smiles} one\n")
    part, _ = conformations_of(read_molecules(tmp_path / "in.smi")[0], n_conformers=2, seed=1, prune_rmsd=0.0)
    assert "not specified" not in caplog.text and canonical_smiles(part.mapped_smiles[0]) == Chem.CanonSmiles(smiles)


def test_a_file_of_one_title_is_read_in_time_and_in_pieces(tmp_path):
    mols = [embedded("C" * n + tail, name="ligand") for n in range(1, 16) for tail in ("O", "N", "F")]
    found = pieces(sdf(tmp_path / "in.sdf", *mols), 2)
    assert sum(len(piece.conformations) for piece in found) == 45 and len(found) == 3
    assert len(set(ids(found))) == 45


def test_atoms_in_the_same_order_stay_in_it(tmp_path):
    """The fluorines of CHF2 can be exchanged; nothing asks for it."""
    mol = Chem.AddHs(Chem.MolFromSmiles("FC(F)CS"))
    rdDistGeom.EmbedMultipleConfs(mol, 12, randomSeed=5)
    texts = [Chem.MolToMolBlock(mol, confId=i) for i in range(12)]
    (tmp_path / "in.sdf").write_text("".join(f"one{text[text.index(chr(10)) :]}$$$$\n" for text in texts))
    molecules, _ = read_molecules(tmp_path / "in.sdf")
    assert [one.name for one in molecules] == ["one"]
    part, _ = conformations_of(molecules, n_conformers=0, seed=1, prune_rmsd=0.0)
    for i, conformer in enumerate(mol.GetConformers()):
        np.testing.assert_allclose(part.position[part.rows(i)], conformer.GetPositions(), atol=1e-4)


def test_a_smi_as_vendors_write_it(tmp_path):
    (tmp_path / "in.smi").write_text("SMILES\tID\nCCO |$a;;$| Z 1\t5\nC[C@H](F)O |&1:1|\tZ2\n\n# none\nCO |$b$|\n")
    molecules, left_out = read_molecules(tmp_path / "in.smi")
    assert [one.name for one in molecules] == ["Z 1", "Z2", "mol6"] and not left_out
    assert count_records(tmp_path / "in.smi") == 3


def test_a_proton_has_no_electrons(tmp_path):
    (tmp_path / "in.smi").write_text("[H+] proton\n[H-] hydride\nO water\n[2H+] deuteron\n")
    molecules, left_out = read_molecules(tmp_path / "in.smi", problem=structure_problem)
    assert [one.name for one in molecules] == ["hydride", "water"]
    assert {(out.name, out.reason) for out in left_out} == {
        (name, "it has no electrons") for name in ("proton", "deuteron")
    }


def test_a_csv_row_of_too_many_fields_is_said(tmp_path, caplog):
    (tmp_path / "in.csv").write_text('smiles,name\nCCO,2,4-x\nCO,"2,4-y"\nCC,1,3-z\nCCC,propane,,\n')
    molecules, _ = read_molecules(tmp_path / "in.csv")
    assert [one.name for one in molecules] == ["2", "2,4-y", "1", "propane"]
    assert [record.getMessage().partition("in.csv: ")[2] for record in caplog.records] == [
        "line 2 and 1 more: more fields than columns, the last ones are not read; quote fields that have a ','"
    ]


BRIDGED = ["C1CC2CCC1C2", "CN1C2CCC1CC2", "C1C2CC12", "CC1C2CCC1CC2"]
BRIDGED_MIXTURES = ["OC1CC2CCC1C2", "C1CCC2CCCCC2C1", "C1CCC2CCCC[C@@H]2C1", "CC1(C)C2CCC1(C)C(=O)C2"]
CHANGING_PLACES = ["CC(=N)N", "C[NH+]1CCC[C@H]1c1cccnc1", "CC[NH+](C)C", "C[NH+]1C2CCCC1CC2", "[H]N=C1CC2CCC(C1)C2"]


@pytest.mark.parametrize("smiles", ["C[C@H](F)O", "C/C=C/F", "CCO", "CN(C)CC", *BRIDGED, *CHANGING_PLACES])
def test_one_compound(smiles):
    assert not has_open_stereo(Chem.AddHs(Chem.MolFromSmiles(smiles)))


@pytest.mark.parametrize("smiles", ["CC(F)C(O)C", "CC=CF", "C[N+](CC)(CCC)CCCC", *BRIDGED_MIXTURES])
def test_open_stereocenters(smiles):
    assert has_open_stereo(Chem.AddHs(Chem.MolFromSmiles(smiles)))


def test_conformers_are_of_one_stereoisomer(tmp_path, caplog):
    (tmp_path / "in.smi").write_text("CC(F)C(O)C mixture\nCC=CF alkene\nC[C@H](F)O one\n")
    molecules, _ = read_molecules(tmp_path / "in.smi")
    part, _ = conformations_of(molecules, n_conformers=12, seed=1, prune_rmsd=0.0)
    assert "mixture and 1 more: the stereoisomer is not specified" in caplog.text
    for name in ("mixture", "alkene", "one"):
        isomers = set()
        for i in (i for i in range(len(part)) if part.molecule[i] == name):
            mol = molecule(part.mapped_smiles[i], part.position[part.rows(i)])
            Chem.AssignStereochemistryFrom3D(mol)
            isomers.add(Chem.MolToSmiles(Chem.RemoveHs(mol)))
            assert isomers == {canonical_smiles(part.mapped_smiles[i])}
        assert not has_open_stereo(Chem.MolFromSmiles(isomers.pop()))


# ------------------------------------------------------------------------------------------------------------- library


def test_energies_of_an_ensemble_are_above_its_lowest_conformer(tmp_path):
    """And not above one that did not converge, which is in no ensemble."""
    (tmp_path / "in.smi").write_text("CCCO propanol\n")

    def relaxing(conformations, advance):
        reasons = [StopReason.STEP_LIMIT, StopReason.CONVERGED, StopReason.CONVERGED]
        columns = {"stop_reason": reasons, "n_steps": [1] * 3, "nnp_energy_last": [-9.0, -5.0, -5.001]}
        return conformations.bare().with_columns(values=columns | {"largest_force": [0.0] * 3})

    found = pieces_of(tmp_path / "in.smi", elements=ELEMENTS, size=9, embedding=Embedding(3))
    kept = Ensemble(0.0, 5.0)
    relax_library(found, tmp_path / "out.h5", relaxing, run={"input": "in"}, attrs={}, ensemble=kept)
    assert read(tmp_path / "out.h5").values["relative_energy"] == pytest.approx([0.0, 0.001])


def torn_or_turned(conformations, advance):
    """As a relaxation with a bad network may end, and far below the others."""
    position, n = conformations.position.copy(), len(conformations)
    for i, name in enumerate(conformations.id):
        rows = conformations.rows(i)
        if name == "acid/0000":
            position[rows] *= 1.5
        if name == "alcohol/0001":
            position[rows] *= [1, 1, -1]
    energies = [-9.0 if name in ("acid/0000", "alcohol/0001") else -5.0 for name in conformations.id]
    columns = {"stop_reason": [StopReason.CONVERGED] * n, "n_steps": [1] * n, "nnp_energy_last": energies}
    ends = conformations.bare().with_columns(position=position)
    return ends.with_columns(values=columns | {"largest_force": [0.0] * n, "left_saddle_point": [False] * n})


@pytest.mark.parametrize("ensemble", [None, Ensemble(0.0, 6.0)])
def test_what_is_not_the_molecule_any_more_is_said_and_in_no_ensemble(tmp_path, ensemble):
    (tmp_path / "in.smi").write_text("CC(=O)O acid\nC[C@H](F)O alcohol\nC methane\n")
    found = pieces_of(tmp_path / "in.smi", elements=ELEMENTS, size=2, embedding=Embedding(2), together=True)
    outcome = relax_library(
        found, tmp_path / "out.sdf", torn_or_turned, run={"input": "in"}, attrs={}, ensemble=ensemble
    )
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False))
    changed = {mol.GetProp("_Name"): mol.GetProp("changed_molecule") for mol in mols if mol.HasProp("changed_molecule")}
    if ensemble is None:
        assert set(changed) == {"acid/0000", "alcohol/0001"} and set(outcome.changed) == {"acid", "alcohol"}
        assert "angstrom apart" in changed["acid/0000"] and "the stereocenter C, atom 2, is" in changed["alcohol/0001"]
    else:
        assert (
            not changed and not outcome.changed and (outcome.ensembles["kept"], outcome.ensembles["changed"]) == (4, 2)
        )
        assert {out.name for out in outcome.left_out} == {"acid/0000", "alcohol/0001"}
        assert all(out.reason.startswith("it is no longer the molecule: ") for out in outcome.left_out)
    relative = [float(mol.GetProp("relative_energy_kcal_mol")) for mol in mols if mol.GetProp("_Name") not in changed]
    assert relative == [0.0] * 4


def test_what_was_left_out_is_listed_where_nothing_could_be_relaxed(model, tmp_path, capsys):
    (tmp_path / "in.smi").write_text("C1CC broken\nB boron\n")
    assert relaxed(tmp_path / "in.smi", tmp_path / "out.sdf", model) == 2
    assert "(first: line 1 (broken): RDKit" in capsys.readouterr().err and not (tmp_path / "out.sdf").exists()
    with open(tmp_path / "out.sdf.left_out.csv", newline="") as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == ["broken", "boron"]


@pytest.mark.slow
def test_two_at_a_time_on_one_output(model, tmp_path, capsys):
    (tmp_path / "in.smi").write_text("".join(f"CCCCO m{i}\n" for i in range(400)))
    slow = ["relax", tmp_path / "in.smi", "-m", model, "-o", tmp_path / "out.h5", "--max-steps", 10**6]
    slow += ["--force-threshold", 1e-12, "--optimizer", "lbfgs"]
    first = subprocess.Popen([sys.executable, "-m", "golf.cli.main", *map(str, slow)], cwd=REPOSITORY)
    try:
        while not (tmp_path / "out.h5.parts").exists():
            assert first.poll() is None
            time.sleep(0.1)
        assert relaxed(tmp_path / "in.smi", tmp_path / "out.h5", model, "--force") == 2
        assert f"out.h5.lock: in use by process {first.pid} on " in capsys.readouterr().err
    finally:
        first.terminate()
        first.wait()
    assert relaxed(tmp_path / "in.smi", tmp_path / "out.h5", model, "--force") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.smi", "out.h5"]


def test_parts_of_a_run_that_ended_are_still_there_for_the_next(model, tmp_path):
    """The lock goes, the parts stay."""
    (tmp_path / "in.smi").write_text("CO a\nCCO b\nCCCO c\n")
    calls = []

    def relaxing(conformations, advance):
        calls.append(conformations.molecule[0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        columns = {"stop_reason": [0], "n_steps": [1], "nnp_energy_last": [-1.0], "largest_force": [0.0]}
        return conformations.bare().with_columns(values=columns)

    def run():
        found = pieces_of(tmp_path / "in.smi", elements=ELEMENTS, size=1, embedding=Embedding())
        return relax_library(found, tmp_path / "out.h5", relaxing, run={"input": "in"}, attrs={}, ensemble=None)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.smi", "out.h5.parts"]
    assert run().n_relaxed == 3 and calls == ["a", "b", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.smi", "out.h5"]


def test_the_place_of_a_frame_is_said_once(model, tmp_path, capsys):
    (tmp_path / "in.xyz").write_text("2\nname=x\nH 0 0 0\nXx 0 0 1\n")
    assert relaxed(tmp_path / "in.xyz", tmp_path / "out.sdf", model) == 2
    assert "(first: frame 1, line 1, x: line 4: 'Xx' is" in capsys.readouterr().err
