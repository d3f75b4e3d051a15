"""`golf optimize`: minima of GFN2-xTB, from ends of GFN1-xTB, as those of DFT from ends of a potential."""

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.io import read as read_ase
from rdkit import Chem

from golf.cli.main import main
from golf.core import hdf5
from golf.core.conformations import Status
from golf.core.level import LevelOfTheory
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from golf.io.ends import read_ends
from golf.io.labelled import read_extxyz
from golf.io.read import read_structures
from golf.oracles.costs import Basis
from golf.oracles.minima import optimize_to_file
from golf.oracles.programs.pool import OraclePool
from golf.oracles.programs.protocol import requests_from
from golf.relaxation.oracle_minima import lowest, one_batch
from support import FINDABLE

GFN1 = LevelOfTheory("ase", "tblite:GFN1-xTB", "none")
GFN2 = LevelOfTheory("ase", "tblite:GFN2-xTB", "none")
BY_GFN2 = ("--program", "ase", "--method", "tblite:GFN2-xTB", "--cores", "1")


def golf(*arguments):
    """The command in this process; returns its exit status."""
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Three conformers of propanol and one of methanol, at minima of GFN1-xTB."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "in.smi").write_text("CCCO propanol\n")
    (folder / "one.smi").write_text("CO methanol\n")
    optimize_to_file(read_structures(folder / "in.smi", conformers=3), folder / "ends.h5", level=GFN1, n_workers=2)
    optimize_to_file(read_structures(folder / "one.smi"), folder / "single.h5", level=GFN1, n_workers=1)
    return folder


@pytest.fixture(scope="module")
def minima(ends, tmp_path_factory):
    """All of them, with the Hessians."""
    out = tmp_path_factory.mktemp("minima") / "minima.h5"
    assert golf("optimize", ends / "ends.h5", "-o", out, *BY_GFN2) == 0
    return out


def test_minima_are_minima_and_take_fewer_gradients_than_without_the_hessian(ends, minima, tmp_path, capsys):
    found, starts = hdf5.read(minima), hdf5.read(ends / "ends.h5")
    assert found.id == starts.id and GFN2.matches(found.attrs) and found.attrs["hessian"] == "tblite:GFN2-xTB"
    assert (found.values["status"] == Status.OK).all() and not list(minima.parent.glob("*.hessians"))
    np.testing.assert_array_equal(found.atoms["initial_position"], starts.position)
    with OraclePool(GFN2) as oracle:
        for i, request in enumerate(requests_from(found)):
            label = oracle.compute(request)
            assert label.energy == pytest.approx(found.values["energy"][i], abs=1e-7)
            assert np.linalg.norm(label.forces, axis=1).max() < 8.6e-4
    relative = found.values["energy"] - found.values["energy"].min()
    np.testing.assert_allclose(found.values["relative_energy"], relative, atol=1e-12)
    assert golf("optimize", ends / "ends.h5", "-o", tmp_path / "plain.h5", "--hessian", "none", *BY_GFN2) == 0
    plain = hdf5.read(tmp_path / "plain.h5")
    np.testing.assert_allclose(plain.values["energy"], found.values["energy"], atol=3e-6)
    assert found.values["n_force_evaluations"].sum() < 0.8 * plain.values["n_force_evaluations"].sum()
    assert re.search(r"3 minima are in .*plain\.h5, after [\d.]+ gradients on average", capsys.readouterr().err)


@pytest.mark.parametrize("suffix", ["sdf", "extxyz"])
def test_files_of_structures_have_energies_and_convergence(ends, minima, tmp_path, suffix, capsys):
    """The gradients come from the journal of the .h5, copied beside the output."""
    out = tmp_path / f"minima.{suffix}"
    journal = tmp_path / "minima.journal.jsonl"
    journal.write_bytes(minima.with_suffix(".journal.jsonl").read_bytes())
    before = journal.read_bytes()
    assert golf("optimize", ends / "ends.h5", "-o", out, "--top", 2, *BY_GFN2) == 0
    assert journal.read_bytes() == before
    assert "2 optimizations at tblite:gfn2-xtb (ase), of 3 conformations" in capsys.readouterr().err
    found, by_gfn1 = hdf5.read(minima), hdf5.read(ends / "ends.h5").values["energy"]
    chosen = sorted(np.argsort(by_gfn1)[:2].tolist())
    again = read_ends(out)
    np.testing.assert_allclose(again.energy, found.values["energy"][chosen], atol=1e-7)
    if suffix == "sdf":
        mols = list(Chem.SDMolSupplier(str(out), removeHs=False))
        assert [mol.GetProp("_Name") for mol in mols] == [found.id[i] for i in chosen]
        assert [int(mol.GetProp("n_gradients")) for mol in mols] == found.values["n_force_evaluations"][chosen].tolist()
        assert {mol.GetProp("stop_reason") for mol in mols} == {"converged"}
        assert min(float(mol.GetProp("relative_energy_kcal_mol")) for mol in mols) == 0.0
    else:
        labels, _ = read_extxyz(out)  # labels, not predictions
        assert (labels.values["status"] == Status.OK).all() and GFN2.matches(labels.attrs)
        first = read_ase(out, index=0)
        assert first.get_potential_energy() == pytest.approx(labels.values["energy"][0] * HARTREE_IN_EV)


def test_the_window_is_that_of_the_input(ends):
    given = read_ends(ends / "ends.h5")
    above = np.sort(given.energy - given.energy.min()) * HARTREE_IN_KCAL_PER_MOL
    assert above[1] < above[2]
    chosen, left_out = lowest(given, window=0.5 * (above[1] + above[2]))
    assert chosen.conformations.id == [given.conformations.id[i] for i in sorted(np.argsort(given.energy)[:2])]
    assert not left_out and len(lowest(given, top=1, window=99.0)[0].lines) == 1
    stretched = given.conformations.position.copy()
    stretched[0] += 3.0
    broken = dataclasses.replace(given, conformations=given.conformations.with_columns(position=stretched))
    chosen, (out,) = lowest(broken, top=3)
    assert len(chosen.lines) == 2 and out.name == given.conformations.id[0]
    assert out.reason.startswith("it is no longer the molecule: ")


def test_a_killed_run_resumes(ends, minima, tmp_path):
    out = tmp_path / "minima.h5"
    command = [sys.executable, "-m", "golf.cli.main", "optimize", str(ends / "ends.h5"), "-o", str(out), *BY_GFN2]
    run = subprocess.Popen(command, env=os.environ | FINDABLE | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    journal, deadline = out.with_suffix(".journal.jsonl"), time.monotonic() + 120
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    n_done = journal.read_bytes().count(b"\n")
    kept = sorted((tmp_path / "minima.h5.hessians").iterdir())
    assert n_done >= 3 and len(kept) == 3 and not out.exists()
    written = [path.stat().st_mtime_ns for path in kept]
    assert subprocess.run(command, env=os.environ | FINDABLE, check=False).returncode == 0
    assert written and not (tmp_path / "minima.h5.hessians").exists()
    again, straight = hdf5.read(out), hdf5.read(minima)
    np.testing.assert_array_equal(again.position, straight.position)
    lines = journal.read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == again.values["n_force_evaluations"].sum()


def test_what_has_no_minimum_is_left_out_and_listed(ends, tmp_path, capsys):
    assert golf("optimize", ends / "ends.h5", "-o", tmp_path / "m.sdf", "--max-steps", 1, *BY_GFN2) == 2
    assert "no minimum was found; see " in capsys.readouterr().err
    with open(tmp_path / "m.sdf.left_out.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["propanol/0000", "propanol/0001", "propanol/0002"]
    assert "no minimum: no minimum within 1 steps" in rows[0]["reason"] and not (tmp_path / "m.sdf").exists()
    # a molecule that the oracle lacks, and one that it has
    (tmp_path / "two.xyz").write_text(
        "3\nname=water\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n2\nname=fluoride\nH 0 0 0\nF 0.92 0 0\n"
    )
    emt = ("--program", "ase", "--method", "ase.calculators.emt.EMT", "--cores", "1")
    assert golf("optimize", tmp_path / "two.xyz", "-o", tmp_path / "two.sdf", *emt) == 1
    said = capsys.readouterr().err
    assert "fluoride" in said and "ase.calculators.emt.emt (ase) does not cover F" in said
    assert [mol.GetProp("_Name") for mol in Chem.SDMolSupplier(str(tmp_path / "two.sdf"))] == ["water/0000"]


def test_batches_have_whole_molecules_and_together_all(tmp_path):
    (tmp_path / "many.xyz").write_text(
        "".join(
            f"3\nname=water{k} energy={-k}\nO 0 0 0\nH 0.96 0 {k / 99}\nH -0.24 0.93 0\n" for k in (0, 0, 1, 2, 2, 3)
        )
        + "2\nname=hydrogen\nH 0 0 0\nH 0.74 0 0\n1\nname=helium\nHe 0 0 0\n"
    )
    ends, basis = read_ends(tmp_path / "many.xyz"), Basis(dict.fromkeys((1, 2, 8), 0))
    batches = [one_batch(ends, index, 3, basis).conformations for index in range(3)]
    assert sorted(id for batch in batches for id in batch.id) == sorted(ends.conformations.id)
    molecules = [set(batch.molecule) for batch in batches]
    assert all(molecules) and not any(molecules[k] & molecules[k - 1] for k in range(3))
    assert not len(one_batch(ends.subset([0, 1]), 1, 2, basis).conformations)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("in.smi", "-o", "out.sdf"), r"in\.smi: has no geometries"),
        (("ends.h5", "-o", "out.mol2"), r"out\.mol2: unknown suffix"),
        (("ends.h5", "-o", "ends.h5", "--force"), r"ends\.h5: the same file as the input"),
        (("ends.h5", "-o", "out.sdf", "--top", "0"), r"--top 0: must be positive"),
        (("ends.h5", "-o", "out.sdf", "--window", "-1"), r"--window -1\.0: must not be negative"),
        (("ends.h5", "-o", "out.sdf", "--force-threshold", "0"), r"--force-threshold 0\.0: must be positive"),
        (("ends.h5", "-o", "out.sdf", "--batch", "3/2"), r"--batch 3/2: not the number of a batch; write it like 1/8"),
        (("bare.xyz", "-o", "out.sdf", "--top", "1"), r"bare\.xyz: water/0000: has no energy in the input, by which"),
    ],
)
def test_wrong_input_is_one_line(ends, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(ends)
    (ends / "bare.xyz").write_text("3\nname=water\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    assert golf("optimize", *arguments, *BY_GFN2) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(reason, line) and not list(ends.glob("out*"))


@pytest.mark.slow
def test_a_minimum_of_psi4(psi4, ends, tmp_path, capsys):
    out = tmp_path / "m.h5"
    assert golf("optimize", ends / "single.h5", "-o", out, "--method", "hf", "--basis", "sto-3g") == 0
    assert re.search(r"cost: at most about \d+ s of processor time", capsys.readouterr().err)
    found = hdf5.read(out)
    assert found.values["status"][0] == Status.OK and found.values["n_force_evaluations"][0] < 14
