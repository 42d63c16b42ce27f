"""The MLflow sink when things come twice, late or never: servers killed and set back, runs resumed and thrown away."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_server import events_of, train, until

from runcard import RuncardWarning, configure, run
from runcard._pending import deliver_pending
from runcard._sync import copy
from runcard.errors import StoreError
from runcard.sinks import _mlflow_mapping, _mlflow_rest, mlflow
from runcard.sinks._mlflow_files import Files
from runcard.sinks._mlflow_run import OpenRun
from runcard.sinks._mlflow_service import Found, Refused

pytestmark = pytest.mark.usefixtures("patient")


def test_a_second_delivery_changes_nothing(mlflow_server, mlflow_url, name, store):
    """The same run once more, by the same sink and by another process's, adds no run and no point."""
    r = train(name, mlflow_url)
    (before,) = mlflow_server.runs(name)
    for _ in range(2):
        sink = mlflow.open_sink(mlflow_url)
        sink.start(store.get(r.run_id))
        sink.extend(r.run_id, events_of(r))
        sink.finish(store.get(r.run_id))
    (after,) = mlflow_server.runs(name)
    assert (after.info, after.tags, after.params) == (before.info, before.tags, before.params)
    assert [after.history(key) for key in before.metrics] == [before.history(key) for key in before.metrics]
    assert [len(after.history(key)) for key in ("loss", "odd")] == [3, 1]


def test_points_whose_answer_was_lost_are_not_there_twice(mlflow_server, mlflow_url, name, store, monkeypatch):
    """The server takes a batch and dies before it answers: the batch comes again, and changes nothing."""
    r = train(name, "memory:")
    sink = mlflow.open_sink(mlflow_url)
    sink.start(store.get(r.run_id))
    real = _mlflow_rest.RestService.log

    def cut_off(self, *arguments, **options):
        real(self, *arguments, **options)
        raise StoreError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(_mlflow_rest.RestService, "log", cut_off)
        with pytest.raises(StoreError):
            sink.extend(r.run_id, events_of(r))
    again = mlflow.open_sink(mlflow_url)
    for each in (sink, again):
        each.start(store.get(r.run_id))
        each.extend(r.run_id, events_of(r))
        each.finish(store.get(r.run_id))
    (seen,) = mlflow_server.runs(name)
    assert [len(seen.history(key)) for key in ("loss", "odd", "acc_1")] == [3, 1, 1]


def test_a_server_killed_during_a_run_loses_nothing(mlflow_server, mlflow_url, name):
    """A SIGKILL and a new start in the middle: one run, every step once, FINISHED."""
    with run("r", experiment=name, sinks=["file:", mlflow_url]) as r:
        for step in range(60):
            r.log(loss=step / 7, step=step)
            if step == 20:
                until(lambda: mlflow_server.runs(name) and mlflow_server.runs(name)[0].history("loss"))
                mlflow_server.kill()
            if step == 40:
                time.sleep(0.5)
                threading.Thread(target=mlflow_server.start).start()
            time.sleep(0.002)
    (seen,) = mlflow_server.runs(name)
    assert seen.info["status"] == "FINISHED"
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(step, step / 7) for step in range(60)]


def test_another_process_delivers_what_a_killed_one_left(mlflow_server, mlflow_url, name, tmp_path):
    """A process killed in mid-run leaves a run that goes on; `sync` brings the rest, and says how it ended."""
    code = (
        "import os, sys, time, runcard\n"
        "with runcard.run('r', experiment=sys.argv[1], sinks=['file:', sys.argv[2]]) as r:\n"
        "    r.log(loss=0.0)\n"
        "    print(r.run_id, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    for step in range(1, 100): r.log(loss=float(step))\n"
        "    print('logged', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, name, mlflow_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        until(lambda: mlflow_server.runs(name) and mlflow_server.runs(name)[0].history("loss"))
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "logged\n"
        process.kill()
    configure(sinks=["file:", mlflow_url])
    assert deliver_pending().problems == []
    (seen,) = mlflow_server.runs(name)
    assert (seen.info["status"], seen.tags["runcard.status"]) == ("KILLED", "crashed")
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(step, float(step)) for step in range(100)]
    assert int(seen.info["end_time"]) >= int(seen.info["start_time"])
    assert list((tmp_path / "runcards" / ".pending").iterdir()) == []


def test_a_resumed_run_is_the_same_run(mlflow_server, mlflow_url, name):
    """A second attempt goes on in the same run: RUNNING meanwhile, points of both, the first value of a param."""
    configure(sinks=["file:", mlflow_url])
    with pytest.raises(ValueError, match="boom"), run("r", experiment=name, config={"lr": 1}) as first:
        first.log(loss=1.0, step=0)
        raise ValueError("boom")
    with run("r", experiment=name, config={"lr": 2}, resume=first.run_id) as second:
        second.log(loss=0.5, step=1)
        until(lambda: mlflow_server.runs(name)[0].info["status"] == "RUNNING")
    (seen,) = mlflow_server.runs(name)
    assert seen.info["status"] == "FINISHED"
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(0, 1.0), (1, 0.5)]
    assert (seen.params, seen.tags["runcard.config.lr"]) == ({"lr": "1"}, "2")
    assert seen.tags["runcard.attempts"] == "2"


def test_late_judgements_come_with_the_next_delivery(mlflow_server, mlflow_url, name, store, tmp_path):
    """A decision, tags, notes and a name given after the end are there once the run is copied again."""
    r = train(name, mlflow_url, tags=["quick"])
    store.discard(r.run_id, "leak")
    store.tag(r.run_id, "late", remove=["quick"])
    store.rename(r.run_id, "again")
    store.note(r.run_id, "seen later")
    store.amend(r.run_id, {"loss": 7.0}, "wrong units")
    result = copy(str(tmp_path / "runcards"), mlflow_url)
    assert result.problems == []
    (seen,) = mlflow_server.runs(name)
    assert (seen.info["run_name"], seen.tags["runcard.decision"]) == ("again", "discard")
    assert ("late" in seen.tags, "quick" in seen.tags) == (True, False)
    assert seen.tags["mlflow.note.content"] == "seen later"
    assert seen.metrics["loss"] == 7.0


def test_a_server_set_back_gets_again_what_it_lost(mlflow_server, mlflow_url, name, store):
    """A run, or the last of its points, that a restored database no longer has is told again from the journal."""
    r = train(name, "memory:")
    events = events_of(r)
    sink = mlflow.open_sink(mlflow_url)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events[:2])
    (seen,) = mlflow_server.runs(name)
    with closing(sqlite3.connect(mlflow_server.folder / "mlflow.db", timeout=30)) as connection, connection:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", [seen.info["run_id"]])
    for _ in range(2):
        try:
            sink.extend(r.run_id, events[2:])
        except StoreError:
            continue
    sink.finish(store.get(r.run_id))
    (new,) = mlflow_server.runs(name)
    assert new.info["run_id"] != seen.info["run_id"]
    assert [(step, value) for step, value, _ in new.history("loss")] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert (new.info["status"], new.tags["mlflow.source.type"]) == ("FINISHED", "LOCAL")


def test_with_no_other_sink_nothing_stays_behind(mlflow_server, mlflow_url, name, tmp_path):
    """The spool is empty once MLflow has the run and its artifacts."""
    with run("r", experiment=name, sinks=[mlflow_url]) as r:
        r.artifact_path("model.bin").write_bytes(b"weights")
    assert mlflow_server.runs(name)[0].artifacts()["model.bin"] == b"weights"
    assert not list((tmp_path / "spool").glob("2*"))


def test_tags_that_people_add_in_mlflow_stay(mlflow_server, mlflow_url, name, store):
    """A delivery takes away what it brought, not what it did not."""
    r = train(name, mlflow_url, tags=["quick"])
    (seen,) = mlflow_server.runs(name)
    mlflow_server.ask("runs/set-tag", run_id=seen.info["run_id"], key="mine", value="1")
    sink = mlflow.open_sink(mlflow_url)
    sink.finish(store.get(r.run_id))
    assert mlflow_server.runs(name)[0].tags["mine"] == "1"


def test_a_run_thrown_away_in_mlflow_stays_away(mlflow_server, mlflow_url, name, store):
    """Nobody's deletion is undone, and nobody is bothered for it, be it during the run or after it."""
    with run("r", experiment=name, sinks=["file:", mlflow_url]) as r:
        r.log(loss=1.0)
        until(lambda: mlflow_server.runs(name) and mlflow_server.runs(name)[0].history("loss"))
        mlflow_server.ask("runs/delete", run_id=mlflow_server.runs(name)[0].info["run_id"])
        r.log(loss=2.0)
    sink = mlflow.open_sink(mlflow_url)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events_of(r))
    sink.finish(store.get(r.run_id))
    assert mlflow_server.runs(name) == []
    assert len(mlflow_server.runs(name, view="ALL")) == 1


def test_what_mlflow_refuses_is_noted_and_the_rest_goes_in(mlflow_server, mlflow_url, name, monkeypatch):
    """One thing that MLflow does not take costs itself alone."""
    monkeypatch.setattr(_mlflow_mapping, "_FOREIGN", re.compile("(?!)"))  # as if its alphabet were larger
    with run("r", experiment=name, config={"a": 1, "b!": 2}, sinks=["file:", mlflow_url]) as r:
        r.log({"good": 1.0, "bad!": 2.0, "fine": 3.0})
    (seen,) = mlflow_server.runs(name)
    assert (seen.params, seen.metrics, seen.info["status"]) == ({"a": "1"}, {"good": 1.0, "fine": 3.0}, "FINISHED")
    assert json.loads(seen.tags["runcard.refused"]) == ["b!", "bad!"]


def test_two_that_deliver_at_once_make_one_run(mlflow_server, mlflow_url, name, store, tmp_path):
    """Two sinks that begin with the same run at the same moment find one and the same."""
    r = train(name, "memory:")
    (tmp_path / "runcards" / ".pending").mkdir(exist_ok=True)
    sinks = [mlflow.open_sink(mlflow_url) for _ in range(4)]
    ready = threading.Barrier(4)

    def deliver(sink):
        ready.wait()
        sink.start(store.get(r.run_id))

    threads = [threading.Thread(target=deliver, args=(sink,)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(mlflow_server.runs(name)) == 1
    assert list((tmp_path / "runcards" / ".pending").iterdir()) == []


def test_a_server_that_is_not_there_costs_no_run(name, tmp_path):
    """Nothing listens: the run is finished, a warning says what waits, and no password is shown anywhere."""
    url = "mlflow:http://ana:hunter2secret@127.0.0.1:1"
    configure(deadline=0.3)
    with (
        pytest.warns(RuncardWarning, match="cannot be reached") as said,
        run("r", sinks=["file:", url], capture=["-git"]) as r,
    ):
        pass
    assert r.status == "finished"
    sink = mlflow.open_sink(url)
    with pytest.raises(StoreError, match=r"(?i)refused") as caught:
        sink.probe()
    assert "HTTPConnection" not in str(caught.value)
    assert "hunter2secret" not in f"{said[0].message}{caught.value}{sink!r}{sink.url}"
    assert caught.value.__cause__ is None
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hunter2secret" not in path.read_bytes(), path
    assert len(list((tmp_path / "runcards" / ".pending").iterdir())) == 1


class Kept:
    """A service that keeps what it is asked to log."""

    def __init__(self):
        self.batches = []

    def log(self, run, batch, *, again):
        self.batches.append((batch, again))


def test_what_was_delivered_is_not_sent_again():
    """An event that MLflow has, by its writer and number, makes no call; after a failure doubt is passed on."""
    service = Kept()
    given = OpenRun(service, Found("1", "1"), known=False, folder=None)
    events = [
        {"writer": "journal", "n": n, "kind": "log", "t": 1.0, "step": n, "metrics": {"loss": 1.0}} for n in range(3)
    ]
    given.take(events)
    given.take(events)
    ((batch, again),) = service.batches
    assert (len(batch.metrics), dict(batch.tags), again) == (3, {"runcard.delivered": '{"journal":2}'}, False)
    taken_over = OpenRun(service, Found("1", "1", tags=dict(batch.tags)), known=True, folder=None)
    taken_over.take([*events, {**events[0], "n": 3}])
    batch, again = service.batches[-1]
    assert (len(batch.metrics), again) == (1, True)


def test_events_out_of_order_are_all_delivered_once():
    """Threads that log at one time write a few numbers late: those are no repetition."""
    service = Kept()
    events = [
        {"writer": "journal", "n": n, "kind": "log", "t": 1.0, "step": n, "metrics": {"loss": 1.0}}
        for n in (0, 2, 3, 1, 1)
    ]
    OpenRun(service, Found("1", "1"), known=False, folder=None).take(events)
    ((batch, _),) = service.batches
    assert [step for *_, step in batch.metrics] == [0, 1, 2, 3]
    assert dict(batch.tags) == {"runcard.delivered": '{"journal":3}'}


def test_a_run_in_the_trash_is_not_argued_with():
    """A refusal because somebody deleted the run ends all calls, instead of looking for what was refused."""

    class Closed(Kept):
        def log(self, run, batch, *, again):
            super().log(run, batch, again=again)
            raise Refused("must be in the 'active' state")

        def find(self, experiments, run_id):
            return Found("1", "1", deleted=True)

    service = Closed()
    given = OpenRun(service, Found("1", "1"), known=False, folder=None)
    metrics = {f"m{number}": 1.0 for number in range(64)}
    given.take([{"writer": "journal", "n": 0, "kind": "log", "t": 1.0, "step": 0, "metrics": metrics}])
    given.take([{"writer": "journal", "n": 1, "kind": "log", "t": 1.0, "step": 1, "metrics": metrics}])
    assert given.deleted
    assert len(service.batches) == 1


@pytest.mark.parametrize("kind", ["http", pytest.param("file", marks=pytest.mark.slow)])
def test_a_forked_child_has_a_connection_of_its_own(mlflow_server, mlflow_url, name, kind, tmp_path):
    """After a fork both sides go on delivering; the child neither uses nor ends what is the parent's."""
    configure(sinks=["file:", mlflow_url if kind == "http" else f"mlflow:file:{tmp_path}/mlruns"])
    with run("before", experiment=name):
        pass
    child = os.fork()
    if child == 0:
        with run("child", experiment=name):
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with run("after", experiment=name):
        pass
    if kind == "http":
        names = [seen.info["run_name"] for seen in mlflow_server.runs(name)]
    else:
        names = [path.read_text() for path in (tmp_path / "mlruns").glob("*/*/tags/mlflow.runName")]
    assert sorted(names) == ["after", "before", "child"]


def test_only_artifacts_leave_the_machine(tmp_path):
    """A record that names other files, or links to them, gets none of them uploaded."""
    sent = []

    class Taking(Kept):
        def upload(self, run, path, source):
            sent.append((path, Path(source).read_text()))

    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "run"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "good").write_text("good")
    (folder / "artifacts" / "link").symlink_to(tmp_path / "secret")
    files = Files(Taking(), Found("1", "1"), folder, {})
    for path in ("artifacts/good", "artifacts/link", "artifacts/../../secret", str(tmp_path / "secret"), "../secret"):
        assert files.upload({"path": path, "sha256": "x"}) is None
    assert sent == [("good", "good")]
