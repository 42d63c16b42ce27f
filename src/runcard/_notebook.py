"""A record and a run as HTML for notebooks: tables with inline styles, everything escaped, without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from runcard import _facts as facts
from runcard._paths import leaves
from runcard._words import duration, number, plain_on_screen, setting, size
from runcard.errors import contained
from runcard.record import Fields, History, RunRecord, fold

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ROWS = 30
_COLOURS = {"finished": "#2a7", "running": "#27c", "failed": "#c33", "crashed": "#c33", "killed": "#b80"}
_CELL = "padding:1px 12px 1px 0;text-align:left;vertical-align:top;background:none;border:none"


def record_html(record: RunRecord) -> str:
    """A finished or running record as a card."""
    parts = [_heading(record)]
    if record.decision_reason:
        parts.append(f"<div><em>{_text(record.decision_reason)}</em></div>")
    if record.error:
        parts.append(_error(record))
    if record.metrics:
        parts.append(_section("metrics", _metrics(record), len(record.metrics)))
    if record.config:
        settings = list(leaves(record.config))
        rows = ((_text(path), f"<code>{_text(setting(value))}</code>") for path, value in settings[:_ROWS])
        parts.append(_section("config", _table(rows), len(settings)))
    if record.artifacts:
        rows = ((_text(_name(entry)), _text(size(entry.get("bytes")))) for entry in record.artifacts[:_ROWS])
        parts.append(_section("files", _table(rows), len(record.artifacts)))
    told = {"code": facts.code(record), "ran": facts.command(record), "machine": facts.machine(record)}
    told |= {"lost": facts.lost(record) if record.losses else "", "folder": record.folder or ""}
    parts.append(_table((_text(what), _text(how)) for what, how in told.items() if how))
    return f'<div style="font-size:90%;line-height:1.4;max-width:60em">{"".join(parts)}</div>'


def run_html(run: Any) -> str:
    """A run that is open, or has just ended: its record so far, read from its journal.

    Args:
        run: Anything with the attributes of `runcard.Run`.
    """
    record = contained("read the run's journal", _read, run.run_id, run.folder) if run.run_id and run.folder else None
    if record is None:
        known = {"name": run.name, "experiment": run.experiment, "config": Fields(run.config)}
        record = RunRecord(run_id=run.run_id or "not begun", **known)
        return record_html(record).replace(">running<", f">{_text(str(run.status))}<", 1)
    return record_html(record)


def _read(run_id: str, folder: Path) -> RunRecord:
    from dataclasses import replace

    from runcard._points import points
    from runcard.journal import Reading, writers

    found = writers(folder)
    record = fold(run_id, {writer: Reading(path) for writer, path in found.items()})
    history = History(lambda: points({writer: Reading(path) for writer, path in found.items()}))
    return replace(record, metric_history=history, folder=str(folder))


def _heading(record: RunRecord) -> str:
    colour = _COLOURS.get(record.status.value, "inherit")
    status = f'<span style="color:{colour};font-weight:bold">{_text(facts.status_text(record))}</span>'
    verdict = f" <b>{_text(facts.verdict(record))}</b>" if facts.verdict(record) else ""
    when = f"{record.started_at:%Y-%m-%d %H:%M}Z" if record.started_at else ""
    took = duration(record.duration_s) if record.duration_s is not None else ""
    tail = " · ".join(_text(word) for word in (record.experiment, when, took, facts.author(record)) if word)
    head = f"<code>{_text(record.short_id)}</code> <b>{_text(record.name)}</b> {status}{verdict}"
    return f'<div>{head} <span style="opacity:.7">{tail}</span></div>'


def _error(record: RunRecord) -> str:
    where, line = facts.error_frame(record)
    place = f"<div>{_text(where)}</div><code>{_text(line)}</code>" if where else ""
    text = plain_on_screen(str(record.error.get("traceback") or ""), lines=True) if record.error else ""
    pre = f'<pre style="font-size:90%">{_text(text)}</pre>'
    trace = f"<details><summary>traceback</summary>{pre}</details>" if text else ""
    return f'<div style="color:{_COLOURS["failed"]}"><b>{_text(facts.error_line(record))}</b>{place}{trace}</div>'


def _metrics(record: RunRecord) -> str:
    names = list(record.metrics)[:_ROWS]
    courses = facts.courses(record, names)
    rows = [("", "last", "best", "@step", "")]
    for name in names:
        best, step = facts.best_point(record, name)
        several = name in courses
        rows.append(
            (
                _text(name),
                _text(number(record.metrics[name])),
                _text(number(best)) if several else "",
                _text(setting(step)) if several and step is not None else "",
                courses.get(name, ""),
            )
        )
    return _table(rows)


def _section(title: str, table: str, count: int) -> str:
    more = f" ({count}, the first {_ROWS})" if count > _ROWS else f" ({count})" if count > 8 else ""
    opened = "" if count > 8 else " open"
    return f"<details{opened}><summary>{title}{more}</summary>{table}</details>"


def _table(rows: Iterable[Iterable[str]]) -> str:
    body = "".join(
        "<tr style='background:none'>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table style="border:none;margin:0">{body}</table>'


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("path") or entry.get("uri") or entry.get("name"))


def _text(value: str) -> str:
    return escape(plain_on_screen(value, lines=True))
