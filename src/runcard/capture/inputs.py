"""What a run read: files and folders by size, time and hash, never opened but for hashing.

The hash of a file is kept for as long as its size, times and inode stay the same, so that a hundred runs over one
data set read it once.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.capture.probe import encodable

if TYPE_CHECKING:
    from collections.abc import Iterator


_hashes: dict[str, tuple[tuple[int, ...], str]] = {}
_MOST_FILES = 10_000


def describe(path: Path | str, *, limit: int = 1_000_000_000) -> dict[str, Any]:
    """One input: ``path`` (absolute), ``bytes``, ``sha256`` and ``mtime`` (ISO, UTC).

    Never raises. A symbolic link is followed and told as ``target``. Marks:

    - ``hashed`` false: no hash was made, ``sha256`` is None and size and time stand for it: larger than ``limit``,
      not readable (``error`` says why), or neither file nor folder (``kind``: ``fifo``, ``socket``, ``device``;
      never opened).
    - ``kind`` ``folder``: ``sha256`` is over the sorted relative names and hashes of the files below, ``files``
    counts
      them, and ``mtime`` is the latest. Links to folders are not entered.
    - ``missing`` true: nothing is there.
    - ``changed`` true: it was written to while it was read.

    Args:
        path: A file or a folder; relative to the working directory.
        limit: The most bytes to hash; of a folder, in all.
    """
    given = os.fspath(path)
    try:
        full = os.path.abspath(given)
    except (OSError, ValueError):
        full = given  # the working directory was deleted
    told: dict[str, Any] = {"path": encodable(Path(full).as_posix())}
    try:
        if Path(full).is_symlink():
            told["target"] = encodable(Path(os.path.realpath(full)).as_posix())
        found = Path(full).stat()
    except (FileNotFoundError, NotADirectoryError):
        return {**told, "missing": True}
    except (OSError, ValueError) as error:
        return {**told, "sha256": None, "hashed": False, "error": type(error).__name__}
    if stat.S_ISDIR(found.st_mode):
        return {**told, **_folder(Path(full), limit)}
    told |= {"bytes": found.st_size, "mtime": _iso(found.st_mtime)}
    if not stat.S_ISREG(found.st_mode):
        return {**told, "type": _kind(found.st_mode), "sha256": None, "hashed": False}
    if found.st_size > limit:
        return {**told, "sha256": None, "hashed": False}
    try:
        digest, changed = _hash(full, found)
    except (OSError, ValueError) as error:
        return {**told, "sha256": None, "hashed": False, "error": type(error).__name__}
    return {**told, "sha256": digest, **({"changed": True} if changed else {})}


def sha256_file(path: Path | str) -> str:
    """The SHA-256 of a regular file, in hex; read in a stream, and from the cache when it has not changed.

    Raises:
        OSError: When it cannot be read, or is no regular file.
    """
    full = os.path.abspath(os.fspath(path))
    return _hash(full, Path(full).stat())[0]


def _hash(path: str, found: os.stat_result) -> tuple[str, bool]:
    """The hash, and whether the file was written to meanwhile."""
    kept = _hashes.get(path)
    if kept is not None and kept[0] == _identity(found):
        return kept[1], False
    # A pipe put in the file's place after it was looked at must not block the open.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_NOCTTY", 0))
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError("not a regular file")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(descriptor)
    changed = _identity(before) != _identity(after)
    # Clocks of file systems tick in milliseconds: a file this young may change again and keep its time.
    if not changed and abs(time.time() - after.st_mtime) > 0.01:
        if len(_hashes) >= _MOST_FILES:
            _hashes.clear()
        _hashes[path] = (_identity(after), digest)
    return digest, changed


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _folder(folder: Path, limit: int) -> dict[str, Any]:
    digest, files, size, latest = hashlib.sha256(), 0, 0, folder.stat().st_mtime
    failed: str | None = None
    whole = changed = False
    for name, path in _files_below(folder):
        try:
            found = path.stat()
        except OSError as error:
            failed = type(error).__name__
            continue
        if not stat.S_ISREG(found.st_mode):
            continue
        files, size, latest = files + 1, size + found.st_size, max(latest, found.st_mtime)
        if files > _MOST_FILES:
            break
        if size > limit:
            continue  # go on counting: the size stands for the hash
        try:
            one, written = _hash(str(path), found)
        except OSError as error:
            failed = type(error).__name__
            continue
        changed |= written
        digest.update(os.fsencode(name) + b"\0" + one.encode() + b"\n")
    else:
        whole = True
    told: dict[str, Any] = {"type": "folder", "files": files, "bytes": size, "mtime": _iso(latest)}
    if not whole:
        return {**told, "files": _MOST_FILES, "more": True, "sha256": None, "hashed": False}
    if failed or size > limit:
        return {**told, "sha256": None, "hashed": False, **({"error": failed} if failed else {})}
    return {**told, "sha256": digest.hexdigest(), **({"changed": True} if changed else {})}


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative names and paths in an order that is the same on every machine."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            yield path.relative_to(folder).as_posix(), path


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _iso(seconds: float) -> str | None:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # a time no calendar has
        return None
