"""What can be told of a repository from its files alone, without starting git."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path


def repository_of(path: Path) -> Path | None:
    """The root of the repository that holds ``path``: the nearest folder above with a ``.git``, or a bare repository.

    A file that is installed (below ``site-packages`` of an environment inside the repository) is not held by it.
    Starts no program; a few microseconds.
    """
    start = os.path.realpath(path)
    inside_git = ".git" in Path(start).parts
    folder = start
    while True:
        if os.path.lexists(os.path.join(folder, ".git")):
            installed = {"site-packages", "dist-packages"} & set(Path(start[len(folder) :]).parts)
            return None if installed else Path(folder)
        if not inside_git and is_bare(folder):
            return Path(folder)
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def is_bare(folder: str) -> bool:
    """Whether a folder looks like a repository without a working tree."""
    return (
        os.path.isfile(os.path.join(folder, "HEAD"))
        and os.path.isdir(os.path.join(folder, "objects"))
        and os.path.isdir(os.path.join(folder, "refs"))
    )


def git_dir_of(root: Path) -> Path | None:
    """``.git`` itself, or the folder that a ``.git`` file of a worktree or submodule names."""
    place = root / ".git"
    if place.is_dir():
        return place
    text = _read(place)
    if not text.startswith("gitdir:"):
        return None
    folder = root / text[len("gitdir:") :].strip()
    return folder if folder.is_dir() else None


def common_dir_of(git_dir: Path) -> Path:
    """The folder that the worktrees of a repository share; the repository's own where there is one only."""
    text = _read(git_dir / "commondir").strip()
    return git_dir / text if text else git_dir


def head_of(git_dir: Path, common_dir: Path) -> tuple[str | None, str | None]:
    """(commit, branch) as the files have them, for when git itself does not answer."""
    head = _read(git_dir / "HEAD").strip()
    if not head.startswith("ref:"):
        return _commit(head), None
    name = head[len("ref:") :].strip()
    branch = name[len("refs/heads/") :] if name.startswith("refs/heads/") else None
    if not name.startswith("refs/") or ".." in name:
        return None, None
    commit = _commit(_read(common_dir / name).strip())
    if commit is None:
        line = re.search(rf"^([0-9a-f]+) {re.escape(name)}$", _read(common_dir / "packed-refs"), re.MULTILINE)
        commit = _commit(line[1]) if line else None
    return commit, branch


def has_reference(git_dir: Path, common_dir: Path) -> bool:
    """Whether HEAD's branch has a file: after a power cut it may be empty, which git takes for no commits yet."""
    head = _read(git_dir / "HEAD").strip()
    return head.startswith("ref: refs/heads/") and (common_dir / head[len("ref: ") :]).is_file()


def _commit(text: str) -> str | None:
    return text if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) else None


def _read(path: Path) -> str:
    """A small plain file of git's; empty when it is not there, is no plain file, or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as file:
            return file.read(10_000_000).decode("utf-8", "backslashreplace")
    except (OSError, ValueError):
        return ""
