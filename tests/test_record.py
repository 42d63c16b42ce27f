"""The fold: a record from the events alone, total over whatever they hold, and back from its own JSON."""

from __future__ import annotations

import dataclasses
import math
import pickle
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard import RuncardWarning, open_store, run
from runcard._points import points
from runcard.card import card_markdown
from runcard.journal import encode
from runcard.record import Fields, History, Point, RunRecord, Status, as_fields, fold

RUN = "20261123T101112-7k3f9q2m"
NAMES = st.sampled_from(["loss", "acc", "train/loss"])
STEPS = st.none() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False, width=16)
NUMBERS = st.integers(-(2**80), 2**80) | st.floats()
LOGS = st.builds(
    lambda step, metrics, t: {"kind": "log", "t": t, "step": step, "metrics": metrics},
    STEPS,
    st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=3),
    st.floats(0, 2e9),
)
KINDS = ["start", "log", "system", "config", "artifact", "input", "tag", "note", "name", "decision", "amend", "sink"]
KINDS += ["verdict", "loss", "files", "end", "durable", "x"]
FIELDS = [
    "t",
    "step",
    "metrics",
    "name",
    "experiment",
    "config",
    "config_types",
    "types",
    "config_hash",
    "alive",
    "attempt",
]
FIELDS += [
    "job",
    "process_rank",
    "seed",
    "tags",
    "notes",
    "text",
    "add",
    "remove",
    "decision",
    "reason",
    "by",
    "source",
]
FIELDS += [
    "path",
    "uri",
    "bytes",
    "sha256",
    "removed",
    "inputs",
    "environment",
    "function",
    "error",
    "result",
    "status",
]
FIELDS += [
    "resources",
    "exit_code",
    "is_best",
    "duration_s",
    "losses",
    "objective",
    "direction",
    "user",
    "host",
    "again",
]
FIELDS += ["schema_version", "parent_id"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5) | st.just("running"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | NAMES, inner, max_size=3),
    max_leaves=6,
)
HOSTILE = st.builds(
    lambda kind, fields: {"n": 0, **fields, "kind": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=8),
)
GOOD_START = {"n": 0, "kind": "start", "t": 1.0, "name": "good", "config": {"lr": 0.1}}
WRITERS = st.sampled_from(
    [
        "journal",
        "journal-attempt2",
        "journal-rank3",
        "journal-fork7x00",
        "journal-late",
        "journal-attempt2-rank1",
        "journal-rankx",
    ]
)


def start(t=100.0, **more):
    """A start event."""
    return {"kind": "start", "t": t, "name": "train", "experiment": "e", "config": {"lr": 0.1}, **more}


def log(step, t=101.0, **metrics):
    """A log event."""
    return {"kind": "log", "t": t, "step": step, "metrics": metrics}


def end(t=110.0, status="finished", **more):
    """An end event."""
    return {"kind": "end", "t": t, "status": status, "duration_s": 9.5, **more}


def folded(*events, **journals):
    """The record of the owner's events and of other writers' (`attempt2=[…]`)."""
    return fold(RUN, {"journal": list(events), **{f"journal-{name}": each for name, each in journals.items()}})


@settings(max_examples=150, deadline=None, derandomize=True)
@given(journals=st.dictionaries(WRITERS, st.lists(HOSTILE, max_size=6), max_size=3), first=st.booleans())
def test_the_fold_is_total(journals, first):
    """Whatever events hold, there is a record: it has a status, points, a card, and strict JSON that gives it back."""
    if first:
        journals["journal"] = [GOOD_START, *journals.get("journal", [])]
    record = fold(RUN, journals)
    assert record.run_id == RUN
    assert isinstance(record.status, Status)
    for mapping in (record.config, record.metrics, record.environment, record.resources, record.losses):
        assert isinstance(mapping, dict)
    assert all(type(value) in (int, float, bool) for value in record.metrics.values())
    assert all(isinstance(point.step, (int, float, type(None))) for point in points(journals))
    data = record.to_dict()
    strict = orjson.loads(orjson.dumps(data))
    again = RunRecord.from_dict(strict)
    assert orjson.dumps(again.to_dict()) == orjson.dumps(data)
    assert repr(record)
    assert card_markdown(record)
    if first:
        assert record.config.get("lr") == 0.1 or record.losses or len(journals["journal"]) > 1 or len(journals) > 1


@settings(max_examples=80, deadline=None, derandomize=True)
@given(logs=st.lists(LOGS, max_size=15))
def test_summaries_agree_with_the_history(logs):
    """Last, least, most, their steps and the count are those of the points, in the order logged."""
    journals = {"journal": [start(), *logs, end()]}
    record, history = fold(RUN, journals), list(points(journals))
    for name in {point.name for point in history}:
        mine = [point for point in history if point.name == name]
        summary = record.metric_summary[name]
        assert summary.count == len(mine)
        assert repr((summary.last, summary.last_step)) == repr((mine[-1].value, mine[-1].step))
        assert repr(record.metrics[name]) == repr(mine[-1].value)
        finite = [point for point in mine if not (isinstance(point.value, float) and not math.isfinite(point.value))]
        least = min(finite, key=lambda point: point.value, default=None)
        most = max(finite, key=lambda point: point.value, default=None)
        assert (summary.min, summary.min_step) == ((least.value, least.step) if least else (None, None))
        assert (summary.max, summary.max_step) == ((most.value, most.step) if most else (None, None))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(logs=st.lists(LOGS, max_size=8), value=NUMBERS, amended=NUMBERS)
def test_a_record_comes_back_from_its_own_json(logs, value, amended):
    """`from_dict(to_dict())` is the same record, NaN, infinities and huge integers included."""
    events = [start(tags=["a"], notes="n"), *logs, end(metrics={"val": value}, result={"model": "m"})]
    events.append({"kind": "amend", "t": 120.0, "metrics": {"val": amended}, "reason": "typo", "by": "me"})
    journals = {"journal": events}
    record = dataclasses.replace(fold(RUN, journals), metric_history=History(list(points(journals))))
    data = orjson.loads(orjson.dumps(record.to_dict()))
    again = RunRecord.from_dict(data)
    assert repr(again.to_dict()) == repr(record.to_dict())
    assert repr(list(again.metric_history)) == repr(list(record.metric_history))
    assert (again.started_at, again.status, again.tags) == (record.started_at, Status.FINISHED, ["a"])
    assert repr(again.metrics.val) == repr(amended)


def test_integers_beyond_floats_are_summed_up_exact():
    """An integer that no float can hold has its place in metrics and summary."""
    record = folded(start(), log(0, x=10**400), log(1, x=3), end())
    assert (record.metric_summary.x.max, record.metric_summary.x.min, record.metrics.x) == (10**400, 3, 3)
    assert record.losses == {}


def test_marks_of_numbers_where_no_numbers_are_stay_marks(tmp_path):
    """A hostile journal makes no record that strict JSON cannot hold, nor one that changes on its way back."""
    wide = {"$int": "0x1" + "0" * 40}
    places = {"environment": {"x": wide}, "function": wide, "alive": {"x": wide}}
    places["inputs"] = [{"path": "/d", "bytes": wide}]
    events = [
        start(**places, process_rank=wide, seed={"x": wide}),
        log(wide, loss=1.0),
        log(1, t=wide, loss=wide),
        {"kind": "artifact", "t": 1.0, "path": "a", "bytes": wide},
        end(error={"type": "X", "notes": [wide]}, exit_code=wide, duration_s=wide),
    ]
    (tmp_path / RUN).mkdir()
    path = tmp_path / RUN / "journal.jsonl"
    path.write_bytes(b"".join(encode({"n": n, **event}) for n, event in enumerate(events)))
    record = open_store(tmp_path).get(RUN)
    data = orjson.dumps(record.to_dict())
    assert orjson.dumps(RunRecord.from_dict(orjson.loads(data)).to_dict()) == data
    assert record.environment.x == wide
    assert record.losses["damaged"] >= 3


def test_a_run_without_end_is_running_and_one_with_an_end_is_what_it_says():
    """The fold derives nothing: it repeats the last word, and without one the run goes on."""
    assert folded(start(), log(0, loss=1.0)).status is Status.RUNNING
    record = folded(start(), end(status="failed", error={"type": "ValueError"}, exit_code=1))
    assert (record.status, record.error.type, record.exit_code) == (Status.FAILED, "ValueError", 1)
    assert record.ended_at == datetime.fromtimestamp(110.0, UTC)
    assert record.duration_s == 9.5


def test_a_run_without_a_start_still_has_a_record():
    """A lost start event costs what it said and nothing else."""
    record = folded(log(0, loss=1.0), end())
    assert (record.name, record.experiment, record.status, record.metrics) == ("", "", Status.FINISHED, {"loss": 1.0})


def test_a_later_attempt_does_steps_over():
    """Summaries take the latest attempt of each step; the history keeps all points with their attempt."""
    journals = {
        "journal": [start(), log(0, loss=5.0), log(1, loss=4.0), log(2, loss=9.0)],
        "journal-attempt2": [start(200.0, attempt=2), log(1, loss=3.0), log(2, loss=2.0), end(210.0)],
    }
    record = fold(RUN, journals)
    assert record.metrics.loss == 2.0
    assert record.metric_summary.loss == {
        "last": 2.0, "last_step": 2, "min": 2.0, "min_step": 2, "max": 5.0, "max_step": 0, "count": 3,
    }  # fmt: skip
    assert [(p.step, p.value, p.attempt) for p in points(journals)] == [
        (0, 5.0, 1),
        (1, 4.0, 1),
        (2, 9.0, 1),
        (1, 3.0, 2),
        (2, 2.0, 2),
    ]
    assert record.started_at == datetime.fromtimestamp(100.0, UTC)
    assert [entry.status for entry in record.attempts] == ["crashed", "finished"]


def test_an_error_of_an_earlier_attempt_is_not_the_runs():
    """A run that failed, was resumed and finished has no error."""
    record = folded(
        start(),
        end(status="failed", error={"type": "ValueError"}, exit_code=1),
        attempt2=[start(200.0, attempt=2), end(210.0)],
    )
    assert (record.status, record.error, record.exit_code) == (Status.FINISHED, None, None)


def test_a_finished_attempt_is_followed_by_the_state_of_the_next():
    """While a second attempt goes on the run does, whatever the first one's last word was."""
    record = folded(start(), end(status="failed"), attempt2=[start(200.0, attempt=2), log(3, loss=1.0)])
    assert record.attempts[-1].status == "running"


def test_ranks_add_files_and_losses_but_no_metrics():
    """`metrics` and the end are rank 0's; artifacts, inputs and losses are everybody's; `.history(rank=)` any one's."""
    journals = {
        "journal": [start(), log(0, loss=1.0), end()],
        "journal-rank1": [
            start(process_rank=1),
            log(0, loss=7.0),
            {"kind": "artifact", "t": 102.0, "name": "a", "path": "artifacts/a", "bytes": 1, "losses": {"cut": 2}},
            {"kind": "input", "t": 102.0, "path": "/data", "bytes": 3},
            end(status="failed", error={"type": "X"}),
        ],
    }
    record = fold(RUN, journals)
    assert (record.metrics, record.status, record.error) == ({"loss": 1.0}, Status.FINISHED, None)
    assert ([a.name for a in record.artifacts], [i.path for i in record.inputs], record.losses) == (
        ["a"],
        ["/data"],
        {"cut": 2},
    )
    assert [point.value for point in points(journals)] == [1.0]
    assert [point.value for point in points(journals, rank=1)] == [7.0]
    assert [point.value for point in points(journals, rank=2)] == []


def test_forked_childrens_points_are_the_runs_by_their_time():
    """A child's steps stand among the run's own, in the order logged."""
    journals = {
        "journal": [start(), log(0, t=101.0, loss=1.0), log(2, t=105.0, loss=3.0), end()],
        "journal-fork9xaa": [log(1, t=103.0, loss=2.0)],
    }
    assert [point.step for point in points(journals)] == [0, 1, 2]
    assert fold(RUN, journals).status is Status.FINISHED


def test_order_goes_by_sequence_not_by_the_clock():
    """A clock that jumps back changes neither the last value nor the order of the history."""
    journals = {"journal": [start(), log(0, t=5_000.0, loss=1.0), log(1, t=1_400.0, loss=2.0), end(t=1_500.0)]}
    record = fold(RUN, journals)
    assert record.metrics.loss == 2.0
    assert [point.step for point in points(journals)] == [0, 1]
    assert record.duration_s == 9.5


def test_a_crashed_runs_duration_goes_up_to_its_last_event():
    """Without an end the last sign of life counts, never less than nothing, and a later judgement is none."""
    late = {"kind": "note", "t": 9_999.0, "text": "late"}
    assert folded(start(), log(0, t=104.0, loss=1.0), late).attempts[-1].duration_s == 4.0
    assert folded(start(), log(0, t=1.0, loss=1.0)).attempts[-1].duration_s == 0.0


def test_the_last_decision_stands_and_all_are_kept():
    """Judgements are appended: the latest one stands, the others remain to be read."""
    record = folded(
        start(),
        {"kind": "decision", "t": 104.0, "decision": "keep", "reason": "good", "source": "code"},
        end(),
        {"kind": "decision", "t": 200.0, "decision": "discard", "reason": "leak", "by": "me", "source": "later"},
    )
    assert (record.decision, record.decision_reason) == ("discard", "leak")
    assert [(entry.decision, entry.source) for entry in record.decisions] == [("keep", "code"), ("discard", "later")]


def test_tags_notes_and_names_follow_in_turn():
    """Tags are added and taken away in order, notes are lines, the last name is the name."""
    record = folded(
        start(tags=["a", "b"], notes="first"),
        {"kind": "tag", "t": 101.0, "add": ["c"], "remove": ["a"]},
        {"kind": "note", "t": 102.0, "text": "second"},
        end(),
        {"kind": "name", "t": 120.0, "name": "better"},
    )
    assert (record.tags, record.notes, record.name) == (["b", "c"], "first\nsecond", "better")


def test_an_amendment_stands_before_the_returned_and_that_before_the_logged_value():
    """The corrected value is the metric; what it was stays beside it."""
    record = folded(
        start(),
        log(0, acc=0.1),
        end(metrics={"acc": 0.5}),
        {"kind": "amend", "t": 120.0, "metrics": {"acc": 0.7}, "reason": "wrong split"},
    )
    assert record.metrics.acc == 0.7
    assert (record.amendments[0].before, record.amendments[0].metrics) == ({"acc": 0.5}, {"acc": 0.7})
    assert record.metric_summary.acc.last == 0.1


def test_losses_of_all_events_add_up():
    """What any event could not hold is counted by kind; kinds unknown today are kept."""
    record = fold(
        RUN,
        {"journal": [start(losses={"cut": 1}), {"kind": "loss", "t": 1.0, "losses": {"cut": 2, "x": 1}}, end()]},
        losses={"damaged": 1},
    )
    assert record.losses == {"damaged": 1, "cut": 3, "x": 1}


def test_kinds_and_fields_of_a_later_version_are_left_aside():
    """A reader of today reads what it knows of a journal of tomorrow, and counts no damage."""
    record = folded(start(), {"kind": "quantum", "t": 103.0, "spin": 1}, end(future=1))
    assert (record.status, record.losses) == (Status.FINISHED, {})
    assert RunRecord.from_dict({**record.to_dict(), "future": 1}) == record


def test_an_event_of_the_wrong_shape_costs_itself_alone():
    """A field that is not what its name says is counted as damage, the rest of the event stays."""
    record = folded(start(config=[1], tags="abc", seed=3), log("x", loss=1.0), log(1, loss="low"), end(duration_s="9"))
    assert (record.name, record.config, record.tags, record.duration_s) == ("train", {}, [], 1.0)
    assert record.metrics == {}
    assert record.losses == {"damaged": 4}


def test_durability_is_disk_only_by_an_event_after_the_end():
    """`durable` makes it so; the end of another attempt takes it back."""
    durable = {"kind": "durable", "t": 111.0}
    assert folded(start(durability="disk"), end()).durability == "process"
    assert folded(start(), end(), durable).durability == "disk"
    assert folded(start(), end(status="failed"), durable, attempt2=[start(attempt=2), end()]).durability == "process"


def test_a_record_is_frozen_compares_and_pickles():
    """A record is a value: nobody changes it, a copy is equal, it goes through a pickle with its history."""
    record = dataclasses.replace(folded(start(), end()), metric_history=History(lambda: [Point("a", 0, 1.0, 2.0)]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.status = Status.FAILED
    copy = pickle.loads(pickle.dumps(record))
    assert copy == record
    assert copy.config.lr == 0.1
    assert list(copy.metric_history) == [Point("a", 0, 1.0, 2.0)]


def test_fields_read_as_attributes_all_the_way_down():
    """Mappings of a record have their entries as attributes, and name them when one is missing."""
    fields = as_fields({"a": {"b": [{"c": 1}]}})
    assert fields.a.b[0].c == 1
    assert isinstance(fields.a, Fields)
    with pytest.raises(AttributeError, match="no field 'x'; there are: a"):
        _ = fields.x


def test_a_history_is_read_when_it_is_looked_at():
    """Nothing is loaded by having a history; iterating keeps nothing; indexing reads once."""
    loads = []

    def load():
        loads.append(1)
        return iter([Point("a", n, n / 2, 0.0) for n in range(3)])

    history = History(load)
    assert loads == []
    assert [point.step for point in history] == [0, 1, 2]
    assert (len(history), history[-1].value, history[:2][1].step) == (3, 1.0, 1)
    assert len(loads) == 2
    assert history == list(load())


def test_the_short_id_and_the_repr_say_which_run_it_is():
    """The short id is the last eight characters; the repr has name, status, judgement and first metrics."""
    record = folded(start(), log(0, loss=0.25), {"kind": "decision", "t": 1.0, "decision": "keep"}, end())
    assert record.short_id == "7k3f9q2m"
    assert repr(record) == "<RunRecord 7k3f9q2m train finished keep loss=0.25>"
    beyond = folded(start(), log(0, loss=-(10**5000)), end())
    assert "loss=-~2^16610" in repr(beyond)


def test_a_repr_is_one_line_that_no_terminal_obeys():
    """Escape sequences, line breaks and bidirectional marks of names are escapes; other letters stay as they are."""
    record = folded(start(name="実験\x1b[31m\u202e\n"), log(0, **{"a\x1b]0;b\x07": 1}), end())
    assert repr(record) == r"<RunRecord 7k3f9q2m 実験\x1b[31m\u202e\n finished a\x1b]0;b\x07=1>"


class Sullen:
    """Says nothing of itself."""

    def __repr__(self):
        raise RuntimeError("no")


def test_a_name_that_compares_in_a_way_of_its_own_is_its_text(store):
    """A text of another class, whose ``==`` or hash raises, is neither compared nor hashed."""

    class Name(str):
        __slots__ = ()
        hashed = 0

        def __eq__(self, other):
            raise ValueError("mine")

        def __hash__(self):
            Name.hashed += 1
            assert Name.hashed < 2
            return super().__hash__()

    metrics = {Name("loss"): 0.5}
    with run("named") as r:
        for step in range(3):
            r.log(loss=1.0, step=step)
            r.log(metrics, step=step)
    assert [point.value for point in store.history(r.run_id, "loss")] == [1.0, 0.5] * 3


@pytest.mark.parametrize("step", [2**64, -(2**64), 10**5000, float("nan"), "seven", [1], Sullen()], ids=range(7))
def test_a_step_that_is_no_json_number_is_counted_and_raises_nothing(step, store):
    """The value is recorded at the point's count, with one warning; the next step is as ever."""
    with run("steps") as r:
        with pytest.warns(RuncardWarning, match="the points are counted"):
            r.log(loss=0.5, step=step)
        r.log(loss=0.25, step=2**63 - 1)
    record = store.get("steps")
    assert [(point.step, point.value) for point in record.metric_history] == [(0, 0.5), (2**63 - 1, 0.25)]
    assert record.losses == {"bad_step": 1}


@pytest.mark.parametrize("time", [1e18, -1e18, 1e308, 1e12])
def test_a_time_that_no_calendar_has_is_damage(time):
    """The record is read all the same, whatever the system raises for such a time."""
    record = folded({**start(), "t": time}, log(0, loss=0.25), end())
    assert record.metrics == {"loss": 0.25}
    assert record.losses["damaged"] >= 1
