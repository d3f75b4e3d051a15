"""Read and write a `ConformationSet` as HDF5, in the layout of docs/hdf5.md."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from golf import __version__
from golf.core.conformations import ATOM_COLUMNS, CONFORMATION_COLUMNS, Column, ConformationSet, Frames
from golf.core.errors import UserError
from golf.core.files import DISK_FULL, LOCKED, written_whole

FORMAT = "golf-conformations"
FORMAT_VERSION = 1

REQUIRED = (
    *(f"conformation/{name}" for name in ("id", "molecule", "mapped_smiles", "charge", "multiplicity")),
    *(f"atoms/{name}" for name in ("offset", "number", "position")),
)
"""Columns that every file must have."""


def write(path: str | Path, conformations: ConformationSet, **attrs: Any) -> None:
    """Write conformations to a file, atomically; `attrs` are added to the root attributes."""
    with _created(path) as file:
        _write_attrs(file, conformations.attrs | attrs)
        part = conformations
        _write(file, "atoms/offset", part.offset, Column(np.int64, "rows of conformation i: offset[i]:offset[i+1]"))
        _write(file, "atoms/number", part.number, Column(np.uint8, "atomic number"))
        _write(file, "atoms/position", part.position, Column(np.float64, "position", "angstrom", (3,)))
        for name, array in part.atoms.items():
            _write(file, f"atoms/{name}", array, ATOM_COLUMNS[name])
        text = {"id": "unique name", "molecule": "name of the molecule"}
        text["mapped_smiles"] = "SMILES whose atom-map numbers give the row order"
        for name, description in text.items():
            _write(file, f"conformation/{name}", getattr(part, name), Column(str, description))
        _write(file, "conformation/charge", part.charge, Column(np.int8, "total charge", "elementary charge"))
        _write(file, "conformation/multiplicity", part.multiplicity, Column(np.uint8, "spin multiplicity"))
        for name, array in part.values.items():
            _write(file, f"conformation/{name}", array, CONFORMATION_COLUMNS[name])
        if part.frames is not None:
            _write_frames(file, part.frames)


def rewrite(
    source: str | Path,
    output: str | Path,
    *,
    atoms: Mapping[str, NDArray],
    values: Mapping[str, Sequence | NDArray],
    **attrs: Any,
) -> None:
    """Write a copy of a file with columns and root attributes added or replaced, atomically.

    Other datasets are copied as stored, without decoding them: only the new columns are in memory.

    Args:
        atoms: names from ATOM_COLUMNS, [A, 3].
        values: names from CONFORMATION_COLUMNS, [N].

    Raises:
        UserError: `source` is missing, truncated, or of another format or version.
    """
    new: dict[str, tuple[Sequence | NDArray, Column]] = {}
    new |= {f"atoms/{name}": (array, ATOM_COLUMNS[name]) for name, array in atoms.items()}
    new |= {f"conformation/{name}": (array, CONFORMATION_COLUMNS[name]) for name, array in values.items()}
    size = sum(np.asarray(array).nbytes for array, _ in new.values())
    with _opened(source) as old, _created_on_disk(output, size + Path(source).stat().st_size) as file:
        _write_attrs(file, dict(old.attrs) | attrs)
        kept = [f"{group}/{name}" for group in old for name in old[group] if f"{group}/{name}" not in new]
        for name in kept:
            old.copy(name, file.require_group(name.partition("/")[0]))
        for name, (array, column) in new.items():
            _write(file, name, array, column)


def concatenate_files(
    parts: Sequence[str | Path], output: str | Path, *, values: Mapping[str, NDArray], **attrs: Any
) -> None:
    """Write the conformations of several files to one, with one part in memory at a time; empty parts are skipped.

    All parts must have the same columns. Frames are not kept.

    Args:
        values: columns [N] of all conformations to add or replace; names from CONFORMATION_COLUMNS.
        attrs: root attributes to add to those of the first part.

    Raises:
        UserError: a part cannot be read, or lacks a column of the first one.
    """
    sizes = [(path, len(read_columns(path, "conformation/charge")[0]["conformation/charge"])) for path in parts]
    full = [path for path, n in sizes if n] or list(parts[:1])
    with _opened(full[0]) as first:
        names = [f"{group}/{name}" for group in ("atoms", "conformation") for name in first[group]]
        made = {"atoms/offset", *(f"conformation/{name}" for name in values)}
        names = [name for name in names if name not in made]
        stamp = dict(first.attrs) | attrs
    room = sum(Path(path).stat().st_size for path in full) + sum(array.nbytes for array in values.values())
    offsets = [np.zeros(1, np.int64)]
    with _created_on_disk(output, room) as file:
        _write_attrs(file, stamp)
        for k, path in enumerate(full):
            with _opened(path) as part:
                for name in names:
                    if name not in part:
                        raise UserError(f"{path}: has no {name}, but {full[0]} has; make the parts again")
                    _append(file, part, name, first=k == 0)
                offsets.append(part["atoms/offset"][1:] + offsets[-1][-1])
        rows = Column(np.int64, "rows of conformation i: offset[i]:offset[i+1]")
        _write(file, "atoms/offset", np.concatenate(offsets), rows)
        for name, array in values.items():
            _write(file, f"conformation/{name}", array, CONFORMATION_COLUMNS[name])


def _append(file: h5py.File, part: h5py.File, name: str, first: bool) -> None:
    """Append a dataset of a part to the dataset of that name in `file`."""
    source = part[name]
    if first:
        shape = (0, *source.shape[1:])
        file.create_dataset(
            name, shape, source.dtype, maxshape=(None, *source.shape[1:]), chunks=True, compression="gzip", shuffle=True
        )
        for key, value in source.attrs.items():
            file[name].attrs[key] = value
    target = file[name]
    n = len(target)
    target.resize(n + len(source), axis=0)
    target[n:] = source[:]


@contextmanager
def _created(path: str | Path) -> Iterator[h5py.File]:
    """Yield a new file that stays in memory until it is complete: on a full disk h5py would crash the process."""
    with written_whole(path) as temporary:
        with h5py.File(temporary.name, "w", driver="core", backing_store=False, block_size=2**22) as file:
            yield file
            file.flush()
            image = file.id.get_file_image()
        temporary.write_bytes(image)


@contextmanager
def _created_on_disk(path: str | Path, size: int) -> Iterator[h5py.File]:
    """Yield a new file on disk, for data too large for memory, after reserving `size` bytes for it."""
    with written_whole(path) as temporary:
        with open(temporary, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
        with h5py.File(temporary, "w") as file:
            yield file


def _write_attrs(file: h5py.File, attrs: Mapping[str, Any]) -> None:
    stamp = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"golf {__version__}",
        "created_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    for name, value in (dict(attrs) | stamp).items():
        file.attrs[name] = value


def _write_frames(file: h5py.File, frames: Frames) -> None:
    columns = {
        "conformation": Column(np.int64, "index of the conformation"),
        "step": Column(np.int64, "optimizer step"),
        "offset": Column(np.int64, "atom rows of frame k: offset[k]:offset[k+1]"),
        "energy": Column(np.float64, "total energy", "hartree"),
        "position": Column(np.float64, "position", "angstrom", (3,)),
        "force": Column(np.float64, "minus the gradient of the energy", "hartree/angstrom", (3,)),
    }
    for name, column in columns.items():
        _write(file, f"frame/{name}", getattr(frames, name), column)


def _write(file: h5py.File, name: str, array: Sequence | NDArray, column: Column) -> None:
    if column.dtype is str:
        dtype, data = h5py.string_dtype(), np.array(list(array), dtype=object)
    elif issubclass(column.dtype, IntEnum):
        words = {member.name.lower(): int(member) for member in column.dtype}
        dtype, data = h5py.enum_dtype(words, basetype=np.uint8), np.asarray(array, dtype=np.uint8)
    else:
        dtype, data = np.dtype(column.dtype), np.asarray(array, dtype=column.dtype)
    packed = {"compression": "gzip", "shuffle": True} if len(data) else {}
    dataset = file.create_dataset(name, data=data, dtype=dtype, **packed)
    dataset.attrs["description"] = column.description
    if column.unit:
        dataset.attrs["units"] = column.unit


def read(path: str | Path, indices: Sequence[int] | NDArray | None = None) -> ConformationSet:
    """Read a file of this layout, or the conformations of the given indices, in that order.

    With indices only their rows are read, except that frames are read in full first.

    Raises:
        UserError: the file is missing, truncated, of another format or version, or contradicts itself.
    """
    with _opened(path) as file:
        if indices is None:
            return _read(file)
        rows, order = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        return _read(file, rows).subset(order)


def read_columns(path: str | Path, *names: str) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read some datasets of a file by their HDF5 names (`conformation/status`), and the root attributes.

    Datasets that the file does not have are left out. Strings are returned as an array of str.

    Raises:
        UserError: the file is missing, truncated, or of another format or version.
    """
    with _opened(path) as file:
        return {name: _values(file[name], [slice(None)]) for name in names if name in file}, dict(file.attrs)


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading; problems with it are raised as UserError."""
    try:
        with h5py.File(path, "r") as file:
            _check_format(path, file)
            yield file
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:  # raised by the file that the caller writes
            raise
        raise unreadable(path, error) from None
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: does not follow the layout {FORMAT}: {error}; make it again") from None


def unreadable(path: str | Path, error: Exception) -> UserError:
    """Return the error to raise when HDF5 cannot read a file."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: no such file")
    reason = (str(error).splitlines() or [""])[0]
    if isinstance(error, BlockingIOError) or any(word in reason for word in ("unable to lock", "already open for")):
        return UserError(f"{path}: {LOCKED}")
    return UserError(f"{path}: not a readable HDF5 file (truncated or of another kind): {reason}")


def _check_format(path: str | Path, file: h5py.File) -> None:
    found = file.attrs.get("format")
    if found != FORMAT:
        raise UserError(
            f"{path}: not an HDF5 file of golf (attribute format is {found!r}, not {FORMAT!r}); give another file"
        )
    version = int(file.attrs["format_version"])
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version}, but this version of golf reads up to {FORMAT_VERSION}; update golf"
        )
    missing = [name for name in REQUIRED if name not in file]
    if missing:
        raise UserError(f"{path}: has no column {' and no '.join(missing)} (docs/hdf5.md); add it, or make it again")


def _values(dataset: h5py.Dataset, parts: Sequence[slice]) -> NDArray:
    """Return the rows of the parts, concatenated."""
    source = dataset.asstr() if h5py.check_string_dtype(dataset.dtype) else dataset
    blocks = [source[part] for part in parts] or [source[:0]]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _read(file: h5py.File, rows: NDArray[np.int64] | None = None) -> ConformationSet:
    """Read all conformations, or those of the given rows, which must increase."""
    offset, parts, atom_parts = file["atoms/offset"][:], [slice(None)], [slice(None)]
    if rows is not None:
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        parts = [slice(int(run[0]), int(run[-1]) + 1) for run in runs]
        atom_parts = [slice(int(offset[part.start]), int(offset[part.stop])) for part in parts]
        offset = np.cumsum([0, *(offset[rows + 1] - offset[rows])], dtype=np.int64)

    def column(name: str) -> NDArray:
        return _values(file[f"conformation/{name}"], parts)

    def atoms(name: str) -> NDArray:
        return _values(file[f"atoms/{name}"], atom_parts)

    frames = None
    if "frame" in file:
        names = ("conformation", "step", "offset", "energy", "position", "force")
        frames = Frames(**{name: file[f"frame/{name}"][:] for name in names})
    return ConformationSet(
        id=list(column("id")),
        molecule=list(column("molecule")),
        mapped_smiles=list(column("mapped_smiles")),
        charge=column("charge"),
        multiplicity=column("multiplicity"),
        offset=offset,
        number=atoms("number"),
        position=atoms("position"),
        atoms={name: atoms(name) for name in ATOM_COLUMNS if name in file["atoms"]},
        values={name: column(name) for name in CONFORMATION_COLUMNS if name in file["conformation"]},
        attrs=dict(file.attrs.items()),
        frames=frames if frames is None or rows is None else frames.subset(rows),
    )
