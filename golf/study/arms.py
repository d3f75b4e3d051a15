"""The arms of one study: which it compares, what each is trained on, and with how many labels.

Paths are relative to the folder of the results. Functions take the validated configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from golf.core.arms import ARMS, BASELINE, GOLF, Arm, Chosen, arm_named
from golf.core.errors import UserError
from golf.potentials.catalog import card_of, is_name

INITIAL_LABELS = "labels/initial.h5"
BASELINE_MODEL = "models/baseline/model.pt"
CONTINUED_MODEL = "models/baseline_continued/model.pt"

SLOWNESS = {"network": 1.0, "mmff": 1.0, "aimnet2": 8.0, "program": 30.0}
"""By kind of potential. An evaluation of 41.5 atoms takes 10 ms of a core with a network, 45 ms with AIMNet2 and 118 ms
with GFN2-xTB (benchmarks/potentials.py, AMD EPYC); the rest is a margin, as other programs may be slower."""


def arms_of(config: Mapping[str, Any]) -> list[str]:
    """Return the names of a study's arms, those of others last; without rounds there is no arm golf."""
    evaluation = config["evaluation"]
    arms = [arm for arm in evaluation["arms"] if arm != GOLF.name or config["golf"]["rounds"] > 0]
    return [*arms, *evaluation["models"], *evaluation["geometries"]]


def is_imported(config: Mapping[str, Any], arm: str) -> bool:
    """Tell whether an arm's model or ends were made elsewhere, by means that this study does not know."""
    return arm in config["evaluation"]["models"] or arm in config["evaluation"]["geometries"]


def potential_of(config: Mapping[str, Any], arm: str) -> str:
    """Return the name of the potential of an arm that relaxes with one by name; "" for arms with a model file."""
    given = config["evaluation"]["models"].get(arm, "")
    return given if is_name(given) else ""


def files_of_others(config: Mapping[str, Any]) -> list[str]:
    """Return the files of models and ends that were made elsewhere."""
    models = [path for arm, path in config["evaluation"]["models"].items() if not potential_of(config, arm)]
    return [*models, *config["evaluation"]["geometries"].values()]


def slowness(config: Mapping[str, Any], arm: str) -> float:
    """Return how many times longer than with a network of this study a relaxation of an arm takes, roughly."""
    name = potential_of(config, arm)
    return SLOWNESS[card_of(name).kind] if name else 1.0


def network_arms(config: Mapping[str, Any]) -> list[str]:
    """Return the arms of a study that relax with a network, or with another potential."""
    models, geometries = config["evaluation"]["models"], config["evaluation"]["geometries"]
    return [arm for arm in arms_of(config) if arm in models or (arm not in geometries and arm_named(arm).network)]


def trained_arms(config: Mapping[str, Any]) -> list[str]:
    """Return the arms of a study that relax with a network which the study trains itself."""
    return [arm for arm in network_arms(config) if not is_imported(config, arm)]


def needs_training(config: Mapping[str, Any]) -> bool:
    """Tell whether a study trains a network, and so needs initial labels."""
    return bool(trained_arms(config))


def publishes_model(config: Mapping[str, Any]) -> bool:
    """Tell whether a study has a final model: that of arm golf or, without rounds, of arm baseline."""
    return (GOLF.name if config["golf"]["rounds"] else BASELINE.name) in trained_arms(config)


def has_learning_curve(config: Mapping[str, Any]) -> bool:
    """Tell whether the study trains a baseline and, where there are rounds, arm golf."""
    return publishes_model(config) and not config["nnp"]["initial"]


def chosen_arms(config: Mapping[str, Any], chosen: Chosen) -> list[Arm]:
    """Return the arms of a study whose labels are chosen in this way, in the order of the configuration."""
    return [ARMS[arm] for arm in trained_arms(config) if ARMS[arm].chosen is chosen]


def controls_of(config: Mapping[str, Any]) -> list[str]:
    """Return the arms of a study that are controls."""
    return [arm for arm in arms_of(config) if arm in ARMS and ARMS[arm].is_control]


def loop_arm(folder: str) -> Arm:
    """Return the arm whose rounds are in a folder of the results.

    Raises:
        UserError: there is none.
    """
    for arm in ARMS.values():
        if arm.chosen is Chosen.IN_ROUNDS and arm.folder == folder:
            return arm
    raise UserError(f"unknown loop {folder!r}: no arm has its rounds there")


def rounds_of(config: Mapping[str, Any], arm: Arm) -> range:
    """Return the rounds of an arm; none if the study does not have it."""
    return range(1, config["golf"]["rounds"] + 1) if arm.name in arms_of(config) else range(0)


# ---- budgets ---------------------------------------------------------------------------------------------------------


def budget_of(config: Mapping[str, Any], arm: str) -> int:
    """Return the labels that an arm gets besides the initial ones; those of golf unless a control's key says other."""
    golf = config["golf"]
    given = config["controls"].get(f"{arm}_labels")
    return golf["rounds"] * golf["labels_per_round"] if given is None else given


def budget_of_round(config: Mapping[str, Any], arm: Arm, round_number: int) -> int:
    """Return the labels of a round; the budget of a control is divided among its rounds."""
    if not arm.is_control:
        return config["golf"]["labels_per_round"]
    budget, rounds = budget_of(config, arm.name), config["golf"]["rounds"]
    return budget * round_number // rounds - budget * (round_number - 1) // rounds


def check_budgets(config: Mapping[str, Any], n_training: int) -> None:
    """Refuse a budget that is larger than the data, before anything is paid for.

    Args:
        n_training: training conformations.

    Raises:
        UserError: names the key.
    """
    rounds = config["golf"]["rounds"]
    per_conformation = {
        Chosen.IN_ROUNDS: rounds,
        Chosen.ONCE: 1,
        Chosen.BY_DFT: config["evaluation"]["reference_max_steps"],
    }
    for control in controls_of(config):
        chosen = ARMS[control].chosen
        budget, most = budget_of(config, control), n_training * per_conformation[chosen]
        if chosen is Chosen.IN_ROUNDS and budget < rounds:
            raise UserError(
                f"key controls.{control}_labels: {budget} labels cannot be divided among {rounds} rounds; give at "
                "least one for each"
            )
        if budget > most:
            raise UserError(
                f"key controls.{control}_labels: {budget} labels are not available from {n_training} training "
                f"conformations (at most {most}); ask for fewer or give more conformations"
            )


# ---- models and labels -----------------------------------------------------------------------------------------------


def model_of_round(round_number: int, folder: str = GOLF.folder) -> str:
    """Return the model file at the end of a round; round 0 is the baseline."""
    return f"{folder}/{round_number}/model.pt" if round_number else BASELINE_MODEL


def model_of(config: Mapping[str, Any], arm: str) -> str:
    """Return the model file of an arm that this study trains; all have had the same number of updates.

    Raises:
        UserError: the arm is unknown or has no network.
    """
    which, rounds = arm_named(arm), config["golf"]["rounds"]
    if not which.network:
        raise UserError(f"arm {arm!r} has no network")
    if which.chosen is Chosen.IN_ROUNDS:
        return model_of_round(rounds, which.folder)
    if which.chosen is Chosen.NOT:
        return CONTINUED_MODEL if rounds else BASELINE_MODEL
    return f"{which.folder}/model.pt"


def labels_of(config: Mapping[str, Any], arm: str) -> list[str]:
    """Return the files of this study's labels that an arm's model is trained on."""
    if is_imported(config, arm) or not arm_named(arm).network:
        return []
    which, rounds = arm_named(arm), config["golf"]["rounds"]
    if which.chosen is Chosen.NOT:
        return [] if rounds == 0 and config["nnp"]["initial"] else [INITIAL_LABELS]
    if which.chosen is Chosen.IN_ROUNDS:
        return [INITIAL_LABELS, *(f"{which.folder}/{r}/labels.h5" for r in range(1, rounds + 1))]
    return [INITIAL_LABELS, f"{which.folder}/labels.h5"]


def updates_per_round(config: Mapping[str, Any]) -> int:
    """Return the training updates of one GOLF round."""
    return config["golf"]["labels_per_round"] * config["golf"]["updates_per_label"]


def further_updates(config: Mapping[str, Any]) -> int:
    """Return the training updates that every trained arm has beyond the baseline."""
    return config["golf"]["rounds"] * updates_per_round(config)


def n_updates_of(config: Mapping[str, Any], arm: str) -> int:
    """Return the training updates of an arm's model in this study; 0 if it comes from elsewhere."""
    if not labels_of(config, arm):
        return 0
    initial = 0 if config["nnp"]["initial"] else config["training"]["updates"]
    return initial + further_updates(config)
