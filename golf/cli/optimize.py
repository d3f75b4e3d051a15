"""The command `golf optimize`."""

from __future__ import annotations

import argparse
import math
import re
import sys

from golf.cli.options import HelpWithDefaults, add_output, check_output, positive
from golf.cli.oracle import add_ends, add_oracle, from_ends, level_from, pool_from
from golf.core.errors import UserError
from golf.core.wording import counted

SHOWN = 10
"""How many left-out records are listed one by one."""


def add_optimize(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf optimize`."""
    optimize = commands.add_parser(
        "optimize",
        help="optimize geometries with an oracle",
        description="Find the minima of an oracle, such as DFT, from relaxed geometries, with geomeTRIC and a Hessian "
        "of GFN2-xTB. Run the same command again to resume an interrupted run from the journal beside the output. Exit "
        "status 1: some records have no minimum, listed in OUT.left_out.csv.",
        formatter_class=HelpWithDefaults,
    )
    add_ends(optimize)
    add_output(optimize, "OUT", ".h5, .sdf, .xyz or .extxyz")
    optimize.add_argument("--top", type=int, metavar="K", help="only the K lowest of each molecule, by the input")
    optimize.add_argument(
        "--window",
        type=float,
        metavar="KCAL",
        help="only those up to this energy (kcal/mol) above the lowest of the molecule, by the input",
    )
    optimize.add_argument(
        "--hessian", choices=["gfn2", "none"], default="gfn2", help="Hessian to begin with; none: geomeTRIC's guess"
    )
    optimize.add_argument("--max-steps", type=int, default=200, metavar="N", help="limit of optimizer steps")
    optimize.add_argument(
        "--force-threshold",
        type=float,
        metavar="F",
        help="largest force on an atom at a minimum, kcal/mol/angstrom; the other criteria scale with it (None: 0.53, "
        "as Gaussian's default)",
    )
    optimize.add_argument(
        "--batch",
        metavar="K/N",
        help="only the K-th of N batches of equal predicted time, for N jobs of a cluster with an output each",
    )
    add_oracle(optimize)
    optimize.set_defaults(command=from_ends(_optimize), resumes=True)


def _optimize(options: argparse.Namespace) -> int:
    from golf.core.deadline import Deadline
    from golf.core.units import hartree
    from golf.io.ends import read_ends
    from golf.io.records import place_of, write_left_out
    from golf.io.write import OUTPUTS
    from golf.oracles.geometric import FORCE_THRESHOLD
    from golf.oracles.quote import ask_basis, quoted_minima
    from golf.relaxation.oracle_minima import one_batch, optimize_ends, structures

    for name in ("top", "max_steps", "force_threshold"):
        if getattr(options, name) is not None:
            positive(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.window is not None and not (options.window >= 0.0 and math.isfinite(options.window)):
        raise UserError(f"--window {options.window}: must not be negative")
    index, n_batches = _batch(options.batch)
    level = level_from(options)
    check_output(options, OUTPUTS)
    ends = read_ends(options.input)
    basis = ask_basis(level, sorted(set(ends.conformations.number.tolist())), options.python)
    chosen = structures(ends, options.input, level, basis, top=options.top, window=options.window)
    left_out = chosen.left_out
    chosen = one_batch(chosen, index, n_batches, basis)
    if index:  # the first batch lists the records that no batch has
        left_out = []
    if not len(chosen.conformations):
        _say(f"--batch {options.batch}: no conformation is left for this batch; nothing to do")
        return 0
    n, of = len(chosen.conformations), len(ends.conformations)
    _say(f"{counted(n, 'optimization')} at {level}, of {counted(of, 'conformation')} in {options.shown}")
    _say(f"cost: {quoted_minima(chosen.conformations, level, basis, options.cores)}")
    threshold = FORCE_THRESHOLD if options.force_threshold is None else hartree(options.force_threshold)
    minima, failed = optimize_ends(
        chosen,
        options.output,
        level=level,
        n_workers=options.cores,
        with_hessians=options.hessian == "gfn2",
        max_steps=options.max_steps,
        force_threshold=threshold,
        deadline=Deadline.of_this_job(),
        **pool_from(options),
    )
    left_out = sorted([*left_out, *failed], key=lambda out: out.line)
    report = options.output.with_name(f"{options.output.name}.left_out.csv")
    report.unlink(missing_ok=True)
    for out in left_out[:SHOWN]:
        _say(f"{options.shown}: {place_of(out, options.shown)} is left out: {out.reason}")
    if left_out:
        write_left_out(report, left_out)
        _say(f"{counted(len(left_out), 'record')} left out, listed in {report}")
    if not len(minima):
        raise UserError(f"{options.shown}: no minimum was found; see {report}")
    gradients = minima.values["n_force_evaluations"]
    minima_are = "1 minimum is" if len(minima) == 1 else f"{len(minima)} minima are"
    _say(f"{minima_are} in {options.output}, after {gradients.mean():.1f} gradients on average")
    return 1 if left_out else 0


def _batch(text: str | None) -> tuple[int, int]:
    """Return index, from 0, and number of batches.

    Raises:
        UserError: the text is not K/N with 1 <= K <= N.
    """
    if text is None:
        return 0, 1
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise UserError(f"--batch {text}: not the number of a batch; write it like 1/8, the first of eight")
    return int(found[1]) - 1, int(found[2])


def _say(line: str) -> None:
    print(f"golf: {line}", file=sys.stderr)
