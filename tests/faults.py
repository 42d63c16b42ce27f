"""Faults from outside a program, by strace: errors and kills at one chosen system call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def traced(path: Path, *options: str, timeout: float = 90, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program under strace with these options, to its end, be it what it may."""
    command = ["strace", "-f", "-qq", "-o", str(path.with_suffix(".trace")), *options, sys.executable, str(path)]
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        command, env=variables, cwd=path.parent, capture_output=True, text=True, timeout=timeout, check=False
    )


def calls_of(path: Path, names: str, **variables: str) -> Counter[str]:
    """How often a program makes these system calls, by name; of the one that makes them most, where it has threads."""
    done = traced(path, "-e", f"trace={names}", **variables)
    assert done.returncode == 0, done.stderr
    counts: Counter[str] = Counter()
    for line in path.with_suffix(".trace").read_text("utf-8", "replace").splitlines():
        found = re.match(r"\d+ +(\w+)\(", line)
        if found:
            counts[found[1]] += 1
    return counts


def wrapped(path: Path, *wrapper: str, timeout: float = 90, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program by way of another command (``env -u HOME``, ``unshare …``); variables set to nothing are unset."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    env = {name: value for name, value in env.items() if value}
    command = [*wrapper, sys.executable, str(path)]
    return subprocess.run(
        command, env=env, cwd=path.parent, capture_output=True, text=True, timeout=timeout, check=False
    )


def mounted(path: Path, mounts: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a mount namespace of its own, after these shell commands."""
    return wrapped(path, "unshare", "-rm", "sh", "-c", " && ".join([*mounts, 'exec "$0" "$@"']), **variables)
