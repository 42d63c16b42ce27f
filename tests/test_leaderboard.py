"""leaderboard.csv: one row a run, columns that grow, and nothing lost with many writers."""

from __future__ import annotations

import csv
import errno
import math
import multiprocessing
import os
import sys
import warnings

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import BEGAN, record

from runcard import leaderboard, locks, run
from runcard.record import Status

FIXED = ["run_id", "started_at", "experiment", "name", "parent_id", "status", "duration_s", "decision", "is_best"]


def rows(root):
    with (root / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_columns_come_in_the_order_of_the_contract(tmp_path):
    """The fixed columns come first, then config by path, then metrics."""
    leaderboard.add(tmp_path, record(config={"model": {"lr": 0.1}, "a.b": 1}, metrics={"train/loss": 0.5}))
    header = (tmp_path / "leaderboard.csv").read_text().splitlines()[0]
    assert next(csv.reader([header])) == [*FIXED, "config.model.lr", 'config["a.b"]', "metrics.train/loss"]


def test_pandas_reads_it_without_options(tmp_path):
    """Integers, floats, booleans, texts, NaN and infinities have the right dtypes and values in pandas."""
    config = {"epochs": 10, "lr": 3e-4, "amp": True, "model": "mlp"}
    leaderboard.add(tmp_path, record(0, config=config, metrics={"loss": 0.25, "odd": math.nan, "far": math.inf}))
    leaderboard.add(tmp_path, record(1, config=config, metrics={"loss": 0.5, "odd": 1.5, "far": -math.inf}))
    leaderboard.add(tmp_path, record(2, started_at=BEGAN.replace(microsecond=0, hour=12), config=config))
    frame = pd.read_csv(tmp_path / "leaderboard.csv")
    kinds = {name: frame[name].dtype.kind for name in ("config.epochs", "config.lr", "config.amp", "metrics.loss")}
    assert kinds == {"config.epochs": "i", "config.lr": "f", "config.amp": "b", "metrics.loss": "f"}
    assert frame["config.lr"].tolist() == [3e-4] * 3
    assert math.isnan(frame["metrics.odd"][0])
    assert frame["metrics.far"].tolist()[:2] == [math.inf, -math.inf]
    assert pd.to_datetime(frame["started_at"]).dt.tz is not None


def test_new_names_grow_the_columns_without_moving_a_value(tmp_path):
    """Rows before and after a new column have each value under its own name."""
    leaderboard.add(tmp_path, record(0, config={"a": 1}, metrics={"loss": 0.1}))
    leaderboard.add(tmp_path, record(1, config={"a": 2, "b": 3}, metrics={"acc": 0.9}))
    leaderboard.add(tmp_path, record(2, config={"a": 4}, metrics={"loss": 0.2}))
    found = [(row["config.a"], row["config.b"], row["metrics.loss"], row["metrics.acc"]) for row in rows(tmp_path)]
    assert found == [("1", "", "0.1", ""), ("2", "3", "", "0.9"), ("4", "", "0.2", "")]


def test_an_append_touches_only_its_own_row(tmp_path):
    """A run without new names leaves the bytes before it, and the file itself, as they were."""
    leaderboard.add(tmp_path, record(0, metrics={"loss": 1}))
    path = tmp_path / "leaderboard.csv"
    before, inode = path.read_bytes(), path.stat().st_ino
    leaderboard.add(tmp_path, record(1, metrics={"loss": 2}))
    assert path.read_bytes().startswith(before)
    assert path.stat().st_ino == inode


def test_replace_leaves_one_row_a_run(tmp_path):
    """A run that is written twice has one row, at its place, with the later decision."""
    for number in range(3):
        leaderboard.add(tmp_path, record(number, metrics={"loss": number}))
    leaderboard.replace(tmp_path, record(1, decision="keep", is_best=True, metrics={"loss": 1, "acc": 0.5}))
    found = [(row["run_id"][-1], row["decision"], row["is_best"], row["metrics.acc"]) for row in rows(tmp_path)]
    assert found == [("0", "", "", ""), ("1", "keep", "True", "0.5"), ("2", "", "", "")]


def test_replace_adds_a_run_that_has_no_row(tmp_path):
    """A late decision on a run whose row was never written, such as a crashed one, writes it."""
    leaderboard.replace(tmp_path, record(0, status=Status.CRASHED, decision="discard"))
    assert [(row["status"], row["decision"]) for row in rows(tmp_path)] == [("crashed", "discard")]


def test_remove_takes_out_rows(tmp_path):
    """Removed runs have no row; the others stay in order."""
    for number in range(4):
        leaderboard.add(tmp_path, record(number))
    leaderboard.remove(tmp_path, [record(1).run_id, record(3).run_id, "unknown"])
    assert [row["run_id"][-1] for row in rows(tmp_path)] == ["0", "2"]


def test_remove_without_a_leaderboard_makes_none(tmp_path):
    """Nothing is written where there is nothing to take out."""
    leaderboard.remove(tmp_path, ["20261123T101112-00000000"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_calculate_is_quoted(tmp_path, start):
    """Texts that begin like formulas get a leading quote, in every column of text."""
    text = f"{start}cmd|' /C calc'!A0"
    leaderboard.add(tmp_path, record(name=text, experiment=text, config={"x": text}))
    found = rows(tmp_path)[0]
    assert all(found[name].startswith("'") for name in ("name", "experiment", "config.x"))


def test_numbers_stay_numbers(tmp_path):
    """Negative numbers are no formulas."""
    leaderboard.add(tmp_path, record(config={"a": -1, "b": -0.5}, metrics={"c": -1e-9}))
    assert [rows(tmp_path)[0][name] for name in ("config.a", "config.b", "metrics.c")] == ["-1", "-0.5", "-1e-09"]


def test_a_row_is_a_line_whatever_it_holds(tmp_path):
    """Line breaks, escape sequences, bidirectional marks and lone surrogates are written as harmless escapes."""
    text = 'a\nb\r\n\x1b[31m\u202e\u2028\ud800,"q"'
    leaderboard.add(tmp_path, record(name=text, config={"k\n\x1b": 1}, metrics={"m\n": 2}))
    content = (tmp_path / "leaderboard.csv").read_bytes()
    assert content.count(b"\n") == 2
    assert b"\x1b" not in content
    assert rows(tmp_path)[0]["name"] == 'a\\nb\\r\\n\\x1b[31m\\u202e\\u2028\\ud800,"q"'


def test_values_without_a_number_or_text_are_json(tmp_path):
    """Lists and marks are compact JSON; integers of any length are written out or in hexadecimal."""
    config = {"layers": [64, 32], "cut": {"$str": "x"}, "huge": 10**5000, "none": None, "yes": True}
    leaderboard.add(tmp_path, record(config=config))
    found = rows(tmp_path)[0]
    assert found["config.layers"] == "[64,32]"
    assert found["config.cut"] == '{"$str":"x"}'
    assert found["config.huge"] == hex(10**5000)
    assert (found["config.none"], found["config.yes"]) == ("", "True")


def test_a_torn_last_line_is_taken_out_and_named(tmp_path):
    """The row of a writer that was killed costs no other row, and the next append says whose it was."""
    for number in range(2):
        leaderboard.add(tmp_path, record(number, metrics={"loss": number}))
    path = tmp_path / "leaderboard.csv"
    path.write_bytes(path.read_bytes()[:-5])
    assert leaderboard.add(tmp_path, record(2, metrics={"loss": 2})) == record(1).run_id
    assert [row["run_id"] for row in rows(tmp_path)] == [record(0).run_id, record(2).run_id]
    assert path.read_bytes().endswith(b"\n")


def test_a_torn_last_line_is_no_row_when_the_file_is_written_anew(tmp_path):
    """A late decision on another run drops half a row instead of taking it for a whole one."""
    for number in range(2):
        leaderboard.add(tmp_path, record(number, config={"n": 12345}))
    path = tmp_path / "leaderboard.csv"
    path.write_bytes(path.read_bytes()[:-3])
    leaderboard.replace(tmp_path, record(0, decision="keep", config={"n": 12345}))
    assert [(row["run_id"], row["config.n"]) for row in rows(tmp_path)] == [(record(0).run_id, "12345")]


def test_a_whole_file_names_no_torn_row(tmp_path):
    """An append to a file that ends well says nothing."""
    leaderboard.add(tmp_path, record(0))
    assert leaderboard.add(tmp_path, record(1)) is None


@pytest.mark.parametrize("content", [b"", b"run_id,star"])
def test_a_file_without_a_whole_header_is_begun_anew(tmp_path, content):
    """A writer that was killed while it made the file leaves nothing to lose."""
    (tmp_path / "leaderboard.csv").write_bytes(content)
    leaderboard.add(tmp_path, record(0))
    assert [row["run_id"] for row in rows(tmp_path)] == [record(0).run_id]


def test_a_file_of_another_kind_is_refused(tmp_path):
    """A leaderboard.csv that is none of ours is not written over."""
    path = tmp_path / "leaderboard.csv"
    path.write_text("my,own\n1,2\n")
    with pytest.raises(ValueError, match="run_id"):
        leaderboard.add(tmp_path, record(0))
    assert path.read_text() == "my,own\n1,2\n"


def test_a_spreadsheet_may_have_saved_it(tmp_path):
    """A byte order mark, Windows line ends and another order of columns are read by name."""
    leaderboard.add(tmp_path, record(0, metrics={"loss": 1}))
    path = tmp_path / "leaderboard.csv"
    frame = pd.read_csv(path)
    frame[frame.columns[::-1]].to_csv(path, index=False, lineterminator="\r\n", encoding="utf-8-sig")
    leaderboard.add(tmp_path, record(1, metrics={"loss": 2}))
    frame = pd.read_csv(path)
    assert frame["metrics.loss"].tolist() == [1.0, 2.0]
    assert frame["run_id"].tolist() == [record(0).run_id, record(1).run_id]


def test_rebuild_writes_the_records_and_drops_what_is_gone(tmp_path):
    """Rows of removed runs and rubbish go; runs that go on get no row."""
    (tmp_path / "leaderboard.csv").write_text("rubbish")
    found = [record(0, metrics={"a": 1}), record(1, status=Status.RUNNING), record(2, metrics={"b": 2})]
    assert leaderboard.rebuild(tmp_path, iter(found)) == tmp_path / "leaderboard.csv"
    assert [(row["run_id"][-1], row["metrics.a"], row["metrics.b"]) for row in rows(tmp_path)] == [
        ("0", "1", ""),
        ("2", "", "2"),
    ]


def test_rebuild_keeps_runs_that_ended_meanwhile(tmp_path):
    """A run that ended after the records were read keeps its row."""
    late = record(1, metrics={"late": 7})
    leaderboard.add(tmp_path, late)
    leaderboard.add(tmp_path, record(2))  # of this one nothing is left
    (tmp_path / late.run_id).mkdir()
    (tmp_path / late.run_id / "record.json").write_text("{}")
    leaderboard.rebuild(tmp_path, [record(0)])
    assert [(row["run_id"][-1], row["metrics.late"]) for row in rows(tmp_path)] == [("0", ""), ("1", "7")]


def test_a_full_disk_leaves_no_half_row(tmp_path, monkeypatch):
    """When the disk takes half a row it is taken back, and the failure is told."""
    leaderboard.add(tmp_path, record(0))
    path = tmp_path / "leaderboard.csv"
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(leaderboard.os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    with pytest.raises(OSError, match="disk full"):
        leaderboard.add(tmp_path, record(1))
    assert path.read_bytes() == before


def test_a_failed_rewrite_leaves_the_old_file(tmp_path, monkeypatch):
    """When the new file cannot take the old one's place, the old stays and nothing is left beside it."""
    leaderboard.add(tmp_path, record(0))
    before = (tmp_path / "leaderboard.csv").read_bytes()

    def refuse(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr(leaderboard.os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        leaderboard.replace(tmp_path, record(0, decision="keep"))
    assert (tmp_path / "leaderboard.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [".leaderboard.lock", "leaderboard.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_file_is_the_owners_or_the_groups(tmp_path):
    """0600, and 0660 in a store that the group may write."""
    os.chmod(tmp_path, 0o700)
    leaderboard.add(tmp_path, record(0))
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chmod(shared, 0o770)
    leaderboard.add(shared, record(0))
    modes = [(folder / "leaderboard.csv").stat().st_mode & 0o777 for folder in (tmp_path, shared)]
    assert modes == [0o600, 0o660]
    assert (shared / ".leaderboard.lock").stat().st_mode & 0o777 == 0o660


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that knows no locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locks, "_try", refuse)


def test_without_locks_a_row_in_a_replaced_file_is_written_again(tmp_path, monkeypatch, no_locks):
    """When another puts a new file in the place of the one that we append to, our row gets into the new one."""
    leaderboard.add(tmp_path, record(0))
    path = tmp_path / "leaderboard.csv"
    append = leaderboard._append

    def replaced_meanwhile(fd, cells):
        (tmp_path / "new").write_bytes(path.read_bytes())
        os.replace(tmp_path / "new", path)
        append(fd, cells)

    monkeypatch.setattr(leaderboard, "_append", replaced_meanwhile)
    leaderboard.add(tmp_path, record(1))
    assert [row["run_id"][-1] for row in rows(tmp_path)] == ["0", "1"]


def test_without_locks_a_row_that_comes_while_the_file_is_rewritten_stays(tmp_path, monkeypatch, no_locks):
    """When another appends while we write the file anew, we begin again and lose nothing."""
    leaderboard.add(tmp_path, record(0))
    replace = leaderboard.replace
    looks = []
    arrange = leaderboard.ordered

    def another_ends_meanwhile(names):
        looks.append(1)
        if len(looks) == 1:
            leaderboard.add(tmp_path, record(2))
        return arrange(names)

    monkeypatch.setattr(leaderboard, "ordered", another_ends_meanwhile)
    replace(tmp_path, record(1))
    assert sorted(row["run_id"][-1] for row in rows(tmp_path)) == ["0", "1", "2"]
    assert sorted(os.listdir(tmp_path)) == [".leaderboard.lock", "leaderboard.csv"]


def _many(root, first, count):
    for number in range(first, first + count):
        leaderboard.add(root, record(number, config={"n": number}, metrics={f"m{number % 7}": number}))


def test_many_processes_lose_and_double_no_row(tmp_path):
    """Eight processes that add runs with ever new names at once leave each run once, its values under their names."""
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads of the test runner
        writers = [context.Process(target=_many, args=(tmp_path, first * 100, 25)) for first in range(8)]
        for writer in writers:
            writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 8
    found = rows(tmp_path)
    numbers = sorted(int(row["config.n"]) for row in found)
    assert numbers == [first * 100 + each for first in range(8) for each in range(25)]
    assert all(row[f"metrics.m{int(row['config.n']) % 7}"] == row["config.n"] for row in found)


_texts = st.text(max_size=12)
_values = st.none() | st.booleans() | st.integers() | st.floats() | _texts
_changes = st.lists(
    st.tuples(
        st.sampled_from(["add", "replace", "remove"]),
        st.integers(0, 5),
        st.dictionaries(_texts, _values, max_size=3),
        st.dictionaries(_texts, st.integers() | st.floats(), max_size=3),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(_changes)
def test_any_sequence_leaves_what_was_said_last(tmp_path_factory, changes):
    """After any adds, replacements and removals each run has one row with its last values, and pandas agrees."""
    root = tmp_path_factory.mktemp("board")
    known = {}
    for what, number, config, metrics in changes:
        made = record(number, config=config, metrics=metrics)
        if what == "remove":
            leaderboard.remove(root, [made.run_id])
            known.pop(made.run_id, None)
        elif made.run_id in known or what == "replace":
            leaderboard.replace(root, made)
            known[made.run_id] = made
        else:
            leaderboard.add(root, made)
            known[made.run_id] = made
    if not (root / "leaderboard.csv").exists():
        assert not known
        return
    found = {row["run_id"]: row for row in rows(root)}
    assert list(found) == list(known)
    for run_id, made in known.items():
        for name, value in made.metrics.items():
            column = leaderboard.cell(f"metrics.{name}")
            assert found[run_id][column] == leaderboard.cell(value)
        assert sum(1 for name, text in found[run_id].items() if name.startswith("metrics.") and text) == len(
            {leaderboard.cell(f"metrics.{name}") for name in made.metrics}
        )
    assert len(pd.read_csv(root / "leaderboard.csv")) == len(known)


def test_a_config_of_a_megabyte_leaves_the_leaderboard_readable(store):
    """A long cell is cut, and later runs still find their place."""
    with run("big", config={"docs": ["x" * 1_000] * 900}):
        pass
    with run("small", config={"lr": 1}) as r:
        r.log(new=1.0)
    rows = list(csv.DictReader((store.root / "leaderboard.csv").read_text("utf-8").splitlines()))
    assert [row["name"] for row in rows] == ["big", "small"]
    assert len(rows[0]["config.docs"]) == 32_001
