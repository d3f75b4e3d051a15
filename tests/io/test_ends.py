"""Relaxed geometries with the energies in their files: of `golf relax` in each format, and of other programs."""

import numpy as np
import pytest
from rdkit import Chem

from golf.cli.main import main
from golf.core.errors import UserError
from golf.core.hdf5 import read
from golf.core.units import HARTREE_IN_EV
from golf.io.ends import read_ends


@pytest.fixture(scope="module")
def relaxed(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("relaxed")
    (folder / "in.smi").write_text("CO methanol\nCCO ethanol\n")
    for suffix in ("h5", "sdf", "xyz"):
        out = folder / f"ends.{suffix}"
        arguments = ["relax", folder / "in.smi", "-m", model, "-o", out, "--conformers", "2", "--max-steps", "3"]
        assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.mark.parametrize("suffix", ["h5", "sdf", "xyz"])
def test_energies_of_golf_relax_in_every_format(relaxed, suffix):
    stored = read(relaxed / "ends.h5")
    ends = read_ends(relaxed / f"ends.{suffix}")
    assert ends.conformations.id == stored.id and not ends.left_out
    np.testing.assert_allclose(ends.energy, stored.values["nnp_energy_last"], atol=2e-8)
    np.testing.assert_allclose(ends.conformations.position, stored.position, atol=1e-4)
    if suffix == "sdf":
        assert np.isnan(ends.force).all()  # the format has none
    else:
        np.testing.assert_allclose(ends.force, stored.atoms["nnp_force"], atol=1e-6)
    two = ends.subset([2, 0])
    assert two.conformations.id == [stored.id[2], stored.id[0]] and two.energy[1] == ends.energy[0]
    assert two.force.shape == two.conformations.position.shape


def test_energies_of_other_programs(relaxed, tmp_path):
    mols = list(Chem.SDMolSupplier(str(relaxed / "ends.sdf"), removeHs=False))
    with Chem.SDWriter(str(tmp_path / "auto3d.sdf")) as writer:
        for k, mol in enumerate(mols[:2]):
            for name in list(mol.GetPropNames()):
                mol.ClearProp(name)
            mol.SetProp("_Name", "methanol")
            if k == 0:
                mol.SetProp("E_tot", "-115.5")
            writer.write(mol)
    ends = read_ends(tmp_path / "auto3d.sdf")
    assert ends.energy[0] == -115.5 and np.isnan(ends.energy[1])
    assert "golf:" not in "".join(ends.conformations.values["properties"])
    frame = (relaxed / "ends.xyz").read_text().splitlines()[2:8]
    rows = "\n".join(" ".join(line.split()[:4]) for line in frame)
    texts = ("charge=0 energy=-115.0 energy_unit=hartree", "charge=0 energy=-3129.295", "charge=0", "nothing -115.0")
    (tmp_path / "others.xyz").write_text("".join(f"6\n{text}\n{rows}\n" for text in texts))
    ends = read_ends(tmp_path / "others.xyz")
    np.testing.assert_allclose(ends.energy[:2], [-115.0, -3129.295 / HARTREE_IN_EV])
    assert np.isnan(ends.energy[2:]).all() and np.isnan(ends.force).all()


def test_what_cannot_be_used(relaxed, tmp_path):
    with pytest.raises(UserError, match=r"in\.smi: has no geometries; relax the molecules first: golf relax"):
        read_ends(relaxed / "in.smi")
    text = (relaxed / "ends.sdf").read_text()
    (tmp_path / "one_bad.sdf").write_text(text.replace("methanol/0001", "odd").replace(" C ", " Qq ", 1))
    ends = read_ends(tmp_path / "one_bad.sdf")
    assert [out.line for out in ends.left_out] == [1] and len(ends.conformations) == 3
    (tmp_path / "bad.xyz").write_text("1\nenergy=abc\nHe 0 0 0\n")
    with pytest.raises(UserError, match=r"bad\.xyz: frame 1, line 1: 'abc' is not a number"):
        read_ends(tmp_path / "bad.xyz")
