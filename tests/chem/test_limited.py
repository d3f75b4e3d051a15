"""Calls with a time limit in child processes: results, limits, crashes, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from golf.chem.conformers import conformations_of, embedded
from golf.chem.limited import NotFinished, TimedOut, call, call_each
from golf.chem.molecules import mapped_smiles
from golf.chem.usable import Molecule

HANGS = "CCOCc1ccc2c(c1)c1c3c(c4c5cc(COCC)ccc5n5c4c1n2[C@@H]1C[C@H](C(=O)OOC)[C@]5(C)O1)CNC3=O"
"""A methyl ester of K252a drawn with strained rings: RDKit does not come back from its embedding."""


def hydrogenated(smiles):
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def test_conformers_are_those_of_a_call_in_this_process_to_the_bit():
    mols = [hydrogenated(smiles) for smiles in ("CC(O)CF", "OC[C@H](N)C(=O)O", "C1CC2CCC1C2", "CC=CCl", "c1ccccc1O")]
    here = [embedded(mol, 3, 7, 0.0) for mol in mols]
    for threads in (1, 3):
        there = list(call_each(embedded, [(mol, 3, 7, 0.0) for mol in mols], seconds=60, threads=threads))
        for one, same in zip(here, there, strict=True):
            np.testing.assert_array_equal(one.positions, same.positions)
            assert (one.isomer and mapped_smiles(one.isomer)) == (same.isomer and mapped_smiles(same.isomer))


def test_molecules_arrive_as_they_were_sent():
    mol = hydrogenated("C[C@H](O)/C=C/[O-]")
    mol.SetProp("id", "A1")
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(np.random.default_rng(1).normal(size=(mol.GetNumAtoms(), 3)))
    mol.AddConformer(conformer)
    (back,) = call_each(Chem.Mol, [(mol,)], seconds=60)
    assert back.GetProp("id") == "A1" and mapped_smiles(back) == mapped_smiles(mol)
    np.testing.assert_array_equal(back.GetConformer().GetPositions(), conformer.GetPositions())


def test_a_molecule_that_does_not_come_back_is_left_out_and_the_others_are_not():
    names = {"first": "CCO", "hangs": HANGS, "second": "OCCO", "third": "CCN"}
    molecules = [Molecule(name, hydrogenated(smiles), i) for i, (name, smiles) in enumerate(names.items(), start=1)]
    started = time.monotonic()
    conformations, (out,) = conformations_of(molecules, n_conformers=1, seed=1, prune_rmsd=0.0, threads=2, timeout=1.0)
    assert conformations.molecule == ["first", "second", "third"]
    assert (out.name, out.line) == ("hangs", 2) and out.reason.startswith(
        "it could not be embedded within 1 s with its"
    )
    assert time.monotonic() - started < 30


def test_children_are_there_for_the_next_call_and_gone_after_one_that_was_given_up():
    molecules = [Molecule("ethanol", hydrogenated("CCO"), 1)]
    first, again = (_children_of(molecules) for _ in range(2))
    assert first and again == first
    results = call_each(os.getpid, [()] * 3, seconds=60)
    assert next(results) in first
    results.close()
    assert not set(first) & set(_children_of(molecules))


def _children_of(molecules):
    """Process ids of the children of this process after an embedding."""
    conformations_of(molecules, n_conformers=1, seed=1, prune_rmsd=0.0)
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [pid for one in tasks for pid in map(int, one.read_text().split()) if "golf.chem.limited" in _command(pid)]


def _command(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_process_that_ends_is_replaced_and_errors_are_those_of_the_function():
    with pytest.raises(NotFinished, match="signal 6"):
        call(os.abort, seconds=60)
    with pytest.raises(TimedOut, match=r"within 0\.2 s"):
        call(sum, range(10**12), seconds=0.2)
    with pytest.raises(ValueError, match="invalid literal"):
        call(int, "x", seconds=60)
    assert call(print, "what is printed is no answer", seconds=60) is None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_embedding_at_once_and_leaves_no_process(model, tmp_path, number, status):
    (tmp_path / "in.smi").write_text(f"CCO ethanol\n{HANGS} hangs\nOCCO glycol\n")
    arguments = ["relax", "in.smi", "-m", str(model), "-o", "out.sdf", "--embed-timeout", "500"]
    process = subprocess.Popen(
        [sys.executable, "-m", "golf.cli.main", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while not (children := _children_at_work(process.pid)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    started = time.monotonic()
    process.send_signal(number)
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() - started < 5  # the rest is Python's own end, with torch in memory
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in errors
    assert not (tmp_path / "out.sdf").exists()


def _children_at_work(parent):
    """Those that have used more processor time than an import takes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and int(fields[11]) > 2 * os.sysconf("SC_CLK_TCK"):
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_python_is_not_taken_down_but_the_exit_functions_run(number):
    program = f"""
import atexit, os, signal, sys
from golf.core.ending import end_on_signals, run

class Torch:
    def __del__(self):
        os.write(2, b"taken down")

kept = Torch()
atexit.register(print, "at exit")

def main():
    end_on_signals()
    try:
        os.kill(os.getpid(), {int(number)})
        while True:
            pass
    except KeyboardInterrupt:
        return 130
    finally:
        print("closed")

run(main)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "closed\nat exit\n", "")


def test_embedding_writes_nothing_to_the_terminal(capfd):
    molecules = [Molecule("zinc", hydrogenated("[NH3]->[Zn]"), 1)]
    conformations_of(molecules, n_conformers=1, seed=1, prune_rmsd=0.0)
    assert "UFFTYPER" not in capfd.readouterr().err
