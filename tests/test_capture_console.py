"""What `runcard.capture.console` writes down, and that the terminal is as before."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading

import pytest

from runcard import errors
from runcard.capture.console import Console
from runcard.errors import RuncardWarning


class Redactor:
    """Stands in for the real one: knows one secret."""

    def text(self, text):
        return text.replace("hunter2", "[redacted]"), text.count("hunter2")


class Terminal(io.StringIO):
    """A stream with the traits of a terminal."""

    def isatty(self):
        return True


def terminals(monkeypatch):
    """A terminal for each of the two streams; put there by the test itself, since pytest sets its own before."""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


@pytest.fixture
def log(tmp_path):
    """The log's path."""
    return tmp_path / "output.log"


def test_terminal_and_log_both_have_it(monkeypatch, log):
    """What is printed to either stream appears on the terminal and, line by line, in the log."""
    streams = terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    print("one")
    print("two", file=sys.stderr)
    sys.stdout.writelines(["three\n", "fo", "ur"])
    console.stop()
    assert (streams[0].getvalue(), streams[1].getvalue()) == ("one\nthree\nfour", "two\n")
    assert log.read_text() == "one\ntwo\nthree\nfour\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert (sys.stdout, sys.stderr) == streams


def test_the_wrapper_is_as_the_stream(monkeypatch, log):
    """What a program asks of the stream, the stream beneath answers."""
    streams = terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    assert sys.stdout.isatty()
    assert sys.stdout.encoding == streams[0].encoding
    assert repr(sys.stdout) == repr(streams[0])
    sys.stdout.mark = 3
    assert streams[0].mark == 3
    assert not hasattr(sys.stdout, "nothing_of_the_kind")
    with pytest.raises(TypeError):
        sys.stdout.write(b"bytes")
    with pytest.raises(io.UnsupportedOperation):
        sys.stdout.fileno()
    assert print("x") is None
    assert sys.stdout.write("four") == 4
    console.stop()
    assert log.read_text() == "x\nfour\n"


def test_progress_bar_becomes_its_last_state(monkeypatch, log):
    """Redrawing with carriage returns leaves one line, also when the bar is wiped out at its end."""
    streams = terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    for percent in range(101):
        sys.stderr.write(f"\r{percent}%|{'#' * (percent // 10)}")
    sys.stderr.write("\n")
    sys.stderr.write("\r50%\r100%\r      \rdone\n")
    sys.stderr.write("a\r\n")
    for step in range(2000):  # far more than the longest line that is kept
        sys.stderr.write(f"\r{step:100}")
    sys.stderr.write("\rlast\nb\r")
    console.stop()
    assert log.read_text() == "100%|##########\ndone\na\nlast\nb\n"
    assert "\r50%" in streams[1].getvalue()


def test_colours_stay_out_and_secrets_are_cut(monkeypatch, log):
    """Terminal sequences are left out, secrets are redacted even where a colour lies inside, and counted."""
    streams = terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    print("\x1b[31mred\x1b[0m \x1b]0;title\x07 hun\x1b[1mter2 \x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\ \x00")
    print("hun", end="")
    print("ter2")
    console.stop()
    assert log.read_text() == "red  [redacted] link \n[redacted]\n"
    assert console.redacted == 2
    assert "hunter2" in streams[0].getvalue()


def test_private_keys_are_cut_over_their_lines(monkeypatch, log):
    """Of a PEM block of a private key no line reaches the log."""
    terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    print("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----\nafter")
    console.stop()
    assert log.read_text() == "[redacted]\n[redacted]\n[redacted]\nafter\n"


def test_a_broken_redactor_costs_the_line(monkeypatch, log):
    """When the redactor fails, nothing of the line is written."""
    terminals(monkeypatch)

    class Broken:
        def text(self, text):
            raise SystemExit(3)

    console = Console(log, Broken()).start()
    print("hunter2")
    console.stop()
    assert log.read_text() == "[redacted]\n"


def test_bounded_and_marked(monkeypatch, log):
    """The log ends at its limit with a line that says so; a single endless line is cut."""
    terminals(monkeypatch)
    console = Console(log, Redactor(), limit=100).start()
    for number in range(50):
        print(f"line {number}")
    console.stop()
    assert console.cut
    assert log.read_text().endswith("\n[cut: the log ends at 100 bytes]\n")
    assert log.stat().st_size < 150
    other = Console(log.with_name("long.log"), Redactor()).start()
    for _ in range(100):
        sys.stdout.write("x" * 10_000)
    other.stop()
    text = log.with_name("long.log").read_text()
    assert text == "x" * 65_536 + "… [line cut]\n"


def test_overlapping_runs_each_have_their_log(monkeypatch, tmp_path):
    """Runs that overlap without nesting hear what was printed while each was open, and leave nothing behind."""
    streams = terminals(monkeypatch)
    first = Console(tmp_path / "1", Redactor()).start()
    print("a")
    second = Console(tmp_path / "2", Redactor()).start()
    print("b")
    first.stop()
    print("c")
    second.stop()
    print("d")
    assert ((tmp_path / "1").read_text(), (tmp_path / "2").read_text()) == ("a\nb\n", "b\nc\n")
    assert streams[0].getvalue() == "a\nb\nc\nd\n"
    assert sys.stdout is streams[0]


def test_a_stream_replaced_since_is_left(monkeypatch, log):
    """A stream that the user put in place during the run stays, and the old wrapper goes on working."""
    streams = terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    kept = sys.stdout
    mine = io.StringIO()
    sys.stdout = mine
    console.stop()
    assert sys.stdout is mine
    kept.write("late")
    assert streams[0].getvalue() == "late"
    assert log.read_text() == ""


def test_redirection_inside_a_run(monkeypatch, log):
    """What the user redirects does not reach the terminal and so not the log; afterwards all is as before."""
    streams = terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    with contextlib.redirect_stdout(io.StringIO()):
        print("hidden")
    print("seen")
    console.stop()
    assert log.read_text() == "seen\n"
    assert sys.stdout is streams[0]


def test_threads_lose_nothing(monkeypatch, log):
    """Lines printed by several threads at once are all there, each of them whole."""
    terminals(monkeypatch)
    console = Console(log, Redactor()).start()

    def work(name):
        for number in range(300):
            sys.stdout.write(f"{name}:{number}\n")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    console.stop()
    assert sorted(log.read_text().split()) == sorted(f"{name}:{number}" for name in "abcd" for number in range(300))


def test_printing_while_a_line_is_written_waits_for_nobody(monkeypatch, log):
    """A print from within the log's own work, as from a signal handler, neither deadlocks nor gets lost."""
    terminals(monkeypatch)

    class Talkative(Redactor):
        def text(self, text):
            if text == "outer":
                print("inner")
            return super().text(text)

    console = Console(log, Talkative()).start()
    print("outer")
    console.stop()
    assert sorted(log.read_text().split()) == ["inner", "outer"]


def test_a_log_that_cannot_be_written_never_reaches_the_user(monkeypatch, log):
    """A failing disk costs the log, with one warning; the terminal has everything."""
    streams = terminals(monkeypatch)
    monkeypatch.setattr(errors, "_said", set())
    console = Console(log, Redactor()).start()
    os.close(console._descriptor)
    with pytest.warns(RuncardWarning, match="console log"):
        print("one")
    print("two")
    console.stop()
    assert streams[0].getvalue() == "one\ntwo\n"
    with pytest.warns(RuncardWarning, match="open the console log"):
        missing = Console(log / "no" / "such", Redactor()).start()
    assert sys.stdout is streams[0]
    missing.stop()


def test_no_stdout_and_a_closed_one(monkeypatch, log):
    """A stream that is None stays None; one that is closed raises what it always did, and the log has the text."""
    streams = terminals(monkeypatch)
    monkeypatch.setattr(sys, "stdout", None)
    console = Console(log, Redactor()).start()
    assert sys.stdout is None
    streams[1].close()
    with pytest.raises(ValueError, match="closed file"):
        sys.stderr.write("last words\n")
    console.stop()
    assert log.read_text() == "last words\n"


def test_a_forked_child_prints_on(monkeypatch, log):
    """In a forked child the lock and the half line of the parent are forgotten: it neither hangs nor repeats."""
    terminals(monkeypatch)
    console = Console(log, Redactor()).start()
    sys.stdout.write("half ")
    console._writing.acquire()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads
        child = os.fork()
    if not child:
        print("child")
        os._exit(0)
    console._writing.release()
    os.waitpid(child, 0)
    print("whole")
    console.stop()
    assert log.read_text() == "child\nhalf whole\n"


def test_a_resumed_run_appends(monkeypatch, log):
    """A second attempt goes on where the first one's log ended."""
    terminals(monkeypatch)
    for word in ("first", "second"):
        console = Console(log, Redactor()).start()
        print(word)
        console.stop()
    assert log.read_text() == "first\nsecond\n"


def test_captured_by_pytest(capsys, log):
    """Under pytest's capture both have it."""
    console = Console(log, Redactor()).start()
    print("hello")
    console.stop()
    assert capsys.readouterr().out == "hello\n"
    assert log.read_text() == "hello\n"
