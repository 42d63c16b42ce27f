"""runcard watch: what a run that goes on is doing."""

from __future__ import annotations

import threading

from command_line import call, read

from runcard import run
from runcard.cli import watch


def test_a_look_tells_step_values_and_age(store):
    """One look has the state, the last step, the metrics with their course, and how long ago the last event was."""
    with run("on") as current:
        for step in range(5):
            current.log({"train/loss": 5.0 - step}, step=step * 10)
        result = call("watch", "--once", columns=80)
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0].split() == [current.run_id[-8:], "on", "RUNNING"]
        assert "step 40" in lines[1]
        assert "last event 0s ago" in lines[1]
        assert lines[2].split() == ["train/loss", "1", "█▆▅▃▁"]
        data = read("watch", current.run_id, "--once")
    assert (data["status"], data["step"], data["metrics"]) == ("running", 40, {"train/loss": 1.0})
    assert data["steps_per_s"] > 0


def test_watching_ends_when_the_run_does(store):
    """It follows until the run has ended, a line whenever something came, and ends with 0 for a finished run."""
    begun, seen = threading.Event(), threading.Event()
    found = {}

    def train():
        with run("on") as current:
            current.log(loss=1.0, step=1)
            begun.set()
            seen.wait(30)
            current.log(loss=0.5, step=2)

    thread = threading.Thread(target=train)
    thread.start()
    begun.wait(30)
    sleep = watch.time.sleep

    def paused(seconds):
        seen.set()
        sleep(min(seconds, 0.02))

    watch.time.sleep = paused
    try:
        found["result"] = call("watch", "--interval", "0.05")
    finally:
        watch.time.sleep = sleep
        seen.set()
        thread.join(30)
    lines = found["result"].stdout.splitlines()
    assert found["result"].exit_code == 0
    assert "running step 1 loss=1" in lines[0]
    assert lines[-1].endswith("finished step 2 loss=0.5")


def test_a_run_that_failed_ends_watching_with_1(store):
    """A failed run's error is shown, and the exit code is 1."""
    try:
        with run("bad"):
            raise ValueError("broken")
    except ValueError:
        pass
    result = call("watch", "bad")
    assert result.exit_code == 1
    assert "failed" in result.stdout
    assert "ValueError: broken" in call("watch", "bad", "--once").stdout


def test_nothing_to_watch_is_said(store):
    """Without a running run: exit code 1, and what to do."""
    result = call("watch")
    assert result.exit_code == 1
    assert "runcard watch REF" in result.stderr


def test_only_the_end_of_a_long_journal_is_read(store, monkeypatch):
    """A look costs the same however long the run has been: it reads the last part of the journal."""
    monkeypatch.setattr(watch, "_TAIL", 2000)
    with run("long") as current:
        for step in range(500):
            current.log(loss=float(step), step=step)
        glance = watch.look(store.get(current.run_id))
    assert glance.step == 499
    assert len(glance.values["loss"]) < 50


def test_the_rate_goes_by_how_far_the_step_went():
    """Steps a second, also when only every tenth step is logged; none from a single step."""
    events = [(100.0 + index, index * 10, {"loss": 1.0}) for index in range(5)]
    assert watch._glance(events, 104.0).rate == 10.0
    assert watch._glance(events[:1], 100.0).rate is None
