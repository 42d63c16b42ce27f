"""`configure()`: the settings of this process, and what depends on them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from runcard import errors, settings
from runcard.sinks import registry

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


def configure(
    *,
    sinks: Any = None,
    directory: str | os.PathLike[str] | None = None,
    strict: bool | None = None,
    durability: str | None = None,
    signals: bool | Iterable[str] | None = None,
    capture: Iterable[str] | None = None,
    deadline: float | None = None,
    redact_keep: Iterable[str] | None = None,
    mode: str | None = None,
    input_limit: int | str | None = None,
    large_artifact: int | str | None = None,
    export_parent: bool | None = None,
    system_interval: float | None = None,
    spool: str | os.PathLike[str] | None = None,
    **unknown: Never,
) -> None:
    """Set what holds for all runs of this process that begin from here on. Never connects to anything.

    What is None stays as it is. Variables ``RUNCARD_…`` and ``[tool.runcard]`` in ``pyproject.toml`` set the same.

    Args:
        sinks: Where records go: URLs or callables. ``["+memory:"]`` adds to what variables and files say.
        directory: The store's root; default ``runcards`` in the project's root.
        strict: Raise what is otherwise a warning.
        durability: ``process`` (default) or ``disk``: fsync at every run's end.
        signals: Termination signals to record as `killed` before they take their course; True for SIGTERM and SIGHUP.
        capture: Names to add, with a leading ``-`` to take away.
        deadline: Seconds that ends wait for the sinks in all; default 5.
        redact_keep: Names that are never taken for secrets.
        mode: ``private`` (default) or ``group``.
        input_limit: Bytes above which an input is not hashed; default 1 GB. ``"500MB"`` is understood.
        large_artifact: Bytes above which a file goes to an object store in parts; default 10 MiB.
        export_parent: Whether subprocesses' runs become children; default True.
        system_interval: Seconds between samples of the machine; default 10.
        spool: Where journals wait for delivery when there is no files sink.
        unknown: Nothing: a misspelt setting is refused with the name that was meant.

    Raises:
        SettingError: When one is not accepted; then none is taken.
    """
    given = {name: value for name, value in locals().items() if value is not None and name != "unknown"}
    given.update(unknown)
    for sink in settings.parse("sinks", sinks) if sinks is not None else ():
        registry.check(sink.removeprefix("+") if isinstance(sink, str) else sink)
    settings.configure(**given)
    errors.set_strict(settings.current().strict)
