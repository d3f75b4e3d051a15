"""The command `golf inspect`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_inspect(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf inspect`."""
    inspect = commands.add_parser(
        "inspect", help="show what is in a file", description="Summarize a file of conformations or a model."
    )
    inspect.add_argument("file", type=Path, help="conformations in any format (docs/data.md) or a model (.pt)")
    inspect.set_defaults(command=_inspect)


def _inspect(options: argparse.Namespace) -> None:
    from golf.cli.summary import describe

    print(describe(options.file))
