"""Internal motions are orthonormal, and leave the center and the orientation of a molecule as they are."""

import numpy as np
import pytest
from ase.build import molecule

from golf.core.motions import internal_motions


@pytest.mark.parametrize(("name", "n_internal"), [("CH3CH2OH", 21), ("CO2", 4), ("N2", 1), ("H2O", 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_left_without_translations_and_rotations(name, n_internal, weighted):
    atoms = molecule(name)
    masses = atoms.get_masses() if weighted else np.ones(len(atoms))
    motions = internal_motions(atoms.positions, masses if weighted else None)
    assert motions.shape == (3 * len(atoms), n_internal)
    np.testing.assert_allclose(motions.T @ motions, np.eye(n_internal), atol=1e-12)
    steps = motions.T.reshape(n_internal, -1, 3)
    centred = atoms.positions - np.average(atoms.positions, axis=0, weights=masses)
    root = np.sqrt(masses)[:, None]
    np.testing.assert_allclose((root * steps).sum(axis=1), 0.0, atol=1e-10)
    np.testing.assert_allclose(np.cross(centred, root * steps).sum(axis=1), 0.0, atol=1e-10)


def test_a_single_atom_has_none():
    assert internal_motions(np.zeros((1, 3))).shape == (3, 0)
