"""The HDF5 layout: round trip, the datasets of the design, words for enums, damaged and foreign files."""

import h5py
import numpy as np
import pytest

from golf.core.conformations import ConformationSet, Frames, Status, StopReason, concatenate
from golf.core.errors import UserError
from golf.core.hdf5 import read, write


def water(name, shift=0.0):
    positions = np.array([[0.0, 0.0, 0.1 + shift], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return (name, "water", "[O:1]([H:2])[H:3]", 0, 1, [8, 1, 1], positions)


def hydrogen(name):
    return (name, "hydrogen", "[H:1][H:2]", 0, 1, [1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))


@pytest.fixture
def labelled():
    conformations = ConformationSet.build([water("water/0000"), hydrogen("hydrogen/0000"), water("water/0001", 0.05)])
    frames = Frames.build(
        [(0, 0, -1.5, np.ones((3, 3)), np.zeros((3, 3))), (1, 0, -1.0, np.ones((2, 3)), np.zeros((2, 3)))]
    )
    return conformations.with_columns(
        atoms={"force": np.arange(24.0).reshape(8, 3), "initial_position": conformations.position + 1.0},
        values={
            "energy": [-76.1234567890123, np.nan, -76.0],
            "status": [Status.OK, Status.NOT_CONVERGED, Status.REJECTED],
            "message": ["", "SCF did not converge", "grün"],
            "stop_reason": [StopReason.CONVERGED, StopReason.STEP_LIMIT, StopReason.SURROGATE_RISE],
            "n_steps": [3, 4, 5],
        },
        frames=frames,
        method="hf",
    )


def assert_equal(a, b):
    assert (a.id, a.molecule, a.mapped_smiles) == (b.id, b.molecule, b.mapped_smiles)
    for name in ("charge", "multiplicity", "offset", "number", "position"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.atoms.keys() == b.atoms.keys() and a.values.keys() == b.values.keys()
    for name in a.atoms:
        np.testing.assert_array_equal(a.atoms[name], b.atoms[name])
    for name in a.values:
        np.testing.assert_array_equal(a.values[name], b.values[name])


def test_round_trip(labelled, tmp_path):
    write(tmp_path / "a.h5", labelled, seed=7)
    back = read(tmp_path / "a.h5")
    assert_equal(back, labelled)
    assert back.attrs["method"] == "hf" and back.attrs["seed"] == 7
    np.testing.assert_array_equal(back.frames.position, labelled.frames.position)
    np.testing.assert_array_equal(back.frames.offset, [0, 3, 5])
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


@pytest.mark.parametrize("indices", [[1], [2, 0], [0, 1, 2], [], [1, 2]])
def test_some_of_a_file_are_a_subset_of_all(labelled, tmp_path, indices):
    write(tmp_path / "a.h5", labelled)
    some, expected = read(tmp_path / "a.h5", indices), read(tmp_path / "a.h5").subset(indices)
    assert_equal(some, expected)
    assert some.attrs == expected.attrs
    for name in ("conformation", "step", "offset", "energy", "position", "force"):
        np.testing.assert_array_equal(getattr(some.frames, name), getattr(expected.frames, name))


def test_an_index_past_the_end_is_an_error(labelled, tmp_path):
    write(tmp_path / "a.h5", labelled)
    with pytest.raises(IndexError):
        read(tmp_path / "a.h5", [0, 3])


def test_layout_is_that_of_the_design(labelled, tmp_path):
    write(tmp_path / "a.h5", labelled, config_sha256="0", seed=7)
    with h5py.File(tmp_path / "a.h5") as file:
        expected = {"format", "format_version", "created_by", "created_utc", "config_sha256", "seed"}
        assert expected <= set(file.attrs) and file.attrs["format"] == "golf-conformations"
        types = {"atoms/offset": "i8", "atoms/number": "u1", "atoms/position": "f8", "conformation/charge": "i1"}
        types |= {"conformation/multiplicity": "u1", "atoms/force": "f8", "conformation/energy": "f8"}
        for name, dtype in types.items():
            assert file[name].dtype == np.dtype(dtype), name
        assert file["atoms/position"].attrs["units"] == "angstrom"
        assert file["conformation/energy"].attrs["units"] == "hartree"
        assert h5py.check_enum_dtype(file["conformation/status"].dtype)["not_converged"] == Status.NOT_CONVERGED
        assert h5py.check_string_dtype(file["conformation/id"].dtype) is not None
        assert {"conformation", "step", "offset", "energy", "position", "force"} == set(file["frame"])


def test_empty_set_round_trips(tmp_path):
    write(tmp_path / "empty.h5", ConformationSet.build([]))
    assert len(read(tmp_path / "empty.h5")) == 0


def test_subset_and_concatenate(labelled):
    part = labelled.subset([2, 0])
    assert part.id == ["water/0001", "water/0000"] and part.frames.conformation.tolist() == [1]
    np.testing.assert_array_equal(part.position[part.rows(0)], labelled.position[labelled.rows(2)])
    again = concatenate([labelled.subset([0]), labelled.subset([]), labelled.subset([1, 2])])
    assert_equal(again, labelled)
    assert again.attrs == {"method": "hf"}


def test_ids_must_be_unique():
    with pytest.raises(ValueError, match="'water/0000' appears twice"):
        ConformationSet.build([water("water/0000"), water("water/0000")])


def test_an_error_while_writing_leaves_the_old_file(labelled, tmp_path):
    write(tmp_path / "a.h5", labelled)
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(TypeError):
        write(tmp_path / "a.h5", labelled, bad=object())
    assert (tmp_path / "a.h5").read_bytes() == before and list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


def test_damaged_and_foreign_files_are_refused(labelled, tmp_path):
    write(tmp_path / "whole.h5", labelled)
    content = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "truncated.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "newer.h5", "w") as file:
        file.attrs.update(format="golf-conformations", format_version=99)
    with h5py.File(tmp_path / "lacking.h5", "w") as file:
        file.attrs.update(format="golf-conformations", format_version=1)
    for name, reason in {
        "truncated": "truncated",
        "text": "not a readable HDF5 file",
        "foreign": "not an HDF5 file of golf",
        "newer": "update golf",
        "lacking": "has no column conformation/id",
        "missing": "no such file",
    }.items():
        with pytest.raises(UserError, match=rf"{name}\.h5: .*{reason}") as caught:
            read(tmp_path / f"{name}.h5")
        assert "\n" not in str(caught.value)
