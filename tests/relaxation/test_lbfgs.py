import ase
import ase.calculators.calculator
import numpy as np
import pytest
import torch
from ase.optimize import LBFGS
from rdkit.Chem import rdMolAlign

from golf.chem import molecules as chemistry
from golf.chem.mmff import MMFFSurrogate
from golf.core.units import HARTREE_IN_EV, hartree
from golf.relaxation.lbfgs import INITIAL_INVERSE_CURVATURE, BatchedLBFGS
from golf.relaxation.relax import relax
from support.mmff_potential import MMFFPotential, conformers


class AseMMFF(ase.calculators.calculator.Calculator):
    implemented_properties = ("energy", "forces")

    def __init__(self, smiles):
        super().__init__()
        self.smiles, self.mmff, self.n_evaluations = smiles, MMFFSurrogate(), 0

    def calculate(self, atoms=None, properties=None, system_changes=ase.calculators.calculator.all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.mmff.energy_and_forces(self.smiles, atoms.positions)
        self.results = {"energy": energy * HARTREE_IN_EV, "forces": forces * HARTREE_IN_EV}
        self.n_evaluations += 1


@pytest.mark.slow
def test_same_minima_as_ase_in_no_more_evaluations():
    starts = conformers(["CCO", "COC=O", "CC(N)=O", "c1cnc[nH]1", "CCS", "OCC(F)CN"], 3)
    threshold = hartree(0.01)
    ours = relax(starts, MMFFPotential(), force_threshold=threshold, max_steps=1000, slots=7)
    n_ase = []
    for i, smiles in enumerate(starts.mapped_smiles):
        rows = starts.rows(i)
        atoms = ase.Atoms(starts.number[rows], starts.position[rows], calculator=AseMMFF(smiles))
        assert LBFGS(atoms, logfile=None, maxstep=0.2).run(fmax=threshold * HARTREE_IN_EV, steps=1000)
        n_ase.append(atoms.calc.n_evaluations)
        energy = atoms.get_potential_energy() / HARTREE_IN_EV
        assert ours.values["nnp_energy_last"][i] == pytest.approx(energy, abs=hartree(1e-3))
        pair = [chemistry.molecule(smiles, p) for p in (ours.position[rows], atoms.positions)]
        assert rdMolAlign.AlignMol(pair[0], pair[1]) < 0.02
    assert ours.values["n_force_evaluations"].sum() <= 1.1 * sum(n_ase)


def textbook_direction(pairs, force):
    """Nocedal and Wright, algorithm 7.4, for one molecule; pairs (s, y) oldest first."""
    q, alphas = force.copy(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - (y @ r) / (s @ y))
    return r


def quadratics(n_slots, n_max, seed=0):
    """Positive definite Hessians [n_slots, 3 n_max, 3 n_max] and positions near their minima."""
    rng = np.random.default_rng(seed)
    random = rng.normal(size=(n_slots, 3 * n_max, 3 * n_max))
    hessians = random @ random.transpose(0, 2, 1) / 100 + 0.3 * np.eye(3 * n_max)
    return torch.as_tensor(hessians), torch.as_tensor(0.01 * rng.normal(size=(n_slots, n_max, 3)))


def forces_of(hessians, positions):
    return -torch.einsum("sij,sj->si", hessians, positions.flatten(1)).view_as(positions)


def step_of(optimizer, positions, forces):
    """The next displacements; plain L-BFGS does not look at energies."""
    return optimizer.displacements(positions, forces, torch.zeros(len(positions), dtype=torch.float64))


def test_direction_is_that_of_the_textbook_also_when_the_history_is_full():
    n_slots, n_max, history = 3, 4, 5
    hessians, positions = quadratics(n_slots, n_max)
    optimizer = BatchedLBFGS(n_slots, n_max, history=history, max_step_length=1e6)
    path, gradients = [], []
    for iteration in range(3 * history):
        forces = forces_of(hessians, positions)
        step = step_of(optimizer, positions, forces)
        path.append(positions.flatten(1).numpy())
        gradients.append(-forces.flatten(1).numpy())
        for slot in range(n_slots) if iteration else ():
            x, g = [p[slot] for p in path], [p[slot] for p in gradients]
            pairs = [(x[k + 1] - x[k], g[k + 1] - g[k]) for k in range(len(x) - 1)][-history:]
            expected = textbook_direction(pairs, -g[-1])
            np.testing.assert_allclose(step[slot].flatten().numpy(), expected, rtol=1e-6, atol=1e-12)
        positions = positions + step


def test_first_step_follows_the_forces_and_is_capped():
    forces = torch.zeros(2, 3, 3, dtype=torch.float64)
    forces[0, 0] = torch.tensor([0.01, 0.0, 0.0])
    forces[1, 1] = torch.tensor([3.0, 4.0, 0.0])
    forces[1, 2] = torch.tensor([0.0, 0.0, 2.5])
    step = step_of(BatchedLBFGS(2, 3, max_step_length=0.2), torch.zeros_like(forces), forces)
    torch.testing.assert_close(step[0], forces[0] * INITIAL_INVERSE_CURVATURE)
    torch.testing.assert_close(step[1], forces[1] * 0.2 / 5.0)


def test_slots_do_not_see_each_other_and_forget_at_a_reset():
    hessians, positions = quadratics(2, 4)
    both, alone = BatchedLBFGS(2, 4, history=6), BatchedLBFGS(1, 4, history=6)
    x, y = positions.clone(), positions[1:].clone()
    refilled = torch.tensor([True, False])
    for iteration in range(20):
        if iteration == 9:
            x[0] = positions[0] * 3
            both.reset(refilled)
            again = BatchedLBFGS(1, 4, history=6)
            z = x[:1].clone()
        step = step_of(both, x, forces_of(hessians, x))
        torch.testing.assert_close(step[1:], step_of(alone, y, forces_of(hessians[1:], y)), rtol=1e-7, atol=1e-14)
        if iteration >= 9:
            torch.testing.assert_close(step[:1], step_of(again, z, forces_of(hessians[:1], z)), rtol=1e-7, atol=1e-14)
            z = z + step[:1]
        x = x + step
        y = y + step[1:]


def test_goes_downhill_where_the_curvature_is_negative():
    """On the energy cos(x) of every coordinate, from near its maximum."""
    positions = torch.full((1, 2, 3), 0.05, dtype=torch.float64)
    optimizer = BatchedLBFGS(1, 2)
    for _ in range(200):
        forces = torch.sin(positions)
        step = step_of(optimizer, positions, forces)
        assert (step * forces).sum() >= 0
        positions = positions + step
    torch.testing.assert_close(positions, torch.full_like(positions, torch.pi), rtol=0, atol=1e-8)


def test_recovers_from_forces_that_were_not_finite():
    hessians, positions = quadratics(1, 3)
    optimizer = BatchedLBFGS(1, 3)
    step_of(optimizer, positions, forces_of(hessians, positions))
    step_of(optimizer, positions, torch.full_like(positions, torch.inf))
    for _ in range(60):
        positions = positions + step_of(optimizer, positions, forces_of(hessians, positions))
    assert forces_of(hessians, positions).abs().max() < 1e-8


def test_no_force_no_step():
    nothing = torch.zeros(2, 3, 3, dtype=torch.float64)
    optimizer = BatchedLBFGS(2, 3)
    for _ in range(3):
        assert (step_of(optimizer, nothing, nothing) == 0).all()


@pytest.mark.parametrize("sizes", [{"history": 0}, {"max_step_length": 0.0}])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="must be positive"):
        BatchedLBFGS(1, 1, **sizes)
