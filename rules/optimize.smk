rule optimize:
    """DFT minima of own structures (section optimize of the configuration), and nothing else."""
    input:
        results(
            f"{STRUCTURES}/{name}"
            for name in ("minima.h5", "minima.sdf", "left_out.csv")
            if config["optimize"]["input"]
        ),
    localrule: True


rule choose_structures:
    input:
        structures=lambda wildcards: own_files([config["optimize"]["input"]]),
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        starts=f"{RESULTS}/{STRUCTURES}/starts.h5",
        left_out=f"{RESULTS}/{STRUCTURES}/not_optimized.csv",
    log:
        f"{LOGS}/choose_structures.log",
    benchmark:
        f"{BENCHMARKS}/choose_structures.tsv"
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(job_sizes.preparation_memory_mb(SIZE.structures)),
        runtime=per_attempt(job_sizes.preparation_minutes(SIZE.structures)),
    params:
        level=LEVEL,
        top=config["optimize"]["top"],
        window=config["optimize"]["window"],
        stamp=STAMP,
    script:
        "../workflow_scripts/choose_structures.py"


rule compute_hessians:
    """Hessians of GFN2-xTB, in an environment that has it; the oracle's has not."""
    input:
        starts=f"{RESULTS}/{STRUCTURES}/starts.h5",
        oracle=f"{RESULTS}/dataset/oracle.json",
    output:
        f"{RESULTS}/{STRUCTURES}/hessians/{{batch}}.npz",
    log:
        f"{LOGS}/compute_hessians/{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/compute_hessians/{{batch}}.tsv"
    conda:
        NNP_ENV
    threads: settings.label_threads(config)
    resources:
        mem_mb=per_attempt(settings.label_memory_mb(config)),
        runtime=per_attempt(60),
    params:
        n_batches=lambda wildcards: stage_at(STAGES, STRUCTURE_BATCHES).n_batches,
    script:
        "../workflow_scripts/compute_hessians.py"


rule merge_structures:
    input:
        starts=f"{RESULTS}/{STRUCTURES}/starts.h5",
        left_out=f"{RESULTS}/{STRUCTURES}/not_optimized.csv",
        batches=lambda wildcards: batches(STRUCTURE_BATCHES),
    output:
        minima=f"{RESULTS}/{STRUCTURES}/minima.h5",
        sdf=f"{RESULTS}/{STRUCTURES}/minima.sdf",
        left_out=f"{RESULTS}/{STRUCTURES}/left_out.csv",
    log:
        f"{LOGS}/merge_structures.log",
    benchmark:
        f"{BENCHMARKS}/merge_structures.tsv"
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(60),
    params:
        stamp=STAMP,
    script:
        "../workflow_scripts/merge_structures.py"
