"""The plot: a PNG through matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.growth import curves
from benchmarks.report import number
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from benchmarks.results import Growth, Session

SHOWN = ("import", "empty", "log1", "lost", "parallel", "query1000", "memory", "megabytes")
_OWN, _OTHERS = "#1b6ca8", "#b8bec6"
_LINES = ("#1b6ca8", "#d1495b", "#2a9d8f", "#e69f00", "#7b5ea7", "#5c677d", "#8c564b")
_UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}


class Bar(NamedTuple):
    """A subject's number for a row."""

    name: str
    value: float
    own: bool


def shown_bars(session: Session, key: str) -> list[Bar]:
    """The greatest first: matplotlib draws from below."""
    found = session.rows.get(key, {})
    bars = [
        Bar(title, found[subject].middle, subject == "runcard")
        for subject, title in session.subjects.items()
        if subject in found and found[subject].middle is not None
    ]
    return sorted(bars, key=lambda bar: -bar.value)


def in_seconds(growth: Growth) -> list[tuple[int, float]]:
    """Sizes and costs in one unit, so that all lines fit on one scale."""
    return [(size, cost * _UNITS[growth.unit]) for size, cost in growth.points]


def draw(session: Session, folder: Path) -> Path | None:
    """Write ``benchmarks.png``: bars for each row with peers, then how costs grow, all on log scales.

    Gives None where matplotlib is not installed, or nothing was measured.
    """
    try:
        import matplotlib as mpl

        mpl.use("agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("no plot: matplotlib is not installed; it comes with the extra [bench]")
        return None
    shown = [key for key in SHOWN if len(shown_bars(session, key)) > 1]
    lines = {key: each for key, each in curves(session.rows).items() if each.points}
    rows = math.ceil(len(shown) / 2)
    heights = [3.0] * rows + [5.5] * bool(lines)
    if not heights:
        return None
    figure = plt.figure(figsize=(12, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    for place, key in enumerate(shown):
        _bars(figure.add_subplot(grid[place // 2, place % 2]), key, shown_bars(session, key))
    if lines:
        _growth(figure.add_subplot(grid[-1, :]), lines)
    path = folder / "benchmarks.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _bars(axis: Any, key: str, bars: list[Bar]) -> None:
    positive = [bar.value for bar in bars if bar.value > 0]
    low = min(positive, default=1.0) / 3
    high = max(positive, default=1.0)
    places = range(len(bars))
    lengths = [max(bar.value, low) for bar in bars]
    axis.barh(places, lengths, color=[_OWN if bar.own else _OTHERS for bar in bars])
    for place, bar, length in zip(places, bars, lengths, strict=True):
        axis.text(length * 1.06, place, number(bar.value), va="center", fontsize=8)
    axis.set_yticks(places, [bar.name for bar in bars])
    for label, bar in zip(axis.get_yticklabels(), bars, strict=True):
        label.set_fontweight("bold" if bar.own else "normal")
    axis.set_xscale("log")
    axis.set_xlim(low, high * (high / low) ** 0.14)
    unit = f" ({ROWS[key].unit})" if ROWS[key].unit else ""
    axis.set_title(ROWS[key].title.replace("`", "") + unit, fontsize=10, loc="right")
    axis.tick_params(labelsize=8)
    axis.tick_params(axis="x", which="minor", labelbottom=False)
    axis.spines[["top", "right"]].set_visible(False)


def _growth(axis: Any, lines: dict[str, Growth]) -> None:
    for (_, each), colour in zip(lines.items(), _LINES, strict=False):
        sizes, costs = zip(*in_seconds(each), strict=True)
        slope = "" if math.isnan(each.slope) else f", slope {each.slope:.2f}"
        missed = ", missed" if each.met is False else ""
        title = f"{each.title.replace('`', '')}{slope}{missed}"
        axis.plot(sizes, costs, marker="o", markersize=4, linewidth=1.8, color=colour, label=title)
    axis.set(xscale="log", yscale="log", xlabel="size", ylabel="seconds")
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    start = math.sqrt(low * high) * math.sqrt(left / right)
    axis.plot([left, right], [start, start * right / left], ":", color="#999999", label="linear, for the eye")
    axis.set_xlim(left, right)
    axis.set_ylim(low, high)
    axis.grid(visible=True, which="major", color="#e6e8eb")
    axis.set_title("runcard: how costs grow", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncol=3, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
