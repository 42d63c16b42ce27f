"""Which run `resume=` or RUNCARD_RESUME goes on with, and the journal of its next attempt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runcard.errors import AmbiguousRun, RunNotFound, RunStateError
from runcard.identity import scheduler_job
from runcard.journal import Journal
from runcard.record import RunRecord, Status
from runcard.sinks.files import file_mode

if TYPE_CHECKING:
    from runcard._run import Run


def resumed(run: Run, root: Path, config_hash: str | None) -> tuple[str, Path, int, Journal] | None:
    """The next attempt of the run that ``resume=`` or ``RUNCARD_RESUME`` names; None to begin a new one.

    Returns:
        The run's id, its folder, the attempt's number and its journal.

    Raises:
        RunStateError: When that run still goes on, or is finished.
    """
    wanted = run._options.resume or (os.environ.get("RUNCARD_RESUME") if run.parent is None else None)
    if not wanted:
        return None
    from runcard.store import open_store

    store = open_store(root)
    if wanted == "auto":
        record = _unfinished(store.runs(experiment=run.experiment), config_hash)
        if record is None:
            return None
    else:
        said = "" if run._options.resume else "RUNCARD_RESUME: "
        try:
            record = store.get(wanted)
        except (RunNotFound, AmbiguousRun) as error:
            raise type(error)(f"{said}{error}") from None
        if record.status is Status.RUNNING and not _was_requeued(record):
            raise RunStateError(f"{said}the run {record.short_id} still goes on; a running run cannot be resumed")
        if record.status is Status.FINISHED:
            raise RunStateError(
                f"{said}the run {record.short_id} is finished; begin a new one, or resume one that is not"
            )
    assert record.folder is not None
    folder = Path(record.folder)
    return record.run_id, folder, *_next_attempt(root, record, folder)


def _next_attempt(root: Path, record: RunRecord, folder: Path) -> tuple[int, Journal]:
    numbers = [int(entry.get("attempt") or 1) for entry in record.attempts]
    for attempt in range(max(numbers, default=1) + 1, 10_000):
        path = folder / f"journal-attempt{attempt}.jsonl"
        try:
            journal = Journal(path, exclusive=True, mode=file_mode(root, "private"))
        except FileExistsError:
            continue
        return attempt, journal
    raise RunStateError(f"the run {record.short_id} was tried ten thousand times")


def _unfinished(records: list[RunRecord], config_hash: str | None) -> RunRecord | None:
    """The newest run of this experiment, config and scheduler job that did not finish and does not go on."""
    job = scheduler_job(os.environ)
    for record in records:
        if record.status is Status.FINISHED or record.config_hash != config_hash or config_hash is None:
            continue
        if record.status is Status.RUNNING and not _was_requeued(record):
            continue
        if job is None or job == (record.attempts[-1].get("job") if record.attempts else None):
            return record
    return None


def _was_requeued(record: RunRecord) -> bool:
    """Whether the scheduler itself says that an earlier attempt of this job is dead."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    job = scheduler_job(os.environ)
    return (
        restarts.isdecimal()
        and int(restarts) > 0
        and job is not None
        and bool(record.attempts)
        and record.attempts[-1].get("job") == job
    )
