"""What users and plug-in writers test with: captured runs, the contract of a sink, the fake clock."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runcard import RuncardWarning, configure, log, open_store, run, settings, tracked
from runcard.errors import RunNotFound
from runcard.sinks.memory import MemorySink
from runcard.sinks.mirror import Mirror
from runcard.testing import captured_runs, check_sink, fake_clock


@tracked
def train(lr, epochs=2):
    """A function under test."""
    for epoch in range(epochs):
        log(loss=lr / (epoch + 1))
    return lr


def test_runs_are_captured_and_go_nowhere_else(store, tmp_path):
    """Inside the block the records are at hand, oldest first; the user's store and sinks see nothing."""
    sent = []
    configure(sinks=["file:", sent.append])
    with captured_runs() as runs:
        assert len(runs) == 0
        train(0.5)
        with run("block", sinks=[sent.append]):
            assert [record.status for record in runs] == ["finished", "running"]
        assert runs.last.name == "block"
    assert [record.name for record in runs] == ["train", "block"]
    assert runs[0].config == {"lr": 0.5, "epochs": 2}
    assert [point.value for point in runs[0].metric_history] == [0.5, 0.25]
    assert sent == []
    assert store.runs() == []
    with run("after"):
        pass
    assert len(sent) == len(store.runs()) == 1


def test_settings_come_back_also_after_an_exception(store):
    """Whatever happens in the block, settings and variables are as before."""
    configure(deadline=3)
    variables = dict(os.environ)
    with pytest.raises(ZeroDivisionError), captured_runs():
        configure(deadline=9)
        1 / 0  # noqa: B018 - raises
    assert settings.current().deadline == 3
    assert dict(os.environ) == variables


def test_capturing_switches_recording_on(monkeypatch):
    """A test that wants records gets them where the environment has switched recording off."""
    monkeypatch.setenv("RUNCARD_DISABLED", "1")
    with captured_runs() as runs:
        train(1.0)
    assert len(runs) == 1
    assert os.environ["RUNCARD_DISABLED"] == "1"


def test_runs_of_subprocesses_are_captured(tmp_path):
    """A program that the code under test starts records into the same place."""
    code = "from runcard import run\nwith run('far'): pass\n"
    with captured_runs() as runs:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert [record.name for record in runs] == ["far"]


def test_a_directory_is_kept(tmp_path):
    """With a folder given, artifacts stay for the test to look at."""
    with captured_runs(tmp_path / "kept") as runs, run("files") as r:
        r.artifact_path("a.txt").write_text("a")
    assert (Path(runs[0].folder) / runs[0].artifacts[0].path).read_text() == "a"
    assert len(open_store(tmp_path / "kept").runs()) == 1


def test_each_capture_warns_anew():
    """What is said once a process is said once a captured block, so that tests do not hang on their order."""
    for _ in range(2):
        with captured_runs(), pytest.warns(RuncardWarning, match="no run is open"):
            log(x=1.0)


def test_the_fake_clock_moves_only_when_told():
    """Start, points and end have the clock's times; the rest of the program has the real one's."""
    import time

    with captured_runs() as runs, fake_clock(1_000_000.0) as clock:
        with run("timed") as r:
            r.log(x=1.0)
            clock.advance(5)
            r.log(x=2.0)
            clock.advance(5)
        assert time.time() > 1_500_000_000
    (record,) = runs
    assert record.started_at.timestamp() == 1_000_000.0
    assert record.ended_at.timestamp() == 1_000_010.0
    assert [point.time for point in record.metric_history] == [1_000_000.0, 1_000_005.0]
    assert record.run_id.startswith("19700112T134640-")


def test_our_own_sinks_meet_the_contract(tmp_path):
    """Memory, a second folder and a plain function pass."""
    check_sink(lambda: MemorySink("memory:contract"))
    check_sink(lambda: lambda _record: None)
    check_sink(lambda: Mirrored(tmp_path / "copy"))


class Mirrored(Mirror):
    """A second folder takes runs that have a folder; the others are refused, which the contract's records are."""

    def __call__(self, record):
        if record.folder is not None and Path(record.folder).exists():
            super().__call__(record)


class Good:
    """A live sink that keeps what it is told, and can be read back."""

    kept: dict = {}

    def start(self, record):
        pass

    def append(self, run_id, event):
        pass

    def finish(self, record):
        record.metric_history[:]
        self.kept[record.run_id] = record

    def run_ids(self):
        return list(self.kept)

    def record(self, run_id):
        if run_id not in self.kept:
            raise RunNotFound(run_id)
        return self.kept[run_id]


def _on(method):
    """Replace one method of the good sink."""

    def make(function):
        return type("Bad", (Good,), {method: function, "kept": {}})

    return make


def _raise(error):
    raise error


def _exit_when_unreadable(self, record):
    try:
        record.metric_history[:]
    except OSError:
        sys.exit(3)
    self.kept[record.run_id] = record


def _round(self, run_id):
    from dataclasses import replace

    record = Good.record(self, run_id)
    return replace(record, metrics={name: 0 if value != value else value for name, value in record.metrics.items()})


BROKEN = {
    "refused": _on("finish")(lambda self, record: _raise(ValueError("no"))),
    "changed the record": _on("finish")(lambda self, record: record.tags.append("mine")),
    "ends nobody's process": _on("finish")(_exit_when_unreadable),
    "append\\(\\) takes any event": _on("append")(lambda self, run_id, event: event["metrics"]),
    "start\\(\\) takes": _on("start")(lambda self, record: _raise(KeyError("x"))),
    "there once": _on("run_ids")(lambda self: [*self.kept, *self.kept]),
    "comes back": _on("record")(_round),
    "raises RunNotFound": _on("record")(lambda self, run_id: self.kept.get(run_id)),
    "neither the environment": _on("start")(lambda self, record: os.environ.update(LEFT_BY_A_SINK="1")),
}


def test_a_good_live_sink_passes():
    """The sink that the broken ones are made from meets the contract."""
    Good.kept.clear()
    check_sink(Good)
    assert math.isnan(next(iter(Good.kept.values())).metrics["odd/name with spaces"])


@pytest.mark.parametrize("rule", BROKEN)
def test_a_sink_that_breaks_a_rule_is_told_which(rule, monkeypatch):
    """Each rule of the contract fails for a sink that breaks it alone."""
    monkeypatch.setenv("LEFT_BY_A_SINK", "0")
    with pytest.raises(AssertionError, match=rule):
        check_sink(BROKEN[rule])


def test_a_sink_that_hangs_fails_the_check(monkeypatch):
    """The check comes back though the sink does not."""
    import threading

    from runcard import testing

    monkeypatch.setattr(testing, "_ANSWER_S", 0.1)
    never = threading.Event()
    with pytest.raises(AssertionError, match="did not come back"):
        check_sink(lambda: lambda _record: never.wait(60))
    never.set()
