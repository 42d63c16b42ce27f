"""The command line, called within the test's process."""

from __future__ import annotations

import orjson
from click.testing import CliRunner

from runcard.cli.app import app


def call(*args, columns=None, answer=None):
    """The result of ``runcard ARGS``: ``exit_code``, ``stdout``, ``stderr``."""
    env = {"COLUMNS": str(columns) if columns else None}
    result = CliRunner().invoke(app, [str(arg) for arg in args], env=env, input=answer, prog_name="runcard")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def read(*args):
    """The data that a command prints with ``--json``."""
    result = call(*args, "--json")
    return orjson.loads(result.stdout)
