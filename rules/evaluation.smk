rule merge_references:
    input:
        test=f"{RESULTS}/dataset/test.h5",
        known=f"{RESULTS}/dataset/reference.h5",
        batches=lambda wildcards: batches("evaluation/reference"),
    output:
        f"{RESULTS}/evaluation/reference.h5",
    log:
        f"{LOGS}/merge_references.log",
    benchmark:
        f"{BENCHMARKS}/merge_references.tsv"
    localrule: True
    conda:
        LABEL_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        stamp=STAMP,
    script:
        "../workflow_scripts/merge_references.py"


rule minimize_test:
    """The arm that needs no network: RDKit's own MMFF minimization."""
    input:
        test=f"{RESULTS}/dataset/test.h5",
    output:
        f"{RESULTS}/evaluation/mmff/relaxed.h5",
    log:
        f"{LOGS}/minimize_test.log",
    benchmark:
        f"{BENCHMARKS}/minimize_test.tsv"
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(memory_for("test")),
        runtime=per_attempt(job_sizes.mmff_minutes(SIZE.test_conformations)),
    params:
        variant=config["surrogate"]["variant"],
        max_iterations=config["relaxation"]["max_iterations"],
        stamp=STAMP,
    script:
        "../workflow_scripts/minimize_test.py"


rule relax_test:
    input:
        test=f"{RESULTS}/dataset/test.h5",
        model=model_of_arm,
    output:
        f"{RESULTS}/evaluation/{{arm}}/relaxed.h5",
    log:
        f"{LOGS}/relax_test/{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/relax_test/{{arm}}.tsv"
    wildcard_constraints:
        arm=one_of(arms.network_arms(config)),
    conda:
        NNP_ENV
    threads: config["resources"]["train_threads"]
    resources:
        mem_mb=per_attempt(memory_for("test")),
        runtime=per_attempt(
            lambda wildcards, input: job_sizes.relaxation_minutes(
                config, input.test, arms.slowness(config, wildcards.arm)
            )
        ),
    params:
        variant=config["surrogate"]["variant"],
        level=LEVEL,
        potential=lambda wildcards: arms.potential_of(config, wildcards.arm),
        of_others=lambda wildcards: arms.is_imported(config, wildcards.arm),
        relaxation=settings.relaxation(config),
        n_kept=config["evaluation"]["trajectory_conformations"],
        stamp=STAMP,
    script:
        "../workflow_scripts/relax_test.py"


rule match_geometries:
    """An arm of ends that another program made from the test set."""
    input:
        test=f"{RESULTS}/dataset/test.h5",
        geometries=lambda wildcards: local(
            config["evaluation"]["geometries"][wildcards.arm]
        ),
    output:
        f"{RESULTS}/evaluation/{{arm}}/relaxed.h5",
    log:
        f"{LOGS}/match_geometries/{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/match_geometries/{{arm}}.tsv"
    wildcard_constraints:
        arm=one_of(config["evaluation"]["geometries"]),
    localrule: True
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(memory_for("test")),
        runtime=per_attempt(60),
    params:
        stamp=STAMP,
    script:
        "../workflow_scripts/match_geometries.py"


rule evaluate_arm:
    input:
        relaxed=f"{RESULTS}/evaluation/{{arm}}/labels.h5",
        reference=f"{RESULTS}/evaluation/reference.h5",
        train=f"{RESULTS}/dataset/train.h5",
        test=f"{RESULTS}/dataset/test.h5",
        labels=lambda wildcards: results(arms.labels_of(config, wildcards.arm)),
    output:
        f"{RESULTS}/evaluation/{{arm}}/metrics.h5",
    log:
        f"{LOGS}/evaluate_arm/{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_arm/{{arm}}.tsv"
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(memory_for("relaxed", "reference", "train")),
        runtime=per_attempt(60),
    params:
        n_updates=lambda wildcards: arms.n_updates_of(config, wildcards.arm),
        of_others=lambda wildcards: arms.is_imported(config, wildcards.arm),
        stamp=STAMP,
    script:
        "../workflow_scripts/evaluate_arm.py"


rule select_states:
    """States along the test relaxations that DFT is asked about; their ends have been labelled."""
    input:
        f"{RESULTS}/evaluation/{{arm}}/labels.h5",
    output:
        f"{RESULTS}/evaluation/{{arm}}/trajectory/states.h5",
    log:
        f"{LOGS}/select_states/{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/select_states/{{arm}}.tsv"
    localrule: True
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        stamp=STAMP,
    script:
        "../workflow_scripts/select_states.py"


rule study_trajectory:
    input:
        states=f"{RESULTS}/evaluation/{{arm}}/trajectory/labels.h5",
        relaxed=f"{RESULTS}/evaluation/{{arm}}/relaxed.h5",
        reference=f"{RESULTS}/evaluation/reference.h5",
    output:
        f"{RESULTS}/evaluation/{{arm}}/trajectory.csv",
    log:
        f"{LOGS}/study_trajectory/{{arm}}.log",
    benchmark:
        f"{BENCHMARKS}/study_trajectory/{{arm}}.tsv"
    localrule: True
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        steps=config["evaluation"]["trajectory_steps"],
        seed=config["seed"],
    script:
        "../workflow_scripts/study_trajectory.py"
