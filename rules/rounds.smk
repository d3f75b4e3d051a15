rule relax_round:
    """Relax training conformations until the surrogate has found enough that the network gets wrong.

    In the loop `random`, the control, states are drawn at random instead.
    """
    input:
        labels=f"{RESULTS}/labels/initial.h5",
        model=model_before,
    output:
        f"{RESULTS}/{{loop}}/{{round}}/selected.h5",
    log:
        f"{LOGS}/relax_round/{{loop}}/{{round}}.log",
    benchmark:
        f"{BENCHMARKS}/relax_round/{{loop}}/{{round}}.tsv"
    conda:
        NNP_ENV
    threads: config["resources"]["train_threads"]
    resources:
        mem_mb=per_attempt(memory_for("labels")),
        runtime=per_attempt(
            lambda wildcards, input: job_sizes.selection_minutes(
                config, input.labels, wildcards.loop, int(wildcards.round)
            )
        ),
    params:
        variant=lambda wildcards: settings.surrogate_of(config, wildcards.loop),
        selection=lambda wildcards: settings.selection(
            config, wildcards.loop, int(wildcards.round)
        ),
        validation=settings.validation(config),
        stamp=STAMP,
    script:
        "../workflow_scripts/relax_round.py"


rule train_round:
    input:
        initial=f"{RESULTS}/labels/initial.h5",
        new=labels_up_to,
        model=model_before,
    output:
        model=f"{RESULTS}/{{loop}}/{{round}}/model.pt",
        metrics=f"{RESULTS}/{{loop}}/{{round}}/metrics.csv",
    log:
        f"{LOGS}/train_round/{{loop}}/{{round}}.log",
    benchmark:
        f"{BENCHMARKS}/train_round/{{loop}}/{{round}}.tsv"
    conda:
        NNP_ENV
    threads: config["resources"]["train_threads"]
    resources:
        mem_mb=per_attempt(memory_for("initial", "new")),
        runtime=per_attempt(
            job_sizes.minutes_for_training(
                config, arms.updates_per_round(config), "initial", "new"
            )
        ),
    params:
        updates=arms.updates_per_round(config),
        n_rounds=ROUNDS,
        learning_rate=config["golf"]["learning_rate"],
        initial_fraction=config["golf"]["initial_fraction"],
        training=settings.training(config),
        stamp=STAMP,
    script:
        "../workflow_scripts/train_round.py"


rule publish_model:
    """The model that a user takes away."""
    input:
        result(arms.model_of_round(ROUNDS)),
    output:
        f"{RESULTS}/models/final.pt",
    log:
        f"{LOGS}/publish_model.log",
    localrule: True
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(500),
        runtime=per_attempt(10),
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
