"""Draw the figures that compare the arms."""

import pandas

from golf.core.hdf5 import read
from golf.core.job import job
from golf.evaluation import figures as plots
from golf.evaluation.figure_style import save

with job(snakemake.log[0]):
    arms = [read(path) for path in snakemake.input.metrics]
    output = snakemake.output
    save(plots.optimized_shares(arms), output.shares_svg, output.shares_png)
    save(plots.final_geometries(arms), output.ends_svg, output.ends_png)
    summary = pandas.read_csv(snakemake.input.summary)
    save(plots.labels_and_outcome(summary), output.labels_svg, output.labels_png)
