"""The site of the documentation, and the pages that are held against code and schema."""

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml

from golf.cli.main import _parser
from golf.core.conformations import Status
from golf.core.hdf5 import read
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.study.config import GROWING_KEYS, MACHINE_KEYS, schema, validated
from support import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))


class Addresses(HTMLParser):
    """What a page loads, what it links to, its text, and the equations in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.equations = 0
        self.words: list[str] = []
        self.feed(text)

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.equations += tag == "math"
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag == "link" and values.get("rel") != "canonical":
            self.loads.append(values["href"])
        elif "src" in values:
            self.loads.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[str, Addresses]:
    """The pages of the site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    pages = {path.stem: path.read_text() for path in folder.glob("*.html") if path.stem != "404"}  # of a server's root
    for text in pages.values():
        for name in Addresses(text).loads:
            assert (folder / name.partition("?")[0]).is_file(), f"{name} is not in the site"
    return {name: Addresses(text) for name, text in pages.items()}


def test_every_page_is_built_and_in_the_navigation(site):
    assert set(PAGES) <= set(site)
    for page in PAGES:
        assert {f"{name}.html" for name in PAGES if name != page} <= set(site[page].links)


def test_navigation_leaves_out_what_is_not_there_and_appends_what_it_does_not_know():
    navigation = runpy.run_path(str(DOCS / "site/hooks.py"))["navigation"]
    assert navigation(["zeta", "index", "method", "alpha"]) == [
        {"Start": ["index.md"]},
        {"Reference": ["method.md"]},
        {"Further": ["alpha.md", "zeta.md"]},
    ]


def test_every_module_is_on_the_page_of_the_api_with_a_sentence(site):
    table = runpy.run_path(str(DOCS / "site/hooks.py"))["modules"](REPOSITORY / "golf")
    rows = dict(re.findall(r"^\| `(golf/\S+\.py)` \| (.*) \|$", table, re.MULTILINE))
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "golf").glob("*/**/*.py")}
    assert {path for path in modules if "__init__" not in path} <= set(rows) <= modules
    assert all(len(about.split()) > 3 and about[-1] in ".:" for about in rows.values()), rows
    assert set(rows) <= set(site["api"].words)


PUBLIC = re.findall(r"^::: golf\.(\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)


def test_what_is_public_is_on_the_page_of_the_api(site):
    words = "".join(site["api"].words)
    assert len(PUBLIC) > 10
    for name in ("get_hessian", "energy_and_forces", "ConformationSet", "relax(", "OraclePool", "Label", "validated"):
        assert name in words
    assert "::: golf" not in words and "Parameters" in words and "UserError" in words


def test_equations_are_mathml(site):
    source = re.sub(r"```.*?```|`[^`]*`", "", (DOCS / "method.md").read_text(), flags=re.DOTALL)
    assert site["method"].equations == len(re.findall(r"\$\$.*?\$\$|\$[^$]+\$", source, re.DOTALL)) > 50


def test_the_page_of_the_configuration_is_that_of_the_schema():
    page = runpy.run_path(str(DOCS / "site/configuration.py"))["page"]
    assert (DOCS / "configuration.md").read_text() == page(), "type: make docs"
    for key in (*MACHINE_KEYS, *GROWING_KEYS):
        assert f"\n- `{key}`\n" in page()


def test_the_schema_has_no_words_that_are_cut_off():
    """In YAML's {key: value, ...} a comma ends a text without quotes, and what follows is taken for a key."""
    meta = {"$schema", "title", "description", "default", "unit", "type", "properties", "required", "items", "enum"}
    meta |= {"additionalProperties", "uniqueItems", "pattern", "propertyNames", "minLength", "minItems"}
    meta |= {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}

    def check(part: dict, path: str) -> None:
        assert set(part) <= meta, f"{path}: {set(part) - meta}"
        for name, sub in part.get("properties", {}).items():
            check(sub, f"{path}.{name}")
            assert "properties" in sub or sub["description"].endswith("."), f"{path}.{name}: {sub['description']}"
        if "items" in part:
            check(part["items"], f"{path}[]")

    check(schema(), "")


def texts_of_the_code() -> Iterator[str]:
    """Texts of golf/, with ... for what is filled in; lines of rules and scripts."""
    for path in (REPOSITORY / "golf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for path in (*(REPOSITORY / "rules").iterdir(), *(REPOSITORY / "setup").iterdir()):
        yield from path.read_text().splitlines()


MESSAGES = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(texts_of_the_code())


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_the_troubleshooting_page_exist(message, texts):
    parts = [re.escape(part) for part in message.split("...") if part.strip(" :;,()")]
    assert sum(map(len, parts)) > 10
    assert any(re.search(".*".join(parts), text) for text in texts)


COMMANDS = [
    (path.name, line.strip())
    for path in (REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")))
    for line in path.read_text().splitlines()
    if re.match(r" {4}golf ", line)
]


@pytest.mark.parametrize("page,line", COMMANDS)
def test_commands_of_the_pages_have_options_that_exist(page, line):
    _parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", ["molecules", "extending"])
def test_configurations_of_the_pages_are_valid(page):
    for text in re.findall(r"```yaml\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL):
        validated({"dataset": {"train": "my.smi"}} | yaml.safe_load(text), f"docs/{page}.md")


COPIED = ("Snakefile", "configs", "data", "envs", "golf", "profiles", "report", "rules", "schemas", "workflow_scripts")


@pytest.fixture
def with_the_arms(tmp_path) -> Path:
    """A copy of the repository with the changes of docs/extending.md."""
    for name in COPIED:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    page = (DOCS / "extending.md").read_text()
    for code in re.findall(r"```(?:python|snakemake)\n(.*?)```", page, re.DOTALL):
        path = tmp_path / re.match(r"# (\S+)\n", code)[1]
        assert not path.exists()
        path.write_text(code)
    changes = "".join(re.findall(r"```diff\n(.*?)```", page, re.DOTALL))
    for change in re.split(r"^--- ", changes, flags=re.MULTILINE)[1:]:
        path = tmp_path / re.search(r"^\+\+\+ b/(\S+)", change, re.MULTILINE)[1]
        lines = change.partition(" @@\n")[2].splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))
    return tmp_path


@pytest.mark.study
def test_the_arm_of_the_page_is_evaluated(with_the_arms):
    """Against minima of GFN2-xTB itself: ends of another optimizer lie at the same energies."""
    config = yaml.safe_load((REPOSITORY / "configs/tiny-without-psi4.yaml").read_text())
    config["dataset"] |= {"train": str(REPOSITORY / "tests/molecules.smi"), "conformers": 2}
    config["evaluation"] |= {"arms": ["gfn2"]}
    config["golf"] |= {"rounds": 0}
    config["relaxation"] = {"max_iterations": 500}
    config["results_dir"] = "results"
    (with_the_arms / "my.yaml").write_text(yaml.safe_dump(config))
    target = "results/evaluation/summary.csv"
    command = [Path(sys.executable).with_name("snakemake"), target, "--cores", "2", "--configfile", "my.yaml"]
    environment = os.environ | {"PYTHONPATH": str(with_the_arms)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=with_the_arms, env=environment)
    assert done.returncode == 0, done.stderr[-5000:]
    metrics = read(with_the_arms / "results/evaluation/gfn2/metrics.h5")
    residual = metrics.values["residual_energy"][metrics.values["has_reference"]] * HARTREE_IN_KCAL_PER_MOL
    assert len(residual) > 3 and (metrics.values["status"] == Status.OK).all()
    assert np.abs(residual).max() < 0.05  # kcal/mol
    assert np.nanmedian(metrics.values["percent_optimized"]) == pytest.approx(100.0, abs=1.0)
    assert metrics.attrs["n_labels"] == 0 and not (with_the_arms / "results/models").exists()


@pytest.mark.study
@pytest.mark.slow
def test_the_control_of_the_page_is_one_entry_and_one_rule(with_the_arms):
    """It is labelled, trained, relaxed and evaluated, and every place that speaks of stages knows it."""
    config = yaml.safe_load((REPOSITORY / "configs/tiny-without-psi4.yaml").read_text())
    config["dataset"] |= {"train": str(REPOSITORY / "tests/molecules.smi"), "conformers": 2}
    config["golf"] |= {"rounds": 1}
    config |= {"evaluation": {"arms": ["rattled"]}, "controls": {"rattled_labels": 5}, "results_dir": "results"}
    (with_the_arms / "my.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {"PYTHONPATH": str(with_the_arms)}

    def run(program, *arguments):
        command = [Path(sys.executable).with_name(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=with_the_arms, env=environment)
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stdout

    assert re.search(r"^rattled labels +5 ", run("golf", "estimate", "my.yaml"), re.MULTILINE)
    run("snakemake", "--cores", "2", "--configfile", "my.yaml")
    assert re.search(r"^arm rattled +done +5 of 5 ", run("golf", "status", "my.yaml"), re.MULTILINE)
    summary = pandas.read_csv(with_the_arms / "results/evaluation/summary.csv").set_index("arm")
    assert summary.loc["rattled", "n_labels"] > 5 and summary.loc["rattled", "n_updates"] > 0
    report = (with_the_arms / "results/report.html").read_text()
    assert "arm rattled" in report and "displaced at random instead" in report


def test_an_error_message_is_found_from_disk_and_nothing_complains(tmp_path, chromium):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    options += ["--virtual-time-budget=10000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    address = (tmp_path / "site/search.html").as_uri() + "?q=Psi4+not+found:+/usr/bin/python3+cannot+import+psi4"
    shown = subprocess.run([chromium, *options, address], capture_output=True, text=True, check=True, timeout=120)
    first = re.search(r'<article><h3><a href="([^"]*)"', shown.stdout)[1]
    assert first.startswith("./troubleshooting.html#psi4-not-found")
    assert "CONSOLE" not in shown.stderr


@pytest.mark.parametrize("page", PAGES)
def test_lists_are_read_alike_by_the_site_and_by_others(page):
    """MkDocs wants an empty line before a list, and four spaces before what goes on in it after an empty line."""
    before, code = "", False
    for number, line in enumerate((DOCS / f"{page}.md").read_text().splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        starts = re.match(r"([-*]|\d+\.) ", line)
        glued = starts and before and not re.match(r"[-*] |\d+\. | ", before)
        assert code or not glued, f"{page}.md, line {number}: an empty line is missing"
        assert code or before or not re.match(r" {1,3}\S", line), f"{page}.md, line {number}: four spaces"
        before = line
