"""The table that compares the arms, for machines and for people."""

from golf.evaluation import format_table, summarize, summarize_by_molecules
from golf.files import written_whole
from golf.hdf5 import read
from golf.job import job

with job(snakemake.log[0]):
    arms = [read(path) for path in snakemake.input.metrics]
    table = summarize(arms, seed=snakemake.params.seed)
    by_molecules = summarize_by_molecules(arms, seed=snakemake.params.seed)
    for path, frame in ((snakemake.output.table, table), (snakemake.output.by_molecules, by_molecules)):
        with written_whole(path) as temporary:
            frame.to_csv(temporary, index=False)
    with written_whole(snakemake.output.text) as temporary:
        temporary.write_text(
            "\n\n".join(filter(None, map(format_table, (table, by_molecules)))) + "\n", encoding="utf-8"
        )
