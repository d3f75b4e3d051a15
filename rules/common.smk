# Names that the rules share: paths, environments, wildcards and input functions. What is computed is in golf/study.

import os
import re
import sys
from dataclasses import asdict

# In a clone golf is the one beside this file, whichever workflow imports it; otherwise the one that is installed.
ROOT = os.path.dirname(workflow.current_basedir.get_path_or_uri(secret_free=True))
if os.path.isfile(f"{ROOT}/golf/__init__.py"):
    sys.path.insert(0, ROOT)

try:
    from golf.core.arms import ARMS, CONTROLS, GOLF, Chosen
    from golf.core.errors import UserError
    from golf.core.job import importable_by_children
    from golf.study import arms, config as golf_config, job_sizes, plan, settings
    from golf.study.forecast import JobTimes
    from golf.study.job_sizes import memory_for
    from golf.study.settings import per_attempt
    from golf.study.stages import (
        STRUCTURE_BATCHES,
        STRUCTURES,
        Work,
        stage_at,
        stages,
        trajectory_arms,
    )
except ModuleNotFoundError as error:
    sys.exit(
        f"Error: Snakemake's Python has no package {error.name}, which the GOLF workflow needs; "
        f"install golf there (docs/install.md): {sys.executable} -m pip install <folder or URL of GOLF>"
    )

importable_by_children()

CONFIG_FILES = workflow.config_settings.configfiles or ["config.yaml"]

try:
    config = golf_config.validated(
        config,
        " ".join(map(str, CONFIG_FILES)),
        [path for path in CONFIG_FILES if os.path.isfile(path)],
    )
    # Where the results are: with the prefix of a module. Snakemake adds it to the paths of rules, and of nothing else.
    PLACE = str(workflow.modifier.modify_path(config["results_dir"]))
    DOWNLOADS, SIZE = plan.checked(config | {"results_dir": PLACE})
except UserError as error:
    sys.exit(f"Error: {error}")

RESULTS = config["results_dir"]
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"

NNP_ENV = "../envs/nnp.yaml"
LABEL_ENV = "../envs/psi4.yaml" if config["oracle"]["program"] == "psi4" else NNP_ENV
REPORT_ENV = "../envs/report.yaml"

STAMP = {"config_sha256": golf_config.sha256(config), "seed": config["seed"]}
LEVEL = asdict(plan.level_of(config))
STAGES = stages(config, SIZE)
JOB_TIMES = JobTimes(config | {"results_dir": PLACE})
ROUNDS = config["golf"]["rounds"]
FINAL_MODEL = [f"{RESULTS}/models/final.pt"] if arms.publishes_model(config) else []


def one_of(names):
    """A wildcard's values; the empty list matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    batch=r"\d+",
    round=r"[1-9]\d*",
    arm=r"[a-z][a-z0-9_-]*",
    control=one_of(
        name for name in CONTROLS if ARMS[name].chosen is not Chosen.IN_ROUNDS
    ),
    loop=one_of(
        ARMS[name].folder for name in ARMS if ARMS[name].chosen is Chosen.IN_ROUNDS
    ),
    optimizations=one_of(folder for folder, stage in STAGES.items() if stage.optimizes),
    stage=one_of(folder for folder, stage in STAGES.items() if not stage.optimizes),


def result(path):
    return f"{RESULTS}/{path}"


def results(paths):
    return [f"{RESULTS}/{path}" for path in paths]


def own_files(paths):
    """Files that the user names: relative to the working folder, whatever the prefix of a module."""
    return [local(path) for path in paths]


def sources(wildcards):
    """The files of the data set."""
    if DOWNLOADS:
        raise WorkflowError(
            f"{next(iter(DOWNLOADS))} is not there yet; first run snakemake without naming a target, which downloads it"
        )
    return own_files(plan.sources(config))


def stage_of(wildcards):
    """The stage of a labelling or optimization job."""
    return stage_at(STAGES, wildcards.get("stage") or wildcards.optimizations)


def conformations(wildcards):
    return result(stage_of(wildcards).conformations)


def optimized(wildcards):
    """The conformations that DFT optimizes, those that came with their minima, and Hessians to begin with."""
    stage = stage_of(wildcards)
    files = {"starts": stage.conformations} | (
        {"known": stage.known} if stage.known else {}
    )
    if stage.work is Work.STRUCTURES and config["optimize"]["hessian"] != "none":
        files["hessians"] = f"{STRUCTURES}/hessians/{wildcards.batch}.npz"
    return {name: result(path) for name, path in files.items()}


def batches(folder):
    return results(
        f"{folder}/{batch}.h5" for batch in range(stage_at(STAGES, folder).n_batches)
    )


def model_before(wildcards):
    return result(arms.model_of_round(int(wildcards.round) - 1, wildcards.loop))


def labels_up_to(wildcards):
    rounds = range(1, int(wildcards.round) + 1)
    return results(f"{wildcards.loop}/{r}/labels.h5" for r in rounds)


def model_of_arm(wildcards):
    if arms.potential_of(config, wildcards.arm):
        return []
    imported = config["evaluation"]["models"].get(wildcards.arm)
    return local(imported) if imported else result(arms.model_of(config, wildcards.arm))


def arm_metrics(wildcards):
    return results(f"evaluation/{arm}/metrics.h5" for arm in arms.arms_of(config))


def caption(name):
    """The text of a figure's caption, wherever this workflow was imported from."""
    path = workflow.source_path(f"../report/{name}.rst")
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def print_summary():
    """The table at the end of a run; after a download, what to do next."""
    if DOWNLOADS:
        print("The data are there. Type the same again for the study.")
    path = f"{PLACE}/evaluation/summary.txt"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            print(stream.read())
