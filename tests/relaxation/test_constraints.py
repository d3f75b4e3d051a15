"""Frozen atoms do not move in the last bit, a restraint pulls and is in no energy, and wrong patterns are refused."""

import numpy as np
import pytest
from scipy.optimize import minimize

from golf.chem.mmff import MMFFSurrogate
from golf.chem.molecules import molecule
from golf.core.conformations import StopReason
from golf.core.errors import UserError
from golf.core.units import hartree
from golf.io.pieces import Piece
from golf.relaxation.constraints import HEAVY, Constraints, matching
from golf.relaxation.engine import Optimizer
from golf.relaxation.relax import relax
from support.mmff_potential import MMFFPotential, conformers

SMILES = ["CC(=O)NCCO", "CCCO", "O=CO"]
THRESHOLD = hartree(0.05)


def relaxed(starts, constraints, optimizer, slots=2):
    return relax(
        starts,
        MMFFPotential(),
        force_threshold=THRESHOLD,
        max_steps=400,
        slots=slots,
        optimizer=Optimizer(optimizer),
        constraints=constraints,
        advance=lambda: None,
    )


@pytest.fixture(scope="module")
def starts():
    return conformers(SMILES, 2)


@pytest.mark.parametrize("optimizer", ["lbfgs", "preconditioned"])
@pytest.mark.parametrize("freeze", [HEAVY, "C(=O)", "[OX2H]"])
def test_frozen_atoms_do_not_move_and_the_others_converge(starts, optimizer, freeze):
    constraints = Constraints(freeze)
    ends = relaxed(starts, constraints, optimizer)
    frozen = np.concatenate([constraints.frozen(smiles) for smiles in starts.mapped_smiles])
    assert 0 < frozen.sum() < len(frozen)
    np.testing.assert_array_equal(ends.position[frozen], starts.position[frozen])  # bit for bit
    assert np.abs(ends.position[~frozen] - starts.position[~frozen]).max() > 0.01
    assert (ends.values["stop_reason"] == StopReason.CONVERGED).all()
    norms = np.linalg.norm(ends.atoms["nnp_force"], axis=1)
    assert norms[~frozen].max() < THRESHOLD
    assert norms[frozen].max() > THRESHOLD or freeze == "[OX2H]", "the force on a single frozen atom vanishes"
    largest = [norms[ends.rows(i)][~frozen[ends.rows(i)]].max() for i in range(len(ends))]
    np.testing.assert_allclose(ends.values["largest_force"], largest, rtol=1e-12)
    assert ends.attrs["relaxation_frozen"] == freeze


def test_hydrogens_alone_end_where_scipy_ends(starts):
    """The minimum over the free coordinates, by another program."""
    ends = relaxed(starts.subset([0]), Constraints(HEAVY), "preconditioned")
    free = np.repeat(starts.number[starts.rows(0)] == 1, 3)
    mmff, start = MMFFSurrogate(), starts.position[starts.rows(0)].ravel()

    def energy_and_gradient(coordinates):
        whole = start.copy()
        whole[free] = coordinates
        energy, force = mmff.energy_and_forces(starts.mapped_smiles[0], whole.reshape(-1, 3))
        return energy, -force.ravel()[free]

    found = minimize(energy_and_gradient, start[free], jac=True, method="BFGS", options={"gtol": 1e-6})
    assert ends.values["nnp_energy_last"][0] == pytest.approx(found.fun, abs=hartree(1e-3))


@pytest.mark.parametrize("optimizer", ["lbfgs", "preconditioned"])
def test_a_restraint_balances_the_force_and_is_in_no_energy(starts, optimizer):
    stiffness = hartree(50.0)
    ends = relaxed(starts, Constraints(stiffness=stiffness), optimizer)
    assert (ends.values["stop_reason"] == StopReason.CONVERGED).all()
    moved, heavy = ends.position - starts.position, starts.number > 1
    balance = ends.atoms["nnp_force"] - stiffness * moved * heavy[:, None]
    assert np.linalg.norm(balance, axis=1).max() < THRESHOLD
    mmff = MMFFSurrogate()
    for i, smiles in enumerate(ends.mapped_smiles):
        energy, force = mmff.energy_and_forces(smiles, ends.position[ends.rows(i)])
        assert ends.values["nnp_energy_last"][i] == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(ends.atoms["nnp_force"][ends.rows(i)], force, atol=1e-9)
    plain = relaxed(starts, None, optimizer)
    assert np.abs(moved[heavy]).max() < 0.5 * np.abs((plain.position - starts.position)[heavy]).max()
    assert ends.attrs["relaxation_restraint"] == pytest.approx(50.0)


def test_a_constrained_molecule_does_not_depend_on_the_others(starts):
    """Slots are filled again: nothing of the molecule before remains."""
    constraints = Constraints("C(=O)", hartree(20.0))
    together = relaxed(starts, constraints, "preconditioned", slots=2)
    for i in range(len(starts)):
        alone = relaxed(starts.subset([i]), constraints, "preconditioned")
        np.testing.assert_array_equal(alone.position, together.position[together.rows(i)])


def test_frozen_atoms_are_not_restrained():
    constraints = Constraints("[CX3]", 1.0)
    smiles = conformers(["CC(=O)N"], 1).mapped_smiles[0]
    symbols = [atom.GetSymbol() for atom in molecule(smiles).GetAtoms()]
    held = constraints.stiffnesses(smiles)
    assert constraints.frozen(smiles).sum() == 1
    assert [symbol for symbol, k in zip(symbols, held, strict=True) if k] == ["C", "O", "N"]


def test_what_a_pattern_does_not_match_is_left_out(starts):
    piece = Piece(starts, [], list(range(1, len(starts) + 1)), len(starts))
    (kept,) = matching([piece], Constraints("[NX3]"))
    assert set(kept.conformations.molecule) == {SMILES[0]} and kept.lines == [1, 4] and kept.n_expected == 6
    assert [out.line for out in kept.left_out] == [2, 3, 5, 6]
    assert kept.left_out[0].reason == "no atom of it is matched by --freeze [NX3]"
    (same,) = matching([piece], Constraints(HEAVY))
    assert same is piece


def test_a_pattern_that_takes_forever_leaves_the_molecule_out(monkeypatch):
    monkeypatch.setattr("golf.chem.patterns.SECONDS", 0.2)
    chain = conformers(["CCCCCCCCCCCC"], 1)
    endless = Constraints(".".join(["*"] * 12) + ".[Pb]")  # all ways to choose 12 of 38 atoms
    (piece,) = matching([Piece(chain, [], [3], 1)], endless)
    assert not len(piece.conformations) and piece.left_out[0].line == 3
    assert piece.left_out[0].reason.endswith("could not be matched: not finished within 0.2 s")


@pytest.mark.parametrize("pattern", ["C(", "hevy", "[#999"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(UserError, match="not a SMARTS pattern; correct it, or write heavy"):
        Constraints(pattern)
