"""Programs for tests that need a process of their own: forks, signals, exit codes, interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from runcard.journal import Reading, writers


def program(folder: Path, code: str, name: str = "program.py") -> Path:
    """Write a program into a folder."""
    path = folder / name
    path.write_text(textwrap.dedent(code), "utf-8")
    return path


def started(path: Path, *args: str, options: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[str]:
    """Start a program, its output piped as text."""
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more.pop("env", {})}
    piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    return subprocess.Popen([sys.executable, *options, str(path), *args], env=variables, cwd=path.parent, **piped)


def finished(path: Path, *args: str, timeout: float = 90, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; one that hangs fails the test."""
    process = started(path, *args, **more)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the program hung\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def quietly(path: Path, *args: str, **more: Any) -> str:
    """Run a program that must end well and say nothing on standard error; what it printed."""
    done = finished(path, *args, **more)
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stdout, done.stderr)
    return done.stdout


def kinds(folder: str | Path) -> Counter[str]:
    """How many events of each kind the journals of a run's folder hold, by all writers."""
    return Counter(event["kind"] for path in writers(Path(folder)).values() for event in Reading(path))
