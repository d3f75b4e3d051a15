"""Check that the configured level of theory can be computed, for which elements, and that it is right."""

import json

from golf.core.elements import MMFF_NUMBERS
from golf.core.files import written_whole
from golf.core.job import job
from golf.core.level import LevelOfTheory
from golf.oracles.programs.pool import OraclePool
from golf.oracles.proof import prove
from golf.oracles.settings import pool_settings

with job(snakemake.log[0]):
    level = LevelOfTheory(**snakemake.params.level)
    with OraclePool(level, **(pool_settings(snakemake.config) | {"n_workers": 1})) as oracle:
        basis = oracle.basis(MMFF_NUMBERS)
        oracle.check([1])
        found = level.attrs() | {"program_version": oracle.program_version} | basis.to_json()
        found["proof"] = prove(oracle, basis.functions)
    with written_whole(snakemake.output[0]) as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
