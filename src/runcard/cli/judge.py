"""``runcard keep``, ``discard``, ``tag``, ``note``, ``rename`` and ``amend``: what is said of a run afterwards.

Each appends an event to the run's journal; nothing that was recorded is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runcard._words import number, plain_on_screen
from runcard.cli import screen
from runcard.cli.options import Ref, opened, store_option

if TYPE_CHECKING:
    from runcard.record import RunRecord

_ref = click.argument("ref", type=Ref())


@click.command("keep", epilog='\b\nExample:\n  runcard keep 7k3f --reason "first one above 0.9"')
@_ref
@click.option("--reason", "-r", help="Why.")
@store_option
@click.pass_context
def keep_command(ctx: click.Context, ref: str, reason: str | None) -> None:
    """Judge a run: keep it, because. Earlier judgements stay in the record."""
    _say(opened(ctx).keep(ref, reason), "kept", reason)


@click.command("discard", epilog='\b\nExample:\n  runcard discard 7k3f --reason "diverged"')
@_ref
@click.option("--reason", "-r", help="Why.")
@store_option
@click.pass_context
def discard_command(ctx: click.Context, ref: str, reason: str | None) -> None:
    """Judge a run: discard it, because. Its files stay until `runcard gc`."""
    _say(opened(ctx).discard(ref, reason), "discarded", reason)


@click.command("tag", epilog="\b\nExample:\n  runcard tag 7k3f baseline paper --remove quick")
@_ref
@click.argument("tags", nargs=-1)
@click.option("--remove", multiple=True, metavar="TAG", help="A tag to take away; may be repeated.")
@store_option
@click.pass_context
def tag_command(ctx: click.Context, ref: str, tags: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Add tags to a run, and take others away."""
    if not tags and not remove:
        raise click.UsageError("no tags are given: `runcard tag REF TAG…` or `--remove TAG`", ctx)
    record = opened(ctx).tag(ref, *tags, remove=remove)
    _say(record, "tagged", ", ".join(record.tags) or "nothing")


@click.command("note", epilog='\b\nExample:\n  runcard note 7k3f "the data was shuffled wrongly"')
@_ref
@click.argument("text")
@store_option
@click.pass_context
def note_command(ctx: click.Context, ref: str, text: str) -> None:
    """Add a note to a run."""
    _say(opened(ctx).note(ref, text), "noted", text)


@click.command("rename", epilog="\b\nExample:\n  runcard rename 7k3f baseline")
@_ref
@click.argument("name")
@store_option
@click.pass_context
def rename_command(ctx: click.Context, ref: str, name: str) -> None:
    """Give a run another name. Its id and its experiment stay."""
    if not name.strip():
        raise click.UsageError("a name is a text that is not empty", ctx)
    _say(opened(ctx).rename(ref, name), "renamed", name)


@click.command(
    "amend", epilog='\b\nExample:\n  runcard amend 7k3f --metric val_loss=0.34 --reason "it was the wrong split"'
)
@_ref
@click.option("--metric", "metrics", multiple=True, required=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--reason", "-r", required=True, help="Why the recorded value is wrong.")
@store_option
@click.pass_context
def amend_command(ctx: click.Context, ref: str, metrics: tuple[str, ...], reason: str) -> None:
    """Correct metrics of a run by new values; the old ones stay beside them."""
    values = dict(_metric(ctx, text) for text in metrics)
    record = opened(ctx).amend(ref, values, reason)
    new = [name for name, old in record.amendments[-1]["before"].items() if old is None]
    if new:
        others = ", ".join(name for name in record.metrics if name not in new) or "nothing else"
        screen.remark(plain_on_screen(f"it had no {', '.join(new)} before; what was logged is {others}"))
    _say(record, "amended", ", ".join(f"{name} {number(value)}" for name, value in values.items()))


def _metric(ctx: click.Context, text: str) -> tuple[str, int | float]:
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise click.UsageError(f"--metric takes NAME=VALUE, not {text!r}", ctx)
    try:
        return name, int(value)
    except ValueError:
        pass  # no whole number
    try:
        return name, float(value)
    except ValueError:
        raise click.UsageError(f"the value of {name} is a number, not {value!r}", ctx) from None


def _say(record: RunRecord, what: str, detail: str | None) -> None:
    from runcard.redact import Redactor

    told = f": {plain_on_screen(Redactor().text(detail)[0])}" if detail else ""  # as it is recorded
    screen.say(f"{record.short_id} {plain_on_screen(record.name)} {what}{told}")
