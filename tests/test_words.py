"""Numbers, times, sizes and foreign text, as a person sees them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcard import _words
from runcard._words import (
    duration,
    elide,
    elide_middle,
    number,
    plain_on_screen,
    plural,
    setting,
    size,
    sparkline,
    wrapped,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bP+q544e\x1b\\x", "x"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line", "line"),
        ("unfinished \x1b]52;c;aGk=", "unfinished 52;c;aGk="),
        ("a\nb\r\nc\td\x0be", "a b c d e"),
        ("over\rwrite\x08\x08", "over write"),
        ("abc\u202edcba\u2066x\u200e", "abcdcbax"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("lone \ud800", "lone �"),
        ("naïve 日本 🎉", "naïve 日本 🎉"),
    ],
)
def test_no_text_gives_orders_to_the_terminal(text, shown):
    """Escape sequences, control characters and bidirectional marks are taken out, ordinary letters stay."""
    assert plain_on_screen(text) == shown


def test_lines_are_kept_where_they_are_wanted():
    """A traceback keeps its line breaks and tabs, and nothing else of the kind."""
    assert plain_on_screen("a\r\n\tb\x1b[2J\x07", lines=True) == "a\n\tb"


@given(st.text(alphabet=st.characters(codec=None)))
def test_what_is_shown_is_printable(text):
    """Whatever comes in, no control character goes out."""
    shown = plain_on_screen(text)
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 or each in "\u202e\u2028\x1b" for each in shown)
    assert shown.encode("utf-8").decode("utf-8") == shown


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1], "▄"),
        ([2, 2, 2], "▄▄▄"),
        ([8, 4, 2, 1, 0.5, 0.25], "█▄▃▂▁▁"),
        ([0, math.nan, 1], "▁·█"),
        ([math.nan, math.inf], "··"),
        ([-1e308, 1e308], "▁█"),
        ([10**400, 1, 2], "·▁█"),
        (range(20), "▁▂▃▃▄▅▆▆▇█"),
    ],
)
def test_a_sparkline_shows_the_course(values, drawn):
    """The least is the lowest bar and the most the highest; what is not finite is a dot, many values share bars."""
    assert sparkline(values) == drawn


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.3184412, "0.3184"),
        (0.31, "0.31"),
        (3e-4, "3e-4"),
        (1.23456e-7, "1.235e-7"),
        (12345.678, "12345.68"),
        (1e20, "1e20"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (8200, "8200"),
        (10**4000, "~2^13288"),
        (2**64 - 1, "~2^64"),
        (None, "—"),
    ],
)
def test_metrics_are_short(value, shown):
    """A metric has about four digits, an exponent only where it is shorter."""
    assert number(value) == shown


def test_integers_of_more_digits_than_python_writes():
    """Inside a list or a mapping they stand by their mark."""
    assert setting([10**5000]) == f'[{{"$int": "{hex(10**5000)}"}}]'
    assert setting({"$set": [10**5000]}) == f'set [{{"$int": "{hex(10**5000)}"}}]'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3e-4, "3e-4"),
        (0.00012345678, "1.2345678e-4"),
        (0.1, "0.1"),
        (1e-05, "1e-5"),
        (True, "true"),
        (None, "none"),
        ("adam", "adam"),
        ("", '""'),
        ([1, 2], "[1, 2]"),
        ({"$type": "Tensor"}, "type Tensor"),
        ({"$$x": 1}, '{"$$x": 1}'),
        (math.inf, "inf"),
    ],
)
def test_settings_keep_every_digit(value, shown):
    """A setting is shown exactly."""
    assert setting(value) == shown


@given(st.floats(allow_nan=False))
def test_a_setting_reads_back_as_the_same_number(value):
    """No digit of a setting is lost."""
    assert float(setting(value)) == value


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "<1ms"),
        (0.018, "18ms"),
        (0.42, "0.42s"),
        (9.14, "9.1s"),
        (59.9, "59.9s"),
        (59.97, "1m00s"),
        (2527, "42m07s"),
        (11100, "3h05m"),
        (187200, "2d04h"),
        (None, "—"),
    ],
)
def test_durations_have_two_units_at_most(seconds, shown):
    """A duration is as exact as a person wants it."""
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1200, "1.2 kB"),
        (12_000_000, "12 MB"),
        (98e9, "98 GB"),
        (5e15, "5000 TB"),
        (None, "?"),
    ],
)
def test_sizes_are_in_powers_of_ten(count, shown):
    """Sizes have two digits or three."""
    assert size(count) == shown


def test_wide_characters_take_two_columns():
    """Text is cut by the columns it takes, not by its letters."""
    assert _words.width_of("日本e\u0301") == 5
    assert elide("日本語の名前", 7) == "日本語…"
    assert elide("short", 5) == "short"
    assert elide("longer", 5) == "long…"
    assert elide("x", 0) == ""


def test_paths_lose_their_middle():
    """The end of a path tells most."""
    shown = elide_middle("/home/ana/work/runcards/20261123T101112-7k3f9q2m", 32)
    assert len(shown) == 32
    assert shown.endswith("101112-7k3f9q2m")
    assert shown.startswith("/home/ana/")


@given(st.text(alphabet="ab 日", max_size=80), st.integers(6, 30), st.integers(1, 5))
def test_wrapped_lines_fit(text, width, most):
    """No wrapped line is wider than it may be, and there are no more of them than asked for."""
    lines = wrapped(text, width, most)
    assert 1 <= len(lines) <= most
    assert all(_words.width_of(line) <= width for line in lines)


def test_wrapping_breaks_at_spaces():
    """Words stay whole where they can."""
    assert wrapped("one two three four", 10, 3) == ["one two", "three four"]


def test_one_is_not_many():
    """One has no s."""
    assert (plural(1, "run"), plural(0, "run")) == ("1 run", "0 runs")
