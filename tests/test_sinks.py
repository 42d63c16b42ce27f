"""Sinks: functions, objects that follow a run live, URLs, plug-ins; each with a record of its own."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import math
import re
import sys
import threading
import time

import pytest

from runcard import RuncardWarning, RunRecord, configure, open_store, run, settings, tracked
from runcard.errors import MissingExtra, SettingError, StoreError
from runcard.sinks import registry


class Live:
    """A sink that follows runs, and writes down what it was told."""

    def __init__(self):
        self.told = []
        self.threads = set()

    def start(self, record):
        self.told.append(("start", record))
        self.threads.add(threading.get_ident())

    def append(self, run_id, event):
        self.told.append(("append", run_id, event))

    def finish(self, record):
        self.told.append(("finish", record))


def test_any_function_of_a_record_is_a_sink():
    """A plain function is called once a run, with the finished record, before the end returns."""
    seen = []
    with run("plain", config={"lr": 0.1}, sinks=[seen.append]) as r:
        r.log(loss=math.nan)
        r.log(loss=0.5)
    (record,) = seen
    assert isinstance(record, RunRecord)
    assert (record.run_id, record.status, record.config, record.metrics) == (
        r.run_id,
        "finished",
        {"lr": 0.1},
        {"loss": 0.5},
    )
    assert [point.step for point in record.metric_history] == [0, 1]
    assert record.ended_at is not None


def test_a_sink_is_called_off_the_users_thread():
    """The user's thread never runs a sink's code."""
    threads = []
    with run("threads", sinks=[lambda _: threads.append(threading.get_ident())]):
        pass
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_sinks_replace_and_add(store, tmp_path):
    """sinks= replaces the settings' sinks; a leading plus adds to them."""
    with run("replaced", sinks=["memory:here"]):
        pass
    assert store.runs() == []
    assert [record.name for record in open_store("memory:here").runs()] == ["replaced"]
    with run("added", sinks=["+memory:here"]):
        pass
    assert [record.name for record in store.runs()] == ["added"]
    assert [record.name for record in open_store("memory:here").runs()] == ["added", "replaced"]
    assert list((tmp_path / "spool").glob("2*")) == []


def test_every_sink_has_a_record_of_its_own(store):
    """What one sink does to its record, however deep, no other sink and no reader sees."""

    def vandal(record):
        for value in (record.config, record.metrics, record.environment, record.resources, record.losses):
            value.clear()
        for entry in (*record.artifacts, *record.inputs, *record.attempts, *record.decisions):
            entry.clear()
        for value in (record.tags, record.artifacts, record.attempts, record.decisions):
            value.clear()
        record.metric_summary["loss"].clear()

    seen = []
    config = {"deep": {"list": [1, {"x": 2}]}}
    with run("shared", config=config, tags=["a"], sinks=["+memory:", vandal, seen.append, vandal]) as r:
        r.log(loss=1.0)
        r.artifact_path("model").write_bytes(b"w")
        r.keep("fine")
    for record in (*seen, store.get(r.run_id), open_store("memory:").get(r.run_id)):
        assert record.config == config
        assert record.tags == ["a"]
        assert record.metrics == {"loss": 1.0}
        assert record.metric_summary["loss"].count == 1
        assert record.environment["command"]
        assert len(record.artifacts) == len(record.decisions) == len(record.attempts) == 1
        assert record.artifacts[0].path == "artifacts/model"


def test_a_record_cannot_be_assigned_to():
    """The fields are frozen."""
    seen = []
    with run("frozen", sinks=[seen.append]):
        pass
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen[0].status = "failed"


def test_a_live_sink_follows_the_run():
    """It is told of the start while the run goes on, of each event in order, and of the end."""
    sink = Live()
    started = threading.Event()
    original = sink.start
    sink.start = lambda record: (original(record), started.set())
    with run("live", config={"lr": 0.1}, sinks=[sink]) as r:
        assert started.wait(10)
        assert sink.told[0][1].status == "running"
        assert sink.told[0][1].config == {"lr": 0.1}
        r.log(x=1.0)
        r.note("seen")
        until = time.monotonic() + 10
        while len(sink.told) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(sink.told) >= 4, "events come while the run goes on"
    kinds = [entry[0] if entry[0] != "append" else entry[2]["kind"] for entry in sink.told]
    assert kinds == ["start", "start", "log", "note", "end", "finish"]
    assert all(entry[1] == r.run_id for entry in sink.told if entry[0] == "append")
    identities = [(entry[2]["writer"], entry[2]["n"]) for entry in sink.told if entry[0] == "append"]
    assert identities == [("journal", number) for number in range(4)]
    assert sink.told[-1][1].metrics == {"x": 1.0}


def test_a_live_sink_shares_no_record_with_another():
    """The records given at the start are each sink's own too."""

    class Vandal(Live):
        def start(self, record):
            record.config.clear()
            record.environment.clear()

    other = Live()
    with run("live", config={"lr": 0.1}, sinks=[Vandal(), other]):
        pass
    assert other.told[0][1].config == {"lr": 0.1}
    assert other.told[0][1].environment


def test_a_store_in_memory_is_no_live_sink():
    """A sink whose `append` takes late events, as a store's does, is not mistaken for one that follows runs."""
    with run("quiet", sinks=["memory:quiet"]) as r:
        r.log(x=1.0)
    (record,) = open_store("memory:quiet").runs()
    assert (record.losses, record.metrics) == ({}, {"x": 1.0})


def test_memory_keeps_several_apart():
    """memory:a and memory:b are two stores; the same URL is the same store."""
    for name in ("a", "b", "a"):
        with run(name, sinks=[f"memory:{name}"]) as r:
            r.log(x=1.0)
    assert len(open_store("memory:a").runs()) == 2
    assert len(open_store("memory:b").runs()) == 1
    assert [point.value for point in open_store("memory:b").history("latest", "x")] == [1.0]
    with pytest.raises(StoreError, match="files store"):
        open_store("memory:b").keep("latest", "too late for memory")


def test_a_second_folder_is_a_copy(store, tmp_path):
    """`file:` twice: the second store has the whole run, readable and judged on its own."""
    second = tmp_path / "second"
    with run("twice", config={"lr": 0.1}, sinks=[f"file:{store.root}", f"file:{second}"]) as r:
        r.log(loss=math.inf)
        r.artifact_path("deep/model.pt").write_bytes(b"weights")
    assert r.root == store.root
    copy = open_store(second)
    first, other = store.get(r.run_id).to_dict(), copy.get(r.run_id).to_dict()
    assert first == other
    assert (second / r.run_id / "artifacts" / "deep" / "model.pt").read_bytes() == b"weights"
    assert (second / r.run_id / "card.md").is_file()
    assert r.run_id in (second / "leaderboard.csv").read_text()
    assert (second / ".gitignore").read_text() == "*\n"
    copy.keep(r.run_id, "only here")
    assert store.get(r.run_id).decision is None


def test_a_copy_that_comes_again_keeps_what_was_judged(store, tmp_path):
    """Delivery is at least once: the second time changes nothing, and takes no judgement away."""
    from runcard.sinks.mirror import Mirror

    with run("again") as r:
        r.log(x=1.0)
    mirror = Mirror(tmp_path / "second")
    copy = open_store(tmp_path / "second")
    record = store.get(r.run_id)
    mirror(record)
    copy.keep(r.run_id, "judged in the copy")
    mirror(record)
    assert copy.get(r.run_id).decision_reason == "judged in the copy"
    rows = (tmp_path / "second" / "leaderboard.csv").read_text().splitlines()
    assert len(rows) == 2


def test_the_same_store_named_twice_is_one(store):
    """The run's own folder as a second URL is no second copy, and no loss."""
    with run("once", sinks=["file:", f"file:{store.root}", f"file://{store.root}"]):
        pass
    (record,) = store.runs()
    assert record.losses == {}


def test_sinks_leave_no_threads_behind():
    """However many runs and sinks there were, their threads end when there is nothing to do."""
    from runcard import _courier

    before = threading.active_count()
    for number in range(30):
        with run(f"r{number}", sinks=["memory:t", lambda _: None]):
            pass
    until = time.monotonic() + 10
    while (_courier._couriers or threading.active_count() > before + 1) and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() <= before + 1  # the pulse may stay
    assert _courier._couriers == {}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("carrier-pigeon:coop", "no sink is known for 'carrier-pigeon'"),
        ("runcards", "file:runcards"),
        ("postgres://db/runs", "did you mean postgresql://user@host/database?"),
        ("https://objects/runs", "no sink is known for 'https'"),
        (":memory:", "accepted are"),
        ("ht tp://x", "accepted are"),
    ],
)
def test_unknown_urls_are_refused_with_what_there_is(url, says):
    """The message names the schemes, with an example."""
    with pytest.raises(SettingError, match=says):
        configure(sinks=[url])
    with pytest.raises(SettingError):
        run(sinks=[url])


async def send(record):
    """A coroutine function."""


class Poster:
    """What somebody forgot the brackets of."""

    def __call__(self, record):
        """Take a record."""


@pytest.mark.parametrize(
    ("sink", "says"),
    [
        (send, "without a loop"),
        (lambda record: (yield record), "take the yield out"),
        (Poster, r"write Poster\(\) for one"),
        (object(), "an object with start, append and finish"),
    ],
)
def test_what_would_take_no_record_is_refused(sink, says):
    """Something that can be called, and does nothing with a record when it is, is refused when it is set."""
    with pytest.raises(SettingError, match=says):
        configure(sinks=["file:", sink])
    with pytest.raises(SettingError, match=says):
        run(sinks=[sink])


def test_no_message_shows_a_urls_password():
    """A refused URL is shown without its credentials."""
    with pytest.raises(SettingError) as refused:
        configure(sinks=["pigeon://user:hunter2secret@coop/x"])
    assert "hunter2secret" not in str(refused.value)
    assert "hunter2secret" not in registry.name_of("postgresql://user:hunter2secret@db/x?password=hunter2secret")


PASSWORD = "s3cretpw"
WRONG = [
    ["postgresql://ana:s3cretpw@db/runs", 5],
    [("postgresql://ana:s3cretpw@db/runs",)],
    {"url": "postgresql://ana:s3cretpw@db/runs"},
    "postgresql://ana:s3cretpw@db/runs,nonsense",
    ["postgresql://ana:s3cretpw/x@db/runs"],
    ["postgresql://ana:s3cretpw#x@db/runs"],
    ["postgresql:ana:s3cretpw@db/runs"],
    ["postgresql:/ana:s3cretpw@db/runs"],
    ["postgresql+asyncpg://ana:s3cretpw@db/runs"],
    ["//ana:s3cretpw@db/runs"],
    ["ana:s3cretpw@db/runs"],
    ["s3://ana:s3cret/s3cretpw@bucket?else=1"],
]


@pytest.mark.parametrize("sinks", WRONG)
def test_no_refused_setting_shows_a_password(sinks):
    """Whatever is wrong with a URL or beside it, neither the message nor the error it came from tells the password."""
    for refuse in (lambda: configure(sinks=sinks), lambda: run(sinks=sinks)):
        with pytest.raises(SettingError) as refused:
            refuse()
        error = refused.value
        assert PASSWORD not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


def test_the_settings_show_no_password():
    """Their repr leaves the sinks out."""
    configure(sinks=["postgresql://ana:s3cretpw@db/runs"])
    assert PASSWORD not in repr(settings.current())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ana:s3c/ret@db/runs", "postgresql://db/runs"),
        ("mlflow:http://ana:s3c/ret@host:5000", "mlflow:http://host:5000"),
        ("s3://bucket/path@v:1", "s3://bucket/path@v:1"),
        ("mlflow:sqlite:///a@b:c.db", "mlflow:sqlite:///a@b:c.db"),
        ("file:runs@home:x@y", "file:runs@home:x@y"),
        ("wandb:team/project@x", "wandb:team/project@x"),
        ("postgresql://ana@db:5432/runs", "postgresql://ana@db:5432/runs"),
    ],
)
def test_a_sink_is_called_by_its_address_without_credentials(url, shown):
    """A slash in a password does not save it, and an @ in a path is no password's end."""
    assert registry.name_of(url) == shown


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:/data/runs", "/data/runs"),
        ("file:///data/runs", "/data/runs"),
        ("file://localhost/data/runs", "/data/runs"),
        ("file:/data/../runs", "/runs"),
    ],
)
def test_the_path_in_a_file_url(url, path):
    """All spellings of an absolute path are that path."""
    assert registry.path_of(url) == path


def test_a_file_url_with_a_host_is_refused():
    """file://host/x is somebody else's machine: the message says what was probably meant."""
    with pytest.raises(SettingError, match="names the host 'data'"):
        registry.path_of("file://data/runs")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that installs a fake distribution with a sink's entry point."""

    def install(code, scheme="pigeon", name="open_sink"):
        site = tmp_path / "site"
        info = site / "pigeon-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[runcard.sinks]\n{scheme} = pigeon_sink:{name}\n")
        (site / "pigeon_sink.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "pigeon_sink", raising=False)
        registry._checked.clear()

    yield install
    registry._checked.clear()
    sys.modules.pop("pigeon_sink", None)


def test_a_plug_in_is_found_by_its_entry_point(plugin, store):
    """A package's entry point named as the scheme opens its URLs, once a process, without being imported before."""
    plugin(
        "opened = []\nflown = []\n"
        "def open_sink(url):\n    opened.append(url)\n    return lambda record: flown.append(record.run_id)\n"
    )
    assert "pigeon_sink" not in sys.modules
    ids = []
    for _ in range(2):
        with run("flies", sinks=["+pigeon://coop/7"]) as r:
            pass
        ids.append(r.run_id)
    import pigeon_sink

    assert pigeon_sink.opened == ["pigeon://coop/7"]
    assert pigeon_sink.flown == ids
    assert len(store.runs()) == 2


def test_a_plug_in_checks_its_url_without_connecting(plugin):
    """A factory's `check` is asked when the setting is made; nothing is opened."""
    plugin(
        "opened = []\ndef open_sink(url):\n    opened.append(url)\n"
        "def check(url):\n"
        "    from runcard.errors import MissingExtra\n"
        "    if url.endswith('bad'):\n        raise MissingExtra('pip install pigeon[coop]')\n"
        "open_sink.check = check\n"
    )
    with pytest.raises(MissingExtra, match="pip install"):
        configure(sinks=["pigeon:bad"])
    configure(sinks=["pigeon:good"])
    import pigeon_sink

    assert pigeon_sink.opened == []


def test_a_plug_in_that_cannot_be_opened_costs_itself_alone(plugin, store):
    """When opening fails, even by SystemExit, the run goes on and the other sinks have the record."""
    plugin("def open_sink(url):\n    raise SystemExit(7)\n")
    with pytest.warns(RuncardWarning, match="open the sink pigeon:x"), run("grounded", sinks=["+pigeon:x", "+memory:"]):
        pass
    assert store.runs()[0].status == "finished"
    assert len(open_store("memory:").runs()) == 1


def test_a_callable_by_decorator_option(store):
    """@tracked(sinks=[function]) hands each call's record to the function."""
    seen = []

    @tracked(sinks=[seen.append])
    def train(lr):
        return lr * 2

    assert train(0.5) == 1.0
    assert [record.metrics for record in seen] == [{"result": 1.0}]
    assert seen[0].config == {"lr": 0.5}


def test_a_callable_given_twice_is_called_once(store):
    """The same function named twice is one sink."""
    seen = []
    sink = seen.append
    with run("twice", sinks=[sink, sink]):
        pass
    assert len(seen) == 1


def test_children_reach_the_sinks_too():
    """Nested runs are delivered as their own records, with their parent."""
    seen = []
    configure(sinks=[seen.append])
    with run("outer") as outer, run("inner"):
        pass
    assert [record.name for record in seen] == ["inner", "outer"]
    assert seen[0].parent_id == outer.run_id


def test_a_delivered_spool_is_empty(tmp_path):
    """With no files sink the journal waits in the spool and goes once delivered; artifacts keep it there."""
    with run("gone", sinks=["memory:"]):
        pass
    assert list((tmp_path / "spool").glob("[!.]*")) == []
    with run("kept", sinks=["memory:"]) as r:
        r.artifact_path("model.pt").write_bytes(b"w")
    (folder,) = (tmp_path / "spool").glob("2*")
    assert folder.name == r.run_id
    assert (folder / "artifacts" / "model.pt").read_bytes() == b"w"


@pytest.mark.parametrize(
    ("url", "keeps_away", "extra"),
    [
        ("mlflow:http://h:1", "mlflow", "mlflow"),
        ("wandb:p", "wandb", "wandb"),
        ("otlp:http://h:1", "opentelemetry", "otel"),
        ("otlp:grpc://h:1", "grpc", "otel"),
        ("sqlite:///runs.db", "sqlalchemy", "sql"),
        ("s3://bucket/runs", "s3fs", "s3"),
    ],
)
@pytest.mark.parametrize("how", ["missing", "kept away", "a folder"])
def test_a_missing_extra_is_said_at_configure(url, keeps_away, extra, how, monkeypatch):
    """Whatever it is that makes a package not to be had, the message has the pip command, before any run."""

    class Finder:
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] != keeps_away:
                return None
            if how == "kept away":
                raise ModuleNotFoundError(name=name)
            return importlib.machinery.ModuleSpec(name, None, is_package=True)

    for loaded in [name for name in sys.modules if name.partition(".")[0] == keeps_away]:
        monkeypatch.delitem(sys.modules, loaded)
    if how == "missing":
        monkeypatch.setitem(sys.modules, keeps_away, None)
    else:
        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    registry._checked.clear()
    with pytest.raises(MissingExtra, match=re.escape(f'pip install "runcard[{extra}]"')):
        configure(sinks=[url])
