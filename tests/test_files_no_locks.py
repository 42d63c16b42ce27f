"""File systems without locks, links or fsync, as NFS and FUSE can be: everything works, and nothing is claimed."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from runcard import configure, run


def one_run(**options):
    """A run with an end worth a view of every kind."""
    with run("plain", config={"lr": 0.1}, **options) as r:
        r.log(loss=1.0)
        r.artifact_path("model").write_bytes(b"w")
    return r


def failing(number):
    """A function that fails as the system does."""

    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_locks(store, monkeypatch, number):
    """Where flock is refused, runs end, judgements are appended and the leaderboard is written, without a wait."""
    monkeypatch.setattr(fcntl, "flock", failing(number))
    first, second = one_run(), one_run()
    record = store.keep(first.run_id, "later")
    assert (record.decision, record.losses) == ("keep", {})
    rows = (store.root / "leaderboard.csv").read_text().splitlines()
    assert len(rows) == 3
    assert all(each.run_id in "\n".join(rows) for each in (first, second))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
def test_without_links(store, monkeypatch, number):
    """Where hard links are refused, what runs share is copied."""
    monkeypatch.setattr(os, "link", failing(number))
    for _ in range(2):
        folder = one_run().folder
        assert (folder / "environment.json").stat().st_size
        assert (folder / "environment.json").stat().st_nlink == 1
    assert [record.losses for record in store.runs()] == [{}, {}]


def test_ranks_without_links(store, monkeypatch):
    """Processes of one launch find their run also where links are refused."""
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    r = one_run()
    assert store.get(r.run_id).status == "finished"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.ENOSYS])
def test_without_fsync(store, monkeypatch, number):
    """Where fsync fails the run is complete, and never called durable; where it works it is."""
    configure(durability="disk")
    assert store.get(one_run().run_id).durability == "disk"
    monkeypatch.setattr(os, "fsync", failing(number))
    record = store.get(one_run().run_id)
    assert (record.status, record.durability) == ("finished", "process")


def test_a_folder_that_cannot_be_synced(store, monkeypatch):
    """The file alone on the disk is not enough: without its name it would not be found."""
    fsync = os.fsync

    def only_files(fd):
        import stat

        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no folders here")
        fsync(fd)

    configure(durability="disk")
    monkeypatch.setattr(os, "fsync", only_files)
    assert store.get(one_run().run_id).durability == "process"


def test_without_any_of_them(store, monkeypatch):
    """All three missing at once: the run, the listing and a late judgement work."""
    for module, name in ((fcntl, "flock"), (os, "link"), (os, "fsync")):
        monkeypatch.setattr(module, name, failing(errno.ENOSYS))
    r = one_run()
    assert store.discard(r.run_id, "later").decision == "discard"
    assert store.runs()[0].metrics == {"loss": 1.0}
