"""The child process of the Psi4 oracle: JSON lines in, JSON lines out.

It runs under the Python that has Psi4 (`python psi4_worker.py`), with the standard library, numpy and Psi4 alone, and
works with Psi4 1.3 to 1.9. The first line that it reads is the set-up (method, basis, keywords, threads, memory_mb); it
answers with a line that says `ready`. Every further line is one conformation; every answer carries energy (hartree),
gradient (hartree/bohr) or the reason why there is none. Psi4's own chatter on stdout goes to stderr.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any, Dict, List, TextIO, Tuple

# A child must not outlive its parent: an orphan would burn a core on a label that nobody will read.
PR_SET_PDEATHSIG = 1

SCF_LADDER: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("", {}),
    ("damped", {"damping_percentage": 40.0, "damping_convergence": 1e-3, "maxiter": 200}),
    ("second_order", {"guess": "core", "soscf": True, "soscf_start_convergence": 0.5, "maxiter": 300}),
    ("level_shift", {"guess": "gwh", "level_shift": 0.5, "maxiter": 500}),
)
"""Name and extra keywords of each attempt at a self-consistent field."""


# The folder of this script comes first on the path, and its psi4.py is not the Psi4 that is meant.
sys.path.pop(0)


def die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit("the parent process is gone")


def private_stdout() -> TextIO:
    """A stream to the parent; descriptor 1, which Psi4 writes to, then points at stderr."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return stream


class Calculator:
    """One level of theory in one Psi4 process."""

    def __init__(self, setup: Dict[str, Any]) -> None:
        import psi4

        self.psi4 = psi4
        self.method = setup["method"]
        self.keywords = dict(setup["keywords"], basis=setup["basis"])
        psi4.core.set_output_file("psi4.out", False)
        psi4.set_num_threads(setup["threads"])
        psi4.set_memory("%d MB" % setup["memory_mb"])
        psi4.core.IOManager.shared_object().set_default_path(os.getcwd())
        errors = [getattr(psi4, "SCFConvergenceError", None), getattr(psi4, "ConvergenceError", None)]
        errors += [getattr(getattr(psi4, "p4util", None), "ConvergenceError", None)]
        self.not_converged = tuple(error for error in errors if error is not None)

    def compute(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Energy in hartree and gradient [n][3] in hartree/bohr, by the first attempt that converges."""
        refusals = []
        for name, extra in SCF_LADDER:
            try:
                answer = self.attempt(request, extra)
                answer["recovery"] = name
                return answer
            except self.not_converged as error:
                refusals.append("%s: %s" % (name or "default", first_line(error)))
        return {"status": "NOT_CONVERGED", "message": "SCF did not converge (%s)" % "; ".join(refusals)}

    def attempt(self, request: Dict[str, Any], extra: Dict[str, Any]) -> Dict[str, Any]:
        psi4 = self.psi4
        psi4.core.clean()
        psi4.core.clean_options()
        psi4.core.clean_variables()
        with open("psi4.out", "w"):
            pass  # one conformation's output at a time
        options = dict(self.keywords)
        options["reference"] = options.get("reference", "rhf" if request["multiplicity"] == 1 else "uhf")
        options.update(extra)
        psi4.set_options(options)
        molecule = psi4.geometry(geometry(request))
        gradient, wavefunction = psi4.gradient(self.method, molecule=molecule, return_wfn=True)
        return {
            "status": "OK",
            "energy": float(wavefunction.energy()),
            "gradient": [[float(x) for x in row] for row in gradient.to_array()],
            "scf_iterations": int(psi4.core.variable("SCF ITERATIONS")),
        }

    def covered(self, symbols: List[str]) -> Dict[str, Any]:
        """Basis functions and electrons in a core potential, by element; of elements that are lacking, why."""
        psi4 = self.psi4
        psi4.core.clean_options()
        basis = self.keywords["basis"]
        have, refusals = {}, {}
        for symbol in symbols:
            molecule = psi4.geometry("%s 0.0 0.0 0.0\nsymmetry c1" % symbol)
            try:
                orbitals = psi4.core.BasisSet.build(molecule, "ORBITAL", basis, quiet=True)
                psi4.core.BasisSet.build(molecule, "DF_BASIS_SCF", "", "JKFIT", basis, quiet=True)
                have[symbol] = [int(orbitals.nbf()), int(orbitals.n_ecp_core())]
            except Exception as error:  # Psi4 has no type of its own for a basis set that it lacks
                refusals[symbol] = first_line(error)
        return {"status": "OK", "covered": have, "refusals": refusals}


def geometry(request: Dict[str, Any]) -> str:
    """Psi4's input: symmetry and reorientation off, so that the gradient's rows and frame are the request's."""
    lines = ["%d %d" % (request["charge"], request["multiplicity"])]
    for symbol, position in zip(request["symbols"], request["positions"]):
        lines.append("%s %s" % (symbol, " ".join(repr(x) for x in position)))
    return "\n".join([*lines, "units angstrom", "symmetry c1", "no_com", "no_reorient"])


def resident_mb() -> float:
    """Memory that this process holds at its highest, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def first_line(error: BaseException) -> str:
    """The line of an exception's text that says most; Psi4's C++ errors begin with blank lines and a banner."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line.split("Fatal Error:", 1)[1].strip() for line in lines if line.startswith("Fatal Error:")]
    return (fatal or lines or [type(error).__name__])[0][:300]


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    out = private_stdout()

    def say(answer: Dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    setup = json.loads(sys.stdin.readline())
    try:
        calculator = Calculator(setup)
    except Exception as error:  # whatever keeps Psi4 from starting is the parent's to report
        say({"ready": False, "message": first_line(error)})
        return
    say({"ready": True, "version": calculator.psi4.__version__})
    for line in iter(sys.stdin.readline, ""):
        started = time.time()
        try:
            request = json.loads(line)
            answer = calculator.covered(request["covered"]) if "covered" in request else calculator.compute(request)
        except MemoryError:
            raise  # the process is not to be trusted any more; the parent replaces it
        except Exception as error:  # any failure of one conformation is data, not the end of the child
            answer = {"status": "FAILED", "message": "%s: %s" % (type(error).__name__, first_line(error))}
        answer["wall_seconds"] = time.time() - started
        answer["resident_mb"] = resident_mb()
        say(answer)


if __name__ == "__main__":
    main()
