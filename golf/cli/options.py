"""Options shared by several commands of `golf`, and their checks."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from golf.core.errors import UserError
from golf.core.files import suffix_of
from golf.core.processors import usable_processors


class HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Add defaults to the help of options that have one, and so not of flags and of options that must be given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, "") else super()._get_help_string(action)


CONFIG_HELP = "configuration of the study (.yaml)"


INPUT_HELP = (
    "conformations: .h5, SPICE .hdf5, .sdf, .xyz, .extxyz, ASE .db (also of nablaDFT); or SMILES: .smi, .csv (columns "
    "smiles and name); text files may be compressed (.sdf.gz); - for standard input"
)

STDIN = "-"
"""Name of standard input on the command line."""

STDIN_FORMATS = ("smi", "csv", "sdf", "xyz")


def _number_or_auto(text: str) -> int | str:
    """Convert the value of --conformers."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor auto") from None


def add_input(command: argparse.ArgumentParser, *, auto: bool = False) -> None:
    """Add the input of conformations or molecules, with options --conformers, --seed and --embed-timeout.

    Args:
        auto: whether --conformers may be "auto".
    """
    command.add_argument("input", type=Path, metavar="IN", help=INPUT_HELP)
    by_bonds = ", or auto: by the number of rotatable bonds, with --prune in batches until no new minimum comes"
    number = f"ETKDG conformers per molecule{by_bonds if auto else ''}"
    command.add_argument(
        "--format",
        choices=STDIN_FORMATS,
        help="format of standard input, if IN is - (default: smi)",
        default=argparse.SUPPRESS,
    )
    command.add_argument(
        "--conformers",
        type=_number_or_auto if auto else int,
        metavar="N",
        help=f"{number} (default: one for a SMILES, the geometries of an .sdf)",
        default=argparse.SUPPRESS,
    )
    command.add_argument("--seed", type=int, default=1, help="seed of the conformers (default: %(default)s)")
    command.add_argument(
        "--embed-timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="limit of processor time to embed up to 10 conformers of a molecule, in proportion for more; a molecule "
        "that takes longer is left out (default: %(default)s)",
    )


def from_stdin(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return a command that reads standard input if its input is -, from a temporary file that is removed at the end.

    `options.shown` is the name of the input for messages and for the record of a run, which can be resumed with the
    same content.
    """

    def run(options: argparse.Namespace) -> int:
        if str(options.input) != STDIN:
            if "format" in options:
                raise UserError(f"--format: is for standard input (-), and {options.input} has a suffix; drop it")
            options.shown = str(options.input)
            return command(options)
        options.shown = f"stdin.{getattr(options, 'format', STDIN_FORMATS[0])}"
        with tempfile.TemporaryDirectory(prefix="golf-") as folder:
            options.input = Path(folder) / options.shown
            with open(options.input, "wb") as spool:
                if sys.stdin is not None:
                    shutil.copyfileobj(sys.stdin.buffer, spool)
            if not options.input.stat().st_size:
                raise UserError("standard input: empty; pipe molecules into the command, or name a file")
            try:
                return command(options)
            except UserError as error:
                raise UserError(str(error).replace(str(options.input), options.shown)) from None

    return run


def kind_of(options: argparse.Namespace) -> str:
    """Return the format of the input; `golf.relax` states it as `options.kind`.

    Raises:
        UserError: the format is unknown.
    """
    from golf.io.formats import format_of

    return getattr(options, "kind", None) or format_of(options.input)


def check_input(options: argparse.Namespace) -> None:
    """Check the options of `add_input`, and set --conformers to None if it was not given.

    Raises:
        UserError: the format of the input is unknown, an option is out of range, or --conformers was given with an
            input of geometries.
    """
    from golf.io.formats import MOLECULES

    kind = kind_of(options)
    if "conformers" not in options:
        options.conformers = None
    elif kind not in MOLECULES:
        raise UserError(f"--conformers: {options.input} has geometries, which are used as they are; drop the option")
    elif options.conformers != "auto":
        positive("--conformers", options.conformers)
    positive("--embed-timeout", options.embed_timeout)
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: must not be negative")


def add_potential(command: argparse.ArgumentParser) -> None:
    """Add the option --model, which takes any potential."""
    command.add_argument(
        "-m",
        "--model",
        required=True,
        metavar="POTENTIAL",
        help="a model trained by golf (.pt), or a potential by name: golf-10k, aimnet2, gfn2, mmff, "
        "ase:package.module.Class, ... (all names: golf models)",
    )


def add_output(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """Add the options --output and --force."""
    command.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=text)
    command.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")


def add_cores(command: argparse.ArgumentParser) -> None:
    """Add the option --cores."""
    command.add_argument(
        "--cores",
        type=int,
        default=usable_processors(),
        help="cores to use (default: all available, here %(default)s)",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    """Add the option --device."""
    choices = ["auto", "cpu", "cuda"]
    command.add_argument(
        "--device", choices=choices, default="auto", help="device of the network (default: %(default)s)"
    )


def positive(name: str, value: float) -> None:
    """Raise a UserError if the value of an option is not positive."""
    if not value > 0:
        raise UserError(f"{name} {value}: must be positive")


_INPUTS = ("input", "labels", "model", "initial", "config", "folder", "reference_energies")
"""Options and arguments that name files to read, in all commands that have an output."""


def _inputs(options: argparse.Namespace) -> Iterator[Path]:
    """Iterate over the files that a command reads."""
    for name in _INPUTS:
        named: Path | str | Sequence[Path] | None = getattr(options, name, None)
        paths = [Path(named)] if isinstance(named, str | Path) else named or ()  # a potential's name is not a file
        for given in paths:
            yield from given.iterdir() if given.is_dir() and os.access(given, os.R_OK) else [given]


def check_output(options: argparse.Namespace, suffixes: Sequence[str]) -> None:
    """Check before hours of work that the output can be written.

    Raises:
        UserError: the output cannot be written, exists without --force, or is one of the inputs, which are never
            replaced.
    """
    output: Path = options.output
    if suffix_of(output) not in suffixes:
        raise UserError(f"{output}: unknown suffix {output.suffix!r}; give one of {' '.join(suffixes)}")
    if output.is_dir():
        raise UserError(f"{output}: a folder; give the name of a file")
    for given in _inputs(options):
        if output.exists() and given.exists() and output.samefile(given):
            raise UserError(f"{output}: the same file as the input {given}; give another name")
    if output.exists() and not options.force:
        raise UserError(f"{output}: already exists; give another name, or --force to replace it")
    folder = output.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{output}: the folder {folder} does not exist or is not writable; create it or name another")
