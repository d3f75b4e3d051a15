"""Take the ends of an arm from a file that another program wrote."""

from golf.core.job import job
from golf.study.geometries import match_geometries

with job(snakemake.log[0]):
    match_geometries(snakemake.input.test, snakemake.input.geometries, snakemake.output[0], **snakemake.params.stamp)
