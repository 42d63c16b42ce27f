"""What a record says of its code, and where the commit may be had. Starts no program."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from runcard.capture.repository import common_dir_of, git_dir_of, is_bare, repository_of
from runcard.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runcard.record import RunRecord


PATCH_LIMIT = 64 << 20  # bytes; what a capture writes stays below 10 MB


class CannotRebuildError(StoreError):
    """The code of a run cannot be had again; the message says why."""


def code_of(record: RunRecord) -> dict[str, object]:
    """The record's ``environment.git``; empty when there is none."""
    git = record.environment.get("git")
    return git if isinstance(git, dict) else {}


def left_out(git: dict[str, object]) -> list[dict[str, str]]:
    """What the record says that its patch lacks: ``path`` and ``why`` of each."""
    entries = git.get("left_out")
    listed = entries if isinstance(entries, list) else []
    return [{"path": str(e.get("path")), "why": str(e.get("why"))} for e in listed if isinstance(e, dict)]


def commit_of(git: dict[str, object]) -> str | None:
    """The recorded commit, when it has a commit's form."""
    commit = git.get("commit")
    return commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None


def why_no_commit(git: dict[str, object]) -> str:
    """Why there is no code to build, in words."""
    state = git.get("state")
    if not git:
        return "the record has no code: git was not captured"
    if state == "no-repository":
        return "the code lay in no git repository"
    return f"the record names no commit (git: {state})"


def read_patch(record: RunRecord) -> bytes:
    """The recorded uncommitted changes; empty when there were none.

    Raises:
        CannotRebuildError: When the file is missing, too large, or no longer what was recorded.
    """
    git = code_of(record)
    if not git.get("patch"):
        return b""
    if record.folder is None:
        raise CannotRebuildError(
            "the uncommitted changes lie in the run's folder, which this store does not have; name that folder or "
            "a zip of it as the run (an object store is copied to a folder with `runcard sync URL FOLDER`)"
        )
    path = Path(record.folder) / "diff.patch"  # the one name there is, whatever the record says
    try:
        if path.is_symlink() or not path.is_file():
            raise CannotRebuildError(f"{path} is missing: the uncommitted changes cannot be had")
        if path.stat().st_size > PATCH_LIMIT:
            raise CannotRebuildError(f"{path} is larger than any recorded patch")
        content = path.read_bytes()
    except OSError as error:
        raise CannotRebuildError(f"{path} cannot be read: {error}") from error
    digest = git.get("patch_sha256")
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise CannotRebuildError(f"{path} is not the patch that was recorded: its hash differs")
    return content


def places(record: RunRecord, repository: str | os.PathLike[str] | None = None) -> Iterator[str]:
    """Where the commit may be had, most likely first: folders and URLs."""
    if repository is not None:
        yield os.fspath(repository)
        return
    git = code_of(record)
    root, remote = git.get("root"), git.get("remote")
    if isinstance(root, str) and os.path.isabs(root):
        yield root
    try:
        here = repository_of(Path.cwd())
    except OSError:
        here = None
    if here is not None and str(here) != root:
        yield str(here)
    if isinstance(remote, str) and remote:
        yield remote


def objects_folder(place: str) -> Path | None:
    """The folder of git's objects of a repository on this machine; None for anything else."""
    text = place.removeprefix("file://")
    if not os.path.isabs(text):
        text = os.path.abspath(text) if os.path.isdir(text) else ""
    if not text:
        return None
    root = Path(text)
    try:
        if is_bare(text):
            return root / "objects"
        git_dir = git_dir_of(root)
        folder = common_dir_of(git_dir) / "objects" if git_dir is not None else None
        return folder.resolve() if folder is not None and folder.is_dir() else None
    except OSError:
        return None


def is_remote(url: str) -> bool:
    """Whether git may be given the URL: no option, no transport that is a program."""
    if url.startswith("-") or any(ord(character) < 33 for character in url) or "::" in url:
        return False
    return bool(re.match(r"(?:https?|git|ssh|file)://[^-]|(?:[\w.]+@)?[\w][\w.-]*:[^:]", url))


_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
