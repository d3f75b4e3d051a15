"""The commands on a whole study: `golf estimate` and `golf status`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from golf.cli.options import CONFIG_HELP, add_cores, positive
from golf.core.errors import UserError


def add_estimate(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf estimate`."""
    estimate = commands.add_parser(
        "estimate",
        help="estimate the cost of a study",
        description="Estimate the labels, core-hours, network hours and wall time of a study before running it. Wall "
        "times of labels that already exist, in the results or in the data, calibrate the estimate.",
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


def add_status(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf status`."""
    status = commands.add_parser(
        "status",
        help="show the progress of a study",
        description="Show the stages and rounds of a study: labels done, labels failed by reason, core-hours spent, "
        "and a forecast of the rest.",
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
        help="keep the table on the terminal and refresh it (default: every 10 seconds) until the study is done or "
        "Ctrl-C",
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
        raise UserError("stdout is not a terminal; drop --watch")
    watch(config, options.cores, options.watch)
