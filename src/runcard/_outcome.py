"""How an exception that leaves a run is told: its status, its exit code, and the exception as data.

Nothing here trusts the exception: its ``__str__``, its notes and its chain may be broken, endless or hostile, and its
texts, such as the name of a file, no UTF-8.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard._values_kinds import encodable, name_of, names_of
from runcard.capture.probe import probe

if TYPE_CHECKING:
    from types import TracebackType

_TEXT = 4_000  # characters of a message
_TRACEBACK = 32_000  # characters of a traceback, from both ends
_FRAMES = 60
_TREE = 20  # exceptions in a tree of causes and groups
_DEPTH = 8

_KILLED = ("asyncio.exceptions:CancelledError", "trio:Cancelled", "click.exceptions:Abort", "typer:Abort")
_SKIPPED = ("builtins:Skipped", "unittest.case:SkipTest")  # pytest gives its outcomes out as builtins
_EXITS = ("click.exceptions:Exit", "click.exceptions:ClickException", "_pytest.outcomes:Exit")

# What an exception says of itself by Python's own descriptors: a class of the user's may say anything, or raise.
_own = BaseException.__dict__
_cause, _context = _own["__cause__"].__get__, _own["__context__"].__get__
_is_suppressed, _frames_of = _own["__suppress_context__"].__get__, _own["__traceback__"].__get__
_members = BaseExceptionGroup.__dict__["exceptions"].__get__


class Outcome(NamedTuple):
    """How a run ended."""

    status: str
    exit_code: int | None = None
    error: dict[str, Any] | None = None
    expected: str | None = None  # the reason of an expected end


def outcome_of(error: BaseException | None, expected: tuple[type[BaseException], ...] = ()) -> Outcome:
    """The outcome of a run that ``error`` left; None for none."""
    if error is None:
        return Outcome("finished")
    kind = type(error)
    if expected and issubclass(kind, expected):
        return Outcome("finished", expected=_message(error) or kind.__name__)
    if isinstance(error, SystemExit):
        return _exit(error, error.code)
    names = set(names_of(kind))
    if issubclass(kind, GeneratorExit) or not names.isdisjoint(_SKIPPED):
        return Outcome("finished")
    if not names.isdisjoint(_EXITS):
        code = getattr(error, "exit_code", getattr(error, "returncode", None))
        if code is not None:
            return _exit(error, code)
        names.update(_KILLED)  # `pytest.exit()` without a code is a Ctrl-C by another name
    if issubclass(kind, KeyboardInterrupt) or not names.isdisjoint(_KILLED):
        return Outcome("killed", error=as_data(error))
    return Outcome("failed", 1, as_data(error))


def _exit(error: BaseException, code: Any) -> Outcome:
    """`sys.exit(code)`: 0 and None are a normal end, a number is itself, anything else is told on stderr as 1."""
    if code is None or (isinstance(code, int) and code == 0):
        return Outcome("finished", 0)
    number = int(code) if isinstance(code, int) else 1
    return Outcome(
        "failed", number if number.bit_length() < 64 else -1, as_data(error)
    )  # too long a one is -1 to Python


def as_data(error: BaseException) -> dict[str, Any]:
    """An exception as bounded plain data: type, message, traceback, notes, causes, and the user's last frame."""
    budget = [_TREE]
    data = _node(error, budget, set(), 0)
    data["frame"] = _last_users_frame(_frames_of(error))
    return data


def _node(error: BaseException, budget: list[int], seen: set[int], depth: int) -> dict[str, Any]:
    seen.add(id(error))
    budget[0] -= 1
    data: dict[str, Any] = {
        "type": _type_name(error),
        "message": _message(error),
        "traceback": _traceback(error),
        "notes": _notes(error),
        "causes": [],
    }
    followers: list[tuple[str, BaseException | None]] = [("cause", _cause(error))]
    if _cause(error) is None and not _is_suppressed(error):
        followers = [("context", _context(error))]
    if issubclass(type(error), BaseExceptionGroup):
        followers += [("member", member) for member in _members(error)]
    for how, follower in followers:
        if follower is None or id(follower) in seen:
            continue
        if budget[0] <= 0 or depth >= _DEPTH:
            data["more_causes"] = True
            break
        data["causes"].append({"how": how, **_node(follower, budget, seen, depth + 1)})
    return data


def _type_name(error: BaseException) -> str:
    module, _, qualname = name_of(type(error)).partition(":")
    return qualname if module == "builtins" else f"{module}.{qualname}"


def _message(error: BaseException) -> str:
    said = probe(str, error)
    return "(its message cannot be read)" if said is None else _bounded(said)


def _notes(error: BaseException) -> list[str]:
    notes = probe(getattr, error, "__notes__", None)
    if type(notes) is not list:
        return []
    return [_bounded(note) for note in notes[:_FRAMES] if type(note) is str]


def _bounded(text: str) -> str:
    """A text that every encoder takes, and what was cut from it."""
    text = str.__str__(text)
    return encodable(text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text)} characters)")


def _traceback(error: BaseException) -> str:
    """The frames of the user's own code, as Python prints them; the library's are left out."""
    import traceback

    try:
        frames = [(f, line) for f, line in traceback.walk_tb(_frames_of(error)) if not _is_ours(f.f_globals)]
        if len(frames) > _FRAMES:
            frames = [*frames[: _FRAMES // 2], *frames[-_FRAMES // 2 :]]
        lines = traceback.StackSummary.extract(iter(frames), limit=None).format()
    except Exception:  # a source that cannot be read, a broken loader: the record does without
        return ""
    text = "".join(lines)
    if len(text) > _TRACEBACK:
        text = f"{text[: _TRACEBACK // 2]}\n  …\n{text[-_TRACEBACK // 2 :]}"
    return encodable(text)


def _last_users_frame(traceback: TracebackType | None) -> dict[str, Any] | None:
    """The last frame that is neither ours nor of an installed package: where to look first."""
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        filename = frame.f_code.co_filename
        if not _is_ours(frame.f_globals) and (found is None or not _is_installed(filename)):
            found = (filename, traceback.tb_lineno, frame.f_code.co_name, frame.f_globals)
        traceback = traceback.tb_next
    if found is None:
        return None
    import linecache

    filename, line, function, namespace = found
    try:
        text = linecache.getline(filename, line, namespace).strip()
    except Exception:  # a broken loader costs the line's text alone
        text = ""
    told = {"file": filename, "function": function, "text": text[:200]}
    return {"line": line, **{name: encodable(each) for name, each in told.items()}}


def _is_installed(filename: str) -> bool:
    return "site-packages" in filename or filename.startswith((sys.base_prefix, "<frozen"))


def _is_ours(namespace: dict[str, Any]) -> bool:
    name = namespace.get("__name__")
    return isinstance(name, str) and (name == "runcard" or name.startswith("runcard."))
