# GOLF: train a neural network potential that relaxes molecules as DFT does, with few DFT labels.

from snakemake.utils import min_version

min_version("9.0")

if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/dataset.smk"
include: "rules/labels.smk"
include: "rules/training.smk"
include: "rules/rounds.smk"
include: "rules/controls.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


if DOWNLOADS:

    include: "rules/download.smk"


rule all:
    input:
        list(DOWNLOADS)
        or [
            *FINAL_MODEL,
            f"{RESULTS}/evaluation/summary.csv",
            f"{RESULTS}/report.html",
        ],


rule data:
    """Only the labelled training set and the test set with its DFT minima, nothing trained."""
    input:
        f"{RESULTS}/labels/initial.h5",
        f"{RESULTS}/evaluation/reference.h5",


localrules:
    all,
    data,
    merge_labels,
    merge_references,
    fit_reference_energies,
    publish_model,
    summarize,
    draw_figures,
    draw_trajectories,
    study_trajectory,
    select_states,
    collect_trajectories,
    select_trajectory_starts,
    summarize_rounds,
    write_report,


onsuccess:
    print_summary()
