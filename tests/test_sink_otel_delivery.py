"""OTLP receivers that are down, busy, choosy or told twice: nothing is lost, and what comes again is the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings

import grpc
import pytest
from command_line import call
from otlp_receivers import attributes, events_of, sent, step, value, wait_until
from records import record

from runcard import RuncardWarning, _courier, configure, open_store, run
from runcard.errors import SettingError, StoreError
from runcard.record import History, Point
from runcard.sinks import otel
from runcard.testing import check_sink


def test_nothing_is_lost_while_the_receiver_is_down(either, monkeypatch):
    """What a run could not deliver comes with `runcard sync` when the receiver is up again, all of it and in order."""
    monkeypatch.setattr(_courier, "AGAIN_S", (600.0, 600.0))  # what this process tries once more comes too late
    either.down()
    configure(sinks=["file:", either.url], deadline=0.2)
    with pytest.warns(RuncardWarning, match="took not all of the run"), run("train") as r:
        for number in range(20):
            r.log(loss=number)
        r.note("by hand")
    assert call("doctor", either.url).exit_code == 2
    either.up()
    done = call("sync")
    assert (done.exit_code, "1 run delivered" in done.stdout) == (0, True), done
    assert {value(point): step(point) for _, point in either.points} == {number: number for number in range(20)}
    assert {entry.body.string_value for entry in either.logs} == {"by hand"}
    assert {span.span_id for span, _ in either.spans} == {hashlib.sha256(r.run_id.encode()).digest()[:8]}
    assert call("sync").stdout == "0 runs delivered\n"


@pytest.mark.parametrize("trouble", [429, 500, 502, 503])
def test_an_answer_that_asks_for_patience_is_tried_again(receiver, trouble):
    """A receiver that is too busy for a while gets everything later, within the same run, and no point twice."""
    receiver.trouble = {"all": trouble}
    with run("train", sinks=["file:", receiver.url]) as r:
        for number in range(5):
            r.log(loss=number)
        wait_until(lambda: receiver.asked >= 2)
        receiver.trouble = {}
    assert [value(point) for _, point in receiver.points] == [0, 1, 2, 3, 4]
    assert len(receiver.spans) == 1


KILLED = """
import os, signal, sys
from runcard import run
with run("killed", sinks=["file:", sys.argv[1]]) as r:
    for number in range(10):
        r.log(loss=number)
    r.note("last words")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_delivers_what_a_killed_one_left(either):
    """A run that was killed is a span with an error, its points and notes with it, from the next run with the sink."""
    assert subprocess.run([sys.executable, "-c", KILLED, either.url], check=False).returncode == -9
    assert either.spans == []
    configure(sinks=["file:", either.url])
    with run("next"):
        pass
    wait_until(lambda: len(either.spans) == 2)
    killed = either.span("killed")
    assert (killed.status.code, killed.status.message) == (2, "crashed: the run ended with no last word")
    assert attributes(killed)["runcard.status"] == "crashed"
    assert killed.end_time_unix_nano >= killed.start_time_unix_nano + 1
    assert {value(point) for _, point in either.points} == set(range(10))
    assert "last words" in [entry.body.string_value for entry in either.logs]


def test_a_second_delivery_in_a_process_sends_no_event_again(receiver, store):
    """Events that were sent change nothing when they come again; new ones among them are sent."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
        r.log(loss=2.0)
        r.note("n")
    sink, events = otel.open_sink(receiver.url), events_of(r)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events[:2])
    sink.append(r.run_id, events[1])
    sink.extend(r.run_id, events)
    sink.extend(r.run_id, events)
    assert [value(point) for _, point in receiver.points] == [1.0, 2.0]
    assert len(receiver.logs) == 1


def test_events_out_of_order_are_all_sent_once(receiver, store):
    """Threads that log at one time write a few numbers late: those are no repetition."""
    with run("train", sinks=["file:"]) as r:
        for number in range(4):
            r.log(loss=float(number))
    sink, (start, zero, one, two, three, *_) = otel.open_sink(receiver.url), events_of(r)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, [start, zero, two])
    sink.extend(r.run_id, [three, one])
    sink.extend(r.run_id, [one, two, three])
    assert [value(point) for _, point in receiver.points] == [0.0, 2.0, 3.0, 1.0]


def test_what_another_process_sends_again_is_the_same_to_the_byte(receiver, store):
    """A new sink, as after a kill, sends what the first one sent: ids, times and attributes follow from the run."""
    with run("top", sinks=["file:"]), run("train", sinks=["file:"], capture=["console"]) as r:
        r.log(loss=1.0)
        r.note("n")
        print("printed")
    told = []
    for _ in range(2):
        receiver.forget()
        sink = otel.open_sink(receiver.url)
        sink.start(store.get(r.run_id))
        sink.extend(r.run_id, events_of(r))
        sink.finish(store.get(r.run_id))
        told.append(sent(receiver))
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_a_finish_that_is_tried_again_prints_no_line_twice(receiver, store):
    """When the span is not taken, the second try leaves out the lines that were."""
    with run("train", sinks=["file:"], capture=["console"]) as r:
        print("printed")
    sink = otel.open_sink(receiver.url)
    receiver.trouble = {"traces": 503}
    with pytest.raises(StoreError, match="answered 503 Service Unavailable: not today"):
        sink.finish(store.get(r.run_id))
    receiver.trouble = {}
    sink.finish(store.get(r.run_id))
    assert [entry.body.string_value for entry in receiver.logs] == ["printed"]
    assert len(receiver.spans) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_an_answer_that_a_person_can_mend_is_kept_for_later(receiver, store, status):
    """A wrong key or address is a failure, so that the run stays until it is mended; a redirect is not followed."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
    receiver.trouble = {"all": status}
    sink = otel.open_sink(receiver.url)
    with pytest.raises(StoreError, match=str(status)):
        sink.extend(r.run_id, events_of(r))
    with pytest.raises(StoreError, match=str(status)):
        sink.finish(store.get(r.run_id))
    receiver.trouble = {}
    sink.extend(r.run_id, events_of(r))
    assert len(receiver.points) == 1


REFUSED = {"http": 400, "grpc": grpc.StatusCode.INVALID_ARGUMENT}


def test_what_is_refused_for_good_is_said_and_holds_nothing_up(either, capsys):
    """Data that the receiver will never take is warned of once; everything after it still comes."""
    either.trouble = {"metrics": REFUSED["grpc" if "grpc" in either.url else "http"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run("train", sinks=["file:", either.url]) as r:
            r.log(loss=1.0)
            wait_until(lambda: either.asked)
            r.log(loss=2.0)
    told = [str(warning.message) for warning in caught]
    assert [text for text in told if "refused metrics for good" in text and "not today" in text] == told
    assert len(told) == 1
    assert len(either.spans) == 1


def test_a_partial_success_is_said(receiver):
    """What a receiver says it did not keep is warned of, with its reason, and not sent again."""
    receiver.rejects = {"metrics": "rejected_data_points"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run("train", sinks=["file:", receiver.url]) as r:
            r.log(loss=1.0)
    assert [str(warning.message) for warning in caught] == [
        f"the sink {receiver.url} did not keep 3 of the metrics: too old"
    ]
    assert len(receiver.points) == 1


ABSENT = {"http": 404, "grpc": grpc.StatusCode.UNIMPLEMENTED}


def test_a_receiver_of_traces_alone_gets_the_traces(either):
    """Where only traces are served, the span comes, what is not taken is said once, and ?signals=traces is the cure."""
    absent = ABSENT["grpc" if "grpc" in either.url else "http"]
    either.trouble = {"metrics": absent, "logs": absent}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with run("train", notes="n", sinks=["file:", either.url]) as r:
            r.log(loss=1.0)
    assert len(either.spans) == 1
    said = "it takes no logs and no metrics; write ?signals=traces after its URL"
    assert [str(warning.message).partition(": ")[2] for warning in caught] == [said]
    asked = either.asked
    with run("second", notes="n", sinks=["file:", either.url]) as r:
        r.log(loss=1.0)
    assert either.asked == asked + 1
    done = call("doctor", either.url)
    assert (done.exit_code, "write ?signals=traces after its URL" in done.stdout) == (2, True)
    assert call("doctor", f"{either.url}?signals=traces").exit_code == 0
    with run("again", notes="n", sinks=["file:", f"{either.url}?signals=traces"]) as r:
        r.log(loss=1.0)
    assert either.span("again")


def test_the_contract_of_sinks_holds(receiver):
    """Any record, any number of times, from other threads, with faults and without a journal."""
    check_sink(lambda: otel.open_sink(receiver.url))


def test_a_run_whose_events_were_delivered_brings_no_points_again(receiver, store):
    """When only the end was missing, the next process sends the end alone."""
    with run("train", sinks=["file:"]) as r:
        r.log(loss=1.0)
    otel.open_sink(receiver.url).finish(store.get(r.run_id))
    assert (receiver.points, len(receiver.spans)) == ([], 1)


def test_a_forked_child_exports_through_a_connection_of_its_own(either):
    """After a fork both sides go on exporting, by gRPC too."""
    configure(sinks=["file:", either.url])
    with run("before"):
        pass
    child = os.fork()
    if child == 0:
        with run("child"):
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with run("after"):
        pass
    assert {span.name for span, _ in either.spans} == {"before", "child", "after"}


def test_a_store_is_copied_with_its_late_judgements(receiver, store):
    """`runcard sync FROM otlp:…` exports every ended run, children in their traces, and what was said later."""
    with run("top", sinks=["file:"]) as top, run("middle", sinks=["file:"]), run("inner", sinks=["file:"]) as r:
        r.log(loss=1.0)
    store.keep(r.run_id, "on second thoughts")
    assert call("sync", store.root, receiver.url).stdout == "3 runs copied\n"
    assert {span.trace_id for span, _ in receiver.spans} == {hashlib.sha256(top.run_id.encode()).digest()[:16]}
    assert attributes(receiver.span("inner"))["runcard.decision"] == "keep"
    assert [entry.body.string_value for entry in receiver.logs] == ["keep: on second thoughts"]
    assert len(receiver.points) == 1


def test_it_cannot_be_read_back(receiver):
    """A receiver takes and never gives: opening it as a store says so."""
    with pytest.raises(SettingError, match="cannot be read back"):
        open_store(receiver.url)


def test_what_is_remembered_of_runs_is_bounded(receiver, monkeypatch):
    """A process of many runs keeps what it knows of the latest alone."""
    monkeypatch.setattr(otel, "_REMEMBERED", 3)
    sink = otel.open_sink(receiver.url)
    for number in range(10):
        sink.start(record(number))
    assert list(sink._followed) == [record(number).run_id for number in (7, 8, 9)]


def test_one_answer_of_not_found_loses_nothing(receiver, monkeypatch):
    """When a signal is served after all, as where a proxy was being set up, its data is kept and sent again."""
    sink = otel.open_sink(receiver.url)
    receiver.trouble = {"metrics": 404}
    with pytest.raises(StoreError, match="404"):
        monkeypatch.setattr(sink, "_absent", set)
        sink.finish(record(1, metric_history=History([Point("loss", 0, 2.0, 1_795_000_000.5)])))
    receiver.trouble = {}
    sink.finish(record(1, metric_history=History([Point("loss", 0, 2.0, 1_795_000_000.5)])))
    assert len(receiver.points) == 1
