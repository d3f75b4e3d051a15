"""The child process of the Psi4 oracle (see child.py).

It runs under the Python that has Psi4 (`python psi4_worker.py`), needs only the standard library, numpy and Psi4, and
works with Psi4 1.3 to 1.9.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, List, Tuple

from child import climb, first_line, serve

# The folder of this script is first on the path; Psi4 must not import modules from there.
sys.path.pop(0)

SCF_LADDER: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("", {}),
    ("damped", {"damping_percentage": 40.0, "damping_convergence": 1e-3, "maxiter": 200}),
    ("second_order", {"guess": "core", "soscf": True, "soscf_start_convergence": 0.5, "maxiter": 300}),
    ("level_shift", {"guess": "gwh", "level_shift": 0.5, "maxiter": 500}),
)
"""Name and extra keywords of each attempt at a self-consistent field."""


class Calculator:
    """One level of theory in one Psi4 process."""

    def __init__(self, setup: Dict[str, Any]) -> None:
        import psi4

        self.psi4 = psi4
        self.version = psi4.__version__
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
        """Compute energy (hartree) and gradient [n][3] (hartree/bohr) by the first attempt that converges."""
        return climb(SCF_LADDER, lambda extra: self.attempt(request, extra), self.not_converged)

    def attempt(self, request: Dict[str, Any], extra: Dict[str, Any]) -> Dict[str, Any]:
        """Make one attempt of the ladder, with extra keywords."""
        psi4 = self.psi4
        psi4.core.clean()
        psi4.core.clean_options()
        psi4.core.clean_variables()
        with open("psi4.out", "w", encoding="utf-8"):
            pass  # keep the output of one conformation only
        options = dict(self.keywords)
        options["reference"] = options.get("reference", "rhf" if request["multiplicity"] == 1 else "uhf")
        options.update(extra)
        psi4.set_options(options)
        molecule = psi4.geometry(geometry(request))
        gradient, wavefunction = psi4.gradient(self.method, molecule=molecule, return_wfn=True)
        return {
            "energy": float(wavefunction.energy()),
            "gradient": [[float(x) for x in row] for row in gradient.to_array()],
            "scf_iterations": int(psi4.core.variable("SCF ITERATIONS")),
        }

    def covered(self, symbols: List[str]) -> Tuple[Dict[str, List[int]], Dict[str, str]]:
        """Return basis functions and electrons in a core potential by element, and for missing elements the reason."""
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
            except Exception as error:  # Psi4 has no specific error for a missing basis set
                refusals[symbol] = first_line(error)
        return have, refusals


def geometry(request: Dict[str, Any]) -> str:
    """Return Psi4's input, without symmetry and reorientation: the gradient keeps rows and frame of the request."""
    lines = ["%d %d" % (request["charge"], request["multiplicity"])]
    for symbol, position in zip(request["symbols"], request["positions"]):
        lines.append("%s %s" % (symbol, " ".join(repr(x) for x in position)))
    return "\n".join([*lines, "units angstrom", "symmetry c1", "no_com", "no_reorient"])


if __name__ == "__main__":
    serve(Calculator)
