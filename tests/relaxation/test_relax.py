import numpy as np
import pytest
import torch

from golf.chem.mmff import MMFFSurrogate, SurrogateError
from golf.core.conformations import StopReason
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.units import hartree
from golf.nnp.potential import Architecture, Potential
from golf.relaxation.engine import RelaxationEngine
from golf.relaxation.relax import relax
from support.mmff_labels import boronic_acid
from support.mmff_potential import MMFFPotential, Springs, conformers, stretch

MOLECULES = ["OCC(F)CN", "CC(=O)Nc1ccc(O)cc1", "CCS", "CO"]
LIMITS = {"force_threshold": hartree(0.05), "max_steps": 500}


def spread_limit(longest):
    """An extra term that is not a number as soon as the first two atoms are further apart than `longest` angstrom."""

    def term(positions):
        apart = np.linalg.norm(positions[0] - positions[1])
        return (0.0 if apart <= longest else np.nan), np.zeros_like(positions)

    return term


@pytest.mark.slow
def test_the_same_alone_and_in_any_batch():
    """To the last bit, where the forces are: MMFF computes them one molecule at a time."""
    starts = conformers(MOLECULES, 4)
    potential = MMFFPotential()
    alone = [relax(starts.subset([i]), potential, slots=1, **LIMITS) for i in range(len(starts))]
    for slots in (3, 16):
        together = relax(starts, potential, slots=slots, **LIMITS)
        for i, one in enumerate(alone):
            np.testing.assert_array_equal(together.position[together.rows(i)], one.position)
            for name, column in one.values.items():
                assert together.values[name][i] == column[0]


def test_shuffled_starts_give_the_same_results():
    starts = conformers(MOLECULES, 3)
    potential = MMFFPotential()
    order = np.random.default_rng(3).permutation(len(starts))
    plain = relax(starts, potential, slots=5, **LIMITS).subset(order)
    shuffled = relax(starts.subset(order), potential, slots=5, **LIMITS)
    assert shuffled.id == plain.id
    np.testing.assert_array_equal(shuffled.position, plain.position)


def test_converged_geometries_have_forces_below_the_threshold(tmp_path):
    starts, mmff = conformers(MOLECULES, 2), MMFFSurrogate()
    final = relax(starts, MMFFPotential(), surrogate=mmff, slots=4, **LIMITS)
    for i, smiles in enumerate(starts.mapped_smiles):
        energy, forces = mmff.energy_and_forces(smiles, final.position[final.rows(i)])
        assert np.linalg.norm(forces, axis=1).max() < LIMITS["force_threshold"]
        assert final.values["nnp_energy_last"][i] == final.values["surrogate_energy_last"][i] == energy
        assert final.values["surrogate_energy_first"][i] == mmff.energy(smiles, starts.position[starts.rows(i)])
    assert (final.values["stop_reason"] == StopReason.CONVERGED).all()
    np.testing.assert_array_equal(final.values["n_force_evaluations"], final.values["n_steps"] + 1)
    np.testing.assert_array_equal(final.atoms["initial_position"], starts.position)
    write(tmp_path / "final.h5", final)
    again = read(tmp_path / "final.h5")
    np.testing.assert_array_equal(again.position, final.position)
    np.testing.assert_array_equal(again.values["stop_reason"], final.values["stop_reason"])


def test_a_start_at_a_minimum_needs_one_evaluation():
    starts = conformers(["CCS"], 1)
    potential = MMFFPotential()
    minimum = relax(starts, potential, slots=1, **LIMITS)
    again = relax(minimum, potential, slots=1, **LIMITS)
    assert (again.values["n_force_evaluations"][0], again.values["n_steps"][0]) == (1, 0)
    np.testing.assert_array_equal(again.position, minimum.position)


def test_the_same_alone_and_in_any_batch_with_a_network():
    """A network's matrix products round differently in other batches, so floppy paths part in the end: 20 steps."""
    starts = conformers(MOLECULES, 2)
    torch.manual_seed(0)
    architecture = Architecture(n_atom_basis=16, n_interactions=2, n_rbf=8)
    potential = Potential(architecture, dict.fromkeys((1, 6, 7, 8, 9, 16), -1.0), scale=0.1).double()
    limits = {"force_threshold": 1e-9, "max_steps": 20}
    together = relax(starts, potential, slots=3, **limits)
    assert np.abs(together.position - starts.position).max() > 0.1
    for i in range(len(starts)):
        one = relax(starts.subset([i]), potential, slots=1, **limits)
        np.testing.assert_allclose(together.position[together.rows(i)], one.position, atol=1e-8)
        assert together.values["nnp_energy_last"][i] == pytest.approx(one.values["nnp_energy_last"][0], abs=1e-9)


def test_twice_is_bitwise_the_same():
    starts = conformers(MOLECULES, 3)
    first, second = (relax(starts, MMFFPotential(), slots=4, **LIMITS) for _ in range(2))
    np.testing.assert_array_equal(first.position, second.position)
    np.testing.assert_array_equal(first.values["n_steps"], second.values["n_steps"])


def test_slots_stay_full_while_there_are_starts():
    starts = conformers(MOLECULES, 5)
    potential = MMFFPotential()
    final = relax(starts, potential, slots=6, **LIMITS)
    assert sum(potential.batch_sizes) == final.values["n_force_evaluations"].sum()
    drained = next(k for k, size in enumerate(potential.batch_sizes) if size < 6)
    assert (np.array(potential.batch_sizes[:drained]) == 6).all()
    assert sum(potential.batch_sizes[:drained]) > 0.5 * sum(potential.batch_sizes)


def test_step_limit_and_iterations_per_step():
    starts = conformers(MOLECULES, 1)
    potential = MMFFPotential()
    single = relax(starts, potential, force_threshold=1e-12, max_steps=12, slots=4)
    by_four = relax(starts, potential, force_threshold=1e-12, max_steps=3, iterations_per_step=4, slots=4)
    np.testing.assert_array_equal(single.position, by_four.position)
    for final, n_steps in ((single, 12), (by_four, 3)):
        assert (final.values["stop_reason"] == StopReason.STEP_LIMIT).all()
        assert (final.values["n_steps"] == n_steps).all()
        assert (final.values["n_force_evaluations"] == 13).all()


def test_not_finite_ends_at_the_last_finite_geometry():
    starts = conformers(["CCS", "CO"], 2)
    wrong = MMFFPotential(stretch(4.0, stiffness=5.0))
    limit = 2.2

    def breaks(positions):
        energy, forces = stretch(4.0, stiffness=5.0)(positions)
        return energy + spread_limit(limit)(positions)[0], forces

    final = relax(starts, MMFFPotential(breaks), slots=2, **LIMITS)
    assert (final.values["stop_reason"] == StopReason.NOT_FINITE).all()
    for i in range(len(starts)):
        n_finite = int(final.values["n_force_evaluations"][i]) - 1
        # The same potential without the hole, stopped at the last geometry before it.
        path = relax(starts.subset([i]), wrong, force_threshold=1e-12, max_steps=n_finite, slots=1)
        before = relax(starts.subset([i]), wrong, force_threshold=1e-12, max_steps=n_finite - 1, slots=1)
        lengths = [np.linalg.norm(p[0] - p[1]) for p in (path.position, before.position)]
        assert lengths[0] > limit >= lengths[1]
        np.testing.assert_allclose(final.position[final.rows(i)], before.position, atol=1e-8)
        assert np.isfinite(final.values["nnp_energy_last"][i])


def test_a_start_that_is_not_finite_at_once_stays_where_it_is():
    starts = conformers(["CO"], 1)
    final = relax(starts, MMFFPotential(spread_limit(0.1)), slots=1, **LIMITS)
    assert final.values["stop_reason"][0] == StopReason.NOT_FINITE
    assert (final.values["n_steps"][0], final.values["n_force_evaluations"][0]) == (0, 1)
    np.testing.assert_array_equal(final.position, starts.position)


def test_stops_where_the_surrogate_energy_rises():
    starts, mmff = conformers(MOLECULES, 2), MMFFSurrogate()
    minima = relax(starts, MMFFPotential(), slots=8, **LIMITS)
    wrong = MMFFPotential(stretch(3.0))
    recorded = relax(minima, wrong, surrogate=mmff, slots=8, **LIMITS)
    assert (recorded.values["stop_reason"] == StopReason.CONVERGED).all()
    stopped = list(
        RelaxationEngine(minima, wrong, mmff, iterations_per_step=1, slots=8, **LIMITS).run(range(len(minima)))
    )
    assert len(stopped) == len(minima)
    for trajectory in stopped:
        assert (trajectory.stop_reason, trajectory.n_steps) == (StopReason.SURROGATE_RISE, 1)
        assert trajectory.last.surrogate_energy > trajectory.first.surrogate_energy


def test_a_failing_surrogate_raises():
    with pytest.raises(SurrogateError, match="boronic/0000"):
        list(
            RelaxationEngine(boronic_acid(), Springs(), MMFFSurrogate(), iterations_per_step=1, slots=1, **LIMITS).run(
                [0]
            )
        )
    assert relax(boronic_acid(), Springs(), slots=1, **LIMITS).values["stop_reason"][0] == StopReason.CONVERGED


def test_geometry_before_the_last_step():
    starts = conformers(["OCC(F)CN"], 1)
    relaxer = RelaxationEngine(
        starts, Springs(), None, force_threshold=1e-9, max_steps=4, iterations_per_step=3, slots=1
    )
    (trajectory,) = relaxer.run([0])
    for geometry, n_steps in ((trajectory.before, 3), (trajectory.last, 4)):
        final = relax(starts, Springs(), force_threshold=1e-9, max_steps=n_steps, iterations_per_step=3, slots=1)
        np.testing.assert_array_equal(geometry.positions, final.position)
        assert geometry.nnp_energy == final.values["nnp_energy_last"][0]
    np.testing.assert_array_equal(trajectory.first.positions, starts.position)


def test_nothing_to_relax():
    nothing = conformers(["CO"], 1).subset([])
    final = relax(nothing, Springs(), surrogate=MMFFSurrogate(), slots=4, **LIMITS)
    assert len(final) == 0 and "surrogate_energy_last" in final.values


@pytest.mark.parametrize("name", ["force_threshold", "max_steps", "iterations_per_step", "slots"])
def test_sizes_must_be_positive(name):
    sizes = {"force_threshold": 1.0, "max_steps": 1, "slots": 1} | {name: 0}
    with pytest.raises(UserError, match=f"{name} is 0; it must be positive"):
        relax(conformers(["CO"], 1), Springs(), **sizes)


def test_start_positions_must_be_finite():
    starts = conformers(["CO"], 2)
    starts.position[-1] = np.nan
    with pytest.raises(UserError, match="'CO/0001': positions are not finite"):
        relax(starts, Springs(), slots=1, **LIMITS)
