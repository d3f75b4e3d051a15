"""Write what a study will cost: the text of `golf estimate`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from golf.core.elements import SYMBOLS
from golf.oracles.settings import processes_on
from golf.study.budget import EVALUATIONS_PER_SELECTION, Network, Part, duration, jobs_at_once, label_parts, network
from golf.study.forecast import Model, calibrated
from golf.study.plan import level_of
from golf.study.workload import Workload, basis_of, workload

NAMED = 5
"""Number of molecules that a message names."""

ROOM = 1.5
"""Factor from the predicted time to a safe limit: predictions are off by up to 25 % on the machine of the fit."""


def estimate(config: Mapping[str, Any], *, jobs: int | None, cores: int) -> str:
    """Return what a study costs, as a table for people; without a final newline.

    Args:
        config: validated.
        jobs: label jobs that run at once; None: as many as fit on `cores`.

    Raises:
        UserError: a source is missing or not usable, or the oracle is needed and not found.
    """
    basis, asked = basis_of(config)
    work = workload(config, basis)
    resources = config["resources"]
    threads = resources["label_threads"]
    n_workers = resources["label_processes"] if jobs is not None else processes_on(config, cores)
    model = calibrated(config, basis)
    given, jobs = jobs is not None, jobs or jobs_at_once(config, cores)
    parts, net = label_parts(config, work, model), network(config, work)
    elements = " ".join(SYMBOLS[z] for z in sorted(basis.functions))
    most, dropped = ("at most ", "; equal conformers will be dropped") if work.at_most else ("", "")
    lines = [
        f"{level_of(config)}; {most}{len(work.training)} training and {len(work.test)} test conformations{dropped}",
        "",
        *table(parts, net, threads, n_workers, jobs),
        *too_long(work, model, config["oracle"]["time_limit"]),
        "",
        f"With {jobs} label job(s) at a time{'' if given else f' ({cores} cores here)'}, each with {n_workers} "
        f"process(es) of {threads} thread(s); stages one after the other, queues not counted.",
        f"  conformations  {work.source}",
        f"  basis set      {asked} ({elements})",
        f"  seconds        {model.source}",
        "  round labels   a round's conformations cost what training conformations cost on average",
        "  DFT minima     14 gradients at 8 atoms, 30 at 30, measured from ETKDG geometries",
        f"  network        {net.source}; relaxations: {EVALUATIONS_PER_SELECTION} evaluations per selected "
        "conformation, the limit in the test",
    ]
    return "\n".join(lines)


def too_long(work: Workload, model: Model, time_limit: float) -> Iterator[str]:
    """Yield lines on molecules whose labels will take longer than `oracle.time_limit`, and what to set.

    In the table each such label counts with the limit, since that is what it will cost.
    """
    seconds = {name: float(model.seconds(np.array([cost]))[0]) for name, (_, cost) in work.molecules.items()}
    beyond = sorted((name for name in seconds if seconds[name] > time_limit), key=lambda name: -seconds[name])
    if not beyond:
        return
    named = ", ".join(f"{name} ({work.molecules[name][0]} atoms, {seconds[name]:.0f} s)" for name in beyond[:NAMED])
    more = f" and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
    enough = math.ceil(ROOM * seconds[beyond[0]] / 600) * 600
    yield ""
    yield f"Labels of {len(beyond)} of {len(seconds)} molecules will time out at oracle.time_limit, {time_limit:g} s:"
    yield f"  {named}{more}"
    yield (
        f"  Set oracle.time_limit to {enough}, or raise resources.label_threads, or leave these molecules out; the "
        "table counts each such label with the limit."
    )


def table(parts: Sequence[Part], net: Network, threads: int, n_workers: int, jobs: int) -> Iterator[str]:
    """Yield the lines of the table of costs, with the sum."""
    yield f"{'':<18}{'number':>9}{'s each':>9}{'jobs':>7}{'core-hours':>13}{'wall':>12}"
    for part in parts:
        each = f"{part.seconds.mean():.1f}" if len(part.seconds) else "-"
        hours = part.wall_hours(n_workers, jobs)
        row = f"{part.name:<18}{part.n:>9}{each:>9}{part.n_batches * part.repeat:>7}{part.core_hours(threads):>13.2f}"
        yield f"{row}{duration(hours):>12}  {part.note}".rstrip()
    for name, hours in (("training", net.training), ("relaxation", net.relaxation)):
        yield f"{name:<18}{'':>9}{'':>9}{'':>7}{'':>13}{duration(hours):>12}  {hours:.2f} h on {net.device}"
    core_hours = sum(part.core_hours(threads) for part in parts)
    wall = sum(part.wall_hours(n_workers, jobs) for part in parts) + net.training + net.relaxation
    n_jobs = sum(part.n_batches * part.repeat for part in parts)
    yield f"{'sum':<18}{sum(part.n for part in parts):>9}{'':>9}{n_jobs:>7}{core_hours:>13.2f}{duration(wall):>12}"
