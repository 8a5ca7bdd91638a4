"""Plots of what the diagnostics find; they need matplotlib, and no display.

Every function gives a matplotlib Figure of its own, which pyplot knows nothing of:
``draw_gates(statistics).savefig("gates.png")``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .coloured import LEFT_OF_ZERO, RIGHT_OF_ZERO, checked_values, shades, shown
from .diagnostics import GradientFlow
from .gates import GateStatistics
from .tape import Array

__all__ = ["draw_gates", "draw_gradient_flow", "draw_text", "new_figure", "write_figure"]

# Okabe and Ito's, which people with any kind of colour vision tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    """A figure of this size in inches, drawn in memory, and its axes.

    Raises
    ------
    ModuleNotFoundError
        Where matplotlib is missing, saying what brings it.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("a figure needs matplotlib: pip install matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def write_figure(figure: Any, target: Path, dpi: float) -> Path:
    """The same figure gives the same file: no date or version stands in it."""
    figure.savefig(target, dpi=dpi, metadata={"Software": None})
    return target


def draw_gradient_flow(flow: GradientFlow) -> Any:
    """Norms of gradients, and of Jacobians where there are any, over the time steps.

    Parameters
    ----------
    flow : GradientFlow
        From :func:`pyrnn.gradient_flow`.

    Returns
    -------
    matplotlib.figure.Figure
        With a logarithmic scale, on which a constant factor a step is a straight line; a norm of 0
        is left out. Those of c are dashed.
    """
    panels = [(norm("L", "h_t"), flow.dh, norm("L", "c_t"), flow.dc)]
    if flow.h_jacobian is not None:
        names = norm("h_T", "h_t"), norm("c_T", "c_t")
        panels.append((names[0], flow.h_jacobian, names[1], flow.c_jacobian))
    figure, axes = new_figure(1, len(panels), (4.5 * len(panels), 3.2), squeeze=False)
    for at, (name_h, of_h, name_c, of_c) in zip(axes[0], panels, strict=True):
        for k in range(len(of_h)):
            label = "" if len(of_h) == 1 else f", part {k}"
            colour = COLOURS[k % len(COLOURS)]
            plot_norms(at, of_h[k], color=colour, label=name_h + label)
            if of_c is not None:
                plot_norms(at, of_c[k], color=colour, linestyle="--", label=name_c + label)
        at.set_xlabel("t")
        finish(at)
    return figure


def norm(of: str, by: str) -> str:
    """Of a derivative, as matplotlib sets it.

    Examples
    --------
    >>> norm("h_T", "h_t")
    '$\\\\Vert\\\\partial h_T/\\\\partial h_t\\\\Vert$'
    """
    return rf"$\Vert\partial {of}/\partial {by}\Vert$"


def plot_norms(at: Any, norms: Array, **style: Any) -> None:
    """Over 0, 1, ..., on a logarithmic scale."""
    at.plot(np.where(norms > 0, norms, np.nan), linewidth=1.3, **style)
    at.set_yscale("log")


def finish(at: Any) -> None:
    """Grid, sizes and, where a line has a label, the legend."""
    at.grid(linewidth=0.3)
    at.tick_params(labelsize=8)
    if at.get_legend_handles_labels()[1]:
        at.legend(fontsize=8)


def draw_gates(statistics: Sequence[GateStatistics]) -> Any:
    """How saturated each gate is, as a whole and unit by unit.

    Parameters
    ----------
    statistics : sequence of GateStatistics
        From :func:`pyrnn.gate_statistics`.

    Returns
    -------
    matplotlib.figure.Figure
        Left, the shares of values near the bounds of each gate. Right, a dot for each unit: how
        often it is near the upper bound over how often it is near the lower; one that is always
        at one of both lies on the dashed line.
    """
    height = max(3.4, 1.2 + 0.28 * len(statistics))
    figure, (bars, dots) = new_figure(1, 2, (9, height), width_ratios=(1.3, 1))
    places = range(len(statistics))
    low, high = [s.low for s in statistics], [s.high for s in statistics]
    bars.barh(places, low, color=LEFT_OF_ZERO, label="near the lower bound")
    bars.barh(places, high, left=[1 - h for h in high], color=RIGHT_OF_ZERO, label="the upper")
    for place, one in zip(places, statistics, strict=True):
        bars.annotate(
            f"mean {one.mean:.2f}", (1.02, place), fontsize=7, va="center", annotation_clip=False
        )
    bars.set_yticks(places, [s.name for s in statistics])
    bars.set_xlim(0, 1)
    bars.invert_yaxis()
    bars.set_xlabel("share of values", fontsize=8)
    bars.tick_params(labelsize=8)
    bars.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    for k, one in enumerate(statistics):
        colour = COLOURS[k % len(COLOURS)]
        dots.plot(one.lows, one.highs, ".", markersize=4, color=colour, label=one.name)
    dots.plot([0, 1], [1, 0], "--", color="#999999", linewidth=0.8)
    dots.set_xlabel("share near the lower bound", fontsize=8)
    dots.set_ylabel("share near the upper", fontsize=8)
    finish(dots)
    return figure


def draw_text(text: str, values: npt.ArrayLike, *, limit: float = 1.0, columns: int = 80) -> Any:
    """Text on a ground coloured by one value a character, as in :func:`pyrnn.coloured_text`.

    Parameters
    ----------
    text : str
        N characters.
    values : array
        (N).
    limit : float
        The magnitude that gets the full colour.
    columns : int
        Characters in a line of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Lines are broken where they end and where the figure does.

    Raises
    ------
    ValueError, TypeError
        As for :func:`pyrnn.coloured_text`.
    """
    cells: list[tuple[int, int, str, str]] = []
    row = column = 0
    for character, colour in zip(text, shades(checked_values(text, values, limit)), strict=True):
        if column == columns:
            row, column = row + 1, 0
        cells.append((row, column, shown(character), colour))
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    rows = 1 + max((cell[0] for cell in cells), default=0)
    # 0.1 by 0.2 inches a character, in the proportions of a fixed-width font of 10 points.
    figure, at = new_figure(1, 1, (0.1 * columns, 0.2 * rows))
    at.set_xlim(0, columns)
    at.set_ylim(rows, 0)
    at.set_axis_off()
    for row, column, character, colour in cells:
        at.broken_barh([(column, 1)], (row, 1), facecolors=colour)
        at.text(column + 0.5, row + 0.55, character, fontsize=9, family="monospace",
                ha="center", va="center", parse_math=False)  # fmt: skip
    return figure
