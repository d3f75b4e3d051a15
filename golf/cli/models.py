"""The commands of `golf` that train, judge and convert models."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from golf.cli.convert import add_level, given_level
from golf.cli.options import add_cores, add_device, add_output, check_output, positive
from golf.core.errors import UserError
from golf.core.wording import and_more, counted

CURVE_VALIDATION_FRACTION = 0.2


def add_train(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf train`."""
    train = commands.add_parser(
        "train",
        help="train a model on labelled files",
        description="Train a model on the labels (status ok) of one or more files. Run the same command again to "
        "resume an interrupted training from the checkpoint beside the output. Settings that are not given come from "
        "--config, or else are the defaults of a study (schemas/config.schema.yaml).",
    )
    _add_training(train, "OUT.pt", "model file; metrics (.csv) and checkpoint are written beside it")
    train.add_argument(
        "--validation-fraction", type=float, metavar="F", help="share of the labels held out for validation"
    )
    train.add_argument("--by", choices=["conformation", "molecule"], help="hold out single conformations or molecules")
    train.add_argument(
        "--initial", type=Path, metavar="MODEL.pt", help="model to continue from, of the same level of theory"
    )
    train.set_defaults(command=_train, resumes=True)


def _add_training(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    command.add_argument(
        "labels",
        type=Path,
        nargs="+",
        metavar="LABELS",
        help="labelled conformations of one level of theory: .h5, .extxyz, ASE .db; each geometry counts once",
    )
    add_output(command, metavar, text)
    add_level(command)
    command.add_argument(
        "--config", type=Path, metavar="CONFIG", help="read sections nnp and training from this file (.yaml)"
    )
    command.add_argument("--updates", type=int, metavar="N", help="updates of the weights")
    command.add_argument("--batch-size", type=int, metavar="N", help="conformations per update")
    command.add_argument("--learning-rate", type=float, metavar="RATE", help="peak learning rate of Adam")
    command.add_argument(
        "--seed", type=int, default=1, help="seed of weights, batches and split (default: %(default)s)"
    )
    add_cores(command)
    add_device(command)


def _training_config(options: argparse.Namespace, **further: Any) -> dict[str, Any]:
    """Return the validated configuration of a study with the settings of these options.

    Raises:
        UserError: the file of --config or an option is wrong; the message names the option as typed.
    """
    from golf.study.config import read_sections, validated

    positive("--cores", options.cores)
    dataset = {"train": str(options.labels[0])}
    base = {} if options.config is None else read_sections(options.config, ("nnp", "training"), dataset)
    given = {
        "updates": options.updates,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        **further,
    }
    training = base.get("training", {}) | {name: value for name, value in given.items() if value is not None}
    raw = {"seed": options.seed, "dataset": dataset, "training": training}
    try:
        return validated(raw | {"nnp": base.get("nnp", {})}, "options")
    except UserError as error:  # --config is valid by itself, so an option is wrong
        option = re.sub(r"^options: key (?:training\.)?(\w+)", lambda key: "--" + key[1].replace("_", "-"), str(error))
        raise UserError(option) from None


def _train(options: argparse.Namespace) -> None:
    from golf.nnp.checkpoints import is_metrics
    from golf.nnp.potential import Architecture
    from golf.study.config import architecture, sha256
    from golf.training.own_labels import train_on_labels
    from golf.training.recipe import Machine, NothingToTrainOn, Outputs, TrainingOptions

    check_output(options, (".pt",))
    split = {"validation_fraction": options.validation_fraction, "validation_split": options.by}
    config = _training_config(options, **split)
    outputs = Outputs(str(options.output), str(options.output.with_suffix(".csv")))
    metrics = Path(outputs.metrics)
    # Metrics without a model come from a training that stopped or diverged, and may be overwritten
    if metrics.exists() and not options.force and not (metrics.is_file() and is_metrics(metrics)):
        raise UserError(f"{metrics}: already exists; give another name, or --force to replace it")
    try:
        summary = train_on_labels(
            options.labels,
            outputs,
            level=given_level(options),
            architecture=Architecture(**architecture(config)),
            given_energies=config["nnp"]["reference_energies"],
            options=TrainingOptions(**config["training"]),
            initial=None if options.initial is None else str(options.initial),
            config_sha256=sha256(config),
            seed=options.seed,
            machine=Machine(options.cores, options.device),
        )
    except NothingToTrainOn as error:
        remedy = "give --by conformation, labels of more molecules, or a smaller --validation-fraction"
        raise UserError(f"{options.labels[0]}{and_more(len(options.labels))}: {error}; {remedy}") from None
    print(summary)


def add_learning_curve(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf learning-curve`."""
    curve = commands.add_parser(
        "learning-curve",
        help="find out whether more initial labels would help",
        description="Train on growing subsets of labelled files and fit the force error on held-out molecules. Run "
        "the same command again to resume an interrupted curve from the folder beside the output.",
    )
    _add_training(curve, "CURVE.csv", "table of errors by number of labels")
    curve.add_argument(
        "--fractions",
        type=float,
        nargs="+",
        default=[0.25, 0.5, 1.0],
        metavar="F",
        help="sizes of the subsets as shares of the labels (default: 0.25 0.5 1)",
    )
    curve.add_argument(
        "--validation-fraction",
        type=float,
        default=CURVE_VALIDATION_FRACTION,
        metavar="F",
        help="share of the molecules held out for validation (default: %(default)s)",
    )
    curve.set_defaults(command=_learning_curve, resumes=True)


def _learning_curve(options: argparse.Namespace) -> None:
    from golf.nnp.potential import Architecture
    from golf.study.config import architecture, sha256
    from golf.training.learning_curve import learning_curve, verdict, write_curve
    from golf.training.own_labels import read_labels
    from golf.training.recipe import Machine, NothingToTrainOn, TrainingOptions, reference_energies

    check_output(options, (".csv",))
    fractions = sorted(options.fractions)
    if len(fractions) < 2 or not all(0.0 < fraction <= 1.0 for fraction in fractions):
        raise UserError("--fractions: needs at least two numbers above 0 and up to 1; give these")
    config = _training_config(options, validation_fraction=options.validation_fraction, validation_split="molecule")
    if not options.validation_fraction > 0.0:
        raise UserError("--validation-fraction 0: a learning curve needs validation molecules; raise the fraction")
    labelled = read_labels(*options.labels, level=given_level(options))
    work = options.output.with_suffix(".work")
    points = []
    try:
        for point in learning_curve(
            labelled,
            fractions,
            work=work,
            architecture=Architecture(**architecture(config)),
            energies=reference_energies(labelled, config["nnp"]["reference_energies"], options.labels[0]),
            options=TrainingOptions(**config["training"]),
            config_sha256=sha256(config),
            seed=options.seed,
            machine=Machine(options.cores, options.device),
        ):
            error = f"force error {point.force_error:.2f} kcal/mol/angstrom"
            print(f"{counted(point.n_labels, 'label')}: {error}", flush=True)
            points.append(point)
    except NothingToTrainOn as error:
        remedy = "give labels of more molecules, or a smaller fraction"
        raise UserError(f"--validation-fraction {options.validation_fraction:g}: {error}; {remedy}") from None
    write_curve(options.output, points)
    for point in points:
        for suffix in (".checkpoint.pt", ".csv"):
            (work / f"{point.n_labels}{suffix}").unlink(missing_ok=True)
    if not any(work.iterdir()):
        work.rmdir()
    print(verdict(points))


def add_export(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf export`."""
    export = commands.add_parser(
        "export",
        help="write a model as TorchScript, for other engines",
        description="Write a model as a TorchScript file, which PyTorch loads from Python and C++ without golf: atomic "
        "numbers and positions (angstrom) in, total energy (hartree) and forces (hartree/angstrom) out. See "
        "docs/export.md.",
    )
    export.add_argument("model", type=Path, metavar="MODEL.pt", help="model trained by golf")
    add_output(export, "OUT.pt", "TorchScript file")
    export.add_argument(
        "--dtype",
        choices=["float32", "float64"],
        default="float32",
        help="precision of the network (default: %(default)s)",
    )
    export.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> None:
    from golf.nnp.export import export
    from golf.nnp.potential import load

    check_output(options, (".pt",))
    export(load(options.model, dtype=options.dtype), options.output)


def add_import_checkpoint(commands: argparse._SubParsersAction) -> None:
    """Add the command `golf import-checkpoint`."""
    command = commands.add_parser(
        "import-checkpoint",
        help="convert published GOLF weights to a model file",
        description="Convert a published GOLF checkpoint, a folder with config.json and NNP_checkpoint_actor, to a "
        "model file.",
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="folder of the checkpoint")
    add_output(command, "OUT.pt", "model file")
    command.add_argument(
        "--reference-energies",
        type=Path,
        metavar="FILE.json",
        help="energies of isolated atoms in hartree by element symbol (default: those of nablaDFT)",
    )
    command.set_defaults(command=_import_checkpoint)


def _import_checkpoint(options: argparse.Namespace) -> None:
    from golf.nnp.published import import_checkpoint, read_energies

    check_output(options, (".pt",))
    given = options.reference_energies
    import_checkpoint(options.folder, None if given is None else read_energies(given)).save(options.output)
