"""Compute the Hessians of GFN2-xTB of a batch of own structures."""

from golf.core.hdf5 import read
from golf.core.job import job
from golf.oracles.costs import read_basis
from golf.oracles.local_minimum import hessians, write_hessians
from golf.oracles.minima import batch
from golf.oracles.programs.protocol import requests_from
from golf.oracles.settings import processes_on

with job(snakemake.log[0]) as deadline:
    index, n_batches = int(snakemake.wildcards.batch), snakemake.params.n_batches
    starts = batch(read(snakemake.input.starts), (), index, n_batches, read_basis(snakemake.input.oracle))
    n_workers = processes_on(snakemake.config, snakemake.threads)
    found = hessians(requests_from(starts), n_workers=n_workers, deadline=deadline)
    write_hessians(snakemake.output[0], found.of)
