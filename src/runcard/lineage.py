"""Which run wrote a file, and which read it: by its content, so also after it was copied or renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from runcard.capture.inputs import describe
from runcard.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runcard.record import RunRecord


class Use(NamedTuple):
    """What one run had to do with a file.

    Attributes:
        how: ``wrote`` or ``read``.
        run_id, name, started_at: The run; the time in ISO 8601, UTC.
        path: The file's path as that run has it.
        by: ``content``, or ``path`` where the record has no hash of it: then the content may be another.
    """

    how: str
    run_id: str
    name: str
    started_at: str | None
    path: str
    by: str


def who(path: str | os.PathLike[str], runs: Iterable[RunRecord]) -> list[Use]:
    """The runs that wrote or read a file, oldest first.

    Args:
        path: The file, or a folder that was an input as a whole.
        runs: The runs to look among, as `Store.runs` gives them.

    Raises:
        StoreError: When there is no such file, or it cannot be read.
    """
    told = describe(os.fspath(path), limit=1 << 62)
    if told.get("missing"):
        raise StoreError(f"{os.fspath(path)}: there is no such file")
    digest = told.get("sha256")
    if digest is None:
        raise StoreError(f"{os.fspath(path)} cannot be read: {told.get('error') or told.get('kind')}")
    place = str(told["path"])
    found = [use for record in runs for use in _uses(record, str(digest), place)]
    return sorted(found, key=lambda use: (use.started_at or "", use.how == "read"))


def _uses(record: RunRecord, digest: str, place: str) -> Iterator[Use]:
    files = [("wrote", entry, _path_of(record, entry)) for entry in record.artifacts]
    files += [("read", entry, str(entry.get("path"))) for entry in record.inputs]
    started = record.started_at.isoformat() if record.started_at else None
    for how, entry, path in files:
        known = entry.get("sha256")
        if known == digest or (known is None and path == place):
            by = "content" if known == digest else "path"
            yield Use(how, record.run_id, record.name, started, path, by)


def _path_of(record: RunRecord, entry: dict[str, Any]) -> str:
    uri = entry.get("uri")
    if isinstance(uri, str):
        return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri
    return str(Path(record.folder or "", str(entry.get("path") or entry.get("name"))))
