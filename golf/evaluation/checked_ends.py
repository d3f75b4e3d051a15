"""Hold ends of relaxations against labels of an oracle: errors of energies and forces, and the energy left to gain.

E_loc is the oracle's energy of an end above the local minimum that the oracle has next to it. A method whose minima lie
where the oracle's do has small E_loc, even if its energies are wrong by a constant.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Status
from golf.core.files import written_whole
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.core.wording import aligned, counted
from golf.evaluation.figure_style import FAINT, empty_figure, side_by_side, styled
from golf.evaluation.intervals import Quantity, intervals
from golf.evaluation.metrics import CHEMICAL_ACCURACY, FAILURE

KCAL = HARTREE_IN_KCAL_PER_MOL
ESTIMATE, OPTIMIZATION = "estimate", "optimization"

_COLORS = {"E_loc": "#0072B2", "largest on an atom": "#D55E00", "mean error": "#009E73"}


@dataclass(frozen=True)
class CheckedEnds:
    """Ends with labels, and what was computed of them; energies in kcal/mol, forces in kcal/mol/angstrom, NaN: unknown.

    Attributes:
        labelled: the ends with the oracle's labels.
        energy: [n] hartree, of the method that relaxed them.
        energy_error: [n] its energy minus the oracle's, without the mean of the molecule.
        largest_force: [n] largest of the oracle's forces on an atom.
        force_error: [n] mean absolute error of the components of the forces.
        e_loc: [n] energy above the local minimum.
        source: [n] what e_loc is from: `ESTIMATE`, `OPTIMIZATION` or "".
        estimate: [n] the estimate, also where it is too large to be valid.
        n_gradients: [n] gradients of the optimization; 0 without one.
        note: [n] why there is no label or no e_loc.
    """

    labelled: ConformationSet
    energy: NDArray[np.float64]
    energy_error: NDArray[np.float64]
    largest_force: NDArray[np.float64]
    force_error: NDArray[np.float64]
    e_loc: NDArray[np.float64]
    source: list[str]
    estimate: NDArray[np.float64]
    n_gradients: NDArray[np.int64]
    note: list[str]

    @property
    def has_label(self) -> NDArray[np.bool_]:
        """Whether the oracle has a label of each end [n]."""
        return np.asarray(self.labelled.values["status"]) == Status.OK


def energy_errors(
    predicted: NDArray[np.float64], oracle: NDArray[np.float64], molecules: Sequence[str]
) -> NDArray[np.float64]:
    """Return predicted minus oracle energies less the mean of this difference over the conformations of the molecule.

    The result is NaN where one of both is, and for molecules with a single conformation: total energies of two methods
    differ by an unknown constant for each molecule.

    Args:
        predicted, oracle: [n], in the same unit.
        molecules: name of the molecule of each, [n].
    """
    difference = np.asarray(predicted, np.float64) - np.asarray(oracle, np.float64)
    errors = np.full(len(difference), np.nan)
    names = np.asarray(molecules, dtype=str)
    for name in np.unique(names):
        mine = np.flatnonzero((names == name) & np.isfinite(difference))
        if len(mine) > 1:
            errors[mine] = difference[mine] - difference[mine].mean()
    return errors


def force_errors(
    labelled: ConformationSet, predicted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest force on an atom and the mean absolute error of the predicted components, [n], hartree/A.

    Args:
        labelled: ends with the oracle's forces.
        predicted: [A, 3] hartree/angstrom.
    """
    largest, errors = np.full(len(labelled), np.nan), np.full(len(labelled), np.nan)
    for i in range(len(labelled)):
        forces = labelled.atoms["force"][labelled.rows(i)]
        largest[i] = np.linalg.norm(forces, axis=1).max()
        errors[i] = np.abs(predicted[labelled.rows(i)] - forces).mean()
    return largest, errors


@dataclass(frozen=True)
class Line:
    """A line of the summary: mean with its 95 % interval over molecules, median and largest value of n ends."""

    name: str
    mean: float
    low: float
    high: float
    median: float
    largest: float
    n: int
    n_molecules: int


def summary(ends: CheckedEnds, *, seed: int = 0) -> list[Line]:
    """Return the lines of the summary.

    Ends without e_loc count as not below 1 kcal/mol, and as above the others in the median; the mean of e_loc is NaN if
    there are any. Their number is in `notes`.

    Args:
        seed: of the intervals.
    """
    labelled, known = ends.has_label, np.isfinite(ends.e_loc)
    e_loc = np.where(labelled, ends.e_loc, np.nan)
    below = np.where(labelled & known.any(), 100.0 * (known & (ends.e_loc < CHEMICAL_ACCURACY * KCAL)), np.nan)
    n_above = int((labelled & ~known).sum())
    molecules = ends.labelled.molecule
    lines = [
        _line("E_loc, kcal/mol", Quantity(e_loc, lowest=0.0, highest=FAILURE * KCAL), molecules, seed, n_above=n_above),
        _line("E_loc below 1 kcal/mol, %", Quantity(below, share=True), molecules, seed),
        _line("largest force, kcal/mol/A", Quantity(ends.largest_force, lowest=0.0), molecules, seed),
        _line("error of forces, kcal/mol/A", Quantity(ends.force_error, lowest=0.0), molecules, seed),
        _line("error of energies, kcal/mol", Quantity(np.abs(ends.energy_error), lowest=0.0), molecules, seed),
    ]
    return [line for line in lines if line.n]


def _line(name: str, quantity: Quantity, molecules: Sequence[str], seed: int, *, n_above: int = 0) -> Line:
    """Return the line of a quantity.

    Args:
        n_above: further values that are unknown but larger than these; then mean and largest value are not known.
    """
    finite = np.isfinite(quantity.values)
    values = quantity.values[finite]
    n_molecules = len({molecules[i] for i in np.flatnonzero(finite).tolist()})
    if not len(values):
        return Line(name, np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0)
    median = np.nan if quantity.share else float(np.median([*values, *[np.inf] * n_above]))
    if n_above:
        return Line(name, np.nan, np.nan, np.nan, median, np.nan, len(values), n_molecules)
    ends = intervals({"mean": quantity}, molecules, seed=seed)
    largest = np.nan if quantity.share else float(values.max())
    mean = float(values.mean())
    return Line(name, mean, ends["mean_low"], ends["mean_high"], median, largest, len(values), n_molecules)


def format_summary(lines: Sequence[Line]) -> str:
    """Format the summary for a terminal."""
    rows = [["", "mean", "95 % interval", "median", "largest", "ends", "molecules"]]
    for line in lines:
        interval = f"{_number(line.low)} to {_number(line.high)}" if np.isfinite(line.low) else "-"
        numbers = [_number(line.mean), interval, _number(line.median), _number(line.largest)]
        rows.append([line.name, *numbers, str(line.n), str(line.n_molecules)])
    return "\n".join(aligned(rows, n_left=1))


def _number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def notes(ends: CheckedEnds, valid_below: float, *, optimized: bool) -> Iterator[str]:
    """Yield what the numbers leave out and why, one line each.

    Args:
        valid_below: kcal/mol; larger estimates are not valid.
        optimized: whether ends without a valid estimate were optimized.
    """
    labelled = ends.has_label
    n_failed = int((~labelled).sum())
    if n_failed:
        k = int(np.flatnonzero(~labelled)[0])
        yield f"{counted(n_failed, 'end')} without a label, left out ({ends.labelled.id[k]}: {ends.note[k]})"
    unknown = labelled & ~np.isfinite(ends.e_loc)
    beyond = unknown & (ends.estimate > valid_below)
    if beyond.any():
        largest = f"up to {np.nanmax(ends.estimate[beyond]):.3g}"
        remedy = "" if optimized else "; --optimize finds their minima"
        yield (
            f"{counted(int(beyond.sum()), 'end')} without E_loc: estimated above {valid_below:g} kcal/mol ({largest}), "
            f"where the estimate is not valid; counted as not below 1 kcal/mol{remedy}"
        )
    others = np.flatnonzero(unknown & ~beyond)
    if len(others):
        remedy = "" if optimized else "; --optimize finds their minima"
        first = f"{ends.labelled.id[others[0]]}: {ends.note[others[0]]}"
        yield f"{counted(len(others), 'end')} without E_loc ({first}){remedy}"
    if not np.isfinite(ends.energy).any():
        yield "error of energies: the input has no energies"
    elif not np.isfinite(ends.energy_error).any():
        yield (
            "error of energies: not possible, since no molecule has two conformations here; total energies of two "
            "methods differ by an unknown constant for each molecule"
        )
    else:
        yield "error of energies: against the oracle's, without the mean difference of each molecule"


HEAD = (
    "id", "molecule", "n_atoms", "status", "e_loc_kcal_mol", "e_loc_from", "estimate_kcal_mol",
    "largest_force_kcal_mol_angstrom", "force_error_kcal_mol_angstrom", "energy_error_kcal_mol", "energy_hartree",
    "input_energy_hartree", "n_gradients", "note",
)  # fmt: skip
"""Columns of the table of ends."""


def write_table(path: str | Path, ends: CheckedEnds) -> None:
    """Write one row for each end to a CSV; unknown numbers are empty."""
    labelled = ends.labelled
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEAD)
        for i, name in enumerate(labelled.id):
            numbers: list[tuple[float, int]] = [
                (ends.largest_force[i], 4), (ends.force_error[i], 4), (ends.energy_error[i], 4),
                (labelled.values["energy"][i], 8), (ends.energy[i], 8),
            ]  # fmt: skip
            first: list[str | int] = [name, labelled.molecule[i], int(labelled.n_atoms[i])]
            first += [Status(labelled.values["status"][i]).name.lower(), _cell(ends.e_loc[i], 4), ends.source[i]]
            cells = [_cell(value, digits) for value, digits in [(ends.estimate[i], 4), *numbers]]
            writer.writerow([*first, *cells, int(ends.n_gradients[i]), ends.note[i]])


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


@styled
def figure(ends: CheckedEnds) -> Figure:
    """Draw which share of the ends is below an E_loc, and which below a force, as steps from end to end."""
    labelled = ends.has_label
    if not labelled.any():
        return empty_figure("No end has a label.")
    drawn, axes = side_by_side(2)
    n = int(labelled.sum())
    known = ends.e_loc[labelled & np.isfinite(ends.e_loc)]
    _steps(axes[0], {"E_loc": known}, n, legend=False)
    axes[0].axvline(CHEMICAL_ACCURACY * KCAL, color=FAINT, lw=0.8, ls="--")
    axes[0].set_title(f"{n} ends" + (f", of {n - len(known)} not known" if len(known) < n else ""), loc="left")
    axes[0].set_xlabel(r"E$_{\mathrm{loc}}$  (kcal/mol)")
    axes[0].set_ylabel("share of the ends below (%)")
    forces = {"mean error": ends.force_error, "largest on an atom": ends.largest_force}
    _steps(axes[1], {name: of[labelled & np.isfinite(of)] for name, of in forces.items()}, n, legend=True)
    axes[1].set_xlabel("force  (kcal/mol/Å)")
    return drawn


def _steps(axis: Axes, curves: Mapping[str, NDArray[np.float64]], n: int, *, legend: bool) -> None:
    """Draw which shares of n ends are below each of their values, on a logarithmic axis with plain numbers.

    Args:
        curves: values by name; curves without values are not drawn.
    """
    shown = {name: np.sort(np.maximum(values, 1e-3)) for name, values in curves.items() if len(values)}
    for name, values in shown.items():
        shares = 100.0 * np.arange(1, len(values) + 1) / n
        axis.step(values, shares, where="post", color=_COLORS[name], label=name)
        axis.plot(values, shares, "o", ms=3.0, color=_COLORS[name])
    axis.set_ylim(0.0, 104.0)
    if shown:
        every = np.concatenate(list(shown.values()))
        low, high = every.min() / 1.5, max(1.0, every.max()) * 1.5
        ticks = [m * 10.0**k for k in range(-4, 6) for m in ((1, 2, 5) if high < 300 * low else (1,))]
        axis.set_xscale("log")
        axis.set_xticks([tick for tick in ticks if low <= tick <= high])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.minorticks_off()
        axis.set_xlim(low, high)
        if legend:
            axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, handlelength=1.2, borderpad=0.0)
