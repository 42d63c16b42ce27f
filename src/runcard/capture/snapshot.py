"""The environment of a run, taken once and shared: by nested runs, and by runs of one process within a minute.

Each question has its own file here and is guarded on its own: one that fails is left out of the environment, and the
failure is said once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from runcard.errors import contained
from runcard.journal import Known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.redact import Redactor

SHARED_FOR_S = 60.0
_WANTED = frozenset(("git", "packages", "host", "hardware", "command"))


class Snapshot(NamedTuple):
    """What surrounds a run.

    Attributes:
        environment: The record's `environment`.
        encoded: The same as one piece of JSON, made once for all runs that share it.
        known: The same as a start event ends with it.
        files: Name → content of the files beside the journal: environment.json, requirements.txt, diff.patch.
    """

    environment: dict[str, Any]
    encoded: orjson.Fragment
    known: Known
    files: Mapping[str, bytes]


_taken: dict[tuple[Any, ...], tuple[float, Snapshot]] = {}
_turn = threading.RLock()  # re-entrant: a signal handler may begin a run in the middle of it
_PATIENCE_S = 3.0  # then a thread takes its own: a fork may have copied the lock while another held it


def take(wanted: frozenset[str], code: Path | None, redactor: Redactor) -> Snapshot:
    """The snapshot for code in the file ``code``: a shared one that is younger than a minute, else a new one.

    Args:
        wanted: Names of captures; the others are left out.
        code: The file that holds the code that runs; its repository is the run's. None when there is none.
        redactor: Takes secrets out.
    """
    key = (os.getpid(), wanted & _WANTED, str(code), _cwd(), tuple(sys.argv), redactor)
    shared = _shared(key)
    if shared is not None:
        return shared
    is_ours = _turn.acquire(timeout=_PATIENCE_S)  # of threads that begin at once, the first takes it for all
    try:
        snapshot = _shared(key)
        if snapshot is None:
            snapshot = _take(wanted, code, redactor)
            now = time.monotonic()
            for stale in [each for each, (when, _) in _taken.items() if now - when >= SHARED_FOR_S]:
                _taken.pop(stale, None)
            _taken[key] = (now, snapshot)
        return snapshot
    finally:
        if is_ours:
            _turn.release()


def _shared(key: tuple[Any, ...]) -> Snapshot | None:
    known = _taken.get(key)
    return known[1] if known is not None and time.monotonic() - known[0] < SHARED_FOR_S else None


def forget() -> None:
    """Take the next snapshot anew; for tests, and for who changed the code on purpose."""
    _taken.clear()


def _take(wanted: frozenset[str], code: Path | None, redactor: Redactor) -> Snapshot:
    environment: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    if "git" in wanted:
        contained("capture git", _add_git, environment, files, code, redactor)
    if "packages" in wanted:
        contained("capture the packages", _add_packages, environment, files, redactor)
    if "host" in wanted:
        contained("capture the host", _add_host, environment, redactor)
    if "hardware" in wanted:
        contained("capture the hardware", _add_hardware, environment)
    if "command" in wanted:
        contained("capture the command", _add_command, environment, redactor)
    for name in ("python", "platform", "command", "process"):  # the name of a folder or a job: nothing is exempt
        if name in environment:
            environment[name] = redactor.tree(environment[name])[0]
    environment = {name: environment[name] for name in _ORDER if name in environment}
    encoded = orjson.dumps(environment)
    if environment:
        files["environment.json"] = orjson.dumps(environment, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    known = Known("environment", environment, b',"environment":%b}' % encoded)
    return Snapshot(environment, orjson.Fragment(encoded), known, files)


def _add_git(environment: dict[str, Any], files: dict[str, bytes], code: Path | None, redactor: Redactor) -> None:
    from runcard.capture import git, source

    cwd = Path(_cwd())
    root = git.repository_of(code) if code is not None else None
    cwd_root = git.repository_of(cwd)
    home = root or (cwd_root if code is None else None)  # code without a file runs where it was typed
    if home is None:
        environment["git"] = {"state": "no-repository"}
    else:
        state, patch = git.capture(home, redactor)
        edited = source.edited_since_import(home)
        if edited:
            state = {**state, "state": "edited", "edited": edited[:100], "incomplete": True}
        environment["git"] = redactor.tree(state)[0]
        if patch:
            files["diff.patch"] = patch
    if cwd_root is not None and cwd_root != home:
        environment["git_cwd"] = redactor.tree({**git.capture(cwd_root, redactor).state, "patch": None})[0]


def _add_packages(environment: dict[str, Any], files: dict[str, bytes], redactor: Redactor) -> None:
    from runcard.capture import packages

    found = packages.capture(redactor)
    environment["packages"] = found
    if found:
        files["requirements.txt"] = packages.requirements(found).encode("utf-8", "replace")


def _add_host(environment: dict[str, Any], redactor: Redactor) -> None:
    from runcard.capture import host

    environment.update(host.capture())
    environment["process"] = host.process(os.environ)
    environment["variables"] = host.variables(os.environ, redactor)


def _add_hardware(environment: dict[str, Any]) -> None:
    from runcard.capture import hardware

    environment["hardware"] = hardware.capture()


def _add_command(environment: dict[str, Any], redactor: Redactor) -> None:
    from runcard.capture import command

    environment["command"] = command.capture(redactor)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return os.sep


_ORDER = ("git", "git_cwd", "packages", "python", "platform", "hardware", "command", "process", "variables")
