"""The tables of arms and stages: one entry for each, and what is unknown is named."""

from dataclasses import asdict, replace

import pytest

from golf.core.arms import ARMS, CONTROLS, Chosen, arm_named, styles
from golf.core.errors import UserError
from golf.study import arms, settings
from golf.study.config import schema, validated
from golf.study.plan import Size
from golf.study.stages import Work, stage_at, stages

SIZE = Size(initial_labels=24, test_conformations=7, references=5, conformations=31, training_conformations=24)


def config(**changes):
    sections = {
        "dataset": {"train": "a.smi"},
        "oracle": {"batch_size": 10},
        "golf": {"rounds": 2, "labels_per_round": 12},
        "controls": {"random_labels": 5, "traj_labels": 20},
        "evaluation": {"arms": list(ARMS), "trajectory_conformations": 3, "trajectory_steps": [1, 2]},
    }
    return validated(sections | changes, "a.yaml")


def test_all_stages_of_a_study_are_in_order():
    found = stages(config(), SIZE)
    folders = ["labels/initial", "rounds/1/labels", "rounds/2/labels", "random/1/labels", "random/2/labels"]
    folders += ["rdkit/labels", "traj/optimizations", "evaluation/reference"]
    folders += [f"evaluation/{arm}/labels" for arm in ARMS]
    folders += [f"evaluation/{arm}/trajectory/labels" for arm in ARMS if arm != "mmff"]
    assert list(found) == folders
    assert len({stage.title for stage in found.values()}) == len(found)
    shape = {folder: (stage.n, stage.n_batches) for folder, stage in found.items()}
    assert shape["labels/initial"] == (24, 3) and shape["rounds/2/labels"] == (12, 2)
    assert (shape["random/1/labels"], shape["random/2/labels"]) == ((2, 1), (3, 1))
    assert shape["rdkit/labels"] == (24, 3) and shape["traj/optimizations"] == (20, 2)
    assert shape["evaluation/reference"] == (5, 1) and shape["evaluation/golf/labels"] == (7, 1)
    assert shape["evaluation/golf/trajectory/labels"] == (6, 1)
    assert [stage.folder for stage in found.values() if stage.optimizes] == [
        "traj/optimizations",
        "evaluation/reference",
    ]
    assert found["traj/optimizations"].labels == "traj/labels.h5"
    assert found["evaluation/reference"].given == "dataset/reference.h5"


def test_own_structures_are_a_stage_if_there_are_any():
    size = replace(SIZE, structures=25)
    found = stages(config(optimize={"input": "a.h5"}), size)
    own = found["optimize/batches"]
    assert (own.n, own.n_batches, own.labels) == (25, 3, "optimize/minima.h5") and own.optimizes and own.gives_gradients
    assert set(found) - set(stages(config(), size)) == {"optimize/batches"}


def test_a_study_has_only_the_stages_that_its_arms_need():
    only = stages(config(evaluation={"arms": ["mmff"]}, golf={"rounds": 0}), SIZE)
    assert [stage.work for stage in only.values()] == [Work.MINIMA, Work.ENDS]
    baseline = stages(config(evaluation={"arms": ["baseline"]}), SIZE)
    assert list(baseline) == ["labels/initial", "evaluation/reference", "evaluation/baseline/labels"]


def test_what_is_unknown_is_named_in_one_line():
    with pytest.raises(UserError, match=r"^unknown stage 'rounds/9/labels'; this study has labels/initial, .*$"):
        stage_at(stages(config()), "rounds/9/labels")
    with pytest.raises(UserError, match=r"^unknown arm 'gulf'; use one of mmff, baseline, golf, random, rdkit, traj$"):
        arm_named("gulf")
    with pytest.raises(UserError, match=r"^unknown loop 'circles': .*$"):
        arms.loop_arm("circles")
    with pytest.raises(UserError, match=r"^a.yaml: key evaluation.arms.0: 'gulf' is not one of .*'golf'.*$"):
        config(evaluation={"arms": ["gulf"]})


def test_the_configuration_knows_the_arms_of_the_table():
    sections = schema()["properties"]
    assert sections["evaluation"]["properties"]["arms"]["items"]["enum"] == list(ARMS)
    assert list(sections["controls"]["properties"]) == [f"{name}_labels" for name in CONTROLS]
    with pytest.raises(UserError, match="unknown key controls.golf_labels"):
        config(controls={"golf_labels": 3})


def test_every_trained_arm_has_a_model_its_labels_and_the_same_updates():
    study = config()
    models = {arm: arms.model_of(study, arm) for arm in arms.trained_arms(study)}
    assert models == {
        "baseline": "models/baseline_continued/model.pt",
        "golf": "rounds/2/model.pt",
        "random": "random/2/model.pt",
        "rdkit": "rdkit/model.pt",
        "traj": "traj/model.pt",
    }
    stage_labels = {stage.labels for stage in stages(study, SIZE).values()}
    assert all(set(arms.labels_of(study, arm)) <= stage_labels for arm in models)
    assert len({arms.n_updates_of(study, arm) for arm in models}) == 1
    with pytest.raises(UserError, match="arm 'mmff' has no network"):
        arms.model_of(study, "mmff")
    without = config(golf={"rounds": 0}, evaluation={"arms": ["mmff", "baseline"]})
    assert arms.model_of(without, "baseline") == "models/baseline/model.pt"


def test_arms_look_different_in_figures():
    looks = styles(ARMS)
    assert len({look[:2] for look in looks.values()}) == len(ARMS)
    assert {arm.folder for arm in ARMS.values() if arm.chosen is not Chosen.NOT} == {
        "rounds",
        "random",
        "rdkit",
        "traj",
    }


def test_settings_come_back_from_the_parameters_of_a_rule():
    study = config()
    for made, kind in (
        (settings.selection(study, "rounds", 1), settings.Selection),
        (settings.relaxation(study), settings.Relaxation),
    ):
        assert asdict(kind.of(made)) == made
    assert settings.selection(study, "rounds", 1)["n_select"] == 12
    assert settings.selection(study, "random", 2)["n_select"] == 3
    assert settings.selection(study, "rounds", 1)["optimizer"]["name"] == "lbfgs"
    assert settings.relaxation(study)["optimizer"]["name"] == "preconditioned"
    assert settings.surrogate_of(study, "rounds") == "MMFF94" and settings.surrogate_of(study, "random") is None
    assert "checkpoint_seconds" not in settings.training(study) and "download" not in settings.source(study)


def test_resources_grow_with_the_attempt_and_with_the_processes():
    study = config(resources={"label_processes": 3, "label_threads": 2, "label_memory_mb": 1000})
    assert settings.label_threads(study) == 6
    assert settings.label_memory_mb(study) == settings.OVERHEAD_MB + 6000
    assert settings.per_attempt(10)(None, None, 3) == 30
    assert settings.per_attempt(lambda wildcards, input: wildcards + input)(1, 2, 2) == 6
