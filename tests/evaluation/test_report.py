"""The report: its numbers, odd studies, and what a browser makes of it."""

import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from PIL import Image
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from scipy.spatial.transform import Rotation

from golf.chem import molecules as chemistry
from golf.core.hdf5 import read, write
from golf.core.level import NO_BASIS
from golf.core.units import hartree
from golf.evaluation.report import LabelStage, costs, molecules, svg, write_report
from golf.evaluation.report.page import number
from golf.study.config import sha256, validated
from support import REPOSITORY
from support.made_up_study import GAIN, LEVEL, finish, made_up_study, reference_of, relaxed_of
from support.mmff_potential import conformers

SMILES = ["CCO", "CC(=O)N", "c1ccccc1O"]
ARMS = {"mmff": [3.0, 0.5], "golf": [0.2, np.nan, 0.1, 20.0, 0.3, 0.4]}
DRUG = "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)NCc1ccccc1O"


def report_of(folder, files):
    config = validated({"seed": 4, "dataset": {"train": "tests/molecules.smi"}, "oracle": ORACLE}, "test")
    path = folder / "report.html"
    write_report(path, files, config=config, config_sha256=sha256(config))
    return path


ORACLE = {"method": "hf", "basis": "sto-3g"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return made_up_study(folder, ARMS, smiles=SMILES, n_known_minima=1, failed={5: "limit of 200 steps"})


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    return report_of(tmp_path_factory.mktemp("report"), study)


def words(html):
    """Text of a page or a part of it, without scripts, styles and drawings."""
    text = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).replace("\xad", "").split())


def section(report, name):
    found = re.search(rf'<section id="{name}">.*?</section>', report.read_text(), re.DOTALL)
    assert found, name
    return words(found[0])


def test_headline_has_numbers_intervals_and_what_is_missing(report):
    outcome = section(report, "outcome")
    # golf: 0.2, (no energy), 0.1, 20 (above its start by 8), 0.3; the sixth has no DFT minimum
    assert "From 5 starts, relaxations of arm golf end 5.15 kcal/mol above" in outcome
    assert "60.0 % come within 1 kcal/mol. For arm mmff these numbers are " in outcome
    assert "The network of arm golf was trained and validated on 50 DFT labels" in outcome
    assert re.search(r"golf 5 50 5\.15 \S+ to \S+ 60\.0 \S+ to \S+", outcome)
    left_out = section(report, "left-out")
    assert "mmff 1 0 0 0 golf 1 1 0 0" in left_out
    assert "not converged limit of 200 steps" in left_out
    assert "odd 7 C[<b>]C cannot be parsed" in left_out


def test_labels_cost_what_their_columns_say(study, report):
    labels = section(report, "labels")
    # 36 s a label, 360 s and 10 gradients a minimum; one thread
    assert "initial labels 6 0 6 1 6 0.06 36.0" in labels
    assert "DFT minima 6 1 5 1 50 0.50 36.0" in labels
    assert "round 1 timed out <60 s> & no end 1" in labels
    assert "ends of golf failed PSIO error 1" in labels
    assert "second_order 2" in labels
    assert "Training took 1.00 hours of wall time; relaxations, including those with MMFF, took 0.50 hours." in labels


def test_labels_that_came_with_the_data_cost_nothing(study, tmp_path):
    stage = study.stages[0]
    half = read(stage.labels)
    half.values["status"][3:] = 1  # not computed when they were asked for
    write(tmp_path / "half.h5", half)
    cost = costs.cost_of(replace(stage, known=tmp_path / "half.h5"))
    assert (cost.n, cost.n_given, cost.n_computed, cost.seconds) == (6, 3, 3, 108.0)


def test_rounds_and_origin(report):
    rounds = section(report, "rounds")
    assert "0 100 5 1 5 – – 2.000 4.000" in rounds
    assert "2 300 5 1 15 10 60.0 0.500 1.000" in rounds
    origin = section(report, "origin")
    assert "hf/sto-3g" in origin and "psi4 1.3.2" in origin and "train: tests/molecules.smi" in origin
    assert "University of Pittsburgh" in origin


def test_the_level_of_theory_as_the_command_line_says_it(study, report, tmp_path):
    assert "Level of theory hf/sto-3g (psi4 1.3.2) " in section(report, "origin")
    write(
        tmp_path / "ase.h5", read(study.reference).with_columns(program="ase", method="tblite:gfn2-xtb", basis=NO_BASIS)
    )
    of_ase = report_of(tmp_path, replace(study, reference=tmp_path / "ase.h5"))
    assert "Level of theory tblite:gfn2-xtb (ase 1.3.2) " in section(of_ase, "origin")


def test_columns_of_the_rounds_are_on_the_method_page(study):
    page = (REPOSITORY / "docs/method.md").read_text()
    head = study.rounds.read_text().splitlines()[0].split(",")
    assert head[0] == "round" and not [name for name in head[1:] if f"`{name}`" not in page]


def test_the_environment_of_the_tables_is_enough():
    """envs/report.yaml has neither the network's packages nor Snakemake's."""
    code = "import sys, golf.evaluation.report, golf.evaluation.rounds, golf.evaluation.figures, golf.core.job\n"
    code += "print([*sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert not {"torch", "schnetpack", "ase", "tqdm", "jsonschema", "snakemake"} & set(eval(shown.stdout))


def test_hashes_are_those_of_the_files(study, report):
    for path in (*study.inputs, *study.models):
        assert f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" in section(report, "origin")


def test_the_worst_come_first_and_once_a_molecule(study):
    cases = molecules.worst(read(study.arms[1]), read(study.reference))
    names = [case.molecule for case in cases]
    assert len(names) == len(set(names)) == 3
    assert np.isnan(cases[0].residual_energy) and cases[0].diverged
    # the other start of the third has no DFT minimum
    assert [case.residual_energy for case in cases[1:]] == pytest.approx([20.0, 0.1])
    assert cases[1].start_energy == pytest.approx(GAIN) and cases[1].minimum_energy == -100.0
    assert len(molecules.worst(read(study.arms[1]), read(study.reference), n=2)) == 2


def test_geometries_are_laid_over_the_minimum():
    found = conformers([DRUG], 2, 3)
    smiles, (target, other) = found.mapped_smiles[0], found.positions_by_conformation()
    turned = Rotation.from_euler("xyz", [40, 70, -20], degrees=True).apply(target) + [3.0, -2.0, 9.0]
    np.testing.assert_allclose(molecules.superimposed(smiles, turned, target), target, atol=1e-5)
    moved = molecules.superimposed(smiles, other, target)
    probe, there, here = (Chem.RemoveHs(chemistry.molecule(smiles, x)) for x in (other, target, moved))
    best = rdMolAlign.GetBestRMS(probe, there)
    assert rdMolAlign.CalcRMS(here, there) == pytest.approx(best, abs=1e-4)  # over equivalent atoms, without moving


def test_figures_of_a_page_share_no_names(study):
    parts = [svg.inline(path.read_text(), path.stem, "Words") for path in study.figures]
    names = [name for part in parts for name in re.findall(r'\bid="([^"]+)"', part)]
    assert len(names) == len(set(names)) > 50
    for part in parts:
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', part)
        assert used and set(used) <= set(names)
        assert "<style" not in part and "<?xml" not in part and 'role="img" aria-label="Words"' in part


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.204, "−0.20"), (-0.001, "0.00"), (1234567.5, "1,234,567.50"), (np.nan, "–"), (None, "–"), (np.inf, "–")],
)
def test_numbers_as_they_are_printed(value, text):
    assert number(value) == text


def test_words_of_the_method_are_explained_where_they_first_stand(report):
    outcome, labels = section(report, "outcome"), section(report, "labels")
    lead = outcome.index("From 5 starts")
    for word in ("An arm is", "A DFT label is", "D 0 is", "GOLF (Gradual", "surrogate , RDKit's MMFF force field,"):
        assert lead < outcome.index(word) < outcome.index("Mean E res"), word
    for word in ("Bold:", "Clopper-Pearson", "where s T is the end", "(pct div )", "have few minima"):
        assert word in outcome, word
    assert "Rejected: DFT gave a label, but its forces" in labels
    assert "learning rate, which had decayed to zero, is reset" in section(report, "rounds")


def test_the_rmsd_says_which_atoms_it_compares(tmp_path):
    path = report_of(tmp_path, made_up_study(tmp_path, {"golf": [0.4]}, smiles=["CCO", "OO"], n_each=1))
    names = re.findall(r"<dt>(\S+ RMSD to minimum), Å</dt>", path.read_text())
    assert sorted(names) == ["All-atom RMSD to minimum", "Heavy-atom RMSD to minimum"]


ODD = {
    "no rounds": {"arms": {"mmff": [1.0], "baseline": [0.3]}, "n_rounds": 0},
    "names of imported models": {"arms": {"golf-1k": [1.0], "rdkit": [5.0], "traj": [np.nan, 0.2]}},
    "one molecule": {"arms": {"golf": [0.4]}, "smiles": ["O"], "n_each": 1},
    "no heavy atom": {"arms": {"golf": [0.4]}, "smiles": ["[H][H]"], "n_each": 1},
    "no minimum at all": {"arms": {"golf": [0.4], "mmff": [1.0]}, "failed": dict.fromkeys(range(6), "no end")},
    "no energy at all": {"arms": {"golf": [np.nan]}},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_studies_have_a_report(name, tmp_path, page):
    files = made_up_study(tmp_path, **({"smiles": SMILES} | ODD[name]))
    path = report_of(tmp_path, files)
    browser = page()
    browser.open(path)
    assert not browser.problems and "nan" not in words(path.read_text()).lower().split()
    shown = {row.split()[0] for row in browser.evaluate(ROWS)}
    assert shown == set(ODD[name]["arms"])
    if name == "no minimum at all":
        assert "so the arms cannot be compared" in section(path, "outcome")
        assert browser.evaluate("document.querySelectorAll('.case').length") == 0
    else:
        browser.click("button.open")
        assert browser.evaluate("document.querySelector('#viewer').open")
    assert not browser.problems


ROWS = "[...document.querySelectorAll('#outcome table:first-of-type tbody th')].map(cell => cell.textContent)"


def scene(browser):
    """Pixels of the 3D view."""
    browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    x, y, width, height = browser.evaluate(
        "(() => { const b = document.querySelector('#viewer-scene canvas').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height] })()"
    )
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    pixels = np.asarray(picture.crop((int(x), int(y), int(x + width), int(y + height))), np.int16)
    return pixels, (x + width / 2, y + height / 2)


@pytest.mark.parametrize("look", [{"width": 1280}, {"width": 390}, {"width": 1280, "dark": True}])
def test_in_a_browser(report, page, look):
    browser = page(**look)
    browser.open(report)
    assert browser.requests == [report.resolve().as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= look["width"]
    assert browser.evaluate("document.querySelectorAll('table').length") >= 9
    assert browser.evaluate("document.querySelectorAll('figure svg').length") == 4
    browser.click("button.open")
    first, (x, y) = scene(browser)
    ground = first[0, 0]
    assert (ground.mean() < 80) == look.get("dark", False)
    drawn = np.abs(first - ground).sum(axis=2) > 60
    assert 0.002 < drawn.mean() < 0.5
    colours = first[drawn]
    assert (colours[:, 0] - colours[:, 2] > 60).any() and (colours[:, 2] - colours[:, 0] > 60).any()  # end, minimum
    browser.drag(x, y, 60, 25)
    turned, _ = scene(browser)
    assert (np.abs(turned - first).sum(axis=2) > 60).mean() > 0.002
    browser.evaluate("document.querySelector('#viewer-scene').focus()")
    browser.press("ArrowRight")
    assert (np.abs(scene(browser)[0] - turned).sum(axis=2) > 60).any()
    browser.press("Escape")
    assert not browser.evaluate("document.querySelector('#viewer').open")
    assert browser.evaluate("document.activeElement.className") == "open"
    assert browser.evaluate("document.querySelectorAll('canvas').length") == 1
    browser.click(".arm:not([open]) summary")
    browser.click(".arm:last-of-type button.open")
    assert browser.evaluate("document.querySelector('#viewer-title').textContent").startswith("mmff: ")
    assert browser.evaluate("document.querySelectorAll('canvas').length") == 1
    assert not browser.problems and len(browser.requests) == 1


SMALL = """[...document.querySelectorAll('body *')].filter(e => !e.closest('svg, sub, script, dialog')
    && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
    && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML.slice(0, 80))"""


def test_on_a_phone_everything_wide_scrolls_in_its_box_and_nothing_is_tiny(report, page):
    browser = page(width=390)
    browser.open(report)
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert browser.evaluate(SMALL) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    figures = "[...document.querySelectorAll('figure .drawing')]"
    for box, shown, points in browser.evaluate(
        f"{figures}.map(b => [b.clientWidth, b.firstChild.clientWidth, +b.style.getPropertyValue('--width')])"
    ):
        assert shown == pytest.approx(max(box, 0.9 * points), abs=1)  # 9 points are 8 pixels or more
    wide = "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > 390 && !t.closest('.scroll')).length"
    assert browser.evaluate(wide) == 0


def test_ten_thousand_molecules(tmp_path, page):
    """Of 46 atoms; three arms."""
    one = conformers([DRUG], 1, 3)
    n = 10_000
    noise = np.random.default_rng(5).normal(scale=0.1, size=(n, len(one.number), 3))
    starts = replace(
        one,
        id=[f"drug_{i}/0000" for i in range(n)],
        molecule=[f"drug_{i}" for i in range(n)],
        mapped_smiles=one.mapped_smiles * n,
        charge=np.tile(one.charge, n),
        multiplicity=np.tile(one.multiplicity, n),
        offset=np.arange(n + 1) * len(one.number),
        number=np.tile(one.number, n),
        position=(one.position + noise).reshape(-1, 3),
    )
    reference = reference_of(starts, dict.fromkeys(range(100), "limit of 200 steps"))
    stage = LabelStage("initial labels", tmp_path / "initial.h5", tmp_path / "train.h5")
    arms = []
    for name in ("mmff", "baseline", "golf"):
        residual = np.random.default_rng(len(name)).exponential(2.0, n)
        relaxed = relaxed_of(reference, residual.tolist())
        columns = {
            "residual_energy": relaxed.values["energy"] + 100.0,
            "percent_optimized": 100.0 - residual,
            "energy_gain": np.full(n, hartree(GAIN)),
            "diverged": residual > GAIN,
            "rmsd": residual / 10,
            "nearest_rmsd": residual / 10,
            "has_reference": reference.values["status"] == 0,
        }
        arms.append(relaxed.with_columns(values=columns, arm=name, n_labels=9))
        write(tmp_path / f"{name}/metrics.h5", arms[-1])
    write(tmp_path / "evaluation/reference.h5", reference)
    for path in (stage.labels, stage.known):
        write(path, relaxed)
    files = finish(tmp_path, arms, [arm.subset(range(200)) for arm in arms], [], [stage])
    path = report_of(tmp_path, files)
    assert path.stat().st_size < 25e6
    assert len(re.findall(r"<tr><th", path.read_text())) < 300
    browser = page()
    browser.open(path)
    assert browser.evaluate("document.querySelectorAll('*').length") < 20_000
    assert "50 more conformations are not listed" in section(path, "left-out")
    assert browser.evaluate("document.querySelectorAll('.case').length") == 30
    assert not browser.problems
    assert set(LEVEL) <= set(reference.attrs)
