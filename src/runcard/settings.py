"""The settings, read from four places: argument > `configure()` > ``RUNCARD_*`` > ``[tool.runcard]`` > default.

Lists are comma-separated in variables. For ``sinks`` a leading ``+`` adds to what the lower places say; ``capture``
always adds, and a leading ``-`` takes away. This file knows no sink: what a sink's URL means is the registry's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from runcard._setting_kinds import CAPTURES, PARSERS
from runcard.errors import SettingError, warn

DEFAULT_CAPTURES = frozenset(CAPTURES[:7])


@dataclass(frozen=True, slots=True)
class Settings:
    """What `configure()` takes. See `docs/settings.md` for each with its variable.

    Attributes:
        sinks: URLs or callables; the default is the files sink in `directory`.
        directory: The store's root; None means ``runcards`` in the project's root.
        strict: Raise what is otherwise a warning.
        durability: ``process`` survives the process; ``disk`` has every run fsynced at its end.
        signals: Names of termination signals to record as `killed`, such as ``("SIGTERM",)``.
        capture: What is captured at a run's start and during it; see `CAPTURES`.
        deadline: Seconds that a run's end and the process's exit wait for the sinks in all.
        redact_keep: Names that are never taken for secrets.
        mode: ``private`` (folders 0700, files 0600) or ``group`` (shared with the group).
        input_limit: Bytes above which an input or artifact is described by size and mtime instead of its hash.
        large_artifact: Bytes above which a file goes to an object store in parts.
        export_parent: Whether the outermost run exports ``RUNCARD_PARENT`` to subprocesses.
        system_interval: Seconds between two samples of the machine, with ``capture=["system"]``.
        spool: Where journals wait for delivery when no files sink is configured; None: the user's state folder.
    """

    sinks: tuple[Any, ...] = field(default=("file:",), repr=False)  # their URLs may hold passwords
    directory: Path | None = None
    strict: bool = False
    durability: str = "process"
    signals: tuple[str, ...] = ()
    capture: frozenset[str] = DEFAULT_CAPTURES
    deadline: float = 5.0
    redact_keep: tuple[str, ...] = ()
    mode: str = "private"
    input_limit: int = 1_000_000_000
    large_artifact: int = 10 * 2**20
    export_parent: bool = True
    system_interval: float = 10.0
    spool: Path | None = None

    def __repr__(self) -> str:
        """All of them, a sink's URL without its credentials: tracebacks and logs show what is read here."""
        from runcard.redact import Redactor

        told = {field.name: getattr(self, field.name) for field in fields(self)}
        told["sinks"] = tuple(Redactor().url(sink) if isinstance(sink, str) else sink for sink in self.sinks)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in told.items())})"


_configured: dict[str, Any] = {}  # what configure() was told, parsed
_last: list[Any] = []  # what was found in files and variables the last time, and the settings that followed from it


def configure(**settings: Any) -> None:
    """Take settings for this process, all or none of them.

    Raises:
        SettingError: When one is unknown or not accepted.
    """
    base = _from_files_and_variables()
    parsed = {name: parse(name, value) for name, value in settings.items() if value is not None}
    for name in {"directory", "spool"} & parsed.keys():
        try:
            parsed[name] = Path(os.path.abspath(parsed[name]))  # the program may change its directory later
        except OSError:
            raise SettingError(f"{name}={settings[name]!r} is relative, and the working directory is gone") from None
    _merge(base, parsed)  # refuses what cannot be combined, before anything is taken
    _configured.update(parsed)
    for name, value in settings.items():
        if value is None:
            _configured.pop(_known(name), None)
    _last.clear()


def forget() -> None:
    """Drop what `configure()` was told; for tests."""
    _configured.clear()
    _projects.clear()
    _checked.clear()
    _last.clear()


def current(**arguments: Any) -> Settings:
    """The settings that hold now, under the arguments of one run (None where one was not given).

    Raises:
        SettingError: When a variable or ``pyproject.toml`` holds one that is not accepted.
    """
    given = {name: parse(name, value) for name, value in arguments.items() if value is not None}
    found = (*_project(), *map(os.environ.get, _VARIABLES.values()))
    if not _last or _last[0] != found:  # every run asks, and what it finds is mostly the same
        _last[:] = found, _merge(_from_files_and_variables(), _configured)
    return _merge(_last[1], given)


def named_by(sink: Any) -> str:
    """The variable or file that names a sink, to begin a message about it; empty where the program itself does."""
    variable = os.environ.get("RUNCARD_SINKS")
    for place, sinks in (
        ("RUNCARD_SINKS: ", parse("sinks", variable) if variable else ()),
        ("pyproject.toml, [tool.runcard]: ", _project()[1].get("sinks", ())),
    ):
        if sink in [each.removeprefix("+") for each in sinks]:
            return place
    return ""


def was_configured(name: str) -> bool:
    """Whether a setting was given in this process's own code, by `configure()`."""
    return name in _configured


def project_root(start: Path | None = None) -> Path:
    """The nearest folder above the working directory with ``pyproject.toml`` or ``.git``, else that directory."""
    here = Path.cwd() if start is None else start
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder
    return here


def store_root(settings: Settings) -> Path:
    """The store's root, absolute.

    Raises:
        OSError: When the working directory is gone and the setting `directory` is not absolute.
    """
    if settings.directory is None:
        return project_root() / "runcards"
    return Path(os.path.abspath(settings.directory))


def spool_root(settings: Settings) -> Path:
    """Where journals wait for delivery when there is no files sink, absolute."""
    if settings.spool is not None:
        return Path(os.path.abspath(settings.spool))
    from platformdirs import user_state_path

    return user_state_path("runcard") / "spool"


def parse(name: str, value: Any) -> Any:
    """One setting from what the user wrote, be it text or a Python value.

    Raises:
        SettingError: With what is accepted.
    """
    name = _known(name)
    try:
        return PARSERS[name](value)
    except (TypeError, ValueError) as error:
        from runcard.redact import Redactor

        told = f"{name}={value!r} is not accepted: {error}"
    raise SettingError(Redactor().text(told)[0])  # out of reach of the other error, which may name a password


def _known(name: str) -> str:
    if name in PARSERS:
        return name
    from difflib import get_close_matches

    near = get_close_matches(name, PARSERS, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SettingError(f"unknown setting {name!r}; {hint}there are: {', '.join(sorted(PARSERS))}")


def _from_files_and_variables() -> Settings:
    folder, project = _project()
    settings = _merge(Settings(), project) if project else Settings()
    if settings.directory is not None:
        settings = replace(settings, directory=folder / settings.directory)
    if settings.spool is not None:
        settings = replace(settings, spool=folder / settings.spool)
    variables = {}
    for name, variable in _VARIABLES.items():
        text = os.environ.get(variable)
        if text:
            try:
                variables[name] = parse(name, text)
            except SettingError as error:
                raise SettingError(f"{variable}: {error}") from None
    _warn_of_unknown_variables()
    return _merge(settings, variables) if variables else settings


def _warn_of_unknown_variables() -> None:
    """Say once a process which ``RUNCARD_`` variables are none of ours."""
    if "said" in _checked:
        return
    _checked.add("said")
    known = {*_VARIABLES.values()} | {"RUNCARD_DISABLED", "RUNCARD_PARENT", "RUNCARD_RESUME", "RUNCARD_RERUN_OF"}
    for name in os.environ:
        if name.startswith("RUNCARD_") and name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            warn(f"{name} is no setting of runcard{f'; did you mean {near[0]}?' if near else ''}", once=name)


_checked: set[str] = set()
_projects: dict[str, tuple[float, Path, dict[str, Any]]] = {}  # by working directory: mtime, folder, settings


def _project() -> tuple[Path, dict[str, Any]]:
    """The folder of the nearest ``pyproject.toml`` and its parsed ``[tool.runcard]``."""
    try:
        here = os.getcwd()
    except OSError:  # the working directory was deleted
        return Path(os.sep), {}
    path = next((p for p in _above(here) if os.path.isfile(p)), None)
    if path is None:
        return Path(here), {}
    stamp = os.stat(path).st_mtime
    known = _projects.get(path)
    if known is None or known[0] != stamp:
        known = _projects[path] = (stamp, Path(path).parent, _read_project(Path(path)))
    return known[1], known[2]


def _above(folder: str) -> Iterable[str]:
    while True:
        yield os.path.join(folder, "pyproject.toml")
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent


def _read_project(path: Path) -> dict[str, Any]:
    text = path.read_bytes()
    if b"runcard" not in text:
        return {}
    import tomllib

    try:
        table = tomllib.loads(text.decode("utf-8")).get("tool", {}).get("runcard", {})
    except ValueError as error:  # another tool's business, unless it is our table that cannot be read
        raise SettingError(f"{path.name} cannot be read: {error}") from None
    if not isinstance(table, Mapping):
        raise SettingError(f"{path.name}: [tool.runcard] must be a table")
    try:
        found = {_known(name): parse(name, value) for name, value in table.items()}
    except SettingError as error:
        raise SettingError(f"{path.name}, [tool.runcard]: {error}") from None
    if "sinks" in found:
        found["sinks"] = tuple(_beside(path.parent, sink) for sink in found["sinks"])
    if "spool" in found:
        found["spool"] = path.parent / found["spool"]
    return found


def _beside(folder: Path, sink: str) -> str:
    """A sink's URL with the path in it, when that is a relative one, meant from the file it stands in."""
    for head in ("file:", "sqlite:///"):
        scheme, _, path = sink.removeprefix("+").partition(head)
        if not scheme and path and path[0] not in "/~":
            return f"{'+' * sink.startswith('+')}{head}{folder}/{path}"
    return sink


def _merge(base: Settings, changes: Mapping[str, Any]) -> Settings:
    if not changes:
        return base
    taken = dict(changes)
    if "sinks" in taken:
        taken["sinks"] = _merged_sinks(base.sinks, taken["sinks"])
    if "capture" in taken:
        taken["capture"] = _merged_captures(base.capture, taken["capture"])
    return replace(base, **taken)


def _merged_sinks(base: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    if not any(isinstance(sink, str) and sink.startswith("+") for sink in new):
        return new
    plain = tuple(sink[1:] if isinstance(sink, str) and sink.startswith("+") else sink for sink in new)
    return base + tuple(sink for sink in plain if sink not in base)


def _merged_captures(base: frozenset[str], new: tuple[str, ...]) -> frozenset[str]:
    less = {name[1:] for name in new if name.startswith("-")}
    more = {name.removeprefix("+") for name in new if not name.startswith("-")}
    return (base | more) - less


_VARIABLES = {name: "RUNCARD_DIR" if name == "directory" else f"RUNCARD_{name.upper()}" for name in PARSERS}
assert set(PARSERS) == {entry.name for entry in fields(Settings)}
