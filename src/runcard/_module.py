"""`log`, `keep` and the others that act on the current run. With none current they warn once and do nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from runcard._current import current_run, here, is_disabled, open_runs
from runcard.errors import warn

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path


def log(metrics: Mapping[str, Any] | None = None, /, *, step: float | None = None, **named: Any) -> None:
    """Record metrics of one step; when this returns, they survive ``kill -9``.

    Args:
        metrics: Name → number; also zero-dimensional arrays and tensors.
        step: The step; without it, how many points of that name there were before.
        named: Metrics as keywords: ``log(loss=0.5)``.
    """
    run = here.get()
    if run is None:
        run = current_run()
        if run is None:
            _nobody("log")
            return
    if metrics is not None:
        named = metrics.copy() if type(metrics) is dict and not named else run._merged(metrics, named)
    run.log_points(named, step)


def log_artifact(
    path: str | os.PathLike[str], name: str | None = None, *, copy: bool = True, transient: bool = False
) -> None:
    """Keep a file or folder with the current run; see `Run.log_artifact`."""
    run = _run("log_artifact")
    if run is not None:
        run.log_artifact(path, name, copy=copy, transient=transient)


def artifact_path(name: str, *, transient: bool = False) -> Path:
    """A path inside the current run to write a file to; without a run, a temporary one. See `Run.artifact_path`."""
    run = _run("artifact_path")
    if run is not None:
        path: Path = run.artifact_path(name, transient=transient)
        return path
    from runcard._files import temporary_path

    return temporary_path(name)


def log_input(path: str | os.PathLike[str]) -> None:
    """Record a file that the current run reads, with its hash; see `Run.log_input`."""
    run = _run("log_input")
    if run is not None:
        run.log_input(path)


def log_config(config: Any = None, /, **named: Any) -> None:
    """Add keys to the current run's config; see `Run.log_config`."""
    run = _run("log_config")
    if run is not None:
        run.log_config(config, **named)


def keep(reason: str | None = None) -> None:
    """Judge the current run: keep it, because."""
    run = _run("keep")
    if run is not None:
        run.keep(reason)


def discard(reason: str | None = None) -> None:
    """Judge the current run: discard it, because."""
    run = _run("discard")
    if run is not None:
        run.discard(reason)


def tag(*tags: str) -> None:
    """Add tags to the current run."""
    run = _run("tag")
    if run is not None:
        run.tag(*tags)


def note(text: str) -> None:
    """Add a note to the current run."""
    run = _run("note")
    if run is not None:
        run.note(text)


def _run(function: str) -> Any:
    run = here.get()  # a closed one counts what comes too late
    if run is None:
        run = current_run()
        if run is None:
            _nobody(function)
    return run


def _nobody(function: str) -> None:
    """Say once that nothing is recorded; runs that are open, but not this thread's, count it."""
    if sys.is_finalizing():
        return  # a `__del__` at the very end: there is nothing left to say it with
    if is_disabled():
        return
    for run in list(open_runs.values()):
        run.lose("unattributed")
    what = "gave a temporary path" if function == "artifact_path" else "did nothing"
    where = "several runs are open and none is this thread's" if open_runs else "no run is open here"
    warn(
        f"{function}() {what}: {where}; call it inside @tracked or `with run():`, or on the run itself",
        once=f"{function} without a run",
    )
