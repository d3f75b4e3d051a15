"""The style of figures: fonts, colors of arms, axes; independent of what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.style import context
from numpy.typing import NDArray

from golf.core.files import written_whole

P = ParamSpec("P")

INK, FAINT = "#222222", "#8a8a8a"
_STYLE: Any = {
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "golf",
}
WIDTH = 7.1  # inches: a page of two columns
BAND = 0.18  # opacity


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that draws a figure so that it uses this style, regardless of the user's matplotlibrc."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return drawn


def save(figure: Figure, svg: str | Path, png: str | Path) -> None:
    """Write a figure as SVG, with text as text, and as PNG with 200 dots per inch."""
    with context(["default", _STYLE]):
        with written_whole(svg) as temporary:
            figure.savefig(temporary, metadata={"Date": None}, dpi=200)  # resolution of rasterized parts
        with written_whole(png) as temporary:
            figure.savefig(temporary, dpi=200)


def empty_figure(words: str) -> Figure:
    """Return a figure that contains only a text on why there is nothing to show."""
    figure = Figure(figsize=(WIDTH, 1.6))
    figure.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def side_by_side(n: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of the page's width and its n panels."""
    figure = Figure(figsize=(WIDTH, 3.5), layout=ConstrainedLayoutEngine(wspace=0.06))
    return figure, figure.subplots(1, n)


def legend_below(figure: Figure, axis: Axes, words: str) -> None:
    """Add a legend below the panels, with a line on what is drawn as its title."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(5, len(names)), title=words, title_fontsize=9)


def step_axis(axis: Axes, steps: Iterable[int]) -> None:
    """Make a horizontal axis of optimizer steps, logarithmic, with a tick at each step."""
    axis.set_xscale("log")
    ticks = sorted({int(step) for step in steps if step > 0})
    crowded = len(ticks) > 6
    axis.set_xticks(ticks, [str(step) if not crowded or step in _TICKS else "" for step in ticks])
    axis.minorticks_off()
    axis.set_xlabel("optimizer step t")


def decades(axis: Axes, values: NDArray) -> None:
    """Make a vertical axis logarithmic, over whole decades and with plain numbers."""
    positive = values[values > 0]
    axis.set_yscale("log")
    if len(positive):
        low = np.floor(np.log10(positive.min()))
        axis.set_ylim(10.0**low, 10.0 ** max(np.ceil(np.log10(positive.max())), low + 1))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


_TICKS = (1, 2, 3, 5, 8, 13, 21, 50, 100, 200, 500, 1000)


def energy_axis(axis: Axes, which: str, values: NDArray) -> None:
    """Make an energy axis linear between -1 and 1 kcal/mol and logarithmic beyond, with plain numbers.

    Args:
        axis: axes to change.
        which: "x" or "y".
        values: energies on this axis, kcal/mol.
    """
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


def label_axis(axis: Axes, labels: NDArray) -> None:
    """Set the limits of an axis of label counts; logarithmic if they span more than a decade."""
    if not len(labels):
        axis.set_xticks([])
    elif labels.max() > 10 * labels.min():
        axis.set_xscale("log")
        axis.set_xlim(labels.min() / 1.6, labels.max() * 1.6)
    else:
        room = max(0.15 * float(np.ptp(labels)), 0.02 * float(labels.max()), 1.0)
        axis.set_xlim(labels.min() - room, labels.max() + room)
        axis.locator_params(axis="x", nbins=5, integer=True)
