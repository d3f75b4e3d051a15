"""The end of a job: how it is found out, and that the pool stops before it."""

import math
import time

import numpy as np
import pytest

from golf.core.conformations import ConformationSet, Status
from golf.core.deadline import RESERVE, Deadline, OutOfTime, _seconds
from golf.core.hdf5 import read
from golf.oracles.journal import Journal
from golf.oracles.labeling import journal_path, label_to_file
from golf.oracles.minima import optimize_to_file


@pytest.mark.parametrize(
    ("left", "seconds"),
    [("0:07", 7), ("59:59", 3599), ("1:00:00", 3600), ("2-03:04:05", 183845), ("UNLIMITED", math.inf), ("", math.inf)],
)
def test_slurms_way_to_write_a_time(left, seconds):
    assert _seconds(left) == seconds


def test_no_slurm_no_limit(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert Deadline.of_this_job().left() == math.inf


def test_the_end_that_slurm_sets_is_taken(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))
    assert 1000 - RESERVE - 5 < Deadline.of_this_job().left() < 1000 - RESERVE + 1


def waters(n):
    """Water, each a bit wider than the one before."""
    position = np.array([[0.0, 0.0, 0.1], [0.0, 0.75, -0.45], [0.0, -0.75, -0.45]])
    rows = ((f"water/{i:04d}", "water", "", 0, 1, np.array([8, 1, 1]), position * (1 + 0.002 * i)) for i in range(n))
    return ConformationSet.build(rows)


@pytest.mark.psi4
def test_a_batch_stops_before_its_limit_and_the_next_job_does_the_rest(tmp_path, cheap_level):
    conformations, output = waters(400), tmp_path / "batch.h5"
    started = time.monotonic()
    label_to_file(waters(1), tmp_path / "elsewhere" / "one.h5", level=cheap_level, n_workers=1)
    limit = RESERVE + 4 * (time.monotonic() - started)  # enough for some on a machine of any speed and load
    started = time.monotonic()
    with pytest.raises(OutOfTime, match=r"time limit: .* of 400 labels are done and kept"):
        label_to_file(conformations, output, level=cheap_level, n_workers=2, deadline=Deadline(limit))
    assert time.monotonic() - started < limit and not output.exists()
    n_lines = journal_path(output).read_bytes().count(b"\n")
    assert 1 <= n_lines < 400
    part = conformations.subset(range(n_lines + 1))
    done = label_to_file(part, output, level=cheap_level, n_workers=1)
    assert (done.values["status"] == Status.OK).all()
    assert journal_path(output).read_bytes().count(b"\n") <= n_lines + 2  # the order of finishing may differ by one


@pytest.mark.psi4
def test_an_optimization_stops_before_its_limit_and_goes_on(tmp_path, cheap_level):
    output = tmp_path / "minima.h5"
    starts = waters(40)
    started = time.monotonic()
    label_to_file(starts.subset([0]), tmp_path / "elsewhere" / "one.h5", level=cheap_level, n_workers=1)
    limit = RESERVE + 4 * (time.monotonic() - started)
    with pytest.raises(OutOfTime, match=r"of 40 optimizations are done; \d+ gradients are kept"):
        optimize_to_file(starts, output, level=cheap_level, n_workers=2, deadline=Deadline(limit))
    with Journal(journal_path(output), cheap_level) as journal:
        assert len(journal) >= 1
    done = optimize_to_file(starts.subset([0]), output, level=cheap_level, n_workers=1)
    assert done.values["status"].tolist() == [Status.OK] and read(output).id == ["water/0000"]
