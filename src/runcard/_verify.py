"""Whether what a record speaks of is still what it was: journal, patch, artifacts, inputs. Runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from runcard._plan import plan
from runcard._recorded_code import CannotRebuildError, code_of, read_patch
from runcard._words import plural

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from runcard._plan import Plan
    from runcard.record import RunRecord


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        kind: ``journal``, ``patch``, ``artifact`` or ``input``.
        path: Which file; relative to the run's folder where it lies there.
        state: ``same``, ``changed``, ``missing``, ``removed`` (by retention), ``damaged``, or ``unknown``: there is
            no hash to compare with, or it lies where this machine cannot look.
        detail: More of it, in words; may be empty.
    """

    kind: str
    path: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        run_id: The run.
        checks: Everything that was looked at.
        plan: What a rerun would do, and what stops it.
    """

    run_id: str
    checks: list[Check]
    plan: Plan

    @property
    def intact(self) -> bool:
        """Whether nothing was changed, lost or damaged."""
        return not any(check.state in ("changed", "missing", "damaged") for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON data."""
        return {
            "run_id": self.run_id,
            "intact": self.intact,
            "checks": [check._asdict() for check in self.checks],
            "rerun": self.plan.to_dict(),
        }


def verify(record: RunRecord, *, repository: str | os.PathLike[str] | None = None) -> Verification:
    """Check a record against what lies on disk, without running anything.

    Args:
        record: The run.
        repository: Where the commit may be had, instead of the recorded places.
    """
    found = plan(record, repository=repository)
    checks = [*_journal(record), *_patch(record), *_artifacts(record)]
    for entry in found.inputs:
        state = "same" if entry["state"] == "in the code" else entry["state"]
        checks.append(Check("input", entry["path"], state, "as the commit has it" if state != entry["state"] else ""))
    return Verification(record.run_id, checks, found)


def _journal(record: RunRecord) -> Iterator[Check]:
    if record.folder is None:
        yield Check("journal", "", "unknown", "the run lies in no folder")
        return
    lost = {kind: count for kind in ("damaged", "missing", "unwritten") if (count := record.losses.get(kind))}
    told = ", ".join(f"{plural(count, 'line')} {kind}" for kind, count in lost.items())
    yield Check("journal", "journal.jsonl", "damaged" if lost else "same", told)


def _patch(record: RunRecord) -> Iterator[Check]:
    git = code_of(record)
    if not git.get("patch"):
        return
    path = "diff.patch"
    try:
        read_patch(record)
    except CannotRebuildError as error:
        yield Check("patch", path, "changed" if "hash" in str(error) else "missing", str(error))
    else:
        yield Check("patch", path, "same" if git.get("patch_sha256") else "unknown")


def _artifacts(record: RunRecord) -> Iterator[Check]:
    for entry in record.artifacts:
        name = str(entry.get("path") or entry.get("uri") or entry.get("name"))
        path, why = _lies_at(record, entry)
        if entry.get("removed"):
            yield Check("artifact", name, "removed", "by retention")
        elif path is None:
            yield Check("artifact", name, "unknown", why)
        else:
            yield _compared(name, path, entry)


def _lies_at(record: RunRecord, entry: dict[str, Any]) -> tuple[Path | None, str]:
    """An artifact's file; None and why, when it cannot be looked at from here."""
    relative, uri = entry.get("path"), entry.get("uri")
    if isinstance(relative, str):
        if record.folder is None:
            return None, "the run lies in no folder"
        folder = Path(record.folder).resolve()
        path = folder / relative
        try:
            inside = path.resolve().is_relative_to(folder)
        except (OSError, ValueError, RuntimeError):
            inside = False
        return (path, "") if inside and not path.is_symlink() else (None, "it does not lie in the run's folder")
    if isinstance(uri, str) and uri.startswith("file:"):
        return Path(unquote(urlsplit(uri).path)), ""
    return None, "it lies elsewhere"


def _compared(name: str, path: Path, entry: dict[str, Any]) -> Check:
    from runcard.capture.inputs import describe

    digest = entry.get("sha256")
    now = describe(path, limit=1 << 62 if digest else 0)
    if now.get("missing"):
        return Check("artifact", name, "missing")
    if digest:
        if now.get("sha256") is None:
            return Check("artifact", name, "unknown", f"it cannot be read: {now.get('error')}")
        return Check("artifact", name, "same" if now["sha256"] == digest else "changed")
    if (now.get("bytes"), now.get("mtime")) == (entry.get("bytes"), entry.get("mtime")):
        return Check("artifact", name, "same", "by size and time: it was too large to hash")
    if now.get("bytes") != entry.get("bytes"):
        return Check("artifact", name, "changed", "its size is another")
    return Check("artifact", name, "unknown", "the same size, but another time: it was too large to hash")
