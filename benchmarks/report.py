"""The table: in the terminal, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.machine import description
from benchmarks.rows import ROWS, Row

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.growth import Growth
    from benchmarks.harness import Samples, Subject

    Results = dict[str, dict[str, Samples]]


def terminal(results: Results, subjects: list[Subject]) -> str:
    """The rows of runcard with their goals, and below each the peers."""
    lines = []
    for key, row in ROWS.items():
        for subject in subjects:
            samples = results.get(key, {}).get(subject.key)
            if samples is None:
                continue
            own = subject.key == "runcard"
            title = row.title if own else f"  {subject.title}"
            goal = f"{row.goal_text():>10} {_verdict(row, results, subjects)}" if own else ""
            lines.append(f"{title:58.58} {_value(samples, row):>12} {_ratio(samples):>9} {goal}".rstrip())
            if samples.note:
                lines.append(f"    {samples.note}")
    return "\n".join(lines)


def write(results: Results, subjects: list[Subject], growth: dict[str, Growth], folder: Path, command: str) -> Path:
    """Write ``benchmarks.md``."""
    path = folder / "benchmarks.md"
    text = [
        "# What it costs, and beside what",
        "",
        f"`{command}`, {description()}.",
        "",
        *_PREFACE,
        "",
        "## Goals",
        "",
        *_goals(results, subjects),
        "",
        "## Beside the peers",
        "",
        *_peers(results, subjects),
        "",
        "![costs beside the peers, and how they grow](benchmarks.png)",
        "",
    ]
    if growth:
        text += ["## How it grows", "", *_growth(growth), ""]
    path.write_text("\n".join(text), encoding="utf-8")
    return path


_PREFACE = (
    "Every tracker does the same work, each trial in a process of its own and the trackers in turn, in one session.",
    "Medians; in brackets the first and the last tenth of the trials. *×* is the ratio to a raw building block",
    "measured in the same process (processes: in turn with it), so that it holds on another machine. On a machine",
    "with more to do than cores, times are long and ratios hold. What missed its goal is explained in",
    "[performance.md](performance.md).",
)


def _goals(results: Results, subjects: list[Subject]) -> list[str]:
    lines = ["| | runcard | × | of | goal | |", "|---|---|---|---|---|---|"]
    for key, row in ROWS.items():
        samples = results.get(key, {}).get("runcard")
        if samples is None:
            continue
        value = f"{_value(samples, row)}{_spread(samples)}"
        note = f" ({samples.note})" if samples.note else ""
        cells = (row.title, value + note, _ratio(samples), row.raw, row.goal_text(), _verdict(row, results, subjects))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _peers(results: Results, subjects: list[Subject]) -> list[str]:
    rows = [row for key, row in ROWS.items() if len(results.get(key, {})) > 1]
    lines = []
    for row in rows:
        found = [(subject, results[row.key][subject.key]) for subject in subjects if subject.key in results[row.key]]
        found.sort(key=lambda pair: pair[1].middle)
        beside = f"× {row.raw}" if row.raw else ""
        lines += ["", f"**{row.title}**", "", f"| | {row.unit or 'count'} | {beside} | |", "|---|---|---|---|"]
        lines += [
            f"| {subject.title} | {number(samples.middle)}{_spread(samples)} | {_ratio(samples)} | {samples.note} |"
            for subject, samples in found
        ]
    return lines[1:]


def _growth(growth: dict[str, Growth]) -> list[str]:
    lines = [
        "The slope is that of log cost over log size, from the first to the last size: 1 is linear, 0 is flat.",
        "",
    ]
    lines += ["| | sizes and costs | slope |", "|---|---|---|"]
    for each in growth.values():
        points = ", ".join(f"{size:,}: {number(cost)}" for size, cost in each.points)
        lines.append(f"| {each.title}, {each.unit} | {points} | {each.slope:.2f} |")
    return lines


def _verdict(row: Row, results: Results, subjects: list[Subject]) -> str:
    own = results[row.key]["runcard"]
    met = row.meets(own)
    words = [] if met is None else ["met" if met else "**missed**"]
    others = [subject for subject in subjects if subject.key != "runcard" and subject.key in results[row.key]]
    if row.first and others:
        below = [subject.title for subject in others if results[row.key][subject.key].middle < own.middle]
        words.append(f"above {' and '.join(below)}" if below else "below every peer")
    return ", ".join(words)


def _value(samples: Samples, row: Row) -> str:
    return f"{number(samples.middle)} {row.unit}".strip()


def _ratio(samples: Samples) -> str:
    return "" if samples.ratio is None else f"{number(samples.ratio)} ×"


def _spread(samples: Samples) -> str:
    if len(samples.values) < 2:
        return ""
    low, high = samples.spread
    return f" ({number(low)}–{number(high)})"


def number(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
