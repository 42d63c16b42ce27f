"""What git knows about the code: commit, branch, remote, and the uncommitted changes as a patch.

``environment.git["state"]`` is one of these words:

``clean``          the working tree is the commit
``dirty``          it is not; the patch has the difference, but for what ``left_out`` names
``no-commits``     nothing is committed yet; the patch starts from the empty tree
``bare``           a repository without a working tree
``no-repository``  no repository holds the code, or it has gone meanwhile
``no-git``         there is no git program
``timeout``        git did not answer in time
``dubious-owner``  the folder is another user's, and git's ``safe.directory`` does not name it
``damaged``        git cannot read the repository; ``error`` has its words
``edited``         set by the caller: loaded source is newer than its import (see `capture.source`)

A detached HEAD is no state of its own: ``branch`` is None. Without git's answer, commit and branch
are read from the repository's files.

Git is started through GitPython's launcher with a hardened environment, never through its `Repo`, whose
``is_dirty()`` and ``diff()`` run programs that the repository configures. Here no hook, file monitor, textconv,
external diff or transport runs, nor any filter of the repository's own configuration; a filter of the
user's global configuration (Git LFS) may. Nothing is written into the repository: changes that need an
index are made to a copy. Line endings are recorded as they lie on disk, whatever ``core.autocrlf``
says; a ``text`` or ``eol`` attribute still counts, as it will for the clone that takes the patch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runcard.redact import Redactor


class GitSnapshot(NamedTuple):
    """The ``environment.git`` of a record, and the redacted patch against the commit (None: nothing to apply)."""

    state: dict[str, Any]
    patch: bytes | None


def repository_of(path: Path) -> Path | None:
    """The root of the repository that holds ``path``: the nearest folder above with a ``.git``, or a bare repository.

    A file that is installed (below ``site-packages`` of an environment inside the repository) is not held by it.
    Starts no program; a few microseconds.
    """
    start = os.path.realpath(path)
    inside_git = ".git" in Path(start).parts
    folder = start
    while True:
        if os.path.lexists(os.path.join(folder, ".git")):
            installed = {"site-packages", "dist-packages"} & set(Path(start[len(folder) :]).parts)
            return None if installed else Path(folder)
        if not inside_git and _is_bare(folder):
            return Path(folder)
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def capture(
    root: Path, redactor: Redactor, *, limit_s: float = 2.0, file_limit: int = 1_000_000, total_limit: int = 10_000_000
) -> GitSnapshot:
    """The state of the repository at ``root``, and its uncommitted changes as a patch that `git apply` takes.

    Never raises (but `KeyboardInterrupt`): what goes wrong becomes a state word.

    Args:
        root: The root, as `repository_of` gives it.
        redactor: Takes credentials out of the patch and of the remote's URL.
        limit_s: Seconds for all of it; what is not done by then is said.
        file_limit: Bytes; a changed or untracked file above it is left out, and named in ``left_out``.
        total_limit: Bytes of all files in the patch together.
    """
    found: dict[str, Any] = {
        "state": "damaged",
        "commit": None,
        "branch": None,
        "dirty": None,
        "remote": None,
        "root": _shown(os.fsencode(root)),
        "patch": None,
        "patch_bytes": 0,
        "patch_sha256": None,
        "incomplete": False,
        "left_out": [],
        "files": {"staged": 0, "unstaged": 0, "untracked": 0},
    }
    try:
        patch = _capture(Path(root), redactor, found, _Limits(limit_s, file_limit, total_limit))
    except _NoAnswer as failure:
        patch = None
        found["state"] = failure.word
        if failure.message:
            found["error"] = _text(redactor, failure.message)
    except Exception as error:  # a recorder must not cost the run; the word says that something is wrong
        patch = None
        found["state"] = "damaged"
        found["error"] = f"{type(error).__name__} while reading the repository"
    if patch:
        found["patch"] = "diff.patch"
        found["patch_bytes"] = len(patch)
        found["patch_sha256"] = hashlib.sha256(patch).hexdigest()
    if found["state"] in {"no-git", "timeout", "dubious-owner", "damaged"}:
        found["incomplete"] = True
    return GitSnapshot(found, patch or None)


class _Limits(NamedTuple):
    seconds: float
    file: int
    total: int


class _NoAnswer(Exception):  # noqa: N818 - not an error: one of the states
    """Git gave no answer: the state word, and git's own message."""

    def __init__(self, word: str, message: str = "") -> None:
        super().__init__(word)
        self.word = word
        self.message = message


class _Change(NamedTuple):
    """One path of ``git status``; ``head`` is its blob in the commit, None when it is new."""

    path: bytes
    kind: str  # "changed", "unmerged", "untracked"
    staged: bool
    unstaged: bool
    head: str | None
    gitlink: bool


def _capture(root: Path, redactor: Redactor, found: dict[str, Any], limits: _Limits) -> bytes | None:
    # A tenth is kept for ending what hangs and for tidying up.
    git = _Git(root, time.monotonic() + limits.seconds * 0.9)
    if _is_bare(str(root)):
        found["commit"], found["branch"] = _head(root, root)
        found["state"] = "bare"
        return None
    git_dir = _git_dir(root)
    if git_dir is None:
        raise _NoAnswer("damaged" if os.path.lexists(root / ".git") else "no-repository")
    common_dir = _common_dir(git_dir)
    found["commit"], found["branch"] = _head(git_dir, common_dir)
    if (common_dir / "shallow").exists():
        found["shallow"] = True

    git.find()
    config = git.read_config()
    found["remote"] = _remote(config, found["branch"], redactor)
    if git.not_run:
        found["not_run"] = [_shown(name) for name in git.not_run]
    changes = _status(git, found, limits)
    if found["state"] == "no-commits" and _has_reference(git_dir, common_dir):
        raise _NoAnswer("damaged", "the branch's reference is broken")
    _submodules(git, root, found, limits)
    found["dirty"] = bool(changes) or found["dirty"] is True
    if found["state"] != "no-commits":
        found["state"] = "dirty" if found["dirty"] else "clean"
    if not changes:
        return None
    return _patch(git, git_dir, config, changes, found, redactor, limits)


class _Git:
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
            raise _NoAnswer("no-git")
        if self.executable not in _answered:
            self.run("version")
            _answered.add(self.executable)

    def read_config(self) -> list[tuple[str, bytes, bytes]]:
        """(scope, name, value) of the whole configuration; from then on the repository's own filters are off."""
        code, out, err = self._run(["config", "--list", "-z", "--show-scope"], b"", {}, None)
        entries: list[tuple[str, bytes, bytes]] = []
        if code == 129:  # git before 2.26 knows no scopes: every filter counts as the repository's
            fields = self.run("config", "--list", "-z").split(b"\0")
            entries = [("local", *_split_entry(entry)) for entry in fields[:-1]]
        elif code:
            raise _refusal(err)
        else:
            fields = out.split(b"\0")
            entries = [
                (scope.decode("ascii", "replace"), *_split_entry(entry))
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
        """Git's output; `_NoAnswer` with the fitting word when it fails or takes too long."""
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
                raise _NoAnswer("damaged", "a filter whose name this git cannot switch off; nothing was run")
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
            raise _NoAnswer("timeout")
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
            raise _NoAnswer("no-git" if self.root.is_dir() else "no-repository") from None
        except (PermissionError, NotADirectoryError) as error:
            raise _NoAnswer("no-git" if os.access(self.root, os.X_OK) else "damaged", str(error)) from None
        try:
            out, err = process.communicate(given or None, timeout=max(deadline - time.monotonic(), 0.01))
        except BaseException as error:
            _end(process)
            if _is_timeout(error):
                raise _NoAnswer("timeout") from None
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
            with contextlib.suppress(OSError):  # a broken pipe cannot be flushed
                stream.close()
    try:
        process.wait(timeout=0.1)
    except Exception as error:  # stuck in the kernel: it is left to itself
        if not _is_timeout(error):
            raise


def _refusal(stderr: bytes) -> _NoAnswer:
    message = _shown(stderr.strip())[:300]
    if "dubious ownership" in message or "unsafe repository" in message:
        return _NoAnswer("dubious-owner", message.partition("\n")[0])
    return _NoAnswer("damaged", message)


def _split_entry(entry: bytes) -> tuple[bytes, bytes]:
    name, _, value = entry.partition(b"\n")
    return name, value


def _status(git: _Git, found: dict[str, Any], limits: _Limits) -> list[_Change]:
    """The changes that ``git status`` lists; fills commit, branch, counts."""
    arguments = [
        "status",
        "--porcelain=v2",
        "-z",
        "--branch",
        "--no-ahead-behind",
        "--no-renames",
        "--ignore-submodules=dirty",  # looking into them would run what they configure; see _submodules
    ]
    started = time.monotonic()
    try:
        out = git.run(*arguments, "--untracked-files=all", until=started + (git.deadline - started) * 0.6)
    except _NoAnswer as failure:
        if failure.word != "timeout":
            raise
        # Millions of untracked files are the usual reason: the tracked ones alone may still be told.
        out = git.run(*arguments, "--untracked-files=no")
        found["dirty"] = found["incomplete"] = True
        _leave_out(found, b".", None, f"untracked files could not be listed within {limits.seconds:g} s")
    changes: list[_Change] = []
    tokens = iter(out.split(b"\0"))
    for token in tokens:
        kind = token[:1]
        if token.startswith(b"# branch.oid "):
            oid = token[13:].decode("ascii", "replace")
            if oid == "(initial)":
                found["state"], found["commit"] = "no-commits", None
            else:
                found["commit"] = oid
        elif token.startswith(b"# branch.head "):
            name = _shown(token[14:])
            found["branch"] = None if name == "(detached)" else name
        elif kind == b"?":
            changes.append(_Change(token[2:], "untracked", staged=False, unstaged=False, head=None, gitlink=False))
        elif kind in {b"1", b"2", b"u"}:
            changes.append(_changed(token))
            if kind == b"2":
                next(tokens, None)
    files = found["files"]
    files["staged"] = sum(change.staged for change in changes)
    files["unstaged"] = sum(change.unstaged for change in changes)
    files["untracked"] = sum(change.kind == "untracked" for change in changes)
    unmerged = sum(change.kind == "unmerged" for change in changes)
    if unmerged:
        files["unmerged"] = unmerged
    return changes


def _changed(token: bytes) -> _Change:
    """``1 XY sub mH mI mW hH hI path``, ``2 … Xscore path`` or ``u XY sub m1 m2 m3 mW h1 h2 h3 path``."""
    if token[:1] == b"u":
        fields = token.split(b" ", 10)
        # Stage 2 is ours: what the commit has.
        oid, modes, kind, staged, unstaged = fields[8], fields[3:7], "unmerged", False, True
    else:
        fields = token.split(b" ", 9 if token[:1] == b"2" else 8)
        oid, modes, kind = fields[6], fields[3:6], "changed"
        staged, unstaged = fields[1][:1] != b".", fields[1][1:] != b"."
    head = None if not oid.strip(b"0") or b"160000" in modes else oid.decode("ascii")
    return _Change(fields[-1], kind, staged, unstaged, head, b"160000" in modes)


def _submodules(git: _Git, root: Path, found: dict[str, Any], limits: _Limits) -> None:
    """Name the submodules and look for changes in them, each hardened by its own configuration."""
    if not (root / ".gitmodules").is_file():
        return
    listed = git.run("config", "--no-includes", "-z", "-f", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    told: list[dict[str, Any]] = []
    for entry in listed.split(b"\0")[:100]:
        path = _split_entry(entry)[1]
        folder = root / os.fsdecode(path)
        git_dir = _git_dir(folder) if path else None
        if git_dir is None:
            continue  # not checked out
        inner: dict[str, Any] = {"state": "", "commit": None, "branch": None, "left_out": [], "files": {}}
        inner["dirty"] = inner["incomplete"] = None
        sub = _Git(folder, git.deadline)
        sub.executable = git.executable
        try:
            sub.read_config()
            changes = _status(sub, inner, limits)
            dirty: bool | None = bool(changes)
        except _NoAnswer:
            dirty = None
        told.append({"path": _shown(path), "commit": inner["commit"], "dirty": dirty})
        if dirty is not False:
            found["dirty"] = found["incomplete"] = True
            why = "a submodule with changes of its own" if dirty else "a submodule that could not be read"
            _leave_out(found, path, None, why)
    if told:
        found["submodules"] = told


# Names that hold credentials by custom; their content never goes into a record.
_PRIVATE = re.compile(
    rb"(\.env.*|.*\.env|.*\.(pem|key|p12|pfx|p8|pk8|jks|keystore|kdbx|crt|cer|der|ppk|asc|gpg)|id_(rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*"
    rb"|_?\.?netrc|\.(npmrc|pypirc|pgpass|htpasswd|git-credentials|dockercfg|boto|s3cfg)|credentials(\.json|\.ya?ml|\.toml)?"
    rb"|(client_secret|service[-_]account).*\.json|secrets?\.(json|ya?ml|toml|ini)|kaggle\.json)\Z",
    re.IGNORECASE | re.DOTALL,
)
_MOST_UNTRACKED = 5_000
_EMPTY_TREE = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


def _patch(
    git: _Git,
    git_dir: Path,
    config: Iterable[tuple[str, bytes, bytes]],
    changes: list[_Change],
    found: dict[str, Any],
    redactor: Redactor,
    limits: _Limits,
) -> bytes | None:
    hex_digits = 64 if (b"extensions.objectformat", b"sha256") in {(name, value) for _, name, value in config} else 40
    try:
        chosen = _choose(git, changes, found, limits)
        if not chosen:
            return None
        with tempfile.TemporaryDirectory(prefix="runcard-git-", ignore_cleanup_errors=True) as folder:
            index = Path(folder) / "index"
            if (git_dir / "index").is_file():
                # With its time: git trusts an entry less when the file is as new as the index.
                shutil.copy2(git_dir / "index", index)
            env = {"GIT_INDEX_FILE": str(index)}
            entries = b"".join(_index_entries(git.root, chosen, hex_digits))
            if entries:
                git.run("update-index", "-z", "--add", "--replace", "--index-info", given=entries, env=env)
            against = found["commit"] or _EMPTY_TREE[hex_digits]
            paths = [change.path for change in chosen]
            diff = b"".join(git.run(*_DIFF, against, "--", *some, env=env) for some in _batches(paths))
    except (_NoAnswer, OSError) as failure:
        found["incomplete"] = True
        if isinstance(failure, _NoAnswer) and failure.word == "timeout":
            found["error"] = f"the patch was not ready within {limits.seconds:g} s"
        else:
            found["error"] = _text(redactor, getattr(failure, "message", "") or str(failure))
        return None
    _tell_pointers(diff, found)
    return _redacted(diff, redactor, found)


_DIFF = (
    "-c",
    "core.autocrlf=false",
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--binary",
    "--full-index",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--submodule=short",
    "--ignore-submodules=dirty",
    f"-O{os.devnull}",
)


def _choose(git: _Git, changes: list[_Change], found: dict[str, Any], limits: _Limits) -> list[_Change]:
    """What goes into the patch; the rest is named in ``left_out``."""
    sizes = _blob_sizes(git, [change.head for change in changes if change.head])
    chosen: list[_Change] = []
    total = untracked = 0
    for change in changes:
        size, why = _file_size(git.root, change.path)
        if change.head:
            size = max(size, sizes.get(change.head, 0))
        if change.path.endswith(b"/"):
            why = "a repository of its own"
        elif change.gitlink and change.kind != "unmerged":
            size, why = 0, ""
        elif not why and _PRIVATE.match(change.path.rpartition(b"/")[2]):
            why = "its name says that it holds secrets"
        elif not why and size > limits.file:
            why = f"larger than {limits.file} bytes"
        elif not why and total + size > limits.total:
            why = f"more than {limits.total} bytes in all"
        elif not why and change.kind == "untracked" and untracked >= _MOST_UNTRACKED:
            why = f"more than {_MOST_UNTRACKED} untracked files"
        if why:
            _leave_out(found, change.path, size, why)
            continue
        total += size
        untracked += change.kind == "untracked"
        chosen.append(change)
    return chosen


def _file_size(root: Path, path: bytes) -> tuple[int, str]:
    """(bytes, why it cannot be taken) of a file of the working tree; a deleted one has 0."""
    name = os.path.join(os.fsencode(root), path)
    try:
        found = os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return 0, ""
    except OSError:
        return 0, "cannot be read"
    if stat.S_ISREG(found.st_mode) and not os.access(name, os.R_OK):
        return found.st_size, "cannot be read"
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return 0, "not a plain file"
    return (0 if stat.S_ISDIR(found.st_mode) else found.st_size), ""


def _blob_sizes(git: _Git, blobs: list[str]) -> dict[str, int]:
    if not blobs:
        return {}
    # A deleted file of a gigabyte would be in the patch with all its bytes.
    out = git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer", given="\n".join(blobs).encode())
    pairs = (line.split() for line in out.decode("ascii", "replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _index_entries(root: Path, chosen: Iterable[_Change], hex_digits: int) -> Iterator[bytes]:
    """Lines for ``update-index --index-info`` that make git see untracked and unmerged files as changed ones.

    The blob's name is made up: no object is written, and git, finding the file's times to differ, reads the file.
    """
    for change in chosen:
        if change.kind == "changed":
            continue
        if change.kind == "unmerged":
            yield b"0 " + b"0" * hex_digits + b"\t" + change.path + b"\0"
        try:
            mode = os.lstat(os.path.join(os.fsencode(root), change.path)).st_mode
        except OSError:
            continue  # deleted in the conflict, or meanwhile
        if stat.S_ISDIR(mode):
            continue
        kind = b"120000" if stat.S_ISLNK(mode) else b"100755" if mode & 0o100 else b"100644"
        yield kind + b" " + b"1" * hex_digits + b" 0\t" + change.path + b"\0"


def _batches(paths: list[bytes]) -> Iterator[list[bytes]]:
    """Paths in portions that fit a command line (32 KiB on Windows, 128 KiB and more elsewhere)."""
    limit = 24_000 if os.name == "nt" else 100_000
    batch: list[bytes] = []
    length = 0
    for path in paths:
        if batch and length + len(path) > limit:
            yield batch
            batch, length = [], 0
        batch.append(path)
        length += len(path) + 1
    if batch:
        yield batch


def _tell_pointers(diff: bytes, found: dict[str, Any]) -> None:
    """A file kept by Git LFS is in the patch as its pointer: say that its content is not."""
    if b"\n+version https://git-lfs.github.com/spec/v1" not in diff and b"\n+oid sha256:" not in diff:
        return
    for part in re.split(rb"^(?=diff --git )", diff, flags=re.MULTILINE):
        if re.search(rb"^[+ ]version https://git-lfs\.github\.com/spec/v1$", part, re.MULTILINE):
            name = re.search(rb'^\+\+\+ "?b/(.*?)"?\t?$', part, re.MULTILINE)
            if name:
                size = re.search(rb"^\+size (\d+)$", part, re.MULTILINE)
                _leave_out(found, name[1], int(size[1]) if size else None, "kept by Git LFS: its pointer is there")


def _redacted(diff: bytes, redactor: Redactor, found: dict[str, Any]) -> bytes | None:
    try:
        patch, incomplete, left_out = redactor.patch(diff)
    except Exception:  # without its redactor nothing of the patch may leave
        found["incomplete"] = True
        found["error"] = "the patch could not be searched for secrets and was not kept"
        return None
    for path in left_out:
        _leave_out(found, path.encode("utf-8", "surrogateescape"), None, "holds a secret")
    if incomplete:
        found["incomplete"] = True
    return patch


def _text(redactor: Redactor, message: str) -> str:
    """A message without secrets; without a working redactor, none."""
    try:
        return redactor.text(message)[0]
    except Exception:  # as above: nothing unredacted leaves
        return ""


def _remote(config: Iterable[tuple[str, bytes, bytes]], branch: str | None, redactor: Redactor) -> str | None:
    """``origin``'s URL, else the branch's upstream's, else the first one's, without credentials."""
    urls: dict[bytes, bytes] = {}
    upstream = b""
    for scope, name, value in config:
        if name.startswith(b"remote.") and name.endswith(b".url") and scope in {"local", "worktree"}:
            urls.setdefault(name[len(b"remote.") : -len(b".url")], value)
        elif branch is not None and name == f"branch.{branch}.remote".encode():
            upstream = value
    url = urls.get(b"origin") or urls.get(upstream) or next(iter(urls.values()), None)
    if url is None:
        return None
    try:
        return redactor.url(_shown(url))
    except Exception:  # as above: nothing unredacted leaves
        return None


def _leave_out(found: dict[str, Any], path: bytes, size: int | None, why: str) -> None:
    found["incomplete"] = True
    if len(found["left_out"]) < 200:  # a record stays small: the rest is counted
        found["left_out"].append({"path": _shown(path), "bytes": size, "why": why})
    else:
        found["left_out_more"] = found.get("left_out_more", 0) + 1


def _shown(raw: bytes) -> str:
    """Text that every encoder takes, for names that need not be UTF-8."""
    return raw.decode("utf-8", "backslashreplace")


def _is_bare(folder: str) -> bool:
    return (
        os.path.isfile(os.path.join(folder, "HEAD"))
        and os.path.isdir(os.path.join(folder, "objects"))
        and os.path.isdir(os.path.join(folder, "refs"))
    )


def _git_dir(root: Path) -> Path | None:
    """``.git`` itself, or the folder that a ``.git`` file of a worktree or submodule names."""
    place = root / ".git"
    if place.is_dir():
        return place
    text = _read(place)
    if not text.startswith("gitdir:"):
        return None
    folder = root / text[len("gitdir:") :].strip()
    return folder if folder.is_dir() else None


def _common_dir(git_dir: Path) -> Path:
    text = _read(git_dir / "commondir").strip()
    return git_dir / text if text else git_dir


def _head(git_dir: Path, common_dir: Path) -> tuple[str | None, str | None]:
    """(commit, branch) as the files have them, for when git itself does not answer."""
    head = _read(git_dir / "HEAD").strip()
    if not head.startswith("ref:"):
        return _commit(head), None
    name = head[len("ref:") :].strip()
    branch = name[len("refs/heads/") :] if name.startswith("refs/heads/") else None
    if not name.startswith("refs/") or ".." in name:
        return None, None
    commit = _commit(_read(common_dir / name).strip())
    if commit is None:
        line = re.search(rf"^([0-9a-f]+) {re.escape(name)}$", _read(common_dir / "packed-refs"), re.MULTILINE)
        commit = _commit(line[1]) if line else None
    return commit, branch


def _has_reference(git_dir: Path, common_dir: Path) -> bool:
    """Whether HEAD's branch has a file: after a power cut it may be empty, which git takes for no commits yet."""
    head = _read(git_dir / "HEAD").strip()
    return head.startswith("ref: refs/heads/") and (common_dir / head[len("ref: ") :]).is_file()


def _commit(text: str) -> str | None:
    return text if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) else None


def _read(path: Path) -> str:
    """A small plain file of git's; empty when it is not there, is no plain file, or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as file:
            return file.read(10_000_000).decode("utf-8", "backslashreplace")
    except (OSError, ValueError):
        return ""
