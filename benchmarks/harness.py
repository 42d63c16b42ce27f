"""Starting the subjects' processes, and what comes of them: samples, medians, spread, goals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = Path(__file__).with_name("worker.py")
ROOT = WORKER.parents[1]
_LIMIT_S = 600


@dataclass(frozen=True)
class Subject:
    """A tracker, the interpreter of its virtual environment, and the source tree if it is not installed there.

    Attributes:
        key: The module below `benchmarks.subjects`.
        title: How tables call it.
        python: The interpreter.
        source: A folder put on the path, for another revision of runcard.
        worker: The program that does the work; a copy where it matters in which repository it lies.
    """

    key: str
    title: str
    python: str = sys.executable
    source: str | None = None
    worker: Path = WORKER

    def environment(self) -> dict[str, str]:
        """A process's variables: nobody's settings, no network, no terminal."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        told = {"PYTHONHASHSEED": "0", "NO_COLOR": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
        told |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "TRACKIO_LOG_LEVEL": "ERROR"}
        told |= {"DVC_NO_ANALYTICS": "1", "DVCLIVE_LOG_LEVEL": "ERROR", "MLFLOW_ALLOW_FILE_STORE": "true"}
        return kept | told | ({"PYTHONPATH": self.source} if self.source else {})

    def command(self, work: str, folder: Path, arguments: dict[str, Any]) -> list[str]:
        """What starts one piece of work; ``-P`` keeps the worker's neighbours from hiding a tracker."""
        return [self.python, "-P", str(self.worker), self.key, work, str(folder), json.dumps(arguments)]

    def do(self, work: str, folder: Path, *, cwd: Path | None = None, **arguments: Any) -> dict[str, Any]:
        """Do one piece of work in a process of its own, and give its answer.

        Raises:
            WorkFailedError: When the subject could not do it.
        """
        done = subprocess.run(
            self.command(work, folder, arguments),
            env=self.environment(),
            cwd=cwd or folder,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode or not done.stdout.strip():
            raise WorkFailedError(f"{self.title}, {work}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


class WorkFailedError(Exception):
    """A subject could not do a piece of work."""


@dataclass
class Samples:
    """What was measured for one row and one subject.

    Attributes:
        values: In the row's unit.
        raw: The building block beside which each was measured, in the same unit; empty when there is none.
        note: What a number alone does not say.
    """

    values: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    note: str = ""

    def add(self, other: Samples) -> None:
        """Take another trial's."""
        self.values += other.values
        self.raw += other.raw
        self.note = other.note or self.note

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """How often the building block fits into it: the median of the pairs, which were measured in turn."""
        if not self.raw:
            return None
        if len(self.raw) == len(self.values):
            return median(value / raw for value, raw in zip(self.values, self.raw, strict=True))
        return median(self.values) / median(self.raw)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and last tenth."""
        ordered = sorted(self.values)
        last = len(ordered) - 1
        return ordered[round(last * 0.1)], ordered[round(last * 0.9)]


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """A new folder, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def copy_worker(folder: Path) -> Path:
    """A copy of the worker and the subjects below a folder, as a user's program lies in the user's repository."""
    shutil.copytree(WORKER.parent / "subjects", folder / "subjects", ignore=shutil.ignore_patterns("__pycache__"))
    return Path(shutil.copy(WORKER, folder))


def bytes_below(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
