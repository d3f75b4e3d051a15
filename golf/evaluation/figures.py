"""Draw the figures of a study from tables or evaluated arms; `golf.evaluation.figure_style.save` writes them.

Numbers in a figure are those of a table, except for shares and percentiles that are only drawn. The same input gives
the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from golf.core.arms import styles
from golf.core.conformations import ConformationSet
from golf.core.units import HARTREE_IN_KCAL_PER_MOL
from golf.evaluation.figure_style import (
    BAND,
    FAINT,
    INK,
    WIDTH,
    decades,
    empty_figure,
    energy_axis,
    label_axis,
    legend_below,
    side_by_side,
    step_axis,
    styled,
)
from golf.evaluation.metrics import finite
from golf.evaluation.rounds import FORCE_ERROR

if TYPE_CHECKING:
    import pandas

_BEYOND = 1e9  # kcal/mol, outside of every axis
_MANY_POINTS = 2000
"""Number of points above which a scatter plot is rasterized in the SVG, where a point takes 100 bytes otherwise."""
_WIDE = 4.0
"""Ratio of largest to smallest error above which an axis is logarithmic; below it there would be too few ticks."""

_ENDS = {
    "n_surrogate_rise": ("surrogate energy rose", "#0072B2"),
    "n_converged": ("converged", "#56B4E9"),
    "n_step_limit": ("step limit", "#999999"),
    "n_not_finite": ("not finite", "#D55E00"),
}
_LOWEST_SHARE, _HIGHEST_SHARE = -50.0, 200.0  # percent: range of a violin


@styled
def trajectory_errors(table: pandas.DataFrame) -> Figure:
    """Draw the errors of the NNP along its relaxations by step: median and 10th to 90th percentile.

    Args:
        table: rows of `golf.evaluation.trajectories.study_trajectories` for one or several arms.
    """
    panels = {
        "energy_error": r"|E$_{\mathrm{NNP}}$ − E$_{\mathrm{DFT}}$|  (kcal/mol)",
        "force_error": r"mean |F$_{\mathrm{NNP}}$ − F$_{\mathrm{DFT}}$|  (kcal/mol/Å)",
    }
    columns = [f"{name}_median" for name in panels]
    if not len(table) or not np.isfinite(table[columns].to_numpy(float)).any():
        return empty_figure("No geometry along a relaxation has a DFT label.")
    figure, axes = side_by_side(2)
    for axis, (name, label) in zip(axes, panels.items()):
        for arm, (color, marker, line) in styles(table["arm"]).items():
            rows = table[(table["arm"] == arm) & (table[f"{name}_median"] > 0) & (table["step"] > 0)]
            axis.plot(rows["step"], rows[f"{name}_median"], line, color=color, marker=marker, ms=4.5, label=arm)
            axis.fill_between(
                rows["step"], rows[f"{name}_p10"], rows[f"{name}_p90"], color=color, alpha=_band(table), lw=0
            )
        decades(axis, table[[f"{name}_p10", f"{name}_p90"]].to_numpy(float))
        step_axis(axis, table["step"])
        axis.set_ylabel(label)
    legend_below(figure, axes[0], f"{_extent(table)}; line: median, band: 10th to 90th percentile")
    return figure


@styled
def trajectory_progress(table: pandas.DataFrame) -> Figure:
    """Draw pct_t and pct_div by optimizer step with 95 % intervals over molecules.

    Args:
        table: see `trajectory_errors`.
    """
    panels = {"percent_optimized": r"pct$_t$  (%)", "percent_diverged": r"pct$_{\mathrm{div}}$ at step t  (%)"}
    values = {"percent_optimized": "percent_optimized_mean", "percent_diverged": "percent_diverged"}
    if not len(table) or not np.isfinite(table[list(values.values())].to_numpy(float)).any():
        return empty_figure("No geometry along a relaxation has a DFT energy.")
    figure, axes = side_by_side(2)
    for axis, (name, label) in zip(axes, panels.items()):
        for arm, (color, marker, line) in styles(table["arm"]).items():
            rows = table[(table["arm"] == arm) & (table["step"] > 0)]
            axis.plot(rows["step"], rows[values[name]], line, color=color, marker=marker, ms=4.5, label=arm)
            low, high = rows[f"{name}_low"].to_numpy(float), rows[f"{name}_high"].to_numpy(float)
            axis.fill_between(rows["step"], low, high, color=color, alpha=_band(table), lw=0)
        step_axis(axis, table["step"])
        axis.set_ylabel(label)
    axes[0].axhline(100, color=FAINT, lw=0.8, ls=":", zorder=0)
    top = max(axes[1].get_ylim()[1], 5.0)
    axes[1].set_ylim(-0.02 * top, top)
    legend_below(figure, axes[0], f"{_extent(table)}; band: 95 % interval over molecules")
    return figure


@styled
def optimized_shares(arms: Sequence[ConformationSet]) -> Figure:
    """Draw violins of pct(s_T), one per arm, with a point per conformation and their number below.

    The range is -50 to 200 %; the number of values outside is written at the edge, and they are not part of the violin.

    Args:
        arms: evaluated arms, as returned by `golf.evaluation.arm.evaluate_arm`.
    """
    shares = {_name(arm): finite(arm.values["percent_optimized"][_counted(arm)]) for arm in arms}
    n_all = {_name(arm): int(_counted(arm).sum()) for arm in arms}
    shown = {name: values[(values >= _LOWEST_SHARE) & (values <= _HIGHEST_SHARE)] for name, values in shares.items()}
    together = np.concatenate([np.zeros(0), *shown.values()])
    if not any(len(values) for values in shares.values()):
        return empty_figure("No relaxation has a pct(s_T): there are no DFT energies at the ends, or no DFT minima.")
    figure = Figure(figsize=(max(3.6, min(WIDTH, 1.6 + 1.1 * len(shares))), 3.8), layout="constrained")
    axis = figure.subplots()
    bottom, top = min(together, default=0.0), max(together, default=100.0)
    margin = 0.08 * max(top - bottom, 10.0)
    axis.set_ylim(min(bottom, 90.0) - margin, max(top, 105.0) + margin)
    axis.axhline(100, color=FAINT, lw=0.8, ls=":", zorder=0)
    spread = np.random.default_rng(0)
    for x, (name, values) in enumerate(shown.items()):
        color, marker, _ = styles(shares)[name]
        if len(values) > 2 and np.ptp(values) > 1e-6:
            axis.violinplot([values], [x], widths=0.85, showextrema=False, facecolor=[(color, BAND)], linecolor=color)
        at = x + spread.uniform(-0.09, 0.09, len(values))
        many = len(values) > _MANY_POINTS
        style: dict[str, Any] = {"s": 2, "alpha": 0.3} if many else {"s": 9, "alpha": 0.65}
        axis.scatter(at, values, marker=marker, color=color, linewidths=0, rasterized=many, **style)
        if len(values):
            axis.hlines(np.median(values), x - 0.14, x + 0.14, color=INK, lw=1.4)
        for n, edge, word, va in (
            (int((shares[name] < _LOWEST_SHARE).sum()), 0.01, "lower", "bottom"),
            (int((shares[name] > _HIGHEST_SHARE).sum()), 0.99, "higher", "top"),
        ):
            if n:
                axis.text(x, edge, f"{n} {word}", transform=axis.get_xaxis_transform(), ha="center", va=va, fontsize=9)
    labels = [f"{name}\nn = {len(shares[name])} of {n_all[name]}" for name in shares]
    crowded = len(labels) > 5 or max(map(len, shares)) > 12
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(range(len(labels)), labels, **slanted)
    axis.set_xlim(-0.6, len(labels) - 0.4)
    axis.set_ylabel(r"pct(s$_T$)  (%)")
    return figure


@styled
def final_geometries(arms: Sequence[ConformationSet]) -> Figure:
    """Draw the ends of relaxations relative to DFT minima: E_res against RMSD, and the cumulative share by E_res.

    The energy axis is linear between -1 and 1 kcal/mol and logarithmic beyond. Relaxations without a DFT energy at
    their end are not in the cumulative curve, which then ends below 100 %.

    Args:
        arms: see `optimized_shares`.
    """
    residuals = {_name(arm): arm.values["residual_energy"][_counted(arm)] * HARTREE_IN_KCAL_PER_MOL for arm in arms}
    if not any(len(finite(values)) for values in residuals.values()):
        return empty_figure("No relaxation has an E_res: there are no DFT energies at the ends, or no DFT minima.")
    figure, (left, right) = side_by_side(2)
    for arm in arms:
        name = _name(arm)
        color, marker, line = styles(residuals)[name]
        rmsd, residual = arm.values["rmsd"][_counted(arm)], residuals[name]
        many = len(rmsd) > _MANY_POINTS
        left.scatter(
            rmsd,
            residual,
            s=16 if len(rmsd) < 200 else 2 if many else 6,
            marker=marker,
            color=color,
            alpha=0.3 if many else 0.7,
            linewidths=0,
            rasterized=many,
        )
        left.scatter([], [], s=20, marker=marker, color=color, linewidths=0, label=name)  # for the legend
        ordered = np.sort(finite(residual))
        if not len(ordered):
            continue
        percent = 100.0 * np.arange(len(ordered) + 1) / len(residual)
        ends = [ordered[0], *ordered, _BEYOND]
        right.step(ends, [*percent, percent[-1]], line, where="post", color=color, lw=1.5)
    everything = np.concatenate([finite(values) for values in residuals.values()])
    for axis, draw in ((left, left.axhline), (right, right.axvline)):
        draw(1.0, color=FAINT, lw=0.9, ls="--", zorder=0)
        draw(0.0, color=FAINT, lw=0.6, ls=":", zorder=0)
        energy_axis(axis, "y" if axis is left else "x", everything)
    left.text(
        0.99,
        1.0,
        "1 kcal/mol",
        transform=left.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=9,
        zorder=0.5,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
    left.set_xlim(left=-0.02 * left.get_xlim()[1])
    left.set_xlabel("RMSD to the DFT minimum  (Å)")
    left.set_ylabel(r"E$_{\mathrm{res}}$  (kcal/mol)")
    right.set_ylim(0, 102)
    right.set_xlabel(r"E$_{\mathrm{res}}$  (kcal/mol)")
    right.set_ylabel(r"conformations at or below  (%)")
    n = max(map(len, residuals.values()))  # all arms of a study relax the same conformations
    legend_below(figure, left, f"{n} conformations per arm" if n > 1 else "one conformation per arm")
    return figure


@styled
def labels_and_outcome(summary: pandas.DataFrame) -> Figure:
    """Draw E_res and the share of successes of each arm against the number of DFT labels of its model.

    Bars are 95 % intervals over molecules. An arm without labels of this study is a horizontal line.

    Args:
        summary: table returned by `golf.evaluation.table.summarize`.
    """
    panels = {
        "residual_energy": ("residual_energy_kcal_mol", r"mean E$_{\mathrm{res}}$  (kcal/mol)"),
        "percent_success": ("percent_success", r"E$_{\mathrm{res}}$ < 1 kcal/mol  (%)"),
    }
    columns = [column for column, _ in panels.values()]
    if not len(summary) or not np.isfinite(summary[columns].to_numpy(float)).any():
        return empty_figure("No arm has a result.")
    figure, axes = side_by_side(2)
    labels = summary["n_labels"].to_numpy(float)
    trained = labels[labels > 0]
    beside = _places_beside_each_other(summary, figure)
    for axis, (stem, (column, text)) in zip(axes, panels.items()):
        for row in summary.to_dict("records"):
            color, marker, _ = styles(summary["arm"])[row["arm"]]
            value, low, high = (float(row[name]) for name in (column, f"{stem}_low", f"{stem}_high"))
            if not row["n_labels"] > 0:
                axis.axhline(value, color=color, lw=1.3, ls="-.", label=f"{row['arm']} (no labels of this study)")
                if np.isfinite(low):
                    axis.axhspan(low, high, color=color, alpha=0.08, lw=0)
                continue
            bars = [[max(value - low, 0.0)], [max(high - value, 0.0)]] if np.isfinite(low) else None
            axis.errorbar(
                [row["n_labels"]],
                [value],
                bars,
                fmt=marker,
                color=color,
                ms=6.5,
                capsize=4,
                lw=1.5,
                label=row["arm"],
                transform=axis.transData + beside[row["arm"]],
            )
        # matplotlib's own limits ignore what is drawn with an offset.
        drawn = summary[[column, f"{stem}_low", f"{stem}_high"]].to_numpy(float)
        if np.isfinite(drawn).any():
            room = 0.06 * max(float(np.nanmax(drawn) - np.nanmin(drawn)), 0.1)
            axis.set_ylim(float(np.nanmin(drawn)) - room, float(np.nanmax(drawn)) + room)
        label_axis(axis, trained)
        axis.set_xlabel("DFT labels used")
        axis.set_ylabel(text)
    axes[1].set_ylim(-3, 105)
    legend_below(figure, axes[0], "bars and bands: 95 % intervals over molecules")
    return figure


@styled
def training_curves(curves: Mapping[str, pandas.DataFrame], rounds: pandas.DataFrame) -> Figure:
    """Draw the force error on the validation set during training, and how the relaxations of each round ended.

    Dotted lines mark the start of a round's training. Without rounds there is no second panel.

    Args:
        curves: tables returned by `golf.evaluation.rounds.training_curve`, by arm.
        rounds: table returned by `golf.evaluation.rounds.summarize_rounds`.
    """
    relaxed = rounds[rounds["round"] > 0]
    errors = np.concatenate([curve[FORCE_ERROR].to_numpy(float) for curve in curves.values()])
    if not np.isfinite(errors).any():
        return empty_figure("There is no error on a validation set.")
    if len(relaxed):
        figure, (left, right) = side_by_side(2)
    else:
        figure = Figure(figsize=(0.6 * WIDTH, 3.5), layout="constrained")
        left = figure.subplots()
    for arm, curve in curves.items():
        color, _, _ = styles(curves)[arm]
        left.plot(curve["n_updates"], curve[FORCE_ERROR], color=color, lw=1.5, label=arm)
    for begin in rounds["n_updates"][:-1]:
        left.axvline(begin, color=FAINT, lw=0.6, ls=":", zorder=0)
    if np.nanmax(errors) >= _WIDE * np.nanmin(errors):
        left.set_yscale("log")
        left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")
    left.locator_params(axis="x", nbins=5)
    left.set_xlabel("training updates")
    left.set_ylabel("validation error of forces\n(kcal/mol/Å)")
    left.legend(loc="best")
    if len(relaxed):
        below = np.zeros(len(relaxed))
        for column, (words, color) in _ENDS.items():
            n = relaxed[column].to_numpy(float)
            if not n.any():
                continue
            right.bar(relaxed["round"], n, bottom=below, color=color, width=0.7, label=words)
            below += n
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set_xlabel("round")
        right.set_ylabel("relaxations")
        legend_below(figure, right, "how the relaxations of a round ended")
    return figure


def _places_beside_each_other(summary: pandas.DataFrame, figure: Figure) -> dict[str, ScaledTranslation]:
    """Return the horizontal offset of each arm, so that arms with the same number of labels are side by side."""
    places = {}
    for _, rows in summary.groupby("n_labels"):
        for k, arm in enumerate(rows["arm"]):
            inches = 0.13 * (k - (len(rows) - 1) / 2)
            places[str(arm)] = ScaledTranslation(inches, 0.0, figure.dpi_scale_trans)
    return places


def _band(table: pandas.DataFrame) -> float:
    """Return the opacity of bands; lower for many arms, whose bands overlap."""
    return BAND if table["arm"].nunique() <= 3 else BAND / 2


def _extent(table: pandas.DataFrame) -> str:
    low, high = int(table["n"].min()), int(table["n"].max())
    return f"n = {low} to {high} per step" if low < high else f"n = {low} per step"


def _name(arm: ConformationSet) -> str:
    return str(arm.attrs["arm"])


def _counted(arm: ConformationSet) -> NDArray[np.bool_]:
    """Tell which conformations have a DFT minimum."""
    return arm.values["has_reference"].astype(np.bool_)
