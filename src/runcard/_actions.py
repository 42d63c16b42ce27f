"""What an open run can be told besides metrics: artifacts, inputs, config, decisions, tags, notes."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runcard._files import checked_name, inside, temporary_path
from runcard._given import by_name, without_secrets
from runcard._values_kinds import class_has, kind_of, names_of
from runcard.capture.inputs import describe
from runcard.errors import contained, warn
from runcard.redact import REDACTED
from runcard.values import config_hash, path_join, plain, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runcard._run import Run


def metric_name(run: Run, name: Any) -> str | None:
    """A metric's name as it is recorded, or None, counted, when it is no text."""
    text = plain_text(name) if "builtins:str" in names_of(type(name)) else ""
    if text:
        return _clean(run, text)
    run.lose("bad_name")
    warn(f"a metric's name is a text, not {kind_of(name)}; the value is left out", once=f"name {run.run_id}")
    return None


def merged(run: Run, metrics: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The metrics of one `log` in one mapping; what is no mapping is counted and left out."""
    if class_has(type(metrics), "items"):
        return {**dict(metrics.items()), **named}
    if run.is_open:
        _append(run, {"kind": "loss", "t": time.time()}, {"not_a_number": 1})
        kind = kind_of(metrics)
        warn(
            f"log() takes names and numbers, log(loss=0.5) or log({{'loss': 0.5}}); a bare {kind} is left out",
            once=f"no mapping {run.run_id}",
        )
    return named


def log_artifact(run: Run, path: Any, name: str | None, *, copy: bool, transient: bool) -> None:
    """Copy a file or folder into the run, or record where it lies."""
    if not isinstance(path, (str, os.PathLike)):
        _refuse(run, f"log_artifact() takes the path of a file or folder, not {kind_of(path)}")
        return
    source = Path(os.fspath(path))
    if not source.exists():
        _refuse(run, f"log_artifact({str(path)!r}): there is no such file")
        return
    try:
        clean = _clean(run, checked_name(source.name if name is None else name))
        if not copy:
            uri = Path(_clean(run, str(source.resolve()))).as_uri()
            _record(run, clean, source.resolve(), uri.replace(quote(REDACTED), REDACTED), transient)
            return
        target = inside(_folder(run), clean)
    except (ValueError, TypeError) as error:
        _refuse(run, f"log_artifact(name={name!r}) is not accepted: {error}")
        return
    import shutil

    if target.exists() and source.samefile(target):
        pass  # written to a path that `artifact_path` gave: it is in its place
    elif source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=_left_out(run, target))
    else:
        shutil.copyfile(source, target)
    _record_tree(run, clean, target, transient)


def artifact_path(run: Run, name: Any, *, transient: bool) -> Path:
    """A path inside the run for a file that is recorded when the run ends."""
    try:
        clean = _clean(run, checked_name(name))
        path = inside(_folder(run), clean)
    except (ValueError, TypeError) as error:
        path = temporary_path(name)
        _refuse(run, f"artifact_path({name!r}) is not accepted: {error}; the file goes to {path} and is not recorded")
        return path
    run._life.pending[clean] = (path, transient)
    return path


def record_pending(run: Run) -> None:
    """At the end: record what was written to the paths given out; what never came is no loss."""
    for name, (path, transient) in run._life.pending.items():
        if path.is_symlink():  # it could lead anywhere, and its target may change after this run
            _refuse(run, f"the artifact {name!r} is a link, which is not followed; write the file itself")
        elif path.exists():
            contained(f"record the artifact {name}", _record_tree, run, name, path, transient)


def log_input(run: Run, path: Any) -> None:
    """Record a file or folder that the run reads."""
    if not isinstance(path, (str, os.PathLike)):
        _refuse(run, f"log_input() takes the path of a file or folder, not {kind_of(path)}")
        return
    found = describe(Path(os.fspath(path)), limit=run._life.settings.input_limit)
    told, hidden = run._life.redactor.tree(found)
    event = {"kind": "input", "t": time.time(), **told}
    _append(run, event, {"redacted": hidden})


def log_config(run: Run, config: Any, named: Mapping[str, Any]) -> None:
    """Add keys to the config; one that is there keeps its value."""
    parts = [plain(each) for each in (config, dict(named)) if each is not None]
    value: dict[str, Any] = {}
    types: dict[str, str] = {}
    for told in parts:
        if type(told.value) is not dict or not _MARKS.isdisjoint(told.value):
            _refuse(run, f"log_config() takes a mapping or a configuration object, not {kind_of(config)}")
            return
        entries, kinds = by_name(told)
        value |= entries
        types |= kinds
    value, hidden = run._life.redactor.tree(value)
    new = {key: item for key, item in value.items() if key not in run.config}
    frozen = [key for key in value if key in run.config and run.config[key] != value[key]]
    if frozen:
        warn(f"config {frozen[0]!r} is set already and keeps its value", once=f"frozen {run.run_id} {frozen[0]}")
    run.config = {**run.config, **new}
    kept = [path_join("", key[1:] if key[:2] == "$$" else key) for key in value if key not in new]
    exact = all(told.exact for told in parts) and run._life.config_exact
    run._life.config_exact = exact
    event = {
        "kind": "config",
        "t": time.time(),
        "config": new,
        "types": {path: kind for path, kind in types.items() if not _is_below(path, kept)},
        "config_hash": config_hash(run.config) if exact else None,
    }
    hidden += sum(told.hidden for told in parts)
    losses = {"redacted": hidden, "cut": sum(told.cuts for told in parts), "config_frozen": len(frozen)}
    _append(run, event, losses)


def decide(run: Run, decision: str, reason: str | None, *, source: str = "code") -> None:
    """Judge the run."""
    text, hidden = (None, 0) if reason is None else run._life.redactor.text(plain_text(str(reason)))
    run._life.decided = True
    event = {"kind": "decision", "t": time.time(), "decision": decision, "reason": text, "source": source}
    _append(run, {**event, "by": run._life.user}, {"redacted": hidden})


def tag(run: Run, tags: tuple[str, ...]) -> None:
    """Add tags."""
    told = [run._life.redactor.text(plain_text(str(each))) for each in tags]
    _append(
        run, {"kind": "tag", "t": time.time(), "add": [text for text, _ in told]}, {"redacted": sum(n for _, n in told)}
    )


def note(run: Run, text: str) -> None:
    """Add a note."""
    told, hidden = run._life.redactor.text(plain_text(str(text)))
    _append(run, {"kind": "note", "t": time.time(), "text": told}, {"redacted": hidden})


def _append(run: Run, event: dict[str, Any], losses: Mapping[str, int]) -> None:
    counted = {kind: count for kind, count in losses.items() if count}
    run._journal.append({**event, "losses": counted} if counted else event)


def _refuse(run: Run, message: str) -> None:
    run.lose("artifacts_refused" if "artifact" in message else "refused")
    warn(message, once=f"{run.run_id} {message}")


def _clean(run: Run, text: str) -> str:
    return str(without_secrets(run, run._life.redactor, text))


def _is_below(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith((f"{place}.", f"{place}[")) for place in places)


def _folder(run: Run) -> Path:
    """Where the run's artifacts go. A run that has only memory keeps them in a temporary folder."""
    if run.folder is None:
        raise ValueError("the run has no folder to keep files in")
    folder = run.folder / "artifacts"
    if not folder.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chmod(folder, run.folder.stat().st_mode & 0o7777)
    return folder


def _record_tree(run: Run, name: str, path: Path, transient: bool) -> None:
    """Record a file, or each file below a folder."""
    _share(run, path)
    if not path.is_dir():
        _record(run, name, path, None, transient)
        return
    for found in sorted(path.rglob("*")):
        _share(run, found)
        if found.is_file() and not found.is_symlink():
            _record(run, f"{name}/{found.relative_to(path).as_posix()}", found, None, transient)


def _share(run: Run, path: Path) -> None:
    """Give a file or folder the permissions of the run's own; a program stays one that can be started."""
    if path.is_symlink():
        return
    now, wanted = path.stat().st_mode, run._life.place.mode
    executable = wanted >> 2 & 0o110 if now & 0o100 else 0  # by whom it may be read
    if now & 0o777 != wanted | executable:
        with contextlib.suppress(OSError):  # another's file, or a file system without permissions
            path.chmod(now & 0o7000 | wanted | executable)


def _record(run: Run, name: str, path: Path, uri: str | None, transient: bool) -> None:
    told = describe(path, limit=run._life.settings.input_limit)
    event: dict[str, Any] = {"kind": "artifact", "t": time.time(), "name": name}
    if uri is None:
        event["path"] = f"artifacts/{name}"
    else:
        event["uri"] = uri
    event |= {key: told[key] for key in ("bytes", "sha256", "mtime", "hashed") if key in told}
    event["transient"] = transient
    if run._life.place.rank:
        event["rank"] = run._life.place.rank
    run._journal.append(event)


def _left_out(run: Run, target: Path) -> Callable[[str, list[str]], list[str]]:
    """What a copied folder leaves behind: links, which could lead anywhere, and the store: a copy into itself."""
    artifacts = _folder(run)
    own = {os.path.realpath(each) for each in (artifacts.parent.parent, artifacts.parent, artifacts, target)}

    def choose(folder: str, names: list[str]) -> list[str]:
        paths = {name: os.path.join(folder, name) for name in names}
        return [name for name, path in paths.items() if os.path.islink(path) or os.path.realpath(path) in own]

    return choose


# What stands for a value that has no names to give.
_MARKS = frozenset(
    ["$object", "$array", "$frame", "$bytes", "$set", "$float", "$int", "$text", "$cut_text", "$cut_list"]
)
