"""What runs in the process of a rerun: it finds the recorded function or program in the rebuilt code, and runs it.

``python -P -m runcard._rerun_child INSTRUCTIONS``, with a JSON file that `_rerun` writes. Console and exit code
are the program's own.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard._rerun_link import Expected, expect
from runcard._values_back import Back, by_annotation
from runcard.events import restore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def main() -> None:
    """Read the instructions and follow them."""
    with open(sys.argv[1], encoding="utf-8") as file:
        told = restore(json.load(file))
    for name in ("RUNCARD_RERUN_OF", "RUNCARD_RERUN"):  # processes that the program starts repeat nothing
        os.environ.pop(name, None)
    move = Mover(told["roots"])
    move.import_path()
    sys.path[:0] = told["path"]
    _as_recorded(told["command"], move)
    expected = Expected(
        told["run_id"],
        qualname=told["function"]["qualname"] if told["function"] else None,
        experiment=told["experiment"],
        nth=told["nth"],
        generators=told["seed"],
        changes=told["changes"],
        report=told["report"],
    )
    if told["how"] == "function":
        call_function(told, move, expected)
    else:
        run_command(told, move, expected)


class Mover:
    """Tells where a path of the recorded code lies now.

    Args:
        roots: Pairs of a recorded folder and the one that stands for it.
    """

    def __init__(self, roots: list[list[str]]) -> None:
        self._roots = sorted(((old.rstrip("/"), new) for old, new in roots), key=lambda pair: -len(pair[0]))

    def __call__(self, path: str) -> str:
        """The path in the rebuilt code; any other text as it is."""
        for old, new in self._roots:
            if path == old:
                return new
            if path.startswith(f"{old}/") and ".." not in path.split("/"):
                return f"{new}{path[len(old) :]}"
        return path

    def word(self, word: str) -> str:
        """A word of a command line, ``--data=/path`` too."""
        option, equals, value = word.partition("=")
        return f"{option}={self(value)}" if equals and option.startswith("-") else self(word)

    def import_path(self) -> None:
        """Let imports of the recorded code, installed editable or not, find the rebuilt one."""
        sys.path[:] = [entry if _is_environment(entry) else self(entry) for entry in sys.path]
        for finder in sys.meta_path:  # setuptools' editable installs: a finder with a table
            module = sys.modules.get(getattr(finder, "__module__", None) or type(finder).__module__)
            table = getattr(module, "MAPPING", None)
            if getattr(module, "__name__", "").startswith("__editable__") and isinstance(table, dict):
                for name, place in table.items():
                    table[name] = self(place) if isinstance(place, str) else place


def call_function(told: Mapping[str, Any], move: Mover, expected: Expected) -> None:
    """Call the recorded function with its config."""
    where = told["function"]
    is_main = where["module"] in _MAIN
    module = _main_module(move(where["file"]), told["module"]) if is_main else import_module(where["module"])
    owner: Any = module
    *outer, name = where["qualname"].split(".")
    for each in outer:
        owner = getattr(owner, each)
    if outer and isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod) is False:
        owner = owner()  # a method: the plan says that its object is a new one
    function = getattr(owner, name)
    back = Back(told["config_types"], modules=dict.fromkeys(_MAIN, module) if is_main else {}, move=move)
    args, kwargs = arguments(function, told, back)
    expect(expected)
    _finished(function(*args, **kwargs))
    if expected.run is None:
        sys.exit(f"runcard: {where['qualname']} is not tracked in this code: the call left no record")


def arguments(function: Callable[..., Any], told: Mapping[str, Any], back: Back) -> tuple[list[Any], dict[str, Any]]:
    """The recorded config as the arguments of a call."""
    config, whole = told["config"], told["function"].get("config_parameter")
    try:
        hints = inspect.get_annotations(inspect.unwrap(function), eval_str=True)
    except Exception:  # annotations are the user's code and may name what is not there
        hints = {}
    parameters = inspect.signature(function).parameters
    if whole is not None:
        kind = told["function"].get("config_type")
        made = back.value(config, "", kind)
        made = made if kind else by_annotation(made, hints.get(whole))
        how = parameters[whole].kind if whole in parameters else None
        if how is inspect.Parameter.VAR_KEYWORD:
            return [], made
        return ([made], {}) if how is inspect.Parameter.POSITIONAL_ONLY else ([], {whole: made})
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    positional = any(each.kind is each.VAR_POSITIONAL and config.get(name) for name, each in parameters.items())
    for name, parameter in parameters.items():
        if name not in config:
            continue
        value = back.value(config[name], _top(name))
        if _top(name) not in told["config_types"]:
            value = by_annotation(value, hints.get(name))
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += value
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif parameter.kind is parameter.POSITIONAL_ONLY or (
            positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ):
            args.append(value)
        else:
            kwargs[name] = value
    return args, kwargs


def run_command(told: Mapping[str, Any], move: Mover, expected: Expected) -> None:
    """Run the recorded program as the interpreter would have."""
    import runpy

    from runcard.capture.command import arguments, program

    original = told["command"]["orig_argv"]
    how, what = program(original)
    given = [move.word(word) for word in arguments(original)]
    expect(expected)
    if how == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv[:] = [str(what), *given]
        runpy.run_module(str(what), run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *given]
        code = compile(str(what), "<string>", "exec")
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(code, module.__dict__)  # noqa: S102 - the recorded program, which the user has agreed to run
    else:
        script = move(told["command"]["entry"])
        sys.path.insert(0, os.path.dirname(script))
        sys.argv[:] = [script, *given]
        runpy.run_path(script, run_name="__main__")


def _as_recorded(command: Mapping[str, Any] | None, move: Mover) -> None:
    """Let the program, and the record of it, see the recorded command line instead of ours."""
    if command and command.get("orig_argv") and command.get("argv"):
        sys.orig_argv[:] = [sys.executable, *map(move.word, command["orig_argv"][1:])]
        sys.argv[:] = [*map(move.word, command["argv"])]


def _main_module(file: str, name: str | None) -> types.ModuleType:
    """The started module, without what stands below ``if __name__ == "__main__"``, as multiprocessing loads it.

    One that ``-m`` started, `name`, keeps its package, by which its relative imports go.
    """
    import importlib.abc
    import importlib.util

    if name is None:
        sys.path.insert(0, os.path.dirname(file))
        spec = importlib.util.spec_from_file_location("__mp_main__", file)
    else:
        spec = importlib.util.find_spec(name)
    if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
        sys.exit(f"runcard: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    module.__name__ = "__mp_main__"
    sys.modules["__mp_main__"] = sys.modules["__main__"] = module
    code = spec.loader.get_code(spec.name)
    assert code is not None
    exec(code, module.__dict__)  # noqa: S102 - the recorded program, which the user has agreed to run
    _rename(module, set())
    return module


def _rename(owner: Any, seen: set[int]) -> None:
    """Call what was defined in the script ``__main__`` again, as it was when it was recorded."""
    for value in list(vars(owner).values()):
        found: Any = value
        while found is not None and id(found) not in seen and getattr(found, "__module__", None) == "__mp_main__":
            seen.add(id(found))
            try:
                found.__module__ = "__main__"
            except (AttributeError, TypeError):
                break
            if isinstance(found, type):
                _rename(found, seen)
            found = getattr(found, "__wrapped__", None) or getattr(found, "__func__", None)


def _finished(result: Any) -> None:
    """Wait for a coroutine, and take all of what a generator yields."""
    if inspect.iscoroutine(result):
        import asyncio

        asyncio.run(result)
    elif inspect.isgenerator(result):
        for _ in result:
            pass
    elif inspect.isasyncgen(result):
        import asyncio

        async def take_all() -> None:
            async for _ in result:
                pass

        asyncio.run(take_all())


def _top(name: str) -> str:
    from runcard.values import path_join

    return path_join("", name)


def _is_environment(entry: str) -> bool:
    """Whether an entry of the import path is Python's or an environment's, be it inside the recorded folder."""
    parts = Path(entry).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    return any(entry.startswith(os.path.join(prefix, "lib", "")) for prefix in (sys.prefix, sys.base_prefix))


_MAIN = ("__main__", "__mp_main__")  # the second, in processes that multiprocessing spawns

if __name__ == "__main__":
    main()
