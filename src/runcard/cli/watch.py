"""``runcard watch``: what a run that goes on is doing, from the end of its journal, however long that is."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from runcard import _facts as facts
from runcard._words import duration, elide, number, plain_on_screen, sparkline
from runcard.cli import screen
from runcard.cli.ls import ago
from runcard.cli.options import Ref, json_option, opened, store_option, whereabouts
from runcard.cli.screen import Column, Line, Piece
from runcard.errors import RunNotFound
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard.events import Event
    from runcard.record import RunRecord
    from runcard.store import Store

_TAIL = 1 << 17  # bytes of each journal that are read at every look
_METRICS = 8


class Glance(NamedTuple):
    """What the end of the journals says.

    Attributes:
        values: Metric → its last values, oldest first.
        step: The last step.
        rate: Steps a second, over what was read.
        seen: When the last event was written, seconds since the epoch.
    """

    values: dict[str, list[float]]
    step: int | float | None
    rate: float | None
    seen: float | None


@click.command(
    "watch",
    epilog="""\b
Examples:
  runcard watch
  runcard watch 7k3f --interval 5
  runcard watch 7k3f --once --json

\b
Without REF it follows the newest run that goes on. It ends when the run does,
or with Ctrl-C, which leaves the run alone. Exit codes: 0 when the run
finished (or with --once); 1 when it failed, crashed or was killed, or there
is none.""",
)
@click.argument("ref", type=Ref(), required=False)
@click.option("--once", is_flag=True, help="Look once.")
@click.option(
    "--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds between looks."
)
@json_option
@store_option
@click.pass_context
def watch_command(ctx: click.Context, ref: str | None, once: bool, interval: float, as_json: bool) -> None:
    """Follow a run while it goes on: steps, their rate, the course of its metrics, time since the last event."""
    store = opened(ctx)
    run_id = _running(store) if ref is None else store.get(ref).run_id
    if as_json:
        record = store.get(run_id)
        while not once and record.status is Status.RUNNING:
            time.sleep(interval)
            record = store.get(run_id)
        screen.write_json(_data(record))
    else:
        record = _follow(store, run_id, interval=interval, once=once)
    if not once and record.status is not Status.FINISHED:
        ctx.exit(1)


def _running(store: Store) -> str:
    running = store.runs(status=Status.RUNNING, limit=1)
    if not running:
        raise RunNotFound(f"no run goes on in {whereabouts(store)}; `runcard watch REF` shows one that has ended")
    return running[0].run_id


def _follow(store: Store, run_id: str, *, interval: float, once: bool) -> RunRecord:
    """Draw until the run ends: over the earlier picture on a terminal, else a line whenever something came."""
    record = store.get(run_id)
    moving = screen.is_terminal() and not once
    drawn = 0
    before: tuple[Any, ...] | None = None
    while True:
        glance = look(record)
        if moving or once:
            lines = picture(record, glance, time.time(), screen.columns(80) or 80)
            texts = [screen.painted(line) for line in lines]
            head = f"\x1b[{drawn}F\x1b[J" if drawn else ""
            sys.stdout.write(head + "\n".join(texts) + "\n")
            drawn = len(texts)
        else:
            now = (record.status, glance.step, tuple((name, values[-1]) for name, values in glance.values.items()))
            if now != before:
                screen.say(_one_line(record, glance))
            before = now
        sys.stdout.flush()
        if once or record.status is not Status.RUNNING:
            return record
        time.sleep(interval)
        record = store.get(run_id)


def look(record: RunRecord) -> Glance:
    """Read the ends of the run's journals."""
    from runcard.journal import last_events, writers

    if record.folder is None:
        points = [(point.time, point.step, {point.name: point.value}) for point in record.metric_history]
        return _glance(points, points[-1][0] if points else None)
    events: list[Event] = []
    try:
        for writer, path in writers(Path(record.folder)).items():
            if "-rank" not in writer:
                events += last_events(path, limit=_TAIL)
    except OSError:
        pass  # removed while we watched
    events.sort(key=_time)
    logged = [
        (_time(event), event.get("step"), event["metrics"])
        for event in events
        if event.get("kind") == "log" and isinstance(event.get("metrics"), dict)
    ]
    return _glance(logged, _time(events[-1]) if events else None)


def picture(record: RunRecord, glance: Glance, now: float, width: int) -> list[Line]:
    """What a look shows, in a few lines."""
    head = [
        Piece(record.short_id, "bold"),
        Piece("  "),
        Piece(elide(plain_on_screen(record.name), max(8, width - 40)), "bold"),
    ]
    head += [Piece("  "), Piece(record.status.value.upper(), screen.STATUS_STYLES.get(record.status.value, ""))]
    running = record.status is Status.RUNNING
    began = record.started_at.timestamp() if record.started_at else None
    took = now - began if running and began is not None else record.duration_s
    told = [f"{duration(took)} so far" if running else f"took {duration(took)}"]
    if glance.step is not None:
        told.append(f"step {number(glance.step)}")
    if glance.rate:
        told.append(f"{number(glance.rate)} steps/s" if glance.rate >= 1 else f"{duration(1 / glance.rate)} a step")
    if running and glance.seen is not None:
        told.append(f"last event {ago(max(0.0, now - glance.seen))}")
    lines: list[Line] = [head, *screen.flow("", [Piece(fact) for fact in told], width, indent=1)]
    names = list(glance.values)[:_METRICS]
    room = max(10, min(40, width - 40))
    rows = [
        [
            Piece(f" {plain_on_screen(name)}"),
            Piece(
                number(record.metrics.get(name, glance.values[name][-1]) if not running else glance.values[name][-1])
            ),
            Piece(sparkline(glance.values[name], room), "cyan"),
        ]
        for name in names
    ]
    if rows:
        lines += screen.table([Column("", least=10), Column("", right=True), Column("")], rows, width)
    if len(glance.values) > _METRICS:
        lines.append([Piece(f" {len(glance.values) - _METRICS} more metrics", "dim")])
    if record.error:
        lines.append([Piece(elide(facts.error_line(record), width), "red")])
    return lines


def _glance(logged: Iterable[tuple[float, Any, dict[str, Any]]], seen: float | None) -> Glance:
    values: dict[str, list[float]] = {}
    times: dict[Any, float] = {}
    step: int | float | None = None
    for when, at, metrics in logged:
        for name, value in metrics.items():
            if isinstance(value, (int, float)):
                values.setdefault(str(name), []).append(value)
        if isinstance(at, (int, float)):
            step = at
            times.setdefault(at, when)
    return Glance(values, step, _rate(times), seen)


def _rate(times: dict[Any, float]) -> float | None:
    """Steps a second over the latest steps: by how far the step went, as not every step need be logged."""
    latest = list(times.items())[-50:]
    if len(latest) < 2:
        return None
    (first, began), (last, ended) = latest[0], latest[-1]
    return (last - first) / (ended - began) if last > first and ended > began else None


def _one_line(record: RunRecord, glance: Glance) -> str:
    words = [record.short_id, record.status.value]
    words += [f"step {number(glance.step)}"] if glance.step is not None else []
    words += [
        f"{plain_on_screen(name)}={number(values[-1])}" for name, values in list(glance.values.items())[:_METRICS]
    ]
    return " ".join(words)


def _data(record: RunRecord) -> dict[str, Any]:
    from runcard.events import mark

    glance = look(record)
    data: dict[str, Any] = {"run_id": record.run_id, "name": record.name, "status": record.status.value}
    data |= {"step": mark(glance.step), "steps_per_s": glance.rate, "last_event": glance.seen}
    return {**data, "metrics": mark({name: values[-1] for name, values in glance.values.items()})}


def _time(event: Event) -> float:
    when = event.get("t")
    return float(when) if isinstance(when, (int, float)) else 0.0
