"""The configuration: defaults, and one line for every mistake."""

import copy
import subprocess
import sys

import pytest
import yaml

from golf.core.errors import UserError
from golf.oracles.settings import pool_settings
from golf.study.config import check_results, read_config, schema, science, sha256, validated
from support import REPOSITORY

MINIMAL = {"dataset": {"train": "molecules.smi"}}


def with_key(key, value):
    section, name = key.split(".")
    return {**MINIMAL, section: {**MINIMAL.get(section, {}), name: value}}


def test_defaults_are_filled_in_and_stay_out_of_the_input():
    config = validated(MINIMAL, "config.yaml")
    assert config["golf"]["rounds"] == schema()["properties"]["golf"]["properties"]["rounds"]["default"]
    assert MINIMAL == {"dataset": {"train": "molecules.smi"}}
    assert validated(config, "config.yaml") == config


@pytest.mark.parametrize("path", [REPOSITORY / "config.yaml", *sorted((REPOSITORY / "configs").glob("*.yaml"))])
def test_shipped_configs_are_valid(path):
    validated(yaml.safe_load(path.read_text()), str(path))


def test_every_key_has_a_type_a_default_and_a_description():
    def check(part, path):
        for name, key in part["properties"].items():
            if key.get("type") == "object" and "properties" in key:
                assert key["additionalProperties"] is False, f"{path}{name}"
                check(key, f"{path}{name}.")
            else:
                assert "description" in key and ("type" in key or "enum" in key), f"{path}{name}"
                assert "default" in key or name in part["required"], f"{path}{name}"

    check(schema(), "")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({**MINIMAL, "golff": {}}, r"unknown key golff; did you mean golf\?"),
        (with_key("golf.round", 3), r"unknown key golf\.round; did you mean golf\.rounds\?"),
        ({"seed": 1}, r"key dataset is missing"),
        ({"dataset": {}}, r"key dataset\.train is missing"),
        (with_key("golf.rounds", "three"), r"key golf\.rounds: 'three' is not of type 'integer'"),
        (with_key("golf.rounds", -1), r"key golf\.rounds: -1 is less than the minimum of 0"),
        (with_key("golf.labels_per_round", 0), r"key golf\.labels_per_round: 0 is less than the minimum of 1"),
        (with_key("oracle.batch_size", 0), r"key oracle\.batch_size: 0 is less than"),
        (with_key("training.batch_size", -4), r"key training\.batch_size: -4 is less than"),
        (with_key("nnp.cutoff", 0), r"key nnp\.cutoff: 0 is less than or equal to the minimum of 0"),
        (with_key("nnp.representation", "gemnet"), r"key nnp\.representation: 'gemnet' is not one of"),
        (with_key("evaluation.arms", ["golf", "golf"]), r"key evaluation\.arms: .*non-unique"),
        (with_key("dataset.conformers", 0), r"key dataset\.conformers: 0 means that the file"),
        ({"dataset": {"train": "A.SMI", "conformers": 0}}, r"key dataset\.conformers: 0 means that the file"),
        (with_key("dataset.test_conformers", 0), r"key dataset\.test_conformers: 0 leaves no test set"),
        (
            {"dataset": {"train": "a.h5", "test": "b.h5", "test_molecules": ["x"]}},
            r"key dataset\.test_molecules: cannot be set together",
        ),
        (
            {**MINIMAL, "golf": {"rounds": 0}, "evaluation": {"arms": ["golf"]}},
            r"key evaluation\.arms: with golf\.rounds 0",
        ),
        (with_key("nnp.cutoff", float("nan")), r"key nnp\.cutoff: nan is not a finite number"),
        (with_key("nnp.cutoff", 10**400), r"key nnp\.cutoff: 10000.* is not a finite number"),
        (with_key("nnp.reference_energies", {"Q": 1.0}), r"key nnp\.reference_energies: 'Q' is not the symbol"),
        (with_key("nnp.reference_energies", {"Og": 1.0}), r"key nnp\.reference_energies: 'Og' is .* up to Es"),
        ({**MINIMAL, "golf": 3}, r"key golf: 3 is not of type 'object'"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(raw, message):
    with pytest.raises(UserError, match=rf"^config\.yaml: {message}") as caught:
        validated(raw, "config.yaml")
    assert "\n" not in str(caught.value)


def test_no_rounds_is_a_valid_study():
    assert validated(with_key("golf.rounds", 0), "config.yaml")["golf"]["rounds"] == 0


def test_hash_follows_the_science_and_not_the_machine():
    config = validated(MINIMAL, "config.yaml")
    faster = validated({**MINIMAL, "resources": {"train_threads": 8}, "results_dir": "elsewhere"}, "config.yaml")
    other = validated({**MINIMAL, "seed": 2}, "config.yaml")
    own = validated({**MINIMAL, "optimize": {"input": "a.h5"}}, "config.yaml")  # besides the study
    assert sha256(config) == sha256(faster) == sha256(own) != sha256(other)
    assert "resources" not in science(config) and "resources" in config


def test_a_number_is_the_same_in_either_spelling():
    """Snakemake makes anew what was made with 5 where 5.0 stands now."""
    whole = {
        "oracle": {"time_limit": 60, "max_force_norm": 2, "keywords": {"maxiter": 7, "level_shift": 1.0}},
        "nnp": {"cutoff": 5, "reference_energies": {"H": -1, "C": -38.0}},
        "golf": {"rounds": 2, "labels_per_round": 10},
        "controls": {"random_labels": 20},
        "evaluation": {"trajectory_steps": [1, 2]},
    }
    pointed = {
        "oracle": {"time_limit": 60.0, "max_force_norm": 2.0, "keywords": {"maxiter": 7, "level_shift": 1.0}},
        "nnp": {"cutoff": 5.0, "reference_energies": {"H": -1.0, "C": -38}},
        "golf": {"rounds": 2.0, "labels_per_round": 10.0},
        "controls": {"random_labels": 20.0},
        "evaluation": {"trajectory_steps": [1.0, 2.0]},
    }
    one, other = validated({**MINIMAL, **whole}, "a.yaml"), validated({**MINIMAL, **pointed}, "a.yaml")
    assert sha256(one) == sha256(other) and repr(one) == repr(other)
    assert repr(one["nnp"]["reference_energies"]) == "{'H': -1.0, 'C': -38.0}"
    assert repr(one["oracle"]["keywords"]) == "{'maxiter': 7, 'level_shift': 1.0}"  # types are the program's business
    assert repr(one["controls"]["random_labels"]) == "20" and repr(one["training"]["checkpoint_seconds"]) == "60.0"
    assert repr(one["evaluation"]["trajectory_steps"]) == "[1, 2]" and repr(one["golf"]["rounds"]) == "2"


def test_the_order_of_keys_and_defaults_that_are_written_out_change_nothing():
    one = validated({"dataset": {"train": "a.smi", "conformers": 3}, "seed": 2}, "a.yaml")
    other = validated({"seed": 2, "dataset": {"conformers": 3, "max_left_out": 0.1, "train": "a.smi"}}, "a.yaml")
    assert repr(one) == repr(other)


def test_results_of_another_config_are_refused(tmp_path):
    config = validated({**MINIMAL, "results_dir": str(tmp_path)}, "config.yaml")
    check_results(config)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    check_results(config)
    check_results({**config, "resources": {**config["resources"], "train_threads": 5}})
    with pytest.raises(UserError, match=r"holds results of another config \(golf\.rounds: 3 there, 5 here\)"):
        check_results({**config, "golf": {**config["golf"], "rounds": 5}})


def test_scratch_may_name_a_variable_of_the_node(tmp_path, monkeypatch):
    config = validated(MINIMAL | {"oracle": {"scratch": "$TMPDIR/psi4"}}, "config.yaml")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match=rf"oracle\.scratch: {tmp_path}/psi4: no such folder on "):
        pool_settings(config)
    (tmp_path / "psi4").mkdir()
    assert pool_settings(config)["scratch"] == str(tmp_path / "psi4")
    monkeypatch.delenv("SLURM_TMPDIR", raising=False)  # Slurm's plugin hides most of Slurm's variables from jobs
    config = validated(MINIMAL | {"oracle": {"scratch": "$SLURM_TMPDIR/psi4"}}, "config.yaml")
    with pytest.raises(UserError, match=r"oracle\.scratch: \$SLURM_TMPDIR/psi4: SLURM_TMPDIR is not set in jobs on "):
        pool_settings(config)


def test_a_finished_study_may_be_asked_for_more(tmp_path):
    config = validated({"dataset": {"train": "a.smi"}, "results_dir": str(tmp_path)}, "a.yaml")
    recorded = copy.deepcopy(config)
    del recorded["controls"], recorded["evaluation"]["models"]  # of a time before there were these keys
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(recorded))
    more = copy.deepcopy(config)
    more["evaluation"] |= {
        "arms": ["mmff", "golf", "random"],
        "models": {"theirs": "a.pt"},
        "trajectory_conformations": 4,
    }
    more["controls"]["random_labels"] = 7
    check_results(more)
    assert sha256(more) == sha256(config)
    more["evaluation"]["reference_max_steps"] = 3
    with pytest.raises(UserError, match="evaluation.reference_max_steps"):
        check_results(more)


@pytest.mark.parametrize("name", ["reference", "trajectory", "mmff"])
def test_no_model_is_called_like_a_folder(name):
    with pytest.raises(UserError, match=f"evaluation.models: {name} is the name of"):
        validated({"dataset": {"train": "a.smi"}, "evaluation": {"models": {name: "a.pt"}}}, "a.yaml")


def test_a_results_folder_has_one_spelling(tmp_path, monkeypatch):
    """Else Snakemake finds none of its files again."""
    monkeypatch.chdir(tmp_path)
    for given in ("res/my", "res/my/", "./res//my", "res/other/../my", f"{tmp_path}/res/my/"):
        assert validated({**MINIMAL, "results_dir": given}, "config.yaml")["results_dir"] == "res/my"
    assert validated({**MINIMAL, "results_dir": "/elsewhere/my/"}, "config.yaml")["results_dir"] == "/elsewhere/my"


def test_numbers_as_people_write_them():
    config = validated({"dataset": {"train": "a.smi"}, "golf": {"labels_per_round": 10.0}}, "a.yaml")
    assert config["golf"]["labels_per_round"] == 10 and isinstance(config["golf"]["labels_per_round"], int)
    with pytest.raises(
        UserError, match="learning_rate: '1e-3' is not of type 'number'; YAML reads it as text; write 0.001 without"
    ):
        validated({"dataset": {"train": "a.smi"}, "golf": yaml.safe_load("learning_rate: 1e-3")}, "a.yaml")
    for given, plain in (("1e-5", "0.00001"), ("'2000000'", "2000000"), ("'12.0'", "12")):
        with pytest.raises(UserError, match=f"YAML reads it as text; write {plain} without quotes"):
            validated({"dataset": {"train": "a.smi"}, "training": yaml.safe_load(f"learning_rate: {given}")}, "a.yaml")
        assert isinstance(yaml.safe_load(plain), int | float)
    with pytest.raises(UserError, match=r"test_molecules: 'dms' is not of type 'array'; write a list: \[dms\]"):
        validated({"dataset": {"train": "a.smi", "test_molecules": "dms"}}, "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dataset: {train: a.smi, test_molecules: [007, 0123, NO, 1e3, 12:30, yes, 2026-01-02]}",
            "key dataset.test_molecules: YAML does not read 007, 0123, NO, 12:30, yes, 2026-01-02 as text; write "
            '"007", "0123", "NO", "12:30", "yes", "2026-01-02", in quotes',
        ),
        ("dataset: {train: 007}", 'key dataset.train: YAML does not read 007 as text; write "007", in quotes'),
        ("dataset: {train: a.smi}\nresults_dir: 2026-01-02", "key results_dir: YAML does not read 2026-01-02 as text"),
        (
            "dataset: {train: a.smi}\nevaluation: {models: {NO: a.pt}}",
            "line 2: YAML does not read the key evaluation.models.NO as text; write it in quotes",
        ),
        (
            "dataset: {train: a.smi}\nseed: 1\nseed: 2",
            "key seed is there twice (lines 2 and 3); remove one",
        ),
        (
            "dataset: {train: a.smi}\ngolf:\n  rounds: 2\n  rounds: 3",
            "key golf.rounds is there twice (lines 3 and 4); remove one",
        ),
        (
            "dataset: {train: a.smi}\noracle: {keywords: {d_convergence: 1e-9}}",
            "key oracle.keywords.d_convergence: YAML reads 1e-9 as text, not as a number; write 0.000000001 without",
        ),
    ],
)
def test_what_yaml_takes_for_something_else_is_said(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(tmp_path / "a.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml: {message}") and "\n" not in str(caught.value)


def test_names_in_quotes_are_names(tmp_path):
    (tmp_path / "a.yaml").write_text('dataset: {train: a.smi, test_molecules: ["007", "NO", 1e3]}')
    assert read_config(tmp_path / "a.yaml")["dataset"]["test_molecules"] == ["007", "NO", "1e3"]


def test_a_workflow_refuses_a_key_that_is_there_twice(tmp_path):
    """Snakemake reads the file by itself, and takes the last one."""
    (tmp_path / "a.yaml").write_text("dataset: {train: a.smi}\nseed: 1\nseed: 2\n")
    command = [sys.executable, "-m", "snakemake", "--configfile", str(tmp_path / "a.yaml"), "--dry-run", "--cores", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 1 and "a.yaml: key seed is there twice (lines 2 and 3); remove one" in done.stderr
