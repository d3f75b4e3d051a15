rule label_batch:
    input:
        conformations=conformations,
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        f"{RESULTS}/{{stage}}/{{batch}}.h5",
    log:
        f"{LOGS}/label_batch/{{stage}}/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/label_batch/{{stage}}/{{batch}}.tsv"
    conda:
        LABEL_ENV
    threads: settings.label_threads(config)
    resources:
        mem_mb=per_attempt(settings.label_memory_mb(config)),
        # From the predicted time of the batch; yet to be determined until its conformations are there.
        runtime=lambda wildcards, input, attempt: JOB_TIMES.label_batch(
            input.conformations,
            input.oracle,
            int(wildcards.batch),
            stage_of(wildcards).n_batches,
            attempt,
        ),
    params:
        level=LEVEL,
        n_batches=lambda wildcards: stage_of(wildcards).n_batches,
        stamp=STAMP,
    script:
        "../workflow_scripts/label_batch.py"


rule merge_labels:
    input:
        conformations=conformations,
        batches=lambda wildcards: batches(wildcards.stage),
    output:
        f"{RESULTS}/{{stage}}.h5",
    log:
        f"{LOGS}/merge_labels/{{stage}}.log",
    benchmark:
        f"{BENCHMARKS}/merge_labels/{{stage}}.tsv"
    localrule: True
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
    """DFT optimizations: of the test conformations that came without a minimum, and of the starts of arm traj, and own structures."""
    input:
        unpack(optimized),
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        f"{RESULTS}/{{optimizations}}/{{batch}}.h5",
    log:
        f"{LOGS}/optimize_batch/{{optimizations}}/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/optimize_batch/{{optimizations}}/{{batch}}.tsv"
    conda:
        LABEL_ENV
    threads: settings.label_threads(config)
    resources:
        mem_mb=per_attempt(settings.label_memory_mb(config)),
        runtime=lambda wildcards, input, attempt: JOB_TIMES.optimization_batch(
            input.starts,
            input.get("known"),
            input.oracle,
            int(wildcards.batch),
            stage_of(wildcards).n_batches,
            attempt,
        ),
    params:
        level=LEVEL,
        n_batches=lambda wildcards: stage_of(wildcards).n_batches,
        max_steps=config["evaluation"]["reference_max_steps"],
        stamp=STAMP,
    script:
        "../workflow_scripts/optimize_batch.py"
