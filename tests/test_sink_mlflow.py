"""The MLflow sink, on a real server with SQLite, and on a database and a folder without a server."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_server import Server
from records import record

from runcard import RuncardWarning, configure, open_store, run
from runcard._doctor import examine
from runcard._sync import copy, deliver_pending
from runcard.delivery import sink_at
from runcard.errors import MissingExtra, SettingError, StoreError
from runcard.journal import Reading
from runcard.record import History, Point, Status
from runcard.sinks import _mlflow_mapping, _mlflow_rest, mlflow, registry
from runcard.sinks._mlflow_files import Files
from runcard.sinks._mlflow_run import OpenRun
from runcard.sinks._mlflow_service import Found, Refused


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The one server of all tests; each uses an experiment of its own."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Server(tmp_path_factory.mktemp("mlflow"), port)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def nothing_of_the_users(monkeypatch, tmp_path):
    """No settings of MLflow from outside, and ends that wait long enough on a busy machine."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNCARD_DEADLINE", "60")


@pytest.fixture
def url(server):
    """The sink's URL."""
    return f"mlflow:{server.address}"


@pytest.fixture
def name(request):
    """The name of an experiment that no other test has."""
    return f"{request.node.name}-{time.time_ns()}"


CONFIG = {
    "lr": 0.1,
    "model": {"layers": [1, {"units": 2}], "deep": {"x.y": None, "flag": True}},
    "nan": math.nan,
    "big": 2**70,
    "empty": {},
    "prompt": "é" * 7_000,
    "odd name!": 1,
}


def train(name, url, **options):
    """A run with all that MLflow has a place for."""
    with run("train", experiment=name, config=CONFIG, sinks=["file:", url], **options) as r:
        for step in range(3):
            r.log(loss=1.0 / (step + 1), step=step)
        r.log({"odd": math.nan, "up": math.inf, "down": -math.inf, "acc@1": 0.5, "big": 2**2000}, step=-7)
        r.artifact_path("plots/roc.txt").write_text("a curve")
        r.artifact_path("empty.bin").write_bytes(b"")
        r.log_config({"late": "x"})
        r.tag("better")
        r.keep("good")
    return r


def events_of(r):
    """The events of a run as a sink is given them."""
    return [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]


def test_a_run_is_in_mlflow_as_its_users_expect(server, url, name, store, tmp_path):
    """Name, params, metrics with steps and times, tags, status, git, notes, inputs and artifacts are in place."""
    (tmp_path / "data.csv").write_text("1,2")
    options = {"tags": ["quick", "mlflow.runName"], "notes": "a *note*", "inputs": [tmp_path / "data.csv"]}
    r = train(name, url, objective="loss", direction="minimize", **options)
    here = store.get(r.run_id)
    (seen,) = server.runs(name)
    assert (seen.info["run_name"], seen.info["status"]) == ("train", "FINISHED")
    assert seen.info["start_time"] == int(here.started_at.timestamp() * 1000)
    assert seen.info["end_time"] == int(here.ended_at.timestamp() * 1000)
    prompt = seen.params.pop("prompt")
    assert seen.params == {
        "lr": "0.1",
        "model.layers": "[1, {'units': 2}]",
        "model.deep.x.y": "None",
        "model.deep.flag": "True",
        "nan": "nan",
        "big": str(2**70),
        "empty": "{}",
        "odd name_": "1",
        "late": "x",
    }
    assert len(prompt) == 6_000
    assert prompt.endswith("… [cut by runcard: 7000 characters, whole in the artifact runcard/config.json]")
    logged = [point for point in here.metric_history if point.name == "loss"]
    assert seen.history("loss") == [(point.step, point.value, int(point.time * 1000)) for point in logged]
    limit = sys.float_info.max  # as MLflow keeps infinities in a database
    assert [seen.history(key)[0][:2] for key in ("up", "down", "big", "acc_1")] == [
        (-7, limit),
        (-7, -limit),
        (-7, limit),
        (-7, 0.5),
    ]
    assert seen.history("odd")[0][1] == "NaN"
    tags = seen.tags
    assert (tags["quick"], tags["better"], tags["mlflow.runName"]) == ("true", "true", "train")
    assert json.loads(tags["runcard.tags"]) == ["quick", "mlflow.runName", "better"]
    git = here.environment.git
    assert (tags["mlflow.source.git.commit"], tags["mlflow.source.git.branch"]) == (git.commit, git.branch)
    assert tags["mlflow.source.git.dirty"] == str(git.dirty).lower()
    assert (tags["mlflow.note.content"], tags["mlflow.user"]) == ("a *note*", here.user)
    assert (tags["runcard.run_id"], tags["runcard.is_best"], tags["runcard.status"]) == (r.run_id, "true", "finished")
    assert (tags["runcard.decision"], tags["runcard.decision_reason"]) == ("keep", "good")
    assert tags["runcard.cut"] == "prompt"
    assert json.loads(tags["runcard.names.metrics.000"]) == {"acc_1": "acc@1"}
    assert "mlflow.source.git.diff" not in tags
    (dataset,) = seen.inputs
    assert (dataset["name"], json.loads(dataset["source"])) == ("data.csv", {"uri": str(tmp_path / "data.csv")})
    artifacts = seen.artifacts()
    assert artifacts["plots/roc.txt"] == b"a curve"
    assert artifacts["empty.bin"] == b""
    assert json.loads(artifacts["runcard/config.json"])["prompt"] == CONFIG["prompt"]
    assert json.loads(artifacts["runcard/record.json"]) == json.loads(json.dumps(here.to_dict(history=False)))
    assert set(artifacts) == {
        "plots/roc.txt",
        "empty.bin",
        *(f"runcard/{each}" for each in ("card.md", "config.json", "record.json", "requirements.txt")),
    }


def test_a_filter_finds_runs_by_what_people_know(server, url, name):
    """search_runs works by params, metrics, tags, status, name and note."""
    train(name, url, tags=["quick"])
    for clause in (
        "params.lr = '0.1'",
        "params.`model.deep.flag` = 'True'",
        "metrics.loss < 0.34",
        "tags.quick = 'true'",
        "attributes.status = 'FINISHED'",
        "attributes.run_name = 'train'",
        "tags.`runcard.decision` = 'keep'",
    ):
        assert len(server.runs(name, clause)) == 1, clause
        assert server.runs(name, f"{clause} and params.lr = '7'") == []


def test_how_a_run_ended(server, url, name):
    """A failure is FAILED with the exception's text; an interruption is KILLED."""
    for error in (ValueError("boom"), KeyboardInterrupt()):
        with pytest.raises(type(error)), run("r", experiment=name, sinks=["file:", url]):
            raise error
    failed, killed = server.runs(name)
    assert (failed.info["status"], killed.info["status"]) == ("FAILED", "KILLED")
    assert failed.tags["runcard.error"] == "ValueError: boom"
    assert b"boom" in failed.artifacts()["runcard/card.md"]


def test_children_hang_below_their_parent(server, url, name):
    """A nested run names its parent in MLflow's own tag, also in an experiment of another name."""
    configure(sinks=["file:", url])
    with run("outer", experiment=name), run("fold"):
        pass
    (outer,), (fold,) = server.runs(name), server.runs(f"{name}/fold")
    assert fold.tags["mlflow.parentRunId"] == outer.info["run_id"]
    assert "mlflow.parentRunId" not in outer.tags


def test_all_runs_may_go_into_one_experiment(server, url, name):
    """`?experiment=` names one for all, children included, which is where MLflow shows them as a tree."""
    configure(sinks=["file:", f"{url}?experiment={name}"])
    with run("outer"), run("fold"):
        pass
    assert [seen.info["run_name"] for seen in server.runs(name)] == ["outer", "fold"]
    (fold,) = server.runs(name, "attributes.run_name = 'fold'")
    assert fold.tags["runcard.experiment"].endswith("/fold")
    assert mlflow.open_sink(f"{url}?experiment={name}&diff=1").url == f"{url}?experiment={name}"


def test_an_experiment_may_be_renamed_in_mlflow(server, url, name, store):
    """A run that was there before is found under the new name."""
    r = train(name, url)
    (seen,) = server.runs(name)
    server.ask("experiments/update", experiment_id=seen.info["experiment_id"], new_name=f"{name}-new")
    sink = mlflow.open_sink(url)
    sink.start(store.get(r.run_id))
    sink.finish(store.get(r.run_id))
    assert [each.info["run_id"] for each in server.runs(f"{name}-new")] == [seen.info["run_id"]]
    assert server.runs(name) == []


def test_a_parent_of_another_process_is_found(server, url, name, store):
    """A sink that never saw the parent's start asks MLflow for it."""
    configure(sinks=["file:", url])
    with run("outer", experiment=name) as outer:
        pass
    sink = mlflow.open_sink(url)
    sink.finish(record(1, experiment=name, parent_id=outer.run_id))
    first, second = server.runs(name, "attributes.run_name != ''")[::-1]
    found = {seen.tags["runcard.run_id"]: seen for seen in (first, second)}
    child = next(seen for run_id, seen in found.items() if run_id != outer.run_id)
    assert child.tags["mlflow.parentRunId"] == found[outer.run_id].info["run_id"]


def test_a_returned_metric_is_the_last_word(server, url, name):
    """What the end brings stands at the last step of its name, so that MLflow takes it for the value."""
    sink = mlflow.open_sink(url)
    given = record(2, experiment=name, status=Status.RUNNING)
    sink.start(given)
    log = {"kind": "log", "t": 1_795_000_000.0, "writer": "journal"}
    sink.append(given.run_id, {**log, "n": 0, "step": 5, "metrics": {"loss": 0.5}})
    sink.append(given.run_id, {**log, "n": 1, "kind": "end", "t": 1_795_000_009.0, "metrics": {"loss": 0.9, "new": 1}})
    (seen,) = server.runs(name)
    assert seen.metrics == {"loss": 0.9, "new": 1.0}
    assert seen.info["status"] == "RUNNING"


def test_a_second_delivery_changes_nothing(server, url, name, store):
    """The same run once more, by the same sink and by another process's, adds no run and no point."""
    r = train(name, url)
    (before,) = server.runs(name)
    for _ in range(2):
        sink = mlflow.open_sink(url)
        sink.start(store.get(r.run_id))
        sink.extend(r.run_id, events_of(r))
        sink.finish(store.get(r.run_id))
    (after,) = server.runs(name)
    assert (after.info, after.tags, after.params) == (before.info, before.tags, before.params)
    assert [after.history(key) for key in before.metrics] == [before.history(key) for key in before.metrics]
    assert [len(after.history(key)) for key in ("loss", "odd")] == [3, 1]


def test_points_whose_answer_was_lost_are_not_there_twice(server, url, name, store, monkeypatch):
    """The server takes a batch and dies before it answers: the batch comes again, and changes nothing."""
    r = train(name, "memory:")
    sink = mlflow.open_sink(url)
    sink.start(store.get(r.run_id))
    real = _mlflow_rest.RestService.log

    def cut_off(self, *arguments, **options):
        real(self, *arguments, **options)
        raise StoreError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(_mlflow_rest.RestService, "log", cut_off)
        with pytest.raises(StoreError):
            sink.extend(r.run_id, events_of(r))
    again = mlflow.open_sink(url)
    for each in (sink, again):
        each.start(store.get(r.run_id))
        each.extend(r.run_id, events_of(r))
        each.finish(store.get(r.run_id))
    (seen,) = server.runs(name)
    assert [len(seen.history(key)) for key in ("loss", "odd", "acc_1")] == [3, 1, 1]


def test_a_server_killed_during_a_run_loses_nothing(server, url, name):
    """A SIGKILL and a new start in the middle: one run, every step once, FINISHED."""
    with run("r", experiment=name, sinks=["file:", url]) as r:
        for step in range(60):
            r.log(loss=step / 7, step=step)
            if step == 20:
                _until(lambda: server.runs(name) and server.runs(name)[0].history("loss"))
                server.kill()
            if step == 40:
                time.sleep(0.5)
                threading.Thread(target=server.start).start()
            time.sleep(0.002)
    (seen,) = server.runs(name)
    assert seen.info["status"] == "FINISHED"
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(step, step / 7) for step in range(60)]


def _until(holds, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except AssertionError:
            pass  # the experiment is not there yet
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def test_another_process_delivers_what_a_killed_one_left(server, url, name, tmp_path):
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
        [sys.executable, "-c", code, name, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        _until(lambda: server.runs(name) and server.runs(name)[0].history("loss"))
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "logged\n"
        process.kill()
    configure(sinks=["file:", url])
    assert deliver_pending().problems == []
    (seen,) = server.runs(name)
    assert (seen.info["status"], seen.tags["runcard.status"]) == ("KILLED", "crashed")
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(step, float(step)) for step in range(100)]
    assert int(seen.info["end_time"]) >= int(seen.info["start_time"])
    assert list((tmp_path / "runcards" / ".pending").iterdir()) == []


def test_a_resumed_run_is_the_same_run(server, url, name):
    """A second attempt goes on in the same run: RUNNING meanwhile, points of both, the first value of a param."""
    configure(sinks=["file:", url])
    with pytest.raises(ValueError, match="boom"), run("r", experiment=name, config={"lr": 1}) as first:
        first.log(loss=1.0, step=0)
        raise ValueError("boom")
    with run("r", experiment=name, config={"lr": 2}, resume=first.run_id) as second:
        second.log(loss=0.5, step=1)
        _until(lambda: server.runs(name)[0].info["status"] == "RUNNING")
    (seen,) = server.runs(name)
    assert seen.info["status"] == "FINISHED"
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(0, 1.0), (1, 0.5)]
    assert (seen.params, seen.tags["runcard.config.lr"]) == ({"lr": "1"}, "2")
    assert seen.tags["runcard.attempts"] == "2"


def test_late_judgements_come_with_the_next_delivery(server, url, name, store, tmp_path):
    """A decision, tags, notes and a name given after the end are there once the run is copied again."""
    r = train(name, url, tags=["quick"])
    store.discard(r.run_id, "leak")
    store.tag(r.run_id, "late", remove=["quick"])
    store.rename(r.run_id, "again")
    store.note(r.run_id, "seen later")
    store.amend(r.run_id, {"loss": 7.0}, "wrong units")
    result = copy(str(tmp_path / "runcards"), url)
    assert result.problems == []
    (seen,) = server.runs(name)
    assert (seen.info["run_name"], seen.tags["runcard.decision"]) == ("again", "discard")
    assert ("late" in seen.tags, "quick" in seen.tags) == (True, False)
    assert seen.tags["mlflow.note.content"] == "seen later"
    assert seen.metrics["loss"] == 7.0


def test_a_server_set_back_gets_again_what_it_lost(server, url, name, store):
    """A run, or the last of its points, that a restored database no longer has is told again from the journal."""
    r = train(name, "memory:")
    events = events_of(r)
    sink = mlflow.open_sink(url)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events[:2])
    (seen,) = server.runs(name)
    with closing(sqlite3.connect(server.folder / "mlflow.db", timeout=30)) as connection, connection:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", [seen.info["run_id"]])
    for _ in range(2):
        try:
            sink.extend(r.run_id, events[2:])
        except StoreError:
            continue
    sink.finish(store.get(r.run_id))
    (new,) = server.runs(name)
    assert new.info["run_id"] != seen.info["run_id"]
    assert [(step, value) for step, value, _ in new.history("loss")] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert (new.info["status"], new.tags["mlflow.source.type"]) == ("FINISHED", "LOCAL")


def test_with_no_other_sink_nothing_stays_behind(server, url, name, tmp_path):
    """The spool is empty once MLflow has the run and its artifacts."""
    with run("r", experiment=name, sinks=[url]) as r:
        r.artifact_path("model.bin").write_bytes(b"weights")
    assert server.runs(name)[0].artifacts()["model.bin"] == b"weights"
    assert not list((tmp_path / "spool").glob("2*"))


def test_tags_that_people_add_in_mlflow_stay(server, url, name, store):
    """A delivery takes away what it brought, not what it did not."""
    r = train(name, url, tags=["quick"])
    (seen,) = server.runs(name)
    server.ask("runs/set-tag", run_id=seen.info["run_id"], key="mine", value="1")
    sink = mlflow.open_sink(url)
    sink.finish(store.get(r.run_id))
    assert server.runs(name)[0].tags["mine"] == "1"


def test_a_run_thrown_away_in_mlflow_stays_away(server, url, name, store):
    """Nobody's deletion is undone, and nobody is bothered for it, be it during the run or after it."""
    with run("r", experiment=name, sinks=["file:", url]) as r:
        r.log(loss=1.0)
        _until(lambda: server.runs(name) and server.runs(name)[0].history("loss"))
        server.ask("runs/delete", run_id=server.runs(name)[0].info["run_id"])
        r.log(loss=2.0)
    sink = mlflow.open_sink(url)
    sink.start(store.get(r.run_id))
    sink.extend(r.run_id, events_of(r))
    sink.finish(store.get(r.run_id))
    assert server.runs(name) == []
    assert len(server.runs(name, view="ALL")) == 1


def test_what_mlflow_refuses_is_noted_and_the_rest_goes_in(server, url, name, monkeypatch):
    """One thing that MLflow does not take costs itself alone."""
    monkeypatch.setattr(_mlflow_mapping, "_FOREIGN", re.compile("(?!)"))  # as if its alphabet were larger
    with run("r", experiment=name, config={"a": 1, "b!": 2}, sinks=["file:", url]) as r:
        r.log({"good": 1.0, "bad!": 2.0, "fine": 3.0})
    (seen,) = server.runs(name)
    assert (seen.params, seen.metrics, seen.info["status"]) == ({"a": "1"}, {"good": 1.0, "fine": 3.0}, "FINISHED")
    assert json.loads(seen.tags["runcard.refused"]) == ["b!", "bad!"]


def test_more_than_one_call_can_hold(server, url, name):
    """Hundreds of params, tags and metrics at a time arrive in full."""
    config = {f"p{number}": number for number in range(250)}
    with run("r", experiment=name, config=config, tags=[f"t{n}" for n in range(150)], sinks=["file:", url]) as r:
        r.log({f"m{number}": number for number in range(1_700)})
        r.log({f"m{number}": -number for number in range(1_700)})
    (seen,) = server.runs(name)
    assert len(seen.params) == 250
    assert [f"t{n}" in seen.tags for n in range(150)] == [True] * 150
    assert len(seen.metrics) == 1_700
    assert [value for _, value, _ in seen.history("m1699")] == [1699.0, -1699.0]
    assert "runcard.refused" not in seen.tags


def test_a_record_without_a_journal_keeps_its_points(server, url, name):
    """A run that no disk took is kept as far as its record tells it; a second time changes nothing."""
    history = History([Point("loss", 0, 2.0, 1_795_000_000.0), Point("loss", 1, 1.0, 1_795_000_001.0)])
    given = record(3, experiment=name, metrics={"loss": 1.0}, metric_history=history)
    for _ in range(2):
        mlflow.open_sink(url).finish(given)
    (seen,) = server.runs(name)
    assert [(step, value) for step, value, _ in seen.history("loss")] == [(0, 2.0), (1, 1.0)]


def test_the_points_of_other_ranks_stay_at_home(server, url, name):
    """MLflow has one history a metric: that of rank 0."""
    sink = mlflow.open_sink(url)
    given = record(4, experiment=name)
    sink.start(given)
    event = {"n": 0, "kind": "log", "t": 1_795_000_000.0, "step": 0, "metrics": {"loss": 1.0}}
    sink.extend(given.run_id, [{**event, "writer": "journal-rank1"}, {**event, "writer": "journal"}])
    assert len(server.runs(name)[0].history("loss")) == 1


def test_samples_of_the_machine_are_system_metrics(server, url, name):
    """They stand at the second of the run in which they were taken, under the prefix that MLflow's own tab shows."""
    sink = mlflow.open_sink(url)
    given = record(5, experiment=name)
    sink.start(given)
    moment = given.started_at.timestamp() + 12.5
    sink.extend(
        given.run_id, [{"n": 0, "writer": "journal", "kind": "system", "t": moment, "metrics": {"system/cpu": 0.5}}]
    )
    assert server.runs(name)[0].history("system/cpu") == [(12, 0.5, int(moment * 1000))]


def test_changes_and_output_go_there_only_when_asked_for(server, url, name, tmp_path, capfd):
    """`?diff=1&output=1` adds the patch, the function's text and what the run printed."""
    folder = tmp_path / "runcards" / "20260101T000000-aaaaaaaa"
    folder.mkdir(parents=True)
    (folder / "diff.patch").write_text("+ secret plan\n")
    (folder / "output.log").write_text("printed\n")
    function = {"qualname": "train", "source": "def train(): return 'secret plan'", "source_sha256": "0" * 64}
    given = record(6, experiment=name, run_id=folder.name, folder=str(folder), function=function)
    mlflow.open_sink(url).finish(given)
    artifacts = server.runs(name)[0].artifacts()
    assert {"runcard/diff.patch", "runcard/output.log"}.isdisjoint(artifacts)
    assert not any(b"secret plan" in content for content in artifacts.values())
    assert json.loads(artifacts["runcard/record.json"])["function"]["source_sha256"] == "0" * 64
    mlflow.open_sink(f"{url}?diff=1&output=1").finish(given)
    artifacts = server.runs(name)[0].artifacts()
    assert (artifacts["runcard/diff.patch"], artifacts["runcard/output.log"]) == (b"+ secret plan\n", b"printed\n")
    assert json.loads(artifacts["runcard/record.json"])["function"] == function


def test_two_that_deliver_at_once_make_one_run(server, url, name, store, tmp_path):
    """Two sinks that begin with the same run at the same moment find one and the same."""
    r = train(name, "memory:")
    (tmp_path / "runcards" / ".pending").mkdir(exist_ok=True)
    sinks = [mlflow.open_sink(url) for _ in range(4)]
    ready = threading.Barrier(4)

    def deliver(sink):
        ready.wait()
        sink.start(store.get(r.run_id))

    threads = [threading.Thread(target=deliver, args=(sink,)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(server.runs(name)) == 1
    assert list((tmp_path / "runcards" / ".pending").iterdir()) == []


def test_the_training_neither_imports_nor_hears_mlflow(server, url, name, tmp_path):
    """No module of MLflow is loaded, nothing is printed, and its settings are as they were."""
    code = (
        "import os, sys, runcard\n"
        "before = dict(os.environ)\n"
        "with runcard.run('r', experiment=sys.argv[1], sinks=['file:', sys.argv[2]]) as r: r.log(loss=1)\n"
        "assert 'mlflow' not in sys.modules and dict(os.environ) == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, name, url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.runs(name)[0].info["status"] == "FINISHED"
    code = "import sys, runcard, runcard.sinks.registry; assert not {'mlflow', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_artifacts_that_the_server_does_not_take(server, url, name, tmp_path):
    """Where an experiment's artifacts lie elsewhere, MLflow's own client puts them there."""
    server.ask("experiments/create", name=name, artifact_location=(tmp_path / "elsewhere").as_uri())
    sink = mlflow.open_sink(url)
    r = train(name, "memory:")
    here = open_store(r.folder.parent).get(r.run_id)
    sink.finish(here)
    sink._beside.close()
    (seen,) = server.runs(name)
    assert seen.info["status"] == "FINISHED"
    (plot,) = (tmp_path / "elsewhere").rglob("roc.txt")
    assert plot.read_text() == "a curve"
    assert json.loads(next((tmp_path / "elsewhere").rglob("record.json")).read_text())["run_id"] == r.run_id


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_without_a_server(server, kind, name, tmp_path, capfd, store):
    """A database and a folder take the same; what is delivered twice is there once."""
    where = f"sqlite:///{server.folder}/mlflow.db" if kind == "sqlite" else f"file:{tmp_path}/mlruns"
    r = train(name, f"mlflow:{where}", tags=["quick"])
    sink = sink_at(f"mlflow:{where}", None)  # the one that the run had: a second client would take seconds
    sink.start(store.get(r.run_id))
    sink._runs[r.run_id].delivered = {}  # as if the count had not been written
    sink.extend(r.run_id, events_of(r))
    sink.finish(store.get(r.run_id))
    sink._service.close()
    if kind == "sqlite":
        (seen,) = server.runs(name)
        assert (seen.info["status"], seen.params["model.deep.x.y"], seen.tags["quick"]) == ("FINISHED", "None", "true")
        assert [(step, value) for step, value, _ in seen.history("loss")] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
        assert len(seen.history("odd")) == 1
        with closing(sqlite3.connect(server.folder / "mlflow.db")) as connection:
            found = connection.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [seen.info["run_id"]])
            artifacts = Path(found.fetchone()[0])
        assert server.folder in artifacts.parents
    else:
        (folder,) = (path.parent for path in (tmp_path / "mlruns").glob("*/*/params"))
        artifacts = folder / "artifacts"
        points = (folder / "metrics" / "loss").read_text().splitlines()
        assert [line.split()[1:] for line in points] == [["1.0", "0"], ["0.5", "1"], [repr(1 / 3), "2"]]
        assert [line.split()[1] for line in (folder / "metrics" / "up").read_text().splitlines()] == ["inf"]
        assert (folder / "params" / "model.deep.x.y").read_text() == "None"
        assert (folder / "tags" / "quick").read_text() == "true"
    assert (artifacts / "plots" / "roc.txt").read_text() == "a curve"
    assert (artifacts / "empty.bin").read_bytes() == b""
    assert "prompt" in json.loads((artifacts / "runcard" / "config.json").read_text())
    out, err = capfd.readouterr()
    assert "mlflow" not in (out + err).lower()


def test_the_process_beside_ends_with_ours(tmp_path):
    """Whether the training ends or is killed, MLflow's client ends too."""
    code = (
        "import os, signal, sys\n"
        "from runcard.sinks import mlflow\n"
        "os.makedirs(sys.argv[1], exist_ok=True)\n"
        "sink = mlflow.open_sink('mlflow:file:' + sys.argv[1])\n"
        "sink.probe()\n"
        "print(sink._service._process.pid, flush=True)\n"
        "if sys.argv[2] == 'kill': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for how in ("end", "kill"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path / "mlruns"), how],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        child = int(done.stdout)
        _until(lambda child=child: not _lives(child), 30)


def _lives(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_relative_place_stays_where_it_was_named(tmp_path, monkeypatch):
    """Paths are made absolute at once, and MLflow's variable and default are asked for when none is named."""
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("mlflow:./mlruns").url == f"mlflow:file://{tmp_path}/mlruns"
    assert registry.resolve("mlflow:sqlite:///x.db").url == f"mlflow:sqlite:///{tmp_path}/x.db"
    assert registry.resolve("mlflow:").url == f"mlflow:sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("")
    assert registry.resolve("mlflow:").url == f"mlflow:file://{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ana:hunter2secret@host:5000/prefix")
    assert registry.resolve("mlflow:").url == "mlflow:http://host:5000/prefix"
    assert registry.resolve("mlflow:?diff=1")._address.diff is True
    assert registry.resolve("mlflow:databricks").url == "mlflow:databricks"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mlflow:ftp://host/x", "no store for 'ftp'"),
        ("mlflow:http://", "names no host"),
        ("mlflow:http://host:port", "no valid host and port"),
        ("mlflow:http://host/?verify=0", "settings are diff, experiment, output"),
        ("mlflow:http://host/?diff=maybe", "diff=1"),
        ("mlflow:sqlite://x.db", "names no file"),
        ("mlflow:sqlite:///:memory:", "names no file"),
        ("mlflow:file://ana:hunter2@elsewhere/data", "names a host"),
        ("mlflow:http://ana:hun/ter2@host:5000", "no valid host and port"),
    ],
)
def test_a_bad_url_is_refused_when_it_is_set(url, told):
    """configure() says what is wrong, without connecting and without a password."""
    with pytest.raises(SettingError, match=told) as refused:
        configure(sinks=[url])
    assert "ter2" not in str(refused.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    """Without MLflow, the message says what to install."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[mlflow\]"'):
        configure(sinks=["mlflow:http://host-without-mlflow:5000"])


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


def test_doctor_says_how_it_stands(server, url):
    """A server that answers is fine; a wrong address and a wrong password are told apart."""
    assert examine(url)[1:3] == (True, "can be reached and written")
    assert not examine("mlflow:http://127.0.0.1:1").fine
    assert "not as an MLflow server" in examine(f"{url}/nowhere").said


def test_doctor_makes_nothing(tmp_path):
    """Of a database or a folder that is not there yet it is said whether the first run can make it."""
    (tmp_path / "file").touch()
    for place in ("sqlite:///{}/deep/mlflow.db", "{}/deep/mlruns"):
        assert examine(f"mlflow:{place.format(tmp_path)}").fine
        said = examine(f"mlflow:{place.format(tmp_path / 'file')}").said
        assert re.fullmatch(r"\S+/file cannot be written, where ml\S+ would be made", said)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "Basic YW5hOnB3"), ({"MLFLOW_TRACKING_USERNAME": "bo", "MLFLOW_TRACKING_PASSWORD": "x"}, "Basic YW5hOnB3")],
)
def test_credentials_in_the_url_go_before_the_variables(environment, expected, monkeypatch):
    """They are sent as a header, and the request's own URL has none."""
    assert _asked(monkeypatch, "mlflow:http://ana:pw@{host}", environment)["Authorization"] == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "bo", "MLFLOW_TRACKING_PASSWORD": "x"}, "Basic Ym86eA=="),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({}, None),
    ],
)
def test_mlflows_own_variables_let_us_in(environment, expected, monkeypatch, tmp_path):
    """User and password, or a token, are those that MLflow's client would send; a wrong one is said."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    (tmp_path / ".netrc").chmod(0o600)
    if expected is None:
        (tmp_path / ".netrc").unlink()
    assert _asked(monkeypatch, "mlflow:http://{host}", environment).get("Authorization") == expected


def _asked(monkeypatch, url, environment):
    """The headers of a request to a server that lets nobody in."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Closed(BaseHTTPRequestHandler):
        def do_POST(self):
            found.append((self.path, dict(self.headers)))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_):
            pass

    found = []
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with HTTPServer(("127.0.0.1", 0), Closed) as answering:
        thread = threading.Thread(target=answering.serve_forever, args=(0.01,))
        thread.start()
        sink = mlflow.open_sink(url.format(host=f"127.0.0.1:{answering.server_port}"))
        try:
            with pytest.raises(StoreError, match="MLFLOW_TRACKING_TOKEN"):
                sink.probe()
        finally:
            answering.shutdown()
            thread.join()
            sink._service.close()
    assert found[0][0] == "/api/2.0/mlflow/experiments/search"
    return found[0][1]


def test_only_a_variable_switches_the_verification_of_certificates_off(monkeypatch):
    """A URL has no setting for it, so that no file of a repository can."""
    assert mlflow.open_sink("mlflow:https://host")._asked._session.verify is True
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/etc/ca.pem")
    assert mlflow.open_sink("mlflow:https://host")._asked._session.verify == "/etc/ca.pem"
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert mlflow.open_sink("mlflow:https://host")._asked._session.verify is False


def test_no_two_names_become_one():
    """Names that MLflow does not take are changed, told apart, and the same again for whoever goes on."""
    keys = _mlflow_mapping.Keys("metrics")
    names = ["acc@1", "acc#1", "acc_1", "a//b", "a/b", "../x", "/", ".", "n" * 300, "n" * 299 + "m", "λ", "a b:c.d-e"]
    found = [keys.of(name) for name in names]
    assert len(set(found)) == len(names)
    assert found[0] == "acc_1"
    assert found[-2:] == names[-2:]
    for key in found:
        assert re.fullmatch(r"[/\w.\- :]+", key), key
        assert os.path.normpath(key) == key
        assert len(key) <= 250
    again = _mlflow_mapping.Keys("metrics", found, keys.told())
    assert [again.of(name) for name in reversed(names)] == found[::-1]


def test_many_changed_names_are_told_in_several_tags():
    """Each tag is as long as MLflow takes it, and all together give the names back."""
    keys = _mlflow_mapping.Keys("params")
    names = [f"{'n' * 100}@{number}" for number in range(300)]
    found = [keys.of(name) for name in names]
    told = keys.told()
    assert len(told) > 1
    assert max(len(value) for value in told.values()) <= 5_000
    assert [_mlflow_mapping.Keys("params", found, told).of(name) for name in names] == found


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
def test_a_forked_child_has_a_connection_of_its_own(server, url, name, kind, tmp_path):
    """After a fork both sides go on delivering; the child neither uses nor ends what is the parent's."""
    configure(sinks=["file:", url if kind == "http" else f"mlflow:file:{tmp_path}/mlruns"])
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
        names = [seen.info["run_name"] for seen in server.runs(name)]
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
