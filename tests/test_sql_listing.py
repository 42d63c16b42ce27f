"""A database's listings: what SQL decides is what `runcard.query` decides over all records, for every value."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from runcard import open_store, query, run
from runcard.errors import QueryError, RunNotFound
from runcard.record import Fields, RunRecord, Status, as_fields
from runcard.sinks import _sql_lean, sql
from runcard.sinks._sql_where import conditions

BEGAN = datetime(2026, 11, 23, 10, 11, 12, tzinfo=UTC)
NUMBERS = [0, 1, -1, 0.1, -0.0, 1e-310, math.nan, math.inf, -math.inf, 2**53, 2**53 + 1, 2**63, -(2**70), True]
VALUES = [
    *NUMBERS,
    False,
    None,
    "adam",
    "sgd",
    "0.1",
    "true",
    "",
    "a\0b",
    "é",
    [1, 2],
    {},
    {"x": 1},
    {"$set": [1]},
    "z" * 600,
]
TEXTS = ["train", "eval", "Zeta", "", "é", "a\0b", "x" * 600]

numbers, values = st.sampled_from(NUMBERS), st.sampled_from(VALUES)
configs = st.fixed_dictionaries(
    {},
    optional={
        "lr": values,
        "opt": values,
        "model": st.one_of(values, st.fixed_dictionaries({}, optional={"lr": values, "x y": values})),
        "a.b": values,
    },
)
records = st.lists(
    st.builds(
        dict,
        when=st.sampled_from([None, 0, 0, 1, 2.5]),
        status=st.sampled_from([*Status, "finished", "finished"]),
        name=st.sampled_from(TEXTS),
        experiment=st.sampled_from(TEXTS[:3]),
        config=configs,
        metrics=st.fixed_dictionaries({}, optional={"loss": numbers, "val/loss": numbers, "a.b": numbers}),
        tags=st.lists(st.sampled_from(["quick", "slow", "a\0b", "t" * 600]), unique=True),
        decision=st.sampled_from([None, "keep", "discard"]),
        is_best=st.sampled_from([None, True, False]),
        duration_s=st.sampled_from([None, 0.0, 1.5]),
        user=st.sampled_from([None, "ana", "bo"]),
        amended=st.booleans(),
    ),
    max_size=8,
)
PLACES = ["config.lr", "config.opt", "config.model", "config.model.lr", 'config["a.b"]', 'config.model["x y"]']
PLACES += [
    "metrics.loss",
    'metrics["val/loss"]',
    'metrics["a.b"]',
    "name",
    "experiment",
    "status",
    "decision",
    "is_best",
]
PLACES += ["duration_s", "user", "parent_id", "started_at", "config.none", "metrics.none", "losses", "config_hash"]
CONSTANTS = ["0", "1", "0.1", "-1", "1e-310", "inf", "-inf", "2", "True", "False", "None", "'adam'", "'0.1'", "'true'"]
CONSTANTS += ["'finished'", "'crashed'", "'train'", "'keep'", "''", "'ana'", "nan", str(2**53 + 1), "'a\\0b'"]
SORTS = [*PLACES, "run_id", "metrics.val/loss", "config.a.b", "started_at", "notes", "tags"]
SORTS += ["experiment,-metrics.loss", "config.lr,name,-started_at"]


@st.composite
def expressions(draw, depth=2):
    """An expression of ``where=``."""
    kind = draw(st.sampled_from(["compare", "compare", "in", "tag", "is", "time", "chain", "not", "and", "or"]))
    place, constant = draw(st.sampled_from(PLACES)), draw(st.sampled_from(CONSTANTS))
    if kind in ("and", "or", "not") and depth:
        left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
        return f"not ({left})" if kind == "not" else f"({left}) {kind} ({right})"
    if kind == "in":
        return f"{place} {draw(st.sampled_from(['in', 'not in']))} ({constant}, {draw(st.sampled_from(CONSTANTS))})"
    if kind == "tag":
        return f"'{draw(st.sampled_from(['quick', 'none']))}' {draw(st.sampled_from(['in', 'not in']))} tags"
    if kind == "is":
        return f"{place} {draw(st.sampled_from(['is', 'is not']))} {draw(st.sampled_from(['None', 'True', 'False']))}"
    sign = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
    if kind == "time" or place == "started_at":
        times = ["2026-11-23", "2026-11-24", "2026-11-23T10:11:12", "2026-11-23T12:11:12+02:00"]
        return f"started_at {sign} '{draw(st.sampled_from(times))}'"
    if kind == "chain":
        return f"{draw(st.sampled_from(CONSTANTS))} <= {place} {sign} {constant}".replace("'", '"')
    return f"{constant} {sign} {place}" if draw(st.booleans()) else f"{place} {sign} {constant}"


def made(number, told):
    """A record from what the strategy drew."""
    told = dict(told)
    when, amended = told.pop("when"), told.pop("amended")
    started = None if when is None else BEGAN + timedelta(seconds=when)
    told["status"] = Status(told["status"])
    told["config"], told["metrics"] = as_fields(told["config"]), Fields(told["metrics"])
    low = {name: Fields(last=value, min=-7, max=7.5, count=3) for name, value in told["metrics"].items()}
    if amended and "loss" in told["metrics"]:
        told["amendments"] = [Fields(metrics=Fields(loss=told["metrics"]["loss"]))]
    run_id = f"{(started or BEGAN):%Y%m%dT%H%M%S}-{number:08d}"
    return RunRecord(run_id=run_id, started_at=started, metric_summary=Fields(low), **told)


def filled(url, told):
    """A store of these records; those that run have no process, so that they read as crashed."""
    sink = sql.open_sink(url)
    for number, each in enumerate(told):
        record = made(number, each)
        (sink.start if record.status is Status.RUNNING else sink.finish)(record)
    return open_store(url)


def agree(store, where, sort, limit, metric="loss"):
    """Each question has the same answer from the tables as from all records."""
    everything = query.newest_first(store._source.records())
    chosen = [{}, {"experiment": "train"}, {"status": "finished"}, {"status": "crashed,failed"}, {"where": where}]
    for asked in [*chosen, {"where": where, "experiment": "eval", "status": "crashed,finished"}]:
        for key in (None, sort):
            expected = query.select(everything, **asked, sort=key, limit=limit)
            found = store.runs(**asked, sort=key, limit=limit)
            assert [r.run_id for r in found] == [r.run_id for r in expected], (asked, key, limit)
        newest = query.newest_first(query.select(everything, **asked))
        for direction in ("minimize", "maximize"):
            for at in ("last", "best"):
                expected = query.rank(newest, metric, direction, at=at)[:limit]
                found = store.rank(metric, direction, at=at, **asked, limit=limit)
                assert [r.run_id for r in found] == [r.run_id for r in expected], (asked, direction, at, limit)
    for found, expected in zip(store.runs(), everything, strict=True):
        assert repr(found.to_dict()) == repr(expected.to_dict())


@settings(max_examples=40)
@given(records, expressions(), st.sampled_from(SORTS), st.booleans(), st.sampled_from([None, 0, 1, 3]))
def test_sql_and_python_agree(tmp_path_factory, told, where, sort, descending, limit):
    """Whatever is in the records, and whatever is asked: SQLite gives the runs that `select` and `rank` give."""
    path = tmp_path_factory.mktemp("listing") / "runs.db"
    store = filled(f"sqlite:///{path}", told)
    if told:
        agree(store, where, f"-{sort}" if descending else sort, limit)
    path.unlink(missing_ok=True)


def test_postgresql_and_python_agree(postgres):
    """The same for PostgreSQL, whose NaN, texts and NULL have an order of their own: one store, many questions."""
    from conftest import new_database

    asked = []

    @settings(max_examples=7)
    @given(records, expressions(), st.sampled_from(SORTS), st.sampled_from([None, 2]))
    def collect(told, where, sort, limit):
        asked.append((told, where, sort, limit))

    collect()
    told = [each for some, *_ in asked for each in some][:60]
    store = filled(new_database(postgres), told)
    for _, where, sort, limit in asked:
        agree(store, where, sort, limit)


def test_what_is_no_number_goes_last_under_a_limit(database):
    """NaN, infinite and missing values never take a place among the first ones, nor does a tie go to the older run."""
    told = [math.nan, None, 0.5, -math.inf, 0.5, math.inf, 2**53 + 1, 0.25]
    sink = sql.open_sink(database)
    runs = [made(n, plain(when=n, metrics={} if v is None else {"loss": v})) for n, v in enumerate(told)]
    for record in [each for each, value in zip(runs, told, strict=True) if value != 2**53 + 1]:
        sink.finish(record)
    store = open_store(database)
    agree(store, "metrics.loss < 1", "metrics.loss", 3)
    assert [r.run_id[-1] for r in store.rank("loss", "minimize", limit=4)] == ["7", "4", "2", "5"]
    assert [r.run_id[-1] for r in store.runs(sort="-metrics.loss", limit=2)] == ["5", "4"]
    sink.finish(runs[6])
    agree(store, "metrics.loss > 9007199254740992", "metrics.loss", 3)


def test_several_keys_under_a_limit(database):
    """The first ones are those of all runs by all keys, not of the newest runs."""
    sink = sql.open_sink(database)
    for n in range(12):
        sink.finish(made(n, plain(when=n, experiment="ab"[n % 2], metrics={"loss": float(n % 5)})))
    store = open_store(database)
    for sort in ("experiment,-metrics.loss", "-metrics.loss,experiment", "experiment,started_at", "tags,-name"):
        agree(store, "metrics.loss < 4", sort, 3)


def plain(**fields):
    """What a run is drawn as, when nothing is odd about it."""
    told = {"when": 0, "status": "finished", "name": "a", "experiment": "train", "config": {}, "metrics": {}}
    return {**told, "amended": False, **fields}


def test_a_listing_reads_no_more_than_is_looked_at(database, monkeypatch):
    """Conditions that SQL tells, and looks at what listings show, read no run; the rest reads that run once."""
    store = filled(database, [plain(when=n, config={"lr": n}, metrics={"loss": n}) for n in range(5)])
    read = []
    monkeypatch.setattr(sql.SqlSink, "records", lambda _: read.append("all"))
    some = sql.SqlSink._some
    monkeypatch.setattr(sql.SqlSink, "_some", lambda self, run_ids: read.extend(run_ids) or some(self, run_ids))
    found = store.runs('config.lr >= 1 and "x" not in tags', sort="metrics.loss")
    assert [r.config.lr for r in found] == [1, 2, 3, 4]
    assert [(r.name, r.metrics, r.status, r.tags, r.folder) for r in store.rank("loss", "maximize", limit=1)] == [
        ("a", {"loss": 4}, "finished", [], None)
    ]
    assert read == []
    assert (found[0].environment, found[0].artifacts) == ({}, [])
    assert read == [found[0].run_id]


def test_whole_records_one_after_the_other_are_read_together(database, monkeypatch):
    """Who looks at everything of every run costs a query for some of them, not one a run; a run that went is said."""
    store = filled(database, [plain(when=n) for n in range(7)])
    asked, some = [], sql.SqlSink._some
    monkeypatch.setattr(sql.SqlSink, "_some", lambda self, run_ids: asked.append(len(run_ids)) or some(self, run_ids))
    monkeypatch.setattr(_sql_lean, "AHEAD", 4)
    found = store.runs()
    assert [record.resources for record in found] == [{}] * 7
    assert asked == [1, 4, 2]
    (gone,) = store.runs(limit=1)
    engine = create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(f"DELETE FROM runcard_runs WHERE run_id = '{gone.run_id}'"))
    engine.dispose()
    with pytest.raises(RunNotFound, match="not there any more"):
        _ = gone.environment


def test_a_run_that_goes_on_stands_as_its_events_say(database):
    """A live run is listed, filtered and ranked by what it has logged so far, and `running`."""
    sink = sql.open_sink(database)
    with run("live", sinks=["file:"]) as r:
        from runcard.journal import Reading

        r.log(loss=0.5)
        events = [{**event, "writer": "journal"} for event in Reading(r.folder / "journal.jsonl")]
        sink.start(open_store(r.folder.parent).get(r.run_id))
        sink.extend(r.run_id, events)
        sink.finish(made(1, plain(when=-1e6, metrics={"loss": 0.75})))
        store = open_store(database)
        assert [found.run_id for found in store.runs("metrics.loss < 0.7", status="running")] == [r.run_id]
        assert [found.metrics["loss"] for found in store.rank("loss", "minimize", limit=1)] == [0.5]
        assert store.runs(limit=1)[0].status == "running"
        assert store.runs(status="crashed") == []


def test_tables_of_before_are_read_and_moved(database):
    """A database of the first version is read as it is; the next write moves it, and every record stays."""
    told = [plain(when=n, config={"model": {"lr": n}}, metrics={"loss": n}) for n in range(3)]
    store = filled(database, told)
    before = [repr(r.to_dict()) for r in store.runs()]
    engine = create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in (
            *("DROP TABLE runcard_listing", "DROP TABLE runcard_lean", "DROP TABLE runcard_inexact"),
            *("DROP INDEX runcard_config_path", "DROP INDEX runcard_metrics_name"),
            "ALTER TABLE runcard_config DROP COLUMN kind",
            "CREATE INDEX runcard_config_path ON runcard_config (path, number)",
            "CREATE INDEX runcard_metrics_name ON runcard_metrics (name, last)",
            "UPDATE runcard_schema SET version = 1",
        ):
            connection.execute(text(statement))
    engine.dispose()
    store = open_store(database)
    assert [repr(r.to_dict()) for r in store.runs()] == before
    assert [r.metrics["loss"] for r in store.rank("loss", "maximize", limit=1)] == [2]
    sql.open_sink(database).finish(made(9, plain(when=9)))
    agree(open_store(database), "config.model.lr < 2", "config.model", 2)
    assert [repr(r.to_dict()) for r in open_store(database).runs()[1:]] == before


def test_what_cannot_be_understood_is_refused(database):
    """An expression, a key, a status, a limit: the same errors as of every store, on an empty database too."""
    for store in (open_store(database), filled(database, [plain()])):
        for asked in ({"where": "config.lr <"}, {"sort": "nothing"}, {"status": "done"}, {"limit": -1}):
            with pytest.raises(QueryError):
                store.runs(**asked)


@pytest.mark.parametrize(
    ("expression", "whole"),
    [
        ("config.lr < 0.1 and not (status == 'failed' or metrics.loss > inf)", True),
        ("1 <= config.model.depth <= 3 and started_at >= '2026-11-01'", True),
        ("decision != 'discard' and config.opt not in ('adam', 'sgd')", True),
        ("config.lr * 2 < 1 and status == 'finished'", False),
        ("config.opt < 'b'", False),
        ("config.layers[0] == 1", False),
        (f"config.seed == {2**53 + 1}", False),
        ("'\\ud800' in tags", False),
    ],
)
def test_what_is_said_in_sql(expression, whole):
    """Comparisons with constants become SQL as a whole; what SQL would say otherwise stays Python's."""
    assert conditions(expression)[1] is whole
