"""Settings of a selection, a potential that is wrong, and relaxations of one start alone to compare with."""

from golf.core.units import hartree
from golf.relaxation.relax import relax
from support.mmff_potential import stretch

MOLECULES = ["OCC(F)CN", "CCCS", "COCC=O"]
OPTIONS = {
    "iterations_per_step": 5,
    "max_steps": 40,
    "force_threshold": hartree(0.05),
    "slots": 4,
    "seed": 11,
    "round_number": 2,
}
WRONG = stretch(1.75)


def replayed(potential, starts, start_id, n_steps, **options):
    """The conformation after `n_steps` steps from a start, relaxed alone."""
    one = starts.subset([starts.id.index(start_id)])
    if n_steps == 0:
        return one.position
    options = {key: (OPTIONS | options)[key] for key in ("iterations_per_step", "force_threshold")}
    return relax(one, potential, max_steps=n_steps, slots=1, **options).position
