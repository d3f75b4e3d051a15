"""Write the tables that compare the arms, for machines and for people."""

from golf.core.files import written_whole
from golf.core.hdf5 import read
from golf.core.job import job
from golf.evaluation.differences import format_differences, summarize_differences
from golf.evaluation.table import format_table, summarize, summarize_by_molecules

with job(snakemake.log[0]):
    arms = [read(path) for path in snakemake.input.metrics]
    seed, files = snakemake.params.seed, snakemake.output
    table = summarize(arms, seed=seed)
    by_molecules = summarize_by_molecules(arms, seed=seed)
    differences = summarize_differences(arms, seed=seed)
    for path, frame in ((files.table, table), (files.by_molecules, by_molecules), (files.differences, differences)):
        with written_whole(path) as temporary:
            frame.to_csv(temporary, index=False)
    texts = [format_table(table), format_table(by_molecules), format_differences(differences)]
    with written_whole(files.text) as temporary:
        temporary.write_text("\n\n".join(filter(None, texts)) + "\n", encoding="utf-8")
