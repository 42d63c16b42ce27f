"""``runcard sync`` and ``runcard doctor``: what waits for its sinks, copies of stores, and whether a sink works."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runcard._words import plural
from runcard.cli import screen
from runcard.cli.options import files_store, json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(
    "sync",
    epilog="""\b
Examples:
  runcard sync                                    deliver what is waiting
  runcard sync --to postgresql://ana@db/runs      deliver it there
  runcard sync runcards sqlite:///runs.db         copy a whole store
  runcard sync sqlite:///runs.db copies/          and back

\b
A copy that was broken off goes on where it stopped. Every event of it is
compared with its original. Databases keep references to artifacts, not the
files.

\b
Exit codes: 0 done, 2 something could not be delivered.""",
)
@click.argument("source", metavar="[FROM", required=False)
@click.argument("target", metavar="TO]", required=False)
@click.option("--to", "to", metavar="URL", help="Deliver what is waiting to this sink.")
@store_option
@click.pass_context
def sync_command(ctx: click.Context, source: str | None, target: str | None, to: str | None) -> None:
    """Deliver what is waiting for a sink, in --store when it is given, or copy the store FROM to TO."""
    from runcard import _pending, _sync

    if source is not None and (target is None or to is not None):
        raise click.UsageError("name both, FROM and TO, or neither", ctx)
    if source is not None and target is not None:
        came = _sync.copy(source, target, progress=_progress)
        told = [f"{plural(came.done, 'run')} copied", f"{came.there} there already" if came.there else ""]
    else:
        waiting = files_store(ctx).root if ctx.obj.get("store") is not None else None
        came = _pending.deliver_pending(to, waiting, progress=_progress)
        told = [f"{plural(came.done, 'run')} delivered"]
    told.append(f"{came.running} still running" if came.running else "")
    screen.say(", ".join(part for part in told if part))
    for problem in came.problems[:20]:
        screen.remark(problem)
    if came.problems:
        screen.remark(f"{plural(len(came.problems), 'run')} could not be brought over")
        ctx.exit(2)


@click.command(
    "doctor",
    epilog="""\b
Examples:
  runcard doctor                              the sinks of the settings
  runcard doctor postgresql://ana@db/runs     another one, before it is set

\b
Exit codes: 0 all is well, 2 a sink cannot be reached or written.""",
)
@click.argument("urls", metavar="[URL]...", nargs=-1)
@json_option
@store_option
@click.pass_context
def doctor_command(ctx: click.Context, urls: tuple[str, ...], *, as_json: bool) -> None:
    """Whether sinks can be reached and written, and how many runs wait for them; with --store that store first."""
    from runcard import _doctor, settings
    from runcard.store import is_url

    store = ctx.obj.get("store") if ctx.obj else None
    named = () if store is None else (store if is_url(store) else f"file:{store}",)
    configured = urls or tuple(url for url in settings.current().sinks if isinstance(url, str))
    wanted = dict.fromkeys((*named, *configured))
    found = [_doctor.examine(url) for url in wanted]
    if as_json:
        screen.write_json([finding._asdict() for finding in found])
    for finding in () if as_json else found:
        waiting = f"; {plural(finding.waiting, 'run')} waiting" if finding.waiting else ""
        screen.say(f"{'ok ' if finding.fine else 'BAD'} {finding.sink}: {finding.said}{waiting}")
    if not all(finding.fine for finding in found):
        ctx.exit(2)


def _progress(items: list[Any]) -> Iterator[Any]:
    """The items one by one, with a bar on a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, label="runs", file=sys.stderr) as bar:
        yield from bar
