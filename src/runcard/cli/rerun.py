"""``runcard rerun``, ``verify``, ``restore``, ``code`` and ``who``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runcard._words import plain_on_screen, plural
from runcard.cli import screen
from runcard.cli.options import Ref, json_option, opened, store_option, yes_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runcard.reproduce import Plan, Tolerance, Verdict, Verification

repo_option = click.option("--repo", metavar="PATH", help="A folder or URL that has the commit.")


@click.command(
    "rerun",
    epilog="""\b
Examples:
  runcard rerun latest
  runcard rerun 7k3f --plan
  runcard rerun 7k3f --set lr=0.01 --set model.depth=3 --yes
  runcard rerun 7k3f --rtol 1e-3 --rtol val_loss=0.05
  runcard rerun 7k3f --script > again.sh

\b
Without --rtol and --atol, a metric b is within tolerance of a when
|a - b| <= 1e-8 + 1e-5 |a|.

\b
Exit codes: 0 identical or within tolerance, 1 different or failed, 2 it could
not be run again, or was not allowed to: no terminal to ask on, and no --yes.""",
)
@click.argument("ref", type=Ref())
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be done and what cannot be had; run nothing.")
@click.option("--script", "as_script", is_flag=True, help="Print a shell script that does it without runcard.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting; may be repeated.")
@click.option("--venv", is_flag=True, help="Install the recorded packages into an environment of its own.")
@click.option("--here", is_flag=True, help="Use this interpreter and its packages: the default.")
@click.option("--rtol", multiple=True, metavar="[METRIC=]X", help="Relative tolerance, of all metrics or of one.")
@click.option("--atol", multiple=True, metavar="[METRIC=]X", help="Absolute tolerance, of all metrics or of one.")
@repo_option
@yes_option
@json_option
@store_option
@click.pass_context
def rerun_command(ctx: click.Context, /, ref: str, settings: tuple[str, ...], **options: Any) -> int:
    """Run a run again from its record, in a temporary folder, and say whether the result is the same.

    This executes the code that the record names. Your own files are not touched; the new run and the verdict are
    recorded beside the original.
    """
    from runcard import reproduce

    if options["venv"] and options["here"]:
        raise click.UsageError("--venv and --here exclude each other")
    store = opened(ctx)
    record = store.get(ref)
    changes = dict(map(_setting, settings))
    repository, as_json = options["repo"], options["as_json"]
    planned = reproduce.plan(record, changes=changes, repository=repository, venv=options["venv"])
    if options["only_plan"]:
        if as_json:
            screen.write_json(planned.to_dict())
        else:
            screen.write(list(_plan_lines(planned)))
        return 0 if planned.possible else 2
    if options["as_script"]:
        screen.data().write(reproduce.script(record, changes=changes))
        return 0
    if planned.possible and not _is_allowed(planned, yes=options["yes"]):
        return 2
    verdict = reproduce.rerun(
        record,
        changes=changes,
        venv=options["venv"],
        repository=repository,
        tolerance=_tolerance(options["rtol"], options["atol"]),
        store=store,
        output=2 if as_json else None,
    )
    if as_json:
        screen.write_json(verdict.to_dict())
    else:
        screen.write(list(_verdict_lines(verdict)))
    return verdict.exit_code


@click.command(
    "verify",
    epilog="""\b
Examples:
  runcard verify latest
  runcard verify 7k3f --json | jq .checks

\b
Exit codes: 0 intact, 1 something was changed, lost or damaged, 2 an error.""",
)
@click.argument("ref", type=Ref())
@repo_option
@json_option
@store_option
@click.pass_context
def verify_command(ctx: click.Context, ref: str, repo: str | None, as_json: bool) -> int:
    """Check a run's journal, patch, artifacts and inputs, and whether it can be run again. Runs nothing."""
    from runcard.reproduce import verify

    found = verify(opened(ctx).get(ref), repository=repo)
    if as_json:
        screen.write_json(found.to_dict())
    else:
        screen.write(_verification_lines(found))
    return 0 if found.intact else 1


@click.command(
    "restore",
    epilog="""\b
Example:
  runcard restore 7k3f --to code-of-7k3f""",
)
@click.argument("ref", type=Ref())
@click.option("--to", "to", metavar="DIR", required=True, help="An empty folder, or one that is not there yet.")
@repo_option
@json_option
@store_option
@click.pass_context
def restore_command(ctx: click.Context, ref: str, to: str, repo: str | None, as_json: bool) -> None:
    """Write the code of a run into a folder: the commit with its uncommitted changes. Runs nothing."""
    from runcard.reproduce import restore

    tree = restore(opened(ctx).get(ref), to, repository=repo)
    if as_json:
        told = {**tree._asdict(), "path": str(tree.path)}
        screen.write_json(told)
        return
    changed = f" with {tree.patch_bytes:,} bytes of uncommitted changes" if tree.patch_bytes else ""
    screen.say(plain_on_screen(f"{tree.path}: {(tree.commit or 'no commit')[:12]} from {tree.source}{changed}"))
    for entry in tree.missing:
        click.echo(plain_on_screen(f"  not in it: {entry['path']} ({entry['why']})"), err=True)


@click.command(
    "code",
    epilog="""\b
Examples:
  runcard code latest
  runcard code 7k3f | git apply -R      back to the code of that run

\b
Exit codes: 0, differences or not; 2 an error.""",
)
@click.argument("ref", type=Ref())
@repo_option
@json_option
@store_option
@click.pass_context
def code_command(ctx: click.Context, ref: str, repo: str | None, as_json: bool) -> None:
    """Print the difference from a run's code to the working tree as it is now. Runs nothing."""
    from runcard.reproduce import code

    record = opened(ctx).get(ref)
    found = code(record, repository=repo)
    raw = found.encode("utf-8", "surrogateescape")
    if as_json:
        screen.write_json({"run_id": record.run_id, "diff": raw.decode("utf-8", "backslashreplace")})
    elif sys.stdout.isatty():
        click.echo("\n".join(map(plain_on_screen, found.split("\n"))), nl=False)
    else:
        click.echo(raw, nl=False)  # to `git apply`, byte for byte


@click.command(
    "who",
    epilog="""\b
Examples:
  runcard who model.pt
  runcard who data/train.csv --json

\b
Exit codes: 0 found, 1 no run knows the file, 2 an error.""",
)
@click.argument("file", type=click.Path())
@json_option
@store_option
@click.pass_context
def who_command(ctx: click.Context, file: str, as_json: bool) -> int:
    """Which run wrote a file, and which read it: by content, so also after it was copied or renamed.

    Runs know the files that they were told of (inputs, artifacts), and with capture=["files"] all that they opened.
    """
    from runcard.lineage import who

    uses = who(file, opened(ctx).runs())
    if as_json:
        screen.write_json([use._asdict() for use in uses])
    else:
        for use in uses:
            mark = "" if use.by == "content" else "  (by its path: no hash is recorded)"
            when = (use.started_at or "")[:19].replace("T", " ")
            screen.say(plain_on_screen(f"{use.how:<5}  {use.run_id[-8:]}  {when}  {use.name}  {use.path}{mark}"))
    if not uses and not as_json:
        click.echo(plain_on_screen(f"no run knows {file}"), err=True)
    return 0 if uses else 1


def _is_allowed(plan: Plan, *, yes: bool) -> bool:
    """Show what is about to be executed, on standard error, and ask."""
    click.echo("\n".join(_plan_lines(plan)), err=True)
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        click.echo(
            "runcard: this executes the recorded code; say --yes, since there is no terminal to ask on", err=True
        )
        return False
    return click.confirm("Execute this code?", err=True)


def _tolerance(relative: tuple[str, ...], absolute: tuple[str, ...]) -> Tolerance:
    from runcard.reproduce import Tolerance

    common: dict[str, float] = {}
    metrics: dict[str, list[float | None]] = {}
    for place, (option, given) in enumerate((("rtol", relative), ("atol", absolute))):
        for text in given:
            name, equals, value = text.rpartition("=")
            try:
                number = float(value)
            except ValueError:
                raise click.BadParameter(f"--{option} takes a number, or METRIC=NUMBER, not {text!r}") from None
            if not number >= 0:
                raise click.BadParameter(f"--{option} is zero or more, not {value}")
            if equals:
                metrics.setdefault(name, [None, None])[place] = number
            else:
                common[option] = number
    return Tolerance(**common, metrics={name: (pair[0], pair[1]) for name, pair in metrics.items()})


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    """The verdict, to be read: one line that says it, then what differs, then why it may."""
    told = ", ".join(plural(count, kind.removesuffix("s")) for kind, count in verdict.compared.items() if count)
    new = f"  rerun {verdict.rerun[-8:]}" if verdict.rerun else ""
    yield f"{verdict.outcome}: {verdict.run_id[-8:]}{new}" + (f"  ({told} compared)" if told else "")
    if verdict.reason:
        yield plain_on_screen(f"  {verdict.reason}")
    for each in [*verdict.metrics[:10], *verdict.history[:10]]:
        where = f"{each.name} at step {each.step}" if each.step is not None else each.name
        mark = "  (within tolerance)" if each.within else ""
        yield plain_on_screen(f"  {where}: {_number(each.a)} -> {_number(each.b)}{mark}")
    more = len(verdict.metrics[10:]) + len(verdict.history[10:])
    if more:
        yield f"  and {more} more"
    for name, state in verdict.artifacts.items():
        if state != "same":
            yield plain_on_screen(f"  artifact {name}: {state}")
    if verdict.causes:
        yield "  what may be why, the likeliest first:"
    for number, cause in enumerate(verdict.causes[:10], 1):
        yield plain_on_screen(f"  {number:>2}. {cause.kind}: {cause.what}")


def _number(value: float | None) -> str:
    return "missing" if value is None else repr(value)


def _verification_lines(found: Verification) -> list[str]:
    lines = []
    for check in found.checks:
        detail = f"  ({check.detail})" if check.detail else ""
        lines.append(plain_on_screen(f"{check.state:<8} {check.kind:<9} {check.path}{detail}"))
    word = "it can be run again" if found.plan.possible else "it cannot be run again"
    lines.append(f"{'intact' if found.intact else 'not intact'}; {word}")
    return [*lines, *_obstacle_lines(found.plan)]


def _obstacle_lines(plan: Plan) -> Iterator[str]:
    for obstacle in plan.cannot:
        mark = "stops it" if obstacle.stops else "may differ"
        yield plain_on_screen(f"  {mark}: {obstacle.why}")


def _plan_lines(plan: Plan) -> Iterator[str]:
    """The plan, to be read before saying yes."""
    yield plain_on_screen(f"run       {plan.run_id}  {plan.name}")
    code = f"{(plan.commit or 'no commit')[:12]}" + (f" on {plan.branch}" if plan.branch else "")
    code += f", from {plan.source}" if plan.source else ""
    code += f", with {plan.patch_bytes:,} bytes of uncommitted changes" if plan.patch_bytes else ""
    yield plain_on_screen(f"code      {code}")
    if plan.how != "none":
        yield plain_on_screen(f"{'call' if plan.how == 'function' else 'command':<9} {plan.call}")
    for path, value in plan.changes.items():
        yield plain_on_screen(f"changed   {path} = {value!r}")
    yield f"python    {plan.python or 'unknown'}, {len(plan.packages)} packages, {len(plan.packages_here)} differ here"
    for entry in plan.inputs:
        yield plain_on_screen(f"input     {entry['path']}: {entry['state']}, {str(entry['sha256'] or 'no hash')[:12]}")
    seeds = ", ".join(f"{name}={value}" for name, value in plan.seed.items() if value is not None)
    yield plain_on_screen(
        f"seed      {seeds or 'none set; generators go on from their recorded state where there is one'}"
    )
    for name, value in plan.variables.items():
        yield plain_on_screen(f"variable  {name}={value}")
    yield from _obstacle_lines(plan)


def _setting(text: str) -> tuple[str, Any]:
    """``lr=0.1`` as a path and a Python value; what is no literal is a text."""
    import ast

    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise click.BadParameter(f"--set takes NAME=VALUE, not {text!r}")
    try:
        return path.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return path.strip(), value
