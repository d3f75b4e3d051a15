"""What a study will cost, before it is paid for: the text of `golf estimate`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golf import config as golf_config
from golf.conformations import ConformationSet
from golf.costs import Basis, label_costs, longest_wall, n_gradients, pack, read_basis
from golf.elements import MMFF_NUMBERS, SYMBOLS
from golf.forecast import Model, calibrated
from golf.hdf5 import read
from golf.labeling import pending, unlabelled
from golf.oracles.base import LevelOfTheory
from golf.planning import Source, n_batches, pool_settings

CPU_SECONDS_PER_UPDATE = 0.022
"""Per molecule of a batch: 36 atoms, 128 features, 3 interactions, two cores; measured. Scaled to other networks."""

GPU_SECONDS_PER_UPDATE = 0.04
"""A rough figure for any batch on a GPU, where starting its many small kernels takes the time; not measured."""

EVALUATIONS_PER_SELECTION = 60
"""NNP force evaluations until a GOLF round has one conformation more; a rough figure."""


def level_of(config: Mapping[str, Any]) -> LevelOfTheory:
    """The level of theory of a configuration."""
    return LevelOfTheory(**{name: config["oracle"][name] for name in ("program", "method", "basis", "keywords")})


def basis_of(config: Mapping[str, Any]) -> tuple[Basis, str]:
    """What the basis set has per element, and who says so: the study's own check, or else Psi4, which is started.

    Raises:
        UserError: Psi4 is not found, or has no such basis set.
    """
    level = level_of(config)
    path = Path(config["results_dir"]) / "dataset" / "oracle.json"
    if path.is_file() and level.matches(json.loads(path.read_text())):
        try:
            return read_basis(path), str(path)
        except FileNotFoundError:  # written by an older golf
            pass
    from golf.oracles.psi4 import Psi4Oracle

    with Psi4Oracle(level, **(pool_settings(config) | {"n_workers": 1})) as oracle:
        return oracle.basis(MMFF_NUMBERS), f"Psi4 {oracle.program_version}, asked now"


@dataclass(frozen=True)
class Workload:
    """What a study's conformations cost (`golf.costs.label_costs`), each array over conformations.

    Attributes:
        initial: training conformations without a label.
        training: all training conformations.
        training_atoms: atoms of those.
        test: test conformations.
        references: gradients of the test conformations without a DFT minimum.
        gradients: of each of those optimizations, expected.
        source: where the conformations come from, in words.
    """

    initial: NDArray[np.int64]
    training: NDArray[np.int64]
    training_atoms: NDArray[np.int64]
    test: NDArray[np.int64]
    references: NDArray[np.int64]
    gradients: NDArray[np.int64]
    source: str


def workload(config: Mapping[str, Any], basis: Basis) -> Workload:
    """The conformations of a study: those prepared in its results, else those of its source.

    Raises:
        UserError: a source is missing, or what it holds cannot be used.
    """
    prepared = Path(config["results_dir"]) / "dataset"
    files = [prepared / f"{name}.h5" for name in ("train", "test", "reference")]
    source = Source(**config["dataset"])
    if all(path.is_file() for path in files) and not _is_older(files[0], source):
        train, test, reference = map(read, files)
        if train.attrs.get("config_sha256") == golf_config.sha256(config):
            return _workload(train, test, set(reference.id), basis, f"{prepared}/train.h5 and test.h5")
    if Path(source.train).suffix == ".h5":
        from golf.datasets import prepare, usable_elements

        elements = usable_elements(basis.functions, config["nnp"]["reference_energies"])
        dataset = prepare(source, level_of(config), elements=elements, seed=config["seed"])
        return _workload(dataset.train, dataset.test, set(dataset.reference.id), basis, source.train)
    train, test, known = _of_molecules(config, source, basis)
    words = f"{source.train}, every molecule with {source.conformers or 'its'} conformers; duplicates will be dropped"
    return _workload(train, test, known, basis, words)


def _is_older(prepared: Path, source: Source) -> bool:
    """Whether the data have changed since they were prepared: they will be prepared anew."""
    files = [Path(path) for path in (source.train, source.test) if path]
    return any(path.is_file() and path.stat().st_mtime > prepared.stat().st_mtime for path in files)


def _workload(train: ConformationSet, test: ConformationSet, known: set[str], basis: Basis, source: str) -> Workload:
    training, tests = (label_costs(part.number, part.offset, basis) for part in (train, test))
    left = np.array([name not in known for name in test.id], dtype=bool)
    return Workload(
        initial=training[pending(unlabelled(train))],
        training=training,
        training_atoms=train.n_atoms,
        test=tests,
        references=tests[left],
        gradients=n_gradients(test.n_atoms[left]),
        source=source,
    )


def _of_molecules(
    config: Mapping[str, Any], source: Source, basis: Basis
) -> tuple[ConformationSet, ConformationSet, set[str]]:
    """Training and test conformations without geometries, as many as there can be; the ids of known minima."""
    from golf.conformers import read_molecules
    from golf.datasets import usable_elements, with_known_minima

    elements = usable_elements(basis.functions, config["nnp"]["reference_energies"])
    molecules, _ = read_molecules(
        source.train, smiles_column=source.smiles_column, name_column=source.name_column, elements=elements
    )
    rows: dict[bool, list[tuple]] = {False: [], True: []}
    for molecule in molecules:
        numbers = np.array([atom.GetAtomicNum() for atom in molecule.mol.GetAtoms()], np.uint8)
        alone = molecule.name in source.test_molecules
        held_out = 0 if source.test is not None else source.test_conformers
        n = source.conformers or molecule.mol.GetNumConformers()
        if source.conformers == 0:
            held_out = n if alone else min(held_out, n - 1)
            n -= held_out
        for k in range((0 if alone else n) + held_out):
            is_test = alone or k >= n
            name = f"{molecule.name}/{k:04d}"
            rows[is_test].append((name, molecule.name, "", 0, 1, numbers, np.zeros((len(numbers), 3))))
    train, test, known = ConformationSet.build(rows[False]), ConformationSet.build(rows[True]), set()
    if source.test is not None:
        test, reference = with_known_minima(read(source.test), level_of(config), source.test)
        known = set(reference.id)
    return train, test, known


@dataclass(frozen=True)
class Part:
    """One kind of label or optimization of a study.

    Attributes:
        seconds: of each, in one oracle process.
        n_batches: jobs.
        repeat: times that all this comes, one after the other.
    """

    name: str
    seconds: NDArray[np.float64]
    n_batches: int
    repeat: int = 1
    note: str = ""

    @property
    def n(self) -> int:
        """Labels or optimizations in all."""
        return len(self.seconds) * self.repeat

    def core_hours(self, threads: int) -> float:
        """Of the oracle processes."""
        return float(self.seconds.sum()) * self.repeat * threads / 3600

    def wall_hours(self, n_workers: int, jobs: int) -> float:
        """With so many jobs at a time, each with `n_workers` processes; starts and queues not counted."""
        if not len(self.seconds):
            return 0.0
        whole = np.round(self.seconds * 1e6).astype(np.int64)
        batches = longest_wall(self.seconds, pack(whole, self.n_batches), self.n_batches, n_workers)
        return max(float(batches.sum()) / jobs, float(batches.max())) * self.repeat / 3600


def label_parts(config: Mapping[str, Any], work: Workload, model: Model) -> list[Part]:
    """All the DFT of a study, in the order in which it comes."""
    limit, size = config["oracle"]["time_limit"], config["oracle"]["batch_size"]

    def seconds(costs: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.minimum(model.seconds(costs), limit)

    per_round, rounds = config["golf"]["labels_per_round"], config["golf"]["rounds"]
    of_a_round = np.full(per_round, float(seconds(work.training).mean()))
    arms = arms_of(config)
    references = seconds(work.references) * work.gradients
    return [
        Part("initial labels", seconds(work.initial), n_batches(len(work.initial), size)),
        Part("round labels", of_a_round, n_batches(per_round, size), rounds, f"{rounds} rounds of {per_round}"),
        Part("test labels", seconds(work.test), n_batches(len(work.test), size), len(arms), " ".join(arms)),
        Part(
            "DFT minima",
            references,
            n_batches(len(references), config["evaluation"]["reference_batch_size"]),
            note=f"{int(work.gradients.sum())} gradients" if len(references) else "",
        ),
    ]


def arms_of(config: Mapping[str, Any]) -> list[str]:
    """The arms of a study; without rounds there is no arm golf."""
    return [arm for arm in config["evaluation"]["arms"] if arm != "golf" or config["golf"]["rounds"] > 0]


@dataclass(frozen=True)
class Network:
    """Hours of training and relaxation with the network, on one GPU or on the cores of a training job.

    Attributes:
        training, relaxation: hours.
        n_updates: of all trainings.
        device: in words.
        source: where the seconds of an update come from, in words.
    """

    training: float
    relaxation: float
    n_updates: int
    device: str
    source: str


def network(config: Mapping[str, Any], work: Workload) -> Network:
    """Time of the network's jobs: from a training in the study's results, else a rough figure."""
    golf, training = config["golf"], config["training"]
    of_rounds = golf["rounds"] * golf["labels_per_round"] * golf["updates_per_label"]
    updates = training["updates"] + of_rounds * (2 if "baseline" in config["evaluation"]["arms"] else 1)
    on_gpu = _on_gpu(config["resources"]["device"])
    rough = GPU_SECONDS_PER_UPDATE if on_gpu else _cpu_seconds(config, float(work.training_atoms.mean()))
    device = "GPU" if on_gpu else f"{config['resources']['train_threads']} core(s)"
    source = f"a rough figure for {'a GPU, not measured' if on_gpu else 'one or two cores'}"
    measured = _measured_update(Path(config["results_dir"]))
    if measured is not None:
        source = f"measured in {measured[1]}"
    per_update = rough if measured is None else measured[0]
    # A force evaluation is about a third of an update: no weights are differentiated.
    selected = golf["rounds"] * golf["labels_per_round"] * EVALUATIONS_PER_SELECTION
    arms = sum(arm != "mmff" for arm in arms_of(config))
    tested = arms * len(work.test) * config["relaxation"]["max_iterations"]
    relaxation = (selected + tested) * per_update / training["batch_size"] / 3
    return Network(
        updates * per_update / 3600, relaxation / 3600, updates, device, f"{per_update:.2g} s an update, {source}"
    )


def _on_gpu(device: str) -> bool:
    return device == "cuda" or (device == "auto" and any(Path("/dev").glob("nvidia[0-9]*")))


def _cpu_seconds(config: Mapping[str, Any], n_atoms: float) -> float:
    size = (config["nnp"]["n_atom_basis"] / 128) ** 2 * config["nnp"]["n_interactions"] / 3 * n_atoms / 36
    return CPU_SECONDS_PER_UPDATE * size * config["training"]["batch_size"]


def _measured_update(results: Path) -> tuple[float, Path] | None:
    """Seconds of an update in the last row of a training's metrics, the newest training first."""
    for path in [*sorted(results.glob("rounds/*/metrics.csv"), reverse=True), results / "models/baseline/metrics.csv"]:
        if path.is_file():
            with open(path, newline="") as stream:
                rows = list(csv.DictReader(stream))
            if rows and float(rows[-1]["seconds"]) > 0:
                return float(rows[-1]["seconds"]) / int(rows[-1]["step"]), path
    return None


def jobs_at_once(config: Mapping[str, Any], cores: int) -> int:
    """Label jobs that fit on so many cores."""
    resources = config["resources"]
    return max(1, cores // (resources["label_processes"] * resources["label_threads"]))


def estimate(config: Mapping[str, Any], *, jobs: int | None, cores: int) -> str:
    """What a study costs, as a table for a person to read; ends without a newline.

    Args:
        config: validated.
        jobs: label jobs that run at once; None: as many as fit on `cores`.

    Raises:
        UserError: a source is missing or not usable, or Psi4 is needed and not found.
    """
    basis, asked = basis_of(config)
    work = workload(config, basis)
    resources = config["resources"]
    threads, n_workers = resources["label_threads"], resources["label_processes"]
    model = calibrated(config["results_dir"], config["dataset"]["train"], level_of(config), basis, threads)
    given, jobs = jobs is not None, jobs or jobs_at_once(config, cores)
    parts, net = label_parts(config, work, model), network(config, work)
    elements = " ".join(SYMBOLS[z] for z in sorted(basis.functions))
    lines = [
        f"{level_of(config)}; {len(work.training)} training and {len(work.test)} test conformations",
        "",
        *table(parts, net, threads, n_workers, jobs),
        "",
        f"With {jobs} label job(s) at a time{'' if given else f' ({cores} cores here)'}, each with {n_workers} "
        f"process(es) of {threads} thread(s); stages one after the other, queues not counted.",
        f"  conformations  {work.source}",
        f"  basis set      {asked} ({elements})",
        f"  seconds        {model.source}",
        "  round labels   a round's conformations cost what training conformations cost on average",
        "  DFT minima     14 gradients at 8 atoms, 30 at 30, measured from ETKDG geometries",
        f"  network        {net.source}; relaxations: {EVALUATIONS_PER_SELECTION} evaluations per selected "
        "conformation, the limit in the test",
    ]
    return "\n".join(lines)


def table(parts: Sequence[Part], net: Network, threads: int, n_workers: int, jobs: int) -> Iterator[str]:
    """Lines of the table of costs, with the sum."""
    yield f"{'':<18}{'number':>9}{'s each':>9}{'jobs':>7}{'core-hours':>13}{'wall':>12}"
    for part in parts:
        each = f"{part.seconds.mean():.1f}" if len(part.seconds) else "-"
        hours = part.wall_hours(n_workers, jobs)
        row = f"{part.name:<18}{part.n:>9}{each:>9}{part.n_batches * part.repeat:>7}{part.core_hours(threads):>13.2f}"
        yield f"{row}{duration(hours):>12}  {part.note}".rstrip()
    for name, hours in (("training", net.training), ("relaxation", net.relaxation)):
        yield f"{name:<18}{'':>9}{'':>9}{'':>7}{'':>13}{duration(hours):>12}  {hours:.2f} h on {net.device}"
    core_hours = sum(part.core_hours(threads) for part in parts)
    wall = sum(part.wall_hours(n_workers, jobs) for part in parts) + net.training + net.relaxation
    n_jobs = sum(part.n_batches * part.repeat for part in parts)
    yield f"{'sum':<18}{sum(part.n for part in parts):>9}{'':>9}{n_jobs:>7}{core_hours:>13.2f}{duration(wall):>12}"


def duration(hours: float) -> str:
    """A time as a person says it."""
    minutes = math.ceil(hours * 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours / 24:.1f} days"
