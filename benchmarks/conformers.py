"""Conformers that are the same: how far apart energies are after two relaxations into one minimum, and in two minima.

Conformers of drug-like molecules are relaxed with the published GOLF-1k to the default threshold of `golf relax`, and
from there to a threshold that is forty times tighter. Pairs of conformers within the RMSD of heavy atoms that --prune
takes are of one minimum if their tight ends agree in the energy and in the RMSD of all atoms, and of two otherwise.

    python benchmarks/conformers.py               # GOLF_REFERENCE_DATA has the weights and the molecules
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from rdkit.Chem import rdMolAlign

from golf.chem.conformers import conformations_of
from golf.chem.integrity import CHANGED, with_changes
from golf.chem.molecules import molecule
from golf.chem.rmsd import _rmsd, compared
from golf.core.conformations import ConformationSet, StopReason
from golf.core.units import HARTREE_IN_KCAL_PER_MOL, hartree
from golf.io.records import read_molecules
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.published import import_checkpoint
from golf.relaxation.engine import Optimizer
from golf.relaxation.relax import relax

DATA = Path(os.environ.get("GOLF_REFERENCE_DATA", Path(__file__).resolve().parents[2] / "shared"))
LOOSE, TIGHT = 0.1, 0.0025  # kcal/mol/angstrom
PRUNE = 0.5  # angstrom
SAME = (0.01, 0.05)  # kcal/mol and angstrom (RMSD of all atoms) within which two tight ends are one minimum


def relaxed(conformations: ConformationSet, potential: ThreadedPotential, threshold: float) -> ConformationSet:
    optimizer = Optimizer("preconditioned")
    return relax(
        conformations,
        potential,
        force_threshold=hartree(threshold),
        max_steps=1000,
        slots=64,
        optimizer=optimizer,
        advance=lambda: None,
    )


def pairs(name: str, loose: ConformationSet, tight: ConformationSet) -> list[tuple[str, float, float, bool]]:
    """Molecule, RMSD of heavy atoms, difference of energies, and whether the minimum is one, for each pair in PRUNE."""
    energies = [part.values["nnp_energy_last"] * HARTREE_IN_KCAL_PER_MOL for part in (loose, tight)]
    fine = (tight.values["stop_reason"] == StopReason.CONVERGED) & (with_changes(tight).values[CHANGED] == "")
    fine &= loose.values["stop_reason"] == StopReason.CONVERGED
    heavy = [compared(loose.mapped_smiles[i], loose.position[loose.rows(i)]) for i in range(len(loose))]
    full = [molecule(tight.mapped_smiles[i], tight.position[tight.rows(i)]) for i in range(len(tight))]
    found = []
    for i in np.flatnonzero(fine).tolist():
        for k in np.flatnonzero(fine[:i]).tolist():
            rmsd = _rmsd(heavy[i], heavy[k])
            if rmsd < PRUNE:
                apart = abs(energies[1][i] - energies[1][k])
                one = apart < SAME[0] and rdMolAlign.GetBestRMS(full[i], full[k], maxMatches=100_000) < SAME[1]
                found.append((name, rmsd, abs(energies[0][i] - energies[0][k]), one))
    return found


def main(arguments: argparse.Namespace) -> None:
    path = DATA / "data" / "druglike-test.smi"
    molecules = read_molecules(path)[0][: arguments.molecules]
    potential = import_checkpoint(DATA / "checkpoints" / "GOLF-1k")
    found = []
    with ThreadedPotential(potential, 1) as threaded:
        for one in molecules:
            starts, _ = conformations_of([one], n_conformers=arguments.conformers, seed=1, prune_rmsd=0.1)
            loose = relaxed(starts, threaded, LOOSE)
            tight = relaxed(loose.bare(), threaded, TIGHT)
            own = pairs(one.name, loose, tight)
            found += own
            print(f"{one.name}: {len(starts)} conformers, {len(own)} pairs within {PRUNE} angstrom", file=sys.stderr)
    energies = np.array([pair[2] for pair in found])
    one = np.array([pair[3] for pair in found], bool)
    print(f"{one.sum()} pairs of one minimum, energies apart by (50, 90, 95, 99, 100 %), kcal/mol:")
    print(np.round(np.percentile(energies[one], [50, 90, 95, 99, 100]), 4))
    print(f"{(~one).sum()} pairs of two minima (0, 1, 5, 10, 50 %):")
    print(np.round(np.percentile(energies[~one], [0, 1, 5, 10, 50]), 4))
    print("tolerance  share of pairs of one minimum within it  of two minima within it")
    for tolerance in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        print(f"{tolerance:9g}  {np.mean(energies[one] <= tolerance):.3f}  {np.mean(energies[~one] <= tolerance):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=8)
    parser.add_argument("--conformers", type=int, default=40)
    main(parser.parse_args())
