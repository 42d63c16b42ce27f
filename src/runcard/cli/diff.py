"""``runcard diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runcard._paths import leaves
from runcard._words import duration, elide, number, plain_on_screen, setting
from runcard.cli import screen
from runcard.cli.options import Ref, json_option, opened, store_option
from runcard.cli.screen import Column, Line, Piece
from runcard.query import Comparison, compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runcard.query import Change
    from runcard.record import RunRecord

_DIFF_LINES = 40
_STYLES = {"added": "green", "removed": "red", "changed": "yellow", "type": "yellow", "moved": "dim"}


@click.command(
    "diff",
    epilog="""\b
Examples:
  runcard diff 7k3f 4x81
  runcard diff 7k3f 4x81 9fz2        each of them against the first
  runcard diff latest 4x81 --json | jq .config

\b
Exit code 0; with --exit-code 1 when they differ in settings, code, packages,
environment or inputs (metrics aside).""",
)
@click.argument("first", type=Ref())
@click.argument("others", type=Ref(), nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="What is the same too, and the whole difference of the code.")
@click.option("--exit-code", is_flag=True, help="End with 1 when they differ.")
@json_option
@store_option
@click.pass_context
def diff_command(
    ctx: click.Context, first: str, others: tuple[str, ...], everything: bool, exit_code: bool, as_json: bool
) -> None:
    """Show what differs between runs: settings, metrics, code, packages, environment, inputs."""
    store = opened(ctx)
    a = store.get(first)
    found = [compare(a, store.get(ref)) for ref in others]
    if as_json:
        data = [each.to_dict() for each in found]
        screen.write_json(data[0] if len(data) == 1 else data)
    else:
        width = screen.columns()
        lines: list[Line] = []
        for each in found:
            lines += [*([[Piece("")]] if lines else []), *_lines(each, width, everything=everything)]
        screen.write(lines)
    if exit_code and any(_differs(each) for each in found):
        ctx.exit(1)


def _differs(found: Comparison) -> bool:
    return bool(found.config or found.packages or found.environment or found.inputs or found.code.same is False)


def _lines(found: Comparison, width: int | None, *, everything: bool) -> Iterator[Line]:
    a, b = found.a, found.b
    rows = [[Piece(_name(each), "bold"), *_ending(each)] for each in (a, b)]
    sides = [Piece("a", "dim"), Piece("b", "dim")]
    headings = [Column(""), Column("", least=12), Column(""), Column("", right=True), Column("")]
    yield from screen.table(headings, [[side, *row] for side, row in zip(sides, rows, strict=True)], width)
    count = 0
    for title, changes in (("config", found.config), ("inputs", found.inputs)):
        yield from _section(title, changes, width)
        count += len(changes)
    if everything and a.config:
        alike = [path for path, _ in leaves(a.config) if path not in {change.path for change in found.config}]
        settings = dict(leaves(a.config))
        same = [[f"  {plain_on_screen(path)}", elide(setting(settings[path]), 40)] for path in alike]
        if same:
            yield [Piece("same settings", "bold")]
            yield from screen.table([Column("", least=12), Column("", least=8)], same, width)
    yield from _metrics(found, width, everything=everything)
    yield from _code(found, width, everything=everything)
    surroundings = found.environment if everything else list(_surroundings(found))
    for title, changes in (("packages", found.packages), ("environment", surroundings)):
        yield from _section(title, changes, width)
        count += len(changes)
    if not count and found.code.same is not False and not any(each.differs for each in found.metrics.values()):
        yield [Piece("nothing differs" if found.code.same else "nothing known differs; the code cannot be compared")]


def _name(record: RunRecord) -> str:
    return f"{record.short_id} {elide(plain_on_screen(record.name), 30)}"


def _ending(record: RunRecord) -> list[Piece]:
    when = f"{record.started_at:%Y-%m-%d %H:%MZ}" if record.started_at else ""
    status = Piece(record.status.value, screen.STATUS_STYLES.get(record.status.value, ""))
    return [status, Piece(duration(record.duration_s)), Piece(when, "dim")]


def _section(title: str, changes: Sequence[Change], width: int | None) -> Iterator[Line]:
    if not changes:
        return
    yield [Piece(title, "bold")]
    rows = []
    for change in changes:
        old, new = _sides(change)
        path = Piece(f"  {plain_on_screen(change.path)}", _STYLES[change.kind])
        rows.append([path, Piece(old), Piece("→"), Piece(new)])
    yield from screen.table([Column("", least=14), Column("", least=10), Column(""), Column("", least=10)], rows, width)


def _surroundings(found: Comparison) -> Iterator[Change]:
    """What differs around the code; of the command its line, which holds the rest of it."""
    told = any(change.path == "command.line" for change in found.environment)
    for change in found.environment:
        if not (told and change.path.startswith("command.")) or change.path in ("command.line", "command.cwd"):
            yield change


def _sides(change: Change) -> tuple[str, str]:
    old, new = _parted(_value(change.old), _value(change.new))
    old = "(absent)" if change.kind == "added" else elide(old, 60)
    new = "(absent)" if change.kind == "removed" else elide(new, 60)
    if change.kind == "type":
        return f"{old} ({change.old_type})", f"{new} ({change.new_type})"
    return old, f"{new} (moved)" if change.kind == "moved" else new


def _parted(old: str, new: str) -> tuple[str, str]:
    """Two long texts that begin alike, from shortly before they part: what is elided at its end would look the same."""
    alike = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    if alike < 16 or max(len(old), len(new)) <= 30:
        return old, new
    return f"…{old[alike - 12 :]}", f"…{new[alike - 12 :]}"


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return f"{value[:10]}…"  # a content hash: its beginning tells it from another
    return setting(value)


def _metrics(found: Comparison, width: int | None, *, everything: bool) -> Iterator[Line]:
    shown = {name: each for name, each in found.metrics.items() if everything or each.differs}
    if not shown and found.duration.delta is None:
        return
    rows = []
    for name, each in shown.items():
        delta = f"{'+' if each.delta > 0 else ''}{number(each.delta)}" if each.delta is not None else ""
        absent = [Piece("(absent)", "dim") if side is None else Piece(number(side)) for side in (each.a, each.b)]
        rows.append([Piece(f"  {plain_on_screen(name)}"), *absent, Piece(delta, "bold")])
    if found.duration.differs:
        sides = [Piece(duration(side)) for side in (found.duration.a, found.duration.b)]
        rows.append([Piece("  (duration)", "dim"), *sides, Piece("")])
    if rows:
        headings = [Column("metrics", least=14), Column("a", right=True), Column("b", right=True)]
        yield from screen.table([*headings, Column("b - a", right=True)], rows, width)


def _code(found: Comparison, width: int | None, *, everything: bool) -> Iterator[Line]:
    code = found.code
    if code.same and not everything:
        return
    if code.same is None and not everything and code.commits == (None, None):
        return
    told = {True: "the same", False: "differs", None: "cannot be compared in full"}[code.same]
    yield [Piece("code", "bold"), Piece(f"  {told}")]
    if code.commits[0] != code.commits[1]:
        commits = [str(commit or "none")[:10] for commit in code.commits]
        yield [Piece(f"  commit {commits[0]} → {commits[1]}", "yellow")]
        if None not in code.commits:
            yield [Piece(f"  git diff {commits[0]} {commits[1]}", "dim")]
    if code.patch_differs:
        yield [Piece("  uncommitted changes differ", "yellow")]
    if None not in code.functions and code.functions[0] != code.functions[1]:
        yield [Piece("  the function's source differs", "yellow")]
    if code.incomplete:
        yield [Piece("  recorded changes are incomplete", "yellow")]
    lines = plain_on_screen(code.diff, lines=True).splitlines()
    for line in lines if everything else lines[:_DIFF_LINES]:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        yield [Piece(f"  {elide(line, (width or 200) - 2)}", style)]
    if len(lines) > _DIFF_LINES and not everything:
        yield [Piece(f"  {len(lines) - _DIFF_LINES} more lines: --all", "dim")]
