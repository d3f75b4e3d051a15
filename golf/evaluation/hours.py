"""Sum up the wall time of a study's jobs from the benchmark files that Snakemake writes."""

from __future__ import annotations

import csv
from pathlib import Path

_PATTERNS = {
    "training": ("train_baseline.tsv", "continue_baseline.tsv", "train_round/*/*.tsv", "train_control/*.tsv"),
    "relaxation": ("relax_round/*/*.tsv", "relax_test/*.tsv", "minimize_test.tsv"),
}
"""Benchmark files of the rules that train and relax, including the MMFF minimization of the test set."""


def hours_spent(benchmarks: str | Path) -> dict[str, float]:
    """Return the wall hours of the jobs of a study, by "training" and "relaxation".

    Args:
        benchmarks: folder of Snakemake's benchmark files.
    """
    hours = dict.fromkeys(_PATTERNS, 0.0)
    for kind, patterns in _PATTERNS.items():
        for path in (path for pattern in patterns for path in sorted(Path(benchmarks).glob(pattern))):
            with open(path, newline="", encoding="utf-8") as stream:
                hours[kind] += sum(float(row["s"]) for row in csv.DictReader(stream, delimiter="\t")) / 3600
    return hours
