rule label_batch:
    input:
        conformations=conformations_to_label,
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        f"{RESULTS}/{{stage}}/{{batch}}.h5",
    log:
        f"{LOGS}/label_batch/{{stage}}/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/label_batch/{{stage}}/{{batch}}.tsv"
    conda:
        LABEL_ENV
    threads: label_threads
    resources:
        mem_mb=per_attempt(label_memory_mb),
        runtime=label_minutes,
    params:
        level=LEVEL,
        n_batches=lambda wildcards: n_label_batches(wildcards.stage),
        stamp=STAMP,
    script:
        "../workflow_scripts/label_batch.py"


rule merge_labels:
    input:
        conformations=conformations_to_label,
        batches=label_batches,
    output:
        f"{RESULTS}/{{stage}}.h5",
    log:
        f"{LOGS}/merge_labels/{{stage}}.log",
    benchmark:
        f"{BENCHMARKS}/merge_labels/{{stage}}.tsv"
    conda:
        LABEL_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        max_force_norm=config["oracle"]["max_force_norm"],
        stamp=STAMP,
    script:
        "../workflow_scripts/merge_labels.py"


rule optimize_batch:
    """DFT optimizations: of the test conformations that came without a minimum, and of the starts of arm traj."""
    input:
        unpack(conformations_to_optimize),
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        f"{RESULTS}/{{optimizations}}/{{batch}}.h5",
    log:
        f"{LOGS}/optimize_batch/{{optimizations}}/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/optimize_batch/{{optimizations}}/{{batch}}.tsv"
    conda:
        LABEL_ENV
    threads: label_threads
    resources:
        mem_mb=per_attempt(label_memory_mb),
        runtime=optimization_minutes,
    params:
        level=LEVEL,
        n_batches=lambda wildcards: n_optimization_batches(wildcards.optimizations),
        max_steps=config["evaluation"]["reference_max_steps"],
        stamp=STAMP,
    script:
        "../workflow_scripts/optimize_batch.py"
