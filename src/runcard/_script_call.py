"""The call of a recorded function as plain Python source, which imports nothing of runcard."""

from __future__ import annotations

import math
import os
import textwrap
from typing import TYPE_CHECKING, Any

from runcard._call import MAIN, bound_to, module_of, parameters
from runcard._conditions import relative
from runcard.values import path_join

if TYPE_CHECKING:
    from runcard._plan import Plan
    from runcard.record import RunRecord


def call_source(record: RunRecord, planned: Plan, root: str) -> str:
    """Python source that calls the recorded function with its config, as a script's here-document holds it.

    Args:
        record: The run.
        planned: Its plan, whose config holds the changes.
        root: The recorded root of the code, which ``$CODE`` stands for.
    """
    assert record.function is not None
    function = record.function
    writing = _Writing(record, root)
    folder = _folder(record, root)
    lines = ["import os, sys", "", 'CODE = os.environ["CODE"]', f"sys.path.insert(0, {writing.path(folder)})"]
    qualname = str(function.get("qualname"))
    if function.get("module") in MAIN:
        name = module_of(record)
        file = writing.path(str(function.get("file")))
        found = f"find_spec({name!r})" if name else f'spec_from_file_location("__mp_main__", {file})'
        lines += [
            "import importlib.util",
            f"spec = importlib.util.{found}",
            "main = importlib.util.module_from_spec(spec)",
            '# Under this name, what stands below `if __name__ == "__main__"` is not run.',
            'main.__name__ = "__mp_main__"',
            'sys.modules["__mp_main__"] = sys.modules["__main__"] = main',
            "exec(spec.loader.get_code(spec.name), main.__dict__)",
        ]
        call = f"main.{qualname}"
    else:
        lines += ["import importlib", f"module = importlib.import_module({str(function.get('module'))!r})"]
        call = f"module.{qualname}"
    if _is_method(record):
        owner, _, name = call.rpartition(".")
        call = f"{owner}().{name}"
    arguments = writing.arguments(planned)
    lines += [f"import {module}" for module in sorted(writing.modules)]
    if not _has_seed(record):
        lines += _generators(record)
    lines.append(f"result = {call}({arguments})")
    lines += _finishing(record)
    return "\n".join(lines) + "\n"


class _Writing:
    """Writes values of one record as Python source."""

    def __init__(self, record: RunRecord, root: str) -> None:
        self.types = record.config_types
        self.root = root
        self.modules: set[str] = set()
        self._record = record

    def arguments(self, planned: Plan) -> str:
        """The arguments of the call."""
        assert self._record.function is not None
        whole = self._record.function.get("config_parameter")
        known = parameters(self._record)
        if whole is not None:
            told = self.value(planned.config, "", self._record.function.get("config_type"))
            (how,) = [each.kind for each in known or () if each.name == whole] or ["plain"]
            return f"{whole}={told}" if how == "plain" else f"{how.strip('/')}{told}"
        if known is None:
            return ", ".join(
                f"{name}={self.value(value, path_join('', name))}" for name, value in planned.config.items()
            )
        words: list[str] = []
        for parameter in known:
            if parameter.name not in planned.config:
                continue
            text = self.value(planned.config[parameter.name], path_join("", parameter.name))
            if parameter.kind == "plain":
                has_rest = any(each.kind == "*" and planned.config.get(each.name) for each in known)
                words.append(text if has_rest and not told_keyword(words) else f"{parameter.name}={text}")
            else:
                words.append(f"{parameter.kind.strip('/')}{text}")
        return ", ".join(words)

    def value(self, value: Any, path: str, kind: str | None = None) -> str:
        """One value as an expression."""
        kind = kind or self.types.get(path)
        if isinstance(value, dict):
            return self._mapping(value, path, kind)
        if isinstance(value, list):
            items = [self.value(item, f"{path}[{index}]") for index, item in enumerate(value)]
            text = f"[{', '.join(items)}]"
            if kind == "builtins:tuple":
                return f"tuple({text})"
            return text if kind in (None, "builtins:list") else f"{self._name(kind)}({text})"
        if kind is None:
            if isinstance(value, str) and os.path.isabs(value) and relative(value, self.root) is not None:
                return self.path(value)
            if isinstance(value, float) and not math.isfinite(value):
                return f'float("{value!r}")'
            return repr(value)
        return self._typed(value, kind)

    def path(self, path: str) -> str:
        """A path, which inside the code begins with ``CODE``."""
        inside = relative(path, self.root)
        return repr(path) if inside is None else f"os.path.join(CODE, {inside!r})"

    def _mapping(self, value: dict[str, Any], path: str, kind: str | None) -> str:
        first = next(iter(value), "")
        if first.startswith("$") and not first.startswith("$$"):
            return self._mark(first, value[first], path, kind)
        items = {
            (key[1:] if key.startswith("$$") else key): self.value(
                item, path_join(path, key[1:] if key.startswith("$$") else key)
            )
            for key, item in value.items()
        }
        if kind not in (None, "builtins:dict"):
            assert kind is not None
            named = ", ".join(f"{name}={text}" for name, text in items.items() if name.isidentifier())
            return f"{self._name(kind)}({named})"
        return "{" + ", ".join(f"{name!r}: {text}" for name, text in items.items()) + "}"

    def _mark(self, mark: str, told: Any, path: str, kind: str | None) -> str:
        if mark == "$set" and isinstance(told, list):
            items = ", ".join(self.value(item, f"{path}[{index}]") for index, item in enumerate(told))
            return f"{'frozenset' if kind == 'builtins:frozenset' else 'set'}([{items}])"
        if mark == "$pairs" and isinstance(told, list):
            pairs = (
                f"({self.value(key, f'{path}[{index}][0]')}, {self.value(item, f'{path}[{index}][1]')})"
                for index, (key, item) in enumerate(told)
            )
            return f"dict([{', '.join(pairs)}])"
        if mark == "$bytes":
            return f"bytes.fromhex({str(told.get('head') or '')!r})"
        if mark == "$array" and "values" in told:
            library = str(told.get("type")).partition(":")[0].partition(".")[0]
            self.modules.add(library)
            dtype = str(told.get("dtype")).rpartition(".")[2]
            maker = "tensor" if library == "torch" else "array"
            return f"{library}.{maker}({told['values']!r}, dtype={library}.{dtype})"
        return repr({mark: told})

    def _typed(self, value: Any, kind: str) -> str:
        if kind.startswith("pathlib:"):
            self.modules.add("pathlib")
            name = "Path" if kind.endswith((":PosixPath", ":WindowsPath")) else kind.partition(":")[2]
            return f"pathlib.{name}({self.path(str(value))})"
        if kind.startswith("datetime:") and not kind.endswith(":timedelta"):
            self.modules.add("datetime")
            return f"datetime.{kind.partition(':')[2]}.fromisoformat({value!r})"
        if kind == "datetime:timedelta":
            self.modules.add("datetime")
            days, _, rest = str(value).removeprefix("P").removesuffix("S").partition("DT")
            seconds, _, micro = rest.partition(".")
            return f"datetime.timedelta({int(days)}, {int(seconds)}, {int(micro or 0)})"
        if kind in ("builtins:range", "builtins:slice", "builtins:complex"):
            return str(value)
        if kind in ("builtins:function", "builtins:type", "builtins:builtin_function_or_method", "numpy:ufunc"):
            return self._name(str(value))
        if kind == "torch:dtype":
            self.modules.add("torch")
            return str(value)
        return f"{self._name(kind)}({value!r})"

    def _name(self, kind: str) -> str:
        """A class or function by its name, its module imported."""
        module, _, qualname = kind.partition(":")
        if module == "builtins":
            return qualname
        if module in MAIN:
            return f"main.{qualname}"
        self.modules.add(module)
        return f"{module}.{qualname}"


def told_keyword(told: list[str]) -> bool:
    """Whether a starred argument was written already, after which only keywords may follow."""
    return any(text.startswith("*") for text in told)


def _folder(record: RunRecord, root: str) -> str:
    """The folder that the function's module is imported from."""
    assert record.function is not None
    file, module = str(record.function.get("file") or root), module_of(record)
    folder = os.path.dirname(file)
    if module is not None:
        levels = module.count(".") + (os.path.basename(file) == "__init__.py")
        for _ in range(levels):
            folder = os.path.dirname(folder)
    return folder


def _is_method(record: RunRecord) -> bool:
    return bound_to(record) == "self"


def _has_seed(record: RunRecord) -> bool:
    return bool(record.seed) and record.seed is not None and record.seed.get("seed") is not None


def _generators(record: RunRecord) -> list[str]:
    """Source that puts `random` and numpy's generator back to where they stood when the run began."""
    seed: dict[str, Any] = record.seed or {}
    random, numpy, torch = seed.get("random"), seed.get("numpy"), seed.get("torch")
    lines: list[str] = []
    if isinstance(random, dict) and "state" in random:
        lines += ["import base64, random, struct", *_state("random_state", random)]
        words = f"(*random_state, {random['position']!r})"
        lines.append(f"random.setstate(({random.get('version', 3)!r}, {words}, {random['gauss']!r}))")
    if isinstance(numpy, dict) and "state" in numpy:
        lines += ["import base64, struct", "import numpy", *_state("numpy_state", numpy)]
        gauss = numpy["gauss"]
        waiting = f"{int(gauss is not None)}, {gauss or 0.0!r}"
        lines.append(f'numpy.random.set_state(("MT19937", numpy_state, {numpy["position"]!r}, {waiting}))')
    if isinstance(torch, dict) and isinstance(torch.get("initial_seed"), int):
        lines += ["import torch", f"torch.manual_seed({torch['initial_seed']})"]
    return ["# The generators, as they stood when the run began.", *lines] if lines else []


def _state(name: str, told: dict[str, Any]) -> list[str]:
    text = "\n".join(f"    {line!r}" for line in textwrap.wrap(str(told["state"]), 100))
    return [f"{name} = struct.unpack('<624I', base64.b64decode(\n{text}\n))"]


def _finishing(record: RunRecord) -> list[str]:
    """A coroutine is awaited, a generator run to its end."""
    assert record.function is not None
    source = str(record.function.get("source") or "")
    if "yield" in source and "async def" not in source:
        return ["for _ in result if hasattr(result, '__next__') else ():", "    pass"]
    if "async def" in source:
        return [
            "import asyncio",
            "async def finish():",
            "    if hasattr(result, '__anext__'):",
            "        async for _ in result:",
            "            pass",
            "    else:",
            "        await result",
            "asyncio.run(finish())",
        ]
    return []
