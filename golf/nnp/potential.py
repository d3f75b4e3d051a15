"""The neural network potential: a network, reference energies per element and units, saved as one file.

The total energy of a molecule is
    E = sum over atoms of (reference energy of its element + scale * network output) [+ repulsion],
network and repulsion in float32 (float64 after `.double()`), sums and reference energies in float64: at -899 Eh the
spacing of float32 is 0.04 kcal/mol. Forces are minus its gradient.
"""

from __future__ import annotations

import copy
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golf import __version__
from golf.core.conformations import ConformationSet
from golf.core.elements import MAX_NUMBER, SYMBOLS
from golf.core.errors import UserError
from golf.core.packages import missing_schnetpack
from golf.nnp.batches import Batch, LabelledMolecules, batch_of, wants_graph
from golf.nnp.checkpoints import save_whole
from golf.nnp.domain import Domain
from golf.nnp.hessian import hessian
from golf.nnp.networks import atomic_energies, scalar_features
from golf.nnp.painn import compiled_loops
from golf.nnp.provider import Molecules
from golf.nnp.repulsion import Wall
from golf.nnp.weights import Network, empty_network

FORMAT = "golf-potential"
FORMAT_VERSION = 1
UNITS = {"length": "angstrom", "energy": "hartree", "force": "hartree/angstrom"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Architecture:
    """The architecture of a network, which determines the shapes of its weights."""

    representation: str = "painn"  # or "schnet"
    n_atom_basis: int = 128
    n_interactions: int = 3
    n_rbf: int = 50
    cutoff: float = 5.0  # angstrom
    repulsion: str = "none"  # or "wall", see golf/nnp/repulsion.py

    def network(self) -> nn.Module:
        """Build SchNetPack's network in float32 with new weights, drawn from torch's global generator.

        Raises:
            UserError: SchNetPack is not installed, or the representation is unknown.
        """
        return schnetpack_network(self)

    def repulsion_module(self, shortest_distances: Mapping[str, float]) -> Wall | None:
        """Build the repulsion, which is not trained; None if there is none.

        Args:
            shortest_distances: angstrom, by pair of elements.

        Raises:
            UserError: the repulsion is unknown.
        """
        if self.repulsion == "none":
            return None
        if self.repulsion != "wall":
            raise UserError(f"key nnp.repulsion: {self.repulsion!r} is unknown; use none or wall")
        return Wall(shortest_distances)


@dataclass(frozen=True)
class Provenance:
    """The origin of the weights, which is written to the model file."""

    level: Mapping[str, str] = field(default_factory=dict)  # LevelOfTheory.attrs() of the labels
    config_sha256: str = ""
    seed: int = 0


class Potential(nn.Module):
    """A potential for energies and forces of molecules, with its weights in `network` under SchNetPack's names."""

    def __init__(
        self,
        architecture: Architecture,
        reference_energies: Mapping[int, float],
        *,
        scale: float = 1.0,
        provenance: Provenance | None = None,
        shortest_distances: Mapping[str, float] | None = None,
        domain: Domain | None = None,
        network: Network | None = None,
    ) -> None:
        """Create a potential with new weights, drawn from torch's global generator, or with those of `network`.

        Args:
            architecture: architecture of the network.
            reference_energies: energies in hartree by atomic number, for all elements that the potential supports.
            scale: hartree per unit of network output; 1: the weights are those of a plain SchNetPack model in hartree.
            provenance: origin of the weights.
            shortest_distances: shortest distances of the labels in angstrom, if the architecture has a wall; see
                golf/nnp/repulsion.py.
            domain: domain of the training data; None: unknown, as in older models.
            network: network of this architecture; None: build a new one with SchNetPack.
        """
        super().__init__()
        self.architecture = architecture
        self.reference_energies = {int(z): float(energy) for z, energy in sorted(reference_energies.items())}
        self.scale = float(scale)
        self.provenance = provenance or Provenance()
        self.domain = domain
        self.network: Any = architecture.network() if network is None else network  # Network, or SchNetPack's own
        self.repulsion = architecture.repulsion_module(shortest_distances or {})
        reference = torch.full((MAX_NUMBER,), math.nan, dtype=torch.float64)
        for z, energy in self.reference_energies.items():
            reference[z] = energy
        self._reference = reference  # not a buffer: `.float()` must leave it in float64

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Potential:
        super()._apply(fn, recurse)
        self._reference = self._reference.to(self.device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.network.representation.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights: float32, or float64 after `.double()`."""
        return self.network.representation.embedding.weight.dtype

    @property
    def elements(self) -> list[int]:
        """Atomic numbers of the elements that the potential supports."""
        return list(self.reference_energies)

    def energy_and_forces(
        self, numbers: Tensor, positions: Tensor, offset: Tensor, *, copies: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Compute total energies [n] in hartree and forces [A, 3] in hartree/angstrom, both float64.

        If the positions require a gradient, both can be differentiated any number of times with respect to them, at a
        third of the speed. Otherwise they have no graph.

        Args:
            numbers: [A] int64, atomic numbers. Unsupported elements give NaN; see `check_elements`.
            positions: [A, 3] angstrom.
            offset: [n + 1] int64, atoms of molecule i are the rows `offset[i]:offset[i + 1]`.
            copies: the molecules are copies of one with small displacements, whose forces are needed relative to those
                of the first copy, which saves half of the time; see golf/nnp/copies.py.
        """
        numbers = numbers.to(self.device, torch.int64)
        positions = positions.to(self.device) if wants_graph(positions) else positions.detach().to(self.device)
        batch = batch_of(numbers, positions, offset.to(self.device), self.architecture.cutoff)
        batch = replace(batch, vectors=batch.vectors.to(self.dtype), copies=copies)
        reference = self._reference.index_select(0, numbers)
        total = reference.new_zeros(batch.n_molecules).index_add(0, batch.molecule, reference)
        energy, forces = self.network_energy_and_forces(batch)
        total, forces = total + energy, forces.to(torch.float64)
        if self.repulsion is not None:
            energy, forces_repulsion = self._repulsion_energy_and_forces(self.repulsion, batch)
            total, forces = total + energy, forces + forces_repulsion
        return total, forces

    def evaluate(self, molecules: Molecules, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces of molecules; see `golf.nnp.provider.ForceProvider`."""
        return self.energy_and_forces(molecules.numbers, positions, molecules.offset)

    def hessian(self, numbers: Tensor, positions: Tensor, *, threads: int | None = None) -> Tensor:
        """Compute the symmetric matrix of second derivatives [3 n, 3 n] of the energy of one molecule.

        The result is in hartree/angstrom^2, with an error within 1e-6, computed in float64 for every type of potential.

        Args:
            numbers: [n] int64, atomic numbers.
            positions: [n, 3] angstrom; rows and columns are ordered by atom, then x, y, z.
            threads: CPU threads; None: as many as PyTorch uses.
        """
        return hessian(self, numbers, positions, threads)

    def network_energy_and_forces(self, batch: Batch, for_training: bool = False) -> tuple[Tensor, Tensor]:
        """Compute the network's contribution: energies [n] float64 relative to the reference energies, forces [A, 3].

        With `for_training` the results are differentiable with respect to the weights; if the vectors of the batch
        require a gradient, also with respect to these.
        """
        batch, geometry = _differentiable(batch)
        with torch.enable_grad():
            with nullcontext() if geometry else compiled_loops():
                features = scalar_features(self.network.representation, batch)
            per_atom = atomic_energies(self.network.output_modules[0].outnet, features) * self.scale
            return _summed(per_atom, batch, with_graph=for_training or geometry)

    def _repulsion_energy_and_forces(self, repulsion: Wall, batch: Batch) -> tuple[Tensor, Tensor]:
        batch, geometry = _differentiable(batch)
        with torch.enable_grad():
            per_pair = repulsion(batch)
            per_atom = per_pair.new_zeros(len(batch.numbers)).index_add(0, batch.pair_i, per_pair)
            energy, forces = _summed(per_atom, batch, with_graph=geometry)
        return energy, forces.to(torch.float64)

    def molecules(self, conformations: ConformationSet) -> LabelledMolecules:
        """Make a training set of the labelled conformations with the energies and forces that the network has to learn.

        Reference energies and repulsion, which are not trained, are subtracted from the labels in float64.
        """
        molecules = LabelledMolecules.build(
            conformations, self._reference, self.architecture.cutoff, self.dtype, self.device
        )
        if self.repulsion is None or not len(molecules):
            return molecules
        repulsion = self.repulsion
        parts = [self._repulsion_energy_and_forces(repulsion, batch) for batch, _, _ in molecules.chunks()]
        energy, force = map(torch.cat, zip(*parts, strict=True))
        rest = (molecules.force.to(torch.float64) - force).to(molecules.force.dtype)
        return replace(molecules, energy=molecules.energy - energy, force=rest)

    def on_schnetpack(self) -> Potential:
        """Return a copy whose network is SchNetPack's own, which trainings and exports need.

        Raises:
            UserError: SchNetPack is not installed.
        """
        if not isinstance(self.network, Network):
            return copy.deepcopy(self)
        weights = self.network.state_dict()
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn are replaced
            network = schnetpack_network(self.architecture).to(self.device, self.dtype)
        network.load_state_dict(weights)
        network.requires_grad_(next(self.network.parameters()).requires_grad)
        loaded, self.network = self.network, network
        try:
            return copy.deepcopy(self)
        finally:
            self.network = loaded

    def check_elements(self, conformations: ConformationSet, path: str | Path) -> None:
        """Raise a UserError that names the first conformation with an element that the potential does not support."""
        unknown = self.unknown_element(conformations.number)
        if unknown is not None:
            row = int(np.flatnonzero(~np.isin(conformations.number, self.elements))[0])
            i = int(np.searchsorted(conformations.offset, row, side="right")) - 1
            raise UserError(
                f"{path}: conformation {conformations.id[i]!r} has {unknown}; remove it or train with such molecules"
            )

    def unknown_element(self, numbers: NDArray) -> str | None:
        """Describe the first atomic number that the potential does not support; None if it supports all."""
        unknown = numbers[~np.isin(numbers, self.elements)]
        if not len(unknown):
            return None
        known = ", ".join(SYMBOLS[z] for z in self.elements)
        return f"{SYMBOLS[unknown[0]]}, which the model never saw (it knows {known})"

    def save(self, path: str | Path, training_state: Mapping[str, Any] | None = None) -> None:
        """Write all that is needed to use the potential, and a training state (golf/training/loop.py), if given."""
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "created_by": f"golf {__version__}",
            "architecture": asdict(self.architecture),
            "reference_energies": self.reference_energies,
            "elements": [SYMBOLS[z] for z in self.elements],
            "scale": self.scale,
            "shortest_distances": None if self.repulsion is None else self.repulsion.shortest_distances,
            "units": UNITS,
            "level": dict(self.provenance.level),
            "config_sha256": self.provenance.config_sha256,
            "seed": self.provenance.seed,
            "training_domain": None if self.domain is None else _domain_content(self.domain),
            "network": self.network.state_dict(),
            "training_state": None if training_state is None else dict(training_state),
        }
        save_whole(path, content)


def _differentiable(batch: Batch) -> tuple[Batch, bool]:
    """Return the batch with vectors that require a gradient, and whether they are part of the caller's graph."""
    if wants_graph(batch.vectors):
        return batch, True
    return replace(batch, vectors=batch.vectors.detach().requires_grad_()), False


def _summed(per_atom: Tensor, batch: Batch, with_graph: bool) -> tuple[Tensor, Tensor]:
    """Sum energies [n] float64 and forces [A, 3] of energies per atom that depend on the vectors of pairs."""
    vectors = batch.vectors
    energy = torch.zeros(batch.n_molecules, dtype=torch.float64, device=per_atom.device)
    energy = energy.index_add(0, batch.molecule, per_atom.to(torch.float64))
    (gradient,) = torch.autograd.grad(per_atom.sum(), vectors, create_graph=with_graph)
    forces = torch.zeros(len(batch.numbers), 3, dtype=vectors.dtype, device=vectors.device)
    energy = energy if with_graph else energy.detach()
    return energy, forces.index_add(0, batch.pair_i, gradient).index_add(0, batch.pair_j, -gradient)


def schnetpack_network(architecture: Architecture) -> nn.Module:
    """Build a float32 network of SchNetPack; its weights are drawn from torch's global generator.

    Raises:
        UserError: SchNetPack is not installed, or the representation is unknown.
    """
    try:
        from golf.nnp import _schnetpack
    except ModuleNotFoundError as error:
        raise missing_schnetpack("building, training or exporting a network", error) from None
    return _schnetpack.new_network(architecture)


def pick_device(name: str) -> str:
    """Return the device for a name: "cuda" if available, else "cpu", for "auto"; other names unchanged.

    Raises:
        UserError: cuda was requested and is not available.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name}: PyTorch sees no GPU; use auto or cpu (--device, in a study resources.device)")
    return name


def load(path: str | Path, device: str | torch.device = "cpu", dtype: str = "float32") -> Potential:
    """Read a potential written by `Potential.save`.

    Its weights do not require a gradient, which is faster; trainings enable it themselves. SchNetPack is not needed.

    Args:
        path: model file.
        device: where the weights are.
        dtype: precision of the network, "float32" or "float64".

    Raises:
        UserError: the file is missing, truncated, not a golf potential, or of a newer version, or dtype is unknown.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; use {' or '.join(DTYPES)}")
    content = _content(path)
    try:
        provenance = Provenance(content["level"], content["config_sha256"], content["seed"])
        architecture = Architecture(**content["architecture"])
        potential = Potential(
            architecture,
            content["reference_energies"],
            scale=content["scale"],
            provenance=provenance,
            shortest_distances=content["shortest_distances"],
            domain=_domain(content.get("training_domain")),  # absent in older files
            network=empty_network(architecture),
        )
        potential.network.load_state_dict(content["network"])
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path}: a golf potential with inconsistent content ({_first_line(error)}); train it again"
        ) from None
    if potential.dtype != DTYPES[dtype]:
        potential.to(DTYPES[dtype])
    return potential.requires_grad_(False).to(device)


def _domain_content(domain: Domain) -> dict[str, Any]:
    return {"kinds": sorted(domain.kinds), "shortest_distances": dict(domain.shortest_distances)}


def _domain(content: Mapping[str, Any] | None) -> Domain | None:
    return None if content is None else Domain(frozenset(content["kinds"]), content["shortest_distances"])


def load_training_state(path: str | Path) -> dict[str, Any] | None:
    """Read the training state that a potential was saved with, or None; raises the same errors as `load`."""
    return _content(path).get("training_state")


def _content(path: str | Path) -> dict[str, Any]:
    remedy = "give a model.pt written by golf"
    if Path(path).is_dir():
        raise UserError(f"{path}: a folder; {remedy}")
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; {remedy}")
    if _is_torchscript(path):
        raise UserError(f"{path}: a TorchScript file, which is for other engines; {remedy}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{path}: {(error.strerror or '').lower()}; {remedy}") from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError):  # in PyTorch's words
        raise UserError(f"{path}: not a model file, or truncated; {remedy}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: a PyTorch file, but not a golf potential; {remedy}")
    if content["format_version"] > FORMAT_VERSION:
        version = content["format_version"]
        raise UserError(f"{path}: format version {version}, this golf reads up to {FORMAT_VERSION}; update golf")
    return content


def _is_torchscript(path: str | Path) -> bool:
    """Tell whether a file was written by `torch.jit.save`: an archive that contains code."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).name == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
