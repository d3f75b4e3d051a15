"""Summarize a file of conformations or a model in words, for `golf inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.elements import SYMBOLS
from golf.core.errors import UserError
from golf.core.files import content_suffix
from golf.core.hdf5 import FORMAT, read
from golf.core.level import ORIGIN_ATTRS, described
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.core.wording import shortened
from golf.io.formats import EXTXYZ, GOLF, LEVELS, MOLECULES, NABLADFT, SPICE, SUFFIXES, format_of

if TYPE_CHECKING:
    from golf.chem.usable import LeftOut

_WIDTH = 22
_STAMP = ("format", "format_version", "created_by", "created_utc", "config_sha256", "seed")
_UNITS = "angstrom, hartree, hartree/angstrom; energies are total energies"
_NO_DOMAIN = "not recorded: golf relax cannot warn of molecules that differ from it"
_LONGEST = 100  # characters of an attribute or a message
_NAMED = 3  # unusable records that are listed
_ZIP = b"PK"  # first bytes of what torch.save writes


def describe(path: str | Path) -> str:
    """Return a summary of a file of conformations or of a model, as lines of text without a final newline.

    Raises:
        UserError: the file is missing, truncated or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as stream:
        start = stream.read(len(_ZIP))
    kind = format_of(path) if content_suffix(path) in SUFFIXES else GOLF if h5py.is_hdf5(path) else None
    if start == _ZIP:
        lines = list(_model(path))
    elif kind == SPICE:
        lines = list(_spice(path))
    elif kind == GOLF and h5py.is_hdf5(path):
        lines = list(_golf(read(path)))
    elif kind in MOLECULES:
        lines = [_row("format", kind), "", *_molecules(path)]
    elif kind in (NABLADFT, EXTXYZ):
        lines = [_row("format", kind), *_foreign(path, kind)]
    else:
        raise UserError(f"{path}: neither conformations nor a golf model; give one of the files under results/")
    return "\n".join([str(path), *lines])


def _spice(path: Path) -> Iterator[str]:
    from golf.io.spice import summarized

    yield _row("format", "SPICE")
    yield _row("level of theory", described(LEVELS[SPICE].attrs()))
    yield _row("units", "bohr, hartree, hartree/bohr")
    yield ""
    rows = list(summarized(path))
    yield _row("conformations", f"{sum(row[2] for row in rows)} of {sum(row[1] for row in rows)} molecules")
    for i, (subset, molecules, conformations) in enumerate(rows):
        yield _row("" if i else "subsets", f"{subset}: {conformations} of {molecules}")


def _molecules(path: Path) -> Iterator[str]:
    """Summarize a file of SMILES or SDF records as written; nothing is embedded."""
    from rdkit import Chem

    from golf.chem.usable import shell_problem
    from golf.io.records import in_full, read_records

    word = "record" if content_suffix(path) == ".sdf" else "line"
    names, with_geometry = set(), set()
    numbers, charges, n_atoms = Counter[int](), [], []
    unusable, n_geometries = [], 0
    for record in read_records(path):
        problem = shell_problem(record.mol)
        mol = Chem.Mol() if problem else Chem.AddHs(record.mol)
        has_geometry = any(conformer.Is3D() for conformer in mol.GetConformers())
        if has_geometry and not np.isfinite(mol.GetConformer().GetPositions()).all():
            problem = "positions that are not finite numbers"
        if problem:
            unusable.append(f"{word} {record.line} ({record.name}): {in_full(problem, record)}")
            continue
        names.add(record.name)
        with_geometry.update([record.name] if has_geometry else [])
        n_geometries += has_geometry
        numbers.update(atom.GetAtomicNum() for atom in mol.GetAtoms())
        n_atoms.append(mol.GetNumAtoms())
        charges.append(Chem.GetFormalCharge(mol))
    yield from _records(path, unusable, len(n_atoms))
    yield _row("molecules", f"{len(names)}{'' if with_geometry else ', none with a geometry'}")
    if with_geometry:
        yield _row("conformations", f"{n_geometries} of {len(with_geometry)} molecules")
    yield _row("atoms", f"{sum(n_atoms)}, {_range(n_atoms, 'd')} per record, hydrogens counted")
    yield _row("elements", _elements(*zip(*sorted(numbers.items()), strict=True)))
    if any(charges):
        yield _row("charge", _range(charges, "d"))


def _foreign(path: Path, kind: str) -> Iterator[str]:
    """Summarize conformations written by other programs, with their labels or, if these are unusable, without."""
    from golf.io.read import read_conformations, read_whole  # RDKit is loaded only where it is needed

    without_labels = ""
    try:
        part, left_out = read_conformations(path, kind)
    except UserError as error:
        without_labels = str(error).removeprefix(f"{path}: ")
        part, left_out = read_whole(path, kind)
    if "method" in part.attrs:
        yield _row("level of theory", described(part.attrs))
    yield _row("units", f"{_UNITS}, as golf reads it")
    yield ""
    yield from _records(path, [f"{_place(out)}: {out.reason}" for out in left_out], len(part))
    yield from _conformations(part)
    if without_labels:
        yield _row("labels", f"cannot be used: {without_labels}")


def _place(out: LeftOut) -> str:
    return f"record {out.line} ({out.name})"


def _records(path: Path, unusable: Sequence[str], n_usable: int) -> Iterator[str]:
    """Count the records and name the first ones that cannot be used.

    Raises:
        UserError: there are no records, or none can be used.
    """
    if not n_usable:
        raise UserError(f"{path}: " + (f"no record can be used; {unusable[0]}" if unusable else "holds no records"))
    yield _row("records", str(n_usable + len(unusable)))
    for i, reason in enumerate(unusable[:_NAMED]):
        yield _row("" if i else "cannot be used", reason if i else f"{len(unusable)}, first {reason}")


def _golf(part: ConformationSet) -> Iterator[str]:
    attrs = part.attrs
    yield _row("format", f"{FORMAT} {attrs['format_version']}, by {attrs.get('created_by', '?')}")
    yield _row("created", str(attrs.get("created_utc", "?")))
    for name, words in (("seed", "seed"), ("config_sha256", "config (SHA-256)")):
        if name in attrs:
            yield _row(words, str(attrs[name]))
    if "method" in attrs:
        yield _row("level of theory", described(attrs))
    yield _row("units", _UNITS)
    for name in sorted(attrs.keys() - {*ORIGIN_ATTRS, *_STAMP}):
        yield _row(name, shortened(attrs[name], _LONGEST))
    yield ""
    from golf.io.read import consistent  # RDKit is loaded only where it is needed

    contradicting = consistent(part)[1]
    if contradicting:
        first = contradicting[0]
        yield _row("cannot be used", f"{len(contradicting)}, first {first.name}: {first.reason}")
    yield from _conformations(part)


def _conformations(part: ConformationSet) -> Iterator[str]:
    yield _row("conformations", f"{len(part)} of {len(set(part.molecule))} molecules")
    if not len(part):
        return
    yield _row("atoms", f"{len(part.number)}, {_range(part.n_atoms, 'd')} per conformation")
    yield _row("elements", _elements(*np.unique(part.number, return_counts=True)))
    broken = [
        part.id[i] for i, positions in enumerate(part.positions_by_conformation()) if not np.isfinite(positions).all()
    ]
    if broken:
        yield _row("positions", f"not finite numbers in {len(broken)} conformations, first {broken[0]}")
    if part.charge.any() or (part.multiplicity != 1).any():
        yield _row("charge", _range(part.charge, "d"))
        yield _row("multiplicity", _range(part.multiplicity, "d"))
    yield from _labels(part)
    yield from _relaxations(part)
    yield from _metrics(part)
    yield _row("columns", " ".join([*part.atoms, *part.values]) or "none")


def _labels(part: ConformationSet) -> Iterator[str]:
    values = part.values
    if "status" not in values:
        return
    yield ""
    yield _row("status", _words(values["status"], Status))
    messages = Counter(str(m) for m in values.get("message", []) if m)
    for message, n in messages.most_common(3):
        yield _row("", f"{n} x {shortened(message, _LONGEST)}")
    if "energy" in values and np.isfinite(values["energy"]).any():
        yield _row("energy", f"{_range(values['energy'], '.6f')} hartree")
    if "force" in part.atoms and np.isfinite(part.atoms["force"]).any():
        norms = np.linalg.norm(part.atoms["force"], axis=1)
        largest = [float(norms[part.rows(i)].max()) for i in range(len(part))]
        kcal = np.array(largest) * HARTREE_IN_KCAL_PER_MOL
        yield _row("largest atomic force", f"{_range(np.array(largest), '.2e')} hartree/angstrom")
        yield _row("", f"{_range(kcal, '.2f')} kcal/mol/angstrom")
    if "recovery" in values:
        recovered = Counter(str(word) for word in values["recovery"] if word)
        if recovered:
            yield _row("SCF recovered by", ", ".join(f"{word} {n}" for word, n in sorted(recovered.items())))
    total = float(np.nansum(values.get("wall_seconds", 0.0)))
    if total > 0.0:  # labels that came with imported data have no times
        yield _row("wall time", f"{total / 3600:.2f} h in all, {total / len(part):.1f} s each")


def _relaxations(part: ConformationSet) -> Iterator[str]:
    values = part.values
    if "stop_reason" in values:
        yield ""
        yield _row("stop reason", _words(values["stop_reason"], StopReason))
    for name, words in (("n_steps", "steps"), ("n_force_evaluations", "force evaluations")):
        if name in values:
            yield _row(words, f"{_range(values[name], 'd')}, mean {np.mean(values[name]):.1f}")
    network = "NNP " if "surrogate_energy_last" in values else ""  # ends of golf relax may be of any potential
    for first, last, words in (
        ("energy_first", "energy", "DFT energy gained"),
        ("nnp_energy_first", "nnp_energy_last", f"{network}energy gained"),
        ("surrogate_energy_first", "surrogate_energy_last", "MMFF energy gained"),
    ):
        if first in values and last in values:
            gained = (values[first] - values[last]) * HARTREE_IN_KCAL_PER_MOL
            if np.isfinite(gained).any():
                yield _row(words, f"{_range(gained, '.2f')} kcal/mol")
    if part.frames is not None:
        n_with = len(np.unique(part.frames.conformation))
        yield _row("frames", f"{len(part.frames)} along {n_with} relaxations")


def _metrics(part: ConformationSet) -> Iterator[str]:
    if "residual_energy" not in part.values:
        return
    residual = part.values["residual_energy"] * HARTREE_IN_KCAL_PER_MOL
    yield ""
    if np.isfinite(residual).any():
        yield _row("residual energy", f"{_range(residual, '.2f')}, mean {np.nanmean(residual):.2f} kcal/mol")
    if "diverged" in part.values:
        yield _row("diverged", f"{int(part.values['diverged'].sum())} of {len(part)}")


def _model(path: Path) -> Iterator[str]:
    from golf.nnp import potential  # torch is loaded only for models

    model = potential.load(path)
    architecture = model.architecture
    yield _row("format", f"{potential.FORMAT} {potential.FORMAT_VERSION}")
    if model.provenance.config_sha256:
        yield _row("config (SHA-256)", model.provenance.config_sha256)
    yield _row("seed", str(model.provenance.seed))
    level = model.provenance.level
    yield _row("level of theory", described(level) if level else "not stated")
    yield _row("units", ", ".join(f"{name} {unit}" for name, unit in potential.UNITS.items()))
    yield ""
    shape = f"{architecture.n_atom_basis} features, {architecture.n_interactions} interactions"
    yield _row("network", f"{architecture.representation}, {shape}, {architecture.n_rbf} radial functions")
    yield _row("cutoff", f"{architecture.cutoff:g} angstrom")
    yield _row("repulsion", architecture.repulsion)
    kinds = f"{len(model.domain.kinds)} kinds of atoms and bonds" if model.domain else _NO_DOMAIN
    yield _row("training data", kinds)
    yield _row("weights", f"{sum(p.numel() for p in model.network.parameters())}")
    energies = ", ".join(f"{SYMBOLS[z]} {energy:.6f}" for z, energy in model.reference_energies.items())
    yield _row("reference energies", f"{energies} hartree")


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH - 1}} {text}".rstrip()


def _words(codes: NDArray, kind: type[IntEnum]) -> str:
    counts = Counter(int(code) for code in codes)
    return ", ".join(f"{kind(code).name.lower()} {n}" for code, n in sorted(counts.items()))


def _elements(numbers: Iterable[int], counts: Iterable[int]) -> str:
    return " ".join(f"{SYMBOLS[z]}:{n}" for z, n in zip(numbers, counts, strict=True))


def _range(values: NDArray | Sequence, style: str) -> str:
    """Write the range of the finite values, at least one of which must exist: "low to high", or one number."""
    array = np.asarray(values)
    finite = array[np.isfinite(array)]
    low, high = finite.min().item(), finite.max().item()
    return f"{low:{style}}" if low == high else f"{low:{style}} to {high:{style}}"
