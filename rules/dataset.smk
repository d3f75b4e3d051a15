rule check_oracle:
    """Find out whether the level of theory can be computed, and for which elements, before anything else."""
    output:
        f"{RESULTS}/dataset/oracle.json",
    log:
        f"{LOGS}/check_oracle.log",
    benchmark:
        f"{BENCHMARKS}/check_oracle.tsv"
    conda:
        LABEL_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(settings.label_memory_mb(config)),
        runtime=per_attempt(60),
    params:
        level=LEVEL,
    script:
        "../workflow_scripts/check_oracle.py"


rule prepare_dataset:
    input:
        sources=sources,
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        train=f"{RESULTS}/dataset/train.h5",
        test=f"{RESULTS}/dataset/test.h5",
        reference=f"{RESULTS}/dataset/reference.h5",
        left_out=f"{RESULTS}/dataset/left_out.csv",
        config=f"{RESULTS}/config.yaml",
    log:
        f"{LOGS}/prepare_dataset.log",
    benchmark:
        f"{BENCHMARKS}/prepare_dataset.tsv"
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(job_sizes.preparation_memory_mb(SIZE.conformations)),
        runtime=per_attempt(job_sizes.preparation_minutes(SIZE.conformations)),
    params:
        source=settings.source(config),
        level=LEVEL,
        reference_energies=config["nnp"]["reference_energies"],
        stamp=STAMP,
    script:
        "../workflow_scripts/prepare_dataset.py"
