# Paths, sizes and input functions; nothing here computes.

import os
import re
import sys
from dataclasses import asdict

sys.path.insert(0, workflow.basedir)
from golf.study import config as golf_config
from golf.study import job_sizes
from golf.study import plan as planning
from golf.core.errors import UserError
from golf.study.forecast import JobTimes
from golf.core.job import importable_by_children
from golf.core.units import hartree

# The scripts run in environments of their own, which do not have the library installed.
importable_by_children(workflow.basedir)

CONFIG_FILES = workflow.config_settings.configfiles or ["config.yaml"]

try:
    config = golf_config.validated(
        config,
        " ".join(map(str, CONFIG_FILES)),
        [path for path in CONFIG_FILES if os.path.isfile(path)],
    )
    golf_config.check_results(config)
    SOURCE = planning.Source(**config["dataset"])
    DOWNLOADS = planning.to_download(SOURCE)
    SIZE = planning.size(SOURCE, planning.level_of(config))
    planning.check_models(config)
    if not DOWNLOADS:
        planning.check_budgets(config, SIZE.training_conformations)
except UserError as error:
    sys.exit(f"Error: {error}")

RESULTS = config["results_dir"]
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
ROUNDS = config["golf"]["rounds"]
UPDATES_PER_ROUND = (
    config["golf"]["labels_per_round"] * config["golf"]["updates_per_label"]
)
STAMP = {"config_sha256": golf_config.sha256(config), "seed": config["seed"]}
LEVEL = asdict(planning.level_of(config))

JOB_TIMES = JobTimes(
    RESULTS,
    SOURCE.train,
    planning.level_of(config),
    n_workers=config["resources"]["label_processes"],
    threads=config["resources"]["label_threads"],
    time_limit=config["oracle"]["time_limit"],
    time_limit_factor=config["oracle"]["time_limit_factor"],
)

NNP_ENV = "../envs/nnp.yaml"
LABEL_ENV = "../envs/psi4.yaml" if config["oracle"]["program"] == "psi4" else NNP_ENV
REPORT_ENV = "../envs/report.yaml"


wildcard_constraints:
    batch=r"\d+",
    round=r"[1-9]\d*",
    arm=r"[a-z][a-z0-9_-]*",
    control=r"rdkit|traj",
    optimizations=r"evaluation/reference|traj/optimizations",
    loop=r"rounds|random",
    stage=r"labels/initial|(rounds|random)/\d+/labels|rdkit/labels|evaluation/[a-z0-9_-]+/(trajectory/)?labels",


def sources(wildcards):
    """The files of the data set."""
    if DOWNLOADS:
        raise WorkflowError(
            f"{next(iter(DOWNLOADS))} is not there yet; first run snakemake without naming a target, which downloads it"
        )
    return [path for path in (SOURCE.train, SOURCE.test) if path]


def source_settings():
    """Section dataset, but for where its files were fetched from."""
    return {
        name: value for name, value in config["dataset"].items() if name != "download"
    }


def conformations_to_label(wildcards):
    """What a label stage labels."""
    stage = wildcards.stage
    if stage == "labels/initial":
        return f"{RESULTS}/dataset/train.h5"
    folder = os.path.dirname(stage)
    if os.path.basename(folder) == "trajectory":
        return f"{RESULTS}/{folder}/states.h5"
    name = "relaxed" if folder.startswith("evaluation/") else "selected"
    return f"{RESULTS}/{folder}/{name}.h5"


def n_label_batches(stage):
    """Jobs of a label stage: fixed before anything is computed, so that the graph is static."""
    if stage == "labels/initial":
        n_labels = SIZE.initial_labels
    elif stage.startswith("rounds/"):
        n_labels = config["golf"]["labels_per_round"]
    elif stage.startswith("random/"):
        n_labels = planning.budget_of_round(config, int(stage.split("/")[1]))
    elif stage == "rdkit/labels":
        n_labels = planning.budget_of(config, "rdkit")
    elif os.path.basename(os.path.dirname(stage)) == "trajectory":
        n_labels = planning.n_trajectory_states(config, SIZE.test_conformations)
    else:
        n_labels = SIZE.test_conformations
    return planning.n_batches(n_labels, config["oracle"]["batch_size"])


def label_batches(wildcards):
    stage = wildcards.stage
    return [f"{RESULTS}/{stage}/{batch}.h5" for batch in range(n_label_batches(stage))]


def conformations_to_optimize(wildcards):
    """What DFT optimizes, and what of it came with its minima."""
    if wildcards.optimizations == "traj/optimizations":
        return {"starts": f"{RESULTS}/traj/starts.h5"}
    return {
        "starts": f"{RESULTS}/dataset/test.h5",
        "known": f"{RESULTS}/dataset/reference.h5",
    }


def n_optimization_batches(optimizations):
    """Jobs that optimize; those of arm traj are as many as its labels would have."""
    if optimizations == "traj/optimizations":
        return planning.n_batches(
            planning.budget_of(config, "traj"), config["oracle"]["batch_size"]
        )
    return planning.n_batches(
        SIZE.references, config["evaluation"]["reference_batch_size"]
    )


def optimization_batches(optimizations):
    """Input function: the files of all batches."""
    return lambda wildcards: [
        f"{RESULTS}/{optimizations}/{batch}.h5"
        for batch in range(n_optimization_batches(optimizations))
    ]


def model_of_round(round, loop="rounds"):
    """The model at the end of a round; round 0 is the baseline."""
    if int(round) == 0:
        return f"{RESULTS}/models/baseline/model.pt"
    return f"{RESULTS}/{loop}/{round}/model.pt"


def final_model():
    """The model that a user takes away, where the study makes one."""
    return [f"{RESULTS}/models/final.pt"] if planning.publishes_model(config) else []


def model_before(wildcards):
    return model_of_round(int(wildcards.round) - 1, wildcards.loop)


def labels_up_to(wildcards):
    return [
        f"{RESULTS}/{wildcards.loop}/{round}/labels.h5"
        for round in range(1, int(wildcards.round) + 1)
    ]


def model_of_arm(wildcards):
    """The model that an arm relaxes with; all that the study trains have had the same number of updates."""
    arm = wildcards.arm
    if arm in config["evaluation"]["models"]:
        return config["evaluation"]["models"][arm]
    if arm in ("golf", "random"):
        return model_of_round(ROUNDS, "rounds" if arm == "golf" else "random")
    if arm in ("rdkit", "traj"):
        return f"{RESULTS}/{arm}/model.pt"
    if ROUNDS == 0:
        return model_of_round(0)
    return f"{RESULTS}/models/baseline_continued/model.pt"


def is_model_of_others(wildcards):
    """Whether an arm's model was trained elsewhere, on molecules that this study does not know."""
    return wildcards.arm in config["evaluation"]["models"]


def labels_of_arm(wildcards):
    """The labels of this study that an arm's model has been trained on."""
    arm = wildcards.arm
    if arm in golf_config.WITHOUT_NETWORK or is_model_of_others(wildcards):
        return []
    if arm == "baseline" and ROUNDS == 0 and config["nnp"]["initial"]:
        return []
    labels = [f"{RESULTS}/labels/initial.h5"]
    if arm in ("golf", "random"):
        loop = "rounds" if arm == "golf" else "random"
        labels += [f"{RESULTS}/{loop}/{r}/labels.h5" for r in range(1, ROUNDS + 1)]
    elif arm in ("rdkit", "traj"):
        labels.append(f"{RESULTS}/{arm}/labels.h5")
    return labels


def arm_metrics(wildcards):
    arms = planning.arms_of(config)
    return [f"{RESULTS}/evaluation/{arm}/metrics.h5" for arm in arms]


def trajectory_arms():
    """The arms along whose relaxations labels are made."""
    if config["evaluation"]["trajectory_conformations"] == 0:
        return []
    return [
        arm
        for arm in planning.arms_of(config)
        if arm not in golf_config.WITHOUT_NETWORK
    ]


def figures():
    """Figures of the report, in its order."""
    names = ["labels_and_outcome", "optimized_shares", "final_geometries"]
    if trajectory_arms():
        names += ["trajectory_errors", "trajectory_progress"]
    return names


def rounds_of(loop):
    """The rounds of a loop that an arm relaxes with."""
    arm = "golf" if loop == "rounds" else "random"
    return range(1, ROUNDS + 1) if arm in planning.arms_of(config) else []


def label_stages():
    """What asks for DFT: name, labels, those that came with the data, whether it optimizes (golf.evaluation.report.LabelStage)."""
    dataset, evaluation = f"{RESULTS}/dataset", f"{RESULTS}/evaluation"
    controls, stages = planning.controls_of(config), []
    if planning.needs_training(config):
        initial = f"{RESULTS}/labels/initial.h5"
        stages.append(("D_0", initial, f"{dataset}/train.h5", False))
    for loop, word in (("rounds", "round"), ("random", "random round")):
        for r in rounds_of(loop):
            folder = f"{RESULTS}/{loop}/{r}"
            stages.append(
                (f"{word} {r}", f"{folder}/labels.h5", f"{folder}/selected.h5", False)
            )
    if "rdkit" in controls:
        folder = f"{RESULTS}/rdkit"
        stages.append(
            ("arm rdkit", f"{folder}/labels.h5", f"{folder}/selected.h5", False)
        )
    if "traj" in controls:
        folder = f"{RESULTS}/traj"
        stages.append(("arm traj", f"{folder}/labels.h5", f"{folder}/starts.h5", False))
    minima = f"{evaluation}/reference.h5"
    stages.append(("DFT minima", minima, f"{dataset}/reference.h5", True))
    for arm in planning.arms_of(config):
        folder = f"{evaluation}/{arm}"
        stages.append(
            (f"ends of {arm}", f"{folder}/labels.h5", f"{folder}/relaxed.h5", False)
        )
    for arm in trajectory_arms():
        folder = f"{evaluation}/{arm}/trajectory"
        stages.append(
            (
                f"trajectories of {arm}",
                f"{folder}/labels.h5",
                f"{folder}/states.h5",
                False,
            )
        )
    return stages


def has_learning_curve():
    """Whether the study trains a baseline and, where there are rounds, arm golf."""
    return planning.publishes_model(config) and not config["nnp"]["initial"]


def trajectory_tables(wildcards):
    return [f"{RESULTS}/evaluation/{arm}/trajectory.csv" for arm in trajectory_arms()]


def files_of_rounds(name):
    return [f"{RESULTS}/rounds/{round}/{name}" for round in rounds_of("rounds")]


def per_attempt(amount):
    """A resource that grows with each retry: a number, or a function of wildcards and input, times the attempt."""

    def scaled(wildcards, input, attempt):
        return attempt * (amount(wildcards, input) if callable(amount) else amount)

    return scaled


def listed(paths):
    """Files of an input, which may be one."""
    return [paths] if isinstance(paths, str) else list(paths)


def memory_for(*names):
    """Memory that follows from the size of these inputs; before they are there, yet to be determined."""

    def amount(wildcards, input):
        return job_sizes.memory_mb(
            *(path for name in names for path in listed(input[name]))
        )

    return amount


def training_minutes(n_updates, *names):
    """Minutes of so many updates on these inputs, as `memory_for`."""

    def amount(wildcards, input):
        labels = [path for name in names for path in listed(input[name])]
        return job_sizes.training_minutes(config, labels, n_updates)

    return amount


def selection_minutes(wildcards, input):
    """Minutes of a round's relaxations, as `memory_for`."""
    return job_sizes.selection_minutes(
        config,
        input.labels,
        selection_settings(wildcards)["n_select"],
        surrogate=surrogate_of_loop(wildcards) is not None,
    )


def relaxation_minutes(wildcards, input):
    """Minutes of the test relaxations, as `memory_for`."""
    return job_sizes.relaxation_minutes(config, input.test)


def label_minutes(wildcards, input, attempt):
    """From the predicted time of the batch; before there is the file of its conformations, yet to be determined."""
    return JOB_TIMES.label_batch(
        input.conformations,
        input.oracle,
        int(wildcards.batch),
        n_label_batches(wildcards.stage),
        attempt,
    )


def optimization_minutes(wildcards, input, attempt):
    """As `label_minutes`."""
    return JOB_TIMES.optimization_batch(
        input.starts,
        input.get("known"),
        input.oracle,
        int(wildcards.batch),
        n_optimization_batches(wildcards.optimizations),
        attempt,
    )


def label_threads(wildcards):
    return config["resources"]["label_processes"] * config["resources"]["label_threads"]


def label_memory_mb(wildcards, input):
    # The parent process and Snakemake itself take about 300 MB; a child is replaced at twice its memory.
    return (
        300
        + 2
        * config["resources"]["label_processes"]
        * config["resources"]["label_memory_mb"]
    )


def relaxation_settings(optimizer):
    """Settings that every NNP relaxation shares; energies in hartree."""
    relaxation = config["relaxation"]
    return {
        "force_threshold": hartree(relaxation["force_threshold_kcal_per_mol"]),
        "slots": relaxation["slots"],
        "optimizer": {
            "name": optimizer,
            "max_step_length": relaxation["max_step_length"],
            "history": relaxation["history"],
            "variant": config["surrogate"]["variant"],
        },
    }


def test_settings():
    """Settings of the test relaxations, in steps as the rounds have them; energies in hartree."""
    per_step = config["golf"]["iterations_per_step"]
    return relaxation_settings(config["relaxation"]["optimizer"]) | {
        "max_steps": -(-config["relaxation"]["max_iterations"] // per_step),
        "iterations_per_step": per_step,
        "keep_steps": config["evaluation"]["trajectory_steps"],
    }


def surrogate_of_loop(wildcards):
    """The surrogate that judges a round's relaxations; none where states are drawn at random."""
    return config["surrogate"]["variant"] if wildcards.loop == "rounds" else None


def selection_settings(wildcards):
    """Settings of a round's selection, by plain L-BFGS as in the paper; energies in hartree."""
    if wildcards.loop == "rounds":
        n_select = config["golf"]["labels_per_round"]
    else:
        n_select = planning.budget_of_round(config, int(wildcards.round))
    return relaxation_settings("lbfgs") | {
        "n_select": n_select,
        "max_steps": config["golf"]["max_steps"],
        "iterations_per_step": config["golf"]["iterations_per_step"],
    }


def validation_settings():
    """What a round's selection has to know of the validation set."""
    names = ("validation_fraction", "validation_split")
    return {name: config["training"][name] for name in names}


def training_settings():
    """Section training, but for what does not change its result."""
    return {
        name: value
        for name, value in config["training"].items()
        if name != "checkpoint_seconds"
    }


def n_updates_of_arm(wildcards):
    """Training updates of an arm's model in this study; none where it comes from elsewhere."""
    if not labels_of_arm(wildcards):
        return 0
    initial = 0 if config["nnp"]["initial"] else config["training"]["updates"]
    return initial + ROUNDS * UPDATES_PER_ROUND


def print_summary():
    """The table at the end of a run; after a download, what to do next."""
    if DOWNLOADS:
        print("The data are there. Type the same again for the study.")
    path = f"{RESULTS}/evaluation/summary.txt"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            print(stream.read())
