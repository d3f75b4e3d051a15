"""Search the conformers of molecules in batches: until no new minimum comes, or until none is lower.

The first batch of an ensemble is what `golf.io.pieces` embeds. Each further batch has as many conformers, with another
seed, and only molecules for which the last batch brought something new get another one. What a batch brings depends on
the molecule and the seed alone, so that an interrupted run that is repeated searches the same conformers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from golf.chem.conformers import AUTO, Number, conformers_for, further_conformers
from golf.chem.integrity import CHANGED, with_changes
from golf.chem.molecules import mapped_smiles, molecule
from golf.chem.usable import PROPERTIES
from golf.core.conformations import ConformationRecord, ConformationSet, concatenate
from golf.core.progress import progress_bar
from golf.core.units import hartree
from golf.core.wording import and_more
from golf.io.pieces import Embedding
from golf.relaxation.ensembles import SAME_ENERGY, Ensemble, unfit_for_ensembles, with_new_minima

logger = logging.getLogger(__name__)

MOST_BATCHES = 5
"""Limit of batches of one molecule, the first included."""

AT_ONCE = 512
"""Conformers that are relaxed together, and so are in memory, in a search for the lowest one."""

N_CONFORMERS = "n_conformers"
"""Column: number of ETKDG conformers that were asked for, in all batches of the molecule."""

COMPLETE = "search_complete"
"""Column: whether the last batch of the molecule brought no new minimum."""

STRAIN = "strain_energy"
"""Column: energy above that of the lowest conformer that a search found, hartree; NaN if it found none."""

Relax = Callable[[ConformationSet], ConformationSet]


def searched(
    relaxed: ConformationSet, lines: Sequence[int], *, relax: Relax, which: Ensemble | None, embedding: Embedding
) -> tuple[ConformationSet, list[int]]:
    """Add batches of conformers of each molecule until one brings no new minimum within the window.

    Without an ensemble that drops equal conformers, nothing is added.

    Args:
        relaxed: the first batch, relaxed, with the column `golf.chem.integrity.CHANGED`.
        lines: line or number of the record of each conformation.
        relax: relaxes conformations.
        which: what counts as a new minimum.
        embedding: settings of the conformers.

    Returns:
        The conformations of all batches and their lines, with the columns `N_CONFORMERS` and `COMPLETE`.
    """
    number: Number = embedding.conformers or AUTO
    firsts = _firsts(relaxed)
    each = {name: conformers_for(molecule(relaxed.mapped_smiles[i]), number) for name, i in firsts.items()}
    asked = dict(each)
    searching = set(firsts) if which is not None and which.prune > 0.0 else set()
    all_lines, complete = list(lines), dict.fromkeys(firsts, False)
    for batch in range(1, MOST_BATCHES):
        if not searching or which is None:
            break
        rows = [i for name, i in firsts.items() if name in searching]
        counts = [_count(relaxed, relaxed.molecule[i]) for i in rows]
        first = relaxed.subset(rows)
        starts, failed = further_conformers(
            _at_start(first),
            batch=batch,
            n_conformers=number,
            counts=counts,
            seed=embedding.seed,
            prune_rmsd=embedding.prune_rmsd,
            threads=embedding.threads,
            timeout=embedding.timeout,
        )
        logger.info("batch %d: %d further conformers of %d molecules", batch + 1, len(starts), len(rows))
        n_known = len(relaxed)
        if len(starts):
            further = with_changes(relax(starts))
            of_first = [firsts[name] for name in further.molecule]
            if PROPERTIES in relaxed.values:
                further = further.with_columns(values={PROPERTIES: relaxed.values[PROPERTIES][of_first]})
            relaxed = concatenate([relaxed, further])
            all_lines += [lines[i] for i in of_first]
        for name in searching:
            asked[name] += each[name]
        going_on = with_new_minima(relaxed, n_known, which)
        complete |= {name: name not in failed for name in searching - going_on}
        searching = searching & going_on
    if searching:
        name = next(name for name in firsts if name in searching)
        logger.warning(
            "%s%s: the last of %d batches of conformers still brought new minima",
            name,
            and_more(len(searching)),
            MOST_BATCHES,
        )
    values: dict[str, list] = {N_CONFORMERS: [asked[name] for name in relaxed.molecule]}
    if which is not None and which.prune > 0.0:
        values[COMPLETE] = [complete[name] for name in relaxed.molecule]
    return relaxed.with_columns(values=values), all_lines


def strained(relaxed: ConformationSet, *, relax: Relax, embedding: Embedding) -> ConformationSet:
    """Add the column `STRAIN`: energies above the lowest conformer of each molecule, and `N_CONFORMERS`.

    Conformers are those of the stereoisomer that the input geometry has. With a number of `AUTO`, batches follow until
    one brings no conformer that is lower by `SAME_ENERGY`. The lowest may be one of the relaxed input geometries.

    Args:
        relaxed: relaxed input geometries, with `initial_position` and `golf.chem.integrity.CHANGED`.
        relax: relaxes conformers, without the constraints that the input geometries may have had.
        embedding: settings of the conformers.
    """
    number: Number = embedding.conformers or AUTO
    firsts = _firsts(relaxed)
    fit = np.array([not why for why in unfit_for_ensembles(relaxed)], dtype=bool)
    energies = relaxed.values["nnp_energy_last"]
    lowest = dict.fromkeys(firsts, np.inf)
    asked = dict.fromkeys(firsts, 0)
    problems: dict[str, str] = {}
    with progress_bar(len(firsts), "molecules searched for their lowest conformers") as advance:
        for group in _groups(relaxed, firsts, number):
            _search_lowest(relaxed.subset(group), number, relax, embedding, lowest, asked, problems)
            advance(len(group))
    if problems:
        name, why = next(iter(problems.items()))
        logger.warning("%s%s: no strain energy: %s", name, and_more(len(problems)), why)
    for i in np.flatnonzero(fit).tolist():
        name = relaxed.molecule[i]
        if np.isfinite(lowest[name]):
            lowest[name] = min(lowest[name], float(energies[i]))
    strain = [
        energies[i] - lowest[name] if np.isfinite(lowest[name]) and not relaxed.values[CHANGED][i] else np.nan
        for i, name in enumerate(relaxed.molecule)
    ]
    return relaxed.with_columns(values={STRAIN: strain, N_CONFORMERS: [asked[name] for name in relaxed.molecule]})


def _search_lowest(
    first: ConformationSet,
    number: Number,
    relax: Relax,
    embedding: Embedding,
    lowest: dict[str, float],
    asked: dict[str, int],
    problems: dict[str, str],
) -> None:
    """Search the lowest conformers (energies in hartree) of a group of molecules, one geometry of each."""
    geometries = _with_stereo(_at_start(first))
    searching = [i for i, smiles in enumerate(geometries.mapped_smiles) if "." not in smiles]
    problems |= {geometries.molecule[i]: "it has several parts" for i in range(len(first)) if i not in searching}
    for batch in range(MOST_BATCHES if number == AUTO else 1):
        if not searching:
            break
        ones = geometries.subset(searching)
        for name, smiles in zip(ones.molecule, ones.mapped_smiles, strict=True):
            asked[name] += conformers_for(molecule(smiles), number)
        starts, failed = further_conformers(
            ones,
            batch=batch,
            n_conformers=number,
            counts=[0] * len(ones),
            seed=embedding.seed,
            prune_rmsd=embedding.prune_rmsd,
            threads=embedding.threads,
            timeout=embedding.timeout,
        )
        before = dict(lowest)
        if len(starts):
            ends = with_changes(relax(starts))
            for name, why, energy in zip(
                ends.molecule, unfit_for_ensembles(ends), ends.values["nnp_energy_last"], strict=True
            ):
                if not why:
                    lowest[name] = min(lowest[name], float(energy))
        for name in ones.molecule:
            if not np.isfinite(lowest[name]):
                problems[name] = failed.get(name, "none of its conformers converged to the molecule")
        searching = [
            i
            for i in searching
            if lowest[geometries.molecule[i]] < before[geometries.molecule[i]] - hartree(SAME_ENERGY)
        ]


def _firsts(conformations: ConformationSet) -> dict[str, int]:
    """Return the row of the first conformation of each molecule."""
    firsts: dict[str, int] = {}
    for i, name in enumerate(conformations.molecule):
        firsts.setdefault(name, i)
    return firsts


def _count(conformations: ConformationSet, name: str) -> int:
    """Return the number after the last one in the ids NAME/0007 of a molecule."""
    return 1 + max(int(id.rpartition("/")[2]) for id, of in zip(conformations.id, conformations.molecule) if of == name)


def _at_start(first: ConformationSet) -> ConformationSet:
    """Return conformations at their positions before the relaxation, which still are the molecule."""
    return first.bare().with_columns(position=first.atoms["initial_position"])


def _with_stereo(conformations: ConformationSet) -> ConformationSet:
    """Return conformations whose SMILES specify the stereoisomer of the geometry, where they left it open."""
    records = []
    for i, smiles in enumerate(conformations.mapped_smiles):
        positions = conformations.position[conformations.rows(i)]
        mol = molecule(smiles, positions)
        Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=False)
        charge, multiplicity = int(conformations.charge[i]), int(conformations.multiplicity[i])
        own = conformations.id[i], conformations.molecule[i], mapped_smiles(mol), charge, multiplicity
        records.append(ConformationRecord(*own, conformations.number[conformations.rows(i)], positions))
    return ConformationSet.build(records)


def _groups(relaxed: ConformationSet, firsts: dict[str, int], number: Number) -> list[NDArray[np.int64]]:
    """Divide the molecules into groups that have up to `AT_ONCE` conformers, or one molecule."""
    groups: list[list[int]] = []
    size = AT_ONCE
    for i in firsts.values():
        n = conformers_for(molecule(relaxed.mapped_smiles[i]), number)
        if size + n > AT_ONCE:
            groups.append([])
            size = 0
        groups[-1].append(i)
        size += n
    return [np.array(group, dtype=np.int64) for group in groups]
