"""TensorBoard's event files: each folder that holds some is a run, as TensorBoard itself shows it.

Scalars become the history, as often and in the order in which they were written, also where a restart wrote steps
again; hyperparameters of the HParams plugin become the config, texts notes or ``texts.jsonl``. A folder below a run's
folder is its child: so ``add_hparams`` and ``add_scalars`` lay theirs.

Event files do not say how a run ended, but where the HParams plugin was used. Such a run is put down as finished at its
last event, which is counted among what was left out; when there is more at the next import, that is added.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from runcard.errors import MissingExtra, SettingError, describe
from runcard.importers import Artifact, Aside, Damaged, Imported, Origin
from runcard.record import Point, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORT_TEXT = 2_000  # characters that a note still takes
_STATUSES = {1: Status.FINISHED, 2: Status.FAILED}  # the HParams plugin's SUCCESS and FAILURE
_LEFT_OUT = {"images": "images", "audio": "audio clips", "histograms": "histograms", "pr_curves": "PR curves"}
_UNKNOWN_STATUS = "unknown statuses"


@dataclass
class _Found:
    """What one folder's event files hold."""

    first: bytes = b""
    began: float | None = None
    last: float | None = None
    points: list[Point] = field(default_factory=list)
    texts: list[tuple[str, int, float, str]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    status: Status | None = None
    host: str | None = None
    writer: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    plugins: dict[str, str] = field(default_factory=dict)  # by tag: only the first value of a tag says it


def runs(source: str) -> Iterator[Imported | Damaged | Aside]:
    """The runs below a log folder, or of one event file.

    Raises:
        MissingExtra: When TensorBoard, whose reader is used, is not installed; `SettingError` when nothing is there.
    """
    try:
        _loaders()
    except ImportError:
        message = 'tensorboard is not installed: pip install "runcard[tensorboard]"'
        raise MissingExtra(message) from None
    root = Path(os.path.abspath(os.path.expanduser(source)))
    folders = {root.parent: [root]} if root.is_file() else _folders(root)
    if root.is_file():
        root = root.parent
    if not folders:
        raise SettingError(f"{root} holds no event files (events.out.tfevents.*)")
    origins: dict[Path, Origin] = {}
    empty = 0
    for folder, files in folders.items():
        try:
            found = _read(files)
        except Exception as error:  # another library's parser, given any bytes: this run alone is lost
            yield Damaged(str(folder), describe(error))
            continue
        if found.began is None and any(path.stat().st_size for path in files):
            yield Damaged(str(folder), "no event of its files can be read")
            continue
        if found.began is None or not (found.points or found.texts or found.config):
            empty += 1
            continue
        key = f"{files[0].name}\0{hashlib.sha256(found.first).hexdigest()}"
        origins[folder] = Origin("tensorboard", key, found.began)
        parent = next((origins[above] for above in folder.parents if above in origins), None)
        yield _imported(found, folder, root, origins[folder], parent)
    if empty:
        yield Aside("folders without scalars, texts or hyperparameters", empty)


def _folders(root: Path) -> dict[Path, list[Path]]:
    """The event files below a folder by the folder they lie in, both in order."""
    found = {}
    for place, folders, names in os.walk(root):
        folders.sort()
        files = sorted(name for name in names if ".tfevents." in name)
        if files:
            found[Path(place)] = [Path(place, name) for name in files]
    return found


def _imported(found: _Found, folder: Path, root: Path, origin: Origin, parent: Origin | None) -> Imported:
    notes, artifacts = _texts(found.texts)
    left_out = Counter(found.left_out)
    if found.status is None:
        left_out[_UNKNOWN_STATUS] = 1
    return Imported(
        origin=origin,
        source=str(folder),
        name=folder.relative_to(root).as_posix() if folder != root else root.name,
        experiment=root.name or "tensorboard",
        status=found.status or Status.FINISHED,
        ended_at=found.last,
        parent=parent,
        config=found.config,
        points=found.points,
        notes=notes,
        host=found.host,
        artifacts=artifacts,
        original={
            "status": "unknown" if found.status is None else found.status.value,
            **({"writer": found.writer} if found.writer else {}),
        },
        left_out=left_out,
    )


def _texts(texts: list[tuple[str, int, float, str]]) -> tuple[str, list[Artifact]]:
    """A short text that its tag has once is a note; where there are others, all of them are in one file."""
    often = Counter(tag for tag, *_ in texts)
    notes = [f"{tag}: {text}" for tag, _, _, text in texts if often[tag] == 1 and len(text) <= _SHORT_TEXT]
    if len(notes) == len(texts):
        return "\n".join(notes), []
    lines = [{"tag": tag, "step": step, "time": time, "text": text} for tag, step, time, text in texts]
    content = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
    return "\n".join(notes), [Artifact("texts.jsonl", content=content)]


def _read(files: list[Path]) -> _Found:
    loaders = _loaders()
    found = _Found()
    for path in files:
        raw = loaders.RawEventFileLoader(str(path)).Load()
        if not found.first:  # two records: when the writer began, and the first thing that it wrote
            found.first = b"".join(record for record, _ in zip(raw, range(2), strict=False))
        for event in loaders.EventFileLoader(str(path)).Load():
            _take(event, found)
        found.left_out["damaged event files"] += _is_damaged(path)
    found.host = _host(files[0].name)
    found.left_out += Counter()  # without what was found zero times
    return found


def _is_damaged(path: Path) -> bool:
    """Whether the loader, which stops in silence, did not get to the end of the file."""
    size = path.stat().st_size
    read = sum(len(record) + _FRAME for record in _loaders().RawEventFileLoader(str(path)).Load())
    return bool(read < size)


_FRAME = 16  # bytes around a record: its length (8), the CRC of that (4) and of the data (4)


def _take(event: Any, found: _Found) -> None:
    """Take in one event; `event_file_loader` has brought old forms into the present one."""
    time = float(event.wall_time)
    found.began = time if found.began is None else min(found.began, time)
    what = event.WhichOneof("what")
    if what == "file_version":
        found.writer = event.source_metadata.writer or found.writer
        return
    if what in ("graph_def", "meta_graph_def", "tagged_run_metadata"):
        found.left_out["graphs" if what != "tagged_run_metadata" else "profiles"] += 1
    if what != "summary":
        return
    for value in event.summary.value:
        plugin = value.metadata.plugin_data.plugin_name
        if plugin:
            found.plugins[value.tag] = plugin
        plugin = found.plugins.get(value.tag, "")
        if plugin == "hparams":
            _take_hparams(value.metadata.plugin_data.content, found)
        elif plugin == "scalars":
            found.points.append(Point(value.tag, event.step, _scalar(value), time))
        elif plugin == "text":
            found.texts.append((value.tag.removesuffix("/text_summary"), event.step, time, _text(value)))
        elif plugin == "graph_keras_model" or value.tag.startswith("__tf_graph"):
            found.left_out["graphs"] += 1
            continue
        else:
            found.left_out[_LEFT_OUT.get(plugin, f"values of {plugin}" if plugin else "values of no plugin")] += 1
        found.last = time if found.last is None else max(found.last, time)


def _scalar(value: Any) -> Any:
    """The one number; None for an array of none or of several, which is counted as no number."""
    array = _array(value)
    return array.item() if array.size == 1 else None


def _text(value: Any) -> str:
    array = _array(value)
    rows = array.reshape(-1, array.shape[-1]).tolist() if array.ndim > 1 else [[each] for each in array.reshape(-1)]
    return "\n".join(" | ".join(_decoded(cell) for cell in row) for row in rows)


def _array(value: Any) -> Any:
    from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]  # it has no types

    return make_ndarray(value.tensor)


def _loaders() -> Any:
    from tensorboard.backend.event_processing import event_file_loader  # type: ignore[import-untyped]  # it has no types

    return event_file_loader


def _decoded(cell: Any) -> str:
    return cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)


def _take_hparams(content: bytes, found: _Found) -> None:
    """The hyperparameters and the end of a session; what is told of the experiment as a whole is for TensorBoard."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]  # it has no types

    told = HParamsPluginData.FromString(content)
    which = told.WhichOneof("data")
    if which == "session_start_info":
        for name, value in sorted(told.session_start_info.hparams.items()):
            kind = value.WhichOneof("kind")
            found.config[name] = (
                getattr(value, kind) if kind in ("number_value", "string_value", "bool_value") else None
            )
    elif which == "session_end_info":
        found.status = _STATUSES.get(told.session_end_info.status)


def _host(name: str) -> str | None:
    """The host in ``events.out.tfevents.<seconds>.<host>.<process>.<number>``; None where the name is another."""
    parts = name.partition(".tfevents.")[2].split(".")
    while len(parts) > 2 and (parts[-1].isdecimal() or parts[-1] == "v2"):
        parts.pop()
    host = ".".join(parts[1:])
    return host if parts and parts[0].isdecimal() and host else None
