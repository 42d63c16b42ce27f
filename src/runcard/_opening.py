"""How a run begins: settings, place, parent, snapshot, and the start event on disk before the user's code runs."""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard import _current, _places, _pulse, _rerun_link, errors, settings
from runcard.capture import host, inputs, resources, seeds, snapshot, source
from runcard.delivery import Delivery, is_live, sink_at
from runcard.errors import RunStateError, SettingError, contained, warn
from runcard.events import SCHEMA_VERSION
from runcard.identity import Token, parse_token, scheduler_job, this_process
from runcard.redact import Redactor
from runcard.sinks import registry
from runcard.values import config_hash, plain, plain_text

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping

    from runcard._places import Place
    from runcard._run import Run
    from runcard.settings import Settings


class Life:
    """What a run needs while it is open, from its opening to its closing."""

    def __init__(self, run: Run, wanted: Settings, redactor: Redactor, place: Place) -> None:
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
        self.run = run

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
    for sink in wanted.sinks:
        registry.check(sink)  # from a variable or a file, this is the first time that anybody looks
    errors.set_strict(wanted.strict)
    redactor = _redactor(wanted.redact_keep)
    parent, token = _parent(run)
    run.parent = parent
    _name(run, token, redactor)
    config = _config(run, redactor)
    _rerun_link.claim(run)
    place = _places.find(run, wanted, token, config["config_hash"])
    run.root, run.folder, run.run_id, run.attempt = place.root, place.folder, place.run_id, place.attempt
    run.config = config["config"]
    run._journal = place.journal
    life = run._life = Life(run, wanted, redactor, place)
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
    read = _inputs(run, life) if "inputs" in wanted_captures else []
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
        "function": _function(run, redactor) if "source" in wanted_captures else None,
        "tags": [redactor.text(plain_text(tag))[0] for tag in options.tags],
        "notes": None if options.notes is None else redactor.text(plain_text(options.notes))[0],
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
    _begin_optional(run, life)


def _begin_optional(run: Run, life: Life) -> None:
    """What runs beside: the export to subprocesses, the pulse, console, sampler, and live sinks."""
    wanted = life.settings
    if wanted.export_parent and run.parent is None and life.place.folder is not None:
        _export(run, life)
    _pulse.watch(run, wanted.signals)
    if "console" in wanted.capture and run.folder is not None:
        life.console = contained("capture the console", _console, run.folder, life.redactor)
    if "system" in wanted.capture:
        life.sampler = contained("sample the system", _sampler, run, wanted.system_interval)
    if "files" in wanted.capture:
        life.lineage = contained("watch the files", _lineage, run, life)
    if life.place.owner:
        life.delivery = contained("reach the sinks", _deliver, run, life)


def _console(folder: Path, redactor: Redactor) -> Any:
    from runcard.capture.console import Console

    return Console(folder / "output.log", redactor).start()


def _lineage(run: Run, life: Life) -> Any:
    from runcard.capture.files import Lineage
    from runcard.journal import last_events

    def report(event: dict[str, Any]) -> None:
        told: Any
        told, hidden = life.redactor.tree(event)
        run._journal.append({**told, "losses": {"redacted": hidden}} if hidden else told)

    path = life.place.journal_path
    events = last_events(path, first=True) if path is not None else []
    known = [str(entry.get("path")) for event in events for entry in event.get("inputs") or ()]
    return Lineage(report, known=known, limit=life.settings.input_limit, leave_out=[life.place.root]).start()


def _sampler(run: Run, interval_s: float) -> Any:
    from runcard.capture.system import Sampler

    def emit(sample: dict[str, float]) -> None:
        run._journal.append({"kind": "system", "t": time.time(), "metrics": sample})

    return Sampler(emit, interval_s).start()


def _deliver(run: Run, life: Life) -> Delivery | None:
    from runcard._settling import own_copy, report_sink

    sinks: list[Any] = []
    for sink in life.settings.sinks:
        if not isinstance(sink, str):
            found = sink
        elif registry.is_files(sink) and life.place.is_home(sink):
            continue
        else:
            found = contained(f"open the sink {registry.name_of(sink)}", sink_at, sink, life.place.root)
        if found is not None and not any(found is other for other in sinks):
            sinks.append(found)
    if not sinks:
        return None
    delivery = Delivery(sinks, lambda sink, problem: report_sink(run, sink, problem))
    if any(is_live(sink) for sink in sinks):
        record = life.place.record(run.run_id)
        delivery.start(lambda: own_copy(record), life.place.journal_path, spooled=life.place.spooled)
    return delivery


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


def _name(run: Run, token: Token | None, redactor: Redactor) -> None:
    """The name and the experiment, as DESIGN has them: from the function, the script, the parent."""
    options, function = run._options, run._function
    qualname = None
    if function is not None:
        qualname = str(source.describe(function)["qualname"]).replace(".<locals>", "")
    run.name = options.name or qualname or _stem()
    above = run.parent.experiment if run.parent is not None else None
    if token is not None:
        above = _places.experiment_of(token)
    if options.experiment:
        run.experiment = options.experiment
    elif above:
        run.experiment = f"{above}/{run.name}"
    elif qualname and qualname.rpartition(".")[2] != "main":
        run.experiment = qualname
    else:
        run.experiment = _stem(source.file_of(function) if function is not None else None)
    run.name = redactor.text(plain_text(run.name))[0]
    run.experiment = redactor.text(plain_text(run.experiment))[0]


def _stem(file: Path | None = None) -> str:
    """The stem of the script or notebook, or what stands for one."""
    if file is not None:
        return file.stem
    from runcard.capture import command

    how, entry = command.kind()
    if entry and how in ("script", "notebook", "zipapp"):
        return Path(entry).stem
    if entry and how == "module":
        return entry.removesuffix(".__main__").rpartition(".")[2]
    return how


def _callers_file() -> Path | None:
    """The file of the user's frame that opens the block."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("runcard."):
        frame = frame.f_back
    if frame is None:
        return None
    filename = frame.f_code.co_filename
    return Path(os.path.abspath(filename)) if os.path.isfile(filename) else None


_described: dict[Any, dict[str, Any]] = {}  # by code object: the source is redacted once


def _function(run: Run, redactor: Redactor) -> Any:
    """What the record's `function` says; None for a block."""
    function = run._function
    if function is None:
        return None
    key = (getattr(function, "__code__", None) or id(function), redactor)
    found: Any = _described.get(key)
    if found is None:
        found, hidden = redactor.tree(source.describe(function))
        if hidden:
            found["redacted"] = hidden
        if len(_described) > 1_000:
            _described.clear()
        if getattr(function, "__code__", None) is not None:
            _described[key] = found
    if run._parameter is not None:
        found = {**found, "config_parameter": run._parameter}
        if run._parameter_type is not None:
            found["config_type"] = run._parameter_type  # what a rerun makes it again from
    return found


def _config(run: Run, redactor: Redactor) -> dict[str, Any]:
    """The config as it is recorded: plain, without what `ignore` names, without secrets, with types and hash."""
    given = run._given_config
    if given is None:
        return {"config": {}, "config_types": {}, "config_hash": config_hash({})}
    value, types, exact, cuts = plain(given)
    if type(value) is not dict or (
        len(value) == 1 and next(iter(value)).startswith("$") and not next(iter(value)).startswith("$$")
    ):
        value, types = {"config": value}, {f"config.{path}" if path else "config": kind for path, kind in types.items()}
    kind = types.pop("", None)
    if run._parameter is not None:
        run._parameter_type = kind
    ignored = run._options.ignore
    if ignored:
        value = _without(value, ignored)
        types = {path: kind for path, kind in types.items() if not _is_ignored(path, ignored)}
    value, hidden = redactor.tree(value)
    if hidden:
        run.lose("redacted", hidden)
    if cuts:
        run.lose("cut", cuts)
    return {"config": value, "config_types": types, "config_hash": config_hash(value) if exact else None}


def _without(config: dict[str, Any], ignored: tuple[str, ...]) -> dict[str, Any]:
    """The config without what dotted paths name."""
    for path in ignored:
        *folders, last = path.split(".")
        if path in config:
            folders, last = [], path
        inner: Any = config
        for folder in folders:
            inner = inner.get(folder) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)
    return config


def _is_ignored(path: str, ignored: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in ignored)


def _inputs(run: Run, life: Life) -> list[Mapping[str, Any]]:
    """`Path` arguments that name files, and what ``inputs=`` names: arguments, or paths."""
    limit = life.settings.input_limit
    arguments = run._arguments
    wanted: list[Any] = [value for value in arguments.values() if isinstance(value, Path) and _is_file(value)]
    for entry in run._options.inputs:
        value = arguments.get(entry, entry) if isinstance(entry, str) else entry
        wanted += list(value) if isinstance(value, (list, tuple)) else [value]
    found: dict[str, Mapping[str, Any]] = {}
    for path in wanted:
        try:
            told = contained("hash an input", inputs.describe, Path(os.fspath(path)), limit=limit)
        except TypeError:
            warn(f"inputs= names {type(path).__name__}, which is no path", once="inputs")
            continue
        if told is not None:
            clean: Any = life.redactor.tree(told)[0]
            found[str(clean["path"])] = clean
    return list(found.values())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _export(run: Run, life: Life) -> None:
    """Let subprocesses know their parent while this run is open; the first of several keeps the place."""
    if any(each._life is not None and each._life.exported for each in list(_current.open_runs.values())):
        return
    life.exported = (os.environ.get("RUNCARD_PARENT"),)
    os.environ["RUNCARD_PARENT"] = run.token()
