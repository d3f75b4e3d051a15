rule fit_reference_energies:
    input:
        f"{RESULTS}/labels/initial.h5",
    output:
        f"{RESULTS}/models/reference_energies.json",
    log:
        f"{LOGS}/fit_reference_energies.log",
    benchmark:
        f"{BENCHMARKS}/fit_reference_energies.tsv"
    localrule: True
    conda:
        NNP_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        given=config["nnp"]["reference_energies"],
    script:
        "../workflow_scripts/fit_reference_energies.py"


if config["nnp"]["initial"]:

    rule start_from_model:
        """The model that the study starts from, instead of a baseline of its own."""
        input:
            conformations=f"{RESULTS}/dataset/train.h5",
            model=local(config["nnp"]["initial"]),
        output:
            f"{RESULTS}/models/baseline/model.pt",
        log:
            f"{LOGS}/start_from_model.log",
        benchmark:
            f"{BENCHMARKS}/start_from_model.tsv"
        conda:
            NNP_ENV
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(30),
        params:
            level=LEVEL,
        script:
            "../workflow_scripts/start_from_model.py"

else:

    rule train_baseline:
        input:
            labels=f"{RESULTS}/labels/initial.h5",
            reference_energies=f"{RESULTS}/models/reference_energies.json",
        output:
            model=f"{RESULTS}/models/baseline/model.pt",
            metrics=f"{RESULTS}/models/baseline/metrics.csv",
        log:
            f"{LOGS}/train_baseline.log",
        benchmark:
            f"{BENCHMARKS}/train_baseline.tsv"
        conda:
            NNP_ENV
        threads: config["resources"]["train_threads"]
        resources:
            mem_mb=per_attempt(memory_for("labels")),
            runtime=per_attempt(
                job_sizes.minutes_for_training(
                    config, config["training"]["updates"], "labels"
                )
            ),
        params:
            architecture=golf_config.architecture(config),
            training=settings.training(config),
            stamp=STAMP,
        script:
            "../workflow_scripts/train_baseline.py"


rule continue_baseline:
    """As many further updates as all GOLF rounds have, on the initial labels alone: what arm `baseline` relaxes with."""
    input:
        labels=f"{RESULTS}/labels/initial.h5",
        model=f"{RESULTS}/models/baseline/model.pt",
    output:
        model=f"{RESULTS}/models/baseline_continued/model.pt",
        metrics=f"{RESULTS}/models/baseline_continued/metrics.csv",
    log:
        f"{LOGS}/continue_baseline.log",
    benchmark:
        f"{BENCHMARKS}/continue_baseline.tsv"
    conda:
        NNP_ENV
    threads: config["resources"]["train_threads"]
    resources:
        mem_mb=per_attempt(memory_for("labels")),
        runtime=per_attempt(
            job_sizes.minutes_for_training(
                config, arms.further_updates(config), "labels"
            )
        ),
    params:
        updates=arms.further_updates(config),
        learning_rate=config["golf"]["learning_rate"],
        training=settings.training(config),
        stamp=STAMP,
    script:
        "../workflow_scripts/continue_baseline.py"
