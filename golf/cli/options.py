"""Options that several commands of `golf` have, and their checks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from golf.core.errors import UserError
from golf.core.files import suffix_of
from golf.core.processors import usable_processors

CONFIG_HELP = "configuration of the study (.yaml)"


INPUT_HELP = (
    "conformations: .h5, SPICE .hdf5, .sdf, .xyz, .extxyz, ASE .db (also of nablaDFT); or SMILES: .smi, .csv (columns "
    "smiles and name)"
)


def add_input(command: argparse.ArgumentParser) -> None:
    """The input of conformations or molecules, with options --conformers and --seed."""
    command.add_argument("input", type=Path, metavar="IN", help=INPUT_HELP)
    command.add_argument(
        "--conformers",
        type=int,
        metavar="N",
        help="ETKDG conformers per molecule (default: one of a SMILES, the geometries of an .sdf)",
        default=argparse.SUPPRESS,
    )
    command.add_argument("--seed", type=int, default=1, help="of the conformers (default: %(default)s)")
    command.add_argument(
        "--embed-timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds of processor time for the embedding of a molecule with up to 10 conformers, in proportion for "
        "more; one that takes longer is left out (default: %(default)s)",
    )


def check_input(options: argparse.Namespace) -> None:
    """Set --conformers to None where it was not given.

    Raises:
        UserError: the input is of an unknown kind, --conformers or --seed are out of range, or the input has geometries
            and no molecules.
    """
    from golf.io.formats import MOLECULES, format_of

    kind = format_of(options.input)
    if "conformers" not in options:
        options.conformers = None
    elif kind not in MOLECULES:
        raise UserError(f"--conformers: {options.input} has geometries, which are taken as they are; leave it out")
    else:
        positive("--conformers", options.conformers)
    positive("--embed-timeout", options.embed_timeout)
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must not be negative")


def add_output(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """Options --output and --force."""
    command.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=text)
    command.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")


def add_cores(command: argparse.ArgumentParser) -> None:
    """Option --cores."""
    command.add_argument(
        "--cores",
        type=int,
        default=usable_processors(),
        help="cores to use; all that this process may use (default: %(default)s)",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    """Option --device."""
    choices = ["auto", "cpu", "cuda"]
    command.add_argument(
        "--device", choices=choices, default="auto", help="where the network runs (default: %(default)s)"
    )


def positive(name: str, value: float) -> None:
    """Raise a UserError where the value of an option is not positive."""
    if not value > 0:
        raise UserError(f"{name} {value}: must be positive")


_INPUTS = ("input", "labels", "model", "initial", "config", "folder", "reference_energies")
"""Names of the options and arguments that are files to read, in all commands that have an output."""


def _inputs(options: argparse.Namespace) -> Iterator[Path]:
    """The files that a command reads."""
    for name in _INPUTS:
        given: Path | None = getattr(options, name, None)
        if given is not None:
            yield from given.iterdir() if given.is_dir() and os.access(given, os.R_OK) else [given]


def check_output(options: argparse.Namespace, suffixes: Sequence[str]) -> None:
    """Find out now, not after hours, whether the output can be written.

    Raises:
        UserError: it cannot, it exists without --force, or it is one of the inputs, which are never replaced.
    """
    output: Path = options.output
    if suffix_of(output) not in suffixes:
        raise UserError(f"{output}: unknown suffix {output.suffix!r}; give one of {' '.join(suffixes)}")
    if output.is_dir():
        raise UserError(f"{output}: is a folder; give another name")
    for given in _inputs(options):
        if output.exists() and given.exists() and output.samefile(given):
            raise UserError(f"{output}: is the input {given} itself; give another name")
    if output.exists() and not options.force:
        raise UserError(f"{output}: exists; give another name, or --force to replace it")
    folder = output.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{output}: the folder {folder} does not exist or cannot be written to")
