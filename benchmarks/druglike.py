"""Ends of potentials on unseen drug-like molecules, with DFT energies: a table of potentials.

The molecules are those with at most 26 atoms of the file that `--new` reads (in the published table of MOSES' test
scaffolds, MIT); each has one ETKDG start, from which all potentials relax. DFT (wB97X-D/def2-SVP, Psi4) labels the
ends, the smallest molecules first. E_loc is the energy of an end above the local minimum, estimated from its DFT
gradient and the Hessian of GFN2-xTB (docs/check.md).

    python benchmarks/druglike.py                        # the table, from data/published/druglike.h5
    python benchmarks/druglike.py --label 10 --cores 2   # label the next 10 ends (2 to 5 CPU minutes each); resumable
    python benchmarks/druglike.py --new test.smi         # make starts and ends again, without labels
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from golf.core.conformations import ConformationSet, Status, concatenate
from golf.core.hdf5 import read, write
from golf.core.labels import LABEL_COLUMNS
from golf.core.level import NABLADFT_LEVEL
from golf.core.units import HARTREE_IN_KCAL_PER_MOL, hartree
from golf.core.wording import aligned
from golf.evaluation.intervals import Quantity, intervals
from golf.io.read import read_structures
from golf.oracles.labeling import label_to_file
from golf.oracles.local_minimum import VALID_BELOW, energy_above_minimum, hessians
from golf.oracles.programs.protocol import requests_from
from golf.potentials.load import load_potential
from golf.relaxation.engine import Optimizer
from golf.relaxation.relax import relax

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY / "data" / "published" / "druglike.h5"
WORK = REPOSITORY / "results" / "druglike"
MOST_ATOMS = 26
POTENTIALS = ("golf-10k", "gfn2", "golf-1k", "mmff", "aimnet2", "baseline-nnp", "traj-10k", "traj-500k")
"""In the order in which the ends of a molecule are labelled."""

FIRST = 5
"""How many of them are labelled for all molecules before the others."""

ESTIMATE = "e_loc_estimate_hartree"
FAILURE = hartree(50.0)
"""Upper bound of E_loc for the intervals."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", type=int, default=0, metavar="N", help="label the next N ends")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--new", type=Path, metavar="MOLECULES.smi", help="make starts and ends again")
    parser.add_argument("--data", type=Path, default=DATA, help="default: %(default)s")
    options = parser.parse_args()
    if options.new:
        write(options.data, made_ends(options.new, options.cores))
    if options.label:
        add_labels(options.data, options.label, options.cores)
    print(table(read(options.data), estimates(options.data)))


def made_ends(molecules: Path, cores: int) -> ConformationSet:
    """Return the ends of all potentials, with ids POTENTIAL/MOLECULE, without labels."""
    starts = read_structures(molecules, conformers=1, seed=1)
    small = starts.subset(np.flatnonzero(starts.n_atoms <= MOST_ATOMS))
    small = small.subset(np.argsort(small.n_atoms, kind="stable"))
    parts = []
    for name in POTENTIALS:
        with load_potential(name, cores=cores) as potential:
            optimizer = Optimizer("preconditioned")
            ends = relax(
                small, potential, force_threshold=hartree(0.1), max_steps=500, slots=len(small), optimizer=optimizer
            )
        parts.append(named(ends, name))
    return concatenate(parts)


def named(ends: ConformationSet, potential: str) -> ConformationSet:
    """Return ends as records of a potential, without labels."""
    n = len(ends)
    ids = [f"{potential}/{molecule}" for molecule in ends.molecule]
    kept = {name: ends.values[name] for name in ("stop_reason", "n_force_evaluations")}
    bare = ConformationSet.build(
        (ids[i], ends.molecule[i], ends.mapped_smiles[i], 0, 1, ends.number[ends.rows(i)], ends.position[ends.rows(i)])
        for i in range(n)
    )
    unlabelled = {
        "energy": np.full(n, np.nan), "status": np.full(n, Status.NOT_COMPUTED), "message": [""] * n,
        "wall_seconds": np.zeros(n), "scf_iterations": np.zeros(n, np.int32), "recovery": [""] * n,
    }  # fmt: skip
    return bare.with_columns(
        atoms={"initial_position": ends.atoms["initial_position"], "force": np.full(ends.position.shape, np.nan)},
        values={**kept, **unlabelled},
        **NABLADFT_LEVEL.attrs(),
    )


def order(ends: ConformationSet) -> list[int]:
    """Return the ends in the order in which they are labelled."""

    def rank(i: int) -> tuple[bool, int, str, int]:
        potential = POTENTIALS.index(ends.id[i].partition("/")[0])
        return potential >= FIRST, int(ends.n_atoms[i]), ends.molecule[i], potential

    return sorted(range(len(ends)), key=rank)


def add_labels(path: Path, n: int, cores: int) -> None:
    """Label the next n ends, a few at a time, and write the file after each few."""
    WORK.mkdir(parents=True, exist_ok=True)
    left = [i for i in order(read(path)) if read(path).values["status"][i] == Status.NOT_COMPUTED][:n]
    for first in range(0, len(left), cores):
        ends = read(path)
        which = left[first : first + cores]
        some = ends.subset(which).bare()
        labelled = label_to_file(
            some, WORK / f"{which[0]:03d}.h5", level=NABLADFT_LEVEL, n_workers=cores, memory_mb=3000, time_limit=7200.0
        )
        found = hessians(requests_from(some), n_workers=cores)
        known = estimates(path)
        values = {name: list(ends.values[name]) for name in LABEL_COLUMNS}
        force = ends.atoms["force"].copy()
        for k, i in enumerate(which):
            force[ends.rows(i)] = forces = labelled.atoms["force"][labelled.rows(k)]
            for name in LABEL_COLUMNS:
                values[name][i] = labelled.values[name][k]
            if k in found.of and labelled.values["status"][k] == Status.OK:
                known[ends.id[i]] = energy_above_minimum(some.position[some.rows(k)], forces, found.of[k])
        version = {"program_version": labelled.attrs["program_version"]}
        pd.Series(known, name=ESTIMATE).rename_axis("id").sort_index().to_csv(
            path.with_suffix(".csv"), float_format="%.8f"
        )
        write(path, ends.with_columns(atoms={"force": force}, values=values, **version))


def estimates(path: Path) -> dict[str, float]:
    """Return the estimates of E_loc in hartree, by the id of the end, from the file beside the labels."""
    beside = path.with_suffix(".csv")
    return pd.read_csv(beside, index_col="id")[ESTIMATE].to_dict() if beside.is_file() else {}


def table(ends: ConformationSet, e_loc: dict[str, float]) -> str:
    """Return the table of potentials, over the molecules of which all first potentials have a label."""
    potential = np.array([name.partition("/")[0] for name in ends.id])
    molecule = np.array(ends.molecule)
    ok = ends.values["status"] == Status.OK
    lowest = {m: ends.values["energy"][ok & (molecule == m)].min() for m in set(molecule[ok])}
    complete = [m for m in lowest if set(POTENTIALS[:FIRST]) <= set(potential[ok & (molecule == m)])]
    rows = [
        [
            "potential",
            "n",
            "E_loc [95 %]",
            "median",
            "E_loc < 1",
            "above the lowest end",
            "largest force",
            "evaluations",
        ]
    ]
    for name in POTENTIALS:
        own = np.flatnonzero(ok & (potential == name) & np.isin(molecule, complete))
        if not len(own):
            continue
        rows.append([name, str(len(own)), *_cells(ends, e_loc, own, lowest)])
    notes = (
        f"{len(complete)} molecules of {len(set(molecule))}; kcal/mol, largest force (median) in kcal/mol/angstrom",
        "above lowest: mean energy above the lowest end of any potential; estimates of E_loc above 1 are rough",
    )
    return "\n".join([*aligned(rows, n_left=1), *notes])


def _cells(
    ends: ConformationSet, estimated: dict[str, float], own: NDArray[np.int64], lowest: dict[str, float]
) -> list[str]:
    e_loc = np.array([estimated.get(ends.id[i], np.nan) for i in own])
    molecules = [ends.molecule[i] for i in own]
    bounds = intervals({"mean": Quantity(e_loc, lowest=0.0, highest=FAILURE)}, molecules, seed=0)
    low, high = (bounds[f"mean_{end}"] * HARTREE_IN_KCAL_PER_MOL for end in ("low", "high"))
    kcal = e_loc * HARTREE_IN_KCAL_PER_MOL
    above = [(ends.values["energy"][i] - lowest[ends.molecule[i]]) * HARTREE_IN_KCAL_PER_MOL for i in own]
    forces = [np.linalg.norm(ends.atoms["force"][ends.rows(i)], axis=1).max() * HARTREE_IN_KCAL_PER_MOL for i in own]
    evaluations = ends.values["n_force_evaluations"][own]
    return [
        f"{kcal.mean():.2f} [{low:.2f}, {high:.2f}]", f"{np.median(kcal):.2f}", f"{(e_loc < VALID_BELOW).sum()}",
        f"{np.mean(above):.2f}", f"{np.median(forces):.1f}", f"{np.median(evaluations):.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
