"""``runcard show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runcard._paths import leaves
from runcard._words import moment, number, plain_on_screen, setting, sparkline
from runcard.cli import screen
from runcard.cli.options import Ref, json_option, named, opened, store_option
from runcard.cli.screen import Column, Line, Piece
from runcard.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runcard.record import Point, RunRecord
    from runcard.store import Store


@click.command(
    "show",
    epilog="""\b
Examples:
  runcard show latest
  runcard show 7k3f --config
  runcard show 7k3f --history train/loss
  runcard show 7k3f --json | jq .metrics""",
)
@click.argument("ref", type=Ref(), default="latest")
@click.option("--config", "what", flag_value="config", help="Every setting.")
@click.option("--packages", "what", flag_value="packages", help="Every package with its version.")
@click.option("--traceback", "what", flag_value="traceback", help="The error in full.")
@click.option("--history", metavar="NAME", help="Every point of a metric.")
@click.option("--rank", type=int, help="With --history: another rank's points than rank 0's.")
@json_option
@store_option
@click.pass_context
def show_command(
    ctx: click.Context, ref: str, what: str | None, history: str | None, rank: int | None, as_json: bool
) -> None:
    """Show one run: what it was, how it ended, and why. REF is the newest run when left out."""
    if rank is not None and history is None:
        raise click.UsageError("--rank is for --history NAME", ctx)
    store = opened(ctx)
    record = store.get(ref)
    if history is not None:
        points = store.history(ref, history, rank=rank)
        if not points:
            if rank is not None:
                raise QueryError(f"rank {rank} of {record.short_id} has no points of {history!r}")
            names = ", ".join(record.metric_summary) or "none"
            raise QueryError(f"{record.short_id} has no points of {history!r}; it has: {names}")
        _write_history(points, as_json=as_json)
    elif what is not None:
        _write_part(record, what, as_json=as_json)
    elif as_json:
        screen.write_json(record.to_dict())
    else:
        from runcard.cli.card_lines import card_lines

        width = min(screen.columns(80) or 80, 120)
        screen.write(card_lines(record, _siblings(store, record), width, named(ctx, record, ref)))


def _siblings(store: Store, record: RunRecord) -> list[RunRecord]:
    """The runs of the same experiment, newest first, this one among them."""
    if record.folder is not None:
        from pathlib import Path

        from runcard.store import open_store

        home = Path(record.folder).parent
        if home != store.root:  # shown by its folder, or out of a zip
            store = open_store(home)
    return list(store.runs(experiment=record.experiment))


def _write_part(record: RunRecord, what: str, *, as_json: bool) -> None:
    data: Any
    if what == "config":
        data = record.to_dict(history=False)["config"]
        pairs = [(plain_on_screen(path), setting(value)) for path, value in leaves(record.config)]
    elif what == "packages":
        data = record.to_dict(history=False)["environment"].get("packages") or {}
        pairs = [(plain_on_screen(str(name)), _version(told)) for name, told in data.items()]
    else:
        data = record.to_dict(history=False)["error"]
        if not as_json:
            screen.write(_traceback(record))
            return
        pairs = []
    if as_json:
        screen.write_json(data)
    elif pairs:
        screen.write(screen.table([Column(""), Column("")], pairs, None))
    else:
        screen.remark(f"{record.short_id} has no {what}")


def _traceback(record: RunRecord) -> list[str]:
    if record.error is None:
        return [f"{record.short_id} has no error"]
    return _told(record.error, "")


def _told(error: Any, how: str) -> list[str]:
    """An error and what led to it, innermost last, as Python would print each."""
    head = f"{_FOLLOWS.get(how, how)}\n" if how else ""
    text = plain_on_screen(str(error.get("traceback") or ""), lines=True).rstrip("\n")
    message = plain_on_screen(str(error.get("message") or ""), lines=True)
    lines = [*(head.splitlines()), *(["Traceback (most recent call last):", *text.splitlines()] if text else [])]
    lines.append(f"{error.get('type')}: {message}" if message else str(error.get("type")))
    lines += [plain_on_screen(str(note), lines=True) for note in error.get("notes") or ()]
    for cause in error.get("causes") or ():
        lines += ["", *_told(cause, str(cause.get("how")))]
    return lines


def _version(told: Any) -> str:
    if isinstance(told, dict):
        words = [str(told.get("version") or "?")]
        words += [f"{key} {value}" for key, value in told.items() if key != "version" and value not in (None, False)]
        return plain_on_screen("  ".join(words))
    return plain_on_screen(str(told))


def _write_history(points: Sequence[Point], *, as_json: bool) -> None:
    from runcard.record import point_to_dict

    if as_json:
        screen.write_json([point_to_dict(point) for point in points])
        return
    several = any(point.attempt != 1 for point in points)
    headings = [Column("step", right=True), Column("value", right=True), Column("time (UTC)")]
    rows = [
        [
            Piece("" if point.step is None else number(point.step)),
            Piece(number(point.value) if abs(point.value) >= 2**10_000 else repr(point.value)),
            Piece(f"{at:%Y-%m-%d %H:%M:%S}" if (at := moment(point.time)) else "", "dim"),
            *([Piece(str(point.attempt))] if several else []),
        ]
        for point in points
    ]
    lines: list[Line] = screen.table([*headings, *([Column("attempt")] if several else [])], rows, None)
    screen.write([*lines, [Piece(sparkline([point.value for point in points], 60))]])


_FOLLOWS = {"cause": "caused by:", "context": "while handling:", "member": "one of the group:"}
