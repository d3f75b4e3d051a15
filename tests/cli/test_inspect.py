"""`golf inspect`: says what is in a file, and what is wrong with one that is not ours."""

import ase.db
import ase.io
import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from golf.cli.summary import describe
from golf.core import hdf5
from golf.core.conformations import ConformationSet, Frames, Status, StopReason
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.nnp.potential import Architecture, Potential, Provenance

LEVEL = LevelOfTheory("psi4", "wB97X-D", "def2-SVP", {"dft_radial_points": 99})


def water_and_hydroxide() -> ConformationSet:
    water, ion = np.array([8, 1, 1]), np.array([8, 1])
    return ConformationSet.build(
        [
            ("water/0", "water", "", 0, 1, water, np.arange(9.0).reshape(3, 3)),
            ("water/1", "water", "", 0, 1, water, np.arange(9.0).reshape(3, 3) + 1),
            ("ion/0", "ion", "", -1, 1, ion, np.arange(6.0).reshape(2, 3)),
        ]
    )


def rows(text: str) -> dict[str, str]:
    return {line[2:24].strip(): line[24:] for line in text.splitlines()[1:] if line}


def test_bare_conformations(tmp_path):
    hdf5.write(tmp_path / "set.h5", water_and_hydroxide(), seed=42)
    text = describe(tmp_path / "set.h5")
    found = rows(text)
    assert text.startswith(f"{tmp_path}/set.h5\n") and not text.endswith("\n")
    assert found["format"].startswith("golf-conformations 1, by golf ")
    assert found["seed"] == "42"
    assert found["conformations"] == "3 of 2 molecules"
    assert found["atoms"] == "8, 2 to 3 per conformation"
    assert found["elements"] == "H:5 O:3"
    assert found["charge"] == "-1 to 0"
    assert "status" not in found and "frames" not in found


def test_labels_and_relaxations_by_word(tmp_path):
    force = np.zeros((8, 3))
    force[0], force[6:] = [0.0, 0.03, 0.04], np.nan
    frame = (1, 0, -76.0, np.zeros((3, 3)), np.zeros((3, 3)))
    part = water_and_hydroxide().with_columns(
        atoms={"force": force},
        values={
            "energy": [-76.3, -76.2, np.nan],
            "energy_first": [-76.2, -76.2, np.nan],
            "status": [Status.OK, Status.OK, Status.NOT_CONVERGED],
            "message": ["", "", "SCF did not converge"],
            "stop_reason": [StopReason.CONVERGED, StopReason.STEP_LIMIT, StopReason.FAILED],
            "n_steps": [3, 5, 1],
            "recovery": ["", "second_order", ""],
            "wall_seconds": [1.0, 2.0, 3.0],
            "residual_energy": [0.0, 0.001, np.nan],
            "diverged": [False, False, True],
        },
        frames=Frames.build([frame]),
        program_version="1.9",
        **LEVEL.attrs(),
    )
    hdf5.write(tmp_path / "labels.h5", part, arm="golf", percent_optimized_mean=99.4)
    text = describe(tmp_path / "labels.h5")
    found = rows(text)
    assert found["level of theory"] == "wb97x-d/def2-svp (psi4 1.9, dft_radial_points=99)"
    assert found["status"] == "ok 2, not_converged 1"
    assert "1 x SCF did not converge" in text
    assert found["stop reason"] == "converged 1, step_limit 1, failed 1"
    assert found["energy"] == "-76.300000 to -76.200000 hartree"
    assert found["largest atomic force"] == "0.00e+00 to 5.00e-02 hartree/angstrom"
    assert found["steps"] == "1 to 5, mean 3.0"
    assert found["DFT energy gained"] == "0.00 to 62.75 kcal/mol"
    assert found["SCF recovered by"] == "second_order 1"
    assert found["frames"] == "1 along 1 relaxations"
    assert found["residual energy"] == "0.00 to 0.63, mean 0.31 kcal/mol"
    assert found["diverged"] == "1 of 3"
    assert found["arm"] == "golf"
    assert "  percent_optimized_mean 99.4" in text.splitlines()


def test_molecules_are_counted_and_not_embedded(tmp_path):
    """ETKDG cannot embed cyclopropyne, and MMFF94 knows neither uranium nor boron."""
    lines = ["C1#CC1 cyclopropyne", "O=[U+2]=O uranyl", "C1CC ring", "", "B borane", "[Na+].[Cl-] salt", "CC(=O)[O-] a"]
    (tmp_path / "in.smi").write_text("\n".join([*lines, "C1 b", "C2 c", ""]))
    text = describe(tmp_path / "in.smi")
    found = rows(text)
    assert found["records"] == "8" and found["molecules"] == "4, none with a geometry"
    unclosed = "RDKit cannot read it as a molecule: unclosed ring for input: 'C1CC'"
    assert found["cannot be used"] == f"4, first line 3 (ring): {unclosed}"
    assert "line 6 (salt): it has several disconnected parts" in text and "line 8 (b)" in text and "(c)" not in text
    assert found["atoms"] == "19, 3 to 7 per record, hydrogens counted"
    assert found["elements"] == "H:8 B:1 C:5 O:4 U:1" and found["charge"] == "-1 to 2"
    assert "conformations" not in found


NO_NUMBER = """water
     golf          3D

  0  0  0  0  0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 1 0 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O nan 0 1 0
M  V30 END ATOM
M  V30 END CTAB
M  END
$$$$
"""


def test_geometries_that_no_study_could_use(tmp_path):
    """Own relaxations of hydrogen, whose molecule MMFF94 does not have, and a flat drawing."""
    hydrogen = Chem.AddHs(Chem.MolFromSmiles("[H][H]"))
    rdDistGeom.EmbedMultipleConfs(hydrogen, 2, randomSeed=1)
    hydrogen.SetProp("_Name", "hydrogen")
    flat = Chem.MolFromSmiles("CO")
    rdDepictor.Compute2DCoords(flat)
    flat.SetProp("_Name", "methanol")
    with Chem.SDWriter(str(tmp_path / "in.sdf")) as writer:
        for mol, conformer in ((hydrogen, 0), (hydrogen, 1), (flat, 0)):
            writer.write(mol, confId=conformer)
    with open(tmp_path / "in.sdf", "a") as stream:
        stream.write(NO_NUMBER)
    found = rows(describe(tmp_path / "in.sdf"))
    assert found["records"] == "4" and found["molecules"] == "2" and found["conformations"] == "2 of 1 molecules"
    assert found["cannot be used"] == "1, first record 4 (water): positions that are not finite numbers"
    assert found["elements"] == "H:8 C:1 O:1" and found["atoms"].startswith("10, 2 to 6 per record")


def test_frames_that_cannot_be_used_are_counted(tmp_path):
    good = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], info={"charge": 0, "name": "water"})
    torn = Atoms("CH", [[0, 0, 0], [5, 0, 0]], info={"charge": 0, "name": "torn"})
    ase.io.write(tmp_path / "in.extxyz", [good, torn, good])
    with ase.db.connect(tmp_path / "in.db") as database:
        for atoms in (good, torn, good):
            database.write(atoms)
    for name in ("in.extxyz", "in.db"):
        found = rows(describe(tmp_path / name))
        assert found["records"] == "3" and found["cannot be used"].startswith("1, first record 2 (")
        assert (
            "torn): no bonds can be" in found["cannot be used"] or "row 2): no bonds can be" in found["cannot be used"]
        )
        assert found["conformations"].startswith("2 of ") and found["elements"] == "H:4 O:2"


def test_empty_batch(tmp_path):
    hdf5.write(tmp_path / "empty.h5", ConformationSet.build([]))
    assert rows(describe(tmp_path / "empty.h5"))["conformations"] == "0 of 0 molecules"


def test_labels_none_of_which_came(tmp_path):
    part = water_and_hydroxide().with_columns(
        atoms={"force": np.full((8, 3), np.nan)}, values={"energy": [np.nan] * 3, "status": [Status.CRASHED] * 3}
    )
    hdf5.write(tmp_path / "labels.h5", part)
    found = rows(describe(tmp_path / "labels.h5"))
    assert found["status"] == "crashed 3" and "energy" not in found


def test_model(tmp_path):
    level = LevelOfTheory("psi4", "hf", "sto-3g").attrs()
    model = Potential(Architecture(n_atom_basis=16), {8: -75.1, 1: -0.5}, provenance=Provenance(level, "ab12", 3))
    model.save(tmp_path / "model.pt")
    found = rows(describe(tmp_path / "model.pt"))
    assert found["level of theory"] == "hf/sto-3g (psi4)"
    assert found["network"] == "painn, 16 features, 3 interactions, 50 radial functions"
    assert found["cutoff"] == "5 angstrom"
    assert found["reference energies"] == "H -0.500000, O -75.100000 hartree"
    assert found["config (SHA-256)"] == "ab12"


def test_files_that_are_not_ours(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.h5").write_bytes(b"")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = [1, 2]
    hdf5.write(tmp_path / "whole.h5", water_and_hydroxide())
    (tmp_path / "torn.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:3000])
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    for name in ("missing.h5", "notes.txt", "empty.h5", "foreign.h5", "torn.h5", "other.pt"):
        with pytest.raises(UserError) as caught:
            describe(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


def test_only_ends_beside_mmff_are_said_to_be_of_a_network(tmp_path):
    gained = {"nnp_energy_first": [-76.2] * 3, "nnp_energy_last": [-76.3] * 3}
    hdf5.write(tmp_path / "ends.h5", water_and_hydroxide().with_columns(values=gained))
    assert rows(describe(tmp_path / "ends.h5"))["energy gained"] == "62.75 kcal/mol"
    mmff = {"surrogate_energy_first": [0.2] * 3, "surrogate_energy_last": [0.1] * 3}
    hdf5.write(tmp_path / "round.h5", water_and_hydroxide().with_columns(values=gained | mmff))
    assert "NNP energy gained" in rows(describe(tmp_path / "round.h5"))
