"""What a run was given, as it is recorded: name and experiment, function, config, inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard import _places
from runcard._values_kinds import class_has, kind_of, names_of
from runcard.capture import inputs, source
from runcard.errors import contained, warn
from runcard.values import config_hash, plain, plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard._opening import Life
    from runcard._run import Run
    from runcard.identity import Token
    from runcard.redact import Redactor
    from runcard.values import Plain


def set_name(run: Run, token: Token | None, redactor: Redactor) -> None:
    """Give the run its name and its experiment: as set, or else from the function, the script, the parent."""
    options, function = run._options, run._function
    qualname = None
    if function is not None:
        qualname = str(source.describe(function)["qualname"]).replace(".<locals>", "")
    run.name = options.name or qualname or _stem()
    above = run.parent.experiment if run.parent is not None else None
    if token is not None:
        above = _places.experiment_of(token)
    if options.experiment:
        run.experiment = options.experiment
    elif above:
        run.experiment = f"{above}/{run.name}"
    elif qualname and qualname.rpartition(".")[2] != "main":
        run.experiment = qualname
    else:
        run.experiment = _stem(source.file_of(function) if function is not None else None)
    run.name, in_name = redactor.text(plain_text(run.name))
    run.experiment, in_experiment = redactor.text(plain_text(run.experiment))
    if in_name + in_experiment:
        run.lose("redacted", in_name + in_experiment)


def _stem(file: Path | None = None) -> str:
    """The stem of the script or notebook, or what stands for one."""
    from runcard.capture import command

    how, entry = command.kind()
    if file is None and entry and how in ("script", "notebook", "zipapp"):
        file = Path(entry)
    if file is not None:
        return file.parent.name if file.stem == "__main__" and file.parent.name else file.stem
    if entry and how == "module":
        return entry.removesuffix(".__main__").rpartition(".")[2]
    return how


_described: dict[Any, dict[str, Any]] = {}  # by code object: the source is redacted once


def function_of(run: Run, redactor: Redactor) -> Any:
    """What the record's `function` says; None for a block."""
    function = run._function
    if function is None:
        return None
    key = (getattr(function, "__code__", None) or id(function), redactor)
    found: Any = _described.get(key)
    if found is None:
        found, hidden = redactor.tree(source.describe(function))
        if hidden:
            found["redacted"] = hidden
        if len(_described) > 1_000:
            _described.clear()
        if getattr(function, "__code__", None) is not None:
            _described[key] = found
    if run._parameter is not None:
        found = {**found, "config_parameter": run._parameter}
        if run._parameter_type is not None:
            found["config_type"] = run._parameter_type  # what a rerun makes it again from
    return found


def config_of(run: Run, redactor: Redactor) -> dict[str, Any]:
    """The config as it is recorded: plain, without what `ignore` names, without secrets, with types and hash."""
    given, ignored = run._given_config, run._options.ignore
    if run._parameter in ignored:
        given = run._parameter = None  # the sole parameter, whose value is the config, is to be left out
    elif run._parameter is not None:
        ignored = tuple(path.removeprefix(f"{run._parameter}.") for path in ignored)
    if given is None:
        return {"config": {}, "config_types": {}, "config_hash": config_hash({})}
    told = plain(given, ignored)
    value, types = by_name(told)
    kind = types.pop("", None)
    if run._parameter is not None:
        run._parameter_type = kind
    value, hidden = redactor.tree(value)
    if hidden + told.hidden:
        run.lose("redacted", hidden + told.hidden)
    if told.cuts:
        run.lose("cut", told.cuts)
    return {"config": value, "config_types": types, "config_hash": config_hash(value) if told.exact else None}


def by_name(told: Plain) -> tuple[Any, dict[str, str]]:
    """A config and its types; one without names of its own, a list or one long `$` mark, stands under ``config``."""
    value, types = told.value, told.types
    first = next(iter(value)) if type(value) is dict and len(value) == 1 else ""
    if type(value) is dict and (first[:1] != "$" or first[:2] == "$$"):
        return value, types
    below = {f"config.{path}" if path[:1] not in ("", "[") else f"config{path}": kind for path, kind in types.items()}
    return {"config": value}, below


def without_secrets(run: Run, redactor: Redactor, told: Any) -> Any:
    """A text or plain data without its secrets, which are counted among the run's losses."""
    clean, hidden = redactor.tree(told)
    if hidden:
        run.lose("redacted", hidden)
    return clean


def inputs_of(run: Run, life: Life) -> list[Mapping[str, Any]]:
    """`Path` arguments that name files, and what ``inputs=`` names: arguments, or paths."""
    limit = life.settings.input_limit
    arguments = run._arguments
    wanted: list[Any] = [
        value
        for value in arguments.values()
        if "pathlib:Path" in names_of(type(value)) and contained("look at a path", os.path.isfile, value)
    ]
    for entry in run._options.inputs:
        value = arguments.get(entry, entry) if isinstance(entry, str) else entry
        kinds = names_of(type(value))
        wanted += list(value) if "builtins:list" in kinds or "builtins:tuple" in kinds else [value]
    found: dict[str, Mapping[str, Any]] = {}
    for path in wanted:
        if type(path) is not str and not class_has(type(path), "__fspath__"):
            warn(f"inputs= names {kind_of(path)}, which is no path", once="inputs")
            continue
        told = contained("hash an input", _describe, path, limit)
        if told is not None:
            clean: Any = life.redactor.tree(told)[0]
            found[str(clean["path"])] = clean
    return list(found.values())


def _describe(path: Any, limit: int) -> dict[str, Any]:
    return inputs.describe(Path(os.fspath(path)), limit=limit)
