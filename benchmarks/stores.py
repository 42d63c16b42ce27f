"""Stores and repositories to measure in, made quickly: the files are those that runcard and git would write."""

from __future__ import annotations

import os
import random
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.harness import OutOfTimeError, Subject, copy_worker, folder_of_its_own

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def make_store(root: Path, runs: int, *, start: int = 0, until: float | None = None) -> None:
    """Finished runs of 10 config values and 3 metrics, each its journal, ended an hour ago.

    The pattern is one run that runcard recorded here; ids, times, config and metrics differ from run to run.

    Raises:
        OutOfTimeError: When it is not done ``until`` then, in the seconds of `time.monotonic`.
    """
    from runcard.journal import encode

    events = _pattern()
    chance = random.Random(start)
    root.mkdir(parents=True, exist_ok=True)
    an_hour_ago = time.time() - 3600
    for number in _in_time(range(start, start + runs), until, "runs"):
        began = _BEGAN + timedelta(seconds=number)
        run_id = f"{began:%Y%m%dT%H%M%S}-{_short(number)}"
        folder = root / run_id
        folder.mkdir()
        lines = []
        for event in events:
            changed: dict[str, Any] = event | {"t": event["t"] - events[0]["t"] + began.timestamp()}
            if event["kind"] == "start":
                config = event["config"] | {"lr": chance.random(), "seed": number}
                changed |= {"run_id": run_id, "config": config, "config_hash": f"{number:064x}"}
            if "metrics" in event:
                changed["metrics"] = {name: chance.random() for name in event["metrics"]}
            lines.append(encode(changed))
        path = folder / "journal.jsonl"
        path.write_bytes(b"".join(lines))
        os.utime(path, (an_hour_ago, an_hour_ago))


def make_repository(root: Path, *, files: int, until: float | None = None) -> Path:
    """A repository of so many committed files in folders of 50, one changed and one untracked; and of the worker.

    Raises:
        OutOfTimeError: When it is not done ``until`` then, in the seconds of `time.monotonic`.
    """
    root.mkdir(parents=True)
    copy_worker(root)
    for number in _in_time(range(files), until, "files"):
        folder = root / f"part{number // 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{number}.py").write_text(f"VALUE = {number % 1_000}\n" * 20)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "files"],
    ):
        left = None if until is None else max(0.0, until - time.monotonic())
        try:
            subprocess.run(["git", *command], cwd=root, check=True, capture_output=True, timeout=left)
        except subprocess.TimeoutExpired:
            raise OutOfTimeError(f"a repository of {files:,} files: cut in git {command[0]}") from None
    (root / "part0" / "module0.py").write_text("VALUE = 'changed'\n")
    (root / "new.py").write_text("VALUE = 'new'\n")
    return root


def _in_time(numbers: range, until: float | None, what: str) -> Iterator[int]:
    """The numbers, as long as there is time."""
    for number in numbers:
        if until is not None and number % 100 == 0 and time.monotonic() > until:
            raise OutOfTimeError(f"making {len(numbers):,} {what}: cut after {number - numbers[0]:,}")
        yield number


def _pattern() -> list[dict[str, Any]]:
    """The events of one run, recorded by runcard in a process of its own."""
    from runcard.journal import Reading

    with folder_of_its_own() as folder:
        Subject("runcard", "runcard").do("empty_runs", folder, count=0)
        path = next(folder.glob("*/journal.jsonl"))
        return [dict(event) for event in Reading(path)]


def _short(number: int) -> str:
    letters = "0123456789abcdefghjkmnpqrstvwxyz"
    text = ""
    for _ in range(8):
        number, rest = divmod(number, 32)
        text = letters[rest] + text
    return text
