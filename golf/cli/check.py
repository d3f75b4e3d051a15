"""The command `golf check`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from golf.cli.options import HelpWithDefaults, add_output, check_output, positive
from golf.cli.oracle import add_ends, add_oracle, from_ends, level_from, pool_from
from golf.core.errors import UserError

SHOWN = 5
"""How many records that cannot be read are listed one by one."""


def add_check(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf check`."""
    check = commands.add_parser(
        "check",
        help="hold relaxed geometries against an oracle",
        description="Label a drawn sample of relaxed geometries with an oracle, and report how far they are above "
        "their local minima (E_loc), the largest forces, and the errors of the energies and forces in the input. Run "
        "the same command again to resume an interrupted run. OUT.csv has a row for each geometry; beside it are "
        "OUT.svg and OUT.png, and OUT.labels.h5, which golf train takes. Exit status 1: some geometries have no label.",
        formatter_class=HelpWithDefaults,
    )
    add_ends(check)
    add_output(check, "OUT.csv", "table of the geometries")
    check.add_argument("-n", "--sample", type=int, default=20, metavar="N", help="number of geometries to label")
    check.add_argument(
        "--per-molecule",
        type=int,
        default=2,
        metavar="K",
        help="draw up to this many geometries of a molecule; with one, there are no errors of energies",
    )
    check.add_argument("--seed", type=int, default=1, help="seed of the sample and of the intervals")
    check.add_argument(
        "--optimize",
        action="store_true",
        help="optimize geometries that are too far from their minimum for the estimate of E_loc; takes many gradients",
    )
    check.add_argument("--max-steps", type=int, default=200, metavar="N", help="limit of the steps of --optimize")
    add_oracle(check)
    check.set_defaults(command=from_ends(_check), resumes=True)


def _check(options: argparse.Namespace) -> int:
    from golf.core.deadline import Deadline
    from golf.core.level import described, level_difference
    from golf.evaluation.checked_ends import KCAL, figure, format_summary, notes, summary, write_table
    from golf.evaluation.figure_style import save
    from golf.io.ends import read_ends
    from golf.io.records import place_of
    from golf.oracles.local_minimum import VALID_BELOW
    from golf.oracles.quote import ask_basis, not_covered, quoted_labels, quoted_minima
    from golf.relaxation.oracle_check import check_ends, draw

    for name in ("sample", "per_molecule", "max_steps"):
        positive(f"--{name.replace('_', '-')}", getattr(options, name))
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must not be negative")
    level = level_from(options)
    _check_outputs(options)
    ends = read_ends(options.input)
    for out in ends.left_out[:SHOWN]:
        _say(f"{options.shown}: {place_of(out, options.shown)} is left out: {out.reason}")
    if len(ends.left_out) > SHOWN:
        _say(f"{options.shown}: {len(ends.left_out) - SHOWN} more records are left out")
    basis = ask_basis(level, sorted(set(ends.conformations.number.tolist())), options.python)
    foreign = not_covered(ends.conformations, level, basis)
    covered = ends.subset([i for i, reason in enumerate(foreign) if not reason])
    if len(covered.conformations) < len(foreign):
        first = next(i for i, reason in enumerate(foreign) if reason)
        n = len(foreign) - len(covered.conformations)
        _say(f"{n} of {len(foreign)} geometries are not drawn ({ends.conformations.id[first]}: {foreign[first]})")
    indices = draw(covered.conformations.molecule, options.sample, per_molecule=options.per_molecule, seed=options.seed)
    drawn = covered.subset(indices)
    n, of = len(indices), len(ends.conformations)
    _say(f"{n} of {of} geometries are drawn (seed {options.seed}) and labelled at {level}")
    _say(f"cost: {quoted_labels(drawn.conformations, level, basis, options.cores)}")
    if options.optimize:
        cost = quoted_minima(drawn.conformations, level, basis, options.cores)
        _say(f"cost of --optimize, if no estimate is valid: {cost}")
    if ends.level and level_difference(ends.level, level.attrs()):
        _say(f"note: the energies in {options.shown} are of {described(ends.level)}, the labels of {level}")
    checked = check_ends(
        drawn,
        options.output,
        level=level,
        n_workers=options.cores,
        optimize=options.optimize,
        max_steps=options.max_steps,
        attrs={"checked": options.shown, "n_checked_from": of, "sample_seed": options.seed},
        deadline=Deadline.of_this_job(),
        **pool_from(options),
    )
    write_table(options.output, checked)
    save(figure(checked), *_pictures(options.output))
    n_ok = int(checked.has_label.sum())
    print(f"{n_ok} of {of} geometries of {options.shown} (seed {options.seed}), labelled at {level}\n")
    if n_ok:
        print(format_summary(summary(checked, seed=options.seed)))
    for line in notes(checked, VALID_BELOW * KCAL, optimized=options.optimize):
        print(f"- {line}")
    return 0 if n_ok == n and not ends.left_out else 1


def _pictures(output: Path) -> tuple[Path, Path]:
    return output.with_suffix(".svg"), output.with_suffix(".png")


def _check_outputs(options: argparse.Namespace) -> None:
    """Check that all files that the command writes can be written.

    Raises:
        UserError: the output cannot be written, one of the files exists without --force, or is the input.
    """
    from golf.relaxation.oracle_check import labels_path

    check_output(options, (".csv",))
    for path in (labels_path(options.output), *_pictures(options.output)):
        if path.exists() and options.input.exists() and path.samefile(options.input):
            raise UserError(f"{path}: the input, which would be replaced; give another name after -o")


def _say(line: str) -> None:
    print(f"golf: {line}", file=sys.stderr)
