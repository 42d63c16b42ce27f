"""``runcard leaderboard``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from runcard import query
from runcard._words import elide, number, plain_on_screen
from runcard.cli import screen
from runcard.cli.ls import main_metrics, verdict
from runcard.cli.options import experiment_option, files_store, json_option, opened, store_option, whereabouts
from runcard.cli.screen import Column, Piece
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runcard.record import RunRecord
    from runcard.store import Store


@click.command(
    "leaderboard",
    epilog="""\b
Examples:
  runcard leaderboard
  runcard leaderboard --format markdown --experiment train
  runcard leaderboard --rebuild

\b
Runs are ranked within their experiment by its objective, the newest run's
word counting; experiments without one are listed by time.""",
)
@click.option("--rebuild", is_flag=True, help="Write leaderboard.csv anew from the runs' folders; print its path.")
@click.option(
    "--format",
    "-f",
    "kind",
    type=click.Choice(["table", "markdown", "csv"]),
    default="table",
    show_default=True,
    help="csv is the file leaderboard.csv itself.",
)
@experiment_option
@click.option("--limit", "-n", type=click.IntRange(min=1), help="How many of each experiment.")
@json_option
@store_option
@click.pass_context
def leaderboard_command(
    ctx: click.Context, rebuild: bool, kind: str, experiment: str | None, limit: int | None, as_json: bool
) -> None:
    """Show the runs of each experiment, best first."""
    if rebuild:
        screen.say(str(files_store(ctx).rebuild_leaderboard()))
        return
    store = opened(ctx)
    if kind == "csv" and not as_json:
        if limit is not None:
            raise click.UsageError("csv is the whole file; leave -n out, or use `runcard export -n`", ctx)
        _write_csv(store, experiment)
        return
    boards = [(name, _ranked(runs)) for name, runs in _experiments(store, experiment).items()]
    if as_json:
        screen.write_json([record.to_dict(history=False) for _, runs in boards for record in runs[:limit]])
        return
    for place, (name, runs) in enumerate(boards):
        title = _title(name, runs, limit)
        if kind == "markdown":
            screen.say(("\n" if place else "") + _markdown(title, runs[:limit]))
        else:
            screen.write([*([[Piece("")]] if place else []), *_table(title, runs[:limit])])
    if not boards:
        screen.remark(f"no run has ended yet in {whereabouts(store)}")


def _write_csv(store: Store, experiment: str | None) -> None:
    from runcard._frames import export

    if store.root is not None and experiment is None:
        path = store.root / "leaderboard.csv"
        if path.is_file():
            with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
                while block := file.read(1 << 20):
                    screen.data().write(block)
            return
    export(store.runs(experiment=experiment, sort="started_at"), "csv", screen.data())


def _experiments(store: Store, experiment: str | None) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = {}
    for record in store.runs(experiment=experiment):
        if record.status is not Status.RUNNING:
            found.setdefault(record.experiment, []).append(record)
    return found


def _ranked(runs: Sequence[RunRecord]) -> list[RunRecord]:
    judged = next((record for record in runs if record.objective and record.direction), None)
    if judged is None or judged.objective is None or judged.direction is None:
        return list(runs)
    return query.rank(runs, judged.objective, judged.direction)


def _columns_and_rows(runs: Sequence[RunRecord]) -> tuple[list[Column], list[list[Piece]]]:
    from runcard._paths import leaves
    from runcard.cli.rank import cell, differing, short_titles

    metrics, paths = main_metrics(runs), differing(runs)[:6]
    headings = [Column("", right=True), Column("run"), Column("name", least=6), Column("status")]
    headings += [Column("verdict", least=4)]
    headings += [Column(plain_on_screen(name), right=True, least=9) for name in metrics]  # a number is never cut
    headings += [Column(plain_on_screen(title), right=True, least=6) for title in short_titles(paths)]
    rows = []
    for place, record in enumerate(runs, start=1):
        settings = dict(leaves(record.config))
        row = [Piece(str(place), "dim"), Piece(record.short_id, "bold"), Piece(plain_on_screen(record.name))]
        row += [Piece(record.status.value, screen.STATUS_STYLES.get(record.status.value, "")), verdict(record)]
        row += [Piece(number(record.metrics[name]) if name in record.metrics else "") for name in metrics]
        rows.append(row + [Piece(cell(settings[path]) if path in settings else "") for path in paths])
    return headings, rows


def _title(name: str, runs: Sequence[RunRecord], limit: int | None) -> str:
    judged = next((record for record in runs if record.objective), None)
    by = f", by {judged.objective} ({judged.direction})" if judged else ", newest first"
    count = f"{limit} of {len(runs)}" if limit is not None and limit < len(runs) else str(len(runs))
    return plain_on_screen(f"{name or '(no experiment)'}: {count}{by}")


def _table(title: str, runs: Sequence[RunRecord]) -> list[screen.Line]:
    headings, rows = _columns_and_rows(runs)
    width = screen.columns()
    return [[Piece(title if width is None else elide(title, width), "bold")], *screen.table(headings, rows, width)]


def _markdown(title: str, runs: Sequence[RunRecord]) -> str:
    headings, rows = _columns_and_rows(runs)

    def row(cells: list[str]) -> str:
        return f"| {' | '.join(map(_as_text, cells))} |"

    rule = f"|{'|'.join('---:' if column.right else '---' for column in headings)}|"
    body = [row([piece.text for piece in cells]) for cells in rows]
    return "\n".join([f"### {_as_text(title)}", "", row([column.title for column in headings]), rule, *body])


def _as_text(cell: str) -> str:
    """What Markdown shows as it is: no end of a cell, no HTML, no code."""
    return re.sub(r"([\\|<`])", r"\\\1", cell)
