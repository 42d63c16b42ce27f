"""Uncommitted changes as one patch: staged, unstaged and untracked, bounded, without secrets.

Changes that need an index (untracked files, conflicts) are made to a copy of it; nothing is written into the
repository. Renames are a deletion and a new file, which every git applies. Line endings are recorded as they
lie on disk, whatever ``core.autocrlf`` says; a ``text`` or ``eol`` attribute counts, as it will for the clone that
takes the patch.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard.capture.git_index import copy_index
from runcard.capture.git_program import NoAnswer, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runcard.capture.git_program import Git
    from runcard.redact import Redactor


class Limits(NamedTuple):
    """What a capture may cost: seconds in all, bytes a file, bytes in all."""

    seconds: float
    file: int
    total: int


class Change(NamedTuple):
    """One path of ``git status``; ``head`` is its blob in the commit, None when it is new."""

    path: bytes
    kind: str  # "changed", "unmerged", "untracked"
    staged: bool
    unstaged: bool
    head: str | None
    gitlink: bool


# Names that hold credentials by custom; their content never goes into a record.
_PRIVATE = re.compile(
    rb"(\.env.*|.*\.env|.*\.(pem|key|p12|pfx|p8|pk8|jks|keystore|kdbx|crt|cer|der|ppk|asc|gpg)|id_(rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*"
    rb"|_?\.?netrc|\.(npmrc|pypirc|pgpass|htpasswd|git-credentials|dockercfg|boto|s3cfg)|credentials(\.json|\.ya?ml|\.toml)?"
    rb"|(client_secret|service[-_]account).*\.json|secrets?\.(json|ya?ml|toml|ini)|kaggle\.json)\Z",
    re.IGNORECASE | re.DOTALL,
)
_MOST_UNTRACKED = 5_000
_EMPTY_TREE = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


def make_patch(
    git: Git,
    index: Path,
    config: Iterable[tuple[str, bytes, bytes]],
    changes: list[Change],
    found: dict[str, Any],
    redactor: Redactor,
    limits: Limits,
) -> bytes | None:
    """The redacted patch of `changes` against the commit; None when there is nothing to apply.

    What it lacks, and why, goes into `found`.
    """
    hex_digits = 64 if (b"extensions.objectformat", b"sha256") in {(name, value) for _, name, value in config} else 40
    try:
        chosen = _choose(git, changes, found, limits)
        if not chosen:
            return None
        with tempfile.TemporaryDirectory(prefix="runcard-git-", ignore_cleanup_errors=True) as folder:
            copy = copy_index(index, Path(folder)) if index.is_file() else Path(folder) / "index"
            env = {"GIT_INDEX_FILE": str(copy)}
            entries = b"".join(_index_entries(git.root, chosen, hex_digits))
            if entries:
                git.run("update-index", "-z", "--add", "--replace", "--index-info", given=entries, env=env)
            against = found["commit"] or _EMPTY_TREE[hex_digits]
            paths = [change.path for change in chosen]
            command = ("-c", "core.autocrlf=false", *DIFF, against, "--")
            diff = b"".join(git.run(*command, *some, env=env) for some in _batches(paths))
    except (NoAnswer, OSError) as failure:
        found["incomplete"] = True
        if isinstance(failure, NoAnswer) and failure.word == "timeout":
            found["error"] = f"the patch was not ready within {limits.seconds:g} s"
        else:
            found["error"] = redacted_text(redactor, getattr(failure, "message", "") or str(failure))
        return None
    _tell_pointers(diff, found)
    return _redacted(diff, redactor, found)


# What `git apply` takes everywhere, whatever the user's own configuration makes of a diff.
DIFF = (
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--binary",
    "--full-index",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--submodule=short",
    "--ignore-submodules=dirty",
    f"-O{os.devnull}",
)


def _choose(git: Git, changes: list[Change], found: dict[str, Any], limits: Limits) -> list[Change]:
    """What goes into the patch; the rest is named in ``left_out``."""
    sizes = _blob_sizes(git, [change.head for change in changes if change.head])
    chosen: list[Change] = []
    total = untracked = 0
    for change in changes:
        size, why = _file_size(git.root, change.path)
        if change.head:
            size = max(size, sizes.get(change.head, 0))
        if change.path.endswith(b"/"):
            why = "a repository of its own"
        elif change.gitlink and change.kind != "unmerged":
            size, why = 0, ""
        elif not why and _PRIVATE.match(change.path.rpartition(b"/")[2]):
            why = "its name says that it holds secrets"
        elif not why and size > limits.file:
            why = f"larger than {limits.file} bytes"
        elif not why and total + size > limits.total:
            why = f"more than {limits.total} bytes in all"
        elif not why and change.kind == "untracked" and untracked >= _MOST_UNTRACKED:
            why = f"more than {_MOST_UNTRACKED} untracked files"
        if why:
            leave_out(found, change.path, size, why)
            continue
        total += size
        untracked += change.kind == "untracked"
        chosen.append(change)
    return chosen


def _file_size(root: Path, path: bytes) -> tuple[int, str]:
    """(bytes, why it cannot be taken) of a file of the working tree; a deleted one has 0."""
    name = os.path.join(os.fsencode(root), path)
    try:
        found = os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return 0, ""
    except OSError:
        return 0, "cannot be read"
    if stat.S_ISREG(found.st_mode) and not os.access(name, os.R_OK):
        return found.st_size, "cannot be read"
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return 0, "not a plain file"
    return (0 if stat.S_ISDIR(found.st_mode) else found.st_size), ""


def _blob_sizes(git: Git, blobs: list[str]) -> dict[str, int]:
    if not blobs:
        return {}
    # A deleted file of a gigabyte would be in the patch with all its bytes.
    out = git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer", given="\n".join(blobs).encode())
    pairs = (line.split() for line in out.decode("ascii", "replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _index_entries(root: Path, chosen: Iterable[Change], hex_digits: int) -> Iterator[bytes]:
    """Lines for ``update-index --index-info`` that make git see untracked and unmerged files as changed ones.

    The blob's name is made up: no object is written, and git, finding the file's times to differ, reads the file.
    """
    for change in chosen:
        if change.kind == "changed":
            continue
        if change.kind == "unmerged":
            yield b"0 " + b"0" * hex_digits + b"\t" + change.path + b"\0"
        try:
            mode = os.lstat(os.path.join(os.fsencode(root), change.path)).st_mode
        except OSError:
            continue  # deleted in the conflict, or meanwhile
        if stat.S_ISDIR(mode):
            continue
        kind = b"120000" if stat.S_ISLNK(mode) else b"100755" if mode & 0o100 else b"100644"
        yield kind + b" " + b"1" * hex_digits + b" 0\t" + change.path + b"\0"


def _batches(paths: list[bytes]) -> Iterator[list[bytes]]:
    """Paths in portions that fit a command line (32 KiB on Windows, 128 KiB and more elsewhere)."""
    limit = 24_000 if os.name == "nt" else 100_000
    batch: list[bytes] = []
    length = 0
    for path in paths:
        if batch and length + len(path) > limit:
            yield batch
            batch, length = [], 0
        batch.append(path)
        length += len(path) + 1
    if batch:
        yield batch


def _tell_pointers(diff: bytes, found: dict[str, Any]) -> None:
    """A file kept by Git LFS is in the patch as its pointer: say that its content is not."""
    if b"\n+version https://git-lfs.github.com/spec/v1" not in diff and b"\n+oid sha256:" not in diff:
        return
    for part in re.split(rb"^(?=diff --git )", diff, flags=re.MULTILINE):
        if re.search(rb"^[+ ]version https://git-lfs\.github\.com/spec/v1$", part, re.MULTILINE):
            name = re.search(rb'^\+\+\+ "?b/(.*?)"?\t?$', part, re.MULTILINE)
            if name:
                size = re.search(rb"^\+size (\d+)$", part, re.MULTILINE)
                leave_out(found, name[1], int(size[1]) if size else None, "kept by Git LFS: its pointer is there")


def _redacted(diff: bytes, redactor: Redactor, found: dict[str, Any]) -> bytes | None:
    try:
        patch, incomplete, left_out = redactor.patch(diff)
    except Exception:  # without its redactor nothing of the patch may leave
        found["incomplete"] = True
        found["error"] = "the patch could not be searched for secrets and was not kept"
        return None
    for path in left_out:
        leave_out(found, path.encode("utf-8", "surrogateescape"), None, "holds a secret")
    if incomplete:
        found["incomplete"] = True
    return patch


def redacted_text(redactor: Redactor, message: str) -> str:
    """A message without secrets; without a working redactor, none."""
    try:
        return redactor.text(message)[0]
    except Exception:  # as above: nothing unredacted leaves
        return ""


def leave_out(found: dict[str, Any], path: bytes, size: int | None, why: str) -> None:
    """Name a path that the patch does not have, and mark it incomplete."""
    found["incomplete"] = True
    if len(found["left_out"]) < 200:  # a record stays small: the rest is counted
        found["left_out"].append({"path": shown(path), "bytes": size, "why": why})
    else:
        found["left_out_more"] = found.get("left_out_more", 0) + 1
