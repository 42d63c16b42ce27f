"""How numbers, times, sizes and foreign text are put in front of a person: on cards, in terminals, in notebooks."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

BARS = "▁▂▃▄▅▆▇█"


def plain_on_screen(text: str, *, lines: bool = False) -> str:
    r"""Text that a terminal shows and never obeys: escape sequences, control and bidirectional characters taken out.

    Args:
        text: Any text, such as a config's value or an exception's message.
        lines: Keep line breaks and tabs; otherwise each is one space.

    >>> plain_on_screen("loss\x1b[31m is\n\x1b]0;title\x07high")
    'loss is high'
    """
    if text.isascii() and text.isprintable():
        return text
    if "\x1b" in text or _C1.search(text):
        text = _SEQUENCE.sub("", text)
    text = text.replace("\r\n", "\n")
    if not lines:
        text = _BREAK.sub(" ", text)
    return _HIDDEN.sub("", _SURROGATE.sub("�", text))


def sparkline(values: Iterable[float], width: int = 10) -> str:
    """The course of some values in a line of bars, each the mean of its share; ``·`` where none is finite.

    >>> sparkline([8, 4, 2, 1, 0.5, 0.25])
    '█▄▃▂▁▁'
    """
    points = [_finite(value) for value in values]
    count = min(width, len(points))
    if count <= 0:
        return ""
    means: list[float | None] = []
    for place in range(count):
        share = [
            point
            for point in points[place * len(points) // count : (place + 1) * len(points) // count]
            if point is not None
        ]
        means.append(sum(value / len(share) for value in share) if share else None)
    known = [mean for mean in means if mean is not None]
    if not known:
        return "·" * count
    least, most = min(known), max(known)
    span = most / 2 - least / 2  # halves: the whole may be beyond what a float holds
    return "".join(
        "·" if mean is None else BARS[round((mean / 2 - least / 2) / span * 7)] if span > 0 else BARS[3]
        for mean in means
    )


def number(value: Any) -> str:
    """A metric's value in about four digits: ``0.3184``, ``3e-4``, ``12345.7``, ``nan``."""
    if type(value) is bool or not isinstance(value, (int, float)):
        return "—" if value is None else plain_on_screen(str(value))
    if isinstance(value, int):
        return str(value) if -_LONG < value < _LONG else f"{'-' if value < 0 else ''}~2^{round(math.log2(abs(value)))}"
    if not math.isfinite(value):
        return str(float(value))
    size = abs(value)
    if size and size < 1e-3:
        return _exponent(f"{value:.3e}")
    text = f"{value:.7g}" if size >= 1000 else f"{value:.4g}"
    return _exponent(text) if "e" in text else text


def setting(value: Any) -> str:
    """A config's value, to all its digits: ``3e-4``, ``adam``, ``[1, 2]``, ``none``."""
    if type(value) is int and -_LONG < value < _LONG:
        return str(value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        if value and abs(value) < 1e-3 and "e" not in text:
            short = _exponent(f"{value:.{max(0, len(text.lstrip('-0.')) - 1)}e}")
            return short if float(short) == value else text
        return _exponent(text) if "e" in text else text
    if isinstance(value, int):
        return number(value)
    if isinstance(value, str):
        return plain_on_screen(value) if value else '""'
    if isinstance(value, dict) and len(value) == 1:
        (key, content), *_ = value.items()
        if str(key).startswith("$") and not str(key).startswith("$$"):
            return _marked(str(key), content)
    return plain_on_screen(_json(value))


def moment(seconds: float) -> datetime | None:
    """A point in time in UTC; None for one that no calendar has, as of a damaged record."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def duration(seconds: float | None) -> str:
    """``18ms``, ``0.42s``, ``9.1s``, ``42m07s``, ``3h05m``, ``2d04h``; ``—`` for None."""
    if seconds is None or not math.isfinite(seconds):
        return "—"
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g}ms" if seconds >= 0.00095 else "<1ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s" if seconds >= 9.95 else f"{seconds:.2g}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: float | None) -> str:
    """Bytes as people say them: ``512 B``, ``12 MB``, ``1.5 GB`` (powers of ten); ``?`` for None."""
    if count is None:
        return "?"
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{count:.2g} {unit}" if count < 9.95 else f"{count:.0f} {unit}"


def plural(count: int, what: str) -> str:
    """``1 file``, ``3 files``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def width_of(text: str) -> int:
    """How many columns of a terminal a plain text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def elide(text: str, width: int) -> str:
    """The text, or as much of it as goes into ``width`` columns with a ``…`` at its end."""
    if width_of(text) <= width:
        return text
    if width <= 0:
        return ""
    kept = text[: width - 1]
    while width_of(kept) > width - 1:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"


def elide_middle(text: str, width: int) -> str:
    """The text, or its two ends around a ``…``: for paths, whose end tells most."""
    if width_of(text) <= width or not text.isascii():
        return elide(text, width)
    if width < 8:
        return elide(text, width)
    head = (width - 1) // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def wrapped(text: str, width: int, most: int) -> list[str]:
    """A text in lines of ``width``, at spaces where there are any; the last of at most ``most`` lines is elided."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most - 1 and width_of(rest) > width:
        cut = len(rest)
        while width_of(rest[:cut]) > width:
            cut -= max(1, (width_of(rest[:cut]) - width) // 2)
        space = rest.rfind(" ", width // 2, cut + 1)
        cut = space if space > 0 else cut
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, elide(rest, width)] if rest or not lines else lines


def _finite(value: Any) -> float | None:
    try:
        point = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return point if math.isfinite(point) else None


def _exponent(text: str) -> str:
    """``1.000e-04`` as ``1e-4``."""
    mantissa, _, power = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(power)}"


def _json(value: Any) -> str:
    import json

    from runcard.events import mark

    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # an integer of more digits than Python writes
        return json.dumps(mark(value), ensure_ascii=False, default=str)


def _marked(kind: str, content: Any) -> str:
    """A value that JSON has no form for, by its kind and what there is to say about it."""
    text = content if isinstance(content, str) else _json(content)
    return plain_on_screen(f"{kind[1:]} {text}")


_LONG = 10**15
_C1 = re.compile("[\x80-\x9f]")
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"  # OSC, DCS: titles, links
    "|\x1b[ -/]*[0-Z\\\\-~]"
)
_BREAK = re.compile("[\t\n\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
