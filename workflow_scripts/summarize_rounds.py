"""Summarize the rounds: a table, and the figure of the trainings."""

from golf.core.files import written_whole
from golf.core.job import job
from golf.evaluation import figures as plots
from golf.evaluation.figure_style import save
from golf.evaluation.rounds import RoundFiles, summarize_rounds, training_curve

with job(snakemake.log[0]):
    files, output = snakemake.input, snakemake.output
    rounds = [RoundFiles(*paths) for paths in zip(files.selected, files.labels, files.metrics)]
    table = summarize_rounds(files.initial, files.baseline, rounds)
    with written_whole(output.table) as temporary:
        table.to_csv(temporary, index=False)
    curves = {"golf": training_curve([files.baseline, *files.metrics])} if rounds else {}
    curves["baseline"] = training_curve([files.baseline, *files.continued])
    save(plots.training_curves(curves, table), output.svg, output.png)
