"""Vibrations and free energies at the ends of relaxations, and the way out of ends that are not minima.

Where a converged end has an imaginary mode, it is a saddle point: the molecule is displaced along the mode with the
largest imaginary frequency and relaxed again, at most `KICKS` times. In contrast to golf/relaxation/saddle_points.py,
which looks at symmetric starts only, this costs a Hessian for every end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golf.chem.integrity import with_changes
from golf.chem.thermochemistry import Vibrations, thermochemistry, vibrations
from golf.core.conformations import ConformationSet, StopReason
from golf.nnp.provider import ForceProvider, Molecules
from golf.potentials.hessians import hessian_of
from golf.relaxation.saddle_points import LOWER, moved

KICKS = 3
"""How often an end with an imaginary mode is displaced and relaxed again."""

NOT_COMPUTED = -1
"""`n_imaginary` of an end that did not converge."""

Relax = Callable[[ConformationSet], ConformationSet]


def with_vibrations(
    relaxed: ConformationSet, potential: ForceProvider, relax: Relax, *, temperature: float | None = None
) -> ConformationSet:
    """Return relaxed conformations with columns of their vibrations, after kicks out of saddle points.

    The columns are `n_imaginary`, `lowest_frequency`, `n_kicks` and, at a temperature, `free_energy` (quasi-RRHO, 1
    atm). Ends that did not converge have no frequencies; these, ends with imaginary modes and ends that are no longer
    the molecule have no free energy. Steps and evaluations of further relaxations are added; Hessians are not counted.

    Args:
        relaxed: results of `golf.relaxation.relax.relax`.
        potential: energies and forces.
        relax: relaxes conformations as it relaxed these.
        temperature: kelvin; None: no free energies.
    """
    found = {i: _vibrations(relaxed, i, potential) for i in _converged(relaxed)}
    kicks = np.zeros(len(relaxed), np.int32)
    waiting = [i for i, of in found.items() if of.n_imaginary]
    for _ in range(KICKS):
        if not waiting:
            break
        starts = relaxed.subset(waiting)
        aside = [moved(relaxed.position[relaxed.rows(i)], found[i].motions[0].ravel()) for i in waiting]
        again = relax(starts.bare().with_columns(position=np.concatenate(aside)))
        kicks[waiting] += 1
        relaxed, lower = _joined(relaxed, waiting, again)
        converged = set(_converged(relaxed))
        found = {i: of for i, of in found.items() if i in converged}
        found |= {i: _vibrations(relaxed, i, potential) for i in lower if i in converged}
        waiting = [i for i in lower if i in found and found[i].n_imaginary]
    n_imaginary, lowest = np.full(len(relaxed), NOT_COMPUTED), np.full(len(relaxed), np.nan)
    for i, of in found.items():
        n_imaginary[i], lowest[i] = of.n_imaginary, next(iter(of.frequencies), np.nan)
    values = {"n_imaginary": n_imaginary, "lowest_frequency": lowest, "n_kicks": kicks}
    if temperature is None:
        return relaxed.with_columns(values=values)
    free = _free_energies(relaxed, found, temperature)
    return relaxed.with_columns(values={**values, "free_energy": free}, temperature=temperature)


@dataclass(frozen=True)
class VibrationCounts:
    """Numbers of conformations for messages.

    Attributes:
        kicked: displaced along an imaginary mode and relaxed again.
        imaginary: still with imaginary modes.
    """

    kicked: int = 0
    imaginary: int = 0

    @classmethod
    def of(cls, relaxed: ConformationSet) -> VibrationCounts:
        """Count the conformations of a set, with or without the columns of vibrations."""
        kicks, imaginary = (relaxed.values.get(name, np.zeros(0)) for name in ("n_kicks", "n_imaginary"))
        return cls(int((kicks > 0).sum()), int((imaginary > 0).sum()))

    def __add__(self, other: VibrationCounts) -> VibrationCounts:
        return VibrationCounts(self.kicked + other.kicked, self.imaginary + other.imaginary)

    def lines(self) -> Iterator[str]:
        """Yield the messages about them."""
        if self.kicked:
            ends = "end had" if self.kicked == 1 else "ends had"
            yield f"{self.kicked} {ends} an imaginary mode and was relaxed again from beside it; see n_kicks"
        if self.imaginary:
            ends = "end still has" if self.imaginary == 1 else "ends still have"
            yield f"warning: {self.imaginary} {ends} imaginary modes and no free energy; see n_imaginary"


def _converged(relaxed: ConformationSet) -> list[int]:
    return np.flatnonzero(relaxed.values["stop_reason"] == StopReason.CONVERGED).tolist()


def _vibrations(relaxed: ConformationSet, i: int, potential: ForceProvider) -> Vibrations:
    """Compute the vibrations at the end of conformation i."""
    rows = relaxed.rows(i)
    positions, molecule = relaxed.position[rows], Molecules.of(relaxed.subset([i]), potential.device)
    return vibrations(relaxed.number[rows], positions, hessian_of(potential, molecule, positions))


def _joined(relaxed: ConformationSet, rows: list[int], again: ConformationSet) -> tuple[ConformationSet, list[int]]:
    """Replace the ends of conformations by those of further relaxations that ended lower; return also which did."""
    values = {name: column.copy() for name, column in relaxed.values.items()}
    atoms = {name: column.copy() for name, column in relaxed.atoms.items()}
    position, lower = relaxed.position.copy(), []
    for k, i in enumerate(rows):
        values["n_force_evaluations"][i] += again.values["n_force_evaluations"][k]
        if not again.values["nnp_energy_last"][k] < values["nnp_energy_last"][i] - LOWER:
            continue
        lower.append(i)
        values["n_steps"][i] += again.values["n_steps"][k]
        for name in ("stop_reason", "nnp_energy_last", "largest_force"):
            values[name][i] = again.values[name][k]
        position[relaxed.rows(i)] = again.position[again.rows(k)]
        atoms["nnp_force"][relaxed.rows(i)] = again.atoms["nnp_force"][again.rows(k)]
    return relaxed.with_columns(position=position, values=values, atoms=atoms), lower


def _free_energies(relaxed: ConformationSet, found: dict[int, Vibrations], temperature: float) -> NDArray[np.float64]:
    """Return free energies [N] in hartree at minima that are still the molecule; NaN elsewhere."""
    free = np.full(len(relaxed), np.nan)
    changed = with_changes(relaxed).values["changed_molecule"]
    for i, of in found.items():
        if of.n_imaginary or changed[i]:
            continue
        rows = relaxed.rows(i)
        thermal = thermochemistry(
            relaxed.number[rows],
            relaxed.position[rows],
            of.frequencies,
            temperature,
            multiplicity=int(relaxed.multiplicity[i]),
        )
        free[i] = relaxed.values["nnp_energy_last"][i] + thermal.quasi_rrho
    return free
