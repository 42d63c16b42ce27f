"""The command line as a process: start, pipes, terminals, completion, help."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from command_line import call

from runcard import _words, run
from runcard.cli.app import COMMANDS

PROGRAM = [sys.executable, "-m", "runcard"]


def start(*args, **options):
    return subprocess.run([*PROGRAM, *args], capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_goes_away_is_no_error(store, buffered):
    """`runcard ls | head -1` ends quietly."""
    for number in range(300):
        with run(f"run {number} " + "x" * 200, capture=["-git", "-packages"]):
            pass
    environ = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    process = subprocess.Popen([*PROGRAM, "ls", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)
    assert process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_the_program_alone_shows_its_help_as_it_is_laid_out():
    """`runcard` without a command is wrong usage, and what helps is the help, line by line."""
    alone = start(env={**os.environ, "COLUMNS": "80"})
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr == start("--help", env={**os.environ, "COLUMNS": "80"}).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_closed_standard_output_is_no_error(store):
    """What is said goes nowhere; the exit code is the answer."""
    with run("r"):
        pass
    for command in ("ls", "ls --json", "show", "export"):
        done = subprocess.run(
            ["sh", "-c", f'"$0" -m runcard {command} >&-', sys.executable], capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_output_is_plain_when_piped(store):
    """No colour, no pager, no cursor movements in a pipe."""
    with run("r") as current:
        current.log(loss=1.0)
    for command in (["ls"], ["show"], ["rank", "loss", "-d", "minimize"]):
        result = start(*command)
        assert result.returncode == 0
        assert "\x1b" not in result.stdout


def test_a_terminal_of_another_encoding_is_no_error(store):
    """Where letters cannot be written, plainer ones are."""
    with run("名前") as current:
        for step in range(5):
            current.log(loss=step)
    result = start("show", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert result.returncode == 0
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["ls --json", "export", "export -f jsonl", "leaderboard -f csv", "who 値.txt"])
def test_what_programs_read_is_utf8_in_any_locale(command, store, tmp_path, monkeypatch):
    """JSON and CSV are whole where the terminal has not their letters; what a person reads is at least there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "値.txt").write_text("data", encoding="utf-8")
    with run("名前", config={"名": "値"}) as current:
        current.log_input("値.txt")
    result = subprocess.run(
        [*PROGRAM, *command.split()],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert ("値" in result.stdout.decode("utf-8")) is not command.startswith("who")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_of_80_columns_gets_colour_and_no_longer_line(store, no_colour):
    """On a terminal statuses have colour unless NO_COLOR is set, and lines keep to its width."""
    import fcntl
    import pty
    import struct
    import termios

    with run("a name that is rather long " * 4, config={"lr": 0.1}) as current:
        current.log({"a/long/name/of/a/metric/number/one": 1.0, "another/rather/long/name": 2.0})
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "LINES")}
    environ |= {"TERM": "xterm", **({"NO_COLOR": "1"} if no_colour else {})}
    process = subprocess.Popen([*PROGRAM, "ls"], stdout=child, stdin=child, stderr=child, env=environ)
    os.close(child)
    output = b""
    while True:
        try:
            block = os.read(parent, 4096)
        except OSError:  # the other side is closed: Linux says it so
            break
        if not block:
            break
        output += block
    os.close(parent)
    assert process.wait(60) == 0
    text = output.decode()
    assert ("\x1b[32mfinished\x1b[0m" in text) is not no_colour
    assert ("\x1b" in text) is not no_colour
    assert max(_words.width_of(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in text.splitlines()) <= 80


def test_ctrl_c_ends_quietly(store):
    """Ctrl-C in watch ends it with 130, one line and no traceback."""
    with run("on"):
        process = subprocess.Popen([*PROGRAM, "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "running" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_listing_imports_neither_tables_nor_frames_nor_git(store):
    """What `runcard ls` does not need it does not import: that is what makes it start fast."""
    code = (
        "import sys; sys.argv = ['runcard', 'ls']\n"
        "from runcard.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'pandas', 'git', 'psutil', 'wrapt', 'numpy', 'asyncio', 'sqlite3', 'zipfile'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell):
    """--completion prints what the shell evaluates."""
    assert "_RUNCARD_COMPLETE" in call("--completion", shell).stdout


@pytest.mark.parametrize("words", ["show", "--store {} show", "show --store {}"])
def test_references_are_completed(store, tmp_path, words):
    """The shell completes short ids from the store that is set, or from the one that is named before or after."""
    with run("r") as current:
        pass
    short = current.run_id[-8:]
    words = f"runcard {words} {short[:3]}".format(store.root)
    environ = {
        **os.environ,
        **({"RUNCARD_DIR": str(tmp_path / "another")} if "--store" in words else {}),
        "_RUNCARD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "from runcard.__main__ import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environ, check=False
    )
    assert result.stdout.split() == [f"plain,{short}"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    """--help of each command shows an example of it, and the table says the same as the command."""
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"\n    runcard {command}" in result.stdout
    assert command in call("--help").stdout
    assert "--store URL" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_no_command_is_the_help():
    """`runcard` alone shows what there is."""
    text = call().output
    assert "Examples:" in text
    assert "rank" in text


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["lss"], "runcard ls"),
        (["frobnicate"], "--help"),
        (["ls", "--nope"], "runcard ls --help"),
        (["show", "a", "b"], "--help"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(args, hint):
    """Exit code 2, nothing on standard output, and the next step."""
    result = call(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert hint in result.stderr


def test_a_store_of_an_unknown_kind_is_one_line():
    """A URL that no sink answers to is an error with what is accepted."""
    result = call("--store", "ftp://x", "ls")
    assert result.exit_code == 2
    assert result.stderr.startswith("runcard: ")
    assert result.stderr.count("\n") == 1
