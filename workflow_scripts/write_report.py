"""Write the report of a study: one self-contained HTML file."""

from golf.core.job import job
from golf.evaluation.report import LabelStage, StudyFiles, write_report

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    write_report(
        snakemake.output[0],
        StudyFiles(
            summary=files.summary,
            by_molecules=files.by_molecules,
            differences=files.differences,
            rounds=next(iter(files.rounds), None),
            training_figure=next(iter(files.training_figure), None),
            figures=dict(zip(files.figures, params.captions, strict=True)),
            arms=files.metrics,
            reference=files.reference,
            stages=[LabelStage(*stage) for stage in params.stages],
            left_out=files.left_out,
            inputs=files.inputs,
            models=files.models,
            benchmarks=params.benchmarks,
        ),
        config=snakemake.config,
        config_sha256=params.stamp["config_sha256"],
    )
