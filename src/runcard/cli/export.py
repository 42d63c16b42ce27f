"""``runcard export``."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from runcard._words import plain_on_screen, plural
from runcard.cli import screen
from runcard.cli.options import chosen, filters, opened, store_option


@click.command(
    "export",
    epilog="""\b
Examples:
  runcard export --format csv > runs.csv
  runcard export --format parquet -o runs.parquet --experiment train
  runcard export --format jsonl --where 'metrics.val_loss < 0.3'""",
)
@click.option(
    "--format",
    "-f",
    "kind",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
    help="Parquet wants pyarrow.",
)
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="The file; default: standard output.")
@filters
@store_option
@click.pass_context
def export_command(ctx: click.Context, /, kind: str, output: str | None, **options: Any) -> None:
    """Write runs, a row each: the columns of the leaderboard, or with jsonl the records without history."""
    from runcard._frames import export

    runs = chosen(opened(ctx), options)
    if output is not None:
        export(runs, kind, output)
        screen.remark(f"{plural(len(runs), 'run')} in {output}")
    elif kind == "parquet":
        if screen.is_terminal():
            raise click.UsageError("parquet is no text for a terminal; name a file with -o", ctx)
        export(runs, kind, sys.stdout.buffer)
    elif screen.is_terminal():
        text = io.StringIO()
        export(runs, kind, text)
        screen.say(plain_on_screen(text.getvalue().rstrip("\n"), lines=True))
    else:
        export(runs, kind, screen.data())
