"""The child process of the PySCF oracle (see child.py): Hartree-Fock and density functionals with density fitting.

Fitting basis and grid are Psi4's defaults: with another grid of that size forces differ by up to 1e-3 hartree/angstrom.
Details of the grid that are not in Psi4's manual were found from the points and weights of Psi4 1.3.2
(tests/oracles/test_pyscf.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyscf
from numpy.typing import NDArray
from pyscf import dft, gto, lib, scf
from pyscf.dft import gen_grid, radi

from golf.oracles.programs import dispersion
from golf.oracles.programs.child import climb, first_line, serve

AUXILIARY_BASIS = "def2-universal-jkfit"

DEGENERATE = 1e-3
"""Relative difference below which moments, and distances of atoms, count as equal."""

FAMILIES = ("LDA_", "GGA_", "MGGA_", "HYB_")  # prefixes of libxc's names
CORRECTIONS = ("_D", "_D2", "_D3", "_3C")
"""Suffixes of functionals that are made for a dispersion or counterpoise correction."""

NON_LOCAL = ("_V", "VV10")
"""Suffixes of functionals with non-local correlation, which PySCF adds unless it is switched off."""

WITH_DISPERSION = {"wb97x-d": "HYB_GGA_XC_WB97X_D"}
"""Methods whose dispersion PySCF lacks, and their functionals without dispersion."""

SCF_LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("damped", {"damp": 0.4, "max_cycle": 200}),
    ("second_order", {"second_order": True, "init_guess": "atom", "max_cycle": 100}),
    ("level_shift", {"init_guess": "huckel", "level_shift": 0.3, "max_cycle": 500}),
)
"""Name and settings of each attempt at a self-consistent field."""


def _without_correction(field: dft.rks.RKS) -> str:
    """Return the functional, if any, whose name implies a correction that PySCF does not add; else ""."""
    if field.do_disp():
        return ""
    _, parts = dft.libxc.parse_xc(field.xc)
    used = {number for number, _ in parts}
    names = (name for name, number in dft.libxc.XC_CODES.items() if number in used and str(name).startswith(FAMILIES))
    promised = CORRECTIONS if field.do_nlc() else (*CORRECTIONS, *NON_LOCAL)
    return next((name for name in names if name.endswith(promised)), "")


class NotConverged(Exception):
    """The self-consistent field did not converge."""


class Grid(gen_grid.Grids):
    """75 radial points (O. Treutler, R. Ahlrichs, J. Chem. Phys. 102, 346 (1995)) of 302 directions, not pruned.

    The radii of the elements are the numbers of D2's table, read as bohr. Directions rotate with the molecule, so that
    the energy does not depend on its orientation.
    """

    def __init__(self, mol: gto.Mole) -> None:
        super().__init__(mol)
        self.atom_grid = (75, 302)
        self.prune = None
        self.radi_method = _radial_points
        self.atomic_radii = dispersion.R0
        self.radii_adjust = radi.treutler_atomic_radii_adjust

    def gen_atomic_grids(self, mol: gto.Mole, *args: Any, **kwargs: Any) -> dict[str, tuple[NDArray, NDArray]]:
        """Return the points [n, 3] around each element and their weights [n]."""
        spheres = super().gen_atomic_grids(mol, *args, **kwargs)
        axes = charge_axes(_numbers(mol), mol.atom_coords())
        return {symbol: (points @ axes.T, weights) for symbol, (points, weights) in spheres.items()}


def _radial_points(n: int, number: int, *_: Any) -> tuple[NDArray, NDArray]:
    points, weights = radi.treutler_ahlrichs(n, 1)  # for hydrogen, which PySCF scales by 0.8
    scale = dispersion.R0[number] / 0.8
    return points * scale, weights * scale


def charge_axes(numbers: NDArray, positions: NDArray) -> NDArray[np.float64]:
    """Return the principal axes, in columns [3, 3], of the nuclear charges about their center.

    The axes rotate with the molecule. If moments are equal (symmetric and spherical tops), directions to atoms select
    the axes: otherwise they would depend on the frame of the input, and the energy of methane would differ by 3e-5
    hartree between orientations.

    P. M. W. Gill, B. G. Johnson, J. A. Pople, Chem. Phys. Lett. 209, 506 (1993).
    """
    around = positions - numbers @ positions / numbers.sum()
    moments, axes = np.linalg.eigh(-np.einsum("a,ai,aj->ij", numbers, around, around))
    for alike in _degenerate(moments):
        # Any axes that rotate with the molecule would do; these follow the atoms, one by one.
        space = axes[:, alike]  # [3, n_alike]
        weights = np.sqrt(numbers)[:, None] * (around @ space)  # [n, n_alike]
        axes[:, alike] = space @ _directions(weights)
    return axes


def _degenerate(moments: NDArray) -> list[slice]:
    """Return the groups of two or three axes with equal moments [3], which must be in ascending order."""
    ends = [0, *(np.flatnonzero(np.diff(moments) > DEGENERATE * np.abs(moments).max()) + 1).tolist(), len(moments)]
    return [slice(first, last) for first, last in itertools.pairwise(ends) if last - first > 1]


def _directions(vectors: NDArray) -> NDArray[np.float64]:
    """Return orthonormal directions, in columns [m, m], along the longest of `vectors` [n, m], then of the rest.

    Of equally long vectors the first is taken, so that rounding errors have no effect. If none is left (atoms in line),
    any direction will do.
    """
    m = vectors.shape[1]
    found: list[NDArray] = []
    for _ in range(m):
        lengths = np.linalg.norm(vectors, axis=1)
        if lengths.max() < DEGENERATE:
            break
        direction = vectors[np.flatnonzero(lengths > (1 - DEGENERATE) * lengths.max())[0]]
        found.append(direction / np.linalg.norm(direction))
        vectors = vectors - np.outer(vectors @ found[-1], found[-1])
    return np.linalg.qr(np.column_stack([*found, np.eye(m)]))[0]


def _numbers(mol: gto.Mole) -> NDArray[np.int64]:
    """Return the atomic numbers [n], also of atoms with core potentials."""
    return np.array([gto.charge(mol.atom_symbol(i)) for i in range(mol.natm)])


def _core_potential(basis: str, symbol: str) -> Any:
    """Return PySCF's core potential of an element in this basis; empty if there is none.

    PySCF does not find potentials under names with polarization functions in parentheses, as Pople's basis sets have:
    they are those of the name without.
    """
    return gto.basis.load_ecp(basis.partition("(")[0], symbol)


def _gpu4pyscf() -> str:
    """Return the version of GPU4PySCF if it is installed and there is a GPU; else ""."""
    try:
        import cupy
        import gpu4pyscf

        return gpu4pyscf.__version__ if cupy.cuda.runtime.getDeviceCount() else ""
    except (ImportError, RuntimeError):  # CUDA raises RuntimeError
        return ""


def _on_gpu(field: scf.hf.SCF) -> Any:
    """Move a self-consistent field to the GPU, with the same grid."""
    import cupy

    grid = getattr(field, "grids", None)
    if grid is None:
        return field.to_gpu()
    field.grids = gen_grid.Grids(field.mol)  # GPU4PySCF supports only this class
    field = field.to_gpu()
    grid.alignment = field.grids.alignment
    grid.build(with_non0tab=False)
    field.grids.coords, field.grids.weights = cupy.asarray(grid.coords), cupy.asarray(grid.weights)
    return field


class Calculator:
    """One level of theory in one process."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.gpu = _gpu4pyscf()
        self.version = pyscf.__version__ + (f", GPU4PySCF {self.gpu}" if self.gpu else "")
        self.method, self.basis = setup["method"].lower(), setup["basis"]
        self.keywords, self.memory_mb = setup["keywords"], setup["memory_mb"]
        lib.num_threads(setup["threads"])
        # PySCF divides arrays into blocks by the free memory, so that the order of sums, and the last digits, would
        # depend on earlier computations of this process.
        lib.current_memory = lambda: [0.0, 0.0]

    def compute(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Compute energy (hartree) and gradient [n][3] (hartree/bohr) by the first attempt that converges."""
        mol = self.molecule(request["symbols"], request["positions"], request["charge"], request["multiplicity"])
        answer = climb(SCF_LADDER, lambda settings: self.attempt(mol, **settings), (NotConverged,))
        if answer["status"] == "OK" and self.method in WITH_DISPERSION:
            energy, gradient = dispersion.energy_and_gradient(_numbers(mol), mol.atom_coords())
            answer["energy"] += energy
            answer["gradient"] = (answer["gradient"] + gradient).tolist()
        return answer

    def attempt(self, mol: gto.Mole, second_order: bool = False, **settings: Any) -> dict[str, Any]:
        """Make one attempt of the ladder, without dispersion."""
        field = self.field(mol)
        if second_order:
            field = field.newton()
        elif self.gpu and not settings:  # further attempts run on the CPU
            field = _on_gpu(field)
        iterations: list[None] = []
        field.callback = lambda _: iterations.append(None)
        for name, value in settings.items():
            setattr(field, name, value)
        field.kernel()
        if not field.converged:
            raise NotConverged(f"not in {field.max_cycle} iterations")
        return {
            "energy": float(field.e_tot),
            "gradient": field.nuc_grad_method().kernel().tolist(),
            "scf_iterations": len(iterations),
        }

    def molecule(self, symbols: Sequence[str], positions: Any, charge: int, multiplicity: int) -> gto.Mole:
        """Build a molecule; positions are [n, 3] in angstrom."""
        return gto.M(
            atom=list(zip(symbols, positions)),
            unit="angstrom",
            basis=self.basis,
            ecp={symbol: ecp for symbol in set(symbols) if (ecp := _core_potential(self.basis, symbol))},
            charge=charge,
            spin=multiplicity - 1,
            max_memory=self.memory_mb,
            verbose=0,
        )

    def field(self, mol: gto.Mole) -> scf.hf.SCF:
        """Build the self-consistent field; keywords are attributes of PySCF's object, such as grids.atom_grid."""
        if self.method == "hf":
            field = (scf.UHF if mol.spin else scf.RHF)(mol)
        else:
            field = (dft.UKS if mol.spin else dft.RKS)(mol, xc=WITH_DISPERSION.get(self.method, self.method))
            field.grids = Grid(mol)
        field = field.density_fit(auxbasis=AUXILIARY_BASIS)
        field.conv_tol, field.conv_tol_grad = 1e-9, 1e-6
        for name, value in self.keywords.items():
            *parts, last = name.split(".")
            owner = field
            for part in parts:
                owner = getattr(owner, part, None)
            if not hasattr(owner, last):
                raise ValueError(f"oracle.keywords: PySCF's {type(field).__name__} has no {name}")
            setattr(owner, last, tuple(value) if isinstance(value, list) else value)
        if self.method not in ("hf", *WITH_DISPERSION) and (lacking := _without_correction(field)):
            raise ValueError(
                f"oracle.method {self.method}: PySCF does not add the correction that belongs to {lacking}; use wb97x-d"
            )
        return field

    def covered(self, symbols: Sequence[str]) -> tuple[dict[str, list[int]], dict[str, str]]:
        """Return basis functions by element, and for missing elements the reason.

        Core potentials do not count as expensive: PySCF differentiates them analytically.
        """
        have, refusals = {}, {}
        for symbol in symbols:
            if symbol not in dispersion.SYMBOLS:
                refusals[symbol] = "only H to Xe are covered"
                continue
            try:
                gto.basis.load(AUXILIARY_BASIS, symbol)
                have[symbol] = [int(self.molecule([symbol], [[0.0] * 3], 0, gto.charge(symbol) % 2 + 1).nao), 0]
            except Exception as error:  # PySCF raises different errors for a missing basis set
                refusals[symbol] = first_line(error)
        return have, refusals


if __name__ == "__main__":
    serve(Calculator)
