"""What git knows about the code: commit, branch, remote, and the uncommitted changes as a patch.

``environment.git["state"]`` is one of these words:

``clean``          the working tree is the commit
``dirty``          it is not; the patch has the difference, but for what ``left_out`` names
``no-commits``     nothing is committed yet; the patch starts from the empty tree
``bare``           a repository without a working tree
``no-repository``  no repository holds the code, or it has gone meanwhile
``no-git``         there is no git program
``timeout``        git did not answer in time
``dubious-owner``  the folder is another user's, and git's ``safe.directory`` does not name it
``damaged``        git cannot read the repository; ``error`` has its words
``edited``         set by the caller: loaded source is newer than its import (see `capture.source`)

A detached HEAD is no state of its own: ``branch`` is None. Without git's answer, commit and branch
are read from the repository's files.

How git is started without running what the repository configures: `capture.git_program`. How the
patch is made: `capture.git_patch`.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard.capture.git_index import whole_index
from runcard.capture.git_patch import Change, Limits, leave_out, make_patch, redacted_text
from runcard.capture.git_program import Git, NoAnswer, shown, split_entry
from runcard.capture.repository import common_dir_of, git_dir_of, has_reference, head_of, is_bare, repository_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard.redact import Redactor

__all__ = ["GitSnapshot", "capture", "repository_of"]


class GitSnapshot(NamedTuple):
    """The ``environment.git`` of a record, and the redacted patch against the commit (None: nothing to apply)."""

    state: dict[str, Any]
    patch: bytes | None


def capture(
    root: Path, redactor: Redactor, *, limit_s: float = 2.0, file_limit: int = 1_000_000, total_limit: int = 10_000_000
) -> GitSnapshot:
    """The state of the repository at ``root``, and its uncommitted changes as a patch that `git apply` takes.

    Never raises (but `KeyboardInterrupt`): what goes wrong becomes a state word.

    Args:
        root: The root, as `repository_of` gives it.
        redactor: Takes credentials out of the patch and of the remote's URL.
        limit_s: Seconds for all of it; what is not done by then is said.
        file_limit: Bytes; a changed or untracked file above it is left out, and named in ``left_out``.
        total_limit: Bytes of all files in the patch together.
    """
    found: dict[str, Any] = {
        "state": "damaged",
        "commit": None,
        "branch": None,
        "dirty": None,
        "remote": None,
        "root": shown(os.fsencode(root)),
        "patch": None,
        "patch_bytes": 0,
        "patch_sha256": None,
        "incomplete": False,
        "left_out": [],
        "files": {"staged": 0, "unstaged": 0, "untracked": 0},
    }
    try:
        patch = _capture(Path(root), redactor, found, Limits(limit_s, file_limit, total_limit))
    except NoAnswer as failure:
        patch = None
        found["state"] = failure.word
        if failure.message:
            found["error"] = redacted_text(redactor, failure.message)
    except Exception as error:  # a recorder must not cost the run; the word says that something is wrong
        patch = None
        found["state"] = "damaged"
        found["error"] = f"{type(error).__name__} while reading the repository"
    if patch:
        found["patch"] = "diff.patch"
        found["patch_bytes"] = len(patch)
        found["patch_sha256"] = hashlib.sha256(patch).hexdigest()
    if found["state"] in {"no-git", "timeout", "dubious-owner", "damaged"}:
        found["incomplete"] = True
    return GitSnapshot(found, patch or None)


def _capture(root: Path, redactor: Redactor, found: dict[str, Any], limits: Limits) -> bytes | None:
    # A tenth is kept for ending what hangs and for tidying up.
    git = Git(root, time.monotonic() + limits.seconds * 0.9)
    if is_bare(str(root)):
        found["commit"], found["branch"] = head_of(root, root)
        found["state"] = "bare"
        return None
    git_dir = git_dir_of(root)
    if git_dir is None:
        raise NoAnswer("damaged" if os.path.lexists(root / ".git") else "no-repository")
    common_dir = common_dir_of(git_dir)
    found["commit"], found["branch"] = head_of(git_dir, common_dir)
    if (common_dir / "shallow").exists():
        found["shallow"] = True

    git.find()
    config = git.read_config()
    found["remote"] = _remote(config, found["branch"], redactor)
    if git.not_run:
        found["not_run"] = [shown(name) for name in git.not_run]
    with whole_index(git, git_dir) as index:
        changes = _status(git, found, limits)
        if found["state"] == "no-commits" and has_reference(git_dir, common_dir):
            raise NoAnswer("damaged", "the branch's reference is broken")
        _submodules(git, root, found, limits)
        found["dirty"] = bool(changes) or found["dirty"] is True
        if found["state"] != "no-commits":
            found["state"] = "dirty" if found["dirty"] else "clean"
        if not changes:
            return None
        return make_patch(git, index, config, changes, found, redactor, limits)


def _status(git: Git, found: dict[str, Any], limits: Limits) -> list[Change]:
    """The changes that ``git status`` lists; fills commit, branch, counts."""
    arguments = [
        "status",
        "--porcelain=v2",
        "-z",
        "--branch",
        "--no-ahead-behind",
        "--no-renames",
        "--ignore-submodules=dirty",  # looking into them would run what they configure; see _submodules
    ]
    started = time.monotonic()
    try:
        out = git.run(*arguments, "--untracked-files=all", until=started + (git.deadline - started) * 0.6)
    except NoAnswer as failure:
        if failure.word != "timeout":
            raise
        # Millions of untracked files are the usual reason: the tracked ones alone may still be told.
        out = git.run(*arguments, "--untracked-files=no")
        found["dirty"] = found["incomplete"] = True
        leave_out(found, b".", None, f"untracked files could not be listed within {limits.seconds:g} s")
    if b"# branch.oid " not in out:
        raise NoAnswer("damaged", "git status said nothing of the commit; is this git?")
    changes: list[Change] = []
    tokens = iter(out.split(b"\0"))
    for token in tokens:
        kind = token[:1]
        if token.startswith(b"# branch.oid "):
            oid = token[13:].decode("ascii", "replace")
            if oid == "(initial)":
                found["state"], found["commit"] = "no-commits", None
            else:
                found["commit"] = oid
        elif token.startswith(b"# branch.head "):
            name = shown(token[14:])
            found["branch"] = None if name == "(detached)" else name
        elif kind == b"?":
            changes.append(Change(token[2:], "untracked", staged=False, unstaged=False, head=None, gitlink=False))
        elif kind in {b"1", b"2", b"u"}:
            changes.append(_changed(token))
            if kind == b"2":
                next(tokens, None)
    files = found["files"]
    files["staged"] = sum(change.staged for change in changes)
    files["unstaged"] = sum(change.unstaged for change in changes)
    files["untracked"] = sum(change.kind == "untracked" for change in changes)
    unmerged = sum(change.kind == "unmerged" for change in changes)
    if unmerged:
        files["unmerged"] = unmerged
    return changes


def _changed(token: bytes) -> Change:
    """``1 XY sub mH mI mW hH hI path``, ``2 … Xscore path`` or ``u XY sub m1 m2 m3 mW h1 h2 h3 path``."""
    if token[:1] == b"u":
        fields = token.split(b" ", 10)
        # Stage 2 is ours: what the commit has.
        oid, modes, kind, staged, unstaged = fields[8], fields[3:7], "unmerged", False, True
    else:
        fields = token.split(b" ", 9 if token[:1] == b"2" else 8)
        oid, modes, kind = fields[6], fields[3:6], "changed"
        staged, unstaged = fields[1][:1] != b".", fields[1][1:] != b"."
    head = None if not oid.strip(b"0") or b"160000" in modes else oid.decode("ascii")
    return Change(fields[-1], kind, staged, unstaged, head, b"160000" in modes)


def _submodules(git: Git, root: Path, found: dict[str, Any], limits: Limits) -> None:
    """Name the submodules and look for changes in them, each hardened by its own configuration."""
    if not (root / ".gitmodules").is_file():
        return
    listed = git.run("config", "--no-includes", "-z", "-f", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    told: list[dict[str, Any]] = []
    for entry in listed.split(b"\0")[:100]:
        path = split_entry(entry)[1]
        folder = root / os.fsdecode(path)
        git_dir = git_dir_of(folder) if path else None
        if git_dir is None:
            continue  # not checked out
        inner: dict[str, Any] = {"state": "", "commit": None, "branch": None, "left_out": [], "files": {}}
        inner["dirty"] = inner["incomplete"] = None
        sub = Git(folder, git.deadline)
        sub.executable = git.executable
        try:
            sub.read_config()
            changes = _status(sub, inner, limits)
            dirty: bool | None = bool(changes)
        except NoAnswer:
            dirty = None
        told.append({"path": shown(path), "commit": inner["commit"], "dirty": dirty})
        if dirty is not False:
            found["dirty"] = found["incomplete"] = True
            why = "a submodule with changes of its own" if dirty else "a submodule that could not be read"
            leave_out(found, path, None, why)
    if told:
        found["submodules"] = told


def _remote(config: Iterable[tuple[str, bytes, bytes]], branch: str | None, redactor: Redactor) -> str | None:
    """``origin``'s URL, else the branch's upstream's, else the first one's, without credentials."""
    urls: dict[bytes, bytes] = {}
    upstream = b""
    for scope, name, value in config:
        if name.startswith(b"remote.") and name.endswith(b".url") and scope in {"local", "worktree"}:
            urls.setdefault(name[len(b"remote.") : -len(b".url")], value)
        elif branch is not None and name == f"branch.{branch}.remote".encode():
            upstream = value
    url = urls.get(b"origin") or urls.get(upstream) or next(iter(urls.values()), None)
    if url is None:
        return None
    try:
        return redactor.url(shown(url))
    except Exception:  # as above: nothing unredacted leaves
        return None
