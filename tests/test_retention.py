"""What gc frees, and what it never does."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta

import pytest
from records import BEGAN, record

from runcard import open_store, retention, run
from runcard.cli.quantities import parse_age, parse_size
from runcard.errors import SettingError, StoreError
from runcard.record import Status
from runcard.retention import apply, artifact_files, plan

LATER = BEGAN + timedelta(days=100)


def made(number, *, loss=None, transient=(), **fields):
    metrics = {} if loss is None else {"loss": loss}
    artifacts = [{"path": path, "transient": path in transient} for path in ("artifacts/a", "artifacts/t")]
    return record(number, metrics=metrics, artifacts=artifacts, **fields)


def ten_each(_record):
    return {"artifacts/a": 10, "artifacts/t": 5}


def gone(found):
    return [(each.record.run_id[-1], sorted(path[-1] for path in each.files), each.why) for each in found.removals]


def test_transient_artifacts_go_first_then_those_of_discarded_runs():
    """Without rules nothing else goes."""
    runs = [made(0, decision="discard", transient=["artifacts/t"]), made(1, transient=["artifacts/t"]), made(2)]
    found = plan(runs, ten_each, now=LATER)
    assert gone(found) == [("0", ["t"], "transient"), ("1", ["t"], "transient"), ("0", ["a"], "discarded")]
    assert (found.bytes, found.total) == (20, 45)


@pytest.mark.parametrize("fields", [{"decision": "keep"}, {"status": Status.RUNNING}])
def test_nothing_of_a_kept_or_running_run_goes(fields):
    """Whatever the rules, kept runs and runs that go on lose not even transient artifacts."""
    runs = [made(0, loss=9.0, transient=["artifacts/t"], **fields), made(1, loss=1.0)]
    rules = {"keep_top": 1, "by": "loss", "direction": "minimize", "older_than": timedelta(), "max_size": 0}
    found = plan(runs, ten_each, **rules, runs=True, now=LATER)
    assert found.removals == []
    assert list(found.protected) == [runs[0].run_id, runs[1].run_id]


def test_the_best_of_each_experiment_stay():
    """The top n are counted within an experiment; the others lose their artifacts, the oldest first."""
    runs = [made(number, loss=float(number), experiment="ab"[number % 2]) for number in range(6)]
    found = plan(runs, ten_each, keep_top=2, by="loss", direction="minimize", now=LATER)
    assert [entry[0] for entry in gone(found)] == ["4", "5"]
    assert found.protected[runs[2].run_id] == "number 2 of a"


def test_the_objective_says_what_is_best():
    """Without --by each experiment's own objective and direction count."""
    runs = [made(number, loss=float(number), objective="loss", direction="maximize") for number in range(3)]
    assert [entry[0] for entry in gone(plan(runs, ten_each, keep_top=1, now=LATER))] == ["0", "1"]


def test_a_run_that_failed_takes_no_place_among_the_best():
    """The best finished runs stay, and with them what ranks before them and did not end well."""
    runs = [made(0, loss=0.5), made(1, loss=0.1, status=Status.FAILED), made(2, loss=0.3), made(3, loss=0.4)]
    found = plan(runs, ten_each, keep_top=1, by="loss", direction="minimize", now=LATER)
    assert [entry[0] for entry in gone(found)] == ["0", "3"]
    assert found.protected == {runs[1].run_id: "number 1 of train", runs[2].run_id: "number 2 of train"}


def test_the_direction_is_that_of_the_metric():
    """Where runs have several objectives, the one that is named says whether less or more of it is better."""
    loss = {"objective": "loss", "direction": "minimize"}
    runs = [made(n, loss=float(n), **loss) for n in range(3)]
    runs.append(made(3, objective="accuracy", direction="maximize"))
    found = plan(runs, ten_each, keep_top=1, by="loss", now=LATER)
    assert [entry[0] for entry in gone(found)] == ["1", "2", "3"]


def test_best_of_what_has_to_be_said():
    """Without a metric to go by, keep_top is refused."""
    with pytest.raises(SettingError, match="--by METRIC"):
        plan([made(0)], ten_each, keep_top=1, now=LATER)


def test_a_rule_about_the_best_says_nothing_where_there_is_none():
    """An experiment in which no run has a finite value of the metric loses nothing by keep_top."""
    runs = [made(0), made(1, loss=float("nan"))]
    assert plan(runs, ten_each, keep_top=1, by="loss", direction="minimize", now=LATER).removals == []


def test_transient_artifacts_go_where_no_run_has_the_metric():
    """An experiment that cannot be ranked loses what is transient, and nothing else."""
    runs = [made(0, transient=["artifacts/t"]), made(1)]
    found = plan(runs, ten_each, keep_top=1, by="loss", direction="minimize", now=LATER)
    assert gone(found) == [("0", ["t"], "transient")]
    assert found.protected == {}


def test_a_discarded_run_is_not_among_the_best():
    """A discarded run does not take a place from the others, nor is it protected by one."""
    runs = [made(0, loss=0.0, decision="discard"), made(1, loss=1.0), made(2, loss=2.0)]
    found = plan(runs, ten_each, keep_top=1, by="loss", direction="minimize", now=LATER)
    assert [entry[0] for entry in gone(found)] == ["0", "2"]


def test_young_runs_stay_when_an_age_is_given():
    """Only runs that ended longer ago lose their artifacts; transient ones go at any age."""
    runs = [made(0), made(1, started_at=LATER - timedelta(days=3), transient=["artifacts/t"])]
    found = plan(runs, ten_each, older_than=timedelta(days=30), now=LATER)
    assert gone(found) == [("1", ["t"], "transient"), ("0", ["a", "t"], "old")]


def test_it_stops_when_enough_is_free():
    """With a size, only as much goes as has to, discarded runs before others, the oldest first."""
    runs = [made(0), made(1), made(2, decision="discard"), made(3)]
    found = plan(runs, ten_each, max_size=30, now=LATER)
    assert gone(found) == [("2", ["a", "t"], "discarded"), ("0", ["a", "t"], "to make room")]
    assert plan(runs, ten_each, max_size=1000, now=LATER).removals == []


def test_records_go_only_on_demand():
    """Without runs=True no run goes whole; with it, those go whose artifacts would."""
    runs = [made(0, decision="discard"), made(1)]
    assert [removal.whole for removal in plan(runs, ten_each, now=LATER).removals] == [False]
    assert [removal.whole for removal in plan(runs, lambda _: {}, runs=True, now=LATER).removals] == [True]


@pytest.fixture
def two(store):
    """A discarded run and another, each with an artifact."""
    for name in ("bad", "good"):
        with run(name, experiment="e") as current:
            current.log(loss=1.0)
            current.artifact_path("sub/model.bin").write_bytes(b"x" * 100)
            if name == "bad":
                current.discard("no")
    return store


def test_removed_artifacts_are_said_to_be_removed(two):
    """The file goes, the record stays and says so, and what was not in the plan is untouched."""
    freed, problems = apply(two, plan(two.runs(), artifact_files))
    assert (freed, problems) == (100, [])
    bad, good = two.get("bad"), two.get("good")
    assert bad.artifacts[0].removed is True
    assert bad.metrics == {"loss": 1.0}
    assert not os.path.exists(os.path.join(bad.folder, "artifacts"))
    assert os.path.getsize(os.path.join(good.folder, "artifacts", "sub", "model.bin")) == 100
    assert plan(two.runs(), artifact_files).removals == []


def test_a_run_kept_since_the_plan_was_made_is_left_alone(two):
    """What somebody decides while one thinks about the plan counts."""
    found = plan(two.runs(), artifact_files)
    two.keep("bad", "after all")
    freed, problems = apply(two, found)
    assert freed == 0
    assert "keep" in problems[0]
    assert artifact_files(two.get("bad")) == {"artifacts/sub/model.bin": 100}


def test_whole_runs_lose_folder_and_row(two):
    """With runs=True the folder is gone, and its row in the leaderboard."""
    bad = two.get("bad")
    assert apply(two, plan(two.runs(), artifact_files, runs=True))[1] == []
    assert not os.path.exists(bad.folder)
    assert bad.run_id not in (two.root / "leaderboard.csv").read_text()
    assert [each.name for each in two.runs()] == ["good"]


def test_a_whole_run_is_as_large_as_its_folder(two):
    """What a run frees that goes whole counts its record too, but no file that other runs share."""
    bad = two.get("bad")
    own = [os.path.join(where, name) for where, _, names in os.walk(bad.folder) for name in names]
    sizes = {path: os.lstat(path) for path in own}
    expected = sum(found.st_size for found in sizes.values() if found.st_nlink == 1)
    found = plan(two.runs(), artifact_files, runs=True)
    assert found.bytes == expected > 100
    assert plan(two.runs(), artifact_files).bytes == 100
    assert apply(two, found)[0] == expected


def test_links_lead_nowhere(two, tmp_path):
    """A link among the artifacts, or in the place of a folder of them, is neither counted nor followed."""
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    bad = two.get("bad")
    artifacts = os.path.join(bad.folder, "artifacts")
    os.symlink(outside, os.path.join(artifacts, "folder"))
    os.symlink(outside / "file", os.path.join(artifacts, "file"))
    assert artifact_files(bad) == {"artifacts/sub/model.bin": 100}
    found = plan(two.runs(), artifact_files)
    os.mkdir(os.path.join(bad.folder, "other"))
    shutil.copy(outside / "file", os.path.join(bad.folder, "other", "file"))
    odd = ("artifacts/folder/file", "artifacts/file", "artifacts/../journal.jsonl", "card.md", "other/file")
    found.removals[0].files.update(dict.fromkeys(odd, 8))
    freed, problems = apply(two, found)
    assert freed == 100
    assert "5 files" in problems[0]
    assert (outside / "file").read_bytes() == b"precious"
    assert {"journal.jsonl", "card.md"} <= set(os.listdir(bad.folder))
    assert os.listdir(os.path.join(bad.folder, "other")) == ["file"]


def test_artifacts_that_are_a_link_lead_nowhere(two, tmp_path):
    """When `artifacts` itself is a link, nothing behind it is listed."""
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    bad = two.get("bad")
    os.rename(os.path.join(bad.folder, "artifacts"), tmp_path / "moved")
    os.symlink(outside, os.path.join(bad.folder, "artifacts"))
    assert artifact_files(bad) == {}


def test_only_a_runs_folder_is_removed(two, tmp_path):
    """A name that is no run's id, or a link, is refused."""
    (two.root / "20261123T101112-0000000x").symlink_to(tmp_path)
    for name in ("..", "leaderboard.csv", "20261123T101112-0000000x", "20261123T101112-99999999"):
        with pytest.raises(StoreError):
            retention.remove_run(two.root, name)


def test_a_store_that_is_no_folder_is_refused():
    """Only folders of runs can be tidied up."""
    with pytest.raises(StoreError, match="folder"):
        apply(open_store("memory:retention"), plan([], artifact_files))


@pytest.mark.parametrize(
    ("text", "count"), [("50GB", 50e9), ("1.5 mb", 1.5e6), ("200k", 2e5), ("1GiB", 2**30), ("7", 7), ("0", 0)]
)
def test_sizes_are_read(text, count):
    """Sizes take the usual units."""
    assert parse_size(text) == count


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("12h", 0.5), ("2w", 14), ("90m", 1 / 16), ("0s", 0)])
def test_ages_are_read(text, days):
    """Ages take seconds to weeks."""
    assert parse_age(text) == timedelta(days=days)


@pytest.mark.parametrize("text", ["", "50", "x", "-3d", "5y", "1e9d", "9999999999999d"])
def test_ages_without_sense_are_refused(text):
    """What is no age is an error that says what one is."""
    with pytest.raises(SettingError):
        parse_age(text)


@pytest.mark.parametrize("text", ["", "GB", "-1MB", "5PB", "1,5GB"])
def test_sizes_without_sense_are_refused(text):
    """What is no size is an error that says what one is."""
    with pytest.raises(SettingError, match="500MB"):
        parse_size(text)
