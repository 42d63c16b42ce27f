"""Which run is best: `rank`, the value a run is judged by, and what beats what."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard.errors import SettingError
from runcard.query import is_better, metric_value, rank
from runcard.record import Fields, RunRecord


def made(n, value=None, summary=None, **rest):
    """A record with one metric, `loss`."""
    return RunRecord(
        run_id=f"20261101T{n:06}-00000000",
        metrics=Fields({} if value is None else {"loss": value}),
        metric_summary=Fields({} if summary is None else {"loss": Fields(summary)}),
        **rest,
    )


def numbers(records):
    """Which of `made` the records are."""
    return [int(record.run_id[9:15]) for record in records]


def test_best_first_and_what_is_no_result_last():
    """Missing, NaN and infinite values come last both ways, in the order given."""
    runs = [made(n, value) for n, value in enumerate([0.3, math.nan, 0.1, None, -math.inf, 2, math.inf])]
    assert numbers(rank(runs, "loss", "minimize")) == [2, 0, 5, 1, 3, 4, 6]
    assert numbers(rank(runs, "loss", "maximize")) == [5, 0, 2, 1, 3, 4, 6]
    assert numbers(rank(iter(runs), "absent", "minimize")) == [0, 1, 2, 3, 4, 5, 6]


def test_ties_are_stable():
    """Equal runs stay in the order given, both ways."""
    runs = [made(n, 1.0) for n in range(5)]
    assert rank(runs, "loss", "minimize") == runs
    assert rank(runs, "loss", "maximize") == runs


def test_big_integers_rank_exactly():
    """Integers beyond the floats are compared as they are."""
    runs = [made(0, 2**70 + 1), made(1, 2**70), made(2, float(2**70)), made(3, 10**400)]
    assert numbers(rank(runs, "loss", "minimize")) == [1, 2, 0, 3]


@pytest.mark.parametrize("direction", ["min", "", None, "Minimize", "down"])
def test_another_direction_is_refused(direction):
    """A direction is one of two words, also when there is nothing to rank."""
    with pytest.raises(SettingError, match="minimize"):
        rank([], "loss", direction)
    with pytest.raises(SettingError):
        is_better(1.0, [], direction)


def test_at_best_takes_the_best_point():
    """The best point of the history counts, or the result where it is better."""
    summary = {"last": 0.5, "min": 0.1, "max": 0.9}
    runs = [made(0, 0.5, summary), made(1, 0.3), made(2, 0.05, summary)]
    assert numbers(rank(runs, "loss", "minimize")) == [2, 1, 0]
    assert numbers(rank(runs, "loss", "minimize", at="best")) == [2, 0, 1]
    assert numbers(rank(runs, "loss", "maximize", at="best")) == [0, 2, 1]
    assert metric_value(runs[0], "loss", "minimize", "best") == 0.1
    assert metric_value(runs[0], "loss") == 0.5
    with pytest.raises(SettingError):
        rank(runs, "loss", "minimize", at="first")


def test_at_best_of_a_run_that_ended_in_nan():
    """A diverged run still has the best point it had."""
    run = made(0, math.nan, {"last": math.nan, "min": 0.2, "max": 0.8})
    assert metric_value(run, "loss", "minimize", "best") == 0.2
    assert math.isnan(metric_value(run, "loss"))


def test_an_amended_metric_stands_as_amended():
    """What was corrected later counts, not the history that it corrects."""
    run = made(0, 0.7, {"last": 0.1, "min": 0.1, "max": 0.9}, amendments=[Fields(metrics=Fields(loss=0.7))])
    assert metric_value(run, "loss", "minimize", "best") == 0.7


@pytest.mark.parametrize(
    ("value", "others", "minimize", "maximize"),
    [
        (1.0, [], True, True),
        (1.0, [None, math.nan, math.inf, -math.inf], True, True),
        (1.0, [1.0], False, False),
        (1.0, [2.0, 3.0], True, False),
        (1.0, [0.0, -3], False, True),
        (1.0, [0.0, 2.0], False, False),
        (math.nan, [], False, False),
        (math.inf, [], False, False),
        (-math.inf, [1.0], False, False),
        (None, [], False, False),
        (10**400, [1.0], False, True),
    ],
)
def test_what_beats_what(value, others, minimize, maximize):
    """Only a finite value that beats every finite one is better; ties are not."""
    assert is_better(value, others, "minimize") is minimize
    assert is_better(value, others, "maximize") is maximize


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True), st.integers()), max_size=12),
    st.sampled_from(["minimize", "maximize"]),
)
def test_the_first_of_a_rank_is_better_or_tied(values, direction):
    """`rank` and `is_better` agree: nothing beats the first, and all results come before the rest."""
    ranked = [metric_value(run, "loss") for run in rank([made(n, v) for n, v in enumerate(values)], "loss", direction)]
    results = [value for value in ranked if value is not None and math.isfinite(value)]
    assert ranked[: len(results)] == results
    assert results == sorted(results, reverse=direction == "maximize")
    for value in ranked[1:]:
        assert not is_better(value, ranked[:1], direction) or not results
