"""How a recorded run is started again: its function called with its config, or its command line."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard._paths import leaves, parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runcard.record import RunRecord

REDACTED = "[redacted]"
MAIN = ("__main__", "__mp_main__")  # the second, in processes that multiprocessing spawns


class Obstacle(NamedTuple):
    """Something of the run that cannot be had again.

    Attributes:
        what: ``code``, ``input``, ``package``, ``argument``, ``python``, ``seed`` or ``call``.
        why: A sentence.
        stops: Whether no rerun is possible for it; the others may make its result differ.
    """

    what: str
    why: str
    stops: bool = False


class Parameter(NamedTuple):
    """A parameter of the recorded function, as its source has it."""

    name: str
    kind: str  # "plain", "/" for one that is given by its place alone, "*", "**"
    required: bool


def how_to_run(
    record: RunRecord, config: Mapping[str, Any], changes: Mapping[str, Any], obstacles: list[Obstacle]
) -> tuple[str, str]:
    """How the run is started again, and that in words."""
    reasons = list(_why_not_called(record, config))
    command, why = _command(record)
    if record.function is not None and not reasons:
        if bound_to(record) == "cls":
            owner = str(record.function.get("qualname")).rpartition(".")[0]
            obstacles.append(Obstacle("call", f"the class of the call is not in the record; {owner} is taken"))
        return "function", _call(record, config)
    if command is not None and not changes:
        if record.function is not None:
            obstacles += [Obstacle("call", f"{reason}; its command line is run instead") for reason in reasons]
        return "command", command
    if record.function is not None and bound_to(record) == "self" and len(reasons) == 1:
        owner = str(record.function.get("qualname")).rpartition(".")[0]
        obstacles.append(Obstacle("call", f"{reasons[0]}; a new one is made by {owner}()"))
        return "function", _call(record, config)
    if changes and command is not None:
        reasons.append("its command line takes no --set")
        why = ""
    told = [*reasons, why] if why else reasons or ["there is nothing to call"]
    obstacles += [Obstacle("argument" if "argument" in reason else "call", reason, stops=True) for reason in told]
    return "none", ""


def parameters(record: RunRecord) -> list[Parameter] | None:
    """The parameters in the recorded source of the function; None when there is no source to be read."""
    node = _definition(record)
    if node is None:
        return None
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    found = [
        Parameter(each.arg, "/" if index < len(arguments.posonlyargs) else "plain", index < required)
        for index, each in enumerate(plain)
    ]
    if arguments.vararg is not None:
        found.append(Parameter(arguments.vararg.arg, "*", required=False))
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(Parameter(each.arg, "plain", default is None))
    if arguments.kwarg is not None:
        found.append(Parameter(arguments.kwarg.arg, "**", required=False))
    return found[1:] if bound_to(record) is not None else found


def _why_not_called(record: RunRecord, config: Mapping[str, Any]) -> Iterator[str]:
    """What keeps the recorded function from being called with its config."""
    function = record.function
    if function is None:
        yield "the run was a block, not a function"
        return
    qualname = str(function.get("qualname"))
    if qualname.endswith("<lambda>"):
        yield "a lambda has no name to be found by"
        return
    if "<" in qualname:
        yield f"{qualname} is defined inside a function"
        return
    if not function.get("module"):
        yield f"{qualname} belongs to no module"
        return
    file = file_of(record)
    if function.get("module") in MAIN and (file is None or not file.endswith(".py")):
        yield f"{qualname} was typed in, no file holds it"
    if bound_to(record) == "self":
        yield "the method's object is not in the record"
    known = parameters(record)
    needed = {parameter.name for parameter in known} if known is not None else set(config)
    whole = function.get("config_parameter")
    for path, value in leaves(dict(config)):
        name = (parts(path) or (path,))[0]
        if whole is None and name not in needed:
            continue  # added by log_config, no argument
        lost = _lost(value)
        if lost:
            yield f"the argument {path} {lost}"
    if whole is None:
        for parameter in known or ():
            if parameter.required and parameter.name not in config:
                yield f"the argument {parameter.name} was left out of the record"


def _lost(value: Any) -> str | None:
    """Why a recorded value does not give back what was passed; None when it does."""
    if isinstance(value, str):
        return "was redacted" if REDACTED in value else None
    if isinstance(value, list):
        return next(filter(None, map(_lost, value)), None)
    if not isinstance(value, dict):
        return None
    first = next(iter(value), "")
    if not (isinstance(first, str) and first.startswith("$") and not first.startswith("$$")):
        return next(filter(None, map(_lost, value.values())), None)
    told = value[first]
    if first in ("$float", "$text") or (first == "$int" and isinstance(told, str)):
        return None
    if first == "$bytes" and isinstance(told, dict) and (told.get("length") or 0) <= 64:
        return None
    if first in ("$set", "$pairs") and isinstance(told, list):
        return _lost(told)
    if first == "$array" and isinstance(told, dict) and "values" in told:
        return None
    return "is in the record only as a summary"


def _command(record: RunRecord) -> tuple[str | None, str]:
    """The recorded command line, to be read; or None and why it cannot be run again."""
    command = record.environment.get("command")
    if not isinstance(command, dict):
        return None, "the command line was not recorded"
    if command.get("kind") not in ("script", "module", "command", "zipapp"):
        return None, f"it was started from a {command.get('kind')}, which cannot be run again"
    words = [str(word) for word in command.get("orig_argv") or command.get("argv") or ()]
    if any(REDACTED in word for word in words):
        return None, "the command line holds a secret, which is not in the record"
    if any("… [" in word for word in words):
        return None, "the command line was too long to be recorded in full"
    return str(command.get("line") or " ".join(words)), ""


def _call(record: RunRecord, config: Mapping[str, Any]) -> str:
    assert record.function is not None
    qualname = record.function.get("qualname")
    module = module_of(record) or Path(str(file_of(record) or "__main__")).stem
    whole = record.function.get("config_parameter")
    known = None if whole else parameters(record)
    names = [parameter.name for parameter in known] if known is not None else list(config)
    told = ", ".join(f"{name}={_short(config[name])}" for name in names if name in config)
    return f"{module}.{qualname}({told})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _definition(record: RunRecord) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    source = record.function.get("source") if record.function is not None else None
    if not isinstance(source, str):
        return None
    try:
        tree = ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    node = tree.body[0] if tree.body else None
    return node if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None


def bound_to(record: RunRecord) -> str | None:
    """``self`` or ``cls`` for a method that is called on one; None for a function."""
    node = _definition(record)
    qualname = str(record.function.get("qualname")) if record.function is not None else ""
    outer = qualname.rpartition(".")[0]
    if node is None or not outer or outer.endswith("<locals>"):
        return None
    marks = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    if "staticmethod" in marks or not names:
        return None
    return "cls" if "classmethod" in marks or names[0] in ("cls", "mcs") else "self"


def module_of(record: RunRecord) -> str | None:
    """The name under which the function's module can be imported; None for a script's."""
    assert record.function is not None
    name = record.function.get("module")
    if name not in MAIN:
        return str(name) if name else None
    command = record.environment.get("command")
    if not isinstance(command, dict) or command.get("kind") != "module":
        return None
    stem = Path(str(record.function.get("file"))).with_suffix("").parts
    names = (str(command.get("entry")), f"{command.get('entry')}.__main__")  # `python -m package` runs the second
    return next((each for each in names if each.split(".") == list(stem[-len(each.split(".")) :])), None)


def file_of(record: RunRecord) -> str | None:
    """The file of the function, or of the script that was started."""
    if record.function is not None:
        file = record.function.get("file")
        return file if isinstance(file, str) else None
    command = record.environment.get("command")
    entry = command.get("entry") if isinstance(command, dict) and command.get("kind") == "script" else None
    return entry if isinstance(entry, str) else None
