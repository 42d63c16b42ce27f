"""``runcard import``: records from the runs of MLflow, Weights & Biases and TensorBoard."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runcard._words import plain_on_screen, plural
from runcard.cli import screen
from runcard.cli.options import experiment_option, json_option, store_option
from runcard.cli.quantities import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runcard.importers import Report


@click.command(
    "import",
    epilog="""\b
Examples:
  runcard import mlruns                          MLflow's folder
  runcard import mlflow.db                       MLflow's SQLite file
  runcard import mlflow:http://localhost:5000    an MLflow server
  runcard import wandb                           W&B's, offline runs too
  runcard import tensorboard runs/               TensorBoard's event files
  runcard import mlruns --dry-run                what would come

\b
A second import makes nothing twice. What cannot be carried over is counted at
the end and in each record's `losses`; docs/import.md has it kind by kind.

\b
Exit codes: 0 done, 1 no runs were found, 2 a run could not be imported.""",
)
@click.argument("words", metavar="[KIND] PATH_OR_URL", nargs=-1, required=True)
@click.option("--into", metavar="STORE", help="A folder or a store's URL; default: --store, else the setting.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["mlflow", "wandb", "tensorboard"]),
    help="What lies there; default: by the files.",
)
@experiment_option
@click.option("--as", "rename", metavar="NAME", help="Put the runs into this experiment.")
@click.option("--where", "-w", metavar="EXPR", help="Only runs whose record meets this, such as: metrics.loss < 1.")
@click.option("--deleted", is_flag=True, help="Also runs that were deleted there.")
@click.option(
    "--copy-limit",
    metavar="SIZE",
    default="100MB",
    show_default=True,
    help="Copy artifacts up to this size, refer to larger ones; 0 copies none, `none` all.",
)
@click.option("--dry-run", is_flag=True, help="Write nothing; list what would be imported.")
@json_option
@store_option
@click.pass_context
def import_command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    into: str | None,
    kind: str | None,
    *,
    dry_run: bool,
    as_json: bool,
    copy_limit: str,
    **chosen: Any,
) -> None:
    """Make records from the runs of MLflow, W&B or TensorBoard."""
    from runcard import settings
    from runcard.importers import KINDS, Wishes, import_runs

    *said, source = words
    if said and (len(said) > 1 or said[0] not in KINDS or kind not in (None, said[0])):
        raise click.UsageError(f"one place is imported from at a time, not {len(words)}", ctx)
    kind = said[0] if said else kind
    target = into or (ctx.obj or {}).get("store") or settings.store_root(settings.current())
    limit = None if copy_limit == "none" else parse_size(copy_limit)
    wishes = Wishes(copy_limit=limit, **chosen)
    report = import_runs(source, target, kind=kind, wishes=wishes, dry_run=dry_run, progress=_counted)
    if as_json:
        screen.write_json(_data(report, dry_run=dry_run))
    else:
        _say(report, dry_run=dry_run)
    for problem in report.problems[:20]:
        screen.remark(plain_on_screen(problem))
    if report.problems:
        screen.remark(f"{plural(len(report.problems), 'run')} could not be imported")
        ctx.exit(2)
    if not report.found:
        screen.remark(f"no runs were found in {plain_on_screen(source)}")
        ctx.exit(1)


def _say(report: Report, *, dry_run: bool) -> None:
    parts = [f"{plural(len(report.imported), 'run')} {'would be ' if dry_run else ''}imported"]
    if report.brought_up_to_date:
        parts.append(f"{len(report.brought_up_to_date)} brought up to date")
    if report.there:
        parts.append(f"{report.there} already there")
    parts += [f"{count} passed over ({why})" for why, count in sorted(report.passed_over.items())]
    screen.say(", ".join(parts))
    if report.left_out:
        listed = ", ".join(f"{count} {what}" for what, count in sorted(report.left_out.items()))
        screen.say(f"left out: {plain_on_screen(listed)}")


def _data(report: Report, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "imported": report.imported,
        "brought_up_to_date": report.brought_up_to_date,
        "there": report.there,
        "passed_over": dict(report.passed_over),
        "left_out": dict(report.left_out),
        "problems": report.problems,
    }


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    """The items one by one; on a terminal, how many there were so far."""
    if not sys.stderr.isatty():
        yield from items
        return
    for count, item in enumerate(items, 1):
        sys.stderr.write(f"\r{plural(count, 'run')} …")
        sys.stderr.flush()
        yield item
    sys.stderr.write("\r\x1b[K")
