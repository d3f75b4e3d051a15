"""Options of `golf relax` for records, conformers, constraints and strain energies, and their checks."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from golf.cli.options import kind_of
from golf.core.errors import UserError

if TYPE_CHECKING:
    from golf.io.pieces import Embedding
    from golf.relaxation.constraints import Constraints
    from golf.relaxation.ensembles import Ensemble

PRUNE_STARTS = 0.1
"""RMSD of all atoms in angstrom within which ETKDG conformers end in the same minimum. (RMSD of heavy atoms alone would
merge the trans and gauche conformers of ethanol before it is known which is lower.)"""

DETERMINING = (
    "conformers",
    "seed",
    "embed_timeout",
    "stereo",
    "max_isomers",
    "largest_fragment",
    "freeze",
    "restrain",
    "strain",
)
"""Options of this module, and of the input, that determine the result."""


def add_record_options(relax: argparse.ArgumentParser) -> None:
    """Add the options that say what is made of a record: --stereo, --max-isomers and --largest-fragment."""
    relax.add_argument(
        "--stereo",
        choices=["one", "all"],
        default="one",
        help="of a molecule with unspecified stereocenters or double bonds relax one stereoisomer, or all, each "
        "under its own name (NAME-R, NAME-S)",
    )
    relax.add_argument(
        "--max-isomers",
        type=int,
        default=32,
        metavar="N",
        help="with --stereo all: leave out molecules with more stereoisomers",
    )
    relax.add_argument(
        "--largest-fragment",
        action="store_true",
        help="of salts, solvates and mixtures relax the largest fragment, instead of leaving the record out",
    )


def _pattern(text: str) -> str:
    """Return the value of --freeze; an empty one, as of an unset shell variable, would hold nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError("empty; write heavy or a SMARTS pattern, or drop the option")
    return text


def add_constraint_options(relax: argparse.ArgumentParser) -> None:
    """Add the options that hold atoms at their input positions: --freeze and --restrain."""
    relax.add_argument(
        "--freeze",
        metavar="heavy|SMARTS",
        type=_pattern,
        default=argparse.SUPPRESS,
        help="atoms that do not move, for inputs of geometries: heavy for all heavy atoms, or those that a SMARTS "
        "pattern matches",
    )
    relax.add_argument(
        "--restrain",
        type=float,
        metavar="K",
        help="pull each heavy atom that is not frozen to its input position with a force of K times its distance, "
        "K in kcal/mol/angstrom^2",
        default=argparse.SUPPRESS,
    )


def add_ensemble_options(relax: argparse.ArgumentParser) -> None:
    """Add the options that select conformers: --prune, --prune-energy, --window and --strain."""
    relax.add_argument(
        "--prune",
        type=float,
        metavar="RMSD",
        help="of the relaxed conformers of a molecule within this RMSD (angstrom, heavy atoms, symmetry respected) "
        "whose energies agree keep only the lowest; 0.5 is a good value (default: keep all)",
        default=argparse.SUPPRESS,
    )
    relax.add_argument(
        "--prune-energy",
        type=float,
        metavar="KCAL",
        help="difference up to which energies agree for --prune (kcal/mol; inf: the RMSD alone decides; default: 0.1)",
        default=argparse.SUPPRESS,
    )
    relax.add_argument(
        "--window",
        type=float,
        metavar="KCAL",
        help="keep conformers up to this energy (kcal/mol) above the lowest of the molecule; 6 is a good value "
        "(default: keep all)",
        default=argparse.SUPPRESS,
    )
    relax.add_argument(
        "--strain",
        action="store_true",
        help="for inputs of geometries: energy of each relaxed geometry above the lowest conformer that a search "
        "finds; --conformers is the number of conformers of that search (auto unless given)",
    )


def checked_search(options: argparse.Namespace) -> None:
    """Check the options of this module that need others; run it before `golf.cli.options.check_input`.

    With --strain, --conformers is moved to `options.search`, because the input geometries are relaxed themselves.

    Raises:
        UserError: options contradict each other or the format of the input.
    """
    from golf.io.formats import MOLECULES, SDF

    kind = kind_of(options)
    options.freeze = getattr(options, "freeze", "")
    if options.strain:
        options.search = options.__dict__.pop("conformers", "auto")
        if options.search != "auto" and not options.search > 0:
            raise UserError(f"--conformers {options.search}: must be positive")
        for name in ("prune", "window"):
            if name in options:
                raise UserError(f"--{name}: selects conformers, but --strain keeps each geometry; drop one of them")
    has_geometries = kind not in MOLECULES or (kind == SDF and "conformers" not in options)
    for name, given in (("freeze", options.freeze), ("restrain", "restrain" in options), ("strain", options.strain)):
        if given and not has_geometries:
            why = "--conformers replaces the geometries" if kind == SDF else f"{options.input} has none"
            raise UserError(f"--{name}: needs the geometries of the input, but {why}; give an .sdf, .xyz or .h5")
    if options.stereo == "all" and has_geometries:
        raise UserError(
            f"--stereo all: {options.input} has geometries, each of one stereoisomer; give SMILES, or drop the option"
        )
    if options.max_isomers < 1:
        raise UserError(f"--max-isomers {options.max_isomers}: must be positive")
    if options.largest_fragment and kind not in MOLECULES:
        raise UserError(f"--largest-fragment: is for .smi, .csv and .sdf; drop it for {options.input}")


def constraints_of(options: argparse.Namespace) -> Constraints | None:
    """Return the constraints that --freeze and --restrain ask for; None if neither was given.

    Raises:
        UserError: the pattern cannot be parsed, or the constant is not positive.
    """
    from golf.core.units import hartree
    from golf.relaxation.constraints import Constraints

    stiffness = getattr(options, "restrain", None)
    if stiffness is not None and not (stiffness > 0.0 and math.isfinite(stiffness)):
        raise UserError(f"--restrain {stiffness}: must be positive")
    if not options.freeze and stiffness is None:
        return None
    return Constraints(options.freeze, 0.0 if stiffness is None else hartree(stiffness))


def ensemble_of(options: argparse.Namespace) -> Ensemble | None:
    """Return the ensemble that --prune and --window ask for; None if neither was given.

    Raises:
        UserError: a number is negative, or --prune-energy has nothing to act on.
    """
    from golf.relaxation.ensembles import SAME_ENERGY, Ensemble

    given = {name: getattr(options, name) for name in ("prune", "prune_energy", "window") if name in options}
    for name, value in given.items():
        infinite = math.isinf(value) and name != "prune_energy"
        if not value >= 0.0 or infinite:
            raise UserError(f"--{name.replace('_', '-')} {value}: must not be negative")
    same_energy = given.pop("prune_energy", None)
    if same_energy is not None and "prune" not in given:
        raise UserError("--prune-energy: has no effect without --prune; give both")
    if not given:
        return None
    return Ensemble(
        given.get("prune", 0.0), given.get("window", math.inf), SAME_ENERGY if same_energy is None else same_energy
    )


def embedding_of(options: argparse.Namespace, *, prune_starts: bool) -> Embedding:
    """Return the settings of the conformers of the input, or with --strain of the search for the lowest."""
    from golf.io.pieces import Embedding

    return Embedding(
        options.conformers,
        PRUNE_STARTS if prune_starts else 0.0,
        seed=options.seed,
        threads=options.cores,
        timeout=options.embed_timeout,
        largest_fragment=options.largest_fragment,
        isomers=options.max_isomers if options.stereo == "all" else None,
    )


def described(options: argparse.Namespace, ensemble: Ensemble | None) -> dict[str, Any]:
    """Return what determines the result, as JSON."""
    kept = "all"
    if ensemble is not None:
        kept = f"{ensemble.prune:g} angstrom, {ensemble.window:g} kcal/mol, {ensemble.same_energy:g} kcal/mol"
    search = {"search": options.search} if options.strain else {}
    return {name: getattr(options, name, None) for name in DETERMINING} | {"kept": kept} | search
