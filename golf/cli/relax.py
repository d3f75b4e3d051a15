"""The command `golf relax`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from golf import __version__
from golf.cli.options import (
    HelpWithDefaults,
    add_cores,
    add_device,
    add_input,
    add_output,
    add_potential,
    check_input,
    check_output,
    from_stdin,
    positive,
)
from golf.cli.relax_options import (
    add_constraint_options,
    add_ensemble_options,
    add_record_options,
    checked_search,
    constraints_of,
    described,
    embedding_of,
    ensemble_of,
)
from golf.cli.vibration_options import add_vibrations, at_temperature, checked_vibrations, vibrations_run
from golf.core.wording import and_more

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from golf.io.pieces import Piece
    from golf.potentials.card import Card
    from golf.potentials.load import LoadedPotential
    from golf.relaxation.engine import Optimizer
    from golf.relaxation.ensembles import Ensemble
    from golf.relaxation.library import LibraryResult

PIECE = 512
"""Conformations of a library in memory at a time, which is also the work lost when a run is interrupted.

Towards the end of a piece slots run empty. In a replay with 128 slots and numbers of evaluations that spread by 45 %,
pieces of 512 take 1 % more work than pieces of 2,048, pieces of 256 take 2.5 % more and pieces of 128 take 5 % more,
if the cost of a batch is proportional to its molecules, as on a CPU.
"""

LAYOUT = 2
"""Version of the layout of a run's parts; a run with an older layout is not resumed."""

SHOWN = 10
"""How many left-out records, and how many reasons for warnings about the training data, are listed one by one."""

SEARCH_PIECE = 16
"""The same for --strain, where each molecule takes 50 conformers and more besides."""


def add_relax(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf relax`."""
    relax = commands.add_parser(
        "relax",
        help="relax conformations with a potential",
        description="Relax conformations with a potential. Files of any size are processed in pieces; "
        "run the same command again to resume an interrupted run. For conformer ensembles: --conformers auto "
        "--prune 0.5 --window 6. Exit status 1: some records were left out, listed in OUT.left_out.csv.",
        formatter_class=HelpWithDefaults,
    )
    add_input(relax, auto=True)
    add_potential(relax)
    add_output(relax, "OUT", ".h5, .sdf, .xyz or .extxyz")
    add_record_options(relax)
    add_ensemble_options(relax)
    add_constraint_options(relax)
    relax.add_argument(
        "--force-threshold",
        type=float,
        default=0.1,
        metavar="F",
        help="converged when no atom's force is larger, kcal/mol/angstrom",
    )
    relax.add_argument("--max-steps", type=int, default=500, help="limit of L-BFGS steps")
    relax.add_argument(
        "--optimizer",
        choices=["lbfgs", "preconditioned"],
        help="plain L-BFGS, or L-BFGS preconditioned by the MMFF Hessian, which needs fewer evaluations (default: as "
        "in the test relaxations of a study, relaxation.optimizer)",
        default=argparse.SUPPRESS,
    )
    relax.add_argument(
        "--mmff",
        choices=["MMFF94", "MMFF94s"],
        help="force field of that Hessian (default: as in a study, surrogate.variant)",
        default=argparse.SUPPRESS,
    )
    add_vibrations(relax)
    relax.add_argument("--slots", type=int, default=128, help="molecules relaxed simultaneously")
    add_device(relax)
    add_cores(relax)
    relax.set_defaults(command=from_stdin(_relax), resumes=True)


def _relax(options: argparse.Namespace) -> int:
    from functools import partial

    from golf.io.pieces import expected, pieces_of
    from golf.io.write import OUTPUTS
    from golf.potentials.load import load_potential
    from golf.relaxation.library import fingerprint

    checked_search(options)
    check_input(options)
    check_output(options, OUTPUTS)
    optimizer = checked_optimizer(options)
    checked_vibrations(options)
    with load_potential(options.model, device=options.device, cores=options.cores) as potential:
        result = relaxed_library(
            options,
            potential,
            partial(pieces_of, options.input),
            contents=fingerprint(options.input, *potential.files),
            n_expected=None if options.stereo == "all" else expected(options.input, options.conformers),
        )
    print(f"golf: optimizer: {optimizer.words}", file=sys.stderr)
    _report(options, result, potential.card, knows_its_training=potential.domain is not None)
    return 1 if result.left_out else 0


def checked_optimizer(options: argparse.Namespace) -> Optimizer:
    """Return the optimizer that the options choose, after a check of its numbers.

    Raises:
        UserError: a number is not positive.
    """
    from golf.relaxation.engine import Optimizer
    from golf.study.config import default

    for name in ("--cores", "--force-threshold", "--max-steps", "--slots"):
        positive(name, getattr(options, name.strip("-").replace("-", "_")))
    return Optimizer(
        getattr(options, "optimizer", default("relaxation", "optimizer")),
        variant=getattr(options, "mmff", default("surrogate", "variant")),
    )


def relaxed_library(
    options: argparse.Namespace,
    potential: LoadedPotential,
    pieces_of_input: Callable[..., Iterator[Piece]],
    *,
    contents: str,
    n_expected: int | None,
) -> LibraryResult:
    """Relax an input and write `options.output`, as the options of the command say; `golf.relax` calls it as well.

    Args:
        options: of `golf relax`, checked.
        potential: the potential.
        pieces_of_input: returns the pieces of the input, with the keyword arguments of `golf.io.pieces.pieces_of`.
        contents: hash of the input and of the potential, with which a run may be resumed.
        n_expected: number of conformations of the input; None: unknown.

    Raises:
        UserError: an option or the input cannot be used.
    """
    from golf.core.conformations import ConformationSet
    from golf.core.units import hartree
    from golf.nnp.domain import unlike_training
    from golf.relaxation.constraints import Constraints, matching
    from golf.relaxation.library import relax_library, without_refused
    from golf.relaxation.relax import relax
    from golf.relaxation.search import searched, strained
    from golf.relaxation.vibrations import with_vibrations

    optimizer = checked_optimizer(options)
    ensemble, constraints = ensemble_of(options), constraints_of(options)
    embedding = embedding_of(options, prune_starts=ensemble is not None or options.strain)
    wants_vibrations, temperature = checked_vibrations(options)

    def relaxed(
        conformations: ConformationSet, advance: Any, constraints: Constraints | None = constraints
    ) -> ConformationSet:
        ends = relax(
            conformations,
            potential,
            force_threshold=hartree(options.force_threshold),
            max_steps=options.max_steps,
            slots=options.slots,
            optimizer=optimizer,
            constraints=constraints,
            advance=advance,
        )
        return ends if potential.domain is None else unlike_training(ends, potential.domain)

    def free(conformers: ConformationSet) -> ConformationSet:
        return relaxed(conformers, lambda: None, None)

    def finish(ends: ConformationSet, lines: list[int]) -> tuple[ConformationSet, list[int]]:
        if options.strain:
            return strained(ends, relax=free, embedding=replace(embedding, conformers=options.search)), lines
        if options.conformers == "auto":
            return searched(ends, lines, relax=free, which=ensemble, embedding=embedding)
        return ends, lines

    def vibrate(ends: ConformationSet) -> ConformationSet:
        return with_vibrations(ends, potential, lambda starts: relaxed(starts, lambda: None), temperature=temperature)

    pieces = pieces_of_input(
        elements=potential.card.elements,
        size=SEARCH_PIECE if options.strain else PIECE,
        embedding=embedding,
        together=ensemble is not None or options.strain,
        refusal=potential.card.refusal_of,
    )
    by_name = {} if potential.files else {"potential": str(options.model)}
    usable = (without_refused(piece, potential.card) for piece in pieces)
    return relax_library(
        usable if constraints is None else matching(usable, constraints),
        options.output,
        relaxed,
        run=_run(options, ensemble)
        | optimizer.described
        | by_name
        | {"contents": contents}
        | vibrations_run(wants_vibrations, temperature),
        attrs={
            "model": str(options.model),
            **potential.level,
            **optimizer.described,
            **at_temperature(temperature),
            **({} if constraints is None else constraints.described),
        },
        finish=finish,
        ensemble=ensemble,
        vibrate=vibrate if wants_vibrations else None,
        expected=n_expected,
        restart=options.force,
    )


def _run(options: argparse.Namespace, ensemble: Ensemble | None) -> dict[str, Any]:
    """Return everything that determines the result except the contents of the files."""
    names = ("force_threshold", "max_steps", "slots")
    settings = {name: getattr(options, name) for name in names}
    parts = {"piece": PIECE, "layout": LAYOUT, "golf": __version__}
    return settings | parts | described(options, ensemble) | {"input": options.shown}


def _report(options: argparse.Namespace, result: LibraryResult, card: Card, *, knows_its_training: bool) -> None:
    """Report the result for the library on stderr."""
    for line in _lines(options, result):
        print(f"golf: {line}", file=sys.stderr)
    if card.kind == "network" and not knows_its_training:
        line = card.domain_note or "does not record its training data: no warnings about molecules that differ from it"
        print(f"golf: {options.model}: {line}", file=sys.stderr)


def _lines(options: argparse.Namespace, result: LibraryResult) -> list[str]:
    from golf.io.records import place_of

    shown = result.left_out[:SHOWN]
    lines = [f"{options.shown}: {place_of(out, options.shown)} is left out: {out.reason}" for out in shown]
    n = len(result.left_out)
    left_out = (
        f"; {n} record{'s were' if n > 1 else ' was'} left out, listed in {options.output}.left_out.csv" if n else ""
    )
    are = "conformation is" if result.n_relaxed == 1 else "conformations are"
    lines.append(f"{result.n_relaxed} {are} in {options.output}{left_out}")
    if result.ensembles:
        counts = result.ensembles
        lines.append(
            f"{counts['kept']} of {sum(counts.values())} conformers kept; dropped: {counts['not_finite']} not finite, "
            f"{counts['not_converged']} not converged, {counts['changed']} no longer the molecule, "
            f"{counts['above_window']} above the window, {counts['pruned']} the same as a lower one"
        )
    elif result.n_not_converged:
        lines.append(
            f"warning: {result.n_not_converged} of {result.n_relaxed} did not converge in {options.max_steps} steps; "
            f"see stop_reason in {options.output}"
        )
    if result.n_left_saddle_point:
        n = result.n_left_saddle_point
        starts = "symmetric start" if n == 1 else "symmetric starts"
        lines.append(f"{n} {starts} first ended in a saddle point; relaxed further; see left_saddle_point")
    lines += result.vibrations.lines()
    if result.changed:
        name, how = next(iter(result.changed.items()))
        first = f"{name}{and_more(len(result.changed))}"
        lines.append(f"warning: {first}: no longer that molecule: {how}; see changed_molecule in {options.output}")
    for reason, names in list(result.unlike.items())[:SHOWN]:
        first = f"{next(iter(names))}{and_more(len(names))}"
        lines.append(f"warning: {first}: unlike the training data: {reason}")
    if len(result.unlike) > SHOWN:
        n = len(result.unlike) - SHOWN
        lines.append(f"warning: {n} more such reasons; see unlike_training in {options.output}")
    return lines
