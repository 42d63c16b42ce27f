"""Reading back: references of every kind, late judgements, and nothing lossy on the way."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from runcard import RunRecord, log, open_store, run, tracked
from runcard.errors import AmbiguousRun, RunNotFound, SettingError, StoreError
from runcard.record import History


@pytest.fixture
def three(store):
    """A store with three runs, oldest first: two named a, one named b."""
    ids = []
    for name in ("a", "a", "b"):
        with run(name, config={"n": len(ids)}) as r:
            r.log(x=float(len(ids)))
        ids.append(r.run_id)
    return ids


def test_every_kind_of_reference(store, three, monkeypatch):
    """The id, a prefix, the short id, a prefix of it, a unique name, latest, the folder: all the same run."""
    last = three[2]
    unique = next(length for length in range(15, 25) if sum(each.startswith(last[:length]) for each in three) == 1)
    short = next(
        length
        for length in range(1, 9)
        if sum(last[-8:][:length] in (each[:length], each[-8:][:length]) for each in three) == 1
    )
    folder = Path(store.root) / last
    for ref in (last, last[:unique], last[-8:], last[-8:][:short], last[-8:].upper(), "b", "latest", str(folder)):
        assert store.get(ref).run_id == last, ref
    monkeypatch.chdir(store.root)
    assert store.get(f"./{last}").run_id == last
    monkeypatch.chdir(folder)
    assert store.get(".").run_id == last


def test_a_name_goes_before_a_prefix(store):
    """A unique name addresses its run, whatever another run's id begins with."""
    with run("other") as other:
        pass
    with run(other.run_id[-8:][:2]) as named:
        pass
    assert store.get(named.name).run_id == named.run_id
    assert store.get(other.run_id[-8:]).run_id == other.run_id


def test_an_ambiguous_reference_lists_the_runs(store, three):
    """A name of two runs, or a prefix of several, is refused with what it could mean."""
    with pytest.raises(AmbiguousRun) as refused:
        store.get("a")
    assert three[0] in str(refused.value)
    assert three[1] in str(refused.value)
    assert three[2] not in str(refused.value)
    with pytest.raises(AmbiguousRun):
        store.get(three[0][:8])


@pytest.mark.parametrize(
    "ref", ["", "nothing", "20200101T000000-00000000", "../..", "/etc", "a/../b", "*", "nul\0", "x.zip", "latest "]
)
def test_a_reference_to_nothing(store, three, ref):
    """Whatever the text is, it is RunNotFound and no path is opened outside of what a reference may name."""
    with pytest.raises(RunNotFound):
        store.get(ref)


def test_latest_of_an_empty_store(store):
    """There is none, and no folder is made by asking."""
    with pytest.raises(RunNotFound, match="no run"):
        store.get("latest")
    assert store.runs() == []
    assert not Path(store.root).exists()


def test_a_zip_of_a_run(store, three, tmp_path):
    """A zip of the folder, with or without the folder itself in it, is a reference."""
    folder = Path(store.root) / three[2]
    outer = shutil.make_archive(str(tmp_path / "outer"), "zip", store.root, three[2])
    inner = shutil.make_archive(str(tmp_path / "inner"), "zip", folder)
    for path in (outer, inner):
        record = store.get(path)
        assert (record.run_id, record.metrics) == (three[2], {"x": 2.0})
        assert [point.value for point in store.history(path)] == [2.0]


def test_zips_that_are_none(store, three, tmp_path):
    """A damaged zip, one without a run and one with two are refused by name; members cannot leave the folder."""
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    two = shutil.make_archive(str(tmp_path / "two"), "zip", store.root)
    for path in (tmp_path / "bad.zip", tmp_path / "empty.zip", two):
        with pytest.raises(RunNotFound):
            store.get(str(path))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../escaped.txt", "out")
        archive.write(Path(store.root) / three[0] / "journal.jsonl", f"{three[0]}/journal.jsonl")
    assert store.get(str(tmp_path / "evil.zip")).run_id == three[0]
    assert not list(tmp_path.parent.glob("escaped.txt"))
    assert not (tmp_path / "escaped.txt").exists()


def test_a_zip_bomb_is_not_unpacked(store, tmp_path, monkeypatch):
    """A zip that would unpack to more than the limit is refused before anything is written."""
    from runcard import _elsewhere

    monkeypatch.setattr(_elsewhere, "_ZIP_LIMIT", 1_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("journal.jsonl", b"\0" * 100_000)
    with pytest.raises(StoreError, match="unpack"):
        store.get(str(tmp_path / "bomb.zip"))


def test_a_run_folder_that_was_moved_and_renamed(store, three, tmp_path):
    """A copied folder under another name is still that run: its journal says who it is."""
    moved = tmp_path / "elsewhere" / "my best run"
    shutil.copytree(Path(store.root) / three[2], moved)
    assert store.get(str(moved)).run_id == three[2]


def test_a_store_can_be_moved(store, three, tmp_path):
    """No path in a record is bound to the place: the same record from the new one."""
    before = [record.to_dict() for record in store.runs()]
    shutil.move(store.root, tmp_path / "moved")
    after = open_store(tmp_path / "moved")
    assert [record.to_dict() for record in after.runs()] == before
    assert Path(after.get("latest").folder).is_relative_to(tmp_path / "moved")


def test_listing_is_newest_first_and_filters(store, three):
    """Newest first; where, experiment, status, sort and limit narrow it down."""
    assert [record.run_id for record in store.runs()] == three[::-1]
    assert [record.config["n"] for record in store.runs("config.n >= 1")] == [2, 1]
    assert [record.name for record in store.runs("name == 'b'")] == ["b"]
    assert len(store.runs(limit=2)) == 2
    assert len(store.runs(status="finished")) == 3
    assert store.runs(status="failed") == []
    assert [record.config["n"] for record in store.runs(sort="metrics.x")] == [0, 1, 2]
    assert store.runs(experiment="none such") == []


def test_running_runs_and_children_are_listed(store):
    """A listing made inside a run shows it as running, with its children."""
    with run("outer"):
        with run("inner"):
            pass
        found = {record.name: record.status for record in store.runs()}
        assert found == {"outer": "running", "inner": "finished"}
        assert store.get("outer").ended_at is None


def test_judged_later(store, three):
    """Decisions, tags, notes, names and corrections are appended; the journal's earlier bytes stay as they were."""
    ref = three[0]
    folder = Path(store.root) / ref
    before = (folder / "journal.jsonl").read_bytes()
    assert store.keep(ref, "good after all").decision == "keep"
    store.discard(ref, "no, leaked labels")
    store.tag(ref, "paper", "old", remove=["quick"])
    store.tag(ref, remove=["old"])
    store.note(ref, "figure 3")
    store.rename(ref, "renamed")
    record = store.amend(ref, {"x": 7.5}, "wrong split")
    assert (record.decision, record.decision_reason) == ("discard", "no, leaked labels")
    assert [entry.decision for entry in record.decisions] == ["keep", "discard"]
    assert all(entry.by for entry in record.decisions)
    assert (record.tags, record.notes, record.name) == (["paper"], "figure 3", "renamed")
    assert record.metrics["x"] == 7.5
    assert record.amendments[0].before == {"x": 0.0}
    assert record.status == "finished"
    assert (folder / "journal.jsonl").read_bytes().startswith(before)
    assert open_store(store.root).get("renamed").to_dict() == record.to_dict()


def test_late_judgements_refresh_the_views(store, three):
    """The files beside the journal, and the leaderboard, say the same as the record."""
    ref = three[0]
    store.keep(ref, "kept later")
    store.rename(ref, "renamed")
    store.amend(ref, {"x": 7.5}, "wrong split")
    folder = Path(store.root) / ref
    written = json.loads((folder / "record.json").read_text("utf-8"))
    assert written == store.get(ref).to_dict()
    assert json.loads((folder / "metrics.json").read_text()) == {"x": 7.5}
    assert json.loads((folder / "decision.json").read_text())["reason"] == "kept later"
    assert "kept later" in (folder / "card.md").read_text()
    rows = [line for line in (Path(store.root) / "leaderboard.csv").read_text().splitlines() if ref in line]
    assert len(rows) == 1
    assert "renamed" in rows[0]
    assert "keep" in rows[0]
    assert "7.5" in rows[0]


def test_a_running_run_can_be_judged_from_outside(store):
    """A judgement while the run goes on is kept beside its journal, and stands when it has ended."""
    with run("going on") as r:
        r.log(x=1.0)
        store.tag("latest", "watched")
        assert store.keep(r.run_id, "already better").decision == "keep"
        r.log(x=2.0)
    record = store.get(r.run_id)
    assert (record.status, record.decision, record.tags) == ("finished", "keep", ["watched"])
    assert [point.value for point in record.metric_history] == [1.0, 2.0]
    assert record.losses == {}


def test_secrets_in_late_judgements_are_redacted(store, three):
    """What is said later is redacted as what was said in the run."""
    token = "ghp_" + "a1B2" * 9
    store.note(three[0], f"use {token}")
    store.keep(three[0], f"because {token}")
    store.tag(three[0], token)
    assert store.get(three[0]).losses == {"redacted": 3}
    for path in Path(store.root).rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


def test_nothing_is_lost_on_the_way_back(store):
    """Every value of a rich run is the same in the journal's record, record.json, from_dict and a pickled copy."""
    import pickle

    config = {
        "float": 0.1,
        "nan": math.nan,
        "inf": -math.inf,
        "big": 2**100,
        "text": "zeile\nzwei\x00 \U0001f600 \u202e",
        "deep": [{"a": [1, 2.5, None, True]}],
        "path": Path("data/x.csv"),
        "1": 1,
    }

    @tracked(objective="loss", direction="minimize", tags=["t"], notes="n")
    def train(config):
        log(loss=math.nan)
        log({"loss": 0.5, "n": 2**70}, step=10)
        log(loss=math.inf, step=-1)
        return {"loss": 0.25, "model": "net"}

    with pytest.raises(ZeroDivisionError), run("fails", config=config) as r:
        r.log(x=math.nan)
        raise ZeroDivisionError("why")
    train(config)
    for record in store.runs():
        data = record.to_dict()
        text = json.dumps(data, allow_nan=False)
        written = json.loads((Path(record.folder) / "record.json").read_text("utf-8"))
        assert written == json.loads(text)
        again = RunRecord.from_dict(json.loads(text))
        assert again.to_dict() == data
        assert pickle.loads(pickle.dumps(record)).to_dict() == data
        assert math.isnan(again.config["nan"])
        assert again.config["big"] == 2**100
        assert again.config["text"].replace("\\u0000", "\x00").startswith("zeile\nzwei")
        assert again.started_at == record.started_at
        assert record.losses == {}
    assert open_store(store.root).get(r.run_id).error.message == "why"


def test_history_by_name_and_in_order(store):
    """All points in the order logged, or those of one metric."""
    with run("points") as r:
        r.log(b=1.0, a=2.0)
        r.log(a=3.0, step=-5)
    assert [(p.name, p.step, p.value) for p in store.history(r.run_id)] == [
        ("b", 0, 1.0),
        ("a", 0, 2.0),
        ("a", -5, 3.0),
    ]
    assert [p.value for p in store.history("latest", "a")] == [2.0, 3.0]
    assert store.history("latest", "none") == []
    assert store.history("latest", rank=7) == []
    with pytest.raises(RunNotFound):
        store.history("nothing")
    times = [point.time for point in store.history(r.run_id)]
    assert times == sorted(times)


def test_the_history_is_read_lazily(store, three):
    """A listing reads no points; they are read when first looked at, and then compare as a list."""
    record = store.get(three[0])
    history = record.metric_history
    assert isinstance(history, History)
    assert history._points is None
    assert [point.value for point in history] == [0.0]
    assert len(history) == 1
    assert history[0].name == "x"
    assert list(history) == history


def test_a_deleted_run_is_gone(store, three):
    """Removing a folder removes a run: the other runs are listed as ever, and the leaderboard can be rebuilt."""
    shutil.rmtree(Path(store.root) / three[1])
    assert [record.run_id for record in store.runs()] == [three[2], three[0]]
    path = store.rebuild_leaderboard()
    assert three[1] not in path.read_text()
    assert three[0] in path.read_text()


def test_strangers_in_the_store_are_left_aside(store, three):
    """Files and folders that are no runs, and links, change nothing."""
    root = Path(store.root)
    (root / "notes.txt").write_text("mine")
    (root / "old").mkdir()
    (root / "20261123T101112-7k3f9q2m").write_text("a file, no folder")
    (root / "20261123T101113-7k3f9q2m").symlink_to(root / three[0])
    assert [record.run_id for record in store.runs()] == three[::-1]


def test_a_folder_with_nothing_readable_is_a_record(store):
    """A run whose start is lost is listed as crashed, with its damage counted."""
    folder = Path(store.root) / "20261123T101112-7k3f9q2m"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(b"\x00\xffgarbage\nmore\n")
    (record,) = store.runs()
    assert (record.run_id, record.name, record.status, record.losses) == (folder.name, "", "crashed", {"damaged": 2})


def test_a_store_that_is_no_folder(tmp_path):
    """A file where a folder is expected is a StoreError; what cannot be read back is refused at opening."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError):
        open_store(tmp_path / "file").runs()
    with pytest.raises(SettingError):
        open_store("carrier-pigeon:coop")


def test_opening_a_store_starts_nothing(store, three):
    """A reader loads none of the instrument, and writes nothing by looking."""
    import subprocess

    before = {path: path.stat().st_mtime_ns for path in Path(store.root).rglob("*") if path.name == "journal.jsonl"}
    code = (
        "import sys\nfrom runcard import open_store\n"
        "store = open_store(sys.argv[1])\nprint(len(store.runs()), store.get('b').metrics['x'])\n"
        "print([name for name in sys.modules if name in ('runcard._run', 'runcard._opening', 'runcard._pulse', "
        "'git', 'wrapt', 'pandas')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == "3 2.0\n[]\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_store_has_a_name(store, three):
    """An empty name, as of an unset variable, is no folder; `file:` alone is the folder of the setting."""
    with pytest.raises(SettingError, match="no name"):
        open_store("")
    assert open_store("file:").root == store.root
    assert len(open_store("file:").runs()) == 3


def test_a_name_may_look_like_a_path(store):
    """A name that only one run has addresses it, with a slash in it or a dot and zip at its end."""
    for name in ("vit/base", "weights.zip", "twice/there", "twice/there"):
        with run(name):
            pass
    assert store.get("vit/base").name == "vit/base"
    assert store.get("weights.zip").name == "weights.zip"
    with pytest.raises(AmbiguousRun):
        store.get("twice/there")
    with pytest.raises(RunNotFound, match="no journal"):
        store.get("vit/large")
    with pytest.raises(RunNotFound):
        store.get("nul\0/x.zip")


def test_a_folder_here_needs_no_slash(store, three, tmp_path, monkeypatch):
    """A run's folder in the working directory is addressed by its name alone, when no run of the store is."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(store.root / three[0], tmp_path / "copied")
    assert store.get("copied").run_id == three[0]
    shutil.copytree(store.root / three[1], tmp_path / three[1])
    assert open_store(tmp_path / "empty").get(three[1]).folder == str(tmp_path / three[1])


def test_what_is_said_of_a_run_is_kept_where_it_lies(store, three, tmp_path):
    """A run named by its folder in another store is judged there; a copy in no store, and a zip, cannot be."""
    shutil.copytree(store.root / three[0], tmp_path / "other" / three[0])
    shutil.copytree(store.root / three[0], tmp_path / "copied")
    assert store.keep(str(tmp_path / "other" / three[0]), "moved").decision == "keep"
    assert store.get(three[0]).decision is None
    assert open_store(tmp_path / "other").get(three[0]).decision_reason == "moved"
    shutil.make_archive(str(tmp_path / "run"), "zip", store.root, three[0])
    for path in ("copied", "run.zip"):
        with pytest.raises(StoreError, match="judge the run where it was recorded"):
            store.keep(str(tmp_path / path), "copy")
    assert store.keep(str(store.root / three[0]), "here").decision_reason == "here"


@pytest.mark.parametrize(
    "say",
    [
        lambda store, ref: store.amend(ref, {"x": "much"}, "why"),
        lambda store, ref: store.amend(ref, {"x": 1.0, "y": None}, "why"),
        lambda store, ref: store.amend(ref, {}, "why"),
        lambda store, ref: store.amend(ref, {"": 1.0}, "why"),
        lambda store, ref: store.amend(ref, {"x": 1.0}, " "),
        lambda store, ref: store.keep(ref, 5),
        lambda store, ref: store.tag(ref, ""),
        lambda store, ref: store.tag(ref, "good", remove=[7]),
        lambda store, ref: store.note(ref, None),
        lambda store, ref: store.rename(ref, " "),
    ],
)
def test_what_is_said_late_is_refused_when_it_says_nothing(store, three, say):
    """What would be read back as nothing is an error at once, and no event."""
    before = store.get(three[0])
    with pytest.raises(SettingError):
        say(store, three[0])
    assert store.get(three[0]) == before


def test_an_amendment_takes_what_log_takes(store, three):
    """Any number, NaN and a numpy one too; the values before stay in the record."""
    record = store.amend(three[0], {"x": math.nan, "y": np.float32(0.5), "z": True, "big": 2**70}, "measured anew")
    assert record.metrics == {"x": pytest.approx(math.nan, nan_ok=True), "y": 0.5, "z": 1, "big": 2**70}
    assert record.amendments[0].before == {"x": 0.0, "y": None, "z": None, "big": None}
    assert store.tag(three[0], "one", "two").tags == ["one", "two"]
    assert store.tag(three[0], remove="one").tags == ["two"]


def test_best_is_within_one_experiment(store):
    """Without an experiment's name it is that of the newest run; a metric has no direction but its own."""
    for experiment, loss in (("old", 0.1), ("new", 0.9), ("new", 0.8)):
        with run("s", experiment=experiment, objective="loss", direction="minimize") as r:
            r.log(loss=loss, acc=loss)
    assert store.best().metrics["loss"] == 0.8
    assert store.best(metric="acc", direction="maximize").metrics["acc"] == 0.9
    assert store.best("old").metrics["loss"] == 0.1
    assert store.best(metric="acc") is None
    with run("s", experiment="new", objective="loss", direction="minimize") as r:
        r.log(other=1.0)
    assert store.best(metric="other", direction="minimize").metrics["other"] == 1.0


def test_best_is_todays(store):
    """The best run now, by the objective the runs were given, or by another metric."""
    for value in (0.5, 0.2, 0.9):
        with run("s", experiment="e", objective="loss", direction="minimize") as r:
            r.log(loss=value, acc=value)
    assert store.best("e").metrics["loss"] == 0.2
    assert store.best("e", metric="acc", direction="maximize").metrics["acc"] == 0.9
    assert store.best("nothing") is None


def test_an_empty_journal_is_a_loss(store, three):
    """A journal that was emptied tells at least of its missing start; the files beside it tell the rest."""
    folder = store.root / three[0]
    before = store.get(three[0])
    (folder / "journal.jsonl").write_bytes(b"")
    after = store.get(three[0])
    assert after.losses == {"missing": 1}
    assert (after.config, after.metrics) == (before.config, before.metrics)
