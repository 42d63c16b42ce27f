"""Offline runs of W&B in tests, read with the protobuf messages that its own wheel ships."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def messages():
    """The module of protobuf messages that wandb ships; importing it warns on some machines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wandb.proto import wandb_internal_pb2

    return wandb_internal_pb2


def at_home(monkeypatch, folder):
    """Let wandb work offline and keep all its files below a folder."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder / name.lower()))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    return folder


def folders(home, run_id="*"):
    """The folders of offline runs."""
    return sorted((home / "wandb").glob(f"offline-run-*-{run_id}"))


class Decoded:
    """One offline run, as its file says."""

    def __init__(self, folder: Path) -> None:
        (self.path,) = folder.glob("*.wandb")
        self.records = list(records(self.path.read_bytes()))
        self.config: dict = {}
        self.summary: dict = {}
        self.rows: list[dict] = []
        self.files: list[str] = []
        self.artifacts: dict[str, dict] = {}
        self.exit_code = None
        for record in self.records:
            kind = record.WhichOneof("record_type")
            body = getattr(record, kind)
            if kind == "run":
                self.run = body
                _update(self.config, body.config)
            elif kind in ("config", "summary"):
                _update(getattr(self, kind), body)
            elif kind == "history":
                self.rows.append({".".join(item.nested_key): json.loads(item.value_json) for item in body.item})
            elif kind == "files":
                self.files += [entry.path for entry in body.files]
            elif kind == "artifact":
                self.artifacts[body.name] = {entry.path: entry for entry in body.manifest.contents}
            elif kind == "exit":
                self.exit_code = body.exit_code
        self.config.pop("_wandb", None)

    def points(self, name):
        """The steps and values of a metric."""
        return [(row.get("step"), row[name]) for row in self.rows if name in row]


def only_run(home, run_id="*"):
    """The one run that lies in a wandb folder, or the one with an id."""
    (found,) = folders(home, run_id)
    return Decoded(found)


def records(data):
    """The messages of a file, each checked."""
    assert data[:7] == b":W&B\xe1\xbe\x00"
    at, parts = 7, b""
    while at < len(data):
        if 32_768 - at % 32_768 < 7:
            at += 32_768 - at % 32_768
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + 7 : at + 7 + length]
        assert zlib.crc32(data[at + 6 : at + 7 + length]) == checksum
        at += 7 + length
        parts = chunk if kind in (1, 2) else parts + chunk
        if kind in (1, 4):
            record = messages().Record()
            record.ParseFromString(parts)
            yield record


def _update(tree, change):
    for item in change.update:
        *above, name = item.nested_key or [item.key]
        within = tree
        for key in above:
            within = within.setdefault(key, {})
        within[name] = json.loads(item.value_json)
