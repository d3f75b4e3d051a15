report: "../report/workflow.rst"


FIGURES = ["labels_and_outcome", "optimized_shares", "final_geometries"]
if trajectory_arms(config):
    FIGURES += ["trajectory_errors", "trajectory_progress"]


rule summarize:
    input:
        metrics=arm_metrics,
    output:
        table=report(
            f"{RESULTS}/evaluation/summary.csv",
            caption="../report/summary.rst",
            category="Tables",
        ),
        by_molecules=report(
            f"{RESULTS}/evaluation/summary_by_molecules.csv",
            caption="../report/summary_by_molecules.rst",
            category="Tables",
        ),
        differences=report(
            f"{RESULTS}/evaluation/summary_differences.csv",
            caption="../report/summary_differences.rst",
            category="Tables",
        ),
        text=f"{RESULTS}/evaluation/summary.txt",
    log:
        f"{LOGS}/summarize.log",
    benchmark:
        f"{BENCHMARKS}/summarize.tsv"
    localrule: True
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        seed=config["seed"],
    script:
        "../workflow_scripts/summarize.py"


rule draw_figures:
    """Figures that compare the arms."""
    input:
        metrics=arm_metrics,
        summary=f"{RESULTS}/evaluation/summary.csv",
    output:
        shares_svg=report(
            f"{RESULTS}/figures/optimized_shares.svg",
            caption="../report/optimized_shares.rst",
            category="Figures",
        ),
        shares_png=f"{RESULTS}/figures/optimized_shares.png",
        ends_svg=report(
            f"{RESULTS}/figures/final_geometries.svg",
            caption="../report/final_geometries.rst",
            category="Figures",
        ),
        ends_png=f"{RESULTS}/figures/final_geometries.png",
        labels_svg=report(
            f"{RESULTS}/figures/labels_and_outcome.svg",
            caption="../report/labels_and_outcome.rst",
            category="Figures",
        ),
        labels_png=f"{RESULTS}/figures/labels_and_outcome.png",
    log:
        f"{LOGS}/draw_figures.log",
    benchmark:
        f"{BENCHMARKS}/draw_figures.tsv"
    localrule: True
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    script:
        "../workflow_scripts/draw_figures.py"


rule draw_trajectories:
    """Figures of what happens along the test relaxations."""
    input:
        tables=results(
            f"evaluation/{arm}/trajectory.csv" for arm in trajectory_arms(config)
        ),
    output:
        table=report(
            f"{RESULTS}/evaluation/trajectories.csv",
            caption="../report/trajectories.rst",
            category="Tables",
        ),
        errors_svg=report(
            f"{RESULTS}/figures/trajectory_errors.svg",
            caption="../report/trajectory_errors.rst",
            category="Figures",
        ),
        errors_png=f"{RESULTS}/figures/trajectory_errors.png",
        progress_svg=report(
            f"{RESULTS}/figures/trajectory_progress.svg",
            caption="../report/trajectory_progress.rst",
            category="Figures",
        ),
        progress_png=f"{RESULTS}/figures/trajectory_progress.png",
    log:
        f"{LOGS}/draw_trajectories.log",
    benchmark:
        f"{BENCHMARKS}/draw_trajectories.tsv"
    localrule: True
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    script:
        "../workflow_scripts/draw_trajectories.py"


rule summarize_rounds:
    """What each round brought, and how training went."""
    input:
        initial=f"{RESULTS}/labels/initial.h5",
        baseline=f"{RESULTS}/models/baseline/metrics.csv",
        continued=(
            [f"{RESULTS}/models/baseline_continued/metrics.csv"]
            if ROUNDS and "baseline" in arms.arms_of(config)
            else []
        ),
        selected=results(
            f"rounds/{r}/selected.h5" for r in arms.rounds_of(config, GOLF)
        ),
        labels=results(f"rounds/{r}/labels.h5" for r in arms.rounds_of(config, GOLF)),
        metrics=results(f"rounds/{r}/metrics.csv" for r in arms.rounds_of(config, GOLF)),
    output:
        table=report(
            f"{RESULTS}/rounds/summary.csv",
            caption="../report/rounds.rst",
            category="Tables",
        ),
        svg=report(
            f"{RESULTS}/figures/training.svg",
            caption="../report/training.rst",
            category="Figures",
        ),
        png=f"{RESULTS}/figures/training.png",
    log:
        f"{LOGS}/summarize_rounds.log",
    benchmark:
        f"{BENCHMARKS}/summarize_rounds.tsv"
    localrule: True
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    script:
        "../workflow_scripts/summarize_rounds.py"


rule write_report:
    """The whole study in one HTML file, which opens without a network."""
    input:
        summary=f"{RESULTS}/evaluation/summary.csv",
        by_molecules=f"{RESULTS}/evaluation/summary_by_molecules.csv",
        differences=f"{RESULTS}/evaluation/summary_differences.csv",
        rounds=(
            [f"{RESULTS}/rounds/summary.csv"]
            if arms.has_learning_curve(config)
            else []
        ),
        training_figure=(
            [f"{RESULTS}/figures/training.svg"]
            if arms.has_learning_curve(config)
            else []
        ),
        figures=expand(f"{RESULTS}/figures/{{name}}.svg", name=FIGURES),
        metrics=arm_metrics,
        reference=f"{RESULTS}/evaluation/reference.h5",
        stages=[
            path
            for stage in STAGES.values()
            for path in results((stage.labels, stage.given))
        ],
        left_out=f"{RESULTS}/dataset/left_out.csv",
        inputs=sources,
        models=FINAL_MODEL + own_files(arms.files_of_others(config)),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/write_report.log",
    benchmark:
        f"{BENCHMARKS}/write_report.tsv"
    localrule: True
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        stages=[
            (
                stage.title,
                f"{PLACE}/{stage.labels}",
                f"{PLACE}/{stage.given}",
                stage.gives_gradients,
            )
            for stage in STAGES.values()
        ],
        captions=lambda wildcards: [caption(name) for name in FIGURES],
        benchmarks=f"{PLACE}/benchmarks",
        stamp=STAMP,
    script:
        "../workflow_scripts/write_report.py"
