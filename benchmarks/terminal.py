"""The plots in the terminal: bars for the peers, and a field of letters for how runcard's costs grow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmarks.growth import curves
from benchmarks.plot import SHOWN, in_seconds, shown_bars
from benchmarks.report import number
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from benchmarks.results import Session

_WIDTH, _COLUMNS, _ROWS = 50, 64, 20


def bars(session: Session) -> str:
    """On a log scale, so that a step to the right is a factor."""
    lines: list[str] = []
    for key in SHOWN:
        found = shown_bars(session, key)[::-1]
        if len(found) < 2:
            continue
        positive = [bar.value for bar in found if bar.value > 0] or [1.0]
        low = math.log10(positive[0]) - 0.3
        span = max(math.log10(positive[-1]) - low, 0.3)
        lines += ["", f"{ROWS[key].title} ({ROWS[key].unit or 'count'}, log scale)"]
        for bar in found:
            length = max(1, round((math.log10(bar.value) - low) / span * _WIDTH)) if bar.value > 0 else 0
            lines.append(f"  {bar.name:30.30} {'█' * length:{_WIDTH}} {number(bar.value)}")
    return "\n".join(lines)


def growth(session: Session) -> str:
    """Seconds over size, both on log scales; a letter a line, and what it means below."""
    found = {key: each for key, each in curves(session.rows).items() if each.points}
    if not found:
        return ""
    letters = dict(zip(found, "ABCDEFGHIJ", strict=False))
    points = [(letters[key], size, seconds) for key, each in found.items() for size, seconds in in_seconds(each)]
    left, right = (pick(math.log10(size) for _, size, _ in points) for pick in (min, max))
    low, high = (edge(pick(math.log10(cost) for *_, cost in points)) for edge, pick in _EDGES)
    field = [[" "] * (_COLUMNS + 1) for _ in range(_ROWS + 1)]
    for letter, size, seconds in points:
        column = round((math.log10(size) - left) / max(right - left, 1) * _COLUMNS)
        row = round((high - math.log10(seconds)) / max(high - low, 1) * _ROWS)
        field[row][column] = letter if field[row][column] == " " else "*"
    lines = ["", "how runcard's costs grow: seconds over size, both on log scales (*: several)"]
    for row, cells in enumerate(field):
        power = high - row * (high - low) / _ROWS
        label = f"1e{round(power)}" if abs(power - round(power)) < (high - low) / _ROWS / 2 else ""
        lines.append(f"{label:>6} │{''.join(cells)}".rstrip())
    axis, ticks = ["─"] * (_COLUMNS + 1), [" "] * (_COLUMNS + 6)
    for power in range(math.ceil(left), math.floor(right) + 1):
        column = round((power - left) / max(right - left, 1) * _COLUMNS)
        axis[column] = "┴"
        ticks[column : column + len(f"1e{power}")] = f"1e{power}"
    lines += [f"{'':6} └{''.join(axis)}", f"{'':8}{''.join(ticks)}".rstrip()]
    for key, each in found.items():
        met = {True: "met", False: "missed", None: ""}[each.met]
        slopes = "" if math.isnan(each.slope) else f"slope {each.slope:.2f}, last {each.last:.2f}"
        lines.append(f"  {letters[key]} {each.title:42} {slopes} {met}".rstrip())
    return "\n".join(lines)


_EDGES = ((math.floor, min), (math.ceil, max))
