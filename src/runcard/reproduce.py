"""Run it again, from the record alone: record → plan → code → the run → verdict.

`plan` says what a rerun would do and what cannot be had again, `restore` writes the code of a run into a folder,
`code` compares it with now, `verify` checks what the record speaks of: none of them runs anything of the run.
`rerun` does, in a process of its own and in a temporary folder, and compares; `script` writes all that as a shell
script. See `docs/rerun.md`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runcard._call import Obstacle
from runcard._causes import Cause
from runcard._code_diff import code
from runcard._plan import Plan, plan
from runcard._rebuild import Tree, build_tree
from runcard._recorded_code import CannotRebuildError
from runcard._rerun import rerun
from runcard._script import script
from runcard._verdict import Difference, Tolerance, Verdict
from runcard._verify import Check, Verification, verify

if TYPE_CHECKING:
    from runcard.record import RunRecord

__all__ = [
    "CannotRebuildError",
    "Cause",
    "Check",
    "Difference",
    "Obstacle",
    "Plan",
    "Tolerance",
    "Tree",
    "Verdict",
    "Verification",
    "code",
    "plan",
    "rerun",
    "restore",
    "script",
    "verify",
]


def restore(record: RunRecord, to: str | os.PathLike[str], *, repository: str | os.PathLike[str] | None = None) -> Tree:
    """Write the code of a run into a folder: its commit with its uncommitted changes, untracked files included.

    Args:
        record: The run.
        to: A folder that is empty or not there yet.
        repository: A folder or URL that has the commit, instead of the recorded places.

    Raises:
        CannotRebuildError: When it cannot be had; the folder is left as it was, or empty.
    """
    return build_tree(record, Path(os.path.abspath(to)), repository=repository)
