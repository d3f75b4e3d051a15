"""Relax a library of molecules in pieces, with bounded memory and resumable after an interruption.

Input records are grouped into pieces of several hundred conformations. Each piece is relaxed and written to its own
file in `OUT.parts`; when all pieces are done, these parts are joined in the order of the input, and the folder is
removed. Records that cannot be used are listed in `OUT.left_out.csv` and do not stop the others.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.integrity import CHANGED, with_changes
from golf.chem.thermochemistry import boltzmann_weights
from golf.chem.usable import PROPERTIES, LeftOut
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.files import suffix_of, written_whole
from golf.core.hdf5 import concatenate_files, read, read_columns, write
from golf.core.locks import LockedFile
from golf.core.progress import progress_bar
from golf.io.pieces import Piece
from golf.io.records import place_of, write_left_out
from golf.io.write import write_structures
from golf.potentials.card import Card
from golf.relaxation.ensembles import OUTCOMES, Ensemble, ensembles, unfit_for_ensembles
from golf.relaxation.vibrations import VibrationCounts

logger = logging.getLogger(__name__)

EXPECTED = "conformations_expected"
"""Root attribute of a part: number of conformations of its piece if none had been left out."""

Finish = Callable[[ConformationSet, list[int]], tuple[ConformationSet, list[int]]]
"""Adds conformations or columns to the relaxed conformations of a piece; the second of each pair are their lines."""

Relax = Callable[[ConformationSet, Callable[[], None]], ConformationSet]

Vibrate = Callable[[ConformationSet], ConformationSet]
"""Adds the columns of vibrations to ends of relaxations; see `golf.relaxation.vibrations.with_vibrations`."""


@dataclass(frozen=True)
class LibraryResult:
    """The result of relaxing a library.

    Attributes:
        n_expected: number of conformations if none had been left out.
        n_relaxed: conformations in the output.
        n_not_converged: conformations in the output whose relaxation did not converge.
        left_out: records that could not be used.
        ensembles: number of conformers by outcome (`golf.relaxation.ensembles.OUTCOMES`); empty without an ensemble.
        changed: by molecule, how its first conformation that is no longer this molecule differs from it.
        unlike: by reason to call molecules unlike the training data, the names of these molecules.
        n_left_saddle_point: conformations that first ended in a saddle point, because of a symmetric start.
        vibrations: numbers of ends with imaginary modes.
    """

    n_expected: int = 0
    n_relaxed: int = 0
    n_not_converged: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    ensembles: Counter[str] = field(default_factory=Counter)
    changed: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, dict[str, None]] = field(default_factory=dict)
    n_left_saddle_point: int = 0
    vibrations: VibrationCounts = field(default_factory=VibrationCounts)


def relax_library(
    pieces: Iterable[Piece],
    output: str | Path,
    relax: Relax,
    *,
    run: Mapping[str, Any],
    attrs: Mapping[str, Any],
    finish: Finish | None = None,
    ensemble: Ensemble | None = None,
    vibrate: Vibrate | None = None,
    expected: int | None = None,
    restart: bool = False,
) -> LibraryResult:
    """Relax the pieces of a library and write them all to one file.

    Args:
        pieces: pieces of the input; the same ones in the same order whenever the run is repeated. With an ensemble, all
            conformers of a molecule are in one piece.
        output: .h5, .sdf, .xyz or .extxyz.
        relax: relaxes conformations and returns them in the same order (see `golf.relaxation.relax.relax`); it calls
            its second argument after each finished conformation.
        run: everything that determines the result (JSON). Parts of a run with another `run` are refused.
        attrs: root attributes of an .h5 output.
        finish: called with each relaxed piece, before conformers are selected, see `golf.relaxation.search`.
        ensemble: which conformers of a molecule are kept, sorted by energy; None: all, in the order of the input.
        vibrate: called with the conformations of each piece that are kept; None: no vibrations. If `attrs` has a
            `temperature` (kelvin), Boltzmann weights by their free energies are added.
        expected: number of conformations in all pieces, for the progress bar; None: unknown.
        restart: remove the parts of another run instead of refusing them.

    Raises:
        UserError: no record can be used, the parts belong to another run, or another process writes this output.
    """
    output = Path(output)
    with _exclusive(output):
        folder = _parts_folder(output, run, restart)
        try:
            parts, result = _relaxed_parts(pieces, folder, relax, finish, ensemble, vibrate, expected)
        finally:
            if not any(folder.glob("*.h5")):  # nothing to resume from
                shutil.rmtree(folder)
        if result.n_relaxed:
            _join_parts(parts, output, {**attrs, EXPECTED: result.n_expected, **_counts(result.ensembles)})
        report = output.with_name(f"{output.name}.left_out.csv")
        report.unlink(missing_ok=True)
        if len(result.left_out) > (0 if result.n_relaxed else 1):  # a single record is named in the message below
            write_left_out(report, result.left_out)
        shutil.rmtree(folder, ignore_errors=True)
    if not result.n_relaxed:
        left_out = result.left_out
        first = f" (first: {place_of(left_out[0], run['input'])}: {left_out[0].reason})" if left_out else ""
        if result.ensembles:
            raise UserError(f"{run['input']}: no conformer is fit for an ensemble{first}")
        raise UserError(f"{run['input']}: has no molecules that can be relaxed{first}")
    return result


def without_refused(piece: Piece, card: Card) -> Piece:
    """Move the conformations of molecules that the potential cannot compute to the records left out."""
    conformations = piece.conformations
    reasons = [
        card.refusal(*own) for own in zip(conformations.mapped_smiles, conformations.charge.tolist(), strict=True)
    ]
    if not any(reasons):
        return piece
    kept = [i for i, reason in enumerate(reasons) if not reason]
    refused = [
        LeftOut(piece.lines[i], conformations.id[i], conformations.mapped_smiles[i], reason)
        for i, reason in enumerate(reasons)
        if reason
    ]
    left_out = sorted([*piece.left_out, *refused], key=lambda out: out.line)
    return replace(
        piece, conformations=conformations.subset(kept), lines=[piece.lines[i] for i in kept], left_out=left_out
    )


@contextmanager
def _exclusive(output: Path) -> Iterator[None]:
    """Lock the output and its parts against other processes.

    Raises:
        UserError: another process writes this output.
    """
    with LockedFile(output.with_name(f".{output.name}.lock"), wait=False) as lock:
        try:
            yield
        finally:
            lock.path.unlink(missing_ok=True)


def _relaxed_parts(
    pieces: Iterable[Piece],
    folder: Path,
    relax: Relax,
    finish: Finish | None,
    ensemble: Ensemble | None,
    vibrate: Vibrate | None,
    expected: int | None,
) -> tuple[list[Path], LibraryResult]:
    """Relax the pieces that an earlier run has not; return the parts of all pieces and what they contain."""
    result, parts = LibraryResult(), []
    before = sum(int(read_columns(part)[1][EXPECTED]) for part in folder.glob("*.h5"))
    with progress_bar(expected, "conformations", before) as advance:
        for i, piece in enumerate(pieces):
            part, report = folder / f"{i:06d}.h5", folder / f"{i:06d}.csv"
            if part.is_file():
                logger.info("%s: done by an earlier run", part)
            else:
                logger.info("piece %d: %d conformations", i + 1, len(piece.conformations))
                _relax_piece(piece, part, report, relax, finish, ensemble, vibrate, advance)
                advance(piece.n_expected - len(piece.conformations))
            result = _added(result, part, report)
            logger.info("%d conformations relaxed, %d records left out", result.n_relaxed, len(result.left_out))
            parts.append(part)
    result.left_out.sort(key=lambda out: out.line)
    return parts, result


def _relax_piece(
    piece: Piece,
    part: Path,
    report: Path,
    relax: Relax,
    finish: Finish | None,
    ensemble: Ensemble | None,
    vibrate: Vibrate | None,
    advance: Callable[[], None],
) -> None:
    """Relax a piece and write its part, after the report of its left-out records."""
    conformations, left_out, n_expected = piece.conformations, piece.left_out, piece.n_expected
    counts: Counter[str] = Counter()
    if len(conformations):
        relaxed = with_changes(relax(conformations, advance))
        if PROPERTIES in conformations.values:
            relaxed = relaxed.with_columns(values={PROPERTIES: conformations.values[PROPERTIES]})
        lines = piece.lines
        if finish is not None:
            relaxed, lines = finish(relaxed, lines)
            n_expected += len(relaxed) - len(conformations)
        line_of = dict(zip(relaxed.id, lines, strict=True))
        if ensemble is not None:
            left_out = sorted([*left_out, *_unfit(relaxed, lines)], key=lambda out: out.line)
            relaxed, counts = ensembles(relaxed, ensemble)
        if vibrate is not None:
            relaxed = with_changes(vibrate(relaxed))
            if ensemble is not None and relaxed.values["n_kicks"].any():  # ends have moved: select again
                lines = [line_of[name] for name in relaxed.id]
                left_out = sorted([*left_out, *_unfit(relaxed, lines)], key=lambda out: out.line)
                relaxed, again = ensembles(relaxed, ensemble)
                counts = Counter({**counts, "kept": 0}) + again
        conformations = relaxed
    write_left_out(report, left_out)
    write(part, conformations, **{EXPECTED: n_expected}, **_counts(counts))


def _unfit(relaxed: ConformationSet, lines: list[int]) -> list[LeftOut]:
    """Return the conformers that are unfit for ensembles, with the reason."""
    steps, changes = relaxed.values["n_steps"], relaxed.values[CHANGED]
    left_out = []
    for i, why in enumerate(unfit_for_ensembles(relaxed)):
        if why:
            text = {
                "not_finite": "its energy or forces stopped being finite numbers",
                "not_converged": f"it did not converge in {steps[i]} steps",
                "changed": f"it is no longer the molecule: {changes[i]}",
            }[why]
            left_out.append(LeftOut(lines[i], relaxed.id[i], relaxed.mapped_smiles[i], text))
    return left_out


def _counts(outcomes: Counter[str]) -> dict[str, int]:
    """Return the numbers of conformers by outcome as root attributes; none without an ensemble."""
    return {f"conformers_{name}": outcomes[name] for name in OUTCOMES if outcomes}


def fingerprint(*paths: str | Path) -> str:
    """Return a hash of the contents of files, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _parts_folder(output: Path, run: Mapping[str, Any], restart: bool) -> Path:
    """Return the folder for the parts of a run, created if it does not exist.

    Raises:
        UserError: the folder holds parts of another run.
    """
    folder = output.with_name(f"{output.name}.parts")
    record, text = folder / "run.json", json.dumps(dict(run), sort_keys=True, indent=2) + "\n"
    if restart and record.is_file() and record.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    if not record.is_file():
        record.write_text(text, encoding="utf-8")
    elif record.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{folder}: parts of a run with other input, model or options; repeat that command, or remove the folder"
        )
    return folder


def _added(result: LibraryResult, part: Path, report: Path) -> LibraryResult:
    """Return the result with a part added; the dictionaries of `result` are changed in place."""
    relaxed = read(part)
    reasons = relaxed.values.get("stop_reason", np.zeros(0))
    with open(report, newline="", encoding="utf-8") as stream:
        rows = [LeftOut(int(row["line"]), row["name"], row["input"], row["reason"]) for row in csv.DictReader(stream)]
    counts = Counter({name: int(relaxed.attrs.get(f"conformers_{name}", 0)) for name in OUTCOMES})
    for how, name in zip(relaxed.values.get(CHANGED, ()), relaxed.molecule, strict=True):
        if how:
            result.changed.setdefault(name, how)
    for reason, name in zip(relaxed.values.get("unlike_training", ()), relaxed.molecule, strict=False):
        if reason:
            result.unlike.setdefault(reason, {})[name] = None
    return LibraryResult(
        result.n_expected + int(relaxed.attrs[EXPECTED]),
        result.n_relaxed + len(reasons),
        result.n_not_converged + int((reasons != StopReason.CONVERGED).sum()),
        [*result.left_out, *rows],
        result.ensembles + counts,
        result.changed,
        result.unlike,
        result.n_left_saddle_point + int(np.sum(relaxed.values.get("left_saddle_point", 0))),
        result.vibrations + VibrationCounts.of(relaxed),
    )


def _join_parts(parts: list[Path], output: Path, attrs: Mapping[str, Any]) -> None:
    """Join the parts to one file and add what compares conformers of a molecule, which may be in several parts."""
    # (changed, energy in hartree) by molecule: conformations that are still the molecule come first
    best: dict[str, tuple[bool, float]] = {}
    energies = []
    for part in parts:
        of_part = _energies(part)
        energies.append(of_part[:2])
        for name, energy, reason, changed in zip(*of_part, strict=True):
            if reason != StopReason.NOT_FINITE:
                best[name] = min(best.get(name, (True, np.inf)), (bool(changed), float(energy)))
    relative = [
        np.array([e - best.get(name, (True, np.nan))[1] for name, e in zip(*of_part, strict=True)], np.float64)
        for of_part in energies
    ]
    columns = {"relative_energy": relative}
    if "temperature" in attrs:
        columns["boltzmann_weight"] = _weights(parts, float(attrs["temperature"]))
    if suffix_of(output) == ".h5":
        whole = {name: np.concatenate(column) for name, column in columns.items()}
        concatenate_files(parts, output, values=whole, **attrs)
        return
    with written_whole(output) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for k, part in enumerate(parts):
            own = {name: column[k] for name, column in columns.items()}
            write_structures(stream, suffix_of(output), read(part).with_columns(values=own))


def _weights(parts: list[Path], temperature: float) -> list[NDArray]:
    """Return the Boltzmann weights of the conformations of each part, by their free energies."""
    columns = [read_columns(part, "conformation/molecule", "conformation/free_energy")[0] for part in parts]
    free = [of.get("conformation/free_energy", np.zeros(0)) for of in columns]  # an empty part has no such column
    names = [name for of in columns for name in of["conformation/molecule"]]
    weights = boltzmann_weights(names, np.concatenate(free), temperature)
    return np.split(weights, np.cumsum([len(one) for one in free])[:-1])


def _energies(part: Path) -> tuple[NDArray, ...]:
    """Return molecule, energy (hartree), stop reason and change of each conformation of a part."""
    names = [f"conformation/{name}" for name in ("molecule", "nnp_energy_last", "stop_reason", CHANGED)]
    columns, _ = read_columns(part, *names)  # an empty part lacks the other columns
    return tuple(columns.get(name, np.zeros(0)) for name in names)
