"""Figures of what happens along relaxations, and their table with the lines of all arms."""

import pandas

from golf import plots
from golf.files import written_whole
from golf.job import job
from golf.plot_style import save

with job(snakemake.log[0]):
    table = pandas.concat([pandas.read_csv(path) for path in snakemake.input.tables], ignore_index=True)
    output = snakemake.output
    with written_whole(output.table) as temporary:
        table.to_csv(temporary, index=False)
    save(plots.trajectory_errors(table), output.errors_svg, output.errors_png)
    save(plots.trajectory_progress(table), output.progress_svg, output.progress_png)
