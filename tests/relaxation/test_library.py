"""Libraries relaxed piece by piece: order, names, properties, what is left out, runs that were cut off."""

import csv
import re
import signal
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdMolAlign, rdMolTransforms

from golf.chem.conformers import conformations_of
from golf.chem.molecules import molecule
from golf.cli.main import main
from golf.cli.relax_options import PRUNE_STARTS
from golf.core.conformations import ConformationSet
from golf.core.hdf5 import read, write
from golf.core.units import HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL, hartree
from golf.io.labelled import read_extxyz
from golf.io.pieces import Embedding, pieces_of
from golf.io.records import read_molecules
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.potential import load
from golf.relaxation.ensembles import SAME_ENERGY, Ensemble
from golf.relaxation.library import fingerprint, relax_library
from golf.relaxation.relax import relax
from support import REPOSITORY
from support.mmff_potential import MMFFPotential

SMILES = "CO methanol\nCCO ethanol\nC1CC broken\nCN methylamine\nB boron\nCO methanol\nC.C two\nC=O formaldehyde\n"
ELEMENTS = (1, 6, 7, 8)


@pytest.fixture
def smiles(tmp_path):
    (tmp_path / "in.smi").write_text(SMILES)
    return tmp_path / "in.smi"


def golf(*arguments):
    return main([str(argument) for argument in arguments])


def names_of(path, size, **embedding):
    pieces = list(pieces_of(path, elements=ELEMENTS, size=size, embedding=Embedding(**embedding)))
    names = [name for piece in pieces for name in piece.conformations.id]
    return pieces, names, [(out.line, out.name) for piece in pieces for out in piece.left_out]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_pieces_of_any_size_hold_the_same(smiles, size):
    pieces, names, left_out = names_of(smiles, size, conformers=2)
    molecules = ["methanol", "ethanol", "methylamine", "methanol#6", "formaldehyde"]
    assert names == [f"{name}/{k:04d}" for name in molecules for k in range(2)]
    assert left_out == [(3, "broken"), (5, "boron"), (7, "two")]
    assert (len(pieces) == 1) == (size == 100)


def test_conformers_of_a_molecule_stay_together_with_their_properties(tmp_path):
    molecules, _ = read_molecules(write_text(tmp_path / "a.smi", "CCO ethanol\nCO methanol\n"))
    conformations, _ = conformations_of(molecules, n_conformers=3, seed=1, prune_rmsd=0.0)
    with Chem.SDWriter(str(tmp_path / "in.sdf")) as writer:
        for molecule in molecules:
            for k in range(3):
                xyz = conformations.position[conformations.rows(conformations.id.index(f"{molecule.name}/{k:04d}"))]
                mol = Chem.Mol(molecule.mol)
                conformer = Chem.Conformer(mol.GetNumAtoms())
                conformer.SetPositions(xyz)
                mol.AddConformer(conformer)
                mol.SetProp("_Name", molecule.name)
                mol.SetProp("vendor", f"{molecule.name}-{k}")
                writer.write(mol)
    pieces, names, _ = names_of(tmp_path / "in.sdf", 2)
    assert [len(piece.conformations) for piece in pieces] == [3, 3] and names == conformations.id
    given = [text for piece in pieces for text in piece.conformations.values["properties"]]
    assert given == [f'{{"vendor": "{m}-{k}"}}' for m in ("ethanol", "methanol") for k in range(3)]
    together = np.concatenate([piece.conformations.position for piece in pieces])
    np.testing.assert_allclose(together, conformations.position, atol=1e-4)  # digits of an SDF


def write_text(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".sdf", ".extxyz"])
def test_a_library_in_pieces_is_the_library_in_one(model, smiles, tmp_path, suffix, monkeypatch):
    outputs = []
    for size in (1, 100):
        monkeypatch.setattr("golf.cli.relax.PIECE", size)
        output = tmp_path / f"out{size}{suffix}"
        options = ["--conformers", 2, "--max-steps", 3, "--cores", 1]
        assert golf("relax", smiles, "-m", model, "-o", output, *options) == 1  # some were left out
        outputs.append(output)
        with open(f"{output}.left_out.csv", newline="") as stream:
            assert [(row["line"], row["name"]) for row in csv.DictReader(stream)] == [
                ("3", "broken"),
                ("5", "boron"),
                ("7", "two"),
            ]
        assert not Path(f"{output}.parts").exists()
    if suffix != ".h5":
        assert outputs[0].read_text().count("ethanol") == outputs[1].read_text().count("ethanol") > 0
        return
    one, other = map(read, outputs)
    assert one.id == other.id and one.mapped_smiles == other.mapped_smiles and one.values.keys() == other.values.keys()
    np.testing.assert_array_equal(one.number, other.number)
    np.testing.assert_array_equal(one.offset, other.offset)
    np.testing.assert_allclose(one.position, other.position, atol=1e-5)  # other batches round otherwise
    np.testing.assert_allclose(one.values["nnp_energy_last"], other.values["nnp_energy_last"], atol=1e-5)


def test_what_an_output_says_is_what_the_model_says(model, smiles, tmp_path):
    for suffix in (".h5", ".sdf", ".extxyz"):
        golf("relax", smiles, "-m", model, "-o", tmp_path / f"out{suffix}", "--conformers", 3, "--max-steps", 2)
    relaxed = read(tmp_path / "out.h5")
    with ThreadedPotential(load(model), 1) as potential:
        energy, force = potential.energy_and_forces(
            torch.as_tensor(relaxed.number.astype(np.int64)),
            torch.as_tensor(relaxed.position),
            torch.as_tensor(relaxed.offset),
        )
    np.testing.assert_allclose(relaxed.values["nnp_energy_last"], energy.numpy(), atol=1e-6)
    longest = [float(force[relaxed.rows(i)].norm(dim=1).max()) for i in range(len(relaxed))]
    np.testing.assert_allclose(relaxed.values["largest_force"], longest, atol=1e-6)
    for name in set(relaxed.molecule):
        own = np.array(relaxed.molecule) == name
        energies = relaxed.values["nnp_energy_last"][own]
        np.testing.assert_array_equal(relaxed.values["relative_energy"][own], energies - energies.min())
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False))
    frames = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert len(mols) == len(frames) == len(relaxed)
    for i, (mol, atoms) in enumerate(zip(mols, frames, strict=True)):
        assert mol.GetProp("_Name") == atoms.info["name"] == relaxed.id[i]
        assert float(mol.GetProp("energy_hartree")) == pytest.approx(float(energy[i]), abs=2e-6)
        relative = relaxed.values["relative_energy"][i] * HARTREE_IN_KCAL_PER_MOL
        assert float(mol.GetProp("relative_energy_kcal_mol")) == pytest.approx(relative, abs=1e-4)
        assert atoms.info["energy_eV"] == pytest.approx(float(energy[i]) * HARTREE_IN_EV, abs=1e-4)
        assert atoms.get_potential_energy() == pytest.approx(atoms.info["energy_eV"], abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), force[relaxed.rows(i)].numpy() * HARTREE_IN_EV, atol=1e-4)
        assert (atoms.info["charge"], atoms.info["spin"]) == (0, 1)
        largest = relaxed.values["largest_force"][i] * HARTREE_IN_KCAL_PER_MOL
        assert float(mol.GetProp("largest_force_kcal_mol_angstrom")) == pytest.approx(largest, abs=1e-4)


def test_what_a_network_predicts_is_no_label(model, smiles, tmp_path):
    """Energy and forces of a relaxed .extxyz look like labels; a study must not train on them."""
    golf("relax", smiles, "-m", model, "-o", tmp_path / "out.extxyz", "--max-steps", 2)
    text = (tmp_path / "out.extxyz").read_text()
    assert " energy=" in text and "forces:R:3" in text
    again, left_out = read_extxyz(tmp_path / "out.extxyz")
    assert len(again) and not left_out and "energy" not in again.values and "force" not in again.atoms
    (tmp_path / "labels.extxyz").write_text(text.replace("predicted_by=golf", ""))  # as another program writes it
    labelled, _ = read_extxyz(tmp_path / "labels.extxyz")
    golf("relax", smiles, "-m", model, "-o", tmp_path / "out.h5", "--max-steps", 2)
    relaxed = read(tmp_path / "out.h5")
    np.testing.assert_allclose(labelled.values["energy"], relaxed.values["nnp_energy_last"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(labelled.atoms["force"], relaxed.atoms["nnp_force"], rtol=0, atol=1e-7)


def test_the_optimizer_is_said_and_recorded(model, smiles, tmp_path, capsys):
    for given, said, attrs in (
        ([], "preconditioned (Hessian of MMFF94)", ("preconditioned", "MMFF94")),
        (["--mmff", "MMFF94s"], "preconditioned (Hessian of MMFF94s)", ("preconditioned", "MMFF94s")),
        (["--optimizer", "lbfgs"], "lbfgs", ("lbfgs", None)),
    ):
        output = tmp_path / f"{len(given)}{given[-1:]}.h5"
        golf("relax", smiles, "-m", model, "-o", output, "--max-steps", 1, *given)
        assert f"golf: optimizer: {said}\n" in capsys.readouterr().err
        found = read(output).attrs
        assert (found["relaxation_optimizer"], found.get("relaxation_mmff")) == attrs


def test_an_h5_and_geometries_alone_come_in_pieces_too(model, smiles, tmp_path, monkeypatch):
    golf("relax", smiles, "-m", model, "-o", tmp_path / "a.h5", "--conformers", 2, "--max-steps", 1)
    golf("relax", smiles, "-m", model, "-o", tmp_path / "a.extxyz", "--conformers", 2, "--max-steps", 1)
    monkeypatch.setattr("golf.cli.relax.PIECE", 3)
    assert golf("relax", tmp_path / "a.h5", "-m", model, "-o", tmp_path / "b.h5", "--max-steps", 1) == 0
    assert read(tmp_path / "b.h5").id == read(tmp_path / "a.h5").id
    with open(tmp_path / "a.extxyz", "a") as stream:
        stream.write("2\nname=odd\nC 0 0 0\nC 9 9 9\n")
    assert golf("relax", tmp_path / "a.extxyz", "-m", model, "-o", tmp_path / "c.h5", "--max-steps", 1) == 1
    np.testing.assert_array_equal(read(tmp_path / "c.h5").number, read(tmp_path / "a.h5").number)


@pytest.mark.slow
def test_cut_off_it_goes_on_and_ends_in_the_same(model, tmp_path, smiles, monkeypatch):
    monkeypatch.setattr("golf.cli.relax.PIECE", 1)
    options = ["--conformers", 2, "--max-steps", 5, "--cores", 1]
    assert golf("relax", smiles, "-m", model, "-o", tmp_path / "whole.sdf", *options) == 1
    lines = "import golf.cli.main, golf.cli.relax, sys; import golf.relaxation.library as l\n"
    lines += "golf.cli.relax.PIECE = 1; w = l.write; k = [0]\n"
    lines += (
        "def write(path, *rest, **more):\n    w(path, *rest, **more); k[0] += 1\n"
        "    if k[0] == 2: print('two', flush=True); input()\n"
    )
    lines += "l.write = write; sys.exit(golf.cli.main.main(sys.argv[1:]))"
    arguments = ["relax", smiles, "-m", model, "-o", tmp_path / "out.sdf", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", lines, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "two\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    parts = sorted(Path(f"{tmp_path / 'out.sdf'}.parts").glob("*.h5"))
    written = {part: part.stat().st_mtime_ns for part in parts}
    assert len(parts) == 2 and not (tmp_path / "out.sdf").exists()
    other = [*arguments[:-3], 6, "--cores", 1]
    assert golf(*other) == 2  # not with other options
    assert {part: part.stat().st_mtime_ns for part in parts} == written
    assert golf(*arguments) == 1
    assert (tmp_path / "out.sdf").read_text() == (tmp_path / "whole.sdf").read_text()


def test_parts_that_are_there_are_not_relaxed_again(model, smiles, tmp_path):
    calls = []

    def relaxing(conformations, advance):
        calls.append(conformations.id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        with ThreadedPotential(load(model), 1) as potential:
            return relax(conformations, potential, force_threshold=0.01, max_steps=2, slots=4, advance=advance)

    run = {"input": str(smiles), "contents": fingerprint(smiles)}

    def start():
        pieces = pieces_of(smiles, elements=ELEMENTS, size=1, embedding=Embedding())
        return relax_library(pieces, tmp_path / "out.h5", relaxing, run=run, attrs={})

    with pytest.raises(KeyboardInterrupt):
        start()
    outcome = start()
    assert calls == [["methanol/0000"], ["ethanol/0000"], ["ethanol/0000"], *calls[3:]]
    assert outcome.n_relaxed == 5 and [out.line for out in outcome.left_out] == [3, 5, 7]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_library(model, tmp_path):
    """The same pieces ten times over: the parent's peak memory stays where it was."""
    molecules, _ = read_molecules(write_text(tmp_path / "a.smi", "CCCCO a\n"))
    ten, _ = conformations_of(molecules, n_conformers=10, seed=1, prune_rmsd=0.0)
    script = "import sys, golf.cli.main, golf.cli.relax; golf.cli.relax.PIECE = 50; "
    script += "status = golf.cli.main.main(sys.argv[1:]); "  # ru_maxrss begins with what pytest holds
    script += "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]); sys.exit(status)"
    peaks = []
    for n in (10, 200):
        copies = [
            (f"{k}/{i}", f"m{k}", ten.mapped_smiles[i], 0, 1, ten.number[ten.rows(i)], ten.position[ten.rows(i)])
            for k in range(n)
            for i in range(len(ten))
        ]
        write(tmp_path / f"{n}.h5", ConformationSet.build(copies))
        arguments = ["relax", tmp_path / f"{n}.h5", "-m", model, "-o", tmp_path / f"out{n}.h5", "--max-steps", 2]
        command = [sys.executable, "-c", script, *map(str, [*arguments, "--cores", 1, "--optimizer", "lbfgs"])]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < peaks[0] + 20_000  # kB; 1,900 molecules more


def ensemble_of(path, output, ensemble, size=100):
    """Ensembles of a file, relaxed with MMFF, with what was said."""

    def relaxing(conformations, advance):
        potential = MMFFPotential()
        return relax(conformations, potential, force_threshold=1e-4, max_steps=500, slots=20, advance=advance)

    embedding = Embedding(20, 0.0 if ensemble is None else PRUNE_STARTS)
    pieces = pieces_of(path, elements=ELEMENTS, size=size, embedding=embedding)
    outcome = relax_library(pieces, output, relaxing, run={"input": str(path)}, attrs={}, ensemble=ensemble)
    return read(output), outcome


def test_an_ensemble_has_the_conformers_that_it_says(tmp_path):
    path = write_text(tmp_path / "in.smi", "CCCCO butanol\nCCCO propanol\n")
    everything, outcome = ensemble_of(path, tmp_path / "all.h5", None)
    assert len(everything) == 40 and not outcome.ensembles and "conformers_kept" not in everything.attrs
    few, outcome = ensemble_of(path, tmp_path / "few.h5", Ensemble(0.3, 2.0))
    counts = outcome.ensembles
    assert few.attrs["conformers_kept"] == counts["kept"] == outcome.n_relaxed == len(few)
    assert counts["pruned"] > 0 and counts["above_window"] > 0 and sum(counts.values()) <= 40
    for name in ("butanol", "propanol"):
        own = few.subset(np.array(few.molecule) == name)
        energies = own.values["nnp_energy_last"]
        assert (np.diff(energies) >= 0).all() and own.values["relative_energy"][0] == 0.0
        of_all = everything.values["nnp_energy_last"][np.array(everything.molecule) == name]
        assert energies[0] == pytest.approx(of_all.min(), abs=1e-6)
        assert (energies - energies[0]).max() * HARTREE_IN_KCAL_PER_MOL <= 2.0
        mols = [Chem.RemoveHs(molecule(own.mapped_smiles[i], own.position[own.rows(i)])) for i in range(len(own))]
        assert len(mols) > 1
        for i, a in enumerate(mols):
            alike = [b for b, e in zip(mols[:i], energies[:i], strict=True) if energies[i] - e <= hartree(SAME_ENERGY)]
            assert all(rdMolAlign.GetBestRMS(Chem.Mol(a), b) >= 0.3 for b in alike)
    pieces, others = ensemble_of(path, tmp_path / "pieces.h5", Ensemble(0.3, 2.0), size=1)
    assert pieces.id == few.id and others == outcome
    assert pieces.attrs["conformers_pruned"] == counts["pruned"]


def test_ensembles_on_the_command_line(model, smiles, tmp_path, capsys):
    command = ("relax", smiles, "-m", model, "--conformers", 4, "--force-threshold", 1e9)
    assert golf(*command, "--prune", 0.5, "--window", 6, "-o", tmp_path / "out.sdf") == 1
    (last,) = [line for line in capsys.readouterr().err.splitlines() if "conformers kept" in line]
    kept, of, *dropped = map(int, re.findall(r"\d+", last))
    assert re.match(r"golf: \d+ of \d+ conformers kept; dropped: 0 not finite, 0 not converged, 0 no longer the ", last)
    assert kept + sum(dropped) == of <= 20
    assert len(list(Chem.SDMolSupplier(str(tmp_path / "out.sdf")))) == kept
    for option in ("--prune", "--window"):
        assert golf(*command, option, -1, "-o", tmp_path / "other.sdf") == 2
        assert f"{option} -1.0: must not be negative" in capsys.readouterr().err


def test_conformers_that_do_not_stay_finite_are_reported(tmp_path):
    """MMFF, but the energy of one start is not a number."""
    path = write_text(tmp_path / "in.smi", "CCO ethanol\nC methane\n")
    starts, _ = conformations_of(read_molecules(path)[0], n_conformers=20, seed=1, prune_rmsd=PRUNE_STARTS)
    broken = starts.position[starts.rows(3)]

    def relaxing(conformations, advance):
        def extra(geometry):
            away = np.nan if geometry.shape == broken.shape and np.allclose(geometry, broken, atol=1e-3) else 0.0
            return away, np.zeros_like(geometry)

        potential = MMFFPotential(extra)
        return relax(conformations, potential, force_threshold=1e9, max_steps=9, slots=5, advance=advance)

    pieces = pieces_of(path, elements=ELEMENTS, size=1, embedding=Embedding(20, PRUNE_STARTS))
    outcome = relax_library(
        pieces, tmp_path / "out.h5", relaxing, run={"input": str(path)}, attrs={}, ensemble=Ensemble(0.0, 50.0)
    )
    (out,) = outcome.left_out
    assert (out.line, out.name, out.reason) == (1, "ethanol/0003", "its energy or forces stopped being finite numbers")
    assert outcome.ensembles["not_finite"] == 1
    assert "ethanol/0003" not in read(tmp_path / "out.h5").id


def test_starts_that_differ_in_hydrogens_only_are_kept(tmp_path):
    """Else the lower one of ethanol's conformers would be lost before it is known."""
    path = write_text(tmp_path / "in.smi", "CCO ethanol\n")
    (piece,) = pieces_of(path, elements=ELEMENTS, size=1, embedding=Embedding(30, PRUNE_STARTS))
    part = piece.conformations
    mols = [molecule(part.mapped_smiles[i], part.position[part.rows(i)]) for i in range(len(part))]
    torsions = [abs(rdMolTransforms.GetDihedralDeg(mol.GetConformer(), 0, 1, 2, 8)) for mol in mols]
    assert min(torsions) < 90 and max(torsions) > 150  # gauche and trans


def test_conformers_of_an_own_sdf_are_one_molecule_again(model, smiles, tmp_path):
    golf("relax", smiles, "-m", model, "-o", tmp_path / "a.sdf", "--conformers", 3, "--max-steps", 1)
    assert golf("relax", tmp_path / "a.sdf", "-m", model, "-o", tmp_path / "b.h5", "--max-steps", 1) == 0
    again = read(tmp_path / "b.h5")
    assert again.id[:3] == [f"methanol/{k:04d}" for k in range(3)] and len(set(again.molecule)) == 5
    assert np.count_nonzero(again.values["relative_energy"] == 0.0) == 5


def test_new_conformers_of_an_sdf_where_they_are_asked_for(model, smiles, tmp_path, capsys):
    path = tmp_path / "in.sdf"
    golf("relax", smiles, "-m", model, "-o", path, "--conformers", 2, "--max-steps", 1)
    flat = Chem.MolFromSmiles("CCO")
    flat.SetProp("_Name", "flat")
    with open(path, "a") as stream:
        stream.write(Chem.SDWriter.GetText(flat))
    options = ("-m", model, "--max-steps", 1)
    assert golf("relax", path, "-o", tmp_path / "few.h5", *options) == 1
    assert "record 11 (flat) is left out: it has no 3D geometry; ask for conformers" in capsys.readouterr().err
    assert golf("relax", path, "-o", tmp_path / "many.h5", "--conformers", 3, *options) == 0
    assert "18 conformations are in" in capsys.readouterr().err
    few, many = read(tmp_path / "few.h5"), read(tmp_path / "many.h5")
    assert len(few) == 10 and len(many) == 18 and set(many.molecule) == {*few.molecule, "flat"}
    assert golf("relax", tmp_path / "few.h5", "-o", tmp_path / "out.h5", "--conformers", 3, *options) == 2
    assert "--conformers: " in (said := capsys.readouterr().err) and "used as they are; drop the option" in said


def test_what_did_not_converge_is_said_and_in_no_ensemble(model, smiles, tmp_path, capsys):
    options = ("-m", model, "--conformers", 2, "--max-steps", 1)
    golf("relax", smiles, "-o", tmp_path / "a.sdf", *options)
    assert "warning: 10 of 10 did not converge in 1 steps; see stop_reason" in capsys.readouterr().err
    assert golf("relax", smiles, "-o", tmp_path / "b.sdf", "--window", 5, *options) == 2
    assert "it did not converge in 1 steps" in capsys.readouterr().err and not (tmp_path / "b.sdf").exists()


def test_radicals_are_left_out(model, tmp_path, capsys):
    (tmp_path / "in.smi").write_text("C methane\n[CH3] methyl\n")
    assert golf("relax", tmp_path / "in.smi", "-m", model, "-o", tmp_path / "a.sdf", "--max-steps", 1) == 1
    assert "line 2 (methyl) is left out: it is a radical" in capsys.readouterr().err


def test_large_molecules_make_smaller_pieces(tmp_path):
    lines = [f"{'C' * n} m{i}\n" for i, n in enumerate([3, 3, 3, 3, 33, 33, 33, 3])]  # 11 and 101 atoms
    write_text(tmp_path / "in.smi", "".join(lines))
    found = pieces_of(tmp_path / "in.smi", elements=[1, 6], size=4, embedding=Embedding())
    assert [piece.conformations.molecule for piece in found] == [["m0", "m1", "m2", "m3"], ["m4", "m5"], ["m6", "m7"]]


def test_an_embedding_that_takes_long_says_how_far_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("golf.core.progress.LOG_INTERVAL_SECONDS", 0.0)
    caplog.set_level("INFO")
    write_text(tmp_path / "in.smi", "CCO a\nCO b\n")
    list(pieces_of(tmp_path / "in.smi", elements=[1, 6, 8], size=4, embedding=Embedding()))
    assert "2 of 2 molecules of this piece embedded" in caplog.text
