"""One file to an object store: a large one in parts, with a bar on a terminal, and not again when it is there.

The bar is one line on standard error, taken away when the upload ends. It is only shown on a terminal, and
never beside a bar of the user's own.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PART = 5 * 2**20  # bytes: the least that S3 takes
_PARTS = 10_000  # the most that S3 takes
_EVERY_S = 0.2


def put(system: Any, path: Path, target: str, *, large: int) -> None:
    """Upload a file; one that is larger than ``large`` bytes in parts, unless that very upload was there.

    Args:
        system: The file system of fsspec.
        path: The local file.
        target: The object's path.
        large: Bytes.
    """
    size = path.stat().st_size
    if size <= large:
        system.put_file(str(path), target)
    elif not _is_there(system, path, target, size):
        bar = Bar(path.name, size)
        try:
            system.put_file(str(path), target, callback=bar, **_in_parts(system, size))
        finally:
            bar.close()


def protocols(system: Any) -> set[str]:
    """What fsspec calls a file system: one name or several."""
    protocol = system.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


class Bar:
    """How far an upload is; what fsspec calls a callback."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._done = 0
        self._drawn = 0.0
        self._shown = False

    def set_size(self, size: int) -> None:
        """Take the whole, in bytes."""
        self._size = size

    def relative_update(self, inc: int = 1) -> None:
        """Take that so many bytes more are there."""
        self._done += inc
        now = time.monotonic()
        if now - self._drawn >= _EVERY_S and is_free(sys.stderr):
            self._drawn, self._shown = now, True
            filled = round(20 * self._done / max(1, self._size))
            share = 100 * self._done // max(1, self._size)
            name = "".join(each if each.isprintable() else "?" for each in self._name)[-40:]
            _draw(f"\r[{'#' * filled:20}] {share:3} % of {self._size / 1e6:,.0f} MB  {name}\x1b[K")

    def close(self) -> None:
        """Leave the line as it was."""
        if self._shown:
            _draw("\r\x1b[K")


def is_free(stream: Any) -> bool:
    """Whether a line may be drawn: on a terminal that no bar of tqdm's is drawn on."""
    try:
        if stream is None or not stream.isatty():
            return False
        tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
        return not getattr(tqdm, "_instances", None)
    except Exception:  # a stream that somebody put in the place of standard error may raise anything
        return False


def _draw(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:  # likewise; an upload does not fail because nobody can watch it
        return


def _in_parts(system: Any, size: int) -> dict[str, int]:
    """What tells the back ends that have parts how large they are; the others write them as they like."""
    if protocols(system) & {"s3", "s3a", "gs", "gcs"}:
        return {"chunksize": max(PART, -(-size // _PARTS))}
    return {}


def _is_there(system: Any, path: Path, target: str, size: int) -> bool:
    """Whether the object is of the same size and not older than the file: then it is what was uploaded before."""
    try:
        if system.info(target)["size"] != size:
            return False
        uploaded: float = system.modified(target).timestamp()
    except (OSError, KeyError, NotImplementedError, AttributeError):
        return False  # not there, or of a kind that does not tell
    return uploaded >= path.stat().st_mtime
