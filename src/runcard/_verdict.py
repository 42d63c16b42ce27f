"""Whether a rerun gave the same: metrics, history and artifacts compared, and if not, the likeliest causes first."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard._causes import Cause, causes_of
from runcard.events import mark
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runcard._plan import Plan
    from runcard.record import RunRecord

RTOL, ATOL = 1e-5, 1e-8  # numpy.allclose's, which people know
IN_EVENT = 20  # differences that the event keeps; all are in the verdict itself


class Tolerance:
    """How far two values of a metric may be apart: ``|a - b| <= atol + rtol * |a|``, where a is the original's.

    Args:
        rtol, atol: For all metrics.
        metrics: Name → (rtol, atol) for those that differ; None takes the common one.
    """

    def __init__(
        self,
        rtol: float = RTOL,
        atol: float = ATOL,
        metrics: Mapping[str, tuple[float | None, float | None]] | None = None,
    ) -> None:
        for each in (rtol, atol, *(number for pair in (metrics or {}).values() for number in pair)):
            if each is not None and not each >= 0:
                raise ValueError(f"a tolerance is zero or more, not {each!r}")
        self.rtol = rtol
        self.atol = atol
        self.metrics = dict(metrics or {})

    def covers(self, name: str, a: float, b: float) -> bool:
        """Whether ``b`` is near enough to ``a``."""
        rtol, atol = self.metrics.get(name, (None, None))
        rtol, atol = self.rtol if rtol is None else rtol, self.atol if atol is None else atol
        if not (math.isfinite(a) and math.isfinite(b)):
            return same(a, b)
        return abs(a - b) <= atol + rtol * abs(a)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        return {
            "rtol": self.rtol,
            "atol": self.atol,
            "metrics": {name: list(pair) for name, pair in self.metrics.items()},
        }


class Difference(NamedTuple):
    """A value that is not bit for bit the same.

    Attributes:
        name: The metric.
        step: Of a point of the history; None for the metric itself.
        a, b: The original's and the rerun's value; None where one has none.
        delta: ``b - a``, where both are numbers.
        within: Whether the tolerance covers it.
    """

    name: str
    step: float | None
    a: float | None
    b: float | None
    delta: float | None
    within: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rerun found.

    Attributes:
        outcome: ``identical`` (bit for bit), ``within tolerance``, ``different``, or ``failed``.
        run_id, rerun: The original and the new run; the new one is None when it left no record.
        metrics: What differs of the metrics, largest first.
        history: What differs of their points, largest first; one metric's points are compared in order.
        compared: How many metrics, points and artifacts were compared.
        artifacts: Name → ``same``, ``changed``, ``missing`` or ``new``, by hash. They do not decide the outcome where
            there are metrics: many formats hold the time.
        causes: What differs in code, packages, machine, inputs or seed; the likeliest cause first.
        reason: Of a failure, in words.
        changes: The settings that were changed for the rerun.
        tolerance: What was allowed.
    """

    outcome: str
    run_id: str
    rerun: str | None
    metrics: list[Difference] = field(default_factory=list)
    history: list[Difference] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)
    reason: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    tolerance: Tolerance = field(default_factory=Tolerance)

    @property
    def exit_code(self) -> int:
        """0 for identical and within tolerance, 1 for different and failed."""
        return 0 if self.outcome in ("identical", "within tolerance") else 1

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        return self._told(len(self.metrics), len(self.history))

    def event(self) -> dict[str, Any]:
        """What both runs keep: the same, with the largest differences alone."""
        return self._told(IN_EVENT, IN_EVENT)

    def _told(self, metrics: int, history: int) -> dict[str, Any]:
        told = {
            "outcome": self.outcome,
            "run_id": self.run_id,
            "rerun": self.rerun,
            "metrics": [each._asdict() for each in self.metrics[:metrics]],
            "history": [each._asdict() for each in self.history[:history]],
            "compared": self.compared,
            "artifacts": dict(list(self.artifacts.items())[:1000]),
            "causes": [each._asdict() for each in self.causes],
            "reason": self.reason,
            "changes": self.changes,
            "tolerance": self.tolerance.to_dict(),
        }
        marked = mark(told)
        assert isinstance(marked, dict)
        return marked


def compare_runs(
    original: RunRecord, made: RunRecord, planned: Plan, tolerance: Tolerance, *, moved: Iterable[Iterable[str]] = ()
) -> Verdict:
    """The verdict on a rerun.

    Args:
        original: The recorded run.
        made: The new one.
        planned: What was planned, with what could not be had.
        tolerance: What is allowed.
        moved: Pairs of a recorded folder and the one that stood for it, which make no difference.
    """
    metrics = list(_metrics(original, made, tolerance))
    points, history = _history(original, made, tolerance)
    artifacts = _artifacts(original, made)
    found = [*metrics, *history]
    reason = _failure(original, made)
    nothing = not (original.metrics or made.metrics or points)
    if reason is not None and made.status is not Status.FINISHED:
        outcome = "failed"
    elif reason is not None or any(not each.within for each in found):
        outcome = "different"
    elif nothing and any(state != "same" for state in artifacts.values()):
        outcome, reason = "different", "there are no metrics; the artifacts differ"
    elif nothing and not _same_result(original, made):
        outcome, reason = "different", "there are no metrics; the results differ"
    else:
        outcome = "within tolerance" if found else "identical"
    if nothing and outcome == "identical" and not artifacts and original.result is None:
        reason = "there was nothing to compare but how it ended: no metric, artifact or result"
    size = max((_relative(each) for each in found), default=0.0)
    return Verdict(
        outcome=outcome,
        run_id=original.run_id,
        rerun=made.run_id,
        metrics=sorted(metrics, key=_relative, reverse=True),
        history=sorted(history, key=_relative, reverse=True),
        compared={"metrics": len({**original.metrics, **made.metrics}), "points": points, "artifacts": len(artifacts)},
        artifacts=artifacts,
        causes=[] if outcome == "identical" else causes_of(original, made, planned, size, moved),
        reason=reason,
        changes=planned.changes,
        tolerance=tolerance,
    )


def failed(original: RunRecord, planned: Plan, reason: str, tolerance: Tolerance) -> Verdict:
    """The verdict on a rerun that left no record."""
    return Verdict(
        outcome="failed",
        run_id=original.run_id,
        rerun=None,
        causes=causes_of(original, None, planned, math.inf, ()),
        reason=reason,
        changes=planned.changes,
        tolerance=tolerance,
    )


def same(a: Any, b: Any) -> bool:
    """Whether two numbers are the same bit for bit: NaN is NaN, and minus zero is not zero."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)


def _metrics(original: RunRecord, made: RunRecord, tolerance: Tolerance) -> Iterable[Difference]:
    for name in {**original.metrics, **made.metrics}:
        found = _difference(name, None, original.metrics.get(name), made.metrics.get(name), tolerance)
        if found is not None:
            yield found


def _history(original: RunRecord, made: RunRecord, tolerance: Tolerance) -> tuple[int, list[Difference]]:
    """How many points were compared, and which differ."""
    before, after = _points(original), _points(made)
    count, found = 0, []
    for name in {**before, **after}:
        old, new = before.get(name, []), after.get(name, [])
        count += max(len(old), len(new))
        for index in range(max(len(old), len(new))):
            step, a = old[index] if index < len(old) else (None, None)
            at, b = new[index] if index < len(new) else (None, None)
            if step != at and a is not None and b is not None:
                found.append(Difference(name, step, a, None, None, within=False))
                continue
            different = _difference(name, at if step is None else step, a, b, tolerance)
            if different is not None:
                found.append(different)
    return count, found


def _points(record: RunRecord) -> dict[str, list[tuple[Any, Any]]]:
    """The points of each metric in order; of a resumed run, the latest attempt's of each step."""
    names: dict[str, list[tuple[Any, Any]]] = {}
    latest: dict[tuple[str, Any], int] = {}
    resumed = len(record.attempts) > 1
    points = list(record.metric_history) if resumed else record.metric_history
    if resumed:
        for point in points:
            key = point.name, point.step
            latest[key] = max(point.attempt, latest.get(key, 0))
    for point in points:
        if not resumed or point.attempt == latest[point.name, point.step]:
            names.setdefault(point.name, []).append((point.step, point.value))
    return names


def _difference(name: str, step: Any, a: Any, b: Any, tolerance: Tolerance) -> Difference | None:
    if a is None or b is None:
        return Difference(name, step, a, b, None, within=False)
    if same(a, b):
        return None
    try:
        return Difference(name, step, a, b, b - a, tolerance.covers(name, a, b))
    except OverflowError:  # an integer beyond what a float holds
        return Difference(name, step, a, b, None, within=False)


def _relative(difference: Difference) -> float:
    """How large a difference is, for sorting: missing values and steps first."""
    a, b = difference.a, difference.b
    if a is None or b is None or difference.delta is None or difference.delta != difference.delta:
        return math.inf
    scale = max(abs(a), abs(b))
    try:
        return abs(difference.delta) / scale if scale else abs(difference.delta)
    except OverflowError:
        return math.inf


def _artifacts(original: RunRecord, made: RunRecord) -> dict[str, str]:
    before, after = (
        {
            str(each.get("name") or each.get("path")): each.get("sha256")
            for each in record.artifacts
            if not each.get("transient")
        }
        for record in (original, made)
    )
    found = {}
    for name in {**before, **after}:
        if name not in after:
            found[name] = "missing"
        elif name not in before:
            found[name] = "new"
        else:
            found[name] = "same" if before[name] and before[name] == after[name] else "changed"
    return found


def _failure(original: RunRecord, made: RunRecord) -> str | None:
    """How the ends differ, in words; None when both ended alike."""
    if original.status is made.status:
        errors = [(each.get("type"), each.get("message")) if each else None for each in (original.error, made.error)]
        if errors[0] == errors[1]:
            return None
        return f"the original failed with {_told(original)}, the rerun with {_told(made)}"
    ended = f" with {_told(made)}" if made.error else ""
    return f"the original {_ENDED[original.status]}, the rerun {_ENDED[made.status]}{ended}"


def _told(record: RunRecord) -> str:
    error: Mapping[str, Any] = record.error or {}
    return f"{error.get('type')}: {str(error.get('message'))[:200]}"


def _same_result(original: RunRecord, made: RunRecord) -> bool:
    return bool(mark(original.result) == mark(made.result))


_ENDED = {
    Status.FINISHED: "finished",
    Status.FAILED: "failed",
    Status.KILLED: "was killed",
    Status.CRASHED: "crashed",
    Status.RUNNING: "still goes on",
}
