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
from golf.errors import UserError
from golf.files import DISK_FULL
from golf.job import exit_on_sigterm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 after wrong input."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, exit_on_sigterm)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        options.command(options)
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
    parser = argparse.ArgumentParser(prog="golf", description="Labels, relaxations and files of GOLF studies.")
    parser.add_argument("--version", action="version", version=f"golf {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_label(commands)
    _add_relax(commands)
    _add_import_checkpoint(commands)
    inspect = commands.add_parser(
        "inspect", help="say what is in a file", description="Summary of an .h5 or model file."
    )
    inspect.add_argument("file", type=Path, help="conformations (.h5) or a model (.pt)")
    inspect.set_defaults(command=_inspect)
    _add_estimate(commands)
    _add_status(commands)
    return parser


_CONFIG_HELP = "configuration of the study (.yaml)"
_INPUT_HELP = "conformations: .h5, .sdf, .xyz, .extxyz, ASE .db; or SMILES: .smi, .csv (columns smiles and name)"


def _add_input(command: argparse.ArgumentParser) -> None:
    command.add_argument("input", type=Path, metavar="IN", help=_INPUT_HELP)
    command.add_argument("--conformers", type=int, default=1, help="ETKDG conformers per SMILES (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="of the conformers (default: %(default)s)")


def _add_output(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    command.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=text)
    command.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")


def _add_label(commands: argparse._SubParsersAction) -> None:
    label = commands.add_parser(
        "label",
        help="energies and forces with Psi4, PySCF or an ASE calculator",
        description="Compute energies (hartree) and forces (hartree/angstrom) with a pool of processes. An "
        "interrupted run goes on from the journal beside the output.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_input(label)
    _add_output(label, "OUT.h5", "labelled conformations")
    label.add_argument("--program", default="psi4", help="psi4, pyscf or ase")
    label.add_argument("--method", default="wb97x-d", help="method, as the program names it; of ase, a calculator")
    label.add_argument("--basis", help="basis set; None: def2-svp, or none with ase")
    label.add_argument("--keywords", type=json.loads, default={}, metavar="JSON", help="further options of the program")
    _add_cores(label)
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
    _positive("--cores", options.cores)
    _positive("--memory", options.memory)
    _positive("--time-limit", options.time_limit)
    if not isinstance(options.keywords, dict):
        raise UserError('--keywords: must be a JSON object, such as \'{"scf_type": "pk"}\'')
    _check_output(options, (".h5",))
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
        description="Relax conformations with a neural network potential (L-BFGS).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_input(relax)
    relax.add_argument("-m", "--model", type=Path, required=True, help="model that golf has trained")
    _add_output(relax, "OUT", ".h5, .sdf, .xyz or .extxyz")
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
    relax.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where the network runs")
    _add_cores(relax)
    relax.set_defaults(command=_relax)


def _relax(options: argparse.Namespace) -> None:
    from golf.hdf5 import write
    from golf.parallel import ThreadedPotential
    from golf.potential import load, pick_device
    from golf.relaxation import Optimizer, relax
    from golf.structures import OUTPUTS, read_structures, write_structures
    from golf.units import hartree

    _check_output(options, OUTPUTS)
    _check_conformers(options)
    _positive("--cores", options.cores)
    _positive("--force-threshold", options.force_threshold)
    potential = load(options.model, pick_device(options.device))
    conformations = read_structures(options.input, conformers=options.conformers, seed=options.seed)
    potential.check_elements(conformations, options.input)
    with ThreadedPotential(potential, options.cores) as threaded:
        relaxed = relax(
            conformations,
            threaded,
            force_threshold=hartree(options.force_threshold),
            max_steps=options.max_steps,
            slots=options.slots,
            optimizer=Optimizer(options.optimizer),
        )
    if options.output.suffix == ".h5":
        write(options.output, relaxed, model=str(options.model), **potential.provenance.level)
    else:
        write_structures(options.output, relaxed, relaxed.values["nnp_energy_last"])


def _add_import_checkpoint(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "import-checkpoint",
        help="make a model file of published GOLF weights",
        description="Make a model file of a published GOLF checkpoint: a folder with config.json and "
        "NNP_checkpoint_actor.",
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="the checkpoint")
    _add_output(command, "OUT.pt", "model file")
    command.add_argument(
        "--reference-energies",
        type=Path,
        metavar="FILE.json",
        help="energies of isolated atoms in hartree by element symbol (default: those of nablaDFT)",
    )
    command.set_defaults(command=_import_checkpoint)


def _import_checkpoint(options: argparse.Namespace) -> None:
    from golf.published import import_checkpoint, read_energies

    _check_output(options, (".pt",))
    given = options.reference_energies
    import_checkpoint(options.folder, None if given is None else read_energies(given)).save(options.output)


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
    estimate.add_argument("config", type=Path, metavar="CONFIG", help=_CONFIG_HELP)
    estimate.add_argument(
        "--jobs", type=int, metavar="N", help="label jobs at a time, as on a cluster (default: what fits on --cores)"
    )
    _add_cores(estimate)
    estimate.set_defaults(command=_estimate)


def _add_cores(command: argparse.ArgumentParser) -> None:
    here = os.cpu_count() or 1
    command.add_argument("--cores", type=int, default=here, help="cores of this machine to use (default: %(default)s)")


def _estimate(options: argparse.Namespace) -> None:
    from golf.config import read_config
    from golf.estimate import estimate

    _positive("--cores", options.cores)
    if options.jobs is not None:
        _positive("--jobs", options.jobs)
    print(estimate(read_config(options.config), jobs=options.jobs, cores=options.cores))


def _add_status(commands: argparse._SubParsersAction) -> None:
    status = commands.add_parser(
        "status",
        help="say how far a study is",
        description="Stages and rounds, labels done and failed by reason, core-hours spent, a forecast of the rest.",
    )
    default = Path("config.yaml")
    status.add_argument(
        "config", type=Path, metavar="CONFIG", nargs="?", default=default, help=f"{_CONFIG_HELP} (default: {default})"
    )
    _add_cores(status)
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> None:
    from golf.config import check_results, read_config
    from golf.status import status

    _positive("--cores", options.cores)
    config = read_config(options.config)
    check_results(config)
    print(status(config, options.cores))


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{name} {value}: must be positive")


def _check_conformers(options: argparse.Namespace) -> None:
    _positive("--conformers", options.conformers)
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must not be negative")


def _check_output(options: argparse.Namespace, suffixes: Sequence[str]) -> None:
    """Find out now, not after hours, whether the output can be written."""
    output: Path = options.output
    if output.suffix not in suffixes:
        raise UserError(f"{output}: unknown suffix {output.suffix!r}; give one of {' '.join(suffixes)}")
    if output.exists() and not options.force:
        raise UserError(f"{output}: exists; give another name, or --force to replace it")
    folder = output.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{output}: the folder {folder} does not exist or cannot be written to")


if __name__ == "__main__":
    sys.exit(main())
