"""Which source a function was made from, and whether loaded source has been edited since its import.

Nothing here calls the user's code: no ``repr``, no properties, no ``__getattr__`` of theirs. Functions are
unwrapped by reading instance dictionaries and the slots of types that Python and wrapt bring.

Python does not record when a module was imported, so `edited_since_import` infers it, per module:

- A file not modified since the process started is what was loaded.
- A younger file whose modification time and size are those that the module's ``.pyc`` was compiled from is what
  was loaded too: it was written before its import, which made the ``.pyc``.
- Any other younger file was edited after its import.
- What a first look found unedited is compared with that look from then on, until the module is reloaded.

The limits: without a ``.pyc`` (``PYTHONDONTWRITEBYTECODE``, a read-only folder) a file that the process writes
and then imports is taken for edited; an edit that restores time and size is not seen; nor is one made before the
first look when another process has compiled the module again since. Cells of a notebook have no file and are not
looked at.
"""

from __future__ import annotations

import linecache
import os
import sys
import time
import types
from pathlib import Path
from typing import Any, cast

_SOURCE_LIMIT = 65_536  # bytes: 64 KiB, as any long text of a record
_FILE_LIMIT = 4_000_000  # bytes: a larger file is generated, and reading it would cost the run
_MOST_FILES = 2_000
_MOST_LINES = 5_000
_GRAIN = 0.05  # seconds: clock ticks and file times are coarse, and nobody edits a file that fast

_described: dict[types.CodeType, dict[str, Any]] = {}
_first_seen: dict[str, tuple[tuple[int, int], object]] = {}


def describe(function: object) -> dict[str, Any]:
    """What ``record.function`` says of a function.

    Keys: ``module``, ``qualname``, ``file`` and ``line`` (None where there is no Python source), ``source_sha256``
    of the definition's text in UTF-8, ``source`` (that text, up to 64 KiB; ``source_bytes`` has the full size when it
    was cut), and for a function of ``__main__`` ``script``, the path of what was started. Works for wrapped
    functions, partials, methods, callable objects, builtins, lambdas and functions made by ``exec``. Never raises,
    never calls the user's code.
    """
    try:
        inner = _unwrapped(function)
        told: dict[str, Any] = {**_names(inner), "file": None, "line": None, "source_sha256": None, "source": None}
        code = _code_of(inner)
        if code is not None:
            told.update(_described.get(code) or _of_code(code))
        if told["module"] == "__main__":
            told["script"] = _script()
    except Exception:  # hostile objects find ways to raise; the run must not feel it
        return {
            "module": None,
            "qualname": type(function).__qualname__,
            "file": None,
            "line": None,
            "source_sha256": None,
            "source": None,
        }
    return told


def file_of(function: object) -> Path | None:
    """The file that holds a function's code, absolute; a notebook's own path for its cells when known, else None."""
    try:
        code = _code_of(_unwrapped(function))
        if code is None:
            return None
        file = _file(code.co_filename)
        if file is None and _is_cell(code.co_filename):
            file = _notebook()
        return Path(file) if file else None
    except Exception:  # as in describe
        return None


def edited_since_import(paths_root: Path | None, started: float | None = None) -> list[str]:
    """Names of the user's own modules below ``paths_root`` whose source is newer than what was imported.

    The method and its limits stand in this module's docstring. At most 2,000 files are looked at; modules of
    environments (``site-packages``) and of Python itself are not the user's own.

    Args:
        paths_root: Modules of files below it are looked at; None: nothing is.
        started: When the process started, in seconds since the epoch; by default the system is asked.
    """
    if paths_root is None:
        return []
    started = _process_start() if started is None else started
    root = os.path.join(os.path.realpath(paths_root), "")
    edited: list[str] = []
    looked_at = 0
    for name, module in list(sys.modules.items()):
        file = _loaded_from(module)
        if file is None or not file.startswith(root) or _is_installed(file):
            continue
        looked_at += 1
        if looked_at > _MOST_FILES:
            break
        try:
            found = os.stat(file)
        except (OSError, ValueError):
            continue  # deleted or moved: the commit and the patch tell what it was
        if _is_edited(module, file, found, started):
            edited.append(name)
    return sorted(edited)


def _unwrapped(function: object) -> object:
    """The function beneath decorators, partials, methods and callable objects; read from dictionaries alone."""
    for _ in range(100):
        beneath = _beneath(function)
        if beneath is None or beneath is function:
            break
        function = beneath
    return function


def _beneath(function: object) -> object | None:
    kind = type(function)  # never isinstance: it asks the object's own `__class__`
    if kind in {types.MethodType, classmethod, staticmethod}:
        return _slot(function, "__func__")
    if kind.__module__ == "functools" and kind.__name__ in {"partial", "partialmethod"}:
        return _slot(function, "func")
    wrapped = _dictionary(function).get("__wrapped__")
    if wrapped is not None:
        return cast("object", wrapped)
    if issubclass(kind, type) or kind is types.FunctionType or kind.__module__ in {"functools", "builtins"}:
        return None
    for base in kind.__mro__:
        # The proxies of wrapt hold what they wrap in a slot of their C type.
        slot = base.__dict__.get("__wrapped__")
        if type(slot) in {types.GetSetDescriptorType, types.MemberDescriptorType}:
            return cast("object", cast("Any", slot).__get__(function, kind))
    call = next((base.__dict__["__call__"] for base in kind.__mro__ if "__call__" in base.__dict__), None)
    return cast("object", call) if type(call) is types.FunctionType else None


def _slot(function: object, name: str) -> object | None:
    try:
        return cast("object", object.__getattribute__(function, name))
    except AttributeError:
        return None


def _dictionary(function: object) -> dict[str, Any]:
    own = _slot(function, "__dict__")
    return cast("dict[str, Any]", own) if type(own) is dict else {}


def _code_of(function: object) -> types.CodeType | None:
    return function.__code__ if type(function) is types.FunctionType else None


def _names(function: object) -> dict[str, Any]:
    named: Any = function
    if issubclass(type(function), type):
        module, qualname = type.__getattribute__(named, "__module__"), type.__getattribute__(named, "__qualname__")
    elif type(function) in {types.FunctionType, types.BuiltinFunctionType}:
        module, qualname = named.__module__, named.__qualname__
    else:
        module, qualname = type(function).__module__, type(function).__qualname__
    return {"module": module if type(module) is str else None, "qualname": qualname if type(qualname) is str else None}


def _of_code(code: types.CodeType) -> dict[str, Any]:
    import hashlib

    file = _file(code.co_filename)
    told: dict[str, Any] = {"file": file, "line": code.co_firstlineno if file or _is_cell(code.co_filename) else None}
    text = _definition(code, file)
    if text is not None:
        raw = text.encode("utf-8", "surrogatepass")
        told["source_sha256"] = hashlib.sha256(raw).hexdigest()
        told["source"] = text
        if len(raw) > _SOURCE_LIMIT:
            told["source"] = raw[:_SOURCE_LIMIT].decode("utf-8", "ignore")
            told["source_bytes"] = len(raw)
    if len(_described) >= 1_000:  # functions made in a loop must not be held for ever
        _described.clear()
    _described[code] = told
    return told


def _definition(code: types.CodeType, file: str | None) -> str | None:
    """The text of the definition, from its first decorator on: what `inspect.getsource` gives."""
    lines = _lines(code.co_filename, file)
    first = code.co_firstlineno
    if not 1 <= first <= len(lines):
        return None
    from inspect import getblock

    try:
        block = getblock(lines[first - 1 : first + _MOST_LINES])
    except (SyntaxError, IndentationError):  # the file has been edited into something else
        return None
    return "".join(block)


def _lines(filename: str, file: str | None) -> list[str]:
    if file is None:
        # Cells, doctests and `python -c` of newer Pythons put their text into linecache.
        entry = linecache.cache.get(filename)
        return list(entry[2]) if entry is not None and len(entry) == 4 else []
    try:
        if os.stat(file).st_size > _FILE_LIMIT:
            return []
    except OSError:
        return []
    return linecache.getlines(file)


def _file(filename: str) -> str | None:
    """An absolute path of an existing file, or None: ``<stdin>``, ``<string>``, a cell, a zip's member."""
    if not filename or filename.startswith("<") or _is_cell(filename):
        return None
    file = os.path.abspath(filename)
    return file if os.path.isfile(file) else None


def _is_cell(filename: str) -> bool:
    # IPython: <ipython-input-3-…>; ipykernel: /tmp/ipykernel_123/456.py, a name for a file that is never written.
    return filename.startswith("<ipython-input-") or "ipykernel_" in filename


def _notebook() -> str | None:
    """The notebook's path where its front end tells it (VS Code in the namespace, Jupyter 7 in the environment)."""
    main = sys.modules.get("__main__")
    names = _dictionary(main)
    for path in (names.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")):
        if type(path) is str and path.endswith(".ipynb") and os.path.isfile(path):
            return os.path.abspath(path)
    return None


def _script() -> str | None:
    main = _dictionary(sys.modules.get("__main__"))
    file = main.get("__file__")
    return os.path.abspath(file) if type(file) is str else _notebook()


def _loaded_from(module: object) -> str | None:
    file = _dictionary(module).get("__file__")
    if type(file) is not str or not file.endswith(".py"):
        return None
    return os.path.realpath(file)


def _is_installed(file: str) -> bool:
    return f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file or _is_stdlib(file)


def _is_stdlib(file: str) -> bool:
    return file.startswith(os.path.join(os.path.dirname(os.path.realpath(os.__file__)), ""))


def _is_edited(module: object, file: str, found: os.stat_result, started: float) -> bool:
    now = (found.st_mtime_ns, found.st_size)
    spec = _dictionary(module).get("__spec__")
    seen = _first_seen.get(file)
    # A reload (IPython's autoreload, too) gives the module a new spec: it is looked at afresh.
    if seen is not None and seen[1] is spec:
        return seen[0] != now
    compiled = (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    if found.st_mtime > started + _GRAIN and _compiled_from(module) != compiled:
        return True
    _first_seen[file] = (now, spec)
    return False


def _compiled_from(module: object) -> tuple[int, int] | None:
    """(mtime, size) of the source that the module's ``.pyc`` was compiled from (PEP 552), where it tells."""
    cached = _dictionary(module).get("__cached__")
    if type(cached) is not str:
        return None
    try:
        with open(cached, "rb") as file:
            header = file.read(16)
    except (OSError, ValueError):
        return None
    if len(header) < 16 or header[4:8] != b"\0\0\0\0":  # by hash, not by time
        return None
    return int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little")


def _process_start() -> float:
    """When this process started, in seconds since the epoch; elsewhere than on Linux, when runcard was loaded."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # of the clock that counts from boot
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _LOADED_AT


_LOADED_AT = time.time()
