"""Delivery to sinks that have an address: what a sink, or a process, did not live to take is delivered later, once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import orjson
import pytest
from records import record

from runcard import RuncardWarning, _courier, _parcels, configure, delivery, identity, open_store, run
from runcard._pending import deliver_pending
from runcard.journal import encode
from runcard.sinks import registry


@pytest.fixture
def server(monkeypatch):
    """A sink with an address, ``test:``, that can be down."""

    class Server:
        def __init__(self):
            self.up, self.told, self.calls = True, [], 0

        def _take(self, *told):
            self.calls += 1
            if not self.up:
                raise ConnectionError("refused")
            self.told.append(told)

        def start(self, record):
            self._take("start", record.run_id)

        def append(self, run_id, event):
            self._take("event", run_id, event["writer"], event["n"], event["kind"])

        def finish(self, record):
            self._take("finish", record.run_id, record.status, record.metrics.get("x"))

        def kinds(self, run_id):
            return [entry[4] if entry[0] == "event" else entry[0] for entry in self.told if entry[1] == run_id]

    found = Server()
    known = registry._factory
    monkeypatch.setattr(registry, "_factory", lambda url: (lambda _: found) if url.startswith("test:") else known(url))
    monkeypatch.setattr(_courier, "AGAIN_S", (0.01, 0.05))
    return found


def until(condition):
    """Wait for what another thread is about to do."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def pending(folder):
    return len(_parcels.notes(folder))


def test_a_run_is_delivered_in_order_and_nothing_stays(server, store):
    """The start, every event once and in order, the end; then nothing is pending."""
    with run("r", sinks=["file:", "test:"]) as r:
        for number in range(1_200):
            r.log(x=number)
    kinds = server.kinds(r.run_id)
    assert (kinds[0], kinds[1], kinds[-1]) == ("start", "start", "finish")
    assert [entry[3] for entry in server.told if entry[0] == "event"] == list(range(1_202))
    assert server.told[-1][2:] == ("finished", 1199)
    assert pending(store.root) == 0


def test_a_sink_that_comes_back_gets_all(server, store):
    """Down at the start and up before the end: the run ends without a word, complete and in order."""
    server.up = False
    with run("r", sinks=["file:", "test:"]) as r:
        r.log(x=1)
        until(lambda: server.calls >= 2)
        server.up = True
    assert server.kinds(r.run_id) == ["start", "start", "log", "end", "finish"]
    assert store.get(r.run_id).losses == {}
    assert pending(store.root) == 0


def test_a_dead_sink_is_said_once_and_noted(server, store):
    """The end waits its deadline once a process, says what stays behind, and each run's note stays beside it."""
    server.up = False
    configure(deadline=0.1, sinks=["file:", "test:"])
    with pytest.warns(
        RuncardWarning, match=r"ConnectionError: refused\); what is missing is kept.*runcard sync"
    ) as said:
        for _ in range(3):
            with run("r"):
                pass
    assert len(said) == 1
    assert pending(store.root) == 3
    assert [found.status for found in store.runs()] == ["finished"] * 3


def test_what_stayed_behind_comes_when_the_sink_is_back(server, store):
    """A sink that was set aside and comes back gets everything off the user's thread, without being asked."""
    server.up = False
    configure(deadline=0.05, sinks=["file:", "test:"])
    with pytest.warns(RuncardWarning):
        for _ in range(3):
            with run("r"):
                pass
    server.up = True
    until(lambda: pending(store.root) == 0)
    assert sorted(kind for kind, *_ in server.told if kind == "finish") == ["finish"] * 3


def test_the_next_process_delivers_what_the_last_one_left(server, store):
    """A new process with the same sink goes on where the other stopped: from the cursor, not from the beginning."""
    server.up = False
    configure(deadline=0.05, sinks=["file:", "test:"])
    with pytest.warns(RuncardWarning), run("old") as old:
        old.log(x=1)
    delivery.forget()  # as a process that has ended
    server.told.clear()
    server.up = True
    with run("new", sinks=["file:", "test:"]) as new:
        pass
    until(lambda: pending(store.root) == 0)
    assert server.kinds(old.run_id) == ["start", "start", "log", "end", "finish"]
    assert server.kinds(new.run_id)[-1] == "finish"


def test_the_cursor_goes_on_within_a_journal(server, store):
    """What was acknowledged before is not read again; what came after is."""
    with run("r", sinks=["file:", "test:"]) as r:
        r.log(x=1)
        until(lambda: "log" in server.kinds(r.run_id))
        server.up = False
        (note,) = _parcels.notes(store.root)
        until(lambda: _parcels.read_note(note)["offsets"])
        kept = note.read_bytes()
        r.log(x=2)
        server.up = True
    note.write_bytes(kept)  # as after a kill
    server.told.clear()
    parcel = _parcels.Parcel.left_behind(note)
    assert parcel.advance(server)
    assert server.kinds(r.run_id) == ["start", "log", "end", "finish"]
    assert not note.exists()


def test_a_spooled_run_goes_once_it_is_delivered_later(server, tmp_path):
    """Without a files sink, the journal waits in the spool, and goes when the next process has delivered it."""
    server.up = False
    configure(deadline=0.05, sinks=["test:"])
    with pytest.warns(RuncardWarning), run("old") as old:
        pass
    assert (tmp_path / "spool" / old.run_id / "journal.jsonl").exists()
    delivery.forget()
    server.up = True
    with run("new"):
        pass
    until(lambda: not (tmp_path / "spool" / old.run_id).exists())
    assert server.kinds(old.run_id)[-1] == "finish"
    assert pending(tmp_path / "spool") == 0


def test_a_run_with_artifacts_stays_in_the_spool(server, tmp_path):
    """The only copy of an artifact is not thrown away because the events were delivered."""
    server.up = False
    configure(deadline=0.05, sinks=["test:"])
    with pytest.warns(RuncardWarning), run("old") as old:
        old.artifact_path("w.bin").write_bytes(b"1")
    delivery.forget()
    server.up = True
    with run("new"):
        pass
    until(lambda: pending(tmp_path / "spool") == 0)
    assert (tmp_path / "spool" / old.run_id / "artifacts" / "w.bin").exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_what_a_killed_run_had_not_come_to_record_stays_in_the_spool(server, tmp_path, recorded):
    """A sink that keeps files has those it was told of; a checkpoint that a kill came before is not thrown away."""
    code = f"""
        import os, runcard
        with runcard.run("old", sinks=["otlp:http://127.0.0.1:1"]) as r:
            r.artifact_path("deep/w.bin").write_bytes(b"1")
            {'r.log_artifact(r.artifact_path("deep/w.bin"), "deep/w.bin")' if recorded else "pass"}
            os._exit(9)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 9
    server.keeps_files = True
    assert deliver_pending("test:").done == 1
    assert [path.name for path in (tmp_path / "spool").rglob("*.bin")] == ([] if recorded else ["w.bin"])
    assert pending(tmp_path / "spool") == 0


def test_a_run_of_a_living_process_is_left_to_it(server, store):
    """What another process is still delivering is not taken from it."""
    with run("r", sinks=["file:", "test:"]) as r:
        (note,) = _parcels.notes(store.root)
        assert _parcels.Parcel.left_behind(note) is None
        assert note.exists()
    assert server.kinds(r.run_id)[-1] == "finish"


def test_a_run_that_another_process_delivers_is_not_sent_twice(server, store):
    """Its run has ended, but its process lives and is still at it: nobody else does the same, but to another sink."""
    server.up = False
    configure(sinks=["file:", "test:"], deadline=0.05)
    with pytest.warns(RuncardWarning, match="took not all"), run("r") as r:
        r.log(x=1)
    (note,) = _parcels.notes(store.root)
    assert _parcels.Parcel.left_behind(note) is not None  # our own
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        told = orjson.loads(note.read_bytes())
        told["by"] |= {"pid": other.pid, "started": identity._started(other.pid)}
        note.write_bytes(orjson.dumps(told))
        assert _parcels.Parcel.left_behind(note) is None
        assert _parcels.Parcel.left_behind(note, elsewhere=True) is not None
        other.communicate(b"\n")
    assert _parcels.Parcel.left_behind(note) is not None
    server.up = True
    until(lambda: pending(store.root) == 0)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"run_id": "../x", "sink": "a", "offsets": {}}', b"\xff"])
def test_a_damaged_note_harms_nobody(server, store, content):
    """A note that cannot be read is left aside."""
    with run("first"):
        pass
    (store.root / ".pending").mkdir()
    (store.root / ".pending" / f"x.{_parcels._short('test:')}.json").write_bytes(content)
    with run("r", sinks=["file:", "test:"]) as r:
        pass
    assert server.kinds(r.run_id)[-1] == "finish"


def test_a_killed_process_is_delivered_by_the_next(tmp_path, store):
    """Kill -9 in the middle of a run: the next process with that database delivers all its points, as crashed."""
    url = f"sqlite:///{tmp_path}/deep/runs.db"  # its folder is missing: the sink is down
    code = textwrap.dedent("""
        import os, signal, sys
        from runcard import run
        with run("killed", sinks=["file:", sys.argv[1]], capture=["-git"]) as r:
            for number in range(100):
                r.log(x=number)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", code, url], check=False, timeout=60, cwd=tmp_path, env=os.environ)
    assert done.returncode == -9
    assert pending(store.root) == 1
    (tmp_path / "deep").mkdir()
    with run("next", sinks=["file:", url]):
        pass
    until(lambda: pending(store.root) == 0)
    found = open_store(url).get("killed")
    assert (found.status, [point.value for point in found.metric_history]) == ("crashed", list(range(100)))


def test_a_spooled_run_delivered_late_by_its_own_process_is_cleared_by_the_next(server, tmp_path):
    """The end had given up waiting; the process delivers after all, and the next one takes the spooled folder away."""
    server.up = False
    configure(deadline=0.05, sinks=["test:"])
    with pytest.warns(RuncardWarning), run("old") as old:
        pass
    server.up = True
    until(lambda: not any(courier.has_work for courier in list(_courier._couriers.values())))
    assert server.kinds(old.run_id)[-1] == "finish"
    assert pending(tmp_path / "spool") == 1
    delivery.forget()
    with run("new"):
        pass
    until(lambda: not (tmp_path / "spool" / old.run_id).exists())


def test_a_failing_sink_is_tried_later_and_later(server, monkeypatch):
    """After each failure the pause doubles, up to a limit; a success ends it."""
    clock = [1_000.0]
    monkeypatch.setattr(_courier, "AGAIN_S", (1.0, 3.0))
    monkeypatch.setattr(_courier, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    server.up = False
    courier = _courier.Courier(server)
    parcel = _parcels.Parcel("test:", None, record(1))
    parcel.ended = True
    courier._parcels["r"] = (parcel, [])
    tries = []
    for _ in range(12):
        before = server.calls
        courier._send()
        tries.append(server.calls - before)
        clock[0] += 1.0
    assert tries == [1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    server.up = True
    courier._send()
    assert (courier._pause, courier._parcels) == (0.0, {})


def test_an_event_that_follows_a_piece_of_another_on_its_line_is_delivered(tmp_path):
    """A short write of one thread, and the line of another right after it: the whole one is handed over."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(encode({"n": 0, "kind": "log"})[:10] + encode({"n": 1, "kind": "log"}))
    told = {"n": 1, "kind": "log", "writer": "journal"}
    assert [events for events, _ in _parcels.batches(path, "journal", 0)] == [[told]]
    assert list(_courier._Tail("run", path, print).new_events()) == [told]
