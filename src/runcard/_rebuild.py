"""The code of a run, built again: its commit, with its uncommitted changes, in a folder of its own.

Nothing is written into the user's repository, nor is its configuration read: a git folder of ours sees the
objects of the repository that has the commit. The patch goes into an index, never straight onto the disk, and the
index is then written into an empty folder. So neither a path that leaves the folder nor a link in the way can
lead a record from elsewhere outside: git refuses such names in an index, and an index cannot hold a link and a
file below it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from runcard._recorded_code import (
    CannotRebuildError,
    code_of,
    commit_of,
    is_remote,
    left_out,
    objects_folder,
    places,
    read_patch,
    why_no_commit,
)
from runcard.capture.git_program import Git, NoAnswer

if TYPE_CHECKING:
    from types import TracebackType

    from runcard.record import RunRecord

_FETCH_S = 600.0


class Tree(NamedTuple):
    """Code built again.

    Attributes:
        path: The folder.
        commit: The commit; None for the code of a repository that had none yet.
        source: Where the commit came from: a folder, or a remote's URL.
        patch_bytes: The size of the uncommitted changes on top.
        missing: What the folder lacks, each a mapping with ``path`` and ``why``.
    """

    path: Path
    commit: str | None
    source: str
    patch_bytes: int
    missing: list[dict[str, str]]


def build_tree(
    record: RunRecord, target: Path, *, repository: str | os.PathLike[str] | None = None, with_git: bool = False
) -> Tree:
    """Build the code of a run in an empty or new folder.

    Args:
        record: The run.
        target: Where; its parent has to exist.
        repository: A folder or URL that has the commit; by default the recorded folder, the repository of the
            working directory, and the recorded remote are tried, in this order.
        with_git: Leave a ``.git`` in the folder, at the commit, so that the code can tell its own state.

    Raises:
        CannotRebuildError: When the commit cannot be found, or the patch cannot be read or applied.
    """
    git = code_of(record)
    commit, patch = commit_of(git), read_patch(record)
    if commit is None and git.get("state") != "no-commits":
        raise CannotRebuildError(why_no_commit(git))
    make_empty(target)
    with Objects(commit) as objects:
        source = "the patch alone"
        if commit is not None:
            source = objects.find(record, repository)
        missing = objects.write(commit, patch, target)
        missing += left_out(git)
        if with_git:
            objects.leave_in(target, commit, git.get("remote") or source)
    return Tree(target, commit, source, len(patch), missing)


def make_empty(target: Path) -> None:
    """Make a folder, or see that the one there is empty.

    Raises:
        CannotRebuildError: When there is something in it, or it cannot be made.
    """
    try:
        if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
            raise CannotRebuildError(f"{target} is not an empty folder; name one that is, or that is not there yet")
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRebuildError(f"{target} cannot be made: {error}") from error


class Objects:
    """A git folder of our own, in a temporary folder, that sees the objects of another repository.

    Use it in a ``with`` block; it is gone afterwards.
    """

    def __init__(self, commit: str | None, folder: Path | None = None) -> None:
        """Make it.

        Args:
            commit: The commit that is wanted; its length tells the kind of hash.
            folder: Where to make it; by default below the system's temporary folder.

        Raises:
            CannotRebuildError: When there is no git.
        """
        self.place: str | None = None  # the repository on this machine that has the commit
        self._commit = commit
        self._scratch = Path(tempfile.mkdtemp(prefix="runcard-git-", dir=folder))
        self.folder = self._scratch / "git"
        self.git = Git(self._scratch, time.monotonic() + _FETCH_S)
        self.git.environment["GIT_LFS_SKIP_SMUDGE"] = "1"  # its contents are not in the repository; pointers come
        self.git.environment["GIT_DIR"] = str(self.folder)
        try:
            self.git.find()
            kind = ("--object-format=sha256",) if commit is not None and len(commit) == 64 else ()
            self.git.run("init", "--quiet", "--bare", "--template=", *kind)
        except NoAnswer as failure:
            shutil.rmtree(self._scratch, ignore_errors=True)
            told = "no git program is on the path; install it" if failure.word == "no-git" else f"git: {failure.word}"
            raise CannotRebuildError(f"git is needed: {failure.message or told}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def find(self, record: RunRecord, repository: str | os.PathLike[str] | None = None, *, fetch: bool = True) -> str:
        """See to it that the commit is at hand; where it came from.

        Args:
            record: The run, for the places where it may be.
            repository: One place to look instead.
            fetch: Whether a remote that is not on this machine may be asked.

        Raises:
            CannotRebuildError: With every place that was tried.
        """
        assert self._commit is not None
        tried = []
        for place in places(record, repository):
            folder = objects_folder(place)
            if folder is not None:
                if self.sees(folder):
                    self.place = place
                    return place
                tried.append(f"{place} has it not")
            elif not is_remote(place):
                tried.append(f"{place} is no repository here")
            elif not fetch or (why := self._fetch(place)) is None:
                return place
            else:
                tried.append(f"{place}: {why}")
        told = "; ".join(tried) or "no place is known where it could be"
        raise CannotRebuildError(f"the commit {self._commit[:12]} cannot be found: {told}")

    def write(self, commit: str | None, patch: bytes, target: Path) -> list[dict[str, str]]:
        """Write a commit with a patch on top into an empty folder; what is missing in it.

        Raises:
            CannotRebuildError: When the patch does not apply, or objects are missing.
        """
        index = self.index(commit, patch)
        env = {"GIT_INDEX_FILE": index, "GIT_WORK_TREE": str(target)}
        try:
            self.git.run("checkout-index", "--all", "--force", "--quiet", env=env)
            links = self._submodules(index)
        except NoAnswer as failure:
            raise CannotRebuildError(f"the code could not be written: {failure.message or failure.word}") from None
        found: list[dict[str, str]] = []
        for path, at in links:
            found += _write_submodule(target, path, at, self.place)
        return found

    def index(self, commit: str | None, patch: bytes, name: str = "index") -> str:
        """An index that holds a commit with a patch on top; the path of its file.

        Raises:
            CannotRebuildError: When the commit's objects are missing, or the patch does not apply.
        """
        check_patch(patch)
        path = str(self._scratch / name)
        env = {"GIT_INDEX_FILE": path, "GIT_WORK_TREE": str(self._scratch)}
        try:
            self.git.run("read-tree", *((commit,) if commit is not None else ("--empty",)), env=env)
        except NoAnswer as failure:
            raise CannotRebuildError(f"the commit cannot be read: {failure.message or failure.word}") from None
        if patch:
            try:
                self.git.run("apply", "--cached", "--whitespace=nowarn", "-", given=patch, env=env)
            except NoAnswer as failure:
                raise CannotRebuildError(f"the recorded changes do not apply: {failure.message}") from None
        return path

    def leave_in(self, target: Path, commit: str | None, remote: object) -> None:
        """Move this git folder into a working tree, at the commit."""
        git_dir = target / ".git"
        try:
            self.git.run("config", "core.bare", "false")
            if isinstance(remote, str) and (is_remote(remote) or objects_folder(remote) is not None):
                self.git.run("config", "remote.origin.url", remote)
            if commit is not None:
                self.git.run("update-ref", "--no-deref", "HEAD", commit)
            shutil.move(self.folder, git_dir)
            self.git.environment["GIT_DIR"] = str(git_dir)
            env = {"GIT_WORK_TREE": str(target)}
            if commit is not None:
                self.git.run("read-tree", commit, env=env)
                self.git.run("update-index", "-q", "--refresh", env=env)
        except NoAnswer:
            pass  # "needs update" of changed files, or a folder without its history: the code itself is there

    def sees(self, objects: Path) -> bool:
        """Look into a repository's objects; whether the commit is there, with all its files."""
        if "\n" in str(objects):
            return False
        alternates = self.folder / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{objects}\n", "utf-8", "surrogateescape")
        try:
            self.git.run("cat-file", "-e", f"{self._commit}^{{tree}}")
        except NoAnswer:
            alternates.unlink()
            return False
        return True

    def _fetch(self, url: str) -> str | None:
        """Fetch the commit from a remote: alone where the server allows it, else with all branches; else why not."""
        env = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
        assert self._commit is not None
        why = ""
        for wanted in (("--depth=1", url, self._commit), (url, "+refs/*:refs/fetched/*")):
            try:
                self.git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *wanted, env=env)
                self.git.run("cat-file", "-e", f"{self._commit}^{{tree}}")
            except NoAnswer as failure:
                why = failure.message or failure.word
            else:
                return None
        return why

    def _submodules(self, index: str) -> list[tuple[str, str]]:
        """The submodules of an index: (path, commit)."""
        listed = self.git.run("ls-files", "--stage", "-z", env={"GIT_INDEX_FILE": index})
        links = (entry for entry in listed.split(b"\0") if entry.startswith(b"160000 "))
        told = (entry.partition(b"\t") for entry in links)
        return [(os.fsdecode(path), head.split()[1].decode("ascii")) for head, _, path in told]


def _write_submodule(target: Path, path: str, commit: str, place: str | None) -> list[dict[str, str]]:
    """The commit of a submodule in its folder, from where it is checked out; else what is missing."""
    inner = os.path.join(place, path) if place is not None else ""
    folder = objects_folder(inner) if inner else None
    if folder is not None:
        with Objects(commit) as objects:
            if objects.sees(folder):
                objects.place = inner
                below = objects.write(commit, b"", target / path)
                return [{**entry, "path": f"{path}/{entry['path']}"} for entry in below]
    return [{"path": path, "why": f"a submodule, whose commit {commit[:12]} is not here"}]


def check_patch(patch: bytes) -> None:
    """Refuse a patch whose paths leave the folder, before git sees it, which would refuse it too.

    Raises:
        CannotRebuildError: For ``..``, absolute paths and paths into ``.git``.
    """
    in_header = True
    for line in patch.splitlines():
        if line.startswith(b"diff --git "):
            in_header = True
        elif line.startswith((b"@@ ", b"GIT binary patch")):
            in_header = False  # from here on the lines are content
        found = _PATH.match(line) if in_header else None
        if found is None or found[1] == b"/dev/null":
            continue
        path = _unquoted(found[1])
        parts = re.split(rb"[/\\]", path)
        hidden = any(part.rstrip(b" .").lower() in (b".git", b"git~1") for part in parts)
        if path.startswith((b"/", b"\\")) or b".." in parts or hidden or re.match(rb"[A-Za-z]:[/\\]", path):
            raise CannotRebuildError(f"the patch names a path outside of the code, {path[:80]!r}: it is not applied")


def _unquoted(raw: bytes) -> bytes:
    """A path of a patch's header: without its quotes, escapes and the ``a/`` or ``b/`` in front."""
    path = raw.rstrip(b"\t\r\n")
    if path.startswith(b'"') and path.endswith(b'"'):
        path = re.sub(
            rb"\\([0-7]{3}|.)",
            lambda found: bytes([int(found[1], 8) & 255]) if found[1].isdigit() else found[1],
            path[1:-1],
        )
    return path[2:] if path[:2] in (b"a/", b"b/") else path


_PATH = re.compile(rb"(?:rename from|rename to|copy from|copy to|---|\+\+\+) (.+)")
