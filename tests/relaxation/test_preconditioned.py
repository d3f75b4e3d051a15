"""Preconditioned L-BFGS: fewer evaluations, never uphill, the same whatever the company."""

import numpy as np
import pytest
import torch

from golf.chem.mmff import MMFFSurrogate
from golf.core.conformations import StopReason
from golf.core.errors import UserError
from golf.core.units import hartree
from golf.nnp.provider import Molecules
from golf.relaxation.engine import Optimizer
from golf.relaxation.preconditioned import ENERGY_NOISE, PreconditionedLBFGS
from golf.relaxation.relax import relax
from support.mmff_potential import MMFFPotential, conformers

PRECONDITIONED = Optimizer("preconditioned")
LIMITS = {"force_threshold": hartree(0.05), "max_steps": 500}
SMILES = ["CCO", "CC(N)=C", "OCC(F)CN", "CCC(C)=O", "c1ccccc1CO"]


class Watched:
    """A potential that writes down every energy of every molecule, by number of atoms (all of different size)."""

    def __init__(self, potential):
        self._potential, self.device, self.energies = potential, potential.device, {}

    def evaluate(self, molecules, positions):
        energies, forces = self._potential.evaluate(molecules, positions)
        for n, energy in zip(molecules.offset.diff().tolist(), energies.tolist(), strict=True):
            self.energies.setdefault(n, []).append(energy)
        return energies, forces


@pytest.fixture(scope="module")
def starts():
    return conformers(SMILES, 2)


def test_the_hessian_of_mmff(starts):
    smiles, positions = starts.mapped_smiles[0], starts.position[starts.rows(0)]
    mmff, h, n = MMFFSurrogate(), 1e-3, positions.size
    hessian = mmff.hessian(smiles, positions)
    assert np.array_equal(hessian, hessian.T) and hessian.shape == (n, n)

    def energy(*moves):
        moved = positions.ravel().copy()
        for k, step in moves:
            moved[k] += step
        return mmff.energy(smiles, moved.reshape(-1, 3))

    for i, j in ((0, 0), (3, 4), (7, 19), (26, 26)):
        corners = [a * b * energy((i, a * h), (j, b * h)) for a in (1, -1) for b in (1, -1)]
        assert hessian[i, j] == pytest.approx(sum(corners) / (4 * h * h), abs=2e-3)


def test_fewer_evaluations_and_energies_that_are_as_low(starts):
    plain = relax(starts, MMFFPotential(), slots=8, **LIMITS)
    ours = relax(starts, MMFFPotential(), slots=8, optimizer=PRECONDITIONED, **LIMITS)
    assert set(ours.values["stop_reason"]) == {StopReason.CONVERGED}
    ratio = ours.values["n_force_evaluations"] / plain.values["n_force_evaluations"]
    assert np.median(ratio) < 0.5, ratio
    assert (ours.values["nnp_energy_last"] - plain.values["nnp_energy_last"]).mean() < hartree(0.1)
    mmff = MMFFSurrogate()
    for i, smiles in enumerate(ours.mapped_smiles):
        energy, forces = mmff.energy_and_forces(smiles, ours.position[ours.rows(i)])
        assert np.linalg.norm(forces, axis=1).max() < LIMITS["force_threshold"]
        assert energy == pytest.approx(ours.values["nnp_energy_last"][i], abs=1e-12)


def test_the_hessian_is_that_of_the_variant():
    """Amide nitrogens are flatter in MMFF94s."""
    start = conformers(["CNC(C)=O"], 1)
    settings = LIMITS | {"max_steps": 1, "slots": 1}
    ends = {
        variant: relax(start, MMFFPotential(), optimizer=Optimizer("preconditioned", variant=variant), **settings)
        for variant in ("MMFF94", "MMFF94s")
    }
    assert np.abs(ends["MMFF94"].position - ends["MMFF94s"].position).max() > 1e-6
    recorded = [ends[variant].attrs["relaxation_mmff"] for variant in ends]
    assert recorded == ["MMFF94", "MMFF94s"]


def test_no_step_that_is_kept_goes_uphill(starts):
    watched = Watched(MMFFPotential())
    one_each = starts.subset([starts.molecule.index(smiles) for smiles in SMILES])
    final = relax(one_each, watched, slots=8, optimizer=PRECONDITIONED, **LIMITS)
    assert len(watched.energies) == len(one_each), "the molecules have different sizes"
    taken_back = 0
    for i, n in enumerate(one_each.n_atoms):
        energies = watched.energies[n]
        lowest = energies[0]
        for energy in energies[1:]:
            taken_back += energy > lowest + ENERGY_NOISE
            lowest = energy if energy <= lowest + ENERGY_NOISE else lowest
        assert final.values["nnp_energy_last"][i] == lowest
        assert final.values["n_force_evaluations"][i] == len(energies)
    assert taken_back > 0, "no step was ever taken back: the test shows nothing"


def test_the_same_alone_and_in_any_batch(starts):
    potential = MMFFPotential()
    together = relax(starts, potential, slots=3, optimizer=PRECONDITIONED, **LIMITS)
    for i in range(len(starts)):
        alone = relax(starts.subset([i]), potential, slots=1, optimizer=PRECONDITIONED, **LIMITS)
        np.testing.assert_array_equal(alone.position, together.position[together.rows(i)])


def test_a_limit_that_ends_at_a_step_uphill_gives_the_geometry_before(starts):
    for limit in range(1, 12):
        settings = LIMITS | {"max_steps": limit}
        final = relax(starts, MMFFPotential(), slots=10, optimizer=PRECONDITIONED, **settings)
        energies, _ = MMFFPotential().evaluate(Molecules.of(final), torch.from_numpy(final.position))
        np.testing.assert_allclose(energies.numpy(), final.values["nnp_energy_last"], rtol=0, atol=1e-12)
        assert (final.values["nnp_energy_last"] <= final.values["nnp_energy_first"] + limit * ENERGY_NOISE).all()


class Noisy:
    """A potential whose energies are wrong by some 2e-6 hartree, another time otherwise."""

    def __init__(self, potential):
        self._potential, self.device = potential, potential.device
        self._random = torch.Generator().manual_seed(1)

    def evaluate(self, molecules, positions):
        energies, forces = self._potential.evaluate(molecules, positions)
        return energies + 2e-6 * torch.randn(len(energies), generator=self._random, dtype=torch.float64), forces


def test_noise_of_the_energies_does_not_stop_it(starts):
    limits = LIMITS | {"force_threshold": hartree(0.02)}
    quiet = relax(starts, MMFFPotential(), slots=10, optimizer=PRECONDITIONED, **limits)
    noisy = relax(starts, Noisy(MMFFPotential()), slots=10, optimizer=PRECONDITIONED, **limits)
    assert set(noisy.values["stop_reason"]) == {StopReason.CONVERGED}
    assert noisy.values["n_force_evaluations"].max() < 3 * quiet.values["n_force_evaluations"].max()


def test_without_parameters_of_mmff_it_goes_on_without(starts):
    optimizer = PreconditionedLBFGS(1, 4, history=3, max_step_length=0.2, device="cpu")
    positions = torch.tensor([[0.0, 0, 0], [1.2, 0, 0], [-0.6, 1.0, 0], [-0.6, -1.0, 0]], dtype=torch.float64)
    optimizer.start(0, lambda: MMFFSurrogate().hessian("[B:1]([H:2])([H:3])[H:4]", positions.numpy()))
    forces = torch.full((1, 4, 3), 0.01, dtype=torch.float64)
    plain = Optimizer("lbfgs").build(1, 4, torch.device("cpu"))
    energies = torch.zeros(1, dtype=torch.float64)
    step = optimizer.displacements(positions[None], forces, energies)
    torch.testing.assert_close(step, plain.displacements(positions[None], forces, energies))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Optimizer("fire"), "optimizer: 'fire' is unknown; use one of lbfgs, preconditioned"),
        (Optimizer(max_step_length=0.0), "max_step_length is 0.0; it must be positive"),
        (Optimizer("preconditioned", history=0), "history is 0; it must be positive"),
    ],
)
def test_what_cannot_be(starts, optimizer, message):
    with pytest.raises(UserError, match=message):
        relax(starts, MMFFPotential(), slots=1, optimizer=optimizer, **LIMITS)
