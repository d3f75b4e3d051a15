# Included while files of dataset.download are missing. The size of the study follows from them: until then nothing
# else can be planned, and the same command typed again runs the study.


rule download_data:
    output:
        local("{download}"),
    log:
        f"{LOGS}/download_data/{{download}}.log",
    wildcard_constraints:
        download="|".join(map(re.escape, DOWNLOADS)),
    localrule: True
    threads: 1
    resources:
        mem_mb=500,
        runtime=1440,
    params:
        url=lambda wildcards: DOWNLOADS[wildcards.download]["url"],
        checksums=lambda wildcards: {
            name: value
            for name, value in DOWNLOADS[wildcards.download].items()
            if name not in ("url", "to")
        },
    script:
        "../workflow_scripts/download_data.py"
