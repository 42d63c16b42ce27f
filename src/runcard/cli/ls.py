"""``runcard ls``."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from runcard import _facts as facts
from runcard._words import duration, number, plain_on_screen, plural
from runcard.cli import screen
from runcard.cli.options import chosen, cut, filters, json_option, opened, shown, store_option, whereabouts
from runcard.cli.screen import Column, Piece
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runcard.record import RunRecord
    from runcard.store import Store

_METRICS = 6  # columns at most; those that do not fit are left out


@click.command(
    "ls",
    epilog="""\b
Examples:
  runcard ls -n 10
  runcard ls --where 'config.lr < 0.1 and metrics.val_loss < 0.3'
  runcard ls --status crashed --json

\b
Times are ages; --json has them in full. A run that goes on is shown with
its last step and how long ago that was. The table ends after 1,000 runs,
unless -n asks for more.""",
)
@filters
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME", help="A metric to show; may be repeated.")
@json_option
@store_option
@click.pass_context
def ls_command(ctx: click.Context, /, as_json: bool, metrics: tuple[str, ...], **options: Any) -> None:
    """List runs, newest first: how each stands, when, how long, the judgement, the main metrics."""
    store = opened(ctx)
    if as_json:
        screen.write_json([record.to_dict(history=False) for record in chosen(store, options)])
        _remark_unreadable(store)
        return
    limit = options["limit"]
    runs = cut(chosen(store, {**options, "limit": shown(limit)}), limit)
    if runs:
        names = list(metrics) or main_metrics(runs)
        screen.write(run_table(runs, names, screen.columns()))
    else:
        wanted = any(options[name] for name in ("where", "experiment", "status"))
        screen.remark(f"no run {'answers to that' if wanted else 'yet'} in {whereabouts(store)}")
    _remark_damaged(runs)
    _remark_unreadable(store)


def run_table(runs: Sequence[RunRecord], metrics: Sequence[str], width: int | None) -> list[screen.Line]:
    """A row a run."""
    now = time.time()
    judged = any(record.decision or record.is_best for record in runs)
    headings = [Column("run"), Column("name", least=12), Column("status", least=16), Column("started", right=True)]
    headings.append(Column("took", right=True))
    if judged:
        headings.append(Column("verdict", least=7))
    headings += [Column(plain_on_screen(name), right=True, least=8) for name in metrics]
    several = len({record.experiment for record in runs}) > 1
    rows = []
    for record in runs:
        name = record.name
        if several and record.experiment != name:  # then the name alone does not tell what was run
            name += f" ({record.experiment})"
        row = [Piece(record.short_id, "bold"), Piece(plain_on_screen(name)), _status(record, now)]
        row += [Piece(age(record, now), "dim"), Piece(duration(_took(record, now)))]
        if judged:
            row.append(verdict(record))
        rows.append(row + [Piece(number(record.metrics[name]) if name in record.metrics else "") for name in metrics])
    return screen.table(headings, rows, width)


def main_metrics(runs: Sequence[RunRecord]) -> list[str]:
    """The metrics to show: what runs are judged by first, then those that most runs have."""
    counts: Counter[str] = Counter()
    for record in runs:
        counts.update(list(record.metrics))  # their names: of a mapping a Counter would add up the values
        if record.objective in record.metrics:
            counts[str(record.objective)] += 2 * len(runs)
    return [name for name, _ in counts.most_common(_METRICS)]


def age(record: RunRecord, now: float) -> str:
    """How long ago the run began, or its date when that is more than a week."""
    if record.started_at is None:
        return "—"
    seconds = now - record.started_at.timestamp()
    if seconds > 7 * 86400 or seconds < -60:
        return f"{record.started_at:%Y-%m-%d}"
    return ago(seconds)


def ago(seconds: float) -> str:
    """``3m ago``."""
    for limit, unit, letter in ((90, 1, "s"), (5400, 60, "m"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{max(0, seconds) // unit:.0f}{letter} ago"
    return f"{seconds // 86400:.0f}d ago"


def verdict(record: RunRecord) -> Piece:
    """``keep``, ``discard``, ``best``."""
    words = [word for word in (record.decision, "best" if record.is_best else None) if word]
    style = "green" if record.decision == "keep" or record.is_best else "dim"
    return Piece(", ".join(words), style)


def is_damaged(record: RunRecord) -> bool:
    """Whether part of the record could not be read."""
    return bool(record.losses.get("damaged") or record.losses.get("missing"))


def _status(record: RunRecord, now: float) -> Piece:
    text = facts.status_text(record)
    if record.status is Status.RUNNING:
        seen = last_sign(record)
        text += f", {ago(now - seen)}" if seen is not None else ""
    elif record.status is Status.FAILED and record.error:
        text += f", {str(record.error.get('type') or '').rpartition('.')[2]}"
    if is_damaged(record):
        text += " (damaged)"
    return Piece(plain_on_screen(text), screen.STATUS_STYLES.get(record.status.value, ""))


def last_sign(record: RunRecord) -> float | None:
    """When a journal of the run was last written, seconds since the epoch; None without a folder."""
    if record.folder is None:
        return None
    times = []
    try:
        with os.scandir(record.folder) as entries:
            times = [entry.stat().st_mtime for entry in entries if entry.name.endswith(".jsonl")]
    except OSError:
        return None  # removed meanwhile
    return max(times, default=None)


def _took(record: RunRecord, now: float) -> float | None:
    if record.status is Status.RUNNING and record.started_at is not None:
        return max(0.0, now - record.started_at.timestamp())
    return record.duration_s


def _remark_damaged(runs: Sequence[RunRecord]) -> None:
    damaged = [record for record in runs if is_damaged(record)]
    if damaged:
        which = ", ".join(record.short_id for record in damaged[:5]) + (", …" if len(damaged) > 5 else "")
        screen.remark(f"{plural(len(damaged), 'run')} damaged ({which}): `runcard show` says what is lost")


def _remark_unreadable(store: Store) -> None:
    if store.unreadable:
        screen.remark(f"{plural(store.unreadable, 'run')} could not be read for want of permission")
