"""Locks between processes: exclusive where there are locks, and never a reason to fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from runcard import locks
from runcard.locks import locked

HOLDER = """
import sys
from runcard.locks import locked
with locked(sys.argv[1]) as held:
    print(held, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until it is told to let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.communicate("\n", timeout=30)


def test_a_lock_that_another_process_has_is_not_had(tmp_path, holder):
    """While another process holds the lock, a short wait ends without it."""
    with locked(tmp_path / "lock", timeout_s=0.05) as held:
        assert held is False


def test_a_lock_is_had_when_its_holder_is_killed(tmp_path, holder):
    """A holder that dies takes its lock with it."""
    holder.kill()
    holder.wait(30)
    with locked(tmp_path / "lock", timeout_s=10.0) as held:
        assert held is True


def test_threads_exclude_each_other(tmp_path):
    """Two threads of one process never hold the lock at once."""
    inside, most = [], []

    def work():
        for _ in range(20):
            with locked(tmp_path / "lock", timeout_s=20.0) as held:
                inside.append(held)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 80


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_gone_on_with(tmp_path, monkeypatch, code):
    """Where locks are refused the body runs all the same, and knows."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locked(tmp_path / "lock") as held:
        assert held is False


def test_a_folder_that_is_not_there_is_gone_on_with(tmp_path):
    """A lock that cannot be made is not held, and not an error."""
    with locked(tmp_path / "gone" / "lock") as held:
        assert held is False


def test_a_link_is_not_followed(tmp_path):
    """A link in the place of the lock file is neither locked nor written through."""
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with locked(tmp_path / "lock") as held:
        assert held is False
    assert not (tmp_path / "target").exists()


def test_the_file_that_took_the_place_of_the_locked_one_is_locked(tmp_path, monkeypatch):
    """When the file is replaced while we wait for it, the lock is taken on the new one."""
    path = tmp_path / "lock"
    path.write_text("old")
    take = locks._try
    looks = []

    def replaced_meanwhile(fd):
        take(fd)
        looks.append(os.fstat(fd).st_ino)
        if len(looks) == 1:
            (tmp_path / "new").write_text("new")
            os.replace(tmp_path / "new", path)

    monkeypatch.setattr(locks, "_try", replaced_meanwhile)
    with locked(path) as held:
        assert held is True
    assert looks[1] == path.stat().st_ino != looks[0]


def test_the_lock_is_free_after_an_exception(tmp_path):
    """A body that raises lets go, and its exception goes through."""
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock", timeout_s=0.0) as held:
        assert held is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_outlives_the_lock_does_not_keep_it(tmp_path):
    """A child forked while the lock is held shares the open file; letting go frees it all the same."""
    read, write = os.pipe()
    with locked(tmp_path / "lock"):
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    with locked(tmp_path / "lock", timeout_s=0.0) as held:
        assert held is True
    os.write(write, b"x")
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_a_lock_whose_end_a_ctrl_c_prevented_is_free_again(tmp_path):
    """A Ctrl-C between the block and the lock's end, where nothing can catch it: the next one need not wait."""
    lock = locked(tmp_path / "lock")
    assert lock.__enter__()
    del lock
    with locked(tmp_path / "lock", 0.0) as held:
        assert held
