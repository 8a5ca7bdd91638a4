"""Figures from saved runs; they need matplotlib, and no display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results import Row, load

from pyrnn.plots import new_figure, write_figure

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; each peer also
# has a marker of its own.
_STYLE = {
    "pyrnn": ("#000000", "o"),
    "pyrnn layer": ("#999999", "o"),
    "numpy": ("#CC79A7", "v"),
    "torch": ("#D55E00", "s"),
    "torch bfloat16": ("#D55E00", "P"),
    "onnxruntime": ("#0072B2", "D"),
    "openvino": ("#009E73", "^"),
    "openvino bfloat16": ("#009E73", "*"),
    "jax": ("#E69F00", "X"),
}
_BAR = "#56B4E9"


def _machine_line(saved: dict[str, Any]) -> str:
    machine = saved["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    processor, build = machine["processor"], machine["build"]
    return f"{processor}, {saved['threads']} threads, {build['isa']} kernels\n{versions}"


def draw_comparison(file: Path) -> Path:
    """Beside ``file``, of ``python -m bench --save``: each case's ratios and share of the bound."""
    saved = load(file)
    rows = [Row.of(row) for row in saved["rows"]]
    figure, (left, right) = new_figure(
        1, 2, (11, 2 + 0.24 * len(rows)), sharey=True, width_ratios=(3, 1)
    )
    places = range(len(rows))
    # From 1 to the best peer: to the right where pyrnn is faster.
    gains = [(row.ratio or 1) - 1 for row in rows]
    left.barh(places, gains, left=1, color=_BAR, height=0.7, label="best peer")
    for peer in dict.fromkeys(peer for row in rows for peer in row.samples if peer != "pyrnn"):
        colour, marker = _STYLE.get(peer, ("#555555", "."))
        y = [place for place, row in zip(places, rows, strict=True) if peer in row.samples]
        x = [rows[place].ratio_to(peer) for place in y]
        left.plot(x, y, marker, color=colour, markersize=4, label=peer)
    left.axvline(1, color="black", linewidth=1)
    left.set_xscale("log")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_xlabel("time over pyrnn's: right of 1, pyrnn is faster", fontsize=8)
    left.set_yticks(places, [row.case.name for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    _beside(left, ["–" if row.ratio is None else f"{row.ratio:.2f}×" for row in rows])
    right.barh(places, [100 * row.share for row in rows], color=_BAR, height=0.7)
    right.axvline(100, color="black", linewidth=1)
    right.set_xlabel("% of the machine's bound", fontsize=8)
    _beside(right, [f"{row.share:.0%}" for row in rows])
    for at in (left, right):
        at.tick_params(labelsize=7)
        at.grid(axis="x", linewidth=0.3)
        at.set_axisbelow(True)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize=7
    )
    figure.suptitle(_machine_line(saved), fontsize=8)
    return write_figure(figure, file.with_suffix(".png"), 130)


def _beside(axes: Any, texts: list[str]) -> None:
    """A column of text at the right of the axes, one for each place."""
    for place, text in enumerate(texts):
        axes.annotate(
            text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7
        )


def draw_sweeps(file: Path) -> Path:
    """Beside ``file``, of ``python -m bench sweep --save``: time over each size, and its slope."""
    saved = load(file)
    sweeps = saved["sweeps"]
    modes = sorted({sweep["mode"] for sweep in sweeps})
    symbols = list(dict.fromkeys(sweep["symbol"] for sweep in sweeps))
    figure, axes = new_figure(
        len(modes), len(symbols), (3.4 * len(symbols), 3 * len(modes) + 0.6), squeeze=False
    )
    for sweep in sweeps:
        at = axes[modes.index(sweep["mode"])][symbols.index(sweep["symbol"])]
        x = sweep["values"]
        for peer, times in sweep["median_us"].items():
            colour, marker = _STYLE.get(peer, ("#555555", "."))
            known = [(v, t) for v, t in zip(x, times, strict=True) if t is not None]
            slope = sweep["slope"][peer]
            label = peer if slope is None else f"{peer}: slope {slope:.2f}"
            at.plot(
                *zip(*known, strict=True), marker=marker, color=colour, markersize=4, label=label
            )
        at.set_xscale("log", base=2)
        at.set_yscale("log")
        at.xaxis.set_major_formatter("{x:g}")
        at.set_xticks(x, [str(v) for v in x], fontsize=7, rotation=45)
        at.minorticks_off()
        at.set_title(f"{sweep['mode']}, {sweep['fixed']}", fontsize=8)
        at.set_xlabel(sweep["symbol"], fontsize=8)
        at.set_ylabel("µs", fontsize=8)
        at.grid(linewidth=0.3)
        at.legend(fontsize=6)
    figure.suptitle(_machine_line(saved), fontsize=8)
    return write_figure(figure, file.with_suffix(".png"), 130)
