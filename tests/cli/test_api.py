"""`golf.load` and `golf.relax`: the numbers of the command, molecules of any kind, results for RDKit and pandas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule as ase_molecule
from rdkit import Chem
from rdkit.Chem import AllChem, rdDistGeom

import golf
from golf.cli.main import main
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.core.units import HARTREE_IN_EV
from golf.nnp.potential import Architecture, Potential

SMILES = {"methanol": "CO", "ethanol": "CCO", "fluoride": "CCF", "acetate": "CC(=O)[O-]"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), {1: -0.5, 6: -37.8, 8: -74.9}).save(path)
    return path


@pytest.fixture
def smi(tmp_path):
    path = tmp_path / "in.smi"
    path.write_text("".join(f"{smiles} {name}\n" for name, smiles in SMILES.items()))
    return path


def assert_same(found, expected):
    """To the last bit, ids included."""
    one, other = found.conformations, expected
    assert one.id == other.id and one.mapped_smiles == other.mapped_smiles
    np.testing.assert_array_equal(one.position, other.position)
    for name in ("nnp_energy_last", "relative_energy", "n_steps", "stop_reason"):
        np.testing.assert_array_equal(one.values[name], other.values[name])
    np.testing.assert_array_equal(one.atoms["nnp_force"], other.atoms["nnp_force"])


@pytest.mark.parametrize("options", [{"max_steps": 6}, {"optimizer": "lbfgs", "max_steps": 3}])
def test_the_function_and_the_command_give_the_same(model, smi, tmp_path, options):
    output = tmp_path / "out.h5"
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["relax", str(smi), "-m", str(model), "-o", str(output), "--cores", "1", *flags]) == 1
    found = golf.relax(SMILES, model, cores=1, **options)
    assert_same(found, read(output))
    assert_same(golf.relax(smi, str(model), cores=1, **options), read(output))
    assert [(out.line, out.name) for out in found.left_out] == [(3, "fluoride")]
    assert "has F, which" in found.left_out[0].reason


def test_ensembles_are_those_of_the_command(smi, tmp_path):
    output = tmp_path / "out.h5"
    flags = ["--conformers", "4", "--prune", "0.5", "--window", "6", "--seed", "3", "--cores", "1"]
    assert main(["relax", str(smi), "-m", "mmff", "-o", str(output), *flags]) == 0
    found = golf.relax(SMILES, "mmff", conformers=4, prune=0.5, window=6.0, seed=3, cores=1)
    assert_same(found, read(output))
    assert 4 <= len(found) < 16


def test_a_loaded_potential_relaxes_several_times(model):
    with golf.load(model, cores=1) as potential:
        one, other = (golf.relax("CO", potential, cores=1) for _ in range(2))
    assert_same(one, other.conformations)
    assert one.conformations.id == ["mol1/0000"] and len(one) == 1


def test_geometries_of_rdkit_and_ase_and_conformation_sets_are_the_starts(tmp_path):
    """All with the geometry of one file; RDKit's atom order stays."""
    mol = Chem.AddHs(Chem.MolFromSmiles("OCC"))
    rdDistGeom.EmbedMultipleConfs(mol, 2, randomSeed=5)
    mol.SetProp("_Name", "mine")
    found = golf.relax(mol, "mmff", cores=1)
    assert found.conformations.id == ["mine/0000", "mine/0001"]
    np.testing.assert_array_equal(found.conformations.atoms["initial_position"][:9], mol.GetConformer(0).GetPositions())
    np.testing.assert_array_equal(found.conformations.number[:3], [8, 6, 6])
    again = golf.relax(
        found.conformations.with_columns(position=found.conformations.atoms["initial_position"]), "mmff", cores=1
    )
    np.testing.assert_array_equal(again.conformations.position, found.conformations.position)
    atoms = [ase_molecule("CH3OH"), ase_molecule("H2O")]
    atoms[1].info["name"] = "water"
    from_ase = golf.relax(atoms, "mmff", cores=1)
    assert from_ase.conformations.id == ["mol1/0000", "water/0000"]
    np.testing.assert_array_equal(from_ase.conformations.atoms["initial_position"][:6], atoms[0].positions)
    reference = Chem.AddHs(Chem.MolFromSmiles("O"))
    AllChem.EmbedMolecule(reference, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(reference, maxIters=1000)
    properties = AllChem.MMFFGetMoleculeProperties(reference)
    lowest = AllChem.MMFFGetMoleculeForceField(reference, properties).CalcEnergy()
    assert from_ase.table.energy_hartree[1] * 627.5094740631 == pytest.approx(lowest, abs=1e-3)


def test_results_for_rdkit_ase_and_pandas(tmp_path):
    found = golf.relax(SMILES, "mmff", cores=1)
    table = found.table
    assert table.id.tolist() == found.conformations.id and table.charge.tolist() == [0, 0, 0, -1]
    assert table.smiles.tolist() == [Chem.CanonSmiles(smiles) for smiles in SMILES.values()]
    assert (table.stop_reason == "converged").all() and not found.left_out
    for i, (mol, atoms) in enumerate(zip(found.to_rdkit(), found.to_ase(), strict=True)):
        positions = found.conformations.position[found.conformations.rows(i)]
        np.testing.assert_array_equal(mol.GetConformer().GetPositions(), positions)
        np.testing.assert_array_equal(atoms.positions, positions)
        assert mol.GetProp("_Name") == atoms.info["name"] == table.id[i]
        assert float(mol.GetProp("energy_hartree")) == pytest.approx(table.energy_hartree[i], abs=1e-8)
        assert atoms.get_potential_energy() == pytest.approx(table.energy_hartree[i] * HARTREE_IN_EV, abs=1e-12)
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.1 / 627.5 * HARTREE_IN_EV
    golf.write(tmp_path / "out.sdf", found.conformations)
    assert len(golf.read(tmp_path / "out.sdf")) == 4


def test_options_of_the_command_work(tmp_path):
    isomers = golf.relax("C[C@H](O)C(F)Cl", "mmff", stereo="all", cores=1)
    assert len(isomers) == 2
    salt = golf.relax({"salt": "CC(=O)[O-].[Na+]"}, "mmff", largest_fragment=True, cores=1)
    assert salt.table.smiles.tolist() == ["CC(=O)[O-]"]
    mol = golf.relax("CCO", "mmff", cores=1).to_rdkit()[0]
    frozen = golf.relax(mol, "mmff", freeze="heavy", cores=1).conformations
    moved = np.abs(frozen.position - frozen.atoms["initial_position"]).max(axis=1)
    assert (moved[frozen.number > 1] == 0).all()


PERIODIC = ase_molecule("H2O", vacuum=3.0, pbc=True)
WRONG = [
    (("CO", "mmf"), {}, r"mmff"),
    (("CO", Path("absent.pt")), {}, r"absent\.pt: no such file"),
    (([], "mmff"), {}, r"molecules: has no molecules that can be relaxed"),
    (("C1CC", "mmff"), {}, r"molecules: has no molecules.*unclosed ring"),
    (([None], "mmff"), {}, r"molecules: has no molecules.*it is None"),
    ((3, "mmff"), {}, r"int is not a molecule; give SMILES"),
    (([3], "mmff"), {}, r"molecule 1 is of type int; give SMILES"),
    ((["CO", ase_molecule("H2O")], "mmff"), {}, r"SMILES or RDKit molecules and ASE atoms together"),
    ((PERIODIC, "mmff"), {}, r"is periodic; set atoms\.pbc = False"),
    ((Path("absent.smi"), "mmff"), {}, r"absent\.smi: no such file"),
    (("my.smi", "mmff"), {}, r"molecule 1: 'my\.smi' is the name of a file.*give pathlib\.Path\('my\.smi'\)"),
    (("CO", "mmff"), {"conformer": 3}, r"conformer is not an option of relax; give one of conformers, "),
    (("CO", "mmff"), {"optimizer": "bfgs"}, r"optimizer 'bfgs': give one of lbfgs, preconditioned"),
    (("CO", "mmff"), {"max_steps": 0}, r"--max-steps 0: must be positive"),
    (("CO", "mmff"), {"freeze": "heavy"}, r"--freeze: needs the geometries of the input"),
    ((ase_molecule("H2O"), "mmff"), {"conformers": 3}, r"--conformers: molecules has geometries"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), WRONG)
def test_wrong_arguments_are_one_line(arguments, options, message):
    with pytest.raises(UserError, match=message) as caught:
        golf.relax(*arguments, **options, cores=1)
    assert len(str(caught.value).splitlines()) == 1


def test_no_cores_are_refused_as_on_the_command_line():
    with pytest.raises(UserError, match="cores 0: must be positive"):
        golf.relax("CO", "mmff", cores=0)
    with pytest.raises(UserError, match="cores 0: must be positive"):
        golf.Calculator("mmff", cores=0)
