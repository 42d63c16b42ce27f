"""20 dirty trees made at random: what is restored equals what was there when it was captured, byte for byte."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from git_repositories import Repository, own_configuration, tree

from runcard.capture.git import capture
from runcard.record import Fields, RunRecord
from runcard.redact import Redactor
from runcard.reproduce import code, restore

NAMES = ["a.py", "b c.txt", "sub/d.py", "sub/deep/e.bin", "ümläut.md", 'quo"te', "tab\there", "new\nline", "-dash", "z"]
CONTENTS = [
    b"",
    b"one line\n",
    b"no final newline",
    b"crlf\r\nlines\r\n",
    bytes(range(256)),
    b"".join(b"line %d\n" % number for number in range(200)),
    b"\xff\xfe not utf-8 \x80\n",
    b"+++ b/looks like a header\n--- a/too\ndiff --git a/x b/x\n@@ -1 +1 @@\n",
]
KEPT_OUT = [".env", "id_rsa", "big.bin"]


def make(random_, repository):
    """Some files, committed; then changes of every kind."""
    names = random_.sample(NAMES, 7)
    for name in names:
        put(random_, repository, name)
    repository.commit()
    for name in names:
        change(random_, repository, name)
    for name in random_.sample(NAMES, 4):
        if not os.path.lexists(repository.root / name):
            put(random_, repository, f"new/{name}" if random_.random() < 0.5 else name)
    if random_.random() < 0.5:
        repository.write(random_.choice(KEPT_OUT), b"secret\n" if random_.random() < 0.5 else bytes(1_100_000))


def put(random_, repository, name):
    """A file or link of any content; a path that is taken by a folder or a file stays as it is."""
    path = repository.root / name
    try:
        if random_.random() < 0.15:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(random_.choice(["a.py", "/nowhere/at all", "../outside"]))
        else:
            repository.write(name, random_.choice(CONTENTS))
            path.chmod(random_.choice([0o644, 0o755]))
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        pass  # another kind of thing has that name


def change(random_, repository, name):
    """One change, staged or not."""
    path = repository.root / name
    if not os.path.lexists(path):
        return
    what = random_.choice(
        ["edit", "append", "delete", "rename", "mode", "type", "nothing", "stage and edit", "untrack"]
    )
    if what == "delete":
        path.unlink()
    elif what == "rename":
        repository.git("mv", "--", name, f"{name}.moved")
    elif what == "mode" and not path.is_symlink():
        path.chmod(0o755 if not path.stat().st_mode & 0o100 else 0o644)
    elif what == "type":
        link = path.is_symlink()
        path.unlink()
        if link:
            path.write_bytes(b"was a link\n")
        else:
            path.symlink_to("somewhere")
    elif what == "untrack":
        repository.git("rm", "--cached", "-q", "--", name)
    elif not path.is_symlink() and what != "nothing":
        path.write_bytes(path.read_bytes() + b"more\n" if what == "append" else random_.choice(CONTENTS))
        if what == "stage and edit":
            repository.git("add", "--", name)
            path.write_bytes(random_.choice(CONTENTS))
    if random_.random() < 0.3:
        repository.git("add", "-A")


@pytest.mark.parametrize("seed", range(20))
def test_a_random_dirty_tree_is_restored(tmp_path, monkeypatch, seed):
    """All of the tree comes back but for what the record names as left out; the tree itself is not touched."""
    own_configuration(tmp_path, monkeypatch)
    random_ = random.Random(seed)
    repository = Repository(tmp_path / "repo")
    make(random_, repository)
    found = capture(repository.root, Redactor(), limit_s=30)
    assert found.state["state"] in ("clean", "dirty")
    folder = tmp_path / "20260101T000000-00000000"
    folder.mkdir()
    if found.patch:
        (folder / "diff.patch").write_bytes(found.patch)
    record = RunRecord(run_id=folder.name, environment=Fields(git=found.state), folder=str(folder))
    before = tree(repository.root)
    restored = restore(record, tmp_path / "restored")
    left_out = {os.fsencode(entry["path"]) for entry in found.state["left_out"]}
    wanted = {name: value for name, value in before.items() if name not in left_out}
    assert tree(tmp_path / "restored") == wanted
    assert {os.fsencode(entry["path"]) for entry in restored.missing} == left_out
    assert left_out <= {os.fsencode(name) for name in KEPT_OUT}
    assert tree(repository.root) == before
    differences = code(record)
    assert all(name.decode() in differences for name in left_out) if left_out else differences == ""


def test_a_submodule_is_named_as_missing(tmp_path, monkeypatch):
    """What lies in another repository is not in the tree, and the tree says so."""
    own_configuration(tmp_path, monkeypatch)
    inner = Repository(tmp_path / "inner")
    inner.write("x.py")
    inner.commit()
    outer = Repository(tmp_path / "outer")
    outer.write("y.py")
    outer.git("submodule", "--quiet", "add", str(inner.root), "vendor/inner")
    outer.commit()
    found = capture(outer.root, Redactor(), limit_s=30)
    record = RunRecord(run_id="20260101T000000-00000000", environment=Fields(git=found.state), folder=str(tmp_path))
    restored = restore(record, tmp_path / "restored")
    assert tree(tmp_path / "restored")[b"vendor/inner/x.py"] == ("-", b"x\n")
    assert restored.missing == []
    shutil.rmtree(outer.root / ".git" / "modules")
    restored = restore(record, tmp_path / "again")
    assert [Path(entry["path"]).name for entry in restored.missing] == ["inner"]
