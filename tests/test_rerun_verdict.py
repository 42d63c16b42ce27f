"""Identical, within tolerance, different, failed: how two runs are compared, and what is named as the cause."""

from __future__ import annotations

import json
import math

import pytest

from runcard._causes import causes_of
from runcard._plan import Plan
from runcard._verdict import Tolerance, compare_runs, same
from runcard.record import Fields, History, Point, RunRecord, Status

NOTHING = Plan(
    run_id="",
    name="",
    commit=None,
    branch=None,
    source=None,
    patch_bytes=0,
    how="function",
    call="",
    changes={},
    config={},
    python=None,
    packages={},
    packages_here={},
    inputs=[],
    seed={},
    variables={},
    cannot=[],
)


def record(number=0, *, history=(), **fields):
    """A finished run."""
    points = History([Point(name, step, value, 0.0) for name, step, value in history])
    if "metrics" in fields:
        fields["metrics"] = Fields(fields["metrics"])
    status = fields.pop("status", Status.FINISHED)
    return RunRecord(run_id=f"20260101T00000{number}-00000000", status=status, metric_history=points, **fields)


def compared(a, b, tolerance=None, planned=NOTHING):
    """The verdict on two runs."""
    return compare_runs(a, b, planned, tolerance or Tolerance())


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        (0.1 + 0.2, 0.3, False),
        (math.nan, math.nan, True),
        (0.0, -0.0, False),
        (1, 1.0, False),
        (math.inf, math.inf, True),
        (2**70, 2**70, True),
    ],
)
def test_bit_for_bit(a, b, alike):
    """NaN is NaN, minus zero is not zero, and an integer is no float."""
    assert same(a, b) is alike


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        (0.5, 0.5, "identical"),
        (0.5, 0.5 + 1e-9, "within tolerance"),
        (0.5, 0.501, "different"),
        (math.nan, math.nan, "identical"),
        (math.nan, 0.5, "different"),
        (math.inf, -math.inf, "different"),
        (10**400, 10**400 + 1, "different"),
    ],
)
def test_a_metric_decides(a, b, outcome):
    """The default tolerance is 1e-5 relative and 1e-8 absolute; what is not finite has to be the same."""
    verdict = compared(record(metrics={"loss": a}), record(1, metrics={"loss": b}))
    assert verdict.outcome == outcome
    assert verdict.exit_code == (outcome == "different")
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_tolerances_of_single_metrics():
    """`--rtol val=0.1` loosens one metric and leaves the others."""
    a, b = record(metrics={"loss": 1.0, "val": 1.0}), record(1, metrics={"loss": 1.0, "val": 1.05})
    assert compared(a, b).outcome == "different"
    assert compared(a, b, Tolerance(metrics={"val": (0.1, None)})).outcome == "within tolerance"
    assert compared(a, b, Tolerance(metrics={"loss": (0.1, None)})).outcome == "different"
    with pytest.raises(ValueError, match="zero or more"):
        Tolerance(rtol=-1)


def test_a_missing_metric_is_a_difference():
    """Either way round, and it comes first."""
    verdict = compared(record(metrics={"a": 1.0, "b": 1.0}), record(1, metrics={"a": 2.0}))
    assert [(each.name, each.b) for each in verdict.metrics] == [("b", None), ("a", 2.0)]
    assert compared(record(), record(1, metrics={"a": 2.0})).outcome == "different"


def test_the_history_decides_too():
    """The same last value by another way is different; the largest difference comes first."""
    a = record(metrics={"loss": 1.0}, history=[("loss", 0, 3.0), ("loss", 1, 2.0), ("loss", 2, 1.0)])
    b = record(1, metrics={"loss": 1.0}, history=[("loss", 0, 3.1), ("loss", 1, 4.0), ("loss", 2, 1.0)])
    verdict = compared(a, b)
    assert verdict.outcome == "different"
    assert [each.step for each in verdict.history] == [1, 0]
    assert verdict.compared["points"] == 3


def test_other_steps_and_a_shorter_history_are_differences():
    """A point at another step, and one that is missing."""
    a = record(history=[("loss", 0, 1.0), ("loss", 1, 1.0)])
    assert compared(a, record(1, history=[("loss", 0, 1.0)])).outcome == "different"
    assert compared(a, record(1, history=[("loss", 0, 1.0), ("loss", 2, 1.0)])).outcome == "different"


def test_of_a_resumed_run_the_latest_attempt_counts():
    """A rerun goes through without the interruption, and gives the same."""
    points = [Point("loss", 0, 3.0, 0.0), Point("loss", 1, 9.0, 0.0), Point("loss", 1, 2.0, 0.0)]
    points[2].attempt = 2
    resumed = record(metrics={"loss": 2.0}, attempts=[Fields(attempt=1), Fields(attempt=2)])
    object.__setattr__(resumed, "metric_history", History(points))
    again = record(1, metrics={"loss": 2.0}, history=[("loss", 0, 3.0), ("loss", 1, 2.0)])
    assert compared(resumed, again).outcome == "identical"


def test_artifacts_are_told_and_decide_only_without_metrics():
    """Many formats hold the time: beside equal metrics a changed artifact is said, without them it decides."""
    before, after = (
        [Fields(name="model.pt", sha256=digest * 64), Fields(name="tmp", sha256=digest * 64, transient=True)]
        for digest in "ab"
    )
    with_metrics = compared(
        record(metrics={"a": 1.0}, artifacts=before), record(1, metrics={"a": 1.0}, artifacts=after)
    )
    assert (with_metrics.outcome, with_metrics.artifacts) == ("identical", {"model.pt": "changed"})
    assert compared(record(artifacts=before), record(1, artifacts=after)).outcome == "different"
    assert compared(record(artifacts=before), record(1)).artifacts == {"model.pt": "missing"}


def test_nothing_to_compare_is_said():
    """Two runs without metric, artifact or result ended alike, and that is all that is claimed."""
    verdict = compared(record(), record(1))
    assert verdict.outcome == "identical"
    assert "nothing to compare" in verdict.reason


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        (Status.FINISHED, Status.FAILED, "failed"),
        (Status.FINISHED, Status.CRASHED, "failed"),
        (Status.FAILED, Status.FINISHED, "different"),
        (Status.FAILED, Status.FAILED, "identical"),
    ],
)
def test_how_they_ended(a, b, outcome):
    """A rerun that does not finish failed; one that finishes where the original failed is different."""
    assert compared(record(status=a), record(1, status=b)).outcome == outcome


def test_another_error_is_failed():
    """Both failed, but not with the same exception."""
    first = record(status=Status.FAILED, error=Fields(type="ValueError", message="x"))
    second = record(1, status=Status.FAILED, error=Fields(type="KeyError", message="x"))
    verdict = compared(first, second)
    assert verdict.outcome == "failed"
    assert "ValueError" in verdict.reason
    assert "KeyError" in verdict.reason


def surroundings(python="3.12.1", numpy="2.0", zlib="1", cpu="a", threads="1"):
    """An environment."""
    return Fields(
        python={"version": python},
        packages={"zlib-ng": zlib, "numpy": numpy},
        hardware={"cpu": {"model": cpu}},
        variables={"OMP_NUM_THREADS": threads},
    )


def test_every_difference_is_named_the_likeliest_first():
    """Packages that calculate before others; tiny differences speak for arithmetic, large ones for data and code."""
    other = surroundings("3.11.7", "2.1", "2", "b", "8")
    first = record(metrics={"a": 1.0}, environment=surroundings(), inputs=[Fields(path="/d.csv", sha256="1")])
    tiny = record(1, metrics={"a": 1.0001}, environment=other, inputs=[Fields(path="/x/d.csv", sha256="2")])
    large = record(1, metrics={"a": 2.0}, environment=other, inputs=[Fields(path="/x/d.csv", sha256="2")])
    causes = [(cause.kind, cause.what) for cause in compared(first, tiny).causes]
    assert [kind for kind, _ in causes] == ["package", "python", "variable", "machine", "package", "input", "seed"]
    assert "numpy was 2.0, is 2.1" in causes[0][1]
    assert "Python was 3.12.1, is 3.11.7" in causes[1][1]
    assert next(cause.kind for cause in compared(first, large).causes) == "input"


def test_identical_runs_have_no_causes():
    """Where nothing differs there is nothing to explain, whatever else is another."""
    first = record(metrics={"a": 1.0}, environment=surroundings())
    assert compared(first, record(1, metrics={"a": 1.0}, environment=surroundings(numpy="3"))).causes == []


def test_what_is_not_recorded_is_said_to_be_unknown():
    """With nothing that differs, the verdict says where to look."""
    seed = Fields(seed=1)
    (cause,) = causes_of(record(seed=seed), record(1, seed=seed), NOTHING, 1.0, ())
    assert cause.kind == "unknown"


def test_paths_that_stand_for_each_other_are_no_cause():
    """The rebuilt folder in the config is not another setting."""
    a, b = record(config=Fields(data="/repo/d.csv")), record(1, config=Fields(data="/tmp/code/d.csv"))
    assert not any(cause.kind == "setting" for cause in causes_of(a, b, NOTHING, 1.0, [["/repo", "/tmp/code"]]))
    assert any(cause.kind == "setting" for cause in causes_of(a, b, NOTHING, 1.0, ()))
