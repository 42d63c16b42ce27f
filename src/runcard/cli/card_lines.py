"""The card of one run on a terminal: everything that matters, in one screen of any width."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from runcard import _facts as facts
from runcard._paths import leaves
from runcard._words import duration, elide, elide_middle, number, plain_on_screen, setting, size, width_of, wrapped
from runcard.cli.screen import STATUS_STYLES, Column, Line, Piece, flow, table
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runcard.record import RunRecord

_SETTINGS = 2  # lines of settings; --config has them all
_METRICS = 12  # rows; --json has them all
_FILES = 6
_INDENT = 9


def card_lines(record: RunRecord, siblings: Sequence[RunRecord], width: int, ref: str) -> list[Line]:
    """The lines of the card.

    Args:
        record: The run.
        siblings: The runs of its experiment, newest first: for what changed, and how many it was compared with.
        width: Columns; no line is longer, but for a command that is to be copied.
        ref: How a command names the run.
    """
    return list(_lines(record, siblings, width, ref))


def _lines(record: RunRecord, siblings: Sequence[RunRecord], width: int, ref: str) -> Iterator[Line]:
    yield from _heading(record, siblings, width)
    if record.error:
        yield from _error(record, width)
    elif record.status is Status.CRASHED:
        yield [Piece(elide("it left no last word: killed, out of memory, or the power went", width), "red")]
    yield from _reason(record, width)
    if record.config:
        yield from _config(record, _previous(record, siblings), width)
    if record.metrics:
        yield from _metrics(record, width)
    for label, left, right in (
        ("code", facts.code(record), facts.function(record)),
        ("ran", facts.command(record), facts.machine(record)),
        ("from", facts.origin(record), ""),
    ):
        yield from _fact(label, left, right, width)
    yield from _files("inputs", record.inputs, width)
    yield from _files("files", record.artifacts, width)
    if record.tags:
        yield from flow("tags", [Piece(plain_on_screen(tag), "cyan") for tag in record.tags], width, indent=_INDENT)
    for place, line in enumerate(plain_on_screen(record.notes, lines=True).splitlines()):
        yield from _wrapped("notes" if place == 0 else "", line, width)
    yield from _relations(record, width)
    yield from _lost(record, width)
    where = _relative(record.folder) if record.folder else record.run_id
    rerun = "" if facts.origin(record) else plain_on_screen(f"runcard rerun {ref}")  # what was imported has no program
    yield from _ends([Piece(elide_middle(where, width), "dim")], [Piece(rerun, "dim")], width)


def _heading(record: RunRecord, siblings: Sequence[RunRecord], width: int) -> Iterator[Line]:
    status = facts.status_text(record)
    word, comma, rest = status.partition(",")
    style = f"{STATUS_STYLES.get(record.status.value, '')} bold".replace("bold bold", "bold")
    name = plain_on_screen(record.name)
    if record.experiment and record.experiment != record.name:
        name += f" ({plain_on_screen(record.experiment)})"
    judged = [Piece(record.decision.upper(), "bold")] if record.decision else []
    if record.is_best:
        count = sum(1 for each in siblings if each.started_at and record.ended_at and each.started_at < record.ended_at)
        best = f"best of {count}" if count > 1 else "first of its kind"
        judged.append(Piece(f"{', ' if judged else ''}{best}", "green"))
    took = duration(record.duration_s) if record.duration_s is not None else ""
    if record.status is Status.RUNNING and record.started_at is not None:
        took = f"{duration(max(0.0, time.time() - record.started_at.timestamp()))} so far"
    when = f"{record.started_at:%Y-%m-%d %H:%MZ}" if record.started_at else "start unknown"
    right = [Piece("  ".join(part for part in (when, took) if part))]
    room = width - 10 - width_of(status) - sum(width_of(piece.text) + 2 for piece in judged)
    spare = room - width_of(right[0].text) - 4
    left = [Piece(record.short_id, "bold"), Piece("  ")]
    left += [Piece(elide(name, max(12, spare if spare >= min(24, width_of(name)) else room - 2)), "bold"), Piece("  ")]
    left += [Piece(word.upper() + comma + rest, style)]
    if judged:
        left += [Piece("  "), *judged]
    yield from _ends(left, right, width)


def _error(record: RunRecord, width: int) -> Iterator[Line]:
    yield from ([Piece(part, "red bold")] for part in wrapped(facts.error_line(record), width, 4))
    where, line = facts.error_frame(record)
    if where:
        yield [Piece(f"  at {elide_middle(where, width - 5)}", "red")]
    if line:
        yield [Piece(f"     {elide(line, width - 5)}")]
    if record.error and record.error.get("traceback"):
        yield [Piece(elide("  all of it: --traceback", width), "dim")]


def _reason(record: RunRecord, width: int) -> Iterator[Line]:
    by = facts.author(record)
    if not record.decision_reason:
        if by:
            yield from _ends([], [Piece(by, "dim")], width)
        return
    parts = wrapped(f'"{plain_on_screen(record.decision_reason)}"', width, 3)
    yield from ([Piece(part)] for part in parts[:-1])
    yield from _ends([Piece(parts[-1])], [Piece(by, "dim")], width)


def _config(record: RunRecord, previous: RunRecord | None, width: int) -> Iterator[Line]:
    settings = dict(leaves(record.config))
    pieces: list[Piece] = []
    changed: set[str] = set()
    if previous is not None and previous.config:
        from runcard.query import compare

        for change in compare(previous, record).config:
            if change.kind == "removed":
                pieces.append(Piece(f"{plain_on_screen(change.path)} gone (was {_short(change.old)})", "yellow"))
                continue
            changed.add(change.path)
            was = "new" if change.kind == "added" else f"was {_short(change.old)}"
            pieces.append(Piece(f"{plain_on_screen(change.path)} {_short(change.new)} ({was})", "yellow"))
    rest = [(path, value) for path, value in settings.items() if path not in changed]
    pieces += [Piece(f"{plain_on_screen(path)} {_short(value)}") for path, value in rest]
    shown = len(pieces)
    while True:
        left = len(pieces) - shown
        more = [Piece(f"{left} {'unchanged' if changed and left <= len(rest) else 'more'}: --config", "dim")]
        lines = flow("config", pieces[:shown] + (more if left else []), width, indent=_INDENT)
        if len(lines) <= max(_SETTINGS, _lines_of_changes(pieces, len(pieces) - len(rest), width)) or shown <= 1:
            yield from lines
            return
        shown -= 1


def _lines_of_changes(pieces: Sequence[Piece], count: int, width: int) -> int:
    """How many lines what changed may take: all that changed is shown, up to ten lines."""
    return min(10, len(flow("config", pieces[:count], width, indent=_INDENT)) + 1) if count else 0


def _metrics(record: RunRecord, width: int) -> Iterator[Line]:
    names = sorted(record.metrics, key=lambda name: name != record.objective)  # the objective first, else as logged
    shown = names[:_METRICS]
    courses = facts.courses(record, shown, 10)
    several = any(name in courses or _count(record, name) > 1 for name in shown)
    rows = []
    for name in shown:
        row = [Piece(f" {plain_on_screen(name)}", "bold" if name == record.objective else "")]
        row.append(Piece(number(record.metrics[name])))
        if several:
            best, step = facts.best_point(record, name) if _count(record, name) > 1 else (None, None)
            row += [Piece("" if best is None else number(best)), Piece("" if step is None else number(step))]
            row.append(Piece(courses.get(name, ""), "cyan"))
        rows.append(row)
    headings = [Column("metrics", least=12), Column("last", right=True)]
    if several:
        headings += [Column("best", right=True), Column("@step", right=True), Column("")]
    yield from table(headings, rows, width)
    if len(names) > _METRICS:
        yield [Piece(f" {len(names) - _METRICS} more: --json", "dim")]


def _count(record: RunRecord, name: str) -> int:
    summary = record.metric_summary.get(name)
    return int(summary.get("count") or 0) if summary else 0


def _files(label: str, entries: Sequence[dict[str, Any]], width: int) -> Iterator[Line]:
    if not entries:
        return
    pieces = []
    for entry in entries[:_FILES]:
        name = plain_on_screen(str(entry.get("name") or entry.get("path") or entry.get("uri")))
        name = _relative(name) if os.path.isabs(name) else name
        told = "removed" if entry.get("removed") else size(entry.get("bytes"))
        digest = f"  {str(entry['sha256'])[:4]}…" if label == "inputs" and entry.get("sha256") else ""
        pieces.append(Piece(f"{elide_middle(name, max(20, width // 2))}  {told}{digest}"))
    if len(entries) > _FILES:
        total = sum(entry.get("bytes") or 0 for entry in entries)
        pieces.append(Piece(f"{len(entries) - _FILES} more, {size(total)} in all", "dim"))
    yield from flow(label, pieces, width, indent=_INDENT)


def _relations(record: RunRecord, width: int) -> Iterator[Line]:
    pieces = []
    for what, run_id in (("child of", record.parent_id), ("from", record.launched_by), ("repeats", record.rerun_of)):
        if run_id:
            pieces.append(Piece(f"{what} {run_id[-8:]}"))
    if record.verdicts:
        said = record.verdicts[-1].get("verdict") or record.verdicts[-1].get("result") or "done"
        pieces.append(Piece(plain_on_screen(f"rerun: {said}")))
    for entry in record.amendments:
        before = entry.get("before") or {}
        was = {name: "new" if old is None else f"was {number(old)}" for name, old in before.items()}
        what = ", ".join(f"{name} ({was.get(name, 'new')})" for name in entry.get("metrics") or ())
        pieces.append(Piece(plain_on_screen(f"{what} amended: {entry.get('reason') or 'no reason given'}"), "yellow"))
    if pieces:
        yield from flow("related" if not record.amendments else "also", pieces, width, indent=_INDENT)


def _lost(record: RunRecord, width: int) -> Iterator[Line]:
    style = "yellow" if record.losses else ""
    pieces = [Piece(part, style) for part in wrapped(facts.lost(record), width - _INDENT, 6)]
    if facts.attempts(record):
        pieces.append(Piece(f"attempts {facts.attempts(record)}"))
    yield from flow("lost", pieces, width, indent=_INDENT)


def _fact(label: str, left: str, right: str, width: int) -> Iterator[Line]:
    """Two facts of one label: on a line when they fit, each on its own when not."""
    if not left and not right:
        return
    if right and width_of(left) + width_of(right) + 2 > width - _INDENT:
        yield from _wrapped(label, left, width, most=2)
        yield from _wrapped("", right, width, most=2)
    else:
        yield from flow(label, [Piece(text) for text in (left, right) if text], width, indent=_INDENT)


def _wrapped(label: str, text: str, width: int, *, most: int = 6) -> Iterator[Line]:
    for place, part in enumerate(wrapped(text, width - _INDENT, most)):
        yield [Piece(f"{label if place == 0 else '':<{_INDENT}}", "dim"), Piece(part)]


def _ends(left: Line, right: Line, width: int) -> Iterator[Line]:
    """Two ends of a line; on two lines when they do not fit on one."""
    used = sum(width_of(piece.text) for piece in left)
    needed = sum(width_of(piece.text) for piece in right)
    gap = width - used - needed
    if gap >= 2 or not left:
        yield [*left, Piece(" " * max(0, gap)), *right]
    else:
        yield left
        yield [Piece(" " * max(0, width - needed)), *right]


def _previous(record: RunRecord, siblings: Sequence[RunRecord]) -> RunRecord | None:
    """The run of the experiment that began last before this one."""
    key = _when(record)
    return max((each for each in siblings if _when(each) < key), key=_when, default=None)


def _when(record: RunRecord) -> tuple[float, str]:
    return (record.started_at.timestamp() if record.started_at else 0.0, record.run_id)


def _short(value: Any) -> str:
    return elide(setting(value), 32)


def _relative(path: str) -> str:
    """The path from here when that is shorter."""
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):  # no working directory, another drive
        return plain_on_screen(path)
    return plain_on_screen(near if len(near) < len(path) else path)
