"""A finished study whose numbers are made up, and so known: every file that the report reads."""

from pathlib import Path

import numpy as np
import pandas

from golf.core.conformations import ConformationSet, Status, StopReason
from golf.core.hdf5 import write
from golf.core.level import LevelOfTheory
from golf.core.units import hartree
from golf.evaluation import figures as plots
from golf.evaluation.arm import evaluate_arm
from golf.evaluation.differences import summarize_differences
from golf.evaluation.figure_style import save
from golf.evaluation.report import LabelStage, StudyFiles
from golf.evaluation.rounds import ENERGY_ERROR, FORCE_ERROR, RoundFiles, summarize_rounds, training_curve
from golf.evaluation.table import summarize, summarize_by_molecules
from support import REPOSITORY
from support.mmff_potential import conformers

LEVEL = LevelOfTheory("psi4", "hf", "sto-3g").attrs() | {"program_version": "1.3.2"}
FIGURES = ("labels_and_outcome", "optimized_shares", "final_geometries")
GAIN = 12.0  # kcal/mol from every start to its minimum


def labelled(conformations: ConformationSet, **changes) -> ConformationSet:
    """With labels of 36 s each, usable but for what is changed: column -> {index: value}."""
    n = len(conformations)
    columns = {"status": [Status.OK] * n, "message": [""] * n, "wall_seconds": [36.0] * n, "recovery": [""] * n}
    columns["energy"] = [-100.0] * n
    for name, values in changes.items():
        for i, value in values.items():
            columns[name][i] = value
    force = np.zeros_like(conformations.position)
    return conformations.with_columns(atoms={"force": force}, values=columns, **LEVEL)


def reference_of(starts: ConformationSet, failed: dict[int, str]) -> ConformationSet:
    """DFT minima, 0.05 angstrom beside the starts; -100 hartree each. `failed`: message by index."""
    n = len(starts)
    shift = np.random.default_rng(0).normal(scale=0.05, size=starts.position.shape)
    columns = {
        "energy": [np.nan if i in failed else -100.0 for i in range(n)],
        "energy_first": [-100.0 + hartree(GAIN)] * n,
        "status": [Status.NOT_CONVERGED if i in failed else Status.OK for i in range(n)],
        "message": [failed.get(i, "") for i in range(n)],
        "wall_seconds": [360.0] * n,
        "n_force_evaluations": [10] * n,
    }
    atoms = {"initial_position": starts.position}
    return starts.with_columns(position=starts.position + shift, atoms=atoms, values=columns, **LEVEL)


def relaxed_of(reference: ConformationSet, residual: list[float]) -> ConformationSet:
    """Ends of relaxations with these residual energies (kcal/mol); NaN: DFT failed there."""
    n = len(reference)
    residual = np.resize(np.asarray(residual, float), n)
    ends = labelled(
        reference.bare(),
        energy=dict(enumerate(-100.0 + hartree(residual))),
        status={int(i): Status.FAILED for i in np.flatnonzero(np.isnan(residual))},
        message={int(i): "PSIO error" for i in np.flatnonzero(np.isnan(residual))},
        recovery={0: "second_order"},
    )
    shift = np.random.default_rng(1).normal(scale=0.03, size=ends.position.shape)
    start = reference.atoms["initial_position"]
    values = {"stop_reason": [StopReason.CONVERGED] * n, "n_steps": [21] * n}
    return ends.with_columns(position=ends.position + shift, atoms={"initial_position": start}, values=values)


def _round_files(folder: Path, starts: ConformationSet, number: int) -> RoundFiles:
    files = RoundFiles(*(folder / f"rounds/{number}/{name}" for name in ("selected.h5", "labels.h5", "metrics.csv")))
    selected = starts.bare().with_columns(n_surrogate_rise=len(starts), n_step_limit=1, n_converged=3, n_not_finite=0)
    write(files.selected, selected)
    write(files.labels, labelled(selected, status={0: Status.TIMED_OUT}, message={0: "<60 s> & no end"}))
    _metrics(files.metrics, 1.0 / number)
    return files


def _metrics(path: Path, error: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"step": [50, 100], FORCE_ERROR: [2 * error, error], ENERGY_ERROR: [4 * error, 2 * error]}
    pandas.DataFrame(rows).to_csv(path, index=False)
    return path


def made_up_study(
    folder: Path,
    arms: dict[str, list[float]],
    *,
    smiles: list[str],
    n_each: int = 2,
    n_rounds: int = 2,
    n_known_minima: int = 0,
    failed: dict[int, str] | None = None,
) -> StudyFiles:
    """Write a study with these residual energies (kcal/mol, repeated as often as needed) of each arm."""
    starts = conformers(smiles, n_each, 7)
    reference = reference_of(starts, failed or {})
    evaluated = []
    stages = [LabelStage("initial labels", folder / "labels/initial.h5", folder / "dataset/train.h5")]
    write(stages[0].known, starts.bare())
    write(stages[0].labels, labelled(starts.bare(), status={0: Status.REJECTED}, message={0: "force norm"}))
    rounds = [_round_files(folder, starts, number) for number in range(1, n_rounds + 1)]
    stages += [LabelStage(f"round {k}", files.labels, files.selected) for k, files in enumerate(rounds, start=1)]
    stages.append(LabelStage("DFT minima", folder / "evaluation/reference.h5", folder / "dataset/reference.h5", True))
    write(stages[-1].labels, reference)
    write(stages[-1].known, reference.subset(range(n_known_minima)))
    for name, residual in arms.items():
        relaxed = relaxed_of(reference, residual)
        stages.append(LabelStage(f"ends of {name}", folder / f"{name}/labels.h5", folder / f"{name}/relaxed.h5"))
        write(stages[-1].labels, relaxed)
        write(stages[-1].known, relaxed.bare())
        n_labels = 0 if name == "mmff" else 50
        evaluated.append(evaluate_arm(name, relaxed, reference, n_labels=n_labels, training_molecules={smiles[0]}))
        write(folder / f"{name}/metrics.h5", evaluated[-1])
    return finish(folder, evaluated, evaluated, rounds, stages)


def finish(
    folder: Path,
    evaluated: list[ConformationSet],
    in_table: list[ConformationSet],
    rounds: list[RoundFiles],
    stages: list[LabelStage],
) -> StudyFiles:
    """Tables, figures and the rest of a study whose arms are evaluated."""
    summary = summarize(in_table)
    summary.to_csv(folder / "summary.csv", index=False)
    summarize_by_molecules(in_table).to_csv(folder / "by_molecules.csv", index=False)
    drawn = (plots.labels_and_outcome(summary), plots.optimized_shares(evaluated), plots.final_geometries(evaluated))
    summarize_differences(in_table).to_csv(folder / "differences.csv", index=False)
    for name, figure in zip(FIGURES, drawn):
        save(figure, folder / f"{name}.svg", folder / f"{name}.png")
    baseline = _metrics(folder / "baseline.csv", 2.0)
    of_rounds = summarize_rounds(stages[0].labels, baseline, rounds)
    of_rounds.to_csv(folder / "rounds.csv", index=False)
    curves = {"golf": training_curve([baseline, *(files.metrics for files in rounds)])}
    save(plots.training_curves(curves, of_rounds), folder / "training.svg", folder / "training.png")
    (folder / "left_out.csv").write_text("line,name,input,reason\n7,odd,C[<b>]C,cannot be parsed\n")
    (folder / "train_baseline.tsv").write_text("s\th:m:s\n3600.0\t1:00:00\n")
    (folder / "minimize_test.tsv").write_text("s\th:m:s\n1800.0\t0:30:00\n")
    return StudyFiles(
        summary=folder / "summary.csv",
        by_molecules=folder / "by_molecules.csv",
        differences=folder / "differences.csv",
        rounds=folder / "rounds.csv",
        training_figure=folder / "training.svg",
        figures={folder / f"{name}.svg": (REPOSITORY / f"report/{name}.rst").read_text() for name in FIGURES},
        arms=[folder / f"{arm.attrs['arm']}/metrics.h5" for arm in evaluated],
        reference=folder / "evaluation/reference.h5",
        stages=stages,
        left_out=folder / "left_out.csv",
        inputs=[stages[0].known],
        models=[baseline],
        benchmarks=folder,
    )
