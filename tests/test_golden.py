"""A run of schema version 1, written long ago, must stay readable for ever, in full."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from runcard import RunRecord, open_store

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def record() -> RunRecord:
    """The golden run, read."""
    (folder,) = (path for path in (GOLDEN / "v1").iterdir() if path.is_dir())
    return open_store(GOLDEN / "v1").get(folder.name)


def test_the_whole_record_is_as_it_was_written(record):
    """Every field that version 1 had reads as it did when the run was made; later versions may add fields."""
    expected = json.loads((GOLDEN / "v1.json").read_text("utf-8"))
    found = record.to_dict()
    assert {name: found[name] for name in expected} == expected


def test_numbers_that_json_has_no_form_for_come_back(record):
    """NaN, infinities and big integers are numbers again, in metrics, in the config and in the history."""
    assert record.metrics["peak"] == math.inf
    assert record.metrics["seen"] == 2**70
    assert record.config["top"] == 10**20
    assert record.config["floor"] == -math.inf
    assert [point.step for point in record.metric_history if math.isnan(point.value)] == [4]


def test_the_second_attempt_goes_on_where_the_first_was_killed(record):
    """The history has both attempts' points; the summary counts the latest attempt of each step."""
    steps = [(point.attempt, point.step) for point in record.metric_history if point.name == "loss"]
    assert steps == [(1, 0), (1, 2), (2, 2), (2, 3), (2, 4), (2, 5)]
    assert record.metric_summary["loss"]["count"] == 5
    told = [(entry.attempt, entry.process_rank, entry.status) for entry in record.attempts]
    assert told == [(1, 0, "crashed"), (1, 1, "finished"), (2, None, "finished")]


def test_a_damaged_line_costs_itself_alone(record):
    """The line that was changed is counted, and the points around it are there."""
    assert record.losses["damaged"] == 1
    assert 1 not in [point.step for point in record.metric_history]


def test_what_was_said_later_stands(record):
    """Decisions, tags, notes, names and corrections made after the end hold, and the earlier ones are kept."""
    assert (record.name, record.decision, record.decision_reason) == ("golden", "keep", "kept after all")
    assert [entry.decision for entry in record.decisions] == ["discard", "keep"]
    assert record.tags == ["golden", "late"]
    assert record.notes == "made once\nthe second attempt is the one that counts"
    assert record.metrics["accuracy"] == 0.92
    assert record.amendments[0].before == {"accuracy": 0.93}


def test_another_rank_has_a_history_of_its_own(record):
    """Rank 1's points are read from its own journal, and its artifact is the run's."""
    store = open_store(GOLDEN / "v1")
    assert [point.value for point in store.history(record.run_id, "loss", rank=1)][:2] == [2.0, 1.5]
    assert [artifact.path for artifact in record.artifacts] == ["artifacts/weights-1.txt", "artifacts/weights-0.txt"]
    assert all((Path(record.folder) / artifact.path).is_file() for artifact in record.artifacts)


def test_no_secret_is_in_the_golden_run():
    """The password that the function was called with is in no file of the run."""
    assert not any(b"hunter2" in path.read_bytes() for path in (GOLDEN / "v1").rglob("*") if path.is_file())
