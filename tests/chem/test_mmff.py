import numpy as np
import pytest
from rdkit.Chem import rdForceFieldHelpers

from golf.chem import mmff as surrogate
from golf.chem import molecules as chemistry
from golf.chem.mmff import MMFFSurrogate, SurrogateError
from golf.core.conformations import StopReason
from golf.core.hdf5 import read, write
from support.mmff_labels import boronic_acid, fresh_energy
from support.mmff_potential import conformers

MOLECULES = ["OCC(F)CN", "CC(=O)Nc1ccc(O)cc1", "CCS", "C[NH3+]"]


@pytest.mark.parametrize("variant", ["MMFF94", "MMFF94s"])
def test_energies_equal_a_fresh_force_field_of_rdkit(variant):
    starts = conformers(MOLECULES, 4)
    reused = MMFFSurrogate(variant)
    for _ in range(2):
        for smiles, positions in zip(starts.mapped_smiles, starts.positions_by_conformation(), strict=True):
            expected = fresh_energy(smiles, positions, variant)
            assert reused.energy(smiles, positions) == pytest.approx(expected, abs=1e-12)


def test_variants_differ_at_an_amide_nitrogen():
    starts = conformers(["CC(=O)Nc1ccc(O)cc1"], 1)
    energies = [MMFFSurrogate(v).energy(starts.mapped_smiles[0], starts.position) for v in ("MMFF94", "MMFF94s")]
    assert abs(energies[0] - energies[1]) > 1e-5


def test_forces_equal_finite_differences_of_fresh_energies():
    starts = conformers(["OCC(F)CN"], 2)
    smiles, step = starts.mapped_smiles[0], 1e-4
    first, second = starts.positions_by_conformation()
    mmff = MMFFSurrogate()
    _, forces = mmff.energy_and_forces(smiles, first)
    mmff.energy(smiles, second)  # leaves the pair distances of another geometry behind
    np.testing.assert_array_equal(mmff.energy_and_forces(smiles, first)[1], forces)
    for atom in range(0, len(first), 3):
        for axis in range(3):
            shift = np.zeros_like(first)
            shift[atom, axis] = step
            slope = (fresh_energy(smiles, first + shift) - fresh_energy(smiles, first - shift)) / (2 * step)
            assert forces[atom, axis] == pytest.approx(-slope, abs=1e-6)


def test_minimization_is_that_of_rdkit():
    starts = conformers(MOLECULES, 3)
    final = surrogate.minimize_all(starts, MMFFSurrogate(), max_iterations=2000)
    for i, smiles in enumerate(starts.mapped_smiles):
        mol = chemistry.molecule(smiles, starts.position[starts.rows(i)])
        assert rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=2000) == 0
        np.testing.assert_allclose(final.position[final.rows(i)], mol.GetConformer().GetPositions(), atol=1e-9)
        expected = fresh_energy(smiles, final.position[final.rows(i)])
        assert final.values["surrogate_energy_last"][i] == pytest.approx(expected, abs=1e-12)
    assert (final.values["stop_reason"] == StopReason.CONVERGED).all()
    assert (final.values["surrogate_energy_last"] < final.values["surrogate_energy_first"]).all()
    np.testing.assert_array_equal(final.atoms["initial_position"], starts.position)


def test_minimization_says_that_it_reached_its_limit(tmp_path, caplog):
    final = surrogate.minimize_all(conformers(["OCC(F)CN"], 2), MMFFSurrogate(), max_iterations=2)
    assert (final.values["stop_reason"] == StopReason.STEP_LIMIT).all()
    assert "2 of 2 minimizations reached the limit of 2 iterations" in caplog.text
    write(tmp_path / "final.h5", final)
    np.testing.assert_array_equal(read(tmp_path / "final.h5").position, final.position)


def test_a_molecule_without_parameters_raises_and_names_the_conformation():
    starts = boronic_acid()
    with pytest.raises(SurrogateError, match="'boronic/0000': MMFF94 has no parameters for"):
        MMFFSurrogate().energy(starts.mapped_smiles[0], starts.position, starts.id[0])


def test_an_energy_that_is_not_finite_raises():
    starts = conformers(["CCS"], 1)
    mmff = MMFFSurrogate()
    on_top = starts.position.copy()
    on_top[1] = on_top[0]
    for positions in (on_top, np.full_like(on_top, np.nan)):
        for method in (mmff.energy, mmff.energy_and_forces):
            with pytest.raises(SurrogateError, match="'CCS/0000': MMFF94 energy is nan"):
                method(starts.mapped_smiles[0], positions, starts.id[0])
    assert np.isfinite(mmff.energy(starts.mapped_smiles[0], starts.position))


def test_positions_of_another_molecule_raise():
    starts = conformers(["CCS"], 1)
    with pytest.raises(SurrogateError, match=r"shape \(8, 3\) for the 9 atoms"):
        MMFFSurrogate().energy(starts.mapped_smiles[0], starts.position[:-1], starts.id[0])


def test_unknown_variant_raises():
    with pytest.raises(SurrogateError.__base__, match="surrogate: 'UFF'"):
        MMFFSurrogate("UFF")
