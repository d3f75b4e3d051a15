"""Merging label batches, file by file: every label in its place, nothing else changed, and what is refused."""

import resource

import h5py
import numpy as np
import pytest

from golf.core.conformations import ConformationSet, Frames, Status
from golf.core.errors import UserError
from golf.core.hdf5 import read, write
from golf.core.labels import unlabelled
from golf.core.level import LevelOfTheory
from golf.oracles.merging import merge_labels

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g")
N = 23


@pytest.fixture
def conformations():
    """Molecules of 1 to 5 atoms, with columns of a relaxation and a frame, as a round selects them."""
    random = np.random.default_rng(3)
    records = []
    for i in range(N):
        n = 1 + i % 5
        smiles = "".join(f"[He:{k}]" for k in range(1, n + 1))
        records.append(
            (f"m{i % 3}/{i:04d}", f"m{i % 3}", smiles, i % 2, 1 + i % 2, [2] * n, random.normal(size=(n, 3)))
        )
    part = ConformationSet.build(records, seed=5)
    frames = Frames.build([(2, 0, -1.0, part.position[part.rows(2)], np.ones((3, 3)))])
    starts = {"start_id": [f"grün/{i}" for i in range(N)], "n_steps": np.arange(N)}
    return part.with_columns(atoms={"initial_position": part.position + 1.0}, values=starts, frames=frames)


def labelled(part, seed):
    """Labels that no two conformations share; every seventh failed."""
    random = np.random.default_rng(seed)
    failed = np.array([int(name[-4:]) % 7 == 3 for name in part.id], dtype=bool)
    force = random.normal(size=part.position.shape)
    force[np.repeat(failed, part.n_atoms)] = np.nan
    values = {
        "energy": np.where(failed, np.nan, random.normal(size=len(part))),
        "status": np.where(failed, Status.FAILED, Status.OK),
        "message": [f"why {name}" if bad else "" for name, bad in zip(part.id, failed, strict=True)],
        "wall_seconds": random.uniform(size=len(part)),
        "scf_iterations": random.integers(1, 99, len(part)),
        "recovery": ["damped" if i % 2 else "" for i in range(len(part))],
    }
    return part.bare().with_columns(atoms={"force": force}, values=values, program_version="1.3.2", **LEVEL.attrs())


def merged(folder, conformations, parts, **settings):
    write(folder / "all.h5", conformations)
    paths = [folder / f"{k}.h5" for k in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write(path, part)
    merge_labels(folder / "all.h5", paths, folder / "merged.h5", **settings)
    return read(folder / "merged.h5")


def assert_has_labels_of(found, part):
    """Every label of the part, down to the last bit."""
    for j, name in enumerate(part.id):
        i = found.id.index(name)
        np.testing.assert_array_equal(found.atoms["force"][found.rows(i)], part.atoms["force"][part.rows(j)])
        for column, array in part.values.items():
            np.testing.assert_array_equal(found.values[column][i], array[j])


def test_every_label_is_in_its_place_and_the_rest_stays(conformations, tmp_path):
    order = np.random.default_rng(0).permutation(N)
    parts = [labelled(conformations.subset(rows), k) for k, rows in enumerate(np.split(order, [4, 4, 15]))]
    found = merged(tmp_path, conformations, parts, attrs={"seed": 7, "config_sha256": "f"})
    assert [len(part) for part in parts] == [4, 0, 11, 8]
    for part in parts:
        assert_has_labels_of(found, part)
    for name in ("id", "molecule", "mapped_smiles"):
        assert getattr(found, name) == getattr(conformations, name)
    for name in ("charge", "multiplicity", "offset", "number", "position"):
        np.testing.assert_array_equal(getattr(found, name), getattr(conformations, name))
    np.testing.assert_array_equal(found.atoms["initial_position"], conformations.atoms["initial_position"])
    np.testing.assert_array_equal(found.values["start_id"], conformations.values["start_id"])
    np.testing.assert_array_equal(found.frames.position, conformations.frames.position)
    assert LEVEL.matches(found.attrs) and found.attrs["program_version"] == "1.3.2"
    assert (found.attrs["seed"], found.attrs["config_sha256"]) == (7, "f")


def test_the_file_is_as_if_written_at_once(conformations, tmp_path):
    part = labelled(conformations, 1)
    merged(tmp_path, conformations, [part])
    at_once = conformations.with_columns(atoms=part.atoms, values=part.values, **part.attrs)
    write(tmp_path / "at_once.h5", at_once)
    found, expected = {}, {}
    for path, seen in (("merged", found), ("at_once", expected)):
        with h5py.File(tmp_path / f"{path}.h5") as file:

            def note(name, item, seen=seen):
                if isinstance(item, h5py.Dataset):
                    seen[name] = (item.dtype, item.shape, item.compression, dict(item.attrs))

            file.visititems(note)
            seen["/"] = {name: value for name, value in file.attrs.items() if name != "created_utc"}
    assert found == expected


def test_labels_at_hand_stay(conformations, tmp_path):
    at_hand = labelled(conformations, 1)
    some = np.arange(N) % 3 == 0
    values = {name: array.copy() for name, array in unlabelled(conformations).values.items()}
    force = np.where(np.repeat(some, conformations.n_atoms)[:, None], at_hand.atoms["force"], np.nan)
    for name in at_hand.values:
        values[name][some] = at_hand.values[name][some]
    start = conformations.with_columns(atoms={"force": force}, values=values, **at_hand.attrs)
    rest = labelled(conformations.subset(~some), 2)
    found = merged(tmp_path, start, [rest])
    assert_has_labels_of(found, at_hand.subset(some))
    assert_has_labels_of(found, rest)


def test_large_forces_are_kept_but_rejected(conformations, tmp_path):
    part = labelled(conformations, 1)
    norms = np.array([np.linalg.norm(part.atoms["force"][part.rows(i)]) for i in range(N)])
    limit = float(np.nanmedian(norms))
    found = merged(tmp_path, conformations, [part], max_force_norm=limit)
    over = norms > limit
    assert over.any()
    np.testing.assert_array_equal(found.values["status"], np.where(over, Status.REJECTED, part.values["status"]))
    assert all("above max_force_norm" in message for message in found.values["message"][over])
    np.testing.assert_array_equal(found.values["energy"], part.values["energy"])


def test_rejected_labels_that_came_with_the_data_are_judged_anew(conformations, tmp_path):
    first = merged(tmp_path, conformations, [labelled(conformations, 1)], max_force_norm=1e-9)
    assert Status.OK not in first.values["status"] and Status.REJECTED in first.values["status"]
    by_hand = int(np.flatnonzero(first.values["status"] == Status.REJECTED)[0])
    first.values["message"][by_hand] = "not to be trusted"
    expected = labelled(conformations, 1)
    expected.values["status"][by_hand], expected.values["message"][by_hand] = Status.REJECTED, "not to be trusted"
    for limit in (1e9, None):
        found = merged(tmp_path, first, [], max_force_norm=limit)
        assert_has_labels_of(found, expected)


def test_labels_that_others_have_made_may_lack_what_is_not_needed(conformations, tmp_path):
    part = labelled(conformations, 1)
    spare = {name: part.values[name] for name in ("energy", "status")}
    given = conformations.with_columns(atoms=part.atoms, values=spare, **LEVEL.attrs())
    found = merged(tmp_path, given, [])
    np.testing.assert_array_equal(found.values["energy"], part.values["energy"])
    assert set(found.values["message"]) == set(found.values["recovery"]) == {""}
    assert found.values["scf_iterations"].tolist() == [0] * N and not np.nansum(found.values["wall_seconds"])


def test_what_is_missing_unknown_or_of_another_level_is_refused(conformations, tmp_path):
    first, second = (labelled(conformations.subset(range(k, N, 2)), k) for k in (0, 1))
    with pytest.raises(UserError, match=r"11 conformations are not in any label batch \(first: m1/0001\); run again"):
        merged(tmp_path, conformations, [first])
    with pytest.raises(UserError, match=r"1\.h5: m1/0001 is not in .*all\.h5"):
        merged(tmp_path, conformations.subset(range(0, N, 2)), [first, second])
    with pytest.raises(UserError, match="label batches differ in basis: sto-3g and 6-31g"):
        merged(tmp_path, conformations, [first, second.with_columns(basis="6-31g")])
    with pytest.raises(UserError, match=r"5\.h5: no such file"):
        merge_labels(tmp_path / "all.h5", [tmp_path / "5.h5"], tmp_path / "merged.h5")
    assert not (tmp_path / "merged.h5").exists()
    newer = second.with_columns(program_version="1.9")
    assert merged(tmp_path, conformations, [first, newer]).attrs["program_version"] == "mixed"


def test_a_full_disk_is_found_before_anything_is_written(conformations, tmp_path):
    write(tmp_path / "all.h5", conformations)
    write(tmp_path / "part.h5", labelled(conformations.bare(), 1))
    before = sorted(path.name for path in tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            merge_labels(tmp_path / "all.h5", [tmp_path / "part.h5"], tmp_path / "merged.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
