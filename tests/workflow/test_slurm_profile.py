"""The lines of slurm/config.yaml that users edit, through the validation of the Slurm plugin; needs no Slurm."""

import re
import tomllib
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from snakemake.cli import parse_args
from snakemake.iocontainers import ResourceList
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_executor_settings, validate_slurm_extra
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from support import REPOSITORY

PROFILE = (REPOSITORY / "slurm/config.yaml").read_text()
COMMENTED = re.compile(r"^(\s*)# (\S+: .*# EDIT.*)$", re.MULTILINE)
NAMES = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")


def submitted(folder, profile):
    """What the plugin would call for a CPU job and for a GPU job, after its own validation."""
    (folder / "config.yaml").write_text(profile)
    options = parse_args(["--profile", str(folder), "--workflow-profile", "none"])[1]
    settings = ExecutorPluginRegistry().get_plugin("slurm").get_settings(options)
    validate_executor_settings(settings)
    calls = []
    for own in ({}, dict(options.set_resources["train_baseline"].items())):
        given = {**dict(options.default_resources.items()), **own}
        arguments = {"input": [], "attempt": 1, "threads": 2, "rulename": "rule", "async_run": None}
        names = given.keys() - {"mem_mb", "disk_mb", "tmpdir"}
        values = {name: given[name].evaluate(None, **arguments).value for name in names}
        job = SimpleNamespace(resources=ResourceList(fromdict=values), threads=2)
        validate_slurm_extra(job)
        account = f"{values.get('slurm_account', '')} {values['slurm_partition']}"
        calls.append(f"{account} {get_submit_command(job, dict.fromkeys(NAMES, ''), settings)} {set_gres_string(job)}")
    return calls


def test_the_profile_as_it_comes(tmp_path):
    cpu, gpu = submitted(tmp_path, PROFILE)
    assert cpu.startswith(" cpu ") and " --requeue " in cpu and "--gpus" not in cpu
    assert gpu.startswith(" gpu ") and "--gpus=1" in gpu


@pytest.mark.parametrize(
    ("line", "cpu", "gpu"),
    [
        ("slurm_account: chem42", "chem42 cpu", "chem42 gpu"),
        ("qos: normal", "--qos=normal", "--qos=normal"),
        ("constraint: avx2", "-C avx2", "-C avx2"),
        ("slurm_extra:", "--exclude=node17 --nice=100", "--exclude=node17 --nice=100"),
        ("gpu_model: a100", "", "--gpus=a100:1"),
        ("slurm_account: chem42gpu", "", "chem42gpu gpu"),
    ],
)
def test_every_commented_line_is_accepted_and_comes_into_effect(tmp_path, line, cpu, gpu):
    (match,) = [found for found in COMMENTED.finditer(PROFILE) if found[2].startswith(f"{line} ")]
    before = submitted(tmp_path, PROFILE)
    after = submitted(tmp_path, PROFILE.replace(match[0], match[1] + match[2]))
    for wanted, old, new in zip((cpu, gpu), before, after, strict=True):
        assert wanted in new and (not wanted or wanted not in old), new


def test_no_commented_line_is_left_out_above():
    assert len(COMMENTED.findall(PROFILE)) == len(re.findall(r"^ *# .*# EDIT", PROFILE, re.MULTILINE)) == 6


def test_the_plugin_refuses_what_it_sets_itself(tmp_path):
    """Or the test above would show nothing."""
    with pytest.raises(WorkflowError, match="quality-of-service"):
        submitted(tmp_path, PROFILE.replace("--nice=100", "--qos=normal").replace("  # slurm_extra", "  slurm_extra"))


def test_an_older_plugin_is_not_enough():
    named = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    (plugin,) = [one for one in map(Requirement, named) if one.name == "snakemake-executor-plugin-slurm"]
    assert Version("2.7.9") not in plugin.specifier and Version("2.8.0") in plugin.specifier
