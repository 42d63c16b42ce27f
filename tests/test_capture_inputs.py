"""What `runcard.capture.inputs` says of files, folders and things that are neither."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

from runcard.capture import inputs


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Each test begins with nothing remembered."""
    monkeypatch.setattr(inputs, "_hashes", {})


def settled(path):
    """Give the file a time that lies well in the past, as data sets have."""
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def test_a_file(tmp_path, monkeypatch):
    """A file is its absolute path, size, time and hash."""
    (tmp_path / "data.csv").write_bytes(b"a,b\n")
    settled(tmp_path / "data.csv")
    monkeypatch.chdir(tmp_path)
    assert inputs.describe("data.csv") == {
        "path": (tmp_path / "data.csv").as_posix(),
        "bytes": 4,
        "sha256": hashlib.sha256(b"a,b\n").hexdigest(),
        "mtime": "2023-11-14T22:13:20+00:00",
    }


def test_hashed_once_until_it_changes(tmp_path, monkeypatch):
    """A file is read once; a change that keeps size and time is seen all the same."""
    file = tmp_path / "x"
    file.write_bytes(b"old")
    settled(file)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *arguments: read.append(1) or digest(*arguments))
    first = inputs.describe(file)["sha256"]
    assert inputs.describe(file)["sha256"] == inputs.sha256_file(file) == first
    assert len(read) == 1
    file.write_bytes(b"new")
    settled(file)
    assert inputs.describe(file)["sha256"] == hashlib.sha256(b"new").hexdigest()


def test_a_file_just_written_is_not_remembered(tmp_path):
    """Within one tick of the file system's clock a second write could go unseen, so nothing is kept."""
    file = tmp_path / "x"
    file.write_bytes(b"old")
    now = __import__("time").time() + 0.002
    os.utime(file, (now, now))
    inputs.describe(file)
    assert inputs._hashes == {}


def test_large_files_are_marked(tmp_path):
    """Above the limit the size and time stand for the hash, which is said."""
    file = tmp_path / "big"
    file.write_bytes(b"12345")
    told = inputs.describe(file, limit=4)
    assert (told["bytes"], told["sha256"], told["hashed"]) == (5, None, False)
    assert inputs.describe(file, limit=5)["sha256"] is not None


def test_missing_and_impossible_paths(tmp_path):
    """What is not there is missing; a path that no system takes is an error in the record, not in the run."""
    assert inputs.describe(tmp_path / "no") == {"path": str(tmp_path / "no"), "missing": True}
    (tmp_path / "file").write_text("")
    assert inputs.describe(tmp_path / "file" / "below")["missing"] is True
    assert inputs.describe("a\0b")["error"] == "ValueError"
    assert inputs.describe("x" * 5000)["error"] == "OSError"


def test_pipes_sockets_and_devices_are_never_opened(tmp_path):
    """Neither a pipe without a writer nor a device blocks or is read."""
    os.mkfifo(tmp_path / "pipe")
    assert inputs.describe(tmp_path / "pipe")["type"] == "fifo"
    assert inputs.describe("/dev/zero")["type"] == "device"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s"))
        told = inputs.describe(tmp_path / "s")
    assert (told["type"], told["hashed"], told["sha256"]) == ("socket", False, None)


def test_a_pipe_put_in_the_files_place_does_not_block(tmp_path):
    """Should a file become a pipe between the look and the open, the open returns and refuses."""
    file = tmp_path / "x"
    file.write_bytes(b"1")
    found = file.stat()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="not a regular file"):
        inputs._hash(str(file), found)


def test_a_link_is_followed_and_told(tmp_path):
    """A link has the hash of its target, and names it; a broken one is missing."""
    (tmp_path / "v2.bin").write_bytes(b"2")
    (tmp_path / "latest").symlink_to("v2.bin")
    (tmp_path / "broken").symlink_to("nothing")
    told = inputs.describe(tmp_path / "latest")
    assert told["path"] == str(tmp_path / "latest")
    assert told["target"] == os.path.realpath(tmp_path / "v2.bin")
    assert told["sha256"] == hashlib.sha256(b"2").hexdigest()
    assert inputs.describe(tmp_path / "broken")["missing"] is True


def test_a_folder_is_the_hash_of_its_tree(tmp_path):
    """Equal trees have equal hashes; a changed byte, a renamed file and a moved one do not."""

    def tree(name, files):
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return inputs.describe(tmp_path / name)

    first = tree("a", {"x": "1", "sub/y": "22"})
    assert (first["type"], first["files"], first["bytes"]) == ("folder", 2, 3)
    assert tree("b", {"sub/y": "22", "x": "1"})["sha256"] == first["sha256"]
    others = [{"x": "2", "sub/y": "22"}, {"z": "1", "sub/y": "22"}, {"x": "1", "y": "22"}]
    hashes = {tree(f"c{number}", files)["sha256"] for number, files in enumerate(others)}
    assert len(hashes | {first["sha256"]}) == 4


def test_a_folder_is_bounded(tmp_path, monkeypatch):
    """Too many bytes or files leave the hash out, and say so."""
    for number in range(5):
        (tmp_path / str(number)).write_text("12345")
    told = inputs.describe(tmp_path, limit=20)
    assert (told["sha256"], told["hashed"], told["bytes"]) == (None, False, 25)
    monkeypatch.setattr(inputs, "_MOST_FILES", 3)
    told = inputs.describe(tmp_path)
    assert (told["sha256"], told["hashed"], told["more"]) == (None, False, True)


def test_a_link_to_the_folder_above_ends(tmp_path):
    """Links to folders are not entered, so that a circle ends."""
    (tmp_path / "x").write_text("1")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert inputs.describe(tmp_path)["files"] == 1


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    """A refusal is told by its name, with the size that is known."""

    def refuse(*arguments):
        raise PermissionError

    file = tmp_path / "x"
    file.write_bytes(b"1")
    monkeypatch.setattr(os, "open", refuse)
    told = inputs.describe(file)
    assert (told["bytes"], told["sha256"], told["error"]) == (1, None, "PermissionError")


def test_written_to_while_read(tmp_path, monkeypatch):
    """A file that changes under the reader is marked, and its hash is not remembered."""
    file = tmp_path / "x"
    file.write_bytes(b"1")
    settled(file)
    digest = hashlib.file_digest

    def slow(*arguments):
        with file.open("ab") as other:
            other.write(b"2")
        os.utime(file, (1_600_000_000, 1_600_000_000))
        return digest(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", slow)
    assert inputs.describe(file)["changed"] is True
    assert inputs._hashes == {}


def test_names_that_are_no_text(tmp_path):
    """A file name outside UTF-8 is escaped."""
    name = os.fsencode(tmp_path) + b"/\xff"
    with open(name, "wb") as file:
        file.write(b"1")
    told = inputs.describe(os.fsdecode(name))
    assert told["path"].endswith("/\\udcff")
    assert told["sha256"]
