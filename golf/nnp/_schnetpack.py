"""The parts of SchNetPack that golf uses, importable beside a current PyTorch.

SchNetPack 2.1.1 imports `T_co` from `torch.utils.data.dataloader`, which PyTorch has renamed to `_T_co`. The old name
is set before SchNetPack is imported. One of its modules also calls `logging.basicConfig(level="INFO")`, which would
show the log of every library to who imports golf; it does nothing where the root logger has a handler, so it is
given one meanwhile. Delete this module, and import from schnetpack, once upstream has mended both.
"""

import logging
import warnings

from torch.utils.data import dataloader

if not hasattr(dataloader, "T_co"):
    dataloader.T_co = dataloader._T_co  # type: ignore[attr-defined]

_handler = logging.NullHandler()
logging.getLogger().addHandler(_handler)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of SchNetPack's own dependencies, at their import
    from schnetpack import properties
    from schnetpack.atomistic import Atomwise, Forces, PairwiseDistances
    from schnetpack.model import NeuralNetworkPotential
    from schnetpack.nn import BesselRBF, CosineCutoff, GaussianRBF
    from schnetpack.representation import PaiNN, SchNet
logging.getLogger().removeHandler(_handler)

__all__ = [
    "Atomwise",
    "BesselRBF",
    "CosineCutoff",
    "Forces",
    "GaussianRBF",
    "NeuralNetworkPotential",
    "PaiNN",
    "PairwiseDistances",
    "SchNet",
    "properties",
]
