"""Which study `make run` is about to run, and which of Snakemake's locks are that study's."""

import pytest
import yaml

from golf.core.errors import UserError
from golf.study.recovery import MARKS, Study, study_of, unlock


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "config.yaml": {"dataset": {"train": "a.smi"}},
        "my studies/it's mine.yaml": {
            "results_dir": "results/my own",
            "dataset": {"train": "data/b.db", "download": [{"url": "https://example.org/b.db", "to": "data/b.db"}]},
        },
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(content))
    return tmp_path


def test_the_results_folder_is_what_tells_studies_apart(folder):
    default, mine = study_of(["--cores", "1"]), study_of(["--configfile", "my studies/it's mine.yaml", "--", "all"])
    assert default.results == folder / "results" and default == study_of(["--configfile", "config.yaml", "-n"])
    assert mine.results == folder / "results/my own" and mine.downloads == {folder / "data/b.db"}
    assert mine == study_of(["--config", "results_dir=results/my own", "--configfile", "my studies/it's mine.yaml"])
    names = {default.name, mine.name, Study(folder / "elsewhere/results").name, Study(folder / ("x" * 200)).name}
    assert len(names) == 4  # the same last part is not the same study
    for name in names:  # as Slurm's plugin has it
        assert len(f"golf-{name}") <= 50 and name.replace("-", "").isalnum()


@pytest.mark.parametrize(("content", "reason"), [(None, "no such file"), ("[a", "not YAML"), ("- a\n", "not a")])
def test_a_config_that_cannot_be_read_is_one_line(folder, content, reason):
    if content is not None:
        (folder / "bad.yaml").write_text(content)
    with pytest.raises(UserError, match=f"bad.yaml: {reason}"):
        study_of(["--configfile", "bad.yaml"])


def test_the_locks_of_other_studies_stay(folder):
    """Studies may lie within each other's results folder, as results/my does by default."""
    outer, inner = study_of([]), study_of(["--configfile", "my studies/it's mine.yaml"])
    MARKS.mkdir(parents=True)
    for study in (outer, inner):
        (MARKS / f"{study.name}.at-work").write_text(f"{study.results}\n--cores 1\n")
    locks = MARKS.parent / "locks"
    locks.mkdir()

    def left(study):
        for name, lines in {
            "0.input.lock": ["results/dataset/oracle.json", "data/a.smi"],
            "0.output.lock": ["results/dataset/train.h5"],
            "1.input.lock": ["data/b.db", "results/my own/dataset/oracle.json"],
            "1.output.lock": ["results/my own/dataset/train.h5"],
            "2.output.lock": ["data/b.db"],
            "3.output.lock": [f"{folder}/elsewhere/x.h5"],
        }.items():
            (locks / name).write_text("\n".join(lines) + "\n")
        unlock(study)
        return sorted(path.name[:-5] for path in locks.iterdir())

    assert left(outer) == ["1.input", "1.output", "2.output", "3.output"]
    assert left(inner) == ["0.input", "0.output", "3.output"]
