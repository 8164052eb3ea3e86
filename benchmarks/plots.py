"""Figures as PNG files, by matplotlib, without a display."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, List

from bert_serving.benchmarks.results import Figure, Series

__all__ = ["draw"]

INCHES = (7.0, 4.2)
DOTS_PER_INCH = 150
#: Okabe and Ito's colours, which people of all kinds of colour vision can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#555555"


def draw(figure: Figure, directory: Path) -> Path:
    """Write ``directory``/<name>.png; returns its path. Raises OSError."""
    # Not pyplot, which keeps figures and chooses a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=INCHES, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot(1, 1, 1)
    if figure.log_x:
        axes.set_xscale("log", base=2 if figure.kind == "points" else 10)
    for number, series in enumerate(figure.series):
        _draw_series(axes, figure, series, COLORS[number % len(COLORS)])
    if figure.kind == "points":
        _name_every_x(axes, figure)
        axes.margins(x=0.06)
        # Room for the topmost label.
        axes.set_ylim(0, 1.12 * max(max(series.y) for series in figure.series) or 1.0)
    elif figure.kind == "lines":
        axes.set_ylim(0, 1.12 * max(max(series.y) for series in figure.series) or 1.0)
    else:
        axes.set_ylim(0, 1.02)
        if figure.log_x:
            _round_numbers(axes, figure)
    if figure.mark is not None:
        _draw_mark(axes, *figure.mark)
    _style(axes, figure)
    canvas.tight_layout()
    path = directory / (figure.name + ".png")
    canvas.savefig(str(path))
    return path


def _draw_series(axes: Any, figure: Figure, series: Series, color: str) -> None:
    if figure.kind == "distribution":
        x, y = list(series.x), list(series.y)
        # A step up at each value, from nothing at the first.
        axes.step(
            x[:1] + x, [0.0] + y, where="post", color=color, label=series.label, linewidth=1.8
        )
        return
    if figure.kind == "lines":
        axes.plot(series.x, series.y, "-", color=color, label=series.label, linewidth=1.8)
        return
    axes.plot(series.x, series.y, "o-", color=color, label=series.label, linewidth=1.8)
    if len(figure.series) > 1:
        return
    for place, value in zip(series.x, series.y):
        text = "%.0f" % value if value >= 100 else "%.3g" % value
        axes.annotate(
            text,
            (place, value),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color=GREY,
            # So that a number stays legible where the line passes behind it.
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
        )


def _name_every_x(axes: Any, figure: Figure) -> None:
    from matplotlib.ticker import NullLocator

    places = sorted({x for series in figure.series for x in series.x})
    axes.set_xticks(places)
    axes.set_xticklabels(["%g" % place for place in places])
    axes.xaxis.set_minor_locator(NullLocator())


def _round_numbers(axes: Any, figure: Figure) -> None:
    """Let a logarithmic axis begin and end at 1, 2 or 5 times a power of ten, and name those."""
    places = [x for series in figure.series for x in series.x]
    places += [figure.mark[0]] if figure.mark is not None else []
    # Widened a little, so that a single value isn't an end of its own.
    ends = round_below(0.99 * min(places)), round_above(1.01 * max(places))
    axes.set_xlim(*ends)
    ticks = _round_between(*ends)
    axes.set_xticks(ticks)
    axes.set_xticklabels(["%g" % place for place in ticks])
    axes.minorticks_off()


def round_below(value: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is at most ``value`` (above 0)."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(factor * power for factor in (0.5, 1, 2, 5) if factor * power <= value)


def round_above(value: float) -> float:
    """The smallest such number that is at least ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return min(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= value)


def _round_between(low: float, high: float) -> List[float]:
    places = [low]
    while places[-1] < high * 0.999:
        places.append(round_above(places[-1] * 1.001))
    return places


def _draw_mark(axes: Any, place: float, label: str) -> None:
    axes.axvline(place, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        label,
        (place, 0.04),
        xycoords=("data", "axes fraction"),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        color=GREY,
        rotation=90,
    )


def _style(axes: Any, figure: Figure) -> None:
    axes.set_title(figure.title, loc="left", fontsize=11)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    axes.grid(axis="both" if figure.kind == "distribution" else "y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(figure.series) > 1:
        axes.legend(frameon=False)
