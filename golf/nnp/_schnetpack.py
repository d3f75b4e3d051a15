"""The parts of SchNetPack that golf uses, importable beside a current PyTorch, and in 2 s instead of 8.

SchNetPack 2.1.1 imports `T_co` from `torch.utils.data.dataloader`, which PyTorch has renamed to `_T_co`. The old name
is set before SchNetPack is imported. Importing the package imports all of it, with data sets, PyTorch Lightning and
PyTorch's compiler, which take 6 s of every job; here the package's own code runs once somebody asks for something that
the parts below did not bring. It also calls `logging.basicConfig(level="INFO")`, which would show the log of every
library to whoever imports golf; it does nothing where the root logger has a handler, so it is given one meanwhile.
"""

import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from torch.utils.data import dataloader

if not hasattr(dataloader, "T_co"):
    dataloader.T_co = dataloader._T_co  # type: ignore[attr-defined]


@contextmanager
def _quietly() -> Iterator[None]:
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SchNetPack's own dependencies, at their import
            yield
    finally:
        logging.getLogger().removeHandler(handler)


def _all_of_it(name: str) -> Any:
    """Run the code of the package, whose `__getattr__` this is, and get the attribute that it lacked until then."""
    package = sys.modules["schnetpack"]
    del package.__getattr__
    with _quietly():
        package.__loader__.exec_module(package)  # type: ignore[union-attr]
    return getattr(package, name)


_SPEC = importlib.util.find_spec("schnetpack")
if _SPEC is not None and "schnetpack" not in sys.modules:
    sys.modules["schnetpack"] = importlib.util.module_from_spec(_SPEC)  # has a path, where its modules are found
    sys.modules["schnetpack"].__version__ = metadata.version("schnetpack")  # type: ignore[attr-defined]
with _quietly():
    from schnetpack import properties
    from schnetpack.atomistic import Atomwise, Forces, PairwiseDistances
    from schnetpack.model.base import NeuralNetworkPotential
    from schnetpack.nn import BesselRBF, CosineCutoff, GaussianRBF
    from schnetpack.representation import PaiNN, SchNet
if not hasattr(sys.modules["schnetpack"], "train"):
    sys.modules["schnetpack"].__getattr__ = _all_of_it  # type: ignore[method-assign]

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
