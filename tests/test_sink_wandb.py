"""The W&B sink with wandb itself, offline: its file is decoded with the messages that its wheel ships."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import signal
import sys
import time
from datetime import datetime
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import finished, program, started
from records import record
from wandb_logs import at_home, folders, only_run
from wandb_server import wandb_server

from runcard import RuncardWarning, configure, run
from runcard._doctor import examine
from runcard._pending import deliver_pending
from runcard.errors import MissingExtra, SettingError, StoreError
from runcard.journal import Reading
from runcard.record import Fields, History, Point, Status
from runcard.sinks import _wandb_form as form
from runcard.sinks import registry, wandb
from runcard.sinks._wandb_place import Place
from runcard.sinks._wandb_rows import Rows


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder in which wandb works offline."""
    monkeypatch.setenv("RUNCARD_DEADLINE", "60")
    monkeypatch.chdir(tmp_path)
    return at_home(monkeypatch, tmp_path / "home")


CONFIG = {"lr": 0.1, "model": {"layers": [1, 2], "x.y": None}, "nan": math.nan, "big": 2**70, "_wandb": {"v": 1}}


def test_runs_are_whole(home, store, capfd):
    """Config, history, summary, tags, notes, files, parent and exit code of runs that are open at the same time."""
    before = sys.excepthook, signal.getsignal(signal.SIGINT), "wandb.sdk" in sys.modules, dict(os.environ)
    configure(sinks=["file:", "wandb:team/cats"])
    with pytest.raises(ZeroDivisionError), run("parent", config=CONFIG, tags=["quick", "x" * 70], notes="why") as r:
        r.log(step=0, loss=0.1 + 0.2, odd=math.nan)
        r.log(step=0, accuracy=0.5)
        with run("child") as child:
            child.log(x=2**70)
            child.log_config({"late": 1})
        r.log(step=10, loss=1e-310, odd=math.inf, count=2**53 + 1)
        r.log(step=4, loss=7, _private=1)
        r.log(accuracy=True)
        r.artifact_path("plots/model.bin").write_bytes(b"weights")
        r.keep("good")
        _ = 1 / 0
    with pytest.raises(SystemExit), run("exits"):
        sys.exit(3)
    with pytest.raises(KeyboardInterrupt), run("stopped"):
        raise KeyboardInterrupt

    found, times = only_run(home, r.run_id), {}
    assert (found.run.project, found.run.entity, found.run.display_name) == ("cats", "team", "parent")
    assert (list(found.run.tags), found.run.notes) == (["quick", "x" * 64], "why")
    big = {"lr": 0.1, "model": {"layers": [1, 2], "x.y": None}, "nan": "NaN", "big": 2**70, "config/_wandb": {"v": 1}}
    assert found.config == big
    assert [row["_step"] for row in found.rows] == [0, 10, 11, 12]
    assert found.points("loss") == [(0, 0.1 + 0.2), (10, 1e-310), (4, 7)]
    assert found.points("count") == [(10, 2**53 + 1)]
    assert found.points("metric/_private") == [(4, 1)]
    assert repr(found.points("odd")) == "[(0, nan), (10, inf)]"
    assert found.points("accuracy") == [(0, 0.5), (1, 1)]
    for point in store.get(r.run_id).metric_history:
        times[point.time] = point
    assert {row["_timestamp"] for row in found.rows} <= times.keys()
    told = found.summary
    assert (told["loss"], told["accuracy"], told["count"]) == (7, 1, 2**53 + 1)
    assert (told["runcard"]["status"], told["runcard"]["decision"]) == ("failed", "keep")
    assert told["runcard"]["error"] == "ZeroDivisionError: division by zero"
    assert datetime.fromisoformat(told["runcard"]["started_at"]) == store.get(r.run_id).started_at
    entry = found.artifacts[f"{r.run_id}-files"]["plots/model.bin"]
    assert (entry.size, entry.digest) == (7, base64.b64encode(hashlib.md5(b"weights").digest()).decode())
    assert found.exit_code == 1
    assert found.files == ["runcard.json"]
    data = json.loads((folders(home, r.run_id)[0] / "files" / "runcard.json").read_text())
    assert data == store.get(r.run_id).to_dict(history=False)

    inner = only_run(home, child.run_id)
    assert (inner.run.run_group, inner.config, inner.exit_code) == (r.run_id, {"late": 1}, 0)
    assert inner.points("x.exact") == [(0, hex(2**70))]
    assert inner.points("x") == [(0, float(2**70))]
    exits = {found.name: only_run(home, found.run_id).exit_code for found in store.runs() if found.name != "child"}
    assert exits == {"parent": 1, "exits": 3, "stopped": 255}
    after = sys.excepthook, signal.getsignal(signal.SIGINT), "wandb.sdk" in sys.modules, dict(os.environ)
    assert after[:2] == before[:2], "wandb has changed the user's process"
    assert after[3] == before[3]
    assert (home / "wandb" / ".gitignore").read_text() == "*\n"
    assert capfd.readouterr().out == ""


def test_the_users_process_imports_no_wandb(home, tmp_path):
    """A program with the sink loads nothing of wandb, prints nothing of it, and leaves no process behind."""
    code = """
        import sys
        from runcard import run
        with run("r", sinks=["file:", "wandb:p"]) as r:
            r.log(x=1)
        print([name for name in sys.modules if name.partition(".")[0] == "wandb"])
    """
    done = finished(program(tmp_path, code))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert only_run(home).points("x") == [(0, 1)]


def test_a_ctrl_c_in_the_terminal_is_the_programs_own(home, tmp_path):
    """SIGINT to the whole group of processes ends the run as killed, and what speaks to wandb lives to tell it."""
    code = """
        import time
        from runcard import run
        with run("r", sinks=["file:", "wandb:p"]) as r:
            r.log(x=1)
            print("READY", flush=True)
            time.sleep(60)
    """
    process = started(program(tmp_path, code), start_new_session=True)
    process.stdout.readline()
    _wait_for(lambda: folders(home))
    first = folders(home)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    found = only_run(home)
    assert [found.path.parent] == first, "it was told again by another process"
    assert (found.exit_code, found.points("x")) == (255, [(0, 1)])


def test_what_a_killed_process_left_comes_with_sync(home, tmp_path, store):
    """After SIGKILL the next process delivers the run whole, in one folder, in place of what there is of it."""
    code = """
        import sys, time
        from runcard import run
        with run("r", sinks=["file:", "wandb:p"], config={"a": 1}) as r:
            for step in range(3000):
                r.log(loss=1 / (step + 1), step=step)
            print("READY", flush=True)
            time.sleep(60)
    """
    process = started(program(tmp_path, code))
    process.stdout.readline()
    until = time.monotonic() + 30
    while not folders(home) and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    while not any(path.read_bytes()[7:] for path in home.rglob("*.wandb")) and time.monotonic() < until:
        time.sleep(0.05)
    (first,) = folders(home)
    assert deliver_pending("wandb:p").done == 1
    found = only_run(home)
    assert found.points("loss") == [(step, 1 / (step + 1)) for step in range(3000)]
    assert (found.exit_code, found.summary["runcard"]["status"]) == (1, "crashed")
    assert not first.exists() or found.path.parent == first


def test_a_second_delivery_changes_nothing(home, store):
    """The same start, events and end once more give one folder with the same rows; an uploaded one is left alone."""
    with run("r", sinks=["file:", "wandb:p"]) as r:
        for step in range(5):
            r.log(step=step, loss=step)
    rows = only_run(home).points("loss")
    events = [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]
    given = store.get(r.run_id)
    sink = wandb.open_sink("wandb:p")
    sink.start(given)
    sink.extend(r.run_id, events[:3])
    sink.append(r.run_id, events[1])
    sink.start(given)
    sink.extend(r.run_id, events)
    sink.finish(given)
    assert only_run(home).points("loss") == rows
    path = only_run(home).path
    path.with_name(f"{path.name}.synced").touch()
    sink.finish(given)
    assert len(folders(home)) == 2
    del sink


def test_two_that_deliver_one_run_leave_one_of_it(home, store):
    """Where another process took the folder away that this one wrote, the run is told again, and nothing is lost."""
    with run("r") as r:
        r.log(step=0, loss=1.0)
    given, slow, fast = store.get(r.run_id), wandb.open_sink("wandb:p"), wandb.open_sink("wandb:p")
    slow.start(given)
    fast.start(given)
    fast.finish(given)
    with pytest.raises(StoreError, match="meanwhile"):
        slow.finish(given)
    assert only_run(home).points("loss") == [(0, 1.0)]
    slow.finish(given)
    assert only_run(home).points("loss") == [(0, 1.0)]


def test_a_run_goes_on_when_the_process_beside_it_dies(home):
    """When the process that speaks to wandb is killed, the run is told again from its first row."""
    with run("r", sinks=["file:", "wandb:p"]) as r:
        r.log(step=0, loss=0.0)
        _wait_for(lambda: folders(home))
        from runcard.sinks._wandb_process import _running

        (process,) = (each for each in _running if each.place == Place())
        process._popen.kill()
        r.log(step=1, loss=1.0)
    assert only_run(home).points("loss") == [(0, 0.0), (1, 1.0)]


def test_a_forked_child_has_a_process_of_its_own(home, tmp_path):
    """After a fork both sides go on delivering, and the parent's process ends with the parent."""
    code = """
        import os
        from runcard import run, configure
        configure(sinks=["file:", "wandb:p"])
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
    """
    done = finished(program(tmp_path, code))
    assert (done.returncode, done.stderr) == (0, "")
    assert {only_run(home, f.name.partition("-")[2][-24:]).run.display_name for f in folders(home)} == {
        "before",
        "child",
        "after",
    }


def test_a_forked_worker_keeps_nothing_of_a_killed_run_alive(home, tmp_path):
    """A worker that outlives its killed parent does not keep the parent's run open in W&B."""
    code = """
        import os, time
        from runcard import run
        with run("r", sinks=["file:", "wandb:p"]) as r:
            r.log(x=1)
            while not any(name.startswith("offline") for name in os.listdir("home/wandb")):
                time.sleep(0.05)
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
                os._exit(0)
            print(worker, flush=True)
            time.sleep(60)
    """
    (home / "wandb").mkdir()
    process = started(program(tmp_path, code))
    worker = int(process.stdout.readline())
    try:
        process.kill()
        _wait_for(lambda: b"run" in next(folders(home)[0].glob("*.wandb")).read_bytes()[7:])
        os.kill(worker, 0)
    finally:
        os.kill(worker, signal.SIGKILL)
        process.communicate()


def test_a_run_in_the_spool_goes_once_wandb_has_it(home, tmp_path):
    """Without a files sink nothing is left of a run but what wandb has, artifacts included."""
    with run("r", sinks=["wandb:"], experiment="a/b: c") as r:
        r.log(loss=1.0)
        r.artifact_path("w.bin").write_bytes(b"w")
    found = only_run(home)
    assert found.run.project == "a-b- c"
    (entry,) = found.artifacts[f"{r.run_id}-files"].values()
    assert Path(entry.local_path).read_bytes() == b"w"
    assert not list((tmp_path / "spool").glob("*/journal.jsonl"))


def test_without_a_key_the_run_is_kept_and_it_is_said(home, monkeypatch, tmp_path, store):
    """With no key wandb asks nobody: a warning, then doctor and the end of the run say what to do, and all is kept."""
    code = """
        from runcard import run
        with run("r", sinks=["file:", "wandb:no-key"]) as r:
            r.log(loss=1.0)
    """
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("RUNCARD_DEADLINE", "0.2")
    done = finished(program(tmp_path, code))
    assert done.returncode == 0
    assert "wandb login" in done.stderr
    assert "is kept" in done.stderr
    assert store.get("latest").status == "finished"
    with pytest.warns(RuncardWarning, match="WANDB_API_KEY"):
        finding = examine("wandb:no-key")
    assert (finding.fine, finding.waiting) == (False, 1)
    assert "wandb login" in finding.said
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert deliver_pending("wandb:no-key").done == 1
    assert only_run(home).points("loss") == [(0, 1.0)]


def test_online_a_run_is_told_once(home, monkeypatch, store):
    """Against a stand-in for W&B's server: rows, config, summary and exit code; told again, nothing comes twice."""
    with wandb_server() as (url, server):
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        with pytest.raises(SystemExit), run("r", sinks=["file:", "wandb:team/cats"], config={"lr": 0.1}) as r:
            for step in range(5):
                r.log(step=step * 10, loss=step)
            sys.exit(3)
        found = server.runs[r.run_id]
        rows = [json.loads(line) for line in found["lines"]["wandb-history.jsonl"]]
        expected = [(number, number, number // 10) for number in range(0, 50, 10)]
        assert [(row["_step"], row["step"], row["loss"]) for row in rows] == expected
        assert found["exit"] == 3
        assert json.loads(found["told"]["config"])["lr"] == {"value": 0.1}
        assert json.loads(found["uploaded"]["runcard.json"])["run_id"] == r.run_id
        given, sink = store.get(r.run_id), wandb.open_sink("wandb:team/cats")
        del found["lines"]["wandb-history.jsonl"][3:]  # as if the process had been killed there
        found["lines"]["wandb-summary.json"] = found["lines"]["wandb-history.jsonl"][-1:]
        sink.start(given)
        assert sink._runs[r.run_id].step == 21
        sink.finish(given)
        again = [json.loads(line) for line in found["lines"]["wandb-history.jsonl"]]
        assert [(row["_step"], row["step"], row["loss"]) for row in again] == expected
        assert not [path for path in server.asked if "otel" in path], "wandb reports on its use"


@pytest.mark.slow
def test_a_server_that_comes_back_gets_the_rest(home, monkeypatch):
    """While W&B's server is away the run goes on and ends in its time; back again, it is told all, once."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("RUNCARD_DEADLINE", "2")
    with wandb_server() as (url, server):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        r = run("r", sinks=["file:", "wandb:team/cats"]).start()
        r.log(step=0, a=0)
        _wait_for(lambda: server.runs)
    r.log(step=1, a=1)
    with pytest.warns(RuncardWarning, match="is kept"):
        r.end()
    with wandb_server(server.server_port, server.runs):
        _wait_for(lambda: server.runs[r.run_id]["exit"] == 0)
    rows = [json.loads(line) for line in server.runs[r.run_id]["lines"]["wandb-history.jsonl"]]
    assert [(row["_step"], row["a"]) for row in rows] == [(0, 0), (1, 1)]


def test_doctor_says_whether_wandb_can_be_used(home, monkeypatch, tmp_path):
    """The doctor is content with a folder that can be written, and names one that cannot."""
    assert examine("wandb:p")[1:] == (True, "can be reached and written", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file"))
    finding = examine("wandb:p")
    assert not finding.fine
    assert "cannot be written" in finding.said


def test_a_file_in_the_working_directory_switches_no_check_off(home, monkeypatch):
    """What wandb/settings says of certificates, servers and keys is refused; its mode is taken."""
    (home / "wandb").mkdir()
    (home / "wandb" / "settings").write_text("[default]\nmode = offline\ninsecure_disable_ssl = true\n")
    monkeypatch.delenv("WANDB_MODE")
    finding = examine("wandb:p")
    assert not finding.fine
    assert "insecure_disable_ssl" in finding.said
    with pytest.raises(StoreError, match="WANDB_INSECURE_DISABLE_SSL"):
        wandb.open_sink("wandb:p").start(record(0, status=Status.RUNNING))
    monkeypatch.setenv("WANDB_INSECURE_DISABLE_SSL", "false")
    assert Place().distrusted == []
    assert Place().mode == "offline"


@pytest.mark.parametrize(
    "url", ["wandb:a/b/c", "wandb://a/b", "wandb:a b#c", "wandb:p?diff=yes", "wandb:p?token=1", "wandb:/p", "wandb:a/"]
)
def test_a_url_that_names_no_project_is_refused(url):
    """The message has an example of a right one."""
    with pytest.raises(SettingError, match="wandb:project"):
        registry.check(url)


@pytest.mark.parametrize("found", [None, ModuleSpec("wandb", None)])
def test_a_missing_package_is_said_with_its_extra(monkeypatch, found):
    """Without wandb, be there a folder of that name or not, the URL is refused with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[wandb\]"'):
        wandb.open_sink.check("wandb:p")


def test_a_key_is_found_where_wandb_looks(home, monkeypatch):
    """The environment, netrc for the server, and the user's own settings have keys; the working directory has none."""
    assert not Place().has_key
    (home / ".netrc").write_text("machine api.wandb.ai login user password abc\n")
    assert Place().has_key
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not Place().has_key
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    assert Place().has_key


def test_a_run_of_the_users_own_wandb_is_not_ours(monkeypatch):
    """Variables of a wandb run, sweep or service of the user's reach no run of ours."""
    monkeypatch.setenv("WANDB_SERVICE", "3-1-tcp-localhost-1")
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_PROJECT", "cats")
    variables = Place().variables()
    assert {"WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_SWEEP_ID"}.isdisjoint(variables)
    assert variables["WANDB_PROJECT"] == "cats"


def test_switched_off_wandb_is_not_started(home, monkeypatch):
    """With WANDB_MODE=disabled a run is delivered to nobody, and nothing waits."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with run("r", sinks=["file:", "wandb:p"]) as r:
        r.log(loss=1.0)
    assert not (home / "wandb").exists()
    assert examine("wandb:p").waiting == 0


def test_only_what_was_asked_for_is_sent(tmp_path):
    """Uncommitted changes and console output go only by diff=1 and output=1, artifacts not by artifacts=0."""
    for name in ("diff.patch", "output.log"):
        (tmp_path / name).write_text(name)
    (tmp_path / "w.bin").write_bytes(b"w")
    function = Fields(qualname="train", source="def train(): ...", source_sha256="0" * 64)
    given = record(0, folder=str(tmp_path), artifacts=[Fields(name="w.bin", path="w.bin")], function=function)
    names, texts = {}, {}
    for query in ("", "?diff=1", "?output=1&artifacts=0"):
        told = wandb.open_sink(f"wandb:p{query}")._closing(given)
        names[query] = [each["name"] for each in told["files"] + told["artifacts"]]
        texts[query] = json.loads(told["record"])["function"].get("source")
    assert names == {"": ["w.bin"], "?diff=1": ["diff.patch", "w.bin"], "?output=1&artifacts=0": ["output.log"]}
    assert texts == {"": None, "?diff=1": function.source, "?output=1&artifacts=0": None}
    assert wandb.open_sink("wandb:p?artifacts=0").keeps_files is False


def test_no_file_outside_of_the_run_is_sent(tmp_path):
    """A record's path that leads out of the run's folder, by dots or by a link, counts as left out."""
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret").write_text("s")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "gone").write_text("g")
    paths = ["../secret", "link", str(tmp_path / "secret"), "absent"]
    entries = [*(Fields(path=path) for path in paths), Fields(path="gone", removed=True)]
    entries += [Fields(name="far", uri="s3://bucket/far"), Fields(uri="file:///etc/passwd")]
    found, missing = form.artifacts(record(0, folder=str(folder), artifacts=entries))
    assert found == [{"name": "far", "uri": "s3://bucket/far"}]
    assert missing == 6


def test_no_config_value_loads_an_artifact():
    """Texts and mappings that wandb would take for artifacts of its own, and fetch, are told as what they are."""
    given = {"a": "wandb-artifact://x", "b": {"_type": "artifactVersion", "id": 1}, "c": "wandb"}
    assert form.config(given) == {
        "a": "text: wandb-artifact://x",
        "b": {"_type": "text: artifactVersion", "id": 1},
        "c": "wandb",
    }


def test_integers_of_more_digits_than_python_writes():
    """What goes to the process beside is JSON, whatever the config holds."""
    assert form._plain({"n": [10**5000, 2**70]}) == {"n": [hex(10**5000), 2**70]}


def test_a_record_without_a_journal_keeps_its_points():
    """The rows of a run that no disk took are made of its points."""
    rows = Rows()
    history = History([Point("loss", 0, 2.0, 1.0), Point("acc", 0, 3.0, 1.5), Point("loss", 1, 1.0, 2.0)])
    told = rows.take_points(history) + rows.rest()
    assert told == [
        (0, {"step": 0, "loss": 2.0, "_timestamp": 1.5, "acc": 3.0}),
        (1, {"step": 1, "loss": 1.0, "_timestamp": 2.0}),
    ]


def _events(logged, writer="journal"):
    return [
        {"n": n, "writer": writer, "kind": "log", "t": float(n), "step": step, "metrics": metrics}
        for n, (step, metrics) in enumerate(logged)
    ]


class _Process:
    """Stands for the process beside: keeps what it is asked, and fails when it is told to."""

    alive = True

    def __init__(self, step=0):
        self.step, self.asked, self.fails = step, [], False

    def ask(self, request, _seconds=0):
        self.asked.append(request)
        if self.fails:
            raise StoreError("the disk is full")
        return {"step": self.step}


def test_rows_that_wandb_has_are_not_sent_again(monkeypatch):
    """Of a run that W&B knows up to a step, the rows from there on are sent."""
    sink, process = wandb.open_sink("wandb:p"), _Process(step=3)
    monkeypatch.setattr(sink, "_at", lambda place: process)
    sink.start(record(1, status=Status.RUNNING))
    sink.extend(record(1).run_id, _events([(step, {"a": step}) for step in range(7)]))
    assert [row[0] for request in process.asked[1:] for row in request["rows"]] == [3, 4, 5]


def test_after_a_failure_a_run_is_told_from_its_beginning(monkeypatch):
    """When wandb fails at something, the run is opened anew, and nothing of what was told counts as kept."""
    sink, process = wandb.open_sink("wandb:p"), _Process()
    monkeypatch.setattr(sink, "_at", lambda place: process)
    given, events = record(1, status=Status.RUNNING), _events([(step, {"a": step}) for step in range(3)])
    sink.start(given)
    process.fails = True
    with pytest.raises(StoreError, match="full"):
        sink.extend(given.run_id, events)
    process.fails = False
    del process.asked[:]
    sink.extend(given.run_id, events)
    assert [request["do"] for request in process.asked] == ["start", "rows"]
    assert [row[0] for row in process.asked[1]["rows"]] == [0, 1]


def test_events_out_of_order_are_all_rows_once():
    """Threads that log at one time write a few numbers late: those are no repetition."""
    first, second, third = _events([(0, {"a": 1}), (1, {"a": 2}), (2, {"a": 3})])
    rows = Rows()
    told = rows.take([first, third]) + rows.take([second, third]) + rows.rest()
    assert [row["a"] for _, row in told] == [1, 3, 2]


def test_other_ranks_log_nothing_and_forked_children_last():
    """Rank 0 has the history; the rows of forked children come at the end, by time, always in the same order."""
    rows = Rows()
    told = rows.take(_events([(0, {"a": 5})], "journal-fork2x1"))
    told += rows.take(_events([(0, {"a": 1}), (1, {"a": 2})]))
    told += rows.take(_events([(0, {"a": 9})], "journal-rank1")) + rows.rest()
    assert [(number, row["a"]) for number, row in told] == [(0, 1), (1, 2), (2, 5)]


_steps = st.one_of(st.none(), st.integers(-3, 8), st.sampled_from([2.5, 4.0, 2**60, math.nan]))
_logged = st.lists(
    st.tuples(_steps, st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), min_size=1)), max_size=12
)


@given(_logged, st.lists(st.integers(0, 12), max_size=4))
def test_rows_follow_from_the_events_alone(logged, cuts):
    """However the events are split and repeated: the same rows, rising, with every value at its step in its order."""
    events = _events(logged)
    rows = Rows()
    whole = rows.take(events) + rows.rest()
    numbers = [number for number, _ in whole]
    assert numbers == sorted(set(numbers))
    assert all(number >= 0 for number in numbers)
    for name in "abc":
        kept = [(row.get("step"), row[name]) for _, row in whole if name in row]
        assert repr(kept) == repr([(step, metrics[name]) for step, metrics in logged if name in metrics])
    pieces = Rows()
    told = []
    for cut in cuts:
        told += pieces.take(events[:cut])
    told += pieces.take(events) + pieces.take(events) + pieces.rest()
    assert repr(told) == repr(whole)


def _wait_for(condition):
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()
