"""Options that several commands share, and the store that they open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from runcard._frames import Runs
    from runcard.record import RunRecord
    from runcard.store import Store

    _Param = click.ParamType[str]
else:
    _Param = click.ParamType  # not generic in every version

C = TypeVar("C", bound="Callable[..., Any]")


def opened(ctx: click.Context) -> Store:
    """The store named by ``--store``, wherever it stood, else the setting's."""
    from runcard.store import open_store

    return open_store(ctx.obj.get("store") if ctx.obj else None)


def named(ctx: click.Context, record: RunRecord, ref: str = "") -> str:
    """How another command is to name the run that `ref` named, so that it works when it is pasted.

    A store's URL is in it without credentials: those have to come from where the shell's history does not keep them.
    """
    import shlex

    from runcard._elsewhere import is_run_folder, looks_like_path
    from runcard.sinks.registry import name_of
    from runcard.store import is_url

    words = [ref if looks_like_path(ref) or is_run_folder(ref) else record.short_id]
    store = ctx.obj.get("store") if ctx.obj else None
    if store is not None:
        words += ["--store", name_of(store) if is_url(store) else store]
    return shlex.join(words)


def files_store(ctx: click.Context) -> Store:
    """The store, which has to be a folder for what the command does."""
    from runcard.errors import StoreError

    store = opened(ctx)
    if store.root is None:
        raise StoreError(f"`{ctx.command_path}` works on a folder of runs, which {store.url} is not")
    return store


def whereabouts(store: Store) -> str:
    """Where a store is, for a remark that nothing was found there."""
    missing = store.root is not None and not store.root.is_dir()
    return f"{store.root or store.url}{', which is no folder yet' if missing else ''}"


class Ref(_Param):
    """A reference to a run; the shell completes it from the store's short ids."""

    name = "ref"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's own signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """The newest runs whose short id, or id, begins so."""
        from click.shell_completion import CompletionItem

        from runcard.errors import RuncardError
        from runcard.identity import is_run_id

        # Nothing was called yet that would have put the store where `opened` looks for it.
        ctx.obj = {"store": (ctx.obj or {}).get("store") or ctx.find_root().params.get("store")}
        try:
            root = opened(ctx).root
        except RuncardError:
            return []  # the command itself will say it
        names = sorted((entry.name for entry in root.iterdir()), reverse=True) if root and root.is_dir() else []
        found = [name for name in names if is_run_id(name)]
        if incomplete[:2].isdecimal() and any(name.startswith(incomplete) for name in found):
            return [CompletionItem(name) for name in found if name.startswith(incomplete)][:50]
        return [CompletionItem(name[-8:]) for name in found if name[-8:].startswith(incomplete)][:50]


def _keep_store(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["store"] = value


store_option = click.option(
    "--store",
    metavar="URL",
    expose_value=False,
    is_eager=True,
    callback=_keep_store,
    help="A folder of runs, or a store's URL.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print strict JSON.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
experiment_option = click.option("--experiment", "-e", metavar="NAME", help="Only runs of this experiment.")
at_option = click.option(
    "--at",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Each run's last value, or the best point of its history.",
)
direction_option = click.option(
    "--direction",
    "-d",
    type=click.Choice(["minimize", "maximize"]),
    help="What is better; default: as the runs say of their objective.",
)


def filters(command: C) -> C:
    """The options that choose runs."""
    for option in (
        click.option("--limit", "-n", type=click.IntRange(min=1), help="How many at most."),
        click.option("--sort", metavar="PATH", help="Such as metrics.val_loss; -metrics.acc puts the greatest first."),
        click.option(
            "--status",
            type=click.Choice(["running", "finished", "failed", "killed", "crashed"]),
            help="Only runs that stand so.",
        ),
        experiment_option,
        click.option("--where", "-w", metavar="EXPR", help='Such as: config.lr < 0.1 and "quick" in tags.'),
    ):
        command = option(command)
    return command


ROWS = 1_000  # of a table, unless more are asked for: nobody reads on, and 100,000 would take ten seconds


def shown(limit: int | None) -> int:
    """How many runs to ask for when they are to stand in a table: one more than it shows, to know of it."""
    return ROWS + 1 if limit is None else limit


def cut(runs: list[RunRecord], limit: int | None) -> list[RunRecord]:
    """The runs of a table, and a remark when there are more than it shows."""
    if limit is not None or len(runs) <= ROWS:
        return runs
    from runcard.cli import screen

    screen.remark(f"the first {ROWS:,} runs; `-n 100000` shows more, --json all")
    return runs[:ROWS]


def chosen(store: Store, options: dict[str, Any]) -> Runs:
    """The runs that the options of `filters` choose."""
    return store.runs(**{name: options[name] for name in ("where", "experiment", "status", "sort", "limit")})
