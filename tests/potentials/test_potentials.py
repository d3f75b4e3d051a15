"""Each kind of potential gives the energies and forces of what it wraps; a failure is that of one molecule."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule as ase_molecule

from golf.chem.mmff import MMFFSurrogate
from golf.cli.main import main
from golf.core.conformations import ConformationSet, StopReason
from golf.core.hdf5 import read
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.identity import derived_bonds
from golf.nnp.provider import Molecules
from golf.nnp.published import import_checkpoint
from golf.potentials import aimnet2
from golf.potentials.catalog import CATALOG
from golf.potentials.load import load_potential
from golf.potentials.store import fetch
from support.mmff_potential import conformers


@pytest.fixture(scope="module")
def cache(tmp_path_factory, reference_data):
    """A cache with the networks that tests need; AIMNet2 comes out of its wheel, which pip downloads."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GOLF_MODELS", str(folder))
        fetch(CATALOG["golf-1k"], str(reference_data))
        yield folder


@pytest.fixture(scope="module")
def with_aimnet2(cache):
    fetch(CATALOG["aimnet2"])
    return cache


@pytest.fixture(scope="module")
def molecules():
    return conformers(["CCO", "c1ccsc1", "NCC(F)Cl"], 1)


def ion(atoms, charge):
    smiles = derived_bonds(atoms.numbers, atoms.positions, charge)
    return ConformationSet.build([("ion/0", "ion", smiles, charge, 1, atoms.numbers, atoms.positions)])


AMMONIUM = Atoms(
    "NH4", [(0, 0, 0), (0.59, 0.59, 0.59), (-0.59, -0.59, 0.59), (-0.59, 0.59, -0.59), (0.59, -0.59, -0.59)]
)


def evaluated(potential, conformations):
    positions = torch.from_numpy(conformations.position)
    energies, forces = potential.evaluate(Molecules.of(conformations), positions)
    assert energies.dtype == forces.dtype == torch.float64
    return energies.numpy(), forces.numpy()


def slope(potential, conformations, atom, h=5e-3):
    """Minus the derivative of the total energy for x of an atom, by central differences."""
    sides = []
    for step in (h, -h):
        moved = conformations.position.copy()
        moved[atom, 0] += step
        sides.append(evaluated(potential, conformations.with_columns(position=moved))[0].sum())
    return (sides[1] - sides[0]) / (2 * h)


def test_a_published_network_by_name_is_the_imported_one(cache, molecules, reference_data):
    imported = import_checkpoint(reference_data / "checkpoints" / "GOLF-1k")
    with load_potential("golf-1k", device="cpu", cores=1) as potential:
        for one, other in zip(evaluated(potential, molecules), evaluated(imported, molecules), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_the_force_field_is_rdkits(molecules):
    mmff = MMFFSurrogate()
    with load_potential("mmff") as potential:
        energies, forces = evaluated(potential, molecules)
    for i, smiles in enumerate(molecules.mapped_smiles):
        energy, force = mmff.energy_and_forces(smiles, molecules.position[molecules.rows(i)])
        assert energies[i] == energy and (forces[molecules.rows(i)] == force).all()


def test_xtb_is_tblites_with_charge(molecules):
    from tblite.ase import TBLite

    with load_potential("gfn2", cores=2) as potential:
        energies, forces = evaluated(potential, molecules)
        charged, _ = evaluated(potential, ion(AMMONIUM, 1))
    rows = molecules.rows(1)
    atoms = Atoms(molecules.number[rows], molecules.position[rows])
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    assert energies[1] == pytest.approx(atoms.get_potential_energy() / HARTREE_IN_EV, abs=1e-6)
    np.testing.assert_allclose(forces[rows], atoms.get_forces() / HARTREE_IN_EV, rtol=0, atol=1e-7)
    cation = AMMONIUM.copy()
    cation.calc = TBLite(method="GFN2-xTB", charge=1, verbosity=0)
    assert charged[0] == pytest.approx(cation.get_potential_energy() / HARTREE_IN_EV, abs=1e-6)


def test_so3lr_reads_the_charge(molecules):
    with load_potential("so3lr", cores=1) as potential:
        _, forces = evaluated(potential, molecules)
        assert forces[2, 0] == pytest.approx(slope(potential, molecules, 2), abs=3e-5)
        as_cation, _ = evaluated(potential, ion(AMMONIUM, 1))
        as_neutral, _ = evaluated(potential, replace(ion(AMMONIUM, 1), charge=np.array([0], np.int16)))
    assert abs(as_cation[0] - as_neutral[0]) > 0.01


@pytest.mark.slow
def test_aimnet2_in_padded_batches_and_with_charge(with_aimnet2, molecules, monkeypatch):
    with load_potential("aimnet2", device="cpu", cores=2) as potential:
        energies, forces = evaluated(potential, molecules)
        monkeypatch.setattr(aimnet2, "MOLECULES_AT_ONCE", 1)
        alone = evaluated(potential, molecules)
        np.testing.assert_allclose(energies, alone[0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(forces, alone[1], rtol=0, atol=1e-6)
        # Coordinates are float32 inside, so that differences of energies are no better than this
        assert forces[2, 0] == pytest.approx(slope(potential, molecules, 2), abs=3e-5)
        assert forces[12, 0] == pytest.approx(slope(potential, molecules, 12), abs=3e-5)
        ammonia, ammonium = ion(ase_molecule("NH3"), 0), ion(AMMONIUM, 1)
        affinity = evaluated(potential, ammonia)[0][0] - evaluated(potential, ammonium)[0][0]
        assert affinity * HARTREE_IN_KCAL_PER_MOL == pytest.approx(212, abs=5)  # experiment: 204, and 9 of vibrations


def test_files_that_are_not_aimnet2_are_one_line(cache, tmp_path, molecules):
    (tmp_path / "text.jpt").write_text("not a network")
    torch.jit.script(torch.nn.Linear(3, 1)).save(tmp_path / "linear.jpt")
    assert main(["relax", "x.smi", "-m", str(tmp_path / "text.jpt"), "-o", str(tmp_path / "o.sdf")]) == 2
    for name, message in {
        "text": "not a TorchScript file",
        "linear": "a TorchScript file that is not AIMNet2",
        "absent": "no such file",
    }.items():
        with pytest.raises(Exception, match=rf"{name}\.jpt: {message}"):
            load_potential(tmp_path / f"{name}.jpt", device="cpu", cores=1)


CALCULATOR = """
import os
from ase.calculators.emt import EMT

class Fragile(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        n_oxygens = int((atoms.numbers == 8).sum()) if len(atoms) > 2 else 0
        if n_oxygens == 2:
            os._exit(3)
        while n_oxygens == 3:
            pass
        super().calculate(atoms, properties, system_changes)
"""


def test_a_crash_and_a_hang_lose_one_molecule_each(tmp_path, monkeypatch, caplog):
    (tmp_path / "fragile_calculator.py").write_text(CALCULATOR)
    monkeypatch.chdir(tmp_path)
    some = conformers(["CCO", "OCCO", "CCN", "OCC(O)CO"], 1)
    with load_potential("ase:fragile_calculator.Fragile", cores=2, time_limit=1.0) as potential:
        assert potential.card.elements == (1, 6, 7, 8, 29)  # those of EMT that are asked for
        energies, forces = evaluated(potential, some)
        again, _ = evaluated(potential, some.subset([0, 2]))
    assert np.isnan(energies).tolist() == [False, True, False, True]
    assert [bool(np.isnan(forces[some.rows(i)]).all()) for i in range(4)] == [False, True, False, True]
    np.testing.assert_array_equal(again, energies[[0, 2]])
    assert "OCCO: crashed" in caplog.text and "exit status 3" in caplog.text and "no result within 1 s" in caplog.text


def test_a_molecule_that_crashes_the_potential_is_not_finite_and_the_others_are_relaxed(tmp_path, monkeypatch):
    (tmp_path / "fragile_calculator.py").write_text(CALCULATOR)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.smi").write_text("CCO ethanol\nOCCO glycol\nCCN ethylamine\n")
    name = "ase:fragile_calculator.Fragile"
    assert main(["relax", "in.smi", "-m", name, "-o", "out.h5", "--cores", "2", "--max-steps", "3"]) == 0
    out = read(tmp_path / "out.h5")
    reasons = dict(zip(out.molecule, out.values["stop_reason"].tolist(), strict=True))
    assert reasons["glycol"] == StopReason.NOT_FINITE
    assert StopReason.NOT_FINITE not in (reasons["ethanol"], reasons["ethylamine"])


def test_molecules_that_a_potential_does_not_take_are_left_out_with_the_reason(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in.smi").write_text("CCO ethanol\nC[NH3+] ion\nC[Si](C)(C)C silane\nOCC[NH2+]CC([O-])=O zwitterion\n")
    assert main(["relax", "in.smi", "-m", "golf-1k", "-o", "out.h5", "--cores", "1", "--max-steps", "2"]) == 1
    assert set(read("out.h5").molecule) == {"ethanol", "zwitterion"}
    said = capsys.readouterr().err
    assert "its charge is +1, and golf-1k describes neutral molecules only" in said
    assert "ion" in Path("out.h5.left_out.csv").read_text() and "silane" in Path("out.h5.left_out.csv").read_text()


def test_a_molecule_that_is_not_taken_is_left_out_once_and_not_embedded(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in.smi").write_text("CCO ethanol\nC[NH3+] ion\n")
    command = ["relax", "in.smi", "-m", "golf-1k", "-o", "out.h5", "--conformers", "3", "--max-steps", "2"]
    assert main([*command, "--cores", "1"]) == 1
    assert Path("out.h5.left_out.csv").read_text().count("its charge is +1") == 1
    assert "line 2 (ion) is left out: its charge is +1" in capsys.readouterr().err
    assert len(read("out.h5")) == 3


def test_help_imports_no_large_package():
    """So that it takes 0.1 s, and not 3."""
    code = (
        "import sys, golf.cli.main as c; c._parser().format_help(); print({'torch', 'rdkit', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
