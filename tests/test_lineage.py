"""What a run opened, found by the audit hook; and which run wrote a file, and which read it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rerun_projects import Project

from runcard import run
from runcard.capture import files
from runcard.capture.files import Lineage
from runcard.errors import StoreError
from runcard.lineage import who
from runcard.record import Fields


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory is the user's own folder; nothing watches afterwards."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert files._watching == []


def watched(action):
    """What is told of the files that an action opens: the events, by kind and file name."""
    found = []
    lineage = Lineage(found.append).start()
    try:
        action()
    finally:
        lineage.stop()
    return {(event["kind"], Path(event.get("path") or event["name"]).name): event for event in found}


def test_reads_and_writes_are_told_apart(here):
    """A file read is an input, a file written an artifact that stays where it lies; each with its hash."""
    Path("in.csv").write_text("1,2\n")

    def action():
        Path("out.csv").write_text(Path("in.csv").read_text() * 2)
        fd = os.open("low.bin", os.O_WRONLY | os.O_CREAT)
        os.close(fd)

    found = watched(action)
    assert set(found) == {("input", "in.csv"), ("artifact", "out.csv"), ("artifact", "low.bin")}
    assert found["input", "in.csv"]["sha256"]
    assert found["artifact", "out.csv"]["uri"] == (here / "out.csv").as_uri()
    assert found["artifact", "out.csv"]["bytes"] == 8


def test_a_file_written_under_another_name_is_told_by_its_last(here):
    """Write, then rename, as careful programs do."""

    def action():
        Path("out.tmp").write_text("x")
        Path("out.tmp").replace("out.csv")

    assert set(watched(action)) == {("artifact", "out.csv")}


def test_what_was_read_and_then_overwritten_has_no_hash_of_the_old(here):
    """The input is named, without the hash of what came later."""
    Path("both.csv").write_text("1\n")

    def action():
        Path("both.csv").write_text(Path("both.csv").read_text() + "2\n")

    found = watched(action)
    assert found["input", "both.csv"].get("sha256") is None
    assert found["input", "both.csv"]["rewritten"] is True
    assert found["artifact", "both.csv"]["sha256"]


def test_what_is_not_the_users_own_is_left_out(here, tmp_path):
    """Packages, Python's files, source, caches, hidden, temporary and system files, and what is gone again."""
    (here / "module.py").write_text("x = 1\n")
    (here / ".env").write_text("SECRET=1\n")
    (here / "__pycache__").mkdir()
    (here / "__pycache__" / "x.bin").write_text("x")
    package = next(Path(sys.prefix).rglob("METADATA"))

    def action():
        for path in (here / "module.py", here / ".env", here / "__pycache__" / "x.bin", package, "/etc/passwd"):
            Path(path).read_bytes()
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("x")
        Path("gone.txt").write_text("x")
        Path("gone.txt").unlink()
        with pytest.raises(FileNotFoundError):
            Path("never.txt").read_text()
        Path("mine.txt").write_text("x")

    assert set(watched(action)) == {("artifact", "mine.txt")}


def test_nothing_is_told_of_what_is_opened_before_or_after(here):
    """Only what happens between start and stop counts, from any thread."""
    Path("before.txt").write_text("x")

    def action():
        thread = threading.Thread(target=lambda: Path("within.txt").write_text("x"))
        thread.start()
        thread.join()

    found = watched(action)
    Path("after.txt").write_text("x")
    assert set(found) == {("artifact", "within.txt")}


def test_odd_paths_harm_nothing(here):
    """Descriptors, bytes, relative and impossible paths go through the hook as they would without it."""

    def action():
        with open(os.open("fd.txt", os.O_WRONLY | os.O_CREAT), "w") as file:
            file.write("x")
        with open(b"bytes.txt", "w") as file:
            file.write("x")
        with pytest.raises(ValueError, match="null"):
            os.open("nul\0.txt", os.O_RDONLY)
        with pytest.raises(TypeError):
            os.open(None, os.O_RDONLY)
        Path("sub").mkdir()
        Path("sub/../dots.txt").write_text("x")

    assert {name for _, name in watched(action)} == {"fd.txt", "bytes.txt", "dots.txt"}


def test_too_many_files_are_counted(here, monkeypatch):
    """Beyond the bound files are no longer named, but counted as lost."""
    monkeypatch.setattr(files, "MOST", 2)
    found = []
    lineage = Lineage(found.append).start()
    for number in range(5):
        Path(f"{number}.txt").write_text("x")
    lineage.stop()
    assert [event["kind"] for event in found].count("artifact") == 2
    assert found[-1]["losses"] == {"files_not_told": 3}


def test_a_run_records_its_files_and_who_finds_them(here, store):
    """By content: also after the file was copied and renamed; a run that only read it says so."""
    Path("in.csv").write_text("1,2\n")
    with run("writer", capture=["files"]) as writer:
        Path("out.csv").write_text(Path("in.csv").read_text() * 2)
    shutil.move("out.csv", "moved.csv")
    with run("reader", capture=["files"]) as reader:
        Path("moved.csv").read_text()
    record = store.get(writer.run_id)
    assert [Path(entry.path).name for entry in record.inputs] == ["in.csv"]
    assert [entry.name for entry in record.artifacts] == ["out.csv"]
    shutil.copy("moved.csv", "copy.csv")
    uses = who("copy.csv", store.runs())
    assert [(use.how, use.run_id, use.by) for use in uses] == [
        ("wrote", writer.run_id, "content"),
        ("read", reader.run_id, "content"),
    ]
    Path("copy.csv").write_text("other")
    assert who("copy.csv", store.runs()) == []
    with pytest.raises(StoreError, match="no such file"):
        who("nowhere.csv", store.runs())


def test_without_the_option_nothing_is_watched(here, store):
    """A plain run records no file that it was not told of."""
    with run("plain") as r:
        Path("out.csv").write_text("x")
    assert store.get(r.run_id).artifacts == []


def test_an_input_known_from_the_start_keeps_its_hash(here, store):
    """A file that was hashed before the run, and is overwritten by it, stays recorded as it was."""
    path = Path("in.csv").absolute()
    path.write_text("1\n")
    with run("r", inputs=[path], capture=["files"]) as r:
        path.write_text(path.read_text() + "2\n")
    (entry,) = store.get(r.run_id).inputs
    assert entry.bytes == 2


def test_a_file_without_a_hash_is_found_by_its_path(here, store):
    """Too large to be hashed: the path speaks for it, and `by` says so."""
    Path("large.bin").write_text("x")
    with run("r"):
        pass
    record = store.get("latest")
    large = Fields(path=(here / "large.bin").as_posix(), sha256=None, hashed=False)
    (use,) = who("large.bin", [replace(record, inputs=[large])])
    assert (use.how, use.by) == ("read", "path")


def test_who_on_the_command_line(tmp_path):
    """The runs in words and as JSON; exit code 1 when no run knows the file."""
    project = Project(tmp_path / "p")
    program = "from runcard import run\nwith run('w', capture=['files']):\n    open('out.csv', 'w').write('x')\n"
    project.python("-c", program)
    assert "wrote" in project.runcard("who", "out.csv").stdout
    (use,) = json.loads(project.runcard("who", "out.csv", "--json").stdout)
    assert (use["how"], use["name"]) == ("wrote", "w")
    project.write("other.csv", b"other")
    assert "no run knows" in project.runcard("who", "other.csv", code=1).stderr
    project.runcard("who", "nowhere.csv", code=2)
