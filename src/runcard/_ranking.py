"""Which of several values of a metric is best: the one rule that `rank`, `is_best` and `auto_decide` share.

NaN and the infinities are no results: they are never best and go last, with the missing ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeGuard

from runcard.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard.record import RunRecord

DIRECTIONS = ("minimize", "maximize")

At = Literal["last", "best"]


def rank(runs: Iterable[RunRecord], metric: str, direction: str, *, at: At = "last") -> list[RunRecord]:
    """The records, best first.

    Args:
        runs: Any records; those without the metric, or whose value is not finite, come last in the order given.
        metric: The metric's name, such as ``val/loss``.
        direction: ``minimize`` or ``maximize``.
        at: ``last`` goes by the last value, ``best`` by the best point of the history.

    Raises:
        SettingError: When the direction or ``at`` is another word.
    """
    sign = sign_of(direction)
    check_at(at)
    found: list[tuple[int | float, RunRecord]] = []
    without: list[RunRecord] = []
    for run in runs:
        value = metric_value(run, metric, direction, at)
        if is_result(value):
            found.append((sign * value, run))
        else:
            without.append(run)
    found.sort(key=lambda entry: entry[0])
    return [run for _, run in found] + without


def metric_value(record: RunRecord, metric: str, direction: str | None = None, at: At = "last") -> int | float | None:
    """The value that a run is judged by; None when it has none.

    A metric that was amended stands at its amended value, whatever its history says.

    Args:
        record: The run.
        metric: The metric's name.
        direction: Needed for ``at="best"``.
        at: ``last``, or ``best``: the least or greatest finite value of the history or the run's result.

    Raises:
        SettingError: For ``best`` without a direction.
    """
    value = record.metrics.get(metric)
    last = value if isinstance(value, (int, float)) else None
    if at == "last" or any(metric in (entry.get("metrics") or ()) for entry in record.amendments):
        return last
    sign = sign_of(direction)
    summary = record.metric_summary.get(metric)
    bound = summary.get("min" if sign == 1 else "max") if summary else None
    seen = [value for value in (last, bound) if is_result(value)]
    return min(seen, key=lambda value: sign * value) if seen else last


def is_better(value: float | None, others: Iterable[float | None], direction: str) -> bool:
    """Whether a value beats every one of the others: finite, and no tie. The first finite value of all is best.

    Raises:
        SettingError: When the direction is neither ``minimize`` nor ``maximize``.
    """
    sign = sign_of(direction)
    if not is_result(value):
        return False
    return all(sign * value < sign * other for other in others if is_result(other))


def is_result(value: object) -> TypeGuard[int | float]:
    """Whether a value can be ranked: a finite number."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def sign_of(direction: str | None) -> int:
    """1 when less is better, -1 when more is."""
    if direction not in DIRECTIONS:
        raise SettingError(f"direction is 'minimize' or 'maximize', not {direction!r}")
    return 1 if direction == "minimize" else -1


def check_at(at: str) -> None:
    """Refuse what is neither the last nor the best point."""
    if at not in ("last", "best"):
        raise SettingError(f"at is 'last' or 'best', not {at!r}")
