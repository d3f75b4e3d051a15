"""The parts of SchNetPack that golf uses, importable beside a current PyTorch, and in 2 s instead of 8.

SchNetPack 2.1.1 imports `T_co` from `torch.utils.data.dataloader`, which PyTorch has renamed to `_T_co`. The old name
is set before SchNetPack is imported. Importing the package imports all of it, with data sets, PyTorch Lightning and
PyTorch's compiler, which take 6 s of every job; here the package's own code runs once somebody asks for something that
the parts below did not bring. It also calls `logging.basicConfig(level="INFO")`, which would show the log of every
library to programs that import golf; it does nothing where the root logger has a handler, so it is given one meanwhile.

pip cannot install SchNetPack beside a current PyTorch without a word (docs/install.md), so only what builds, trains or
exports a network imports this module, by `golf.nnp.potential.schnetpack_network`.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import dataloader

from golf.nnp.weights import unknown_representation

if TYPE_CHECKING:
    from golf.nnp.potential import Architecture

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

__all__ = ["BesselRBF", "CosineCutoff", "NeuralNetworkPotential", "new_network", "properties"]

_BUILDING = threading.RLock()  # torch's default dtype is the process's


@contextmanager
def _default_float32() -> Iterator[None]:
    """Build SchNetPack's networks in float32, the only type they support, whatever torch's default dtype is.

    Another thread that makes a tensor without a dtype in these milliseconds gets float32.
    """
    with _BUILDING:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def new_network(architecture: Architecture) -> NeuralNetworkPotential:
    """Build a float32 network with new weights, drawn from torch's global generator."""
    cutoff, n_rbf = architecture.cutoff, architecture.n_rbf
    shape = architecture.n_atom_basis, architecture.n_interactions
    with _default_float32():
        if architecture.representation == "painn":
            representation = PaiNN(*shape, BesselRBF(n_rbf, cutoff), CosineCutoff(cutoff))
        elif architecture.representation == "schnet":
            representation = SchNet(*shape, GaussianRBF(n_rbf, cutoff), CosineCutoff(cutoff))
        else:
            raise unknown_representation(architecture)
        outputs = [Atomwise(architecture.n_atom_basis, output_key=properties.energy), Forces()]
        return NeuralNetworkPotential(representation, [PairwiseDistances()], outputs)
