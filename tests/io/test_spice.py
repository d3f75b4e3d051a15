"""SPICE files as sources of a study; what is wrong with one is one line."""

import logging

import h5py
import numpy as np
import pytest
from ase.units import Bohr, Hartree

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory
from golf.io.formats import LEVELS, SPICE, count_conformations, format_of
from golf.io.spice import read_spice
from golf.study.plan import size
from support.data_sets import (
    OTHER,
    prepared,
    source,
    spice_group,
    write_spice,
)


@pytest.fixture
def path(labelled, tmp_path):
    return write_spice(tmp_path / "SPICE.hdf5", labelled)


@pytest.mark.parametrize("version", [1, 2])
def test_spice_in_our_units(tmp_path, labelled, version, caplog):
    path = write_spice(tmp_path / "SPICE.hdf5", labelled, version)
    assert format_of(path) == SPICE
    with caplog.at_level(logging.WARNING):
        conformations, left_out = read_spice(path)
    assert not left_out and ("single precision" in caplog.text) == (version == 1)
    ours = {
        (name, i): row for row, (name, i) in enumerate(map(str.split, conformations.id, ["/"] * len(conformations)))
    }
    assert LEVELS[SPICE].matches(conformations.attrs) and (conformations.values["status"] == Status.OK).all()
    for i, molecule in enumerate(labelled.molecule):
        k = labelled.molecule[:i].count(molecule)
        row = ours[molecule, f"{k:04d}"]
        mine, theirs = conformations.rows(row), labelled.rows(i)
        np.testing.assert_allclose(conformations.position[mine], labelled.position[theirs], atol=1e-6)
        np.testing.assert_allclose(conformations.atoms["force"][mine], labelled.atoms["force"][theirs], atol=1e-6)
        energy = labelled.values["energy"][i]
        assert conformations.values["energy"][row] == pytest.approx(energy, abs=1e-9 if version == 2 else 1e-4)
    anion = ours["acetate", "0000"]
    assert conformations.charge[anion] == -1 and conformations.number[conformations.rows(anion)].tolist()[1] == 6


def test_spice_as_a_study(path, tmp_path):
    everything = prepared(path, LEVELS[SPICE])
    assert "acetate" in everything.train.molecule and size(source(path), LEVELS[SPICE]).initial_labels == 0
    subset = ["SPICE PubChem Set 1 Single Points Dataset v1.2"]
    part = prepared(path, LevelOfTheory("psi4", "wB97M-D3(BJ)", "def2-TZVPPD"), subsets=subset)
    assert "acetate" not in part.train.molecule and len(part.train) == 9 and len(part.test) == 3
    assert sum(count_conformations(path, SPICE, subset).values()) == 12
    with pytest.raises(UserError, match=r"dataset\.subsets: 'PubChem' is not in the file; it has SPICE Ions"):
        prepared(path, LEVELS[SPICE], subsets=["PubChem"])
    with pytest.raises(UserError, match=r"labels are wb97m-d3bj/def2-tzvppd .*configured oracle is hf/sto-3g"):
        prepared(path, OTHER)
    anew = prepared(path, OTHER, relabel=["wb97m-d3bj/def2-tzvppd"])
    assert (anew.train.values["status"] == Status.NOT_COMPUTED).all()


def test_what_cannot_be_studied_is_left_out_with_its_reason(path):
    with h5py.File(path, "r+") as file:
        pair = [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
        far, near = ([[0.0, 0.0, 0.0], [0.0, 0.0, z], [0.0, 0.96, 0.0]] for z in (3.0, 0.96))
        zeros, water = [np.zeros((2, 3))], "[O:1]([H:2])[H:3]"
        spice_group(file, "ions", "[F-:1].[F-:2]", [9, 9], [pair], [-199.6], zeros)
        spice_group(file, "radical", "[O:1][H:2]", [8, 1], [[[0, 0, 0], [0, 0, 0.97]]], [-75.7], zeros)
        spice_group(file, "stretched", water, [8, 1, 1], [far, near], [-76.4] * 2, np.zeros((2, 3, 3)))
        spice_group(file, "empty", water, [8, 1, 1], np.zeros((0, 3, 3)), [], np.zeros((0, 3, 3)))
    dataset = prepared(path, LEVELS[SPICE], max_left_out=0.5)
    reasons = {out.name: out.reason for out in dataset.left_out}
    assert set(reasons) == {"ions", "radical", "stretched/0000", "empty"}
    assert "disconnected" in reasons["ions"] and "radical" in reasons["radical"]
    assert "are 3.00 angstrom apart" in reasons["stretched/0000"] and "no conformations" in reasons["empty"]
    with pytest.raises(UserError, match=r"3 of 17 conformations cannot be used, more than dataset\.max_left_out 0\.1"):
        prepared(path, LEVELS[SPICE], max_left_out=0.1)


def change(path, key, edit):
    with h5py.File(path, "r+") as file:
        for group in file.values():
            data, attrs = group[key][()], dict(group[key].attrs)
            del group[key]
            group.create_dataset(key, data=edit(data)).attrs.update(attrs)


def other_units(path, key, units):
    with h5py.File(path, "r+") as file:
        for group in file.values():
            group[key].attrs["units"] = units


def without(path, key, rename=None):
    with h5py.File(path, "r+") as file:
        for group in file.values():
            if rename:
                group.move(key, rename)
            else:
                del group[key]


def stated(path, **level):
    with h5py.File(path, "r+") as file:
        file.attrs.update(level)


def swapped(data):
    data[[0, -1]] = data[[-1, 0]]
    return data


WRONG_SPICE = {
    r"smiles does not match atomic_numbers": lambda path: change(path, "atomic_numbers", swapped),
    r"max_left_out .*bonded in its SMILES, are .* angstrom apart": lambda path: change(
        path, "conformations", lambda x: x * Bohr
    ),
    r"they are gradients": lambda path: change(path, "dft_total_gradient", np.negative),
    r"they are in eV": lambda path: [
        change(path, "dft_total_energy", lambda e: e * Hartree), without(path, "formation_energy")
    ],
    r"of another level of theory, or not in hartree": lambda path: change(
        path, "dft_total_energy", lambda e: e * Hartree
    ),
    r"they are formation energies": lambda path: [
        without(path, "dft_total_energy"), without(path, "formation_energy", "dft_total_energy")
    ],
    r"has no dataset dft_total_energy \(it has formation_energy, which": lambda path: without(path, "dft_total_energy"),
    r"has no dataset dft_total_gradient \(it has forces, which": lambda path: without(
        path, "dft_total_gradient", "forces"
    ),
    r"has no text dataset smiles": lambda path: without(path, "smiles"),
    r"conformations is in angstrom, not in bohr as in SPICE": lambda path: other_units(
        path, "conformations", "angstrom"
    ),
    r"dft_total_energy is in eV, not in hartree as in SPICE": lambda path: other_units(path, "dft_total_energy", "eV"),
    r"the shapes of its datasets do not match": lambda path: change(path, "dft_total_gradient", lambda g: g[:, :-1]),
    r"labels are b3lyp-d3bj/dzvp, not wb97m-d3bj/def2-tzvppd": lambda path: stated(
        path, method="B3LYP-D3BJ", basis="DZVP"
    ),
    r"not a readable (HDF5|SPICE) file": lambda path: path.write_bytes(path.read_bytes()[:-3000]),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG_SPICE)
def test_wrong_paths_are_refused(path, message):
    WRONG_SPICE[message](path)
    with pytest.raises(UserError, match=message) as caught:
        prepared(path, LEVELS[SPICE], format="spice")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_level_shows_in_the_atoms_of_spice(path):
    """Energies of B3LYP atoms: carbon is 0.03 hartree higher."""
    change(path, "dft_total_energy", lambda e: e + 0.03)
    with pytest.raises(UserError, match="is 0.03 hartree off the atoms of wb97m-d3bj/def2-tzvppd"):
        prepared(path, LEVELS[SPICE])
