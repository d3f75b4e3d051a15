report: "../report/workflow.rst"


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
        text=f"{RESULTS}/evaluation/summary.txt",
    log:
        f"{LOGS}/summarize.log",
    benchmark:
        f"{BENCHMARKS}/summarize.tsv"
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
    conda:
        REPORT_ENV
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    script:
        "../workflow_scripts/draw_figures.py"
