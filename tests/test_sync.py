"""`runcard sync` and `runcard doctor`: what was left behind, copies of whole stores, and what is wrong with a sink."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from command_line import call, read

from runcard import RuncardWarning, _courier, _parcels, _sync, configure, delivery, open_store, run


def train(number, *sinks, **options):
    with run("train", config={"number": number}, sinks=["file:", *sinks], capture=["-git"], **options) as r:
        r.log(loss=0.1 * number, big=2**53 + number)
        r.log(loss=float("nan"))
    return r


def same(left, right):
    return repr(left.to_dict()) == repr(right.to_dict())


def test_a_store_goes_to_a_database_and_back(tmp_path, store, database):
    """Files to a database to files: every record is the same at each place, late judgements included."""
    runs = [train(number) for number in range(3)]
    store.keep(runs[0].run_id, "good")
    done = call("sync", store.root, database)
    assert (done.exit_code, done.stdout) == (0, "3 runs copied\n")
    back = tmp_path / "back"
    assert call("sync", database, back).stdout == "3 runs copied\n"
    for r in runs:
        assert same(open_store(database).get(r.run_id), store.get(r.run_id))
        assert same(open_store(back).get(r.run_id), store.get(r.run_id))


def test_a_second_copy_brings_only_what_is_new(store, database):
    """What is there is left alone; a new run, and a new judgement of an old one, come over."""
    first = train(1)
    call("sync", store.root, database)
    assert call("sync", store.root, database).stdout == "0 runs copied, 1 there already\n"
    train(2)
    store.discard(first.run_id, "leak")
    assert call("sync", store.root, database).stdout == "2 runs copied\n"
    assert open_store(database).get(first.run_id).decision == "discard"


def test_a_judgement_made_in_the_copy_stays(tmp_path, store, database):
    """Copying once more does not undo what was said of the copy; copying back brings it home."""
    r = train(1)
    call("sync", store.root, database)
    open_store(database).keep(r.run_id, "in the database")
    call("sync", store.root, database)
    assert open_store(database).get(r.run_id).decision_reason == "in the database"
    assert call("sync", database, store.root).stdout == "1 run copied\n"
    assert store.get(r.run_id).decision_reason == "in the database"


def test_memory_goes_into_a_folder_whole(tmp_path, store):
    """What a process keeps in memory is copied by the events in its folder, as long as that is there."""
    r = train(1, "memory:kept")
    assert call("sync", "memory:kept", tmp_path / "copy").stdout == "1 run copied\n"
    assert same(open_store(tmp_path / "copy").get(r.run_id), store.get(r.run_id))


def test_a_running_run_is_left_out(store, database):
    """A run that goes on is counted and not copied."""
    with run("live", sinks=["file:"]):
        assert call("sync", store.root, database).stdout == "0 runs copied, 1 still running\n"
    assert open_store(database).runs() == []


def test_a_copy_between_folders_takes_the_artifacts(tmp_path, store):
    """From folder to folder all files come along."""
    with run("r") as r:
        r.artifact_path("w.bin").write_bytes(b"weights")
    call("sync", store.root, tmp_path / "copy")
    assert (tmp_path / "copy" / r.run_id / "artifacts" / "w.bin").read_bytes() == b"weights"


def test_what_does_not_come_back_as_it_was_is_said(store, database, monkeypatch):
    """A target that loses an event fails the copy of that run, by its id; the others are copied."""
    from runcard.sinks import _sql_rows, sql

    bad, good = train(1), train(2)
    insert_all = _sql_rows.insert_all

    def lossy(transaction, events):
        insert_all(transaction, [(r, event) for r, event in events if (r, event["n"]) != (bad.run_id, 2)])

    monkeypatch.setattr(_sql_rows, "insert_all", lossy)
    monkeypatch.setattr(sql, "insert_all", lossy)
    done = call("sync", store.root, database)
    assert done.exit_code == 2
    assert f"{bad.run_id}: 1 of " in done.stderr
    assert open_store(database).get(good.run_id).config == {"number": 2}


def test_a_hostile_database_writes_nowhere_else(tmp_path, store):
    """The name of a journal from a database is no path out of the run's folder."""
    from runcard.sinks import sql

    r = train(1)
    url = f"sqlite:///{tmp_path}/runs.db"
    call("sync", store.root, url)
    event = {"n": 0, "kind": "note", "t": 1.0, "text": "x", "writer": "../../evil"}
    sql.open_sink(url).extend(r.run_id, [event])
    done = call("sync", url, tmp_path / "copy")
    assert done.exit_code == 2
    assert list(tmp_path.rglob("*evil*")) == []


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Three runs that a database, whose folder was missing, did not take; and its URL."""
    monkeypatch.setattr(_courier, "AGAIN_S", (600.0, 600.0))  # what this process tries once more comes too late
    url = f"sqlite:///{tmp_path}/deep/runs.db"
    configure(deadline=0.05, sinks=["file:", url])
    with pytest.warns(RuncardWarning, match="what is missing is kept"):
        for number in range(3):
            with run("old", config={"number": number}, capture=["-git"]) as r:
                r.log(x=number)
    (courier,) = _courier._couriers.values()
    until = time.monotonic() + 30
    while not (courier._due > time.monotonic() and all(parcel.ended for parcel, _ in courier._parcels.values())):
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.05)  # a try that this has just begun is over
    delivery.forget()  # as a process that has ended
    return url


def test_sync_delivers_what_is_waiting(tmp_path, store, left_behind):
    """While the sink is down sync says so and keeps it; once it is up, all is delivered and nothing waits."""
    done = call("sync")
    assert (done.exit_code, done.stdout) == (2, "0 runs delivered\n")
    assert "is not there; make it first" in done.stderr
    assert "3 runs could not be brought over" in done.stderr
    (tmp_path / "deep").mkdir()
    assert call("sync").stdout == "3 runs delivered\n"
    assert call("sync").stdout == "0 runs delivered\n"
    assert _parcels.notes(store.root) == []
    there = open_store(left_behind)
    assert all(same(there.get(found.run_id), found) for found in store.runs())


def test_a_sink_that_is_down_is_waited_for_once(store, left_behind, monkeypatch):
    """After one run that it did not take, and a probe, the others are not tried: each would wait in vain."""
    tried = []  # by thread: that of the runs may come along once more

    def refuse(*_):
        tried.append(threading.get_ident())
        raise OSError("no")

    monkeypatch.setattr(_parcels.Parcel, "advance", refuse)
    done = call("sync")
    assert (done.exit_code, tried.count(threading.get_ident())) == (2, 1)
    assert done.stderr.count(f"waits for {left_behind} as well") == 2
    assert "3 runs could not be brought over" in done.stderr


def test_a_run_that_waits_for_two_sinks_is_one_run(tmp_path, store, left_behind):
    """What is delivered is counted by runs, not by their sinks."""
    other = f"sqlite:///{tmp_path}/deep/other.db"
    with pytest.warns(RuncardWarning), run("two", sinks=["file:", left_behind, other], capture=["-git"]):
        pass
    delivery.forget()
    (tmp_path / "deep").mkdir()
    configure(sinks=["file:", left_behind, other])
    assert call("sync").stdout == "4 runs delivered\n"
    assert len(open_store(other).runs()) == 1


def test_a_copy_from_or_to_nowhere_is_refused_at_once(tmp_path, store):
    """A folder or a file that is not there, a target that cannot be reached: said once, before any run is read."""
    train(1)
    for nowhere in (tmp_path / "nowhere", f"sqlite:///{tmp_path}/nowhere.db"):
        done = call("sync", nowhere, tmp_path / "copy")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "there is no store at" in done.stderr
    done = call("sync", store.root, f"sqlite:///{tmp_path}/missing/runs.db")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("is not there; make it first") == 1


def test_sync_delivers_elsewhere(tmp_path, store, left_behind):
    """With --to what waits goes to another sink, and is not waited for any more."""
    url = f"sqlite:///{tmp_path}/other.db"
    assert call("sync", "--to", url).stdout == "3 runs delivered\n"
    assert _parcels.notes(store.root) == []
    assert len(open_store(url).runs()) == 3


def test_sync_looks_where_store_says(tmp_path, store, left_behind):
    """--store names another folder in which runs wait; FROM and TO say themselves which stores they are."""
    assert call("sync", "--store", tmp_path / "elsewhere").stdout == "0 runs delivered\n"
    configure(directory=tmp_path / "elsewhere")
    assert "3 runs could not be brought over" in call("--store", store.root, "sync").stderr
    assert call("sync", store.root, tmp_path / "copy", "--store", tmp_path).stdout == "3 runs copied\n"


def test_sync_without_the_sink_says_which(store, left_behind):
    """What waits for a sink that is not configured stays, and the message names both."""
    configure(sinks=["file:"])
    done = call("sync")
    assert done.exit_code == 2
    assert f"waits for {left_behind}, which is not among the sinks; --to names one" in done.stderr
    assert len(_parcels.notes(store.root)) == 3


def test_doctor_tells_a_sink_that_works_from_one_that_does_not(tmp_path, store, left_behind, database):
    """Reachable and writable, or the reason, and how many runs wait; the exit code says the same."""
    done = call("doctor")
    assert done.exit_code == 2
    assert "ok  file:" in done.stdout
    assert f"BAD {left_behind}: " in done.stdout
    assert "is not there; make it first; 3 runs waiting" in done.stdout
    found = read("doctor", database)
    assert [(entry["fine"], entry["said"], entry["waiting"]) for entry in found] == [
        (True, "can be reached and written", 0)
    ]
    assert open_store(database).runs() == []
    for words in (["doctor", "--store", store.root], ["--store", store.root, "doctor"]):
        assert call(*words).stdout.splitlines()[0] == f"ok  file:{store.root}: can be written"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nosuch:x", "no sink is known"),
        ("postgresql://ana:hunter2secret@127.0.0.1:1/runs?connect_timeout=2", "refused"),
        ("sqlite:", "names no file"),
    ],
)
def test_doctor_says_why(url, reason):
    """An unknown scheme, a refused connection, a URL that names nothing: said in one line, without the password."""
    done = call("doctor", url)
    assert done.exit_code == 2
    assert reason in done.stdout
    assert "hunter2secret" not in done.stdout + done.stderr


def test_usage(store):
    """One place without the other is wrong usage."""
    assert call("sync", store.root).exit_code == 2
    assert "--to" in call("sync", "--help").stdout
    store.root.mkdir()
    assert _sync.copy(str(store.root), "memory:copy") == (0, 0, 0, [])


def test_a_database_takes_many_runs_at_once(store, database, monkeypatch):
    """Runs go to a database together, and are read back together: not a transaction a run."""
    from runcard.sinks.sql import SqlSink

    taken, take = [], SqlSink.take
    monkeypatch.setattr(SqlSink, "take", lambda self, runs: taken.append(len(runs)) or take(self, runs))
    monkeypatch.setattr(_sync, "TOGETHER", 3)
    for number in range(4):
        train(number)
    assert call("sync", store.root, database).stdout == "4 runs copied\n"
    assert taken == [3]  # the fourth was alone
    assert all(same(open_store(database).get(found.run_id), found) for found in store.runs())


def test_a_copy_that_was_killed_goes_on(tmp_path, store, database):
    """Killed in the middle, called again: what is there is left alone, the rest comes, and every record is the same."""
    for number in range(12):
        train(number)
    code = (
        "import os, sys\nfrom runcard import _sync\nfrom runcard.sinks.sql import SqlSink\n"
        "_sync.TOGETHER, take = 3, SqlSink.take\n"
        "def dying(self, runs, seen=[]):\n"
        "    seen.append(1)\n"
        "    take(self, runs)\n"
        "    if len(seen) == 2: os.kill(os.getpid(), 9)\n"
        "SqlSink.take = dying\n_sync.copy(sys.argv[1], sys.argv[2])"
    )
    died = subprocess.run([sys.executable, "-c", code, str(store.root), database], check=False)
    assert died.returncode == -9
    there = len(open_store(database).runs())
    assert 0 < there < 12
    assert call("sync", store.root, database).stdout == f"{12 - there} runs copied, {there} there already\n"
    assert all(same(open_store(database).get(found.run_id), found) for found in store.runs())


def test_a_run_that_the_copy_does_not_list_is_said(store, database, monkeypatch):
    """The runs of the copy are counted in the end: one that is not among them is a failure, by its id."""
    from runcard.sinks.sql import SqlSink

    r = train(1)
    train(2)
    run_ids = SqlSink.run_ids
    monkeypatch.setattr(SqlSink, "run_ids", lambda self: [each for each in run_ids(self) if each != r.run_id])
    done = call("sync", store.root, database)
    assert (done.exit_code, done.stdout) == (2, "1 run copied\n")
    assert f"{r.run_id}: it is not among the runs of the copy" in done.stderr


def test_progress_is_shown_on_a_terminal_alone(store, database, monkeypatch):
    """A bar goes to standard error where that is a terminal; a pipe gets the result and nothing else."""
    import io

    from runcard.cli import sync as command

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(command._progress([1, 2, 3])) == [1, 2, 3]
    assert "100%" in screen.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(command._progress([1, 2, 3])) == [1, 2, 3]
    assert sys.stderr.getvalue() == ""
