"""The benchmarks' own harness, with tiny numbers: that it measures what it says, and sees a slower version."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from benchmarks import compare, growth, works
from benchmarks.harness import Samples, Subject, WorkFailedError, bytes_below
from benchmarks.report import write
from benchmarks.rows import ROWS
from benchmarks.stores import make_repository, make_store
from benchmarks.works import WORKS

from runcard import open_store

OWN = Subject("runcard", "runcard")
TIMES = "\N{MULTIPLICATION SIGN}"


def test_a_work_gives_samples_beside_its_building_block(tmp_path):
    """Logging gives as many raw writes as calls, and ten scalars stand beside one."""
    answer = OWN.do("logging", tmp_path, batches=4, size=3)
    assert len(answer["one"]) == len(answer["raw"]) == len(answer["ten"]) == 3  # the first batch is for warming up
    assert all(seconds > 0 for times in answer.values() for seconds in times)


def test_whole_runs_are_recorded(tmp_path):
    """The runs that are timed are whole ones: as many records as runs, each finished, with config and metrics."""
    OWN.do("empty_runs", tmp_path, count=2)
    records = open_store(tmp_path).runs()
    assert [record.status for record in records] == ["finished"] * 3
    assert all(len(record.config) == 10 and len(record.metrics) == 3 for record in records)


def test_a_kill_counts_what_was_lost():
    """A run killed flat out is said to be crashed, with every acknowledged step there."""
    samples = works._kill(OWN, 0, 0.2)
    assert samples.values == [0.0]
    assert samples.note.endswith("shown as crashed")


def test_lost_steps_are_seen(monkeypatch):
    """A subject that finds fewer steps than were acknowledged has lost the rest."""
    real = Subject.do

    def forgetful(self, work, folder, **arguments):
        answer = real(self, work, folder, **arguments)
        return answer | {"steps": 1} if work == "recovered" else answer

    monkeypatch.setattr(Subject, "do", forgetful)
    assert works._kill(OWN, 100, 0.2).values[0] > 0


def test_processes_side_by_side_are_all_counted(monkeypatch):
    """Runs of processes that begin at once are counted, and those that are missing are said."""
    found = works.run_side_by_side(OWN, quick=True)
    assert found["missing"].values == [0.0]
    assert found["parallel"].values[0] > 0


def test_a_subject_that_fails_says_why(tmp_path):
    """A work that a subject cannot do names subject, work and the last words of the process."""
    with pytest.raises(WorkFailedError, match=r"(?s)runcard, ranking: exit 1: .*unexpected keyword"):
        OWN.do("ranking", tmp_path, unknown=1)


def test_a_made_store_reads_as_a_recorded_one(tmp_path):
    """The stores that are listed hold finished runs of 10 config values and 3 metrics, each with its own id."""
    make_store(tmp_path, 5)
    make_store(tmp_path, 2, start=5)
    records = open_store(tmp_path).runs(sort="metrics.loss")
    assert len({record.run_id for record in records}) == 7
    assert all(record.status == "finished" and len(record.config) == 10 for record in records)
    assert [r.metrics.loss for r in records] == sorted(r.metrics.loss for r in records)
    assert not any(record.losses for record in records)


def test_a_made_repository_is_dirty(tmp_path):
    """The repository has the files asked for, one of them changed and one untracked."""
    root = make_repository(tmp_path / "repository", files=3)
    done = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["M", "part0/module0.py", "??", "new.py"]


def test_growth_measures_each_size(monkeypatch):
    """Each cost has a point for each size, and the slope is that of the logarithms."""
    found = growth.measure_growth(OWN, quick=True, limit=100)
    assert [size for size, _ in found["packages"].points] == [10, 100]
    assert growth.Growth("", "", [(10, 2.0), (1000, 200.0)]).slope == pytest.approx(1)
    assert growth.Growth("", "", [(10, 2.0), (1000, 2.0)]).slope == pytest.approx(0)


def test_a_ratio_is_of_what_was_measured_in_turn():
    """Pairs measured in turn give the median of their ratios; a busy moment in one pair does not count."""
    samples = Samples([3.0, 30.0, 3.3], [1.0, 1.0, 1.1])
    assert samples.ratio == pytest.approx(3)
    assert (samples.middle, samples.spread) == (3.3, (3.0, 30.0))


def test_the_table_says_what_was_missed(tmp_path):
    """The Markdown table has value, ratio and goal of a row, and says when the goal was missed."""
    results = {"log1": {"runcard": Samples([8.0], [1.0])}, "import": {"runcard": Samples([14.0], [12.0])}}
    text = write(results, [OWN], {}, tmp_path, "python -m benchmarks").read_text("utf-8")
    assert f"| `log()` of one scalar | 8 µs | 8 {TIMES} | `os.write` of 99 bytes | ≤ 3.5 {TIMES} | **missed** |" in text
    assert f"| 14 ms | 1.17 {TIMES} | `python -c pass` | ≤ 40 ms | met |" in text


def test_the_table_names_who_costs_less(tmp_path):
    """Where no peer may cost less, the table names those that do."""
    peer = Subject("sacred", "Sacred 0.8")
    results = {"log1": {"runcard": Samples([3.0], [1.0]), "sacred": Samples([2.0], [1.0])}}
    assert "| met, above Sacred 0.8 |" in write(results, [OWN, peer], {}, tmp_path, "").read_text("utf-8")
    results["log1"]["sacred"] = Samples([4.0], [1.0])
    assert "| met, below every peer |" in write(results, [OWN, peer], {}, tmp_path, "").read_text("utf-8")


def test_a_slower_version_is_seen(capsys):
    """A row that became slower beyond its spread is marked, and the exit code says so."""
    before, slow = Samples([1.0, 1.1, 1.0]), Samples([2.0, 2.1, 1.9])
    assert compare.table({"log1": [before, slow]}, "HEAD~1") == 1
    assert f"2.00{TIMES} slower" in capsys.readouterr().out
    assert compare.table({"log1": [before, before]}, "HEAD~1") == 0


def test_two_revisions_are_measured_each_with_its_own_source(tmp_path, monkeypatch, capsys):
    """`--compare` runs the base's own files: a base without a name that the worker needs fails there alone."""
    compare.extract("HEAD", tmp_path)
    base = Subject("runcard", "base", source=str(tmp_path / "src"))
    (tmp_path / "src" / "runcard" / "store.py").write_text("raise ImportError('the base is read')\n")
    (tmp_path / "runs").mkdir()
    base.do("empty_runs", tmp_path / "runs", count=0)
    with pytest.raises(WorkFailedError, match="the base is read"):
        base.do("listing", tmp_path / "runs", repeats=1)


def test_an_unknown_revision_is_refused(tmp_path):
    """A revision that git does not know ends with git's own words."""
    with pytest.raises(SystemExit, match="--compare no-such-revision: fatal"):
        compare.extract("no-such-revision", tmp_path)


def test_the_command_line_measures_and_prints(tmp_path):
    """`python -m benchmarks --quick --only …` prints the row; an unknown name is refused with the known ones."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only"]
    done = subprocess.run([*command, "install"], capture_output=True, text=True, check=True)
    assert "packages that an installation brings" in done.stdout
    wrong = subprocess.run([*command, "speed"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "no such work: speed; there are bytes, " in wrong.stderr


def test_every_row_belongs_to_a_work():
    """Rows and works name what they are once, and every row of a work's trial is in the table."""
    assert len({work.key for work in WORKS}) == len(WORKS)
    assert all(dataclasses.is_dataclass(row) and key == row.key for key, row in ROWS.items())


def test_bytes_below_a_folder_are_all_files(tmp_path):
    """The bytes of a run are those of all its files, however deep."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"12345")
    (tmp_path / "file").write_bytes(b"1")
    assert bytes_below(tmp_path) == 6
