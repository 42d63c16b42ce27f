"""What a run becomes in OpenTelemetry, decoded from the real protobuf: span, resource, gauges and log records."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from otlp_receivers import attributes, events_of, plain, resource, step, value
from records import BEGAN, record

from runcard import attach, configure, log, run
from runcard.record import History, Point, Status
from runcard.sinks import otel
from runcard.sinks._otel_run import plain as attribute


def test_a_run_is_a_span_with_its_times_config_and_end(either, store):
    """The span has the record's times to the microsecond, and config, judgement and metrics as attributes."""
    config = {
        "lr": 0.1,
        "layers": [1, 2],
        "model": {"depth": 3, "x.y": None},
        "big": 2**70,
        "odd": math.nan,
        "mix": [1, "a"],
    }
    with run("train", config=config, sinks=["file:", either.url], tags=["quick"], notes="first") as r:
        r.log(loss=0.5)
        r.log(loss=0.25)
        r.artifact_path("model.bin").write_bytes(b"weights")
        r.keep("good")
    ((span, _),) = either.spans
    here, told = store.get(r.run_id), attributes(span)
    assert (span.name, span.kind, span.status.code) == ("train", span.SPAN_KIND_INTERNAL, 0)
    assert span.start_time_unix_nano == round(here.started_at.timestamp() * 1e6) * 1000
    assert span.end_time_unix_nano == round(here.ended_at.timestamp() * 1e6) * 1000
    assert span.span_id == hashlib.sha256(r.run_id.encode()).digest()[:8]
    assert span.trace_id == hashlib.sha256(r.run_id.encode()).digest()[:16]
    assert span.parent_span_id == b""
    expected = {
        "runcard.run_id": r.run_id,
        "runcard.experiment": here.experiment,
        "runcard.status": "finished",
        "runcard.tags": ["quick"],
        "runcard.notes": "first",
        "runcard.decision": "keep",
        "runcard.decision_reason": "good",
        "runcard.config.lr": 0.1,
        "runcard.config.layers": [1, 2],
        "runcard.config.model.depth": 3,
        'runcard.config.model["x.y"]': "null",
        "runcard.config.big": str(2**70),
        "runcard.config.mix": '[1,"a"]',
        "runcard.metrics.loss": 0.25,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert math.isnan(told["runcard.config.odd"])
    events = {event.name: attributes(event) for event in span.events}
    assert events["runcard.decision"] == {"runcard.decision": "keep", "runcard.decision_reason": "good"}
    assert events["runcard.artifact"]["runcard.artifact.name"] == "model.bin"
    assert events["runcard.artifact"]["runcard.artifact.sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_the_resource_speaks_the_semantic_conventions(receiver, store):
    """Service, host, process, system, SDK and commit have OpenTelemetry's names and the record's values."""
    configure(sinks=["file:", receiver.url])
    with run("train") as r:
        log(loss=1.0)
    here = store.get(r.run_id)
    ((_, told),) = receiver.spans
    assert told["service.name"] == "runcard"
    assert told["telemetry.sdk.language"] == "python"
    assert told["host.name"] == here.host
    assert told["process.pid"] == os.getpid()
    assert told["process.runtime.version"] == here.environment.python.version
    assert told["process.command_args"] == here.environment.command.orig_argv
    assert told["os.type"] == "linux"
    for signal, message in receiver.requests:
        outer = next(iter(getattr(message, {"traces": "resource_spans", "metrics": "resource_metrics"}[signal])))
        assert resource(outer) == told


def test_the_users_own_resource_goes_first(receiver, monkeypatch):
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES name the service and add to the resource."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,team=vision%20lab,host.name=h1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "resnet")
    with run("train", sinks=[receiver.url]):
        pass
    told = receiver.spans[0][1]
    assert (told["service.name"], told["team"], told["host.name"]) == ("resnet", "vision lab", "h1")


def test_children_are_child_spans_in_their_topmost_runs_trace(receiver):
    """Children and grandchildren share the trace of the topmost run, each below its parent."""
    configure(sinks=["file:", receiver.url])
    with run("top") as top, run("middle") as middle, run("inner"):
        pass
    spans = {span.name: span for span, _ in receiver.spans}
    assert set(spans) == {"top", "middle", "inner"}
    assert {span.trace_id for span in spans.values()} == {hashlib.sha256(top.run_id.encode()).digest()[:16]}
    assert spans["middle"].parent_span_id == spans["top"].span_id
    assert spans["inner"].parent_span_id == hashlib.sha256(middle.run_id.encode()).digest()[:8]


def test_a_child_in_another_process_lands_in_the_same_trace(receiver, tmp_path):
    """A grandchild made by a subprocess finds the topmost run through the store, by token or by the environment."""
    code = f"from runcard import run\nwith run('there', sinks=['file:', {receiver.url!r}]):\n    pass"
    with run("top", sinks=["file:", receiver.url]) as top, run("middle", sinks=["file:"]) as middle:
        environment = {**os.environ, "RUNCARD_PARENT": middle.token()}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    there = receiver.span("there")
    assert there.trace_id == receiver.span("top").trace_id == hashlib.sha256(top.run_id.encode()).digest()[:16]
    assert there.parent_span_id == hashlib.sha256(middle.run_id.encode()).digest()[:8]


def test_a_run_launched_by_an_ended_one_is_linked_to_it(receiver):
    """A token whose run has ended makes a span of its own trace, with a link to the other's."""
    configure(sinks=["file:", receiver.url])
    with run("first") as first:
        token = first.token()
    with attach(token), run("second") as second:
        pass
    span = receiver.span("second")
    assert span.parent_span_id == b""
    assert span.trace_id == hashlib.sha256(second.run_id.encode()).digest()[:16]
    (link,) = span.links
    assert (link.trace_id, link.span_id) == (receiver.span("first").trace_id, receiver.span("first").span_id)
    assert attributes(link) == {"runcard.link": "launched_by"}


def test_exceptions_are_events_and_the_status_is_an_error(either):
    """A failure is an exception event with its stack, its causes are more of them, and the span has an error status."""
    with pytest.raises(RuntimeError, match="bad"), run("train", sinks=[either.url]):
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("bad") from error
    ((span, _),) = either.spans
    told, cause = [attributes(event) for event in span.events if event.name == "exception"]
    assert (told["exception.type"], told["exception.message"]) == ("RuntimeError", "bad")
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert told["exception.stacktrace"].endswith("RuntimeError: bad")
    assert "int(" in cause["exception.stacktrace"]
    assert (cause["exception.type"], cause["runcard.exception.how"]) == ("ValueError", "cause")
    assert (span.status.code, span.status.message) == (2, "RuntimeError: bad")
    assert attributes(span)["error.type"] == "RuntimeError"
    assert attributes(span)["runcard.exit_code"] == 1


def test_metrics_are_gauges_at_the_times_they_were_logged(either, store):
    """Every point comes once, with its own time, its exact value and its step in the exemplar, not in the series."""
    with run("train", sinks=["file:", either.url]) as r:
        r.log(step=3, loss=0.1 + 0.2, count=2**53 + 1)
        r.log(step=1, loss=math.inf, count=2**64)
    points = either.points
    loss = [point for name, point in points if name == "loss"]
    assert [(value(point), step(point)) for point in loss] == [(0.1 + 0.2, 3), (math.inf, 1)]
    count = [point for name, point in points if name == "count"]
    assert [value(point) for point in count] == [2**53 + 1, float(2**64)]
    exact = {pair.key: plain(pair.value) for pair in count[1].exemplars[0].filtered_attributes}
    assert exact["runcard.exact"] == str(2**64)
    times = [point.time for point in store.history(r.run_id, "loss")]
    assert [point.time_unix_nano for point in loss] == pytest.approx([time * 1e9 for time in times], abs=500)
    series = {"runcard.run_id": r.run_id, "runcard.name": "train", "runcard.experiment": r.experiment}
    assert all(attributes(point) == series for _, point in points)
    assert loss[0].exemplars[0].span_id == hashlib.sha256(r.run_id.encode()).digest()[:8]


def test_the_step_is_an_attribute_when_asked_for(receiver):
    """With ?step=1 each point has its step among its attributes."""
    with run("train", sinks=[f"{receiver.url}?step=1"]) as r:
        r.log(step=7, loss=0.5)
    ((_, point),) = receiver.points
    assert attributes(point)["runcard.step"] == 7


def test_a_name_that_is_no_instruments_is_replaced_and_kept(receiver):
    """A metric's name with characters that OpenTelemetry does not take has them replaced; the whole is an attribute."""
    with run("train", sinks=[receiver.url]) as r:
        r.log({"train/loss": 1.0, "val loss %": 2.0, "1st": 3.0, "é": 4.0})
    named = {name: attributes(point).get("runcard.metric") for name, point in receiver.points}
    assert named == {"train/loss": None, "val_loss__": "val loss %", "metric_1st": "1st", "metric__": "é"}


def test_many_points_go_in_several_requests_in_their_order(receiver, store):
    """A long history is split into requests of bounded size; nothing is lost, and a series stays in its order."""
    with run("train", sinks=["file:"]) as r:
        for number in range(250):
            r.log({f"metric{index}": number for index in range(40)})
    otel.open_sink(receiver.url).extend(r.run_id, events_of(r))
    assert [value(point) for name, point in receiver.points if name == "metric7"] == list(range(250))
    assert len(receiver.points) == 10_000
    assert max(message.ByteSize() for _, message in receiver.requests) < 1_000_000
    assert len(receiver.requests) == 5


def test_notes_and_judgements_are_log_records(either):
    """Notes, given at the start or later, and decisions are logs of the run's span, with what tells them apart."""
    with run("train", notes="at first", sinks=[either.url]) as r:
        r.note("looks fine")
        r.tag("odd")
        r.discard("leak")
    logs = either.logs
    assert [entry.body.string_value for entry in logs] == ["at first", "looks fine", "tagged odd", "discard: leak"]
    assert [entry.event_name for entry in logs] == ["runcard.note", "runcard.note", "runcard.tag", "runcard.decision"]
    assert {entry.span_id for entry in logs} == {hashlib.sha256(r.run_id.encode()).digest()[:8]}
    told = [attributes(entry) for entry in logs]
    assert [(entry["runcard.writer"], entry["runcard.event"]) for entry in told] == [("journal", n) for n in range(4)]
    assert all(entry.time_unix_nano for entry in logs)


def test_console_lines_are_log_records_in_their_order(receiver):
    """What a run that captures its console printed comes line by line, and sorted by time it stays in order."""
    with run("train", sinks=["file:", receiver.url], capture=["console"]):
        print("one\n\nthree")
        print("error", file=sys.stderr)
    lines = sorted(receiver.logs, key=lambda entry: entry.observed_time_unix_nano)
    assert [entry.body.string_value for entry in lines] == ["one", "", "three", "error"]
    assert [attributes(entry)["runcard.line"] for entry in lines] == [1, 2, 3, 4]
    assert len({entry.observed_time_unix_nano for entry in lines}) == 4
    assert lines[-1].observed_time_unix_nano < receiver.span("train").end_time_unix_nano


def test_the_code_is_told_by_commit_branch_and_repository(receiver, tmp_path):
    """A function's repository is in the resource without its credentials, the function in the span."""

    def git(*arguments):
        who = ("-c", "user.name=ana", "-c", "user.email=ana@example.com")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "script.py").write_text(TRACKED)
    git("init", "-q", "-b", "trunk")
    git("remote", "add", "origin", "https://ana:hunter2@git.example.com/lab/model.git")
    git("add", "script.py")
    git("commit", "-q", "-m", "first")
    subprocess.run([sys.executable, "script.py", receiver.url], cwd=tmp_path, check=True, capture_output=True)
    ((span, told),) = receiver.spans
    assert told["vcs.ref.head.revision"] == git("rev-parse", "HEAD")
    assert (told["vcs.ref.head.name"], told["vcs.ref.head.type"]) == ("trunk", "branch")
    assert told["vcs.repository.url.full"] == "https://git.example.com/lab/model.git"
    said = attributes(span)
    assert said["code.function.name"] == "__main__.Trainer.train"
    assert said["code.file.path"].endswith("script.py")
    assert said["code.line.number"] == 5


TRACKED = """
import sys
from runcard import configure, tracked
class Trainer:
    @tracked
    def train(self, lr=0.1):
        return {"loss": lr}
configure(sinks=["file:", sys.argv[1]])
Trainer().train()
"""


def test_a_long_output_goes_in_several_requests(receiver, store):
    """Lines are split into requests of bounded size, whatever their number."""
    with run("train", sinks=["file:"], capture=["console"]) as r:
        for number in range(2_000):
            print(f"{number} {'x' * 500}")
    otel.open_sink(receiver.url).finish(store.get(r.run_id))
    assert [int(entry.body.string_value.split()[0]) for entry in receiver.logs] == list(range(2_000))
    assert max(message.ByteSize() for _, message in receiver.requests) < 1_000_000


def test_attributes_stay_within_limits_and_what_was_left_out_is_said(receiver, monkeypatch):
    """At most 128 attributes of at most 4,096 characters; the span says which were dropped and which were cut."""
    config = {"long": "x" * 10_000, **{f"name{number}": number for number in range(300)}}
    with run("train", config=config, sinks=[receiver.url]) as r:
        r.note("y" * 10_000)
    span = receiver.span("train")
    told = attributes(span)
    assert len(span.attributes) == 128
    assert told["runcard.config.long"] == "x" * 4_096
    assert told["runcard.cut_attributes"] == ["runcard.notes", "runcard.config.long"]
    assert told["runcard.dropped_attributes"][-1].startswith("and ")
    assert span.dropped_attributes_count > 170
    assert receiver.logs[0].body.string_value == "y" * 10_000
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "10")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")
    with run("small", config=config, sinks=[f"{receiver.url}/"]):
        pass
    told = attributes(receiver.span("small"))
    assert len(told) == 10
    assert told["runcard.status"] == "finis"


def test_a_record_without_a_journal_brings_its_points(receiver):
    """A run that no disk took is exported as far as its record tells it."""
    given = record(1, notes="n", metric_history=History([Point("loss", 0, 2.0, 1_795_000_000.5)]))
    otel.open_sink(receiver.url).finish(given)
    ((name, point),) = receiver.points
    assert (name, value(point), point.time_unix_nano) == ("loss", 2.0, 1_795_000_000_500_000_000)
    assert [entry.body.string_value for entry in receiver.logs] == ["n"]
    assert len(receiver.spans) == 1


def test_another_ranks_points_are_a_series_of_their_own(receiver, store):
    """What rank 3 of a launch logged carries its rank; the owner's points carry none."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
    sink, events = otel.open_sink(receiver.url), events_of(r)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events)
    sink.extend(r.run_id, [{**event, "writer": "journal-rank3"} for event in events])
    assert [attributes(point).get("runcard.rank") for _, point in receiver.points] == [None, 3]


def test_runs_without_folders_find_their_trace_by_those_before(receiver):
    """Where there are no journals to look at, as in a copy from a database, the runs that came before are known."""
    sink = otel.open_sink(receiver.url)
    top = record(1, name="top")
    middle = record(2, name="middle", parent_id=top.run_id)
    for each in (top, middle, record(3, name="inner", parent_id=middle.run_id)):
        sink.start(each)
        sink.finish(each)
    assert {span.trace_id for span, _ in receiver.spans} == {hashlib.sha256(top.run_id.encode()).digest()[:16]}


def test_many_events_never_crowd_out_the_exception(receiver):
    """Of more than 128 events the exception stays, and the count of the dropped is told."""
    files = [{"name": f"f{number}", "path": f"artifacts/f{number}"} for number in range(200)]
    error = {"type": "ValueError", "message": "bad", "traceback": "x" * 50_000, "causes": []}
    otel.open_sink(receiver.url).finish(record(1, status=Status.FAILED, artifacts=files, error=error))
    span = receiver.span("train")
    (told,) = [attributes(event) for event in span.events if event.name == "exception"]
    assert (len(span.events), span.dropped_events_count) == (128, 73)
    assert len(told["exception.stacktrace"]) < 17_000
    assert told["exception.stacktrace"].endswith("x\nValueError: bad")


def test_a_renamed_run_goes_on_in_its_series(receiver):
    """The name among a point's attributes is the first one: another would begin another series."""
    sink = otel.open_sink(receiver.url)
    given = record(1)
    log_event = {"n": 1, "kind": "log", "t": 1_795_000_000.0, "writer": "journal", "metrics": {"loss": 1.0}}
    sink.start(given)
    sink.extend(given.run_id, [log_event])
    sink.start(record(1, name="better"))
    sink.extend(given.run_id, [{**log_event, "n": 2}])
    assert [attributes(point)["runcard.name"] for _, point in receiver.points] == ["train", "train"]


def test_no_span_ends_before_it_began(receiver):
    """When the clock was set back during a run, and when a run crashed, the end follows from the duration."""
    sink = otel.open_sink(receiver.url)
    sink.finish(record(1, ended_at=BEGAN - timedelta(hours=1), duration_s=2.5))
    sink.finish(record(2, ended_at=None, duration_s=3.0, status=Status.CRASHED))
    lengths = [span.end_time_unix_nano - span.start_time_unix_nano for span, _ in receiver.spans]
    assert lengths == [2_500_000_000, 3_000_000_000]


def test_texts_and_numbers_that_protobuf_cannot_hold_arrive_all_the_same(receiver):
    """Lone surrogates are escaped; an integer beyond every float is infinite, with its digits beside it."""
    history = History([Point("big", 0, 10**400, 1_795_000_000.0), Point("small", 0, -(10**400), 1_795_000_000.0)])
    otel.open_sink(receiver.url).finish(record(1, name="a\udc80", tags=["\udc80"], metric_history=history))
    assert attributes(receiver.span("a\\udc80"))["runcard.tags"] == ["\\udc80"]
    assert [value(point) for _, point in receiver.points] == [math.inf, -math.inf]
    told = {pair.key: plain(pair.value) for pair in receiver.points[0][1].exemplars[0].filtered_attributes}
    assert told["runcard.exact"] == str(10**400)


def test_integers_of_more_digits_than_python_writes():
    """They are texts in hexadecimal; those beyond 64 bits keep their digits."""
    assert [attribute(2**63 - 1), attribute(2**70), attribute(10**5000)] == [2**63 - 1, str(2**70), hex(10**5000)]
    assert hex(10**5000) in str(attribute([10**5000, 1]))
