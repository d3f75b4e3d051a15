"""Export a trained potential as TorchScript, which other engines load without this package; see docs/export.md.

The exported file uses SchNetPack's own modules with the same weights. golf's faster evaluation calls kernels that
cannot be part of the file.
"""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from golf import __version__
from golf.core.elements import SYMBOLS
from golf.core.files import written_whole
from golf.nnp.potential import UNITS, Potential
from golf.nnp.repulsion import STIFFNESS, Wall

METADATA = "golf.json"
"""Name of the text in the file that describes the model."""


class ExportedPotential(nn.Module):
    """Compute energy and forces of one molecule, in the subset of Python that TorchScript compiles.

    Args:
        potential: potential on the CPU, in the type of the exported file; it is not changed.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        network = potential.on_schnetpack().network
        self.representation = network.representation
        self.outnet = network.output_modules[0].outnet
        self.cutoff = potential.architecture.cutoff
        self.scale = potential.scale
        self.dtype = potential.dtype
        self.stiffness = STIFFNESS
        self.reference: Tensor
        self.onset: Tensor
        energies = torch.full((len(SYMBOLS),), torch.nan, dtype=torch.float64)
        for z, energy in potential.reference_energies.items():
            energies[z] = energy
        self.register_buffer("reference", energies)
        repulsion = potential.repulsion if potential.repulsion is not None else Wall({})
        self.register_buffer("onset", repulsion.onset.to(torch.float64))
        basis = self.representation.radial_basis
        if hasattr(basis, "freqs"):  # SchNetPack keeps frequencies that were rounded to float32
            waves = torch.arange(1, basis.n_rbf + 1, dtype=self.dtype)
            basis.freqs = waves * (torch.pi / float(self.representation.cutoff))

    def forward(self, numbers: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the total energy [] in hartree and forces [A, 3] in hartree/angstrom, both float64.

        Args:
            numbers: [A] int64, atomic numbers.
            positions: [A, 3] angstrom. If they require a gradient, energy and forces can be differentiated.
        """
        reference = self.reference.index_select(0, numbers)
        if bool(torch.isnan(reference).any()):
            raise ValueError("the molecule has an element that the model never saw")
        # Some engines call this under no_grad; TorchScript has no `enable_grad`
        before = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        x = positions if positions.requires_grad else positions.detach().requires_grad_()
        pair_i, pair_j, vectors = self.pairs(x.to(torch.float64))
        inputs = {
            "_atomic_numbers": numbers,
            "_Rij": torch.cat([vectors, -vectors]),
            "_idx_i": torch.cat([pair_i, pair_j]),
            "_idx_j": torch.cat([pair_j, pair_i]),
        }
        features = self.representation(inputs)["scalar_representation"]
        onset = self.onset[numbers.index_select(0, pair_i), numbers.index_select(0, pair_j)]
        gap = (onset - torch.linalg.vector_norm(vectors, dim=1)).clamp(min=0.0)
        energy = self.outnet(features).to(torch.float64).sum() * self.scale
        energy = energy + reference.sum() + 0.5 * self.stiffness * gap.square().sum()
        with_graph = positions.requires_grad
        gradient = torch.autograd.grad([energy], [x], retain_graph=with_graph, create_graph=with_graph)[0]
        assert gradient is not None
        forces = -gradient.to(torch.float64)
        torch.set_grad_enabled(before)
        return energy if with_graph else energy.detach(), forces

    def pairs(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return atoms i < j [U] of the pairs within the cutoff, and the vectors from i to j [U, 3]."""
        pair = torch.combinations(torch.arange(positions.size(0), device=positions.device))
        vectors = positions.index_select(0, pair[:, 1]) - positions.index_select(0, pair[:, 0])
        distance = torch.linalg.vector_norm(vectors.detach(), dim=1)
        near = torch.nonzero(~(distance >= self.cutoff)).squeeze(1)  # NaN must show in the energy
        pair = pair.index_select(0, near)
        return pair[:, 0], pair[:, 1], vectors.index_select(0, near).to(self.dtype)


def export(potential: Potential, path: str | Path) -> None:
    """Write a potential as TorchScript in its current type, with a JSON text of its elements, units and level."""
    description = {
        "created_by": f"golf {__version__}",
        "elements": [SYMBOLS[z] for z in potential.elements],
        "units": UNITS,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "cutoff": potential.architecture.cutoff,
        "level": dict(potential.provenance.level),
        "config_sha256": potential.provenance.config_sha256,
    }
    with written_whole(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript; docs/export.md says why it is used
        scripted = torch.jit.script(ExportedPotential(potential).eval())
        content = BytesIO()  # torch would abort the process if the disk is full
        torch.jit.save(scripted, content, _extra_files={METADATA: json.dumps(description)})
        temporary.write_bytes(content.getvalue())
