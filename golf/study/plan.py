"""Count the conformations of a study from its configuration and input files alone.

The workflow's graph is static, so the number of batches has to be known before anything is computed. The counts here
are upper bounds; batches may stay empty. Nothing here needs RDKit or torch: Snakemake calls it while it reads the
Snakefile.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.hdf5 import read_columns
from golf.core.level import LEVEL_ATTRS, LevelOfTheory
from golf.io.formats import (
    GOLF,
    MOLECULES,
    SDF,
    SMILES,
    count_conformations,
    count_records,
    count_unlabelled,
    format_of,
)
from golf.potentials.catalog import card_of, is_name, nearest
from golf.potentials.store import is_here
from golf.study.arms import check_budgets
from golf.study.config import check_results

RELATIVE = "paths in a configuration are relative to the folder where the command is typed"


@dataclass(frozen=True)
class Source:
    """Source of a study's conformations: section dataset of the configuration.

    Attributes:
        train: molecules, or conformations with or without labels.
        test: the test set; None: it is split off from `train`.
        format: of both files; auto: of each by its suffix and content (`golf.io.formats`).
        subsets: of SPICE files; none: all.
        relabel: levels of theory, such as "wb97m-d3bj/def2-tzvppd", whose labels are dropped and computed again.
        conformers: per training molecule; 0 (SDF only): the geometries of the file.
        test_molecules: names of molecules that are kept for the test set alone.
        test_conformers: per molecule in the test set.
        prune_rmsd: RMSD of all atoms in angstrom below which conformers are the same.
        embed_timeout: seconds of processor time for the embedding of a molecule (`golf.chem.conformers`).
        max_left_out: share of the molecules, or conformations, that may be unusable before the study stops.
        download: public files, each with url, to and a checksum (`golf.io.download`).
    """

    train: str
    test: str | None
    format: str
    subsets: Sequence[str]
    relabel: Sequence[str]
    smiles_column: str
    name_column: str
    conformers: int
    test_molecules: Sequence[str]
    test_conformers: int
    prune_rmsd: float
    embed_timeout: float
    max_left_out: float
    download: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Size:
    """Upper bounds of the conformations that a study computes and reads."""

    initial_labels: int = 0
    test_conformations: int = 0
    references: int = 0
    conformations: int = 0
    training_conformations: int = 0
    structures: int = 0


NOT_COUNTED = Size()
"""Size of a study whose files have not been downloaded yet."""


def size(source: Source, level: LevelOfTheory) -> Size:
    """Count the conformations of a study; `NOT_COUNTED` before its downloads.

    Raises:
        UserError: a file is missing, not readable or of an unknown suffix.
    """
    if to_download(source):
        return NOT_COUNTED
    kind = source_format(source, "train")
    if kind in MOLECULES:
        records = count_records(source.train)
        initial = n_train = records * (source.conformers or 1)
        n_test = records * (source.test_conformers or 1)
    else:
        counts = count_conformations(source.train, kind, source.subsets)
        initial = count_unlabelled(source.train, kind, source.subsets, level)
        n_train = sum(counts.values())
        n_test = sum(
            # the frames without a name may be of as many molecules
            n if name in ("", *source.test_molecules) else min(n - 1, source.test_conformers)
            for name, n in counts.items()
        )
    if source.test is None:
        return Size(initial, n_test, n_test, n_train, n_train)
    kind = source_format(source, "test")
    if kind in MOLECULES:
        n_test = count_records(source.test) * max(1, source.test_conformers if source.conformers else 1)
    else:
        n_test = sum(count_conformations(source.test, kind, source.subsets).values())
    references = _count_without_minimum(source.test, level) if kind == GOLF else n_test
    return Size(initial, n_test, references, n_train + n_test, n_train)


def count_structures(config: Mapping[str, Any]) -> int:
    """Return an upper bound of the own structures that are optimized (section optimize); 0 without any.

    Raises:
        UserError: the file is missing, not readable, or has no geometries.
    """
    section = config["optimize"]
    path, top = section["input"], section["top"]
    if path is None:
        return 0
    try:
        kind = format_of(path)
        if kind == SMILES:
            raise UserError(f"{path}: has no geometries; relax the molecules first (golf relax)")
        if kind == SDF:
            return count_records(path)
        counts = count_conformations(path, kind)
    except UserError as error:
        remedy = "" if Path(path).exists() else f"; {RELATIVE}"
        raise UserError(f"optimize.input: {error}{remedy}") from None
    return sum(n if top is None or not name else min(n, top) for name, n in counts.items())


def source_format(source: Source, key: str) -> str:
    """Return the format of the file of a key, train or test.

    Raises:
        UserError: as `golf.io.formats.format_of`; names the key.
    """
    path = getattr(source, key)
    try:
        return format_of(path, source.format)
    except UserError as error:
        remedy = "" if Path(path).exists() else f"; {RELATIVE}"
        raise UserError(f"dataset.{key}: {error}{remedy}") from None


def _count_without_minimum(path: str, level: LevelOfTheory) -> int:
    """Count the conformations of a GOLF test set without a DFT minimum of the level."""
    names = ("conformation/status", "conformation/energy_first", "atoms/initial_position", "atoms/offset")
    columns, attrs = read_columns(path, *names)
    n = len(columns["atoms/offset"]) - 1
    if len(columns) < len(names) or not level.matches(attrs):
        return n
    return int((columns["conformation/status"] == Status.NOT_COMPUTED).sum())


def to_download(source: Source) -> dict[str, Mapping[str, str]]:
    """Return the public files of a study that are still to be downloaded, by path."""
    paths = {os.path.normpath(one["to"]): one for one in source.download}
    return {path: one for path, one in paths.items() if not Path(path).exists()}


def n_batches(n_items: int, batch_size: int) -> int:
    """Return the number of batches for n_items."""
    return math.ceil(n_items / batch_size)


def level_of(config: Mapping[str, Any]) -> LevelOfTheory:
    """Return the level of theory of a configuration."""
    return LevelOfTheory(**{name: config["oracle"][name] for name in LEVEL_ATTRS})


def check_models(config: Mapping[str, Any]) -> None:
    """Raise a UserError if a model file that the study uses is missing."""
    files = {"nnp.initial": config["nnp"]["initial"]}
    for name, path in config["evaluation"]["models"].items():
        if is_name(path):
            _check_potential(f"key evaluation.models.{name}", path)
        else:
            files[f"evaluation.models.{name}"] = path
    for key, path in files.items():
        if path is not None and not Path(path).is_file():
            near = nearest(path) if key.startswith("evaluation.models") else []
            names = f" (or did you mean the potential {' or '.join(near)}?)" if near else ""
            raise UserError(f"key {key}: {path}: no such file; give a model file of golf, {RELATIVE}{names}")
    for name, path in config["evaluation"]["geometries"].items():
        if not Path(path).is_file():
            raise UserError(
                f"key evaluation.geometries.{name}: {path}: no such file; give a file of geometries, {RELATIVE}"
            )


def _check_potential(key: str, name: str) -> None:
    """Raise a UserError if a potential by name, or a file or package that it needs, is not on this machine."""
    try:
        card = card_of(name)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    if not is_here(card):
        how = f"golf models download {name}" if card.files else f"pip install {card.package}"
        raise UserError(f"{key}: potential {name} is not on this machine; run: {how}")


def sources(config: Mapping[str, Any]) -> list[str]:
    """Return the files of the data set."""
    return [path for path in (config["dataset"]["train"], config["dataset"]["test"]) if path]


def checked(config: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, str]], Size]:
    """Check that a study can be begun or continued, and count what it has.

    Returns:
        The files that are to be downloaded first, and the size of the study (`NOT_COUNTED` until they are there).

    Raises:
        UserError: a file is missing or not readable, the folder of the results holds those of another configuration, or
            a budget is larger than the data.
    """
    check_results(config)
    source = Source(**config["dataset"])
    downloads = to_download(source)
    found = replace(size(source, level_of(config)), structures=count_structures(config))
    check_models(config)
    if not downloads:
        check_budgets(config, found.training_conformations)
    return downloads, found
