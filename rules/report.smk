rule summarize:
    input:
        metrics=arm_metrics,
    output:
        table=f"{RESULTS}/evaluation/summary.csv",
        by_molecules=f"{RESULTS}/evaluation/summary_by_molecules.csv",
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
