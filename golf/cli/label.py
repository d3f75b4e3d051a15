"""The command `golf label`."""

from __future__ import annotations

import argparse
import sys

from golf.cli.options import HelpWithDefaults, add_input, add_output, check_input, check_output, from_stdin
from golf.cli.oracle import add_oracle, level_from, pool_from


def add_label(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf label`."""
    label = commands.add_parser(
        "label",
        help="compute energies and forces with Psi4, PySCF or an ASE calculator",
        description="Compute energies (hartree) and forces (hartree/angstrom) with a pool of processes. Run the same "
        "command again to resume an interrupted run from the journal beside the output. Exit status 1: some "
        "conformations have no label.",
        formatter_class=HelpWithDefaults,
    )
    add_input(label)
    add_output(label, "OUT.h5", "labelled conformations")
    add_oracle(label)
    label.set_defaults(command=from_stdin(_label), resumes=True)


def _label(options: argparse.Namespace) -> int:
    from golf.core.conformations import Status
    from golf.core.deadline import Deadline
    from golf.io.read import read_structures
    from golf.oracles.labeling import label_to_file

    level = level_from(options)
    check_output(options, (".h5",))
    check_input(options)
    conformations = read_structures(
        options.input, conformers=options.conformers, seed=options.seed, timeout=options.embed_timeout
    ).bare()
    labelled = label_to_file(
        conformations,
        options.output,
        level=level,
        n_workers=options.cores,
        check=True,
        deadline=Deadline.of_this_job(),
        **pool_from(options),
    )
    n_ok = int((labelled.values["status"] == Status.OK).sum())
    rest = "" if n_ok == len(labelled) else "; columns status and message say why the others have none"
    print(f"golf: {n_ok} of {len(labelled)} conformations have a label in {options.output}{rest}", file=sys.stderr)
    return 0 if n_ok == len(labelled) else 1
