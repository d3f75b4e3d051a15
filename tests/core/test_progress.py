"""Bars on a terminal, lines in a log."""

import logging
import re
import sys
import time

import pytest

from golf.core import progress
from golf.core.progress import progress_bar
from support.terminal import on_a_terminal


def test_a_terminal_gets_a_bar_with_rate_and_time_left():
    code = (
        "import time; from golf.core.progress import progress_bar\n"
        "with progress_bar(40, 'labels', 10) as advance:\n"
        "    for _ in range(6): time.sleep(0.15); advance(5)\n"
    )
    text, status = on_a_terminal([sys.executable, "-c", code])
    assert status == 0 and "100%" in text and "40/40" in text
    assert re.search(r"\d+/40 \[00:0\d<00:0\d, +[\d.]+ labels/s\]", text), text


@pytest.mark.parametrize(
    ("total", "expected"),
    [(40, r"\d+ of 40 labels, [\d.]+ a second, 0:00:0\d left"), (None, r"\d+ labels, [\d.]+ a second")],
)
def test_a_log_gets_lines_at_intervals(caplog, monkeypatch, total, expected):
    monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0.05)
    with caplog.at_level(logging.INFO), progress_bar(total, "labels", 10) as advance:
        for _ in range(10):
            time.sleep(0.03)
            advance(3)
    first, *others = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(expected, first) and 1 <= len(others) <= 9  # not a line for each
    assert others[-1].startswith("40 ") and "left" not in others[-1]


def test_what_is_short_is_not_spoken_of(caplog):
    with caplog.at_level(logging.INFO), progress_bar(3, "labels") as advance:
        for _ in range(3):
            advance()
    assert not caplog.records


def test_a_job_of_the_workflow_gets_lines_in_log_and_terminal(tmp_path):
    """Snakemake's jobs share its terminal; bars would overwrite each other."""
    code = (
        "import time; from golf.core import progress; from golf.core.job import job\n"
        "progress.LOG_INTERVAL_SECONDS = 0.01\n"
        f"with job('{tmp_path}/initial/3.log'), progress.progress_bar(2, 'labels') as advance:\n"
        "    for _ in range(2): time.sleep(0.02); advance()\n"
    )
    text, status = on_a_terminal([sys.executable, "-c", code])
    assert status == 0 and "%|" not in text
    lines = text.splitlines()
    assert len(lines) == 2 and re.fullmatch(r"initial/3: 2 of 2 labels, [\d.]+ a second", lines[1]), text
    assert "INFO golf.core.progress: 2 of 2 labels" in (tmp_path / "initial/3.log").read_text()
