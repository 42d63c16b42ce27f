"""A lock on a file between processes, which is never a reason to fail.

Where there are no locks (some network and user-space file systems), or the holder does not let go in time, the
caller is told and goes on: what is locked here can be rebuilt, and a run that waits for ever cannot.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

if sys.platform != "win32":
    import fcntl

_REPLACED = 20  # times that a file may be replaced under our hands before we go on unlocked
_held: set[tuple[int, str]] = (
    set()
)  # by thread and path: a signal handler or `__del__` must not wait for its own thread
_FAR = 1 << 30  # on Windows a lock keeps others from reading the bytes it is on: take one that no file has


def locked(path: Path | str, timeout_s: float = 5.0) -> Lock:
    """A context manager that holds an exclusive lock on a file, made when it is not there, and gives whether it does.

    Args:
        path: The file. When it is replaced while we wait, the new one is locked.
        timeout_s: Seconds to wait at most; then, and where locks are refused, go on without (False).

    ::

        with locked(root / ".leaderboard.lock") as held:
            ...
    """
    return Lock(path, timeout_s)


class Lock:
    """What `locked` gives; entered once."""

    __slots__ = ("_fd", "_path", "_timeout_s")

    def __init__(self, path: Path | str, timeout_s: float) -> None:
        self._fd = -1
        self._path = os.fspath(path)
        self._timeout_s = timeout_s

    def __enter__(self) -> bool:
        if (threading.get_ident(), self._path) in _held:
            return False
        until = None
        for _ in range(_REPLACED):
            try:
                fd = _opened(self._path)
            except OSError:
                return False  # read-only, no permission, no folder: whoever writes next will say so
            try:
                held, until = _taken(fd, self._timeout_s, until)
                if held and _is_at(fd, self._path):
                    self._fd = fd
                    _held.add((threading.get_ident(), self._path))
                    return True
            except BaseException:  # a Ctrl-C while waiting: leave nothing open
                os.close(fd)
                raise
            os.close(fd)
            if not held:
                return False
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fd = -1
        try:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                _held.discard((threading.get_ident(), self._path))
                _release(fd)  # a child forked meanwhile has the file open too, and closing ours would not free it
        finally:
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        """A Ctrl-C that came before `__exit__` had begun must not keep others waiting for as long as we live."""
        if self._fd >= 0:
            _held.discard((threading.get_ident(), self._path))
            os.close(self._fd)


def _opened(path: str) -> int:
    flags = os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        pass  # made below, for the group too where the folder is the group's
    except PermissionError:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    shared = os.stat(os.path.dirname(path) or ".").st_mode & 0o020
    fd = os.open(path, os.O_RDWR | flags, 0o660 if shared else 0o600)
    if shared and hasattr(os, "fchmod"):
        try:
            os.fchmod(fd, 0o660)  # past the umask
        except OSError:
            pass  # another made it first
    return fd


def _taken(fd: int, timeout_s: float, until: float | None) -> tuple[bool, float | None]:
    """Whether the lock was had, and until when to wait if it is needed once more."""
    pause = 0.0005
    while True:
        try:
            _try(fd)
        except (BlockingIOError, PermissionError):  # held by another; msvcrt says it with EACCES
            pass
        except OSError:  # ENOLCK, EOPNOTSUPP, EINVAL: no locks here
            return False, until
        else:
            return True, until
        now = time.monotonic()
        if until is None:
            until = now + timeout_s
        if now >= until:
            return False, until
        time.sleep(min(pause, until - now))
        pause = min(pause * 1.5, 0.01)


def _is_at(fd: int, path: str) -> bool:
    """Whether the file that is locked is still the one at the path."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(os.fstat(fd), there)


if sys.platform != "win32":

    def _try(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            pass  # closing frees it

else:  # pragma: no cover - not tried: Windows

    def _try(fd: int) -> None:
        import msvcrt

        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _release(fd: int) -> None:
        import msvcrt

        try:
            os.lseek(fd, _FAR, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        except OSError:
            pass  # closing frees it
