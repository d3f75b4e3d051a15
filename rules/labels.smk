rule label_batch:
    input:
        conformations=conformations_to_label,
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        f"{RESULTS}/{{stage}}/{{batch}}.h5",
    params:
        level=LEVEL,
        n_batches=lambda wildcards: n_label_batches(wildcards.stage),
        max_force_norm=config["oracle"]["max_force_norm"],
        stamp=STAMP,
        pool=pool_settings(),
    log:
        f"{LOGS}/label_batch/{{stage}}/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/label_batch/{{stage}}/{{batch}}.tsv"
    threads: label_threads
    resources:
        mem_mb=label_memory_mb,
        runtime=240,
    conda:
        PSI4_ENV
    script:
        "../workflow_scripts/label_batch.py"


rule merge_labels:
    input:
        conformations=conformations_to_label,
        batches=label_batches,
    output:
        f"{RESULTS}/{{stage}}.h5",
    params:
        stamp=STAMP,
    log:
        f"{LOGS}/merge_labels/{{stage}}.log",
    benchmark:
        f"{BENCHMARKS}/merge_labels/{{stage}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        PSI4_ENV
    script:
        "../workflow_scripts/merge_labels.py"
