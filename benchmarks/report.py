"""The table: in the terminal, and as Markdown. Both are made of the session alone, so that they can be made again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks.growth import curves
from benchmarks.results import FLAT, Measured
from benchmarks.rows import ROWS, Row

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Growth, Session

_PREFACE = """\
Every tracker does the same work, each trial in a process of its own and the trackers in turn, in one session.
Medians; in brackets the first and the last tenth of the trials. *×* is the ratio to a raw building block
measured in the same process (processes: in turn with it), so that it holds on another machine. On a machine
with more to do than cores, times are long and ratios hold. What missed its goal is explained in
[performance.md](performance.md).

All of this page is made by the session, whose numbers lie beside it in [benchmarks.json](benchmarks.json);
`python -m benchmarks --again docs/benchmarks.json` makes page and plot of them again. A dash is what was not
measured, and why: the tracker cannot do it, failed at it, or was cut because its time was over.

To measure anew: `pip install -e ".[bench]"`, then `python -m benchmarks`, which installs the peers into virtual
environments of their own and ends half an hour later. `--quick` measures runcard alone in two minutes, and
`--compare BASE` the working tree beside another revision, a ratio a row."""

_SLOPES = """\
The slope is that of the line fitted through all sizes on two log scales: 1 is linear, 0 is flat. *Last* is the slope
between the two greatest sizes, which a fixed cost hides least. The goal for `log()` is flat (a slope of 0.03 at most),
for the others no worse than linear (neither slope above 1, with a tenth for noise)."""


def table(session: Session) -> str:
    """The rows of runcard with their goals, and below each the peers."""
    lines = []
    for key, row in ROWS.items():
        for subject, title in session.subjects.items():
            found = session.rows.get(key, {}).get(subject)
            if found is None:
                continue
            own = subject == "runcard"
            goal = f"{row.goal_text():>10} {_verdict(row, session)}" if own else ""
            name = row.title if own else f"  {title}"
            lines.append(f"{name:66.66} {_value(found, row):>12} {_ratio(found):>9} {goal}".rstrip())
            if found.note:
                lines.append(f"    {found.note}")
    return "\n".join([*lines, *(f"! {cut}" for cut in session.cuts)])


def write(session: Session, folder: Path) -> Path:
    """Write ``benchmarks.md``."""
    path = folder / "benchmarks.md"
    minutes, seconds = divmod(round(session.took_s), 60)
    parts = [
        "# What it costs, and beside what",
        f"`{session.command}`, {session.machine}; the session took {minutes} minutes and {seconds} seconds.",
        _PREFACE,
        "## Goals\n\n" + "\n".join(_goals(session)),
        "## Beside the peers",
        *_peers(session),
        "![costs beside the peers, and how they grow](benchmarks.png)",
    ]
    lines = curves(session.rows)
    if lines:
        parts.append(f"## How it grows\n\n{_SLOPES}\n\n" + "\n".join(_growth(lines)))
    if session.cuts:
        parts.append("## Cut or failed\n\n" + "\n".join(f"- {_cell(cut)}" for cut in session.cuts))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def number(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def verdict(growth: Growth) -> str:
    """Whether a line grows no faster than it may."""
    return "" if growth.met is None else "met" if growth.met else "**missed**"


def _goals(session: Session) -> list[str]:
    lines = ["| | runcard | × | of | goal | |", "|---|---|---|---|---|---|"]
    for key, row in ROWS.items():
        found = session.rows.get(key, {}).get("runcard")
        if found is None:
            continue
        value = f"{_value(found, row)}{_spread(found)}" + (f" ({_cell(found.note)})" if found.note else "")
        cells = (row.title, value, _ratio(found), row.raw, row.goal_text(), _verdict(row, session))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _peers(session: Session) -> list[str]:
    parts = []
    for row in (row for key, row in ROWS.items() if len(session.rows.get(key, {})) > 1):
        measured = session.rows[row.key]
        found = [(title, measured[key]) for key, title in session.subjects.items() if key in measured]
        found.sort(key=lambda pair: math.inf if pair[1].middle is None else pair[1].middle)
        lines = [f"| | {row.unit or 'count'} | {f'× {row.raw}' if row.raw else ''} | |", "|---|---|---|---|"]
        for title, each in found:
            value = "–" if each.middle is None else f"{number(each.middle)}{_spread(each)}"
            lines.append(f"| {title} | {value} | {_ratio(each)} | {_cell(each.note)} |")
        parts.append(f"**{row.title}**\n\n" + "\n".join(lines))
    return parts


def _growth(lines: dict[str, Growth]) -> list[str]:
    found = ["| | sizes and costs | slope | last | goal | |", "|---|---|---|---|---|---|"]
    for each in lines.values():
        points = ", ".join(f"{size:,}: {number(cost)}" for size, cost in each.points)
        notes = (f"{size:,}: {_cell(note)}" for size, note in each.notes)
        said = "; ".join(part for part in (points, *notes) if part)
        goal = "flat" if each.goal == FLAT else "≤ linear"
        cells = (f"{each.title}, {each.unit}", said, _slope(each.slope), _slope(each.last), goal, verdict(each))
        found.append(f"| {' | '.join(cells)} |")
    return found


def _verdict(row: Row, session: Session) -> str:
    measured = session.rows[row.key]
    own = measured["runcard"].middle
    if own is None:
        return "**not measured**"
    met = row.meets(measured["runcard"])
    words = [] if met is None else ["met" if met else "**missed**"]
    others = {key: each.middle for key, each in measured.items() if key != "runcard" and each.middle is not None}
    if row.first and others:
        below = [session.subjects[key] for key, middle in others.items() if middle < own]
        words.append(f"above {' and '.join(below)}" if below else "below every peer")
    return ", ".join(words)


def _value(found: Measured, row: Row) -> str:
    return "–" if found.middle is None else f"{number(found.middle)} {row.unit}".strip()


def _ratio(found: Measured) -> str:
    return "" if found.ratio is None else f"{number(found.ratio)} ×"


def _spread(found: Measured) -> str:
    if found.count < 2 or found.low is None or found.high is None:
        return ""
    return f" ({number(found.low)}–{number(found.high)})"


def _slope(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _cell(text: str) -> str:
    """A text that a table cannot mistake for its own."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
