"""Git, started through GitPython's launcher, hardened: nothing that the repository configures runs.

No hook, file monitor or transport, no prompt, and no filter of the repository's own configuration (that of a worktree
and of included files counts as its own); a filter of the user's global configuration (Git LFS) may run. What
a hook or a shell exports to point git elsewhere does not count. GitPython's `Repo` is not used: its ``is_dirty()``
and ``diff()`` run what the repository configures.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping


class NoAnswer(Exception):  # noqa: N818 - not an error: one of the states
    """Git gave no answer: the state word, and git's own message."""

    def __init__(self, word: str, message: str = "") -> None:
        super().__init__(word)
        self.word = word
        self.message = message


class Git:
    """Starts git in one repository, hardened, until a common deadline."""

    # What one's own shell or CI sets for git stays; all other GIT_* (a hook exports GIT_DIR, GIT_INDEX_FILE, …) would
    # divert us to another repository.
    _KEPT = re.compile(r"GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|EXEC_PATH|TEST_\w+)\Z")
    _SETTINGS = (
        "core.fsmonitor=",  # empty, not false: git before 2.36 takes false for a program's name
        f"core.hooksPath={os.devnull}",
        "core.quotePath=true",
        "core.safecrlf=false",
        "core.splitIndex=false",  # else a copied index is shared through the repository's own folder
        "diff.suppressBlankEmpty=false",
        "submodule.recurse=false",
    )

    def __init__(self, root: Path, deadline: float) -> None:
        self.root = root
        self.deadline = deadline
        self.executable = ""
        self.overrides: list[str] = []
        self.not_run: list[bytes] = []
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GIT_") or self._KEPT.match(name)
        }
        environment.update(
            LC_ALL="C",
            LANGUAGE="C",
            GIT_OPTIONAL_LOCKS="0",
            GIT_TERMINAL_PROMPT="0",
            GIT_ASKPASS="true",
            SSH_ASKPASS="true",
            GIT_ALLOW_PROTOCOL="none",  # a partial clone would fetch, through programs the repository names
            GIT_NO_LAZY_FETCH="1",
            GIT_NO_REPLACE_OBJECTS="1",  # a clone has no replacements
            GIT_LITERAL_PATHSPECS="1",
            GIT_CEILING_DIRECTORIES=os.path.realpath(root.parent),  # damaged: not the repository around it instead
        )
        self.environment = environment

    def find(self) -> None:
        """Find git on the path and have it answer once, since importing GitPython would wait for it for ever."""
        self.executable = _executable()
        if not self.executable:
            raise NoAnswer("no-git")
        if self.executable not in _answered:
            self.run("version")
            _answered.add(self.executable)

    def read_config(self) -> list[tuple[str, bytes, bytes]]:
        """(scope, name, value) of the whole configuration; from then on the repository's own filters are off."""
        code, out, err = self._run(["config", "--list", "-z", "--show-scope"], b"", {}, None)
        entries: list[tuple[str, bytes, bytes]] = []
        if code == 129:  # git before 2.26 knows no scopes: every filter counts as the repository's
            fields = self.run("config", "--list", "-z").split(b"\0")
            entries = [("local", *split_entry(entry)) for entry in fields[:-1]]
        elif code:
            raise _refusal(err)
        else:
            fields = out.split(b"\0")
            entries = [
                (scope.decode("ascii", "replace"), *split_entry(entry))
                for scope, entry in zip(fields[:-1:2], fields[1::2], strict=False)
            ]
        self._switch_off_filters(entries)
        return entries

    def run(
        self,
        *arguments: str | bytes,
        given: bytes = b"",
        env: Mapping[str, str] | None = None,
        until: float | None = None,
    ) -> bytes:
        """Git's output; `NoAnswer` with the fitting word when it fails or takes too long."""
        code, out, err = self._run(arguments, given, env or {}, until)
        if code:
            raise _refusal(err)
        return out

    def _switch_off_filters(self, entries: Iterable[tuple[str, bytes, bytes]]) -> None:
        own: set[bytes] = set()
        users: dict[bytes, bytes] = {}
        for scope, name, value in entries:
            if name.startswith(b"filter.") and name.endswith((b".clean", b".smudge", b".process", b".required")):
                if scope in {"local", "worktree"}:
                    own.add(name)
                else:
                    users[name] = value
        if not own:
            return
        drivers = {name.rpartition(b".")[0] for name in own}
        # Only what the repository sets: an empty `process` of ours would keep the user's own `clean` from running.
        pairs = [(name, users.get(name, b"false" if name.endswith(b".required") else b"")) for name in sorted(own)]
        for name, value in pairs:
            if b"=" not in name:
                self.overrides += ["-c", os.fsdecode(name + b"=" + value)]
                continue
            # `-c` cuts at the first "=": such a name must go through the environment, which git knows since 2.31.
            count = int(self.environment.get("GIT_CONFIG_COUNT") or 0)
            self.environment[f"GIT_CONFIG_KEY_{count}"] = os.fsdecode(name)
            self.environment[f"GIT_CONFIG_VALUE_{count}"] = os.fsdecode(value)
            self.environment["GIT_CONFIG_COUNT"] = str(count + 1)
            if self.version() < (2, 31):
                raise NoAnswer("damaged", "a filter whose name this git cannot switch off; nothing was run")
        self.not_run = sorted(drivers)

    def version(self) -> tuple[int, int]:
        """Git's own version."""
        number = re.search(rb"(\d+)\.(\d+)", self.run("version"))
        return (int(number[1]), int(number[2])) if number else (0, 0)

    def _run(
        self, arguments: Iterable[str | bytes], given: bytes, env: Mapping[str, str], until: float | None
    ) -> tuple[int, bytes, bytes]:
        settings = [part for setting in self._SETTINGS for part in ("-c", setting)]
        command = [self.executable, "--no-pager", *settings, *self.overrides, *arguments]
        deadline = self.deadline if until is None else min(until, self.deadline)
        if time.monotonic() >= deadline:
            raise NoAnswer("timeout")
        start = _launcher() if self.executable in _answered else _plain_launcher()
        try:
            process = start(
                command,
                env={**self.environment, **env},
                cwd=self.root,
                stdin=_PIPE if given else _DEVNULL,
                stdout=_PIPE,
                stderr=_PIPE,
                start_new_session=True,  # no terminal to prompt on, and one group to end
            )
        except FileNotFoundError:
            raise NoAnswer("no-git" if self.root.is_dir() else "no-repository") from None
        except (PermissionError, NotADirectoryError) as error:
            raise NoAnswer("no-git" if os.access(self.root, os.X_OK) else "damaged", str(error)) from None
        try:
            out, err = process.communicate(given or None, timeout=max(deadline - time.monotonic(), 0.01))
        except BaseException as error:
            _end(process)
            if _is_timeout(error):
                raise NoAnswer("timeout") from None
            raise
        return process.returncode, out, err


_PIPE, _DEVNULL = -1, -3  # subprocess's own numbers, without importing it with this module
_answered: set[str] = set()
_launchers: list[Callable[..., subprocess.Popen[bytes]]] = []


def _executable() -> str:
    named = os.environ.get("GIT_PYTHON_GIT_EXECUTABLE") or "git"
    # A relative entry of PATH would be looked up in the repository, where a file called git is anybody's.
    places = [place for place in os.get_exec_path() if os.path.isabs(place)]
    return shutil.which(named, path=os.pathsep.join(places)) or ""


def _launcher() -> Callable[..., subprocess.Popen[bytes]]:
    """GitPython's way of starting git (on Windows it keeps a ``git.exe`` of the working tree from being run)."""
    if not _launchers:
        _launchers.append(_gitpython() or _plain_launcher())
    return _launchers[0]


def _gitpython() -> Callable[..., subprocess.Popen[bytes]] | None:
    import importlib.util

    try:
        spec = importlib.util.find_spec("git")
        # A `git.py` of the user's own beside the script would be run by importing it.
        if spec is None or not spec.origin or not Path(spec.origin).with_name("cmd.py").is_file():
            return None
        from git.cmd import safer_popen
    except Exception:  # GitPython raises several kinds when it dislikes the environment; the plain way serves
        return None
    return safer_popen


def _plain_launcher() -> Callable[..., subprocess.Popen[bytes]]:
    from subprocess import Popen

    return Popen


def _is_timeout(error: BaseException) -> bool:
    from subprocess import TimeoutExpired

    return isinstance(error, TimeoutExpired)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill git and what it started, and close our ends."""
    import signal

    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except OSError:
        pass  # it has just ended by itself
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                pass  # a broken pipe cannot be flushed
    try:
        process.wait(timeout=0.1)
    except Exception as error:  # stuck in the kernel: it is left to itself
        if not _is_timeout(error):
            raise


def _refusal(stderr: bytes) -> NoAnswer:
    message = shown(stderr.strip())[:300]
    if "dubious ownership" in message or "unsafe repository" in message:
        return NoAnswer("dubious-owner", message.partition("\n")[0])
    return NoAnswer("damaged", message)


def split_entry(entry: bytes) -> tuple[bytes, bytes]:
    """(name, value) of an entry of ``git config -z``."""
    name, _, value = entry.partition(b"\n")
    return name, value


def shown(raw: bytes) -> str:
    """Text that every encoder takes, for names that need not be UTF-8."""
    return raw.decode("utf-8", "backslashreplace")
