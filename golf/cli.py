"""The command `golf`: its parser and what its commands call. Wrong input ends with status 2 and one line on stderr."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from golf import __version__
from golf.cli_models import add_export, add_import_checkpoint, add_learning_curve, add_train
from golf.cli_options import CONFIG_HELP, add_cores, add_device, add_output, check_output, positive
from golf.errors import UserError
from golf.files import DISK_FULL
from golf.job import exit_on_sigterm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 where some records were left out, or 2 after wrong input."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, exit_on_sigterm)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return options.command(options) or 0
    except UserError as error:
        print(f"golf: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `golf inspect FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        remedy = "; free space (or raise the quota) and type the same again" if error.errno in DISK_FULL else ""
        print(f"golf: error: {error}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("golf: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="golf", description="Labels, models, relaxations and files of GOLF studies.")
    parser.add_argument("--version", action="version", version=f"golf {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_label(commands)
    _add_relax(commands)
    add_train(commands)
    add_learning_curve(commands)
    add_export(commands)
    add_import_checkpoint(commands)
    inspect = commands.add_parser(
        "inspect", help="say what is in a file", description="Summary of a file of conformations or of a model."
    )
    inspect.add_argument("file", type=Path, help="conformations of any format (docs/data.md) or a model (.pt)")
    inspect.set_defaults(command=_inspect)
    _add_estimate(commands)
    _add_status(commands)
    return parser


PIECE = 4096
"""Conformations of a library in memory at a time."""

SHOWN = 10
"""Records left out that are named one by one."""

_INPUT_HELP = (
    "conformations: .h5, SPICE .hdf5, .sdf, .xyz, .extxyz, ASE .db (also of nablaDFT); or SMILES: .smi, .csv (columns "
    "smiles and name)"
)


def _add_input(command: argparse.ArgumentParser) -> None:
    command.add_argument("input", type=Path, metavar="IN", help=_INPUT_HELP)
    command.add_argument("--conformers", type=int, default=1, help="ETKDG conformers per SMILES (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of the conformers (default: %(default)s)")


def _add_label(commands: argparse._SubParsersAction) -> None:
    label = commands.add_parser(
        "label",
        help="energies and forces with Psi4, PySCF or an ASE calculator",
        description="Compute energies (hartree) and forces (hartree/angstrom) with a pool of processes. An "
        "interrupted run goes on from the journal beside the output.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_input(label)
    add_output(label, "OUT.h5", "labelled conformations")
    label.add_argument("--program", default="psi4", help="psi4, pyscf or ase")
    label.add_argument("--method", default="wb97x-d", help="method, as the program names it; of ase, a calculator")
    label.add_argument("--basis", help="basis set; None: def2-svp, or none with ase")
    label.add_argument("--keywords", type=json.loads, default={}, metavar="JSON", help="further options of the program")
    add_cores(label)
    label.add_argument("--memory", type=int, default=1000, metavar="MB", help="memory per process")
    label.add_argument("--time-limit", type=float, default=3600.0, metavar="SECONDS", help="for one conformation")
    label.add_argument("--python", help="Python interpreter that has Psi4")
    label.set_defaults(command=_label)


def _label(options: argparse.Namespace) -> None:
    from golf.deadline import Deadline
    from golf.labeling import label_to_file
    from golf.oracles.base import LevelOfTheory
    from golf.oracles.programs import program
    from golf.structures import read_structures

    default_basis = program(options.program).default_basis
    positive("--cores", options.cores)
    positive("--memory", options.memory)
    positive("--time-limit", options.time_limit)
    if not isinstance(options.keywords, dict):
        raise UserError('--keywords: must be a JSON object, such as \'{"scf_type": "pk"}\'')
    check_output(options, (".h5",))
    _check_conformers(options)
    conformations = read_structures(options.input, conformers=options.conformers, seed=options.seed).bare()
    label_to_file(
        conformations,
        options.output,
        level=LevelOfTheory(options.program, options.method, options.basis or default_basis, options.keywords),
        n_workers=options.cores,
        check=True,
        deadline=Deadline.of_this_job(),
        memory_mb=options.memory,
        time_limit=options.time_limit,
        python=options.python,
    )


def _add_relax(commands: argparse._SubParsersAction) -> None:
    relax = commands.add_parser(
        "relax",
        help="relax conformations with a model",
        description="Relax conformations with a neural network potential. Files of any size are worked off in pieces; "
        "a run that was cut off goes on when the same command is typed again. Exit status 1: some records were left "
        "out, listed in OUT.left_out.csv.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_input(relax)
    relax.add_argument("-m", "--model", type=Path, required=True, help="model that golf has trained")
    add_output(relax, "OUT", ".h5, .sdf, .xyz or .extxyz")
    relax.add_argument(
        "--force-threshold", type=float, default=0.1, metavar="F", help="largest force on an atom, kcal/mol/angstrom"
    )
    relax.add_argument("--max-steps", type=int, default=500, help="limit of L-BFGS steps")
    relax.add_argument(
        "--optimizer",
        choices=["lbfgs", "preconditioned"],
        default="preconditioned",
        help="plain L-BFGS, or one that starts from the Hessian of MMFF and needs fewer evaluations",
    )
    relax.add_argument("--slots", type=int, default=128, help="molecules relaxed at once")
    add_device(relax)
    add_cores(relax)
    relax.set_defaults(command=_relax)


def _relax(options: argparse.Namespace) -> int:
    from golf.formats import format_of
    from golf.library import fingerprint, relax_library
    from golf.parallel import ThreadedPotential
    from golf.pieces import Embedding, pieces_of
    from golf.potential import load, pick_device
    from golf.relaxation import Optimizer, relax
    from golf.structures import OUTPUTS
    from golf.units import hartree

    format_of(options.input)
    check_output(options, OUTPUTS)
    _check_conformers(options)
    positive("--cores", options.cores)
    positive("--force-threshold", options.force_threshold)
    potential = load(options.model, pick_device(options.device))
    settings = {
        name: getattr(options, name) for name in ("conformers", "seed", "force_threshold", "max_steps", "slots")
    }
    settings |= {"optimizer": options.optimizer, "input": str(options.input), "golf": __version__}
    settings["contents"] = fingerprint(options.input, options.model)
    embedding = Embedding(options.conformers, seed=options.seed, threads=options.cores)
    with ThreadedPotential(potential, options.cores) as threaded:
        outcome = relax_library(
            pieces_of(options.input, elements=potential.elements, size=PIECE, embedding=embedding),
            options.output,
            lambda conformations: relax(
                conformations,
                threaded,
                force_threshold=hartree(options.force_threshold),
                max_steps=options.max_steps,
                slots=options.slots,
                optimizer=Optimizer(options.optimizer),
            ),
            run=settings,
            attrs={"model": str(options.model), **potential.provenance.level},
            restart=options.force,
        )
    for out in outcome.left_out[:SHOWN]:
        print(f"golf: {options.input}: line {out.line} ({out.name}) is left out: {out.reason}", file=sys.stderr)
    if outcome.left_out:
        print(
            f"golf: {outcome.n_relaxed} conformations are in {options.output}; {len(outcome.left_out)} records were "
            f"left out, listed in {options.output}.left_out.csv",
            file=sys.stderr,
        )
    return 1 if outcome.left_out else 0


def _inspect(options: argparse.Namespace) -> None:
    from golf.inspection import describe

    print(describe(options.file))


def _add_estimate(commands: argparse._SubParsersAction) -> None:
    estimate = commands.add_parser(
        "estimate",
        help="say what a study will cost",
        description="Labels, core-hours, hours of the network and wall time of a study before it is paid for. Wall "
        "times of labels that are there, in the results or in the data, calibrate the forecast.",
    )
    estimate.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG_HELP)
    estimate.add_argument(
        "--jobs", type=int, metavar="N", help="label jobs at a time, as on a cluster (default: what fits on --cores)"
    )
    add_cores(estimate)
    estimate.set_defaults(command=_estimate)


def _estimate(options: argparse.Namespace) -> None:
    from golf.config import read_config
    from golf.estimate import estimate

    positive("--cores", options.cores)
    if options.jobs is not None:
        positive("--jobs", options.jobs)
    print(estimate(read_config(options.config), jobs=options.jobs, cores=options.cores))


def _add_status(commands: argparse._SubParsersAction) -> None:
    status = commands.add_parser(
        "status",
        help="say how far a study is",
        description="Stages and rounds, labels done and failed by reason, core-hours spent, a forecast of the rest.",
    )
    default = Path("config.yaml")
    status.add_argument(
        "config", type=Path, metavar="CONFIG", nargs="?", default=default, help=f"{CONFIG_HELP} (default: {default})"
    )
    add_cores(status)
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> None:
    from golf.config import check_results, read_config
    from golf.status import status

    positive("--cores", options.cores)
    config = read_config(options.config)
    check_results(config)
    print(status(config, options.cores))


def _check_conformers(options: argparse.Namespace) -> None:
    positive("--conformers", options.conformers)
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must not be negative")


if __name__ == "__main__":
    sys.exit(main())
