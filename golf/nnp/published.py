"""Import published GOLF checkpoints (github.com/AIRI-Institute/GOLF) as potentials.

A checkpoint is a folder with `config.json` and `NNP_checkpoint_actor`, the state dict of a SchNetPack model whose
energies are in hartree relative to isolated atoms.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.core.elements import NETWORK_SYMBOLS, SYMBOLS
from golf.core.errors import UserError
from golf.core.level import NABLADFT_LEVEL
from golf.nnp.potential import Architecture, Potential, Provenance
from golf.nnp.weights import empty_network

CONFIG = "config.json"
WEIGHTS = "NNP_checkpoint_actor"
PREFIX = "model."

NABLADFT_ENERGIES: Mapping[str, float] = {
    "H": -0.5024932583661139,
    "C": -37.79809934247253,
    "N": -54.522414832380626,
    "O": -74.97667809850873,
    "F": -99.61446950401614,
    "S": -397.9719278356063,
    "Cl": -459.98864965660516,
    "Br": -2573.8571719614743,
}
"""Energies in hartree of isolated atoms at the level of nablaDFT, from its databases, for the elements of its
molecules."""


def import_checkpoint(
    folder: str | Path,
    reference_energies: Mapping[str, float] | None = None,
    level: Mapping[str, str] | None = None,
) -> Potential:
    """Convert a published checkpoint to a potential.

    Args:
        folder: folder of the checkpoint.
        reference_energies: energies of isolated atoms in hartree by symbol, for all elements that the potential should
            support; None: those of nablaDFT.
        level: attributes of the level of theory; None: that of nablaDFT.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    folder = Path(folder)
    architecture = _architecture(folder / CONFIG)
    energies = {SYMBOLS.index(symbol): value for symbol, value in (reference_energies or NABLADFT_ENERGIES).items()}
    network = empty_network(architecture)
    potential = Potential(
        architecture, energies, provenance=Provenance(level or NABLADFT_LEVEL.attrs()), network=network
    )
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in _weights(folder / WEIGHTS).items()}
    try:
        potential.network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{folder / WEIGHTS}: does not fit the network of {CONFIG} ({reason[:150]}); copy both from one checkpoint"
        ) from None
    cutoff = float(potential.network.representation.cutoff)
    if cutoff != architecture.cutoff:
        raise UserError(
            f"{folder / WEIGHTS}: the cutoff is {cutoff:g}, but {architecture.cutoff:g} in {CONFIG}; "
            "copy both from one checkpoint"
        )
    return potential.requires_grad_(False)


def read_energies(path: str | Path) -> dict[str, float]:
    """Read energies of isolated atoms (hartree, by symbol) from a JSON file.

    Raises:
        UserError: the file is missing or has other content.
    """
    try:
        energies = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        unknown = [symbol for symbol in energies if symbol not in NETWORK_SYMBOLS]
        if energies and not unknown and all(math.isfinite(float(energy)) for energy in energies.values()):
            return {symbol: float(energy) for symbol, energy in energies.items()}
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; give a JSON file") from None
    except (ValueError, TypeError, AttributeError):
        unknown = []
    wrong = "not a JSON object of numbers"
    if unknown:
        wrong = f"{unknown[0]!r} is not the symbol of an element up to {NETWORK_SYMBOLS[-1]}"
    raise UserError(f'{path}: {wrong}; write energies in hartree like {{"H": -0.5025, "C": -37.798}}')


def _architecture(path: Path) -> Architecture:
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
        return Architecture(
            representation=config["backbone"],
            n_atom_basis=int(config["n_atom_basis"]),
            n_interactions=int(config["n_interactions"]),
            n_rbf=int(config["n_rbf"]),
            cutoff=float(config["cutoff"]),
        )
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; {_REMEDY}") from None
    except KeyError as error:
        raise UserError(f"{path}: has no key {error}; {_REMEDY}") from None
    except (ValueError, TypeError):
        raise UserError(f"{path}: not the JSON configuration of a checkpoint; {_REMEDY}") from None


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"{path}: {(error.strerror or '').lower()}; {_REMEDY}") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise UserError(f"{path}: not a state dict of PyTorch, or truncated; {_REMEDY}") from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path}: not a state dict of PyTorch; {_REMEDY}")
    return weights


_REMEDY = f"give the folder of a published checkpoint, with {CONFIG} and {WEIGHTS}"
