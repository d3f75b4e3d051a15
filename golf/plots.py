"""Figures of a study. Every function takes tables or evaluated arms and returns a figure; `save` writes it.

Nothing here computes a number that is not in a table, but for shares and percentiles that are only drawn. The same
input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from golf.conformations import ConformationSet
from golf.files import written_whole
from golf.units import HARTREE_IN_KCAL_PER_MOL

if TYPE_CHECKING:
    import pandas

P = ParamSpec("P")

_INK, _FAINT = "#222222", "#8a8a8a"
_STYLE: Any = {
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "font.family": "DejaVu Sans",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "golf",
}
_WIDTH = 7.1  # inches: a page of two columns
_BAND = 0.18  # opacity

# Okabe and Ito's colours, which colour-blind readers tell apart; the marker tells arms apart without colour.
_KNOWN = {
    "mmff": ("#000000", "s", "-"),
    "baseline": ("#D55E00", "^", "-"),
    "golf": ("#0072B2", "o", "-"),
    "traj": ("#009E73", "D", "-"),
    "rdkit": ("#E69F00", "v", "-"),
    "random": ("#CC79A7", "P", "-"),
}
# For arms with names of their own: Okabe and Ito's last colour and Tol's muted ones.
_FURTHER = (
    ("#56B4E9", "X", "--"),
    ("#882255", "<", "--"),
    ("#999933", ">", "--"),
    ("#332288", "h", "--"),
    ("#44AA99", "d", "--"),
    ("#661100", "p", "--"),
)

_BEYOND = 1e9  # kcal/mol, off every axis
_LOWEST_SHARE, _HIGHEST_SHARE = -50.0, 200.0  # percent: what a violin shows at most


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


def save(figure: Figure, svg: str | Path, png: str | Path) -> None:
    """Write a figure as SVG, text as text, and as PNG with 200 dots per inch."""
    with matplotlib.rc_context(_STYLE):
        with written_whole(svg) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
        with written_whole(png) as temporary:
            figure.savefig(temporary, dpi=200)


def styles(arms: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and line style of each arm: fixed for the arms of a study, the others' by alphabet."""
    names = list(dict.fromkeys(arms))
    others = sorted(name for name in names if name not in _KNOWN)
    return {name: _KNOWN.get(name) or _FURTHER[others.index(name) % len(_FURTHER)] for name in names}


@_styled
def trajectory_errors(table: pandas.DataFrame) -> Figure:
    """Errors of the NNP along its relaxations: median and 10th to 90th percentile over steps, both axes logarithmic.

    Args:
        table: lines of `golf.trajectory_study.study_trajectories`, of one or several arms.
    """
    panels = {
        "energy_error": r"|E$_{\mathrm{NNP}}$ − E$_{\mathrm{DFT}}$|  (kcal/mol)",
        "force_error": r"mean |F$_{\mathrm{NNP}}$ − F$_{\mathrm{DFT}}$|  (kcal/mol/Å)",
    }
    columns = [f"{name}_median" for name in panels]
    if not len(table) or not np.isfinite(table[columns].to_numpy(float)).any():
        return _empty("No state along a relaxation has a DFT label.")
    figure, axes = _panels(2)
    for axis, (name, label) in zip(axes, panels.items()):
        for arm, (color, marker, line) in styles(table["arm"]).items():
            rows = table[(table["arm"] == arm) & (table[f"{name}_median"] > 0) & (table["step"] > 0)]
            axis.plot(rows["step"], rows[f"{name}_median"], line, color=color, marker=marker, ms=4.5, label=arm)
            axis.fill_between(
                rows["step"], rows[f"{name}_p10"], rows[f"{name}_p90"], color=color, alpha=_band(table), lw=0
            )
        _decades(axis, table[[f"{name}_p10", f"{name}_p90"]].to_numpy(float))
        _step_axis(axis, table["step"])
        axis.set_ylabel(label)
    _legend(figure, axes[0], f"{_extent(table)}; line: median, band: 10th to 90th percentile")
    return figure


@_styled
def trajectory_progress(table: pandas.DataFrame) -> Figure:
    """pct_t and pct_div over optimizer steps with 95 % bootstrap intervals over molecules.

    Args:
        table: as of `trajectory_errors`.
    """
    panels = {"percent_optimized": r"pct$_t$  (%)", "percent_diverged": r"pct$_{\mathrm{div}}$ at step t  (%)"}
    values = {"percent_optimized": "percent_optimized_mean", "percent_diverged": "percent_diverged"}
    if not len(table) or not np.isfinite(table[list(values.values())].to_numpy(float)).any():
        return _empty("No state along a relaxation has a DFT energy.")
    figure, axes = _panels(2)
    for axis, (name, label) in zip(axes, panels.items()):
        for arm, (color, marker, line) in styles(table["arm"]).items():
            rows = table[(table["arm"] == arm) & (table["step"] > 0)]
            axis.plot(rows["step"], rows[values[name]], line, color=color, marker=marker, ms=4.5, label=arm)
            low, high = rows[f"{name}_low"].to_numpy(float), rows[f"{name}_high"].to_numpy(float)
            axis.fill_between(rows["step"], low, high, color=color, alpha=_band(table), lw=0)
        _step_axis(axis, table["step"])
        axis.set_ylabel(label)
    axes[0].axhline(100, color=_FAINT, lw=0.8, ls=":", zorder=0)
    axes[1].set_ylim(bottom=0)
    if axes[1].get_ylim()[1] < 5:
        axes[1].set_ylim(top=5)
    _legend(figure, axes[0], f"{_extent(table)}; band: 95 % interval over molecules")
    return figure


@_styled
def optimized_shares(arms: Sequence[ConformationSet]) -> Figure:
    """Violins of pct(s_T), one per arm, with a point per conformation and how many there are below.

    Shown are -50 to 200 %; how many lie outside is written at the edge they left by, and they have no part in the
    violin.

    Args:
        arms: what `golf.evaluation.evaluate_arm` returned.
    """
    shares = {_name(arm): _finite(arm.values["percent_optimized"][_counted(arm)]) for arm in arms}
    n_all = {_name(arm): int(_counted(arm).sum()) for arm in arms}
    shown = {name: values[(values >= _LOWEST_SHARE) & (values <= _HIGHEST_SHARE)] for name, values in shares.items()}
    together = np.concatenate([np.zeros(0), *shown.values()])
    if not any(len(values) for values in shares.values()):
        return _empty("No relaxation has a pct(s_T): no DFT energy at its end, or no DFT minimum.")
    figure = Figure(figsize=(max(3.6, min(_WIDTH, 1.6 + 1.1 * len(shares))), 3.8), layout="constrained")
    axis = figure.subplots()
    bottom, top = min(together, default=0.0), max(together, default=100.0)
    margin = 0.08 * max(top - bottom, 10.0)
    axis.set_ylim(min(bottom, 90.0) - margin, max(top, 105.0) + margin)
    axis.axhline(100, color=_FAINT, lw=0.8, ls=":", zorder=0)
    spread = np.random.default_rng(0)
    for x, (name, values) in enumerate(shown.items()):
        color, marker, _ = styles(shares)[name]
        if len(values) > 2 and np.ptp(values) > 1e-6:
            axis.violinplot([values], [x], widths=0.85, showextrema=False, facecolor=[(color, _BAND)], linecolor=color)
        at = x + spread.uniform(-0.09, 0.09, len(values))
        axis.scatter(at, values, s=9, marker=marker, color=color, alpha=0.65, linewidths=0)
        if len(values):
            axis.hlines(np.median(values), x - 0.14, x + 0.14, color=_INK, lw=1.4)
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


@_styled
def final_geometries(arms: Sequence[ConformationSet]) -> Figure:
    """Ends of relaxations against the DFT minimum from the same start: E_res over RMSD, and the share below each E_res.

    The energy axis is linear between -1 and 1 kcal/mol and logarithmic beyond. A relaxation without a DFT energy at its
    end never comes into the cumulative curve, which then ends below 100 %.

    Args:
        arms: as of `optimized_shares`.
    """
    residuals = {_name(arm): arm.values["residual_energy"][_counted(arm)] * HARTREE_IN_KCAL_PER_MOL for arm in arms}
    if not any(len(_finite(values)) for values in residuals.values()):
        return _empty("No relaxation has an E_res: no DFT energy at its end, or no DFT minimum.")
    figure, (left, right) = _panels(2)
    for arm in arms:
        name = _name(arm)
        color, marker, line = styles(residuals)[name]
        rmsd, residual = arm.values["rmsd"][_counted(arm)], residuals[name]
        left.scatter(
            rmsd,
            residual,
            s=16 if len(rmsd) < 200 else 6,
            marker=marker,
            color=color,
            alpha=0.7,
            linewidths=0,
            label=name,
        )
        ordered = np.sort(_finite(residual))
        if not len(ordered):
            continue
        percent = 100.0 * np.arange(len(ordered) + 1) / len(residual)
        ends = [ordered[0], *ordered, _BEYOND]
        right.step(ends, [*percent, percent[-1]], line, where="post", color=color, lw=1.5)
    everything = np.concatenate([_finite(values) for values in residuals.values()])
    for axis, draw in ((left, left.axhline), (right, right.axvline)):
        draw(1.0, color=_FAINT, lw=0.9, ls="--", zorder=0)
        draw(0.0, color=_FAINT, lw=0.6, ls=":", zorder=0)
        _energy_axis(axis, "y" if axis is left else "x", everything)
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
    counts = sorted({len(values) for values in residuals.values()})
    _legend(figure, left, f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} conformations per arm")
    return figure


@_styled
def labels_and_outcome(summary: pandas.DataFrame) -> Figure:
    """What DFT labels buy: E_res and share of successes over the labels that each arm's model was trained on.

    Bars are 95 % bootstrap intervals over molecules. An arm without labels of this study is a horizontal line.

    Args:
        summary: what `golf.evaluation.summarize` returned.
    """
    panels = {
        "residual_energy": ("residual_energy_kcal_mol", r"mean E$_{\mathrm{res}}$  (kcal/mol)"),
        "percent_success": ("percent_success", r"E$_{\mathrm{res}}$ < 1 kcal/mol  (%)"),
    }
    columns = [column for column, _ in panels.values()]
    if not len(summary) or not np.isfinite(summary[columns].to_numpy(float)).any():
        return _empty("No arm has a result.")
    figure, axes = _panels(2)
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
        # Not left to matplotlib: it does not see what is drawn with an offset.
        drawn = summary[[column, f"{stem}_low", f"{stem}_high"]].to_numpy(float)
        room = 0.06 * max(float(np.nanmax(drawn) - np.nanmin(drawn)), 0.1)
        axis.set_ylim(float(np.nanmin(drawn)) - room, float(np.nanmax(drawn)) + room)
        _label_axis(axis, trained)
        axis.set_xlabel("DFT labels trained on")
        axis.set_ylabel(text)
    axes[1].set_ylim(-3, 105)
    _legend(figure, axes[0], "bars and bands: 95 % intervals over molecules")
    return figure


def _places_beside_each_other(summary: pandas.DataFrame, figure: Figure) -> dict[str, ScaledTranslation]:
    """Where arms have the same number of labels: how far each is drawn from it."""
    places = {}
    for _, rows in summary.groupby("n_labels"):
        for k, arm in enumerate(rows["arm"]):
            inches = 0.13 * (k - (len(rows) - 1) / 2)
            places[str(arm)] = ScaledTranslation(inches, 0.0, figure.dpi_scale_trans)
    return places


def _empty(words: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure = Figure(figsize=(_WIDTH, 1.6))
    figure.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def _panels(n: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(_WIDTH, 3.5), layout=ConstrainedLayoutEngine(wspace=0.06))
    return figure, figure.subplots(1, n)


def _legend(figure: Figure, axis: Axes, words: str) -> None:
    """Arms below the panels, and a line on what is drawn."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(5, len(names)), title=words, title_fontsize=9)


def _step_axis(axis: Axes, steps: Iterable[int]) -> None:
    axis.set_xscale("log")
    ticks = sorted({int(step) for step in steps if step > 0})
    crowded = len(ticks) > 6
    axis.set_xticks(ticks, [str(step) if not crowded or step in _TICKS else "" for step in ticks])
    axis.minorticks_off()
    axis.set_xlabel("optimizer step t")


def _decades(axis: Axes, values: NDArray) -> None:
    """A logarithmic axis of whole decades with plain numbers."""
    positive = values[values > 0]
    axis.set_yscale("log")
    if len(positive):
        low = np.floor(np.log10(positive.min()))
        axis.set_ylim(10.0**low, 10.0 ** max(np.ceil(np.log10(positive.max())), low + 1))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


_TICKS = (1, 2, 3, 5, 8, 13, 21, 50, 100, 200, 500, 1000)


def _energy_axis(axis: Axes, which: str, values: NDArray) -> None:
    """Linear between -1 and 1 kcal/mol and logarithmic beyond, with plain numbers."""
    scale, limits, ticks = (
        (axis.set_yscale, axis.set_ylim, axis.set_yticks)
        if which == "y"
        else (axis.set_xscale, axis.set_xlim, axis.set_xticks)
    )
    scale("symlog", linthresh=1.0, linscale=0.8)
    low, high = min(-0.5, 1.3 * float(values.min())), max(3.0, 1.5 * float(values.max()))
    steps = [m * 10.0**k for k in range(7) for m in ((1, 2, 5) if high - low < 50 else (1,))]
    marks = [-step for step in reversed(steps) if -step >= low] + [0.0] + [step for step in steps if step <= high]
    ticks(marks, [f"{mark:g}" if abs(mark) < 1e5 else f"{mark:.0e}" for mark in marks])
    axis.minorticks_off()
    limits(low, high)


def _label_axis(axis: Axes, labels: NDArray) -> None:
    """Room around the labels of all arms; logarithmic where they span more than a decade."""
    if not len(labels):
        axis.set_xticks([])
    elif labels.max() > 10 * labels.min():
        axis.set_xscale("log")
        axis.set_xlim(labels.min() / 1.6, labels.max() * 1.6)
    else:
        room = max(0.15 * float(np.ptp(labels)), 0.02 * float(labels.max()), 1.0)
        axis.set_xlim(labels.min() - room, labels.max() + room)
        axis.locator_params(axis="x", nbins=5, integer=True)


def _band(table: pandas.DataFrame) -> float:
    """Opacity of bands: many of them have to be seen through each other."""
    return _BAND if table["arm"].nunique() <= 3 else _BAND / 2


def _extent(table: pandas.DataFrame) -> str:
    low, high = int(table["n"].min()), int(table["n"].max())
    return f"n = {low} to {high} per step" if low < high else f"n = {low} per step"


def _name(arm: ConformationSet) -> str:
    return str(arm.attrs["arm"])


def _counted(arm: ConformationSet) -> NDArray[np.bool_]:
    """Conformations with a DFT minimum."""
    return arm.values["has_reference"].astype(np.bool_)


def _finite(values: NDArray) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
