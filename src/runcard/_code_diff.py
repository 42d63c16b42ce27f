"""The difference between the code of a run and the code as it lies in the working tree now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runcard._rebuild import Objects
from runcard._recorded_code import CannotRebuildError, code_of, commit_of, places, read_patch, why_no_commit
from runcard.capture.git_patch import DIFF
from runcard.capture.git_program import NoAnswer
from runcard.capture.repository import common_dir_of, git_dir_of

if TYPE_CHECKING:
    from runcard.record import RunRecord


def code(record: RunRecord, *, repository: str | os.PathLike[str] | None = None) -> str:
    """The difference from the code of a run to the working tree as it is now, as ``git diff`` writes it.

    Bytes that are no UTF-8 are surrogates: ``.encode("utf-8", "surrogateescape")`` gives what git takes. New files are
    in it, ignored ones are not; empty when nothing differs. Runs nothing that the repository configures, and writes
    nothing into it.

    Args:
        record: The run.
        repository: The working tree to compare with; by default the recorded one, else that of the working directory.

    Raises:
        CannotRebuildError: When the run's code, or a working tree of it, is not here.
    """
    git = code_of(record)
    commit, patch = commit_of(git), read_patch(record)
    if commit is None and git.get("state") != "no-commits":
        raise CannotRebuildError(why_no_commit(git))
    with Objects(commit) as objects:
        if commit is not None:
            objects.find(record, repository)
        tree = _working_tree(record, repository)
        index = objects.index(commit, patch)
        return _difference(objects, index, tree)


def _working_tree(record: RunRecord, repository: str | os.PathLike[str] | None) -> Path:
    for place in places(record, repository):
        root = Path(os.path.abspath(place.removeprefix("file://")))
        if "://" not in place and git_dir_of(root) is not None:
            return root
    raise CannotRebuildError("no working tree of the run's repository is here; name one with --repo, or use `restore`")


def _difference(objects: Objects, index: str, tree: Path) -> str:
    env = {"GIT_INDEX_FILE": index, "GIT_WORK_TREE": str(tree)}
    git_dir = git_dir_of(tree)
    own = common_dir_of(git_dir) / "info" / "exclude" if git_dir is not None else None
    if own is not None and own.is_file():  # what the user has git ignore here, and nowhere else
        (objects.folder / "info").mkdir(exist_ok=True)
        shutil.copyfile(own, objects.folder / "info" / "exclude")
    git = objects.git
    git.root = tree
    try:
        new = git.run("ls-files", "--others", "--exclude-standard", "-z", env=env)
        names = [name for name in new.split(b"\0") if name and not name.endswith(b"/")]
        if names:
            listed = b"".join(name + b"\0" for name in names)
            # Only named in the index: nothing is read or written yet.
            git.run("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul", given=listed, env=env)
        found = git.run(*DIFF, "--ignore-submodules=all", env=env)
    except NoAnswer as failure:
        raise CannotRebuildError(f"git could not compare: {failure.message or failure.word}") from None
    return found.decode("utf-8", "surrogateescape")
