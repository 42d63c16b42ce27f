"""Commands that free space: gc and rm."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys

import pytest
from command_line import call, read

from runcard import run


@pytest.fixture
def four(store):
    """Four runs with a model and a checkpoint each: kept, discarded, and two nobody judged."""
    for number in range(4):
        with run(f"r{number}", experiment="e", objective="loss", direction="minimize") as current:
            current.log(loss=float(number))
            current.artifact_path("model.bin").write_bytes(b"x" * 1000)
            current.artifact_path("ckpt.bin", transient=True).write_bytes(b"x" * 100)
            if number == 0:
                current.discard("leaked")
            if number == 3:
                current.keep("paper")
    return store


def left(store):
    """Name → the artifacts that are on disk."""
    found = {}
    for record in store.runs():
        folder = os.path.join(record.folder, "artifacts")
        found[record.name] = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return found


def test_a_dry_run_says_what_would_go_and_removes_nothing(four):
    """Each run's files, why, and the sum; nothing is touched."""
    before = left(four)
    result = call("gc", "--dry-run")
    assert result.exit_code == 0
    assert "transient" in result.stdout
    assert "discarded" in result.stdout
    assert result.stdout.splitlines()[-1] == "frees 1.3 kB of 4.4 kB of artifacts; protected: 1 kept"
    assert left(four) == before


def test_gc_frees_what_nobody_needs(four):
    """Transient artifacts and those of discarded runs go; records stay and say what was removed."""
    result = call("gc", "--yes")
    assert result.stdout.splitlines()[-1] == "freed 1.3 kB"
    both = ["ckpt.bin", "model.bin"]
    assert left(four) == {"r0": [], "r1": ["model.bin"], "r2": ["model.bin"], "r3": both}
    data = read("show", "r0")
    assert [(entry["path"], entry["removed"]) for entry in data["artifacts"]] == [
        ("artifacts/model.bin", True),
        ("artifacts/ckpt.bin", True),
    ]
    assert "removed" in call("show", "r0").stdout
    assert call("gc").stdout.startswith("nothing to free")


def test_gc_keeps_the_best(four):
    """--keep-top leaves the best of the experiment's objective, and what was kept."""
    call("gc", "--keep-top", "1", "--yes")
    assert left(four) == {"r0": [], "r1": ["ckpt.bin", "model.bin"], "r2": [], "r3": ["ckpt.bin", "model.bin"]}


def test_gc_without_a_terminal_asks_nobody(four):
    """Without --yes and without a terminal it ends with 2 and removes nothing."""
    before = left(four)
    result = call("gc")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    script = call("gc", "--json")
    assert (script.exit_code, script.stdout) == (2, "")  # a script gets JSON or nothing
    assert left(four) == before


@pytest.mark.parametrize(("answer", "done"), [("n", False), ("", False), ("y", True)])
def test_gc_asks_at_a_terminal(four, answer, done):
    """On a terminal it shows the plan and asks; only a yes frees anything, and no is the default."""
    before = left(four)
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "runcard", "gc"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        os.write(terminal, f"{answer}\n".encode())
        said = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end was closed
            while piece := os.read(terminal, 4096):
                said += piece
    os.close(terminal)
    assert b"[y/N]" in said
    assert (b"freed 1.3 kB" in said) is done
    assert (left(four) != before) is done
    assert process.returncode == 0


def test_gc_removes_records_only_on_demand(four):
    """With --runs discarded runs go with their records."""
    assert call("gc", "--runs", "--yes").exit_code == 0
    assert sorted(left(four)) == ["r1", "r2", "r3"]


def test_gc_json_is_the_plan(four):
    """The plan as data: bytes, what is protected, what goes and why."""
    data = read("gc", "--dry-run")
    assert data["bytes"] == 1300
    assert list(data["protected"].values()) == ["kept"]
    assert {removal["why"] for removal in data["removals"]} == {"transient", "discarded"}


@pytest.mark.parametrize(
    "option",
    [
        ["--by", "loss"],
        ["--direction", "minimize"],
        ["--older-than", "soon"],
        ["--max-size", "big"],
        ["--keep-top", "-1"],
    ],
)
def test_gc_refuses_rules_without_sense(four, option):
    """A rule that cannot be understood is an error, and nothing is removed."""
    before = left(four)
    assert call("gc", "--yes", *option).exit_code == 2
    assert left(four) == before


def test_rm_removes_runs_for_good(four):
    """Folders and rows go; the others stay."""
    gone = [four.get(name) for name in ("r1", "r2")]
    result = call("rm", "r1", "r2", "--yes")
    assert result.stdout.splitlines()[-1].startswith("removed 2 runs, ")
    assert sorted(left(four)) == ["r0", "r3"]
    board = (four.root / "leaderboard.csv").read_text()
    assert not any(record.run_id in board for record in gone)


def test_rm_asks_and_refuses_without_a_terminal(four):
    """Without --yes and without a terminal nothing is removed."""
    assert call("rm", "r1").exit_code == 2
    assert len(left(four)) == 4


def test_rm_refuses_a_run_that_goes_on(store):
    """A running run is not removed under its own feet."""
    with run("on") as current:
        result = call("rm", current.run_id, "--yes")
        assert result.exit_code == 2
        assert "still runs" in result.stderr
        assert os.path.isdir(current.folder)


def test_rm_refuses_a_folder_elsewhere(four, tmp_path):
    """A run outside the store is not removed by its path, and nor is its copy in the store."""
    folder = four.get("r1").folder
    other = tmp_path / "other"
    shutil.copytree(four.root, other)
    assert call("--store", other, "rm", folder, "--yes").exit_code == 2
    assert os.path.isdir(folder)
    assert os.path.isdir(other / os.path.basename(folder))


@pytest.mark.parametrize("command", [["gc"], ["du"], ["rm", "x"]])
def test_a_store_that_is_no_folder_is_refused(command):
    """Space is a matter of folders; another store says so."""
    result = call("--store", "memory:space", *command)
    assert result.exit_code == 2
    assert "folder of runs" in result.stderr
