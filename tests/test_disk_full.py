"""No room, no descriptors, no fsync, no place to write: the program ends as it would, and what is lost is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from faults import calls_of, mounted, needs_strace, traced, wrapped
from programs import finished, program, quietly

from runcard import Status, open_store

needs_unshare = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="unshare -rm is not allowed",
)

SHORT = """
    import sys
    from runcard import run
    with run("short", config={"lr": 0.1}) as r:
        for step in range(4):
            r.log(loss=1 / (step + 1), step=step)
        r.keep("good")
    assert r.status == "finished"
    sys.exit(7)
"""


def only(root):
    """The only run of a store."""
    (record,) = open_store(root).runs()
    return record


def test_a_journal_that_meets_its_size_limit_loses_what_did_not_fit(tmp_path, store):
    """RLIMIT_FSIZE: a torn line at most; when there is room again lines are whole; what is lost is counted and said."""
    done = finished(
        program(
            tmp_path,
            """
            import os, resource
            from runcard import run
            with run("full") as r:
                r.log(a=1.0)
                path = r.folder / "journal.jsonl"
                resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 150, -1))
                for step in range(10):
                    r.log(loss=step, step=step)
                resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
                r.log(b=2.0)
            print(r.status)
            """,
        )
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")
    record = store.get("full")
    assert record.status is Status.FINISHED
    assert (record.metrics.a, record.metrics.b) == (1.0, 2.0)
    steps = [point.step for point in store.history("full", "loss")]
    assert steps == list(range(len(steps)))
    assert 0 < len(steps) < 10
    assert record.losses == {"unwritten": 10 - len(steps)}  # each loss is counted once: by the writer, who knew


def test_a_disk_that_stays_full_costs_the_end_and_says_so(tmp_path, store):
    """Nothing more fits: the program ends as ever, one line says that the run will read crashed, and it does."""
    done = finished(
        program(
            tmp_path,
            """
            import resource
            from runcard import run
            with run("full") as r:
                r.log(loss=1.0)
                resource.setrlimit(resource.RLIMIT_FSIZE, (10, -1))
                for step in range(3):
                    r.log(loss=0.5)
            print(r.status)
            """,
        )
    )
    assert (done.returncode, done.stdout) == (0, "finished\n")
    assert done.stderr.count("RuncardWarning: the end of") == 1
    assert "is the disk full?" in done.stderr
    record = store.get("full")
    assert (record.status, record.metrics) == (Status.CRASHED, {"loss": 1.0})


@needs_unshare
@pytest.mark.parametrize(
    "options", ["size=8k,nr_inodes=4", "size=8k", "size=16k", "size=24k", "size=28k", "nr_inodes=7"]
)
def test_a_full_file_system_changes_nothing_for_the_program(options, tmp_path):
    """On a tmpfs without room for journal, views or leaderboard: same exit code, no traceback, no piece of a view."""
    small = tmp_path / "small"
    small.mkdir()
    code = SHORT.replace("sys.exit(7)", CHECK_WITHIN)
    done = mounted(program(tmp_path, code), [f"mount -t tmpfs -o {options} none {small}"], RUNCARD_DIR=f"{small}/runs")
    assert (done.returncode, done.stdout) == (7, "checked\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert 1 <= done.stderr.count("RuncardWarning") <= 4
    assert "No space left" in done.stderr or "disk full" in done.stderr


CHECK_WITHIN = """
    import json, os
    from runcard import open_store
    from runcard.sinks.files import read_run
    for record in open_store(os.environ["RUNCARD_DIR"]).runs():
        points = [point.step for point in record.metric_history]
        assert points == list(range(len(points))), points
        assert record.status == "finished" or record.losses or record.status == "crashed"
        for name in os.listdir(record.folder):
            path = os.path.join(record.folder, name)
            assert name.startswith("journal") or os.path.getsize(path), name
            if name.endswith(".json"):
                json.load(open(path))
    print("checked")
    sys.exit(7)
"""


def full_at_writes(tmp_path, stride, form):
    """Let the n-th write of a short run find the disk full (with `+`, all from there on); how many were tried."""
    short = program(tmp_path, SHORT.replace("sys.exit(7)", "sys.exit(0)"))
    count = calls_of(short, "write", RUNCARD_DIR=str(tmp_path / "count"))["write"]
    assert count > 10
    moved = []
    for number in range(1, count + 1, stride):
        root = tmp_path / f"store{number}"
        inject = f"inject=write:error=ENOSPC:when={number}{form}"
        done = traced(short, "-e", inject, RUNCARD_DIR=str(root))
        assert (done.returncode, done.stdout) == (0, ""), (number, done.stderr)
        assert "Traceback" not in done.stderr
        for record in open_store(root).runs():
            points = list(record.metric_history)
            assert [point.value for point in points] == [1 / (point.step + 1) for point in points]
            if form:
                continue
            if record.status is Status.FINISHED:
                assert not record.losses.keys() - {"unwritten"}
                lost = 4 - len(points) + (record.decision is None)
                assert lost == record.losses.get("unwritten", 0) <= 1
            else:  # the end itself
                assert "It will read as crashed" in done.stderr
        if not form and "this run is recorded in" in done.stderr:  # the start itself
            assert open_store(root).runs() == []
            moved += [record.metrics for record in open_store(tmp_path / "state" / "runcard" / "runs").runs()]
    assert all(metrics == {"loss": 0.25} for metrics in moved)
    assert moved or form or stride > 1
    return number


@needs_strace
@pytest.mark.parametrize("form", ["", "+"])
def test_a_disk_full_at_a_write_loses_that_event_and_counts_it(form, tmp_path):
    """Every fifth write fails once, or all from there on: the program is unaffected, an event lost is counted."""
    assert full_at_writes(tmp_path, 5, form) > 10


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "+"])
def test_a_disk_full_at_every_write_loses_that_event_and_counts_it(form, tmp_path):
    """Each write in turn."""
    assert full_at_writes(tmp_path, 1, form) > 10


@needs_strace
def test_an_fsync_that_fails_is_never_called_durable(tmp_path):
    """EIO at each fsync in turn: the run is finished and says `process`; without a failure it says `disk`."""
    short = program(tmp_path, SHORT.replace("sys.exit(7)", "sys.exit(0)"))
    variables = {"RUNCARD_DURABILITY": "disk"}
    count = calls_of(short, "fsync,fdatasync", RUNCARD_DIR=str(tmp_path / "count"), **variables)
    assert count == {"fsync": 4}  # the journal, the run's folder, the store, the store's folder
    assert only(tmp_path / "count").durability == "disk"
    for number in (1, 2, 3, 4, "1+"):
        root = tmp_path / f"store{number}"
        inject = f"inject=fsync:error=EIO:when={number}"
        done = traced(short, "-e", inject, RUNCARD_DIR=str(root), **variables)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "EIO" in short.with_suffix(".trace").read_text("utf-8")
        assert (only(root).durability, only(root).status) == ("process", Status.FINISHED)


def test_a_short_run_is_not_synced_and_says_process(tmp_path, store):
    """Below a second, and without durability="disk", nothing is synced and nothing is promised."""
    quietly(program(tmp_path, SHORT.replace("sys.exit(7)", "")))
    assert store.get("short").durability == "process"


def test_ten_descriptors_are_enough(tmp_path, store):
    """RLIMIT_NOFILE=10: a run is recorded whole, in silence."""
    path = program(tmp_path, SHORT.replace("sys.exit(7)", ""))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))\n"
    path.write_text(limit + path.read_text("utf-8"), "utf-8")
    quietly(path)
    record = store.get("short")
    assert (record.status, record.metrics.loss, record.losses) == (Status.FINISHED, 0.25, {})
    assert (tmp_path / "runcards" / "leaderboard.csv").exists()


def test_descriptors_used_up_within_a_run_cost_no_step(tmp_path, store):
    """EMFILE from the start of the block to its end: the journal is open, so steps, judgement and end are there."""
    done = finished(
        program(
            tmp_path,
            """
            import os, resource, sys
            from runcard import run
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            with run("crowded") as r:
                taken = []
                try:
                    while True:
                        taken.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    pass
                for step in range(3):
                    r.log(loss=step, step=step)
                r.keep("all the same")
            print(r.status, len(taken) > 40)
            """,
        )
    )
    assert (done.returncode, done.stdout) == (0, "finished True\n"), done.stderr
    assert "Traceback" not in done.stderr
    record = store.get("crowded")
    assert (record.status, record.metrics.loss, record.decision) == (Status.FINISHED, 2, "keep")


def test_descriptors_used_up_before_a_run_cost_the_record_alone(tmp_path, store):
    """EMFILE from before the start: the program does its work, the run goes on in memory or unrecorded, with a word."""
    done = finished(
        program(
            tmp_path,
            """
            import os, resource
            from runcard import log, run, tracked
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            taken = []
            try:
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            with run("crowded") as r:
                r.log(loss=1.0)
                answer = 42
            log(loss=2.0)
            work = tracked(lambda: answer)
            assert work() == answer
            os.closerange(taken[0], taken[-1] + 1)
            assert work() == answer
            with run("roomy") as r:
                r.log(loss=1.0)
            print(answer)
            """,
        )
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("RuncardWarning") >= 1
    assert {record.name for record in store.runs()} >= {"roomy", "<lambda>"}
    assert store.get("roomy").metrics == {"loss": 1.0}


READ_ONLY = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"
FALLBACK = """
    import sys
    from runcard import run
    with run("elsewhere") as r:
        r.log(loss=1.0)
    print(r.folder, r.status)
"""


@needs_unshare
def test_a_read_only_store_falls_back_to_the_state_folder(tmp_path):
    """The run is recorded in the user's state folder, and one line says where and what to set."""
    (tmp_path / "fixed").mkdir()
    state = tmp_path / "state"
    done = mounted(
        program(tmp_path, FALLBACK), [READ_ONLY.format(tmp_path / "fixed")], RUNCARD_DIR=str(tmp_path / "fixed/runs")
    )
    folder, status = done.stdout.split()
    assert (done.returncode, status) == (0, "finished"), done.stderr
    assert folder.startswith(str(state / "runcard" / "runs"))
    assert done.stderr.count("RuncardWarning") == 1
    assert "Read-only file system" in done.stderr
    assert "Set directory= or RUNCARD_DIR" in done.stderr
    assert only(state / "runcard" / "runs").metrics == {"loss": 1.0}


@needs_unshare
def test_a_read_only_project_and_state_folder_fall_back_to_the_temporary_one(tmp_path):
    """With neither the project nor the state folder writable the run lies in the temporary folder."""
    for name in ("fixed", "state", "temp"):
        (tmp_path / name).mkdir()
    path = program(tmp_path / "fixed", FALLBACK)
    mounts = [READ_ONLY.format(tmp_path / name) for name in ("fixed", "state")]
    done = mounted(path, mounts, RUNCARD_DIR="", TMPDIR=str(tmp_path / "temp"))
    assert (done.returncode, done.stderr.count("RuncardWarning")) == (0, 1), done.stderr
    assert done.stdout.startswith(str(tmp_path / "temp"))


@needs_unshare
def test_a_read_only_world_leaves_memory(tmp_path):
    """Nothing at all can be written: the run is recorded in memory, its sinks get the record, one line says so."""
    path = program(
        tmp_path,
        """
        from runcard import run
        got = []
        with run("memory", sinks=["file:", got.append]) as r:
            r.log(loss=1.0)
        print(r.folder, r.status, got[0].metrics, len(list(got[0].metric_history)))
        """,
    )
    folders = [tmp_path, Path("/tmp"), Path("/var/tmp"), Path("/usr/tmp")]
    done = mounted(path, [READ_ONLY.format(folder) for folder in folders if folder.is_dir()], RUNCARD_DIR="")
    assert (done.returncode, done.stdout) == (0, "None finished {'loss': 1.0} 1\n"), done.stderr
    assert done.stderr.count("RuncardWarning") == 1
    assert "memory" in done.stderr


@needs_unshare
def test_strict_raises_at_once_where_nothing_can_be_written(tmp_path):
    """With strict the program stops before its own code, told what to set."""
    (tmp_path / "fixed").mkdir()
    path = program(tmp_path, "from runcard import run\nwith run('strict'):\n    print('never')\n")
    mounts = [READ_ONLY.format(tmp_path / "fixed")]
    done = mounted(path, mounts, RUNCARD_DIR=str(tmp_path / "fixed/runs"), RUNCARD_STRICT="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "StoreError" in done.stderr
    assert "set directory= or RUNCARD_DIR" in done.stderr


def test_a_deleted_working_directory_falls_back(tmp_path):
    """Where the working directory is gone the run lies in the state folder; with a directory set nothing is said."""
    path = program(
        tmp_path,
        """
        import os, sys
        from runcard import run
        os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
        with run("lost") as r:
            r.log(loss=1.0)
        print(r.folder)
        """,
    )
    done = wrapped(path, RUNCARD_DIR="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "state"))
    assert done.stderr.count("RuncardWarning") == 1
    assert "the working directory is gone" in done.stderr
    assert quietly(path).startswith(str(tmp_path / "runcards"))


def test_no_home_is_no_matter(tmp_path):
    """Without HOME, a project's own store is used, in silence."""
    path = program(tmp_path, FALLBACK)
    done = wrapped(path, HOME="", XDG_STATE_HOME="", RUNCARD_DIR="")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(tmp_path / "runcards"))


def test_a_start_that_does_not_fit_goes_to_the_next_place(tmp_path):
    """A store without room for the start event: the run is whole in the state folder, and nothing torn is left."""
    path = program(
        tmp_path,
        """
        import errno, os
        from runcard import journal, run
        real = os.write
        def full(fd, data):
            if "/runcards/" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(errno.ENOSPC, "no space")
            return real(fd, data)
        journal._os_write = full
        with run("moved", config={"lr": 0.1}) as r:
            r.log(loss=1.0)
            assert r.token().endswith(str(r.root)) and str(r.folder).startswith(str(r.root))
        print(r.folder)
        """,
    )
    done = finished(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuncardWarning") == 1
    record = only(tmp_path / "state" / "runcard" / "runs")
    assert done.stdout.strip() == record.folder
    assert (record.status, record.config, record.metrics) == (Status.FINISHED, {"lr": 0.1}, {"loss": 1.0})
    assert (tmp_path / "state/runcard/runs" / record.run_id / "config.json").exists()
    assert open_store(tmp_path / "runcards").runs() == []


def test_a_run_that_went_elsewhere_leaves_no_folder_behind(tmp_path, monkeypatch):
    """A folder whose journal could not be made is taken away: it would read as a crashed run."""
    from runcard import _places, run

    real = _places.Journal

    def full(path, **options):
        if path.is_relative_to(tmp_path / "runcards"):
            raise OSError(28, "No space left on device")
        return real(path, **options)

    monkeypatch.setattr(_places, "Journal", full)
    with pytest.warns(match="this run is recorded in"), run("elsewhere") as r:
        pass
    assert r.folder.is_relative_to(tmp_path / "state")
    assert [path.name for path in (tmp_path / "runcards").iterdir() if path.is_dir()] == []
