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
include: "rules/optimize.smk"


if DOWNLOADS:

    include: "rules/download.smk"


rule all:
    input:
        own_files(DOWNLOADS)
        or [
            *FINAL_MODEL,
            f"{RESULTS}/evaluation/summary.csv",
            f"{RESULTS}/report.html",
        ],
    localrule: True


rule data:
    """Only the labelled training set and the test set with its DFT minima, nothing trained."""
    input:
        f"{RESULTS}/labels/initial.h5",
        f"{RESULTS}/evaluation/reference.h5",
    localrule: True


onsuccess:
    print_summary()
