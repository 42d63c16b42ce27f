"""How a run begins: settings, place, parent, snapshot, and the start event on disk before the user's code runs."""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard import _current, _given, _places, _rerun_link, errors, settings
from runcard._beside import start_beside
from runcard.capture import host, resources, seeds, snapshot, source
from runcard.errors import RunStateError, SettingError, contained, warn
from runcard.events import SCHEMA_VERSION
from runcard.identity import Token, parse_token, scheduler_job, this_process
from runcard.redact import Redactor
from runcard.sinks import registry
from runcard.values import plain_text

if TYPE_CHECKING:
    import types

    from runcard._places import Place
    from runcard._run import Run
    from runcard.delivery import Delivery
    from runcard.settings import Settings


class Life:
    """What a run needs while it is open, from its opening to its closing."""

    def __init__(self, wanted: Settings, redactor: Redactor, place: Place) -> None:
        self.settings = wanted
        self.redactor = redactor
        self.place = place
        self.meter = resources.Meter()
        self.pid = os.getpid()
        self.inner_calls = 0
        self.decided = False
        self.end_written = False
        self.signal: str | None = None  # the termination signal that the program's own handler got too
        self.sink_problems = 0
        self.config_exact = True
        self.user: str | None = None
        self.pending: dict[str, tuple[Path, bool]] = {}  # artifact paths given out: name → path, transient
        self.snapshot: snapshot.Snapshot | None = None
        self.delivery: Delivery | None = None
        self.console: Any = None
        self.sampler: Any = None
        self.lineage: Any = None
        self.exported: tuple[str | None] | None = None  # RUNCARD_PARENT before, when this run exported its own

    def waiting(self) -> list[Any]:
        """What a coroutine's end still waits for."""
        return self.delivery.tickets if self.delivery is not None else []


def open_run(run: Run) -> bool:
    """Begin a run; False when our own failure means that it goes on unrecorded.

    Raises:
        SettingError: For settings that are not accepted; `RunStateError` for a run that cannot be resumed.
    """
    try:
        _begin(run)
    except (SettingError, RunStateError, errors.StoreError):
        raise
    except Exception as error:  # what fails here is ours: the user's code runs all the same
        if errors.is_strict():
            raise
        warn(f"the run {run.name!r} could not be recorded: {errors.describe(error)}", once="cannot open")
        return False
    return True


def _begin(run: Run) -> None:
    options = run._options
    wanted = settings.current(sinks=options.sinks, capture=options.capture)
    registry.check_settings(wanted.sinks)  # from a variable or a file, this is the first time that anybody looks
    errors.set_strict(wanted.strict)
    redactor = _redactor(wanted.redact_keep)
    parent, token = _parent(run)
    run.parent = parent
    _given.set_name(run, token, redactor)
    config = _given.config_of(run, redactor)
    _rerun_link.claim(run)
    place = _places.find(run, wanted, token, config["config_hash"])
    run.root, run.folder, run.run_id, run.attempt = place.root, place.folder, place.run_id, place.attempt
    run.config = config["config"]
    run._journal = place.journal
    life = run._life = Life(wanted, redactor, place)
    wanted_captures = wanted.capture
    code = source.file_of(run._function) if run._function is not None else _callers_file()
    life.config_exact = config["config_hash"] is not None
    life.user = _who()
    life.snapshot = snapshot.take(wanted_captures, code, redactor)
    rerun = _rerun_link.begun(run, is_child=parent is not None or token is not None)
    if options.seed is not None:
        seed: Any = contained("seed the generators", seeds.seed_all, options.seed)
    else:
        seed = contained("read the generators' state", seeds.state)
    alive = this_process()
    read = _given.inputs_of(run, life) if "inputs" in wanted_captures else []
    life.meter = resources.Meter()  # what the capture took is not the run's
    start: dict[str, Any] = {
        "kind": "start",
        "t": time.time(),
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "attempt": run.attempt,
        "name": run.name,
        "experiment": run.experiment,
        **_kinship(run, parent, token),
        **rerun,
        **config,
        "function": _given.function_of(run, redactor) if "source" in wanted_captures else None,
        "tags": [_given.without_secrets(run, redactor, plain_text(tag)) for tag in options.tags],
        "notes": None if options.notes is None else _given.without_secrets(run, redactor, plain_text(options.notes)),
        "objective": options.objective,
        "direction": options.direction,
        "user": life.user,
        "host": alive["host"],
        "alive": alive,
        "job": scheduler_job(os.environ),
        "process_rank": place.rank,
        "launch": place.launch,
        "seed": seed,
        "inputs": read,
        "durability": wanted.durability,
        "losses": {**run._losses, **place.losses},
        "environment": life.snapshot.encoded,
    }
    run._losses.clear()
    place.known = life.snapshot.known
    if not run._journal.append({key: value for key, value in start.items() if value not in (None, [], {})}):
        place = _places.give_up(run, start)
        life.place = place
    if place.owner and place.folder is not None:
        shared = life.snapshot.files
        contained("write the start's files", _places.write_start, place, config["config"], shared)
    run._opened()
    _current.open_runs[id(run)] = run
    start_beside(run, life)


@lru_cache(maxsize=1)
def _who() -> str | None:
    return contained("tell the user", host.user)


_redactors: dict[tuple[str, ...], Redactor] = {}


def _redactor(keep: tuple[str, ...]) -> Redactor:
    found = _redactors.get(keep)
    if found is None:
        found = _redactors[keep] = Redactor(keep)
    return found


def _parent(run: Run) -> tuple[Run | None, Token | None]:
    """The open run of this process that this one belongs to, or else the token of one elsewhere."""
    given = run._options.parent
    if given is not None:
        token = parse_token(given.token() if hasattr(given, "token") else str(given))
        if token is None:
            raise SettingError(f"parent={str(given)[:80]!r} is no token; r.token() gives one")
        for open_run_ in list(_current.open_runs.values()):
            if open_run_.run_id == token.run_id:
                return open_run_, None
        return None, token
    current = _current.here.get()
    attached = _current.attached.get()
    if attached is not None and (current is None or not current.is_open):
        return None, attached
    parent = _current.parent_of_new_run()
    if parent is not None:
        return parent, None
    text = os.environ.get("RUNCARD_PARENT")
    if not text:
        return None, None
    token = parse_token(text)
    if token is None:
        warn(f"RUNCARD_PARENT={text[:80]!r} is no token and is left aside", once="RUNCARD_PARENT")
    elif any(each.run_id == token.run_id for each in list(_current.open_runs.values())):
        return None, None  # our own export, seen by a run of another thread
    return None, token


def _kinship(run: Run, parent: Run | None, token: Token | None) -> dict[str, str | None]:
    """`parent_id` of a run that is open, here or elsewhere; `launched_by` for one that has ended."""
    if parent is not None:
        run.parent_id = parent.run_id
    elif token is not None:
        if not _places.is_open(token):
            return {"parent_id": None, "launched_by": token.run_id}
        run.parent_id = token.run_id
    return {"parent_id": run.parent_id}


def _callers_file() -> Path | None:
    """The file of the user's frame that opens the block."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("runcard."):
        frame = frame.f_back
    if frame is None:
        return None
    filename = frame.f_code.co_filename
    return Path(os.path.abspath(filename)) if os.path.isfile(filename) else None
