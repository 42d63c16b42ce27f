"""The index beside a store: it never disagrees with the folders, whatever happens to them or to it."""

from __future__ import annotations

import gc
import os
import pickle
import random
import shutil
import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runcard import index as module
from runcard import journal, query
from runcard._changelog import FOLDER, changes_since
from runcard._columns import DamagedError, ListedRecord, Table, encode
from runcard._listing import listing, ranking
from runcard.errors import QueryError, StoreError
from runcard.identity import new_run_id
from runcard.index import Index, note, noted, signature
from runcard.record import Fields, RunRecord, Status, as_fields, fold


class Folders:
    """A store of run folders, written and read the plain way, that counts how many runs are read."""

    def __init__(self, root):
        self.root = root
        self.reads = 0
        root.mkdir(exist_ok=True)

    def begin(self, run_id=None, config=None, experiment="train", t=None):
        run_id = run_id or new_run_id()
        (self.root / run_id).mkdir()
        start = {"kind": "start", "t": t or time.time(), "experiment": experiment, "config": config or {}}
        self.append(run_id, {**start, "environment": {"python": {"version": "3.11"}}})
        return run_id

    def append(self, run_id, event):
        writer = journal.Journal(self.root / run_id / "journal.jsonl", shared=True)
        assert writer.append({"t": time.time(), **event})
        writer.close()

    def end(self, run_id, metrics=None, status="finished", *, say=True):
        self.append(run_id, {"kind": "end", "status": status, "metrics": metrics or {}, "duration_s": 1.0})
        if say:
            assert note(self.root, run_id)

    def run(self, **rest):
        say = rest.pop("say", True)
        metrics = rest.pop("metrics", None)
        run_id = self.begin(**rest)
        self.end(run_id, metrics, say=say)
        return run_id

    def judge(self, run_id, decision):
        with noted(self.root, run_id):
            self.append(run_id, {"kind": "decision", "decision": decision})

    def read(self, run_id):
        self.reads += 1
        folder = self.root / run_id
        found = journal.writers(folder)
        record = fold(run_id, {writer: journal.Reading(path) for writer, path in found.items()})
        status = Status.CRASHED if (folder / "dead").exists() else record.status
        object.__setattr__(record, "status", status)
        object.__setattr__(record, "folder", str(folder))
        return record

    def truth(self):
        """What the folders hold, read without any index."""
        return sorted((self.read(entry.name) for entry in self.root.iterdir() if entry.name[:2] == "20"), key=by_id)


def by_id(record):
    return record.run_id


def settle(root):
    """Let all journals be of an hour ago, so that nothing is recent."""
    past = time.time() - 3600
    for path in root.glob("20*/*"):
        os.utime(path, (past, past))


@pytest.fixture(autouse=True)
def keep_soon(monkeypatch):
    """Keep rows from the fourth on, so that small stores have an index, and leave nothing to chance."""
    monkeypatch.setattr(module, "_KEEP_FROM", 4)
    monkeypatch.setattr(module, "_SPOT_CHECKS", 0)


@pytest.fixture
def store(tmp_path):
    """A store of twelve ended runs with an index that is up to date."""
    folders = Folders(tmp_path / "runs")
    for n in range(12):
        config = {"lr": n / 10, "nested": {"depth": n % 3}, "seed": n}
        folders.run(config=config, metrics={"loss": (n * 7) % 12, "val/acc": n % 4}, experiment=f"e{n % 2}", t=1e9 + n)
    settle(folders.root)
    assert agree(folders)
    folders.reads = 0
    return folders


def agree(folders):
    """Whether a new reader of the index finds what the folders hold."""
    found = sorted(Index(folders.root, folders.read).records(), key=by_id)
    truth = folders.truth()
    assert [record.run_id for record in found] == [record.run_id for record in truth]
    for lean, full in zip(found, truth, strict=True):
        assert (lean.status, lean.decision, lean.metrics) == (full.status, full.decision, full.metrics)
        assert list(lean.config.items()) == list(full.config.items())
        assert lean == full
        assert full == lean
    return True


def test_what_is_known_is_not_read_again(store):
    """A second reader opens no run, and sees settings, metrics and folders."""
    records = Index(store.root, store.read).records()
    assert {record.config.lr for record in records} == {n / 10 for n in range(12)}
    assert all(record.metrics["loss"] >= 0 and record.config.nested.depth >= 0 for record in records)
    assert records[0].folder == str(store.root / records[0].run_id)
    assert store.reads == 0


def test_the_rest_is_read_when_it_is_asked_for(store):
    """A lean record is a record: what is not in the index comes from the run."""
    record = Index(store.root, store.read).records()[3]
    assert isinstance(record, RunRecord)
    assert record.environment.python.version == "3.11"
    assert store.reads == 1
    assert record.to_dict(history=False) == store.read(record.run_id).to_dict(history=False)
    assert "finished" in repr(record)
    with pytest.raises(AttributeError):
        getattr(record, "nonsense")  # noqa: B009 - the look is the test
    copied = pickle.loads(pickle.dumps(record))
    assert copied == record
    assert type(copied) is RunRecord


def test_only_what_is_new_is_read(store):
    """After new runs, a reader opens those alone; once kept, none."""
    new = [store.run(metrics={"loss": n}) for n in range(5)]
    index = Index(store.root, store.read)
    assert set(new) < {record.run_id for record in index.records()}
    assert store.reads == 5
    index.records()
    assert store.reads == 5


def test_a_late_decision_is_seen(store):
    """A judged run is read again, and is right for this reader and the next."""
    run_id = store.truth()[2].run_id
    store.reads = 0
    store.judge(run_id, "keep")
    for _ in range(2):
        found = {record.run_id: record.decision for record in Index(store.root, store.read).records()}
        assert found[run_id] == "keep"
    assert store.reads == 2
    assert agree(store)


def test_a_decision_between_two_lines_of_the_log_is_seen(store):
    """A reader that comes while a judge is at work keeps no row that would stay wrong."""
    run_id = store.truth()[0].run_id
    with noted(store.root, run_id):
        for _ in range(4):
            store.run()
        assert agree(store)  # keeps rows: the log is now read beyond the judge's first line
        store.append(run_id, {"kind": "decision", "decision": "discard"})
        assert agree(store)
    assert agree(store)


def test_a_judge_that_died_is_seen(store):
    """A change that was begun and never ended is looked for each time."""
    run_id = store.truth()[0].run_id
    judge = noted(store.root, run_id)
    judge.__enter__()
    for _ in range(4):
        store.run()
    assert agree(store)
    store.append(run_id, {"kind": "decision", "decision": "keep"})  # and then no last line
    settle(store.root)
    assert agree(store)
    found = {record.run_id: record.decision for record in Index(store.root, store.read).records()}
    assert found[run_id] == "keep"


def test_running_runs_are_always_read(store):
    """What goes on is never kept, and its end is seen without a note."""
    run_id = store.begin()
    for status in ("running", "running"):
        found = {record.run_id: record.status for record in Index(store.root, store.read).records()}
        assert found[run_id] == status
    store.end(run_id, {"loss": 3}, say=False)
    assert agree(store)


def test_a_crashed_run_that_comes_back_is_seen(store):
    """A crashed run is kept, and looked at each time: it may be resumed."""
    ids = [store.begin() for _ in range(4)]
    for run_id in ids:
        (store.root / run_id / "dead").touch()
    settle(store.root)
    assert agree(store)
    store.reads = 0
    assert sum(record.status is Status.CRASHED for record in Index(store.root, store.read).records()) == 4
    assert store.reads == 0
    (store.root / ids[0] / "dead").unlink()
    store.append(ids[0], {"kind": "log", "step": 1, "metrics": {"loss": 1}})
    assert agree(store)


def test_a_resumed_run_that_was_believed_is_not_shown_as_ended(store):
    """A run that goes on again takes its old row out of every later listing."""
    run_id = store.truth()[0].run_id
    with noted(store.root, run_id):
        store.append(run_id, {"kind": "start", "attempt": 2})
        path = store.root / run_id / "journal.jsonl"
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if b'"kind":"end"' not in line]
        path.write_bytes(b"".join(lines))
        for _ in range(5):
            store.run()
        assert agree(store)
    assert agree(store)
    assert agree(store)


def test_a_deleted_run_is_gone_and_may_come_back(store):
    """A folder that is gone is gone at once; one of the same id is read anew, whatever was known."""
    run_id = store.truth()[5].run_id
    shutil.rmtree(store.root / run_id)
    assert agree(store)
    store.begin(run_id)
    store.end(run_id, {"loss": 99}, say=False)
    settle(store.root)
    assert agree(store)


def test_a_run_replaced_between_two_readers_is_seen_by_its_note(store):
    """Who removes a run and puts another in its place says so."""
    run_id = store.truth()[5].run_id
    shutil.rmtree(store.root / run_id)
    note(store.root, run_id)
    store.begin(run_id)
    store.end(run_id, {"loss": 99})
    settle(store.root)
    assert agree(store)


def test_the_last_seconds_are_checked_without_a_note(store):
    """A run that just ended may have something to add; it is checked until it has lain still."""
    ids = [store.run(say=False) for _ in range(4)]
    assert agree(store)
    store.append(ids[1], {"kind": "tag", "add": ["late"]})
    assert agree(store)


def test_rows_at_rest_are_settled_once(store, monkeypatch):
    """Once the recent rows of a file have lain still, nobody looks at them again but by chance."""
    for _ in range(4):
        store.run(say=False)
    assert agree(store)
    settle(store.root)
    assert agree(store)  # the times moved, so they were read and kept again
    agree(store)
    looked = []
    monkeypatch.setattr(module, "signature", looked.append)
    Index(store.root, store.read).records()
    assert looked == []


def test_spot_checks_find_what_nobody_told(store, monkeypatch):
    """What a foreign tool did inside a folder is found by chance checks."""
    monkeypatch.setattr(module, "_SPOT_CHECKS", 100)
    run_id = store.truth()[4].run_id
    store.append(run_id, {"kind": "decision", "decision": "keep"})
    assert agree(store)  # a hundred rows are checked each time, and here are fewer


def damage(path, how):
    data = path.read_bytes()
    if how == "flip":
        middle = len(data) // 2
        data = data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :]
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "flip": data, "junk": b"\xff" * 99}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "flip", "junk"])
@pytest.mark.parametrize("which", ["manifest", "rows-*"])
def test_a_damaged_index_is_rebuilt(store, how, which):
    """Whatever part of it is damaged in whatever way, the answer is right."""
    for path in (store.root / FOLDER).glob(which):
        damage(path, how)
    assert listing(Index(store.root, store.read), sort="-metrics.loss")[0].metrics["loss"] == 11
    assert agree(store)


def test_every_flipped_byte_is_noticed(store):
    """No flipped byte of a file of rows changes what a reader sees."""
    path = next((store.root / FOLDER).glob("rows-*"))
    data = path.read_bytes()
    truth = [(record.run_id, dict(record.metrics), dict(record.config)) for record in store.truth()]
    for place in random.Random(3).sample(range(len(data)), 150):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        found = sorted(Index(store.root, store.read).records(), key=by_id)
        assert [(record.run_id, dict(record.metrics), dict(record.config)) for record in found] == truth
        for other in (store.root / FOLDER).glob("rows-*"):
            if other != path:
                other.unlink()
        shutil.rmtree(store.root / FOLDER)
        Index(store.root, store.read).records()
        path = next((store.root / FOLDER).glob("rows-*"))
        data = path.read_bytes()


@pytest.mark.parametrize("what", ["all", "rows", "manifest", "log"])
def test_a_deleted_index_is_rebuilt(store, what):
    """Any part of it may be deleted at any time."""
    folder = store.root / FOLDER
    store.judge(store.truth()[1].run_id, "keep")
    if what == "all":
        shutil.rmtree(folder)
    for path in folder.glob({"all": "-", "rows": "rows-*", "manifest": "manifest", "log": "changes-*"}[what]):
        path.unlink()
    store.judge(store.truth()[2].run_id, "discard")
    assert agree(store)
    assert agree(store)


def test_a_torn_line_of_the_log_hides_nothing(store):
    """What a killed writer left half written spoils neither its own run nor the next line."""
    ids = [record.run_id for record in store.truth()]
    store.judge(ids[0], "keep")
    assert agree(store)
    log = next((store.root / FOLDER).glob("changes-*"))
    with log.open("ab") as file:
        file.write(f"\n{ids[3]} b 12".encode()[:-4])
    store.append(ids[3], {"kind": "decision", "decision": "keep"})
    store.judge(ids[4], "discard")
    settle(store.root)
    assert agree(store)


def test_an_index_that_cannot_be_written_does_no_harm(store, monkeypatch):
    """On a full disk or a read-only store everything is read, and nothing raised."""
    shutil.rmtree(store.root / FOLDER)
    (store.root / FOLDER).write_text("in the way")
    assert agree(store)
    assert note(store.root, new_run_id()) is False
    with noted(store.root, new_run_id()):
        pass
    (store.root / FOLDER).unlink()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert agree(store)


def test_runs_one_may_not_read_are_counted(store):
    """A run that cannot be read is left out, counted, and no reason to fail."""
    hidden, gone = store.run(), store.run()

    def read(run_id):
        if run_id == hidden:
            raise StoreError("no") from PermissionError(13, "no")
        if run_id == gone:
            raise FileNotFoundError(run_id)
        return store.read(run_id)

    index = Index(store.root, read)
    ids = {record.run_id for record in index.records()}
    assert hidden not in ids
    assert gone not in ids
    assert (len(ids), index.unreadable) == (12, 1)


def test_other_names_in_the_root_are_no_runs(store):
    """Files and folders that are not named like a run are not looked into."""
    (store.root / "20261101T101112-7k3f9q2m.bak").mkdir()
    (store.root / "leaderboard.csv").touch()
    assert agree_ids(store) == 12


def agree_ids(store):
    return len(Index(store.root, store.read).records())


def test_a_small_store_gets_no_index(tmp_path):
    """A few runs are read as they are, and nothing is written."""
    folders = Folders(tmp_path / "runs")
    folders.run()
    assert agree(folders)
    assert not (folders.root / FOLDER).exists()
    assert Index(tmp_path / "none", folders.read).records() == []


def test_the_index_is_as_private_as_the_store(store):
    """Files are the owner's alone, or the group's where the store is."""
    modes = {path.stat().st_mode & 0o777 for path in (store.root / FOLDER).iterdir()}
    assert modes == {0o600}
    assert (store.root / FOLDER).stat().st_mode & 0o777 == 0o700
    shutil.rmtree(store.root / FOLDER)
    store.root.chmod(0o2770)
    agree(store)
    assert {path.stat().st_mode & 0o777 for path in (store.root / FOLDER).iterdir()} == {0o660}


def test_files_stay_few(store):
    """Small files are merged into larger ones, and what no manifest names goes after an hour."""
    for _ in range(40):
        for _ in range(4):
            store.run()
        agree_ids(store)
    folder = store.root / FOLDER
    past = time.time() - 7200
    for path in folder.glob("rows-*"):
        os.utime(path, (past, past))
    for _ in range(4):
        store.run()
    assert agree(store)
    assert len(list(folder.glob("rows-*"))) <= 8


def test_listing_is_select(store):
    """A listing by columns gives what `select` gives, for every kind of condition and key."""
    store.judge(store.truth()[1].run_id, "keep")
    store.begin()  # one that goes on
    index, truth = Index(store.root, store.read), query.newest_first(store.truth())
    for options in (
        {},
        {"limit": 3},
        {"sort": "-metrics.loss", "limit": 4},
        {"sort": "metrics.loss"},
        {"sort": "metrics.val/acc,-config.seed"},
        {"sort": 'metrics["val/acc"]'},
        {"sort": "config.nested.depth,-started_at"},
        {"sort": "-experiment,status"},
        {"sort": "decision"},
        {"sort": "-started_at"},
        {"sort": "environment.python.version"},
        {"sort": "short_id"},
        {"experiment": "e1"},
        {"status": "running"},
        {"where": "config.lr > 0.3 and metrics.loss < 9", "sort": "config.lr"},
        {"where": "environment.python.version == '3.11'", "limit": 2},
        {"where": "decision == 'keep'"},
    ):
        expected = [record.run_id for record in query.select(truth, **options)]
        assert [record.run_id for record in listing(index, **options)] == expected, options


def test_ranking_is_rank(store):
    """A ranking by columns gives what `rank` gives over the newest first."""
    store.run(metrics={})
    index = Index(store.root, store.read)
    newest = query.select(store.truth())
    for metric, direction, at in (
        ("loss", "minimize", "last"),
        ("loss", "maximize", "best"),
        ("val/acc", "maximize", "last"),
        ("val/acc", "minimize", "best"),
        ("absent", "minimize", "last"),
    ):
        expected = [record.run_id for record in query.rank(newest, metric, direction, at=at)]
        assert [record.run_id for record in ranking(index, metric, direction, at=at)] == expected


def test_tables_keep_every_value():
    """NaN, infinities, big integers, None, order and nesting come back from a file as they were."""
    config = as_fields({"z": float("nan"), "a": {"b": [1, {"c": None}]}, "big": 2**80, "none": None, "x.y": "é\n"})
    full = RunRecord(
        run_id="20261101T101112-7k3f9q2m",
        name="n",
        status=Status.KILLED,
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        config=config,
        metrics=Fields(loss=float("inf"), count=3),
        metric_summary=Fields(loss=Fields(last=1, last_step=None, min=0, min_step=1, max=2, max_step=3, count=4)),
        tags=["a"],
        losses={"damaged": 1},
        is_best=False,
    )
    records = [full, RunRecord(run_id="20261101T101113-7k3f9q2m", status=Status.FINISHED, config=Fields(a=1, z=2))]
    by_id = {record.run_id: record for record in records}
    table = Table(encode(records, {"signature": ["", ""]}), by_id.__getitem__, "/x")
    for record, lean in zip(records, table.records(range(2)), strict=True):
        assert lean.run_id == record.run_id
        assert lean.folder == f"/x/{record.run_id}"
        assert repr(lean.config) == repr(record.config)
        assert lean.metrics == record.metrics
        assert lean.metric_summary == record.metric_summary
        for name in ("tags", "losses", "is_best", "status", "started_at", "decision", "notes", "amendments"):
            assert getattr(lean, name) == getattr(record, name)
            assert type(getattr(lean, name)) is type(getattr(record, name))
        assert isinstance(lean.config, Fields)
        assert isinstance(lean, ListedRecord)
    with pytest.raises(DamagedError):
        Table(encode(records, {})[:-1] and b"", by_id.__getitem__, "/x")


def test_readers_and_writers_at_once(tmp_path):
    """Several readers, writers and judges at the same time: no reader fails, and in the end all agree."""
    folders = Folders(tmp_path / "runs")
    for n in range(8):
        folders.run(metrics={"loss": n})
    errors = []
    done = threading.Event()

    def reading():
        while not done.is_set():
            try:
                for record in Index(folders.root, folders.read).records():
                    assert record.status in ("finished", "running")
            except Exception as error:
                errors.append(error)
                return

    def writing(seed):
        chance = random.Random(seed)
        try:
            for n in range(15):
                run_id = folders.run(metrics={"loss": n})
                if chance.random() < 0.5:
                    folders.judge(run_id, "keep")
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=reading) for _ in range(2)]
    writers = [threading.Thread(target=writing, args=(seed,)) for seed in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert errors == []
    assert agree(folders)


def test_changes_are_read_once(store):
    """A log is read from where the last reader stopped."""
    changes = changes_since(store.root / FOLDER, {}, {})
    assert changes.touched == set()
    store.judge(store.truth()[0].run_id, "keep")
    changes = changes_since(store.root / FOLDER, {}, {})
    assert len(changes.touched) == 1
    assert changes.begun == {}
    again = changes_since(store.root / FOLDER, changes.logs, {})
    assert again.touched == set()


def test_a_signature_tells_of_any_append(store):
    """Size, number and time of the journals are in it; a folder that is gone has none."""
    run_id = store.truth()[0].run_id
    before = signature(store.root / run_id)
    store.append(run_id, {"kind": "tag", "add": ["x"]})
    assert signature(store.root / run_id) != before
    assert signature(store.root / "none") == ""


class Interleaving(RuleBasedStateMachine):
    """Writers, late decisions, deletions, deaths and readers in any order; the index agrees after each step."""

    @initialize()
    def start(self):
        import tempfile
        from pathlib import Path

        self.folder = Path(tempfile.mkdtemp())
        self.store = Folders(self.folder / "runs")
        self.open, self.ended, self.judging = [], [], []
        for n in range(5):
            self.ended.append(self.store.run(metrics={"loss": n}))

    @rule(count=st.integers(1, 5), say=st.booleans())
    def runs(self, count, say):
        self.ended += [self.store.run(metrics={"loss": n}, say=say) for n in range(count)]

    @rule()
    def begins(self):
        self.open.append(self.store.begin(config={"lr": len(self.open)}))

    @precondition(lambda self: self.open)
    @rule(status=st.sampled_from(["finished", "failed", "killed"]), say=st.booleans())
    def ends(self, status, say):
        run_id = self.open.pop()
        self.store.end(run_id, {"loss": 1}, status, say=say)
        self.ended.append(run_id)

    @precondition(lambda self: self.open)
    @rule()
    def dies(self):
        run_id = self.open.pop()
        (self.store.root / run_id / "dead").touch()
        self.ended.append(run_id)

    @precondition(lambda self: self.ended)
    @rule(which=st.integers(0, 99), decision=st.sampled_from(["keep", "discard"]))
    def judged(self, which, decision):
        self.store.judge(self.ended[which % len(self.ended)], decision)

    @precondition(lambda self: self.ended)
    @rule(which=st.integers(0, 99))
    def judge_begins(self, which):
        run_id = self.ended[which % len(self.ended)]
        judge = noted(self.store.root, run_id)
        judge.__enter__()
        self.judging.append((judge, run_id))

    @precondition(lambda self: self.judging)
    @rule(ends=st.booleans())
    def judge_writes(self, ends):
        judge, run_id = self.judging.pop()
        if (self.store.root / run_id).exists():
            self.store.append(run_id, {"kind": "decision", "decision": "keep"})
        if ends:
            judge.__exit__(None, None, None)

    @precondition(lambda self: len(self.ended) > 1)
    @rule(which=st.integers(0, 99), back=st.booleans())
    def deleted(self, which, back):
        run_id = self.ended.pop(which % len(self.ended))
        shutil.rmtree(self.store.root / run_id)
        note(self.store.root, run_id)
        if back:
            self.ended.append(self.store.run(run_id=run_id, metrics={"loss": 77}))

    @rule()
    def time_passes(self):
        for run_id in self.ended:
            path = self.store.root / run_id / "journal.jsonl"
            if time.time() - path.stat().st_mtime < 1000:
                os.utime(path, (1e9, 1e9))

    @rule(which=st.sampled_from(["manifest", "rows-*", "changes-*", "*"]))
    def index_damaged(self, which):
        for path in (self.store.root / FOLDER).glob(which):
            if path.name.startswith("changes-"):
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-3])

    @invariant()
    def agrees(self):
        if hasattr(self, "store"):
            assert agree(self.store)

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_a_listing_leaves_the_collector_as_it_was(tmp_path):
    """The garbage collector goes on after a listing, stays off where it was off, and what is frozen stays frozen."""
    folders = Folders(tmp_path / "runs")
    folders.run(metrics={"loss": 1})
    index = Index(folders.root, folders.read)
    listing(index)
    assert gc.isenabled()
    gc.disable()
    try:
        listing(index)
        assert not gc.isenabled()
    finally:
        gc.enable()
    gc.freeze()
    try:
        listing(index)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    with pytest.raises(QueryError):
        listing(index, where="1 / 0 > x")
    assert gc.isenabled()
