"""Whether the configured level of theory can be computed for the elements of this study."""

import json

from golf.conformations import read
from golf.files import written_whole
from golf.job import job
from golf.oracles.base import LevelOfTheory
from golf.oracles.psi4 import Psi4Oracle

with job(snakemake.log[0]):
    level = LevelOfTheory(**snakemake.params.level)
    elements = sorted({int(z) for path in snakemake.input for z in read(path).number})
    with Psi4Oracle(level, **(snakemake.params.pool | {"n_workers": 1})) as oracle:
        oracle.check(elements)
        found = level.attrs() | {"program_version": oracle.program_version, "elements": elements}
    with written_whole(snakemake.output[0]) as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")
