"""``runcard gc``, ``rm`` and ``du``: how much space runs take, and how to have it back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runcard import retention
from runcard._words import plain_on_screen, plural, size
from runcard.cli import screen
from runcard.cli.options import (
    Ref,
    direction_option,
    experiment_option,
    files_store,
    json_option,
    store_option,
    yes_option,
)
from runcard.cli.quantities import parse_age, parse_size
from runcard.cli.screen import Column, Piece
from runcard.errors import RunStateError, SettingError
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runcard.record import RunRecord


@click.command(
    "gc",
    epilog="""\b
Examples:
  runcard gc --dry-run
  runcard gc --keep-top 3 --by val_loss --direction minimize
  runcard gc --older-than 30d --max-size 50GB --yes

\b
Without rules it removes transient artifacts and those of discarded runs. Each
rule lets more go: --keep-top what is not among the best, --older-than and
--max-size whatever is old or too much. Nothing of a kept run, of a run that
goes on, or of the best goes, and no record without --runs.
Exit codes: 0, and 2 when it would have to ask and there is no terminal.""",
)
@click.option(
    "--keep-top", type=click.IntRange(min=0), default=0, metavar="N", help="Leave the best N of each experiment."
)
@click.option("--by", metavar="METRIC", help="What is best; default: each experiment's objective.")
@direction_option
@click.option("--older-than", metavar="AGE", help="Only runs that ended longer ago: 30d, 12h.")
@click.option("--max-size", metavar="SIZE", help="Stop once all artifacts take no more: 50GB.")
@experiment_option
@click.option("--runs", is_flag=True, help="Let the runs go with their records.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@yes_option
@json_option
@store_option
@click.pass_context
def gc_command(
    ctx: click.Context,
    /,
    keep_top: int,
    by: str | None,
    direction: str | None,
    older_than: str | None,
    max_size: str | None,
    experiment: str | None,
    runs: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Free space: remove artifacts that nobody needs. Says what, and asks, before it does."""
    if (by is not None or direction is not None) and not keep_top:
        raise click.UsageError("--by and --direction say what is best; add --keep-top N", ctx)
    store = files_store(ctx)
    made = retention.plan(
        store.runs(experiment=experiment),
        retention.artifact_files,
        keep_top=keep_top,
        by=by,
        direction=direction,
        older_than=None if older_than is None else parse_age(older_than),
        max_size=None if max_size is None else parse_size(max_size),
        runs=runs,
    )
    if as_json:
        if made.removals and not (dry_run or yes):
            raise click.UsageError("--json is for scripts, which cannot be asked; add --dry-run or --yes", ctx)
        _write_plan(made)
    elif not made.removals:
        screen.say(f"nothing to free: {size(made.total)} of artifacts, {plural(len(made.protected), 'run')} protected")
    else:
        _say_plan(made)
    if dry_run or not made.removals:
        return
    _ask(ctx, f"remove {_what(made)}?", yes=yes)
    freed, problems = retention.apply(store, made)
    for problem in problems:
        screen.remark(plain_on_screen(problem))
    if not as_json:
        screen.say(f"freed {size(freed)}")


@click.command("rm", epilog="\b\nExample:\n  runcard rm 7k3f 4x81 --yes")
@click.argument("refs", type=Ref(), nargs=-1, required=True)
@yes_option
@store_option
@click.pass_context
def rm_command(ctx: click.Context, refs: tuple[str, ...], yes: bool) -> None:
    """Remove runs for good, with their records and files. Says what, and asks, before it does."""
    from runcard import leaderboard

    store = files_store(ctx)
    assert store.root is not None
    records = list({record.run_id: record for record in map(store.get, refs)}.values())
    for record in records:
        if record.status is Status.RUNNING:
            raise RunStateError(f"{record.short_id} still runs; end it first")
        if record.folder is None or record.folder != str(store.root / record.run_id):
            raise SettingError(f"{record.short_id} lies outside {store.root}; remove its folder yourself")
    sizes = {record.run_id: _bytes(record) for record in records}
    rows = [
        [
            Piece(record.short_id, "bold"),
            Piece(plain_on_screen(record.name)),
            Piece(record.status.value, screen.STATUS_STYLES.get(record.status.value, "")),
            Piece(record.decision or ""),
            Piece(size(sizes[record.run_id])),
        ]
        for record in records
    ]
    headings = [Column("run"), Column("name", least=8), Column("status"), Column("verdict"), Column("size", right=True)]
    screen.write(screen.table(headings, rows, screen.columns()))
    kept = sum(record.decision == "keep" for record in records)
    told = f", {plural(kept, 'kept run')} among them," if kept else ""
    _ask(ctx, f"remove {plural(len(records), 'run')}{told} for good?", yes=yes)
    for record in records:
        retention.remove_run(store.root, record.run_id)
    leaderboard.remove(store.root, [record.run_id for record in records])
    screen.say(f"removed {plural(len(records), 'run')}, {size(sum(sizes.values()))}")


@click.command("du", epilog="\b\nExamples:\n  runcard du\n  runcard du -n 5 --json")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="The largest only.")
@experiment_option
@json_option
@store_option
@click.pass_context
def du_command(ctx: click.Context, limit: int | None, experiment: str | None, as_json: bool) -> None:
    """Show how much space runs take, the largest first. A file that several runs share counts once."""
    store = files_store(ctx)
    seen: set[tuple[int, int]] = set()
    used = [(record, *_use(record, seen)) for record in store.runs(experiment=experiment)]
    used.sort(key=lambda entry: -entry[1])
    total, artifacts = sum(entry[1] for entry in used), sum(entry[2] for entry in used)
    count = len(used)
    used = used[:limit]
    if as_json:
        listed = [
            {
                "run_id": record.run_id,
                "name": record.name,
                "decision": record.decision,
                "bytes": both,
                "artifacts": files,
            }
            for record, both, files in used
        ]
        screen.write_json({"bytes": total, "artifacts": artifacts, "runs": listed})
        return
    headings = [Column("size", right=True), Column("artifacts", right=True), Column("run"), Column("name", least=8)]
    headings += [Column("status"), Column("verdict")]
    rows = [
        [
            Piece(size(both)),
            Piece(size(files) if files else ""),
            Piece(record.short_id, "bold"),
            Piece(plain_on_screen(record.name)),
            Piece(record.status.value, screen.STATUS_STYLES.get(record.status.value, "")),
            Piece(record.decision or ""),
        ]
        for record, both, files in used
    ]
    lines = screen.table(headings, rows, screen.columns()) if rows else []
    screen.write(
        [*lines, [Piece(f"{size(total)} in {plural(count, 'run')}, {size(artifacts)} of it artifacts", "bold")]]
    )


def _use(record: RunRecord, seen: set[tuple[int, int]]) -> tuple[int, int]:
    """Bytes of a run's folder, and of its artifacts."""
    both = artifacts = 0
    for path, found in retention.disk_use(record.folder or ""):
        if found.st_nlink > 1:
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        both += found.st_size
        artifacts += found.st_size if path.startswith("artifacts/") else 0
    return both, artifacts


def _bytes(record: RunRecord) -> int:
    return _use(record, set())[0]


def _ask(ctx: click.Context, question: str, *, yes: bool) -> None:
    """Go on only with the person's yes."""
    if yes:
        return
    if not (sys.stdin.isatty() and screen.is_terminal()):
        raise click.UsageError("there is no terminal to ask at; add --yes", ctx)
    if not click.confirm(question, default=False):
        screen.say("nothing was removed")
        ctx.exit(0)


def _what(made: retention.Plan) -> str:
    whole = sum(removal.whole for removal in made.removals)
    files = sum(len(removal.files) for removal in made.removals if not removal.whole)
    parts = [plural(files, "artifact")] if files else []
    parts += [f"{plural(whole, 'run')} with all that is in them"] if whole else []
    return f"{' and '.join(parts)}, {size(made.bytes)}"


def _say_plan(made: retention.Plan) -> None:
    headings = [Column("run"), Column("name", least=8), Column("files", right=True), Column("size", right=True)]
    headings += [Column("why"), Column("", least=10)]
    rows = []
    for removal in made.removals:
        what = "the whole run" if removal.whole else _listed(list(removal.files))
        rows.append(
            [
                Piece(removal.record.short_id, "bold"),
                Piece(plain_on_screen(removal.record.name)),
                Piece(str(len(removal.files))),
                Piece(size(removal.bytes)),
                Piece(removal.why),
                Piece(what, "red" if removal.whole else "dim"),
            ]
        )
    screen.write(screen.table(headings, rows, screen.columns()))
    counts: dict[str, int] = {}
    for why in made.protected.values():
        word = why if why in ("kept", "running") else "among the best"
        counts[word] = counts.get(word, 0) + 1
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    whole = any(removal.whole for removal in made.removals)  # then it is more than artifacts
    share = "" if whole else f" of {size(made.total)} of artifacts"
    screen.say(f"frees {size(made.bytes)}{share}{f'; protected: {told}' if told else ''}")


def _listed(paths: Sequence[str]) -> str:
    names = [plain_on_screen(path.removeprefix("artifacts/")) for path in paths]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _write_plan(made: retention.Plan) -> None:
    removals: list[dict[str, Any]] = [
        {
            "run_id": removal.record.run_id,
            "paths": list(removal.files),
            "bytes": removal.bytes,
            "why": removal.why,
            "whole": removal.whole,
        }
        for removal in made.removals
    ]
    screen.write_json({"bytes": made.bytes, "total": made.total, "protected": made.protected, "removals": removals})
