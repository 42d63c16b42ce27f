"""What goes on beside a run: the export to subprocesses, the pulse, the console, the samplers, the live sinks."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from runcard import _current, _pulse
from runcard._open_sinks import is_live, sink_at
from runcard._settling import own_copy, report_sink
from runcard.delivery import Delivery
from runcard.errors import contained
from runcard.journal import last_events
from runcard.sinks import registry

if TYPE_CHECKING:
    from pathlib import Path

    from runcard._opening import Life
    from runcard._run import Run


def start_beside(run: Run, life: Life) -> None:
    """Start what runs beside, as the settings want it."""
    wanted = life.settings
    if wanted.export_parent and run.parent is None and life.place.folder is not None:
        _export(run, life)
    _pulse.watch(run, wanted.signals)
    if "console" in wanted.capture and run.folder is not None:
        life.console = contained("capture the console", _console, run.folder, life)
    if "system" in wanted.capture:
        life.sampler = contained("sample the system", _sampler, run, wanted.system_interval)
    if "files" in wanted.capture:
        life.lineage = contained("watch the files", _lineage, run, life)
    if life.place.owner:
        life.delivery = contained("reach the sinks", _deliver, run, life)


def _export(run: Run, life: Life) -> None:
    """Let subprocesses know their parent while this run is open; the first of several keeps the place."""
    if any(each._life is not None and each._life.exported for each in list(_current.open_runs.values())):
        return
    life.exported = (os.environ.get("RUNCARD_PARENT"),)
    os.environ["RUNCARD_PARENT"] = run.token()


def _console(folder: Path, life: Life) -> Any:
    from runcard.capture.console import Console

    return Console(folder / "output.log", life.redactor, mode=life.place.mode).start()


def _lineage(run: Run, life: Life) -> Any:
    from runcard.capture.files import Lineage

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
