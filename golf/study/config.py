"""Read and validate the configuration against schemas/config.schema.yaml, with the defaults filled in."""

from __future__ import annotations

import copy
import datetime
import difflib
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from golf.core.arms import ARMS, CONTROLS
from golf.core.elements import NETWORK_SYMBOLS
from golf.core.errors import UserError
from golf.core.files import content_suffix
from golf.io.formats import AUTO, SMILES, SUFFIXES
from golf.oracles.programs.registry import program, wrong_setting
from golf.study.yaml_text import KeyPath, read_mapping

_HERE = Path(__file__).resolve().parent
SCHEMA = Path("schemas", "config.schema.yaml")
"""Below the package where it is installed, beside it in a clone."""

MACHINE_KEYS = (
    "resources",
    "results_dir",
    "dataset.download",
    "oracle.python",
    "oracle.scratch",
    "oracle.time_limit",
    "oracle.time_limit_factor",
    "training.checkpoint_seconds",
)
"""Keys that affect where and how fast a study runs, not its results; they may change between runs."""


_EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]{1,3}")
"""A number with an exponent. YAML reads it as text unless it has a point and a signed exponent, as in 1.0e-9."""


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, with the arms and control budgets of `golf.core.arms`."""
    path = next(folder / SCHEMA for folder in (_HERE.parent, _HERE.parent.parent) if (folder / SCHEMA).is_file())
    read = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    sections = read["properties"]
    sections["evaluation"]["properties"]["arms"]["items"]["enum"] = list(ARMS)
    budget = sections["controls"].pop("additionalProperties")
    sections["controls"]["properties"] = {
        f"{name}_labels": budget | {"description": ARMS[name].budget} for name in CONTROLS
    }
    sections["controls"]["additionalProperties"] = False
    return read


def default(section: str, key: str) -> Any:
    """Look up the default of a key of the configuration, for commands that work without one."""
    return schema()["properties"][section]["properties"][key]["default"]


def validated(raw: Mapping[str, Any], source: str, files: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Return a validated copy of the configuration with the defaults filled in.

    Args:
        source: what the user calls it (a file name), for messages.
        files: YAML files that it comes from, which say how its values are written.

    Raises:
        UserError: a key is unknown or missing, a value has the wrong type or range, or keys contradict each other.
    """
    config = copy.deepcopy(dict(raw))
    written = {key: text for file in files for key, text in read_mapping(file)[1].items()}
    _fill_defaults(config, schema())
    for key, value in _flat(config).items():
        if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
            raise UserError(f"{source}: key {key}: {value} is not a finite number")
    errors = sorted(jsonschema.Draft202012Validator(schema()).iter_errors(config), key=lambda error: list(error.path))
    if errors:
        raise UserError(f"{source}: {_not_texts(errors, written) or _one_line(errors[0])}")
    config = _one_look(config, schema())
    config["results_dir"] = _one_spelling(config["results_dir"])
    oracle = config["oracle"]
    if oracle["basis"] is None:
        oracle["basis"] = program(oracle["program"]).default_basis
    for problem in _contradictions(config):
        raise UserError(f"{source}: {problem}")
    return config


def _one_spelling(folder: str) -> str:
    """Normalize a folder as Snakemake does, relative to the working folder if it is below it."""
    path, here = os.path.normpath(folder), os.getcwd()
    return os.path.relpath(path, here) if os.path.isabs(path) and path.startswith(here + os.sep) else path


def read_config(path: str | Path) -> dict[str, Any]:
    """Read and validate the configuration in a YAML file.

    Raises:
        UserError: the file is missing, not YAML, or not a valid configuration.
    """
    return validated(read_mapping(path)[0], str(path), [path])


def read_sections(path: str | Path, names: Collection[str], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Read some sections of a YAML file, with the defaults filled in; its other sections are ignored.

    Args:
        dataset: section `dataset`, in place of that of the file.

    Raises:
        UserError: the file is missing or not YAML, or it has a section that no configuration has, or these sections are
            not valid.
    """
    others = schema()["properties"].keys() - set(names)
    raw = {key: value for key, value in read_mapping(path)[0].items() if key not in others}
    config = validated({**raw, "dataset": dataset}, str(path), [path])
    return {name: config[name] for name in names}


def _fill_defaults(value: Any, part: Mapping[str, Any]) -> None:
    if not isinstance(value, dict):
        return
    for key, sub in part.get("properties", {}).items():
        if "default" in sub and key not in value:
            value[key] = copy.deepcopy(sub["default"])
        if key in value:
            _fill_defaults(value[key], sub)


def _one_look(value: Any, part: Mapping[str, Any]) -> Any:
    """Normalize a valid value, since Snakemake compares parameters by how they are written.

    Keys get the order of the schema and numbers its types (in JSON Schema 10.0 is a valid integer, 5 a valid number).
    """
    if isinstance(value, dict):
        known, others = part.get("properties", {}), part.get("additionalProperties") or {}
        keys = [key for key in known if key in value] + [key for key in value if key not in known]
        return {key: _one_look(value[key], known.get(key, others)) for key in keys}
    if isinstance(value, list):
        return [_one_look(sub, part.get("items", {})) for sub in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        types = part.get("type", ())
        return float(value) if "number" in types else int(value) if "integer" in types else value
    return value


def _one_line(error: jsonschema.ValidationError) -> str:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f"did you mean {'.'.join([*path, close[0]])}?" if close else f"known here: {', '.join(known)}"
        return f"unknown key {'.'.join([*path, str(unknown)])}; {hint}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"key {'.'.join([*path, missing])} is missing; set it"
    return f"key {'.'.join(path) or '(top level)'}: {error.message.splitlines()[0][:200]}{_hint(error)}"


def _not_texts(errors: Sequence[jsonschema.ValidationError], written: Mapping[KeyPath, str]) -> str:
    """Describe names that YAML reads as another type, for all items of the list with the first error; "" otherwise."""

    def not_a_text(error: jsonschema.ValidationError) -> bool:
        return error.validator == "type" and "string" in error.validator_value and _is_scalar(error.instance)

    first = list(errors[0].absolute_path)
    of_list = bool(first) and isinstance(first[-1], int)
    place = first[:-1] if of_list else first
    alike = [e for e in errors if not_a_text(e) and list(e.absolute_path)[: len(place)] == place]
    if errors[0] not in alike:
        return ""
    words = [written.get(tuple(error.absolute_path), str(error.instance)) for error in alike]
    quoted = ", ".join(f'"{word}"' for word in words)
    return f"key {'.'.join(map(str, place))}: YAML does not read {', '.join(words)} as text; write {quoted}, in quotes"


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | datetime.date)


def _hint(error: jsonschema.ValidationError) -> str:
    """Suggest how to write a value of the wrong type; "" if that cannot be guessed."""
    if error.validator != "type" or not isinstance(error.instance, str):
        return ""
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    if "array" in wanted:
        return f"; write a list: [{error.instance}]"
    try:
        number = Decimal(error.instance)
    except InvalidOperation:
        return ""
    return (
        f"; YAML reads it as text; write {_plain(number)} without quotes" if {"number", "integer"} & set(wanted) else ""
    )


def _plain(number: Decimal) -> str:
    """Write a number without an exponent (YAML reads 1e-05 as text)."""
    return f"{number.normalize():f}"


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    dataset, oracle, training = config["dataset"], config["oracle"], config["training"]
    kind = SUFFIXES.get(content_suffix(dataset["train"])) if dataset["format"] == AUTO else dataset["format"]
    if dataset["conformers"] == 0 and kind == SMILES:
        yield "key dataset.conformers: 0 means that the file has geometries, and a SMILES file has none; set at least 1"
    if dataset["test"] is not None and dataset["test_molecules"]:
        yield "key dataset.test_molecules: cannot be set together with dataset.test; choose one"
    for path, n in Counter(os.path.normpath(one["to"]) for one in dataset["download"]).items():
        if n > 1:
            yield f"key dataset.download: {n} files go to {path}; give each a path of its own"
    if dataset["test"] is None and dataset["test_conformers"] == 0:
        yield "key dataset.test_conformers: 0 leaves no test set; give at least 1, or set dataset.test"
    arms, models = config["evaluation"]["arms"], config["evaluation"]["models"]
    geometries = config["evaluation"]["geometries"]
    if config["golf"]["rounds"] == 0 and arms == ["golf"] and not (models or geometries):
        yield "key evaluation.arms: with golf.rounds 0 there is no arm golf; add baseline or mmff"
    control = next((arm for arm in arms if arm in CONTROLS), None)
    if config["golf"]["rounds"] == 0 and control:
        yield f"key evaluation.arms: {control} gets the updates of the GOLF rounds, and golf.rounds is 0; remove it"
    if config["golf"]["rounds"] > 0 and not any(ARMS[arm].network for arm in arms):
        yield "key golf.rounds: no arm trains a network; set it to 0, or add golf to evaluation.arms"
    for key, name in [*(("models", name) for name in models), *(("geometries", name) for name in geometries)]:
        if name in ARMS:
            yield f"key evaluation.{key}: {name} is the name of a built-in arm; choose another name"
        if name in ("reference", "trajectory"):
            yield f"key evaluation.{key}: {name} is the name of a folder in the results; choose another name"
    for name in models.keys() & geometries.keys():
        yield f"key evaluation.geometries: {name} is the name of an arm of evaluation.models; choose another name"
    for key, value in _flat(oracle["keywords"]).items():
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            plain = _plain(Decimal(value))
            yield (
                f"key oracle.keywords.{key}: YAML reads {value} as text, not as a number; write {plain} without quotes"
            )
    if wrong := wrong_setting(oracle["program"], oracle["method"], oracle["basis"], oracle["python"]):
        yield wrong
    unknown = set(config["nnp"]["reference_energies"] or {}) - set(NETWORK_SYMBOLS)
    if unknown:
        last = NETWORK_SYMBOLS[-1]
        yield f"key nnp.reference_energies: {min(unknown)!r} is not the symbol of an element up to {last}"
    if training["force_weight"] + training["energy_weight"] == 0:
        yield "key training.force_weight: force_weight and energy_weight cannot both be 0"


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of section nnp that describe the network (`golf.nnp.potential.Architecture`)."""
    return {name: value for name, value in config["nnp"].items() if name not in ("initial", "reference_energies")}


GROWING_KEYS = (
    "evaluation.arms",
    "evaluation.models",
    "evaluation.geometries",
    "evaluation.trajectory_conformations",
    "evaluation.trajectory_steps",
    "controls",
    "optimize",
)
"""Keys that say what is compared, or optimized besides: they may be extended in a finished study, which keeps what it
has."""


def science(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a validated configuration that determines what all arms share."""
    kept = copy.deepcopy(dict(config))
    for key in (*MACHINE_KEYS, *GROWING_KEYS):
        *sections, name = key.split(".")
        part = kept
        for section in sections:
            part = part[section]
        part.pop(name, None)
    return kept


def sha256(config: Mapping[str, Any]) -> str:
    """Hash the part of the configuration that determines the results; every artifact records it."""
    return hashlib.sha256(json.dumps(science(config), sort_keys=True).encode()).hexdigest()


def check_results(config: Mapping[str, Any]) -> None:
    """Refuse to mix results of different configurations in one folder.

    Raises:
        UserError: results_dir holds results of a configuration that differs in a key that matters.
    """
    recorded = Path(config["results_dir"]) / "config.yaml"
    if not recorded.is_file():
        return
    try:
        then = yaml.safe_load(recorded.read_text(encoding="utf-8-sig"))
        _fill_defaults(then, schema())  # keys that there were not yet
        there = _flat(science(_one_look(then, schema())))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(
            f"{recorded}: damaged; if the results beside it are of this configuration, remove that file and run again"
        ) from None
    here = _flat(science(config))
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            raise UserError(
                f"{config['results_dir']}: holds results of another config ({key}: {there.get(key)} there, "
                f"{here.get(key)} here); set results_dir to a new folder, or remove this one"
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
