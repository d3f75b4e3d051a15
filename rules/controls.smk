rule select_along_mmff:
    """Arm rdkit: states drawn at random from MMFF minimizations of training conformations."""
    input:
        labels=f"{RESULTS}/labels/initial.h5",
    output:
        f"{RESULTS}/rdkit/selected.h5",
    log:
        f"{LOGS}/select_along_mmff.log",
    benchmark:
        f"{BENCHMARKS}/select_along_mmff.tsv"
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(memory_for("labels")),
        runtime=per_attempt(job_sizes.mmff_minutes(arms.budget_of(config, "rdkit"))),
    params:
        n_select=arms.budget_of(config, "rdkit"),
        variant=config["surrogate"]["variant"],
        max_iterations=config["relaxation"]["max_iterations"],
        validation=settings.validation(config),
        stamp=STAMP,
    script:
        "../workflow_scripts/select_along_mmff.py"


rule select_trajectory_starts:
    """Arm traj: the training conformations that DFT optimizes."""
    input:
        labels=f"{RESULTS}/labels/initial.h5",
    output:
        f"{RESULTS}/traj/starts.h5",
    log:
        f"{LOGS}/select_trajectory_starts.log",
    benchmark:
        f"{BENCHMARKS}/select_trajectory_starts.tsv"
    localrule: True
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        n_labels=arms.budget_of(config, "traj"),
        validation=settings.validation(config),
        stamp=STAMP,
    script:
        "../workflow_scripts/select_trajectory_starts.py"


rule collect_trajectories:
    """Arm traj: the gradients of all optimizations as labels, as many as the budget has."""
    input:
        starts=f"{RESULTS}/traj/starts.h5",
        batches=lambda wildcards: batches("traj/optimizations"),
    output:
        f"{RESULTS}/traj/labels.h5",
    log:
        f"{LOGS}/collect_trajectories.log",
    benchmark:
        f"{BENCHMARKS}/collect_trajectories.tsv"
    localrule: True
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        n_labels=arms.budget_of(config, "traj"),
        max_force_norm=config["oracle"]["max_force_norm"],
        stamp=STAMP,
    script:
        "../workflow_scripts/collect_trajectories.py"


use rule train_round as train_control with:
    # From the baseline on, with the labels of a control that are chosen once: as many updates as all rounds have.
    input:
        initial=f"{RESULTS}/labels/initial.h5",
        new=[f"{RESULTS}/{{control}}/labels.h5"],
        model=result(arms.BASELINE_MODEL),
    output:
        model=f"{RESULTS}/{{control}}/model.pt",
        metrics=f"{RESULTS}/{{control}}/metrics.csv",
    log:
        f"{LOGS}/train_control/{{control}}.log",
    benchmark:
        f"{BENCHMARKS}/train_control/{{control}}.tsv"
    resources:
        mem_mb=per_attempt(memory_for("initial", "new")),
        runtime=per_attempt(
            job_sizes.minutes_for_training(
                config, arms.further_updates(config), "initial", "new"
            )
        ),
    params:
        updates=arms.further_updates(config),
        n_rounds=1,
        learning_rate=config["golf"]["learning_rate"],
        initial_fraction=config["golf"]["initial_fraction"],
        training=settings.training(config),
        stamp=STAMP,
