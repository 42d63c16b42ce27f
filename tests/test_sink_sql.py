"""The SQL sink on SQLite and on a real PostgreSQL: all that a run is goes in once, and comes back as it was."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from records import record
from sqlalchemy import create_engine, text

from runcard import RuncardWarning, configure, open_store, run
from runcard.errors import MissingExtra, RunNotFound, SettingError, StoreError
from runcard.record import History, Point, Status
from runcard.sinks import _sql_schema, registry, sql


def ask(url, statement):
    """The rows of a statement written by hand."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(statement))]
    engine.dispose()
    return rows


LONG = "é\0\ud7ff😀" * 20_000
CONFIG = {"lr": 0.1, "nan": math.nan, "inf": -math.inf, "big": 2**70, "model": {"layers": [1, 2], "x.y": None}}


def train(url, **options):
    """A run with all that is hard to keep."""
    with run("train", config=CONFIG, sinks=["file:", url], tags=["quick", "a\0b"], notes=LONG[:60_000], **options) as r:
        r.log(step=0, loss=0.1 + 0.2, odd=math.nan, count=2**63 - 1)
        r.log(step=1, loss=1e-310, odd=math.inf, count=2**53 + 1)
        r.log(step=2**60, loss=5e-324, odd=-0.0, count=3)
        r.artifact_path("model.bin").write_bytes(b"weights")
        r.keep("good")
    return r


def same(left, right):
    """Equal by what JSON data they are; NaN and the kind of each number included."""
    return repr(left.to_dict()) == repr(right.to_dict())


def test_what_comes_back_is_what_went_in(store, database):
    """The record, with its history, is the same from the database as from the files: every number exact."""
    r = train(database)
    there, here = open_store(database).get(r.run_id), store.get(r.run_id)
    assert same(there, here)
    assert there.config["big"] == 2**70
    assert [type(point.value) for point in there.metric_history if point.name == "count"] == [int, int, int]
    assert [point.value for point in open_store(database).history("latest", "loss")] == [0.1 + 0.2, 1e-310, 5e-324]


def test_an_integer_beyond_all_doubles_is_kept(store, database):
    """It stands as infinite in the tables, with its digits in ``exact`` beside it, and comes back as it was."""
    with run("train", config={"n": -(10**400)}, sinks=["file:", database]) as r:
        r.log(count=10**400)
    assert same(open_store(database).get(r.run_id), store.get(r.run_id))
    told = [(math.inf, str(10**400))]
    assert ask(database, "SELECT last, exact FROM runcard_metrics") == told
    assert ask(database, "SELECT value, exact FROM runcard_points") == told


def test_the_tables_can_be_queried_by_hand(database):
    """Runs, settings, metrics, tags, artifacts and points are rows that a person can ask for."""
    r = train(database)
    assert ask(database, "SELECT run_id, name, status, decision FROM runcard_runs") == [
        (r.run_id, "train", "finished", "keep")
    ]
    config = {
        path: (value, number) for path, value, number in ask(database, "SELECT path, value, number FROM runcard_config")
    }
    assert config["lr"] == ("0.1", 0.1)
    assert config["model.layers"] == ("[1,2]", None)
    assert config['model["x.y"]'] == (None, None)
    assert config["big"][1] == float(2**70)
    metrics = {row[0]: row[1:] for row in ask(database, "SELECT name, last, exact, min, count FROM runcard_metrics")}
    assert metrics["loss"] == (5e-324, None, 5e-324, 3)
    assert sorted(ask(database, "SELECT tag FROM runcard_tags")) == [("a\ufffdb",), ("quick",)]
    assert ask(database, "SELECT place, bytes FROM runcard_artifacts") == [("artifacts/model.bin", 7)]
    odd = "SELECT step, exact FROM runcard_points WHERE name = 'count' ORDER BY step"
    assert ask(database, odd) == [(0.0, str(2**63 - 1)), (1.0, str(2**53 + 1)), (float(2**60), None)]


def test_a_second_delivery_changes_nothing(store, database):
    """The same start, events and end once more leave every table as it was."""
    r = train(database)
    tables = ("runs", "config", "metrics", "tags", "artifacts", "events", "points")
    counts = [ask(database, f"SELECT count(*) FROM runcard_{table}") for table in tables]
    sink = sql.open_sink(database)
    record_, events = store.get(r.run_id), []
    from runcard.journal import Reading

    events = [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]
    sink.start(record_)
    sink.extend(r.run_id, events)
    sink.append(r.run_id, events[3])
    sink.finish(record_)
    assert [ask(database, f"SELECT count(*) FROM runcard_{table}") for table in tables] == counts
    assert same(open_store(database).get(r.run_id), record_)


def test_a_late_judgement_in_the_database_stays(store, database):
    """keep, tag, note, rename and amend work on the database, and a redelivered end does not undo them."""
    r = train(database)
    there = open_store(database)
    there.discard(r.run_id, "leak")
    there.tag(r.run_id, "late", remove=["quick"])
    there.rename(r.run_id, "again")
    there.amend(r.run_id, {"loss": 7.0}, "wrong units")
    sql.open_sink(database).finish(store.get(r.run_id))
    found = there.get("again")
    assert (found.decision, found.decision_reason, found.metrics["loss"]) == ("discard", "leak", 7.0)
    assert found.tags == ["a\0b", "late"]
    assert [entry.decision for entry in found.decisions] == ["keep", "discard"]
    assert ask(database, "SELECT name, decision FROM runcard_runs") == [("again", "discard")]
    with pytest.raises(RunNotFound):
        sql.open_sink(database).append("20260101T000000-aaaaaaaa", {"kind": "note", "t": 1.0, "text": "x"})


def test_a_late_text_that_is_no_utf_8_is_escaped(store, database):
    """A terminal hands over what somebody typed as lone surrogates: tags, notes and reasons of every store take it."""
    r = train(database)
    for place in (store, open_store(database)):
        place.tag(r.run_id, "a\udcff")
        place.note(r.run_id, "b\udcff")
        assert place.discard(r.run_id, "c\udcff").decision_reason == "c\\udcff"
        assert "a\\udcff" in place.get(r.run_id).tags


def test_a_run_is_seen_while_it_goes_on(database):
    """A live run reads as running with its points so far; one whose process is gone reads as crashed."""
    sink = sql.open_sink(database)
    with run("live", sinks=["file:"]) as r:
        from runcard.journal import Reading

        r.log(loss=0.5)
        folder = r.folder
        events = [{**event, "writer": "journal"} for event in Reading(folder / "journal.jsonl")]
        sink.start(open_store(folder.parent).get(r.run_id))
        sink.extend(r.run_id, events)
        found = open_store(database).get("latest")
        assert (found.status, found.metrics, found.duration_s) == ("running", {"loss": 0.5}, None)
    dead = {**events[0], "run_id": "20260101T000000-aaaaaaaa", "alive": {**events[0]["alive"], "pid": 2**22 + 5}}
    sink.start(record(0, run_id=dead["run_id"], status=Status.RUNNING))
    sink.extend(dead["run_id"], [dead, *events[1:]])
    assert open_store(database).get(dead["run_id"]).status == "crashed"


def test_a_record_without_a_journal_keeps_its_points(database):
    """A run that no disk took is kept as far as its record tells it."""
    sink = sql.open_sink(database)
    given = record(1, metrics={"loss": 2.0}, metric_history=History([Point("loss", 0, 2.0, 1.0)]))
    sink.finish(given)
    found = open_store(database).get(given.run_id)
    assert (found.metrics, list(found.metric_history)) == ({"loss": 2.0}, [Point("loss", 0, 2.0, 1.0)])


def test_integers_beyond_floats_come_back(database):
    """Config and metrics keep every digit; where a column can hold a double alone, it holds an infinity."""
    with run("big", config={"n": 10**5000, "m": -(10**400)}, sinks=[database]) as r:
        r.log(loss=-(10**400))
    there = open_store(database)
    assert there.get(r.run_id).config == {"n": 10**5000, "m": -(10**400)}
    assert there.get(r.run_id).metrics == {"loss": -(10**400)}
    assert len(there.runs("metrics.loss < 0")) == 1


def test_an_empty_or_missing_database_has_no_runs(tmp_path, database):
    """Reading makes no file and no table."""
    assert open_store(database).runs() == []
    assert not (tmp_path / "runs.db").exists()


def test_runs_are_filtered_and_ranked_as_any(database):
    """where, sort and rank are those of every store."""
    for number in range(3):
        with run("r", config={"lr": number}, sinks=[database]) as r:
            r.log(loss=float(-number))
    there = open_store(database)
    assert [found.config["lr"] for found in there.runs("config.lr < 2")] == [1, 0]
    assert [found.config["lr"] for found in there.rank("loss", "minimize")] == [2, 1, 0]


def _work(url, folder, count):
    os.environ.update(RUNCARD_DIR=str(folder), RUNCARD_DEADLINE="60")
    for number in range(count):
        with run("many", config={"number": number}, sinks=["file:", url], capture=["-git", "-packages"]) as r:
            r.log(x=number)


@pytest.mark.parametrize(("processes", "count"), [(4, 10), pytest.param(8, 200, marks=pytest.mark.slow)])
def test_many_processes_at_once_lose_nothing(tmp_path, database, processes, count):
    """Processes write into one new database at once: no run lost, no "database is locked"."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(database, tmp_path / "runs", count)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * processes
    assert ask(database, "SELECT status, count(*) FROM runcard_runs GROUP BY status") == [
        ("finished", processes * count)
    ]
    assert ask(database, "SELECT count(*) FROM runcard_points") == [(processes * count,)]
    assert all(found.losses == {} for found in open_store(tmp_path / "runs").runs())


def test_a_forked_child_leaves_the_parents_connection_alone(database):
    """After a fork both sides go on writing, each through a connection of its own."""
    configure(sinks=["file:", database])
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
    assert {found.name for found in open_store(database).runs()} == {"before", "child", "after"}


def test_the_tables_move_with_the_version(monkeypatch, database):
    """A newer version changes what is there and keeps the runs; an older one refuses newer tables, with the reason."""
    r = train(database)
    monkeypatch.setattr(
        _sql_schema, "MIGRATIONS", [*_sql_schema.MIGRATIONS, "ALTER TABLE runcard_runs ADD COLUMN colour TEXT"]
    )
    sql.open_sink(database).touch(r.run_id)
    assert ask(database, "SELECT run_id, colour FROM runcard_runs") == [(r.run_id, None)]
    assert ask(database, "SELECT version FROM runcard_schema") == [(3,)]
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"version 3, this runcard knows 2: pip install -U runcard"):
        sql.open_sink(database).touch(r.run_id)


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite:", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+aiosqlite:///runs.db"),
        *("postgresql://host", "postgresql://h:x/db", "postgresql+asyncpg://host/db", "postgresql+psycopg2://host/db"),
    ],
)
def test_a_bad_url_is_refused_when_it_is_set(url):
    """configure() says what is wrong, without connecting."""
    with pytest.raises(SettingError):
        configure(sinks=[url])


def test_a_missing_package_names_the_extra(monkeypatch):
    """Without SQLAlchemy, the message says what to install."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[sql\]"'):
        configure(sinks=["sqlite:///elsewhere.db"])


def test_no_password_is_shown(postgres, tmp_path):
    """Neither the repr, nor an error, nor the warning, nor the record tell the password of a server."""
    url = "postgresql://ana:hunter2secret@127.0.0.1:1/runs?connect_timeout=2"
    sink = sql.open_sink(url)
    assert "hunter2secret" not in repr(sink) + sink.url
    with pytest.raises(StoreError, match=r"(?i)refused") as caught:
        sink.touch("x")
    assert "hunter2secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    configure(deadline=0.3)
    with pytest.warns(RuncardWarning) as said, run("r", sinks=["file:", url], capture=["-git"]) as r:
        pass
    assert "hunter2secret" not in str(said[0].message)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hunter2secret" not in path.read_bytes(), path
    assert r.status == "finished"


def test_a_relative_file_stays_where_it_was_named(tmp_path, monkeypatch):
    """sqlite:///runs.db is made absolute at once."""
    monkeypatch.chdir(tmp_path)
    sink = registry.resolve("sqlite:///runs.db")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    sink.finish(record(1))
    assert (tmp_path / "runs.db").exists()


READ = """
import sys
from runcard import open_store
store = open_store(sys.argv[1])
print(store.get("latest").metrics, [found.name for found in store.runs()])
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="unshare -rm is not allowed",
)
def test_a_file_on_a_read_only_disk_can_be_read(tmp_path):
    """An SQLite file that lies where nothing can be written is read all the same: a copy in an archive, a snapshot."""
    (tmp_path / "kept").mkdir()
    url = f"sqlite:///{tmp_path}/kept/r uns%.db"
    write = "import sys\nfrom runcard import run\nwith run('kept', sinks=['file:', sys.argv[1]]) as r:\n    r.log(x=1)"
    subprocess.run([sys.executable, "-c", write, url], check=True, timeout=60)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["r uns%.db"]
    folder = tmp_path / "kept"
    script = f'mount --bind "{folder}" "{folder}" && mount -o remount,ro,bind "{folder}" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", READ, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{'x': 1} ['kept']\n", "")


@pytest.mark.parametrize(("mode", "bits"), [("private", 0o600), ("group", 0o660)])
def test_a_new_file_is_for_its_owner_or_the_group(tmp_path, mode, bits):
    """SQLite's file, and what SQLite keeps beside it, can be read by nobody else; one that is there stays as it is."""
    configure(mode=mode)
    sink = sql.open_sink(f"sqlite:///{tmp_path}/runs.db")
    before = os.umask(0o022)
    try:
        sink.finish(record(1))
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("runs.db*")}
    assert set(found.values()) == {bits}, found
    (tmp_path / "runs.db").chmod(0o640)
    sink.finish(record(2))
    assert (tmp_path / "runs.db").stat().st_mode & 0o777 == 0o640


def test_sqlite_waits_for_a_lock(tmp_path):
    """A write that comes while another program holds the file waits, and is done when it lets go."""
    url = f"sqlite:///{tmp_path}/runs.db"
    sink = sql.open_sink(url)
    sink.finish(record(1))
    code = (
        "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\ntime.sleep(0.7)\nc.execute('COMMIT')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{tmp_path}/runs.db"], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        sink.finish(record(2))
    assert len(open_store(url).runs()) == 2
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
