"""The commands that turn files of conformations into others: `golf convert` and `golf merge`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from golf.cli.options import add_output, check_output
from golf.core.errors import UserError
from golf.core.level import LevelOfTheory, described, parsed
from golf.core.wording import and_more, counted

SHOWN = 10
"""How many left-out records are listed one by one."""


def add_convert(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf convert`."""
    command = commands.add_parser(
        "convert",
        help="convert conformations and labels to another format",
        description="Convert conformations, with their labels, between golf's .h5, extended XYZ (REF_energy and "
        "REF_forces in eV and eV/angstrom, charge, level of theory), ASE databases (.db) and SDF. nablaDFT and SPICE "
        "files are read as well. .h5, .extxyz and .db keep labels to the last bit; what the output does not keep is "
        "listed. Exit status 1: some records were left out, listed in OUT.left_out.csv.",
    )
    command.add_argument("input", type=Path, metavar="IN", help="file of conformations; text files may be .gz")
    command.add_argument("output", type=Path, metavar="OUT", help=".h5, .extxyz, .xyz, .db or .sdf")
    command.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")
    command.add_argument(
        "--energy-key",
        metavar="KEY",
        help="name of the energy in extended XYZ (default: REF_energy; energy is read as well)",
    )
    command.add_argument(
        "--forces-key",
        metavar="KEY",
        help="name of the forces in extended XYZ (default: REF_forces; forces are read as well)",
    )
    add_level(command)
    command.set_defaults(command=_convert)


def add_level(command: argparse.ArgumentParser) -> None:
    """Add the option --level."""
    command.add_argument(
        "--level",
        metavar="LEVEL",
        help="level of theory of labels that do not state theirs, as PROGRAM:METHOD/BASIS (psi4:wb97x-d/def2-svp)",
    )


def given_level(options: argparse.Namespace) -> LevelOfTheory | None:
    """Return the level of theory that --level states; None if it was not given.

    Raises:
        UserError: it does not state a program and a method.
    """
    return None if options.level is None else parsed(options.level)


def _convert(options: argparse.Namespace) -> int:
    from golf.io.convert import CONVERTED, convert, label_keys
    from golf.io.records import place_of, write_left_out

    check_output(options, CONVERTED)
    keys = label_keys(options.energy_key, options.forces_key)
    report = options.output.with_name(f"{options.output.name}.left_out.csv")
    done = convert(options.input, options.output, keys=keys, level=given_level(options))
    report.unlink(missing_ok=True)
    for out in done.left_out[:SHOWN]:
        print(f"golf: {options.input}: {place_of(out, options.input)} is left out: {out.reason}", file=sys.stderr)
    labels = f", {counted(done.n_labels, 'label')}" if done.n_labels else ", no labels"
    of_level = f" of {described(done.attrs)}" if done.n_labels and "method" in done.attrs else ""
    print(f"golf: {options.output}: {counted(done.n, 'conformation')}{labels}{of_level}", file=sys.stderr)
    if done.n_labels and "method" not in done.attrs:
        print("golf: warning: the labels do not state their level of theory; give it with --level", file=sys.stderr)
    if done.lost:
        print(f"golf: not kept: {', '.join(done.lost)}", file=sys.stderr)
    if done.left_out:
        write_left_out(report, done.left_out)
        print(f"golf: {counted(len(done.left_out), 'record')} left out, listed in {report}", file=sys.stderr)
    return 1 if done.left_out else 0


def add_merge(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf merge`."""
    command = commands.add_parser(
        "merge",
        help="merge files of labels",
        description="Merge files of labels of one level of theory into one, each geometry once. Ids and names that are "
        "taken are made unique; status, times and recovery of each label are kept.",
    )
    command.add_argument("labels", type=Path, nargs="+", metavar="LABELS.h5", help="files of labels")
    add_output(command, "OUT.h5", "labels of all files")
    command.set_defaults(command=_merge)


def _merge(options: argparse.Namespace) -> None:
    from golf.core.files import suffix_of
    from golf.io.merge import SAME_ENERGY, merge

    check_output(options, (".h5",))
    for path in options.labels:
        if suffix_of(path) != ".h5":
            raise UserError(f"{path}: not a .h5 file of labels; make one with golf convert")
    merged = merge(options.labels, options.output)
    files = counted(len(options.labels), "file")
    print(
        f"golf: {options.output}: {counted(merged.n, 'conformation')} of {files}, {counted(merged.n_labels, 'label')}",
        file=sys.stderr,
    )
    if merged.n_twice:
        print(f"golf: {counted(merged.n_twice, 'conformation')} left out: the geometry is there twice", file=sys.stderr)
    if merged.largest_difference > SAME_ENERGY:
        most = f"up to {merged.largest_difference:.2g} hartree"
        print(f"golf: warning: labels of one geometry differ by {most}; the first is kept", file=sys.stderr)
    if merged.renamed:
        old, new = merged.renamed[0]
        print(f"golf: {old}{and_more(len(merged.renamed))}: the name is taken; renamed to {new}", file=sys.stderr)
    if merged.lost:
        print(f"golf: not kept, because not all files have it: {', '.join(merged.lost)}", file=sys.stderr)
