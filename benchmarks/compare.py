"""Two revisions in turn: ``python -m benchmarks --compare BASE`` prints how much slower or faster each row became."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

from benchmarks.harness import ROOT, Samples, Subject, WorkFailedError, folder_of_its_own
from benchmarks.report import number
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.works import Work

_SLOWER = 1.10  # beyond it, and beyond the spread of both, a row is marked
_ROUNDS = 2  # times the quick mode's, since two numbers are compared


def compare(base: str, works: list[Work]) -> int:
    """Run the quick mode on ``base`` and on the working tree, a trial each in turn, and print a ratio a row.

    Gives 1 when a row became slower beyond doubt, else 0.
    """
    with folder_of_its_own() as folder:
        extract(base, folder)
        sides = [
            Subject("runcard", base, source=str(folder / "src")),
            Subject("runcard", "the working tree", source=str(ROOT / "src")),
        ]
        found: dict[str, list[Samples]] = {}
        for work in works:
            if work.key == "install":  # is the same environment for both
                continue
            for _ in range(work.rounds[True] * _ROUNDS):
                for side, subject in enumerate(sides):
                    _take(found, side, subject, work)
    return table(found, base)


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


def table(found: dict[str, list[Samples]], base: str) -> int:
    """Print the rows; 1 when one became slower."""
    slower = 0
    print(f"{'':58} {base[:12]:>12} {'now':>12} {'ratio':>8}")
    for key, row in ROWS.items():
        before, now = found.get(key, [Samples(), Samples()])
        if not before.values or not now.values:
            continue
        ratio = now.middle / before.middle if before.middle else 1.0 + now.middle
        mark = ""
        if ratio > _SLOWER and now.spread[0] > before.middle:
            mark, slower = " slower", 1
        elif ratio < 1 / _SLOWER and now.spread[1] < before.middle:
            mark = " faster"
        print(f"{row.title:58.58} {number(before.middle):>12} {number(now.middle):>12} {ratio:>7.2f}×{mark}")
    return slower


def _take(found: dict[str, list[Samples]], side: int, subject: Subject, work: Work) -> None:
    try:
        trial = work.trial(subject, True)
    except (WorkFailedError, OSError, subprocess.SubprocessError) as error:
        print(f"{work.key}, {subject.title}: {error}", file=sys.stderr)
        return
    for key, samples in trial.items():
        found.setdefault(key, [Samples(), Samples()])[side].add(samples)
