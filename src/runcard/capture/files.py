"""Which files a run opened, found without a line of code: by Python's audit hook, with ``capture=["files"]``.

What was read becomes an input, what was written an artifact that stays where it lies; both are hashed when the run
ends. Left out is what is not the user's own: packages, Python itself, source code (which git has), caches and
hidden files, temporary and system files, and the store.

The limits: a file that a C library opens by itself (HDF5, Parquet, ``torch.save``) or that another process opens is
not seen; runs that are open at the same time in one process share what is seen. Python cannot take an audit hook away
again: once a run has used it, each audit event of the process costs a call that returns at once.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.capture.inputs import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MOST = 10_000  # files of one run; what is beyond is counted

_watching: list[Lineage] = []
_hooked: list[bool] = []


class Lineage:
    """Watches which files this process opens, from `start` to `stop`."""

    def __init__(
        self,
        report: Callable[[dict[str, Any]], None],
        *,
        known: Iterable[str] = (),
        limit: int = 1_000_000_000,
        leave_out: Iterable[Path] = (),
    ) -> None:
        """Make one for a run.

        Args:
            report: Takes the events for the run's journal.
            known: Paths that are recorded as inputs already, with their hashes from before the run.
            limit: The most bytes of a file to hash.
            leave_out: Folders whose files are of no interest, such as the store's root.
        """
        self._report = report
        self._known = frozenset(known)
        self._limit = limit
        self._left_out = tuple(os.path.join(os.path.realpath(folder), "") for folder in leave_out)
        self._home = os.path.join(_here(), "")
        self._seen: dict[str, int] = {}  # path → READ first, WRITTEN, or both
        self._more = 0

    def start(self) -> Lineage:
        """Begin to watch."""
        if not _hooked:
            _hooked.append(True)
            sys.addaudithook(_hook)
        _watching.append(self)
        return self

    def stop(self, _run: object = None) -> None:
        """Cease to watch, and report what was read and written."""
        if self in _watching:
            _watching.remove(self)
        for event in self.events():
            self._report(event)
        if self._more:
            self._report({"kind": "loss", "t": time.time(), "losses": {"files_not_told": self._more}})

    def opened(self, path: str, how: int) -> None:
        """Take in that a file is being opened."""
        before = self._seen.get(path)
        if before is None:
            if len(self._seen) < MOST:
                self._seen[path] = how
            elif self.is_own(path):
                self._more += 1
        elif not before & WRITTEN and how & WRITTEN:
            self._seen[path] = before | how

    def renamed(self, old: str, new: str) -> None:
        """Take in that a file gets another name: what was written under the old one lies under the new one."""
        if self._seen.get(old, 0) & WRITTEN:
            self._seen.pop(old)
            self._seen[new] = WRITTEN

    def events(self) -> Iterator[dict[str, Any]]:
        """The events for the run's journal: an input for what was read, an artifact for what was written."""
        for path, how in list(self._seen.items()):
            if not self.is_own(path):
                continue
            told: Mapping[str, Any] = describe(path, limit=self._limit)
            if told.get("missing") or "type" in told:
                continue
            now = time.time()
            if how & READ and path not in self._known:
                if how & WRITTEN:  # what was read is no longer there to be hashed
                    yield {"kind": "input", "t": now, "path": told["path"], "hashed": False, "rewritten": True}
                else:
                    yield {"kind": "input", "t": now, **told}
            if how & WRITTEN:
                kept = {key: told[key] for key in ("bytes", "sha256", "mtime", "hashed") if key in told}
                name = os.path.relpath(path, self._home) if path.startswith(self._home) else os.path.basename(path)
                uri = Path(path).as_uri()
                yield {"kind": "artifact", "t": now, "name": name, "uri": uri, **kept, "transient": False}

    def is_own(self, path: str) -> bool:
        """Whether a file is the user's own data."""
        if path.endswith((".py", ".pyc", ".pyi", ".so", ".pyd", ".pth")):
            return False
        real = os.path.realpath(path)
        if real.startswith(self._left_out):
            return False
        inside = real.removeprefix(self._home)
        parts = inside.split(os.sep)
        if any(part.startswith(".") or part in _CACHES for part in parts):
            return False
        return inside != real or not real.startswith(_not_own())


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, _, flags = args
        if type(path) is not int and isinstance(flags, int):
            full = _full(path)
            if full is not None:
                how = WRITTEN if flags & _WRITING else READ
                for each in _watching:
                    each.opened(full, how)
    elif event == "os.rename":
        old, new = _full(args[0]), _full(args[1])
        if old is not None and new is not None:
            for each in _watching:
                each.renamed(old, new)


def _full(path: object) -> str | None:
    """The absolute path; None for what is no path, and where there is no working directory any more."""
    if type(path) is str and path[:1] == "/" and "/." not in path and "//" not in path:
        return path
    try:
        return os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]  # refuses what is no path
    except (TypeError, ValueError, OSError):
        return None


def _here() -> str:
    try:
        return os.path.realpath(os.getcwd())
    except OSError:  # it was deleted
        return os.sep + "nowhere"


_prefixes: list[tuple[str, ...]] = []


def _not_own() -> tuple[str, ...]:
    """Folders of Python, of the system, and for temporary files."""
    if not _prefixes:
        folders = {sys.prefix, sys.base_prefix, tempfile.gettempdir(), *sysconfig.get_paths().values()}
        real = {os.path.join(os.path.realpath(folder), "") for folder in folders if folder}
        _prefixes.append((*real, *_SYSTEM))
    return _prefixes[0]


READ, WRITTEN = 1, 2
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_CACHES = frozenset(("__pycache__", "site-packages", "dist-packages", "node_modules"))
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/run/")
