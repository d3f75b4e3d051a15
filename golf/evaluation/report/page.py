"""Collect the content of the report's page and fill in its template, page.html.j2."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas
import yaml
from markupsafe import Markup, escape

from golf import __version__
from golf.chem.rmsd import FEWEST_HEAVY_ATOMS
from golf.core.arms import ARMS, GOLF
from golf.core.conformations import ConformationSet
from golf.core.files import written_whole
from golf.core.hdf5 import read
from golf.core.level import described
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.core.wording import shortened
from golf.evaluation.hours import hours_spent
from golf.evaluation.metrics import FAILURE
from golf.evaluation.report import costs, provenance, svg
from golf.evaluation.report.molecules import N_WORST, Relaxed, worst

MAX_ROWS = 50
"""Rows shown of a list that grows with the study; the remaining ones are counted."""

_SYMBOL = re.compile(r"\b(E|s|D|pct)_(res|opt|div|T|t|0)\b")


@dataclass(frozen=True)
class StudyFiles:
    """Files of a finished study.

    Attributes:
        summary: table of the arms (CSV).
        by_molecules: table of the arms for seen and unseen molecules (CSV).
        differences: table of differences between arms (CSV).
        rounds: table of the rounds (CSV); None if the study trains no baseline.
        training_figure: SVG; None if the study trains no baseline.
        figures: caption of each SVG.
        arms: metrics of each arm.
        reference: DFT minima.
        stages: stages that compute labels.
        left_out: CSV of molecules left out of the data set.
        inputs: input files whose hashes the report lists.
        models: model files whose hashes the report lists.
        benchmarks: folder of Snakemake's benchmark files.
    """

    summary: str | Path
    by_molecules: str | Path
    differences: str | Path
    rounds: str | Path | None
    training_figure: str | Path | None
    figures: Mapping[str, str]
    arms: Sequence[str | Path]
    reference: str | Path
    stages: Sequence[costs.LabelStage]
    left_out: str | Path
    inputs: Sequence[str | Path]
    models: Sequence[str | Path]
    benchmarks: str | Path


def write_report(output: str | Path, files: StudyFiles, *, config: Mapping[str, Any], config_sha256: str) -> None:
    """Write the report of a study as one HTML file.

    Args:
        output: HTML file.
        files: files of the study.
        config: validated configuration.
        config_sha256: hash of the configuration.

    Raises:
        UserError: a file cannot be read.
    """
    table = _rows(files.summary)
    reference = read(files.reference)
    lead = _lead(table)
    stages = [costs.cost_of(stage) for stage in files.stages]
    arms = _worst_of_arms(files.arms, reference, lead["arm"])
    page = _template().render(
        title=config["results_dir"],
        lead=lead,
        table=table,
        by_molecules=_rows(files.by_molecules),
        differences=_rows(files.differences),
        arm_words={arm.name: arm.title for arm in ARMS.values()},
        rounds=_rows(files.rounds) if files.rounds else [],
        training_figure=_figure(files.training_figure, "") if files.training_figure else None,
        figures=[_figure(path, caption) for path, caption in files.figures.items()],
        stages=stages,
        threads=config["resources"]["label_threads"],
        failures=_capped(costs.failures(stages)),
        recoveries=costs.recoveries(stages),
        hours_spent=hours_spent(files.benchmarks),
        arms=arms,
        geometries=[case.geometries for arm in arms for case in arm["cases"]],
        n_worst=N_WORST,
        fewest_heavy_atoms=FEWEST_HEAVY_ATOMS,
        prune_rmsd=config["dataset"]["prune_rmsd"],
        failure=FAILURE * HARTREE_IN_KCAL_PER_MOL,
        excluded=_capped(_without_minimum(reference)),
        left_out=_capped(_csv(files.left_out)),
        config=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
        config_sha256=config_sha256,
        seed=config["seed"],
        level=described(reference.attrs),
        optimizer=reference.attrs.get("optimizer", "not stated"),
        versions=provenance.versions(reference.attrs),
        hashes=provenance.hashes([*files.inputs, *files.models]),
        licence=_part("3Dmol-LICENSE.txt"),
        golf_version=__version__,
    )
    with written_whole(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("golf.evaluation.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "count": count, "subscripts": subscripts}
    environment.globals |= {"part": _part}
    return environment.get_template("page.html.j2")


def _part(name: str) -> Markup:
    """Return a file of this package that is inserted into the page unchanged."""
    return Markup((package_files("golf.evaluation.report") / name).read_text(encoding="utf-8"))


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with a true minus sign; a dash for None and values that are not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def count(value: float | None) -> str:
    """Format a whole number with thousands separators."""
    return number(value, 0)


def subscripts(text: str) -> Markup:
    """Format the symbols of the method in a text (E_res, s_T, D_0) with subscripts."""
    return Markup(_SYMBOL.sub(r"\1<sub>\2</sub>", str(escape(text))))


def _rows(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a table (CSV); none for an empty file."""
    try:
        table = pandas.read_csv(path)
    except pandas.errors.EmptyDataError:
        return []
    return table.to_dict("records")


def _csv(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _lead(table: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the row of the arm in the report's first sentence: golf, or else the arm with the lowest mean E_res."""
    for row in table:
        if row["arm"] == GOLF.name:
            return row
    return min(table, key=lambda row: np.nan_to_num(row["residual_energy_kcal_mol"], nan=np.inf))


def _worst_of_arms(paths: Sequence[str | Path], reference: ConformationSet, lead: str) -> list[dict[str, Any]]:
    """Return name and worst relaxations of each arm, the leading arm first."""
    found: list[dict[str, Any]] = []
    for path in paths:
        arm = read(path)
        cases: list[Relaxed] = worst(arm, reference)
        found.append({"name": str(arm.attrs["arm"]), "cases": cases})
    return sorted(found, key=lambda one: one["name"] != lead)


def _without_minimum(reference: ConformationSet) -> list[tuple[str, str, str]]:
    """Return (conformation, status, message) of each test conformation without a DFT minimum."""
    status = reference.values["status"]
    messages = reference.values.get("message", [""] * len(reference))
    return [
        (reference.id[i], costs.word_of(status[i]), shortened(messages[i], costs.LONGEST_MESSAGE))
        for i in np.flatnonzero(status)
    ]


def _capped(lines: Sequence[Any]) -> dict[str, Any]:
    return {"shown": lines[:MAX_ROWS], "more": max(0, len(lines) - MAX_ROWS), "n": len(lines)}


def _figure(path: str | Path, caption: str) -> dict[str, Any]:
    name = Path(path).stem
    title = name.replace("_", " ").capitalize()
    figure = svg.inline(Path(path).read_text(encoding="utf-8"), name, title)
    return {
        "title": title,
        "name": name,
        "caption": " ".join(caption.split()),
        "svg": Markup(figure),
        "width": svg.width_of(figure),
    }
