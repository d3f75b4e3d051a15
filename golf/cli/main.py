"""The command `golf`: its parser and what its commands call. Wrong input ends with status 2 and one line on stderr."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golf import __version__
from golf.cli.models import add_export, add_import_checkpoint, add_learning_curve, add_train
from golf.cli.options import CONFIG_HELP, add_cores, add_input, add_output, check_input, check_output, positive
from golf.cli.relax import add_relax
from golf.core.ending import end_on_signals, run
from golf.core.errors import UserError
from golf.core.files import DISK_FULL


class _Line(logging.Formatter):
    """Records of the log as golf's other lines on stderr: "golf: warning: ..."."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; information has no word for its level."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"golf: {level}{super().format(record)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 where some records were left out, or 2 after wrong input."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    options = _parser().parse_args(arguments)
    end_on_signals()
    to_terminal = logging.StreamHandler()
    to_terminal.setFormatter(_Line())
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, handlers=[to_terminal])
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # without a home it takes a temporary folder: no matter
    logging.getLogger("golf.core.progress").setLevel(
        logging.INFO
    )  # what takes minutes says how far it is, in a log, too
    try:
        return options.command(options) or 0
    except UserError as error:
        print(f"golf: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `golf inspect FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        remedy = "; free space (or raise the quota) and type the same again" if error.errno in DISK_FULL else ""
        where = f"{error.filename}: {(error.strerror or '').lower()}" if error.filename else str(error)
        print(f"golf: error: {where}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        go_on = "; type the same again to go on from what is finished" if options.resumes else ""
        print(f"golf: interrupted{go_on}", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="golf", description="Labels, models, relaxations and files of GOLF studies.")
    parser.add_argument("--version", action="version", version=f"golf {__version__}")
    parser.set_defaults(resumes=False)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_label(commands)
    add_relax(commands)
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


def _add_label(commands: argparse._SubParsersAction) -> None:
    label = commands.add_parser(
        "label",
        help="energies and forces with Psi4, PySCF or an ASE calculator",
        description="Compute energies (hartree) and forces (hartree/angstrom) with a pool of processes. An "
        "interrupted run goes on from the journal beside the output. Exit status 1: not all have a label.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_input(label)
    add_output(label, "OUT.h5", "labelled conformations")
    label.add_argument("--program", default="psi4", help="psi4, pyscf or ase")
    label.add_argument("--method", default="wb97x-d", help="method, as the program names it; of ase, a calculator")
    label.add_argument("--basis", help="basis set; None: def2-svp, or none with ase")
    label.add_argument("--keywords", default="{}", metavar="JSON", help="further options of the program")
    add_cores(label)
    label.add_argument("--memory", type=int, default=1000, metavar="MB", help="memory per process")
    label.add_argument("--time-limit", type=float, default=3600.0, metavar="SECONDS", help="for one conformation")
    label.add_argument("--python", help="Python interpreter that has Psi4")
    label.set_defaults(command=_label, resumes=True)


def _label(options: argparse.Namespace) -> int:
    from golf.core.conformations import Status
    from golf.core.deadline import Deadline
    from golf.core.level import LevelOfTheory
    from golf.io.structures import read_structures
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
    rest = "" if n_ok == len(labelled) else "; status and message say why the others have none"
    print(f"golf: {n_ok} of {len(labelled)} conformations have a label in {options.output}{rest}", file=sys.stderr)
    return 0 if n_ok == len(labelled) else 1


def _keywords(text: str) -> dict[str, Any]:
    try:
        keywords = json.loads(text)
    except ValueError:
        keywords = None
    if not isinstance(keywords, dict):
        raise UserError(f'--keywords {text}: not a JSON object; write \'{{"scf_type": "pk"}}\', or the like')
    return keywords


def _inspect(options: argparse.Namespace) -> None:
    from golf.cli.inspect import describe

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
    from golf.study.config import read_config
    from golf.study.estimate import estimate

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
    status.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="show it in a terminal and refresh it (every 10 seconds) until the study is done or Ctrl-C",
    )
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> None:
    from golf.study.config import check_results, read_config
    from golf.study.status import status, watch

    positive("--cores", options.cores)
    config = read_config(options.config)
    check_results(config)
    if options.watch is None:
        print(status(config, options.cores))
        return
    positive("--watch", options.watch)
    if not sys.stdout.isatty():
        raise UserError("--watch: the output is no terminal; leave it out")
    watch(config, options.cores, options.watch)


def program() -> None:
    """Run `golf` as a program."""
    run(main)


if __name__ == "__main__":
    program()
