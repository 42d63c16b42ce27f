"""Two revisions in turn: ``python -m benchmarks --compare BASE`` prints how much slower or faster each row became."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.harness import ROOT, Extent, Subject, folder_of_its_own
from benchmarks.report import number
from benchmarks.results import Measured
from benchmarks.rows import title
from benchmarks.session import Running

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Session
    from benchmarks.works import Work

_SLOWER = 1.10  # beyond it, and beyond the spread, a row is marked
_DOUBTFUL, _ENOUGH = 1.5, 5  # a row of fewer samples than these, or of one process, has to differ by more,
_CERTAIN = ("lost", "lost100", "journal", "disk", "missing")  # unless it does not depend on the machine
_ROUNDS = 2  # times the quick mode's, since two numbers are compared
_SAME = ("install",)  # in the same environment


def compare(base: str, works: list[Work], *, minutes: float) -> int:
    """Run the quick mode on ``base`` and on the working tree, a trial each in turn, and print a ratio a row.

    Gives 1 when a row became slower beyond doubt, else 0.
    """
    with folder_of_its_own() as folder:
        extract(base, folder)
        now = Subject("runcard", "the working tree", source=str(ROOT / "src"))
        before = Subject("runcard", base, source=str(folder / "src"), side="base")
        running = Running([now, before], Extent(quick=True), minutes)
        for work in works:
            if work.key not in _SAME:
                first, quick = work.rounds
                running.measure(replace(work, rounds=(first, _ROUNDS * quick)))
    return table(running.told(), base)


def extract(base: str, folder: Path) -> None:
    """Put the sources of a revision below a folder.

    Raises:
        SystemExit: When git does not know it.
    """
    done = subprocess.run(["git", "archive", base, "src"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"--compare {base}: {done.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def table(session: Session, base: str) -> int:
    """Print the rows; 1 when one became slower."""
    slower = 0
    print(f"{'':66} {base[:12]:>12} {'now':>12} {'ratio':>8}")
    for key, found in session.rows.items():
        before, now = (found.get(side, Measured()) for side in ("base", "runcard"))
        if before.middle is None or now.middle is None:
            note = " / ".join(each.note or "not measured" for each in (before, now) if each.middle is None)
            print(f"{title(key):66.66} {_cell(before):>12} {_cell(now):>12} {note:.80}")
            continue
        ratio = now.middle / before.middle if before.middle else 1.0 + now.middle
        sure = key in _CERTAIN or (min(before.count, now.count) >= _ENOUGH and "@" not in key)
        beyond = _SLOWER if sure else _DOUBTFUL
        mark = ""
        if ratio > beyond and (now.low or 0.0) >= before.middle:
            mark, slower = " slower", 1
        elif ratio < 1 / beyond and (now.high or 0.0) <= before.middle:
            mark = " faster"
        print(f"{title(key):66.66} {_cell(before):>12} {_cell(now):>12} {ratio:>7.2f}×{mark}")
    return slower


def _cell(found: Measured) -> str:
    return "–" if found.middle is None else number(found.middle)
