"""A clock that jumps: durations are never negative, and the order is that of the events."""

from __future__ import annotations

import pytest

from runcard import open_store, run
from runcard.testing import fake_clock


@pytest.mark.parametrize("jump", [-3600.0, -86_400.0 * 365, 3600.0])
def test_a_jump_in_the_middle_of_a_run(store, jump):
    """The duration is measured by another clock, and the points stay in the order logged."""
    with fake_clock() as clock, run("jump") as r:
        r.log(x=1.0)
        clock.advance(jump)
        r.log(x=2.0)
        r.keep("before")
        clock.advance(jump)
        r.discard("after")
        r.log(x=3.0)
    record = store.get(r.run_id)
    assert 0 <= record.duration_s < 60
    assert [(point.step, point.value) for point in record.metric_history] == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert record.metrics == {"x": 3.0}
    assert (record.decision, [entry.reason for entry in record.decisions]) == ("discard", ["before", "after"])
    assert record.status == "finished"
    assert [point.value for point in store.history(r.run_id, "x")] == [1.0, 2.0, 3.0]


def test_a_crashed_run_after_a_jump_has_no_negative_duration(store):
    """Of a run without an end the duration goes to its last event, and is never below zero."""
    with fake_clock() as clock, run("crash") as r:
        r.log(x=1.0)
        clock.advance(-3600)
        r.log(x=2.0)
    journal = r.folder / "journal.jsonl"
    lines = [line for line in journal.read_bytes().splitlines(keepends=True) if b'"kind":"end"' not in line]
    lines = [line.replace(b'"pid":', b'"was":') for line in lines]
    journal.write_bytes(b"".join(lines))
    record = open_store(store.root).get(str(r.folder))
    assert record.duration_s is None or record.duration_s >= 0
    assert [point.value for point in record.metric_history] == [1.0, 2.0]


def test_late_judgements_stand_in_the_order_they_were_made(store):
    """A judgement made after the clock went back is still the last one."""
    with run("judged") as r:
        r.keep("first")
    with fake_clock(0.0):
        store.discard(r.run_id, "second, by a clock that went back")
    assert store.get(r.run_id).decision == "discard"
