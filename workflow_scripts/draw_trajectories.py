"""Draw the figures of what happens along relaxations, and write their table for all arms."""

import pandas

from golf.core.files import written_whole
from golf.core.job import job
from golf.evaluation import figures as plots
from golf.evaluation.figure_style import save

with job(snakemake.log[0]):
    table = pandas.concat([pandas.read_csv(path) for path in snakemake.input.tables], ignore_index=True)
    output = snakemake.output
    with written_whole(output.table) as temporary:
        table.to_csv(temporary, index=False)
    save(plots.trajectory_errors(table), output.errors_svg, output.errors_png)
    save(plots.trajectory_progress(table), output.progress_svg, output.progress_png)
