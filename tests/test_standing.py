"""is_best, and decisions that make themselves."""

from __future__ import annotations

import pytest

from runcard import log, run, tracked
from runcard._standing import FOLDER


def ends(*values, **options):
    """Runs of one experiment that end with these values, one after the other."""
    given = {"objective": "loss", "direction": "minimize", "experiment": "e", **options}
    for value in values:
        with run(**given):
            if value is not None:
                log(loss=value)


def judged(store):
    """What was judged, oldest first."""
    return [(r.metrics.get("loss"), r.is_best, r.decision) for r in reversed(store.runs(experiment="e"))]


def test_best_is_better_than_all_that_ended_before(store):
    """Ties, NaN and missing values are never best; the first number is."""
    ends(None, float("nan"), 0.5, 0.5, 0.4, 0.6)
    assert [best for _, best, _ in judged(store)] == [False, False, True, False, True, False]


def test_greater_is_better_when_maximized(store):
    """`maximize` turns the comparison round."""
    ends(0.5, 0.4, 0.6, direction="maximize")
    assert [best for _, best, _ in judged(store)] == [True, False, True]


def test_without_an_objective_nothing_is_judged(store):
    """`is_best` is None for a run that names no objective."""
    ends(0.5, objective=None, direction=None)
    assert judged(store) == [(0.5, None, None)]


def test_a_failed_run_is_never_best(store):
    """A run that an exception left is not best, whatever it logged; and later runs are still compared with it."""

    @tracked(objective="loss", direction="minimize", experiment="e")
    def f():
        log(loss=0.1)
        raise ValueError

    with pytest.raises(ValueError):
        f()
    ends(0.2)
    assert [best for _, best, _ in judged(store)] == [False, False]


def test_auto_decide_keeps_what_beats_and_says_why(store):
    """`auto_decide` keeps the better and discards the rest, with the reason written out."""
    ends(0.33, 0.31, 0.4, auto_decide=True)
    newest_first = store.runs(experiment="e")
    assert [r.decision for r in newest_first] == ["discard", "keep", "keep"]
    assert newest_first[2].decision_reason == "loss 0.33, the first of e"
    assert newest_first[1].decision_reason == f"loss 0.31 beats 0.33 ({newest_first[2].short_id})"
    assert newest_first[0].decision_reason == f"loss 0.4 does not beat 0.31 ({newest_first[1].short_id})"
    assert newest_first[0].decisions[0].source == "auto"


def test_a_decision_of_ones_own_stands(store):
    """`auto_decide` leaves alone what was decided by hand."""
    with run(objective="loss", direction="minimize", auto_decide=True) as r:
        r.log(loss=0.1)
        r.discard("looks wrong")
    assert [entry.reason for entry in store.get(r.run_id).decisions] == ["looks wrong"]


def test_runs_without_objective_count_too(store):
    """A run that names no objective, but has the metric, must be beaten as well."""
    ends(0.5)
    ends(0.1, objective=None, direction=None)
    ends(0.3)
    assert [best for _, best, _ in judged(store)] == [True, None, False]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"minimize loss": 3}', None])
def test_the_file_is_disposable(content, store):
    """Deleted or damaged, the best is found again from the records."""
    ends(0.5)
    for path in (store.root / FOLDER).glob("*.json"):
        path.unlink() if content is None else path.write_bytes(content)
    ends(0.6, 0.4)
    assert [best for _, best, _ in judged(store)] == [True, False, True]


def test_infinite_values_are_never_best(store):
    """A loss that ran away, either way, is left out of the comparison."""
    ends(float("inf"), 1.0, float("-inf"), 0.0)
    assert [best for _, best, _ in judged(store)] == [False, True, False, True]


def test_an_integer_beyond_all_floats_is_a_number(store):
    """Ten to the four hundredth is finite, and greater than any float."""
    ends(1.0, 10**400, 2.0, direction="maximize")
    assert [best for _, best, _ in judged(store)] == [True, True, False]


def test_experiments_do_not_meet(store):
    """A better run of another experiment does not count."""
    ends(0.1, experiment="other")
    ends(0.5)
    assert judged(store) == [(0.5, True, None)]


def test_a_decision_by_a_value_beyond_floats(store):
    """auto_decide tells its reason whatever the size of the number."""
    ends(-1, -(10**400), 10**5000, auto_decide=True)
    assert [decision for *_, decision in judged(store)] == ["keep", "keep", "discard"]
