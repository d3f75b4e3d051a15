"""The HDF5 file of a `ConformationSet`: one layout for every artifact, described in docs/hdf5.md."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from golf import __version__
from golf.conformations import ATOM_COLUMNS, CONFORMATION_COLUMNS, Column, ConformationSet, Frames
from golf.errors import UserError
from golf.files import written_whole

FORMAT = "golf-conformations"
FORMAT_VERSION = 1


def write(path: str | Path, conformations: ConformationSet, **attrs: Any) -> None:
    """Write the file under a temporary name and rename it when complete. `attrs` are added to the root attributes."""
    stamp = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"golf {__version__}",
        "created_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        for name, value in (conformations.attrs | attrs | stamp).items():
            file.attrs[name] = value
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


def read(path: str | Path) -> ConformationSet:
    """Read a file of this layout.

    Raises:
        UserError: the file is missing, truncated, of another format or version, or contradicts itself.
    """
    try:
        with h5py.File(path, "r") as file:
            _check_format(path, file)
            return _read(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file (truncated or of another kind): {error}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: does not follow the layout {FORMAT}: {error}; make it again") from None


def _check_format(path: str | Path, file: h5py.File) -> None:
    found = file.attrs.get("format")
    if found != FORMAT:
        raise UserError(f"{path}: HDF5 file of another kind (attribute format is {found!r}, not {FORMAT!r})")
    version = int(file.attrs["format_version"])
    if version > FORMAT_VERSION:
        raise UserError(f"{path}: format version {version}, this golf reads up to {FORMAT_VERSION}; update golf")


def _read(file: h5py.File) -> ConformationSet:
    def text(name: str) -> list[str]:
        return list(file[f"conformation/{name}"].asstr()[:])

    values: dict[str, NDArray] = {}
    for name, column in CONFORMATION_COLUMNS.items():
        if name in file["conformation"]:
            values[name] = (
                np.array(text(name), dtype=object) if column.dtype is str else file[f"conformation/{name}"][:]
            )
    frames = None
    if "frame" in file:
        names = ("conformation", "step", "offset", "energy", "position", "force")
        frames = Frames(**{name: file[f"frame/{name}"][:] for name in names})
    return ConformationSet(
        id=text("id"),
        molecule=text("molecule"),
        mapped_smiles=text("mapped_smiles"),
        charge=file["conformation/charge"][:],
        multiplicity=file["conformation/multiplicity"][:],
        offset=file["atoms/offset"][:],
        number=file["atoms/number"][:],
        position=file["atoms/position"][:],
        atoms={name: file[f"atoms/{name}"][:] for name in ATOM_COLUMNS if name in file["atoms"]},
        values=values,
        attrs=dict(file.attrs.items()),
        frames=frames,
    )
