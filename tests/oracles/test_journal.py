"""The journal: exact, on disk at once, and never in two hands."""

import dataclasses
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from golf.core.conformations import Status
from golf.core.errors import UserError
from golf.core.labels import Label
from golf.core.level import LevelOfTheory
from golf.oracles.journal import Journal, beside, entries
from support import FINDABLE
from support.journals import LEVEL, label, request

OTHER_LEVEL = LevelOfTheory("psi4", "hf", "6-31g")


def test_labels_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "folder" / "labels.jsonl"
    with Journal(path, LEVEL) as journal:
        for seed in range(20):
            journal.append(request(seed), label(seed))
    with Journal(path, LEVEL) as journal:
        assert len(journal) == 20
        for seed in range(20):
            found = journal.get(request(seed))
            assert found.energy == label(seed).energy
            assert np.array_equal(found.forces, label(seed).forces)
            assert (found.wall_seconds, found.scf_iterations, found.recovery) == (0.25, 9, "soscf")
        assert journal.get(request(99)) is None


def test_key_is_geometry_and_level_not_the_id(tmp_path):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal:
        journal.append(request(0), label(0))
        assert journal.get(dataclasses.replace(request(0), id="another name")) is not None
        moved = dataclasses.replace(request(0), positions=np.nextafter(request(0).positions, np.inf))
        assert journal.get(moved) is None
        assert journal.get(dataclasses.replace(request(0), charge=1)) is None
    with Journal(path, OTHER_LEVEL) as journal:
        assert journal.get(request(0)) is None


@pytest.mark.parametrize("status", [Status.NOT_CONVERGED, Status.FAILED])
def test_final_failures_are_not_tried_again(tmp_path, status):
    with Journal(tmp_path / "labels.jsonl", LEVEL) as journal:
        journal.append(request(0), Label.failed(3, status, "SCF did not converge", 4.0))
    with Journal(tmp_path / "labels.jsonl", LEVEL) as journal:
        found = journal.get(request(0))
    assert found.status is status and found.message == "SCF did not converge" and found.wall_seconds == 4.0
    assert np.isnan(found.energy) and found.forces.shape == (3, 3) and np.isnan(found.forces).all()


@pytest.mark.parametrize("status", [Status.CRASHED, Status.TIMED_OUT])
def test_crashes_are_recorded_and_tried_again(tmp_path, status):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal:
        journal.append(request(0), Label.failed(3, status, "gone"))
        assert journal.get(request(0)) is None
        journal.append(request(0), label(0))
    with Journal(path, LEVEL) as journal:
        assert journal.get(request(0)).energy == label(0).energy
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == [status.name.lower(), "ok"]
    assert lines[0]["energy"] is None and lines[0]["message"] == "gone" and lines[0]["id"] == "water/0000"


def test_torn_last_line_is_dropped_wherever_it_was_cut(tmp_path):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal:
        journal.append(request(0), label(0))
        journal.append(request(1), label(1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (first + 1, first + 5, first + 60, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with Journal(path, LEVEL) as journal:
            assert len(journal) == 1 and journal.get(request(1)) is None
            assert path.stat().st_size == first
            journal.append(request(1), label(1))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ['{"foo": 1}', "water 0 0 0", '{"key": "ab", "status": "fine"}', "[1, 2]"])
def test_foreign_line_is_named(tmp_path, line):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal:
        journal.append(request(0), label(0))
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    with pytest.raises(UserError, match=rf"{path}: line 2 .*") as caught, Journal(path, LEVEL):
        pass
    assert "\n" not in str(caught.value)


def test_foreign_file_is_left_alone(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_bytes(b"ten years of work")
    with pytest.raises(UserError, match=r"thesis\.txt: not a golf journal"), Journal(path, LEVEL):
        pass
    assert path.read_bytes() == b"ten years of work"


def test_other_journals_are_read_and_left_as_they_are(tmp_path, caplog):
    paths = [tmp_path / f"{i}.journal.jsonl" for i in range(4)]
    for seed in (0, 1):
        with Journal(paths[seed], LEVEL) as journal:
            journal.append(request(seed), label(seed))
    paths[2].write_text('{"key": "cut off while an')  # its owner is just writing
    paths[3].write_text("my thesis\n")
    before = [path.read_bytes() for path in paths]
    assert beside(paths[0]) == paths[1:]
    with Journal(paths[0], LEVEL, beside(paths[0])) as journal:
        assert journal.get(request(0)).energy == label(0).energy
        assert np.array_equal(journal.get(request(1)).forces, label(1).forces)
    assert [path.read_bytes() for path in paths] == before
    assert "3.journal.jsonl: line 1" in caplog.text and "not used" in caplog.text


def test_only_what_is_wanted_is_taken_from_other_journals(tmp_path):
    paths = [tmp_path / f"{i}.journal.jsonl" for i in range(3)]
    for seed in range(5):
        with Journal(paths[1 + seed % 2], LEVEL) as journal:
            journal.append(request(seed), label(seed))
    wanted = {request(seed).key(LEVEL) for seed in (1, 4, 9)}
    with Journal(paths[0], LEVEL, beside(paths[0]), wanted) as journal:
        assert len(journal) == 2 and journal.get(request(0)) is None and journal.get(request(9)) is None
        for seed in (1, 4):
            assert np.array_equal(journal.get(request(seed)).forces, label(seed).forces)
        journal.append(request(0), label(0))
    with Journal(paths[0], LEVEL, (), wanted) as journal:  # its own lines are all there, wanted or not
        assert journal.get(request(0)).energy == label(0).energy


def test_threads_append_whole_lines(tmp_path):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal:

        def work(first: int) -> None:
            for seed in range(first, first + 10):
                journal.append(request(seed), label(seed))

        threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10, 20, 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Journal(path, LEVEL) as journal:
        assert len(journal) == 40


def test_closed_journal_takes_nothing(tmp_path):
    journal = Journal(tmp_path / "labels.jsonl", LEVEL)
    with journal:
        pass
    with pytest.raises(ValueError, match="not open"):
        journal.append(request(0), label(0))


def test_ok_without_numbers_is_a_bug_that_shows(tmp_path):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal, pytest.raises(ValueError):
        journal.append(request(0), dataclasses.replace(label(0), energy=np.nan))
    assert path.read_bytes() == b""


def _hold(path, opened, release):
    with Journal(path, LEVEL) as journal:
        opened.set()
        release.wait(20)
        journal.append(request(0), label(0))


def test_second_process_waits_for_the_first_and_says_for_whom(tmp_path, caplog):
    path = tmp_path / "labels.jsonl"
    context = multiprocessing.get_context("spawn")
    opened, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(path, opened, release))
    holder.start()
    assert opened.wait(60)
    threading.Timer(0.5, release.set).start()
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), Journal(path, LEVEL) as journal:
        assert time.monotonic() - started > 0.3
        assert journal.get(request(0)).energy == label(0).energy  # read after the lock, not before it
    assert f"in use by process {holder.pid} on" in caplog.text
    holder.join()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["labels.jsonl"]


def test_sigkill_keeps_every_line_that_append_returned_for(tmp_path):
    path = tmp_path / "labels.jsonl"
    program = (
        "import sys\n"
        "from golf.oracles.journal import Journal\n"
        "from support.journals import LEVEL, label, request\n"
        "with Journal(sys.argv[1], LEVEL) as journal:\n"
        "    for seed in range(100000):\n"
        "        journal.append(request(seed), label(seed))\n"
        "        print(seed, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ | FINDABLE
    )
    for _ in range(30):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    last = max([last, *(int(line) for line in writer.stdout.read().split())])
    writer.wait()
    with Journal(path, LEVEL) as journal:  # the lock died with its process
        assert len(journal) >= last + 1
        assert all(journal.get(request(seed)).energy == label(seed).energy for seed in range(last + 1))


def test_a_full_disk_is_one_line_and_leaves_the_journal_whole(tmp_path):
    path = tmp_path / "labels.jsonl"
    program = (
        "import sys, resource\n"
        "from golf.core.errors import UserError\n"
        "from golf.oracles.journal import Journal\n"
        "from support.journals import LEVEL, label, request\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "with Journal(sys.argv[1], LEVEL) as journal:\n"
        "    try:\n"
        "        for seed in range(1000):\n"
        "            journal.append(request(seed), label(seed))\n"
        "    except UserError as error:\n"
        "        print(error)\n"
        "    assert journal.get(request(0)) is not None\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | FINDABLE).stdout
    n_lines = len(path.read_text().splitlines())
    assert path.read_bytes().endswith(b"}\n") and 2 < n_lines < 20
    assert len(said.splitlines()) == 1 and str(path) in said and "free space" in said
    assert f"the label of water/{n_lines:04d} cannot be written; the {n_lines} before it are safe" in said
    with Journal(path, LEVEL) as journal:  # there is room again
        assert len(journal) == n_lines
        journal.append(request(n_lines), label(n_lines))
    assert len(path.read_text().splitlines()) == n_lines + 1


def test_lines_with_words_or_numbers_that_mean_nothing(tmp_path, caplog):
    path = tmp_path / "labels.jsonl"
    with Journal(path, LEVEL) as journal:
        for seed in range(2):
            journal.append(request(seed), label(seed))
    good = path.read_text()
    path.write_text(good.replace('"status": "ok"', '"status": "foo"', 1))
    assert [entry.id for entry in entries(path)] == [request(1).id]
    path.write_text(good.replace(f'"energy": {label(0).energy}', '"energy": NaN', 1))
    with pytest.raises(UserError, match="line 1 is not a line of a golf journal .*not finite"), Journal(path, LEVEL):
        pass
    record = json.loads(good.splitlines()[0])
    record["forces"].pop()
    path.write_text(json.dumps(record) + "\n")
    with Journal(path, LEVEL) as journal:
        assert journal.get(request(0)) is None
    assert "does not have forces of all atoms" in caplog.text
