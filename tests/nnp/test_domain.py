"""Which molecules look unlike the training data: cages do, the test set of the default study does not."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from golf.cli.main import main
from golf.core.conformations import ConformationSet, Status
from golf.core.hdf5 import read, write
from golf.io.nabladft import read_nabladft
from golf.nnp.domain import Domain, kinds_of, unlike_training
from golf.nnp.potential import Architecture, Potential, Provenance, load
from golf.nnp.repulsion import shortest_distances
from golf.study.config import validated
from golf.study.trainings import train_round
from golf.training.recipe import Machine, Outputs, TrainingOptions, new_potential
from support import REPOSITORY
from support.mmff_labels import labelled_conformers
from support.mmff_potential import conformers

LEVEL = {"program": "psi4", "method": "hf", "basis": "sto-3g", "keywords": "{}"}
CAGES = {
    "cubane": "C12C3C4C1C5C2C3C45",
    "[1.1.1]propellane": "C1C23CC12C3",
    "bicyclo[1.1.1]pentane": "C1C2CC1C2",
    "tetrahedrane": "C12C3C1C23",
    "prismane": "C12C3C4C1C4C23",
    "quadricyclane": "C1C2C3C2C4C1C34",
    "spiropentane": "C1CC12CC2",
}


def domain_of(part: ConformationSet) -> Domain:
    energies = dict.fromkeys(map(int, np.unique(part.number)), -1.0)
    molecules = Potential(Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4), energies).molecules(part)
    return Domain.of(part, shortest_distances(molecules))


def reasons(part: ConformationSet, domain: Domain) -> list[str]:
    return list(unlike_training(part, domain).values["unlike_training"])


def fired_when_left_out(part: ConformationSet) -> dict[str, set[str]]:
    """Of each molecule that looks unlike all other ones, the reasons."""
    names, fired = np.array(part.molecule), {}
    for name in dict.fromkeys(part.molecule):
        found = set(reasons(part.subset(names == name), domain_of(part.subset(names != name)))) - {""}
        if found:
            fired[name] = found
    return fired


@pytest.fixture(scope="module")
def initial() -> ConformationSet:
    return read(REPOSITORY / "data/initial.h5")


@pytest.fixture(scope="module")
def default_study(initial) -> Domain:
    return domain_of(initial)


def test_the_test_set_of_the_default_study_is_quiet(default_study):
    test = read(REPOSITORY / "data/test.h5")
    assert len(set(test.molecule)) == 16
    starts = test.with_columns(position=test.atoms["initial_position"])
    assert set(reasons(test, default_study)) == set(reasons(starts, default_study)) == {""}


@pytest.mark.parametrize("name", CAGES)
def test_strained_cages_fire_even_where_small_rings_are_known(name, default_study, reference_data):
    cage = Chem.AddHs(Chem.MolFromSmiles(CAGES[name]))
    for atom in cage.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    published = read_nabladft(reference_data / "data/nabladft_sample.db")  # cyclopropyls and a cyclobutyl among them
    rings = frozenset().union(*map(kinds_of, set(published.mapped_smiles)))
    assert all(any(kind.endswith(f" in a ring of {size}") for kind in rings) for size in (3, 4))
    for kinds in (default_study.kinds, rings):
        reason = Domain(kinds, {}).unlike(Chem.MolToSmiles(cage), np.zeros(0, int), np.zeros((0, 3)))
        assert reason.startswith("has C bonded to ") and " in rings of " in reason.partition(", which")[0]


def test_false_alarms_are_those_of_the_documentation(initial, reference_data):
    """Each molecule against all the others: every alarm names what no other molecule has."""
    fired = fired_when_left_out(initial)
    assert len(fired) == 8 and {"ethanol", "fluoroethane", "glyoxal", "glycolaldehyde"}.isdisjoint(fired)
    assert fired["methanediol"] == {"has C bonded to H H O O, which no training molecule has"}
    published = read_nabladft(reference_data / "data/nabladft_sample.db")
    fired = fired_when_left_out(published)
    assert len(set(published.molecule)) == 60 and len(fired) == 12
    assert {
        "has C bonded to C F F F, which no training molecule has",  # the one trifluoromethyl
        "has double bond C-C, which no training molecule has",
        "has C bonded to C C C O, which no training molecule has",  # the one tertiary alcohol
    } <= {reason for found in fired.values() for reason in found}
    page = (REPOSITORY / "docs/relax.md").read_text()
    assert "8 of 13" in page and "12 of 60" in page


def test_geometries_that_no_label_has_fire(default_study):
    part = conformers(["CO"], 1)
    assert reasons(part, default_study) == [""]
    squeezed = part.position.copy()
    one, other = squeezed[2] - squeezed[0], squeezed[3] - squeezed[0]  # hydrogens of the methyl: the angle is closed
    toward = 0.6 * one / np.linalg.norm(one) + 0.4 * other / np.linalg.norm(other)
    squeezed[3] = squeezed[0] + toward / np.linalg.norm(toward) * np.linalg.norm(other)
    closer = "H and H came closer to each other than any in training"
    assert reasons(part.with_columns(position=squeezed), default_study) == [closer]
    known = Domain(default_study.kinds - {"single bond C-O"}, default_study.shortest_distances)
    assert reasons(part.with_columns(position=squeezed), known) == [
        f"has single bond C-O, which no training molecule has; {closer}"
    ]


def test_kinds_do_not_depend_on_the_order_of_atoms():
    assert kinds_of("[C:1]([O:2][H:6])([H:3])([H:4])[H:5]") == {
        "C bonded to H H H O",
        "O bonded to C H",
        "H bonded to C",
        "H bonded to O",
        "single bond C-O",
        "single bond C-H",
        "single bond H-O",
    }
    assert kinds_of("[C:1]([O:2][H:6])([H:3])([H:4])[H:5]") == kinds_of("[H:1][O:3][C:2]([H:4])([H:6])[H:5]")
    assert {"N(+1) bonded to H H H H", "single bond H-N"} <= kinds_of("[N+:1]([H:2])([H:3])([H:4])[H:5]")


def golf(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with labels and a model of alkanes and alcohols, trained for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "labels.h5", labelled_conformers(["CO", "CCO", "CC"], 3).with_columns(**LEVEL))
    write(folder / "more.h5", labelled_conformers(["C=O"], 3).with_columns(**LEVEL))
    (folder / "small.yaml").write_text("nnp: {n_atom_basis: 8, n_interactions: 1, n_rbf: 4}\ndataset: {train: x.smi}\n")
    options = ("--config", folder / "small.yaml", "--updates", 2, "--batch-size", 2, "--validation-fraction", 0)
    assert golf("train", folder / "labels.h5", "-o", folder / "model.pt", *options) == 0
    initial = ("--initial", folder / "model.pt")
    assert golf("train", folder / "more.h5", "-o", folder / "more.pt", *options, *initial) == 0
    return folder


def test_a_model_knows_what_it_was_trained_on(trained):
    expected = domain_of(read(trained / "labels.h5"))
    assert load(trained / "model.pt").domain == expected
    both = load(trained / "more.pt").domain
    assert both.kinds == expected.kinds | {"double bond C-O", "C bonded to H H O", "O bonded to C"}
    assert both.shortest_distances["C-O"] < 1.3 < expected.shortest_distances["C-O"]


def test_relax_warns_of_each_kind_once(trained, tmp_path, capsys):
    cubanes = "".join(f"{CAGES['cubane']} cubane{i}\n" for i in range(3))
    (tmp_path / "in.smi").write_text(f"CO methanol\n{cubanes}C=O formaldehyde\nCB boron\n")
    arguments = ("relax", tmp_path / "in.smi", "-m", trained / "model.pt", "--max-steps", 1, "--optimizer", "lbfgs")
    assert golf(*arguments, "-o", tmp_path / "out.sdf") == 1  # for the boron alone
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "golf: optimizer: lbfgs"
    assert "line 6 (boron) is left out: has B, which the potential does not cover" in lines[1]
    warnings = [line for line in lines if "unlike the training data" in line]
    cage = "has C bonded to C C C H in rings of 4 and 4 and 4, which no training molecule has"
    assert warnings[0] == f"golf: warning: cubane0 and 2 more: unlike the training data: {cage}"
    assert "formaldehyde: unlike" in warnings[1] and len(warnings) == 2
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf")))
    assert [mol.GetPropsAsDict().get("unlike_training", "") for mol in mols][:4] == ["", cage, cage, cage]


def test_an_older_model_warns_of_nothing(trained, tmp_path, capsys):
    content = torch.load(trained / "model.pt", weights_only=True)
    del content["training_domain"]
    torch.save(content, tmp_path / "old.pt")
    (tmp_path / "in.smi").write_text(f"{CAGES['cubane']} cubane\n")
    assert (
        golf("relax", tmp_path / "in.smi", "-m", tmp_path / "old.pt", "-o", tmp_path / "out.h5", "--max-steps", 1) == 0
    )
    said = capsys.readouterr().err
    assert "unlike the training data" not in said and "does not record its training data" in said
    assert "unlike_training" not in read(tmp_path / "out.h5").values
    for model, said in ((tmp_path / "old.pt", "not recorded"), (trained / "model.pt", "kinds of atoms and bonds")):
        assert golf("inspect", model) == 0
        assert said in capsys.readouterr().out


def test_labels_that_failed_are_no_training_data():
    part = labelled_conformers(["CO", "C=O"], 1)
    status = np.where(np.array(part.molecule) == "C=O", Status.FAILED, Status.OK)
    failed = part.with_columns(values={"status": status}, **LEVEL)
    small = Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4)
    potential = new_potential(failed, {"H": -0.5, "C": -38.0, "O": -75.0}, small, Provenance())
    assert "double bond C-O" not in potential.domain.kinds


def test_a_round_widens_the_domain_of_the_model_that_it_starts_from(tmp_path):
    small = Architecture(n_atom_basis=8, n_interactions=1, n_rbf=4)
    first, initial, failed = (labelled_conformers([smiles], 3).with_columns(**LEVEL) for smiles in ("CO", "C=O", "CC"))
    failed = failed.with_columns(values={"status": np.full(3, Status.FAILED)})
    new_potential(first, {"H": -0.5, "C": -38.0, "O": -75.0}, small, Provenance(seed=9)).save(tmp_path / "a.pt", None)
    write(tmp_path / "initial.h5", initial)
    write(tmp_path / "new.h5", failed)
    options = TrainingOptions(**(validated({"dataset": {"train": "a.smi"}}, "a.yaml")["training"] | {"batch_size": 2}))
    train_round(
        str(tmp_path / "initial.h5"),
        [str(tmp_path / "new.h5")],
        str(tmp_path / "a.pt"),
        Outputs(str(tmp_path / "b.pt"), str(tmp_path / "b.csv")),
        round_number=1,
        n_rounds=1,
        updates=2,
        learning_rate=1e-4,
        initial_fraction=0.5,
        options=options,
        config_sha256="f",
        seed=2,
        machine=Machine(1, "cpu"),
    )
    trained = load(tmp_path / "b.pt")
    assert {
        "single bond C-O",
        "double bond C-O",
    } <= trained.domain.kinds and "single bond C-C" not in trained.domain.kinds
    assert (trained.provenance.seed, trained.provenance.config_sha256) == (2, "f")
