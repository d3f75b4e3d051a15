"""Figures that compare the arms."""

import pandas

from golf import plots
from golf.hdf5 import read
from golf.job import job
from golf.plot_style import save

with job(snakemake.log[0]):
    arms = [read(path) for path in snakemake.input.metrics]
    output = snakemake.output
    save(plots.optimized_shares(arms), output.shares_svg, output.shares_png)
    save(plots.final_geometries(arms), output.ends_svg, output.ends_png)
    summary = pandas.read_csv(snakemake.input.summary)
    save(plots.labels_and_outcome(summary), output.labels_svg, output.labels_png)
