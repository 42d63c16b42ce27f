"""``runcard rerun``, ``verify``, ``restore``, ``code`` and ``who``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runcard._words import plain_on_screen
from runcard.cli import screen
from runcard.cli.options import Ref, json_option, opened, store_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runcard.reproduce import Plan, Verification

repo_option = click.option("--repo", metavar="PATH", help="A folder or URL that has the commit.")


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
    click.echo(plain_on_screen(f"{tree.path}: {(tree.commit or 'no commit')[:12]} from {tree.source}{changed}"))
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
@store_option
@click.pass_context
def code_command(ctx: click.Context, ref: str, repo: str | None) -> None:
    """Print the difference from a run's code to the working tree as it is now. Runs nothing."""
    from runcard.reproduce import code

    found = code(opened(ctx).get(ref), repository=repo)
    if sys.stdout.isatty():
        found = "\n".join(map(plain_on_screen, found.split("\n")))
    click.echo(found, nl=False)


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
