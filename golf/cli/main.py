"""The entry point of the command `golf`: parse, run one command, turn errors into one line and an exit status."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence

from golf import __version__
from golf.cli.catalog import add_models
from golf.cli.check import add_check
from golf.cli.convert import add_convert, add_merge
from golf.cli.inspect import add_inspect
from golf.cli.label import add_label
from golf.cli.models import add_export, add_import_checkpoint, add_learning_curve, add_train
from golf.cli.optimize import add_optimize
from golf.cli.relax import add_relax
from golf.cli.run import add_run
from golf.cli.study import add_estimate, add_status
from golf.core.ending import end_on_signals, run
from golf.core.errors import UserError
from golf.core.files import DISK_FULL


class _Line(logging.Formatter):
    """Format log records like golf's other lines on stderr: "golf: warning: ..."."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; records of level INFO do not name their level."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"golf: {level}{super().format(record)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 if some records were left out, or 2 after wrong input."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding cannot show
    options = _parser().parse_args(arguments)
    end_on_signals()
    to_terminal = logging.StreamHandler()
    to_terminal.setFormatter(_Line())
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, handlers=[to_terminal])
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # without $HOME it warns of its temporary folder
    # Anything that takes minutes reports its progress, also where stderr is a log file
    logging.getLogger("golf.core.progress").setLevel(logging.INFO)
    try:
        return options.command(options) or 0
    except UserError as error:
        print(f"golf: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `golf inspect FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        remedy = "; free space (or raise the quota) and run the same command again" if error.errno in DISK_FULL else ""
        where = f"{error.filename}: {(error.strerror or '').lower()}" if error.filename else str(error)
        print(f"golf: error: {where}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resume = "; run the same command again to resume" if options.resumes else ""
        print(f"golf: interrupted{resume}", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="golf", description="Label conformations, train models, relax molecules, and follow GOLF studies."
    )
    parser.add_argument("--version", action="version", version=f"golf {__version__}")
    parser.set_defaults(resumes=False)
    parser.add_argument("-v", "--verbose", action="store_true", help="report each step")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_label(commands)
    add_relax(commands)
    add_models(commands)
    add_check(commands)
    add_optimize(commands)
    add_train(commands)
    add_learning_curve(commands)
    add_export(commands)
    add_import_checkpoint(commands)
    add_inspect(commands)
    add_convert(commands)
    add_merge(commands)
    add_run(commands)
    add_estimate(commands)
    add_status(commands)
    return parser


def program() -> None:
    """Run `golf` as a program."""
    run(main)


if __name__ == "__main__":
    program()
