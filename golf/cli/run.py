"""The command `golf run`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

USAGE = "golf run [CONFIG] [--cores N | --profile NAME] [SNAKEMAKE OPTIONS]"


def add_run(commands: argparse._SubParsersAction) -> None:
    """Add the command; what follows it is Snakemake's, so options are not parsed here."""
    run = commands.add_parser(
        "run",
        help="run a study",
        usage=USAGE,
        description="Run the study of a configuration (default: config.yaml) with Snakemake, in this folder. Run the "
        "same command again after an interruption or a crash; nothing that is finished is repeated. Studies with "
        "different results folders may run at the same time. Without --cores all of them are used; --profile slurm "
        "submits jobs (docs/hpc.md). Further options and targets are passed to Snakemake, such as -n for a dry run.",
        prefix_chars="+",
        add_help=False,
    )
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="", help=argparse.SUPPRESS)
    run.set_defaults(command=_run, resumes=True, print_help=run.print_help)


def _run(options: argparse.Namespace) -> int:
    from golf.study.launch import run

    arguments: list[str] = options.arguments
    print_help: Callable[[], None] = options.print_help
    if arguments[:1] in (["-h"], ["--help"]):
        print_help()
        return 0
    if arguments and not arguments[0].startswith("-"):
        config, *rest = arguments
        arguments = [*rest[: _end_of_options(rest)], "--configfile", config, *rest[_end_of_options(rest) :]]
    return run(arguments)


def _end_of_options(arguments: list[str]) -> int:
    """Where `--`, after which only targets follow, is; the end if there is none."""
    return arguments.index("--") if "--" in arguments else len(arguments)
