"""A ``run-*.wandb`` file: a log of protobuf messages, read without wandb.

The log is LevelDB's: blocks of 32 KiB, in them chunks of a checksum, a length, a type and the bytes, a message being
one chunk or several. After the first seven bytes of the file, which name its kind, comes a ``Record`` of W&B's
``wandb_internal.proto`` after the other. Its numbers of fields, which are for ever, are what readers here go by.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD = b":W&B\xe1\xbe\x00"
_BLOCK = 1 << 15
_CHUNK = struct.Struct("<IHB")
_HOLE, _WHOLE, _FIRST, _LAST = 0, 1, 2, 4  # and 3, one in the middle
_DEPTH = 64  # bytes of a varint are ten at most; a longer one is none


class Message:
    """A protobuf message, its fields by number. A field of another type than asked for is absent.

    Raises:
        ValueError: When the bytes are no message.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def merge(self, later: Message) -> None:
        """Take in what a later message says; of fields that hold one value, the last one counts."""
        for number, values in later._fields.items():
            self._fields.setdefault(number, []).extend(values)

    def messages(self, number: int) -> list[Message]:
        """A field of messages."""
        return [Message(value) for value in self._fields.get(number, ()) if isinstance(value, bytes)]

    def message(self, number: int) -> Message:
        """A field that holds one message; an empty one when it is absent."""
        found = self.messages(number)
        return found[-1] if found else Message(b"")

    def texts(self, number: int) -> list[str]:
        """A field of texts."""
        return [value.decode("utf-8", "replace") for value in self._fields.get(number, ()) if isinstance(value, bytes)]

    def text(self, number: int) -> str:
        """A field that holds one text; an empty one when it is absent."""
        found = self.texts(number)
        return found[-1] if found else ""

    def integer(self, number: int) -> int:
        """A signed integer; 0 when it is absent, as protobuf has it."""
        found = [value for value in self._fields.get(number, ()) if isinstance(value, int)]
        value = found[-1] if found else 0
        return value - (1 << 64) if value >= 1 << 63 else value

    def zigzag(self, number: int) -> int:
        """An integer that is written with its sign last."""
        value = self.integer(number) % (1 << 64)
        return (value >> 1) ^ -(value & 1)

    def double(self, number: int) -> float:
        """A double; 0 when it is absent."""
        found = [value for value in self._fields.get(number, ()) if isinstance(value, bytes) and len(value) == 8]
        return float(struct.unpack("<d", found[-1])[0]) if found else 0.0

    def time(self, number: int) -> float | None:
        """A timestamp as seconds since the epoch."""
        if number not in self:
            return None
        stamp = self.message(number)
        return stamp.integer(1) + stamp.integer(2) / 1e9


class RecordFile:
    """The records of one file, as far as they can be read.

    Attributes:
        damaged: How many places were passed over, known when all was read. A file that ends in the middle of a
            record has one: its writer was killed, or still writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damaged = 0

    def __iter__(self) -> Iterator[Message]:
        """Read from the beginning.

        Raises:
            OSError: When the file cannot be read; `ValueError` when it is none of W&B's.
        """
        self.damaged = 0
        for data in self._payloads():
            try:
                yield Message(data)
            except ValueError:
                self.damaged += 1

    def _payloads(self) -> Iterator[bytes]:
        parts: list[bytes] | None = None
        with self._path.open("rb") as file:
            if file.read(len(_HEAD)) != _HEAD:
                raise ValueError("it does not begin as a W&B file does")
            block, at = _HEAD + file.read(_BLOCK - len(_HEAD)), len(_HEAD)
            while block:
                for kind, data in self._chunks(block, at):
                    if kind == _HOLE:
                        self.damaged += parts is not None or bool(data)
                        parts = None
                    elif kind in (_WHOLE, _FIRST):
                        self.damaged += parts is not None
                        parts = []
                    if parts is None:  # the beginning of this one was lost
                        continue
                    parts.append(data)
                    if kind in (_WHOLE, _LAST):
                        yield b"".join(parts)
                        parts = None
                block, at = file.read(_BLOCK), 0
        self.damaged += parts is not None

    def _chunks(self, block: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        """The chunks of a block; where nothing more in it can be found, a hole."""
        while at + _CHUNK.size <= len(block):
            checksum, length, kind = _CHUNK.unpack_from(block, at)
            begin = at + _CHUNK.size
            at = begin + length
            if kind == 0 and length == 0:
                yield _HOLE, b""  # the rest of the block was never written
                return
            data = block[begin:at]
            if len(data) < length or not _WHOLE <= kind <= _LAST or zlib.crc32(block[begin - 1 : at]) != checksum:
                yield _HOLE, block[begin - 1 :]
                return
            yield kind, data
        if len(block) < _BLOCK and at < len(block):
            yield _HOLE, block[at:]  # cut off in the middle of a chunk's head


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("a field of a kind that there is none of")
        if at + length > len(data):
            raise ValueError("a field that goes on beyond its message")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > _DEPTH:
            raise ValueError("an integer without an end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
        shift += 7
