"""Records made by hand, for tests of what reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runcard.record import History, Point, RunRecord, Status, as_fields

BEGAN = datetime(2026, 11, 23, 10, 11, 12, 250000, tzinfo=UTC)


def record(number=0, **fields):
    """A finished run; later numbers began later. Plain mappings become the record's own."""
    given = {name: as_fields(value) for name, value in fields.items()}
    started = given.pop("started_at", BEGAN + timedelta(minutes=number))
    known = {
        "run_id": f"{started or BEGAN:%Y%m%dT%H%M%S}-{number:08d}",
        "name": "train",
        "experiment": "train",
        "status": Status.FINISHED,
        "started_at": started,
        "ended_at": None if started is None else started + timedelta(seconds=90),
        "duration_s": 90.0,
    }
    return RunRecord(**{**known, **given})


def with_history(metric, values, /, **fields):
    """A run that logged one metric, a value a step from 0."""
    points = [Point(metric, step, value, 1_795_000_000.0 + step) for step, value in enumerate(values)]
    finite = [(value, step) for step, value in enumerate(values) if value == value]
    low, high = min(finite), max(finite, key=lambda pair: (pair[0], -pair[1]))
    summary = {"last": values[-1], "last_step": len(values) - 1, "count": len(values)}
    summary |= {"min": low[0], "min_step": low[1], "max": high[0], "max_step": high[1]}
    return record(
        metrics={metric: values[-1], **fields.pop("metrics", {})},
        metric_summary={metric: summary},
        metric_history=History(points),
        **fields,
    )
