"""Weights & Biases, offline. Its query asks the service: offline runs are in it once they are synchronised."""

from __future__ import annotations

import struct

IMPORTS = "import wandb"
_BLOCK = 32_768  # the file is a LevelDB log


class Space:
    def __init__(self, folder):
        self.folder = folder

    def run(self, config, body, final):
        import wandb

        run = wandb.init(project="bench", dir=str(self.folder), mode="offline", config=config)
        body(lambda metrics, step: run.log(metrics, step=step))
        run.log(final)
        run.finish()

    def recovered(self):
        points, state = 0, "no exit record"
        for record in _records(next(self.folder.glob("wandb/offline-run-*/*.wandb"))):
            points += any(item.key == "loss" or "loss" in item.nested_key for item in record.history.item)
            if record.HasField("exit"):
                state = f"exit {record.exit.exit_code}"
        return points, state

    def count(self):
        return len(list(self.folder.glob("wandb/offline-run-*/*.wandb")))


def _records(path):
    """The records of a run's file: blocks of chunks, each with a checksum, a length and its place in the record."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    at, whole = 7, b""  # the file's own header
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + 7 : at + 7 + size]
        at += 7 + size
        if len(chunk) < size or not kind:
            return
        whole += chunk
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record
