"""The uncommitted changes that runs recorded, and what differs between two of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runcard.record import RunRecord

_LARGEST = 10_000_000  # bytes of a patch that are read
_LONGEST = 2_000  # lines of one file's change that are compared line by line; longer ones are shown as they are


def patch_of(record: RunRecord) -> str | None:
    """The recorded patch of a run; empty for a clean one, None when there is none to be read.

    A record may come from anywhere, so a patch is only read from the run's own folder or its store.
    """
    git = record.environment.get("git")
    if not isinstance(git, dict):
        return None
    name = git.get("patch")
    if not name:
        return "" if git.get("dirty") is False else None
    if record.folder is None or not isinstance(name, str):
        return None
    try:
        folder = Path(record.folder).resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.parent) or not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(_LARGEST).decode("utf-8", "backslashreplace")
    except (OSError, ValueError):
        return None


def patches_diff(old: str | None, new: str | None) -> str:
    """How two patches on the same commit differ, file by file; empty when they do not or cannot be read."""
    if old is None or new is None or old == new:
        return ""
    before, after = _by_file(old), _by_file(new)
    pieces = []
    for name in {**before, **after}:
        first, second = before.get(name, []), after.get(name, [])
        if first == second:
            continue
        if not first or not second or len(first) + len(second) > _LONGEST:
            sides = (("a", first), ("b", second))
            pieces += [f"only in {side}: {name}\n{''.join(lines)}" for side, lines in sides if lines]
        else:
            pieces.append(_unified(name, first, second))
    return "".join(pieces)


def _unified(name: str, first: list[str], second: list[str]) -> str:
    import difflib

    return "".join(difflib.unified_diff(first, second, f"a's changes to {name}", f"b's changes to {name}"))


def _by_file(patch: str) -> dict[str, list[str]]:
    """The lines of a patch by the file they change."""
    files: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in patch.splitlines(keepends=True):
        if line.startswith("diff --git "):
            lines = files.setdefault(line[len("diff --git ") :].strip(), [])
        lines.append(line)
    return files
