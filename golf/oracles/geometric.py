"""Optimize one conformation to its minimum: geomeTRIC chooses the steps, the caller computes the gradients.

geomeTRIC is made deterministic here, also with several optimizations in threads of one process: from the same start it
requests the same geometries, bit for bit.

geomeTRIC: L.-P. Wang and C. Song, J. Chem. Phys. 144, 214108 (2016), doi:10.1063/1.4952956.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from geometric.engine import Engine
from geometric.errors import Error as GeometricError
from geometric.internal import CartesianCoordinates, DelocalizedInternalCoordinates
from geometric.molecule import Molecule
from geometric.nifty import logger as geometric_logger
from geometric.optimize import OPT_STATE, Optimizer
from geometric.params import OptParams
from numpy.typing import NDArray

from golf.core.conformations import Status, StopReason
from golf.core.elements import SYMBOLS
from golf.core.labels import Label
from golf.core.units import BOHR_IN_ANGSTROM
from golf.oracles.programs.protocol import Request

logger = logging.getLogger(__name__)

FORCE_THRESHOLD = 4.5e-4 / BOHR_IN_ANGSTROM
"""hartree/angstrom; 0.53 kcal/mol/angstrom, the largest force in Gaussian's default criteria (geomeTRIC's GAU)."""

ENERGY_THRESHOLD = 1e-6
"""hartree; energy change of the last step, as in all sets of criteria of geomeTRIC."""

LEAST_CURVATURE = 0.2
"""Curvatures of a Hessian that an optimization begins with are raised to this share of geomeTRIC's own guess.

Falling ones count by their magnitude. From ends of GFN1-xTB and with its Hessians, GFN2-xTB reached 8 minima of 11 to
35 atoms in 49 gradients (46 with a share of 0.5, 53 with 0.02), in 76 from geomeTRIC's guess, and in 61 to 82 with
eigenvalues of the Cartesian Hessian raised instead.
"""

_SAME_ANGSTROM = 1e-8
"""Positions are rounded to this before a gradient is computed. Another linear algebra library may change geomeTRIC's
steps in the last bits; rounded, they are still found in the journal. The energy changes by less than 1e-9 hartree."""

COORDINATES = (DelocalizedInternalCoordinates, CartesianCoordinates)
"""Coordinates in the order in which they are tried: translation-rotation internal coordinates (TRIC), Cartesian."""

_COORDINATE_TROUBLE = (
    GeometricError,
    np.linalg.LinAlgError,
    ArithmeticError,
    AssertionError,
    LookupError,
    RuntimeError,
    ValueError,
)


class _LabelFailed(Exception):
    """A gradient of an optimization has failed."""

    def __init__(self, label: Label) -> None:
        super().__init__(label.message)
        self.label = label


class _CoordinatesFailed(Exception):
    """geomeTRIC cannot continue in these coordinates."""


class _Turn:
    """Context in which geomeTRIC works on one optimization at a time, each with its own random numbers.

    geomeTRIC perturbs near-degenerate rotations and failed trust steps with NumPy's global generator, and changes the
    global warning filters; with threads the steps would depend on their order. Its work takes little time compared to a
    gradient, and gradients are computed outside of a turn.

    Raises (at the end of a turn):
        _CoordinatesFailed: geomeTRIC raised.
    """

    _lock = threading.Lock()

    def __init__(self) -> None:
        self._state = np.random.RandomState(0).get_state()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._others, self._level = np.random.get_state(), geometric_logger.level
        np.random.set_state(self._state)
        geometric_logger.setLevel(logging.ERROR)  # without its progress table

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        geometric_logger.setLevel(self._level)
        self._state = np.random.get_state()
        np.random.set_state(self._others)
        self._lock.release()
        if isinstance(error, _COORDINATE_TROUBLE):
            words = " ".join(str(error).split())
            raise _CoordinatesFailed(f"{type(error).__name__}: {words}") from error


@dataclass
class Optimization:
    """One geometry optimization: its gradients in the order of the requests, and how it ended."""

    request: Request
    evaluate: Callable[[Request], Label]
    hessian: NDArray[np.float64] | None = None  # of the start, [3n, 3n] hartree/angstrom^2; None: geomeTRIC's guess
    positions: list[NDArray[np.float64]] = field(default_factory=list)  # [n, 3] angstrom
    labels: list[Label] = field(default_factory=list)
    last: int = 0  # index of the geometry requested last
    n_steps: int = 0
    status: Status = Status.OK
    stop_reason: StopReason = StopReason.CONVERGED
    message: str = ""

    def compute(self, positions: NDArray[np.float64]) -> Label:
        """Return the label of a geometry [n, 3] (angstrom), from this optimization, the journal or the oracle.

        Raises:
            _LabelFailed: the label has no gradient.
        """
        start = self.request.positions
        if np.abs(positions - start).max() < _SAME_ANGSTROM:
            positions = start  # bitwise the input, whose label may be known already
        else:
            positions = np.round(positions / _SAME_ANGSTROM) * _SAME_ANGSTROM
        for k, known in enumerate(self.positions):
            if np.array_equal(known, positions):
                self.last = k
                break
        else:
            self.last = len(self.positions)
            self.positions.append(positions)
            self.labels.append(self.evaluate(dataclasses.replace(self.request, positions=positions)))
        label = self.labels[self.last]
        if label.status is not Status.OK:
            raise _LabelFailed(label)
        return label

    def end(self, status: Status, stop_reason: StopReason, message: str) -> None:
        """Record how the optimization ended."""
        self.status, self.stop_reason, self.message = status, stop_reason, message

    @property
    def lowest(self) -> NDArray[np.float64]:
        """Geometry of lowest energy so far, [n, 3] angstrom."""
        return self.positions[int(np.nanargmin([label.energy for label in self.labels]))]

    @property
    def final(self) -> NDArray[np.float64]:
        """Final geometry [n, 3] (angstrom): the last one with a gradient, or the start if there is none."""
        done = [k for k in range(self.last + 1) if self.labels[k].status is Status.OK]
        return self.positions[done[-1]] if done else self.request.positions

    def largest_force(self) -> float:
        """Return the largest force on an atom (hartree/angstrom) in the last geometry."""
        return float(np.linalg.norm(self.labels[self.last].forces, axis=1).max())


class _OptimizationEngine(Engine):
    """Engine that gives geomeTRIC the gradients of an optimization."""

    def __init__(self, molecule: Molecule, optimization: Optimization) -> None:
        super().__init__(molecule)
        self._optimization = optimization

    def compute(self, coords: NDArray[np.float64]) -> Label:
        """Return the label of coords [3n] in bohr."""
        return self._optimization.compute(coords.reshape(-1, 3) * BOHR_IN_ANGSTROM)

    def calc_new(self, coords: NDArray[np.float64], dirname: str) -> dict[str, Any]:
        """Return energy (hartree) and gradient [3n] (hartree/bohr) at coords [3n] in bohr."""
        label = self.compute(coords)
        return {"energy": label.energy, "gradient": -label.forces.ravel() * BOHR_IN_ANGSTROM}


class _FromHessian(Optimizer):
    """geomeTRIC's optimizer, which begins with a Cartesian Hessian (`start_hessian`) if there is one."""

    start_hessian: NDArray[np.float64] | None = None  # [3n, 3n] hartree/angstrom^2
    H0: NDArray[np.float64]
    H: NDArray[np.float64]

    def prepareFirstStep(self) -> None:
        """Replace geomeTRIC's guess by the Hessian, with eigenvalues of at least `LEAST_CURVATURE` in its metric."""
        super().prepareFirstStep()
        if self.start_hessian is None:
            return
        given = self.IC.calcHess(self.X, self.gradx, self.start_hessian * BOHR_IN_ANGSTROM**2)
        root = np.linalg.cholesky(self.H0)
        inverse = np.linalg.inv(root)
        values, vectors = np.linalg.eigh(inverse @ given @ inverse.T)
        self.H0 = root @ (vectors * np.maximum(np.abs(values), LEAST_CURVATURE)) @ vectors.T @ root.T
        self.H = self.H0.copy()


def optimize(optimization: Optimization, max_steps: int, force_threshold: float) -> None:
    """Run an optimization to its end, which is recorded in it.

    Args:
        optimization: an optimization without gradients yet.
        max_steps: limit of optimizer steps.
        force_threshold: hartree/angstrom; see `golf.oracles.minima.optimize_reference` for all criteria.

    Raises:
        Exception: any error of `optimization.evaluate`.
    """
    turn = _Turn()
    try:
        if len(optimization.request.numbers) == 1:
            optimization.compute(optimization.request.positions)
        else:
            internal, cartesian = COORDINATES
            try:
                _run_geometric(optimization, turn, internal, max_steps, force_threshold)
            except _CoordinatesFailed as error:
                logger.warning(
                    "%s: internal coordinates fail (%s); continuing in Cartesian coordinates",
                    optimization.request.id,
                    error,
                )
                _run_geometric(optimization, turn, cartesian, max_steps, force_threshold)
                optimization.message = optimization.message or "finished in Cartesian coordinates"
    except _LabelFailed as error:
        message = f"gradient {len(optimization.labels)}: {error.label.message}"
        optimization.end(error.label.status, StopReason.FAILED, message)
    except _CoordinatesFailed as error:
        optimization.end(Status.FAILED, StopReason.FAILED, f"geomeTRIC failed: {error}")
    if optimization.status is Status.OK:
        rise = optimization.labels[optimization.last].energy - optimization.labels[0].energy
        if rise > ENERGY_THRESHOLD:
            message = f"converged {rise:.2e} hartree above its start"
            optimization.end(Status.NOT_CONVERGED, StopReason.CONVERGED, message)


def _run_geometric(
    optimization: Optimization,
    turn: _Turn,
    coordinates: type[DelocalizedInternalCoordinates] | type[CartesianCoordinates],
    max_steps: int,
    force_threshold: float,
) -> None:
    """Run geomeTRIC's loop from the lowest geometry so far; its steps are computed in turns, gradients are not."""
    start = optimization.lowest if optimization.labels else optimization.request.positions
    n_before = optimization.n_steps
    with turn:
        molecule = Molecule()
        molecule.elem = [SYMBOLS[number] for number in optimization.request.numbers]
        molecule.xyzs = [start.copy()]
        engine = _OptimizationEngine(molecule, optimization)
        internal = coordinates(molecule, build=True, connect=False, addcart=False)
        params = OptParams(maxiter=max_steps - n_before, **_criteria(force_threshold))
        coords = start.ravel() / BOHR_IN_ANGSTROM
        # Without a trajectory file it writes nothing, and the current folder exists.
        optimizer = _FromHessian(coords, molecule, internal, engine, os.curdir, params, print_info=False)
        if start is optimization.request.positions:
            optimizer.start_hessian = optimization.hessian
    engine.compute(optimizer.X)
    with turn:
        optimizer.calcEnergyForce()
        optimizer.prepareFirstStep()
    while optimizer.state not in (OPT_STATE.CONVERGED, OPT_STATE.FAILED):
        with turn:
            optimizer.step()
        optimization.n_steps = n_before + optimizer.Iteration
        if optimizer.state == OPT_STATE.NEEDS_EVALUATION:
            engine.compute(optimizer.X)
            with turn:
                optimizer.calcEnergyForce()
                optimizer.evaluateStep()
    if optimizer.state == OPT_STATE.FAILED:
        force = optimization.largest_force()
        message = f"no minimum within {optimization.n_steps} steps (largest force {force:.1e} hartree/angstrom)"
        optimization.end(Status.NOT_CONVERGED, StopReason.STEP_LIMIT, message)


def _criteria(force_threshold: float) -> dict[str, float]:
    """Return geomeTRIC's five convergence limits: gradients in hartree/bohr, displacements in angstrom."""
    largest = force_threshold * BOHR_IN_ANGSTROM
    return {
        "convergence_energy": ENERGY_THRESHOLD,
        "convergence_gmax": largest,
        "convergence_grms": largest * 2 / 3,
        "convergence_dmax": largest * 4,
        "convergence_drms": largest * 8 / 3,
    }
