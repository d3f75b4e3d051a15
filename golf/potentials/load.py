"""Load a potential by its name or from a file, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from golf.core.conformations import ConformationSet
from golf.core.elements import MMFF_NUMBERS, SYMBOLS
from golf.core.errors import UserError
from golf.core.level import NO_BASIS, SPICE_LEVEL, LevelOfTheory
from golf.core.processors import usable_processors
from golf.io.spice import ATOM_ENERGIES
from golf.nnp import potential as networks
from golf.nnp.domain import Domain
from golf.nnp.parallel import ThreadedPotential
from golf.nnp.provider import ForceProvider, Molecules
from golf.nnp.published import CONFIG, import_checkpoint
from golf.potentials.aimnet2 import AIMNet2
from golf.potentials.card import Card
from golf.potentials.catalog import AIMNET2, CATALOG, card_of, is_name
from golf.potentials.force_field import ForceField
from golf.potentials.programs import TIME_LIMIT, ProgramPotential
from golf.potentials.store import checked_files, folder_of

TORCHSCRIPT = ".jpt"
"""Suffix of AIMNet2's TorchScript files."""

ASKED_FOR = sorted({*MMFF_NUMBERS, 5, 33, 34})
"""Elements that an ASE calculator is asked about: those of MMFF94, boron, arsenic and selenium."""


class LoadedPotential:
    """A potential that is ready to compute; a `golf.nnp.provider.ForceProvider` and a context manager.

    Attributes:
        card: what it covers and where it comes from.
        network: golf's own network; None for potentials of other kinds.
        files: files that it was loaded from.
    """

    def __init__(
        self,
        card: Card,
        provider: ForceProvider,
        close: Callable[[], None],
        *,
        network: networks.Potential | None = None,
        files: tuple[Path, ...] = (),
    ) -> None:
        self.card = card
        self.network = network
        self.files = files
        self._provider = provider
        self._close = close

    def __enter__(self) -> LoadedPotential:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its threads or child processes."""
        self._close()

    @property
    def device(self) -> torch.device:
        """Device of the tensors that are passed and returned."""
        return self._provider.device

    @property
    def domain(self) -> Domain | None:
        """Domain of its training data; None if unknown."""
        return None if self.network is None else self.network.domain

    @property
    def level(self) -> dict[str, str]:
        """Root attributes that state its level of theory; empty if unknown."""
        return dict(self.card.level)

    def check(self, conformations: ConformationSet, path: str | Path) -> None:
        """Raise a UserError that names the first conformation which the potential does not cover."""
        covered = np.isin(conformations.number, self.card.elements)
        for i, smiles in enumerate(conformations.mapped_smiles):
            rows = conformations.rows(i)
            reason = self.card.refusal(smiles, int(conformations.charge[i]))
            if not covered[rows].all():
                symbol = SYMBOLS[conformations.number[rows][~covered[rows]][0]]
                reason = f"it has {symbol}, which {self.card.name} does not cover (it covers {self.card.words()})"
            if reason:
                raise UserError(
                    f"{path}: conformation {conformations.id[i]!r}: {reason}; remove it, choose another potential, or "
                    "train with such molecules"
                )

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces; see `golf.nnp.provider.ForceProvider`."""
        return self._provider.evaluate(molecules, positions)


def load_potential(
    name: str | Path,
    *,
    device: str = "auto",
    cores: int | None = None,
    dtype: str = "float32",
    time_limit: float = TIME_LIMIT,
) -> LoadedPotential:
    """Load a potential.

    Args:
        name: a name of `golf.potentials.catalog.CATALOG`, "ase:package.module.Class[:key=value,...]", a model file of
            golf, the folder of a published checkpoint, or AIMNet2's TorchScript file (.jpt).
        device: "auto" (cuda if available), "cpu" or "cuda", for networks.
        cores: threads or child processes; None: all usable processors.
        dtype: precision of golf's own networks, "float32" or "float64".
        time_limit: seconds for one evaluation of one molecule in a child process.

    Raises:
        UserError: the name is unknown, a file is missing or wrong, a package is missing, the device is not there, or
            cores is not positive.
    """
    if cores is None:
        cores = usable_processors()
    if cores < 1:
        raise UserError(f"cores {cores}: must be positive")
    text = str(name)
    if (isinstance(name, Path) or not is_name(text)) and _is_path(text):
        return _from_file(Path(text), device, cores, dtype)
    card = card_of(text)
    if card.kind == "network":
        files = checked_files(card)
        spice = SPICE_LEVEL.matches(card.level)
        network = import_checkpoint(folder_of(card), _spice_energies() if spice else None, level=card.level)
        return _network(card, network, tuple(files.values()), device, cores, dtype)
    if card.kind == "aimnet2":
        return _aimnet2(card, checked_files(card)[card.files[0].name], device, cores)
    if card.kind == "mmff":
        return LoadedPotential(card, ForceField(), lambda: None)
    return _program(card, cores, time_limit)


def _is_path(text: str) -> bool:
    return (bool(text) and Path(text).exists()) or "/" in text or Path(text).suffix in (".pt", TORCHSCRIPT)


def _from_file(path: Path, device: str, cores: int, dtype: str) -> LoadedPotential:
    if path.suffix == TORCHSCRIPT:
        return _aimnet2(replace(AIMNET2, name=str(path)), path, device, cores)
    if (path / CONFIG).is_file():
        published = import_checkpoint(path)
        card = Card(
            str(path),
            "network",
            tuple(published.elements),
            published.provenance.level,
            takes_charge=False,
            title="checkpoint",
        )
        return _network(card, published, tuple(sorted(path.iterdir())), device, cores, dtype)
    network = networks.load(path)
    # Ions are marked as unlike the training data, and not refused, because a model may have been trained on them
    card = Card(
        str(path),
        "network",
        tuple(network.elements),
        network.provenance.level,
        takes_charge=True,
        title="model of golf",
    )
    return _network(card, network, (path,), device, cores, dtype)


def _network(
    card: Card, network: networks.Potential, files: tuple[Path, ...], device: str, cores: int, dtype: str
) -> LoadedPotential:
    if dtype not in networks.DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; use {' or '.join(networks.DTYPES)}")
    network = network.to(networks.DTYPES[dtype]).to(networks.pick_device(device))
    threaded = ThreadedPotential(network, cores)
    return LoadedPotential(card, threaded, lambda: threaded.__exit__(None, None, None), network=network, files=files)


def _spice_energies() -> dict[str, float]:
    """Return the energies of isolated atoms at the level of SPICE, in hartree by symbol."""
    return {SYMBOLS[z]: ATOM_ENERGIES[z] for z in CATALOG["golf-10k-spice"].elements}


def _aimnet2(card: Card, path: Path, device: str, cores: int) -> LoadedPotential:
    network = AIMNet2(path, networks.pick_device(device), cores)
    return LoadedPotential(card, network, network.close, files=(path,))


def _program(card: Card, cores: int, time_limit: float) -> LoadedPotential:
    level = LevelOfTheory("ase", card.method, NO_BASIS, card.keywords)
    try:
        potential = ProgramPotential(level, cores, time_limit)
    except UserError as error:
        raise _named(card, error) from None
    if not card.elements:
        try:
            card = replace(card, elements=potential.covered(ASKED_FOR))
        except UserError as error:
            potential.close()
            raise _named(card, error) from None
    return LoadedPotential(card, potential, potential.close)


def _named(card: Card, error: UserError) -> UserError:
    """Return an error of an oracle's program in terms of the potential, whose name is not a key of a configuration."""
    return UserError(f"potential {card.name}: {str(error).replace('oracle.method', 'the calculator')}")
