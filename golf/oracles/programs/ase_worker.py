"""The child process of the ASE oracle (see child.py): any calculator of the Atomic Simulation Environment.

oracle.method is the import path of the calculator, such as `ase.calculators.emt.EMT`; text after a colon is its keyword
`method`. Short names are in `SHORT`. oracle.keywords are further keywords of the calculator.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import ase
from ase.data import atomic_numbers, covalent_radii
from ase.units import Bohr, Hartree

from golf.oracles.programs.child import first_line, serve

SHORT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tblite": ("tblite.ase.TBLite", {"verbosity": 0}),
    "so3lr": ("so3krates_torch.calculator.so3.SO3LRCalculator", {"default_dtype": "float64", "r_max_lr": 1000.0}),
}
"""Short names of import paths, with default keywords. Long-range terms of SO3LR reach over whole molecules."""

BY_INFO = frozenset({"so3krates_torch"})
"""Packages whose calculators read charge and spin from `Atoms.info`, and keep nothing from one geometry to the next."""


class Calculator:
    """One calculator and its keywords in one process."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        name, _, method = setup["method"].partition(":")
        path, defaults = SHORT.get(name, (name, {}))
        self.path = path
        self.make = _imported(path)
        self.keywords = {**defaults, **({"method": method} if method else {}), **setup["keywords"]}
        self.by_info = path.partition(".")[0] in BY_INFO
        self.kept = self.make(**self.keywords) if self.by_info else None
        self.version = f"{ase.__version__}{_version_beside_ase(path.partition('.')[0])}"

    def compute(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Compute the energy in hartree and the gradient [n][3] in hartree/bohr."""
        atoms = ase.Atoms(request["symbols"], positions=request["positions"])
        atoms.info.update(charge=request["charge"], spin=request["multiplicity"])
        atoms.calc = self._calculator(request)
        energy = atoms.get_potential_energy()
        return {
            "status": "OK",
            "energy": float(energy / Hartree),
            "gradient": (-atoms.get_forces() * Bohr / Hartree).tolist(),
            "scf_iterations": 0,
            "recovery": "",
        }

    def _calculator(self, request: Mapping[str, Any]) -> Any:
        if self.kept is not None:
            self.kept.reset()  # ASE does not look at `Atoms.info` when it decides whether a result is still valid
            return self.kept
        # A calculator that has computed another geometry may start from that result, with other last digits
        return self.make(**self.keywords, **self._charge(request["charge"], request["multiplicity"]))

    def _charge(self, charge: int, multiplicity: int) -> dict[str, int]:
        """Return the keywords for charge and spin that the calculator accepts.

        Raises:
            ValueError: it accepts none, and the molecule is charged or has unpaired electrons.
        """
        wanted = {"charge": charge, "multiplicity": multiplicity}
        taken = {name: value for name, value in wanted.items() if name in self._parameters()}
        for name, ordinary in (("charge", 0), ("multiplicity", 1)):
            if name not in taken and wanted[name] != ordinary:
                raise ValueError(f"{name} {wanted[name]}: {self.path} does not accept a {name}")
        return taken

    def _parameters(self) -> set[str]:
        return set(inspect.signature(self.make).parameters) | set(getattr(self.make, "default_parameters", ()))

    def covered(self, symbols: Sequence[str]) -> tuple[dict[str, list[int]], dict[str, str]]:
        """Return the elements whose diatomic molecule the calculator can compute, and for the others the reason.

        The number of basis functions is 0: the predicted cost of a label depends only on the number of atoms.
        """
        have, refusals = {}, {}
        for symbol in symbols:
            bond = 2 * covalent_radii[atomic_numbers[symbol]]
            pair = {"symbols": [symbol] * 2, "positions": [[0.0, 0.0, 0.0], [0.0, 0.0, bond]]}
            try:
                self.compute({**pair, "charge": 0, "multiplicity": 1})
                have[symbol] = [0, 0]
            except Exception as error:  # calculators raise different errors for an element that they lack
                refusals[symbol] = first_line(error)
        return have, refusals


def _version_beside_ase(package: str) -> str:
    """Return the name and version of the calculator's package, to follow that of ASE; "" for ASE's own."""
    if package == "ase":
        return ""
    try:
        return f", {package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # a module of the user's own
        return f", {package}"


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if not module:
        raise ValueError(
            f"oracle.method {path!r} is not the import path of an ASE calculator, such as ase.calculators.emt.EMT"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ValueError(f"oracle.method: the module {module} has no {name}") from None


if __name__ == "__main__":
    serve(Calculator)
