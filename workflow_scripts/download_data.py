"""Download a public file of the data set; an interrupted download is resumed."""

from golf.core.job import job
from golf.io.download import download

with job(snakemake.log[0]) as deadline:
    download(snakemake.params.url, snakemake.output[0], snakemake.params.checksums, deadline=deadline)
