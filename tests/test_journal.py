"""The journal: what was appended comes back, and damage costs the event it hits, and is told."""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcard import _reading, _retire, journal
from runcard._memory_journal import MemoryJournal
from runcard.events import mark
from runcard.journal import Journal, Known, Reading, decode, encode, last_events, writers

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.booleans()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS.filter(lambda key: key[:1] != "$"), inner, max_size=4)
    ),
    max_leaves=12,
)
POINTS = st.builds(
    lambda t, step, metrics: {"kind": "log", "t": t, "step": step, "metrics": metrics},
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(TEXTS.filter(lambda key: key[:1] != "$"), NUMBERS, max_size=4),
)
EVENTS = POINTS | st.builds(
    lambda kind, fields: {**fields, "kind": kind},
    TEXTS,
    st.dictionaries(TEXTS.filter(lambda key: key[:1] != "$" and key not in ("n", "crc")), VALUES, max_size=4),
)
MANY = settings(max_examples=60, deadline=None, derandomize=True)


def written(path, events):
    """A journal with these events, closed; plain points in the short form, as `log` writes them."""
    appended = Journal(path)
    for event in events:
        if event["kind"] == "log" and set(event) == {"kind", "t", "step", "metrics"}:
            assert appended.append_points(event["t"], event["step"], mark(event["metrics"]))
        else:
            assert appended.append(mark(event))
    appended.close()
    return path


def read(path):
    """The events without their numbers, and what was told of damage."""
    reading = Reading(path)
    events = [{key: value for key, value in event.items() if key != "n"} for event in reading]
    return events, reading.damaged, reading.missing


def logged(count):
    """Events of different lengths, and one with an object that begins as a line does."""
    events = [{"kind": "log", "t": 1.5, "step": n, "metrics": {"loss": n / 7, "é" * n: n}} for n in range(count)]
    events[1]["config"] = {"crc": "00000000"}
    return events


@MANY
@given(events=st.lists(EVENTS, max_size=12))
def test_any_events_come_back_as_they_went_in(events, tmp_path_factory):
    """Whatever JSON, NaN and integers beyond 64 bits included, a journal gives back the same, in the same order."""
    path = written(tmp_path_factory.mktemp("journal") / "journal.jsonl", events)
    assert read(path) == (events, 0, 0)


@MANY
@given(events=st.lists(EVENTS, max_size=12))
def test_memory_gives_back_what_a_file_would(events):
    """The journal in memory is the same journal: the same events with the same numbers."""
    kept = MemoryJournal()
    for event in events:
        assert kept.append(mark(event))
    assert kept.events() == [{"n": n, **event} for n, event in enumerate(events)]
    assert not kept.sync()


@MANY
@given(events=st.lists(EVENTS, min_size=1, max_size=12), value=VALUES)
def test_what_a_writer_holds_is_what_is_read(events, value, tmp_path_factory):
    """The events that a journal still holds are those in its file, also with a last field that need not be parsed."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    text = orjson.dumps(mark(value))
    events[0]["environment"] = value
    own = Journal(path, exclusive=True)
    for event in events:
        assert own.append(mark(event))
    known = Known("environment", orjson.loads(text), b',"environment":%b}' % text)
    read_back = list(Reading(path))
    assert own.held() == read_back
    assert own.held(known) == read_back
    own.close()


def test_a_journal_holds_few_events_of_its_own_alone(tmp_path):
    """Many events, a lost one, or a file that others write too: then the file is read."""
    long, torn = (Journal(tmp_path / name, exclusive=True) for name in ("long", "torn"))
    for step in range(journal._HELD - 1):
        long.append({"kind": "log", "step": step})
    assert len(long.held()) == journal._HELD - 1
    for step in range(2):
        long.append({"kind": "log", "step": step})
    assert long.held() is None
    torn.append({"kind": "log"})
    torn.unwritten = 1
    assert torn.held() is None
    late = Journal(tmp_path / "long", shared=True)
    late.append({"kind": "note"})
    assert late.held() is None
    for each in (long, torn, late):
        each.close()


def test_numbers_json_has_no_form_for_come_back_exact(tmp_path):
    """NaN, infinities and huge integers are marked on disk, and numbers again when read."""
    values = [float("nan"), float("inf"), float("-inf"), 2**64, -(2**70), 16**5000]
    path = written(tmp_path / "journal.jsonl", [{"kind": "log", "values": values}])
    assert orjson.loads(path.read_bytes())["values"][1] == {"$float": "inf"}
    ((event,), *_) = read(path)
    assert math.isnan(event["values"][0])
    assert event["values"][1:] == values[1:]


def test_a_cut_at_any_byte_costs_at_most_the_line_it_cuts(tmp_path):
    """Every prefix of a journal gives all lines that are whole in it, and tells of a torn one."""
    events = logged(6)
    whole = written(tmp_path / "journal.jsonl", events).read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "cut.jsonl"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        complete = sum(end <= size + 1 for end in ends)  # all but the newline is there: so is the event
        torn = size > 0 and size not in ends and size + 1 not in ends
        assert read(path) == (events[:complete], torn, 0), size


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_a_flipped_byte_costs_at_most_the_event_it_hits_and_is_told(flip, tmp_path):
    """At every offset: all other events are read, the damage is counted, and nothing is made up."""
    events = logged(5)
    whole = written(tmp_path / "journal.jsonl", events).read_bytes()
    path = tmp_path / "flipped.jsonl"
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        hit = whole[:at].count(b"\n")
        found, damaged, missing = read(path)
        assert found == events[:hit] + events[hit + 1 :], at
        assert damaged in (1, 2), at  # a byte that became a newline makes two pieces
        assert missing == 0, at


@MANY
@given(data=st.data())
def test_any_damage_leaves_true_events_only(data, tmp_path_factory):
    """Bytes cut out, zeroed, doubled or put in anywhere: what is read was written, in order, once, and loss is told."""
    events = logged(6)
    folder = tmp_path_factory.mktemp("journal")
    whole = written(folder / "journal.jsonl", events).read_bytes()
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    middle = data.draw(st.sampled_from([b"", b"\0" * (b - a), whole[a:b] * 2, b"\n"]) | st.binary(max_size=30))
    path = folder / "damaged.jsonl"
    path.write_bytes(whole[:a] + middle + whole[b:])
    found, damaged, missing = read(path)
    assert [event for event in events if event in found] == found
    lines = whole.split(b"\n")[:-1]
    touched = whole[:a].count(b"\n"), whole[:b].count(b"\n")
    assert found[: touched[0]] == events[: touched[0]]
    assert found[len(found) - len(lines) + touched[1] + 1 :] == events[touched[1] + 1 :]
    lost_inside = 0 < len(found) < len(events) and found[-1] == events[-1]
    assert damaged + missing > 0 or not lost_inside


def test_a_line_without_its_newline_is_an_event_of_its_own(tmp_path):
    """An event cut just before its newline counts, and who appends next gets a line and a number of its own."""
    path = written(tmp_path / "journal.jsonl", logged(3))
    path.write_bytes(path.read_bytes()[:-1])
    late = Journal(path, shared=True)
    assert late.append({"kind": "note", "text": "late"})
    late.close()
    assert read(path) == ([*logged(3), {"kind": "note", "text": "late"}], 0, 0)
    assert [event["n"] for event in Reading(path)] == [0, 1, 2, 3]


def test_an_appender_begins_a_line_of_its_own_after_a_torn_one(tmp_path):
    """After a torn line the next event is whole, and takes no number that the torn one may have had."""
    path = written(tmp_path / "journal.jsonl", logged(3))
    path.write_bytes(path.read_bytes()[:-9])
    late = Journal(path, shared=True)
    assert late.append({"kind": "note", "text": "late"})
    late.close()
    assert read(path) == ([*logged(2), {"kind": "note", "text": "late"}], 1, 0)
    assert decode(path.read_bytes().splitlines()[-1])["text"] == "late"
    assert [event["n"] for event in Reading(path)] == [0, 1, 3]


def test_zeros_in_the_place_of_lines_are_damage(tmp_path):
    """A power cut may leave a file's length without its content: that is told, at the end of the file as well."""
    path = written(tmp_path / "journal.jsonl", logged(4))
    whole = path.read_bytes()
    end = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    path.write_bytes(whole[:end] + bytes(len(whole) - end))
    assert read(path) == (logged(2), 1, 0)


def test_doubled_lines_count_once(tmp_path):
    """A number that was seen is not an event again."""
    path = written(tmp_path / "journal.jsonl", logged(4))
    path.write_bytes(path.read_bytes() * 2)
    assert read(path) == (logged(4), 0, 0)


def test_numbers_out_of_order_are_no_loss(tmp_path):
    """A signal handler's line may stand before the one it interrupted."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(encode({"n": n, "kind": "log"}) for n in (0, 2, 1, 3, 6)))
    reading = Reading(path)
    assert [event["n"] for event in reading] == [0, 2, 1, 3, 6]
    assert (reading.damaged, reading.missing) == (0, 2)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b'{"crc":"zzzzzzzz","n":1,"kind":"log"}\n',
        encode({"n": "1", "kind": "log"}),
        encode({"n": True, "kind": "log"}),
        encode({"n": 1, "kind": 3}),
        encode({"n": 1}),
        encode({"kind": "log", "n": 1.0}),
        b'{"n":1,"kind":"log"}\n',
    ],
)
def test_what_is_no_event_is_none(line):
    """A line without checksum, number or kind, or with another checksum, is no event."""
    assert decode(line) is None


def test_a_hostile_line_neither_stops_the_reader_nor_uses_up_its_stack(tmp_path):
    """Nesting beyond any of ours costs its line alone, marks of numbers in it or not."""
    path = tmp_path / "journal.jsonl"
    deep = [b'{"n":1,"kind":"x","v":' + b"[" * n + b'{"$float":"nan"}' + b"]" * n + b"}" for n in (150, 900, 5000)]
    lines = [b'{"crc":"%08x",%b\n' % (journal.crc32(body), body[1:]) for body in deep]
    path.write_bytes(encode({"n": 0, "kind": "a"}) + b"".join(lines) + encode({"n": 2, "kind": "b"}))
    found, damaged, _ = read(path)
    assert ([event["kind"] for event in found], damaged) == (["a", "b"], 3)


def test_a_line_without_end_is_read_in_pieces(tmp_path, monkeypatch):
    """A line longer than any of ours is never held whole; what follows it is read."""
    monkeypatch.setattr(_reading, "_LINE_LIMIT", 1_000)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"x" * 2_500 + b"\n" + encode({"n": 0, "kind": "a"}))
    found, damaged, _ = read(path)
    assert ([event["kind"] for event in found], damaged) == (["a"], 3)


def test_a_short_write_is_finished(tmp_path, monkeypatch):
    """A write that takes only a part is followed by the rest."""
    appended = Journal(tmp_path / "journal.jsonl", exclusive=True)
    monkeypatch.setattr(journal, "_os_write", lambda fd, line: os.write(fd, line[:10]))
    assert appended.append({"kind": "log"})
    appended.close()
    assert read(appended.path) == ([{"kind": "log"}], 0, 0)
    assert appended.unwritten == 0


@pytest.mark.parametrize("locked", [True, False])
def test_a_short_write_that_another_threads_line_may_follow_is_written_again(locked, tmp_path, monkeypatch):
    """Once points go in without the lock, what went in by a piece is written whole, on a line of its own."""
    appended = Journal(tmp_path / "journal.jsonl")
    assert appended.append_points(1.0, 0, {"loss": 0.5})
    pieces = []

    def write(fd, line):
        if pieces:
            return os.write(fd, line)
        pieces.append(os.write(fd, line[:10]))
        os.write(fd, encode({"n": 9, "kind": "other", "t": 1.0}))
        return 10

    monkeypatch.setattr(journal, "_os_write", write)
    if locked:
        assert appended.append({"kind": "note", "t": 2.0})
    else:
        assert appended.append_points(2.0, 1, {"loss": 0.25})
    assert appended.append_points(3.0, 2, {"loss": 0.125})
    appended.close()
    found, damaged, _ = read(appended.path)
    assert [event.get("step", event["kind"]) for event in found] == [0, "other", "note" if locked else 1, 2]
    assert (damaged, appended.unwritten) == (1, 0)


def test_what_follows_a_piece_begins_a_line_of_its_own(tmp_path, monkeypatch):
    """So that a reader that knows nothing of pieces, such as jq, finds it too."""
    appended = Journal(tmp_path / "journal.jsonl")
    assert appended.append_points(1.0, 0, {"loss": 0.5})

    def write(fd, line):
        monkeypatch.setattr(journal, "_os_write", os.write)
        return os.write(fd, line[:10])

    monkeypatch.setattr(journal, "_os_write", write)
    assert appended.append_points(2.0, 1, {"loss": 0.25})
    appended.close()
    lines = appended.path.read_bytes().splitlines(keepends=True)
    assert [decode(line) is not None for line in lines] == [True, False, True]


def test_points_that_a_full_disk_refuses_are_counted(tmp_path, monkeypatch):
    """Without the lock too: what did not go in is told to the caller, and the next that does is whole."""
    appended = Journal(tmp_path / "journal.jsonl")
    assert appended.append_points(1.0, 0, {"loss": 0.5})
    with monkeypatch.context() as patched:
        patched.setattr(journal, "_os_write", refuse)
        assert not appended.append_points(2.0, 1, {"loss": 0.25})
    assert appended.append_points(3.0, 2, {"loss": 0.125})
    appended.close()
    found, damaged, missing = read(appended.path)
    assert ([event["step"] for event in found], damaged, missing) == ([0, 2], 0, 1)
    assert appended.unwritten == 1


def refuse(_fd, _line):
    """A disk without room."""
    raise OSError(errno.ENOSPC, "no space")


def test_what_is_to_be_done_before_the_next_event_is_done_once(tmp_path):
    """Also where the next event are points that need no lock."""
    appended, calls = Journal(tmp_path / "journal.jsonl"), []
    for number in range(2):
        assert appended.append_points(1.0, number, {"loss": 0.5})
        appended.before_next(lambda: calls.append(1))
    appended.append_points(1.0, 2, {"loss": 0.5})
    appended.append_points(1.0, 3, {"loss": 0.5})
    appended.close()
    assert len(calls) == 2
    assert len(read(appended.path)[0]) == 4


def test_what_is_to_be_done_next_is_done_also_when_it_is_said_in_the_middle_of_a_line(tmp_path, monkeypatch):
    """Another thread forks while a line is on its way: the line after it does what is to be done."""
    appended, calls = Journal(tmp_path / "journal.jsonl"), []

    def write(fd, line):
        monkeypatch.setattr(journal, "_os_write", os.write)
        appended.before_next(lambda: calls.append(1))
        return os.write(fd, line)

    monkeypatch.setattr(journal, "_os_write", write)
    assert appended.append({"kind": "note"})
    assert calls == []
    assert appended.append_points(1.0, 0, {"loss": 0.5})
    appended.close()
    assert calls == [1]


def test_a_line_of_another_journal_keeps_no_number_taken(tmp_path, monkeypatch):
    """One run's thread hangs in a write: other runs that end give back theirs."""
    hung, other = Journal(tmp_path / "hung"), Journal(tmp_path / "other")
    assert hung.append_points(1.0, 0, {"loss": 0.5})
    number = other._fd

    def write(fd, line):
        other.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        return os.write(fd, line)

    monkeypatch.setattr(journal, "_os_write", write)
    assert hung.append_points(1.0, 1, {"loss": 0.5})
    hung.close()


def test_a_line_under_way_never_goes_into_a_file_that_is_opened_after_the_journal(tmp_path, monkeypatch):
    """A thread hands over its line just as another closes the journal: it is refused, and no other file has it."""
    appended = Journal(tmp_path / "journal.jsonl")
    assert appended.append_points(1.0, 0, {"loss": 0.5})
    number = appended._fd
    under_way, closed = threading.Event(), threading.Event()

    def write(fd, line):
        if not closed.is_set():
            under_way.set()
            assert closed.wait(30)
        return os.write(fd, line)

    monkeypatch.setattr(journal, "_os_write", write)
    said = []
    thread = threading.Thread(target=lambda: said.append(appended.append_points(2.0, 1, {"loss": 0.25})))
    thread.start()
    assert under_way.wait(30)
    appended.close()
    with (tmp_path / "stranger").open("wb") as stranger:
        assert stranger.fileno() != number
        closed.set()
        thread.join(30)
        Journal(tmp_path / "later").close()
    assert (tmp_path / "stranger").read_bytes() == b""
    assert (said, appended.unwritten) == ([False], 1)
    assert [event["step"] for event in read(appended.path)[0]] == [0]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)  # given back when the next journal was closed


@pytest.mark.parametrize("failing", ["open", "dup2"])
def test_a_number_in_use_stays_taken_where_nothing_can_stand_in_for_it(failing, tmp_path, monkeypatch):
    """Without a file to put in its place, the late line goes into the journal, and into no other file."""
    appended = Journal(tmp_path / "journal.jsonl")
    assert appended.append_points(1.0, 0, {"loss": 0.5})

    def write(fd, line):
        monkeypatch.setattr(journal, "_os_write", os.write)
        with monkeypatch.context() as patched:
            patched.setattr(_retire.os, failing, raising)
            appended.close()  # as a signal handler may
        return os.write(fd, line)

    def raising(*_args, **_more):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(journal, "_os_write", write)
    assert appended.append_points(2.0, 1, {"loss": 0.25})
    assert [event["step"] for event in read(appended.path)[0]] == [0, 1]
    kept = len(_retire._kept)
    Journal(tmp_path / "later").close()
    assert (kept, len(_retire._kept)) == (1, 0)


def test_numbers_are_given_once_also_without_the_gil(monkeypatch):
    """Where the interpreter's own counter gives a number twice, threads that count together still get each once."""

    class Hasty:
        def __init__(self, start):
            self.next = start

        def __next__(self):
            given = self.next
            time.sleep(0)
            self.next = given + 1
            return given

    monkeypatch.setattr(journal.sys, "_is_gil_enabled", lambda: False, raising=False)
    monkeypatch.setattr(journal.itertools, "count", Hasty)
    number = journal._numbers(5)
    with ThreadPoolExecutor(8) as pool:
        given = [pool.submit(lambda: [number() for _ in range(500)]) for _ in range(8)]
    assert sorted(n for each in given for n in each.result()) == list(range(5, 4_005))


def test_a_full_disk_costs_what_did_not_fit(tmp_path, monkeypatch):
    """An event that did not go in is refused and counted; when there is room again the next one is whole."""
    appended = Journal(tmp_path / "journal.jsonl")
    assert appended.append({"kind": "a"})

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_os_write", refuse)
        assert not appended.append({"kind": "b"})
        patched.setattr(journal, "_os_write", lambda fd, line: os.write(fd, line[:12]))
        patched.setattr(
            journal.os, "write", lambda fd, line, real=os.write: real(fd, line) if len(line) == 12 else refuse(fd, line)
        )
        assert not appended.append({"kind": "c"})
    assert appended.append({"kind": "d"})
    appended.close()
    assert (appended.unwritten, appended.closed) == (2, True)
    found, damaged, missing = read(appended.path)
    assert ([event["kind"] for event in found], damaged, missing) == (["a", "d"], 1, 1)


def test_a_closed_journal_refuses_and_counts(tmp_path):
    """Nothing is written after `close`, and the caller is told."""
    appended = Journal(tmp_path / "journal.jsonl")
    appended.close()
    appended.close()
    assert not appended.append({"kind": "a"})
    assert appended.unwritten == 1


def test_an_exclusive_journal_takes_no_file_that_is_there(tmp_path):
    """Two writers never share one file unawares."""
    Journal(tmp_path / "journal.jsonl", exclusive=True).close()
    with pytest.raises(FileExistsError):
        Journal(tmp_path / "journal.jsonl", exclusive=True)


def test_a_journal_is_its_owners(tmp_path):
    """The file is the owner's alone, unless it is opened for a group."""
    Journal(tmp_path / "own").close()
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600


def test_sync_syncs_the_file_its_folder_the_store_and_the_stores_folder(tmp_path, monkeypatch):
    """A name is safe when the folder it stands in was synced, and each of them may be new."""
    folder = tmp_path / "runcards" / "run"
    folder.mkdir(parents=True)
    appended = Journal(folder / "journal.jsonl")
    synced = []
    real = os.fsync
    monkeypatch.setattr(journal.os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    assert appended.sync()
    assert synced == [str(path) for path in (folder / "journal.jsonl", folder, folder.parent, tmp_path)]
    appended.close()


@pytest.mark.parametrize("failing", range(4))
def test_sync_promises_nothing_when_any_fsync_fails(failing, tmp_path, monkeypatch):
    """One failure, of the file or of a folder, and the answer is no."""
    folder = tmp_path / "runcards" / "run"
    folder.mkdir(parents=True)
    appended = Journal(folder / "journal.jsonl")
    calls = iter(range(100))

    def fsync(_fd):
        if next(calls) == failing:
            raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(journal.os, "fsync", fsync)
    assert not appended.sync()
    appended.close()


def test_writers_are_regular_files_by_name(tmp_path):
    """Links, folders and other files are no journals."""
    for name in ("journal.jsonl", "journal-rank3.jsonl", "record.json", "journal.txt"):
        (tmp_path / name).touch()
    (tmp_path / "journal-folder.jsonl").mkdir()
    (tmp_path / "journal-link.jsonl").symlink_to(tmp_path / "journal.jsonl")
    assert sorted(writers(tmp_path)) == ["journal", "journal-rank3"]


def test_the_last_events_are_read_from_the_end(tmp_path):
    """Of a long journal the tail is read, and the line that it begins within is left out."""
    path = written(tmp_path / "journal.jsonl", [{"kind": "log", "step": n} for n in range(5_000)])
    tail = last_events(path, limit=200)
    assert tail[-1]["step"] == 4_999
    assert 2 <= len(tail) <= 4
    assert [event["step"] for event in last_events(path, first=True)] == [0]
    assert last_events(tmp_path / "missing") == []


def test_a_journal_that_cannot_be_opened_reads_as_damage(tmp_path):
    """A reader gives nothing and says so, instead of raising."""
    assert read(tmp_path / "missing.jsonl") == ([], 1, 0)
