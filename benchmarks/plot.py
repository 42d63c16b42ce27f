"""The plots: a PNG through matplotlib, and bars in the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.growth import Growth
    from benchmarks.harness import Samples, Subject

    Results = dict[str, dict[str, Samples]]

_SHOWN = ("import", "empty", "log1", "parallel", "query1000", "memory")
_WIDTH = 50
_OWN, _OTHERS = "#1b6ca8", "#b8bec6"


def draw(results: Results, subjects: list[Subject], growth: dict[str, Growth], folder: Path) -> Path | None:
    """Write ``benchmarks.png``: bars on a log scale for each row with peers, then growth on two log scales.

    Gives None where matplotlib is not installed, or nothing was measured.
    """
    try:
        import matplotlib as mpl

        mpl.use("agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("no plot: matplotlib is not installed; it comes with the extra [bench]")
        return None
    shown = [key for key in _SHOWN if key in results]
    panels = len(shown) + bool(growth)
    if not panels:
        return None
    rows = math.ceil(panels / 2)
    figure, axes = plt.subplots(rows, 2, figsize=(11, 3.2 * rows), squeeze=False, layout="constrained")
    flat = list(axes.flat)
    for key, axis in zip(shown, flat, strict=False):
        bars = _bars(results[key], subjects)
        axis.barh([name for name, _, _ in bars], [value for _, value, _ in bars], color=[c for _, _, c in bars])
        axis.set_xscale("log")
        axis.set_title(f"{ROWS[key].title.replace('`', '')} ({ROWS[key].unit})", fontsize=9)
        axis.tick_params(labelsize=7)
    if growth:
        axis = flat[len(shown)]
        for each in growth.values():
            axis.plot(*zip(*each.points, strict=True), marker="o", markersize=3, label=f"{each.title} ({each.unit})")
        axis.set(xscale="log", yscale="log")
        axis.set_title("runcard: how costs grow", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=6.5)
    for axis in flat[panels:]:
        axis.remove()
    path = folder / "benchmarks.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def in_terminal(results: Results, subjects: list[Subject], growth: dict[str, Growth]) -> str:
    """The same with characters; bars on a log scale, so that a step to the right is a factor."""
    lines: list[str] = []
    for key in _SHOWN:
        bars = _bars(results.get(key, {}), subjects)[::-1]
        if len(bars) < 2:
            continue
        low, high = math.log10(bars[0][1]) - 0.3, math.log10(bars[-1][1])
        lines += ["", f"{ROWS[key].title} ({ROWS[key].unit}, log scale)"]
        for name, value, _ in bars:
            part = (math.log10(value) - low) / (high - low)
            lines.append(f"  {name:30.30} {'█' * max(1, round(part * _WIDTH)):{_WIDTH}} {value:.3g}")
    for each in growth.values():
        points = "  ".join(f"{size:g}: {cost:.3g}" for size, cost in each.points)
        lines += ["", f"{each.title} ({each.unit}), slope {each.slope:.2f}", f"  {points}"]
    return "\n".join(lines)


def _bars(found: dict[str, Samples], subjects: list[Subject]) -> list[tuple[str, float, str]]:
    """Name, value and colour, the greatest first: matplotlib draws from below."""
    bars = [
        (subject.title, max(found[subject.key].middle, 1e-3), _OWN if subject.key == "runcard" else _OTHERS)
        for subject in subjects
        if subject.key in found
    ]
    return sorted(bars, key=lambda bar: -bar[1])
