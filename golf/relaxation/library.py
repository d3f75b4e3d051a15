"""A library of molecules relaxed piece by piece: memory is bounded, and a run that was cut off goes on.

Input records become pieces of a few thousand conformations. Each piece is relaxed and written to a file of its own in
`OUT.parts`; when all are there they are put together in the order of the input, and the folder is removed. A record
that cannot be used is listed in `OUT.left_out.csv`, and the others go on.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf.chem.integrity import CHANGED, with_changes
from golf.chem.usable import PROPERTIES, LeftOut
from golf.core.conformations import ConformationSet, StopReason
from golf.core.errors import UserError
from golf.core.files import suffix_of, written_whole
from golf.core.hdf5 import concatenate_files, read, read_columns, write
from golf.core.locks import LockedFile
from golf.core.progress import progress_bar
from golf.io.pieces import Piece
from golf.io.records import place_of, write_left_out
from golf.io.structures import write_structures
from golf.relaxation.ensembles import OUTCOMES, Ensemble, ensembles, unfit_for_ensembles

logger = logging.getLogger(__name__)

EXPECTED = "conformations_expected"
"""Root attribute of a part: conformations of its piece if none were left out."""

Relax = Callable[[ConformationSet, Callable[[], None]], ConformationSet]


@dataclass(frozen=True)
class Outcome:
    """What became of a library.

    Attributes:
        n_expected: conformations that there would be if nothing had been left out.
        n_relaxed: conformations in the output.
        ensembles: conformers by what became of them (`golf.relaxation.ensembles.OUTCOMES`); empty where all were to be
        kept. changed: of each molecule of which conformations are not that molecule any more, how of the first.
        n_left_saddle_point: conformations that had ended in one, for their start is symmetric, and went on.
        unlike: of each reason to call molecules unlike the training data, these molecules.
    """

    n_expected: int = 0
    n_relaxed: int = 0
    n_not_converged: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    ensembles: Counter[str] = field(default_factory=Counter)
    changed: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, dict[str, None]] = field(default_factory=dict)
    n_left_saddle_point: int = 0


def relax_library(
    pieces: Iterable[Piece],
    output: str | Path,
    relax: Relax,
    *,
    run: Mapping[str, Any],
    attrs: Mapping[str, Any],
    ensemble: Ensemble | None = None,
    expected: int | None = None,
    restart: bool = False,
) -> Outcome:
    """Relax the pieces of a library and write one file of them all.

    Args:
        pieces: of the input; the same ones, in the same order, when the run is repeated. Where there is an ensemble,
            all conformers of a molecule are in one of them.
        output: .h5, .sdf, .xyz or .extxyz.
        relax: the conformations relaxed (`golf.relaxation.relax.relax`), in the same order; it calls the function that
        it
            gets with each one that is finished.
        run: what determines the result (JSON). Parts of a run of other inputs or settings are refused.
        attrs: root attributes of an .h5.
        ensemble: which conformers of a molecule are kept, sorted by energy; None: all, in the order of the input.
        expected: conformations in all pieces, for the time left; None: not known.
        restart: remove the parts of another run instead of refusing them.

    Raises:
        UserError: no record can be used, the folder of parts is another run's, or another process writes this output.
    """
    output = Path(output)
    with _alone(output):
        folder = _parts_folder(output, run, restart)
        try:
            parts, outcome = _relaxed_parts(pieces, folder, relax, ensemble, expected)
        finally:
            if not any(folder.glob("*.h5")):  # nothing to go on from
                shutil.rmtree(folder)
        if outcome.n_relaxed:
            _put_together(parts, output, {**attrs, EXPECTED: outcome.n_expected, **_counts(outcome.ensembles)})
        report = output.with_name(f"{output.name}.left_out.csv")
        report.unlink(missing_ok=True)
        if len(outcome.left_out) > (0 if outcome.n_relaxed else 1):  # the message has the first one
            write_left_out(report, outcome.left_out)
        shutil.rmtree(folder, ignore_errors=True)
    if not outcome.n_relaxed:
        left_out = outcome.left_out
        first = f" (first: {place_of(left_out[0], run['input'])}: {left_out[0].reason})" if left_out else ""
        if outcome.ensembles:
            raise UserError(f"{run['input']}: no conformer makes an ensemble{first}")
        raise UserError(f"{run['input']}: holds no molecules that can be relaxed{first}")
    return outcome


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other processes from the output and its parts.

    Raises:
        UserError: another one is at work on it.
    """
    with LockedFile(output.with_name(f".{output.name}.lock"), wait=False) as lock:
        try:
            yield
        finally:
            lock.path.unlink(missing_ok=True)


def _relaxed_parts(
    pieces: Iterable[Piece], folder: Path, relax: Relax, ensemble: Ensemble | None, expected: int | None
) -> tuple[list[Path], Outcome]:
    """Files of all pieces, those of an earlier run among them, and what they hold."""
    outcome, parts = Outcome(), []
    before = sum(int(read_columns(part)[1][EXPECTED]) for part in folder.glob("*.h5"))
    with progress_bar(expected, "conformations", before) as advance:
        for i, piece in enumerate(pieces):
            part, report = folder / f"{i:06d}.h5", folder / f"{i:06d}.csv"
            if part.is_file():
                logger.info("%s: done before", part)
            else:
                logger.info("piece %d: %d conformations", i + 1, len(piece.conformations))
                _relax_piece(piece, part, report, relax, ensemble, advance)
                advance(piece.n_expected - len(piece.conformations))
            outcome = _added(outcome, part, report)
            logger.info("%d conformations relaxed, %d records left out", outcome.n_relaxed, len(outcome.left_out))
            parts.append(part)
    outcome.left_out.sort(key=lambda out: out.line)
    return parts, outcome


def _relax_piece(
    piece: Piece, part: Path, report: Path, relax: Relax, ensemble: Ensemble | None, advance: Callable[[], None]
) -> None:
    """Write the part of a piece, after the report of what was left out."""
    conformations, left_out = piece.conformations, piece.left_out
    counts: Counter[str] = Counter()
    if len(conformations):
        relaxed = with_changes(relax(conformations, advance))
        if PROPERTIES in conformations.values:
            relaxed = relaxed.with_columns(values={PROPERTIES: conformations.values[PROPERTIES]})
        if ensemble is not None:
            left_out = sorted([*left_out, *_in_no_ensemble(relaxed, piece.lines)], key=lambda out: out.line)
            relaxed, counts = ensembles(relaxed, ensemble)
        conformations = relaxed
    write_left_out(report, left_out)
    write(part, conformations, **{EXPECTED: piece.n_expected}, **_counts(counts))


def _in_no_ensemble(relaxed: ConformationSet, lines: list[int]) -> list[LeftOut]:
    """Conformers that no ensemble takes, and why."""
    steps, changes = relaxed.values["n_steps"], relaxed.values[CHANGED]
    left_out = []
    for i, why in enumerate(unfit_for_ensembles(relaxed)):
        if why:
            text = {
                "not_finite": "its energy or forces stopped being finite numbers",
                "not_converged": f"it did not converge in {steps[i]} steps",
                "changed": f"it is not the molecule any more: {changes[i]}",
            }[why]
            left_out.append(LeftOut(lines[i], relaxed.id[i], relaxed.mapped_smiles[i], text))
    return left_out


def _counts(outcomes: Counter[str]) -> dict[str, int]:
    """What became of conformers as root attributes; none where all were to be kept."""
    return {f"conformers_{name}": outcomes[name] for name in OUTCOMES if outcomes}


def fingerprint(*paths: str | Path) -> str:
    """Hash of the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _parts_folder(output: Path, run: Mapping[str, Any], restart: bool) -> Path:
    """The folder of a run's parts, new or of the same run cut off."""
    folder = output.with_name(f"{output.name}.parts")
    record, text = folder / "run.json", json.dumps(dict(run), sort_keys=True, indent=2) + "\n"
    if restart and record.is_file() and record.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    if not record.is_file():
        record.write_text(text, encoding="utf-8")
    elif record.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder}: of a run with other input, model or options; type that one again, or remove it")
    return folder


def _added(outcome: Outcome, part: Path, report: Path) -> Outcome:
    relaxed = read(part)
    reasons = relaxed.values.get("stop_reason", np.zeros(0))
    with open(report, newline="", encoding="utf-8") as stream:
        rows = [LeftOut(int(row["line"]), row["name"], row["input"], row["reason"]) for row in csv.DictReader(stream)]
    counts = Counter({name: int(relaxed.attrs.get(f"conformers_{name}", 0)) for name in OUTCOMES})
    for how, name in zip(relaxed.values.get(CHANGED, ()), relaxed.molecule, strict=True):
        if how:
            outcome.changed.setdefault(name, how)
    for reason, name in zip(relaxed.values.get("unlike_training", ()), relaxed.molecule, strict=False):
        if reason:
            outcome.unlike.setdefault(reason, {})[name] = None
    return Outcome(
        outcome.n_expected + int(relaxed.attrs[EXPECTED]),
        outcome.n_relaxed + len(reasons),
        outcome.n_not_converged + int((reasons != StopReason.CONVERGED).sum()),
        [*outcome.left_out, *rows],
        outcome.ensembles + counts,
        outcome.changed,
        outcome.unlike,
        outcome.n_left_saddle_point + int(np.sum(relaxed.values.get("left_saddle_point", 0))),
    )


def _put_together(parts: list[Path], output: Path, attrs: Mapping[str, Any]) -> None:
    """Write the parts to one file, with `relative_energy`: a molecule may be in several of them."""
    best: dict[str, tuple[bool, float]] = {}  # by molecule, whole ones before those that are not it any more
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
    if suffix_of(output) == ".h5":
        concatenate_files(parts, output, values={"relative_energy": np.concatenate(relative)}, **attrs)
        return
    with written_whole(output) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for part, own in zip(parts, relative, strict=True):
            write_structures(stream, suffix_of(output), read(part).with_columns(values={"relative_energy": own}))


def _energies(part: Path) -> tuple[NDArray, ...]:
    """Molecule, energy (hartree), stop reason and change of each conformation of a part."""
    names = [f"conformation/{name}" for name in ("molecule", "nnp_energy_last", "stop_reason", CHANGED)]
    columns, _ = read_columns(part, *names)  # an empty part has molecules only, none
    return tuple(columns.get(name, np.zeros(0)) for name in names)
