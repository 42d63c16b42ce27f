"""Who may read a store: private by default, the group's by setting or by a setgid root."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runcard import RuncardWarning, configure, open_store, run


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=oct)
def umask(request):
    """Common umasks, and none."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(root):
    """The permissions of all files and folders below a store, the root's own with them."""
    found = {Path(root): stat.S_IMODE(os.stat(root).st_mode)}
    for path in Path(root).rglob("*"):
        found[path] = stat.S_IMODE(path.stat().st_mode)
    return found


def one_run(**options):
    """A run with every kind of file."""
    with run("files", config={"lr": 0.1}, capture=["console"], **options) as r:
        print("printed")
        r.log(loss=1.0)
        r.artifact_path("deep/model.pt").write_bytes(b"w")
        r.log_artifact(__file__, "more/source.py")
        r.log_artifact(Path(__file__).parent / "golden", "golden")
        program = r.artifact_path("program")
        program.write_bytes(b"#!/bin/sh\n")
        program.chmod(0o755)
        r.keep("good")
    return r


def test_private_by_default(store, umask):
    """Folders are 0700 and files 0600, whatever the umask and whoever wrote them; a program stays one."""
    one_run()
    store.note("latest", "later")
    for path, mode in modes(store.root).items():
        assert mode == (0o700 if path.is_dir() or path.name == "program" else 0o600), f"{path} {mode:o}"


@pytest.mark.parametrize("how", ["setting", "setgid"])
def test_shared_with_the_group(store, umask, how):
    """By mode="group", or in a setgid folder, the group may read and judge; others may not."""
    if how == "setting":
        configure(mode="group")
    else:
        Path(store.root).mkdir()
        os.chmod(store.root, 0o2770)
    r = one_run()
    store.keep("latest", "later")
    folder = Path(r.folder)
    root = Path(store.root)
    for path in (root, root / "leaderboard.csv", root / ".gitignore", folder, *folder.iterdir()):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = 0o070 if path.is_dir() else 0o060
        assert mode & 0o070 == wanted, f"{path} {mode:o}"
        assert mode & 0o007 == 0, f"{path} {mode:o}"


def test_all_that_a_shared_store_holds_is_the_groups(store, umask, monkeypatch):
    """In a root that is the group's, all is: runs and their console, launches, deliveries, what was best."""
    Path(store.root).mkdir()
    os.chmod(store.root, 0o770)
    configure(mode="group", deadline=0.3)

    def refusing(_record):
        raise OSError("not today")

    with pytest.warns(RuncardWarning):
        one_run(objective="loss", direction="minimize", sinks=["+sqlite:////nowhere/at/all.db", refusing])
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    one_run()

    found = modes(store.root)
    assert {".best", ".launches", ".pending"} <= {path.name for path in found}
    for path, mode in found.items():
        if path.name == ".gitignore" or path.parent.name == ".launches":
            continue  # nothing to share: of one line, and of one launch
        assert mode == (0o770 if path.is_dir() or path.name == "program" else 0o660), f"{path} {mode:o}"


def test_runs_one_may_not_read_are_counted(store, monkeypatch):
    """A folder without permission leaves the listing whole, and is counted."""
    from runcard.sinks import files

    kept = one_run()
    hidden = one_run()
    read = files.read_run

    def refused(folder, *arguments, **options):
        if Path(folder).name == hidden.run_id:
            raise PermissionError(13, "Permission denied")
        return read(folder, *arguments, **options)

    monkeypatch.setattr(files, "read_run", refused)
    fresh = open_store(store.root)
    assert hidden.run_id not in [record.run_id for record in fresh.runs()] or fresh.unreadable == 0
    source = files.FilesSource(Path(store.root))
    assert [record.run_id for record in source.records()] == [kept.run_id]
    assert source.unreadable == 1
