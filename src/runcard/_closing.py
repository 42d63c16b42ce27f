"""How a run ends: the outcome, the result, the judgement, the end event; then the views and the sinks.

The end event is on disk before anything else is tried, so that a disk that fills, a sink that hangs or a second Ctrl-C
takes the views at most.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runcard import _actions, _current, _given, _pulse, _standing, index
from runcard._outcome import Outcome, outcome_of
from runcard._ranking import is_result
from runcard._settling import deliver
from runcard.errors import contained, describe, is_strict, say, warn
from runcard.events import restore
from runcard.journal import last_events
from runcard.record import RunRecord, Status
from runcard.sinks.files import FilesSource, write_views
from runcard.values import plain, returned

if TYPE_CHECKING:
    from pathlib import Path

    from runcard._opening import Life
    from runcard._run import Run

DURABLE_AFTER_S = 1.0  # a run that took so long is worth an fsync


def close_run(run: Run, error: BaseException | None, result: Any = None, *, wait: bool = True) -> None:
    """End a run; our own failure becomes a warning.

    Args:
        run: The run.
        error: What left it; None for a normal end.
        result: What the function returned.
        wait: Whether to wait for the sinks here; a coroutine waits in its loop instead.
    """
    try:
        _close(run, error, result, wait=wait)
    except RecursionError:
        # The user's code has used up the stack; a thread has one of its own.
        thread = threading.Thread(target=_close_again, args=(run, error, result))
        thread.start()
        thread.join()
    except Exception as failure:  # whatever fails here is ours, and never the user's
        contained("write the run's end", last_word, run, error, result)
        if is_strict() and error is None:
            raise
        say(f"the run {run.run_id[-8:]} could not be ended well: {describe(failure)}", once="cannot close")
    finally:
        _forget(run)


def killed_by(run: Run, signal_name: str) -> None:
    """Write the last word of a run that a signal is about to end."""
    if run.is_open:
        run._close(_Killed(signal_name))


def asked_to_stop(run: Run, signal_name: str) -> None:
    """Write the last word now, since the program's own handler may end it; if it goes on, so does the run."""
    life: Life = run._life
    if run.is_open and life.pid == os.getpid() and life.signal is None:
        life.signal = signal_name
        contained("record a signal", _write_end, run, life, _outcome(None, run), None)


def last_word(run: Run, error: BaseException | None, result: Any = None) -> None:
    """Whatever went wrong on the way, a Ctrl-C in its middle or our own failure: the run has ended, and says so."""
    life: Life = run._life
    try:
        if life.end_written or life.pid != os.getpid() or _is_down(life.place.journal_path):
            return
        outcome = _outcome(error, run)
        try:
            _write_end(run, life, outcome, result)
        except Exception:  # what failed before fails again: the bare end is left to say
            run.status = outcome.status
            end = {"kind": "end", "t": time.time(), "status": outcome.status}
            said = {} if outcome.error is None else {"error": life.redactor.tree(outcome.error)[0]}
            try:
                run._journal.append({**end, **said})
            except Exception:  # what the exception says of itself cannot be written
                run._journal.append(end)
            life.end_written = True
    finally:
        _restore_environment(life)
        run._journal.close()
        _forget(run)


def _is_down(path: Path | None) -> bool:
    """Whether the end event got to the journal just before the Ctrl-C came."""
    return path is not None and any(event["kind"] == "end" for event in last_events(path))


class _Killed(BaseException):
    """Stands for a termination signal."""


def _close_again(run: Run, error: BaseException | None, result: Any) -> None:
    contained("end the run", _close, run, error, result, wait=True)


def _close(run: Run, error: BaseException | None, result: Any, *, wait: bool) -> None:
    life: Life = run._life
    if life.console is not None:
        contained("end the console's capture", life.console.stop)
    if life.sampler is not None:
        contained("end the sampling", life.sampler.stop)
    if life.lineage is not None:
        contained("tell the files", life.lineage.stop, run)
    if life.pid != os.getpid():
        run._journal.close()  # a forked child's copy: the parent writes the end
        return
    _actions.record_pending(run)
    _write_end(run, life, _outcome(error, run), result)
    _restore_environment(life)
    if not life.place.owner:
        run._journal.close()
        return
    place = life.place
    record = _record(run, life)
    if life.place.folder is not None:
        known, row = run.attempt > 1, not place.spooled
        contained("write the views", write_views, life.place.folder, record, known=known, row=row)
        index.note(life.place.root, run.run_id)
        if run._options.objective is None:
            contained(
                "tell the experiment's best", _standing.tell, place.root, run.experiment, run.run_id, record.metrics
            )
    deliver(run, life, record, wait=wait)
    run._journal.close()
    _notice(run, life, record)


def _outcome(error: BaseException | None, run: Run) -> Outcome:
    signal = str(error) if type(error) is _Killed else run._life.signal  # `isinstance` would ask the user's object
    if signal is not None:
        return Outcome("killed", error={"type": signal, "message": "the process was asked to stop", "causes": []})
    found = contained("read the exception", outcome_of, error, run._options.expected)
    if found is not None:
        return found
    return Outcome("failed", 1, {"type": type(error).__qualname__, "message": "(it cannot be read)", "causes": []})


def _write_end(run: Run, life: Life, outcome: Outcome, result: Any) -> None:
    """Append the judgement and the end event, and sync them when the run deserves it; a second call does nothing."""
    if life.end_written and life.signal is None:
        return
    metrics, rest, losses = _result(run, life, result)
    resources: dict[str, Any] = dict(life.meter.read())
    if life.inner_calls:
        resources["inner_calls"] = life.inner_calls
    error = None if outcome.error is None else _given.without_secrets(run, life.redactor, outcome.error)
    if outcome.expected is not None:
        _actions.decide(run, "discard", outcome.expected, source="expected")
    is_best = contained("compare with earlier runs", _judge, run, life, metrics, outcome)
    for kind, count in run._losses.items():
        losses[kind] = losses.get(kind, 0) + count
    run._losses.clear()
    if run._journal.unwritten:
        losses["unwritten"] = run._journal.unwritten
    event = {
        "kind": "end",
        "t": time.time(),
        "status": outcome.status,
        "duration_s": resources.get("wall_s"),
        "exit_code": outcome.exit_code,
        "error": error,
        "metrics": metrics,
        "result": rest,
        "is_best": is_best,
        "resources": resources,
        "losses": losses,
    }
    run.status = outcome.status
    written = run._journal.append({key: value for key, value in event.items() if value not in (None, {}, [])})
    life.end_written = True
    if not written:
        warn(f"the end of {run.run_id} could not be written; is the disk full? It will read as crashed", once="end")
    durable = life.settings.durability == "disk" or (resources.get("wall_s") or 0.0) >= DURABLE_AFTER_S
    if written and durable and run._journal.sync():
        run._journal.append({"kind": "durable", "t": time.time()})


def _result(run: Run, life: Life, result: Any) -> tuple[dict[str, Any], Any, dict[str, int]]:
    """The numbers of what was returned, as metrics; and a bounded summary of the rest."""
    if result is None:
        return {}, None, {}
    losses: dict[str, int] = {}
    numbers, rest = contained("read the result", returned, result) or ({}, None)
    metrics = {}
    for name, value in numbers.items():
        clean = _actions.metric_name(run, name or run._options.objective or "result")
        if clean is not None:
            metrics[clean] = value
    summary = None
    if rest is not None:
        told = plain(rest)
        summary, hidden = life.redactor.tree(told.value)
        if hidden + told.hidden:
            losses["redacted"] = hidden + told.hidden
        if told.cuts:
            losses["cut"] = told.cuts
    return metrics, summary, losses


def _judge(run: Run, life: Life, metrics: dict[str, Any], outcome: Outcome) -> bool | None:
    """Whether this run is better than every one of its experiment that had ended before; decides when asked to."""
    objective, direction = run._options.objective, run._options.direction
    if objective is None or direction is None or life.place.folder is None:
        return None
    value = restore(metrics.get(objective, _last_value(run, life, objective)))
    standing = _standing.judge(
        life.place.root,
        run.experiment,
        value,
        objective=objective,
        direction=direction,
        run_id=run.run_id,
        counts=outcome.status == "finished",
        records=FilesSource(life.place.root).records,
    )
    if run._options.auto_decide and not life.decided and outcome.expected is None:
        decision = "keep" if standing.is_best else "discard"
        reason = _reason(run, value, standing) if outcome.status == "finished" else f"the run {outcome.status}"
        _actions.decide(run, decision, reason, source="auto")
    return standing.is_best


def _last_value(run: Run, life: Life, name: str) -> Any:
    return life.place.record(run.run_id).metrics.get(name)


def _reason(run: Run, value: Any, standing: _standing.Standing) -> str:
    """Why a run was kept or discarded by itself."""
    objective = run._options.objective
    if not is_result(value):
        return f"no {objective} to judge by"
    told = f"{objective} {_six(value)}"
    if standing.best is None:
        return f"{told}, the first of {run.experiment}"
    verb = "beats" if standing.is_best else "does not beat"
    return f"{told} {verb} {_six(standing.best)} ({(standing.run_id or '')[-8:]})"


def _six(value: int | float) -> str:
    """A number in six digits; an integer beyond floats by its size."""
    return f"{value:.6g}" if isinstance(value, float) or abs(value) < 2**1000 else hex(value)[:20] + "…"


def _record(run: Run, life: Life) -> RunRecord:
    record = life.place.record(run.run_id)
    if life.place.folder is not None and record.status is not Status(run.status):  # the end did not reach the disk
        return replace(record, status=Status(run.status))
    return record


def _restore_environment(life: Life) -> None:
    if life.exported is None:
        return
    before = life.exported[0]
    if before is None:
        os.environ.pop("RUNCARD_PARENT", None)
    else:
        os.environ["RUNCARD_PARENT"] = before
    life.exported = None


def _forget(run: Run) -> None:
    _current.open_runs.pop(id(run), None)
    _pulse.forget(run)


def _notice(run: Run, life: Life, record: RunRecord) -> None:
    """One line on a terminal: which run that was, how it ended, where it lies."""
    stderr = sys.stderr
    try:
        if run.parent is not None or stderr is None or not stderr.isatty():
            return
        seconds = record.duration_s or 0.0
        took = f"{seconds:.1f}s" if seconds < 60 else f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
        where = life.place.folder or ", ".join(str(sink) for sink in life.settings.sinks)
        if life.place.folder is not None:
            try:
                where = os.path.relpath(life.place.folder)
            except (OSError, ValueError):
                pass  # another drive, or no working directory: the absolute path it is
        stderr.write(f"runcard {run.run_id[-8:]} {run.status} in {took}: {where}\n")
    except (OSError, ValueError):
        pass  # the terminal is gone
