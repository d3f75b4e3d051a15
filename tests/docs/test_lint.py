"""The check of prose finds what it is there for, wrapped or not; `make lint` and the hooks of pre-commit agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support import REPOSITORY

CHECK = REPOSITORY / "tools/dialect.py"


def check(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "page.py").write_text(text)
    return subprocess.run([sys.executable, CHECK, "page.py"], capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize(
    "sentence",
    [
        "name 'x' stands already in line 3",
        "the output is no terminal",
        "the figure is no SVG",
        "'x' is no import path of an ASE calculator",
        "it is a database that is none",
        "something else that the user can mend",
        "core potential replaces that is dear",
        "it is of a golf that did not write this",
        "What of a molecule is not as its SMILES says",
        "Who waits here for a job",
        "A valid value as it always looks",
        "For so many slots of molecules",
        "without a meaning where there is an initial model",
        "it is computed anew",
        "forces are computed, too.",
    ],
)
def test_it_finds_the_sentences_of_the_list(tmp_path, sentence):
    assert check(tmp_path, sentence).returncode == 1


def test_it_names_the_line_where_a_wrapped_phrase_begins(tmp_path):
    done = check(
        tmp_path, 'a = 1\n# at most so\n# many characters\nraise E("this is "\n    f"no {a}, it is no "\n    "file")\n'
    )
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == ["page.py:2", "page.py:5", "2 phrases"]


def test_plain_english_passes(tmp_path):
    text = "There is no file. It is no longer used. Not too many: A stands for all. If a is None: there\n# is no b\n"
    done = check(tmp_path, text)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_hooks_of_pre_commit_run_what_make_lint_runs():
    (lint,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    commands = re.findall(r"^\t\$\(VENV\) (.*)$", lint, re.MULTILINE)
    (repository,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert len(commands) >= 5 and hooks == commands
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in repository["hooks"])
