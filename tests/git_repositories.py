"""Repositories to play with, for the tests of what git tells."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from runcard.capture.git import capture


class Plain:
    """A redactor that finds nothing."""

    def patch(self, raw):
        return raw, False, []

    def url(self, url):
        return url.replace("user:secret@", "")

    def text(self, text):
        return text, 0


class Repository:
    """A repository to play with; `git` runs a command in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments, cwd=None, given=None):
        return subprocess.run(
            ["git", *arguments], cwd=cwd or self.root, input=given, check=True, capture_output=True
        ).stdout

    def write(self, name, content=b"x\n"):
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(content)
        return Path(os.fsdecode(path))

    def commit(self, *, message="m"):
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def capture(self, **options):
        return capture(self.root, Plain(), **options)


def own_configuration(tmp_path, monkeypatch):
    """The global configuration of the machine does not count, a file of the test's does."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "gitconfig"
    file.write_text('[user]\n\tname = a\n\temail = a@example.org\n[protocol "file"]\n\tallow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return file


def small_repository(tmp_path):
    """A repository with three files and one commit."""
    made = Repository(tmp_path / "repo")
    made.write("kept.py", b"a = 1\n")
    made.write("changed.py", b"".join(b"line %d\n" % n for n in range(40)))
    made.write("sub/deep.py", b"deep\n")
    made.commit()
    return made


def tree(root):
    """Name → (kind, content) of a working tree, executables marked."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        if b".git" in folders:
            folders.remove(b".git")
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, os.fsencode(root))
            if os.path.islink(path):
                found[key] = ("link", os.readlink(path))
            else:
                mode = "x" if os.stat(path).st_mode & 0o100 else "-"
                found[key] = (mode, Path(os.fsdecode(path)).read_bytes())
    return found


def restored(repository, snapshot, tmp_path, *settings):
    """The tree that a fresh clone has once the patch is applied."""
    clone = tmp_path / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    if snapshot.state["commit"] is None:
        repository.git("init", "-q", str(clone), cwd=tmp_path)
    else:
        repository.git("clone", "-q", "--no-checkout", str(repository.root), str(clone), cwd=tmp_path)
        repository.git(*settings, "checkout", "-q", snapshot.state["commit"], cwd=clone)
    if snapshot.patch:
        repository.git(*settings, "apply", "--whitespace=nowarn", "-", cwd=clone, given=snapshot.patch)
    return tree(clone)
