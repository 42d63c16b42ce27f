"""Starting the subjects' processes, each within its time, and cleaning up behind them."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = Path(__file__).with_name("worker.py")
ROOT = WORKER.parents[1]
_LIMIT_S = 600.0


@dataclass(frozen=True)
class Subject:
    """A tracker, the interpreter of its virtual environment, and the source tree if it is not installed there.

    Attributes:
        key: The module below `benchmarks.subjects`.
        title: How tables call it.
        python: The interpreter.
        source: A folder put on the path, for another revision of runcard.
        worker: The program that does the work; a copy where it matters in which repository it lies.
        side: Under which its results are kept, where two revisions of one tracker are compared; else its key.
        until: When its processes are ended, in the seconds of `time.monotonic`; None is after ten minutes each.
    """

    key: str
    title: str
    python: str = sys.executable
    source: str | None = None
    worker: Path = WORKER
    side: str = ""
    until: float | None = None

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

    def start(self, command: list[str], cwd: Path, *, heard: bool = True) -> subprocess.Popen[str]:
        """Start a process in a group of its own, so that it can be ended with all that it has started."""
        output = subprocess.PIPE if heard else subprocess.DEVNULL
        return subprocess.Popen(
            command,
            env=self.environment(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str], what: str) -> str:
        """Wait for the end of a process, and give what it printed.

        Raises:
            WorkFailedError: When it failed, with its last words.
            OutOfTimeError: When its time was over.
        """
        begun = time.monotonic()
        try:
            said, complained = process.communicate(timeout=self.left())
        except subprocess.TimeoutExpired:
            end(process)
            raise OutOfTimeError(f"{self.title}, {what}: cut after {time.monotonic() - begun:.0f} s") from None
        except BaseException:  # Ctrl-C: the process is in a group of its own, and would go on
            end(process)
            raise
        if process.returncode:
            words = _last_words(complained) or f"exit {process.returncode}"
            raise WorkFailedError(f"{self.title}, {what}: failed: {words}")
        return said

    def reason(self, error: Exception) -> str:
        """Why a piece of work gave nothing, for a cell of the table that is this subject's already."""
        return str(error).removeprefix(f"{self.title}, ") or type(error).__name__

    def left(self) -> float:
        """The seconds that a process may still take."""
        return _LIMIT_S if self.until is None else max(0.0, min(_LIMIT_S, self.until - time.monotonic()))

    def do(self, work: str, folder: Path, *, cwd: Path | None = None, **arguments: Any) -> dict[str, Any]:
        """Do one piece of work in a process of its own, and give its answer.

        Raises:
            WorkFailedError: When the subject could not do it, or not in its time.
        """
        said = self.finish(self.start(self.command(work, folder, arguments), cwd or folder), work)
        if not said.strip():
            raise WorkFailedError(f"{self.title}, {work}: failed: it gave no answer")
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer


class WorkFailedError(Exception):
    """A subject could not do a piece of work, or not in its time."""


class OutOfTimeError(WorkFailedError):
    """A piece of work was cut."""


@dataclass(frozen=True)
class Extent:
    """How much of a work is done.

    Attributes:
        quick: Whether in the mode of two minutes.
        limit: No size of a growth above it.
    """

    quick: bool = False
    limit: int | None = None

    def sizes(self, sizes: tuple[int, ...], *, quick: int) -> list[int]:
        """Those of a growth's sizes that are wanted; ``quick`` is the greatest of the quick mode."""
        most = quick if self.quick else sizes[-1]
        return [size for size in sizes if size <= most and (self.limit is None or size <= self.limit)]


@contextmanager
def folder_of_its_own(*, large: bool = False) -> Iterator[Path]:
    """A new folder, gone when the session ends; a large one at once.

    ext4 does not use the inodes of deleted files again for a while, and looks at each of them, one after
    another, for every file that is made near by: what one trial removes, the next ones pay for.
    """
    path = Path(tempfile.mkdtemp(prefix="bench-"))
    if not large:
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    try:
        yield path
    finally:
        if large:
            shutil.rmtree(path, ignore_errors=True)


def end(process: subprocess.Popen[str]) -> None:
    """End a process and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def copy_worker(folder: Path) -> Path:
    """A copy of the worker and the subjects below a folder, as a user's program lies in the user's repository."""
    shutil.copytree(WORKER.parent / "subjects", folder / "subjects", ignore=shutil.ignore_patterns("__pycache__"))
    return Path(shutil.copy(WORKER, folder))


def bytes_below(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _last_words(complained: str) -> str:
    """The last line of a traceback, short, and without the folders of this machine."""
    lines = [line.strip() for line in complained.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Timeout)\b", line)]
    text = (named or lines or [""])[-1]
    return re.sub(r"(?:/[^\s/'\":,()]+)+/([^\s/'\":,()]+)", r"\1", text)[:160]
