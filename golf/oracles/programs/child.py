"""The main loop of every child process of an oracle: it reads requests and writes answers as JSON lines.

The first line that a child reads is the set-up (method, basis, keywords, threads, memory_mb); its answer has the key
`ready`. Every further line is one conformation; every answer has energy (hartree) and gradient (hartree/bohr), or the
reason why there are none. Output that the program prints to stdout goes to stderr.

It uses only the standard library and nothing newer than Python 3.7, because it runs under the Python of the program.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any, Callable, Dict, Sequence, TextIO, Tuple, Type

# A child must not outlive its parent: an orphan would use a core for a label that is never read. If the parent is gone
# before this call, the child ends when it cannot write its first answer.
PR_SET_PDEATHSIG = 1

Answer = Dict[str, Any]


def serve(calculator: Callable[[Answer], Any]) -> None:
    """Answer requests of the parent until it closes the pipe.

    Args:
        calculator: called with the set-up. It returns an object with the attribute `version` (str) and two methods:
            `compute(request)` returns energy and gradient of a conformation (keys symbols, positions in angstrom,
            charge, multiplicity); `covered(symbols)` returns, by element, basis functions and electrons in an expensive
            core potential, and by missing element the reason. An exception in a method is the failure of one
            conformation; an exception in the set-up ends the child.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    out = _private_stdout()

    def say(answer: Answer) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    setup = json.loads(sys.stdin.readline())
    try:
        made = calculator(setup)
    except Exception as error:  # the parent reports why the program does not start
        say({"ready": False, "message": first_line(error)})
        return
    say({"ready": True, "version": made.version})
    for line in iter(sys.stdin.readline, ""):
        started = time.time()
        try:
            answer = _answer(made, json.loads(line))
        except MemoryError:
            raise  # the process cannot be trusted any more; the parent replaces it
        except Exception as error:  # any failure of one conformation is data, not the end of the child
            answer = {"status": "FAILED", "message": "%s: %s" % (type(error).__name__, first_line(error))}
        answer["wall_seconds"] = time.time() - started
        answer["resident_mb"] = _resident_mb()
        say(answer)


def _answer(calculator: Any, request: Answer) -> Answer:
    if "covered" not in request:
        return calculator.compute(request)
    have, refusals = calculator.covered(request["covered"])
    return {"covered": have, "refusals": refusals}


def climb(
    ladder: Sequence[Tuple[str, Answer]],
    attempt: Callable[[Answer], Answer],
    not_converged: Tuple[Type[Exception], ...],
) -> Answer:
    """Return the answer of the first attempt at a self-consistent field that converges.

    Args:
        ladder: name and settings of each attempt.
        attempt: function that computes with these settings.
        not_converged: exceptions after which the next attempt is made.
    """
    refusals = []
    for name, settings in ladder:
        try:
            return dict(attempt(settings), status="OK", recovery=name)
        except not_converged as error:
            refusals.append("%s: %s" % (name or "default", first_line(error)))
    return {"status": "NOT_CONVERGED", "message": "SCF did not converge (%s)" % "; ".join(refusals)}


def first_line(error: BaseException) -> str:
    """Return the most informative line of an exception: Psi4's C++ errors begin with blank lines and a banner."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line.split("Fatal Error:", 1)[1].strip() for line in lines if line.startswith("Fatal Error:")]
    return (fatal or lines or [type(error).__name__])[0][:300]


def _die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _private_stdout() -> TextIO:
    """Return a stream to the parent, and redirect descriptor 1, to which the program prints, to stderr."""
    stream = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _resident_mb() -> float:
    """Return the peak memory of this process, in MB."""
    try:  # ru_maxrss of Linux is at least what the process that started this one held
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1e3
    except (OSError, StopIteration):  # not Linux, or a kernel without this line
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
