"""Sizes and ages as people type them."""

from __future__ import annotations

import re
from datetime import timedelta

from runcard.errors import SettingError


def parse_size(text: str) -> int:
    """Bytes of ``50GB``, ``1.5 MB``, ``200kB``, ``1GiB``.

    Raises:
        SettingError: When the text is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None:
        raise SettingError(f"a size is a number with a unit, such as 500MB or 50GB, not {text!r}")
    power = " kmgt".index(found[2].lower() or " ")
    return round(float(found[1]) * float(1024 if found[3] else 1000) ** power)


def parse_age(text: str) -> timedelta:
    """A span of time: ``30d``, ``12h``, ``2w``, ``90m``.

    Raises:
        SettingError: When the text is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text, re.IGNORECASE)
    if found is None:
        raise SettingError(f"an age is a number with a unit of s, m, h, d or w, such as 30d or 12h, not {text!r}")
    try:
        return timedelta(seconds=float(found[1]) * _SECONDS[found[2].lower()])
    except OverflowError:
        raise SettingError(f"{text!r} is longer than any run can be old") from None


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
