"""The command `golf label`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from golf.cli.options import add_cores, add_input, add_output, check_input, check_output, positive
from golf.core.errors import UserError


def add_label(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf label`."""
    label = commands.add_parser(
        "label",
        help="compute energies and forces with Psi4, PySCF or an ASE calculator",
        description="Compute energies (hartree) and forces (hartree/angstrom) with a pool of processes. Run the same "
        "command again to resume an interrupted run from the journal beside the output. Exit status 1: some "
        "conformations have no label.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_input(label)
    add_output(label, "OUT.h5", "labelled conformations")
    label.add_argument("--program", default="psi4", help="psi4, pyscf or ase")
    label.add_argument("--method", default="wb97x-d", help="method, as the program names it; with ase, a calculator")
    label.add_argument("--basis", help="basis set; None: def2-svp, or none with ase")
    label.add_argument("--keywords", default="{}", metavar="JSON", help="further options of the program")
    add_cores(label)
    label.add_argument("--memory", type=int, default=1000, metavar="MB", help="memory per process")
    label.add_argument("--time-limit", type=float, default=3600.0, metavar="SECONDS", help="limit per conformation")
    label.add_argument("--python", help="Python interpreter that can import psi4")
    label.set_defaults(command=_label, resumes=True)


def _label(options: argparse.Namespace) -> int:
    from golf.core.conformations import Status
    from golf.core.deadline import Deadline
    from golf.core.level import LevelOfTheory
    from golf.io.read import read_structures
    from golf.oracles.labeling import label_to_file
    from golf.oracles.programs.registry import program

    default_basis = program(options.program).default_basis
    positive("--cores", options.cores)
    positive("--memory", options.memory)
    positive("--time-limit", options.time_limit)
    keywords = _keywords(options.keywords)
    check_output(options, (".h5",))
    check_input(options)
    conformations = read_structures(
        options.input, conformers=options.conformers, seed=options.seed, timeout=options.embed_timeout
    ).bare()
    labelled = label_to_file(
        conformations,
        options.output,
        level=LevelOfTheory(options.program, options.method, options.basis or default_basis, keywords),
        n_workers=options.cores,
        check=True,
        deadline=Deadline.of_this_job(),
        memory_mb=options.memory,
        time_limit=options.time_limit,
        python=options.python,
    )
    n_ok = int((labelled.values["status"] == Status.OK).sum())
    rest = "" if n_ok == len(labelled) else "; columns status and message say why the others have none"
    print(f"golf: {n_ok} of {len(labelled)} conformations have a label in {options.output}{rest}", file=sys.stderr)
    return 0 if n_ok == len(labelled) else 1


def _keywords(text: str) -> dict[str, Any]:
    try:
        keywords = json.loads(text)
    except ValueError:
        keywords = None
    if not isinstance(keywords, dict):
        raise UserError(f'--keywords {text}: not a JSON object; write it like \'{{"scf_type": "pk"}}\'')
    return keywords
