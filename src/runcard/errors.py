"""The errors and warnings of runcard, and the one place that keeps our failures from the user.

::

    RuncardError
    ├── SettingError (ValueError)      a setting, an option or a sink's URL that is not accepted
    │   └── MissingExtra               a sink or a format whose packages are not installed
    ├── StoreError                     a store that cannot be opened, read or written
    │   ├── RunNotFound (LookupError)      no run answers to the reference
    │   └── AmbiguousRun (LookupError)     several runs do
    ├── RunStateError                  a run asked for what its state does not allow (resume a finished one)
    └── QueryError (ValueError)        an expression of `where=` or a sort key that cannot be understood

    RuncardWarning (UserWarning)       something was not recorded; the run goes on
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")


class RuncardError(Exception):
    """The root of all errors that runcard raises by itself."""


class SettingError(RuncardError, ValueError):
    """A setting, an option or a sink's URL that is not accepted; the message says what is."""


class MissingExtra(SettingError):  # noqa: N818 - reads as what it says: the extra is missing
    """A sink or a format whose packages are not installed; the message has the pip command."""


class StoreError(RuncardError):
    """A store that cannot be opened, read or written."""


class RunNotFound(StoreError, LookupError):  # noqa: N818 - the words people search for
    """No run answers to the reference."""


class AmbiguousRun(StoreError, LookupError):  # noqa: N818 - the words people search for
    """Several runs answer to the reference; the message lists them."""


class RunStateError(RuncardError):
    """A run was asked for what its state does not allow, such as resuming a finished one."""


class QueryError(RuncardError, ValueError):
    """An expression of ``where=`` or a sort key that cannot be understood; the message points at the place."""


class RuncardWarning(UserWarning):
    """Something was not recorded as asked. The run goes on; the record counts it in ``losses``."""


# `strict=True` of the settings, put here because this lowest layer is the one that warns.
_state: dict[str, bool] = {"strict": False}
_said: set[str] = set()


def set_strict(strict: bool) -> None:
    """Let warnings of runcard be raised as `RuncardError` (``strict=True``)."""
    _state["strict"] = strict


def is_strict() -> bool:
    """Whether ``strict=True`` holds."""
    return _state["strict"]


def warn(message: str, *, once: str | None = None) -> None:
    """Say on standard error, as a `RuncardWarning`, what was not recorded; never raise unless ``strict``.

    Args:
        message: A sentence that says what happened and what to do next.
        once: A key; the same key is said once a process.
    """
    if _state["strict"]:
        raise RuncardError(message)
    say(message, once=once)


def say(message: str, *, once: str | None = None) -> None:
    """Warn, and never raise: for when the user's own exception is on its way, which ``strict`` may not replace."""
    if once is not None:
        if once in _said:
            return
        _said.add(once)
    try:
        warnings.warn(message, RuncardWarning, stacklevel=_users_frame())
    except RuncardWarning:  # `-W error` turns our warning into an exception: say it without one
        stderr = sys.stderr
        if stderr is not None:
            try:
                stderr.write(f"runcard: {message}\n")
            except (OSError, ValueError):
                pass  # standard error is closed: there is nobody left to tell
    except (OSError, ValueError):
        pass  # likewise


def contained(action: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T | None:
    """Call our own or a plug-in's ``function`` so that its failure never becomes the user's.

    Whatever it raises, `SystemExit` and cancellations included, becomes a warning "could not <action>" and
    the result is None. `KeyboardInterrupt` alone goes through: it is the user's own. Under ``strict``
    an `Exception` is raised as it came.
    """
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the one place that keeps what others raise from the user
        if _state["strict"] and isinstance(error, Exception):
            raise
        warn(f"could not {action}: {describe(error)}", once=f"{action}: {type(error).__qualname__}")
        return None


def describe(error: BaseException) -> str:
    r"""One line for an exception whose own ``__str__`` may be broken; what is no UTF-8 in it as ``\udc80``."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a broken `__str__`, an exit from within one
        text = "(its message cannot be read)"
    name = type(error).__qualname__
    told = f"{name}: {text}" if text else name
    return told if told.isascii() else told.encode("utf-8", "backslashreplace").decode()


def _users_frame() -> int:
    """The stacklevel of the nearest frame outside this package, so that a warning points at the user's line."""
    level, frame = 2, sys._getframe(2)  # noqa: SLF001 - cheaper than inspect, on the way to a warning
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("runcard."):
        frame, level = frame.f_back, level + 1
    return level
