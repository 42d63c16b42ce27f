"""The table of commands, and what all of them share: the store, errors in one line, exit codes.

Below the error of a wrong expression stands its place. Exit codes: 0 done; 1 nothing was found; 2 wrong usage, or
something failed. A command's help says when it differs.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runcard.errors import QueryError, RuncardError, RunNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    # name: (module, the line in --help)
    "ls": ("runcard.cli.ls", "List runs, newest first."),
    "show": ("runcard.cli.show", "Show one run: what, how it ended, and why."),
    "diff": ("runcard.cli.diff", "What differs between two or more runs."),
    "rank": ("runcard.cli.rank", "Rank runs by a metric, best first."),
    "explain": ("runcard.cli.rank", "Which settings tell the best runs from the worst."),
    "best": ("runcard.cli.rank", "Today's best run of an experiment."),
    "keep": ("runcard.cli.judge", "Judge a run: keep it, because."),
    "discard": ("runcard.cli.judge", "Judge a run: discard it, because."),
    "tag": ("runcard.cli.judge", "Add and remove tags."),
    "note": ("runcard.cli.judge", "Add a note to a run."),
    "rename": ("runcard.cli.judge", "Give a run another name."),
    "amend": ("runcard.cli.judge", "Correct a metric; the old value stays beside it."),
    "leaderboard": ("runcard.cli.leaderboard", "The runs of each experiment, best first."),
    "export": ("runcard.cli.export", "Write runs as CSV, JSON lines or Parquet."),
    "gc": ("runcard.cli.space", "Free space: remove artifacts that nobody needs."),
    "rm": ("runcard.cli.space", "Remove runs for good."),
    "du": ("runcard.cli.space", "How much space runs take."),
    "watch": ("runcard.cli.watch", "Follow a run while it goes on."),
    "rerun": ("runcard.cli.rerun", "Run a run again, and compare."),
    "verify": ("runcard.cli.rerun", "Check a run's files against its record."),
    "restore": ("runcard.cli.rerun", "Write the code of a run into a folder."),
    "code": ("runcard.cli.rerun", "What differs between a run's code and now."),
    "who": ("runcard.cli.rerun", "Which run wrote a file, and which read it."),
    "sync": ("runcard.cli.sync", "Deliver what is waiting, or copy a store."),
    "doctor": ("runcard.cli.sync", "Whether sinks can be reached and written."),
    "import": ("runcard.cli.imports", "Import runs of MLflow, W&B or TensorBoard."),
}

_EPILOG = """\b
Examples:
  runcard ls                                     what was run
  runcard show latest                            the newest run
  runcard diff 7k3f 4x81                         what differs
  runcard rank val_loss --direction minimize     which was best
  runcard keep 7k3f --reason "beats the baseline"
  runcard --store sqlite:///runs.db ls           another store

\b
A run is addressed by its id, the beginning of the id or of its last eight
characters, a name that only one run has, `latest`, a run's folder, or a zip
of one.

\b
Completion: eval "$(runcard --completion bash)" in ~/.bashrc, or zsh; for
fish: runcard --completion fish > ~/.config/fish/completions/runcard.fish

\b
Exit codes: 0 done, 1 nothing found, 2 wrong usage or an error."""


class App(click.Group):
    """A group that imports a command's file when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        """The commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Import the command's file and take the command of that name from it."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean `runcard {near[0]}`?" if near else "`runcard --help` lists the commands"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has seen enough, as in ``runcard ls | head``, is no failure."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _hush()
            ctx.exit(0)
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; when standing alone, end the process with its exit code, an error in one line."""
        if sys.stdout is None:  # closed by whoever started us: what we say goes nowhere
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open to the end
        given: dict[str, Any] = {**extra, "windows_expand_args": windows_expand_args, "standalone_mode": False}
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, **given)
        try:
            code = super().main(args, prog_name, complete_var, **given)
        except RunNotFound as error:
            _fail(str(error), 1)
        except QueryError as error:
            _fail(str(error), 2, lines=True)  # the caret stands below the place
        except RuncardError as error:
            _fail(str(error), 2)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "runcard"
            message = error.format_message()
            _fail(message if "runcard" in message else f"{message.rstrip('.')}; see `{path} --help`", 2)
        except click.ClickException as error:
            _fail(error.format_message(), 2)
        except (click.Abort, KeyboardInterrupt):
            _fail("stopped", 130)
        except OSError as error:
            _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 2)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int, *, lines: bool = False) -> NoReturn:
    from runcard._words import plain_on_screen

    click.echo(f"runcard: {plain_on_screen(message, lines=lines)}", err=True)
    sys.exit(code)


def _hush() -> None:
    """Let the interpreter's last flush go nowhere instead of failing."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        pass  # standard output is no file: there is nothing to flush


def _print_completion(ctx: click.Context, _param: click.Parameter, shell: str | None) -> None:
    if shell is None or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(app, {}, "runcard", "_RUNCARD_COMPLETE").source())
    ctx.exit()


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from runcard import __version__

    click.echo(f"runcard {__version__}")
    ctx.exit()


@click.group(
    cls=App,
    name="runcard",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.option("--store", metavar="URL", help="A folder of runs, or a store's URL; default: the setting `directory`.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="The version."
)
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help="Print the shell's completion script.",
)
@click.pass_context
def app(ctx: click.Context, store: str | None) -> None:
    """Every run leaves a card. List, read, compare, rank and judge runs."""
    ctx.obj = {"store": store}
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
