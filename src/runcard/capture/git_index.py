"""An index in which git compares every file, also one that ``assume-unchanged`` or ``skip-worktree`` hides from it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runcard.capture.git_program import Git


@contextmanager
def whole_index(git: Git, git_dir: Path) -> Iterator[Path]:
    """The index for git to go by while this is open: the repository's, or a copy of it where files are hidden."""
    index = git_dir / "index"
    hidden = _hidden(git) if index.is_file() else []
    if not hidden:
        yield index
        return
    with tempfile.TemporaryDirectory(prefix="runcard-git-", ignore_cleanup_errors=True) as folder:
        copy = copy_index(index, Path(folder))
        git.environment["GIT_INDEX_FILE"] = str(copy)
        given = b"".join(path + b"\0" for path in hidden)
        git.run("update-index", "--no-assume-unchanged", "-z", "--stdin", given=given)
        git.run("update-index", "--no-skip-worktree", "-z", "--stdin", given=given)
        try:
            yield copy
        finally:
            del git.environment["GIT_INDEX_FILE"]


def copy_index(index: Path, folder: Path) -> Path:
    """A copy with its time: git trusts an entry less when the file is as new as the index."""
    return Path(shutil.copy2(index, folder / "index"))


def _hidden(git: Git) -> list[bytes]:
    """The files that git was told not to look at; of a sparse checkout, those that are there."""
    root = os.fsencode(git.root)
    listed = _TAGGED.findall(git.run("ls-files", "-v", "-z"))
    return [path for tag, path in listed if tag not in b"Ss" or os.path.lexists(os.path.join(root, path))]


_TAGGED = re.compile(rb"(?:\A|\0)([a-zS]) ([^\0]+)")
