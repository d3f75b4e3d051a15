"""Figures of little, of nothing, and of the same twice."""

import re

import matplotlib
import numpy as np
import pandas
import pytest

from golf.core.arms import styles
from golf.core.conformations import ConformationSet
from golf.core.units import hartree
from golf.evaluation import figures as plots
from golf.evaluation.figure_style import save
from golf.evaluation.rounds import ENDS, FORCE_ERROR

COUNTS = ("n_ended", "n_failed", "n_unlabelled", "n_excluded")


def arm(name: str, residual, rmsd=None, share=None, has_reference=None) -> ConformationSet:
    """An evaluated arm with residual energies in kcal/mol."""
    n = len(residual)
    part = ConformationSet.build((f"w/{i}", "w", "[H:1][H:2]", 0, 1, [1, 1], np.eye(2, 3)) for i in range(n))
    return part.with_columns(
        values={
            "residual_energy": hartree(np.array(residual, float)),
            "rmsd": np.linspace(0.0, 1.0, n) if rmsd is None else rmsd,
            "percent_optimized": 100.0 - np.array(residual, float) if share is None else share,
            "has_reference": [True] * n if has_reference is None else has_reference,
        },
        arm=name,
    )


def trajectories(*arms: str, value: float = 1.0) -> pandas.DataFrame:
    rows = []
    for name in arms:
        for step in (1, 5, 30, 100):
            row = {"arm": name, "step": step, "n": 4, **dict.fromkeys(COUNTS, 0)}
            for stem in ("energy_error", "force_error"):
                row |= {f"{stem}_median": value, f"{stem}_p10": value / 2, f"{stem}_p90": 3 * value}
            row |= {"percent_optimized_mean": 90 * value, "percent_optimized_std": value}
            row |= {"percent_optimized_low": 80 * value, "percent_optimized_high": np.nan * value}
            row |= {"percent_diverged": value, "percent_diverged_low": 0.0 * value, "percent_diverged_high": 3 * value}
            rows.append(row)
    return pandas.DataFrame(rows)


def summary(*rows: tuple[str, float, float, float]) -> pandas.DataFrame:
    """(arm, labels, mean E_res, success) of each."""
    return pandas.DataFrame(
        {
            "arm": name,
            "n_labels": labels,
            "residual_energy_kcal_mol": residual,
            "residual_energy_low": residual - 0.5,
            "residual_energy_high": residual + 0.5,
            "percent_success": success,
            "percent_success_low": success - 1e-13,
            "percent_success_high": np.nan,
        }
        for name, labels, residual, success in rows
    )


def trainings(*validation: float) -> tuple[dict[str, pandas.DataFrame], pandas.DataFrame]:
    """Curves of two arms, and a table of a round; without arguments all errors are 1."""
    curve = pandas.DataFrame({"n_updates": [100, 200], FORCE_ERROR: validation or [1.0, 1.0]})
    ends = dict(zip(ENDS, [(0, 30), (0, 0), (0, 7), (0, 3)], strict=True))
    return {"baseline": curve, "golf": curve}, pandas.DataFrame({"round": [0, 1], "n_updates": [100, 200]} | ends)


def text_of(figure, folder) -> str:
    """All text of a figure as its SVG has it."""
    save(figure, folder / "figure.svg", folder / "figure.png")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    svg = (folder / "figure.svg").read_text()
    return " ".join(re.sub(r"<[^>]*>", "", part) for part in re.findall(r"<text.*?</text>", svg, re.DOTALL))


FIGURES = {
    "errors": lambda: plots.trajectory_errors(trajectories("baseline", "golf")),
    "progress": lambda: plots.trajectory_progress(trajectories("baseline", "golf")),
    "shares": lambda: plots.optimized_shares([arm("mmff", [3, 9, 1, 2.0]), arm("golf", [0, 1, -20, 2.0])]),
    "ends": lambda: plots.final_geometries([arm("mmff", [3, 900, 1, 2.0]), arm("golf", [0, 1, -20, np.nan])]),
    "labels": lambda: plots.labels_and_outcome(summary(("mmff", 0, 5, 4), ("golf", 9, 1, 70), ("random", 9, 2, 60))),
    "training": lambda: plots.training_curves(*trainings()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_input_gives_the_same_bytes(name, tmp_path):
    save(FIGURES[name](), tmp_path / "1/figure.svg", tmp_path / "1/figure.png")
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.grid": True, "savefig.dpi": 30}):  # a user's matplotlibrc
        save(FIGURES[name](), tmp_path / "2/figure.svg", tmp_path / "2/figure.png")
    assert "dc:date" not in (tmp_path / "1/figure.svg").read_text()
    for suffix in ("svg", "png"):
        assert (tmp_path / f"1/figure.{suffix}").read_bytes() == (tmp_path / f"2/figure.{suffix}").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_text_and_large_enough(name, tmp_path):
    figure = FIGURES[name]()
    assert "golf" in text_of(figure, tmp_path)
    subscripts = 0.7  # of mathematics, as matplotlib sets them
    sizes = [float(x) for x in re.findall(r"font-size: ([0-9.]+)px", (tmp_path / "figure.svg").read_text())]
    assert sizes and min(sizes) >= 9 * subscripts and max(sizes) >= 10


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.trajectory_errors(trajectories()), "No geometry along a relaxation has a DFT label"),
        (
            lambda: plots.trajectory_errors(trajectories("golf", value=np.nan)),
            "No geometry along a relaxation has a DFT",
        ),
        (
            lambda: plots.trajectory_progress(trajectories("golf", value=np.nan)),
            "No geometry along a relaxation has a DFT",
        ),
        (lambda: plots.optimized_shares([]), "No relaxation has a pct"),
        (lambda: plots.optimized_shares([arm("golf", [np.nan])]), "No relaxation has a pct"),
        (lambda: plots.final_geometries([arm("golf", [1.0], has_reference=[False])]), "No relaxation has an E_res"),
        (lambda: plots.labels_and_outcome(summary(("golf", 3, np.nan, np.nan))), "No arm has a result"),
        (lambda: plots.training_curves(*trainings(np.nan, np.nan)), "There is no error on a validation set"),
    ],
)
def test_an_empty_figure_says_so(draw, words, tmp_path):
    assert words in text_of(draw(), tmp_path)


def test_one_arm_with_one_conformation(tmp_path):
    one = arm("golf", [0.2])
    assert "n = 1 of 1" in text_of(plots.optimized_shares([one]), tmp_path)
    assert "one conformation per arm" in text_of(plots.final_geometries([one]), tmp_path)
    assert "golf" in text_of(plots.labels_and_outcome(summary(("golf", 7, 0.2, 100.0))), tmp_path)
    assert "n = 4 per step" in text_of(plots.trajectory_errors(trajectories("golf").iloc[:1]), tmp_path)


def test_what_lies_outside_is_counted(tmp_path):
    shares = np.array([-9000.0, 90.0, 95.0, 99.0, np.nan, 300.0, 301.0])
    text = text_of(plots.optimized_shares([arm("golf", np.zeros(7), share=shares)]), tmp_path)
    assert "n = 6 of 7" in text and "1 lower" in text and "2 higher" in text


def test_cumulative_curve_counts_runs_without_energy():
    figure = plots.final_geometries([arm("golf", [0.5, np.nan, 2.0, np.nan])])
    _, right = figure.axes
    curve = max(right.lines, key=lambda line: len(line.get_xdata()))
    x, y = curve.get_xdata(), curve.get_ydata()
    assert y[x <= 1.0].max() == pytest.approx(25.0) and y.max() == pytest.approx(50.0)
    assert x.max() > right.get_xlim()[1]


def test_intervals_are_drawn_where_the_table_has_them():
    figure = plots.labels_and_outcome(summary(("baseline", 10, 3.0, 50.0), ("golf", 1000, 1.0, 80.0)))
    left, right = figure.axes
    assert left.get_xscale() == "log" and left.get_ylim()[0] < 0.5 and left.get_ylim()[1] > 3.5
    ends = sorted(float(y) for bars in left.collections for segment in bars.get_segments() for y in segment[:, 1])
    assert ends == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert right.get_ylim()[0] < 0


def test_an_arm_keeps_its_colour_whatever_else_is_drawn():
    few, many = styles(["golf", "traj_500k"]), styles(["mmff", "traj_500k", "baseline", "golf"])
    assert few["golf"] == many["golf"] and few["traj_500k"] == many["traj_500k"]
    names = ["mmff", "baseline", "golf", "traj", "rdkit", "random", "published_a", "published_b", "other"]
    assert len({style[0] for style in styles(names).values()}) == len(names)


def test_ends_of_relaxations_are_stacked_and_what_never_happened_is_not_named(tmp_path):
    figure = plots.training_curves(*trainings(2.0, 0.5))
    left, right = figure.axes
    assert sorted(bar.get_y() + bar.get_height() for bar in right.patches) == [30, 37, 40]
    assert left.get_yscale() == "log" and len(left.lines) == 3  # two arms, and where the round begins
    text = text_of(figure, tmp_path)
    assert "surrogate energy rose" in text and "not finite" in text and "step limit" not in text


def test_an_arm_without_any_residual_energy_has_its_share_of_successes():
    _, right = plots.labels_and_outcome(summary(("golf", 3, np.nan, 0.0))).axes
    assert right.get_ylim()[0] < 0


def test_many_points_are_one_picture(tmp_path):
    rng = np.random.default_rng(1)
    few, many = (plots.final_geometries([arm("golf", rng.exponential(size=n))]) for n in (500, 5000))
    for name, figure in (("few", few), ("many", many)):
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    few, many = ((tmp_path / f"{name}.svg").read_text() for name in ("few", "many"))
    assert few.count("<use") > 500 and "<image" not in few
    assert many.count("<use") < 100 and "<image" in many and len(many) < 300_000
