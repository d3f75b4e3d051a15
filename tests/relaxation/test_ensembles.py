"""RMSD between ends and minima on geometries whose distance is known."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from golf.chem.integrity import with_changes
from golf.chem.molecules import mapped_smiles
from golf.chem.rmsd import rmsd_to_minima
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.relaxation.ensembles import Ensemble, ensembles, with_new_minima


def conformers(smiles: str, n: int, name: str = "molecule") -> ConformationSet:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(mol, n, randomSeed=7)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    return ConformationSet.build(
        (f"{name}/{i}", name, mapped_smiles(mol), 0, 1, numbers, conformer.GetPositions())
        for i, conformer in enumerate(mol.GetConformers())
    )


def turned(part: ConformationSet) -> ConformationSet:
    """Each conformation turned and shifted, each another way."""
    rotations = [np.linalg.qr(np.random.default_rng(i).normal(size=(3, 3)))[0] for i in range(len(part))]
    rotations = [matrix * np.sign(np.linalg.det(matrix)) for matrix in rotations]
    positions = [part.position[part.rows(i)] @ rotations[i] + i for i in range(len(part))]
    return part.with_columns(position=np.concatenate(positions))


def kabsch(a: np.ndarray, b: np.ndarray) -> float:
    """RMSD after the best rotation, by singular values (Kabsch 1976)."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, v = np.linalg.svd(a.T @ b)
    s[-1] *= np.sign(np.linalg.det(u @ v))
    return float(np.sqrt(max((a**2).sum() + (b**2).sum() - 2 * s.sum(), 0.0) / len(a)))


def everything(part: ConformationSet) -> np.ndarray:
    return np.ones(len(part), bool)


def test_rotation_and_translation_are_no_distance():
    minima = conformers("CC(=O)NC", 3)
    own, nearest = rmsd_to_minima(turned(minima), everything(minima), minima, everything(minima))
    assert np.allclose(own, 0.0, atol=1e-4) and np.allclose(nearest, 0.0, atol=1e-4)


def test_heavy_atoms_of_a_molecule_without_symmetry_are_as_kabsch_says():
    part = conformers("OCC(F)C=O", 4)
    ends, minima = part.subset([1, 2]), part.subset([0, 3])
    minima = ConformationSet(**{**minima.__dict__, "id": ends.id})
    own, nearest = rmsd_to_minima(ends, everything(ends), minima, everything(ends))
    heavy = part.number[part.rows(0)] > 1
    positions = [part.position[part.rows(i)][heavy] for i in range(4)]
    expected = np.array([[kabsch(positions[i], positions[k]) for k in (0, 3)] for i in (1, 2)])
    assert np.allclose(own, np.diag(expected), atol=1e-4)
    assert np.allclose(nearest, expected.min(axis=0), atol=1e-4)


def test_equivalent_atoms_may_change_places():
    minima = conformers("FC(F)(F)c1ccc(C(=O)[O-])cc1", 1)
    mol = Chem.AddHs(Chem.MolFromSmiles("FC(F)(F)c1ccc(C(=O)[O-])cc1"))
    order = np.arange(mol.GetNumAtoms())
    (carboxylate,) = mol.GetSubstructMatches(Chem.MolFromSmarts("O=C[O-]"))
    order[[0, 2, carboxylate[0], carboxylate[2]]] = [2, 0, carboxylate[2], carboxylate[0]]
    ends = minima.with_columns(position=minima.position[order])
    assert kabsch(ends.position, minima.position) > 0.3
    own, _ = rmsd_to_minima(ends, everything(ends), minima, everything(ends))
    assert own[0] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("smiles", ["OO", "C", "[H][H]"])
def test_with_few_heavy_atoms_all_atoms_are_compared(smiles):
    minima = conformers(smiles, 1)
    stretched = minima.position.copy()
    stretched[-1] += 0.4 * (stretched[-1] - stretched[0])
    own, _ = rmsd_to_minima(minima.with_columns(position=stretched), [True], minima, [True])
    assert own[0] > 0.05
    same, _ = rmsd_to_minima(turned(minima), [True], minima, [True])
    assert same[0] == pytest.approx(0.0, abs=1e-4)


def test_hydrogens_do_not_count_beside_three_heavy_atoms():
    minima = conformers("CCO", 1)
    moved = minima.position + 0.5 * (minima.number == 1)[:, None]
    own, _ = rmsd_to_minima(minima.with_columns(position=moved), [True], minima, [True])
    assert own[0] == pytest.approx(0.0, abs=1e-6)


def test_what_is_missing_is_not_a_number():
    a, b = conformers("CCCO", 3, "propanol"), conformers("CCCF", 2, "fluoropropane")
    rows = [(p.id[i], p.molecule[i], p.mapped_smiles[i], 0, 1, p.number[p.rows(i)], p.position[p.rows(i)])
            for p in (a, b) for i in range(len(p))]  # fmt: skip
    part = ConformationSet.build(rows)
    has_end = np.array([True, False, True, False, False])
    has_minimum = np.array([True, True, False, True, True])
    own, nearest = rmsd_to_minima(part, has_end, part, has_minimum)
    assert np.isfinite(own).tolist() == [True, False, False, False, False]
    # The second minimum is compared with the first end; the third end has no minimum and does not count.
    assert np.isfinite(nearest).tolist() == [True, True, False, False, False]
    heavy = a.number[a.rows(0)] > 1
    distance = kabsch(a.position[a.rows(0)][heavy], a.position[a.rows(1)][heavy])
    assert nearest[1] == pytest.approx(distance, abs=1e-4)


def test_two_molecules_of_one_name_are_refused():
    ends, minima = conformers("CCO", 1), conformers("COC", 1)
    with pytest.raises(UserError, match="molecule/0 and molecule/0 are both named molecule but are not the same"):
        rmsd_to_minima(ends, [True], minima, [True])


def relaxed(part: ConformationSet, energies: list[float], reasons: list[StopReason] | None = None) -> ConformationSet:
    """The conformations as if relaxed to energies in kcal/mol."""
    values = {"nnp_energy_last": np.array(energies) / HARTREE_IN_KCAL_PER_MOL - 100.0}
    values["stop_reason"] = reasons or [StopReason.CONVERGED] * len(part)
    return with_changes(part.with_columns(values=values))


def by_hand(part: ConformationSet, energies: np.ndarray, prune: float, same_energy: float) -> list[int]:
    """Indices that are kept, by all distances and RDKit alone."""
    mols = []
    for i in range(len(part)):
        mol = Chem.AddHs(Chem.MolFromSmiles("OCC(F)C(=O)O"))
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(part.position[part.rows(i)])
        mol.AddConformer(conformer)
        mols.append(Chem.RemoveHs(mol))
    kept: list[int] = []
    for i in np.argsort(energies, kind="stable"):
        alike = [k for k in kept if abs(energies[k] - energies[i]) <= same_energy]
        if all(AllChem.GetBestRMS(Chem.Mol(mols[i]), mols[k]) >= prune for k in alike):
            kept.append(int(i))
    return kept


@pytest.mark.parametrize(
    ("prune", "same_energy"), [(0.2, np.inf), (0.6, np.inf), (5.0, np.inf), (0.6, 1.0), (5.0, 1.0), (5.0, 0.0)]
)
def test_of_conformers_that_are_close_the_lowest_is_kept(prune, same_energy):
    part = conformers("OCC(F)C(=O)O", 30)
    energies = np.random.default_rng(1).uniform(0.0, 5.0, len(part))
    kept, outcomes = ensembles(relaxed(turned(part), energies.tolist()), Ensemble(prune, np.inf, same_energy))
    expected = by_hand(part, energies, prune, same_energy)
    assert kept.id == [part.id[i] for i in expected] and kept.id[0] == part.id[int(energies.argmin())]
    assert outcomes["kept"] == len(expected) and outcomes["pruned"] == 30 - len(expected)
    assert (len(expected) == 1) == (prune == 5.0 and same_energy == np.inf)
    assert (len(expected) == 30) == (same_energy == 0.0)
    assert (np.diff(kept.values["nnp_energy_last"]) >= 0).all()


def test_window_and_what_is_not_a_conformer_are_of_each_molecule():
    both = [conformers("CCCO", 5, "propanol"), conformers("CCCF", 3, "fluoropropane")]
    rows = [(p.id[i], p.molecule[i], p.mapped_smiles[i], 0, 1, p.number[p.rows(i)], p.position[p.rows(i)])
            for p in both for i in range(len(p))]  # fmt: skip
    rows[4][-1][0] += 1.0  # a methyl's carbon, torn off
    reasons = [StopReason.CONVERGED] * 8
    reasons[1] = reasons[5] = reasons[6] = reasons[7] = StopReason.NOT_FINITE
    part = relaxed(ConformationSet.build(rows), [3.0, -50.0, 9.1, 9.0, -70.0, -5.0, np.nan, -4.0], reasons)
    kept, outcomes = ensembles(part, Ensemble(0.0, 6.0))
    assert kept.id == ["propanol/0", "propanol/3"]  # 6 kcal/mol is within the window; nothing of the other is finite
    assert outcomes == {"kept": 2, "not_finite": 4, "not_converged": 0, "changed": 1, "above_window": 1, "pruned": 0}


def test_mirror_images_and_rotamers_of_equal_heavy_atoms_are_two_conformers():
    """One has the same energy and another shape, the other the same shape (of heavy atoms) and another energy."""
    part = conformers("FCCCCO", 1)
    turned_oh = part.position + 0.05 * (part.number == 1)[:, None]
    geometries = [part.position, part.position * [1.0, 1.0, -1.0], turned_oh]
    rows = [(f"m/{k}", "m", part.mapped_smiles[0], 0, 1, part.number, xyz) for k, xyz in enumerate(geometries)]
    three = ConformationSet.build(rows)
    apart = relaxed(three, [0.0, 0.0, 1.0])
    assert ensembles(apart, Ensemble(0.3, np.inf))[0].id == ["m/0", "m/1", "m/2"]
    assert ensembles(apart, Ensemble(0.3, np.inf, np.inf))[0].id == ["m/0", "m/1"]
    near = relaxed(three, [0.0, 0.0, 0.05])  # as far as two relaxations into one minimum end apart
    assert ensembles(near, Ensemble(0.3, np.inf))[0].id == ["m/0", "m/1"]


def test_a_batch_is_new_if_it_has_a_minimum_that_is_not_known():
    part = conformers("OCC(F)C(=O)O", 3)
    energies = [0.0, 1.0, 9.0]
    assert with_new_minima(relaxed(part, energies), 1, Ensemble(0.2, 6.0)) == {"molecule"}
    assert not with_new_minima(relaxed(part, energies), 2, Ensemble(0.2, 6.0)), "above the window"
    assert with_new_minima(relaxed(part, energies), 2, Ensemble(0.2, 10.0)) == {"molecule"}
    again = part.with_columns(position=np.concatenate([part.position[part.rows(i)] for i in (0, 1, 0)]))
    assert not with_new_minima(relaxed(again, [0.0, 1.0, -0.05]), 2, Ensemble(0.2, 6.0)), "a little lower, but the same"
    reasons = [StopReason.CONVERGED, StopReason.CONVERGED, StopReason.STEP_LIMIT]
    assert not with_new_minima(relaxed(part, [0.0, 1.0, 2.0], reasons), 2, Ensemble(0.2, 6.0)), "not a minimum"
