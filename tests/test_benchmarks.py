"""The benchmarks' own harness, with tiny numbers: that it measures what it says, and sees a slower version."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks import compare, growth, terminal, works
from benchmarks.__main__ import _command, main
from benchmarks.growth import GROWTHS
from benchmarks.harness import ROOT, Extent, OutOfTimeError, Subject, WorkFailedError, bytes_below
from benchmarks.plot import draw
from benchmarks.report import table, write
from benchmarks.results import FLAT, Growth, Measured, Samples, Session
from benchmarks.rows import LINES, ROWS
from benchmarks.session import Running
from benchmarks.stores import make_repository, make_store
from benchmarks.venvs import PEERS
from benchmarks.works import WORKS, Work

from runcard import open_store

OWN = Subject("runcard", "runcard")
TIMES, DASH = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"


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


def test_processes_side_by_side_are_all_counted():
    """Runs of processes that begin at once are counted, and those that are missing are said."""
    found = works.run_side_by_side(OWN, Extent(quick=True))
    assert found["missing"].values == [0.0]
    assert found["parallel"].values[0] > 0


def test_a_subject_that_fails_says_why(tmp_path):
    """A work that a subject cannot do names subject, work and the last words of the process."""
    with pytest.raises(WorkFailedError, match=r"runcard, ranking: failed: TypeError: .*unexpected keyword"):
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


@pytest.mark.slow
def test_growth_measures_each_size():
    """Each cost has a row for each size, and the rows are lines of sizes and costs."""
    rows = {}
    for work in GROWTHS:
        found = work.trial(OWN, Extent(quick=True, limit=100))
        rows |= {key: {"runcard": samples.told()} for key, samples in found.items()}
    lines = growth.curves(rows)
    assert list(lines) == list(LINES)
    assert [size for size, _ in lines["packages"].points] == [10, 100]
    assert all(cost > 0 for line in lines.values() for _, cost in line.points)


def test_log_is_measured_at_every_size_of_one_run(tmp_path):
    """One run gives the cost of a call at each size; when its time is over, at the sizes it reached."""
    answer = OWN.do("long_run", tmp_path, sizes=[100, 1_000], seconds=60)
    assert list(answer["log"]) == ["100", "1000"]
    assert all(cost > 0 for cost in answer["log"].values())
    (record,) = open_store(tmp_path).runs()
    assert record.metric_summary["loss"].count == 1_001  # and one at the end
    (tmp_path / "cut").mkdir()
    assert OWN.do("long_run", tmp_path / "cut", sizes=[100, 1_000], seconds=0)["log"] == {}


def test_slopes_are_those_of_the_logarithms():
    """Linear is 1 and flat is 0; the last slope sees what a fixed cost hides in the fitted one."""
    assert Growth("", "", points=[(10, 2.0), (1_000, 200.0)]).slope == pytest.approx(1)
    assert Growth("", "", points=[(10, 2.0), (1_000, 2.0)]).slope == pytest.approx(0)
    late = Growth("", "", points=[(10, 5.0), (100, 5.0), (1_000, 5.0), (10_000, 500.0)])
    assert late.slope < 1 < late.last == pytest.approx(2)


@pytest.mark.parametrize(
    ("goal", "costs", "met"),
    [
        (1.0, (1.0, 10.0, 100.0), True),
        (1.0, (1.0, 1.0, 100.0), False),
        (1.0, (1.0,), None),
        (FLAT, (3.0, 3.1, 3.0), True),
        (FLAT, (3.0, 4.0, 5.0), False),
    ],
)
def test_a_growth_meets_its_goal_or_misses_it(goal, costs, met):
    """No worse than linear, or flat; with one size there is nothing to tell."""
    assert Growth("", "", goal, list(zip((100, 1_000, 10_000), costs, strict=False))).met is met


def test_a_ratio_is_of_what_was_measured_in_turn():
    """Pairs measured in turn give the median of their ratios; a busy moment in one pair does not count."""
    samples = Samples([3.0, 30.0, 3.3], [1.0, 1.0, 1.1])
    assert samples.ratio == pytest.approx(3)
    assert (samples.middle, samples.spread) == (3.3, (3.0, 30.0))


def _session(rows, **others):
    subjects = {"runcard": "runcard", "sacred": "Sacred 0.8"}
    told = {key: {name: samples.told() for name, samples in found.items()} for key, found in rows.items()}
    return Session("python -m benchmarks", "a machine", subjects, rows=told, **others)


def test_the_table_says_what_was_missed(tmp_path):
    """The Markdown table has value, ratio and goal of a row, and says when the goal was missed."""
    results = {"log1": {"runcard": Samples([8.0], [1.0])}, "import": {"runcard": Samples([14.0], [12.0])}}
    text = write(_session(results), tmp_path).read_text("utf-8")
    assert f"| `log()` of one scalar | 8 µs | 8 {TIMES} | `os.write` of 71 bytes | ≤ 3.5 {TIMES} | **missed** |" in text
    assert f"| 14 ms | 1.17 {TIMES} | `python -c pass` | ≤ 40 ms | met |" in text


def test_the_table_names_who_costs_less(tmp_path):
    """Where no peer may cost less, the table names those that do."""
    results = {"log1": {"runcard": Samples([3.0], [1.0]), "sacred": Samples([2.0], [1.0])}}
    assert "| met, above Sacred 0.8 |" in write(_session(results), tmp_path).read_text("utf-8")
    results["log1"]["sacred"] = Samples([4.0], [1.0])
    assert "| met, below every peer |" in write(_session(results), tmp_path).read_text("utf-8")


def test_the_table_says_why_a_number_is_missing(tmp_path):
    """A peer that failed, and a row of our own that was cut, stand in the table with the reason, not with a number."""
    cut, failed = Samples(failures=["log: cut after 9 s"]), Samples(failures=["a | b"])
    session = _session({"log1": {"runcard": cut, "sacred": failed}}, cuts=["log: cut"])
    text = write(session, tmp_path).read_text("utf-8")
    assert f"| {DASH} (log: cut after 9 s) |  | `os.write` of 71 bytes | ≤ 3.5 {TIMES} | **not measured** |" in text
    assert f"| Sacred 0.8 | {DASH} |  | a \\| b |" in text
    assert "- log: cut" in text
    assert "log: cut after 9 s" in table(session)


def test_a_growth_worse_than_its_goal_is_said(tmp_path):
    """Each line has its slopes and its verdict; a size that was not measured says why."""
    costs = {100: 1.0, 1_000: 100.0}
    rows = {f"keys@{size}": {"runcard": Samples([cost])} for size, cost in costs.items()}
    rows["keys@10000"] = {"runcard": Samples(failures=["cut after 3 s"])}
    session = _session(rows)
    said = "100: 1, 1,000: 100; 10,000: cut after 3 s | 2.00 | 2.00 | ≤ linear | **missed** |"
    assert said in write(session, tmp_path).read_text("utf-8")
    assert "slope 2.00, last 2.00 missed" in terminal.growth(session)


def test_a_session_is_told_again_from_its_json(tmp_path):
    """The numbers kept as JSON make the same table, the same words in the terminal, and a plot."""
    results = {"log1": {"runcard": Samples([3.0, 3.123456], [1.0, 1.0]), "sacred": Samples(failures=["no"])}}
    results |= {"lost": {"runcard": Samples([0.0]), "sacred": Samples([7.0])}}
    results |= {f"list@{size}": {"runcard": Samples([size / 7.0])} for size in (100, 1_000)}
    session = _session(results, took_s=61, cuts=["one", "two"])
    session.write(tmp_path / "benchmarks.json")
    first = write(session, tmp_path).read_text("utf-8")
    assert Session.read(tmp_path / "benchmarks.json") == session
    (tmp_path / "benchmarks.md").unlink()
    assert main(["--again", str(tmp_path / "benchmarks.json")]) == 0
    assert (tmp_path / "benchmarks.md").read_text("utf-8") == first
    pytest.importorskip("matplotlib")
    assert draw(session, tmp_path).stat().st_size > 10_000


def test_the_committed_page_is_what_its_session_found(tmp_path):
    """No number of `docs/benchmarks.md` was written by hand: the session's JSON beside it makes the same page."""
    session = Session.read(ROOT / "docs" / "benchmarks.json")
    assert write(session, tmp_path).read_text("utf-8") == (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def test_a_session_goes_on_after_a_failure():
    """Whatever goes wrong with one tracker is said in its cell; the others, and the next round, are measured."""
    taken = []

    def trial(subject, extent):
        taken.append(subject.key)
        if subject.key == "sacred":
            raise KeyError("steps")
        return {"log1": Samples([1.0])}

    running = Running([OWN, Subject("sacred", "Sacred 0.8")], Extent(), 30, say=lambda _: None)
    running.measure(Work("log", trial, (2, 2), 60, ("log1",)))
    session = running.told()
    assert sorted(taken) == ["runcard", "runcard", "sacred", "sacred"]
    assert session.rows["log1"]["runcard"] == Measured(1.0, 1.0, 1.0, None, 2)
    assert session.rows["log1"]["sacred"] == Measured(note="'steps'")
    assert session.cuts == ["log: Sacred 0.8, 'steps'"]


def test_a_session_says_what_a_peer_cannot_do():
    """A peer without a query says so in the row; one that does the same as another is not in it."""
    peers = [Subject("sacred", "Sacred 0.8"), Subject("mlflow_async", "MLflow")]
    work = Work("query", lambda *_: {"query1000": Samples([1.0])}, (1, 0), 9, ("query1000",), without=works._NO_QUERY)
    work = dataclasses.replace(work, without=work.without | {"mlflow_async": ""})
    running = Running([OWN, *peers], Extent(), 30, say=lambda _: None)
    running.measure(work)
    rows = running.told().rows["query1000"]
    assert list(rows) == ["sacred", "runcard"]
    assert rows["sacred"] == Measured(note="no query: its file observer has none")


def test_a_session_ends_in_its_time():
    """A round that would run over the time of its work is left out, and that is said; a process is cut."""
    running = Running([OWN], Extent(), 30, say=lambda _: None)
    running.measure(Work("slow", lambda *_: time.sleep(0.05) or {"import": Samples([1.0])}, (9, 9), 0.12, ("import",)))
    session = running.told()
    assert 1 <= session.rows["import"]["runcard"].count < 9
    assert session.cuts[0].endswith("of 9 rounds, for want of time")
    over = Running([OWN], Extent(), 0, say=lambda _: None)
    over.measure(next(work for work in WORKS if work.key == "memory"))
    assert over.told().rows["memory"]["runcard"].note == "steps: cut after 0 s"


def test_time_that_is_left_over_is_for_the_next_work():
    """A work may take what those before it did not need, and no more than that."""
    taken = []
    running = Running([OWN], Extent(), 30, say=lambda _: None)
    start = time.monotonic()
    for key, budget in (("import", 100), ("empty", 10)):
        running.measure(Work(key, lambda subject, _: taken.append(subject.until - start) or {}, (1, 1), budget, (key,)))
    assert taken == [pytest.approx(100, abs=1), pytest.approx(110, abs=1)]


def test_a_process_that_is_cut_is_ended_with_what_it_started(tmp_path):
    """Nothing of a piece of work goes on after its time."""
    text = "import os, time; child = os.fork(); child and open('pid', 'w').write(str(child)); time.sleep(60)"
    limited = dataclasses.replace(OWN, until=time.monotonic() + 1)
    with pytest.raises(OutOfTimeError, match="runcard, sleeping: cut after 1 s"):
        limited.finish(limited.start([sys.executable, "-c", text], tmp_path), "sleeping")
    child = int((tmp_path / "pid").read_text())
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_failure_names_no_folder_of_this_machine(tmp_path):
    """A tracker's last words are kept without the folders in them, and short."""
    text = f"raise OSError('{tmp_path}/deep/file.db: ' + 'no ' * 500)"
    with pytest.raises(WorkFailedError) as raised:
        OWN.finish(OWN.start([sys.executable, "-c", text], tmp_path), "opening")
    assert str(raised.value).startswith("runcard, opening: failed: OSError: file.db: no no")
    assert len(str(raised.value)) < 200


def test_the_budgets_of_all_works_fit_into_the_session():
    """Were every work to use up its time, the full session would still end within half an hour."""
    assert sum(work.budget_s for work in (*WORKS, *GROWTHS)) <= 29 * 60


def test_every_peer_is_told_why_it_is_left_out():
    """What a work leaves out is a peer; every row that says so is in the table."""
    for work in WORKS:
        assert set(work.without) <= set(PEERS)
        assert set(work.rows) <= set(ROWS)
        assert work.own or work.rows


def test_a_slower_version_is_seen(capsys):
    """A row that became slower beyond its spread is marked, and the exit code says so; few samples must differ more."""
    before, slow = Samples([1.0, 1.1, 1.0] * 2), Samples([2.0, 2.1, 1.9] * 2)
    assert compare.table(_sides(log1=(before, slow)), "HEAD~1") == 1
    assert f"2.00{TIMES} slower" in capsys.readouterr().out
    assert compare.table(_sides(log1=(before, before)), "HEAD~1") == 0
    assert compare.table(_sides(log1=(Samples([1.0]), Samples([1.4]))), "HEAD~1") == 0
    assert compare.table(_sides(disk=(Samples([1.0]), Samples([1.4]))), "HEAD~1") == 1
    assert compare.table(_sides(lost=(Samples([0.0]), Samples([3.0]))), "HEAD~1") == 1


def test_a_row_that_one_revision_cannot_do_says_why(capsys):
    """Where a revision fails, the comparison goes on and names the reason."""
    assert compare.table(_sides(log1=(Samples(failures=["ImportError: no"]), Samples([2.0]))), "HEAD~1") == 0
    assert "ImportError: no" in capsys.readouterr().out


def _sides(**rows):
    told = {key: {"base": before.told(), "runcard": now.told()} for key, (before, now) in rows.items()}
    return Session("", "", {"runcard": "now", "base": "base"}, rows=told)


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


def test_the_command_kept_names_no_folder():
    """What was typed stands in the page; where it was written to, and where the peers lie, does not."""
    typed = ["--rounds", "1", "--write", "/a/b", "--venvs=/c", "--peers", ""]
    assert _command(typed) == "python -m benchmarks --rounds 1 --peers ''"


def test_every_row_belongs_to_a_work():
    """Rows and works name what they are once, and every row of a work's trial is in the table."""
    every = (*WORKS, *GROWTHS)
    assert len({work.key for work in every}) == len(every)
    assert all(dataclasses.is_dataclass(row) and key == row.key for key, row in ROWS.items())


def test_bytes_below_a_folder_are_all_files(tmp_path):
    """The bytes of a run are those of all its files, however deep."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"12345")
    (tmp_path / "file").write_bytes(b"1")
    assert bytes_below(tmp_path) == 6
