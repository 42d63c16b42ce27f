"""How the program was started: the command line, what kind of start it was, and from where."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from runcard.capture.probe import encodable, known, probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runcard.redact import Redactor

_LONGEST = 65_536
_MOST = 1000


def capture(redactor: Redactor) -> dict[str, Any]:
    """How this process was started, redacted and bounded.

    ``kind`` is ``script module notebook repl command`` (``-c``) ``stdin zipapp pytest multiprocessing`` or
    ``embedded``; ``entry`` the path of the script, notebook or archive, or the module's name; None where there is
    none. ``argv`` is the program's own, ``orig_argv`` the interpreter's with its options, and ``line`` that one
    quoted for a shell. ``cwd`` is None when the working directory was deleted; ``cwd_deleted`` then has its name,
    where the system still knows it.
    """
    how, entry = kind()
    original = list(sys.orig_argv)
    told = _redacted(original, redactor)
    cwd = probe(os.getcwd)
    facts: dict[str, Any] = {
        "executable": encodable(sys.executable or "") or None,
        "line": shlex.join(told)[:_LONGEST] if told else None,
        "cwd_deleted": None if cwd is not None else probe(_deleted_cwd),
    }
    return {
        "kind": how,
        "entry": None if entry is None else encodable(entry),
        "argv": list[Any](_redacted(list(getattr(sys, "argv", [])), redactor)),
        "orig_argv": list[Any](told),
        "cwd": None if cwd is None else encodable(cwd),
        "interactive": bool(sys.flags.interactive or hasattr(sys, "ps1")),
        **known(facts),
    }


def kind() -> tuple[str, str | None]:
    """The ``kind`` and ``entry`` of `capture`."""
    return probe(_kind) or ("embedded", None)


def program(original: Sequence[str]) -> tuple[str, str | None]:
    """What the interpreter's arguments ask it to run: ``("-m", name)``, ``("-c", code)``, ``("-", None)``,
    ``("file", path)`` or, with nothing to run, ``("", None)``.
    """  # noqa: D205 - one sentence, of two lines
    return _program(iter(original[1:]))


def arguments(original: Sequence[str]) -> list[str]:
    """What the interpreter's arguments give to the program, which may have changed its ``sys.argv`` since."""
    words = iter(original[1:])
    _program(words)
    return list(words)


def _program(words: Iterator[str]) -> tuple[str, str | None]:
    """`program`, taking no more words than it needs."""
    for word in words:
        if word == "-":
            return "-", None
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words, None)
            continue
        if not word.startswith("-"):
            return "file", word
        for place, letter in enumerate(word[1:], start=2):
            if letter in "cm":
                return f"-{letter}", word[place:] or next(words, "")
            if letter in "WX":  # the rest of the word is its value, or the next word is
                if not word[place:]:
                    next(words, None)
                break
    return "", None


def _kind() -> tuple[str, str | None]:
    main = sys.modules.get("__main__")
    space: dict[str, Any] = getattr(main, "__dict__", {})
    file = space.get("__file__")
    file = file if isinstance(file, str) and not file.startswith("<") else None
    how, what = program(sys.orig_argv)
    shell = probe(_ipython)
    if shell == "notebook":
        return "notebook", probe(_notebook, space)
    if "--multiprocessing-fork" in sys.orig_argv or (how == "-c" and (what or "").startswith("from multiprocessing.")):
        parent = sys.modules.get("__mp_main__")
        return "multiprocessing", _absolute(getattr(parent, "__file__", None))
    if shell == "repl" or hasattr(sys, "ps1"):
        return "repl", None
    if _is_pytest(how, what, file):
        return "pytest", _absolute(file) if how == "file" else what
    if how == "-m":
        return "module", _module(space) or what
    if how == "-c":
        return "command", None
    if type(space.get("__loader__")).__name__ == "zipimporter":
        return "zipapp", _absolute(what if how == "file" else file)
    if how == "file":
        return "script", _absolute(file or what)
    if not sys.orig_argv or file is not None:
        return "embedded", _absolute(file)
    return ("repl", None) if how == "" and probe(_on_terminal) else ("stdin", None)


def _is_pytest(how: str, what: str | None, file: str | None) -> bool:
    if "_pytest" not in sys.modules and "pytest" not in sys.modules:
        return False
    if how == "-m":
        return what in {"pytest", "py.test"}
    return how == "file" and os.path.basename(file or what or "").split(".")[0] in {"pytest", "py"}


def _module(space: dict[str, Any]) -> str | None:
    """The module that ``-m`` ran, by the name it has for imports; of a package, its ``__main__`` is left off."""
    name = getattr(space.get("__spec__"), "name", None)
    return name.removesuffix(".__main__") if isinstance(name, str) else None


def _ipython() -> str | None:
    module = sys.modules.get("IPython")
    if module is None:
        return None
    shell = module.get_ipython()
    if shell is None:
        return None
    # Colab and Databricks derive from the class of ipykernel
    names = {kind.__name__ for kind in type(shell).__mro__}
    return "notebook" if "ZMQInteractiveShell" in names or "ipykernel" in sys.modules else "repl"


def _notebook(space: dict[str, Any]) -> str | None:
    """The notebook's path, from VS Code's variable or from the name that Jupyter gives the session."""
    for name in (space.get("__vsc_ipynb_file__"), space.get("__session__"), os.environ.get("JPY_SESSION_NAME")):
        if isinstance(name, str) and name:
            path = _absolute(name)
            return path if path is not None and os.path.exists(path) else name
    return None


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _absolute(path: object) -> str | None:
    if not isinstance(path, str) or not path:
        return None
    return probe(lambda: os.path.abspath(path)) or path  # a deleted working directory leaves it relative


def _deleted_cwd() -> str:
    return encodable(os.readlink("/proc/self/cwd").removesuffix(" (deleted)"))


def _redacted(arguments: list[str], redactor: Redactor) -> list[str]:
    """The arguments without secrets; the code of ``-c`` is read as text. Bounded in number and length."""
    words = [encodable(word) if isinstance(word, str) else f"<{type(word).__name__}>" for word in arguments[:_MOST]]
    answer = probe(redactor.argv, words)
    if answer is None:
        return ["[redacted]"] * len(words)
    told = [str(word) for word in answer[0]]
    how, what = program(words)
    for place, word in enumerate(told):
        if how == "-c" and what and what in words[place]:
            text = probe(redactor.text, word)
            told[place] = text[0] if text else "[redacted]"
    cut = [word if len(word) <= _LONGEST else f"{word[:_LONGEST]}… [{len(word)} characters]" for word in told]
    return cut if len(arguments) <= _MOST else [*cut, f"… [{len(arguments)} arguments]"]
