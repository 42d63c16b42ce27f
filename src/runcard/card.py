"""``card.md``: what a person without runcard reads first; and the facts of a record in words, for every other view."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runcard import _facts as facts
from runcard._paths import leaves
from runcard._words import duration, number, plain_on_screen, setting, size, sparkline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runcard.record import RunRecord

__all__ = ["card_markdown", "plain_on_screen", "sparkline"]

_ROWS = 100  # of a table; the files beside the card have the rest


def card_markdown(record: RunRecord) -> str:
    """The record as plain Markdown."""
    return "\n".join(_sections(record))


def _sections(record: RunRecord) -> Iterator[str]:
    yield f"# {_md(record.name or 'a run')}: {facts.status_text(record)}\n"
    when = f"{record.started_at.isoformat(' ', 'seconds')[:19]} UTC" if record.started_at else "at an unknown time"
    by = f" by {_md(facts.author(record))}" if record.user or record.host else ""
    took = f", took {duration(record.duration_s)}" if record.duration_s is not None else ""
    yield f"Run `{record.run_id}` of the experiment {_md(record.experiment) or '(none)'}, started {when}{by}{took}.\n"
    if record.decision:
        yield f"**{record.decision.upper()}**{_because(record.decision_reason)}\n"
    if record.is_best:
        by = f" by {_md(record.objective)} ({record.direction})" if record.objective else ""
        yield f"When it ended it was the best run of its experiment{by}.\n"
    if record.error:
        yield from _error(record)
    if record.notes:
        yield "\n".join(f"> {_md(line)}" for line in record.notes.splitlines()) + "\n"
    if record.tags:
        yield f"Tags: {', '.join(map(_code, record.tags))}\n"
    if record.metrics:
        yield from _metrics(record)
    if record.config:
        yield from _config(record)
    yield from _surroundings(record)
    yield from _files(record)
    yield f"## What was lost\n\n{_md(facts.lost(record)).capitalize()}.\n"
    yield from _next(record)


def _error(record: RunRecord) -> Iterator[str]:
    yield f"## Error\n\n{_code(facts.error_line(record))}\n"
    where, line = facts.error_frame(record)
    if where:
        yield f"at {_code(where)}{f': {_code(line)}' if line else ''}\n"
    if record.error and record.error.get("traceback"):
        text = plain_on_screen(str(record.error["traceback"]), lines=True).rstrip()
        yield "\n".join(f"    {each}" for each in text.splitlines()) + "\n"


def _metrics(record: RunRecord) -> Iterator[str]:
    rows = [
        "## Metrics\n\n| metric | last | least | at step | most | at step | points |\n|---|---|---|---|---|---|---|"
    ]
    for name, value in list(record.metrics.items())[:_ROWS]:
        summary = record.metric_summary.get(name)
        if summary and summary.get("count", 0) > 1:
            places = [number(summary.get(key)) for key in ("min", "min_step", "max", "max_step", "count")]
        else:
            places = ["", "", "", "", "1"]
        rows.append(f"| {_md(name)} | {number(value)} | {' | '.join(places)} |")
    yield "\n".join(rows) + _and_more(len(record.metrics), "metrics.json")


def _config(record: RunRecord) -> Iterator[str]:
    settings = list(leaves(record.config))
    rows = ["## Settings\n\n| setting | value |\n|---|---|"]
    rows += [f"| {_md(path)} | {_code(_short(setting(value)))} |" for path, value in settings[:_ROWS]]
    yield "\n".join(rows) + _and_more(len(settings), "config.json")


def _surroundings(record: RunRecord) -> Iterator[str]:
    function, command, attempts = facts.function(record), facts.command(record), facts.attempts(record)
    told = [
        ("origin", _md(facts.origin(record))),
        ("code", _md(facts.code(record))),
        ("function", function and _code(function)),
        ("started as", command and _code(command)),
        ("machine", _md(facts.machine(record))),
    ]
    packages = record.environment.get("packages")
    if packages:
        told.append(("packages", f"{len(packages)}, listed in requirements.txt"))
    if record.parent_id:
        told.append(("part of", f"run `{record.parent_id}`"))
    if record.rerun_of:
        told.append(("repeats", f"run `{record.rerun_of}`"))
    if attempts:
        told.append(("attempts", _md(attempts)))
    yield "## Where it comes from\n\n" + "\n".join(f"- {what}: {how}" for what, how in told if how) + "\n"


def _files(record: RunRecord) -> Iterator[str]:
    for title, entries, more in (("Files read", record.inputs, ""), ("Files written", record.artifacts, "artifacts/")):
        if not entries:
            continue
        rows = [f"## {title}\n\n| file | size | sha256 |\n|---|---|---|"]
        for entry in entries[:_ROWS]:
            name = str(entry.get("path") or entry.get("uri") or entry.get("name"))
            gone = " (removed)" if entry.get("removed") else ""
            rows.append(f"| {_md(name)}{gone} | {size(entry.get('bytes'))} | {str(entry.get('sha256') or '—')[:12]} |")
        yield "\n".join(rows) + _and_more(len(entries), more or "record.json")


def _next(record: RunRecord) -> Iterator[str]:
    git = facts.mapping(record.environment.get("git"))
    steps = []
    if re.fullmatch("[0-9a-f]{7,64}", str(git.get("commit"))):
        steps.append(f"git checkout {git['commit']}")
        if git.get("patch"):
            steps.append("git apply diff.patch")
    if record.environment.get("packages"):
        steps.append("pip install -r requirements.txt")
    command = facts.command(record)
    if command:
        steps.append(command)
    again = "" if facts.origin(record) else f", `runcard rerun {record.short_id}`"  # what was imported has no program
    yield "## To look further, or run it again\n"
    if steps:
        yield "By hand:\n\n" + "\n".join(f"    {plain_on_screen(str(step))}" for step in steps) + "\n"
    yield (
        f"With `pip install runcard`: `runcard show {record.short_id}`{again}. "
        "`journal.jsonl` is the record itself, a JSON object a line; the other files follow from it.\n"
    )


def _because(reason: str | None) -> str:
    return f": {_md(reason)}" if reason else ""


def _and_more(count: int, where: str) -> str:
    return f"\n\n… and {count - _ROWS} more in {where}\n" if count > _ROWS else "\n"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"


def _md(text: str | None) -> str:
    """Text that Markdown shows as it is."""
    if not text or text.isalnum():  # as most names and numbers are
        return text or ""
    return _MARKUP.sub(r"\\\g<0>", plain_on_screen(text))


def _code(text: str) -> str:
    """A span of code; what would end it is replaced, since Markdown has no escape within."""
    if text.isalnum():
        return f"`{text}`"
    return f"`{plain_on_screen(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<!\w)_|_(?!\w)")
