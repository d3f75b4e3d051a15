"""Settings and resources of a study's jobs, from the validated configuration; energies in hartree.

A rule passes one of them on as plain parameters (`params`), so that Snakemake can tell whether they have changed; its
script makes the same object of them again (`Selection.of`, `Relaxation.of`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from golf.core.units import hartree
from golf.study.arms import budget_of_round, loop_arm

OVERHEAD_MB = 300
"""Of the parent process of a label job, and of Snakemake itself."""


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer of a relaxation; see `golf.relaxation.engine.Optimizer`."""

    name: str
    max_step_length: float
    history: int | None
    variant: str


class _WithOptimizer:
    """Settings with an attribute `optimizer`."""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of what `asdict` gave."""
        return cls(**{**params, "optimizer": OptimizerSettings(**params["optimizer"])})


@dataclass(frozen=True)
class Selection(_WithOptimizer):
    """The relaxations of a round.

    Attributes:
        force_threshold: hartree/angstrom.
        slots: molecules that are relaxed at a time.
        n_select: conformations of the round.
        max_steps, iterations_per_step: of a relaxation, and L-BFGS iterations between two looks at the surrogate.
    """

    force_threshold: float
    slots: int
    optimizer: OptimizerSettings
    n_select: int
    max_steps: int
    iterations_per_step: int


@dataclass(frozen=True)
class Relaxation(_WithOptimizer):
    """The relaxations of the test set; attributes as those of `Selection`.

    Attributes:
        keep_steps: steps whose states are kept for DFT labels along the relaxation.
    """

    force_threshold: float
    slots: int
    optimizer: OptimizerSettings
    max_steps: int
    iterations_per_step: int
    keep_steps: list[int]


def _optimizer(config: Mapping[str, Any], name: str) -> OptimizerSettings:
    relaxation = config["relaxation"]
    return OptimizerSettings(name, relaxation["max_step_length"], relaxation["history"], config["surrogate"]["variant"])


def selection(config: Mapping[str, Any], folder: str, round_number: int) -> dict[str, Any]:
    """Return the parameters of a round's selection (`Selection`), by plain L-BFGS as in the paper.

    Args:
        folder: of the loop, "rounds" or "random".
    """
    golf, relaxation = config["golf"], config["relaxation"]
    return asdict(
        Selection(
            force_threshold=hartree(relaxation["force_threshold_kcal_per_mol"]),
            slots=relaxation["slots"],
            optimizer=_optimizer(config, "lbfgs"),
            n_select=budget_of_round(config, loop_arm(folder), round_number),
            max_steps=golf["max_steps"],
            iterations_per_step=golf["iterations_per_step"],
        )
    )


def relaxation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the test relaxations (`Relaxation`), in steps as the rounds have them."""
    golf, section = config["golf"], config["relaxation"]
    per_step = golf["iterations_per_step"]
    return asdict(
        Relaxation(
            force_threshold=hartree(section["force_threshold_kcal_per_mol"]),
            slots=section["slots"],
            optimizer=_optimizer(config, section["optimizer"]),
            max_steps=-(-section["max_iterations"] // per_step),
            iterations_per_step=per_step,
            keep_steps=config["evaluation"]["trajectory_steps"],
        )
    )


def surrogate_of(config: Mapping[str, Any], folder: str) -> str | None:
    """Return the MMFF variant that judges a loop's relaxations; None where states are drawn at random."""
    return None if loop_arm(folder).is_control else config["surrogate"]["variant"]


def validation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a selection has to know of the validation set."""
    return {name: config["training"][name] for name in ("validation_fraction", "validation_split")}


def training(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return section training without what does not change its result."""
    return {name: value for name, value in config["training"].items() if name != "checkpoint_seconds"}


def source(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return section dataset without the addresses that its files are downloaded from."""
    return {name: value for name, value in config["dataset"].items() if name != "download"}


# ---- resources -------------------------------------------------------------------------------------------------------


def label_threads(config: Mapping[str, Any]) -> int:
    """Return the processors of a label job."""
    return config["resources"]["label_processes"] * config["resources"]["label_threads"]


def label_memory_mb(config: Mapping[str, Any]) -> int:
    """Return the memory of a label job; a child process is replaced when it has twice its memory."""
    resources = config["resources"]
    return OVERHEAD_MB + 2 * resources["label_processes"] * resources["label_memory_mb"]


def per_attempt(amount: float | Callable[[Any, Any], float]) -> Callable[..., float]:
    """Return a resource of a rule that grows with each attempt.

    Args:
        amount: of the first attempt, or a function of wildcards and input.
    """

    def scaled(wildcards: Any, input: Any, attempt: int) -> float:
        return attempt * (amount(wildcards, input) if callable(amount) else amount)

    return scaled
