# Paths, sizes and input functions; nothing here computes.

import os
import re
import sys
from dataclasses import asdict

sys.path.insert(0, workflow.basedir)
from golf import config as golf_config
from golf import planning
from golf.errors import UserError
from golf.forecast import JobTimes
from golf.job import importable_by_children
from golf.units import hartree

# The scripts run in environments of their own, which do not have the library installed.
importable_by_children(workflow.basedir)

try:
    config = golf_config.validated(
        config,
        " ".join(map(str, workflow.config_settings.configfiles or ["config.yaml"])),
    )
    golf_config.check_results(config)
    SOURCE = planning.Source(**config["dataset"])
    DOWNLOADS = planning.to_download(SOURCE)
    SIZE = planning.size(SOURCE, planning.level_of(config))
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
)

# Figures that compare arms: of the report, in its order.
FIGURES = ["labels_and_outcome", "optimized_shares", "final_geometries"]
# What asks for DFT: name, labels, those that came with the data, whether it optimizes (golf.report.LabelStage).
LABEL_STAGES = [
    ("D_0", f"{RESULTS}/labels/initial.h5", f"{RESULTS}/dataset/train.h5", False),
    *(
        (
            f"round {r}",
            *(f"{RESULTS}/rounds/{r}/{name}.h5" for name in ("labels", "selected")),
            False,
        )
        for r in range(1, ROUNDS + 1)
    ),
    (
        "DFT minima",
        f"{RESULTS}/evaluation/reference.h5",
        f"{RESULTS}/dataset/reference.h5",
        True,
    ),
    *(
        (
            f"ends of {arm}",
            *(
                f"{RESULTS}/evaluation/{arm}/{name}.h5"
                for name in ("labels", "relaxed")
            ),
            False,
        )
        for arm in planning.arms_of(config)
    ),
]

NNP_ENV = "../envs/nnp.yaml"
PSI4_ENV = "../envs/psi4.yaml"
REPORT_ENV = "../envs/report.yaml"


wildcard_constraints:
    batch=r"\d+",
    round=r"[1-9]\d*",
    arm=r"[a-z]\w*",
    stage=r"labels/initial|rounds/\d+/labels|evaluation/\w+/labels",


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


def prepare_memory_mb(wildcards):
    # Reading and writing took 9 kB a conformation of 42 atoms; dividing them makes copies.
    return 2000 + SIZE.conformations // 50


def conformations_to_label(wildcards):
    """What a label stage labels."""
    stage = wildcards.stage
    if stage == "labels/initial":
        return f"{RESULTS}/dataset/train.h5"
    folder = os.path.dirname(stage)
    name = "selected" if folder.startswith("rounds/") else "relaxed"
    return f"{RESULTS}/{folder}/{name}.h5"


def n_label_batches(stage):
    """Jobs of a label stage: fixed before anything is computed, so that the graph is static."""
    if stage == "labels/initial":
        n_labels = SIZE.initial_labels
    elif stage.startswith("rounds/"):
        n_labels = config["golf"]["labels_per_round"]
    else:
        n_labels = SIZE.test_conformations
    return planning.n_batches(n_labels, config["oracle"]["batch_size"])


def label_batches(wildcards):
    stage = wildcards.stage
    return [f"{RESULTS}/{stage}/{batch}.h5" for batch in range(n_label_batches(stage))]


def n_reference_batches():
    return planning.n_batches(
        SIZE.references, config["evaluation"]["reference_batch_size"]
    )


def reference_batches(wildcards):
    return [
        f"{RESULTS}/evaluation/reference/{batch}.h5"
        for batch in range(n_reference_batches())
    ]


def model_of_round(round):
    """The model at the end of a round; round 0 is the baseline."""
    if int(round) == 0:
        return f"{RESULTS}/models/baseline/model.pt"
    return f"{RESULTS}/rounds/{round}/model.pt"


def model_before(wildcards):
    return model_of_round(int(wildcards.round) - 1)


def labels_up_to(wildcards):
    return [
        f"{RESULTS}/rounds/{round}/labels.h5"
        for round in range(1, int(wildcards.round) + 1)
    ]


def model_of_arm(wildcards):
    """The model that an arm relaxes with; baseline and golf have had the same number of updates."""
    if wildcards.arm == "golf":
        return model_of_round(ROUNDS)
    if ROUNDS == 0:
        return model_of_round(0)
    return f"{RESULTS}/models/baseline_continued/model.pt"


def labels_of_arm(wildcards):
    """The labels that an arm's model has been trained on."""
    if wildcards.arm == "mmff":
        return []
    rounds = range(1, ROUNDS + 1) if wildcards.arm == "golf" else []
    return [
        f"{RESULTS}/labels/initial.h5",
        *(f"{RESULTS}/rounds/{r}/labels.h5" for r in rounds),
    ]


def arm_metrics(wildcards):
    arms = planning.arms_of(config)
    return [f"{RESULTS}/evaluation/{arm}/metrics.h5" for arm in arms]


def files_of_rounds(name):
    return [f"{RESULTS}/rounds/{round}/{name}" for round in range(1, ROUNDS + 1)]


def per_attempt(amount):
    """A resource that grows with each retry: a number, or a function of the wildcards, times the attempt."""

    def scaled(wildcards, attempt):
        return attempt * (amount(wildcards) if callable(amount) else amount)

    return scaled


def label_minutes(wildcards, input, attempt):
    """From the predicted time of the batch; before there is the file of its conformations, yet to be determined."""
    return JOB_TIMES.label_batch(
        input.conformations,
        input.oracle,
        int(wildcards.batch),
        n_label_batches(wildcards.stage),
        attempt,
    )


def reference_minutes(wildcards, input, attempt):
    return JOB_TIMES.reference_batch(
        input.test,
        input.known,
        input.oracle,
        int(wildcards.batch),
        n_reference_batches(),
        attempt,
    )


def label_threads(wildcards):
    return config["resources"]["label_processes"] * config["resources"]["label_threads"]


def label_memory_mb(wildcards):
    # The parent process and Snakemake itself take about 300 MB; a child is replaced at twice its memory.
    return (
        300
        + 2
        * config["resources"]["label_processes"]
        * config["resources"]["label_memory_mb"]
    )


def relaxation_settings():
    """Settings that every NNP relaxation shares; energies in hartree."""
    relaxation = config["relaxation"]
    return {
        "force_threshold": hartree(relaxation["force_threshold_kcal_per_mol"]),
        "slots": relaxation["slots"],
        "optimizer": {
            "name": relaxation["optimizer"],
            "max_step_length": relaxation["max_step_length"],
            "history": relaxation["history"],
        },
    }


def selection_settings():
    """Settings of a GOLF round's selection; energies in hartree."""
    return relaxation_settings() | {
        "n_select": config["golf"]["labels_per_round"],
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


def architecture():
    return {
        name: value
        for name, value in config["nnp"].items()
        if name != "reference_energies"
    }


def n_updates_of_arm(wildcards):
    """Training updates of an arm's model."""
    if wildcards.arm == "mmff":
        return 0
    return config["training"]["updates"] + ROUNDS * UPDATES_PER_ROUND


def print_summary():
    """The table at the end of a run; after a download, what to do next."""
    if DOWNLOADS:
        print("The data are there. Type the same again for the study.")
    path = f"{RESULTS}/evaluation/summary.txt"
    if os.path.exists(path):
        with open(path) as stream:
            print(stream.read())
