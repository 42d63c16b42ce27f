"""The files beside a journal: what each holds, when it is written, and that none is ever a piece of itself."""

from __future__ import annotations

import csv
import errno
import json
import math
import os

import pytest

from runcard import RuncardWarning, run
from runcard.journal import Reading
from runcard.sinks import views

ALWAYS = {"journal.jsonl", "environment.json", "requirements.txt", "record.json", "card.md"}


def names(folder):
    """The files in a run's folder."""
    return {entry.name for entry in os.scandir(folder)}


def rows(folder):
    """The rows of the history."""
    with (folder / "metric_history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def full(**more):
    """A run that has something for every file."""
    with run("full", config={"lr": 0.1, "net": {"depth": 3}}, **more) as r:
        for step in range(3):
            r.log({"loss": 1 / (step + 1), "acc": step}, step=step)
        r.log(broken=float("nan"))
        r.keep("good")
    return r


def test_each_file_holds_what_its_name_says(store):
    """Config as given, metrics by name, every point, the judgement, the record as `show --json` prints it, a card."""
    folder = full().folder
    record = store.get("full")
    assert json.loads((folder / "config.json").read_text()) == {"lr": 0.1, "net": {"depth": 3}}
    assert json.loads((folder / "metrics.json").read_text()) == {"loss": 1 / 3, "acc": 2, "broken": {"$float": "nan"}}
    assert [(row["name"], row["step"], float(row["value"])) for row in rows(folder)[:2]] == [
        ("loss", "0", 1.0),
        ("acc", "0", 0.0),
    ]
    assert len(rows(folder)) == 7
    assert math.isnan(float(rows(folder)[-1]["value"]))
    decision = json.loads((folder / "decision.json").read_text())
    assert (decision["decision"], decision["reason"], len(decision["decisions"])) == ("keep", "good", 1)
    assert json.loads((folder / "record.json").read_text()) == json.loads(json.dumps(record.to_dict()))
    assert (folder / "card.md").read_text("utf-8").startswith("# full: finished")
    assert json.loads((folder / "environment.json").read_text())["python"]


@pytest.mark.parametrize("ended", [True, False])
def test_a_lost_start_is_told_by_the_files_beside(store, ended):
    """With the journal's first line damaged, config and environment come from the views; of an ended run, all does."""
    with run("told", config={"lr": 0.1, "big": 2**70}, tags=["a"], notes="why") as r:
        r.log(loss=0.5, step=1)
        if not ended:
            _lose_start(r.folder)
            record = store.get(r.run_id)
    if ended:
        whole = store.get(r.run_id)
        _lose_start(r.folder)
        record = store.get(r.run_id)
        for name in ("name", "experiment", "started_at", "duration_s", "tags", "notes", "config_hash", "attempts"):
            assert getattr(record, name) == getattr(whole, name)
    assert record.config == {"lr": 0.1, "big": 2**70}
    assert record.environment["python"]
    assert record.metrics == {"loss": 0.5}
    assert record.status == ("finished" if ended else "crashed")
    assert record.losses["damaged"] == 1


def _lose_start(folder):
    path = folder / "journal.jsonl"
    content = path.read_bytes()
    path.write_bytes(b"?" * 40 + content[40:])


def test_a_folder_without_a_journal_does_not_read_as_whole(store):
    """A run whose journals are gone reads as crashed, with what the views have, and says that events are missing."""
    folder = full().folder
    (folder / "journal.jsonl").unlink()
    record = store.get(folder.name)
    assert (record.status, record.config.lr, record.losses) == ("crashed", 0.1, {"missing": 1})
    (folder / "record.json").write_text("[]")
    (folder / "config.json").write_text('{"torn"')
    assert store.get(folder.name).config == {}


def test_a_file_that_would_be_empty_is_not_written(tmp_path):
    """A run without config, metrics and judgement has no file for them."""
    with run("bare", capture=["-git"]) as r:
        pass
    assert names(r.folder) == ALWAYS


def test_the_starts_files_are_there_while_the_run_goes_on():
    """Config, environment and requirements can be read before the end; the others come with it."""
    with run("open", config={"lr": 0.1}, capture=["-git"]) as r:
        assert names(r.folder) == {"journal.jsonl", "config.json", "environment.json", "requirements.txt"}


def test_files_are_their_owners_alone():
    """Folders are 0700 and files 0600."""
    folder = full().folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in os.scandir(folder)} == {0o600}


def test_config_keys_that_came_later_are_in_the_file():
    """`log_config` shows in config.json when the run has ended."""
    with run("later", config={"lr": 0.1}) as r:
        r.log_config(seed=3)
    assert json.loads((r.folder / "config.json").read_text()) == {"lr": 0.1, "seed": 3}


def test_a_long_history_is_in_its_own_file_alone(monkeypatch, store):
    """Beyond a number of points record.json has null, and metric_history.csv all of them."""
    monkeypatch.setattr(views, "HISTORY_IN_RECORD", 5)
    with run("long") as r:
        for step in range(6):
            r.log(loss=step, step=step)
    assert json.loads((r.folder / "record.json").read_text())["metric_history"] is None
    assert [int(row["step"]) for row in rows(r.folder)] == list(range(6))
    assert len(store.get("long").metric_history) == 6


def test_names_are_harmless_in_a_spreadsheet():
    """A metric's name that a spreadsheet would calculate is text."""
    with run("formula") as r:
        r.log({"=1+1": 1.0})
    assert rows(r.folder)[0]["name"] == "'=1+1"


def test_runs_of_one_process_share_what_they_have_in_common():
    """Environment and requirements lie on the disk once."""
    first, second = full(), full()
    for name in ("environment.json", "requirements.txt"):
        assert os.path.samefile(first.folder / name, second.folder / name)
    assert not os.path.samefile(first.folder / "config.json", second.folder / "config.json")


def test_where_links_are_refused_files_are_copied(monkeypatch):
    """A file system without hard links costs room and nothing else."""

    def refused(*_args, **_options):
        raise OSError(errno.EPERM, "no links here")

    first = full()
    monkeypatch.setattr(os, "link", refused)
    second = full()
    assert (first.folder / "environment.json").read_bytes() == (second.folder / "environment.json").read_bytes()
    assert not os.path.samefile(first.folder / "environment.json", second.folder / "environment.json")


def test_what_a_shared_file_was_linked_from_may_be_removed():
    """A run whose folder was taken away is no source for later ones, and those that share keep theirs."""
    first, second = full(), full()
    (first.folder / "environment.json").unlink()
    third = full()
    assert (second.folder / "environment.json").read_bytes() == (third.folder / "environment.json").read_bytes()


def test_a_late_judgement_brings_the_files_up_to_date(store):
    """Decision, record and card follow the journal after the end."""
    folder = full().folder
    store.discard("full", "leak")
    assert json.loads((folder / "decision.json").read_text())["decision"] == "discard"
    assert json.loads((folder / "record.json").read_text())["decision_reason"] == "leak"
    assert "leak" in (folder / "card.md").read_text("utf-8")
    assert not [name for name in names(folder) if name.startswith(".")]


def test_a_file_that_cannot_be_replaced_stays_whole(store, monkeypatch):
    """When the new one does not go in its place the old one is as it was, and no piece is left beside it."""
    folder = full().folder
    before = (folder / "record.json").read_bytes()

    def full_disk(*_args):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(views.os, "replace", full_disk)
    with pytest.warns(RuncardWarning, match="could not write"):
        store.discard("full", "leak")
    monkeypatch.undo()
    assert (folder / "record.json").read_bytes() == before
    assert not [name for name in names(folder) if name.startswith(".")]
    assert store.get("full").decision == "discard"


def test_a_write_that_does_not_fit_leaves_no_piece(tmp_path, monkeypatch):
    """A short write takes its file away again, and says so."""
    real = os.write
    monkeypatch.setattr(views.os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(OSError, match=r"config.json was written in part"):
        views.write_start(tmp_path, 0o600, config={"lr": 0.1, "name": "long enough"}, shared={})
    assert not [name for name in names(tmp_path) if name.startswith("config")]


def test_a_history_that_does_not_fit_leaves_no_piece(store, monkeypatch, tmp_path):
    """The partial file of a history goes when its writing fails."""
    folder = full().folder
    record = store.get("full")
    (folder / "metric_history.csv").unlink()

    def broken():
        yield record.metric_history[0]
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        views._write_history(folder / "metric_history.csv", 0o600, broken())
    assert not [name for name in names(folder) if "metric_history" in name]


def test_views_that_cannot_be_written_cost_the_run_nothing(store, monkeypatch):
    """One warning; the journal is whole; the next judgement writes them."""

    def broken(*_args, **_options):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(views, "write_end", broken)
        with pytest.warns(RuncardWarning, match="could not write the views"):
            r = full()
    assert r.status == "finished"
    assert r.run_id in (r.folder.parent / "leaderboard.csv").read_text("utf-8")
    assert "record.json" not in names(r.folder)
    assert [event["kind"] for event in Reading(r.folder / "journal.jsonl")][-1] == "end"
    store.note("full", "late")
    assert {"record.json", "card.md", "metrics.json", "metric_history.csv"} <= names(r.folder)


def test_the_journal_alone_is_read_back(store):
    """Whatever becomes of the other files, and with none of them, the record is the same."""
    r = full()
    before = store.get("full").to_dict()
    for name in names(r.folder) - {"journal.jsonl"}:
        (r.folder / name).write_bytes(b"\0garbage")
    assert store.get("full").to_dict() == before
    for name in names(r.folder) - {"journal.jsonl"}:
        (r.folder / name).unlink()
    assert store.get("full").to_dict() == before
