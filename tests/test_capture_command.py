"""What `runcard.capture.command` says of each way to start a program."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from runcard.capture import command

SOURCE = str(Path(command.__file__).parents[2])
CODE = """
import json
from runcard.capture import command
class Redactor:
    def text(self, text): return text.replace("hunter2", "[redacted]"), text.count("hunter2")
    def argv(self, words): return [w.replace("hunter2", "[redacted]") if w[:2] == "--" else w for w in words], 0
print(json.dumps(command.capture(Redactor())))
"""


class Redactor:
    """Stands in for the real one: knows one secret."""

    def text(self, text):
        return text.replace("hunter2", "[redacted]"), text.count("hunter2")

    def argv(self, words):
        return [word.replace("hunter2", "[redacted]") for word in words], 0


def start(*arguments, cwd, stdin=""):
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    return json.loads(answer.stdout.splitlines()[-1])


def test_script(tmp_path):
    """A script is told by its path, with its arguments, redacted, and one line for a shell."""
    (tmp_path / "train.py").write_text(CODE)
    told = start("-X", "utf8", "train.py", "--lr", "0.1", "a b", "--token=hunter2", cwd=tmp_path)
    assert told["kind"] == "script"
    assert told["entry"] == str(tmp_path / "train.py")
    assert told["argv"] == ["train.py", "--lr", "0.1", "a b", "--token=[redacted]"]
    assert told["orig_argv"][1:3] == ["-X", "utf8"]
    assert shlex.split(told["line"]) == told["orig_argv"]
    assert told["cwd"] == str(tmp_path)
    assert told["interactive"] is False


def test_module(tmp_path):
    """A module or package run with ``-m`` is told by its import name."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "__main__.py").write_text(CODE)
    (tmp_path / "pack" / "part.py").write_text(CODE)
    assert [start("-m", name, cwd=tmp_path)["entry"] for name in ("pack", "pack.part")] == ["pack", "pack.part"]
    assert start("-m", "pack", cwd=tmp_path)["kind"] == "module"


def test_code_of_the_command_line(tmp_path):
    """With ``-c`` the code is told, redacted."""
    told = start("-c", CODE, cwd=tmp_path)
    assert (told["kind"], told["entry"]) == ("command", None)
    assert "hunter2" not in json.dumps(told)
    assert "[redacted]" in told["orig_argv"][2]


@pytest.mark.parametrize("arguments", [(), ("-",), ("-u",)])
def test_standard_input(tmp_path, arguments):
    """A program piped into the interpreter has no file."""
    told = start(*arguments, cwd=tmp_path, stdin=CODE)
    assert (told["kind"], told["entry"]) == ("stdin", None)


def test_zipapp_and_folder(tmp_path):
    """An archive is told by its path, a folder with a ``__main__`` is a script."""
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", CODE)
    told = start("app.pyz", cwd=tmp_path)
    assert (told["kind"], told["entry"]) == ("zipapp", str(tmp_path / "app.pyz"))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(CODE)
    assert start("app", cwd=tmp_path)["kind"] == "script"


def test_multiprocessing_child(tmp_path):
    """A spawned worker is told as one, with the script that its parent ran."""
    script = f"import multiprocessing as m\ndef f(q):\n    exec({CODE!r}, {{}})\n"
    script += (
        "if __name__ == '__main__':\n    p = m.get_context('spawn').Process(target=f, args=(0,)); p.start(); p.join()\n"
    )
    (tmp_path / "pool.py").write_text(script)
    told = start("pool.py", cwd=tmp_path)
    assert (told["kind"], told["entry"]) == ("multiprocessing", str(tmp_path / "pool.py"))


def test_pytest_itself():
    """Inside a test run the kind is pytest."""
    assert command.capture(Redactor())["kind"] in {"pytest", "multiprocessing"}  # the latter under xdist


def test_interactive(tmp_path):
    """A terminal session is a REPL."""
    told = start("-c", "import sys; sys.ps1 = '>>> '\n" + CODE, cwd=tmp_path)
    assert (told["kind"], told["interactive"]) == ("repl", True)


def test_notebook(tmp_path, monkeypatch):
    """In Jupyter and VS Code the notebook's path is the entry."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert (command._kind()) == ("notebook", None)
    notebook = tmp_path / "a.ipynb"
    notebook.write_text("{}")
    monkeypatch.setenv("JPY_SESSION_NAME", str(notebook))
    assert command._kind() == ("notebook", str(notebook))
    monkeypatch.setattr(sys.modules["__main__"], "__vsc_ipynb_file__", "/remote/b.ipynb", raising=False)
    assert command._kind() == ("notebook", "/remote/b.ipynb")


def test_embedded(monkeypatch):
    """A host program without interpreter arguments, or with a broken ``__main__``, is told as such."""
    monkeypatch.setattr(sys, "orig_argv", [])
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    monkeypatch.delattr(sys, "argv")
    told = command.capture(Redactor())
    assert (told["kind"], told["entry"], told["argv"]) in (("embedded", None, []), ("stdin", None, []))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-Im", "pkg", "-c"], ("-m", "pkg")),
        (["-mpkg"], ("-m", "pkg")),
        (["-W", "error", "-Xdev", "-OO", "x.py", "-m"], ("file", "x.py")),
        (["-Werror", "-cpass"], ("-c", "pass")),
        (["--check-hash-based-pycs", "always", "x.py"], ("file", "x.py")),
        (["-u", "-"], ("-", None)),
        ([], ("", None)),
    ],
)
def test_interpreter_options_are_read_as_the_interpreter_reads_them(arguments, expected):
    """Options, alone, joined or with values, are not taken for the program."""
    assert command.program(["python", *arguments]) == expected


def test_a_deleted_working_directory(tmp_path, monkeypatch):
    """A working directory that is gone is None, and its name is told where the system knows it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    told = command.capture(Redactor())
    assert told["cwd"] is None
    assert told["cwd_deleted"] == str(gone)


def test_a_broken_redactor_redacts_everything(monkeypatch):
    """When the redactor fails no argument is told."""

    class Broken(Redactor):
        def argv(self, words):
            raise RuntimeError

    monkeypatch.setattr(sys, "argv", ["train.py", "--token", "hunter2"])
    assert command.capture(Broken())["argv"] == ["[redacted]"] * 3


def test_bounded_and_encodable(monkeypatch):
    """Thousands of arguments, long ones and undecodable ones end up as bounded text that UTF-8 takes."""
    monkeypatch.setattr(sys, "argv", ["x", "\udcff", "y" * 100_000, 3, *["z"] * 5000])
    told = command.capture(Redactor())["argv"]
    assert told[1] == "\\udcff"
    assert told[2] == "y" * 65_536 + "… [100000 characters]"
    assert told[3] == "<int>"
    assert told[-1] == "… [5004 arguments]"
    assert len(told) == 1001
    json.dumps(told).encode()
