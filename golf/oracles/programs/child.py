"""What every child process of an oracle does around its program: JSON lines in, JSON lines out.

The first line that a child reads is the set-up (method, basis, keywords, threads, memory_mb); it answers with a line
that says `ready`. Every further line is one conformation; every answer carries energy (hartree), gradient
(hartree/bohr) or the reason why there is none. What the program prints to stdout goes to stderr.

Standard library alone, and nothing newer than Python 3.7: it runs under the Python that has the program.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any, Callable, Dict, Sequence, TextIO, Tuple, Type

# A child must not outlive its parent: an orphan would burn a core on a label that nobody will read. One whose parent is
# gone before it asks for this finds nobody to say `ready` to, and ends.
PR_SET_PDEATHSIG = 1

Answer = Dict[str, Any]


def serve(calculator: Callable[[Answer], Any]) -> None:
    """Answer the parent until it closes the pipe.

    Args:
        calculator: called with the set-up; what it returns has the attribute `version` (str) and the methods
            `compute(request)`, energy and gradient of a conformation (keys symbols, positions in angstrom, charge,
            multiplicity), and `covered(symbols)`, a tuple: basis functions and electrons in a core potential that is
            dear, by element, and the reason, by element that is lacking. An exception is the failure of one
            conformation; in the set-up it is the end.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    out = _private_stdout()

    def say(answer: Answer) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    setup = json.loads(sys.stdin.readline())
    try:
        made = calculator(setup)
    except Exception as error:  # whatever keeps the program from starting is the parent's to report
        say({"ready": False, "message": first_line(error)})
        return
    say({"ready": True, "version": made.version})
    for line in iter(sys.stdin.readline, ""):
        started = time.time()
        try:
            answer = _answer(made, json.loads(line))
        except MemoryError:
            raise  # the process is not to be trusted any more; the parent replaces it
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
    """The answer of the first attempt at a self-consistent field that converges.

    Args:
        ladder: name and settings of each attempt.
        attempt: computes with such settings.
        not_converged: exceptions that mean: try the next.
    """
    refusals = []
    for name, settings in ladder:
        try:
            return dict(attempt(settings), status="OK", recovery=name)
        except not_converged as error:
            refusals.append("%s: %s" % (name or "default", first_line(error)))
    return {"status": "NOT_CONVERGED", "message": "SCF did not converge (%s)" % "; ".join(refusals)}


def first_line(error: BaseException) -> str:
    """The line of an exception's text that says most; Psi4's C++ errors begin with blank lines and a banner."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line.split("Fatal Error:", 1)[1].strip() for line in lines if line.startswith("Fatal Error:")]
    return (fatal or lines or [type(error).__name__])[0][:300]


def _die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _private_stdout() -> TextIO:
    """A stream to the parent; descriptor 1, which the program writes to, then points at stderr."""
    stream = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _resident_mb() -> float:
    """Memory that this process holds at its highest, in MB."""
    try:  # ru_maxrss of Linux is at least what the process that started this one held
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1e3
    except (OSError, StopIteration):  # no Linux, or a kernel that does not say it
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
